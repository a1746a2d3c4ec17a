"""The fit of one data set as a pure JAX function: jit it, vmap it, differentiate through it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxhlm.likelihood.covariance import Blocks, block_of, canonical, lambda_matrix, theta_index
from jaxhlm.likelihood.deviance import deviance, profile
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.optimise.compiled import Sizes, minimise_traced
from jaxhlm.optimise.loop import MAX_ITER, TOL
from jaxhlm.optimise.options import Options

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
    reml, blocks = options.reml, options.blocks
    lane = jax.tree.map(lambda x: jax.lax.stop_gradient(x)[..., None], stats)
    start = jnp.full((len(theta_index(blocks)), 1), jnp.nan, lane.Ty.dtype)
    found = minimise_traced(lane, start, Sizes(None, None, options.max_iter), options)
    at = canonical(found.theta, blocks)[:, 0]
    grad = jax.grad(deviance)(at, stats, reml, blocks)
    hess = jax.lax.stop_gradient(jax.hessian(deviance)(at, stats, reml, blocks))
    grad_from_data = grad - jax.lax.stop_gradient(grad)
    theta = at - jnp.linalg.solve(hess, grad_from_data)
    best = profile(lambda_matrix(theta, blocks), stats, reml)
    return Fitted(
        theta=theta,
        value=best.value,
        beta=best.beta,
        sigma=jnp.sqrt(best.pwrss / best.nu),
        gradient_norm=found.gradient_norm[0],
        converged=found.converged[0],
        iterations=found.iterations[0],
    )
