"""Resampling whole groups: the cases bootstrap."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import ClassVar

import numpy as np
import pandas as pd

from jaxhlm.core.notation import Floats, Ints
from jaxhlm.design.design import Design
from jaxhlm.design.segments import Segments
from jaxhlm.design.subsets import regrouped
from jaxhlm.errors import ResamplingError
from jaxhlm.estimation.pipeline import Reduced
from jaxhlm.sources.drawn import DrawnSource, draw_by_stream
from jaxhlm.sources.lanes import Lanes
from jaxhlm.statistics.groupstats import GroupStats, group_stats, least_squares_residual, reweighted
from jaxhlm.statistics.replicates import Replicates
from jaxhlm.statistics.standardise import Rows

__all__ = ["Cases"]


@dataclass(frozen=True)
class Cases(DrawnSource):
    """Whole groups drawn with replacement, each drawn copy a group of its own.

    Attributes:
        y: (n,) response.
    """

    y: Floats
    # Fitted on the scale of the original data, whose statistics are weighed.
    own_scale: ClassVar[bool] = False

    @property
    def lane_bytes(self) -> int:
        """Weights of all groups, and statistics of those that the fit distinguishes."""
        d, equal = self.prepared.design, self.prepared.equal
        kept = len(equal.rest) + (d.p + d.q) * len(equal.classes)
        return 8 * (4 * d.G + 4 * kept * d.q * (d.q + d.p + 1) + 4 * d.p**2)

    @cached_property
    def groups(self) -> GroupStats:
        """Statistics of the response, group by group."""
        matrices, order = self.prepared.matrices, self.prepared.order
        r, beta = least_squares_residual(matrices, self.y[order])
        return group_stats(matrices, r, beta)

    def choices(self, lane_slice: slice) -> Ints:
        """The groups of every data set, (lanes, groups)."""
        G = self.prepared.design.G

        def indices(stream: np.random.Generator, num_lanes: int) -> Ints:
            return stream.integers(0, G, (num_lanes, G))

        drawn: Ints = draw_by_stream(self.key, lane_slice, indices)
        return drawn

    def counts(self, lane_slice: slice) -> Floats:
        """How often every group was drawn, (G, lanes)."""
        chosen, G = self.choices(lane_slice), self.prepared.design.G
        cell = chosen + G * np.arange(len(chosen))[:, None]
        counts = np.bincount(cell.ravel(), minlength=G * len(chosen))
        return counts.reshape(len(chosen), G).T.astype(float)

    def draw(self, lane_slice: slice) -> Reduced:
        """Weigh the statistics of every group."""
        p = self.prepared
        counts = self.counts(lane_slice)
        found = reweighted(p.matrices, self.groups, p.equal, counts, p.design.blocks)
        return Reduced.of(found[0], p.equal, found[1])

    def rows(self, lane_slice: slice) -> Floats:
        """Not a matrix: every data set has rows of its own.

        Raises:
            ResamplingError: always.
        """
        raise ResamplingError(
            "data sets of resampled groups differ in their rows; look at one lane"
        )

    def lanes(self, lane_index: Ints) -> Lanes:
        """Consecutive data sets, each drawn group with the name of its copy."""
        run = slice(int(lane_index[0]), int(lane_index[-1]) + 1)
        rows = cache(lambda: self._replicates(lane_index))
        return Lanes(
            lambda: self.draw(run).standardised,
            lambda: rows().observations(
                self._levels(lane_index, rows()), np.arange(len(rows().row))
            ),
            lambda of, row: of(self.prepared.design)[row],
        )

    def _replicates(self, lane_index: Ints) -> Replicates:
        """The rows of data sets, one below the other."""
        d = self.prepared.design
        rows, groups, _ = zip(*(self._rows_of(int(i)) for i in lane_index), strict=True)
        row, lane = np.concatenate(rows), np.repeat(np.arange(len(rows)), [len(r) for r in rows])
        weights = None if d.weights is None else d.weights[row]
        segment = lane * d.G + np.concatenate(groups)
        return Replicates(
            self.y[row], Rows(d.X[row], d.Z[row], segment, lane, weights, d.blocks), row
        )

    def _levels(self, lane_index: Ints, found: Replicates) -> Ints:
        """Numbers of the drawn groups of all rows, a name for every copy."""
        chosen = [self._rows_of(int(i))[2] for i in lane_index]
        level = np.concatenate([_copy(c) * self.prepared.design.G + c for c in chosen])
        return level[Segments(found.rows.segment).of_row]

    @cached_property
    def design(self) -> Design:
        """The original design, with as many names for every group as it was drawn in one lane.

        A row of new data belongs to the first copy of its group.
        """
        d, most = self.prepared.design, int(self.counts(slice(0, self.n)).max())
        drawn = np.tile(np.arange(d.G), most)
        return replace(d, levels=pd.Index(_copies(d.levels, drawn), name=d.group_name))

    def lane(self, i: int) -> Design:
        """The rows of data set i, groups named after the one drawn and its copy."""
        d, (rows, group, chosen) = replace(self.prepared.design, y=self.y), self._rows_of(i)
        known = d._groups.take(np.unique(chosen))
        return regrouped(d, rows, group, pd.Index(_copies(d.levels, chosen)), known)

    def _rows_of(self, i: int) -> tuple[Ints, Ints, Ints]:
        """Row numbers of data set i and their groups, and what each of those is a copy of.

        The first copies come first, in the order of the original groups.
        """
        (chosen,) = self.choices(slice(i, i + 1))
        chosen = chosen[np.lexsort((chosen, _copy(chosen)))]
        rows = [self._by_group[g] for g in chosen]
        return np.concatenate(rows), np.repeat(np.arange(len(rows)), list(map(len, rows))), chosen

    @cached_property
    def _by_group(self) -> list[Ints]:
        """Numbers of the rows of every group."""
        starts = self.prepared.matrices.group_segments.starts
        return np.split(self.prepared.order, starts[1:])


def _copies(levels: pd.Index, chosen: Ints) -> list[str]:
    """Names of drawn groups, such as 308 and 308#2."""
    names = levels[chosen].astype(str)
    return [f"{name}#{k + 1}" if k else name for name, k in zip(names, _copy(chosen), strict=True)]


def _copy(chosen: Ints) -> Ints:
    """How often each group came before."""
    return pd.Series(chosen).groupby(chosen).cumcount().to_numpy()
