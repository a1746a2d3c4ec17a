"""What one pass over a table in pieces tells: its data sets, where their rows are, its categories.

Nothing is kept of a piece but what it adds to this, so that memory is bounded by the largest piece
and the number of data sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxhlm.core.chunks import in_order
from jaxhlm.core.files import checksum
from jaxhlm.core.notation import Bools, Floats, Ints
from jaxhlm.core.pieces import Pieces
from jaxhlm.design.columns import native, numbers, positive, read_weights, select
from jaxhlm.design.grouping import factorized
from jaxhlm.design.missing_values import any_missing, missing
from jaxhlm.errors import NoRowsError, OptionError, RowsDroppedWarning, warn_user
from jaxhlm.sources.frames import complete_numbers, integers

__all__ = ["Survey", "Used", "piece_checksum", "surveyed", "usable_rows"]

# Rows of a piece that its checksum is of.
CHECKED = 4096


class Used(NamedTuple):
    """The columns that are used."""

    by: str
    variables: tuple[str, ...]
    group: tuple[str, ...]
    weights: str | None

    @property
    def names(self) -> list[str]:
        """Each once."""
        weights = () if self.weights is None else (self.weights,)
        return list(dict.fromkeys((self.by, *self.variables, *self.group, *weights)))


@dataclass(frozen=True, eq=False)
class Survey:
    """The data sets of a table in pieces, and where their rows are.

    Attributes:
        labels: (B,) of the data sets, sorted.
        lane, piece, count: (E,) how many rows of which data set are in which piece, where there are
            any; sorted by data set.
        rows: (pieces,) rows of each.
        told: (pieces,) checksums.
        plain: whether all variables are complete and finite numbers, and units integers.
        categories: of every categorical column, in the order of the pieces.
    """

    labels: pd.Index
    lane: Ints
    piece: Ints
    count: Ints
    rows: Ints
    told: tuple[str, ...]
    plain: bool
    categories: dict[str, pd.Index]

    @cached_property
    def starts(self) -> Ints:
        """(pieces,) number of the first row of each."""
        return np.asarray(np.cumsum(self.rows) - self.rows)

    @cached_property
    def sizes(self) -> Ints:
        """(B,) rows of every data set."""
        return np.bincount(self.lane, self.count, len(self.labels)).astype(np.int64)

    def entries(self, lanes: slice) -> slice:
        """Which of ``lane``, ``piece`` and ``count`` are of consecutive data sets."""
        start, stop = np.searchsorted(self.lane, [lanes.start, lanes.stop])
        return slice(int(start), int(stop))


class _Seen(NamedTuple):
    """What one piece tells."""

    labels: pd.Index
    counts: Ints
    lacking: dict[str, int]
    dropped: int
    plain: bool
    categories: dict[str, pd.Index]
    told: str


def surveyed(table: Pieces, used: Used) -> Survey:
    """Look at all pieces once.

    Raises:
        NoRowsError: there is no row, or none without missing values.
        OptionError: a row has no replicate.
        WeightsError: a weight is negative, zero or infinite.
        FileError: a piece cannot be read.
    """
    seen = list(in_order(partial(_seen, table, used), range(len(table))))
    if not any(len(one.labels) for one in seen):
        raise NoRowsError("data has no rows; is it the right path?")
    categories = _joined([one.categories for one in seen])
    found = pd.concat([pd.Series(one.labels) for one in seen], ignore_index=True)
    if used.by in categories:
        found = found.astype(pd.CategoricalDtype(categories[used.by]))
    lane, labels = factorized(found.rename(used.by), "column")
    piece = np.repeat(np.arange(len(seen)), [len(one.labels) for one in seen])
    count = np.concatenate([one.counts for one in seen])
    order = np.lexsort((piece, lane))
    _tell_dropped(seen, int(count.sum()))
    return Survey(
        labels.rename(used.by),
        lane[order],
        piece[order],
        count[order],
        np.array([one.counts.sum() for one in seen]),
        tuple(one.told for one in seen),
        all(one.plain for one in seen),
        categories,
    )


def usable_rows(frame: pd.DataFrame, used: Used) -> Bools:
    """(n,) rows without missing values and infinite numbers."""
    names = [name for name in used.names if name != used.by]
    usable = ~any_missing(frame[names])
    for values in (numbers(frame[name]) for name in used.variables):
        usable &= True if values is None else ~np.isinf(values)
    return usable


def _seen(table: Pieces, used: Used, piece: int) -> _Seen:
    frame = table.read(piece)
    by, model = native(frame[used.by]), select(frame, [*used.variables, *used.group])
    if missing(by).any():
        raise OptionError(f"column {used.by!r} has missing values; every row needs a replicate")
    weights = _weights(frame, used)
    lacking = {name: missing(model[name]) for name in model}
    if weights is not None:
        lacking[used.weights or ""] = np.isnan(weights)
    dropped = np.logical_or.reduce([np.zeros(len(frame), bool), *lacking.values()])
    values = pd.Series(np.asarray(by)).value_counts(sort=False)
    return _Seen(
        pd.Index(values.index),
        values.to_numpy(),
        {name: int(mask.sum()) for name, mask in lacking.items() if mask.any()},
        int(dropped.sum()),
        _plain(model, used) and not dropped.any(),
        _categories(model.assign(**{used.by: by})),
        piece_checksum(frame),
    )


def _plain(model: pd.DataFrame, used: Used) -> bool:
    numeric = all(complete_numbers(model[name]) for name in used.variables)
    return numeric and all(integers(model[name]) for name in used.group)


def _weights(frame: pd.DataFrame, used: Used) -> Floats | None:
    """The weights, which are positive where they are not missing."""
    if used.weights is None:
        return None
    weights = read_weights(used.weights, frame)
    assert weights is not None
    there = weights.notna().to_numpy()
    positive(weights[there], frame.index[there])
    return weights.to_numpy()


def _categories(frame: pd.DataFrame) -> dict[str, pd.Index]:
    kinds = {name: frame[name].dtype for name in frame}
    return {
        name: kind.categories
        for name, kind in kinds.items()
        if isinstance(kind, pd.CategoricalDtype)
    }


def _joined(pieces: Sequence[dict[str, pd.Index]]) -> dict[str, pd.Index]:
    """Categories in the order in which they come."""
    found: dict[str, pd.Index] = {}
    for one in pieces:
        for name, own in one.items():
            known = found.setdefault(name, own)
            if known is not own and not own.isin(known).all():
                found[name] = known.append(own[~own.isin(known)])
    return found


def piece_checksum(frame: pd.DataFrame) -> str:
    """Of some rows of a piece, spread over all of them."""
    some = frame.iloc[:: max(1, len(frame) // CHECKED)]
    hashed = pd.util.hash_pandas_object(some, index=False).to_numpy()
    return checksum(str(len(frame)).encode(), hashed.tobytes())


def _tell_dropped(seen: Sequence[_Seen], rows: int) -> None:
    """Count the rows that are left out, as for a frame in memory."""
    dropped, where = sum(one.dropped for one in seen), dict[str, int]()
    for one in seen:
        for name, count in one.lacking.items():
            where[name] = where.get(name, 0) + count
    if not dropped:
        return
    told = ", ".join(f"{name}: {count}" for name, count in where.items())
    if dropped == rows:
        raise NoRowsError(
            f"no rows left of {rows}; missing values by column: {told}; fill them or leave such "
            "columns out of the formula"
        )
    text = f"dropped {dropped} of {rows} rows with missing values ({told})"
    warn_user(text, RowsDroppedWarning)
