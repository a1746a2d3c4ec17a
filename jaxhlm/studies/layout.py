"""The rows of many data sets: one design for all of them, or one that is redrawn for each."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from jaxhlm.core.notation import Bools, Floats
from jaxhlm.core.streams import DESIGN, Key, Streams
from jaxhlm.design.columns import prepare_new
from jaxhlm.design.design import Design
from jaxhlm.design.evaluation import Factor, columns_of
from jaxhlm.design.new_rows import determined_rows
from jaxhlm.design.terms import applied
from jaxhlm.errors import FormulaError
from jaxhlm.studies.builder import UnitDesign
from jaxhlm.studies.unit_rows import Columns
from jaxhlm.violations.panel import Panel

__all__ = ["Layout", "check_redrawn", "one_design", "own_designs"]


class Layout(NamedTuple):
    """Rows and model matrices of B data sets."""

    panel: Panel
    X: Floats  # (n, p) of the one design, or (N, p) of all rows
    Z: Floats  # (n, q) or (N, q)
    columns: Columns  # (N,) columns of redrawn designs; else empty


def one_design(frame: pd.DataFrame, template: Design, lanes: range) -> Layout:
    """Data sets that share a design.

    Args:
        frame: (n, …) the rows of the design.
        template: the generating model on it.
        lanes: numbers of the data sets.
    """
    t, number = template, np.arange(len(lanes) + 1)
    unit = (number[:-1, None] * t.G + t.group).ravel()

    def read(name: str) -> npt.NDArray[Any]:
        return np.tile(frame[name].to_numpy(), len(lanes))

    return Layout(Panel(lanes, number * t.n, unit, number * t.G, t.znames, read), t.X, t.Z, {})


def own_designs(builder: UnitDesign, template: Design, lanes: range, key: Key) -> Layout:
    """Data sets whose designs are redrawn.

    Args:
        builder: draws the designs.
        template: the generating model on one of them.
        lanes: numbers of the data sets.
        key: what ``random_key`` returns.
    """
    starts, columns = builder.stacked(Streams(key, DESIGN).generators(lanes))
    unit_starts = np.arange(len(lanes) + 1) * builder.n
    unit = np.repeat(unit_starts[:-1], np.diff(starts)) + columns[builder.unit]
    panel = Panel(lanes, starts, unit, unit_starts, template.znames, columns.__getitem__)
    return Layout(panel, *_matrices(template, builder, columns), columns)


def check_redrawn(template: Design, design: UnitDesign) -> None:
    """Refuse models that cannot be evaluated design by design."""
    if template.stateful:
        raise FormulaError(
            f"{template.stateful[0]} learns from the rows it sees, and every data set has its own; "
            "draw the covariate as it should be"
        )
    if template.group_name != design.unit:
        raise FormulaError(
            f"the units of the design are {design.unit!r}, the groups of the model "
            f"{template.group_name!r}; use the same"
        )


def _matrices(template: Design, builder: UnitDesign, columns: Columns) -> tuple[Floats, Floats]:
    """X (N, p) and Z (N, q) of redrawn designs."""
    parts, rows = (template._fixed, *template._random), len(columns[builder.unit])
    ready = {v: _prepared(template, builder, columns, v) for part in parts for v in part.variables}
    X, *columns_of_z = (applied(part, ready, rows).T for part in parts)
    X = determined_rows(template, X, range(rows), "rows of redrawn designs", "error")
    return X, np.concatenate(columns_of_z, axis=1)


def _prepared(
    template: Design, builder: UnitDesign, columns: Columns, name: str
) -> Floats | Bools | Factor:
    """A column in the form that it has in the model."""
    values, levels = columns[name], template._factors[name]
    if levels is None and values.dtype.kind in "iuf":
        return values.astype(float)
    if levels is not None and name in builder.levels:
        codes = levels.get_indexer(pd.Index(builder.levels[name], dtype=object))
        if levels.dtype != bool and (codes >= 0).all():
            return Factor(codes[values], levels.tolist())
    column = builder.table({name: values})[name]
    return columns_of(prepare_new(column, column.index, levels).to_frame())[name]
