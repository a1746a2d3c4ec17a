"""Standardised lanes in, minima out: start values, the optimiser, and the check of the boundary."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxhlm.covariance import (
    Blocks,
    canonical,
    factor,
    lambda_of,
    theta_index,
    theta_of,
)
from jaxhlm.deviance import deviance
from jaxhlm.lanes import lane_derivatives, mappable
from jaxhlm.notation import Floats, Ints
from jaxhlm.optimise import CLOSING_SLACK, MAX_ITER, TOL, Minimum, minimise_lanes
from jaxhlm.small import entries
from jaxhlm.suffstats import Stats

__all__ = ["LANE_BUCKETS", "Options", "Solution", "lane_minimum", "solve"]

# The boundary check: how negative, per row, a one-sided derivative in a variance may be.
LEAVE_TOL = 1e-6
MAX_RESTARTS = 3
# Evaluations after which the lanes that are not done are gathered.
FIRST_ROUND = 9
LANE_BUCKETS = (1, 8, 64, 512, 4096)
# A pivot of a singular D, relative to its variance, that is zero but for rounding.
ROUNDED_TO_ZERO = 1e-9
# Variances start at least this many times the variance of a group's least-squares coefficient.
START_FLOOR = 0.3


@dataclass(frozen=True)
class Options:
    """What to optimise and how.

    Attributes:
        reml: REML criterion instead of ML deviance.
        blocks: columns of Z in each random term.
        optimizer: an optax optimiser, or None for the library's Newton.
        tol: largest Newton decrement, in deviance units, at which a fit is done.
        max_iter: largest number of evaluations per fit.
    """

    reml: bool
    blocks: Blocks
    optimizer: optax.GradientTransformation | None = None
    tol: float = TOL
    max_iter: int = MAX_ITER


@dataclass(frozen=True)
class Solution:
    """Minima of B lanes on the standardised scale, as NumPy arrays, lanes last.

    Attributes:
        theta: (k, B).
        value: (B,) criterion.
        beta: (p, B), pwrss: (B,), L_A: (p, p, B) as in ``deviance.Profile``.
        gradient_norm: (B,) largest |∂d/∂θ|.
        converged: (B,) bool.
        iterations: (B,) evaluations.
    """

    theta: Floats
    value: Floats
    beta: Floats
    pwrss: Floats
    L_A: Floats
    gradient_norm: Floats
    converged: Any
    iterations: Any


def solve(stats: Stats, options: Options, start: Floats | None = None) -> Solution:
    """Fit every lane of ``stats`` (standardised, lanes last).

    Lanes run together for a few evaluations; those that are not done are gathered and run on, so
    that the slowest of 100,000 does not hold the rest. They go on with the columns of Z in the
    order of decreasing variance: with a small leading diagonal, Λ and Λ turned by a rotation are
    nearly the same D, and Newton would crawl along that valley.

    Args:
        stats: standardised statistics.
        options: what to optimise.
        start: (k, B) start values, NaN for moment estimates.
    """
    B = stats.yy.shape[-1]
    if start is None:
        start = np.full((len(theta_index(options.blocks)), B), np.nan)
    first = options.max_iter if options.optimizer else min(FIRST_ROUND, options.max_iter)
    with jax.enable_x64(True):
        found = _minimum(stats, start, options, first)
        lanes = np.flatnonzero(~found.converged & np.isfinite(found.value))
        found = _continue(found, stats, lanes, _covariance(found, options), options)
        for _ in range(MAX_RESTARTS):
            lanes, D = _leaving(found, stats, options)
            if not len(lanes):
                break
            found = _continue(found, stats, lanes, D, options)
    aux = found.aux
    return Solution(
        theta=found.theta,
        value=found.value,
        beta=aux["beta"],
        pwrss=aux["pwrss"],
        L_A=aux["L_A"],
        gradient_norm=found.gradient_norm,
        converged=found.converged,
        iterations=found.iterations,
    )


def _covariance(found: Minimum, options: Options) -> Floats:
    """D̃ = Λ̃Λ̃' (B, q, q)."""
    Lambda = lambda_of(found.theta, options.blocks)
    return Lambda @ Lambda.swapaxes(1, 2)


