"""Ctrl-C: what is finished comes back and says that it is a part, or the interrupt is raised."""

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_info

import jaxhlm as hlm
from cases import FORMULA, TRUTH
from jaxhlm import violations as v
from jaxhlm.cli.main import main
from jaxhlm.core import chunks
from jaxhlm.core.written_tables import write_table
from jaxhlm.errors import ConvergenceWarning, DeviceError, InterruptedFitsWarning
from jaxhlm.estimation import pipeline
from jaxhlm.estimation.pipeline import all_or_nothing
from jaxhlm.sources import frames
from jaxhlm.studies import power
from tolerances import BATCH

N, CHUNK = 12, 4


def article():
    return hlm.load_dataset("article")


def rows():
    """Complete responses, incomplete ones among them."""
    design = hlm.design("~ x * a + (1 + x | unit)", article())
    Y = hlm.simulate(design, TRUTH, N, seed=1, statistics=False).rows().copy()
    Y[3, [1, 5, 9, 10, 11]] = np.nan
    return Y


def mechanism(*wrong):
    return hlm.mechanism(FORMULA, article().drop(columns="y"), TRUTH, list(wrong))


def redrawn():
    units = hlm.units(n=30, within={"x": range(3)}, between={"a": np.arange(30.0)}, redraw=True)
    return hlm.mechanism(FORMULA, units, TRUTH, [v.MissingCompletely(0.1)])


def by_replicate():
    frame = hlm.mechanism(FORMULA, article().drop(columns="y"), TRUTH).draw(0, N, 1).frame()
    return hlm.fit_many(FORMULA, frame, by="replicate", progress=False)


PARTIAL = {
    "fit_many": lambda: hlm.fit_many(FORMULA, article(), responses=rows(), progress=False),
    "fit_many by": by_replicate,
    "simulate": lambda: hlm.simulate(
        hlm.design("~ x * a + (1 + x | unit)", article()), TRUTH, N, seed=1
    ).fit(progress=False),
    "bootstrap": lambda: (
        hlm.bootstrap(hlm.fit(FORMULA, article()), N, "cases", seed=1, progress=False).fits
    ),
    "drawn": lambda: mechanism(v.MissingAtRandom("x", 0.1)).draw(0, N, 1).fit(),
    "redrawn": lambda: redrawn().draw(0, N, 1).fit(),
}
STUDIED = mechanism(v.MissingAtRandom("x", 0.1))
# How many of N things came back, and all that says so.
COUNTED = {
    "bootstrap_lrt": (
        lambda: hlm.bootstrap_lrt(
            hlm.fit("y ~ x + a + (1 + x | unit)", article(), reml=False),
            hlm.fit(FORMULA, article(), reml=False),
            N,
            seed=1,
        ),
        lambda test: {test.n, test.n_ok, len(test.statistics)},
    ),
    "power": (
        lambda: hlm.power(mechanism(), "x:a", n=N, seed=1, progress=False),
        lambda found: {found.table["n"].item()},
    ),
    "power in parts": (
        lambda: hlm.power(redrawn(), "x:a", n=N, seed=1, progress=False),
        lambda found: {found.table["n"].item()},
    ),
    "power_curve": (
        lambda: hlm.power_curve(
            mechanism(), "x:a", "units", range(30, 30 + N), n=3, seed=1, progress=False
        ),
        lambda curve: {len(curve), curve["units"].nunique()},
    ),
    "study": (
        lambda: hlm.study(None, {"a": STUDIED}, n=N, seed=1, chunk=1, progress=False),
        lambda study: {study.counts["replicates"].sum(), study.estimates["replicate"].nunique()},
    ),
}
WHOLE = {
    "confint": lambda: hlm.fit(FORMULA, article()).confint("boot", n=N, seed=1),
    "solve_power": lambda: hlm.solve_power(mechanism(), "x:a", 0.5, bounds=(10, 40), n=N, seed=1),
}


@pytest.fixture
def interrupted_after(monkeypatch):
    """Make Ctrl-C come after so many chunks, of all runs over chunks together."""
    monkeypatch.setattr(chunks, "MAX_LANES", CHUNK)
    monkeypatch.setattr(frames, "LANES", CHUNK)
    real = chunks.in_order

    def after(count, stop=_interrupt):
        done = [0]

        def in_order(one, runs):
            for part in real(one, runs):
                if done[0] == count:
                    stop()
                done[0] += 1
                yield part

        monkeypatch.setattr(pipeline, "in_order", in_order)
        return done

    return after


