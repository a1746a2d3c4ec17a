"""``anova``, ``compare`` and ``rand_test`` against lme4 and lmerTest, and what they refuse."""

import json
import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import jaxhlm as hlm
import tolerances as tol
from cases import arrays_of, frame, load_case
from jaxhlm import errors
from jaxhlm.inference.mixtures import Mixture, likelihood_ratio
from jaxhlm.inference.nesting import boundary_mixture, contained, null_distribution
from jaxhlm.inference.reduced_models import householder_reflection
from places import DATA

R = json.loads((DATA / "comparisons.json").read_text())
SLEEP = {
    "line": "Reaction ~ Days + (1 + Days | Subject)",
    "apart": "Reaction ~ Days + (1 + Days || Subject)",
    "level": "Reaction ~ Days + (1 | Subject)",
    "flat": "Reaction ~ 1 + (1 + Days | Subject)",
}
ORTHO = {
    "grown": "distance ~ age * Sex + (1 | Subject)",
    "alike": "distance ~ age + (1 | Subject)",
}


@cache
def fit(name, reml=True):
    case = "sleepstudy" if name in SLEEP else "orthodont"
    return hlm.fit({**SLEEP, **ORTHO}[name], load_case(case)[0], reml=reml)


def assert_is_lme4s(table, expected, columns):
    for ours, theirs in columns.items():
        values = np.array(expected["columns"][theirs], dtype=float)
        np.testing.assert_allclose(table[ours], values, rtol=tol.LME4_TEST, err_msg=ours)


ANOVA = {c: c for c in ("npar", "AIC", "BIC", "logLik", "Chisq", "Df", "Pr(>Chisq)")}


@pytest.mark.parametrize(
    ("key", "names", "refit"),
    [
        ("level_apart_line_reml", ["level", "apart", "line"], False),
        ("flat_line", ["flat", "line"], True),
        ("alike_grown", ["alike", "grown"], True),
    ],
)
def test_anova_is_lme4s(key, names, refit):
    fits = [fit(name) for name in reversed(names)]
    found = fits[0].anova(*fits[1:], refit=refit)
    assert list(found.table.index) == [str(i) for i in range(len(names), 0, -1)]
    assert_is_lme4s(found.table, R[key], {**ANOVA, "-2*log(L)": "deviance"})
    assert ("refitted with ML (instead of REML)" in str(found)) is refit


@pytest.mark.parametrize(
    ("key", "name", "reml", "rows"),
    [
        ("ranova_line", "line", True, [0, 2]),
        ("ranova_apart", "apart", True, [0, 1, 2]),
        ("ranova_level", "level", True, [0, 1]),
        ("ranova_level_ml", "level", False, [0, 1]),
    ],
)
def test_rand_test_is_ranova(key, name, reml, rows):
    """ranova keeps the intercept of a term; here every column is dropped."""
    table = fit(name, reml).rand_test().table.iloc[rows]
    same = {c: c for c in ("npar", "AIC", "logLik", "LRT", "Df", "Pr(>Chisq)")}
    assert_is_lme4s(table, R[key], same)


def with_three_random_effects():
    rng = np.random.default_rng(4)
    d = frame(np.random.default_rng(3), (9, 14, 7, 13, 12, 5, 8, 15) * 3, sd=1.0)
    w = rng.normal(size=len(d))
    return d.assign(w=w, y=d["y"] + w * rng.normal(size=24)[d["unit"]])


def test_rand_test_is_the_test_against_the_smaller_fit():
    d = with_three_random_effects()
    larger = hlm.fit("y ~ x + a + (1 + x + w | unit)", d)
    table = larger.rand_test().table
    for term, smaller in {"(Intercept)": "0 + x + w", "x": "1 + w", "w": "1 + x"}.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", errors.SingularFitWarning)
            small = hlm.fit(f"y ~ x + a + ({smaller} | unit)", d)
        row = table.loc[f"{term} in (1 + x + w | unit)"]
        np.testing.assert_allclose(-2 * row["logLik"], small.criterion, atol=tol.CRITERION)
        if term != "(Intercept)":
            test = larger.anova(small, refit=False).table.iloc[1]
            np.testing.assert_allclose(row["LRT"], test["Chisq"], atol=tol.RATIO)
            assert row["mixture"] == test["mixture"] == "0.5 χ²(2) + 0.5 χ²(3)"


