"""Distributions of likelihood ratios: χ², and mixtures of χ² where variances are tested at 0."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxhlm.core.notation import Floats
from jaxhlm.inference.tails import chi2_tail

__all__ = ["Mixture", "likelihood_ratio"]

# A likelihood ratio below this is zero but for rounding: the larger model is the smaller one.
ZERO = 1e-8


@dataclass(frozen=True)
class Mixture:
    """Σ w_d χ²_d; χ²_0 is a point at zero.

    Attributes:
        weights: (df + 1,) weight of every number of degrees of freedom, from 0.

    Example:
        >>> print(Mixture.one_variance(1), Mixture.one_variance(0), Mixture.regular(2), sep="; ")
        0.5 χ²(1) + 0.5 χ²(2); 0.5 χ²(0) + 0.5 χ²(1); χ²(2)
        >>> round(float(Mixture.one_variance(0).p_value(np.array([2.7055]))[0]), 4)
        0.05
    """

    weights: tuple[float, ...]

    @staticmethod
    def regular(df: int) -> Mixture:
        """χ² with df degrees of freedom: nothing at the boundary."""
        return Mixture((0.0,) * df + (1.0,))

    @staticmethod
    def one_variance(covariances: int) -> Mixture:
        """One variance and its covariances with others (Stram & Lee 1994)."""
        return Mixture((0.0,) * covariances + (0.5, 0.5))

    def __mul__(self, other: Mixture) -> Mixture:
        """The distribution of the sum of independent ones."""
        return Mixture(tuple(np.convolve(self.weights, other.weights).tolist()))

    @property
    def at_boundary(self) -> bool:
        """Whether there is more than one component."""
        return sum(w > 0.0 for w in self.weights) > 1

    def p_value(self, statistic: Floats) -> Floats:
        """P(≥ statistic), Σ w_d P(χ²_d ≥ statistic)."""
        statistic = np.asarray(statistic, dtype=float)
        point = np.where(np.isnan(statistic), np.nan, (statistic <= 0.0).astype(float))
        tails = [
            point,
            *(chi2_tail(np.maximum(statistic, 0.0), d) for d in range(1, len(self.weights))),
        ]
        return np.asarray(sum(w * t for w, t in zip(self.weights, tails, strict=True) if w))

    def __str__(self) -> str:
        """The components and their weights."""
        parts = [(f"{w:.4g} ", d) for d, w in enumerate(self.weights) if w]
        if len(parts) == 1:
            return f"χ²({parts[0][1]})"
        return " + ".join(f"{w}χ²({d})" for w, d in parts)


def likelihood_ratio(smaller: Floats, larger: Floats) -> Floats:
    """−2 log λ from criteria on the scale of −2 log-likelihood; not below zero, as in lme4."""
    difference = np.asarray(smaller, dtype=float) - larger
    return np.where(difference < ZERO, np.where(np.isnan(difference), np.nan, 0.0), difference)
