"""Studies: killed and gone on with, shared out, refused, stopped; and their TOML and commands."""

import errno
import os
import shutil
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
from jaxhlm.cli.main import main
from jaxhlm.errors import (
    JaxhlmError,
    OptionError,
    RankDeficientWarning,
    StudyFileError,
    StudyFolderError,
    UnsupportedTermError,
)
from jaxhlm.storage import lock
from jaxhlm.storage.lock import locked
from jaxhlm.storage.manifest import read_manifest, write_manifest
from jaxhlm.studies.study import STUDY
from jaxhlm.studies.studyfile import read_study_file
from jaxhlm.studies.tomltext import line_of
from tolerances import BATCH_DF, ESTIMATE

DATA = hlm.load_dataset("article").query("unit <= 8 and x < 0.5").reset_index(drop=True)
# With rows of their own and chunks this small everything runs in NumPy: nothing is compiled.
METHODS = [hlm.Method("t"), hlm.Method("two", estimator="two_stage")]
GRID = {"effect": [0.0, 0.3], "sigma": [0.5, 1.0]}
N, CHUNK = 48, 8


def mechanism(effect, sigma):
    truth = hlm.Truth.of([1, 3, -0.15, effect], sd=[0.2, 0.5], corr=0.9, sigma=sigma)
    return hlm.mechanism("y ~ x * a + (1 + x | unit)", DATA, truth)


def run(**options):
    return hlm.study(GRID, mechanism, METHODS, **{"n": N, "seed": 3, "chunk": CHUNK, **options})


@pytest.fixture(scope="module")
def undisturbed():
    return run().estimates


def test_frames_are_tidy(undisturbed):
    assert list(undisturbed.columns) == [
        "effect", "sigma", "condition", "replicate", "method", "term", "truth", "estimate",
        "std_error", "df", "p_value", "conf_low", "conf_high", "status",
    ]  # fmt: skip
    assert len(undisturbed) == 4 * N * 2 * 4
    keys = undisturbed[["condition", "replicate", "method", "term"]]
    assert not keys.duplicated().any()
    own = undisturbed[undisturbed["term"] == "x:a"]
    assert (own["truth"] == own["effect"]).all()
    conditions = undisturbed[["condition", "effect", "sigma"]].drop_duplicates()
    assert conditions["effect"].tolist() == [0.0, 0.0, 0.3, 0.3]


def test_methods_are_paired_and_conditions_are_not(undisturbed):
    """Both methods see the same data; no two data sets are the same."""
    wide = undisturbed.query("term == 'x:a'").pivot_table(
        "estimate", ["condition", "replicate"], "method"
    )
    assert wide.corr().loc["t", "two"] > 0.8
    assert wide["t"].nunique() == len(wide)
    by_condition = wide["t"].unstack("condition")
    assert (by_condition.corr().to_numpy()[np.triu_indices(4, 1)] < 0.6).all()


def test_a_chunk_is_the_data_sets_of_its_seed(undisturbed):
    """What the documentation says: data set i of condition c depends on (seed, c, i) only."""
    later = run(n=2 * CHUNK, chunk=2 * CHUNK).estimates
    keys = ["condition", "method", "replicate", "term"]
    first = undisturbed[undisturbed["replicate"] < 2 * CHUNK].sort_values(keys, ignore_index=True)
    later = later.sort_values(keys, ignore_index=True)
    for column in ("estimate", "std_error"):
        np.testing.assert_allclose(first[column], later[column], rtol=ESTIMATE)
    np.testing.assert_allclose(first["df"], later["df"], rtol=BATCH_DF)


def test_an_executor_does_not_change_a_bit(undisturbed):
    with ThreadPoolExecutor(3) as pool:
        pd.testing.assert_frame_equal(run(executor=pool).estimates, undisturbed, check_exact=True)


def test_processes_work_on_chunks(undisturbed, tmp_path):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        made = run(executor=pool, out=tmp_path / "study")
    pd.testing.assert_frame_equal(made.estimates, undisturbed, check_exact=True)


