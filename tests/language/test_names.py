"""Any column name can be response, covariate, factor or group, and comes back unchanged."""

import unicodedata

import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
from jaxhlm import errors
from jaxhlm.design.design import build_design
from jaxhlm.language.linear import read_rows
from jaxhlm.language.words import quoted

NAMES = [
    "class",
    "yield",
    "lambda",
    "None",
    "True",
    "y.1",
    "Sepal.Length",
    ".hidden",
    "_private",
    "__dunder__",
    "dose [mg]",
    "T (K)",
    "a:b",
    "a*b",
    "a + b",
    "x~y",
    "x|y",
    "np.log",
    "np",
    "log(x)",
    "poly(x, 2)",
    "scale",
    "C",
    "I",
    "Intercept",
    "(Intercept)x",
    "µV",
    "μV",
    unicodedata.normalize("NFD", "größe"),
    "größe",
    "ﬁt",
    "x²",
    "名前",
    "💊",
    "it's",
    'say "x"',
    "tick`tock",
    "``",
    "back\\slash",
    "two\nlines",
    "tab\there",
    " space ",
    "2020",
    "1e5",
    "x.",
    "[T.a]",
    "{x}",
    "%in%",
    "50%",
    "_0_",
    "if",
]
LABELS = [2020, 3.5, ("a", "b"), pd.Timestamp("2020-01-01")]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(8), 5)
    frame = pd.DataFrame(
        {"y": rng.normal(size=8)[g] + rng.normal(size=40), "x": rng.normal(size=40)}
    )
    return frame.assign(f=rng.choice(list("ab"), 40), g=g)


def renamed(data, old, new):
    frame = data.copy()
    frame.columns = pd.Index([new if c == old else c for c in data.columns], tupleize_cols=False)
    return frame


@pytest.mark.parametrize("name", [*NAMES, *LABELS], ids=repr)
def test_every_name_in_every_place(data, name):
    text = str(name)
    q = f"`{text.replace('`', '``')}`"
    expected = build_design("y ~ x*f + (1 + x | g)", data)
    formulas = {
        "x": f"y ~ {q}*f + (1 + {q} | g)",
        "f": f"y ~ x*{q} + (1 + x | g)",
        "y": f"{q} ~ x*f + (1 + x | g)",
        "g": f"y ~ x*f + (1 + x | {q})",
    }
    for old, formula in formulas.items():
        made = build_design(formula, renamed(data, old, name))
        again = build_design(made.formula, renamed(data, old, name))
        for design in (made, again):
            np.testing.assert_array_equal(design.X, expected.X)
            np.testing.assert_array_equal(design.Z, expected.Z)
            np.testing.assert_array_equal(design.y, expected.y)
        names = {"x": ("x", text), "f": ("fb", f"{text}b")}.get(old, ("", ""))
        assert made.xnames == tuple(
            ":".join(names[1] if part == names[0] else part for part in one.split(":"))
            for one in expected.xnames
        )
        assert made.response_name == (text if old == "y" else "y")
        assert made.levels.name == made.group_name == (text if old == "g" else "g")


@pytest.mark.parametrize("name", ["class", "dose [mg]", "tick`tock", "``", "2020", 2020, "a:b"])
@pytest.mark.filterwarnings("ignore::jaxhlm.errors.SingularFitWarning")
def test_fits_predict_and_test_under_every_name(data, name):
    text = str(name)
    q = f"`{text.replace('`', '``')}`"
    expected = hlm.fit("y ~ x + f + (1 | g)", data)
    frame = renamed(data, "x", name)
    fit = hlm.fit(f"y ~ {q} + f + (1 | g)", frame)
    assert fit.fixef.index[1] == fit.tidy().term[1] == text
    np.testing.assert_array_equal(fit.predict(frame), expected.fitted)
    contrast = fit.contrast(f"2e-3*{q} = 0")["estimate"]
    np.testing.assert_allclose(contrast, 2e-3 * expected.fixef.iloc[1])
    assert fit.emmeans("f", at={text: [0.0]}).shape[0] == 2
    frame = renamed(data, "g", name)
    fit = hlm.fit(f"y ~ x + f + (1 | {q})", frame)
    assert fit.ranef.index.name == text
    np.testing.assert_array_equal(fit.predict(frame), expected.fitted)
    fit = hlm.fit(f"y ~ x + {q} + (1 | g)", renamed(data, "f", name))
    assert fit.emmeans(text).columns[0] == text


