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

Satterthwaite's df = 2f² / (g'·2ℋ⁻¹·g), with the gradient g and the Hessian ℋ of d in (D, τ) (Fai &
Cornelius 1996, J. Stat. Comput. Simul. 54, 363-378; ``lmerTest::contest1D``), is by parts

    1/df = 1/ν + δ'H⁻¹δ.                                                                       (S)

Kenward & Roger (1997, Biometrics 53, 983-997) take the covariance σ²V = Σ γ_i M_i to be linear in
γ = (entries of Σ = τD, τ), with expected information. All that they use is the same for any fixed
basis of the span of the M_i. In the basis Z E_s Z', V, and in units of τ, their P_i and Q_ij are
−L_A B_s L_A', −A and L_A (Σ G'E_s P E_t G) L_A', L_A B_s L_A', A. Everything in which V takes part
cancels from Q_ij − P_i Φ P_j, and eliminating V from the information leaves

    S_st = Σ tr(E_s P E_t (m P − 2 G G')) + tr(B_s B_t) − v_s v_t/ν,    v_s = t_s − tr B_s
    W = 2 S⁻¹
    Φ_A = Φ + 2 τ L_A⁻ᵀ [Σ_st W_st (Σ G'E_s P E_t G − B_s B_t)] L_A⁻¹                          (KR)

(the second derivatives of a linear structure vanish), and δ_s = u'B_s u/u'u − v_s/ν,
with which a single contrast has 1/df = 1/ν + δ'S⁻¹δ: formula (S) with expected information. At an
interior REML optimum F = 0 makes v_s/ν and r_s/pwrss the same number.

**On the boundary** (a singular fit: D̂ has rank below q) d is not stationary in D, so H⁻¹ is not the
covariance of anything, H need not be positive definite, and (S) would depend on how D is
parametrised. Satterthwaite's df are then those of the model that was in effect fitted, whose D
has the rank found: d is stationary on the smooth surface of such matrices, and H is replaced by
the Hessian along it, over the tangent directions E (with E zero on the null space of D̂) only,

    H(E, E) + 2 tr(F E D⁺ E),

the second term for the bending of the surface. A variance of zero so drops out of the model; with
all variances zero df = ν, as in least squares. lmerTest's numerical derivatives in θ come to the
same, except that they depend on the order of the random effects. (Keeping all entries of D instead
fails: among 53,000 singular fits of ``bench.validation.type_one_error`` H was not positive
definite in a third, and df went down to 0.0003 in others.) Kenward & Roger's formula uses expected
information, which needs no stationary point: it stays as it is, as in pbkrtest, and is the better
choice there.

Joined groups (``statistics/equal_groups.py``): m weighs what is of R alone, t_s and
Σ tr(E_s P E_t m P).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxhlm.core.notation import Bools, Floats
from jaxhlm.likelihood.covariance import Blocks, theta_index
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.likelihood.whitened import whitened
from jaxhlm.linalg.stacked import cholesky, solve_lower

__all__ = ["GroupsAtLambda", "Information", "expected", "groups_at", "observed"]


Index = tuple[tuple[int, int], ...]


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
    """What the variance parameters tell about contrasts of β̂, lanes last."""

    nu: Floats  # (B,)
    L_A: Floats  # (p, p, B)
    B: Floats  # (k, p, p, B)
    drift: Floats  # (k, B) what δ takes off: r_s/pwrss, or v_s/ν
    root: Floats  # (k, k, B) lower Cholesky factor of H, or of S
    tangent: Floats | None  # (k, k, B) columns: the directions of H, in entries of D; None: all
    correction: Any  # (p, p, B) of (KR), Φ_A = τ L_A⁻ᵀ (I + correction) L_A⁻¹; else None


def groups_at(Lambda: Floats, stats: Stats, reml: bool) -> GroupsAtLambda:
    """Profile β out at Λ (q, q, B), keeping what every group contributes."""
    _, U, Y, z = whitened(Lambda, stats)
    L_A = cholesky(stats.XX + np.einsum("apgl,argl->prl", Y, Y))
    half = solve_lower(L_A, stats.Xy + np.einsum("apgl,agl->pl", Y, z))
    pwrss = stats.yy + np.einsum("agl,agl->l", z, z) - np.einsum("pl,pl->l", half, half)
    beta = solve_lower(L_A.swapaxes(0, 1)[::-1, ::-1], half[::-1])[::-1]
    P = np.einsum("abgl,acgl->bcgl", U, U)
    return GroupsAtLambda(
        P=P,
        P_all=stats.m * P,
        G=solve_lower(L_A, np.einsum("apgl,abgl->pbgl", Y, U)),
        e=np.einsum("abgl,agl->bgl", U, z - np.einsum("apgl,pl->agl", Y, beta)),
        L_A=L_A,
        pwrss=pwrss,
        nu=np.broadcast_to(stats.n - reml * stats.rank, pwrss.shape),
    )


def observed(
    at: GroupsAtLambda, Lambda: Floats, singular: Bools, reml: bool, blocks: Blocks
) -> Information:
    """Satterthwaite's: the exact curvature of the criterion.

    Args:
        at: the groups at Λ.
        Lambda: (q, q, B), with columns of zeros where D is singular.
        singular: (B,) lanes whose optimum is on the boundary.
        reml: REML criterion instead of ML deviance.
        blocks: columns of Z in each random term.
    """
    index = theta_index(blocks)
    precision = at.nu / at.pwrss
    ee = precision * np.einsum("agl,bgl->abgl", at.e, at.e)
    score = ee + np.einsum("pagl,pbgl->abgl", at.G, at.G) if reml else ee
    r = _entries(ee.sum(axis=2), index)
    h = np.stack([_cross(at, a, b) for a, b in index])
    B = _quadratic_forms(at.G, index)
    H = _traces(at.P, 2.0 * score - at.P_all, index)
    H -= 2.0 * precision * np.einsum("spl,tpl->stl", h, h) + r[:, None] * r / at.nu
    if reml:
        H -= np.einsum("sprl,tprl->stl", B, B)
    tangent = None
    if singular.any():
        F = (at.P_all - score).sum(axis=2)[..., singular]
        tangent = np.tile(np.eye(len(index))[..., None], len(at.nu))
        H[..., singular], tangent[..., singular] = _along_boundary(
            H[..., singular], F, Lambda[..., singular], blocks
        )
    return Information(at.nu, at.L_A, B, r / at.nu, cholesky(H), tangent, None)


def expected(at: GroupsAtLambda, blocks: Blocks) -> Information:
    """Kenward & Roger's: expected information, and the correction of Var(β̂)."""
    index = theta_index(blocks)
    GG = np.einsum("pagl,pbgl->abgl", at.G, at.G)
    B = _quadratic_forms(at.G, index)
    v = _entries((at.P_all - GG).sum(axis=2), index)
    S = _traces(at.P, at.P_all - 2.0 * GG, index) + np.einsum("sprl,tprl->stl", B, B)
    root = cholesky(S - v[:, None] * v / at.nu)
    k = len(index)
    identity = np.broadcast_to(np.eye(k)[..., None], root.shape)
    half = solve_lower(root, identity)
    W = 2.0 * np.einsum("usl,utl->stl", half, half)
    E = _directions(index, len(GG))
    EP, WE = np.einsum("sab,bcgl->sacgl", E, at.P), np.einsum("stl,tcd->scdl", W, E)
    middle = np.einsum("sacgl,scdl->adgl", EP, WE)
    correction = np.einsum("pagl,adgl,rdgl->prl", at.G, middle, at.G)
    correction -= np.einsum("sptl,strl->prl", B, np.einsum("stl,tprl->sprl", W, B))
    return Information(at.nu, at.L_A, B, v / at.nu, root, None, 2.0 * correction)


def _along_boundary(H: Floats, F: Floats, Lambda: Floats, blocks: Blocks) -> tuple[Floats, Floats]:
    """The Hessian along the surface of equal rank, and its directions; identity where left out.

    The directions are v_i v_j' + v_j v_i' in the eigenvectors v of D; those with i and j in the
    null space leave the surface. In these coordinates F lives on the null space and D⁺ on the rest.
    """
    index = theta_index(blocks)
    D = np.einsum("abl,cbl->acl", Lambda, Lambda)
    V, value, null = np.zeros_like(D), np.zeros(D.shape[1:]), np.zeros(D.shape[1:], bool)
    for block in blocks:
        square, rows = np.ix_(block, block), list(block)
        values, vectors = np.linalg.eigh(np.moveaxis(D[square], -1, 0))
        V[square], value[rows] = np.moveaxis(vectors, 0, -1), values.T
        n_zero = (Lambda[square] == 0.0).all(axis=0).sum(axis=0)
        null[rows] = np.arange(len(block))[:, None] < n_zero
    gone = np.stack([null[i] & null[j] for i, j in index])
    M = np.where(gone, 0.0, np.stack([_entry(V, a, b, index) for a, b in index]))
    F = np.einsum("abl,acl->bcl", V, np.einsum("acl,cdl->adl", F, V)) * (null[:, None] & null)
    inverse = np.where(null, 0.0, 1.0 / np.where(null, 1.0, value))
    E = _directions(index, len(D))
    FE, ED = np.einsum("abl,sbc->sacl", F, E), np.einsum("cl,tca->tcal", inverse, E)
    along = np.einsum("asl,atl->stl", M, np.einsum("abl,btl->atl", H, M))
    along += 2.0 * np.einsum("sacl,tcal->stl", FE, ED)
    along[np.diag_indices(len(index))] += gone
    return along, M


def _entry(V: Floats, a: int, b: int, index: Index) -> Floats:
    """Entry (a, b) of every direction v_i v_j' + v_j v_i' (v_i v_i' for i = j), (k, B)."""
    return np.stack([V[a, i] * V[b, j] + (V[a, j] * V[b, i] if i != j else 0.0) for i, j in index])


def _directions(index: Index, q: int) -> Floats:
    """E_s (k, q, q), one for every free entry of D."""
    E = np.zeros((len(index), q, q))
    for s, (a, b) in enumerate(index):
        E[s, a, b] = E[s, b, a] = 1.0
    return E


def _entries(M: Floats, index: Index) -> Floats:
    """tr(E_s M) of symmetric M (q, q, B), (k, B)."""
    return np.stack([M[a, b] * (1.0 if a == b else 2.0) for a, b in index])


def _traces(P: Floats, Q: Floats, index: Index) -> Floats:
    """Σ tr(E_s P E_t Q) over groups, (k, k, B)."""
    q = len(P)
    E = _directions(index, q).reshape(-1, q * q)
    products = np.einsum("bcgl,dagl->abcdl", P, Q).reshape(q * q, q * q, -1)
    return np.einsum("tx,sxl->stl", E, np.tensordot(E, products, 1))


def _quadratic_forms(G: Floats, index: Index) -> Floats:
    """B_s = Σ G'E_s G over groups, (k, p, p, B)."""
    B = []
    for a, b in index:
        outer = np.einsum("pgl,rgl->prl", G[:, a], G[:, b])
        B.append(outer if a == b else outer + outer.swapaxes(0, 1))
    return np.stack(B)


def _cross(at: GroupsAtLambda, a: int, b: int) -> Floats:
    """h_s = Σ G'E_s e over groups for the direction of entry (a, b), (p, B)."""
    h = np.einsum("pgl,gl->pl", at.G[:, a], at.e[b])
    return h if a == b else h + np.einsum("pgl,gl->pl", at.G[:, b], at.e[a])
