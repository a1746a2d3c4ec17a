"""What each group contributes to the sums over groups in ``Stats``.

The criterion needs [X_i y_i]'(I − Q_i Q_i')[X_i y_i] only as a sum. Robust covariances and leaving
groups out need it group by group. With P_i an orthonormal basis of (I − Q_i Q_i')X_i,

    S_i = [Q_i P_i]        S_i'Z_i = [R_i; 0]        S_i'[X_i y_i] = [T_i; U_i u_i]

so that any X_i'M y_i with M a function of Z_i and X_i follows from matrices of q + rank(U_i) rows.
Where X_i lies in the span of Z_i for every group, as in many two-level designs, there is no P_i.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jaxhlm.core.notation import Floats, LaneIndex
from jaxhlm.design.segments import orthonormalise
from jaxhlm.likelihood.suffstats import take_lanes, taken
from jaxhlm.statistics.equal_groups import EqualGroups
from jaxhlm.statistics.response import Standardised, expand, reduce_responses
from jaxhlm.statistics.standardise import StandardisedMatrices, scatter_groups

__all__ = [
    "GroupContributions",
    "GroupResiduals",
    "WithinBasis",
    "reduce_by_group",
    "residual_rows",
    "within_basis",
]

# A column of X whose residual on Q_Z is this small in a group lies in the span of Q_Z.
SPAN_TOL = 1e-8


class GroupResiduals(NamedTuple):
    """Residual sum of squares, rows and weights of each group."""

    yy: Floats  # (G, B) y_i'(I − S_i S_i')y_i, standardised
    n: Floats  # (G, b) rows
    logw: Floats  # (G, b) Σ log of the prior weights


class GroupContributions(NamedTuple):
    """Standardised lanes, and what each group contributes to their statistics."""

    standardised: Standardised  # statistics that are not joined
    UX: Floats  # (G, r, p, b) P_i'X_i
    Uy: Floats  # (G, r, B)    P_i'y_i
    rest: GroupResiduals
    equal: EqualGroups | None = None  # groups that share R_i in all lanes

    def take(self, index: LaneIndex) -> GroupContributions:
        """Some lanes, which may repeat; what all share stays."""
        return GroupContributions(
            self.standardised.take(index),
            taken(self.UX, index),
            self.Uy[..., index],
            GroupResiduals(*take_lanes(self.rest, index, {"yy"})),
            self.equal,
        )


@dataclass(frozen=True)
class WithinBasis:
    """Orthonormal bases of what X has within groups beyond the span of Z.

    Attributes:
        matrices: the standardised model matrices.
        P: (n, r) columns that are orthonormal within each group, or zero, and orthogonal to Q_Z.
        UX: (G, r, p, b) P_i'X_i.
    """

    matrices: StandardisedMatrices
    P: Floats
    UX: Floats


def within_basis(matrices: StandardisedMatrices) -> WithinBasis:
    """P_i and U_i of every group; columns that are zero in all groups are left out."""
    q = matrices.QZ.shape[1]
    X = matrices.QX * matrices.lane_segments.broadcast(np.sqrt(matrices.n))[:, None]
    Q, R = orthonormalise(
        np.concatenate([matrices.QZ, X], axis=1), matrices.group_segments, SPAN_TOL
    )
    used = q + np.flatnonzero(np.diagonal(R, axis1=1, axis2=2)[:, q:].any(axis=0))
    return WithinBasis(matrices, Q[:, used], scatter_groups(R[:, used, q:], *matrices.position))


def reduce_by_group(basis: WithinBasis, y: Floats) -> GroupContributions:
    """Statistics of responses, group by group; arguments as for ``response.reduce_responses``."""
    matrices, standardised = basis.matrices, reduce_responses(basis.matrices, y)
    rows = residual_rows(matrices, standardised, y)
    u = _sums(matrices, basis.P, rows)
    rest = _group_residuals(basis, rows)
    s = standardised.scaling.s
    return GroupContributions(standardised, basis.UX, u / s, rest._replace(yy=rest.yy / s**2))


def _group_residuals(basis: WithinBasis, rows: Floats) -> GroupResiduals:
    """Residuals on Q_i and P_i of rows (n, B) or (n, 1), in the units of y."""
    matrices, groups = basis.matrices, basis.matrices.group_segments
    with np.errstate(over="ignore", invalid="ignore"):
        for column in (*matrices.QZ.T, *basis.P.T):
            rows = rows - column[:, None] * groups.broadcast(groups.sum(column[:, None] * rows))
        yy = groups.sum(rows**2)
    root_w = np.ones(len(rows)) if matrices.root_w is None else matrices.root_w[:, 0]
    logw = groups.sum(2.0 * np.log(root_w))
    if not matrices.shared:
        yy = scatter_groups(yy[:, 0], *matrices.position)
    n = groups.lengths.astype(float)
    return GroupResiduals(
        yy, scatter_groups(n, *matrices.position), scatter_groups(logw, *matrices.position)
    )


def residual_rows(matrices: StandardisedMatrices, standardised: Standardised, y: Floats) -> Floats:
    """Residuals of the least-squares fit on X, in the units of y, weighted rows."""
    y = y if matrices.root_w is None else y * matrices.root_w
    fitted = standardised.scaling.beta_ols * np.sqrt(matrices.n)
    # A response that overflows has a status; its sums may be anything.
    with np.errstate(over="ignore", invalid="ignore"):
        return y - expand(matrices, fitted)


def _sums(matrices: StandardisedMatrices, P: Floats, rows: Floats) -> Floats:
    """P_i' rows by group, (G, r, B)."""
    groups = matrices.group_segments
    if not matrices.shared:
        return scatter_groups(groups.sum(P * rows), *matrices.position)
    return groups.products(P, rows)
