"""Every file that the library reads or writes: complete under its name, or not at all.

A file appears under its name once it is complete: it is written beside and renamed, so a full disk
or a killed process leaves what was there before. Parquet files carry checksums of their pages and
one of all that they hold, which are compared when the file is read. They find accidents, not
forgery: who changes a file on purpose can change its checksums too.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import blake2b
from itertools import chain, count
from mmap import mmap
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import affordable
from jaxhlm.core.csvtable import read_csv
from jaxhlm.core.spreadsheet import read_sheet
from jaxhlm.errors import FileError, JaxhlmError, OptionError

__all__ = [
    "READ",
    "check_target",
    "checksum",
    "file_path",
    "holds_numbers",
    "map_again",
    "map_array",
    "mapped_from",
    "pyarrow_modules",
    "read_parquet",
    "read_table",
    "reading",
    "reason_of",
    "refused",
    "row_checksums",
    "set_aside",
    "write_atomically",
    "write_csv",
    "write_parquet",
    "write_text",
]

PathName: TypeAlias = str | os.PathLike[str]
# What our files say beside their columns; the last of it is a checksum of all.
OWN, DIGEST = b"jaxhlm.", b"jaxhlm.digest"
CELL = 8.0
SEPARATORS = {"csv": ",", "tsv": "\t"}
# Endings of the tables that ``read_table`` reads.
READ = ".csv, .tsv, .parquet, .feather or .xlsx"
# Columns of an array that are read together.
COLUMNS_READ = 4096


def write_atomically(path: PathName, write: Callable[[Path], object]) -> None:
    """Write a file atomically: beside, and renamed when it is complete.

    Args:
        path: the file; an older one of this name is replaced at the very end.
        write: writes the file to the path that it is given.

    Raises:
        FileError: the file cannot be written; what was there before is as it was.
    """
    # A link stays one: what it leads to is replaced.
    target = Path(os.path.realpath(check_target(path)))
    number = f"{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}"
    temporary = target.with_name(f".{target.name}.{number}.tmp")
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise FileError(f"cannot write {target}: {error}; what was there is unchanged") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_target(path: PathName) -> Path:
    """The path of a file to be written, refused before work for it begins where it cannot be.

    Raises:
        FileError: it is no path, a folder, a device, or lies in a folder that is not there.
    """
    target = file_path(path)
    if target.is_dir():
        raise FileError(f"{target} is a folder; give the name of a file")
    # Renaming onto /dev/null would put a file in its place.
    if target.exists() and not target.is_file():
        raise FileError(f"{target} is a device or a pipe; give the name of a file")
    if not target.parent.is_dir():
        raise FileError(f"cannot write {target}: there is no folder {target.parent}; make it first")
    return target


def set_aside(path: Path) -> Path:
    """Rename a file so that its name is free, and give the new name, which is no other file's."""
    names = (f"{path.name}.damaged{number}" for number in chain([""], count(2)))
    aside = next(at for at in map(path.with_name, names) if not os.path.lexists(at))
    os.replace(path, aside)
    return aside


def write_text(path: PathName, text: str) -> None:
    """Write text as UTF-8; see ``write_atomically``."""
    write_atomically(path, lambda at: at.write_text(text, encoding="utf-8"))


def write_csv(path: PathName, frame: pd.DataFrame) -> None:
    """Write a table without its index; see ``write_atomically``."""
    write_atomically(path, lambda at: frame.to_csv(at, index=False))


def write_parquet(
    path: PathName, frame: pd.DataFrame, metadata: Mapping[bytes, bytes] | None = None
) -> None:
    """Write a table without its index, with checksums and text beside it; see ``write_atomically``.

    Args:
        path: the file.
        frame: columns that Parquet has a type for.
        metadata: what else the file holds, under names that begin with "jaxhlm.".

    Raises:
        FileError: as for ``write_atomically``.
        JaxhlmError: pyarrow is not installed.
    """
    arrow, parquet = pyarrow_modules()
    # Objects of one type come back as that type, and so they are for the checksum.
    frame = frame.infer_objects()
    table = arrow.Table.from_pandas(frame, preserve_index=False)
    own = dict(metadata or {})
    own[DIGEST] = _digest(frame, own)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **own})

    # Estimates hardly repeat: looking for what does takes longer than writing them.
    repeating = [str(name) for name, dtype in frame.dtypes.items() if dtype.kind != "f"]
    plain = {name: "snappy" if name in repeating else "none" for name in table.column_names}

    def write(at: Path) -> None:
        # pyarrow takes no name that is not UTF-8.
        with at.open("wb") as file:
            parquet.write_table(
                table, file, write_page_checksum=True, use_dictionary=repeating, compression=plain
            )

    write_atomically(path, write)