@pytest.fixture
def forkserver(monkeypatch):
    """Processes that need not import JAX again, so that many can be killed."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def progress_of(out):
    """Number of chunks, or −1 before there is a folder."""
    return len(list(out.glob("estimates/*.parquet"))) if out.exists() else -1


def kill_a_run(context, out, progress, rng):
    """Start or resume the study in another process; kill -9 up to 30 ms after it got so far."""
    process = context.Process(target=run, kwargs={"out": out, "resume": True})
    process.start()
    deadline = time.monotonic() + 120
    while progress_of(out) < progress and process.is_alive():
        assert time.monotonic() < deadline
        time.sleep(0.0002)
    # Cubed: most often at once, when a file that is not written in one go would be half there.
    time.sleep(0.03 * rng.uniform() ** 3)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL


def test_killed_at_random_moments_and_resumed_it_gives_the_same_bits(
    undisturbed, tmp_path, forkserver
):
    """At the start, as the folder is made, and wherever the work is after some random chunks."""
    rng, out, written = np.random.default_rng(6), tmp_path / "study", {}
    for progress in [-1, 0, *np.sort(rng.choice(np.arange(1, 23), 5, replace=False))]:
        kill_a_run(forkserver, out, progress, rng)
        done = list(out.glob("estimates/*.parquet"))
        assert progress <= progress_of(out) < 4 * N // CHUNK
        assert {path: path.stat().st_mtime_ns for path in written} == written
        written = {path: path.stat().st_mtime_ns for path in done}
        if done:
            assert len(hlm.read_study(out).estimates) == len(done) * CHUNK * 2 * 4
    (out / "estimates" / ".half.parquet.1.tmp").write_bytes(b"PAR1")
    made = run(out=out, resume=True)
    pd.testing.assert_frame_equal(made.estimates, undisturbed, check_exact=True)
    pd.testing.assert_frame_equal(hlm.read_study(out).estimates, undisturbed, check_exact=True)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert not list(out.rglob("*.tmp"))


def test_two_at_once_do_not_mix(undisturbed, tmp_path, forkserver):
    """The second is refused and told whose folder it is; a dead owner keeps nobody out."""
    out = tmp_path / "study"
    child = forkserver.Process(target=run, kwargs={"out": out, "resume": True})
    child.start()
    try:
        deadline = time.monotonic() + 120
        while progress_of(out) < 1 and child.is_alive():
            assert time.monotonic() < deadline
            time.sleep(0.0002)
        os.kill(child.pid, signal.SIGSTOP)
        message = f"{out} is being written to by process {child.pid} on .*; let it finish"
        before = listing(out)
        for resume in (True, False):
            with pytest.raises(StudyFolderError, match=message):
                run(out=out, resume=resume)
        assert listing(out) == before
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.join()
    assert (out / ".lock").exists()
    made = run(out=out, resume=True)
    pd.testing.assert_frame_equal(made.estimates, undisturbed, check_exact=True)
    assert sorted(p.name for p in out.iterdir()) == ["estimates", "manifest.json"]


def test_threads_of_one_process_do_not_mix_either(tmp_path):
    with locked(tmp_path), pytest.raises(StudyFolderError, match=f"{os.getpid()}, this one"):
        run(out=tmp_path)
    assert len(run(n=8, out=tmp_path).chunks) == 4


def test_no_lock_no_study(tmp_path, monkeypatch):
    """Where the file system has no locks, or the file was removed by the one who held it."""
    real = lock.fcntl.lockf

    def removed(file, how):
        monkeypatch.setattr(lock.fcntl, "lockf", real)
        (tmp_path / ".lock").unlink()
        real(file, how)

    monkeypatch.setattr(lock.fcntl, "lockf", removed)
    with locked(tmp_path):
        assert str(os.getpid()) in (tmp_path / ".lock").read_text()

    def none(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "lockf", none)
    with pytest.raises(StudyFolderError, match=r"cannot be locked \(No locks available\)"):
        run(out=tmp_path)


class Msvcrt:
    """The lock of Windows by that of POSIX, which has the same rules for one byte."""

    LK_NBLCK = 2

    @staticmethod
    def locking(descriptor, how, size):
        assert how == Msvcrt.LK_NBLCK
        exclusive = lock.fcntl.LOCK_EX | lock.fcntl.LOCK_NB
        lock.fcntl.lockf(descriptor, exclusive, size, 0, os.SEEK_CUR)


def lock_as_on_windows(folder, pipe):
    """Hold the lock until told to let go; a file that is open cannot be removed."""
    unlink = Path.unlink

    def refuses(path, missing_ok=False):
        if any(Path(f).samefile(path) for f in Path("/proc/self/fd").iterdir() if f.exists()):
            raise PermissionError(errno.EACCES, "used by another process")
        unlink(path, missing_ok)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lock, "_WINDOWS", True)
        patch.setattr(lock, "msvcrt", Msvcrt, raising=False)
        patch.setattr(Path, "unlink", refuses)
        with locked(folder):
            pipe.send(os.getpid())
            pipe.recv()
    pipe.send("let go")


def test_windows_locks_too(tmp_path, forkserver, monkeypatch):
    here, there = forkserver.Pipe()
    child = forkserver.Process(target=lock_as_on_windows, args=(tmp_path, there))
    child.start()
    there.close()
    try:
        assert here.recv() == child.pid
        with monkeypatch.context() as patch:
            patch.setattr(lock, "_WINDOWS", True)
            patch.setattr(lock, "msvcrt", Msvcrt, raising=False)
            with pytest.raises(StudyFolderError, match=f"by process {child.pid} on .*; let it fin"):
                run(out=tmp_path)
        here.send("let go")
        assert here.recv() == "let go"
        assert not (tmp_path / ".lock").exists()
    finally:
        child.kill()
        child.join()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "out"
    run(out=out)
    return out


def listing(folder):
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*")}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "24 of 24 chunks finished; go on with resume=True"),
        ({"resume": True, "seed": 4}, "differs in seed \\(was 3, now 4\\)"),
        ({"resume": True, "n": 2 * N}, "differs in n \\(was 48, now 96\\), chunks"),
        ({"resume": True, "chunk": 6}, "differs in options, chunks"),
        ({"resume": True, "level": 0.9}, "differs in options"),
        ({"resume": True, "stop": {"bias": 0.1}}, "differs in options"),
    ],
)
def test_another_study_is_refused_and_nothing_is_touched(finished, options, message):
    before = listing(finished)
    with pytest.raises(StudyFolderError, match=message):
        run(out=finished, **options)
    assert listing(finished) == before


def test_another_truth_or_method_is_refused(finished):
    def other(effect, sigma):
        return mechanism(effect, sigma + 1e-4)

    options = {"n": N, "seed": 3, "chunk": CHUNK, "out": finished, "resume": True}
    with pytest.raises(StudyFolderError, match="differs in mechanisms"):
        hlm.study(GRID, other, METHODS, **options)
    with pytest.raises(StudyFolderError, match="differs in methods"):
        hlm.study(GRID, mechanism, METHODS[:1], **options)
    with pytest.raises(StudyFolderError, match="differs in conditions, mechanisms, chunks"):
        hlm.study({**GRID, "sigma": [0.5]}, mechanism, METHODS, **options)


def test_another_version_or_layout_is_refused(finished, tmp_path):
    manifest = read_manifest(finished / "manifest.json", STUDY)
    assert manifest["schema"] == 2
    assert set(manifest["versions"]) == {"jaxhlm", "jax", "jaxlib", "numpy", "scipy"}
    for change, message in (
        ({"versions": {**manifest["versions"], "numpy": "1.0"}}, "'numpy': '1.0'"),
        ({"schema": 99}, "manifest.json:2: schema: the layout 99"),
    ):
        copy = tmp_path / next(iter(change))
        shutil.copytree(finished, copy)
        write_manifest(copy / "manifest.json", {**manifest, **change})
        with pytest.raises(StudyFolderError, match=message):
            run(out=copy, resume=True)


def test_other_folders_are_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(StudyFolderError, match="not empty and holds no study"):
        run(out=tmp_path)
    with pytest.raises(StudyFolderError, match="is a file"):
        run(out=tmp_path / "thesis.txt")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(StudyFolderError, match="holds no study"):
        hlm.read_study(tmp_path)


def test_killed_before_the_manifest_was_written(tmp_path):
    (tmp_path / "estimates").mkdir()
    (tmp_path / ".manifest.json.77.tmp").write_text('{"sche')
    assert len(run(n=8, out=tmp_path).chunks) == 4


def test_a_broken_file_is_named(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    path = sorted(copy.glob("estimates/*.parquet"))[2]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StudyFolderError, match=path.name):
        _ = hlm.read_study(copy).estimates
    path.unlink()
    assert len(run(out=copy, resume=True).estimates) == 4 * N * 2 * 4


def test_a_fresh_seed_is_kept(tmp_path):
    made = hlm.study(None, {"a": mechanism(0.3, 1.0)}, METHODS, n=8, out=tmp_path / "s")
    again = hlm.study(None, {"a": mechanism(0.3, 1.0)}, METHODS, n=8, out=tmp_path / "s",
                      resume=True)  # fmt: skip
    pd.testing.assert_frame_equal(again.estimates, made.estimates)
    assert made.estimates["mechanism"].unique().tolist() == ["a"]


def test_stopping_is_decided_at_checkpoints(tmp_path):
    """The noisier conditions go on; killing and executors change nothing about it."""
    stop = {"bias": 0.08}
    whole = run(stop=stop)
    counts = whole.counts["replicates"].groupby("condition").first()
    assert set(counts) <= {8, 16, 32, 48}
    assert len(set(counts)) > 1
    for condition, count in counts.items():
        part = whole.estimates[whole.estimates["condition"] == condition]
        reached = (hlm.measures(part)["bias_mcse"] <= 0.08).all()
        assert reached or count == N
        if count > 8:
            earlier = part[part["replicate"] < (32 if count == 48 else count // 2)]
            assert (hlm.measures(earlier)["bias_mcse"] > 0.08).any()
    with ThreadPoolExecutor(2) as pool:
        same = run(stop=stop, executor=pool, out=tmp_path / "s")
    pd.testing.assert_frame_equal(same.estimates, whole.estimates, check_exact=True)
    for path in sorted((tmp_path / "s").glob("estimates/*.parquet"))[::2]:
        path.unlink()
    again = run(stop=stop, out=tmp_path / "s", resume=True)
    pd.testing.assert_frame_equal(again.estimates, whole.estimates, check_exact=True)


def test_measures_and_counts(finished):
    found = hlm.read_study(finished)
    table = found.measures()
    direct = hlm.measures(found.estimates)
    np.testing.assert_allclose(table["bias"], direct["bias"])
    assert list(table.columns[:5]) == ["effect", "sigma", "condition", "method", "term"]
    assert (table["n"] == N).all()
    pooled = found.measures(by=["sigma", "method", "term"], which=["bias"])
    assert (pooled["n"] == 2 * N).all()
    counts = found.counts
    assert (counts["replicates"] == N).all()
    assert (counts.drop(columns="replicates").sum(axis=1) == N).all()
    assert "4 conditions and 2 methods" in str(found)
    assert "4 conditions and 1 method (t)" in str(replace(found, methods=("t",)))


def test_progress_is_shown_when_asked_for(capsys):
    run(n=8, progress=True)
    shown = capsys.readouterr().err
    assert "condition 4/4 effect=0.3, sigma=1.0" in shown
    assert "32/32" in shown


def test_nominal_type_one_error_and_coverage():
    """Kenward-Roger and two stages hold their level on eight units; z and pooled rows do not."""
    methods = [hlm.Method("kr", df="kenward-roger"), hlm.Method("z", df="normal"),
               hlm.Method("ols", estimator="ols")]  # fmt: skip
    m = mechanism(0.0, 0.75)
    table = hlm.study(None, {"null": m}, methods, n=3000, chunk=1000, seed=1).measures()
    own = table[table["term"] == "x:a"].set_index("method")
    mcse = np.sqrt(0.05 * 0.95 / 3000)
    assert abs(own.loc["kr", "type_i"] - 0.05) < 3 * mcse
    assert abs(own.loc["kr", "coverage"] - 0.95) < 3 * mcse
    assert abs(own.loc["kr", "bias"]) < 3 * own.loc["kr", "bias_mcse"]
    # 0.094 of 400,000 data sets.
    assert own.loc["z", "type_i"] > 0.05 + 5 * mcse
    assert own.loc["ols", "type_i"] > own.loc["z", "type_i"]


@pytest.mark.parametrize(
    ("grid", "source", "message"),
    [
        ({}, mechanism, "grid of conditions is empty"),
        ({"effect": [], "sigma": [1]}, mechanism, "grid of conditions is empty"),
        ([], mechanism, "grid of conditions is empty"),
        (None, mechanism, "function of"),
        (None, {}, "mapping of mechanisms is empty"),
        ({"effect": "0.3"}, mechanism, "list of values"),
        ({"effect": [[1, 2]], "sigma": [1]}, mechanism, "give a number"),
        ({"term": [1]}, lambda term: None, "column already"),
        ([{"effect": 0, "sigma": 1}, {"sigma": 1}], mechanism, "same names"),
        ({"effect": [1, 1], "sigma": [1]}, mechanism, "equal"),
        ({"effect": [1]}, lambda effect: 3, "draws no data sets"),
        ({"effect": [1]}, {"a": mechanism(0, 1)}, "give functions .* lambda effect: "),
    ],
)
def test_bad_grids(grid, source, message):
    with pytest.raises(OptionError, match=message):
        hlm.study(grid, source, METHODS, n=8, seed=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n=0"),
        ({"chunk": 2.5}, "chunk=2.5"),
        ({"seed": -1}, "seed=-1"),
        ({"stop": {"fame": 1}}, "'bias', 'relative_bias'"),
        ({"stop": {"bias": 0}}, "cannot stop"),
        ({"level": 95}, "level=95"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(JaxhlmError, match=message):
        run(**options)


class Failing:
    """A mechanism whose second chunk cannot be drawn."""

    formula = "y ~ x * a + (1 + x | unit)"

    def draw(self, first, last, seed, rows):
        if first > 0:
            raise OptionError("enough")
        return mechanism(0, 1).draw(first, last, seed, rows)


def test_an_error_in_a_chunk_leaves_the_finished_ones(tmp_path):
    with pytest.raises(OptionError, match="enough"):
        hlm.study(None, {"good": mechanism(0, 1), "bad": Failing()}, METHODS, n=16, chunk=8, seed=1,
                  out=tmp_path / "s")  # fmt: skip
    assert len(hlm.read_study(tmp_path / "s").chunks) == 3


def test_what_cannot_be_is_found_before_all_work(tmp_path):
    """The second condition's line misses a within-unit term."""
    truth = hlm.Truth.of([1, 3], sd=[0.5], sigma=1.0)
    bad = hlm.mechanism("y ~ x + (1 | unit)", DATA, truth)
    message = "condition 2/2 mechanism=bad, method 'two': two_stage fits .* and x varies"
    with pytest.raises(UnsupportedTermError, match=message):
        hlm.study(None, {"good": mechanism(0, 1), "bad": bad}, METHODS, n=16, chunk=8, seed=1,
                  out=tmp_path / "s")  # fmt: skip
    assert not (tmp_path / "s").exists()


