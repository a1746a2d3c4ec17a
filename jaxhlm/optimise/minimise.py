"""The fit of one data set as a pure JAX function: jit it, vmap it, differentiate through it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxhlm.core.precision import any_promotion
from jaxhlm.likelihood.checks import checked_blocks
from jaxhlm.likelihood.covariance import Blocks
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.optimise.loop import MAX_ITER, TOL
from jaxhlm.optimise.minimum import minimum
from jaxhlm.optimise.options import Options

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from jaxhlm.core.notation import Array

__all__ = ["Fitted", "minimise", "tolerance"]

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


@any_promotion
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
    where there may be several. ``fit_statistics`` gives everything that a fit estimates, of
    standardised columns.

    Differentiable in ``stats``, and so in the data: by the implicit function theorem
    dθ̂ = −H⁻¹ d(∂d/∂θ), exact at a minimum, and not through the iterations. In a singular fit a
    variance that is zero, or a correlation of ±1, stays so, as it does when data change a little.
    NaN if columns of Z covary of which an earlier one has variance zero and a later one has not.

    Under ``jax.vmap`` all data sets are one batch, in tiles that fit the cache; in
    ``jax.shard_map`` every device fits its own. Lanes that explicit axes of a mesh divide are for
    ``jax.shard_map`` too: elsewhere they are refused.

    Args:
        stats: statistics of the data set, from ``suffstats``.
        reml: the REML criterion instead of the ML deviance.
        blocks: columns of Z in each random term, as ``hlm.design(…).blocks``; one unstructured
            block if None.
        optimizer: an optax optimiser; ``newton()`` if None.
        tol: largest Newton decrement, in deviance units, at which the fit is done; 1e-10, in
            single precision 1e-5.
        max_iter: largest number of evaluations.

    Returns:
        ``Fitted``; look at ``converged``.

    Raises:
        ResponseShapeError: the shapes of the statistics do not fit each other.
        OptionError: an option is not of its kind.

    Example:
        >>> import jax, jax.numpy as jnp, jaxhlm as hlm
        >>> y = jnp.array([1.0, 2.0, 4.0, 3.0, 6.0, 7.0])
        >>> one, group = jnp.ones((6, 1)), jnp.array([0, 0, 1, 1, 2, 2])
        >>> def sigma(y):
        ...     found = hlm.minimise(hlm.suffstats(y, one, one, group, num_groups=3))
        ...     return found.sigma, found
        >>> (_, found), slopes = jax.value_and_grad(sigma, has_aux=True)(y)
        >>> print(f"{found.sigma:.3f} {found.theta[0]:.2f}", slopes.shape)
        0.707 3.49 (6,)
    """
    blocks = checked_blocks(stats, blocks)
    return _minimise(stats, Options(reml, blocks, optimizer, tolerance(tol, stats), max_iter))


def tolerance(tol: float | None, stats: Stats) -> float:
    """The largest Newton decrement at which a fit is done: what was given, or that of the dtype."""
    if tol is not None:
        return tol
    return TOL if stats.RZ.dtype == jnp.float64 else SINGLE_TOL


@partial(jax.jit, static_argnames="options")
def _minimise(stats: Stats, options: Options) -> Fitted:
    found = minimum(stats, options, asked=False)
    return Fitted(
        theta=found.theta,
        value=found.value,
        beta=found.beta,
        sigma=jnp.sqrt(found.pwrss / (stats.n - options.reml * stats.rank)),
        gradient_norm=found.gradient_norm,
        converged=found.converged > 0.0,
        iterations=found.iterations.astype(np.int32),
    )
