"""Figures of one fit: its units, their lines, and what shrinkage does to them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize

from jaxhlm.core.notation import Floats
from jaxhlm.errors import OptionError, UnknownTermError
from jaxhlm.plot.canvas import GREY, INK, canvas, legend_above, literal, panels, told_apart
from jaxhlm.plot.subject import (
    INTERCEPT,
    check_one_fit,
    dots,
    effect_name,
    extremes,
    two_effects,
)
from jaxhlm.results.fit import Fit
from jaxhlm.studies.truth import Truth

__all__ = ["article_lines", "article_units", "caterpillar", "qq", "shrinkage"]

# Names of more units than this would overlap in a figure of the height of a page.
MOST_NAMES = 60
# Above and below the units of a caterpillar, of the height that they take.
ROOM = 0.02
# From the edge of one marker to the edge of the other.
ARROW = {"arrowstyle": "-|>", "mutation_scale": 5.0, "color": GREY, "shrinkA": 1.8, "shrinkB": 1.8}


def article_units(
    fit: Fit,
    covariate: str = "a",
    truth: Truth | None = None,
    ax: Sequence[Axes] | None = None,
) -> list[Axes]:
    """Every unit's intercept and slope against its covariate, with the fitted and the true line.

    The article's figure: α_i = β_0 + β_a a_i + b_0i and β_i = β_x + β_xa a_i + b_1i, one panel for
    every random effect; points are the predictions (BLUPs).

    Args:
        fit: a fit whose fixed effects hold the covariate, and its product with the random slopes.
        covariate: column of the model that is constant within units.
        truth: the parameters that the data came from, to draw the true lines.
        ax: axes, one per random effect; by default a new figure.

    Returns:
        The axes.

    Raises:
        UnknownTermError: the covariate is not a fixed effect of the fit.
        OptionError: a batch, a covariate that varies within units, or a truth of another model.

    Example:
        >>> import jaxhlm as hlm
        >>> fit = hlm.fit("y ~ x * a + (1 + x | unit)", hlm.load_dataset("article"))
        >>> axes = article_units(fit)
        >>> [panel.get_ylabel() for panel in axes]
        ['Intercept', 'Slope of x']
    """
    check_one_fit(fit)
    a = _unit_covariate(fit, covariate)
    own = fit.shrinkage()
    terms = list(fit.model.xnames)
    beta = fit.estimates.beta[0]
    true_beta = None if truth is None else truth.fixed(terms)
    ends = np.array([a.min(), a.max()]) + np.array([-0.04, 0.04]) * np.ptp(a)
    with panels(ax, fit.design.q, 2.5) as all_axes:
        for axes, name in zip(all_axes, fit.model.znames, strict=True):
            at = [_place(terms, name), _place(terms, covariate, name)]
            axes.plot(
                a, own["blup"][own["term"] == name], "o", color=INK[0], markersize=3.5,
                markeredgewidth=0, label="units (BLUP)",
            )  # fmt: skip
            axes.plot(ends, _line(beta, at, ends), color=INK[0], label="fitted")
            if true_beta is not None:
                axes.plot(ends, _line(true_beta, at, ends), "k--", linewidth=1.0, label="true")
            axes.set(xlabel=literal(covariate), ylabel=effect_name(name))
        all_axes[0].legend(loc="best")
    return all_axes


def article_lines(fit: Fit, covariate: str | None = None, ax: Axes | None = None) -> Axes:
    """The predicted line of every unit over the range of its own x, and the rows behind them.

    The article's other figure, its 30 linear systems.

    Args:
        fit: a fit with a random intercept and one random slope.
        covariate: column of the model that is constant within units, shown as the lines' colour.
        ax: axes to draw on; by default a new figure.

    Returns:
        The axes.

    Raises:
        OptionError: a batch, a random part other than an intercept and one slope, or a covariate
            that varies within units.
        UnknownTermError: the covariate is not a fixed effect of the fit.

    Example:
        >>> import jaxhlm as hlm
        >>> fit = hlm.fit("y ~ x * a + (1 + x | unit)", hlm.load_dataset("article"))
        >>> axes = article_lines(fit, "a")
        >>> axes.get_xlabel(), axes.get_ylabel()
        ('x', 'y')
    """
    check_one_fit(fit)
    names = fit.model.znames
    if len(names) != 2 or names[0] != INTERCEPT:
        raise OptionError(
            "lines need a random intercept and one random slope, (1 + x | g); the fit has "
            + ", ".join(names)
        )
    d = fit.design
    if d.offset is not None:
        raise OptionError("a unit is no line where there is an offset; see plot.unit_lines")
    x = d.Z[:, 1]
    lines = fit.shrinkage()["blup"].to_numpy().reshape(d.G, 2)
    ends = np.stack(extremes(x, d.group), axis=1)
    heights = lines[:, :1] + lines[:, 1:] * ends
    segments = list(np.stack([ends, heights], axis=2))
    with canvas(ax, 2.8) as axes:
        axes.plot(x, d.y, "o", **dots(d.n, GREY))
        many = d.G > MOST_NAMES
        collection = LineCollection(
            segments, linewidths=0.5 if many else 0.9, alpha=0.5 if many else 0.8, zorder=3
        )
        if covariate is None:
            collection.set_color(INK[0])
        else:
            a = _unit_covariate(fit, covariate)
            scale = Normalize(a.min(), a.max())
            collection.set(array=a, cmap="viridis", norm=scale)
            bar = axes.figure.colorbar(
                ScalarMappable(scale, "viridis"), ax=axes, aspect=30, pad=0.02
            )
            bar.set_label(literal(covariate))
            bar.outline.set_visible(False)
        axes.add_collection(collection)
        axes.set(xlabel=literal(names[1]), ylabel=literal(fit.model.response_name or ""))
    return axes


def shrinkage(fit: Fit, terms: tuple[str, str] | None = None, ax: Axes | None = None) -> Axes:
    """Arrows from every unit's own least-squares line to its prediction.

    How far an arrow goes is ``fit.reliability``: units with few rows, or little variation in x, are
    drawn most towards their population values. See ``Fit.shrinkage``.

    Args:
        fit: a fit with two random effects or more.
        terms: the two random effects on x and y; by default the first two.
        ax: axes to draw on; by default a new figure.

    Returns:
        The axes.

    Raises:
        OptionError: a batch, or fewer than two random effects.
        UnknownTermError: a term is no random effect of the fit.

    Example:
        >>> import jaxhlm as hlm
        >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)",
        ...               hlm.load_dataset("sleepstudy"))
        >>> axes = shrinkage(fit)
        >>> axes.get_ylabel()
        'Slope of Days'
    """
    at = two_effects(fit, terms)
    names = fit.model.znames
    table = fit.shrinkage()
    ols, blup, population = (
        table[kind].to_numpy().reshape(-1, len(names))[:, at]
        for kind in ("ols", "blup", "population")
    )
    small = fit.ngroups <= MOST_NAMES
    size = 3.5 if small else 2.5
    with canvas(ax, 2.9) as axes:
        arrow = ARROW | {"linewidth": 0.7 if small else 0.4}
        for start, end in zip(ols, blup, strict=True):
            if np.isfinite(start).all():
                axes.annotate("", end, start, arrowprops=arrow)
        axes.plot(
            *ols.T, "o", markersize=size, markerfacecolor="white", markeredgecolor=INK[1],
            markeredgewidth=0.8, label="own line (OLS)",
        )  # fmt: skip
        axes.plot(*blup.T, "o", markersize=size, color=INK[0], label="prediction (BLUP)")
        varies = np.ptp(population, axis=0) > 1e-9 * np.abs(population).max(axis=0)
        places = population if varies.any() else population[:1]
        axes.plot(*places.T, "k+", markersize=size + 1.5, markeredgewidth=0.8, label="population")
        axes.set(xlabel=effect_name(names[at[0]]), ylabel=effect_name(names[at[1]]))
        legend_above(axes, handlelength=1.2)
    return axes


def qq(fit: Fit, ax: Axes | Sequence[Axes] | None = None) -> list[Axes]:
    """Standardised random effects against normal quantiles, one panel for every random effect.

    See ``Fit.ranef_qq``; under a normal distribution the points follow the line of slope 1.

    Args:
        fit: a fit.
        ax: axes, one per random effect; by default a new figure.

    Returns:
        The axes.

    Raises:
        OptionError: a batch.

    Example:
        >>> import jaxhlm as hlm
        >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)",
        ...               hlm.load_dataset("sleepstudy"))
        >>> [panel.get_title() for panel in qq(fit)]
        ['(Intercept)', 'Days']
    """
    check_one_fit(fit)
    table = fit.ranef_qq()
    with panels(ax, fit.design.q, 2.3) as all_axes:
        for axes, name in zip(all_axes, fit.model.znames, strict=True):
            part = table[table["term"] == name]
            axes.axline((0.0, 0.0), slope=1.0, color=GREY, linewidth=0.8, zorder=0)
            axes.plot(
                part["theoretical"], part["standardized"], "o", **dots(len(part), light=False)
            )
            axes.set(title=literal(name), xlabel="Normal quantile")
        all_axes[0].set_ylabel("Standardised random effect")
    return all_axes


def caterpillar(
    fit: Fit, conf_level: float = 0.95, ax: Axes | Sequence[Axes] | None = None
) -> list[Axes]:
    """Random effects with their limits, in order of size, one panel for each.

    See ``Fit.ranef_frame``. All panels have the units in the order of the first effect; limits that
    do not hold 0 are coloured.

    Args:
        fit: a fit.
        conf_level: of the limits.
        ax: axes, one per random effect; by default a new figure.

    Returns:
        The axes.

    Raises:
        OptionError: a batch, or a level outside (0, 1).

    Example:
        >>> import jaxhlm as hlm
        >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)",
        ...               hlm.load_dataset("sleepstudy"))
        >>> panel = caterpillar(fit)[0]
        >>> [label.get_text() for label in panel.get_yticklabels()][:3]
        ['309', '310', '370']
    """
    check_one_fit(fit)
    table, names = fit.ranef_frame(conf_level), fit.model.znames
    first = table[table["term"] == names[0]]
    order = first.sort_values("estimate", kind="stable")["level"]
    place = pd.Series(np.arange(len(order)), pd.Index(order))
    named = len(order) <= MOST_NAMES
    height = 0.7 + 0.13 * len(order) if named else 4.0
    # Within the frame are the whole of the first and last point, and a gap.
    room = max(0.8, ROOM * len(order))
    with panels(ax, len(names), height, sharey=True) as all_axes:
        for axes, name in zip(all_axes, names, strict=True):
            part = table[table["term"] == name]
            at = part["level"].map(place).to_numpy()
            clear = (part["conf_low"] > 0.0) | (part["conf_high"] < 0.0)
            colors = np.where(clear, INK[0], GREY)
            axes.axvline(0.0, color="black", linewidth=0.6, zorder=0)
            axes.hlines(at, part["conf_low"], part["conf_high"], colors=list(colors),
                        linewidth=0.9 if named else 0.6)  # fmt: skip
            axes.scatter(
                part["estimate"],
                at,
                s=9.0 if named else 5.0,
                c=list(colors),
                linewidths=0,
                zorder=3,
            )
            axes.set(
                title=literal(name), xlabel="Random effect", ylim=(-room, len(order) - 1 + room)
            )
            axes.tick_params(axis="y", length=0)
        places = range(len(order)) if named else []
        all_axes[0].set_yticks(places, told_apart(order) if named else [])
        many = "" if named else f" ({len(order):,} units)"
        all_axes[0].set_ylabel(literal(f"{fit.model.group_name}{many}"))
    return all_axes


def _unit_covariate(fit: Fit, name: str) -> Floats:
    """(G,) values of a fixed effect that is constant within units."""
    d = fit.design
    if name not in d.xnames:
        raise UnknownTermError(f"no fixed effect {name!r}; the fit has {', '.join(d.xnames)}")
    column = d.X[:, d.xnames.index(name)]
    first, last = extremes(column, d.group)
    if (last > first).any():
        raise OptionError(f"{name!r} varies within units; name a covariate of the units")
    return first


def _place(terms: Sequence[str], *names: str) -> int | None:
    """Where the product of some columns is among the terms, the intercept being 1."""
    parts = {name for name in names if name != INTERCEPT} or {INTERCEPT}
    return next((i for i, term in enumerate(terms) if {*term.split(":")} == parts), None)


def _line(beta: Floats, at: Sequence[int | None], a: Floats) -> Floats:
    level, slope = (0.0 if i is None else beta[i] for i in at)
    return level + slope * a
