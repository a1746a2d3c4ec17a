"""Tests of contrasts of β with small-sample degrees of freedom, all lanes at once.

A single contrast is referred to t: Satterthwaite's df with observed information, Kenward & Roger's
with expected information and their adjusted covariance, "residual" with n − p, "normal" with
infinitely many. Several rows together give F.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from jaxhlm.core.chunks import slices
from jaxhlm.core.notation import Floats, Ints, check_option
from jaxhlm.core.status import Status
from jaxhlm.errors import NeedsRemlError
from jaxhlm.estimation.estimates import Estimates
from jaxhlm.inference import kenward_roger, satterthwaite
from jaxhlm.inference.information import Information, contrast_gradients, groups_at, inverse_forms
from jaxhlm.likelihood.covariance import lambda_of
from jaxhlm.linalg.stacked import cholesky, solve_lower
from jaxhlm.optimise.options import Options
from jaxhlm.statistics.response import Standardised

__all__ = [
    "METHOD_NAMES",
    "SMALL_SAMPLE",
    "DfMethod",
    "adjusted_vcov",
    "check_df",
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
TILE_NUMBERS = 2**19
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
        delta = contrast_gradients(at, u) / size - at.drift[:, None]
        df = 1.0 / (1.0 / at.nu + inverse_forms(at, delta))
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
    rule = satterthwaite if method == "satterthwaite" else kenward_roger
    parts = []
    for part, _, at, root in _tiles(estimates, standardised, options, method):
        u = np.einsum("pql,rq->prl", root, L)
        off = ((part.beta @ L.T - rhs) / part.sigma[:, None]).T
        u, off = _comparable(u, off)
        parts.append(rule.joint_f(at, u, off))
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


# A fit that lacks a column that L is about has no variance there.
@np.errstate(all="ignore")
def wald_f(estimates: Estimates, L: Floats, rhs: Floats) -> Floats:
    """(Lβ̂ − rhs)'(L V L')⁻¹(Lβ̂ − rhs)/r of B fits, (B,)."""
    cov = np.einsum("ip,lpq,jq->ijl", L, estimates.vcov, L, optimize=True)
    z = solve_lower(cholesky(cov), (estimates.beta @ L.T - rhs).T)
    return (z**2).sum(axis=0) / len(L)


def _information(
    estimates: Estimates, standardised: Standardised, options: Options, method: DfMethod
) -> tuple[Information, Floats]:
    """Information at the estimates, and the (p, p, B) matrix that takes a contrast to u."""
    Lambda = np.moveaxis(lambda_of(estimates.theta_standard.T, options.blocks), 0, -1)
    at = groups_at(Lambda, standardised.stats, options.reml)
    if method == "satterthwaite":
        singular = estimates.status == Status.SINGULAR
        found = satterthwaite.observed(at, Lambda, singular, options.reml, options.blocks)
    else:
        found = kenward_roger.expected(at, options.blocks)
    return found, solve_lower(at.L_A, standardised.scaling.T.swapaxes(0, 1))


def _tiles(
    estimates: Estimates, standardised: Standardised, options: Options, method: DfMethod
) -> Iterator[tuple[Estimates, slice, Information, Floats]]:
    """Runs of lanes whose arrays fit the cache, with what ``_information`` says of each."""
    stats, B = standardised.stats, len(estimates.status)
    G, q, p = stats.TX.shape[:3]
    per_lane = G * q * max(q, p) + q * (q + 1) // 2 * p * p
    for run in slices(B, TILE_NUMBERS // per_lane):
        part = estimates[run]
        yield part, run, *_information(part, standardised.take(run), options, method)
