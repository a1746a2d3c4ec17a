"""Shrunken variances and adjusted p values, against limma, qvalue and R's p.adjust."""

import json

import numpy as np
import pytest
from scipy import stats

import tolerances as tol
from cases import DATA
from jaxhlm import errors
from jaxhlm.inference.moderation import moderated_variances, variance_prior
from jaxhlm.inference.multiplicity import adjusted, null_share
from jaxhlm.inference.robust_prior import robust_variance_prior

R = json.loads((DATA / "moderation.json").read_text())
P = np.array(R["p"])


@pytest.mark.parametrize("name", R["squeezed"])
def test_variances_are_squeezed_as_by_limma(name):
    case = R["squeezed"][name]
    variance, df = np.array(case["variance"]), np.array(case["df"])
    covariate = np.array(case["covariate"]) if case["covariate"] else None
    prior = variance_prior(variance, df, covariate)
    np.testing.assert_allclose(prior.df, float(case["df_prior"]), rtol=tol.LIMMA_DF)
    np.testing.assert_allclose(prior.variance, case["prior"], rtol=tol.LIMMA_DF)
    found = moderated_variances(variance, df, prior)
    np.testing.assert_allclose(found, case["moderated"], rtol=tol.LIMMA_DF)


@pytest.mark.parametrize("name", R["robust"])
def test_outliers_get_fewer_prior_degrees_of_freedom_as_by_limma(name):
    case = R["robust"][name]
    variance, df = np.array(case["variance"], float), np.array(case["df"], float)
    covariate = np.array(case["covariate"]) if case["covariate"] else None
    prior = robust_variance_prior(variance, df, covariate)
    expected = np.broadcast_to(np.array(case["df_prior"], float), variance.shape)
    np.testing.assert_allclose(prior.df_by_fit, expected, rtol=tol.LIMMA_ROBUST)
    np.testing.assert_allclose(prior.variance, case["prior"], rtol=tol.LIMMA_ROBUST)
    found = moderated_variances(variance, df, prior)
    np.testing.assert_allclose(found, case["moderated"], rtol=tol.LIMMA_ROBUST)


@pytest.mark.parametrize("far", [1e4, 1e9, 1e30])
def test_one_far_outlier_among_many_moves_nothing(far):
    """Its tail probability is smaller than what 1 − p can tell, or any number."""
    df = np.append(np.full(1999, 8.0), 6.0)
    variance = stats.f(df, 30.0).ppf((np.arange(2000) + 0.5) / 2000)
    covariate = np.cos(np.arange(2000.0))
    for trend in (None, covariate):
        without = robust_variance_prior(variance, df, trend)
        found = robust_variance_prior(np.append(variance[:-1], far), df, trend)
        assert found.df == pytest.approx(without.df, rel=tol.ONE_OF_MANY)
        change = found.variance[:-1] / without.variance[:-1]
        np.testing.assert_allclose(change, 1.0, atol=tol.ONE_OF_MANY)
        assert found.df_by_fit[-1] < 1.0 and np.isfinite(found.df_by_fit).all()


def test_a_fit_that_failed_counts_for_nothing():
    case = R["squeezed"]["trend"]
    values = [np.array(case[name]) for name in ("variance", "df", "covariate")]
    alone = variance_prior(*values)
    lost = [np.append(x, np.nan) for x in values]
    beside = variance_prior(*lost)
    assert beside.df == alone.df
    np.testing.assert_array_equal(beside.variance[:-1], alone.variance)
    assert np.isnan(moderated_variances(lost[0], lost[1], beside)[-1])


@pytest.mark.parametrize("constant", [True, False])
def test_a_trend_over_one_value_is_none(constant):
    case = R["squeezed"]["finite"]
    variance, df = np.array(case["variance"]), np.array(case["df"])
    covariate = np.full(len(df), 3.0) if constant else None
    assert variance_prior(variance, df, covariate).df == pytest.approx(
        case["df_prior"], rel=tol.LIMMA_DF
    )


def test_one_variance_has_no_prior():
    prior = variance_prior(np.array([2.0, np.nan]), np.array([5.0, np.nan]))
    assert prior.df == 0.0
    assert moderated_variances(np.array([2.0]), np.array([5.0]), prior)[0] == 2.0


@pytest.mark.parametrize("method", R["adjusted"])
def test_p_values_are_adjusted_as_by_r(method):
    lost = np.insert(P, [0, 40, len(P)], np.nan)
    table = adjusted(np.column_stack([lost, lost[::-1]]), method)
    np.testing.assert_allclose(table[~np.isnan(lost), 0], R["adjusted"][method], rtol=tol.SUMMED)
    np.testing.assert_allclose(table[::-1, 1], table[:, 0], rtol=tol.SUMMED)
    assert np.isnan(table[np.isnan(lost), 0]).all()


def test_the_share_of_true_hypotheses():
    assert null_share(P) == pytest.approx(R["pi0"], rel=tol.SUMMED)
    assert null_share(np.linspace(0.9, 1.0, 50)) == 1.0


@pytest.mark.parametrize("m", [1, 2, 5, 10, 20])
def test_q_values_of_a_few_tests_are_not_zero(m):
    """Without a large p value the share would be 0, and every test a discovery."""
    p = np.random.default_rng(m).uniform(size=(m, 500))
    found = adjusted(p, "storey")
    assert (found > 0.0).all()
    # Of null hypotheses alone every discovery is a false one: three standard errors of 500.
    rate = (found.min(axis=0) < 0.05).mean()
    assert rate < 0.05 + 3.0 * np.sqrt(0.05 * 0.95 / 500)
    np.testing.assert_array_equal(adjusted(np.full((m, 1), 0.01), "storey"), np.full((m, 1), 0.01))


def test_none_is_none_and_other_words_are_refused():
    np.testing.assert_array_equal(adjusted(P[:, None], "none")[:, 0], P)
    assert np.isnan(adjusted(np.full((3, 1), np.nan), "BH")).all()
    with pytest.raises(errors.OptionError, match=r"adjust=.fdr..*.BH."):
        adjusted(P[:, None], "fdr")
