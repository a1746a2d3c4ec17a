"""Means, standard deviations and ranges of columns that are seen part by part."""

from __future__ import annotations

import numpy as np
import pandas as pd

from jaxhlm.core.notation import Floats

__all__ = ["Moments"]


class Moments:
    """Moments of m columns; NaN is left out. Parts are joined as Chan, Golub & LeVeque (1983) do.

    Example:
        >>> seen = Moments(1)
        >>> seen.add(np.array([[1.0], [2.0]]))
        >>> seen.add(np.array([[6.0], [np.nan]]))
        >>> seen.table(["x"]).round(3).to_numpy().tolist()
        [[3.0, 2.646, 1.0, 6.0]]
    """

    def __init__(self, m: int) -> None:
        """Nothing seen yet."""
        self.count, self.mean, self.squares = np.zeros((3, m))
        self.low, self.high = np.full(m, np.inf), np.full(m, -np.inf)

    @np.errstate(all="ignore")
    def add(self, values: Floats) -> None:
        """See a part (b, m) too."""
        there = ~np.isnan(values)
        count, known = there.sum(axis=0), np.where(there, values, 0.0)
        mean = known.sum(axis=0) / np.maximum(count, 1)
        squares = (np.where(there, values - mean, 0.0) ** 2).sum(axis=0)
        total, apart = np.maximum(self.count + count, 1), mean - self.mean
        self.squares += squares + apart**2 * self.count * count / total
        self.mean += apart * count / total
        self.count += count
        self.low = np.minimum(self.low, np.where(there, values, np.inf).min(axis=0, initial=np.inf))
        highest = np.where(there, values, -np.inf).max(axis=0, initial=-np.inf)
        self.high = np.maximum(self.high, highest)

    @np.errstate(all="ignore")
    def table(self, names: list[str]) -> pd.DataFrame:
        """One row per column: mean, sd, min, max; NaN where nothing was seen."""
        some, index = self.count > 0, pd.Index(names, name="term")
        sd = np.sqrt(np.where(self.count > 1, self.squares / (self.count - 1), np.nan))
        columns = {"mean": self.mean, "sd": sd, "min": self.low, "max": self.high}
        return pd.DataFrame({k: np.where(some, x, np.nan) for k, x in columns.items()}, index)
