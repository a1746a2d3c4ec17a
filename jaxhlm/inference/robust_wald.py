"""F tests of several coefficients with cluster-robust covariances.

Q = (Cβ̂ − c)'(C V^R C')⁻¹(Cβ̂ − c) of r rows is referred to Hotelling's T² with ν degrees of freedom,

    (ν − r + 1)/(ν r) Q ~ F(r, ν − r + 1)

where ν matches the total variance of Ω^(−1/2) C V^R C' Ω^(−1/2), Ω = E(C V^R C') under the working
model, to that of a Wishart matrix: ν = r(r + 1)/Σ_st v_st (Zhang 2012; Tipton & Pustejovsky 2015,
J. Educ. Behav. Stat. 40, 604-634: HTZ). With P as in ``robust``, of rows s and t of Ω^(−1/2)C,

    P_st[i, j] = δ_ij a_is'a_it − h_is'M h_jt      v_st = Σ_ij P_ss[i, j] P_tt[i, j] + P_st[i, j]²

For r = 1 it is Satterthwaite's t.
"""

from __future__ import annotations

import numpy as np

from jaxhlm.core.notation import Bools, Floats, Ints
from jaxhlm.estimation.estimates import Estimates
from jaxhlm.inference.robust import RobustKind, Sandwich, covariance, runs_of, sandwich
from jaxhlm.likelihood.covariance import Blocks
from jaxhlm.statistics.group_contributions import GroupContributions

__all__ = ["robust_wald"]

# An eigenvalue of a correlation matrix this small is zero but for rounding.
SINGULAR = 1e-12


@np.errstate(all="ignore")
def robust_wald(
    estimates: Estimates,
    groups: GroupContributions,
    blocks: Blocks,
    kind: RobustKind,
    clusters: Ints | None,
    L: Floats,
    rhs: Floats,
) -> tuple[Floats, Floats]:
    """F and its denominator df, (B,) each, of Lβ = rhs; NaN where a fit failed.

    Args:
        estimates, groups, blocks, kind, clusters: as for ``robust_covariance``.
        L: (r, p) independent rows.
        rhs: (r,).
    """
    parts = []
    for run, some, of in runs_of(estimates, groups, clusters):
        own = estimates[run]
        found = sandwich(own, some, blocks, kind, of)
        V = L @ covariance(found, kind) @ L.T
        usable = found.ok & _invertible(V)
        off = np.where(usable[:, None], own.beta, np.nan) @ L.T - rhs
        V = np.where(usable[:, None, None], V, np.eye(len(L)))
        Q = (off * np.linalg.solve(V, off[..., None])[..., 0]).sum(axis=1)
        nu, r = _hotelling_df(found, L), len(L)
        den = np.where(nu - r + 1.0 > 0.0, nu - r + 1.0, np.nan)
        parts.append((den / (nu * r) * Q, den))
    F, den = (np.concatenate(part) for part in zip(*parts, strict=True))
    return F, den


def _invertible(V: Floats) -> Bools:
    """(B,) covariances (B, r, r) in which every combination that is tested has a variance."""
    size = np.sqrt(np.einsum("bii->bi", V))
    correlation = V / (size[:, :, None] * size[:, None, :])
    known = np.isfinite(correlation).all(axis=(1, 2))
    lowest = np.linalg.eigvalsh(np.where(known[:, None, None], correlation, 0.0))[:, 0]
    return np.asarray(lowest > SINGULAR)


def _hotelling_df(parts: Sandwich, L: Floats) -> Floats:
    """ν of every fit, (B,)."""
    M = parts.M
    a = parts.E @ (parts.MT @ L.T)[:, None]
    h = parts.X.swapaxes(-1, -2) @ a
    N, F = _products(a, h, M)
    values, vectors = np.linalg.eigh(np.where(parts.ok[:, None, None], (N - F).sum(axis=1), 1.0))
    root = (vectors / np.sqrt(values)[:, None]) @ vectors.mT
    a, h = a @ root[:, None], h @ root[:, None]
    N, F = _products(a, h, M)
    # tr(M H_st M H_ts) and tr(M H_ts M H_ts), with H_st = Σ h_s h_t'.
    H = np.einsum("bgis,bgjt->bstij", h, h)
    MH = M[:, None, None] @ H
    n, f = (np.einsum("bgss->bgs", x) for x in (N, F))
    n, f = n[..., None], f[..., None]
    same = n * n.mT - n * f.mT - f * n.mT
    crossed = N**2 - 2.0 * N * F
    total = (same + crossed).sum(axis=(1, 2, 3))
    total = total + np.einsum("bstij,btsji->b", MH, MH) + np.einsum("bstij,bstji->b", MH, MH)
    r = len(L)
    return np.asarray(r * (r + 1) / total)


def _products(a: Floats, h: Floats, M: Floats) -> tuple[Floats, Floats]:
    """a_s'a_t and h_s'Mh_t of every cluster, (B, J, r, r)."""
    return a.mT @ a, h.mT @ M[:, None] @ h
