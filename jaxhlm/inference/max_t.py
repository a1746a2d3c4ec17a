"""p values of many tests adjusted by the distribution of their largest statistic.

With |z_1| ≤ … ≤ |z_m| observed and z* from resamples in which all hypotheses hold, the chance of
any false discovery is bounded by rejecting where p ≤ α for

    single step   p_b = (1 + #{max over all tests |z*| ≥ |z_b|})/(R + 1)
    step down     p_b = (1 + #{max over tests 1 … b |z*| ≥ |z_b|})/(R + 1), made monotone in b

(Westfall & Young 1993, Resampling-Based Multiple Testing, algorithms 2.5 and 2.8; Romano & Wolf
2005, J. Am. Statist. Assoc. 100, 94-108). Tests are seen part by part, from the smallest |z_b| on,
so that no more is kept of a resample than its largest statistic yet.
"""

from __future__ import annotations

import numpy as np

from jaxhlm.core.notation import Floats, Ints

__all__ = ["critical_value", "exceedances", "single_step", "step_down"]

# Statistics that are equal but for where their searches ended, such as those of a resample that
# gives the data back: closer than this, relative.
SAME = 1e-6


def exceedances(observed: Floats, resampled: Floats, largest: Floats) -> tuple[Ints, Floats]:
    """How many resamples reach every test of a part, by their largest statistic up to it.

    Args:
        observed: (b,) |z_b| of this part of the tests, ascending.
        resampled: (b, r) |z*|; NaN, where a refit failed, does not count.
        largest: (r,) the largest of the tests before them, 0 for none.

    Returns:
        (b,) counts, and (r,) the largest with this part.

    Example:
        >>> resampled = np.array([[1.5, 0.1], [1.0, 3.0]])
        >>> counts, largest = exceedances(np.array([1.0, 2.0]), resampled, np.zeros(2))
        >>> counts.tolist(), largest.tolist()
        ([1, 1], [1.5, 3.0])
    """
    so_far = np.maximum.accumulate(np.vstack([largest, np.nan_to_num(resampled, posinf=np.inf)]))
    reached = so_far[1:] >= (1.0 - SAME) * observed[:, None]
    return reached.sum(axis=1), so_far[-1]


def step_down(counts: Ints, resamples: int) -> Floats:
    """Adjusted p values (m,) from counts of ``exceedances`` in ascending order of |z|."""
    p = (1.0 + counts) / (resamples + 1.0)
    falling: Floats = np.maximum.accumulate(p[::-1])[::-1]
    return falling


def single_step(observed: Floats, maxima: Floats) -> Floats:
    """Adjusted p values (m,) from the largest statistics (R,) of all tests."""
    R, rising = len(maxima), np.sort(maxima)
    reached = R - np.searchsorted(rising, (1.0 - SAME) * observed, side="left")
    return np.asarray((1.0 + reached) / (R + 1.0))


def critical_value(maxima: Floats, level: float, exact: bool) -> tuple[float, float]:
    """What |z| has to exceed for a single-step p ≤ level, and its Monte-Carlo standard error.

    It is the k-th largest of the (R,) maxima, k = ⌊level (R + 1)⌋, infinite where that is 0: so few
    resamples reach no such p. The error is half the distance of the order statistics at
    k ± √(R level (1 − level)), 0 where the resamples are all that there are.
    """
    R, falling = len(maxima), np.sort(maxima)[::-1]
    k = int(level * (R + 1) * (1.0 + SAME))
    if k == 0:
        return np.inf, np.nan
    off = np.sqrt(R * level * (1.0 - level))
    at = np.clip(np.rint([k - off, k + off]).astype(int), 1, R) - 1
    high, low = falling[at]
    return float(falling[k - 1]), 0.0 if exact else float(0.5 * (high - low))
