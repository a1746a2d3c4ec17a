"""Data sets on several devices: the same draws and fits on any number of them."""

import subprocess
import sys
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import jax
import numpy as np
import optax
import pandas as pd
import pytest

import jaxhlm as hlm
import tolerances as tol
from jaxhlm import violations as v
from jaxhlm.core.precision import jax_config_scope
from jaxhlm.datasets import load_dataset
from jaxhlm.errors import (
    ConvergenceWarning,
    DeviceError,
    DeviceMemoryWarning,
    InterruptedFitsWarning,
    OptionError,
)
from jaxhlm.estimation import device_chunks

pytestmark = [pytest.mark.usefixtures("quick_devices"), pytest.mark.slow]

FORMULA = "Reaction ~ Days + (1 + Days | Subject)"
B = 300

# Eight devices are there before JAX is imported, so this runs in a process of its own. Every number
# of devices compiles anew: one that divides the data sets, one that does not; the other tests have
# one device.
ON_DEVICES = f"""
import tempfile
import jax, numpy as np, jaxhlm as hlm
from jaxhlm.core import chunks
from jaxhlm.fitting import storing
assert len(jax.devices()) == 8
fit = hlm.fit({FORMULA!r}, hlm.load_dataset("sleepstudy"))
simulated = hlm.simulate(fit, n={B}, seed=1)
expected = simulated.fit()
design = hlm.design({FORMULA!r}, hlm.load_dataset("sleepstudy"))
made = design, hlm.Truth.from_fit(fit, beta={{"Days": 3.0}})
power = hlm.power(made, "Days", n={B}, seed=1).table
storing.FILE_BYTES, chunks.MAX_LANES = 2**13, 20
for devices in (3, jax.devices()):
    fits = simulated.fit(devices=devices)
    with tempfile.TemporaryDirectory() as out:
        stored = simulated.fit(devices=devices, out=out)
        assert len(stored.chunks) > 3 and stored[:].fixef.equals(fits.fixef)
    assert hlm.power(made, "Days", n={B}, seed=1, devices=devices).table.equals(power)
    np.testing.assert_array_equal(fits.status, expected.status)
    for name in ("criterion", "beta", "vcov", "theta", "cov", "sigma"):
        found, known = (getattr(f.estimates, name) for f in (fits, expected))
        np.testing.assert_allclose(found, known, rtol={tol.ESTIMATE}, atol={tol.ESTIMATE})
    if devices == 3:
        np.testing.assert_allclose(fits.df(), expected.df(), rtol={tol.ESTIMATE})
    print(len(fits), "on", devices)
"""


@pytest.mark.skipif(
    jax.__version_info__[:2] == (0, 11),
    reason="XLA of JAX 0.11 crashes while it compiles for several CPU devices",
)
def test_draws_and_fits_are_the_same_on_any_number_of_devices(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ON_DEVICES], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"{B} on") == 2


def test_draws_have_the_same_bits_in_any_chunk():
    """Those of the host path, too; chunks are powers of two."""
    fit = hlm.fit(FORMULA, load_dataset("sleepstudy"))
    source = hlm.simulate(fit, n=B, seed=1)._source
    lanes = source.traceable

    def drawn(reduced):
        stats, scaling, _ = reduced.standardised
        return stats.Ty, stats.Xy, stats.yy, scaling.beta_ols, scaling.s

    @jax.jit
    def draw(shared, lane_index):
        return drawn(lanes.reduction.reduce(shared, lane_index)[0])

    known = drawn(source.draw(slice(0, 600)))
    for found, expected in zip(drawn(source.draw(slice(0, 4000))), known, strict=True):
        np.testing.assert_array_equal(found[..., :600], expected)
    for size in (128, 256, 1024):
        with jax_config_scope():
            again = draw(lanes.shared, lanes.argument(slice(0, size)))
        for found, expected in zip(again, known, strict=True):
            shared = min(size, 600)
            np.testing.assert_array_equal(found[..., :shared], expected[..., :shared])


@pytest.fixture(scope="module")
def responses():
    """Responses of which two miss values and one is constant."""
    fit = hlm.fit(FORMULA, load_dataset("sleepstudy"))
    Y = fit.simulate(B, seed=1).to_numpy().copy()
    Y[3, 5], Y[:, 7], Y[:20, 9] = np.nan, 1.0, np.nan
    return fit, Y


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.JaxhlmWarning")
def test_responses_on_a_device_are_fitted_as_on_the_cores(responses):
    _, Y = responses
    data = load_dataset("sleepstudy")
    found = hlm.fit_many(FORMULA, data, Y, devices=1)
    expected = hlm.fit_many(FORMULA, data, Y)
    np.testing.assert_array_equal(found.status, expected.status)
    np.testing.assert_array_equal(found.nobs, expected.nobs)
    np.testing.assert_allclose(found.fixef, expected.fixef, rtol=tol.ESTIMATE)
    np.testing.assert_allclose(found.criterion, expected.criterion, rtol=tol.DEVIANCE)


