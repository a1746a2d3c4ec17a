"""Estimated marginal means against R's emmeans and against means taken by hand."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import jaxhlm as hlm
import tolerances as tol
from cases import frame, growth
from jaxhlm import errors
from jaxhlm.inference.multiplicity import holm
from jaxhlm.inference.refgrid import tukey
from jaxhlm.inference.tails import range_tail
from places import DATA

METHODS = ("satterthwaite", "kenward-roger")


def in_r(method):
    return json.loads((DATA / "contrasts.json").read_text())["emmeans"][method.replace("-", "_")]


def assert_close(found, expected, columns):
    for ours, theirs in columns.items():
        np.testing.assert_allclose(found[ours], expected[theirs], rtol=tol.LME4_DF, err_msg=ours)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("cells", "specs", "at"),
    [
        ("sex", "Sex", None),
        ("cells", ["Sex", "kind"], {"age": 14}),
        ("ages", "age", {"age": [8, 14]}),
    ],
)
def test_means_of_r(method, cells, specs, at):
    found, expected = growth().emmeans(specs, at, method), pd.DataFrame(in_r(method)[cells])
    names = [specs] if isinstance(specs, str) else specs
    assert found[names].to_numpy().tolist() == expected[names].to_numpy().tolist()
    columns = {"emmean": "emmean", "std_error": "SE", "df": "df"}
    assert_close(found, expected, {**columns, "conf_low": "lower.CL", "conf_high": "upper.CL"})


@pytest.mark.parametrize("method", METHODS)
def test_differences_of_r(method):
    found, r = growth().emmeans("kind", df=method, pairwise=True), in_r(method)
    columns = {"estimate": "estimate", "std_error": "SE", "df": "df", "statistic": "t.ratio"}
    none = pd.DataFrame(r["pairs_none"])
    assert found["contrast"].tolist() == none["contrast"].tolist()
    assert_close(found, none, {**columns, "p_value": "p.value"})
    assert_close(found, pd.DataFrame(r["pairs_holm"]), {"p_holm": "p.value"})
    assert_close(found, pd.DataFrame(r["pairs_tukey"]), {"p_tukey": "p.value"})


def coded():
    """A factor, a number inside C(), a boolean and a transform that learned from the rows."""
    rng = np.random.default_rng(6)
    d = frame(rng, (9, 4, 7, 3, 12, 5, 8), sd=1.0)
    d["kind"] = np.resize(["p", "q", "r"], len(d))
    d["week"], d["sick"] = rng.choice([1, 2, 5], len(d)), np.arange(len(d)) % 5 < 2
    return d, hlm.fit("y ~ center(x) * kind + C(week) + sick + (1 | unit)", d)


def test_means_by_hand():
    d, fit = coded()
    cells = [
        {"x": d["x"].mean(), "kind": k, "week": w, "sick": s}
        for k in "pqr"
        for w in (1, 2, 5)
        for s in (False, True)
    ]
    values = fit.predict(pd.DataFrame(cells).assign(unit=0), ranef=False).to_numpy()
    found = fit.emmeans("kind")
    np.testing.assert_allclose(found["emmean"], values.reshape(3, 6).mean(axis=1), rtol=tol.SMALL)
    np.testing.assert_allclose(
        fit.emmeans("week")["emmean"], values.reshape(3, 3, 2).mean(axis=(0, 2)), rtol=tol.SMALL
    )
    assert fit.emmeans("sick")["sick"].tolist() == [False, True]
    at = fit.emmeans(["kind", "x"], at={"x": [0.0, 1.0], "kind": ["p", "r"], "week": 5})
    assert at[["kind", "x"]].to_numpy().tolist() == [["p", 0.0], ["r", 0.0], ["p", 1.0], ["r", 1.0]]
    change = at["emmean"].to_numpy().reshape(2, 2)
    b = fit.fixef
    slope = [b["center(x)"], b["center(x)"] + b["center(x):kindr"]]
    np.testing.assert_allclose(change[1] - change[0], slope, rtol=tol.SMALL)


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.SingularFitWarning")
def test_covariates_are_those_of_the_rows_used():
    """A data set among replicates is averaged at its own mean."""
    rng = np.random.default_rng(5)
    d = pd.concat(
        [
            frame(rng, (9, 4, 7, 8), sd=1.0).assign(r=r, x=lambda f, r=r: f["x"] + r)
            for r in range(2)
        ]
    )
    d["kind"] = np.resize(["p", "q"], len(d))
    formula = "y ~ x + kind + (1 | unit)"
    one = hlm.fit_many(formula, d, by="r", progress=False)[1]
    alone = hlm.fit(formula, d[d["r"] == 1])
    np.testing.assert_allclose(
        one.emmeans("kind")["emmean"], alone.emmeans("kind")["emmean"], rtol=tol.ESTIMATE
    )


def assert_rows_of_every_fit(fits, specs, at=None, **options):
    """What a batch says is what its fits say one by one, to the last digits."""
    table = fits.emmeans(specs, at, **options)
    assert table.columns[0] == (fits.index.name or "fit")
    for i, fit in enumerate(fits):
        one = fit.emmeans(specs, at, **options)
        mine = table[len(one) * i : len(one) * (i + 1)]
        assert (mine.pop(table.columns[0]) == fits.index[i]).all()
        pd.testing.assert_frame_equal(mine.reset_index(drop=True), one, rtol=tol.BATCH, atol=0.0)


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::jaxhlm.errors.SingularFitWarning")
@pytest.mark.parametrize("method", ["satterthwaite", "kenward-roger", "residual", "normal"])
def test_means_of_many_responses(method):
    """One that misses rows, one that failed, and one without a value, among others."""
    d, fit = coded()
    Y = fit.simulate(6, seed=1).to_numpy().copy()
    Y[[3, 20, 21], 1], Y[:, 3], Y[:, 4] = np.nan, 1.0, np.nan
    fits = hlm.fit_many("~ x * kind + C(week) + sick + (1 | unit)", d, Y, progress=False)
    assert fits.ok.tolist() == [True, True, True, False, False, True]
    some = fits[[0, 1, 3, 5]]
    cells = (("kind", None), (["kind", "week"], {"sick": True}), ("x", None), ("x", {"x": [0, 1]}))
    for specs, at in cells:
        assert_rows_of_every_fit(some, specs, at, df=method)
    assert_rows_of_every_fit(some, "kind", df=method, pairwise=True, conf_level=0.9)
    nothing = fits.emmeans("kind", df=method).query("response == 4")
    assert nothing[["emmean", "std_error", "df"]].isna().all(axis=None)
    with pytest.raises(errors.ContrastError, match="one cell"):
        fits.emmeans("x", pairwise=True)


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.SingularFitWarning")
@pytest.mark.parametrize("factor", [True, False])
def test_means_of_data_sets_with_rows_of_their_own(factor):
    """Averaged at the means of each, whether the frame is read as a whole or run by run."""
    rng = np.random.default_rng(5)
    parts = [frame(rng, (9, 4, 7, 8)[: 4 - r % 2], sd=1.0).assign(r=r) for r in range(4)]
    d = pd.concat(parts, ignore_index=True)
    d["x"], d["kind"] = d["x"] + d["r"], np.resize(["p", "q"] if factor else [0, 1], len(d))
    d["unit"] += 5 * d["r"]
    fits = hlm.fit_many("y ~ x * kind + (1 | unit)", d, by="r", progress=False)
    at = None if factor else {"kind": [0, 1]}
    assert_rows_of_every_fit(fits, "kind", at)
    assert_rows_of_every_fit(fits[[1, 3]], "kind", at, pairwise=True)
    assert_rows_of_every_fit(fits, ["x", "kind"], at)
    for r, part in d.groupby("r"):
        alone = hlm.fit("y ~ x * kind + (1 | unit)", part)
        found = fits[r].emmeans("kind", at)["emmean"]
        np.testing.assert_allclose(found, alone.emmeans("kind", at)["emmean"], rtol=tol.ESTIMATE)
        np.testing.assert_allclose(fits[r].predict(part), alone.predict(part), rtol=tol.ESTIMATE)


def test_empty_cells_are_not_estimable():
    d, _ = coded()
    d["a"] = np.where(d["sick"], "s", "h")
    d = d[~((d["kind"] == "r") & d["sick"])]
    with pytest.warns(errors.RankDeficientWarning):
        fit = hlm.fit("y ~ kind * a + (1 | unit)", d)
    with pytest.raises(errors.NotEstimableError, match=r"1 of 3 .*\(r\)"):
        fit.emmeans("kind", not_estimable="error")
    with pytest.warns(errors.NotEstimableWarning, match=r"1 of 3 .*\(r\).*NaN"):
        table = fit.emmeans("kind")
    assert table["estimable"].tolist() == [True, True, False]
    pd.testing.assert_frame_equal(table[:2], fit.emmeans("kind", at={"kind": ["p", "q"]}))
    assert len(fit.emmeans("kind", at={"kind": ["p", "q"]})) == 2
    healthy = fit.emmeans("kind", at={"a": "h"})
    means = fit.fixef["(Intercept)"] + np.array([0.0, fit.fixef["kindq"], fit.fixef["kindr"]])
    np.testing.assert_allclose(healthy["emmean"], means, rtol=tol.SMALL)


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.RankDeficientWarning")
@pytest.mark.parametrize("x", ["x", "scale(x)"])
def test_every_row_of_a_batch_says_if_it_is_estimable(rng, x):
    d = frame(rng, [6] * 30).assign(rep=lambda d: d["unit"] % 3, k=rng.choice(list("abc"), 180))
    d = d[(d["rep"] != 2) | (d["k"] != "c")]
    fits = hlm.fit_many(f"y ~ {x} + k + (1 | unit)", d, by="rep")
    with pytest.warns(errors.NotEstimableWarning):
        table = fits.emmeans("k")
    assert table["estimable"].tolist() == [True] * 8 + [False]
    assert table["estimable"].dtype == bool
    with pytest.raises(errors.OptionError, match="two columns 'estimable'"):
        renamed = d.rename(columns={"k": "estimable"})
        hlm.fit_many(f"y ~ {x} + estimable + (1 | unit)", renamed, by="rep").emmeans("estimable")


@pytest.mark.parametrize("at", [{"k": ["a", "b"]}, {"h": ["q"]}, {"k": ["c"], "g": ["s", "t"]}])
def test_weights_are_those_of_the_rows_that_at_leaves(rng, at):
    """As in emmeans of R, whose reference grid has no other rows."""
    d = frame(rng, [8] * 30).assign(k=rng.choice(list("abc"), 240))
    d["h"] = np.where(rng.uniform(size=240) < np.where(d["k"] == "c", 0.9, 0.3), "p", "q")
    d["g"] = np.where(rng.uniform(size=240) < np.where(d["h"] == "p", 0.8, 0.2), "s", "t")
    fit = hlm.fit("y ~ k + h * g + (1 | unit)", d)
    rows = d[np.logical_and.reduce([d[name].isin(levels) for name, levels in at.items()])]
    h, g = (rows[name].value_counts(normalize=True) for name in "hg")
    weights = {
        "proportional": rows.groupby(["h", "g"]).size() / len(rows),
        "outer": pd.Series({(i, j): h[i] * g[j] for i in h.index for j in g.index}),
    }
    for name, w in weights.items():
        found = fit.emmeans("k", at=at, weights=name)
        for k, mean in zip(found["k"], found["emmean"], strict=True):
            cells = pd.DataFrame([{"k": k, "h": i, "g": j, "unit": 0} for i, j in w.index])
            expected = w.to_numpy() @ fit.predict(cells, ranef=False).to_numpy()
            np.testing.assert_allclose(mean, expected, rtol=tol.SMALL)


def test_refused():
    _, fit = coded()
    with pytest.raises(errors.OptionError, match="every value once"):
        fit.emmeans("kind", at={"kind": ["p", "p"]})
    with pytest.raises(errors.UnknownTermError, match=r"'size' is not a variable.*'kind'"):
        fit.emmeans("size")
    with pytest.raises(errors.UnknownTermError, match="'unit'"):
        fit.emmeans("unit")
    with pytest.raises(errors.UnknownTermError, match="'size'"):
        fit.emmeans("kind", at={"size": 1})
    with pytest.raises(errors.NewLevelError, match=r"'z'.*'p', 'q', 'r'"):
        fit.emmeans("kind", at={"kind": ["p", "z"]})
    with pytest.raises(errors.ContrastError, match="one cell"):
        fit.emmeans("x", pairwise=True)


def test_adjusted_p_values():
    p = np.array([0.02, 0.001, 0.4, 0.03])
    np.testing.assert_allclose(holm(p), [0.06, 0.004, 0.4, 0.06])
    t, df = np.array([2.0, -3.0]), np.array([11.0, 30.0])
    np.testing.assert_allclose(tukey(t, 2, df), 2 * stats.t.sf(abs(t), df))
    exact = stats.studentized_range.sf(np.sqrt(2) * 2.0, 3, 11.0)
    np.testing.assert_allclose(tukey(t, 3, df)[0], exact)
    np.testing.assert_allclose(holm(np.stack([p, p[::-1]]))[1], holm(p)[::-1])


@pytest.mark.parametrize("means", [3, 6])
def test_the_studentised_range_of_scipy(means):
    x, df = np.array([0.2, 1.0, 3.5, 6.0, 9.0]), np.array([2.0, 5.5, 17.0, 120.0, np.inf])
    x, df = np.meshgrid(x, df)
    exact = stats.studentized_range.sf(x, means, df)
    np.testing.assert_allclose(range_tail(x, means, df), exact, rtol=tol.RANGE, atol=tol.TAIL)
    assert np.isnan(range_tail(1.0, means, np.nan))


def test_the_range_of_two_means_is_a_t_statistic():
    """P(W ≥ x) = P(|T| ≥ x/√2), down to one degree of freedom."""
    x, df = np.meshgrid([0.1, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0], [1.0, 1.5, 3.0, 11.0, np.inf])
    exact = 2.0 * stats.t.sf(x / np.sqrt(2.0), df)
    np.testing.assert_allclose(range_tail(x, 2, df), exact, rtol=tol.RANGE, atol=tol.SMALL)


def test_no_adjusted_p_value_exceeds_one():
    np.testing.assert_array_equal(holm(np.array([0.9, 0.8, 0.01])), [1.0, 1.0, 0.03])


def assert_same_means(one, other):
    pd.testing.assert_frame_equal(pd.DataFrame(one), pd.DataFrame(other))


@pytest.mark.parametrize("family", ["eff", "del.eff", "poly", "mean_chg", "pairwise"])
def test_what_the_model_does_not_have_is_zero_and_not_tested(family):
    """Its coefficients are sums such as 1/3 + 1/3 - 2/3, of which rounding would be left."""
    rng = np.random.default_rng(1)
    d = pd.DataFrame({"g": np.repeat(np.arange(24), 10), "x": rng.normal(100.0, 1.0, 240)})
    d["A"], d["C"] = rng.choice(list("abc"), 240), rng.choice(list("pqrs"), 240)
    d["y"] = d["x"] + rng.normal(size=24)[d["g"]] + rng.normal(size=240)
    fit = hlm.fit("y ~ A + C + x + (1 | g)", d)
    for table in (
        fit.emtrends("C", "x", contrasts=family),
        fit.emmeans(["A", "C"], interaction=family),
    ):
        assert (table[["estimate", "std_error"]] == 0.0).all(axis=None)
        assert table[["statistic", "p_value", "p_adjusted"]].isna().all(axis=None)
    with pytest.raises(errors.ContrastError, match="zero in every term"):
        fit.contrast("0.1*x + 0.2*x - 0.3*x")


def test_formulas_of_emmeans_say_what_arguments_say():
    fit = growth()
    same = {
        "~ Sex | kind": fit.emmeans("Sex", by="kind"),
        "~Sex*kind": fit.emmeans(["Sex", "kind"]),
        "pairwise ~ Sex + kind": fit.emmeans(["Sex", "kind"], contrasts="pairwise"),
        "tukey ~ kind | Sex": fit.emmeans("kind", by="Sex", contrasts="pairwise"),
        "dunnett ~ `kind`": fit.emmeans("kind", contrasts="trt.vs.ctrl"),
    }
    for formula, expected in same.items():
        pd.testing.assert_frame_equal(fit.emmeans(formula), expected)
    overall = fit.emmeans("~ 1")
    assert [*overall] == ["emmean", "std_error", "df", "conf_low", "conf_high"]
    cells = fit.emmeans(["Sex", "kind"])
    np.testing.assert_allclose(overall["emmean"], [cells["emmean"].mean()], rtol=tol.HAND)
    assert_same_means(fit.emmeans("~ 1 | kind"), fit.emmeans("kind"))
    assert_same_means(fit.emtrends("~ 1", "age"), fit.emtrends(None, "age"))
    trends = fit.emtrends("Sex", "age", by="kind", contrasts="tukey")
    pd.testing.assert_frame_equal(fit.emtrends("pairwise ~ Sex | kind", "age"), trends)
    for options in ({"by": "kind"}, {"contrasts": "eff"}):
        with pytest.raises(errors.OptionError, match=r"says what .*= says"):
            fit.emmeans("pairwise ~ Sex | kind", **options)
    with pytest.raises(errors.UnknownTermError, match='a list of names, or "~ a'):
        fit.emmeans("Sex * kind")
    with pytest.raises(errors.OptionError, match='must be such as "~ g"'):
        fit.emmeans("~ Sex +")
    with pytest.raises(errors.OptionError, match="contrasts='all' is not known"):
        fit.emmeans("all ~ Sex")


NOTES = [
    ({}, ["Averaged over the levels of: kind",
          "Interaction with age: averages may mislead",
          "Degrees of freedom: Satterthwaite's method. Confidence level: 0.95"]),
    ({"by": "kind", "df": "kenward-roger", "conf_level": 0.9},
     ["Interaction with age: averages may mislead",
      "Degrees of freedom: Kenward-Roger's method. Confidence level: 0.9"]),
    ({"at": {"age": [8, 14]}, "adjust": "sidak"},
     ["Averaged over the levels of: age, kind",
      "Interaction with age: averages may mislead",
      "Degrees of freedom: Satterthwaite's method. Confidence level: 0.95",
      "Limits adjusted by Šidák's method for 2 means"]),
]  # fmt: skip


@pytest.mark.parametrize(("options", "notes"), NOTES)
def test_means_say_below_themselves_how_they_are_meant(options, notes):
    table = growth().emmeans("Sex", **options)
    assert str(table).splitlines()[-len(notes) :] == notes
    assert all(note in table._repr_html_() for note in notes)


def test_contrasts_say_how_they_are_adjusted_in_every_family():
    fit = growth()
    kinds = len(fit.emmeans("kind"))
    pairs = kinds * (kinds - 1) // 2
    told = {
        f"p values and limits adjusted by Tukey's method for {pairs} tests in every Sex":
            fit.emmeans("pairwise ~ kind | Sex"),
        f"p values adjusted by Holm's method, limits by Bonferroni's, for {pairs} tests":
            fit.emmeans("pairwise ~ kind", adjust="holm"),
        "p values and limits: not adjusted": fit.emmeans("pairwise ~ kind", adjust="none"),
        f"p values by Holm's and by Tukey's method for {pairs} tests; limits not adjusted":
            fit.emmeans("kind", pairwise=True),
    }  # fmt: skip
    for note, table in told.items():
        assert table.notes[-1] == note
    assert not any("adjusted" in note for note in fit.emmeans("pairwise ~ Sex").notes)


def test_a_variable_may_be_called_1():
    """Only a formula's 1 is the mean over all, as in R."""
    rng = np.random.default_rng(1)
    d = pd.DataFrame({"g": np.repeat(np.arange(12), 10), "1": rng.choice(list("ab"), 120)})
    d["y"] = rng.normal(size=12)[d["g"]] + rng.normal(size=120)
    fit = hlm.fit("y ~ `1` + (1 | g)", d)
    for named in ("1", ["1"], "~ `1`"):
        assert fit.emmeans(named)["1"].tolist() == ["a", "b"]
    assert len(fit.emmeans("~ 1")) == 1


