"""Minimising many criteria at once in optax's frame.

``newton`` is an ``optax.GradientTransformationExtraArgs``: a trust-region Newton direction from the
exact Hessian. Any optax optimiser may be passed in its place; the loop, the termination rule and
the status codes are the same for all.

The criterion is even in every column of Λ, so θ is unconstrained: an optimum on the boundary (a
zero variance) is a smooth stationary point at which Newton still converges quadratically, and signs
are put right afterwards.

**Termination.** A lane is done when its Newton decrement ½ g'H⁻¹g, the distance to the minimum of
the local quadratic model in units of the deviance, falls below ``tol`` with H positive
semi-definite. One closing Newton step is then taken and brought to canonical form (signs, exact
zeros), and everything reported is evaluated there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxhlm.small import entries

__all__ = [
    "CLOSING_SLACK",
    "MAX_ITER",
    "TOL",
    "Minimum",
    "minimise_lanes",
    "newton",
    "newton_direction",
]

TOL = 1e-10
MAX_ITER = 100
# Values this close (relative) differ by rounding only, and must not shrink the trust region.
ROUNDING = 64.0
# A decrement this small is rounding: the closing step would not move.
EXACT = 1e-18
# Setting a negligible variance to exactly zero may cost this much of the criterion.
CLOSING_SLACK = 1e-9


class Minimum(NamedTuple):
    """Where the loop stopped, lanes on the last axis."""

    theta: Any  # (k, B)
    value: Any  # (B,) criterion at theta
    gradient_norm: Any  # (B,) largest |∂d/∂θ| at theta
    aux: Any  # whatever ``derivatives`` returned beside, at theta
    converged: Any  # (B,) bool
    iterations: Any  # (B,) evaluations of value, gradient and Hessian


class NewtonState(NamedTuple):
    """The best point so far and the trust radius around it."""

    theta: Any  # (k,)
    value: Any  # ()
    grad: Any  # (k,)
    hess: Any  # (k, k)
    radius: Any  # ()
    predicted: Any  # () decrease promised by the step that led here


def newton_direction(grad: Any, hess: Any) -> tuple[Any, Any, Any]:
    """−H⁻¹g by an LDL' factorisation whose pivots are made positive, for one data set.

    A pivot d that is not safely positive is replaced by max(|d|, δ): the direction then still
    descends, and moves away from saddle points.

    Args:
        grad: (k,).
        hess: (k, k) symmetric.

    Returns:
        The direction (k,), the decrement ½ g'H⁻¹g (), and whether H was positive semi-definite
        to rounding ().
    """
    k = grad.shape[0]
    H, g = entries(hess, 2), entries(grad, 1)
    scale = jnp.max(jnp.abs(hess)) + jnp.finfo(grad.dtype).tiny
    floor = 1e-10 * scale
    pivots, psd = [], True
    for j in range(k):
        d = H[j, j]
        psd = (d > -1e-7 * scale) & psd
        d = jnp.maximum(jnp.abs(d), floor)
        for i in range(j + 1, k):
            factor = H[i, j] / d
            for c in range(j + 1, i + 1):
                H[i, c] = H[i, c] - factor * H[c, j]
            g[i] = g[i] - factor * g[j]
        pivots.append(d)
    decrement = 0.5 * sum(gj * gj / d for gj, d in zip(g, pivots, strict=True))
    step: list[Any] = [None] * k
    for j in reversed(range(k)):
        step[j] = -(g[j] + sum((H[i, j] * step[i] for i in range(j + 1, k)), 0.0)) / pivots[j]
    return jnp.stack(step), decrement, psd


def newton(radius: float = 1.0, max_radius: float = 1e4) -> optax.GradientTransformationExtraArgs:
    """Trust-region Newton as an optax transformation (for one data set; the loop vmaps it).

    ``update(grad, state, theta, value=…, hessian=…)`` returns the move to the next trial point.
    A trial that raised the criterion is undone: the next trial starts from the best point with a
    quarter of the step (Nocedal & Wright 2006, algorithm 4.1).

    Args:
        radius: first trust radius, in units of θ relative to 1 + |θ|.
        max_radius: largest trust radius.
    """

    def init(theta: Any) -> NewtonState:
        k, infinity = theta.shape[0], jnp.array(jnp.inf, theta.dtype)
        first = jnp.asarray(radius, theta.dtype) * (0.1 + jnp.max(jnp.abs(theta)))
        return NewtonState(
            theta, infinity, jnp.zeros_like(theta), jnp.zeros((k, k), theta.dtype), first, infinity
        )

    def update(
        updates: Any, state: NewtonState, params: Any = None, *, value: Any, hessian: Any, **_: Any
    ) -> tuple[Any, NewtonState]:
        grad = updates
        rounding = _rounding(value)
        better = value <= state.value + rounding
        good = state.value - value >= 0.75 * state.predicted - rounding
        poor = ~(state.value - value >= 0.25 * state.predicted - rounding)
        moved = jnp.sqrt(jnp.sum((params - state.theta) ** 2))
        grown = jnp.minimum(jnp.maximum(state.radius, 3.0 * moved), max_radius)
        trust = jnp.where(poor, 0.25 * moved, jnp.where(good, grown, state.radius))
        trust = jnp.where(jnp.isinf(state.value), state.radius, trust)
        trial = (params, value, grad, hessian)
        kept = [jnp.where(better, new, old) for new, old in zip(trial, state[:4], strict=True)]
        base = NewtonState(kept[0], kept[1], kept[2], kept[3], trust, state.predicted)
        direction, _, _ = newton_direction(base.grad, base.hess)
        length = jnp.sqrt(jnp.sum(direction**2))
        step = direction * jnp.minimum(1.0, trust / length)
        predicted = -(base.grad @ step + 0.5 * step @ base.hess @ step)
        return base.theta + step - params, base._replace(predicted=predicted)

    return optax.GradientTransformationExtraArgs(init, update)


class _Loop(NamedTuple):
    theta: Any  # (k, B) the next trial
    opt_state: Any
    best: Minimum
    closing: Any  # (B,) the next trial is the closing step
    active: Any  # (B,)
    step: Any  # ()


def minimise_lanes(
    derivatives: Callable[[Any], tuple[Any, Any, Any, Any]],
    theta: Any,
    optimizer: optax.GradientTransformation | None = None,
    *,
    canonical: Callable[[Any], Any] = lambda theta: theta,
    value_fn: Callable[[Any, Any], Any] | None = None,
    lanes: Any = None,
    lane_axes: Any = None,
    tol: float = TOL,
    max_iter: Any = MAX_ITER,
) -> Minimum:
    """Minimise every lane's criterion from ``theta``; traceable.

    A lane whose criterion is not finite at the start stops at once; a lane that is done keeps its
    result while others go on.

    Args:
        derivatives: maps θ (k, B) to value (B,), gradient (k, B), Hessian (k, k, B) and a pytree
            of anything else wanted at the minimum, lanes last.
        theta: (k, B) start.
        optimizer: an optax optimiser for one data set; ``newton()`` if None.
        canonical: maps θ (k, B) to the form that is reported.
        value_fn: the criterion of one data set as a function of θ (k,) and its element of
            ``lanes``, for optimisers with a line search (``optax.lbfgs``).
        lanes: pytree that holds the data of all lanes, mapped by ``lane_axes``.
        lane_axes: ``in_axes`` of ``lanes``.
        tol: largest Newton decrement at which a lane is done.
        max_iter: largest number of evaluations.
    """
    opt = optax.with_extra_args_support(optimizer if optimizer is not None else newton())
    B = theta.shape[-1]

    def advance(theta: Any, state: Any, value: Any, grad: Any, hess: Any, lane: Any) -> Any:
        extra = {} if value_fn is None else {"value_fn": lambda t: value_fn(t, lane), "grad": grad}
        updates, state = opt.update(grad, state, theta, value=value, hessian=hess, **extra)
        return theta + updates, state

    advance_lanes = jax.vmap(advance, in_axes=(-1, -1, -1, -1, -1, lane_axes), out_axes=-1)

    def body(loop: _Loop) -> _Loop:
        value, grad, hess, aux = derivatives(loop.theta)
        direction, decrement, psd = jax.vmap(newton_direction, -1, -1)(grad, hess)
        slack = _rounding(value) + jnp.where(loop.closing, CLOSING_SLACK, 0.0)
        exact = loop.active & psd & (decrement < EXACT) & _same(canonical(loop.theta), loop.theta)
        keep = loop.active & ((value <= loop.best.value + slack) | (loop.step == 0))
        best = loop.best
        found = (loop.theta, value, jnp.max(jnp.abs(grad), axis=0), aux)
        theta, value_kept, norm, aux = jax.tree.map(
            lambda new, old: jnp.where(keep, new, old), found, tuple(best[:4])
        )
        converged, iterations = best.converged | loop.closing, best.iterations + loop.active
        best = Minimum(theta, value_kept, norm, aux, converged | exact, iterations)
        active = loop.active & ~exact & ~loop.closing & ((loop.step > 0) | jnp.isfinite(value))
        closing = active & psd & (decrement < tol)
        theta, state = advance_lanes(loop.theta, loop.opt_state, value, grad, hess, lanes)
        theta = jnp.where(closing, canonical(loop.theta + direction), theta)
        return _Loop(theta, state, best, closing, active, loop.step + 1)

    state = jax.vmap(opt.init, in_axes=-1, out_axes=-1)(theta)
    nobody, everybody = jnp.zeros(B, bool), jnp.ones(B, bool)
    value, _, _, aux = jax.eval_shape(derivatives, theta)
    blank, aux = jax.tree.map(lambda s: jnp.full(s.shape, jnp.inf, s.dtype), (value, aux))
    best = Minimum(theta, blank, blank, aux, nobody, jnp.zeros(B, jnp.int32))
    loop = _Loop(theta, state, best, nobody, everybody, jnp.zeros((), jnp.int32))
    loop = jax.lax.while_loop(lambda s: jnp.any(s.active) & (s.step < max_iter), body, loop)
    return loop.best


def _same(a: Any, b: Any) -> Any:
    """Whether two θ (k, B) agree to rounding, lane by lane."""
    return jnp.all(jnp.abs(a - b) <= 8.0 * jnp.finfo(a.dtype).eps * jnp.abs(b), axis=0)


def _rounding(value: Any) -> Any:
    return ROUNDING * jnp.finfo(value.dtype).eps * (1.0 + jnp.abs(value))
