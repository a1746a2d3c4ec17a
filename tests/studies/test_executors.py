"""Work shared out: the same bits whoever works, workers and clients that are killed, failures."""

import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import dask
import jax
import loky
import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster

import jaxhlm as hlm
from jaxhlm import errors
from jaxhlm.core import chunks
from jaxhlm.core.files import map_array
from jaxhlm.errors import ExecutorError, OptionError, TaskError
from jaxhlm.estimation import executors
from jaxhlm.fitting import storing
from jaxhlm.sources import frames
from jaxhlm.sources.responses import Carried, Responses
from jaxhlm.studies import power, power_curve
from jaxhlm.violations.violation import Violation
from tolerances import BATCH

pytestmark = pytest.mark.slow

DATA = hlm.load_dataset("article").query("unit <= 8 and x < 0.5").reset_index(drop=True)
METHODS = [hlm.Method("t"), hlm.Method("two", estimator="two_stage")]
N, CHUNK = 40, 8
SLEEP, FORMULA = hlm.load_dataset("sleepstudy"), "Reaction ~ Days + (1 + Days | Subject)"
B = 96
CHUNKS = 2 * N // CHUNK


@dataclass(frozen=True, repr=False)
class Trap(Violation):
    """Violates nothing. Workers that come here are killed, or fail, as long as there is a file."""

    # A study is the same study whatever its trap does.
    how: str = field(default="", compare=False)
    file: Path = field(default=Path("absent"), compare=False)
    once: bool = field(default=False, compare=False)
    home: int = field(default_factory=os.getpid, compare=False)

    def residuals(self, panel, e, numbers):
        if os.getpid() == self.home or not self.file.exists():
            return e
        told = self.file
        if self.once:
            told = self.file.with_suffix(".sprung")
            try:
                self.file.rename(told)
            except FileNotFoundError:  # another worker that came at the same moment has it
                return e
        with told.open("a") as file:
            file.write(f"{os.getpid()}\n")
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ZeroDivisionError("nothing to divide by")


def mechanism(effect, trap=None):
    truth = hlm.Truth.of([1, 3, -0.15, effect], sd=[0.2, 0.5], corr=0.9, sigma=0.75)
    formula = "y ~ x * a + (1 + x | unit)"
    return hlm.mechanism(formula, DATA, truth, [trap or Trap()] if effect else [])


def run(trap=None, **options):
    """A study of two conditions, of which the second has a trap."""

    def of(effect):
        return mechanism(effect, trap)

    return hlm.study({"effect": [0.0, 0.3]}, of, METHODS, n=N, seed=3, chunk=CHUNK, **options)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return run(out=tmp_path_factory.mktemp("study") / "out")


def assert_same(made, expected):
    pd.testing.assert_frame_equal(made.estimates, expected.estimates, check_exact=True)


def files_in(out):
    return {p.name: p.read_bytes() for p in (out / "estimates").iterdir()}


def contents(study):
    return files_in(study._store.path)


