"""What a rank-deficient X does not determine is NaN or an error, whichever column was dropped."""

from functools import cache
from itertools import permutations

import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
import tolerances as tol
from jaxhlm import errors
from jaxhlm.design.design import build_design
from jaxhlm.design.estimable import ROW_TOL, determined, estimable

pytestmark = pytest.mark.filterwarnings(
    "ignore::jaxhlm.errors.RankDeficientWarning", "ignore::jaxhlm.errors.SingularFitWarning"
)
ARMS, TIMES = ("x", "y", "z"), ("t0", "t1", "t2")
CELLS = [(arm, time) for time in TIMES for arm in ARMS]
FORMULA = "y ~ arm * time + (1 | id)"
# emmeans 1.8 of lme4 1.1 (Satterthwaite) on `trial()`: means, and p values of all pairs for a
# family of 9 means and 36 tests, the cell that was never seen included. Holm's are emmeans' own;
# Tukey's are R's ptukey at its statistics and df (emmeans takes the df as 40 there, not 40.145).
MEANS = (0.426, 1.480, -0.549, 0.591, 1.534, 0.104, 0.991, 2.506)
TUKEY = {
    "x t0 - y t2": 0.12343400524922,
    "y t0 - z t0": 0.14340285173842,
    "z t0 - y t2": 0.00372812412119,
    "z t1 - y t2": 0.04381179469129,
    "x t2 - y t2": 0.48758458630071,
}
HOLM = {
    "x t0 - y t2": 0.211870344009,
    "y t0 - z t0": 0.242222802066,
    "z t0 - y t2": 0.004660187461,
    "z t1 - y t2": 0.065444457273,
    "x t2 - y t2": 1.0,
}


@cache
def trial():
    """Three arms at three times; arm z was never seen at t2."""
    r = np.random.default_rng(4)
    d = pd.DataFrame(
        [(i, ARMS[i % 3], t) for i in range(30) for t in TIMES], columns=["id", "arm", "time"]
    )
    d["y"] = r.normal(size=30)[d["id"]] + (d["arm"] == "y") * 2 + (d["time"] == "t2")
    d["y"] += r.normal(size=len(d))
    return d[~((d["arm"] == "z") & (d["time"] == "t2"))]


@cache
def fitted(arms=ARMS, times=TIMES):
    d = trial()
    return hlm.fit(
        FORMULA, d.assign(arm=pd.Categorical(d["arm"], arms), time=pd.Categorical(d["time"], times))
    )


NEW = pd.DataFrame(CELLS, columns=["arm", "time"]).assign(id=-1)
LOST = [False] * 8 + [True]


@pytest.mark.parametrize("options", [{}, {"interval": "prediction"}, {"ranef": False, "se": True}])
def test_predictions_do_not_depend_on_the_order_of_levels(options):
    found = []
    for arms in permutations(ARMS):
        fit = fitted(arms, TIMES[::-1] if arms[0] == "z" else TIMES)
        with pytest.warns(errors.NotEstimableWarning, match=r"1 of 9 row\(s\).*\(8\).*are NaN"):
            found.append(pd.DataFrame(fit.predict(NEW, **options)))
    for table in found:
        assert table.isna().all(axis=1).tolist() == LOST
        assert table.isna().any(axis=1).tolist() == LOST
        np.testing.assert_allclose(table, found[0], rtol=tol.ESTIMATE, atol=tol.ESTIMATE)
    np.testing.assert_allclose(found[0]["predicted"][:8], MEANS, atol=tol.printed(3))


def test_an_option_makes_it_an_error():
    fit = fitted()
    with pytest.raises(errors.NotEstimableError, match=r'1 of 9 .*not_estimable="nan"'):
        fit.predict(NEW, not_estimable="error")
    assert fit.predict(NEW[:8], not_estimable="error").notna().all()
    for call in (fit.predict, lambda **o: fit.emmeans("arm", **o)):
        with pytest.raises(errors.OptionError, match="not_estimable='drop'"):
            call(not_estimable="drop")


def test_a_missing_value_is_not_counted():
    new = NEW.astype({"arm": object})
    new.loc[0, "arm"] = None
    with pytest.warns(errors.NotEstimableWarning, match="1 of 9"):
        assert fitted().predict(new).isna().tolist() == [True, *LOST[1:]]


