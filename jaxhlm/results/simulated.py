"""Responses drawn from one fit: of its rows or new ones, random effects drawn or predicted."""

from __future__ import annotations

import numpy as np
import pandas as pd

from jaxhlm.core.notation import Bools
from jaxhlm.core.streams import Seed
from jaxhlm.core.tables import Table, as_frame
from jaxhlm.design.grouping import units_of_rows
from jaxhlm.design.new_rows import design_for, offset_for
from jaxhlm.errors import OptionError
from jaxhlm.estimation.model import Model
from jaxhlm.results.prediction import counted_effects
from jaxhlm.results.record import FitRecord
from jaxhlm.statistics.simulate_rows import simulate_rows

__all__ = ["simulated"]


def simulated(
    fit: FitRecord, n: int, seed: Seed, newdata: Table | None, use_ranef: bool | str
) -> pd.DataFrame:
    """Responses of one fit; as ``Fit.simulate``."""
    design, e = fit.design(0), fit.estimates
    kept = counted_effects("use_ranef", use_ranef, design)
    _check_whole_terms(kept, fit.model)
    if newdata is None:
        X, Z, unit, of_unit = design.X, design.Z, design.group, np.arange(design.G)
        weights, index, offset = design.weights, design.index, design.offset
    else:
        new = as_frame("newdata", newdata)
        X, Z, _ = design_for(design, new)
        unit, of_unit = units_of_rows(design._groups, new)
        X[unit < 0] = Z[unit < 0] = np.nan
        weights, index, offset = None, new.index, offset_for(design, new)
    given = np.full((len(of_unit), design.q), np.nan)
    if kept.any():
        b, seen = fit.rows_of(np.zeros(1, np.int64)).effects.b[0], of_unit >= 0
        given[seen] = np.where(kept, b[of_unit[seen]], np.nan)
    sigma = float(e.sigma[0])
    Y = simulate_rows(
        X, Z, unit, len(of_unit), e.beta[0], e.cov[0], sigma, n, seed, weights, given=given
    )
    if offset is not None:
        Y = Y + offset[:, None]
    return pd.DataFrame(Y, index, [f"sim_{i + 1}" for i in range(n)])


def _check_whole_terms(kept: Bools, model: Model) -> None:
    """Refuse part of the effects that covary: what the others are expected to be depends on it."""
    for block in map(list, model.blocks):
        if kept[block].any() and not kept[block].all():
            names = ", ".join(model.znames[j] for j in block)
            raise OptionError(
                f"use_ranef keeps part of the correlated random effects {names}: keep all of them, "
                "or none"
            )
