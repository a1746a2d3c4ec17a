"""The columns of a data frame that a model uses: present, complete, finite, of a known kind."""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Iterable, Sequence
from numbers import Integral
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api import types

from jaxhlm.core.arguments import exact_array, real_array
from jaxhlm.core.notation import Floats
from jaxhlm.errors import (
    FormulaError,
    MissingColumnError,
    NewLevelError,
    NonFiniteError,
    NotNumericError,
    ResponseShapeError,
    WeightsError,
)

__all__ = [
    "Weights",
    "check_rows",
    "label",
    "levels_of",
    "listed",
    "native",
    "numbers",
    "positive",
    "prepare",
    "prepare_new",
    "read_weights",
    "require_column",
    "require_exact",
    "require_finite",
    "select",
]

Weights: TypeAlias = str | pd.Series | npt.ArrayLike | None


def check_rows(data: pd.DataFrame, response_rows: int | None) -> None:
    """Refuse data that has another number of rows than the responses."""
    if response_rows not in (None, len(data)):
        raise ResponseShapeError(
            f"the response matrix has {response_rows} rows, the data have {len(data)}; "
            "give one row of responses for every row of data, one column per response"
        )


def select(data: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """The named columns, under their names as text."""
    columns = {name: native(data.iloc[:, require_column(data, name)]) for name in names}
    # The values are not copied: a frame may hold a gigabyte of them.
    return pd.DataFrame(columns, data.index, copy=False)


def native(column: pd.Series) -> pd.Series:
    """The column in a form that pandas takes rows of: other byte orders and long floats are not."""
    dtype = column.dtype
    if not _is_foreign(dtype):
        return column
    return column.astype(dtype.newbyteorder("=") if dtype.itemsize <= 8 else float)


def _is_foreign(dtype: object) -> bool:
    if not isinstance(dtype, np.dtype) or dtype.kind not in "iuf":
        return False
    return not dtype.isnative or dtype.itemsize > 8


def numbers(column: pd.Series) -> Floats | None:
    """(n,) float64, or None where the values are no real numbers.

    Missing ones are NaN, and integers that double precision cannot hold infinite.
    """
    try:
        return exact_array(str(column.name), column)
    except NotNumericError:
        return None


def require_column(data: pd.DataFrame, name: Hashable) -> int:
    """The place of a column; a label that is no text (2020, a tuple) goes by what it prints.

    Raises:
        FormulaError: there are several of that name.
        MissingColumnError: there is none; the message has the closest names.
    """
    labels = list(data.columns)
    # Of one type first: labels that are equal or print alike may be others (1 and True, 1 and "1").
    places = [j for j, label in enumerate(labels) if type(label) is type(name) and label == name]
    if not places:
        places = [j for j, label in enumerate(labels) if str(label) == str(name)]
    if len(places) > 1:
        raise FormulaError(
            f"column '{name}' is ambiguous: the data have {len(places)} of that name; rename or "
            "drop one"
        )
    if not places:
        columns = [str(column) for column in data.columns]
        close = difflib.get_close_matches(str(name), columns, cutoff=0.5)
        hint = "closest: " if close else "the columns are: "
        listed = ", ".join(repr(column) for column in close or columns[:10])
        raise MissingColumnError(f"no column '{name}' in the data; {hint}{listed}")
    return places[0]


def read_weights(weights: Weights, data: pd.DataFrame) -> pd.Series | None:
    """(n_total,) weights as floats, missing ones NaN, whichever way they were given."""
    if weights is None:
        return None
    if isinstance(weights, str):
        weights = data.iloc[:, require_column(data, weights)]
    elif isinstance(weights, pd.Series) and not weights.index.equals(data.index):
        raise WeightsError(
            "the weights have another index than the data: align them, or pass "
            "weights.to_numpy() to match them by position"
        )
    values = real_array("weights", weights, WeightsError)
    if values.shape != (len(data),):
        shape = " x ".join(map(str, values.shape))
        raise WeightsError(
            f"{shape or 'scalar'} weights for {len(data)} rows of data; give one for each row"
        )
    name = weights.name if isinstance(weights, pd.Series) else None
    return pd.Series(values, name="weights" if name is None else str(name))


def positive(weights: pd.Series, labels: pd.Index) -> Floats:
    """(n,) weights of the kept rows, all finite and positive."""
    values: Floats = weights.to_numpy()
    require_finite(values[:, None], [str(weights.name)], labels)
    if (values <= 0).any():
        row = int(np.argmax(values <= 0))
        raise WeightsError(
            f"weights must be positive, row {label(labels, row)} has {values[row]:g}: correct "
            "it, or drop rows with weight 0"
        )
    return values


def prepare(column: pd.Series, labels: pd.Index) -> pd.Series:
    """The column as terms are made of it: float64, bool or categorical.

    Integers become floats because products of int64 columns wrap around silently.
    """
    column = column.infer_objects()
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.remove_unused_categories()
    if types.is_string_dtype(column):
        return column.astype("category")
    if types.is_bool_dtype(column):
        return column.astype(bool)
    values = numbers(column)
    if values is None:
        raise NotNumericError(
            f"column '{column.name}' is of dtype {column.dtype}: convert it to numbers, or to "
            "strings for a factor"
        )
    require_exact(column, values, labels)
    require_finite(values[:, None], [str(column.name)], labels)
    return pd.Series(values, name=column.name)


def levels_of(column: pd.Series) -> pd.Index | None:
    """The levels of a prepared factor, False and True for a boolean, None for a number."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.categories.astype(object)
    return pd.Index([False, True]) if types.is_bool_dtype(column) else None


def prepare_new(column: pd.Series, labels: pd.Index, levels: pd.Index | None) -> pd.Series:
    """A column of new data, none missing, in the form that it had in the fit."""
    if levels is None:
        prepared = prepare(column, labels)
        if isinstance(prepared.dtype, pd.CategoricalDtype):
            raise NotNumericError(
                f"column '{column.name}' was numeric in the fit and is a factor now: convert it "
                "to numbers"
            )
        return prepared.astype(float)
    values = np.asarray(column, dtype=object)
    try:
        # True equals 1 and would be read as that level.
        other = types.is_bool_dtype(column.infer_objects()) and levels.dtype != bool
        codes = np.full(len(values), -1) if other else levels.get_indexer(values)
        unseen = pd.unique(values[codes < 0])
    except TypeError as error:
        raise NotNumericError(
            f"column '{column.name}' holds values that cannot be levels ({error}): convert it to "
            "strings"
        ) from None
    if len(unseen):
        raise NewLevelError(
            f"column '{column.name}' has levels that the fit has not seen: {listed(unseen)}; "
            f"predict such rows from a fit that includes them; its levels are {listed(levels)}"
        )
    if levels.dtype == bool:
        return pd.Series(levels.to_numpy()[codes], name=column.name)
    return pd.Series(pd.Categorical.from_codes(codes, categories=levels), name=column.name)


def listed(values: Iterable[object]) -> str:
    """The first few values as Python prints them, not as `np.int64(3)`."""
    shown = [repr(v.item() if isinstance(v, np.generic) else v) for v in values]
    return ", ".join([*shown[:6], "…"] if len(shown) > 6 else shown)


def label(labels: pd.Index, row: int) -> str:
    """The label as Python prints it, not as `np.int64(3)`."""
    return repr(labels[[row]].tolist()[0])


def require_exact(column: pd.Series, values: Floats, labels: pd.Index) -> None:
    """Refuse integers that are infinite as ``numbers`` gives them."""
    for row in [] if types.is_float_dtype(column) else np.flatnonzero(np.isinf(values)).tolist():
        if isinstance(given := column.iloc[row], Integral):
            raise NonFiniteError(
                f"'{column.name}' is {given} in row {label(labels, row)}, an integer beyond 2**53 "
                "that double precision cannot hold: subtract a number from the column, or round "
                "it yourself with astype(float)"
            )


def require_finite(matrix: Floats, names: Sequence[str], labels: pd.Index) -> None:
    """Refuse a NaN or an infinite value, naming its column and row."""
    if np.isfinite(matrix).all():
        return
    bad = ~np.isfinite(matrix)
    j = int(np.argmax(bad.any(axis=0)))
    row = int(np.argmax(bad[:, j]))
    raise NonFiniteError(
        f"'{names[j]}' is {matrix[row, j]} in row {label(labels, row)}; correct or drop such rows",
        np.flatnonzero(bad.any(axis=1)),
    )
