"""``extend``: more units, or more measurements of them, from a frame that is there."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import pandas as pd
from pandas.api import types

from jaxhlm.core.arguments import affordable, whole_number
from jaxhlm.core.notation import Floats, Ints
from jaxhlm.core.tables import Table, as_frame
from jaxhlm.design.columns import require_column
from jaxhlm.errors import GroupingError, NotNumericError, OptionError

__all__ = ["extend"]

EQUAL_STEPS = 1e-6


def extend(
    data: Table,
    *,
    along: str | None = None,
    within: str | None = None,
    n: int,
    continuing: str | None = None,
) -> pd.DataFrame:
    """A frame with more or fewer units, or more or fewer rows of every unit.

    **along="unit"**: n units. To extend, whole units are copied, with all their rows, their
    unit-level covariates and whatever imbalance they have, in rotation and under new labels; the
    rows of the copies follow those that are there. To trim, the first n units are kept. Where
    unit-level columns that are no numbers, or have two values only, tell kinds of units apart
    (treated and control), the rotation, and what counts as first, goes through the kinds in
    proportion to their number, so that both come out balanced though the frame lists one kind after
    the other. The frame for n is contained in
    that for n + 1.

    **within="unit"**: n rows of every unit. A unit with more keeps its first n; one with fewer
    takes its own rows again, in order and as often as needed, so that factor levels come back as
    they are there. With ``continuing="x"`` the x of the rows that are taken again goes on where the
    unit's x ended: it is raised by the unit's range plus one step of the grid of x, once for every
    round. Rows of a unit stay together if they were. An unbalanced frame so becomes balanced; leave
    out ``within`` and use ``along`` to keep its imbalance.

    New labels are the next integers where labels are numbers, else the old label with ``_2``,
    ``_3``, … for its second, third copy. The response, if there is one, is copied like any other
    column and means nothing in a copy. The index is numbered anew.

    Args:
        data: one row per measurement, as for ``fit``.
        along: the grouping column to have n levels.
        within: the grouping column whose every level is to have n rows.
        n: that number.
        continuing: a column of numbers, with ``within`` only.

    Raises:
        OptionError: not one of ``along`` and ``within``, n < 1, missing labels, or a grid that
            cannot be continued because its steps differ.
        NotNumericError: there is no such column, or it holds no numbers.

    Example:
        >>> import jaxhlm as hlm
        >>> data = hlm.load_dataset("sleepstudy")
        >>> more = hlm.extend(data, along="Subject", n=40)
        >>> more["Subject"].nunique(), more["Subject"].iloc[-1]
        (40, '330_3')
        >>> longer = hlm.extend(data, within="Subject", n=14, continuing="Days")
        >>> longer.query("Subject == '308'")["Days"].tolist()[-5:]
        [9, 10, 11, 12, 13]
    """
    if hasattr(data, "resized"):
        raise OptionError("data is a design from jaxhlm.units: data.resized(n, measurements)")
    data = as_frame("data", data)
    if (along is None) == (within is None):
        raise OptionError("give either along= (more units) or within= (more rows of every unit)")
    n = whole_number("n", n)
    for option, column in (("along", along), ("within", within), ("continuing", continuing)):
        if column is not None and not isinstance(column, Hashable):
            raise OptionError(f"{option}={column!r} must be the name of one column")
    name = along if along is not None else within
    assert name is not None
    require_column(data, name)
    if data[name].isna().any():
        raise OptionError(f"column {name!r} has missing labels; drop or fill these rows")
    if len(data) == 0:
        raise OptionError("the frame has no rows to copy")
    unit, labels = pd.factorize(data[name])
    rows = len(labels) if along is None else len(data) / len(labels)
    affordable("n", n, 8.0 * rows * (data.shape[1] + 3))
    if along is not None:
        if continuing is not None:
            raise OptionError("continuing= goes with within=; copies of units keep their values")
        return _along(data, along, unit, labels, n)
    return _within(data, unit, n, continuing)


def _along(data: pd.DataFrame, name: str, unit: Ints, labels: pd.Index, n: int) -> pd.DataFrame:
    rotation, G = _rotation(data, unit, len(labels)), len(labels)
    if n <= G:
        return data[np.isin(unit, rotation[:n])].reset_index(drop=True)
    copied, rows_of = np.resize(rotation, n - G), pd.Series(unit).groupby(unit).indices
    rows = [rows_of[u] for u in copied]
    out = data.iloc[np.concatenate([np.arange(len(data)), *rows])].reset_index(drop=True)
    new = _new_labels(pd.Series(labels), copied)
    added = [label for label, own in zip(new, rows, strict=True) for _ in own]
    labelled = pd.Series(_labelled(data[name], added))
    if labelled.nunique() < len(labels) + len(new):
        raise GroupingError(
            f"column {name!r}: labels beyond {max(labels)} are not told apart as "
            f"{data[name].dtype}; turn it into text"
        )
    return out.assign(**{name: labelled})


def _rotation(data: pd.DataFrame, unit: Ints, G: int) -> Ints:
    """(G,) units in an order every beginning of which holds the kinds in proportion."""
    kinds = np.zeros(G, np.int64)
    for name in data:
        column = data[name]
        codes, values = pd.factorize(column)
        if types.is_numeric_dtype(column) and len(values) > 2:
            continue
        level = np.empty(G, np.int64)
        level[unit] = codes
        # The labels of the units themselves tell every unit apart: no kind.
        if (level[unit] == codes).all() and len(np.unique(level)) < G:
            kinds = np.unique(kinds * (len(values) + 1) + level, return_inverse=True)[1]
    rank = pd.Series(kinds).groupby(kinds).cumcount().to_numpy()
    return np.argsort((rank + 0.5) / np.bincount(kinds)[kinds], kind="stable")


def _new_labels(old: pd.Series, copied: Ints) -> list[object]:
    """Labels of copies: the next integers, or the old label and the number of the copy."""
    if _numbers(old):
        first = int(np.floor(old.max())) + 1
        return list(range(first, first + len(copied)))
    taken, out = {str(label) for label in old}, list[object]()
    for i, u in enumerate(copied):
        number = 2 + int((copied[:i] == u).sum())
        while (label := f"{old.iloc[u]}_{number}") in taken:
            number += 1
        taken.add(label)
        out.append(label)
    return out


def _labelled(column: pd.Series, added: list[object]) -> object:
    """The column with the labels of the copies below it."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        categories = column.cat.categories
        if types.is_integer_dtype(categories):
            added = list(map(str, added))
        fresh = list(dict.fromkeys(added))
        return pd.Categorical([*column, *added], [*categories, *fresh])
    if _numbers(column):
        return pd.concat([column, pd.Series(added)], ignore_index=True)
    return np.asarray([*column, *added], dtype=object)


