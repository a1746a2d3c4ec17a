"""Every file that the library reads or writes: whole under its name, or not at all.

A file appears under its name once it is complete: it is written beside and renamed, so a full disk
or a killed process leaves what was there before. Pages of Parquet files carry checksums, which are
compared when the file is read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from jaxhlm.errors import FileError, JaxhlmError, OptionError

__all__ = [
    "check_target",
    "read_parquet",
    "read_table",
    "write_csv",
    "write_parquet",
    "write_text",
    "write_whole",
]

PathName: TypeAlias = str | os.PathLike[str]


def write_whole(path: PathName, write: Callable[[Path], object]) -> None:
    """Write a file beside and rename it when it is whole.

    Args:
        path: the file; an older one of this name is replaced at the very end.
        write: writes the file to the path that it is given.

    Raises:
        FileError: the file cannot be written; what was there before is as it was.
    """
    target = check_target(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
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
        FileError: it is no path, a folder, or lies in a folder that is not there.
    """
    target = _path(path)
    if target.is_dir():
        raise FileError(f"{target} is a folder; give the name of a file")
    if not target.parent.is_dir():
        raise FileError(f"cannot write {target}: there is no folder {target.parent}; make it first")
    return target


def write_text(path: PathName, text: str) -> None:
    """Write text as UTF-8; see ``write_whole``."""
    write_whole(path, lambda at: at.write_text(text, encoding="utf-8"))


def write_csv(path: PathName, frame: pd.DataFrame) -> None:
    """Write a table without its index; see ``write_whole``."""
    write_whole(path, lambda at: frame.to_csv(at, index=False))


def write_parquet(
    path: PathName, frame: pd.DataFrame, metadata: Mapping[bytes, bytes] | None = None
) -> None:
    """Write a table without its index, with checksums, and text beside it; see ``write_whole``.

    Args:
        path: the file.
        frame: columns that Parquet has a type for.
        metadata: what else the file holds.

    Raises:
        FileError: as for ``write_whole``.
        JaxhlmError: pyarrow is not installed.
    """
    arrow, parquet = _pyarrow()
    table = arrow.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **(metadata or {})})
    write_whole(path, lambda at: parquet.write_table(table, at, write_page_checksum=True))


def read_parquet(path: PathName) -> tuple[pd.DataFrame, dict[bytes, bytes]]:
    """A table and the text beside it.

    Raises:
        FileError: the file cannot be opened, is no Parquet file, or is damaged.
        JaxhlmError: pyarrow is not installed.
    """
    _, parquet = _pyarrow()
    path = _path(path)
    with _reading(path):
        table = parquet.ParquetFile(path, page_checksum_verification=True).read()
        return table.to_pandas(), dict(table.schema.metadata or {})


def read_table(path: PathName) -> pd.DataFrame:
    """A data frame from a .csv, .csv.gz or .parquet file.

    Raises:
        FileError: the file cannot be opened, or its contents cannot be read.
        OptionError: another ending.
    """
    name = Path(path).name.lower()
    if name.endswith(".parquet"):
        return read_parquet(path)[0]
    if name.endswith((".csv", ".csv.gz")):
        with _reading(path):
            return pd.read_csv(path)
    raise OptionError(f"{path}: give a file that ends in .csv, .csv.gz or .parquet")


@contextmanager
def _reading(path: PathName) -> Iterator[None]:
    """Say of whatever goes wrong while a file is read which file it is."""
    try:
        yield
    except FileNotFoundError:
        raise FileError(f"there is no file {path}") from None
    # What pandas and pyarrow raise over the bytes of a damaged file has no common base.
    except Exception as error:
        reason = str(error).split("\n")[0] or type(error).__name__
        raise FileError(f"cannot read {path}: {reason}") from error


def _path(path: PathName) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise FileError(f"path={path!r}: give the name of a file, a str or a pathlib.Path")
    return Path(path)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise JaxhlmError('Parquet files need pyarrow: pip install "jaxhlm[parquet]"') from error
    return pyarrow, pyarrow.parquet
