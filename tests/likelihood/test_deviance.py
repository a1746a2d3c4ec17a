"""The likelihood in JAX against its dense definition, and under JAX's transformations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxhlm as hlm
import tolerances as tol
from cases import SIZES, arrays_of, random_lambda, rows
from jaxhlm import reference
from oracles import oracle, stats_of

SHAPES = [
    pytest.param(1, 2, ((0,),), id="intercept"),
    pytest.param(2, 4, ((0, 1),), id="slope"),
    pytest.param(2, 4, ((0,), (1,)), id="diagonal"),
    pytest.param(3, 5, ((0, 1, 2),), id="two slopes"),
    pytest.param(3, 5, ((0, 1), (2,)), id="two terms"),
    pytest.param(4, 9, ((0, 1), (2, 3)), id="general path"),
]
THETA = np.array([0.7, 0.2, 0.5])
deviance = oracle(hlm.deviance, static_argnums=(2, 3))
loglik = jax.jit(hlm.loglik)


@pytest.mark.parametrize(("q", "p", "blocks"), SHAPES)
def test_equals_the_dense_definition(rng, q, p, blocks):
    y, X, Z, group = rows(rng, SIZES, q, p)
    weights = rng.uniform(0.5, 2.0, size=len(y))
    thetas = [random_lambda(rng, blocks) for _ in range(3)]
    for w in (weights, np.ones(len(y))):
        with jax.enable_x64(True):
            stats = stats_of(y, X, Z, group, w)
        for reml in (True, False):
            for theta, Lambda in thetas:
                expected = reference.criterion(Lambda, y, X, Z, group, reml, w)
                with jax.enable_x64(True):
                    found = deviance(jnp.array(theta), stats, reml, blocks)
                np.testing.assert_allclose(found, expected, rtol=tol.DEVIANCE)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", ["sleepstudy", "dyestuff2_singular", "unbalanced_dropout"])
def test_equals_the_dense_definition_at_the_optimum(name, reml):
    y, X, Z, group, _ = arrays_of(name)
    best = reference.fit(y, X, Z, group, reml)
    with jax.enable_x64(True):
        found = deviance(jnp.array(best.theta), stats_of(y, X, Z, group), reml, None)
    dense = reference.criterion(best.Lambda, y, X, Z, group, reml)
    np.testing.assert_allclose(found, dense, rtol=tol.DEVIANCE)


@pytest.mark.parametrize("ratio", [1e-8, 1e2])
def test_large_and_tiny_random_effects(rng, ratio):
    """Larger ones cancel digits in raw cross products; ``fit`` does not (test_standardise)."""
    y, X, Z, group = rows(rng, SIZES)
    expected = reference.criterion_by_group(ratio * np.eye(2), y, X, Z, group)
    with jax.enable_x64(True):
        stats = stats_of(y, X, Z, group)
        found = deviance(ratio * jnp.array([1.0, 0.0, 1.0]), stats, True, None)
    np.testing.assert_allclose(found, expected, rtol=tol.DEVIANCE)


@pytest.mark.parametrize("weighted", [False, True])
def test_loglik_equals_the_dense_definition(rng, weighted):
    y, X, Z, group = rows(rng, SIZES)
    w = rng.uniform(0.5, 2.0, size=len(y)) if weighted else np.ones(len(y))
    theta, Lambda = random_lambda(rng, ((0, 1),))
    beta, sigma = rng.normal(size=4), 1.3
    cov = sigma**2 * Lambda @ Lambda.T
    expected = reference.marginal_loglik(y, X, Z, group, beta, cov, sigma, w)
    with jax.enable_x64(True):
        found = loglik(jnp.array(beta), jnp.array(theta), sigma, stats_of(y, X, Z, group, w))
    np.testing.assert_allclose(found, expected, rtol=tol.DEVIANCE)


def test_deviance_is_the_profiled_loglik(rng):
    """At any θ: −2 max over β and σ of the log-likelihood, a quadratic in β and Q/σ² + 2n log σ."""
    y, X, Z, group = rows(rng, SIZES)
    with jax.enable_x64(True):
        stats, theta = stats_of(y, X, Z, group), jnp.array(THETA)

        def minus(at):
            return -2.0 * hlm.loglik(at[:-1], theta, jnp.exp(at[-1]), stats)

        derivatives = oracle(lambda at: (jax.grad(minus)(at), jax.hessian(minus)(at)))
        grad, hess = derivatives(jnp.zeros(5))
        beta = -np.linalg.solve(hess[:4, :4], grad[:4])
        slope = derivatives(jnp.array([*beta, 0.0]))[0][4]
        at = jnp.array([*beta, 0.5 * np.log(1.0 - 0.5 * slope / len(y))])
        grad, hess = derivatives(at)
        assert np.abs(grad).max() < tol.DERIVATIVE
        assert np.linalg.eigvalsh(hess)[0] > 0.0
        profiled = deviance(theta, stats, False, None)
        np.testing.assert_allclose(jax.jit(minus)(at), profiled, rtol=tol.SUMMED)


def test_loglik_is_least_sloped_at_the_fit(rng):
    """The score in β, θ and σ together vanishes at the maximum-likelihood estimates."""
    y, X, Z, group = rows(rng, SIZES, sd=1.0)
    best = reference.fit(y, X, Z, group, reml=False)
    with jax.enable_x64(True):
        score = oracle(jax.grad(hlm.loglik, argnums=(0, 1, 2)))
        at = (jnp.array(best.beta), jnp.array(best.theta), best.sigma)
        stats = stats_of(y, X, Z, group)
        slopes = score(*at, stats)
        np.testing.assert_allclose(loglik(*at, stats), best.loglik, rtol=tol.DEVIANCE)
    assert max(np.abs(s).max() for s in slopes) < tol.SCORE


def test_jit_and_vmap_change_nothing(rng):
    y, X, Z, group = rows(rng, SIZES)
    thetas = rng.normal(size=(5, 3))
    with jax.enable_x64(True):
        stats = stats_of(y, X, Z, group)
        one_by_one = [float(deviance(jnp.array(t), stats, True, None)) for t in thetas]
        together = jax.jit(jax.vmap(lambda t: hlm.deviance(t, stats)))(thetas)
    np.testing.assert_allclose(together, one_by_one, rtol=tol.REORDERED)


def test_groups_without_rows_add_nothing(rng):
    y, X, Z, group = rows(rng, SIZES)
    with jax.enable_x64(True):
        theta = jnp.array(THETA)
        plain = deviance(theta, stats_of(y, X, Z, group), True, None)
        padded = deviance(theta, stats_of(y, X, Z, group * 2 + 1, G=20), True, None)
    np.testing.assert_allclose(padded, plain, rtol=tol.REORDERED)


def test_equal_groups_count_as_often_as_they_are(rng):
    """Two groups with the same rows are one of m = 2, as ``statistics/equal_groups`` has them."""
    y, X, Z, group = rows(rng, SIZES)
    beta, sigma, Lambda = np.array([1.0, -0.5, 0.3, 0.2]), 1.3, np.array([[0.7, 0.0], [0.2, 0.5]])
    twice = *(np.concatenate([a, a]) for a in (y, X, Z)), np.r_[group, group + len(SIZES)]
    with jax.enable_x64(True):
        one, theta = stats_of(y, X, Z, group), jnp.array(THETA)
        doubled = {f: 2.0 * getattr(one, f) for f in ("m", "XX", "Xy", "yy", "n")}
        root = {f: np.sqrt(2.0) * getattr(one, f) for f in ("TX", "Ty")}
        stats = one._replace(**doubled, **root)
        found = [deviance(theta, stats, reml, None) for reml in (True, False)]
        found.append(loglik(jnp.array(beta), theta, sigma, stats))
    expected = [reference.criterion(Lambda, *twice, reml) for reml in (True, False)]
    cov = sigma**2 * Lambda @ Lambda.T
    expected.append(reference.marginal_loglik(*twice, beta, cov, sigma, np.ones(len(twice[0]))))
    np.testing.assert_allclose(found, expected, rtol=tol.DEVIANCE)


def test_even_in_every_column(rng):
    """The sign of a column of Λ does not matter: this is what makes boundary optima smooth."""
    y, X, Z, group = rows(rng, SIZES)
    with jax.enable_x64(True):
        stats = stats_of(y, X, Z, group)
        values = [
            float(deviance(jnp.array(THETA) * jnp.array(signs), stats, True, None))
            for signs in ([1.0, 1.0, 1.0], [-1.0, -1.0, 1.0], [1.0, 1.0, -1.0])
        ]
    np.testing.assert_allclose(values, values[0], rtol=tol.ROUNDED)


def test_rank_deficient_x_is_nan(rng):
    y, X, Z, group = rows(rng, SIZES)
    X[:, 3] = 0.0
    with jax.enable_x64(True):
        assert np.isnan(deviance(jnp.array(THETA), stats_of(y, X, Z, group), True, None))


def test_follows_the_dtype_it_is_given(rng):
    y, X, Z, group = (a.astype(np.float32) for a in rows(rng, SIZES))
    group = group.astype(int)
    found = deviance(jnp.ones(3), stats_of(y, X, Z, group), True, None)
    assert found.dtype == jnp.float32
    expected = reference.criterion(np.tril(np.ones((2, 2))), y, X, Z, group)
    np.testing.assert_allclose(found, expected, rtol=tol.SINGLE)


def test_a_rank_deficient_design_is_nan(rng):
    x, y, group = rng.normal(size=60), rng.normal(size=60), np.repeat(np.arange(10), 6)
    one, theta = np.ones((60, 1)), np.ones(1)
    with jax.enable_x64(True):
        full = stats_of(y, np.column_stack([one, x]), one, group)
        assert np.isfinite(deviance(theta, full, True, None))
        assert np.isfinite(oracle(jax.grad(hlm.deviance))(theta, full)).all()
        for X in (np.column_stack([one, x, x]), np.column_stack([one, x, 1.0 - 3.0 * x])):
            assert np.isnan(deviance(theta, stats_of(y, X, one, group), True, None))


WRONG = {
    "theta": lambda s: hlm.deviance(np.ones(2), s),
    "beta": lambda s: hlm.loglik(np.ones(1), np.ones(3), 1.0, s),
    "sigma": lambda s: hlm.loglik(np.ones(2), np.ones(3), np.ones(2), s),
    "blocks": lambda s: hlm.deviance(np.ones(3), s, blocks=((0,), (0,))),
    "XX": lambda s: hlm.deviance(np.ones(3), s._replace(XX=s.XX[:1])),
    "Ty": lambda s: hlm.minimise(s._replace(Ty=s.Ty[:-1])),
    "vmap": lambda s: hlm.minimise(jax.tree.map(lambda x: jnp.stack([x, x]), s)),
    "suffstats": lambda s: hlm.deviance(np.ones(3), tuple(s)),
}


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("name", WRONG)
def test_shapes_that_do_not_fit_are_named(rng, name, traced):
    stats = stats_of(*rows(rng, (5, 4, 6), 2, 2))
    with pytest.raises(hlm.JaxhlmError, match=name):
        (jax.eval_shape if traced else lambda f, s: f(s))(WRONG[name], stats)


@pytest.mark.parametrize("reml", [2, 0.5, "ML", None, np.array(True)])
def test_reml_is_true_or_false(rng, reml):
    stats = stats_of(*rows(rng, (5, 4, 6), 2, 2))
    with pytest.raises(hlm.errors.OptionError, match="reml="):
        hlm.deviance(np.ones(3), stats, reml)
    with pytest.raises(hlm.errors.OptionError, match="reml="):
        jax.jit(lambda traced: hlm.deviance(np.ones(3), stats, traced))(True)
