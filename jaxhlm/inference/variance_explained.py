"""Variance explained and intraclass correlation, from moments of the rows of X and Z.

With σ_f² the variance of Xβ̂ over the rows (denominator n − 1), σ_l² the mean of z_j'Σz_j over the
rows (Johnson 2014, by which random slopes count) and σ² the residual variance,

    R²_marginal = σ_f²/(σ_f² + σ_l² + σ²)        R²_conditional = (σ_f² + σ_l²)/(σ_f² + σ_l² + σ²)

(Nakagawa & Schielzeth 2013), and ICC = σ_l²/(σ_l² + σ²). σ² is that of a row of
weight 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxhlm.core.notation import Floats, Ints
from jaxhlm.design.design import Design
from jaxhlm.design.terms import evaluate_new
from jaxhlm.errors import OptionError, UnknownTermError
from jaxhlm.estimation.estimates import Estimates
from jaxhlm.statistics.moments import RowMoments

__all__ = ["Components", "components", "fractions", "icc", "icc_at", "patterns", "r2"]


class Components(NamedTuple):
    """Variance components of B fits on the scale of y²; (B,) each."""

    fixed: Floats
    random: Floats
    residual: Floats


def components(estimates: Estimates, moments: RowMoments) -> Components:
    """σ_f², σ_l² and σ² of B fits."""
    beta = estimates.beta
    fixed = np.einsum("bi,bij,bj->b", beta, _broadcast_lanes(moments.X_cov, beta), beta)
    random = (_broadcast_lanes(moments.ZZ, beta) * estimates.cov).sum(axis=(1, 2))
    return Components(fixed, random, estimates.sigma**2)


def r2(c: Components) -> tuple[Floats, Floats]:
    """Marginal and conditional R² of B fits."""
    total = c.fixed + c.random + c.residual
    return c.fixed / total, (c.fixed + c.random) / total


def fractions(estimates: Estimates, moments: RowMoments, fixed: Sequence[Ints]) -> Floats:
    """Shares of σ_f² + σ_l² + σ² of B fits, (B, m).

    Those of the fixed terms are Var(x_t'β_t), scaled to have the sum σ_f² whatever the covariances
    of terms (as ``variancePartition``). Units have z̄'Σz̄, their variance where all covariates are at
    their means, and their slopes Σ_jk Cov(z_j, z_k)Σ_jk, what is left of the mean of z_j'Σz_j.

    Args:
        estimates: of the fits.
        moments: of their rows.
        fixed: columns of X of every fixed term.

    Returns:
        Columns for every fixed term, units, slopes and residuals.
    """
    c, X_cov = components(estimates, moments), _broadcast_lanes(moments.X_cov, estimates.beta)
    own = [
        np.einsum("bi,bij,bj->b", beta, X_cov[:, at[:, None], at], beta)
        for at, beta in ((at, estimates.beta[:, at]) for at in fixed)
    ]
    scale = c.fixed / np.where(c.fixed > 0.0, sum(own), 1.0)
    parts = [scale * part for part in own]
    mean = _broadcast_lanes(moments.Z_mean, estimates.beta)
    units = np.einsum("bi,bij,bj->b", mean, estimates.cov, mean)
    found: Floats = np.column_stack([*parts, units, c.random - units, c.residual])
    return found / (c.fixed + c.random + c.residual)[:, None]


def icc(c: Components) -> Floats:
    """Intraclass correlations of B fits at the mean random-effect variance."""
    return c.random / (c.random + c.residual)


def icc_at(estimates: Estimates, Z: Floats) -> Floats:
    """z'Σz/(z'Σz + σ²) of B fits at m rows z of Z (m, q), (B, m).

    The correlation of two rows of one unit that both have this z, σ² being that of weight 1.
    """
    between = ((Z @ estimates.cov) * Z).sum(axis=-1)
    with np.errstate(invalid="ignore"):
        return between / (between + estimates.sigma[:, None] ** 2)


def patterns(design: Design, at: Mapping[str, Any] | pd.DataFrame) -> Floats:
    """(m, q) rows of Z at values of the variables of the random part.

    Args:
        design: the design.
        at: one value for every variable, or a frame with a row for every pattern.

    Raises:
        UnknownTermError: ``at`` names what is not in the random part, or lacks a variable of it.
        OptionError: a value is missing, or ``at`` has no row.
        NewLevelError: a level of a factor that the fit has not seen.
    """
    if isinstance(at, pd.Series):
        at = at.to_dict()
    if not isinstance(at, Mapping | pd.DataFrame):
        raise OptionError(f"at={at!r} must be a mapping from variables to values, or a DataFrame")
    frame = at if isinstance(at, pd.DataFrame) else pd.DataFrame([dict(at)])
    known = list(dict.fromkeys(v for part in design._random for v in part.variables))
    wrong = [name for name in frame if name not in known] + [v for v in known if v not in frame]
    if wrong:
        is_it = "is not a variable" if wrong[0] not in known else "has no value in at: a variable"
        raise UnknownTermError(
            f"{wrong[0]!r} {is_it} of the random part of the formula; give values for: "
            + (", ".join(map(repr, known)) or "none, its variances are the same in all rows")
        )
    if not len(frame) or frame.isna().any(axis=None):
        raise OptionError(f"at={at!r} must have a value for every variable of the random part")
    return np.concatenate([evaluate_new(p, frame, design._factors) for p in design._random], axis=1)


def _broadcast_lanes(x: Floats, like: Floats) -> Floats:
    return np.broadcast_to(x, (len(like), *x.shape[1:]))
