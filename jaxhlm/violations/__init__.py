"""What may be wrong with the assumptions: small records, to be combined as one likes.

A mechanism draws random effects b, residuals ε, the response y = Xβ + Zb + ε, and which responses
are missing, in that order, and every violation acts on one of them:

=================  ==================================================================
random effects     ``EffectsFrom``, ``OmittedCovariate``, ``CorrelatedEffects``
residuals          ``ResidualsFrom``, ``Autocorrelated``, ``Heteroscedastic``,
                   ``UnequalVariances``
mean               ``Nonlinear``
missing responses  ``InformativeSize``, ``MissingCompletely``, ``MissingAtRandom``,
                   ``MissingNotAtRandom``
=================  ==================================================================

Those of one kind act in the order given. Distributions are standardised, so that Σ and σ stay those
of the truth unless a docstring says otherwise; each violation draws from a stream of its own.

>>> import jaxhlm as hlm, numpy as np
>>> from jaxhlm import violations as v
>>> wrong = [v.EffectsFrom(v.StudentT(5)), v.Autocorrelated(0.5), v.MissingCompletely(0.1)]
>>> truth = hlm.Truth.of([250, 10], sd=[25, 6], sigma=25)
>>> sleep = hlm.load_dataset("sleepstudy")
>>> drawn = hlm.mechanism("y ~ Days + (1 + Days | Subject)", sleep, truth, wrong).draw(0, 200, 1)
>>> drawn.responses.shape, bool(abs(np.isnan(drawn.responses).mean() - 0.1) < 0.01)
((180, 200), True)
"""

from __future__ import annotations

from jaxhlm.violations.distributions import (
    Contaminated,
    Gaussian,
    Laplace,
    Skewed,
    StudentT,
    TwoClasses,
    Uniform,
)
from jaxhlm.violations.mean import Nonlinear
from jaxhlm.violations.missingness import (
    InformativeSize,
    MissingAtRandom,
    MissingCompletely,
    MissingNotAtRandom,
)
from jaxhlm.violations.random_effects import CorrelatedEffects, EffectsFrom, OmittedCovariate
from jaxhlm.violations.residuals import (
    Autocorrelated,
    Heteroscedastic,
    ResidualsFrom,
    UnequalVariances,
)
from jaxhlm.violations.violation import Violation

__all__ = [
    "Autocorrelated",
    "Contaminated",
    "CorrelatedEffects",
    "EffectsFrom",
    "Gaussian",
    "Heteroscedastic",
    "InformativeSize",
    "Laplace",
    "MissingAtRandom",
    "MissingCompletely",
    "MissingNotAtRandom",
    "Nonlinear",
    "OmittedCovariate",
    "ResidualsFrom",
    "Skewed",
    "StudentT",
    "TwoClasses",
    "UnequalVariances",
    "Uniform",
    "Violation",
]
