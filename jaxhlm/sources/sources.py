"""Where the rows of a batch of fits come from, so that any lane can be looked at by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from jaxhlm.core.chunks import as_slice, lane_chunks
from jaxhlm.core.notation import Bools, Floats, Ints
from jaxhlm.design.checks import independent_columns
from jaxhlm.design.design import Design
from jaxhlm.errors import ResponseShapeError
from jaxhlm.estimation.estimates import Estimates
from jaxhlm.estimation.pipeline import Prepared, Report, fit_lanes, fit_replicates, part_wanted
from jaxhlm.optimise.options import Options
from jaxhlm.statistics.group_contributions import GroupContributions
from jaxhlm.statistics.moments import RowMoments, column_means, design_moments, moments_by_lane
from jaxhlm.statistics.observations import Observations
from jaxhlm.statistics.replicates import Replicates
from jaxhlm.statistics.response import Standard
from jaxhlm.statistics.standardise import Rows

__all__ = ["Batch", "ReplicateRows", "ResponseMatrix", "Source", "take_rows"]

# Statistics with equal groups joined, and N of every class of them.
Joined = tuple[Standard, list[Floats]]
# Statistics of a response that take at most this are kept for inference after the fit.
KEPT_BYTES = 512


class Batch(NamedTuple):
    """What fitting a source gives: all lanes, or those finished at a Ctrl-C."""

    estimates: Estimates
    nobs: Ints  # (B,) rows of each lane
    ngroups: Ints  # (B,) groups of each lane
    finished: Ints | None = None  # numbers of the lanes of the estimates; None for the first ones


class Source(Protocol):
    """The rows behind a batch."""

    @property
    def design(self) -> Design:
        """How the columns of every lane are made, and the labels of all rows and groups."""
        ...

    @property
    def own_scale(self) -> bool:
        """Whether the rows of a lane are standardised as they were when it was fitted."""
        ...

    def lane(self, i: int) -> Design:
        """The design of lane i with its response, as if it had been built alone."""
        ...

    def fit(self, options: Options, report: Report | None) -> Batch:
        """Fit every lane."""
        ...

    def chunks(self, lane_index: Ints, nobs: Ints) -> list[Ints]:
        """Positions in ``lane_index``, of ``nobs`` rows each, that ``standard`` takes together."""
        ...

    def standard(self, lane_index: Ints) -> Standard:
        """Standardised statistics of some lanes, equal groups collapsed."""
        ...

    def by_group(self, lane_index: Ints) -> GroupContributions:
        """The same, every group by itself."""
        ...

    def observations(self, lane_index: Ints) -> Observations:
        """The rows of some lanes; levels and rows are numbered as in ``design``."""
        ...

    def moments(self, lane_index: Ints) -> RowMoments:
        """Moments of the rows of X and Z of some lanes; of one lane when they share a design."""
        ...

    def means(self, lane_index: Ints, names: Sequence[str]) -> Floats:
        """(b, names) means over the rows of variables that are numbers; b as for ``moments``."""
        ...


@dataclass(frozen=True)
class ResponseMatrix:
    """Many responses on one design.

    A response with missing values is fitted on its own complete rows.

    Attributes:
        prepared: the design.
        Y: (n, B) responses on the rows of the design.
    """

    prepared: Prepared
    Y: Floats
    _kept: dict[tuple[int, int], tuple[Standard, list[Floats]]] = field(
        default_factory=dict, repr=False
    )
    own_scale: ClassVar[bool] = True

    @property
    def design(self) -> Design:
        """The design of complete responses."""
        return self.prepared.design

    def lane(self, i: int) -> Design:
        """The design of response i, without the rows that it misses."""
        y, d = self.Y[:, i], self.prepared.design
        missing = np.isnan(y)
        if not missing.any():
            return replace(d, y=y)
        own = take_rows(replace(d, y=y), np.flatnonzero(~missing))
        return replace(own, n_dropped=d.n_dropped + int(missing.sum()))

    def fit(self, options: Options, report: Report | None) -> Batch:
        """Fit every lane."""
        d, B = self.prepared.design, self.Y.shape[1]
        nobs, ngroups = np.full(B, d.n), np.full(B, d.G)
        chunks = lane_chunks(B, self.prepared.lane_bytes)
        estimates = fit_lanes(self._collapsed, chunks, self.prepared.equal, options, report)
        failed = np.flatnonzero(np.isnan(estimates.criterion))
        missing = failed[np.isnan(self.Y[:, failed]).any(axis=0)]
        for i in missing:
            present = ~np.isnan(self.Y[:, i])
            nobs[i], ngroups[i] = present.sum(), len(np.unique(d.group[present]))
        own = missing[nobs[missing] > 0]
        if not len(own):
            return Batch(estimates, nobs, ngroups)
        unfinished = own
        if len(estimates.status) == B:
            estimates, unfinished = self._with_own(estimates, own, options)
        finished = np.setdiff1d(np.arange(len(estimates.status)), unfinished)
        if not len(finished):
            raise KeyboardInterrupt
        return Batch(estimates[finished] if len(unfinished) else estimates, nobs, ngroups, finished)

    def _with_own(
        self, estimates: Estimates, own: Ints, options: Options
    ) -> tuple[Estimates, Ints]:
        """Estimates with incomplete responses fitted on their own rows, and which of them are not.

        An interrupt before any of them is finished leaves the complete ones.
        """
        try:
            found = fit_replicates(self._own_rows(own), options)
        except KeyboardInterrupt:
            if not part_wanted():
                raise
            return estimates, own
        done = len(found.status)
        return estimates.replaced(own[:done], found), own[done:]

    def chunks(self, lane_index: Ints, nobs: Ints) -> list[Ints]:
        """Complete responses, those with missing values, and those with nothing else, apart."""
        n = self.prepared.design.n
        kinds = (nobs == n, (nobs > 0) & (nobs < n), nobs == 0)
        runs = [np.flatnonzero(kind) for kind in kinds]
        return [at[c] for at in runs for c in lane_chunks(len(at), self.prepared.lane_bytes)]

    def standard(self, lane_index: Ints) -> Standard:
        """Standardised statistics of responses of one kind."""
        if self._incomplete(lane_index):
            return self._own_rows(lane_index).standard
        run = as_slice(lane_index)
        return self._collapsed(run)[0] if isinstance(run, slice) else self._reduced(run)[0]

    def by_group(self, lane_index: Ints) -> GroupContributions:
        """The same, every group by itself."""
        if self._incomplete(lane_index):
            return self._own_rows(lane_index).by_group
        return self.prepared.by_group(self.Y[:, as_slice(lane_index)])

    def observations(self, lane_index: Ints) -> Observations:
        """The rows of responses of one kind."""
        if self._incomplete(lane_index):
            return self._own_rows(lane_index).observations(self.design.group)
        return self.prepared.observations(self.Y[:, as_slice(lane_index)])

    def moments(self, lane_index: Ints) -> RowMoments:
        """Moments of the rows of responses of one kind."""
        if self._incomplete(lane_index):
            return moments_by_lane(self._own_rows(lane_index).rows)
        return design_moments(self.prepared.design)

    def means(self, lane_index: Ints, names: Sequence[str]) -> Floats:
        """Means over the rows of responses of one kind."""
        known = [self.design._covariates[name] for name in names]
        if not self._incomplete(lane_index):
            return column_means(known, np.zeros(self.design.n, np.int64))
        row, lane = self._own_positions(lane_index)
        return column_means([x[row] for x in known], lane)

    def _collapsed(self, lane_slice: slice) -> Joined:
        """The statistics of a run of responses, kept if it is the only one or they are small.

        Inference on all fits asks for the same runs again, and a pass over the rows takes as long
        as all the rest of it.
        """
        run = (lane_slice.start, lane_slice.stop)
        if run not in self._kept:
            found = self._reduced(lane_slice)
            size = sum(x.nbytes for x in found[0].stats)
            if self.Y.shape[1] == 1 or size <= KEPT_BYTES * (run[1] - run[0]):
                self._kept[run] = found
            return found
        return self._kept[run]

    def _reduced(self, lane_index: slice | Ints) -> Joined:
        return self.prepared.collapse(self.Y[:, lane_index])

    def _incomplete(self, lane_index: Ints) -> bool:
        missing = np.isnan(self.Y[:, lane_index[0]])
        return bool(missing.any() and not missing.all())

    def _own_positions(self, lane_index: Ints, order: Ints | None = None) -> tuple[Ints, Ints]:
        """Rows that every response has, in this order or in that of the data, and their lanes."""
        order = np.arange(self.design.n) if order is None else order
        lane, at = np.nonzero(~np.isnan(self.Y[np.ix_(order, lane_index)]).T)
        return order[at], lane

    def _own_rows(self, lane_index: Ints) -> Replicates:
        d, (row, lane) = self.design, self._own_positions(lane_index, self.prepared.order)
        y = self.Y[row, lane_index[lane]]
        weights = None if d.weights is None else d.weights[row]
        segment = lane * d.G + d.group[row]
        rows = Rows(d.X[row], d.Z[row], segment, lane, weights, d.blocks)
        return Replicates(y, rows, row, self._reach)

    @cached_property
    def _reach(self) -> int | None:
        return _reach(self.design)


@dataclass(frozen=True)
class ReplicateRows:
    """Data sets with rows of their own, in one long frame.

    Attributes:
        design: the design of all rows together; its X may be rank deficient in a single lane.
        order: (n,) row numbers, data set after data set and group after group.
        replicates: the sorted rows.
    """

    design: Design
    order: Ints
    replicates: Replicates
    own_scale: ClassVar[bool] = True

    @staticmethod
    def of(design: Design, lane: Ints, unusable: Bools) -> ReplicateRows:
        """Sort the rows of a design.

        Args:
            design: all rows, with the response.
            lane: (n,) the data set that each row belongs to.
            unusable: (n,) rows whose values stand for some that cannot be used.
        """
        if design.y is None:
            raise ResponseShapeError("data sets with rows of their own need a response column")
        y = np.where(unusable, np.nan, design.y)
        design = replace(design, y=y)
        order = np.lexsort((design.group, lane))
        weights = None if design.weights is None else design.weights[order]
        segment = lane[order] * design.G + design.group[order]
        rows = Rows(design.X[order], design.Z[order], segment, lane[order], weights, design.blocks)
        replicates = Replicates(y[order], rows, order, _reach(design))
        return ReplicateRows(design, order, replicates)

    def lane(self, i: int) -> Design:
        """The design of data set i."""
        start, stop = np.searchsorted(self.replicates.rows.lane, [i, i + 1])
        return take_rows(self.design.of_lane(i), np.sort(self.order[start:stop]))

    def fit(self, options: Options, report: Report | None) -> Batch:
        """Fit every lane."""
        estimates = fit_replicates(self.replicates, options, report)
        lane, segment = self.replicates.rows.lane, self.replicates.rows.segment
        first = np.r_[True, segment[1:] != segment[:-1]]
        nobs = np.bincount(lane, ~np.isnan(self.replicates.y)).astype(np.int64)
        return Batch(estimates, nobs, np.bincount(lane[first]))

    def chunks(self, lane_index: Ints, nobs: Ints) -> list[Ints]:
        """Runs of lanes, each in increasing order."""
        del nobs
        order = np.argsort(lane_index, kind="stable")
        return [order[c] for c in lane_chunks(len(lane_index), self.replicates.lane_bytes)]

    def standard(self, lane_index: Ints) -> Standard:
        """Standardised statistics of data sets, in increasing order."""
        return self.replicates.take(as_slice(lane_index)).standard

    def by_group(self, lane_index: Ints) -> GroupContributions:
        """The same, every group by itself."""
        return self.replicates.take(as_slice(lane_index)).by_group

    def observations(self, lane_index: Ints) -> Observations:
        """The rows of data sets, in increasing order."""
        return self.replicates.take(as_slice(lane_index)).observations(self.design.group)

    def moments(self, lane_index: Ints) -> RowMoments:
        """Moments of the rows of data sets, in increasing order."""
        return moments_by_lane(self.replicates.take(as_slice(lane_index)).rows)

    def means(self, lane_index: Ints, names: Sequence[str]) -> Floats:
        """Means over the rows of data sets, in increasing order."""
        row, lane = self._positions(lane_index)
        return column_means([self.design._covariates[name][row] for name in names], lane)

    def _positions(self, lane_index: Ints) -> tuple[Ints, Ints]:
        """Row numbers of data sets, each in the order of the data, and their lanes."""
        cuts = np.searchsorted(self.replicates.rows.lane, [lane_index, lane_index + 1])
        rows = [np.sort(self.order[start:stop]) for start, stop in cuts.T]
        return np.concatenate(rows), np.repeat(np.arange(len(lane_index)), np.diff(cuts, axis=0)[0])


def _reach(design: Design) -> int | None:
    """What ``Replicates.reach`` is; one term is judged by itself (``standardise_matrices``)."""
    factors = len(design.blocks) > 1 and any(part.coding for part in design._random)
    return len(independent_columns(design.Z)[0]) if factors else None


def take_rows(design: Design, rows: Ints) -> Design:
    """A design restricted to some rows, groups without rows left out."""
    present, group = np.unique(design.group[rows], return_inverse=True)
    known = replace(design._groups, combinations=design._groups.combinations[present])
    return replace(
        design,
        y=None if design.y is None else design.y[rows],
        X=design.X[rows],
        Z=design.Z[rows],
        group=group.astype(np.int64),
        levels=design.levels[present],
        weights=None if design.weights is None else design.weights[rows],
        index=design.index[rows],
        _covariates={name: values[rows] for name, values in design._covariates.items()},
        _groups=known,
    )
