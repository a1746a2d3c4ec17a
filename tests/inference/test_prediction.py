"""Units: prediction errors, shrinkage and standardised random effects, from their definitions."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import jaxhlm as hlm
import tolerances as tol
from cases import PREDICTIONS, frame, load_case, sleepstudy
from jaxhlm import errors
from jaxhlm.design.new_rows import design_for
from oracles import dense

SIZES = (9, 1, 7, 3, 12, 2, 8, 5)
FORMULAS = (
    "y ~ x * a + (1 + x | unit)",
    "y ~ x + w + (1 | unit)",
    "y ~ a + (1 + x + w || unit)",
    "y ~ x * a + w + (1 + w | unit)",
)

pytestmark = pytest.mark.filterwarnings("ignore::jaxhlm.errors.SingularFitWarning")


def data():
    rng = np.random.default_rng(4)
    d = frame(rng, SIZES, sd=1.0)
    return d.assign(w=rng.normal(size=len(d)))


@cache
def fitted(formula, weighted=False):
    d = data()
    w = np.random.default_rng(5).uniform(0.5, 2.0, len(d)) if weighted else None
    return hlm.fit(formula, d, weights=w)


def joint_errors(fit):
    """Var(β̂ − β, b̂ − b) by propagating (b, ε) through the estimators, (p + Gq, p + Gq)."""
    m = dense(fit)
    V_inv = np.linalg.inv(m.V)
    to_beta = m.vcov @ m.X.T @ V_inv
    to_b = m.Sigma @ m.Z.T @ V_inv @ (np.eye(len(m.y)) - m.X @ to_beta)
    estimators = np.vstack([to_beta, to_b])
    effects = np.hstack([np.zeros((len(m.Sigma), m.X.shape[1])), np.eye(len(m.Sigma))]).T
    noise = m.V - m.Z @ m.Sigma @ m.Z.T
    from_b = estimators @ m.Z - effects
    return from_b @ m.Sigma @ from_b.T + estimators @ noise @ estimators.T


def rows_of(fit, X, Z, group):
    """(rows, p + Gq) of x and z, those of units that were not seen left zero."""
    q = Z.shape[1]
    wide = np.zeros((len(X), fit.ngroups * q))
    for j, g in enumerate(group):
        if g >= 0:
            wide[j, g * q : (g + 1) * q] = Z[j]
    return np.hstack([X, wide])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("formula", FORMULAS)
def test_errors_of_predictions(formula, weighted):
    fit, d = fitted(formula, weighted), data()
    new = d.iloc[[0, 10, 9, 30, 45]].reset_index(drop=True)
    new["unit"] = new["unit"].where(new.index != 3, 99)
    X, Z, group = design_for(fit.design, new)
    L = rows_of(fit, X, Z, group)
    variance = np.einsum("ja,ab,jb->j", L, joint_errors(fit), L)
    between = np.einsum("ja,ab,jb->j", Z, fit.varcorr.cov.to_numpy(), Z)
    variance[3] += between[3]
    z = stats.norm.ppf(0.95)

    table = fit.predict(new, se=True)
    np.testing.assert_allclose(table["predicted"], fit.predict(new), rtol=tol.CANONICAL)
    np.testing.assert_allclose(table["se"] ** 2, variance, rtol=tol.DENSE)
    around = fit.predict(new, interval="prediction", level=0.9)
    np.testing.assert_allclose(around["se"], table["se"], rtol=tol.CANONICAL)
    width = z * np.sqrt(variance + fit.sigma**2)
    np.testing.assert_allclose(around["high"] - around["predicted"], width, rtol=tol.DENSE)

    population = fit.predict(new, ranef=False, interval="confidence", level=0.9)
    mean = np.einsum("ja,ab,jb->j", X, fit.vcov.to_numpy(), X)
    np.testing.assert_allclose(population["se"] ** 2, mean, rtol=tol.DENSE)
    width = population["predicted"] - population["low"]
    np.testing.assert_allclose(width, z * np.sqrt(mean), rtol=tol.DENSE)
    anyone = fit.predict(new, ranef=False, interval="prediction", level=0.9)
    width = z * np.sqrt(mean + between + fit.sigma**2)
    np.testing.assert_allclose(anyone["high"] - anyone["predicted"], width, rtol=tol.DENSE)


def test_prediction_limits_of_the_rows_that_were_fitted_know_their_weights():
    fit = fitted(FORMULAS[0], weighted=True)
    table = fit.predict(interval="prediction")
    sd = (table["high"] - table["low"]) / 2 / stats.norm.ppf(0.975)
    residual = fit.sigma**2 / fit.design.weights
    np.testing.assert_allclose(sd**2 - table["se"] ** 2, residual, rtol=tol.DENSE)


def test_new_responses_fall_between_the_limits():
    """95 % limits for a new row of every unit, from 200 data sets of 30 units, θ estimated."""
    d = frame(np.random.default_rng(1), [6] * 30)
    rng, formula = np.random.default_rng(2), "y ~ x + (1 + x | unit)"
    hits = []
    for _ in range(40):
        b = 0.5 * rng.normal(size=(30, 2))[d["unit"]]
        mean = 1 + b[:, 0] + (2 + b[:, 1]) * d["x"]
        fit = hlm.fit(formula, d.assign(y=mean + rng.normal(size=len(d))))
        table = fit.predict(interval="prediction")
        new = mean + rng.normal(size=len(d))
        hits.append(((table["low"] < new) & (new < table["high"])).mean())
    # The share of a data set varies by 2 %, its mean over 40 by 0.3 %.
    assert abs(np.mean(hits) - 0.95) < 0.012


def test_options_of_predict():
    fit, d = sleepstudy(), hlm.load_dataset("sleepstudy")
    assert isinstance(fit.predict(d), pd.Series)
    missing = fit.predict(d.head(2).assign(Days=[1.0, np.nan]), se=True)
    assert missing.isna().all(axis=1).tolist() == [False, True]
    with pytest.raises(errors.OptionError, match="prediction"):
        fit.predict(d, interval="tolerance")
    with pytest.raises(errors.OptionError, match="level"):
        fit.predict(d, se=True, level=95)


# Part of the random effects.


def predicted_case(name):
    d, _ = load_case("sleepstudy" if name == "sleepstudy" else "unbalanced_dropout")
    if name != "sleepstudy":
        d["half"] = np.where(d["x"] > d["x"].mean(), "late", "early")
        d["unit"] = d["unit"].astype(str)
    case = PREDICTIONS[name]
    return hlm.fit(case["formula"], d), pd.DataFrame(case["new"]), case["forms"]


@pytest.mark.parametrize("name", ["sleepstudy", "unbalanced_dropout", "factor"])
def test_part_of_the_random_effects_beside_lme4(name):
    fit, new, forms = predicted_case(name)
    for form, expected in forms.items():
        rows, of_new = fit.predict(ranef=form), fit.predict(new, ranef=form)
        np.testing.assert_allclose(rows, expected["rows"], rtol=tol.LME4_PART)
        np.testing.assert_allclose(of_new, expected["new"], rtol=tol.LME4_PART)


@pytest.mark.parametrize("weighted", [False, True])
def test_errors_with_part_of_the_random_effects(weighted):
    """Of x'β̂ + z'b̂, whatever z is, from the joint errors; the rows fitted as new ones."""
    fit, d = fitted(FORMULAS[0], weighted), data()
    X, Z, group = design_for(fit.design, d)
    variance = np.einsum(
        "ja,ab,jb->j", *(rows_of(fit, X, Z * [0, 1], group), joint_errors(fit)),
        rows_of(fit, X, Z * [0, 1], group),
    )  # fmt: skip
    for new in (None, d):
        table = fit.predict(new, ranef="(0 + x | unit)", se=True)
        np.testing.assert_allclose(table["se"] ** 2, variance, rtol=tol.DENSE)
        expected = fit.predict(d, ranef=False) + fit.ranef["x"].to_numpy()[group] * d["x"]
        np.testing.assert_allclose(table["predicted"], expected, rtol=tol.REORDERED)
    with pytest.raises(errors.OptionError, match="all random effects"):
        fit.predict(d, ranef="(1 | unit)", interval="prediction")
    whole = fit.predict(d, ranef="~ (x | unit)", interval="prediction")
    pd.testing.assert_frame_equal(whole, fit.predict(d, interval="prediction"))


def test_part_of_the_random_effects_of_many_fits():
    d = data()
    long = pd.concat([d.assign(lane=i, y=d["y"] + i * d["w"]) for i in range(2)])
    for fits in (
        hlm.fit_many("~ x + (1 + x | unit)", d, np.column_stack([d["y"], d["y"] + d["w"]])),
        hlm.fit_many("y ~ x + (1 + x | unit)", long, by="lane"),
    ):
        for new in (None, d):
            found = fits.predict(new, ranef="(1 | unit)", se=True).to_numpy()
            own = [fit.predict(new, ranef="(1 | unit)", se=True) for fit in fits]
            np.testing.assert_allclose(found, np.concatenate(own), rtol=tol.UNITS)


def test_a_column_of_a_factor_is_told_by_its_coding():
    """(0 + half | unit) has the columns of both levels, which (half | unit) does not."""
    fit, _, _ = predicted_case("factor")
    with pytest.raises(errors.UnknownTermError, match="half, which is not in the model as"):
        fit.predict(ranef="(0 + half | unit)")
    own = fit.ranef["(Intercept)"].to_numpy()[fit.design.group]
    level = fit.predict(ranef="(1 | unit)") - fit.predict(ranef=False)
    np.testing.assert_allclose(level, own, atol=tol.REORDERED)


# Simulation from a fit.


def assert_drawn_about(Y, mean, cov):
    """Within five Monte-Carlo standard errors."""
    n, v = Y.shape[1], np.diag(cov)
    assert (np.abs(Y.mean(axis=1) - mean) < 5 * np.sqrt(v / n)).all()
    error = np.sqrt((np.outer(v, v) + cov**2) / n)
    assert (np.abs(np.cov(Y) - cov) < 5 * error).all()


def new_rows():
    """Two rows of a unit in the data, of a new one, and one of another."""
    d = pd.DataFrame({"x": [0.5, -1.0, 2.0, 0.0, 1.0], "unit": [2, 2, 77, 77, 5]})
    return d.assign(a=0.3, w=-0.2).set_index(pd.Index(list("abcde")))


@pytest.mark.parametrize("use_ranef", [False, True, "(1 | unit)", "~ (0 + w | unit)"])
def test_new_rows_are_drawn_about_what_is_predicted(use_ranef):
    """Effects that are kept are in the mean; all others, and new units', in the covariance."""
    fit, new = fitted("y ~ a + (1 + x + w || unit)"), new_rows()
    Y = fit.simulate(20_000, seed=1, newdata=new, use_ranef=use_ranef)
    assert Y.index.equals(new.index)
    kept = {False: [], True: [0, 1, 2], "(1 | unit)": [0]}.get(use_ranef, [2])
    Z = np.column_stack([np.ones(5), new["x"], new["w"]])
    between = fit.varcorr.cov.to_numpy()
    drawn = np.where(new["unit"] == 77, 1.0, 0.0)[:, None] + ~np.isin(np.arange(3), kept)
    Z = Z * np.minimum(drawn, 1.0)
    same = new["unit"].to_numpy()[:, None] == new["unit"].to_numpy()
    cov = same * (Z @ between @ Z.T) + fit.sigma**2 * np.eye(5)
    assert_drawn_about(Y, fit.predict(new, ranef=use_ranef), cov)


