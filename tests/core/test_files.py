"""Files appear whole or not at all, say what is wrong with them, and keep the labels of fits."""

import datetime as dt
import os
import subprocess
import sys
import uuid
from dataclasses import replace
from decimal import Decimal
from functools import cache

import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
from jaxhlm import errors
from jaxhlm.core import files
from jaxhlm.likelihood.random_term import RandomTerm
from jaxhlm.results import coefficients
from jaxhlm.results.labels import from_columns, to_columns

NAMES = pd.MultiIndex.from_tuples
LABELS = {
    "text": pd.Index(["a", "b", "c"], name="voxel"),
    "no name": pd.Index(["a", "b", "c"]),
    "range": pd.RangeIndex(3, name="response"),
    "integers": pd.Index([7, 3, 2**40], name=0),
    "small integers": pd.Index([1, 2, 3], dtype="int8"),
    "unsigned": pd.Index([2**63, 1, 2], dtype="uint64"),
    "nullable": pd.Index([1, None, 3], dtype="Int64"),
    "floats": pd.Index([0.1, np.nan, -np.inf]),
    "booleans": pd.Index([True, False, True]),
    "mixed": pd.Index(["a", 1, None], dtype=object),
    "mixed numbers": pd.Index([True, 1, 2.5], dtype=object),
    "text as objects": pd.Index(["a", "b", "c"], dtype=object),
    "twice the same": pd.Index(["a", "a", "b"]),
    "missing": pd.Index(["a", None, "b"]),
    "days": pd.DatetimeIndex(["2020-01-01", "2020-01-02", None], name="day"),
    "seconds": pd.DatetimeIndex(["2020-01-01", "2020-01-02", "2021-01-01"], dtype="M8[s]"),
    "zones": pd.DatetimeIndex(["2020-03-28", "2020-03-29", "2020-03-30"], tz="Europe/Berlin"),
    "durations": pd.to_timedelta([1, 2, 3], unit="h"),
    "periods": pd.period_range("2020-01", periods=3, freq="M"),
    "intervals": pd.interval_range(0, 3),
    "dates": pd.Index([dt.date(2020, 1, i) for i in (1, 2, 3)], dtype=object),
    "times": pd.Index([dt.time(1), dt.timedelta(1), dt.datetime(2020, 1, 1)], dtype=object),
    "others": pd.Index([Decimal("0.1"), b"x", 1 + 2j], dtype=object),
    "tuples": pd.Index([("a", 1), ("b", None), ("c", ("d",))], tupleize_cols=False),
    "category": pd.CategoricalIndex(["b", "a", "b"], ["b", "z", "a"], name="arm"),
    "ordered": pd.CategoricalIndex([2, 1, None], [2, 1], ordered=True),
    "mixed category": pd.CategoricalIndex(["b", 1, "b"], ["b", 1]),
    "two levels": NAMES([("roi1", "theta"), ("roi1", "alpha"), ("roi2", "")], names=["r", None]),
    "integer level": NAMES([("roi", 1), ("roi", 2), ("x", 3)], names=[7, ("a", 2)]),
    "mixed level": NAMES([("roi", 1), ("roi", "b"), (None, 3.5)]),
    "one level": pd.MultiIndex.from_arrays([["a", "b", "c"]], names=["r"]),
    "category level": pd.MultiIndex.from_arrays(
        [pd.Categorical(["b", "a", "b"], ["b", "a"]), pd.DatetimeIndex(["2020", "2022", "2021"])]
    ),
}


@cache
def batch():
    data = hlm.load_dataset("sleepstudy")
    Y = hlm.fit("Reaction ~ Days + (1 | Subject)", data).simulate(3, seed=1)
    return hlm.fit_many("~ Days + (1 | Subject)", data, responses=Y, progress=False)


