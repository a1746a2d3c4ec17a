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

from jaxhlm.design import Design
from jaxhlm.estimates import Estimates
from jaxhlm.notation import Floats
from jaxhlm.segments import Segments
from jaxhlm.standardise import Rows

__all__ = [
    "Components",
    "RowMoments",
    "components",
    "design_moments",
    "icc",
    "moments_by_lane",
    "r2",
]


class RowMoments(NamedTuple):
    """Moments of the rows; b is 1 when all lanes share a design."""

    X_cov: Floats  # (b, p, p) sample covariance of the rows of X
    ZZ: Floats  # (b, q, q) mean of z_j z_j'


class Components(NamedTuple):
    """Variance components of B fits on the scale of y²; (B,) each."""

    fixed: Floats
    random: Floats
    residual: Floats


def design_moments(design: Design) -> RowMoments:
    """Moments of one design's rows."""
    return _moments(design.X, design.Z, Segments(np.zeros(design.n, np.int64)))


def moments_by_lane(rows: Rows) -> RowMoments:
    """Moments of the rows of every lane."""
    return _moments(rows.X, rows.Z, Segments(rows.lane))


def _moments(X: Floats, Z: Floats, lanes: Segments) -> RowMoments:
    n = lanes.lengths[:, None, None].astype(float)
    X = X - lanes.spread(lanes.sum(X) / n[:, 0])
    X_cov, ZZ = (
        np.stack([lanes.sum(A[:, [j]] * A) for j in range(A.shape[1])], axis=1) for A in (X, Z)
    )
    return RowMoments(X_cov / np.maximum(n - 1.0, 1.0), ZZ / n)


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
