"""Data sets one below the other in a long frame of numbers, evaluated run by run.

Model matrices of nine million rows take more time and memory than all their fits. So the formula is
read on the first data sets only, and its columns are made for one run of data sets at a time, on
all cores. Frames with factors or missing values go another way (``sources.ReplicateRows``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from jaxhlm.core.chunks import lane_chunks
from jaxhlm.core.notation import Floats, Ints
from jaxhlm.design.columns import Weights, positive, read_weights, select
from jaxhlm.design.design import Design, build_design
from jaxhlm.design.grouping import Grouping
from jaxhlm.design.terms import Part, evaluate_numbers
from jaxhlm.errors import JaxhlmError
from jaxhlm.estimation.pipeline import Report, fit_lanes
from jaxhlm.language.formula import parse, rhs_variables, variables
from jaxhlm.optimise.options import Options
from jaxhlm.sources.sources import Batch
from jaxhlm.statistics.group_contributions import GroupContributions
from jaxhlm.statistics.moments import RowMoments, column_means, moments_by_lane
from jaxhlm.statistics.observations import Observations
from jaxhlm.statistics.replicates import Replicates
from jaxhlm.statistics.response import Standard
from jaxhlm.statistics.standardise import Rows

__all__ = ["ReplicateFrame", "replicate_frame"]

TEMPLATE_ROWS = 10_000
# Data sets whose columns are made together: enough to compile for, few enough for the cache.
LANES = 1280


@dataclass(frozen=True, eq=False)
class ReplicateFrame:
    """Data sets with rows of their own whose design is made when it is needed.

    Attributes:
        template: the design of the first data sets: names, blocks, what the formula has learned.
        response: the left side of the formula.
        columns: (n,) values of every variable.
        unit: (n,) values of the grouping column.
        weights: (n,) prior weights, or None.
        index: (n,) row labels.
        starts: (B + 1,) first row of every data set.
    """

    template: Design
    response: Part
    columns: dict[str, Floats]
    unit: Ints
    weights: Floats | None
    index: pd.Index
    starts: Ints
    own_scale: ClassVar[bool] = True

    @cached_property
    def design(self) -> Design:
        """That of the first data sets, with the labels of all rows and groups."""
        levels = pd.Index(np.unique(self.unit), name=self.template.group_name)
        return replace(self.template, levels=levels, index=self.index, _groups=_groups(levels))

    def lane(self, i: int) -> Design:
        """The design of data set i."""
        rows = slice(int(self.starts[i]), int(self.starts[i + 1]))
        levels, group = np.unique(self.unit[rows], return_inverse=True)
        y, X, Z = self._evaluate(rows)
        return replace(
            self.template,
            y=y,
            X=X,
            Z=Z,
            group=group.astype(np.int64),
            levels=pd.Index(levels, name=self.template.group_name),
            _groups=_groups(pd.Index(levels, name=self.template.group_name)),
            weights=None if self.weights is None else self.weights[rows],
            index=self.index[rows],
            kept=np.ones(len(y), bool),
            _covariates={name: self.columns[name][rows] for name in self.template._covariates},
        )

    def fit(self, options: Options, report: Report | None) -> Batch:
        """Fit every lane."""
        B = len(self.starts) - 1
        ngroups = np.zeros(B, np.int64)

        def standard_of(lane_slice: slice) -> tuple[Standard, list[Floats]]:
            standard = self.standard(np.arange(lane_slice.start, lane_slice.stop))
            ngroups[lane_slice] = standard.stats.m.sum(axis=0)
            return standard, []

        chunks = lane_chunks(B, self._lane_bytes, LANES)
        estimates = fit_lanes(standard_of, chunks, None, options, report)
        return Batch(estimates, np.diff(self.starts), ngroups)

    def chunks(self, lane_index: Ints, nobs: Ints) -> list[Ints]:
        """Runs of lanes, each in increasing order."""
        del nobs
        order = np.argsort(lane_index, kind="stable")
        return [order[c] for c in lane_chunks(len(lane_index), self._lane_bytes, LANES)]

    def standard(self, lane_index: Ints) -> Standard:
        """Standardised statistics of data sets, in increasing order."""
        return self._rows(lane_index).standard

    def by_group(self, lane_index: Ints) -> GroupContributions:
        """The same, every group by itself."""
        return self._rows(lane_index).by_group

    def observations(self, lane_index: Ints) -> Observations:
        """The rows of data sets, in increasing order."""
        return self._rows(lane_index).observations(self._group)

    @cached_property
    def _group(self) -> Ints:
        return np.searchsorted(self.design.levels.to_numpy(), self.unit)

    def moments(self, lane_index: Ints) -> RowMoments:
        """Moments of the rows of data sets, in increasing order."""
        return moments_by_lane(self._rows(lane_index).rows)

    def means(self, lane_index: Ints, names: Sequence[str]) -> Floats:
        """Means over the rows of data sets, in increasing order."""
        row, lane = self._positions(lane_index)
        return column_means([self.columns[name][row] for name in names], lane)

    def _positions(self, lane_index: Ints) -> tuple[slice | Ints, Ints]:
        """Row numbers of data sets, in the order of the data, and their lanes."""
        counts = np.diff(self.starts)[lane_index]
        first, last = lane_index[0], lane_index[-1] + 1
        part: slice | Ints = slice(int(self.starts[first]), int(self.starts[last]))
        if len(lane_index) != last - first:
            part = np.concatenate([np.arange(*self.starts[[i, i + 1]]) for i in lane_index])
        return part, np.repeat(np.arange(len(lane_index)), counts)

    def _rows(self, lane_index: Ints) -> Replicates:
        """The rows of data sets, sorted by unit."""
        first = np.r_[0, np.cumsum(np.diff(self.starts)[lane_index])]
        part, lane = self._positions(lane_index)
        unit = self.unit[part]
        step = np.diff(unit)
        step[first[1:-1] - 1] = 1
        if step.min(initial=0) < 0:
            order = np.lexsort((unit, lane))
            part = _numbers(part)[order]
            step = np.diff(unit[order])
            step[first[1:-1] - 1] = 1
        y, X, Z = self._evaluate(part)
        weights = None if self.weights is None else self.weights[part]
        segment = np.r_[0, np.cumsum(step != 0)]
        rows = Rows(X, Z, segment, lane, weights, self.template.blocks)
        return Replicates(y, rows, _numbers(part))

    @property
    def _lane_bytes(self) -> int:
        t = self.template
        return 8 * (t.p + t.q + 2) * -(-len(self.unit) // (len(self.starts) - 1))

    def _evaluate(self, rows: slice | Ints) -> tuple[Floats, Floats, Floats]:
        """y, X and Z of some rows; a value that is not finite becomes its data set's status."""
        t = self.template
        columns = {
            name: values[rows].astype(float, copy=False) for name, values in self.columns.items()
        }
        X = evaluate_numbers(t._fixed, columns)
        y = evaluate_numbers(self.response, columns)[:, 0]
        names = [name for part in t._random for name in part.names]
        if names == [*t._fixed.names[: len(names)]]:
            return y, X, X[:, : len(names)]
        Z = [evaluate_numbers(part, columns).T for part in t._random]
        return y, X, np.concatenate(Z).T


