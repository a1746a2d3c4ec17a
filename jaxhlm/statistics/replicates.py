"""Many data sets with rows of their own, brought to standardised lanes run by run."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from jaxhlm.core.notation import Bools, Floats, Ints
from jaxhlm.core.status import Status
from jaxhlm.design.segments import Segments, orthonormalise
from jaxhlm.likelihood.suffstats import GROUP_FIELDS
from jaxhlm.statistics.observations import Observations
from jaxhlm.statistics.products import multipliable, standardised_from_products
from jaxhlm.statistics.response import Standardised, reduce_responses
from jaxhlm.statistics.standardise import RANK_TOL, Rows, standardise_matrices

__all__ = ["Replicates", "merged", "standardised_lanes", "take"]


@dataclass(frozen=True)
class Replicates:
    """Rows of many data sets, sorted by data set and then by group.

    Attributes:
        y: (n,) response.
        rows: the design rows; ``rows.lane`` numbers the data sets.
        row: (n,) number of every row in the source.
        full_rank: of Z in data sets with every level of its factors; None where it has none.
    """

    y: Floats
    rows: Rows
    row: Ints
    full_rank: int | None = None

    @property
    def B(self) -> int:
        """Number of data sets."""
        return int(self.rows.lane[-1]) + 1

    @property
    def lane_bytes(self) -> int:
        """What the rows of one data set take while they are standardised."""
        row = self.row_bytes(self.rows.X.shape[1], self.rows.Z.shape[1])
        return row * -(-len(self.y) // self.B)

    @staticmethod
    def row_bytes(p: int, q: int) -> int:
        """What a row of X (n, p) and Z (n, q) takes meanwhile."""
        return 8 * 4 * (p + q)

    @property
    def standardised(self) -> Standardised:
        """Standardised lanes of all of them."""
        return self._with_all_levels(standardised_lanes(self.rows, self.y))

    def _with_all_levels(self, standardised: Standardised) -> Standardised:
        """Lanes that lack a level of a factor of Z are not identified: its columns mean less there.

        Without the first level the others add up to the intercept, and independent terms would be
        another model than the one that ``fit`` makes of the levels that are left.
        """
        if self.full_rank is None:
            return standardised
        R = orthonormalise(self.rows.Z, Segments(self.rows.lane), RANK_TOL)[1]
        lower = (np.diagonal(R, axis1=1, axis2=2) != 0.0).sum(axis=1) < self.full_rank
        lower &= standardised.status == Status.CONVERGED
        yy = np.where(lower, np.nan, standardised.stats.yy)
        status = np.where(lower, Status.NOT_IDENTIFIED, standardised.status)
        return standardised._replace(stats=standardised.stats._replace(yy=yy), status=status)

    def observations(self, level: Ints, place: Ints | None = None) -> Observations:
        """The rows of all of them.

        Args:
            level: (n,) number of every row's level, among those of the source.
            place: (n,) the order of the rows in the data, if not that of their numbers.
        """
        matrices = standardise_matrices(self.rows)
        levels = level[matrices.group_segments.starts]
        return Observations(matrices, self.rows, self.y[:, None], self.row, levels, place)

    def take(self, lane_index: slice | Ints) -> Replicates:
        """Some data sets, in increasing order."""
        if isinstance(lane_index, slice):
            start, stop = np.searchsorted(self.rows.lane, [lane_index.start, lane_index.stop])
            part: slice | Ints = slice(int(start), int(stop))
        else:
            part = np.flatnonzero(np.isin(self.rows.lane, lane_index))
        return Replicates(self.y[part], take(self.rows, part), self.row[part], self.full_rank)


def take(rows: Rows, part: slice | Ints | Bools) -> Rows:
    """Some of the rows, their lanes numbered anew."""
    lane = rows.lane[part]
    starts = np.r_[True, lane[1:] != lane[:-1]]
    return replace(
        rows,
        X=rows.X[part],
        Z=rows.Z[part],
        segment=rows.segment[part],
        lane=np.cumsum(starts) - 1,
        weights=None if rows.weights is None else rows.weights[part],
    )


def standardised_lanes(rows: Rows, y: Floats) -> Standardised:
    """Standardised lanes from cross products, from rows where those lose digits or are too many.

    Args:
        rows: rows sorted by lane and group.
        y: (n,) response.
    """
    if not multipliable(rows.X.shape[1], rows.Z.shape[1]):
        return reduce_responses(standardise_matrices(rows), y[:, None])
    standardised, lost = standardised_from_products(rows, y)
    if not lost.any():
        return standardised
    part = lost[rows.lane]
    return merged(
        standardised, reduce_responses(standardise_matrices(take(rows, part)), y[part, None]), lost
    )


def merged(standardised: Standardised, again: Standardised, lane_mask: Bools) -> Standardised:
    """The lanes of ``again``, which may have fewer groups, in place of those marked."""
    at = np.flatnonzero(lane_mask)
    for mine, other in ((standardised.stats, again.stats), (standardised.scaling, again.scaling)):
        for name, values, others in zip(mine._fields, mine, other, strict=True):
            if name in GROUP_FIELDS:
                values[..., at] = 0.0
                values[: len(others), ..., at] = others
            else:
                values[..., at] = others
    standardised.status[at] = again.status
    return standardised
