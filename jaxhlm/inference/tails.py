"""Tails and quantiles of the normal, logistic, t, F, χ², beta and studentised-range laws, by SciPy.

The functions of ``scipy.special`` are vectorised and fast; importing it, and ``scipy.stats`` all
the more, takes as long as a small fit, which needs neither: it is done when first asked for.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

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
    "range_tail",
    "t_quantile",
    "t_tail",
]


@cache
def _special() -> Any:
    from scipy import special

    return special


def normal_cdf(z: Any) -> Any:
    """P(Z ≤ z)."""
    return _special().ndtr(z)


def normal_quantile(p: Any) -> Any:
    """z with P(Z ≤ z) = p.

    >>> float(normal_quantile(0.975).round(4))
    1.96
    """
    return _special().ndtri(p)


def logistic_cdf(x: Any) -> Any:
    """1/(1 + e^{-x})."""
    return _special().expit(x)


def logit(p: Any) -> Any:
    """log(p/(1 − p)), the logistic quantile."""
    return _special().logit(p)


def chi2_tail(x: Any, df: float) -> Any:
    """P(χ² ≥ x)."""
    return _special().chdtrc(df, x)


def t_tail(t: Any, df: Any) -> Any:
    """Two-sided p values of t statistics; df may be infinite."""
    return 2.0 * _special().stdtr(df, -np.abs(t))


def t_quantile(p: float, df: Any) -> Any:
    """t with P(T ≤ t) = p; df may be infinite."""
    return _special().stdtrit(df, p)


def noncentral_t_cdf(t: Any, df: Any, delta: Any) -> Any:
    """P(T ≤ t) at noncentrality δ."""
    return _special().nctdtr(df, delta, t)


def f_tail(F: Any, num_df: int, df: Any) -> Any:
    """P(F ≥ …); df may be infinite."""
    F = np.maximum(F, 0.0)
    finite = np.where(np.isinf(df), 1.0, df)
    limit = chi2_tail(num_df * F, num_df)
    return np.where(np.isinf(df), limit, _special().fdtrc(num_df, finite, F))


def f_quantile(p: float, num_df: int, df: float) -> float:
    """F with P(F ≤ …) = p."""
    return float(_special().fdtri(num_df, df, p))


def noncentral_f_cdf(F: Any, num_df: int, df: Any, delta: Any) -> Any:
    """P(F ≤ …) at noncentrality δ."""
    return _special().ncfdtr(num_df, df, delta, F)


def beta_quantile(p: Any, a: Any, b: Any) -> Any:
    """x with P(Beta(a, b) ≤ x) = p."""
    return _special().betaincinv(a, b, p)


def range_tail(x: Any, means: int, df: Any) -> Any:
    """P(range of ``means`` standard normals, studentised, ≥ x)."""
    from scipy.stats import studentized_range

    return studentized_range.sf(x, means, df)
