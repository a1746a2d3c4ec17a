"""Gradient, Hessian and ∂d/∂D in closed form against automatic differentiation, in both dialects.

Automatic differentiation goes through ``profile``; ``hlm.deviance``, which has the closed forms as
its derivatives, is compared with the definition by test_deviance.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_deviance import SHAPES

import jaxhlm as hlm
import tolerances as tol
from cases import SIZES, random_lambda, rows
from jaxhlm import reference
from jaxhlm.likelihood.covariance import lambda_matrix, theta_index
from jaxhlm.likelihood.derivatives import derivatives
from jaxhlm.likelihood.deviance import profile
from jaxhlm.likelihood.lane_derivatives import lane_derivatives, unrollable
from oracles import oracle, stats_of

every_shape = pytest.mark.parametrize(("q", "p", "blocks"), SHAPES)
METHODS = (True, False)
every_method = pytest.mark.parametrize("reml", METHODS)


@cache
def problem(q, p, blocks):
    rng = np.random.default_rng(q * 100 + len(blocks))
    y, X, Z, group = rows(rng, SIZES, q, p)
    theta, _ = random_lambda(rng, blocks)
    with jax.enable_x64(True):
        stats = stats_of(y, X, Z, group, rng.uniform(0.5, 2.0, len(y)))
        return theta, stats


def by_profile(theta, stats, reml=True, blocks=((0, 1),)):
    return profile(lambda_matrix(theta, blocks), stats, reml).value


@cache
def automatic_of_both(q, p, blocks):
    """Gradients (2, k) and Hessians (2, k, k) by REML and ML, in one program."""
    theta, stats = problem(q, p, blocks)

    def criteria(t):
        return jnp.stack([by_profile(t, stats, reml, blocks) for reml in METHODS])

    def slopes(t):
        return (jax.jacrev(criteria)(t),) * 2

    with jax.enable_x64(True):
        hess, grad = oracle(jax.jacfwd(slopes, has_aux=True))(jnp.array(theta))
    return np.asarray(grad), np.asarray(hess)


def automatic(q, p, blocks, reml):
    which = METHODS.index(reml)
    return tuple(of_both[which] for of_both in automatic_of_both(q, p, blocks))


@cache
def dense_of_both(q, p, blocks):
    """The derivatives of the dense dialect by REML and ML, in one program."""
    theta, stats = problem(q, p, blocks)
    with jax.enable_x64(True):
        run = oracle(lambda t: [derivatives(t, stats, reml, blocks) for reml in METHODS])
        return run(jnp.array(theta))


def assert_close(found, expected):
    grad, hess = expected
    np.testing.assert_allclose(found.grad, grad, atol=tol.DERIVATIVE * np.abs(grad).max())
    np.testing.assert_allclose(found.hess, hess, atol=tol.DERIVATIVE * np.abs(hess).max())


@pytest.mark.slow
@every_shape
@every_method
def test_dense_dialect(q, p, blocks, reml):
    theta, stats = problem(q, p, blocks)
    found = dense_of_both(q, p, blocks)[METHODS.index(reml)]
    assert_close(found, automatic(q, p, blocks, reml))
    lane = jax.tree.map(lambda x: np.asarray(x)[..., None], stats)
    other = lane_derivatives(theta[:, None], lane, reml, blocks).pwrss_grad[:, 0]
    np.testing.assert_allclose(found.pwrss_grad, other, rtol=tol.DERIVATIVE)


def left_to_slow(shapes, ids):
    """The same parameters; those of ``ids``, whose oracles take long to compile, are slow."""
    slow = pytest.mark.slow
    return [pytest.param(*s.values, id=s.id, marks=[slow] * (s.id in ids)) for s in shapes]


UNROLLED = [s for s in SHAPES if s.id != "general path"]


@pytest.mark.parametrize(
    ("q", "p", "blocks"), left_to_slow(UNROLLED, ("diagonal", "two slopes", "two terms"))
)
@every_method
def test_unrolled_dialect(q, p, blocks, reml):
    """In NumPy; test_lanes compares its compiled form with this."""
    theta, stats = problem(q, p, blocks)
    lane = jax.tree.map(lambda x: np.asarray(x)[..., None], stats)
    assert unrollable(lane)
    found = lane_derivatives(theta[:, None], lane, reml, blocks)
    assert isinstance(found.hess, np.ndarray)
    assert_close(jax.tree.map(lambda x: x[..., 0], found), automatic(q, p, blocks, reml))


@pytest.mark.slow
def test_deviance_has_the_closed_forms():
    """Its Hessian, and how its gradient moves with the statistics."""
    theta, stats = problem(2, 4, ((0, 1),))
    step = jax.tree.map(jnp.ones_like, stats)

    def moved(criterion):
        return lambda t: jax.jvp(lambda s: jax.grad(criterion)(t, s), (stats,), (step,))

    with jax.enable_x64(True):
        at = jnp.array(theta)
        hess = oracle(jax.hessian(hlm.deviance))(at, stats)
        found, expected = (oracle(moved(f))(at) for f in (hlm.deviance, by_profile))
    grad, second = automatic(2, 4, ((0, 1),), True)
    for a, b in zip((found[0], *found, hess), (grad, *expected, second), strict=True):
        np.testing.assert_allclose(a, b, atol=tol.DERIVATIVE * np.abs(b).max())


def test_third_derivatives_of_deviance():
    theta, stats = problem(1, 2, ((0,),))
    with jax.enable_x64(True):
        at = jnp.array(theta)
        hessian = jax.hessian(lambda t: hlm.deviance(t, stats))
        run = oracle(jax.vmap(lambda t: jax.jvp(hessian, (t,), (jnp.ones_like(t),))))
        hess, third = run(at + jnp.array([[0.0], [1e-5], [-1e-5]]))
    slope = np.asarray(hess[1] - hess[2]) / 2e-5
    np.testing.assert_allclose(third[0], slope, rtol=tol.DIFFERENCES)


def test_deviance_without_fixed_effects():
    theta, stats = problem(2, 4, ((0, 1),))
    none = stats._replace(TX=stats.TX[..., :0], XX=stats.XX[:0, :0], Xy=stats.Xy[:0], rank=0.0)
    with jax.enable_x64(True):
        found, expected = (
            oracle(jax.value_and_grad(f))(jnp.array(theta), none)
            for f in (hlm.deviance, by_profile)
        )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=tol.DERIVATIVE)


def test_derivatives_of_a_deficient_design_are_not_numbers():
    """As the deviance is not."""
    theta, stats = problem(2, 4, ((0, 1),))
    twice = np.array([0, 1, 1, 3])
    same = stats._replace(TX=stats.TX[..., twice], XX=stats.XX[twice][:, twice], Xy=stats.Xy[twice])
    with jax.enable_x64(True):
        value, slopes = oracle(jax.value_and_grad(hlm.deviance, (0, 1)))(jnp.array(theta), same)
    assert np.isnan(value)
    assert np.isnan(slopes[0]).all()
    assert np.isnan(slopes[1].Ty).all()


@every_method
def test_at_zero(reml):
    """Λ = 0 is a stationary point with Hessian 2F: what the check of the boundary relies on."""
    blocks = ((0, 1),)
    _, stats = problem(2, 4, blocks)
    lane = jax.tree.map(lambda x: np.asarray(x)[..., None], stats)
    found = jax.tree.map(
        lambda x: x[..., 0], lane_derivatives(np.zeros((3, 1)), lane, reml, blocks)
    )
    np.testing.assert_array_equal(found.grad, 0.0)
    F = found.F
    expected = 2.0 * np.array([[F[0, 0], F[0, 1], 0.0], [F[0, 1], F[1, 1], 0.0], [0, 0, F[1, 1]]])
    np.testing.assert_allclose(found.hess, expected, rtol=tol.SMALL)


@every_method
@pytest.mark.parametrize("q", [1, 2, 3])
def test_slope_in_the_covariance(rng, q, reml):
    """F = ∂d/∂D against differences of the dense criterion along every symmetric direction."""
    y, X, Z, group = rows(rng, SIZES, q, 3)
    _, Lambda = random_lambda(rng, (tuple(range(q)),))
    D, step = Lambda @ Lambda.T + 0.1 * np.eye(q), 1e-5
    root, index = np.linalg.cholesky(D), theta_index((tuple(range(q)),))
    with jax.enable_x64(True):
        lane = jax.tree.map(lambda x: np.asarray(x)[..., None], stats_of(y, X, Z, group))
    theta = np.array([[root[i]] for i in index])
    F = lane_derivatives(theta, lane, reml, (tuple(range(q)),)).F[..., 0]
    np.testing.assert_array_equal(F, F.T)
    for a, b in index:
        E = np.zeros((q, q))
        E[a, b] = E[b, a] = 1.0
        ends = [
            reference.criterion(np.linalg.cholesky(D + s * step * E), y, X, Z, group, reml)
            for s in (1, -1)
        ]
        slope = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose((F * E).sum(), slope, atol=tol.DIFFERENCES * np.abs(F).max())


@every_shape
@every_method
def test_sigma_fixed(q, p, blocks, reml):
    """At σ² = pwrss/ν fixing σ changes no slope, and the Hessian by ν ∇pwrss ∇pwrss'/pwrss²."""
    theta, stats = problem(q, p, blocks)
    lane = jax.tree.map(lambda x: np.asarray(x)[..., None], stats)

    def at(t, sigma2=None):
        return lane_derivatives(t[:, None], lane, reml, blocks, sigma2=sigma2)

    free = at(theta)
    pwrss, nu = free.profile.pwrss, free.profile.nu
    fixed, slope = at(theta, pwrss / nu), free.pwrss_grad[:, 0]
    np.testing.assert_allclose(fixed.grad, free.grad, rtol=tol.SMALL)
    bend = nu * slope[:, None] * slope / pwrss**2
    np.testing.assert_allclose(fixed.hess[..., 0], free.hess[..., 0] + bend, rtol=tol.DERIVATIVE)
    for i, h in enumerate(1e-5 * np.eye(len(theta))):
        difference = at(theta + h).profile.pwrss - at(theta - h).profile.pwrss
        np.testing.assert_allclose(
            difference / 2e-5, slope[i], atol=tol.DIFFERENCES * np.abs(slope).max()
        )
