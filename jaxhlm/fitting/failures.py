"""What is told of fits that failed, or that lack coefficients, once all are made."""

from __future__ import annotations

import numpy as np

from jaxhlm.core.chunks import MAX_LANES, slices
from jaxhlm.core.status import Status
from jaxhlm.design.columns import listed
from jaxhlm.errors import ConvergenceWarning, RankDeficientWarning, warn_user
from jaxhlm.estimation.estimates import Estimates

__all__ = ["Failures"]


class Failures:
    """Counts of failed fits and of absent coefficients, whole or part by part."""

    def __init__(self, xnames: tuple[str, ...]) -> None:
        """Nothing seen yet."""
        self._xnames = xnames
        self._counts = np.zeros(len(Status), np.int64)
        self._absent, self._lacking = np.zeros(len(xnames), bool), 0

    def add(self, estimates: Estimates) -> None:
        """See some fits too."""
        for run in slices(len(estimates.status), MAX_LANES):
            some = estimates[run]
            self._counts += np.bincount(some.status, minlength=len(Status))
            if some.absent.any():
                self._absent |= some.absent.any(axis=0)
                self._lacking += int(some.absent.any(axis=1).sum())

    def merge(self, others: Failures) -> None:
        """Count what others have seen."""
        self._counts += others._counts
        self._absent |= others._absent
        self._lacking += others._lacking

    def warn(self) -> None:
        """Say what failed, and what lacks coefficients."""
        total = int(self._counts.sum())
        failed = {s.name.lower(): int(self._counts[s]) for s in Status if not s.ok}
        if number := sum(failed.values()):
            causes = ", ".join(f"{count} {name}" for name, count in failed.items() if count)
            warn_user(
                f"{number} of {total} fits failed ({causes}); see fits.status and "
                "print(fits) for what each means",
                ConvergenceWarning,
            )
        if self._lacking:
            named = [self._xnames[j] for j in np.flatnonzero(self._absent).tolist()]
            warn_user(
                f"{self._lacking} of {total} data sets have no row in which "
                f"{listed(named)} is not zero; their coefficients of these columns are NaN, and "
                "all else is as if the columns were left out",
                RankDeficientWarning,
            )
