"""Figures of the estimates of a simulation study, replicate by replicate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from jaxhlm.errors import NoRowsError, OptionError
from jaxhlm.inference.criteria import check_level
from jaxhlm.inference.tails import normal_quantile
from jaxhlm.plot.canvas import (
    INK,
    canvas,
    legend_above,
    literal,
    panels,
    series,
    split_if_several,
    wrap,
)
from jaxhlm.studies.binomial import rate_mcse
from jaxhlm.studies.measures import OK, check_columns

__all__ = ["estimate_vs_se", "histogram", "zip_plot"]

# More intervals, or points, than this print as one black area: evenly spaced ones stand for all.
MOST_INTERVALS = 500
MOST_POINTS = 2000


def zip_plot(
    estimates: pd.DataFrame,
    *,
    by: str = "method",
    level: float = 0.95,
    ax: Axes | Sequence[Axes] | None = None,
) -> list[Axes]:
    """Every interval, ordered by how far its estimate is from the truth in standard errors.

    Morris, White & Crowther (2019), figure 7: those that miss the truth are at the top of the zip.
    Dotted lines are Monte-Carlo limits of the coverage, estimate ± z MCSE; with nominal coverage
    the colour changes at the level.

    Args:
        estimates: rows of one condition and term with truth, estimate, std_error, conf_low and
            conf_high; rows without them are left out.
        by: column of the panels, if it has several values.
        level: of the Monte-Carlo limits.
        ax: axes to draw on, one per panel; by default a new figure.

    Returns:
        The axes.

    Raises:
        MissingColumnError: a column is not in the frame.
        OptionError: several terms or conditions.
        NoRowsError: no row has an interval.

    Example:
        >>> frame = pd.DataFrame({"truth": 0.0, "estimate": [0.1, 2.5], "std_error": 1.0,
        ...                       "conf_low": [-1.9, 0.5], "conf_high": [2.1, 4.5]})
        >>> zip_plot(frame)[0].get_title()
        'Coverage 50.0 %'
    """
    needed = ["truth", "estimate", "std_error", "conf_low", "conf_high"]
    frame = _one_estimand(estimates, needed)
    check_level(level)
    z = normal_quantile(0.5 + level / 2)
    centred = frame["truth"].nunique() > 1
    label = "Interval − truth" if centred else _label(frame, "Interval for")
    groups = split_if_several(frame, by)
    with panels(ax, len(groups), 3.0, sharex=True, sharey=True) as all_axes:
        for axes, (name, part) in zip(all_axes, groups, strict=True):
            share, mcse = _zip(axes, part, centred)
            for limit in (share - z * mcse, share + z * mcse):
                axes.axhline(100.0 * limit, color="black", linewidth=0.8, linestyle=":")
            title = f"Coverage {100 * share:.1f} %"
            axes.set_title(title if len(groups) == 1 else f"{wrap(name, 20)}\n{title}")
            axes.set(ylim=(0, 100.5), xlabel=label)
        all_axes[0].set_ylabel("Centile of |estimate − truth| / SE")
    return all_axes


def _zip(axes: Axes, part: pd.DataFrame, centred: bool) -> tuple[float, float]:
    """Draw the intervals of one method; their coverage and its Monte-Carlo standard error."""
    truth, estimate, se, low, high = (
        part[column].to_numpy(float)
        for column in ("truth", "estimate", "std_error", "conf_low", "conf_high")
    )
    n, zero = len(part), truth if centred else np.zeros(len(part))
    covers = (low <= truth) & (truth <= high)
    shown = np.unique(np.linspace(0, n - 1, min(n, MOST_INTERVALS)).round().astype(int))
    at = np.argsort(np.abs(estimate - truth) / se, kind="stable")[shown]
    centile = 100.0 * (shown + 1) / n
    ends = np.stack([low - zero, high - zero], axis=1)[at]
    lines = np.stack([ends, np.stack([centile, centile], axis=1)], axis=2)
    colors = np.where(covers[at], INK[0], INK[1])
    axes.add_collection(LineCollection(list(lines), colors=list(colors), linewidths=0.3))
    axes.axvline(truth[0] - zero[0], color="black", linewidth=0.8)
    axes.autoscale_view()
    return covers.mean(), float(rate_mcse(covers.sum(), n))


def estimate_vs_se(estimates: pd.DataFrame, *, by: str = "method", ax: Axes | None = None) -> Axes:
    """Standard errors against estimates: does a method know how uncertain it is?

    Args:
        estimates: rows of one condition and term with truth, estimate and std_error; of more than
            2,000 per series evenly spaced ones are shown.
        by: column shown by colour and marker, if it has several values.
        ax: axes to draw on; by default a new figure.

    Returns:
        The axes.

    Raises:
        MissingColumnError: a column is not in the frame.
        OptionError: several terms or conditions.
        NoRowsError: no row has an estimate.

    Example:
        >>> frame = pd.DataFrame({"truth": 0.0, "estimate": [0.1, 2.5], "std_error": 1.0})
        >>> estimate_vs_se(frame).get_ylabel()
        'Standard error'
    """
    frame = _one_estimand(estimates, ["truth", "estimate", "std_error"])
    groups = split_if_several(frame, by)
    with _distribution(frame, len(groups), "Standard error", ax) as axes:
        for i, (name, part) in enumerate(groups):
            step = -(-len(part) // MOST_POINTS)
            style = series(i)
            axes.plot(
                part["estimate"][::step], part["std_error"][::step], linestyle="none",
                marker=style["marker"], color=style["color"], markersize=2.0, alpha=0.4,
                markeredgewidth=0, label=literal(name),
            )  # fmt: skip
    return axes


def histogram(
    estimates: pd.DataFrame,
    *,
    by: str = "method",
    bins: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The distribution of the estimates, with the truth and, dashed, their mean.

    Args:
        estimates: rows of one condition and term with truth and estimate.
        by: column shown by colour, if it has several values.
        bins: number of bins, common to all series; by default Freedman & Diaconis' (1981) rule.
        ax: axes to draw on; by default a new figure.

    Returns:
        The axes.

    Raises:
        MissingColumnError: a column is not in the frame.
        OptionError: several terms or conditions.
        NoRowsError: no row has an estimate.

    Example:
        >>> frame = pd.DataFrame({"truth": 0.0, "estimate": [-1.0, 0.1, 2.5], "term": "x"})
        >>> histogram(frame).get_xlabel()
        'Estimate of x'
    """
    frame = _one_estimand(estimates, ["truth", "estimate"])
    groups = split_if_several(frame, by)
    edges = np.histogram_bin_edges(frame["estimate"], "fd" if bins is None else bins)
    with _distribution(frame, len(groups), "Replicates", ax) as axes:
        for i, (name, part) in enumerate(groups):
            color, line = series(i)["color"], series(i)["linestyle"]
            axes.hist(
                part["estimate"], edges, histtype="stepfilled", color=color, linewidth=0,
                alpha=0.25 if len(groups) > 1 else 0.45,
            )  # fmt: skip
            axes.hist(
                part["estimate"], edges, histtype="step", color=color, linestyle=line,
                linewidth=1.0, label=literal(name),
            )  # fmt: skip
            axes.axvline(part["estimate"].mean(), color=color, linewidth=1.0, linestyle="--")
        axes.margins(y=0.12)
    return axes


