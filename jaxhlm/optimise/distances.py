"""Distances of the groups at a minimum, which tell whether one D can be typical of all of them.

    c_i = e_i'Ω_i⁻¹e_i/σ̂² = |L_i⁻¹(t_y − T_X β̂)|²/σ̂²

is χ² with rank R_i degrees of freedom under the model. Equal groups count as one class, of which
the representatives follow the first; its distance is their sum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from jaxhlm.core.chunks import slices
from jaxhlm.core.notation import Array, Floats
from jaxhlm.core.varying import varying
from jaxhlm.likelihood.covariance import Blocks, lambda_matrix
from jaxhlm.likelihood.deviance import whiten
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.linalg.small import unroll

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["distance_df", "distance_sums", "group_df", "residuals", "traced_distance_sums"]

# Groups times lanes of a tile, whose entries fit the cache.
TILE_NUMBERS = 2**14


def distance_df(stats: Stats) -> Floats:
    """Degrees of freedom (C, b) of the classes of equal groups, of which the first counts all."""
    return group_df(stats)[(stats.m > 0.0).any(axis=1)]


def group_df(stats: Stats) -> Float[Array, "G b"]:
    """Rank of R_i, as often as the group counts."""
    return stats.m * (stats.RZ != 0.0).any(axis=2).sum(axis=1)


def distance_sums(
    stats: Stats, theta: Floats, beta: Floats, pwrss: Floats, reml: bool, blocks: Blocks
) -> Floats:
    """Σ c and Σ c²/(df + 2) over the classes of equal groups, (2, B), c their distances.

    Args:
        stats: statistics of the lanes.
        theta: (k, B), beta: (p, B), pwrss: (B,) where the lanes ended.
        reml: REML criterion instead of ML deviance.
        blocks: columns of Z in each random term.
    """
    B = theta.shape[-1]
    sums = np.empty((2, B))
    for lane_slice in slices(B, TILE_NUMBERS // len(stats.m)):
        some = stats.take(lane_slice)
        sigma2 = pwrss[lane_slice] / (some.n - reml * some.rank)
        left = residuals(some, beta[:, lane_slice])
        Lambda = lambda_matrix(unroll(theta[:, lane_slice], 1), blocks)
        _, white = whiten(Lambda, unroll(some.RZ, 2, 1), unroll(left, 1, 1))
        first = np.flatnonzero((some.m > 0.0).any(axis=1))
        distance = np.add.reduceat(sum(x * x for x in white) / sigma2, first, axis=0)
        sums[:, lane_slice] = (
            distance.sum(axis=0),
            (distance**2 / (distance_df(some) + 2.0)).sum(axis=0),
        )
    return sums


def traced_distance_sums(
    stats: Stats,
    theta: Float[Array, "k B"],
    beta: Float[Array, "p B"],
    pwrss: Float[Array, " B"],
    reml: bool,
    blocks: Blocks,
    count: Int[Array, ""],
) -> Float[Array, "2 B"]:
    """``distance_sums`` in JAX, of the first ``count`` groups, one after the other."""
    Lambda, beta = lambda_matrix(unroll(theta, 1), blocks), unroll(beta, 1)
    sigma2 = pwrss / (stats.n - reml * stats.rank)

    def add(i: Int[Array, ""], sums: tuple[Array, ...]) -> tuple[Array, ...]:
        before, df, total, squares = sums
        RZ, TX, Ty, m = (jax.lax.dynamic_index_in_dim(x, i, keepdims=False) for x in stats.by_group)
        _, white = whiten(Lambda, unroll(RZ, 2), unroll(Ty, 1) - unroll(TX, 2) @ beta)
        first = (m > 0.0).any()
        before = jnp.where(first, 0.0, before)
        df = jnp.where(first, m * (RZ != 0.0).any(axis=1).sum(axis=0), df)
        distance = (white @ white) / sigma2
        now = before + distance
        return now, df, total + distance, squares + (now * now - before * before) / (df + 2.0)

    none = varying(jnp.zeros_like(pwrss), pwrss)
    _, _, total, squares = jax.lax.fori_loop(0, count, add, (none,) * 4)
    return jnp.stack([total, squares])


def residuals(stats: Stats, beta: Floats) -> Floats:
    """t_y − T_X β (G, q, B)."""
    TX, (G, q, p) = stats.TX, stats.TX.shape[:3]
    if stats.shared:
        return stats.Ty - (TX[..., 0].reshape(G * q, p) @ beta).reshape(G, q, -1)
    return stats.Ty - np.einsum("gapl,pl->gal", TX, beta)
