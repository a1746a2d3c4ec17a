"""The step, the loop, the start, the boundary, and that many hard little fits all converge."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxhlm as hlm
import tolerances as tol
from cases import SLEEP, rows
from jaxhlm import reference
from jaxhlm.core.status import Status
from jaxhlm.errors import ConvergenceWarning, OptionError
from jaxhlm.estimation.pipeline import Prepared
from jaxhlm.likelihood.covariance import pivots as diagonal
from jaxhlm.likelihood.covariance import theta_index
from jaxhlm.optimise import solve as solve_module
from jaxhlm.optimise import trust_region
from jaxhlm.optimise.options import Options
from jaxhlm.optimise.solve import solve
from jaxhlm.optimise.start import START_FLOOR, started
from jaxhlm.optimise.trust_region import newton_direction

# A tolerance that a user may ask for.
LOOSE = 1e-2


@cache
def unbalanced():
    """sleepstudy without its first rows: not balanced, so no closed form starts it."""
    return hlm.load_dataset("sleepstudy").iloc[3:]


@cache
def usual():
    return hlm.fit(SLEEP, unbalanced())


@cache
def usual_stats():
    return stats_on(usual().design, usual().design.y)


# The step.


def test_newton_direction_is_newtons_where_h_is_definite(rng):
    root = rng.normal(size=(6, 3, 5))
    hess, grad = root @ root.swapaxes(1, 2), rng.normal(size=(6, 3))
    step, decrement, psd = newton_direction(grad.T, np.moveaxis(hess, 0, -1))
    expected = -np.linalg.solve(hess, grad[..., None])[..., 0]
    np.testing.assert_allclose(step.T, expected, rtol=tol.SMALL)
    np.testing.assert_allclose(decrement, -0.5 * (grad * expected).sum(axis=1), rtol=tol.SMALL)
    assert psd.all()


@given(st.integers(0, 10**6), st.integers(1, 4))
def test_newton_direction_always_descends(seed, k):
    rng = np.random.default_rng(seed)
    hess = rng.normal(size=(k, k, 50)) * 10.0 ** rng.uniform(-4, 4, size=50)
    hess, grad = hess + hess.swapaxes(0, 1), rng.normal(size=(k, 50))
    step, decrement, psd = newton_direction(grad, hess)
    assert ((step * grad).sum(axis=0) < 0.0).all()
    assert (decrement > 0.0).all()
    smallest = np.linalg.eigvalsh(np.moveaxis(hess, -1, 0))[:, 0] / np.abs(hess).max(axis=(0, 1))
    assert psd[smallest > 1e-9].all()
    assert not psd[smallest < -1e-3].any()


def test_newton_is_an_optax_transformation(rng):
    """It chains, jits and takes lanes, and undoes a step that went up."""
    opt = optax.chain(hlm.newton(), optax.identity())
    theta = jnp.array([[3.0, -2.0], [1.0, 5.0]])
    state = opt.init(theta)
    extra = {"value": jnp.array([5.0, 14.5]), "hessian": jnp.repeat(jnp.eye(2)[..., None], 2, -1)}
    move, state = jax.jit(opt.update)(theta, state, theta, **extra)
    assert (np.abs(move + theta) <= np.abs(theta)).all()
    worse = {"value": jnp.array([99.0, 0.0]), "hessian": extra["hessian"]}
    back, _ = jax.jit(opt.update)(theta + move, state, theta + move, **worse)
    shorter = np.linalg.norm((move + back)[:, 0]) / np.linalg.norm(move[:, 0])
    np.testing.assert_allclose(shorter, 0.25, rtol=tol.SINGLE_SMALL)


def test_trust_region_is_bounded_and_grows():
    state = trust_region.init(np.array([[0.0]]))
    flat = np.array([[[1e-8]]])
    move, state = trust_region.update(
        np.array([[1.0]]), state, np.zeros((1, 1)), value=np.ones(1), hessian=flat
    )
    rule = trust_region.RADIUS
    np.testing.assert_allclose(np.abs(move), rule.first_factor * rule.first_offset)
    value = np.array([1.0 - 0.1])
    _, after = trust_region.update(np.array([[1.0]]), state, move, value=value, hessian=flat)
    assert after.radius > 2.0 * state.radius


# Whatever takes the steps.


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "max_iter"),
    [
        pytest.param(hlm.newton(), 100, id="newton"),
        pytest.param(optax.adam(0.05), 5000, id="adam"),
        pytest.param(optax.lbfgs(0.1, linesearch=None), 5000, id="lbfgs without line search"),
        pytest.param(optax.lbfgs(), 100, id="lbfgs"),
    ],
)
def test_any_optax_optimiser_reaches_the_same_optimum(optimizer, max_iter):
    fit = hlm.fit(SLEEP, unbalanced(), optimizer=optimizer, max_iter=max_iter)
    assert fit.status == Status.CONVERGED
    np.testing.assert_allclose(fit.criterion, usual().criterion, atol=tol.OPTIMISERS)
    np.testing.assert_allclose(fit.theta, usual().theta, rtol=tol.ESTIMATE)


def test_iteration_limit_is_told():
    with pytest.warns(ConvergenceWarning, match="iteration limit"):
        fit = hlm.fit(SLEEP, unbalanced(), max_iter=1)
    assert fit.status == Status.ITERATION_LIMIT
    assert fit.criterion > usual().criterion
    with pytest.warns(ConvergenceWarning, match="1 iteration_limit"):
        fits = hlm.fit_many(SLEEP, unbalanced(), unbalanced()[["Reaction"]], max_iter=1)
    assert fits.status.tolist() == [Status.ITERATION_LIMIT]


@pytest.mark.parametrize("option", [{"max_iter": 0}, {"tol": 0.0}, {"tol": np.nan}])
def test_controls_are_checked(option):
    with pytest.raises(OptionError, match=next(iter(option))):
        hlm.fit(SLEEP, unbalanced(), **option)


def test_the_optimum_is_stationary_and_exact():
    """At the reported θ nothing is left to gain, by the decrement of the raw criterion."""
    found = solve(usual_stats(), Options(True, ((0, 1),)))
    assert found.gradient_norm[0] < tol.GRADIENT
    loose = solve(usual_stats(), Options(True, ((0, 1),), tol=LOOSE))
    assert loose.iterations[0] < found.iterations[0]
    np.testing.assert_allclose(loose.value, found.value, atol=LOOSE)


# Where it starts, and the boundary.


def stats_on(design, *responses):
    return Prepared(design).reduce_responses(np.column_stack(responses)).stats


@pytest.mark.parametrize("blocks", [((0, 1),), ((0,), (1,))])
@pytest.mark.parametrize("sd", [0.0, 0.01, 1.0, 100.0])
def test_starts_are_never_near_a_zero_variance(rng, blocks, sd):
    y, _, Z, group = rows(rng, (9, 1, 7, 3, 12, 2), sd=sd)
    data = pd.DataFrame({"y": y, "x": Z[:, 1], "unit": group})
    stats = stats_on(hlm.design("~ x + (1 + x | unit)", data), y)
    start = started(stats, np.full((len(theta_index(blocks)), 1), np.nan), blocks)
    pivots = start[diagonal(blocks)]
    assert np.isfinite(start).all()
    assert (pivots**2 >= 0.999 * START_FLOOR * 6 / len(y)).all()


def from_saddle(monkeypatch, stats, theta, options):
    """``solve``, led to believe that its first evaluations converged at θ."""
    minimise, calls = solve_module._minimise, []

    def first_then_true(stats, start, options, max_iter, *among):
        calls.append(max_iter)
        if len(calls) > 1:
            return minimise(stats, start, options, max_iter, *among)
        at = minimise(stats, theta, options, 1)
        return at._replace(converged=np.array([True]))

    monkeypatch.setattr(solve_module, "_minimise", first_then_true)
    return solve(stats, options)


@pytest.mark.parametrize(("term", "intercept"), [("|", None), ("||", None), ("||", 0.0)])
def test_leaves_a_boundary_that_is_no_minimum(monkeypatch, term, intercept):
    """Zero variances are stationary whatever the data; only F = ∂d/∂D tells."""
    design = hlm.fit(f"Reaction ~ Days + (1 + Days {term} Subject)", unbalanced()).design
    stats, options = stats_on(design, design.y), Options(True, design.blocks)
    best = solve(stats, options)
    theta = np.zeros_like(best.theta)
    if intercept is None:
        theta[0] = hlm.fit("Reaction ~ Days + (1 | Subject)", unbalanced()).theta
    found = from_saddle(monkeypatch, stats, theta, options)
    assert found.converged[0]
    np.testing.assert_allclose(found.value, best.value, atol=tol.CRITERION)
    np.testing.assert_allclose(found.theta, best.theta, rtol=tol.ESTIMATE)


# Many hard little fits.

DESIGNS = {"6 of 4": (4,) * 6, "10 of 5": (5,) * 10, "unbalanced": (1, 1, 2, 3, 4, 5, 1, 6, 2, 3)}


@cache
def little(name, method):
    """170 data sets on a design, random effects from far smaller to far larger than residuals."""
    rng = np.random.default_rng(len(name))
    y, X, Z, group = rows(rng, DESIGNS[name], 2, 2)
    sd = 10.0 ** rng.uniform(-1.5, 1.0, size=(2, 170))
    b = rng.normal(size=(len(DESIGNS[name]), 2, 170)) * sd
    Y = np.einsum("nq,nqb->nb", Z, b[group]) + rng.normal(size=(len(y), 170))
    data = pd.DataFrame({"x": Z[:, 1], "unit": group})
    fits = hlm.fit_many("~ x + (1 + x | unit)", data, Y, reml=method == "REML")
    return Y, X, Z, group, fits


@pytest.mark.slow
@pytest.mark.parametrize("name", DESIGNS)
@pytest.mark.parametrize("method", ["REML", "ML"])
def test_little_data_sets_all_converge(name, method):
    fits = little(name, method)[-1]
    assert fits.ok.all()
    assert 0.1 < fits.singular.mean() < 0.95
    assert fits.gradient_norm.max() < tol.LITTLE_GRADIENT
    # So few groups are tried from seven more starts, and those of several minima from 48 others.
    assert np.median(fits.iterations) <= 120
    assert fits.iterations.max() <= 60 * 10


@pytest.mark.slow
@pytest.mark.parametrize("name", DESIGNS)
@pytest.mark.parametrize("method", ["REML", "ML"])
def test_little_data_sets_reach_the_lowest_known_criterion(name, method):
    """The reference starts five times."""
    Y, X, Z, group, fits = little(name, method)
    lowest = [reference.fit(y, X, Z, group, method == "REML").criterion for y in Y[:, :60].T]
    excess = fits.criterion.to_numpy()[:60] - lowest
    assert excess.max() < tol.CRITERION