@pytest.mark.parametrize("fixed", ["1 + x", "0"])
def test_a_row_of_no_unit_is_not_known(fixed):
    """With fixed effects and without; the population value is there where it is asked for."""
    fit = fitted(f"y ~ {fixed} + (1 + x | unit)")
    new = pd.DataFrame({"x": [0.5, 0.5], "unit": [2.0, np.nan]})
    found = fit.predict(new, interval="prediction")
    assert np.isfinite(found.iloc[0]).all() and np.isnan(found.iloc[1]).all()
    drawn = fit.simulate(2, seed=1, newdata=new)
    assert np.isfinite(drawn.iloc[0]).all() and np.isnan(drawn.iloc[1]).all()
    assert np.isfinite(fit.predict(new, ranef=False)).all()


def test_the_rows_fitted_given_their_random_effects():
    fit = fitted(FORMULAS[0], weighted=True)
    Y = fit.simulate(20_000, seed=2, use_ranef=True)
    assert_drawn_about(Y, fit.fitted, np.diag(fit.sigma**2 / fit.design.weights))
    with pytest.raises(errors.OptionError, match="correlated random effects"):
        fit.simulate(use_ranef="(1 | unit)")


def test_the_data_as_new_rows_are_drawn_alike():
    """With the same seed; rows without a unit, or a value, have no number."""
    fit, d = sleepstudy(), hlm.load_dataset("sleepstudy")
    pd.testing.assert_frame_equal(fit.simulate(3, seed=1, newdata=d), fit.simulate(3, seed=1))
    gaps = d.head(3).assign(Subject=["308", None, "new"], Days=[1.0, 2.0, np.nan])
    assert fit.simulate(2, newdata=gaps).isna().all(axis=1).tolist() == [False, True, True]
    assert fit.simulate(2, newdata=gaps.iloc[[1]]).isna().all(axis=None)
    assert fit.simulate(2, newdata=d.head(0)).shape == (0, 2)
    assert fit.predict(d.head(0), interval="prediction").shape == (0, 4)
    with pytest.raises(errors.MissingColumnError, match="Subject"):
        fit.simulate(newdata=d[["Days"]])


