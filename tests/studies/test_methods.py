"""Methods on the same data sets, against least squares written out and the accessors of fits."""

import re
from functools import partial

import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
import tolerances as tol
from cases import FORMULA, TRUTH
from jaxhlm.core.status import Status
from jaxhlm.errors import (
    ConvergenceWarning,
    DegenerateWarning,
    JaxhlmError,
    OptionError,
    UnsupportedTermError,
    failures_counted,
)
from jaxhlm.studies.method import check_methods, method_estimates
from jaxhlm.violations import MissingCompletely

SIZES = (5, 3, 8, 4, 6, 2, 7, 1, 5, 6)
B = 8


@pytest.fixture(scope="module")
def frame():
    """Unbalanced, and one unit with a single row, which has no line of its own."""
    rng = np.random.default_rng(5)
    unit = np.repeat(np.arange(len(SIZES)), SIZES)
    return pd.DataFrame({"unit": unit, "x": rng.normal(size=len(unit)), "a": (unit % 5) - 1.3})


@pytest.fixture(scope="module")
def drawn(frame):
    return hlm.mechanism(FORMULA, frame, TRUTH).draw(0, B, seed=1, rows=True)


def one(drawn, *methods):
    return method_estimates(check_methods(methods), drawn)


def data_sets(drawn):
    for _, rows in drawn.frame().groupby("replicate"):
        X = np.column_stack([np.ones(len(rows)), rows.x, rows.a, rows.x * rows.a])
        yield rows, X, rows.y.to_numpy()


def columns(table, *names):
    return [table[name].to_numpy().reshape(B, -1) for name in names]


def test_pooled_least_squares(drawn):
    table = one(drawn, hlm.Method("ols", estimator="ols"))
    estimate, se, df = columns(table, "estimate", "std_error", "df")
    for i, (_, X, y) in enumerate(data_sets(drawn)):
        beta, rss = np.linalg.lstsq(X, y, rcond=None)[:2]
        nu = len(y) - 4
        np.testing.assert_allclose(estimate[i], beta, rtol=tol.ESTIMATE)
        errors = np.sqrt(rss / nu * np.diag(np.linalg.inv(X.T @ X)))
        np.testing.assert_allclose(se[i], errors, rtol=tol.ESTIMATE)
        assert (df[i] == nu).all()
    assert (table["status"] == "converged").all()


def test_pooled_least_squares_needs_no_random_part(drawn):
    """Also of a random part that least squares does not see."""
    plain = one(drawn, hlm.Method("ols", "y ~ x + a", estimator="ols", robust="CR1"))
    barred = one(drawn, hlm.Method("ols", "y ~ x + a + (1 + x | unit)", estimator="ols",
                                   robust="CR1"))  # fmt: skip
    for column in ("estimate", "std_error", "df"):
        np.testing.assert_allclose(plain[column], barred[column], rtol=tol.ESTIMATE)


@pytest.mark.parametrize("kind", ["CR0", "CR1", "CR2"])
def test_pooled_least_squares_with_robust_errors(drawn, kind):
    """The sandwich over units with V = I, and A_i = (I − H_ii)^(−1/2) for CR2."""
    table = one(drawn, hlm.Method("ols", estimator="ols", robust=kind, df="normal"))
    (se,) = columns(table, "std_error")
    for i, (rows, X, y) in enumerate(data_sets(drawn)):
        bread = np.linalg.inv(X.T @ X)
        residual = y - X @ bread @ X.T @ y
        meat, G = np.zeros((4, 4)), len(SIZES)
        for _, at in rows.reset_index(drop=True).groupby("unit").indices.items():
            A = np.eye(len(at))
            if kind == "CR2":
                value, vectors = np.linalg.eigh(A - X[at] @ bread @ X[at].T)
                A = vectors / np.sqrt(value) @ vectors.T
            score = X[at].T @ A @ residual[at]
            meat += np.outer(score, score)
        V = bread @ meat @ bread * (G / (G - 1) if kind == "CR1" else 1.0)
        np.testing.assert_allclose(se[i], np.sqrt(np.diag(V)), rtol=tol.ESTIMATE)


