"""What a group contributes to the statistics without one of its rows.

The sums are over the rows that stay, factored anew, and not differences: no digits cancel however
much the row weighs. The time for a group grows with the square of its length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jaxhlm.core.notation import Floats, Ints
from jaxhlm.design.identified import GROUP_RANK_TOL, group_ranks
from jaxhlm.design.segments import Segments, orthonormalise
from jaxhlm.statistics.group_contributions import residual_rows
from jaxhlm.statistics.observations import Observations
from jaxhlm.statistics.standardise import NOTHING

__all__ = ["GroupWithoutRow", "RowsApart"]


class GroupWithoutRow(NamedTuple):
    """Statistics of N groups, each without one row; the fields of ``Stats``, group by group."""

    RZ: Floats  # (q, q, N)
    TX: Floats  # (q, p, N)
    Ty: Floats  # (q, N)
    m: Floats  # (N,) 0 where the row was the only one
    XX: Floats  # (p, p, N)
    Xy: Floats  # (p, N)
    yy: Floats  # (N,)
    n: Floats  # (N,)
    logw: Floats  # (N,)
    rank: Floats  # (N,) of Z


@dataclass(frozen=True)
class RowsApart:
    """Standardised rows of B fits, as their statistics are made of them, and which fit has which.

    Attributes:
        x: (n, p), z: (n, q), y: (n, B) or (n, 1) standardised rows times √w.
        log_w: (n,) logarithms of the weights.
        groups: the rows of every group.
        fit: (N,) fit, group: (N,) number of the group within it, row: (N,) row of every pair of a
            fit and a row of it, the rows of a fit in the order of the data.
        lengths: (B,) rows of every fit.
    """

    x: Floats
    z: Floats
    y: Floats
    log_w: Floats
    groups: Segments
    fit: Ints
    group: Ints
    row: Ints
    lengths: Ints

    @staticmethod
    def of(rows: Observations) -> RowsApart:
        """The rows of some lanes."""
        matrices, standardised = rows.matrices, rows.standardised
        s, groups = standardised.scaling.s, matrices.group_segments
        lane = matrices.lane_segments.of_row
        y = residual_rows(matrices, standardised, rows.y)
        y = y / (s if matrices.shared else s[lane][:, None])
        B, order = rows.num_lanes, rows.data_order
        row = np.tile(order, B) if matrices.shared else order
        fit = np.repeat(np.arange(B), len(order)) if matrices.shared else lane[order]
        number = matrices.position[0][groups.of_row[row]]
        log_w, lengths = 2.0 * np.log(rows.root_w), rows.row_numbers[0]
        return RowsApart(rows.x, rows.z, y, log_w, groups, fit, number, row, lengths)

    def without(self, pairs: slice) -> GroupWithoutRow:
        """The group of the row of every pair without that row, which counts as a row of zeros."""
        row, fit = self.row[pairs], self.fit[pairs]
        group = self.groups.of_row[row]
        length = self.groups.lengths[group]
        copies = Segments(np.repeat(np.arange(len(row)), length))
        copy = copies.of_row
        at = self.groups.starts[group][copy] + np.arange(len(copy)) - copies.starts[copy]
        stays = at != row[copy]
        x, z = self.x[at] * stays[:, None], self.z[at] * stays[:, None]
        y = self.y[at, fit[copy] if self.y.shape[1] > 1 else np.zeros_like(copy)] * stays
        Q, RZ = orthonormalise(z, copies, GROUP_RANK_TOL, NOTHING)
        Ty = copies.sum(Q * y[:, None])
        y = y - (Q * copies.broadcast(Ty)).sum(axis=1)
        TX = np.stack([copies.sum(Q[:, [a]] * x) for a in range(Q.shape[1])], axis=1)
        x = x - sum(Q[:, [a]] * copies.broadcast(TX[:, a]) for a in range(Q.shape[1]))
        found = GroupWithoutRow(
            RZ, TX, Ty, (length > 1) * 1.0, copies.gram(x), copies.sum(x * y[:, None]),
            copies.sum(y**2), length - 1.0, copies.sum(self.log_w[at] * stays),
            group_ranks(np.moveaxis(RZ, 0, -1)[None])[0].astype(float),
        )  # fmt: skip
        return GroupWithoutRow(*(np.moveaxis(x, 0, -1) for x in found))
