"""Names of samples and of responses: rows and columns that are brought together by them.

What has names is matched by name, whatever its order; what has none, such as an array, by position.
The numbers that pandas gives to rows by default are no names.
"""

from __future__ import annotations

import pandas as pd
from pandas.api.types import is_integer_dtype

from jaxhlm.core.notation import Ints
from jaxhlm.design.columns import listed
from jaxhlm.errors import JaxhlmError

__all__ = ["matched", "row_order", "unnamed"]


def unnamed(names: pd.Index | None) -> bool:
    """Whether there are no names: None, or 0, 1, 2, …, which pandas numbers by.

    >>> unnamed(pd.RangeIndex(3)), unnamed(pd.Index(["a", "b"])), unnamed(pd.RangeIndex(1, 4))
    (True, False, False)
    """
    if names is None or isinstance(names, pd.MultiIndex):
        return names is None
    return bool(is_integer_dtype(names) and names.equals(pd.RangeIndex(len(names))))


def matched(
    names: pd.Index | None,
    others: pd.Index | None,
    told: tuple[str, str],
    error: type[JaxhlmError],
) -> Ints | None:
    """Where each of the other names stands in ``names``; None where that is where it stands.

    Args:
        names: (n,) of what is to be brought into an order, if it has any.
        others: (n,) in that order, if there are any.
        told: what to call the names and the others.
        error: what to raise.

    Raises:
        JaxhlmError: they are not the same names, each once; or only one side is named, and by
            numbers, which may count the rows of another table.

    >>> told = "the rows of weights", "those of responses"
    >>> matched(pd.Index(["a", "b", "c"]), pd.Index(["c", "a", "b"]), told, JaxhlmError)
    array([2, 0, 1])
    """
    if names is None or others is None or names.equals(others):
        return None
    mine, theirs = told
    numbered = unnamed(names) or unnamed(others)
    names, others = _alike(names, others)
    if names.equals(others):
        return None
    if numbered and not (_numbers(names) and _numbers(others)):
        return None
    if numbered:
        raise error(
            f"{mine} differs from {theirs} ({_differing(names, others)}), and one of them only "
            "numbers; give both the same index, or pass to_numpy() to match by position"
        )
    for side in (names, others):
        if not side.is_unique:
            repeated = listed(side[side.duplicated()].unique()[:3])
            raise error(
                f"{mine} is not in the order of {theirs}, and {repeated} repeats, so that names "
                "cannot match them; bring both into the same order and pass to_numpy()"
            )
    found = names.get_indexer(others)
    if len(names) != len(others) or (found < 0).any():
        raise error(
            f"{mine} differs from {theirs} ({_differing(names, others)}); leave out what only one "
            "of them has, or pass to_numpy() to match by position"
        )
    return found


def row_order(
    names: pd.Index | None, data: pd.DataFrame, what: str, error: type[JaxhlmError]
) -> Ints | None:
    """For every row of ``data``, which row of responses is of that sample; None for its own.

    Args:
        names: (n,) samples of the responses, or of their weights, if they have names.
        data: the table of samples.
        what: "responses" or "weights".
        error: what to raise.

    Raises:
        JaxhlmError: the samples are not those of ``data``.
    """
    if unnamed(data.index) and not unnamed(names):
        _check_columns(names, data, what, error)
    return matched(names, data.index, (f"the index of {what}", "that of data"), error)


def _check_columns(
    names: pd.Index, data: pd.DataFrame, what: str, error: type[JaxhlmError]
) -> None:
    """Refuse a column of names of samples that are others, or in another order.

    ``data`` has no index of names: where a column tells its rows apart by those of the responses,
    it can be seen whether they are in the same order.
    """
    if names.nlevels > 1 or not all(isinstance(name, str) for name in names):
        return
    columns = {name: column for name, column in data.items() if _names(column)}
    shared = [name for name, column in columns.items() if column.isin(names).any()]
    if shared and not any(pd.Index(columns[name]).equals(names) for name in shared):
        told = _differing(names, pd.Index(columns[shared[0]]))
        raise error(
            f"{what} have an index of samples, and column {shared[0]!r} of data has others ({told})"
            f"; data.set_index({shared[0]!r}) has rows matched by name"
        )


def _names(column: pd.Series) -> bool:
    """Whether a column names every row by another text."""
    return bool(column.map(lambda value: isinstance(value, str)).all() and column.is_unique)


def _alike(*sides: pd.Index) -> tuple[pd.Index, ...]:
    """The names, of one level, and as text where they can be nothing else on one side."""
    flat = [
        pd.Index(list(side), tupleize_cols=False) if side.nlevels > 1 else side for side in sides
    ]
    text = [all(isinstance(name, str) for name in side) for side in flat]
    if all(text) or not any(text):
        return tuple(flat)
    return tuple(side if said else side.map(str) for side, said in zip(flat, text, strict=True))


def _numbers(names: pd.Index) -> bool:
    return all(str(name).isdecimal() for name in names)


def _differing(mine: pd.Index, others: pd.Index) -> str:
    """Up to three names that only one side has, of each side."""
    sides = [a.difference(b, sort=False)[:3] for a, b in ((mine, others), (others, mine))]
    if not any(map(len, sides)):
        return "the same in another order"
    return " against ".join(listed(side) or "none of its own" for side in sides)
