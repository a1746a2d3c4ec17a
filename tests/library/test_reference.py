"""The NumPy oracle against lme4, against its own dense definition, and against closed forms."""

from functools import cache

import numpy as np
import pytest
from numpy.testing import assert_allclose

import tolerances as tol
from cases import CASES, DESIGNS, arrays_of, article_like, load_case
from jaxhlm import reference
from jaxhlm.reference import ReferenceFit
from oracles import balanced_fit

METHODS = ("REML", "ML")
SINGULAR = ("dyestuff2_singular", "unbalanced_dropout")
# A 7,185-row dense V would take 400 MB.
SMALL = tuple(name for name in CASES if DESIGNS[name].csv != "math_achieve")

every_case = pytest.mark.parametrize("name", CASES)
every_method = pytest.mark.parametrize("method", METHODS)


@cache
def fitted(name: str, method: str) -> ReferenceFit:
    y, X, Z, group, blocks = arrays_of(name)
    return reference.fit(y, X, Z, group, reml=method == "REML", blocks=blocks)


def assert_close_to_scale(actual, expected, rtol):
    expected = np.asarray(expected)
    assert_allclose(actual, expected, rtol=0, atol=rtol * max(np.abs(expected).max(), tol.NOTHING))


def simulated(seed=0, q=2, G=12, weighted=True):
    """y, X, Z, group and weights of an unbalanced data set with a group of one row; p = 3."""
    rng = np.random.default_rng(seed)
    group = np.append(rng.integers(0, G, 80) % (G - 1), G - 1)
    n = len(group)
    Z = np.column_stack([np.ones(n), rng.normal(size=(n, q - 1))])
    X = np.column_stack([np.ones(n), rng.normal(size=(n, 2))])
    y = X @ [1.0, 2.0, -1.0] + (Z * rng.normal(size=(G, q))[group]).sum(1) + rng.normal(size=n)
    return y, X, Z, group, rng.uniform(0.3, 3.0, n) if weighted else None


@every_method
@every_case
class TestAgainstLme4:
    def test_criterion(self, name, method):
        actual, expected = fitted(name, method), load_case(name)[1][method]
        assert actual.converged
        assert actual.criterion <= expected["criterion"] + tol.LME4_CRITERION
        assert actual.criterion >= expected["criterion"] - tol.LME4_ABOVE
        assert_allclose(actual.loglik, expected["logLik"], atol=tol.LME4_CRITERION, rtol=0)

    def test_fixed_effects(self, name, method):
        actual, expected = fitted(name, method), load_case(name)[1][method]
        in_se = (actual.beta - expected["fixef"]) / expected["se"]
        assert_allclose(in_se, 0, atol=tol.LME4_BETA_IN_SE)
        assert_allclose(actual.se, expected["se"], rtol=tol.LME4_SE)
        assert_close_to_scale(actual.vcov, expected["vcov"], tol.LME4_SE)

    def test_variance_components(self, name, method):
        actual, expected = fitted(name, method), load_case(name)[1][method]
        assert_allclose(actual.sigma, expected["sigma"], rtol=tol.LME4_SIGMA)
        assert_close_to_scale(actual.cov, expected["G"], tol.LME4_COV)
        assert (np.diag(actual.Lambda) >= 0).all()
        if not expected["singular"]:
            assert_close_to_scale(actual.theta, expected["theta"], tol.LME4_COV)

    def test_conditional_modes(self, name, method):
        actual, expected = fitted(name, method), load_case(name)[1][method]
        assert_close_to_scale(actual.b, expected["ranef"], tol.LME4_RANEF)
        if expected["ranef_condvar"] is not None:
            assert_close_to_scale(actual.b_cov, expected["ranef_condvar"], tol.LME4_RANEF)

    def test_fitted_values(self, name, method):
        actual, expected = fitted(name, method), load_case(name)[1][method]
        _, X, Z, group, _ = arrays_of(name)
        values = X @ actual.beta + (Z * actual.b[group]).sum(1)
        assert_close_to_scale(values[:20], expected["fitted_head"], tol.LME4_RANEF)


@every_case
def test_hand_built_arrays_have_the_sizes_of_lme4(name):
    _, X, Z, group, _ = arrays_of(name)
    result = load_case(name)[1]["ML"]
    assert X.shape == (result["n"], len(result["terms"]))
    assert Z.shape == (result["n"], len(result["random_terms"]))
    assert set(group) == set(range(result["groups"]))


def test_singular_cases_are_singular():
    flagged = [name for name in CASES if load_case(name)[1]["REML"]["singular"]]
    assert tuple(flagged) == SINGULAR
    for name in SINGULAR:
        assert np.linalg.eigvalsh(fitted(name, "REML").cov)[0] < tol.SUMMED


