"""Rows to sufficient statistics on a common scale, in NumPy.

Columns in wild units (x around 1e5, y around 1e-4) lose digits in cross products. So, lane by lane:

* X is replaced by orthogonal columns, X = √n Q_X T⁻¹;
* y by the residual of its least-squares fit on X, scaled to mean square 1;
* Z, within each covariance block, by columns that are orthogonal over all rows with mean square 1,
  Z̃ = Z C, so that b̃ = C⁻¹b and D = C D̃ C'. A block of one column is only scaled.

A column of X that is zero in all rows of a lane, as where a data set has no row of some level of a
factor, is absent from that lane: X̃ has zeros in its place, X̃'X̃ a diagonal entry n that stands by
itself, T a row and a column of its own, so that its β̃ is 0 and all else is as if the column had
never been there.

The criterion changes by a constant, known from ``Scaling``. Prior weights scale the rows by
√w. All factorisations are Gram–Schmidt run twice, vectorised over lanes and groups as segments of
the rows, which are sorted by lane and group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jaxhlm.core.chunks import on_one_blas_thread
from jaxhlm.core.notation import Bools, Floats, Ints
from jaxhlm.core.status import Status
from jaxhlm.design.identified import GROUP_RANK_TOL, group_ranks
from jaxhlm.design.segments import Segments, orthonormalise
from jaxhlm.likelihood.covariance import Blocks
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.linalg.small import array_namespace

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from jaxhlm.core.notation import Array

__all__ = [
    "RANK_TOL",
    "Rows",
    "StandardisedMatrices",
    "absent_squares",
    "design_status",
    "group_numbers",
    "scatter_groups",
    "standardise_matrices",
]

RANK_TOL = 1e-7  # as lmer's: a fixed-effects column this close to the others is dependent
# Columns of Z, of mean square 1, that are this small in a group are zero, but for rounding.
NOTHING = 1e-10
WITHIN_TOL = 1e-18  # relative to the squared size of X, whose columns have mean square 1


@dataclass(frozen=True)
class Rows:
    """Rows of one or many lanes, sorted by lane, then group.

    Attributes:
        X: (n, p) fixed-effects matrix.
        Z: (n, q) random-effects matrix.
        segment: (n,) running number of the (lane, group) pair of every row, non-decreasing.
        lane: (n,) lane of every row, non-decreasing.
        weights: (n,) prior weights, or None.
        blocks: columns of Z in each random term.
    """

    X: Floats
    Z: Floats
    segment: Ints
    lane: Ints
    weights: Floats | None
    blocks: Blocks


@dataclass(frozen=True)
class StandardisedMatrices:
    """Standardised model matrices, and their half of the statistics, ready to meet responses.

    Attributes:
        root_w: (n, 1) square roots of the weights, or None.
        QX: (n, p) orthonormal columns of X within each lane.
        QZ: (n, q) orthonormal columns of Z within each group.
        X_within: (n, p) standardised X less its projection on Q_Z.
        stats: statistics; the response fields hold nothing yet.
        T: (p, p, b), C: (q, q, b): β = T β̃ and D = C D̃ C'.
        n: (b,) rows of each lane.
        absent: (p, b) columns of X that are zero in all rows of a lane.
        status: (b,) Status.CONVERGED, or why these lanes cannot be fitted.
        lane_segments: rows of each lane.
        group_segments: rows of each (lane, group) pair.
        position: (S,), (S,) group number within its lane, and lane, of every pair.
    """

    root_w: Floats | None
    QX: Floats
    QZ: Floats
    X_within: Floats
    stats: Stats
    T: Floats
    C: Floats
    n: Floats
    absent: Bools
    status: Ints
    lane_segments: Segments
    group_segments: Segments
    position: tuple[Ints, Ints]

    @property
    def shared(self) -> bool:
        """Whether all lanes share one X and one Z."""
        return len(self.n) == 1

    @property
    def z_spans_x(self) -> bool:
        """Whether Z spans all of X within groups, as in two-level designs such as ``x * a``."""
        return bool(np.abs(self.stats.XX).max(initial=0.0) <= WITHIN_TOL * self.n.max() ** 2)


@on_one_blas_thread
def standardise_matrices(rows: Rows) -> StandardisedMatrices:
    """Orthogonalise and scale the columns of X and Z and reduce them to statistics."""
    lane_segments, group_segments = Segments(rows.lane), Segments(rows.segment)
    X, Z, root_w = rows.X, rows.Z, None
    log_w = np.zeros(len(lane_segments.starts))
    if rows.weights is not None:
        root_w = np.sqrt(rows.weights)[:, None]
        X, Z = X * root_w, Z * root_w
        log_w = lane_segments.sum(np.log(rows.weights))
    n = lane_segments.lengths.astype(float)
    root_n = np.sqrt(n)
    absent = ~lane_segments.any(X != 0.0)
    rank = X.shape[1] - absent.sum(axis=1, dtype=float)
    QX, RX = orthonormalise(X, lane_segments, RANK_TOL)
    Z, C = _scale_random(Z, rows.blocks, lane_segments, root_n)
    QZ, RZ = orthonormalise(Z, group_segments, GROUP_RANK_TOL, NOTHING)
    X = QX * lane_segments.broadcast(root_n)[:, None]
    TX = np.stack([group_segments.sum(QZ[:, [a]] * X) for a in range(Z.shape[1])], axis=1)
    X_within = X - sum(QZ[:, [a]] * group_segments.broadcast(TX[:, a]) for a in range(Z.shape[1]))
    lane_of_group = lane_segments.of_row[group_segments.starts]
    G, position = np.bincount(lane_of_group), group_numbers(lane_of_group)
    stats = Stats(
        RZ=scatter_groups(RZ, *position),
        TX=scatter_groups(TX, *position),
        Ty=None,
        m=scatter_groups(np.ones(len(lane_of_group)), *position),
        XX=np.moveaxis(lane_segments.gram(X_within), 0, -1) + absent_squares(absent.T, n),
        Xy=None,
        yy=None,
        n=n,
        logw=log_w,
        rank=rank,
    )
    random_rank = np.bincount(lane_of_group, group_ranks(RZ))
    deficient = ((np.diagonal(RX, axis1=1, axis2=2) == 0.0) & ~absent).any(axis=1)
    status = design_status(n, rank, G, random_rank, np.isnan(C).any(axis=(0, 1)), deficient)
    T = np.moveaxis(_scaled_inverse(RX + np.eye(len(absent.T)) * absent[:, None], root_n), 0, -1)
    return StandardisedMatrices(
        root_w, QX, QZ, X_within, stats, T, C, n, absent.T, status,
        lane_segments, group_segments, position,
    )  # fmt: skip


def absent_squares(absent: Bools, n: Floats) -> Floats:
    """What stands in X̃'X̃ for absent columns, (p, p, b): n on the diagonal."""
    return np.eye(len(absent))[..., None] * absent * n


