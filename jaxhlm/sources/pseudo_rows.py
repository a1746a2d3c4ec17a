"""Data sets with what a prior of the residual variance is worth, as rows that X and Z do not see.

A prior σ⁻² ~ χ²_d₀/(d₀s₀²) adds d₀ log σ² + d₀s₀²/σ² to the criterion, as d₀ rows would that have
zeros in X and Z and a response of mean square s₀².
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from jaxhlm.core.notation import Floats, Ints
from jaxhlm.design.design import Design
from jaxhlm.estimation.pipeline import Reduced
from jaxhlm.sources.lanes import Lanes
from jaxhlm.sources.sources import Source
from jaxhlm.statistics.response import Standardised

__all__ = ["WithPrior"]


@dataclass(frozen=True)
class WithPrior(Source):
    """Data sets of a source, the statistics of each with pseudo-rows.

    Attributes:
        source: the data sets.
        count: (B,) d₀, how many such rows, which need be no whole number.
        mean_square: (B,) s₀² for every data set of the source.
    """

    source: Source
    count: Floats
    mean_square: Floats

    @property
    def design(self) -> Design:
        """Of the source."""
        return self.source.design

    @property
    def B(self) -> int:
        """Number of data sets."""
        return self.source.B

    @property
    def lane_bytes(self) -> int:
        """Of the source."""
        return self.source.lane_bytes

    def reduced(self, lane_slice: slice) -> Iterator[Reduced]:
        """Consecutive data sets, groups that are equal joined."""
        numbers = np.arange(lane_slice.start, lane_slice.stop)
        for part in self.source.reduced(lane_slice):
            yield part._replace(standardised=self._added(part.standardised, numbers[part.lanes]))

    def lane(self, i: int) -> Design:
        """A data set without such rows."""
        return self.source.lane(i)

    def chunks(self, lane_index: Ints, nobs: Ints) -> list[Ints]:
        """As the source has them, of those with the most frequent count and of others.

        Where counts differ nothing is shared, which takes many times as long.
        """
        counts, often = np.unique(self.count[lane_index], return_counts=True)
        usual = self.count[lane_index] == counts[often.argmax()]
        kinds = [at for at in (np.flatnonzero(usual), np.flatnonzero(~usual)) if len(at)]
        return [at[c] for at in kinds for c in self.source.chunks(lane_index[at], nobs[at])]

    def lanes(self, lane_index: Ints) -> Lanes:
        """Some data sets, with such rows in their statistics."""
        found = self.source.lanes(lane_index)
        return replace(found, reduce=lambda: self._added(found.standardised, lane_index))

    def _added(self, standardised: Standardised, lane_index: Ints) -> Standardised:
        stats, s, count = standardised.stats, standardised.scaling.s, self.count[lane_index]
        squares = count * self.mean_square[lane_index] / s**2
        if (count == count[0]).all():
            count = count[:1]
        else:
            stats = stats.expand()
        more = stats._replace(n=stats.n + count, yy=stats.yy + squares)
        return standardised._replace(stats=more)
