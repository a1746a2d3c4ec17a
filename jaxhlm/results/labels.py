"""Labels of fits, of whatever type, to columns that a Parquet file can hold and back.

Levels whose type Parquet knows (text, numbers, booleans, dates) are columns of that type, which
other programs can read; labels of mixed or other types are written as JSON, one text each. A
categorical level keeps its categories and their order.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Hashable
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from jaxhlm.errors import OptionError

__all__ = ["from_columns", "to_columns"]

# Kinds of NumPy's types that a column of a file holds as they are.
NATIVE = "biufmM"

# How labels that JSON has no form for are written as text, and read again.
FORMS: dict[str, tuple[type, Callable[[Any], Any], Callable[[Any], Hashable]]] = {
    "NaT": (type(pd.NaT), lambda x: 0, lambda x: pd.NaT),
    "tuple": (tuple, lambda x: [_plain(part) for part in x], lambda x: tuple(map(_label, x))),
    "timestamp": (
        pd.Timestamp,
        lambda x: [x.isoformat(), x.unit, None if x.tz is None else _named_zone(x.tz)],
        lambda x: _timestamp(*x),
    ),
    "timedelta": (
        pd.Timedelta,
        lambda x: [x.as_unit("ns").value, x.unit],
        lambda x: pd.Timedelta(x[0], "ns").as_unit(x[1]),
    ),
    "period": (pd.Period, lambda x: [str(x), x.freqstr], lambda x: pd.Period(x[0], x[1])),
    "interval": (
        pd.Interval,
        lambda x: [_plain(x.left), _plain(x.right), x.closed],
        lambda x: pd.Interval(_label(x[0]), _label(x[1]), x[2]),
    ),
    "datetime": (dt.datetime, dt.datetime.isoformat, dt.datetime.fromisoformat),
    "date": (dt.date, dt.date.isoformat, dt.date.fromisoformat),
    "time": (dt.time, dt.time.isoformat, dt.time.fromisoformat),
    "delta": (
        dt.timedelta,
        lambda x: [x.days, x.seconds, x.microseconds],
        lambda x: dt.timedelta(*x),
    ),
    "decimal": (Decimal, str, Decimal),
    "bytes": (bytes, bytes.hex, bytes.fromhex),
    "complex": (complex, lambda x: [x.real, x.imag], lambda x: complex(*x)),
    "NA": (type(pd.NA), lambda x: 0, lambda x: pd.NA),
}


def to_columns(index: pd.Index) -> tuple[dict[str, Any], str]:
    """Columns of the labels, and text that says how to read them.

    Raises:
        OptionError: a label is of a type that cannot be written.

    Example:
        >>> columns, spec = to_columns(pd.MultiIndex.from_tuples([("roi", 1), ("roi", 2)]))
        >>> from_columns(pd.DataFrame(columns), spec).tolist()
        [('roi', 1), ('roi', 2)]
    """
    columns, levels = {}, []
    # Without names, one of which may be the number of another level.
    bare = index.set_names([None] * index.nlevels)
    for k in range(index.nlevels):
        values = bare.get_level_values(k)
        name = "fit" if index.nlevels == 1 else f"fit:{k}"
        columns[name], level = _written(values)
        levels.append({"column": name, **level})
    spec = {
        "names": [_plain(name) for name in index.names],
        "levels": levels,
        "multi": isinstance(index, pd.MultiIndex),
    }
    return columns, json.dumps(spec)


def from_columns(frame: pd.DataFrame, spec: str) -> pd.Index:
    """The index that ``to_columns`` wrote."""
    told = json.loads(spec)
    levels = [_read(frame[level["column"]], level) for level in told["levels"]]
    names = [_label(name) for name in told["names"]]
    if told["multi"]:
        return pd.MultiIndex.from_arrays(levels, names=names)
    return levels[0].rename(names[0])


def _written(values: pd.Index) -> tuple[Any, dict[str, Any]]:
    """A column of one level, and how to read it."""
    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        categories = values.categories
        kinds = {
            "categories": [_plain(label) for label in categories],
            "of": None if categories.dtype == np.dtype(object) else str(categories.dtype),
            "ordered": bool(dtype.ordered),
        }
        column, level = _written(pd.Index(np.asarray(values)))
        return column, level | kinds
    if isinstance(dtype, pd.StringDtype) or dtype.kind in NATIVE:
        if isinstance(dtype, pd.DatetimeTZDtype):
            _named_zone(dtype.tz)
        return values.array, {"dtype": str(dtype)}
    texts = [json.dumps(_plain(label)) for label in values.astype(object)]
    return np.array(texts, dtype=object), {"json": dtype == np.dtype(object)}


def _read(column: pd.Series, level: dict[str, Any]) -> pd.Index:
    """The level that ``_written`` wrote."""
    if "json" in level:
        labels = [_label(json.loads(text)) for text in column]
        found = _index(labels, object if level["json"] else None)
    else:
        found = pd.Index(column.astype(level["dtype"]))
    if "categories" in level:
        categories = _index([_label(x) for x in level["categories"]], level["of"] or object)
        return pd.CategoricalIndex(found, categories, level["ordered"])
    return found


def _index(labels: list[Any], dtype: Any) -> pd.Index:
    """An index with one level, also of tuples."""
    values = np.empty(len(labels), dtype=object)
    values[:] = labels
    return pd.Index(values, dtype=dtype, tupleize_cols=False)


def _plain(label: object) -> object:
    """A label as JSON holds it."""
    if isinstance(label, np.datetime64 | np.timedelta64):
        # Nanoseconds would be whole numbers, without their unit.
        label = pd.Timestamp(label) if isinstance(label, np.datetime64) else pd.Timedelta(label)
    elif isinstance(label, np.generic):
        label = label.item()
    if label is None or type(label) in (bool, int, float, str):
        return label
    for name, (kind, write, _) in FORMS.items():
        if isinstance(label, kind):
            return {name: write(label)}
    raise OptionError(
        f"the label {label!r} is a {type(label).__name__}, which a file cannot hold; rename the "
        "fits first: dataclasses.replace(fits, index=fits.index.map(str))"
    )


def _label(value: Any) -> Any:
    """The label that ``_plain`` made JSON of."""
    if not isinstance(value, dict):
        return value
    ((name, written),) = value.items()
    return FORMS[name][2](written)


def _named_zone(zone: dt.tzinfo) -> str:
    """The name of a time zone, by which it is found again.

    Raises:
        OptionError: it has none.
    """
    name = str(zone)
    try:
        pd.Timestamp(0, tz=name)
    # pandas, pytz and zoneinfo have an error each.
    except Exception:
        raise OptionError(
            f"the labels have the time zone {name}, which a file cannot name; take UTC first: "
            'dataclasses.replace(fits, index=fits.index.tz_convert("UTC"))'
        ) from None
    return name


def _timestamp(text: str, unit: str, tz: str | None) -> pd.Timestamp:
    time = pd.Timestamp(text)
    return (time if tz is None else time.tz_convert(tz)).as_unit(unit)