def test_two_stages(drawn):
    """Lines unit by unit, then least squares of their coefficients on a; units with one row out."""
    table = one(drawn, hlm.Method("two", estimator="two_stage"))
    estimate, se, df = columns(table, "estimate", "std_error", "df")
    for i, (rows, _, _) in enumerate(data_sets(drawn)):
        known = [u for _, u in rows.groupby("unit") if len(u) > 1]
        lines = np.array([np.polyfit(u.x, u.y, 1)[::-1] for u in known])
        A = np.column_stack([np.ones(len(known)), [u.a.iloc[0] for u in known]])
        for k, terms in enumerate(([0, 2], [1, 3])):
            beta, rss = np.linalg.lstsq(A, lines[:, k], rcond=None)[:2]
            nu = len(known) - 2
            np.testing.assert_allclose(estimate[i, terms], beta, rtol=tol.ESTIMATE)
            errors = np.sqrt(rss / nu * np.diag(np.linalg.inv(A.T @ A)))
            np.testing.assert_allclose(se[i, terms], errors, rtol=tol.ESTIMATE)
            assert (df[i] == nu).all()


def test_two_stages_average_lines_without_covariates_of_units(frame):
    truth = hlm.Truth.of([1, 3], sd=[0.2, 0.5], sigma=0.75)
    m = hlm.mechanism("y ~ x + (1 + x | unit)", frame, truth)
    table = one(m.draw(0, B, seed=1, rows=True), hlm.Method("two", estimator="two_stage"))
    assert (table["df"] == sum(n > 1 for n in SIZES) - 1).all()


def test_in_balanced_designs_both_stages_are_reml():
    """Equal designs in all units: the mixed model's estimate is the two-stage one."""
    m = hlm.mechanism(FORMULA, hlm.load_dataset("article"), TRUTH)
    table = one(m.draw(0, B, seed=1, rows=True), hlm.Method("two", estimator="two_stage"),
                hlm.Method("kr", df="kenward-roger"))  # fmt: skip
    two, kr = (table[table["method"] == name] for name in ("two", "kr"))
    np.testing.assert_allclose(two["estimate"], kr["estimate"], rtol=tol.ESTIMATE)
    regular = (kr["status"] == "converged").to_numpy()
    assert regular.sum() > 4 * B // 2
    np.testing.assert_allclose(
        two["std_error"][regular], kr["std_error"][regular], rtol=tol.ESTIMATE
    )


def test_a_within_unit_term_must_be_in_the_line(frame):
    truth = hlm.Truth.of([1, 3], sd=[0.2], sigma=0.75)
    m = hlm.mechanism("y ~ x + (1 | unit)", frame, truth)
    message = r"and x varies within units without being part of it; .* as in \(1 \+ x \| unit\)"
    with pytest.raises(UnsupportedTermError, match=message):
        one(m.draw(0, 2, seed=1, rows=True), hlm.Method("two", estimator="two_stage"))
    m = hlm.mechanism(FORMULA.replace("1 + x", "0 + a"), frame, hlm.Truth(TRUTH.beta, [[0.1]], 1.0))
    with pytest.raises(UnsupportedTermError, match=r"x, x:a vary .* \(0 \+ a \+ x \| unit\)"):
        one(m.draw(0, 2, seed=1, rows=True), hlm.Method("two", estimator="two_stage"))


def test_two_stages_advise_a_formula_that_can_be_written():
    """Names that need backticks have them, and following the advice works."""
    made = hlm.units(8, within={"x 1": [0, 1, 2]}, unit="the unit")
    truth = hlm.Truth.of([0, 0.5], sd=[1.0], sigma=1.0)
    drawn = hlm.mechanism("y ~ `x 1` + (1 | `the unit`)", made, truth).draw(0, 2, seed=1)
    line = "(1 + `x 1` | `the unit`)"
    with pytest.raises(UnsupportedTermError, match=f"as in {re.escape(line)}$"):
        one(drawn, hlm.Method("two", estimator="two_stage"))
    table = counted(drawn, hlm.Method("two", f"y ~ `x 1` + {line}", estimator="two_stage"))
    assert (table["status"] == "converged").all()


