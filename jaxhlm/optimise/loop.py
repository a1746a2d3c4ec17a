"""The loop that minimises many criteria at once, whatever takes the steps.

**Termination.** A lane is done when its Newton decrement ½ g'H⁻¹g, the distance to the minimum of
the local quadratic model in units of the deviance, falls below ``tol`` with H positive
semi-definite. One closing Newton step is then taken and brought to canonical form (signs, exact
zeros), and everything reported is evaluated there, or at the best point before where the closing
step went up; a lane whose decrement is rounding alone takes none.

**Acceptance.** Two rules that serve two purposes: a trial is *reported* if it is no worse than the
best by more than rounding (``keep``), and the trust region *moves* by its own ratio of the decrease
to the predicted one (``trust_region.update``).

On JAX arrays the loop is a ``lax.while_loop``; on NumPy arrays it runs at once, without compiling.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxhlm.core.notation import Array
from jaxhlm.core.varying import varying
from jaxhlm.linalg.small import array_namespace, max_abs
from jaxhlm.optimise import trust_region
from jaxhlm.optimise.trust_region import newton_direction, rounding

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


__all__ = [
    "CLOSING_NOISE",
    "CLOSING_SLACK",
    "MAX_ITER",
    "NEWTON",
    "TOL",
    "OptimizeResult",
    "Stepper",
    "minimise_lanes",
]

# Newton decrement, in units of the deviance, at which a lane is done, and evaluations until then.
TOL = 1e-10
MAX_ITER = 100
# A decrement this small is rounding: the closing step would not move.
EXACT = 1e-16
# Setting a negligible variance to exactly zero may cost this much of the criterion, and as much of
# its size: with random effects 1e4 times the residuals its values are no more exact than that.
CLOSING_SLACK = 1e-9
CLOSING_NOISE = 1e-11
# Entries of θ this close, relative to the largest: the criterion does not tell them apart.
SAME_THETA = 1e-9


# Value (B,), gradient (k, B), Hessian (k, k, B), and a pytree of anything else, at θ (k, B).
Evaluated = tuple[Array, Array, Array, Any]
Derivatives = Callable[[Array], Evaluated]


class OptimizeResult(NamedTuple):
    """Where the loop stopped, a minimum where ``converged``; lanes on the last axis."""

    theta: Float[Array, "k B"]
    value: Float[Array, " B"]  # criterion at theta
    gradient_norm: Float[Array, " B"]  # largest |∂d/∂θ| at theta
    aux: Any  # whatever ``derivatives`` returned beside, at theta
    converged: Bool[Array, " B"]
    iterations: Int[Array, " B"]  # evaluations of value, gradient and Hessian


class Stepper(NamedTuple):
    """An optimiser over lanes: a state from θ, and the move to the next trial point."""

    init: Callable[[Array], Any]
    update: Callable[..., tuple[Array, Any]]  # (grad, state, theta, value=, hessian=)


NEWTON = Stepper(trust_region.init, trust_region.update)


class _Loop(NamedTuple):
    theta: Float[Array, "k B"]  # the next trial
    opt_state: Any
    best: OptimizeResult
    closing: Bool[Array, " B"]  # the next trial is the closing step
    active: Bool[Array, " B"]
    step: Int[Array, ""]


def minimise_lanes(
    derivatives: Derivatives,
    theta: Float[Array, "k B"],
    stepper: Stepper,
    canonical: Callable[[Array], Array],
    tol: float = TOL,
    max_iter: Int[Array, ""] | int = MAX_ITER,
) -> OptimizeResult:
    """Minimise every lane's criterion from ``theta``.

    A lane whose criterion is not finite at the start stops at once; a lane that is done keeps its
    result while others go on.

    Args:
        derivatives: maps θ (k, B) to value (B,), gradient (k, B), Hessian (k, k, B) and a pytree
            of anything else wanted at the minimum, lanes last.
        theta: (k, B) start.
        stepper: the optimiser.
        canonical: maps θ (k, B) to the form that is reported.
        tol: largest Newton decrement at which a lane is done.
        max_iter: largest number of evaluations.
    """
    xp, B = array_namespace(theta), theta.shape[-1]
    # Traced, or evaluated at the start, once: the loop is also asked for its shapes.
    derivatives = _remembering(derivatives, theta) if xp is np else jax.jit(derivatives)

    def body(loop: _Loop) -> _Loop:
        value, grad, hess, aux = derivatives(loop.theta)
        direction, decrement, psd = newton_direction(grad, hess)
        tidy = canonical(loop.theta)
        exact = loop.active & psd & (decrement < EXACT) & _same(tidy, loop.theta)
        closing = CLOSING_SLACK + CLOSING_NOISE * xp.abs(value)
        slack = rounding(value) + xp.where(loop.closing, closing, 0.0)
        keep = loop.active & ((value <= loop.best.value + slack) | (loop.step == 0))
        best = loop.best
        found = (xp.where(exact, tidy, loop.theta), value, max_abs(grad), aux)
        at, lowest, norm, kept_aux = jax.tree.map(
            lambda new, old: xp.where(keep, new, old), found, tuple(best[:4])
        )
        converged = best.converged | loop.closing | exact
        best = OptimizeResult(at, lowest, norm, kept_aux, converged, best.iterations + loop.active)
        active = loop.active & ~exact & ~loop.closing & ((loop.step > 0) | xp.isfinite(value))
        closing = active & psd & (decrement < tol)
        move, state = stepper.update(grad, loop.opt_state, loop.theta, value=value, hessian=hess)
        theta = xp.where(closing, canonical(loop.theta + direction), loop.theta + move)
        return _Loop(theta, state, best, closing, active, loop.step + 1)

    def unfinished(loop: _Loop) -> Bool[Array, ""]:
        return xp.any(loop.active) & (loop.step < max_iter)

    like = jax.eval_shape(derivatives, theta) if xp is jnp else derivatives(theta)
    # Criterion, gradient norm and aux, nothing known of them yet.
    blank = jax.tree.map(lambda s: xp.full(s.shape, np.inf, s.dtype), (like[0], like[0], like[3]))
    nobody, everybody = xp.zeros(B, bool), xp.ones(B, bool)
    value, norm, aux = blank
    best = OptimizeResult(theta, value, norm, aux, nobody, xp.zeros(B, np.int32))
    step = xp.zeros((), np.int32)
    loop = _Loop(theta, stepper.init(theta), best, nobody, everybody, step)
    if xp is jnp:
        return jax.lax.while_loop(unfinished, body, varying(loop, jax.eval_shape(body, loop))).best
    while unfinished(loop):
        loop = body(loop)
    return loop.best


def _remembering(derivatives: Derivatives, start: Float[Array, "k B"]) -> Derivatives:
    """``derivatives``, evaluated once at the start, where NumPy is also asked for the shapes."""
    first = derivatives(start)
    return lambda theta: first if theta is start else derivatives(theta)


def _same(a: Float[Array, "k B"], b: Float[Array, "k B"]) -> Bool[Array, " B"]:
    """(B,) whether two θ (k, B) are one point."""
    return max_abs(a - b) <= SAME_THETA * max_abs(b)
