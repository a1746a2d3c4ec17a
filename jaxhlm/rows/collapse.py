"""Groups with the same Z_i'Z_i count once: an evaluation costs O(distinct groups).

The criterion sees groups that share R_i only through Σ_i T_i'Ω⁻¹T_i, which a rotation across those
groups leaves alone. Rotate so that the first r of them carry all of T^X (r is its rank over the
groups, 2 for the article's design whatever G is); the rest enter only through the q×q matrix
N = Σ t_i t_i' of their responses, so q groups with the columns of its Cholesky factor stand for
them. m groups become r + q, exactly; log|Ω| is weighed by m.

When there is one class and X is the product of Z with group-level predictors (balanced two-level
designs), β̂ does not depend on Ω and the minimum is known in closed form (``balanced_start``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxhlm.covariance import Blocks, block_of, factor, theta_of
from jaxhlm.engine.chunks import as_slice
from jaxhlm.engine.small import entries
from jaxhlm.factors import orthonormal_basis
from jaxhlm.notation import Floats, Ints
from jaxhlm.suffstats import Stats

__all__ = [
    "Class",
    "Classes",
    "Rotated",
    "balanced_start",
    "collapse",
    "collapsed_design",
    "find_classes",
    "rotate",
    "rotated_parts",
    "turned",
    "turned_TX",
]

Rotated = list[tuple[Floats, Floats]]

SAME_R = 1e-11
RANK_TOL = 1e-10


@dataclass(frozen=True)
class Class:
    """Groups that share R_i.

    Attributes:
        groups: (m,) which.
        rotation: (r, m) orthonormal rows that span T^X over the groups.
        RZ: (q, q) the common R.
        TX: (r, q, p) rotated T^X.
    """

    groups: Ints
    rotation: Floats
    RZ: Floats
    TX: Floats


@dataclass(frozen=True)
class Classes:
    """How the groups of a design collapse.

    Attributes:
        classes: those worth collapsing.
        rest: (…,) groups left as they are.
        balanced: there is one class and X is a product of Z with group-level predictors.
    """

    classes: tuple[Class, ...]
    rest: Ints
    balanced: bool


def find_classes(stats: Stats, within_reach: bool) -> Classes | None:
    """The classes of a shared design, or None when collapsing would not save anything.

    Args:
        stats: statistics of the design.
        within_reach: whether Q_Z reaches all of X.
    """
    RZ, TX = stats.RZ[..., 0], stats.TX[..., 0]
    G, q, p = TX.shape
    label = _alike((RZ / np.abs(RZ).max()).reshape(G, -1))
    classes = []
    for c in np.flatnonzero(np.bincount(label) > q + 1):
        groups = np.flatnonzero(label == c)
        rotation = orthonormal_basis(TX[groups].reshape(len(groups), q * p), RANK_TOL)
        if len(rotation) + q < len(groups):
            rotated = np.einsum("rm,mqp->rqp", rotation, TX[groups])
            classes.append(Class(groups, rotation, RZ[groups[0]], rotated))
    if not classes:
        return None
    collapsed = np.concatenate([c.groups for c in classes])
    rest = np.setdiff1d(np.arange(G), collapsed)
    full = np.linalg.matrix_rank(RZ[0]) == q
    balanced = len(rest) == 0 and len(classes) == 1 and within_reach and full
    balanced = bool(balanced and p == q * len(classes[0].rotation))
    return Classes(tuple(classes), rest, balanced)


def rotate(stats: Stats, classes: Classes) -> Rotated:
    """N (q, q, B) and the rotated responses (r, q, B) of every class."""
    return [_rotated(stats.Ty[c.groups], c.rotation) for c in classes.classes]


def turned_TX(stats: Stats, classes: Classes) -> Floats:
    """T^X (R, q, p) of the rest, then of the groups of every class that carry it."""
    return np.concatenate([stats.TX[classes.rest, ..., 0], *(c.TX for c in classes.classes)])


def turned(Ty: Floats, classes: Classes) -> tuple[Floats, list[Floats]]:
    """T^y (R, q, B) of the same groups, and N (q, q, B) of the others of every class.

    N is taken as a difference, to read all of T^y once.
    """
    rows, spread = [Ty[classes.rest]], []
    for c in classes.classes:
        T = Ty[as_slice(c.groups)]
        carried = _carried(T, c.rotation)
        rows.append(carried)
        spread.append(_gram(T) - _gram(carried))
    return np.concatenate(rows), spread


def rotated_parts(Ty: Floats, classes: Classes, spread: list[Floats]) -> tuple[Floats, Rotated]:
    """What ``turned`` returned as the rest (…, q, B) and ``rotate``'s part."""
    at, rotated = len(classes.rest), []
    for c, N in zip(classes.classes, spread, strict=True):
        rotated.append((N, Ty[at : at + len(c.rotation)]))
        at += len(c.rotation)
    return Ty[: len(classes.rest)], rotated


def collapse(stats: Stats, classes: Classes, rest: Floats, rotated: Rotated) -> Stats:
    """Statistics with every class replaced by its r + q representatives.

    Args:
        stats: statistics of the design.
        classes: its classes.
        rest: (…, q, B) T^y of the groups in none of them.
        rotated: N and the rotated responses of every class.
    """
    q, Ty = stats.TX.shape[1], [rest]
    for spread, carried in rotated:
        root = factor(entries(spread, 2), block_of(q), [0.0] * q, np)
        columns = np.zeros((q, q, spread.shape[-1]))
        for a, j in zip(*np.tril_indices(q), strict=True):
            columns[j, a] = root[a, j]
        Ty += [carried, columns]
    return collapsed_design(stats, classes)._replace(Ty=np.concatenate(Ty))


