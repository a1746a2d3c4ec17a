"""Factors and triangular solves of many matrices of any one size, stored lanes last.

A matrix is an array ``(rows, columns, …)`` whose trailing axes (groups, lanes) are worked through
in one sweep; a trailing axis of 1 is shared by all. Only the loop over rows is Python's, so that
p = 40 costs forty steps and not, as spelled out in ``jaxhlm.linalg.small``, forty cubed.
"""

from __future__ import annotations

import numpy as np

from jaxhlm.core.notation import Floats
from jaxhlm.linalg.small import array_namespace, set_at

__all__ = ["cholesky", "lapack_cholesky", "solve_lower", "solve_upper"]


def cholesky(A: Floats) -> Floats:
    """Lower triangular L with A = L L' (d, d, …); NaN where A is not positive definite.

    >>> cholesky(np.array([[4.0, 2.0], [2.0, 5.0]])).tolist()
    [[2.0, 0.0], [1.0, 2.0]]
    """
    xp = array_namespace(A)
    L = xp.zeros_like(A)
    for j in range(len(A)):
        column = A[j:, j]
        if j:
            column = column - xp.einsum("ik...,k...->i...", L[j:, :j], L[j, :j])
        L = set_at(L, np.s_[j:, j], column / xp.sqrt(column[0]))
    return L


def lapack_cholesky(A: Floats) -> Floats:
    """``cholesky`` of large matrices, which come last (…, d, d).

    >>> lapack_cholesky(np.array([[[4.0]], [[-1.0]]])).ravel().tolist()
    [2.0, nan]
    """
    try:
        return np.asarray(np.linalg.cholesky(A), float)
    except np.linalg.LinAlgError:
        if A.ndim == 2:
            return np.full_like(A, np.nan)
        return np.stack([lapack_cholesky(one) for one in A])


def solve_lower(L: Floats, T: Floats) -> Floats:
    """L⁻¹T for lower triangular L (d, d, …) and T (d, …), trailing axes broadcast.

    >>> solve_lower(np.array([[2.0, 0.0], [1.0, 2.0]]), np.array([2.0, 5.0])).tolist()
    [1.0, 2.0]
    """
    xp = array_namespace(L, T)
    out = xp.empty((len(T), *np.broadcast_shapes(T.shape[1:], L.shape[2:])))
    for i in range(len(T)):
        done = T[i] - xp.einsum("k...,k...->...", L[i, :i], out[:i]) if i else T[i]
        out = set_at(out, np.s_[i, ...], done / L[i, i])
    return out


def solve_upper(R: Floats, T: Floats) -> Floats:
    """R⁻¹T for upper triangular R (d, d, …) and T (d, …), trailing axes broadcast.

    >>> solve_upper(np.array([[2.0, 1.0], [0.0, 2.0]]), np.array([4.0, 4.0])).tolist()
    [1.0, 2.0]
    """
    return solve_lower(R[::-1, ::-1], T[::-1])[::-1]
