"""The parametric-bootstrap likelihood-ratio test."""

import sys
from functools import cache

import numpy as np
import pytest
from scipy import stats

import jaxhlm as hlm
import tolerances as tol
from cases import frame, load_case, sleepstudy
from jaxhlm import errors
from jaxhlm.core import chunks
from jaxhlm.statistics.simulate_rows import simulate_rows

FEW = 30
FULL = "Reaction ~ Days + (1 + Days | Subject)"
DIAGONAL = "Reaction ~ Days + (1 + Days || Subject)"
INTERCEPT = "Reaction ~ Days + (1 | Subject)"


@cache
def fit(formula, reml=True):
    return hlm.fit(formula, hlm.load_dataset("sleepstudy"), reml)


@pytest.mark.parametrize(
    ("name", "formula", "df"),
    [("sleepstudy_diagonal", DIAGONAL, 1), ("sleepstudy_intercept", INTERCEPT, 2)],
)
def test_statistic_against_lme4(name, formula, df):
    found = hlm.bootstrap_lrt(fit(formula), fit(FULL), FEW, seed=1)
    loglik = [load_case(case)[1]["ML"]["logLik"] for case in (name, "sleepstudy")]
    statistic = 2 * (loglik[1] - loglik[0])
    assert found.statistic == pytest.approx(statistic, abs=tol.LME4_RATIO)
    assert found.df == df
    assert found.p_chi2 == pytest.approx(stats.chi2.sf(statistic, df), rel=tol.LME4_P)
    assert found.refitted


def test_statistics_are_those_of_fits_to_the_same_draws():
    """Rows drawn from the smaller ML fit, refitted one by one."""
    small, large = fit(DIAGONAL, False), fit(FULL, False)
    found = hlm.bootstrap_lrt(small, large, FEW, seed=3)
    d, e = small.design, small.estimates
    Y = simulate_rows(d.X, d.Z, d.group, d.G, e.beta[0], e.cov[0], small.sigma, FEW, seed=3)
    gap = [small.refit(y).criterion - large.refit(y).criterion for y in Y.T]
    np.testing.assert_allclose(found.statistics, np.maximum(gap, 0.0), atol=tol.RATIO)
    beyond = (np.array(gap) >= found.statistic).sum()
    p = (1 + beyond) / (FEW + 1)
    assert found.p_value == pytest.approx(p)
    assert found.mc_se == pytest.approx(np.sqrt(p * (1 - p) / FEW))
    assert not found.refitted


def test_reml_and_ml_fits_give_one_test():
    a = hlm.bootstrap_lrt(fit(DIAGONAL), fit(FULL), FEW, seed=3)
    b = hlm.bootstrap_lrt(fit(DIAGONAL, False), fit(FULL, False), FEW, seed=3)
    assert a.statistic == pytest.approx(b.statistic, abs=tol.CRITERION)
    np.testing.assert_allclose(a.statistics, b.statistics, atol=tol.RATIO)


def test_the_same_seed_whatever_the_chunks(monkeypatch):
    whole = hlm.bootstrap_lrt(fit(INTERCEPT), fit(FULL), FEW, seed=3).statistics
    monkeypatch.setattr(chunks, "MAX_LANES", 7)
    parts = hlm.bootstrap_lrt(fit(INTERCEPT), fit(FULL), FEW + 5, seed=3).statistics
    np.testing.assert_allclose(parts[:FEW], whole, atol=tol.RATIO)


def test_a_variance_of_zero_is_no_evidence():
    """No variance between units: T = 0, and every draw is at least as far out, ties included."""
    rng = np.random.default_rng(1)
    data = frame(rng, (6,) * 10, sd=1.0)
    data["y"] = data["y"] - data.groupby("unit")["y"].transform("mean") + data["x"]
    with pytest.warns(errors.SingularFitWarning):
        small = hlm.fit("y ~ x + (0 + x || unit)", data)
        large = hlm.fit("y ~ x + (1 + x || unit)", data)
    found = hlm.bootstrap_lrt(small, large, FEW, seed=1)
    assert found.statistic < tol.CRITERION
    assert found.p_value == 1.0
    assert (found.statistics < tol.CRITERION).mean() > 0.3
    assert found.singular[1] >= found.singular[0]