@every_method
@pytest.mark.parametrize("name", SMALL)
def test_fit_reports_the_dense_criterion_of_its_lambda(name, method):
    actual = fitted(name, method)
    y, X, Z, group, _ = arrays_of(name)
    dense = reference.criterion(actual.Lambda, y, X, Z, group, method == "REML")
    assert_allclose(actual.criterion, dense, rtol=tol.SUMMED)


@every_method
@every_case
def test_fit_reports_the_criterion_by_group_of_its_lambda(name, method):
    actual = fitted(name, method)
    y, X, Z, group, _ = arrays_of(name)
    by_group = reference.criterion_by_group(actual.Lambda, y, X, Z, group, method == "REML")
    assert_allclose(actual.criterion, by_group, rtol=tol.SUMMED)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("q", [1, 2, 3])
def test_dense_criterion_and_that_by_group_agree(q, weighted, reml):
    y, X, Z, group, weights = simulated(q, q, weighted=weighted)
    Lambda = np.tril(np.random.default_rng(q).normal(size=(q, q)))
    dense = reference.criterion(Lambda, y, X, Z, group, reml, weights)
    by_group = reference.criterion_by_group(Lambda, y, X, Z, group, reml, weights)
    assert_allclose(by_group, dense, rtol=tol.SUMMED)


@pytest.mark.parametrize("q", [1, 2, 3])
def test_ml_criterion_is_the_marginal_likelihood_at_its_maximum(q):
    y, X, Z, group, weights = simulated(q, q)
    best = reference.fit(y, X, Z, group, reml=False, weights=weights)

    def loglik(beta, cov, sigma):
        return reference.marginal_loglik(y, X, Z, group, beta, cov, sigma, weights)

    at_best = loglik(best.beta, best.cov, best.sigma)
    assert_allclose(at_best, best.loglik, rtol=tol.SUMMED)
    assert loglik(best.beta + 0.1 * best.se, best.cov, best.sigma) < at_best
    assert loglik(best.beta, 1.1 * best.cov, best.sigma) < at_best
    assert loglik(best.beta, best.cov, 1.05 * best.sigma) < at_best


def test_reml_criterion_is_the_likelihood_integrated_over_beta():
    y, _, Z, group, weights = simulated(3)
    X = np.ones((len(y), 1))
    best = reference.fit(y, X, Z, group, weights=weights)
    half_width = 12 * best.se[0]
    betas = np.linspace(best.beta[0] - half_width, best.beta[0] + half_width, 401)
    logliks = [
        reference.marginal_loglik(y, X, Z, group, np.array([b]), best.cov, best.sigma, weights)
        for b in betas
    ]
    # The trapezoidal rule is exact to rounding for a Gaussian cut off at 12 standard errors.
    integral = np.exp(np.array(logliks) - max(logliks)).sum() * (betas[1] - betas[0])
    assert_allclose(-2 * (np.log(integral) + max(logliks)), best.criterion, rtol=tol.SUMMED)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("q", [1, 2, 3])
def test_weighted_fit_is_a_minimum_of_the_dense_criterion(q, reml):
    y, X, Z, group, weights = simulated(q, q)
    best = reference.fit(y, X, Z, group, reml, weights)
    dense = reference.criterion(best.Lambda, y, X, Z, group, reml, weights)
    assert best.converged
    assert_allclose(best.criterion, dense, rtol=tol.SUMMED)
    rng = np.random.default_rng(0)
    for size in [1e-3, 1e-2, 1e-1]:
        other = best.Lambda + size * np.tril(rng.normal(size=(q, q)))
        assert reference.criterion(other, y, X, Z, group, reml, weights) > dense


def test_a_row_of_integer_weight_stands_for_that_many_equal_rows():
    y, X, Z, group, _ = simulated(5, weighted=False)
    times = np.random.default_rng(5).integers(1, 4, len(y))
    repeated = [np.repeat(a, times, axis=0) for a in (y, X, Z, group)]
    parameters = np.array([1.0, 2.0, -1.0]), np.array([[0.7, 0.2], [0.2, 0.4]]), 0.8
    weighted = reference.marginal_loglik(y, X, Z, group, *parameters, times.astype(float))
    unweighted = reference.marginal_loglik(*repeated, *parameters)
    # Equal rows have no variance about their mean; what remains is its density at 0.
    within = (times.sum() - len(y)) * np.log(2 * np.pi * 0.8**2) + np.log(times).sum()
    assert_allclose(unweighted, weighted - within / 2, rtol=tol.SUMMED)


