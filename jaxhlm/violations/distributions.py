"""Standardised distributions: mean 0 and variance 1, so that the truth's variances stay true."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxhlm.core.arguments import number, share
from jaxhlm.core.notation import Floats
from jaxhlm.errors import OptionError

__all__ = [
    "Contaminated",
    "Distribution",
    "Frozen",
    "Gaussian",
    "Laplace",
    "Skewed",
    "StudentT",
    "TwoClasses",
    "Uniform",
    "sampler",
    "standardised",
]


LEAST_SKEWNESS, MOST_SKEWNESS = 1e-6, 100.0


class Distribution(Protocol):
    """A distribution with mean 0 and variance 1."""

    def draw(self, rng: np.random.Generator, size: int) -> Floats:
        """(size,) independent draws."""
        ...


class Frozen(Protocol):
    """A frozen distribution of ``scipy.stats``."""

    def rvs(self, *, size: int, random_state: np.random.Generator) -> ArrayLike:
        """(size,) independent draws."""
        ...


@dataclass(frozen=True)
class Gaussian:
    """N(0, 1), no violation."""

    def draw(self, rng: np.random.Generator, size: int) -> Floats:
        """(size,) independent draws."""
        return rng.standard_normal(size)


@dataclass(frozen=True)
class StudentT:
    """Student's t divided by its standard deviation √(df/(df − 2)): heavy tails.

    Attributes:
        df: degrees of freedom, above 2; excess kurtosis 6/(df − 4).

    Raises:
        OptionError: df is not above 2, where the variance is infinite.
    """

    df: float = 5.0

    def __post_init__(self) -> None:
        """Refuse infinite variances."""
        if not number("df", self.df) > 2.0:
            raise OptionError(f"df={self.df!r}: t has a variance for df above 2 only")

    def draw(self, rng: np.random.Generator, size: int) -> Floats:
        """(size,) independent draws."""
        df = float(self.df)
        return rng.standard_t(df, size) / np.sqrt(df / (df - 2.0))


@dataclass(frozen=True)
class Skewed:
    """(Γ(k) − k)/√k with k = 4/skewness²; skewness 2 is the exponential distribution.

    Attributes:
        skewness: third standardised moment, between 10⁻⁶ and 100 in size; negative for a long
            left tail.

    Raises:
        OptionError: skewness is zero, or so small or large that no draw would show it.
    """

    skewness: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a symmetric gamma distribution."""
        if not LEAST_SKEWNESS <= abs(number("skewness", self.skewness)) <= MOST_SKEWNESS:
            raise OptionError(
                f"skewness={self.skewness!r} must be between {LEAST_SKEWNESS:g} and "
                f"{MOST_SKEWNESS:g} in size; Gaussian() has none"
            )

    def draw(self, rng: np.random.Generator, size: int) -> Floats:
        """(size,) independent draws."""
        skewness = float(self.skewness)
        shape = 4.0 / skewness**2
        return np.sign(skewness) * (rng.standard_gamma(shape, size) - shape) / np.sqrt(shape)


@dataclass(frozen=True)
class Contaminated:
    """Normal with outliers: a share of the draws has a standard deviation ``ratio`` times larger.

    Attributes:
        share: share of outliers; at 0 the draws are normal.
        ratio: their standard deviation over that of the others.

    Raises:
        OptionError: the share is outside [0, 1), or the ratio not positive.
    """

    share: float = 0.1
    ratio: float = 5.0

    def __post_init__(self) -> None:
        """Check both numbers."""
        share("share", self.share)
        if not number("ratio", self.ratio) > 0.0:
            raise OptionError(f"ratio={self.ratio!r} must be positive")

    def draw(self, rng: np.random.Generator, size: int) -> Floats:
        """(size,) independent draws."""
        z = rng.standard_normal(size)
        ratio = float(self.ratio)
        z[rng.random(size) < self.share] *= ratio
        return z / np.sqrt(1.0 + self.share * (ratio**2 - 1.0))


