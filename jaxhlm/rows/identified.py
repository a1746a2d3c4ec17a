"""Whether the design tells the variances and covariances of the random effects apart.

REML is the likelihood of K'y, where K spans what is orthogonal to X. Its covariance is
σ²(I + Σ D_ab K'V_abK) with V_ab = Σ_i (z_ia z_ib' + z_ib z_ia'), so the entries of D that are free
are identified where no combination S of them but zero has K'V(S)K = 0 (Rothenberg 1971,
Econometrica 39, 577-591: the parameters enter linearly). σ² has the rows to itself that are beyond
the reach of X and Z together; where there are none it is one more of the matrices. K'V(S)K depends on X only through N, the directions of X
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

from typing import NamedTuple

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
    ranks = group_ranks(stats.RZ)
    clear: Bools = (stats.m * (ranks == q)).sum(axis=0) > (p if reml else 0)
    if reml:
        clear &= stats.n - (stats.m * ranks).sum(axis=0) > p
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
            for entry, (row, column) in zip(vector, theta_index(blocks), strict=False):
                S[row, column] = S[column, row] = entry
            moved += np.abs(C @ S @ C.T) * size[:, None] * size
    return [at for at in theta_index(blocks) if moved[at] > NAMED * moved.max()]


def design_only(RZ: Floats) -> Stats:
    """Statistics (no fixed effects, no response) of groups with these R_i (G, q, q, b)."""
    G, q, _, b = RZ.shape
    fields = np.zeros((G, q, 0, b)), np.zeros((G, q, b)), np.ones((G, b)), np.zeros((0, 0, b))
    return Stats(RZ, *fields, *[None] * 4)


class _Form(NamedTuple):
    """Symmetric matrices of l lanes: blocks A_i and a low rank HH', whitened."""

    A: Floats  # (l, G, q, q)
    H: Floats  # (l, G, q, r)


def _directions(stats: Stats, blocks: Blocks, reml: bool, lanes: Ints) -> tuple[Floats, Floats]:
    """Eigenvalues (l, k), ascending, and vectors (l, k, k) of the Gram matrix of some lanes.

    The vectors hold the entries of symmetric S on the scale of the columns of Z, in the order of θ.
    For REML there may be one entry more, of σ²: where X and Z together reach every row, it may
    depend on the others.
    """
    R, T, XX, m = (np.nan_to_num(_some(x, lanes)) for x in (stats.RZ, stats.TX, stats.XX, stats.m))
    L = np.linalg.cholesky(np.eye(R.shape[-1]) + R @ R.mT)
    turned, shares = _beyond(T, XX)
    inside, T = (shares <= SPANNED) & reml, np.linalg.solve(L, T @ turned[:, None])
    N = T * inside[:, None, None]
    N = N @ _inverse_root(_cross(N, N), SPANNED)[:, None]
    white = np.linalg.solve(L, R)
    size = [_product(A, A, m) for A in (_direction(white, a, a) for a in range(R.shape[-1]))]
    at = theta_index(blocks)
    forms = [_Form(_direction(white, *i), T[..., :0]) for i in at]
    # A covariance is measured by the variances beside it: it may be nothing but rounding.
    whole = [(size[a] * size[b]) ** 0.25 for a, b in at]
    if reml and (full := _reached(stats, lanes) + (~inside).sum(axis=1) >= stats.n[lanes]).any():
        forms.append(_identity(R, L, T, shares, inside))
        whole.append(np.sqrt(_gram(forms[-1], forms[-1], N, m)))
    gram = np.empty((len(R), len(forms), len(forms)))
    for i, j in zip(*np.tril_indices(len(forms)), strict=True):
        gram[:, i, j] = gram[:, j, i] = _gram(forms[i], forms[j], N, m)
    scale = np.stack([np.where(x > 0.0, x, 1.0) for x in whole], axis=1)
    gram /= scale[:, :, None] * scale[:, None, :]
    if len(forms) > len(at):
        gram[~full, :-1, -1] = gram[~full, -1, :-1] = 0.0
    values, vectors = np.linalg.eigh(gram)
    return values, vectors / scale[:, :, None]


def _reached(stats: Stats, lanes: Ints) -> Floats:
    """Σ rank Z_i (l,)."""
    reached: Floats = (stats.m * group_ranks(stats.RZ)).sum(axis=0)[lanes]
    return reached


def _gram(a: _Form, b: _Form, N: Floats, m: Floats) -> Floats:
    """tr((I − NN') (A + HH') (I − NN') (B + KK')) (l,)."""
    left, right = a.A @ N, b.A @ N
    out = _product(a.A, b.A, m) - 2.0 * (left * right).sum(axis=(1, 2, 3))
    out += (_cross(N, left) * _cross(N, right)).sum(axis=(1, 2))
    H, K = (x.H - N @ _cross(N, x.H)[:, None] for x in (a, b))
    out += (H * (b.A @ H)).sum(axis=(1, 2, 3)) + (K * (a.A @ K)).sum(axis=(1, 2, 3))
    return out + (_cross(H, K) ** 2).sum(axis=(1, 2))


def _cross(U: Floats, V: Floats) -> Floats:
    """Σ_i U_i'V_i (l, …, …)."""
    return np.einsum("lgqi,lgqj->lij", U, V)


def _identity(R: Floats, L: Floats, T: Floats, shares: Floats, inside: Bools) -> _Form:
    """What σ² adds where X and Z reach every row: the inverse of Q'(I − P_X)Q beside N, whitened.

    It is I + Σ_j t_j t_j'/s_j with t_j = Q'x_j for the directions x_j of X, of length 1, of which a
    share s_j is out of reach of Z.
    """
    there = (R != 0.0).any(axis=3)[..., None] * np.eye(R.shape[-1])
    half = np.linalg.solve(L, there)
    root = np.where(inside, 0.0, 1.0 / np.sqrt(np.maximum(shares, SPANNED)))
    return _Form(half @ half.mT, T * root[:, None, None])


def _product(A: Floats, B: Floats, m: Floats) -> Floats:
    """Σ_i m_i tr(A_i B_i) (l,)."""
    return np.einsum("lg,lgij,lgij->l", m, A, B)


def _some(values: Floats, lanes: Ints) -> Floats:
    """(…, b) to (l, …)."""
    return np.moveaxis(values[..., lanes], -1, 0)


def _direction(R: Floats, a: int, b: int) -> Floats:
    """R E R' (l, G, q, q) with E the symmetric matrix of ones at (a, b) and (b, a)."""
    product = R[..., :, None, a] * R[..., None, :, b]
    return product if a == b else product + product.mT


def _beyond(T: Floats, XX: Floats) -> tuple[Floats, Floats]:
    """Directions of X (l, p, p) with X'X = I, and the shares (l, p) of them out of reach of Z."""
    root = _inverse_root(XX + _cross(T, T), SPANNED)
    shares, vectors = np.linalg.eigh(root.mT @ XX @ root)
    return root @ vectors, shares


def _inverse_root(A: Floats, tolerance: float) -> Floats:
    """B (l, p, p) with B'AB the identity on the range of A, and zero elsewhere."""
    values, vectors = np.linalg.eigh(A)
    there = values > tolerance * values.max(axis=1, keepdims=True, initial=0.0)
    inverse = np.where(there, 1.0 / np.sqrt(np.where(there, values, 1.0)), 0.0)
    return vectors * inverse[:, None, :]
