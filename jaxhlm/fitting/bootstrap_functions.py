"""Functions of bootstrap replicates: their values, and what these say about the fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from jaxhlm.core.notation import Bools, BootstrapInterval, Floats, check_option
from jaxhlm.errors import JaxhlmError, OptionError
from jaxhlm.inference.criteria import check_level, limit_names
from jaxhlm.resampling.intervals import bootstrap_interval
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
) -> pd.DataFrame:
    """One row per number that the function gives of a fit.

    Args:
        fit: the fit; None where there are no data.
        replicates: its replicates.
        function: maps a batch of B fits to (B,) or (B, m) numbers; or the name of such a property
            or method of a batch.
        method: "percentile", "basic" or "normal".
        level: of confidence.

    Returns:
        Columns original, bias, std_error, used and the two limits.

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
    values = np.where(replicates.ok[:, None], values, np.nan)
    low, high = bootstrap_interval(method, first, values, level)
    used: Bools = np.isfinite(values)
    frame = pd.DataFrame(values)
    columns = {
        "original": first,
        "bias": frame.mean().to_numpy() - first,
        "std_error": frame.std().to_numpy(),
        "used": used.sum(axis=0),
    }
    columns |= dict(zip(limit_names(level), (low, high), strict=True))
    return pd.DataFrame(columns, pd.Index(names, name="term"))


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
