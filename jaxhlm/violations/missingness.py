"""Responses that are missing: by the random effects, completely at random, by x, or by y itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxhlm.core.arguments import fraction, number, share
from jaxhlm.core.notation import Bools, Floats
from jaxhlm.errors import OptionError
from jaxhlm.inference.tails import logistic_cdf, logit
from jaxhlm.violations.panel import Panel, RandomNumbers
from jaxhlm.violations.violation import Violation

__all__ = ["InformativeSize", "MissingAtRandom", "MissingCompletely", "MissingNotAtRandom"]

NEWTON_STEPS, RATE_STEPS, RATE_TOL = 60, 160, 1e-10
# Where the mean probability hardly rises the bracket is halved.
LEAST_RISE = 1e-200
# A threshold in all but name; the log odds of steeper ones leave no digits for the rate.
MOST_SLOPE = 1e6


@dataclass(frozen=True)
class InformativeSize(Violation):
    """Every response is there with probability logit⁻¹(logit(kept) + slope b_ij/√Σ_jj).

    So the sizes of groups depend on a random effect.

    Attributes:
        effect: name of random effect j.
        slope: log odds ratio of a standard deviation of it.
        kept: probability at b_ij = 0; at 1 none is missing.

    Raises:
        OptionError: ``kept`` is outside (0, 1], or the effect has no variance.
        UnknownTermError: the generating model has no such random effect.
    """

    effect: str = "(Intercept)"
    slope: float = 1.0
    kept: float = 0.7

    def __post_init__(self) -> None:
        """Check the numbers."""
        if number("kept", self.kept) != 1.0:
            fraction("kept", self.kept, 0.7)
        number("slope", self.slope)

    def missing(
        self, panel: Panel, b: Floats, cov: Floats, y: Floats, numbers: RandomNumbers
    ) -> Bools:
        """(N,) responses that are missing."""
        j = panel.effect(self.effect)
        if not (cov[:, j, j] > 0.0).all():
            raise OptionError(f"random effect {self.effect!r} has no variance to be informed by")
        scores = b[:, j] / np.sqrt(cov[:, j, j])[panel.unit_lane]
        probability = logistic_cdf(logit(self.kept) + float(self.slope) * scores)
        return np.asarray(numbers.rows(np.random.Generator.random) >= probability[panel.unit])


@dataclass(frozen=True)
class MissingCompletely(Violation):
    """Responses are missing with one probability, completely at random (MCAR).

    Attributes:
        rate: the probability; at 0 none is missing.

    Raises:
        OptionError: the rate is outside [0, 1).
    """

    rate: float

    def __post_init__(self) -> None:
        """Check the rate."""
        share("rate", self.rate)

    def missing(
        self, panel: Panel, b: Floats, cov: Floats, y: Floats, numbers: RandomNumbers
    ) -> Bools:
        """(N,) responses that are missing."""
        return np.asarray(numbers.rows(np.random.Generator.random) < self.rate)


@dataclass(frozen=True)
class MissingAtRandom(Violation):
    """Responses are missing with probability logit⁻¹(α + slope x̃): at random given x (MAR).

    x̃ is x less its mean, over its standard deviation, and α such that the expected rate is met in
    every data set.

    Attributes:
        column: x, a column of the design.
        rate: expected share of missing responses; at 0 none is missing.
        slope: log odds ratio of a standard deviation of x, up to 10⁶ in size.

    Raises:
        OptionError: the rate is outside [0, 1), or the slope too steep.
    """

    column: str
    rate: float
    slope: float = 1.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        share("rate", self.rate)
        _check_slope(self.slope)

    def missing(
        self, panel: Panel, b: Floats, cov: Floats, y: Floats, numbers: RandomNumbers
    ) -> Bools:
        """(N,) responses that are missing."""
        scores = panel.standard_scores(panel.column(self.column))
        return _selected(panel, float(self.slope) * scores, self.rate, numbers)


@dataclass(frozen=True)
class MissingNotAtRandom(Violation):
    """Responses are missing with probability logit⁻¹(α + slope ỹ): not at random (MNAR).

    ỹ is y less its mean, over its standard deviation, and α such that the expected rate is met in
    every data set.

    Attributes:
        rate: expected share of missing responses; at 0 none is missing.
        slope: log odds ratio of a standard deviation of y, up to 10⁶ in size.

    Raises:
        OptionError: the rate is outside [0, 1), or the slope too steep.
    """

    rate: float
    slope: float = 1.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        share("rate", self.rate)
        _check_slope(self.slope)

    def missing(
        self, panel: Panel, b: Floats, cov: Floats, y: Floats, numbers: RandomNumbers
    ) -> Bools:
        """(N,) responses that are missing."""
        return _selected(panel, float(self.slope) * panel.standard_scores(y), self.rate, numbers)


def _selected(panel: Panel, score: Floats, rate: float, numbers: RandomNumbers) -> Bools:
    """(N,) rows selected with log odds α + score, and the rate in every data set.

    The mean probability rises with α, so Newton's step, held within the bracket that the signs
    seen so far leave, finds it; where it rises in steps, halving the bracket does. A data set that
    is done stays as it is, so that it does not depend on those it is drawn with.
    """
    low = logit(rate) - np.maximum.reduceat(score, panel.starts[:-1])
    high = logit(rate) - np.minimum.reduceat(score, panel.starts[:-1])
    alpha = np.full(len(low), logit(rate))
    for step_number in range(RATE_STEPS):
        probability = logistic_cdf(alpha[panel.lane] + score)
        excess = panel.mean(probability) - rate
        todo = np.abs(excess) > RATE_TOL
        if not todo.any():
            break
        low, high = np.where(excess < 0.0, alpha, low), np.where(excess > 0.0, alpha, high)
        slope = panel.mean(probability * (1.0 - probability))
        step = alpha - excess / np.where(slope > LEAST_RISE, slope, 1.0)
        inside = (step > low) & (step < high) & (slope > LEAST_RISE) & (step_number < NEWTON_STEPS)
        alpha = np.where(todo, np.where(inside, step, 0.5 * (low + high)), alpha)
    probability = logistic_cdf(alpha[panel.lane] + score)
    return np.asarray(numbers.rows(np.random.Generator.random) < probability)


def _check_slope(slope: float) -> None:
    if not abs(number("slope", slope)) <= MOST_SLOPE:
        raise OptionError(f"slope={slope!r} must be at most {MOST_SLOPE:,.0f} in size")
