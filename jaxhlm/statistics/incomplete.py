"""Responses on one design of which each misses rows of its own, or weighs them.

Cross products x_a'diag(w)x_b of columns that all responses share are linear in the weights, which
are 0 for rows that are missing. So products of pairs of columns are made once, and a matrix product
with the weights sums them for many responses: no rows are copied, and responses that miss different
rows stay together. From there all is as for lanes with rows of their own (``products``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from jaxhlm.core.chunks import CHUNK_BYTES, as_slice, on_one_blas_thread, slices
from jaxhlm.core.notation import Bools, Floats, Ints
from jaxhlm.design.segments import Segments
from jaxhlm.linalg.small import Matrix, entrywise, unroll
from jaxhlm.statistics.products import (
    Tables,
    column_pairs,
    multipliable,
    side_by_side,
    standardised_from_tables,
)
from jaxhlm.statistics.response import Standardised
from jaxhlm.statistics.standardise import Rows

__all__ = ["PairProducts", "WeightedRows"]

# Responses are multiplied in tiles at fixed places, so that no result depends on its neighbours.
TILE_LANES = 512
# Numbers of the responses of a tile.
TILE_NUMBERS = 2**20


class PairProducts(NamedTuple):
    """Products of pairs of columns, and where in a table each belongs."""

    values: Floats  # (pairs, n)
    place: Matrix  # numbers of the products

    @staticmethod
    def of(columns: list[Floats], pairs: Matrix) -> PairProducts:
        """The products of pairs, each once."""
        number = {pair: i for i, pair in enumerate(dict.fromkeys(pairs.flat))}
        values = np.stack([columns[a] * columns[b] for a, b in number])
        return PairProducts(values, entrywise(number.__getitem__, pairs))


@dataclass(frozen=True, eq=False)
class WeightedRows:
    """The rows of a design that many responses share, each with its own weights of them.

    Attributes:
        rows: all rows, sorted by group.
    """

    rows: Rows

    @property
    def usable(self) -> bool:
        """Whether the columns are few enough, and their products small enough to be kept."""
        p, q = self.rows.X.shape[1], self.rows.Z.shape[1]
        pairs = p * (p + 1) // 2 + q * (p + q)
        return multipliable(p, q) and 8 * len(self.rows.X) * pairs <= CHUNK_BYTES

    @property
    def lane_bytes(self) -> int:
        """What the groups of one response take while they are reduced and fitted."""
        p, q = self.rows.X.shape[1], self.rows.Z.shape[1]
        return 8 * len(self.segments.starts) * 4 * q * (p + q + 2)

    @cached_property
    def segments(self) -> Segments:
        """The rows of each group."""
        return Segments(self.rows.segment)

    @cached_property
    def products(self) -> tuple[PairProducts, PairProducts]:
        """Products of the columns that are summed by group, Z'[Z X], and by lane, X'X."""
        p, columns = self.rows.X.shape[1], [*self.rows.X.T, *self.rows.Z.T]
        X, Z = range(p), range(p, len(columns))
        pairs = column_pairs(columns, Z, [*Z, *X]), column_pairs(columns, X, X)
        by_group, by_lane = (PairProducts.of(columns, some) for some in pairs)
        return by_group, by_lane

    @on_one_blas_thread
    def standardised(self, Y: Floats, W: Floats | None, which: Ints) -> tuple[Standardised, Bools]:
        """Standardised statistics of some responses, and which lost digits, each (b,).

        Args:
            Y: (n, B) responses, NaN in rows that are left out.
            W: (n, B) prior weights, or None where ``rows`` has those of all.
            which: (b,) columns of Y, in increasing order.
        """
        width = min(TILE_LANES, max(1, TILE_NUMBERS // len(Y)))
        waiting, parts = [], []
        with np.errstate(all="ignore"):
            for tile in slices(Y.shape[1], width):
                first, last = np.searchsorted(which, [tile.start, tile.stop])
                if first < last:
                    tables = self._tables(Y[:, tile], self._weights(W, tile))
                    waiting.append(tables.take(as_slice(which[first:last] - tile.start)))
                # Reduced while they are in the cache, and few of them with others.
                if waiting and (last == len(which) or sum(len(t.first) for t in waiting) >= width):
                    tables = Tables.beside(waiting)
                    parts.append(standardised_from_tables(tables, self.rows.blocks))
                    waiting.clear()
        return side_by_side(parts)

    def _weights(self, W: Floats | None, tile: slice) -> Floats | None:
        """(n, b) or (n, 1) prior weights; None where they are 1."""
        if W is not None:
            return W[:, tile]
        own = self.rows.weights
        return None if own is None else own[:, None]

    def _tables(self, Y: Floats, W: Floats | None) -> Tables:
        """Cross products of responses (n, b) with weights (n, b) or (n, 1)."""
        X, Z, present = self.rows.X, self.rows.Z, ~np.isnan(Y)
        y, there = np.where(present, Y, 0.0), present.astype(float)
        w, log_w = there, np.zeros(Y.shape[1])
        if W is not None:
            w = np.where(present, W, 0.0)
            log_w = np.log(np.where(present, W, 1.0)).sum(axis=0)
        first = X[:, 0] @ (y if W is None else w * y) / (X[:, 0] ** 2 @ w)
        y -= X[:, [0]] * first
        wy = np.multiply(w, y, out=y if W is None else None)
        of_group, of_lane = self.products
        by_group = self.segments.products(of_group.values.T, w)
        by_lane = of_lane.values @ w
        ZT = entrywise(lambda i: by_group[:, i], of_group.place)
        Zy = unroll(self.segments.products(Z, wy), 1, 1)[:, None]
        p = X.shape[1]
        total = np.empty((p + 1, p + 1), dtype=object)
        total[:p, :p] = entrywise(by_lane.__getitem__, of_lane.place)
        total[p, :p] = total[:p, p] = unroll(X.T @ wy, 1)
        total[p, p] = np.einsum("ij,ij->j", wy, y)
        group_rows = self.segments.sum(there)
        m = (group_rows > 0.0).astype(float)
        return Tables(np.concatenate([ZT, Zy], axis=1), total, group_rows, log_w, first, m)