@pytest.mark.parametrize("name", NAMES)
def test_a_name_inside_a_call(data, name):
    made = build_design(f"y ~ np.exp({quoted(name)}) + (1 | g)", renamed(data, "x", name))
    assert made.xnames[1] == f"np.exp({quoted(name)})"
    L, rhs = read_rows(made.xnames[1], made.xnames)
    assert (L.tolist(), rhs.tolist()) == ([[float(j == 1) for j in range(made.p)]], [0.0])


@pytest.mark.parametrize(
    "name", ["class", "lambda", "if", "y.1", "µV", "x²", "_private", "scale", "C", "or"]
)
def test_a_bare_word(data, name):
    for old, formula in {"x": f"y ~ {name} + (1 | g)", "y": f"{name} ~ x + (1 | g)"}.items():
        assert hlm.fit(formula, renamed(data, old, name)).fixef.shape == (2,)


def test_letters_that_look_alike_stay_two_columns(data):
    micro, mu = "\u00b5V", "\u03bcV"
    frame = data.assign(**{micro: data.x, mu: data.x**2})
    fit = hlm.fit(f"y ~ {micro} + {mu} + I({mu} ** 2) + (1 | g)", frame)
    assert list(fit.fixef.index[1:3]) == [micro, mu]
    np.testing.assert_array_equal(fit.design.X[:, 2], data.x**2)


def test_labels_that_print_alike_are_ambiguous(data):
    frame = data.assign(**{"2020": data.x})
    frame[2021], frame["2021"] = data.x, data.x
    frame[2020] = data.x
    assert hlm.fit("y ~ `2020` + (1 | g)", frame[["y", "g", "2020"]]).fixef.shape == (2,)
    assert hlm.fit("y ~ `2020` + (1 | g)", frame[["y", "g", 2020]]).fixef.shape == (2,)


def test_a_column_and_a_call_of_the_same_text_are_two_terms(data):
    frame = data.assign(**{"I(x ** 2)": data.x**3})
    with pytest.raises(errors.FormulaError, match="both named"):
        hlm.fit("y ~ I(x**2) + `I(x ** 2)` + (1 | g)", frame)


def test_levels_keep_their_text(data):
    texts = np.array(["1.0", "1", "01", "1e0"])[np.arange(40) % 4]
    fit = hlm.fit("y ~ s + (1 | g)", data.assign(s=texts))
    assert list(fit.fixef.index) == ["(Intercept)", "s1", "s1.0", "s1e0"]
    fit = hlm.design("y ~ x + (1 | s)", data.assign(s=texts))
    assert list(fit.levels) == ["01", "1", "1.0", "1e0"]
    with pytest.raises(errors.NewLevelError):
        hlm.fit("y ~ s + (1 | g)", data.assign(s=texts)).predict(data.assign(s=1))


@pytest.mark.parametrize("values", [[True, 1, 0], [True, 1.0, 2.0], [False, 0, 1]])
def test_truth_values_and_numbers_are_not_taken_for_equal(data, values):
    mixed = pd.Series([values[i % 3] for i in range(40)], dtype=object)
    with pytest.raises(errors.NotNumericError):
        hlm.fit("y ~ m + (1 | g)", data.assign(m=mixed))
    with pytest.raises(errors.GroupingError, match="truth values"):
        hlm.fit("y ~ x + (1 | m)", data.assign(m=mixed))


def test_numbers_that_are_text_are_told(data):
    text = data.assign(x=data.x.round(1).astype(str))
    with pytest.warns(errors.NumbersAsTextWarning, match="'x' holds text.*to_numeric"):
        hlm.fit("y ~ x + (1 | g)", text)
    codes = data.assign(x=(np.arange(40) % 7).astype(str))
    with pytest.warns(errors.NumbersAsTextWarning):
        hlm.fit("y ~ x + (1 | g)", codes)
    hlm.fit("y ~ C(x) + (1 | g)", codes)
    hlm.fit("y ~ f + (1 | g)", data.assign(f=(np.arange(40) % 3).astype(str)))


