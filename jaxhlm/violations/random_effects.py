"""Random effects that are not normal, or correlate with a covariate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from jaxhlm.core.arguments import check_mapping, number
from jaxhlm.core.notation import Floats
from jaxhlm.errors import OptionError
from jaxhlm.violations.distributions import Distribution, Gaussian, standardised
from jaxhlm.violations.panel import Panel, RandomNumbers
from jaxhlm.violations.violation import Violation

__all__ = ["CorrelatedEffects", "EffectsFrom", "OmittedCovariate"]


@dataclass(frozen=True)
class EffectsFrom(Violation):
    """Random effects Σ^½ u with independent standardised u_j from a distribution.

    Σ^½ is the symmetric root, so correlated effects are mixtures of the u_j, with covariance Σ
    exactly and margins between the distribution and the normal; with a diagonal Σ they are of it.

    Attributes:
        distribution: such as ``StudentT(5)``, or a frozen distribution of ``scipy.stats``.

    Raises:
        OptionError: that is no distribution with finite mean and variance.
    """

    distribution: Distribution

    def __post_init__(self) -> None:
        """Check the distribution."""
        object.__setattr__(self, "distribution", standardised(self.distribution))


@dataclass(frozen=True)
class OmittedCovariate(Violation):
    """Adds γ_j w_i to random effect j, with a unit-level covariate w that the design has not.

    To a model without w this is a part of b_i, whose covariance is then Σ + γγ' (the truth's Σ is
    what would be left if w were known) and whose shape is that of w. For a covariate which the
    design has, generate with it and fit a formula without it: ``drawn.fit("y ~ x + (1 + x | u)")``.

    Attributes:
        effects_of: γ by name of the random effect, such as {"(Intercept)": 0.5, "x": 0.3}.
        distribution: of w, standardised.

    Raises:
        UnknownTermError: the generating model has no such random effect.
        OptionError: that is no distribution.
    """

    effects_of: Mapping[str, float]
    distribution: Distribution = field(default_factory=Gaussian)

    def __post_init__(self) -> None:
        """Check the numbers and the distribution."""
        for name, gamma in check_mapping("effects_of", self.effects_of).items():
            number(f"effects_of[{name!r}]", gamma)
        object.__setattr__(self, "distribution", standardised(self.distribution))

    def effects(self, panel: Panel, b: Floats, cov: Floats, numbers: RandomNumbers) -> Floats:
        """(U, q) random effects with those of w."""
        w = numbers.units(self.distribution.draw)
        out = b.copy()
        for name, gamma in self.effects_of.items():
            out[:, panel.effect(name)] += float(gamma) * w
        return out


@dataclass(frozen=True)
class CorrelatedEffects(Violation):
    """Random effects that correlate with a unit-level covariate a: b_i = c ã_i + N(0, Σ − cc').

    c_j = ρ_j √Σ_jj, and ã is a less its mean, over its standard deviation, over the units of the
    data set; the covariance of b stays Σ. Several such covariates are taken as uncorrelated.

    Attributes:
        column: a, a column of the design that is constant within units.
        correlations: ρ by name of the random effect.

    Raises:
        OptionError: Σ − cc' is not positive semi-definite, a varies within units or not at all.
        UnknownTermError: the generating model has no such random effect.
    """

    column: str
    correlations: Mapping[str, float]

    def __post_init__(self) -> None:
        """Check the correlations."""
        for name, rho in check_mapping("correlations", self.correlations).items():
            if not -1.0 <= number(f"correlations[{name!r}]", rho) <= 1.0:
                raise OptionError(f"correlations[{name!r}]={rho!r} must lie between -1 and 1")

    def remaining(self, panel: Panel, cov: Floats) -> Floats:
        """(B, q, q) Σ − cc'."""
        c = self._loadings(panel, cov)
        return cov - c[:, :, None] * c[:, None, :]

    def effects(self, panel: Panel, b: Floats, cov: Floats, numbers: RandomNumbers) -> Floats:
        """(U, q) random effects with those of a."""
        a, units = panel.unit_column(self.column), panel.unit_lane
        count = np.diff(panel.unit_starts)
        centred = a - (np.add.reduceat(a, panel.unit_starts[:-1]) / count)[units]
        sd = np.sqrt(np.add.reduceat(centred**2, panel.unit_starts[:-1]) / count)
        if not (sd > 0.0).all():
            raise OptionError(f"column {self.column!r} is the same in all units of a data set")
        return b + (centred / sd[units])[:, None] * self._loadings(panel, cov)[units]

    def _loadings(self, panel: Panel, cov: Floats) -> Floats:
        c = np.zeros(cov.shape[:2])
        for name, rho in self.correlations.items():
            j = panel.effect(name)
            c[:, j] = rho * np.sqrt(cov[:, j, j])
        return c
