"""Every group, or every row, left out in turn: exact refits of all of them as one batch of lanes.

A lane is the data without one group, on the standardised scale of the full data, so that only sums
over groups change. Sums over all groups but one are taken directly, never as a difference, so no
digits cancel however much a group weighs. Without one row the group of that row is left out, and
comes back without it.

Groups that share R_i enter the criterion through the Gram matrix of their [T_X t_y] alone (see
``equal_groups``). Such a class is represented by the columns of the Cholesky factor of the Gram
matrix without the group, of which there are as many as its rank, however many groups there are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxhlm.core.chunks import CHUNK_BYTES, in_order, lane_chunks
from jaxhlm.core.notation import Bools, Floats, Ints
from jaxhlm.core.status import Status
from jaxhlm.design.identified import group_ranks, identified
from jaxhlm.estimation.estimates import Estimates, estimate
from jaxhlm.estimation.pipeline import Fitted, Reduced, gather
from jaxhlm.likelihood.lane_derivatives import unrollable
from jaxhlm.likelihood.suffstats import GROUP_FIELDS, Stats, taken
from jaxhlm.linalg.factors import semidefinite_root
from jaxhlm.optimise.options import Options
from jaxhlm.optimise.solve import FEW_LANES, solve
from jaxhlm.statistics.equal_groups import EqualGroups, EquivalenceClass
from jaxhlm.statistics.group_contributions import GroupContributions
from jaxhlm.statistics.response import Standardised
from jaxhlm.statistics.standardise import absent_squares
from jaxhlm.statistics.without_rows import GroupWithoutRow, RowsApart

__all__ = ["MOST_LANES", "Pairs", "leave_one_out", "numbers_per_fit"]

# Lanes of one chunk, as many as a program is compiled for (``COMPILED_LANES``). Where all the
# work is fewer groups than this, chunks that run uncompiled take less time than compiling.
MOST_LANES = 640
UNCOMPILED = 300_000
# An uncompiled evaluation takes at least the time of this many groups.
OVERHEAD = 100
# Without one group the minimum is near: a few Newton steps from that with it.
NEAR = 8
# A direction of X or Z is lost without a group if less than this share of its sum of squares stays.
RANK_TOL = 1e-13
PIVOT_TOL = 1e-13
NOISE = 1e-28


class Pairs(NamedTuple):
    """Which fit, and which of its groups is left out, or lacks a row, in every lane; (N,) each."""

    fit: Ints
    group: Ints

    def of_fit(self, values: Floats) -> Floats:
        """(…, B) to (…, N); what all fits share, (…, 1), stays."""
        return taken(values, self.fit)

    def of_both(self, values: Floats) -> Floats:
        """(G, …, b) to (…, N)."""
        values = np.moveaxis(values, -1, 1)
        fit = self.fit if values.shape[1] > 1 else np.zeros_like(self.fit)
        return np.moveaxis(values[self.group, fit], 0, -1)


def leave_one_out(
    groups: GroupContributions,
    estimates: Estimates,
    options: Options,
    refits: int,
    rows: RowsApart | None = None,
) -> Estimates:
    """Estimates without each group, or each row, in turn, in the units of the data.

    Args:
        groups: statistics of B fits, group by group.
        estimates: of these with all groups.
        options: what was optimised.
        refits: how many there are in all, where these are part of them; many are worth compiling.
        rows: their rows, which are left out one by one; groups are if None.

    Returns:
        One lane for every fit and group, or row, those of the first fit first.
    """
    stats, B = groups.standardised.stats, len(estimates.status)
    G, q, p = stats.TX.shape[:3]
    there = np.broadcast_to(stats.m > 0.0, (G, B))
    pairs = Pairs(*np.nonzero(there.T)) if rows is None else Pairs(rows.fit, rows.group)
    totals, inside = _Totals.of(groups), estimates.status == Status.CONVERGED
    # From θ̃ of the full data; on the boundary, where saddles are, from moment estimates.
    start = np.where(inside, estimates.theta_standard.T, np.nan)
    equal = groups.equal or EqualGroups.none(G)
    classes = [_Grams.of(c, stats) for c in equal.classes]

    def one(lane_slice: slice) -> Fitted:
        some = Pairs(*(x[lane_slice] for x in pairs))
        without, columns = _without(stats, equal.rest, totals, classes, some)
        if rows is not None:
            without, columns = _with(rows.without(lane_slice), without, columns)
        status = _status(groups.standardised, without, columns, some, options)
        scaling = groups.standardised.scaling.take(some.fit)
        solution = solve(without, options, start[:, some.fit], NEAR)
        left = Reduced.of(Standardised(without, scaling, status))
        return Fitted(estimate(solution, left.standardised, options), left.nobs, left.ngroups)

    # Groups, at most, that stand for all of them in one lane.
    count = len(equal.rest) + sum(min(len(c.groups), q * (p + 1)) for c in equal.classes)
    count += rows is not None
    work = max(count, OVERHEAD) * refits
    compiled = options.optimizer is not None or (work > UNCOMPILED and unrollable(stats))
    most = MOST_LANES if compiled else FEW_LANES
    # At most that many, and fewer where the groups of a lane take much memory.
    longest = 0 if rows is None else int(rows.groups.lengths.max())
    numbers = count * (q * q + q * p + q + 1) + longest * 4 * (q + p + 2)
    lane_bytes = max(8 * numbers, CHUNK_BYTES // most)
    runs = lane_chunks(len(pairs.fit), lane_bytes)
    # The fits of a batch are on all cores already.
    parts = in_order(one, runs) if B == 1 else map(one, runs)
    return gather(parts, len(pairs.fit)).estimates


def numbers_per_fit(G: int, q: int, p: int) -> int:
    """About how many numbers one fit takes while its groups are left out."""
    return 4 * G * (2 * p * p + 2 * q * q + (q * (p + 1)) ** 2)


class _Totals(NamedTuple):
    """Sums over all groups but one, (G, …, B) or (G, …, 1), for each one."""

    XX: Floats
    Xy: Floats
    yy: Floats
    n: Floats
    logw: Floats
    X_all: Floats  # (G, p, p, b) Σ X_i'X_i
    Z_all: Floats  # (G, q, q, b) Σ Z_i'Z_i
    random_rank: Floats  # (G, b) Σ rank Z_i

    @staticmethod
    def of(groups: GroupContributions) -> _Totals:
        stats, rest, U, u = groups.standardised.stats, groups.rest, groups.UX, groups.Uy
        XX = np.einsum("grpl,grsl->gpsl", U, U)
        each = (
            XX,
            np.einsum("grpl,grl->gpl", U, u),
            rest.yy + (u**2).sum(axis=1),
            rest.n,
            rest.logw,
            XX + np.einsum("gqpl,gqsl->gpsl", stats.TX, stats.TX),
            np.einsum("gcal,gcbl->gabl", stats.RZ, stats.RZ),
            group_ranks(stats.RZ).astype(float),
        )
        totals = _Totals(*map(_sums_without, each))
        absent = absent_squares(groups.standardised.scaling.absent, stats.n)
        return totals._replace(XX=totals.XX + absent, X_all=totals.X_all + absent)


def _sums_without(values: Floats) -> Floats:
    """(G, …) sums over all but one: those before it plus those after it."""
    before, after = np.zeros_like(values), np.zeros_like(values)
    np.cumsum(values[:-1], axis=0, out=before[1:])
    after[:-1] = np.cumsum(values[:0:-1], axis=0)[::-1]
    return before + after


class _Columns(NamedTuple):
    """What the rows of N lanes tell about the columns of X and Z, and how many groups they have."""

    X: Floats  # (p, p, N) X'X
    Z: Floats  # (q, q, N) Z'Z
    random_rank: Floats  # (N,) Σ rank Z_i
    G: Floats  # (N,)


def _without(
    stats: Stats, rest: Ints, totals: _Totals, classes: list[_Grams], pairs: Pairs
) -> tuple[Stats, _Columns]:
    """Statistics without one group, a lane for every pair; ``rest`` are in no class."""
    there = (rest[:, None] != pairs.group) * pairs.of_fit(stats.m[rest])
    RZ, TX, Ty = (pairs.of_fit(x[rest]) for x in (stats.RZ, stats.TX, stats.Ty))
    parts = [
        (RZ * there[:, None, None], TX * there[:, None, None], Ty * there[:, None], there),
        *(_class_without(c, stats.TX.shape[1:3], pairs) for c in classes),
    ]
    RZ, TX, Ty, m = (np.concatenate(part) for part in zip(*parts, strict=True))
    XX, Xy, yy, n, logw = (
        pairs.of_both(x) for x in (totals.XX, totals.Xy, totals.yy, totals.n, totals.logw)
    )
    X, Z, random_rank = (pairs.of_both(x) for x in (totals.X_all, totals.Z_all, totals.random_rank))
    columns = _Columns(X, Z, random_rank, pairs.of_fit(stats.m.sum(axis=0)) - 1.0)
    return Stats(RZ, TX, Ty, m, XX, Xy, yy, n, logw, pairs.of_fit(stats.rank)), columns


def _with(group: GroupWithoutRow, stats: Stats, columns: _Columns) -> tuple[Stats, _Columns]:
    """Statistics with one more group, a lane for every one."""
    own = group._asdict()
    joined = {
        name: np.concatenate([x, own[name][None]])
        for name, x in zip(GROUP_FIELDS, stats.by_group, strict=True)
    }
    sums = {name: getattr(stats, name) + own[name] for name in ("XX", "Xy", "yy", "n", "logw")}
    found = stats._replace(**joined, **sums)
    inner = "ab...,ac...->bc..."
    return found, _Columns(
        columns.X + group.XX + np.einsum(inner, group.TX, group.TX),
        columns.Z + np.einsum(inner, group.RZ, group.RZ),
        columns.random_rank + group.rank,
        columns.G + group.m,
    )


class _Grams(NamedTuple):
    """Gram matrices of the [T_X t_y] of one class, without each of its groups and of all."""

    RZ: Floats  # (q, q)
    grams: Floats  # (m + 1, k, k, B) with k = q(p + 1), the last with all
    place: Ints  # (G,) where to find the matrix without a group

    @staticmethod
    def of(c: EquivalenceClass, stats: Stats) -> _Grams:
        m, B = len(c.groups), stats.Ty.shape[-1]
        TX = stats.TX[c.groups].reshape(m, -1, stats.TX.shape[-1])
        TX = np.broadcast_to(TX, (*TX.shape[:2], B))
        rows = np.concatenate([TX, stats.Ty[c.groups]], axis=1)
        products = rows[:, :, None] * rows[:, None, :]
        place = np.full(len(stats.TX), m)
        place[c.groups] = np.arange(m)
        grams = np.concatenate([_sums_without(products), products.sum(axis=0)[None]])
        return _Grams(c.RZ, grams, place)


def _class_without(
    c: _Grams, shape: tuple[int, ...], pairs: Pairs
) -> tuple[Floats, Floats, Floats, Floats]:
    """R, T_X of ``shape`` (q, p), t_y and m of a class's representatives without one group."""
    q, p = shape
    place, N = c.place[pairs.group], len(pairs.group)
    m = len(c.grams) - 1
    columns = _columns(Pairs(pairs.fit, place).of_both(c.grams))
    kept = np.asarray(columns.any(axis=(0, 2)))
    kept[0] = True  # which counts the groups, though there be nothing in them
    T = np.moveaxis(columns[:, kept], 1, 0)
    k = len(T)
    count = np.zeros((k, N))
    count[0] = m - (place < m)
    return (
        np.broadcast_to(c.RZ[None, :, :, None], (k, q, q, N)),
        T[:, : q * p].reshape(k, q, p, N),
        T[:, q * p :],
        count,
    )


