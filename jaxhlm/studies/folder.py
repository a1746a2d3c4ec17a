"""A study on disk: a manifest that says what it is, and one Parquet file per finished chunk.

Files appear under their names only when they are whole (written elsewhere, then renamed), so what
is there is finished, whenever the run was killed. Only one process writes to it at a time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from jaxhlm.errors import FileError, StudyFolderError
from jaxhlm.files import read_parquet, write_parquet, write_text
from jaxhlm.studies.lock import LOCK, locked

__all__ = ["SCHEMA", "Chunk", "Folder", "open_folder", "read_folder"]

SCHEMA = 1
MANIFEST, ESTIMATES = "manifest.json", "estimates"


class Chunk(NamedTuple):
    """Data sets first … last − 1 of a condition: the unit of work."""

    condition: int
    first: int
    last: int

    @property
    def file(self) -> str:
        """Name of its file; names sort as the chunks do."""
        return f"{self.condition:05d}-{self.first:09d}-{self.last:09d}.parquet"


class Folder:
    """The folder of one study.

    Attributes:
        path: where it is.
        manifest: what it holds.
    """

    def __init__(self, path: Path, manifest: Mapping[str, Any]) -> None:
        self.path, self.manifest = path, manifest

    def __contains__(self, chunk: Chunk) -> bool:
        """Whether a chunk is finished."""
        return (self.path / ESTIMATES / chunk.file).exists()

    def __setitem__(self, chunk: Chunk, frame: pd.DataFrame) -> None:
        """Write a finished chunk."""
        write_parquet(self.path / ESTIMATES / chunk.file, frame)

    def __getitem__(self, chunk: Chunk) -> pd.DataFrame:
        """Read a finished chunk."""
        path = self.path / ESTIMATES / chunk.file
        try:
            return read_parquet(path)[0]
        except FileError as error:
            raise StudyFolderError(f"{error}; remove this file and resume the study") from error


@contextmanager
def open_folder(
    path: str | os.PathLike[str], manifest: dict[str, Any], resume: bool
) -> Iterator[Folder]:
    """The folder of a study, new, or to go on with, which no other process writes to meanwhile.

    Args:
        path: the folder; made if it is not there.
        manifest: what the study is.
        resume: go on with what is there.

    Raises:
        StudyFolderError: the folder holds something else, another study, or this one and
            ``resume`` is False, or another process works on it. Nothing in it is touched.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise StudyFolderError(f"{path} is a file; give a folder")
    if path.exists() and not _is_this(path, manifest):
        _check_empty(path)
    path.mkdir(parents=True, exist_ok=True)
    with locked(path):
        # Another run may have made, or finished, the study before the lock was had.
        if not _is_this(path, manifest):
            (path / ESTIMATES).mkdir(exist_ok=True)
            write_text(path / MANIFEST, json.dumps(manifest, indent=1))
        elif not resume:
            done = len(list((path / ESTIMATES).glob("*.parquet")))
            raise StudyFolderError(
                f"{path} holds this study already, {done} of {len(manifest['chunks'])} chunks "
                "finished; go on with resume=True (--resume), or give another folder"
            )
        for left in (*path.glob(f".{MANIFEST}.*.tmp"), *(path / ESTIMATES).glob(".*.tmp")):
            left.unlink(missing_ok=True)
        yield Folder(path, manifest)


def read_folder(path: str | os.PathLike[str]) -> Folder:
    """The folder of a study, as it is.

    Raises:
        StudyFolderError: it holds no study that this version can read.
    """
    if not isinstance(path, str | os.PathLike):
        raise StudyFolderError(f"out={path!r} must be the name of a folder")
    path = Path(path)
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        schema = manifest["schema"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudyFolderError(f"{path} holds no study: cannot read its {MANIFEST}") from error
    if schema != SCHEMA:
        raise StudyFolderError(
            f"{path} has the layout {schema!r} of another version of jaxhlm; this one reads "
            f"layout {SCHEMA}"
        )
    return Folder(path, manifest)


def _is_this(path: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether a folder holds this study.

    Raises:
        StudyFolderError: it holds another.
    """
    if not (path / MANIFEST).exists():
        return False
    _check_same(path, read_folder(path).manifest, manifest)
    return True


def _check_empty(path: Path) -> None:
    if any(not _unfinished(entry) for entry in path.iterdir()):
        raise StudyFolderError(f"{path} is not empty and holds no study; give a new folder")


def _check_same(path: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Refuse to mix runs that would not give the same numbers."""
    new = json.loads(json.dumps(new))
    different = [key for key in new if old.get(key) != new[key]]
    if not different:
        return
    details = []
    for key in different:
        if key == "versions":
            changed = {k: v for k, v in new[key].items() if old.get(key, {}).get(k) != v}
            was = {k: old.get(key, {}).get(k) for k in changed}
            details.append(f"versions (was {was}, now {changed})")
        elif isinstance(new[key], list | dict):
            details.append(key)
        else:
            details.append(f"{key} (was {old.get(key)!r}, now {new[key]!r})")
    raise StudyFolderError(
        f"{path} holds another study; it differs in " + ", ".join(details) + ". Nothing was "
        "changed: give another folder, or the arguments that this one was made with"
    )


def _unfinished(entry: Path) -> bool:
    """What a run leaves that was killed before it had written its manifest."""
    if entry.is_dir():
        return entry.name == ESTIMATES and not any(entry.iterdir())
    return entry.name == LOCK or entry.name.startswith(f".{MANIFEST}.")
