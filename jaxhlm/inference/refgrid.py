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

from jaxhlm.design import Design
from jaxhlm.errors import NewLevelError, UnknownTermError
from jaxhlm.inference.hypotheses import check_estimable
from jaxhlm.inference.tails import range_tail, t_tail
from jaxhlm.notation import Floats
from jaxhlm.rows.terms import evaluate_new

__all__ = ["holm", "marginal_means", "pairwise", "tukey"]


def marginal_means(
    design: Design, specs: Sequence[str], at: Mapping[str, Any]
) -> tuple[pd.DataFrame, Floats]:
    """The cells of ``specs``, and the contrasts (cells, p) whose values are their means.

    Args:
        design: the design.
        specs: variables whose combinations are the cells; the first varies fastest.
        at: values for some variables, in place of all levels or of the mean.

    Raises:
        UnknownTermError: a variable is not in the fixed part of the formula.
        NewLevelError: a level of a factor that the fit has not seen.
        NotEstimableError: a mean depends on columns that were dropped.
    """
    values = _grid_values(design, at)
    _require_variables([*specs, *at], values)
    others = [name for name in values if name not in specs]
    order = [*reversed(list(specs)), *others]
    rows = list(product(*(values[name] for name in order)))
    grid = pd.DataFrame(rows, columns=order)
    X = evaluate_new(design._fixed, grid, design._factors)
    cells = int(np.prod([len(values[name]) for name in specs], dtype=int))
    full = X.reshape(cells, -1, X.shape[1]).mean(axis=1)
    frame = grid[list(specs)].iloc[:: len(grid) // cells].reset_index(drop=True)
    kept = list(design._x_columns)
    dropped = np.setdiff1d(np.arange(X.shape[1]), kept)
    labels = [" ".join(map(str, cell)) for cell in frame.itertuples(index=False)]
    check_estimable(np.hstack([full[:, kept], full[:, dropped]]), design._alias, labels)
    return frame, full[:, kept]


def pairwise(cells: pd.DataFrame, L: Floats) -> tuple[tuple[str, ...], Floats]:
    """Names "a - b" and contrasts of all differences between cells, in emmeans' order."""
    labels = [" ".join(map(str, cell)) for cell in cells.itertuples(index=False)]
    pairs = list(combinations(range(len(labels)), 2))
    names = tuple(f"{labels[i]} - {labels[j]}" for i, j in pairs)
    return names, np.array([L[i] - L[j] for i, j in pairs]).reshape(len(pairs), L.shape[1])


def holm(p: Floats) -> Floats:
    """p values adjusted by Holm (1979), Scand. J. Statist. 6, 65-70.

    >>> holm(np.array([0.01, 0.04, 0.03])).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p)
    steps = np.arange(len(p), 0, -1) * p[order]
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def tukey(t: Floats, cells: int, df: Floats) -> Floats:
    """p values of differences between ``cells`` means by the studentised range (Tukey-Kramer)."""
    if cells == 2:
        return t_tail(t, df)
    return range_tail(np.sqrt(2.0) * np.abs(t), cells, df)


def _grid_values(design: Design, at: Mapping[str, Any]) -> dict[str, list[Any]]:
    """For every variable of the fixed part its values in the grid."""
    part, values = design._fixed, {}
    for name in part.variables:
        levels = _levels(design, name)
        if name in at:
            given = at[name]
            single = isinstance(given, str) or not np.iterable(given)
            values[name] = [given] if single else list(given)
            unseen = [v for v in values[name] if levels is not None and v not in levels]
            if unseen or not values[name]:
                raise NewLevelError(
                    f"at[{name!r}] has {unseen or 'no values'}; the levels of {name!r} are: "
                    + ", ".join(map(repr, levels or []))
                )
        else:
            mean = [] if levels is not None else [float(design._covariates[name].mean())]
            values[name] = levels if levels is not None else mean
    return values


def _levels(design: Design, name: str) -> list[Any] | None:
    """The levels of a factor, of a boolean, or of a number inside ``C()``; None for a number."""
    known = design._factors[name]
    if known is not None:
        return known.tolist()
    column = design._covariates[name]
    return np.unique(column).tolist() if name in design._fixed.coded else None


def _require_variables(names: Sequence[str], values: Mapping[str, Any]) -> None:
    unknown = [name for name in names if name not in values]
    if unknown:
        raise UnknownTermError(
            f"{unknown[0]!r} is not a variable of the fixed part of the formula; these are: "
            + (", ".join(map(repr, values)) or "none")
        )
