"""What violated assumptions do to the article's model: a small simulation study of its design."""

from __future__ import annotations

import numpy as np
import pandas as pd

from jaxhlm import violations as v
from jaxhlm.cli.article import FORMULAS, TRUTH
from jaxhlm.core.notation import Floats
from jaxhlm.datasets import load_dataset
from jaxhlm.studies.mechanism import mechanism
from jaxhlm.studies.method import Method
from jaxhlm.studies.study import study
from jaxhlm.violations import Violation

__all__ = ["DISTRIBUTIONS", "MEANS", "METHODS", "NOTHING", "bend", "spread", "violated"]


def spread(x: Floats) -> Floats:
    """Standard deviations of residuals that grow by a factor of e⁰·²⁵ for a step of one in x."""
    return np.exp(x / 4.0)


def bend(x: Floats) -> Floats:
    """What a curve has that a straight line has not."""
    return 0.05 * x**2


NOTHING = "nothing"
# Assumptions about how errors and units scatter, and about what they scatter around.
DISTRIBUTIONS: dict[str, tuple[Violation, ...]] = {
    "heavy-tailed residuals (t₃)": (v.ResidualsFrom(v.StudentT(3)),),
    "autocorrelated residuals (0.6)": (v.Autocorrelated(0.6),),
    "residuals that spread with x": (v.Heteroscedastic("x", spread),),
    "skewed random effects": (v.EffectsFrom(v.Skewed(2.0)),),
    "two classes of units": (v.EffectsFrom(v.TwoClasses()),),
}
MEANS: dict[str, tuple[Violation, ...]] = {
    "slopes confounded with a": (v.CorrelatedEffects("a", {"x": 0.4}),),
    "a curve, not a line (0.05x²)": (v.Nonlinear("x", bend),),
}
INTERCEPTS = "y ~ x + a + x * a + (1 | unit)"
METHODS = (
    Method("article's model"),
    Method("intercepts only", formula=INTERCEPTS),
    Method("intercepts only, robust", formula=INTERCEPTS, robust="CR2"),
)


def violated(n: int, seed: int) -> pd.DataFrame:
    """Bias and coverage of the fixed effects, a row for every violation, method and term.

    Args:
        n: data sets of every condition.
        seed: of the draws; all conditions share the random numbers that they have in common.

    Returns:
        What ``measures`` gives, with the violation by name in the column "violated".
    """
    frame = load_dataset("article").drop(columns="y")
    conditions = {NOTHING: (), **DISTRIBUTIONS, **MEANS}
    drawn = {
        name: mechanism(FORMULAS[1], frame, TRUTH, violations)
        for name, violations in conditions.items()
    }
    found = study(None, drawn, METHODS, n=n, seed=seed)
    table = found.measures(which=["bias", "coverage"])
    return table.rename(columns={"mechanism": "violated"})
