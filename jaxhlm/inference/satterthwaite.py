"""Satterthwaite's degrees of freedom, as lmerTest has them.

In the letters of ``inference/information.py``, df = 2f²/(g'·2ℋ⁻¹·g), with the gradient g and the
Hessian ℋ of d in (D, τ) (Fai & Cornelius 1996, J. Stat. Comput. Simul. 54, 363-378;
``lmerTest::contest1D``), is by parts

    1/df = 1/ν + δ'H⁻¹δ.                                                                       (S)

Several contrasts together (``lmerTest::contestMD``): the eigenvectors of L V L' turn the rows into
uncorrelated contrasts with statistics t_m and df ν_m; F is the mean of the t_m², and its
denominator df make E(F) right: 2E/(E − r) with E = Σ ν_m/(ν_m − 2), or 2 if some ν_m ≤ 2.

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
definite in a third, and df went down to 0.0003 in others.) Kenward & Roger's formula is the better
choice there.
"""

from __future__ import annotations

import numpy as np

from jaxhlm.core.notation import Bools, Floats
from jaxhlm.inference.information import (
    GroupsAtLambda,
    Information,
    directions,
    normalised,
    quadratic_forms,
    single_df,
    traces,
    weighted_entries,
)
from jaxhlm.likelihood.covariance import Blocks, ThetaIndex, theta_index
from jaxhlm.linalg.factors import principal_axes, symmetric_axes
from jaxhlm.linalg.small import array_namespace, set_at
from jaxhlm.linalg.stacked import cholesky

__all__ = ["curvature", "joint_f", "observed"]

# Denominator df that differ by less are equal: lmerTest's tolerance.
EQUAL_DF = 1e-8


def observed(
    at: GroupsAtLambda, Lambda: Floats, singular: Bools, reml: bool, blocks: Blocks
) -> Information:
    """Observed information: the exact curvature of the criterion.

    Args:
        at: the groups at Λ.
        Lambda: (q, q, B), with columns of zeros where D is singular.
        singular: (B,) lanes whose optimum is on the boundary.
        reml: REML criterion instead of ML deviance.
        blocks: columns of Z in each random term.
    """
    index = theta_index(blocks)
    H, r, B, score = curvature(at, index, reml)
    tangent, xp = None, array_namespace(H)
    if xp is not np or singular.any():
        # Traced, which lanes these are is not known: all are computed.
        some = np.s_[..., singular if xp is np else slice(None)]
        F = (at.P_all - score).sum(axis=2)
        tangent = xp.tile(np.eye(len(index))[..., None], len(at.nu))
        found = _fixed_rank_hessian(H[some], F[some], Lambda[some], blocks)
        H, tangent = (
            set_at(x, some, xp.where(singular[some[1]], y, x[some]))
            for x, y in zip((H, tangent), found, strict=True)
        )
    return Information(at.nu, normalised(B, r / at.nu, cholesky(H), tangent), None)


def curvature(
    at: GroupsAtLambda, index: ThetaIndex, reml: bool
) -> tuple[Floats, Floats, Floats, Floats]:
    """H (k, k, B), r/τ (k, B), the B_s (k, p, p, B) and, by group, ee'/τ (+ G'G), (q, q, G, B)."""
    precision = at.nu / at.pwrss
    xp = array_namespace(precision)
    ee = precision * xp.einsum("agl,bgl->abgl", at.e, at.e)
    score = ee + xp.einsum("pagl,pbgl->abgl", at.G, at.G) if reml else ee
    r = weighted_entries(ee.sum(axis=2), index)
    h = xp.stack([_cross(at, a, b) for a, b in index])
    B = quadratic_forms(at.G, index)
    H = traces(at.P, 2.0 * score - at.P_all, index)
    H -= 2.0 * precision * xp.einsum("spl,tpl->stl", h, h) + r[:, None] * r / at.nu
    if reml:
        H -= xp.einsum("sprl,tprl->stl", B, B)
    return H, r, B, score


