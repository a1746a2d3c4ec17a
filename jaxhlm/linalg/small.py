"""Tiny dense linear algebra in two dialects behind one set of names.

The likelihood needs Cholesky factors of q×q and p×p matrices with q and p of a few units, for very
many lanes. XLA is fastest when such algebra is spelled out entry by entry, so that all it sees is
elementwise arithmetic along a long last axis; batched LAPACK calls are 10 to 50 times slower. For
larger sizes spelling out would make compilation explode: dense matrices take columns at a time,
written out for a few of them (XLA compiles a loop and its derivatives for longer). Not LAPACK:
on CPUs a batched call of it waits in one thread of XLA's pool for other threads of that pool, and
as many calls at a time as there are threads wait for ever.

So a matrix here is either

* **unrolled**: a NumPy *object* array whose entries are arrays of any common trailing shape
  (NumPy's ``@``, ``.T`` and ``+`` then write the entrywise arithmetic for us), with the literal
  ``0.0`` for entries that are zero by structure, or
* **dense**: an ordinary JAX array ``(rows, columns)``, to be vmapped by the caller.

Formulas written with ``@``, ``.T`` and the functions below hold in both dialects. The entries of an
unrolled matrix may be JAX or NumPy arrays: the same lines then run compiled for many lanes, or
at once, without compiling, for a few.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxhlm.core.notation import Array

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = [
    "array_namespace",
    "cholesky",
    "entrywise",
    "eye_plus",
    "is_unrolled",
    "log_diagonal",
    "matmul",
    "max_abs",
    "minus_dot",
    "pack",
    "set_at",
    "solve_lower",
    "solve_upper",
    "stack_entries",
    "svec_outer",
    "unpack",
    "unroll",
]

Matrix: TypeAlias = Array

# Columns of a dense matrix that are written out, not looped over.
MAX_WRITTEN_OUT = 8


def is_unrolled(M: Matrix) -> bool:
    """Whether ``M`` is in the unrolled dialect."""
    return isinstance(M, np.ndarray) and M.dtype == object


def array_namespace(*arrays: Array) -> ModuleType:
    """``jax.numpy`` where one is a JAX array or a tracer, else ``numpy``."""
    return jnp if any(isinstance(x, jax.Array) for x in arrays) else np


def unroll(x: Array, ndim: int, lead: int = 0) -> Matrix:
    """The unrolled matrix of ``x``, whose rows and columns are its axes ``lead … lead+ndim``."""
    out = np.empty(x.shape[lead : lead + ndim], dtype=object)
    for index in np.ndindex(*out.shape):
        out[index] = x[(slice(None),) * lead + index]
    return out


def stack_entries(M: Matrix, B: int) -> Float[Array, "... B"]:
    """The reverse of ``unroll``: one array (…, B) of entries of B lanes."""
    if not is_unrolled(M):
        return array_namespace(M).broadcast_to(M, (B,))
    if not M.size:
        return np.empty((*M.shape, B))
    last = M.flat[-1]
    if array_namespace(last) is jnp:
        stacked = jnp.stack([jnp.broadcast_to(entry, (B,)) for entry in M.flat])
        return stacked.reshape(*M.shape, B)
    out = np.empty((M.size, B), last.dtype)
    for row, entry in zip(out, M.flat, strict=True):
        row[...] = entry
    return out.reshape(*M.shape, B)


def set_at(x: Array, index: Any, values: Array) -> Array:
    """``x`` with values at an index; a NumPy array is written to, a JAX array is not."""
    if not isinstance(x, np.ndarray):
        return x.at[index].set(values)
    x[index] = values
    return x


def entrywise(f: Callable[[Array], Array], M: Matrix) -> Matrix:
    """``f`` of every entry; of the whole array where it is not unrolled."""
    if not is_unrolled(M):
        return f(M)
    out = np.empty(M.shape, dtype=object)
    for index in np.ndindex(*M.shape):
        out[index] = f(M[index])
    return out


def max_abs(x: Float[Array, "d ..."]) -> Float[Array, "..."]:
    """max |x_i| over the first axis; in JAX one by one: XLA takes a reduction for a function."""
    return abs(x).max(axis=0) if isinstance(x, np.ndarray) else reduce(jnp.maximum, abs(x))


def cholesky(A: Matrix) -> Matrix:
    """Lower triangular L with A = L L' (NaN where A is not positive definite)."""
    if not is_unrolled(A):
        return _cholesky(A)
    d = len(A)
    L = np.full((d, d), 0.0, dtype=object)
    for j in range(d):
        pivot = minus_dot(A[j, j], L[j, :j], L[j, :j])
        L[j, j] = array_namespace(pivot).sqrt(pivot)
        for i in range(j + 1, d):
            L[i, j] = minus_dot(A[i, j], L[i, :j], L[j, :j]) / L[j, j]
    return L


def solve_lower(L: Matrix, T: Matrix) -> Matrix:
    """L⁻¹ T for lower triangular L; T is a matrix or a vector."""
    if not is_unrolled(L):
        return _substitute(L, T)
    out = np.empty(T.shape, dtype=object)
    shape = len(L), T.size // max(len(L), 1)
    columns = out.reshape(shape)
    for j, column in enumerate(T.reshape(shape).T):
        for i in range(len(L)):
            columns[i, j] = minus_dot(column[i], L[i, :i], columns[:i, j]) / L[i, i]
    return out


