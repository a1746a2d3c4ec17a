"""Sufficient statistics group by group: resampling groups without touching the rows.

Everything that a fit needs is a sum over groups, log|Ω_i| with weight m_i and products of T_i and
of the within parts. So two ways of resampling cost O(G) a data set:

* groups drawn with replacement, or left out (``reweighted``): w_i copies of group i are one group
  with m_i = w_i and √w_i T_i, exactly, since the copies share R_i and enter through w_i T_i'T_i;
* y = Xβ + v_i r_i with one factor v_i per group (``multiplied``): T_i^y is multiplied by v_i.

Groups that share R_i are joined here as well (``jaxhlm.statistics.equal_groups``). With
T_i^X = Σ_j a_ij T_j over the r rotated groups of the class, only
H = Σ w_i [a_i t_i]'[a_i t_i] counts, and the columns of its Cholesky
factor are r + q groups that stand for all: the cost of a fit is that of the design.

The columns of X and Z keep the scale of the original data; the response is regressed on X and
scaled in each data set anew. The criterion is exact because ``Scaling`` says what was done.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxhlm.core.notation import Array, Bools, Floats, Ints
from jaxhlm.core.status import Status
from jaxhlm.design.identified import group_ranks
from jaxhlm.likelihood.covariance import Blocks
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.linalg.factors import semidefinite_root
from jaxhlm.statistics.equal_groups import EqualGroups
from jaxhlm.statistics.response import CONSTANT_TOL, Scaling, Standardised
from jaxhlm.statistics.standardise import RANK_TOL, StandardisedMatrices, design_status

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["GroupStats", "group_stats", "least_squares_residual", "multiplied", "reweighted"]

# A squared residual norm below this share of the squared norm is rounding error.
ROUNDING = 1e-13


class GroupStats(NamedTuple):
    """Statistics of one response, group by group, on the columns of standardised matrices.

    The response is √w y = X̃ beta + s r, and what is kept is r.
    """

    TX: Float[Floats, "G q p"]  # Q_i'X̃_i
    Ty: Float[Floats, "G q"]  # Q_i'r_i
    XX: Float[Floats, "G p p"]  # X̃_i'(I − Q_i Q_i')X̃_i
    Xy: Float[Floats, "G p"]  # X̃_i'(I − Q_i Q_i')r_i
    yy: Float[Floats, " G"]  # r_i'(I − Q_i Q_i')r_i
    size: Float[Floats, " G"]  # y_i'W y_i
    n: Float[Floats, " G"]  # rows
    logw: Float[Floats, " G"]  # Σ log w
    beta: Float[Floats, " p"]
    s: float

    @property
    def gram(self) -> tuple[Floats, Floats, Floats]:
        """X̃_i'X̃_i (G, p, p), X̃_i'r_i (G, p) and r_i'r_i (G,)."""
        return (
            self.XX + np.einsum("gqi,gqj->gij", self.TX, self.TX),
            self.Xy + np.einsum("gqi,gq->gi", self.TX, self.Ty),
            self.yy + np.einsum("gq,gq->g", self.Ty, self.Ty),
        )


def group_stats(matrices: StandardisedMatrices, r: Floats, beta: Floats) -> GroupStats:
    """Reduce the response √w y = X̃ beta + r, group by group.

    Args:
        matrices: standardised model matrices of one lane.
        r: (n,) rows in the order of the design, multiplied by √w.
        beta: (p,) standardised coefficients that were taken out.
    """
    groups, QZ, X = matrices.group_segments, matrices.QZ, matrices.X_within
    y = r + matrices.QX @ (beta * np.sqrt(matrices.n))
    s = float(np.sqrt(np.mean(r**2))) or 1.0
    r = r / s
    Ty = np.stack([groups.sum(column * r) for column in QZ.T], axis=1)
    r = r - (QZ * groups.broadcast(Ty)).sum(axis=1)
    n = groups.lengths.astype(float)
    logw = (
        np.zeros(len(n))
        if matrices.root_w is None
        else groups.sum(2 * np.log(matrices.root_w[:, 0]))
    )
    return GroupStats(
        TX=matrices.stats.TX[..., 0],
        Ty=Ty,
        XX=groups.gram(X),
        Xy=groups.sum(X * r[:, None]),
        yy=groups.sum(r**2),
        size=groups.sum(y**2),
        n=n,
        logw=logw,
        beta=beta,
        s=s,
    )


