"""Tables that are read piece by piece: Parquet data sets, pyarrow's and Dask's.

A piece is a row group of a file, or a partition. Only the columns that are asked for are read.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from jaxhlm.core.files import file_path, holds_numbers, pyarrow_modules, reading
from jaxhlm.errors import FileError, OptionError

__all__ = ["Held", "Pieces", "in_pieces", "pieces_of"]


class Pieces(Protocol):
    """Rows of a table, one piece below the other."""

    @property
    def travels(self) -> bool:
        """Whether another process can read them by what it is told."""

    def __len__(self) -> int:
        """Number of pieces."""

    def read(self, piece: int) -> pd.DataFrame:
        """The rows of a piece, in the columns that are used.

        Raises:
            FileError: it cannot be read.
        """

    def some(self, pieces: Sequence[int]) -> Pieces:
        """Only these pieces."""


@dataclass(frozen=True, eq=False)
class Held:
    """Pieces in memory."""

    frames: Sequence[pd.DataFrame]
    travels = True

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.frames)

    def read(self, piece: int) -> pd.DataFrame:
        """A frame."""
        return self.frames[piece]

    def some(self, pieces: Sequence[int]) -> Held:
        """Some frames."""
        return Held([self.frames[i] for i in pieces])


@dataclass(frozen=True, eq=False)
class _Files:
    """Row groups of files.

    Attributes:
        names: the columns.
        schema: of the whole set, by which every file is read.
        at: of every piece its format, file system, path, what its folders' names say, row group.
    """

    names: list[str]
    schema: Any
    at: Sequence[tuple[Any, Any, str, Any, int]]
    travels = True

    def __len__(self) -> int:
        return len(self.at)

    def read(self, piece: int) -> pd.DataFrame:
        form, system, path, said, group = self.at[piece]
        with reading(path):
            groups = {} if group < 0 else {"row_groups": [group]}
            file = form.make_fragment(path, system, said, **groups)
            return _frame(file, self.schema, self.names)

    def some(self, pieces: Sequence[int]) -> _Files:
        return _Files(self.names, self.schema, [self.at[i] for i in pieces])


@dataclass(frozen=True, eq=False)
class _Fragments:
    """Pieces of a pyarrow data set that lies in memory."""

    names: list[str]
    schema: Any
    fragments: Sequence[Any]
    travels = False

    def __len__(self) -> int:
        return len(self.fragments)

    def read(self, piece: int) -> pd.DataFrame:
        return _frame(self.fragments[piece], self.schema, self.names)

    def some(self, pieces: Sequence[int]) -> _Fragments:
        return _Fragments(self.names, self.schema, [self.fragments[i] for i in pieces])


@dataclass(frozen=True, eq=False)
class _Partitions:
    """Partitions of a Dask DataFrame, as tasks that are computed when they are read."""

    names: list[str]
    tasks: Sequence[Any]
    travels = False

    def __len__(self) -> int:
        return len(self.tasks)

    def read(self, piece: int) -> pd.DataFrame:
        with reading(f"partition {piece} of the Dask DataFrame"):
            found: pd.DataFrame = self.tasks[piece].compute()
            return found.reset_index(drop=True).set_axis(self.names, axis=1)

    def some(self, pieces: Sequence[int]) -> _Partitions:
        return _Partitions(self.names, [self.tasks[i] for i in pieces])


def in_pieces(data: Any) -> bool:
    """Whether this is a path, a pyarrow ``Dataset`` or a Dask DataFrame."""
    return isinstance(data, str | PathLike) or _is_dataset(data) or _is_dask(data)


def pieces_of(data: Any) -> tuple[list[str], Any]:
    """Names of all columns, and a function of some of them that gives the ``Pieces``.

    Args:
        data: as for ``in_pieces``; a path is that of a .parquet file or of a folder of them, whose
            folders' names may say more ("rep=17").

    Raises:
        FileError: there is no such file, or it is no Parquet file.
        OptionError: a data set that was filtered, which has no pieces.
        JaxhlmError: pyarrow is not installed.
    """
    if _is_dask(data):
        names = [str(name) for name in data.columns]
        labels = dict(zip(names, data.columns, strict=True))
        return names, lambda used: _Partitions(used, data[[labels[x] for x in used]].to_delayed())
    dataset = data if _is_dataset(data) else _opened(data)
    return list(dataset.schema.names), lambda used: _of_dataset(dataset, used)


def _opened(path: str | PathLike[str]) -> Any:
    """The data set of a file or a folder."""
    pyarrow_modules()
    from pyarrow import dataset

    if not (isinstance(path, str) and "://" in path):
        _check_path(file_path(path))
    with reading(path):
        found = dataset.dataset(os.fspath(path), format="parquet", partitioning="hive")
        if not found.files:
            raise FileError(f"{path} holds no Parquet files")
        return found


def _check_path(path: Path) -> None:
    if not path.exists():
        raise FileError(f"there is no file or folder {path}")
    if path.is_file() and path.suffix.lower() != ".parquet":
        raise FileError(f"{path}: give a .parquet file or a folder of them, or a DataFrame")


def _of_dataset(dataset: Any, names: list[str]) -> _Files | _Fragments:
    try:
        fragments = list(dataset.get_fragments())
    except ValueError:
        raise OptionError(
            "data is a pyarrow Dataset that was filtered, which has no pieces: write what is left "
            "of it to a folder, or leave the rows out by weights=, where they are missing"
        ) from None
    if not all(hasattr(one, "path") for one in fragments):
        return _Fragments(names, dataset.schema, fragments)
    schema, at = dataset.schema, []
    for one in fragments:
        groups, own = _row_groups(one)
        at += groups
        schema = _widened(schema, own, names, one.path)
    return _Files(names, schema, at)


def _row_groups(file: Any) -> tuple[list[tuple[Any, Any, str, Any, int]], Any]:
    """Where the pieces of a file are, and its own schema."""
    at = file.format, file.filesystem, file.path, file.partition_expression
    with reading(file.path):
        # What is read of a file stays with the object that read it, of which there may be millions.
        here = file.format.make_fragment(file.path, file.filesystem)
        if not hasattr(file, "row_groups"):
            return [(*at, -1)], here.physical_schema
        groups = [(*at, group.id) for group in here.row_groups if group.num_rows]
        return groups, here.physical_schema


def _widened(schema: Any, own: Any, names: list[str], path: str) -> Any:
    """The schema, whose numbers are as wide as those of a file: pyarrow takes that of the first.

    Raises:
        FileError: a column holds numbers in one file, and something else in another.
    """
    arrow, _ = pyarrow_modules()
    for name in names:
        at, there = schema.get_field_index(name), own.get_field_index(name)
        if at < 0 or there < 0 or schema.field(at).type == own.field(there).type:
            continue
        known, found = schema.field(at), own.field(there)
        kinds = [holds_numbers(field.type) for field in (known, found)]
        if not any(kinds) or arrow.types.is_null(found.type):
            continue
        if not all(kinds) and not arrow.types.is_null(known.type):
            raise FileError(
                f"column {name!r} is {found.type} in {path} and {known.type} in files before it; "
                "write it as one type in all of them"
            )
        (wide,) = arrow.unify_schemas(
            [arrow.schema([known]), arrow.schema([found])], promote_options="permissive"
        )
        schema = schema.set(at, wide)
    return schema


def _frame(fragment: Any, schema: Any, names: list[str]) -> pd.DataFrame:
    table = fragment.to_table(schema=schema, columns=names, use_threads=False)
    # Labels of rows are their places in the set, whatever pandas has noted in the file.
    return table.to_pandas(ignore_metadata=True)


def _is_dataset(data: Any) -> bool:
    return type(data).__module__.startswith("pyarrow.") and hasattr(data, "get_fragments")


def _is_dask(data: Any) -> bool:
    return all(hasattr(data, name) for name in ("npartitions", "to_delayed", "columns"))
