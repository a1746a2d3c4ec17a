"""Data sets with rows of their own, reduced by cross products of their columns.

Gram–Schmidt over rows (``standardise_matrices``) takes p² passes over all of them. Cross products
of the columns, summed by group, take one pass for every pair; the rest is Cholesky factors of p×p
and q×q matrices, spelled out over all lanes and groups. With X'X = L L' and T = √n L⁻ᵀ,

    X̃ = X T,    β_ols = L⁻ᵀ L⁻¹X'y,    Z̃ = Z C likewise,    Z̃_i'Z̃_i = R_i'R_i
    T_i = R_i⁻ᵀ C'[Z_i'X_i T, Z_i'y_i − Z_i'X_i β_ols],    within = total − Σ T_i'T_i

Differences of large numbers lose digits. A lane where one of them keeps less than a thousandth of
its size, or where the rank of a group is in doubt, is reported, to be standardised from its rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxhlm.core.chunks import slices
from jaxhlm.core.notation import Bools, Floats, LaneIndex
from jaxhlm.core.status import Status
from jaxhlm.design.segments import Segments
from jaxhlm.likelihood.covariance import Blocks
from jaxhlm.likelihood.lane_derivatives import MAX_UNROLLED_P, MAX_UNROLLED_Q
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.linalg.small import (
    Matrix,
    cholesky,
    entrywise,
    matmul,
    minus_dot,
    solve_lower,
    stack_entries,
)
from jaxhlm.statistics.response import EXTREME, Scaling, Standardised, concatenated
from jaxhlm.statistics.standardise import Rows, design_status, group_numbers, scatter_groups

__all__ = [
    "Tables",
    "column_pairs",
    "multipliable",
    "side_by_side",
    "standardised_from_products",
    "standardised_from_tables",
]

KEPT = 1e-3
# The mean square of a column of X within groups is zero if it is this small, else at least KEPT.
NOTHING = 1e-13
# A pivot of Z̃_i'Z̃_i this much smaller than its diagonal leaves the rank of the group in doubt.
GROUP_PIVOT = 1e-8
# So does a pivot that is smaller than this times the number of rows.
SMALL = 1e-12
# Rows that are multiplied at a time: their columns stay in the cache.
TILE_ROWS = 30_000
# Groups of lanes whose matrices are worked on at a time.
TILE_NUMBERS = 2**15


class Tables(NamedTuple):
    """Cross products of the columns of lanes, [X Z y] times √w, y less its part along X's first."""

    by_group: Matrix  # Z'[Z X y], (q, q + p + 1) object matrix of arrays (G, b)
    by_lane: Matrix  # [X y]'[X y], (p + 1, p + 1) object matrix of arrays (b,)
    group_rows: Floats  # (G, b) rows of every group, 0 where a lane lacks it
    log_w: Floats  # (b,) Σ log w
    first: Floats  # (b,) the coefficient of that part of y
    m: Floats  # (G, b) how many groups each stands for; 0 where it only adds to products

    def take(self, run: LaneIndex) -> Tables:
        """Some lanes, in memory group after group: sums over groups are then made in one order."""
        products = (entrywise(lambda x: np.ascontiguousarray(x[..., run]), M) for M in self[:2])
        return Tables(*products, *(np.ascontiguousarray(x[..., run]) for x in self[2:]))

    @staticmethod
    def beside(parts: Sequence[Tables]) -> Tables:
        """Lanes of several parts side by side."""
        if len(parts) == 1:
            return parts[0]

        def entries(matrices: Sequence[Matrix]) -> Matrix:
            out = np.empty_like(matrices[0])
            for at in np.ndindex(*out.shape):
                out[at] = np.concatenate([M[at] for M in matrices], axis=-1)
            return out

        by_group, by_lane, *rest = zip(*parts, strict=True)
        return Tables(
            entries(by_group), entries(by_lane), *(np.concatenate(x, axis=-1) for x in rest)
        )


def multipliable(p: int, q: int) -> bool:
    """Whether p columns of X and q of Z are few enough for matrices spelled out by entries."""
    return 0 < p <= MAX_UNROLLED_P and q <= MAX_UNROLLED_Q


def standardised_from_products(rows: Rows, y: Floats) -> tuple[Standardised, Bools]:
    """Standardised statistics of lanes that have rows of their own, and which lost digits.

    Args:
        rows: rows sorted by lane and group.
        y: (n,) response.

    Returns:
        The statistics, and (b,) True for lanes that must be standardised from their rows instead.
    """
    lane_segments, group_segments = Segments(rows.lane), Segments(rows.segment)
    with np.errstate(all="ignore"):
        columns, log_w = _columns(rows, y, lane_segments)
        first = _take_out_first(columns, lane_segments)
        lane_of = lane_segments.of_row[group_segments.starts]
        products = _products(columns, rows.X.shape[1], group_segments, Segments(lane_of))
        position = group_numbers(lane_of)
        group_rows = scatter_groups(group_segments.lengths.astype(float), *position)
        m = (group_rows > 0.0).astype(float)
        tables = Tables(*products, group_rows, log_w, first, m)
        return standardised_from_tables(tables, rows.blocks)


