"""Performance measures of simulation studies, each with its Monte-Carlo standard error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

__all__ = ["measures"]


def measures(
    estimates: pd.DataFrame,
    by: Sequence[str] = ("condition", "method", "term"),
    alpha: float = 0.05,
    level: float = 0.95,
) -> pd.DataFrame:
    """One row per group.

    >>> frame = pd.DataFrame({"term": "x", "truth": 0.0, "estimate": [0.1, -0.1],
    ...                       "p_value": [0.01, 0.5]})
    >>> float(measures(frame, by=["term"])["rejection"].iloc[0])
    0.5
    """
    del level
    known = estimates.dropna(subset=["estimate"])
    known = known.assign(
        error=known["estimate"] - known["truth"], hit=(known["p_value"] < alpha).astype(float)
    )
    grouped = known.groupby(list(by), sort=False, observed=True)
    count = grouped["error"].count()
    rate = grouped["hit"].mean()
    return pd.DataFrame(
        {
            "bias": grouped["error"].mean(),
            "bias_mcse": grouped["error"].std() / np.sqrt(count),
            "rejection": rate,
            "rejection_mcse": np.sqrt(rate * (1 - rate) / count),
        }
    ).reset_index()
