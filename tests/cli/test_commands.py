"""The commands `study` and `power`: what they print and write, and their one-line errors."""

import os

import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
from jaxhlm.cli.main import main
from studies_made import TOML


def test_a_study_file_is_run_and_resumed(toml, capsys):
    out = toml.parent / "out"
    assert main(["study", str(toml), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "Study of 4 conditions and 2 methods (t, two): 64 data sets" in printed
    measures = pd.read_csv(out / "measures.csv")
    assert measures["units"].unique().tolist() == [6, 8]
    first = hlm.read_study(out).estimates
    assert main(["study", str(toml), "--out", str(out)]) == 2
    assert "go on with --resume, or give another folder" in capsys.readouterr().err
    next(out.glob("estimates/*.parquet")).unlink()
    assert main(["study", str(toml), "--out", str(out), "--resume"]) == 0
    pd.testing.assert_frame_equal(hlm.read_study(out).estimates, first, check_exact=True)
    toml.write_text(TOML.replace("corr = 0.9", "corr = 0.8"))
    assert main(["study", str(toml), "--out", str(out), "--resume"]) == 2
    assert "differs in mechanisms" in capsys.readouterr().err


POWER = ["power", "y ~ x * a + (1 + x | unit)", "design.csv", "--beta", "1,3,-0.15,0.3",
         "--sd", "0.2,0.5", "--corr", "0.9", "--sigma", "0.75", "--n", "2"]  # fmt: skip


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--test", "x:a", "--test", "x"], "x = 0, by a two-sided t test"),
        (["--test", "x:a", "--along", "units", "--values", "6,8"], "units test  power"),
        (["--test", "x", "--target", "0.5", "--bounds", "3,30"], "for a target of 0.5"),
        (
            [
                "--beta",
                "(Intercept)=1,x=3",
                "--d",
                "a=-0.2",
                "--d-sd",
                "within",
                "--partial-r2",
                "x:a=0.25",
                "--test",
                "x:a",
            ],
            "-0.15, x:a = 0.",
        ),
    ],
)
def test_power_on_the_command_line(toml, monkeypatch, capsys, extra, message):
    monkeypatch.chdir(toml.parent)
    assert main([*POWER, *extra, "--out", "power.csv"]) == 0
    printed = capsys.readouterr().out
    assert message in printed
    assert "power" in pd.read_csv("power.csv")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--test", "x:b"], "the terms are: '(Intercept)', 'x', 'a', 'x:a'"),
        (["--test", "x", "--along", "units"], "--along needs --values or --target"),
        (["--test", "x", "--target", "0.5", "--values", "3"], "either --values or --target"),
        (["--test", "x", "--corr", "2"], "correlations lie between"),
        (["--test", "x", "--partial-r2", "x:a=0.1"], "beta must be a mapping by term"),
        (["--test", "x", "--beta", "x=1", "--d", "a=0.1"], "d needs d_sd"),
        (
            ["--test", "x", "--d", "a=0.1", "--d-sd", "total", "--along", "sd[(Intercept)]"],
            "effects were given as d, which sd[(Intercept)] changes",
        ),
        (
            ["--test", "x", "--partial-r2", "x:a=0.1", "--along", "corr", "--values", "0,0.5"],
            "effects were given as partial R², which corr changes",
        ),
    ],
)
def test_power_says_what_is_wrong(toml, monkeypatch, capsys, extra, message):
    monkeypatch.chdir(toml.parent)
    assert main([*POWER, *extra]) == 2
    assert message in capsys.readouterr().err


def test_terms_are_named_by_what_lies_before_the_last_sign(tmp_path, monkeypatch, capsys):
    """Whose names hold commas, brackets that are half open, and signs."""
    monkeypatch.chdir(tmp_path)
    names = ["(Intercept)", "poly(t, 2)1", "poly(t, 2)2", "bs(x, df=3, degree=2)1",
             "bs(x, df=3, degree=2)2", "bs(x, df=3, degree=2)3", "band(4, 9]",
             "townYork, UK"]  # fmt: skip
    i = np.arange(64)
    frame = {"g": i // 4, "t": i % 4, "x": i % 5, "band": np.where(i % 3, "(0, 4]", "(4, 9]")}
    frame["town"] = np.where(i % 7 < 3, "Ely, UK", "York, UK")
    pd.DataFrame(frame).to_csv("d.csv", index=False)
    given = ",".join(f"{name}={j}" for j, name in enumerate(names))
    told = ["power", "~ poly(t, 2) + bs(x, df=3, degree=2) + band + town + (1 | g)", "d.csv",
            "--beta", given, "--sd", "1", "--sigma", "1", "--n", "2",
            "--test", "band(4, 9]"]  # fmt: skip
    assert main(told) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert ", ".join(f"{name} = {j}" for j, name in enumerate(names)) in said


@pytest.mark.parametrize(
    ("given", "message"), [("x=1,x=2", "every term once"), ("=1", "x=3,a=0"), ("x=", "x=3,a=0")]
)
def test_terms_that_are_not_named(given, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([*POWER, "--test", "x", "--d", given])
    assert message in capsys.readouterr().err


def test_power_looks_the_random_intercept_of_d_up_in_the_formula(toml, monkeypatch, capsys):
    monkeypatch.chdir(toml.parent)
    models = (("(0 + x | unit) + (1 | unit)", "0.5,0.2", 0), ("(0 + x | unit)", "0.5", 2))
    for random, sd, code in models:
        told = ["--beta", "(Intercept)=1,x=3,a=0", "--sd", sd, "--sigma", "0.75", "--n", "2",
                "--test", "x", "--d", "x:a=0.4", "--d-sd", "between"]  # fmt: skip
        assert main(["power", f"y ~ x * a + {random}", "design.csv", *told]) == code
    said = capsys.readouterr()
    assert "x:a = 0.08;" in said.out
    assert "--d-sd between is of random intercepts" in said.err


def test_the_command_shows_how_its_file_is_written(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["study", "--help"])
    printed = capsys.readouterr().out
    assert '\n    [truth]\n    beta = { "(Intercept)" = 1, x = 3' in printed


def test_a_missing_file_is_named_first(tmp_path, capsys):
    assert main(["study", str(tmp_path / "none.toml"), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"jaxhlm: {tmp_path / 'none.toml'}: {os.strerror(2)}\n"
