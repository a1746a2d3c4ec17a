"""Variance explained and intraclass correlation, from moments of the rows of X and Z.

With σ_f² the variance of Xβ̂ over the rows (denominator n − 1), σ_l² the mean of z_j'Σz_j over the
rows (Johnson 2014, eq. 10, which makes random slopes count) and σ² the residual variance,

    R²_marginal = σ_f²/(σ_f² + σ_l² + σ²)        R²_conditional = (σ_f² + σ_l²)/(σ_f² + σ_l² + σ²)

(Nakagawa & Schielzeth 2013, eq. 26 and 30), and ICC = σ_l²/(σ_l² + σ²). σ² is that of a row of
weight 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxhlm.estimates import Estimates
from jaxhlm.notation import Floats
from jaxhlm.rows.moments import RowMoments

__all__ = [
    "Components",
    "components",
    "icc",
    "r2",
]


class Components(NamedTuple):
    """Variance components of B fits on the scale of y²; (B,) each."""

    fixed: Floats
    random: Floats
    residual: Floats


def components(estimates: Estimates, moments: RowMoments) -> Components:
    """σ_f², σ_l² and σ² of B fits."""
    beta = estimates.beta
    fixed = np.einsum("bi,bij,bj->b", beta, _lanes(moments.X_cov, beta), beta)
    random = (_lanes(moments.ZZ, beta) * estimates.cov).sum(axis=(1, 2))
    return Components(fixed, random, estimates.sigma**2)


def r2(c: Components) -> tuple[Floats, Floats]:
    """Marginal and conditional R² of B fits."""
    total = c.fixed + c.random + c.residual
    return c.fixed / total, (c.fixed + c.random) / total


def icc(c: Components) -> Floats:
    """Intraclass correlations of B fits at the mean random-effect variance."""
    return c.random / (c.random + c.residual)


def _lanes(x: Floats, like: Floats) -> Floats:
    return np.broadcast_to(x, (len(like), *x.shape[1:]))
