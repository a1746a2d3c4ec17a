"""A run on disk: a manifest that says what it is, and one Parquet file per finished chunk.

Files appear under their names only when complete (written elsewhere, then renamed), so what
is there is finished, whenever the run was killed. Only one process writes to it at a time. The
manifest has a checksum of every entry, and every chunk says which run and which data sets it
holds, so what was damaged, or put there from elsewhere, is found and never read.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from jaxhlm.core.arguments import check_flag
from jaxhlm.core.files import checksum, file_path, read_parquet, refused, set_aside, write_parquet
from jaxhlm.errors import (
    FileError,
    FileWarning,
    FolderError,
    JaxhlmError,
    OptionError,
    warn_user,
)
from jaxhlm.storage.lock import LOCK, locked
from jaxhlm.storage.manifest import Kind, check_same, read_manifest, write_manifest

__all__ = [
    "Chunk",
    "ChunkFiles",
    "Folder",
    "check_out",
    "open_folder",
    "read_folder",
    "told_before",
]

MANIFEST, ESTIMATES = "manifest.json", "estimates"
# Beside a chunk: what it is.
CHUNK_KEY = b"jaxhlm.chunk"
# Seconds that a file may take to be seen by another machine, and between looking for it.
PATIENCE, GLANCE = 60.0, 0.1


class Chunk(NamedTuple):
    """Data sets first … last − 1 of a condition, 0 where there are none: the unit of work."""

    condition: int
    first: int
    last: int

    @property
    def file(self) -> str:
        """Name of its file; names sort as the chunks do."""
        return f"{self.condition:05d}-{self.first:09d}-{self.last:09d}.parquet"


@dataclass(frozen=True)
class ChunkFiles:
    """The files of one run's chunks, for whoever writes some of them.

    Attributes:
        path: where they are.
        run: tells the run from all others.
    """

    path: Path
    run: str

    def of(self, chunk: Chunk) -> Path:
        """The file of a chunk."""
        return self.path / chunk.file

    def write(
        self, chunk: Chunk, frame: pd.DataFrame, beside: Mapping[bytes, bytes] | None = None
    ) -> None:
        """Write a finished chunk, and what its file says beside the table.

        Raises:
            FileError: it cannot be written.
        """
        write_parquet(self.of(chunk), frame, {**(beside or {}), CHUNK_KEY: self._says(chunk)})

    def read(self, chunk: Chunk) -> tuple[pd.DataFrame, dict[bytes, bytes]]:
        """Read a finished chunk, and what its file says beside it.

        Raises:
            FileError: the file is damaged, or holds something else.
        """
        path = self.of(chunk)
        frame, metadata = read_parquet(path)
        if metadata.get(CHUNK_KEY) != self._says(chunk):
            raise FileError(f"{path} holds no chunk, or another one than its name says")
        return frame, metadata

    def wait_for(self, chunk: Chunk) -> None:
        """Wait until this machine sees what another one wrote, as it may not at once.

        Raises:
            FileError: it does not.
        """
        path, end = self.of(chunk), time.monotonic() + PATIENCE
        # Network file systems remember that there was no file; a listing makes them look again.
        while not path.exists() and path.name not in os.listdir(self.path):
            if time.monotonic() > end:
                raise FileError(
                    f"a worker has written {path}, which this machine does not see: give a folder "
                    "on a file system that all share, or leave workers_write out"
                )
            time.sleep(GLANCE)

    def _says(self, chunk: Chunk) -> bytes:
        return json.dumps({"study": self.run, "chunk": chunk}).encode()


class Folder:
    """The folder of one run.

    Attributes:
        path: where it is.
        manifest: what it holds.
        kind: what it is.
        files: those of its chunks.
    """

    def __init__(self, path: Path, manifest: Mapping[str, Any], kind: Kind) -> None:
        self.path, self.manifest, self.kind = path, manifest, kind
        run = checksum(json.dumps(manifest).encode())
        self.files = ChunkFiles(path.resolve() / ESTIMATES, run)

    def __contains__(self, chunk: Chunk) -> bool:
        """Whether a chunk is finished.

        Raises:
            FolderError: of its kind; its file is a link that leads nowhere, or no file, or its
                folder cannot be looked into.
        """
        path = self.files.of(chunk)
        with _saying(self.path, self.kind):
            try:
                there = path.stat()
            except FileNotFoundError:
                if not path.is_symlink():
                    return False
                raise self.kind.error(
                    f"{path} is a link to {os.readlink(path)}, which is not there: bring that "
                    "back, or remove the link, and the chunk is made anew"
                ) from None
        # A pipe would be waited for.
        if not stat.S_ISREG(there.st_mode):
            raise self.kind.error(
                f"{path} is a folder, a device or a pipe: move it away, and the chunk is made anew"
            )
        return True

    def __setitem__(self, chunk: Chunk, frame: pd.DataFrame) -> None:
        """Write a finished chunk."""
        self.files.write(chunk, frame)

    def __getitem__(self, chunk: Chunk) -> pd.DataFrame:
        """Read a finished chunk.

        Raises:
            FolderError: of its kind; the file is damaged, or holds something else.
        """
        return self.read(chunk)[0]

    def read(self, chunk: Chunk) -> tuple[pd.DataFrame, dict[bytes, bytes]]:
        """Read a finished chunk, and what its file says beside it.

        Raises:
            FolderError: as for a chunk.
        """
        try:
            return self.files.read(chunk)
        except FileError as error:
            if refused(error):
                raise self._unread(error) from error
            raise self.kind.error(
                f"{error}; resume the {self.kind.name} to make it anew"
            ) from error

    def set_damaged_aside(self) -> None:
        """Rename what holds another thing than its name says, and say so: it is made anew.

        Raises:
            FolderError: of its kind; a file cannot be read now, whatever it holds.
        """
        damaged = {chunk: error for chunk in self.chunks() if (error := self._damage(chunk))}
        for chunk, error in damaged.items():
            aside = set_aside(self.files.of(chunk))
            warn_user(f"{error}; it is made anew, and kept as {aside.name}", FileWarning)

    def chunks(self) -> list[Chunk]:
        """Those that are finished, in order."""
        return [one for one in (Chunk(*it[:3]) for it in self.manifest["chunks"]) if one in self]

    def owns_a_file(self) -> bool:
        """Whether a file there says that it is one of this run's chunks."""
        return any(self._damage(chunk) is None for chunk in self.chunks())

    def is_whole(self) -> bool:
        """Whether all chunks are there as they were written, and nothing else is to be done."""
        chunks = self.chunks()
        whole = len(chunks) == len(self.manifest["chunks"]) and not self.unfinished()
        return whole and all(self._damage(chunk) is None for chunk in chunks)

    def unfinished(self) -> list[Path]:
        """Files that a killed process was writing."""
        return [*self.path.glob(f".{MANIFEST}.*.tmp"), *(self.path / ESTIMATES).glob(".*.tmp")]

    def _damage(self, chunk: Chunk) -> FileError | None:
        """What is wrong with what a chunk's file holds."""
        try:
            self.files.read(chunk)
        except FileError as error:
            if refused(error):
                raise self._unread(error) from error
            return error
        return None

    def _unread(self, error: FileError) -> FolderError:
        return self.kind.error(
            f"{error}; that says nothing of what the file holds, and it is left as it is: see "
            "that it can be read, and call again, or remove it and resume to make it anew"
        )


