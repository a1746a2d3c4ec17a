"""Tests of contrasts of β with small-sample degrees of freedom, all lanes at once.

A single contrast is referred to t with df degrees of freedom, equation (S) of
``inference/information.py``: Satterthwaite's with observed, Kenward & Roger's with expected
information and their adjusted covariance, "residual" to n − p, "normal" to infinitely many.

Several rows together give F. **Satterthwaite** (as ``lmerTest::contestMD``): the eigenvectors of
L V L' turn the rows into uncorrelated contrasts with statistics t_m and df ν_m; F is the mean of
the t_m², and its denominator df make E(F) right: 2E/(E − r) with E = Σ ν_m/(ν_m − 2), or 2 if some
ν_m ≤ 2. **Kenward & Roger** (1997; as ``pbkrtest::KRmodcomp``): with U an orthonormal
basis of L_A⁻¹L', K_s = U'B_s U − (v_s/ν) I and k_s = tr K_s, their sums over W are

    A₁ = 2 (k'S⁻¹k + r²/ν)        A₂ = 2 (Σ_st S⁻¹_st tr(K_s K_t) + r/ν)

in the basis of ``inference/information.py``, and λF ~ F(r, m) with λ and m from A₁ and A₂. For
one row λ = 1 and m = 2/A₁.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from jaxhlm.core.notation import Floats, Ints, check_option
from jaxhlm.core.status import Status
from jaxhlm.errors import NeedsRemlError
from jaxhlm.estimation.estimates import Estimates
from jaxhlm.inference.information import Information, expected, groups_at, observed
from jaxhlm.inference.tails import t_quantile, t_tail
from jaxhlm.likelihood.covariance import lambda_of
from jaxhlm.linalg.factors import principal_axes
from jaxhlm.linalg.stacked import cholesky, solve_lower
from jaxhlm.optimise.options import Options
from jaxhlm.statistics.response import Standardised

__all__ = [
    "METHOD_NAMES",
    "SMALL_SAMPLE",
    "DfMethod",
    "adjusted_vcov",
    "check_df",
    "inference_table",
    "joint_test",
    "reference_tests",
    "single_tests",
    "wald_f",
]

DfMethod = Literal["satterthwaite", "kenward-roger", "residual", "normal"]
SMALL_SAMPLE = ("satterthwaite", "kenward-roger")
METHOD_NAMES = {
    "satterthwaite": "Satterthwaite's method",
    "kenward-roger": "Kenward-Roger's method",
    "residual": "n − p degrees of freedom",
    "normal": "the normal distribution",
}

# Numbers that are worked on at a time: few enough for the caches, and many for every call of NumPy.
WORKING_SET = 2**19
# Denominator df that differ by less are equal: lmerTest's tolerance.
EQUAL_DF = 1e-8
# Standard errors of a joint test's contrasts of which the larger takes the digits of the smaller.
FAR_APART = 1e3


def check_df(method: str, reml: bool) -> None:
    """Raise unless ``method`` is known and defined for fits by REML or, as it may be, by ML."""
    check_option("df", method, DfMethod)
    if method == "kenward-roger" and not reml:
        raise NeedsRemlError(
            "Kenward-Roger is defined for REML fits, and these are by maximum likelihood; fit with "
            'reml=True, or use df="satterthwaite"'
        )


def reference_tests(
    estimates: Estimates, nobs: Ints, L: Floats, method: DfMethod
) -> tuple[Floats, Floats]:
    """Standard errors (B, r) of contrasts, and df: n − rank X for "residual", ∞ for "normal"."""
    se = np.sqrt(((L @ estimates.filled.vcov) * L).sum(axis=-1))
    rank = (~estimates.absent).sum(axis=1)
    df = nobs - rank if method == "residual" else np.full(len(nobs), np.inf)
    return se, np.where(np.isnan(se), np.nan, df[:, None])


@np.errstate(all="ignore")
def single_tests(
    estimates: Estimates, standardised: Standardised, options: Options, L: Floats, method: DfMethod
) -> tuple[Floats, Floats]:
    """Standard errors and df of contrasts.

    Args:
        estimates: of B fits.
        standardised: their standardised statistics.
        options: what was optimised.
        L: (r, p) contrasts, one per row, or (B, r, p) where every fit has its own.
        method: "satterthwaite" or "kenward-roger".

    Returns:
        (B, r) and (B, r); NaN where a fit failed or its Hessian is not positive definite.
    """
    parts = []
    for part, run, at, root in _tiles(estimates, standardised, options, method):
        if L.ndim == 2:
            u = np.einsum("pql,rq->prl", root, L)
        else:
            u = np.einsum("pql,lrq->prl", root, L[run])
        size = np.einsum("prl,prl->rl", u, u)
        delta = _gain(at, u) / size - at.drift[:, None]
        df = 1.0 / (1.0 / at.nu + _squares(at, delta))
        if at.correction is not None:
            size = size + np.einsum("prl,pql,qrl->rl", u, at.correction, u, optimize=True)
        parts.append((part.sigma[:, None] * np.sqrt(size.T), df.T))
    se, df = (np.concatenate(p) for p in zip(*parts, strict=True))
    return se, df


@np.errstate(all="ignore")
def adjusted_vcov(
    estimates: Estimates, standardised: Standardised, options: Options
) -> tuple[Floats]:
    """(B, p, p) Kenward & Roger's adjusted covariance Φ_A of β̂, equation (KR)."""
    parts = []
    for part, _, at, root in _tiles(estimates, standardised, options, "kenward-roger"):
        inner = np.einsum("pql,qrl->prl", at.correction, root)
        adjusted = np.einsum("pil,pjl->lij", root, root + inner)
        parts.append(part.sigma[:, None, None] ** 2 * adjusted)
    return (np.concatenate(parts),)


