"""Performance measures of estimators with Monte-Carlo standard errors, all groups at once.

Every function takes ``ReplicateGroups``, rows of one replicate each, and returns (K,) estimates and
(K,) Monte-Carlo standard errors (MCSE), NaN where a group has too few rows. Sums are
``np.bincount``, so ten million rows take seconds. The formulas are those of Morris, White &
Crowther (2019), Statistics in Medicine 38, 2074-2102, table 6, unless a line says otherwise; n is
the number of rows of a group, θ̂ its estimates, θ their truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np

from jaxhlm.core.notation import Bools, Floats, Ints
from jaxhlm.studies.binomial import rate_mcse

__all__ = [
    "EstimateWithMcse",
    "ReplicateGroups",
    "coverage",
    "empirical_se",
    "mean_of",
    "model_se",
    "rate",
    "relative_error",
    "relative_precision",
    "root_mean_square",
]

EstimateWithMcse: TypeAlias = tuple[Floats, Floats]


@dataclass(frozen=True, eq=False)
class ReplicateGroups:
    """Rows in K groups.

    Attributes:
        code: (rows,) group of every row, 0 … K − 1.
        K: number of groups.

    Example:
        >>> groups = ReplicateGroups(np.array([0, 0, 1]), 2)
        >>> groups.mean(np.array([1.0, 3.0, 5.0])).tolist()
        [2.0, 5.0]
    """

    code: Ints
    K: int

    @cached_property
    def n(self) -> Floats:
        """(K,) rows in every group."""
        return np.bincount(self.code, minlength=self.K).astype(float)

    def sum(self, x: Floats | Bools) -> Floats:
        """(K,) sums of (rows,) values."""
        return np.bincount(self.code, x, self.K).astype(float, copy=False)

    def mean(self, x: Floats | Bools) -> Floats:
        """(K,) means; NaN in an empty group."""
        with np.errstate(invalid="ignore"):
            return self.sum(x) / self.n

    def cov(self, x: Floats, y: Floats) -> Floats:
        """(K,) sample covariances, divisor n − 1, from centred values; NaN below two rows."""
        x = x - self.mean(x)[self.code]
        y = x if y is x else y - self.mean(y)[self.code]
        n = self.n
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(n > 1.0, self.sum(x * y) / (n - 1.0), np.nan)

    def var(self, x: Floats) -> Floats:
        """(K,) sample variances, divisor n − 1."""
        x = x - self.mean(x)[self.code]
        return self.cov(x, x)

    def keep(self, rows: Bools) -> ReplicateGroups:
        """The same groups, of some rows only."""
        return ReplicateGroups(self.code[rows], self.K)


def mean_of(groups: ReplicateGroups, x: Floats) -> EstimateWithMcse:
    """Mean of x and sd(x)/√n.

    For bias x = θ̂ − θ, for relative bias (θ̂ − θ)/θ, for the MSE (θ̂ − θ)², for the width of
    intervals that, and for the type-M error |θ̂|/|θ| of significant estimates.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return groups.mean(x), np.sqrt(groups.var(x) / groups.n)


def rate(groups: ReplicateGroups, hit: Bools | Floats, n: Floats | None = None) -> EstimateWithMcse:
    """Share of hits r and √(r(1 − r)/n).

    For the type-S error a hit is a significant estimate whose sign is not the truth's.

    Args:
        groups: groups of the rows.
        hit: (rows,) 0 or 1.
        n: (K,) denominators where they are not the rows of the groups.
    """
    hits, n = groups.sum(hit), groups.n if n is None else n
    with np.errstate(invalid="ignore", divide="ignore"):
        return hits / n, rate_mcse(hits, n)


def empirical_se(groups: ReplicateGroups, error: Floats) -> EstimateWithMcse:
    """EmpSE = sd(θ̂ − θ) and EmpSE/√(2(n − 1)), that of normally distributed estimates.

    With one truth per group this is sd(θ̂); with a truth drawn for every replicate the variance of
    the truths does not count.
    """
    n = groups.n
    value = np.sqrt(groups.var(error))
    with np.errstate(invalid="ignore", divide="ignore"):
        return value, value / np.sqrt(2.0 * (n - 1.0))


def model_se(groups: ReplicateGroups, se: Floats) -> EstimateWithMcse:
    """ModSE = √mean(se²) and √(Var(se²)/(4n ModSE²))."""
    square = se * se
    value = np.sqrt(groups.mean(square))
    with np.errstate(invalid="ignore", divide="ignore"):
        return value, np.sqrt(groups.var(square) / (4.0 * groups.n)) / value


def relative_error(groups: ReplicateGroups, error: Floats, se: Floats) -> EstimateWithMcse:
    """100 (ModSE/EmpSE − 1) and 100 (ModSE/EmpSE) √(Var(se²)/(4n ModSE⁴) + 1/(2(n − 1))).

    The two terms are the squared relative MCSEs of ModSE and EmpSE, taken as independent.
    """
    (model, model_mcse), (empirical, _) = model_se(groups, se), empirical_se(groups, error)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = model / empirical
        relative = np.sqrt((model_mcse / model) ** 2 + 1.0 / (2.0 * (groups.n - 1.0)))
        return 100.0 * (ratio - 1.0), 100.0 * ratio * relative


def root_mean_square(groups: ReplicateGroups, error: Floats) -> EstimateWithMcse:
    """RMSE = √MSE and its jackknife standard error √((n − 1)/n Σ(RMSE₋ᵢ − mean RMSE₋ᵢ)²).

    Joshi & Pustejovsky (2024), simhelpers; RMSE₋ᵢ leaves replicate i out.
    """
    n, square = groups.n, error * error
    total = groups.sum(square)
    with np.errstate(invalid="ignore", divide="ignore"):
        without = np.maximum(total[groups.code] - square, 0.0) / (n[groups.code] - 1.0)
        variance = groups.var(np.sqrt(without))
        return np.sqrt(total / n), np.sqrt(variance / n) * (n - 1.0)


def coverage(groups: ReplicateGroups, value: Floats, low: Floats, high: Floats) -> EstimateWithMcse:
    """Share of intervals with low ≤ value ≤ high; NaN where a value of the group is NaN.

    Bias-eliminated coverage takes θ + bias for θ, and its MCSE leaves out that the bias is
    estimated, as Morris et al. do.
    """
    return rate(groups, np.where(np.isnan(value), np.nan, (low <= value) & (value <= high)))


def relative_precision(
    groups: ReplicateGroups, error: Floats, reference: Floats
) -> EstimateWithMcse:
    """100 ((EmpSE_ref/EmpSE)² − 1) and 200 (EmpSE_ref/EmpSE)² √((1 − ρ²)/(n − 1)).

    How much more precise a method is than the reference, in per cent. ρ is the correlation of the
    two methods' estimates of the same data sets.

    Args:
        groups: groups of the rows where both methods have an estimate.
        error: (rows,) of the method.
        reference: (rows,) of the reference method for the same data sets.
    """
    mine, other = groups.var(error), groups.var(reference)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = other / mine
        rho2 = np.minimum(groups.cov(error, reference) ** 2 / (mine * other), 1.0)
        mcse = 200.0 * ratio * np.sqrt((1.0 - rho2) / (groups.n - 1.0))
        return 100.0 * (ratio - 1.0), mcse
