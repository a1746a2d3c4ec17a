"""Rates that are counted: exact intervals and Monte-Carlo standard errors."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from jaxhlm.core.notation import Floats
from jaxhlm.inference.tails import beta_quantile

__all__ = ["exact_interval", "rate_mcse"]


def exact_interval(hits: ArrayLike, n: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    """Clopper and Pearson's interval (1934, Biometrika 26, 404-413), R's ``binom.test``.

    Its limits are quantiles of Beta(h, n − h + 1) at (1 − level)/2 and Beta(h + 1, n − h) at
    (1 + level)/2; 0 for h = 0 and 1 for h = n. NaN where n = 0.

    Args:
        hits: (…) number of successes h.
        n: (…) number of trials.
        level: of the interval.

    Example:
        >>> low, high = exact_interval(8, 10)
        >>> round(float(low), 4), round(float(high), 4)
        (0.4439, 0.9748)
    """
    hits, n = np.broadcast_arrays(np.asarray(hits, float), np.asarray(n, float))
    tail = 0.5 * (1.0 - level)
    with np.errstate(invalid="ignore"):
        low = beta_quantile(tail, np.maximum(hits, 1.0), n - hits + 1.0)
        high = beta_quantile(1.0 - tail, hits + 1.0, np.maximum(n - hits, 1.0))
    low, high = np.where(hits > 0, low, 0.0), np.where(hits < n, high, 1.0)
    return np.where(n > 0, low, np.nan), np.where(n > 0, high, np.nan)


def rate_mcse(hits: ArrayLike, n: ArrayLike) -> Floats:
    """Monte-Carlo standard error √(r(1 − r)/n) of the rate r = h/n; NaN where n = 0.

    Source: Morris, White & Crowther (2019), Stat. Med. 38, 2074-2102, table 6.

    Example:
        >>> float(rate_mcse(50, 100))
        0.05
    """
    hits, n = np.asarray(hits, float), np.asarray(n, float)
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = hits / n
        return np.sqrt(rate * (1.0 - rate) / n)