def test_failed_fits_are_counted_and_not_warned_of():
    """Nearly all responses are missing: no warning (they are errors here), whatever the chunk."""
    wrong = hlm.violations.MissingCompletely(0.97)
    truth = hlm.Truth.of([1, 3], sd=[0.2, 0.5], sigma=1.0)
    m = hlm.mechanism("y ~ x + (1 + x | unit)", DATA, truth, wrong)
    made = hlm.study(None, {"few": m}, n=24, chunk=8, seed=1)
    without = made.estimates["estimate"].isna().groupby(made.estimates["term"]).sum()
    assert made.measures()["n_failed"].tolist() == without.tolist()
    assert without.min() > 20
    deficient = [hlm.Method("a", "y ~ x + a + I(2 * a) + (1 | unit)")]
    with pytest.warns(RankDeficientWarning) as said:
        hlm.study(None, {"few": m}, deficient, n=24, chunk=8, seed=1)
    assert len(said) == 1


TOML = """\
formula = "y ~ x * a + (1 + x | unit)"
n = 16
seed = 1
chunk = 8

[design]
data = "design.csv"
units = 6

[truth]
beta = { "(Intercept)" = 1, x = 3, a = -0.15, "x:a" = 0.3 }
sd = [0.2, 0.5]
corr = 0.9
sigma = 0.75

[conditions]
units = [6, 8]
"beta[x:a]" = [0, 0.3]

[[methods]]
name = "t"

[[methods]]
name = "two"
estimator = "two_stage"
"""


