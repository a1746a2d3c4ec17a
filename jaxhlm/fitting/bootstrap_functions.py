"""Functions of bootstrap replicates: their values, and what these say about the fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from jaxhlm.core.notation import Bools, BootstrapInterval, Floats, check_option
from jaxhlm.errors import DegenerateWarning, JaxhlmError, OptionError, warn_user
from jaxhlm.inference.criteria import check_level, limit_names
from jaxhlm.resampling.intervals import SAME, bootstrap_interval
from jaxhlm.results.batch import FitBatch
from jaxhlm.results.fit import Fit

__all__ = ["BatchFunction", "function_summary"]

BatchFunction = str | Callable[[FitBatch], Any]


def function_summary(
    fit: Fit | None,
    replicates: FitBatch,
    function: BatchFunction,
    method: BootstrapInterval,
    level: float,
    wild: bool,
) -> pd.DataFrame:
    """One row per number that the function gives of a fit.

    Args:
        fit: the fit; None where there are no data.
        replicates: its replicates.
        function: maps a batch of B fits to (B,) or (B, m) numbers; or the name of such a property
            or method of a batch.
        method: "percentile", "basic" or "normal".
        level: of confidence.
        wild: whether the replicates are those of a wild bootstrap, which tell nothing of variances.

    Returns:
        Columns original, bias, std_error, used and the two limits; NaN for the error and the limits
        of what depends on variances that the replicates tell nothing of, which a warning names.

    Raises:
        OptionError: an unknown name, or a function that gives anything else; "bca".
        JaxhlmError: there are no data.
    """
    check_option("method", method, BootstrapInterval)
    check_level(level)
    if method == "bca":
        raise OptionError(
            'method="bca" is for the parameters (confint); of a function use "percentile", "basic" '
            'or "normal"'
        )
    if fit is None:
        raise JaxhlmError("this bootstrap was read from a file, which has no data: draw it again")
    (first,), names = _values(FitBatch(fit.record), function)
    values, _ = _values(replicates, function)
    if values.shape[1:] != first.shape:
        raise OptionError("function gives other numbers of the replicates than of the fit")
    lost = _of_variances(replicates, function, values) if wild else np.zeros(len(first), bool)
    values = np.where(replicates.ok[:, None], values, np.nan)
    told = bootstrap_interval(method, first, np.where(lost, np.nan, values), level, names)
    frame = pd.DataFrame(values)
    with np.errstate(invalid="ignore"):
        columns = {
            "original": first,
            "bias": frame.mean().to_numpy() - first,
            "std_error": frame.std().to_numpy(),
            "used": frame.notna().sum().to_numpy(),
        }
    columns |= dict(zip(limit_names(level), told, strict=True))
    found = pd.DataFrame(columns, pd.Index(names, name="term"))
    if lost.any():
        found.loc[lost, "std_error"] = np.nan
        named = ", ".join(map(str, np.array(names, dtype=object)[lost]))
        warn_user(
            f"{named}: no interval, for a wild bootstrap tells nothing of the variances that it "
            'depends on; draw another, such as method="parametric"',
            DegenerateWarning,
        )
    return found


def _of_variances(fits: FitBatch, function: BatchFunction, values: Floats) -> Bools:
    """(m,) which values (B, m) are others where everything but the fixed effects is another."""
    e = fits.record.estimates
    changed = replace(
        e,
        sigma=2.0 * e.sigma,
        theta=1.0 + 1.5 * e.theta,
        theta_standard=1.0 + 1.5 * e.theta_standard,
        # More by a number, for a variance of zero is changed too.
        cov=9.0 * e.cov + e.sigma[:, None, None] ** 2,
        vcov=5.0 * e.vcov,
    )
    record = replace(fits.record, estimates=changed, tests={})
    again, _ = _values(FitBatch(record), function)
    return np.asarray(~np.isclose(values, again, rtol=SAME, equal_nan=True).all(axis=0))


def _values(fits: FitBatch, function: BatchFunction) -> tuple[Floats, list[Any]]:
    """(B, m) values, and what they are called."""
    if isinstance(function, str):
        if function.startswith("_") or not hasattr(FitBatch, function):
            raise OptionError(f"function={function!r} is no property or method of a FitBatch")
        found = getattr(fits, function)
        found, name = found() if callable(found) else found, function
    elif callable(function):
        found, name = function(fits), getattr(function, "__name__", "function").strip("<>")
    else:
        raise OptionError(f"function={function!r} must be a function of a FitBatch, or a name")
    values = np.asarray(found)
    if values.dtype.kind not in "biuf" or values.ndim not in (1, 2) or len(values) != len(fits):
        raise OptionError(
            f"function gives {type(found).__name__} of shape {values.shape} of {len(fits)} fits; "
            "it must give one number, or one row of numbers, for every fit"
        )
    values = values.reshape(len(fits), -1).astype(float)
    if isinstance(found, pd.DataFrame):
        return values, list(found.columns)
    m = values.shape[1]
    return values, [name] if m == 1 else [f"{name}_{i + 1}" for i in range(m)]
