"""Responses on standardised model matrices: their half of the sufficient statistics.

y is replaced by the residual of its least-squares fit on X, scaled to mean square 1. Cross products
of the raw rows of a shared design give everything that is needed in one pass over y. Residual rows
are formed where nearly all of y'y lies in the fitted part, so that differences of cross products
lose digits, and where data sets have rows of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxhlm.core.notation import Array, Bools, Floats, Ints, LaneIndex
from jaxhlm.core.status import Status
from jaxhlm.design.segments import Segments
from jaxhlm.likelihood.suffstats import Stats, take_lanes
from jaxhlm.linalg.small import array_namespace
from jaxhlm.statistics.equal_groups import EqualGroups
from jaxhlm.statistics.standardise import StandardisedMatrices, scatter_groups

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = [
    "EXTREME",
    "Products",
    "Scaling",
    "Standardised",
    "at_absent",
    "concatenated",
    "expand",
    "reduce_and_split",
    "reduce_in_one_pass",
    "reduce_responses",
]

CONSTANT_TOL = 1e-13
# Sums of squares this large, or its reciprocal, leave no range for variances in floating point.
EXTREME = 1e200
# A sum of squares that is this much smaller than y'y has lost too many digits to cancellation.
CANCELLATION = 1e3
# Lanes are gone over again in tiles at fixed places, so that no result depends on its neighbours.
TILE_LANES = 64
# Group sums by matrix products from this many lanes on, by running sums below.
MANY_LANES = 16


SCALED_FIELDS = frozenset({"beta_ols", "s"})


class Scaling(NamedTuple):
    """How standardised quantities map back; b is 1 for a shared design, else B."""

    T: Float[Floats, "p p b"]  # β = T (β̃_ols + s β̃)
    C: Float[Floats, "q q b"]  # D = C D̃ C'
    n: Float[Floats, " b"]
    beta_ols: Float[Floats, "p B"]  # standardised least-squares coefficients
    s: Float[Floats, " B"]  # scale of y
    absent: Bool[Bools, "p b"]  # columns of X that are zero in all rows of a lane

    def take(self, index: LaneIndex) -> Scaling:
        """Some lanes, which may repeat; what all share stays."""
        return Scaling(*take_lanes(self, index, SCALED_FIELDS))


class Standardised(NamedTuple):
    """Standardised lanes: statistics, the inverse scaling, and lanes that cannot be fitted."""

    stats: Stats
    scaling: Scaling
    status: Int[Ints, " B"]  # Status.CONVERGED, or why this lane is not fitted

    def take(self, index: LaneIndex) -> Standardised:
        """Some lanes, which may repeat; what all share stays."""
        return Standardised(self.stats.take(index), self.scaling.take(index), self.status[index])


def concatenated(parts: Sequence[Standardised]) -> Standardised:
    """Lanes of several parts side by side, each with statistics of its own of as many groups."""
    stats, scaling, status = zip(*parts, strict=True)

    def joined(fields: Sequence[tuple[Array, ...]]) -> Iterator[Array]:
        return (np.concatenate(x, axis=-1) for x in zip(*fields, strict=True))

    return Standardised(Stats(*joined(stats)), Scaling(*joined(scaling)), np.concatenate(status))


class Products(NamedTuple):
    """Cross products of responses with a design, in the units of y."""

    fitted: Float[Floats, "p B"]  # Q_X'y
    size: Float[Floats, " B"]  # y'y
    rss: Float[Floats, " B"]  # residual sum of squares of the least-squares fit on X
    Ty: Float[Floats, "G q B"]  # Q_Z' of its residuals, of the rotated groups
    Xy: Float[Floats, "p B"]  # X_within' of its residuals
    yy: Float[Floats, " B"]  # residual sum of squares of its residuals on Q_Z
    grams: list[Float[Floats, "q q B"]]  # N of every class of equal groups


def at_absent(values: Floats, absent: Bools, value: float = np.nan) -> Floats:
    """(B, p) or (B, p, p) with a value in place of what is about absent effects (B, p)."""
    lost = absent if values.ndim == 2 else absent[:, :, None] | absent[:, None, :]
    filled: Floats = array_namespace(values).where(lost, value, values)
    return filled


def reduce_responses(matrices: StandardisedMatrices, y: Floats) -> Standardised:
    """Statistics of responses on a design.

    Args:
        matrices: the standardised model matrices.
        y: (n, B) responses of B lanes that share the design, or (n, 1) when every lane has rows of
            its own.
    """
    return reduce_and_split(matrices, y, EqualGroups.none(len(matrices.stats.TX)))[0]


# Lanes that overflow get a status instead of a warning.
@np.errstate(all="ignore")
def reduce_and_split(
    matrices: StandardisedMatrices, y: Floats, equal: EqualGroups
) -> tuple[Standardised, list[Floats]]:
    """``reduce_responses`` with T^y of the rotated groups, and N of every class of equal groups."""
    if matrices.root_w is not None:
        y = y * matrices.root_w
    products = _from_products if matrices.shared else _from_residuals
    found = products(matrices, y, equal)
    finite = np.isfinite(found.size)
    if not finite.all():
        y = np.where(np.isfinite(y), y, 0.0)
        found = products(matrices, y, equal)
    if matrices.shared:
        _repair(matrices, y, found, equal)
    return _scaled(matrices, found, finite)


def reduce_in_one_pass(
    matrices: StandardisedMatrices, y: Float[Array, "n B"], equal: EqualGroups
) -> tuple[Standardised, list[Array], Bool[Array, " B"]]:
    """``reduce_and_split`` of a shared design in one pass over y, traceable.

    Returns:
        Also which lanes (B,) are precise: of the others sums of squares are differences of large
        numbers.
    """
    xp = array_namespace(y)
    if matrices.root_w is not None:
        y = y * matrices.root_w
    finite = xp.isfinite(y).all(axis=0)
    found = _from_products(matrices, xp.where(finite, y, 0.0), equal)
    return *_scaled(matrices, found, finite), ~_cancelled(found)


def _from_products(matrices: StandardisedMatrices, y: Floats, equal: EqualGroups) -> Products:
    """One pass over the rows; the least-squares fit is taken out of the products."""
    TX, root_n = equal.rotated(matrices.stats.TX[..., 0]), np.sqrt(matrices.n)
    R, q, p = TX.shape
    TX = TX.reshape(R * q, p)
    products, inside, size = _row_products(matrices, y)
    Ty, grams = equal.split(products)
    fitted = (TX.T @ Ty.reshape(R * q, y.shape[1]) + inside) / root_n
    Ty -= (TX @ (fitted / root_n)).reshape(Ty.shape)
    rss = size - (fitted**2).sum(axis=0)
    Xy = -(TX.T @ Ty.reshape(R * q, y.shape[1]))
    einsum = array_namespace(y).einsum
    yy = rss - einsum("gql,gql->l", Ty, Ty) - sum(einsum("qql->l", N) for N in grams)
    return Products(fitted, size, rss, Ty, Xy, yy, grams)


def _row_products(
    matrices: StandardisedMatrices, y: Floats
) -> tuple[Floats, Floats | float, Floats]:
    """Q_Z'y by group (G, q, B), X_within'y (p, B) or 0, and y'y (B,)."""
    groups, QZ, q = matrices.group_segments, matrices.QZ, matrices.QZ.shape[1]
    if array_namespace(y) is not np:
        return _padded_products(groups, QZ, y), matrices.X_within.T @ y, (y * y).sum(axis=0)
    if y.shape[1] < MANY_LANES:
        Ty = np.stack([groups.sum(QZ[:, [a]] * y) for a in range(q)], axis=1)
        return Ty, matrices.X_within.T @ y, _lane_squares(matrices, y)
    Q = QZ if matrices.z_spans_x else np.concatenate([QZ, matrices.X_within], axis=1)
    Q = np.ascontiguousarray(Q.T)
    products = np.empty((len(groups.starts), len(Q), y.shape[1]))
    size = np.zeros(y.shape[1])
    for g, (start, length) in enumerate(zip(groups.starts, groups.lengths, strict=True)):
        rows = slice(start, start + length)
        np.matmul(Q[:, rows], y[rows], out=products[g])
        size += np.einsum("ij,ij->j", y[rows], y[rows])
    if matrices.z_spans_x:
        return products, 0.0, size
    return products[:, :q].copy(), products[:, q:].sum(axis=0), size


