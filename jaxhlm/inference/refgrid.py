"""The reference grid of a design, over which marginal means are averaged (R's emmeans).

Searle, Speed & Milliken (1980), Am. Stat. 34, 216-221: population marginal means are averages of
predictions over a balanced population, every combination of the levels of the factors once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import product
from typing import Any, Literal

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import check_mapping, real_array
from jaxhlm.core.notation import Floats, Ints
from jaxhlm.design.design import Design
from jaxhlm.design.evaluation import level_text
from jaxhlm.design.grouping import first_twice
from jaxhlm.design.terms import evaluate_new
from jaxhlm.errors import NewLevelError, OptionError, UnknownTermError
from jaxhlm.inference.tails import range_tail, t_tail

__all__ = [
    "CellWeights",
    "averaged",
    "cell_labels",
    "cell_variables",
    "check_distinct",
    "check_variables",
    "factors_of",
    "marginal_means",
    "tukey",
]

CellWeights = Literal["equal", "proportional", "outer", "cells"]

# Of the range of a number whose slope is taken: half the distance over which emmeans takes it.
STEP = 5e-4


def marginal_means(
    design: Design,
    specs: Sequence[str],
    at: Mapping[str, Any],
    means: Mapping[str, Floats],
    weights: CellWeights = "equal",
    frequencies: Floats | None = None,
    trend: str | None = None,
    around: bool = False,
) -> tuple[pd.DataFrame, Floats]:
    """The cells of ``specs``, and the contrasts whose values are their means, on b grids.

    Args:
        design: the design.
        specs: variables of it whose combinations are the cells; the first varies fastest.
        at: values for some variables, in place of all levels or of the mean.
        means: (b,) means in each grid of the variables that ``averaged`` names.
        weights: how the other cells are weighted.
        frequencies: (b, levels of ``factors_of`` …) weights of the rows, unless they are equal.
        trend: a number whose slope takes the place of the mean.
        around: numbers stand one below and one above their mean.

    Returns:
        Levels of the cells, grid after grid (b · cells rows), and contrasts (b, cells, columns)
        over all columns of X, those that it lost to rank deficiency included.

    Raises:
        NewLevelError: a level of a factor that the fit has not seen.
        OptionError: the trend of what is no number, or a value of ``at`` twice.
    """
    values = _grid_values(design, at)
    if around:
        values |= {name: [-1.0, 1.0] for name in means}
    others = [name for name in values if name not in specs]
    order = [*reversed(list(specs)), *others]
    one = pd.DataFrame(list(product(*(values[name] for name in order))), columns=order)
    b = len(next(iter(means.values()), [0])) if frequencies is None else len(frequencies)
    grid = one.iloc[np.tile(np.arange(len(one)), b)].reset_index(drop=True)
    for name, centres in means.items():
        offset = grid[name].to_numpy(dtype=float) if around else 0.0
        grid[name] = np.repeat(centres, len(one)) + offset
    X = _columns(design, grid) if trend is None else _slopes(design, grid, trend)
    cells = int(np.prod([len(values[name]) for name in specs], dtype=int))
    X = X.reshape(b, cells, -1, X.shape[1])
    full = X.mean(axis=2)
    if frequencies is not None and weights != "equal":
        w = _weights(design, values, order, len(specs), weights, frequencies)
        with np.errstate(invalid="ignore"):
            full = np.einsum("bcr,bcrp->bcp", w / w.sum(axis=2, keepdims=True), X)
    return grid[list(specs)].iloc[:: len(one) // cells].reset_index(drop=True), full


def _columns(design: Design, grid: pd.DataFrame) -> Floats:
    return evaluate_new(design._fixed, grid, design._factors)


def _slopes(design: Design, grid: pd.DataFrame, name: str) -> Floats:
    """Derivatives of the columns of X by a number, from central differences."""
    if _levels(design, name) is not None:
        raise OptionError(f"var={name!r} is a factor, which has no trend; use emmeans")
    step = STEP * (np.ptp(design._covariates[name].astype(float)) or 1.0)
    up, down = (_columns(design, grid.assign(**{name: grid[name] + h})) for h in (step, -step))
    return (up - down) / (2.0 * step)


def _weights(
    design: Design,
    values: Mapping[str, list[object]],
    order: Sequence[str],
    specs: int,
    weights: CellWeights,
    frequencies: Floats,
) -> Floats:
    """(b, cells, rest) weights of the cells of a grid, from its rows; numbers have no say."""
    factors = factors_of(design)
    axis = {name: i + 1 for i, name in enumerate(factors)}
    for name, i in axis.items():
        known = _levels(design, name) or []
        places = [known.index(value) for value in values[name]]
        frequencies = np.take(frequencies, places, axis=i)
    if weights == "outer":
        parts = []
        for i in axis.values():
            away = tuple(j for j in axis.values() if j != i)
            parts.append(frequencies.sum(axis=away, keepdims=True))
        frequencies = reduce(np.multiply, parts)
    if weights in ("proportional", "outer"):
        cells = tuple(axis[name] for name in order[:specs] if name in axis)
        whole = frequencies.sum(axis=cells, keepdims=True)
        frequencies = np.broadcast_to(whole, frequencies.shape)
    present = [axis[name] for name in order if name in axis]
    found = np.transpose(frequencies, [0, *present])
    sizes = [len(values[name]) for name in order]
    found = found.reshape(
        len(found), *(n if name in axis else 1 for n, name in zip(sizes, order, strict=True))
    )
    cells_in_all = int(np.prod(sizes[:specs], dtype=int))
    return np.broadcast_to(found, (len(found), *sizes)).reshape(len(found), cells_in_all, -1)


def factors_of(design: Design) -> dict[str, tuple[Ints, int]]:
    """What weighs cells: the number of every row's level, and of levels, of all factors."""
    found = {}
    for name in design._fixed.variables:
        known = _levels(design, name)
        if known is not None:
            values = design._covariates[name]
            number = design._factors[name] is None
            codes = np.searchsorted(np.array(known), values) if number else values
            found[name] = codes.astype(np.int64), len(known)
    return found


