"""Information about the variance parameters, and what it does to the precision of β̂.

Letters as in ``jaxhlm.deviance``; τ = σ². The criterion with β alone profiled out is

    d(D, τ) = Σ log|Ω_i| + log|A| [REML] + ν log 2πτ + pwrss(D)/τ

With P, e, G, F and the directions E_s of ``likelihood/derivatives.py`` (one per free entry of D),
and

    r_s = Σ e'E_s e        B_s = Σ G'E_s G        t_s = Σ m tr(E_s P)

the terms that profiling τ leaves out are ∂²d/∂D_s∂τ = r_s/τ² and, at τ = pwrss/ν, ∂²d/∂τ² = ν/τ².
Eliminating τ from this Hessian gives back the profiled curvature

    H_st = Σ tr(E_s P E_t Q) − (2/τ) h_s'h_t − (ν/pwrss²) r_s r_t − tr(B_s B_t) [REML].

The variance of a contrast c'β̂ is f = τ u'u with u = L_A⁻¹c. From dA = −L_A (Σ B_s dD_s) L_A',

    ∂f/∂τ = u'u        ∂f/∂D_s = τ u'B_s u

so that along the profile path dτ/dD_s = −r_s/ν it changes by f δ_s with

    δ_s = u'B_s u / u'u − r_s/pwrss.

Satterthwaite's df and Kenward & Roger's are both 1/df = 1/ν + δ'I⁻¹δ, with I the observed curvature
H in ``inference/satterthwaite.py``, the expected one S in ``inference/kenward_roger.py``.

Joined groups (``statistics/equal_groups.py``): m weighs what is of R alone, t_s and
Σ tr(E_s P E_t m P).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxhlm.core.notation import Floats
from jaxhlm.likelihood.covariance import ThetaIndex
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.likelihood.whitened import whitened
from jaxhlm.linalg.small import array_namespace
from jaxhlm.linalg.stacked import cholesky, solve_lower

__all__ = [
    "GroupsAtLambda",
    "Information",
    "directions",
    "groups_at",
    "normalised",
    "quadratic_forms",
    "single_df",
    "traces",
    "weighted_entries",
]


class GroupsAtLambda(NamedTuple):
    """The groups of B lanes at Λ, lanes last."""

    P: Floats  # (q, q, G, B) Z'V⁻¹Z
    P_all: Floats  # (q, q, G, B) m P, of all groups that share R
    G: Floats  # (p, q, G, B) L_A⁻¹X'V⁻¹Z; `derivatives` has its transpose
    e: Floats  # (q, G, B) Z'V⁻¹(y − Xβ̂)
    L_A: Floats  # (p, p, B)
    pwrss: Floats  # (B,)
    nu: Floats  # (B,) n (ML) or n − rank X (REML)


class Information(NamedTuple):
    """What the variance parameters tell about contrasts of β̂, lanes last.

    With u = L_A⁻¹c the df of c'β̂ are 1/(1/ν + Σ_s (u'B_s u/u'u)²); ``normalised`` makes these B_s.
    """

    nu: Floats  # (B,)
    B: Floats  # (k, p, p, B)
    correction: Any  # (p, p, B) of (KR), Φ_A = τ L_A⁻ᵀ (I + correction) L_A⁻¹; else None


def normalised(B: Floats, drift: Floats, root: Floats, tangent: Floats | None = None) -> Floats:
    """B_s less what δ takes off, in coordinates in which the information is I, (k, p, p, B).

    δ_s is then u'B_s u/u'u, and δ'I⁻¹δ the sum of squares of these.

    Args:
        B: (k, p, p, B).
        drift: (k, B) what δ takes off: r_s/pwrss, or v_s/ν.
        root: (k, k, B) lower Cholesky factor of H, or of S.
        tangent: (k, k, B) columns: the directions of H, in entries of D; None: all.
    """
    less = B - drift[:, None, None] * np.eye(B.shape[1])[..., None]
    if tangent is not None:
        less = array_namespace(less).einsum("stl,spql->tpql", tangent, less)
    return solve_lower(root, less)


def groups_at(Lambda: Floats, stats: Stats, reml: bool) -> GroupsAtLambda:
    """Profile β out at Λ (q, q, B), keeping what every group contributes."""
    xp = array_namespace(Lambda)
    _, U, Y, z = whitened(Lambda, stats)
    L_A = cholesky(stats.XX + xp.einsum("apgl,argl->prl", Y, Y))
    half = solve_lower(L_A, stats.Xy + xp.einsum("apgl,agl->pl", Y, z))
    pwrss = stats.yy + xp.einsum("agl,agl->l", z, z) - xp.einsum("pl,pl->l", half, half)
    beta = solve_lower(L_A.swapaxes(0, 1)[::-1, ::-1], half[::-1])[::-1]
    P = xp.einsum("abgl,acgl->bcgl", U, U)
    return GroupsAtLambda(
        P=P,
        P_all=stats.m * P,
        G=solve_lower(L_A, xp.einsum("apgl,abgl->pbgl", Y, U)),
        e=xp.einsum("abgl,agl->bgl", U, z - xp.einsum("apgl,pl->agl", Y, beta)),
        L_A=L_A,
        pwrss=pwrss,
        nu=xp.broadcast_to(stats.n - reml * stats.rank, pwrss.shape),
    )


def single_df(at: Information, u: Floats, size: Floats) -> Floats:
    """Degrees of freedom of single contrasts, (r, B).

    Args:
        at: the information.
        u: (p, r, B) one column for each.
        size: (r, B) their u'u.
    """
    gain = [np.einsum("prl,prl->rl", u, np.einsum("pql,qrl->prl", B, u)) for B in at.B]
    delta = np.stack(gain) / size
    return 1.0 / (1.0 / at.nu + np.einsum("srl,srl->rl", delta, delta))


def directions(index: ThetaIndex, q: int) -> Floats:
    """E_s (k, q, q), one for every free entry of D."""
    E = np.zeros((len(index), q, q))
    for s, (a, b) in enumerate(index):
        E[s, a, b] = E[s, b, a] = 1.0
    return E


def weighted_entries(M: Floats, index: ThetaIndex) -> Floats:
    """tr(E_s M) of symmetric M (q, q, B), (k, B)."""
    entries = [M[a, b] * (1.0 if a == b else 2.0) for a, b in index]
    return array_namespace(M).stack(entries)


def traces(P: Floats, Q: Floats, index: ThetaIndex) -> Floats:
    """Σ tr(E_s P E_t Q) over groups, (k, k, B)."""
    q = len(P)
    E = directions(index, q).reshape(-1, q * q)
    xp = array_namespace(P)
    products = xp.einsum("bcgl,dagl->abcdl", P, Q).reshape(q * q, q * q, -1)
    return xp.einsum("tx,sxl->stl", E, xp.tensordot(E, products, 1))


def quadratic_forms(G: Floats, index: ThetaIndex) -> Floats:
    """B_s = Σ G'E_s G over groups, (k, p, p, B)."""
    B, xp = [], array_namespace(G)
    for a, b in index:
        outer = xp.einsum("pgl,rgl->prl", G[:, a], G[:, b])
        B.append(outer if a == b else outer + outer.swapaxes(0, 1))
    return xp.stack(B)
