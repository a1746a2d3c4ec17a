"""Excel's files: data frames read and written, and printed results whose numbers are numbers."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from zipfile import ZipFile

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import affordable
from jaxhlm.core.document import Block, Grid
from jaxhlm.errors import FileError, FileWarning, JaxhlmError, OptionError, warn_user

__all__ = ["MOST_ROWS", "openpyxl_module", "read_sheet", "write_blocks", "write_frame"]

# A value, and the format that it is shown in.
Cell: TypeAlias = tuple[Any, str | None]
# What a sheet holds at most.
MOST_ROWS, MOST_COLUMNS = 2**20, 2**14
# Bytes of memory that a byte of unpacked XML takes until it is a frame.
GROWTH = 4.0
# A printed number: what stands before it, digits, decimals, exponent, what stands after it.
NUMBER = re.compile(r"(\(?)(-?[\d,]+(?:\.(\d+))?)(e[+-]\d+)?([)*.]*)")


def openpyxl_module() -> Any:
    """``openpyxl``; raise ``JaxhlmError`` where it is not installed."""
    try:
        import openpyxl
    except ModuleNotFoundError as error:
        raise JaxhlmError('Excel files need openpyxl: pip install "jaxhlm[excel]"') from error
    return openpyxl


def read_sheet(path: Path) -> pd.DataFrame:
    """The first sheet of a file: names in its first row, then rows; formulas by their last value.

    A warning says so where there are other sheets.

    Raises:
        FileError: the sheet is empty, a column has no name, or a name stands twice.
        OptionError: it holds more than this machine's memory.
        JaxhlmError: openpyxl is not installed.
    """
    openpyxl = openpyxl_module()
    with ZipFile(path) as packed:
        size = sum(part.file_size for part in packed.infolist())
    affordable(f"bytes of {path}", size, GROWTH)
    book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    try:
        sheet, *others = book.worksheets
        # What the file says of its size may be wrong, and is believed otherwise.
        sheet.reset_dimensions()
        header, *rows = [list(row) for row in sheet.iter_rows(values_only=True)] or [[]]
        title = sheet.title
    finally:
        book.close()
    if others:
        warn_user(f"{path}: the first of {len(others) + 1} sheets is read, {title!r}", FileWarning)
    width = max(
        (j + 1 for row in (header, *rows) for j, x in enumerate(row) if x is not None), default=0
    )
    names = [*header, *[None] * width][:width]
    if not width:
        raise FileError(f"cannot read {path}: it is empty; the first row holds the columns' names")
    if None in names:
        raise FileError(f"{path}: column {names.index(None) + 1} of the first row has no name")
    twice = [name for name, count in Counter(map(str, names)).items() if count > 1]
    if twice:
        raise FileError(f"{path}: column {twice[0]!r} stands twice; rename one")
    padded = [[*row, *[None] * width][:width] for row in rows if any(x is not None for x in row)]
    cells = np.array([*padded, [None] * width], dtype=object)[:-1]
    return pd.DataFrame(
        {
            str(name): pd.Series(list(x)).infer_objects()
            for name, x in zip(names, cells.T, strict=True)
        }
    )


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """A frame without its index, all digits of its numbers kept.

    Raises:
        OptionError: more than a sheet holds, or text that Excel has no form for.
        JaxhlmError: openpyxl is not installed.
    """
    rows = ([(_plain(value), None) for value in row] for row in frame.itertuples(index=False))
    _write(path, [[(str(name), None) for name in frame], *rows])


def write_blocks(path: Path, blocks: Iterable[Block]) -> None:
    """What is printed, one part under another on one sheet; see ``write_frame``.

    Numbers are numbers, rounded and shown as they are printed, with brackets and stars; headers and
    names are text, whatever they look like.
    """
    rows: list[list[Cell]] = []
    for block in blocks:
        for part in block:
            if isinstance(part, Grid):
                rows += _table(part)
            else:
                rows += [[_number(line)] for line in part.split("\n")]
        rows.append([])
    _write(path, rows[:-1])


def _table(grid: Grid) -> list[list[Cell]]:
    header, *lines = grid.lines
    rows: list[list[Cell]] = [[(text, None) for text in header]]
    for line in lines:
        cells = zip(line, grid.aligned_lines, strict=True)
        rows.append([(text, None) if align == "left" else _number(text) for text, align in cells])
    return rows


def _write(path: Path, rows: Sequence[Sequence[Cell]]) -> None:
    openpyxl = openpyxl_module()
    columns = max(map(len, rows), default=0)
    if len(rows) > MOST_ROWS or columns > MOST_COLUMNS:
        raise OptionError(
            f"{len(rows):,} rows of {columns:,} columns are more than a sheet of Excel holds "
            f"({MOST_ROWS:,} of {MOST_COLUMNS:,}); write .csv or .parquet"
        )
    book = openpyxl.Workbook()
    sheet = book.active
    for i, row in enumerate(rows, 1):
        for j, (value, style) in enumerate(row, 1):
            if value is not None and value != "":
                _put(sheet.cell(i, j), value, style)
    with path.open("wb") as file:
        book.save(file)


def _put(cell: Any, value: Any, style: str | None) -> None:
    from openpyxl.utils.exceptions import IllegalCharacterError

    try:
        cell.value = value
    except IllegalCharacterError as error:
        raise OptionError(f"{value!r} holds characters that Excel has no form for") from error
    if isinstance(value, str):
        # Text that begins with "=" is no formula.
        cell.data_type = "s"
    if style is not None:
        cell.number_format = style


def _plain(value: Any) -> Any:
    """A value as a cell holds it; None for a missing one."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if value is None or pd.isna(value):
        return None
    return value if isinstance(value, bool | int | float) else str(value)


def _number(text: str) -> Cell:
    """A printed number and the format that shows it so; text as it is.

    >>> _number("(0.156)"), _number("2.194***"), _number("<2e-16"), _number("7,185")
    ((0.156, '"("0.000")"'), (2.194, '0.000"***"'), ('<2e-16', None), (7185, '#,##0'))
    """
    found = NUMBER.fullmatch(text)
    if not found:
        return text, None
    before, digits, decimals, exponent, after = found.groups("")
    number = digits.replace(",", "") + exponent
    style = ("#,##0" if "," in digits else "0") + f".{'0' * len(decimals)}" * bool(decimals)
    style += "E+00" * bool(exponent)
    style = f'"{before}"' * bool(before) + style + f'"{after}"' * bool(after)
    return float(number) if decimals or exponent else int(number), style
