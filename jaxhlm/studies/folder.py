"""A study on disk: a manifest that says what it is, and one Parquet file per finished chunk.

Files appear under their names only when complete (written elsewhere, then renamed), so what
is there is finished, whenever the run was killed. Only one process writes to it at a time. The
manifest has a checksum of every entry, and every chunk says which study and which data sets it
holds, so what was damaged, or put there from elsewhere, is found and never read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from jaxhlm.core.files import checksum, file_path, read_parquet, set_aside, write_parquet
from jaxhlm.errors import FileError, FileWarning, StudyFolderError, warn_user
from jaxhlm.studies.lock import LOCK, locked
from jaxhlm.studies.manifest import check_same, read_manifest, write_manifest

__all__ = ["Chunk", "Folder", "open_folder", "read_folder"]

MANIFEST, ESTIMATES = "manifest.json", "estimates"
# Beside a chunk: what it is.
CHUNK_KEY = b"jaxhlm.chunk"


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
        self._study = checksum(json.dumps(manifest).encode())

    def __contains__(self, chunk: Chunk) -> bool:
        """Whether a chunk is finished."""
        return self._file(chunk).exists()

    def __setitem__(self, chunk: Chunk, frame: pd.DataFrame) -> None:
        """Write a finished chunk."""
        write_parquet(self._file(chunk), frame, {CHUNK_KEY: self._says(chunk)})

    def __getitem__(self, chunk: Chunk) -> pd.DataFrame:
        """Read a finished chunk.

        Raises:
            StudyFolderError: its file is damaged, or holds something else.
        """
        try:
            return self._read(chunk)
        except FileError as error:
            raise StudyFolderError(f"{error}; resume the study to make it anew") from error

    def set_damaged_aside(self) -> None:
        """Rename what holds another thing than its name says, and say so: it is made anew."""
        for chunk in self.chunks():
            if error := self._damage(chunk):
                aside = set_aside(self._file(chunk))
                warn_user(f"{error}; it is made anew, and kept as {aside.name}", FileWarning)

    def chunks(self) -> list[Chunk]:
        """Those that are finished, in order."""
        return [one for one in (Chunk(*it[:3]) for it in self.manifest["chunks"]) if one in self]

    def owns_a_file(self) -> bool:
        """Whether a file there says that it is one of this study's chunks."""
        return any(self._damage(chunk) is None for chunk in self.chunks())

    def _damage(self, chunk: Chunk) -> FileError | None:
        """What is wrong with a chunk's file."""
        try:
            self._read(chunk)
        except FileError as error:
            return error
        return None

    def _file(self, chunk: Chunk) -> Path:
        return self.path / ESTIMATES / chunk.file

    def _read(self, chunk: Chunk) -> pd.DataFrame:
        path = self._file(chunk)
        frame, metadata = read_parquet(path)
        if metadata.get(CHUNK_KEY) != self._says(chunk):
            raise FileError(f"{path} holds no chunk, or another one than its name says")
        return frame

    def _says(self, chunk: Chunk) -> bytes:
        return json.dumps({"study": self._study, "chunk": chunk}).encode()


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
    path = file_path(path)
    if path.exists() and not path.is_dir():
        raise StudyFolderError(f"{path} is a file; give a folder")
    # As it is read again: tuples as lists.
    manifest = json.loads(json.dumps(manifest))
    folder = Folder(path, manifest)
    known = not path.exists() or _is_this(path, manifest) or all(map(_unfinished, path.iterdir()))
    if not known and not (resume and folder.owns_a_file()):
        raise StudyFolderError(f"{path} is not empty and holds no study; give a new folder")
    _make(path)
    with locked(path):
        # Another run may have made, or finished, the study before the lock was had.
        if not _is_this(path, manifest):
            _make(path / ESTIMATES)
            write_manifest(path / MANIFEST, manifest)
        elif not resume:
            done = len(list((path / ESTIMATES).glob("*.parquet")))
            raise StudyFolderError(
                f"{path} holds this study already, {done} of {len(manifest['chunks'])} chunks "
                "finished; go on with resume=True (--resume), or give another folder"
            )
        for unfinished in (*path.glob(f".{MANIFEST}.*.tmp"), *(path / ESTIMATES).glob(".*.tmp")):
            unfinished.unlink(missing_ok=True)
        folder.set_damaged_aside()
        yield folder


def read_folder(path: str | os.PathLike[str]) -> Folder:
    """The folder of a study, as it is.

    Raises:
        StudyFolderError: it holds no study that this version can read, or its manifest is damaged
            or was edited; the message has the line and the key.
    """
    if not isinstance(path, str | os.PathLike):
        raise StudyFolderError(f"out={path!r} must be the name of a folder")
    path = file_path(path)
    if not (path / MANIFEST).is_file():
        raise StudyFolderError(f"{path} holds no study: there is no {path / MANIFEST}")
    return Folder(path, read_manifest(path / MANIFEST))


def _make(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyFolderError(f"cannot make the folder {path}: {error.strerror}") from error


def _is_this(path: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether a folder holds this study.

    Raises:
        StudyFolderError: it holds another.
    """
    if not (path / MANIFEST).exists():
        return False
    check_same(path, read_folder(path).manifest, manifest)
    return True


def _unfinished(entry: Path) -> bool:
    """What a run leaves that was killed before it had written its manifest."""
    if entry.is_dir():
        return entry.name == ESTIMATES and not any(entry.iterdir())
    return entry.name == LOCK or entry.name.startswith(f".{MANIFEST}.")
