"""``effect_sizes``: the fixed effects of a truth, standardised.

With τ² the variance of the random intercepts and σ² that of the residuals, the standard deviation
that Cohen's d divides by is one of three (Hedges 2007, J. Educ. Behav. Stat. 32, 341-370):

    within σ        between τ        total √(τ² + σ²)

The last one is also that of Westfall, Kenny & Judd (2014, J. Exp. Psychol. Gen. 143, 2020-2045),
whose sum has every variance of the model. With random slopes τ² is the variance between units at
baseline, where the variables that have slopes are 0.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from jaxhlm.errors import OptionError
from jaxhlm.studies.analysed import Generating, analysed
from jaxhlm.studies.analytic import precision
from jaxhlm.studies.effects import check_effects
from jaxhlm.studies.truth import Standardizer, Truth, standardizer

__all__ = ["effect_sizes"]


def effect_sizes(mechanism: Generating, d_sd: Standardizer) -> pd.DataFrame:
    """Cohen's d and partial R² of every fixed effect of a truth on its design.

    d is β_j over a standard deviation that you name, for a change of one in the column: the
    difference of two levels of a factor, or the slope for one unit of a covariate. Partial R² is
    that of Edwards et al. (2008, Stat. Med. 27, 6137-6157), R² = F/(F + ν) of the F test of the
    effect with ν denominator degrees of freedom, where F is what it is at the truth,

        R²_j = λ_j/(λ_j + ν_j),    λ_j = β_j²/Var(β̂_j)

    with the variance of the estimate under known variances and the expected degrees of freedom of
    ``jaxhlm.power``'s formula. λ and ν grow alike with the number of units. ``Truth.of`` takes d
    and partial R² in place of β.

    Args:
        mechanism: a ``Mechanism``, or a pair (``jaxhlm.design(…)``, ``Truth``). Of a design that is
            redrawn for every data set one draw is taken.
        d_sd: what d divides by, "within", "between" or "total": see ``Truth.of``.

    Returns:
        One row per term: beta, d, partial_r2, df (ν).

    Raises:
        OptionError: the truth is a distribution, or has no such standard deviation, as one of
            random intercepts that the model has not.

    Example:
        >>> import jaxhlm as hlm
        >>> design = hlm.design("~ x * a + (1 + x | unit)", hlm.load_dataset("article"))
        >>> truth = hlm.Truth.of([1, 3, -0.15, 0.3], sd=[0.2, 0.5], corr=0.9, sigma=0.75)
        >>> hlm.effect_sizes((design, truth), d_sd="within").loc["x:a"].round(3).tolist()
        [0.3, 0.4, 0.221, 28.0]
    """
    design, truth = analysed(mechanism, None)
    if not isinstance(truth, Truth):
        raise OptionError("every data set draws a truth of its own; give a jaxhlm.Truth")
    check_effects(truth.cov, design)
    sd = standardizer(d_sd, truth.cov, truth.sigma, design.znames)
    beta = truth.fixed(design.xnames)
    found = [precision(design, truth, row[None]) for row in np.eye(design.p)]
    size = np.array([one.value[0] ** 2 / one.cov[0, 0] for one in found])
    df = np.array([one.df[0] for one in found])
    columns = {"beta": beta, "d": beta / sd, "partial_r2": size / (size + df), "df": df}
    return pd.DataFrame(columns, pd.Index(design.xnames, name="term"))