@contextmanager
def open_folder(
    path: str | os.PathLike[str], manifest: dict[str, Any], resume: bool, kind: Kind
) -> Iterator[Folder]:
    """The folder of a run, new, or to go on with, which no other process writes to meanwhile.

    Args:
        path: the folder; made if it is not there.
        manifest: what the run is.
        resume: go on with what is there.
        kind: of what it is.

    Raises:
        FolderError: of the kind; the folder holds something else, another run, or this one and
            ``resume`` is False, another process works on it, or it, or one of its files, cannot
            be read or written now. Nothing in it is touched.
    """
    path = file_path(path)
    # As it is read again: tuples as lists.
    folder = Folder(path, json.loads(json.dumps(manifest)), kind)
    with ExitStack() as held:
        with _saying(path, kind):
            # What is finished may lie where nothing can be written.
            if not (_is_known(folder, resume) and resume and folder.is_whole()):
                _make(path, kind)
                held.enter_context(locked(path, kind.error))
                _make_ready(folder, resume)
        yield folder


def _is_known(folder: Folder, resume: bool) -> bool:
    """Whether the run is there already.

    Raises:
        FolderError: of its kind; something else is.
    """
    path, kind = folder.path, folder.kind
    if path.exists() and not path.is_dir():
        raise kind.error(f"{path} is a file; give a folder")
    if _is_this(folder):
        return True
    new = not path.exists() or all(map(_unfinished, path.iterdir()))
    if not new and not (resume and folder.owns_a_file()):
        raise kind.error(f"{path} is not empty and holds no {kind.name}; give a new folder")
    return False


