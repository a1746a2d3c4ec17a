"""Data sets one below the other in a long frame of numbers, evaluated run by run.

Model matrices of nine million rows take more time and memory than all their fits. So the formula is
read on the first data sets only, and its columns are made for one run of data sets at a time, on
all cores. Frames with factors or missing values go another way (``ReplicateRows``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from jaxhlm.core.notation import Floats, Ints
from jaxhlm.design.columns import Weights, positive, read_weights, select
from jaxhlm.design.design import Design, build_design
from jaxhlm.design.grouping import Grouping
from jaxhlm.design.terms import Part, evaluate_numbers
from jaxhlm.errors import JaxhlmError, RankDeficientWarning, muted
from jaxhlm.estimation.pipeline import Reduced
from jaxhlm.language.formula import ParsedFormula
from jaxhlm.sources.lanes import Lanes
from jaxhlm.sources.sources import Source
from jaxhlm.statistics.replicates import Replicates
from jaxhlm.statistics.standardise import Rows

__all__ = ["ReplicateFrame", "complete_numbers", "integers", "replicate_frame"]

TEMPLATE_ROWS = 10_000
# Data sets whose columns are made together.
LANES = 1280


@dataclass(frozen=True, eq=False)
class ReplicateFrame(Source):
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

    @cached_property
    def design(self) -> Design:
        """That of the first data sets, with the labels of all rows and groups."""
        levels = pd.Index(np.unique(self.unit), name=self.template.group_name)
        group = np.searchsorted(levels.to_numpy(), self.unit)
        return replace(
            self.template,
            group=group,
            levels=levels,
            index=self.index,
            offset=self._offset(slice(None)),
            _covariates={name: self.columns[name] for name in self.template._covariates},
            _groups=Grouping.of(levels),
        )

    @property
    def B(self) -> int:
        """Number of data sets."""
        return len(self.starts) - 1

    def lane(self, i: int) -> Design:
        """The design of data set i."""
        rows = slice(int(self.starts[i]), int(self.starts[i + 1]))
        levels, group = np.unique(self.unit[rows], return_inverse=True)
        levels = pd.Index(levels, name=self.template.group_name)
        y, X, Z = self._evaluate(rows)
        return replace(
            self.template,
            y=y,
            X=X,
            Z=Z,
            group=group.astype(np.int64),
            levels=levels,
            _groups=Grouping.of(levels),
            weights=None if self.weights is None else self.weights[rows],
            index=self.index[rows],
            offset=self._offset(rows),
            kept=np.ones(len(y), bool),
            _covariates={name: self.columns[name][rows] for name in self.template._covariates},
        )

    @property
    def shared(self) -> ReplicateFrame:
        """How columns are made."""
        return replace(self, **self._of(slice(0, 0)), index=pd.RangeIndex(0))

    def own(self, lane_slice: slice) -> dict[str, Any]:
        """Variables of the rows."""
        return self._of(lane_slice)

    def with_own(self, own: dict[str, Any]) -> ReplicateFrame:
        """Those rows."""
        return replace(self, **own)

    def _of(self, lane_slice: slice) -> dict[str, Any]:
        """The fields that rows of consecutive data sets fill."""
        starts = self.starts[lane_slice.start : lane_slice.stop + 1]
        rows = slice(int(starts[0]), int(starts[-1]))
        return {
            "columns": {name: values[rows] for name, values in self.columns.items()},
            "unit": self.unit[rows],
            "weights": None if self.weights is None else self.weights[rows],
            "starts": starts - starts[0],
        }

    def reduced(self, lane_slice: slice) -> Iterator[Reduced]:
        """Consecutive data sets."""
        rows = self._rows(np.arange(lane_slice.start, lane_slice.stop))
        yield Reduced.of(rows.standardised)

    def lanes(self, lane_index: Ints) -> Lanes:
        """Data sets in increasing order."""
        return self.own_lanes(lambda: self._rows(lane_index))

    def _rows(self, lane_index: Ints) -> Replicates:
        """The rows of data sets, sorted by unit."""
        counts = np.diff(self.starts)[lane_index]
        boundary = np.cumsum(counts)[:-1] - 1
        first, last = lane_index[0], lane_index[-1] + 1
        part: slice | Ints = slice(int(self.starts[first]), int(self.starts[last]))
        if len(lane_index) != last - first:
            part = np.concatenate([np.arange(*self.starts[[i, i + 1]]) for i in lane_index])
        lane = np.repeat(np.arange(len(lane_index)), counts)
        unit = self.unit[part]
        step = np.diff(unit)
        step[boundary] = 1
        if step.min(initial=0) < 0:
            order = np.lexsort((unit, lane))
            part = _numbers(part)[order]
            step = np.diff(unit[order])
            step[boundary] = 1
        y, X, Z = self._evaluate(part)
        weights = None if self.weights is None else self.weights[part]
        segment = np.r_[0, np.cumsum(step != 0)]
        rows = Rows(X, Z, segment, lane, weights, self.template.blocks)
        return Replicates(y, rows, _numbers(part))

    @property
    def lane_bytes(self) -> int:
        """What the columns of one data set take."""
        return self.row_bytes * -(-len(self.unit) // self.B)

    @property
    def row_bytes(self) -> int:
        """What the columns of one row take."""
        own = 0 if self._leading else self.template.q
        return 8 * (self.template.p + own + 2)

    @property
    def most(self) -> int:
        """Enough data sets to compile for, few enough for the cache."""
        return LANES

    @cached_property
    def _leading(self) -> bool:
        """Whether Z is the first columns of X, and takes no memory of its own."""
        names = [name for part in self.template._random for name in part.names]
        return names == [*self.template._fixed.names[: len(names)]]

    def _evaluate(self, rows: slice | Ints) -> tuple[Floats, Floats, Floats]:
        """y, X and Z of some rows; a value that is not finite becomes its data set's status."""
        t, columns = self.template, self._columns(rows)
        X = evaluate_numbers(t._fixed, columns)
        y = evaluate_numbers(self.response, columns)[:, 0]
        if (offset := self._offset(rows)) is not None:
            y = y - offset
        if self._leading:
            return _known(y, X), X, X[:, : t.q]
        Z = np.concatenate([evaluate_numbers(part, columns).T for part in t._random]).T
        return _known(y, X, Z), X, Z

    def _offset(self, rows: slice | Ints) -> Floats | None:
        if self.template.offset is None:
            return None
        return evaluate_numbers(self.template._offset, self._columns(rows)).sum(axis=1)

    def _columns(self, rows: slice | Ints) -> dict[str, Floats]:
        return {
            name: values[rows].astype(float, copy=False) for name, values in self.columns.items()
        }


