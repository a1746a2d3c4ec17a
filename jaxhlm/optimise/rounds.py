"""Minima of many lanes in rounds, traceable: a few evaluations of all, more of those not done.

What ``solve`` does on the host is done here within a user's own compiled function: after a round
the lanes that are not done move together, so that the slowest of 100,000 does not hold the rest,
and go on with the columns of Z in the order of decreasing variance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxhlm.core.varying import varying
from jaxhlm.likelihood.covariance import covariance_of, theta_index, theta_of
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.optimise.criterion import minimise_criterion
from jaxhlm.optimise.distances import traced_distance_sums
from jaxhlm.optimise.loop import CLOSING_SLACK, NEWTON, OptimizeResult
from jaxhlm.optimise.options import Options
from jaxhlm.optimise.pivoting import permuted, pivot_orders, reordered, restored
from jaxhlm.optimise.start import started
from jaxhlm.optimise.tiles import TILE_LANES, in_tiles

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from jaxhlm.core.notation import Array

    Count = Int[Array, ""]
    # Minima of the first so many lanes, from θ and in an order of the columns of Z, with at most
    # so many evaluations.
    Minimise = Callable[
        [Stats, Float[Array, "k B"], Int[Array, "B q"], Count, Count], OptimizeResult
    ]

__all__ = ["minimise_in_rounds"]

# Evaluations after which the lanes that are not done move together.
ROUNDS = (7, 19)
# Later versions of JAX than were tried may not compile a tile to one function, and a user's own
# compilation cannot go on without, as ``compiled`` can.
TRIED_BELOW = (0, 13)


def minimise_in_rounds(stats: Stats, options: Options, distances: bool) -> OptimizeResult:
    """Minimise all lanes by Newton from moment estimates.

    Args:
        stats: statistics of lanes, last, small enough to be spelled out entry by entry.
        options: what to optimise, not by an optimiser of the user's.
        distances: whether the distances of the groups are wanted at the minima.
    """
    B, blocks = stats.yy.shape[-1], options.blocks
    minimise = _in_tiles(options, distances) if B >= TILE_LANES else _at_once(options, distances)
    stats = Stats(*(_filled(x, B) for x in stats))
    most = np.minimum((*ROUNDS, options.max_iter), options.max_iter)
    budget = jnp.asarray(np.diff(most, prepend=0), np.int32)
    unknown = jnp.full((len(theta_index(blocks)), stats.yy.shape[-1]), jnp.nan, stats.Ty.dtype)
    start = started(stats, unknown, blocks)

    @jax.jit  # traced once, for the shapes and for the loop
    def go_on(state: tuple[Count, OptimizeResult]) -> tuple[Count, OptimizeResult]:
        number, found = state
        todo = _unfinished(found, B)
        place: Any = jnp.argsort(~todo, stable=True)
        theta, D = found.theta[:, place], covariance_of(found.theta[:, place], blocks)
        order: Any = jnp.where(number == 0, np.arange(D.shape[1]), pivot_orders(D, blocks))
        turned = jnp.where(number == 0, theta, theta_of(permuted(D, order), blocks))
        again = minimise(stats.take(place), turned, order, todo.sum(), budget[number])
        again = _lanes(restored(again, order, blocks), place.argsort())
        return number + 1, _lower(found, again, todo)

    def more(state: tuple[Count, OptimizeResult]) -> Bool[Array, ""]:
        number, found = state
        return (number < len(budget)) & (budget[number] > 0) & _unfinished(found, B).any()

    state = jnp.zeros((), np.int32), _unknown(minimise, stats, start)
    state = jax.lax.while_loop(more, go_on, varying(state, jax.eval_shape(go_on, state)))
    return _lanes(state[1], slice(B))


def _in_tiles(options: Options, distances: bool) -> Minimise:
    """Tile by tile, each as one function where XLA's CPU backend compiles it."""
    marked = jax.default_backend() == "cpu" and jax.__version_info__ < TRIED_BELOW

    def minimise(
        stats: Stats, theta: Array, order: Array, count: Count, most: Count
    ) -> OptimizeResult:
        def of_tile(some: Stats, given: tuple[Array, Array]) -> OptimizeResult:
            return _from(some, given[0], given[1].T, most, options, distances)

        return in_tiles(of_tile, stats, (theta, order.T), count, marked)

    return minimise


def _at_once(options: Options, distances: bool) -> Minimise:
    def minimise(
        stats: Stats, theta: Array, order: Array, count: Count, most: Count
    ) -> OptimizeResult:
        return _from(stats, theta, order, most, options, distances)

    return minimise


def _from(
    stats: Stats, theta: Array, order: Array, most: Count, options: Options, distances: bool
) -> OptimizeResult:
    """Minima from θ with the columns of Z in an order, and the distances of the groups there."""
    if max(map(len, options.blocks)) > 1:
        stats = stats._replace(RZ=reordered(stats.RZ, order))
    found = minimise_criterion(stats, theta, NEWTON, options, most)
    if not distances:
        return found
    at = found.theta, found.aux["beta"], found.aux["pwrss"], options.reml, options.blocks
    sums = traced_distance_sums(stats, *at, len(stats.m))
    return found._replace(aux={**found.aux, "distances": sums})


def _unknown(minimise: Minimise, stats: Stats, start: Float[Array, "k B"]) -> OptimizeResult:
    """Nothing found yet: the start, with a criterion that anything is lower than."""
    order = jnp.zeros((start.shape[1], stats.RZ.shape[2]), np.int32)
    shapes = jax.eval_shape(minimise, stats, start, order, np.int32(0), np.int32(0))
    blank = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return blank._replace(theta=start, value=jnp.full_like(blank.value, np.inf))


def _unfinished(found: OptimizeResult, B: int) -> Bool[Array, " B"]:
    """Which of the first B lanes are not done, as far as they can be."""
    there = np.arange(found.value.shape[-1]) < B
    hopeless = (found.iterations > 0) & ~jnp.isfinite(found.value)
    return there & ~found.converged & ~hopeless


def _lower(
    found: OptimizeResult, again: OptimizeResult, went_on: Bool[Array, " B"]
) -> OptimizeResult:
    """The lower of two minima in the lanes that went on; evaluations add up."""
    better = went_on & ~(again.value > found.value + CLOSING_SLACK)
    total = found.iterations + jnp.where(went_on, again.iterations, 0)
    lower = jax.tree.map(lambda old, new: jnp.where(better, new, old), found, again)
    return lower._replace(iterations=total)


def _lanes(found: OptimizeResult, index: Array | slice) -> OptimizeResult:
    return jax.tree.map(lambda x: x[..., index], found)


def _filled(x: Float[Array, "... b"], B: int) -> Float[Array, "... b"]:
    """Lanes, repeated to fill whole tiles if there is more than one of them; what all share."""
    if x.shape[-1] != B or B < TILE_LANES:
        return x
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -B % TILE_LANES)], mode="edge")
