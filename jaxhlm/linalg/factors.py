"""Orthonormal bases and square roots of matrices that are the same on every processor.

Signs and order of singular vectors, and the basis of a space of eigenvectors with equal
eigenvalues, are free: which ones LAPACK returns depends on the BLAS kernel that a processor gets.
What random numbers are multiplied with, and what a result depends on, is taken from here instead:
a continuous function of the matrix, whose choices do not hang on the last bit.
"""

from __future__ import annotations

import numpy as np

from jaxhlm.core.notation import Bools, Floats, Ints
from jaxhlm.linalg.small import array_namespace, set_at

__all__ = [
    "orthonormal_basis",
    "principal_axes",
    "root_of_sum",
    "semidefinite_root",
    "symmetric_axes",
]

# The first column that is not much shorter than the longest comes next. Columns of designs are
# often exactly as long as others, or half as long, and hardly ever this share of one another.
PIVOT_SHARE = 0.37
# Eigenvalues that differ by less than this share of themselves are equal, and so are those that
# differ by rounding of the largest.
EQUAL_EIGENVALUES = 1e-8
ROUNDING = 1e-14
# A pivot below this share of its diagonal entry is rounding error.
PIVOT_TOL = 1e-13


def orthonormal_basis(M: Floats, tol: float) -> Floats:
    """(r, m) orthonormal rows that span the columns of M (m, c), by pivoted Gram–Schmidt.

    Args:
        M: any matrix.
        tol: columns this short beside the longest, once the others are taken off, are zero.

    >>> orthonormal_basis(np.array([[0.0, 2.0, 2.0], [3.0, 0.0, 3.0]]), 1e-10).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    residual, rows = M.astype(float), np.zeros((0, len(M)))
    norms = np.sqrt((residual**2).sum(axis=0))
    least = tol * max(norms.max(initial=0.0), np.finfo(float).tiny)
    while len(rows) < len(M) and norms.max(initial=0.0) > least:
        column = residual[:, _first_long(norms)]
        column = column - rows.T @ (rows @ column)
        column /= np.sqrt((column**2).sum())
        rows = np.concatenate([rows, column[None]])
        residual -= column[:, None] * (column @ residual)
        norms = np.sqrt((residual**2).sum(axis=0))
    return rows


def semidefinite_root(A: Floats, floor: Floats | float | None = None) -> Floats:
    """Lower triangular L (d, d, …) with A = LL' for a positive semi-definite A.

    Args:
        A: (d, d, …) matrices.
        floor: pivots up to which a column is zero, one or (d, …); by default PIVOT_TOL times the
            diagonal.

    >>> semidefinite_root(np.array([[4.0, 2.0], [2.0, 1.0]])).tolist()
    [[2.0, 0.0], [1.0, 0.0]]
    """
    xp = array_namespace(A)
    diagonal = xp.einsum("jj...->j...", A)
    floors = xp.broadcast_to(PIVOT_TOL * diagonal if floor is None else floor, diagonal.shape)
    L = xp.zeros_like(A, dtype=float)
    for j in range(len(A)):
        column = A[j:, j] - xp.einsum("ik...,k...->i...", L[j:, :j], L[j, :j])
        keep = column[0] > xp.maximum(floors[j], 0.0)
        column = xp.where(keep, column / xp.sqrt(xp.where(keep, column[0], 1.0)), 0.0)
        L = set_at(L, np.s_[j:, j], column)
    return L


def root_of_sum(F: Floats, S: Floats) -> Floats:
    """Lower triangular L (…, d, d) of non-negative diagonal with LL' = FF' + SS'.

    The squares are never formed, so that the smaller of the two keeps its digits beside the other.

    Args:
        F: (…, d, c₁), S: (…, d, c₂) with c₁ + c₂ ≥ d.

    >>> root_of_sum(np.array([[3.0]]), np.array([[4.0]])).round(12).tolist()
    [[5.0]]
    """
    R = np.linalg.qr(np.concatenate([F, S], axis=-1).swapaxes(-1, -2)).R
    sign = np.where(np.einsum("...jj->...j", R) < 0.0, -1.0, 1.0)
    return np.asarray((sign[..., None] * R).swapaxes(-1, -2))


def principal_axes(A: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues (…, d) ascending and eigenvectors (…, d, d) of symmetric matrices.

    Those of equal eigenvalues span the space that the matrix determines, and are chosen in it by
    pivoted Gram–Schmidt on the projector onto it.

    >>> principal_axes(np.eye(2))[1].tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    values, vectors = np.linalg.eigh(A)
    d = values.shape[-1]
    flat, out = vectors.reshape(-1, d, d), np.empty((values.size // max(d, 1), d, d))
    size = np.abs(values)
    least = EQUAL_EIGENVALUES * np.maximum(size[..., 1:], size[..., :-1])
    least = np.maximum(least, ROUNDING * size.max(axis=-1, keepdims=True))
    gap = np.diff(values, axis=-1) > least
    patterns, which = np.unique(gap.reshape(len(flat), -1), axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        at = np.flatnonzero(which.ravel() == number)
        out[at] = np.concatenate([_axes(flat[at][..., c]) for c in _runs(pattern)], axis=-1)
    return values, out.reshape(vectors.shape)


def symmetric_axes(A: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues (d, …) ascending and eigenvectors (d, d, …) of symmetric matrices, any axes.

    In closed form up to d = 2, which is all that most random parts have; traceable.

    >>> symmetric_axes(np.array([[2.0, 0.0], [0.0, 1.0]]))[0].tolist()
    [1.0, 2.0]
    """
    xp = array_namespace(A)
    if len(A) > 2:
        values, vectors = xp.linalg.eigh(xp.moveaxis(A, (0, 1), (-2, -1)))
        return xp.moveaxis(values, -1, 0), xp.moveaxis(vectors, (-2, -1), (0, 1))
    if len(A) == 1:
        return A[0], xp.ones_like(A)
    mean, half = (A[0, 0] + A[1, 1]) / 2.0, (A[0, 0] - A[1, 1]) / 2.0
    off, radius = A[0, 1], xp.hypot(half, A[0, 1])
    # The longer of the two forms of the vector, in which nothing cancels.
    c, s = xp.where(half < 0.0, off, half + radius), xp.where(half < 0.0, radius - half, off)
    length = xp.hypot(c, s)
    none = length == 0.0
    c, s = (xp.where(none, e, x / xp.where(none, 1.0, length)) for x, e in ((c, 1.0), (s, 0.0)))
    axes = xp.stack([xp.stack([-s, c]), xp.stack([c, s])])
    return xp.stack([mean - radius, mean + radius]), axes


def _runs(gap: Bools) -> list[slice]:
    """Runs of eigenvalues without a gap between them."""
    ends = [*(np.flatnonzero(gap) + 1).tolist(), len(gap) + 1]
    return [slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]


def _axes(V: Floats) -> Floats:
    """(b, d, s) orthonormal axes of the spaces that the columns of V (b, d, s) span."""
    residual, out = V @ V.swapaxes(1, 2), np.empty_like(V)
    lane_index = np.arange(len(V))
    for k in range(V.shape[2]):
        size = np.einsum("bjj->bj", residual)
        chosen = residual[lane_index, :, _first_long(size)]
        out[..., k] = chosen / np.sqrt((chosen**2).sum(axis=1, keepdims=True))
        residual = residual - out[..., :, None, k] * out[..., None, :, k]
    return out


def _first_long(lengths: Floats) -> Ints:
    """The first of the last axis that is at least PIVOT_SHARE of the largest."""
    return np.argmax(lengths >= PIVOT_SHARE * lengths.max(axis=-1, keepdims=True), axis=-1)