def test_fitted_rows_are_estimable():
    fit = fitted()
    d = trial()
    pd.testing.assert_series_equal(
        fit.predict(d), fit.fitted.rename("predicted"), rtol=tol.ESTIMATE
    )
    assert fit.augment().notna().all(axis=None)


def test_covariates_that_depend_on_each_other():
    """At new values the two effects would be needed apart."""
    d = hlm.load_dataset("sleepstudy")
    d = d.assign(fahrenheit=32 + 1.8 * d["Days"], ms=1.7e12 + 86_400_000 * d["Days"])
    new = d.head(10).copy()
    for formula, bent in (("Days + fahrenheit", "fahrenheit"), ("fahrenheit + Days", "Days")):
        fit = hlm.fit(f"Reaction ~ {formula} + (1 | Subject)", d)
        off = new.assign(**{bent: new[bent] + np.r_[np.zeros(9), 1e-3]})
        with pytest.warns(errors.NotEstimableWarning, match="1 of 10"):
            assert fit.predict(off).isna().tolist() == [False] * 9 + [True]
        plain = hlm.fit("Reaction ~ Days + (1 | Subject)", d).predict(new)
        np.testing.assert_allclose(fit.predict(new), plain, rtol=tol.ESTIMATE)
    # Read in single precision, the columns depend on each other to 6e-8 only.
    single = d.astype({"Days": "float32"})
    single["fahrenheit"] = (32 + np.float32(1.8) * single["Days"]).astype("float32")
    fit = hlm.fit("Reaction ~ Days + fahrenheit + (1 | Subject)", single)
    assert fit.design.dropped_columns == ("fahrenheit",)
    assert fit.predict(single).notna().all()


def test_large_columns_do_not_hide_small_ones():
    d = trial()
    d = d.assign(income=5e9 + 1e9 * np.random.default_rng(1).normal(size=len(d)))
    fit = hlm.fit("y ~ income + arm * time + (1 | id)", d)
    with pytest.warns(errors.NotEstimableWarning, match="1 of 9"):
        assert fit.predict(NEW.assign(income=5e9)).isna().tolist() == LOST


def batches():
    """The same fit among others: many responses, with a gap too, and replicates in one frame."""
    d = trial()
    Y = np.column_stack([d["y"], d["y"][::-1], d["y"]])
    Y[5, 1] = np.nan
    many = hlm.fit_many(FORMULA, d, responses=Y, progress=False)
    long = pd.concat([d, d.assign(y=-d["y"])]).assign(r=np.repeat([0, 1], len(d)))
    return {"responses": many, "replicates": hlm.fit_many(FORMULA, long, by="r", progress=False)}


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.NotEstimableWarning")
@pytest.mark.parametrize("kind", ["responses", "replicates"])
def test_a_batch_answers_alike(kind):
    fits, alone = batches()[kind], fitted()
    for options in ({}, {"interval": "confidence"}):
        table = pd.DataFrame(fits.predict(NEW, **options))
        assert table.isna().any(axis=1).tolist() == LOST * len(fits)
        one = pd.DataFrame(alone.predict(NEW, **options))
        np.testing.assert_allclose(table[:9], one, rtol=tol.BATCH, atol=tol.BATCH)
        own = pd.DataFrame(fits[0].predict(NEW, **options))
        np.testing.assert_allclose(own, one, rtol=tol.BATCH, atol=tol.BATCH)
    for pairwise in (False, True):
        table = fits.emmeans(["arm", "time"], pairwise=pairwise)
        one = alone.emmeans(["arm", "time"], pairwise=pairwise)
        first = table[: len(one)].drop(columns=table.columns[0])
        pd.testing.assert_frame_equal(first, one, rtol=tol.ESTIMATE)
        assert table["estimable"].sum() == len(fits) * one["estimable"].sum()
    with pytest.raises(errors.NotEstimableError):
        fits.predict(NEW, not_estimable="error")
    with pytest.raises(errors.NotEstimableError):
        fits.emmeans(["arm", "time"], not_estimable="error")


