"""``offset()``: what is fitted is the response less it, and all else is on the response's scale."""

import json
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import jax
import numpy as np
import pandas as pd
import pytest
from test_shared_names import NEW, NOT_ALIKE, SHARED, assert_alike, frame, told

import jaxhlm as hlm
import tolerances as tol
from cases import DATA
from jaxhlm import errors
from jaxhlm.sources.frames import ReplicateFrame

pytestmark = pytest.mark.filterwarnings("ignore::jaxhlm.errors.SingularFitWarning")
LME4 = json.loads((DATA / "offset.json").read_text())
FORMULA = "Reaction ~ Days + f + offset(log(z)) + offset(2 * Days) + (1 + Days | Subject)"


@cache
def sleep():
    d = hlm.load_dataset("sleepstudy")
    k = np.arange(1, len(d) + 1)
    d["z"], d["w"] = np.exp(np.sin(k / 3) + 1.0), 1.0 + k % 3
    d["f"] = np.where(d["Subject"].astype("category").cat.codes % 2, "b", "a")
    d.loc[[3, 89], "z"] = np.nan
    return d


@cache
def weighted():
    with pytest.warns(errors.RowsDroppedWarning, match="dropped 2 of 180 rows"):
        return hlm.fit(FORMULA, sleep(), weights="w")


def test_lme4():
    """A weighted model with two offsets and missing values in one of them."""
    fit, e = weighted(), LME4
    assert fit.criterion == pytest.approx(e["criterion"], abs=tol.LME4_CRITERION)
    np.testing.assert_allclose(fit.fixef, e["fixef"], atol=tol.LME4_BETA_IN_SE * min(e["se"]))
    np.testing.assert_allclose(fit.se, e["se"], tol.LME4_SE)
    np.testing.assert_allclose(fit.sigma, e["sigma"], tol.LME4_SIGMA)
    rows = [k for k in range(180) if k not in (3, 89)]
    for ours, theirs in (
        (fit.fitted, "fitted"),
        (fit.predict(ranef=False), "marginal"),
    ):
        np.testing.assert_allclose(ours, np.array(e[theirs], float)[rows], tol.LME4_FITTED)
    for ours, theirs in (
        (fit.residuals, "resid"),
        (fit.hatvalues, "hat"),
        (fit.cooks_distance, "cooksd"),
    ):
        expected = np.array(e[theirs], float)
        expected = expected[rows] if len(expected) == 180 else expected
        np.testing.assert_allclose(ours, expected, tol.LME4_RANEF, tol.LME4_RANEF)
    new = pd.DataFrame(e["new"])
    np.testing.assert_allclose(fit.predict(new), e["predicted"], tol.LME4_FITTED)
    np.testing.assert_allclose(fit.predict(new, ranef=False), e["population"], tol.LME4_FITTED)
    F = fit.anova().table
    np.testing.assert_allclose(F["F value"], e["terms"]["F"], tol.R_MEANS)
    drawn = fit.simulate(4000, seed=1, use_ranef=True).mean(axis=1)
    # Two means of 4,000 draws of the same distribution.
    within = 5.0 * fit.sigma * np.sqrt(2.0 / 4000)
    theirs = np.array(e["simulated_mean"], float)
    np.testing.assert_allclose(drawn, theirs[rows] if len(theirs) == 180 else theirs, atol=within)


def test_emmeans():
    """Means are those at the mean offset; what its variables are set to has no say."""
    fit, e = weighted(), LME4
    means = fit.emmeans("f")
    for ours, theirs in (("emmean", "emmean"), ("std_error", "se"), ("conf_low", "low")):
        np.testing.assert_allclose(means[ours], e["means"][theirs], tol.R_MEANS)
    at = fit.emmeans("Days", at={"Days": [0, 3]})
    np.testing.assert_allclose(at["emmean"], e["at_days"]["emmean"], tol.R_MEANS)
    custom = {"both": [1, 1], "b - a": [-1, 1]}
    found = fit.emmeans("f", contrasts=custom, adjust="none")
    for ours, theirs in (("estimate", "estimate"), ("statistic", "t"), ("p_value", "p")):
        np.testing.assert_allclose(found[ours], e["custom"][theirs], tol.R_MEANS, tol.R_MEANS_ZERO)


