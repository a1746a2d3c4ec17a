"""Whether the design tells the variances and covariances of the random effects apart.

REML is the likelihood of K'y, where K spans what is orthogonal to X. Its covariance is
σ²(I + Σ D_ab K'V_abK) with V_ab = Σ_i (z_ia z_ib' + z_ib z_ia'), so the entries of D that are free
are identified where no combination S of them but zero has K'V(S)K = 0 (Rothenberg 1971,
Econometrica 39, 577-591: the parameters enter linearly). As long as some rows are beyond the reach
of X and Z together, σ² has them to itself. K'V(S)K depends on X only through N, the directions of X
that lie in the span of Z: with V(S) = Q A(S) Q' and A(S) of blocks R_i S R_i',

    K'V(S)K = 0   ⇔   (I − P_N) A(S) (I − P_N) = 0,

which no scale of y, X, Z or the weights changes. Nearly every design is decided without algebra,
by the first of these, and the others by the second:

* Z_i has full column rank in more groups than N has dimensions: identified. (A(S) would vanish on a
  space of more dimensions than the q − 1 per group on which it can.)
* Else the Gram matrix of these matrices, tr((I − P_N) Ã_a (I − P_N) Ã_b), is singular or not, with
  Ã the blocks whitened by I + R_i R_i' so that no group outweighs the others.

For ML there is no K, and N is empty.
"""

from __future__ import annotations

import numpy as np

from jaxhlm.covariance import Blocks, theta_index
from jaxhlm.notation import Bools, Floats, Ints
from jaxhlm.suffstats import Stats

__all__ = [
    "FLAT",
    "GROUP_RANK_TOL",
    "design_only",
    "flat_parameters",
    "group_ranks",
    "identified",
]

# A direction of X of which less than this share of the squared length is out of reach of Z lies in
# the span of Z: the square of what makes a column of X dependent.
SPANNED = 1e-14
# Eigenvalues of the Gram matrix, whose diagonal is at most 1. One contrast among G groups that are
# else spanned gives about 1/G; rounding leaves 1e-15.
FLAT = 1e-10
GROUP_RANK_TOL = 1e-12
# An entry of D that a flat direction moves by less than this share of the most that it moves stays.
NAMED = 1e-6


def group_ranks(RZ: Floats) -> Ints:
    """Rank of Z_i, (G, q, q, …) to (G, …), of R_i with rows of zeros at dependent columns."""
    ranks: Ints = (np.einsum("gaa...->ga...", RZ) != 0.0).sum(axis=1)
    return ranks


def identified(stats: Stats, blocks: Blocks, reml: bool) -> Bools:
    """Whether every direction of θ is identified, (b,).

    Args:
        stats: statistics of b lanes, equal groups collapsed or not.
        blocks: columns of Z in each random term.
        reml: REML criterion instead of ML deviance.
    """
    q, p = stats.TX.shape[1:3]
    full = (stats.m * (group_ranks(stats.RZ) == q)).sum(axis=0)
    clear: Bools = full > (p if reml else 0)
    doubtful = np.flatnonzero(~clear)
    if len(doubtful):
        values, _ = _directions(stats, blocks, reml, doubtful)
        clear[doubtful] = values[:, 0] > FLAT
    return clear


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
            for entry, (row, column) in zip(vector, theta_index(blocks), strict=True):
                S[row, column] = S[column, row] = entry
            moved += np.abs(C @ S @ C.T) * size[:, None] * size
    return [at for at in theta_index(blocks) if moved[at] > NAMED * moved.max()]


def design_only(RZ: Floats) -> Stats:
    """Statistics (no fixed effects, no response) of groups with these R_i (G, q, q, b)."""
    G, q, _, b = RZ.shape
    fields = np.zeros((G, q, 0, b)), np.zeros((G, q, b)), np.ones((G, b)), np.zeros((0, 0, b))
    return Stats(RZ, *fields, *[None] * 4)


def _directions(stats: Stats, blocks: Blocks, reml: bool, lanes: Ints) -> tuple[Floats, Floats]:
    """Eigenvalues (l, k), ascending, and vectors (l, k, k) of the Gram matrix of some lanes.

    The vectors hold the entries of symmetric S on the scale of the columns of Z, in the order of θ.
    """
    R, T, XX, m = (np.nan_to_num(_some(x, lanes)) for x in (stats.RZ, stats.TX, stats.XX, stats.m))
    L = np.linalg.cholesky(np.eye(R.shape[-1]) + R @ R.mT)
    R, spanned = np.linalg.solve(L, R), np.linalg.solve(L, T @ _spanned(T, XX, reml)[:, None])
    spanned = spanned @ _inverse_root(_total(spanned), SPANNED)[:, None]
    A = [_direction(R, *at) for at in theta_index(blocks)]
    left = [a @ spanned for a in A]
    inside = [np.einsum("lgqi,lgqj->lij", spanned, u) for u in left]
    k = len(A)
    whole, gram = np.empty((len(R), k)), np.empty((len(R), k, k))
    for a, b in zip(*np.tril_indices(k), strict=True):
        total = np.einsum("lg,lgij,lgij->l", m, A[a], A[b])
        carried = 2.0 * (left[a] * left[b]).sum(axis=(1, 2, 3))
        gram[:, a, b] = gram[:, b, a] = total - carried + (inside[a] * inside[b]).sum(axis=(1, 2))
        if a == b:
            whole[:, a] = np.sqrt(np.where(total > 0.0, total, 1.0))
    values, vectors = np.linalg.eigh(gram / whole[:, :, None] / whole[:, None, :])
    return values, vectors / whole[:, :, None]


def _some(values: Floats, lanes: Ints) -> Floats:
    """(…, b) to (l, …)."""
    return np.moveaxis(values[..., lanes], -1, 0)


def _direction(R: Floats, a: int, b: int) -> Floats:
    """R E R' (l, G, q, q) with E the symmetric matrix of ones at (a, b) and (b, a)."""
    product = R[..., :, None, a] * R[..., None, :, b]
    return product if a == b else product + product.mT


def _spanned(T: Floats, XX: Floats, reml: bool) -> Floats:
    """Directions of X in the span of Z, (l, p, p) with columns of zeros for the others."""
    root = _inverse_root(XX + _total(T), SPANNED)
    values, vectors = np.linalg.eigh(root.mT @ XX @ root)
    return root @ (vectors * ((values <= SPANNED) & reml)[:, None, :])


def _total(T: Floats) -> Floats:
    """Σ_i T_i'T_i (l, p, p)."""
    return np.einsum("lgqi,lgqj->lij", T, T)


def _inverse_root(A: Floats, tolerance: float) -> Floats:
    """B (l, p, p) with B'AB the identity on the range of A, and zero elsewhere."""
    values, vectors = np.linalg.eigh(A)
    there = values > tolerance * values.max(axis=1, keepdims=True, initial=0.0)
    inverse = np.where(there, 1.0 / np.sqrt(np.where(there, values, 1.0)), 0.0)
    return vectors * inverse[:, None, :]
