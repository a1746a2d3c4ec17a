"""Tests of contrasts of β with small-sample degrees of freedom, all lanes at once.

A single contrast is referred to t: Satterthwaite's df with observed information, Kenward & Roger's
with expected information and their adjusted covariance, "residual" with n − p, "normal" with
infinitely many. Several rows together give F.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from jaxhlm.core.notation import Floats, Ints, check_option
from jaxhlm.errors import NeedsRemlError
from jaxhlm.estimation.estimates import Estimates
from jaxhlm.inference import kenward_roger, satterthwaite
from jaxhlm.inference.contrast_information import Tile
from jaxhlm.inference.information import single_df
from jaxhlm.linalg.stacked import cholesky, solve_lower

__all__ = [
    "METHOD_NAMES",
    "SMALL_SAMPLE",
    "DfMethod",
    "adjusted_vcov",
    "check_df",
    "joint_tests",
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
def single_tests(estimates: Estimates, tiles: Iterable[Tile], L: Floats) -> tuple[Floats, Floats]:
    """Standard errors and df of contrasts.

    Args:
        estimates: of B fits.
        tiles: what their variances tell by Satterthwaite's or Kenward and Roger's method.
        L: (r, p) contrasts, one per row, or (B, r, p) where every fit has its own.

    Returns:
        (B, r) and (B, r); NaN where a fit failed or its Hessian is not positive definite.
    """
    parts = []
    for run, at, root in tiles:
        if L.ndim == 2:
            u = np.einsum("pql,rq->prl", root, L)
        else:
            u = np.einsum("pql,lrq->prl", root, L[run])
        size = np.einsum("prl,prl->rl", u, u)
        df = single_df(at, u, size)
        if at.correction is not None:
            size = size + np.einsum("prl,pql,qrl->rl", u, at.correction, u, optimize=True)
        parts.append((estimates.sigma[run, None] * np.sqrt(size.T), df.T))
    se, df = (np.concatenate(p) for p in zip(*parts, strict=True))
    return se, df


@np.errstate(all="ignore")
def adjusted_vcov(estimates: Estimates, tiles: Iterable[Tile]) -> tuple[Floats]:
    """(B, p, p) Kenward & Roger's adjusted covariance Φ_A of β̂, equation (KR)."""
    parts = []
    for run, at, root in tiles:
        inner = np.einsum("pql,qrl->prl", at.correction, root)
        adjusted = np.einsum("pil,pjl->lij", root, root + inner)
        parts.append(estimates.sigma[run, None, None] ** 2 * adjusted)
    return (np.concatenate(parts),)


@np.errstate(all="ignore")
def joint_tests(
    estimates: Estimates,
    tiles: Iterable[Tile],
    hypotheses: Sequence[tuple[Floats, Floats]],
    method: DfMethod,
) -> tuple[Floats, Floats, Floats]:
    """F statistics and denominator df of hypotheses Lβ = rhs.

    Args:
        estimates: of B fits.
        tiles: what their variances tell by ``method``.
        hypotheses: T of them: linearly independent rows L (r, p), or (B, r, p) where every fit has
            its own, and (r,) right sides.
        method: "satterthwaite" or "kenward-roger" (F then includes the factor λ).

    Returns:
        (B, T) each: F, its df, and the factor λ in F, 1 with "satterthwaite".
    """
    rule = satterthwaite if method == "satterthwaite" else kenward_roger
    parts = []
    for run, at, root in tiles:
        part = estimates[run]
        found = [
            rule.joint_f(at, *_comparable(*_scaled(part, root, L if L.ndim == 2 else L[run], rhs)))
            for L, rhs in hypotheses
        ]
        parts.append([np.stack(x, axis=1) for x in zip(*found, strict=True)])
    F, df, scale = (np.concatenate(p) for p in zip(*parts, strict=True))
    return F, df, scale


def _scaled(part: Estimates, root: Floats, L: Floats, rhs: Floats) -> tuple[Floats, Floats]:
    """L_A⁻¹L' (p, r, B) and (Lβ̂ − rhs)/σ̂ (r, B)."""
    u = np.einsum("pql,rq->prl" if L.ndim == 2 else "pql,lrq->prl", root, L)
    off = ((L @ part.beta[..., None])[..., 0] - rhs) / part.sigma[:, None]
    return u, off.T


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
    """(Lβ̂ − rhs)'(L V L')⁻¹(Lβ̂ − rhs)/r of B fits, (B,), for L (r, p) or (B, r, p)."""
    cov = np.moveaxis(L @ estimates.vcov @ L.swapaxes(-1, -2), 0, -1)
    z = solve_lower(cholesky(cov), ((L @ estimates.beta[..., None])[..., 0] - rhs).T)
    return (z**2).sum(axis=0) / L.shape[-2]
