"""``Fit``: prediction, tables, the forms of the model, and what lmer's users expect of them."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import jaxhlm as hlm
import tolerances as tol
from cases import frame, sleepstudy
from jaxhlm import errors, reference
from jaxhlm.inference.criteria import aicc, correlation
from jaxhlm.results.summary_table import abbreviate, correlation_table
from places import DATA

SIZES = (9, 4, 7, 3, 12, 5, 8, 5)
SLEEP = """\
Linear mixed model fit by REML
Formula: Reaction ~ Days + (1 + Days | Subject)

REML criterion at convergence: 1743.6

Scaled residuals:
     Min      1Q Median     3Q    Max
 -3.9536 -0.4634 0.0231 0.4634 5.1793

Random effects:
 Groups   Name        Variance Std.Dev. Corr
 Subject  (Intercept) 612.09   24.740
          Days         35.07    5.922    0.07
 Residual             654.94   25.592
Number of obs: 180, groups:  Subject, 18

Fixed effects:
            Estimate Std. Error t value
(Intercept)  251.405      6.825  36.838
Days          10.467      1.546   6.771

Correlation of Fixed Effects:
     (Intr)
Days -0.138

p values: summary(df="satterthwaite")
"""


def data():
    return frame(np.random.default_rng(4), SIZES, sd=1.0)


def columns(*names):
    d = data()
    return np.column_stack([np.ones(len(d)) if n == "1" else d[n] for n in names])


def assert_fit(fit, X, Z, blocks=None, reml=True, keep=slice(None), weights=None):
    d = data()
    y, group = d["y"].to_numpy()[keep], np.unique(d["unit"][keep], return_inverse=True)[1]
    best = reference.fit(y, X[keep], Z[keep], group, reml, weights, blocks)
    np.testing.assert_allclose(fit.criterion, best.criterion, atol=tol.CRITERION)
    np.testing.assert_allclose((fit.fixef - best.beta) / fit.se, 0.0, atol=tol.ESTIMATE)
    np.testing.assert_allclose(fit.varcorr.cov, best.cov, atol=tol.ESTIMATE * (1 + best.cov.max()))


# Printed by lme4 1.1-31, trailing blanks removed.
CORRELATIONS = """\
     (Intr) x      fb
