"""A random term as data: its grouping factor, its columns of Z and their covariance structure.

A model holds a tuple of them. What a structure means for θ and Λ is decided here alone: it says
which columns of the term covary freely. These sets are the blocks of Λ, and all that the engine
needs: whoever changes the basis of Z, to standardise or to start, may mix columns within them only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxhlm.errors import OptionError
from jaxhlm.likelihood.covariance import Blocks, ThetaIndex, theta_index

__all__ = ["STRUCTURES", "RandomTerm", "WithTerms", "blocks_of", "group_of", "names_of"]


STRUCTURES: dict[str, Callable[[tuple[int, ...]], Blocks]] = {
    "unstructured": lambda columns: (columns,)
}
"""From a term's columns of Z to the sets of them that covary freely, by name of the structure."""


@dataclass(frozen=True)
class RandomTerm:
    """A random term of a model; ``||`` gives one for every column.

    Attributes:
        group: name of the grouping factor, `"a:b"` for two columns.
        columns: its columns of Z.
        names: their names.
        structure: how they covary, one of ``STRUCTURES``.

    Raises:
        OptionError: the structure is not known.

    Example:
        >>> term = RandomTerm("unit", (0, 1), ("(Intercept)", "x"))
        >>> term.blocks, term.entries
        (((0, 1),), ((0, 0), (1, 0), (1, 1)))
    """

    group: str
    columns: tuple[int, ...]
    names: tuple[str, ...]
    structure: str = "unstructured"

    def __post_init__(self) -> None:
        if self.structure not in STRUCTURES:
            known = ", ".join(map(repr, STRUCTURES))
            raise OptionError(f"structure={self.structure!r} is not known; use one of {known}")

    @property
    def blocks(self) -> Blocks:
        """The sets of its columns that covary freely; there is no covariance across them."""
        return STRUCTURES[self.structure](self.columns)

    @property
    def entries(self) -> ThetaIndex:
        """Row and column in Λ of every entry of θ that belongs to the term, in order."""
        return theta_index(self.blocks)


def blocks_of(terms: Sequence[RandomTerm]) -> Blocks:
    """The blocks of Λ, term after term."""
    return tuple(block for term in terms for block in term.blocks)


def names_of(terms: Sequence[RandomTerm]) -> tuple[str, ...]:
    """Names of the q columns of Z, in the order of the columns."""
    named = {j: x for term in terms for j, x in zip(term.columns, term.names, strict=True)}
    return tuple(named[j] for j in sorted(named))


def group_of(terms: Sequence[RandomTerm]) -> str:
    """Name of the one grouping factor that all terms share."""
    (group,) = dict.fromkeys(term.group for term in terms)
    return group


class WithTerms:
    """A record that holds the random terms of a model, and what follows from all of them."""

    terms: tuple[RandomTerm, ...]

    @property
    def znames(self) -> tuple[str, ...]:
        """Names of the q columns of Z, as lme4 prints them."""
        return names_of(self.terms)

    @property
    def blocks(self) -> Blocks:
        """Columns of Z that covary freely, term after term."""
        return blocks_of(self.terms)

    @property
    def group_name(self) -> str:
        """The grouping factor's name, `"a:b"` for two columns."""
        return group_of(self.terms)
