"""The columns of a fitted design on new data, by what its terms learned from the fitted rows."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from jaxhlm.core.notation import Floats, Ints, NotEstimable
from jaxhlm.design.columns import select
from jaxhlm.design.design import Design
from jaxhlm.design.estimable import determined
from jaxhlm.design.grouping import known_codes
from jaxhlm.design.terms import evaluate_new

__all__ = ["design_for", "determined_rows", "offset_for"]


@np.errstate(all="ignore")
def design_for(
    design: Design,
    newdata: pd.DataFrame,
    not_estimable: NotEstimable = "nan",
    units: bool = True,
) -> tuple[Floats, Floats, Ints]:
    """Evaluate the columns of a fitted design on new data.

    What the transforms learned from the fitted rows (means, knots, factor levels) is used again.
    A row with a missing value keeps its place: it is NaN in X, in Z, or in both, according to
    which of them reads the missing column. The response is not needed.

    Args:
        design: a design from `build_design`.
        newdata: (m, ...) data frame; without the grouping column every group is unknown.
        not_estimable: a row outside the row space of a rank-deficient X, whose expected value the
            fitted rows do not determine, is NaN in X, with a warning, or, with "error", raises.
        units: whether it matters which unit a row is of; otherwise every group is unknown.

    Returns:
        X (m, p), Z (m, q) and the group codes (m,), -1 where the level is missing or unseen.

    Raises:
        MissingColumnError: a column of the right side is not in the new data.
        NotNumericError: a column that was numeric is not.
        NonFiniteError: a column or a transformed column holds an infinite value or a NaN.
        NewLevelError: a factor of the formula (not the grouping one) has an unseen level.
        GroupingError: the grouping column holds numbers where it held strings, or vice versa.
        NotEstimableError: a row is not estimable, under ``not_estimable="error"``.

    Example:
        >>> from jaxhlm.datasets import load_dataset
        >>> from jaxhlm.design.design import build_design
        >>> design = build_design("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> newdata = pd.DataFrame({"Days": [0, 10], "Subject": ["308", "unknown"]})
        >>> X, Z, codes = design_for(design, newdata)
        >>> X[1], codes
        (array([ 1., 10.]), array([ 0, -1]))
    """
    parts = (design._fixed, *design._random)
    raw = select(newdata, [v for part in design._right for v in part.variables])
    X, *columns = (evaluate_new(part, raw, design._factors) for part in parts)
    codes = known_codes(design._groups, newdata) if units else np.full(len(newdata), -1)
    X = determined_rows(design, X, newdata.index, "row(s) of the new data", not_estimable)
    return X, np.concatenate(columns, axis=1), codes


@np.errstate(all="ignore")
def offset_for(design: Design, newdata: pd.DataFrame) -> Floats:
    """(m,) the offset of new rows, zero if the formula has none; NaN where a value is missing.

    Raises:
        JaxhlmError: as for ``design_for``.
    """
    if design.offset is None:
        return np.zeros(len(newdata))
    raw = select(newdata, design._offset.variables)
    return np.asarray(evaluate_new(design._offset, raw, design._factors).sum(axis=1))


def determined_rows(
    design: Design, full: Floats, labels: Iterable[object], what: str, option: NotEstimable
) -> Floats:
    """Rows (…, p) of X from rows of all its columns, NaN where their value is not estimable.

    Args:
        design: the design that was fitted.
        full: (…, columns) with the columns that X lost to rank deficiency.
        labels, what, option: as for ``estimable.determined``.
    """
    kept = list(design._x_columns)
    dropped = np.setdiff1d(np.arange(full.shape[-1]), kept)
    parts = full[..., kept], full[..., dropped]
    return determined(*parts, design._alias, labels, what, option)
