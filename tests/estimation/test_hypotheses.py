"""Linear hypotheses as they may be written, and what is refused."""

from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxhlm as hlm
import tolerances as tol
from cases import article, frame, sleepstudy
from jaxhlm import errors
from jaxhlm.estimation.hypotheses import Hypothesis, independent_rows, read_hypothesis
from jaxhlm.language.linear import read_rows

TERMS = ("(Intercept)", "x", "a", "x:a", "C(week)[T.2]", "I(x ** 2)")
NONE = np.zeros((len(TERMS), 0))


def read(L, rhs=0.0):
    return read_hypothesis(L, rhs, TERMS, (), NONE)


@pytest.mark.parametrize(
    ("L", "row", "value"),
    [
        ("x:a = 0", [0, 0, 0, 1, 0, 0], 0),
        ("x:a", [0, 0, 0, 1, 0, 0], 0),
        ("x - a = 2", [0, 1, -1, 0, 0, 0], 2),
        ("x = a", [0, 1, -1, 0, 0, 0], 0),
        ("x - a = -2.5", [0, 1, -1, 0, 0, 0], -2.5),
        ("x =-a", [0, 1, 1, 0, 0, 0], 0),
        ("2 * x + a/4 = 1.5", [0, 2, 0.25, 0, 0, 0], 1.5),
        ("(Intercept) + 10*x", [1, 10, 0, 0, 0, 0], 0),
        ("2*(x - a)", [0, 2, -2, 0, 0, 0], 0),
        ("`x:a` - C(week)[T.2]", [0, 0, 0, 1, -1, 0], 0),
        ("I(x ** 2) - x", [0, -1, 0, 0, 0, 1], 0),
        ("2e-3*x = 0", [0, 2e-3, 0, 0, 0, 0], 0),
        ("x*2E3 - 1.5e+2 = .5", [0, 2e3, 0, 0, 0, 0], 150.5),
        ("-(x - -a)/2e0 = --1", [0, -0.5, -0.5, 0, 0, 0], 1),
        ("1 - x = 0", [0, -1, 0, 0, 0, 0], -1),
        ({"x": 1, "x:a": -0.5}, [0, 1, 0, -0.5, 0, 0], 0),
        ([0, 1, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0], 0),
    ],
)
def test_ways_to_write_a_row(L, row, value):
    found = read(L)
    np.testing.assert_allclose(found.L, [row])
    np.testing.assert_allclose(found.rhs, [value])


def test_several_rows():
    expected = [[0, 1, 0, 0, 0, 0], [0, 0, 1, -1, 0, 0]]
    table = pd.DataFrame(
        [{"x": 1, "a": 0, "x:a": 0}, {"x": 0, "a": 1, "x:a": -1}], index=["slope", "rest"]
    )
    for L in ("x, a - x:a", ["x", "a - x:a"], [{"x": 1}, {"a": 1, "x:a": -1}], expected, table):
        np.testing.assert_allclose(read(L).L, expected)
    assert read(table).labels == ("slope", "rest")
    assert read(expected, rhs=[0.0, 2.5]).labels == ("x", "a - x:a = 2.5")
    assert read({"x": -1, "a": 2}).labels == ("-x + 2*a",)


@pytest.mark.parametrize(
    ("L", "rhs", "error", "match"),
    [
        ("z = 0", 0, errors.UnknownTermError, r"no fixed effect 'z'; the terms are: '\(Intercept"),
        ("x:b = 0", 0, errors.UnknownTermError, "'x:b'"),
        ("`x:b` = 0", 0, errors.UnknownTermError, "'x:b'"),
        ({"x": 1, "b": 1}, 0, errors.UnknownTermError, "'b'"),
        (pd.DataFrame({"b": [1.0]}), 0, errors.UnknownTermError, "'b'"),
        ("x + = 0", 0, errors.ContrastError, "cannot read"),
        ("x * a = 0", 0, errors.ContrastError, "cannot read"),
        ("x / a", 0, errors.ContrastError, "cannot read"),
        ("x / 0", 0, errors.ContrastError, "divides"),
        ("2x = 0", 0, errors.ContrastError, "cannot read"),
        ("x = ", 0, errors.ContrastError, "cannot read"),
        ("x = 1,", 0, errors.ContrastError, "cannot read"),
        ("x; a", 0, errors.ContrastError, "cannot read"),
        ("", 0, errors.ContrastError, "cannot read"),
        ("(" * 3000 + "x", 0, errors.ContrastError, "deep"),
        ("1e999*x", 0, errors.ContrastError, "infinite"),
        ("__import__('os')", 0, errors.UnknownTermError, "__import__"),
        ([1.0, 2.0], 0, errors.ContrastError, r"each of the 6 fixed effects.*shape \(2,\)"),
        (np.full(6, np.nan), 0, errors.ContrastError, "NaN"),
        (np.empty((0, 6)), 0, errors.ContrastError, "shape"),
        ([], 0, errors.ContrastError, "shape"),
        (3.0, 0, errors.ContrastError, "shape"),
        ("x = 1", 2, errors.ContrastError, "not both"),
        ("x", [1, 2], errors.ContrastError, "rhs"),
        ("x", np.nan, errors.ContrastError, "rhs"),
    ],
)
def test_refused(L, rhs, error, match):
    with pytest.raises(error, match=match):
        read(L, rhs)


