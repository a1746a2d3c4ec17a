"""The columns of ``tidy``, and of every other table of estimates with their tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from jaxhlm.core.notation import Floats
from jaxhlm.inference.parameters import random_groups, random_names, random_values
from jaxhlm.inference.tails import t_quantile, t_tail
from jaxhlm.results.record import FitRecord

__all__ = ["inference_table", "tidy"]


def tidy(fits: FitRecord, se: Floats, df: Floats, conf_level: float) -> pd.DataFrame:
    """One row per fit and parameter, with the columns of ``broom.mixed::tidy``.

    Args:
        fits: B fits.
        se, df: (B, p) of their fixed effects.
        conf_level: of the intervals.
    """
    model, columns = fits.model, inference_table(fits.estimates.beta, se, df, 0.0, conf_level)
    random = random_values(model, fits.estimates.cov)
    values = np.column_stack([columns.pop("estimate"), random, fits.estimates.sigma])
    p, (B, m) = len(model.xnames), values.shape
    labels = {
        "effect": ["fixed"] * p + ["ran_pars"] * (m - p),
        "group": [*[None] * p, *random_groups(model), "Residual"],
        "term": [*model.xnames, *random_names(model), "sd__Observation"],
    }
    long: dict[str, Any] = {
        name: np.tile(np.array(told, dtype=object), B) for name, told in labels.items()
    }
    long["estimate"] = values.ravel()
    for name, of_fixed in columns.items():
        padded = np.full((B, m), np.nan)
        padded[:, :p] = of_fixed
        long[name] = padded.ravel()
    return pd.DataFrame(long | {"boundary": np.repeat(fits.singular, m)})


def inference_table(
    estimate: Floats, se: Floats, df: Floats, rhs: Floats | float, level: float
) -> dict[str, Floats]:
    """Columns estimate … conf_high, all of one shape; df may be infinite."""
    with np.errstate(invalid="ignore", divide="ignore"):
        t = (estimate - rhs) / se
        margin = t_quantile(0.5 + level / 2.0, df) * se
    return {
        "estimate": estimate,
        "std_error": se,
        "df": df,
        "statistic": t,
        "p_value": t_tail(t, df),
        "conf_low": estimate - margin,
        "conf_high": estimate + margin,
    }