def test_ratio_of_a_fixed_and_a_free_slope():
    """An offset is a coefficient of 1, so that a ratio of likelihoods tests it."""
    d = sleep().dropna()
    free = hlm.fit("Reaction ~ Days + f + offset(log(z)) + (1 | Subject)", d, reml=False)
    fixed = hlm.fit(
        "Reaction ~ f + offset(log(z)) + offset(2 * Days) + (1 | Subject)", d, reml=False
    )
    table = free.anova(fixed).table
    assert table["Chisq"].iloc[1] == pytest.approx(LME4["lrt"]["chisq"], abs=tol.LME4_RATIO)
    np.testing.assert_allclose(table["logLik"], LME4["lrt"]["logLik"], tol.LME4_CRITERION)
    found = hlm.bootstrap_lrt(fixed, free, n=20, seed=1)
    assert found.statistic == pytest.approx(LME4["lrt"]["chisq"], abs=tol.LME4_RATIO)
    assert np.nanmax(found.statistics) < LME4["lrt"]["chisq"]
    limits = fixed.confint("profile").to_numpy()
    np.testing.assert_allclose(limits, LME4["profile"]["limits"], tol.LME4_PROFILE)
    other = hlm.fit("Reaction ~ f + offset(log(z)) + offset(w) + (1 | Subject)", d, reml=False)
    with pytest.raises(errors.NotNestedError, match="offset"):
        free.anova(other)
    with pytest.raises(errors.ComparisonError, match="offset"):
        hlm.bootstrap_lrt(other, free, n=2)
    assert len(hlm.compare(free, other, fixed).table) == 3
    both = [hlm.fit_many(fit.model.formula, d, by="w", reml=False) for fit in (free, fixed)]
    with pytest.raises(errors.DifferentRowsError, match="offset"):
        both[0].anova(both[1])


# name: what the offset adds to, of rows, of new rows or at its mean, and the columns of a table.
ADDED = {
    "fitted": ("rows", None),
    "augment": ("rows", ["y", ".fitted", ".fixed"]),
    "predict": ("new", ["predicted", "low", "high"]),
    "emmeans": ("mean", ["emmean", "conf_low", "conf_high"]),
}
# What of an answer is compared, where that is not a table or numbers.
PARTS = {
    "influence": ["fixef", "sigma"],
    "refit_ml": ["fixef", "criterion"],
    "estimates": ["beta", "vcov", "cov"],
    "varcorr": ["cov", "residual"],
}
# Names of the model, and how the search went, which takes other steps where numbers are rounded.
LEFT_OUT = {"model", "options", "iterations", "gradient_norm"}
# There is no factor among plain numbers.
OF_A_FACTOR = {"emmeans", "emtrends", "contrast", "joint_test", "joint_test_robust"}
# Of factors by replicate test_shared_names.py has the rest.
KINDS = ("fit", "missing", "plain numbers")
ROWS = len(frame())
AFTER = NEW.assign(w=[1.0, 2.0, 0.5])


@cache
def pair(kind):
    """Fits with an offset, of the response less it, and the offsets of each fit's rows."""
    d = frame()
    d["more"] = np.exp(d["z"]) + d["w"]
    fixed = "x" if kind == "plain numbers" else "x + a"
    formulas = (
        f"y ~ {fixed} + offset(exp(z)) + offset(w) + (1 + x | unit)",
        f"I(y - more) ~ {fixed} + (1 + x | unit)",
    )
    if kind == "fit":
        return *(hlm.fit(formula, d) for formula in formulas), [d["more"]]
    if kind in ("responses", "missing"):
        Y = pd.DataFrame({"one": d["y"], "other": d["y"][::-1].to_numpy()})
        if kind == "missing":
            Y.iloc[5, 0] = np.nan
        given = Y, Y.sub(d["more"], axis=0)
        fits = (hlm.fit_many(f, d, y, progress=False) for f, y in zip(formulas, given, strict=True))
        return *fits, [d["more"][Y[name].notna()] for name in Y]
    long = pd.concat([d.assign(r=0), d.iloc[::-1].assign(r=1, w=2.0)], ignore_index=True)
    long["more"] = np.exp(long["z"]) + long["w"]
    fits = [hlm.fit_many(f, long, by="r", progress=False) for f in formulas]
    assert isinstance(fits[0].source, ReplicateFrame) == (kind == "plain numbers")
    return *fits, [long["more"][long["r"] == r] for r in (0, 1)]


