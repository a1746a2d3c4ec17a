"""Which fits of a batch are meant: by position or by label."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from difflib import get_close_matches
from typing import Any

import numpy as np
import pandas as pd

from jaxhlm.core.notation import Ints
from jaxhlm.errors import OptionError, UnknownFitError

__all__ = ["by_label", "by_labels", "by_position_or_label"]


def by_position_or_label(index: pd.Index, which: object) -> int | Ints:
    """Positions that ``fits[which]`` stands for, one of them as a number.

    Whole numbers, alone, in lists and in slices, are positions, also where the labels are numbers;
    a boolean for every fit chooses; everything else is a label or a list of labels.

    Args:
        index: (B,) labels of the fits.
        which: what is asked for.

    Raises:
        UnknownFitError: there is no such position or label.
        OptionError: booleans of another length or index, or something that is neither.
    """
    if isinstance(which, int | np.integer) and not isinstance(which, bool):
        return int(_positions(index, [which])[0])
    if isinstance(which, slice):
        return _sliced(index, which)
    if isinstance(which, str | tuple | bytes) or not np.iterable(which):
        return by_label(index, which)
    return _listed(index, which)


def by_labels(index: pd.Index, which: object) -> int | Ints:
    """Positions that ``fits.loc[which]`` stands for: of a label, or of a list of them.

    Raises:
        UnknownFitError: there is no such label.
    """
    if not isinstance(which, list | np.ndarray | pd.Index | pd.Series):
        return by_label(index, which)
    return _labelled(index, list(which))


def _labelled(index: pd.Index, labels: list[Hashable]) -> Ints:
    """Positions of the fits of some labels."""
    found = [np.atleast_1d(by_label(index, label)) for label in labels]
    return np.concatenate([np.zeros(0, int), *found])


def by_label(index: pd.Index, label: Hashable) -> int | Ints:
    """Position of the fit of a label; positions where several share it, or a part of it.

    Raises:
        UnknownFitError: there is none.
    """
    try:
        found = index.get_loc(label)
    except (KeyError, TypeError, ValueError, pd.errors.InvalidIndexError):
        raise _unknown(index, label) from None
    at = np.arange(len(index))[found]
    # pandas finds True among numbers, as 1.
    if isinstance(label, bool | np.bool_) and index.dtype != bool:
        raise _unknown(index, label)
    return int(at) if np.ndim(at) == 0 else at


def _sliced(index: pd.Index, which: slice) -> Ints:
    try:
        return np.arange(len(index))[which]
    except TypeError:
        raise OptionError(
            f"fits[{which.start!r}:{which.stop!r}]: a slice is of positions; choose labels by a "
            "list of them"
        ) from None


def _listed(index: pd.Index, which: Iterable[Any]) -> Ints:
    """Positions of a list, array or Series of positions, booleans or labels."""
    if isinstance(which, pd.Series) and which.dtype == bool and not which.index.equals(index):
        raise OptionError("the booleans have another index than the fits; pass them .to_numpy()")
    listed = list(which)
    kinds = {_kind(x) for x in listed}
    if kinds == {"bool"}:
        if len(listed) != len(index):
            raise OptionError(
                f"{len(listed)} booleans choose among {len(index)} fits; give as many"
            )
        return np.flatnonzero(np.array(listed))
    if kinds <= {"int"}:
        return _positions(index, listed)
    if "bool" in kinds:
        raise OptionError("fits[…] with True or False among others; give positions or labels")
    return _labelled(index, listed)


def _kind(x: object) -> str:
    if isinstance(x, bool | np.bool_):
        return "bool"
    return "int" if isinstance(x, int | np.integer) else "label"


def _positions(index: pd.Index, which: list[object]) -> Ints:
    B, at = len(index), np.array(which, dtype=np.int64)
    wrong = at[(at < -B) | (at >= B)]
    if len(wrong):
        label = " (a number is a position; fits.loc[…] takes labels)" * (index.dtype.kind in "iu")
        raise UnknownFitError(
            f"there is no fit at position {wrong[0]}; this batch holds {B}{label}"
        )
    return at % B if B else at


def _unknown(index: pd.Index, label: Hashable) -> UnknownFitError:
    known = [str(x) for x in index[:100_000]]
    close = get_close_matches(str(label), known, n=3, cutoff=0.6)
    shown = close or [repr(x) for x in index[:6].tolist()]
    more = ", …" * (len(index) > len(shown))
    return UnknownFitError(
        f"no fit is labelled {label!r}; "
        + ("closest: " if close else "the labels are: ")
        + ", ".join(shown)
        + more
    )
