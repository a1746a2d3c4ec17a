"""Formulas: what is accepted, what is refused and with which words."""

import pytest

from jaxhlm.errors import FormulaError, JaxhlmError, MissingColumnError, UnsupportedTermError
from jaxhlm.language.algebra import read_terms
from jaxhlm.language.expression import read
from jaxhlm.language.formula import ParsedTerm, parse


def terms(*pairs):
    return tuple(ParsedTerm(expr, diagonal) for expr, diagonal in pairs)


ACCEPTED = [
    ("y ~ x*a + (1 + x | unit)", "x*a", terms(("1 + x", False)), ("unit",)),
    ("y~(1|g)", "1", terms(("1", False)), ("g",)),
    ("y ~ x + (x | g)", "x", terms(("x", False)), ("g",)),
    ("y ~ (1|g) + x", "x", terms(("1", False)), ("g",)),
    ("y ~ 1 + (0 + x | g)", "1", terms(("0 + x", False)), ("g",)),
    ("y ~ 0 + x + (-1 + x | g)", "0 + x", terms(("-1 + x", False)), ("g",)),
    ("y ~ x - 1 + (1 | g)", "x - 1", terms(("1", False)), ("g",)),
    ("y ~ -1 + x + (1 | g)", "-1 + x", terms(("1", False)), ("g",)),
    ("y ~ x + -1 + (1 | g)", "x - 1", terms(("1", False)), ("g",)),
    ("y ~ x + (1 + x || g)", "x", terms(("1 + x", True)), ("g",)),
    ("y ~ x + (1+x+z|g)", "x", terms(("1+x+z", False)), ("g",)),
    ("y ~ x + (1|g) + (0+x|g)", "x", terms(("1", False), ("0+x", False)), ("g",)),
    ("y ~ x + ((1|g))", "x", terms(("1", False)), ("g",)),
    ("y ~ x + (1 | a:b)", "x", terms(("1", False)), ("a", "b")),
    ("y ~ (1|a:b) + (0 + x|b:a)", "1", terms(("1", False), ("0 + x", False)), ("a", "b")),
    ("y ~ x + (1 | `school id`)", "x", terms(("1", False)), ("school id",)),
    ("y ~ x + (1 | school.id)", "x", terms(("1", False)), ("school.id",)),
    ("y ~ poly(x, 2) + (1|g)", "poly(x, 2)", terms(("1", False)), ("g",)),
    ("y ~ I(x**2) + (a + b) * c + (1|g)", "I(x**2) + (a + b) * c", terms(("1", False)), ("g",)),
    ("y ~ I((a > 1) | (b > 1)) + (1|g)", "I((a > 1) | (b > 1))", terms(("1", False)), ("g",)),
    ("y ~ C(a, contr.treatment('+|')) + (1|g)", None, terms(("1", False)), ("g",)),
    ("y ~ x + (poly(x, 2) | g)", "x", terms(("poly(x, 2)", False)), ("g",)),
    ("y ~ `a+(b|c)` + (1|g)", "`a+(b|c)`", terms(("1", False)), ("g",)),
    ("y ~ x +\n   (1 |\tg)", "x", terms(("1", False)), ("g",)),
]


@pytest.mark.parametrize(("formula", "fixed", "random", "group"), ACCEPTED)
def test_accepted(formula, fixed, random, group):
    parsed = parse(formula)
    assert parsed.response == "y"
    assert parsed.fixed == (fixed or "C(a, contr.treatment('+|'))")
    assert (parsed.random, parsed.group) == (random, group)


def test_normalised_text_is_a_fixed_point():
    text = parse("y~(1+x||g)+a *  b").formula
    assert text == "y ~ a * b + (1+x || g)"
    assert parse(text).formula == text


@pytest.mark.parametrize("formula", ["~ x + (1|g)", "anything ~ x + (1|g)"])
def test_response_may_be_left_out_when_asked(formula):
    assert parse(formula, response_optional=True).fixed == "x"


def test_transformed_response():
    assert parse("log(y + 1) ~ x + (1|g)").response == "log(y + 1)"


def test_offsets():
    """Their insides, apart from the columns of X; the formula as it is printed has them."""
    parsed = parse("y ~ offset(log(t)) + x + offset(a + b) + (1|g)")
    assert (parsed.fixed, parsed.offsets) == ("x", ("log(t)", "a + b"))
    assert parsed.variables == ("y", "x", "t", "a", "b")
    assert parse(parsed.formula) == parsed
    assert parsed.terms != parse("y ~ x + (1|g)").terms
    # A column of that name is a column.
    assert parse("y ~ offset + x + (1|g)").offsets == ()