def test_two_stages_advise_the_variable_of_a_factor_not_its_columns(frame):
    frame = frame.assign(g=np.resize(list("pqr"), len(frame)))
    truth = hlm.Truth.of([1, 3, 0.2, -0.2], sd=[0.2, 0.5], sigma=0.75)
    drawn = hlm.mechanism("y ~ x + g + (1 + x | unit)", frame, truth).draw(0, 2, seed=1, rows=True)
    with pytest.raises(UnsupportedTermError, match=r"and g varies .*\(1 \+ x \+ g \| unit\)$"):
        one(drawn, hlm.Method("two", estimator="two_stage"))
    advised = hlm.Method("two", "y ~ x + g + (1 + x + g | unit)", estimator="two_stage")
    assert (counted(drawn, advised)["status"] == "converged").all()


def test_columns_are_those_of_the_fits(drawn):
    methods = [hlm.Method("t"), hlm.Method("kr", df="kenward-roger"), hlm.Method("ml", reml=False),
               hlm.Method("robust", robust="CR2")]  # fmt: skip
    table = one(drawn, *methods)
    fits, ml = drawn.fit(), drawn.fit(reml=False)
    for name, batch, df in (("t", fits, "satterthwaite"), ("kr", fits, "kenward-roger"),
                            ("ml", ml, "satterthwaite")):  # fmt: skip
        part = table[table["method"] == name]
        tidy = batch.tidy(df=df)
        tidy = tidy[tidy["effect"] == "fixed"]
        for column in ("estimate", "std_error", "df", "p_value", "conf_low", "conf_high"):
            np.testing.assert_allclose(part[column], tidy[column], rtol=tol.SUMMED, err_msg=column)
    part, tidy = table[table["method"] == "robust"], fits.tidy_robust("CR2")
    for column in ("estimate", "std_error", "df", "p_value", "conf_low", "conf_high"):
        np.testing.assert_allclose(part[column], tidy[column], rtol=tol.SUMMED, err_msg=column)
    assert list(table["term"][:4]) == ["(Intercept)", "x", "a", "x:a"]
    assert (table["truth"].to_numpy().reshape(-1, 4) == TRUTH.beta).all()


def test_variances_are_those_of_the_fits(drawn):
    """With the truth by name, no test, and measures that stop a study for what they have."""
    table = one(drawn, hlm.Method("with", variances=True), hlm.Method("without"))
    own = table[table["method"] == "with"]
    fits = drawn.fit()
    terms = ["sd__(Intercept)", "sd__x", "cor__(Intercept).x", "sigma"]
    rows = own[own["term"].isin(terms)]
    values = rows["estimate"].to_numpy().reshape(B, 4)
    np.testing.assert_allclose(values[:, 1], np.sqrt(fits.varcorr.cov[:, 1, 1]), rtol=tol.ESTIMATE)
    np.testing.assert_allclose(values[:, 3], fits.sigma, rtol=tol.ESTIMATE)
    assert rows["term"].tolist() == terms * B
    np.testing.assert_allclose(rows["truth"].to_numpy()[:4], [0.2, 0.5, 0.9, 0.75])
    assert rows[["std_error", "df", "p_value", "conf_low", "conf_high"]].isna().all(axis=None)
    fixed = own[~own["term"].isin(terms)].drop(columns="method").reset_index(drop=True)
    plain = table[table["method"] == "without"].drop(columns="method").reset_index(drop=True)
    pd.testing.assert_frame_equal(fixed, plain)
    known = table[table["term"] != "cor__(Intercept).x"]
    assert hlm.stopping(hlm.measures(known, by=["method", "term"]), {"coverage": 1.0, "bias": 9.0})


