"""Rows of which a model has all the levels and columns that it has of all rows together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from jaxhlm.core.chunks import in_order
from jaxhlm.core.notation import Ints
from jaxhlm.design.design import Design, build_design
from jaxhlm.design.grouping import factorized
from jaxhlm.errors import (
    FormulaError,
    JaxhlmError,
    MissingColumnError,
    NonFiniteError,
    NotNumericError,
    NumbersAsTextWarning,
    RankDeficientWarning,
    muted,
)
from jaxhlm.language.formula import ParsedFormula

__all__ = ["Sampler"]

# Rows that a sample begins with, and those of one that still makes no model when it is given up.
FEW_ROWS, MOST_ROWS = 1_000, 1_000_000
# What no other rows would mend.
HOPELESS = (FormulaError, MissingColumnError, NotNumericError)


@dataclass(frozen=True)
class Sampler:
    """Looks for the rows that bring something new.

    Attributes:
        parsed: the model.
        weights: the column of weights, if there are any.
        by: the column that tells data sets apart.
    """

    parsed: ParsedFormula
    weights: str | None
    by: str

    def sampled(
        self, sample: pd.DataFrame, pieces: int, read: Callable[[int], pd.DataFrame]
    ) -> tuple[pd.DataFrame, Design]:
        """A sample, and the design of it.

        A piece brings something new if the sample and it have more levels or columns than the
        sample. What the columns of the rows span grows with every such piece, so that after one
        pass it is what all rows span.

        Args:
            sample: the rows to begin with.
            pieces: number of pieces.
            read: reads the usable rows of one.

        Raises:
            JaxhlmError: all rows together make no model.
        """
        new = partial(self._brings, sample, self._signature(sample), read)
        for piece in np.flatnonzero(list(in_order(new, range(pieces)))):
            sample = self._with(sample, read(int(piece)))
        return sample, self._design(sample)

    def _brings(
        self, sample: pd.DataFrame, known: object, read: Callable[[int], pd.DataFrame], piece: int
    ) -> bool:
        rows = read(piece)
        return bool(len(rows)) and (known is None or self._signature(sample, rows) != known)

    def _with(self, sample: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
        """The sample with those data sets of a piece that bring something new."""
        lane = pd.factorize(rows[self.by])[0]
        while (known := self._signature(sample)) != self._signature(sample, rows):
            new = partial(self._differs, sample, known, rows, lane)
            at = _smallest(new, int(lane.max()) + 1)
            own = rows[lane == at - 1]
            alone = self._signature(sample, own) != known
            sample = pd.concat([sample, own if alone else rows[lane < at]])
        if known is not None or len(sample) > MOST_ROWS:
            return sample
        return pd.concat([sample, rows[lane == 0]])

    def _differs(
        self, sample: pd.DataFrame, known: object, rows: pd.DataFrame, lane: Ints, first: int
    ) -> bool:
        """Whether the first data sets of a piece bring something new."""
        return self._signature(sample, rows[lane < first]) != known

    def _design(self, rows: pd.DataFrame) -> Design:
        """That of usable rows of which transforms make finite numbers."""
        lane = factorized(rows[self.by], "column")[0]
        try:
            return build_design(self.parsed, rows, self.weights, lane=lane)
        except NonFiniteError as error:
            left = np.delete(np.arange(len(rows)), np.asarray(error.rows, int))
            if len(left) in (0, len(rows)):
                raise
            return self._design(rows.iloc[left])

    def _signature(self, *frames: pd.DataFrame) -> object:
        """Levels and columns of the model of some rows; None where they make none."""
        try:
            with muted(NumbersAsTextWarning, RankDeficientWarning):
                design = self._design(pd.concat(frames))
        except HOPELESS:
            raise
        except JaxhlmError:
            return None
        levels = [part.levels for part in design._right]
        return design.xnames, design.dropped_columns, design.terms, levels


def _smallest(enough: Callable[[int], bool], most: int) -> int:
    """The smallest number at which there is enough, as there is at ``most``, by halving."""
    below, above = 0, most
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (below, middle) if enough(middle) else (middle, above)
    return above
