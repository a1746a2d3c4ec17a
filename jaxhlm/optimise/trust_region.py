"""The trust-region Newton step, as a pure (init, update) pair (Nocedal & Wright 2006, chapter 4).

Written entrywise for one data set with any trailing axes, in JAX or in NumPy: the last axis of
lanes rides along. ``jaxhlm.optimise.newton.newton`` hands the pair to optax.

The criterion is even in every column of Λ, so θ is unconstrained: an optimum on the boundary (a
zero variance) is a smooth stationary point at which Newton still converges quadratically, and signs
are made canonical afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from jaxhlm.linalg.small import array_namespace, is_unrolled, max_abs, unroll

if TYPE_CHECKING:
    from jaxtyping import Float

    from jaxhlm.core.notation import Array

    Vector: TypeAlias = Float[Array, "k ..."]
    Matrix: TypeAlias = Float[Array, "k k ..."]
    Scalar: TypeAlias = Float[Array, "..."]

__all__ = [
    "RADIUS",
    "NewtonState",
    "RadiusRule",
    "init",
    "newton_direction",
    "rounding",
    "update",
]

# Values of the criterion that differ by fewer machine epsilons, relative to their size, differ by
# rounding only, and must not shrink the trust region.
ROUNDING_EPSILONS = 64.0
# Least pivot of the factorised Hessian, relative to its largest entry: the δ of a modified Cholesky
# factorisation (Gill & Murray 1974; Nocedal & Wright 2006, section 3.4).
LEAST_PIVOT = 1e-10
# A pivot of a positive semi-definite Hessian may be this far below zero by rounding, relative to
# the largest entry.
SEMIDEFINITE_TOL = 1e-7


@dataclass(frozen=True)
class RadiusRule:
    """How the trust radius Δ follows ρ, the decrease of the criterion over the predicted one.

        Δ ← shrink_factor |s|                          if ρ < shrink_below
        Δ ← min(max(Δ, grow_factor |s|), max_radius)   if ρ ≥ grow_above

    after a step s. The cutoffs and ``shrink_factor`` are those of algorithm 4.1 of Nocedal & Wright
    (2006); factors of |s| in place of Δ are usual where steps end inside the region (Conn, Gould &
    Toint 2000, section 17.1).

    Attributes:
        shrink_below: ρ below which the quadratic model is poor.
        grow_above: ρ from which it is good.
        shrink_factor: the radius after a poor step, in lengths of that step.
        grow_factor: the radius after a good step, in lengths of that step, if Δ is not larger; it
            lies between the 2 of algorithm 4.1 and the 3.5 of Gould, Orban, Sartenaer & Toint
            (2005, 4OR 3, 227-241).
        max_radius: the bound on Δ of algorithm 4.1.
        first_factor: the first radius, in units of the largest entry of θ and ``first_offset``.
        first_offset: keeps the first radius above zero at θ = 0.
    """

    shrink_below: float = 0.25
    grow_above: float = 0.75
    shrink_factor: float = 0.25
    grow_factor: float = 3.0
    max_radius: float = 1e4
    first_factor: float = 1.0
    first_offset: float = 0.1


RADIUS = RadiusRule()


class NewtonState(NamedTuple):
    """The best point so far and the trust radius around it."""

    theta: Vector
    value: Scalar
    grad: Vector
    hess: Matrix
    radius: Scalar
    predicted: Scalar  # decrease in the model by the step to the next trial


def newton_direction(grad: Vector, hess: Matrix) -> tuple[Array, Array, Array]:
    """−H⁻¹g by an LDL' factorisation whose pivots are made positive.

    A pivot d that is not safely positive is replaced by max(|d|, δ): the direction then still
    descends, and moves away from saddle points.

    Args:
        grad: (k, …).
        hess: (k, k, …) symmetric.

    Returns:
        The direction (k, …), the decrement ½ g'H⁻¹g (…), and whether H was positive semi-definite
        to rounding (…).
    """
    k, xp = grad.shape[0], array_namespace(grad)
    H, g = (hess.copy(), grad.copy()) if xp is np else (unroll(hess, 2), unroll(grad, 1))
    scale = max_abs(hess.reshape(k * k, *hess.shape[2:])) + np.finfo(grad.dtype).tiny
    floor = LEAST_PIVOT * scale
    pivots, psd = [], True
    for j in range(k):
        d = H[j, j]
        psd = (d > -SEMIDEFINITE_TOL * scale) & psd
        d = xp.maximum(xp.abs(d), floor)
        _eliminate(H, g, j, d)
        pivots.append(d)
    decrement = 0.5 * sum(gj * gj / d for gj, d in zip(g, pivots, strict=True))
    step = np.empty_like(g)
    for j in reversed(range(k)):
        step[j] = -(g[j] + _dot(H[j + 1 :, j], step[j + 1 :])) / pivots[j]
    return xp.stack(list(step)), decrement, psd


def _eliminate(H: Matrix, g: Vector, j: int, d: Scalar) -> None:
    """Take row j, of pivot d, out of the rows below it, in place; in NumPy out of all at once."""
    if not is_unrolled(H):
        factor = H[j + 1 :, j] / d
        H[j + 1 :, j + 1 :] -= factor[:, None] * H[None, j + 1 :, j]
        g[j + 1 :] -= factor * g[j]
        return
    for i in range(j + 1, len(H)):
        factor = H[i, j] / d
        for c in range(j + 1, i + 1):
            H[i, c] = H[i, c] - factor * H[c, j]
        g[i] = g[i] - factor * g[j]


def _dot(u: Vector, v: Vector) -> Scalar:
    """u'v over the first axis, in NumPy at once."""
    return (
        sum((a * b for a, b in zip(u, v, strict=True)), 0.0)
        if is_unrolled(u)
        else (u * v).sum(axis=0)
    )


