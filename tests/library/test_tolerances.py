"""All tolerances of the tests come from one table, which says why; none stands beside its use."""

import ast
import re

import pytest

import tolerances
from places import TESTS

FILES = sorted(path for path in TESTS.rglob("*.py") if path.stem != "tolerances")
ARGUMENTS = {"rtol", "atol", "abs", "rel"}
TABLE = {name for name in vars(tolerances) if name.isupper()}
# Larger numbers are sizes of what is compared.
SMALL = 1e-4


def numbers(node):
    """The numbers that are written in an expression, but zeros and what a function is told."""
    if isinstance(node, ast.Call):
        return []
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and node.value:
        return [node.value]
    return [value for child in ast.iter_child_nodes(node) for value in numbers(child)]


def factors(node):
    """The parts of a product or quotient."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Div):
        return factors(node.left) + factors(node.right)
    return [node]


def written(node):
    """Whether a tolerance is, or has a factor that is, a number."""
    return any(isinstance(part, ast.Constant) and part.value for part in factors(node))


def called(node):
    """The name of what is called."""
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def given(tree):
    """Tolerances that a call is given, or that a function takes if it is not."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from (k.value for k in node.keywords if k.arg in ARGUMENTS)
            yield from node.args[2:] if called(node).startswith("assert_") else []
        if isinstance(node, ast.arguments):
            defaults = [*node.defaults, *filter(None, node.kw_defaults)]
            named = [*node.args[len(node.args) - len(node.defaults) :], *node.kwonlyargs]
            pairs = zip(named[: len(defaults)], defaults, strict=False)
            yield from (value for name, value in pairs if name.arg in ARGUMENTS)


def bounds(tree):
    """What an assertion compares something with that must be smaller."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            for one in ast.walk(node.test):
                if isinstance(one, ast.Compare) and isinstance(one.ops[0], ast.Lt | ast.LtE):
                    yield one.comparators[0]


def literal(tree):
    """Lines of tolerances that are written as numbers."""
    found = [value.lineno for value in given(tree) if written(value)]
    small = (value for value in bounds(tree) if any(0 < n <= SMALL for n in numbers(value)))
    return found + [value.lineno for value in small]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(TESTS).as_posix())
def test_no_tolerance_is_written_where_it_is_used(path):
    assert literal(ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("assert_allclose(a, b, rtol=1e-6)", [1]),
        ("approx(a,\n abs=10 * tol.CRITERION)", [2]),
        ("np.testing.assert_allclose(a, b, 1e-6)", [1]),
        ("def near(a, b, atol=1e-9): ...", [1]),
        ("def near(a, *, rel=0.1): ...", [1]),
        ("assert abs(a - b) < 1e-6 * scale", [1]),
        ("assert (x < 2.0) and (y <= 1e-9)", [1]),
        ("assert_allclose(a, b, rtol=0, atol=tol.SMALL * scale**2)", []),
        ("approx(a, abs=tol.ESTIMATE * (1.0 + size), rel=tol.printed(3))", []),
        ("assert abs(a - b) < 5.0 * error", []),
    ],
)
def test_what_is_looked_for_is_found(text, lines):
    assert literal(ast.parse(text)) == lines


def test_every_tolerance_has_a_reason():
    """A comment on its line, or before it and others of its kind."""
    lines = (TESTS / "tolerances.py").read_text(encoding="utf-8").splitlines()
    for i, line in enumerate(lines):
        if line.split(" = ")[0] in TABLE and "  # " not in line:
            before = next(one for one in reversed(lines[:i]) if one.split(" = ")[0] not in TABLE)
            assert before.startswith("# "), line


def test_every_tolerance_is_used():
    texts = [path.read_text(encoding="utf-8") for path in [*FILES, TESTS / "tolerances.py"]]
    named = r"tol\.([A-Z]\w+)|\* ([A-Z]\w+)|^from tolerances import (.*)$"
    found = [names for text in texts for names in re.findall(named, text, re.M)]
    used = {name for names in found for name in ", ".join(names).split(", ")}
    assert TABLE - used == set()


def test_printed_numbers_are_known_to_half_a_unit_of_their_last_digit():
    assert tolerances.printed(2) == pytest.approx(0.005)
