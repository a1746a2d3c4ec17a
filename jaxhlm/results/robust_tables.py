"""The tables of robust inference, for one fit and for many."""

from __future__ import annotations

import numpy as np
import pandas as pd

from jaxhlm.inference.criteria import standard_errors
from jaxhlm.inference.degrees import inference_table
from jaxhlm.inference.robust import Robust
from jaxhlm.notation import Floats

__all__ = ["robust_table"]


def robust_table(beta: Floats, robust: Robust, terms: pd.Index, conf_level: float) -> pd.DataFrame:
    """One row per fit and fixed effect: t tests and intervals with Satterthwaite's df.

    Args:
        beta: (B, p) fixed effects.
        robust: their robust covariances and df.
        terms: (p,) names.
        conf_level: of the intervals.

    Returns:
        Columns term, estimate, std_error, df, statistic, p_value, conf_low, conf_high; (B p) rows.
    """
    se = standard_errors(robust.vcov)
    columns = inference_table(beta, se, robust.df, 0.0, conf_level)
    frame = pd.DataFrame({name: values.ravel() for name, values in columns.items()})
    frame.insert(0, "term", np.tile(terms.to_numpy(dtype=object), len(beta)))
    return frame
