"""The printed table of performance measures: every number to the digits that it is known to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from jaxhlm.core.document import Block, framed
from jaxhlm.core.exported import Exported
from jaxhlm.core.tables import as_frame
from jaxhlm.errors import MissingColumnError
from jaxhlm.studies.measures import MEASURES

__all__ = ["MeasuresTable", "with_mcse"]

SHOWN = ("bias", "empirical_se", "relative_error", "coverage", "power")
ROUNDING = 9
COUNTS = ("n_failed", "n_singular")


@dataclass(frozen=True, eq=False, repr=False)
class MeasuresTable(Exported):
    """A measures frame in print: ``estimate (MCSE)``, and the counts of fits that need a thought.

    Attributes:
        frame: from ``jaxhlm.measures``.
        which: the measures to show.

    Raises:
        MissingColumnError: a measure is not in the frame.

    Example:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"term": ["x"], "n": [1000], "n_failed": [0], "n_singular": [12],
        ...     "truth": [3.0], "bias": [-0.00123], "bias_mcse": [0.00313],
        ...     "coverage": [0.9432], "coverage_mcse": [0.0073]})
        >>> print(MeasuresTable(frame, ["bias", "coverage"]))
        term    n truth             bias        coverage n_failed n_singular
           x 1000     3 -0.0012 (0.0031) 0.9432 (0.0073)        0         12
        In brackets: Monte-Carlo standard errors
    """

    frame: pd.DataFrame = field(repr=False)
    which: Sequence[str] = SHOWN

    def __post_init__(self) -> None:
        """Check that there is something to print."""
        object.__setattr__(self, "frame", as_frame("frame", self.frame))
        missing = [name for name in self.which if f"{name}_mcse" not in self.frame.columns]
        if missing:
            raise MissingColumnError(
                f"the frame has no measure {', '.join(missing)}; it has "
                + ", ".join(name for name in MEASURES if name in self.frame.columns)
            )

    def _blocks(self) -> list[Block]:
        """Keys, replicates, measures, counts."""
        f, columns = self.frame, list(self.frame.columns)
        table = f[columns[: columns.index("n") + 1]].copy()
        table["truth"] = [f"{value:g}" for value in f["truth"]]
        for name in self.which:
            decimals = _decimals(f[f"{name}_mcse"])
            pairs = zip(f[name], f[f"{name}_mcse"], strict=True)
            table[name] = [with_mcse(value, mcse, decimals) for value, mcse in pairs]
        for name in COUNTS:
            table[name] = f[name]
        return [[framed(table, "g", index=False), "In brackets: Monte-Carlo standard errors"]]


def with_mcse(value: float, mcse: float, decimals: int) -> str:
    """A number with its Monte-Carlo standard error in brackets.

    >>> with_mcse(0.94817, 0.00221, 4), with_mcse(123.4, 5.6, 1), with_mcse(0.25, 0.0, 3)
    ('0.9482 (0.0022)', '123.4 (5.6)', '0.25 (0)')
    >>> with_mcse(float("nan"), float("nan"), 2)
    ''
    """
    if np.isnan(value):
        return ""
    if not mcse > 0.0:
        # Equal but for rounding errors, as estimates of two methods on balanced data.
        return f"{round(value, ROUNDING) + 0.0:.4g} ({mcse:g})"
    return f"{value:.{decimals}f} ({mcse:.{decimals}f})"


def _decimals(mcse: pd.Series) -> int:
    """Decimals that give the typical error of a column two digits."""
    known = mcse[np.isfinite(mcse) & (mcse > 0.0)]
    return max(1 - math.floor(math.log10(known.median())), 0) if len(known) else 0