def test_the_population_value_asks_for_no_unit():
    fit, new = sleepstudy(), hlm.load_dataset("sleepstudy").head(3)
    expected = fit.predict(new, ranef=False)
    for other in (new.drop(columns="Subject"), new.assign(Subject=308), new.assign(Subject=None)):
        pd.testing.assert_series_equal(fit.predict(other, ranef=False), expected)
    with pytest.raises(errors.GroupingError, match="int64"):
        fit.predict(new.assign(Subject=308))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("formula", FORMULAS)
def test_errors_of_coefficients(formula, weighted):
    fit = fitted(formula, weighted)
    errors_, p, q = joint_errors(fit), len(fit.fixef), len(fit.model.znames)
    for i in range(fit.ngroups):
        for name in fit.coef.columns:
            at = [j for j, term in enumerate(fit.fixef.index) if term == name]
            at += [p + i * q + j for j, term in enumerate(fit.model.znames) if term == name]
            expected = np.sqrt(errors_[np.ix_(at, at)].sum())
            np.testing.assert_allclose(fit.coef_se[name].iloc[i], expected, rtol=tol.DENSE)


def test_nothing_depends_on_where_x_is_zero():
    """θ of intercepts far from the data, on which all else rests, keeps fewer digits."""
    near, far = (
        hlm.fit("y ~ x + (1 + x | unit)", data().assign(x=data()["x"] + shift))
        for shift in (0.0, 1e3)
    )
    np.testing.assert_allclose(
        near.predict(interval="prediction"), far.predict(interval="prediction"), rtol=tol.EXTREME
    )
    np.testing.assert_allclose(near.hatvalues, far.hatvalues, rtol=tol.EXTREME)
    np.testing.assert_allclose(near.coef_se["x"], far.coef_se["x"], rtol=tol.EXTREME)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("formula", FORMULAS)
