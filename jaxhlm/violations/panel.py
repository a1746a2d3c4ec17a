"""Rows of several data sets one below the other, drawn together; what violations act on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxhlm.core.arguments import real_array
from jaxhlm.core.notation import Floats, Ints
from jaxhlm.core.streams import Streams
from jaxhlm.errors import (
    MissingColumnError,
    NonFiniteError,
    NotNumericError,
    OptionError,
    UnknownTermError,
)

__all__ = ["Panel", "RandomNumbers"]

Draw = Callable[[np.random.Generator, int], Floats]


@dataclass(frozen=True, eq=False)
class Panel:
    """Rows and units of data sets.

    Attributes:
        lanes: numbers of the data sets.
        starts: (B + 1,) first row of every data set.
        unit: (N,) number of the unit of every row, among the units of all data sets.
        unit_starts: (B + 1,) first unit of every data set.
        znames: q names of the random effects.
        read: (N,) values of a column.
    """

    lanes: range
    starts: Ints
    unit: Ints
    unit_starts: Ints
    znames: tuple[str, ...]
    read: Callable[[str], NDArray[Any]] = field(repr=False)

    @cached_property
    def lane(self) -> Ints:
        """(N,) position of the data set of every row."""
        return np.repeat(np.arange(len(self.lanes)), np.diff(self.starts))

    @cached_property
    def unit_lane(self) -> Ints:
        """(U,) position of the data set of every unit."""
        return np.repeat(np.arange(len(self.lanes)), np.diff(self.unit_starts))

    @cached_property
    def occasion(self) -> Ints:
        """(N,) how many rows of its unit come before every row."""
        order = np.argsort(self.unit, kind="stable")
        sizes = np.bincount(self.unit, minlength=int(self.unit_starts[-1]))
        out = np.empty(len(order), np.int64)
        out[order] = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return out

    def column(self, name: str) -> Floats:
        """(N,) numbers of a column.

        Raises:
            MissingColumnError, NotNumericError, NonFiniteError: there is no such column, or it
                holds something else than finite numbers.
        """
        try:
            values = self.read(name)
        except (KeyError, TypeError, ValueError):
            values = np.array(None)
        if values.shape != self.unit.shape:
            raise MissingColumnError(f"no column {name!r} in the design; the violation needs one")
        try:
            numbers = real_array(name, values, kinds="biuf")
        except NotNumericError:
            raise NotNumericError(
                f"column {name!r} holds no numbers; the violation needs some"
            ) from None
        if not np.isfinite(numbers).all():
            raise NonFiniteError(
                f"column {name!r} has missing or infinite values; fill or drop such rows"
            )
        return numbers

    def unit_column(self, name: str) -> Floats:
        """(U,) numbers of a column that is constant within units.

        Raises:
            OptionError: it is not.
        """
        values, out = self.column(name), np.empty(int(self.unit_starts[-1]))
        out[self.unit] = values
        if not np.array_equal(out[self.unit], values):
            raise OptionError(f"column {name!r} varies within units; give one that does not")
        return out

    def mean(self, values: Floats) -> Floats:
        """(B,) means of rows by data set."""
        return np.add.reduceat(values, self.starts[:-1]) / np.diff(self.starts)

    def standard_scores(self, values: Floats) -> Floats:
        """(N,) values less the mean, over the standard deviation, of their data set."""
        centred = values - self.mean(values)[self.lane]
        sd = np.sqrt(self.mean(centred**2))
        return np.asarray(centred / np.where(sd > 0.0, sd, 1.0)[self.lane])

    def effect(self, name: str) -> int:
        """Position of a random effect.

        Raises:
            UnknownTermError: the model has none of that name.
        """
        if not isinstance(name, str) or name not in self.znames:
            raise UnknownTermError(
                f"no random effect {name!r} in the generating model; it has "
                + ", ".join(self.znames)
            )
        return self.znames.index(name)


@dataclass(frozen=True)
class RandomNumbers:
    """Random numbers of one purpose for the data sets of a panel, each from its own stream."""

    streams: Streams
    panel: Panel

    def rows(self, draw: Draw) -> Floats:
        """(N,) numbers, one for every row."""
        return self._fill(draw, self.panel.starts)

    def units(self, draw: Draw, per: int = 1) -> Floats:
        """(U,) numbers, one for every unit, or (U, per)."""
        out = self._fill(draw, self.panel.unit_starts * per)
        return out if per == 1 else out.reshape(-1, per)

    def _fill(self, draw: Draw, starts: Ints) -> Floats:
        out = np.empty(int(starts[-1]))
        for i, generator in enumerate(self.streams.generators(self.panel.lanes)):
            part = slice(int(starts[i]), int(starts[i + 1]))
            out[part] = draw(generator, part.stop - part.start)
        return out
