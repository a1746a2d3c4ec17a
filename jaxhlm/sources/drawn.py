"""Data sets that are drawn from a seed, chunk by chunk, as they are fitted; nothing is kept."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from jaxhlm.core.chunks import lane_chunks
from jaxhlm.core.notation import Floats, Ints
from jaxhlm.core.streams import Key, Streams
from jaxhlm.design.design import Design
from jaxhlm.errors import JaxhlmError
from jaxhlm.estimation.pipeline import Prepared, Reduced
from jaxhlm.estimation.program import DRAWN, Reduction, Some, Traceable, traceable_responses
from jaxhlm.sources.lanes import Lanes
from jaxhlm.sources.sources import Source, shared_lanes
from jaxhlm.statistics.drawing import (
    SamplingDistribution,
    draw_statistics,
    sampling_distribution,
    trace_statistics,
)
from jaxhlm.statistics.simulate_rows import simulate_rows

__all__ = ["STREAM_LANES", "DrawnSource", "Parametric", "draw_by_stream"]

Draws = TypeVar("Draws", Floats, Ints)

# Lanes that share one stream of random numbers, at fixed places: opening a stream takes as long as
# drawing a few thousand numbers.
STREAM_LANES = 16


@dataclass(frozen=True)
class DrawnSource(Source):
    """Data sets drawn on one design, as the source of a batch.

    Attributes:
        prepared: the design.
        n: number of data sets.
        key: what ``random_key`` gives for the seed that all of them come from.
    """

    prepared: Prepared
    n: int
    key: Key

    @property
    def design(self) -> Design:
        """The one design."""
        return self.prepared.design

    @property
    def B(self) -> int:
        """Number of data sets."""
        return self.n

    @property
    def shared(self) -> DrawnSource:
        """All of them: the design, the truth and the key, without what is computed from these."""
        return replace(self, prepared=Prepared(self.prepared.design))

    def draw(self, lane_slice: slice) -> Reduced:
        """Consecutive data sets; rows that are reduced, unless there is a shorter way."""
        return self.prepared.reduced(self.rows(lane_slice))

    @abstractmethod
    def rows(self, lane_slice: slice) -> Floats:
        """Responses (rows, lanes) of consecutive data sets."""

    def lane(self, i: int) -> Design:
        """Data set i, as rows."""
        return replace(self.prepared.design, y=self.rows(slice(i, i + 1))[:, 0])

    @property
    def traceable_rows(self) -> Traceable:
        """Rows that are drawn here and reduced where they are fitted."""

        def again(lane_index: Ints) -> Reduced:
            rows = [self.rows(slice(i, i + 1)) for i in lane_index.tolist()]
            return self.prepared.reduced(np.concatenate(rows, axis=1))

        return traceable_responses(
            self.prepared,
            self.rows,
            lambda lane_index: Some(lane_index, again, self.lane_bytes),
        )

    def reduced(self, lane_slice: slice) -> Iterator[Reduced]:
        """Draw."""
        yield self.draw(lane_slice)

    def chunks(self, lane_index: Ints, nobs: Ints) -> list[Ints]:
        """Runs of consecutive data sets, as they are drawn."""
        del nobs
        order = np.argsort(lane_index, kind="stable")
        breaks = np.flatnonzero(np.diff(lane_index[order]) != 1) + 1
        runs = np.split(order, breaks)
        return [run[c] for run in runs for c in lane_chunks(len(run), self.lane_bytes)]

    def lanes(self, lane_index: Ints) -> Lanes:
        """Consecutive data sets, drawn again."""
        run = slice(int(lane_index[0]), int(lane_index[-1]) + 1)
        return shared_lanes(
            self.prepared, lambda: self.draw(run).standardised, lambda: self.rows(run)
        )


@dataclass(frozen=True)
class Parametric(DrawnSource):
    """Data sets drawn from the model itself.

    Attributes:
        beta: (p,) fixed effects.
        cov: (q, q) covariance Σ of the random effects.
        sigma: residual standard deviation.
        statistics: drawn as sufficient statistics (else as rows).
        first: number of the first data set among those of the key.
    """

    beta: Floats
    cov: Floats
    sigma: float
    statistics: bool = True
    first: int = 0

    @property
    def lane_bytes(self) -> int:
        """What one data set takes while it is drawn."""
        return 8 if self.statistics else 4 * 8 * self.prepared.design.n

    @cached_property
    def distribution(self) -> SamplingDistribution:
        """The distribution of the statistics."""
        p = self.prepared
        return sampling_distribution(p.matrices, p.equal, self.beta, self.cov, self.sigma)

    def draw(self, lane_slice: slice) -> Reduced:
        """Draw statistics, or rows and reduce them."""
        if not self.statistics:
            return super().draw(lane_slice)
        return self._drawn(np.arange(lane_slice.start, lane_slice.stop))

    @property
    def traceable(self) -> Traceable:
        """Statistics that are drawn where they are fitted, or rows that are reduced there."""
        if not self.statistics:
            return self.traceable_rows

        def draw(shared: Any, numbers: Any) -> tuple[Reduced, Any]:
            key, arrays = shared
            found = trace_statistics(self.distribution, key, numbers, arrays)
            return Reduced.of(found[0], self.prepared.equal, found[1]), True

        return Traceable(
            Reduction(self.prepared, draw, DRAWN),
            (self.key, self.distribution.arrays),
            lambda run: self.first + np.arange(run.start, run.stop, dtype=np.uint32),
            lambda lane_index: Some(lane_index, self._drawn, self.lane_bytes),
        )

    def _drawn(self, lane_index: Ints) -> Reduced:
        found = draw_statistics(self.distribution, self.key, self.first + lane_index)
        return Reduced.of(found[0], self.prepared.equal, found[1])

    def rows(self, lane_slice: slice) -> Floats:
        """Responses, unless these data sets are drawn as statistics.

        Raises:
            JaxhlmError: they have no rows.
        """
        if self.statistics:
            raise JaxhlmError(
                "these data sets are drawn as sufficient statistics and have no rows; "
                "jaxhlm.simulate(…, statistics=False) draws data sets that have, and for those "
                "of a parametric bootstrap Fit.simulate(n), whose responses fit_many fits"
            )
        d = self.prepared.design
        return simulate_rows(
            d.X, d.Z, d.group, d.G, self.beta, self.cov, self.sigma,
            lane_slice.stop - lane_slice.start, self.key, d.weights, self.first + lane_slice.start,
        )  # fmt: skip


def draw_by_stream(
    key: Key, lane_slice: slice, draw: Callable[[np.random.Generator, int], Draws]
) -> Draws:
    """Draws for lanes, lanes first, that do not depend on how the lanes are chunked.

    Args:
        key: what ``random_key`` returns.
        lane_slice: consecutive lanes.
        draw: makes an array for so many lanes from a generator; it is always called for full
            sets of lanes, each with a stream of its own.
    """
    first = lane_slice.start // STREAM_LANES
    streams = range(first, -(-lane_slice.stop // STREAM_LANES))
    generators = Streams(key).generators(streams)
    drawn = np.concatenate([draw(generator, STREAM_LANES) for generator in generators])
    return drawn[lane_slice.start - first * STREAM_LANES :][: lane_slice.stop - lane_slice.start]
