"""The minimum of a balanced design in closed form, all lanes at once.

Where all groups share R_i and X is the product of Z with r group-level predictors, the least
squares residuals of the rotated groups (``equal_groups``) are zero, and what is left of the others
is N = Σ t t'. β̂ is then that of least squares whatever Ω is, and with ν_b = G − r (REML) or G

    d(Ω) = ν_b log|Ω| + ν (1 + log(2π pwrss/ν)) + constant        pwrss = yy + tr Ω⁻¹N
    F = ∂d/∂D = U'(ν_b I − (ν/pwrss) L⁻¹NL⁻ᵀ)U                    U = L⁻¹R

for Ω = I + RDR' = LL'. With Ω̂ = σ̂²Ω, the minimum over Ω̂ − σ²I positive semi-definite has the
eigenvectors of N, with eigenvalues λ_j/ν_b where those exceed σ² and σ² where they do not, and σ²
pools yy with the latter (Calvin & Dykstra 1991, Ann. Statist. 19, 850-869).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np

from jaxhlm.core.chunks import as_slice
from jaxhlm.core.notation import Floats
from jaxhlm.likelihood.covariance import Blocks, canonical, lambda_matrix, theta_index, theta_of
from jaxhlm.likelihood.deviance import whiten
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.linalg.small import (
    Matrix,
    array_namespace,
    cholesky,
    entrywise,
    eye_plus,
    log_diagonal,
    matmul,
    max_abs,
    pack,
    solve_lower,
    stack_entries,
    unpack,
    unroll,
)
from jaxhlm.optimise.loop import SAME_THETA
from jaxhlm.optimise.options import Options
from jaxhlm.optimise.solve import Solution, solve
from jaxhlm.statistics.equal_groups import EqualGroups, EquivalenceClass

__all__ = ["balanced_minimum", "completed", "in_closed_form"]

# A pivot of a D that is singular by construction.
ZERO_PIVOT = 1e-12
# Largest entry of F, in directions in which D may change, relative to ν_b, that is rounding.
STATIONARY = 1e-9


def in_closed_form(groups: EqualGroups, blocks: Blocks) -> bool:
    """Whether the minimum of a design is known: it is balanced, and its random effects covary."""
    return groups.balanced and len(blocks) == 1


@np.errstate(all="ignore")
def balanced_minimum(
    stats: Stats, groups: EqualGroups, grams: Sequence[Floats], options: Options
) -> Solution | None:
    """The minimum in closed form where the design is balanced, else None.

    It counts as found where the criterion is stationary there in canonical form, and stays a start
    elsewhere: next to the boundary, where lanes weigh groups, and for an optimiser of the user's.

    Args:
        stats: statistics of the lanes, groups joined.
        groups: of the same design.
        grams: N of their only class.
        options: what is optimised.
    """
    blocks = options.blocks
    if not in_closed_form(groups, blocks):
        return None
    (only,) = groups.classes
    between = float(len(only.groups) - options.reml * len(only.rotation))
    start = _minimiser(stats, only, grams[0], between, blocks)
    theta = canonical(start, blocks)
    found = _evaluated(theta, stats, only, grams[0], between, options)
    unmoved = max_abs(theta - start) <= SAME_THETA * max_abs(start)
    known = stats.shared and options.optimizer is None
    return replace(found, converged=found.converged & unmoved & known)


def _evaluated(
    theta: Floats, stats: Stats, only: EquivalenceClass, N: Floats, between: float, options: Options
) -> Solution:
    """The criterion at θ (k, B) and all that goes with it; converged where it is stationary."""
    xp, (_, q, p), B = array_namespace(theta), only.TX.shape, theta.shape[-1]
    nu = stats.n - options.reml * stats.rank
    Lambda, RZ = lambda_matrix(unroll(theta, 1), options.blocks), only.RZ.astype(object)
    L, U, S, root = whiten(Lambda, RZ, RZ, matmul(RZ, Lambda), np.eye(q).astype(object))
    K = solve_lower(L, solve_lower(L, unroll(N, 2)).T)
    pwrss = stats.yy + sum(K[a, a] for a in range(q))
    E = eye_plus(entrywise(lambda entry: -nu / (between * pwrss) * entry, K))  # F = ν_b U'EU
    slope = matmul(E, S)
    FL = matmul(U.T, slope)
    gradient = 2.0 * between * xp.stack([FL[at] for at in theta_index(options.blocks)])
    value = 2.0 * between * log_diagonal(L) - stats.logw
    value = value + nu * (1.0 + xp.log(2.0 * np.pi * pwrss / nu))
    if options.reml:
        value = value + 2.0 * np.linalg.slogdet(only.TX.reshape(p, p)).logabsdet
    return Solution(
        theta=theta,
        value=value,
        beta=xp.zeros((p, B)),
        pwrss=pwrss,
        L_A=_factor(only.TX, matmul(root.T, root), B),
        gradient_norm=max_abs(gradient),
        converged=xp.isfinite(value) & (max_abs(xp.stack([*slope.flat])) <= STATIONARY),
        iterations=xp.ones(B, np.int32),
    )


def completed(known: Solution, stats: Stats, options: Options) -> Solution:
    """Minima of all lanes: those that are known, and of the others what ``solve`` finds from them.

    Args:
        known: minima where ``converged``, and points near them.
        stats: standardised statistics.
        options: what to optimise.
    """
    rest = np.flatnonzero(~known.converged & np.isfinite(stats.yy))
    if not len(rest):
        return known
    found = solve(stats.take(as_slice(rest)), options, known.theta[:, rest])
    merged = {f.name: getattr(known, f.name).copy() for f in fields(Solution)}
    for name, values in merged.items():
        values[..., rest] = getattr(found, name)
    return Solution(**merged)


def _factor(TX: Floats, M: Matrix, B: int) -> Floats:
    """Cholesky factors (p, p, B) of Σ T'MT over the rotated groups, M (q, q) being Ω⁻¹."""
    q, p = TX.shape[1:]
    products = pack(np.einsum("raj,rbk->jkab", TX, TX)).reshape(p * (p + 1) // 2, q * q)
    A = unroll(products @ stack_entries(M, B).reshape(q * q, B), 1)
    return stack_entries(cholesky(unpack(A, p)), B)


def _minimiser(
    stats: Stats, only: EquivalenceClass, N: Floats, between: float, blocks: Blocks
) -> Floats:
    """θ (k, B) at the minimum."""
    q, xp = len(only.RZ), array_namespace(N)
    values, vectors = _eigen(xp.moveaxis(N, -1, 0))
    within, pooled = stats.n - len(only.groups) * q, xp.zeros(len(values))
    sigma2 = stats.yy / within
    for j in range(q):
        low = values[:, j] / between < sigma2
        pooled = xp.where(low, pooled + values[:, j], pooled)
        count = low * (j + 1.0)
        sigma2 = xp.where(low, (stats.yy + pooled) / (within + between * count), sigma2)
    ratio = xp.maximum(values / between / sigma2[:, None] - 1.0, 0.0)
    axes = unroll(vectors * xp.sqrt(ratio)[:, None, :], 2, 1)
    root = matmul(np.linalg.inv(only.RZ).astype(object), axes)
    D = stack_entries(matmul(root, root.T), len(values))
    floor = xp.where((ratio == 0.0).any(axis=1), ZERO_PIVOT, 0.0)
    return theta_of(xp.moveaxis(D, -1, 0), blocks, floor)


def _eigen(A: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues (B, q) ascending and vectors (B, q, q) of symmetric matrices."""
    xp = array_namespace(A)
    finite = xp.isfinite(A.sum(axis=(1, 2), keepdims=True))
    A = xp.where(finite, A, 0.0)
    if A.shape[1] != 2:
        values, vectors = xp.linalg.eigh(A)
        return values, vectors
    mean = 0.5 * (A[:, 0, 0] + A[:, 1, 1])
    half, off = 0.5 * (A[:, 0, 0] - A[:, 1, 1]), A[:, 1, 0]
    radius = xp.hypot(half, off)
    # Cosine and sine of half the angle of (half, off), neither as a difference.
    cosine = xp.where(radius > 0.0, abs(half) / xp.where(radius > 0.0, radius, 1.0), 1.0)
    larger = xp.sqrt(0.5 + 0.5 * cosine)
    smaller = 0.5 * off / xp.where(radius > 0.0, radius * larger, 1.0)
    c = xp.where(half >= 0.0, larger, abs(smaller))
    s = xp.where(half >= 0.0, smaller, xp.copysign(larger, off))
    # In memory the lanes are next to each other, as in what is made of them.
    vectors = xp.moveaxis(xp.stack([-s, c, c, s]).reshape(2, 2, len(A)), -1, 0)
    large = mean + radius
    determinant = A[:, 0, 0] * A[:, 1, 1] - off**2
    small = xp.where(large > 0.0, determinant / xp.where(large > 0.0, large, 1.0), 0.0)
    return xp.stack([xp.minimum(small, large), large], axis=1), vectors
