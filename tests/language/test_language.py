"""The language of formulas: its columns against formulaic's own, and what no formula may do."""

import re

import formulaic
import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
import jaxhlm.language.formula
import tolerances as tol
from jaxhlm import errors
from jaxhlm.design.terms import evaluate_new, fit_part
from jaxhlm.language.functions import FUNCTIONS

N = 60


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(5)
    return pd.DataFrame(
        {
            "x": rng.normal(size=N),
            "z": rng.uniform(1, 3, N),
            "k": rng.integers(0, 4, N).astype(float),
            "a": pd.Categorical(rng.choice(list("uvw"), N)),
            "b": pd.Categorical(rng.choice(["p", "q"], N)),
            "flag": rng.random(N) < 0.5,
        }
    )


SIDES = [
    "x * a",
    "0 + a",
    "0 + a:b",
    "a:b",
    "a:x",
    "0 + a:x",
    "a*b*x",
    "a:x + a*b",
    "x:a + b:a:x",
    "0 + x + a:b + b",
    "(a + b + x)**2",
    "(a + b + x + z)**3 - a:b:x",
    "a/b",
    "(a + x)/b - 1",
    "flag*a",
    "I(x > 0)*a",
    "C(k)*b",
    "C(k, contr.sum):x",
    "C(a, contr.helmert) + C(b, contr.sum)",
    "C(a, contr.poly)*z",
    "C(a, contr.diff)",
    "C(a, contr.SAS)",
    "C(a, contr.treatment(base='v')):z",
    "C(a, Sum)",
    "C(a, levels=['w', 'v', 'u'])",
    "poly(x, 3)*a",
    "poly(x, degree=2, raw=True)",
    "bs(x, df=5)",
    "bs(x, df=4):a",
    "0 + bs(x, df=5, include_intercept=True)",
    "bs(x, df=5, include_intercept=True)",
    "cr(x, df=4)",
    "cc(x, df=4, constraints='center')",
    "cs(x, knots=[-1, 0, 1])",
    "scale(x) + center(z)",
    "scale(x, center=False):a + standardize(z)",
    "scale(np.log(z)) + I(x - np.mean(x))",
    "I(z / np.std(z)) + np.log(z):a",
    "I(2 * x + z ** 2 / 3 - -1)",
    "I((x > 0) | (z < 2))",
    "np.where(x > 0, x, 0) + np.maximum(x, z)",
    "I(x // 1) + I(z % 0.7)",
    "np.round(x, 1) + np.clip(x, -1, 1) + np.hypot(x, z)",
    "np.digitize(x, [-1, 0, 1]) + exp(-x):np.sqrt(z)",
]


def near(a, b):
    np.testing.assert_allclose(a, b, rtol=tol.FORMULAIC, atol=tol.SUMMED)


@pytest.mark.parametrize("side", SIDES)
def test_columns_are_those_of_formulaic(frame, side):
    with np.errstate(all="ignore"):
        theirs = formulaic.model_matrix(side, frame, output="pandas")
    part, ours = fit_part(side, frame, frame.index)
    near(ours, theirs)
    factors = {v: frame[v].cat.categories if v in "ab" else None for v in frame}
    factors["flag"] = pd.Index([False, True])
    near(evaluate_new(part, frame.iloc[7:12], factors), ours[7:12])
    if "raw" in side or "flag" in side or ">" in side:
        return  # formulaic counts powers from 0, and truth values as numbers
    names = [re.sub(r"\[(?:[TSHD]\.(.+?)|([^\[\]]*))\](?=:|$)", r"\1\2", n) for n in theirs]
    names = [re.sub(r"^Intercept$", "(Intercept)", n) for n in names]
    assert [re.sub(r"\.0(?=:|$)", "", n) for n in names] == list(part.names)


def test_the_table_of_the_module_lists_every_function():
    words = set(re.findall(r"\w+", jaxhlm.language.formula.__doc__))
    assert {name.rpartition(".")[2] for name in FUNCTIONS} <= words


# The door that the user opens.

CODE = (
    "y ~ x.clip(lower=0) + (1 | g)",
    "y ~ x.map(lambda v: v ** 2 + 1) + z + (1 | g)",
    "y ~ np.select([x > 0, x <= 0], [x, 0 * x]) + (1 | g)",
    "np.hypot(y, 1) ~ x + I(k.astype(str).str.len()) + (1 | g)",
)


@pytest.mark.parametrize("formula", CODE)
def test_code_is_run_only_where_it_is_allowed(formula):
    d = unsafe_data()
    before = hlm.fit("y ~ x + (1 | g)", d)
    for door in (hlm.fit, hlm.design):
        with pytest.raises(errors.FormulaError):
            door(formula, d)
    fit = hlm.fit(formula, d, unsafe_formula=True)
    with pytest.raises(errors.FormulaError):
        hlm.fit(formula, d)
    assert hlm.design(formula, d, unsafe_formula=True).xnames == fit.design.xnames
    left, right = d.iloc[:20], d.iloc[20:]
    pd.testing.assert_series_equal(
        fit.predict(d), pd.concat([fit.predict(left), fit.predict(right)])
    )
    fits = hlm.fit_many(formula, d.assign(r=0), by="r", unsafe_formula=True, progress=False)
    np.testing.assert_allclose(fits.fixef.iloc[0], fit.fixef, rtol=tol.SAME_ROWS)
    assert np.isfinite(before.fixef).all()


def test_code_by_hand():
    d = unsafe_data()
    fit = hlm.fit("y ~ x.clip(lower=0) + (1 | g)", d, unsafe_formula=True)
    same = hlm.fit("y ~ w + (1 | g)", d.assign(w=d["x"].clip(lower=0)))
    np.testing.assert_allclose(fit.fixef, same.fixef, rtol=tol.SAME_ROWS)


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        ("y ~ I((x - x.mean()).abs()) + (1 | g)", "depends on the rows as a whole"),
        ("y ~ x.rank() + (1 | g)", "depends on the rows as a whole"),
        ("y ~ np.cumsum(x) + (1 | g)", "depends on the rows as a whole"),
        ("y ~ I(x.groupby(z > 0).transform('mean')) + (1 | g)", "depends on the rows as a whole"),
        ("y ~ x.nothing() + (1 | g)", "AttributeError"),
        ("y ~ I(x.iloc[:3]) + (1 | g)", "shape"),
        ("y ~ k.astype(str) + (1 | g)", "gives"),
        ("y ~ x.absent(q) + (1 | g)", "'?q'?"),
        ("y ~ np.ones(3) + (1 | g)", "names no column"),
    ],
)
def test_code_that_means_nothing_is_refused(formula, said):
    with pytest.raises(errors.JaxhlmError, match=said):
        hlm.fit(formula, unsafe_data(), unsafe_formula=True)


def unsafe_data():
    rng = np.random.default_rng(3)
    d = pd.DataFrame({"g": np.arange(60) % 10, "x": rng.normal(size=60), "z": rng.normal(size=60)})
    d["k"] = np.array(["a", "bb", "ccc"])[rng.integers(0, 3, 60)]
    return d.assign(y=d["x"] + rng.normal(size=10)[d["g"]] + rng.normal(size=60))
