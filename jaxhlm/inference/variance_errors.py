"""Standard errors of standard deviations and correlations, from the curvature of the criterion.

With H = ∂²d/∂D², σ profiled out, and r of ``inference/information.py``, the inverse of half the
Hessian of d in (D, log τ), the observed information, is by blocks

    Cov(D) = 2 H⁻¹      Cov(D, log τ) = −2 H⁻¹ r/(τν)      Var(log τ) = 2/ν + 2 r'H⁻¹r/(τν)².

Of functions g of these Var(g) = J Cov J' (the delta method). Standard deviations are taken on the
logarithmic scale and correlations on that of atanh, on which Wald intervals are nearer to those of
the profile (Pinheiro & Bates 2000, Mixed-Effects Models in S and S-PLUS, section 2.4.3), as
``nlme::intervals``, whose second derivatives are differences, good to a few percent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from jaxhlm.core.notation import Bools, Floats
from jaxhlm.core.status import Status
from jaxhlm.estimation.estimates import Estimates
from jaxhlm.inference.criteria import correlation, normal_limit
from jaxhlm.inference.information import directions, groups_at
from jaxhlm.inference.satterthwaite import curvature
from jaxhlm.likelihood.covariance import lambda_of, theta_index
from jaxhlm.optimise.options import Options
from jaxhlm.statistics.response import Standardised

__all__ = ["VarianceScale", "limits", "log_scale_errors"]

VarianceScale = Literal["log", "sd"]
Entries = Sequence[tuple[int, int]]


@np.errstate(all="ignore")
def log_scale_errors(
    estimates: Estimates, standardised: Standardised, options: Options, entries: Entries
) -> tuple[Floats]:
    """(B, m + 1) standard errors of log sd, atanh of correlations, and log σ.

    Args:
        estimates: of B fits.
        standardised: their standardised statistics.
        options: what was optimised.
        entries: m pairs of columns of Z: one and the same for a standard deviation, two for a
            correlation.

    Returns:
        NaN where a fit failed, is on the boundary, or its curvature is not positive.
    """
    Lambda = np.moveaxis(lambda_of(estimates.theta_standard.T, options.blocks), 0, -1)
    at, index = groups_at(Lambda, standardised.stats, options.reml), theta_index(options.blocks)
    H, r, _, _ = curvature(at, index, options.reml)
    nu, drift = at.nu[:, None], (r / at.nu).T
    inverse = _inverse(np.moveaxis(H, -1, 0))
    moved = np.einsum("bst,bt->bs", inverse, drift)
    cov = np.empty((len(drift), len(index) + 1, len(index) + 1))
    cov[:, :-1, :-1] = 2.0 * inverse
    cov[:, :-1, -1] = cov[:, -1, :-1] = -2.0 * moved
    cov[:, -1:, -1] = 2.0 / nu + 2.0 * (drift * moved).sum(axis=1, keepdims=True)
    C = np.moveaxis(standardised.scaling.C, -1, 0)
    E = directions(index, len(Lambda))
    # How the user's Λ Λ' changes with the entries of the standardised one.
    change = np.einsum("...ab,sbc,...dc->...sad", C, E, C)
    J = _jacobian(estimates, np.broadcast_to(change, (len(cov), *change.shape[1:])), entries)
    se = np.sqrt(np.einsum("bms,bst,bmt->bm", J, cov, J))
    interior = estimates.status != Status.SINGULAR
    return (np.where(interior[:, None], se, np.nan),)


def _inverse(H: Floats) -> Floats:
    """Inverses of (B, k, k); NaN where H is not positive definite."""
    finite: Bools = np.asarray(np.isfinite(H).all(axis=(1, 2)))
    values, vectors = np.linalg.eigh(np.where(finite[:, None, None], H, np.eye(H.shape[1])))
    positive = finite & (values[:, 0] > 0.0)
    inverse = np.einsum("bij,bj,bkj->bik", vectors, 1.0 / values, vectors)
    return np.where(positive[:, None, None], inverse, np.nan)


def _jacobian(estimates: Estimates, change: Floats, entries: Entries) -> Floats:
    """(B, m + 1, k + 1) derivatives of what ``log_scale_errors`` tells by (D, log τ)."""
    D = estimates.cov / estimates.sigma[:, None, None] ** 2
    corr, variance = correlation(D), np.diagonal(D, axis1=1, axis2=2)
    share = np.diagonal(change, axis1=2, axis2=3) / variance[:, None]
    J = np.zeros((len(D), len(entries) + 1, change.shape[1] + 1))
    for m, (a, b) in enumerate(entries):
        if a == b:
            J[:, m, :-1], J[:, m, -1] = 0.5 * share[..., a], 0.5
        else:
            rho = corr[:, a, b, None]
            own = change[..., a, b] / np.sqrt(variance[:, a] * variance[:, b])[:, None]
            J[:, m, :-1] = own - 0.5 * rho * (share[..., a] + share[..., b])
            J[:, m, :-1] /= 1.0 - rho**2
    J[:, -1, -1] = 0.5
    return J


@np.errstate(all="ignore")
def limits(
    values: Floats, log_errors: Floats, entries: Entries, scale: VarianceScale, level: float
) -> tuple[Floats, Floats, Floats]:
    """Standard errors of sd, correlations and σ (B, m + 1), and their Wald limits.

    Args:
        values: (B, m + 1) estimates.
        log_errors: what ``log_scale_errors`` gives.
        entries: as there.
        scale: "log" for limits from log sd and atanh of correlations, "sd" for value ± z se.
        level: of confidence.
    """
    is_corr = np.array([a != b for a, b in entries] + [False])
    se = log_errors * np.where(is_corr, 1.0 - values**2, values)
    z = normal_limit(level)
    if scale == "sd":
        return se, values - z * se, values + z * se
    ends = []
    for sign in (-1.0, 1.0):
        step = sign * z * log_errors
        ends.append(np.where(is_corr, np.tanh(np.arctanh(values) + step), values * np.exp(step)))
    return se, ends[0], ends[1]
