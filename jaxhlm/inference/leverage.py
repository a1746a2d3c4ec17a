"""Leverage and residuals of every row of B fits.

In rows scaled by √w, with y = Xβ + Zb + ε and V = I + ZDZ', the fitted values are linear in y,

    Xβ̂ + Zb̂ = Hy,     I − H = V⁻¹ − V⁻¹X A⁻¹ X'V⁻¹,     A = X'V⁻¹X

and σ²H is the covariance of their prediction errors (by Henderson's equations H = [X Z]C[X Z]'), so
that h_j = z_j'K_iz_j + d_j'A⁻¹d_j in the letters of ``inference/henderson.py``, which equals
``lme4``'s ``hatvalues``. Given θ, the residuals have exact variances (Haslett & Haslett 2007, Int.
Stat. Rev. 75, 1-24):

    conditional: Var(y − Xβ̂ − Zb̂) = σ²(I − H)        marginal: Var(y − Xβ̂) = σ²(V − X A⁻¹ X')
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxhlm.core.notation import Bools, Floats
from jaxhlm.inference.henderson import (
    Henderson,
    between_variance,
    fixed_variance,
    row_variance,
)
from jaxhlm.statistics.observations import Observations

__all__ = ["Leverage", "cooks_distance", "leverage", "standardized"]

# A variance this small beside that of the error is a residual that is zero by construction.
ZERO_VARIANCE = 1e-12


class Leverage(NamedTuple):
    """Of every row; (L, n) each."""

    hat: Floats  # diag H
    marginal: Floats  # diag(V − X A⁻¹ X'), over σ²/w


def leverage(h: Henderson, rows: Observations) -> Leverage:
    """Diagonals of H and of the variance of marginal residuals.

    Args:
        h: of the fits.
        rows: their rows.
    """
    marginal = 1.0 + between_variance(h, rows) - fixed_variance(h, rows)
    return Leverage(row_variance(h, rows), marginal)


def standardized(residuals: Floats, sigma: Floats | float, variance: Floats) -> Floats:
    """Residuals over their standard deviations; NaN where that is zero.

    Args:
        residuals: (…, n) times √w.
        sigma: residual standard deviation.
        variance: (…, n) their variances over σ².
    """
    there = variance > ZERO_VARIANCE
    return np.where(there, residuals / (sigma * np.sqrt(_at_least(variance, there))), np.nan)


def cooks_distance(
    residuals: Floats, sigma: Floats | float, hat: Floats, p: Floats | int
) -> Floats:
    """(e/(1 − h))² h/(pσ²) of every row, as ``lme4``'s ``cooks.distance``.

    NaN where h is 1, and where there is no fixed effect.

    Args:
        residuals: (…, n) conditional residuals times √w.
        sigma: residual standard deviation.
        hat: (…, n) leverages.
        p: number of fixed effects; it broadcasts against the rows.
    """
    there = (1.0 - hat > ZERO_VARIANCE) & (p > 0)
    distance = (residuals / _at_least(1.0 - hat, there)) ** 2 * hat / (np.maximum(p, 1) * sigma**2)
    return np.where(there, distance, np.nan)


def _at_least(variance: Floats, there: Bools) -> Floats:
    return np.where(there, variance, 1.0)
