"""Responses are fitted from where they are: on devices, in other libraries' memory, in files."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
import tolerances as tol
from cases import SLEEP
from jaxhlm import errors
from jaxhlm.core.precision import jax_config_scope
from jaxhlm.sources.pieces import ReadAhead
from jaxhlm.sources.responses import Responses

B = 150
INCOMPLETE, CONSTANT, FEW_ROWS = 3, 7, 9


def sleep():
    return hlm.load_dataset("sleepstudy")


@pytest.fixture(scope="module")
def Y():
    """Responses of which two miss values and one is constant."""
    drawn = hlm.fit(SLEEP, sleep()).simulate(B, seed=1).to_numpy().copy()
    drawn[5, INCOMPLETE], drawn[:, CONSTANT], drawn[:20, FEW_ROWS] = np.nan, 1.0, np.nan
    return drawn


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.ConvergenceWarning")
def test_incomplete_responses_do_not_depend_on_whether_any_is_complete():
    """Where all miss rows, none is reduced with the design of complete ones."""
    Y = hlm.fit(SLEEP, sleep()).simulate(40, seed=2).to_numpy().copy()
    Y[:, 3] = 1.0
    Y[np.arange(40), np.arange(40)] = np.nan
    incomplete = hlm.fit_many(SLEEP, sleep(), responses=Y, progress=False)
    others = np.arange(40) != 5
    for there in (0.0, np.nan):
        Y[:, 5] = sleep()["Reaction"] + there
        fits = hlm.fit_many(SLEEP, sleep(), responses=Y, progress=False)
        assert (fits.status[others] == incomplete.status[others]).all()
        assert (fits.iterations[others] == incomplete.iterations[others]).all()
        assert (fits.nobs == np.where(others, len(Y) - 1, np.isfinite(Y[:, 5]).sum())).all()
        np.testing.assert_allclose(fits.fixef[others], incomplete.fixef[others], tol.UNITS)
    assert incomplete.status[3] != "converged"


class Exported:
    """Another library's array, which is known by DLPack only."""

    def __init__(self, values):
        self.values = values

    def __dlpack__(self, **options):
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


def on_device(Y):
    with jax_config_scope():
        return jnp.asarray(Y)


def saved(Y, folder):
    np.save(folder / "Y.npy", Y)
    return folder / "Y.npy"


class InPieces:
    """An array as zarr, h5py and dask have it, which gives runs of columns only."""

    chunks = (60, 7)

    def __init__(self, values):
        self.values, self.shape, self.dtype, self.read = values, values.shape, values.dtype, []

    def __getitem__(self, index):
        rows, columns = index
        assert rows == slice(None)
        assert columns.step is None
        self.read.append(columns.stop - columns.start)
        return self.values[index]


def parquet(Y, folder):
    """Missing values are nulls, and pandas keeps an index beside."""
    frame = pd.DataFrame(Y, columns=[f"gene.{j}" for j in range(Y.shape[1])])
    index = pd.Index([f"row {i}" for i in range(len(Y))])
    frame.astype("Float64").set_index(index).to_parquet(folder / "Y.parquet")
    return folder / "Y.parquet"


