"""What stands below a table of marginal means, as below emmeans' own."""

from __future__ import annotations

import numpy as np
import pandas as pd

from jaxhlm.inference.contrast_tests import METHOD_NAMES
from jaxhlm.inference.refgrid import factors_of
from jaxhlm.results.means_wanted import Means
from jaxhlm.results.record import FitRecord

__all__ = ["means_notes"]

BY = {
    "tukey": "Tukey's method",
    "mvt": "the multivariate t distribution",
    "holm": "Holm's method",
    "bonferroni": "Bonferroni's method",
    "sidak": "Šidák's method",
    "fdr": "the false discovery rate",
}
# They have no limits of their own.
LIMITS_BY_BONFERRONI = ("holm", "fdr")


def means_notes(fits: FitRecord, wanted: Means, frame: pd.DataFrame) -> list[str]:
    """What was averaged over, and how degrees of freedom, limits and p values are meant.

    Args:
        fits: the fits.
        wanted: what was asked for.
        frame: what was found.
    """
    shown = {*wanted.specs, *wanted.by}
    over = {*factors_of(fits.rows.design), *wanted.at} - shown
    over = {name for name in over if np.size(wanted.at.get(name, ["all", "levels"])) > 1}
    notes = [f"Averaged over the levels of: {', '.join(sorted(over))}"] if over else []
    if beside := _interacting(fits, wanted):
        notes.append(f"Interaction with {', '.join(beside)}: averages may mislead")
    limits = f"Confidence level: {wanted.conf_level:g}"
    notes.append(f"Degrees of freedom: {METHOD_NAMES[wanted.df]}. {limits}")
    adjusted = _adjusted(wanted, _rows(fits, wanted, frame))
    return notes + [adjusted] * bool(adjusted)


def _interacting(fits: FitRecord, wanted: Means) -> list[str]:
    """Variables that are not shown, in an interaction with some that are (emmeans' NOTE)."""
    part, found = fits.rows.design._fixed, set()
    for factors in part.written.values():
        variables = {name for factor in factors for name in part.factors[factor].variables}
        of_trend = wanted.trend is None or wanted.trend in variables
        if len(factors) > 1 and of_trend and not variables.isdisjoint(wanted.specs):
            found |= variables.difference(wanted.specs, wanted.by, [wanted.trend])
    return sorted(found)


def _rows(fits: FitRecord, wanted: Means, frame: pd.DataFrame) -> int:
    """Rows of one family."""
    families = len(frame[list(wanted.by)].drop_duplicates()) if wanted.by else 1
    return len(frame) // (families * max(len(fits), 1))


def _adjusted(wanted: Means, rows: int) -> str:
    """How tests and limits are adjusted; "" where nothing is."""
    within = f" in every {' × '.join(wanted.by)}" if wanted.by else ""
    many = f"{rows} {'tests' if wanted.differs else 'means'}{within}"
    if wanted.pairwise:
        return f"p values by Holm's and by Tukey's method for {many}; limits not adjusted"
    how = wanted.adjustment
    if how == "none":
        return "p values and limits: not adjusted" if wanted.differs and rows > 1 else ""
    if rows == 1:
        return ""
    if not wanted.differs:
        return f"Limits adjusted by {BY[how]} for {many}"
    if how in LIMITS_BY_BONFERRONI:
        return f"p values adjusted by {BY[how]}, limits by Bonferroni's, for {many}"
    return f"p values and limits adjusted by {BY[how]} for {many}"
