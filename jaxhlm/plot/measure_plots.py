"""Figures of the performance measures of a simulation study."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from jaxhlm.core.notation import Floats
from jaxhlm.errors import MissingColumnError, NoRowsError, OptionError
from jaxhlm.inference.criteria import check_level
from jaxhlm.inference.tails import normal_quantile
from jaxhlm.plot.canvas import (
    COLUMN,
    GREY,
    canvas,
    has_series,
    legend_above,
    literal,
    series,
    split,
    split_if_several,
    wrap,
)
from jaxhlm.studies.binomial import exact_interval
from jaxhlm.studies.measures import check_columns

__all__ = ["lollipop", "nested_loop", "power_curve"]

# Names of measures on axes, and where a stem begins if not at 0.
NAMES = {
    "bias": "Bias",
    "relative_bias": "Relative bias",
    "empirical_se": "Empirical SE",
    "model_se": "Model SE",
    "relative_error": "Relative error of model SE (%)",
    "mse": "Mean squared error",
    "rmse": "Root mean squared error",
    "coverage": "Coverage",
    "be_coverage": "Bias-eliminated coverage",
    "width": "Interval width",
    "power": "Power",
    "power_all": "Power (failures do not reject)",
    "type_i": "Type-I error",
    "type_s": "Type-S error",
    "type_m": "Type-M error (exaggeration)",
    "relative_precision": "Gain in precision (%)",
}
NOMINAL = {"coverage": 0.95, "be_coverage": 0.95, "type_i": 0.05, "type_m": 1.0}
# Points between two tick labels.
BETWEEN = 4.0
SERIES = ("test", "method")
BANDS = (("conf_low", "conf_high"), ("power_low", "power_high"))


def power_curve(
    frame: pd.DataFrame,
    along: str | None = None,
    *,
    by: str | None = None,
    target: float | None = 0.8,
    level: float = 0.95,
    ax: Axes | None = None,
) -> Axes:
    """Power against what varies, with a band of exact binomial limits.

    Args:
        frame: one row per value of ``along`` and series, with the column power and either
            conf_low and conf_high (or power_low and power_high), or n_test or n, from which
            Clopper-Pearson (1934) limits are made. A column analytic is drawn as a dotted line.
        along: column of the x axis: numbers, or anything else in order of appearance. By default
            the first, where ``jaxhlm.power_curve`` puts it.
        by: column of the series; by default "test" or "method" where it has several values.
        target: power to mark by a line; None for no line.
        level: of limits that are made here.
        ax: axes to draw on; by default a new figure.

    Returns:
        The axes.

    Raises:
        MissingColumnError: a column is not in the frame.
        OptionError: several rows of one series have the same value of ``along``.

    Example:
        >>> frame = pd.DataFrame({"units": [10, 20, 40], "power": [0.3, 0.6, 0.9], "n": 1000})
        >>> axes = power_curve(frame)
        >>> axes.get_xlabel(), axes.get_ylabel()
        ('units', 'Power')
    """
    check_columns("the frame", frame, [])
    along = str(frame.columns[0]) if along is None else along
    if by is None:
        by = next((name for name in SERIES if has_series(frame, name)), None)
    check_columns("the frame", frame, [along, "power", *([by] if by else [])])
    check_level(level)
    numeric = pd.api.types.is_numeric_dtype(frame[along])
    labels = list(dict.fromkeys(frame[along]))
    with canvas(ax) as axes:
        for i, (name, part) in enumerate(split(frame, by)):
            if part[along].duplicated().any():
                raise OptionError(
                    f"several rows have the same {along!r}; select one term and method, "
                    "or tell the series apart with by="
                )
            part = part.sort_values(along) if numeric else part
            x = part[along].to_numpy(float) if numeric else [labels.index(v) for v in part[along]]
            low, high = _power_limits(part, level)
            style = series(i)
            axes.fill_between(x, low, high, color=style["color"], alpha=0.2, linewidth=0)
            axes.plot(x, part["power"], label=literal(name) if by else "simulated", **style)
            if "analytic" in part.columns:
                axes.plot(x, part["analytic"], color=style["color"], linewidth=0.8, linestyle=":")
        if target is not None:
            axes.axhline(target, color=GREY, linewidth=0.6, zorder=0)
            axes.set_yticks(sorted({0.0, 0.2, 0.4, 0.6, 1.0, target, 0.8}))
        axes.set(xlabel=literal(along), ylabel=NAMES["power"], ylim=(0, 1.02))
        if numeric:
            _tick_at(axes, np.sort(np.array(labels, dtype=float)))
        else:
            _name_places(axes, labels)
        if "analytic" in frame.columns:
            axes.plot([], [], color=GREY, linewidth=0.8, linestyle=":", label="by formula")
        if by or "analytic" in frame.columns:
            axes.legend(title=None if by is None else literal(by))
    return axes


def lollipop(
    measured: pd.DataFrame,
    measure: str,
    *,
    rows: str | Sequence[str] | None = None,
    by: str = "method",
    reference: float | None = None,
    level: float = 0.95,
    ax: Axes | None = None,
) -> Axes:
    """One measure of every group: a stem from its nominal value, and Monte-Carlo limits.

    The limits are estimate ± z MCSE: where they hold the nominal value, the study cannot tell the
    two apart.

    Args:
        measured: from ``jaxhlm.measures``.
        measure: such as "bias".
        rows: columns whose values label the rows; by default the keys that vary, except ``by``.
        by: column shown by colour and marker, if it has several values.
        reference: where stems begin; by default 0, 0.95 for coverage, 0.05 for the type-I error
            and 1 for the type-M error.
        level: of the limits.
        ax: axes to draw on; by default a new figure as high as the rows need.

    Returns:
        The axes.

    Raises:
        MissingColumnError: a column is not in the frame.

    Example:
        >>> frame = pd.DataFrame({"method": ["REML", "ML"], "n": 1000, "bias": [0.01, -0.02],
        ...                       "bias_mcse": 0.01})
        >>> lollipop(frame, "bias").get_xlabel()
        'Bias'
    """
    check_columns("the frame", measured, [measure])
    measured = measured.reset_index(drop=True)
    groups = split_if_several(measured, by)
    if rows is None:
        rows = _telling(measured, by)
    rows = [rows] if isinstance(rows, str) else list(rows)
    check_columns("the frame", measured, [f"{measure}_mcse", *rows])
    check_level(level)
    labels = [_row_label(values, rows) for values in measured[rows].itertuples(index=False)]
    places = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    place = np.array([places[label] for label in labels], dtype=float)
    count = len(groups)
    start = NOMINAL.get(measure, 0.0) if reference is None else reference
    z = normal_quantile(0.5 + level / 2)
    lines = [len(wrap(label).split("\n")) for label in places]
    height = 0.75 + len(places) * max(0.08 + 0.14 * max(lines), 0.14 * count)
    height += 0.18 * count if count > 1 else 0.0
    with canvas(ax, height) as axes:
        axes.axvline(start, color=GREY, linewidth=0.8, zorder=0)
        for i, (name, part) in enumerate(groups):
            at = place[part.index] + (i - (count - 1) / 2) * 0.7 / count
            style = series(i) | {"linestyle": "none"}
            value = part[measure].to_numpy(float)
            axes.hlines(at, start, value, color=style["color"], linewidth=0.8, alpha=0.5)
            axes.errorbar(
                value, at, xerr=z * part[f"{measure}_mcse"].to_numpy(float),
                elinewidth=1.4, capsize=2.0, label=literal(name), **style,
            )  # fmt: skip
        axes.set_yticks(range(len(places)), [wrap(label) for label in places])
        axes.set(ylim=(len(places) - 0.4, -0.6), xlabel=NAMES.get(measure, measure))
        axes.tick_params(axis="y", length=0)
        axes.margins(x=0.08)
        axes.locator_params(axis="x", nbins=4)
        if count > 1:
            legend_above(axes)
    return axes


def nested_loop(
    measured: pd.DataFrame,
    measure: str,
    factors: Sequence[str],
    *,
    by: str = "method",
    reference: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """A measure over all conditions of a factorial study, in nested order.

    Rücker & Schwarzer (2014), BMC Medical Research Methodology 14, 129: the x axis runs through all
    combinations of the factors, the last one fastest; the steps below say which.

    Args:
        measured: from ``jaxhlm.measures``, grouped by the factors (and ``by``), one term.
        measure: such as "coverage".
        factors: columns, slowest first.
        by: column of the series, if it has several values.
        reference: value to mark; by default 0, 0.95 for coverage, 0.05 for the type-I error and 1
            for the type-M error, if among the values.
        ax: axes to draw on; by default a new figure, two columns wide.

    Returns:
        The axes.

    Raises:
        MissingColumnError: a column is not in the frame.
        OptionError: several rows have the same factors and series, or no factor.
        NoRowsError: the measure is NaN in every row.

    Example:
        >>> frame = pd.DataFrame({"units": [10, 10, 30, 30], "sd": [1, 2, 1, 2],
        ...                       "coverage": [0.9, 0.91, 0.94, 0.95]})
        >>> nested_loop(frame, "coverage", ["units", "sd"]).get_ylabel()
        'Coverage'
    """
    factors = list(factors)
    if not factors:
        raise OptionError("name the factors of the study, slowest first")
    check_columns("the frame", measured, [measure, *factors])
    measured = measured.reset_index(drop=True)
    groups = split_if_several(measured, by)
    if any(part.duplicated(factors).any() for _, part in groups):
        raise OptionError(
            f"several rows have the same {', '.join(factors)}; select one term, or add a factor"
        )
    values = measured[measure].to_numpy(float)
    if np.isnan(values).all():
        raise NoRowsError(f"{measure} is NaN in every row of the frame")
    cells = _cells(measured[factors])
    at = {key: i for i, key in enumerate(cells.itertuples(index=False, name=None))}
    bottom, top = np.nanmin(values), np.nanmax(values)
    start = NOMINAL.get(measure, 0.0) if reference is None else reference
    span = (top - bottom) or max(abs(top), 1.0) * 0.1
    with canvas(ax, 2.2 + 0.32 * len(factors), 2 * COLUMN) as axes:
        if reference is not None or bottom - 0.1 * span <= start <= top + 0.1 * span:
            axes.axhline(start, color=GREY, linewidth=0.8, zorder=0)
        for i, (name, part) in enumerate(groups):
            y = np.full(len(cells), np.nan)
            keys = part[factors].itertuples(index=False, name=None)
            y[[at[key] for key in keys]] = part[measure]
            style = series(i)
            axes.stairs(
                y, np.arange(len(y) + 1) - 0.5, baseline=None,
                color=style["color"], linestyle=style["linestyle"], linewidth=1.2,
                label=literal(name),
            )  # fmt: skip
        _factor_steps(axes, cells, bottom - 0.1 * span, span * 0.16)
        axes.set(xlim=(-0.5, len(cells) - 0.5))
        axes.set_ylabel(NAMES.get(measure, measure), loc="top")
        axes.set_xticks([])
        axes.set_xlabel(f"{len(cells)} conditions")
        if len(groups) > 1:
            legend_above(axes)
    return axes


def _cells(factors: pd.DataFrame) -> pd.DataFrame:
    """The combinations of the factors, as categories, in nested order."""
    cells = factors.drop_duplicates()
    for name, column in factors.items():
        levels = list(dict.fromkeys(column))
        levels = sorted(levels) if pd.api.types.is_numeric_dtype(column) else levels
        cells = cells.assign(**{str(name): pd.Categorical(cells[name], levels, ordered=True)})
    return cells.sort_values(list(factors.columns), ignore_index=True)


def _factor_steps(axes: Axes, cells: pd.DataFrame, top: float, height: float) -> None:
    """One step line per factor under the values, with its levels in words."""
    edges = np.arange(len(cells) + 1) - 0.5
    ticks = [t for t in axes.get_yticks() if t > top]
    for i, name in enumerate(cells.columns):
        base = top - (i + 1) * 1.35 * height
        factor = cells[name].cat
        step = base + 0.5 * height * factor.codes / max(len(factor.categories) - 1, 1)
        axes.stairs(step, edges, baseline=None, color="black", linewidth=0.8)
        words = literal(f"{name}: {', '.join(map(str, factor.categories))}")
        axes.text(edges[0], base + 0.6 * height, f" {words}", color=GREY, va="bottom")
        bottom = base
    axes.set_ylim(bottom - 0.3 * height, None)
    axes.set_yticks(ticks)


def _tick_at(axes: Axes, x: Floats) -> None:
    """A tick at every size that was simulated, with the numbers that leave room for each other."""
    axes.set_xticks(x, [f"{v:g}" for v in x])
    axes.set_xticks([], minor=True)
    axes.figure.draw_without_rendering()
    end = -np.inf
    for tick in axes.get_xticklabels():
        box = tick.get_window_extent()
        tick.set_visible(bool(box.x0 >= end))
        if tick.get_visible():
            end = box.x1 + BETWEEN * axes.figure.dpi / 72.0


def _name_places(axes: Axes, names: Sequence[object]) -> None:
    """All names, slanted where side by side they would meet."""
    axes.set_xticks(range(len(names)), [wrap(name, 12) for name in names])
    axes.figure.draw_without_rendering()
    boxes = [tick.get_window_extent() for tick in axes.get_xticklabels()]
    if any(left.x1 >= right.x0 for left, right in pairwise(boxes)):
        slant = {"rotation": 40.0, "ha": "right", "rotation_mode": "anchor"}
        axes.set_xticks(range(len(names)), [wrap(name) for name in names], **slant)


def _power_limits(part: pd.DataFrame, level: float) -> tuple[Floats, Floats]:
    for low, high in BANDS:
        if {low, high} <= {*part.columns}:
            return part[low].to_numpy(float), part[high].to_numpy(float)
    count = next((name for name in ("n_test", "n") if name in part.columns), None)
    if count is None:
        raise MissingColumnError("the frame has neither conf_low and conf_high nor n_test or n")
    n = part[count].to_numpy(float)
    k = np.round(part["power"].to_numpy(float) * n)
    return exact_interval(k, n, level)


def _telling(measured: pd.DataFrame, by: str) -> list[str]:
    """The columns before the counts, by which measures were grouped, that tell rows apart."""
    columns = [str(name) for name in measured.columns]
    keys = columns[: columns.index("n")] if "n" in columns else []
    rows = [k for k in keys if k != by and measured[k].nunique() > 1]
    # The number of a condition says nothing where its columns say it all.
    named = [k for k in rows if k != "condition"]
    series_by = [by] if has_series(measured, by) else []
    return named if named and not measured.duplicated([*named, *series_by]).any() else rows


def _row_label(values: Sequence[object], names: Sequence[str]) -> str:
    """Words stand for themselves, numbers need the name of their column."""
    words = [v if isinstance(v, str) else f"{n} {v}" for n, v in zip(names, values, strict=True)]
    return ", ".join(map(str, words))
