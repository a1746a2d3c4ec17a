"""Families of contrasts of marginal means, trends and joint tests, against R's emmeans."""

import json

import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
import tolerances as tol
from jaxhlm import errors
from places import DATA

pytestmark = pytest.mark.filterwarnings(
    "ignore::jaxhlm.errors.RankDeficientWarning", "ignore::jaxhlm.errors.ConvergenceWarning"
)
R = json.loads((DATA / "emmeans.json").read_text())
FORMULA = "distance ~ kind * Sex * age + late + (1 | Subject)"
MEANS = ["emmean", "std_error", "df", "conf_low", "conf_high"]
TESTS = ["estimate", "std_error", "df", "conf_low", "conf_high", "statistic", "p_adjusted"]
HALVES = {"a": [1, -1, 0, 0], "b": {"p": 0.5, "q": 0.5, "r": -1}}


def orthodont():
    d = pd.read_csv(DATA / "orthodont.csv")
    d["kind"] = np.resize(list("pqrqpqs"), len(d))
    d["late"], d["w"] = np.where(d["age"] > 11, "yes", "no"), np.resize([1.0, 2.0, 3.0], len(d))
    return d


@pytest.fixture(scope="module")
def fit():
    return hlm.fit(FORMULA, orthodont())


# What emmeans calls a set of values in emmeans.R, and the arguments here.
TABLES = {
    "by": (["kind"], {"by": "Sex"}),
    "sidak": (["kind"], {"by": "Sex", "adjust": "sidak"}),
    "pairs_by": (["kind"], {"by": "Sex", "contrasts": "pairwise"}),
    "revpairs": ("kind", {"contrasts": "revpairwise", "adjust": "bonferroni"}),
    "control": ("kind", {"contrasts": "trt.vs.ctrl", "adjust": "sidak"}),
    "controlk": ("kind", {"contrasts": "trt.vs.ctrlk", "adjust": "none"}),
    "poly": ("kind", {"contrasts": "poly"}),
    "eff": ("kind", {"contrasts": "eff"}),
    "del": ("kind", {"contrasts": "del.eff", "adjust": "holm"}),
    "consec": ("kind", {"contrasts": "consec", "adjust": "fdr"}),
    "change": ("kind", {"contrasts": "mean_chg", "adjust": "none"}),
    "custom": ("kind", {"contrasts": HALVES, "adjust": "holm"}),
    "interaction": (["kind", "Sex"], {"interaction": ["consec", "pairwise"]}),
    "interaction_by": (["kind", "age"], {
        "interaction": {"age": "pairwise", "kind": "poly"}, "by": "Sex", "at": {"age": [8, 14]}}),
    "proportional": ("Sex", {"weights": "proportional"}),
    "outer": ("Sex", {"weights": "outer"}),
    "cells": ("Sex", {"weights": "cells"}),
    "at": ("kind", {"by": "Sex", "at": {"age": [8, 14]}, "weights": "proportional"}),
}  # fmt: skip
TRENDS = {"trend": {}, "trend_pairs": {"contrasts": "pairwise"}}


def assert_of_r(table, expected, names):
    assert len(expected) == len(names)
    for name, values in zip(names, expected, strict=True):
        theirs = np.atleast_1d(np.array(values, dtype=float))
        np.testing.assert_allclose(
            table[name], theirs, rtol=tol.R_MEANS, atol=tol.R_MEANS_ZERO, err_msg=name
        )


@pytest.mark.parametrize("method", ["satterthwaite", "kenward-roger"])
def test_tables_of_r(fit, method):
    expected = R[method.replace("-", "_")]
    for name, (specs, options) in TABLES.items():
        found = fit.emmeans(specs, df=method, **options)
        values = expected[name][:5] if name == "sidak" else expected[name]
        assert_of_r(found, values, TESTS if "estimate" in found else MEANS)
    for name, options in TRENDS.items():
        found = fit.emtrends("kind", "age", df=method, by="Sex", **options)
        columns = TESTS if "estimate" in found else ["trend", *MEANS[1:]]
        assert_of_r(found, expected[name], columns)


def test_names_of_rows(fit):
    table = fit.emmeans("kind", by="Sex", contrasts="trt.vs.ctrlk", adjust="none")
    assert table.columns[:2].tolist() == ["Sex", "contrast"]
    assert table["contrast"].tolist() == ["p - s", "q - s", "r - s"] * 2
    product = fit.emmeans(["kind", "Sex"], interaction=["consec", "pairwise"])
    assert product.columns[:2].tolist() == ["kind_consec", "Sex_pairwise"]
    assert product["kind_consec"].tolist() == ["q - p", "r - q", "s - r"]
    old, new = (
        fit.emmeans("kind", by="Sex", **o) for o in ({"pairwise": True}, {"contrasts": "pairwise"})
    )
    np.testing.assert_allclose(old["p_tukey"], new["p_adjusted"])


def test_weighted_rows():
    fit = hlm.fit("distance ~ kind * Sex + late + age + (1 | Subject)", orthodont(), weights="w")
    assert_of_r(fit.emmeans("Sex", weights="proportional"), R["weighted"], MEANS)


