"""Power without simulation: from the information about β and the variances at the truth.

At the true Σ and σ², Var(Lβ̂) = L(Σ X_i'V_i⁻¹X_i)⁻¹L', and the t statistic of one contrast is about
noncentral t with δ = (c'β − r)/√Var(c'β̂) and the degrees of freedom of equation (S) of
``jaxhlm.inference.kenward_roger`` with expected information. Several rows give noncentral F with
λ = (Lβ − r)'Var(Lβ̂)⁻¹(Lβ − r) and Fai & Cornelius's denominator df (Helms 1992, Stat. Med. 11,
1889-1904; Stroup 2002, JABES 7, 491-511). Of one contrast it is exact where β̂ does not depend on
the variances, as in balanced designs; otherwise an approximation that ignores their estimation
beyond the df. Several contrasts whose covariances are estimated, such as those of an intercept and
a slope, have no F distribution even then (in balanced designs it is Hotelling's T²): with few units
the test rejects more often than its level, and than this says, which simulation shows. All this is
of REML: maximum likelihood underestimates Var(Lβ̂), so that its tests reject more often.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxhlm.core.notation import Floats
from jaxhlm.design.design import Design
from jaxhlm.estimation.pipeline import Prepared
from jaxhlm.inference.contrast_tests import DfMethod
from jaxhlm.inference.information import groups_at, single_df
from jaxhlm.inference.kenward_roger import expected
from jaxhlm.inference.tails import (
    f_quantile,
    noncentral_f_cdf,
    noncentral_t_cdf,
    normal_cdf,
    t_quantile,
)
from jaxhlm.linalg.factors import principal_axes, semidefinite_root
from jaxhlm.linalg.stacked import solve_lower

if TYPE_CHECKING:
    from jaxhlm.studies.truth import Truth

__all__ = ["Precision", "analytic_power", "precision"]

# From here on t is normal to every digit that is shown.
LARGE_DF = 1e7


class Precision(NamedTuple):
    """How well r contrasts are estimated at the truth."""

    value: Floats  # (r,) Lβ
    cov: Floats  # (r, r) Var(Lβ̂)
    df: Floats  # (r,) of the variance of each of the uncorrelated contrasts ``rotation``'Lβ̂
    rotation: Floats  # (r, r) eigenvectors of ``cov``


def precision(design: Design, truth: Truth, L: Floats) -> Precision:
    """Exact covariance of Lβ̂ with known variances, and the df of its estimate by REML.

    Args:
        design: the design.
        truth: the parameters.
        L: (r, p) contrasts.
    """
    prepared = Prepared(design)
    matrices = prepared.matrices
    joined = prepared.equal.join_design(matrices.stats)
    one = joined._replace(
        Ty=np.zeros((*joined.TX.shape[:2], 1)), Xy=np.zeros((design.p, 1)), yy=np.ones(1)
    )
    C = matrices.C[..., 0]
    root: Floats = np.linalg.solve(C, semidefinite_root(truth.cov) / truth.sigma).astype(float)
    # With as few units as between-unit terms nothing is left to estimate variances from: NaN.
    with np.errstate(divide="ignore", invalid="ignore"):
        groups = groups_at(root[..., None], one, True)
        at = expected(groups, design.blocks)
    u = solve_lower(groups.L_A[..., 0], matrices.T[..., 0].T @ L.T)
    rotation = principal_axes(u.T @ u)[1]
    cov = truth.sigma**2 * (u.T @ u)
    turned = (u @ rotation)[..., None]
    df = single_df(at, turned, (turned**2).sum(axis=0))[:, 0]
    return Precision(L @ truth.fixed(design.xnames), cov, df, rotation)


def analytic_power(
    found: Precision,
    rhs: Floats,
    alpha: float = 0.05,
    df: DfMethod = "satterthwaite",
    df_residual: int = 0,
) -> float:
    """Probability that a two-sided t test, or an F test, of Lβ = rhs rejects.

    Args:
        found: of linearly independent rows.
        rhs: (r,) values under the hypothesis.
        alpha: level of the test.
        df: which critical value is used; the statistic's own df stay those of ``found``, so that
            "normal" shows how often a z test rejects.
        df_residual: n − p, for df="residual".

    Example:
        >>> import jaxhlm as hlm
        >>> design = hlm.design("~ x * a + (1 + x | unit)", hlm.load_dataset("article"))
        >>> truth = hlm.Truth.of([1, 3, -0.15, 0.3], sd=[0.2, 0.5], corr=0.9, sigma=0.75)
        >>> found = precision(design, truth, np.array([[0.0, 0.0, 0.0, 1.0]]))
        >>> round(analytic_power(found, np.zeros(1)), 3), found.df.round(6).tolist()
        (0.776, [28.0])
    """
    gap = found.rotation.T @ (found.value - rhs)
    size = np.diag(found.rotation.T @ found.cov @ found.rotation)
    own, r = _denominator(found.df), len(gap)
    used = {"residual": float(df_residual), "normal": np.inf}.get(df, own)
    if r == 1:
        critical = float(t_quantile(1.0 - alpha / 2.0, min(used, LARGE_DF)))
        delta = abs(float(gap[0])) / np.sqrt(size[0])
        if own >= LARGE_DF:
            return float(normal_cdf(delta - critical) + normal_cdf(-critical - delta))
        # The far tail is NaN where it is below 1e-30.
        far = np.nan_to_num(noncentral_t_cdf(-critical, own, delta))
        return float(1.0 - noncentral_t_cdf(critical, own, delta) + far)
    critical = f_quantile(1.0 - alpha, r, min(used, LARGE_DF))
    return 1.0 - float(noncentral_f_cdf(critical, r, min(own, LARGE_DF), (gap**2 / size).sum()))


def _denominator(df: Floats) -> float:
    """2E/(E − r) with E = Σ ν/(ν − 2), the df of ``contrast_tests.joint_tests``."""
    if len(df) == 1 or np.ptp(df) < 1e-8:
        return float(df.mean())
    if (df <= 2.0).any():
        return 2.0
    excess = float((df / (df - 2.0)).sum())
    return 2.0 * excess / (excess - len(df))
