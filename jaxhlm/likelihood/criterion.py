"""The deviance of one data set as users differentiate it: its derivatives in θ are closed forms.

Automatic differentiation of ``profile`` gives the same numbers, but XLA compiles what it writes for
two to three times as long. Rules of ours give the gradient and the Hessian in θ; what else there
is, by the statistics or of third order, is differentiated automatically.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from jaxhlm.core.arguments import check_flag
from jaxhlm.core.precision import any_promotion
from jaxhlm.likelihood.checks import checked_blocks
from jaxhlm.likelihood.covariance import Blocks, lambda_matrix
from jaxhlm.likelihood.derivatives import derivatives
from jaxhlm.likelihood.deviance import profile
from jaxhlm.likelihood.suffstats import Stats

if TYPE_CHECKING:
    from jaxtyping import Float

    from jaxhlm.core.notation import Array

__all__ = ["deviance", "slope"]

# A function of θ, statistics, REML and blocks.
OfTheta = Callable[[Any, Stats, bool, Blocks], Any]


@any_promotion
def deviance(
    theta: Float[Array, " k"], stats: Stats, reml: bool = True, blocks: Blocks | None = None
) -> Float[Array, ""]:
    """−2 × the log-likelihood of one data set, profiled over β and σ, at θ.

    Pure: jit, vmap, grad and hessian it as you like; it follows the dtype it is given. Gradient and
    Hessian in θ are the closed forms that ``fit`` uses; by the statistics, and beyond the second,
    derivatives are automatic, forward and backward.
    Equals ``lme4::REMLcrit`` (REML) or ``-2 * logLik`` (ML) at that θ.

    Args:
        theta: (k,) free entries of Λ, column by column (lme4's ``getME(fit, "theta")``). Λ is
            relative to σ: the covariance of the random effects is σ²ΛΛ'.
        stats: statistics of the data set, from ``suffstats``.
        reml: the REML criterion instead of the ML deviance.
        blocks: columns of Z in each random term, as ``hlm.design(…).blocks``; one unstructured
            block if None.

    Returns:
        The criterion, a scalar; NaN where X is rank deficient, and so are its derivatives.

    Raises:
        ResponseShapeError: the shapes of θ or of the statistics do not fit each other.
        OptionError: the blocks do not hold every column of Z once, or ``reml`` is neither True nor
            False.

    Example:
        >>> import jax.numpy as jnp, jaxhlm as hlm
        >>> y = jnp.array([1.0, 2.0, 4.0, 3.0, 6.0, 7.0])
        >>> one = jnp.ones((6, 1))
        >>> stats = hlm.suffstats(y, one, one, jnp.array([0, 0, 1, 1, 2, 2]), num_groups=3)
        >>> print(f"{hlm.deviance(jnp.array([1.5]), stats):.4f}")
        20.3899
    """
    check_flag("reml", reml)
    theta, blocks = jnp.asarray(theta), checked_blocks(stats, blocks)
    return _value(theta, stats, bool(reml), blocks)


def _with_slope(f: OfTheta, in_theta: OfTheta) -> OfTheta:
    """``f`` with its derivative in θ; by statistics that move at all it is automatic."""
    ruled = jax.custom_jvp(f, nondiff_argnums=(2, 3))

    def rule(
        reml: bool, blocks: Blocks, given: tuple[Array, Stats], moves: tuple[Any, Stats]
    ) -> tuple[Array, Array]:
        (theta, stats), (theta_move, stats_move) = given, moves
        value = ruled(theta, stats, reml, blocks)
        move = jnp.zeros_like(value)
        if not isinstance(theta_move, SymbolicZero):
            move = move + in_theta(theta, stats, reml, blocks) @ theta_move
        if not all(isinstance(x, SymbolicZero) for x in stats_move):
            dense = Stats(*map(_instantiated, stats, stats_move))
            move = move + jax.jvp(lambda s: f(theta, s, reml, blocks), (stats,), (dense,))[1]
        return value, move

    ruled.defjvp(rule, symbolic_zeros=True)
    return ruled


def _instantiated(x: Array, move: Any) -> Array:
    """A tangent as an array."""
    return jnp.zeros_like(x) if isinstance(move, SymbolicZero) else move


def _plain_value(theta: Array, stats: Stats, reml: bool, blocks: Blocks) -> Float[Array, ""]:
    at = profile(lambda_matrix(theta, blocks), stats, reml)
    return at.value * _one_or_nan(at.L_A)


def _plain_slope(theta: Array, stats: Stats, reml: bool, blocks: Blocks) -> Float[Array, " k"]:
    at = derivatives(theta, stats, reml, blocks)
    return at.grad * _one_or_nan(at.profile.L_A)


def _bend(theta: Array, stats: Stats, reml: bool, blocks: Blocks) -> Float[Array, "k k"]:
    at = derivatives(theta, stats, reml, blocks)
    return at.hess * _one_or_nan(at.profile.L_A)


def _one_or_nan(L_A: Float[Array, "p p"]) -> Float[Array, ""]:
    """1, or NaN where X is rank deficient: a factor, so that derivatives are NaN there as well."""
    # The residual of a column of X on those before it: rounding alone where X is deficient.
    residual, total = jnp.diagonal(L_A) ** 2, (L_A**2).sum(axis=1)
    determined = (residual > 10 * len(residual) * jnp.finfo(residual.dtype).eps * total).all()
    return jnp.where(determined, 1.0, jnp.nan).astype(residual.dtype)


slope = _with_slope(_plain_slope, _bend)
"""∂d/∂θ (k,) of one data set."""

# Called by itself it would compile operation by operation, for seconds.
_value = jax.jit(_with_slope(_plain_value, slope), static_argnums=(2, 3))
