"""Read lmer formulas: `y ~ x * a + (1 + x | unit)`.

The random terms are taken out here; what remains is formulaic's language, so that `poly(x, 2)`,
`C(a)`, `center(x)`, `log(x)` and `np.<function>` work as they do there.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from formulaic import Formula, SimpleFormula
from formulaic.errors import FormulaicError
from formulaic.transforms import TRANSFORMS

from .errors import FormulaError, UnsupportedTermError

__all__ = ["ParsedFormula", "RandomTerm", "lme4_name", "parse", "rhs_variables", "variables"]

_PAIRS = {")": "(", "]": "[", "}": "{"}
_QUOTED = r"`[^`]*`|\"[^\"]*\"|'[^']*'"
_COLUMN = re.compile(r"`([^`]+)`|([^\W\d][\w.]*)")
_ONE_FACTOR = "jaxhlm supports ONE grouping factor, as in (1 + x | unit)"


@dataclass(frozen=True)
class RandomTerm:
    """One parenthesised random-effects term.

    Attributes:
        expr: the side left of the bar, in formulaic's language (implicit intercept).
        diagonal: True for `||`, which makes the effects uncorrelated.
    """

    expr: str
    diagonal: bool


@dataclass(frozen=True)
class ParsedFormula:
    """The parts of an lmer formula.

    Attributes:
        formula: the whole formula with its spacing normalised and the random terms last.
        response: the left side, a Python expression over the columns; "" where there is none.
        fixed: the right side without its random terms, "1" if nothing else is left.
        random: the random terms, in the order written.
        group: the columns whose combinations are the levels of the one grouping factor.
    """

    formula: str
    response: str
    fixed: str
    random: tuple[RandomTerm, ...]
    group: tuple[str, ...]


def parse(formula: str, *, response_optional: bool = False) -> ParsedFormula:
    """Split an lmer formula into response, fixed part, random terms and grouping factor.

    Several random terms may share the grouping factor; their covariance is then block diagonal, as
    in lme4. `(1 | a:b)` groups by the combinations of two columns.

    Args:
        formula: the formula, such as `"y ~ x + (1 + x || unit)"`.
        response_optional: accept an empty left side (responses that come as a matrix).

    Returns:
        The parts, checked to be readable; no data are looked at.

    Raises:
        FormulaError: the text is malformed, has no random term or calls an unknown function.
        UnsupportedTermError: crossed or nested grouping factors, or `offset()`.

    Example:
        >>> parse("y ~ x*a + (x | unit)")
        ParsedFormula(formula='y ~ x*a + (x | unit)', response='y', fixed='x*a', \
random=(RandomTerm(expr='x', diagonal=False),), group=('unit',))
    """
    text = _collapse(formula)
    response, rhs = _sides(text, response_optional)
    if re.search(r"\boffset\s*\(", re.sub(_QUOTED, "", text)):
        raise UnsupportedTermError(
            f"offset() is not supported: subtract the offset from the response instead; got {text}"
        )
    fixed, bars = _separate(rhs)
    if not bars:
        raise FormulaError(
            f"no random term in '{text}': add one such as (1 | unit) or (1 + x | unit); "
            "a model without one is ordinary least squares, which jaxhlm does not fit"
        )
    random, group = _random(bars)
    if response:
        _check_response(response)
    for part in (fixed, *(term.expr for term in random)):
        rhs_variables(part)
    terms = [f"({t.expr} {'||' if t.diagonal else '|'} {':'.join(group)})" for t in random]
    whole = f"{response} ~ {' + '.join([fixed, *terms])}".strip()
    return ParsedFormula(whole, response, fixed, random, group)


def lme4_name(name: str) -> str:
    """Rewrite formulaic's name of a column as lme4 would print it.

    Args:
        name: a column name of a formulaic model matrix.

    Returns:
        The same with factor levels appended to the factor, as R does.

    Example:
        >>> [lme4_name(name) for name in ("Intercept", "Sector[T.Public]:x", "poly(x, 2)[1]")]
        ['(Intercept)', 'SectorPublic:x', 'poly(x, 2)1']
    """
    if name == "Intercept":
        return "(Intercept)"
    return re.sub(r"\[(?:[TSHD]\.(.+?)|([^\[\]]*))\](?=:|$)", r"\1\2", name)


def variables(expression: str) -> tuple[str, ...]:
    """Name the columns that a Python expression reads.

    Names of formulaic's own transforms count only where they are not called (a column may be
    called `scale`); the reader of the data decides which of them are columns.

    Args:
        expression: Python, where a name that is no identifier stands in backticks.

    Returns:
        The names in order of first use.

    Raises:
        FormulaError: the expression is not Python, calls an unknown function or uses `^`.

    Example:
        >>> variables("np.log(y + 1) / `body mass`")
        ('y', 'body mass')
    """
    quoted: dict[str, str] = {}

    def placeholder(match: re.Match[str]) -> str:
        return quoted.setdefault(match[0][1:-1], f"_quoted_{len(quoted)}_")

    source = re.sub(r"`[^`]+`", placeholder, expression)
    try:
        tree = ast.parse(source, mode="eval")
    except SyntaxError as error:
        raise FormulaError(f"cannot read '{expression}': {error.msg}") from None
    _check_calls(tree, expression)
    back = {value: key for key, value in quoted.items()}
    return tuple(dict.fromkeys(back.get(name, name) for name in _names(tree)))


def rhs_variables(rhs: str) -> tuple[str, ...]:
    """Name the columns that a right side in formulaic's language reads.

    Args:
        rhs: terms without random effects, such as `"x * C(a) + poly(z, 2)"`.

    Returns:
        The names in order of first use.

    Raises:
        FormulaError: formulaic cannot read it, or `variables` refuses one of its calls.

    Example:
        >>> rhs_variables("x * a + poly(z, degree=2)")
        ('x', 'a', 'z')
    """
    try:
        terms = Formula(rhs)
    except FormulaicError as error:
        if "`.` operator" in str(error):
            raise FormulaError(f"'.' in '{rhs}' is not supported: name the columns") from None
        reason = re.sub(r"\x1b\[[\d;]*m|[⧛⧚]", "", str(error)).split("\n")[0]
        raise FormulaError(f"cannot read '{rhs}': {reason}") from None
    if not isinstance(terms, SimpleFormula):
        raise FormulaError(f"'{rhs}' has several parts: write plain terms joined by +")
    found: dict[str, None] = {}
    for factor in (factor for term in terms for factor in term.factors):
        if factor.eval_method.value == "lookup":
            found[factor.expr] = None
        elif factor.eval_method.value == "python":
            found.update(dict.fromkeys(variables(factor.expr)))
    return tuple(found)


def _collapse(formula: str) -> str:
    if not isinstance(formula, str):
        raise FormulaError(f"the formula must be a string, got {type(formula).__name__}")
    return re.sub(rf"({_QUOTED})|\s+", lambda match: match[1] or " ", formula).strip()


def _depths(text: str) -> list[int]:
    """Nesting depth of each character (brackets count as inside), -1 within quotes."""
    depths, stack, quote = [], [], ""
    for character in text:
        if quote or character in "`'\"":
            depths.append(-1)
            quote = "" if character == quote else quote or character
            continue
        if character in _PAIRS.values():
            stack.append(character)
        depths.append(len(stack))
        if character in _PAIRS and (not stack or stack.pop() != _PAIRS[character]):
            raise FormulaError(f"unbalanced parentheses: '{character}' closes nothing in '{text}'")
    if stack or quote:
        raise FormulaError(
            f"unbalanced parentheses: '{(stack or [quote])[-1]}' is open in '{text}'"
        )
    return depths


def _cuts(text: str, separators: str) -> list[int]:
    """Positions of the separators outside any brackets and quotes."""
    return [
        i
        for i, (character, depth) in enumerate(zip(text, _depths(text), strict=True))
        if depth == 0 and character in separators
    ]


def _sides(text: str, response_optional: bool) -> tuple[str, str]:
    tildes = _cuts(text, "~")
    if len(tildes) != 1:
        raise FormulaError(f"expected one '~' between response and terms in '{text}'")
    response, rhs = text[: tildes[0]].strip(), text[tildes[0] + 1 :].strip()
    if not response and not response_optional:
        raise FormulaError(f"no response left of '~' in '{text}'")
    if not rhs:
        raise FormulaError(f"no terms right of '~' in '{text}'")
    return response, rhs


def _signed_terms(rhs: str) -> Iterator[tuple[str, str]]:
    """Terms of a sum with their signs; a run of signs leaves empty terms, which are kept."""
    cuts = _cuts(rhs, "+-")
    ends = [*cuts, len(rhs)]
    if rhs[: ends[0]].strip():
        yield "+", rhs[: ends[0]].strip()
    for start, end in zip(cuts, ends[1:], strict=True):
        yield rhs[start], rhs[start + 1 : end].strip()


def _separate(rhs: str) -> tuple[str, list[str]]:
    """Fixed part and the insides of the random terms."""
    fixed, bars, term = "", [], ""
    for sign, term in _signed_terms(rhs):
        inner = _bar_term(term)
        if not term and sign == "+":
            continue
        if not term or (inner and sign == "-"):
            raise FormulaError(f"'-' subtracts {f'({inner})' if inner else 'nothing'} in '{rhs}'")
        if inner:
            bars.append(inner)
        else:
            _refuse_hidden_bar(term)
            fixed += f" {sign} {term}"
    if not term:
        raise FormulaError(f"nothing follows the last sign of '{rhs}'")
    return re.sub(r"^ (?:\+ |(-) )", r"\1", fixed) or "1", bars


def _bar_term(term: str) -> str | None:
    """The inside of a term that is nothing but parentheses around a bar, else None."""
    if not (term.startswith("(") and term.endswith(")") and 0 not in _depths(term)):
        return None
    inner = term[1:-1].strip()
    return inner if _cuts(inner, "|") else _bar_term(inner)


def _refuse_hidden_bar(term: str) -> None:
    if _cuts(term, "|"):
        raise FormulaError(
            f"the bar of '{term}' is misplaced: write '+ (x | unit)', a term by itself"
        )
    depths = _depths(term)
    for start, character in enumerate(term):
        called = re.search(r"[\w`\])]\s*$", term[:start])
        if character == "(" and depths[start] == 1 and not called:
            end = next(i for i in range(start + 1, len(term)) if term[i] == ")" and depths[i] == 1)
            _refuse_hidden_bar(term[start + 1 : end])


def _random(bars: list[str]) -> tuple[tuple[RandomTerm, ...], tuple[str, ...]]:
    terms, groups = [], []
    for bar in bars:
        cuts = _cuts(bar, "|")
        if cuts not in ([cuts[0]], [cuts[0], cuts[0] + 1]):
            raise FormulaError(f"more than one bar in '({bar})'")
        expr, group = bar[: cuts[0]].strip(), bar[cuts[-1] + 1 :].strip()
        if not expr or not group:
            side = "right" if expr else "left"
            raise FormulaError(f"nothing {side} of the bar in '({bar})': write (1 + x | unit)")
        terms.append(RandomTerm(expr, diagonal=len(cuts) == 2))
        groups.append(_grouping(group, bar))
    _require_one_group(groups)
    return tuple(terms), groups[0]


def _grouping(group: str, bar: str) -> tuple[str, ...]:
    if _cuts(group, "/"):
        raise UnsupportedTermError(f"nested grouping factors in '({bar})': {_ONE_FACTOR}")
    if _cuts(group, "+*"):
        raise UnsupportedTermError(f"several grouping factors in '({bar})': {_ONE_FACTOR}")
    matches = [_COLUMN.fullmatch(name.strip()) for name in group.split(":")]
    if None in matches:
        raise FormulaError(
            f"'{group}' in '({bar})' is not a grouping column: give a column name, or a:b for the "
            "combinations of two columns"
        )
    return tuple(dict.fromkeys(match[1] or match[2] for match in matches if match))


def _require_one_group(groups: list[tuple[str, ...]]) -> None:
    first = set(groups[0])
    for other in groups[1:]:
        if set(other) != first:
            kind = "nested" if first < set(other) or first > set(other) else "crossed"
            pair = f"{':'.join(groups[0])} and {':'.join(other)}"
            raise UnsupportedTermError(f"{kind} grouping factors {pair}: {_ONE_FACTOR}")


def _check_response(response: str) -> None:
    if not variables(response):
        raise FormulaError(f"the response '{response}' names no column")


def _check_calls(tree: ast.AST, expression: str) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitXor):
            raise FormulaError(f"'^' in '{expression}' is no power in Python: write '**'")
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        if node.func.id not in TRANSFORMS:
            raise FormulaError(
                f"unknown function '{node.func.id}' in '{expression}': use np.<name>, one of "
                f"{', '.join(sorted(set(TRANSFORMS) - {'np'}))}, or make the column beforehand"
            )


def _names(tree: ast.AST) -> Iterator[str]:
    nodes = list(ast.walk(tree))
    skipped = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    for node in nodes:
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") in TRANSFORMS:
            skipped.add(id(node.value))
    found = [n for n in nodes if isinstance(n, ast.Name) and id(n) not in skipped]
    for node in sorted(found, key=lambda n: (n.lineno, n.col_offset)):
        yield node.id
    for node in nodes:
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Q":
            yield from (str(a.value) for a in node.args if isinstance(a, ast.Constant))