@dataclass(frozen=True)
class TwoClasses:
    """A mixture of two normal distributions of one variance: latent classes.

    Attributes:
        share: share of the upper class; at 0 the draws are normal.
        distance: between the means, in standard deviations within classes.

    Raises:
        OptionError: the share is outside [0, 1), or the distance not finite.
    """

    share: float = 0.5
    distance: float = 4.0

    def __post_init__(self) -> None:
        """Check both numbers."""
        share("share", self.share)
        number("distance", self.distance)

    def draw(self, rng: np.random.Generator, size: int) -> Floats:
        """(size,) independent draws."""
        upper = rng.random(size) < self.share
        distance = float(self.distance)
        z = rng.standard_normal(size) + distance * (upper - self.share)
        return z / np.sqrt(1.0 + self.share * (1.0 - self.share) * distance**2)


@dataclass(frozen=True)
class Uniform:
    """Uniform between −√3 and √3: no tails."""

    def draw(self, rng: np.random.Generator, size: int) -> Floats:
        """(size,) independent draws."""
        return rng.uniform(-np.sqrt(3.0), np.sqrt(3.0), size)


@dataclass(frozen=True)
class Laplace:
    """Double exponential with scale 1/√2; excess kurtosis 3."""

    def draw(self, rng: np.random.Generator, size: int) -> Floats:
        """(size,) independent draws."""
        return rng.laplace(scale=np.sqrt(0.5), size=size)


@dataclass(frozen=True)
class _Standardised:
    """A frozen distribution of SciPy, less its mean, over its standard deviation."""

    frozen: Frozen
    mean: float
    sd: float

    def draw(self, rng: np.random.Generator, size: int) -> Floats:
        """(size,) independent draws."""
        draws = self.frozen.rvs(size=size, random_state=rng)
        return (np.asarray(draws, dtype=float) - self.mean) / self.sd


def standardised(distribution: Any) -> Distribution:
    """One of this module's distributions as it is, or a frozen one of SciPy standardised.

    Raises:
        OptionError: anything else, or a distribution without a finite mean and variance.

    >>> from scipy import stats
    >>> draws = standardised(stats.chi2(3)).draw(np.random.default_rng(1), 10_000)
    >>> bool(abs(draws.mean()) < 0.05 and abs(draws.std() - 1) < 0.05)
    True
    """
    if isinstance(distribution, type):
        raise OptionError(f"{distribution.__name__} is a class; write {distribution.__name__}()")
    if hasattr(distribution, "draw"):
        return distribution
    if not hasattr(distribution, "rvs"):
        raise OptionError(
            f"{distribution!r} is no distribution; give one of jaxhlm.violations, such as "
            "StudentT(5), or a frozen one of scipy.stats"
        )
    mean, sd = float(distribution.mean()), float(distribution.std())
    if not (np.isfinite(mean) and np.isfinite(sd) and sd > 0.0):
        raise OptionError(
            f"the distribution has mean {mean} and standard deviation {sd}; both must be finite "
            "to draw random effects or residuals of a given variance from it"
        )
    return _Standardised(distribution, mean, sd)


def sampler(name: str, source: Any) -> Callable[[np.random.Generator, int], NDArray[Any]]:
    """``(rng, size) -> (size,) values`` of a covariate, from a callable or a frozen distribution.

    Raises:
        OptionError: it is neither, or later: what it returns has another shape.
    """
    frozen = hasattr(source, "rvs")
    if not frozen and (not callable(source) or isinstance(source, type)):
        raise OptionError(
            f"{name!r} cannot be drawn from {source!r}; give a function (rng, size) -> array, "
            "a frozen distribution of scipy.stats such as stats.norm(0, 2), or fixed values"
        )

    def checked(rng: np.random.Generator, size: int) -> NDArray[Any]:
        drawn = source.rvs(size=size, random_state=rng) if frozen else source(rng, size)
        values = np.asarray(drawn)
        if values.shape != (size,):
            raise OptionError(
                f"{name!r} was drawn with shape {values.shape}; its distribution must return "
                f"{size} values when asked for {size}"
            )
        return values

    return checked