def test_a_design_that_does_not_tell_variances_apart_is_seen_on_devices():
    data = load_dataset("sleepstudy").iloc[:20]
    design = hlm.design("~ C(Subject) * Days + (1 + Days | Subject)", data)
    truth = hlm.Truth.of([1.0] * design.p, sd=[20.0, 5.0], sigma=25.0)
    simulated = hlm.simulate(design, truth, 20, seed=1)
    with pytest.warns(ConvergenceWarning, match="not_identified"):
        assert (simulated.fit(devices=1).status == hlm.Status.NOT_IDENTIFIED).all()


def test_another_truth_on_the_same_design_is_drawn_by_the_same_program():
    known = len(device_chunks._program._programs)
    low, high = (
        hlm.Truth.of([mean, 10.0], sd=[20.0, 5.0], corr=0.1, sigma=25.0) for mean in (200.0, 300.0)
    )
    for truth in (low, high):
        fit = hlm.fit(FORMULA, load_dataset("sleepstudy"))
        simulated = hlm.simulate(fit, truth, 200, seed=1)
        found, expected = simulated.fit(devices=1), simulated.fit()
        np.testing.assert_allclose(found.fixef, expected.fixef, rtol=tol.ESTIMATE)
    assert len(device_chunks._program._programs) <= known + 1


def test_a_device_out_of_memory_goes_on_with_smaller_chunks(monkeypatch):
    """Said once, nothing lost, nothing twice."""
    fit = hlm.fit(FORMULA, load_dataset("sleepstudy"))
    simulated = hlm.simulate(fit, n=500, seed=1)
    started = device_chunks._started

    def out_of_memory(*arguments):
        if arguments[3] > 128:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return started(*arguments)

    monkeypatch.setattr(device_chunks, "_started", out_of_memory)
    with pytest.warns(DeviceMemoryWarning, match="for 512") as said:
        found = simulated.fit(devices=1)
    assert len(said) == 1
    np.testing.assert_allclose(found.criterion, simulated.fit().criterion, rtol=tol.DEVIANCE)


def lost_at(call, monkeypatch, error="INTERNAL: CUDA_ERROR_ECC_UNCORRECTABLE\nmore"):
    """The device goes when it is given so many chunks, here of 128 data sets."""
    started, calls = device_chunks._started, []

    def lost(*arguments):
        calls.append(1)
        if len(calls) > call:
            raise jax.errors.JaxRuntimeError(error)
        return started(*arguments)

    monkeypatch.setattr(device_chunks, "MOST", 128)
    monkeypatch.setattr(device_chunks, "_started", lost)


def test_a_lost_device_gives_what_is_finished(monkeypatch):
    """In memory as an interrupt does; nothing of it where a part is of no use."""
    simulated = hlm.simulate(hlm.fit(FORMULA, load_dataset("sleepstudy")), n=500, seed=1)
    with monkeypatch.context() as patch:
        lost_at(3, patch)
        with pytest.warns(
            InterruptedFitsWarning, match="cpu:0 failed: .*ECC_UNCORR.*: 256 of 500"
        ) as said:
            found = simulated.fit(devices=1)
    assert len(found) == 256 and "more" not in str(said[0].message)
    expected = simulated.fit()[:256]
    np.testing.assert_allclose(found.criterion, expected.criterion, rtol=tol.DEVIANCE)
    for call, error, text in (
        (0, "INTERNAL: gone", "cpu:0 failed: .*gone"),
        (0, "RESOURCE_EXHAUSTED: none", "cpu:0: no memory for 128 data sets"),
    ):
        with monkeypatch.context() as patch, pytest.raises(DeviceError, match=text):
            lost_at(call, patch, error)
            simulated.fit(devices=1)


def test_a_wild_bootstrap_is_that_of_the_cores(responses):
    fit, _ = responses
    found, expected = (hlm.bootstrap(fit, B, "wild", 1, devices=d).fits for d in (1, None))
    np.testing.assert_array_equal(found.status, expected.status)
    np.testing.assert_allclose(found.fixef, expected.fixef, rtol=tol.ESTIMATE)
    np.testing.assert_allclose(found.criterion, expected.criterion, rtol=tol.DEVIANCE)


@pytest.fixture
def mechanisms(responses):
    """Of one design, without and with missing responses, and of designs drawn anew."""
    fit, _ = responses
    data, truth = load_dataset("sleepstudy"), hlm.Truth.from_fit(fit, beta={"Days": 4.0})
    units = hlm.units(n=12, within={"Days": range(5)}, between={"z": np.arange(12.0)}, redraw=True)
    return {
        "complete": hlm.mechanism(FORMULA, data, truth),
        "missing": hlm.mechanism(FORMULA, data, truth, [v.MissingCompletely(0.01)]),
        "redrawn": hlm.mechanism(FORMULA.replace("Subject", "unit"), units, truth),
    }


