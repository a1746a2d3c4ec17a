"""Mechanisms: data sets whatever the chunking, paired fits, and what is known of estimates."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import jaxhlm as hlm
from cases import FORMULA
from jaxhlm import violations as v
from jaxhlm.core.status import Status
from jaxhlm.core.streams import TRUTH as TRUTH_STREAM
from jaxhlm.core.streams import Streams
from jaxhlm.errors import FormulaError, JaxhlmError, OptionError, UnknownTermError
from tolerances import ESTIMATE

TRUTH = hlm.Truth.of(
    {"(Intercept)": 1, "x": 3, "a": -0.15, "x:a": 0.3}, sd=[0.2, 0.5], corr=0.9, sigma=0.75
)
ARTICLE = hlm.load_dataset("article")
REDRAWN = hlm.units(
    8, (3, 6), {"x": stats.norm()}, {"a": lambda rng, size: rng.normal(size=size)}, redraw=True
)
REDRAWN_NORMAL = hlm.units(8, (3, 6), {"x": stats.norm()}, {"a": stats.norm()}, redraw=True)
FACTOR = hlm.units(
    8, (3, 6), {"x": stats.norm()}, factors={"arm": ["control", "treated"]}, redraw=["x"]
)
UNCERTAIN = hlm.TruthDistribution(
    lambda rng: hlm.Truth.of(rng.normal(size=4), sd=rng.random(2), sigma=rng.random())
)
EVERYTHING = (
    v.EffectsFrom(v.StudentT(5)),
    v.ResidualsFrom(v.Contaminated()),
    v.OmittedCovariate({"x": 0.2}),
    v.CorrelatedEffects("a", {"x": 0.3}),
    v.Autocorrelated(0.4),
    v.Heteroscedastic("x", lambda x: np.exp(x / 5)),
    v.UnequalVariances(0.3),
    v.Nonlinear("x", np.sin),
    v.InformativeSize(kept=0.9),
    v.MissingCompletely(0.1),
    v.MissingAtRandom("x", 0.1),
    v.MissingNotAtRandom(0.1),
)


@pytest.mark.parametrize("design", [ARTICLE, REDRAWN], ids=["fixed", "redrawn"])
@pytest.mark.parametrize("truth", [TRUTH, UNCERTAIN], ids=["truth", "uncertain"])
@pytest.mark.parametrize("violations", [(), EVERYTHING], ids=["none", "all"])
def test_a_data_set_does_not_depend_on_the_chunk(design, truth, violations):
    """draw(0, 10) is draw(0, 4) and draw(4, 10) bit for bit, and another seed is another draw."""
    mechanism = hlm.mechanism(FORMULA, design, truth, violations)
    whole = mechanism.draw(0, 10, seed=5)
    parts = [mechanism.draw(0, 4, seed=5), mechanism.draw(4, 10, seed=5)]
    joined = pd.concat([part.frame() for part in parts], ignore_index=True)
    pd.testing.assert_frame_equal(whole.frame(), joined, check_exact=True)
    np.testing.assert_array_equal(whole.truths, np.concatenate([p.truths for p in parts]))
    assert whole.frame()["replicate"].unique().tolist() == list(range(10))
    other, own = (mechanism.draw(0, 1, seed).frame()["y"].to_numpy() for seed in (6, 5))
    rows = min(len(other), len(own))
    assert (other[:rows] != own[:rows]).all()


def test_statistics_do_not_depend_on_the_chunk():
    mechanism = hlm.mechanism(FORMULA, ARTICLE, TRUTH)
    assert mechanism.gaussian
    whole = mechanism.draw(0, 10, seed=5, rows=False)
    part = mechanism.draw(4, 10, seed=5, rows=False)
    assert part.fit().index.tolist() == [4, 5, 6, 7, 8, 9]
    np.testing.assert_array_equal(whole.fit().fixef[4:], part.fit().fixef)
    ml = whole.fit("~ x * a + (1 + x | unit)", reml=False)
    assert not ml.reml
    assert (ml.se < whole.fit().se).all(axis=None)


@pytest.mark.parametrize("statistics", [True, False])
def test_a_part_of_simulated_data_sets(statistics):
    design = hlm.design("~ x * a + (1 + x | unit)", ARTICLE)
    whole = hlm.simulate(design, TRUTH, 8, seed=1, statistics=statistics)
    part = whole.part(3, 7, whole.key)
    assert len(part) == 4
    np.testing.assert_allclose(part.fit().fixef, whole.fit().fixef[3:7], rtol=ESTIMATE)
    if not statistics:
        np.testing.assert_array_equal(part.rows(1, 3), whole.rows(4, 6))


def test_the_right_distribution():
    """y = Xβ + Zb + ε by hand, from the effects that are shown."""
    drawn = hlm.mechanism(FORMULA, REDRAWN, UNCERTAIN).draw(0, 3, seed=2)
    frame, b = drawn.frame(), drawn.effects.reshape(3, 8, 2)
    lane, unit = frame["replicate"], frame["unit"]
    x, a = frame["x"], frame["a"]
    beta = drawn.truths[lane].T
    mean = beta[0] + beta[1] * x + beta[2] * a + beta[3] * x * a
    e = frame["y"] - mean - b[lane, unit, 0] - b[lane, unit, 1] * x
    sigma = np.sqrt((e**2).groupby(lane).mean())
    streams = Streams(drawn.key, TRUTH_STREAM)
    truths = [UNCERTAIN.draw(streams.generator(i)) for i in range(3)]
    np.testing.assert_allclose(drawn.truths, [t.beta for t in truths])
    counts = frame.groupby("replicate").size()
    assert (np.abs(sigma / [t.sigma for t in truths] - 1) < 5 / np.sqrt(2 * counts)).all()


def same(fits, i, alone):
    for name in ("fixef", "se"):
        np.testing.assert_allclose(getattr(fits, name).iloc[i], getattr(alone, name), rtol=ESTIMATE)


@pytest.mark.parametrize("formula", [None, "y ~ x + (1 | unit)", "~ x + a + (1 + x || unit)"])
@pytest.mark.parametrize("design", [REDRAWN, REDRAWN.frame(3)], ids=["redrawn", "fixed"])
@pytest.mark.filterwarnings("ignore::jaxhlm.JaxhlmWarning")
def test_any_formula_on_the_same_data_sets(design, formula):
    """The fits of the drawn data sets are those of their frames, missing responses and all."""
    drawn = hlm.mechanism(FORMULA, design, TRUTH, v.MissingCompletely(0.1)).draw(3, 7, seed=1)
    fits = drawn.fit(formula)
    assert fits.index.tolist() == [3, 4, 5, 6]
    frame = drawn.frame()
    assert frame["y"].isna().any()
    one = frame[frame["replicate"] == 5].dropna()
    written = formula or FORMULA
    alone = hlm.fit(written if written.startswith("y") else "y " + written, one)
    same(fits, 2, alone)
    assert fits.nobs[2] == len(one)


def test_factors_of_redrawn_designs():
    formula = "y ~ x + arm + (1 | unit)"
    names = hlm.design("~ x + arm + (1 | unit)", FACTOR.frame()).xnames
    truth = hlm.Truth.of(dict(zip(names, [1, 0.5, 2], strict=True)), sd=[0.5], sigma=0.2)
    drawn = hlm.mechanism(formula, FACTOR, truth).draw(0, 30, seed=1)
    frame = drawn.frame()
    assert frame["arm"].cat.categories.tolist() == ["control", "treated"]
    first, second = (frame[frame["replicate"] == i]["x"] for i in (0, 1))
    assert not np.array_equal(first, second)
    fits = drawn.fit()
    same(fits, 4, hlm.fit(formula, frame[frame["replicate"] == 4]))
    error = (fits.fixef - [1, 0.5, 2]).mean() / (fits.fixef.std() / np.sqrt(30))
    assert error.abs().max() < 5


def test_a_data_set_without_responses_keeps_its_place():
    """Nothing is dropped: it has a status, in fixed and in redrawn designs."""
    truth = hlm.Truth.of([1.0], sd=[1.0])
    for redraw in (True, False):
        design = hlm.units(2, (2, 3), redraw=redraw)
        many = hlm.mechanism("y ~ 1 + (1 | unit)", design, truth, v.MissingCompletely(0.7))
        drawn = many.draw(0, 60, seed=1)
        with pytest.warns(hlm.JaxhlmWarning):
            fits = drawn.fit()
        assert fits.index.tolist() == list(range(60))
        there = drawn.frame().groupby("replicate")["y"].count().to_numpy()
        assert (there == 0).any()
        assert np.isnan(fits.fixef.to_numpy()[there == 0]).all()
        assert not np.isin(fits.status[there == 0], [Status.CONVERGED, Status.SINGULAR]).any()


def test_the_article_s_models():
    """Model 1, which lacks a, has its mean effect in the slope and its variance in theirs.

    With every unit on one grid of x the expected slope is 3 + 0.3 mean(a), and the variance of
    slopes 0.25 + 0.09 s²(a); both within five Monte-Carlo standard errors. Model 2 is unbiased.
    """
    B = 400
    drawn = hlm.mechanism(FORMULA, ARTICLE, TRUTH).draw(0, B, seed=4)
    one, two = drawn.fit("y ~ x + (1 + x | unit)"), drawn.fit()
    a = ARTICLE.groupby("unit")["a"].first()

    def off(values, expected):
        return abs(values.mean() - expected) / (values.std() / np.sqrt(B))

    assert off(one.fixef["x"], 3 + 0.3 * a.mean()) < 5
    assert off(one.fixef["(Intercept)"], 1 - 0.15 * a.mean()) < 5
    assert off(one.varcorr.cov[:, 1, 1], 0.25 + 0.09 * a.var()) < 5
    assert off(two.varcorr.cov[:, 1, 1], 0.25) < 5
    for term in drawn.mechanism.terms:
        assert off(two.fixef[term], drawn.mechanism.truth_of(term)) < 5
    # The two fits are of the same data sets.
    assert np.corrcoef(one.fixef["x"], two.fixef["x"] + two.fixef["x:a"] * a.mean())[0, 1] > 0.999


def test_effects_that_correlate_with_a_covariate_bias_its_coefficient():
    """b = c ã + … adds c/sd(a) to the coefficient of a, exactly in expectation, also for OLS."""
    B, rho = 2000, 0.4
    data = REDRAWN.frame(2)
    drawn = hlm.mechanism(
        FORMULA, data, TRUTH, v.CorrelatedEffects("a", {"(Intercept)": rho, "x": rho})
    ).draw(0, B, seed=1)
    X = hlm.design(FORMULA, data.assign(y=0.0)).X
    estimates = np.linalg.lstsq(X, drawn.responses)[0]
    a = data.groupby("unit")["a"].first()
    expected = drawn.truths[0] + np.array([-a.mean(), 0, 1, 0]) * rho * 0.2 / a.std(ddof=0)
    expected += np.array([0, -a.mean(), 0, 1]) * rho * 0.5 / a.std(ddof=0)
    error = estimates.std(axis=1) / np.sqrt(B)
    assert (np.abs(estimates.mean(axis=1) - expected) < 5 * error).all()


def test_mechanisms_can_be_sent_to_other_processes():
    fit = hlm.fit(FORMULA, ARTICLE)
    uncertain = hlm.TruthDistribution.from_fit(fit)
    mechanism = hlm.mechanism(FORMULA, REDRAWN_NORMAL, uncertain, v.EffectsFrom(stats.t(5)))
    copy = pickle.loads(pickle.dumps(mechanism))
    pd.testing.assert_frame_equal(copy.draw(0, 3).frame(), mechanism.draw(0, 3).frame())


def test_rows_and_statistics_have_one_distribution():
    """Means and sds of the estimates agree within five standard errors of the difference."""
    B = 400
    mechanism = hlm.mechanism(FORMULA, ARTICLE, TRUTH)
    rows, statistics = (mechanism.draw(0, B, 1, rows=rows).fit() for rows in (True, False))
    error = np.sqrt((rows.fixef.var() + statistics.fixef.var()) / B)
    assert ((rows.fixef.mean() - statistics.fixef.mean()).abs() < 5 * error).all()
    assert (np.log(rows.fixef.std() / statistics.fixef.std()).abs() < 5 / np.sqrt(B)).all()


def test_statistics_have_no_rows():
    drawn = hlm.mechanism(FORMULA, ARTICLE, TRUTH).draw(0, 5, rows=False)
    assert not drawn.rows and drawn.truths.shape == (5, 4)
    for ask in (
        drawn.frame,
        lambda: drawn.responses,
        lambda: drawn.effects,
        lambda: drawn.fit("y ~ x + (1 | unit)"),
    ):
        with pytest.raises(JaxhlmError, match="rows=True"):
            ask()
    heavy = hlm.mechanism(FORMULA, ARTICLE, TRUTH, v.ResidualsFrom(v.Uniform()))
    assert not heavy.gaussian
    assert heavy.draw(0, 5, rows=False).rows


def test_true_values():
    mechanism = hlm.mechanism(FORMULA, ARTICLE, TRUTH)
    assert mechanism.terms == ("(Intercept)", "x", "a", "x:a")
    assert [mechanism.truth_of(term) for term in mechanism.terms] == [1, 3, -0.15, 0.3]
    with pytest.raises(UnknownTermError, match="no term 'b'"):
        mechanism.truth_of("b")
    with pytest.raises(OptionError, match=r"drawn\.truths"):
        hlm.mechanism(FORMULA, ARTICLE, UNCERTAIN).truth_of("x")


SMALL = REDRAWN.frame(1)
BAD = {
    "the truth has 1 random effect(s), the model 2": lambda: hlm.mechanism(
        FORMULA, SMALL, hlm.Truth.of([1, 3, 0, 0], sd=[1])
    ),
    "beta and the model differ in x:a": lambda: hlm.mechanism(
        FORMULA, SMALL, hlm.Truth.of({"(Intercept)": 1, "x": 3, "a": 0}, sd=[1, 1])
    ),
    "truth=3: give a": lambda: hlm.mechanism(FORMULA, SMALL, 3),
    'a column "replicate"': lambda: hlm.mechanism(FORMULA, SMALL.assign(replicate=1), TRUTH),
    "give first and last": lambda: hlm.mechanism(FORMULA, SMALL, TRUTH).draw(3, 3),
    "seed='a': give": lambda: hlm.mechanism(FORMULA, SMALL, TRUTH).draw(0, 3, "a"),
    "have the response 'y', not 'log(y)'": lambda: (
        hlm.mechanism(FORMULA, SMALL, TRUTH).draw(0, 3).fit("log(y) ~ x + (1 | unit)")
    ),
    "have designs of their own": lambda: (
        hlm.mechanism(FORMULA, REDRAWN, TRUTH).draw(0, 3).responses
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_impossible_mechanisms(message):
    with pytest.raises(JaxhlmError) as raised:
        BAD[message]()
    assert message in str(raised.value)


def test_formulas_that_cannot_generate():
    with pytest.raises(FormulaError, match=r"draws one column, not 'log\(y\)'"):
        hlm.mechanism("log(y) ~ x * a + (1 + x | unit)", SMALL, TRUTH)
    with pytest.raises(FormulaError, match="learns from the rows"):
        hlm.mechanism("y ~ center(x) * a + (1 + x | unit)", REDRAWN, TRUTH)
    other = hlm.units(8, 5, {"x": stats.norm()}, unit="g", factors={"h": [1, 2]}, redraw=True)
    with pytest.raises(FormulaError, match="the units of the design are 'g'"):
        hlm.mechanism("y ~ x + (1 | h)", other, hlm.Truth.of([1, 1], sd=[1]))
