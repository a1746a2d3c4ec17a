"""The same model fitted to another response."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import real_array
from jaxhlm.core.notation import Floats
from jaxhlm.design.checks import EXACT_TOLERANCE
from jaxhlm.errors import ConstantResponseError, ResponseShapeError
from jaxhlm.estimation.pipeline import fit_lanes
from jaxhlm.results.record import FitRecord
from jaxhlm.sources.sources import ResponseMatrix

__all__ = ["refitted"]


def refitted(fit: FitRecord, y: pd.Series | Floats) -> FitRecord:
    """The record of one fit to another response; as ``Fit.refit``."""
    values = _aligned(fit, y)
    if not np.isfinite(values).all():
        raise ResponseShapeError("y has missing or infinite values; fit the frame without them")
    offset, size, what = fit.rows.design.offset, 0.0, "y"
    if offset is not None:
        size, what = np.abs(values).max(), "y less the offset"
        values = values - offset
    if np.ptp(values) <= EXACT_TOLERANCE * size:
        raise ConstantResponseError(f"{what} is {values[0]:g} in every row; give one that varies")
    # What the caller changes later is not what was fitted.
    source = ResponseMatrix(fit.responses.prepared, values[:, None].copy())
    estimates = fit_lanes(source, fit.options).estimates
    return replace(fit, estimates=estimates, source=source, tests={})


def _aligned(fit: FitRecord, y: pd.Series | Floats) -> Floats:
    """(n,) responses of the rows that were used."""
    design, nobs = fit.rows.design, int(fit.nobs[0])
    values, kept = real_array("y", y), design.kept
    index = y.index if isinstance(y, pd.Series) else None
    if len(kept) != nobs == kept.sum() and values.shape == kept.shape:
        values, index = values[kept], None if index is None else index[kept]
    if values.shape != (nobs,):
        raise ResponseShapeError(
            f"y has shape {values.shape}, but {nobs} rows of {len(kept)} were fitted; "
            "give one value for each of them, or for each row of the data"
        )
    if index is not None and not index.equals(design.index):
        raise ResponseShapeError(
            "y has another index than the rows that were fitted; align them, or pass "
            "y.to_numpy() to match them by position"
        )
    return values