@np.errstate(all="ignore")
def joint_test(
    estimates: Estimates,
    standardised: Standardised,
    options: Options,
    L: Floats,
    rhs: Floats,
    method: DfMethod,
) -> tuple[Floats, Floats]:
    """F statistic and denominator df of H₀: Lβ = rhs, for linearly independent rows of L.

    Args:
        estimates: of B fits.
        standardised: their standardised statistics.
        options: what was optimised.
        L: (r, p) contrasts, one per row.
        rhs: (r,) their values under the hypothesis.
        method: "satterthwaite" or "kenward-roger" (F then includes the factor λ).

    Returns:
        (B,) and (B,).
    """
    test = _joint_satterthwaite if method == "satterthwaite" else _joint_kenward_roger
    parts = []
    for part, _, at, root in _tiles(estimates, standardised, options, method):
        u = np.einsum("pql,rq->prl", root, L)
        off = ((part.beta @ L.T - rhs) / part.sigma[:, None]).T
        u, off = _comparable(u, off)
        parts.append(test(at, u, off))
    F, df = (np.concatenate(p) for p in zip(*parts, strict=True))
    return F, df


def _comparable(u: Floats, off: Floats) -> tuple[Floats, Floats]:
    """Contrasts (p, r, B) and (r, B) as they are, or all as long, where squares would lose some.

    F is the same in any unit of a row; Satterthwaite's df are those of lmerTest if no row is kept
    in another unit than it was given in.
    """
    size = np.sqrt(np.einsum("prl,prl->rl", u, u))
    far = size.max(axis=0) > FAR_APART * size.min(axis=0)
    size = np.where(far, size, 1.0)
    return u / size, off / size


def _joint_satterthwaite(at: Information, u: Floats, off: Floats) -> tuple[Floats, Floats]:
    """F and its df from uncorrelated contrasts; ``off`` (r, B) is (Lβ̂ − rhs)/σ̂."""
    variance, vectors = _eigen(np.einsum("pil,pjl->ijl", u, u))
    u = np.einsum("prl,rml->pml", u, vectors)
    t2 = np.einsum("rl,rml->ml", off, vectors) ** 2 / variance
    delta = _gain(at, u) / variance - at.drift[:, None]
    nu = 1.0 / (1.0 / at.nu + _squares(at, delta))
    r = len(nu)
    excess = (nu / (nu - 2.0)).sum(axis=0)
    df = np.where((nu <= 2.0).any(axis=0), 2.0, 2.0 * excess / (excess - r))
    df = np.where(np.ptp(nu, axis=0) < EQUAL_DF, nu.mean(axis=0), df)
    return t2.mean(axis=0), df


def _joint_kenward_roger(at: Information, u: Floats, off: Floats) -> tuple[Floats, Floats]:
    """λF and its df m (Kenward & Roger 1997)."""
    r = u.shape[1]
    U = solve_lower(cholesky(np.einsum("pil,pjl->ijl", u, u)), u.swapaxes(0, 1))
    K = np.einsum("ipl,sprl,jrl->sijl", U, at.B, U, optimize=True)
    K -= at.drift[:, None, None] * np.eye(r)[..., None]
    half = solve_lower(at.root, K)
    trace = np.einsum("siil->sl", half)
    A1 = 2.0 * ((trace**2).sum(axis=0) + r**2 / at.nu)
    A2 = 2.0 * ((half**2).sum(axis=(0, 1, 2)) + r / at.nu)
    g = ((r + 1) * A1 - (r + 4) * A2) / ((r + 2) * A2)
    B = (A1 + 6.0 * A2) / (2 * r)
    c1, c2, c3 = (c / (3 * r + 2.0 * (1.0 - g)) for c in (g, r - g, r + 2 - g))
    # In this order 1/(1 − A₂/r)² and (1 − c₂B)² cancel where both vanish, as for one row.
    ratio = _quotient(1.0 - A2 / r, 1.0 - c2 * B)
    rho = ratio**2 * (1.0 + c1 * B) / (1.0 - c3 * B) / r
    df = 4.0 + (r + 2) / (r * rho - 1.0)
    scale = np.where(np.abs(df - 2.0) < 1e-2, 1.0, df * (1.0 - A2 / r) / (df - 2.0))
    cov = np.einsum("pil,pjl->ijl", u, u + np.einsum("pql,qrl->prl", at.correction, u))
    z = solve_lower(cholesky(cov), off)
    return scale * (z**2).sum(axis=0) / r, df


