"""Kenward & Roger's degrees of freedom and adjusted covariance of β̂, as pbkrtest has them.

Kenward & Roger (1997, Biometrics 53, 983-997) take the covariance σ²V = Σ γ_i M_i to be linear in
γ = (entries of Σ = τD, τ), with expected information. All that they use is the same for any fixed
basis of the span of the M_i. In the basis Z E_s Z', V, and in units of τ, their P_i and Q_ij are
−L_A B_s L_A', −A and L_A (Σ G'E_s P E_t G) L_A', L_A B_s L_A', A. Everything in which V takes part
cancels from Q_ij − P_i Φ P_j, and eliminating V from the information leaves

    S_st = Σ tr(E_s P E_t (m P − 2 G G')) + tr(B_s B_t) − v_s v_t/ν,    v_s = t_s − tr B_s
    W = 2 S⁻¹
    Φ_A = Φ + 2 τ L_A⁻ᵀ [Σ_st W_st (Σ G'E_s P E_t G − B_s B_t)] L_A⁻¹                          (KR)

(the second derivatives of a linear structure vanish), and δ_s = u'B_s u/u'u − v_s/ν,
with which a single contrast has 1/df = 1/ν + δ'S⁻¹δ: formula (S) of
``inference/satterthwaite.py`` with expected information. At an interior REML optimum F = 0 makes
v_s/ν and r_s/pwrss the same number. Expected information needs no stationary point: on the boundary
the formula stays as it is.

Several contrasts together (``pbkrtest::KRmodcomp``): with U an orthonormal basis of L_A⁻¹L',
K_s = U'B_s U − (v_s/ν) I and k_s = tr K_s, their sums over W are

    A₁ = 2 (k'S⁻¹k + r²/ν)        A₂ = 2 (Σ_st S⁻¹_st tr(K_s K_t) + r/ν)

and λF ~ F(r, m) with λ and m from A₁ and A₂. For one row λ = 1 and m = 2/A₁.
"""

from __future__ import annotations

import numpy as np

from jaxhlm.core.notation import Floats
from jaxhlm.inference.information import (
    GroupsAtLambda,
    Information,
    directions,
    normalised,
    quadratic_forms,
    traces,
    weighted_entries,
)
from jaxhlm.likelihood.covariance import Blocks, theta_index
from jaxhlm.linalg.small import array_namespace
from jaxhlm.linalg.stacked import cholesky, solve_lower

__all__ = ["expected", "joint_f"]


def expected(at: GroupsAtLambda, blocks: Blocks) -> Information:
    """Expected information, and the correction of Var(β̂)."""
    index, xp = theta_index(blocks), array_namespace(at.G)
    GG = xp.einsum("pagl,pbgl->abgl", at.G, at.G)
    B = quadratic_forms(at.G, index)
    v = weighted_entries((at.P_all - GG).sum(axis=2), index)
    S = traces(at.P, at.P_all - 2.0 * GG, index) + xp.einsum("sprl,tprl->stl", B, B)
    root = cholesky(S - v[:, None] * v / at.nu)
    k = len(index)
    identity = xp.broadcast_to(np.eye(k)[..., None], root.shape)
    half = solve_lower(root, identity)
    W = 2.0 * xp.einsum("usl,utl->stl", half, half)
    E = directions(index, len(GG))
    EP, WE = xp.einsum("sab,bcgl->sacgl", E, at.P), xp.einsum("stl,tcd->scdl", W, E)
    middle = xp.einsum("sacgl,scdl->adgl", EP, WE)
    correction = xp.einsum("pagl,adgl,rdgl->prl", at.G, middle, at.G)
    correction -= xp.einsum("sptl,strl->prl", B, xp.einsum("stl,tprl->sprl", W, B))
    return Information(at.nu, normalised(B, v / at.nu, root), 2.0 * correction)


def joint_f(at: Information, u: Floats, off: Floats) -> tuple[Floats, Floats, Floats]:
    """λF, its df m, and λ (Kenward & Roger 1997)."""
    r = u.shape[1]
    U = solve_lower(cholesky(np.einsum("pil,pjl->ijl", u, u)), u.swapaxes(0, 1))
    K = np.einsum("ipl,sprl,jrl->sijl", U, at.B, U, optimize=True)
    trace = np.einsum("siil->sl", K)
    A1 = 2.0 * ((trace**2).sum(axis=0) + r**2 / at.nu)
    A2 = 2.0 * ((K**2).sum(axis=(0, 1, 2)) + r / at.nu)
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
    return scale * (z**2).sum(axis=0) / r, df, scale


def _quotient(a: Floats, b: Floats) -> Floats:
    """a/b, and 1 where both are zero to rounding."""
    both = (np.abs(a) < 1e-14) & (np.abs(b) < 1e-14)
    return np.where(both, 1.0, a / np.where(both, 1.0, b))
