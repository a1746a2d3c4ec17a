"""Start values from moments, kept away from the saddles at zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jaxhlm.likelihood.covariance import Blocks, block_cholesky, theta_index
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.linalg.small import array_namespace, unroll

if TYPE_CHECKING:
    from jaxtyping import Float

    from jaxhlm.core.notation import Array

__all__ = ["START_FLOOR", "started"]

# Variances start at least this many times the variance of a group's least-squares coefficient.
START_FLOOR = 0.3
# Degrees of freedom within groups, per row, above which they give the error variance; with fewer
# half of y's mean square (1) is taken to be error.
ENOUGH_DF = 0.1
ERROR_SHARE = 0.5


def started(stats: Stats, start: Float[Array, "k B"], blocks: Blocks) -> Float[Array, "k B"]:
    """``start`` (k, B), with moment estimates where it is NaN."""
    xp = array_namespace(start)
    return xp.where(xp.isnan(start), _moment_start(stats, blocks), start)


def _moment_start(stats: Stats, blocks: Blocks) -> Float[Array, "k B"]:
    """Start values θ (k, B) from moments of the least-squares residuals.

    With u_i = Z_i'(y_i − X_i β̂_ols) and K_i = Z_i'Z_i, E u_i u_i' ≈ σ² K_i + K_i Σ K_i; the second
    sum is solved entry by entry, and pivots of D = Σ/σ² are kept away from zero, where saddles are.
    """
    RZ, m, xp = stats.RZ, stats.m[:, None, None], array_namespace(stats.Ty)
    K = xp.einsum("gcab,gcdb->gadb", RZ, RZ)
    u = xp.sum(RZ * stats.Ty[:, :, None], axis=1)
    gram = xp.sum(u[:, :, None] * u[:, None, :], axis=0)
    df = stats.n - xp.sum(stats.m * xp.sum(xp.any(RZ != 0.0, axis=2), axis=1), axis=0)
    enough, tiny = df > ENOUGH_DF * stats.n, np.finfo(stats.Ty.dtype).tiny
    sigma2 = xp.where(enough, stats.yy / xp.maximum(df, 1.0), ERROR_SHARE) + tiny
    diagonal = xp.einsum("gaab->gab", K)
    weight = xp.sum(m * diagonal[:, :, None] * diagonal[:, None, :], axis=0)
    D = unroll(((gram - sigma2 * xp.sum(m * K, axis=0)) / weight) / sigma2, 2)
    floor = START_FLOOR * xp.sum(stats.m, axis=0) / stats.n
    Lambda = _floored(D, blocks, floor)
    return xp.stack([Lambda[index] for index in theta_index(blocks)])


def _floored(
    D: Float[Array, "q q"], blocks: Blocks, floor: Float[Array, " b"]
) -> Float[Array, "q q"]:
    """Cholesky factor of D with every pivot at least ``floor``."""

    def column(_: int, rest: list[Array]) -> list[Array]:
        xp = array_namespace(rest[0])
        root = xp.sqrt(xp.maximum(rest[0], floor))
        return [root, *(value / root for value in rest[1:])]

    return block_cholesky(D, blocks, column)