ADVICE = {
    "ns(x, 3)": r"cr\(x, df=3\)",
    "x^2": r"I\(x\*\*2\)",
    "x**2": r"I\(x\*\*2\)",
    "f %in% x": "a:b",
    "x:offset(x)": "a term of the right side by itself",
    "x.mean()": r"np.mean\(x\)",
    "sd(x)": r"np.std\(x, ddof=1\)",
    "ifelse(x > 0, 1, 0)": "np.where",
    "relevel(f, 'z')": "not a level",
    "relevel(f)": r"C\(x",
    "factor(f, contr.sum)": "list of constants",
    "ordered(f)": "contr.poly",
    "interaction(f, x)": "a:b",
    "x > 0": r"\(x > 5\)",
    "pd.cut(x, 3)": "column of the data",
    "I(x if f else y)": "np.where",
    "I(not x)": "write ~",
    "2*x": r"I\(2 \* x\)",
    "'x'": "backticks",
    ".": "name the columns",
    "x y": "Missing operator",
    "C(f, contr.bogus)": "contr.sum",
    "C(f, contr.treatment('z'))": "not a level",
    "np.nothing(x)": "unknown function 'np.nothing'",
    "I(f == 'z')": "no level 'z'",
    "I(f + 1)": "is a factor",
    "x$y": r"'\$'",
    "{x + 1}": r"I\(x \+ 1\)",
    "I(x > 0 & y)": r"\(x > 0\) & \(z < 1\)",
    "I(x | y)": "each in parentheses",
    "I(~x)": "each in parentheses",
}


@pytest.mark.parametrize("term", ADVICE)
def test_refusals_say_what_to_write(data, term):
    with pytest.raises(errors.FormulaError, match=ADVICE[term]):
        hlm.fit(f"y ~ {term} + (1 | g)", data)


LEFT = {
    "reaction time": "write `reaction time`",
    "1y": "write `1y`",
    "y-1": "write `y-1`",
    "log(y)": "write `log.y.`",
}


@pytest.mark.parametrize("name", LEFT)
def test_a_response_that_is_no_name_goes_in_backticks(data, name):
    renamed = data.rename(columns={"y": name})
    with pytest.raises((errors.FormulaError, errors.MissingColumnError), match=LEFT[name]):
        hlm.fit(f"{name} ~ x + (1 | g)", renamed)
    found = hlm.fit(f"`{name}` ~ x + (1 | g)", renamed)
    assert found.model.response_name == name
    assert found.criterion == hlm.fit("y ~ x + (1 | g)", data).criterion


AS_R_WRITES_IT = {
    "I(x^2)": "I(x**2)",
    "factor(f)": "C(f)",
    "as.factor(k)": "C(k)",
    "factor(f, levels=['c', 'a', 'b'])": "C(f, levels=['c', 'a', 'b'])",
    "relevel(f, 'b')": "C(f, Treatment('b'))",
    "relevel(f, ref='c'):x": "C(f, Treatment('c')):x",
    "poly(x, 2, raw=TRUE)": "poly(x, 2, raw=True)",
    "(x > 0)": "I(x > 0)",
    "f * (x > 0)": "f * I(x > 0)",
    "(f * (x > 0))": "f * I(x > 0)",
    "(f == 'b'):x": "I(f == 'b'):x",
}


@pytest.mark.parametrize("term", AS_R_WRITES_IT)
@pytest.mark.filterwarnings("ignore::jaxhlm.JaxhlmWarning")
def test_what_r_writes_means_what_it_means_there(data, term):
    """Left of a bar as well, and in predictions."""
    data = data.assign(k=np.arange(len(data)) % 3, f=[*"abc"] * 13 + ["a"])
    designs = [hlm.design(f"y ~ {t} + (0 + {t} | g)", data) for t in (term, AS_R_WRITES_IT[term])]
    np.testing.assert_array_equal(*(d.X for d in designs))
    np.testing.assert_array_equal(*(d.Z for d in designs))
    fits = [hlm.fit(f"y ~ {t} + (1 | g)", data) for t in (term, AS_R_WRITES_IT[term])]
    np.testing.assert_array_equal(*(f.predict(data.head(7)) for f in fits))


def test_log10_and_levels_of_comparisons(data):
    fit = hlm.fit("y ~ log10(z) + I(f == 'b'):x + sqrt(z) + (1 | g)", data.assign(z=data.x**2 + 1))
    assert fit.fixef.index[1] == "log10(z)"


@pytest.mark.parametrize("name", ["class", "dose [mg]", "tick`tock", "2020", "µV"])
def test_batches_and_mechanisms_take_them_too(data, name):
    q = quoted(name)
    frame = renamed(data, "x", name).assign(rep=0)
    for formula in (f"y ~ {q} + (1 | g)", f"y ~ {q} + f + (1 | g)"):
        fits = hlm.fit_many(formula, frame, by="rep")
        assert fits.fixef.columns[1] == name
    made = hlm.mechanism(f"{q} ~ f + (1 | g)", data, hlm.Truth.of([0, 1], [1]))
    drawn = made.draw(0, 2)
    assert name in drawn.frame()
    assert len(drawn.fit(f"{q} ~ x + (1 | g)")) == 2
