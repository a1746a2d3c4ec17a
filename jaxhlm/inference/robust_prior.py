"""The prior of residual variances of which some lie far off the others: robust empirical Bayes.

As ``variance_prior``, but the moments are those of Winsorised z_b = log s_b², whose lowest 5 % and
highest 10 % count as the quantiles there, and are set equal to the same moments of log F(d, d₀):
the variance gives d₀ and then the mean s₀². A variance beyond what that prior explains gets fewer
prior degrees of freedom. With p_b = P(F ≥ s_b²/s₀²), and r_b the share of variances as large,

    π_b = min(p_b/r_b, 1),    d₀_b = π_b d₀ + (1 − π_b) d₀ᵒ,

where d₀ᵒ makes the largest ratio the median of its F(d, d₀ᵒ), by d₀ᵒ = d₀ log ½/log p of the
smallest p and a second such step; and no d₀_b is larger than one of a larger p. If d₀ is infinite,
d₀_b is π_b times the df of all together (Phipson, Lee, Majewski, Alexander & Smyth 2016, Ann. Appl.
Stat. 10, 946-963). Variances of fewer df are first taken to the quantiles of the largest d under
the prior that is not robust. As ``limma::squeezeVar(robust = TRUE)`` of version 3.54, to 5e-7,
unless d₀ is below ½, where limma's integrals of the moments are not precise.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxhlm.core.notation import Floats
from jaxhlm.inference.moderation import Prior, variance_prior
from jaxhlm.statistics.lowess import lowess

__all__ = ["robust_variance_prior"]

LOW_TAIL, HIGH_TAIL = 0.05, 0.1
# Variances below this times their median are counted as this; df below this are none.
SMALLEST, NO_DF = 1e-12, 1e-6
# Tail probabilities smaller than this have no quantile.
LEAST_TAIL = 1e-300
# Share of the variances that a piece of the trend is fitted to.
SPAN = 0.4
# Nodes of integrals over probabilities, and the precision of d₀/(1 + d₀).
NODES, PRECISE = 128, 1e-12


def robust_variance_prior(variance: Floats, df: Floats, covariate: Floats | None = None) -> Prior:
    """The prior of residual variances, of whose df outliers have fewer.

    Args:
        variance: (B,) residual variances; NaN ones do not count.
        df: (B,) their degrees of freedom.
        covariate: (B,) what the prior variance depends on, if on anything.
    """
    plain = variance_prior(variance, df, covariate)
    known = np.isfinite(variance) & (df > NO_DF)
    m = int(known.sum())
    if m < 3 or m * max(LOW_TAIL, HIGH_TAIL) < 1.0:
        return plain
    s2 = np.maximum(variance[known], SMALLEST * np.median(variance[known]))
    z = np.log(_of_equal_df(s2, df[known], plain.variance[known], plain.df))
    trend = np.zeros(m) if covariate is None else _trend(covariate[known], z)
    within = np.clip(z - trend, *np.quantile(z - trend, [LOW_TAIL, 1.0 - HIGH_TAIL]))
    d = float(df[known].max())
    d0 = _matched(float(within.var(ddof=1)), d, plain.df)
    if d0 is None:
        return plain
    trend += within.mean() - _moments(d, d0)[0]
    s02, own = np.full(variance.shape, np.nan), np.full(variance.shape, np.nan)
    s02[known], own[known] = np.exp(trend), _own_df(np.exp(z - trend), d, d0)
    return Prior(d0, s02 if covariate is not None else np.full(variance.shape, s02[known][0]), own)


def _trend(covariate: Floats, z: Floats) -> Floats:
    """The lowess curve, (m,)."""
    order, trend = np.argsort(covariate, kind="stable"), np.empty(len(z))
    trend[order] = lowess(covariate[order], z[order], SPAN)
    return trend


def _of_equal_df(s2: Floats, df: Floats, scale: Floats, d0: float) -> Floats:
    """Variances (m,) at the quantiles of the largest df, under a prior of scales (m,)."""
    own, largest = _f(df, d0), _f(float(df.max()), d0)
    above, below = (np.maximum(tail(s2 / scale), LEAST_TAIL) for tail in (own.sf, own.cdf))
    moved = scale * np.where(
        above < below, _exceeded(above, float(df.max()), d0), largest.ppf(below)
    )
    return np.where(df < df.max(), moved, s2)


def _matched(variance: float, d: float, plain: float) -> float | None:
    """d₀ at least as large as the ``plain`` one; None where that one is infinite and this is not.

    It is looked for as x = d₀/(1 + d₀).
    """
    from scipy.optimize import brentq

    def excess(x: float) -> float:
        return float(np.log(variance / _moments(d, x / (1.0 - x) if x < 1.0 else np.inf)[1]))

    if excess(1.0) <= 0.0:
        return np.inf
    if np.isinf(plain):
        return None
    least = plain / (1.0 + plain)
    if excess(least) >= 0.0:
        return plain
    x = brentq(excess, least, 1.0, xtol=PRECISE)
    return x / (1.0 - x)


def _moments(d: float, d0: float) -> tuple[float, float]:
    """Mean and variance of log F(d, d₀), Winsorised."""
    node, weight = np.polynomial.legendre.leggauss(NODES)
    low, high = LOW_TAIL, 1.0 - HIGH_TAIL
    p = np.append(0.5 * (high - low) * node + 0.5 * (high + low), [low, high])
    share = np.append(0.5 * (high - low) * weight, [LOW_TAIL, HIGH_TAIL])
    z = np.log(_f(d, d0).ppf(p))
    mean = float(share @ z)
    return mean, float(share @ (z - mean) ** 2)


def _own_df(ratio: Floats, d: float, d0: float) -> Floats:
    """d₀_b (m,) of ratios s_b²/s₀²."""
    from scipy.stats import rankdata

    m = len(ratio)
    log_p = _log_tail(ratio, d, d0)
    log_share = np.log(m - rankdata(ratio) + 0.5) - np.log(m)
    inside = np.exp(np.minimum(log_p - log_share, 0.0))
    if (inside == 1.0).all():
        return np.full(m, d0)
    if np.isinf(d0):
        own = np.where(inside < 1.0, inside * m * d, np.inf)
        return _rising(own, log_p, 0)
    first = np.log(0.5) / log_p.min() * d0
    outlying = np.log(0.5) / _log_tail(ratio.max(), d, first) * first
    return _rising(inside * d0 + (1.0 - inside) * outlying, log_p, None)


def _log_tail(ratio: Floats, d: float, d0: float) -> Floats:
    """log P(F ≥ ratio).

    Where that is no number any more, x^a (1 − x)^b/(a B(a, b)) times Σ ((a + b)x/(a + 1))^k, with
    a = d₀/2, b = d/2 and x = d₀/(d₀ + d F): the first factors of every term of the series in x.
    """
    from scipy.special import betaln

    with np.errstate(all="ignore"):
        found: Floats = _f(d, d0).logsf(ratio)
        if np.isinf(d0):
            return found
        a, b, x = 0.5 * d0, 0.5 * d, d0 / (d0 + d * ratio)
        lead = a * np.log(x) + b * np.log1p(-x) - np.log(a) - betaln(a, b)
        far = lead - np.log1p(-(a + b) / (a + 1.0) * x)
    return np.where(np.isinf(found), far, found)


def _rising(own: Floats, log_p: Floats, alike: int | None) -> Floats:
    """Degrees of freedom that do not fall as p rises.

    Args:
        own: (m,) of every variance.
        log_p: (m,) what they rise with.
        alike: how many of the smallest p get their mean; None for so many as make it the least.
    """
    order = np.argsort(log_p, kind="stable")
    sorted_ = own[order]
    if alike is None:
        means = np.cumsum(sorted_) / np.arange(1, len(own) + 1)
        alike = int(np.argmin(means)) + 1
        sorted_[:alike] = means[alike - 1]
    out = np.empty_like(own)
    out[order] = np.maximum.accumulate(sorted_)
    return out


def _exceeded(p: Floats, d: float, d0: float) -> Floats:
    """What F exceeds with probability p; SciPy's own goes by 1 − p, which has no digits of p."""
    from scipy.special import betaincinv

    if np.isinf(d0):
        return np.asarray(_f(d, d0).isf(p))
    x = betaincinv(0.5 * d0, 0.5 * d, p)
    return np.asarray(d0 * (1.0 - x) / (d * x))


def _f(d: Floats | float, d0: float) -> Any:
    """The distribution of s²/s₀²."""
    from scipy import stats

    return stats.chi2(d, scale=1.0 / np.asarray(d)) if np.isinf(d0) else stats.f(d, d0)
