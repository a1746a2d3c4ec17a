"""Exact gradient and Hessian of the profiled deviance, from the same statistics.

Differentiating in D = ΛΛ' first keeps the algebra small. For one group, with LL' = Ω,

    U = L⁻¹R        P = U'U = Z'V⁻¹Z        e = U'(L⁻¹(t_y − T_X β̂)) = Z'V⁻¹(y − Xβ̂)
    W = U'L⁻¹T_X L_A⁻ᵀ, so that W W' = Z'V⁻¹X A⁻¹ X'V⁻¹Z

and dV⁻¹ = −V⁻¹Z dD Z'V⁻¹ gives, with F = ∂d/∂D (symmetric, q×q),

    F = Σ m P − Σ W W' [REML] − (ν/pwrss) Σ e e'

For the second derivative in the directions E_s = w_s(e_a e_b' + e_b e_a'), one per free entry
(a, b) of D (w_s = ½ on the diagonal, else 1), with Q = 2 W W' [REML] + 2(ν/pwrss) e e' − m P,

    ∂²d/∂D_s∂D_t = Σ tr(E_s P E_t Q) − 2(ν/pwrss) h_s'h_t − (ν/pwrss²) r_s r_t − tr(B_s B_t) [REML]
    h_s = Σ W'E_s e,     r_s = Σ e'E_s e,     B_s = Σ W'E_s W

where the h term is the re-estimation of β, and the r term that of σ: it is left out when σ is
fixed, and then ν/pwrss is 1/σ². The chain rule through D = ΛΛ' is exact as well:
∂d/∂Λ = 2FΛ, and ∂²D/∂Λ_ab∂Λ_cb = E_ac adds 2F_ac to the Hessian for entries of one column.

F decides whether a fit on the boundary is a minimum: it must be positive semi-definite there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxhlm.likelihood.covariance import Blocks, ThetaIndex, lambda_matrix, theta_index
from jaxhlm.likelihood.deviance import Profile, SumGroups, profile, sum_groups, whiten
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.linalg.small import (
    Matrix,
    entrywise,
    is_unrolled,
    matmul,
    pack,
    solve_lower,
    svec_outer,
    unpack,
)

if TYPE_CHECKING:
    from jaxtyping import Float

    from jaxhlm.core.notation import Array

__all__ = ["Derivatives", "derivatives"]


class Derivatives(NamedTuple):
    """The deviance at θ with its exact derivatives."""

    profile: Profile
    grad: Float[Array, "k ..."]  # ∂d/∂θ
    hess: Float[Array, "k k ..."]  # ∂²d/∂θ∂θ'
    F: Float[Array, "q q ..."]  # ∂d/∂D
    pwrss_grad: Float[Array, "k ..."]  # ∂pwrss/∂θ


def derivatives(
    theta: Float[Array, " k"],
    stats: Stats,
    reml: bool,
    blocks: Blocks,
    over_groups: SumGroups = sum_groups,
    sigma2: Float[Array, ""] | None = None,
) -> Derivatives:
    """Value, gradient and Hessian in θ of one data set's criterion, and F = ∂d/∂D.

    With ``sigma2`` σ² is fixed there: ``grad``, ``hess`` and F are those of the criterion before σ
    is profiled out; ``profile`` stays the profiled one.
    """
    Lambda = lambda_matrix(theta, blocks)
    at = profile(Lambda, stats, reml, over_groups)
    index = theta_index(blocks)
    variance = at.pwrss / at.nu if sigma2 is None else sigma2

    def term(RZ: Array, TX: Array, Ty: Array, m: Array) -> tuple[Array, ...]:
        _, U, YX, residual = whiten(Lambda, RZ, RZ, TX, Ty - TX @ at.beta)
        P, e = U.T @ U, U.T @ residual
        W = solve_lower(at.L_A, YX.T @ U).T
        Q = e[:, None] * e[None, :]
        if reml:
            Q = Q + _scaled(variance, W @ W.T)
        Q = _divided(Q, variance)
        mP = _scaled(m, P)
        pairs = _trace_pairs(P, Q + Q - mP, index)
        r, h, B = _directions(W, e, index)
        return (pack(mP - Q), pairs, r, h, B)[: 5 if reml else 4]

    F, pairs, r, h, *B = over_groups(term, stats)
    curvature = unpack(pairs, len(index))
    if reml:
        curvature = curvature - B[0] @ B[0].T
    curvature = _scaled(variance, curvature) - _scaled(2.0, h @ h.T)
    if sigma2 is None:
        curvature = curvature - _divided(r[:, None] * r[None, :], at.pwrss)
    curvature = _divided(curvature, variance)
    F = unpack(F, len(Lambda))
    grad, hess, J = _chain_rule(F, curvature, Lambda, index)
    return Derivatives(at, grad, hess, F, _scaled(-1.0, matmul(J.T, r[:, None])[:, 0]))


def _directions(W: Matrix, e: Matrix, index: ThetaIndex) -> tuple[Matrix, Matrix, Matrix]:
    """One group's r_s = e'E_s e (s,), h_s = W'E_s e (s, p) and B_s = W'E_s W (s, p(p+1)/2)."""
    r, h, B = [], [], []
    for a, b in index:
        r.append(e[a] * e[b] * (1.0 if a == b else 2.0))
        h.append(_scaled(e[a], W[a]) if a == b else _scaled(e[b], W[a]) + _scaled(e[a], W[b]))
        outer = svec_outer(W[a], W[b])
        B.append(_scaled(0.5, outer) if a == b else outer)
    return _stack(r, W), _stack(h, W), _stack(B, W)


def _trace_pairs(P: Matrix, Q: Matrix, index: ThetaIndex) -> Matrix:
    """The lower triangle over (s, t) of tr(E_s P E_t Q)."""
    rows, columns = np.tril_indices(len(index))
    if not is_unrolled(P):
        E = _directions_dense(index, len(P), P.dtype)
        return jnp.einsum("sab,bc,tcd,da->st", E, P, E, Q)[rows, columns]
    out = np.empty(len(rows), dtype=object)
    for position, (s, t) in enumerate(zip(rows, columns, strict=True)):
        products = [
            P[b, c] * Q[d, a] for a, b in set(_both(index[s])) for c, d in set(_both(index[t]))
        ]
        out[position] = sum(products[1:], start=products[0])
    return out


def _both(ab: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    return ab, ab[::-1]


def _directions_dense(
    index: ThetaIndex, q: int, dtype: np.dtype[np.floating]
) -> Float[Array, "k q q"]:
    E = np.zeros((len(index), q, q))
    for s, (a, b) in enumerate(index):
        E[s, a, b] = E[s, b, a] = 1.0
    return jnp.asarray(E, dtype)


def _chain_rule(
    F: Matrix, curvature: Matrix, Lambda: Matrix, index: ThetaIndex
) -> tuple[Matrix, Matrix, Matrix]:
    """Gradient and Hessian in θ from those in D, and J = ∂D/∂θ."""
    FL = matmul(F, Lambda)
    grad = _stack([2.0 * FL[a, b] for a, b in index], F)
    zero = 0.0 if is_unrolled(F) else jnp.zeros((), F.dtype)
    k = len(index)
    J = [[zero] * k for _ in range(k)]
    bend = [[zero] * k for _ in range(k)]
    for i, (a, b) in enumerate(index):
        for s, (x, y) in enumerate(index):
            if a in (x, y):
                J[s][i] = 2.0 * Lambda[x, b] if x == y else Lambda[y if x == a else x, b]
            if y == b:
                bend[i][s] = 2.0 * F[a, x]
    J = _stack([_stack(row, F) for row in J], F)
    hess = matmul(J.T, matmul(curvature, J)) + _stack([_stack(row, F) for row in bend], F)
    return grad, hess, J


def _scaled(scalar: Array, M: Matrix) -> Matrix:
    """A scalar times a matrix or a vector."""
    return entrywise(lambda entry: scalar * entry, M)


def _divided(M: Matrix, scalar: Array) -> Matrix:
    """A matrix over a scalar: XLA keeps quotients, and forms products anew wherever they occur."""
    return entrywise(lambda entry: entry / scalar, M)


def _stack(items: list[Matrix], like: Matrix) -> Matrix:
    """Items along a new first axis, in the dialect of ``like``."""
    if not is_unrolled(like):
        return jnp.stack(items)
    out = np.empty(
        (len(items), *np.shape(items[0])) if is_unrolled(items[0]) else len(items), object
    )
    for i, item in enumerate(items):
        out[i] = item
    return out