def test_multivariate_t(fit):
    """Against mvtnorm's Monte-Carlo integrals, for whole numbers of df."""
    found = fit.emmeans("kind", contrasts="consec")
    names = ["p_adjusted", "conf_low", "conf_high"]
    for name, values in zip(names, R["mvt"], strict=True):
        np.testing.assert_allclose(found[name], values, atol=tol.MVT, err_msg=name)
    one = fit.emmeans("Sex", contrasts="pairwise", adjust="mvt")
    np.testing.assert_allclose(one["p_adjusted"], one["p_value"], rtol=tol.SMALL)
    pairs = fit.emmeans("kind", contrasts="pairwise", df="normal")
    mvt = fit.emmeans("kind", contrasts="pairwise", df="normal", adjust="mvt")
    # With equal variances they are the same; Tukey-Kramer is conservative elsewhere.
    assert (mvt["p_adjusted"] < pairs["p_adjusted"] + tol.MVT_INTEGRAL).all()
    widths = [(t["conf_high"] - t["conf_low"]).to_numpy() for t in (pairs, mvt)]
    assert (widths[1] < widths[0] + tol.MVT_INTEGRAL).all() and (widths[1] > 0.98 * widths[0]).all()


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.SingularFitWarning")
def test_a_batch_answers_as_its_fits_do(fit):
    d, Y = orthodont(), fit.simulate(4, seed=1).to_numpy().copy()
    Y[[3, 20, 21], 1], Y[:, 2] = np.nan, 1.0
    fits = hlm.fit_many(FORMULA.partition("distance ")[2], d, Y, progress=False)
    calls = [
        lambda f: f.emmeans("kind", by="Sex", contrasts="pairwise"),
        lambda f: f.emmeans("kind", contrasts="consec", df="kenward-roger"),
        lambda f: f.emmeans(["kind", "Sex"], interaction="consec", adjust="holm"),
        lambda f: f.emmeans("Sex", weights="cells", adjust="bonferroni"),
        lambda f: f.emtrends(None, "age", weights="proportional"),
        lambda f: f.emmeans(["Sex", "age"], by="kind", contrasts="pairwise"),
        lambda f: f.joint_tests(),
        lambda f: f.joint_tests(by="Sex"),
    ]
    for call in calls:
        table = call(fits)
        for i in np.flatnonzero(fits.ok):
            one = call(fits[int(i)])
            mine = table[len(one) * i : len(one) * (i + 1)].iloc[:, 1:].reset_index(drop=True)
            pd.testing.assert_frame_equal(mine, one, rtol=tol.BATCH_DF, atol=tol.SMALL)
        assert table.iloc[2 * len(one) : 3 * len(one)].iloc[:, -1].isna().all()


def test_joint_tests_of_r(fit):
    """emmeans takes the smallest df of single rows; these are those of ``joint_test``."""
    for by, name in ((None, "joint"), ("Sex", "joint_by")):
        found, expected = fit.joint_tests(by=by), R[name]
        found = found.sort_values(["Sex"], kind="stable") if by else found
        theirs = pd.DataFrame(dict(zip(["df1", "df2", "F", "p"], expected["values"], strict=True)))
        theirs["term"] = expected["term"]
        if by:
            theirs["Sex"] = np.resize(["Female", "Male"], len(theirs))
        both = found.merge(theirs, on=["term", *([by] if by else [])])
        assert len(both) == len(found) == len(theirs)
        np.testing.assert_allclose(both["num_df"], both["df1"])
        np.testing.assert_allclose(both["statistic"], both["F"], rtol=0, atol=tol.printed(3))
    types = fit.anova(df="kenward-roger").table
    joint = fit.joint_tests(df="kenward-roger").set_index("term")
    for term in ("kind:Sex:age", "kind:age", "late"):
        np.testing.assert_allclose(joint.loc[term, "statistic"], types.loc[term, "F value"])


def test_what_is_not_estimable():
    d = orthodont()
    d = d[~((d["kind"] == "s") & (d["late"] == "yes"))]
    fit = hlm.fit("distance ~ kind * late + (1 | Subject)", d)
    with pytest.warns(errors.NotEstimableWarning):
        table = fit.emmeans("kind", contrasts="pairwise")
    assert table["estimable"].tolist() == [True, True, False, True, False, False]
    assert table["p_adjusted"].notna().tolist() == table["estimable"].tolist()
    with pytest.warns(errors.NotEstimableWarning):
        mvt = fit.emmeans("kind", contrasts="pairwise", adjust="mvt")
    assert mvt["conf_low"].notna().tolist() == table["estimable"].tolist()
    raw = fit.emmeans("kind", weights="cells")
    assert raw["emmean"].notna().all()


def test_refused(fit):
    refused = {
        "tukey": {"contrasts": "eff", "adjust": "tukey"},
        "limits only": {"adjust": "holm"},
        "side by side": {"pairwise": True, "adjust": "holm"},
        "different things": {"pairwise": True, "contrasts": "eff"},
        "contrasts=": {"contrasts": "pairs"},
        "weights=": {"weights": "flat"},
        "one of the cells": {"by": "kind"},
        "interaction": {"interaction": ["eff", "poly"]},
    }
    for match, options in refused.items():
        with pytest.raises(errors.OptionError, match=match):
            fit.emmeans("kind", **options)
    for contrasts in ([1, -1], {"a": [0, 0, 0, 0]}, {"a": {"z": 1}}, {}, [[np.nan, 0, 0, 1]]):
        with pytest.raises(errors.ContrastError, match="contrast"):
            fit.emmeans("kind", contrasts=contrasts)
    with pytest.raises(errors.UnknownTermError, match="'size'"):
        fit.emmeans("kind", by="size")
    with pytest.raises(errors.OptionError, match="factor"):
        fit.emtrends("kind", "late")
    with pytest.raises(errors.UnknownTermError, match="'size'"):
        fit.emtrends("kind", "size")
