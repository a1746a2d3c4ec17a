"""Figures of profile likelihoods."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from jaxhlm.core.notation import Floats
from jaxhlm.errors import NoRowsError
from jaxhlm.inference.criteria import check_level, normal_limit
from jaxhlm.plot.canvas import COLUMN, GREY, INK, panels, wrap
from jaxhlm.studies.measures import check_columns

__all__ = ["profile"]

PANELS_IN_A_ROW = 3


def profile(
    frame: pd.DataFrame, *, level: float = 0.95, ax: Axes | Sequence[Axes] | None = None
) -> list[Axes]:
    """ζ against every parameter: straight where the Wald interval is right, bent where it is not.

    Dotted lines at ±z(level) cross the curve at the limits of the profile interval of that level.
    The dashed line has the curve's slope at the estimate, as if the likelihood were normal.
    See ``Fit.profile``; as ``xyplot(profile(fit))`` of lme4.

    Args:
        frame: from ``Fit.profile``: columns term, value, zeta.
        level: of the dotted lines.
        ax: axes, one per term; by default a new figure.

    Returns:
        The axes.

    Raises:
        MissingColumnError: a column is not in the frame.
        OptionError: a level outside (0, 1).
        NoRowsError: the frame is empty, or a term has no ζ.

    Example:
        >>> import jaxhlm as hlm
        >>> fit = hlm.fit("Reaction ~ Days + (1 | Subject)", hlm.load_dataset("sleepstudy"))
        >>> [panel.get_xlabel() for panel in profile(fit.profile("Days", points=5))]
        ['Days']
    """
    check_columns("the frame", frame, ["term", "value", "zeta"])
    check_level(level)
    if not len(frame):
        raise NoRowsError("the frame has no rows: it is to be that of fit.profile()")
    parts = [(str(name), part) for name, part in frame.groupby("term", sort=False)]
    for name, part in parts:
        if not len(part.dropna()):
            raise NoRowsError(f"the profile of {name} has no values: leave it out of fit.profile()")
    columns = min(len(parts), PANELS_IN_A_ROW)
    width = COLUMN if columns == 1 else 2 * COLUMN
    with panels(ax, len(parts), 2.0, width, columns=columns, sharey=True) as all_axes:
        for i, (axes, (name, part)) in enumerate(zip(all_axes, parts, strict=True)):
            known = part.dropna().sort_values("value")
            value, zeta = known["value"].to_numpy(float), known["zeta"].to_numpy(float)
            axes.axhline(0.0, color=GREY, linewidth=0.6, zorder=0)
            for limit in (-normal_limit(level), normal_limit(level)):
                axes.axhline(limit, color="black", linewidth=0.8, linestyle=":", zorder=0)
            _tangent(axes, value, zeta)
            axes.plot(value, zeta, "-o", color=INK[0], markersize=2.5, zorder=2)
            axes.set_xlabel(wrap(name))
            axes.locator_params(axis="x", nbins=4)
            if ax is not None or i % columns == 0:
                axes.set_ylabel("ζ")
    return all_axes


def _tangent(axes: Axes, value: Floats, zeta: Floats) -> None:
    """The line with the curve's slope at the estimate, if that is between two points."""
    i = int(np.argmin(np.abs(zeta)))
    if 0 < i < len(zeta) - 1:
        slope = (zeta[i + 1] - zeta[i - 1]) / (value[i + 1] - value[i - 1])
        ends = np.array([zeta[0], zeta[-1]])
        axes.plot(value[i] + ends / slope, ends, "--", color=INK[1], linewidth=0.9, zorder=1)
