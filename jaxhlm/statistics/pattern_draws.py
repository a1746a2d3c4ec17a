"""Data sets whose units have one of K designs, as many as chance has it, drawn as statistics.

Where drop-out is drawn anew for every data set, a unit has one of a few designs X_k, Z_k (the
covariates of units times numbers of measurements), and only how many units m_k have each differs.
Let Q_k be an orthonormal basis of the columns of [Z_k X_k], those of Z_k first. Over units of k

    Q_k'(y_i − X_kβ) ~ N(0, V_k),    V_k = Q_k'Z_kΣZ_k'Q_k + σ²I = LL'

so their sum is √m_k L g with g ~ N(0, I), their scatter about the mean is L B B'L' with Bartlett's
factor B of a Wishart matrix with m_k − 1 degrees of freedom, and what is left of the squares is
σ² χ² of Σ m_k (n_k − r_k). The criterion sees the units of a design through these only. One group
with √m_k times its Z'X and Z'y stands for their mean; and for the scatter of all designs that share
Z'Z stand q more, with the columns of a root of that of Z'y. As in ``equal_groups`` these follow
each other, and the first of them counts as often as there are units. A data set costs O(K) random
numbers, not O(rows).

β is left out, to be added to what is estimated. Lanes come last, and sums over designs are written
out, so that a data set is the same whatever is drawn beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jaxhlm.core.chunks import slices
from jaxhlm.core.notation import Floats, Ints, LaneIndex
from jaxhlm.linalg.factors import orthonormal_basis, semidefinite_root
from jaxhlm.linalg.small import Matrix
from jaxhlm.statistics.products import Tables

__all__ = [
    "PatternDraws",
    "PatternLaw",
    "draw_patterns",
    "pattern_law",
    "tables_of",
    "unit_responses",
]

RANK_TOL = 1e-10


@dataclass(frozen=True)
class PatternLaw:
    """What a unit of each of K designs is distributed like; r is the largest rank of [Z X].

    Attributes:
        Q: K bases (n_k, r_k).
        rows, rank: (K,) n_k and r_k.
        ZZ, ZX, XX: (q, q, K), (q, p, K) and (p, p, K) cross products of the columns.
        L: (r, r, K) lower triangular with zeros beyond r_k.
        ZL, XL: (q, r, K) Z'QL and (p, r, K) X'QL.
        sigma: residual standard deviation.
        sharing: C sets of designs, each of those that share Z'Z and n_k.
    """

    Q: Sequence[Floats]
    rows: Floats
    rank: Floats
    ZZ: Floats
    ZX: Floats
    XX: Floats
    L: Floats
    ZL: Floats
    XL: Floats
    sigma: float
    sharing: Sequence[Ints]

    @property
    def groups(self) -> int:
        """Groups that stand for all units of a data set."""
        return len(self.rows) + len(self.sharing) * len(self.ZZ)


class PatternDraws(NamedTuple):
    """Random numbers of b data sets, whatever the parameters."""

    m: Floats  # (K, b) units of every design
    mean: Floats  # (r, K, b) g
    root: Floats  # (r, r, K, b) B
    rest: Floats  # (b,) χ²

    def take(self, index: LaneIndex) -> PatternDraws:
        """Those of some data sets."""
        return PatternDraws(*(x[..., index] for x in self))


def pattern_law(X: Sequence[Floats], Z: Sequence[Floats], cov: Floats, sigma: float) -> PatternLaw:
    """The distribution of the statistics of units of K designs.

    Args:
        X: K matrices (n_k, p).
        Z: K matrices (n_k, q).
        cov: (q, q) covariance of the random effects on the columns of Z.
        sigma: residual standard deviation.
    """
    Q = [_basis(x, z) for x, z in zip(X, Z, strict=True)]
    r, root = max(b.shape[1] for b in Q), semidefinite_root(cov)
    L = np.zeros((r, r, len(Q)))
    for k, (basis, z) in enumerate(zip(Q, Z, strict=True)):
        to, ZQ = basis.shape[1], basis.T @ z @ root
        L[:to, :to, k] = np.linalg.cholesky(ZQ @ ZQ.T + sigma**2 * np.eye(to))
    of = [(b, x, z) for b, x, z in zip(Q, X, Z, strict=True)]
    ZL, XL = (
        np.stack(
            [columns.T @ b @ L[: b.shape[1], :, k] for k, (b, columns) in enumerate(pairs)], -1
        )
        for pairs in ([(b, z) for b, _, z in of], [(b, x) for b, x, _ in of])
    )
    ZZ = np.stack([z.T @ z for z in Z], axis=-1)
    rows = np.array([float(len(b)) for b in Q])
    shared = np.vstack([*ZZ.reshape(-1, len(Q)), rows])
    label = np.unique(shared, axis=1, return_inverse=True)[1].ravel()
    sharing = [np.flatnonzero(label == c) for c in range(label.max() + 1)]
    return PatternLaw(
        Q,
        rows,
        np.array([float(b.shape[1]) for b in Q]),
        ZZ,
        np.stack([z.T @ x for z, x in zip(Z, X, strict=True)], axis=-1),
        np.stack([x.T @ x for x in X], axis=-1),
        L, ZL, XL, sigma, sharing,
    )  # fmt: skip


def draw_patterns(
    law: PatternLaw, count: Ints, generators: Iterable[np.random.Generator], lanes: int
) -> PatternDraws:
    """The random numbers of data sets.

    Args:
        law: of the units.
        count: (K, b) units of every design.
        generators: b / ``lanes`` of them, used one after the other.
        lanes: data sets in a row that are drawn from one generator.
    """
    (K, b), r = count.shape, len(law.L)
    rows, columns = np.tril_indices(r, -1)
    df = np.maximum(count[None] - 1.0 - np.arange(r)[:, None, None], 0.0)
    rest = ((law.rows - law.rank)[:, None] * count).sum(axis=0)
    shapes = 0.5 * np.concatenate([df.reshape(r * K, b), rest[None]]).T
    normal = np.empty((b, (r + len(rows)) * K))
    chi = np.empty((b, r * K + 1))
    for run, generator in zip(slices(b, lanes), generators, strict=True):
        generator.standard_normal(out=normal[run])
        chi[run] = generator.standard_gamma(shapes[run])
    normal, chi = (
        np.ascontiguousarray(normal.T).reshape(-1, K, b),
        2.0 * np.ascontiguousarray(chi.T),
    )
    root = np.zeros((r, r, K, b))
    root[np.arange(r), np.arange(r)] = np.sqrt(chi[:-1]).reshape(r, K, b)
    # A column without degrees of freedom is none of the factor's.
    root[rows, columns] = normal[r:] * (df[columns] > 0.0)
    return PatternDraws(count.astype(float), normal[:r] * (count > 0), root, chi[-1])


def tables_of(law: PatternLaw, draws: PatternDraws) -> Tables:
    """Cross products of y − Xβ and the columns of K + C q groups that stand for the units."""
    m, r, (q, p) = draws.m, len(law.L), law.ZX.shape[:2]
    (K, b), C = m.shape, len(law.sharing)
    root_m, units, first = np.sqrt(m), np.zeros_like(m), [some[0] for some in law.sharing]
    units[first] = np.stack([_summed(m[some]) for some in law.sharing])
    there = np.maximum(m, units) > 0.0
    order = np.concatenate(
        [[*some, *range(K + c, K + q * C, C)] for c, some in enumerate(law.sharing)]
    )

    def applied(A: Floats, values: Floats) -> list[Floats]:
        return [_summed([A[i, j][:, None] * values[j] for j in range(r)]) for i in range(len(A))]

    def everywhere(numbers: Floats) -> Floats:
        present = numbers[:, None] * there
        return np.concatenate([present, *[present[first]] * q])[order]

    def of_means(values: Floats, of_scatter: Sequence[Floats] = ()) -> Floats:
        return np.concatenate([values, *(of_scatter or [np.zeros((q * C, b))])])[order]

    scattered = [applied(law.ZL, draws.root[:, j]) for j in range(min(q, r))]
    N = np.zeros((q, q, C, b))
    for a, c in np.ndindex(q, q):
        products = _summed([column[a] * column[c] for column in scattered])
        N[a, c] = np.stack([_summed(products[some]) for some in law.sharing])
    root, means = semidefinite_root(N), applied(law.ZL, draws.mean)
    by_group: Matrix = np.empty((q, q + p + 1), dtype=object)
    for a in range(q):
        for c in range(q):
            by_group[a, c] = everywhere(law.ZZ[a, c])
        for c in range(p):
            by_group[a, q + c] = of_means(law.ZX[a, c][:, None] * root_m)
        by_group[a, q + p] = of_means(means[a], list(root[a]))
    by_lane: Matrix = np.empty((p + 1, p + 1), dtype=object)
    fitted = applied(law.XL, draws.mean)
    for a in range(p):
        by_lane[a, p] = by_lane[p, a] = _summed(root_m * fitted[a])
        for c in range(p):
            by_lane[a, c] = _summed(law.XX[a, c][:, None] * m)
    columns = [draws.mean, *(draws.root[:, j] for j in range(r))]
    squares = _summed([x**2 for column in columns for x in applied(law.L, column)])
    by_lane[p, p] = _summed(squares) + law.sigma**2 * draws.rest
    zeros = np.zeros(b)
    return Tables(by_group, by_lane, everywhere(law.rows), zeros, zeros, of_means(units))


def unit_responses(law: PatternLaw, draws: PatternDraws, lane: int, pattern: Ints) -> list[Floats]:
    """Rows of y − Xβ, unit by unit, whose statistics are those of a data set.

    Args:
        law: of the units.
        draws: of the data sets.
        lane: which of them.
        pattern: (n,) the design of every unit.
    """
    out: list[Floats] = [np.empty(0)] * len(pattern)
    left = law.sigma**2 * draws.rest[lane]
    for k in np.unique(pattern):
        units, Q, r = np.flatnonzero(pattern == k), law.Q[k], law.Q[k].shape[1]
        m, L = len(units), law.L[:r, :r, k]
        columns = min(r, m - 1)
        # Columns that are orthonormal, and orthogonal to a constant.
        H = np.linalg.qr(np.column_stack([np.ones(m), np.eye(m)[:, :columns]]))[0][:, 1:]
        spread = H @ (L @ draws.root[:r, :columns, k, lane]).T
        scores = spread + L @ draws.mean[:r, k, lane] / np.sqrt(m)
        for unit, score in zip(units, scores, strict=True):
            out[unit] = Q @ score
        if left > 0.0 and len(Q) > r:
            beyond = np.linalg.qr(Q, mode="complete")[0][:, r]
            out[units[0]] = out[units[0]] + np.sqrt(left) * beyond
            left = 0.0
    return out


def _basis(X: Floats, Z: Floats) -> Floats:
    """(n, r) orthonormal columns that span those of Z, and after them those of [Z X]."""
    of_Z = orthonormal_basis(Z, RANK_TOL)
    beyond = X - of_Z.T @ (of_Z @ X)
    beyond[:, (beyond**2).sum(axis=0) <= RANK_TOL**2 * (X**2).sum(axis=0)] = 0.0
    return np.concatenate([of_Z, orthonormal_basis(beyond, RANK_TOL)]).T


def _summed(values: Sequence[Floats] | Floats) -> Floats:
    """Their sum, one after the other."""
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total