def _make_ready(folder: Folder, resume: bool) -> None:
    """Have the folder, now locked, hold the run and nothing that is damaged or half written."""
    path, kind = folder.path, folder.kind
    # Another run may have made, or finished, it before the lock was had.
    if not _is_this(folder):
        write_manifest(path / MANIFEST, folder.manifest)
    elif not resume:
        done, of = len(list((path / ESTIMATES).glob("*.parquet"))), len(folder.manifest["chunks"])
        raise kind.error(
            f"{path} holds this {kind.name} already, {done} of {of} chunks "
            f"finished; go on with resume=True, or give another folder"
        )
    _make(path / ESTIMATES, kind)
    for unfinished in folder.unfinished():
        unfinished.unlink(missing_ok=True)
    folder.set_damaged_aside()


@contextmanager
def _saying(path: Path, kind: Kind) -> Iterator[None]:
    """Say of what the operating system refuses which folder it is of."""
    try:
        yield
    except JaxhlmError:
        raise
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise kind.error(
            f"cannot work in {path}: {what}; nothing that is finished was changed: see that this "
            "user may read and write there, and call again"
        ) from error


def read_folder(path: str | os.PathLike[str], kind: Kind) -> Folder:
    """The folder of a run, as it is.

    Raises:
        FolderError: of the kind; it holds none that this version can read, or its manifest is
            damaged or was edited; the message has the line and the key.
    """
    if not isinstance(path, str | os.PathLike):
        raise kind.error(f"out={path!r} must be the name of a folder")
    path = file_path(path)
    if not (path / MANIFEST).is_file():
        raise kind.error(f"{path} holds no {kind.name}: there is no {path / MANIFEST}")
    return Folder(path, read_manifest(path / MANIFEST, kind), kind)


def told_before(path: Any, kind: Kind) -> dict[str, Any]:
    """The manifest of a folder that is to be gone on with; nothing where there is none.

    Raises:
        FolderError: as ``read_folder``.
    """
    there = path is not None and os.path.exists(os.path.join(path, MANIFEST))
    return dict(read_folder(path, kind).manifest) if there else {}


def check_out(out: Any, resume: Any) -> None:
    """Check the name of a folder and the wish to go on with it.

    Raises:
        OptionError: one of them cannot be.
    """
    check_flag("resume", resume)
    if out is not None and not isinstance(out, str | os.PathLike):
        raise OptionError(f"out={out!r} must be the name of a folder")


def _make(path: Path, kind: Kind) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise kind.error(f"cannot make the folder {path}: {error.strerror}") from error


def _is_this(folder: Folder) -> bool:
    """Whether what is on disk is this run.

    Raises:
        FolderError: of its kind; it is another.
    """
    if not (folder.path / MANIFEST).exists():
        return False
    there = read_folder(folder.path, folder.kind).manifest
    check_same(folder.path, there, folder.manifest, folder.kind)
    return True


def _unfinished(entry: Path) -> bool:
    """What a run leaves that was killed before it had written its manifest."""
    if entry.is_dir():
        return entry.name == ESTIMATES and not any(entry.iterdir())
    return entry.name == LOCK or entry.name.startswith(f".{MANIFEST}.")