def least_squares_residual(matrices: StandardisedMatrices, y: Floats) -> tuple[Floats, Floats]:
    """√w y less its projection on X, (n,), and the standardised coefficients (p,).

    Args:
        matrices: standardised model matrices of one lane.
        y: (n,) response in the row order of the design.
    """
    r = y if matrices.root_w is None else y * matrices.root_w[:, 0]
    fitted = np.zeros(matrices.QX.shape[1])
    # Twice is enough for full precision (Kahan's rule for Gram–Schmidt).
    for _ in range(2):
        again = matrices.QX.T @ r
        r, fitted = r - matrices.QX @ again, fitted + again
    return r, fitted / np.sqrt(matrices.n)


def reweighted(
    matrices: StandardisedMatrices,
    groups: GroupStats,
    equal: EqualGroups,
    W: Floats,
    blocks: Blocks,
) -> tuple[Standardised, list[Floats]]:
    """Standardised lanes in which group i counts W_i times, and N of every class of equal groups.

    Args:
        matrices: the standardised model matrices, one lane.
        groups: statistics of its response.
        equal: the equal groups of the design.
        W: (G, B) how often every group counts in every lane, a copy being a group of its own.
        blocks: columns of Z in each random term.
    """
    XtX, Xtr, rr = (_weighted_sum(x, W) for x in groups.gram)
    RZ, B = matrices.stats.RZ[..., 0], W.shape[1]
    ZtZ = _weighted_sum(np.einsum("gca,gcb->gab", RZ, RZ), W)
    n, p = groups.n @ W, groups.TX.shape[2]
    deficient = _dependent(XtX, matrices.T[..., 0])
    dependent = np.zeros(B, bool)
    for block in map(list, blocks):
        within = np.ix_(block, block)
        dependent |= _dependent(ZtZ[within], matrices.C[..., 0][within])
    G = W.sum(axis=0)
    status = design_status(n, p, G.astype(np.int64), group_ranks(RZ) @ W, dependent, deficient)
    delta = _solved(XtX, Xtr, deficient)
    rss = rr - (Xtr * delta).sum(axis=0)
    usable = (rss > CONSTANT_TOL**2 * (groups.size @ W) / groups.s**2) & (rss > ROUNDING * rr)
    stats, grams = _representatives(groups, RZ, equal, W)
    stats = stats._replace(
        XX=_weighted_sum(groups.XX, W),
        Xy=_weighted_sum(groups.Xy, W),
        yy=_weighted_sum(groups.yy, W),
        n=n,
        logw=groups.logw @ W,
        rank=np.broadcast_to(matrices.stats.rank, B),
    )
    T, C = (np.broadcast_to(x, (*x.shape[:2], B)) for x in (matrices.T, matrices.C))
    status = np.where(usable, status, _failed(status))
    standardised = _regressed(stats, groups, T, C, delta, rss, status)
    s = standardised.scaling.s / groups.s
    return standardised, [N / s**2 for N in grams]


def multiplied(matrices: StandardisedMatrices, groups: GroupStats, V: Floats) -> Standardised:
    """Standardised lanes √w y_i = X̃_i beta + s V_i r_i, sharing the design.

    Args:
        matrices: the standardised model matrices, one lane.
        groups: statistics of beta and r.
        V: (G, B) the factor of every group in every lane.
    """
    _, Xtr, rr = groups.gram
    size = rr @ V**2
    # X̃'X̃ = nI over all rows.
    delta = _weighted_sum(Xtr, V) / matrices.n
    rss = size - matrices.n * (delta**2).sum(axis=0)
    fallback = np.broadcast_to(_failed(matrices.status), rss.shape)
    status = np.where(rss > ROUNDING * size, matrices.status, fallback)
    stats = matrices.stats._replace(
        Ty=groups.Ty[:, :, None] * V[:, None, :],
        Xy=_weighted_sum(groups.Xy, V),
        yy=groups.yy @ V**2,
    )
    return _regressed(stats, groups, matrices.T, matrices.C, delta, rss, status)


