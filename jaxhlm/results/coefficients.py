"""The fixed effects: degrees of freedom, tests and contrasts, of all fits at once.

A fit that failed has NaN in every result, as has what is about a column of X that its rows lack.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from jaxhlm.core.notation import Array, Bools, Floats, Ints
from jaxhlm.errors import UnknownTermError
from jaxhlm.estimation.estimates import Estimates
from jaxhlm.estimation.hypotheses import Contrasts, independent_rows
from jaxhlm.inference import contrast_tests
from jaxhlm.inference.contrast_information import Tile
from jaxhlm.inference.contrast_tests import SMALL_SAMPLE, DfMethod, check_df
from jaxhlm.inference.criteria import check_level
from jaxhlm.inference.tails import f_tail, t_tail
from jaxhlm.results.f_tests import f_tests
from jaxhlm.results.information import keep_information, over_information
from jaxhlm.results.moderated import df_residual
from jaxhlm.results.record import PER_FIT, FitRecord
from jaxhlm.results.term_tests import term_names
from jaxhlm.results.tidy import inference_table
from jaxhlm.statistics.response import at_absent

__all__ = [
    "adjusted_vcov",
    "columns_of",
    "contrasts",
    "fixed_tests",
    "joint_rows",
    "joint_test",
    "tests",
    "with_tests",
    "without",
]


def tests(fits: FitRecord, L: Floats, method: DfMethod) -> tuple[Floats, ...]:
    """Standard errors, df and p values of Lβ = 0, (B, r), for L (r, p) or (B, r, p)."""
    check_df(method, fits.model.reml)
    if method in SMALL_SAMPLE:

        def one(at: Ints, found: Estimates, tiles: Iterable[Tile]) -> tuple[Floats, ...]:
            own = L if L.ndim == 2 else L[at]
            se, df = contrast_tests.single_tests(found, tiles, own)
            # The tails take as long as the df: both belong on all cores.
            return se, df, _tails(own, found, se, df)

        return over_information(fits, method, one)
    se, df = contrast_tests.reference_tests(fits.estimates, fits.nobs, L, method)
    return se, df, _tails(L, fits.filled, se, df)


def fixed_tests(fits: FitRecord, method: DfMethod) -> tuple[Floats, ...]:
    """Standard errors, df and p values of the fixed effects, (B, p), kept for the next call."""
    check_df(method, fits.model.reml)
    if fits.known(method).tests is None:
        L = np.eye(len(fits.model.xnames))
        found = tests(fits, without(L, fits.about_absent(L)), method)
        # What the tests took of the data may be kept by now.
        fits.tests[method] = replace(fits.known(method), tests=found)
    known = fits.known(method).tests
    assert known is not None
    return known


def with_tests(fits: FitRecord, df: DfMethod | Sequence[DfMethod] | None) -> FitRecord:
    """The fits with what any contrast's test by some methods takes of the data, and no other.

    Args:
        fits: the fits.
        df: the methods; None for Satterthwaite's where there are data, and else for those known.
    """
    if df is None and (fits.source is None or not len(fits)):
        return fits
    methods: Any = [df] if isinstance(df, str) or not isinstance(df, Sequence) else df
    methods = ["satterthwaite"] if df is None else methods
    found = replace(fits, tests=dict(fits.tests))
    for method in methods:
        fixed_tests(found, method)
        if method in SMALL_SAMPLE:
            keep_information(found, method)
    asked = replace(fits, tests={method: found.tests[method] for method in methods})
    asked.kept.update({name: fits.kept[name] for name in PER_FIT if name in fits.kept})
    if fits.source is not None and any(method in SMALL_SAMPLE for method in methods):
        asked.kept["df_residual"] = df_residual(fits)
    return asked


def adjusted_vcov(fits: FitRecord) -> Floats:
    """(B, p, p) Kenward and Roger's adjusted covariances of β̂."""
    check_df("kenward-roger", fits.model.reml)
    found = over_information(
        fits, "kenward-roger", lambda _, e, tiles: contrast_tests.adjusted_vcov(e, tiles)
    )
    return at_absent(found[0], fits.estimates.absent)


