"""Groups with the same Z_i'Z_i count once: an evaluation costs O(distinct groups).

The criterion sees groups that share R_i only through Σ_i T_i'Ω⁻¹T_i, which a rotation across those
groups leaves alone. Rotate so that T^X is zero in all but the first r of them (r is its rank over
the groups, 2 for the article's design whatever G is); the rest enter only through the q×q Gram
matrix N = Σ t_i t_i' of their responses, so q groups with the columns of its Cholesky factor stand
for them. m groups become r + q, exactly; log|Ω| is weighed by m.

When there is one class and X is the product of Z with group-level predictors (balanced two-level
designs), β̂ does not depend on Ω and the minimum is known in closed form (``balanced``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxhlm.core.chunks import as_slice
from jaxhlm.core.notation import Floats, Ints
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.linalg.factors import orthonormal_basis, semidefinite_root
from jaxhlm.linalg.small import array_namespace, stack_entries

__all__ = ["EqualGroups", "EquivalenceClass"]

SAME_R = 1e-11
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
