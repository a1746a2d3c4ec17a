"""Linear hypotheses written as text: numbers, names of terms, ``+ - * /``, brackets and ``=``.

    hypotheses = row ("," row)*                 row = sum ["=" sum]
    sum = product (("+" | "-") product)*        product = factor (("*" | "/") factor)*
    factor = ("+" | "-") factor | number | name | "(" sum ")"

A name is a term as the tables print it, whatever characters it holds, the longest that fits; in
backticks, or its parts between colons in backticks, as a formula has it; and, where nothing fits
to the letter, with other spaces around operators. A text that is a number is one: a term of that
name needs backticks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache

import numpy as np

from jaxhlm.core.notation import Floats
from jaxhlm.errors import ContrastError, UnknownTermError
from jaxhlm.language.words import in_backticks, unquoted

__all__ = ["Form", "read_rows", "require_known", "without_rounding", "written"]

_NUMBER = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.])")
_SPACE = re.compile(r"\s*")
# What follows a name that is complete.
_END = r"(?![\w.:(\[`])"
# Something that looks like a name, for the message.
_UNKNOWN = re.compile(r"`(?:[^`]|``)*`|(?:[^\s=,+*/()-]|\([^)]*\)(?=[\[:]|$))+(?:\([^)]*\))?")
# A name that nothing else reads as.
_PLAIN = re.compile(r"\(Intercept\)|[^\W\d][^\s=,+*/()`-]*")
# Formulas have R's sign and Python's.
POWER = r"(?:\*\*|\^)"
MOST_LISTED = 20
# A sum of coefficients that is this many roundings of its terms, or fewer, is zero.
ROUNDINGS = 64.0


@dataclass(frozen=True)
class Form:
    """A linear form c'β + constant; ``c`` (p,)."""

    c: Floats
    constant: float

    @property
    def number(self) -> bool:
        """Whether no term takes part."""
        return not self.c.any()

    def plus(self, other: Form, sign: float = 1.0) -> Form:
        """The sum, or difference."""
        found = self.c + sign * other.c
        c = without_rounding(found, np.abs(self.c) + np.abs(other.c))
        return Form(c, self.constant + sign * other.constant)

    def times(self, factor: float) -> Form:
        """The multiple."""
        return Form(factor * self.c, factor * self.constant)


def without_rounding(sums: Floats, sizes: Floats) -> Floats:
    """Sums of coefficients, zero where they are nothing but rounding of terms of these sizes.

    >>> without_rounding(np.array([0.1 + 0.2 - 0.3, 0.1]), np.array([0.6, 0.1])).tolist()
    [0.0, 0.1]
    """
    negligible = np.abs(sums) <= ROUNDINGS * np.finfo(float).eps * sizes
    return np.where(negligible, 0.0, sums)


def read_rows(text: str, names: Sequence[str]) -> tuple[Floats, Floats]:
    """Coefficients (r, p) and right sides (r,) of the hypotheses in a text.

    Args:
        text: the hypotheses.
        names: p names of the terms.

    Raises:
        UnknownTermError: a name is not among the terms.
        ContrastError: the text cannot be read; the message says where.

    Example:
        >>> L, rhs = read_rows("2e-3*dose [mg] - `x` = 1/2, x = 3", ["x", "dose [mg]"])
        >>> L.tolist(), rhs.tolist()
        ([[-1.0, 0.002], [1.0, 0.0]], [0.5, 3.0])
    """
    try:
        rows = _Reader(text, tuple(names)).rows()
    except RecursionError:
        raise ContrastError(
            f"the brackets of the hypothesis {text[:40]!r} … are too deep"
        ) from None
    return np.array([row.c for row in rows]), np.array([-row.constant for row in rows])


def written(name: str, names: Sequence[str]) -> str:
    """The name as it can be read again: in backticks where it could be something else."""
    if _PLAIN.fullmatch(name):
        return name
    try:
        (c,), (constant,) = read_rows(name, names)
    except (ContrastError, UnknownTermError):
        return in_backticks(name)
    alone = c[list(names).index(name)] == 1.0 == np.abs(c).sum() and constant == 0.0
    return name if alone else in_backticks(name)


def require_known(found: Sequence[str], names: Sequence[str]) -> None:
    """Raise ``UnknownTermError`` for the first name that is no term."""
    for name in found:
        if name not in names:
            close = get_close_matches(name, names, cutoff=0.5)
            shown = list(names) if len(names) <= MOST_LISTED else close or names[:MOST_LISTED]
            more = ", …" * (len(shown) < len(names))
            raise UnknownTermError(
                f"no fixed effect {name!r}; the terms are: " + ", ".join(map(repr, shown)) + more
            )


