"""Cluster-robust covariance of the fixed effects, from the statistics of single groups.

With e_i = y_i − X_iβ̂, the working V_i of the fit and M = (Σ X_i'V_i⁻¹X_i)⁻¹,

    Var(β̂) = M [Σ X_i'V_i⁻¹A_i e_i e_i'A_i'V_i⁻¹X_i] M

is consistent whatever the covariance of y_i is, as the number of groups grows (Liang & Zeger 1986).

* CR0: A_i = I.
* CR1: CR0 × G/(G − 1).
* CR2: A_i = C_i [C_i'(V_i − X_i M X_i')C_i]^(−1/2) C_i', where V_i = C_iC_i', makes the estimate
  unbiased when V_i is right (Bell & McCaffrey 2002; Pustejovsky & Tipton 2018). The root is
  symmetric, and the inverse that of Moore and Penrose.

V_i is the identity outside the span S_i of [Z_i X_i], so A_i is too, and everything happens in that
span: with S_i'V_iS_i = LL', K = L'L, and X̌ = L⁻¹S_i'X_i, ě = L⁻¹S_i'e_i,

    X_i'V_i⁻¹A_i e_i = E'ě,      E = K [K (I − X̌MX̌') K]^(−1/2) X̌  (CR2),   E = X̌  (CR0)

Tests of c'β̂ use Satterthwaite's df for the quadratic form c'Var(β̂)c = Σ (a_i'e_i)², whose terms
have under the working model the covariance P_ij = δ_ij d_i − h_i'Mh_j, where d_i = |E M c|² and
h_i = X̌'E M c (Bell & McCaffrey 2002, whose case is V = I):

    df = (tr P)²/tr(P²)

Clusters may be larger than groups and made of whole groups: V is block diagonal in them, and all of
the above holds with i a cluster and S_i, L and K those of its groups side by side.

A group without which a coefficient is not estimable has residuals that are zero, whatever y is, in
the very direction that the coefficient is read from. Where no other group takes part the sandwich
is exactly zero, and what rounding leaves of it no number: such coefficients have NaN. What the
others add, where they do, is far too small (for one treated group: MacKinnon & Webb 2018, Econom.
J. 21, 114-135); it is given as clubSandwich gives it, and marked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

from jaxhlm.core.chunks import lane_chunks
from jaxhlm.core.notation import Bools, Floats, Ints
from jaxhlm.estimation.estimates import Estimates
from jaxhlm.likelihood.covariance import Blocks, lambda_of
from jaxhlm.likelihood.suffstats import taken
from jaxhlm.likelihood.whitened import lanes_first, whitened
from jaxhlm.statistics.group_contributions import GroupContributions
from jaxhlm.statistics.standardise import absent_squares

__all__ = [
    "Robust",
    "RobustKind",
    "Sandwich",
    "covariance",
    "robust_covariance",
    "runs_of",
    "sandwich",
]

RobustKind = Literal["CR0", "CR1", "CR2"]

# An eigenvalue this small beside that without the fit is zero: the group determines a direction.
EIGEN_TOL = 1e-10
# A leverage this close to 1 is 1; so is a share this large of a coefficient's variance that the
# group brings in along that direction no rounding.
ALONE = 1e-8
# A sandwich expected to be this share of the model's variance is rounding: its df, quotients of
# its squares, have lost ten of sixteen digits.
ROUNDED = 1e-3


class Robust(NamedTuple):
    """Robust inference on the fixed effects of B fits.

    NaN where a fit failed, and for coefficients whose sandwich is zero whatever y is.
    """

    vcov: Floats  # (B, p, p)
    df: Floats  # (B, p) Satterthwaite's df of single coefficients
    one_group: Bools  # (B, p) coefficients that are not estimable without one of the groups


class Sandwich(NamedTuple):
    """What sandwich estimates of B fits are made of, J clusters at most; see the module."""

    X: Floats  # (B, J, s, p) X̌ of every cluster
    E: Floats  # (B, J, s, p)
    M: Floats  # (B, p, p)
    MT: Floats  # (B, p, p) MT', β = Tβ̃
    half: Floats  # (B, J, p) what every cluster moves β̂ by, in units of y
    clusters: Floats  # (B,)
    ok: Bools  # (B,) fits that did not fail


@np.errstate(all="ignore")
def robust_covariance(
    estimates: Estimates,
    groups: GroupContributions,
    blocks: Blocks,
    kind: RobustKind,
    clusters: Ints | None = None,
) -> Robust:
    """Sandwich covariances and the df of single coefficients, for B fits.

    Args:
        estimates: estimates of B fits.
        groups: their standardised statistics, group by group.
        blocks: columns of Z in each random term.
        kind: which correction.
        clusters: (G, b) numbers of the clusters that the groups lie in, −1 for padding, b being B
            or 1; every group is a cluster if None.
    """
    parts = [
        _robust(sandwich(estimates[run], some, blocks, kind, of), kind)
        for run, some, of in runs_of(estimates, groups, clusters)
    ]
    return Robust(*(np.concatenate(field) for field in zip(*parts, strict=True)))


def runs_of(
    estimates: Estimates, groups: GroupContributions, clusters: Ints | None
) -> Iterator[tuple[slice, GroupContributions, Ints | None]]:
    """Runs of fits whose sandwiches are in memory together, with their groups and clusters."""
    G, q, p = groups.standardised.stats.TX.shape[:3]
    s, J = q + groups.UX.shape[1], G
    if clusters is not None:
        J, most = _sizes(clusters)
        s *= most
    for run in lane_chunks(len(estimates.sigma), 8 * J * (6 * s * s + 6 * s * p)):
        yield run, groups.take(run), None if clusters is None else taken(clusters, run)


def sandwich(
    e: Estimates,
    groups: GroupContributions,
    blocks: Blocks,
    kind: RobustKind,
    clusters: Ints | None,
) -> Sandwich:
    """The parts, arguments as for ``robust_covariance``."""
    stats, scaling = groups.standardised.stats, groups.standardised.scaling
    ok = e.known
    T = _usable(_first(scaling.T), ok)
    Lambda = lambda_of(np.where(ok[:, None], e.theta_standard, 0.0).T, blocks)
    beta = np.linalg.solve(T, np.where(ok[:, None], e.beta, 0.0)[..., None])[..., 0]
    step = (beta - scaling.beta_ols.T) / scaling.s[:, None]
    X, error, L = _whitened(groups, Lambda, step)
    A = _sum_of_products(X, X) + _first(absent_squares(scaling.absent, stats.n))
    M = np.asarray(np.linalg.inv(_usable(A, ok)), dtype=float)
    K = _roots(L, X.shape[2]) if kind == "CR2" else None
    count = np.broadcast_to(stats.m.sum(axis=0), ok.shape)
    if clusters is not None:
        X, error, K = _joined(X, error, K, np.broadcast_to(clusters, (len(stats.m), len(ok))))
        count = np.broadcast_to(clusters.max(axis=0) + 1.0, ok.shape)
    E = X if K is None else _adjusted(X, K, M)
    score = (E.swapaxes(-1, -2) @ error[..., None])[..., 0]
    MT = M @ T.swapaxes(-1, -2)
    return Sandwich(X, E, M, MT, scaling.s[:, None, None] * (score @ MT), count, ok)


def covariance(parts: Sandwich, kind: RobustKind) -> Floats:
    """(B, p, p) sandwich covariances."""
    vcov = parts.half.swapaxes(-1, -2) @ parts.half
    vcov = np.where((parts.clusters > 1.0)[:, None, None], vcov, np.nan)
    if kind == "CR1":
        vcov = vcov * (parts.clusters / (parts.clusters - 1.0))[:, None, None]
    return np.asarray(vcov)


def _robust(parts: Sandwich, kind: RobustKind) -> Robust:
    X, E, M, MT, _, _, ok = parts
    one_group = _needs_one_group(X, M, MT)
    there = ok[:, None] & ~(one_group & _all_zero(X, M, MT))
    df = _satterthwaite(X, E, M, MT)
    both = there[:, :, None] & there[:, None]
    vcov, df = np.where(both, covariance(parts, kind), np.nan), np.where(there, df, np.nan)
    return Robust(vcov, df, one_group & ok[:, None])


def _sizes(clusters: Ints) -> tuple[int, int]:
    """How many clusters there are, and groups in one, at most."""
    J = int(clusters.max()) + 1
    at = (clusters + np.arange(clusters.shape[1]) * J)[clusters >= 0]
    return J, int(np.bincount(at).max())


def _joined(
    X: Floats, error: Floats, K: Floats | None, clusters: Ints
) -> tuple[Floats, Floats, Floats | None]:
    """The rows of groups (B, G, s, …) as rows of clusters (B, J, m s, …), padded with zeros.

    Args:
        X: (B, G, s, p), error: (B, G, s), K: (B, G, s, s) or None.
        clusters: (G, B) numbers of the clusters.
    """
    B, _, s, p = X.shape
    J, most = _sizes(clusters)
    lane, group = np.nonzero(clusters.T >= 0)
    own = clusters[group, lane]
    order = np.lexsort((group, own, lane))
    lane, group, own = lane[order], group[order], own[order]
    first = np.searchsorted(lane * J + own, lane * J + own)
    place = np.arange(len(own)) - first
    rows = np.zeros((B, J, most, s, p))
    errors = np.zeros((B, J, most, s))
    rows[lane, own, place], errors[lane, own, place] = X[lane, group], error[lane, group]
    if K is not None:
        blocks = np.zeros((B, J, most, s, most, s))
        blocks[:, :, np.arange(most), :, np.arange(most)] = np.eye(s)
        blocks[lane, own, place, :, place] = K[lane, group]
        K = blocks.reshape(B, J, most * s, most * s)
    return rows.reshape(B, J, most * s, p), errors.reshape(B, J, most * s), K


def _all_zero(X: Floats, M: Floats, MT: Floats) -> Bools:
    """Coefficients whose sandwich the working model expects to be next to zero, (B, p)."""
    d, _, _, hMh = _terms(X, X, M, MT)
    return (d - hMh).sum(axis=1) <= ROUNDED * d.sum(axis=1)


def _needs_one_group(X: Floats, M: Floats, MT: Floats) -> Bools:
    """Coefficients that are not estimable without some group, (B, p).

    Those are the ones that depend on a direction u with X̌MX̌'u = u. There can be one only where
    tr X̌MX̌', of which all groups together have p, is 1 or more.
    """
    lane, group = np.nonzero(((X @ M[:, None]) * X).sum(axis=(2, 3)) > 1.0 - ALONE)
    X = X[lane, group]
    leverages, u = np.linalg.eigh(X @ M[lane] @ X.mT)
    u = u * (leverages > 1.0 - ALONE)[:, None]
    found = np.zeros(MT.shape[:2], bool)
    brought = ((u.mT @ X @ MT[lane]) ** 2).sum(axis=1)
    variance = np.einsum("bip,bij,bjp->bp", MT, np.linalg.inv(M), MT)
    np.logical_or.at(found, lane, brought > ALONE * variance[lane])
    return found


def _whitened(
    groups: GroupContributions, Lambda: Floats, step: Floats
) -> tuple[Floats, Floats, Floats]:
    """X̌ (B, G, s, p), ě (B, G, s) and the Cholesky factors L of Ω (B, G, q, q)."""
    L, _, X, y = map(lanes_first, whitened(np.moveaxis(Lambda, 0, -1), groups.standardised.stats))
    UX = np.broadcast_to(_first(groups.UX), (len(X), *groups.UX.shape[:3]))
    X, y = np.concatenate([X, UX], axis=2), np.concatenate([y, _first(groups.Uy)], axis=2)
    return X, y - (X @ step[:, None, :, None])[..., 0], L


def _roots(L: Floats, s: int) -> Floats:
    """K = L'L of every group, the identity beyond its span of Z, (B, G, s, s)."""
    q = L.shape[-1]
    K = np.broadcast_to(np.eye(s), (*L.shape[:2], s, s)).copy()
    K[..., :q, :q] = L.swapaxes(-1, -2) @ L
    return K


