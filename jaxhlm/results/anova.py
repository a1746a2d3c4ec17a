"""The tables of tests between models, and how they print: laid out as lme4's ``anova``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from jaxhlm.core.notation import Floats
from jaxhlm.errors import OptionError
from jaxhlm.inference.criteria import aic, aicc, bic
from jaxhlm.inference.mixtures import Mixture, likelihood_ratio
from jaxhlm.results.summary_table import table_of_cells

__all__ = [
    "REFITTED",
    "Anova",
    "Criterion",
    "check_different",
    "criteria_table",
    "likelihood_ratio_table",
    "with_mixtures",
]

REFITTED = "refitted with ML (instead of REML)"
NO_MIXTURE = (
    "Pr(mixture) is NaN where the law at the boundary is no simple mixture of χ²; Pr(>Chisq) is "
    "conservative there"
)
MOST_ROWS = 20
AT_BOUNDARY = "Variances are zero under the smaller model: Pr(mixture) is the p-value to read"


@dataclass(frozen=True)
class Anova:
    """A table of tests or criteria; ``print`` it, or take ``.table``.

    Attributes:
        heading: what is compared.
        table: one row per model, test or fit.
        notes: what was done on the way, such as refitting with ML.
    """

    heading: str
    table: pd.DataFrame
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Heading, table (the first rows of a long one) and notes."""
        shown = self.table if len(self.table) <= MOST_ROWS else self.table.head(MOST_ROWS // 2)
        cells = [[_cell(c, v) for c, v in row.items()] for _, row in shown.iterrows()]
        names = [str(name) for name in shown.index]
        body = table_of_cells([str(c) for c in shown.columns], cells, names)
        more = len(self.table) - len(shown)
        rest = [f"… and {more:,} more rows in .table"] if more else []
        return "\n".join([self.heading, body, *rest, *self.notes])

    __repr__ = __str__


@dataclass(frozen=True)
class Criterion:
    """What the tables need of one model.

    Attributes:
        name: its row.
        formula: its formula.
        parameters: number of parameters.
        value: −2 log-likelihood.
        n: number of rows.
    """

    name: str
    formula: str
    parameters: int
    value: float
    n: int


def criteria_table(models: Sequence[Criterion]) -> pd.DataFrame:
    """npar, AIC, AICc, BIC, logLik and -2*log(L), one row per model."""
    parameters = np.array([m.parameters for m in models])
    value, n = np.array([m.value for m in models]), np.array([m.n for m in models])
    return pd.DataFrame(
        {
            "npar": parameters,
            "AIC": aic(value, parameters),
            "AICc": aicc(value, parameters, n),
            "BIC": bic(value, parameters, n),
            "logLik": -0.5 * value,
            "-2*log(L)": value,
        },
        index=[m.name for m in models],
    )


def likelihood_ratio_table(
    models: Sequence[Criterion], mixtures: Sequence[Mixture | None], refitted: bool
) -> Anova:
    """Every model against the one before.

    Args:
        models: in the order of their numbers of parameters.
        mixtures: null distributions of the likelihood ratios, one less than models.
        refitted: whether some were refitted by ML.
    """
    table = criteria_table(models)
    statistic = likelihood_ratio(
        table["-2*log(L)"].to_numpy()[:-1], table["-2*log(L)"].to_numpy()[1:]
    )
    df = np.diff(table["npar"].to_numpy())
    table["Chisq"] = [np.nan, *statistic]
    table["Df"] = [np.nan, *df]
    table["Pr(>Chisq)"] = [np.nan, *_p_values(statistic, [Mixture.regular(int(d)) for d in df])]
    notes = (REFITTED,) if refitted else ()
    table, more = with_mixtures(table, statistic, mixtures, first=1)
    heading = "Models:\n" + "\n".join(f"{m.name}: {m.formula}" for m in models)
    return Anova(heading, table, notes + more)


def with_mixtures(
    table: pd.DataFrame, statistic: Floats, mixtures: Sequence[Mixture | None], first: int
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The table with columns Pr(mixture) and mixture where one of its tests is at the boundary.

    Args:
        table: the table.
        statistic, mixtures: of its rows from ``first`` on.
        first: rows at the head that hold no test.
    """
    if all(m is not None and not m.at_boundary for m in mixtures):
        return table, ()
    table = table.copy()
    table["Pr(mixture)"] = [np.nan] * first + _p_values(statistic, mixtures)
    table["mixture"] = [""] * first + [
        "not simple" if mixture is None else str(mixture) for mixture in mixtures
    ]
    notes = [AT_BOUNDARY] if any(m is not None and m.at_boundary for m in mixtures) else []
    return table, (*notes, *([NO_MIXTURE] if any(m is None for m in mixtures) else []))


def check_different(models: Sequence[Criterion]) -> None:
    """Raise ``OptionError`` when two models have the same number of parameters."""
    for before, after in pairwise(models):
        if before.parameters == after.parameters:
            raise OptionError(
                f"{before.formula} and {after.formula} have the same number of parameters "
                f"({after.parameters}), so there is no likelihood ratio test between them; "
                "compare their AIC with jaxhlm.compare"
            )


def _p_values(statistic: Floats, mixtures: Sequence[Mixture | None]) -> list[float]:
    return [
        float("nan") if mixture is None else float(mixture.p_value(s))
        for s, mixture in zip(statistic, mixtures, strict=True)
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
        "statistic": ".4f",
        "logLik": ".2f",
        "Chisq": ".4f",
        "LRT": ".4f",
        "weight": ".3f",
    }
    style = ".4g" if str(column).startswith(("Pr", "p_")) else styles.get(str(column), ".1f")
    return f"{number:{style}}"