def _padded_products(groups: Segments, Q: Floats, y: Float[Array, "n B"]) -> Float[Array, "G q B"]:
    """Q'y by group, in one batched product: groups padded to the length of the longest."""
    rows = groups.starts[:, None] + np.arange(groups.lengths.max())
    there = np.arange(rows.shape[1]) < groups.lengths[:, None]
    rows = np.where(there, rows, 0)
    Q = np.where(there[:, :, None], Q[rows], 0.0)
    grouped = y.reshape(*rows.shape, -1) if there.all() else y[rows]
    return jnp.einsum("gmq,gml->gql", Q, grouped)


def _from_residuals(matrices: StandardisedMatrices, y: Floats, equal: EqualGroups) -> Products:
    """Residual rows, projected twice, so that no digits cancel."""
    size, fitted = _lane_squares(matrices, y), _project(matrices, matrices.QX, y)
    y = y - expand(matrices, fitted)
    again = _project(matrices, matrices.QX, y)
    y -= expand(matrices, again)
    rss = _lane_squares(matrices, y)
    q = matrices.QZ.shape[1]
    Ty = np.stack([matrices.group_segments.sum(matrices.QZ[:, [a]] * y) for a in range(q)], axis=1)
    for a in range(q):
        y -= matrices.QZ[:, [a]] * matrices.group_segments.broadcast(Ty[:, a])
    Ty, grams = equal.split(
        Ty if matrices.shared else scatter_groups(Ty[..., 0], *matrices.position)
    )
    Xy = _project(matrices, matrices.X_within, y)
    return Products(fitted + again, size, rss, Ty, Xy, _lane_squares(matrices, y), grams)


