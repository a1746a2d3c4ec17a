"""Tails and quantiles of the normal, logistic, t, F, χ², beta and studentised range, by SciPy.

The functions of ``scipy.special`` are vectorised and fast; importing it, and ``scipy.stats`` all
the more, takes as long as a small fit, which needs neither: it is done when first asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxhlm.core.notation import Floats

__all__ = [
    "beta_quantile",
    "chi2_tail",
    "f_quantile",
    "f_tail",
    "logistic_cdf",
    "logit",
    "noncentral_f_cdf",
    "noncentral_t_cdf",
    "normal_cdf",
    "normal_quantile",
    "normal_size",
    "range_tail",
    "t_quantile",
    "t_tail",
]

# No table of the range of normals goes further: the tail there is 1e-69.
WIDEST_RANGE = 25.0


@cache
def _special() -> Any:
    from scipy import special

    return special


def normal_cdf(z: ArrayLike) -> Floats:
    """P(Z ≤ z)."""
    return _special().ndtr(z)


def normal_quantile(p: ArrayLike) -> Floats:
    """z with P(Z ≤ z) = p.

    >>> float(normal_quantile(0.975).round(4))
    1.96
    """
    return _special().ndtri(p)


def normal_size(p: ArrayLike) -> Floats:
    """|z| of two-sided p values, P(|Z| ≥ |z|) = p.

    >>> float(normal_size(0.05).round(4))
    1.96
    """
    return -normal_quantile(0.5 * np.asarray(p))


def logistic_cdf(x: ArrayLike) -> Floats:
    """1/(1 + e^{-x})."""
    return _special().expit(x)


def logit(p: ArrayLike) -> Floats:
    """log(p/(1 − p)), the logistic quantile."""
    return _special().logit(p)


def chi2_tail(x: ArrayLike, df: float) -> Floats:
    """P(χ² ≥ x)."""
    return _special().chdtrc(df, x)


def t_tail(t: ArrayLike, df: ArrayLike) -> Floats:
    """Two-sided p values of t statistics; df may be infinite."""
    return 2.0 * _special().stdtr(df, -np.abs(t))


def t_quantile(p: float, df: ArrayLike) -> Floats:
    """t with P(T ≤ t) = p; df may be infinite."""
    return _special().stdtrit(df, p)


def noncentral_t_cdf(t: ArrayLike, df: ArrayLike, delta: ArrayLike) -> Floats:
    """P(T ≤ t) at noncentrality δ."""
    return _special().nctdtr(df, delta, t)


def f_tail(F: ArrayLike, num_df: int, df: ArrayLike) -> Floats:
    """P(F ≥ …); df may be infinite."""
    F = np.maximum(F, 0.0)
    finite = np.where(np.isinf(df), 1.0, df)
    limit = chi2_tail(num_df * F, num_df)
    return np.where(np.isinf(df), limit, _special().fdtrc(num_df, finite, F))


def f_quantile(p: float, num_df: int, df: float) -> float:
    """F with P(F ≤ …) = p."""
    return float(_special().fdtri(num_df, df, p))


def noncentral_f_cdf(F: ArrayLike, num_df: int, df: ArrayLike, delta: ArrayLike) -> Floats:
    """P(F ≤ …) at noncentrality δ."""
    return _special().ncfdtr(num_df, df, delta, F)


def beta_quantile(p: ArrayLike, a: ArrayLike, b: ArrayLike) -> Floats:
    """x with P(Beta(a, b) ≤ x) = p."""
    return _special().betaincinv(a, b, p)


def range_tail(x: ArrayLike, means: int, df: ArrayLike) -> Floats:
    """P(range of ``means`` standard normals, studentised with df, ≥ x).

        P(W ≥ w) = k ∫ φ(z) [(1 − Φ(z))^(k−1) − (Φ(z + w) − Φ(z))^(k−1)] dz,     E P(W ≥ x s)

    with z the smallest of the k, and df s² ~ χ². The distribution of W is tabulated once, so that a
    value costs one sum over s; SciPy's ``studentized_range``, adaptive, takes 7 ms for each.

    >>> float(range_tail(3.5, 3, 20.0).round(4))
    0.0559
    """
    x, df = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(df, dtype=float))
    out = np.empty(x.shape)
    # A few hundred nodes for every value: some values at a time.
    for run in np.array_split(np.arange(x.size), max(1, x.size // 1024)):
        out.flat[run] = _range_tails(x.ravel()[run], means, df.ravel()[run])
    return out[()]


def _range_tails(x: Floats, k: int, df: Floats) -> Floats:
    special = _special()
    node, weight = np.polynomial.legendre.leggauss(200)
    # s between extreme quantiles, on the scale of log s; above 1e10 df it is 1 to 1e-5.
    half = 0.5 * np.where(np.isinf(df), 1e10, df)[:, None]
    low, high = (
        0.5 * np.log(inverse(half, 1e-15) / half)
        for inverse in (special.gammaincinv, special.gammainccinv)
    )
    log_s = 0.5 * (low + high) + 0.5 * (high - low) * node
    share = np.exp(half * (2.0 * log_s - np.expm1(2.0 * log_s))) * weight
    w = np.minimum(x[:, None] * np.exp(log_s), WIDEST_RANGE)
    return (np.exp(_range_log_sf(k)(w)) * share).sum(axis=-1) / share.sum(axis=-1)


@cache
def _range_log_sf(k: int) -> Callable[[Floats], Floats]:
    """log P(W ≥ w) of the range W of k standard normals, w from 0 to ``WIDEST_RANGE``."""
    from scipy.interpolate import CubicSpline

    node, weight = np.polynomial.legendre.leggauss(400)
    z, ndtr = 18.0 * node, _special().ndtr
    w = np.linspace(0.0, WIDEST_RANGE, 2001)
    beyond = ndtr(-(z + w[:, None]))
    above = ndtr(-z)
    # a^m − b^m over a − b, which does not cancel where the tail is small.
    powers = sum(above**i * (above - beyond) ** (k - 2 - i) for i in range(k - 1))
    density = 18.0 * weight * np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi)
    return CubicSpline(w, np.log(k * (beyond * powers * density).sum(axis=1)))
