"""``FitRecord``: fitted data sets, one or a million, that every result is computed from.

Arrays have the fits on their first axis. A fit of its own is a record of one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import jax
import numpy as np
import pandas as pd

from jaxhlm.core.chunks import in_order, lane_chunks
from jaxhlm.core.memory import trim_heap
from jaxhlm.core.notation import Array, Bools, Floats, Ints, NotEstimable, check_option
from jaxhlm.core.status import Status, converged
from jaxhlm.design.columns import label, listed
from jaxhlm.design.design import Design
from jaxhlm.design.subsets import lacking
from jaxhlm.errors import JaxhlmError, NotEstimableError, NotEstimableWarning, warn_user
from jaxhlm.estimation.estimates import Estimates, restandardised
from jaxhlm.estimation.model import Model
from jaxhlm.estimation.pipeline import Prepared
from jaxhlm.inference.criteria import aic, aicc, bic, standard_errors
from jaxhlm.optimise.options import Options
from jaxhlm.results.fit_rows import FitRows
from jaxhlm.results.known_tests import KnownTests, without_data
from jaxhlm.sources.lanes import Lanes
from jaxhlm.sources.sources import ResponseMatrix, Source
from jaxhlm.statistics.group_contributions import GroupContributions
from jaxhlm.statistics.response import Standardised

__all__ = ["PER_FIT", "FitRecord"]

# After so many chunks the heaps of the threads hold much that nobody uses.
MANY_CHUNKS = 4
# What is kept of each fit by itself, and goes with it into other batches and files.
PER_FIT = ("df_residual", "rows_given")


@dataclass(frozen=True, eq=False)
class FitRecord:
    """B fitted data sets.

    Attributes:
        model: formula, method and labels.
        estimates: arrays of all estimates.
        index: (B,) labels of the fits.
        nobs: (B,) rows of each.
        ngroups: (B,) groups of each.
        options: what was optimised.
        lane_index: (B,) number of each in its source.
        source: where the rows are; None if the fits were read from a file.
        devices: that fitted them, if it was not the cores; what is asked for later is left to them
            where it can be.
        tests: by method of the df, as far as they are known.
        kept: what else was computed of all fits and may be asked for again; a copy has none of it,
            and some of the fits their df_residual.
    """

    model: Model
    estimates: Estimates = field(repr=False)
    index: pd.Index = field(repr=False)
    nobs: Ints = field(repr=False)
    ngroups: Ints = field(repr=False)
    options: Options = field(repr=False)
    lane_index: Ints = field(repr=False)
    source: Source | None = field(repr=False)
    devices: tuple[jax.Device, ...] = field(default=(), repr=False)
    tests: dict[str, KnownTests] = field(default_factory=dict, repr=False)
    kept: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    @staticmethod
    def alone(
        source: ResponseMatrix, model: Model, estimates: Estimates, options: Options
    ) -> FitRecord:
        """The record of one fit.

        Args:
            source: its design and response.
            model: the labels.
            estimates: of one lane.
            options: what was optimised.
        """
        sizes = np.array([source.design.n]), np.array([source.design.G])
        return FitRecord(
            model, estimates, pd.RangeIndex(1), *sizes, options, np.zeros(1, np.int64), source
        )

    def __len__(self) -> int:
        """Number of fits, B."""
        return len(self.index)

    def __getstate__(self) -> dict[str, Any]:
        """All but what is made again when it is asked for: rows are read by functions."""
        made = {name for name, value in vars(FitRecord).items() if type(value) is cached_property}
        return {name: value for name, value in vars(self).items() if name not in made}

    def take(self, which: Ints) -> FitRecord:
        """The record of some fits."""
        found = replace(
            self,
            estimates=self.estimates[which],
            index=self.index[which],
            nobs=self.nobs[which],
            ngroups=self.ngroups[which],
            lane_index=self.lane_index[which],
            tests={method: known.take(which) for method, known in self.tests.items()},
        )
        found.kept.update({name: self.kept[name][which] for name in PER_FIT if name in self.kept})
        return found

    def singly(self) -> list[FitRecord]:
        """The records of one fit each."""
        return [self.take(np.array([k])) for k in range(len(self))]

    def one(self, i: int) -> FitRecord:
        """The record that ``fit`` gives of data set i: absent columns of X are left out.

        Raises:
            JaxhlmError: the fits were read from a file.
        """
        if self.source is None:
            raise JaxhlmError(
                f"{without_data()}. The batch of this fit alone, fits[[…]] for fits[…], has its "
                "estimates and tests without them"
            )
        design, absent = self.design(i), self.estimates.absent[i]
        assert design.y is not None
        prepared = Prepared(design)
        own, model = self.estimates_on(np.array([i]), prepared.matrices.C), self.model
        if absent.any():
            beta, vcov = own.beta[:, ~absent], own.vcov[:, ~absent][:, :, ~absent]
            own, model = replace(own, beta=beta, vcov=vcov), Model.of(design, model.reml)
        source = ResponseMatrix(prepared, design.y[:, None])
        found = FitRecord.alone(source, model, own, self.options)
        # A response that is missing everywhere has the rows of the design, and uses none.
        return replace(found, nobs=self.nobs[[i]], ngroups=self.ngroups[[i]])

    def design(self, i: int) -> Design:
        """The design of a fit, as ``fit`` would build it."""
        return lacking(self.rows.lane(int(self.lane_index[i])), self.estimates.absent[i])

    @property
    def rows(self) -> Source:
        """Where the rows are.

        Raises:
            JaxhlmError: the fits were read from a file.
        """
        if self.source is None:
            raise without_data()
        return self.source

    @property
    def responses(self) -> ResponseMatrix:
        """The rows of a record of one fit."""
        assert isinstance(self.source, ResponseMatrix)
        return self.source

    @property
    def rows_given(self) -> Ints | None:
        """(B,) rows of the design of all responses, missing or not; None where it is not one."""
        if isinstance(self.source, ResponseMatrix):
            return np.full(len(self), self.source.design.n)
        return self.kept.get("rows_given")

    @property
    def ok(self) -> Bools:
        """(B,) converged, on the boundary or not."""
        return converged(self.estimates.status)

    @property
    def singular(self) -> Bools:
        """(B,) on the boundary."""
        return np.asarray(self.estimates.status == Status.SINGULAR)

    @property
    def n_parameters(self) -> Ints:
        """(B,) parameters of every fit."""
        return np.asarray(self.model.n_parameters - self.estimates.absent.sum(axis=1))

    @property
    def se(self) -> Floats:
        """(B, p) standard errors of the fixed effects."""
        return standard_errors(self.estimates.vcov)

    @property
    def loglik(self) -> Floats:
        """(B,) maximised (restricted) log-likelihoods."""
        return -0.5 * self.estimates.criterion

    @property
    def aic(self) -> Floats:
        """(B,) Akaike's criteria."""
        return aic(self.estimates.criterion, self.n_parameters)

    @property
    def aicc(self) -> Floats:
        """(B,) AIC corrected for small samples."""
        return aicc(self.estimates.criterion, self.n_parameters, self.nobs)

    @property
    def bic(self) -> Floats:
        """(B,) Schwarz's criteria."""
        return bic(self.estimates.criterion, self.n_parameters, self.nobs)

    @cached_property
    def filled(self) -> Estimates:
        """The estimates with zeros for absent fixed effects."""
        return self.estimates.filled

    def about_absent(self, L: Floats) -> Bools:
        """Whether rows of L (r, p) or (B, r, p) are about columns of X that fits lack, (B, r)."""
        absent = self.estimates.absent
        if not absent.any():
            return np.zeros((len(absent), L.shape[-2]), bool)
        return ((np.nan_to_num(L) != 0.0) & absent[:, None]).any(axis=2)

    def tell_not_estimable(
        self, about: Bools, labels: Sequence[object], what: str, option: NotEstimable = "nan"
    ) -> None:
        """Say which rows are not estimable in which fits.

        Args:
            about: (B, r) what ``about_absent`` tells.
            labels: r names of the rows.
            what: what they are.
            option: "nan" or "error".

        Raises:
            NotEstimableError: under "error", where there is such a row.
        """
        check_option("not_estimable", option, NotEstimable)
        if not about.any():
            return
        which, fits = np.flatnonzero(about.any(axis=0)), np.flatnonzero(about.any(axis=1))
        named = listed([labels[j] for j in which.tolist()])
        text = (
            f"{what} are not estimable in {len(fits)} of {len(self)} fits, first "
            f"{label(self.index, int(fits[0]))}: {named}; no row of these data sets has what they "
            "are about, which is NaN in fits.fixef"
        )
        if option == "error":
            raise NotEstimableError(f'{text}; pass not_estimable="nan" for the others')
        warn_user(f"{text}; their results are NaN", NotEstimableWarning)

    def over_lanes(
        self, function: Callable[[Estimates, Standardised], tuple[Array, ...]]
    ) -> tuple[Array, ...]:
        """``function`` of all fits and their statistics; as ``FitBatch.over_lanes``."""
        return self.over_chunks(lambda at: function(self.filled[at], self.lanes(at).standardised))

    def known(self, method: str) -> KnownTests:
        """What is known of tests by a method."""
        return self.tests.get(method, KnownTests())

    def over_groups(
        self, function: Callable[[Estimates, GroupContributions], tuple[Array, ...]]
    ) -> tuple[Array, ...]:
        """As ``over_lanes``, with the statistics of every group; as ``FitBatch.over_groups``."""
        return self.over_chunks(lambda at: function(*self.by_group(at)))

    def by_group(self, at: Ints) -> tuple[Estimates, GroupContributions]:
        """Some fits, and the statistics of every group of theirs by itself."""
        groups = self.lanes(at).by_group
        return self.estimates_on(at, groups.standardised.scaling.C), groups

    def lanes(self, at: Ints) -> Lanes:
        """The data sets of some fits with their rows; of a record of one fit they are kept.

        Raises:
            JaxhlmError: the fits were read from a file.
        """
        return self.only_lanes if len(self) == 1 else self.rows.lanes(self.lane_index[at])

    @cached_property
    def only_lanes(self) -> Lanes:
        """The data set of a record of one fit with its rows, kept."""
        return self.rows.lanes(self.lane_index)

    def estimates_on(self, at: Ints, C: Floats) -> Estimates:
        """Estimates of some fits for rows that are standardised by C."""
        found = self.filled[at]
        if self.rows.own_scale:
            return found
        return restandardised(found, C, self.model.blocks)

    @property
    def offset_means(self) -> Floats:
        """(B, 1) means of the offset over the rows of every fit."""

        def means(at: Ints) -> tuple[Floats]:
            return (np.broadcast_to(self.lanes(at).offset_means(), (len(at), 1)),)

        return self.over_chunks(means)[0]

    def rows_of(self, at: Ints) -> FitRows:
        """Some fits with their rows; of a record of one fit they are kept.

        Raises:
            JaxhlmError: the fits were read from a file, or simulated without rows.
        """
        return self._only_rows if len(self) == 1 else self._rows_of(at)

    @cached_property
    def _only_rows(self) -> FitRows:
        return self._rows_of(np.zeros(1, np.int64))

    def _rows_of(self, at: Ints) -> FitRows:
        lanes, found = self.lanes(at), self.filled[at]
        rows = lanes.observations
        own = self.estimates_on(at, rows.standardised.scaling.C)
        p = (~self.estimates.absent[at]).sum(axis=1)
        offset = None
        if self.rows.design.offset is not None:
            offset = lanes.of_source(lambda d: d.offset, rows.row)
        return FitRows(at, found, own, rows, self.model.blocks, p, offset)

    def over_chunks(self, one: Callable[[Ints], tuple[Array, ...]]) -> tuple[Floats, ...]:
        """Arrays, fits first, from positions of fits that the source takes together."""
        return self.gathered(one, self._chunks())

    @np.errstate(all="ignore")
    def gathered(
        self, one: Callable[[Ints], tuple[Array, ...]], chunks: Sequence[Ints]
    ) -> tuple[Floats, ...]:
        """Arrays, fits first, from positions of fits that are chosen together."""
        parts = [np.concatenate(part) for part in zip(*in_order(one, chunks), strict=True)]
        if len(chunks) > MANY_CHUNKS:
            trim_heap()
        back = np.argsort(np.concatenate(chunks))
        return tuple(part[back] for part in parts)

    @np.errstate(all="ignore")
    def over_runs(
        self, one: Callable[[Ints], tuple[Array, ...]], lane_bytes: int
    ) -> tuple[Array, ...]:
        """As ``over_chunks``, of arrays in which every fit has a run of its own length.

        Args:
            one: the lengths of the runs of some fits, and arrays with these runs one after another.
            lane_bytes: what ``one`` takes for one fit.
        """
        chunks = [
            chunk[part] for chunk in self._chunks() for part in lane_chunks(len(chunk), lane_bytes)
        ]
        lengths, *parts = (
            np.concatenate(part) for part in zip(*in_order(one, chunks), strict=True)
        )
        positions = np.concatenate(chunks)
        if (np.diff(positions) > 0).all():
            return (lengths, *parts)
        back = np.argsort(positions)
        starts, lengths = (np.cumsum(lengths) - lengths)[back], lengths[back]
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        at = np.repeat(starts, lengths) + within
        return (lengths, *(part[at] for part in parts))

    @property
    def first_lane(self) -> int:
        """Number of the first fit in its source.

        Raises:
            JaxhlmError: there is no fit.
        """
        self._check_any()
        return int(self.lane_index[0])

    def _check_any(self) -> None:
        if not len(self):
            raise JaxhlmError("this batch holds no fit, so there is nothing to compute")

    def _chunks(self) -> list[Ints]:
        """Positions of fits that the source takes together, none of them twice in one chunk.

        Raises:
            JaxhlmError: there is no fit.
        """
        self._check_any()
        source = self.rows
        # A fit that was chosen several times comes once in each of several passes.
        time = pd.Series(self.lane_index).groupby(self.lane_index).cumcount().to_numpy()
        passes = [np.flatnonzero(time == i) for i in range(time.max() + 1)]
        return [at[c] for at in passes for c in source.chunks(self.lane_index[at], self.nobs[at])]