def test_a_reflection_that_ends_in_a_direction(rng):
    """H = H' = H⁻¹ with |c| H e_d = ± c, beside the last axis too."""
    near = [[1e-9, 0.0, s] for s in (-1.0, 1.0)] + [[0.0, 0.0, s] for s in (-1.0, 1.0)]
    c = np.concatenate([rng.normal(size=(20, 3)), near]) * 10.0 ** rng.integers(-9, 9, (24, 1))
    H, length = householder_reflection(c)
    assert (np.abs(H @ H - np.eye(3)) < tol.CANONICAL).all()
    np.testing.assert_array_equal(H, H.mT)
    np.testing.assert_allclose(np.abs(length), np.linalg.norm(c, axis=1), rtol=tol.CANONICAL)
    error = H[:, :, -1] * length[:, None] - c
    assert (np.abs(error) < tol.CANONICAL * np.abs(length)[:, None]).all()


@pytest.mark.parametrize("reml", [True, False])
def test_without_random_effects_is_least_squares(reml):
    y, X, *_ = arrays_of("sleepstudy")
    rss = np.linalg.lstsq(X, y, rcond=None)[1]
    n, p = X.shape
    nu = n - p if reml else n
    dense = nu * (1.0 + np.log(2.0 * np.pi * rss[0] / nu))
    if reml:
        dense += np.linalg.slogdet(X.T @ X)[1]
    table = fit("level", reml).rand_test().table
    np.testing.assert_allclose(-2.0 * table["logLik"].iloc[1], dense, rtol=tol.DEVIANCE)


def test_mixtures_are_recognised():
    mixture = {
        ("level", "line"): "0.5 χ²(1) + 0.5 χ²(2)",
        ("level", "apart"): "0.5 χ²(0) + 0.5 χ²(1)",
    }
    for (small, large), expected in mixture.items():
        table = fit(large).anova(fit(small), refit=False).table
        assert table["mixture"].iloc[1] == expected
        chisq = table["Chisq"].iloc[1]
        weights = {"0.5 χ²(0) + 0.5 χ²(1)": (0, 1), "0.5 χ²(1) + 0.5 χ²(2)": (1, 2)}[expected]
        by_hand = 0.5 * sum(stats.chi2.sf(chisq, d) if d else 0.0 for d in weights)
        np.testing.assert_allclose(table["Pr(mixture)"].iloc[1], by_hand, rtol=tol.SMALL)
    assert "mixture" not in fit("apart").anova(fit("line"), refit=False).table
    assert str(null_distribution(fit("apart").design, fit("line").design)) == "χ²(1)"