def answer(fit, name):
    if name == "predict":
        return fit.predict(AFTER, interval="prediction")
    found = told(fit, name)
    if name == "augment":
        return found.rename(columns={found.columns[0]: "y"})
    return getattr(found, "table", found)


def taken_off(name, found, added):
    """An answer less what the offset adds to it."""
    if name not in ADDED:
        return found
    where, columns = ADDED[name]
    if where == "rows":
        value = np.concatenate(added)
    elif where == "new":
        value = np.tile(np.exp(AFTER["z"]) + AFTER["w"], len(added))
    else:
        value = np.repeat([part.mean() for part in added], len(found) // len(added))
    if columns is None:
        return found - value
    return found.assign(**{column: found[column] - value for column in columns})


@pytest.mark.parametrize("kind", KINDS)
def test_every_name_of_a_fit_and_of_a_batch(kind):
    """y with an offset, and y less it without, differ by it in the names above and in no other."""
    (fits, less, added), wrong = pair(kind), []
    for name in {*SHARED} - LEFT_OUT - (OF_A_FACTOR if kind == "plain numbers" else set()):
        one, other = taken_off(name, answer(fits, name), added), answer(less, name)
        for part in PARTS.get(name, [None]):
            mine, theirs = (getattr(found, part) if part else found for found in (one, other))
            if isinstance(mine, dict):
                mine, theirs = (np.stack(list(of.values())) for of in (mine, theirs))
            try:
                assert_alike(mine, theirs)
            except AssertionError as error:
                wrong.append(f"{name}: {error}")
    assert not wrong, "\n".join(wrong)


def test_names_of_a_fit_alone():
    """What only one fit has, and what the two kinds have for other purposes."""
    fit, less, (more,) = pair("fit")
    public = {name for name in dir(hlm.Fit) if name[0] != "_"}
    alone = {"design", "prepared", "standardised", "profile", "simulate", "refit"}
    tables = {"to_excel", "to_html", "to_latex", "to_markdown"}
    assert public == {*SHARED} | (NOT_ALIKE - {"record"}) | alone | tables
    assert_alike(fit.design.y, less.design.y)
    assert_alike(fit.design.offset, more.to_numpy())
    assert_alike(fit.profile("x", points=5), less.profile("x", points=5))
    assert_alike(fit.anova().table, less.anova().table)
    assert_alike(fit.anova(hlm.fit(fit.model.formula.replace("+ a ", ""), frame())).table,
                 less.anova(hlm.fit(less.model.formula.replace("+ a ", ""),
                                    frame().assign(more=more))).table)  # fmt: skip
    assert fit.verify().criterion < tol.CRITERION
    drawn, other = (one.simulate(2, seed=1) for one in (fit, less))
    assert_alike(drawn, other.add(more, axis=0))
    later = [one.simulate(2, seed=1, newdata=AFTER, use_ranef=True) for one in (fit, less)]
    assert_alike(later[0], later[1].add(np.exp(AFTER["z"]) + AFTER["w"], axis=0))
    assert_alike(fit.refit(drawn["sim_1"]).fixef, less.refit(other["sim_1"]).fixef)
    assert "offset(exp(z)) + offset(w)" in str(fit.summary())
    with pytest.raises(errors.ConstantResponseError, match="less the offset"):
        fit.refit(more + 1.0)


def test_names_of_a_batch_alone():
    fits, less, added = pair("responses")
    one, other = (f.moderation(trend=True).variances for f in (fits, less))
    # Of the response, as limma's are.
    assert_alike(one["mean"], other["mean"] + [part.mean() for part in added])
    assert_alike(fits.summary(), less.summary())
    assert_alike(fits.top(), less.top())


def test_new_rows_need_the_offset():
    fit = pair("fit")[0]
    with pytest.raises(errors.MissingColumnError, match="'z'"):
        fit.predict(AFTER.drop(columns="z"))
    with pytest.raises(errors.NonFiniteError, match="exp"):
        fit.predict(AFTER.assign(z=1e6))
    with pytest.raises(errors.NotNumericError, match="'w'"):
        fit.simulate(newdata=AFTER.assign(w="a"))
    found = fit.predict(AFTER.assign(w=[1.0, np.nan, 2.0]))
    assert found.isna().tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("offset", "kind", "match"),
    [
        ("offset(log(z))", errors.NonFiniteError, "log"),
        ("offset(a)", errors.NotNumericError, "factor"),
        ("offset(poly(x, 2))", errors.FormulaError, "2 columns"),
        ("offset(nothing)", errors.MissingColumnError, "nothing"),
        ("offset(1)", errors.FormulaError, "names no column"),
        ("offset(z, w)", errors.FormulaError, "one expression"),
        ("offset()", errors.FormulaError, "one expression"),
        ("x:offset(z)", errors.UnsupportedTermError, "by itself"),
        ("log(offset(z))", errors.UnsupportedTermError, "by itself"),
        ("(1 + offset(z) | unit)", errors.UnsupportedTermError, "by itself"),
        ("a - offset(z)", errors.FormulaError, "subtracts"),
        ("offset(y)", errors.ConstantResponseError, "less its offset"),
    ],
)
def test_refused(offset, kind, match):
    with pytest.raises(kind, match=match), np.errstate(all="ignore"):
        hlm.fit(f"y ~ x + {offset} + (1 | unit)", frame())


