"""Columns of Z in the order of decreasing variance, each lane in its own; NumPy or traced.

With a small leading diagonal, Λ and Λ times a rotation are nearly the same D, and Newton would
crawl along that valley.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from jaxhlm.core.notation import Floats, Ints
from jaxhlm.likelihood.covariance import (
    ROUNDED_TO_ZERO,
    Blocks,
    covariance_of,
    on_boundary,
    theta_of,
)
from jaxhlm.linalg.small import array_namespace
from jaxhlm.optimise.loop import OptimizeResult

if TYPE_CHECKING:
    from jaxtyping import Float

    from jaxhlm.core.notation import Array

__all__ = ["permuted", "pivot_orders", "reordered", "restored"]


def pivot_orders(D: Floats, blocks: Blocks) -> Ints:
    """(B, q) column orders: within each block the largest conditional variance is next."""
    xp, orders = array_namespace(D), [np.empty(0)] * D.shape[1]
    for block in map(np.array, blocks):
        rest = D[:, block[:, None], block]
        for column in block:
            k = xp.diagonal(rest, axis1=1, axis2=2).argmax(axis=1)[:, None]
            orders[column] = xp.asarray(block)[k[:, 0]]
            pivot = xp.take_along_axis(rest, k[:, None], 1)[:, 0]
            scale = xp.take_along_axis(pivot, k, 1)
            scale = xp.where(scale > 0.0, scale, np.inf)
            rest = rest - pivot[:, :, None] * (pivot / scale)[:, None]
            taken = np.arange(len(block)) == k
            rest = xp.where(taken[:, :, None] & taken[:, None], -np.inf, rest)
    return xp.stack(orders, axis=1)


def permuted(M: Floats, order: Ints) -> Floats:
    """Rows and columns of matrices (B, q, q) in orders (B, q)."""
    xp = array_namespace(M)
    return xp.take_along_axis(xp.take_along_axis(M, order[:, :, None], 1), order[:, None], 2)


def reordered(RZ: Float[Array, "G q q b"], order: Ints) -> Float[Array, "G q q B"]:
    """R with the columns of Z of every lane in an order (B, q) of its own."""
    if isinstance(RZ, np.ndarray):
        return np.take_along_axis(RZ, order.T[None, None, :, : RZ.shape[-1]], axis=2)
    # No gather, which would not be part of one compiled function (``tiles``).
    column = jnp.arange(RZ.shape[2])[:, None, None] == order.T
    return sum(
        (jnp.where(chosen, RZ[:, :, c, None], 0.0) for c, chosen in enumerate(column)), start=0.0
    )


def restored(found: OptimizeResult, order: Ints, blocks: Blocks) -> OptimizeResult:
    """A minimum with the columns of Z back in the order that they had before ``order``."""
    xp, back = array_namespace(found.theta), order.argsort(axis=1)
    D = permuted(covariance_of(found.theta, blocks), back)
    singular = on_boundary(found.theta, blocks)
    F = xp.moveaxis(permuted(xp.moveaxis(found.aux["F"], -1, 0), back), 0, -1)
    theta = theta_of(D, blocks, xp.where(singular, ROUNDED_TO_ZERO, 0.0))
    aux: dict[str, Any] = {**found.aux, "F": F}
    return found._replace(theta=theta, aux=aux)
