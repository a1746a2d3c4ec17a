"""The benchmark of accelerators runs on a CPU with a few data sets, and tells what fails."""

import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import tolerances as tol
from places import ROOT

pytestmark = pytest.mark.usefixtures("quick_devices")

TRIED = "article", "article program", "drawn 1e6", "schools float32", "missing", "replicates"
MEASURED = ["excess", "fits/s", "compile seconds", "GB moved", "share of device memory"]


@pytest.fixture
def run(monkeypatch, tmp_path):
    """The command with some workloads and as few data sets as it takes: exit status and figures."""
    monkeypatch.syspath_prepend(ROOT)
    # The command sets it; its value is put back.
    monkeypatch.setenv("JAXHLM_CACHE", "off")
    from bench.accelerator import __main__ as accelerator

    def command(*names, **changed):
        for name, change in changed.items():
            wrong = replace(accelerator.WORKLOADS[name], run=change)
            monkeypatch.setitem(accelerator.WORKLOADS, name, wrong)
        arguments = ["--only", ",".join(names), "--scale", "1e-6", "--out", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", ["bench.accelerator", *arguments])
        status = accelerator.main()
        (written,) = tmp_path.glob("*-accelerator.csv")
        return status, pd.read_csv(written)

    return command


@pytest.mark.slow
def test_every_kind_of_workload_is_checked_and_measured(run):
    status, rows = run(*TRIED)
    values = rows.pivot(index="workload", columns="measure", values="value")
    assert status == 0
    assert (values.loc[[*TRIED], "excess"] < tol.EXCESS).all()
    assert (values.loc[[*TRIED], "warm compile seconds"] == 0.0).all()
    assert np.isfinite(values.loc[[*TRIED], MEASURED]).all(axis=None)
    assert values.loc["article", "GB moved"] * 1e9 > 8 * 900 * values.loc["article", "fits"]
    assert values.loc["bandwidth", "device memory GB/s"] > 0.0


def test_one_that_fails_is_told_and_the_others_go_on(run):
    def refuse(*_):
        raise RuntimeError("RESOURCE_EXHAUSTED: of all\nat length")

    status, rows = run("schools", "replicates", schools=refuse)
    (failed,) = rows.query("workload == 'schools'").to_dict("records")
    assert (failed["measure"], failed["met"]) == (
        "RuntimeError: RESOURCE_EXHAUSTED: of all",
        "WRONG",
    )
    assert "replicates" in set(rows.workload)
    assert status == 1


def test_wrong_fits_are_found(run):
    from bench.accelerator.workloads import fit_replicates

    def wrong(frame, devices):
        fits = fit_replicates(frame, devices)
        criterion = fits.estimates.criterion + 1e-4
        estimates = replace(fits.estimates, criterion=criterion)
        return type(fits)(replace(fits.record, estimates=estimates))

    status, rows = run("replicates", replicates=wrong)
    assert status == 1
    assert rows.set_index("measure").loc["excess", "met"] == "WRONG"