def test_where_there_is_none():
    """A study, a plot of lines and precision weights say so, before any number."""
    d = frame().assign(k=1.0)
    truth = hlm.Truth.of([0, 1], sd=[1.0], sigma=1.0)
    with pytest.raises(errors.OptionError, match="offset"):
        hlm.mechanism("y ~ x + offset(z) + (1 | unit)", d, truth)
    made = hlm.mechanism("y ~ x + (1 | unit)", d, truth)
    with pytest.raises(errors.OptionError, match="offset"):
        hlm.power(made, "x", n=10, formula="y ~ x + offset(z) + (1 | unit)")
    counts = np.random.default_rng(1).poisson(50, (ROWS, 30))
    with pytest.raises(errors.OptionError, match="lib_size"):
        hlm.voom_weights(counts, "~ x + offset(z) + (1 | unit)", d)
    with pytest.raises(errors.OptionError, match="offset"):
        hlm.plot.article_lines(pair("fit")[0])


def test_a_column_may_be_called_offset():
    d = frame().rename(columns={"z": "offset"})
    fit = hlm.fit("y ~ x + offset + (1 | unit)", d)
    assert fit.model.xnames == ("(Intercept)", "x", "offset") and fit.design.offset is None
    assert hlm.fit("y ~ offset(offset) + (1 | unit)", d).design.offset is not None


def test_once_each():
    """As in R, the same offset twice is one; two that are equal in other words add up."""
    d = frame()
    once, same, twice = (
        hlm.fit(f"y ~ x + {added} + (1 | unit)", d).design.offset
        for added in ("offset(z)", "offset(z) + offset(z)", "offset(z) + offset(1 * z)")
    )
    assert (once == same).all() and (twice == 2.0 * once).all()


