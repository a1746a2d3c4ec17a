"""How results are shown: without the axis of fits for one fit, with it for many.

Results are arrays with the fits on the first axis, (B, …). Tables with rows of their own in every
fit (its units, its measurements) are ``Ragged``. Everything that differs between the answers of a
``Fit`` and of a ``FitBatch`` is here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from jaxhlm.core.notation import Floats, Ints
from jaxhlm.core.tables import Shown
from jaxhlm.results.record import FitRecord

__all__ = [
    "Each",
    "ManyFits",
    "Matrix",
    "Number",
    "OneFit",
    "Presenter",
    "Ragged",
    "Vector",
    "long_table",
    "split",
]


class Ragged(NamedTuple):
    """Ragged arrays, whose rows are the units, or the measurements, of one fit after another."""

    lengths: Ints  # (B,) rows of every fit
    number: Ints  # (Σ,) number of each one's level, or row, in the source
    values: tuple[Floats, ...]  # (Σ, …) each


# The types of results that are shown otherwise for one fit than for many.
Number = TypeVar("Number")
Vector = TypeVar("Vector")
Matrix = TypeVar("Matrix")
Each = TypeVar("Each")


@dataclass(frozen=True)
class Presenter(ABC, Generic[Number, Vector, Matrix, Each]):
    """The results of a record, from arrays with the fits on the first axis."""

    fits: FitRecord

    @abstractmethod
    def number(self, values: Floats, name: str) -> Number:
        """A number for every fit, from (B,) values."""

    @abstractmethod
    def vector(self, values: Floats, name: str, labels: pd.Index | None = None) -> Vector:
        """Labelled numbers for every fit, from (B, m); fixed effects unless there are labels."""

    @abstractmethod
    def matrix(self, values: Floats) -> Matrix:
        """A matrix of the fixed effects for every fit, from (B, p, p) values."""

    @abstractmethod
    def by_fit(self, ragged: Ragged) -> Each:
        """The rows of every fit."""

    @abstractmethod
    def long(self, frame: pd.DataFrame, lengths: int | Ints | None = None) -> Shown:
        """A frame whose rows have no label; rows of each fit as in ``lengths``, or equal."""

    @abstractmethod
    def index(self, lengths: Ints, labels: pd.Index, number: Ints) -> pd.Index:
        """Labels of the rows: of each the one at ``number``."""

    def line(self, columns: Mapping[str, Floats]) -> pd.DataFrame:
        """A DataFrame with a row for every fit, from (B,) columns."""
        return Shown(pd.DataFrame(dict(columns), index=self.fits.index))

    def block(self, columns: Mapping[str, Floats], labels: pd.Index) -> pd.DataFrame:
        """A DataFrame with these rows for every fit, from (B, r) columns."""
        B, r = len(self.fits), len(labels)
        rows = self.index(np.full(B, r), labels, np.tile(np.arange(r), B))
        return Shown(
            pd.DataFrame({name: np.ravel(values) for name, values in columns.items()}, rows)
        )

    def units(self, ragged: Ragged, names: Sequence[str]) -> pd.DataFrame:
        """A DataFrame by unit, from (Σ, m) values."""
        return Shown(pd.DataFrame(ragged.values[0], self.unit_index(ragged), list(names)))

    def rows(self, ragged: Ragged, name: str) -> pd.Series:
        """A Series by row, from (Σ,) values."""
        return pd.Series(ragged.values[0], self.row_index(ragged), name=name)

    def unit_index(self, ragged: Ragged) -> pd.Index:
        """Labels of the units."""
        levels = self.fits.rows.design.levels.rename(self.fits.model.group_name)
        return self.index(ragged.lengths, levels, ragged.number)

    def row_index(self, ragged: Ragged) -> pd.Index:
        """Labels of the measurements."""
        return self.index(ragged.lengths, self.fits.rows.design.index, ragged.number)


class OneFit(Presenter[float, pd.Series, pd.DataFrame, Floats]):
    """The results of a record of one fit, without the axis of fits."""

    @property
    def terms(self) -> pd.Index:
        """(p,) names of the fixed effects."""
        return pd.Index(self.fits.model.xnames, name="term")

    def number(self, values: Floats, name: str) -> float:
        """The number."""
        return float(values[0])

    def vector(self, values: Floats, name: str, labels: pd.Index | None = None) -> pd.Series:
        """A Series."""
        return pd.Series(values[0], self.terms if labels is None else labels, name=name)

    def matrix(self, values: Floats) -> pd.DataFrame:
        """A DataFrame by term."""
        return pd.DataFrame(values[0], self.terms, self.terms)

    def by_fit(self, ragged: Ragged) -> Floats:
        """The rows themselves."""
        return ragged.values[0]

    def long(self, frame: pd.DataFrame, lengths: int | Ints | None = None) -> Shown:
        """The frame as it is."""
        return Shown(frame)

    def index(self, lengths: Ints, labels: pd.Index, number: Ints) -> pd.Index:
        """The labels themselves."""
        return labels


class ManyFits(Presenter[pd.Series, pd.DataFrame, Floats, dict[Any, Floats]]):
    """The results of a record of many fits, under their labels."""

    def number(self, values: Floats, name: str) -> pd.Series:
        """A Series by fit."""
        return pd.Series(values, self.fits.index, name=name)

    def vector(self, values: Floats, name: str, labels: pd.Index | None = None) -> pd.DataFrame:
        """A DataFrame with a row for each fit."""
        columns = self.fits.model.xnames if labels is None else labels
        return Shown(pd.DataFrame(values, self.fits.index, list(columns)))

    def matrix(self, values: Floats) -> Floats:
        """The array."""
        return values

    def by_fit(self, ragged: Ragged) -> dict[Any, Floats]:
        """The rows by the labels of the fits."""
        return dict(zip(self.fits.index, split(ragged.lengths, ragged.values[0]), strict=True))

    def long(self, frame: pd.DataFrame, lengths: int | Ints | None = None) -> Shown:
        """The frame with the label of the fit as its first column, under its name."""
        each = len(frame) // max(len(self.fits), 1) if lengths is None else lengths
        name = self.fits.index.name
        name = "fit" if name is None or name in frame else name
        frame.insert(0, name, self.fits.index.repeat(each))
        return Shown(frame)

    def index(self, lengths: Ints, labels: pd.Index, number: Ints) -> pd.MultiIndex:
        """The labels of the fits, each as often as its run is long, and labels within the runs."""
        fits = self.fits.index
        fits = fits if fits.nlevels > 1 else fits.rename(fits.name or "fit")
        columns = [*_coded(fits, np.repeat(np.arange(len(fits)), lengths)), *_coded(labels, number)]
        levels, codes = zip(*columns, strict=True)
        names = [*fits.names, *labels.names]
        return pd.MultiIndex(levels, codes, names=names, verify_integrity=False)


def long_table(terms: Sequence[str], columns: Mapping[str, Floats]) -> pd.DataFrame:
    """One row per fit, or unit, and term, from (…, m) columns."""
    values = {name: np.ravel(column) for name, column in columns.items()}
    length = len(next(iter(values.values())))
    return pd.DataFrame({"term": np.resize(np.array(terms, dtype=object), length)} | values)


def split(lengths: Ints, values: Floats) -> list[Floats]:
    """The rows of every fit."""
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