def cell_variables(specs: str | Sequence[str] | None, name: str = "specs") -> list[str]:
    """The variables whose combinations are the cells.

    Raises:
        OptionError: they are no names, or one comes twice.
    """
    names: list[Any] = [specs] if isinstance(specs, str) or not np.iterable(specs) else list(specs)
    if not names or None in names or len(set(names)) < len(names):
        raise OptionError(f"{name}={specs!r} must name one variable, or several different ones")
    return names


def averaged(design: Design, at: Mapping[str, Any]) -> list[str]:
    """The variables of the fixed part that stand at their mean: numbers, unless ``at`` has them."""
    check_mapping("at", at)
    return [v for v in design._fixed.variables if v not in at and _levels(design, v) is None]


def tukey(t: Floats, cells: int, df: Floats) -> Floats:
    """p values of differences between ``cells`` means by the studentised range (Tukey-Kramer)."""
    if cells == 2:
        return t_tail(t, df)
    return range_tail(np.sqrt(2.0) * np.abs(t), cells, df)


def _grid_values(design: Design, at: Mapping[str, Any]) -> dict[str, list[object]]:
    """For every variable of the fixed part its values in the grid."""
    part, values = design._fixed, {}
    for name in part.variables:
        levels = _levels(design, name)
        if name in at:
            given = at[name]
            single = isinstance(given, str) or not np.iterable(given)
            values[name] = [given] if single else list(given)
            if levels is None:
                numbers = real_array(f"at[{name!r}]", values[name], OptionError)
                values[name] = numbers.tolist()
                if numbers.ndim != 1 or not np.isfinite(numbers).all():
                    raise OptionError(f"at[{name!r}]={given!r} must hold finite numbers")
            unseen = [v for v in values[name] if levels is not None and v not in levels]
            if unseen or not values[name]:
                raise NewLevelError(
                    f"at[{name!r}] has {unseen or 'no values'}; the levels of {name!r} are: "
                    + ", ".join(map(repr, levels or []))
                )
            if len(set(values[name])) < len(values[name]):
                raise OptionError(f"at[{name!r}]={given!r} must hold every value once")
        else:
            # A number stands at its mean, which is filled in grid by grid.
            values[name] = [np.nan] if levels is None else levels
    return values


def cell_labels(cells: pd.DataFrame) -> list[str]:
    """The levels of every cell, side by side; numbers to seven digits, as R prints them.

    >>> cell_labels(pd.DataFrame({"x": [8.0, 1 / 3], "g": ["a", "b"]}))
    ['8 a', '0.3333333 b']
    """
    return [" ".join(map(_plainly, cell)) for cell in cells.itertuples(index=False)]


def _plainly(level: object) -> str:
    part = isinstance(level, float) and not level.is_integer()
    return f"{level:.7g}" if part else level_text(level)


def _levels(design: Design, name: str) -> list[object] | None:
    """The levels of a factor, of a boolean, or of a number inside ``C()``; None for a number."""
    known = design._factors[name]
    if known is not None:
        return known.tolist()
    column = design._covariates[name]
    levels = column.dtype == bool or name in design._fixed.coded
    return np.unique(column).tolist() if levels else None


def check_variables(design: Design, argument: str, names: Sequence[str]) -> None:
    """Raise ``UnknownTermError`` unless all names are variables of the fixed part."""
    known = design._fixed.variables
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UnknownTermError(
            f"{argument}: {unknown[0]!r} is not a variable of the fixed part of the formula; these "
            "are: "
            + (", ".join(map(repr, known)) or "none")
            + ('; combinations are a list of names, or "~ a * b"' if _joins(unknown[0]) else "")
        )


def check_distinct(names: Sequence[str]) -> None:
    """Raise ``OptionError`` where a variable is called as another column of the result."""
    if len(set(names)) < len(names):
        raise OptionError(
            f"the result would have two columns {first_twice(names)!r}, of which one is a variable "
            "of the formula: rename the variable in the data and fit again"
        )


def _joins(name: object) -> bool:
    """Whether a name reads as several that are joined."""
    return any(sign in str(name) for sign in "*:+|")