def solve_upper(L: Matrix, T: Matrix) -> Matrix:
    """L⁻ᵀ T for lower triangular L; T is a matrix or a vector."""
    return solve_lower(L.T[::-1, ::-1], T[::-1])[::-1]


def _cholesky(A: Matrix) -> Matrix:
    A = jnp.asarray(A)  # NumPy arrays cannot be indexed by a traced j
    d = len(A)
    if d <= MAX_WRITTEN_OUT:
        return _cholesky_written_out(A)

    def column(j: Int[Array, ""], L: Float[Array, "d d"]) -> Float[Array, "d d"]:
        rest = A[:, j] - (L * L[j]).sum(axis=1)
        return L.at[:, j].set(jnp.where(jnp.arange(d) < j, 0.0, rest / jnp.sqrt(rest[j])))

    return jax.lax.fori_loop(0, d, column, A * 0.0)


def _cholesky_written_out(A: Float[Array, "d d"]) -> Float[Array, "d d"]:
    columns: list[Array] = []
    for j in range(len(A)):
        rest = A[j:, j]
        for i, column in enumerate(columns):
            rest = rest - column[j - i :] * column[j - i]
        columns.append(rest / jnp.sqrt(rest[0]))
    padded = [jnp.pad(column, (j, 0)) for j, column in enumerate(columns)]
    return jnp.stack(padded, axis=1) if padded else A


def _substitute(L: Matrix, T: Matrix) -> Matrix:
    L, T = jnp.asarray(L), jnp.asarray(T)
    if len(L) <= MAX_WRITTEN_OUT:
        return _substitute_written_out(L, T)

    def row(i: Int[Array, ""], X: Float[Array, "d ..."]) -> Float[Array, "d ..."]:
        return X.at[i].set((T[i] - L[i] @ X) / L[i, i])

    # Made of both, it varies over what they vary over in ``shard_map``.
    start = T * 0.0 + L[0, 0] * 0.0
    return jax.lax.fori_loop(0, len(L), row, start)


def _substitute_written_out(
    L: Float[Array, "d d"], T: Float[Array, "d ..."]
) -> Float[Array, "d ..."]:
    rows: list[Array] = []
    for i in range(len(L)):
        rest = T[i]
        for j, row in enumerate(rows):
            rest = rest - L[i, j] * row
        rows.append(rest / L[i, i])
    return jnp.stack(rows) if rows else T.astype(jnp.result_type(L, T))


def log_diagonal(L: Matrix) -> Array:
    """Σ log L_jj, with a single logarithm in the unrolled dialect."""
    if not is_unrolled(L):
        return jnp.sum(jnp.log(jnp.diagonal(L)))
    product = L[0, 0]
    for j in range(1, len(L)):
        product = product * L[j, j]
    return array_namespace(product).log(product)


def eye_plus(A: Matrix) -> Matrix:
    """I + A."""
    if not is_unrolled(A):
        return jnp.eye(len(A), dtype=A.dtype) + A
    return A + np.eye(len(A)).astype(object)


def matmul(A: Matrix, B: Matrix) -> Matrix:
    """A B, leaving out the entries of unrolled matrices that are zero by structure."""
    if not is_unrolled(A):
        return A @ B
    out = np.empty((len(A), B.shape[1]), dtype=object)
    for i, j in np.ndindex(*out.shape):
        out[i, j] = _dot(A[i], B[:, j])
    return out


def pack(M: Matrix) -> Matrix:
    """The lower triangle of a symmetric matrix as a vector (d(d+1)/2,)."""
    return M[np.tril_indices(len(M))]


def unpack(v: Matrix, d: int) -> Matrix:
    """The symmetric matrix whose ``pack`` is ``v``."""
    position = np.empty((d, d), dtype=int)
    rows, columns = np.tril_indices(d)
    position[rows, columns] = position[columns, rows] = np.arange(len(rows))
    return v[position]


def svec_outer(u: Matrix, v: Matrix) -> Matrix:
    """The lower triangle of (u v' + v u') with √2 off the diagonal.

    The inner product of two such vectors is the trace of the product of the two matrices.
    """
    rows, columns = np.tril_indices(len(u))
    weight = np.where(rows == columns, 1.0, np.sqrt(2.0))
    if not is_unrolled(u):
        return (u[rows] * v[columns] + v[rows] * u[columns]) * weight
    out = np.empty(len(rows), dtype=object)
    for s, (i, j, w) in enumerate(zip(rows, columns, weight, strict=True)):
        out[s] = (u[i] * v[j] + v[i] * u[j]) * float(w)
    return out


def minus_dot(start: Array, u: Matrix, v: Matrix) -> Array:
    """start − u'v."""
    for left, right in zip(u, v, strict=True):
        if not (_is_zero(left) or _is_zero(right)):
            start = start - left * right
    return start


def _dot(u: Matrix, v: Matrix) -> Array | float:
    """u'v, a literal 0.0 if every product is zero by structure.

    Product after product, since all of them side by side would not stay in the cache.
    """
    total: Array | float = 0.0
    for a, b in zip(u, v, strict=True):
        if not (_is_zero(a) or _is_zero(b)):
            total = a * b if _is_zero(total) else total + a * b
    return total


def _is_zero(entry: Array | float) -> bool:
    return isinstance(entry, float) and entry == 0.0
