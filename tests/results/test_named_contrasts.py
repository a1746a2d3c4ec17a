"""Tables of tests of many fits: what they hold, under which names, and how they are moderated."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import jaxhlm as hlm
import tolerances as tol
from cases import SLEEP, sleepstudy
from jaxhlm import errors
from jaxhlm.inference.moderation import Prior
from jaxhlm.sources.sources import ResponseMatrix

NAMED = {"a week": "7*Days", "ten a day": "Days = 10", "level": {"(Intercept)": 1.0}}


@cache
def responses():
    Y = sleepstudy().simulate(60, seed=3)
    Y *= np.exp(0.4 * np.random.default_rng(1).standard_normal(60))
    Y.iloc[4, 2] = np.nan
    Y.iloc[:, 5] = 1.0
    return Y


@cache
def fits():
    with pytest.warns(errors.ConvergenceWarning):
        return hlm.fit_many(
            "~ Days + (1 + Days | Subject)", hlm.load_dataset("sleepstudy"), responses()
        )


def hat(fit):
    """H of one fit, (n, n)."""
    d = fit.design
    Z = np.zeros((d.n, d.G, d.q))
    Z[np.arange(d.n), d.group] = d.Z
    root = np.linalg.cholesky(fit.estimates.cov[0]) / fit.sigma
    Z = (Z @ root).reshape(d.n, -1)
    V = np.linalg.inv(np.eye(d.n) + Z @ Z.T)
    return np.eye(d.n) - V + V @ d.X @ np.linalg.solve(d.X.T @ V @ d.X, d.X.T @ V)


def test_residual_degrees_of_freedom_are_those_of_the_hat_matrix():
    for i in (0, 2, 40):
        H = hat(fits()[i])
        expected = len(H) - 2.0 * np.trace(H) + (H**2).sum()
        assert fits().df_residual.iloc[i] == pytest.approx(expected, rel=tol.DENSE)
        assert fits()[i].df_residual == pytest.approx(expected, rel=tol.ALIKE)
    assert np.isnan(fits().df_residual.iloc[5])


def test_without_random_effects_they_are_n_less_p():
    data = pd.DataFrame(
        {"y": [1.0, 2, 4, 3, 5, 4, 1, 3], "x": range(8), "g": [0, 0, 1, 1, 2, 2, 3, 3]}
    )
    with pytest.warns(errors.SingularFitWarning):
        fit = hlm.fit("y ~ x + (1 | g)", data.assign(y=[1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0, 1.0]))
    assert fit.df_residual == pytest.approx(6.0, rel=tol.SUMMED)


def test_the_table_is_that_of_contrast_with_names_and_adjusted_p_values():
    table = fits().test(NAMED)
    one = fits().contrast(["7*Days", "Days = 10", "(Intercept)"])
    assert list(table.columns[:2]) == ["response", "contrast"]
    assert table["response"].tolist() == [name for name in fits().index for _ in NAMED]
    assert table["contrast"].tolist() == [*NAMED] * 60
    for name in ("estimate", "std_error", "df", "statistic", "p_value", "conf_low", "conf_high"):
        np.testing.assert_allclose(table[name], one[name], rtol=tol.BATCH)
    for name, part in table.groupby("contrast"):
        known = part["p_value"].dropna()
        expected = stats.false_discovery_control(known)
        np.testing.assert_allclose(
            part["p_adjusted"].dropna(), expected, rtol=tol.SUMMED, err_msg=name
        )
    np.testing.assert_allclose(2 * stats.norm.sf(table["z"].abs()), table["p_value"], rtol=tol.TAIL)
    assert (np.sign(table["z"]) == np.sign(table["statistic"])).sum() == 59 * 3
    lost = table[table["response"] == fits().index[5]]
    assert lost["status"].eq("not_finite").all() and lost["p_adjusted"].isna().all()


def test_a_name_does_not_hide_what_is_tested_against():
    table = fits().test(NAMED)
    assert table["null"].tolist() == [0.0, 10.0, 0.0] * 60
    t = (table["estimate"] - table["null"]) / table["std_error"]
    np.testing.assert_allclose(table["statistic"], t, rtol=tol.SMALL)
    assert "null" not in fits().test({"a week": "7*Days"})
    assert fits().test(shape="wide", contrasts=NAMED)["ten a day", "null"].eq(10.0).all()
    two = {"ten a day": "Days = 10", "level": "(Intercept)"}
    assert fits().test(two, joint=True)["contrast"][0] == "ten a day = 10, level"
    odd = {"dose=5": "Days = 10", "Days = 10": "Days = 10", "level": "(Intercept)"}
    assert fits().test(odd, joint=True)["contrast"][0] == "dose=5 = 10, Days = 10, level"


def test_variances_are_shrunk_by_smyths_formula():
    found = fits().moderation()
    assert 0.0 < found.df_prior < np.inf and f"{found.df_prior:.4g}" in str(found)
    v = found.variances
    s2 = (found.df_prior * v["prior"] + v["df_residual"] * v["variance"]) / (
        found.df_prior + v["df_residual"]
    )
    np.testing.assert_allclose(v["moderated"], s2, rtol=tol.SUMMED)


def test_as_dream_standard_errors_and_df_are_those_of_the_prior():
    plain, table = fits().test(NAMED), fits().test(NAMED, moderate="dream")
    found = fits().moderation()
    v = found.variances
    ratio = np.repeat(np.sqrt(v["moderated"] / v["variance"]).to_numpy(), len(NAMED))
    np.testing.assert_allclose(table["std_error"], plain["std_error"] * ratio, rtol=tol.SUMMED)
    np.testing.assert_allclose(table["df"], plain["df"] + found.df_prior, rtol=tol.SUMMED)
    rhs = np.tile([0.0, 10.0, 0.0], 60)
    t = (table["estimate"] - rhs) / table["std_error"]
    np.testing.assert_allclose(table["p_value"], 2 * stats.t.sf(abs(t), table["df"]), rtol=tol.TAIL)


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.RowsDroppedWarning")
@pytest.mark.parametrize("df", ["satterthwaite", "kenward-roger"])
@pytest.mark.parametrize("robust", [False, True])
def test_the_prior_is_so_many_rows_that_x_and_z_do_not_see(monkeypatch, df, robust):
    """Data sets with rows of zeros in X and Z, and a response of mean square s₀², by ``fit``."""
    d0, s0 = [6, 2, 6, 4, 0] if robust else [6] * 5, 21.0
    name = "robust_variance_prior" if robust else "variance_prior"
    prior = Prior(6, s0**2, np.array(d0, dtype=float))
    monkeypatch.setattr(f"jaxhlm.results.moderated.{name}", lambda *_: prior)
    formula, data = (
        "y ~ 0 + one + Days + (0 + one + Days | Subject)",
        hlm.load_dataset("sleepstudy"),
    )
    data = data.assign(one=1.0).rename(columns={"Reaction": "y"})
    own = hlm.fit_many(formula, data, responses().iloc[:, :5])
    named = {"Days": "Days", "sum": "one + 3*Days"}
    table = own.test(named, df=df, moderate=np.True_, robust=robust)
    for i, name in enumerate(own.index):
        y = np.append(responses()[name], np.tile([s0, -s0], d0[i] // 2))
        more = data.iloc[: d0[i]].assign(one=0.0, Days=0.0)
        alone = hlm.fit(formula, pd.concat([data, more]).assign(y=y).reset_index(drop=True))
        expected = alone.contrast(["Days", "one + 3*Days"], df=df)
        for column in ("estimate", "std_error", "df", "p_value"):
            part = table[column].to_numpy()[2 * i : 2 * i + 2]
            np.testing.assert_allclose(part, expected[column], rtol=tol.BATCH_DF)


def test_df_are_no_more_than_those_of_all_fits_together(monkeypatch):
    """As in limma's eBayes, where the prior is worth infinitely many."""
    prior = Prior(np.inf, np.full(2, 21.0**2))
    monkeypatch.setattr("jaxhlm.results.moderated.variance_prior", lambda *_: prior)
    own = hlm.fit_many(SLEEP, hlm.load_dataset("sleepstudy"), responses().iloc[:, :2])
    pooled = own.df_residual.sum()
    assert (own.test({"Days": "Days"}, moderate="dream")["df"] == pooled).all()
    # All n rows and the prior's, of which the random effects take some.
    df = own.test({"Days": "Days"}, df="satterthwaite", moderate=True)["df"]
    assert (df < pooled).all()


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.ConvergenceWarning")
@pytest.mark.parametrize("trend", [False, True])
def test_outliers_borrow_less_from_the_others(trend):
    Y = responses().copy()
    Y.iloc[:, :3] = Y.iloc[:, :3].mean() + 20.0 * (Y.iloc[:, :3] - Y.iloc[:, :3].mean())
    own = hlm.fit_many("~ Days + (1 + Days | Subject)", hlm.load_dataset("sleepstudy"), Y)
    found, plain = own.moderation(trend, robust=True), own.moderation(trend)
    v = found.variances
    assert found.df_prior > plain.df_prior and (v["df_prior"] <= found.df_prior)[own.ok].all()
    outlying = v["df_prior"] < found.df_prior / 2
    assert outlying[:3].all() and outlying.sum() < 6
    assert f"; {outlying.sum()} outlying" in str(found) and "outlying" not in str(plain)
    s2 = (v["df_prior"] * v["prior"] + v["df_residual"] * v["variance"]) / (
        v["df_prior"] + v["df_residual"]
    )
    np.testing.assert_allclose(v["moderated"], s2, rtol=tol.SUMMED)
    dream = own.test(NAMED, moderate="dream", trend=trend, robust=True)
    more = dream["df"] - own.test(NAMED)["df"]
    np.testing.assert_allclose(more, np.repeat(v["df_prior"], 3), rtol=tol.ALIKE)
    table = own.test(NAMED, moderate=True, trend=trend, robust=True)
    assert table["p_value"].notna().sum() == 59 * 3


