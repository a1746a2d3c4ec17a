"""The printed summary of a fit, laid out as lmer's so that its users read it at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from jaxhlm.core.document import RULE, Block, Grid
from jaxhlm.core.exported import Exported
from jaxhlm.core.notation import Floats
from jaxhlm.inference.criteria import correlation
from jaxhlm.results.varcorr import VarCorr, align_decimals

__all__ = [
    "Summary",
    "abbreviate",
    "coefficient_table",
    "correlation_table",
    "p_value",
    "stars",
]

P_COLUMN = "Pr(>|t|)"
# What goes first from a long name, and whether from the ends of its words; None is all.
LOWER = "abcdefghijklmnopqrstuvwxyz"
DROPPED = (("aeiou", True), ("aeiou", False), (LOWER, True), (LOWER, False), (None, False))
STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"), (0.1, "."))
STARS_LEGEND = "Signif. codes:  0 ‘***’ 0.001 ‘**’ 0.01 ‘*’ 0.05 ‘.’ 0.1 ‘ ’ 1"
HOW_TO_TEST = 'p values: summary(df="satterthwaite")'
MOST_CORRELATED = 12  # lmer prints the correlation of no more fixed effects than this


@dataclass(frozen=True, repr=False)
class Summary(Exported):
    """What ``print(fit)`` shows; ``str`` renders it, and ``to_latex`` and its like.

    Attributes:
        formula: the model formula.
        reml: whether the fit is by REML.
        criterion: REML criterion, or ML deviance.
        aic, bic, loglik: criteria of fit.
        df_residual: rows less parameters.
        scaled_residuals: (n,) residuals divided by σ, or None to leave them out.
        varcorr: variances of the random effects.
        nobs, ngroups: rows and groups.
        coefficients: DataFrame with columns Estimate, Std. Error, t value, and with df and Pr(>|t|)
            where there are tests.
        vcov: (p, p) covariance of the fixed effects.
        notes: lines at the end: rows dropped, columns dropped, how the fit ended.
        tests: the method of the degrees of freedom, "" for none.
    """

    formula: str
    reml: bool
    criterion: float
    aic: float
    bic: float
    loglik: float
    df_residual: int
    scaled_residuals: Floats | None
    varcorr: VarCorr
    nobs: int
    ngroups: int
    coefficients: pd.DataFrame
    vcov: Floats
    notes: tuple[str, ...]
    tests: str = ""

    def _blocks(self) -> list[Block]:
        """The whole summary."""
        method = "REML" if self.reml else "maximum likelihood"
        if self.tests:
            method += f". t-tests use {self.tests}"
        return [
            [f"Linear mixed model fit by {method}", f"Formula: {self.formula}"],
            [self._criterion()],
            self._residuals(),
            [
                "Random effects:",
                self.varcorr.grid(),
                f"Number of obs: {self.nobs}, groups:  {self.varcorr.group}, {self.ngroups}",
            ],
            ["Fixed effects:", *coefficient_table(self.coefficients)]
            if len(self.coefficients)
            else ["No fixed effects"],
            self._correlation(),
            self.notes,
            [] if self.tests or not len(self.coefficients) else [HOW_TO_TEST],
        ]

    def _criterion(self) -> str | Grid:
        if self.reml:
            return f"REML criterion at convergence: {self.criterion:.1f}"
        names = ["AIC", "BIC", "logLik", "deviance", "df.resid"]
        values = [f"{v:.1f}" for v in (self.aic, self.bic, self.loglik, self.criterion)]
        return Grid(names, [[*values, str(self.df_residual)]])

    def _residuals(self) -> Block:
        if self.scaled_residuals is None:
            return []
        quantiles = np.quantile(self.scaled_residuals, [0, 0.25, 0.5, 0.75, 1])
        cells = [f"{v:.4f}" for v in quantiles]
        return ["Scaled residuals:", Grid(["Min", "1Q", "Median", "3Q", "Max"], [cells])]

    def _correlation(self) -> Block:
        p = len(self.vcov)
        if p < 2:
            return []
        if p > MOST_CORRELATED:
            return [f"Correlation of the {p} fixed effects not shown; see fit.vcov"]
        names = list(self.coefficients.index)
        return ["Correlation of Fixed Effects:", correlation_table(names, self.vcov)]


def coefficient_table(coefficients: pd.DataFrame) -> list[str | Grid]:
    """Estimates and standard errors to a common number of decimals, df and t values to three."""
    columns = list(coefficients.columns)
    joint = align_decimals(coefficients.iloc[:, :2].to_numpy().ravel())
    cells = [
        [
            estimate.strip(),
            se.strip(),
            *(p_value(v) if name == P_COLUMN else f"{v:z.3f}" for name, v in rest.items()),
        ]
        for estimate, se, (_, rest) in zip(
            joint[::2], joint[1::2], coefficients.iloc[:, 2:].iterrows(), strict=True
        )
    ]
    if P_COLUMN in columns:
        columns.append("")
        for row, p in zip(cells, coefficients[P_COLUMN], strict=True):
            row.append(stars(p).ljust(3))
    table = Grid(columns, cells, list(coefficients.index))
    return [table, RULE, STARS_LEGEND] if P_COLUMN in columns else [table]


def p_value(p: float) -> str:
    """A p value as R prints it, "<2e-16" at the least.

    >>> [p_value(p) for p in (1e-20, 3.264e-6, 0.01234, 0.5)]
    ['<2e-16', '3.26e-06', '0.0123', '0.5000']
    """
    if p < 2.2e-16:
        return "<2e-16"
    return f"{p:.2e}" if p < 1e-4 else f"{p:.4f}"


def stars(p: float) -> str:
    """R's stars.

    >>> [stars(p) for p in (1e-4, 0.005, 0.03, 0.07, 0.5)]
    ['***', '**', '*', '.', '']
    """
    return next((mark for bound, mark in STARS if p < bound), "")


def correlation_table(names: Sequence[str], vcov: Floats) -> Grid:
    """Lower triangle of the correlation of the fixed effects under abbreviated names.

    Beside a negative correlation the others keep a place for the sign, and −0.000 has none: as R.
    """
    corr = correlation(np.asarray(vcov)).round(3) + 0.0
    sign = " " if (np.tril(corr, -1) < 0.0).any() else ""
    rows = [
        [f"{corr[i, j]:{sign}.3f}" if j < i else "" for j in range(len(names) - 1)]
        for i in range(1, len(names))
    ]
    table = Grid(abbreviate(names[:-1], 6), rows, abbreviate(names[1:], 11), "left")
    # Under heads on their left in plain text, as R; elsewhere as numbers are.
    return replace(table, align="right", plain=str(table))


def abbreviate(names: Sequence[str], length: int) -> list[str]:
    """Names of this length where that leaves them different, and longer ones else: R's rule.

    >>> abbreviate(["(Intercept)", "MEANSES", "x", "poly(x, 2)1", "poly(x, 2)2"], 6)
    ['(Intr)', 'MEANSE', 'x', 'p(,2)1', 'p(,2)2']
    """
    found, longest = [_shortened(name, length) for name in names], max(map(len, names), default=0)
    while length < longest and len(alike := {x for x in found if found.count(x) > 1}):
        length += 1
        found = [
            _shortened(name, length) if short in alike else short
            for name, short in zip(names, found, strict=True)
        ]
    return found


def _shortened(name: str, length: int) -> str:
    """A name without blanks, lower-case vowels, lower-case letters and others, while it is long.

    Each from the right, letters at ends of words first; the first letter of a word stays.
    """
    if len(name) <= length:
        return name
    words = name.split()
    for letters, ends in DROPPED:
        for w in reversed(range(len(words))):
            at = len(words[w]) - 1
            while at > 0 and sum(map(len, words)) > length:
                word = words[w]
                if letters is None or word[at] in letters:
                    words[w] = word[:at] + word[at + 1 :]
                at = 0 if ends else at - 1
    return "".join(words)
