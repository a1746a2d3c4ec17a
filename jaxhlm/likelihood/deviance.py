"""The profiled deviance of the hierarchical linear model: the mathematics on one screen.

    y_i = X_i β + Z_i b_i + ε_i,     b_i ~ N(0, σ² Λ Λ'),     ε_i ~ N(0, σ² I)

so y_i ~ N(X_i β, σ² V_i) with V_i = I + Z_i Λ Λ' Z_i'. ``suffstats`` reduces the rows of group i to
R_i (Z_i = Q_i R_i) and T_i = Q_i'[X_i y_i], plus what Q_i does not span, summed in ``within``:

    Ω_i = I + R_i Λ Λ' R_i' = L_i L_i'                     log|V_i| = log|Ω_i| = 2 Σ log diag L_i
    [A b; b' c] = Σ_i [X_i y_i]' V_i⁻¹ [X_i y_i] = within + Σ_i (L_i⁻¹T_i)'(L_i⁻¹T_i)
    A = L_A L_A',    β̂ = A⁻¹ b,    pwrss = c − |L_A⁻¹ b|²

Profiling β and σ² out leaves a function of θ alone, on the scale of −2 log-likelihood
(Bates et al. 2015, eq. 34 for ML and eq. 41 for REML):

    ML:    d(θ) = Σ log|Ω_i|            + ν [1 + log(2π pwrss/ν)],    ν = n
    REML:  d(θ) = Σ log|Ω_i| + log|A|   + ν [1 + log(2π pwrss/ν)],    ν = n − rank X

Equals ``lme4::REMLcrit(fit)`` and ``deviance(fit, REML = FALSE)``. Prior weights w scale the rows
by √w and subtract Σ log w.

Everything here is written for one data set. The same lines serve a batch: ``lane_derivatives`` maps
them over lanes, with matrices spelled out entry by entry where it is faster (``linalg/small.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxhlm.core.notation import Array
from jaxhlm.core.precision import any_promotion
from jaxhlm.likelihood.checks import check_shape, checked_blocks
from jaxhlm.likelihood.covariance import Blocks, lambda_matrix
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.linalg.small import (
    array_namespace,
    cholesky,
    eye_plus,
    is_unrolled,
    log_diagonal,
    matmul,
    pack,
    solve_lower,
    solve_upper,
    unpack,
)

if TYPE_CHECKING:
    from jaxtyping import Float


__all__ = ["Profile", "beside", "loglik", "profile", "sum_groups", "whiten"]

# What a group adds to the sums over groups, from its R_i, T_i^X, t_i^y and m_i.
GroupTerm = Callable[[Array, Array, Array, Array], tuple[Array, ...]]
SumGroups = Callable[[GroupTerm, Stats], tuple[Array, ...]]


class Profile(NamedTuple):
    """The deviance at θ and what profiling found on the way."""

    value: Float[Array, " ..."]  # −2 × profiled log-likelihood
    beta: Float[Array, "p ..."]
    pwrss: Float[Array, " ..."]
    L_A: Float[Array, "p p ..."]  # lower Cholesky factor of A = X'V⁻¹X
    nu: Float[Array, " ..."]  # n (ML) or n − rank X (REML)


def sum_groups(term: GroupTerm, stats: Stats) -> tuple[Array, ...]:
    """Σ_i term(R_i, T_i^X, t_i^y, m_i) over the groups of one data set."""
    terms = jax.vmap(term)(stats.RZ, stats.TX, stats.Ty, stats.m)
    return jax.tree.map(lambda t: jnp.sum(t, axis=0), terms)


def whiten(
    Lambda: Float[Array, "q q"], RZ: Float[Array, "q q"], *T: Float[Array, "q ..."]
) -> tuple[Array, ...]:
    """L, and L⁻¹T for every T given, with LL' = Ω = I + R Λ Λ' R' of one group."""
    RL = matmul(RZ, Lambda)
    L = cholesky(eye_plus(RL @ RL.T))
    return (L, *(solve_lower(L, t) for t in T))


