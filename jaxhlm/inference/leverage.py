"""Leverage and residual variances of every row of one fit.

In rows scaled by √w, with y = Xβ + Zb + ε and V = I + ZDZ', the fitted values are linear in y,

    Xβ̂ + Zb̂ = Hy,     I − H = V⁻¹ − V⁻¹X A⁻¹ X'V⁻¹,     A = X'V⁻¹X

With q_j the row of Q_Z and x_j that of V⁻¹X, h_j = q_j'(I − Ω⁻¹)q_j + x_j'A⁻¹x_j, which equals
``lme4``'s ``hatvalues``.
Given θ, the residuals have exact variances (Haslett & Haslett 2007, Int. Stat. Rev. 75, 1-24):

    conditional: Var(y − Xβ̂ − Zb̂) = σ²(I − H)        marginal: Var(y − Xβ̂) = σ²(V − X A⁻¹ X')
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxhlm.inference.henderson import Henderson
from jaxhlm.notation import Bools, Floats
from jaxhlm.rows.standardise import StandardDesign

__all__ = ["Leverage", "cooks_distance", "leverage", "standardized"]

# A variance this small beside that of the error is a residual that is zero by construction.
ZERO_VARIANCE = 1e-12


class Leverage(NamedTuple):
    """Of every row, in the order of the design's sorted rows; (n,) each."""

    hat: Floats  # diag H
    marginal: Floats  # diag(V − X A⁻¹ X'), over σ²/w


def leverage(h: Henderson, design: StandardDesign) -> Leverage:
    """Diagonals of H and of the variance of marginal residuals.

    Args:
        h: Henderson's blocks of the fit.
        design: its standardised design, of one lane.
    """
    Q, groups = design.QZ, design.groups
    RZ, TX = design.stats.RZ[..., 0], design.stats.TX[..., 0]
    between = RZ @ h.D @ RZ.swapaxes(1, 2)
    omega = np.eye(Q.shape[1]) + between
    # I − Ω⁻¹ without taking a difference: Ω⁻¹(Ω − I).
    shrunk = np.linalg.solve(omega, between)

    def along(M: Floats) -> Floats:
        return np.einsum("ja,jab->jb", Q, M[groups.of_row])

    white = design.X_within + along(np.linalg.solve(omega, TX))
    plain = design.X_within + along(TX)
    hat = (along(shrunk) * Q).sum(axis=1) + ((white @ h.root) ** 2).sum(axis=1)
    fitted = ((plain @ h.root) ** 2).sum(axis=1)
    return Leverage(hat, 1.0 + (along(between) * Q).sum(axis=1) - fitted)


def standardized(residuals: Floats, sigma: float, variance: Floats) -> Floats:
    """Residuals over their standard deviations; NaN where that is zero.

    Args:
        residuals: (n,) times √w.
        sigma: residual standard deviation.
        variance: (n,) their variances over σ².
    """
    there = variance > ZERO_VARIANCE
    return np.where(there, residuals / (sigma * np.sqrt(_at_least(variance, there))), np.nan)


def cooks_distance(residuals: Floats, sigma: float, hat: Floats, p: int) -> Floats:
    """(e/(1 − h))² h/(pσ²) of every row, as ``lme4``'s ``cooks.distance``; NaN where h is 1.

    Args:
        residuals: (n,) conditional residuals times √w.
        sigma: residual standard deviation.
        hat: (n,) leverages.
        p: number of fixed effects.
    """
    there = 1.0 - hat > ZERO_VARIANCE
    distance = (residuals / _at_least(1.0 - hat, there)) ** 2 * hat / (p * sigma**2)
    return np.where(there, distance, np.nan)


def _at_least(variance: Floats, there: Bools) -> Floats:
    return np.where(there, variance, 1.0)
