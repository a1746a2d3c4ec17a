"""What a loop carries inside ``jax.shard_map``: JAX wants to know over which axes it varies."""

from __future__ import annotations

from typing import Any, TypeVar

import jax

__all__ = ["varying"]

T = TypeVar("T")


def varying(start: T, like: Any) -> T:
    """``start``, marked to vary over all axes of the mesh that any leaf of ``like`` varies over.

    Outside ``jax.shard_map`` nothing varies, and it is ``start``.

    Args:
        start: pytree of what a loop starts from.
        like: pytree of arrays or of what ``jax.eval_shape`` returns.

    >>> import jax.numpy as jnp
    >>> int(varying(jnp.ones((), int), jnp.zeros(2)))
    1
    """
    axes = frozenset[str]().union(*map(_axes, jax.tree.leaves(like)))

    def vary(x: Any) -> Any:
        rest = tuple(sorted(axes - _axes(jax.typeof(x))))
        return jax.lax.pcast(x, rest, to="varying") if rest else x

    return jax.tree.map(vary, start) if axes else start


def _axes(shape: Any) -> frozenset[str]:
    """The axes that an array of this shape varies over, once called vma."""
    kind = getattr(shape, "manual_axis_type", None)
    axes: frozenset[str] = getattr(shape, "vma", frozenset()) if kind is None else kind.varying
    return axes or frozenset()
