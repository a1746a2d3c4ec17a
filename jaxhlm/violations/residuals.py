"""Residuals that are not normal, not independent, or of unequal variance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from jaxhlm.core.arguments import check_function, number
from jaxhlm.core.notation import Floats
from jaxhlm.errors import OptionError
from jaxhlm.violations.distributions import Distribution, Gaussian, standardised
from jaxhlm.violations.panel import Panel, RandomNumbers
from jaxhlm.violations.violation import Violation, function_values

__all__ = ["Autocorrelated", "Heteroscedastic", "ResidualsFrom", "UnequalVariances"]


MOST_SPREAD = 3.0


@dataclass(frozen=True)
class ResidualsFrom(Violation):
    """Independent residuals σ u with standardised u from a distribution.

    Attributes:
        distribution: such as ``Skewed(2)``, or a frozen distribution of ``scipy.stats``.

    Raises:
        OptionError: that is no distribution with finite mean and variance.
    """

    distribution: Distribution

    def __post_init__(self) -> None:
        """Check the distribution."""
        object.__setattr__(self, "distribution", standardised(self.distribution))


@dataclass(frozen=True)
class Autocorrelated(Violation):
    """AR(1) residuals within units in the order of their rows; variance σ² throughout.

    Violations change residuals in the order in which they are listed. With ``Heteroscedastic`` list
    this one first: of residuals whose variances are unequal within units already it makes others,
    whose variance need not be σ² on average.

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
class Heteroscedastic(Violation):
    """Residual standard deviation σ s(x)/√mean s(x)²: σ² on average over a data set's rows.

    That holds of residuals whose variance has nothing to do with x before. A second one of the
    same, or of a related, column multiplies the deviations that the first one made, and the mean of
    their squares is another; put both into one function. List it after ``Autocorrelated``.

    Attributes:
        column: x, a column of the design.
        function: s, which maps (N,) values to (N,) positive numbers.

    Raises:
        OptionError: s is not positive and finite everywhere, or of another shape.
    """

    column: str
    function: Callable[[Floats], Floats]

    def __post_init__(self) -> None:
        """Check the function."""
        check_function("function", self.function)

    def residuals(self, panel: Panel, e: Floats, numbers: RandomNumbers) -> Floats:
        """(N,) residuals of unequal variance."""
        s = function_values(panel, self.column, self.function)
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
