"""Data sets with rows of their own, all in the arrays of one design."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from jaxhlm.core.chunks import as_slice
from jaxhlm.core.notation import Bools, Ints
from jaxhlm.design.design import Design
from jaxhlm.design.subsets import take_rows
from jaxhlm.errors import ResponseShapeError
from jaxhlm.estimation.pipeline import Reduced
from jaxhlm.sources.lanes import Lanes
from jaxhlm.sources.sources import Source, full_rank
from jaxhlm.statistics.replicates import Replicates
from jaxhlm.statistics.standardise import Rows

__all__ = ["ReplicateRows"]


@dataclass(frozen=True)
class ReplicateRows(Source):
    """Data sets with rows of their own, in one long frame.

    Attributes:
        combined: the design of all rows; its X may be rank deficient in a single lane.
        replicates: the rows, data set after data set and group after group.
    """

    combined: Design
    replicates: Replicates
    # The data set of every row of the frame, where some are dropped.
    _lane: Ints | None = field(default=None, repr=False)

    @property
    def design(self) -> Design:
        """The design of all rows together."""
        return self.combined

    @staticmethod
    def of(
        design: Design, lane: Ints, unusable: Bools, of_frame: Ints | None = None
    ) -> ReplicateRows:
        """Sort the rows of a design.

        Args:
            design: all rows, with the response.
            lane: (n,) the data set that each row belongs to.
            unusable: (n,) rows whose values stand for some that cannot be used.
            of_frame: (n_total,) the same of the rows that were dropped as well.
        """
        if design.y is None:
            raise ResponseShapeError("data sets with rows of their own need a response column")
        y, segment = np.where(unusable, np.nan, design.y), lane * design.G + design.group
        design, row = replace(design, y=y), np.arange(design.n)
        at: slice | Ints = slice(None)
        if (np.diff(segment) < 0).any():
            row = at = np.argsort(segment, kind="stable")
        weights = None if design.weights is None else design.weights[at]
        rows = Rows(design.X[at], design.Z[at], segment[at], lane[at], weights, design.blocks)
        known = of_frame if design.n_dropped else None
        return ReplicateRows(design, Replicates(y[at], rows, row, full_rank(design)), known)

    def lane(self, i: int) -> Design:
        """The design of data set i."""
        start, stop = np.searchsorted(self.replicates.rows.lane, [i, i + 1])
        own = take_rows(self.design.of_lane(i), np.sort(self.replicates.row[start:stop]))
        assert own.y is not None
        # A row that cannot be used is there and makes the fit fail: it is not one that is missing.
        own = replace(own, y=np.where(np.isnan(own.y), np.inf, own.y))
        if self._lane is None:
            return own if own.n_dropped else replace(own, kept=np.ones(own.n, bool))
        kept = self.design.kept[self._lane == i]
        return replace(own, kept=kept, n_dropped=int(len(kept) - own.n))

    @property
    def B(self) -> int:
        """Number of data sets."""
        return self.replicates.B

    @property
    def shared(self) -> ReplicateRows:
        """How columns are made."""
        design = replace(take_rows(self.combined, np.arange(1)), _apart=())
        return ReplicateRows(design, self.replicates.take(slice(0, 1)))

    def own(self, lane_slice: slice) -> Replicates:
        """Rows."""
        return self.replicates.take(lane_slice)

    def with_own(self, own: Replicates) -> ReplicateRows:
        """Those rows."""
        return replace(self, replicates=own)

    @property
    def lane_bytes(self) -> int:
        """What the rows of one data set take."""
        return self.replicates.lane_bytes

    def reduced(self, lane_slice: slice) -> Iterator[Reduced]:
        """Consecutive data sets; rows that cannot be used do not count."""
        part = self.replicates.take(lane_slice)
        nobs = np.bincount(part.rows.lane, ~np.isnan(part.y)).astype(np.int64)
        yield Reduced.of(part.standardised)._replace(nobs=nobs)

    def lanes(self, lane_index: Ints) -> Lanes:
        """Data sets in increasing order."""
        return self.own_lanes(lambda: self.replicates.take(as_slice(lane_index)))
