"""Tables in CSV files, read as they were written or refused with file, line and column.

pandas takes what it is given: rows with too few fields are filled, a name that stands twice is
numbered, and one mistyped cell makes text of a column of numbers. Each of these is another data set
than the one that was written, so the rows are looked at first.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pandas as pd
from pandas.api import types

from jaxhlm.core.arguments import affordable
from jaxhlm.core.utf8 import decoded
from jaxhlm.errors import FileError, FileWarning, warn_user

__all__ = ["read_csv"]

PIECE = 1 << 24
# Bytes of memory that a byte of text takes until it is a frame.
GROWTH = 4.0
UTF16 = (b"\xff\xfe", b"\xfe\xff")


def read_csv(path: Path, sep: str = ",") -> pd.DataFrame:
    """A data frame from a .csv or .csv.gz file: UTF-8, names in the first row.

    A warning says where one cell of a column of numbers holds something else, and where the last
    row has no end.

    Args:
        path: the file.
        sep: what stands between two fields, a comma or a tab.

    Raises:
        FileError: it is no text, or damaged; a row has more or fewer fields than there are names;
            a name stands twice. The message has the line, and the column where there is one.
        OptionError: it holds more than this machine's memory.
        OSError: it cannot be opened.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "d.csv")
        ...     _ = path.write_text("x,y\\n1,2\\n3,4\\n")
        ...     read_csv(path)["y"].tolist()
        [2, 4]
    """
    text = _text(path, _contents(path))
    _check_rows(path, text, sep)
    if not text.endswith(("\n", "\r")):
        warn_user(
            f"{path}: the last row does not end with a new line; if the file was cut off, its last "
            "cell may be cut too",
            FileWarning,
        )
    # Types by parts of the file would make 1 and "1" two labels of one column.
    frame = pd.read_csv(io.StringIO(text), sep=sep, low_memory=False)
    for name, column in frame.items():
        _tell_mistyped(path, text, sep, str(name), column)
    return frame


def _contents(path: Path) -> bytes:
    """The bytes of a file, unpacked; gzip's own checksum and length are compared at its end."""
    packed = path.name.lower().endswith(".gz")
    pieces, size = [], 0
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            for piece in _pieces(file):
                size += len(piece)
                affordable(f"bytes of {path}", size, GROWTH)
                pieces.append(piece)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FileError(f"{path} is damaged or cut off: {error}") from error
    return b"".join(pieces)


def _pieces(file: BinaryIO | gzip.GzipFile) -> Iterator[bytes]:
    while piece := file.read(PIECE):
        yield piece


def _text(path: Path, raw: bytes) -> str:
    if raw.startswith(UTF16):
        raise FileError(f"{path}:1: this is UTF-16; save it as CSV UTF-8")
    text = decoded(path, raw, FileError, "save it as CSV UTF-8")
    if (at := text.find("\0")) >= 0:
        line = text.count("\n", 0, at) + 1
        raise FileError(f"{path}:{line}: a NUL byte; the file is damaged or no text")
    return text


def _rows(path: Path, text: str, sep: str) -> Iterator[tuple[int, list[str]]]:
    """Last line and fields of every row that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=sep, strict=True)
    try:
        for row in reader:
            if len(row) > 1 or "".join(row).strip():
                yield reader.line_num, row
    except csv.Error as error:
        raise FileError(f"{path}:{reader.line_num}: {error}") from None


def _check_rows(path: Path, text: str, sep: str) -> None:
    """As many fields in every row as there are names, and no name twice."""
    rows = _rows(path, text, sep)
    _, names = next(rows, (0, []))
    if not names:
        raise FileError(f"cannot read {path}: it is empty; the first row holds the columns' names")
    twice = [name for name, count in Counter(filter(None, names)).items() if count > 1]
    if twice:
        raise FileError(f"{path}:1: column {twice[0]!r} stands twice; rename one")
    for line, row in rows:
        if len(row) != len(names):
            mark = "commas" if sep == "," else "tabs"
            raise FileError(
                f"{path}:{line}: {len(row)} fields where the first row names {len(names)} columns, "
                f"{names[0]!r} to {names[-1]!r}; {mark} within a cell need quotes around it"
            )


def _tell_mistyped(path: Path, text: str, sep: str, name: str, column: pd.Series) -> None:
    """Say where a column is text because a few of its cells are no numbers."""
    if types.is_numeric_dtype(column):
        return
    counts = column.astype(str)[column.notna()].value_counts()
    wrong = pd.to_numeric(counts.index.to_series(), errors="coerce").isna().to_numpy()
    numbers, others = int(counts[~wrong].sum()), int(counts[wrong].sum())
    if not 0 < others < numbers:
        return
    first = column.isin(counts.index[wrong]).to_numpy().argmax()
    line = next(line for i, (line, _) in enumerate(_rows(path, text, sep)) if i == first + 1)
    warn_user(
        f"{path}:{line}: column {name!r} holds {column.iloc[first]!r} where {numbers:,} cells hold "
        f"numbers, so all of it is read as text, and enters a model as a factor; mend the "
        f"{others:,} that are none, or leave them empty where a value is missing",
        FileWarning,
    )
