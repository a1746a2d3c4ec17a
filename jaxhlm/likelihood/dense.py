"""The criteria of some lanes with their derivatives, by BLAS and LAPACK, for matrices of any size.

The equations are those of ``likelihood/derivatives.py``, in NumPy and with lanes and groups side by
side: nothing is compiled, and whatever is summed over groups is a matrix product. For every lane an
evaluation takes

    O(G q² (q + p) + G q⁴)    the groups, and the pairs tr(E_s P E_t Q) of all of them at once
    O(G q² p² + k² p²)        tr(B_s B_t), REML only, with k entries of θ
    O(p³)                     the factor of A = X'V⁻¹X

operations, and memory for O(G q (q + p) + p²) numbers beside tiles of bounded size.

Lanes come first, as NumPy's matrix products want them; in the solutions of all groups, which take
q steps whatever the number of groups, the rows within groups come before:
``whitened`` has (q, …, G, B), with lanes moved to the front for products.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxhlm.core.notation import Floats, Ints
from jaxhlm.likelihood.covariance import Blocks, lambda_of, theta_index
from jaxhlm.likelihood.derivatives import Derivatives
from jaxhlm.likelihood.deviance import Profile
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.likelihood.whitened import Whitened, lanes_first, whitened
from jaxhlm.linalg.stacked import lapack_cholesky

if TYPE_CHECKING:
    from jaxtyping import Float

    from jaxhlm.core.notation import Array

__all__ = ["dense_derivatives", "lanes_at_once"]

# Numbers of a tile of products: few enough for the caches, and many for every call of NumPy.
TILE_NUMBERS = 2**20
# With more lanes a call of NumPy costs nothing beside its work, and the slowest lane holds others.
MOST_LANES = 256


class _Directions(NamedTuple):
    """The directions E_s = w_s(e_a e_b' + e_b e_a') of the free entries of D."""

    a: Ints  # (k,)
    b: Ints  # (k,)
    w: Floats  # (k,) ½ on the diagonal, else 1


def lanes_at_once(stats: Stats) -> int:
    """How many lanes of these sizes are worth working on side by side."""
    G, q, p = stats.TX.shape[:3]
    return max(1, min(MOST_LANES, TILE_NUMBERS // (4 * (G * q * (q + p + 1) + p * p))))


def dense_derivatives(
    theta: Floats,
    stats: Stats,
    reml: bool,
    blocks: Blocks,
    sigma2: Float[Array, " B"] | None = None,
) -> Derivatives:
    """``derivatives.derivatives`` of every lane; NaN where A is not positive definite.

    Args:
        theta: (k, B).
        stats: lanes on the last axis; design fields with a last axis of 1 when shared.
        reml: REML criterion instead of ML deviance.
        blocks: columns of Z in each random term.
        sigma2: (B,) fixed σ², or None to profile it out.
    """
    Lambda, s = lambda_of(theta, blocks), _directions(blocks)
    white = _lanes_first(whitened(np.moveaxis(Lambda, 0, -1), stats))
    at = _profile(white, stats, reml)
    variance = at.pwrss / at.nu if sigma2 is None else sigma2
    precision = _matrices(1.0 / variance)
    P = white.R.mT @ white.R
    residual = white.y[..., None] - white.X @ at.beta[:, None, :, None]
    e = (white.R.mT @ residual)[..., 0]
    W = _solve_right(white.R.mT @ white.X, at.L_A)
    Q = precision[:, None] * e[..., :, None] * e[..., None, :]
    if reml:
        Q += W @ W.mT
    mP = np.moveaxis(stats.m, -1, 0)[:, :, None, None] * P
    h, r = _refits(e, W, s), 2.0 * s.w * (e.mT @ e)[:, s.a, s.b]
    curvature = _traces(P, 2.0 * Q - mP, s) - 2.0 * precision * (h @ h.mT)
    if sigma2 is None:
        curvature -= precision / _matrices(at.pwrss) * r[:, :, None] * r[:, None, :]
    if reml:
        curvature -= _refit_traces(W, s)
    F = (mP - Q).sum(axis=1)
    F = (F + F.mT) / 2.0
    J = _slopes(Lambda, s)
    bend = np.where(s.b[:, None] == s.b, 2.0 * F[:, s.a[:, None], s.a], 0.0)
    found = Derivatives(
        profile=at,
        grad=2.0 * (F @ Lambda)[:, s.a, s.b],
        hess=J.mT @ curvature @ J + bend,
        F=F,
        pwrss_grad=-(J.mT @ r[:, :, None])[..., 0],
    )
    last = (np.moveaxis(x, 0, -1) for x in found[1:])
    return Derivatives(Profile(*(np.moveaxis(x, 0, -1) for x in at)), *last)


@lru_cache
def _directions(blocks: Blocks) -> _Directions:
    a, b = np.array(theta_index(blocks)).T
    return _Directions(a, b, np.where(a == b, 0.5, 1.0))


def _lanes_first(white: Whitened) -> Whitened:
    """The same as (B, G, q, …), each group in one place of the memory."""
    return Whitened(*(np.ascontiguousarray(lanes_first(x)) for x in white))


def _logdet(L: Floats, stats: Stats) -> Floats:
    """Σ m log|Ω_i| (B,)."""
    logs = np.log(np.einsum("lgaa->alg", L)).sum(axis=0)
    return 2.0 * (np.moveaxis(stats.m, -1, 0) * logs).sum(axis=1)


def _profile(white: Whitened, stats: Stats, reml: bool) -> Profile:
    """``deviance.profile``: β and σ² profiled out."""
    X, y = _flat(white.X), _flat(white.y[..., None])
    L_A = lapack_cholesky(X.mT @ X + np.moveaxis(stats.XX, -1, 0))
    z = np.linalg.solve(L_A, X.mT @ y + np.moveaxis(stats.Xy, -1, 0)[..., None])
    pwrss = (y.mT @ y)[:, 0, 0] + stats.yy - (z.mT @ z)[:, 0, 0]
    nu = np.broadcast_to(stats.n - reml * stats.rank, pwrss.shape)
    value = _logdet(white.L, stats) - stats.logw + nu * (1.0 + np.log(2.0 * np.pi * pwrss / nu))
    if reml:
        value = value + 2.0 * np.log(np.einsum("laa->la", L_A)).sum(axis=1)
    return Profile(value, np.linalg.solve(L_A.mT, z)[..., 0], pwrss, L_A, nu)


def _solve_right(H: Floats, L: Floats) -> Floats:
    """H_i L⁻ᵀ (B, G, q, p) for lower triangular L (B, p, p)."""
    B, G, q, p = H.shape
    return np.asarray(np.linalg.solve(L, H.reshape(B, G * q, p).mT), float).mT.reshape(H.shape)


def _traces(P: Floats, Q: Floats, s: _Directions) -> Floats:
    """(B, k, k) Σ tr(E_s P E_t Q) over groups."""
    B, G, q, _ = P.shape
    K = (P.reshape(B, G, -1).mT @ Q.reshape(B, G, -1)).reshape(B, q, q, q, q)
    a, b, c, d = s.a[:, None], s.b[:, None], s.a, s.b
    both = K[:, b, c, d, a] + K[:, a, c, d, b] + K[:, b, d, c, a] + K[:, a, d, c, b]
    return s.w[:, None] * s.w * both


def _refits(e: Floats, W: Floats, s: _Directions) -> Floats:
    """(B, k, p) h_s = Σ G'E_s e."""
    B, G, q, p = W.shape
    M = (e.mT @ W.reshape(B, G, q * p)).reshape(B, q, q, p)
    return s.w[:, None] * (M[:, s.a, s.b] + M[:, s.b, s.a])


