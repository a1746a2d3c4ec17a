"""What an expression is made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

__all__ = [
    "Binary",
    "Call",
    "Column",
    "Constant",
    "Expression",
    "Node",
    "Number",
    "Opaque",
    "Text",
    "Unary",
    "columns_read",
    "full_basis",
    "within",
]

# A number, text, flag, None, or a list of them, as an option of a call.
Constant: TypeAlias = "float | str | bool | Sequence[Constant] | None"


@dataclass(frozen=True)
class Number:
    """A constant."""

    value: float


@dataclass(frozen=True)
class Text:
    """A level of a factor that a column is compared with."""

    value: str


@dataclass(frozen=True)
class Column:
    """A column of the data."""

    name: str


@dataclass(frozen=True)
class Unary:
    """``-a``, ``+a`` or ``~a``."""

    sign: str
    of: Node


@dataclass(frozen=True)
class Binary:
    """Arithmetic, a comparison, ``&`` or ``|``."""

    sign: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Call:
    """A function of expressions; ``text`` tells apart what each call learned."""

    function: str
    of: tuple[Node, ...]
    options: tuple[tuple[str, Constant], ...]
    text: str


@dataclass(frozen=True)
class Opaque:
    """Code that Python evaluates (``language/opaque.py``)."""

    text: str
    columns: tuple[str, ...]


Node: TypeAlias = Number | Text | Column | Unary | Binary | Call | Opaque


@dataclass(frozen=True)
class Expression:
    """An expression over columns.

    Attributes:
        node: its root.
        text: as tables print it: a column by its bare name, the rest with spacing normalised.
        variables: the columns that it reads, in order of first use.
    """

    node: Node
    text: str
    variables: tuple[str, ...] = field(compare=False)

    def __hash__(self) -> int:
        """That of the text; the tree is only compared where texts agree."""
        return hash(self.text)


def within(node: Node) -> Iterator[Node]:
    """The nodes of an expression, itself and then what it is made of, in the order written."""
    yield node
    if isinstance(node, Unary):
        yield from within(node.of)
    elif isinstance(node, Binary):
        yield from within(node.left)
        yield from within(node.right)
    elif isinstance(node, Call):
        for inner in node.of:
            yield from within(inner)


def columns_read(node: Node) -> Iterator[str]:
    """The names of the columns of an expression, in the order written."""
    for inner in within(node):
        if isinstance(inner, Column):
            yield inner.name
        elif isinstance(inner, Opaque):
            yield from inner.columns


def full_basis(node: Node) -> bool:
    """Whether the columns sum to one, as those of ``bs(x, include_intercept=True)`` do."""
    return isinstance(node, Call) and dict(node.options).get("include_intercept") is True