@pytest.mark.parametrize("columns", [1, 2, 3, 4])
def test_the_null_distribution_of_every_cut_of_a_random_term(columns):
    """All entries of D that go are counted; one of them is a variance if one column goes."""
    free = columns * (columns + 1) // 2
    cuts = [[], [1], [1, 1], [2], [1, 2], [3], [1, 1, 2], [2, 2], [1, 3], [1] * columns, [columns]]
    for sizes in (cut for cut in cuts if sum(cut) <= columns):
        mixture, df = boundary_mixture(columns, sizes), free - sum(s * (s + 1) // 2 for s in sizes)
        expected = {columns: f"χ²({df})", columns - 1: f"0.5 χ²({df - 1}) + 0.5 χ²({df})"}
        assert (str(mixture) if mixture else None) == expected.get(sum(sizes))


def test_mixtures_by_hand():
    """P(≥ 0) = 1 whatever the components; a ratio below zero is zero, and what is lost stays so."""
    lrt = np.array([0.0, 1e-3, 0.5, 1.0, 7.0, np.nan])
    tails = [np.where(np.isnan(lrt), np.nan, lrt <= 0.0), *(stats.chi2.sf(lrt, d) for d in (1, 2))]
    mixture = Mixture.one_variance(0) * Mixture.one_variance(0)
    by_hand = 0.25 * tails[0] + 0.5 * tails[1] + 0.25 * tails[2]
    np.testing.assert_allclose(mixture.p_value(lrt), by_hand, rtol=tol.SMALL)
    np.testing.assert_array_equal(
        likelihood_ratio(np.array([5.0, 1.0, 2.0, np.nan]), np.array([2.0, 3.0, 2.0, 1.0])),
        [3.0, 0.0, 0.0, np.nan],
    )


@pytest.mark.parametrize("unit", [1e-30, 1.0, 1e30])
def test_what_is_contained_does_not_depend_on_units(rng, unit):
    X = np.column_stack([np.ones(20), rng.normal(size=(20, 2)), np.zeros(20)])
    units = unit ** np.array([0, 1, -1, 0])
    inside = X @ rng.normal(size=(4, 4))
    assert contained(inside * units, X * units).all()
    assert contained(X * units, X * units[::-1]).all()
    other = rng.normal(size=(20, 3))
    assert not contained(other * units[:3], X * units).any()


def test_compare_orders_by_aicc():
    found = hlm.compare(*(fit(name) for name in SLEEP))
    table = found.table
    n = fit("line").nobs
    aicc = table["AIC"] + 2 * table["npar"] * (table["npar"] + 1) / (n - table["npar"] - 1)
    np.testing.assert_allclose(table["AICc"], aicc, rtol=tol.SMALL)
    assert list(table.index) == ["2", "1", "4", "3"]
    np.testing.assert_allclose(table["weight"].sum(), 1.0)
    assert found.notes == ("refitted with ML (instead of REML)",)
    assert hlm.compare(fit("line"), fit("level"), refit=False).notes == ()
    ml = fit("line", reml=False)
    np.testing.assert_allclose(ml.aicc, table["AICc"]["1"], atol=tol.CRITERION)
    assert ml.glance()["aicc"].iloc[0] == ml.aicc


def test_refit_ml():
    again = fit("line").refit_ml()
    assert not again.reml and again.refit_ml() is again
    np.testing.assert_allclose(
        again.criterion, fit("line", reml=False).criterion, atol=tol.CRITERION
    )


def sleep():
    return load_case("sleepstudy")[0]


REFUSED = {
    "rows": (errors.DifferentRowsError, "180 and 179 rows", lambda: sleep().iloc[1:]),
    "labels": (
        errors.DifferentRowsError,
        "other labels, first 0 and 1",
        lambda: sleep().set_index(sleep().index + 1),
    ),
    "response": (
        errors.DifferentRowsError,
        "other responses",
        lambda: sleep().assign(Reaction=sleep()["Reaction"] + 1.0),
    ),
}


@pytest.mark.parametrize("key", REFUSED)
def test_other_rows_are_refused(key):
    error, message, data = REFUSED[key]
    other = hlm.fit(SLEEP["level"], data())
    with pytest.raises(error, match=message):
        fit("line").anova(other)
    with pytest.raises(error, match=message):
        hlm.compare(fit("line"), other)


def test_other_weights_are_refused():
    other = hlm.fit(SLEEP["level"], sleep(), weights=np.full(180, 2.0))
    with pytest.raises(errors.DifferentRowsError, match="weights"):
        fit("line").anova(other)


def test_other_refusals():
    with pytest.raises(errors.MixedMethodsError, match="REML and ML"):
        fit("line").anova(fit("level", reml=False), refit=False)
    with pytest.raises(errors.MixedMethodsError, match="fixed effects differ"):
        fit("line").anova(fit("flat"), refit=False)
    with pytest.raises(errors.NotNestedError, match="'Days' of the smaller model"):
        fit("level").anova(fit("flat"))
    with pytest.raises(errors.OptionError, match="same number of parameters"):
        fit("line").anova(fit("line"))
    with pytest.raises(errors.OptionError, match="two or more"):
        hlm.compare(fit("line"))


def test_random_parts_must_be_nested():
    d = frame(np.random.default_rng(3), (9, 4, 7, 3, 12, 5, 8, 5), sd=1.0)
    larger = hlm.fit("y ~ x + a + (1 + x | unit)", d)
    other = d.assign(w=np.random.default_rng(4).normal(size=len(d)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.SingularFitWarning)
        slope = hlm.fit("y ~ x + a + (0 + w | unit)", other)
        regrouped = hlm.fit("y ~ x + a + (1 | g)", d.assign(g=np.arange(len(d)) % 5))
    with pytest.raises(errors.NotNestedError, match="random term of w"):
        larger.anova(slope)
    with pytest.raises(errors.NotNestedError, match="units of 'g'"):
        larger.anova(regrouped)
    assert len(hlm.compare(larger, slope, regrouped).table) == 3


def test_two_more_random_effects_have_no_simple_mixture():
    d = with_three_random_effects()
    larger = hlm.fit("y ~ x + a + (1 + x + w | unit)", d)
    found = larger.anova(hlm.fit("y ~ x + a + (1 | unit)", d))
    assert np.isnan(found.table["Pr(mixture)"].iloc[1])
    assert found.table["mixture"].iloc[1] == "not simple"
    assert "conservative" in str(found)


@cache
def batches():
    Y = fit("level").simulate(30, seed=2)
    return {
        name: hlm.fit_many(SLEEP[name].removeprefix("Reaction "), load_case("sleepstudy")[0], Y)
        for name in ("line", "level")
    }


@pytest.mark.parametrize("refit", [True, False])
def test_anova_of_a_batch_is_that_of_its_fits(refit):
    large, small = batches()["line"], batches()["level"]
    found = small.anova(large, refit=refit)
    assert list(found.table.index) == list(large.index)
    for i in (0, 17):
        one = large[i].anova(small[i], refit=refit).table.iloc[1]
        row = found.table.iloc[i]
        np.testing.assert_allclose(row["statistic"], one["Chisq"], atol=tol.RATIO)
        assert row["df"] == one["Df"] == 2
        np.testing.assert_allclose(row["p_mixture"], one["Pr(mixture)"], rtol=tol.ESTIMATE)
    assert ("refitted" in str(found)) is refit


@pytest.mark.parametrize(("drop", "simple"), [("each", True), ("all", False)])
def test_rand_test_says_which_p_value_to_read(drop, simple):
    text = str(fit("line").rand_test(drop))
    assert ("Pr(mixture) is the p-value to read" in text) is simple
    assert ("Pr(>Chisq) is conservative" in text) is not simple


def test_rand_test_of_a_slope_alone_leaves_no_random_effect():
    """ranova(fit, reduce.terms = FALSE) of lmerTest 3.1: logLik -946.83, LRT 127.14."""
    data = load_case("sleepstudy")[0]
    table = hlm.fit("Reaction ~ Days + (0 + Days | Subject)", data).rand_test().table
    np.testing.assert_allclose(table["logLik"], [-883.26, -946.83], atol=tol.printed(2))
    np.testing.assert_allclose(table["LRT"].iloc[1], 127.14, atol=tol.printed(2))


def test_rand_test_of_a_batch_is_that_of_its_fits():
    fits = batches()["line"]
    long = fits.rand_test()
    one = fits[5].rand_test().table
    mine = long[long["response"] == fits.index[5]].drop(columns="response").set_index("term")
    pd.testing.assert_frame_equal(mine.rename_axis(None), one, rtol=tol.ESTIMATE, atol=tol.RATIO)


def test_rand_test_with_few_units_and_smaller_models_that_are_singular(rng):
    """Singular lanes of few units start twice; here R has more rows than random effects."""
    unit, x = np.repeat(np.arange(8), 5), rng.normal(size=40)
    Y = rng.normal(size=(40, 6)) + x[:, None] * rng.normal(size=(8, 6))[unit]
    data = pd.DataFrame({"x": x, "unit": unit})
    fits = hlm.fit_many("~ x + (1 + x | unit)", data, Y)
    smaller = [hlm.fit_many(f"~ x + ({one} | unit)", data, Y) for one in ("0 + x", "1")]
    assert smaller[1].singular.any()
    found = fits.rand_test()["LRT"].to_numpy().reshape(-1, 3)[:, 1:]
    for k, without in enumerate(smaller):
        expected = (without.criterion - fits.criterion).clip(lower=0.0)
        np.testing.assert_allclose(found[:, k], expected, atol=tol.RATIO)
    limits = fits.confint("profile").filter(like="conf").to_numpy()
    assert np.isfinite(limits).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("full", "part", "row"), [("1 + x", "0 + x", 1), ("0 + hi + lo", "0 + lo", 1)]
)
def test_what_is_left_of_two_random_effects_is_scanned_as_one(full, part, row, rng):
    """Heavy tails, few units: with one random effect there are several minima."""
    unit, x, hi = np.repeat(np.arange(6), 5), rng.normal(size=30), rng.integers(0, 2, 30)
    data = pd.DataFrame({"unit": unit, "x": x, "hi": hi, "lo": 1 - hi})
    b = rng.standard_t(2, size=(2, 6, 300))[:, unit]
    Y = rng.standard_t(2, size=(30, 300)) + 0.7 * b[0] + 0.4 * b[1] * x[:, None]
    larger, smaller = (
        hlm.fit_many(f"~ x + hi + ({effects} | unit)", data, Y) for effects in (full, part)
    )
    found = larger.rand_test()["LRT"].to_numpy().reshape(len(larger), -1)[:, row]
    expected = (smaller.criterion - larger.criterion).clip(lower=0.0)
    np.testing.assert_allclose(found, expected, atol=tol.RATIO)


def test_the_mixture_holds_its_level():
    """Truth without a random slope: the mixture rejects about 5 %, the plain χ² too rarely."""
    n = 500
    d = hlm.load_dataset("article")
    truth = hlm.Truth.of([1.0, 3.0], sd=[0.5], sigma=0.75)
    Y = hlm.simulate(hlm.design("~ x + (1 | unit)", d), truth, n, seed=1, statistics=False).rows()
    large = hlm.fit_many("~ x + (1 + x | unit)", d, Y)
    small = hlm.fit_many("~ x + (1 | unit)", d, Y)
    p = large.anova(small, refit=False).table
    error = np.sqrt(0.05 * 0.95 / n)
    # 30 units: the asymptotic distribution is a little conservative; three Monte-Carlo errors.
    assert abs((p["p_mixture"] < 0.05).mean() - 0.05) < 3 * error
    assert (p["p_value"] < 0.05).mean() < (p["p_mixture"] < 0.05).mean()


def test_batches_of_other_data_are_refused():
    large, small = batches()["line"], batches()["level"]
    with pytest.raises(errors.DifferentRowsError, match="30 and 29"):
        large.anova(small[1:])
    Y = fit("level").simulate(30, seed=3)
    other = hlm.fit_many("~ Days + (1 | Subject)", load_case("sleepstudy")[0], Y)
    with pytest.raises(errors.DifferentRowsError, match="'sim_1' has other rows or responses"):
        large.anova(other)
    with pytest.raises(errors.OptionError, match="same number of parameters"):
        large.anova(large)


def test_a_failed_lane_is_nan_and_harms_nobody():
    Y = fit("level").simulate(4, seed=2)
    Y.iloc[:, 1] = 5.0
    with pytest.warns(errors.ConvergenceWarning):
        large = hlm.fit_many("~ Days + (1 + Days | Subject)", load_case("sleepstudy")[0], Y)
        small = hlm.fit_many("~ Days + (1 | Subject)", load_case("sleepstudy")[0], Y)
    table = large.anova(small).table
    assert list(table["statistic"].isna()) == [False, True, False, False]
    assert table["p_value"].isna().tolist() == table["p_mixture"].isna().tolist()
    assert large.rand_test().groupby("response", sort=False)["LRT"].count().tolist() == [
        2,
        0,
        2,
        2,
    ]
    limits = large.confint("profile")
    assert limits.groupby("response", sort=False)["2.5 %"].count().tolist() == [6, 0, 6, 6]
    assert isinstance(limits, pd.DataFrame)
