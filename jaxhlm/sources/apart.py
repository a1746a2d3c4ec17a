"""Data sets of one long frame of which each learns by itself: means, scales, knots."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from jaxhlm.core.notation import Bools, Floats, Ints
from jaxhlm.design.columns import prepare, select
from jaxhlm.design.design import Apart, Design, alias
from jaxhlm.design.evaluation import Columns, Factor, columns_of
from jaxhlm.design.terms import Part, relearned
from jaxhlm.errors import JaxhlmError

__all__ = ["learned_apart"]


def learned_apart(design: Design, data: pd.DataFrame, lane: Ints, B: int) -> Design:
    """The design with the columns that every data set makes by itself, as ``fit`` would make them.

    Args:
        design: of all rows together, with a response; its levels stay.
        data: the frame that it was made of.
        lane: (n,) data set of every row that was kept.
        B: number of data sets.

    Returns:
        The design; the response is NaN in data sets whose columns cannot be made.
    """
    assert design.y is not None and design._response is not None
    parts = (design._response, *design._right)
    raw = select(data, [v for part in parts for v in part.variables])[design.kept]
    raw = raw.reset_index(drop=True)
    columns = columns_of(pd.DataFrame({v: prepare(raw[v], design.index) for v in raw}))
    y, X, Z = design.y.copy(), design.X.copy(), design.Z.copy()
    offset = np.zeros(design.n)
    order = np.argsort(lane, kind="stable")
    apart, kept = [], list(design._x_columns)
    for rows in np.split(order, np.searchsorted(lane[order], np.arange(1, B))):
        own = _relearned(parts, columns, rows) if len(rows) else None
        if own is None:
            y[rows] = np.nan
            apart.append(design.as_learned)
        else:
            response, fixed, offsets, *random = (made for _, made in own)
            offset[rows] = offsets.sum(axis=0)
            y[rows], X[rows] = response[0] - offset[rows], fixed.T[:, kept]
            Z[rows] = np.concatenate(random).T
            apart.append(Apart(tuple(part for part, _ in own[1:]), alias(fixed.T, kept)))
    own_offset = offset if design.offset is not None else None
    return replace(design, y=y, X=X, Z=Z, offset=own_offset, _apart=tuple(apart))


def _relearned(
    parts: tuple[Part, ...], columns: Columns, rows: Ints
) -> list[tuple[Part, Floats]] | None:
    """The parts and their columns, or None where these rows cannot make them."""
    own = {name: _take(values, rows) for name, values in columns.items()}
    try:
        found = [relearned(part, own, len(rows)) for part in parts]
    except JaxhlmError:
        return None
    return found if all(np.isfinite(made).all() for _, made in found) else None


def _take(values: Floats | Bools | Factor, rows: Ints) -> Floats | Bools | Factor:
    if isinstance(values, Factor):
        return Factor(values.codes[rows], values.levels, values.contrast)
    return values[rows]
