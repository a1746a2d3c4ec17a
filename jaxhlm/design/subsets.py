"""Designs with other rows, or fewer columns, than those that they were made from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from jaxhlm.core.notation import Bools, Ints
from jaxhlm.design.design import Design
from jaxhlm.design.grouping import Grouping

__all__ = ["lacking", "regrouped", "settled", "take_rows"]


def take_rows(design: Design, rows: Ints) -> Design:
    """A design restricted to some rows, groups without rows left out."""
    present, group = np.unique(design.group[rows], return_inverse=True)
    known = design._groups.take(present)
    return regrouped(design, rows, group.astype(np.int64), design.levels[present], known)


def regrouped(design: Design, rows: Ints, group: Ints, levels: pd.Index, known: Grouping) -> Design:
    """Rows of a design, which may repeat, in other groups.

    Args:
        design: the design.
        rows: (m,) numbers of its rows.
        group: (m,) codes of the groups.
        levels: (G,) labels of the groups.
        known: how new data are told to belong to them, the first of these groups.
    """
    levels = levels.rename(design.group_name)
    return replace(
        design,
        y=None if design.y is None else design.y[rows],
        X=design.X[rows],
        Z=design.Z[rows],
        group=group,
        levels=levels,
        weights=None if design.weights is None else design.weights[rows],
        offset=None if design.offset is None else design.offset[rows],
        index=design.index[rows],
        _covariates={name: values[rows] for name, values in design._covariates.items()},
        _groups=known,
    )


def settled(design: Design) -> Design:
    """A design to draw on: all of its rows are kept, and its terms have nothing left to learn."""
    return replace(
        design,
        kept=np.ones(design.n, bool),
        n_dropped=0,
        _fixed=design._fixed.settled,
        _offset=design._offset.settled,
        _random=tuple(part.settled for part in design._random),
    )


def lacking(design: Design, absent: Bools) -> Design:
    """A design of few rows, in all of which some columns (p,) of X are zero, without those."""
    if not absent.any():
        return design
    gone = {design._x_columns[j] for j in np.flatnonzero(absent)}
    lost = {*range(len(design._fixed.names))}.difference(design._x_columns)
    # Columns are listed in the order of the formula.
    before, dropped = sorted(lost), sorted(lost | gone)
    known = np.zeros((int((~absent).sum()), len(dropped)))
    known[:, [dropped.index(j) for j in before]] = design._alias[~absent]
    return replace(
        design,
        X=np.ascontiguousarray(design.X[:, ~absent]),
        xnames=tuple(name for name, out in zip(design.xnames, absent, strict=True) if not out),
        dropped_columns=tuple(design._fixed.names[j] for j in dropped),
        _x_columns=tuple(j for j in design._x_columns if j not in gone),
        _alias=known,
    )
