"""Read lmer formulas: `y ~ x * a + (1 + x | unit)`.

A formula is data, never code: it may come from a file or a stranger. The random terms are taken out
here; the other terms are those of R's algebra, and a term is a column or an expression over columns
that holds only what this table lists. Anything else is a ``FormulaError`` that says what to write,
unless the caller passes ``unsafe_formula=True``: Python then evaluates it, and the formula is code.

=====================  ===========================================================================
terms                  ``a + b``, ``a - b``, ``a:b``, ``a*b``, ``a/b``, ``(a + b)**2``, ``0``, ``1``
columns                ``x``, ``Sepal.Length``, `` `dose [mg]` `` (a backtick inside is doubled),
                       ``Q('dose [mg]')``; Python's words are names like any other
arithmetic             ``+ - * / // % **`` (or ``^``) with numbers, ``np.pi``, ``np.e``; inside
                       ``I(…)`` where it is a term by itself
comparisons            ``< <= > >= == !=`` in brackets, ``(x > 5)``, joined by ``& | ~`` inside
                       ``I(…)``; a factor is compared with a level, ``(arm == 'b')``
by row                 ``log log10 log2 log1p exp exp2 exp10 expm1 sqrt abs``; after ``np.`` these,
                       ``cbrt square reciprocal negative sign fabs absolute floor ceil trunc rint
                       round around clip where digitize power minimum maximum fmin fmax hypot
                       heaviside logaddexp add subtract multiply divide true_divide floor_divide
                       mod remainder fmod logical_and logical_or logical_xor logical_not``, ``sin
                       cos tan arcsin arccos arctan arctan2 sinh cosh tanh arcsinh arccosh arctanh
                       degrees radians deg2rad rad2deg``
learned numbers        ``np.mean median std var min max amin amax sum ptp``,
                       ``np.quantile(x, q) np.percentile(x, q)``
learned columns        ``center(x)``, ``scale(x)``, ``standardize(x)``, ``poly(x, 2)``,
                       ``bs(x, df=4)``, ``cr(x, df=4)``, ``cs``, ``cc``
offsets                ``offset(log(t))``, an expression whose values are added to Xβ + Zb with the
                       coefficient 1; several add up
factors                ``C(x)``, ``C(x, contr.sum)`` (also ``treatment helmert diff poly SAS``),
                       ``C(x, levels=['a', 'b'])``; or R's ``factor(x)``,
                       ``relevel(x, ref='b')``, for treatment contrasts with another base
=====================  ===========================================================================

What is learned is learned once, from the rows that are fitted (in a batch with ``by`` from those of
each data set), and only applied afterwards: in predictions, marginal means, simulations and refits.
Options are constants. Lengths, depths, powers and numbers of terms are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import pairwise

from jaxhlm.errors import FormulaError, UnsupportedTermError
from jaxhlm.language.algebra import read_terms
from jaxhlm.language.expression import read
from jaxhlm.language.functions import learns
from jaxhlm.language.nodes import Column, Expression, within
from jaxhlm.language.opaque import allowed
from jaxhlm.language.words import Word, excerpt, name_of, quoted, words

__all__ = [
    "ParsedFormula",
    "ParsedTerm",
    "check_formula",
    "column_name",
    "parse",
    "parse_effects",
]

_QUOTED = r"`(?:[^`]|``)*`|\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'"
_ONE_FACTOR = "jaxhlm supports ONE grouping factor, as in (1 + x | unit)"


@dataclass(frozen=True)
class ParsedTerm:
    """One parenthesised random-effects term.

    Attributes:
        expr: the side left of the bar (implicit intercept).
        diagonal: True for `||`, which makes the effects uncorrelated.
    """

    expr: str
    diagonal: bool


@dataclass(frozen=True)
class ParsedFormula:
    """The parts of an lmer formula.

    Attributes:
        formula: the whole formula with its spacing normalised and the random terms last.
        response: the left side, an expression over the columns; "" where there is none.
        fixed: the right side without its random terms and offsets, "1" if nothing else is left.
        random: the random terms, in the order written.
        group: the columns whose combinations are the levels of the one grouping factor.
        offsets: the insides of the `offset(…)`.
    """

    formula: str
    response: str
    fixed: str
    random: tuple[ParsedTerm, ...]
    group: tuple[str, ...]
    offsets: tuple[str, ...] = ()

    @property
    def sides(self) -> tuple[str, ...]:
        """The right side as the columns of X, and those of each random term."""
        return self.fixed, *(term.expr for term in self.random)

    @property
    def offset(self) -> str:
        """The offsets as a right side whose columns they are; one that comes twice is one."""
        return " + ".join(["0", *(f"I({inside})" for inside in self.offsets)])

    @cached_property
    def factors(self) -> tuple[Expression, ...]:
        """The expressions of the left and the right side."""
        left = (read(self.response),) if self.response else ()
        return *left, *(
            f for side in (*self.sides, self.offset) for term in read_terms(side) for f in term
        )

    @property
    def variables(self) -> tuple[str, ...]:
        """The columns that they read, in order of first use.

        >>> parse("log(y) ~ x * a + poly(z, 2) + (1 | g)").variables
        ('y', 'x', 'a', 'z')
        """
        return tuple(dict.fromkeys(name for f in self.factors for name in f.variables))

    def learns(self, known: Container[str]) -> bool:
        """Whether a call learns from the rows, but for those whose text is known already.

        >>> parse("y ~ poly(x, 2) + (1 | g)").learns({}), parse("y ~ I(x**2) + (1 | g)").learns({})
        (True, False)
        """
        return any(learns(n, known) for factor in self.factors for n in within(factor.node))

    @property
    def terms(self) -> tuple[object, ...]:
        """What is compared to tell whether two formulas are of one model, whatever the response."""
        return self.fixed, self.random, self.group, self.offsets

    @property
    def right(self) -> str:
        """The formula from its ``~`` on."""
        return self.formula.removeprefix(self.response).lstrip()

    def of(self, response: str) -> ParsedFormula:
        """The same right side with another left one; "" for none.

        >>> parse("log(y) ~ x + (1 | g)").of("z").formula
        'z ~ x + (1 | g)'
        """
        return replace(self, response=response, formula=f"{response} {self.right}".strip())


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
        UnsupportedTermError: crossed or nested grouping factors, or `offset()` anywhere but as a
            term by itself.

    Example:
        >>> parse("y ~ x*a + (x | unit)")
        ParsedFormula(formula='y ~ x*a + (x | unit)', response='y', fixed='x*a', \
random=(ParsedTerm(expr='x', diagonal=False),), group=('unit',), offsets=())
        >>> parse("y ~ offset(log(t)) + x + (1 | unit)").formula
        'y ~ x + offset(log(t)) + (1 | unit)'
    """
    return _parse(_on_one_line(formula), response_optional, allowed())