@pytest.fixture
def toml(tmp_path):
    DATA.to_csv(tmp_path / "design.csv", index=False)
    path = tmp_path / "study.toml"
    path.write_text(TOML)
    return path


def test_a_study_file_is_run_and_resumed(toml, capsys):
    out = toml.parent / "out"
    assert main(["study", str(toml), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "Study of 4 conditions and 2 methods (t, two): 64 data sets" in printed
    measures = pd.read_csv(out / "measures.csv")
    assert measures["units"].unique().tolist() == [6, 8]
    first = hlm.read_study(out).estimates
    assert main(["study", str(toml), "--out", str(out)]) == 2
    assert "--resume" in capsys.readouterr().err
    next(out.glob("estimates/*.parquet")).unlink()
    assert main(["study", str(toml), "--out", str(out), "--resume"]) == 0
    pd.testing.assert_frame_equal(hlm.read_study(out).estimates, first, check_exact=True)
    toml.write_text(TOML.replace("corr = 0.9", "corr = 0.8"))
    assert main(["study", str(toml), "--out", str(out), "--resume"]) == 2
    assert "differs in mechanisms" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("n = 16", "n = 'many'", ":2: n: 'many' must be a whole number"),
        ("n = 16", "n = true", ":2: n: True must be a whole number"),
        ("seed = 1", "sed = 1", ":3: sed: unknown key; allowed here: formula, n, seed"),
        ("chunk = 8", "chunk = ", r"not TOML: .*line 4"),
        ('"design.csv"', '"absent.csv"', ":7: design.data: .*absent.csv"),
        ('data = "design.csv"', 'data = "a.csv"\ndataset = "article"', ":6: design: .*not both"),
        ('data = "design.csv"\nunits = 6', "", ":6: design: give data .*, or the number of units"),
        ("units = 6\n", "units = 0\n", ":8: design.units: units=0 must be"),
        ("sd = [0.2, 0.5]", "sd = [0.2, 'x']", ":12: truth.sd.1: 'x' must be a number"),
        ("sd = [0.2, 0.5]", "", ":10: truth: 'sd' is missing; needed here: beta, sd, sigma"),
        ("corr = 0.9", "corr = 1.9", ":13: truth.corr: cov is not positive semi-definite"),
        ("a = -0.15,", "z = 1,", ":11: truth.beta: beta and the model differ in a, z"),
        ("units = [6, 8]", "people = [6, 8]", ":17: conditions.people: .*what can: \"units\""),
        ("units = [6, 8]", "units = []", ":17: conditions.units: no values"),
        ("[0, 0.3]", "[0, 'b']", r":18: conditions.beta\[x:a\]: 'b' must be a number"),
        ("beta[x:a]", "beta[x:b]", r":18: conditions.beta\[x:b\]: .*no such fixed effect"),
        ('"two_stage"', '"magic"', ":25: methods.1.estimator: .*'lmm', 'ols', 'two_stage'"),
        ('name = "t"', 'title = "t"', ":21: methods.0.title: unknown key; allowed here: name"),
        ('formula = "y', 'formla = "y', ":1: formla: unknown key"),
        ("(1 + x | unit)", "(1 + z | unit)", ":1: formula: no column 'z' in the data"),
    ],
)  # fmt: skip
def test_study_files_are_checked_line_by_line(toml, old, new, message):
    assert old in TOML
    toml.write_text(TOML.replace(old, new, 1))
    with pytest.raises(
        StudyFileError, match=f"study.toml{message}" if message[0] == ":" else message
    ):
        read_study_file(toml)