def test_marginal_means_as_in_r():
    fit = fitted()
    with pytest.warns(errors.NotEstimableWarning, match=r"1 of 9 marginal means.*\(z t2\)"):
        table = fit.emmeans(["arm", "time"])
    np.testing.assert_allclose(table["emmean"], [*MEANS, np.nan], atol=tol.printed(3))
    assert table["estimable"].tolist() == [True] * 8 + [False]
    assert table.loc[8, ["std_error", "df", "conf_low", "conf_high"]].isna().all()
    with pytest.warns(errors.NotEstimableWarning, match="8 of 36 differences"):
        pairs = fit.emmeans(["arm", "time"], pairwise=True).set_index("contrast")
    lost = [name for name in pairs.index if "z t2" in name]
    assert pairs.index[~pairs["estimable"]].tolist() == lost
    assert pairs.loc[lost].drop(columns="estimable").isna().all(axis=None)
    for column, expected in (("p_tukey", TUKEY), ("p_holm", HOLM)):
        found = pairs.loc[list(expected), column]
        np.testing.assert_allclose(found, list(expected.values()), rtol=tol.R_P)


def test_a_difference_may_be_estimable_where_no_mean_is():
    """Both arms lack t2: their means are unknown, the difference is not, if there is no product."""
    d = trial().assign(site=lambda d: np.where(d["time"] == "t2", "b", "a"))
    fit = hlm.fit("y ~ arm + time + site + (1 | id)", d)
    with pytest.warns(errors.NotEstimableWarning, match="3 of 3"):
        means = fit.emmeans("arm")
    assert not means["estimable"].any()
    pairs = fit.emmeans("arm", pairwise=True)
    assert pairs["estimable"].all()
    plain = hlm.fit("y ~ arm + time + (1 | id)", d).emmeans("arm", pairwise=True)
    np.testing.assert_allclose(pairs["p_tukey"], plain["p_tukey"], rtol=tol.ESTIMATE)


def test_full_rank_tables_have_no_such_column():
    d = trial()
    fit = hlm.fit("y ~ arm + time + (1 | id)", d)
    assert "estimable" not in fit.emmeans("arm")


def test_redrawn_designs_that_need_what_the_first_did_not_show():
    """A column that the first design lost would be simulated as if its effect were zero."""
    states = iter([0.0] * 3 + [1.0] * 50)

    def second(rng, n):
        return np.full(n, next(states)) * rng.normal(size=n)

    design = hlm.units(8, 3, between={"a": lambda rng, n: rng.normal(size=n), "b": second},
                       redraw=True)  # fmt: skip
    made = hlm.mechanism("y ~ a + b + (1 | unit)", design, hlm.Truth.of([1, 2], [1.0]))
    assert made.template.dropped_columns == ("b",)
    with pytest.raises(errors.NotEstimableError, match="rows of redrawn designs"):
        made.draw(0, 4, seed=1).fit()


# A batch in which one data set has no row of a level.


@pytest.fixture(scope="module")
def some_without_a_level():
    rng = np.random.default_rng(4)
    d = pd.DataFrame({"rep": np.repeat(np.arange(6), 40), "g": np.tile(np.arange(10), 24)})
    d["k"] = np.array(list("abc"))[rng.integers(0, 3, len(d))]
    d.loc[(d["rep"] == 4) & (d["k"] == "c"), "k"] = "b"
    d.loc[(d["rep"] == 5) & (d["k"] == "a"), "k"] = "b"
    d["x"], effects = rng.normal(size=len(d)), rng.normal(size=(6, 10))
    d["y"] = d["x"] + effects[d["rep"], d["g"]] + rng.normal(size=len(d))
    lacking = pytest.warns(errors.RankDeficientWarning, match="1 of 6 data sets .* 'kc'")
    with lacking, pytest.warns(errors.ConvergenceWarning, match="1 rank_deficient"):
        fits = hlm.fit_many("y ~ x * k + (1 | g)", d, by="rep", progress=False)
    return d, fits