def test_what_a_data_set_learns(tmp_path):
    """Offsets with means of their own data set, in memory, in pieces, and read again."""
    d = frame()
    long = pd.concat([d.assign(r=0), d.iloc[10:].assign(r=1)], ignore_index=True)
    formula = "y ~ x + offset(center(exp(z))) + (1 | unit)"
    fits = hlm.fit_many(formula, long, by="r", progress=False)
    alone = hlm.fit(formula, d.iloc[10:])
    for one in (fits[1], fits[1:]):
        assert_alike(np.ravel(one.fixef), np.ravel(alone.fixef))
        assert_alike(np.ravel(one.fitted), np.ravel(alone.fitted))
    assert_alike(fits.predict(AFTER).to_numpy()[3:], alone.predict(AFTER).to_numpy())
    long.to_parquet(tmp_path / "long.parquet", row_group_size=40)
    there = hlm.fit_many(formula, tmp_path / "long.parquet", by="r", progress=False)
    for name in ("fixef", "fitted"):
        assert_alike(getattr(there, name).to_numpy(), getattr(fits, name).to_numpy())
    assert_alike(there.predict(AFTER).to_numpy(), fits.predict(AFTER).to_numpy())
    plain = "y ~ x + offset(exp(z)) + (1 | unit)"
    here, there = (
        hlm.fit_many(plain, data, by="r", progress=False)
        for data in (long, tmp_path / "long.parquet")
    )
    for name in ("fixef", "fitted"):
        assert_alike(getattr(there, name).to_numpy(), getattr(here, name).to_numpy())


def test_responses_wherever_they_are(tmp_path):
    """Of NumPy, single precision, JAX's, on a disk, through other processes, and with weights."""
    fits, _, added = pair("responses")
    d = frame()
    Y = np.column_stack([d["y"], d["y"][::-1]])
    np.save(tmp_path / "y.npy", Y)
    formula = fits.model.formula
    with ThreadPoolExecutor(2) as pool:
        for given, how in (
            (jax.numpy.asarray(Y), {}),
            (np.asfortranarray(Y.astype(np.float32)), {}),
            (tmp_path / "y.npy", {}),
            (Y, {"executor": pool}),
            (tmp_path / "y.npy", {"executor": pool}),
            (Y, {"weights": np.ones_like(Y)}),
        ):
            found = hlm.fit_many(formula, d, given, progress=False, **how)
            np.testing.assert_allclose(found.fixef, fits.fixef, tol.SINGLE)
            np.testing.assert_allclose(found.fitted, fits.fitted, tol.SINGLE)
    d["more"] = added[0]
    out = hlm.fit_many(formula, d, Y, out=tmp_path / "out", progress=False)
    assert_alike(out[:].fixef, fits.fixef)
    with pytest.raises(errors.FolderError, match="another run"):
        other = formula.replace("exp(z)", "z")
        hlm.fit_many(other, d, Y, out=tmp_path / "out", resume=True, progress=False)


@pytest.mark.slow
def test_draws():
    """Data sets drawn on a design with an offset, and the bootstraps of a fit with one."""
    d = frame().assign(more=lambda d: np.exp(d["z"]))
    designs = [hlm.design(f"~ x{added} + (1 | unit)", d) for added in (" + offset(more)", "")]
    truth = hlm.Truth.of([1.0, 2.0], sd=[0.5], sigma=1.0)
    rows = [hlm.simulate(one, truth, 2, seed=1, statistics=False).rows() for one in designs]
    assert_alike(rows[0], rows[1] + d["more"].to_numpy()[:, None])
    with_offset, without = (hlm.simulate(one, truth, 3, seed=1).fit() for one in designs)
    assert_alike(with_offset.fixef, without.fixef)
    fit, less, _ = pair("fit")
    for method in ("parametric", "wild"):
        one, other = (hlm.bootstrap(f, 8, seed=1, method=method) for f in (fit, less))
        assert_alike(one.fits.fixef, other.fits.fixef)


def test_lines_of_units():
    d = frame().assign(more=lambda d: np.exp(d["z"]))
    one, other = (
        hlm.lm_list(f"{y} ~ x{added} + (1 + x | unit)", d)
        for y, added in (("y", " + offset(exp(z))"), ("I(y - more)", ""))
    )
    assert_alike(one.coef, other.coef)
    assert_alike(one.se, other.se)