def _regressed(
    stats: Stats, groups: GroupStats, T: Floats, C: Floats, delta: Floats, rss: Floats, status: Ints
) -> Standardised:
    """Take the fit X̃ delta out of the response and scale the rest to mean square 1."""
    B = delta.shape[1]
    s = np.sqrt(np.where(status == Status.CONVERGED, rss, stats.n) / stats.n)
    TX, XX = (np.broadcast_to(x, (*x.shape[:-1], B)) for x in (stats.TX, stats.XX))
    XX_delta = np.einsum("ijl,jl->il", XX, delta)
    Ty = stats.Ty - np.einsum("gqpl,pl->gql", TX, delta)
    yy = stats.yy - (delta * (2.0 * stats.Xy - XX_delta)).sum(axis=0)
    stats = stats._replace(
        Ty=Ty / s,
        Xy=(stats.Xy - XX_delta) / s,
        yy=np.where(status == Status.CONVERGED, yy / s**2, np.nan),
    )
    beta = groups.beta[:, None] + groups.s * delta
    absent = np.zeros((len(delta), T.shape[-1]), bool)
    return Standardised(stats, Scaling(T, C, stats.n, beta, groups.s * s, absent), status)


def _representatives(
    groups: GroupStats, RZ: Floats, equal: EqualGroups, W: Floats
) -> tuple[Stats, list[Floats]]:
    """The group fields of ``Stats`` for weights W, equal groups joined.

    Also, for every class, N (q, q, B).
    """
    rest = equal.rest
    q, B, root = groups.Ty.shape[1], W.shape[1], np.sqrt(W[rest])
    R = [np.broadcast_to(RZ[rest][..., None], (len(rest), q, q, B))]
    TX, Ty = (
        [groups.TX[rest][..., None] * root[:, None, None]],
        [groups.Ty[rest][..., None] * root[:, None]],
    )
    m, grams = [W[rest]], []
    for c in equal.classes:
        r = len(c.rotation)
        L = _class_root(np.concatenate([c.rotation.T, groups.Ty[c.groups]], axis=1), r, W[c.groups])
        R.append(np.broadcast_to(c.RZ[..., None], (r + q, q, q, B)))
        TX.append(np.einsum("ijl,iqp->jqpl", L[:r], c.TX))
        Ty.append(L[r:].swapaxes(0, 1))
        m.append(np.concatenate([W[c.groups].sum(axis=0)[None], np.zeros((r + q - 1, B))]))
        grams.append(np.einsum("ajl,bjl->abl", L[r:, r:], L[r:, r:]))
    joined = [np.concatenate(x) for x in (R, TX, Ty, m)]
    return Stats(*joined, *[None] * 6), grams


def _class_root(columns: Floats, r: int, W: Floats) -> Floats:
    """Lower triangular L (d, d, B) with L L' = Σ_i w_i c_i c_i' of the rows c_i of columns (m, d).

    The first r are orthogonal in the original data; in a lane that draws too few groups some have
    a pivot that is zero but for rounding.
    """
    H = _weighted_sum(columns[:, :, None] * columns[:, None, :], W)
    floors = ROUNDING * np.einsum("jjl->jl", H)
    floors[r:] = 0.0
    return semidefinite_root(H, floors)


def _weighted_sum(values: Floats, W: Floats) -> Floats:
    """Σ_i W_i values_i, (G, …) to (…, B)."""
    out: Floats = values.reshape(len(W), math.prod(values.shape[1:])).T @ W
    return out.reshape(*values.shape[1:], W.shape[1])


def _dependent(gram: Floats, T: Floats) -> Bools:
    """Whether a column depends on those before it, as ``orthonormalise`` decides it, (B,).

    Args:
        gram: (k, k, B) cross products of the standardised columns.
        T: (k, k) upper triangular; the columns in the user's units are those times T⁻¹.
    """
    k = len(gram)
    if k == 0:
        return np.zeros(gram.shape[-1], bool)
    inverse = np.linalg.inv(T)
    norms = np.einsum("ai,abl,bi->il", inverse, gram, inverse)
    L = semidefinite_root(gram, ROUNDING * np.einsum("jjl->jl", gram))
    pivots = np.einsum("jjl->jl", L)
    residual = (pivots * np.diagonal(inverse)[:, None]) ** 2
    dependent: Bools = ((pivots == 0.0) | (residual <= RANK_TOL**2 * norms)).any(axis=0)
    return dependent


def _solved(A: Floats, b: Floats, deficient: Bools) -> Floats:
    """A⁻¹b lane by lane, (p, p, B) and (p, B) to (p, B); zero where A is deficient."""
    A = np.where(deficient[:, None, None], np.eye(len(b)), np.moveaxis(A, -1, 0))
    x: Array = np.linalg.solve(A, b.T[..., None])[..., 0].T
    return np.where(deficient, 0.0, x)


def _failed(status: Ints) -> Ints:
    """The status of lanes whose response cannot be fitted, if nothing else is wrong."""
    return np.where(status == Status.CONVERGED, Status.NOT_FINITE, status)
