"""Lanes in tiles that fit the cache, one after the other in a single compiled function.

XLA's CPU backend runs every fused step of a loop as a function of its own: about a hundred calls
for every group in every evaluation. Tiny loops it marks with the attribute ``xla_cpu_small_call``,
and compiles each to one function. A loop over tiles of lanes is such a loop, whatever the number
of lanes, so it is marked here. That takes half the time, a tile whose lanes are done stops, and
one program serves all numbers of tiles that fit its arrays.

Versions of XLA that do not know the mark ignore it. One that cannot compile a marked function
raises an error, and ``compiled`` goes on without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import jax
import jax.numpy as jnp
from jax.experimental.xla_metadata import set_xla_metadata

from jaxhlm.core.varying import varying
from jaxhlm.likelihood.suffstats import Stats

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from jaxhlm.core.notation import Array

__all__ = ["TILE_LANES", "in_tiles", "one_function"]

TILE_LANES = 128
ONE_FUNCTION = {"xla_cpu_small_call": "true", "inlineable": "false"}

S = TypeVar("S")
T = TypeVar("T")


def in_tiles(
    minimise: Callable[[Stats, S], T],
    stats: Stats,
    start: S,
    num_lanes: Int[Array, ""],
    marked: bool = True,
) -> T:
    """``minimise(stats, start)`` of the first ``num_lanes`` lanes; what follows them is undefined.

    Args:
        minimise: what to do with each tile; returns a pytree, lanes last.
        stats: statistics of a multiple of ``TILE_LANES`` lanes.
        start: pytree of arrays (…, B).
        num_lanes: () how many of the lanes there are, which may be traced.
        marked: as one function, where whoever compiles it can go on without if XLA refuses.
    """
    B = stats.yy.shape[-1]
    minimise = jax.jit(minimise)  # traced once, for the shapes and for the loop

    def of_tile(j: Int[Array, ""] | int) -> T:
        def cut(x: Float[Array, "... b"]) -> Float[Array, "... b"]:
            if x.shape[-1] != B:
                return x
            return jax.lax.dynamic_slice_in_dim(x, j * TILE_LANES, TILE_LANES, x.ndim - 1)

        return minimise(jax.tree.map(cut, stats), jax.tree.map(cut, start))

    def write_tile(j: Int[Array, ""], found: T) -> T:
        def write(x: Float[Array, "... B"], part: Float[Array, "... t"]) -> Float[Array, "... B"]:
            return jax.lax.dynamic_update_slice_in_dim(x, part, j * TILE_LANES, x.ndim - 1)

        return jax.tree.map(write, found, of_tile(j))

    shapes = jax.eval_shape(of_tile, 0)
    zeros = jax.tree.map(lambda s: jnp.zeros((*s.shape[:-1], B), s.dtype), shapes)
    empty = varying(zeros, shapes)
    num_tiles = -(-num_lanes // TILE_LANES)

    def work() -> T:
        return jax.lax.fori_loop(0, num_tiles, write_tile, empty)

    return one_function(work) if marked else work()


def one_function(work: Callable[[], T]) -> T:
    """Trace ``work`` so that XLA's CPU backend compiles all of it to a single function."""

    def unmarked() -> T:
        with set_xla_metadata(**dict.fromkeys(ONE_FUNCTION)):
            return work()

    with set_xla_metadata(**ONE_FUNCTION):
        return jax.jit(unmarked, inline=False)()
