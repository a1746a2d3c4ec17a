"""Observations (rows) of some lanes, standardised, and their numbers in the source.

Lanes either share all their rows, so that the response is a matrix (n, B), or have rows of their
own, one lane after the other. Formulas for single rows are written once, for arrays (L, n, …) with
L = B in the first case and L = 1 in the second; ``of_lane`` and ``of_group`` bring what belongs to
a lane or to a group to its rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from jaxhlm.core.notation import Floats, Ints
from jaxhlm.statistics.response import Standardised, reduce_responses
from jaxhlm.statistics.standardise import Rows, StandardisedMatrices

__all__ = ["Observations"]

V = TypeVar("V", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Observations:
    """Observations of B lanes, group after group.

    Attributes:
        matrices: the standardised rows.
        rows: the rows as they are.
        y: (n, B) responses on shared rows, or (n, 1).
        row: (n,) number of every row in the source.
        level: (S,) number, among the levels of the source, of every group.
        place: (n,) the order of the rows in the data, if not that of their numbers.
    """

    matrices: StandardisedMatrices
    rows: Rows
    y: Floats
    row: Ints
    level: Ints
    place: Ints | None = None

    @cached_property
    def standardised(self) -> Standardised:
        """Statistics of the lanes, groups not joined."""
        return reduce_responses(self.matrices, self.y)

    @property
    def num_lanes(self) -> int:
        """How many lanes there are, B."""
        return self.y.shape[1] if self.matrices.shared else len(self.matrices.n)

    @property
    def x(self) -> Floats:
        """(n, p) standardised rows of X times √w."""
        root_n = self.matrices.lane_segments.broadcast(np.sqrt(self.matrices.n))
        return self.matrices.QX * root_n[:, None]

    @property
    def z(self) -> Floats:
        """(n, q) standardised rows of Z times √w."""
        RZ = self.matrices.stats.RZ
        R = np.moveaxis(RZ, -1, 0)[self.matrices.position[1], self.matrices.position[0]]
        return np.einsum("ja,jab->jb", self.matrices.QZ, R[self.matrices.group_segments.of_row])

    def fixed(self, beta: Floats) -> Floats:
        """x'β of every row (L, n), for β (B, p) in the user's units."""
        if self.matrices.shared:
            return beta @ self.rows.X.T
        return (self.rows.X * self.of_lane(beta)).sum(axis=-1)

    def random(self, b: Floats) -> Floats:
        """z'b of every row (L, n), for b (B, G, q) in the user's units."""
        return (self.rows.Z * self.of_group(b)).sum(axis=-1)

    @property
    def root_w(self) -> Floats:
        """(n,) square roots of the prior weights."""
        root_w = self.matrices.root_w
        return np.ones(len(self.row)) if root_w is None else root_w[:, 0]

    @property
    def response(self) -> Floats:
        """(L, n) the response."""
        return self.y.T

    @property
    def row_levels(self) -> Ints:
        """(n,) number of the level of every row's group."""
        return self.level[self.matrices.group_segments.of_row]

    def of_lane(self, values: Floats) -> Floats:
        """(B, …) or (1, …) to (L, 1, …) or (L, n, …): what every row's lane has."""
        if self.matrices.shared:
            return values[:, None]
        values = np.broadcast_to(values, (self.num_lanes, *values.shape[1:]))
        return values[self.matrices.lane_segments.of_row][None]

    def of_group(self, values: Floats) -> Floats:
        """(B, G, …) to (L, n, …): what every row's group has."""
        if self.matrices.shared:
            return values[:, self.matrices.group_segments.of_row]
        number, lane = (
            part[self.matrices.group_segments.of_row] for part in self.matrices.position
        )
        return values[lane, number][None]

    @cached_property
    def data_order(self) -> Ints:
        """(n,) the rows lane after lane, each in the order of the data."""
        place = self.row if self.place is None else self.place
        return np.lexsort((place, self.matrices.lane_segments.of_row))

    def flat_rows(self, values: NDArray[V]) -> NDArray[V]:
        """(L, n) to one run of values, lane after lane in the order of the data."""
        return values[:, self.data_order].ravel()

    @property
    def row_numbers(self) -> tuple[Ints, Ints]:
        """Rows of every lane (B,), and the number in the source of each, as ``flat_rows``."""
        number = self.row[self.data_order]
        if self.matrices.shared:
            return np.full(self.num_lanes, len(number)), np.tile(number, self.num_lanes)
        return self.matrices.lane_segments.lengths, number

    def flat_units(self, values: Floats) -> Floats:
        """(B, G, …) to one run over the groups that there are, lane after lane."""
        if self.matrices.shared:
            return values.reshape(-1, *values.shape[2:])
        number, lane = self.matrices.position
        return values[lane, number]

    @property
    def unit_numbers(self) -> tuple[Ints, Ints]:
        """Groups of every lane (B,), and the number of each one's level, as ``flat_units``."""
        if self.matrices.shared:
            return np.full(self.num_lanes, len(self.level)), np.tile(self.level, self.num_lanes)
        return np.bincount(self.matrices.position[1], minlength=self.num_lanes), self.level

    def group_numbers(self, levels: int) -> Ints:
        """(B, levels + 1) the group that every level of the source is in a lane, −1 for none.

        The last column stands for a level that the source has not, so that −1 finds it.
        """
        out = np.full((1 if self.matrices.shared else self.num_lanes, levels + 1), -1)
        number, lane = self.matrices.position
        out[lane, self.level] = number
        return np.broadcast_to(out, (self.num_lanes, levels + 1))