def read_parquet(path: PathName) -> tuple[pd.DataFrame, dict[bytes, bytes]]:
    """A table and the text beside it, whoever wrote it.

    Raises:
        FileError: the file cannot be opened, is no Parquet file, or is damaged: of one that
            ``write_parquet`` wrote this is always found.
        OptionError: it holds more than this machine's memory.
        JaxhlmError: pyarrow is not installed.
    """
    _, parquet = pyarrow_modules()
    path = file_path(path)
    with reading(path), path.open("rb") as opened:
        file = parquet.ParquetFile(opened, page_checksum_verification=True)
        affordable(f"rows of {path}", file.metadata.num_rows, CELL * file.metadata.num_columns)
        table = file.read()
        frame, metadata = table.to_pandas(), dict(table.schema.metadata or {})
        # Pages without a checksum, or names in the footer, may be damaged too.
        damaged = _own(metadata) and _digest(frame, metadata) != metadata.get(DIGEST)
    if damaged:
        raise FileError(f"{path} is damaged: its contents are not what was written; write it again")
    return frame, metadata


def read_table(path: PathName) -> pd.DataFrame:
    """A data frame from a .csv, .tsv (either of them .gz too), .parquet, .feather or .xlsx file.

    Raises:
        FileError: the file cannot be opened, or its contents cannot be read.
        OptionError: another ending, or more than this machine's memory.
        JaxhlmError: pyarrow or openpyxl, which the last three need, is not installed.
    """
    path = file_path(path)
    name = path.name.lower()
    if name.endswith(".parquet"):
        return read_parquet(path)[0]
    if name.endswith(".feather"):
        return _read_feather(path)
    if name.endswith(".xlsx"):
        with reading(path):
            return read_sheet(path)
    sep = SEPARATORS.get(name.removesuffix(".gz").rpartition(".")[2])
    if sep is None:
        raise OptionError(f"{path}: give a file that ends in {READ}")
    with reading(path):
        return read_csv(path, sep)


def _read_feather(path: Path) -> pd.DataFrame:
    pyarrow_modules()
    from pyarrow import feather

    with reading(path):
        affordable(f"bytes of {path}", path.stat().st_size, 1.0)
        return feather.read_feather(path)


def map_array(path: PathName) -> np.ndarray:
    """The array of a .npy file, of which only what is looked at is read.

    Raises:
        FileError: the file cannot be opened, or is not such a file, or was cut.
    """
    path = file_path(path)
    with reading(path):
        return np.asarray(np.lib.format.open_memmap(path, mode="r"))


def mapped_from(values: np.ndarray) -> dict[str, Any] | None:
    """How ``np.memmap`` opens the file that an array is mapped from; None if it is in memory."""
    mapped: Any = values
    while isinstance(mapped, np.ndarray) and not isinstance(mapped, np.memmap):
        mapped = mapped.base
    # Parts of a mapping do not know where in the file they begin; nor is "c" what the file holds.
    if not isinstance(mapped, np.memmap) or not isinstance(getattr(mapped, "base", None), mmap):
        return None
    as_it_is = mapped.strides == values.strides and mapped.shape == values.shape
    transposed = mapped.strides == values.strides[::-1] and mapped.shape == values.shape[::-1]
    same = (mapped.dtype, mapped.ctypes.data) == (values.dtype, values.ctypes.data)
    if not (same and (as_it_is or transposed)):
        return None
    if mapped.filename is None or mapped.mode not in ("r", "r+"):
        return None
    order = "C" if values.flags.c_contiguous else "F"
    return {
        "filename": os.path.abspath(mapped.filename),
        "dtype": values.dtype,
        "offset": mapped.offset,
        "shape": values.shape,
        "order": order,
    }