def test_shrinkage(formula, weighted):
    """From its definition, unit by unit, where a unit has a line of its own."""
    fit = fitted(formula, weighted)
    d, m, q = fit.design, dense(fit), len(fit.model.znames)
    table = fit.shrinkage()
    assert list(table["level"]) == list(np.repeat(d.levels, q))
    values = table[["ols", "blup", "population", "reliability"]].to_numpy().reshape(d.G, q, 4)
    root_w = np.sqrt(np.ones(d.n) if d.weights is None else d.weights)
    D = fit.varcorr.cov.to_numpy() / fit.sigma**2
    for i in range(d.G):
        rows = d.group == i
        Z = d.Z[rows] * root_w[rows, None]
        if np.linalg.matrix_rank(Z) < q:
            assert np.isnan(values[i, :, :3]).all()
            assert np.isfinite(values[i, :, 3]).all()
            continue
        ols, *_ = np.linalg.lstsq(Z, m.y[rows] * root_w[rows], rcond=None)
        mean = d.X[rows] @ fit.fixef.to_numpy() * root_w[rows]
        population, *_ = np.linalg.lstsq(Z, mean, rcond=None)
        W = D @ np.linalg.inv(D + np.linalg.inv(Z.T @ Z))
        blup = W @ ols + (np.eye(q) - W) @ population
        expected = np.column_stack([ols, blup, population, np.diag(W)])
        np.testing.assert_allclose(values[i], expected, rtol=tol.DENSE, atol=tol.DENSE)
        np.testing.assert_allclose(fit.reliability[i], W, rtol=tol.DENSE, atol=tol.DENSE)


