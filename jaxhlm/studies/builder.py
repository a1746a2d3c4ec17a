"""``units``: designs made from a few words, fixed or drawn anew for every data set."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from pandas.api import types

from jaxhlm.core.arguments import (
    affordable,
    check_length,
    check_mapping,
    whole_number,
)
from jaxhlm.core.document import Block, Printed, filled
from jaxhlm.core.notation import Ints
from jaxhlm.errors import OptionError
from jaxhlm.studies.dropout import Dropout, DropoutRate, named_dropout, read_dropout
from jaxhlm.studies.unit_rows import (
    DROPOUT,
    SIZES,
    Columns,
    Drawn,
    Fixed,
    Levels,
    Source,
    check_grid,
    is_drawn,
    is_fixed,
    is_range,
    stacked_columns,
)
from jaxhlm.studies.unit_words import design_in_words
from jaxhlm.violations.distributions import sampler

__all__ = ["UnitDesign", "units"]

Sizes: TypeAlias = int | Fixed | Drawn


@dataclass(frozen=True, eq=False, repr=False)
class UnitDesign(Printed):
    """A design of units with repeated measurements; made by ``jaxhlm.units``, which see.

    Attributes:
        n, measurements, within, between, factors, crossed, dropout, redraw, unit, seed: as there.
    """

    n: int
    measurements: Sizes
    within: Mapping[str, Source] = field(default_factory=dict)
    between: Mapping[str, Source] = field(default_factory=dict)
    factors: Mapping[str, Levels] = field(default_factory=dict)
    crossed: Mapping[str, Levels] = field(default_factory=dict)
    dropout: DropoutRate | Drawn | None = None
    redraw: bool | Sequence[str] = False
    unit: str = "unit"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse designs that cannot be."""
        whole_number("n", self.n, 2)
        whole_number("seed", self.seed, least=0)
        if not isinstance(self.unit, str):
            raise OptionError(f"unit={self.unit!r} must be the name of a column")
        names = [self.unit]
        for part in ("within", "between", "factors", "crossed"):
            for name, values in check_mapping(part, getattr(self, part)).items():
                check_length(name, values)
                names.append(name)
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise OptionError(f"the design has two columns named {twice.pop()!r}; rename one")
        for name, levels in {**self.factors, **self.crossed}.items():
            if not _distinct(levels):
                raise OptionError(f"factor {name!r} needs two or more distinct levels: {levels!r}")
            if pd.isna(list(levels)).any():
                raise OptionError(f"factor {name!r} has a missing level: {levels!r}; name it")
        self._check_sizes()
        if is_drawn(self.dropout):
            sampler(DROPOUT, self.dropout)
        _ = self.leaving
        for name, source in {**self.within, **self.between}.items():
            _check_source(name, source)
        for name, grid in self.within.items():
            if is_fixed(grid) and self.most is not None:
                check_grid(name, grid, self.most)
        for name, values in self.between.items():
            self._check_each(repr(name), values, "values", " or a distribution")
        if not isinstance(self.redraw, bool):
            if isinstance(self.redraw, str) or not is_fixed(self.redraw):
                raise OptionError(f"redraw={self.redraw!r} must be True, False or a list of names")
            unknown = [name for name in self.redraw if name not in self._random]
            if unknown:
                raise OptionError(
                    f"redraw names {unknown[0]!r}, which is not drawn here; what is: "
                    + (", ".join(self._random) or "nothing")
                )

    def __str__(self) -> str:
        """The design in words, in lines."""
        return filled(self.in_words)

    def _blocks(self) -> list[Block]:
        return [[self.in_words]]

    @property
    def in_words(self) -> str:
        """The design in words; of what is drawn once, the draw."""
        return design_in_words(self)

    @property
    def most(self) -> int | None:
        """Largest number of measurements that a unit may have; None if a distribution says it."""
        return None if is_drawn(self.measurements) else int(np.max(self.measurements))

    @property
    def redrawn(self) -> bool:
        """Whether two data sets may differ in their design."""
        return bool(self.redrawn_names)

    @property
    def redrawn_names(self) -> list[str]:
        """What is drawn anew for every data set."""
        return [name for name in self._random if self.redraws(name)]

    @property
    def drawn_once(self) -> list[str]:
        """What is drawn once, for all data sets."""
        return [name for name in self._random if not self.redraws(name)]

    @property
    def levels(self) -> dict[str, list[Hashable]]:
        """Levels of every factor, the first of which is the base of its contrasts."""
        return {name: list(x) for name, x in {**self.factors, **self.crossed}.items()}

    def resized(self, n: int | None = None, measurements: Sizes | None = None) -> UnitDesign:
        """The same design with other sizes.

        Numbers of measurements and probabilities of drop-out that were given unit by unit are taken
        in turn, as ``jaxhlm.extend`` copies units.

        Raises:
            OptionError: a covariate has fixed values, and too few of them.
        """
        n = self.n if n is None else whole_number("n", n, 2)
        sizes, leaves = self.measurements if measurements is None else measurements, self.dropout
        if measurements is None and not is_range(sizes):
            sizes = _in_turn(sizes, n)
        if isinstance(leaves, Mapping):
            leaves = {kind: _in_turn(p, n) for kind, p in leaves.items()}
        return replace(self, n=n, measurements=sizes, dropout=leaves)

    def frame(self, rng: np.random.Generator | int | None = None) -> pd.DataFrame:
        """The rows of one data set, unit after unit.

        Args:
            rng: NumPy Generator, or seed of one, of what is redrawn; None for the seed of the
                design, which without redrawn parts is all that counts.
        """
        if not isinstance(rng, np.random.Generator):
            rng = np.random.default_rng(self.seed if rng is None else whole_number("rng", rng, 0))
        return self.table(self.columns(rng))

    def columns(self, rng: np.random.Generator) -> Columns:
        """(rows,) arrays by name: units as 0 … n − 1, factors as the numbers of their levels."""
        return self.stacked([rng])[1]

    def stacked(self, generators: Iterable[np.random.Generator]) -> tuple[Ints, Columns]:
        """Data sets one below the other; see ``stacked_columns``."""
        columns = 3 + len(self.within) + len(self.between) + len(self.factors) + len(self.crossed)
        affordable("n × measurements", self.n * (self.most or 1), 8.0 * columns * self.cells)
        return stacked_columns(self, generators)

    def table(self, columns: Columns) -> pd.DataFrame:
        """A frame of columns, factors as categories."""
        levels = self.levels
        return pd.DataFrame(
            {
                name: pd.Categorical.from_codes(values, levels[name]) if name in levels else values
                for name, values in columns.items()
            }
        )

    @property
    def cells(self) -> int:
        """Rows of every measurement: combinations of the levels of ``crossed``."""
        return int(np.prod([len(x) for x in self.crossed.values()], dtype=float))

    @cached_property
    def leaving(self) -> Dropout | None:
        """Drop-out at a constant rate, if there is any."""
        if not isinstance(self.dropout, Mapping):
            return None
        read = read_dropout(self.dropout, self.n)
        return read if read.p.any() else None

    def redraws(self, name: str) -> bool:
        """Whether a random part is drawn anew for every data set."""
        return self.redraw if isinstance(self.redraw, bool) else name in self.redraw

    @property
    def _random(self) -> list[str]:
        """Names of what is drawn."""
        drawn = [name for name, x in {**self.within, **self.between}.items() if not is_fixed(x)]
        drawn += [SIZES] * (self.most is None or is_range(self.measurements))
        return drawn + [DROPOUT] * (self.leaving is not None or is_drawn(self.dropout))

    def _check_each(self, name: str, given: object, what: str, more: str) -> None:
        """Refuse fixed values that are not one for every unit."""
        if is_fixed(given) and len(given) != self.n:
            raise OptionError(
                f"{name} has {len(given)} {what} for {self.n} units; give one for each{more}"
            )

    def _check_sizes(self) -> None:
        sizes = self.measurements
        if is_drawn(sizes):
            sampler(SIZES, sizes)
            return
        known = list | tuple | range | np.ndarray | pd.Series
        listed: list[Any] = [sizes]
        if isinstance(sizes, known) and np.ndim(sizes) == 1:
            listed = list(sizes)
        if not listed:
            raise OptionError("measurements is empty")
        for size in listed:
            whole_number(SIZES, size)
        if is_range(sizes):
            low, high = sizes
            if low > high:
                raise OptionError(f"measurements={sizes}: give (low, high) with low ≤ high")
        else:
            more = ", one number for all, a (low, high) range as a tuple, or a distribution"
            self._check_each(SIZES, sizes, "numbers", more)


