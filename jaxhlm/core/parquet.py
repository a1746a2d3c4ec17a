"""The numbers of a Parquet file as an array (n, B), of which only what is asked for is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import as_floats
from jaxhlm.core.blocks import RecentBlocks, taken
from jaxhlm.core.files import PathName, file_path, holds_numbers, pyarrow_modules, reading
from jaxhlm.errors import FileError, NotNumericError

__all__ = ["ParquetColumns", "ParquetRows"]

# What a block of rows, as it is read and kept, may take, and how many are kept: threads that go
# through a file together ask for them in about their order.
BLOCK_BYTES = 2**24
BLOCKS_KEPT = 6
# What columns that are read together may take, and what is read ahead of one of them.
COLUMNS_BYTES = 2**26
BUFFER_BYTES = 2**16


@dataclass(frozen=True)
class ParquetColumns:
    """A file whose columns are responses.

    ``values[:, first:last]`` reads those columns and no others.

    Attributes:
        path: the file.
        names: (B,) of the columns.
        shape: (n, B).
        metadata: pyarrow's, so that it is read once.
        index: (n,) labels that pandas has kept beside, if there are any.
    """

    path: Path
    names: tuple[str, ...]
    shape: tuple[int, int]
    metadata: Any
    index: pd.Index | None = None

    @property
    def dtype(self) -> np.dtype[np.float64]:
        """What columns are read as."""
        return np.dtype(np.float64)

    @property
    def chunks(self) -> tuple[int, int]:
        """Rows and columns that are read together: opening a file of many columns takes long."""
        return self.shape[0], COLUMNS_BYTES // (8 * max(1, self.shape[0]))

    @staticmethod
    def of(path: PathName) -> ParquetColumns:
        """All columns of a file but those that pandas has kept an index in.

        Raises:
            FileError: the file cannot be opened, or is no Parquet file.
            NotNumericError: a column holds no numbers; the message names it.
            JaxhlmError: pyarrow is not installed.
        """
        path = file_path(path)
        numeric, others, index, numbering, metadata = _columns(path)
        if others:
            name, kind = next(iter(others.items()))
            raise NotNumericError(
                f"column {name!r} of {path} is {kind} and no response; drop it, or have pandas "
                "write it as the index if it names the rows"
            )
        names, shape = tuple(numeric), (metadata.num_rows, len(numeric))
        return ParquetColumns(path, names, shape, metadata, _index(path, index, numbering))

    def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
        """Consecutive columns (n, …), missing values NaN."""
        _, parquet = pyarrow_modules()
        names = self.names[index[1]]
        out = np.empty((self.shape[0], len(names)))
        with reading(self.path), parquet.ParquetFile(self.path, metadata=self.metadata) as file:
            table = file.read(columns=list(names), use_threads=False)
            for j, name in enumerate(names):
                out[:, j] = _floats(table.column(name))
        return out


@dataclass(frozen=True, eq=False)
class ParquetRows:
    """A file whose rows are responses, with a column for every sample.

    ``values[:, first:last]`` reads those rows: blocks of them, one after the other, of which the
    last few are kept, so that one pass over all reads the file once.

    Attributes:
        path: the file.
        names: (n,) of the columns.
        shape: (n, B).
        metadata: pyarrow's, so that it is read once.
        index: (B,) labels of the rows, if there are any.
    """

    path: Path
    names: tuple[str, ...]
    shape: tuple[int, int]
    metadata: Any
    index: pd.Index | None
    _stream: _Stream = field(repr=False)
    _blocks: RecentBlocks = field(repr=False)

    @property
    def dtype(self) -> np.dtype[np.float64]:
        """What rows are read as."""
        return np.dtype(np.float64)

    @staticmethod
    def of(path: PathName) -> ParquetRows:
        """All rows of a file; labels of theirs are an index of pandas', or its one column of text.

        Raises:
            FileError: the file cannot be opened, or is no Parquet file.
            NotNumericError: several columns hold no numbers; the message names them.
            JaxhlmError: pyarrow is not installed.
        """
        path = file_path(path)
        numeric, others, index, numbering, metadata = _columns(path)
        told = [*others]
        if len(told) > bool(not index):
            raise NotNumericError(
                f"columns {', '.join(map(repr, told[:3]))} of {path} hold no numbers; beside a "
                "column for every sample keep one that names the responses"
            )
        names, labels = tuple(numeric), _index(path, index or told, numbering)
        shape, stream = (len(names), metadata.num_rows), _Stream(path, names, metadata)
        blocks = RecentBlocks(stream.upto, BLOCKS_KEPT)
        return ParquetRows(path, names, shape, metadata, labels, stream, blocks)

    def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
        """Consecutive responses (n, …), missing values NaN."""
        first, last, _ = index[1].indices(self.shape[1])
        with reading(self.path):
            return taken(self._blocks, self._stream.size, first, last).T


class _Stream:
    """Blocks of rows of a file, read one after the other."""

    def __init__(self, path: Path, names: tuple[str, ...], metadata: Any) -> None:
        self.path, self.names, self.metadata = path, names, metadata
        self.size = max(1, BLOCK_BYTES // (8 * max(1, len(names))))
        self._next = 0
        self._coming: Iterator[np.ndarray] | None = None

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return _Stream, (self.path, self.names, self.metadata)

    def upto(self, number: int) -> Iterator[tuple[int, np.ndarray]]:
        """The blocks from the next one to that of a number, or that alone where it is far."""
        if self._coming is None or not 0 <= number - self._next < BLOCKS_KEPT:
            self._coming, self._next = self._from(number), number
        while self._next <= number:
            yield self._next, next(self._coming)
            self._next += 1
        if self._next * self.size >= self.metadata.num_rows:
            # What pyarrow holds of the file while it reads is let go.
            self._coming = None

    def _from(self, number: int) -> Iterator[np.ndarray]:
        """Blocks from one on; what comes before it in its group of rows is read and let go."""
        sizes = [self.metadata.row_group(i).num_rows for i in range(self.metadata.num_row_groups)]
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(int)
        group = int(np.searchsorted(starts, number * self.size, side="right")) - 1
        skipped = number * self.size - int(starts[group])
        waiting: list[np.ndarray] = []
        for rows in self._batches(range(group, len(sizes))):
            waiting.append(rows[skipped:])
            skipped = max(0, skipped - len(rows))
            while (count := sum(map(len, waiting))) >= self.size:
                joined = np.concatenate(waiting)
                yield joined[: self.size]
                waiting = [joined[self.size :]] if count > self.size else []
        if waiting:
            yield np.concatenate(waiting)

    def _batches(self, groups: range) -> Iterator[np.ndarray]:
        _, parquet = pyarrow_modules()
        # Without a buffer of some size the columns of a whole group of rows are read at once.
        options = {"metadata": self.metadata, "pre_buffer": False, "buffer_size": BUFFER_BYTES}
        with parquet.ParquetFile(self.path, **options) as file:
            for batch in file.iter_batches(
                self.size, [*groups], columns=[*self.names], use_threads=False
            ):
                yield np.column_stack([_floats(batch.column(name)) for name in self.names])


class _Columns(NamedTuple):
    """What a file says of its columns."""

    numeric: dict[str, Any]  # types of columns of numbers, by name
    others: dict[str, Any]
    labels: list[str]  # columns that pandas has kept an index in
    numbering: pd.RangeIndex | None  # one that has no column, but the usual 0, 1, 2, …
    metadata: Any


def _columns(path: Path) -> _Columns:
    """The columns of a file.

    Raises:
        FileError: it cannot be read, or two columns have one name.
    """
    _, parquet = pyarrow_modules()
    with reading(path), parquet.ParquetFile(path) as file:
        schema, metadata = file.schema_arrow, file.metadata
        kept = (schema.pandas_metadata or {}).get("index_columns", [])
    index = [name for name in kept if isinstance(name, str)]
    numeric: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for column in schema:
        if column.name in index:
            continue
        if column.name in numeric or column.name in others:
            raise FileError(f"{path} has several columns {column.name!r}; name them apart")
        (numeric if holds_numbers(column.type) else others)[column.name] = column.type
    return _Columns(numeric, others, index, _numbering(kept, metadata.num_rows), metadata)


def _numbering(kept: list[Any], count: int) -> pd.RangeIndex | None:
    """A numbering, which pandas describes and keeps in no column."""
    for one in kept:
        if isinstance(one, dict) and one.get("kind") == "range":
            found = pd.RangeIndex(one["start"], one["stop"], one["step"], name=one["name"])
            # As pandas reads it: rows that were left out later have left no trace in it.
            if len(found) == count and not found.equals(pd.RangeIndex(count)):
                return found
    return None


def _index(path: Path, names: list[str], numbering: pd.RangeIndex | None) -> pd.Index | None:
    """Labels of rows that are kept in columns, else the numbering, if there is one."""
    if not names:
        return numbering
    _, parquet = pyarrow_modules()
    with reading(path), parquet.ParquetFile(path) as file:
        frame = file.read(columns=names, use_threads=False).to_pandas()
    return frame.index if frame.columns.empty else pd.Index(frame[names[0]])


def _floats(column: Any) -> np.ndarray:
    """Numbers of a column of pyarrow's, missing ones NaN."""
    arrow, _ = pyarrow_modules()
    if not column.null_count or not arrow.types.is_integer(column.type):
        return as_floats(np.asarray(column))
    filled = as_floats(np.asarray(column.fill_null(0)))
    return np.where(np.asarray(column.is_null()), np.nan, filled)
