"""Numbers derived from estimates: information criteria, correlations, Wald intervals."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from jaxhlm.core.arguments import fraction
from jaxhlm.core.notation import Floats, Ints
from jaxhlm.errors import OptionError

__all__ = [
    "aic",
    "aicc",
    "bic",
    "check_level",
    "correlation",
    "limit_names",
    "normal_limit",
    "standard_errors",
    "wald_interval",
]


def aic(criterion: Floats, parameters: Ints | int) -> Floats:
    """Akaike's criterion, −2ℓ + 2 df; of a REML fit from the restricted likelihood, as in lme4."""
    return criterion + 2.0 * parameters


def aicc(criterion: Floats, parameters: Ints | int, n: Ints | int) -> Floats:
    """AIC + 2 df (df + 1)/(n − df − 1), n the number of rows (Hurvich & Tsai 1989).

    NaN where n ≤ df + 1. With few groups the effective n is smaller, and so is the correction here.
    """
    df = np.asarray(n, dtype=float) - parameters - 1.0
    penalty = 2.0 * parameters * (parameters + 1.0) / np.where(df > 0.0, df, np.nan)
    return aic(criterion, parameters) + penalty


def bic(criterion: Floats, parameters: Ints | int, n: Ints | int) -> Floats:
    """Schwarz's criterion, −2ℓ + df log n, n the number of rows."""
    return criterion + parameters * np.log(np.maximum(n, 1))


def standard_errors(vcov: Floats) -> Floats:
    """Square roots of the diagonal, (…, p, p) to (…, p)."""
    return np.sqrt(np.diagonal(vcov, axis1=-2, axis2=-1))


def correlation(cov: Floats) -> Floats:
    """Correlation matrices of covariance matrices (…, d, d); NaN beside a zero variance."""
    sd = standard_errors(cov)
    with np.errstate(invalid="ignore", divide="ignore"):
        corr = cov / (sd[..., :, None] * sd[..., None, :])
    return np.clip(corr, -1.0, 1.0)


def normal_limit(level: float) -> float:
    """z with P(|Z| ≤ z) = level; SciPy is not loaded for it."""
    return NormalDist().inv_cdf(0.5 + level / 2.0)


def wald_interval(estimate: Floats, se: Floats, level: float) -> tuple[Floats, Floats]:
    """Estimate ± z se, the limits of ``confint(fit, method = "Wald")``."""
    z = normal_limit(level)
    return estimate - z * se, estimate + z * se


def limit_names(level: float) -> list[str]:
    """Names of the columns of a confidence interval, as R writes them.

    >>> limit_names(0.95)
    ['2.5 %', '97.5 %']
    """
    return [f"{100 * a:.4g} %" for a in ((1 - level) / 2, (1 + level) / 2)]


def check_level(level: float, name: str = "level") -> None:
    """Raise ``OptionError`` unless 0 < level < 1, so for 95 as well.

    Args:
        level: of confidence.
        name: of the argument.
    """
    try:
        fraction(name, level)
    except OptionError as error:
        raise OptionError(f"{name}={level!r} is not a confidence level: {error}") from None
