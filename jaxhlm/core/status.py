"""What became of a fit: one small code per lane, and what each code means.

Nothing raises inside a batch: a data set that cannot be fitted gets a code and NaN estimates,
and its neighbours are untouched.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import pandas as pd

from jaxhlm.core.document import filled
from jaxhlm.core.notation import Bools, Ints

__all__ = [
    "STATUS_MESSAGES",
    "Status",
    "converged",
    "outcome",
    "outcome_of",
    "status_names",
    "tally",
]


class Status(IntEnum):
    """Outcome of one fit; ``fit.status`` and the elements of ``fits.status``."""

    CONVERGED = 0
    SINGULAR = 1
    ITERATION_LIMIT = 2
    NOT_FINITE = 3
    RANK_DEFICIENT = 4
    NO_RESIDUAL_DF = 5
    NOT_IDENTIFIED = 6

    def __str__(self) -> str:
        """The name: a number says nothing."""
        return self.name

    def __repr__(self) -> str:
        """The name, and what it means."""
        return f"{self.name}: {self.message}"

    @property
    def ok(self) -> bool:
        """Whether the estimates are at an optimum (singular fits are)."""
        return self in (Status.CONVERGED, Status.SINGULAR)

    @property
    def message(self) -> str:
        """What happened, and what to try."""
        return STATUS_MESSAGES[self]


def converged(status: Ints) -> Bools:
    """Where fits are at an optimum, on the boundary or not."""
    return np.isin(status, [s for s in Status if s.ok])


def status_names(status: Ints) -> np.ndarray:
    """The codes by name, as tables have them."""
    return np.array([s.name.lower() for s in Status], dtype=object)[status]


def tally(status: Ints) -> pd.Series:
    """Number of fits by status, every status listed."""
    counts = np.bincount(status, minlength=len(Status))
    return pd.Series(counts, [s.name.lower() for s in Status], name="fits")


def outcome(status: Ints) -> list[str]:
    """How many fits converged and failed, and a paragraph for each cause of failure."""
    return outcome_of(tally(status))


def outcome_of(counts: pd.Series) -> list[str]:
    """As ``outcome``, of what ``tally`` counts."""
    total, good = int(counts.sum()), int(counts[[s.name.lower() for s in Status if s.ok]].sum())
    return [
        f"Converged: {good:,}, of these singular: {counts['singular']:,}; failed: {total - good:,}",
        *(
            filled(f"{counts.iloc[s]:,} × {s.message}", "    ", "  ")
            for s in Status
            if not s.ok and counts.iloc[s]
        ),
    ]


STATUS_MESSAGES: dict[Status, str] = {
    Status.CONVERGED: "converged: the Newton decrement is below the tolerance",
    Status.SINGULAR: (
        "singular fit: a variance is 0 or a correlation ±1; a simpler random part may do"
    ),
    Status.ITERATION_LIMIT: (
        "the iteration limit was reached before the Newton decrement fell below the tolerance: "
        "raise max_iter, or check that the model is identified"
    ),
    Status.NOT_FINITE: (
        "the response, a column or the criterion is not finite: look for missing or infinite "
        "values, such as the log of 0, and for a response that is constant, or that X and a line "
        "for every unit fit without error"
    ),
    Status.RANK_DEFICIENT: (
        "the fixed-effects matrix of this data set is rank deficient: a column is constant or a "
        "combination of others in these rows, but for a ten-millionth of its size, as where no row "
        "has the first level of a factor; remove the term, make a level that all data sets have "
        "the first, centre a column that is far from zero, or fit this data set by itself"
    ),
    Status.NO_RESIDUAL_DF: (
        "no residual degrees of freedom: there are no more rows than fixed effects; use more rows "
        "or fewer terms"
    ),
    Status.NOT_IDENTIFIED: (
        "the random part is not identified by these rows: there is one group only, no row has some "
        "level of a factor left of a bar, the random effects reach every row, other variances give "
        "the same covariance of y, or (REML) the fixed effects take up every contrast between "
        "groups that carries a variance; use more groups or rows, or a simpler model; fit this "
        "data set by itself to see which variance"
    ),
}