FORMS = {
    "pieces": lambda Y, _: InPieces(Y),
    "single pieces": lambda Y, _: InPieces(Y.astype(np.float32)),
    "parquet": parquet,
    "jax": lambda Y, _: on_device(Y),
    "jax single": lambda Y, _: jnp.asarray(Y, jnp.float32),
    "single": lambda Y, _: Y.astype(np.float32),
    "other byte order": lambda Y, _: Y.astype(">f8"),
    "exported": lambda Y, _: Exported(Y),
    "exported columns": lambda Y, _: Exported(np.asfortranarray(Y)),
    "file": saved,
    "masked": lambda Y, _: np.ma.masked_invalid(Y),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::jaxhlm.errors.JaxhlmWarning")
@pytest.mark.parametrize("devices", [None, 1])
@pytest.mark.parametrize("form", FORMS)
def test_fits_are_those_of_the_numbers_in_memory(form, devices, Y, tmp_path):
    """A row of ``data`` that cannot be used is left out of each."""
    data = sleep()
    data.loc[4, "Days"] = np.nan
    given = FORMS[form](Y, tmp_path)
    known = Y.astype(np.float32).astype(float) if "single" in form else Y
    found, expected = (hlm.fit_many(SLEEP, data, y, devices=devices) for y in (given, known))
    np.testing.assert_array_equal(found.status, expected.status)
    np.testing.assert_array_equal(found.nobs, expected.nobs)
    np.testing.assert_allclose(found.fixef, expected.fixef, rtol=tol.SAME_ROWS)
    np.testing.assert_allclose(found.criterion, expected.criterion, rtol=tol.SAME_ROWS)
    for i in (0, INCOMPLETE):
        np.testing.assert_allclose(
            found[i].residuals, expected[i].residuals, rtol=tol.SAME_ROWS, atol=tol.SAME_ROWS
        )


def test_nothing_is_copied_that_need_not_be(Y):
    complete = np.delete(Y, [INCOMPLETE, CONSTANT, FEW_ROWS], axis=1)
    there, single = on_device(complete), complete.astype(np.float32)
    held = [hlm.fit_many(SLEEP, sleep(), y).source.Y for y in (Exported(complete), there, single)]
    assert np.shares_memory(held[0], complete)
    assert held[1].values is there
    assert held[2].values is single


def test_a_folder_is_gone_on_with_from_wherever_the_same_numbers_are(Y, tmp_path):
    complete = np.delete(Y, [INCOMPLETE, CONSTANT, FEW_ROWS], axis=1)
    hlm.fit_many(SLEEP, sleep(), complete, out=tmp_path / "fits")
    same = {"out": tmp_path / "fits", "resume": True}
    for form in ("jax", "exported", "file"):
        assert len(hlm.fit_many(SLEEP, sleep(), FORMS[form](complete, tmp_path), **same)) == B - 3
    with pytest.raises(errors.FolderError, match="data"):
        hlm.fit_many(SLEEP, sleep(), on_device(complete + 1.0), **same)


def test_of_what_is_in_pieces_each_is_read_once_and_later_only_what_is_asked_for(Y):
    values = InPieces(np.delete(Y, [INCOMPLETE, CONSTANT, FEW_ROWS], axis=1))
    fits = hlm.fit_many(SLEEP, sleep(), values)
    assert sum(values.read) == B - 3
    values.read.clear()
    fits[20].residuals  # noqa: B018
    assert set(values.read) == {1}


def test_scattered_columns_of_a_file_are_read_by_blocks():
    """Opening a file of many columns takes long: thousands of times, minutes."""
    width, scattered = 1024, np.array([2047, 5, 7, 1030, 1500, 5, 2060])
    values = np.arange(3.0 * 3000).reshape(3, -1)
    pieces = ReadAhead(InPieces(values), width)
    found = Responses(pieces)[:, scattered]
    assert np.array_equal(found, values[:, scattered])
    assert pieces.values.read == [width, width, 1]  # of the last block one alone


def test_columns_of_parquet_name_the_fits(Y, tmp_path):
    fits = hlm.fit_many(SLEEP, sleep(), str(parquet(Y[:, :3], tmp_path)))
    assert list(fits.index) == ["gene.0", "gene.1", "gene.2"]
    assert fits["gene.1"].criterion == fits.criterion.iloc[1]


def test_other_numbers_in_a_file_are_another_run(Y, tmp_path):
    """Of what is in pieces, too."""
    complete = np.delete(Y, [INCOMPLETE, CONSTANT, FEW_ROWS], axis=1)
    for form in (parquet, lambda Y, _: InPieces(Y)):
        hlm.fit_many(SLEEP, sleep(), form(complete, tmp_path), out=tmp_path / form.__name__)
        same = {"out": tmp_path / form.__name__, "resume": True}
        assert len(hlm.fit_many(SLEEP, sleep(), form(complete, tmp_path), **same)) == B - 3
        with pytest.raises(errors.FolderError, match="data"):
            hlm.fit_many(SLEEP, sleep(), form(complete + 1.0, tmp_path), **same)


@pytest.mark.parametrize(
    ("frame", "error", "match"),
    [
        ({"a": ["x", "y"]}, errors.NotNumericError, "'a'"),
        ({"a": [1.0, 2.0], "b": [True, False]}, errors.NotNumericError, "'b'"),
        ({"a": [1.0, 2.0]}, errors.ResponseShapeError, "2 rows"),
        ({}, errors.ResponseShapeError, "no columns"),
    ],
)
def test_parquet_files_that_hold_no_responses_are_refused(frame, error, match, tmp_path):
    pd.DataFrame(frame).to_parquet(tmp_path / "Y.parquet")
    with pytest.raises(error, match=match):
        hlm.fit_many(SLEEP, sleep(), tmp_path / "Y.parquet")


def test_a_tensor_of_torch_is_a_view():
    torch = pytest.importorskip("torch")
    Y = torch.randn(180, 5, dtype=torch.float64)
    assert np.shares_memory(hlm.fit_many(SLEEP, sleep(), Y).source.Y, Y.numpy())
    with pytest.raises(errors.NotNumericError, match="torch"):
        hlm.fit_many(SLEEP, sleep(), Y.requires_grad_())


# Four devices are there before JAX is imported, so this runs in a process of its own.
ON_OTHERS = f"""
import jax, numpy as np, jaxhlm as hlm
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxhlm.core.precision import jax_config_scope
from jaxhlm.sources import responses
data, devices = hlm.load_dataset("sleepstudy"), jax.devices()
Y = hlm.fit({SLEEP!r}, data).simulate(400, seed=1).to_numpy().copy()
Y[5, 3] = np.nan
expected = hlm.fit_many({SLEEP!r}, data, Y)
mesh, fetched, some = Mesh(np.array(devices), "d"), [], responses._some_columns
def counted(values, lane_index, axis):
    fetched.append(len(lane_index))
    return some(values, lane_index, axis=axis)
responses._some_columns = counted
places = [devices[2]] + [NamedSharding(mesh, PartitionSpec(*s)) for s in ((None, "d"), ("d",), ())]
for place in places:
    with jax_config_scope():
        there = jax.device_put(Y, place)
    for on in (None, devices[1:3]):
        fits = hlm.fit_many({SLEEP!r}, data, there, devices=on)
        np.testing.assert_array_equal(fits.nobs, expected.nobs)
        np.testing.assert_allclose(fits.fixef, expected.fixef, rtol={tol.ESTIMATE})
    if place is not devices[2]:
        # The last fits brought the one response back that misses a value, and nothing else.
        fetched.clear()
        hlm.fit_many({SLEEP!r}, data, there, devices=devices[1:3])[11].residuals
        assert set(fetched) == {{1}}, fetched
        assert there._npy_value is None
    print("fitted")
with jax_config_scope():
    rows = jax.device_put(np.ascontiguousarray(Y.T), devices[2])
fits = hlm.fit_many({SLEEP!r}, data, rows, responses_in="rows", devices=devices[1:3])
np.testing.assert_allclose(fits.fixef, expected.fixef, rtol={tol.ESTIMATE})
"""


@pytest.mark.slow
def test_arrays_on_other_devices_than_those_asked_for(monkeypatch):
    """On one, or spread by columns, by rows, or copied to all."""
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ON_OTHERS], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("fitted") == 4