def collapsed_design(stats: Stats, classes: Classes) -> Stats:
    """The design half of ``collapse``: the rest, then r + q groups for every class."""
    rest, (q, p) = classes.rest, stats.TX.shape[1:3]
    RZ, TX, m = [stats.RZ[rest]], [stats.TX[rest]], [stats.m[rest]]
    for c in classes.classes:
        count = len(c.rotation) + q
        RZ.append(np.broadcast_to(c.RZ[None, :, :, None], (count, q, q, 1)))
        TX.append(np.concatenate([c.TX, np.zeros((q, q, p))])[..., None])
        m.append(np.r_[float(len(c.groups)), np.zeros(count - 1)][:, None])
    return stats._replace(RZ=np.concatenate(RZ), TX=np.concatenate(TX), m=np.concatenate(m))


def balanced_start(
    stats: Stats, classes: Classes, rotated: Rotated, reml: bool, blocks: Blocks
) -> Floats | None:
    """The minimiser θ (k, B) of a balanced design in closed form, else None.

    With Ω̂ = σ̂²Ω the covariance of T_i, the criterion is ν_b log|Ω̂| + tr(Ω̂⁻¹N) + ν_w log σ² + yy/σ²
    with ν_b = G − r (REML) or G, ν_w = n − Gq and Ω̂ − σ²I positive semi-definite. Its minimum has
    the eigenvectors of N, with eigenvalues λ_j/ν_b where those exceed σ² and σ² where they do not,
    and σ² pools yy with the latter (Calvin & Dykstra 1991, Ann. Statist. 19, 850-869).

    Args:
        stats: statistics of the lanes, collapsed or not.
        classes: of the same design.
        rotated: their rotated responses.
        reml: REML criterion instead of ML deviance.
        blocks: columns of Z in each random term.
    """
    if not classes.balanced or len(blocks) > 1:
        return None
    only = classes.classes[0]
    G, r, q = len(only.groups), len(only.rotation), stats.TX.shape[1]
    spread = rotated[0][0]
    values, vectors = _eigen(np.moveaxis(spread, -1, 0))
    between = float(G - r if reml else G)
    within, pooled = stats.n - G * q, np.zeros(len(values))
    sigma2 = stats.yy / within
    for j in range(q):
        low = values[:, j] / between < sigma2
        pooled = np.where(low, pooled + values[:, j], pooled)
        count = low * (j + 1.0)
        sigma2 = np.where(low, (stats.yy + pooled) / (within + between * count), sigma2)
    ratio = np.maximum(values / between / sigma2[:, None] - 1.0, 0.0)
    root = np.einsum("ab,lbj->ajl", np.linalg.inv(only.RZ), vectors * np.sqrt(ratio)[:, None, :])
    D = np.einsum("ajl,bjl->abl", root, root)
    floors = [np.where((ratio == 0.0).any(axis=1), 1e-12 * D[j, j], 0.0) for j in range(q)]
    return theta_of(factor(entries(D, 2), blocks, floors, np), blocks)


def _alike(M: Floats) -> Ints:
    """(G,) numbers of the sets of rows of M that are equal to rounding, in increasing order.

    Values belong together up to the next gap: digits rounded away would part some that are equal.
    """
    label = np.zeros(len(M), np.int64)
    for x in M.T:
        order = np.argsort(x, kind="stable")
        number = np.empty(len(x), np.int64)
        number[order] = np.r_[0, np.cumsum(np.diff(x[order]) > SAME_R)]
        label = np.unique(label * len(x) + number, return_inverse=True)[1].ravel()
    return label


def _rotated(Ty: Floats, rotation: Floats) -> tuple[Floats, Floats]:
    """N (q, q, B) of the responses that the rotation leaves out, and the rotated rest (r, q, B)."""
    m, q, B = Ty.shape
    carried = _carried(Ty, rotation)
    left = Ty - (rotation.T @ carried.reshape(len(rotation), q * B)).reshape(m, q, B)
    return _gram(left), carried


def _carried(Ty: Floats, rotation: Floats) -> Floats:
    """The rotated responses (r, q, B) of groups (m, q, B)."""
    m, q, B = Ty.shape
    return (rotation @ Ty.reshape(m, q * B)).reshape(len(rotation), q, B)


def _gram(T: Floats) -> Floats:
    """Σ t t' (q, q, B) over the groups of T (m, q, B)."""
    N = np.empty(T.shape[1:2] + T.shape[1:])
    for a, b in zip(*np.tril_indices(len(N)), strict=True):
        N[a, b] = N[b, a] = np.einsum("gl,gl->l", T[:, a], T[:, b])
    return N


def _eigen(A: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues (B, q) ascending and vectors (B, q, q) of symmetric matrices."""
    finite = np.isfinite(A.sum(axis=(1, 2), keepdims=True))
    A = np.where(finite, A, 0.0)
    if A.shape[1] != 2:
        return np.linalg.eigh(A)
    mean = 0.5 * (A[:, 0, 0] + A[:, 1, 1])
    half, off = 0.5 * (A[:, 0, 0] - A[:, 1, 1]), A[:, 1, 0]
    radius = np.hypot(half, off)
    angle = 0.5 * np.arctan2(off, half)
    c, s = np.cos(angle), np.sin(angle)
    vectors = np.empty_like(A)
    vectors[:, 0, 1], vectors[:, 1, 1] = c, s
    vectors[:, 0, 0], vectors[:, 1, 0] = -s, c
    large = mean + radius
    determinant = A[:, 0, 0] * A[:, 1, 1] - off**2
    small = np.where(large > 0.0, determinant / np.where(large > 0.0, large, 1.0), 0.0)
    return np.stack([np.minimum(small, large), large], axis=1), vectors