def _refit_traces(W: Floats, s: _Directions) -> Floats:
    """(B, k, k) tr(B_s B_t) with B_s = Σ G'E_s G, some columns of all B_s at a time."""
    B, G, q, p = W.shape
    rows, width = W.reshape(B, G, q * p).mT, max(1, TILE_NUMBERS // max(1, B * q * q * p))
    out = np.zeros((B, len(s.w), len(s.w)))
    for first in range(0, p, width):
        some = W[..., first : first + width]
        products = (rows @ some.reshape(B, G, -1)).reshape(B, q, p, q, -1).swapaxes(2, 3)
        both = products[:, s.a, s.b] + products[:, s.b, s.a]
        both = both.reshape(B, len(s.w), -1)
        out += both @ both.mT
    return s.w[:, None] * s.w * out


def _slopes(Lambda: Floats, s: _Directions) -> Floats:
    """J (B, k, k) = ∂D/∂θ."""
    a, b, c, d = s.a[:, None], s.b[:, None], s.a, s.b
    return np.where(a == c, Lambda[:, b, d], 0.0) + np.where(b == c, Lambda[:, a, d], 0.0)


def _flat(T: Floats) -> Floats:
    """(B, G, q, r) as (B, G q, r)."""
    B, G, q, r = T.shape
    return T.reshape(B, G * q, r)


def _matrices(values: Float[Array, "d e B"]) -> Float[Array, "B d e"]:
    """(B,) as (B, 1, 1), to scale matrices."""
    return values[:, None, None]