def _columns(grams: Floats) -> Floats:
    """Cholesky factors (k, k, N) of Gram matrices, a column of zeros where a pivot is zero."""
    diagonal = np.einsum("jjn->jn", grams)
    return semidefinite_root(grams, PIVOT_TOL * diagonal + NOISE * diagonal.max(axis=0))


def _status(
    full: Standardised, without: Stats, columns: _Columns, pairs: Pairs, options: Options
) -> Ints:
    """Why a lane cannot be fitted, as for data of its own; where the full data cannot, none can."""
    n = without.n
    X, Z = (np.moveaxis(x, -1, 0) for x in (columns.X, columns.Z))
    unidentified: Bools = (columns.G < 2) | (columns.random_rank >= n)
    for block in map(list, options.blocks):
        unidentified = unidentified | _deficient(Z[:, block][:, :, block], n)
    known = full.status[pairs.fit]
    conditions = [known != Status.CONVERGED, n <= without.rank, _deficient(X, n), unidentified]
    codes: list[Ints | Status] = [
        known,
        Status.NO_RESIDUAL_DF,
        Status.RANK_DEFICIENT,
        Status.NOT_IDENTIFIED,
    ]
    status = np.select(conditions, codes, default=int(Status.CONVERGED))
    told = identified(without, options.blocks, options.reml, status == Status.CONVERGED)
    return np.where(told, status, Status.NOT_IDENTIFIED)


def _deficient(grams: Floats, n: Floats) -> Bools:
    """Whether standardised columns, of mean square 1 over all rows, are dependent over these."""
    return np.linalg.eigvalsh(grams).min(axis=1, initial=np.inf) < RANK_TOL * n