# Every name that a table may print, and how it may be written.
NAMES = (
    "(Intercept)", "x", "x.1", "x.10", "dose [mg]", "dose [mg]:x", "a b", "µV", "größe", "class",
    "2", "1e3", "2nd", "it`s", "I(x ** 2)", "np.log(x + 1)", "poly(x, 2)1", "C(week)[T.2]",
    "kind[T.a:b]", "x:kind[T.a - b]", "T K", "T [K]", "=", "a,b", "e", "e-3", "x-a",
)  # fmt: skip
BARE = [n for n in NAMES if n not in ("2", "1e3", "e-3")]


def coefficients(text, names=NAMES):
    (row,), (value,) = read_rows(text, names)
    return {names[j]: row[j] for j in np.flatnonzero(row)}, value


@pytest.mark.parametrize("name", NAMES)
def test_any_name_can_be_written(name):
    quoted = "`" + name.replace("`", "``") + "`"
    for text in ([name] if name in BARE else []) + [quoted]:
        assert coefficients(text) == ({name: 1.0}, 0.0)
        assert coefficients(f"2e-3*{text} = -1.5E+2") == ({name: 0.002}, -150.0)
        assert coefficients(f"x.10 - {text}/4 + .5") == (
            {"x.10": 0.75} if name == "x.10" else {"x.10": 1.0, name: -0.25}, -0.5,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "row", "value"),
    [
        ("`dose [mg]`:x", {"dose [mg]:x": 1}, 0),
        ("`dose [mg]` : `x` - x", {"dose [mg]:x": 1, "x": -1}, 0),
        ("I(x**2) - np.log( x+1 )", {"I(x ** 2)": 1, "np.log(x + 1)": -1}, 0),
        ("2*x - 3", {"x": 2}, 3),
        ("x*2/4 == 1", {"x": 0.5}, 1),
        ("-(x - 2*(e + 1)) = +3", {"x": -1, "e": 2}, 1),
        ("--x", {"x": 1}, 0),
        ("x = 1 - x", {"x": 2}, 1),
        ("1e3*x", {"x": 1000}, 0),
        ("1e3 - x", {"x": -1}, -1000),
        ("`e-3`", {"e-3": 1}, 0),
        ("e - 3", {"e": 1}, 3),
        ("2*`2` + `1e3`", {"2": 2, "1e3": 1}, 0),
        ("x -a b", {"x": 1, "a b": -1}, 0),
        ("a b*3=a,b", {"a b": 3, "a,b": -1}, 0),
    ],
)
def test_names_and_numbers_together(text, row, value):
    assert coefficients(text) == (row, value)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "missing"), ("  ", "missing"), ("=", "missing"), ("x = ", "missing"),
        ("x,", "missing"),
        ("x = 0 = 1", "left over"), ("x < 3", "left over"), ("x) = 0", "left over"),
        ("(x = 0", "not closed"), ("x * a = 0", "not linear"), ("x / 0", "divides"),
        ("1 / x", "divides"), ("2x = 0", r"write 2\*x"), ("3.5e2x", r"write 3.5e2\*x"),
        ("3 = 3", "zero in every term"), ("x - x", "zero in every term"), ("1e999*x", "infinite"),
        ("(" * 5000 + "x" + ")" * 5000, "too deep"), ("-" * 9000 + "x", "too deep"),
        ("x; import os", "left over"), ("x ** 2", "missing"), ("x^2", "left over"),
        ("2 x", r"write 2\*x"), ("x = 2 a", r"write 2\*a"), ("2 (x - a)", r"write 2\*\(x - a\)"),
        ("2 x + a, a", r"write 2\*x \+ a, a"), ("(2) x", "'x' is left over"), ("3, x", "zero in"),
    ],
)  # fmt: skip
def test_text_that_says_nothing(text, match):
    with pytest.raises(errors.ContrastError, match=match):
        read_hypothesis(text, 0, ["x", "a"], [], np.zeros((2, 0)))


@pytest.mark.parametrize("text", ["I(x^2)", "I(x ^ 2)", "2*I(x**2)/2", "I( x ** 2 )"])
@pytest.mark.parametrize("name", ["I(x ** 2)", "I(x^2)"])
def test_a_power_is_read_with_either_sign(text, name):
    assert coefficients(text, ("x", name)) == ({name: 1.0}, 0.0)


