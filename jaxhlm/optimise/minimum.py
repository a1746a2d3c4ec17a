"""The minimum of one data set as a pure JAX function, of which ``jax.vmap`` makes a batch of lanes.

Its derivatives are a rule of their own: by the implicit function theorem dθ̂ = −H⁻¹ d(∂d/∂θ), exact
at a minimum, and not through the iterations. On the boundary, where columns of Λ are zero, they are
those of the other columns: a variance that is zero stays so when data change a little. Where Λ has
no entries for what changes (``zero_pivot_precedes``) there are none, and they are NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxhlm.errors import OptionError
from jaxhlm.likelihood.covariance import (
    canonical,
    lambda_matrix,
    on_boundary,
    theta_index,
    zero_pivot_precedes,
)
from jaxhlm.likelihood.criterion import slope
from jaxhlm.likelihood.derivatives import derivatives
from jaxhlm.likelihood.deviance import profile
from jaxhlm.likelihood.lane_derivatives import unrollable
from jaxhlm.likelihood.suffstats import RESPONSE_FIELDS, Stats
from jaxhlm.linalg.small import cholesky, solve_lower, solve_upper
from jaxhlm.optimise.boundary import is_minimum
from jaxhlm.optimise.compiled import Sizes, minimise_traced
from jaxhlm.optimise.distances import traced_distance_sums
from jaxhlm.optimise.loop import OptimizeResult
from jaxhlm.optimise.options import Options
from jaxhlm.optimise.rounds import minimise_in_rounds
from jaxhlm.optimise.search import search_needed

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from jaxhlm.core.notation import Array

__all__ = ["Minimum", "minimum"]


class Minimum(NamedTuple):
    """Where one data set's criterion is least, all of it in numbers of one dtype.

    No other dtype has tangents that vary in ``jax.shard_map``.
    """

    theta: Float[Array, " k"]
    value: Float[Array, ""]
    beta: Float[Array, " p"]
    pwrss: Float[Array, ""]
    L_A: Float[Array, "p p"]
    gradient_norm: Float[Array, ""]
    converged: Float[Array, ""]
    iterations: Float[Array, ""]
    settled: Float[Array, ""]  # nothing tells of a lower minimum, if that was asked


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def minimum(stats: Stats, options: Options, asked: bool) -> Minimum:
    """Minimise the criterion of one data set, whose ``Stats`` have no axis of lanes.

    Args:
        stats: statistics of the data set.
        options: what to optimise.
        asked: whether to look for signs of a lower minimum.
    """
    found = _lanes(options, asked)(jax.tree.map(lambda x: jnp.asarray(x)[..., None], stats))
    return jax.tree.map(lambda x: x[..., 0].astype(found.theta.dtype), found)


@minimum.defjvp
def _moved(
    options: Options, asked: bool, given: tuple[Stats], moves: tuple[Stats]
) -> tuple[Minimum, Minimum]:
    """How the minimum moves with the statistics; what is no function of θ and these does not."""
    (stats,), (move,), (reml, blocks) = given, moves, (options.reml, options.blocks)
    found = minimum(stats, options, asked)

    def at_theta(theta: Float[Array, " k"], s: Stats) -> tuple[Array, ...]:
        at = profile(lambda_matrix(theta, blocks), s, reml)
        return theta, at.value, at.beta, at.pwrss, at.L_A

    # The criterion is even in every column of Λ, so that one that is zero stays zero.
    index = theta_index(blocks)
    first = [index.index((column, column)) for _, column in index]
    free = found.theta[np.array(first)] != 0.0
    hess = derivatives(found.theta, stats, reml, blocks).hess
    L = cholesky(jnp.where(free & free[:, None], hess, jnp.eye(len(free), dtype=hess.dtype)))
    _, turned = jax.jvp(lambda s: slope(found.theta, s, reml, blocks), (stats,), (move,))
    theta_move = -solve_upper(L, solve_lower(L, jnp.where(free, turned, 0.0)))
    theta_move *= jnp.where(zero_pivot_precedes(found.theta, blocks), jnp.nan, 1.0)
    _, moving = jax.jvp(at_theta, (found.theta, stats), (theta_move, move))
    return found, Minimum(*moving, *(0.0 * x for x in found[len(moving) :]))


@lru_cache
def _lanes(options: Options, asked: bool) -> Callable[[Stats], Minimum]:
    """The fit of many lanes, last, which under ``jax.vmap`` are more lanes of one fit."""

    @jax.custom_batching.custom_vmap
    def lanes(stats: Stats) -> Minimum:
        return _fitted_lanes(stats, options, asked)

    @lanes.def_vmap
    def mapped(size: int, in_batched: list[Stats], stats: Stats) -> tuple[Minimum, Minimum]:
        _refuse_explicit_axes(stats)
        (batched,), B = in_batched, stats.yy.shape[-1]
        found = lanes(Stats(*map(partial(_joined, size=size, B=B), Stats._fields, stats, batched)))
        split = jax.tree.map(
            lambda x: jnp.moveaxis(x.reshape(*x.shape[:-1], size, B), -2, 0), found
        )
        return split, jax.tree.map(lambda _: True, split)

    return lanes


def _refuse_explicit_axes(stats: Stats) -> None:
    """Refuse lanes that axes of a mesh divide by their types, which a loop cannot carry.

    Raises:
        OptionError: they are.
    """
    if any(axis is not None for x in stats for axis in jax.typeof(x).sharding.spec):
        raise OptionError(
            "data sets are divided among the explicit axes of a mesh; map over them within "
            "jax.shard_map, in which every device fits its own: "
            "jax.shard_map(jax.vmap(fit), in_specs=P(axis), out_specs=P(axis))"
        )


def _joined(field: str, x: Array, is_batched: bool, size: int, B: int) -> Float[Array, "... SB"]:
    """A field with the mapped axis joined to that of lanes; what all of them share stays."""
    if not is_batched and x.shape[-1] == 1 and field not in RESPONSE_FIELDS:
        return x
    x = jnp.moveaxis(x, 0, -2) if is_batched else x[..., None, :]
    return jnp.broadcast_to(x, (*x.shape[:-2], size, B)).reshape(*x.shape[:-2], size * B)


def _fitted_lanes(stats: Stats, options: Options, asked: bool) -> Minimum:
    """``Minimum`` of many lanes, last."""
    if options.optimizer is None and unrollable(stats):
        found = minimise_in_rounds(stats, options, distances=asked)
    else:
        start = jnp.full(
            (len(theta_index(options.blocks)), stats.yy.shape[-1]), jnp.nan, stats.Ty.dtype
        )
        found = minimise_traced(stats, start, Sizes(None, None, options.max_iter), options)
    return _described(stats, found, options, asked)


def _described(stats: Stats, found: OptimizeResult, options: Options, asked: bool) -> Minimum:
    """What of a result is wanted further on."""
    theta = canonical(found.theta, options.blocks)
    return Minimum(
        theta=theta,
        value=found.value,
        beta=found.aux["beta"],
        pwrss=found.aux["pwrss"],
        L_A=found.aux["L_A"],
        gradient_norm=found.gradient_norm,
        converged=found.converged,
        iterations=found.iterations,
        settled=_settled(stats, found._replace(theta=theta), options) if asked else found.converged,
    )


def _settled(stats: Stats, found: OptimizeResult, options: Options) -> Bool[Array, " B"]:
    """Lanes that reached a minimum, and of which nothing tells that they have another."""
    distances = found.aux["distances"]
    if not unrollable(stats):
        at = found.theta, found.aux["beta"], found.aux["pwrss"], options.reml, options.blocks
        distances = traced_distance_sums(stats, *at, len(stats.m))
    settled = found.converged & ~search_needed(stats, found, distances, options.reml)
    boundary = on_boundary(found.theta, options.blocks)
    return settled & (~boundary | is_minimum(found, stats, options.blocks))
