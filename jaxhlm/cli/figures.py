"""Figures as files: of one fit, and of the tests of many responses.

matplotlib is an extra and takes longer to import than a fit, so it is imported when asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from jaxhlm.results.fit import Fit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["figure_folder", "fit_figures", "test_figures", "write_figures"]

# Letters of a contrast's name in the name of a file.
LETTERS = 40


def figure_folder(directory: Path) -> None:
    """Make the folder, and know that there will be figures, before the work for them begins.

    Raises:
        JaxhlmError: matplotlib is not installed.
        OSError: the folder cannot be made.
    """
    import jaxhlm.plot  # noqa: F401

    directory.mkdir(parents=True, exist_ok=True)


def fit_figures(fit: Fit) -> dict[str, Figure]:
    """The standard figures of one fit, by name: those that its random effects allow."""
    from jaxhlm import plot

    names = fit.model.znames
    drawn = {
        "diagnostics": plot.diagnostics(fit),
        "random-effects-qq": plot.qq(fit),
        "caterpillar": plot.caterpillar(fit),
    }
    if len(names) > 1:
        drawn["shrinkage"] = plot.shrinkage(fit)
        # Of all units there are soon too many lines to see one.
        drawn["lines"] = plot.unit_lines(fit)
    return {name: _figure(axes) for name, axes in drawn.items()}


def test_figures(table: pd.DataFrame, level: float) -> dict[str, Figure]:
    """A volcano and the p values of every contrast of a long table of tests, by name."""
    from jaxhlm import plot

    drawn = {}
    for number, contrast in enumerate(dict.fromkeys(table["contrast"]), start=1):
        name = re.sub(r"[^\w.+-]+", "-", str(contrast)).strip("-.")[:LETTERS]
        label = f"{number}-{name}" if name else f"{number}"
        drawn[f"volcano-{label}"] = _figure(plot.volcano(table, contrast, level=level))
        drawn[f"p-values-{label}"] = _figure(plot.p_histogram(table, contrast))
    return drawn


def write_figures(figures: Mapping[str, Figure], directory: Path) -> list[Path]:
    """Write figures into a folder that is there, each as PDF and PNG, and close them."""
    from jaxhlm.plot.canvas import write

    return [file for name, figure in figures.items() for file in write(figure, directory / name)]


def _figure(axes: Axes | list[Axes]) -> Figure:
    return np.ravel(np.asarray(axes, dtype=object))[0].figure
