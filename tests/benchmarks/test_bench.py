"""The benchmark runs end to end on a hundredth of the data, and its judgements can fail."""

import re
import subprocess
import sys
from importlib.util import find_spec

import pandas as pd
import pytest

import tolerances as tol
from places import ROOT

SHOWN = (*ROOT.glob("*/**/*.py"), ROOT / "README.md")


@pytest.mark.slow
def test_quick_run(tmp_path):
    command = [
        sys.executable,
        "-m",
        "bench",
        "--only",
        "bootstrap",
        "--quick",
        "--no-peers",
        "--out",
    ]
    done = subprocess.run(
        [*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (written,) = tmp_path.glob("*.csv")
    rows = pd.read_csv(written).query("workload == 'bootstrap'").set_index("measure")
    assert rows.loc["fits", "value"] == 100
    assert rows.loc["failed", "value"] == 0
    assert rows.loc["excess", "value"] < tol.EXCESS
    assert "fits/s" in done.stdout


def test_wrong_answers_are_called_wrong(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from bench.__main__ import TARGETS
    from bench.report import judged
    from bench.speed.workloads import slope

    def met(workload, measure, value):
        return judged(workload, measure, value, TARGETS[workload]).met

    assert met("article", "excess", 1e-5) == "WRONG"
    assert met("article", "excess", float("nan")) == "WRONG"
    assert met("article", "failed", 1e-5) == "WRONG"
    assert met("genes", "seconds", 3.1) == "no"
    assert met("replicates", "times lme4 lmer", 300.0) == "yes"
    assert abs(slope([1, 10, 100], [2, 20, 200]) - 1.0) < tol.SUMMED


def test_workloads_their_peers_and_their_targets_go_together(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from bench.__main__ import TARGETS
    from bench.speed.peers import LME4
    from bench.speed.workloads import WORKLOADS

    assert {*TARGETS} <= {*WORKLOADS}
    compared = {w for w, targets in TARGETS.items() if any("lme4" in m for m in targets)}
    assert compared == {*LME4}


def test_every_benchmark_that_is_named_is_there(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    texts = [path.read_text(encoding="utf-8") for path in SHOWN]
    named = {name for text in texts for name in re.findall(r"\bbench(?:\.[a-z]\w*)+", text)}
    assert len(named) > 15
    for name in named:
        assert find_spec(name), name


def test_mutants_and_their_tests_are_found(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from bench.validation import mutants

    for module in mutants.TESTS:
        assert mutants.file_of(module).exists()
        assert all((ROOT / file).exists() for file in mutants.tests_of(module))
    assert {module for module, *_ in mutants.explanations()} <= {*mutants.TESTS}