def map_again(file: Mapping[str, Any]) -> np.ndarray:
    """The array of a file that ``mapped_from`` told of.

    Raises:
        FileError: the file cannot be opened, or is too short.
    """
    with reading(file["filename"]):
        return np.asarray(np.memmap(mode="r", **file))


def checksum(*parts: bytes) -> str:
    """One short text for some bytes, told apart from all others.

    >>> checksum(b"a", b"b") == checksum(b"ab")
    False
    """
    found = blake2b(digest_size=16)
    for part in parts:
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return found.hexdigest()


def row_checksums(rows: np.ndarray) -> list[str]:
    """``checksum`` of every row of an array (n, B) that lies column by column, read in its order.

    >>> a = np.arange(6.0).reshape(2, 3)
    >>> row_checksums(np.asfortranarray(a)) == [checksum(row.tobytes()) for row in a]
    True
    """
    length = (rows.shape[1] * rows.itemsize).to_bytes(8, "little")
    found = [blake2b(length, digest_size=16) for _ in rows]
    for first in range(0, rows.shape[1], COLUMNS_READ):
        for one, row in zip(found, rows[:, first : first + COLUMNS_READ], strict=True):
            one.update(row.tobytes())
    return [one.hexdigest() for one in found]


def _own(metadata: Mapping[bytes, bytes]) -> list[bytes]:
    """Names of what our own files say."""
    return sorted(name for name in metadata if name.startswith(OWN))


def _digest(frame: pd.DataFrame, metadata: Mapping[bytes, bytes]) -> bytes:
    """A checksum of numbers, labels and text, whatever the bytes of the file."""
    said = [part for name in _own(metadata) if name != DIGEST for part in (name, metadata[name])]
    content = [part for name, x in frame.items() for part in (str(name).encode(), *_content(x))]
    return checksum(*said, *content).encode()


def _content(column: pd.Series) -> list[bytes]:
    """What a column holds: its type and numbers, or which labels stand where."""
    values = column.to_numpy()
    if values.dtype.kind in "biuf":
        # A missing number has many forms, and comes back from a file in one of them.
        one = np.where(np.isnan(values), np.nan, values) if values.dtype.kind == "f" else values
        return [values.dtype.str.encode(), np.ascontiguousarray(one).tobytes()]
    codes, labels = pd.factorize(column)
    return [codes.astype(np.int64).tobytes(), *(str(label).encode() for label in labels)]


@contextmanager
def reading(path: PathName) -> Iterator[None]:
    """Say of whatever goes wrong while a file is read which file it is."""
    try:
        yield
    except JaxhlmError:
        raise
    except FileNotFoundError:
        raise FileError(f"there is no file {path}") from None
    # What pandas and pyarrow raise over the bytes of a damaged file has no common base.
    except Exception as error:
        raise FileError(f"cannot read {path}: {reason_of(error)}") from error


def refused(error: FileError) -> bool:
    """Whether it was not what the file holds, but the system or its memory, that kept it unread."""
    cause = error.__cause__
    # What pyarrow finds in the bytes is an OSError, too, but one without a number.
    return isinstance(cause, MemoryError) or (isinstance(cause, OSError) and bool(cause.errno))


def reason_of(error: Exception) -> str:
    """What another library says of its error, in one line."""
    return str(error).strip().split("\n")[0].rstrip(":") or type(error).__name__


def file_path(path: PathName) -> Path:
    """The path; raise ``FileError`` where it cannot be one."""
    if not isinstance(path, str | os.PathLike) or "\0" in os.fsdecode(path):
        raise FileError(f"path={path!r}: give the name of a file, a str or a pathlib.Path")
    try:
        os.lstat(path)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise FileError(f"the name of {os.fspath(path)[:40]}… is too long for a file") from None
    return Path(path)


def pyarrow_modules() -> tuple[Any, Any]:
    """``pyarrow`` and ``pyarrow.parquet``; raise ``JaxhlmError`` where they are not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise JaxhlmError('Parquet files need pyarrow: pip install "jaxhlm[parquet]"') from error
    return pyarrow, pyarrow.parquet


def holds_numbers(kind: Any) -> bool:
    """Whether a type of pyarrow's is that of numbers."""
    arrow, _ = pyarrow_modules()
    return bool(arrow.types.is_integer(kind) or arrow.types.is_floating(kind))