BUILT = """\
[design]
units = 7
measurements = 4
within = { x = "normal" }
between = { a = [-1, 0, 1, 2, -2, 0.5, 1.5] }

[[violations]]
kind = "ResidualsFrom"
distribution = { kind = "StudentT", df = 4 }
[[violations]]
kind = "MissingCompletely"
rate = 0.2
"""


def test_designs_and_violations_are_built(toml):
    """Without its violations the mechanism is Gaussian; with them rows go missing."""
    made = TOML.replace('[design]\ndata = "design.csv"\nunits = 6\n', BUILT)
    toml.write_text(made.replace("units = [6, 8]", "violations = [false, true]"))
    file = read_study_file(toml)
    condition = {"beta[x:a]": 0.3}
    clean, violated = (file.mechanism(violations=v, **condition) for v in (False, True))
    assert clean.violations == ()
    assert [type(v).__name__ for v in violated.violations] == ["ResidualsFrom", "MissingCompletely"]
    assert violated.violations[0].distribution.df == 4
    rows = violated.draw(0, 20, seed=1).frame()
    assert (len(rows), bool(rows["y"].isna().mean() > 0.1)) == (20 * 28, True)
    result = hlm.study(file.conditions, file.mechanism, file.methods, **file.options)
    assert result.conditions["violations"].tolist() == [False, False, True, True]
    assert len(result.counts) == 8


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("StudentT", "Cauchy", ":14: violations.0.distribution.kind: .*Contaminated, "),
        ("df = 4", "nu = 4", ":14: violations.0.distribution.nu: .*StudentT: kind, df"),
        ("df = 4", "df = 1", ":14: violations.0.distribution: "),
        ("MissingCompletely", "Lost", ":16: violations.1.kind: 'Lost' is not known; use one of"),
        ("rate = 0.2", "", ":15: violations.1: .*rate"),
        ('"normal"', '"lognormal"', ":9: design.within.x: .*'normal', 'uniform'"),
        ("0.5, 1.5]", "0.5]", ":6: design: 'a' has 6 values for 7 units"),
    ],
)
def test_designs_and_violations_are_checked(toml, old, new, message):
    made = TOML.replace('[design]\ndata = "design.csv"\nunits = 6\n', BUILT)
    assert old in made
    toml.write_text(made.replace(old, new, 1))
    with pytest.raises(StudyFileError, match=f"study.toml{message}"):
        read_study_file(toml)