def test_a_name_that_is_also_a_sum_needs_backticks():
    names = ("a", "b", "a - b")
    with pytest.raises(errors.ContrastError, match=r"write `a - b` for the term"):
        read_rows("a - b = 0", names)
    assert coefficients("`a - b`", names) == ({"a - b": 1.0}, 0.0)
    assert coefficients("a-b", names) == ({"a": 1.0, "b": -1.0}, 0.0)
    assert coefficients("a - b", ("a", "a - b")) == ({"a - b": 1.0}, 0.0)


@given(
    st.lists(
        st.text(st.characters(codec="utf-8"), max_size=6), min_size=2, max_size=5, unique=True
    ),
    st.lists(st.sampled_from([-2.5, -1.0, 0.0, 1.0, 0.125, 1e-12, 1e15]), min_size=5, max_size=5),
)
def test_labels_read_back(names, values):
    """Whatever the terms are called, the label of a row is a text that stands for it."""
    row = np.array(values[: len(names)])
    if row.any() and all(name.strip() for name in names):
        found = read_hypothesis(row, 2.5, names, [], np.zeros((len(names), 0)))
        again, value = read_rows(found.labels[0], names)
        np.testing.assert_array_equal(again, [row])
        assert value == 2.5


@given(st.text(st.sampled_from("xab :=+-*/().,0123e`[]"), max_size=25))
def test_no_text_raises_another_error(text):
    with suppress(errors.ContrastError, errors.UnknownTermError):
        read_rows(text, ("x", "a", "x:a", "a b", "(Intercept)"))


def test_numbers_of_labels_are_not_cut():
    assert read([0, 1 / 3, 0, 0, 0, 0], 251.4051).labels == ("0.3333333333*x = 251.4051",)


@pytest.mark.parametrize(
    ("L", "rhs", "error", "match"),
    [
        (pd.Series([1.0, -1.0], ["a", "x"]), 0, None, None),
        (pd.Series([0.0, 1.0, -1.0, 0, 0, 0]), 0, errors.UnknownTermError, "'0'"),
        ({1: 1.0}, 0, errors.UnknownTermError, "'1'"),
        ({"x": "1"}, 0, errors.ContrastError, "must be numbers"),
        ({"x": None}, 0, errors.ContrastError, "NaN"),
        ([0, 1j, 0, 0, 0, 0], 0, errors.ContrastError, "complex"),
        (["0", "1", "0", "0", "0", "0"], 0, errors.ContrastError, "zero in every"),
        (np.ma.array([0, 1, 1, 0, 0, 0], mask=[0, 0, 1, 0, 0, 0]), 0, errors.ContrastError, "mask"),
        (None, 0, errors.ContrastError, "NaN|shape"),
        (pd.Timestamp("2020"), 0, errors.ContrastError, "Timestamp"),
        ("x", "2", errors.ContrastError, "rhs must be numbers"),
        ("x", 1j, errors.ContrastError, "rhs"),
        ("x", pd.Series([1.0]), errors.ContrastError, "to_numpy"),
        (pd.DataFrame({"x": [1.0, 2], "a": [0.0, 1]}, index=["u", "v"]),
         pd.Series([1.0, 2.0], ["v", "u"]), errors.ContrastError, "to_numpy"),
        (["x", 3], 0, errors.ContrastError, "must be numbers"),
    ],
)  # fmt: skip
def test_read_by_label_or_refused(L, rhs, error, match):
    if error is None:
        np.testing.assert_array_equal(read(L, rhs).L, [[0, -1, 1, 0, 0, 0]])
        return
    with pytest.raises(error, match=match):
        read(L, rhs)


def test_a_mapping_by_number_finds_its_term():
    found = read_hypothesis({2: 3.0}, 0, ["1", "2"], [], np.zeros((2, 0)))
    np.testing.assert_array_equal(found.L, [[0, 3]])


def test_rows_that_repeat_do_not_count():
    fit = article()
    twice = fit.joint_test(["a", "x:a", "a - 2*x:a"])
    once = fit.joint_test(["a", "x:a"])
    pd.testing.assert_frame_equal(twice, once, rtol=tol.ESTIMATE)
    with pytest.raises(errors.ContrastError, match="contradicts"):
        fit.joint_test(["a = 0", "2*a = 1"])
    with pytest.raises(errors.ContrastError, match="zero"):
        fit.joint_test([0.0, 0.0, 0.0, 0.0])


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.SingularFitWarning")
def test_what_depends_on_how_a_hypothesis_is_written():
    """As the docstring of ``joint_test`` says: Satterthwaite's denominator df, and nothing else."""
    d = hlm.load_dataset("sleepstudy").sample(frac=0.6, random_state=1)
    d["band"] = np.array(["a", "b", "c"])[np.searchsorted([2, 5], d["Days"])]
    fit = hlm.fit("Reaction ~ band + (1 + Days | Subject)", d)
    ways = (["bandb", "bandc"], ["bandb", "100*bandc"], ["bandb - bandc", "bandc"])
    for method, depends in (("satterthwaite", True), ("kenward-roger", False)):
        rows = pd.concat([fit.joint_test(L, method) for L in ways])
        assert np.ptp(rows["statistic"]) <= tol.UNITS * rows["statistic"].max()
        assert bool(np.ptp(rows["den_df"]) > 1e-3) is depends


