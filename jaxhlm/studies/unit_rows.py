"""The rows of a ``UnitDesign``: what is random is drawn data set by data set, rows are made of all.

A frame for every data set would take more time and memory than its fit.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from jaxhlm.core.notation import Floats, Ints
from jaxhlm.errors import OptionError
from jaxhlm.violations.distributions import Frozen, sampler

if TYPE_CHECKING:
    from typing_extensions import TypeIs

    from jaxhlm.studies.builder import UnitDesign

__all__ = [
    "DROPOUT",
    "SIZES",
    "Columns",
    "Drawn",
    "Fixed",
    "Levels",
    "Source",
    "check_grid",
    "drawn_sizes",
    "is_drawn",
    "is_fixed",
    "is_range",
    "rotation",
    "stacked_columns",
]

SIZES, DROPOUT = "measurements", "dropout"
Drawn: TypeAlias = Frozen | Callable[[np.random.Generator, int], npt.ArrayLike]
Fixed: TypeAlias = Sequence[Any] | npt.NDArray[Any]
Source: TypeAlias = Fixed | Drawn
Levels: TypeAlias = Sequence[Hashable]
# (rows,) arrays by name.
Columns: TypeAlias = Mapping[str, npt.NDArray[Any]]


def stacked_columns(
    design: UnitDesign, generators: Iterable[np.random.Generator]
) -> tuple[Ints, Columns]:
    """The rows of B data sets, unit after unit, one data set below the other.

    Args:
        design: of n units.
        generators: B of them, each of what is redrawn for its data set, used one after the other.

    Returns:
        (B + 1,) first row of every data set, and (rows,) arrays by name: units as 0 … n − 1,
        factors as the numbers of their levels.
    """
    draws, n = _Draws(design), design.n
    sizes, within, between = zip(*map(draws.of, generators), strict=True)
    kept = np.concatenate(sizes)
    number = np.repeat(np.arange(len(kept)), kept)
    unit, occasion = number % n, np.arange(len(number)) - np.repeat(np.cumsum(kept) - kept, kept)
    out: dict[str, npt.NDArray[Any]] = {design.unit: unit}
    for name, source in design.within.items():
        if is_fixed(source):
            check_grid(name, source, int(occasion.max()) + 1)
            out[name] = np.asarray(source)[occasion]
        else:
            values = [one[name] for one in within]
            first = np.cumsum([0, *map(len, values[:-1])])[number // n]
            at = unit * design.most + occasion if design.most else occasion * n + unit
            out[name] = np.concatenate(values)[first + at]
    for name, source in design.between.items():
        fixed = is_fixed(source)
        of_units = np.asarray(source) if fixed else np.concatenate([b[name] for b in between])
        out[name] = of_units[unit if fixed else number]
    levels = rotation(design.factors, np.arange(n))
    out |= {name: codes[unit] for name, codes in levels.items()}
    cells = design.cells
    if cells > 1:
        out = {name: np.repeat(values, cells) for name, values in out.items()}
    starts = cells * np.cumsum([0, *(one.sum() for one in sizes)])
    return starts, out | rotation(design.crossed, np.tile(np.arange(cells), len(number)))


def drawn_sizes(design: UnitDesign, generators: Iterable[np.random.Generator]) -> Ints:
    """(B, n) measurements of the units of data sets, as ``stacked_columns`` has them."""
    draws = _Draws(design)
    if is_drawn(design.dropout) or design.leaving is None:
        return np.stack([draws._kept(g, draws._planned(g)) for g in generators])
    pairs = [(draws._planned(g), draws._until(g)) for g in generators]
    planned, until = map(np.stack, zip(*pairs, strict=True))
    return design.leaving.kept(planned, until)


class _Numbers(NamedTuple):
    """What is random in one data set."""

    sizes: Ints  # (n,) measurements of every unit
    within: Columns  # for every occasion that may be
    between: Columns  # (n,)


@dataclass(frozen=True)
class _Draws:
    """Draws what is random, data set by data set; what is not redrawn, once."""

    design: UnitDesign
    once: dict[tuple[str, int | None], npt.NDArray[Any]] = field(default_factory=dict)

    def of(self, rng: np.random.Generator) -> _Numbers:
        """The numbers of one data set."""
        d, n = self.design, self.design.n
        planned = self._planned(rng)
        sizes = self._kept(rng, planned)
        # Drawn for every occasion that may be, so that drop-out does not shift the rest; and
        # occasion by occasion where more may be than are planned this time.
        most = d.most or int(planned.max())
        within = {k: self._of_occasions(k, x, rng, most) for k, x in _drawn(d.within)}
        between = {k: self._values(k, x, rng, n) for k, x in _drawn(d.between)}
        return _Numbers(sizes, within, between)

    def _planned(self, rng: np.random.Generator) -> Ints:
        """(n,) measurements of every unit if it stays."""
        sizes, n = self.design.measurements, self.design.n
        if is_drawn(sizes):
            return self._counts(SIZES, sizes, rng)
        if is_range(sizes):
            low, high = sizes
            return self._drawn(SIZES, lambda g, m: g.integers(low, high, m, endpoint=True), rng, n)
        return self._given

    def _kept(self, rng: np.random.Generator, planned: Ints) -> Ints:
        """(n,) measurements of every unit until it leaves."""
        leaves, leaving = self.design.dropout, self.design.leaving
        if is_drawn(leaves):
            return np.minimum(planned, self._counts(DROPOUT, leaves, rng))
        return planned if leaving is None else leaving.kept(planned, self._until(rng))

    def _until(self, rng: np.random.Generator) -> Floats:
        """(n,) exponential numbers that say when units leave."""
        return self._drawn(DROPOUT, lambda g, m: g.standard_exponential(m), rng, self.design.n)

    @cached_property
    def _given(self) -> Ints:
        """(n,) measurements that are given."""
        return np.broadcast_to(np.asarray(self.design.measurements, np.int64), self.design.n)

    def _counts(self, name: str, source: Drawn, rng: np.random.Generator) -> Ints:
        """(n,) whole numbers from a distribution."""
        values = self._values(name, source, rng, self.design.n)
        integral = np.issubdtype(values.dtype, np.number) and (values == np.floor(values)).all()
        if not integral or not (values >= 1).all():
            raise OptionError(
                f"{name} was drawn as {values.min()} … {values.max()}; its distribution must "
                "give whole numbers, 1 or more, as scipy.stats.poisson(4, loc=1) does"
            )
        return values.astype(np.int64)

    def _of_occasions(
        self, name: str, source: Drawn, rng: np.random.Generator, most: int
    ) -> npt.NDArray[Any]:
        """(n × most,) values within units.

        What is drawn once has a stream for every occasion where their number is drawn: of some
        distributions a longer draw does not begin with the shorter one.
        """
        n = self.design.n
        if self.design.most or self.design.redraws(name):
            return self._values(name, source, rng, n * most)
        draw = sampler(name, source)
        return np.concatenate([self._drawn(name, draw, rng, n, t) for t in range(most)])

    def _values(
        self, name: str, source: Drawn, rng: np.random.Generator, size: int
    ) -> npt.NDArray[Any]:
        return self._drawn(name, sampler(name, source), rng, size)

    def _drawn(
        self,
        name: str,
        draw: Callable[[np.random.Generator, int], npt.NDArray[Any]],
        rng: np.random.Generator,
        size: int,
        occasion: int | None = None,
    ) -> npt.NDArray[Any]:
        """From ``rng`` what is redrawn, else from a stream that belongs to name and occasion."""
        if self.design.redraws(name):
            return draw(rng, size)
        if (name, occasion) not in self.once:
            stream = [zlib.crc32(name.encode()), *([] if occasion is None else [occasion])]
            own = np.random.default_rng([self.design.seed, *stream])
            self.once[name, occasion] = draw(own, size)
        return self.once[name, occasion]


def is_fixed(source: object) -> TypeIs[Fixed]:
    """Whether values are given, one by one."""
    return not is_drawn(source) and hasattr(source, "__len__")


def is_drawn(source: object) -> TypeIs[Drawn]:
    """Whether values come from a distribution."""
    return callable(source) or hasattr(source, "rvs")


def is_range(sizes: object) -> TypeIs[tuple[int, int]]:
    """Whether sizes are drawn uniformly, (low, high)."""
    return isinstance(sizes, tuple) and len(sizes) == 2


def check_grid(name: str, grid: Fixed, most: int) -> None:
    """Refuse a covariate with fewer values than a unit may have measurements."""
    if len(grid) < most:
        raise OptionError(
            f"{name!r} has {len(grid)} values for up to {most} measurements; give more values or "
            "fewer measurements"
        )


def _drawn(sources: Mapping[str, Source]) -> Iterable[tuple[str, Drawn]]:
    return ((name, source) for name, source in sources.items() if is_drawn(source))


def rotation(factors: Mapping[str, Levels], number: Ints) -> dict[str, Ints]:
    """Level numbers of crossed factors, the first changing fastest."""
    out, period = {}, 1
    for name, levels in factors.items():
        out[name] = number // period % len(levels)
        period *= len(levels)
    return out
