"""Rows of data sets that are read from a table in pieces, and how they are made a source."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from jaxhlm.core.notation import Ints
from jaxhlm.core.pieces import Pieces
from jaxhlm.errors import (
    FileError,
    NumbersAsTextWarning,
    RankDeficientWarning,
    RowsDroppedWarning,
    muted,
)
from jaxhlm.language.formula import ParsedFormula
from jaxhlm.language.opaque import allowing
from jaxhlm.sources.frames import ReplicateFrame
from jaxhlm.sources.inputs import replicate_input
from jaxhlm.sources.sources import Source
from jaxhlm.sources.survey import Survey, Used, piece_checksum, usable_rows

__all__ = ["LANE", "Maker", "Rows", "changed"]

# The column that data sets are told apart by once they are read.
LANE = "number of the data set, by jaxhlm"


@dataclass(frozen=True, eq=False)
class Maker:
    """How rows of data sets are made a source.

    Attributes:
        parsed: the model.
        used: the columns.
        reml: as for ``fit_many``.
        unsafe: whether the formula may be code.
        categories: of categorical columns.
        sample: rows that bring all levels and columns.
        plain: a source of the sample, if all columns are plain numbers.
    """

    parsed: ParsedFormula
    used: Used
    reml: bool
    unsafe: bool
    categories: dict[str, pd.Index]
    sample: pd.DataFrame = field(default_factory=pd.DataFrame)
    plain: ReplicateFrame | None = None

    def made(self, frame: pd.DataFrame) -> tuple[Source, int, tuple[str, ...]]:
        """The source of some rows, sorted by ``LANE``; the number of its first data set; its terms.

        Args:
            frame: rows, by their number in the table.
        """
        if self.plain is not None:
            return _plain_source(self.plain, self.used, frame), 0, self.plain.template.xnames
        own = pd.concat([self.sample.assign(**{LANE: -1}), frame])
        quiet = muted(RowsDroppedWarning, NumbersAsTextWarning, RankDeficientWarning)
        with quiet, allowing(self.unsafe):
            made = replicate_input(self.parsed, own, LANE, self.used.weights, self.reml)
        return made.source, 1, made.model.xnames


def _plain_source(plain: ReplicateFrame, used: Used, frame: pd.DataFrame) -> ReplicateFrame:
    (unit,), lane = used.group, frame[LANE].to_numpy()
    return replace(
        plain,
        columns={name: frame[name].to_numpy() for name in plain.columns},
        unit=frame[unit].to_numpy(),
        weights=None if used.weights is None else frame[used.weights].to_numpy(float),
        index=frame.index,
        starts=np.r_[0, np.flatnonzero(np.diff(lane)) + 1, len(lane)],
    )


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a table in pieces, as they are made sources of."""

    table: Pieces
    maker: Maker
    survey: Survey

    def read(self, piece: int) -> pd.DataFrame:
        """A piece, whose categories are those of all pieces.

        Raises:
            FileError: it is not what it was when it was counted.
        """
        frame = self.table.read(piece)
        if self.survey.told and piece_checksum(frame) != self.survey.told[piece]:
            raise changed()
        levelled = {
            name: frame[name].astype(pd.CategoricalDtype(levels))
            for name, levels in self.maker.categories.items()
        }
        return frame.assign(**levelled) if levelled else frame

    def usable(self, piece: int) -> pd.DataFrame:
        """The rows of a piece without missing values and infinite numbers."""
        frame = self.read(piece)
        return frame[usable_rows(frame, self.maker.used)]

    def first(self, rows: int) -> pd.DataFrame:
        """The first data sets, of so many rows together."""
        before = np.cumsum(self.survey.sizes) - self.survey.sizes
        return self.of(np.flatnonzero(before < rows))

    def of(self, lane_index: Ints) -> pd.DataFrame:
        """The rows of some data sets in increasing order, by their number in the table.

        Raises:
            FileError: the table is not what it was when it was counted.
        """
        s = self.survey
        part = s.entries(slice(int(lane_index[0]), int(lane_index[-1]) + 1))
        wanted = np.isin(s.lane[part], lane_index)
        pieces, labels = np.unique(s.piece[part][wanted]), s.labels[lane_index]
        frame = pd.concat([self._labelled(int(piece), labels) for piece in pieces])
        if len(frame) != s.count[part][wanted].sum():
            raise changed()
        lane = frame[LANE].to_numpy()
        return frame if (np.diff(lane) >= 0).all() else frame.iloc[np.argsort(lane, kind="stable")]

    def _labelled(self, piece: int, labels: pd.Index) -> pd.DataFrame:
        """Rows of a piece that have one of these labels, and its place."""
        read, first = self.read(piece), int(self.survey.starts[piece])
        at = labels.get_indexer(pd.Index(np.asarray(read[self.maker.used.by])))
        read = read.assign(**{LANE: at}).set_axis(pd.RangeIndex(first, first + len(read)))
        return read if at.min(initial=0) >= 0 else read[at >= 0]


def changed() -> FileError:
    """The error of a table that is not what it was."""
    return FileError("data is not what it was when its rows were counted: it changed meanwhile")
