"""θ, Λ and D: the order of θ, and the canonical form that is reported."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tolerances as tol
from jaxhlm.likelihood.covariance import (
    SINGULAR_SD,
    block_of,
    canonical,
    covariance_of,
    factor,
    lambda_matrix,
    lambda_of,
    theta_index,
    theta_of,
)
from jaxhlm.linalg.small import unroll

BLOCKS = [((0,),), ((0, 1),), ((0,), (1,)), ((0, 1, 2),), ((0, 1), (2,)), ((0, 2), (1,))]
every_blocks = pytest.mark.parametrize("blocks", BLOCKS, ids=str)


def covariance(theta, blocks):
    """D (B, q, q)."""
    Lambda = lambda_of(theta, blocks)
    return Lambda @ Lambda.swapaxes(1, 2)


def within(blocks):
    """(q, q) True where D may differ from zero."""
    q = sum(map(len, blocks))
    mask = np.zeros((q, q), bool)
    for block in blocks:
        mask[np.ix_(block, block)] = True
    return mask


def test_theta_goes_column_by_column_block_after_block():
    assert theta_index(block_of(3)) == ((0, 0), (1, 0), (2, 0), (1, 1), (2, 1), (2, 2))
    assert theta_index(((0, 1), (2,))) == ((0, 0), (1, 0), (1, 1), (2, 2))
    assert theta_index(((0, 2), (1,))) == ((0, 0), (2, 0), (2, 2), (1, 1))


@pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])
def test_covariances_have_the_dtype_of_theta(xp):
    """Of JAX's double precision, too, where zeros are else made in double precision."""
    with jax.enable_x64(True):
        theta = xp.ones((3, 2), "float32")
        D = covariance_of(theta, ((0, 1),))
        assert D.dtype == theta_of(D, ((0, 1),)).dtype == theta.dtype


@every_blocks
def test_every_form_of_lambda_is_the_same(rng, blocks):
    theta = rng.normal(size=(len(theta_index(blocks)), 4))
    Lambda = lambda_of(theta, blocks)
    assert (Lambda[:, ~(within(blocks) & np.tri(Lambda.shape[1], dtype=bool))] == 0.0).all()
    unrolled = lambda_matrix(unroll(theta, 1), blocks)
    for lane in range(4):
        with jax.enable_x64(True):
            dense = lambda_matrix(jnp.asarray(theta[:, lane]), blocks)
        np.testing.assert_array_equal(dense, Lambda[lane])
        spelled = [np.broadcast_to(entry, 4)[lane] for entry in unrolled.flat]
        np.testing.assert_array_equal(np.reshape(spelled, Lambda[lane].shape), Lambda[lane])
    np.testing.assert_array_equal([unrolled[index] for index in theta_index(blocks)], theta)


@every_blocks
def test_theta_of_a_covariance_is_canonical(rng, blocks):
    theta = rng.normal(size=(len(theta_index(blocks)), 50))
    D = covariance_of(theta, blocks)
    found = theta_of(D, blocks)
    np.testing.assert_allclose(covariance_of(found, blocks), D, rtol=tol.SMALL, atol=tol.SMALL)
    np.testing.assert_allclose(found, canonical(theta, blocks), rtol=tol.SMALL, atol=tol.SMALL)


@every_blocks
def test_canonical_keeps_the_covariance(rng, blocks):
    theta = rng.normal(size=(len(theta_index(blocks)), 50))
    tidy = canonical(theta, blocks)
    np.testing.assert_allclose(
        covariance(tidy, blocks), covariance(theta, blocks), atol=tol.ROUNDED
    )
    assert (np.diagonal(lambda_of(tidy, blocks), axis1=1, axis2=2) >= 0.0).all()
    np.testing.assert_allclose(canonical(tidy, blocks), tidy, atol=tol.CANONICAL)
    with jax.enable_x64(True):
        compiled = jax.jit(canonical, static_argnames="blocks")(theta, blocks)
    np.testing.assert_allclose(compiled, tidy, atol=tol.CANONICAL)