@lru_cache(maxsize=256)
def _parse(text: str, response_optional: bool, may_run: bool) -> ParsedFormula:
    """``parse``; what is read where formulas may run is kept apart."""
    del may_run
    response, rhs = _sides(text, response_optional)
    _refuse_offset(response, text)
    fixed, bars, offsets = _separate(rhs)
    if not bars:
        raise FormulaError(
            f"no random term in '{excerpt(text)}': add one such as (1 | unit) or (1 + x | unit); "
            "a model without one is ordinary least squares, which jaxhlm does not fit"
        )
    random, group = _random(bars)
    if response and not read(response).variables:
        raise FormulaError(f"the response '{excerpt(response)}' names no column")
    by = ":".join(map(quoted, group))
    terms = [f"offset({inside})" for inside in offsets]
    terms += [f"({t.expr} {'||' if t.diagonal else '|'} {by})" for t in random]
    normalised = f"{response} ~ {' + '.join([fixed, *terms])}".strip()
    found = ParsedFormula(normalised, response, fixed, random, group, offsets)
    # What cannot be read is refused here.
    _ = found.factors
    return found


def parse_effects(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The sides of random terms written by themselves, and their grouping columns; ``0`` has none.

    Raises:
        FormulaError: the text is anything else than random terms of one grouping factor.

    Example:
        >>> parse_effects("~ (1 | unit) + (0 + x | unit)"), parse_effects("~ 0")
        ((('1', '0 + x'), ('unit',)), ((), ()))
    """
    line = _on_one_line(text)
    side = line.removeprefix("~").strip()
    fixed, bars, offsets = _separate(side) if side else ("", [], ())
    if offsets or fixed != ("1" if bars else "0"):
        raise FormulaError(
            f"'{excerpt(line)}' is no choice of random effects: write terms in parentheses only, "
            "such as (1 | unit), or 0 for none"
        )
    random, group = _random(bars) if bars else ((), ())
    return tuple(term.expr for term in random), group


def column_name(expression: str) -> str | None:
    """The name of the column that an expression is, or None where it computes something.

    >>> column_name("`reaction time`"), column_name("log(y)")
    ('reaction time', None)
    """
    node = read(expression).node
    return node.name if isinstance(node, Column) else None


def check_formula(formula: object) -> None:
    """Raise ``FormulaError`` for anything but text, before the data are looked at."""
    if not isinstance(formula, str):
        raise FormulaError(
            f"the formula must be a string, got {type(formula).__name__}: write it first, such as "
            "'y ~ x + (1 | unit)', and the data after it"
        )


def _on_one_line(formula: str) -> str:
    check_formula(formula)
    return re.sub(rf"({_QUOTED})|\s+", lambda match: match[1] or " ", formula).strip()


def _cuts(text: str, *separators: str) -> list[Word]:
    """The separators outside any brackets and quotes."""
    return [w for w in words(text) if w.depth == 0 and w.kind == "sign" and w.text in separators]


def _sides(text: str, response_optional: bool) -> tuple[str, str]:
    tildes = _cuts(text, "~")
    if len(tildes) != 1:
        raise FormulaError(f"expected one '~' between response and terms in '{excerpt(text)}'")
    response, rhs = text[: tildes[0].start].strip(), text[tildes[0].stop :].strip()
    if not response and not response_optional:
        raise FormulaError(f"no response left of '~' in '{excerpt(text)}'")
    if not rhs:
        raise FormulaError(f"no terms right of '~' in '{excerpt(text)}'")
    return response, rhs


def _refuse_offset(part: str, text: str) -> None:
    """Refuse ``offset(…)`` within the left side, a random term or another term."""
    for word, after in pairwise(words(part)):
        if (word.kind, word.text, after.text) == ("name", "offset", "("):
            raise UnsupportedTermError(
                "offset(…) is a term of the right side by itself, as in "
                f"y ~ x + offset(z) + (1 | unit); got '{excerpt(text)}'"
            )


def _offset(term: str, rhs: str) -> str | None:
    """The inside of an ``offset(…)``, or None where a term is something else."""
    found = words(term)
    called = [word.text for word in found[:2]] == ["offset", "("] and found[0].kind == "name"
    inside = [word.depth for word in found[1:-1]]
    if not called or 0 in inside:
        _refuse_offset(term, rhs)
        return None
    inner = term[found[1].stop : found[-1].start].strip()
    if not inner or _cuts(inner, ","):
        raise FormulaError(f"offset(…) in '{excerpt(rhs)}' takes one expression, as in offset(z)")
    _refuse_offset(inner, rhs)
    return inner


def _signed_terms(rhs: str) -> Iterator[tuple[str, str]]:
    """Terms of a sum with their signs; a run of signs leaves empty terms, which are kept."""
    cuts = _cuts(rhs, "+", "-")
    ends = [*(cut.start for cut in cuts), len(rhs)]
    if rhs[: ends[0]].strip():
        yield "+", rhs[: ends[0]].strip()
    for cut, end in zip(cuts, ends[1:], strict=True):
        yield cut.text, rhs[cut.stop : end].strip()


def _separate(rhs: str) -> tuple[str, list[str], tuple[str, ...]]:
    """Fixed part, the insides of the random terms, and those of the offsets."""
    fixed, bars, offsets, term = "", [], [], ""
    for sign, term in _signed_terms(rhs):
        inner, offset = _bar_term(term), _offset(term, rhs)
        if not term and sign == "+":
            continue
        if not term or ((inner or offset) and sign == "-"):
            what = term if offset else f"({inner})" if inner else "nothing"
            raise FormulaError(f"'-' subtracts {what} in '{excerpt(rhs)}'")
        if inner:
            bars.append(inner)
        elif offset:
            offsets.append(offset)
        else:
            _refuse_hidden_bar(term)
            fixed += f" {sign} {term}"
    if not term:
        raise FormulaError(f"nothing follows the last sign of '{excerpt(rhs)}'")
    return re.sub(r"^ (?:\+ |(-) )", r"\1", fixed) or "1", bars, tuple(offsets)


def _bar_term(term: str) -> str | None:
    """The inside of a term that is nothing but parentheses around a bar, else None."""
    found = words(term)
    if not found or found[0].text != "(" or min(word.depth for word in found) == 0:
        return None
    inner = term[1:-1].strip()
    return inner if _cuts(inner, "|", "||") else _bar_term(inner)


def _refuse_hidden_bar(term: str) -> None:
    if _cuts(term, "|", "||"):
        raise FormulaError(
            f"the bar of '{excerpt(term)}' is misplaced: write '+ (x | unit)', a term by itself"
        )
    found = words(term)
    outer = [i for i, w in enumerate(found) if w.depth == 1 and w.text in ("(", ")")]
    for start, end in zip(outer[::2], outer[1::2], strict=True):
        called = start and (found[start - 1].kind != "sign" or found[start - 1].text in (")", "]"))
        if not called:
            _refuse_hidden_bar(term[found[start].stop : found[end].start])


def _random(bars: list[str]) -> tuple[tuple[ParsedTerm, ...], tuple[str, ...]]:
    terms, groups = [], []
    for bar in bars:
        cuts = _cuts(bar, "|", "||")
        if len(cuts) != 1:
            raise FormulaError(f"more than one bar in '({excerpt(bar)})'")
        expr, group = bar[: cuts[0].start].strip(), bar[cuts[0].stop :].strip()
        if not expr or not group:
            side = "right" if expr else "left"
            raise FormulaError(
                f"nothing {side} of the bar in '({excerpt(bar)})': write (1 + x | unit)"
            )
        terms.append(ParsedTerm(expr, diagonal=cuts[0].text == "||"))
        groups.append(_grouping(group, bar))
    _require_one_group(groups)
    return tuple(terms), groups[0]


def _grouping(group: str, bar: str) -> tuple[str, ...]:
    if _cuts(group, "/"):
        raise UnsupportedTermError(f"nested grouping factors in '({excerpt(bar)})': {_ONE_FACTOR}")
    if _cuts(group, "+", "*"):
        raise UnsupportedTermError(f"several grouping factors in '({excerpt(bar)})': {_ONE_FACTOR}")
    found = words(group)
    names, colons = found[::2], found[1::2]
    if any(w.kind not in ("name", "quoted") for w in names) or any(w.text != ":" for w in colons):
        raise FormulaError(
            f"'{excerpt(group)}' in '({excerpt(bar)})' is not a grouping column: give a column "
            "name, or a:b for the combinations of two columns"
        )
    return tuple(dict.fromkeys(name_of(word) for word in names))


def _require_one_group(groups: list[tuple[str, ...]]) -> None:
    first = set(groups[0])
    for other in groups[1:]:
        if set(other) != first:
            kind = "nested" if first < set(other) or first > set(other) else "crossed"
            pair = f"{':'.join(groups[0])} and {':'.join(other)}"
            raise UnsupportedTermError(f"{kind} grouping factors {pair}: {_ONE_FACTOR}")
