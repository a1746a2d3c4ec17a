"""The algebra of terms: ``a*b``, ``a:b``, ``a/b``, ``(a + b)**2``, ``-1``.

Wilkinson & Rogers (1973), Appl. Statist. 22, 392-399, as R reads it: ``a*b`` is ``a + b + a:b``,
``a/b`` is ``a + a:b``, and ``(a + b + c)**2`` has the terms of up to two of a, b and c. Terms come
in the order of their degree.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from jaxhlm.errors import FormulaError
from jaxhlm.language.expression import read
from jaxhlm.language.nodes import Expression
from jaxhlm.language.opaque import allowed
from jaxhlm.language.words import Word, excerpt, words

__all__ = ["Term", "read_terms"]

# Terms of one formula, and how often terms may be crossed to get them.
MAX_TERMS = 5_000
MAX_PRODUCTS = 200_000

Term: TypeAlias = tuple[Expression, ...]
# Terms in order; the intercept is the term without factors.
Terms: TypeAlias = dict[frozenset[Expression], Term]

_COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2, ":": 3, "**": 4, "^": 4}


def read_terms(side: str) -> tuple[Term, ...]:
    """The terms of a right side without random terms, the intercept as a term without factors.

    Raises:
        FormulaError: it cannot be read, or has too many terms.

    Example:
        >>> [":".join(f.text for f in term) for term in read_terms("0 + a * b")]
        ['a', 'b', 'a:b']
    """
    return _read_terms(side, allowed())


@lru_cache(maxsize=256)
def _read_terms(side: str, may_run: bool) -> tuple[Term, ...]:
    """``read_terms``; what is read where formulas may run is kept apart."""
    del may_run
    found = words(side)
    if not found:
        raise FormulaError("a formula without terms")
    reader = _Reader(side, found)
    terms = reader.sum({frozenset(): ()})
    if reader.at < len(found):
        raise reader.no_operator(found[reader.at])
    return tuple(sorted(terms.values(), key=len))


@dataclass
class _Reader:
    """Precedence climbing over the words of a side."""

    side: str
    found: Sequence[Word]
    at: int = 0
    products: int = 0

    @property
    def next(self) -> str:
        return self.found[self.at].text if self.at < len(self.found) else ""

    def sum(self, terms: Terms, bracketed: bool = False) -> Terms:
        """Signed terms, added to those there are; 0 takes the intercept out."""
        terms = dict(terms)
        sign = self._sign() or "+"
        while True:
            literal = self._literal()
            if literal is None:
                part = self.product(2)
            else:
                part = {frozenset(): ()}
                sign = sign if literal == "1" else {"+": "-", "-": "+"}[sign]
                if sign == "-" and bracketed:
                    raise FormulaError(
                        f"a bracket of '{excerpt(self.side)}' takes the intercept out, in R of "
                        "the whole formula: write 0 + in front of all terms, and none in brackets"
                    )
            if sign == "+":
                terms.update(_new(part, terms))
                self._bounded(terms)
            else:
                terms = {k: v for k, v in terms.items() if k not in part}
            if not (sign := self._sign()):
                return terms

    def product(self, level: int) -> Terms:
        """Terms joined by operators that bind at least as tightly as ``level``."""
        left = self.factor()
        while (operator := self.next) and _PRECEDENCE.get(operator, 0) >= level:
            self.at += 1
            if operator in ("**", "^"):
                left = self._power(left, operator)
                continue
            right = self.product(_PRECEDENCE[operator] + 1)
            crossed = self._crossed(left.values(), right.values())
            if operator == "*":
                left = self._bounded({**left, **_new(right, left), **_new(crossed, left, right)})
            elif operator == "/":
                merged = [_merged(left.values())]
                left = self._bounded({**left, **_new(self._crossed(merged, right.values()), left)})
            else:
                left = crossed
        return left

    def factor(self) -> Terms:
        """A parenthesised sum, or one expression."""
        if self.at >= len(self.found):
            raise FormulaError(f"nothing follows the last sign of '{excerpt(self.side)}'")
        word = self.found[self.at]
        if word.text == "(":
            end = self._end_of_bracket(self.at)
            inside = self.found[self.at : end]
            if any(w.text in _COMPARISONS and w.depth == word.depth for w in inside):
                return self._expression("I", end)
            self.at += 1
            terms = self.sum({}, bracketed=True)
            if self.next != ")":
                raise self.no_operator(self.found[self.at])
            self.at += 1
            return terms
        if word.kind not in ("name", "quoted"):
            raise self._no_term(word)
        return self._expression(
            "", self._end_of_bracket(self.at + 1) if self._is_call() else self.at
        )

    def _expression(self, called: str, last: int) -> Terms:
        """The words up to ``last``, of which a function may be ``called``, as one factor."""
        one = read(called + self.side[self.found[self.at].start : self.found[last].stop])
        if not one.variables:
            raise FormulaError(f"'{excerpt(one.text)}' in '{excerpt(self.side)}' names no column")
        self.at = last + 1
        return {frozenset((one,)): (one,)}

    def _is_call(self) -> bool:
        after = self.found[self.at + 1].text if self.at + 1 < len(self.found) else ""
        return self.found[self.at].kind == "name" and after == "("

    def _end_of_bracket(self, start: int) -> int:
        """Where the bracket that opens at a word closes."""
        depth = self.found[start].depth
        return next(
            i
            for i in range(start + 1, len(self.found))
            if self.found[i].text == ")" and self.found[i].depth == depth
        )

    def _sign(self) -> str:
        sign = self.next if self.next in ("+", "-") else ""
        self.at += bool(sign)
        return sign

    def _literal(self) -> str | None:
        """0 or 1 by itself."""
        word = self.found[self.at] if self.at < len(self.found) else None
        if word is None or word.kind != "number":
            return None
        self.at += 1
        after = self.next
        if word.text not in ("0", "1") or (after and after not in "+-)"):
            raise FormulaError(
                f"the number {word.text} in '{excerpt(self.side)}' is no term: only 0 and 1, for "
                "the intercept, stand alone; write I(2 * x) to scale, and a column of that name in "
                "`backticks`"
            )
        return word.text

    def _power(self, base: Terms, operator: str) -> Terms:
        power = self.next
        if not (power.isdecimal() and int(power[:9]) > 0):
            raise FormulaError(
                f"'{operator}' in '{excerpt(self.side)}' must be followed by a positive integer"
            )
        self.at += 1
        if len(base) == 1 and len(only := next(iter(base.values()))) == 1 and power != "1":
            name = only[0].text
            raise FormulaError(
                f"'{name}{operator}{excerpt(power)}' crosses {name} with itself, which is {name} "
                f"again: write I({name}**{excerpt(power)})"
            )
        terms = base
        # A power above the number of terms adds nothing.
        for _ in range(min(int(power[:9]), len(base)) - 1):
            terms = self._crossed(terms.values(), base.values())
        return terms

    def _crossed(self, left: Iterable[Term], right: Iterable[Term]) -> Terms:
        left, right = list(left), list(right)
        self.products += len(left) * len(right)
        if self.products > MAX_PRODUCTS:
            raise self._too_many()
        out: Terms = {}
        for term in (_merged((a, b)) for a in left for b in right):
            out.setdefault(frozenset(term), term)
        return self._bounded(out)

    def _bounded(self, terms: Terms) -> Terms:
        if len(terms) > MAX_TERMS:
            raise self._too_many()
        return terms

    def _too_many(self) -> FormulaError:
        return FormulaError(f"'{excerpt(self.side)}' has too many terms: cross fewer of them")

    def no_operator(self, word: Word) -> FormulaError:
        """What stands where an operator belongs."""
        if word.text == "%in%":
            return FormulaError("'%in%' is not supported: write a:b, or b/a for a within b")
        if word.text in _COMPARISONS:
            return FormulaError(
                f"'{word.text}' in '{excerpt(self.side)}' compares outside of brackets: write "
                "(x > 5), or I(x > 5)"
            )
        return FormulaError(
            f"cannot read '{excerpt(self.side)}' at '{excerpt(word.text)}': Missing operator; "
            "write plain terms joined by + - * : /"
        )

    def _no_term(self, word: Word) -> FormulaError:
        if word.text == ".":
            return FormulaError(f"'.' in '{excerpt(self.side)}' is not supported: name the columns")
        if word.text == "{":
            return FormulaError(f"'{{' in '{excerpt(self.side)}': write I(x + 1) for arithmetic")
        if word.kind == "string":
            return FormulaError(
                f"{excerpt(word.text)} in '{excerpt(self.side)}' is text, no term: write the name "
                "of a column bare or in `backticks`"
            )
        return FormulaError(
            f"cannot read '{excerpt(self.side)}' at '{word.text}': a term belongs there"
        )


def _merged(terms: Iterable[Term]) -> Term:
    """The product of terms: every factor once."""
    return tuple(dict.fromkeys(f for term in terms for f in term))


def _new(terms: Terms, *known: Terms) -> Terms:
    return {k: v for k, v in terms.items() if not any(k in there for there in known)}
