"""The variances and correlations of the random effects, and how lmer prints them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
import pandas as pd

from jaxhlm.core.document import Align, Block, Grid, Printed, framed
from jaxhlm.core.notation import Floats
from jaxhlm.inference.criteria import correlation, standard_errors
from jaxhlm.likelihood.covariance import Blocks
from jaxhlm.likelihood.random_term import RandomTerm, blocks_of, group_of

__all__ = ["VarCorr", "VarCorrBatch", "align_decimals", "number_style"]

# Fits that are printed, at most.
MOST_SHOWN = 10


@dataclass(frozen=True, repr=False)
class VarCorr(Printed):
    """Covariance of the random effects of one fit; ``fit.varcorr``.

    Attributes:
        cov: (q, q) DataFrame, covariance matrix Σ = σ²ΛΛ' by term.
        residual: residual standard deviation σ.
        terms: the random terms; across terms there is no correlation.
    """

    cov: pd.DataFrame
    residual: float
    terms: tuple[RandomTerm, ...]

    @property
    def group(self) -> str:
        """Name of the grouping factor."""
        return group_of(self.terms)

    @property
    def blocks(self) -> Blocks:
        """Columns of Z that covary freely, term after term."""
        return blocks_of(self.terms)

    @property
    def sd(self) -> pd.Series:
        """(q,) standard deviations by term."""
        return pd.Series(standard_errors(self.cov.to_numpy()), self.cov.index, name="sd")

    @property
    def corr(self) -> pd.DataFrame:
        """(q, q) correlations; NaN beside a zero variance."""
        return pd.DataFrame(correlation(self.cov.to_numpy()), self.cov.index, self.cov.columns)

    def frame(self) -> pd.DataFrame:
        """Long table (grp, var1, var2, vcov, sdcor), as ``as.data.frame(VarCorr(fit))``."""
        rows: list[tuple[str, str | None, str | None, float, float]] = []
        names, cov, corr = list(self.cov.index), self.cov.to_numpy(), self.corr.to_numpy()
        for term in self.terms:
            for block in term.blocks:
                rows += [(term.group, names[a], None, cov[a, a], self.sd.iloc[a]) for a in block]
                rows += [
                    (term.group, names[a], names[b], cov[a, b], corr[a, b])
                    for a, b in combinations(block, 2)
                ]
        rows.append(("Residual", None, None, self.residual**2, self.residual))
        return pd.DataFrame(rows, columns=["grp", "var1", "var2", "vcov", "sdcor"])

    def grid(self) -> Grid:
        """The block "Random effects" of lmer's summary."""
        variances = [*np.diag(self.cov.to_numpy()), self.residual**2]
        columns = {
            "Groups": self._labels(),
            "Name": [*self.cov.index, ""],
            "Variance": align_decimals(variances),
            "Std.Dev.": align_decimals(np.sqrt(variances)),
        }
        correlations = self._correlations()
        headers = [*columns, *["Corr", *[""] * len(correlations)][: len(correlations)]]
        rows = list(zip(*columns.values(), *correlations, strict=True))
        table = Grid(headers, rows, align="left")
        numbers: list[Align] = ["right"] * (len(headers) - 2)
        return replace(table, align=["left", "left", *numbers], plain=str(table))

    def _blocks(self) -> list[Block]:
        return [[self.grid()]]

    def _labels(self) -> list[str]:
        """The name of the grouping factor at the head of every term; lme4 numbers later terms."""
        labels = [""] * len(self.cov)
        for number, term in enumerate(self.terms):
            labels[term.columns[0]] = f"{term.group}.{number}" if number else term.group
        return [*labels, "Residual"]

    def _correlations(self) -> list[list[str]]:
        """Columns of the lower triangle of correlations, within terms."""
        corr = self.corr.to_numpy()
        widest = max(map(len, self.blocks))
        columns: list[list[str]] = [[] for _ in range(widest - 1)]
        for block in self.blocks:
            for i, a in enumerate(block):
                for j, column in enumerate(columns):
                    column.append(_corr_cell(corr[a, block[j]]) if j < i else "")
        return [[*column, ""] for column in columns]


def _corr_cell(value: float) -> str:
    return "  NaN" if np.isnan(value) else f"{value:z5.2f}"


@dataclass(frozen=True, eq=False, repr=False)
class VarCorrBatch(Printed):
    """Variances of the random effects of B fits; ``fits.varcorr``.

    Attributes:
        cov: (B, q, q) covariance matrices Σ = σ²ΛΛ'.
        residual: (B,) residual standard deviations.
        names: names of the q random effects.
        index: labels of the fits.
    """

    cov: Floats
    residual: Floats
    names: tuple[str, ...]
    index: pd.Index = field(repr=False)

    def _blocks(self) -> list[Block]:
        sd = self.sd.add_prefix("sd ").assign(sigma=self.residual)
        return [[framed(sd, most=MOST_SHOWN)]]

    @property
    def sd(self) -> pd.DataFrame:
        """(B, q) standard deviations."""
        return pd.DataFrame(standard_errors(self.cov), self.index, list(self.names))

    @property
    def corr(self) -> Floats:
        """(B, q, q) correlations; NaN beside a zero variance."""
        return correlation(self.cov)


def align_decimals(values: Iterable[float], digits: int = 4) -> list[str]:
    """Numbers with one count of decimals: the smallest is shown to ``digits`` digits, as R does."""
    values = [float(v) for v in values]
    style = number_style(values, digits)
    cells = [f"{v:{style}}" for v in values]
    return [cell.rjust(max(map(len, cells))) for cell in cells]


def number_style(values: Iterable[float], digits: int = 4) -> str:
    """The format that shows the smallest of some numbers to ``digits`` digits.

    >>> number_style([12.5, 0.0321], 2), number_style([1e-12], 3)
    ('.3f', '.2e')
    """
    sizes = [abs(v) for v in values if np.isfinite(v) and v != 0.0]
    if not sizes:
        return f".{digits}f"
    decimals = max(0, digits - 1 - int(np.floor(np.log10(min(sizes)))))
    return f".{digits - 1}e" if decimals > 8 or max(sizes) >= 1e9 else f".{decimals}f"
