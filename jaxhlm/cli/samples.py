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
        OptionError: the samples of the responses are none of the table's, or a column of both is
            not that of the samples' names.
        FileError: a file cannot be read.
    """
    given = _responses(responses)
    table = None if samples is None else read_table(samples)
    if table is not None:
        if not by_rows:
            given = _by_shared_names(given, responses, table, samples, name)
        names = opened("responses", given, by_rows, layer).samples
        table = _named(table, samples, None if unnamed(names) else names, name)
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


def _by_shared_names(
    given: Any, file: Path, table: pd.DataFrame, samples: Path | None, name: str | None
) -> Any:
    """Responses whose samples are named in a column that the table of samples has as well."""
    if isinstance(given, pd.DataFrame):
        columns = given.columns
    elif file.suffix.lower() == ".parquet":
        columns = opened("responses", given, False).labels
    else:
        return given
    for column in columns.intersection(table.columns.union([name]), sort=False):
        names = table.get(column)
        if isinstance(given, pd.DataFrame) and (
            column == name or (names is not None and {*names} == {*given[column]})
        ):
            return given.set_index(column)
        raise OptionError(
            f"column {column!r} of {file} is in {samples} as well, and is no response: drop it"
            + f", or write it as pandas' index if it names the samples: set_index({column!r})"
            * (not isinstance(given, pd.DataFrame))
        )
    return given


def _weights(given: str | None, table: pd.DataFrame | None) -> Any:
    if given is None or (table is not None and given in table):
        return given
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
        return table.set_axis(pd.Index(column), axis=0)
    if not unnamed(table.index):
        return table
    wanted = set(map(str, names))
    for j in range(table.shape[1]):
        column = table.iloc[:, j]
        if set(map(str, column)) == wanted and column.is_unique:
            return table.set_axis(pd.Index(column), axis=0)
    raise OptionError(
        f"the responses are of samples {listed(list(names[:3]))} and others, and no column of "
        f"{file} holds these names: name the column by --id, give --responses-in rows if these are "
        "the responses, or bring the names into agreement"
    )
