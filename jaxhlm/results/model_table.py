"""``table``: several fits side by side, estimates over standard errors, as papers print them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import check_flag, whole_number
from jaxhlm.core.document import Block, Grid
from jaxhlm.core.exported import Exported
from jaxhlm.core.status import Status
from jaxhlm.errors import OptionError
from jaxhlm.inference.contrast_tests import METHOD_NAMES, DfMethod, check_df
from jaxhlm.inference.parameters import parameter_values, parameters, position
from jaxhlm.results import summary_table
from jaxhlm.results.coefficients import fixed_tests
from jaxhlm.results.fit import Fit
from jaxhlm.results.summary_table import STARS_LEGEND
from jaxhlm.results.varcorr import number_style

__all__ = ["ModelTable", "table"]

# Part, name, and what of it.
Key: TypeAlias = tuple[str, str, str]

MOST_FITS = 50
FIXED, RANDOM, CRITERIA = "Fixed effects", "Random effects", "Fit"
NOT_COMPARABLE = (
    "By REML likelihoods, AIC and BIC compare models with the same fixed effects only: fit all "
    "with reml=False to compare these"
)


@dataclass(frozen=True, eq=False, repr=False)
class ModelTable(Exported):
    """Fits side by side; made by ``jaxhlm.table``.

    Attributes:
        frame: numbers, a column for each fit. Rows by part ("Fixed effects", "Random effects",
            "Fit"), name and value: "estimate", "std_error" and, with stars, "p_value". NaN where a
            model does not have it.
        digits: of the standard errors in print.
        notes: lines under the table.
    """

    frame: pd.DataFrame
    digits: int
    notes: tuple[str, ...]

    def _blocks(self) -> list[Block]:
        names: list[str] = []
        rows: list[list[str]] = []
        headings: list[int] = []
        for part, of_part in self.frame.groupby(level="part", sort=False):
            headings.append(len(rows))
            names.append(str(part))
            rows.append([""] * self.frame.shape[1])
            for name, values in of_part.droplevel("part").groupby(level="name", sort=False):
                lines = self._lines(str(part), str(name), values.droplevel("name"))
                names += [str(name), *[""] * (len(lines) - 1)]
                rows += lines
        # Numbers end one below the other, whatever follows them.
        ends = [[len(cell) - len(cell.rstrip(").*")) for cell in row] for row in rows]
        widest = max(map(max, ends))
        padded = [
            [cell + " " * (widest - end) for cell, end in zip(row, own, strict=True)]
            for row, own in zip(rows, ends, strict=True)
        ]
        columns = [f"{name}{' ' * widest}" for name in self.frame]
        return [[Grid(columns, padded, names, "center", headings)], self.notes]

    def _lines(self, part: str, name: str, values: pd.DataFrame) -> list[list[str]]:
        """The lines of one parameter or statistic."""
        estimate = values.loc["estimate"]
        if part == CRITERIA:
            return [[_criterion(name, v) for v in estimate]]
        if part == RANDOM:
            return [[_random(name, v) for v in estimate]]
        se = values.loc["std_error"]
        p = values.loc["p_value"] if "p_value" in values.index else [np.nan] * len(se)
        # A standard error that is not known says nothing about how many decimals are.
        styles = [
            number_style([s if np.isfinite(s) and s > 0.0 else b], self.digits)
            for s, b in zip(se, estimate, strict=True)
        ]
        cells = [_cell(b, style) for b, style in zip(estimate, styles, strict=True)]
        below = [_cell(s, style) for s, style in zip(se, styles, strict=True)]
        marked = [cell + summary_table.stars(x) for cell, x in zip(cells, p, strict=True)]
        return [marked, [cell and f"({cell})" for cell in below]]


def table(
    fits: Iterable[Fit] | Mapping[str, Fit],
    *,
    digits: int = 3,
    stars: bool = False,
    df: DfMethod = "satterthwaite",
) -> ModelTable:
    """Several fits side by side, as ``fixest::etable``.

    Fixed effects are estimates over their standard errors in parentheses; below are the standard
    deviations and correlations of the random effects, named as ``confint`` names them, and the
    fit's own statistics.

    Args:
        fits: one or more, whose columns are named by their response, and numbered where they have
            the same; or a dict, whose keys name the columns; or a ``FitBatch`` of at most 50.
        digits: of every standard error in print; its estimate has as many decimals.
        stars: mark the p values of the fixed effects, as ``summary`` does; a note says the levels
            and the method.
        df: method of the p values, as for ``Fit.df``. "kenward-roger" has its own standard errors,
            which are shown with stars or without.

    Returns:
        ``ModelTable``: print it, take its ``.frame``, or write it by ``to_html``, ``to_latex``,
        ``to_markdown``, ``to_excel(path)``.

    Raises:
        OptionError: no fits, what is no fit, more than 50, or an argument not of its kind.
        NeedsRemlError: Kenward-Roger of a fit by maximum likelihood.

    Example:
        >>> import jaxhlm as hlm
        >>> data = hlm.load_dataset("sleepstudy")
        >>> flat = hlm.fit("Reaction ~ 1 + (1 | Subject)", data, reml=False)
        >>> line = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", data, reml=False)
        >>> print(hlm.table({"flat": flat, "line": line}, stars=True))
                                       flat      line
        Fixed effects
        (Intercept)                  298.51*** 251.41***
                                      (8.79)    (6.63)
        Days                                    10.47***
                                                (1.50)
        Random effects
        sd_(Intercept)|Subject        34.59     23.78
        cor_Days.(Intercept)|Subject            0.081
        sd_Days|Subject                         5.717
        sigma                         44.26     25.59
        Fit
        Log-likelihood               -955.3    -876.0
        AIC                          1916.5    1763.9
        BIC                          1926.1    1783.1
        REML                             no        no
        Observations                    180       180
        Groups: Subject                  18        18
        <BLANKLINE>
        Standard errors in parentheses
        Signif. codes:  0 ‘***’ 0.001 ‘**’ 0.01 ‘*’ 0.05 ‘.’ 0.1 ‘ ’ 1
        p values: Satterthwaite's method
    """
    named = _named(fits)
    check_flag("stars", stars)
    digits = whole_number("digits", digits)
    for fit in named.values():
        check_df(df, fit.reml)
    columns = {name: _column(fit, df, stars) for name, fit in named.items()}
    keys = _merged([list(column) for column in columns.values()])
    index = _ordered(keys)
    frame = pd.DataFrame(
        {name: [column.get(key, np.nan) for key in keys] for name, column in columns.items()}, index
    )
    return ModelTable(frame, digits, tuple(_notes(named, df, stars)))


def _named(fits: Any) -> dict[str, Fit]:
    """The fits by the names of their columns."""
    if isinstance(fits, Fit):
        fits = [fits]
    if isinstance(fits, str) or not np.iterable(fits):
        raise OptionError(f"fits={fits!r}: give a list of fits, or a dict of them by name")
    if isinstance(fits, Sized) and len(fits) > MOST_FITS:
        raise OptionError(
            f"fits holds {len(fits):,} fits, and a table at most {MOST_FITS}: choose some, such as "
            "fits[:10], or take fits.tidy()"
        )
    index = getattr(fits, "index", None)
    labels = list(fits) if isinstance(fits, Mapping) else index
    listed = list(fits.values() if isinstance(fits, Mapping) else fits)
    if not listed:
        raise OptionError("fits is empty: give one fit or more")
    for number, fit in enumerate(listed):
        if not isinstance(fit, Fit):
            raise OptionError(f"number {number} of fits is a {type(fit).__name__}, and no fit")
    if isinstance(labels, list | pd.Index):
        names = [str(label) for label in labels]
    else:
        names = [fit.model.response_name or "y" for fit in listed]
    if len({*names}) < len(names):
        names = [f"({number}) {name}" for number, name in enumerate(names, 1)]
    return dict(zip(names, listed, strict=True))


def _ordered(keys: Sequence[Key]) -> pd.MultiIndex:
    """The index of the rows; its levels are as first met, so that pandas sees them sorted."""
    columns = (pd.factorize(np.array(column, dtype=object)) for column in zip(*keys, strict=True))
    codes, levels = zip(*columns, strict=True)
    return pd.MultiIndex(levels, codes, names=["part", "name", "value"])


def _column(fit: Fit, df: DfMethod, tested: bool) -> dict[Key, float]:
    """All numbers of one fit."""
    told = {"estimate": fit.fixef, "std_error": fit.se}
    if tested or df == "kenward-roger":
        se, _, p = fixed_tests(fit.record, df)
        told["std_error"] = pd.Series(se[0], fit.fixef.index)
        told |= {"p_value": pd.Series(p[0], fit.fixef.index)} if tested else {}
    column: dict[Key, float] = {
        (FIXED, name, value): numbers[name]
        for name in fit.model.xnames
        for value, numbers in told.items()
    }
    values = parameter_values(fit.model, fit.estimates)[0]
    for parameter in parameters(fit.model):
        if parameter.kind != "fixed":
            at = position(fit.model, parameter)
            column[RANDOM, parameter.name, "estimate"] = values[at]
    criteria = {
        "Log-likelihood": fit.loglik,
        "AIC": fit.aic,
        "BIC": fit.bic,
        "REML": float(fit.reml),
        "Observations": fit.nobs,
        f"Groups: {fit.model.group_name}": fit.ngroups,
    }
    return column | {(CRITERIA, name, "estimate"): value for name, value in criteria.items()}


def _merged(columns: Iterable[Iterable[Key]]) -> list[Key]:
    """The rows of all columns, part after part, each as first met; σ ends its part."""
    keys = dict.fromkeys(key for column in columns for key in column)
    parts = (FIXED, RANDOM, CRITERIA)
    return sorted(keys, key=lambda key: (parts.index(key[0]), key[:2] == (RANDOM, "sigma")))


def _random(name: str, value: float) -> str:
    return _cell(value, ".3f" if name.startswith("cor_") else number_style([value]))


def _criterion(name: str, value: float) -> str:
    if name == "REML":
        return "yes" if value else "no"
    return _cell(value, ".1f" if name in ("Log-likelihood", "AIC", "BIC") else ",.0f")


def _cell(value: float, style: str) -> str:
    return f"{value:{style}}" if np.isfinite(value) else ""


def _notes(named: Mapping[str, Fit], df: DfMethod, tested: bool) -> Iterator[str]:
    how = f" ({METHOD_NAMES[df]})" if df == "kenward-roger" else ""
    yield f"Standard errors{how} in parentheses"
    if tested:
        yield STARS_LEGEND
        yield f"p values: {METHOD_NAMES[df]}"
    for name, fit in named.items():
        if fit.status != Status.CONVERGED:
            yield f"{name}: {fit.status.message}"
    models = {(fit.reml, *fit.model.xnames) for fit in named.values()}
    if len(models) > 1 and any(fit.reml for fit in named.values()):
        yield NOT_COMPARABLE