REFUSED = [
    ("y + x", FormulaError, "one '~'"),
    ("y ~ x ~ z + (1|g)", FormulaError, "one '~'"),
    (" ~ x + (1|g)", FormulaError, "no response"),
    ("y ~ ", FormulaError, "no terms right"),
    ("2 ~ x + (1|g)", FormulaError, "names no column"),
    ("y ~ x", FormulaError, r"no random term .*\(1 \+ x \| unit\).*ordinary least squares"),
    ("y ~ x + (1|g", FormulaError, r"'\(' is open"),
    ("y ~ x) + (1|g)", FormulaError, r"'\)' closes nothing"),
    ("y ~ `x + (1|g)", FormulaError, "'`' is open"),
    ("y ~ x + ( | g)", FormulaError, "nothing left of the bar"),
    ("y ~ x + (1 | )", FormulaError, "nothing right of the bar"),
    ("y ~ x + (1 | a | b)", FormulaError, "more than one bar"),
    ("y ~ x + (1 | 1)", FormulaError, "not a grouping column"),
    ("y ~ x + (1 | factor(g))", FormulaError, r"'factor\(g\)'.*not a grouping column"),
    ("y ~ x | g", FormulaError, "misplaced"),
    ("y ~ x * (1 | g)", FormulaError, "misplaced"),
    ("y ~ (x + (1 | g))", FormulaError, "misplaced"),
    ("y ~ x - (1 | g)", FormulaError, "subtracts"),
    ("y ~ x - - 1 + (1 | g)", FormulaError, "subtracts nothing"),
    ("y ~ (1|g) + x +", FormulaError, "nothing follows"),
    ("y ~ x z + (1|g)", FormulaError, "Missing operator"),
    ("y ~ . + (1|g)", FormulaError, "name the columns"),
    ("y ~ foo(x) + (1|g)", FormulaError, "unknown function 'foo'"),
    ("cbind(y, z) ~ x + (1|g)", FormulaError, "unknown function 'cbind'"),
    ("y y ~ x + (1|g)", FormulaError, "cannot read 'y y'"),
    (3, FormulaError, "must be a string, got int"),
    ("y ~ (1|a) + (1|b)", UnsupportedTermError, "crossed .*a and b.* ONE grouping factor"),
    ("y ~ (1|a) + (1|a:b)", UnsupportedTermError, "nested .* ONE grouping factor"),
    ("y ~ (1|a/b)", UnsupportedTermError, "nested .* ONE grouping factor"),
    ("y ~ (1|a + b)", UnsupportedTermError, "several .* ONE grouping factor"),
    ("y ~ x:offset(z) + (1|g)", UnsupportedTermError, "a term of the right side by itself"),
]


@pytest.mark.parametrize(("formula", "error", "message"), REFUSED)
def test_refused(formula, error, message):
    with pytest.raises(error, match=message) as caught:
        parse(formula)
    assert type(caught.value) is error
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("rhs", "names"),
    [
        ("1", ()),
        ("x*a + x:z", ("x", "a", "z")),
        ("poly(x, degree=2) + bs(`my z`, df=4)", ("x", "my z")),
        ("np.log(x) + C(s, contr.treatment('a'))", ("x", "s")),
        ("I(scale * 2) + scale(scale)", ("scale",)),
        ("Q('odd name') + s.1", ("odd name", "s.1")),
    ],
)
def test_variables_of_a_right_side(rhs, names):
    assert parse(f"~ {rhs} + (1 | g)", response_optional=True).variables == names


def test_variables_of_an_expression():
    assert read("log(`a b`) - c / c").variables == ("a b", "c")


def test_errors_print_plainly():
    error = MissingColumnError("no column 'x'")
    assert str(error) == "no column 'x'"
    assert isinstance(error, KeyError)
    assert isinstance(error, JaxhlmError)


@pytest.mark.parametrize(
    "right", ["(h - 1):x", "x/(0 + h)", "z + (0 + h):x", "(0 + h)*x", "((h + z - 1))"]
)
def test_an_intercept_that_a_bracket_takes_out_is_refused(right):
    """R takes it out of the whole formula, which nobody sees at a glance."""
    with pytest.raises(FormulaError, match=r"write 0 \+ in front"):
        read_terms(right)