def _adjusted(X: Floats, K: Floats, M: Floats) -> Floats:
    """E = K [K (I − X̌MX̌') K]^(−1/2) X̌ of every cluster."""
    KX = K @ X
    inner = K @ K - KX @ M[:, None] @ KX.swapaxes(-1, -2)
    size = np.einsum("...aa->...", K @ K)
    return np.asarray(K @ (_inverse_root(inner, EIGEN_TOL * size) @ X))


def _inverse_root(S: Floats, smallest: Floats) -> Floats:
    """Moore–Penrose inverse square roots (…, s, s); eigenvalues up to ``smallest`` are zero."""
    values, vectors = np.linalg.eigh(S)
    keep = values > smallest[..., None]
    scale = np.where(keep, 1.0 / np.sqrt(np.where(keep, values, 1.0)), 0.0)
    return (vectors * scale[..., None, :]) @ vectors.swapaxes(-1, -2)


def _satterthwaite(X: Floats, E: Floats, M: Floats, MT: Floats) -> Floats:
    """(tr P)²/tr(P²) for every coefficient, (B, p)."""
    d, h, Mh, hMh = _terms(X, E, M, MT)
    # tr(M H M H) with H = Σ h h' of one coefficient.
    MH = np.einsum("bgik,bgjk->bkij", Mh, h)
    square = (MH * MH.swapaxes(-1, -2)).sum(axis=(-1, -2))
    trace = (d - hMh).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return trace**2 / ((d**2 - 2.0 * d * hMh).sum(axis=1) + square)


def _terms(X: Floats, E: Floats, M: Floats, MT: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """d (B, G, p), h and Mh (B, G, p, p), and h'Mh of every group and coefficient."""
    a = E @ MT[:, None]
    h = X.swapaxes(-1, -2) @ a
    Mh = M[:, None] @ h
    return (a**2).sum(axis=2), h, Mh, (h * Mh).sum(axis=2)


def _sum_of_products(A: Floats, B: Floats) -> Floats:
    """Σ_i A_i'B_i of every lane."""
    num_lanes, G, s = A.shape[:3]
    A, B = A.reshape(num_lanes, G * s, -1), B.reshape(num_lanes, G * s, -1)
    return A.swapaxes(-1, -2) @ B


def _usable(A: Floats, ok: Bools) -> Floats:
    """Square matrices (b, k, k), the identity in lanes that failed, where they may be singular."""
    return np.where(ok[:, None, None], A, np.eye(A.shape[-1]))


def _first(x: Floats) -> Floats:
    """The last axis of lanes brought to the front."""
    return np.moveaxis(x, -1, 0)