def standardised_from_tables(tables: Tables, blocks: Blocks) -> tuple[Standardised, Bools]:
    """``standardised_from_products`` of cross products, as many lanes at a time as the cache has.

    Args:
        tables: the cross products.
        blocks: columns of Z in each random term.
    """
    G, b = tables.group_rows.shape
    with np.errstate(all="ignore"):
        parts = [_reduced(tables.take(run), blocks) for run in slices(b, TILE_NUMBERS // G)]
    return side_by_side(parts)


def side_by_side(parts: Sequence[tuple[Standardised, Bools]]) -> tuple[Standardised, Bools]:
    """Lanes of several parts, standardised, and which of them lost digits."""
    if len(parts) == 1:
        return parts[0]
    standardised, lost = zip(*parts, strict=True)
    return concatenated(standardised), np.concatenate(lost)


def _columns(rows: Rows, y: Floats, lane_segments: Segments) -> tuple[list[Floats], Floats]:
    """The columns of [X Z y] times √w, contiguous, and Σ log w by lane."""
    columns = [np.ascontiguousarray(column) for column in (*rows.X.T, *rows.Z.T, y)]
    if rows.weights is None:
        return columns, np.zeros(len(lane_segments.starts))
    root_w = np.sqrt(rows.weights)
    return [root_w * column for column in columns], lane_segments.sum(np.log(rows.weights))


def _take_out_first(columns: list[Floats], lane_segments: Segments) -> Floats:
    """Subtract from y its projection on the first column of X (the mean), lane by lane."""
    x, y = columns[0], columns[-1]
    slope = lane_segments.sum(x * y) / lane_segments.sum(x * x)
    columns[-1] = y - x * lane_segments.broadcast(slope)
    return slope


def _products(
    columns: list[Floats], p: int, group_segments: Segments, lane_segments: Segments
) -> tuple[Matrix, Matrix]:
    """``Tables.by_group`` and ``by_lane`` of columns [X Z y]."""
    X, Z, y = range(p), range(p, len(columns) - 1), len(columns) - 1
    group_pairs = column_pairs(columns, Z, [*Z, *X, y])
    lane_pairs = column_pairs(columns, [*X, y], [*X, y])
    n, S = len(columns[0]), len(group_segments.starts)
    sums = {pair: np.empty(S) for pair in (*group_pairs.flat, *lane_pairs.flat)}
    cuts = np.searchsorted(group_segments.starts, np.arange(0, n, TILE_ROWS))
    for first, last in zip(cuts, [*cuts[1:], S], strict=True):
        if first == last:
            continue
        start = group_segments.starts[first]
        stop = group_segments.starts[last] if last < S else n
        product, starts = np.empty(stop - start), group_segments.starts[first:last] - start
        for (a, b), out in sums.items():
            np.multiply(columns[a][start:stop], columns[b][start:stop], out=product)
            np.add.reduceat(product, starts, out=out[first:last])
    position = group_numbers(lane_segments.of_row)
    by_group = {pair: scatter_groups(sums[pair], *position) for pair in {*group_pairs.flat}}
    by_lane = {pair: lane_segments.sum(sums[pair]) for pair in {*lane_pairs.flat}}
    return entrywise(by_group.__getitem__, group_pairs), entrywise(by_lane.__getitem__, lane_pairs)


def column_pairs(columns: Sequence[Floats], left: Sequence[int], right: Sequence[int]) -> Matrix:
    """Pairs of numbers of columns, (left, right), one for all that are products of the same."""
    same = [next(i for i in range(j + 1) if _equal(columns[i], x)) for j, x in enumerate(columns)]
    pairs = np.empty((len(left), len(right)), dtype=object)
    for i, j in np.ndindex(*pairs.shape):
        a, b = same[left[i]], same[right[j]]
        pairs[i, j] = max(a, b), min(a, b)
    return pairs


def _equal(a: Floats, b: Floats) -> bool:
    if a.ctypes.data == b.ctypes.data:
        return True
    return np.array_equal(a[:64], b[:64]) and np.array_equal(a, b)


def _reduced(tables: Tables, blocks: Blocks) -> tuple[Standardised, Bools]:
    total, group_rows, m = tables.by_lane, tables.group_rows, tables.m
    (q, width), p = tables.by_group.shape, len(total) - 1
    n = (m * group_rows).sum(axis=0)
    root_n = np.sqrt(n)
    L = cholesky(total[:p, :p])
    lost = _lost(L, total[:p, :p])
    fitted = solve_lower(L, total[:p, p])
    size = total[p, p]
    rss = size - fitted @ fitted
    T = _scaled_inverse(L, root_n)
    ZZ, ZX, Zy = (tables.by_group[:, at] for at in (slice(q), slice(q, q + p), slice(q + p, width)))
    C = np.full((q, q), 0.0, dtype=object)
    for block in blocks:
        at = np.ix_(block, block)
        all_ZZ = entrywise(lambda products: (m * products).sum(axis=0), ZZ[at])
        L_Z = cholesky(all_ZZ)
        lost |= _lost(L_Z, all_ZZ)
        C[at] = _scaled_inverse(L_Z, root_n)
    beta_ols = entrywise(lambda coefficient: coefficient / root_n, fitted)
    right = np.concatenate([matmul(ZX, T), Zy - matmul(ZX, matmul(T, beta_ols[:, None]))], axis=1)
    RZ, reduced, doubtful = _group_factors(ZZ, C, right, group_rows)
    lost |= doubtful.any(axis=0)

    def over_groups(a: int, b: int) -> Floats:
        products: Floats = np.einsum("gqb,gqb->b", reduced[:, :, a], reduced[:, :, b])
        return products

    XX, Xy = np.empty((p, p, len(n))), np.empty((p, len(n)))
    for a in range(p):
        Xy[a] = -over_groups(a, p)
        for b in range(a + 1):
            XX[a, b] = XX[b, a] = n * (a == b) - over_groups(a, b)
    residual = XX[np.arange(p), np.arange(p)] / n
    nothing = residual < NOTHING
    lost |= ~(nothing | (residual > KEPT)).all(axis=0)
    XX[nothing[:, None] | nothing[None, :]] = 0.0
    Xy[nothing] = 0.0
    yy = rss - over_groups(p, p)
    lost |= ~(np.minimum(rss, yy) > KEPT * size) | ~(size < EXTREME) | ~(rss * EXTREME > 1.0)
    # The residuals of a constant response are nothing but rounding errors.
    lost |= ~(rss > NOTHING * tables.first**2 * total[0, 0])

    s = np.sqrt(rss / n)
    random_rank = (m * np.minimum(group_rows, q)).sum(axis=0)
    nothing_known = np.zeros(len(n), bool)
    G = m.sum(axis=0)
    status = design_status(n, p, G, random_rank, nothing_known, nothing_known)
    yy = np.where(status == Status.CONVERGED, yy, np.nan)
    stats = Stats(
        RZ=RZ, TX=reduced[:, :, :p], Ty=reduced[:, :, p] / s, m=m, XX=XX, Xy=Xy / s,
        yy=yy / s**2, n=n, logw=tables.log_w, rank=np.full(len(n), float(p)),
    )  # fmt: skip
    beta_ols[0] = beta_ols[0] + tables.first * L[0, 0] / root_n
    dense = stack_entries(T, len(n)), stack_entries(C, len(n)), n, stack_entries(beta_ols, len(n))
    scaling = Scaling(*dense, s, absent=np.zeros((p, len(n)), bool))
    return Standardised(stats, scaling, status), lost


def _lost(L: Matrix, A: Matrix) -> Bools:
    """Lanes where a pivot keeps too little of its diagonal, or is not a number."""
    kept = [L[j, j] ** 2 > KEPT * A[j, j] for j in range(len(L))]
    return ~np.logical_and.reduce(kept)


def _scaled_inverse(L: Matrix, root_n: Floats) -> Matrix:
    """√n L⁻ᵀ, upper triangular."""
    identity = np.full(L.shape, 0.0, dtype=object)
    for j in range(len(L)):
        identity[j, j] = root_n
    inverse = solve_lower(L, identity)
    inverse[np.triu_indices(len(L), 1)] = 0.0
    return inverse.T


def _group_factors(
    ZZ: Matrix, C: Matrix, right: Matrix, group_rows: Floats
) -> tuple[Floats, Floats, Bools]:
    """R (G, q, q, b) with C'Z_i'Z_iC = R'R, R⁻ᵀC'right (G, q, c, b), and groups of doubtful rank.

    C is upper triangular: with Z_i'Z_i = r'r they are rC and r⁻ᵀright. A group of fewer rows than
    columns of Z has rows of zeros in both.
    """
    (q, c), (G, b) = right.shape, group_rows.shape
    R, reduced = np.zeros((G, q, q, b)), np.empty((G, q, c, b))
    r, doubtful = np.full((q, q), 0.0, dtype=object), np.zeros((G, b), bool)
    scaled = matmul(C.T, matmul(ZZ, C))
    for j in range(q):
        pivot = minus_dot(ZZ[j, j], r[:j, j], r[:j, j])
        there = group_rows > j
        least = np.maximum(GROUP_PIVOT * scaled[j, j], SMALL * group_rows)
        doubtful |= there & ~(pivot * C[j, j] ** 2 > least)
        inverse = np.where(there, 1.0 / np.sqrt(pivot), 0.0)
        for i in range(j, q):
            r[j, i] = minus_dot(ZZ[j, i], r[:j, j], r[:j, i]) * inverse
        for i in range(c):
            found = minus_dot(right[j, i], r[:j, j], reduced[:, :j, i].swapaxes(0, 1))
            np.multiply(found, inverse, out=reduced[:, j, i])
    for at, entry in np.ndenumerate(matmul(r, C)):
        R[(slice(None), *at)] = entry
    return R, reduced, doubtful
