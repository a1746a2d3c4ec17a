"""Bases and square roots against their definitions, where digits are at stake."""

import numpy as np
import pytest

import tolerances as tol
from jaxhlm.linalg.factors import orthonormal_basis, principal_axes, root_of_sum, semidefinite_root

# What orthonormal_basis is told to take for rounding.
SHORT = 1e-8


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("short", [1e-9, 1e-6])
def test_a_basis_spans_what_is_not_short(rng, scale, short):
    """Columns 1e-6 apart make directions as good as any; one that is too short beside all is none.

    Once is not enough (Kahan): after one step of Gram–Schmidt ten digits of orthogonality are left.
    """
    first = rng.normal(size=(8, 2))
    near = first[:, 0] + short * rng.normal(size=8)
    M = scale * np.column_stack([first, near, first @ [1.0, 1.0]])
    rows = orthonormal_basis(M, SHORT)
    assert len(rows) == 2 + (short > SHORT)
    np.testing.assert_allclose(rows @ rows.T, np.eye(len(rows)), atol=tol.CANONICAL)
    left = np.linalg.norm(M - rows.T @ (rows @ M), axis=0)
    assert left.max() < SHORT * np.linalg.norm(M, axis=0).max()


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_a_semidefinite_root(rng, scale):
    """Of full rank and of rank 2, several at a time; the default floor, and a higher one."""
    F = scale * rng.normal(size=(4, 4, 3))
    F[:, 2:, 1] = 0.0
    A = np.einsum("ikb,jkb->ijb", F, F)
    L = semidefinite_root(A)
    np.testing.assert_allclose(np.einsum("ikb,jkb->ijb", L, L), A, atol=tol.SMALL * scale**2)
    assert (L[:, 2:, 1] == 0.0).all()
    np.testing.assert_array_equal(
        semidefinite_root(np.diag([4.0, 2.0, 9.0]), 2.0), np.diag([2.0, 0.0, 3.0])
    )
    tiny = np.array([[1.0, 1.0], [1.0, 1.0 + 1e-9]])
    np.testing.assert_allclose(semidefinite_root(tiny)[1, 1], np.sqrt(1e-9), rtol=tol.CANCELLED)


def test_a_root_of_a_sum(rng):
    F, S = rng.normal(size=(2, 5, 3, 3))
    L = root_of_sum(F, 1e-3 * S)
    np.testing.assert_allclose(L @ L.mT, F @ F.mT + 1e-6 * S @ S.mT, atol=tol.SMALL)
    np.testing.assert_array_equal(L, np.tril(L))
    assert (np.einsum("bjj->bj", L) >= 0.0).all()


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_principal_axes(rng, unit):
    """Eigenvectors, those of equal eigenvalues chosen by the space that they span alone."""
    Q = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    equal = np.array([1.0, 2.0, 2.0, 2.0])
    A = np.stack([(Q * values) @ Q.T for values in (equal, np.arange(4.0))])
    values, axes = principal_axes(unit * A)
    values = values / unit
    np.testing.assert_allclose(values, [equal, np.arange(4.0)], atol=tol.SMALL)
    np.testing.assert_allclose((axes * values[:, None]) @ axes.mT, A, atol=tol.SMALL)
    np.testing.assert_allclose(axes.mT @ axes, np.tile(np.eye(4), (2, 1, 1)), atol=tol.SMALL)
    # The first axis is the projection of the first unit vector that is long in the space.
    P = Q[:, 1:] @ Q[:, 1:].T
    size = np.diag(P)
    first = P[:, np.argmax(size >= 0.37 * size.max())]
    np.testing.assert_allclose(axes[0, :, 1], first / np.linalg.norm(first), atol=tol.SMALL)
