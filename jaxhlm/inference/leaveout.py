"""Every group left out in turn: exact refits of all of them as one batch of lanes.

A lane is the data without one group, on the standardised scale of the whole, so that only sums over
groups change. Sums over all groups but one are taken directly, never as a difference, so no digits
cancel however much a group weighs.

Groups that share R_i enter the criterion through the Gram matrix of their [T_X t_y] alone (see
``collapse``). Such a class is represented by the columns of the Cholesky factor of the Gram matrix
without the group, of which there are as many as its rank, however many groups there are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxhlm.engine.chunks import CHUNK_BYTES, in_order, lane_chunks
from jaxhlm.engine.lanes import unrollable
from jaxhlm.engine.minimum import Options
from jaxhlm.engine.rounds import FEW_LANES, solve
from jaxhlm.estimates import Estimates, estimate
from jaxhlm.notation import Bools, Floats, Ints
from jaxhlm.pipeline import Prepared, gather
from jaxhlm.rows.collapse import Class, Classes
from jaxhlm.rows.groupwise import Groupwise, LeftOver, left_over
from jaxhlm.status import Status
from jaxhlm.suffstats import Stats

__all__ = ["leave_one_out"]

# Lanes of one chunk: the engine compiles for 512, and two chunks keep two cores busy. Where all the
# work is fewer groups than this, chunks that run uncompiled take less time than compiling.
MOST_LANES = 512
UNCOMPILED = 300_000
# An uncompiled evaluation takes at least the time of this many groups.
OVERHEAD = 100
# Without one group the minimum is near: a few Newton steps from the whole's.
NEAR = 8
# A direction of X or Z that the other groups carry with less than this share is theirs no longer.
RANK_TOL = 1e-13
PIVOT_TOL = 1e-13
NOISE = 1e-28


class Whole(NamedTuple):
    """One fit with its groups: what is left out of."""

    estimates: Estimates  # one lane
    groups: Groupwise
    rest: LeftOver
    classes: Classes | None


def leave_one_out(
    prepared: Prepared, y: Floats, estimates: Estimates, options: Options
) -> Estimates:
    """Estimates (G lanes) without each group in turn, in the units of the data.

    Args:
        prepared: the design.
        y: (n,) response.
        estimates: of the whole, one lane.
        options: what was optimised.
    """
    groups = prepared.by_group(y[:, None])
    rest = left_over(prepared.group_design, groups, y[prepared.order, None])
    whole = Whole(estimates, groups, rest, prepared.classes)
    G, q, p = whole.groups.standard.stats.TX.shape[:3]
    pooled, start = _Pooled.of(whole), _start(whole, options)
    classes = [] if whole.classes is None else [_Grams.of(c, whole) for c in whole.classes.classes]
    scaling = whole.groups.standard.scaling

    def one(lanes: slice) -> Estimates:
        stats = _without(whole, pooled, classes, np.arange(G)[lanes])
        B = stats.yy.shape[-1]
        first = None if start is None else np.repeat(start, B, axis=1)
        status = _status(whole, stats, pooled, lanes, options)
        return estimate(solve(stats, options, first, NEAR), scaling, status, stats.n, options)

    count = _representatives(whole.classes, G, q, p)
    plain = options.optimizer is None and unrollable(whole.groups.standard.stats)
    most = FEW_LANES if plain and max(count, OVERHEAD) * G <= UNCOMPILED else MOST_LANES
    # At most that many, and fewer where the groups of a lane take much memory.
    lane_bytes = max(8 * count * (q * q + q * p + q + 1), CHUNK_BYTES // most)
    return gather(in_order(one, lane_chunks(G, lane_bytes)), G)


def _representatives(classes: Classes | None, G: int, q: int, p: int) -> int:
    """How many groups, at most, stand for all of them in one lane."""
    if classes is None:
        return G
    return len(classes.rest) + sum(min(len(c.groups), q * (p + 1)) for c in classes.classes)


class _Pooled(NamedTuple):
    """Sums over all groups but one, (G, …), for each one."""

    XX: Floats
    Xy: Floats
    yy: Floats
    n: Floats
    logw: Floats
    X_all: Floats  # (G, p, p) Σ X_i'X_i
    Z_all: Floats  # (G, q, q) Σ Z_i'Z_i

    @staticmethod
    def of(whole: Whole) -> _Pooled:
        stats, rest = whole.groups.standard.stats, whole.rest
        U, u = whole.groups.UX[..., 0], whole.groups.Uy[..., 0]
        TX, RZ = stats.TX[..., 0], stats.RZ[..., 0]
        XX = U.swapaxes(1, 2) @ U
        each = (
            XX,
            np.einsum("grp,gr->gp", U, u),
            rest.yy + (u**2).sum(axis=1),
            rest.n,
            rest.logw,
            XX + TX.swapaxes(1, 2) @ TX,
            RZ.swapaxes(1, 2) @ RZ,
        )
        return _Pooled(*map(_sums_without, each))


def _sums_without(values: Floats) -> Floats:
    """(G, …) sums over all but one: those before it plus those after it."""
    before, after = np.zeros_like(values), np.zeros_like(values)
    np.cumsum(values[:-1], axis=0, out=before[1:])
    after[:-1] = np.cumsum(values[:0:-1], axis=0)[::-1]
    return before + after


def _without(whole: Whole, pooled: _Pooled, classes: list[_Grams], lanes: Ints) -> Stats:
    """Statistics without the groups ``lanes``, one lane each."""
    stats = whole.groups.standard.stats
    RZ, TX, Ty = stats.RZ[..., 0], stats.TX[..., 0], stats.Ty[..., 0]
    rest = np.arange(len(RZ)) if whole.classes is None else whole.classes.rest
    there = (rest[:, None] != lanes).astype(float)
    parts = [
        (
            RZ[rest][..., None] * there[:, None, None],
            TX[rest][..., None] * there[:, None, None],
            Ty[rest][..., None] * there[:, None],
            there,
        )
    ]
    parts += [_class_without(c, TX.shape[1:], lanes) for c in classes]
    fields = [np.concatenate(part) for part in zip(*parts, strict=True)]
    sums = [np.moveaxis(x[lanes], 0, -1) for x in pooled[:5]]
    return Stats(*fields, *sums)


class _Grams(NamedTuple):
    """Gram matrices of the [T_X t_y] of one class, without each of its groups and of all."""

    RZ: Floats  # (q, q)
    grams: Floats  # (m + 1, k, k) with k = q(p + 1), the last with all
    place: Ints  # (G,) where to find the matrix without a group

    @staticmethod
    def of(c: Class, whole: Whole) -> _Grams:
        stats, m = whole.groups.standard.stats, len(c.groups)
        TX, Ty = stats.TX[c.groups, ..., 0], stats.Ty[c.groups, ..., 0]
        rows = np.concatenate([TX.reshape(m, -1), Ty], axis=1)
        products = rows[:, :, None] * rows[:, None, :]
        place = np.full(len(stats.TX), m)
        place[c.groups] = np.arange(m)
        grams = np.concatenate([_sums_without(products), products.sum(axis=0)[None]])
        return _Grams(c.RZ, grams, place)


def _class_without(
    c: _Grams, shape: tuple[int, ...], lanes: Ints
) -> tuple[Floats, Floats, Floats, Floats]:
    """R, T_X of ``shape`` (q, p), t_y and m of a class's representatives without ``lanes``."""
    q, p = shape
    m, place, B = len(c.grams) - 1, c.place[lanes], len(lanes)
    columns = _columns(c.grams[place])
    columns = columns[:, :, columns.any(axis=(0, 1))]
    k = columns.shape[2]
    count = np.zeros((k, B))
    count[0] = m - (place < m)
    T = np.moveaxis(columns, (0, 2), (-1, 0))
    return (
        np.broadcast_to(c.RZ[None, :, :, None], (k, q, q, B)),
        T[:, : q * p].reshape(k, q, p, B),
        T[:, q * p :],
        count,
    )


