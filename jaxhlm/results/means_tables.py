"""The tables of marginal means and of their differences, for one fit and for many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from jaxhlm.core.notation import Floats
from jaxhlm.errors import ContrastError
from jaxhlm.inference.refgrid import holm, tukey

__all__ = ["MEANS", "differences_frame", "means_frame"]

# What the rows are, by whether they are differences.
MEANS = {False: "marginal means", True: "differences of marginal means"}

MEAN = {
    "estimate": "emmean",
    "std_error": "std_error",
    "df": "df",
    "conf_low": "conf_low",
    "conf_high": "conf_high",
}
DIFFERENCE = (
    "estimate", "std_error", "df", "statistic", "p_value", "p_holm", "p_tukey", "conf_low",
    "conf_high",
)  # fmt: skip


def means_frame(cells: pd.DataFrame, columns: dict[str, Floats]) -> pd.DataFrame:
    """One row per fit and cell.

    Args:
        cells: the levels of every row.
        columns: inference on the means, (…, cells) each.
    """
    found = {name: columns[of].ravel() for of, name in MEAN.items()}
    return pd.concat([cells, pd.DataFrame(found, cells.index)], axis=1)


def differences_frame(
    names: Sequence[str], columns: dict[str, Floats], cells: int, specs: Sequence[str]
) -> pd.DataFrame:
    """One row per fit and pair, with p values as they are, by Holm and by Tukey.

    Args:
        names: of the pair of every row.
        columns: inference on the differences, (…, pairs) each.
        cells: number of means that are compared.
        specs: the variables of the cells.

    Raises:
        ContrastError: there is one cell only.
    """
    if not len(names):
        raise ContrastError(f"{', '.join(specs)} has one cell only: there is no difference")
    p_holm = holm(columns["p_value"])
    p_tukey = tukey(columns["statistic"], cells, columns["df"])
    columns = {**columns, "p_holm": p_holm, "p_tukey": p_tukey}
    found = {name: np.ravel(columns[name]) for name in DIFFERENCE}
    return pd.DataFrame({"contrast": np.array(names, dtype=object), **found})
