"""The rows of many data sets: one design for all of them, or one that is redrawn for each."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from jaxhlm.core.notation import Floats
from jaxhlm.core.streams import DESIGN, Key, Streams
from jaxhlm.design.design import Design, design_for, determined_rows
from jaxhlm.design.terms import evaluate_numbers
from jaxhlm.errors import FormulaError
from jaxhlm.studies.builder import Columns, UnitDesign
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
    streams = Streams(key, DESIGN)
    parts = [builder.columns(streams.generator(lane)) for lane in lanes]
    starts = np.r_[0, np.cumsum([len(part[builder.unit]) for part in parts])]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
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
    parts = (template._fixed, *template._random)
    if any(levels is not None for levels in template._factors.values()):
        X, Z, _ = design_for(template, builder.table(columns), "error")
        return X, Z
    numbers = {v: columns[v].astype(float) for part in parts for v in part.variables}
    numbers["1"] = np.ones(len(columns[builder.unit]))
    X, *columns_of_z = (evaluate_numbers(part, numbers) for part in parts)
    X = determined_rows(template, X, range(len(X)), "rows of redrawn designs", "error")
    return X, np.concatenate(columns_of_z, axis=1)