x    -0.370
fb   -0.328  0.590
x:fb  0.254 -0.663 -0.830"""


def test_correlations_line_up_as_in_r():
    names = ["(Intercept)", "x", "fb", "x:fb"]
    corr = np.eye(4)
    corr[np.tril_indices(4, -1)] = [-0.370, -0.328, 0.590, 0.254, -0.663, -0.830]
    corr += np.tril(corr, -1).T
    assert str(correlation_table(names, corr)) == CORRELATIONS
    small = np.array([[1.0, -1e-5], [-1e-5, 1.0]])
    assert str(correlation_table(["a", "b"], small)) == "  a\nb 0.000"


def test_printed_as_lmer_prints_it():
    assert [line.rstrip() for line in str(sleepstudy()).splitlines()] == SLEEP.splitlines()


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.SingularFitWarning")
@pytest.mark.parametrize(
    ("random", "Z", "blocks"),
    [
        ("(1 | unit)", ["1"], None),
        ("(1 + x | unit)", ["1", "x"], None),
        ("(0 + x | unit)", ["x"], None),
        ("(1 + x || unit)", ["1", "x"], ((0,), (1,))),
        ("(1 + x + w | unit)", ["1", "x", "w"], None),
        ("(1 | unit) + (0 + x | unit)", ["1", "x"], ((0,), (1,))),
    ],
)
@pytest.mark.parametrize("reml", [True, False])
def test_forms_of_the_random_part(random, Z, blocks, reml):
    w = np.random.default_rng(1).normal(size=len(data()))
    fit = hlm.fit(f"y ~ x + a + {random}", data().assign(w=w), reml)
    matrix = np.column_stack([w if name == "w" else columns(name) for name in Z])
    assert_fit(fit, columns("1", "x", "a"), matrix, blocks, reml)


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.SingularFitWarning")
def test_diagonal_factors_are_truly_diagonal():
    kind = np.resize(["p", "q", "r"], len(data()))
    fit = hlm.fit("y ~ x + (1 + kind || unit)", data().assign(kind=kind))
    cov = fit.varcorr.cov.to_numpy()
    np.testing.assert_array_equal(cov, np.diag(np.diag(cov)))
    Z = np.column_stack([np.ones(len(kind)), kind == "q", kind == "r"])
    assert_fit(fit, columns("1", "x"), Z, ((0,), (1,), (2,)))


def test_missing_rows_weights_and_dependent_columns():
    d = data().assign(twice=lambda f: 2 * f["x"] - 1)
    d.loc[[2, 11], "x"] = np.nan
    d["twice"] = 2 * d["x"] - 1
    w = np.random.default_rng(2).uniform(0.5, 2.0, len(d))
    with (
        pytest.warns(errors.RowsDroppedWarning, match=r"dropped 2 of 53 rows .*x: 2"),
        pytest.warns(errors.RankDeficientWarning, match="twice"),
    ):
        fit = hlm.fit("y ~ x + twice + (1 | unit)", d, weights=w)
    keep = ~d["x"].isna().to_numpy()
    assert fit.nobs == 51
    assert list(fit.fixef.index) == ["(Intercept)", "x"]
    assert_fit(fit, columns("1", "x"), columns("1"), keep=keep, weights=w[keep])
    assert "2 row(s) dropped" in str(fit)
    assert "dropped as rank deficient: twice" in str(fit)


def test_labels_of_units_do_not_matter():
    d = data()
    plain = hlm.fit("y ~ x + (1 | unit)", d)
    names = [f"u{i}" for i in range(len(SIZES))]
    kinds = {
        "strings": d["unit"].map(lambda i: names[i]),
        "numbers with gaps": d["unit"] * 17 - 5,
        "categories, one unused": pd.Categorical.from_codes(d["unit"], [*names, "unused"]),
    }
    for kind, unit in kinds.items():
        fit = hlm.fit("y ~ x + (1 | unit)", d.assign(unit=unit))
        assert fit.ngroups == len(SIZES), kind
        np.testing.assert_allclose(fit.ranef, plain.ranef, atol=tol.ESTIMATE, err_msg=kind)


# Prediction.


def test_prediction_on_the_rows_that_were_fitted():
    fit, d = sleepstudy(), hlm.load_dataset("sleepstudy")
    np.testing.assert_allclose(fit.predict(), fit.fitted, rtol=tol.SMALL)
    np.testing.assert_allclose(fit.predict(d), fit.fitted, rtol=tol.SMALL)
    np.testing.assert_allclose(fit.fitted + fit.residuals, d["Reaction"], rtol=tol.SMALL)
    lines = fit.coef.loc[d["Subject"]].to_numpy()
    np.testing.assert_allclose(fit.fitted, lines[:, 0] + lines[:, 1] * d["Days"], rtol=tol.SMALL)
    fixed = fit.fixef["(Intercept)"] + fit.fixef["Days"] * d["Days"]
    np.testing.assert_allclose(fit.predict(ranef=False), fixed, rtol=tol.SMALL)
    augmented = fit.augment()
    np.testing.assert_allclose(augmented[".fixed"], fixed, rtol=tol.SMALL)
    np.testing.assert_array_equal(augmented["Reaction"], d["Reaction"])


def test_prediction_of_units_not_seen():
    fit = sleepstudy()
    first = fit.ranef.index[0]
    new = pd.DataFrame({"Days": [0, 5], "Subject": [first, "somebody"]})
    values = fit.predict(new)
    assert values[0] == pytest.approx(fit.coef.loc[first, "(Intercept)"])
    assert values[1] == pytest.approx(fit.fixef["(Intercept)"] + 5 * fit.fixef["Days"])
    with pytest.raises(errors.NewLevelError, match=r"row\(s\) 1 of newdata .* 'Subject'"):
        fit.predict(new, new_levels="error")
    with pytest.raises(errors.MissingColumnError, match="Days"):
        fit.predict(new.drop(columns="Days"))


@pytest.mark.parametrize("term", ["center(x)", "scale(x)", "poly(x, 2)", "bs(x, df=4)"])
def test_transforms_remember_what_they_learned(term):
    d = data()
    fit = hlm.fit(f"y ~ {term} + (1 | unit)", d)
    part = fit.predict(d.iloc[10:14])
    np.testing.assert_allclose(part, fit.fitted.iloc[10:14], rtol=tol.SMALL)


def test_factors_are_coded_as_they_were():
    d = data().assign(kind=np.resize(["p", "q", "r"], len(data())))
    fit = hlm.fit("y ~ x * kind + (1 | unit)", d)
    only = d[d["kind"] == "r"]
    np.testing.assert_allclose(fit.predict(only), fit.fitted[only.index], rtol=tol.SMALL)
    with pytest.raises(errors.NewLevelError, match="'s'"):
        fit.predict(d.head(1).assign(kind="s"))


# Tables.


def test_tidy_glance_and_intervals():
    fit = sleepstudy()
    tidy = fit.tidy("normal", conf_level=0.9)
    assert list(tidy["term"]) == [
        "(Intercept)",
        "Days",
        "sd__(Intercept)",
        "sd__Days",
        "cor__(Intercept).Days",
        "sd__Observation",
    ]
    fixed = tidy[tidy["effect"] == "fixed"].set_index("term")
    z = stats.norm.ppf(0.95)
    np.testing.assert_allclose(fixed["conf_high"], fit.fixef + z * fit.se, rtol=tol.SMALL)
    np.testing.assert_allclose(fixed["statistic"], fit.fixef / fit.se, rtol=tol.SMALL)
    np.testing.assert_allclose(tidy["estimate"].iloc[5], fit.sigma, rtol=tol.SMALL)
    t = stats.t.ppf(0.95, fit.df())
    fixed = fit.tidy(conf_level=0.9).set_index("term").iloc[:2]
    np.testing.assert_allclose(fixed["conf_low"], fit.fixef - t * fit.se, rtol=tol.SMALL)
    np.testing.assert_allclose(fixed["df"].astype(float), fit.df(), rtol=tol.SMALL)
    np.testing.assert_allclose(fixed["p_value"].astype(float), fit.p_values(), rtol=tol.SMALL)
    glance = fit.glance().iloc[0]
    assert glance["aic"] == pytest.approx(fit.criterion + 12)
    assert glance["bic"] == pytest.approx(fit.criterion + 6 * np.log(180))
    assert list(fit.confint().columns) == ["2.5 %", "97.5 %"]
    with pytest.raises(errors.OptionError, match="level"):
        fit.confint(level=95)
    with pytest.raises(errors.OptionError, match="wald"):
        fit.confint(method="magic")


def test_refit_and_simulate():
    fit = sleepstudy()
    again = fit.refit(fit.design.y)
    assert again.criterion == fit.criterion
    Y = fit.simulate(2, seed=3)
    assert Y.shape == (180, 2)
    other = fit.refit(Y["sim_2"])
    alone = hlm.fit(
        "y ~ Days + (1 + Days | Subject)",
        hlm.load_dataset("sleepstudy").assign(y=Y["sim_2"]),
    )
    np.testing.assert_allclose(other.criterion, alone.criterion, atol=tol.CRITERION)
    with pytest.raises(errors.ResponseShapeError, match="180 rows"):
        fit.refit(Y["sim_2"][:10])


def test_a_singular_fit_says_so():
    y = data().assign(y=lambda f: f["x"] + np.random.default_rng(9).normal(size=len(f)))
    with pytest.warns(errors.SingularFitWarning):
        fit = hlm.fit("y ~ x + (1 + x | unit)", y)
    assert fit.singular
    assert fit.status.message in str(fit)


def test_lines_of_single_units():
    d = hlm.load_dataset("sleepstudy")
    lines = hlm.lm_list("Reaction ~ Days + (1 + Days | Subject)", d)
    one = d[d["Subject"] == d["Subject"].iloc[0]]
    slope, intercept = np.polyfit(one["Days"], one["Reaction"], 1)
    np.testing.assert_allclose(lines.coef.iloc[0], [intercept, slope], rtol=tol.LEAST_SQUARES)
    assert lines.df_residual == 180 - 36
    short = d.drop(index=one.index[1:])
    with_gap = hlm.lm_list("Reaction ~ Days + (1 + Days | Subject)", short)
    assert with_gap.coef.iloc[0].isna().tolist() == [False, True]
    np.testing.assert_allclose(with_gap.coef.iloc[1:], lines.coef.iloc[1:], rtol=tol.LEAST_SQUARES)


# nlme's Pixel, dogs 7, 8 and 9 (lme4's issue 377): dog, day, pixel intensity.
PIXEL = (
    (7, (4, 6, 10, 14) * 2, (1151.3, 1160.3, 1139.7, 1133.2, 1129.7, 1136.2, 1108.5, 1094.3)),
    (8, (4, 6, 10, 14) * 2, (1077.5, 1085.9, 1100.8, 1083.4, 1098.8, 1103.6, 1106.8, 1105.0)),
    (9, (4, 8) * 2, (1068.2, 1064.0, 1097.2, 1099.5)),
)


def pixel():
    frames = [pd.DataFrame({"dog": g, "day": t, "pixel": y}) for g, t, y in PIXEL]
    return pd.concat(frames, ignore_index=True)


def test_an_aliased_unit_keeps_what_it_determines():
    """R's lm by dog; the pooled standard deviation of lme4 2's summary is 17.467 on 12 df."""
    formula = "pixel ~ day + I(day ** 2) + (1 + day + I(day ** 2) | dog)"
    lines = hlm.lm_list(formula, pixel())
    assert lines.df_residual == 12
    assert lines.sigma == pytest.approx(17.46709, abs=tol.printed(5))
    expected = [
        [1148.1640704, -0.2490578, -0.1654837],
        [1058.4413317, 9.0910490, -0.4654052],
        [1083.65, -0.2375, np.nan],
    ]
    np.testing.assert_allclose(lines.coef, expected, rtol=tol.R_LM)
    unscaled = [[2.42293273, 0.62172509, 0.03403137]] * 2 + [[1.581139, 0.25, np.nan]]
    np.testing.assert_allclose(lines.se, lines.sigma * np.array(unscaled), rtol=tol.R_LM)
    assert "1 unit(s) do not determine all coefficients (9): those are blank" in str(lines)
    # Which rows come first does not matter, nor does another unit with one row.
    more = pd.concat([pixel()[::-1], pd.DataFrame({"dog": [10], "day": [5], "pixel": [1000.0]})])
    again = hlm.lm_list(formula, more)
    assert (again.df_residual, again.sigma) == (12, pytest.approx(lines.sigma))
    np.testing.assert_allclose(again.coef, [*expected, [1000.0, np.nan, np.nan]], rtol=tol.R_LM)


def test_wald_limits():
    fit = sleepstudy()
    half = stats.norm.ppf(0.95) * fit.se
    limits = fit.confint("wald", 0.9)
    np.testing.assert_allclose(limits["5 %"], fit.fixef - half, rtol=tol.CANONICAL)
    np.testing.assert_allclose(limits["95 %"], fit.fixef + half, rtol=tol.CANONICAL)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_correlation_that_is_one_but_for_rounding_is_one(sign):
    cov = np.array([[2.0, 0.0], [0.0, 8.0]]) + sign * (4.0 + 1e-12) * (1.0 - np.eye(2))
    np.testing.assert_array_equal(correlation(cov)[0, 1], sign)


def test_the_least_rows_that_aicc_is_defined_for():
    assert aicc(np.array(0.0), 2, 4) == 4.0 + 2.0 * 2.0 * 3.0
    assert np.isnan(aicc(np.array(0.0), 2, 3))


@pytest.mark.parametrize("length", [6, 11])
def test_names_are_abbreviated_as_r_does_and_stay_apart(length):
    from_r = json.loads((DATA / "abbreviations.json").read_text())
    found = abbreviate(from_r["names"], length)
    assert found == from_r[str(length)]
    assert len(set(found)) == len(found)
    assert abbreviate([], length) == []


def test_tables_of_rows_units_and_batches_print_all_of_their_columns():
    data = hlm.load_dataset("article")
    names = [f"a_covariate_of_the_units_{j}" for j in range(9)]
    data[names] = np.random.default_rng(1).normal(size=(len(data), 9))
    fit = hlm.fit("y ~ x + (1 + x | unit)", data)
    fits = hlm.fit_many(f"~ x + {' + '.join(names)} + (1 + x | unit)", data, fit.simulate(3, 1))
    frames = [fit.augment(), fits.augment(), fits.fixef, fits.se, fits.ranef, fits.coef,
              fits.variance_fractions()]  # fmt: skip
    for table in frames:
        printed = repr(table)
        assert all(str(name) in printed for name in table)
        assert max(map(len, printed.splitlines())) <= 80
        assert len(printed) < 12_000


def test_columns_of_polynomials_are_told_apart():
    fit = hlm.fit("y ~ poly(x, 2) + a + (1 + x | unit)", hlm.load_dataset("article"))
    heads = str(fit.summary()).partition("Correlation of Fixed Effects:\n")[2].splitlines()[0]
    assert heads.split() == ["(Intr)", "p(,2)1", "p(,2)2"]


def test_an_estimate_that_is_rounded_to_zero_has_no_sign():
    d = hlm.load_dataset("article")
    line = hlm.fit("y ~ x + (1 + x | unit)", d)
    d["y"] -= line.fixef["(Intercept)"] + tol.NOTHING
    table = hlm.table([hlm.fit("y ~ x + (1 + x | unit)", d)])
    for text in (str(table), table.to_html(), table.to_latex(), table.to_markdown()):
        assert "-0.000" not in text and "−0.000" not in text and "0.0000" in text
