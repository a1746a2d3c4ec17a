"""The fit of one data set as a pure JAX function: jit it, vmap it, differentiate through it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxhlm.likelihood.covariance import Blocks, block_of, canonical, lambda_matrix, theta_index
from jaxhlm.likelihood.derivatives import derivatives
from jaxhlm.likelihood.deviance import profile
from jaxhlm.likelihood.lane_derivatives import unrollable
from jaxhlm.likelihood.suffstats import RESPONSE_FIELDS, Stats
from jaxhlm.linalg.small import cholesky, solve_lower, solve_upper
from jaxhlm.optimise.compiled import Sizes, minimise_traced
from jaxhlm.optimise.criterion import minimise_criterion
from jaxhlm.optimise.loop import MAX_ITER, NEWTON, TOL, OptimizeResult
from jaxhlm.optimise.options import Options
from jaxhlm.optimise.start import started
from jaxhlm.optimise.tiles import TILE_LANES, in_tiles

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from jaxhlm.core.notation import Array

__all__ = ["Fitted", "minimise"]

SINGLE_TOL = 1e-5


class Fitted(NamedTuple):
    """The minimum of one data set's criterion."""

    theta: Float[Array, " k"]  # free entries of Λ, diagonal non-negative
    value: Float[Array, ""]  # criterion, −2 × log-likelihood
    beta: Float[Array, " p"]  # fixed effects
    sigma: Float[Array, ""]  # residual standard deviation
    gradient_norm: Float[Array, ""]  # largest |∂d/∂θ|
    converged: Bool[Array, ""]
    iterations: Int[Array, ""]  # evaluations of criterion, gradient and Hessian


def minimise(
    stats: Stats,
    reml: bool = True,
    blocks: Blocks | None = None,
    optimizer: optax.GradientTransformation | None = None,
    *,
    tol: float | None = None,
    max_iter: int = MAX_ITER,
) -> Fitted:
    """Minimise the deviance of one data set; nothing is standardised, the dtype is the caller's.

    One start, from moments, which leads to a minimum and not always to the lowest: ``fit`` searches
    where there may be several.

    Differentiable in ``stats``, and so in the data: by the implicit function theorem
    dθ̂ = −H⁻¹ d(∂d/∂θ), exact at a minimum off the boundary, and not through the iterations.

    Under ``jax.vmap`` all data sets are one batch, in tiles that fit the cache; in
    ``jax.shard_map`` every device fits its own.

    Args:
        stats: statistics of the data set, from ``suffstats``.
        reml: the REML criterion instead of the ML deviance.
        blocks: columns of Z in each random term; one unstructured block if None.
        optimizer: an optax optimiser; ``newton()`` if None.
        tol: largest Newton decrement, in deviance units, at which the fit is done; 1e-10, in
            single precision 1e-5.
        max_iter: largest number of evaluations.

    Returns:
        ``Fitted``; look at ``converged``.

    Example:
        >>> import jax, jax.numpy as jnp, jaxhlm as hlm
        >>> y = jnp.array([1.0, 2.0, 4.0, 3.0, 6.0, 7.0])
        >>> one, group = jnp.ones((6, 1)), jnp.array([0, 0, 1, 1, 2, 2])
        >>> def sigma(y):
        ...     found = hlm.minimise(hlm.suffstats(y, one, one, group, num_groups=3))
        ...     return found.sigma, found
        >>> (_, found), slopes = jax.value_and_grad(sigma, has_aux=True)(y)
        >>> print(f"{found.sigma:.4f} {found.theta[0]:.3f}", slopes.shape)
        0.7071 3.488 (6,)
    """
    blocks = blocks or block_of(stats.RZ.shape[-1])
    if tol is None:
        tol = TOL if stats.RZ.dtype == jnp.float64 else SINGLE_TOL
    return _minimise(stats, Options(reml, blocks, optimizer, tol, max_iter))


@partial(jax.jit, static_argnames="options")
def _minimise(stats: Stats, options: Options) -> Fitted:
    found = _differentiable(stats, options)
    counts = {"converged": found.converged > 0.0, "iterations": found.iterations.astype(np.int32)}
    return found._replace(**counts)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _differentiable(stats: Stats, options: Options) -> Fitted:
    """``Fitted`` in numbers of one dtype: no other has tangents that vary in ``shard_map``."""
    found = _lanes(options)(jax.tree.map(lambda x: jnp.asarray(x)[..., None], stats))
    return jax.tree.map(lambda x: x[..., 0].astype(found.theta.dtype), found)


