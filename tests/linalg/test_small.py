"""The little matrices, in both dialects, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tolerances as tol
from jaxhlm.linalg import small
from oracles import oracle

SIZES = [1, 2, 3, 4]
LANES = 5


def as_entries(M):
    """Lanes (B, i, j) or (B, i) as an unrolled matrix or vector of NumPy entries (B,)."""
    return small.unroll(np.moveaxis(M, 0, -1), M.ndim - 1)


def collected(M):
    """The reverse, NumPy or JAX entries."""
    stacked = [np.broadcast_to(np.asarray(entry), LANES) for entry in M.flat]
    return np.moveaxis(np.reshape(stacked, (*M.shape, LANES)), -1, 0)


def in_dense(f):
    """``f`` of matrices, mapped over the lanes as JAX arrays."""
    return lambda *by_lane: np.asarray(jax.jit(jax.vmap(f))(*by_lane))


def in_numpy(f):
    """``f`` of unrolled matrices of NumPy entries."""
    return lambda *by_lane: collected(f(*map(as_entries, by_lane)))


def in_jax(f):
    """``f`` of unrolled matrices of JAX entries."""

    def run(*by_lane):
        unrolled = [small.unroll(jnp.asarray(np.moveaxis(M, 0, -1)), M.ndim - 1) for M in by_lane]
        out = f(*unrolled)
        assert any(isinstance(entry, jax.Array) for entry in out.flat)
        return collected(out)

    return run


DIALECTS = [in_dense, in_numpy, in_jax]
every_size = pytest.mark.parametrize("d", SIZES)
every_dialect = pytest.mark.parametrize("dialect", DIALECTS)


def definite(rng, d):
    root = rng.normal(size=(LANES, d, d + 2))
    return root @ root.swapaxes(1, 2)


@every_dialect
@every_size
def test_cholesky_and_solves(rng, d, dialect):
    A, T, v = definite(rng, d), rng.normal(size=(LANES, d, 3)), rng.normal(size=(LANES, d))
    L = np.linalg.cholesky(A)
    with jax.enable_x64(True):
        np.testing.assert_allclose(dialect(small.cholesky)(A), L, rtol=tol.SMALL, atol=tol.SMALL)
        for right in (T, v):
            columns = right.reshape(LANES, d, -1)
            lower, upper = np.linalg.solve(L, columns), np.linalg.solve(L.swapaxes(1, 2), columns)
            found = dialect(small.solve_lower)(L, right)
            np.testing.assert_allclose(found, lower.reshape(right.shape), rtol=tol.SMALL)
            found = dialect(small.solve_upper)(L, right)
            np.testing.assert_allclose(found, upper.reshape(right.shape), rtol=tol.SMALL)


@every_dialect
@every_size
def test_products(rng, d, dialect):
    A, B = rng.normal(size=(2, LANES, d, d))
    with jax.enable_x64(True):
        np.testing.assert_allclose(
            dialect(small.matmul)(A, B), A @ B, rtol=tol.SMALL, atol=tol.ROUNDED
        )
        np.testing.assert_allclose(dialect(small.eye_plus)(A), np.eye(d) + A, rtol=tol.SMALL)


@every_size
def test_log_diagonal(rng, d):
    L = np.linalg.cholesky(definite(rng, d))
    expected = np.log(np.diagonal(L, axis1=1, axis2=2)).sum(axis=1)
    with jax.enable_x64(True):
        dense = jax.vmap(small.log_diagonal)(jnp.asarray(L))
    np.testing.assert_allclose(dense, expected, atol=tol.SMALL)
    np.testing.assert_allclose(small.log_diagonal(as_entries(L)), expected, atol=tol.SMALL)


@every_dialect
def test_an_indefinite_lane_is_nan_and_harms_no_other(rng, dialect):
    A = definite(rng, 3)
    A[2] = np.diag([1.0, -1.0, 1.0])
    with jax.enable_x64(True), np.errstate(invalid="ignore"):
        L = dialect(small.cholesky)(A)
    assert np.isnan(L[2]).any()
    others = [0, 1, 3, 4]
    np.testing.assert_allclose(
        L[others], np.linalg.cholesky(A[others]), rtol=tol.SMALL, atol=tol.ROUNDED
    )


@every_size
def test_pack_and_unpack(rng, d):
    A = definite(rng, d)[0]
    assert small.pack(A).shape == (d * (d + 1) // 2,)
    np.testing.assert_array_equal(small.unpack(small.pack(A), d), A)


@every_dialect
@every_size
def test_svec_outer_keeps_the_trace_inner_product(rng, d, dialect):
    u, v, w, z = rng.normal(size=(4, LANES, d))

    def outer(a, b):
        return a[:, :, None] * b[:, None, :] + b[:, :, None] * a[:, None, :]

    with jax.enable_x64(True):
        svec = dialect(small.svec_outer)
        found = (svec(u, v) * svec(w, z)).sum(axis=1)
    expected = np.einsum("lab,lba->l", outer(u, v), outer(w, z))
    np.testing.assert_allclose(found, expected, atol=tol.REORDERED * np.abs(expected).max())


def test_structural_zeros_cost_nothing():
    """A literal 0.0 stays one, so that diagonal Λ and triangular L compile to fewer operations."""
    Lambda = np.full((2, 2), 0.0, dtype=object)
    Lambda[0, 0], Lambda[1, 1] = np.ones(LANES), np.full(LANES, 2.0)
    D = small.matmul(Lambda, Lambda.T)
    assert D[0, 1] == 0.0
    assert isinstance(D[0, 1], float)
    L = small.cholesky(small.eye_plus(D))
    assert isinstance(L[0, 1], float)
    np.testing.assert_allclose(L[1, 1], np.sqrt(5.0))


def test_entries_and_dialects():
    x = np.arange(24.0).reshape(2, 3, 4)
    M = small.unroll(x, 2)
    assert small.is_unrolled(M)
    assert not small.is_unrolled(x)
    np.testing.assert_array_equal(M[1, 2], x[1, 2])
    np.testing.assert_array_equal(small.unroll(x, 1, lead=1)[2], x[:, 2])
    assert small.array_namespace(x) is np
    assert small.array_namespace(jnp.ones(1)) is jnp


@pytest.mark.parametrize("d", [3, small.MAX_WRITTEN_OUT + 1])
def test_the_dense_dialect_calls_no_lapack(d):
    """Its batched calls wait for each other for ever when XLA's pool has too few threads."""

    def both(A, T):
        L = small.cholesky(A)
        return small.solve_lower(L, T), small.solve_upper(L, T)

    A, T = np.tile(np.eye(d), (8, 1, 1)), np.ones((8, d, 2))
    text = jax.jit(jax.vmap(both)).lower(A, T).as_text()
    assert ("while" in text) == (d > small.MAX_WRITTEN_OUT)
    assert "custom_call" not in text


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dense_dialect_takes_numpy_arrays_empty_ones_and_mixed_dtypes(rng, dtype):
    with jax.enable_x64(True):
        for d in (0, 1, 5, small.MAX_WRITTEN_OUT + 1):
            A, T = definite(rng, d)[0].astype(dtype), rng.normal(size=(d, 2)).astype(dtype)
            L = small.cholesky(A)
            lower, upper = small.solve_lower(L, T), small.solve_upper(np.asarray(L), T)
            assert L.dtype == lower.dtype == upper.dtype == dtype
            np.testing.assert_allclose(
                L, np.linalg.cholesky(A), rtol=tol.SINGLE_SMALL, atol=tol.SINGLE_SMALL
            )
            np.testing.assert_allclose(L @ lower, T, rtol=tol.SINGLE_SMALL, atol=tol.SINGLE_SMALL)
            np.testing.assert_allclose(L.T @ upper, T, rtol=tol.SINGLE_SMALL, atol=tol.SINGLE_SMALL)
            assert small.solve_lower(L, T.astype(np.float64)).dtype == np.float64


def test_derivatives_of_the_dense_dialect(rng):
    """Forward, reverse and both orders of mixing them, against JAX's own factorisation."""

    def ours(A):
        return jnp.sum(jnp.sin(small.cholesky((A + A.T) / 2.0)))

    def theirs(A):
        return jnp.sum(jnp.sin(jnp.linalg.cholesky((A + A.T) / 2.0)))

    with jax.enable_x64(True):
        A = jnp.asarray(definite(rng, 3)[0])
        expected = oracle(jax.hessian(theirs))(A)
        slope = oracle(jax.grad(theirs))(A)
        np.testing.assert_allclose(oracle(jax.grad(ours))(A), slope, atol=tol.SMALL)
        for outer, inner in ((jax.jacfwd, jax.grad), (jax.jacrev, jax.jacfwd)):
            np.testing.assert_allclose(oracle(outer(inner(ours)))(A), expected, atol=tol.SMALL)
