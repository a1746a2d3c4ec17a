"""Standardised lanes in, minima out: compaction, further starts, and the check of the boundary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import numpy as np

from jaxhlm.core.chunks import as_slice, compiled_groups, compiled_lanes, slices
from jaxhlm.core.memory import aligned_zeros
from jaxhlm.core.notation import Floats, Ints
from jaxhlm.core.precision import jax_config_scope
from jaxhlm.likelihood.covariance import (
    covariance_of,
    on_boundary,
    theta_index,
    theta_of,
)
from jaxhlm.likelihood.dense import lanes_at_once
from jaxhlm.likelihood.lane_derivatives import unrollable
from jaxhlm.likelihood.suffstats import GROUP_FIELDS, Stats, expanded
from jaxhlm.optimise.boundary import kkt_violations
from jaxhlm.optimise.criterion import minimise_criterion
from jaxhlm.optimise.loop import CLOSING_SLACK, NEWTON, OptimizeResult
from jaxhlm.optimise.options import Options
from jaxhlm.optimise.pivoting import permuted, pivot_orders, reordered, restored
from jaxhlm.optimise.scan import bracketed
from jaxhlm.optimise.search import (
    SAME,
    boundary_starts,
    dwarfed,
    may_be_multimodal,
    multistart_points,
    parts_of_largest,
    unsettled,
)
from jaxhlm.optimise.start import started
from jaxhlm.optimise.tiles import TILE_LANES

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from jaxhlm.core.notation import Array

__all__ = ["FEW_LANES", "Solution", "solve"]

# Times that a lane is run on from a boundary that is no minimum.
MAX_RESTARTS = 3
# Evaluations after which a batch is compacted to the lanes that are not done.
COMPACT_AFTER = 6
# So few lanes run in NumPy, without compiling: with 1,000 groups and three random effects they take
# 0.9 s, where compiling takes 13; with 30 groups and two, 0.05 and 4 s. Fewer with more groups.
FEW_LANES, VERY_FEW_LANES, VERY_MANY_GROUPS = 128, 32, 4096
# Numbers of an array of groups by lanes that NumPy takes at a time, which stay in the cache.
NUMBERS_AT_ONCE = 2**15
# Evaluations that a further start may take.
FURTHER_START_MAX_ITER = 40
# Runs of starts for lanes that go on ending in several minima.
MOST_BATCHES = 4
# A minimum elsewhere must be lower by this, so that rounding does not choose between equal ones.
LOWER = 1e-8
# Starts that run at a time, which bounds the copies of their statistics.
MOST_TRIES = 2560


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

    theta: Float[Floats, "k B"]
    value: Float[Floats, " B"]
    beta: Float[Floats, "p B"]
    pwrss: Float[Floats, " B"]
    L_A: Float[Floats, "p p B"]
    gradient_norm: Float[Floats, " B"]
    converged: Bool[Array, " B"]
    iterations: Int[Array, " B"]

    @classmethod
    def of(cls, found: OptimizeResult) -> Solution:
        """What of a result is wanted further on."""
        return cls(
            theta=found.theta,
            value=found.value,
            beta=found.aux["beta"],
            pwrss=found.aux["pwrss"],
            L_A=found.aux["L_A"],
            gradient_norm=found.gradient_norm,
            converged=found.converged,
            iterations=found.iterations,
        )


def solve(
    stats: Stats, options: Options, start: Floats | None = None, compact_after: int = 1
) -> Solution:
    """Fit every lane of ``stats`` (standardised, lanes last).

    Lanes run together for a few evaluations; then the batch is compacted to those that are not
    done, so that the slowest of 100,000 does not hold the rest. They go on with the columns of Z in
    the order of decreasing variance: with a small leading diagonal, Λ and Λ times a rotation
    are nearly the same D, and Newton would crawl along that valley.

    From ``start`` there is one minimum: in the precisions 1/σ² and (σ²Ω)⁻¹ a balanced
    criterion with one block is convex, and σ²Ω ⪰ σ²I is linear. With one random effect the whole
    range is scanned; with more, lanes that may have other minima are tried from further points
    (``search``), each by its own data only. An optimiser of the user's is started once.

    Args:
        stats: standardised statistics.
        options: what to optimise.
        start: (k, B) minima known in closed form, to be verified, or points near them; moment
            estimates if None.
        compact_after: evaluations from ``start`` before the batch is compacted; ``COMPACT_AFTER``
            without a start.
    """
    first = COMPACT_AFTER if start is None else compact_after
    first = options.max_iter if options.optimizer else min(first, options.max_iter)
    with jax_config_scope():
        if start is not None and first == 1:
            found = _completed(_minimise(stats, start, options, first), stats, options)
        else:
            found = _multistart(stats, start, options, first)
    return Solution.of(found)


def _multistart(stats: Stats, start: Floats | None, options: Options, first: int) -> OptimizeResult:
    """The lowest of the minima from every start that a lane is given, by its own data only."""
    B, alone = stats.yy.shape[-1], stats.RZ.shape[2] == 1
    if alone:
        starts = bracketed(stats, options.reml).theta
        start = starts[:1]
    elif start is None:
        start = np.full((len(theta_index(options.blocks)), B), np.nan)
    found = _completed(_minimise(stats, start, options, first), stats, options)
    if options.optimizer is not None:
        return found
    before = found.value
    if alone:
        rest = starts[1:]
        others = np.isfinite(rest)
        found, _ = _started_from(found, stats, np.nonzero(others)[1], rest[others][None], options)
    else:
        found = _further_starts(found, stats, options)
    return _off_boundary(found, stats, options) if (found.value < before).any() else found


def _further_starts(found: OptimizeResult, stats: Stats, options: Options) -> OptimizeResult:
    """Minima with q > 1, with those of further starts where ``search`` gives any."""
    several = may_be_multimodal(stats, found, options.reml, options.blocks) | ~found.converged
    edge = np.flatnonzero(found.converged & ~several & on_boundary(found.theta, options.blocks))
    if len(edge):
        found, others = _searched_along_boundary(found, stats, edge, options)
        several[others] = True
    lane_index = np.flatnonzero(np.isfinite(found.value) & several)
    large = lane_index[dwarfed(found.theta[:, lane_index], options.blocks)]
    if len(large):
        starts = parts_of_largest(found.theta[:, large], options.blocks)
        found, _ = _started_from(found, stats, *_flattened(large, starts), options)
    values, batch = found.value[None, lane_index], 0
    while len(lane_index) and batch < MOST_BATCHES:
        starts = multistart_points(
            stats.take(as_slice(lane_index)), found.theta[:, lane_index], options.blocks, batch
        )
        found, ends = _started_from(found, stats, *_flattened(lane_index, starts), options)
        values = np.concatenate([values, ends.reshape(len(starts), -1)])
        more = unsettled(values)
        lane_index, values, batch = lane_index[more], values[:, more], batch + 1
    return found


def _flattened(lane_index: Ints, starts: Floats) -> tuple[Ints, Floats]:
    """Lanes and θ (k, N) of all starts (S, k, L)."""
    return np.tile(lane_index, len(starts)), np.concatenate(list(starts), axis=1)


def _searched_along_boundary(
    found: OptimizeResult, stats: Stats, lane_index: Ints, options: Options
) -> tuple[OptimizeResult, Ints]:
    """Lanes tried along the variances that are zero, and those that have another minimum there."""
    at = jax.tree.map(lambda x: x[..., lane_index], found)
    others, before, some = [], found.value, stats.take(as_slice(lane_index))
    for these, start in boundary_starts(some, at, options.reml, options.blocks):
        found, ends = _started_from(found, stats, lane_index[these], start, options)
        others.append(lane_index[these][np.abs(ends - before[lane_index[these]]) > SAME])
    return found, np.concatenate(others)


def _started_from(
    found: OptimizeResult, stats: Stats, lane_index: Ints, theta: Floats, options: Options
) -> tuple[OptimizeResult, Floats]:
    """Run lanes from θ (k, N) and keep what is lower; also where each ended (N,), or NaN.

    A lane may come more than once.
    """
    ends, most = np.full(len(lane_index), np.nan), min(FURTHER_START_MAX_ITER, options.max_iter)
    B = len(found.value)
    for i in range(0, len(lane_index), MOST_TRIES):
        part = slice(i, i + MOST_TRIES)
        again = _minimise(stats.take(as_slice(lane_index[part])), theta[:, part], options, most, B)
        ends[part] = np.where(again.converged, again.value, np.nan)
        found = _merge(found, *_lowest(again, lane_index[part], B), -LOWER)
    return found, ends


def _lowest(again: OptimizeResult, lane_index: Ints, count: int) -> tuple[OptimizeResult, Ints]:
    """The lowest minimum of every lane, with all of its evaluations, and the lanes, once each.

    Of starts that ended in the same one the first counts, whatever rounding says.
    """
    value = np.where(again.converged, again.value, np.inf)
    lowest = np.full(count, np.inf)
    np.minimum.at(lowest, lane_index, value)
    best = np.flatnonzero(value <= lowest[lane_index] + LOWER)
    which, first = np.unique(lane_index[best], return_index=True)
    spent = np.bincount(lane_index, again.iterations)[which].astype(np.int32)
    found = jax.tree.map(lambda x: x[..., best[first]], again)
    return found._replace(iterations=spent), which


def _completed(found: OptimizeResult, stats: Stats, options: Options) -> OptimizeResult:
    """Run on what is not done, and then what stopped on a boundary that is no minimum."""
    lane_index = np.flatnonzero(~found.converged & np.isfinite(found.value))
    if len(lane_index):
        D = covariance_of(found.theta, options.blocks)
        found = _continue(found, stats, lane_index, D, options)
    return _off_boundary(found, stats, options)


def _off_boundary(found: OptimizeResult, stats: Stats, options: Options) -> OptimizeResult:
    """Run on what stopped on a boundary that is no minimum."""
    for _ in range(MAX_RESTARTS):
        lane_index, D = kkt_violations(found, stats, options.blocks)
        if not len(lane_index):
            break
        before = found.value
        found = _continue(found, stats, lane_index, D, options)
        if not (found.value < before).any():
            break
    return found


def _continue(
    found: OptimizeResult, stats: Stats, lane_index: Ints, D: Floats, options: Options
) -> OptimizeResult:
    """Run ``lane_index`` on from D (B, q, q), each with its columns in an order of its own."""
    orders = pivot_orders(D[lane_index], options.blocks)
    for those in _sharing(orders, stats):
        order, at = orders[those], lane_index[those]
        some = stats.take(as_slice(at))
        again = _minimise(
            some._replace(RZ=reordered(some.RZ, order)),
            theta_of(permuted(D[at], order), options.blocks),
            options,
            options.max_iter,
            len(D),
        )
        found = _merge(found, restored(again, order, options.blocks), at)
    return found


def _sharing(orders: Ints, stats: Stats) -> list[Ints]:
    """Lanes that can go on together: all of them, or those of one order if they share a design."""
    if not stats.shared:
        return [np.arange(len(orders))]
    return [np.flatnonzero((orders == one).all(axis=1)) for one in np.unique(orders, axis=0)]


def _minimise(
    stats: Stats, start: Floats, options: Options, max_iter: int, among: int = 0
) -> OptimizeResult:
    """Minima of lanes from ``start``, as NumPy arrays; ``among`` lanes have been fitted before.

    A few lanes, from however many starts, and wide models run in NumPy, since compiling would take
    far longer; many lanes, and a few of many that were fitted by compiled code, run in that code.
    Of lanes without data one runs for all.
    """
    B, small, there = start.shape[-1], unrollable(stats), np.isfinite(stats.yy)
    if np.count_nonzero(~there) > 1:
        # The others run by the code that would have run all of them, unless most have no data.
        among = max(among, B) if there.mean() > 0.5 else 0
        at, place = np.unique(np.where(there, np.arange(B), np.argmin(there)), return_inverse=True)
        once = _minimise(stats.take(as_slice(at)), start[:, at], options, max_iter, among)
        return jax.tree.map(lambda x: x[..., place], once)
    if options.optimizer is None and not (small and _compiled(B, among, len(stats.m))):
        with np.errstate(all="ignore"):
            start = started(stats, start, options.blocks)
            size = NUMBERS_AT_ONCE // len(stats.m) if small else lanes_at_once(stats)
            found = (
                minimise_criterion(stats.take(run), start[:, run], NEWTON, options, max_iter)
                for run in slices(B, size)
            )
            return jax.tree.map(lambda *x: _concatenated(x), *found)
    # Importing optax and compiling would double the time of a small fit that needs neither.
    from jaxhlm.optimise.compiled import Sizes, minimise_compiled

    G, parts = compiled_groups(len(stats.m)), []
    size = compiled_lanes(B, G)
    for first in range(0, B, size):
        count = min(size, B - first)
        # Tiles are whole, and what is in a tile should be as fast as its neighbours.
        used = -(-count // TILE_LANES) * TILE_LANES
        lanes = as_slice(np.minimum(np.arange(first, first + used), B - 1))
        some = _padded(stats.take(lanes), G, size)
        theta = _zeros_after(start[:, lanes], (len(start), size))
        sizes = Sizes(len(stats.m), count, max_iter)
        parts.append(minimise_compiled(some, theta, sizes, options))
    return jax.tree.map(lambda *x: _concatenated(x)[..., :B], *parts)


def _compiled(B: int, among: int, G: int) -> bool:
    """Whether B lanes, of ``among``, are worth compiling for, or have been compiled for."""
    few, G = FEW_LANES if G < VERY_MANY_GROUPS else VERY_FEW_LANES, compiled_groups(G)
    if 0 < among <= few:
        return False
    same = compiled_lanes(B, G) == compiled_lanes(among, G)
    return few < B or (few < among and same)


def _padded(stats: Stats, G: int, B: int) -> Stats:
    """Groups without rows added, up to G, and lanes without data, up to B; both change nothing.

    What is a number for each lane is spelled out beside designs of the lanes' own, so that whether
    all happen to have the same number of rows, or rank, does not take another compilation.
    """
    fields = {}
    for name, x in zip(stats._fields, stats, strict=True):
        if x.ndim == 1 and not stats.shared:
            x = expanded(x, stats.num_lanes)
        shape = [*x.shape[:-1], B if x.shape[-1] > 1 else 1]
        if name in GROUP_FIELDS:
            shape[0] = G
        fields[name] = _zeros_after(x, (*shape,))
    return Stats(**fields)


def _zeros_after(x: Floats, shape: tuple[int, ...]) -> Floats:
    """An array of a shape that is at least that of x, with x in front."""
    if x.shape == shape:
        return x
    padded = aligned_zeros(shape)
    padded[tuple(map(slice, x.shape))] = x
    return padded


def _concatenated(parts: Sequence[Array]) -> Floats:
    """Lanes of several parts side by side."""
    return np.concatenate(parts, axis=-1) if len(parts) > 1 else np.asarray(parts[0])


def _merge(
    found: OptimizeResult, again: OptimizeResult, lane_index: Ints, slack: float = CLOSING_SLACK
) -> OptimizeResult:
    """Take the lower of two minima in the lanes that went on; add up the evaluations."""
    lower = again.value < found.value[lane_index] + slack
    better = lower & (again.converged | ~found.converged[lane_index])
    total = found.iterations.copy()
    total[lane_index] += again.iterations

    def choose(old: Float[Array, "... B"], new: Float[Array, "... L"]) -> Float[Array, "... B"]:
        out = old.copy()
        out[..., lane_index[better]] = new[..., better]
        return out

    return jax.tree.map(choose, found, again)._replace(iterations=total)
