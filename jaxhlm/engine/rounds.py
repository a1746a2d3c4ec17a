"""Standardised lanes in, minima out: the rounds of optimisation, and the check of the boundary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxhlm.covariance import Blocks, factor, lambda_of, theta_index, theta_of
from jaxhlm.engine.chunks import as_slice, compiled_groups, compiled_lanes
from jaxhlm.engine.dense import lanes_at_once
from jaxhlm.engine.lanes import unrollable
from jaxhlm.engine.loop import CLOSING_SLACK, Minimum
from jaxhlm.engine.minimum import NEWTON, Options, lane_minimum
from jaxhlm.engine.small import entries
from jaxhlm.engine.start import START_FLOOR, started
from jaxhlm.notation import Floats, Ints
from jaxhlm.precision import own_rules
from jaxhlm.suffstats import GROUP_FIELDS, Stats, some_lanes

__all__ = ["FEW_LANES", "Solution", "solve"]

# The boundary check: how negative, per row, a one-sided derivative in a variance may be.
LEAVE_TOL = 1e-6
MAX_RESTARTS = 3
# Evaluations after which the lanes that are not done are gathered.
FIRST_ROUND = 6
FEW_LANES = 32
# With no more groups than this a singular fit is tried again from D = I (and the lower kept).
FEW_GROUPS = 15
# Evaluations that such a second start may take; one that finds a lower minimum takes fewer.
SECOND_ROUND = 25
# A pivot of a singular D, relative to its variance, that is zero but for rounding.
ROUNDED_TO_ZERO = 1e-9


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


def solve(stats: Stats, options: Options, start: Floats | None = None, first: int = 1) -> Solution:
    """Fit every lane of ``stats`` (standardised, lanes last).

    Lanes run together for a few evaluations; those that are not done are gathered and run on, so
    that the slowest of 100,000 does not hold the rest. They go on with the columns of Z in the
    order of decreasing variance: with a small leading diagonal, Λ and Λ turned by a rotation are
    nearly the same D, and Newton would crawl along that valley.

    Args:
        stats: standardised statistics.
        options: what to optimise.
        start: (k, B) minima known in closed form, to be verified, or points near them; moment
            estimates if None.
        first: evaluations from ``start`` before the lanes that are not done are gathered.
    """
    closed = start is not None and first == 1
    if start is None:
        first = FIRST_ROUND
        start = np.full((len(theta_index(options.blocks)), stats.yy.shape[-1]), np.nan)
    first = options.max_iter if options.optimizer else min(first, options.max_iter)
    with own_rules():
        found = _minimum(stats, start, options, first)
        lanes = np.flatnonzero(~found.converged & np.isfinite(found.value))
        if len(lanes):
            found = _continue(found, stats, lanes, _covariance(found.theta, options), options)
        for _ in range(MAX_RESTARTS):
            lanes, D = _leaving(found, stats, options)
            if not len(lanes):
                break
            found = _continue(found, stats, lanes, D, options)
        if not closed and len(lanes := _worth_another_start(found, stats, options)):
            q = stats.RZ.shape[2]  # R has more rows where a random effect was left out
            D = np.broadcast_to(np.eye(q), (len(found.value), q, q))
            found = _continue(found, stats, lanes, D, options, SECOND_ROUND)
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


def _covariance(theta: Floats, options: Options) -> Floats:
    """D̃ = Λ̃Λ̃' (B, q, q)."""
    Lambda = lambda_of(theta, options.blocks)
    return Lambda @ Lambda.swapaxes(1, 2)


def _continue(
    found: Minimum,
    stats: Stats,
    lanes: Ints,
    D: Floats,
    options: Options,
    most: int | None = None,
) -> Minimum:
    """Run ``lanes`` on from D (B, q, q), each with its columns in the order of falling variance.

    ``most`` evaluations are spent on them, ``options.max_iter`` if None.
    """
    orders = _pivot_orders(D[lanes], options.blocks)
    for those in _sharing(orders, stats):
        order, at = orders[those], lanes[those]
        again = _minimum(
            _reordered(_take(stats, at), order),
            _theta(_turned(D[at], order), options.blocks, 0.0),
            options,
            min(most or options.max_iter, options.max_iter),
        )
        found = _merge(found, _restored(again, np.argsort(order, axis=1), options), at)
    return found


def _sharing(orders: Ints, stats: Stats) -> list[Ints]:
    """Lanes that can go on together: all of them, or those of one order if they share a design."""
    if stats.RZ.shape[-1] != 1:
        return [np.arange(len(orders))]
    return [np.flatnonzero((orders == one).all(axis=1)) for one in np.unique(orders, axis=0)]


def _pivot_orders(D: Floats, blocks: Blocks) -> Ints:
    """(B, q) column orders, largest variance first within each block."""
    orders = np.empty(D.shape[:2], dtype=int)
    for block in map(np.array, blocks):
        variances = D[:, block, block]
        orders[:, block] = block[np.argsort(-variances, axis=1, kind="stable")]
    return orders


