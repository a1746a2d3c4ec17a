"""Confidence intervals of all fits, and the profiles behind them.

What profiles and bootstraps need is imported when they are asked for: a fit alone starts sooner.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import affordable, whole_number
from jaxhlm.core.notation import BootstrapInterval, Floats, check_option
from jaxhlm.core.status import converged
from jaxhlm.core.streams import Seed
from jaxhlm.errors import ConvergenceWarning, OptionError, warn_user
from jaxhlm.estimation.estimates import Estimates, estimate_bytes
from jaxhlm.estimation.pipeline import all_or_nothing, fit_lanes
from jaxhlm.inference.criteria import check_level, limit_names, wald_interval
from jaxhlm.inference.parameters import (
    Parameter,
    choose,
    parameter_values,
    parameters,
    position,
)
from jaxhlm.results.presenters import long_table
from jaxhlm.results.quality import left_out
from jaxhlm.results.record import FitRecord
from jaxhlm.statistics.response import Standardised

__all__ = ["bootstrap_confint", "confint", "profile_frame"]

Parameters = tuple[Parameter, ...]
Names = str | Sequence[str] | None


def confint(
    fits: FitRecord, method: Literal["wald", "profile"], level: float, parm: Names
) -> pd.DataFrame:
    """Limits of the parameters, one row per fit and parameter: term, and the two limits."""
    check_level(level)
    known = parameters(fits.model)
    if method == "profile":
        wanted = choose(known, parm)
        return _frame(wanted, _profile_limits(fits, wanted, level), level)
    wanted = choose([p for p in known if p.kind == "fixed"], parm)
    at = [p.at[0] for p in wanted]
    limits = wald_interval(fits.estimates.beta[:, at], fits.se[:, at], level)
    return _frame(wanted, np.stack(limits, axis=2), level)


def _profile_limits(fits: FitRecord, wanted: Parameters, level: float) -> Floats:
    """(B, P, 2) limits from the profiles of the ML deviance."""
    from jaxhlm.inference.profiles import profile_limits

    def profile(_: Estimates, standardised: Standardised) -> tuple[Floats]:
        return (profile_limits(standardised, fits.model.blocks, wanted, level),)

    (limits,) = fits.over_lanes(profile)
    for k, p in enumerate(wanted):
        if p.kind == "fixed":
            limits[fits.estimates.absent[:, p.at[0]], k] = np.nan
    return limits


def bootstrap_confint(
    fit: FitRecord, level: float, parm: Names, n: int, seed: Seed, interval: BootstrapInterval
) -> pd.DataFrame:
    """As ``confint``, of one fit, from a parametric bootstrap."""
    from jaxhlm.resampling.intervals import acceleration, bootstrap_interval
    from jaxhlm.resampling.schemes import resampler

    check_level(level)
    check_option("interval", interval, BootstrapInterval)
    wanted, model, rows = choose(parameters(fit.model), parm), fit.model, fit.responses
    source = resampler("parametric", rows.prepared, rows.Y[:, 0], fit.estimates, n, seed)
    affordable("n", source.B, estimate_bytes(len(model.xnames), len(model.znames)))
    with all_or_nothing():
        found = fit_lanes(source, fit.options).estimates
    ok = converged(found.status)
    if failed := int((~ok).sum()):
        text = f"{failed} of {n} bootstrap fits failed and are left out of the intervals"
        warn_user(text, ConvergenceWarning)
    a = None
    if interval == "bca":
        a = acceleration(parameter_values(model, left_out(fit)[1]))
    original, replicates = (parameter_values(model, e) for e in (fit.estimates, found[ok]))
    # Names as in the table.
    names = [p.name for p in sorted(parameters(model), key=lambda p: position(model, p))]
    limits = bootstrap_interval(interval, original[0], replicates, level, names, a)
    at = [position(model, p) for p in wanted]
    return _frame(wanted, np.column_stack(limits)[None, at], level)


def _frame(wanted: Parameters, limits: Floats, level: float) -> pd.DataFrame:
    columns = dict(zip(limit_names(level), np.moveaxis(limits, -1, 0), strict=True))
    return long_table([p.name for p in wanted], columns)


def profile_frame(fit: FitRecord, parm: Names, level: float, points: int) -> pd.DataFrame:
    """The profiles of one fit: term, value, zeta."""
    from jaxhlm.inference.profiles import profile_curves

    check_level(level)
    if whole_number("points", points, least=3) % 2 == 0:
        raise OptionError(f"points={points!r} must be an odd number from 3 on")
    wanted = choose(parameters(fit.model), parm)
    affordable("points", points, 16.0 * len(wanted))
    standardised = fit.only_lanes.standardised
    curves = profile_curves(standardised, fit.model.blocks, wanted, level, points)
    value, zeta = curves.reshape(-1, 2).T
    term = np.repeat(np.array([p.name for p in wanted], dtype=object), points)
    return pd.DataFrame({"term": term, "value": value, "zeta": zeta})
