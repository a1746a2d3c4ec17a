"""Figures of marginal means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from jaxhlm.core.arguments import check_flag
from jaxhlm.errors import OptionError
from jaxhlm.inference.comparison_arrows import comparison_arrows
from jaxhlm.inference.family_adjustment import FamilyAdjustment
from jaxhlm.inference.refgrid import cell_labels, cell_variables
from jaxhlm.plot.canvas import canvas, legend_above, literal, series, wrap
from jaxhlm.plot.subject import check_one_fit
from jaxhlm.results.fit import Fit
from jaxhlm.results.means_formula import asked_for

__all__ = ["emmeans"]

# Between series, in units of the distance of two cells.
APART = 0.25
SIMULTANEOUS = ("tukey", "mvt", "bonferroni", "sidak", "none")


def emmeans(
    fit: Fit,
    specs: str | Sequence[str],
    *,
    by: str | Sequence[str] | None = None,
    comparisons: bool = False,
    adjust: FamilyAdjustment = "tukey",
    conf_level: float = 0.95,
    ax: Axes | None = None,
    **options: Any,
) -> Axes:
    """Marginal means with their confidence intervals, and arrows that compare them.

    Two arrows overlap where the two means do not differ significantly by ``adjust``, as nearly as
    arrows can show (``inference/comparison_arrows.py``); whether intervals overlap says nothing of
    that. As ``plot(emmeans(…), comparisons = TRUE)`` in R.

    Args:
        fit: the fit.
        specs: as for ``Fit.emmeans``.
        by: variables shown by colour; means are compared within each of their combinations, whose
            means stand apart from the others' where there are arrows.
        comparisons: draw the arrows.
        adjust: of the comparisons: "tukey", "mvt", "bonferroni", "sidak" or "none".
        conf_level: of intervals and comparisons.
        ax: axes to draw on; by default a new figure.
        options: at, df, weights and not_estimable of ``Fit.emmeans``.

    Returns:
        The axes.

    Raises:
        OptionError: a batch, or an option that cannot be.
        JaxhlmError: as for ``Fit.emmeans``.

    Example:
        >>> import jaxhlm as hlm
        >>> data = hlm.load_dataset("math_achieve").head(600)
        >>> fit = hlm.fit("MathAch ~ SES + Sex * Minority + (1 | School)", data)
        >>> emmeans(fit, "Minority", by="Sex", comparisons=True).get_xlabel()
        'Marginal mean of MathAch'
    """
    check_one_fit(fit)
    check_flag("comparisons", comparisons)
    if adjust not in SIMULTANEOUS:
        raise OptionError(
            f"adjust={adjust!r} has no limits of its own; use one of "
            + ", ".join(map(repr, SIMULTANEOUS))
        )
    asked = asked_for(specs, by, None)
    if asked.contrasts is not None:
        raise OptionError(f"specs={specs!r} names contrasts; give means, and comparisons=True")
    table = fit.emmeans(specs, by=by, conf_level=conf_level, **options)
    names = cell_variables(asked.specs)
    within = [] if asked.by is None else cell_variables(asked.by, "by")
    cells, groups = _joined(table, names), _joined(table, within)
    # Without the variables, one of which may be called as what is added.
    table = table[["emmean", "conf_low", "conf_high"]].assign(cell=cells, group=groups)
    if comparisons:
        pairs = fit.emmeans(
            names,
            by=within or None,
            contrasts="pairwise",
            adjust=adjust,
            conf_level=conf_level,
            **options,
        )
        table = _with_arrows(table, pairs, table["group"].nunique())
    heading = " ".join(within)
    parts = list(table.groupby("group", sort=False, observed=True))
    # Arrows of one group say nothing of the means of another: groups stand apart.
    apart = comparisons and len(parts) > 1
    heights, ticks = (_one_below_the_other if apart else _side_by_side)(parts, heading)
    with canvas(ax, 0.8 + (0.25 if apart else 0.35) * max(3, len(ticks))) as axes:
        for i, ((name, part), y) in enumerate(zip(parts, heights, strict=True)):
            _draw(axes, part, y, str(name), i)
        axes.set_yticks([y for y, _ in ticks], [wrap(label) for _, label in ticks])
        axes.set_xlabel(literal(f"Marginal mean of {fit.model.response_name or 'y'}"))
        axes.set_ylabel(literal(" ".join(names)))
        axes.margins(y=0.15)
        if apart:
            axes.set_ylim(ticks[-1][0] - 0.7, ticks[0][0] + 0.5)
        if within and not apart:
            legend_above(axes, title=literal(heading))
    return axes


def _joined(table: pd.DataFrame, names: Sequence[str]) -> pd.Series:
    """Cells, or groups, in words."""
    return pd.Series(cell_labels(table[list(names)]) if names else "", table.index)


Parts = list[tuple[Any, pd.DataFrame]]
Ticks = list[tuple[float, str]]


def _side_by_side(parts: Parts, _: str) -> tuple[list[Any], Ticks]:
    """Heights of the means of every group, about those of the cells; and the cells' labels."""
    cells = dict.fromkeys(cell for _, part in parts for cell in part["cell"])
    places = {cell: -float(i) for i, cell in enumerate(cells)}
    shifts = [APART * (0.5 * (len(parts) - 1) - i) for i in range(len(parts))]
    heights = [
        part["cell"].map(places).to_numpy() + shift
        for (_, part), shift in zip(parts, shifts, strict=True)
    ]
    return heights, [(y, cell) for cell, y in places.items()]


def _one_below_the_other(parts: Parts, heading: str) -> tuple[list[Any], Ticks]:
    """Heights of the means, group after group, each with its name over the labels of its cells."""
    heights: list[Any] = []
    ticks: Ticks = []
    top = 0.0
    for name, part in parts:
        y = top - 1.0 - np.arange(len(part))
        heights.append(y)
        ticks += [(top, f"{heading}: {name}"), *zip(y.tolist(), part["cell"], strict=True)]
        top = y[-1] - 1.5
    return heights, ticks


def _with_arrows(table: pd.DataFrame, pairs: pd.DataFrame, groups: int) -> pd.DataFrame:
    """The table with the ends of the arrows of every group."""
    low, high = (pairs[name].to_numpy().reshape(groups, -1) for name in ("conf_low", "conf_high"))
    means = table["emmean"].to_numpy().reshape(groups, -1)
    ends = [comparison_arrows(*one) for one in zip(means, low, high, strict=True)]
    left, right = (np.concatenate(x) for x in zip(*ends, strict=True))
    return table.assign(left=left, right=right)


def _draw(axes: Axes, part: pd.DataFrame, y: Any, name: str, i: int) -> None:
    """One series: bars of intervals, arrows, and points over them."""
    style = series(i)
    axes.hlines(y, part["conf_low"], part["conf_high"], color=style["color"], lw=4.0, alpha=0.3)
    for end in ("left", "right"):
        for at, mean, to in zip(y, part["emmean"], part.get(end, []), strict=False):
            if np.isfinite(to):
                arrow = {"arrowstyle": "-|>", "color": "black", "lw": 0.8, "shrinkA": 0.0}
                axes.annotate("", (to, at), (mean, at), arrowprops=arrow | {"shrinkB": 0.0})
    axes.plot(
        part["emmean"], y, linestyle="none", marker=style["marker"], color=style["color"],
        markersize=5.0, label=literal(name),
    )  # fmt: skip