def _scale_random(
    Z: Floats, blocks: Blocks, lane_segments: Segments, root_n: Floats
) -> tuple[Floats, Floats]:
    """Z̃ = Z C (n, q) and C (q, q, b); NaN in C where columns are dependent."""
    scaled = np.empty_like(Z, dtype=float)
    C = np.zeros((Z.shape[1], Z.shape[1], len(root_n)))
    for block in blocks:
        Q, R = orthonormalise(Z[:, block], lane_segments, RANK_TOL)
        scaled[:, block] = Q * lane_segments.broadcast(root_n)[:, None]
        inverse = _scaled_inverse(R, root_n)
        C[np.ix_(block, block)] = np.moveaxis(inverse, 0, -1)
    return scaled, C


def _scaled_inverse(R: Floats, root_n: Floats) -> Floats:
    """√n R⁻¹ (b, k, k); NaN where R is singular."""
    singular = (np.diagonal(R, axis1=1, axis2=2) == 0.0).any(axis=1)
    inverse = np.linalg.inv(np.where(singular[:, None, None], np.eye(R.shape[1]), R))
    return np.where(singular[:, None, None], np.nan, inverse * root_n[:, None, None])


def design_status(
    n: Floats,
    rank: Float[Array, " b"] | int,
    G: Ints,
    random_rank: Bool[Array, " b"],
    dependent: Bool[Array, " b"],
    deficient: Bool[Array, " b"],
) -> Ints:
    """(b,) Status.CONVERGED, or why a lane cannot be fitted, as far as Z alone and X alone tell.

    Args:
        n: (b,) rows, and G: (b,) groups of every lane.
        rank: rank of X.
        random_rank: (b,) dimensions of the random effects, Σ rank Z_i.
        dependent: (b,) lanes where a random term has columns that others of it determine.
        deficient: (b,) lanes where columns of X depend on others.
    """
    unidentified = (G < 2) | (random_rank >= n) | dependent
    conditions = [n <= rank, deficient, unidentified]
    codes = [Status.NO_RESIDUAL_DF, Status.RANK_DEFICIENT, Status.NOT_IDENTIFIED]
    return array_namespace(n).select(
        conditions, [int(c) for c in codes], default=int(Status.CONVERGED)
    )


def group_numbers(lane: Ints) -> tuple[Ints, Ints]:
    """(S,) number within its lane of every group, and its lane, of the non-decreasing lanes."""
    G = np.bincount(lane)
    return np.arange(len(lane)) - np.repeat(np.cumsum(G) - G, G), lane


def scatter_groups(values: Floats, number: Ints, lane: Ints) -> Floats:
    """(S, …) to (G, …, b) with zeros where a lane has fewer groups: padding that adds nothing."""
    out = np.zeros((number.max() + 1, *values.shape[1:], lane.max() + 1))
    out[number, ..., lane] = values
    return out
