"""Linear hypotheses as text: ``x - 2*a = 0``, with names of terms, which may hold any character."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

from jaxhlm.errors import ContrastError, UnknownTermError
from jaxhlm.language.words import excerpt

__all__ = ["Linear", "read_linear"]

# Coefficients by name, and a constant under None.
Linear: TypeAlias = dict[str | None, float]

MAX_LENGTH = 20_000
MAX_DEPTH = 30
_NUMBER = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.])")
_QUOTED = re.compile(r"`((?:[^`]|``)+)`")
_LIKE_A_NAME = re.compile(r"[^\W\d][\w.]*(?:[:\[(][^\s=,+*/-]*)?")


def read_linear(text: str, names: Sequence[str]) -> list[Linear]:
    """The rows of a hypothesis, each zero where it holds.

    Args:
        text: rows joined by commas; a name that does not read as one stands in backticks.
        names: of the terms.

    Raises:
        UnknownTermError: a name is not among them.
        ContrastError: anything else that cannot be read.

    Example:
        >>> read_linear("x - 2e-3*a = 1", ["x", "a"])
        [{'x': 1.0, 'a': -0.002, None: -1.0}]
    """
    if len(text) > MAX_LENGTH:
        raise ContrastError(f"a hypothesis of {len(text):,} characters: give an array instead")
    reader = _Reader(text, names)
    rows: list[Linear] = []
    while True:
        sides = [reader.sum()]
        while reader.took("="):
            sides.append(reader.sum())
        pairs = pairwise(sides) if len(sides) > 1 else [(sides[0], {})]
        rows += [_plus(left, right, -1.0) for left, right in pairs]
        if not reader.took(","):
            break
    if reader.at < len(text):
        raise reader.error()
    return rows


class _Reader:
    def __init__(self, text: str, names: Sequence[str]) -> None:
        self.text, self.names, self.at, self.depth = text.rstrip(), names, 0, 0
        bare = sorted((n for n in names if not re.match(r"[\d`]|$", n)), key=len, reverse=True)
        self.known = re.compile("|".join(map(re.escape, bare)) if bare else r"(?!)")

    def error(self, reason: str = "") -> ContrastError:
        where = (
            reason or f"at '{excerpt(self.text[self.at :])}'" if self.text[self.at :] else reason
        )
        return ContrastError(
            f"cannot read the hypothesis '{excerpt(self.text)}' {where or 'to its end'}. Write it "
            "as 'x - a = 0', and names with other characters in `backticks`"
        )

    def took(self, sign: str) -> bool:
        self._skip()
        if not self.text.startswith(sign, self.at):
            return False
        self.at += len(sign)
        return True

    def sum(self) -> Linear:
        total: Linear = {}
        sign = self._sign()
        while True:
            total = _plus(total, self._product(), -1.0 if sign == "-" else 1.0)
            if not (sign := self._sign()):
                return total

    def _sign(self) -> str:
        """One sign out of a run of them, or nothing."""
        sign = ""
        while True:
            if self.took("-"):
                sign = "+" if sign == "-" else "-"
            elif self.took("+"):
                sign = sign or "+"
            else:
                return sign

    def _product(self) -> Linear:
        left = self._operand()
        while True:
            if self.took("*"):
                left = self._times(left, self._operand())
            elif self.took("/"):
                divisor = self._operand()
                if set(divisor) != {None} or divisor[None] == 0.0:
                    raise self.error("because it divides by something that is no number")
                left = {name: value / divisor[None] for name, value in left.items()}
            else:
                return left

    def _times(self, left: Linear, right: Linear) -> Linear:
        for number, other in ((left, right), (right, left)):
            if set(number) == {None}:
                return {name: value * number[None] for name, value in other.items()}
        raise self.error("because it multiplies terms; it must be linear in them")

    def _operand(self) -> Linear:
        self._skip()
        if name := self._name():
            return {name: 1.0}
        if found := _NUMBER.match(self.text, self.at):
            self.at = found.end()
            return {None: float(found[0])}
        if self.took("("):
            return self._parenthesised()
        if self.took("-"):
            return {name: -value for name, value in self._operand().items()}
        if found := _LIKE_A_NAME.match(self.text, self.at):
            raise self._unknown(found[0])
        raise self.error()

    def _parenthesised(self) -> Linear:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error("because its brackets are too deep")
        inside = self.sum()
        if not self.took(")"):
            raise self.error()
        self.depth -= 1
        return inside

    def _name(self) -> str | None:
        """The longest name of a term that stands here, as a whole word."""
        found = self.known.match(self.text, self.at)
        if found and not re.match(r"[\w.:(\[]", self.text[found.end() : found.end() + 1]):
            self.at = found.end()
            return found[0]
        if quoted := _QUOTED.match(self.text, self.at):
            name = quoted[1].replace("``", "`")
            if name not in self.names:
                raise self._unknown(name)
            self.at = quoted.end()
            return name
        return None

    def _unknown(self, name: str) -> UnknownTermError:
        return UnknownTermError(
            f"no fixed effect {name!r}; the terms are: " + ", ".join(map(repr, self.names))
        )

    def _skip(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1


def _plus(left: Linear, right: Linear, sign: float) -> Linear:
    out = dict(left)
    for name, value in right.items():
        out[name] = out.get(name, 0.0) + sign * value
    return out
