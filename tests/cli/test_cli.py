"""The command line: its output, its files, and its one-line errors."""

import io
import os
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
import tolerances as tol
from cases import SLEEP
from jaxhlm.cli.main import main
from jaxhlm.core.files import read_table


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "sleep.csv"
    hlm.load_dataset("sleepstudy").to_csv(path, index=False)
    return path


def test_fit_prints_the_table_and_writes_it(csv, tmp_path, capsys):
    out = tmp_path / "tidy.csv"
    assert main(["fit", SLEEP, str(csv), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "REML criterion at convergence: 1743.6" in printed
    tidy = pd.read_csv(out)
    assert tidy.loc[0, "estimate"] == pytest.approx(251.4051, abs=tol.printed(4))


def test_fit_by_maximum_likelihood(csv, capsys):
    assert main(["fit", SLEEP, str(csv), "--ml"]) == 0
    assert "1763.9" in capsys.readouterr().out


def test_fit_by_replicate(tmp_path, capsys):
    data = hlm.load_dataset("sleepstudy")
    path = tmp_path / "two.csv"
    pd.concat([data.assign(half=h) for h in "ab"]).to_csv(path, index=False)
    assert main(["fit", SLEEP, str(path), "--by", "half"]) == 0
    assert capsys.readouterr().out.startswith("2 linear mixed model fits by REML")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Reaction ~ days + (1 | Subject)", "sleep.csv"], "no column 'days'"),
        ([SLEEP, "absent.csv"], "absent.csv"),
        ([SLEEP, "sleep.xls"], "ends in .csv, .tsv, .parquet, .feather or .xlsx"),
        ([SLEEP, "empty.csv"], "cannot read empty.csv: it is empty"),
        ([SLEEP, "head.csv"], "data has no rows, only names of columns"),
        ([SLEEP, "head.csv", "--by", "Days"], "data has no rows, only names of columns"),
        ([SLEEP, "broken.parquet"], "cannot read broken.parquet: "),
    ],
)
def test_bad_input_is_one_line(csv, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(csv.parent)
    for name in ("empty.csv", "broken.parquet"):
        (csv.parent / name).touch()
    (csv.parent / "head.csv").write_text("Reaction,Days,Subject\n")
    assert main(["fit", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("jaxhlm: ")
    assert message in error
    assert error.count("\n") == 1


def test_compressed_files_and_capitals(tmp_path, capsys):
    for name in ("sleep.CSV", "sleep.csv.gz"):
        hlm.load_dataset("sleepstudy").to_csv(tmp_path / name, index=False)
        assert main(["fit", SLEEP, str(tmp_path / name)]) == 0
        assert "1743.6" in capsys.readouterr().out


def test_warnings_are_one_line(csv, capsys):
    gaps = hlm.load_dataset("sleepstudy")
    gaps.loc[3, "Days"] = np.nan
    gaps.to_csv(csv, index=False)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["fit", SLEEP, str(csv)]) == 0
    error = capsys.readouterr().err
    assert error == "jaxhlm: dropped 1 of 180 rows with missing values (Days: 1)\n"


@pytest.mark.parametrize("number", ["1", "-3", "ten"])
def test_replicates_are_a_number(number, capsys):
    with pytest.raises(SystemExit):
        main(["article", "--replicates", number])
    assert f"'{number}': give a whole number" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "arguments are required: COMMAND; see jaxhlm --help"),
        (["fti"], "invalid choice: 'fti'"),
        (["fit"], "arguments are required: formula; see jaxhlm fit --help"),
        (["info", "more"], "unrecognized arguments: more"),
        (["article", "--seed", "-1"], "'-1': give a whole number, 0 or more"),
        (["power", "y ~ x + (1 | g)", "d.csv", "--values", "3,inf"], "'3,inf': give numbers"),
        (["power", "y ~ x + (1 | g)", "d.csv", "--values", "nan"], "'nan': give numbers"),
    ],
)
def test_what_is_no_command_is_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    error = capsys.readouterr().err
    assert error.startswith("jaxhlm: ") and message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "command", ["article", "fit", "bootstrap", "power", "study", "info", "completion"]
)
def test_every_command_shows_how_it_is_called(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    usage, _, rest = capsys.readouterr().out.partition("\n\n")
    assert usage.startswith(f"usage: jaxhlm {command}") and f"jaxhlm {command} " in rest


def test_info_names_versions_devices_path_and_cache(monkeypatch, tmp_path, capsys):
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(bytes(12_650))
    monkeypatch.setenv("JAXHLM_CACHE", str(tmp_path))
    before = dict(jax.config.values)
    assert main(["info"]) == 0
    shown = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert shown["jaxhlm"] == hlm.__version__
    assert shown["jaxlib"] == jax.lib.__version__
    assert shown["device"].startswith(jax.devices()[0].device_kind)
    assert shown["cores"].startswith(f"{os.cpu_count()}, with ")
    assert "NumPy" in shown["path"]
    assert shown["precision"].startswith("float64")
    assert shown["cache"] == f"{tmp_path}, 2 files of 25.3 kB in all"
    assert dict(jax.config.values) == before


@pytest.mark.parametrize(
    ("set_by", "shown"),
    [
        ("off", "off (JAXHLM_CACHE)"),
        ("nowhere", "nowhere, empty"),
        ("~no\udcff", ", empty"),
        (__file__, "no folder, so nothing is kept"),
    ],
)
def test_info_of_a_cache_that_is_not_there(set_by, shown, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXHLM_CACHE", set_by)
    assert main(["info"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(shown)
    assert not list(tmp_path.iterdir())


def test_info_of_the_path_where_the_default_backend_is_no_cpu(monkeypatch, capsys):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert main(["info"]) == 0
    assert "one compiled program on " in capsys.readouterr().out


def test_info_where_jax_finds_no_device():
    """Also where JAX is told to use a GPU that is not there, or caches by itself."""
    ran = _command(
        "info", stdout=subprocess.PIPE, JAX_PLATFORMS="cuda", JAX_COMPILATION_CACHE_DIR="theirs"
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "\ndevice     none: " in ran.stdout
    assert "theirs, JAX's own" in ran.stdout


def test_article(capsys):
    """Every number that the article printed is found again, and the truth is recovered."""
    assert main(["article", "--replicates", "400"]) == 0
    printed = capsys.readouterr().out
    for number in ("0.9776", "3.0670", "-0.1108", "0.3577", "0.0315", "0.2842", "0.5641"):
        assert number in printed
    assert printed.count("yes\n") == 14
    assert " NO\n" not in printed
    assert "400" in printed
    assert "checked against the NumPy reference" in printed.splitlines()[-1]


def test_bootstrap_prints_intervals_and_writes_replicates(csv, tmp_path, capsys):
    out = tmp_path / "boot.parquet"
    arguments = ["--n", "30", "--method", "cases", "--seed", "3", "--level", "0.9"]
    assert main(["bootstrap", SLEEP, str(csv), *arguments, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Cases bootstrap, 30 replicates, seed 3")
    fit = hlm.fit(SLEEP, hlm.load_dataset("sleepstudy"))
    interval = hlm.bootstrap(fit, 30, "cases", seed=3).confint(level=0.9)
    for value in interval.loc["Days"]:
        assert f"{value:.4f}" in printed
    assert len(hlm.Bootstrap.read_parquet(out)) == 30


OF_TABLES = {
    "bootstrap": [SLEEP, "sleep.csv", "--n", "20", "--method", "cases", "--seed", "3"],
    "power": ["~ Days + (1 | Subject)", "sleep.csv", "--beta=1,0", "--sd", "1", "--sigma", "2",
              "--test", "Days", "--n", "20", "--seed", "3"],
    "fit": [SLEEP, "sleep.csv"],
}  # fmt: skip


@pytest.mark.parametrize("command", OF_TABLES)
def test_every_table_is_written_by_the_ending_of_its_name(command, csv, monkeypatch, capsys):
    """Data files hold the same numbers, documents what is printed; others are refused at once."""
    monkeypatch.chdir(csv.parent)
    asked = [command, *OF_TABLES[command], "--out"]
    assert main([*asked, "t.csv"]) == 0
    printed = capsys.readouterr().out
    assert main([*asked, "t.xlsx"]) == main([*asked, "t.md"]) == main([*asked, "t.parquet"]) == 0
    table = pd.read_csv("t.csv")
    pd.testing.assert_frame_equal(read_table("t.xlsx"), table, rtol=tol.LAST_BITS)
    if command == "bootstrap":
        replicates = hlm.Bootstrap.read_parquet("t.parquet").replicates.reset_index()
        pd.testing.assert_frame_equal(replicates, table, rtol=tol.LAST_BITS)
    else:
        assert [*read_table("t.parquet")] == [*table]
    shown = Path("t.md").read_text(encoding="utf-8").replace("\\", "")
    assert printed.split()[:4] == [word for word in shown.split() if word[0] not in "|:"][:4]
    monkeypatch.setattr("jaxhlm.cli.bootstrap.read_table", None)
    monkeypatch.setattr("jaxhlm.cli.commands.read_table", None)
    monkeypatch.setattr("jaxhlm.cli.fit.read_table", None)
    capsys.readouterr()
    assert main([*asked, "t.txt"]) == 2
    assert "t.txt: tables are written as .csv, .parquet, .xlsx, .html" in capsys.readouterr().err


def test_more_replicates_than_a_sheet_holds(csv, monkeypatch, capsys):
    monkeypatch.setattr("jaxhlm.cli.bootstrap.read_table", None)
    assert main(["bootstrap", SLEEP, str(csv), "--n", "1048576", "--out", "t.xlsx"]) == 2
    assert "t.xlsx: 1,048,576 rows are more than" in capsys.readouterr().err


@pytest.mark.parametrize("command", OF_TABLES)
def test_help_says_what_is_read_and_written(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert ".csv, .tsv, .parquet, .feather or .xlsx" in told
    assert ".csv, .parquet, .xlsx, or as printed: .html, .tex, .md" in told


@pytest.mark.parametrize("command", ["bootstrap", "power"])
def test_devices_that_are_not_there(command, csv, capsys):
    truth = ["--beta=1,2", "--sd", "1,1", "--sigma", "2", "--test", "Days"]
    arguments = [command, SLEEP, str(csv), *(truth if command == "power" else []), "--devices", "9"]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert "--devices 9: JAX has 1" in said and said.count("\n") == 1


def test_bootstrap_with_a_bad_level(csv, capsys):
    assert main(["bootstrap", SLEEP, str(csv), "--level", "95"]) == 2
    assert "--level 95.0 is not a confidence level" in capsys.readouterr().err


def _command(*arguments, stdout, **environment):
    """A command whose output is a file, as a shell gives it."""
    settings = {name: x for name, x in os.environ.items() if name != "PYTHONUNBUFFERED"}
    settings |= {"PYTHONPATH": os.pathsep.join(sys.path)} | environment
    return subprocess.run(
        [sys.executable, "-m", "jaxhlm", *arguments],
        stdout=stdout, stderr=subprocess.PIPE, text=True, env=settings,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_output_that_finds_no_room_is_one_line_and_none_without_a_reader():
    with open("/dev/full", "w") as full:
        ran = _command("info", stdout=full)
    assert (ran.returncode, ran.stderr) == (2, "jaxhlm: No space left on device\n")
    read, write = os.pipe()
    os.close(read)
    ran = _command("info", stdout=write)
    os.close(write)
    assert (ran.returncode, ran.stderr) == (141, "")


@pytest.mark.parametrize("buffering", [1, -1])
def test_files_are_written_though_nobody_reads_what_is_printed(csv, monkeypatch, capsys, buffering):
    monkeypatch.chdir(csv.parent)
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", buffering) as unread:
        monkeypatch.setattr(sys, "stdout", unread)
        assert main(["fit", SLEEP, "sleep.csv", "--out", "t.csv"]) == 141
        assert sys.stdout is unread
    assert len(pd.read_csv("t.csv")) == 6
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_what_the_output_cannot_show_is_escaped(encoding, monkeypatch, capsys):
    bare = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", bare)
    assert main(["article", "--replicates", "2"]) == 0
    assert r"\u03b2 " in bare.buffer.getvalue().decode(encoding)
    assert bare.errors == "strict"