def deleted():
    values = jnp.ones((180, 2))
    values.delete()
    return values


class Withheld(Exported):
    """An array whose library does not hand it over."""

    def __dlpack__(self, **_):
        raise RuntimeError("it requires grad; detach() it first")


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: jnp.ones((180, 2), bool), errors.NotNumericError, "bool"),
        (lambda: jnp.ones((180, 2), complex), errors.NotNumericError, "complex"),
        (lambda: jax.random.key(0), errors.NotNumericError, "key"),
        (lambda: jnp.ones(180), errors.ResponseShapeError, "1 dimension"),
        (lambda: jnp.ones((180, 0)), errors.ResponseShapeError, "no columns"),
        (lambda: jnp.ones((179, 2)), errors.ResponseShapeError, "179"),
        (deleted, errors.OptionError, "deleted"),
        (lambda: Withheld(np.ones((180, 2))), errors.NotNumericError, "Withheld.*detach"),
        (lambda: Exported(np.ones((180, 2), bool)), errors.NotNumericError, "bool"),
        (lambda: np.ones((180, 2), "m8[s]"), errors.NotNumericError, "timedelta"),
    ],
)
def test_what_holds_no_responses_is_refused(make, error, match):
    with pytest.raises(error, match=match):
        hlm.fit_many(SLEEP, sleep(), make())


def test_what_is_traced_is_refused():
    with pytest.raises(errors.NotNumericError, match="traces"):
        jax.jit(lambda Y: hlm.fit_many(SLEEP, sleep(), Y))(jnp.ones((180, 2)))


@pytest.mark.parametrize(
    ("name", "content", "error", "match"),
    [
        ("Y.npz", b"", errors.OptionError, "ends in .npy, .parquet, .h5ad"),
        ("none.parquet", None, errors.FileError, "no file"),
        ("empty.parquet", b"", errors.FileError, "cannot read"),
        ("none.npy", None, errors.FileError, "no file"),
        ("empty.npy", b"", errors.FileError, "cannot read"),
        ("text.npy", b"a,b\n1,2\n" * 9, errors.FileError, "cannot read"),
        ("cut.npy", "cut", errors.FileError, "cannot read"),
        ("objects.npy", "objects", errors.FileError, "cannot read"),
    ],
)
def test_files_that_hold_no_responses_are_refused(name, content, error, match, tmp_path):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        np.save(path, np.array([[1.0, None]] * 180) if content == "objects" else np.ones((180, 9)))
        if content == "cut":
            path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(error, match=match):
        hlm.fit_many(SLEEP, sleep(), str(path))


def test_an_array_that_is_deleted_after_the_fit_is_missed_by_name(Y):
    there = on_device(Y)
    held = Responses(there)
    there.delete()
    with pytest.raises(errors.OptionError, match="deleted"):
        held[:, 1]
    with pytest.raises(errors.OptionError, match="deleted"):
        held.chunk(slice(0, 2))


def test_terms_that_learn_need_complete_responses_on_devices_too(Y):
    with pytest.raises(errors.FormulaError, match="some responses miss"):
        hlm.fit_many("~ poly(Days, 2) + (1 | Subject)", sleep(), on_device(Y), devices=1)
