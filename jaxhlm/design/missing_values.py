"""Missing values: rows that have any are left out, counted and told.

Of many responses each is fitted on its own complete rows (``ResponseMatrix`` in
``sources/sources.py``), as is each data set of a long frame (``sources/replicate_rows.py``).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from pandas.api import types

from jaxhlm.core.notation import Bools
from jaxhlm.errors import NoRowsError, RowsDroppedWarning, warn_user

__all__ = ["any_missing", "check_rows", "complete_rows", "missing"]


def missing(column: pd.Series) -> Bools:
    """(n,) whether each value is missing; a NaN inside a nullable column is, as anywhere else."""
    found: Bools = column.isna().to_numpy()
    if isinstance(column.dtype, np.dtype) or not types.is_float_dtype(column.dtype):
        return found
    return found | np.isnan(column.to_numpy(dtype=float, na_value=np.nan))


def any_missing(frame: pd.DataFrame) -> Bools:
    """(n,) rows that lack a value of some column."""
    return np.logical_or.reduce([np.zeros(len(frame), bool), *(missing(frame[v]) for v in frame)])


def check_rows(frame: pd.DataFrame) -> None:
    """Raise ``NoRowsError`` where there are none."""
    if not len(frame):
        raise NoRowsError("data has no rows, only names of columns")


def complete_rows(frame: pd.DataFrame, weights: pd.Series | None) -> Bools:
    """(n_total,) mask of the rows without missing values; warns when there are others."""
    lacking = {str(name): missing(frame[name]) for name in frame}
    if weights is not None:
        lacking[str(weights.name)] = weights.isna().to_numpy()
    kept: Bools = ~np.logical_or.reduce([np.zeros(len(frame), bool), *lacking.values()])
    dropped = len(kept) - int(kept.sum())
    where = ", ".join(f"{name}: {mask.sum()}" for name, mask in lacking.items() if mask.any())
    check_rows(frame)
    if not kept.any():
        raise NoRowsError(
            f"no rows left of {len(kept)}; missing values by column: {where}; "
            "fill them or leave such columns out of the formula"
        )
    if dropped:
        text = f"dropped {dropped} of {len(kept)} rows with missing values ({where})"
        warn_user(text, RowsDroppedWarning)
    return kept
