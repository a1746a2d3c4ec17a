"""The tables of predictions and of single units."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from jaxhlm.inference.criteria import wald_interval
from jaxhlm.inference.tails import normal_quantile
from jaxhlm.model import Model
from jaxhlm.notation import Floats

__all__ = ["Interval", "coef_columns", "normal_scores", "prediction_frame", "unit_frame"]

Interval = Literal["confidence", "prediction"]


def prediction_frame(values: pd.Series, se: Floats, width: Floats, level: float) -> pd.DataFrame:
    """Predictions with standard errors and normal limits.

    Args:
        values: (rows,) predictions.
        se: (rows,) their standard errors.
        width: (rows,) standard deviations behind the limits.
        level: of the intervals.
    """
    low, high = wald_interval(values.to_numpy(), width, level)
    columns = {"predicted": values.to_numpy(), "se": se, "low": low, "high": high}
    return pd.DataFrame(columns, values.index)


def coef_columns(model: Model) -> tuple[list[str], Floats, Floats]:
    """Names of the m coefficients of a unit, and x (m, p), z (m, q) with coef = xβ̂ + zb̂."""
    names = list(dict.fromkeys([*model.xnames, *model.znames]))
    x, z = (
        np.array([[float(name == term) for term in terms] for name in names])
        for terms in (model.xnames, model.znames)
    )
    return names, x, z


def unit_frame(group: str, levels: pd.Index, terms: list[str], **columns: Floats) -> pd.DataFrame:
    """One row per level and term, from (G, q) arrays."""
    G, q = len(levels), len(terms)
    frame = pd.DataFrame({name: values.ravel() for name, values in columns.items()})
    frame.insert(0, "group", group)
    frame.insert(1, "level", levels.repeat(q))
    frame.insert(2, "term", np.tile(np.array(terms, dtype=object), G))
    return frame


def normal_scores(values: Floats) -> Floats:
    """Normal quantiles at the ranks of the columns of (G, q) values; NaN where a value is.

    Plotting positions as R's ``qqnorm``: (r − a)/(m + 1 − 2a), a = 3/8 for m ≤ 10, else 1/2.
    """
    scores = np.full(values.shape, np.nan)
    for column, out in zip(values.T, scores.T, strict=True):
        there = np.flatnonzero(np.isfinite(column))
        m = len(there)
        a = 0.375 if m <= 10 else 0.5
        order = there[np.argsort(column[there], kind="stable")]
        out[order] = normal_quantile((np.arange(1, m + 1) - a) / (m + 1 - 2 * a))
    return scores