def test_variances_of_another_random_part_have_the_truth_that_they_share(drawn):
    table = one(drawn, hlm.Method("intercepts", "y ~ x * a + (1 | unit)", variances=True))
    last = table.iloc[-2:].set_index("term")["truth"]
    assert last.to_dict() == {"sd__(Intercept)": 0.2, "sigma": 0.75}


def test_another_formula_sees_the_same_data(drawn):
    """Terms that the truth has not get no truth; the fit is that of the rows."""
    table = one(drawn, hlm.Method("model 1", "y ~ x + (1 + x | unit)"))
    rows = drawn.frame()
    fit = hlm.fit_many("y ~ x + (1 + x | unit)", rows, by="replicate")
    np.testing.assert_allclose(
        table["estimate"].to_numpy().reshape(B, -1), fit.fixef, rtol=tol.ESTIMATE, atol=tol.ESTIMATE
    )
    quadratic = one(drawn, hlm.Method("q", "y ~ x + I(x**2) + (1 | unit)"))
    assert quadratic[quadratic["term"] == "I(x**2)"]["truth"].isna().all()


def test_failed_fits_are_nan_and_have_a_status():
    m = hlm.mechanism("y ~ 1 + (1 | unit)", pd.DataFrame({"unit": [1, 1, 2, 2]}),
                      hlm.Truth([0.0], [[1.0]], 0.0))  # fmt: skip
    with pytest.warns(ConvergenceWarning):
        table = one(m.draw(0, 4, seed=1, rows=True), hlm.Method("t"))
    failed = ~table["status"].isin(["converged", "singular"])
    numbers = table[["estimate", "std_error", "df", "p_value", "conf_low", "conf_high"]]
    assert failed.any()
    assert numbers[failed].isna().all(axis=None)
    assert (table["truth"] == 0.0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimator": "glm"}, "'lmm', 'ols', 'two_stage'"),
        ({"estimator": "ols", "df": "satterthwaite"}, "'residual', 'normal'"),
        ({"estimator": "two_stage", "robust": "CR2"}, "robust"),
        ({"robust": "CR9"}, "'CR0', 'CR1', 'CR2'"),
        ({"robust": "CR2", "df": "kenward-roger"}, "not defined for robust"),
        ({"reml": False, "df": "kenward-roger"}, "reml=True"),
        ({"reml": "yes"}, "True or False"),
        ({"variances": 1}, "True or False"),
        ({"variances": True, "estimator": "ols"}, "for estimator='lmm'"),
    ],
)
def test_methods_that_cannot_be(options, message):
    with pytest.raises(JaxhlmError, match=message):
        hlm.Method("m", **options)


def test_methods_have_names_of_their_own():
    with pytest.raises(OptionError, match="named alike"):
        check_methods([hlm.Method("a"), hlm.Method("a", df="normal")])
    with pytest.raises(OptionError, match="at least one"):
        check_methods([])


SPARSE = "y ~ t * a + (1 + t | unit)"


@pytest.fixture(scope="module")
def sparse():
    """Few units with few rows: some data sets do not identify Z, and some lack a level of a."""
    made = hlm.units(n=6, within={"t": [0, 1, 2]}, factors={"a": ["c", "d"]})
    truth = hlm.Truth.of([1, 0.5, 0.2, 0.3], sd=[0.7, 0.4], corr=0.3, sigma=0.8)
    m = hlm.mechanism(SPARSE, made, truth, MissingCompletely(0.45))
    return m.draw(0, 40, seed=4, rows=True)


def counted(drawn, *methods):
    """As a study does, which counts what failed."""
    with failures_counted():
        return one(drawn, *methods)


def by_hand(rows):
    X = np.column_stack([np.ones(len(rows)), rows.t, rows.a == "d", rows.t * (rows.a == "d")])
    return X.astype(float), rows.y.to_numpy()


