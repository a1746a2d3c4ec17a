"""Gaussian data sets drawn as sufficient statistics: O(G) random numbers each, not O(n).

Under y = Xβ + Zb + ε everything that the fit needs has an exact distribution, group by group:

    T_i = Q_i'y_i − Q_i'X_iβ ~ N(0, σ²I + R_i Σ R_i')
    X_within'ε ~ N(0, σ² X_within'X_within),    the rest of |ε|² within groups ~ σ² χ²

and for m groups that share R_i (``jaxhlm.statistics.equal_groups``) the part orthogonal to the r
dimensions of T^X is N ~ Wishart_q(m − r, σ²I + RΣR'), drawn by Bartlett's decomposition. The
residuals of the least-squares fit do not depend on β, which is added at the end.

Every data set has a key of its own, folded from the seed and its number, and is drawn by the same
code whatever is drawn beside it, so a draw does not depend on the chunk, or on how many devices
share the work. (Kinds of devices round differently.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxhlm.core.chunks import CompiledByOne, compiled_groups, compiled_sizes
from jaxhlm.core.notation import Floats, Ints
from jaxhlm.core.precision import jax_config_scope
from jaxhlm.core.streams import Key
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.linalg.factors import root_of_sum, semidefinite_root
from jaxhlm.linalg.small import array_namespace
from jaxhlm.statistics.deviates import lane_keys, normals_and_chi_squares
from jaxhlm.statistics.equal_groups import EqualGroups
from jaxhlm.statistics.response import Scaling, Standardised
from jaxhlm.statistics.standardise import StandardisedMatrices

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from jaxhlm.core.notation import Array

__all__ = [
    "MOST_DRAWN",
    "SamplingDistribution",
    "draw_statistics",
    "sampling_distribution",
    "trace_statistics",
]

RANK_TOL = 1e-12
# Numbers of data sets are words of 32 bits: beyond them the draws would begin anew.
MOST_DRAWN = 2**32


class _Arrays(NamedTuple):
    """What the drawing needs of the design and the truth."""

    TX: Float[Array, "g q p"]  # groups drawn row by row, padded to a number that is compiled
    factors: Float[Array, "g q q"]  # Cholesky factors of the covariance of their T_i
    wishart_factors: Float[Array, "c q q"]  # the same for classes drawn as Wishart matrices
    XX_root: Float[Array, "p r"]  # X_within'ε = σ XX_root z
    beta: Float[Array, " p"]  # true fixed effects on the standardised scale
    sigma: Float[Array, ""]
    n: Float[Array, ""]
    wishart_df: Float[Array, " c"]  # degrees of freedom of each class
    df_within: Float[Array, ""]  # degrees of freedom of the χ² rest
    drawn: Int[Array, ""]  # how many of the groups there are


@dataclass(frozen=True)
class SamplingDistribution:
    """The distribution of the statistics of one design under one truth.

    Attributes:
        matrices: the standardised model matrices.
        equal: the equal groups of the design.
        stats: joined statistics with empty response fields.
        arrays: see ``_Arrays``.
    """

    matrices: StandardisedMatrices
    equal: EqualGroups
    stats: Stats
    arrays: _Arrays


def sampling_distribution(
    matrices: StandardisedMatrices, equal: EqualGroups, beta: Floats, cov: Floats, sigma: float
) -> SamplingDistribution:
    """The distribution of the statistics of data sets on a design.

    Args:
        matrices: standardised model matrices, one lane.
        equal: its equal groups.
        beta: (p,) fixed effects, in the user's units as all parameters here.
        cov: (q, q) covariance of the random effects.
        sigma: residual standard deviation.
    """
    stats, C = matrices.stats, np.linalg.inv(matrices.C[..., 0])
    cov = C @ cov @ C.T
    RZ = stats.RZ[..., 0]
    rank = (np.abs(RZ).max(axis=2) > 0.0).sum()
    classes = equal.classes
    rotated = [np.broadcast_to(c.RZ, (len(c.rotation), *c.RZ.shape)) for c in classes]
    drawn = np.concatenate([RZ[equal.rest], *rotated])
    TX = equal.rotated(stats.TX[..., 0])
    wishart_R = np.concatenate([RZ[:0], *(c.RZ[None] for c in classes)])
    wishart_df = np.array([float(len(c.groups) - len(c.rotation)) for c in classes])
    XX_root = semidefinite_root(stats.XX[..., 0], RANK_TOL * stats.n[0])
    kept = np.diag(XX_root) > 0.0
    more = [(0, compiled_groups(len(drawn)) - len(drawn)), (0, 0), (0, 0)]
    arrays = _Arrays(
        TX=np.pad(TX, more),
        factors=np.pad(_factors(drawn, cov, sigma), more),
        wishart_factors=_factors(wishart_R, cov, sigma),
        XX_root=XX_root[:, kept],
        beta=np.linalg.solve(matrices.T[..., 0], beta).astype(float),
        sigma=np.float64(sigma),
        n=stats.n[0],
        wishart_df=wishart_df,
        df_within=np.float64(stats.n[0] - rank - kept.sum()),
        drawn=np.int64(len(drawn)),
    )
    return SamplingDistribution(matrices, equal, equal.join_design(stats), arrays)


def draw_statistics(
    distribution: SamplingDistribution, key: Key, lane_index: Ints
) -> tuple[Standardised, list[Floats]]:
    """Standardised statistics of data sets, equal groups joined, and N of every class of them.

    Args:
        distribution: of the statistics.
        key: what ``random_key`` returns.
        lane_index: (B,) numbers of the data sets.
    """
    shapes = tuple(x.shape for x in distribution.arrays)
    parts, at, B = [], 0, len(lane_index)
    sizes = compiled_sizes(max(B, 1))
    lane_index = np.pad(lane_index.astype(np.uint32), (0, sum(sizes) - B), mode="edge")
    with jax_config_scope():
        for size in sizes:
            numbers, at = lane_index[at : at + size], at + size
            parts.append(_draw((shapes, size), key, numbers, distribution.arrays))
    drawn = (np.concatenate(x, axis=-1)[..., :B] for x in zip(*parts, strict=True))
    return _standardised(distribution, *drawn)


def trace_statistics(
    distribution: SamplingDistribution, key: Key, lane_index: Int[Array, " B"], arrays: _Arrays
) -> tuple[Standardised, list[Array]]:
    """``draw_statistics``, traceable in all but the distribution, whose arrays are given apart."""
    arrays = arrays._replace(drawn=int(distribution.arrays.drawn))
    return _standardised(distribution, *_draws(key, lane_index, arrays))


def _standardised(
    distribution: SamplingDistribution,
    rows: Array, columns: Array, Xy: Array, yy: Array, beta_ols: Array, s: Array,
) -> tuple[Standardised, list[Array]]:  # fmt: skip
    """What was drawn as standardised statistics, and N of every class of equal groups."""
    rows = rows[: len(distribution.stats.m) - len(columns)]
    columns = columns.reshape(-1, *[rows.shape[1]] * 2, rows.shape[2])
    Ty = distribution.equal.interleaved(rows, list(columns))
    d = distribution.matrices
    scaling = Scaling(d.T, d.C, d.n, beta_ols, s, d.absent)
    status = np.broadcast_to(d.status, s.shape)
    standardised = Standardised(distribution.stats._replace(Ty=Ty, Xy=Xy, yy=yy), scaling, status)
    return standardised, [array_namespace(s).einsum("jal,jbl->abl", root, root) for root in columns]


def _draws(key: Key, lane_index: Int[Array, " B"], a: _Arrays) -> tuple[Array, ...]:
    groups, q = a.TX.shape[:2]
    classes, below = len(a.wishart_df), np.tril_indices(q, -1)
    sizes = [groups * q, a.XX_root.shape[1], classes * len(below[0])]
    wishart_df = a.wishart_df[:, None] - jnp.arange(q)
    df = jnp.concatenate([wishart_df.ravel(), a.df_within[None]])
    padding = a.drawn * q, groups * q
    normals, chi2 = normals_and_chi_squares(lane_keys(key, lane_index), sum(sizes), df, padding)

    def one(normals: Float[Array, " d"], chi2: Float[Array, " m"]) -> tuple[Array, ...]:
        of_groups, z, of_classes = jnp.split(normals, np.cumsum(sizes)[:-1])
        root_n, z = jnp.sqrt(a.n), a.sigma * z
        t = jnp.einsum("gab,gb->ga", a.factors, of_groups.reshape(groups, q))
        # Bartlett's factors of Wishart matrices, W = Σ_j column_j column_j'.
        bartlett = jnp.sqrt(chi2[:-1]).reshape(classes, q, 1) * jnp.eye(q)
        bartlett = bartlett.at[:, *below].set(of_classes.reshape(classes, len(below[0])))
        columns = (a.wishart_factors @ bartlett).swapaxes(1, 2)
        rest = a.sigma**2 * jnp.where(a.df_within > 0.0, chi2[-1], 0.0)
        fitted = (a.XX_root @ z + jnp.einsum("gqp,gq->p", a.TX, t)) / root_n
        # Squares of residuals, not differences of squares, in which a small σ would drown.
        t = t - a.TX @ fitted / root_n
        residual = z - a.XX_root.T @ fitted / root_n
        within = rest + _sum_of_squares(residual)
        s = jnp.sqrt((within + _sum_of_squares(t) + _sum_of_squares(columns)) / a.n)
        yy = within / s**2
        Xy = a.XX_root @ residual / s
        return t / s, columns.reshape(-1, q) / s, Xy, yy, a.beta + fitted / root_n, s

    return jax.vmap(one, in_axes=-1, out_axes=-1)(normals, chi2)


def _sum_of_squares(x: Float[Array, "..."]) -> Float[Array, ""]:
    """Σ x², by halves: XLA orders a sum by the size of the arrays, and draws would depend on it."""
    x = x.reshape(-1) ** 2
    while len(x) > 1:
        half = len(x) // 2
        x = jnp.concatenate([x[:half] + x[half : 2 * half], x[2 * half :]])
    return x.sum()


_draw = CompiledByOne(_draws)


def _factors(RZ: Floats, cov: Floats, sigma: float) -> Floats:
    """Cholesky factors of σ²I + R Σ R', rows of zeros where R has them."""
    present = np.abs(RZ).max(axis=2, initial=0.0) > 0.0
    own = sigma * np.eye(RZ.shape[1]) * present[:, :, None]
    return root_of_sum(own, RZ @ semidefinite_root(cov))
