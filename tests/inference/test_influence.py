"""Leverage, Cook's distance, groups left out, variance explained."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
import tolerances as tol
from cases import LEFT_OUT, QUALITY, R_CASES, frame, load_case, r_fit, sleepstudy
from jaxhlm import errors
from jaxhlm.inference import leaveout
from oracles import dense

SIZES = (9, 1, 7, 3, 12, 2, 8, 5)
FORMULAS = (
    "y ~ x * a + (1 + x | unit)",
    "y ~ x + w + (1 | unit)",
    "y ~ a + (1 + x + w || unit)",
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::jaxhlm.errors.SingularFitWarning"),
    pytest.mark.filterwarnings("ignore::jaxhlm.errors.RankDeficientWarning"),
]


def data():
    rng = np.random.default_rng(4)
    d = frame(rng, SIZES, sd=1.0)
    return d.assign(w=rng.normal(size=len(d))).sample(frac=1.0, random_state=1)


def weights():
    return pd.Series(np.random.default_rng(5).uniform(0.5, 2.0, len(data())), data().index)


@cache
def fitted(formula, weighted=False):
    return hlm.fit(formula, data(), weights=weights() if weighted else None)


# Rows.


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("formula", FORMULAS)
def test_leverage_from_the_hat_matrix(formula, weighted):
    fit = fitted(formula, weighted)
    m = dense(fit)
    V_inv = np.linalg.inv(m.V)
    to_fixed = m.X @ m.vcov @ m.X.T @ V_inv
    H = to_fixed + m.Z @ m.Sigma @ m.Z.T @ V_inv @ (np.eye(len(m.y)) - to_fixed)
    np.testing.assert_allclose(H @ m.y, fit.fitted, rtol=tol.DENSE, atol=tol.DENSE)
    np.testing.assert_allclose(fit.hatvalues, np.diag(H), rtol=tol.DENSE)
    conditional, marginal = np.eye(len(m.y)) - H, np.eye(len(m.y)) - to_fixed
    for residuals, standardised, by in (
        (fit.residuals, fit.residuals_std, conditional),
        (fit.residuals_marginal, fit.residuals_marginal_std, marginal),
    ):
        np.testing.assert_allclose(residuals, by @ m.y, rtol=tol.DENSE, atol=tol.DENSE)
        sd = np.sqrt(np.diag(by @ m.V @ by.T))
        np.testing.assert_allclose(standardised, residuals / sd, rtol=tol.DENSE)
    w = weights() if weighted else 1.0
    h, p = np.diag(H), m.X.shape[1]
    cook = w * (fit.residuals / (1 - h)) ** 2 * h / (p * fit.sigma**2)
    np.testing.assert_allclose(fit.cooks_distance, cook, rtol=tol.DENSE)


@pytest.mark.parametrize("case", [c for c in R_CASES if "hat" in QUALITY[c]])
def test_leverage_beside_lme4(case):
    fit, record = r_fit(case), QUALITY[case]
    np.testing.assert_allclose(fit.hatvalues, record["hat"], atol=tol.LME4_ROBUST)
    np.testing.assert_allclose(fit.hatvalues.sum(), record["sum_hat"], rtol=tol.LME4_ROBUST)
    scale = max(record["cooksd"])
    np.testing.assert_allclose(
        fit.cooks_distance / scale, np.array(record["cooksd"]) / scale, atol=tol.LME4_ROBUST
    )


def test_augment():
    fit = fitted(FORMULAS[0])
    table = fit.augment()
    assert list(table) == [
        "y", "unit", ".fitted", ".resid", ".fixed", ".resid_marginal", ".hat", ".cooksd",
        ".std_resid",
    ]  # fmt: skip
    assert table.index.equals(data().index)
    for column, series in {
        ".resid": fit.residuals,
        ".resid_marginal": fit.residuals_marginal,
        ".hat": fit.hatvalues,
        ".cooksd": fit.cooks_distance,
        ".std_resid": fit.residuals_std,
    }.items():
        np.testing.assert_array_equal(table[column], series)


def test_a_row_that_is_fitted_whatever_it_is():
    d = data().reset_index(drop=True)
    fit = hlm.fit("y ~ x + I(w == np.max(w)) + (1 | unit)", d)
    alone = d["w"].idxmax()
    assert fit.hatvalues[alone] == pytest.approx(1.0)
    assert np.isnan([fit.cooks_distance[alone], fit.residuals_std[alone]]).all()
    assert np.isfinite(fit.cooks_distance.drop(alone)).all()


# Groups.


def assert_left_out(fit, d, weighted=None, some=slice(None), by="group"):
    """Every lane of the influence against a fit of the other rows."""
    influence, group = fit.influence(by=by), fit.model.group_name
    labels = d[group] if by == "group" else d.index
    for level in influence.levels[some]:
        keep = np.asarray(labels != level)
        own = hlm.fit(
            fit.model.formula,
            d[keep],
            reml=fit.reml,
            weights=None if weighted is None else weighted[keep],
        )
        i = influence.levels.get_loc(level)
        np.testing.assert_allclose(influence.criterion.iloc[i], own.criterion, atol=tol.CRITERION)
        change = (influence.fixef.iloc[i] - own.fixef) / own.se
        np.testing.assert_allclose(change, 0.0, atol=tol.LEFT_OUT)
        np.testing.assert_allclose(influence.sigma.iloc[i], own.sigma, rtol=tol.LEFT_OUT)
        size = max(own.varcorr.cov.to_numpy().max(), own.sigma**2)
        np.testing.assert_allclose(influence.cov[i], own.varcorr.cov, atol=tol.LEFT_OUT * size)
        moved = fit.fixef - own.fixef
        np.testing.assert_allclose(
            influence.dfbetas.iloc[i], moved / own.se, rtol=tol.LEFT_OUT, atol=tol.LEFT_OUT
        )
        cook = moved @ np.linalg.solve(fit.vcov, moved) / len(moved)
        np.testing.assert_allclose(
            influence.cooks_distance.iloc[i], cook, rtol=tol.LEFT_OUT, atol=tol.LEFT_OUT
        )
        assert influence.status[i] == own.status


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("formula", FORMULAS)
def test_groups_left_out(formula, weighted):
    fit = fitted(formula, weighted)
    assert_left_out(fit, data(), weights().to_numpy() if weighted else None)


@pytest.mark.parametrize(
    ("case", "some"),
    [
        ("sleepstudy", slice(None)),  # one class of equal groups
        ("sleepstudy_diagonal", slice(0, 18, 4)),
        ("oxboys", slice(0, 26, 6)),
        ("orthodont", slice(0, 27, 6)),
        ("unbalanced_dropout", slice(0, 40, 9)),
        ("dyestuff2_singular", slice(None)),
        ("article_full", slice(0, 30, 7)),
    ],
)
@pytest.mark.parametrize("reml", [True, False])
def test_groups_of_the_reference_data(case, some, reml):
    d, results = load_case(case)
    assert_left_out(hlm.fit(results["REML"]["formula"], d, reml), d, some=some)


def test_a_few_classes_and_the_rest():
    """Thirty units of 6 rows, twelve of 4, and three of their own."""
    rng, sizes = np.random.default_rng(2), [6] * 30 + [4] * 12 + [5, 7, 3]
    d = frame(rng, sizes)
    row = d.groupby("unit").cumcount()
    d["t"] = row + np.where(d["unit"] >= 42, 0.1 * d["unit"] * row, 0.0)
    d["y"] = d["y"] + 0.4 * d["t"] * rng.normal(size=45)[d["unit"]]
    fit = hlm.fit("y ~ t + a + x + (1 + t | unit)", d)
    assert len(fit.prepared.equal.classes) == 2
    assert_left_out(fit, d, some=[0, 17, 29, 30, 41, 42, 44])


def test_many_units_are_compiled(monkeypatch):
    monkeypatch.setattr(leaveout, "UNCOMPILED", 0)
    d = frame(np.random.default_rng(3), [3, 4, 5, 2] * 10)
    assert_left_out(hlm.fit("y ~ x + (0 + x | unit)", d), d, some=[0, 31, 32, 39])


def test_what_cannot_be_fitted_without_a_group():
    d = data()
    fit = hlm.fit("y ~ x + I(unit == 4) + (1 | unit)", d)
    influence = fit.influence()
    assert influence.counts["rank_deficient"] == 1
    assert influence.levels[influence.status == hlm.Status.RANK_DEFICIENT].tolist() == [4]
    row = influence.frame().loc[4]
    assert row["status"] == "RANK_DEFICIENT"
    assert row.drop("status").isna().all()
    assert "; failed: 1\n" in str(influence)
    others = influence.frame().drop(index=4)
    assert np.isfinite(others.drop(columns="status").to_numpy(float)).all()


def test_a_data_set_without_a_level_of_a_factor_and_some_groups():
    """Groups are left out as from a fit of its own, which has no such coefficient and groups."""
    d = data().assign(f=lambda t: np.array(list("abc"))[np.arange(len(t)) % 3])
    without = d[(d["f"] != "c") & ~d["unit"].isin([2, 6])]
    long = pd.concat([d.assign(lane=0), without.assign(lane=1)])
    found = hlm.fit_many("y ~ x + f + (1 | unit)", long, by="lane").influence().cooks_distance
    own = hlm.fit("y ~ x + f + (1 | unit)", without).influence().cooks_distance
    np.testing.assert_allclose(found.to_numpy()[-len(own) :], own, rtol=tol.ESTIMATE)


def test_columns_that_one_large_group_carries():
    """As many rows as there are, a column that is zero in all others is no longer there."""
    rng = np.random.default_rng(0)
    unit = np.repeat(np.arange(8), 150)
    own = (unit[:, None] == np.arange(4)) * (1.0 + rng.normal(size=(len(unit), 4)))
    d = pd.DataFrame({"unit": unit, "x": rng.normal(size=len(unit))}).join(
        pd.DataFrame(own, columns=list("abcd"))
    )
    d["y"] = rng.normal(size=8)[unit] + rng.normal(size=len(unit))
    influence = hlm.fit("y ~ x + a + b + c + d + (1 | unit)", d).influence()
    assert (influence.status[:4] == hlm.Status.RANK_DEFICIENT).all()
    assert np.isin(influence.status[4:], [hlm.Status.CONVERGED, hlm.Status.SINGULAR]).all()


@pytest.mark.parametrize("n", [10, 1_000, 100_000])
def test_dependent_columns_are_so_at_any_number_of_rows(rng, n):
    """Their Gram matrix has an eigenvalue of rounding, which grows with n; 1e-5 apart they do not.

    Gram matrices of that many rows are drawn as they come: Q'Q rounded at the size of n.
    """
    first = rng.normal(size=(200, 12, 2))
    first *= np.sqrt(n) / np.linalg.norm(first, axis=1, keepdims=True)
    third = first @ rng.normal(size=(200, 2, 1))
    third *= np.sqrt(n) / np.linalg.norm(third, axis=1, keepdims=True)
    apart = third + 1e-5 * np.sqrt(n) * rng.normal(size=third.shape)
    for column, dependent in ((third, True), (apart, False)):
        X = np.concatenate([first, column], axis=2)
        assert (leaveout._deficient(X.mT @ X, np.full(200, float(n))) == dependent).all()


def test_groups_of_two_fits_are_those_of_each():
    d = data()
    Y = np.column_stack([d["y"], d["y"] + d["w"]])
    fits = hlm.fit_many("~ x + (1 + x | unit)", d, Y)
    found = fits.influence().cooks_distance.to_numpy().reshape(2, -1)
    for row, fit in zip(found, fits, strict=True):
        np.testing.assert_allclose(row, fit.influence().cooks_distance, rtol=tol.LEFT_OUT)


# Rows.


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("formula", FORMULAS)
def test_rows_left_out(formula, weighted):
    """Of all groups: that of one row goes with it, and one of two keeps a row."""
    fit, d = fitted(formula, weighted), data()
    some = [0, 11, 23, 35, *np.flatnonzero(d["unit"].isin([1, 5]))]
    weight = weights().to_numpy() if weighted else None
    assert_left_out(fit, d, weight, some=some, by="observation")


@pytest.mark.parametrize(
    ("case", "reml"), [("sleepstudy", True), ("dyestuff2_singular", False), ("article_full", True)]
)
def test_rows_of_equal_groups(case, reml):
    d, results = load_case(case)
    assert_left_out(
        hlm.fit(results["REML"]["formula"], d, reml), d, some=[0, 9, 17], by="observation"
    )


@pytest.mark.parametrize("case", ["sleepstudy", "orthodont"])
def test_rows_and_groups_left_out_beside_lme4(case):
    """Its ``influence`` refits to its usual accuracy; refits of a few rows are good to theirs.

    Its Cook's distance is (n − p)/n times that of Cook, n being what is left out.
    """
    record, p = LEFT_OUT[case], None
    fit = hlm.fit(record["formula"], load_case(case)[0], reml=record["reml"])
    rows, p = fit.influence(by="observation"), len(fit.fixef)
    for influence, lme4 in ((rows, record["lme4"]), (fit.influence(), record["lme4_group"])):
        n = len(influence.levels)
        found, expected = np.sort(influence.cooks_distance) * (n - p) / n, np.sort(lme4["cooksd"])
        np.testing.assert_allclose(found, expected, atol=tol.LME4_LEFT_OUT * expected.max())
    largest = np.abs(rows.dfbeta).max()
    difference = rows.dfbeta / largest + np.array(record["lme4"]["dfbeta"]) / largest.to_numpy()
    np.testing.assert_allclose(difference, 0.0, atol=tol.LME4_ROW_LEFT_OUT)
    for i, one in zip(record["rows"], record["refits"], strict=True):
        assert rows.criterion.iloc[i] == pytest.approx(one["criterion"], abs=tol.LME4_CRITERION)
        np.testing.assert_allclose(rows.fixef.iloc[i], one["fixef"], rtol=tol.LME4_SE)
        np.testing.assert_allclose(rows.sigma.iloc[i], one["sigma"], rtol=tol.LME4_SIGMA)


def test_a_row_without_which_a_column_is_gone():
    d = data().reset_index(drop=True).assign(alone=lambda t: (t.index == 7) * 1.0)
    influence = hlm.fit("y ~ x + alone + (1 | unit)", d).influence(by="observation")
    assert influence.levels[influence.status == hlm.Status.RANK_DEFICIENT].tolist() == [7]
    assert "Influence of 47 observations, each" in str(influence)


def test_an_outlier_does_not_blur_what_is_left():
    """The fit without it is that of the other rows, though it is 1e6 residuals away."""
    d = data().reset_index(drop=True)
    far = d.assign(y=d["y"] + 1e6 * (d.index == 20))
    fit, own = hlm.fit("y ~ x + (1 | unit)", far), hlm.fit("y ~ x + (1 | unit)", d.drop(20))
    influence = fit.influence(by="observation")
    np.testing.assert_allclose(influence.fixef.loc[20], own.fixef, rtol=tol.EXTREME)
    np.testing.assert_allclose(influence.sigma.loc[20], own.sigma, rtol=tol.EXTREME)


def test_rows_of_many_fits_are_those_of_each():
    """A design in common, and rows of their own with the labels of the data."""
    d = data()
    Y = np.column_stack([d["y"], d["y"] + d["w"]])
    long = pd.concat([d.assign(lane=0), d.iloc[4:].assign(lane=1, y=d["y"] + d["w"])])
    for fits in (
        hlm.fit_many("~ x + (1 + x | unit)", d, Y),
        hlm.fit_many("y ~ x + (1 + x | unit)", long.reset_index(), by="lane"),
    ):
        found = fits.influence(by="observation").cooks_distance
        own = [fit.influence(by="observation").cooks_distance for fit in fits]
        np.testing.assert_allclose(found, np.concatenate(own), rtol=tol.LEFT_OUT, atol=tol.SMALL)
        assert found.index.get_level_values(1).tolist() == [i for x in own for i in x.index]


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_columns_of_gram_matrices_of_any_size(rng, scale):
    """As many as the rank, whatever the unit; what is 1e-5 of its column is no rounding.

    What is rounding of the other columns is.
    """
    F = rng.normal(size=(50, 5, 2)) * [1.0, 1e-3]
    noise = 1e-15 * rng.normal(size=(50, 5, 1))
    F = np.concatenate([F, F @ rng.normal(size=(50, 2, 1)), noise], axis=2)
    F = scale * np.concatenate([F, F[..., :1] + 1e-5 * rng.normal(size=(50, 5, 1))], axis=2)
    L = np.moveaxis(leaveout._columns(np.moveaxis(F.mT @ F, 0, -1)), -1, 0)
    assert (L.any(axis=1) == [True, True, False, False, True]).all()
    np.testing.assert_allclose(L @ L.mT, F.mT @ F, atol=tol.SMALL * scale**2)
    left = F[..., 4:] - F[..., :2] @ np.linalg.pinv(F[..., :2]) @ F[..., 4:]
    np.testing.assert_allclose(L[:, 4, 4], np.linalg.norm(left, axis=1)[:, 0], rtol=tol.REMAINDER)


@pytest.mark.parametrize("fixed", ["x", "0 + x"])
def test_two_groups_cannot_spare_one(fixed):
    fit = hlm.fit(f"y ~ {fixed} + (1 | unit)", data().query("unit in (0, 4)"))
    assert fit.influence().counts["not_identified"] == 2
    three = hlm.fit(f"y ~ {fixed} + (1 | unit)", data().query("unit in (0, 4, 7)"))
    assert three.influence().counts["not_identified"] == 0


def test_the_frame_of_changes():
    fit = sleepstudy()
    influence = fit.influence()
    table = influence.frame()
    np.testing.assert_allclose(table["change__sigma"], influence.sigma - fit.sigma)
    cov = fit.varcorr.cov.to_numpy()
    np.testing.assert_allclose(table["change__var__Days"], influence.cov[:, 1, 1] - cov[1, 1])
    np.testing.assert_allclose(
        table["change__cov__(Intercept).Days"], influence.cov[:, 1, 0] - cov[1, 0]
    )
    np.testing.assert_allclose(
        table["change__theta__Subject.Days"], influence.theta.iloc[:, 2] - fit.theta[2]
    )
    with pytest.raises(errors.OptionError, match="group"):
        fit.influence(by="row")


# Variance explained.


@pytest.mark.parametrize("formula", FORMULAS)
def test_r2_and_icc_from_their_definition(formula):
    fit = fitted(formula)
    Z, cov = fit.design.Z, fit.varcorr.cov.to_numpy()
    fixed = np.var(fit.predict(ranef=False), ddof=1)
    random = np.diag(Z @ cov @ Z.T).mean()
    total = fixed + random + fit.sigma**2
    expected = [fixed / total, (fixed + random) / total]
    np.testing.assert_allclose(fit.r2(), expected, rtol=tol.DENSE)
    np.testing.assert_allclose(fit.icc(), random / (random + fit.sigma**2), rtol=tol.DENSE)


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.ConvergenceWarning")
def test_icc_at_a_covariate_pattern():
    """The correlation of two rows with this z in Σ ⊗ zz' + σ²I."""
    d = data().assign(kind=lambda f: np.resize(["p", "q"], len(f)))
    fit = hlm.fit("y ~ x + kind + (1 + center(x) + kind | unit)", d)
    at = pd.DataFrame({"kind": ["p", "q", "q"], "x": [0.0, 1.0, -2.0]}, index=["a", "b", "c"])
    found = fit.icc(at)
    z = np.column_stack([np.ones(3), at["x"] - d["x"].mean(), at["kind"] == "q"]).astype(float)
    for label, row in zip(at.index, z, strict=True):
        V = np.full((2, 2), row @ fit.varcorr.cov.to_numpy() @ row) + fit.sigma**2 * np.eye(2)
        np.testing.assert_allclose(found[label], V[0, 1] / V[0, 0], rtol=tol.DENSE)
    assert fit.icc({"x": 1.0, "kind": "q"}) == pytest.approx(found["b"], rel=tol.ROUNDED)
    Y = np.column_stack([d["y"], np.ones(len(d))])
    fits = hlm.fit_many("~ x + kind + (1 + center(x) + kind | unit)", d, Y)
    table = fits.icc(at)
    np.testing.assert_allclose(table.iloc[0], found, rtol=tol.ESTIMATE)
    assert table.iloc[1].isna().all()
    assert fits.icc({"x": 1.0, "kind": "q"}).isna().tolist() == [False, True]
    with pytest.raises(errors.UnknownTermError, match=r"'w' is not a variable.*'x', 'kind'"):
        fit.icc({"w": 1.0})
    with pytest.raises(errors.UnknownTermError, match="'kind' has no value in at"):
        fit.icc({"x": 1.0})
    with pytest.raises(errors.NewLevelError, match="'r'"):
        fit.icc({"x": 1.0, "kind": "r"})
    with pytest.raises(errors.OptionError, match="must have a value"):
        fit.icc({"x": np.nan, "kind": "p"})
    level = fitted(FORMULAS[1])
    np.testing.assert_allclose(level.icc({}), level.icc(), rtol=tol.DENSE)


