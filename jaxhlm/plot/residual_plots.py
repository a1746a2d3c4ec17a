"""Figures of the residuals of one fit: are they about 0, normal, and equally spread?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from jaxhlm.core.notation import Floats
from jaxhlm.errors import NoRowsError
from jaxhlm.inference.criteria import check_level
from jaxhlm.inference.tails import beta_quantile, normal_quantile
from jaxhlm.plot.canvas import COLUMN, GREY, INK, canvas, panels
from jaxhlm.plot.fit_plots import qq
from jaxhlm.plot.subject import check_one_fit, dots, effect_name, response_label
from jaxhlm.plot.unit_plots import ranef_ellipse
from jaxhlm.results.fit import Fit
from jaxhlm.statistics.lowess import lowess

__all__ = ["diagnostics", "residual_qq", "residuals", "scale_location"]

# What the panels of ``diagnostics`` answer.
ASKED = (
    "Is the mean right?",
    "Are residuals normal?",
    "Is their spread equal?",
    "Are units normal?",
)


def residuals(fit: Fit, ax: Axes | None = None) -> Axes:
    """Residuals against fitted values, with Cleveland's lowess smooth: is the mean right?

    Conditional residuals y − Xβ̂ − Zb̂ against Xβ̂ + Zb̂. A smooth that bends away from 0 speaks of a
    curve that the model has not; the smooth is R's ``lowess`` as ``plot(lm)`` has it.

    Args:
        fit: a fit.
        ax: axes to draw on; by default a new figure.

    Returns:
        The axes.

    Raises:
        OptionError: a batch.

    Example:
        >>> import jaxhlm as hlm
        >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)",
        ...               hlm.load_dataset("sleepstudy"))
        >>> residuals(fit).get_ylabel()
        'Residual of Reaction'
    """
    check_one_fit(fit)
    with canvas(ax) as axes:
        axes.axhline(0.0, color="black", linewidth=0.6, zorder=0)
        _scatter(axes, fit.fitted.to_numpy(), fit.residuals.to_numpy())
        axes.set_xlabel(response_label(fit, "Fitted value"))
        axes.set_ylabel(response_label(fit, "Residual"))
    return axes


def scale_location(fit: Fit, ax: Axes | None = None) -> Axes:
    """√|standardised residual| against fitted values, with a smooth: is the spread equal?

    Standardised as ``Fit.residuals_std``, which allows for leverage and weights: a level smooth
    speaks for one σ. A normal residual has 0.82 on average.

    Args:
        fit: a fit.
        ax: axes to draw on; by default a new figure.

    Returns:
        The axes.

    Raises:
        OptionError: a batch.
        NoRowsError: no residual can be standardised.

    Example:
        >>> import jaxhlm as hlm
        >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)",
        ...               hlm.load_dataset("sleepstudy"))
        >>> scale_location(fit).get_ylabel()
        '√|standardised residual|'
    """
    known, standard = _standardised(fit)
    with canvas(ax) as axes:
        _scatter(axes, fit.fitted.to_numpy()[known], np.sqrt(np.abs(standard)))
        axes.set(ylabel="√|standardised residual|", ylim=(0.0, None))
        axes.set_xlabel(response_label(fit, "Fitted value"))
    return axes


def residual_qq(fit: Fit, level: float = 0.95, ax: Axes | None = None) -> Axes:
    """Standardised residuals against normal quantiles, with a pointwise band: are they normal?

    The i-th smallest of n independent normal numbers is within the band with probability ``level``,
    Φ⁻¹ of the quantiles of Beta(i, n − i + 1): each on its own, so that of many some are outside.
    Standardised as ``Fit.residuals_std``.

    Args:
        fit: a fit.
        level: of the band.
        ax: axes to draw on; by default a new figure.

    Returns:
        The axes.

    Raises:
        OptionError: a batch, or a level outside (0, 1).
        NoRowsError: no residual can be standardised.

    Example:
        >>> import jaxhlm as hlm
        >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)",
        ...               hlm.load_dataset("sleepstudy"))
        >>> residual_qq(fit).get_title(loc="left")
        '95 % band, pointwise'
    """
    check_level(level)
    sample = np.sort(_standardised(fit)[1])
    n, rank = len(sample), np.arange(1, len(sample) + 1)
    expected = normal_quantile((rank - 0.5) / n)
    low, high = (
        normal_quantile(beta_quantile(q, rank, n - rank + 1))
        for q in (0.5 - level / 2, 0.5 + level / 2)
    )
    with canvas(ax) as axes:
        axes.fill_between(expected, low, high, color=GREY, alpha=0.25, linewidth=0, zorder=0)
        axes.axline((0.0, 0.0), slope=1.0, color="black", linewidth=0.8, zorder=1)
        axes.plot(expected, sample, "o", **dots(n, light=False))
        axes.set(xlabel="Normal quantile", ylabel="Standardised residual")
        axes.set_title(f"{100 * level:g} % band, pointwise", loc="left")
    return axes


def diagnostics(fit: Fit, ax: Sequence[Axes] | None = None) -> list[Axes]:
    """The four figures that show most of a model's assumptions: rows above, units at the end.

    ``residuals``, ``residual_qq``, ``scale_location``, and ``ranef_ellipse`` of the first two
    random effects, or ``qq`` of the only one.

    Args:
        fit: a fit.
        ax: four axes; by default a new figure.

    Returns:
        The axes.

    Raises:
        OptionError: a batch, or another number of axes.
        NoRowsError: no residual can be standardised.

    Example:
        >>> import jaxhlm as hlm
        >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)",
        ...               hlm.load_dataset("sleepstudy"))
        >>> len(diagnostics(fit))
        4
    """
    check_one_fit(fit)
    with panels(ax, 4, 2.6, 2 * COLUMN, columns=2) as all_axes:
        residuals(fit, all_axes[0])
        residual_qq(fit, ax=all_axes[1])
        scale_location(fit, all_axes[2])
        if fit.design.q > 1:
            ranef_ellipse(fit, ax=all_axes[3])
        else:
            qq(fit, all_axes[3])
            all_axes[3].set_title("")
            all_axes[3].set_title(effect_name(fit.model.znames[0]), loc="left")
        for axes, asked in zip(all_axes, ASKED, strict=True):
            own = axes.get_title(loc="left")
            axes.set_title(f"{asked} {own}".strip(), loc="left")
    return all_axes


def _standardised(fit: Fit) -> tuple[Floats, Floats]:
    """Which rows have a standardised residual, and these."""
    check_one_fit(fit)
    standard = fit.residuals_std.to_numpy()
    known = np.isfinite(standard)
    if not known.any():
        raise NoRowsError(
            "no residual can be standardised: the fit passes through the response of every row"
        )
    return known, standard[known]


def _scatter(axes: Axes, x: Floats, y: Floats) -> None:
    """Points, and their smooth where they are at several places."""
    axes.plot(x, y, "o", **dots(len(x)))
    order = np.argsort(x, kind="stable")
    if np.ptp(x) > 0.0:
        axes.plot(x[order], lowess(x[order], y[order]), color=INK[1], linewidth=1.4, zorder=3)