@pytest.fixture(scope="module")
def complete():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return {name: go() for name, go in PARTIAL.items()}


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.ConvergenceWarning")
@pytest.mark.parametrize("name", PARTIAL)
def test_what_is_finished_comes_back(name, interrupted_after, complete):
    def check(fits, partial):
        assert bool(partial) == (len(fits) < N)
        _same(fits, complete[name])
        return len(fits)

    _interrupted_everywhere(PARTIAL[name], check, interrupted_after)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::jaxhlm.errors.ConvergenceWarning")
@pytest.mark.parametrize("name", COUNTED)
def test_what_is_finished_counts(name, interrupted_after, monkeypatch):
    monkeypatch.setattr(power, "MOST_NUMBERS", 4 * 90)
    work, count = COUNTED[name]

    def check(result, partial):
        (finished,) = count(result)
        assert len(partial) == (finished < N)
        assert all(f"{finished} of {N} " in text for text in partial)
        return finished

    _interrupted_everywhere(work, check, interrupted_after)


def _interrupted_everywhere(work, check, interrupted_after):
    """Ctrl-C after every chunk: ``check`` looks at the result and what was said, and counts it."""
    counts = []
    for position in range(4 * N):
        done = interrupted_after(position)
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                result = work()
        except KeyboardInterrupt:
            counts.append(0)
            continue
        partial = [str(w.message) for w in said if w.category is InterruptedFitsWarning]
        counts.append(check(result, partial))
        if done[0] < position:
            break
    assert counts == sorted(counts)
    assert counts[0] == 0 and counts[-1] == N and len(set(counts)) > 2


def test_a_study_in_a_folder_says_how_to_go_on(interrupted_after, monkeypatch, tmp_path):
    options = {"n": N, "seed": 1, "chunk": 3, "out": tmp_path / "kept", "progress": False}
    interrupted_after(3)
    with pytest.warns(InterruptedFitsWarning, match=r"of 12 data sets .*in .*kept, .*resume=True"):
        part = hlm.study(None, {"a": STUDIED}, **options)
    monkeypatch.undo()
    assert 0 < part.counts["replicates"].sum() < N
    whole = hlm.study(None, {"a": STUDIED}, resume=True, **options)
    assert whole.counts["replicates"].tolist() == [N]
    assert part.estimates.equals(whole.estimates.head(len(part.estimates)))


@pytest.mark.parametrize("name", COUNTED)
def test_the_command_line_takes_no_part_for_the_whole(name, interrupted_after):
    interrupted_after(1)
    with all_or_nothing(), pytest.raises(KeyboardInterrupt):
        COUNTED[name][0]()


def _same(fits, complete):
    """The fits that came back are those of their labels."""
    where = complete.index.get_indexer(fits.index)
    np.testing.assert_allclose(fits.fixef, complete.fixef.iloc[where], rtol=BATCH)
    np.testing.assert_array_equal(fits.nobs, complete.nobs[where])
    assert len(fits.tidy()) == 8 * len(fits)


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.ConvergenceWarning")
@pytest.mark.parametrize("name", WHOLE)
def test_a_part_that_is_of_no_use_is_not_taken_for_the_whole(name, interrupted_after):
    for position in range(4):
        done = interrupted_after(position)
        try:
            WHOLE[name]()
        except KeyboardInterrupt:
            assert done[0] == position
        else:
            assert done[0] <= position