def replicate_frame(
    parsed: ParsedFormula,
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
        parsed: the model.
        data: one row per measurement.
        lane: (n,) labels of the data sets.
        weights: prior weights.
        learned: as for ``build_design``.
    """
    try:
        names = parsed.variables
        if len(parsed.group) != 1 or parsed.learns(learned or {}):
            return None
        used = select(data, [*names, *parsed.group])
        unit = used[parsed.group[0]]
        if not (
            integers(unit) and integers(lane) and all(complete_numbers(used[v]) for v in names)
        ):
            return None
        values = lane.to_numpy()
        starts = np.r_[0, np.flatnonzero(values[1:] != values[:-1]) + 1, len(values)]
        if (values[starts[1:-1]] < values[starts[:-2]]).any():
            return None
        first = data.iloc[: starts[np.searchsorted(starts, min(TEMPLATE_ROWS, len(data)))]]
        # Where columns are dropped it is the other way that says so.
        with muted(RankDeficientWarning):
            template = build_design(parsed, first, learned=learned)
        given = read_weights(weights, data)
        response = template._response
        assert response is not None
        if (
            template.dropped_columns
            or any(part.learns for part in (response, *template._right))
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


def _known(y: Floats, *columns: Floats) -> Floats:
    """The response, NaN in rows whose columns are not finite."""
    # A sum tells in one pass that all are.
    doubtful = [M for M in columns if not np.isfinite(M.sum())]
    for M in doubtful:
        y = np.where(np.isfinite(M).all(axis=1), y, np.nan)
    return y


def _numbers(part: slice | Ints) -> Ints:
    return np.arange(part.start, part.stop) if isinstance(part, slice) else part


def integers(column: pd.Series) -> bool:
    """Whether a column holds NumPy's integers."""
    return isinstance(column.dtype, np.dtype) and column.dtype.kind in "iu"


def complete_numbers(column: pd.Series) -> bool:
    """Whether a column holds NumPy's numbers, all of them finite."""
    if not isinstance(column.dtype, np.dtype):
        return False
    kind, values = column.dtype.kind, column.to_numpy()
    if kind != "f":
        return kind in "iu"
    with np.errstate(over="ignore", invalid="ignore"):
        # A finite sum has finite terms, and takes a quarter of the time.
        return bool(np.isfinite(values.sum()) or np.isfinite(values).all())
