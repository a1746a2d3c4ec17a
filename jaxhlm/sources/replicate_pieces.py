"""Data sets with rows of their own in a table that is read piece by piece, as they are fitted.

A first pass (``survey``) tells where the rows of every data set are. What the model is of all rows
together (levels of factors, columns that earlier ones determine) is that of a sample of rows that
brings all of it: a second pass looks for such rows, unless all columns are plain numbers. Then a
run of data sets is read and made the source that the same rows in memory would be, the sample
standing before them as a data set of its own, so that levels and columns are those of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np
import pandas as pd

from jaxhlm.core.chunks import chunk_bytes, in_order, lane_chunks, shared_bytes
from jaxhlm.core.notation import Ints
from jaxhlm.core.pieces import Held, Pieces, pieces_of
from jaxhlm.design.columns import require_column
from jaxhlm.design.design import Apart, Design
from jaxhlm.design.grouping import group_codes
from jaxhlm.errors import (
    MissingColumnError,
    NumbersAsTextWarning,
    RankDeficientWarning,
    RowsDroppedWarning,
    ScatteredRowsWarning,
    WeightsError,
    muted,
    warn_user,
)
from jaxhlm.estimation.model import Model
from jaxhlm.estimation.pipeline import Reduced
from jaxhlm.language.formula import ParsedFormula, parse
from jaxhlm.language.opaque import allowed
from jaxhlm.sources.frames import LANES, TEMPLATE_ROWS, replicate_frame
from jaxhlm.sources.inputs import Input, replicate_input
from jaxhlm.sources.lanes import Lanes
from jaxhlm.sources.piece_rows import LANE, Maker, Rows, changed
from jaxhlm.sources.sample import FEW_ROWS, Sampler
from jaxhlm.sources.sources import Source
from jaxhlm.sources.survey import Survey, Used, surveyed, usable_rows
from jaxhlm.statistics.observations import Observations
from jaxhlm.statistics.replicates import Replicates

__all__ = ["ReplicatePieces", "pieces_input"]

# Tables that are read more often than this are read at once, where memory holds them.
SCATTERED = 4.0


@dataclass(frozen=True, eq=False)
class _Carried:
    """What a task has of its own: its data sets, and where their rows are."""

    labels: pd.Index
    table: Pieces
    lane: Ints
    piece: Ints
    count: Ints
    rows: Ints
    told: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class ReplicatePieces(Source):
    """Data sets with rows of their own in a table that is read piece by piece.

    Attributes:
        template: the design of the sample.
        maker: how rows that were read are made a source.
        survey: the data sets, and where their rows are.
    """

    template: Design
    maker: Maker
    survey: Survey
    _table: Pieces

    @property
    def B(self) -> int:
        """Number of data sets."""
        return len(self.survey.labels)

    @cached_property
    def design(self) -> Design:
        """That of the sample, with the labels of all rows and units; read when it is asked for."""
        groups, _, levels = group_codes(self._units())
        return replace(
            self.template,
            levels=levels,
            index=pd.RangeIndex(int(self.survey.rows.sum())),
            _groups=groups,
            _apart=_Apart(self) if self.template.stateful else (),
        )

    def _units(self) -> pd.DataFrame:
        """The units that there are, each once."""
        names, rows = list(self.maker.used.group), Rows(self._table, self.maker, self.survey)

        def units(piece: int) -> pd.DataFrame:
            return rows.read(piece)[names].dropna().drop_duplicates()

        parts = list(in_order(units, range(len(self._table))))
        return pd.concat(parts, ignore_index=True).drop_duplicates(ignore_index=True)

    @property
    def lane_bytes(self) -> int:
        """What the rows of one data set take."""
        return self._row_bytes * -(-int(self.survey.rows.sum()) // self.B)

    @property
    def bytes(self) -> int:
        """What all rows would take."""
        return self._row_bytes * int(self.survey.rows.sum())

    @property
    def times_read(self) -> float:
        """How often a row is read while all data sets are fitted."""
        s, read = self.survey, 0
        for run in self.runs():
            read += s.rows[np.unique(s.piece[s.entries(run)])].sum()
        return float(read / s.rows.sum())

    @property
    def _row_bytes(self) -> int:
        """Of a row as it is read, and of its columns."""
        read, plain = 8 * len(self.maker.used.names), self.maker.plain
        if plain is not None:
            return read + plain.row_bytes
        return read + Replicates.row_bytes(self.template.p, self.template.q)

    @property
    def most(self) -> int | None:
        """As for the same rows in memory."""
        return LANES if self.maker.plain is not None else None

    def runs(self) -> Iterator[slice]:
        """Runs of bounded rows, which end with a piece where they can, so that it is read once."""
        (first, *_) = lane_chunks(self.B, self.lane_bytes, self.most)
        size, rows = first.stop, np.cumsum(self.survey.sizes)
        limit = max(1, chunk_bytes() // self._row_bytes)
        ends, start = self._piece_ends, 0
        while start < self.B:
            read = rows[start - 1] if start else 0
            most = int(np.searchsorted(rows, read + limit, side="right"))
            stop = min(max(most, start + 1), start + size, self.B)
            passed = ends[: np.searchsorted(ends, stop, side="right")]
            near = int(passed[-1]) if len(passed) else 0
            stop = near if near > (start + stop) // 2 else stop
            yield slice(start, stop)
            start = stop

    @cached_property
    def _piece_ends(self) -> Ints:
        """Numbers of data sets that are the first whose rows begin with a piece."""
        s = self.survey
        last = np.full(len(s.rows), -1)
        np.maximum.at(last, s.piece, s.lane)
        first = np.full(len(s.rows), self.B)
        np.minimum.at(first, s.piece, s.lane)
        # Data sets before one of these have no rows in a later piece.
        begun = np.minimum.accumulate(first[::-1])[::-1]
        ended = np.maximum.accumulate(last)
        return np.unique(ended[:-1][ended[:-1] < begun[1:]] + 1)

    def reduced(self, lane_slice: slice) -> Iterator[Reduced]:
        """Read consecutive data sets."""
        lane_index = np.arange(lane_slice.start, lane_slice.stop)
        source, first = self._read(lane_index)
        return source.reduced(slice(first, first + len(lane_index)))

    def lane(self, i: int) -> Design:
        """The design of data set i."""
        source, first = self._read(np.array([i]))
        own = source.lane(first)
        return own if not own.n_dropped else replace(own, kept=source.design.kept[-self._size(i) :])

    def _size(self, i: int) -> int:
        return int(self.survey.sizes[i])

    def chunks(self, lane_index: Ints, nobs: Ints) -> list[Ints]:
        """Those of one run, so that no piece is read more often than for the fits."""
        del nobs
        order = np.argsort(lane_index, kind="stable")
        ends = [run.stop for run in self.runs()]
        cuts = np.searchsorted(lane_index[order], ends[:-1])
        return [part for part in np.split(order, cuts) if len(part)]

    def lanes(self, lane_index: Ints) -> Lanes:
        """Data sets in increasing order, read once."""

        @cache
        def read() -> tuple[Source, Lanes]:
            source, first = self._read(lane_index)
            return source, source.lanes(np.arange(first, first + len(lane_index)))

        def of_source(of: Callable[[Design], Any], row: Ints) -> Any:
            design = read()[0].design
            number = design.index.to_numpy()
            order = np.argsort(number)
            return of(design)[order[np.searchsorted(number[order], row)]]

        return Lanes(
            lambda: read()[1].standardised,
            lambda: self._numbered(read()[0].design, read()[1].observations),
            of_source,
        )

    def _numbered(self, own: Design, rows: Observations) -> Observations:
        """Rows, whose numbers and levels are those in the whole table."""
        level = self.design.levels.get_indexer(own.levels)
        return replace(rows, row=own.index.to_numpy()[rows.row], level=level[rows.level])

    @property
    def shared(self) -> ReplicatePieces:
        """How rows are made a source."""
        s = self.survey
        none = replace(s, labels=s.labels[:0], lane=s.lane[:0], piece=s.piece[:0], told=())
        return replace(self, survey=none, _table=Held([]))

    def own(self, lane_slice: slice) -> _Carried:
        """Where the rows of consecutive data sets are, or the rows, where they are in memory."""
        s, part = self.survey, self.survey.entries(lane_slice)
        pieces, piece = np.unique(s.piece[part], return_inverse=True)
        table, told = self._table.some(pieces.tolist()), tuple(s.told[i] for i in pieces)
        if not table.travels:
            wanted = s.labels[lane_slice]
            held = (table.read(i) for i in range(len(table)))
            table = Held([one[one[self.maker.used.by].isin(wanted)] for one in held])
            told = ()
        at, rows = s.lane[part] - lane_slice.start, s.rows[pieces]
        return _Carried(s.labels[lane_slice], table, at, piece, s.count[part], rows, told)

    def with_own(self, own: _Carried) -> ReplicatePieces:
        """Those data sets."""
        survey = replace(
            self.survey, labels=own.labels, lane=own.lane, piece=own.piece, count=own.count,
            rows=own.rows, told=own.told,
        )  # fmt: skip
        return replace(self, survey=survey, _table=own.table)

    def _read(self, lane_index: Ints) -> tuple[Source, int]:
        """The source of some data sets in increasing order, and the number of the first in it.

        Raises:
            FileError: the table is not what it was when it was counted.
        """
        rows = Rows(self._table, self.maker, self.survey).of(lane_index)
        source, first, columns = self.maker.made(rows)
        if columns != self.template.xnames:
            raise changed()
        return source, first


class _Apart(Sequence[Apart]):
    """What every data set learned by itself, read when it is asked for."""

    def __init__(self, source: ReplicatePieces) -> None:
        self._source = source

    def __len__(self) -> int:
        return self._source.B

    def __getitem__(self, lane: Any) -> Any:
        return self._source.lane(int(lane)).as_learned


def pieces_input(formula: str, data: Any, by: str, weights: Any, reml: bool) -> Input:
    """Data sets with rows of their own in a table in pieces.

    Where every run of data sets has rows in most pieces, all of it is read at once if memory holds
    it, and else as often as there are runs, with a warning.

    Args:
        formula, by, weights, reml: as for ``replicate_input``; weights are a column.
        data: as for ``pieces_of``.

    Raises:
        JaxhlmError: the formula, or the table as a whole, is at fault.
    """
    parsed = parse(formula)
    names, opened = pieces_of(data)
    used = _used(parsed, by, weights, names)
    table = opened(used.names)
    survey = surveyed(table, used)
    source = _source(table, survey, Maker(parsed, used, reml, allowed(), survey.categories))
    if source.times_read > SCATTERED:
        if source.bytes <= shared_bytes():
            return _at_once(source)
        warn_user(
            f"the rows of a value of {by!r} lie all over data, which is read about "
            f"{source.times_read:.0f} times: sort it by {by!r} first, and write it again",
            ScatteredRowsWarning,
        )
    return Input(source, survey.labels, Model.of(source.template, reml))


def _at_once(source: ReplicatePieces) -> Input:
    """The same data sets, all in memory."""
    maker, rows = source.maker, Rows(source._table, source.maker, source.survey)
    frame = pd.concat([rows.read(i) for i in range(len(source._table))], ignore_index=True)
    with muted(RowsDroppedWarning, NumbersAsTextWarning, RankDeficientWarning):
        return replicate_input(maker.parsed, frame, maker.used.by, maker.used.weights, maker.reml)


def _source(table: Pieces, survey: Survey, maker: Maker) -> ReplicatePieces:
    """The source, with the sample that it needs."""
    rows, (by, *_, weights) = Rows(table, maker, survey), maker.used
    if survey.plain:
        first = rows.first(TEMPLATE_ROWS)
        if found := replicate_frame(maker.parsed, first, first[LANE], weights):
            plain = replace(maker, plain=found[0].shared)
            return ReplicatePieces(found[0].template, plain, survey, table)
    first = rows.first(FEW_ROWS)
    given = first[usable_rows(first, maker.used)], len(table), rows.usable
    sample, template = Sampler(maker.parsed, weights, by).sampled(*given)
    maker = replace(maker, sample=sample.set_axis(np.full(len(sample), -1)))
    return ReplicatePieces(template, maker, survey, table)


def _used(parsed: ParsedFormula, by: Any, weights: Any, names: list[str]) -> Used:
    """The columns, each of which there is.

    Raises:
        MissingColumnError, WeightsError: there is none, or no name of one.
    """
    known = pd.DataFrame(columns=names)
    if not isinstance(by, str):
        raise MissingColumnError(f"by={type(by).__name__!r} is no name of a column of data")
    try:
        require_column(known, by)
    except MissingColumnError as error:
        raise MissingColumnError(f"by={by!r} is not a column of data: {error}") from None
    if not isinstance(weights, str | None):
        raise WeightsError("weights of data that is read in pieces are the name of a column of it")
    used = Used(by, tuple(parsed.variables), tuple(parsed.group), weights)
    for name in used.names:
        require_column(known, name)
    return used