def _continue(found: Minimum, stats: Stats, lanes: Ints, D: Floats, options: Options) -> Minimum:
    """Run ``lanes`` on from D (B, q, q), each with its columns in the order of falling variance."""
    orders = _pivot_orders(D[lanes], options.blocks)
    for order in np.unique(orders, axis=0):
        those = lanes[(orders == order).all(axis=1)]
        again = _minimum(
            _reordered(_take(stats, those), order),
            _theta(D[those][:, order][:, :, order], options.blocks, 0.0),
            options,
            options.max_iter,
        )
        found = _merge(found, _restored(again, np.argsort(order), options), those)
    return found


def _pivot_orders(D: Floats, blocks: Blocks) -> Ints:
    """(B, q) column orders, largest variance first within each block."""
    orders = np.empty(D.shape[:2], dtype=int)
    for block in map(np.array, blocks):
        variances = D[:, block, block]
        orders[:, block] = block[np.argsort(-variances, axis=1, kind="stable")]
    return orders


def _reordered(stats: Stats, order: Ints) -> Stats:
    """Statistics with the columns of Z in another order."""
    return stats._replace(RZ=stats.RZ[:, :, order])


def _restored(found: Minimum, order: Ints, options: Options) -> Minimum:
    """A minimum with the columns of Z back in the user's order."""
    D = _covariance(found, options)[:, order][:, :, order]
    singular = (found.theta[_diagonal(options.blocks)] == 0.0).any(axis=0)
    F = found.aux["F"][order][:, order]
    theta = _theta(D, options.blocks, np.where(singular, ROUNDED_TO_ZERO, 0.0))
    return found._replace(theta=theta, aux={**found.aux, "F": F})


def _theta(D: Floats, blocks: Blocks, tolerance: Any) -> Floats:
    """θ (k, B) of D (B, q, q); pivots below tolerance × their variance are zero."""
    floors = [tolerance * D[:, j, j] for j in range(D.shape[1])]
    return theta_of(factor(entries(np.moveaxis(D, 0, -1), 2), blocks, floors, np), blocks)


def _diagonal(blocks: Blocks) -> list[int]:
    """Positions in θ of the diagonal of Λ."""
    return [i for i, (row, column) in enumerate(theta_index(blocks)) if row == column]


def _minimum(stats: Stats, start: Floats, options: Options, max_iter: int) -> Minimum:
    """``_minimise`` on lanes padded to a size that has been compiled before, as NumPy arrays."""
    B = start.shape[-1]
    lanes = np.minimum(np.arange(lane_bucket(B)), B - 1)
    compiled = replace(options, max_iter=0)
    found = _minimise(_take(stats, lanes), start[:, lanes], max_iter, compiled)
    return jax.tree.map(lambda x: np.asarray(x)[..., :B], found)


def lane_bucket(B: int) -> int:
    """The lane count that is compiled for B lanes; few sizes, so that little is compiled."""
    return next((size for size in LANE_BUCKETS if size >= B), B)


def _take(stats: Stats, lanes: Any) -> Stats:
    """Some lanes; a design shared by all has a last axis of 1 and stays."""
    B = stats.yy.shape[-1]
    return Stats(*(x if x.shape[-1] != B else x[..., lanes] for x in stats))


@partial(jax.jit, static_argnames="options")
def _minimise(stats: Stats, start: Any, max_iter: Any, options: Options) -> Minimum:
    return lane_minimum(
        stats,
        start,
        reml=options.reml,
        blocks=options.blocks,
        optimizer=options.optimizer,
        tol=options.tol,
        max_iter=max_iter,
    )


def lane_minimum(
    stats: Stats,
    start: Any,
    *,
    reml: bool,
    blocks: Blocks,
    optimizer: optax.GradientTransformation | None,
    tol: float,
    max_iter: Any,
) -> Minimum:
    """Minima of all lanes from ``start`` (k, B), or from moment estimates where that is NaN."""

    def derivatives(theta: Any) -> tuple[Any, Any, Any, Any]:
        d = lane_derivatives(theta, stats, reml, blocks)
        at = d.profile
        aux = {"beta": at.beta, "pwrss": at.pwrss, "L_A": at.L_A, "F": d.F}
        return at.value, d.grad, d.hess, aux

    lanes, axes = mappable(stats)
    return minimise_lanes(
        derivatives,
        jnp.where(jnp.isnan(start), moment_start(stats, blocks), start),
        optimizer,
        canonical=lambda theta: canonical(theta, blocks),
        value_fn=lambda theta, one: deviance(theta, one, reml, blocks),
        lanes=lanes,
        lane_axes=axes,
        tol=tol,
        max_iter=max_iter,
    )


