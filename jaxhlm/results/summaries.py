"""What ``print`` shows of fits, and their statistics side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from jaxhlm.core.document import Block, framed
from jaxhlm.core.notation import Precision
from jaxhlm.core.status import Status, outcome
from jaxhlm.inference.contrast_tests import METHOD_NAMES, DfMethod
from jaxhlm.inference.parameters import parameter_names, parameter_values
from jaxhlm.results.coefficients import fixed_tests
from jaxhlm.results.presenters import OneFit
from jaxhlm.results.record import FitRecord
from jaxhlm.results.summary_table import Summary
from jaxhlm.results.tidy import inference_table
from jaxhlm.results.varcorr import VarCorr

# Fits that failed are told by name up to this many.
MOST_NAMED = 3
SINGLE = (
    "Precision: float32 in the search only; what decides every fit, its criterion and its\n"
    "estimates are float64 (see precision= of fit_many)"
)

__all__ = [
    "MOST_NAMED",
    "batch_blocks",
    "batch_heading",
    "failed_told",
    "glance",
    "incomplete_told",
    "parameter_summary",
    "precision_told",
    "summary",
    "varcorr",
]


def glance(fits: FitRecord) -> dict[str, Any]:
    """(B,) statistics of every fit, the columns of ``broom.mixed::glance``."""
    e = fits.estimates
    return {
        "nobs": fits.nobs,
        "ngroups": fits.ngroups,
        "sigma": e.sigma,
        "loglik": fits.loglik,
        "aic": fits.aic,
        "aicc": fits.aicc,
        "bic": fits.bic,
        "criterion": e.criterion,
        "df_residual": fits.nobs - fits.n_parameters,
        "reml": fits.model.reml,
        "singular": fits.singular,
        "status": [Status(s).name for s in e.status],
        "iterations": e.iterations,
    }


def varcorr(fit: FitRecord) -> VarCorr:
    """Variances and correlations of the random effects of one fit."""
    names = pd.Index(fit.model.znames)
    cov = pd.DataFrame(fit.estimates.cov[0], names, names)
    return VarCorr(cov, float(fit.estimates.sigma[0]), fit.model.terms)


def summary(fit: FitRecord, df: DfMethod | None) -> Summary:
    """lmer's summary of one fit, with tests if a method of their df is given."""
    e, show, some = fit.estimates, OneFit(fit), fit.rows_of(fit.lane_index)
    fixef = show.vector(e.beta, "fixef")
    table = pd.DataFrame({"Estimate": fixef, "Std. Error": show.vector(fit.se, "se")})
    table["t value"] = fixef / table["Std. Error"]
    if df is not None:
        se, dof, _ = fixed_tests(fit, df)
        columns = show.block(inference_table(e.beta, se, dof, 0.0, 0.95), show.terms)
        table["Std. Error"], table["t value"] = columns["std_error"], columns["statistic"]
        table.insert(2, "df", columns["df"])
        table["Pr(>|t|)"] = columns["p_value"]
    return Summary(
        formula=fit.model.formula,
        reml=fit.model.reml,
        criterion=float(e.criterion[0]),
        aic=float(fit.aic[0]),
        bic=float(fit.bic[0]),
        loglik=float(fit.loglik[0]),
        df_residual=int(fit.nobs[0] - fit.n_parameters[0]),
        scaled_residuals=some.rows.flat_rows(some.residual * some.rows.root_w / some.sigma),
        varcorr=varcorr(fit),
        nobs=int(fit.nobs[0]),
        ngroups=int(fit.ngroups[0]),
        coefficients=table,
        vcov=e.vcov[0],
        notes=_notes(fit),
        tests="" if df is None else METHOD_NAMES[df],
    )


def _notes(fit: FitRecord) -> tuple[str, ...]:
    d, status, notes = fit.rows.design, Status(int(fit.estimates.status[0])), []
    if d.n_dropped:
        notes.append(f"{d.n_dropped} row(s) dropped because of missing values")
    if d.dropped_columns:
        notes.append("dropped as rank deficient: " + ", ".join(d.dropped_columns))
    if status != Status.CONVERGED:
        notes.append(status.message)
    return tuple(notes)


def parameter_summary(fits: FitRecord) -> pd.DataFrame:
    """Mean, sd, range and median of each parameter over converged fits, and the mean SE."""
    values, se = parameter_values(fits.model, fits.estimates)[fits.ok], fits.se[fits.ok]
    terms = list(parameter_names(fits.model))
    table = pd.DataFrame(index=pd.Index(terms, name="term"))
    with np.errstate(all="ignore"):
        frame = pd.DataFrame(values, columns=terms)
        table["mean"], table["sd"] = frame.mean(), frame.std()
        table["min"], table["median"], table["max"] = frame.min(), frame.median(), frame.max()
        table["mean SE"] = pd.DataFrame(se, columns=list(fits.model.xnames)).mean()
    return table


def failed_told(failed: Sequence[Any]) -> list[str]:
    """The line that names the first fits that failed, of their labels."""
    named = ", ".join([*map(str, failed[:MOST_NAMED]), *["…"] * (len(failed) > MOST_NAMED)])
    return [f"  failed: {named}"] if len(failed) else []


def _incomplete(fits: FitRecord) -> list[str]:
    """How many responses lack values, of those on one design."""
    rows = fits.rows_given
    return [] if rows is None else incomplete_told(int((fits.nobs < rows).sum()))


def incomplete_told(count: int) -> list[str]:
    """The line on responses that lack values, if there are any."""
    return [f"With missing values, fitted on the rest: {count:,}"] if count else []


def precision_told(precision: Precision) -> list[str]:
    """The line on how fits were searched, where that is not the rule."""
    return [SINGLE] if precision == "float32" else []


def batch_blocks(fits: FitRecord) -> list[Block]:
    """Counts, then the summary of the parameters."""
    head = [batch_heading(fits)]
    return [head, [framed(parameter_summary(fits))]] if fits.ok.any() else [head]


def batch_heading(fits: FitRecord) -> str:
    """What was fitted, and what became of it: counts, and the reasons of failures."""
    method = "REML" if fits.model.reml else "maximum likelihood"
    head = [
        f"{len(fits):,} linear mixed model {'fit' if len(fits) == 1 else 'fits'} by {method}",
        f"Formula: {fits.model.formula}",
        *outcome(fits.estimates.status),
        *failed_told(fits.index[~fits.ok].tolist()),
        *_incomplete(fits),
        *precision_told(fits.options.precision),
    ]
    if absent := int(fits.estimates.absent.any(axis=1).sum()):
        head.append(f"Without some coefficient (NaN: no row has that level): {absent:,}")
    return "\n".join(head)
