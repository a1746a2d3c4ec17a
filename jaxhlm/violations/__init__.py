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

>>> import jaxhlm as hlm
>>> from jaxhlm import violations as v
>>> wrong = [v.EffectsFrom(v.StudentT(5)), v.Autocorrelated(0.5), v.MissingCompletely(0.1)]
>>> truth = hlm.Truth.of([250, 10], sd=[25, 6], sigma=25)
>>> sleep = hlm.load_dataset("sleepstudy")
>>> drawn = hlm.mechanism("y ~ Days + (1 + Days | Subject)", sleep, truth, wrong).draw(0, 200, 1)
>>> drawn.responses.shape, bool(abs(np.isnan(drawn.responses).mean() - 0.1) < 0.01)
((180, 200), True)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from jaxhlm.core.arguments import check_function, check_mapping, number
from jaxhlm.core.notation import Floats
from jaxhlm.errors import OptionError
from jaxhlm.violations.distributions import (
    Contaminated,
    Distribution,
    Gaussian,
    Laplace,
    Skewed,
    StudentT,
    TwoClasses,
    Uniform,
    standardised,
)
from jaxhlm.violations.missingness import (
    InformativeSize,
    MissingAtRandom,
    MissingCompletely,
    MissingNotAtRandom,
)
from jaxhlm.violations.panel import Panel, RandomNumbers
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


MOST_SPREAD = 3.0


@dataclass(frozen=True)
class _From(Violation):
    """A violation that is one distribution, standardised."""

    distribution: Distribution

    def __post_init__(self) -> None:
        """Check the distribution."""
        object.__setattr__(self, "distribution", standardised(self.distribution))


class EffectsFrom(_From):
    """Random effects Σ^½ u with independent standardised u_j from a distribution.

    Σ^½ is the symmetric root, so correlated effects are mixtures of the u_j, with covariance Σ
    exactly and margins between the distribution and the normal; with a diagonal Σ they are of it.

    Attributes:
        distribution: such as ``StudentT(5)``, or a frozen distribution of ``scipy.stats``.

    Raises:
        OptionError: that is no distribution with finite mean and variance.
    """


class ResidualsFrom(_From):
    """Independent residuals σ u with standardised u from a distribution.

    Attributes:
        distribution: such as ``Skewed(2)``, or a frozen distribution of ``scipy.stats``.

    Raises:
        OptionError: that is no distribution with finite mean and variance.
    """


@dataclass(frozen=True)
class Autocorrelated(Violation):
    """AR(1) residuals within units in the order of their rows; variance σ² throughout.

        e_1 = u_1,    e_t = ρ e_{t−1} + √(1 − ρ²) u_t

    With u from ``ResidualsFrom``, innovations have that distribution and residuals are mixtures.

    Attributes:
        rho: correlation of neighbours, between −1 and 1.

    Raises:
        OptionError: ρ is outside (−1, 1).
    """

    rho: float

    def __post_init__(self) -> None:
        """Check ρ."""
        if not -1.0 < number("rho", self.rho) < 1.0:
            raise OptionError(f"rho={self.rho!r} must lie between -1 and 1")

    def residuals(self, panel: Panel, e: Floats, numbers: RandomNumbers) -> Floats:
        """(N,) autocorrelated residuals."""
        out, scale = e.copy(), np.sqrt(1.0 - self.rho**2)
        order = np.lexsort((panel.unit, panel.occasion))
        ends = np.cumsum(np.bincount(panel.occasion))
        last = np.zeros(int(panel.unit_starts[-1]))
        last[panel.unit[order[: ends[0]]]] = e[order[: ends[0]]]
        for start, end in pairwise(ends):
            rows = order[start:end]
            unit = panel.unit[rows]
            last[unit] = out[rows] = self.rho * last[unit] + scale * e[rows]
        return out


@dataclass(frozen=True)
class _FunctionOf(Violation):
    """A violation by a function of a column of the design."""

    column: str
    function: Callable[[Floats], Floats]

    def __post_init__(self) -> None:
        """Check the function."""
        check_function("function", self.function)

    def _values(self, panel: Panel) -> Floats:
        """(N,) values of the function."""
        x = panel.column(self.column)
        values = np.asarray(self.function(x))
        if values.dtype.kind in "biuf":
            values = values.astype(float)
        if values.dtype != float or values.shape != x.shape or not np.isfinite(values).all():
            raise OptionError(
                f"function returned values of shape {values.shape}, or not all finite, for "
                f"{x.shape} numbers; it must map an array to an array of finite numbers of the "
                "same shape"
            )
        return values


class Heteroscedastic(_FunctionOf):
    """Residual standard deviation σ s(x)/√mean s(x)²: σ² on average over a data set's rows.

    Attributes:
        column: x, a column of the design.
        function: s, which maps (N,) values to (N,) positive numbers.

    Raises:
        OptionError: s is not positive and finite everywhere, or of another shape.
    """

    def residuals(self, panel: Panel, e: Floats, numbers: RandomNumbers) -> Floats:
        """(N,) residuals of unequal variance."""
        s = self._values(panel)
        if not (s >= 0.0).all() or not (panel.mean(s) > 0.0).all():
            raise OptionError(
                f"the standard deviation at {self.column!r} is negative, or 0 in all rows; give a "
                "function with positive values"
            )
        return np.asarray(e * s / np.sqrt(panel.mean(s**2))[panel.lane])


@dataclass(frozen=True)
class UnequalVariances(Violation):
    """Residual standard deviations σ exp(τz − τ²) by unit, z ~ N(0, 1): σ² on average over units.

    Attributes:
        spread: τ, the standard deviation of their logarithms; 0.5 makes one unit in six noisier
            than 1.28 σ. From about 2 on a handful of units in a thousand have most of the variance.

    Raises:
        OptionError: τ is negative or above 3, where no number of units would show σ² on average.
    """

    spread: float

    def __post_init__(self) -> None:
        """Check τ."""
        if not 0.0 <= number("spread", self.spread) <= MOST_SPREAD:
            raise OptionError(f"spread={self.spread!r} must lie between 0 and {MOST_SPREAD:g}")

    def residuals(self, panel: Panel, e: Floats, numbers: RandomNumbers) -> Floats:
        """(N,) residuals of unequal variance."""
        z = numbers.units(Gaussian().draw)
        return np.asarray(e * np.exp(self.spread * z - self.spread**2)[panel.unit])


class Nonlinear(_FunctionOf):
    """Adds f(x) to the mean.

    Attributes:
        column: x, a column of the design.
        function: f, which maps (N,) values to (N,) numbers.

    Raises:
        OptionError: f is not finite everywhere, or of another shape.
    """

    def mean(self, panel: Panel) -> Floats:
        """(N,) f(x)."""
        return self._values(panel)


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
