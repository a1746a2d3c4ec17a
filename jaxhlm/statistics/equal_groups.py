"""Groups with the same Z_i'Z_i count once: an evaluation costs O(distinct groups).

The criterion sees groups that share R_i only through Σ_i T_i'Ω⁻¹T_i, which a rotation across those
groups leaves alone. Rotate so that T^X is zero in all but the first r of them (r is its rank over
the groups, 2 for the article's design whatever G is); the rest enter only through the q×q Gram
matrix N = Σ t_i t_i' of their responses, so q groups with the columns of its Cholesky factor stand
for them. m groups become r + q, exactly; log|Ω| is weighed by m.

When there is one class and X is the product of Z with group-level predictors (balanced two-level
designs), β̂ does not depend on Ω and the minimum is known in closed form (``balanced_start``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxhlm.core.chunks import as_slice
from jaxhlm.core.notation import Floats, Ints
from jaxhlm.likelihood.covariance import Blocks, theta_of
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.linalg.factors import orthonormal_basis, semidefinite_root
from jaxhlm.linalg.small import array_namespace, stack_entries

__all__ = ["EqualGroups", "EquivalenceClass", "balanced_start"]

SAME_R = 1e-11
# A pivot of a D that is singular by construction.
ZERO_PIVOT = 1e-12
RANK_TOL = 1e-10


@dataclass(frozen=True)
class EquivalenceClass:
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
class EqualGroups:
    """The groups of a shared design that share R_i, and those that are not joined.

    Statistics of a response (G, q, B) are ``split`` into those of R rotated groups, in which T^X is
    not zero: the rest, then r of every class; and the Gram matrix N (q, q, B) = Σ t t' over the
    other groups of every class. ``join`` combines them into statistics of fewer groups.

    Attributes:
        classes: those worth joining; may be none.
        rest: (…,) groups in none of them.
        balanced: there is one class and X is a product of Z with group-level predictors.
    """

    classes: tuple[EquivalenceClass, ...]
    rest: Ints
    balanced: bool = False

    @staticmethod
    def none(G: int) -> EqualGroups:
        """G groups of which none share anything."""
        return EqualGroups((), np.arange(G))

    @staticmethod
    def of(stats: Stats, z_spans_x: bool) -> EqualGroups:
        """The equal groups of a shared design, where joining them saves anything.

        Args:
            stats: statistics of the design.
            z_spans_x: whether Z spans all of X within groups.
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
                classes.append(EquivalenceClass(groups, rotation, RZ[groups[0]], rotated))
        if not classes:
            return EqualGroups.none(G)
        together = np.concatenate([c.groups for c in classes])
        rest = np.setdiff1d(np.arange(G), together)
        full = np.linalg.matrix_rank(RZ[0]) == q
        balanced = len(rest) == 0 and len(classes) == 1 and z_spans_x and full
        balanced = bool(balanced and p == q * len(classes[0].rotation))
        return EqualGroups(tuple(classes), rest, balanced)

    def rotated(self, TX: Floats) -> Floats:
        """T^X (R, q, p) of the rotated groups in which it is not zero, of (G, q, p)."""
        if not self.classes:
            return TX
        return np.concatenate([TX[self.rest], *(c.TX for c in self.classes)])

    def split(self, Ty: Floats) -> tuple[Floats, list[Floats]]:
        """T^y (R, q, B) of the R rotated groups, and N (q, q, B) of the others of every class.

        N is taken as a difference, to read all of T^y once.
        """
        if not self.classes:
            return Ty, []
        rows, grams = [Ty[self.rest]], []
        for c in self.classes:
            T = Ty[as_slice(c.groups)]
            rotated = _rotated(T, c.rotation)
            rows.append(rotated)
            grams.append(_gram(T) - _gram(rotated))
        return array_namespace(Ty).concatenate(rows), grams

    def join(self, stats: Stats, rows: Floats, grams: list[Floats]) -> Stats:
        """Statistics with every class replaced by r + q groups.

        Args:
            stats: statistics of the design.
            rows, grams: what ``split`` returns.
        """
        columns = [semidefinite_root(N, 0.0).swapaxes(0, 1) for N in grams]
        return self.join_design(stats)._replace(Ty=self.interleaved(rows, columns))

    def interleaved(self, rows: Floats, columns: Sequence[Floats]) -> Floats:
        """T^y of the joined groups: the rest, then class by class.

        Args:
            rows: (R, q, B) as ``split`` returns them.
            columns: for every class (q, q, B) the columns of a square root of N.
        """
        at, parts = len(self.rest), [rows[: len(self.rest)]]
        for c, root in zip(self.classes, columns, strict=True):
            parts += [rows[at : at + len(c.rotation)], root]
            at += len(c.rotation)
        return array_namespace(rows).concatenate(parts)

    def join_design(self, stats: Stats) -> Stats:
        """The design half of ``join``: the rest, then r + q groups for every class."""
        if not self.classes:
            return stats
        rest, (q, p) = self.rest, stats.TX.shape[1:3]
        RZ, TX, m = [stats.RZ[rest]], [stats.TX[rest]], [stats.m[rest]]
        for c in self.classes:
            count = len(c.rotation) + q
            RZ.append(np.broadcast_to(c.RZ[None, :, :, None], (count, q, q, 1)))
            TX.append(np.concatenate([c.TX, np.zeros((q, q, p))])[..., None])
            m.append(np.r_[float(len(c.groups)), np.zeros(count - 1)][:, None])
        return stats._replace(RZ=np.concatenate(RZ), TX=np.concatenate(TX), m=np.concatenate(m))


