"""Work shared out: the same bits whoever works, workers and clients that are killed, failures."""

import os
import re
import signal
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import dask
import loky
import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster

import jaxhlm as hlm
from jaxhlm.errors import ExecutorError, OptionError, TaskError
from jaxhlm.estimation import executors
from jaxhlm.violations.violation import Violation

DATA = hlm.load_dataset("article").query("unit <= 8 and x < 0.5").reset_index(drop=True)
METHODS = [hlm.Method("t"), hlm.Method("two", estimator="two_stage")]
N, CHUNK = 40, 8
CHUNKS = 2 * N // CHUNK


@dataclass(frozen=True)
class Trap(Violation):
    """Violates nothing. Workers that come here are killed, or fail, as long as there is a file."""

    how: str
    file: Path
    once: bool = False
    home: int = field(default_factory=os.getpid)

    def residuals(self, panel, e, numbers):
        if os.getpid() != self.home and self.file.exists():
            with self.file.open("a") as file:
                file.write(f"{os.getpid()}\n")
            if self.once:
                self.file.rename(self.file.with_suffix(".sprung"))
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ZeroDivisionError("nothing to divide by")
        return e


def mechanism(effect, trap=None):
    truth = hlm.Truth.of([1, 3, -0.15, effect], sd=[0.2, 0.5], corr=0.9, sigma=0.75)
    formula = "y ~ x * a + (1 + x | unit)"
    return hlm.mechanism(formula, DATA, truth, [trap] if trap and effect else [])


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


def contents(study):
    return {p.name: p.read_bytes() for p in (study._store.path / "estimates").iterdir()}


@pytest.fixture(scope="module")
def client():
    """Two worker processes over TCP, which give up on a task that two of them died of."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
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