@_differentiable.defjvp
def _moved(options: Options, given: tuple[Stats], moves: tuple[Stats]) -> tuple[Fitted, Fitted]:
    """How the minimum moves with the statistics; what is no function of θ and these does not."""
    (stats,), (move,), (reml, blocks) = given, moves, (options.reml, options.blocks)
    found = _differentiable(stats, options)

    def slope(s: Stats) -> Float[Array, " k"]:
        return derivatives(found.theta, s, reml, blocks).grad

    def estimates(theta: Float[Array, " k"], s: Stats) -> tuple[Array, ...]:
        at = profile(lambda_matrix(theta, blocks), s, reml)
        return theta, at.value, at.beta, jnp.sqrt(at.pwrss / at.nu)

    L = cholesky(derivatives(found.theta, stats, reml, blocks).hess)
    _, turned = jax.jvp(slope, (stats,), (move,))
    theta_move = -solve_upper(L, solve_lower(L, turned))
    at, along = (found.theta, stats), (theta_move, move)
    _, (theta, value, beta, sigma) = jax.jvp(estimates, at, along)
    still = (0.0 * x for x in (found.gradient_norm, found.converged, found.iterations))
    return found, Fitted(theta, value, beta, sigma, *still)


@lru_cache
def _lanes(options: Options) -> Callable[[Stats], Fitted]:
    """The fit of many lanes, last, which under ``jax.vmap`` are more lanes of one fit."""

    @jax.custom_batching.custom_vmap
    def lanes(stats: Stats) -> Fitted:
        return _fitted_lanes(stats, options)

    @lanes.def_vmap
    def mapped(size: int, in_batched: list[Stats], stats: Stats) -> tuple[Fitted, Fitted]:
        (batched,), B = in_batched, stats.yy.shape[-1]
        found = lanes(Stats(*map(partial(_joined, size=size, B=B), Stats._fields, stats, batched)))
        split = jax.tree.map(
            lambda x: jnp.moveaxis(x.reshape(*x.shape[:-1], size, B), -2, 0), found
        )
        return split, jax.tree.map(lambda _: True, split)

    return lanes


def _joined(field: str, x: Array, is_batched: bool, size: int, B: int) -> Float[Array, "... SB"]:
    """A field with the mapped axis joined to that of lanes; what all of them share stays."""
    if not is_batched and x.shape[-1] == 1 and field not in RESPONSE_FIELDS:
        return x
    x = jnp.moveaxis(x, 0, -2) if is_batched else x[..., None, :]
    return jnp.broadcast_to(x, (*x.shape[:-2], size, B)).reshape(*x.shape[:-2], size * B)


def _fitted_lanes(stats: Stats, options: Options) -> Fitted:
    """``Fitted`` of many lanes, last."""
    B, blocks = stats.yy.shape[-1], options.blocks
    start = jnp.full((len(theta_index(blocks)), B), jnp.nan, stats.Ty.dtype)

    def by_newton(stats: Stats, start: Float[Array, "k B"]) -> OptimizeResult:
        return minimise_criterion(stats, start, NEWTON, options, options.max_iter)

    if options.optimizer is None and unrollable(stats) and B >= TILE_LANES:
        found = _in_whole_tiles(by_newton, stats, started(stats, start, blocks))
    else:
        found = minimise_traced(stats, start, Sizes(None, None, options.max_iter), options)
    return Fitted(
        theta=canonical(found.theta, blocks),
        value=found.value,
        beta=found.aux["beta"],
        sigma=jnp.sqrt(found.aux["pwrss"] / (stats.n - options.reml * stats.rank)),
        gradient_norm=found.gradient_norm,
        converged=found.converged,
        iterations=found.iterations,
    )


def _in_whole_tiles(
    minimum: Callable[[Stats, Array], OptimizeResult], stats: Stats, start: Float[Array, "k B"]
) -> OptimizeResult:
    """``in_tiles`` of any number of lanes, the last of them repeated to fill a tile."""
    B = start.shape[-1]

    def filled(x: Float[Array, "... b"]) -> Float[Array, "... b"]:
        more = [(0, 0)] * (x.ndim - 1) + [(0, -B % TILE_LANES)]
        return jnp.pad(x, more, mode="edge") if x.shape[-1] == B else x

    found = in_tiles(minimum, Stats(*map(filled, stats)), filled(start), B, marked=False)
    return jax.tree.map(lambda x: x[..., :B], found)
