"""More fits than memory: folders of fits, their bits, killed and gone on with, refused, damaged."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jax.errors import JaxRuntimeError

import jaxhlm as hlm
from jaxhlm import errors
from jaxhlm.core import chunks
from jaxhlm.estimation import device_chunks
from jaxhlm.fitting import storing
from jaxhlm.results.stored import FITS
from jaxhlm.storage import lock
from jaxhlm.storage.manifest import read_manifest
from tolerances import DEVIANCE, ESTIMATE, SUMMED

DATA = hlm.load_dataset("sleepstudy")
FORMULA = "Reaction ~ Days + (1 + Days | Subject)"
N = 2600


def made(what, n=N, seed=1, **options):
    """The fits of some call, in memory or in a folder."""
    fit = hlm.fit(FORMULA, DATA)
    if what == "simulate":
        return hlm.simulate(fit, n=n, seed=seed).fit(**options)
    if what == "responses":
        Y = fit.simulate(n, seed=seed).to_numpy(copy=True)
        Y[3, 5] = np.nan
        Y[:, 7] = np.nan
        with pytest.warns(errors.ConvergenceWarning, match=f"1 of {n} fits failed"):
            return hlm.fit_many(FORMULA, DATA, Y, **options)
    if what == "by":
        Y = fit.simulate(40, seed=seed)
        frame = pd.concat([DATA.assign(Reaction=Y[k], rep=f"r{k}") for k in Y])
        return hlm.fit_many(FORMULA, frame, by="rep", **options)
    found = hlm.bootstrap(fit, 300, what, seed, **options)
    return found.fits if isinstance(found, hlm.Bootstrap) else found


def small(patch):
    """Short runs, and few of them in a file."""
    patch.setattr(storing, "FILE_BYTES", 2**18)
    patch.setattr(chunks, "MAX_LANES", 400)


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    small(monkeypatch)


def assert_same(fits, expected):
    """The same bits, labels and sizes."""
    whole = fits[:]
    assert whole.index.tolist() == expected.index.tolist()
    for name, values in vars(expected.record.estimates).items():
        found = getattr(whole.record.estimates, name)
        assert found.tobytes() == np.ascontiguousarray(values).tobytes(), name
    for name in ("nobs", "ngroups", "lanes"):
        assert np.array_equal(getattr(whole, name), getattr(expected, name))


@pytest.mark.slow
@pytest.mark.parametrize("what", ["simulate", "responses", "by", "cases", "wild", "residual"])
def test_what_comes_back_is_what_the_call_in_memory_gives(what, tmp_path):
    expected, stored = made(what), made(what, out=tmp_path / "out")
    assert isinstance(stored, hlm.StoredFits) and stored.complete
    for fits in (stored, hlm.read_fits(tmp_path / "out")):
        assert len(fits) == len(expected)
        assert_same(fits, expected)
        assert fits.counts.equals(expected.counts)
        told = [
            [line for line in str(x).splitlines() if "failed: " in line or "With missing" in line]
            for x in (expected, fits)
        ]
        assert told[0] == told[1]
        columns = ["mean", "sd", "min", "max", "mean SE"]
        table = expected.summary()[columns]
        pd.testing.assert_frame_equal(fits.summary(), table, rtol=SUMMED, atol=SUMMED)
        parts = list(fits)
        assert pd.concat([part.tidy("normal") for part in parts], ignore_index=True).equals(
            expected.tidy("normal").reset_index(drop=True)
        )
    if what not in ("simulate",):
        assert stored[11].fixef.equals(expected[11].fixef)
    assert made(what, out=tmp_path / "out", resume=True).counts.equals(expected.counts)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("fits") / "out"
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        fits = made("simulate", out=out)
    assert len(fits.chunks) == 3
    return out


def test_parts_of_it(finished):
    fits, expected = hlm.read_fits(finished), made("simulate")
    some = [5, 2599, 5, 0, 1400]
    for which in (slice(1200, 1500), slice(None, None, -7), some, [], np.arange(N) % 9 == 0):
        assert fits[which].fixef.equals(expected[which].fixef)
    with pytest.raises(errors.UnknownFitError, match="position 2600"):
        fits[N]
    for which in ("a", slice("a", None)):
        with pytest.raises(errors.OptionError, match="position"):
            fits[which]
    with pytest.raises(errors.JaxhlmError, match="read from a file"):
        fits[0]
    with pytest.raises(errors.JaxhlmError, match="read from a file"):
        next(iter(fits)).df("satterthwaite")
    assert f"{N:,} linear mixed model fits by REML" in str(fits)
    one = hlm.FitBatch.read_parquet(next((finished / "estimates").iterdir()))
    assert one.p_values("normal").shape[1] == 2


def listing(folder):
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*")}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "holds this run of fits already, .* chunks finished; go on with resume=True"),
        ({"resume": True, "seed": 2}, r"another run of fits; it differs in seed, data"),
        ({"resume": True, "n": N - 1}, r"differs in n \(was 2600, now 2599\), data .*, runs"),
        ({"resume": True, "tol": 1e-8}, "differs in options"),
        ({"resume": True, "reml": False}, "differs in model"),
    ],
)
def test_another_run_is_refused_and_nothing_is_touched(finished, options, message):
    before = listing(finished)
    with pytest.raises(errors.FolderError, match=message):
        made("simulate", out=finished, **options)
    assert listing(finished) == before


def test_other_data_are_refused(tmp_path):
    Y = hlm.fit(FORMULA, DATA).simulate(30, seed=1).to_numpy(copy=True)
    hlm.fit_many(FORMULA, DATA, Y, out=tmp_path / "out")
    Y[0, 29] += 1e-9
    changed = (DATA, Y), (DATA.assign(Days=DATA["Days"] * 2), None)
    for data, responses in changed:
        given = Y if responses is None else responses
        with pytest.raises(errors.FolderError, match="differs in data"):
            hlm.fit_many(FORMULA, data, given, out=tmp_path / "out", resume=True)
    labelled = pd.DataFrame(Y, columns=[f"r{k}" for k in range(30)], index=DATA.index)
    with pytest.raises(errors.FolderError, match="differs in data"):
        hlm.fit_many(FORMULA, DATA, labelled, out=tmp_path / "out", resume=True)


def test_other_folders_are_refused(finished, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    for out, message in (
        (tmp_path, "not empty and holds no run of fits"),
        (tmp_path / "thesis.txt", "is a file"),
    ):
        for resume in (False, True):
            with pytest.raises(errors.FolderError, match=message):
                made("simulate", out=out, resume=resume)
    with pytest.raises(errors.FolderError, match="holds no run of fits"):
        hlm.read_fits(tmp_path)
    for options in ({"out": 3}, {"resume": True}, {"out": tmp_path, "resume": "yes"}):
        with pytest.raises(errors.OptionError, match=r"out|resume"):
            made("simulate", **options)
    with pytest.raises(errors.StudyFolderError, match="is of a run of fits and not of a study"):
        hlm.read_study(finished)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_study_is_no_run_of_fits(tmp_path):
    truth = hlm.Truth.of([250, 10], sd=[24, 6], sigma=25)
    mechanism = hlm.mechanism(FORMULA, DATA, truth)
    hlm.study(None, {"one": mechanism}, n=4, seed=1, out=tmp_path / "study")
    for resume in (False, True):
        with pytest.raises(errors.FolderError, match="is of a study and not of a run of fits"):
            made("simulate", out=tmp_path / "study", resume=resume)


def test_an_edited_manifest_is_refused(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    path = copy / "manifest.json"
    path.write_text(path.read_text().replace('"n": 2600', '"n": 2601'))
    for call in (lambda: hlm.read_fits(copy), lambda: made("simulate", out=copy, resume=True)):
        with pytest.raises(errors.FolderError, match=r"manifest\.json:\d+: n: is not what was"):
            call()


def test_damaged_chunks_are_set_aside_and_made_anew(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    first, second, third, *_ = sorted((copy / "estimates").iterdir())
    whole = first.read_bytes()
    first.write_bytes(whole[:999] + bytes([whole[999] ^ 1]) + whole[1000:])
    shutil.copy(third, second)
    third.unlink()
    with pytest.raises(errors.FolderError, match=f"{first.name}.*resume the run of fits"):
        hlm.read_fits(copy).summary()
    with pytest.warns(errors.FileWarning, match="made anew") as heard:
        fits = made("simulate", out=copy, resume=True)
    assert len(heard) == 2 and first.with_name(f"{first.name}.damaged").exists()
    assert_same(fits, made("simulate"))


def test_chunks_that_memory_does_not_do_for_are_left_as_they_are(finished, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    first = min((copy / "estimates").iterdir())

    def refused(*arguments, **options):
        raise pa.ArrowMemoryError("malloc of size 4096 failed")

    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetFile, "read", refused)
        for call in (
            lambda: made("simulate", out=copy, resume=True),
            lambda: hlm.read_fits(copy).summary(),
        ):
            with pytest.raises(errors.FolderError, match=f"{first.name}: malloc .* left as it is"):
                call()
    assert [p.name for p in finished.rglob("*")] == [p.name for p in copy.rglob("*")]
    assert_same(made("simulate", out=copy, resume=True), hlm.read_fits(finished)[:])


def test_a_finished_folder_is_had_back_where_nothing_can_be_written(finished, monkeypatch):
    def refused(*arguments):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(lock, "FileIO", refused)
    before = listing(finished)
    fits = made("simulate", out=finished, resume=True)
    assert_same(fits, made("simulate"))
    assert listing(finished) == before


def test_the_plan_is_that_of_the_folder(finished, tmp_path, monkeypatch):
    """With less memory free later, the runs are those that the folder was begun with."""
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    for path in sorted((copy / "estimates").iterdir())[1:]:
        path.unlink()
    assert len(hlm.read_fits(copy)) < N and not hlm.read_fits(copy).complete
    monkeypatch.setattr(chunks, "MAX_LANES", 100)
    assert_same(made("simulate", out=copy, resume=True), hlm.read_fits(finished)[:])


def test_a_seed_that_was_not_given_is_that_of_the_folder(tmp_path):
    fit, out = hlm.fit(FORMULA, DATA), tmp_path / "out"
    first = hlm.bootstrap(fit, 50, out=out)[:]
    assert len(read_manifest(out / "manifest.json", FITS)["seed"]) == 2
    next((out / "estimates").iterdir()).unlink()
    assert_same(hlm.bootstrap(fit, 50, out=out, resume=True), first)


def test_an_interrupt_keeps_what_is_finished(tmp_path, monkeypatch):
    written, write = [], storing.to_table

    def interrupted(*arguments):
        written.append(arguments)
        if len(written) == 3:
            raise KeyboardInterrupt
        return write(*arguments)

    monkeypatch.setattr(storing, "to_table", interrupted)
    with pytest.warns(errors.InterruptedFitsWarning, match=r"of 2600 fits .*; go on with resume="):
        fits = made("simulate", out=tmp_path / "out")
    monkeypatch.setattr(storing, "to_table", write)
    assert 0 < len(fits) < N and f"{len(fits):,} of {N:,}" in str(fits)
    assert_same(made("simulate", out=tmp_path / "out", resume=True), made("simulate"))


def assert_equal(fits, expected):
    """The same labels, sizes and status, and estimates to rounding."""
    whole = fits[:]
    assert whole.index.equals(expected.index)
    for name in ("status", "nobs", "ngroups", "lanes"):
        assert np.array_equal(getattr(whole, name), getattr(expected, name)), name
    np.testing.assert_allclose(whole.criterion, expected.criterion, rtol=DEVIANCE)
    for name in ("beta", "vcov", "theta", "cov", "sigma"):
        found, known = (getattr(f.estimates, name) for f in (whole, expected))
        np.testing.assert_allclose(found, known, rtol=ESTIMATE, atol=ESTIMATE)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["simulate", "responses"])
def test_devices_write_the_files_of_the_cores(what, tmp_path, monkeypatch):
    """Wherever a folder was begun it may be gone on with on the others."""
    monkeypatch.setattr(device_chunks, "MOST", 128)
    expected = made(what)
    stored = [made(what, out=tmp_path / str(d), devices=d) for d in (None, 1)]
    files = [sorted((tmp_path / d / "estimates").iterdir()) for d in ("None", "1")]
    assert [f.name for f in files[0]] == [f.name for f in files[1]] and len(files[0]) == 3
    manifests = [(tmp_path / d / "manifest.json").read_bytes() for d in ("None", "1")]
    assert manifests[0] == manifests[1]
    assert_equal(stored[1], expected)
    for (first, _, last), devices in zip(files, (1, None), strict=True):
        first.unlink(), last.unlink()
        again = made(what, out=first.parent.parent, devices=devices, resume=True)
        assert again.complete
        assert_equal(again, expected)


@pytest.mark.slow
def test_a_lost_device_ends_with_what_is_finished(tmp_path, monkeypatch):
    started, calls = device_chunks._started, []

    def lost(*arguments):
        calls.append(1)
        if len(calls) > 12:
            raise JaxRuntimeError("INTERNAL: device lost")
        return started(*arguments)

    monkeypatch.setattr(device_chunks, "MOST", 128)
    out, text = tmp_path / "out", r"failed: INTERNAL.*; \d+ of 2600 fits .* with resume=True"
    with monkeypatch.context() as patch, pytest.raises(errors.DeviceError, match=text) as said:
        patch.setattr(device_chunks, "_started", lost)
        made("simulate", out=out, devices=1)
    kept = hlm.read_fits(out)
    assert 0 < len(kept) < N and f" {len(kept)} of" in str(said.value)
    assert_equal(made("simulate", out=out, devices=1, resume=True), made("simulate"))


@pytest.mark.parametrize("devices", [99, "gpu"])
def test_devices_that_are_not_there_make_no_folder(devices, tmp_path):
    for what in ("simulate", "residual"):
        with pytest.raises(errors.OptionError, match="devices="):
            made(what, out=tmp_path / "out", devices=devices)
    with pytest.raises(errors.OptionError, match="rows of their own"):
        made("by", out=tmp_path / "out", devices=1)
    assert not (tmp_path / "out").exists()


KILLED = """
import sys
import jaxhlm as hlm
from jaxhlm.core import chunks
from jaxhlm.estimation import device_chunks
from jaxhlm.fitting import storing
storing.FILE_BYTES, chunks.MAX_LANES, device_chunks.MOST = 2**18, 400, 128
fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", hlm.load_dataset("sleepstudy"))
devices = int(sys.argv[2]) or None
hlm.simulate(fit, n=100_000, seed=1).fit(out=sys.argv[1], resume=True, devices=devices)
"""


@pytest.mark.slow
@pytest.mark.parametrize("devices", [None, 1])
def test_killed_and_resumed_it_gives_the_same_bits(devices, tmp_path, monkeypatch):
    """On devices, too, in chunks of one size."""
    monkeypatch.setattr(device_chunks, "MOST", 128)
    out = tmp_path / "out"
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(out), str(devices or 0)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    deadline = time.monotonic() + 120
    while len(list(out.glob("estimates/*.parquet"))) < 3 and child.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert 0 < len(hlm.read_fits(out)) < 100_000
    fits = made("simulate", n=100_000, out=out, resume=True, devices=devices)
    assert not list(out.rglob("*.tmp")) and len(json.loads((out / "manifest.json").read_text()))
    assert_same(fits, made("simulate", n=100_000, devices=devices))


def test_more_than_memory_is_refused_unless_it_goes_to_a_folder(monkeypatch):
    monkeypatch.setattr("jaxhlm.core.arguments._memory", lambda: 1e4)
    for what in ("simulate", "parametric"):
        with pytest.raises(errors.OptionError, match=r"n=\d+: that would take"):
            made(what)


def test_labels_that_repeat_are_told_apart_by_their_places(tmp_path, monkeypatch):
    monkeypatch.setattr(storing, "FILE_BYTES", 2**15)
    Y = hlm.fit(FORMULA, DATA).simulate(900, seed=1).set_axis(["a", "b", "c"] * 300, axis=1)
    expected = hlm.fit_many(FORMULA, DATA, Y, out=tmp_path / "out")
    found = hlm.read_fits(tmp_path / "out", DATA, responses=Y)
    assert len(found.chunks) > 2
    for at in (0, 450, 899):
        pd.testing.assert_series_equal(found[at].fitted, expected[at].fitted)


def test_a_folder_without_its_chunks_is_made_anew(tmp_path):
    expected = made("responses", 900, out=tmp_path / "out")
    chunks_of = len(expected.chunks)
    shutil.rmtree(tmp_path / "out" / "estimates")
    assert len(made("responses", 900, out=tmp_path / "out", resume=True).chunks) == chunks_of
