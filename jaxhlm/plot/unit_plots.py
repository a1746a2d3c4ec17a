"""Figures of the units of one fit: their random effects together, and each one's data and line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from jaxhlm.core.arguments import listed_values, whole_number
from jaxhlm.core.notation import Floats, Ints
from jaxhlm.core.streams import Seed, random_key, seed_of
from jaxhlm.design.columns import listed
from jaxhlm.design.evaluation import level_text
from jaxhlm.errors import OptionError, UnknownTermError
from jaxhlm.inference.criteria import check_level
from jaxhlm.plot.canvas import COLUMN, GREY, INK, canvas, literal, name_points, panels, wrap
from jaxhlm.plot.subject import check_one_fit, effect_name, extremes, two_effects
from jaxhlm.results.fit import Fit

__all__ = ["ranef_ellipse", "unit_lines"]

# Units of more than this are small dots.
MANY_UNITS = 60
# Variances below this part of the largest, both in units of their own, are rounding.
FLAT = 1e-10
PANELS_IN_A_ROW = 4
# Letters of the titles of panels side by side, and what a line more takes, in inches.
TITLES, TITLE_LINE = 72, 0.14
# Places that stand for a line through the axes.
ALONG_ZERO = 400


def ranef_ellipse(
    fit: Fit,
    terms: tuple[str, str] | None = None,
    *,
    level: float = 0.95,
    labels: int = 3,
    ax: Axes | None = None,
) -> Axes:
    """Predictions (BLUPs) of two random effects, and the ellipse of their estimated distribution.

    The ellipse { b : b'Σ̂⁻¹b = χ²_2(level) } holds that share of the units of the population. BLUPs
    are shrunk, so that more of them than that are inside. Where Σ̂ is singular it is a line.

    Args:
        fit: a fit with two random effects or more.
        terms: the two random effects on x and y; by default the first two.
        level: of the ellipse.
        labels: so many units farthest from the middle, by b'Σ̂⁻¹b, are named.
        ax: axes to draw on; by default a new figure.

    Returns:
        The axes.

    Raises:
        OptionError: a batch, fewer than two random effects, a level outside (0, 1), or labels that
            are no count.
        UnknownTermError: a term is no random effect of the fit.

    Example:
        >>> import jaxhlm as hlm
        >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)",
        ...               hlm.load_dataset("sleepstudy"))
        >>> ranef_ellipse(fit, labels=1).texts[0].get_text()
        '309'
    """
    at = two_effects(fit, terms)
    check_level(level)
    named = whole_number("labels", labels, least=0)
    b = fit.ranef.to_numpy()[:, at]
    cov = fit.varcorr.cov.to_numpy()[np.ix_(at, at)]
    names = [f"Random effect: {effect_name(fit.model.znames[i])}" for i in at]
    around = np.linspace(0.0, 2.0 * np.pi, 201)
    # χ² with two degrees of freedom is exponential.
    radius = np.sqrt(-2.0 * np.log1p(-level))
    ellipse = radius * _root(cov) @ np.stack([np.cos(around), np.sin(around)])
    with canvas(ax, 2.9) as axes:
        axes.axhline(0.0, color=GREY, linewidth=0.5, zorder=0)
        axes.axvline(0.0, color=GREY, linewidth=0.5, zorder=0)
        axes.plot(*ellipse, color=INK[1], zorder=1)
        size = 3.5 if len(b) <= MANY_UNITS else 2.5
        axes.plot(*b.T, "o", color=INK[0], markersize=size, markeredgewidth=0, alpha=0.8, zorder=2)
        axes.set(xlabel=names[0], ylabel=names[1])
        axes.set_title(f"Ellipse of {100 * level:g} % of units", loc="left")
        # The names of the units farthest out stand beside them.
        axes.margins(0.17, 0.1)
        far = np.argsort(-_distance(b, cov), kind="stable")[:named]
        near = np.setdiff1d(np.arange(len(b)), far)
        name_points(
            axes, b[far, 0], b[far, 1], fit.ranef.index[far].tolist(),
            [ellipse.T, b[near], *_zero_lines(axes)],
        )  # fmt: skip
    return axes


def unit_lines(
    fit: Fit,
    x: str | None = None,
    *,
    units: Sequence[Any] | None = None,
    n: int = 12,
    seed: Seed = 0,
    ax: Sequence[Axes] | None = None,
) -> list[Axes]:
    """Every unit's rows with its fitted line and, dashed, that of the population: small multiples.

    The lines join Xβ̂ + Zb̂ and Xβ̂ of the unit's rows in the order of x; they are straight where x is
    the only column that varies within units, and zigzag where others do.

    Args:
        fit: a fit.
        x: column of the model on the x axis; by default the first random slope, or else the first
            fixed effect that varies within units.
        units: which units, one panel for each, in this order.
        n: otherwise so many of them at random, in the order of the data; all if there are fewer.
        seed: of the choice.
        ax: axes, one per unit; by default a new figure.

    Returns:
        The axes.

    Raises:
        OptionError: a batch, an empty list of units or one that the data do not have, or no column
            for the x axis.
        UnknownTermError: x is no column of the model.

    Example:
        >>> import jaxhlm as hlm
        >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)",
        ...               hlm.load_dataset("sleepstudy"))
        >>> [panel.get_title() for panel in unit_lines(fit, units=[308, 335])]
        ['308', '335']
    """
    check_one_fit(fit)
    x_name, along = _x_axis(fit, x)
    chosen = _at_random(fit, n, seed) if units is None else _places(fit, units)
    fitted = fit.fitted.to_numpy()
    y = fitted + fit.residuals.to_numpy()
    population = y - fit.residuals_marginal.to_numpy()
    columns = min(len(chosen), PANELS_IN_A_ROW)
    titles = [wrap(fit.design.levels[unit], TITLES // max(columns, 2)) for unit in chosen]
    height = 1.5 if len(chosen) > 2 else 2.4
    height += TITLE_LINE * max(title.count("\n") for title in titles)
    with panels(
        ax, len(chosen), height, COLUMN if columns == 1 else 2 * COLUMN,
        columns=columns, sharex=True, sharey=True,
    ) as all_axes:  # fmt: skip
        for i, (axes, unit) in enumerate(zip(all_axes, chosen, strict=True)):
            rows = np.flatnonzero(fit.design.group == unit)
            rows = rows[np.argsort(along[rows], kind="stable")]
            at = along[rows]
            axes.plot(at, population[rows], "--", color=GREY, linewidth=0.9, zorder=1,
                      label="population")  # fmt: skip
            axes.plot(at, y[rows], "o", color=INK[0], markersize=2.5, markeredgewidth=0, alpha=0.6,
                      zorder=2)  # fmt: skip
            axes.plot(at, fitted[rows], color=INK[1], zorder=3, label="unit")
            axes.set_title(titles[i], pad=2.0)
            if ax is not None or i + columns >= len(chosen):
                axes.set_xlabel(literal(x_name))
                # A panel above a place that has none is the last of its column.
                axes.tick_params(labelbottom=True)
            if ax is not None or i % columns == 0:
                axes.set_ylabel(wrap(fit.model.response_name, 16))
        if ax is None:
            lines, names = all_axes[0].get_legend_handles_labels()
            all_axes[0].figure.legend(lines, names, loc="outside upper right", ncols=2)
            if len(chosen) < fit.ngroups:
                told = literal(f"{len(chosen)} of {fit.ngroups:,} units ({fit.model.group_name})")
                all_axes[0].figure.suptitle(told, x=0.01, ha="left", fontsize="medium")
    return all_axes


def _zero_lines(axes: Axes) -> list[Floats]:
    """(m, 2) places along the lines where x, and y, are 0."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    x, y = np.linspace(left, right, ALONG_ZERO), np.linspace(low, high, ALONG_ZERO)
    return [np.column_stack([x, 0.0 * x]), np.column_stack([0.0 * y, y])]


