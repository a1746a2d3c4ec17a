"""Files appear whole or not at all, and say what is wrong with them."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
from cases import three_responses
from jaxhlm import errors
from jaxhlm.core import files
from jaxhlm.core.written_tables import write_table

# Whole or not at all.


def broken(path):
    path.write_bytes(b"half")
    raise OSError("No space left on device")


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "old.txt"
    files.write_text(path, "old")
    with pytest.raises(errors.FileError, match="No space left on device; what was there is"):
        files.write_atomically(path, broken)
    assert path.read_text() == "old"
    with pytest.raises(KeyboardInterrupt):
        files.write_atomically(path, lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    assert [p.name for p in tmp_path.iterdir()] == ["old.txt"]


@pytest.mark.skipif(sys.platform != "linux", reason="names are text elsewhere")
def test_a_name_that_is_not_utf8_is_a_name(tmp_path):
    path = tmp_path / os.fsdecode(b"fits\xff.parquet")
    three_responses().to_parquet(path)
    assert hlm.FitBatch.read_parquet(path).fixef.equals(three_responses().fixef)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_missing_numbers_of_any_form_come_back(dtype, tmp_path):
    """What a processor makes of 0/0 is another NaN, in its bits, than NumPy's."""
    x = np.array([1.0, np.nan, -np.nan, -0.0], dtype)
    files.write_parquet(tmp_path / "x.parquet", pd.DataFrame({"x": x}))
    found = files.read_parquet(tmp_path / "x.parquet")[0]["x"].to_numpy()
    np.testing.assert_array_equal(found, x)


def test_every_writer_goes_through_one_function():
    """No module opens a file for writing by itself."""
    package = files.__file__.rsplit("/", 1)[0]
    import re
    from pathlib import Path

    writes = re.compile(r"\.to_csv\(|\.write_text\(|\.write_bytes\(|write_table\(|os\.replace\(")
    users = {
        path.name
        for path in Path(package).rglob("*.py")
        if any(
            writes.search(line) or re.search(r"(?<!self)\.to_parquet\(\w*\)", line)
            for line in path.read_text(encoding="utf-8").splitlines()
            if ">>>" not in line and "... " not in line
        )
    }
    # A bootstrap's and a batch's own to_parquet, called from the command line.
    assert users <= {"files.py", "written_tables.py", "cli.py"}


def test_damaged_files_are_refused(tmp_path):
    """Whatever byte is changed or lost: our error, or the same numbers; never others."""
    path, cut = tmp_path / "fits.parquet", tmp_path / "cut.parquet"
    three_responses().to_parquet(path)
    whole, expected = path.read_bytes(), three_responses().tidy("normal")
    refused = 0
    for at in np.unique(np.linspace(0, len(whole) - 1, 150).astype(int)):
        for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 0x11]) + whole[at + 1 :]):
            cut.write_bytes(damaged)
            try:
                back = hlm.FitBatch.read_parquet(cut)
            except errors.FileError:
                refused += 1
            else:
                pd.testing.assert_frame_equal(back.tidy("normal"), expected)
    assert refused > 200


@pytest.mark.parametrize("content", [b"", b"PAR1", b"x,y\n1,2\n", bytes(range(256)) * 8])
def test_foreign_files_are_refused(content, tmp_path):
    path = tmp_path / "x.parquet"
    path.write_bytes(content)
    for read in (hlm.FitBatch.read_parquet, hlm.Bootstrap.read_parquet, files.read_table):
        with pytest.raises(errors.FileError, match=r"x\.parquet"):
            read(path)
        with pytest.raises(errors.FileError, match="there is no file"):
            read(tmp_path / "none.parquet")


def test_a_damaged_chunk_of_a_study_is_refused(tmp_path):
    path = tmp_path / "chunk.parquet"
    files.write_parquet(path, pd.DataFrame({"estimate": np.random.default_rng(1).normal(size=999)}))
    whole = path.read_bytes()
    path.write_bytes(whole[:3000] + bytes([whole[3000] ^ 1]) + whole[3001:])
    with pytest.raises(errors.FileError, match="cannot read"):
        files.read_parquet(path)


CACHED = """
import sys, warnings
warnings.simplefilter("error")
import numpy as np, jaxhlm as hlm
data = hlm.load_dataset("article")
design = hlm.design("~ 1 + (1 | unit)", data)
truth = hlm.Truth.of([1], sd=[0.2], sigma=0.75)
print(repr(float(hlm.simulate(design, truth, 100, seed=1).fit(progress=False).fixef.sum().sum())))
"""


@pytest.mark.slow
def test_a_damaged_cache_of_compiled_code_is_compiled_anew_without_a_word(tmp_path):
    """Neither emptied files, nor cut ones, nor a folder that nothing can be written to."""
    folder = tmp_path / "cache"

    def run(where):
        environment = {**os.environ, "JAXHLM_CACHE": str(where)}
        command = [sys.executable, "-c", CACHED]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    expected = run(folder)
    kept = [path for path in folder.iterdir() if path.stat().st_size > 1000]
    assert kept
    for path, size in zip(kept, [0, 500] * len(kept), strict=False):
        path.write_bytes(path.read_bytes()[:size])
    assert run(folder) == expected
    (tmp_path / "file").write_text("in the place of the folder")
    assert run(tmp_path / "file") == expected


def test_labels_of_several_kinds_are_text_in_a_table(tmp_path):
    labels = [("roi", 1), "a", 2.5]
    frame = pd.DataFrame({"fit": pd.Series(labels, dtype=object), "x": [1.0, 2.0, 3.0]})
    write_table(tmp_path / "t.parquet", frame)
    assert pd.read_parquet(tmp_path / "t.parquet")["fit"].tolist() == [*map(str, labels)]


def test_objects_of_one_type_come_back_undamaged(tmp_path):
    frame = pd.DataFrame({"missing": pd.Series([False, False], dtype=object)})
    files.write_parquet(tmp_path / "t.parquet", frame, {b"jaxhlm.is": b"this"})
    assert files.read_parquet(tmp_path / "t.parquet")[0]["missing"].tolist() == [False, False]


def test_a_name_that_is_too_long_is_none():
    with pytest.raises(errors.FileError, match="too long"):
        files.file_path("a" * 300)
