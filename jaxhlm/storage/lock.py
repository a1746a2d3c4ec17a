"""One process at a time writes to a folder.

The lock is one that the operating system holds for the process, on a small file that says whose it
is. It ends with the process, however that ends, so that what a killed run leaves stops nobody.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from jaxhlm.errors import FolderError

_WINDOWS = os.name == "nt"
if _WINDOWS:
    import msvcrt
else:
    import fcntl

__all__ = ["LOCK", "locked"]

LOCK = ".lock"
# Windows lets no other process read what is locked: one byte, far behind the text.
_BYTE = 1 << 30
# POSIX locks belong to processes: they do not keep out the other threads of this one, and they end
# when any of its files on the same path is closed.
_HELD: set[Path] = set()


@contextmanager
def locked(folder: Path, error: type[FolderError] = FolderError) -> Iterator[None]:
    """Hold the lock of a folder that is there.

    Args:
        folder: the folder.
        error: what is raised.

    Raises:
        FolderError: another process, or this one already, works on it, it cannot be written to,
            or its file system has no locks.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name, locked(Path(name)):
        ...     Path(name, LOCK).read_text().startswith("process ")
        True
    """
    path = folder.resolve() / LOCK
    if path in _HELD:
        raise error(_taken(folder, f"process {os.getpid()}, this one"))
    _HELD.add(path)
    try:
        with _opened(folder, path, error) as file:
            try:
                with _writing(folder, error):
                    file.truncate(0)
                    file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
                yield
            finally:
                if not _WINDOWS:
                    # While it is locked: later it may be another's. One that stays stops nobody.
                    with suppress(OSError):
                        path.unlink()
        if _WINDOWS:
            # Windows removes no file that is open, so never another's.
            with suppress(OSError):
                path.unlink()
    finally:
        _HELD.discard(path)


@contextmanager
def _writing(folder: Path, kind: type[FolderError]) -> Iterator[None]:
    """Say of a folder that its lock cannot be made."""
    try:
        yield
    except OSError as error:
        advice = "give a folder, on a disk that is not full, in which this user may make files"
        if (folder / LOCK).is_dir():
            advice = f"{LOCK} must be a file: remove the folder of that name, or give another"
        raise kind(f"{folder} cannot be written to: {LOCK}: {error.strerror}; {advice}") from error


def _opened(folder: Path, path: Path, kind: type[FolderError]) -> FileIO:
    """The file of the lock, locked."""
    while True:
        with _writing(folder, kind):
            # Without a buffer, closing it writes nothing and so cannot fail.
            file = FileIO(path, "a+")
        try:
            _lock(file)
        except (BlockingIOError, PermissionError):
            with file:
                file.seek(0)
                owner = file.readall().decode(errors="replace")
                raise kind(_taken(folder, owner or "another process")) from None
        except OSError as error:
            file.close()
            raise kind(
                f"{folder} cannot be locked ({error.strerror}): its file system has no locks, so "
                "two runs could write to it at once; give a folder on another one"
            ) from error
        # Whoever held it may have removed the file between the two calls.
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
        file.close()


def _lock(file: FileIO) -> None:
    """Lock a file that is open until it is closed, or raise an OSError at once."""
    if not _WINDOWS:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    end = os.lseek(file.fileno(), 0, os.SEEK_CUR)
    os.lseek(file.fileno(), _BYTE, os.SEEK_SET)
    try:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    finally:
        os.lseek(file.fileno(), end, os.SEEK_SET)


def _taken(folder: Path, owner: str) -> str:
    return (
        f"{folder} is being written to by {owner}; let it finish, or end it and go on with "
        "resume=True, or give another folder"
    )
