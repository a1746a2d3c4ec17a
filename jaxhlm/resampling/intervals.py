"""Bootstrap confidence intervals from replicates (Davison & Hinkley 1997, chapter 5)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from jaxhlm.core.notation import BootstrapInterval, Floats
from jaxhlm.errors import DegenerateWarning, warn_user
from jaxhlm.inference.tails import normal_cdf, normal_quantile

__all__ = ["SAME", "acceleration", "bootstrap_interval"]

# Values that differ by less, relative to their size, are the same but for rounding.
SAME = 1e-9
# More replicates than that share at the estimate are no chance.
ATOM = 0.05


@np.errstate(invalid="ignore")
def bootstrap_interval(
    kind: BootstrapInterval,
    original: Floats,
    replicates: Floats,
    level: float,
    names: Sequence[Hashable],
    accelerations: Floats | None = None,
) -> tuple[Floats, Floats]:
    """Limits of every parameter.

    With θ*_(α) the α quantile of the replicates and z_α that of the normal distribution,

        percentile  θ*_(α),  θ*_(1−α)
        basic       2θ̂ − θ*_(1−α),  2θ̂ − θ*_(α)
        normal      2θ̂ − mean θ* ± z_α sd θ*
        bca         θ*_(α′) with α′ = Φ(w + (w + z_α)/(1 − a(w + z_α)))   (Efron 1987)

    where w = Φ⁻¹(share of replicates below θ̂, ties half) and a is the acceleration. Quantiles
    interpolate linearly between order statistics, as ``scipy.stats.bootstrap``, and are infinite
    where the lower of two is −∞ or the upper ∞.

    All but the percentile interval take θ* − θ̂ for θ̂ − θ, which does not hold at the end of a
    range: where a variance is estimated as zero, so is every second replicate, and none is less
    (Andrews 2000). Where so many replicates are θ̂ itself, these limits are NaN.

    Args:
        kind: which interval.
        original: (m,) estimates.
        replicates: (B, m) replicates; NaN (a failed fit, an undefined correlation) is left out.
        level: confidence level.
        names: m names, for the warning.
        accelerations: (m,) for "bca".

    Returns:
        Lower and upper limits, (m,) each; NaN where the estimate is undefined, where there are no
        replicates, where it is at the end of a range but for "percentile", and, for "bca", where
        all replicates lie on one side of the estimate.

    Warns:
        DegenerateWarning: some estimates are at the end of a range; ``names`` says which.

    References:
        Andrews (2000). Inconsistency of the bootstrap when a parameter is on the boundary of the
        parameter space. Econometrica 68, 399-405.

    Example:
        >>> replicates = np.arange(1.0, 102.0)[:, None]
        >>> low, high = bootstrap_interval("basic", np.array([40.0]), replicates, 0.90, ["mean"])
        >>> low.tolist(), high.tolist()
        ([-16.0], [74.0])
    """
    alpha = np.array([0.5 - level / 2.0, 0.5 + level / 2.0])
    low, high = np.full(len(original), np.nan), np.full(len(original), np.nan)
    ended = []
    for j, (estimate, column) in enumerate(zip(original, replicates.T, strict=True)):
        values = column[~np.isnan(column)]
        if np.isnan(estimate) or not len(values):
            continue
        if kind != "percentile" and _at_the_end(values, estimate):
            ended.append(str(names[j]))
            continue
        if kind == "percentile":
            limits = _quantiles(values, alpha)
        elif kind == "basic":
            limits = 2.0 * estimate - _quantiles(values, alpha)[::-1]
        elif kind == "normal":
            sd = values.std(ddof=1) if len(values) > 1 else np.nan
            limits = 2.0 * estimate - values.mean() + normal_quantile(alpha) * sd
        else:
            assert accelerations is not None
            limits = _bca(float(estimate), values, alpha, float(accelerations[j]))
        low[j], high[j] = limits
    if ended:
        warn_user(
            f"{', '.join(ended)}: no {kind} limits, for many replicates have the very value of the "
            "estimate, as where a variance is estimated as zero, and these limits do not hold "
            'there; use "percentile", or profiles',
            DegenerateWarning,
        )
    return low, high


def _at_the_end(values: Floats, estimate: float) -> bool:
    """Whether many values are the estimate, and all others on one side of it."""
    away = values - estimate
    there = abs(away) <= SAME * abs(estimate)
    others = away[~there]
    return bool(there.mean() > ATOM and ((others > 0.0).all() or (others < 0.0).all()))


def _bca(estimate: float, values: Floats, alpha: Floats, a: float) -> Floats:
    below = (np.mean(values < estimate) + np.mean(values <= estimate)) / 2.0
    w = normal_quantile(below)
    if not np.isfinite(w + a):
        return np.full(2, np.nan)
    shifted = w + normal_quantile(alpha)
    return _quantiles(values, normal_cdf(w + shifted / (1.0 - a * shifted)))


def _quantiles(values: Floats, shares: Floats) -> Floats:
    found = np.quantile(values, shares)
    # Between infinite values, or right at one, there is nothing to interpolate.
    return np.where(np.isnan(found), np.quantile(values, shares, method="lower"), found)


def acceleration(jackknife: Floats) -> Floats:
    """Efron's acceleration a = Σ d³ / 6(Σ d²)^{3/2}, d_i = mean θ_(·) − θ_(i), (m,).

    0 for a parameter that leaving out a group never moves, such as a variance that stays zero.

    Args:
        jackknife: (G, m) estimates with one group left out, NaN where they are undefined.

    Returns:
        (m,), NaN where no estimate is defined.

    Example:
        >>> acceleration(np.array([[1.0], [2.0], [6.0]])).round(4).tolist()
        [-0.0573]
    """
    with np.errstate(invalid="ignore"):
        d = np.nansum(jackknife, axis=0) / (~np.isnan(jackknife)).sum(axis=0) - jackknife
        size = np.nansum(d**2, axis=0) ** 1.5
        a = np.nansum(d**3, axis=0) / (6.0 * np.where(size > 0.0, size, 1.0))
    return np.where(np.isnan(d).all(axis=0), np.nan, a)
