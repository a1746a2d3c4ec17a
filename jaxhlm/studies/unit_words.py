"""A design of units in words: values of covariates, and how many units belong where."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxhlm.core.notation import Floats, Ints
from jaxhlm.studies.unit_rows import Levels, Source, is_drawn

__all__ = ["Members", "crossed_in_words", "in_words"]

# Values of a covariate, or levels, that are told one by one, at most.
SHOWN = 8


class Members(NamedTuple):
    """Units and the levels of factors that they belong to.

    Attributes:
        levels: of every factor.
        codes: (n,) numbers of the levels, by factor.
    """

    levels: Mapping[str, Sequence[Hashable]]
    codes: Mapping[str, Ints]

    def __str__(self) -> str:
        """The factors, and the number of units at every level, or combination of levels.

        >>> print(Members({"arm": ["a", "b"]}, {"arm": np.array([0, 1, 0])}))
        arm: 2 a, 1 b
        """
        cell, labels = self._cells
        counts = np.bincount(cell, minlength=len(labels))
        factors = " × ".join(self.codes)
        if len(labels) <= SHOWN:
            text = ", ".join(f"{n:,} {label}" for n, label in zip(counts, labels, strict=True))
        else:
            low, high = counts.min(), counts.max()
            each = f"{low:,}" if low == high else f"{low:,} to {high:,}"
            kinds = "levels" if len(self.codes) == 1 else "combinations of levels"
            text = f"{each} at each of {len(labels):,} {kinds}"
        return f"{factors}: {text}"

    @property
    def split_evenly(self) -> bool:
        """Whether so many units can be the same number at every combination of levels."""
        cell, labels = self._cells
        return len(cell) % len(labels) == 0

    def shares(self, expected: Floats) -> str:
        """How many of the units are expected to do what each does with a probability.

        >>> members = Members({"arm": ["a", "b"]}, {"arm": np.array([0, 1, 0])})
        >>> members.shares(np.array([0.9, 0.8, 0.9]))
        '2.6 of 3 units (1.8 of 2 a, 0.8 of 1 b)'
        """
        cell, labels = self._cells
        text = f"{expected.sum():,.4g} of {len(expected):,} units"
        if not 1 < len(labels) <= SHOWN:
            return text
        sums, counts = (np.bincount(cell, w, len(labels)) for w in (expected, None))
        parts = zip(sums, counts, labels, strict=True)
        return f"{text} ({', '.join(f'{s:,.4g} of {n:,} {label}' for s, n, label in parts)})"

    @property
    def _cells(self) -> tuple[Ints, list[str]]:
        """(n,) combination of levels of every unit, and names of them all."""
        cell, labels, n = np.zeros(1, np.int64), [""], 1
        for name, codes in self.codes.items():
            cell = cell + n * codes
            labels = [f"{a} {b}".strip() for b in map(str, self.levels[name]) for a in labels]
            n *= len(self.levels[name])
        return cell, labels


def in_words(name: str, source: Source) -> str:
    """A covariate and its values."""
    if is_drawn(source):
        return f"{name} is drawn"
    values = [f"{x:g}" if isinstance(x, float) else str(x) for x in source[:SHOWN]]
    return f"{name} = {', '.join(values)}" + ", …" * (len(source) > SHOWN)


def crossed_in_words(crossed: Mapping[str, Levels]) -> str:
    """What every measurement is taken at."""
    named = " and ".join(f"{name} ({', '.join(map(str, x))})" for name, x in crossed.items())
    return f"Every measurement is taken at every level of {named}" if named else ""
