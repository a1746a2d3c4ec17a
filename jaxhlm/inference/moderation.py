"""Residual variances of many fits shrunk towards each other: empirical Bayes.

With residual variances s_b² ~ σ_b² χ²_d/d and σ_b⁻² ~ χ²_d₀/(d₀ s₀²), the mean of σ_b⁻² given s_b²
is that of the moderated variance (Smyth 2004, Stat. Appl. Genet. Mol. Biol. 3, 3)

    s̃_b² = (d₀s₀² + d_b s_b²)/(d₀ + d_b).

d₀ and s₀² are found from the moments of e_b = log s_b² − ψ(d_b/2) + log(d_b/2), whose mean is
log s₀² − ψ(d₀/2) + log(d₀/2) and whose variance ψ'(d_b/2) + ψ'(d₀/2); if e varies no more than
ψ'(d_b/2) alone explains, d₀ is infinite. With a trend, the mean of e is a natural cubic spline in
what the variance may depend on (Law, Chen, Shi & Smyth 2014, Genome Biol. 15, R29), and so s₀². As
``limma::squeezeVar`` until version 3.60; later ones weigh variances of unequal df.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxhlm.core.notation import Bools, Floats

__all__ = ["Prior", "moderated_variances", "variance_prior"]

# Variances below this times their median are counted as this.
SMALLEST = 1e-5
# Values of the covariate from which on the spline has so many parameters.
SPLINE_FROM = (3, 6, 30)
# Newton's method doubles the digits: the step after one of this relative size is rounding.
PRECISE = 1e-9


@dataclass(frozen=True)
class Prior:
    """What the variances are shrunk to.

    Attributes:
        df: d₀, infinite where they are all taken to be equal but for the trend.
        variance: (B,) s₀².
        own_df: (B,) d₀ of every fit, where some lie too far off for all of it; else None.
    """

    df: float
    variance: Floats
    own_df: Floats | None = None

    @property
    def df_by_fit(self) -> Floats:
        """(B,) d₀ of every fit."""
        own = self.own_df
        return np.full(np.shape(self.variance), self.df) if own is None else own


def variance_prior(variance: Floats, df: Floats, covariate: Floats | None = None) -> Prior:
    """The prior of residual variances, from all of them.

    Args:
        variance: (B,) residual variances; NaN ones do not count.
        df: (B,) their degrees of freedom.
        covariate: (B,) what the prior variance depends on, if on anything.
    """
    from scipy.special import digamma, polygamma

    known = np.isfinite(variance) & (df > 0.0)
    if known.sum() < 2:
        return Prior(0.0, variance)
    s2, half = variance[known], 0.5 * df[known]
    s2 = np.maximum(s2, SMALLEST * (np.median(s2) or 1.0))
    e = np.log(s2) - digamma(half) + np.log(half)
    mean, excess = _fitted_mean(e, covariate, known)
    excess -= polygamma(1, half).mean()
    if excess > 0.0:
        d0 = 2.0 * _trigamma_inverse(excess)
        return Prior(d0, np.exp(mean + digamma(0.5 * d0) - np.log(0.5 * d0)))
    return Prior(np.inf, np.exp(mean) if covariate is not None else np.full(len(df), s2.mean()))


def moderated_variances(variance: Floats, df: Floats, prior: Prior) -> Floats:
    """(B,) s̃²; those of NaN are NaN."""
    d0 = prior.df_by_fit
    finite = np.where(np.isinf(d0), 0.0, d0)
    shrunk = (finite * prior.variance + df * variance) / (finite + df)
    return np.where(np.isinf(d0) & ~np.isnan(variance), prior.variance, shrunk)


def _fitted_mean(e: Floats, covariate: Floats | None, known: Bools) -> tuple[Floats, float]:
    """The mean of e, (B,) for all fits, and its variance about it."""
    knots = np.zeros(0)
    if covariate is not None:
        size = 1 + sum(len(e) >= least for least in SPLINE_FROM)
        knots = np.unique(np.quantile(covariate[known], np.linspace(0.0, 1.0, size)))
    if covariate is None or len(knots) < 2:
        return np.full(len(known), e.mean()), float(e.var(ddof=1))
    basis = _natural_splines(covariate, knots)
    mean = basis @ np.linalg.lstsq(basis[known], e)[0]
    return mean, float(((e - mean[known]) ** 2).sum() / (len(e) - len(knots)))


def _natural_splines(x: Floats, knots: Floats) -> Floats:
    """(B, k) a basis of the natural cubic splines with k knots; NaN where x is."""
    from scipy.interpolate import CubicSpline

    basis: Floats = CubicSpline(knots, np.eye(len(knots)), bc_type="natural")(x)
    return basis


def _trigamma_inverse(value: float) -> float:
    """x with ψ'(x) = value, by Newton's method for 1/ψ', which is nearly linear."""
    from scipy.special import polygamma

    x, change = 0.5 + 1.0 / value, np.inf
    while abs(change) > PRECISE * x:
        trigamma = polygamma(1, x)
        change = trigamma * (1.0 - trigamma / value) / polygamma(2, x)
        x += change
    return float(x)
