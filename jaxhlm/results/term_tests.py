"""F tests of the terms of the fixed part, of all fits at once: analysis of variance, ``drop1``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from jaxhlm.core.notation import Floats, Ints, check_option
from jaxhlm.design.design import Design
from jaxhlm.errors import OptionError, UnknownTermError
from jaxhlm.inference.contrast_tests import METHOD_NAMES, DfMethod, check_df
from jaxhlm.inference.tails import f_tail
from jaxhlm.inference.term_contrasts import (
    TermColumns,
    TermTest,
    TestType,
    removal,
    term_columns,
    type_three,
)
from jaxhlm.results.f_tests import f_tests
from jaxhlm.results.record import FitRecord
from jaxhlm.sources.lanes import Lanes

__all__ = ["TermTable", "analysis_of_variance", "single_deletions", "term_names"]


@dataclass(frozen=True)
class TermTable:
    """Tests of terms.

    Attributes:
        heading: what is tested.
        columns: (B, T) each, named as by ``lmerTest``.
        labels: T names of the terms.
    """

    heading: str
    columns: dict[str, Floats]
    labels: pd.Index


def analysis_of_variance(fits: FitRecord, test: TestType | None, df: DfMethod | None) -> TermTable:
    """An F test of every term; type III and Satterthwaite's df by default."""
    test = "III" if test is None else test
    df = "satterthwaite" if df is None else df
    check_option("type", test, TestType)
    names, columns = _tests(fits, test, df)
    heading = f"Type {test} Analysis of Variance Table with {METHOD_NAMES[df]}"
    return TermTable(heading, columns, pd.Index(names, name="term"))


def single_deletions(fits: FitRecord, scope: str | Sequence[str] | None, df: DfMethod) -> TermTable:
    """An F test of every term, or those of ``scope``, that can be left out by itself."""
    terms = term_columns(fits.rows.design)
    marginal = [x for x, may in zip(terms.labels, terms.marginal, strict=True) if may]
    chosen = _chosen(scope, marginal, terms.labels)
    names, columns = _tests(fits, "removal", df)
    at = [names.index(name) for name in chosen]
    heading = f"Single term deletions using {METHOD_NAMES[df]}\nModel: {fits.model.formula}"
    found = {name: values[:, at] for name, values in columns.items()}
    return TermTable(heading, found, pd.Index(chosen, name="term"))


def term_names(fits: FitRecord) -> dict[str, list[str]]:
    """The columns of X of every term of the fixed part, by its name; none without the data."""
    if fits.source is None:
        return {}
    terms, names = term_columns(fits.rows.design), fits.model.xnames
    columns = zip(terms.labels, terms.columns, strict=True)
    return {label: [names[j] for j in at.tolist()] for label, at in columns}


def _chosen(
    scope: str | Sequence[str] | None, marginal: Sequence[str], labels: Sequence[str]
) -> list[str]:
    if scope is None:
        return list(marginal)
    names = [scope] if isinstance(scope, str) or not np.iterable(scope) else list(scope)
    for name in names:
        if name not in labels:
            raise UnknownTermError(
                f"scope has {name!r}, which is no term of the fixed part; terms that can be left "
                "out are: " + (", ".join(map(repr, marginal)) or "none")
            )
        if name not in marginal:
            raise OptionError(
                f"scope has {name!r}, which other terms contain: only "
                f"{', '.join(map(repr, marginal))} can be left out by themselves; "
                "anova() tests every term"
            )
    if not names:
        raise OptionError("scope=[] names no term; leave it out for all that can be left out")
    return names


@np.errstate(all="ignore")
def _tests(fits: FitRecord, test: TermTest, df: DfMethod) -> tuple[list[str], dict[str, Floats]]:
    """Names of the terms and the columns (B, T) of their tests.

    A fit whose rows lack columns of X is tested by itself, as ``fit`` would on its rows.
    """
    check_df(df, fits.model.reml)
    terms = term_columns(fits.rows.design)
    found = _together(fits, terms, test, df)
    lacking = fits.estimates.absent.any(axis=1) & fits.ok
    for i in np.flatnonzero(lacking).tolist():
        own = fits.one(i)
        for values, one in zip(
            found, _together(own, term_columns(own.rows.design), test, df), strict=True
        ):
            values[i] = one[0]
    rows, den, F, scale = found
    mean = F / scale * fits.estimates.sigma[:, None] ** 2
    p = np.full(F.shape, np.nan)
    for r in np.unique(rows[np.isfinite(rows)]):
        at = rows == r
        p[at] = f_tail(F[at], int(r), den[at])
    columns = (mean * rows, mean, rows, den, F, p)
    names = ("Sum Sq", "Mean Sq", "NumDF", "DenDF", "F value", "Pr(>F)")
    return list(terms.labels), dict(zip(names, columns, strict=True))


def _together(
    fits: FitRecord, terms: TermColumns, test: TermTest, df: DfMethod
) -> tuple[Floats, ...]:
    """Rows, denominator df, F and λ, (B, T) each, of fits that have all columns of X.

    NaN for a term that has none.
    """
    B, T = len(fits), len(terms.labels)
    L = _contrasts(fits, terms, test)
    sizes = np.array([one.shape[-2] for one in L], dtype=float)
    tested = np.flatnonzero(sizes > 0.0).tolist()
    hypotheses = [(L[t], np.zeros(L[t].shape[-2])) for t in tested]

    out = np.full((3, B, T), np.nan)
    if tested:
        F, den, scale = f_tests(fits, hypotheses, df)
        out[:, :, tested] = den, F, scale
    return np.tile(np.where(sizes > 0.0, sizes, np.nan), (B, 1)), *out


def _contrasts(fits: FitRecord, terms: TermColumns, test: TermTest) -> list[Floats]:
    """(rows, p) of every term, or (B, rows, p) where they depend on the rows of a data set."""
    from_rows = terms.from_rows(test)
    if from_rows is None:
        of_design = removal if test == "removal" else type_three
        found = of_design(fits.rows.design, terms)
        return _apart(fits, terms, found, of_design) if fits.rows.design.learned_apart else found

    def one(at: Ints) -> tuple[Floats]:
        L = np.stack([np.concatenate(from_rows(X)) for X in _rows(fits.lanes(at))])
        return (np.broadcast_to(L, (len(at), *L.shape[1:])),)

    sizes = [len(at) for at in terms.columns]
    return np.split(fits.over_chunks(one)[0], np.cumsum(sizes)[:-1], axis=1)


def _apart(
    fits: FitRecord,
    terms: TermColumns,
    like: list[Floats],
    of_design: Callable[[Design, TermColumns], list[Floats]],
) -> list[Floats]:
    """(B, rows, p) of every term, of data sets whose columns are not those of all rows together.

    NaN for those without estimates, or not of all columns.
    """
    found = [np.full((len(fits), *L.shape), np.nan) for L in like]
    whole = fits.ok & ~fits.estimates.absent.any(axis=1)
    for i in np.flatnonzero(whole).tolist():
        for every, L in zip(found, of_design(fits.design(i), terms), strict=True):
            if L.shape == every.shape[1:]:
                every[i] = L
    return found


def _rows(lanes: Lanes) -> list[Any]:
    """X of every data set, or of the one design that they share."""
    if lanes.prepared is not None:
        return [lanes.prepared.design.X]
    rows = lanes.observations.rows
    return np.split(rows.X, np.flatnonzero(np.diff(rows.lane)) + 1)