def profile(
    Lambda: Float[Array, "q q"], stats: Stats, reml: bool, over_groups: SumGroups = sum_groups
) -> Profile:
    """Profile β and σ² out of the likelihood at Λ."""

    def term(RZ: Array, TX: Array, Ty: Array, m: Array) -> tuple[Array, Array]:
        L, YX, yy = whiten(Lambda, RZ, TX, Ty)
        Y = beside(YX, yy)
        return 2.0 * m * log_diagonal(L), pack(Y.T @ Y)

    logdet, gram = over_groups(term, stats)
    p = stats.XX.shape[0]
    S = unpack(gram, p + 1)
    A, b, c = S[:p, :p] + stats.XX, S[:p, p] + stats.Xy, S[p, p] + stats.yy
    L_A = cholesky(A)
    z = solve_lower(L_A, b)
    pwrss = c - z @ z
    nu = stats.n - reml * stats.rank
    log = array_namespace(pwrss).log
    value = logdet - stats.logw + nu * (1.0 + log(2.0 * np.pi * pwrss / nu))
    if reml:
        value = value + 2.0 * log_diagonal(L_A)
    return Profile(value, solve_upper(L_A, z), pwrss, L_A, nu)


@any_promotion
def loglik(
    beta: Float[Array, " p"],
    theta: Float[Array, " k"],
    sigma: Float[Array, ""],
    stats: Stats,
    blocks: Blocks | None = None,
) -> Float[Array, ""]:
    """The marginal log-likelihood of one data set, nothing profiled out.

        ℓ(β, θ, σ) = −½ [ n log 2πσ² + Σ log|Ω_i| + Σ (y_i − X_iβ)'V_i⁻¹(y_i − X_iβ)/σ² ]

    Differentiable in everything, the data behind ``stats`` included.

    Args:
        beta: (p,) fixed effects.
        theta: (k,) free entries of Λ, column by column. Λ is relative to σ: the covariance of the
            random effects is σ²ΛΛ', so that θ = 1 is a standard deviation of σ.
        sigma: () residual standard deviation.
        stats: statistics of the data set, from ``suffstats``.
        blocks: columns of Z in each random term, as ``hlm.design(…).blocks``; one unstructured
            block if None.

    Returns:
        The log-likelihood, a scalar.

    Raises:
        ResponseShapeError: shapes of arguments do not fit each other.
        OptionError: the blocks do not hold every column of Z once.

    Example:
        >>> import jax, jax.numpy as jnp, jaxhlm as hlm
        >>> y, one = jnp.array([1.0, 2.0, 4.0, 3.0]), jnp.ones((4, 1))
        >>> stats = hlm.suffstats(y, one, one, jnp.array([0, 0, 1, 1]), num_groups=2)
        >>> slope = jax.grad(hlm.loglik)(jnp.array([2.5]), jnp.array([1.0]), 1.0, stats)
        >>> print(abs(float(slope[0])) < 1e-5)
        True
    """
    blocks = checked_blocks(stats, blocks)
    check_shape("beta", beta, (stats.TX.shape[-1],), "one entry for each column of X")
    check_shape("sigma", sigma, (), "the residual standard deviation")
    return _loglik(jnp.asarray(beta), jnp.asarray(theta), sigma, stats, blocks)


# Called by itself it would compile operation by operation.
@partial(jax.jit, static_argnums=4)
def _loglik(beta: Any, theta: Any, sigma: Any, stats: Stats, blocks: Blocks) -> Float[Array, ""]:
    Lambda = lambda_matrix(theta, blocks)

    def term(RZ: Array, TX: Array, Ty: Array, m: Array) -> tuple[Array, Array]:
        L, r = whiten(Lambda, RZ, Ty - TX @ beta)
        return 2.0 * m * log_diagonal(L), r @ r

    logdet, between = sum_groups(term, stats)
    within = stats.yy - 2.0 * stats.Xy @ beta + beta @ stats.XX @ beta
    log_2pi_variance = jnp.log(2.0 * np.pi * sigma**2)
    return -0.5 * (stats.n * log_2pi_variance - stats.logw + logdet + (between + within) / sigma**2)


def beside(X: Float[Array, "q p"], y: Float[Array, " q"]) -> Float[Array, "q p+1"]:
    """[X y]: a matrix with a vector as its last column, in either dialect."""
    if is_unrolled(X):
        return np.concatenate([X, y[:, None]], axis=1)
    return jnp.concatenate([X, y[:, None]], axis=1)