@contextmanager
def _distribution(frame: pd.DataFrame, count: int, ylabel: str, ax: Axes | None) -> Iterator[Axes]:
    """Axes for the estimates of ``count`` series, with the truth and a legend."""
    with canvas(ax) as axes:
        yield axes
        truths = frame["truth"].dropna().unique()
        if len(truths) == 1:
            axes.axvline(truths[0], color="black", linewidth=1.0)
            axes.annotate(
                "truth", (truths[0], 1.0), (3, -1), xycoords=axes.get_xaxis_transform(),
                textcoords="offset points", va="top",
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
            )  # fmt: skip
        axes.set(xlabel=_label(frame, "Estimate of"), ylabel=ylabel)
        if count > 1:
            for handle in legend_above(axes, markerscale=2.0).legend_handles:
                handle.set_alpha(1.0)


def _label(frame: pd.DataFrame, what: str) -> str:
    return (
        literal(f"{what} {frame['term'].iloc[0]}") if "term" in frame.columns else what.split()[0]
    )


def _one_estimand(estimates: pd.DataFrame, needed: Sequence[str]) -> pd.DataFrame:
    """Rows at an optimum with all that is needed, of one condition and term."""
    check_columns("the frame", estimates, needed)
    for name in ("condition", "term"):
        if name in estimates.columns and estimates[name].nunique() > 1:
            raise OptionError(f"the frame holds several values of {name!r}; select one {name}")
    frame = estimates.dropna(subset=list(needed))
    if "status" in frame.columns:
        frame = frame[frame["status"].isin(OK)]
    if not len(frame):
        raise NoRowsError(f"no row of the frame has all of {', '.join(needed)}")
    return frame
