"""Linear hypotheses as they may be written, and what is refused."""

import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
import tolerances as tol
from jaxhlm import errors
from jaxhlm.inference.hypotheses import Hypothesis, independent_rows, read_hypothesis
from problems import article, frame, sleepstudy

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


def test_rows_that_repeat_do_not_count():
    fit = article()
    twice = fit.joint_test(["a", "x:a", "a - 2*x:a"])
    once = fit.joint_test(["a", "x:a"])
    pd.testing.assert_frame_equal(twice, once, rtol=tol.ESTIMATE)
    with pytest.raises(errors.ContrastError, match="contradicts"):
        fit.joint_test(["a = 0", "2*a = 1"])
    with pytest.raises(errors.ContrastError, match="zero"):
        fit.joint_test([0.0, 0.0, 0.0, 0.0])


def test_independent_rows_span_the_same():
    h = Hypothesis(
        ("", "", ""), np.array([[1.0, 1, 0], [0, 1, 1], [1, 2, 1]]), np.array([1.0, 2, 3])
    )
    L, rhs = independent_rows(h)
    assert L.shape == (2, 3)
    beta = np.linalg.lstsq(L, rhs, rcond=None)[0]
    np.testing.assert_allclose(h.L @ beta, h.rhs)


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
