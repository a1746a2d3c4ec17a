"""Damaged files and sizes that cannot be: our error, or said and made anew; never other numbers."""

import os
import random

import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
from jaxhlm import errors
from jaxhlm.cli.main import main
from jaxhlm.core import files
from jaxhlm.studies.planning import check_plan
from jaxhlm.studies.studyfile import read_study_file
from places import ROOT

BIG = 10**12
WHOLE = "unit,x,y\n1,0.5,1.25\n1,1.5,2.5\n2,0.5,3.5\n2,1.5,4.75\n"


@pytest.fixture
def damage(monkeypatch):
    """``bench.validation.damage``: the campaign, of which this is the short version."""
    monkeypatch.syspath_prepend(ROOT)
    from bench.validation import damage

    return damage


@pytest.mark.slow
def test_a_damaged_study_gives_no_other_numbers(damage, tmp_path):
    found = list(damage.damaged_study(tmp_path, 1, random.Random(5)))
    assert not [one for one in found if one[2] in damage.WRONG]
    for kind, harm, outcome in found:
        if harm in ("another chunk's file", "chunk of another seed"):
            assert outcome == ("our error" if kind.endswith("read") else "made anew")
    assert sum(outcome == "made anew" for *_, outcome in found) >= 12


def test_a_damaged_text_gives_no_other_numbers(damage, tmp_path):
    rng = random.Random(5)
    for texts, harms in damage.text_files(tmp_path):
        found = list(damage.damaged_files(texts, harms, 3, rng))
        assert not [one for one in found if one[2] in damage.WRONG]


def test_a_damaged_chunk_is_kept_aside_and_alone_made_anew(damage, tmp_path):
    whole = damage.studied(tmp_path)
    first, *others = sorted((tmp_path / "estimates").iterdir())
    times = [path.stat().st_mtime_ns for path in others]
    first.write_bytes(b"thesis")
    with pytest.raises(errors.StudyFolderError, match=rf"{first.name}.*resume the study"):
        damage.study_read(tmp_path)
    with pytest.warns(errors.FileWarning, match=r"made anew, and kept as .*\.damaged"):
        assert damage.studied(tmp_path, resume=True) == whole
    assert first.with_name(f"{first.name}.damaged").read_bytes() == b"thesis"
    assert [path.stat().st_mtime_ns for path in others] == times


def test_a_manifest_that_was_edited_is_named_by_line_and_key(damage, tmp_path):
    whole, manifest = damage.studied(tmp_path), tmp_path / "manifest.json"
    text = manifest.read_text(encoding="utf-8")
    line = text[: text.index('"seed"')].count("\n") + 1
    manifest.write_text(text.replace('"seed": 3', '"seed": 4'), encoding="utf-8")
    for read in (damage.study_read, damage.study_resumed):
        with pytest.raises(errors.StudyFolderError, match=rf"manifest\.json:{line}: seed: is not"):
            read(tmp_path)
    # The chunks say which study they are of: without its manifest nothing of it is lost.
    manifest.unlink()
    assert damage.studied(tmp_path, resume=True) == whole
    assert manifest.read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (WHOLE.replace("2.5\n", "2.5,9\n"), r"d\.csv:3: 4 fields .* names 3 columns"),
        (WHOLE.replace(",2.5\n", "\n"), r"d\.csv:3: 2 fields"),
        (WHOLE.replace("\n", ",9\n").replace(",9", "", 1), r"d\.csv:2: 4 fields"),
        (WHOLE.replace("x", "unit"), r"d\.csv:1: column 'unit' stands twice"),
        (WHOLE.replace("3.5", "3\0005"), r"d\.csv:4: a NUL byte"),
        (WHOLE.replace("3.5", '"3.5'), r"d\.csv:5: "),
        (WHOLE.replace("3.5", "ä").encode("latin-1"), r"d\.csv:4: byte 0xe4 is not UTF-8"),
        (WHOLE.encode("utf-16"), r"d\.csv:1: this is UTF-16"),
        ("", r"d\.csv: it is empty"),
    ],
)
def test_a_table_that_is_none_is_named_by_its_line(tmp_path, text, message):
    path = tmp_path / "d.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(errors.FileError, match=message):
        files.read_table(path)


