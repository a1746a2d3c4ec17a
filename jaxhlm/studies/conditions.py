"""The conditions of a study, and the mechanism of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple, TypeAlias, TypeGuard

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import affordable, check_length, check_mapping, listed_values
from jaxhlm.core.tables import Table, as_frame
from jaxhlm.errors import OptionError
from jaxhlm.studies.measures import COUNTS, MEASURES
from jaxhlm.studies.mechanism import Mechanism
from jaxhlm.studies.method import COLUMNS

__all__ = ["Conditions", "Grid", "MechanismOf", "read_conditions"]

# A condition, its mechanism and its row.
CONDITION_BYTES = 1000.0
# Columns of estimates and of measures.
TAKEN = {"condition", *COLUMNS, *COUNTS, *MEASURES, *(f"{name}_mcse" for name in MEASURES)}
Value: TypeAlias = bool | int | float | str
Record: TypeAlias = Mapping[str, object]
Grid: TypeAlias = "Mapping[str, Sequence[object]] | Sequence[Record] | Table | None"
One: TypeAlias = Mechanism | Callable[..., Mechanism]
MechanismOf: TypeAlias = One | Mapping[str, One]


class Conditions(NamedTuple):
    """What is compared, numbered from 0."""

    table: pd.DataFrame  # one row per condition, indexed by its number
    mechanisms: tuple[Mechanism, ...]


def read_conditions(grid: Grid, mechanism: MechanismOf) -> Conditions:
    """Conditions and their mechanisms.

    Args:
        grid: lists by name, of which all combinations are made; or the conditions, one mapping or
            row each; or None.
        mechanism: a function of a condition (names as keyword arguments) that returns its
            ``Mechanism``; or mechanisms by name, which then are one more factor, "mechanism"; or a
            single one.

    Raises:
        OptionError: there is no condition, two are equal, or a value is not a number or a text.
    """
    listed = _listed(grid)
    if isinstance(mechanism, Mapping):
        if not mechanism:
            raise OptionError("the mapping of mechanisms is empty")
        listed = [{"mechanism": name, **one} for name in mechanism for one in listed or [{}]]
    elif not listed:
        if grid is not None:
            raise OptionError("the grid of conditions is empty: every factor needs a value or more")
        if callable(mechanism):
            raise OptionError("give the conditions that the mechanism is a function of")
        listed = [{}]
    records = [_checked(one) for one in listed]
    names = list(records[0])
    if any(list(one) != names for one in records):
        raise OptionError("every condition must have the same names, in the same order")
    if len({tuple(one.items()) for one in records}) < len(records):
        raise OptionError("two conditions are equal; leave one out")
    table = pd.DataFrame(records, pd.RangeIndex(len(records), name="condition"), names)
    return Conditions(table, tuple(_mechanism(mechanism, one) for one in records))


def _listed(grid: Grid) -> list[Record]:
    if grid is None:
        return []
    if hasattr(grid, "columns"):
        return as_frame("conditions", grid).to_dict("records")
    if isinstance(grid, Mapping):
        for name, values in grid.items():
            if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray | range):
                raise OptionError(f"factor {name!r} needs a list of values, not {values!r}")
            check_length(name, values)
        affordable("conditions", math.prod(map(len, grid.values())), CONDITION_BYTES)
        return [dict(zip(grid, one, strict=True)) for one in product(*grid.values()) if one]
    return [dict(check_mapping("conditions", one)) for one in listed_values("conditions", grid)]


def _checked(condition: Record) -> dict[str, Value]:
    out: dict[str, Value] = {}
    for name, value in condition.items():
        value = value.item() if isinstance(value, np.generic) else value
        if not _writable(value):
            raise OptionError(
                f"condition {name}={value!r}: give a number (whole ones of 64 bits), a text, or "
                "True or False, which files can hold, and let the mechanism make more of it"
            )
        if not isinstance(name, str) or name in TAKEN:
            raise OptionError(
                f"a condition cannot be named {name!r}; that is a column of the results already"
            )
        out[name] = value
    return out


def _writable(value: object) -> TypeGuard[Value]:
    """Whether a Parquet file can hold a value, and it equals itself when it is read again."""
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    if isinstance(value, str):
        return value.encode(errors="replace").decode() == value
    return isinstance(value, float) and value == value


def _mechanism(source: MechanismOf, condition: Mapping[str, Value]) -> Mechanism:
    rest: dict[str, Any] = dict(condition)
    made = source[rest.pop("mechanism")] if isinstance(source, Mapping) else source
    if callable(made):
        made = made(**rest)
    elif rest:
        raise OptionError(
            "these mechanisms do not depend on the conditions; give functions of them: "
            f"lambda {', '.join(rest)}: jaxhlm.mechanism(…)"
        )
    if not hasattr(made, "draw"):
        raise OptionError(
            f"the mechanism of condition {dict(condition)} is {type(made).__name__}, which draws "
            "no data sets; return a jaxhlm.mechanism(…)"
        )
    return made
