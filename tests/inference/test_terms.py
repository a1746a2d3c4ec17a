"""F tests of the terms of a model: against lmerTest, and the definitions of their types."""

import json

import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
import tolerances as tol
from jaxhlm import errors
from places import DATA

pytestmark = pytest.mark.filterwarnings(
    "ignore::jaxhlm.errors.RankDeficientWarning",
    "ignore::jaxhlm.errors.SingularFitWarning",
    "ignore::jaxhlm.errors.ConvergenceWarning",
)
COLUMNS = ["Sum Sq", "Mean Sq", "NumDF", "DenDF", "F value", "Pr(>F)"]
METHODS = ("satterthwaite", "kenward-roger")
R = json.loads((DATA / "terms.json").read_text())


def orthodont():
    d = pd.read_csv(DATA / "orthodont.csv")
    d["Sex"] = pd.Categorical(d["Sex"], sorted(d["Sex"].unique()))
    d["kind"] = np.resize(list("pqrqpqp"), len(d))
    d["late"] = np.where(d["age"] > 11, "yes", "no")
    d["w"], d["twice"] = np.resize([1.0, 2.0, 3.0], len(d)), 2.0 * d["age"]
    return d


MODELS = {
    "three": "distance ~ kind * Sex * age + (1 | Subject)",
    "factors": "distance ~ kind * late + Sex + (1 + age | Subject)",
    "weights": "distance ~ kind * late + age + (1 | Subject)",
    "empty": "distance ~ kind * late + (1 | Subject)",
    "poly": "distance ~ poly(age, 2) * Sex + kind + (1 | Subject)",
    "one": "distance ~ kind + (1 | Subject)",
    "cells": "distance ~ kind:late + (1 | Subject)",
    "means": "distance ~ 0 + kind + Sex + (1 | Subject)",
    "slopes": "distance ~ Sex + Sex:age + (1 | Subject)",
    "aliased": "distance ~ age + twice + kind + (1 | Subject)",
}
RECODED = {"kind": "C(kind, contr.sum)", "Sex": "C(Sex, contr.helmert)"}


def data_of(name):
    d = orthodont()
    return d[~((d["kind"] == "r") & (d["late"] == "yes"))] if name == "empty" else d


def fitted(name, formula=None):
    weights = "w" if name == "weights" else None
    return hlm.fit(formula or MODELS[name], data_of(name), weights=weights)


def assert_table_of_r(table, expected):
    """lmerTest's numbers, which are NaN where no column of a term is left."""
    assert sorted(table.index) == sorted(expected)
    for term, values in expected.items():
        values = np.array([np.nan if x is None else x for x in values], dtype=float)
        np.testing.assert_allclose(table.loc[term, COLUMNS], values, rtol=tol.R_TERMS, err_msg=term)


@pytest.mark.parametrize("name", MODELS)
def test_tables_of_r(name):
    fit = fitted(name)
    for test, by_df in R["tables"][name].items():
        for df in METHODS:
            # pbkrtest leaves weights out; cells without margins are other columns in R, on which
            # Satterthwaite's df of several rows depend.
            if (name, df) in (("weights", "kenward-roger"), ("cells", "satterthwaite")):
                continue
            found = fit.drop1(df=df) if test == "drop1" else fit.anova(type=test, df=df)
            assert_table_of_r(found.table, by_df[df.replace("-", "_")])


@pytest.mark.parametrize("name", ["three", "factors", "empty", "one"])
def test_tables_do_not_depend_on_the_coding(name):
    formula = MODELS[name]
    for plain, recoded in RECODED.items():
        formula = formula.replace(plain, recoded)
    one, other = fitted(name), fitted(name, formula)
    for test in ("III", "II", "I"):
        # Satterthwaite's df of several rows depend on the rows, which are those of X but in III.
        df = "satterthwaite" if test == "III" and name != "one" else "kenward-roger"
        mine, theirs = (fit.anova(type=test, df=df).table for fit in (other, one))
        np.testing.assert_allclose(mine, theirs, rtol=tol.CODING, err_msg=test)


def test_type_three_is_about_equally_weighted_cells():
    """Also of a factor within another, whose own margin is not in the model."""
    d = orthodont()
    crossed = hlm.fit("distance ~ kind * late + (1 | Subject)", d)
    nested = hlm.fit("distance ~ kind / late + (1 | Subject)", d)
    slopes = hlm.fit("distance ~ kind / age + (1 | Subject)", d)
    same = ["F value", "NumDF", "DenDF"]
    for df in METHODS:
        a, b = (fit.anova(df=df).table.loc["kind", same] for fit in (crossed, nested))
        np.testing.assert_allclose(a, b, rtol=tol.CODING)
    cells = crossed.emmeans(["kind", "late"], df="normal")["emmean"].to_numpy().reshape(2, 3)
    means = crossed.emmeans("kind", df="normal")["emmean"]
    np.testing.assert_allclose(means, cells.mean(axis=0), rtol=tol.SMALL)
    b = crossed.model.xnames
    rows = [{"kindq": 1.0, "kindq:lateyes": 0.5}, {"kindr": 1.0, "kindr:lateyes": 0.5}]
    assert {name for row in rows for name in row} <= {*b}
    expected = crossed.joint_test(rows, "kenward-roger").iloc[0]
    found = crossed.anova(df="kenward-roger").table.loc["kind"]
    np.testing.assert_allclose(found["F value"], expected["statistic"], rtol=tol.CODING)
    assert slopes.anova().table.index.tolist() == ["kind", "kind:age"]


