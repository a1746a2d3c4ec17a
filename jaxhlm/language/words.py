"""The words of a formula: names, numbers, strings and signs, with the depth of their brackets.

A name is letters, digits, ``_`` and ``.`` as R allows (Python's own words are names like any
other); any other name stands in backticks, a backtick inside it doubled: `` `a``b` `` is a`b.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from jaxhlm.errors import FormulaError

__all__ = ["Word", "excerpt", "in_backticks", "name_of", "quoted", "unquoted", "words"]

# A formula that a person or a program writes stays far below these.
MAX_LENGTH = 100_000
MAX_DEPTH = 40

_CLOSING = {")": "(", "]": "[", "}": "{"}
_PLAIN = re.compile(r"[^\W\d](?:\w|\.)*|\.[^\W\d](?:\w|\.)*")
_WORD = re.compile(
    r"""(?P<space>\s+)
    |(?P<quoted>`(?:[^`]|``)+`)
    |(?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    |(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
    |(?P<name>[^\W\d](?:\w|\.|[\u0300-\u036f])*|\.[^\W\d](?:\w|\.)*)
    |(?P<sign>\*\*|%in%|<=|>=|==|!=|\|\||//|[-+*/:^|&~<>=(){}\[\],.%])""",
    re.VERBOSE,
)
_CONSTANTS = ("True", "False", "None")


class Word(NamedTuple):
    """One word of a text.

    Attributes:
        kind: ``name``, ``quoted``, ``string``, ``number`` or ``sign``.
        text: as written.
        depth: how many brackets are open around it; a bracket is inside itself.
        start, stop: where it stands in the text.
    """

    kind: str
    text: str
    depth: int
    start: int
    stop: int


@lru_cache(maxsize=128)
def words(text: str) -> tuple[Word, ...]:
    """Split a text into its words.

    Raises:
        FormulaError: a character that no formula has, brackets that do not match, a quote that is
            left open, or a text longer or deeper than any formula.

    Example:
        >>> [word.text for word in words("log(y) + `my x`")]
        ['log', '(', 'y', ')', '+', '`my x`']
    """
    if len(text) > MAX_LENGTH:
        raise FormulaError(
            f"a formula of {len(text):,} characters; at most {MAX_LENGTH:,} are read"
        )
    found: list[Word] = []
    stack: list[str] = []
    at = 0
    while at < len(text):
        match = _WORD.match(text, at)
        if match is None:
            raise _unreadable(text, at)
        kind, piece, at = str(match.lastgroup), match[0], match.end()
        if kind == "space":
            continue
        if piece in ("(", "[", "{"):
            stack.append(piece)
        found.append(Word(kind, piece, len(stack), match.start(), at))
        if kind == "sign" and piece in _CLOSING and (not stack or stack.pop() != _CLOSING[piece]):
            raise FormulaError(
                f"unbalanced parentheses: '{piece}' closes nothing in '{excerpt(text)}'"
            )
        if len(stack) > MAX_DEPTH:
            raise FormulaError(
                f"more than {MAX_DEPTH} brackets inside each other: write it flatter"
            )
    if stack:
        raise FormulaError(f"unbalanced parentheses: '{stack[-1]}' is open in '{excerpt(text)}'")
    return tuple(found)


def _unreadable(text: str, at: int) -> FormulaError:
    if text[at] in "`'\"":
        return FormulaError(
            f"unbalanced parentheses: '{text[at]}' is open in '{excerpt(text)}'; write a backtick "
            "inside a name twice"
        )
    return FormulaError(
        f"{text[at]!r} has no meaning in a formula, in '{excerpt(text)}'; a column whose name "
        "holds it goes in `backticks`"
    )


def name_of(word: Word) -> str:
    """The column that a word names, its quotes taken off.

    >>> name_of(words("`a``b`")[0])
    'a`b'
    """
    return unquoted(word.text) if word.kind == "quoted" else word.text


def unquoted(text: str) -> str:
    """A name without the backticks around it, if there are any."""
    return text[1:-1].replace("``", "`") if text[:1] == "`" == text[-1:] else text


def in_backticks(name: str) -> str:
    """A name in backticks, those inside it doubled."""
    return f"`{name.replace('`', '``')}`"


def quoted(name: str) -> str:
    """A name as a formula writes it: bare where it can be, else in backticks.

    >>> quoted("Sepal.Length"), quoted("dose [mg]")
    ('Sepal.Length', '`dose [mg]`')
    """
    bare = _PLAIN.fullmatch(name) and name not in _CONSTANTS and not name.startswith("np.")
    return name if bare else in_backticks(name)


def excerpt(text: str) -> str:
    """The text, or its beginning where it is long."""
    return text if len(text) <= 120 else text[:117] + "…"