def moment_start(stats: Stats, blocks: Blocks) -> Any:
    """Start values θ (k, B) from moments of the least-squares residuals.

    With u_i = Z_i'(y_i − X_i β̂_ols) and K_i = Z_i'Z_i, E u_i u_i' ≈ σ² K_i + K_i Σ K_i; the second
    sum is solved entry by entry, and pivots of D = Σ/σ² are kept away from zero, where saddles are.
    """
    RZ, m = stats.RZ, stats.m[:, None, None]
    K = jnp.einsum("gcab,gcdb->gadb", RZ, RZ)
    u = jnp.sum(RZ * stats.Ty[:, :, None], axis=1)
    spread = jnp.sum(u[:, :, None] * u[:, None, :], axis=0)
    df = stats.n - jnp.sum(stats.m * jnp.sum(jnp.any(RZ != 0.0, axis=2), axis=1), axis=0)
    tiny = jnp.finfo(RZ.dtype).tiny
    sigma2 = jnp.where(df > 0.1 * stats.n, stats.yy / jnp.maximum(df, 1.0), 0.5) + tiny
    diagonal = jnp.einsum("gaab->gab", K)
    weight = jnp.sum(m * diagonal[:, :, None] * diagonal[:, None, :], axis=0)
    D = entries(((spread - sigma2 * jnp.sum(m * K, axis=0)) / weight) / sigma2, 2)
    floor = START_FLOOR * jnp.sum(stats.m, axis=0) / stats.n
    return jnp.stack([_floored(D, blocks, floor)[index] for index in theta_index(blocks)])


def _floored(D: Any, blocks: Blocks, floor: Any) -> Any:
    """Cholesky factor of D with every pivot at least ``floor``."""
    Lambda = np.full(D.shape, 0.0, dtype=object)
    for block in blocks:
        for j, column in enumerate(block):
            done = list(block[:j])
            rest = [D[row, column] - Lambda[row, done] @ Lambda[column, done] for row in block[j:]]
            root = jnp.sqrt(jnp.maximum(rest[0], floor))
            Lambda[column, column] = root
            for row, value in zip(block[j + 1 :], rest[1:], strict=True):
                Lambda[row, column] = value / root
    return Lambda


def _leaving(found: Minimum, stats: Stats, options: Options) -> tuple[Ints, Floats]:
    """Singular lanes whose criterion falls when a zero variance grows, and D to go on from.

    At a minimum on the boundary F = ∂d/∂D is positive semi-definite within each block. If its
    smallest eigenvalue is negative, D + t v v' along that eigenvector is better.
    """
    singular = found.converged & (found.theta[_diagonal(options.blocks)] == 0.0).any(axis=0)
    F, D = np.moveaxis(found.aux["F"], -1, 0), _covariance(found, options)
    n = np.broadcast_to(stats.n, found.value.shape)
    G = np.broadcast_to(stats.m.sum(axis=0), found.value.shape)
    leaving = np.zeros(len(singular), bool)
    for block in map(list, options.blocks):
        slope, v = np.linalg.eigh(np.where(singular[:, None, None], F[:, block][:, :, block], 0.0))
        away = singular & (slope[:, 0] < -LEAVE_TOL * n)
        direction = v[:, :, 0] * np.sqrt(np.where(away, START_FLOOR * G / n, 0.0))[:, None]
        every = np.ix_(range(len(D)), block, block)
        D[every] += direction[:, :, None] * direction[:, None, :]
        leaving |= away
    return np.flatnonzero(leaving), D


def _merge(found: Minimum, again: Minimum, lanes: Any) -> Minimum:
    """Take the lower of two minima in the lanes that went on; add up the evaluations."""
    lower = again.value < found.value[lanes] + CLOSING_SLACK
    better = lower & (again.converged | ~found.converged[lanes])
    total = found.iterations.copy()
    total[lanes] += again.iterations

    def choose(old: Any, new: Any) -> Any:
        out = old.copy()
        out[..., lanes[better]] = new[..., better]
        return out

    return jax.tree.map(choose, found, again)._replace(iterations=total)
