"""Arguments that are numbers: what is none, or cannot be, is refused by the argument's name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np

from jaxhlm.errors import OptionError

__all__ = ["LARGEST", "affordable", "finite", "function", "mapping", "numbers", "whole"]

# Squares of larger numbers, and sums of those, overflow.
LARGEST = 1e100
GIGABYTE = 1e9


def finite(name: str, value: Any) -> float:
    """A number of at most LARGEST in size.

    Raises:
        OptionError: anything else.

    >>> finite("slope", np.float32(0.5))
    0.5
    """
    number = _as_float(value)
    if not abs(number) <= LARGEST:
        raise OptionError(f"{name}={value!r} must be a finite number")
    return number


def whole(name: str, value: Any, least: int) -> int:
    """A whole number from ``least`` on.

    Raises:
        OptionError: anything else.
    """
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        raise OptionError(f"{name}={value!r} must be a whole number, {least} or more")
    return int(value)


def numbers(name: str, values: Any) -> Any:
    """An array of finite numbers, as floats.

    Raises:
        OptionError: text, complex numbers, missing or infinite values, or no array at all.

    >>> numbers("sd", [1, 2]).tolist()
    [1.0, 2.0]
    """
    try:
        array = np.asarray(values)
        known = array.dtype.kind in "iuf" or (
            array.dtype.kind == "O" and all(isinstance(x, Real) for x in array.ravel())
        )
    except (TypeError, ValueError):
        known = False
    if not known:
        raise OptionError(f"{name} must hold numbers, not {values!r}")
    try:
        array = array.astype(float)
    except OverflowError:
        array = np.full(array.shape, np.inf)
    if not (np.abs(array) <= LARGEST).all():
        raise OptionError(f"{name} has a value that is missing or infinite: {values}")
    return array


def mapping(name: str, value: Any) -> Mapping[str, Any]:
    """A mapping.

    Raises:
        OptionError: anything else.
    """
    if not isinstance(value, Mapping):
        raise OptionError(f"{name}={value!r} must be a dict, with names as its keys")
    return value


def function(name: str, value: Any) -> None:
    """Raise ``OptionError`` unless it can be called."""
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
    room = _memory()
    if count > room / each:
        taken = min(count, LARGEST) * each / GIGABYTE
        raise OptionError(
            f"{name}={count}: that would take {taken:.3g} GB, and this machine "
            f"has {room / GIGABYTE:.3g} GB of memory; it has room for {int(room / each):,}"
        )


def _as_float(value: Any) -> float:
    """A number, NaN for what is none; True and False are none."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return float("nan")
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _memory() -> float:
    """Bytes of memory of this machine; infinite where it does not say."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return float("inf")