def balanced_start(
    stats: Stats, groups: EqualGroups, grams: Sequence[Floats], reml: bool, blocks: Blocks
) -> Floats | None:
    """The minimiser θ (k, B) of a balanced design in closed form, else None.

    With Ω̂ = σ̂²Ω the covariance of T_i, the criterion is ν_b log|Ω̂| + tr(Ω̂⁻¹N) + ν_w log σ² + yy/σ²
    with ν_b = G − r (REML) or G, ν_w = n − Gq and Ω̂ − σ²I positive semi-definite. Its minimum has
    the eigenvectors of N, with eigenvalues λ_j/ν_b where those exceed σ² and σ² where they do not,
    and σ² pools yy with the latter (Calvin & Dykstra 1991, Ann. Statist. 19, 850-869).

    Args:
        stats: statistics of the lanes, joined or not.
        groups: of the same design.
        grams: N of their only class.
        reml: REML criterion instead of ML deviance.
        blocks: columns of Z in each random term.
    """
    if not groups.balanced or len(blocks) > 1:
        return None
    only = groups.classes[0]
    G, r, q, xp = len(only.groups), len(only.rotation), stats.TX.shape[1], array_namespace(grams[0])
    values, vectors = _eigen(xp.moveaxis(grams[0], -1, 0))
    between = float(G - r if reml else G)
    within, pooled = stats.n - G * q, xp.zeros(len(values))
    sigma2 = stats.yy / within
    for j in range(q):
        low = values[:, j] / between < sigma2
        pooled = xp.where(low, pooled + values[:, j], pooled)
        count = low * (j + 1.0)
        sigma2 = xp.where(low, (stats.yy + pooled) / (within + between * count), sigma2)
    ratio = xp.maximum(values / between / sigma2[:, None] - 1.0, 0.0)
    root = xp.einsum("ab,lbj->ajl", np.linalg.inv(only.RZ), vectors * xp.sqrt(ratio)[:, None, :])
    D = xp.moveaxis(xp.einsum("ajl,bjl->abl", root, root), -1, 0)
    return theta_of(D, blocks, xp.where((ratio == 0.0).any(axis=1), ZERO_PIVOT, 0.0))


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


def _rotated(Ty: Floats, rotation: Floats) -> Floats:
    """The rotated responses (r, q, B) of groups (m, q, B)."""
    m, q, B = Ty.shape
    return (rotation @ Ty.reshape(m, q * B)).reshape(len(rotation), q, B)


def _gram(T: Floats) -> Floats:
    """Σ t t' (q, q, B) over the groups of T (m, q, B)."""
    N, xp = np.empty((T.shape[1], T.shape[1]), object), array_namespace(T)
    for a, b in zip(*np.tril_indices(len(N)), strict=True):
        N[a, b] = N[b, a] = xp.einsum("gl,gl->l", T[:, a], T[:, b])
    gram: Floats = stack_entries(N, T.shape[-1])
    return gram


def _eigen(A: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues (B, q) ascending and vectors (B, q, q) of symmetric matrices."""
    xp = array_namespace(A)
    finite = xp.isfinite(A.sum(axis=(1, 2), keepdims=True))
    A = xp.where(finite, A, 0.0)
    if A.shape[1] != 2:
        values, vectors = xp.linalg.eigh(A)
        return values, vectors
    mean = 0.5 * (A[:, 0, 0] + A[:, 1, 1])
    half, off = 0.5 * (A[:, 0, 0] - A[:, 1, 1]), A[:, 1, 0]
    radius = xp.hypot(half, off)
    angle = 0.5 * xp.arctan2(off, half)
    c, s = xp.cos(angle), xp.sin(angle)
    # In memory the lanes are next to each other, as in what is made of them.
    vectors = xp.moveaxis(xp.stack([-s, c, c, s]).reshape(2, 2, len(A)), -1, 0)
    large = mean + radius
    determinant = A[:, 0, 0] * A[:, 1, 1] - off**2
    small = xp.where(large > 0.0, determinant / xp.where(large > 0.0, large, 1.0), 0.0)
    return xp.stack([xp.minimum(small, large), large], axis=1), vectors