# A fit that lacks a column that L is about has no variance there.
@np.errstate(all="ignore")
def wald_f(estimates: Estimates, L: Floats, rhs: Floats) -> Floats:
    """(Lβ̂ − rhs)'(L V L')⁻¹(Lβ̂ − rhs)/r of B fits, (B,)."""
    cov = np.einsum("ip,lpq,jq->ijl", L, estimates.vcov, L, optimize=True)
    z = solve_lower(cholesky(cov), (estimates.beta @ L.T - rhs).T)
    return (z**2).sum(axis=0) / len(L)


def inference_table(
    estimate: Floats, se: Floats, df: Floats, rhs: Floats | float, level: float
) -> dict[str, Floats]:
    """Columns estimate … conf_high, all of one shape; df may be infinite."""
    with np.errstate(invalid="ignore", divide="ignore"):
        t = (estimate - rhs) / se
        margin = t_quantile(0.5 + level / 2.0, df) * se
    return {
        "estimate": estimate,
        "std_error": se,
        "df": df,
        "statistic": t,
        "p_value": t_tail(t, df),
        "conf_low": estimate - margin,
        "conf_high": estimate + margin,
    }


def _information(
    estimates: Estimates, standardised: Standardised, options: Options, method: DfMethod
) -> tuple[Information, Floats]:
    """Information at the estimates, and the (p, p, B) matrix that takes a contrast to u."""
    Lambda = np.moveaxis(lambda_of(estimates.theta_standard.T, options.blocks), 0, -1)
    at = groups_at(Lambda, standardised.stats, options.reml)
    if method == "satterthwaite":
        singular = estimates.status == Status.SINGULAR
        found = observed(at, Lambda, singular, options.reml, options.blocks)
    else:
        found = expected(at, options.blocks)
    return found, solve_lower(at.L_A, standardised.scaling.T.swapaxes(0, 1))


def _gain(at: Information, u: Floats) -> Floats:
    """u'B_s u for every column of u (p, r, B), (k, r, B)."""
    return np.stack([np.einsum("prl,prl->rl", u, np.einsum("pql,qrl->prl", B, u)) for B in at.B])


def _squares(at: Information, delta: Floats) -> Floats:
    """δ'H⁻¹δ for δ (k, r, B), (r, B)."""
    if at.tangent is not None:
        delta = np.einsum("stl,srl->trl", at.tangent, delta)
    half = solve_lower(at.root, delta)
    return np.einsum("srl,srl->rl", half, half)


def _eigen(A: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues (r, B) and vectors (r, r, B) of symmetric matrices (r, r, B); NaN where A is."""
    finite = np.isfinite(A).all(axis=(0, 1))
    values, vectors = principal_axes(np.moveaxis(np.where(finite, A, 0.0), -1, 0))
    return np.where(finite, values.T, np.nan), np.moveaxis(vectors, 0, -1)


def _quotient(a: Floats, b: Floats) -> Floats:
    """a/b, and 1 where both are zero to rounding."""
    both = (np.abs(a) < 1e-14) & (np.abs(b) < 1e-14)
    return np.where(both, 1.0, a / np.where(both, 1.0, b))


def _tiles(
    estimates: Estimates, standardised: Standardised, options: Options, method: DfMethod
) -> Iterator[tuple[Estimates, slice, Information, Floats]]:
    """Runs of lanes whose arrays fit the cache, with what ``_information`` says of each."""
    stats, B = standardised.stats, len(estimates.status)
    G, q, p = stats.TX.shape[:3]
    per_lane = G * q * max(q, p) + q * (q + 1) // 2 * p * p
    size = max(1, WORKING_SET // per_lane)
    for first in range(0, B, size):
        run = slice(first, min(first + size, B))
        part = estimates[run]
        yield part, run, *_information(part, standardised.take(run), options, method)