def test_it_lacks_that_coefficient_and_is_else_as_alone(some_without_a_level):
    d, fits = some_without_a_level
    assert fits.status.tolist()[5] == hlm.Status.RANK_DEFICIENT
    assert fits.ok[:5].all() and "Without some coefficient" in str(fits)
    lost = fits.fixef.isna()
    assert lost.loc[4][lost.loc[4]].index.tolist() == ["kc", "x:kc"] and not lost.loc[:3].any(
        axis=None
    )
    alone = hlm.fit("y ~ x * k + (1 | g)", d[d["rep"] == 4])
    table = fits.tidy("kenward-roger")
    table = table[(table["rep"] == 4) & table["estimate"].notna()]
    expected = alone.tidy("kenward-roger")
    for column in ("estimate", "std_error", "df", "p_value"):
        np.testing.assert_allclose(table[column], expected[column], rtol=tol.ESTIMATE)
    assert fits.glance().loc[4, "df_residual"] == alone.glance()["df_residual"].item()
    assert np.isfinite(fits.summary()["mean SE"][:6]).all()
    assert fits.verify().beta < tol.LOSSY


def test_what_is_about_it_is_not_estimable(some_without_a_level):
    _, fits = some_without_a_level
    with pytest.warns(
        errors.NotEstimableWarning,
        match="in 1 of 6 fits, first 4.*no row of these data sets has what",
    ):
        found = fits.contrast("kc - kb = 0")["estimate"]
    assert found.isna().tolist() == [False] * 4 + [True] * 2
    assert found.notna().sum() == fits.contrast("x:kb = 0")["estimate"].notna().sum() - 1
    for df in ("satterthwaite", "residual"):
        with pytest.warns(errors.NotEstimableWarning):
            test = fits.joint_test(["kb", "kc"], df)
        assert test["p_value"].isna().tolist() == [False] * 4 + [True] * 2
    with pytest.warns(errors.NotEstimableWarning):
        means = fits.emmeans("k")
    assert means["emmean"].isna().tolist() == [False] * 14 + [True] * 4
    assert means["estimable"].tolist() == [True] * 14 + [False] * 4
    with pytest.raises(errors.NotEstimableError, match="fits, first 4"):
        fits.emmeans("k", not_estimable="error")
    new = pd.DataFrame({"x": [0.0, 1.0], "k": ["c", "b"], "g": [1, 1]})
    with pytest.warns(errors.NotEstimableWarning):
        predicted = fits.predict(new, interval="confidence").loc[4]
    assert predicted.isna().all(axis=1).tolist() == [True, False]
    limits = fits.confint("profile").query("rep == 4").set_index("term")
    assert limits.loc[["kc", "x:kc"], "2.5 %"].isna().all() and np.isfinite(
        limits.loc["kb"].iloc[1]
    )


def test_comparisons_count_what_each_data_set_has(some_without_a_level):
    d, fits = some_without_a_level
    less = hlm.fit_many("y ~ x + (1 | g)", d, by="rep", progress=False)
    table = fits.anova(less).table
    assert table["df"].tolist()[:5] == [4, 4, 4, 4, 2]
    own = d[d["rep"] == 4]
    alone = hlm.fit("y ~ x * k + (1 | g)", own).anova(hlm.fit("y ~ x + (1 | g)", own)).table
    np.testing.assert_allclose(
        table.loc[4, "p_value"], alone["Pr(>Chisq)"].iloc[1], rtol=tol.ESTIMATE
    )


# The pieces.


def test_membership_of_the_row_space_from_its_definition():
    rng = np.random.default_rng(2)
    B = rng.normal(size=(40, 3))
    X = np.column_stack([B, B @ [1.0, -2.0, 0.5], 1e6 * B[:, 0] + 1e-3 * B[:, 1]])
    d = pd.DataFrame(X, columns=list("abcde")).assign(g=np.arange(40) % 8, y=rng.normal(size=40))
    alias = build_design("y ~ 0 + a + b + c + d + e + (1 | g)", d)._alias
    np.testing.assert_allclose(alias.T, [[1.0, -2.0, 0.5], [1e6, 1e-3, 0.0]], atol=tol.RELATION)
    inside = rng.normal(size=(20, 40)) @ X
    assert estimable(inside[:, :3], inside[:, 3:], alias, ROW_TOL).all()
    outside = inside + np.r_[0.0, 0.0, 0.0, 1e-3, 0.0]
    assert not estimable(outside[:, :3], outside[:, 3:], alias, ROW_TOL).any()


def test_full_rank_rows_pass_untouched():
    X = np.array([[1.0, np.nan], [1.0, 2.0]])
    assert determined(X, X[:, :0], np.zeros((2, 0)), "ab", "rows are", "error") is X
