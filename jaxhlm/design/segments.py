"""Sums and QR factors over runs of consecutive rows: lanes, or groups within lanes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from jaxhlm.core.notation import Bools, Floats, Ints

__all__ = ["WIDE", "Segments", "householder_qr", "orthonormalise"]

# Columns, and multiplications for each run, from which on LAPACK takes every run by itself.
WIDE = 8
WORTH_A_CALL = 2**16


class Segments:
    """Sums over runs of consecutive rows."""

    def __init__(self, label: Ints) -> None:
        """Take the (n,) non-decreasing labels of the rows."""
        self.starts = np.flatnonzero(np.r_[True, label[1:] != label[:-1]])
        self.lengths = np.diff(np.r_[self.starts, len(label)])

    @cached_property
    def of_row(self) -> Ints:
        """(n,) number of the run of every row."""
        return np.repeat(np.arange(len(self.starts)), self.lengths)

    def sum(self, values: Floats) -> Floats:
        """(n, …) to (S, …)."""
        if len(self.starts) == 1:
            return values.sum(axis=0, keepdims=True)
        return np.add.reduceat(values, self.starts, axis=0)

    def any(self, marks: Bools) -> Bools:
        """(n, …) to (S, …)."""
        found: Bools = np.logical_or.reduceat(marks, self.starts, axis=0)
        return found

    def gram(self, A: Floats) -> Floats:
        """A_i'A_i of (n, k), (S, k, k)."""
        if self.worth_a_call(A.shape[1]):
            return np.stack([A[rows].T @ A[rows] for rows in self.slices])
        out = np.empty((len(self.starts), A.shape[1], A.shape[1]))
        for j in range(A.shape[1]):
            out[:, j] = self.sum(A[:, [j]] * A)
        return out

    def products(self, A: Floats, values: Floats) -> Floats:
        """A_i'values_i of (n, k) and (n, B), (S, k, B)."""
        A = np.ascontiguousarray(A.T)
        out = np.empty((len(self.starts), len(A), values.shape[1]))
        for product, rows in zip(out, self.slices, strict=True):
            np.matmul(A[:, rows], values[rows], out=product)
        return out

    def worth_a_call(self, columns: int) -> bool:
        """Whether matrices of so many columns are better worked on run by run."""
        return columns > WIDE and self.lengths.sum() * columns**2 > WORTH_A_CALL * len(self.starts)

    @property
    def slices(self) -> Iterator[slice]:
        """The rows of every run."""
        return map(slice, self.starts, self.starts + self.lengths)

    def broadcast(self, values: Floats) -> Floats:
        """(S, …) to (n, …)."""
        return values if len(self.starts) == 1 else values[self.of_row]


def orthonormalise(
    A: Floats, segments: Segments, tol: float, floor: float = 0.0
) -> tuple[Floats, Floats]:
    """QR factors of the rows of every segment: A = Q R with Q'Q = I, zero columns where dependent.

    The diagonal of R is not negative.

    Args:
        A: (n, k).
        segments: runs of rows, S of them.
        tol: a column is dependent if its residual norm is below tol × its norm.
        floor: it is zero, but for rounding, if its root mean square is below that.

    Returns:
        Q (n, k) and R (S, k, k) upper triangular with rows of zeros at dependent columns.
    """
    if not segments.worth_a_call(A.shape[1]):
        return _gram_schmidt(A, segments, tol, floor)
    parts = []
    for rows in segments.slices:
        part, one = A[rows], Segments(np.zeros(rows.stop - rows.start, np.int64))
        parts.append(householder_qr(part, tol, floor) or _gram_schmidt(part, one, tol, floor))
    Q, R = zip(*parts, strict=True)
    return np.concatenate(Q), np.concatenate(R)


def householder_qr(A: Floats, tol: float, floor: float = 0.0) -> tuple[Floats, Floats] | None:
    """``orthonormalise`` of one segment by LAPACK; None where a column is dependent."""
    if len(A) < A.shape[1]:
        return None
    Q, R = np.linalg.qr(A)
    diagonal = np.diagonal(R)
    if not (np.abs(diagonal) > _lowest(np.linalg.norm(A, axis=0), len(A), tol, floor)).all():
        return None
    sign = np.sign(diagonal)
    return Q * sign, (R * sign[:, None])[None]


def _gram_schmidt(A: Floats, segments: Segments, tol: float, floor: float) -> tuple[Floats, Floats]:
    """``orthonormalise``, column after column, twice."""
    Q, k = np.array(A, dtype=float), A.shape[1]
    R = np.zeros((len(segments.starts), k, k))
    norms = np.sqrt(segments.sum(Q**2))
    lowest = _lowest(norms, segments.lengths[:, None], tol, floor)
    for j in range(k):
        for _ in range(2):
            projection = segments.sum(Q[:, :j] * Q[:, j : j + 1])
            Q[:, j] -= (Q[:, :j] * segments.broadcast(projection)).sum(axis=1)
            R[:, :j, j] += projection
        norm = np.sqrt(segments.sum(Q[:, j] ** 2))
        keep = norm > lowest[:, j]
        R[:, j, j] = np.where(keep, norm, 0.0)
        Q[:, j] *= segments.broadcast(np.where(keep, 1.0 / np.where(keep, norm, 1.0), 0.0))
    return Q, R


def _lowest(norms: Floats, rows: Ints | int, tol: float, floor: float) -> Floats:
    """The residual norm below which a column is dependent, or zero."""
    return np.asarray(np.maximum(tol * norms, floor * np.sqrt(rows)))