def test_an_interrupt_that_was_dropped_comes_again(monkeypatch, capsys, tmp_path):
    """As in a destructor, where Python prints what is raised and goes on."""

    def deaf(*_, **__):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            # Python handles a signal between two calls: many short ones.
            for _ in range(2000):
                time.sleep(0.01)
        raise AssertionError("it went on")

    monkeypatch.setattr("jaxhlm.cli.fit.fit", deaf)
    monkeypatch.setattr("jaxhlm.cli.main.AGAIN_AFTER", 0.2)
    article().to_csv(tmp_path / "a.csv", index=False)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert main(["fit", FORMULA, str(tmp_path / "a.csv")]) == 130
    assert capsys.readouterr().err == "jaxhlm: interrupted\n"
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_commands_say_so_and_exit_with_130(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("jaxhlm.cli.fit.fit", _interrupt)
    article().to_csv(tmp_path / "a.csv", index=False)
    before = signal.getsignal(signal.SIGTERM)
    assert main(["fit", FORMULA, str(tmp_path / "a.csv")]) == 130
    assert capsys.readouterr().err == "jaxhlm: interrupted\n"
    assert signal.getsignal(signal.SIGTERM) is before


def _interrupt(*_, **__):
    raise KeyboardInterrupt


COMMANDS = {
    "bootstrap": (["bootstrap", FORMULA, "a.csv", "--n", "12", "--method", "cases", "--seed", "1"],
                  2, "4 of 12 fits", 4),
    "responses": (["fit", FORMULA.removeprefix("y "), "a.csv", "--responses", "y.npy",
                   "--df", "none"], 2, "8 of 12 fits", 64),
    "by": (["fit", FORMULA, "by.csv", "--by", "replicate", "--df", "none"], 1, "4 of 12 fits", 32),
    "power": (["power", FORMULA, "a.csv", "--beta=1,3,-0.15,0.3", "--sd", "0.2,0.5", "--sigma", "1",
               "--test", "x:a", "--values", "30,60", "--n", "12", "--seed", "1"],
              4, "1 of 2 values of units", 1),
}  # fmt: skip


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.cpu_count", lambda: 1)  # there are as many chunks everywhere
    article().to_csv("a.csv", index=False)
    np.save("y.npy", rows())
    frame = hlm.mechanism(FORMULA, article().drop(columns="y"), TRUTH).draw(0, N, 1).frame()
    frame.to_csv("by.csv", index=False)


def _signal():
    signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.ConvergenceWarning")
@pytest.mark.parametrize("name", COMMANDS)
def test_commands_write_what_is_finished(name, files, interrupted_after, capsys):
    """The first rows of what they would have written, and say how much of it that is."""
    arguments, chunk, told, count = COMMANDS[name]
    interrupted_after(100)
    assert main([*arguments, "--out", "whole.csv"]) == 0
    capsys.readouterr()
    interrupted_after(chunk, _signal)
    assert main([*arguments, "--out", "part.csv"]) == 130
    said = capsys.readouterr()
    assert f"jaxhlm: interrupted: {told} are finished\n" in said.err
    assert "part.csv" in said.out
    part, whole = pd.read_csv("part.csv"), pd.read_csv("whole.csv")
    assert len(part) == count < len(whole)
    pd.testing.assert_frame_equal(part, whole.head(count), rtol=BATCH)


def test_what_is_finished_has_time_to_be_written(files, interrupted_after, monkeypatch):
    """Longer than a command has that does not heed an interrupt."""

    def slow(*arguments):
        for _ in range(60):
            time.sleep(0.01)
        write_table(*arguments)

    monkeypatch.setattr("jaxhlm.cli.main.AGAIN_AFTER", 0.2)
    monkeypatch.setattr("jaxhlm.cli.bootstrap.write_table", slow)
    interrupted_after(2, _signal)
    assert main([*COMMANDS["bootstrap"][0], "--out", "part.csv"]) == 130
    assert len(pd.read_csv("part.csv")) == CHUNK


def test_a_lost_device_is_no_interrupt(files, interrupted_after, capsys):
    def lost():
        raise DeviceError("device 0 is lost")

    interrupted_after(2, lost)
    assert main([*COMMANDS["bootstrap"][0], "--out", "part.csv"]) == 2
    assert "jaxhlm: device 0 is lost: 4 of 12 fits are finished\n" in capsys.readouterr().err
    assert len(pd.read_csv("part.csv")) == CHUNK


STUDY = """
formula = "y ~ x * a + (1 + x | unit)"
n = 100000
seed = 1
chunk = 50

[design]
data = "article.csv"

[truth]
beta = [1, 3, -0.15, 0.3]
sd = [0.2, 0.5]
corr = 0.9
sigma = 0.75

[[methods]]
name = "t"
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_study_that_can_be_gone_on_with(which, tmp_path):
    article().drop(columns="y").to_csv(tmp_path / "article.csv", index=False)
    (tmp_path / "study.toml").write_text(STUDY)
    command = [sys.executable, "-m", "jaxhlm", "study", "study.toml", "--out", "done"]
    running = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    try:
        deadline = time.time() + 120
        while len(list(tmp_path.glob("done/estimates/*.parquet"))) < 2:
            assert running.poll() is None, running.communicate()[1]
            assert time.time() < deadline
            time.sleep(0.1)
        running.send_signal(which)
        _, said = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 130
    assert said.endswith("jaxhlm: interrupted; what is finished is in done: go on with --resume\n")


def test_threads_leave_blas_as_it_was():
    before = [one["num_threads"] for one in threadpool_info()]
    data, Y = article(), rows()
    threads = [
        threading.Thread(target=lambda: hlm.fit_many(FORMULA, data, responses=Y, progress=False))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one["num_threads"] for one in threadpool_info()] == before


def test_a_command_whose_interrupt_was_dropped_is_interrupted_at_its_end(monkeypatch, capsys):
    def deaf(*_):
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("jaxhlm.cli.main._info", deaf)
    assert main(["info"]) == 130
    assert capsys.readouterr().err == "jaxhlm: interrupted\n"