@pytest.mark.parametrize("reml", [True, False])
def test_units_change_nothing_but_the_units(reml):
    y, X, Z, group, _ = arrays_of("article_full")
    plain = fitted("article_full", "REML" if reml else "ML")
    shift = np.array([[1.0, 1e5], [0.0, 1.0]])  # x + 1e5 in place of x
    shift_X = np.kron(np.eye(2), shift)
    scaled = reference.fit(1e-4 * y, X @ shift_X, Z @ shift, group, reml)
    df = len(y) - X.shape[1] if reml else len(y)
    # |X'V⁻¹X| does not change: the shift has determinant 1.
    assert_allclose(
        scaled.criterion, plain.criterion + 2 * df * np.log(1e-4), atol=tol.EXTREME, rtol=0
    )
    assert_allclose(shift_X @ scaled.beta, 1e-4 * plain.beta, rtol=tol.UNITS)
    assert_close_to_scale(shift @ scaled.cov @ shift.T * 1e8, plain.cov, tol.SHIFTED_COV)
    assert_allclose(scaled.sigma, 1e-4 * plain.sigma, rtol=tol.UNITS)


def test_blocks_of_size_one_make_lambda_diagonal():
    y, X, Z, group, weights = simulated(7, q=3)
    separate = reference.fit(y, X, Z, group, weights=weights, blocks=((0,), (1,), (2,)))
    mixed = reference.fit(y, X, Z, group, weights=weights, blocks=((0, 2), (1,)))
    full = reference.fit(y, X, Z, group, weights=weights)
    assert (separate.Lambda[~np.eye(3, dtype=bool)] == 0).all()
    assert_allclose(mixed.theta, mixed.Lambda[[0, 2, 2, 1], [0, 0, 2, 1]], rtol=0)
    assert separate.criterion > mixed.criterion > full.criterion
    for result in (separate, mixed, full):
        dense = reference.criterion(result.Lambda, y, X, Z, group, weights=weights)
        assert_allclose(result.criterion, dense, rtol=tol.SUMMED)


def assert_balanced_fit_is_the_fit(closed, iterated):
    assert iterated.converged
    assert_allclose(closed.criterion, iterated.criterion, rtol=tol.SUMMED)
    assert_allclose(closed.beta, iterated.beta, rtol=tol.CLOSED)
    assert_allclose(closed.sigma, iterated.sigma, rtol=tol.CLOSED)
    assert_close_to_scale(closed.cov, iterated.cov, tol.CLOSED_COV)


@pytest.mark.parametrize("reml", [True, False])
# Number of singular directions of Σ̂ to expect, from fully regular to no variance at all.
@pytest.mark.parametrize(
    ("seed", "between", "singular"), [(0, 1.0, 0), (1, 1.0, 0), (2, 0.2, 1), (3, 0.2, 1), (2, 0, 2)]
)
def test_balanced_fit_is_the_fit(seed, between, singular, reml):
    Y, Z, A = article_like(seed, between, m=30)
    closed = balanced_fit(Y, Z, A, reml)
    X = np.vstack([np.kron(a, Z) for a in A])
    group = np.repeat(np.arange(len(Y)), len(Z))
    iterated = reference.fit(Y.ravel(), X, np.tile(Z, (len(Y), 1)), group, reml)
    assert (np.linalg.eigvalsh(closed.cov) < tol.SUMMED).sum() == singular
    assert_balanced_fit_is_the_fit(closed, iterated)


@every_method
@pytest.mark.parametrize(
    "name",
    ["article_random_lines", "article_full", "dyestuff2_singular", "orthodont", "sleepstudy"],
)
def test_balanced_fit_of_balanced_lme4_cases(name, method):
    y, X, Z, group, _ = arrays_of(name)
    order = np.argsort(group, kind="stable").reshape(group.max() + 1, -1)
    Z_0 = Z[order[0]]
    # X_i = a_i' ⊗ Z_0, so the first row of Z_0⁺ X_i holds a_i in every q-th place.
    A = (np.linalg.pinv(Z_0) @ X[order])[:, 0, :: Z.shape[1]]
    closed = balanced_fit(y[order], Z_0, A, reml=method == "REML")
    assert_balanced_fit_is_the_fit(closed, fitted(name, method))


def test_a_group_without_rows_is_predicted_at_zero():
    y, X, Z, group, _ = simulated(8)
    some = group != 3
    result = reference.fit(y[some], X[some], Z[some], group[some])
    assert (result.b[3] == 0).all()
    assert_allclose(result.b_cov[3], result.cov, rtol=tol.DEVIANCE)
