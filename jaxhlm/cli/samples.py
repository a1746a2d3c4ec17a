"""Files of many responses and of their samples, brought together by the samples' names."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from pandas.api.types import is_any_real_numeric_dtype

from jaxhlm.core.files import map_array, read_table
from jaxhlm.design.columns import listed, require_column
from jaxhlm.errors import OptionError
from jaxhlm.sources.alignment import unnamed
from jaxhlm.sources.containers import opened

__all__ = ["Samples", "read_samples"]

# Files that are read as tables; others are opened where they are.
TABLES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".feather", ".xlsx")
FILES = (*TABLES, ".parquet", ".npy")
STORES = (".h5ad", ".zarr")


class Samples(NamedTuple):
    """What ``fit_many`` takes."""

    table: pd.DataFrame | None
    responses: Any
    weights: Any


def read_samples(
    samples: Path | None,
    responses: Path,
    weights: str | None,
    by_rows: bool,
    layer: str | None,
    name: str | None,
) -> Samples:
    """Read them.

    Args:
        samples: file of the table of samples; AnnData may do without.
        responses: file of the responses.
        weights: a column of the samples, or a file like that of the responses.
        by_rows: whether the rows of responses are the responses.
        layer: of AnnData.
        name: column of the samples' names; None to find it.

    Raises:
        OptionError: the samples of the responses are none of the table's, or a response is one of
            its columns.
        FileError: a file cannot be read.
    """
    given = _responses(responses)
    table = None if samples is None else read_table(samples)
    if table is not None:
        if isinstance(given, pd.DataFrame) and not by_rows:
            given = _named_by_column(given, table, name)
        found = opened("responses", given, by_rows, layer)
        if responses.name.lower().endswith((*TABLES, ".parquet")) and not by_rows:
            _check_responses(found.labels, table, responses, samples)
        table = _named(table, samples, None if unnamed(found.samples) else found.samples, name)
    return Samples(table, given, _weights(weights, table))


def _responses(path: Path) -> Any:
    """What a file holds; the first column of a text file may hold names."""
    if not path.name.lower().endswith(TABLES):
        return str(path)
    table = read_table(path)
    first = table.columns[0]
    if is_any_real_numeric_dtype(table[first]) and not str(first).startswith("Unnamed: 0"):
        return table
    return table.set_index(first)


def _named_by_column(given: pd.DataFrame, table: pd.DataFrame, name: str | None) -> pd.DataFrame:
    """Responses by the names of their samples, in the column of --id or one that the table has."""
    for column in given:
        shared = unnamed(given.index) and column in table
        if column == name or (shared and {*table[column]} == {*given[column]}):
            return given.set_index(column)
    return given


def _check_responses(
    labels: pd.Index | None, table: pd.DataFrame, file: Path, samples: Path | None
) -> None:
    """Refuse responses that are columns of the samples.

    Raises:
        OptionError: one is.
    """
    shared = [] if labels is None else list(labels.intersection(table.columns, sort=False))
    if shared:
        raise OptionError(
            f"column {shared[0]!r} of {file} is in {samples} as well, and is no response: drop it; "
            f"if it names the samples, say --id {shared[0]}, or have pandas write it as the index "
            "of a .parquet file"
        )


def _weights(given: str | None, table: pd.DataFrame | None) -> Any:
    if given is None or (table is not None and given in table):
        return given
    if given.lower().endswith(STORES):
        return Path(given)
    if not given.lower().endswith(FILES):
        return given
    if given.lower().endswith(".npy"):
        return map_array(given)
    if given.lower().endswith(".parquet"):
        return read_table(given)
    return _responses(Path(given))


def _named(
    table: pd.DataFrame, file: Path | None, names: pd.Index | None, name: str | None
) -> pd.DataFrame:
    """The table with the samples' names as its index, where the responses have names."""
    if names is None:
        if name is not None:
            raise OptionError(f"--id {name}: the responses have no names of samples to match")
        return table
    if name is not None:
        column = table.iloc[:, require_column(table, name)]
        held = _held(column, names)
        return table.set_axis(pd.Index(column) if held is None else held, axis=0)
    if not unnamed(table.index):
        return table
    for j in range(table.shape[1]):
        if (held := _held(table.iloc[:, j], names)) is not None:
            return table.set_axis(held, axis=0)
    raise OptionError(
        f"the responses are of samples {listed(list(names[:3]))} and others, and no column of "
        f"{file} holds these names: name the column by --id, give --responses-in rows if these are "
        "the responses, or bring the names into agreement"
    )


def _held(column: pd.Series, names: pd.Index) -> pd.Index | None:
    """The names in the order of a column that holds them all, once each.

    They are compared as text, and then as whole numbers: a file's column of 001, 002 is read as
    numbers, where the head of another file keeps their zeros.
    """

    def as_number(value: object) -> object:
        return int(text) if (text := str(value)).isdecimal() else text

    for read in (str, as_number):
        known = {read(name): name for name in names}
        if len(known) == len(names) == len(column) and {*known} == {*map(read, column)}:
            return pd.Index([known[read(value)] for value in column])
    return None
