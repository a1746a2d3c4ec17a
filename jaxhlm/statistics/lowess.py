"""Cleveland's robust locally weighted regression, point by point as R's ``lowess`` computes it.

At x₀ a line is fitted by least squares to the ⌊f n⌋ nearest points, weighted by the tricube of
their distance in units of the farthest, (1 − |x − x₀|³/h³)³; then again with these weights times
the bisquare (1 − r²/(6 m)²)² of the residuals r, with m the median of |r|, as often as is asked for
(Cleveland 1979, J. Am. Stat. Assoc. 74, 829-836). Points nearer than ``delta`` to the last one that
was fitted are interpolated.
"""

from __future__ import annotations

import numpy as np

from jaxhlm.core.notation import Floats

__all__ = ["lowess"]

# Of the distance to the farthest point: nearer counts as 0, farther as 1; the same of 6 m.
NEAR, FAR = 0.001, 0.999
# Residuals whose median is below this part of their mean have no scale.
NO_SCALE = 1e-7
TINY = 1e-300


def lowess(x: Floats, y: Floats, f: float = 2.0 / 3.0, iterations: int = 3) -> Floats:
    """Smoothed y at every x (n,), increasing; equals R's ``lowess(x, y, f, iter)``.

    Args:
        x: (n,) in increasing order.
        y: (n,).
        f: share of the points that each line is fitted to.
        iterations: how often outliers are weighted down.

    Example:
        >>> lowess(np.arange(5.0), np.array([0.0, 2.0, 4.0, 6.0, 8.0])).round(3).tolist()
        [0.0, 2.0, 4.0, 6.0, 8.0]
    """
    n, delta = len(x), 0.01 * (x[-1] - x[0])
    count = max(2, min(n, int(f * n + 1e-7)))
    robust = np.ones(n)
    for i in range(iterations + 1):
        smooth = _pass(x, y, min(count, n), delta, robust)
        size = np.abs(y - smooth)
        scale = 6.0 * float(np.median(size))
        if i == iterations or scale < NO_SCALE * size.mean():
            break
        robust = _bisquare(size, scale)
    return smooth


def _bisquare(size: Floats, scale: float) -> Floats:
    relative = size / max(scale, TINY)
    weights = np.where(size <= NEAR * scale, 1.0, (1.0 - relative**2) ** 2)
    return np.where(size <= FAR * scale, weights, 0.0)


def _pass(x: Floats, y: Floats, count: int, delta: float, robust: Floats) -> Floats:
    """One fit at points that are ``delta`` apart, and lines between them."""
    n, i, first, at = len(x), 0, 0, []
    value: list[float] = []
    while True:
        # The nearest points are a run: it moves on while the next one is nearer than its first.
        while first + count < n and x[i] - x[first] > x[first + count] - x[i]:
            first += 1
        at.append(i)
        value.append(_line(x, y, i, first, count, robust))
        if i == n - 1:
            return np.interp(x, *_distinct(x[at], np.array(value)))
        i = _following(x, i, delta)


def _following(x: Floats, i: int, delta: float) -> int:
    """The last point within delta of point i and beyond its ties, or the one after them."""
    last = int(np.searchsorted(x, x[i], side="right")) - 1
    within = int(np.searchsorted(x, x[i] + delta, side="right")) - 1
    return min(max(last + 1, within), len(x) - 1)


def _distinct(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    where = np.unique(x, return_index=True)[1]
    return x[where], y[where]


def _line(x: Floats, y: Floats, i: int, first: int, count: int, robust: Floats) -> float:
    """The line's value at x_i, of the points from ``first`` on."""
    here = x[i]
    h = max(here - x[first], x[first + count - 1] - here)
    # Ties of the farthest point count too.
    stop = int(np.searchsorted(x, here + FAR * h, side="right"))
    part = slice(first, max(stop, first + 1))
    away = np.abs(x[part] - here)
    weights = np.where(away <= NEAR * h, 1.0, (1.0 - (away / max(h, TINY)) ** 3) ** 3)
    weights = np.where(away <= FAR * h, weights, 0.0) * robust[part]
    total = weights.sum()
    if total <= 0.0:
        return float(y[i])
    weights = weights / total
    if h > 0.0:
        centre = weights @ x[part]
        spread = weights @ (x[part] - centre) ** 2
        if np.sqrt(spread) > 0.001 * (x[-1] - x[0]):
            weights = weights * (1.0 + (here - centre) / spread * (x[part] - centre))
    return float(weights @ y[part])