@given(st.lists(st.floats(-10.0, 10.0), min_size=3, max_size=3))
def test_canonical_keeps_any_covariance(theta):
    """Zeros, tiny and huge entries: D moves by no more than what counts as zero."""
    theta = np.array(theta)[:, None]
    tidy = canonical(theta, ((0, 1),))
    D, after = covariance(theta, ((0, 1),)), covariance(tidy, ((0, 1),))
    # Dropping a column takes its covariances along, which D ⪰ 0 bounds by √(D_00 D_11).
    bound = 1e-12 * D.max() + 2 * SINGULAR_SD * np.sqrt(D.max()) + SINGULAR_SD**2
    assert np.abs(after - D).max() <= bound
    assert tidy[0, 0] >= 0.0
    assert tidy[2, 0] >= 0.0


def test_negligible_variances_become_exactly_zero():
    tiny, small = 0.5 * SINGULAR_SD, 2.0 * SINGULAR_SD
    slope = canonical(np.array([[1.0], [0.5], [tiny]]), ((0, 1),))
    np.testing.assert_allclose(slope.ravel(), [1.0, 0.5, 0.0])
    assert slope[2, 0] == 0.0
    kept = canonical(np.array([[1.0], [0.5], [-small]]), ((0, 1),))
    np.testing.assert_allclose(kept[2, 0], small, rtol=tol.CANCELLED)
    # A vanished intercept takes its covariance along and leaves the slope its whole variance.
    intercept = canonical(np.array([[tiny], [0.0], [0.7]]), ((0, 1),))
    np.testing.assert_allclose(intercept.ravel(), [0.0, 0.0, 0.7])


def test_factor_of_singular_matrices():
    D = np.array([[4.0, 2.0, -6.0], [2.0, 1.0, -3.0], [-6.0, -3.0, 10.0]])
    Lambda = factor(unroll(D[..., None], 2), block_of(3), [1e-12] * 3, np)
    found = np.array([[np.ravel(entry)[0] for entry in row] for row in Lambda])
    np.testing.assert_allclose(found @ found.T, D, atol=tol.ROUNDED)
    assert found[1, 1] == 0.0
    assert found[2, 1] == 0.0
    np.testing.assert_allclose(found[2, 2], 1.0)
    nothing = factor(unroll(np.zeros((2, 2, 1)), 2), block_of(2), [0.0, 0.0], np)
    assert all(float(np.ravel(entry)[0]) == 0.0 for entry in nothing.flat)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_a_pivot_within_the_tolerance_is_zero_in_any_unit(scale):
    share = np.array([1e-10, 1e-6, 1e-6])
    D = np.tile([[1.0, 0.5], [0.5, 0.25]], (3, 1, 1))
    D[:, 1, 1] += share
    found = theta_of(scale * D, block_of(2), np.array([1e-9, 1e-9, 0.0])) / np.sqrt(scale)
    np.testing.assert_allclose(found[:2].T, np.tile([1.0, 0.5], (3, 1)))
    np.testing.assert_allclose(found[2], np.sqrt([0.0, 1e-6, 1e-6]), rtol=tol.CANCELLED)
    assert found[2, 0] == 0.0


@every_blocks
def test_of_many_on_an_explicit_mesh(blocks):
    """The entries are put in their places by what JAX can do to sharded arrays."""
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Explicit,))
    spec = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("d"))
    theta = np.arange(1.0, 1 + 2 * len(theta_index(blocks)), dtype=np.float32).reshape(2, -1)
    found = jax.vmap(lambda one: lambda_matrix(one, blocks))(jax.device_put(theta, spec))
    for one, values in zip(np.asarray(found), theta, strict=True):
        np.testing.assert_array_equal([one[at] for at in theta_index(blocks)], values)
