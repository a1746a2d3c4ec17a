"""Figures, in ``jaxhlm.plot`` (needs matplotlib: ``pip install "jaxhlm[plot]"``).

Of one fit, whether it is right: ``diagnostics``, or its parts ``residuals``, ``residual_qq``,
``scale_location`` and ``ranef_ellipse``; ``qq``; ``profile``. Of its units: ``unit_lines``,
``caterpillar``, ``shrinkage``, ``article_units``, ``article_lines``; of its means: ``emmeans``.
Of a simulation study's measures: ``power_curve``, ``lollipop``, ``nested_loop``; of its
estimates: ``zip_plot``, ``estimate_vs_se``, ``histogram``. Of tests of many responses:
``volcano``, ``p_histogram``, ``p_qq``, ``variance_trend``, ``contrast_heat``,
``variance_fractions``.

Every function draws on ``ax`` if given, in the style in force, or on a new figure one printed
column wide (two for several panels), in 8 point type and the colours of Okabe & Ito (2008); series
differ in marker and line too. Save a new figure with ``axes.figure.savefig("figure.pdf")``; give
your own figures the same look with ``with plt.rc_context(jaxhlm.plot.STYLE):``.
"""

from __future__ import annotations

# First, for it says what to install where there is no matplotlib.
from jaxhlm.plot.canvas import STYLE
from jaxhlm.plot.estimate_plots import estimate_vs_se, histogram, zip_plot
from jaxhlm.plot.fit_plots import article_lines, article_units, caterpillar, qq, shrinkage
from jaxhlm.plot.means_plots import emmeans
from jaxhlm.plot.measure_plots import lollipop, nested_loop, power_curve
from jaxhlm.plot.profile_plots import profile
from jaxhlm.plot.residual_plots import diagnostics, residual_qq, residuals, scale_location
from jaxhlm.plot.response_plots import (
    contrast_heat,
    p_histogram,
    p_qq,
    variance_fractions,
    variance_trend,
    volcano,
)
from jaxhlm.plot.unit_plots import ranef_ellipse, unit_lines

__all__ = [
    "STYLE",
    "article_lines",
    "article_units",
    "caterpillar",
    "contrast_heat",
    "diagnostics",
    "emmeans",
    "estimate_vs_se",
    "histogram",
    "lollipop",
    "nested_loop",
    "p_histogram",
    "p_qq",
    "power_curve",
    "profile",
    "qq",
    "ranef_ellipse",
    "residual_qq",
    "residuals",
    "scale_location",
    "shrinkage",
    "unit_lines",
    "variance_fractions",
    "variance_trend",
    "volcano",
    "zip_plot",
]


def __dir__() -> list[str]:
    """The figures, without the modules that hold them."""
    return __all__