def test_power_on_devices_is_that_of_the_cores(mechanisms, monkeypatch):
    """Drawn as statistics and as rows; along a parameter by one program."""
    monkeypatch.setattr(device_chunks, "MOST", 128)
    m, told = mechanisms["complete"], {"n": 100, "seed": 1, "progress": False}
    for formula in (None, "~ Days + (1 + Days | Subject)"):
        powers = [hlm.power(m, "Days", formula=formula, devices=d, **told) for d in (1, None)]
        pd.testing.assert_frame_equal(*(found.table for found in powers))
    along = {"along": "beta[Days]", **told}
    curves = [hlm.power_curve(m, "Days", values=[2, 5], devices=d, **along) for d in (1, None)]
    pd.testing.assert_frame_equal(*curves)
    solved = [hlm.solve_power(m, "Days", bounds=(1, 9), devices=d, **along) for d in (1, None)]
    pd.testing.assert_frame_equal(*(found.curve for found in solved))


def studied(mechanisms, **options):
    methods = [hlm.Method("t"), hlm.Method("OLS", estimator="ols")]
    return hlm.study(None, mechanisms, methods, n=120, seed=1, chunk=60, progress=False, **options)


@pytest.mark.parametrize("rows", [False, True])
def test_a_study_on_devices_is_that_of_the_cores(rows, mechanisms, monkeypatch, tmp_path):
    """Whichever began it the other may go on; threads share the devices."""
    monkeypatch.setattr(device_chunks, "MOST", 128)
    if not rows:
        del mechanisms["missing"], mechanisms["redrawn"]
    expected, out = studied(mechanisms).estimates, tmp_path / "out"
    found = studied(mechanisms, devices=1, out=out).estimates
    pd.testing.assert_frame_equal(found, expected, rtol=tol.ESTIMATE, atol=tol.ESTIMATE)
    next((out / "estimates").iterdir()).unlink()
    again = studied(mechanisms, out=out, resume=True).estimates
    pd.testing.assert_frame_equal(again, expected, rtol=tol.ESTIMATE, atol=tol.ESTIMATE)
    with ThreadPoolExecutor(2) as pool:
        shared = studied(mechanisms, devices=jax.devices(), executor=pool).estimates
    pd.testing.assert_frame_equal(shared, found, check_exact=True)


class Elsewhere(Executor):
    """Workers that are other processes, as far as one can tell."""

    def submit(self, function, /, *arguments, **options):
        future = Future()
        future.set_result(None)
        return future


@pytest.mark.parametrize(
    ("devices", "text"),
    [
        (jax.devices(), "the number of them that each worker takes"),
        (0, "1 or more"),
        (True, "1 or"),
    ],
)
def test_workers_are_told_a_number_of_devices(devices, text, mechanisms):
    with pytest.raises(OptionError, match=text):
        studied(mechanisms, devices=devices, executor=Elsewhere())


def test_a_device_lost_in_a_simulation_is_an_error(mechanisms, monkeypatch, tmp_path):
    """A part of the data sets is not taken for all."""
    with monkeypatch.context() as patch:
        lost_at(1, patch)
        with pytest.raises(DeviceError, match="failed"):
            hlm.power(mechanisms["complete"], "Days", n=300, seed=1, devices=1)
    with monkeypatch.context() as patch, pytest.raises(DeviceError, match=r"1 of 6 .* resume=True"):
        lost_at(2, patch)  # fits, and their degrees of freedom
        studied(mechanisms, devices=1, out=tmp_path / "out")
    assert studied(mechanisms, out=tmp_path / "out", resume=True).counts["replicates"].eq(120).all()


@pytest.mark.parametrize(
    ("devices", "text"),
    [
        (0, "devices=0: JAX has 1"),
        (99, "devices=99: JAX has 1"),
        (True, "give a number"),
        ("gpu", "give a number"),
        ([], "at least one"),
        (jax.devices() * 2, "each once"),
        (1.5, "give a number"),
    ],
)
def test_devices_that_are_not_there_are_refused(devices, text):
    fit = hlm.fit(FORMULA, load_dataset("sleepstudy"))
    with pytest.raises(OptionError, match=text):
        hlm.simulate(fit, n=5, seed=1).fit(devices=devices)


def test_devices_of_another_process_are_refused(monkeypatch):
    simulated = hlm.simulate(hlm.fit(FORMULA, load_dataset("sleepstudy")), n=5, seed=1)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    with pytest.raises(OptionError, match="of another process; give some of jax"):
        simulated.fit(devices=jax.devices())


def test_what_runs_on_the_cores_only_is_refused_by_name():
    fit, data = hlm.fit(FORMULA, load_dataset("sleepstudy")), load_dataset("sleepstudy")
    with pytest.raises(OptionError, match="rows of their own"):
        hlm.fit_many(FORMULA, data.assign(r=0), by="r", devices=1)
    with pytest.raises(OptionError, match="with weights of their own, run on the cores only"):
        Y = np.tile(data[["Reaction"]], 2)
        hlm.fit_many(FORMULA, data, Y, weights=np.ones(Y.shape) * [1.0, 2.0], devices=1)
    with pytest.raises(OptionError, match="rows of their own"):
        hlm.bootstrap(fit, 10, "cases", seed=1, devices=1)
    with pytest.raises(OptionError, match="your optimizer"):
        Y = fit.simulate(3, seed=1)
        hlm.fit_many(FORMULA, data, Y, optimizer=optax.lbfgs(), devices=1)