def _numbers(column: pd.Series) -> bool:
    return bool(types.is_numeric_dtype(column) and not types.is_bool_dtype(column))


def _within(data: pd.DataFrame, unit: Ints, n: int, continuing: str | None) -> pd.DataFrame:
    order = np.argsort(unit, kind="stable")
    sizes = np.bincount(unit)
    starts = np.cumsum(sizes) - sizes
    number = np.tile(np.arange(n), len(sizes))
    of = np.repeat(np.arange(len(sizes)), n)
    rows, cycle = order[starts[of] + number % sizes[of]], number // sizes[of]
    # Taken again after the unit's own last row, so that a frame in another order stays in it.
    place = np.where(cycle == 0, rows, order[(starts + sizes - 1)[of]])
    sorting = np.lexsort((number, place))
    rows, cycle, of = rows[sorting], cycle[sorting], of[sorting]
    out = data.iloc[rows].reset_index(drop=True)
    if continuing is None:
        return out
    require_column(data, continuing)
    x = data[continuing]
    if not _numbers(x) or x.isna().any():
        raise NotNumericError(f"column {continuing!r} must hold numbers, none missing, to go on")
    values = x.to_numpy(dtype=float)
    grouped = pd.Series(values).groupby(unit)
    period = (grouped.max() - grouped.min()).to_numpy() + _step(values, continuing)
    continued = values[rows] + cycle * period[of]
    integral = types.is_integer_dtype(x)
    return out.assign(**{continuing: _whole(continued, x) if integral else continued})


def _whole(values: Floats, like: pd.Series) -> pd.Series:
    """Whole numbers of the type of a column, of 64 bits where they do not go into that."""
    whole = pd.Series(np.rint(values).astype(np.int64))
    room = np.iinfo(getattr(like.dtype, "numpy_dtype", like.dtype))
    return whole.astype(like.dtype) if whole.between(room.min, room.max).all() else whole


def _step(values: Floats, name: str) -> float:
    """The distance between neighbouring values of a grid."""
    steps = np.diff(np.unique(values))
    steps = steps[steps > EQUAL_STEPS * np.ptp(values)]
    if not len(steps):
        raise OptionError(f"column {name!r} has one value only; there is no step to continue by")
    if np.ptp(steps) > EQUAL_STEPS * steps.mean() * len(steps):
        raise OptionError(
            f"the values of {name!r} are not equally spaced (steps {steps.min():.4g} to "
            f"{steps.max():.4g}), so it is unclear how they go on; leave continuing= out to take "
            "the same values again, or set them afterwards"
        )
    return float(steps.mean())