def _reordered(stats: Stats, order: Ints) -> Stats:
    """Statistics with the columns of Z of every lane in an order (B, q) of its own."""
    columns = order.T[None, None, :, : stats.RZ.shape[-1]]
    return stats._replace(RZ=np.take_along_axis(stats.RZ, columns, axis=2))


def _turned(M: Floats, order: Ints) -> Floats:
    """Rows and columns of matrices (B, q, q) in orders (B, q)."""
    return np.take_along_axis(np.take_along_axis(M, order[:, :, None], 1), order[:, None], 2)


def _restored(found: Minimum, order: Ints, options: Options) -> Minimum:
    """A minimum with the columns of Z back in the user's order."""
    D = _turned(_covariance(found.theta, options), order)
    singular = (found.theta[_diagonal(options.blocks)] == 0.0).any(axis=0)
    F = np.moveaxis(_turned(np.moveaxis(found.aux["F"], -1, 0), order), 0, -1)
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
    """Minima from ``start``, as NumPy arrays.

    A few lanes, and wide models, run in NumPy at once, since compiling would take a thousand times
    longer; many lanes run in numbers that have been compiled before.
    """
    B, small = start.shape[-1], unrollable(stats)
    if options.optimizer is None and (B <= FEW_LANES or not small):
        with np.errstate(all="ignore"):
            start = started(stats, start, options.blocks)
            size = B if small else lanes_at_once(stats)
            runs = [slice(first, first + size) for first in range(0, B, size)]
            found = (
                lane_minimum(some_lanes(stats, run), start[:, run], NEWTON, options, max_iter)
                for run in runs
            )
            return jax.tree.map(lambda *x: _joined(x), *found)
    # Importing optax and compiling would double the time of a small fit that needs neither.
    from jaxhlm.engine.compiled import Sizes, compiled_minimum

    count, parts = len(stats.m), []
    stats = _padded(stats, compiled_groups(count))
    size = compiled_lanes(B, len(stats.m))
    for first in range(0, B, size):
        lanes = np.minimum(np.arange(first, first + size), B - 1)
        sizes = Sizes(count, min(size, B - first), max_iter)
        parts.append(compiled_minimum(_take(stats, lanes), start[:, lanes], sizes, options))
    return jax.tree.map(lambda *x: _joined(x)[..., :B], *parts)


def _padded(stats: Stats, G: int) -> Stats:
    """Groups without rows added, up to G; they change nothing."""
    more = G - len(stats.m)
    fields = {
        name: np.concatenate([x, np.zeros((more, *x.shape[1:]))])
        for name, x in zip(stats._fields, stats, strict=True)
        if name in GROUP_FIELDS
    }
    return stats._replace(**fields) if more else stats


def _joined(parts: tuple[Any, ...]) -> Floats:
    """Lanes of several parts side by side."""
    return np.concatenate(parts, axis=-1) if len(parts) > 1 else np.asarray(parts[0])


def _take(stats: Stats, lanes: Any) -> Stats:
    """Some lanes; a design shared by all has a last axis of 1 and stays."""
    B, lanes = stats.yy.shape[-1], as_slice(lanes)
    return Stats(*(x if x.shape[-1] != B else x[..., lanes] for x in stats))


def _leaving(found: Minimum, stats: Stats, options: Options) -> tuple[Ints, Floats]:
    """Singular lanes whose criterion falls when a zero variance grows, and D to go on from.

    At a minimum on the boundary F = ∂d/∂D is positive semi-definite within each block. If its
    smallest eigenvalue is negative, D + t v v' along that eigenvector is better.
    """
    on_boundary = (found.theta[_diagonal(options.blocks)] == 0.0).any(axis=0)
    singular = np.flatnonzero(found.converged & on_boundary)
    D = np.zeros((len(on_boundary), *found.aux["F"].shape[:2]))
    if not len(singular):
        return singular, D
    F = np.moveaxis(found.aux["F"][..., singular], -1, 0)
    D[singular] = _covariance(found.theta[:, singular], options)
    n = np.broadcast_to(stats.n, found.value.shape)[singular]
    G = np.broadcast_to(stats.m.sum(axis=0), found.value.shape)[singular]
    leaving = np.zeros(len(singular), bool)
    for block in map(list, options.blocks):
        slope, v = np.linalg.eigh(F[:, block][:, :, block])
        away = slope[:, 0] < -LEAVE_TOL * n
        direction = v[:, :, 0] * np.sqrt(np.where(away, START_FLOOR * G / n, 0.0))[:, None]
        D[np.ix_(singular, np.array(block), np.array(block))] += (
            direction[:, :, None] * direction[:, None, :]
        )
        leaving |= away
    return singular[leaving], D


def _worth_another_start(found: Minimum, stats: Stats, options: Options) -> Ints:
    """Singular lanes with so few groups that the criterion may have a lower minimum elsewhere."""
    if options.optimizer is not None:
        return np.array([], dtype=np.int64)
    few = np.broadcast_to(stats.m.sum(axis=0) <= FEW_GROUPS, found.value.shape)
    on_boundary = (found.theta[_diagonal(options.blocks)] == 0.0).any(axis=0)
    return np.flatnonzero(found.converged & on_boundary & few)


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
