"""Some data sets of a source with their rows: what inference asks of them, each reduced once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from jaxhlm.core.notation import Bools, Floats, Ints
from jaxhlm.design.design import Design
from jaxhlm.estimation.pipeline import Prepared
from jaxhlm.statistics.group_contributions import (
    GroupContributions,
    reduce_by_group,
    within_basis,
)
from jaxhlm.statistics.moments import RowMoments, column_means, row_moments
from jaxhlm.statistics.observations import Observations
from jaxhlm.statistics.response import Standardised

__all__ = ["Lanes"]


@dataclass(frozen=True, eq=False)
class Lanes:
    """Some data sets with their rows; b is 1 where they share a design.

    Attributes:
        reduce: makes their standardised statistics, equal groups joined.
        observe: makes their rows; levels and rows are numbered as in the design of the source.
        of_source: what a function finds in the design of the source, of rows by their numbers.
        prepared: the design that they share, if they do.
    """

    reduce: Callable[[], Standardised]
    observe: Callable[[], Observations]
    of_source: Callable[[Callable[[Design], Any], Ints], Any]
    prepared: Prepared | None = None

    @cached_property
    def standardised(self) -> Standardised:
        """Standardised statistics, equal groups joined."""
        return self.reduce()

    @cached_property
    def observations(self) -> Observations:
        """The rows."""
        return self.observe()

    @cached_property
    def by_group(self) -> GroupContributions:
        """The statistics, every group by itself."""
        rows, shared = self.observations, self.prepared
        basis = within_basis(rows.matrices) if shared is None else shared.within_basis
        found = reduce_by_group(basis, rows.y)
        return found if shared is None else found._replace(equal=shared.equal)

    @cached_property
    def designs(self) -> Observations:
        """The rows; of one that they share without responses, which drawn statistics lack."""
        if self.prepared is None:
            return self.observations
        return self.prepared.observations(np.empty((self.prepared.design.n, 0)))

    @property
    def moments(self) -> RowMoments:
        """Moments of the rows of X and Z, b of them."""
        return row_moments(self.designs.rows)

    def frequencies(self, codes: Sequence[Ints], sizes: Sequence[int]) -> Floats:
        """(b, combinations) numbers of rows by the levels of factors.

        Args:
            codes: of every factor the number of its level in all rows of the source.
            sizes: how many levels each has; the last factor varies fastest.
        """
        rows = self.designs
        own = tuple(code[rows.row] for code in codes)
        at, many = np.ravel_multi_index(own, tuple(sizes)), math.prod(sizes)
        lane = rows.rows.lane
        b = int(lane.max(initial=0)) + 1
        return np.bincount(lane * many + at, None, b * many).reshape(b, many).astype(float)

    def means(self, names: Sequence[str]) -> Floats:
        """(b, names) means of numbers, summed in the order of the data, as ``fit`` does."""
        rows = self.designs
        place, lane = rows.row if rows.place is None else rows.place, rows.rows.lane
        order = np.lexsort((place, lane))
        row = rows.row[order]
        columns = [self.of_source(partial(_covariate, name), row) for name in names]
        return column_means(columns, lane[order])

    def offset_means(self) -> Floats:
        """(b, 1) means of the offset."""
        rows = self.designs
        offset = self.of_source(lambda d: d.offset, rows.row)
        return column_means([offset], rows.rows.lane)


def _covariate(name: str, design: Design) -> Floats | Bools:
    return design._covariates[name]
