"""Statistics of rows as they are, of one data set, to statistics of standardised rows; traceable.

What ``standardise`` and ``response`` do with rows is done here with their cross products

    X'X = XX + Σ T_X'T_X,      Z'Z = Σ m R'R,

which is as exact where columns are not nearly dependent: the factor of X'X is taken twice, and the
second makes up for the digits that the first has lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from jaxhlm.core.notation import Array
from jaxhlm.likelihood.covariance import Blocks
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.linalg.small import cholesky, solve_lower
from jaxhlm.optimise.distances import group_df
from jaxhlm.statistics.response import Scaling, Standardised
from jaxhlm.statistics.standardise import RANK_TOL, design_status

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

__all__ = ["restandardised_stats"]

# Squares that are this many roundings of their sum are zero.
ROUNDINGS = 10.0


def restandardised_stats(stats: Stats, blocks: Blocks) -> Standardised:
    """Columns of X and Z orthogonal and of mean square 1, y the residuals of X, of mean square 1.

    Args:
        stats: statistics of one data set.
        blocks: columns of Z in each random term.

    Returns:
        One lane; fields without an axis of lanes.
    """
    n, (q, p) = stats.n, stats.TX.shape[1:]
    ZZ = jnp.einsum("g,gca,gcb->ab", stats.m, stats.RZ, stats.RZ)
    C, dependent = jnp.zeros((q, q), ZZ.dtype), False
    for block in map(np.array, blocks):
        at = block[:, None], block
        scaled, zero = _inverse_root(ZZ[at], n)
        C, dependent = C.at[at].set(scaled), dependent | zero
    T, deficient = _inverse_root(_squares(stats), n)
    once = _transformed(stats, T)
    again, _ = _inverse_root(_squares(once), n)
    turned = _transformed(once, again)
    beta_ols = (turned.Xy + jnp.einsum("gap,ga->p", turned.TX, turned.Ty)) / n
    Ty, fitted = turned.Ty - turned.TX @ beta_ols, turned.XX @ beta_ols
    yy = turned.yy - 2.0 * beta_ols @ turned.Xy + beta_ols @ fitted
    rss = yy + jnp.sum(Ty * Ty)
    s = jnp.sqrt(rss / n)
    standard = turned._replace(
        RZ=turned.RZ @ C, Ty=Ty / s, Xy=(turned.Xy - fitted) / s, yy=yy / s**2
    )
    df = group_df(stats)
    G = (stats.m * (df > 0.0)).sum()
    status = design_status(n, stats.rank, G, df.sum(), dependent, deficient)
    back: tuple[Array, ...] = T @ again, C, n, beta_ols, s, np.zeros(p, bool)
    return Standardised(standard, Scaling(*back), status)


def _squares(stats: Stats) -> Float[Array, "p p"]:
    """X'X."""
    return stats.XX + jnp.einsum("gap,gar->pr", stats.TX, stats.TX)


def _transformed(stats: Stats, T: Float[Array, "p p"]) -> Stats:
    """Statistics of XT in place of X."""
    return stats._replace(TX=stats.TX @ T, XX=T.T @ stats.XX @ T, Xy=T.T @ stats.Xy)


def _inverse_root(A: Float[Array, "d d"], n: Float[Array, ""]) -> tuple[Array, Bool[Array, ""]]:
    """Upper triangular B with B'AB = nI, and whether a column is all but determined by others."""
    L = cholesky(A)
    least = max(RANK_TOL**2, ROUNDINGS * len(A) * float(jnp.finfo(A.dtype).eps))
    zero = ~(jnp.diagonal(L) ** 2 > least * jnp.diagonal(A)).all()
    return jnp.sqrt(n) * solve_lower(L, jnp.eye(len(A), dtype=A.dtype)).T, zero
