"""One variance: the criterion over all of its range, and where its minima are bracketed.

With q = 1 a group enters through r_i² = Z_i'Z_i. With τ = θ² and the weights w_i = 1/(1 + τr_i²)

    [A b; b' c] = within + Σ w_i [T_X t_y]_i'[T_X t_y]_i,      pwrss = c − b'A⁻¹b,
    d(τ) = −Σ m_i log w_i + ν log pwrss  [+ log|A|, REML]

In the basis of error contrasts K that diagonalises K'ZZ'K, pwrss = Σ_j v_j²/(1 + τμ_j): on the
scale u = log τ everything is made of logistic curves of unit width, centred at −log μ_j.

**All of the range.** The μ_j other than zero lie between ω min r² and max r², ω the smallest
eigenvalue of X_within'X_within relative to X'X that is not zero (Z'(I − P_X)Z = R(I − P)R, where
I − P has the eigenvalues 1 and those). Before ``MARGIN``/max μ all w_i are 1 − O(τμ) and d is
linear in τ; after 1/(``MARGIN`` min μ) it is K log τ + ν log(c_∞ + c/τ), which is convex in log τ
and so falls to one minimum, or rises for ever.

**Between.** A logistic curve is analytic for |Im u| < π, and points at a distance h miss of such
functions what is of the order of exp(−π²/h), 1e-6 for ``SPACING``: a minimum that is no ripple of
that size shows as a point below both its neighbours.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxhlm.core.chunks import slices
from jaxhlm.core.notation import Bools, Floats
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.linalg import stacked

__all__ = ["Brackets", "bracketed"]

MARGIN = 0.05
SPACING = 0.7
# As many minima of the grid are followed, the lowest first.
MINIMA = 3
# r² and eigenvalues this small, relative to the largest, are zeros.
ZERO = 1e-10
# Numbers of a tile of lanes, which fit the cache.
TILE_NUMBERS = 2**17
# LAPACK factors larger matrices faster, entry by entry many small ones.
SMALL_P = 16


class Brackets(NamedTuple):
    """Points near the minima of B criteria, the lowest first."""

    theta: Floats  # (MINIMA, B) > 0, NaN where there are no more
    at_zero: Bools  # (MINIMA, B) the minimum is θ = 0, and ``theta`` the point beside it


def bracketed(stats: Stats, reml: bool) -> Brackets:
    """Where the minima of criteria with q = 1 are.

    A further one is given where it may turn out the lowest: |∂²d/∂u²| ≤ (Σm + ν)/4, so that a
    minimum lies at most (Σm + ν)h²/32 below its lowest grid point.

    Args:
        stats: standardised statistics, lanes last.
        reml: REML criterion instead of ML deviance.
    """
    (G, _, p, _), B = stats.TX.shape, stats.yy.shape[-1]
    each = p + 1 if stats.shared else (p + 1) ** 2
    tiles = (_lanes_first(stats, run) for run in slices(B, TILE_NUMBERS // (G * each)))
    with np.errstate(all="ignore"):
        parts = zip(*(_minima(tile, reml) for tile in tiles), strict=True)
        return Brackets(*(np.concatenate(part, axis=1) for part in parts))


def _lanes_first(stats: Stats, lane_slice: slice) -> Stats:
    """Some lanes, first; a design that all share has a first axis of 1."""
    return Stats(*(np.moveaxis(np.asarray(x), -1, 0) for x in stats.take(lane_slice)))


def _minima(stats: Stats, reml: bool) -> Brackets:
    """``bracketed`` of lanes that come first."""
    r2 = stats.RZ[:, :, 0, 0] ** 2
    tau = np.exp(_grid(stats, r2))
    value = _criterion(stats, r2, np.concatenate([np.zeros((len(tau), 1)), tau], axis=1), reml)
    value = np.where(np.isfinite(value), value, np.inf)
    edge = np.full((len(value), 1), np.inf)
    before = np.concatenate([edge, value[:, :-1]], axis=1)
    after = np.concatenate([value[:, 1:], edge], axis=1)
    lowest = np.where((value < before) & (value <= after), value, np.inf)
    order = np.argsort(lowest, axis=1, kind="stable")[:, :MINIMA]
    height, left, right = (np.take_along_axis(v, order, axis=1) for v in (lowest, before, after))
    # At zero itself θ is stationary whatever the data: the point beside it is the start.
    tau = np.broadcast_to(tau, (len(value), tau.shape[1]))
    theta = np.sqrt(np.take_along_axis(tau, np.maximum(order - 1, 0), axis=1))
    vertex = 0.5 * (left - right) / (left - 2.0 * height + right)
    inside = (order > 1) & np.isfinite(vertex)
    theta = theta * np.exp(np.where(inside, 0.5 * SPACING * vertex, 0.0))
    highest = (stats.m.sum(axis=1) + stats.n)[:, None] * SPACING**2 / 32.0
    near = np.isfinite(height) & (height - height[:, :1] <= highest)
    return Brackets(np.where(near, theta, np.nan).T, (order == 0).T)


def _grid(stats: Stats, r2: Floats) -> Floats:
    """log τ (b, S), ``SPACING`` apart, from before the first of the poles to after the last.

    Where other lanes have more points, the last is repeated.
    """
    largest = r2.max(axis=1)
    smallest = np.where(r2 > ZERO * largest[:, None], r2, np.inf).min(axis=1)
    total = np.einsum("ljj->lj", stats.XX) + np.einsum("lgaj,lgaj->lj", stats.TX, stats.TX)
    usable = np.isfinite(stats.XX.sum(axis=(1, 2)))[:, None, None]
    largest_X = total.max(axis=1, initial=np.finfo(float).tiny)
    omega = np.linalg.eigvalsh(np.where(usable, stats.XX, 0.0)) / largest_X[:, None]
    omega = np.where(omega > ZERO, omega, 1.0).min(axis=1, initial=1.0)
    first, last = np.log(MARGIN / largest), -np.log(MARGIN * smallest * omega)
    steps = np.ceil(np.nan_to_num((last - first) / SPACING, posinf=0.0, neginf=0.0))[:, None]
    return first[:, None] + SPACING * np.minimum(np.arange(int(steps.max()) + 1), steps)


def _criterion(stats: Stats, r2: Floats, tau: Floats, reml: bool) -> Floats:
    """The criterion but for a constant (B, S) at τ (b, S)."""
    TX, Ty = stats.TX[:, :, 0], stats.Ty[:, :, 0]
    w = 1.0 / (1.0 + tau[:, :, None] * r2[:, None, :])
    A = _weighted_squares(w, TX) + np.moveaxis(stats.XX, 0, -1)[..., None]
    b, c = _weighted(w, TX, Ty)
    L = _cholesky(A)
    z = stacked.solve_lower(L, b + stats.Xy.T[..., None])
    pwrss = c + stats.yy[:, None] - np.einsum("jls,jls->ls", z, z)
    nu = (stats.n - reml * stats.rank)[:, None]
    value = nu * np.log(pwrss) - (np.log(w) @ stats.m[:, :, None])[..., 0]
    return value + 2.0 * np.log(np.einsum("jjls->jls", L)).sum(axis=0) if reml else value


def _weighted_squares(w: Floats, TX: Floats) -> Floats:
    """Σ w T_X T_X' (p, p, b, S)."""
    p = TX.shape[2]
    A = np.empty((p, p, *w.shape[:2]))
    if p > SMALL_P:  # all products of columns would not fit the memory
        for lane, point in np.ndindex(*w.shape[:2]):
            A[:, :, lane, point] = (TX[lane] * w[lane, point, :, None]).T @ TX[lane]
        return A
    rows, columns = np.tril_indices(p)
    A[rows, columns] = (w @ (TX[:, :, rows] * TX[:, :, columns])).transpose(2, 0, 1)
    A[columns, rows] = A[rows, columns]
    return A


def _weighted(w: Floats, TX: Floats, Ty: Floats) -> tuple[Floats, Floats]:
    """Σ w T_X t_y (p, B, S) and Σ w t_y² (B, S)."""
    p = TX.shape[2]
    if len(w) < len(Ty):  # one design: the lanes are columns of one product
        S, G = w[0].shape
        products = (w[0][:, None] * TX[0].T).reshape(S * p, G) @ Ty.T
        return products.reshape(S, p, len(Ty)).transpose(1, 2, 0), (w[0] @ (Ty.T**2)).T
    return np.moveaxis(w @ (TX * Ty[:, :, None]), -1, 0), (w @ (Ty**2)[:, :, None])[..., 0]


def _cholesky(A: Floats) -> Floats:
    """Lower triangular factors (p, p, …)."""
    if len(A) <= SMALL_P:
        return stacked.cholesky(A)
    return stacked.lapack_cholesky(A.transpose(2, 3, 0, 1)).transpose(2, 3, 0, 1)
