"""The benchmark of scaling: its arithmetic by hand, and the command with a few data sets."""

import json
import subprocess
import sys

import pandas as pd
import pytest

import tolerances as tol
from places import ROOT

pytestmark = pytest.mark.usefixtures("quick_devices")


@pytest.fixture
def scaling(monkeypatch):
    """The command, whose measurements are made in this process."""
    monkeypatch.syspath_prepend(ROOT)
    from bench.scaling import __main__ as command
    from bench.scaling.measured import MEASURED

    def here(devices, what, *arguments):
        del devices
        return json.loads(json.dumps(MEASURED[what](*arguments)))

    monkeypatch.setattr(command, "measured", here)
    return command


def run(scaling, monkeypatch, folder, *arguments):
    """Exit status and figures."""
    tiny = "--scale", "1e-5", "--counts", "1", "--out", str(folder), *arguments
    monkeypatch.setattr(sys, "argv", ["bench.scaling", *tiny])
    status = scaling.main()
    (written,) = folder.glob("*-scaling.csv")
    return status, pd.read_csv(written)


@pytest.mark.slow
def test_a_workload_is_checked_measured_and_projected(scaling, monkeypatch, tmp_path):
    status, rows = run(scaling, monkeypatch, tmp_path, "--only", "article", "--note", "busy")
    found = rows.query("workload == 'article'").set_index("measure")["value"]
    assert status == 0
    assert found["excess"] < tol.EXCESS
    assert found["bytes read"] == 8 * 900
    assert found["strong, 1: efficiency"] == found["weak, 1: efficiency"] == 1.0
    ahead = found["1e+09 on 8 devices: seconds of devices"]
    assert ahead / found["1e+09 on 64 devices: seconds of devices"] == pytest.approx(8.0)
    assert any("64 devices: breaks first: " in measure for measure in found.index)
    assert "note busy" in set(rows["measure"])


def test_what_fails_is_told_and_what_is_not_there_is_left_out(scaling, monkeypatch, tmp_path):
    here = scaling.measured

    def failing(devices, what, *arguments):
        if what == "facts":
            return here(devices, what, *arguments)
        raise subprocess.CalledProcessError(1, what, stderr="Traceback\nRuntimeError: of all")

    monkeypatch.setattr(scaling, "measured", failing)
    monkeypatch.setattr(scaling, "find_spec", lambda _: None)
    status, rows = run(scaling, monkeypatch, tmp_path, "--only", "schools,dask")
    assert status == 1
    said = rows.set_index("workload")["measure"]
    assert said["schools"] == "RuntimeError: of all"
    assert said["dask"] == "not measured: it is not installed"


def test_efficiencies_by_hand(scaling):
    found = {"strong": {"1": 8.0, "2": 4.0, "4": 4.0}, "weak": {"1": 2.0, "2": 2.0, "4": 4.0}}
    values = scaling.scaling(found, 80)
    assert [values[f"strong, {n}: efficiency"] for n in (1, 2, 4)] == [1.0, 1.0, 0.5]
    assert [values[f"weak, {n}: efficiency"] for n in (1, 2, 4)] == [1.0, 1.0, 0.5]
    assert [values[f"weak, {n}: fits/s"] for n in (1, 2, 4)] == [10.0, 20.0, 20.0]


@pytest.mark.parametrize(
    ("changed", "first"),
    [
        ({}, "nothing: the devices are what is waited for"),
        ({"share": 0.9, "finishing": 2e-6}, "the cores, with the fits that devices leave to them"),
        ({"bus": 1e6}, "the bus to the devices"),
        ({"file_seconds": 1e-3}, "writing the files"),
        ({"memory": 1e10}, "memory, without out=; with it nothing: the devices are what is "
                           "waited for"),
    ],
)  # fmt: skip
def test_a_projection_by_hand(scaling, changed, first):
    """8 devices of 1e-5 s a fit on one host; a tenth of the fits takes 1e-6 s each of its cores."""
    from bench.scaling.projection import Single, projected, roofline

    one = {
        "seconds": 1.01e-5, "read": 900.0, "written": 100.0, "share": 0.1, "finishing": 1e-6,
        "file_bytes": 200.0, "file_seconds": 1e-8, "fits_per_file": 1e5, "bandwidth": 1e9,
        "bus": 1e9, "memory": 1e12,
    }  # fmt: skip
    figures, said = projected(Single(**one | changed), 1e9, 8)
    assert said == first
    if not changed:
        assert figures["seconds of devices"] == pytest.approx(1250.0)
        assert figures["seconds of transfer"] == pytest.approx(125.0)
        assert figures["seconds of cores"] == pytest.approx(100.0)
        assert figures["seconds, all at the same time"] == pytest.approx(1250.0)
        assert figures["GB of estimates on a host, without out="] == pytest.approx(100.0)
        assert figures["files"] == 10_000
        assert roofline(Single(**one))["share of the memory's bandwidth"] == pytest.approx(0.1)
