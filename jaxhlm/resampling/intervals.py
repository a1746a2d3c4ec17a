"""Bootstrap confidence intervals from replicates (Davison & Hinkley 1997, chapter 5)."""

from __future__ import annotations

import numpy as np

from jaxhlm.core.notation import BootstrapInterval, Floats
from jaxhlm.inference.tails import normal_cdf, normal_quantile

__all__ = ["acceleration", "bootstrap_interval"]


def bootstrap_interval(
    kind: BootstrapInterval,
    original: Floats,
    replicates: Floats,
    level: float,
    accelerations: Floats | None = None,
) -> tuple[Floats, Floats]:
    """Limits of every parameter.

    With θ*_(α) the α quantile of the replicates and z_α that of the normal distribution,

        percentile  θ*_(α),  θ*_(1−α)
        basic       2θ̂ − θ*_(1−α),  2θ̂ − θ*_(α)
        normal      2θ̂ − mean θ* ± z_α sd θ*
        bca         θ*_(α′) with α′ = Φ(w + (w + z_α)/(1 − a(w + z_α)))   (Efron 1987)

    where w = Φ⁻¹(share of replicates below θ̂, ties half) and a is the acceleration. Quantiles
    interpolate linearly between order statistics, as ``scipy.stats.bootstrap``.

    Args:
        kind: which interval.
        original: (m,) estimates.
        replicates: (B, m) replicates; NaN (a failed fit, an undefined correlation) is left out.
        level: confidence level.
        accelerations: (m,) for "bca".

    Returns:
        Lower and upper limits, (m,) each; NaN where the estimate is undefined, where there are no
        replicates, and, for "bca", where they all lie on one side of the estimate.

    Example:
        >>> replicates = np.arange(1.0, 102.0)[:, None]
        >>> low, high = bootstrap_interval("basic", np.array([40.0]), replicates, 0.90)
        >>> low.tolist(), high.tolist()
        ([-16.0], [74.0])
    """
    alpha = np.array([0.5 - level / 2.0, 0.5 + level / 2.0])
    low, high = np.full(len(original), np.nan), np.full(len(original), np.nan)
    for j, (estimate, column) in enumerate(zip(original, replicates.T, strict=True)):
        values = column[~np.isnan(column)]
        if np.isnan(estimate) or not len(values):
            continue
        if kind == "percentile":
            limits = np.quantile(values, alpha)
        elif kind == "basic":
            limits = 2.0 * estimate - np.quantile(values, alpha)[::-1]
        elif kind == "normal":
            sd = values.std(ddof=1) if len(values) > 1 else np.nan
            limits = 2.0 * estimate - values.mean() + normal_quantile(alpha) * sd
        else:
            assert accelerations is not None
            limits = _bca(float(estimate), values, alpha, float(accelerations[j]))
        low[j], high[j] = limits
    return low, high


def _bca(estimate: float, values: Floats, alpha: Floats, a: float) -> Floats:
    below = (np.mean(values < estimate) + np.mean(values <= estimate)) / 2.0
    w = normal_quantile(below)
    if not np.isfinite(w + a):
        return np.full(2, np.nan)
    shifted = w + normal_quantile(alpha)
    limits: Floats = np.quantile(values, normal_cdf(w + shifted / (1.0 - a * shifted)))
    return limits


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
