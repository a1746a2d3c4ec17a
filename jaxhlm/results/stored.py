"""``StoredFits``: more fits than memory holds, in a folder, read part by part."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jaxhlm.core.arguments import affordable
from jaxhlm.core.document import Block, Printed, framed
from jaxhlm.core.notation import Ints, ResponsesIn
from jaxhlm.core.status import Status, outcome_of, tally
from jaxhlm.core.tables import Table
from jaxhlm.design.columns import Weights
from jaxhlm.errors import JaxhlmError, OptionError
from jaxhlm.estimation.estimates import Estimates, estimate_bytes
from jaxhlm.estimation.model import Model
from jaxhlm.inference.parameters import parameter_names, parameter_values
from jaxhlm.optimise.options import Options
from jaxhlm.results.attached import attached, given_again
from jaxhlm.results.batch import FitBatch
from jaxhlm.results.fit import Fit
from jaxhlm.results.moments import Moments
from jaxhlm.results.record import PER_FIT, FitRecord
from jaxhlm.results.selection import by_position_or_label
from jaxhlm.results.storage import from_table
from jaxhlm.results.summaries import MOST_NAMED, failed_told, incomplete_told, precision_told
from jaxhlm.sources.containers import GivenResponses
from jaxhlm.sources.inputs import Input
from jaxhlm.sources.sources import Source
from jaxhlm.storage.folder import Chunk, Folder, read_folder
from jaxhlm.storage.manifest import Kind

__all__ = ["FITS", "StoredFits", "read_fits"]

FITS = Kind(
    "run of fits",
    1,
    {
        "kind": str, "model": dict, "options": dict, "n": int, "data": str, "seed": list,
        "runs": list,
    },
    parts={"runs": lambda one: type(one) is int and one > 0},
)  # fmt: skip


class _Seen(NamedTuple):
    """What one pass over the files tells."""

    counts: pd.Series  # fits by status
    summary: pd.DataFrame
    failed: list[Any]  # labels of the first fits that failed, one more than are told
    incomplete: int  # fits of responses with missing values


@dataclass(frozen=True, eq=False, repr=False)
class StoredFits(Printed):
    """Fits in a folder; made by ``out=`` of ``fit_many``, ``simulate(…).fit`` and ``bootstrap``.

    Iterating gives the fits chunk by chunk, each a ``FitBatch``; ``fits[i]`` is a ``Fit``, and
    ``fits[first:last]``, or a list of positions, a ``FitBatch``, which must fit into memory.
    What needs the rows of the data raises ``JaxhlmError`` if the folder was opened by
    ``read_fits`` without them; what a call with ``out=`` returns still has them.

    Attributes:
        chunks: those that are finished, in order.
    """

    chunks: tuple[Chunk, ...]
    _folder: Folder = field(repr=False)
    _rows: tuple[Source, Options] | None = field(default=None, repr=False)
    _given: Input | None = field(default=None, repr=False)

    @property
    def path(self) -> Path:
        """The folder."""
        return self._folder.path

    @cached_property
    def model(self) -> Model:
        """Formula, method and labels."""
        return Model.from_json(json.dumps(self._folder.manifest["model"]))

    @property
    def complete(self) -> bool:
        """Whether all data sets of the run are fitted."""
        return len(self) == self._folder.manifest["n"]

    def __len__(self) -> int:
        """Number of fits that are finished."""
        return int(self._ends[-1]) if self.chunks else 0

    def __iter__(self) -> Iterator[FitBatch]:
        """The fits, chunk by chunk.

        Raises:
            FolderError: a chunk is damaged.
        """
        return (FitBatch(self._record(chunk)) for chunk in self.chunks)

    @overload
    def __getitem__(self, which: int) -> Fit: ...
    @overload
    def __getitem__(self, which: slice | list[Any] | NDArray[Any]) -> FitBatch: ...
    def __getitem__(self, which: Any) -> Any:
        """The fit at a position, or the batch of those at some (slice, list or booleans).

        Raises:
            UnknownFitError: there is no such position.
            OptionError: a label, or more fits than memory holds.
            FolderError: a chunk is damaged.
        """
        at = self._positions(which)
        if isinstance(at, int):
            return Fit(self._taken(np.array([at])).one(0))
        return FitBatch(self._taken(at))

    @property
    def counts(self) -> pd.Series:
        """Number of fits by status, every status listed."""
        return self._seen.counts.copy()

    def summary(self) -> pd.DataFrame:
        """Mean, sd and range of each parameter over converged fits, and the mean SE.

        The files are read once, chunk by chunk. There is no median, for which all values would have
        to be held: ``fits[:100_000].summary()`` has it of a part.
        """
        return self._seen.summary.copy()

    def _blocks(self) -> list[Block]:
        """Counts, then the summary table."""
        method = "REML" if self.model.reml else "maximum likelihood"
        n = self._folder.manifest["n"]
        of, fits = "" if self.complete else f" of {n:,}", "fit" if n == 1 else "fits"
        head = [
            f"{len(self):,}{of} linear mixed model {fits} by {method}, in {self.path}",
            f"Formula: {self.model.formula}",
            *outcome_of(self.counts),
            *failed_told(self._seen.failed),
            *incomplete_told(self._seen.incomplete),
            *precision_told(self._told.get("precision", "float64")),
        ]
        return [head, [framed(self.summary())]]

    @cached_property
    def _ends(self) -> Ints:
        return np.cumsum([chunk.last - chunk.first for chunk in self.chunks])

    @cached_property
    def _seen(self) -> _Seen:
        counts, names = np.zeros(len(Status), np.int64), list(parameter_names(self.model))
        values, errors = Moments(len(names)), Moments(len(self.model.xnames))
        failed: list[Any] = []
        incomplete = 0
        for fits in self:
            ok, record = fits.ok, fits.record
            if (rows := record.rows_given) is not None:
                incomplete += int((record.nobs < rows).sum())
            counts += tally(fits.status).to_numpy()
            values.add(parameter_values(self.model, record.estimates)[ok])
            errors.add(record.se[ok])
            failed += fits.index[~ok][: MOST_NAMED + 1 - len(failed)].tolist()
        table = values.table(names)
        table["mean SE"] = errors.table(list(self.model.xnames))["mean"]
        by_status = pd.Series(counts, [s.name.lower() for s in Status], name="fits")
        return _Seen(by_status, table, failed, incomplete)

    @property
    def _told(self) -> dict[str, Any]:
        """How the fits were made, as far as the manifest tells; an optimiser is only told of."""
        told = self._folder.manifest["options"]
        return {name: told[name] for name in ("tol", "max_iter", "precision") if name in told}

    def _record(self, chunk: Chunk) -> FitRecord:
        record = written = from_table(*self._folder.read(chunk))
        lane_index = np.arange(chunk.first, chunk.last)
        if self._rows is not None:
            source, options = self._rows
            return replace(record, source=source, options=options, lane_index=lane_index)
        record = replace(record, options=replace(record.options, **self._told))
        if self._given is not None:
            return attached(record, self._given, lane_index)
        record = replace(record, lane_index=lane_index)
        record.kept.update(written.kept)
        return record

    def _positions(self, which: Any) -> int | Ints:
        if not isinstance(which, slice):
            if isinstance(which, str | bytes | tuple):
                raise OptionError(f"fits[{which!r}]: fits in a folder are chosen by position")
            return by_position_or_label(pd.RangeIndex(len(self)), which)
        try:
            at = range(len(self))[which]
        except TypeError:
            raise OptionError(f"fits[{which}]: give positions, which are whole numbers") from None
        each = estimate_bytes(len(self.model.xnames), len(self.model.znames))
        affordable("number of fits in memory", len(at), each)
        return np.arange(at.start, at.stop, at.step)

    def _taken(self, at: Ints) -> FitRecord:
        """The record of fits at some positions, of which no chunk is read twice."""
        if not self.chunks:
            raise JaxhlmError(f"{self.path} holds no finished fit yet")
        order = np.argsort(at, kind="stable")
        place = np.searchsorted(self._ends, at[order], side="right")
        starts = np.concatenate([[0], self._ends])
        parts = [
            self._record(self.chunks[k]).take(at[order][place == k] - starts[k])
            for k in (np.unique(place) if len(at) else [0])
        ]
        return _joined(parts).take(np.argsort(order, kind="stable"))


def read_fits(
    folder: str | os.PathLike[str],
    data: Table | None = None,
    responses: GivenResponses | None = None,
    *,
    by: str | None = None,
    weights: Weights = None,
    responses_in: ResponsesIn = "columns",
    layer: str | None = None,
) -> StoredFits:
    """The fits that a folder holds, as far as they are finished, read as they are asked for.

    Args:
        folder: what was given as ``out=`` to ``fit_many``, ``simulate(…).fit`` or ``bootstrap``.
        data, responses, by, weights, responses_in, layer: as for ``FitBatch.read_parquet``: with
            them the fits have their rows. Of what was simulated, or drawn for a bootstrap, the same
            call with ``resume=True`` gives that: it fits nothing twice.

    Raises:
        FolderError: it holds no fits, or its manifest is damaged or was edited. A damaged chunk is
            refused once its fits are asked for, and made anew by ``resume=True``.
        DifferentRowsError: the data are others than were fitted, once a chunk's fits are asked for.
        OptionError, JaxhlmError: as for ``fit_many``.

    Example:
        >>> import tempfile, jaxhlm as hlm
        >>> design = hlm.design("~ x + (1 + x | unit)", hlm.load_dataset("article"))
        >>> drawn = hlm.simulate(design, hlm.Truth.of([1, 3], sd=[0.2, 0.5], sigma=0.75), 500, 1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     made = drawn.fit(out=folder)
        ...     fits = hlm.read_fits(folder)
        ...     len(fits), fits[100:200].fixef.shape, fits.summary().shape
        (500, (100, 2), (6, 5))
    """
    there = read_folder(folder, FITS)
    fits = StoredFits(tuple(there.chunks()), there)
    return replace(
        fits, _given=given_again(fits.model, data, responses, by, weights, responses_in, layer)
    )


def _joined(parts: list[FitRecord]) -> FitRecord:
    """One record of several of one model."""
    sizes = np.concatenate([[p.nobs, p.ngroups, p.lane_index] for p in parts], axis=1)
    joined = replace(
        parts[0],
        estimates=Estimates.concatenated([p.estimates for p in parts]),
        index=parts[0].index.append([p.index for p in parts[1:]]),
        nobs=sizes[0],
        ngroups=sizes[1],
        lane_index=sizes[2],
    )
    for name in PER_FIT:
        if all(name in part.kept for part in parts):
            joined.kept[name] = np.concatenate([part.kept[name] for part in parts])
    return joined