def contrasts(
    fits: FitRecord, L: Contrasts, df: DfMethod, rhs: ArrayLike, conf_level: float
) -> tuple[dict[str, Floats], pd.Index]:
    """Estimates and t tests of the rows of Lβ = rhs, (B, r) each, and their labels."""
    hypothesis = fits.model.hypothesis(L, rhs)
    about = fits.about_absent(hypothesis.L)
    fits.tell_not_estimable(about, hypothesis.labels, "contrasts")
    columns = columns_of(fits, without(hypothesis.L, about), df, conf_level, hypothesis.rhs)
    return columns, pd.Index(hypothesis.labels, name="contrast")


def joint_test(fits: FitRecord, L: Contrasts, df: DfMethod, rhs: ArrayLike) -> dict[str, Array]:
    """F tests that all rows of Lβ = rhs hold, (B,) each."""
    check_df(df, fits.model.reml)
    rows, values, about = joint_rows(fits, L, rhs)
    F, den, _ = f_tests(fits, [(rows, values)], df)
    F, den = (np.where(about, np.nan, x[:, 0]) for x in (F, den))
    p_value = f_tail(F, len(rows), den)
    return {"num_df": len(rows), "den_df": den, "statistic": F, "p_value": p_value}


def joint_rows(fits: FitRecord, L: Contrasts, rhs: ArrayLike) -> tuple[Floats, Floats, Bools]:
    """Independent rows (r, p) and right sides of Lβ = rhs, and (B,) fits that lack a column."""
    try:
        hypothesis = fits.model.hypothesis(_terms_spelled_out(fits, L), rhs)
    except UnknownTermError as error:
        if fits.source is not None:
            raise
        raise UnknownTermError(
            f"{error}; fits without their data do not know which of them make up a term: name all, "
            'as in "gb = 0, gc = 0"'
        ) from None
    about = fits.about_absent(hypothesis.L)
    fits.tell_not_estimable(about, hypothesis.labels, "hypotheses of the joint test")
    return *independent_rows(hypothesis), np.asarray(about.any(axis=1))


def _terms_spelled_out(fits: FitRecord, L: Contrasts) -> Any:
    """Hypotheses in which the name of a term stands for all of its columns."""
    rows = [L] if isinstance(L, str) else L
    if not isinstance(rows, list) or not any(isinstance(row, str) for row in rows):
        return L
    terms, out = term_names(fits), list[Any]()
    for row in rows:
        columns = terms.get(row.strip(), []) if isinstance(row, str) else []
        known = isinstance(row, str) and row.strip() in fits.model.xnames
        out += [row] if known or not columns else [{name: 1.0} for name in columns]
    return L if out == rows else out


def columns_of(
    fits: FitRecord, L: Floats, method: DfMethod, level: float, rhs: Floats | float = 0.0
) -> dict[str, Floats]:
    """Columns (B, r) of estimates, tests and intervals of contrasts (r, p) or (B, r, p)."""
    check_level(level, "conf_level")
    se, df = tests(fits, L, method)[:2]
    return inference_table(_values(L, fits.filled), se, df, rhs, level)


def without(L: Floats, about: Bools) -> Floats:
    """Contrasts (r, p) or (B, r, p), NaN where they are ``about`` absent columns, (B, r)."""
    return np.where(about[:, :, None], np.nan, L) if about.any() else L


def _tails(L: Floats, estimates: Estimates, se: Floats, df: Floats) -> Floats:
    """Two-sided p values (B, r) of Lβ = 0; NaN for a row of zeros."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return t_tail(_values(L, estimates) / se, df)


def _values(L: Floats, estimates: Estimates) -> Floats:
    """Lβ̂ (B, r) for L (r, p) or (B, r, p)."""
    return (L @ estimates.beta[..., None])[..., 0]