def test_robust_least_squares_is_the_same_for_every_random_part(sparse):
    ols = partial(hlm.Method, "ols", estimator="ols", robust="CR1", df="normal")
    with pytest.warns(DegenerateWarning):
        tables = [counted(sparse, method) for method in (ols(), ols(formula="y ~ t * a"))]
    pd.testing.assert_frame_equal(*tables, rtol=tol.ESTIMATE)


def test_least_squares_asks_nothing_of_the_random_part(sparse):
    """Every data set whose X has full rank has an estimate; another random part changes nothing."""
    mixed = counted(sparse, hlm.Method("lmm"))
    table = counted(sparse, hlm.Method("ols", estimator="ols"))
    other = counted(sparse, hlm.Method("ols", "y ~ t * a", estimator="ols"))
    pd.testing.assert_frame_equal(table, other, rtol=tol.ESTIMATE)
    statuses = set()
    for i, rows in sparse.frame().dropna().groupby("replicate"):
        X, y = by_hand(rows)
        own = table[table.replicate == i]
        if np.linalg.matrix_rank(X) == 4 < len(y):
            beta = np.linalg.lstsq(X, y, rcond=None)[0]
            np.testing.assert_allclose(own["estimate"], beta, rtol=tol.ESTIMATE, atol=tol.ESTIMATE)
            statuses.add(mixed[mixed.replicate == i]["status"].iloc[0])
        else:
            assert own["estimate"].isna().all()
            assert own["status"].isin(["rank_deficient", "no_residual_df"]).all()
    assert "not_identified" in statuses


def test_two_stages_ask_for_lines_only(sparse):
    """Also of data sets by themselves: one that cannot be fitted is one that failed."""
    table = counted(sparse, hlm.Method("two", estimator="two_stage"))
    failed = 0
    for i, rows in sparse.frame().dropna().groupby("replicate"):
        known = [u for _, u in rows.groupby("unit") if len(u) > 1]
        lines = np.array([np.polyfit(u.t, u.y, 1)[::-1] for u in known]).reshape(-1, 2)
        A = np.array([[1.0, u.a.iloc[0] == "d"] for u in known]).reshape(-1, 2)
        own = table[table.replicate == i]
        if len(known) > 2 == np.linalg.matrix_rank(A):
            beta = np.linalg.lstsq(A, lines, rcond=None)[0].T[[0, 1, 0, 1], [0, 0, 1, 1]]
            np.testing.assert_allclose(own["estimate"], beta, rtol=tol.ESTIMATE, atol=tol.ESTIMATE)
            assert (own["df"] == len(known) - 2).all()
        else:
            failed += 1
            assert own["estimate"].isna().all()
            assert own["status"].isin(["rank_deficient", "not_identified"]).all()
            single = sparse.mechanism.draw(i, i + 1, seed=4, rows=True)
            alone = counted(single, hlm.Method("two", estimator="two_stage"))
            assert alone["status"].tolist() == own["status"].tolist()
    assert 0 < failed < 20
    assert {"rank_deficient", "not_identified"} <= set(table["status"])


def test_what_x_and_y_lack_comes_before_what_z_lacks():
    """A constant response is named as such also where one group identifies nothing."""
    data = pd.DataFrame({"unit": [0, 0, 0, 1, 1, 1], "set": 0, "x": [0.0, 1.0, 2.0] * 2})
    more = pd.DataFrame({"unit": [0] * 6, "set": [1] * 3 + [2] * 3, "x": [0.0, 1.0, 2.0] * 2})
    data = pd.concat([data, more], ignore_index=True)
    data["y"] = [1.0, 2.0, 0.5, 0.3, 2.1, 1.7, 3.0, 3.0, 3.0, 1.0, 2.0, 1.0]
    with pytest.warns(ConvergenceWarning):
        fits = hlm.fit_many("y ~ x + (1 | unit)", data, by="set")
    assert fits.status[1:].tolist() == [Status.NOT_FINITE, Status.NOT_IDENTIFIED]
