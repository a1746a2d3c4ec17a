"""Whether the design tells the variances and covariances of the random effects apart.

REML is the likelihood of K'y, where K spans what is orthogonal to X. Its covariance is
σ²(I + Σ D_ab K'V_abK) with V_ab = Σ_i (z_ia z_ib' + z_ib z_ia'), so the entries of D that are free
are identified where no combination S of them but zero has K'V(S)K = 0 (Rothenberg 1971,
Econometrica 39, 577-591: the parameters enter linearly). σ² has the rows to itself that are beyond
what X and Z span together; where there are none it is one more of the matrices. K'V(S)K depends
on X only through N, the directions of X that lie in the span of Z: with V(S) = Q A(S) Q' and A(S)
block diagonal, of R_i S R_i',

    K'V(S)K = 0   ⇔   (I − P_N) A(S) (I − P_N) = 0,

which no scale of y, X, Z or the weights changes. Nearly every design is decided without algebra,
by the first of these, and the others by the second:

* Z_i has full column rank in more groups than N has dimensions: identified. (A(S) would vanish on a
  space of more dimensions than the q − 1 per group on which it can.)
* Else the Gram matrix of these matrices, tr((I − P_N) Ã_a (I − P_N) Ã_b), is singular or not, with
  R_i S R_i' whitened in Ã by I + R_i R_i' so that no group outweighs the others. Where a group
  is much longer than others, a singular matrix is looked at once more with variances so large that
  all groups count.

For ML there is no K, and N is empty.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxhlm.core.notation import Bools, Floats, Ints
from jaxhlm.likelihood.covariance import Blocks, theta_index
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.linalg.small import array_namespace

__all__ = [
    "FLAT",
    "GROUP_RANK_TOL",
    "clearly_identified",
    "design_only",
    "flat_parameters",
    "group_ranks",
    "identified",
]

# A direction of X of which less than this share of the squared length is not spanned by Z lies in
# the span of Z: random effects as large as the error would change the criterion by less, per row,
# than the optimiser can see.
SPANNED = 1e-10
# Directions of a Gram matrix that are this small are rounding.
ROUNDING = 1e-14
# Eigenvalues of the Gram matrix, whose diagonal is at most 1. One contrast among G groups that are
# else spanned gives about 1/G; rounding leaves 1e-15.
FLAT = 1e-10
GROUP_RANK_TOL = 1e-12
# Columns of Z this many times as long in one group as in another are uneven.
UNEVEN = 100.0
# An entry of D that a flat direction moves by less than this share of the most that it moves stays.
NAMED = 1e-6


def group_ranks(RZ: Floats) -> Ints:
    """Rank of Z_i, (G, q, q, …) to (G, …), of R_i with rows of zeros at dependent columns."""
    ranks: Ints = (array_namespace(RZ).einsum("gaa...->ga...", RZ) != 0.0).sum(axis=1)
    return ranks


def identified(stats: Stats, blocks: Blocks, reml: bool, asked: Bools | None = None) -> Bools:
    """Whether every direction of θ is identified, (b,).

    Args:
        stats: statistics of b lanes, equal groups joined or not.
        blocks: columns of Z in each random term.
        reml: REML criterion instead of ML deviance.
        asked: (B,) lanes that it is asked of, b being B, or 1 where they share a design; the
            statistics of others may be anything, and they get True. All if None.
    """
    clear = clearly_identified(stats, reml)
    if asked is not None:
        clear |= ~asked if len(asked) == len(clear) else not asked.any()
    doubtful = np.flatnonzero(~clear)
    if len(doubtful):
        clear[doubtful] = _directions(stats, blocks, reml, doubtful)[0][:, 0] > FLAT
        evened, uneven = _evened(stats)
        again = doubtful[~clear[doubtful] & uneven[doubtful]]
        if len(again):
            clear[again] = _directions(evened, blocks, reml, again)[0][:, 0] > FLAT
    return clear


def clearly_identified(stats: Stats, reml: bool) -> Bools:
    """Lanes (b,) that counting decides, traceable; False where algebra is needed."""
    q, p = stats.TX.shape[1:3]
    ranks = group_ranks(stats.RZ)
    clear: Bools = (stats.m * (ranks == q)).sum(axis=0) > (p if reml else 0)
    return clear & (stats.n - (stats.m * ranks).sum(axis=0) > p) if reml else clear


def _evened(stats: Stats) -> tuple[Stats, Bools]:
    """Columns of Z in units in which all groups count alike, and where that is another unit, (b,).

    Beside a group whose column is thousands of times as long, what the others tell about its
    variance is lost to rounding where that is about the error's, and not where it is large.
    """
    squares = (stats.RZ**2).sum(axis=1)
    largest = squares.max(axis=0)
    there = (squares > GROUP_RANK_TOL**2 * largest) & (stats.m[:, None] > 0.0)
    smallest = np.where(there, squares, np.inf).min(axis=0)
    known = np.isfinite(smallest) & (smallest > 0.0)
    unit = np.sqrt(np.where(known, smallest, 1.0))
    uneven = (known & (largest > UNEVEN**2 * smallest)).any(axis=0)
    return stats._replace(RZ=stats.RZ / unit), np.asarray(uneven)


def flat_parameters(
    stats: Stats, C: Floats | None, blocks: Blocks, reml: bool
) -> list[tuple[int, int]]:
    """Rows and columns of the free entries of D that a flat direction of one lane goes through.

    Args:
        stats, blocks, reml: as for ``identified``.
        C: (q, q) with D = C D̃ C', or None where D is that of the statistics.
    """
    values, vectors = _directions(stats, blocks, reml, np.zeros(1, np.int64))
    q = stats.RZ.shape[2]
    C = np.eye(q) if C is None else C
    size = np.linalg.norm(np.linalg.inv(C), axis=0)
    moved = np.zeros((q, q))
    for value, vector in zip(values[0], vectors[0].T, strict=True):
        if value <= FLAT:
            S = np.zeros((q, q))
            for entry, (row, column) in zip(vector, theta_index(blocks), strict=False):
                S[row, column] = S[column, row] = entry
            moved += np.abs(C @ S @ C.T) * size[:, None] * size
    return [at for at in theta_index(blocks) if moved[at] > NAMED * moved.max()]


def design_only(RZ: Floats) -> Stats:
    """Statistics (no fixed effects, no response) of groups with these R_i (G, q, q, b)."""
    G, q, _, b = RZ.shape
    fields = np.zeros((G, q, 0, b)), np.zeros((G, q, b)), np.ones((G, b)), np.zeros((0, 0, b))
    return Stats(RZ, *fields, *[None] * 5)


def _directions(
    stats: Stats, blocks: Blocks, reml: bool, lane_index: Ints
) -> tuple[Floats, Floats]:
    """Eigenvalues (l, k), ascending, and vectors (l, k, k) of the Gram matrix of some lanes.

    The vectors hold the entries of symmetric S on the scale of the columns of Z, in the order of θ.
    For REML there may be one entry more, of σ²: where X and Z together span all rows, it may
    depend on the others.
    """
    fields = stats.RZ, stats.TX, stats.XX, stats.m
    R, T, XX, m = (np.moveaxis(x[..., lane_index], -1, 0) for x in fields)
    L: Any = np.linalg.cholesky(np.eye(R.shape[-1]) + R @ R.mT)
    axes, shares = _beyond(T, XX)
    inside, T = (shares <= SPANNED) & reml, np.linalg.solve(L, T @ axes[:, None])
    N = _rows(T * inside[:, None, None])
    N = N @ _inverse_root(N.mT @ N)
    white: Any = np.linalg.solve(L, R)
    at = theta_index(blocks)
    variances = np.stack([_direction(white, a, a) for a in range(R.shape[-1])], axis=1)
    # A covariance is measured by the variances beside it: it may be nothing but rounding.
    size = np.sqrt(np.einsum("lkgij,lg->lk", variances**2, m))
    scale = np.stack([np.sqrt(size[:, a] * size[:, b]) for a, b in at], axis=1)
    scale = np.where(scale > 0.0, scale, 1.0)
    forms = np.stack([_direction(white, *i) for i in at], axis=1) / scale[:, :, None, None, None]
    if reml and (full := _full(stats, lane_index, inside)).any():
        more = np.sqrt(1.0 / np.maximum(shares, SPANNED)) * (full[:, None] & ~inside)
        forms = np.concatenate([forms, _identity(R, L, full)[:, None]], axis=1)
        gram = _gram(forms, N, m)
        H = _rows(T * more[:, None, None])
        _add_low_rank(gram, forms, H - N @ (N.mT @ H))
        # The residual of σ² on the others may be nothing but rounding, then of either sign.
        squared = gram[:, -1, -1]
        own = np.sqrt(np.where(full & (squared > ROUNDING), squared, 1.0))[:, None]
        gram[~full, -1, -1] = 1.0
        gram[:, -1] /= own
        gram[:, :, -1] /= own
        scale = np.concatenate([scale, own], axis=1)
    else:
        gram = _gram(forms, N, m)
    values, vectors = np.linalg.eigh(gram)
    return values, vectors / scale[:, :, None]


def _rows(T: Floats) -> Floats:
    """(l, G, q, r) to (l, Gq, r)."""
    return T.reshape(len(T), T.shape[1] * T.shape[2], T.shape[3])


def _full(stats: Stats, lane_index: Ints, inside: Bools) -> Bools:
    """Whether X and Z together span all rows, (l,)."""
    random_rank = (stats.m * group_ranks(stats.RZ)).sum(axis=0)[lane_index]
    full: Bools = random_rank + (~inside).sum(axis=1) >= stats.n[lane_index]
    return full


def _gram(A: Floats, N: Floats, m: Floats) -> Floats:
    """tr((I − NN') A (I − NN') B) (l, k, k) of block diagonal A (l, k, G, q, q)."""
    num_lanes, k, G, q, _ = A.shape
    AN = _product(A, N)
    NtAN = (N.mT[:, None] @ AN).reshape(num_lanes, k, N.shape[2] ** 2)
    AN = AN.reshape(num_lanes, k, AN.shape[2] * AN.shape[3])
    weighted = (A * m[:, None, :, None, None]).reshape(num_lanes, k, G * q * q)
    out: Floats = weighted @ A.reshape(weighted.shape).mT - 2.0 * AN @ AN.mT + NtAN @ NtAN.mT
    return out


def _product(A: Floats, N: Floats) -> Floats:
    """A N (l, k, Gq, r) of block diagonal A (l, k, G, q, q)."""
    num_lanes, k, G, q, _ = A.shape
    r = N.shape[2]
    return (A @ N.reshape(num_lanes, 1, G, q, r)).reshape(num_lanes, k, G * q, r)


def _identity(R: Floats, L: Floats, full: Bools) -> Floats:
    """What σ² adds to the groups, whitened, (l, G, q, q); zero in other lanes than those marked."""
    there = (R != 0.0).any(axis=3) & full[:, None, None]
    half = np.linalg.solve(L, there[..., None] * np.eye(R.shape[-1]))
    return half @ half.mT


def _add_low_rank(gram: Floats, A: Floats, H: Floats) -> None:
    """Add HH' to the last of the matrices, in place; H is orthogonal to N.

    Where X and Z span all rows, σ² adds the inverse of Q'(I − P_X)Q beside N. That is
    I + Σ_j t_j t_j'/s_j with t_j = Q'x_j for directions x_j of X, of length 1, of which a share s_j
    is not spanned by Z.
    """
    traces = (_product(A, H) * H[:, None]).sum(axis=(2, 3))
    gram[:, -1] += traces
    gram[:, :, -1] += traces
    gram[:, -1, -1] += ((H.mT @ H) ** 2).sum(axis=(1, 2))


def _direction(R: Floats, a: int, b: int) -> Floats:
    """R E R' (l, G, q, q) with E the symmetric matrix of ones at (a, b) and (b, a)."""
    product = R[..., :, None, a] * R[..., None, :, b]
    return product if a == b else product + product.mT


def _beyond(T: Floats, XX: Floats) -> tuple[Floats, Floats]:
    """Directions of X (l, p, p), X'X = I, and the shares (l, p) of them that Z does not span."""
    T = _rows(T)
    root = _inverse_root(XX + T.mT @ T)
    shares, vectors = np.linalg.eigh(root.mT @ XX @ root)
    return root @ vectors, shares


def _inverse_root(A: Floats) -> Floats:
    """B (l, p, p) with B'AB the identity on the range of A, and zero elsewhere."""
    values, vectors = np.linalg.eigh(A)
    there = values > ROUNDING * values.max(axis=1, keepdims=True, initial=0.0)
    inverse = np.where(there, 1.0 / np.sqrt(np.where(there, values, 1.0)), 0.0)
    return vectors * inverse[:, None, :]
