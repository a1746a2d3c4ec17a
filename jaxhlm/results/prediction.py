"""What predictions are asked with, the new rows they are of, and their table."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import check_flag
from jaxhlm.core.notation import Bools, Floats, Ints, NewLevels, NotEstimable, check_option
from jaxhlm.design.columns import select
from jaxhlm.design.design import Design
from jaxhlm.design.effects import chosen_effects
from jaxhlm.design.missing_values import any_missing
from jaxhlm.design.new_rows import design_for, offset_for
from jaxhlm.errors import FormulaError, MissingColumnError, OptionError, UnknownTermError
from jaxhlm.inference.criteria import check_level, wald_interval

__all__ = ["Interval", "check_prediction", "counted_effects", "new_rows", "prediction_frame"]

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


def counted_effects(name: str, which: bool | str, design: Design) -> Bools:
    """(q,) the random effects that count: all, none, or those of random terms.

    Raises:
        FormulaError, UnknownTermError: as for ``chosen_effects``.
        OptionError: neither True, nor False, nor text.
    """
    if isinstance(which, str):
        try:
            return chosen_effects(design, which)
        except (FormulaError, UnknownTermError) as error:
            raise type(error)(f"{name}: {error}") from None
    if not isinstance(which, bool | np.bool_):
        raise OptionError(
            f"{name}={which!r} must be True, False or random terms, such as "
            f'"(1 | {design.group_name})"'
        )
    return np.full(design.q, which)


def new_rows(
    design: Design, newdata: pd.DataFrame, ranef: bool, not_estimable: NotEstimable
) -> tuple[Floats, Floats, Ints, Floats]:
    """X, Z, group codes and offset of new rows; where units count, a row without one is NaN.

    Raises:
        MissingColumnError: a column of the formula, or with ``ranef`` the grouping column, is not
            in ``newdata``.
    """
    X, Z, group = design_for(design, newdata, not_estimable, ranef)
    offset = offset_for(design, newdata)
    if ranef:
        try:
            units = select(newdata, design._groups.columns)
        except MissingColumnError as error:
            raise MissingColumnError(f"{error}; ranef=False gives the population value") from None
        lost = any_missing(units)
        # X may have no columns.
        X[lost], Z[lost], offset[lost] = (np.nan,) * 3
    return X, Z, group, offset


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
    # An offset that is missing leaves the error known, and no prediction that it is of.
    se = np.where(np.isnan(values), np.nan, np.sqrt(variance))
    columns = {"predicted": values, "se": se, "low": low, "high": high}
    return pd.DataFrame(columns, index)
