"""``table``: several fits side by side, estimates over standard errors, as papers print them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import check_flag, check_mapping, whole_number
from jaxhlm.core.document import WIDTH, Block, Grid
from jaxhlm.core.exported import Exported
from jaxhlm.core.notation import check_option
from jaxhlm.core.status import Status
from jaxhlm.errors import OptionError
from jaxhlm.inference.contrast_tests import METHOD_NAMES, DfMethod, check_df
from jaxhlm.inference.criteria import check_level
from jaxhlm.inference.parameters import parameter_values, parameters, position
from jaxhlm.results import summary_table
from jaxhlm.results.fit import Fit
from jaxhlm.results.summary_table import STARS_LEGEND
from jaxhlm.results.varcorr import number_style

__all__ = ["Below", "ModelTable", "table"]

# What stands below an estimate.
Below: TypeAlias = Literal["std_error", "ci", "p_value"]
# Part, name, and what of it.
Key: TypeAlias = tuple[str, str, str]

MOST_FITS = 50
SHARES = ("R² marginal", "R² conditional", "ICC")
YES_OR_NO = ("REML", "Weights", "Offset")
FIXED, RANDOM, CRITERIA = "Fixed effects", "Random effects", "Fit"
DECIMALS = dict.fromkeys(("Log-likelihood", "AIC", "BIC"), 1) | dict.fromkeys(SHARES, 3)
SMALLEST_P = 0.001  # that is printed
NOT_COMPARABLE = (
    "By REML, likelihoods, AIC and BIC compare models with the same fixed effects\n"
    "only: fit all with reml=False to compare these"
)


@dataclass(frozen=True, eq=False, repr=False)
class ModelTable(Exported):
    """Fits side by side; made by ``jaxhlm.table``.

    Attributes:
        frame: numbers, a column for each fit. Rows by part ("Fixed effects", "Random effects",
            "Fit"), name and value: "estimate", "std_error" and, where they were asked for,
            "conf_low", "conf_high" and "p_value". NaN where a model does not have it.
        below: what is printed below an estimate.
        stars: whether p values are marked in print.
        labels: what terms and parameters are called in print.
        digits: of the smallest standard error in print.
        notes: lines under the table.
    """

    frame: pd.DataFrame
    below: tuple[Below, ...]
    stars: bool
    labels: Mapping[str, str]
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
            styles = self._styles(str(part), of_part.droplevel("part"))
            for name, values in of_part.droplevel("part").groupby(level="name", sort=False):
                lines = self._lines(str(part), str(name), values.droplevel("name"), styles)
                names += [self._label(str(name)), *[""] * (len(lines) - 1)]
                rows += lines
        # Numbers end one below the other, whatever follows them.
        ends = [[len(cell) - len(cell.rstrip(").*]")) for cell in row] for row in rows]
        widest = max(map(max, ends))
        padded = [
            [cell + " " * (widest - end) for cell, end in zip(row, own, strict=True)]
            for row, own in zip(rows, ends, strict=True)
        ]
        columns = [f"{name}{' ' * widest}" for name in self.frame]
        grid = Grid(columns, padded, names, "center", headings)
        return [[replace(grid, plain=_within(grid, WIDTH))], self.notes]

    def _label(self, name: str) -> str:
        """That of the whole name, or of every variable of an interaction."""
        factors = (self.labels.get(factor, factor) for factor in name.split(":"))
        return self.labels.get(name, ":".join(factors))

    def _styles(self, part: str, values: pd.DataFrame) -> list[str]:
        """Formats of the numbers of every fit, all of a part with one count of decimals."""
        if part == CRITERIA:
            return []
        if part == RANDOM:
            sizes = values.copy()
            # Correlations are as large as 1, and have no more decimals than standard deviations.
            sizes[sizes.index.get_level_values("name").str.startswith("cor_")] = 1.0
        else:
            estimate, se = (values.xs(what, level="value") for what in ("estimate", "std_error"))
            # A standard error that is not known says nothing about how many decimals are.
            sizes = se.where(np.isfinite(se) & (se > 0.0), estimate)
        return [number_style(own, self.digits) for _, own in sizes.items()]

    def _lines(
        self, part: str, name: str, values: pd.DataFrame, styles: Sequence[str]
    ) -> list[list[str]]:
        """The lines of one parameter or statistic."""
        estimate = values.loc["estimate"]
        if part == CRITERIA:
            return [[_criterion(name, v) for v in estimate]]
        cells = _cells(estimate, styles)
        if part == RANDOM:
            return [cells]
        if self.stars:
            marks = map(summary_table.stars, values.loc["p_value"])
            cells = [cell + mark for cell, mark in zip(cells, marks, strict=True)]
        return [cells, *(self._below(what, values, styles) for what in self.below)]

    def _below(self, what: Below, values: pd.DataFrame, styles: Sequence[str]) -> list[str]:
        if what == "p_value":
            return [_p_cell(p) for p in values.loc["p_value"]]
        if what == "std_error":
            return [cell and f"({cell})" for cell in _cells(values.loc["std_error"], styles)]
        low, high = (_cells(values.loc[name], styles) for name in ("conf_low", "conf_high"))
        return [a and f"[{a}, {b}]" for a, b in zip(low, high, strict=True)]


def table(
    fits: Iterable[Fit] | Mapping[str, Fit],
    *,
    below: Below | Sequence[Below] = "std_error",
    labels: Mapping[str, str] | None = None,
    r2: bool = False,
    digits: int = 3,
    stars: bool = False,
    df: DfMethod = "satterthwaite",
    conf_level: float = 0.95,
) -> ModelTable:
    """Several fits side by side, as ``fixest::etable``.

    Fixed effects are estimates over their standard errors in parentheses; below are the standard
    deviations and correlations of the random effects, named as ``confint`` names them, and the
    fit's own statistics. Fits that 80 columns do not hold are printed below the others.

    Args:
        fits: one or more, whose columns are named by their response, and numbered where they have
            the same; or a dict, whose keys name the columns; or a ``FitBatch`` of at most 50.
        below: what stands below an estimate, one or several in this order: "std_error" in
            parentheses, "ci" a confidence interval in brackets, "p_value".
        labels: what to print in place of names of terms and other parameters, by name; that of
            "x" also within "x:a", which may have one of its own.
        r2: also show marginal and conditional R² (``Fit.r2``) and the intraclass correlation
            (``Fit.icc``).
        digits: of the smallest standard error of a fit in print, and of its smallest standard
            deviation; all estimates of its fixed effects, and all of its random ones, have as many
            decimals.
        stars: mark the p values of the fixed effects, as ``summary`` does; a note says the levels
            and the method.
        df: method of the p values and intervals, as for ``Fit.df``. "kenward-roger" has its own
            standard errors, which are shown with stars or without.
        conf_level: of the intervals.

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
        >>> both = {"flat": flat, "line": line}
        >>> print(hlm.table(both, below="ci", labels={"Days": "Days without sleep"}, r2=True))
                                                flat             line
        Fixed effects
        (Intercept)                           298.51           251.41
                                     [280.03, 316.99] [237.47, 265.34]
        Days without sleep                                      10.47
                                                         [7.31, 13.62]
        Random effects
        sd_(Intercept)|Subject                 34.59            23.78
        cor_Days.(Intercept)|Subject                             0.08
        sd_Days|Subject                                          5.72
        sigma                                  44.26            25.59
        Fit
        Log-likelihood                        -955.3           -876.0
        AIC                                   1916.5           1763.9
        BIC                                   1926.1           1783.1
        REML                                      no               no
        Observations                             180              180
        Groups: Subject                           18               18
        R² marginal                            0.000            0.288
        R² conditional                         0.379            0.793
        ICC                                    0.379            0.709
        <BLANKLINE>
        95 % confidence intervals in brackets
        intervals: Satterthwaite's method
    """
    named = _named(fits)
    check_flag("stars", stars)
    check_flag("r2", r2)
    digits = whole_number("digits", digits)
    check_level(conf_level, "conf_level")
    shown = _shown_below(below)
    for fit in named.values():
        check_df(df, fit.reml)
    asked = {*shown, *["p_value"] * stars}
    columns = {
        name: _column(fit, df, asked, conf_level) | (_shares(fit) if r2 else {})
        for name, fit in named.items()
    }
    keys = _merged([list(column) for column in columns.values()])
    index = _ordered(keys)
    frame = pd.DataFrame(
        {name: [column.get(key, np.nan) for key in keys] for name, column in columns.items()}, index
    )
    notes = (*_told(shown, df, stars, conf_level), *_cautions(named))
    return ModelTable(frame, shown, stars, _labels(labels, keys), digits, notes)


def _shown_below(below: Any) -> tuple[Below, ...]:
    names = [below] if isinstance(below, str) else below
    if not isinstance(names, Sequence):
        raise OptionError(f"below={below!r}: give a name, or a list of them")
    for name in names:
        check_option("below", name, Below)
    return cast(tuple[Below, ...], tuple(dict.fromkeys(names)))


def _labels(labels: Any, keys: Sequence[Key]) -> dict[str, str]:
    names = dict.fromkeys(name for _, name, _ in keys)
    factors = (factor for part, name, _ in keys if part == FIXED for factor in name.split(":"))
    known = {*names, *factors}
    found = {} if labels is None else dict(check_mapping("labels", labels))
    for name, label in found.items():
        if name not in known:
            raise OptionError(
                f"labels names {name!r}, which is not in the table; its names are "
                f"{', '.join(map(repr, names))} (a dict of fits names the columns)"
            )
        if not isinstance(label, str):
            raise OptionError(f"labels[{name!r}]={label!r} must be text")
    return found


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


def _column(fit: Fit, df: DfMethod, asked: set[str], conf_level: float) -> dict[Key, float]:
    """All numbers of one fit."""
    told = pd.DataFrame({"estimate": fit.fixef, "std_error": fit.se})
    if asked - {"std_error"} or df == "kenward-roger":
        tested = fit.tidy(df, conf_level).iloc[: len(told)].set_index("term")
        own = {"ci": ["conf_low", "conf_high"], "p_value": ["p_value"]}
        more = [name for what in own if what in asked for name in own[what]]
        told = tested[["estimate", "std_error", *more]]
    column: dict[Key, float] = {
        (FIXED, name, value): numbers[value] for name, numbers in told.iterrows() for value in told
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
    given = {"Weights": fit.design.weights, "Offset": fit.design.offset}
    criteria |= {name: 1.0 for name, values in given.items() if values is not None}
    return column | {(CRITERIA, name, "estimate"): value for name, value in criteria.items()}


def _merged(columns: Iterable[Iterable[Key]]) -> list[Key]:
    """The rows of all columns, part after part, each as first met; σ ends its part."""
    keys = dict.fromkeys(key for column in columns for key in column)
    parts = (FIXED, RANDOM, CRITERIA)
    return sorted(keys, key=lambda key: (parts.index(key[0]), key[:2] == (RANDOM, "sigma")))


def _shares(fit: Fit) -> dict[Key, float]:
    """R² and the intraclass correlation."""
    found = (*fit.r2(), fit.icc())
    return {(CRITERIA, name, "estimate"): v for name, v in zip(SHARES, found, strict=True)}


def _criterion(name: str, value: float) -> str:
    if name in YES_OR_NO:
        return "yes" if value == 1.0 else "no"
    return _cell(value, f".{DECIMALS[name]}f" if name in DECIMALS else ",.0f")


def _cells(values: Iterable[float], styles: Iterable[str]) -> list[str]:
    return [_cell(value, style) for value, style in zip(values, styles, strict=True)]


def _cell(value: float, style: str) -> str:
    return f"{value:z{style}}" if np.isfinite(value) else ""


def _p_cell(p: float) -> str:
    if not np.isfinite(p):
        return ""
    return f"p = {p:.3f}" if p >= SMALLEST_P else f"p < {SMALLEST_P}"


def _within(grid: Grid, width: int) -> str:
    """A table as text, whose columns go on below where lines would be longer."""
    parts = [list(column) for column in zip(grid.columns, *grid.rows, strict=True)]
    room = width - max(map(len, grid.names or ()), default=0)
    panels: list[list[list[str]]] = [[]]
    left = room
    for part in parts:
        taken = 1 + max(map(len, part))
        if panels[-1] and taken > left:
            panels.append([])
            left = room
        panels[-1].append(part)
        left -= taken
    tables = (zip(*panel, strict=True) for panel in panels)
    return "\n\n".join(
        str(replace(grid, columns=head, rows=rows)) for head, *rows in map(list, tables)
    )


def _told(below: Sequence[Below], df: DfMethod, stars: bool, level: float) -> Iterator[str]:
    """What the table shows, and by which method."""
    how = f" ({METHOD_NAMES[df]})" if df == "kenward-roger" else ""
    shown = {
        "std_error": f"standard errors{how} in parentheses",
        "ci": f"{100 * level:g} % confidence intervals in brackets",
    }
    if told := "; ".join(shown[what] for what in below if what in shown):
        yield told[0].upper() + told[1:]
    if stars:
        yield STARS_LEGEND
    tests = ["p values"] * (stars or "p_value" in below) + ["intervals"] * ("ci" in below)
    if tests:
        yield f"{' and '.join(tests)}: {METHOD_NAMES[df]}"


def _cautions(named: Mapping[str, Fit]) -> Iterator[str]:
    """How fits ended, and what cannot be compared."""
    for name, fit in named.items():
        if fit.status != Status.CONVERGED:
            yield f"{name}: {fit.status.message}"
    models = {(fit.reml, *fit.model.xnames) for fit in named.values()}
    if len(models) > 1 and any(fit.reml for fit in named.values()):
        yield NOT_COMPARABLE
