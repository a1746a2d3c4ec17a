"""The benchmark runs end to end on a hundredth of the data, and its judgements can fail."""

import subprocess
import sys

import pandas as pd

from places import ROOT


def test_quick_run(tmp_path):
    command = [sys.executable, "-m", "bench", "--only", "C", "--quick", "--no-peers", "--out"]
    done = subprocess.run(
        [*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (written,) = tmp_path.glob("*.csv")
    rows = pd.read_csv(written).query("workload == 'C'").set_index("measure")
    assert rows.loc["fits", "value"] == 100
    assert rows.loc["failed", "value"] == 0
    assert rows.loc["excess", "value"] < 1e-6
    assert "fits/s" in done.stdout


def test_wrong_answers_are_called_wrong(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from bench.__main__ import judged
    from bench.workloads import slope

    assert judged("A", "excess", 1e-5).met == "WRONG"
    assert judged("A", "excess", float("nan")).met == "WRONG"
    assert judged("A", "failed", 1e-5).met == "WRONG"
    assert judged("E", "seconds", 3.1).met == "no"
    assert judged("F", "times lme4 lmer", 300.0).met == "yes"
    assert abs(slope([1, 10, 100], [2, 20, 200]) - 1.0) < 1e-12
