"""A design of units in words: values of covariates, and how many units belong where."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxhlm.core.notation import Floats, Ints
from jaxhlm.studies.unit_rows import (
    DROPOUT,
    SIZES,
    Levels,
    Source,
    drawn_sizes,
    is_drawn,
    is_range,
    rotation,
)

if TYPE_CHECKING:
    from jaxhlm.studies.builder import UnitDesign

__all__ = ["Members", "design_in_words"]

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


def design_in_words(design: UnitDesign) -> str:
    """A design in words; of what is drawn once, the draw, which is the one that is simulated."""
    d, planned, kept = design, _planned(design), _kept(design)
    members = Members(d.levels, rotation(d.factors, np.arange(d.n)))
    texts = [f"{d.n:,} units ({d.unit}), {_sizes_in_words(d, planned)}."]
    most = d.most if kept is None else int(kept.max())
    texts += [f"Within units {_values_in_words(name, x, most)}." for name, x in d.within.items()]
    texts += [f"{x}." for x in (_crossed_in_words(d.crossed),) if x]
    texts += [f"Between units {_values_in_words(name, x)}." for name, x in d.between.items()]
    if d.factors:
        uneven = "" if members.split_evenly else f"; {d.n:,} cannot be split evenly"
        texts.append(f"In rotation units belong to {members}{uneven}.")
    if is_drawn(d.dropout):
        texts.append("Drop-out: units leave after a number of measurements that is drawn.")
    elif d.leaving is not None:
        texts.append(f"Drop-out: {d.leaving}.")
    texts += _complete_in_words(d, members, planned, kept)
    for names, when in (
        (d.redrawn_names, "anew for every data set"),
        (d.drawn_once, "once, for all of them"),
    ):
        texts += [f"Drawn {when}: {', '.join(names)}."] * bool(names)
    return " ".join(texts)


def _planned(design: UnitDesign) -> Ints | None:
    """(n,) measurements that are planned, as drawn; None where they are drawn anew."""
    if SIZES in design.redrawn_names:
        return None
    return _one_draw(replace(design, dropout=None, redraw=False))


def _kept(design: UnitDesign) -> Ints | None:
    """(n,) measurements until units leave, as drawn; None where they are drawn anew."""
    return None if {SIZES, DROPOUT} & {*design.redrawn_names} else _one_draw(design)


def _one_draw(design: UnitDesign) -> Ints:
    # Of what is drawn once, whatever the generator.
    return drawn_sizes(design, [np.random.default_rng(0)])[0]


def _sizes_in_words(design: UnitDesign, planned: Ints | None) -> str:
    """How many measurements units have."""
    sizes, drawn = design.measurements, ""
    if SIZES in design.drawn_once and planned is not None:
        drawn = f" ({planned.min():,} to {planned.max():,} in this draw)"
    if is_drawn(sizes):
        return f"with a number of measurements that is drawn{drawn}"
    low, high = np.min(sizes), np.max(sizes)
    each = f"with {low} measurements each" if low == high else f"with {low} to {high} each"
    return each + drawn


def _complete_in_words(
    design: UnitDesign, members: Members, planned: Ints | None, kept: Ints | None
) -> list[str]:
    """How many units have all measurements: in the draw, or as is expected of many."""
    if design.dropout is None:
        return []
    if kept is not None and planned is not None:
        share = members.shares(np.asarray(kept == planned, float))
        who = "In this draw, on which all data sets are simulated"
        return [f"{who}, {share} have all measurements."]
    staying = _staying(design, planned)
    if staying is None:
        return []
    return [f"Expected to have all measurements: {members.shares(staying)}."]


def _staying(design: UnitDesign, planned: Ints | None) -> Floats | None:
    """(n,) probabilities that units do not drop out; None where that is not known."""
    if design.leaving is None or DROPOUT in design.drawn_once:
        return None
    if planned is not None:
        return np.broadcast_to(design.leaving.staying(planned), design.n)
    if not is_range(design.measurements):
        return None
    low, high = design.measurements
    each = design.leaving.staying(np.arange(low, high + 1)[:, None])
    found: Floats = np.broadcast_to(each, (len(each), design.n)).mean(axis=0)
    return found


def _values_in_words(name: str, source: Source, most: int | None = None) -> str:
    """A covariate and its values, the first so many, which rows have."""
    if is_drawn(source):
        return f"{name} is drawn"
    values = source[:most]
    told = [f"{x:g}" if isinstance(x, float) else str(x) for x in values[:SHOWN]]
    return f"{name} = {', '.join(told)}" + ", …" * (len(values) > SHOWN)


def _crossed_in_words(crossed: Mapping[str, Levels]) -> str:
    """What every measurement is taken at."""
    named = " and ".join(f"{name} ({', '.join(map(str, x))})" for name, x in crossed.items())
    return f"Every measurement is taken at every level of {named}" if named else ""
