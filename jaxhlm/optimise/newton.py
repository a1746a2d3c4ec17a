"""Optimisers in optax's frame: ours as one of its transformations, any of its own in our loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import optax

from jaxhlm.core.notation import Array
from jaxhlm.optimise import trust_region
from jaxhlm.optimise.loop import Stepper

__all__ = ["newton", "stepper"]


def newton() -> optax.GradientTransformationExtraArgs:
    """Trust-region Newton as an optax transformation, the default of ``fit``.

    ``update(grad, state, theta, value=…, hessian=…)`` returns the move to the next trial point,
    for one data set (k,) or, as all of it is entrywise, for many (k, B).

    Example:
        >>> import jax.numpy as jnp
        >>> opt, theta = newton(), jnp.array([3.0])
        >>> move, _ = opt.update(
        ...     theta, opt.init(theta), theta, value=0.5 * theta @ theta, hessian=jnp.eye(1)
        ... )
        >>> float((theta + move)[0])
        0.0
    """

    def update(
        updates: Array, state: Any, params: Array = None, *, value: Array, hessian: Array, **_: Any
    ) -> tuple[Array, Any]:
        return trust_region.update(updates, state, params, value=value, hessian=hessian)

    return optax.GradientTransformationExtraArgs(trust_region.init, update)


def stepper(
    optimizer: optax.GradientTransformation | None,
    value_fn: Callable[[Array, Any], Array],
    lane_data: Any,
    lane_axes: Any,
) -> Stepper:
    """An optimiser for one data set, run on all lanes.

    Args:
        optimizer: an optax optimiser; ``newton()`` if None.
        value_fn: the criterion of one data set as a function of θ (k,) and its element of
            ``lane_data``, for optimisers with a line search (``optax.lbfgs``).
        lane_data: pytree that holds the data of all lanes.
        lane_axes: its ``in_axes`` for ``jax.vmap``.
    """
    if optimizer is None:
        opt = newton()
        return Stepper(opt.init, opt.update)
    opt = optax.with_extra_args_support(optimizer)

    def one(
        grad: Array, state: Any, theta: Array, value: Array, hessian: Array, lane: Any
    ) -> tuple[Array, Any]:
        # optax's line searches refuse whatever neither they nor value_fn take by name.
        def criterion(t: Array, hessian: Array = None) -> Array:
            return value_fn(t, lane)

        extra = {"value": value, "hessian": hessian, "grad": grad}
        return opt.update(grad, state, theta, value_fn=criterion, **extra)

    mapped = jax.vmap(one, in_axes=(-1, -1, -1, -1, -1, lane_axes), out_axes=-1)

    def update(
        grad: Array, state: Any, theta: Array, *, value: Array, hessian: Array
    ) -> tuple[Array, Any]:
        return mapped(grad, state, theta, value, hessian, lane_data)

    return Stepper(jax.vmap(opt.init, in_axes=-1, out_axes=-1), update)