def test_uniform_under_the_null():
    """p of 40 data sets drawn from the smaller model: Kolmogorov-Smirnov against the uniform."""
    data = frame(np.random.default_rng(2), (4,) * 8)
    small = hlm.fit("y ~ 1 + (1 | unit)", data)
    draws = hlm.simulate(small, n=40, seed=5, statistics=False).rows()
    large = hlm.fit("y ~ a + (1 | unit)", data)
    p = [
        hlm.bootstrap_lrt(small.refit(y), large.refit(y), FEW, seed=i).p_value
        for i, y in enumerate(draws.T)
    ]
    assert stats.kstest(p, "uniform").pvalue > 1e-3


def test_print_and_tidy():
    found = hlm.bootstrap_lrt(fit(INTERCEPT), fit(FULL), FEW, seed=1)
    printed = str(found)
    assert f"{FEW} draws from the smaller model" in printed
    assert "failed: 0" in printed
    assert "refitted by maximum likelihood" in printed
    assert f"{found.singular[1]} (larger)" in printed
    tidy = found.tidy()
    assert tidy["test"].tolist() == ["PBtest", "LRT"]
    assert tidy["p_value"].tolist() == [found.p_value, found.p_chi2]


def test_without_a_draw_that_could_be_fitted_there_is_no_p_value(monkeypatch):
    module = sys.modules["jaxhlm.fitting.bootstrap_lrt"]
    monkeypatch.setattr(module, "converged", lambda status: np.zeros(len(status), bool))
    found = hlm.bootstrap_lrt(fit(INTERCEPT), fit(FULL), FEW, seed=1)
    assert found.n_ok == 0 and np.isnan(found.p_value) and "p = nan" in str(found)


def without_rows():
    return hlm.fit(INTERCEPT, hlm.load_dataset("sleepstudy").iloc[10:])


def other_response():
    return sleepstudy().refit(sleepstudy().design.y[::-1])


def with_weights():
    return hlm.fit(FULL, hlm.load_dataset("sleepstudy"), weights=np.linspace(1, 2, 180))


def by_another_factor():
    data = hlm.load_dataset("sleepstudy")
    return hlm.fit(INTERCEPT.replace("Subject", "Half"), data.assign(Half=np.arange(180) % 9))


def not_nested():
    data = hlm.load_dataset("sleepstudy")
    return hlm.fit("Reaction ~ z + (1 | Subject)", data.assign(z=np.sin(np.arange(180))))


def not_nested_at_random():
    data = hlm.load_dataset("sleepstudy")
    return hlm.fit("Reaction ~ 1 + (0 + z | Subject)", data.assign(z=2 + np.sin(np.arange(180))))


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.SingularFitWarning")
@pytest.mark.parametrize(
    ("small", "large", "message"),
    [
        (without_rows, sleepstudy, r"different rows \(170 and 180\)"),
        (lambda: fit(INTERCEPT), other_response, "different responses"),
        (lambda: fit(INTERCEPT), with_weights, "different prior weights"),
        (sleepstudy, lambda: fit(INTERCEPT), "give the smaller one first"),
        (sleepstudy, sleepstudy, "give the smaller one first"),
        (by_another_factor, sleepstudy, "grouped differently, by 'Half' and 'Subject'"),
        (not_nested, sleepstudy, "the fixed effects of the first"),
        (not_nested_at_random, sleepstudy, "the random effects of the first"),
    ],
)
def test_fits_that_cannot_be_compared(small, large, message):
    with pytest.raises(errors.ComparisonError, match=message):
        hlm.bootstrap_lrt(small(), large(), FEW)


def test_bad_n():
    with pytest.raises(errors.OptionError, match="n=0"):
        hlm.bootstrap_lrt(fit(INTERCEPT), fit(FULL), 0)
