"""Everything that a fit estimates, from sufficient statistics, as a pure JAX function."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxhlm.core.arguments import check_flag
from jaxhlm.core.precision import any_promotion
from jaxhlm.core.status import Status
from jaxhlm.design.identified import clearly_identified
from jaxhlm.estimation.estimates import estimate_arrays
from jaxhlm.likelihood.checks import checked_blocks
from jaxhlm.likelihood.covariance import Blocks, lambda_matrix
from jaxhlm.likelihood.deviance import whiten
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.optimise.loop import MAX_ITER
from jaxhlm.optimise.minimise import tolerance
from jaxhlm.optimise.minimum import minimum
from jaxhlm.optimise.options import Options
from jaxhlm.optimise.solve import Solution
from jaxhlm.statistics.response import Standardised
from jaxhlm.statistics.restandardise import restandardised_stats

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from jaxhlm.core.notation import Array

__all__ = ["FittedStatistics", "fit_statistics"]


class FittedStatistics(NamedTuple):
    """The estimates of one data set, as in ``Fit``; NaN where ``status`` says that it failed."""

    beta: Float[Array, " p"]  # fixed effects
    vcov: Float[Array, "p p"]  # their covariance
    theta: Float[Array, " k"]  # free entries of Λ, diagonal non-negative
    sigma: Float[Array, ""]  # residual standard deviation
    cov: Float[Array, "q q"]  # covariance of the random effects, σ²ΛΛ'
    criterion: Float[Array, ""]  # −2 × log-likelihood, restricted for REML
    status: Int[Array, ""]  # a code of ``hlm.Status``
    settled: Bool[Array, ""]  # nothing tells of a lower minimum elsewhere
    iterations: Int[Array, ""]  # evaluations of criterion, gradient and Hessian
    gradient_norm: Float[Array, ""]  # largest |∂d/∂θ̃|, for standardised columns of Z
    ranef: Float[Array, "G q"] | None  # predicted random effects (BLUPs), if asked for
    ranef_cov: Float[Array, "G q q"] | None  # their covariance given y, at β̂, θ̂ and σ̂


@any_promotion
def fit_statistics(
    stats: Stats,
    reml: bool = True,
    blocks: Blocks | None = None,
    *,
    ranef: bool = False,
    tol: float | None = None,
    max_iter: int = MAX_ITER,
) -> FittedStatistics:
    """Fit one data set from its statistics, or under ``jax.vmap`` very many, in pure JAX.

    What ``fit`` does of rows is done of statistics: columns are standardised, the criterion is
    minimised by Newton's method from moment estimates, and the minimum is mapped back to the units
    of the data. The dtype is the caller's; take float64 (``jax.enable_x64``) for estimates equal to
    those of ``fit``, in single precision they have three or four digits.

    Under ``jax.vmap`` all data sets are one batch with lanes on the last axis, in tiles that fit
    the cache: jit that. Where a design is mapped with ``in_axes=None``, or ``suffstats`` over y
    alone, all data sets share it, and memory is that of the responses. In ``jax.shard_map`` every
    device fits its own, explicit axes of a mesh included, which are refused elsewhere.

    Compiling takes seconds: ``jax.config.update("jax_compilation_cache_dir", …)`` keeps what your
    own ``jax.jit`` has compiled of it for the next process. (The library's own cache is for its
    own calls.)

    Differentiable in ``stats``, and so in the data, in forward and reverse mode, as ``minimise``:
    by the implicit function theorem, exact at a minimum. In a singular fit a variance that is zero,
    or a correlation of ±1, stays so, as it does when data change a little. NaN if columns of Z
    covary of which an earlier one has variance zero and a later one has not.

    Args:
        stats: statistics of the data set, from ``suffstats``.
        reml: REML instead of maximum likelihood.
        blocks: columns of Z in each random term, as ``hlm.design(…).blocks``; one unstructured
            block if None.
        ranef: whether to predict the random effects (BLUPs), with their conditional covariances.
        tol: largest Newton decrement, in deviance units, at which the fit is done; 1e-10, in
            single precision 1e-5.
        max_iter: largest number of evaluations.

    Returns:
        ``FittedStatistics``, a pytree. Nothing raises inside: look at ``status``, whose codes are
        those of ``hlm.Status``, and at ``settled``: False where there may be a lower minimum
        elsewhere, which ``fit`` would search for, or variances that the design does not identify.

    Raises:
        ResponseShapeError: the shapes of the statistics do not fit each other.
        OptionError: an option is not of its kind.

    Example:
        >>> import jax, jax.numpy as jnp, jaxhlm as hlm
        >>> data = hlm.load_dataset("sleepstudy")
        >>> d = hlm.design("~ Days + (1 + Days | Subject)", data)
        >>> def fit(y):
        ...     return hlm.fit_statistics(hlm.suffstats(y, d.X, d.Z, d.group, d.G))
        >>> with jax.enable_x64(True):
        ...     y = jnp.array(data["Reaction"])
        ...     Y = jnp.stack([y, jnp.log(y)])
        ...     found = jax.jit(jax.vmap(fit))(Y)
        >>> found.beta.shape, [hlm.Status(int(s)).name for s in found.status]
        ((2, 2), ['CONVERGED', 'CONVERGED'])
        >>> print(f"{found.beta[0].round(2)} {found.sigma[0]:.3f} {found.criterion[0]:.3f}")
        [251.41  10.47] 25.592 1743.628
    """
    blocks = checked_blocks(stats, blocks)
    check_flag("ranef", ranef)
    options = Options(reml, blocks, None, tolerance(tol, stats), max_iter)
    return _fitted(stats, options, ranef)


@partial(jax.jit, static_argnames=("options", "ranef"))
def _fitted(stats: Stats, options: Options, ranef: bool) -> FittedStatistics:
    stats = jax.tree.map(jnp.asarray, stats)
    standardised = restandardised_stats(stats, options.blocks)
    found = minimum(standardised.stats, options, asked=True)
    lane: Standardised = jax.tree.map(lambda x: x[..., None], standardised)
    solution = Solution(
        theta=found.theta[..., None],
        value=found.value[None],
        beta=found.beta[..., None],
        pwrss=found.pwrss[None],
        L_A=found.L_A[..., None],
        gradient_norm=found.gradient_norm[None],
        converged=found.converged[None] > 0.0,
        iterations=found.iterations[None].astype(np.int32),
    )
    arrays = {name: x[0] for name, x in estimate_arrays(solution, lane, options).items()}
    del arrays["theta_standard"]
    effects = _predicted(stats, arrays, options.blocks) if ranef else (None, None)
    reached = (arrays["status"] == Status.CONVERGED) | (arrays["status"] == Status.SINGULAR)
    settled = reached & (found.settled > 0.0) & clearly_identified(stats, options.reml)
    return FittedStatistics(**arrays, settled=settled, ranef=effects[0], ranef_cov=effects[1])


def _predicted(
    stats: Stats, arrays: dict[str, Array], blocks: Blocks
) -> tuple[Float[Array, "G q"], Float[Array, "G q q"]]:
    """b_i = ΛU_i'L_i⁻¹(t_y − T_Xβ̂) with U_i = L_i⁻¹R_iΛ, and σ̂²Λ(I − U_i'U_i)Λ'."""
    Lambda = lambda_matrix(arrays["theta"], blocks)

    def of_group(RZ: Array, TX: Array, Ty: Array) -> tuple[Array, Array]:
        _, U, white = whiten(Lambda, RZ, RZ @ Lambda, Ty - TX @ arrays["beta"])
        rest = jnp.eye(len(Lambda), dtype=U.dtype) - U.T @ U
        return Lambda @ (U.T @ white), arrays["sigma"] ** 2 * Lambda @ rest @ Lambda.T

    return jax.vmap(of_group)(stats.RZ, stats.TX, stats.Ty)