def test_independent_rows_span_the_same():
    h = Hypothesis(
        ("", "", ""), np.array([[1.0, 1, 0], [0, 1, 1], [1, 2, 1]]), np.array([1.0, 2, 3])
    )
    L, rhs = independent_rows(h)
    assert L.shape == (2, 3)
    beta = np.linalg.lstsq(L, rhs, rcond=None)[0]
    np.testing.assert_allclose(h.L @ beta, h.rhs)


@pytest.mark.parametrize("size", [1e-90, 1e-9, 1e9, 1e90])
@pytest.mark.parametrize("row", range(3))
def test_rows_are_independent_in_any_unit(row, size):
    unit = np.where(np.arange(3) == row, size, 1.0)
    apart, same = np.triu(np.ones((3, 3))), np.array([[1.0, 1, 0], [0, 1, 1], [1, 2, 1]])

    def found(L, rhs):
        h = Hypothesis(("", "", ""), unit[:, None] * L, unit * rhs)
        return independent_rows(h)

    np.testing.assert_array_equal(found(apart, np.arange(3.0))[0], unit[:, None] * apart)
    L, rhs = found(same, np.array([1.0, 2, 3]))
    assert L.shape == (2, 3)
    np.testing.assert_allclose(same @ np.linalg.lstsq(L, rhs, rcond=None)[0], [1, 2, 3])
    with pytest.raises(errors.ContrastError, match="contradicts"):
        found(same, np.array([1.0, 2, 3.001]))


def test_estimates_and_intervals():
    fit = sleepstudy()
    table = fit.contrast("(Intercept) + 5*Days = 300", conf_level=0.9).iloc[0]
    c = np.array([1.0, 5.0])
    assert table["estimate"] == pytest.approx(c @ fit.fixef)
    assert table["std_error"] == pytest.approx(np.sqrt(c @ fit.vcov.to_numpy() @ c))
    assert table["statistic"] == pytest.approx((table["estimate"] - 300) / table["std_error"])
    assert table["conf_low"] < table["estimate"] < table["conf_high"]


def test_one_row_joint_test_is_the_t_test():
    for method in ("satterthwaite", "kenward-roger", "residual", "normal"):
        one, joint = article().contrast("a", method).iloc[0], article().joint_test("a", method)
        np.testing.assert_allclose(joint["statistic"], one["statistic"] ** 2, rtol=tol.ESTIMATE)
        np.testing.assert_allclose(joint["den_df"], one["df"], rtol=tol.ESTIMATE)
        np.testing.assert_allclose(joint["p_value"], one["p_value"], rtol=tol.ESTIMATE)


def test_dropped_columns_are_not_estimable_alone():
    d = frame(np.random.default_rng(1), (9, 4, 7, 3, 12, 5), sd=1.0)
    d["twice"] = 2 * d["a"] + d["x"]
    with pytest.warns(errors.RankDeficientWarning):
        fit = hlm.fit("y ~ x + a + twice + (1 | unit)", d)
    with pytest.raises(errors.NotEstimableError, match=r"'twice'.*dropped_columns"):
        fit.contrast("twice = 0")
    # Raising x by one while twice = 2a + x follows: what the kept coefficient of x estimates.
    both = fit.contrast({"x": 1, "twice": 1})
    np.testing.assert_allclose(both["estimate"], fit.fixef["x"], rtol=tol.SMALL)
    assert fit.contrast("x - a").shape == (1, 7)


@pytest.mark.parametrize("size", [1e101, 1e-101, 1e300, 1e-300])
def test_coefficients_whose_squares_are_lost_are_refused(size):
    fit = hlm.fit("y ~ x * a + (1 + x | unit)", hlm.load_dataset("article"))
    for L in (np.full((1, 4), size), f"{size}*x = 0", {"x": size}):
        for test in (fit.contrast, fit.joint_test):
            with pytest.raises(errors.ContrastError, match="too far from 1"):
                test(L)


@pytest.mark.parametrize("size", [0.99e100, 1.01e-100])
def test_coefficients_whose_squares_are_kept_are_taken(size):
    fit = article()
    found, expected = fit.contrast({"x": size}), fit.contrast("x")
    np.testing.assert_allclose(found["statistic"], expected["statistic"], rtol=tol.SMALL)
