"""How results are shown: without the axis of fits for one fit, with it for many.

Results are arrays with the fits on the first axis, (B, …). Tables with rows of their own in every
fit (its units, its measurements) are ``Runs``. Everything that differs between the answers of a
``Fit`` and of a ``FitBatch`` is here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxhlm.core.notation import Floats, Ints
from jaxhlm.results.record import FitRecord

__all__ = ["ManyFits", "OneFit", "Runs", "split"]


class Runs(NamedTuple):
    """Arrays whose rows are the units, or the measurements, of one fit after another."""

    lengths: Ints  # (B,) rows of every fit
    number: Ints  # (Σ,) number of each one's level, or row, in the source
    values: tuple[Any, ...]  # (Σ, …) each


@dataclass(frozen=True)
class _Presenter:
    """What one fit and many have in common."""

    fits: FitRecord

    @property
    def terms(self) -> pd.Index:
        """(p,) names of the fixed effects."""
        return pd.Index(self.fits.model.xnames, name="term")

    def index(self, lengths: Ints, labels: pd.Index, number: Ints) -> pd.Index:
        """Labels of the rows of runs."""
        raise NotImplementedError

    def units(self, runs: Runs, names: Sequence[str]) -> pd.DataFrame:
        """A DataFrame by unit, from (Σ, m) values."""
        levels = self.fits.rows.design.levels.rename(self.fits.model.group_name)
        index = self.index(runs.lengths, levels, runs.number)
        return pd.DataFrame(runs.values[0], index, list(names))

    def rows(self, runs: Runs, name: str) -> pd.Series:
        """A Series by row, from (Σ,) values."""
        return pd.Series(runs.values[0], self.row_index(runs), name=name)

    def row_index(self, runs: Runs) -> pd.Index:
        """Labels of the measurements of runs."""
        return self.index(runs.lengths, self.fits.rows.design.index, runs.number)


class OneFit(_Presenter):
    """The results of a record of one fit."""

    def number(self, values: Any, name: str) -> Any:
        """A number, from (1,) values."""
        return values[0].item()

    def vector(self, values: Floats, name: str, labels: pd.Index | None = None) -> pd.Series:
        """A Series, from (1, m) values; of fixed effects unless they have other labels."""
        return pd.Series(values[0], self.terms if labels is None else labels, name=name)

    def matrix(self, values: Floats) -> pd.DataFrame:
        """A DataFrame of the fixed effects, from (1, p, p) values."""
        return pd.DataFrame(values[0], self.terms, self.terms)

    def line(self, columns: Mapping[str, Any]) -> pd.DataFrame:
        """A DataFrame with one row, from (1,) columns."""
        return pd.DataFrame(dict(columns))

    def block(self, columns: Mapping[str, Floats], labels: pd.Index) -> pd.DataFrame:
        """A DataFrame with these rows, from (1, r) columns."""
        return pd.DataFrame({name: values[0] for name, values in columns.items()}, labels)

    def long(self, frame: pd.DataFrame, lengths: int | Ints | None = None) -> pd.DataFrame:
        """The frame, whose rows need no label."""
        del lengths
        return frame

    def index(self, lengths: Ints, labels: pd.Index, number: Ints) -> pd.Index:
        """Labels of the rows of runs."""
        del lengths, number
        return labels

    def by_fit(self, runs: Runs) -> Any:
        """The run itself."""
        return runs.values[0]


class ManyFits(_Presenter):
    """The results of a record of many fits, under their labels."""

    def number(self, values: Any, name: str) -> pd.Series:
        """A Series by fit, from (B,) values."""
        return pd.Series(values, self.fits.index, name=name)

    def vector(self, values: Floats, name: str, labels: pd.Index | None = None) -> pd.DataFrame:
        """A DataFrame, a row for each fit, from (B, m) values."""
        del name
        columns = self.fits.model.xnames if labels is None else labels
        return pd.DataFrame(values, self.fits.index, list(columns))

    def matrix(self, values: Floats) -> Floats:
        """The array (B, p, p)."""
        return values

    def line(self, columns: Mapping[str, Any]) -> pd.DataFrame:
        """A DataFrame, a row for each fit, from (B,) columns."""
        return pd.DataFrame(dict(columns), index=self.fits.index)

    def block(self, columns: Mapping[str, Floats], labels: pd.Index) -> pd.DataFrame:
        """A DataFrame by fit and row, from (B, r) columns."""
        B, r = len(self.fits), len(labels)
        rows = self.index(np.full(B, r), labels, np.tile(np.arange(r), B))
        return pd.DataFrame({name: np.ravel(values) for name, values in columns.items()}, rows)

    def long(self, frame: pd.DataFrame, lengths: int | Ints | None = None) -> pd.DataFrame:
        """The frame with the fit as its first column; rows of each as in ``lengths``, or equal."""
        each = len(frame) // max(len(self.fits), 1) if lengths is None else lengths
        frame.insert(0, "fit", self.fits.index.repeat(each))
        return frame

    def index(self, lengths: Ints, labels: pd.Index, number: Ints) -> pd.MultiIndex:
        """The labels of the fits, each as often as its run is long, and labels within the runs."""
        fits = self.fits.index
        fits = fits if fits.nlevels > 1 else fits.rename(fits.name or "fit")
        columns = [*_coded(fits, np.repeat(np.arange(len(fits)), lengths)), *_coded(labels, number)]
        levels, codes = zip(*columns, strict=True)
        names = [*fits.names, *labels.names]
        return pd.MultiIndex(levels, codes, names=names, verify_integrity=False)

    def by_fit(self, runs: Runs) -> dict[Any, Floats]:
        """The runs by fit."""
        return dict(zip(self.fits.index, split(runs.lengths, runs.values[0]), strict=True))


def split(lengths: Ints, values: Floats) -> list[Floats]:
    """The run of every fit."""
    return np.split(values, np.cumsum(lengths)[:-1])


def _coded(index: pd.Index, number: Ints) -> list[tuple[pd.Index, Ints]]:
    """Levels, and codes of the labels at ``number``, of every level of an index."""
    if isinstance(index, pd.MultiIndex):
        codes = (np.asarray(code)[number] for code in index.codes)
        return list(zip(index.levels, codes, strict=True))
    if index.is_unique and not index.hasnans:
        return [(index, number)]
    codes, levels = pd.factorize(index)
    return [(levels, codes[number])]