def test_r2_and_icc_of_many_fits():
    fit, d = sleepstudy(), hlm.load_dataset("sleepstudy")
    Y = fit.simulate(5, seed=1).to_numpy().copy()
    Y[7, 2] = np.nan
    fits = hlm.fit_many("~ Days + (1 + Days | Subject)", d, responses=Y)
    long = pd.concat([d.assign(y=Y[:, i], lane=i).iloc[: 180 - 10 * i] for i in range(5)])
    apart = hlm.fit_many("y ~ Days + (1 + Days | Subject)", long.dropna(), by="lane")
    for batch in (fits, apart):
        r2, icc = batch.r2(), batch.icc()
        for i in range(5):
            np.testing.assert_allclose(r2.iloc[i], batch[i].r2(), rtol=tol.DENSE)
            np.testing.assert_allclose(icc.iloc[i], batch[i].icc(), rtol=tol.DENSE)


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.ConvergenceWarning")
def test_a_fit_that_failed_is_nan_everywhere():
    d = hlm.load_dataset("sleepstudy")
    Y = np.column_stack([d["Reaction"], np.ones(len(d))])
    fits = hlm.fit_many("~ Days + (1 + Days | Subject)", d, responses=Y)
    assert fits.r2().isna().all(axis=1).tolist() == [False, True]
    assert fits.icc().isna().tolist() == [False, True]
    failed = fits[1]
    assert failed.r2().isna().all()
    assert np.isnan(failed.icc())
    assert np.isnan(failed.vcov_robust().to_numpy()).all()
    assert failed.predict(d, se=True).isna().all(axis=None)
    assert failed.coef_se.isna().all(axis=None)
    assert failed.augment()[[".hat", ".cooksd", ".std_resid"]].isna().all(axis=None)
    assert failed.shrinkage()[["blup", "reliability"]].isna().all(axis=None)
    assert failed.ranef_qq()["standardized"].isna().all()
    assert failed.influence().counts["not_finite"] == 18


def test_the_sign_is_that_of_belsley_kuh_and_welsch():
    """lme4 1.1's dfbetas of the same fit, whose sign is the other."""
    data = hlm.load_dataset("sleepstudy")
    found = hlm.fit("Reaction ~ Days + (1 | Subject)", data).influence().dfbetas
    lme4 = [[0.04316066, -0.8670902], [0.30633803, 0.5790549]]
    np.testing.assert_allclose(found.head(2), -np.array(lme4), atol=tol.LME4_ROBUST)
