"""The random effects of a truth beside those of a model."""

from __future__ import annotations

import numpy as np

from jaxhlm.core.notation import Floats
from jaxhlm.design.design import Design
from jaxhlm.errors import OptionError

__all__ = ["SEMIDEFINITE_TOL", "check_effects"]

# What rounding leaves of a variance, or of a covariance, of zero.
SEMIDEFINITE_TOL = 1e-10


def check_effects(cov: Floats, design: Design) -> None:
    """Refuse a covariance that is not one of the model's random effects.

    Args:
        cov: (q, q) of a truth.
        design: the model that is to generate data sets from it.

    Raises:
        OptionError: it has another number of effects, or correlates two that the model has in
            terms of their own, such as those of ``||``.
    """
    names = design.znames
    if len(cov) != len(names):
        raise OptionError(
            f"the truth has {len(cov)} random effect(s), the model {len(names)}: "
            + ", ".join(names)
        )
    together = np.zeros(cov.shape, bool)
    for block in design.blocks:
        together[np.ix_(block, block)] = True
    sd = np.sqrt(np.abs(np.diag(cov)))
    apart = np.argwhere(~together & (np.abs(cov) > SEMIDEFINITE_TOL * np.outer(sd, sd)))
    if len(apart):
        i, j = apart[0]
        raise OptionError(
            f"corr: the truth correlates {names[i]} with {names[j]} "
            f"({cov[i, j] / (sd[i] * sd[j]):.3g}), which {design.formula} keeps uncorrelated; "
            "give corr=0, or generate by a formula with both in one term, (… | "
            f"{design.group_name}), and fit this one"
        )