def units(
    n: int = 30,
    measurements: Sizes | None = None,
    within: Mapping[str, Source] | None = None,
    between: Mapping[str, Source] | None = None,
    factors: Mapping[str, Levels] | None = None,
    crossed: Mapping[str, Levels] | None = None,
    dropout: DropoutRate | Drawn | float | Fixed | None = None,
    redraw: bool | Sequence[str] = False,
    unit: str = "unit",
    seed: int = 0,
) -> UnitDesign:
    """A design of n units with repeated measurements, to simulate on.

    Args:
        n: number of units.
        measurements: per unit: a number for all; a list of n numbers; a tuple (low, high) for
            sizes drawn uniformly, both ends included; or a distribution of whole numbers, a
            function ``(rng, size) -> array`` or a frozen one of ``scipy.stats`` such as
            ``poisson(4, loc=1)``. By default as many as the shortest fixed covariate within units
            has values, or else 10.
        within: covariates that vary within units, by name: a sequence (the same grid for every
            unit, which takes as many of its values as it has measurements), a function
            ``(rng, size) -> array``, or a frozen distribution of ``scipy.stats``.
        between: covariates of the units, by name: n values, a function or a distribution.
        factors: levels of factors between units, by name. Units are nested in levels, to which
            they belong in rotation; several factors are crossed, the first changing fastest. So
            groups differ by one unit at most.
        crossed: levels of factors within units, by name: every measurement is taken at every
            combination of their levels, and a unit has that many times more rows.
        dropout: who leaves for good and so misses all later measurements, every unit having its
            first. ``{"overall": 0.2}`` is the share of the units (of those with two measurements or
            more) that leave before the last one planned, at a constant rate; and
            ``{"per_visit": 0.05}`` the probability to leave after each measurement: with five,
            1 − 0.95⁴ = 19 % leave before the last. Either takes a list for n units too, such as
            ``[0.1, 0.3] * 15`` for two groups in rotation. Or a distribution, given as for
            ``measurements``, of the number of measurements that a unit leaves after. A bare number
            is read as "per_visit", and a warning says so.
        redraw: False draws everything once, from ``seed``: power is then that of this one draw,
            whose numbers ``print`` tells; designs of other sizes share its first units. True
            draws everything random anew for every data set, and power is that of all draws; a list
            of names redraws these (covariates, "measurements", "dropout").
        unit: name of the grouping column, whose labels are 0 … n − 1.
        seed: of what is drawn once. Every covariate has a stream of its own, so that adding one
            leaves the others alone.

    Returns:
        A ``UnitDesign``: ``.frame(rng)`` is a DataFrame, ``.resized(n, measurements)`` the same
        with other sizes.

    Raises:
        OptionError: names that clash, numbers that cannot be, or a covariate with too few values.

    Warns:
        AmbiguousDropoutWarning: ``dropout`` is a bare number.

    Example:
        >>> import jaxhlm as hlm
        >>> from scipy import stats
        >>> design = hlm.units(
        ...     n=6, within={"x": [0, 1, 2]}, between={"a": stats.norm()},
        ...     factors={"group": ["control", "treated"]}, dropout={"overall": 0.2},
        ... )
        >>> unequal = hlm.units(n=4, measurements=[2, 5, 3, 5], within={"x": range(5)}).frame()
        >>> unequal.groupby("unit").size().tolist()
        [2, 5, 3, 5]
        >>> frame = design.frame()
        >>> list(frame), frame.groupby("unit")["group"].first().tolist()[:3]
        (['unit', 'x', 'a', 'group'], ['control', 'treated', 'control'])
    """
    given = {} if within is None else check_mapping("within", within)
    if measurements is None:
        grids = [len(x) for x in given.values() if is_fixed(x)]
        measurements = min(grids, default=10)
    between = {} if between is None else between
    factors = {} if factors is None else factors
    crossed = {} if crossed is None else crossed
    leaves = named_dropout(dropout, n)
    return UnitDesign(n, measurements, given, between, factors, crossed, leaves, redraw, unit, seed)


def _distinct(levels: Levels) -> bool:
    """Whether these are two or more distinct levels."""
    listed = types.is_list_like(levels, allow_sets=False) and hasattr(levels, "__len__")
    if not listed or isinstance(levels, Mapping | pd.DataFrame):
        return False
    if any(types.is_list_like(level) for level in levels):
        return False
    return len(set(levels)) == len(levels) >= 2


def _in_turn(given: Any, n: int) -> Any:
    """n values, taken in turn from those that were given unit by unit."""
    return np.resize(np.asarray(given), n).tolist() if is_fixed(given) else given


def _check_source(name: str, source: Source) -> None:
    if not is_fixed(source):
        sampler(name, source)
    elif isinstance(source, str) or np.ndim(np.asarray(source)) != 1:
        raise OptionError(f"the values of {name!r} must be one sequence, not {source!r}")
