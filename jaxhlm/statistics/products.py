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

from typing import NamedTuple

import numpy as np

from jaxhlm.core.notation import Bools, Floats, Ints
from jaxhlm.core.status import Status
from jaxhlm.design.segments import Segments
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.linalg.small import Matrix, cholesky, entrywise, matmul, solve_lower, stack_entries
from jaxhlm.statistics.response import EXTREME, Scaling, Standardised
from jaxhlm.statistics.standardise import Rows, design_status, scatter_groups

__all__ = ["Tables", "standardised_from_products"]

KEPT = 1e-3
# The mean square of a column of X within groups is zero if it is this small, else at least KEPT.
NOTHING = 1e-13
# A pivot of Z̃_i'Z̃_i this much smaller than its diagonal leaves the rank of the group in doubt.
GROUP_PIVOT = 1e-8
# So does a pivot that is smaller than this times the number of rows.
SMALL = 1e-12
# Rows that are multiplied at a time: their columns stay in the cache.
TILE_ROWS = 30_000


class Tables(NamedTuple):
    """Cross products of the columns [X Z y], one array for each pair that occurs."""

    by_group: Matrix  # (p + q + 1, p + q + 1) object matrix of (S,) arrays
    by_lane: Matrix  # the same of (b,) arrays


def standardised_from_products(rows: Rows, y: Floats) -> tuple[Standardised, Bools]:
    """Standardised statistics of lanes that have rows of their own, and which lost digits.

    Args:
        rows: rows sorted by lane and group.
        y: (n,) response.

    Returns:
        The statistics, and (b,) True for lanes that must be standardised from their rows instead.
    """
    lane_segments, group_segments = Segments(rows.lane), Segments(rows.segment)
    lane_of = lane_segments.of_row[group_segments.starts]
    n = lane_segments.lengths.astype(float)
    with np.errstate(all="ignore"):
        columns, log_w = _columns(rows, y, lane_segments)
        first = _take_out_first(columns, lane_segments)
        tables = _tables(columns, group_segments, Segments(lane_of))
        return _reduced(tables, rows, n, log_w, first, group_segments.lengths, lane_of)


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


def _tables(columns: list[Floats], group_segments: Segments, lane_segments: Segments) -> Tables:
    """Sums of products by group and by lane; a column that is there twice is multiplied once."""
    k, n = len(columns), len(columns[0])
    same = [next(i for i in range(j + 1) if _equal(columns[i], columns[j])) for j in range(k)]
    pairs = sorted({(max(a, b), min(a, b)) for a in same for b in same})
    sums = np.empty((len(pairs), len(group_segments.starts)))
    cuts = np.searchsorted(group_segments.starts, np.arange(0, n, TILE_ROWS))
    for first, last in zip(cuts, [*cuts[1:], len(group_segments.starts)], strict=True):
        if first == last:
            continue
        start = group_segments.starts[first]
        stop = group_segments.starts[last] if last < len(group_segments.starts) else n
        product, starts = np.empty(stop - start), group_segments.starts[first:last] - start
        for out, (a, b) in zip(sums, pairs, strict=True):
            np.multiply(columns[a][start:stop], columns[b][start:stop], out=product)
            np.add.reduceat(product, starts, out=out[first:last])
    by_lane = np.add.reduceat(sums, lane_segments.starts, axis=1)
    tables = Tables(np.empty((k, k), dtype=object), np.empty((k, k), dtype=object))
    position = {pair: i for i, pair in enumerate(pairs)}
    for i, j in np.ndindex(k, k):
        a, b = same[i], same[j]
        at = position[max(a, b), min(a, b)]
        tables.by_group[i, j], tables.by_lane[i, j] = sums[at], by_lane[at]
    return tables


def _equal(a: Floats, b: Floats) -> bool:
    if a.ctypes.data == b.ctypes.data:
        return True
    return np.array_equal(a[:64], b[:64]) and np.array_equal(a, b)


