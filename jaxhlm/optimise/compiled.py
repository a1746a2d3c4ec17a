"""Minimisation of many lanes, compiled; imported when it is needed, since it needs optax."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import jax

from jaxhlm.core.chunks import CompiledByOne
from jaxhlm.likelihood.criterion import deviance
from jaxhlm.likelihood.lane_derivatives import mappable, unrollable
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.optimise.criterion import minimise_criterion
from jaxhlm.optimise.distances import traced_distance_sums
from jaxhlm.optimise.loop import MAX_ITER, NEWTON, OptimizeResult
from jaxhlm.optimise.newton import stepper
from jaxhlm.optimise.options import Options
from jaxhlm.optimise.start import started
from jaxhlm.optimise.tiles import in_tiles

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from jaxhlm.core.notation import Array

__all__ = ["Sizes", "minimise_compiled", "minimise_traced"]


class Sizes(NamedTuple):
    """What is traced, so that calls for one fit, and fits of other sizes, share one compilation."""

    num_groups: Int[Array, ""]  # how many of the groups are there
    num_lanes: Int[Array, ""]  # how many of the lanes are
    max_iter: Int[Array, ""]  # largest number of evaluations


def minimise_compiled(
    stats: Stats, start: Float[Array, "k B"], sizes: Sizes, options: Options
) -> OptimizeResult:
    """``minimise_traced``, compiled once for each shape and choice of options."""
    options = replace(options, max_iter=MAX_ITER, precision="float64")
    key = (*(x.shape for x in stats), start.shape, options)
    tiled = options.optimizer is None and unrollable(stats) and jax.default_backend() == "cpu"
    if tiled and key not in _refused:
        try:
            return _in_tiles(key, stats, start, sizes, options)
        except jax.errors.JaxRuntimeError as error:
            if "UNIMPLEMENTED" not in str(error):
                raise
            _refused.add(key)
    return _at_once(key, stats, start, sizes, options)


def minimise_traced(
    stats: Stats, start: Float[Array, "k B"], sizes: Sizes, options: Options
) -> OptimizeResult:
    """Minimise all lanes from ``start`` (k, B), NaN for moment estimates; traceable."""
    mapped, axes = mappable(stats)

    def value(theta: Float[Array, " k"], one: Stats) -> Float[Array, ""]:
        return deviance(theta, one, options.reml, options.blocks)

    steps = stepper(options.optimizer, value, mapped, axes)
    start = started(stats, start, options.blocks)
    return minimise_criterion(stats, start, steps, options, sizes.max_iter, sizes.num_groups)


def _minimise_in_tiles(
    stats: Stats, start: Float[Array, "k B"], sizes: Sizes, options: Options
) -> OptimizeResult:
    """By Newton tile by tile, with the distances of the groups."""

    def minimise(stats: Stats, start: Float[Array, "k B"]) -> OptimizeResult:
        found = minimise_criterion(stats, start, NEWTON, options, sizes.max_iter, sizes.num_groups)
        return _with_distances(found, stats, sizes, options)

    return in_tiles(minimise, stats, started(stats, start, options.blocks), sizes.num_lanes)


def _with_distances(
    found: OptimizeResult, stats: Stats, sizes: Sizes, options: Options
) -> OptimizeResult:
    """A minimum with the distances of its groups, which a known one is not asked for."""
    beta, pwrss = found.aux["beta"], found.aux["pwrss"]

    def distances() -> Float[Array, "2 B"]:
        at = found.theta, beta, pwrss, options.reml, options.blocks
        return traced_distance_sums(stats, *at, sizes.num_groups)

    sums = jax.lax.cond(sizes.max_iter > 1, distances, lambda: found.aux["distances"])
    return found._replace(aux={**found.aux, "distances": sums})


_in_tiles = CompiledByOne(_minimise_in_tiles, static_argnames="options")
_at_once = CompiledByOne(minimise_traced, static_argnames="options")
# Programs that XLA does not compile to one function.
_refused: set[Hashable] = set()