class _Reader:
    """Reads one text from left to right."""

    def __init__(self, text: str, names: tuple[str, ...]) -> None:
        self.text, self.names, self.at = text, names, 0
        self.exact = _pattern(names, re.escape)
        self.loose = _pattern(names, _spaced)

    def rows(self) -> list[Form]:
        """All hypotheses, each with its right side brought to the left."""
        found = [self.row()]
        while self.take(","):
            found.append(self.row())
        if self.at < len(self.text):
            raise self.wrong(f"{self.text[self.at :]!r} is left over")
        return found

    def row(self) -> Form:
        """One hypothesis."""
        left = self.sum()
        form = left.plus(self.sum(), -1.0) if self.take("==") or self.take("=") else left
        if form.number and self.text[self.at : self.at + 1] not in ("", ","):
            raise self.wrong(f"{self.text[self.at :]!r} is left over")
        if form.number:
            raise ContrastError("the contrast is zero in every term: give it a coefficient")
        return form

    def sum(self) -> Form:
        """Products, added or subtracted."""
        form = self.product()
        while True:
            if self.take("+"):
                form = form.plus(self.product())
            elif self.take("-"):
                form = form.plus(self.product(), -1.0)
            else:
                return form

    def product(self) -> Form:
        """Factors, of which at most one holds terms."""
        form = self.factor()
        while True:
            if self.take("*"):
                other = self.factor()
                if not form.number and not other.number:
                    raise self.wrong("a product of terms is not linear")
                form = form.times(other.constant) if other.number else other.times(form.constant)
            elif self.take("/"):
                other = self.factor()
                if not other.number or other.constant == 0.0:
                    raise self.wrong("it divides by what is no number, or zero")
                form = form.times(1.0 / other.constant)
            else:
                return form

    def factor(self) -> Form:
        """A number, a term, or a sum in brackets."""
        self.skip()
        name = self.name()
        if name is not None:
            return Form((np.array(self.names) == name).astype(float), 0.0)
        if number := _NUMBER.match(self.text, self.at):
            value = float(number.group())
            if value == np.inf:
                raise self.wrong(f"{number.group()} is infinite in double precision")
            self.at = number.end()
            self.refuse_missing_sign(number.group())
            return Form(np.zeros(len(self.names)), value)
        if self.take("-"):
            return self.factor().times(-1.0)
        if self.take("+"):
            return self.factor()
        if self.take("("):
            form = self.sum()
            if not self.take(")"):
                raise self.wrong("a bracket is not closed")
            return form
        if found := _UNKNOWN.match(self.text, self.at):
            if number := re.match(_NUMBER.pattern.split("(?!")[0], found.group()):
                raise self.wrong(f"write {number.group()}*{found.group()[number.end() :]}")
            require_known([unquoted(found.group())], self.names)
        raise self.wrong("a term or a number is missing")

    def name(self) -> str | None:
        """The term at this place, if there is one."""
        found = self.exact.match(self.text, self.at) or self.loose.match(self.text, self.at)
        if not found or found.end() == self.at:
            return None
        number = _NUMBER.match(self.text, self.at)
        if number and number.end() >= found.end():
            return None
        name = self.names[int(str(found.lastgroup)[1:])]
        if found.group() == name:
            self.refuse_two_readings(name)
        self.at = found.end()
        return name

    def refuse_missing_sign(self, number: str) -> None:
        """Refuse a number before a term, or a bracket, as products are not written in code."""
        rest = self.text[self.at :]
        if rest.strip() and not re.match(r"\s*[-+*/=,)]", rest):
            raise self.wrong(f"write {number}*{rest.strip()}")

    def refuse_two_readings(self, name: str) -> None:
        """Refuse a term such as "a - b" beside terms "a" and "b"."""
        others = [other for other in self.names if other != name]
        if not re.search(r"[-+*/]", name) or not any(other in name for other in others):
            return
        try:
            read_rows(name, others)
        except (ContrastError, UnknownTermError):
            return
        raise self.wrong(
            f"{name!r} is a term and a sum of terms: write {in_backticks(name)} for the term"
        )

    def take(self, symbol: str) -> bool:
        """Whether a symbol comes next; it is passed."""
        self.skip()
        if not self.text.startswith(symbol, self.at):
            return False
        self.at += len(symbol)
        self.skip()
        return True

    def skip(self) -> None:
        """Pass spaces."""
        self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]

    def wrong(self, what: str) -> ContrastError:
        """The error to raise."""
        return ContrastError(
            f"cannot read the hypothesis '{self.text}' at {self.text[: self.at]!r}: {what}. "
            "Write it as 'x - 2*a = 0', and names that hold other characters in `backticks`"
        )


@lru_cache(maxsize=8)
def _pattern(names: tuple[str, ...], plain: Callable[[str], str]) -> re.Pattern[str]:
    """One group for every name, the longest first."""
    order = sorted(range(len(names)), key=lambda j: len(names[j]), reverse=True)
    return re.compile("|".join(f"(?P<n{j}>{_forms(names[j], plain)})" for j in order) or "(?!)")


def _forms(name: str, plain: Callable[[str], str]) -> str:
    """A pattern for a name: as it is, in backticks, or with parts of it in backticks."""
    quoted = re.escape(in_backticks(name))
    parts = [f"(?:{plain(part)}|{re.escape(in_backticks(part))})" for part in name.split(":")]
    colon = r"\s*:\s*"
    return f"(?:{plain(name)}|{quoted}|{colon.join(parts)}){_END}"


def _spaced(name: str) -> str:
    """A pattern for a name with any spaces around operators, and either sign of a power."""
    pieces = re.split(r"\s*([-+*/,=<>()\[\]^]+)\s*", name)
    escaped = r"\s*".join(map(re.escape, pieces))
    return re.sub(r"\\\*\\\*|\\\^", lambda _: POWER, escaped)