def _repair(matrices: StandardisedMatrices, y: Floats, found: Products, equal: EqualGroups) -> None:
    """Go over the lanes again, in place, whose sums of squares are differences of large numbers."""
    bad = _cancelled(found)
    for first in range(0, len(bad), TILE_LANES):
        tile = slice(first, first + TILE_LANES)
        if bad[tile].any():
            again = _from_residuals(matrices, y[:, tile], equal)
            pairs = zip([*found[:-1], *found.grams], [*again[:-1], *again.grams], strict=True)
            for before, after in pairs:
                before[..., tile] = np.where(bad[tile], after, before[..., tile])


def _cancelled(found: Products) -> Bools:
    """(B,) lanes whose sums of squares are differences of large numbers."""
    least: Floats = array_namespace(found.yy).minimum(found.rss, found.yy)
    return ~(least * CANCELLATION > found.size)


def _scaled(
    matrices: StandardisedMatrices, found: Products, finite: Bools
) -> tuple[Standardised, list[Floats]]:
    xp = array_namespace(found.yy)
    usable = finite & (found.rss > xp.maximum(CONSTANT_TOL**2 * found.size, 1.0 / EXTREME))
    usable &= found.size < EXTREME
    s = xp.sqrt(xp.where(usable, found.rss, 1.0) / matrices.n)
    # What X lacks comes first, then the response, then what Z lacks.
    by_x = np.isin(matrices.status, [Status.NO_RESIDUAL_DF, Status.RANK_DEFICIENT])
    fallback = np.where(by_x, matrices.status, Status.NOT_FINITE)
    status = xp.where(usable, matrices.status, xp.where(finite, fallback, Status.NOT_FINITE))
    yy = xp.where(status == Status.CONVERGED, found.yy / s**2, np.nan)
    stats = matrices.stats._replace(Ty=found.Ty / s, Xy=found.Xy / s, yy=yy)
    beta_ols = found.fitted / np.sqrt(matrices.n)
    scaling = Scaling(matrices.T, matrices.C, matrices.n, beta_ols, s, matrices.absent)
    standardised = Standardised(stats, scaling, status)
    return standardised, [N / s**2 for N in found.grams]


def _lane_squares(matrices: StandardisedMatrices, y: Floats) -> Floats:
    """Sums of squares by lane, (B,)."""
    if matrices.shared:
        return np.einsum("ij,ij->j", y, y)
    return matrices.lane_segments.sum(y**2).ravel()


def _project(matrices: StandardisedMatrices, Q: Floats, y: Floats) -> Floats:
    """Q'y lane by lane, (p, B)."""
    return Q.T @ y if matrices.shared else matrices.lane_segments.sum(Q * y).T


def expand(matrices: StandardisedMatrices, coefficients: Floats) -> Floats:
    """Q_X times (p, B) coefficients, in the layout of y."""
    if matrices.shared:
        return matrices.QX @ coefficients
    of_row = matrices.lane_segments.broadcast(coefficients.T)
    return (matrices.QX * of_row).sum(axis=1, keepdims=True)
