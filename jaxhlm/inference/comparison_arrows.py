"""Arrows about means that overlap where two do not differ significantly, as emmeans draws them.

An interval of a difference d ± m overlaps zero by the share v = 2 min(m − d, m + d)/2m, negative
where it is significant. Lengths to the left and right of every mean solve, by least squares,

    (right of the lower + left of the higher)(1 − v) = |d|

for all pairs, those with v near zero with the larger weights, and with the shortest m/2 of a mean's
pairs as a weak guess of its own.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from jaxhlm.core.notation import Floats

__all__ = ["comparison_arrows"]

# Of the range of the means: how far arrows of the outermost pairs reach beyond it.
BEYOND = 0.02


@np.errstate(invalid="ignore", divide="ignore")
def comparison_arrows(means: Floats, low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """Left and right ends of the arrows, (k,) each.

    Args:
        means: (k,) means.
        low, high: limits of the differences of all pairs, a − b in the order of ``combinations``.

    Returns:
        NaN to the left of the lowest and to the right of the highest mean.
    """
    k, pairs = len(means), list(combinations(range(len(means)), 2))
    difference, width = np.array([means[i] - means[j] for i, j in pairs]), high - low
    rest = 1.0 - 2.0 * np.minimum(-low, high) / width
    weight = 3.0 + 20.0 * np.maximum(0.0, 0.5 - (1.0 - rest) ** 2)
    A, target = np.zeros((len(pairs), 2 * k)), np.nan_to_num(weight * np.abs(difference))
    for row, ((i, j), d) in enumerate(zip(pairs, difference, strict=True)):
        higher, lower = (i, j) if d > 0 else (j, i)
        if np.isfinite(rest[row]):
            A[row, [higher, k + lower]] = weight[row] * rest[row]
    guess = np.array(
        [np.nanmin([w for w, p in zip(width, pairs, strict=True) if i in p]) for i in range(k)]
    )
    guess = np.nan_to_num(np.tile(guess / 4.0, 2))
    lengths = np.linalg.lstsq(np.concatenate([A, np.eye(2 * k)]), np.r_[target, guess], rcond=None)
    left, right = lengths[0][:k], lengths[0][k:]
    first, last = np.nanmin(means), np.nanmax(means)
    margin = BEYOND * (last - first)
    left = np.maximum(means - left, first - margin)
    right = np.minimum(means + right, last + margin)
    return np.where(means > first, left, np.nan), np.where(means < last, right, np.nan)