def test_a_mistyped_number_and_a_file_cut_off_are_said(tmp_path, capsys):
    path = tmp_path / "d.csv"
    path.write_text(WHOLE.replace("0.5,3.5", "O.5,3.5"), encoding="utf-8")
    said = r"d\.csv:4: column 'x' holds 'O\.5' where 3 cells hold numbers"
    with pytest.warns(errors.FileWarning, match=said):
        files.read_table(path)
    main(["fit", "y ~ x + (1 | unit)", str(path)])
    assert "jaxhlm: " in (err := capsys.readouterr().err) and "column 'x' holds 'O.5'" in err
    path.write_text(WHOLE[:-3], encoding="utf-8")
    with pytest.warns(errors.FileWarning, match="last row does not end"):
        files.read_table(path)


def test_labels_among_which_some_are_numbers_are_no_mistake(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("\ufeffarm\n1\ncontrol\nplacebo\n2\n", encoding="utf-8")
    assert files.read_table(path)["arm"].tolist() == ["1", "control", "placebo", "2"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("n = 20", "n = 20\nn = 30", r"s\.toml:3: n: not TOML"),
        ("n = 20", "n = 0", r"s\.toml:2: n: n=0 must be"),
        ("n = 20", f"n = {BIG}", r"s\.toml:2: n: n=1000000000000: that would take"),
        ("n = 20", f"chunk = {10**60}\nn = {10**60}", r"s\.toml:2: chunk: chunk="),
        ("n = 20", "n = " + "9" * 5000, r"s\.toml:2: n: not TOML"),
        ("n = 20", "n = " + "[" * 3000, r"s\.toml:2: n: not TOML"),
        ("units = 8", "units = 1", r"s\.toml:4: design\.units: "),
        ("units = 8", f"units = {BIG}", r"s\.toml:4: design\.units: n × measurements"),
        ("sigma", "sigm", r"s\.toml:9: truth\.sigm: unknown key"),
        ("sigma = 1.0", 'sigma = "1"', r"s\.toml:9: truth\.sigma: '1' must be a number"),
        ("sigma = 1.0", 'sigma = 1\n[[violations]]\nkind = ["a"]', r"s\.toml:11: violations\.0\.k"),
        ("sigma = 1.0", 'sigma = 1\n[[violations]]\nkind = "No"', r"s\.toml:11: .*is not known"),
        ("unit)", "unit)\udce4", r"s\.toml:1: byte 0xe4 is not UTF-8"),
    ],
)
def test_a_study_file_is_named_by_line_and_key(damage, tmp_path, old, new, message):
    path = tmp_path / "s.toml"
    path.write_bytes(damage.STUDY.replace(old, new, 1).encode("utf-8", "surrogateescape"))
    with pytest.raises(errors.StudyFileError, match=message):
        read_study_file(path)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("n", lambda: check_plan(BIG)),
        ("chunk", lambda: check_plan(BIG, chunk=BIG)),
        ("x", lambda: hlm.units(2, within={"x": range(BIG)})),
        ("item", lambda: hlm.units(2, crossed={"item": range(BIG)})),
        ("f", lambda: hlm.units(2, factors={"f": range(10**30)})),
        ("k", lambda: hlm.study({"k": range(BIG)}, lambda k: None, n=2)),
        ("conditions", lambda: hlm.study({k: range(10**6) for k in "ab"}, lambda a, b: None, n=2)),
        ("num_groups", lambda: hlm.suffstats(*ROWS, BIG)),
    ],
)
def test_a_size_that_cannot_be_is_refused_by_name(name, call):
    with pytest.raises(errors.OptionError, match=rf"^{name}=10+: that would take .* GB"):
        call()


ROWS = np.ones(4), np.ones((4, 1)), np.ones((4, 1)), np.zeros(4, int)


def test_links_stay_links_and_devices_are_no_files(tmp_path):
    target, link = tmp_path / "table.csv", tmp_path / "link.csv"
    target.write_text("old", encoding="utf-8")
    link.symlink_to(target)
    files.write_csv(link, pd.DataFrame({"x": [1]}))
    assert link.is_symlink() and target.read_text(encoding="utf-8") == "x\n1\n"
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", os.devnull):
        with pytest.raises(errors.FileError, match="is a device or a pipe"):
            files.write_text(path, "x")
