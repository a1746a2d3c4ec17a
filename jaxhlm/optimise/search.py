"""Where else a lower minimum may be: which lanes are searched further, and from which points.

As a function of D the criterion is a concave part, log|Ω|, and a convex one, ν log pwrss: a second
minimum needs data that one D cannot be typical of. By the distances of the groups at the minimum,
c_i = e_i'Ω_i⁻¹e_i/σ̂², of which each is χ² with rank R_i degrees of freedom under the model, a lane
**may be multimodal** if

* it has few groups, or one of them has much of the sum of squares of a column of Z;
* the c_i are far from χ²: their mean square (one group explains what all the others do not), or
  their sum beside the residuals' (the two estimates of σ² that a stationary point balances);
* the residual variance is a small part of the total, or the first search took many steps, or
  more than it has.

Such lanes are tried from points all over the geometry of the design. For columns whose groups have
squared lengths r_i², a variance of 1/r_i² is where a group begins to count less: starts lie beyond
the smallest of them, in the middle, and at opposite ends in different columns and correlations.
Where they end in several minima, more follow from all of the range, until no more are expected.
Where a variance dwarfs the error, as when one group lies far from all others, what is small beside
it may still be large: such lanes are tried with each variance in turn a part of the largest.

A lane that ended on the **boundary** is scanned along each variance that is zero, over all of its
range: D̂ + τ e_j e_j' is the model with q = 1 for the residuals of D̂ and β̂ (``single_variance``),
with a scan of its own. If that ends in another minimum, the lane is one that may be multimodal.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING

import jax
import numpy as np

from jaxhlm.core.chunks import as_slice
from jaxhlm.core.notation import Bools, Floats, Ints
from jaxhlm.likelihood.covariance import (
    Blocks,
    covariance_of,
    lambda_matrix,
    lambda_of,
    theta_index,
    theta_of,
)
from jaxhlm.likelihood.deviance import whiten
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.linalg.small import array_namespace, unroll
from jaxhlm.optimise.distances import distance_sums, group_df, residuals
from jaxhlm.optimise.loop import OptimizeResult
from jaxhlm.optimise.scan import bracketed

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from jaxhlm.core.notation import Array

__all__ = [
    "SAME",
    "boundary_starts",
    "dwarfed",
    "may_be_multimodal",
    "multistart_points",
    "parts_of_largest",
    "search_needed",
    "single_variance",
    "unsettled",
]

FEW_GROUPS = 10
MANY_STEPS = 20
# Residual variance relative to that of y beside X.
EXTREME = 0.02
# Share of a column's sum of squares that one group has in a dominated design.
DOMINANT = 0.2
# Mean square of the distances, relative to that of χ².
HEAVY = 2.0
# Deviation of the distances' sum, or the residuals', from its expectation, and in standard errors.
BETWEEN, BETWEEN_SE = 0.3, 1.5
WITHIN, WITHIN_SE = 0.15, 1.0
# Variances of the starts, in units of the middle of their range.
LARGE, VERY_LARGE, SMALL, CORRELATED = 100.0, 1000.0, 0.1, 30.0
BEYOND = 10.0
# r² of a group this small, relative to the largest, is zero but for rounding.
ZERO_LENGTH = 1e-12
CORRELATION = 0.9
TILT = 2.0
# A variance, relative to σ², that dwarfs the error, and the parts of it that others are tried at.
DWARFING = 1e4
PARTS = (1e-2, 1e-4)
# Starts of one batch of the fixed sequence, and what tells two minima apart.
STARTS_PER_BATCH = 16
SAME = 1e-6
# With more columns of Z the starts at opposite ends and correlated would be too many.
MOST_COLUMNS = 3


def may_be_multimodal(stats: Stats, found: OptimizeResult, reml: bool, blocks: Blocks) -> Bools:
    """(B,) lanes that may have several minima, each by its own data."""
    with np.errstate(all="ignore"):
        return search_needed(stats, found, _distances(stats, found, reml, blocks), reml)


def search_needed(
    stats: Stats, found: OptimizeResult, distances: Float[Array, "2 B"], reml: bool
) -> Bool[Array, " B"]:
    """``may_be_multimodal`` by the sums of distances, traceable."""
    G = stats.m.sum(axis=0)
    extreme = found.aux["pwrss"] < EXTREME * stats.n
    slow = found.iterations >= MANY_STEPS
    few = (G <= FEW_GROUPS) | _dominated(stats)
    return few | extreme | slow | _untypical(stats, distances, reml)


def _dominated(stats: Stats) -> Bool[Array, " b"]:
    """(b,) designs in which one group has much of the sum of squares of a column of Z."""
    r2 = (stats.RZ**2).sum(axis=1)
    total = (stats.m[:, None] * r2).sum(axis=0)
    return (r2.max(axis=0) > DOMINANT * total).any(axis=0)


def _untypical(stats: Stats, distances: Float[Array, "2 B"], reml: bool) -> Bool[Array, " B"]:
    """(B,) lanes whose distances of the groups are not as the model has them."""
    xp, between = array_namespace(distances), group_df(stats).sum(axis=0)
    within = xp.maximum(stats.n - between, 1.0)
    total, squares = distances
    nu = stats.n - reml * stats.rank
    out = squares > HEAVY * between
    for ratio, count, least, errors in (
        (total / between, between, BETWEEN, BETWEEN_SE),
        ((nu - total) / within, within, WITHIN, WITHIN_SE),
    ):
        out |= abs(ratio - 1.0) > xp.maximum(least, errors * xp.sqrt(2.0 / count))
    return out


def _distances(stats: Stats, found: OptimizeResult, reml: bool, blocks: Blocks) -> Floats:
    """``distance_sums`` (2, B): those that came with the minima, and the others."""
    sums = found.aux["distances"]
    rest = np.flatnonzero(np.isnan(sums[0]))
    if len(rest):
        sums, some, at = sums.copy(), stats.take(as_slice(rest)), found.aux
        beta, pwrss = at["beta"][:, rest], at["pwrss"][rest]
        sums[:, rest] = distance_sums(some, found.theta[:, rest], beta, pwrss, reml, blocks)
    return sums


def multistart_points(stats: Stats, theta: Floats, blocks: Blocks, batch: int) -> Floats:
    """θ (S, k, B) of a batch of starts: the first from the design, later ones a fixed sequence.

    Args:
        stats: statistics of the lanes.
        theta: (k, B) minima so far.
        blocks: columns of Z in each random term.
        batch: 0, 1, …
    """
    starts = _log_uniform(stats, theta, blocks, batch) if batch else _geometric(stats, blocks)
    return np.broadcast_to(starts, (*starts.shape[:2], theta.shape[-1]))


def _geometric(stats: Stats, blocks: Blocks) -> Floats:
    """θ (S, k, b): all variances large or middling, opposite ends, correlated pairs."""
    low, beyond = (x.T for x in _range(stats))
    unit = low / SMALL
    q = unit.shape[1]
    one = np.eye(q)
    variances = [beyond, VERY_LARGE * unit, unit]
    if q <= MOST_COLUMNS:
        variances += [unit * np.where(axis == 1.0, LARGE, SMALL) for axis in one]
    if 2 < q <= MOST_COLUMNS:
        variances += [unit * np.where(axis == 1.0, SMALL, LARGE) for axis in one]
    starts = [theta_of(v[:, :, None] * one, blocks) for v in variances]
    if q <= MOST_COLUMNS:
        starts += [theta_of(D, blocks) for D in _correlated_pairs(CORRELATED * unit, blocks)]
    return np.stack(starts)


def _range(stats: Stats) -> tuple[Floats, Floats]:
    """The least and the largest variance (q, b) of the starts."""
    r2 = (stats.RZ**2).sum(axis=1)
    there = r2 > ZERO_LENGTH * r2.max(axis=0)
    tiny = np.finfo(float).tiny
    low = SMALL * stats.m.sum(axis=0) / np.maximum((stats.m[:, None] * r2).sum(axis=0), tiny)
    return low, BEYOND / np.where(there, r2, np.inf).min(axis=0)


def _correlated_pairs(variance: Floats, blocks: Blocks) -> Iterator[Floats]:
    """D (b, q, q) with each pair of columns of a block correlated, either way."""
    sd = np.sqrt(variance)
    for i, j in (pair for block in blocks for pair in combinations(block, 2)):
        for correlation in (CORRELATION, -CORRELATION):
            R = np.eye(variance.shape[1])
            R[i, j] = R[j, i] = correlation
            yield sd[:, :, None] * R * sd[:, None, :]


def _log_uniform(stats: Stats, theta: Floats, blocks: Blocks, batch: int) -> Floats:
    """θ (``STARTS_PER_BATCH``, k, B): a batch of a fixed sequence that fills all of the range.

    Standard deviations are uniform on the log scale, from the least of the first batch to beyond
    its largest and that of θ (k, B); entries of Λ off the diagonal are random.
    """
    index, rng = theta_index(blocks), np.random.default_rng(batch)
    low, high = _range(stats)
    largest = _variances(theta, blocks).T
    width = np.log(np.maximum(high, BEYOND * largest) / low) / 2.0
    sd = np.sqrt(low) * np.exp(rng.random((STARTS_PER_BATCH, len(low), 1)) * width)
    tilt = TILT * rng.normal(size=(STARTS_PER_BATCH, len(index), 1))
    entry = [sd[:, a] * (1.0 if a == b else tilt[:, i]) for i, (a, b) in enumerate(index)]
    return np.stack(entry, axis=1)


def dwarfed(theta: Floats, blocks: Blocks) -> Bools:
    """(B,) lanes with a variance that dwarfs the error, θ being (k, B)."""
    return np.asarray(_variances(theta, blocks).max(axis=1) > DWARFING)


def parts_of_largest(theta: Floats, blocks: Blocks) -> Floats:
    """θ (S, k, B) each variance in turn a part of the largest, by itself."""
    D, largest = covariance_of(theta, blocks), _variances(theta, blocks).max(axis=1)
    starts = []
    for j in range(D.shape[1]):
        for part in PARTS:
            changed = D.copy()
            changed[:, j] = changed[:, :, j] = 0.0
            changed[:, j, j] = part * largest
            starts.append(theta_of(changed, blocks))
    return np.stack(starts)


def _variances(theta: Floats, blocks: Blocks) -> Floats:
    """The diagonal of D, (B, q)."""
    variances: Floats = (lambda_of(theta, blocks) ** 2).sum(axis=2)
    return variances


def unsettled(values: Floats) -> Bools:
    """(B,) lanes of which more minima are to be expected than were found.

    Of N starts that ended in w minima the posterior expectation of their number is
    w(N − 1)/(N − w − 2); it is settled when that is less than w + ½ (Boender & Rinnooy Kan 1987,
    Math. Programming 37, 59-80).

    Args:
        values: (N, B) where the starts ended, NaN for those that did not.

    >>> unsettled(np.array([[1.0, 1.0]] * 6 + [[1.0, 2.0]])).tolist()
    [False, True]
    """
    ordered = np.sort(values, axis=0)
    N = np.isfinite(ordered).sum(axis=0)
    w = np.minimum(N, 1) + (np.diff(ordered, axis=0) > SAME).sum(axis=0)
    return np.asarray((w > 1) & (w * (N - 1.0) >= (w + 0.5) * (N - w - 2.0)))


def boundary_starts(
    stats: Stats, found: OptimizeResult, reml: bool, blocks: Blocks
) -> Iterator[tuple[Ints, Floats]]:
    """Lanes (L,) and θ (k, L) near further minima along each variance that is zero.

    Args:
        stats: statistics of the lanes.
        found: their minima, in canonical form.
        reml: REML criterion instead of ML deviance.
        blocks: columns of Z in each random term.
    """
    for i, (row, column) in enumerate(theta_index(blocks)):
        if row != column:
            continue
        lane_index = np.flatnonzero(found.theta[i] == 0.0)
        if not len(lane_index):
            continue
        some = stats.take(lane_index)
        at = jax.tree.map(lambda x, index=lane_index: x[..., index], found)
        brackets = bracketed(single_variance(some, at, reml, column, blocks), reml=False)
        for tau, at_zero in zip(*brackets, strict=True):
            other = np.isfinite(tau) & ~at_zero
            start = at.theta[:, other].copy()
            start[i] = tau[other]
            yield lane_index[other], start


def single_variance(
    stats: Stats, at: OptimizeResult, reml: bool, column: int, blocks: Blocks
) -> Stats:
    """Statistics with q = 1 and p = 0 whose ML criterion is d(D + τ e_j e_j') with β̂ kept.

    With Ω = I + RDR', r² = e_j'R'Ω⁻¹R e_j and e = t_y − T_X β̂, one more variance takes from e'Ω⁻¹e
    the part h² τr²/(1 + τr²) with h = e_j'R'Ω⁻¹e/r, and adds log(1 + τr²). What β̂ and, for REML,
    log|A| would change on the way is found by the descent.

    Args:
        stats: statistics of the lanes.
        at: what was found at D.
        reml: REML criterion instead of ML deviance.
        column: j.
        blocks: columns of Z in each random term.
    """
    G, B = len(stats.TX), len(at.value)
    Lambda = lambda_matrix(unroll(at.theta, 1), blocks)
    RZ, e = unroll(stats.RZ, 2, 1), unroll(residuals(stats, at.aux["beta"]), 1, 1)
    _, u, white = whiten(Lambda, RZ, RZ[:, column], e)
    r = np.sqrt(sum(x * x for x in u))
    h = sum(x * y for x, y in zip(u, white, strict=True)) / np.where(r > 0.0, r, 1.0)
    return Stats(
        RZ=np.broadcast_to(r, (G, B))[:, None, None],
        TX=np.empty((G, 1, 0, 1)),
        Ty=np.broadcast_to(h, (G, B))[:, None],
        m=stats.m,
        XX=np.empty((0, 0, 1)),
        Xy=np.empty((0, B)),
        yy=at.aux["pwrss"] - (h * h).sum(axis=0),
        n=stats.n - reml * stats.rank,
        logw=stats.logw,
        rank=np.zeros(1),
    )