def replicate_frame(
    formula: str,
    data: pd.DataFrame,
    lane: pd.Series,
    weights: Weights,
    learned: Mapping[str, Any] | None = None,
) -> tuple[ReplicateFrame, pd.Index] | None:
    """The source of a frame and the labels of its data sets, or None where it must go another way.

    That is: a variable is not a complete column of finite numbers, the grouping column not one of
    integers, the data sets do not lie one below the other, or the first of them raise an error or
    lack a column that all together may have.

    Args:
        formula: the model.
        data: one row per measurement.
        lane: (n,) labels of the data sets.
        weights: prior weights.
        learned: as for ``build_design``.
    """
    try:
        parsed = parse(formula)
        names = {*variables(parsed.response)}
        for side in (parsed.fixed, *(term.expr for term in parsed.random)):
            names |= {*rhs_variables(side)}
        if len(parsed.group) != 1:
            return None
        used = select(data, [*names, *parsed.group])
        unit = used[parsed.group[0]]
        if not (_integers(unit) and _integers(lane) and all(_complete(used[v]) for v in names)):
            return None
        values = lane.to_numpy()
        starts = np.r_[0, np.flatnonzero(values[1:] != values[:-1]) + 1, len(values)]
        if (values[starts[1:-1]] < values[starts[:-2]]).any():
            return None
        first = data.iloc[: starts[np.searchsorted(starts, min(TEMPLATE_ROWS, len(data)))]]
        template = build_design(formula, first, learned=learned)
        given = read_weights(weights, data)
        response = template._response
        assert response is not None
        if (
            template.dropped_columns
            or any(part.learns for part in (response, template._fixed, *template._random))
            or (given is not None and given.isna().any())
        ):
            return None
    except JaxhlmError:
        return None
    source = ReplicateFrame(
        template,
        response,
        {name: used[name].to_numpy() for name in names},
        unit.to_numpy(),
        None if given is None else positive(given, data.index),
        data.index,
        starts,
    )
    return source, pd.Index(values[starts[:-1]], name=lane.name)


def _numbers(part: slice | Ints) -> Ints:
    return np.arange(part.start, part.stop) if isinstance(part, slice) else part


def _groups(levels: pd.Index) -> Grouping:
    return Grouping({str(levels.name): levels}, np.arange(len(levels)))


def _integers(column: pd.Series) -> bool:
    return isinstance(column.dtype, np.dtype) and column.dtype.kind in "iu"


def _complete(column: pd.Series) -> bool:
    if not isinstance(column.dtype, np.dtype):
        return False
    kind, values = column.dtype.kind, column.to_numpy()
    if kind != "f":
        return kind in "iu"
    with np.errstate(over="ignore", invalid="ignore"):
        # A finite sum has finite terms, and takes a quarter of the time.
        return bool(np.isfinite(values.sum()) or np.isfinite(values).all())