def test_a_trend_follows_the_mean_response():
    with_trend = fits().moderation(trend=True).variances
    assert with_trend["prior"].nunique() > 50
    means, prior = responses().mean(), with_trend["prior"]
    assert np.corrcoef(np.log(means[fits().ok]), np.log(prior[fits().ok]))[0, 1] > 0.5
    table = fits().test(NAMED, moderate=True, trend=True)
    assert table["p_value"].notna().sum() == 59 * 3


def test_jointly_it_is_an_f_test_and_one_row_of_it_is_t_squared():
    joint = fits().test({"slope": "Days = 10", "level": "(Intercept) = 250"}, joint=True)
    one = fits().joint_test(["Days = 10", "(Intercept) = 250"])
    np.testing.assert_allclose(joint["statistic"], one["statistic"], rtol=tol.BATCH)
    assert joint["contrast"].unique().tolist() == ["slope = 10, level = 250"] and len(joint) == 60
    for moderate in (False, True):
        F = fits().test({"slope": "Days = 10"}, joint=True, moderate=moderate)
        t = fits().test({"slope": "Days = 10"}, moderate=moderate)
        np.testing.assert_allclose(F["statistic"], t["statistic"] ** 2, rtol=tol.BATCH)
        np.testing.assert_allclose(F["p_value"], t["p_value"], rtol=tol.TAIL)