def _reduced(
    tables: Tables,
    rows: Rows,
    n: Floats,
    log_w: Floats,
    first: Floats,
    group_rows: Ints,
    lane_of: Ints,
) -> tuple[Standardised, Bools]:
    p, q = rows.X.shape[1], rows.Z.shape[1]
    fixed, random, root_n = slice(0, p), slice(p, p + q), np.sqrt(n)
    total = tables.by_lane
    L = cholesky(total[fixed, fixed])
    lost = _lost(L, total[fixed, fixed])
    fitted = solve_lower(L, total[fixed, -1])
    size = total[-1, -1]
    rss = size - fitted @ fitted
    T = _scaled_inverse(L, root_n)
    C = np.full((q, q), 0.0, dtype=object)
    for block in rows.blocks:
        at = np.ix_(block, block)
        L_Z = cholesky(total[random, random][at])
        lost |= _lost(L_Z, total[random, random][at])
        C[at] = _scaled_inverse(L_Z, root_n)

    group_C, group_T = _broadcast(C, lane_of), _broadcast(T, lane_of)
    beta_ols = np.empty(p, dtype=object)
    for j in range(p):
        beta_ols[j] = fitted[j] / root_n
    beta = matmul(group_T, _broadcast(beta_ols, lane_of)[:, None])
    ZX, Zy = tables.by_group[random, fixed], tables.by_group[random, -1:]
    right = np.concatenate([matmul(ZX, group_T), Zy - matmul(ZX, beta)], axis=1)
    R, reduced, doubtful = _group_factor(
        matmul(group_C.T, matmul(tables.by_group[random, random], group_C)),
        matmul(group_C.T, right),
        group_rows,
    )
    lane_starts = Segments(lane_of).starts
    lost |= np.add.reduceat(doubtful.astype(float), lane_starts) > 0.0

    def over_groups(a: int, b: int) -> Floats:
        squares = sum(reduced[c, a] * reduced[c, b] for c in range(q))
        return np.add.reduceat(squares, lane_starts)

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
    lost |= ~(rss > NOTHING * first**2 * total[0, 0])

    s = np.sqrt(rss / n)
    G = np.bincount(lane_of)
    position = np.arange(len(lane_of)) - np.repeat(np.cumsum(G) - G, G), lane_of
    Ty = _scattered(reduced[:, p:], *position)[:, :, 0] / s
    random_rank = np.add.reduceat(np.minimum(group_rows, q), lane_starts)
    nothing_known = np.zeros(len(n), bool)
    status = design_status(n, p, G, random_rank, nothing_known, nothing_known)
    yy = np.where(status == Status.CONVERGED, yy, np.nan)
    stats = Stats(
        RZ=_scattered(R, *position), TX=_scattered(reduced[:, :p], *position), Ty=Ty,
        m=scatter_groups(np.ones(len(lane_of)), *position), XX=XX, Xy=Xy / s,
        yy=yy / s**2, n=n, logw=log_w, rank=np.full(len(n), float(p)),
    )  # fmt: skip
    beta_ols[0] = beta_ols[0] + first * L[0, 0] / root_n
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


def _broadcast(M: Matrix, lane_of: Ints) -> Matrix:
    """Entries (b,) of lanes as entries (S,) of their groups."""
    return entrywise(lambda entry: entry if isinstance(entry, float) else entry[lane_of], M)


def _group_factor(A: Matrix, right: Matrix, group_rows: Ints) -> tuple[Matrix, Matrix, Bools]:
    """R with A = R'R, R⁻ᵀ right, and groups of doubtful rank.

    A group of fewer rows than columns of Z has rows of zeros in both.
    """
    q = len(A)
    R, reduced = np.full((q, q), 0.0, dtype=object), right.copy()
    doubtful = np.zeros(len(group_rows), bool)
    for j in range(q):
        pivot = A[j, j] - sum(R[c, j] ** 2 for c in range(j))
        there = group_rows > j
        doubtful |= there & ~(pivot > np.maximum(GROUP_PIVOT * A[j, j], SMALL * group_rows))
        inverse = np.where(there, 1.0 / np.sqrt(pivot), 0.0)
        for i in range(j, q):
            R[j, i] = (A[j, i] - sum(R[c, j] * R[c, i] for c in range(j))) * inverse
        for i in range(right.shape[1]):
            found = right[j, i] - sum(R[c, j] * reduced[c, i] for c in range(j))
            reduced[j, i] = found * inverse
        for row in (R[j, j:], reduced[j]):
            row[:] = [np.where(there, entry, 0.0) for entry in row]
    return R, reduced, doubtful


def _scattered(M: Matrix, number: Ints, lane: Ints) -> Floats:
    """Entries (S,) of groups into (G, …, b), zeros where a lane has fewer groups."""
    out = np.zeros((number.max() + 1, *M.shape, lane.max() + 1))
    for i in np.ndindex(*M.shape):
        if not isinstance(M[i], float):
            out[(number, *i, lane)] = M[i]
    return out
