"""Where the rows of a batch of fits come from, so that any lane can be looked at by itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any, ClassVar, TypeAlias

import numpy as np

from jaxhlm.core.chunks import as_slice, chunk_bytes, lane_chunks, slices
from jaxhlm.core.notation import Floats, Ints
from jaxhlm.design.checks import independent_columns
from jaxhlm.design.design import Design
from jaxhlm.design.segments import Segments
from jaxhlm.design.subsets import take_rows
from jaxhlm.estimation.pipeline import Prepared, Reduced
from jaxhlm.estimation.program import Traceable, traceable_responses
from jaxhlm.sources.lanes import Lanes
from jaxhlm.sources.responses import Carried, Responses, chunk
from jaxhlm.statistics.incomplete import WeightedRows
from jaxhlm.statistics.replicates import Replicates, merged
from jaxhlm.statistics.response import Standardised
from jaxhlm.statistics.standardise import Rows

__all__ = ["ResponseMatrix", "Source", "full_rank", "shared_lanes"]

# Responses of a run, NaN where they are left out, and their weights.
Read: TypeAlias = Callable[[], tuple[Floats, Floats | None]]
# Statistics of a response that take at most this are kept for inference after the fit.
KEPT_BYTES = 512
# Responses of a run of which at least one is complete where looking at all of them is not worth it.
FIRST = 8


class Source(ABC):
    """The rows behind a batch: a source yields reduced chunks, and any of its data sets again."""

    # Whether the rows of a lane are standardised as they were when it was fitted.
    own_scale: ClassVar[bool] = True

    @property
    @abstractmethod
    def design(self) -> Design:
        """How the columns of every lane are made, and the labels of all rows and groups."""

    @property
    @abstractmethod
    def B(self) -> int:
        """Number of lanes."""

    @property
    @abstractmethod
    def lane_bytes(self) -> int:
        """What one lane takes while it is reduced."""

    @property
    def most(self) -> int | None:
        """Largest number of lanes that are reduced together; None where memory alone counts."""
        return None

    @property
    def traceable(self) -> Traceable | None:
        """How a compiled program reduces these data sets, if it can."""
        return None

    @abstractmethod
    def reduced(self, lane_slice: slice) -> Iterator[Reduced]:
        """Consecutive lanes as they are fitted; see ``fit_lanes``."""

    @abstractmethod
    def lane(self, i: int) -> Design:
        """The design of lane i with its response, as if it had been built alone."""

    @abstractmethod
    def lanes(self, lane_index: Ints) -> Lanes:
        """Some lanes, one of ``chunks``, with their rows."""

    @property
    def forgetful(self) -> Source:
        """The same data sets, of which nothing is kept once they are fitted."""
        return self

    @property
    def shared(self) -> Source:
        """What every process needs of them that fits some: all but what each has of its own."""
        return self

    def own(self, lane_slice: slice) -> Any:
        """What consecutive data sets have of their own; None where they are drawn."""
        return None

    def with_own(self, own: Any) -> Source:
        """The data sets that ``own`` is of, numbered from 0, where ``self`` is what is shared."""
        raise NotImplementedError

    def own_lanes(self, make: Callable[[], Replicates]) -> Lanes:
        """Data sets with rows of their own."""
        rows = cache(make)
        return Lanes(
            lambda: rows().standardised,
            lambda: rows().observations(self.design.group[rows().row]),
            lambda of, row: of(self.design)[row],
        )

    def runs(self) -> Iterator[slice]:
        """Consecutive lanes that are reduced together."""
        return lane_chunks(self.B, self.lane_bytes, self.most)

    def chunks(self, lane_index: Ints, nobs: Ints) -> list[Ints]:
        """Positions in ``lane_index``, of ``nobs`` rows each, that ``lanes`` takes together.

        Each has its lanes in increasing order.
        """
        del nobs
        order = np.argsort(lane_index, kind="stable")
        return [order[c] for c in lane_chunks(len(order), self.lane_bytes, self.most)]


def shared_lanes(
    prepared: Prepared, reduce: Callable[[], Standardised], responses: Callable[[], Floats]
) -> Lanes:
    """Responses (n, B) on one design, and their statistics, as they are asked for."""
    return Lanes(
        reduce,
        lambda: prepared.observations(responses()),
        lambda of, row: of(prepared.design)[row],
        prepared,
    )


@dataclass(frozen=True)
class ResponseMatrix(Source):
    """Many responses on one design.

    A response with missing values, or with weights of its own, is fitted on its own complete rows.

    Attributes:
        prepared: the design.
        Y: (n, B) responses on the rows of the design, where they are.
        keeps: whether small statistics are kept for inference.
        W: (n, B) prior weights of their own; a row whose weight is zero or missing is left out.
    """

    prepared: Prepared
    Y: Floats | Responses
    keeps: bool = True
    W: Floats | Responses | None = None
    _kept: dict[tuple[int, int], Reduced] = field(default_factory=dict, repr=False)

    @property
    def design(self) -> Design:
        """The design of complete responses."""
        return self.prepared.design

    @property
    def B(self) -> int:
        """Number of responses."""
        return self.Y.shape[1]

    @property
    def forgetful(self) -> ResponseMatrix:
        """The same responses, whose statistics are not kept."""
        return replace(self, keeps=False)

    @property
    def shared(self) -> ResponseMatrix:
        """The design."""
        none = np.empty((self.Y.shape[0], 0))
        return ResponseMatrix(Prepared(self.prepared.design), none, keeps=False)

    def own(self, lane_slice: slice) -> tuple[Carried, Floats | None]:
        """Responses, or where in a file they are, and their weights."""
        W = None if self.W is None else np.ascontiguousarray(self.W[:, lane_slice])
        return Carried.of(self.Y, lane_slice), W

    def with_own(self, own: tuple[Carried, Floats | None]) -> ResponseMatrix:
        """Those responses."""
        return replace(self, Y=own[0].responses, W=own[1])

    @property
    def lane_bytes(self) -> int:
        """What one complete response takes, with the response itself where it is elsewhere."""
        fetched = 8 * self.design.n if isinstance(self.Y, Responses) else 0
        return self.prepared.lane_bytes + fetched

    @property
    def traceable(self) -> Traceable | None:
        """Responses that are reduced where they are fitted."""
        if self.W is not None:
            return None
        return traceable_responses(
            self.prepared,
            lambda lane_slice: chunk(self.Y, lane_slice),
            lambda lane_index: ResponseMatrix(self.prepared, self.Y[:, lane_index]),
        )

    def lane(self, i: int) -> Design:
        """The design of response i, without the rows that it misses unless it misses all."""
        (y, weights), d = self._read(i), self.prepared.design
        missing = np.isnan(y)
        # Weights of its own are missing with it.
        d = d if weights is None or missing.all() else replace(d, weights=weights)
        if missing.all() or not missing.any():
            return replace(d, y=y)
        own = take_rows(replace(d, y=y), np.flatnonzero(~missing))
        return replace(own, n_dropped=d.n_dropped + int(missing.sum()))

    def reduced(self, lane_slice: slice) -> Iterator[Reduced]:
        """All responses on the one design; then those with missing values, on their own rows.

        Each is read once, where it is.
        """
        read = cache(lambda: self._read(lane_slice))
        if self._all_incomplete(read):
            yield from self._incomplete_parts(read, np.arange(lane_slice.stop - lane_slice.start))
            return
        found = self._reduced_run(lane_slice, read)
        failed = np.flatnonzero(np.isnan(found.standardised.stats.yy))
        if not len(failed):
            yield found
            return
        by_order = self.prepared.by_group_order
        present = ~np.isnan(read()[0][:, failed])
        nobs, ngroups = found.nobs.copy(), found.ngroups.copy()
        nobs[failed] = present.sum(axis=0)
        ngroups[failed] = Segments(self.prepared.rows.segment).any(by_order(present)).sum(axis=0)
        yield found._replace(nobs=nobs, ngroups=ngroups)
        own = failed[(nobs[failed] > 0) & (nobs[failed] < self._whole)]
        yield from self._incomplete_parts(read, own)

    def _all_incomplete(self, read: Read) -> bool:
        """Whether all responses of a run miss rows, or weigh them, and none has nothing else."""
        Y, W = read()
        if W is None and not np.isnan(Y[:, :FIRST]).any(axis=0).all():
            return False
        nobs = Y.shape[0] - np.isnan(Y).sum(axis=0)
        return bool(((nobs > 0) & (nobs < self._whole)).all())

    def _incomplete_parts(self, read: Read, own: Ints) -> Iterator[Reduced]:
        """Responses of a run that miss or weigh rows.

        This is one thread's work: few large parts, since lanes that take long go on together.
        """
        Y, W = read()
        for some in (own[run] for run in slices(len(own), chunk_bytes() // self._own_bytes)):
            yield Reduced.of(self._reduced_incomplete(Y, W, some))._replace(lanes=some)

    def chunks(self, lane_index: Ints, nobs: Ints) -> list[Ints]:
        """Complete responses, those with missing values, and those with nothing else, apart."""
        incomplete = (nobs > 0) & (nobs < self._whole)
        kinds = (
            (nobs == self._whole, self.lane_bytes),
            (incomplete, self._own_bytes),
            (nobs == 0, self.lane_bytes),
        )
        runs = [(np.flatnonzero(kind), lane_bytes) for kind, lane_bytes in kinds]
        return [at[c] for at, lane_bytes in runs for c in lane_chunks(len(at), lane_bytes)]

    def lanes(self, lane_index: Ints) -> Lanes:
        """Responses of one kind."""
        read = cache(lambda: self._read(as_slice(lane_index)))
        if self._incomplete(lane_index):
            every = np.arange(len(lane_index))
            return replace(
                self.own_lanes(lambda: self._own_rows(*read())),
                reduce=lambda: self._reduced_incomplete(*read(), every),
            )
        run = as_slice(lane_index)
        return shared_lanes(self.prepared, lambda: self._standardised(run, read), lambda: read()[0])

    def _standardised(self, run: slice | Ints, read: Read) -> Standardised:
        if isinstance(run, slice):
            return self._reduced_run(run, read).standardised
        return self.prepared.reduced(self._on_design(read)).standardised

    def _reduced_run(self, lane_slice: slice, read: Read) -> Reduced:
        """The statistics of a run of responses, kept if it is the only one or they are small.

        Inference on all fits asks for the same runs again, and a pass over the rows takes as long
        as all the rest of it.
        """
        run = (lane_slice.start, lane_slice.stop)
        if run not in self._kept:
            found = self.prepared.reduced(self._on_design(read))
            size = sum(x.nbytes for x in found.standardised.stats)
            if self.keeps and (self.B == 1 or size <= KEPT_BYTES * (run[1] - run[0])):
                self._kept[run] = found
            return found
        return self._kept[run]

    def _incomplete(self, lane_index: Ints) -> bool:
        nobs = (~np.isnan(self._read(lane_index[0])[0])).sum()
        return bool(0 < nobs < self._whole)

    @property
    def _whole(self) -> int:
        """Rows of a response that shares the design; more than there are where none does."""
        return self.design.n + (self.W is not None)

    def _on_design(self, read: Read) -> Floats:
        """Responses to be reduced together; those with weights of their own are not."""
        Y, W = read()
        return Y if W is None else np.full(Y.shape, np.nan)

    def _read(self, lanes: int | slice | Ints) -> tuple[Floats, Floats | None]:
        """Responses, NaN in rows that are left out, and their weights."""
        Y = self.Y[:, lanes]
        if self.W is None:
            return Y, None
        W = self.W[:, lanes]
        return np.where(W > 0.0, Y, np.nan), W

    def _reduced_incomplete(self, Y: Floats, W: Floats | None, which: Ints) -> Standardised:
        """Those of responses (n, B) that miss or weigh rows.

        What loses digits, and models with many columns, are reduced from their rows.
        """

        def from_rows(some: Ints) -> Standardised:
            return self._own_rows(Y[:, some], None if W is None else W[:, some]).standardised

        if self._full_rank is not None or not self._weighted.usable:
            return from_rows(which)
        order = self.prepared.by_group_order
        found, lost = self._weighted.standardised(order(Y), None if W is None else order(W), which)
        return merged(found, from_rows(which[lost]), lost) if lost.any() else found

    def _own_rows(self, Y: Floats, W: Floats | None) -> Replicates:
        """Some responses (n, b) on their own rows."""
        d, order = self.design, self.prepared.order
        lane, at = np.nonzero(~np.isnan(Y[order]).T)
        row = order[at]
        weights = None if d.weights is None else d.weights[row]
        if W is not None:
            weights = W[row, lane]
        segment = lane * d.G + d.group[row]
        rows = Rows(d.X[row], d.Z[row], segment, lane, weights, d.blocks)
        return Replicates(Y[row, lane], rows, row, self._full_rank)

    @property
    def _own_bytes(self) -> int:
        """What the rows of one response take."""
        if self._weighted.usable:
            return self._weighted.lane_bytes
        return Replicates.row_bytes(self.design.p, self.design.q) * self.design.n

    @cached_property
    def _weighted(self) -> WeightedRows:
        return WeightedRows(self.prepared.rows)

    @cached_property
    def _full_rank(self) -> int | None:
        return full_rank(self.design)


def full_rank(design: Design) -> int | None:
    """What ``Replicates.full_rank`` is of a design; one term is judged by itself."""
    factors = len(design.blocks) > 1 and any(part.coding for part in design._random)
    return len(independent_columns(design.Z)[0]) if factors else None