def batches():
    """Responses, of which one misses rows, one lacks a level and one failed; and replicates."""
    d = orthodont()
    formula = "~ kind * late + age + (1 | Subject)"
    Y = hlm.fit("distance " + formula, d).simulate(5, seed=1).to_numpy().copy()
    Y[[3, 20, 21, 50], 1], Y[d["kind"] == "r", 2], Y[:, 3] = np.nan, np.nan, 1.0
    yield hlm.fit_many(formula, d, Y, progress=False)
    parts = [d.iloc[:: 1 if r else -1][r : 90 + r].assign(r=r) for r in range(3)]
    frame = pd.concat([*parts, d[d["kind"] != "q"].assign(r=3)], ignore_index=True)
    yield hlm.fit_many("distance " + formula, frame, by="r", progress=False)
    numbers = pd.concat([d.assign(r=r, age=d["age"] + r % 2 * d["w"]) for r in range(3)])
    numbers["Subject"] = pd.factorize(numbers["Subject"])[0]
    yield hlm.fit_many("distance ~ age * w + (1 | Subject)", numbers, by="r", progress=False)


def test_a_batch_answers_as_its_fits_do():
    for fits in batches():
        for df in ("satterthwaite", "kenward-roger", "residual", "normal"):
            for call in (
                lambda f, df=df: f.anova(df=df),
                lambda f, df=df: f.anova(type="II", df=df),
                lambda f, df=df: f.anova(type="I", df=df),
                lambda f, df=df: f.drop1(df=df),
            ):
                found = call(fits).table
                for label, ok, fit in zip(fits.index, fits.ok, fits, strict=True):
                    mine = found.loc[label]
                    if not ok:
                        assert mine[["F value", "DenDF"]].isna().all(axis=None)
                        continue
                    one = call(fit).table.reindex(mine.index)
                    pd.testing.assert_frame_equal(mine, one, rtol=tol.BATCH_DF, atol=tol.SMALL)


def test_a_term_by_its_name():
    fit = fitted("three")
    found = fit.joint_test("kind:Sex")
    pd.testing.assert_frame_equal(found, fit.joint_test(["kindq:SexMale", "kindr:SexMale"]))
    pd.testing.assert_frame_equal(
        fit.joint_test(["age", "kind:Sex"]).round(9),
        fit.joint_test("age, kindq:SexMale, kindr:SexMale").round(9),
    )
    with pytest.raises(errors.UnknownTermError, match="kinds"):
        fit.joint_test("kinds")


def test_against_the_linear_model():
    """As ``anova(fit, lm)``, and by least squares; of a batch too."""
    d = orthodont()
    formula = MODELS["factors"]
    ml, reml = hlm.fit(formula, d, reml=False), hlm.fit(formula, d)
    table = ml.rand_test("all").table
    np.testing.assert_allclose(table["LRT"].iloc[1], R["linear"], rtol=tol.LME4_TEST)
    assert table["Df"].iloc[1] == 3 and np.isnan(table["Pr(mixture)"].iloc[1])
    one = hlm.fit(formula.replace("1 + age", "1"), d)
    each, both = one.rand_test().table, one.rand_test("all").table
    np.testing.assert_allclose(each.iloc[:, :7], both.iloc[:, :7])
    apart = hlm.fit(formula.replace("1 + age |", "1 + age ||"), d).rand_test("all").table
    assert apart["mixture"].iloc[1] == "0.25 χ²(0) + 0.5 χ²(1) + 0.25 χ²(2)"
    X, y = reml.design.X, reml.design.y
    residual = y - X @ np.linalg.lstsq(X, y, rcond=None)[0]
    nu = len(y) - X.shape[1]
    value = nu * (1 + np.log(2 * np.pi * residual @ residual / nu))
    value += np.linalg.slogdet(X.T @ X)[1]
    found = reml.rand_test("all").table["logLik"].iloc[1]
    np.testing.assert_allclose(-2.0 * found, value, rtol=tol.CRITERION)
    Y = reml.simulate(2, seed=1)
    fits = hlm.fit_many(formula.partition("distance ")[2], d, Y, progress=False)
    mine = fits.rand_test("all").query("response == 'sim_2'")["LRT"]
    np.testing.assert_allclose(mine, fits[1].rand_test("all").table["LRT"], rtol=tol.RATIO)


def test_refused():
    fit = fitted("three")
    for options in ({"type": "3"}, {"type": 3}, {"df": "lme4"}):
        with pytest.raises(errors.OptionError, match=f"{next(iter(options))}="):
            fit.anova(**options)
    for options in ({"type": "III"}, {"df": "satterthwaite"}):
        with pytest.raises(errors.OptionError, match="without another"):
            fit.anova(fit, **options)
    with pytest.raises(errors.OptionError, match="which other terms contain"):
        fit.drop1("kind")
    with pytest.raises(errors.UnknownTermError, match="'size'"):
        fit.drop1("size")
    with pytest.raises(errors.OptionError, match="drop="):
        fit.rand_test("both")
    with pytest.raises(errors.NeedsRemlError):
        hlm.fit(MODELS["one"], orthodont(), reml=False).anova(df="kenward-roger")