@pytest.mark.parametrize("kind", LABELS)
def test_labels_come_back_equal(kind, tmp_path):
    labels = LABELS[kind]
    fits = replace(batch(), index=labels)
    fits.to_parquet(tmp_path / "fits.parquet")
    back = hlm.FitBatch.read_parquet(tmp_path / "fits.parquet")
    pd.testing.assert_index_equal(back.index, labels, exact="equiv")
    assert back.index.names == labels.names
    assert [type(x) for x in back.index] == [type(x) for x in labels]
    pd.testing.assert_frame_equal(back.fixef, fits.fixef)


def test_levels_named_by_numbers_are_not_mistaken_for_positions():
    labels = NAMES([("roi", 1), ("roi", 2)], names=[1, 0])
    columns, spec = to_columns(labels)
    back = from_columns(pd.DataFrame(columns), spec)
    assert back.equals(labels) and back.names == [1, 0]


def test_response_columns_of_any_kind_come_back(tmp_path):
    """From the frame of responses to the file and back, without a step of the user's."""
    data, Y = hlm.load_dataset("sleepstudy"), batch().source.Y
    columns = NAMES([("roi", 1), ("roi", 2), ("x", 1)], names=["roi", "t"])
    frame = pd.DataFrame(Y, columns=columns)
    fits = hlm.fit_many("~ Days + (1 | Subject)", data, responses=frame, progress=False)
    fits.to_parquet(tmp_path / "fits.parquet")
    back = hlm.FitBatch.read_parquet(tmp_path / "fits.parquet")
    pd.testing.assert_frame_equal(back.fixef, fits.fixef)
    pd.testing.assert_frame_equal(back.fixef.loc["roi"], fits.fixef.loc["roi"])


def test_parameters_that_print_alike_are_kept_apart(tmp_path):
    terms = (RandomTerm("unit", (0, 1), ("a", "b")), RandomTerm("unit", (2,), ("a.b",)))
    model = replace(batch().model, terms=terms)
    theta = np.arange(12.0).reshape(3, 4)
    estimates = replace(batch().estimates, theta=theta, theta_standard=theta + 1)
    cov = np.broadcast_to(np.eye(3), (3, 3, 3)).copy()
    fits = replace(batch(), model=model, estimates=replace(estimates, cov=cov))
    fits.to_parquet(tmp_path / "fits.parquet")
    back = hlm.FitBatch.read_parquet(tmp_path / "fits.parquet")
    np.testing.assert_array_equal(back.theta, theta)


def test_a_label_that_no_file_holds_is_refused_before_the_work(tmp_path, monkeypatch):
    fits = replace(batch(), index=pd.Index([uuid.UUID(int=i) for i in range(3)], dtype=object))
    monkeypatch.setattr(coefficients, "fixed_tests", lambda *_: pytest.fail("work was done"))
    with pytest.raises(errors.OptionError, match=r"is a UUID.*index=fits\.index\.map\(str\)"):
        fits.to_parquet(tmp_path / "fits.parquet", df="satterthwaite")
    for path, match in (
        (tmp_path / "none" / "x.parquet", "there is no folder"),
        (tmp_path, "is a folder"),
        (3, "path=3"),
    ):
        with pytest.raises(errors.FileError, match=match):
            batch().to_parquet(path, df="satterthwaite")
    assert not list(tmp_path.iterdir())


def test_columns_are_readable_by_other_programs():
    columns, _ = to_columns(LABELS["days"])
    assert pd.Series(columns["fit"]).dtype == LABELS["days"].dtype
    columns, spec = to_columns(LABELS["two levels"])
    assert list(columns) == ["fit:0", "fit:1"]
    assert from_columns(pd.DataFrame(columns), spec).equals(LABELS["two levels"])


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
    batch().to_parquet(path)
    assert hlm.FitBatch.read_parquet(path).fixef.equals(batch().fixef)


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
    assert users <= {"files.py", "cli.py"}


def test_damaged_files_are_refused(tmp_path):
    """Whatever byte is changed or lost: our error, or the same numbers; never others."""
    path, cut = tmp_path / "fits.parquet", tmp_path / "cut.parquet"
    batch().to_parquet(path)
    whole, expected = path.read_bytes(), batch().tidy("normal")
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
