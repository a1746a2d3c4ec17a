"""What a formula learns from all rows is learned on those fitted, once, and applied elsewhere."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import jaxhlm as hlm
from jaxhlm.studies.vary import varied
from tolerances import ESTIMATE

LEARNING = [
    "scale(x)",
    "scale(x, center=False)",
    "center(x)",
    "standardize(x)",
    "poly(x, 2)",
    "bs(x, df=4, extrapolation='extend')",
    "cr(x, df=3, constraints='center')",
    "cs(x, df=3, constraints='center')",
    "cc(x, df=3, constraints='center')",
    *(f"I(x - np.{f}(x))" for f in ("mean", "median", "min", "max", "amin", "amax")),
    *(f"I(x / np.{f}(z))" for f in ("std", "var", "sum", "ptp")),
    "I(x / np.std(x, ddof=1))",
    "I(x - np.quantile(x, 0.3))",
    "I(x - np.percentile(x, 30))",
    "I((x > np.median(x)) * z)",
    "scale(np.exp(x / 9) - np.mean(np.exp(x / 9)))",
    "np.where(x > np.mean(x), x, np.mean(x)):z",
]
REFUSED = {
    "x.rank()": "make it a column of the data",
    "np.cumsum(x)": "depends on other rows",
    "np.diff(x)": "depends on other rows",
    "np.sort(x)": "depends on other rows",
    "np.argsort(x)": "depends on other rows",
    "np.roll(x, 1)": "depends on other rows",
    "np.gradient(x)": "depends on other rows",
    "np.random.normal(size=60)": "depends on other rows",
    "x.cumsum()": "depends on other rows",
    "x.shift(1)": "depends on other rows",
    "x.diff()": "depends on other rows",
    "lag(x)": "depends on other rows",
    "cut(x, 3)": "pandas.cut",
    "pd.cut(x, 3)": "depends on other rows",
    "pd.qcut(x, 3)": "depends on other rows",
    "x.mean()": r"write np.mean\(x\)",
    "x.max()": r"write np.max\(x\)",
    "mean(x)": r"write np.mean\(x\)",
    "sd(x)": r"np.std\(x, ddof=1\)",
    "np.interp(x, x, z)": "depends on other rows",
}
N, B = 40, 3


@pytest.fixture(scope="module")
def long():
    """Data sets of different mean and standard deviation, their rows mixed."""
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"rep": np.repeat(np.arange(B), N), "unit": np.tile(np.arange(N) % 8, B)})
    frame["x"] = rng.normal(size=B * N) * (1 + frame.rep) + 3 * frame.rep
    frame["z"] = rng.uniform(1, 2 + frame.rep)
    frame["arm"] = rng.choice(["a", "b"], B * N)
    frame["y"] = frame.x / (1 + frame.rep) + rng.normal(size=(B, 8))[frame.rep, frame.unit]
    frame["y"] += rng.normal(size=B * N)
    return frame.sample(frac=1, random_state=1).reset_index(drop=True)


def close(a, b):
    np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), ESTIMATE, ESTIMATE)


@pytest.mark.slow
@pytest.mark.parametrize("term", LEARNING)
@pytest.mark.filterwarnings("ignore::jaxhlm.errors.SingularFitWarning")
def test_every_route_gives_what_fit_gives(long, term):
    formula = f"y ~ {term} + arm + (1 | unit)"
    fits = hlm.fit_many(formula, long, by="rep")
    few = long.iloc[[5, 3, 9, 70]]
    predicted = fits.predict(few, se=True)
    means = fits.emmeans("arm")
    at = fits.emmeans("arm", at={"x": [1.5]})
    tests = fits.anova().table["F value"]
    for i in range(B):
        rows = long[long.rep == i]
        one = hlm.fit(formula, rows)
        close(fits.fixef.iloc[i], one.fixef)
        close(fits.sigma.iloc[i], one.sigma)
        close(fits[i].fixef, one.fixef)
        close(predicted.loc[i], one.predict(few, se=True))
        close(fits[i].predict(few), one.predict(few))
        close(means[means.iloc[:, 0] == i].emmean, one.emmeans("arm").emmean)
        close(at[at.iloc[:, 0] == i].emmean, one.emmeans("arm", at={"x": [1.5]}).emmean)
        close(tests.loc[i], one.anova().table["F value"])
        # One row alone is predicted as among others.
        close(one.predict(few.iloc[[2]]), one.predict(few).iloc[[2]])
        close(one.predict(rows), one.fitted)


@pytest.mark.parametrize(
    "right",
    ["center(x) * arm", "poly(x, 2) * arm", "arm + x + scale(x):arm", "poly(x, 2) + x + arm"],
)
@pytest.mark.filterwarnings("ignore::jaxhlm.errors.RankDeficientWarning")
@pytest.mark.filterwarnings("ignore::jaxhlm.errors.SingularFitWarning")
def test_what_depends_on_others_does_so_in_each_data_set_by_itself(long, right):
    """Contrasts of the terms, and which rows and means are estimable, follow what it learned."""
    formula, few = f"y ~ {right} + (1 | unit)", long.head(4)
    bad = long[long.rep == 2].assign(rep=B, y=1.0)
    with pytest.warns(hlm.errors.ConvergenceWarning):
        fits = hlm.fit_many(formula, pd.concat([long, bad]), by="rep")
    tables = {kind: fits.anova(type=kind).table for kind in ("III", "II")} | {
        "drop1": fits.drop1().table
    }
    predicted, means, joint = fits.predict(few), fits.emmeans("arm"), fits.joint_tests()
    for i in range(B):
        one = hlm.fit(formula, long[long.rep == i])
        alone = {kind: one.anova(type=kind).table for kind in ("III", "II")} | {
            "drop1": one.drop1().table
        }
        for kind, table in tables.items():
            close(table.loc[i, "F value"], alone[kind]["F value"])
        close(predicted.loc[i], one.predict(few))
        close(means[means.iloc[:, 0] == i].emmean, one.emmeans("arm").emmean)
        close(joint[joint.iloc[:, 0] == i].statistic, one.joint_tests().statistic)
    assert tables["III"].loc[B, "F value"].isna().all()
    assert np.isfinite(predicted.loc[:2]).all(axis=None)


@pytest.mark.parametrize("left", ["scale(y)", "center(y)", "I(y / np.std(y))", "y - np.mean(y)"])
@pytest.mark.parametrize("random", ["(1 | unit)", "(0 + scale(x) | unit)", "(center(x) || unit)"])
@pytest.mark.filterwarnings("ignore::jaxhlm.errors.SingularFitWarning")
def test_left_sides_and_random_terms(long, left, random):
    formula = f"{left} ~ x + {random}"
    fits, some = (
        hlm.fit_many(formula, long, by="rep"),
        hlm.fit_many(formula, long[long.rep < 2], by="rep"),
    )
    few = long.head(6)
    for i in range(B):
        one = hlm.fit(formula, long[long.rep == i])
        close(fits.fixef.iloc[i], one.fixef)
        close(fits.varcorr.sd.iloc[i], one.varcorr.sd)
        close(fits.predict(few).loc[i], one.predict(few))
    close(fits.fixef.iloc[:2], some.fixef)


def test_a_data_set_that_cannot_learn_harms_no_other(long):
    bad = long.assign(x=long.x.where(long.rep != 1, 2.0))
    with pytest.warns(hlm.errors.ConvergenceWarning):
        fits = hlm.fit_many("y ~ scale(x) + (1 | unit)", bad, by="rep")
    assert fits.ok.tolist() == [True, False, True]
    one = hlm.fit("y ~ scale(x) + (1 | unit)", long[long.rep == 2])
    close(fits.fixef.iloc[2], one.fixef)


PARAMETRISATIONS = [
    "x",
    "center(x)",
    "scale(x)",
    "poly(x, 1)",
    "standardize(x)",
    "I(x - np.max(x))",
]


@pytest.fixture(scope="module")
def pilot(long):
    return long[long.rep == 0].drop(columns="rep")


@pytest.mark.slow
def test_a_truth_takes_along_what_its_fit_learned(pilot):
    longer = hlm.extend(pilot.drop(columns="y"), within="unit", n=12).assign(x=lambda d: d.x + 5)
    powers, means = [], []
    for term in PARAMETRISATIONS:
        formula = f"y ~ {term} * arm + (1 | unit)"
        fit = hlm.fit(formula, pilot)
        mech = hlm.mechanism(formula, longer, hlm.Truth.from_fit(fit, sigma=3.0))
        mean = mech.template.X @ mech.truth.fixed(mech.terms)
        close(mean, fit.predict(longer, ranef=False))
        powers += [
            hlm.power(m, m.terms[-1], n=4, seed=1).analytic
            for m in (mech, varied(mech, "units", 16))
        ]
        drawn = mech.draw(0, 2, seed=4)
        again = drawn.fit()
        design = again[0].design
        close(design.X @ mech.truth.fixed(mech.terms), mean)
        means.append(mean)
    close(powers, powers[:2] * len(PARAMETRISATIONS))
    close(means, [means[0]] * len(means))


def test_redrawn_designs_take_it_too(pilot):
    fit = hlm.fit("y ~ center(x) + (1 | unit)", pilot)
    units = hlm.units(6, 4, {"x": stats.norm(0, 1)}, redraw=["x"])
    mech = hlm.mechanism("y ~ center(x) + (1 | unit)", units, hlm.Truth.from_fit(fit))
    drawn = mech.draw(0, 2, seed=1)
    frame = drawn.frame()
    mean = frame.x.mean() - pilot.x.mean()
    close(
        drawn.fit()[0].design.X[:, 1].mean(), frame[frame.replicate == 0].x.mean() - pilot.x.mean()
    )
    assert abs(mean) > 1e-3
    with pytest.raises(hlm.errors.FormulaError, match="learns from the rows"):
        hlm.mechanism("y ~ center(x) + (1 | unit)", units, hlm.Truth.of([0, 1], [1.0]))


def test_a_design_that_learned_otherwise_is_refused(pilot):
    fit = hlm.fit("y ~ scale(x) + (1 | unit)", pilot)
    other = hlm.design("~ scale(x) + (1 | unit)", pilot.assign(x=pilot.x * 2))
    with pytest.raises(hlm.errors.OptionError, match="mechanism"):
        hlm.simulate(other, hlm.Truth.from_fit(fit))
    hlm.simulate(fit.design, hlm.Truth.from_fit(fit))


@pytest.mark.parametrize("term", REFUSED)
def test_what_cannot_be_applied_again_is_refused(pilot, term):
    for formula in (f"y ~ {term} + (1 | unit)", f"{term} ~ z + (1 | unit)", f"y ~ ({term} | unit)"):
        with pytest.raises(hlm.errors.FormulaError, match=REFUSED[term]):
            hlm.fit(formula, pilot)


def test_resampling_and_deletion_keep_what_was_learned(pilot):
    plain, scaled = (hlm.fit(f"y ~ {t} + (1 | unit)", pilot) for t in ("x", "scale(x)"))
    slope = pilot.x.std()
    a, b = (hlm.bootstrap(f, 20, seed=1, method="cases") for f in (plain, scaled))
    close(a.fits.fixef["x"] * slope, b.fits.fixef["scale(x)"])
    a, b = (f.influence() for f in (plain, scaled))
    close(a.cooks_distance, b.cooks_distance)


def test_contrasts_of_other_levels_are_refused(pilot):
    rng = np.random.default_rng(2)
    three = pilot.assign(k=rng.choice(list("abc"), len(pilot)))
    fit = hlm.fit("y ~ C(k, contr.sum) + (1 | unit)", three)
    truth = hlm.Truth.from_fit(fit)
    other = three.assign(k=three.k.replace("c", "d"))
    with pytest.raises(hlm.errors.OptionError, match="levels of C"):
        hlm.mechanism("y ~ C(k, contr.sum) + (1 | unit)", other, truth)
    hlm.mechanism("y ~ C(k, contr.sum) + (1 | unit)", three, truth)


@pytest.mark.parametrize("term", ["scale(x)", "I(x - np.mean(x))", "poly(x, 2)"])
def test_responses_that_miss_rows_would_learn_otherwise(pilot, term):
    Y = np.column_stack([pilot.y, pilot.y.where(pilot.x > pilot.x.min())])
    with pytest.raises(hlm.errors.FormulaError, match="some responses miss some"):
        hlm.fit_many(f"~ {term} + (1 | unit)", pilot, Y)
    fits = hlm.fit_many(f"~ {term} + (1 | unit)", pilot, Y[:, :1])
    close(fits.fixef.iloc[0], hlm.fit(f"y ~ {term} + (1 | unit)", pilot).fixef)


def test_truths_of_a_distribution_take_it_along(pilot):
    formula = "y ~ center(x) + (1 | unit)"
    fit = hlm.fit(formula, pilot)
    moved = pilot.drop(columns="y").assign(x=pilot.x + 5)
    mech = hlm.mechanism(formula, moved, hlm.TruthDistribution.from_fit(fit))
    close(mech.template.X[:, 1], moved.x - pilot.x.mean())
    close(varied(mech, "units", 4).template.X[:, 1].max(), mech.template.X[:, 1].max())