def test_wide_has_a_row_for_every_fit():
    wide, long = fits().test(NAMED, shape="wide"), fits().test(NAMED)
    assert wide.index.equals(fits().index)
    column = long.loc[long["contrast"] == "a week", "p_adjusted"]
    np.testing.assert_array_equal(wide["a week", "p_adjusted"], column)
    assert wide["status"].tolist()[5] == "not_finite"


def test_the_top_is_ranked_by_p():
    table = fits().test(NAMED)
    best = fits().top(4, by="ten a day", contrasts=NAMED)
    own = table[table["contrast"] == "ten a day"].sort_values("p_value")
    assert best["response"].tolist() == own["response"].tolist()[:4]
    assert all(name in str(best) for name in best)
    assert fits().top(1000)["p_value"].isna().sum() == 1  # failed fits come last
    with pytest.raises(errors.OptionError, match=r"by='Days' is no contrast.*'a week'"):
        fits().top(by="Days", contrasts=NAMED)
    for shape in ("wide", "long"):
        with pytest.raises(errors.OptionError, match="no shape="):
            fits().top(shape=shape, contrasts=NAMED)


def test_a_series_of_contrasts_has_names_too():
    pd.testing.assert_frame_equal(fits().test(pd.Series({"a": "Days"})), fits().test({"a": "Days"}))


