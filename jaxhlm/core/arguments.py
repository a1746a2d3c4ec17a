"""What a user passes, checked: a value of another type is refused, not read as something else.

So is what cannot be: numbers whose squares overflow, sizes that this machine's memory cannot hold.
Every function takes the argument's name, so that the error can say it, and returns the value as the
library wants it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sized
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd

from jaxhlm.core.notation import Floats
from jaxhlm.errors import JaxhlmError, NotNumericError, OptionError

__all__ = [
    "LARGEST",
    "affordable",
    "as_floats",
    "check_flag",
    "check_function",
    "check_length",
    "check_mapping",
    "exact_array",
    "finite_array",
    "fraction",
    "listed_values",
    "number",
    "other_things",
    "real_array",
    "share",
    "whole_number",
]

# Squares of larger numbers, and sums of those, overflow.
LARGEST = 1e100
GIGABYTE = 1e9
# A value of a list, and what is made of it.
VALUE_BYTES = 100.0
# Integers of this size are numbers of double precision.
SAFE_BYTES = 4


def whole_number(name: str, value: Any, least: int = 1) -> int:
    """A whole number, not a float, a bool or text.

    Raises:
        OptionError: it is none, or below ``least``.

    >>> whole_number("n", np.int64(3))
    3
    """
    # An array without dimensions has an index too, and would be kept as an array.
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise OptionError(f"{name}={value!r} must be a whole number, {least} or more")
    return int(value)


def number(name: str, value: Any) -> float:
    """A real number of at most LARGEST in size, not a bool or text.

    Raises:
        OptionError: it is none.

    >>> number("slope", np.float32(0.5))
    0.5
    """
    array = isinstance(value, np.ndarray | np.generic)
    known = not array or (value.ndim == 0 and value.dtype.kind in "iuf")
    # NumPy would round LARGEST to the precision of what it is compared with.
    scalar = value.item() if array and known else value
    real = known and isinstance(scalar, Real) and not isinstance(scalar, bool)
    if not real or not abs(scalar) <= LARGEST:
        raise OptionError(f"{name}={value!r} must be a finite number")
    return float(scalar)


def fraction(name: str, value: Any, example: float = 0.95) -> float:
    """A number between 0 and 1, both excluded; percentages are refused.

    Raises:
        OptionError: it is none.
    """
    found = number(name, value)
    if not 0.0 < found < 1.0:
        percent = f"; write {found / 100:g} for {found:g} %" if 1.0 < found < 100.0 else ""
        raise OptionError(f"{name}={value!r} must lie between 0 and 1, such as {example}{percent}")
    return found


def share(name: str, value: Any) -> float:
    """A number from 0, nothing of it, to below 1.

    Raises:
        OptionError: it is none.
    """
    return 0.0 if number(name, value) == 0.0 else fraction(name, value, 0.1)


def check_flag(name: str, value: Any) -> None:
    """Raise ``OptionError`` unless the value is True or False: "False" and "ML" would be true."""
    if not isinstance(value, bool | np.bool_):
        raise OptionError(f"{name}={value!r} must be True or False")


def check_mapping(name: str, value: Any) -> Mapping[Any, Any]:
    """The value; raise ``OptionError`` unless it is a mapping."""
    if not isinstance(value, Mapping):
        raise OptionError(f"{name}={value!r} must be a mapping, such as a dict")
    return value


def check_function(name: str, value: Any) -> None:
    """Raise ``OptionError`` unless the value can be called."""
    if not callable(value):
        raise OptionError(f"{name}={value!r} must be a function of an array")


def affordable(name: str, count: int, each: float) -> None:
    """Raise where that many things cannot be held in this machine's memory.

    Args:
        name: the argument that says how many.
        count: how many.
        each: bytes of one.

    Raises:
        OptionError: the message says how many can be.
    """
    memory = _memory()
    if each > 0.0 and count > memory / each:
        taken = min(count, LARGEST) * each / GIGABYTE
        raise OptionError(
            f"{name}={count}: that would take {taken:.3g} GB, and this machine "
            f"has {memory / GIGABYTE:.3g} GB of memory; it has room for {int(memory / each):,}"
        )


def listed_values(name: str, value: Any) -> list[Any]:
    """The values of a list, an array or a range; text is none.

    Raises:
        OptionError: it is none, or too long for this machine's memory.
    """
    if isinstance(value, str | bytes | Mapping) or not np.iterable(value):
        raise OptionError(f"{name}={value!r} must be a list of values")
    check_length(name, value)
    return list(value)


def check_length(name: str, value: Any) -> None:
    """Raise ``OptionError`` where a list of that many values cannot be held in memory.

    >>> check_length("values", range(3))
    """
    if isinstance(value, range):
        # Its own length may be more than Python counts.
        affordable(name, max(0, -((value.start - value.stop) // value.step)), VALUE_BYTES)
    elif isinstance(value, Sized):
        affordable(name, len(value), VALUE_BYTES)


def finite_array(name: str, values: Any) -> Floats:
    """A float64 array of numbers of at most LARGEST in size.

    Raises:
        OptionError: anything else, missing and masked values too.

    >>> finite_array("sd", [1, 2]).tolist()
    [1.0, 2.0]
    """
    array = real_array(name, values, OptionError)
    if not (np.abs(array) <= LARGEST).all():
        raise OptionError(f"{name} has a value that is missing or infinite: {values}")
    return array


def real_array(
    name: str, values: Any, error: type[JaxhlmError] = NotNumericError, kinds: str = "iuf"
) -> Floats:
    """A float64 array of real numbers; masked and missing entries are NaN.

    Dates, text, booleans and complex numbers are refused rather than converted.

    Args:
        name: what to call it.
        values: an array, masked or not, nested lists, a Series or a DataFrame.
        error: what to raise.
        kinds: of NumPy's types, those that are taken as numbers.
    """
    try:
        if isinstance(values, pd.DataFrame):
            return _of_frame(values, kinds)
        if isinstance(values, pd.Series | pd.Index | pd.api.extensions.ExtensionArray):
            return _of_column(pd.Series(values), kinds)
        masked = np.ma.asarray(values) if _may_be_masked(values) else np.asarray(values)
        return np.ma.filled(_as_floats(masked, kinds), np.nan)
    except _OtherThingsError as found:
        raise error(f"{name} must be numbers, got {found}") from None
    except (TypeError, ValueError, OverflowError) as cause:
        raise error(f"{name} must be numbers, and is not: {cause}") from None


class _OtherThingsError(Exception):
    """What was found in the place of numbers."""


def other_things(dtype: Any) -> str:
    """What an array that does not hold numbers holds.

    >>> other_things(np.dtype(bool)), other_things(np.dtype("<U3"))
    ('True and False (dtype bool): give .astype(float)', 'text (dtype <U3)')
    """
    if pd.api.types.is_bool_dtype(dtype):
        return f"True and False (dtype {dtype}): give .astype(float)"
    words = {"U": "text", "S": "bytes", "M": "dates", "m": "durations", "c": "complex numbers"}
    kind = "U" if pd.api.types.is_string_dtype(dtype) else getattr(dtype, "kind", "")
    return f"{words[kind]} (dtype {dtype})" if kind in words else f"dtype {dtype}"


def exact_array(name: str, values: Any) -> Floats:
    """As ``real_array``; an integer that double precision cannot hold is infinite.

    >>> exact_array("y", [2**53, 2**53 + 1]).tolist()
    [9007199254740992.0, inf]
    """
    found = real_array(name, values)
    masked = np.ma.asarray(values) if _may_be_masked(values) else np.asarray(values)
    given = np.ma.getdata(masked)
    if given.dtype == object:
        pairs = zip(given.ravel(), found.ravel(), strict=True)
        lost = np.array([isinstance(x, Integral) and int(x) != float(y) for x, y in pairs], bool)
    elif given.dtype.kind in "iu":
        lost = np.isinf(as_floats(given)).ravel()
    else:
        return found
    return np.where(np.reshape(lost, found.shape) & ~np.isnan(found), np.inf, found)


def as_floats(values: Any, xp: Any = np) -> Any:
    """An array of real numbers in double precision; an integer that it cannot hold is infinite.

    Args:
        values: of the namespace ``xp``.
        xp: ``numpy`` or ``jax.numpy``.

    >>> as_floats(np.array([2**60, 2**60 + 1])).tolist()
    [1.152921504606847e+18, inf]
    """
    if values.dtype.kind not in "iu" or values.dtype.itemsize <= SAFE_BYTES:
        return values.astype(float, copy=False) if xp is np else values.astype(float)
    found, limit = values.astype(float), float(np.iinfo(values.dtype).max)
    back = xp.where(found < limit, found, 0.0).astype(values.dtype)
    return xp.where((found < limit) & (back == values), found, xp.inf)


def _of_frame(frame: pd.DataFrame, kinds: str) -> Floats:
    if all(isinstance(dtype, np.dtype) and dtype.kind in kinds for dtype in set(frame.dtypes)):
        return frame.to_numpy(dtype=float)
    columns = [_of_column(frame.iloc[:, j], kinds) for j in range(frame.shape[1])]
    return np.column_stack(columns) if columns else np.empty(frame.shape)


def _of_column(column: pd.Series, kinds: str) -> Floats:
    """The floats of a column of any dtype, missing ones NaN."""
    if isinstance(column.dtype, np.dtype):
        return np.ma.filled(_as_floats(column.to_numpy(), kinds), np.nan)
    if not pd.api.types.is_any_real_numeric_dtype(column.dtype):
        raise _OtherThingsError(other_things(column.dtype))
    return column.to_numpy(dtype=float, na_value=np.nan)


def _may_be_masked(values: Any) -> bool:
    return isinstance(values, np.ma.MaskedArray | list | tuple)


def _as_floats(values: Any, kinds: str) -> Any:
    """The array, masked or not, in double precision."""
    if values.dtype == object:
        flat = [_float_of(x) for x in np.ma.getdata(values).ravel()]
        mask = np.ma.getmask(values)
        return np.ma.array(np.reshape(np.array(flat, dtype=float), values.shape), mask=mask)
    if values.dtype.kind not in kinds:
        raise _OtherThingsError(other_things(values.dtype))
    return values.astype(float, copy=False)


def _float_of(value: Any) -> float:
    if value is None or value is pd.NA or value is pd.NaT or value is np.ma.masked:
        return math.nan
    if isinstance(value, bool | str) or not isinstance(value, Real | Decimal):
        raise _OtherThingsError(f"{value!r}, a {type(value).__name__}")
    return float(value)


def _memory() -> float:
    """Bytes of memory of this machine; infinite where it does not say."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return float("inf")