@pytest.mark.parametrize(
    "right", ["x + (x > 5)", "(x > 5)", "factor(x > 5) * x", "C(x <= 2) + (x > 5)"]
)
def test_a_number_in_a_comparison_stands_at_its_mean(right, rng):
    """Its values are no levels of anything (emmeans of R has the same)."""
    d = pd.DataFrame({"unit": np.arange(120) % 12, "x": rng.gamma(1.0, 3.0, 120)})
    d["h"] = rng.choice(["hi", "lo"], 120)
    d["y"] = 0.3 * d.x + (d.h == "lo") + rng.normal(size=12)[d.unit] + rng.normal(size=120)
    fit = hlm.fit(f"y ~ {right} + h + (1 | unit)", d)
    for at in ({}, {"x": 6.0}):
        rows = pd.DataFrame({"x": d.x.mean(), "h": ["hi", "lo"]} | at)
        found = fit.emmeans("h", at=at).emmean
        np.testing.assert_allclose(found, fit.predict(rows, ranef=False), rtol=tol.SUMMED)
    assert len(fit.emtrends("h", "x")) == 2
    twice = pd.concat([d.assign(r=0), d.assign(r=1)])
    many = hlm.fit_many(f"y ~ {right} + h + (1 | unit)", twice, by="r")
    np.testing.assert_allclose(many.emmeans("h").emmean[:2], fit.emmeans("h").emmean, tol.ESTIMATE)


def test_booleans_are_factors_whatever_is_made_of_them(rng):
    d = pd.DataFrame({"unit": np.arange(80) % 10, "sick": rng.random(80) < 0.3})
    d["y"] = d.sick + rng.normal(size=10)[d.unit] + rng.normal(size=80)
    plain, turned = (hlm.fit(f"y ~ {term} + (1 | unit)", d) for term in ("sick", "(sick == 0)"))
    for fit in (plain, turned):
        assert fit.emmeans("sick").sick.tolist() == [False, True]
    np.testing.assert_allclose(
        plain.emmeans("sick").emmean, turned.emmeans("sick").emmean, rtol=tol.ESTIMATE
    )
