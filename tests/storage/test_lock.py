"""One writer to a folder: another process or thread is refused, on POSIX and on Windows."""

import errno
import os
import signal
import time
from io import FileIO
from pathlib import Path

import pandas as pd
import pytest

from jaxhlm.errors import FolderError, StudyFolderError
from jaxhlm.storage import lock
from jaxhlm.storage.lock import locked
from studies_made import listing, progress_of, run


def test_two_at_once_do_not_mix(undisturbed, tmp_path, forkserver):
    """The second is refused and told whose folder it is; a dead owner keeps nobody out."""
    out = tmp_path / "study"
    child = forkserver.Process(target=run, kwargs={"out": out, "resume": True})
    child.start()
    try:
        deadline = time.monotonic() + 120
        while progress_of(out) < 1 and child.is_alive():
            assert time.monotonic() < deadline
            time.sleep(0.0002)
        os.kill(child.pid, signal.SIGSTOP)
        message = f"{out} is being written to by process {child.pid} on .*; let it finish"
        before = listing(out)
        for resume in (True, False):
            with pytest.raises(StudyFolderError, match=message):
                run(out=out, resume=resume)
        assert listing(out) == before
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.join()
    assert (out / ".lock").exists()
    made = run(out=out, resume=True)
    pd.testing.assert_frame_equal(made.estimates, undisturbed, check_exact=True)
    assert sorted(p.name for p in out.iterdir()) == ["estimates", "manifest.json"]


def test_a_folder_in_the_place_of_the_lock_is_told(tmp_path):
    (tmp_path / ".lock").mkdir()
    message = r"\.lock must be a file: remove the folder"
    with pytest.raises(FolderError, match=message), locked(tmp_path):
        pass


def test_threads_of_one_process_do_not_mix_either(tmp_path):
    with locked(tmp_path), pytest.raises(StudyFolderError, match=f"{os.getpid()}, this one"):
        run(out=tmp_path)
    assert len(run(n=8, out=tmp_path).chunks) == 4


def test_no_lock_no_study(tmp_path, monkeypatch):
    """Where the file system has no locks, or the file was removed by the one who held it."""
    real = lock.fcntl.lockf

    def removed(file, how):
        monkeypatch.setattr(lock.fcntl, "lockf", real)
        (tmp_path / ".lock").unlink()
        real(file, how)

    monkeypatch.setattr(lock.fcntl, "lockf", removed)
    with locked(tmp_path):
        assert str(os.getpid()) in (tmp_path / ".lock").read_text()

    def none(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "lockf", none)
    with pytest.raises(StudyFolderError, match=r"cannot be locked \(No locks available\)"):
        run(out=tmp_path)


def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    (tmp_path / "made" / ".lock").mkdir(parents=True)
    with (
        pytest.raises(FolderError, match=r"made cannot be written to: \.lock: Is a directory"),
        locked(tmp_path / "made"),
    ):
        pass

    class Full(FileIO):
        def write(self, content):
            raise OSError(errno.ENOSPC, "No space left on device")

    class Refused(FileIO):
        def __init__(self, *arguments):
            raise PermissionError(errno.EACCES, "Permission denied")

    for kind, message in ((Full, "No space left"), (Refused, "Permission denied")):
        monkeypatch.setattr(lock, "FileIO", kind)
        with pytest.raises(StudyFolderError, match=rf"cannot be written to: \.lock: {message}"):
            run(out=tmp_path / "new")
        assert not list((tmp_path / "new").iterdir())


def test_what_is_finished_needs_no_lock(finished, undisturbed, monkeypatch):
    def refused(*arguments):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(lock, "FileIO", refused)
    before = listing(finished)
    made = run(out=finished, resume=True)
    pd.testing.assert_frame_equal(made.estimates, undisturbed, check_exact=True)
    assert listing(finished) == before
    with pytest.raises(StudyFolderError, match="cannot be written to"):
        run(out=finished)


class Msvcrt:
    """The lock of Windows by that of POSIX, which has the same rules for one byte."""

    LK_NBLCK = 2

    @staticmethod
    def locking(descriptor, how, size):
        assert how == Msvcrt.LK_NBLCK
        exclusive = lock.fcntl.LOCK_EX | lock.fcntl.LOCK_NB
        lock.fcntl.lockf(descriptor, exclusive, size, 0, os.SEEK_CUR)


def lock_as_on_windows(folder, pipe):
    """Hold the lock until told to let go; a file that is open cannot be removed."""
    unlink = Path.unlink

    def refuses(path, missing_ok=False):
        if any(Path(f).samefile(path) for f in Path("/proc/self/fd").iterdir() if f.exists()):
            raise PermissionError(errno.EACCES, "used by another process")
        unlink(path, missing_ok)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lock, "_WINDOWS", True)
        patch.setattr(lock, "msvcrt", Msvcrt, raising=False)
        patch.setattr(Path, "unlink", refuses)
        with locked(folder):
            pipe.send(os.getpid())
            pipe.recv()
    pipe.send("let go")


def test_windows_locks_too(tmp_path, forkserver, monkeypatch):
    here, there = forkserver.Pipe()
    child = forkserver.Process(target=lock_as_on_windows, args=(tmp_path, there))
    child.start()
    there.close()
    try:
        assert here.recv() == child.pid
        with monkeypatch.context() as patch:
            patch.setattr(lock, "_WINDOWS", True)
            patch.setattr(lock, "msvcrt", Msvcrt, raising=False)
            with pytest.raises(StudyFolderError, match=f"by process {child.pid} on .*; let it fin"):
                run(out=tmp_path)
        here.send("let go")
        assert here.recv() == "let go"
        assert not (tmp_path / ".lock").exists()
    finally:
        child.kill()
        child.join()