def test_by_default_every_effect_but_the_intercept():
    assert fits().test()["contrast"].unique().tolist() == ["Days"]
    level = hlm.fit_many(
        "~ 1 + (1 | Subject)", hlm.load_dataset("sleepstudy"), responses().iloc[:, :2]
    )
    with pytest.raises(errors.ContrastError, match="no fixed effect besides the intercept"):
        level.test()


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"contrasts": {"x": 1.0}}, errors.ContrastError, "maps names to contrasts"),
        ({"contrasts": {"both": "Days, (Intercept)"}}, errors.ContrastError, "has 2 rows"),
        ({"contrasts": {}}, errors.ContrastError, "no contrast to test"),
        ({"contrasts": {"x": "Dys"}}, errors.UnknownTermError, "Dys"),
        ({"moderate": "yes"}, errors.OptionError, "moderate='yes'"),
        ({"trend": True}, errors.OptionError, "moderate=True as well"),
        ({"robust": True}, errors.OptionError, "moderate=True as well"),
        ({"adjust": "fdr"}, errors.OptionError, "adjust='fdr'"),
        ({"moderate": True, "df": "residual"}, errors.OptionError, "does not count a prior"),
        ({"shape": "tall"}, errors.OptionError, "shape='tall'"),
        ({"df": "kr"}, errors.OptionError, "df='kr'"),
    ],
)
def test_what_cannot_be_is_refused(options, error, match):
    with pytest.raises(error, match=match):
        fits().test(**options)


@pytest.mark.slow
def test_p_values_of_true_hypotheses_are_uniform():
    design = hlm.design(SLEEP, hlm.load_dataset("sleepstudy"))
    truth = hlm.Truth.of([250, 0], sd=[25, 6], corr=0.1, sigma=25)
    null = hlm.simulate(design, truth, n=4000, seed=2).fit(progress=False)
    for moderate in (False, True):
        table = null.test(moderate=moderate)
        assert stats.kstest(table["p_value"], "uniform").pvalue > 1e-3
        assert (table["p_adjusted"] < 0.05).sum() <= 2
    assert null.moderation().df_prior > 1000.0


@pytest.mark.slow
def test_the_realised_false_discovery_rate_is_within_its_bound():
    design = hlm.design(SLEEP, hlm.load_dataset("sleepstudy"))
    rows = [
        hlm.simulate(
            design,
            hlm.Truth.of([250, slope], sd=[25, 6], corr=0.1, sigma=25),
            n,
            5,
            statistics=False,
        ).rows()
        for slope, n in ((0.0, 1600), (5.0, 400))
    ]
    fits = hlm.fit_many(
        "~ Days + (1 + Days | Subject)", hlm.load_dataset("sleepstudy"), np.hstack(rows)
    )
    true = np.arange(2000) < 1600
    for options in ({}, {"moderate": True}, {"adjust": "storey"}):
        found = (fits.test(**options)["p_adjusted"] < 0.1).to_numpy()
        share = (found & true).sum() / found.sum()
        assert found.sum() > 150
        # Three standard errors of a binomial share of so many discoveries.
        assert share < 0.1 + 3.0 * np.sqrt(0.1 * 0.9 / found.sum())


@pytest.mark.parametrize("df", ["satterthwaite", "kenward-roger"])
def test_the_data_are_gone_over_once_for_all_tests(monkeypatch, df):
    """What any contrast needs of the fits is kept, as are df and the fits under a prior."""
    batch, passes, lanes = hlm.FitBatch(replace(fits().record, tests={})), [], ResponseMatrix.lanes
    monkeypatch.setattr(
        ResponseMatrix, "lanes", lambda self, at: passes.extend(at) or lanes(self, at)
    )
    for moderate, times in ((False, 1), (True, 4)):
        first = batch.test(NAMED, df=df, moderate=moderate)
        assert len(passes) == times * len(batch)
        assert batch.test(NAMED, df=df, moderate=moderate).equals(first)
        batch.contrast({"Days": 2.0}, df=df)
        batch.joint_test(np.eye(2), df=df)
        batch.tidy(df=df)
        assert len(passes) == times * len(batch)
    some = batch[3:9].test(NAMED, df=df)
    np.testing.assert_array_equal(some["p_value"], batch.test(NAMED, df=df)["p_value"][9:27])
