"""Fits from sufficient statistics, in JAX, are those of rows."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxhlm as hlm
import tolerances as tol
from cases import FORMULA, SIZES, SLEEP, article, rows, sleepstudy
from jaxhlm import reference
from oracles import oracle, stats_of

FIELDS = ("beta", "vcov", "theta", "sigma", "cov", "criterion")


@cache
def compiled(reml=True, blocks=None, ranef=False):
    return oracle(partial(hlm.fit_statistics, reml=reml, blocks=blocks, ranef=ranef))


def of_fit(fit):
    """Arrays of a fit, or of many, by the names of ``fit_statistics``."""
    values = fit.fixef, fit.vcov, fit.theta, fit.sigma, fit.varcorr.cov, fit.criterion
    return dict(zip(FIELDS, map(np.asarray, values), strict=True))


def assert_equal(found, expected):
    for name, value in expected.items():
        tolerance = tol.CRITERION if name == "criterion" else tol.ESTIMATE
        np.testing.assert_allclose(
            getattr(found, name), value, rtol=tol.ESTIMATE, atol=tolerance, err_msg=name
        )


def fitted(rows, weights=None, G=None, **options):
    """In float64, as NumPy arrays."""
    with jax.enable_x64(True):
        stats = stats_of(*rows, weights, G)
        return jax.tree.map(np.asarray, compiled(**options)(stats))


@pytest.mark.slow
@pytest.mark.parametrize("reml", [True, False])
def test_equals_fit(reml):
    fit = sleepstudy(reml)
    d = fit.design
    found = fitted((d.y, d.X, d.Z, d.group), reml=reml, ranef=True)
    assert hlm.Status(int(found.status)) is fit.status and found.settled
    assert found.gradient_norm < tol.GRADIENT
    assert_equal(found, of_fit(fit))
    size = np.abs(fit.ranef.to_numpy()).max(axis=0)
    np.testing.assert_allclose(found.ranef / size, fit.ranef / size, atol=tol.ESTIMATE)
    np.testing.assert_allclose(found.ranef_cov, fit.ranef_cov, rtol=tol.ESTIMATE)


def test_any_units_give_the_same_digits():
    """Columns of X and Z far from zero, and y a thousand times smaller."""
    d = sleepstudy().design
    frame = hlm.load_dataset("sleepstudy")
    frame = frame.assign(Days=frame["Days"] + 1000.0, Reaction=frame["Reaction"] / 1e3)
    fit, shift = hlm.fit(SLEEP, frame), np.array([[1.0, 1000.0], [0.0, 1.0]])
    found = fitted((d.y / 1e3, d.X @ shift, d.Z @ shift, d.group), ranef=True)
    assert_equal(found, of_fit(fit))


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_many_at_once(shared):
    """More than a tile of lanes, some singular, on a design that all share or each on its own."""
    d = article().design
    Y = article().simulate(150, seed=3)
    fits = hlm.fit_many(FORMULA, hlm.load_dataset("article"), responses=Y, progress=False)

    def fit(y, X):
        return hlm.fit_statistics(hlm.suffstats(y, X, d.Z, d.group, d.G))

    with jax.enable_x64(True):
        X = d.X if shared else np.broadcast_to(d.X, (150, *d.X.shape))
        run = oracle(jax.vmap(fit, in_axes=(0, None if shared else 0)))
        found = jax.tree.map(np.asarray, run(np.asarray(Y).T, X))
    np.testing.assert_array_equal(found.status, fits.status)
    assert {*found.status} == {hlm.Status.CONVERGED, hlm.Status.SINGULAR}
    assert found.settled.mean() > 0.9
    assert_equal(found, of_fit(fits))


@pytest.mark.slow
def test_a_data_set_that_cannot_be_fitted_is_a_status():
    """And NaN; those beside it are as they would be alone."""
    sizes = 2 * SIZES
    y, X, Z, group = rows(np.random.default_rng(5), sizes, 2, 3, sd=1.0)
    few = (np.arange(len(y)) < 3).astype(float)
    lanes = {
        "CONVERGED": (y, X, Z, group, None),
        "NOT_FINITE": (np.where(group == 2, np.nan, y), X, Z, group, None),
        "RANK_DEFICIENT": (y, X[:, [0, 1, 1]], Z, group, None),
        "NOT_IDENTIFIED": (y, X, Z, 0 * group, None),
        "NO_RESIDUAL_DF": (y, X, Z, group, few),
    }
    best = reference.fit(y, X, Z, group)
    with jax.enable_x64(True):
        stats = [stats_of(*lane, G=len(sizes)) for lane in lanes.values()]
        stats = jax.tree.map(lambda *x: jnp.stack(x), *stats)
        found = jax.tree.map(np.asarray, oracle(jax.vmap(hlm.fit_statistics))(stats))
    assert [hlm.Status(int(s)).name for s in found.status] == [*lanes]
    np.testing.assert_array_equal(found.settled, [True, *[False] * 4])
    for name in FIELDS:
        finite = np.isfinite(getattr(found, name).reshape(len(lanes), -1))
        np.testing.assert_array_equal(finite.T, [[True, *[False] * 4]] * finite.shape[1])
    np.testing.assert_allclose(found.beta[0], best.beta, rtol=tol.ESTIMATE)
    np.testing.assert_allclose(found.cov[0], best.cov, rtol=tol.ESTIMATE)


@pytest.mark.slow
def test_derivatives_of_every_estimate():
    """Of a mix of them, backward, against differences."""
    y, X, Z, group = rows(np.random.default_rng(5), SIZES, 2, 3, sd=1.0)
    along, step = np.random.default_rng(1).normal(size=len(y)), 1e-3

    def mixed(y):
        found = hlm.fit_statistics(hlm.suffstats(y, X, Z, group, len(SIZES)), ranef=True)
        return sum(jnp.sum(jnp.sin(getattr(found, name))) for name in (*FIELDS, "ranef"))

    with jax.enable_x64(True):
        run = oracle(jax.value_and_grad(mixed))
        gradient = np.asarray(run(y)[1])
        ends = {s: float(run(y + s * step * along)[0]) for s in (-2, -1, 1, 2)}
    slope = (8 * (ends[1] - ends[-1]) - (ends[2] - ends[-2])) / (12 * step)
    np.testing.assert_allclose(gradient @ along, slope, rtol=tol.IMPLICIT)


@pytest.mark.slow
def test_single_precision():
    """Whatever the dtype: nothing asks for 64 bits, and nothing warns."""
    d, fit = sleepstudy().design, sleepstudy()
    narrow = [x.astype(np.float32) for x in (d.y, d.X, d.Z)]
    found = compiled()(stats_of(*narrow, d.group))
    assert {x.dtype for x in (found.theta, found.vcov, found.criterion)} == {jnp.dtype("float32")}
    assert hlm.Status(int(found.status)) is fit.status
    np.testing.assert_allclose(found.beta, fit.fixef, rtol=tol.SINGLE_ESTIMATE)
    scale = np.outer(fit.varcorr.sd, fit.varcorr.sd)
    np.testing.assert_allclose(found.cov / scale, fit.varcorr.cov / scale, atol=tol.SINGLE_ESTIMATE)
