"""Folders of results: what is another's, of another version, or broken is refused and named."""

import errno
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

import jaxhlm as hlm
from jaxhlm.errors import FileWarning, StudyFolderError
from jaxhlm.storage.manifest import read_manifest, write_manifest
from jaxhlm.studies.study import STUDY
from studies_made import CHUNK, GRID, METHODS, N, listing, mechanism, run


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "24 of 24 chunks finished; go on with resume=True"),
        ({"resume": True, "seed": 4}, "differs in seed \\(was 3, now 4\\)"),
        ({"resume": True, "n": 2 * N}, "differs in n \\(was 48, now 96\\), chunks"),
        ({"resume": True, "chunk": 6}, "differs in options, chunks"),
        ({"resume": True, "level": 0.9}, "differs in options"),
        ({"resume": True, "stop": {"bias": 0.1}}, "differs in options"),
    ],
)
def test_another_study_is_refused_and_nothing_is_touched(finished, options, message):
    before = listing(finished)
    with pytest.raises(StudyFolderError, match=message):
        run(out=finished, **options)
    assert listing(finished) == before


def test_another_truth_or_method_is_refused(finished):
    def other(effect, sigma):
        return mechanism(effect, sigma + 1e-4)

    options = {"n": N, "seed": 3, "chunk": CHUNK, "out": finished, "resume": True}
    with pytest.raises(StudyFolderError, match="differs in mechanisms"):
        hlm.study(GRID, other, METHODS, **options)
    with pytest.raises(StudyFolderError, match="differs in methods"):
        hlm.study(GRID, mechanism, METHODS[:1], **options)
    with pytest.raises(StudyFolderError, match="differs in conditions, mechanisms, chunks"):
        hlm.study({**GRID, "sigma": [0.5]}, mechanism, METHODS, **options)


def test_another_version_or_layout_is_refused(finished, tmp_path):
    manifest = read_manifest(finished / "manifest.json", STUDY)
    assert manifest["schema"] == 2
    assert set(manifest["versions"]) == {"jaxhlm", "jax", "jaxlib", "numpy", "scipy"}
    for change, message in (
        ({"versions": {**manifest["versions"], "numpy": "1.0"}}, "'numpy': '1.0'"),
        ({"schema": 99}, "manifest.json:2: schema: the layout 99"),
    ):
        copy = tmp_path / next(iter(change))
        shutil.copytree(finished, copy)
        write_manifest(copy / "manifest.json", {**manifest, **change})
        with pytest.raises(StudyFolderError, match=message):
            run(out=copy, resume=True)


def test_other_folders_are_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(StudyFolderError, match="not empty and holds no study"):
        run(out=tmp_path)
    with pytest.raises(StudyFolderError, match="is a file"):
        run(out=tmp_path / "thesis.txt")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(StudyFolderError, match="holds no study"):
        hlm.read_study(tmp_path)


def test_killed_before_the_manifest_was_written(tmp_path):
    (tmp_path / "estimates").mkdir()
    (tmp_path / ".manifest.json.77.tmp").write_text('{"sche')
    assert len(run(n=8, out=tmp_path).chunks) == 4


def test_a_broken_file_is_named(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    path = sorted(copy.glob("estimates/*.parquet"))[2]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StudyFolderError, match=path.name):
        _ = hlm.read_study(copy).estimates
    path.unlink()
    assert len(run(out=copy, resume=True).estimates) == 4 * N * 2 * 4


def refusing(monkeypatch, name, error):
    """Have a file refuse to be opened for reading; gives how often it was tried."""
    tried, real = [], Path.open

    def opened(path, mode="r", *arguments, **options):
        if path.name == name and mode == "rb":
            tried.append(path)
            raise error
        return real(path, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", opened)
    return tried


REFUSALS = [
    *(OSError(n, os.strerror(n)) for n in (errno.EACCES, errno.EMFILE, errno.EIO, errno.ESTALE)),
    MemoryError(),
    pa.ArrowMemoryError("malloc of size 64 failed"),
]


@pytest.mark.parametrize("error", REFUSALS, ids=lambda e: getattr(e, "strerror", "") or repr(e))
def test_what_cannot_be_read_now_is_left_as_it_is(error, finished, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    damaged, *_, last = sorted(copy.glob("estimates/*.parquet"))
    damaged.write_bytes(b"PAR1")
    before = listing(copy)
    with monkeypatch.context() as patch:
        tried = refusing(patch, last.name, error)
        with pytest.raises(StudyFolderError, match=f"{last.name}.*left as it is: see that it can"):
            run(out=copy, resume=True)
        assert tried
    assert {path: seen for path, seen in listing(copy).items() if path != copy} == {
        path: seen for path, seen in before.items() if path != copy
    }
    with pytest.warns(FileWarning, match="made anew"):
        run(out=copy, resume=True)


def test_what_was_set_aside_stays(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    path = min(copy.glob("estimates/*.parquet"))
    for content in (b"first", b"second", b"third"):
        path.write_bytes(content)
        with pytest.warns(FileWarning, match="made anew"):
            run(out=copy, resume=True)
    kept = [path.with_name(f"{path.name}.damaged{n}").read_bytes() for n in ("", 2, 3)]
    assert kept == [b"first", b"second", b"third"]


def test_a_link_that_leads_nowhere_is_named(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    path = min(copy.glob("estimates/*.parquet"))
    path.unlink()
    path.symlink_to("/nowhere/x")
    with pytest.raises(StudyFolderError, match=f"{path.name} is a link to /nowhere/x, which is no"):
        run(out=copy, resume=True)
    assert path.is_symlink()


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC, errno.EROFS])
def test_what_cannot_be_listed_is_an_error_of_ours(number, finished, tmp_path, monkeypatch):
    copy, real = tmp_path / "copy", Path.stat
    shutil.copytree(finished, copy)

    def stat(path, **options):
        if path.suffix == ".parquet":
            raise OSError(number, os.strerror(number), str(path))
        return real(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    with pytest.raises(StudyFolderError, match=rf"cannot work in .*parquet: {os.strerror(number)}"):
        run(out=copy, resume=True)
    with pytest.raises(StudyFolderError, match="cannot work in"):
        hlm.read_study(copy)


def test_what_is_no_file_is_neither_read_nor_moved(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    path = min(copy.glob("estimates/*.parquet"))
    for put, remove in ((os.mkfifo, os.unlink), (os.mkdir, os.rmdir)):
        path.unlink(missing_ok=True)
        put(path)
        with pytest.raises(StudyFolderError, match=f"{path.name} is a folder, a device or a pipe"):
            run(out=copy, resume=True)
        remove(path)


def test_a_manifest_that_cannot_be_read_now_is_not_called_damaged(finished, monkeypatch):
    def refused(path, **options):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refused)
    with pytest.raises(
        StudyFolderError, match=r"json cannot be read: Permission denied; it is left"
    ):
        hlm.read_study(finished)
