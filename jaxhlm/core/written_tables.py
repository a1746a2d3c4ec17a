"""Tables written by the ending of their names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from pandas.api.types import infer_dtype

from jaxhlm.core.document import Block, as_latex, as_markdown, as_page, grid_of
from jaxhlm.core.files import (
    PathName,
    check_target,
    pyarrow_modules,
    write_atomically,
    write_csv,
    write_parquet,
    write_text,
)
from jaxhlm.core.spreadsheet import MOST_ROWS, openpyxl_module, write_frame
from jaxhlm.errors import OptionError

__all__ = [
    "DOCUMENTS",
    "WRITTEN",
    "check_table_target",
    "write_as_parquet",
    "write_excel",
    "write_table",
]


def check_table_target(path: PathName, rows: int = 0) -> Path:
    """The path of a table to be written; refused as by ``check_target``, or for its ending.

    Args:
        path: the file.
        rows: of the table, as far as they are known before it is made.

    Raises:
        FileError: as for ``check_target``.
        OptionError: another ending than those that ``write_table`` knows, or more rows than it has
            room for.
        JaxhlmError: pyarrow or openpyxl, which .parquet and .xlsx need, is not installed.
    """
    target = check_target(path)
    ending = target.suffix.lower()
    if ending not in (*WRITTEN, *DOCUMENTS):
        raise OptionError(
            f"{target}: tables are written as {', '.join([*WRITTEN, *DOCUMENTS])}; give such a name"
        )
    if ending in TABLES:
        TABLES[ending][0]()
    if ending == ".xlsx" and rows >= MOST_ROWS:
        raise OptionError(
            f"{target}: {rows:,} rows are more than a sheet of Excel holds ({MOST_ROWS:,}); write "
            ".csv or .parquet"
        )
    return target


def write_table(path: PathName, frame: pd.DataFrame, printed: list[Block] | None = None) -> None:
    """Write a table without its index by the ending of its name, or what is printed of it.

    Args:
        path: .csv, .parquet and .xlsx take the frame; .html, .tex and .md what is printed.
        frame: the table.
        printed: its printed form; by default numbers to four digits.

    Raises:
        FileError, OptionError, JaxhlmError: as for ``check_table_target``.
    """
    ending = check_table_target(path).suffix.lower()
    if ending in DOCUMENTS:
        blocks = [[grid_of(frame, ".4g", index=False)]] if printed is None else printed
        write_text(path, DOCUMENTS[ending](blocks) + "\n")
    elif ending in TABLES:
        TABLES[ending][1](path, frame)
    else:
        write_csv(path, frame)


def write_as_parquet(path: PathName, frame: pd.DataFrame) -> None:
    """Write a table by ``write_parquet``, with labels of several kinds as text, as in .csv."""
    mixed = [
        name
        for name, column in frame.items()
        if column.dtype == object and infer_dtype(column).startswith("mixed")
    ]
    write_parquet(path, frame.astype(dict.fromkeys(mixed, str)))


def write_excel(path: PathName, frame: pd.DataFrame) -> None:
    """Write a table without its index; see ``write_atomically`` and ``write_frame``."""
    write_atomically(path, lambda at: write_frame(at, frame))


# What writes a table whose name ends so, and what it needs; documents take what is printed.
TABLES: dict[str, tuple[Callable[[], object], Callable[[PathName, pd.DataFrame], None]]] = {
    ".parquet": (pyarrow_modules, write_as_parquet),
    ".xlsx": (openpyxl_module, write_excel),
}
WRITTEN = (".csv", *TABLES)
DOCUMENTS = {".html": as_page, ".tex": as_latex, ".md": as_markdown}