def joint_f(at: Information, u: Floats, off: Floats) -> tuple[Floats, Floats, Floats]:
    """F, its df from uncorrelated contrasts, and 1; ``off`` (r, B) is (Lβ̂ − rhs)/σ̂."""
    variance, vectors = _eigen(np.einsum("pil,pjl->ijl", u, u))
    u = np.einsum("prl,rml->pml", u, vectors)
    t2 = np.einsum("rl,rml->ml", off, vectors) ** 2 / variance
    nu = single_df(at, u, variance)
    r = len(nu)
    excess = (nu / (nu - 2.0)).sum(axis=0)
    df = np.where((nu <= 2.0).any(axis=0), 2.0, 2.0 * excess / (excess - r))
    df = np.where(np.ptp(nu, axis=0) < EQUAL_DF, nu.mean(axis=0), df)
    return t2.mean(axis=0), df, np.ones_like(df)


def _fixed_rank_hessian(
    H: Floats, F: Floats, Lambda: Floats, blocks: Blocks
) -> tuple[Floats, Floats]:
    """The Hessian along the surface of equal rank, and its directions; identity where left out.

    The directions are v_i v_j' + v_j v_i' in the eigenvectors v of D; those with i and j in the
    null space leave the surface. In these coordinates F lives on the null space and D⁺ on the rest.
    """
    index, xp = theta_index(blocks), array_namespace(H)
    D = xp.einsum("abl,cbl->acl", Lambda, Lambda)
    V, value, null = xp.zeros_like(D), xp.zeros(D.shape[1:]), xp.zeros(D.shape[1:], bool)
    for block in blocks:
        square, rows = np.ix_(block, block), np.array(block)
        values, vectors = symmetric_axes(D[square])
        V, value = set_at(V, square, vectors), set_at(value, rows, values)
        n_zero = (Lambda[square] == 0.0).all(axis=0).sum(axis=0)
        null = set_at(null, rows, np.arange(len(block))[:, None] < n_zero)
    gone = xp.stack([null[i] & null[j] for i, j in index])
    M = xp.where(gone, 0.0, xp.stack([_entry(V, a, b, index) for a, b in index]))
    F = xp.einsum("abl,acl->bcl", V, xp.einsum("acl,cdl->adl", F, V)) * (null[:, None] & null)
    inverse = xp.where(null, 0.0, 1.0 / xp.where(null, 1.0, value))
    E = directions(index, len(D))
    FE, ED = xp.einsum("abl,sbc->sacl", F, E), xp.einsum("cl,tca->tcal", inverse, E)
    along = xp.einsum("asl,atl->stl", M, xp.einsum("abl,btl->atl", H, M))
    along += 2.0 * xp.einsum("sacl,tcal->stl", FE, ED)
    along += np.eye(len(index))[..., None] * gone
    return along, M


def _cross(at: GroupsAtLambda, a: int, b: int) -> Floats:
    """h_s = Σ G'E_s e over groups for the direction of entry (a, b), (p, B)."""
    xp = array_namespace(at.e)
    h = xp.einsum("pgl,gl->pl", at.G[:, a], at.e[b])
    return h if a == b else h + xp.einsum("pgl,gl->pl", at.G[:, b], at.e[a])


def _entry(V: Floats, a: int, b: int, index: ThetaIndex) -> Floats:
    """Entry (a, b) of every direction v_i v_j' + v_j v_i' (v_i v_i' for i = j), (k, B)."""
    return array_namespace(V).stack(
        [V[a, i] * V[b, j] + (V[a, j] * V[b, i] if i != j else 0.0) for i, j in index]
    )


def _eigen(A: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues (r, B) and vectors (r, r, B) of symmetric matrices (r, r, B); NaN where A is."""
    finite = np.isfinite(A).all(axis=(0, 1))
    values, vectors = principal_axes(np.moveaxis(np.where(finite, A, 0.0), -1, 0))
    return np.where(finite, values.T, np.nan), np.moveaxis(vectors, 0, -1)
