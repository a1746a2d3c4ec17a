"""Singular fits: whether where the optimiser stopped, on the boundary, is a minimum."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jaxhlm.core.notation import Floats, Ints
from jaxhlm.likelihood.covariance import (
    Blocks,
    covariance_of,
    on_boundary,
    zero_pivot_precedes,
)
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.linalg.small import array_namespace, cholesky, eye_plus, log_diagonal, unroll
from jaxhlm.optimise.loop import CLOSING_NOISE, OptimizeResult
from jaxhlm.optimise.start import START_FLOOR

if TYPE_CHECKING:
    from jaxtyping import Bool

    from jaxhlm.core.notation import Array

__all__ = ["is_minimum", "kkt_violations"]

# How negative, per row, a one-sided derivative in a variance may be.
KKT_TOL = 1e-6
# What a step that Λ in its order has no entries for may promise.
MOST_DECREMENT = 1e-8


def kkt_violations(found: OptimizeResult, stats: Stats, blocks: Blocks) -> tuple[Ints, Floats]:
    """Singular lanes that violate the Karush–Kuhn–Tucker conditions, and D to go on from.

    At a minimum over D ⪰ 0, F = ∂d/∂D is positive semi-definite within each block, and FD = 0.
    If its smallest eigenvalue is negative, D + t v v' along that eigenvector is better. FD ≠ 0 is
    possible where a pivot of zero precedes others, as Λ has no entries then for their part in that
    row: D is gone on from as it is, with zero pivots last.
    """
    singular = np.flatnonzero(found.converged & on_boundary(found.theta, blocks))
    D = np.zeros((len(found.value), *found.aux["F"].shape[:2]))
    if not len(singular):
        return singular, D
    F = np.moveaxis(found.aux["F"][..., singular], -1, 0)
    D[singular] = covariance_of(found.theta[:, singular], blocks)
    n = np.broadcast_to(stats.n, found.value.shape)[singular]
    G = np.broadcast_to(stats.m.sum(axis=0), found.value.shape)[singular]
    away = np.zeros(len(singular), bool)
    for block in map(list, blocks):
        at = np.ix_(singular, np.array(block), np.array(block))
        slope, v = np.linalg.eigh(F[:, block][:, :, block])
        falling = slope[:, 0] < -KKT_TOL * n
        # Half the trace of the positive part of FD: the Newton decrement in all of Λ.
        decrement = 0.5 * (np.maximum(slope, 0.0)[:, None] * v * (D[at] @ v)).sum(axis=(1, 2))
        away |= falling | (decrement > MOST_DECREMENT + CLOSING_NOISE * slope[:, -1])
        direction = v[:, :, 0] * np.sqrt(np.where(falling, START_FLOOR * G / n, 0.0))[:, None]
        D[at] += direction[:, :, None] * direction[:, None, :]
    return singular[away], D


def is_minimum(found: OptimizeResult, stats: Stats, blocks: Blocks) -> Bool[Array, " B"]:
    """Singular lanes without a violation, traceable; False where a zero pivot precedes another."""
    xp = array_namespace(found.theta)
    F = unroll(found.aux["F"] / (KKT_TOL * stats.n), 2)
    good = ~zero_pivot_precedes(found.theta, blocks)
    for block in map(np.array, blocks):
        L = cholesky(eye_plus(F[block[:, None], block]))
        good &= xp.isfinite(log_diagonal(L))
    return good
