"""The grouping factor: its levels, its codes, and its codes in new data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from numbers import Real
from typing import SupportsInt

import numpy as np
import pandas as pd
from pandas.api import types

from jaxhlm.core.notation import Ints
from jaxhlm.design.columns import native, require_column, select
from jaxhlm.design.evaluation import level_text
from jaxhlm.design.missing_values import any_missing, missing
from jaxhlm.errors import GroupingError

__all__ = ["Grouping", "factorized", "first_twice", "group_codes", "known_codes", "units_of_rows"]


@dataclass(frozen=True)
class Grouping:
    """Levels of each grouping column, and the combinations of them that are groups, sorted."""

    columns: dict[str, pd.Index]
    combinations: Ints

    @staticmethod
    def of(levels: pd.Index) -> Grouping:
        """Groups that are the levels of one column, whose name they have."""
        return Grouping({str(levels.name): levels}, np.arange(len(levels)))

    def take(self, codes: Ints) -> Grouping:
        """Some of the groups, whose codes are ascending."""
        return replace(self, combinations=self.combinations[codes])


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


def factorized(column: pd.Series, what: str = "grouping column") -> tuple[Ints, pd.Index]:
    """(n,) codes and the sorted labels of a column of which none is missing.

    Raises:
        GroupingError: values that cannot be told apart for certain: lists and the like, True beside
            1, the text "1" beside the number.
    """
    column = _unmixed(native(column).infer_objects(), what)
    try:
        codes, found = pd.factorize(column, sort=True)
        levels = pd.Index(found)
        texts = list(map(level_text, levels)) if levels.dtype == object else []
    except (TypeError, ValueError, NotImplementedError, ArithmeticError) as error:
        raise GroupingError(
            f"{what} '{column.name}' holds values that cannot be levels ({error}): convert it to "
            "strings"
        ) from None
    if len(set(texts)) < len(texts):
        raise GroupingError(
            f"{what} '{column.name}' holds text beside other values that print alike, such as "
            f"{first_twice(texts)}: convert it to strings"
        )
    return codes.astype(np.int64), levels


def _unmixed(column: pd.Series, what: str = "grouping column") -> pd.Series:
    """The column, unless truth values stand beside numbers."""
    kinds = set(map(type, column)) if column.dtype == object else set()
    truths = {kind for kind in kinds if issubclass(kind, bool | np.bool_)}
    if truths and any(issubclass(kind, int | float | np.number) for kind in kinds - truths):
        raise GroupingError(
            f"{what} '{column.name}' holds truth values beside numbers, of which True and 1 count "
            "as equal: convert it to strings"
        )
    return column


def _factorize(column: pd.Series) -> tuple[Ints, pd.Index]:
    column = _labels(column)
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.cat.remove_unused_categories()
        return column.cat.codes.to_numpy().astype(np.int64), column.cat.categories
    return factorized(column)


def _labels(column: pd.Series) -> pd.Series:
    """The column, numbers of any type as integers."""
    column = column.infer_objects()
    if types.is_complex_dtype(column):
        raise GroupingError(
            f"grouping column '{column.name}' holds complex numbers: convert it to strings"
        )
    if types.is_float_dtype(column):
        return pd.Series(_integers(column), index=column.index, name=column.name)
    decimal = types.is_any_real_numeric_dtype(column) and not types.is_integer_dtype(column)
    if decimal or (column.dtype == object and all(map(_is_number, column))):
        return column.astype(object).map(partial(_integer, column.name)).infer_objects()
    return column


def _is_number(value: object) -> bool:
    return isinstance(value, Real | Decimal) and not isinstance(value, bool)


def _integer(name: object, value: SupportsInt) -> int:
    """The whole number that a number of any type is."""
    with suppress(OverflowError, ValueError, ArithmeticError):
        if int(value) == value:
            return int(value)
    raise _not_integer(name)


def _not_integer(name: object) -> GroupingError:
    return GroupingError(
        f"grouping column '{name}' holds numbers that are not whole: convert it to strings, or "
        "name the column that tells the groups apart"
    )


def _integers(column: pd.Series) -> Ints:
    """The whole numbers that a column of floats holds without loss."""
    values = column.to_numpy(dtype=float)
    if not (np.isfinite(values) & (values == np.floor(values))).all():
        raise _not_integer(column.name)
    digits = {"float16": 11, "float32": 24}.get(str(column.dtype).lower(), 53)
    if (np.abs(values) >= 2.0**digits).any():
        raise GroupingError(
            f"grouping column '{column.name}' holds floating-point numbers from 2**{digits} on, "
            "where neighbouring identifiers are equal: read it as integers or strings"
        )
    return values.astype(np.int64)


def known_codes(groups: Grouping, newdata: pd.DataFrame) -> Ints:
    """(m,) codes of new rows, -1 where the group was not in the fit."""
    labels = {str(label) for label in newdata.columns}
    known = np.full(len(newdata), labels.issuperset(groups.columns))
    total = np.zeros(len(newdata), np.int64)
    if not known.any():
        return np.full(len(newdata), -1)
    for name, levels in groups.columns.items():
        column = native(newdata.iloc[:, require_column(newdata, name)]).rename(name)
        codes = _match(column, levels)
        known &= codes >= 0
        total = total * len(levels) + codes
    places = np.searchsorted(groups.combinations, total)
    places = np.minimum(places, len(groups.combinations) - 1)
    return np.where(known & (groups.combinations[places] == total), places, -1)


def units_of_rows(groups: Grouping, newdata: pd.DataFrame) -> tuple[Ints, Ints]:
    """(m,) unit of each new row, and (units,) the code in the fit of each unit.

    Rows are of one unit where their labels are the same, seen in the fit or not; −1 where one is
    missing. Codes are −1 for units that were not in the fit.
    """
    codes = known_codes(groups, newdata)
    labels = select(newdata, groups.columns)
    there = ~any_missing(labels)
    unit = np.full(len(newdata), -1)
    if not there.any():
        return unit, unit[:1]
    unit[there] = group_codes(labels[there].reset_index(drop=True))[1]
    of_unit = np.empty(unit.max() + 1, np.int64)
    of_unit[unit[there]] = codes[there]
    return unit, of_unit


def _match(column: pd.Series, levels: pd.Index) -> Ints:
    """(m,) position of each label among the levels, -1 if missing or unseen."""
    known = ~missing(column)
    labels = pd.Index(_unmixed(_labels(column[known])).astype(object), dtype=object)
    own = levels.astype(object)
    if not _kinds(labels) <= _kinds(own):
        raise GroupingError(
            f"grouping column '{column.name}' is of dtype {column.infer_objects().dtype} in the "
            f"new data, {levels.dtype} in the fit, so that labels could not match: convert it"
        )
    codes = np.full(len(column), -1)
    codes[known] = own.get_indexer(labels)
    return codes


def _kinds(labels: pd.Index) -> set[str]:
    """The kinds of values among these: numbers, text, dates with or without a time zone, …."""
    kind = types.infer_dtype(labels, skipna=False)
    if kind.startswith("mixed"):
        return {_kind(label) for label in labels}
    return {_kind(label) for label in labels[:1]}


def _kind(label: object) -> str:
    known = {"number": _is_number(label), "text": isinstance(label, str)}
    known["truth value"] = isinstance(label, bool | np.bool_)
    kind = next((name for name, found in known.items() if found), type(label).__name__)
    return f"{kind} with a time zone" if getattr(label, "tzinfo", None) else kind


def first_twice(names: Iterable[str]) -> str:
    """The first name that comes more than once."""
    return next(name for name, count in Counter(names).items() if count > 1)
