"""The reference grid of a design, over which marginal means are averaged (R's emmeans).

Searle, Speed & Milliken (1980), Am. Stat. 34, 216-221: population marginal means are averages of
predictions over a balanced population, every combination of the levels of the factors once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import check_mapping, real_array
from jaxhlm.core.notation import Floats
from jaxhlm.design.design import Design
from jaxhlm.design.terms import evaluate_new
from jaxhlm.errors import NewLevelError, OptionError, UnknownTermError
from jaxhlm.inference.tails import range_tail, t_tail

__all__ = [
    "averaged",
    "cell_labels",
    "cell_variables",
    "marginal_means",
    "pairwise",
    "tukey",
]


def marginal_means(
    design: Design, specs: Sequence[str], at: Mapping[str, Any], means: Mapping[str, Floats]
) -> tuple[pd.DataFrame, Floats]:
    """The cells of ``specs``, and the contrasts whose values are their means, on b grids.

    Args:
        design: the design.
        specs: variables whose combinations are the cells; the first varies fastest.
        at: values for some variables, in place of all levels or of the mean.
        means: (b,) means in each grid of the variables that ``averaged`` names.

    Returns:
        Levels of the cells, grid after grid (b · cells rows), and contrasts (b, cells, columns)
        over all columns of X, those that it lost to rank deficiency included.

    Raises:
        UnknownTermError: a variable is not in the fixed part of the formula.
        NewLevelError: a level of a factor that the fit has not seen.
    """
    values = _grid_values(design, at)
    _require_variables([*specs, *at], values)
    others = [name for name in values if name not in specs]
    order = [*reversed(list(specs)), *others]
    one = pd.DataFrame(list(product(*(values[name] for name in order))), columns=order)
    b = len(next(iter(means.values()), [0]))
    grid = one.iloc[np.tile(np.arange(len(one)), b)].reset_index(drop=True)
    for name, centres in means.items():
        grid[name] = np.repeat(centres, len(one))
    X = evaluate_new(design._fixed, grid, design._factors)
    cells = int(np.prod([len(values[name]) for name in specs], dtype=int))
    full = X.reshape(b, cells, -1, X.shape[1]).mean(axis=2)
    return grid[list(specs)].iloc[:: len(one) // cells].reset_index(drop=True), full


def cell_variables(specs: str | Sequence[str]) -> list[str]:
    """The variables whose combinations are the cells.

    Raises:
        OptionError: they are no names, or one comes twice.
    """
    names = [specs] if isinstance(specs, str) or not np.iterable(specs) else list(specs)
    if not names or None in names or len(set(names)) < len(names):
        raise OptionError(f"specs={specs!r} must name one variable, or several different ones")
    return names


def averaged(design: Design, at: Mapping[str, Any]) -> list[str]:
    """The variables of the fixed part that stand at their mean: numbers, unless ``at`` has them."""
    check_mapping("at", at)
    return [v for v in design._fixed.variables if v not in at and _levels(design, v) is None]


def pairwise(cells: pd.DataFrame, L: Floats) -> tuple[list[str], Floats]:
    """Names "a - b" and contrasts of all differences between cells, in emmeans' order.

    Args:
        cells: levels of the cells of b grids, one grid after the other.
        L: (b, cells, …) contrasts of their means.

    Returns:
        Names, grid after grid, and contrasts (b, pairs, …).
    """
    labels = np.array(cell_labels(cells), dtype=object).reshape(L.shape[:2])
    pairs = list(combinations(range(L.shape[1]), 2))
    names = [f"{row[i]} - {row[j]}" for row in labels for i, j in pairs]
    first, second = np.array(pairs, dtype=int).reshape(-1, 2).T
    return names, L[:, first] - L[:, second]


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
                values[name] = real_array(f"at[{name!r}]", values[name], OptionError).tolist()
                if not np.isfinite(values[name]).all():
                    raise OptionError(f"at[{name!r}]={given!r} must hold finite numbers")
            unseen = [v for v in values[name] if levels is not None and v not in levels]
            if unseen or not values[name]:
                raise NewLevelError(
                    f"at[{name!r}] has {unseen or 'no values'}; the levels of {name!r} are: "
                    + ", ".join(map(repr, levels or []))
                )
        else:
            # A number stands at its mean, which is filled in grid by grid.
            values[name] = [np.nan] if levels is None else levels
    return values


def cell_labels(cells: pd.DataFrame) -> list[str]:
    """The levels of every cell, side by side."""
    return [" ".join(map(str, cell)) for cell in cells.itertuples(index=False)]


def _levels(design: Design, name: str) -> list[object] | None:
    """The levels of a factor, of a boolean, or of a number inside ``C()``; None for a number."""
    known = design._factors[name]
    if known is not None:
        return known.tolist()
    column = design._covariates[name]
    return np.unique(column).tolist() if name in design._fixed.coded else None


def _require_variables(names: Sequence[str], values: Mapping[str, object]) -> None:
    unknown = [name for name in names if name not in values]
    if unknown:
        raise UnknownTermError(
            f"{unknown[0]!r} is not a variable of the fixed part of the formula; these are: "
            + (", ".join(map(repr, values)) or "none")
        )
