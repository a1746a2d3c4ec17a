"""The grouping factor: its levels, its codes, and its codes in new data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pandas.api import types

from jaxhlm.errors import GroupingError
from jaxhlm.notation import Ints
from jaxhlm.rows.columns import require_column

__all__ = ["Grouping", "first_twice", "group_codes", "known_codes"]


@dataclass(frozen=True)
class Grouping:
    """Levels of each grouping column, and the combinations of them that are groups, sorted."""

    columns: dict[str, pd.Index]
    combinations: Ints


def group_codes(frame: pd.DataFrame) -> tuple[Grouping, Ints, pd.Index]:
    """The grouping state, (n,) codes and (G,) labels."""
    columns, total = {}, np.zeros(len(frame), np.int64)
    for name in frame:
        codes, columns[name] = _factorize(frame[name])
        total = total * len(columns[name]) + codes
    combinations, codes = np.unique(total, return_inverse=True)
    if len(columns) == 1:
        (levels,) = columns.values()
    else:
        places = np.unravel_index(combinations, [len(levels) for levels in columns.values()])
        texts = [i.astype(str)[at] for i, at in zip(columns.values(), places, strict=True)]
        levels = pd.Index([":".join(pair) for pair in zip(*texts, strict=True)])
    levels = levels.rename(":".join(columns))
    if not levels.is_unique:
        raise GroupingError(
            f"two levels of {levels.name} print alike: rename {first_twice(levels)}"
        )
    return Grouping(columns, combinations), codes.astype(np.int64), levels


def _factorize(column: pd.Series) -> tuple[Ints, pd.Index]:
    column = column.infer_objects()
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.cat.remove_unused_categories()
        return column.cat.codes.to_numpy().astype(np.int64), column.cat.categories
    if column.dtype == object and _is_mixed(set(map(type, column))):
        raise GroupingError(
            f"grouping column '{column.name}' holds truth values beside numbers, of which True and "
            "1 count as equal: convert it to strings"
        )
    if types.is_float_dtype(column):
        column = pd.Series(_whole(column), name=column.name)
    try:
        codes, levels = pd.factorize(column, sort=True)
    except TypeError as error:
        raise GroupingError(
            f"grouping column '{column.name}' holds values that cannot be levels ({error}): "
            "convert it to strings"
        ) from None
    return codes.astype(np.int64), pd.Index(levels)


def _whole(column: pd.Series) -> Ints:
    """The whole numbers that a column of floats holds without loss."""
    values = column.to_numpy(dtype=float)
    if not (np.isfinite(values) & (values == np.floor(values))).all():
        raise GroupingError(
            f"grouping column '{column.name}' holds numbers that are not whole: convert it to "
            "strings, or name the column that tells the groups apart"
        )
    digits = {"float16": 11, "float32": 24}.get(str(column.dtype).lower(), 53)
    if (np.abs(values) >= 2.0**digits).any():
        raise GroupingError(
            f"grouping column '{column.name}' holds floating-point numbers from 2**{digits} on, "
            "where neighbouring identifiers are equal: read it as integers or strings"
        )
    return values.astype(np.int64)


def _is_mixed(kinds: set[type]) -> bool:
    truths = {kind for kind in kinds if issubclass(kind, bool | np.bool_)}
    return bool(truths) and any(issubclass(k, int | float | np.number) for k in kinds - truths)


def known_codes(groups: Grouping, newdata: pd.DataFrame) -> Ints:
    """(m,) codes of new rows, -1 where the group was not in the fit."""
    labels = {str(label) for label in newdata.columns}
    known = np.full(len(newdata), labels.issuperset(groups.columns))
    total = np.zeros(len(newdata), np.int64)
    if not known.any():
        return np.full(len(newdata), -1)
    for name, levels in groups.columns.items():
        column = newdata.iloc[:, require_column(newdata, name)].rename(name)
        codes = _match(column, levels)
        known &= codes >= 0
        total = total * len(levels) + codes
    places = np.searchsorted(groups.combinations, total)
    places = np.minimum(places, len(groups.combinations) - 1)
    return np.where(known & (groups.combinations[places] == total), places, -1)


def _match(column: pd.Series, levels: pd.Index) -> Ints:
    """(m,) position of each label among the levels, -1 if missing or unseen."""
    labels = pd.Index(np.asarray(column, dtype=object)).infer_objects()
    present = labels[labels.notna()].infer_objects()
    if len(present) and types.is_numeric_dtype(present) != types.is_numeric_dtype(levels):
        raise GroupingError(
            f"grouping column '{column.name}' is of dtype {present.dtype} in the new data, "
            f"{levels.dtype} in the fit, so no level could match: convert it"
        )
    if types.is_float_dtype(column):
        _whole(column.dropna())
    codes: Ints = levels.get_indexer(labels).astype(np.int64)
    return codes


def first_twice(names: Iterable[str]) -> str:
    """The first name that comes more than once."""
    return next(name for name, count in Counter(names).items() if count > 1)
