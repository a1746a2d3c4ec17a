"""Studies: their frames, killed and gone on with, shared out, refused, stopped."""

import os
import signal
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pandas as pd
import polars as pl
import pytest

import jaxhlm as hlm
from jaxhlm.errors import (
    JaxhlmError,
    OptionError,
    RankDeficientWarning,
    StudyFolderError,
    UnsupportedTermError,
)
from jaxhlm.studies.conditions import TAKEN
from studies_made import CHUNK, DATA, METHODS, N, mechanism, progress_of, run
from tolerances import BATCH_DF, ESTIMATE


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


@pytest.mark.slow
def test_processes_work_on_chunks(undisturbed, tmp_path):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        made = run(executor=pool, out=tmp_path / "study")
    pd.testing.assert_frame_equal(made.estimates, undisturbed, check_exact=True)


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
        ({"effect": [2**63], "sigma": [1]}, mechanism, "whole ones of 64 bits"),
        ({"effect": ["\ud800"], "sigma": [1]}, mechanism, "which files can hold"),
        ({"term": [1]}, lambda term: None, "'term'; that is a column of"),
        ({"n": [1]}, lambda n: None, "'n'; that is a column of"),
        ({"power_mcse": [1]}, lambda power_mcse: None, "'power_mcse'; that"),
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
    violations = ()

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


def test_a_factor_of_several_kinds_is_kept(tmp_path):
    """Each chunk holds one kind, which is not what the column in memory is."""

    def made(missing):
        violations = [hlm.violations.MissingCompletely(missing)] if missing else []
        return hlm.mechanism(
            mechanism(0.3, 0.5).formula, DATA, mechanism(0.3, 0.5).truth, violations
        )

    found = hlm.study({"missing": [False, 0.2]}, made, n=8, seed=1, out=tmp_path / "out")
    assert found.estimates["missing"].unique().tolist() == [False, 0.2]
    assert len(hlm.read_study(tmp_path / "out").estimates) == len(found.estimates)
    assert "False" in str(found)


def test_a_violation_that_one_data_set_does_not_show_is_told(tmp_path):
    def run_with(rate, **options):
        rare = [hlm.violations.MissingAtRandom("x", rate)]
        m = hlm.mechanism(mechanism(0.3, 0.5).formula, DATA, mechanism(0.3, 0.5).truth, rare)
        return hlm.study(None, m, n=4, seed=1, out=tmp_path / "out", **options)

    run_with(1e-6)
    run_with(1e-6, resume=True)
    with pytest.raises(StudyFolderError, match="differs in mechanisms"):
        run_with(2e-6, resume=True)


def test_no_column_of_the_results_may_be_a_factor(undisturbed):
    assert {*hlm.measures(undisturbed), *undisturbed} - {"effect", "sigma"} <= TAKEN


@pytest.mark.parametrize("table", [pd.DataFrame, pl.DataFrame])
def test_conditions_are_a_table_of_any_library(table):
    given = {"effect": [0.0, 0.3], "sigma": [0.5, 1.0]}
    found = hlm.study(table(given), mechanism, METHODS[1:], n=8, seed=1)
    assert found.conditions.to_dict("list") == given
