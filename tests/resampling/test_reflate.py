"""Reflated effects and residuals have the moments of the model, exactly."""

import numpy as np
import pytest

import jaxhlm as hlm
import tolerances as tol
from jaxhlm.errors import ResamplingError
from jaxhlm.resampling.reflate import reflated_effects, reflated_residuals

LAMBDAS = {
    "regular": [[0.8, 0.0], [0.3, 0.5]],
    "correlation 1": [[0.8, 0.0], [0.3, 0.0]],
    "no intercept": [[0.0, 0.0], [0.0, 0.5]],
    "nothing": [[0.0, 0.0], [0.0, 0.0]],
    "wild units": [[1e-5, 0.0], [3e4, 2e4]],
}


@pytest.mark.parametrize("name", LAMBDAS)
def test_effects_have_the_estimated_covariance(rng, name):
    Lambda = np.array(LAMBDAS[name])
    b = rng.normal(size=(12, 2)) @ Lambda.T
    found = reflated_effects(b, Lambda, 1.7)
    size = 1.7 * np.abs(Lambda).max(axis=1)
    scale = np.where(size > 0.0, size, 1.0)
    np.testing.assert_allclose(found.mean(axis=0) / scale, 0.0, atol=tol.MOMENTS)
    covariance = found.T @ found / len(found) / np.outer(scale, scale)
    expected = 1.7**2 * Lambda @ Lambda.T / np.outer(scale, scale)
    np.testing.assert_allclose(covariance, expected, atol=tol.MOMENTS)


def test_effects_equal_carpenters_formula(rng):
    """A = (L_R L_S⁻¹)' with Cholesky factors of the estimated and the empirical covariance."""
    Lambda = np.array(LAMBDAS["regular"])
    b = 0.4 * rng.normal(size=(12, 2)) @ Lambda.T
    centred = b - b.mean(axis=0)
    L_S = np.linalg.cholesky(centred.T @ centred / len(b))
    A = (2.0 * Lambda @ np.linalg.inv(L_S)).T
    np.testing.assert_allclose(reflated_effects(b, Lambda, 2.0), centred @ A, atol=tol.MOMENTS)


def test_residuals_have_the_estimated_variance(rng):
    found = reflated_residuals(3 + 0.2 * rng.normal(size=40), 1.7)
    assert abs(found.mean()) < tol.MOMENTS
    assert np.mean(found**2) == pytest.approx(1.7**2, rel=tol.MOMENTS)


def test_too_few_groups():
    b = np.array([[1.0, 2.0], [-1.0, 1.0]])
    with pytest.raises(ResamplingError, match="2 groups are too few"):
        reflated_effects(b, np.array(LAMBDAS["regular"]), 1.0)


def test_of_a_fit():
    """sleepstudy: the draws have the variances that are printed for the fit."""
    fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", hlm.load_dataset("sleepstudy"))
    source = hlm.bootstrap(fit, n=1, method="residual", seed=1).fits.source
    b = source.effects
    np.testing.assert_allclose(b.T @ b / 18, fit.varcorr.cov, rtol=tol.MOMENTS)
    assert np.mean(source.residuals**2) == pytest.approx(fit.sigma**2, rel=tol.MOMENTS)