def _x_axis(fit: Fit, x: str | None) -> tuple[str, Floats]:
    """Name and values of the column on the x axis."""
    d = fit.design
    columns = dict(zip(d.znames, d.Z.T, strict=True)) | dict(zip(d.xnames, d.X.T, strict=True))
    if x is not None:
        if x not in columns:
            raise UnknownTermError(f"no column {x!r}; the model has {', '.join(columns)}")
        return x, columns[x]
    for name, column in columns.items():
        first, last = extremes(column, d.group)
        if (last > first).any():
            return name, column
    raise OptionError("no column of the model varies within units: there is no x axis for lines")


def _places(fit: Fit, units: Sequence[Any]) -> Ints:
    """Which units these are."""
    wanted = [level_text(unit) for unit in listed_values("units", units)]
    levels = fit.design.levels.map(level_text)
    if not wanted:
        raise OptionError("units is empty: name some, or draw n of them at random")
    unknown = [unit for unit in wanted if unit not in levels]
    if unknown:
        raise OptionError(
            f"units: {fit.model.group_name} has no {listed(unknown)}; it has {listed(levels)}"
        )
    return np.asarray(levels.get_indexer(wanted))


def _at_random(fit: Fit, n: int, seed: Seed) -> Ints:
    """So many units, in the order of the data."""
    count = min(whole_number("n", n), fit.ngroups)
    rng = np.random.default_rng(seed_of(random_key(seed)))
    return np.sort(rng.choice(fit.ngroups, count, replace=False))


def _root(cov: Floats) -> Floats:
    """A square root of a covariance matrix that may be singular."""
    values, vectors = np.linalg.eigh(cov)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def _distance(b: Floats, cov: Floats) -> Floats:
    """(G,) b'Σ⁻¹b, in the directions in which there is any variance."""
    sd = np.sqrt(np.diagonal(cov))
    sd = np.where(sd > 0.0, sd, 1.0)
    inverse = np.linalg.pinv(cov / np.outer(sd, sd), rcond=FLAT, hermitian=True)
    return np.asarray(np.einsum("ga,ab,gb->g", b / sd, inverse, b / sd))
