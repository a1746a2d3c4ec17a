"""The tables of robust inference, for one fit and for many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from jaxhlm.core.notation import Floats
from jaxhlm.errors import DegenerateWarning, warn_user
from jaxhlm.inference.criteria import standard_errors
from jaxhlm.inference.degrees import inference_table
from jaxhlm.inference.robust import Robust

__all__ = ["robust_table", "warn_undetermined"]


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


def warn_undetermined(beta: Floats, robust: Robust, terms: Sequence[str], group_name: str) -> None:
    """Say which coefficients have no robust variance, or one far too small, beside an estimate.

    Args:
        beta: (B, p) fixed effects.
        robust: their robust covariances and df.
        terms: p names.
        group_name: the grouping factor.
    """
    alone = robust.one_group & np.isfinite(beta)
    zero = np.isnan(robust.df)
    for what, lost in (
        ("no robust standard error (NaN)", alone & zero),
        ("a robust standard error that is far too small", alone & ~zero),
    ):
        if lost.any():
            named = ", ".join(repr(terms[int(j)]) for j in np.flatnonzero(lost.any(axis=0)))
            fits = f" in {int(lost.any(axis=1).sum())} of {len(lost)} fits" * (len(lost) > 1)
            warn_user(
                f"{what} of {named}{fits}: it is not estimable without a certain level of "
                f"{group_name}, whose residuals say nothing about it; use the standard errors of "
                "the model (tidy), or more levels",
                DegenerateWarning,
            )