def _columns(grams: Floats) -> Floats:
    """Cholesky factors (B, k, k) of Gram matrices, a column of zeros where a pivot is zero."""
    left, L = grams.copy(), np.zeros_like(grams)
    diagonal = np.diagonal(grams, axis1=1, axis2=2)
    floor = PIVOT_TOL * diagonal + NOISE * diagonal.max(axis=1, keepdims=True)
    for j in range(grams.shape[1]):
        pivot = left[:, j, j]
        keep = pivot > floor[:, j]
        root = np.sqrt(np.where(keep, pivot, 1.0))
        L[:, j:, j] = np.where(keep[:, None], left[:, j:, j] / root[:, None], 0.0)
        left[:, j:, j:] -= L[:, j:, j, None] * L[:, None, j:, j]
    return L


def _start(whole: Whole, options: Options) -> Floats | None:
    """θ̃ (k, 1) of the whole fit; None, for moment estimates, on the boundary, where saddles are."""
    if whole.estimates.status[0] != Status.CONVERGED:
        return None
    return whole.estimates.theta_standard.T


def _status(whole: Whole, stats: Stats, pooled: _Pooled, lanes: slice, options: Options) -> Ints:
    """Why a lane cannot be fitted, as for data of its own."""
    G, q, p = whole.groups.standard.stats.TX.shape[:3]
    unidentified = (G - 1 < 2) | ((G - 1) * q >= stats.n)
    for block in map(list, options.blocks):
        unidentified |= _deficient(pooled.Z_all[lanes][:, block][:, :, block], stats.n)
    conditions = [stats.n <= p, _deficient(pooled.X_all[lanes], stats.n), unidentified]
    codes = [Status.NO_RESIDUAL_DF, Status.RANK_DEFICIENT, Status.NOT_IDENTIFIED]
    return np.select(conditions, [int(c) for c in codes], default=int(Status.CONVERGED))


def _deficient(grams: Floats, n: Floats) -> Bools:
    """Whether standardised columns, of mean square 1 over all rows, are dependent over these."""
    return np.linalg.eigvalsh(grams)[:, 0] < RANK_TOL * n