def test_shrinkage_beside_lm_list_and_coef():
    fit, d = sleepstudy(), hlm.load_dataset("sleepstudy")
    table = fit.shrinkage()
    lines = hlm.lm_list(fit.model.formula, d).coef.to_numpy()
    np.testing.assert_allclose(table["ols"], lines.ravel(), rtol=tol.UNITS)
    np.testing.assert_allclose(table["blup"], fit.coef.to_numpy().ravel(), rtol=tol.UNITS)
    np.testing.assert_allclose(table["population"], np.tile(fit.fixef, 18), rtol=tol.UNITS)


def test_the_frame_of_random_effects():
    fit = sleepstudy()
    table = fit.ranef_frame(conf_level=0.9)
    np.testing.assert_array_equal(table["estimate"], fit.ranef.to_numpy().ravel())
    sd = np.sqrt(np.diagonal(fit.ranef_cov, axis1=1, axis2=2)).ravel()
    np.testing.assert_allclose(table["std_error"], sd, rtol=tol.CANONICAL)
    high = table["estimate"] + stats.norm.ppf(0.95) * sd
    np.testing.assert_allclose(table["conf_high"], high, rtol=tol.CANONICAL)
    assert set(table["group"]) == {"Subject"}
    with pytest.raises(errors.OptionError, match="level"):
        fit.ranef_frame(conf_level=0)


@pytest.mark.parametrize("formula", FORMULAS)
def test_standardised_random_effects(formula):
    fit = fitted(formula, weighted=True)
    m, table = dense(fit), fit.ranef_qq()
    V_inv = np.linalg.inv(m.V)
    P = V_inv - V_inv @ m.X @ m.vcov @ m.X.T @ V_inv
    sd = np.sqrt(np.diag(m.Sigma @ m.Z.T @ P @ m.Z @ m.Sigma))
    some = (sd > 0.02 * np.sqrt(np.diag(m.Sigma))) & (np.diag(m.Sigma) > 0)
    assert some.any()
    np.testing.assert_allclose(table["std_error"][some], sd[some], rtol=tol.DENSE)
    scaled = table["estimate"][some] / sd[some]
    np.testing.assert_allclose(table["standardized"][some], scaled, rtol=tol.DENSE)
    assert table["standardized"][np.diag(m.Sigma) == 0].isna().all()


def test_normal_quantiles_are_those_of_qqnorm():
    table = sleepstudy().ranef_qq()
    for _, part in table.groupby("term"):
        (theoretical, ordered), _ = stats.probplot(part["standardized"])
        m = len(part)
        np.testing.assert_allclose(np.sort(part["standardized"]), ordered, rtol=tol.CANONICAL)
        positions = (np.arange(1, m + 1) - 0.5) / m
        expected = stats.norm.ppf(positions)[stats.rankdata(part["standardized"]).astype(int) - 1]
        np.testing.assert_allclose(part["theoretical"], expected, atol=tol.SMALL)
        assert abs(np.corrcoef(theoretical, ordered)[0, 1]) > 0.9
