"""``Anova``: tests between models, and how they print: laid out as lme4's ``anova``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from jaxhlm.core.document import Block, Grid
from jaxhlm.core.exported import Exported

__all__ = ["AT_BOUNDARY", "NO_MIXTURE", "REFITTED", "Anova"]

REFITTED = "refitted with ML (instead of REML)"
NO_MIXTURE = (
    "Pr(mixture) is NaN where the law at the boundary is no simple mixture of χ²; Pr(>Chisq) is "
    "conservative there"
)
MOST_ROWS = 20
AT_BOUNDARY = "Variances are zero under the smaller model: Pr(mixture) is the p-value to read"


@dataclass(frozen=True, repr=False)
class Anova(Exported):
    """A table of tests or criteria; ``print`` it, or take ``.table``.

    Attributes:
        heading: what is compared.
        table: one row per model, test or fit.
        notes: what was done on the way, such as refitting with ML.
    """

    heading: str
    table: pd.DataFrame
    notes: tuple[str, ...] = ()

    def _blocks(self) -> list[Block]:
        """Heading, table (the first rows of a long one) and notes."""
        shown = self.table if len(self.table) <= MOST_ROWS else self.table.head(MOST_ROWS // 2)
        cells = [[_cell(c, v) for c, v in row.items()] for _, row in shown.iterrows()]
        names = [" ".join(map(str, x)) if isinstance(x, tuple) else str(x) for x in shown.index]
        more = len(self.table) - len(shown)
        rest = [f"… and {more:,} more rows in .table"] if more else []
        return [
            [*self.heading.split("\n"), Grid([*map(str, shown)], cells, names), *rest, *self.notes]
        ]


def _cell(column: object, value: object) -> str:
    if isinstance(value, str):
        return value
    number = float(value)  # type: ignore[arg-type]
    if np.isnan(number):
        return ""
    styles = {
        "npar": ".0f",
        "Df": ".0f",
        "df": ".0f",
        "NumDF": ".0f",
        "DenDF": ".2f",
        "Sum Sq": ".5g",
        "Mean Sq": ".5g",
        "F value": ".4f",
        "statistic": ".4f",
        "logLik": ".2f",
        "Chisq": ".4f",
        "LRT": ".4f",
        "weight": ".3f",
    }
    style = ".4g" if str(column).startswith(("Pr", "p_")) else styles.get(str(column), ".1f")
    return f"{number:z{style}}"
