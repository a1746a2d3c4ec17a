"""Criteria of many fits with each of their random effects removed, in the user's units."""

from __future__ import annotations

import numpy as np

from jaxhlm.core.notation import Floats
from jaxhlm.core.status import converged
from jaxhlm.estimation.estimates import Estimates, user_criterion
from jaxhlm.estimation.model import Model
from jaxhlm.inference.reduced_models import reduced_minimum
from jaxhlm.optimise.options import Options
from jaxhlm.statistics.response import Standard

__all__ = ["reduced_criteria", "term_label"]


def reduced_criteria(estimates: Estimates, standard: Standard, options: Options) -> Floats:
    """−2 × maximised log-likelihood (B, q) without each of the q random effects.

    Args:
        estimates: of B fits of the full model; where they failed the result is NaN.
        standard: the standardised lanes that they were estimated from.
        options: what was optimised.
    """
    q, stats = standard.stats.RZ.shape[2], standard.stats
    nu = np.broadcast_to(stats.n - options.reml * stats.rank, standard.status.shape)
    minima = [reduced_minimum(standard, options, a) for a in range(q)]
    with np.errstate(invalid="ignore"):
        found = [user_criterion(value, standard.scaling, nu, options.reml) for value in minima]
    return np.where(converged(estimates.status)[:, None], np.stack(found, axis=1), np.nan)


def term_label(model: Model, a: int) -> str:
    """How ``lmerTest::ranova`` names the removal of random effect a.

    The last column of a term takes the term with it.
    """
    block = next(b for b in model.blocks if a in b)
    names = ["1" if model.znames[i] == "(Intercept)" else model.znames[i] for i in block]
    if names[0] != "1":
        names.insert(0, "0")
    term = f"({' + '.join(names)} | {model.group_name})"
    return term if len(block) == 1 else f"{model.znames[a]} in {term}"