def init(theta: Vector) -> NewtonState:
    """Nothing seen yet; the first trust radius is of the size of θ."""
    xp, k = array_namespace(theta), theta.shape[0]
    unseen = xp.full(theta.shape[1:], np.inf, theta.dtype)
    radius = RADIUS.first_factor * (RADIUS.first_offset + max_abs(theta))
    hess = xp.zeros((k, *theta.shape), theta.dtype)
    return NewtonState(theta, unseen, xp.zeros_like(theta), hess, radius, unseen)


def update(
    grad: Vector, state: NewtonState, theta: Vector, *, value: Scalar, hessian: Matrix
) -> tuple[Vector, NewtonState]:
    """The move to the next trial point.

    A trial that raised the criterion is undone: the next one starts from the best point, within
    the smaller radius (Nocedal & Wright 2006, algorithm 4.1 with η = 0).
    """
    xp, slack = array_namespace(theta), rounding(value)
    better = value <= state.value + slack
    decrease = state.value - value
    good = decrease >= RADIUS.grow_above * state.predicted - slack
    poor = ~(decrease >= RADIUS.shrink_below * state.predicted - slack)
    moved = xp.sqrt(sum((theta - state.theta) ** 2))
    grown = xp.maximum(state.radius, RADIUS.grow_factor * moved)
    grown = xp.minimum(grown, RADIUS.max_radius)
    radius = xp.where(good, grown, state.radius)
    radius = xp.where(poor, RADIUS.shrink_factor * moved, radius)
    radius = xp.where(xp.isinf(state.value), state.radius, radius)
    best_theta = xp.where(better, theta, state.theta)
    best_grad = xp.where(better, grad, state.grad)
    best_hess = xp.where(better, hessian, state.hess)
    direction, _, _ = newton_direction(best_grad, best_hess)
    length = xp.sqrt(sum(direction**2))
    step = direction * xp.minimum(1.0, radius / xp.maximum(length, np.finfo(theta.dtype).tiny))
    curvature = sum(s * sum(row * step) for s, row in zip(step, best_hess, strict=True))
    predicted = -(sum(best_grad * step) + 0.5 * curvature)
    best_value = xp.where(better, value, state.value)
    state = NewtonState(best_theta, best_value, best_grad, best_hess, radius, predicted)
    return best_theta + step - theta, state


def rounding(value: Scalar) -> Scalar:
    """Differences of the criterion below this mean nothing."""
    return ROUNDING_EPSILONS * np.finfo(value.dtype).eps * (1.0 + array_namespace(value).abs(value))