@pytest.fixture(scope="module")
def client():
    """Two worker processes over TCP, which give up on a task that two of them died of."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def test_dask_gives_the_same_bits_and_files(client, undisturbed, tmp_path):
    assert_same(run(executor=client), undisturbed)
    for write in (False, True):
        out = tmp_path / str(write)
        made = run(executor=client.get_executor(), out=out, workers_write=write)
        assert contents(made) == contents(undisturbed)
        assert_same(hlm.read_study(out), undisturbed)
    workers = {dict(w)["pid"] for w in client.run(lambda: {"pid": os.getpid()}).values()}
    assert os.getpid() not in workers and len(workers) == 2


@pytest.mark.parametrize("write", [False, True])
def test_a_worker_is_killed_in_the_middle(client, undisturbed, tmp_path, write):
    """Nothing is lost, nothing counted twice, and the bits are the same."""
    flag = tmp_path / "flag"
    flag.touch()
    trap = Trap("kill", flag, once=True)
    made = run(trap, executor=client, out=tmp_path / "out", workers_write=write)
    assert len(flag.with_suffix(".sprung").read_text().split()) == 1
    assert contents(made) == contents(undisturbed)


def assert_resumes(out, undisturbed):
    """What was finished is there, once, and going on gives the bits of the undisturbed study."""
    done = {p.name: p.read_bytes() for p in (out / "estimates").glob("*.parquet")}
    assert len(done) < CHUNKS
    assert done.items() <= contents(undisturbed).items()
    assert contents(run(out=out, resume=True)) == contents(undisturbed)


@pytest.mark.parametrize("write", [False, True])
def test_a_task_that_fails_is_told_with_its_condition_and_not_tried_again(
    client, undisturbed, tmp_path, write
):
    flag, out = tmp_path / "flag", tmp_path / "out"
    flag.touch()
    trap = Trap("fail", flag, once=True)
    told = r"condition 2/2 effect=0\.3, data sets \d+ to \d+: ZeroDivisionError: nothing to div"
    with pytest.raises(TaskError, match=told) as caught:
        run(trap, executor=client, out=out, workers_write=write)
    assert "in residuals" in "".join(caught.value.__notes__)
    assert len(flag.with_suffix(".sprung").read_text().split()) == 1
    assert_resumes(out, undisturbed)


def test_errors_of_ours_keep_their_class_and_tell_the_condition(monkeypatch):
    def broken(self, panel, e, numbers):
        if panel.starts.size > 2:
            raise OptionError("cannot be")
        return e

    monkeypatch.setattr(Trap, "residuals", broken)
    trap = Trap("fail", Path())
    with ThreadPoolExecutor(1) as pool:
        for executor in (None, pool):
            with pytest.raises(OptionError, match=r"^condition 2/2 .* to \d+: cannot be"):
                run(trap, executor=executor)


def processes():
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


def test_a_pool_that_breaks(undisturbed, tmp_path):
    flag, out = tmp_path / "flag", tmp_path / "out"
    flag.touch()
    trap = Trap("kill", flag)
    with processes() as pool:
        told = r"BrokenProcessPool: .* \d of 10 chunks are finished and kept in .*resume=True"
        with pytest.raises(ExecutorError, match=told):
            run(trap, executor=pool, out=out)
        with pytest.raises(ExecutorError, match=r"takes no tasks .BrokenProcessPool"):
            run(trap, executor=pool, out=out, resume=True)
    flag.unlink()
    assert_resumes(out, undisturbed)


def with_a_cluster(address, out):
    with Client(address) as client:
        run(executor=client, out=out, workers_write=True)


def test_the_client_is_gone_and_another_process_goes_on(client, undisturbed, tmp_path):
    out = tmp_path / "out"
    gone = get_context("spawn").Process(target=with_a_cluster, args=(client.scheduler.address, out))
    gone.start()
    deadline = time.monotonic() + 120
    while len(list(out.glob("estimates/*.parquet"))) < 2:
        assert time.monotonic() < deadline and gone.is_alive()
        time.sleep(0.001)
    os.kill(gone.pid, signal.SIGKILL)
    gone.join()
    assert contents(run(executor=client, out=out, resume=True)) == contents(undisturbed)


def generating(kind):
    """A pair, and mechanisms of which statistics, rows, or rows of their own designs are drawn."""
    m = mechanism(0.5)
    if kind == "pair":
        return m.template, m.truth
    if kind == "rows":
        heavy = [hlm.violations.ResidualsFrom(hlm.violations.StudentT(5))]
        return hlm.mechanism(m.formula, DATA, m.truth, heavy)
    if kind == "designs":
        units = hlm.units(
            6, 4, {"time": range(4)}, {"a": range(6)}, dropout={"per_visit": 0.1}, redraw=True
        )
        return hlm.mechanism("y ~ time * a + (1 + time | unit)", units, m.truth)
    return m


@pytest.mark.parametrize("kind", ["pair", "statistics", "rows", "designs"])
def test_power_is_the_same_whoever_draws(kind, client, monkeypatch):
    monkeypatch.setattr(power, "WORTH_SENDING", 16)
    what, submit = generating(kind), client.submit
    test = ["time", "time:a"] if kind == "designs" else ["x:a", "a = 0, x:a = 0"]
    expected = hlm.power(what, test, n=100, seed=1, alpha=0.3)
    sent = []
    monkeypatch.setattr(client, "submit", lambda *task, **o: sent.append(1) or submit(*task, **o))
    found = hlm.power(what, test, n=100, seed=1, alpha=0.3, executor=client)
    pd.testing.assert_frame_equal(found.table, expected.table, check_exact=True)
    assert len(sent) > 4


def test_curves_and_sizes_are_the_same_whoever_draws(client, monkeypatch):
    monkeypatch.setattr(power, "WORTH_SENDING", 16)
    monkeypatch.setattr(power_curve, "RESOLUTION", 0.125)
    m, options = mechanism(0.5), {"n": 60, "seed": 1}
    for call in (
        partial(hlm.power_curve, m, "x:a", "beta[x:a]", [0.2, 0.5], **options),
        lambda **o: hlm.solve_power(m, "x:a", 0.5, "beta[x:a]", (0.1, 5), **options, **o).curve,
    ):
        pd.testing.assert_frame_equal(call(executor=client), call(), check_exact=True)
    with pytest.raises(OptionError, match=r"^data sets \d+ to \d+: precision='float32' is for"):
        hlm.power(m, "x", **options, precision="float32", executor=client)
    with breaking(1) as pool, pytest.raises(ExecutorError, match="lost a worker"):
        hlm.power(m, "x", **options, executor=pool)


def test_loky(undisturbed):
    """Functions of a script go to its workers too, by cloudpickle."""
    pool = loky.get_reusable_executor(max_workers=1)
    try:
        assert_same(run(executor=pool), undisturbed)
    finally:
        pool.shutdown(kill_workers=True)


def test_bad_executors_are_refused_before_any_work(client, tmp_path):
    out = tmp_path / "out"
    closed, shut, broken = ThreadPoolExecutor(1), client.get_executor(), processes()
    for executor in (closed, shut, broken):
        executor.shutdown()
        with pytest.raises(ExecutorError, match=r"takes no tasks .RuntimeError: cannot schedule"):
            run(executor=executor, out=out)
    for executor in ("dask", 4, object()):
        with pytest.raises(OptionError, match=f"executor={re.escape(repr(executor))}: give a"):
            run(executor=executor, out=out)
    gone = Client(client.scheduler.address, set_as_default=False)
    gone.close()
    with pytest.raises(ExecutorError, match="takes no tasks"):
        run(executor=gone, out=out)
    for options in ({"out": out}, {"executor": client}):
        with pytest.raises(OptionError, match=r"workers_write=True needs executor= .* and out="):
            run(workers_write=True, **options)
    assert not out.exists()


def test_what_cannot_be_pickled_is_named(client):
    trap = Trap("fail", Path())
    object.__setattr__(trap, "file", (one for one in ()))
    with pytest.raises(OptionError, match=r"2/2 effect=0\.3 cannot be handed to another process"):
        run(trap, executor=client)


def test_workers_of_other_versions_are_refused():
    found = executors._worked(max, 1, 2, {"jax": "0.0", "numpy": np.__version__})
    assert found.kind is ExecutorError
    assert (
        found.text.startswith("a worker has the versions {'jax': '") and "numpy" not in found.text
    )


def test_what_a_worker_wrote_elsewhere_is_missed(undisturbed, monkeypatch):
    folder = undisturbed._store
    monkeypatch.setattr(hlm.storage.folder, "PATIENCE", 0.0)
    with pytest.raises(hlm.errors.FileError, match="does not see: give a folder on a file system"):
        folder.files.wait_for(folder.chunks()[0]._replace(last=7))


@pytest.fixture(scope="module")
def fit():
    return hlm.fit(FORMULA, SLEEP)


@pytest.fixture(scope="module")
def Y(fit):
    Y = fit.simulate(B, seed=1).to_numpy(copy=True)
    Y[3, 5] = np.nan
    Y[:, 7] = np.nan
    return Y


@pytest.fixture
def short_runs(monkeypatch):
    """Many tasks, and several files."""
    monkeypatch.setattr(storing, "FILE_BYTES", 2**13)
    monkeypatch.setattr(chunks, "MAX_LANES", 16)
    monkeypatch.setattr(frames, "LANES", 16)


def fits_of(what, fit, Y, tmp, **options):
    """The fits of some call, in memory or in a folder."""
    failed = pytest.warns(errors.ConvergenceWarning, match=f"1 of {B} fits failed")
    if what == "simulate":
        return hlm.simulate(fit, n=B, seed=1).fit(**options)
    if what == "rows":
        return hlm.simulate(fit, n=B, seed=1, statistics=False).fit(**options)
    if what == "weights":
        weights = np.random.default_rng(1).uniform(0.5, 2.0, Y.shape)
        return hlm.fit_many(FORMULA, SLEEP, Y[:, 8:], weights=weights[:, 8:], **options)
    if what in ("responses", "single", ".npy"):
        if what == "single":
            Y = Y.astype(np.float32)
        if what == ".npy":
            np.save(tmp / "Y.npy", Y)
            Y = str(tmp / "Y.npy")
        with failed:
            return hlm.fit_many(FORMULA, SLEEP, Y, **options)
    if what in ("frame", "factors"):
        frame = pd.concat([SLEEP.assign(Reaction=Y[:, k], rep=k) for k in range(8, 56)])
        if what == "frame":
            frame["Subject"] = frame["Subject"].astype(int)
        else:
            frame["rep"] = "r" + frame["rep"].astype(str)
        return hlm.fit_many(FORMULA, frame, by="rep", **options)
    found = hlm.bootstrap(fit, B, what, 1, **options)
    return found.fits if isinstance(found, hlm.Bootstrap) else found


KINDS = [
    "simulate", "rows", "responses", "single", ".npy", "weights", "frame", "factors",
    "parametric", "residual", "cases", "wild",
]  # fmt: skip
IN_MEMORY = ("responses", "single")


def assert_same_fits(fits, expected, rtol=0.0):
    """The same bits, or numbers to rounding; labels and sizes."""
    assert fits.index.equals(expected.index)
    for name, values in vars(expected.record.estimates).items():
        found = getattr(fits.record.estimates, name)
        if rtol == 0.0 or name not in ("iterations", "gradient_norm"):
            np.testing.assert_allclose(found, values, rtol=rtol, atol=rtol, err_msg=name)
    for name in ("nobs", "ngroups"):
        assert np.array_equal(getattr(fits, name), getattr(expected, name))


@pytest.mark.parametrize("what", KINDS)
@pytest.mark.usefixtures("short_runs")
def test_fits_by_workers_are_the_same(what, client, fit, Y, tmp_path):
    expected = fits_of(what, fit, Y, tmp_path)
    found = fits_of(what, fit, Y, tmp_path, executor=client)
    # Where responses lie in memory moves the last bits of sums over them.
    assert_same_fits(found, expected, BATCH if what in IN_MEMORY else 0.0)
    written = []
    for write in (False, True):
        out = tmp_path / str(write)
        stored = fits_of(what, fit, Y, tmp_path, out=out, executor=client, workers_write=write)
        assert_same_fits(stored[:], found)
        assert stored.counts.equals(expected.counts)
        written.append(files_in(out))
    assert written[0] == written[1] and len(written[0]) > 1
    if what not in IN_MEMORY:
        fits_of(what, fit, Y, tmp_path, out=tmp_path / "alone")
        assert files_in(tmp_path / "alone") == written[0]


def breaks():
    raise BrokenProcessPool("a process was terminated abruptly")


def breaking(after):
    """Threads that break after some tasks, as a pool of processes does that is killed."""

    class Breaking(ThreadPoolExecutor):
        left = after

        def submit(self, *task):
            self.left -= 1
            return super().submit(*task if self.left >= 0 else (breaks,))

    return Breaking(1)


@pytest.mark.usefixtures("short_runs")
def test_what_is_fitted_when_workers_are_lost_is_kept(fit, Y, tmp_path):
    expected, out = hlm.simulate(fit, n=B, seed=1).fit(), tmp_path / "out"
    with breaking(3) as pool, pytest.warns(errors.InterruptedFitsWarning, match="lost a worker"):
        found = hlm.simulate(fit, n=B, seed=1).fit(executor=pool)
    assert_same_fits(found, expected[: len(found)])
    assert 0 < len(found) < B
    for write in (False, True):
        told = r"lost a worker.*Broken.*; \d+ of 96 fits are finished and in .*resume=True$"
        with breaking(2 if write else 4) as pool, pytest.raises(ExecutorError, match=told):
            hlm.simulate(fit, n=B, seed=1).fit(executor=pool, out=out, workers_write=write)
        done = hlm.read_fits(out)
        assert_same_fits(done[:], expected[: len(done)])
        again = hlm.simulate(fit, n=B, seed=1).fit(out=out, resume=True)
        assert_same_fits(again[:], expected)
        out = tmp_path / "other"


def test_devices_are_those_of_the_workers(fit, client):
    drawn = hlm.simulate(fit, n=20, seed=1)
    with pytest.raises(OptionError, match="the workers of this executor have devices of their own"):
        drawn.fit(executor=client, devices=jax.devices())
    with pytest.raises(OptionError, match=r"^data sets \d+ to \d+: devices=99: JAX has"):
        drawn.fit(executor=client, devices=99)
    with pytest.raises(OptionError, match=r"^data sets \d+ to \d+: precision='float32' is for"):
        drawn.fit(executor=client, precision="float32")


def test_a_part_of_the_data_sets_is_a_share_for_a_process(fit):
    drawn = hlm.simulate(fit, n=40, seed=1)
    share = drawn.part(10, 25)
    assert_same_fits(share.fit(), drawn.fit()[10:25], BATCH)
    for first, last in ((3, 3), (-1, 2), (4, 2)):
        with pytest.raises(OptionError, match="first"):
            drawn.part(first, last)


def carried(values, run=slice(2, 4)):
    return pickle.loads(pickle.dumps(Carried.of(values, run)))


def test_of_a_mapped_file_only_the_path_travels(tmp_path):
    values = np.arange(60.0).reshape(6, 10)
    file = tmp_path / "Y.npy"
    for order in "CF":
        np.save(file, np.asarray(values, order=order))
        for mapped in (np.load(file, mmap_mode="r"), map_array(file)):
            sent = carried(mapped)
            assert not isinstance(sent.values, np.ndarray)
            assert np.array_equal(sent.responses, values[:, 2:4])
            rows = Responses(mapped, np.array([5, 0]))
            assert np.array_equal(carried(rows).responses[:, :], values[[5, 0], 2:4])
    np.save(file, values + 1.0)
    with pytest.raises(errors.FileError, match=r"Y\.npy holds other responses for this worker"):
        _ = sent.responses
    file.unlink()
    with pytest.raises(errors.FileError, match=r"Y\.npy"):
        _ = sent.responses


def test_columns_of_a_parquet_file_travel_themselves(fit, Y, tmp_path):
    few = pd.DataFrame(Y[:, 8:20], columns=[f"r{k}" for k in range(12)])
    few.to_parquet(tmp_path / "Y.parquet")
    with ThreadPoolExecutor(1) as pool:
        found = hlm.fit_many(FORMULA, SLEEP, tmp_path / "Y.parquet", executor=pool)
    np.testing.assert_allclose(found.fixef, hlm.fit_many(FORMULA, SLEEP, few).fixef, rtol=BATCH)


def test_parts_of_a_mapped_file_and_changed_ones_travel_themselves(tmp_path):
    values = np.arange(60.0).reshape(6, 10)
    np.save(tmp_path / "Y.npy", values)
    mapped, changed = (np.load(tmp_path / "Y.npy", mmap_mode=mode) for mode in "rc")
    changed[0, 2] = 7.0
    for part in (mapped[1:], mapped[:, 1:], mapped[::2], mapped.T, np.asarray(mapped)[1:], changed):
        sent = carried(part)
        assert isinstance(sent.values, np.ndarray)
        assert np.array_equal(sent.responses, part[:, 2:4])


SHARE = """
import sys
import jax, numpy as np
jax.distributed.initialize(sys.argv[1], num_processes=2, process_id=int(sys.argv[2]))
from jax.experimental import multihost_utils
import jaxhlm as hlm
fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", hlm.load_dataset("sleepstudy"))
drawn = hlm.simulate(fit, n=40, seed=1)
i, of = jax.process_index(), jax.process_count()
share = drawn.part(i * 40 // of, (i + 1) * 40 // of)
with jax.enable_x64(True):
    beta = multihost_utils.process_allgather(share.fit().fixef.to_numpy(), tiled=True)
devices = None if i else jax.local_device_count()
share.fit(devices=devices, out=f"{sys.argv[3]}/{i}")
np.save(f"{sys.argv[3]}/{i}.npy", beta)
assert len(jax.devices()) == 2 * len(jax.local_devices())
"""


def test_processes_of_jax_distributed_fit_a_share_each(fit, tmp_path):
    """On devices of their own, one of them; gathered by JAX's collectives, or a folder each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu"}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", SHARE, address, str(i), str(tmp_path)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    said = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    expected = hlm.simulate(fit, n=40, seed=1).fit()
    for i in range(2):
        gathered = np.load(tmp_path / f"{i}.npy")
        np.testing.assert_allclose(gathered, expected.fixef, rtol=BATCH)
        stored = hlm.read_fits(tmp_path / str(i))[:].fixef
        np.testing.assert_allclose(stored, expected.fixef[20 * i : 20 * i + 20], rtol=BATCH)


# The last: Dask does not replace a worker that dies while it is started.
def test_workers_that_die_of_a_task_again_and_again(client, undisturbed, tmp_path):
    """Dask gives up, and so do we, saying how to go on."""
    flag, out = tmp_path / "flag", tmp_path / "out"
    flag.touch()
    told = r"condition 2/2 .*KilledWorker.* \d of 10 chunks are finished and kept in .*resume=T"
    with pytest.raises(ExecutorError, match=told):
        run(Trap("kill", flag), executor=client, out=out)
    flag.unlink()
    assert_resumes(out, undisturbed)