def test_lines_of_keys():
    text = '# a\n[a."b.c"]\n"d e" = { f = 1 }\n\n[[g]]\nh = 1\n[[g]]\ni.j = 2\n'
    assert line_of(text, ("a", "b.c", "d e", "f")) == 3
    assert line_of(text, ("g", 0, "h")) == 6
    assert line_of(text, ("g", 1, "i", "j")) == 8
    assert line_of(text, ("g", 1, "missing")) == 7


POWER = ["power", "y ~ x * a + (1 + x | unit)", "design.csv", "--beta", "1,3,-0.15,0.3",
         "--sd", "0.2,0.5", "--corr", "0.9", "--sigma", "0.75", "--n", "2"]  # fmt: skip


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--test", "x:a", "--test", "x"], "Power to reject 'x' at 0.05"),
        (["--test", "x:a", "--along", "units", "--values", "6,8"], "units test  power"),
        (["--test", "x", "--target", "0.5", "--bounds", "3,30"], "for a target of 0.5"),
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
        (["--test", "x", "--corr", "2"], "positive semi-definite"),
    ],
)
def test_power_says_what_is_wrong(toml, monkeypatch, capsys, extra, message):
    monkeypatch.chdir(toml.parent)
    assert main([*POWER, *extra]) == 2
    assert message in capsys.readouterr().err


def test_the_command_shows_how_its_file_is_written(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["study", "--help"])
    printed = capsys.readouterr().out
    assert '\n    [truth]\n    beta = { "(Intercept)" = 1, x = 3' in printed


def test_a_missing_file_is_named_first(tmp_path, capsys):
    assert main(["study", str(tmp_path / "none.toml"), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"jaxhlm: {tmp_path / 'none.toml'}: {os.strerror(2)}\n"
