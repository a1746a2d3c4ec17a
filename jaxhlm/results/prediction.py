"""The tables of predictions and of single units."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import check_flag
from jaxhlm.core.notation import Floats, Ints, NewLevels, NotEstimable, check_option
from jaxhlm.design.columns import any_missing, select
from jaxhlm.design.design import Design, design_for
from jaxhlm.errors import MissingColumnError
from jaxhlm.estimation.model import Model
from jaxhlm.inference.criteria import check_level, wald_interval
from jaxhlm.inference.tails import normal_quantile

__all__ = [
    "Interval",
    "check_prediction",
    "coef_columns",
    "new_rows",
    "normal_scores",
    "prediction_frame",
    "unit_frame",
]

Interval = Literal["confidence", "prediction"]


def check_prediction(
    new_levels: object, interval: object, level: float, not_estimable: object, **flags: object
) -> None:
    """Refuse options of ``predict`` that are not of their kind."""
    check_option("new_levels", new_levels, NewLevels)
    if interval is not None:
        check_option("interval", interval, Interval)
    check_option("not_estimable", not_estimable, NotEstimable)
    for name, flag in flags.items():
        check_flag(name, flag)
    check_level(level)


def new_rows(
    design: Design, newdata: pd.DataFrame, ranef: bool, not_estimable: NotEstimable
) -> tuple[Floats, Floats, Ints]:
    """X, Z and group codes of new rows; where units count, each row must say which it is of.

    Raises:
        MissingColumnError: a column of the formula, or with ``ranef`` the grouping column, is not
            in ``newdata``.
    """
    X, Z, group = design_for(design, newdata, not_estimable)
    if ranef:
        try:
            units = select(newdata, design._groups.columns)
        except MissingColumnError as error:
            raise MissingColumnError(f"{error}; ranef=False gives the population value") from None
        X[any_missing(units)] = np.nan
    return X, Z, group


def prediction_frame(
    found: tuple[Floats, ...], index: pd.Index, limits: bool, level: float
) -> pd.Series | pd.DataFrame:
    """Predictions, or these with standard errors and normal limits.

    Args:
        found: (rows,) predictions, their error variances, and the variances behind the limits.
        index: (rows,) labels.
        limits: give standard errors and limits.
        level: of the intervals.
    """
    values, variance, width = found
    if not limits:
        return pd.Series(values, index, name="predicted")
    low, high = wald_interval(values, np.sqrt(width), level)
    columns = {"predicted": values, "se": np.sqrt(variance), "low": low, "high": high}
    return pd.DataFrame(columns, index)


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
