"""Responses in whatever users hold them, by columns and by rows, matched by the samples' names."""

import types
from pathlib import Path
from tempfile import mkdtemp

import dask.array
import h5py
import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import xarray as xr
import zarr
from scipy import sparse

import jaxhlm as hlm
import tolerances as tol
from h5ad import copied, write_h5ad
from jaxhlm import errors
from jaxhlm.core.parquet import ParquetRows
from jaxhlm.core.precision import jax_config_scope
from jaxhlm.sources.annotated import open_file
from jaxhlm.sources.containers import opened
from places import DATA

FORMULA = "~ Days + (1 + Days | Subject)"
GENES = [f"g{j}" for j in range(7)]
SAMPLES = [f"s{i}" for i in range(180)]
SHUFFLED = np.random.default_rng(1).permutation(180)
INCOMPLETE = 2


def sleep():
    return hlm.load_dataset("sleepstudy").set_axis(SAMPLES)


@pytest.fixture(scope="module")
def Y():
    """Responses by name, of which one misses a value and one is mostly zero."""
    drawn = hlm.fit(f"Reaction {FORMULA}", sleep()).simulate(7, seed=1).to_numpy().copy()
    drawn[5, INCOMPLETE], drawn[:, 3] = np.nan, np.where(drawn[:, 3] > 300, drawn[:, 3], 0.0)
    return pd.DataFrame(drawn, SAMPLES, GENES)


@pytest.fixture(scope="module")
def expected(Y):
    return hlm.fit_many(FORMULA, sleep(), Y)


def new(folder):
    return Path(mkdtemp(dir=folder))


def on_disk(make, ending):
    """A form that is written to a folder, and read from there by its path."""

    def form(frame, folder):
        make(frame, path := new(folder) / f"Y.{ending}")
        return path

    return form


def into_zarr(frame, path):
    shape = frame.shape
    to = zarr.create_array(
        str(path), shape=shape, dtype="f8", chunks=tuple(min(50, s) for s in shape)
    )
    to[:] = frame.to_numpy()


def in_hdf5(frame, folder):
    file = h5py.File(new(folder) / "Y.h5", "w")
    return file.create_dataset("Y", data=frame.to_numpy(), chunks=tuple(np.minimum(frame.shape, 5)))


def text_beside(frame):
    """A table without an index, whose rows are named by a column if they are responses."""
    return frame.reset_index(names="gene") if frame.shape[0] == 7 else frame.reset_index(drop=True)


def on_device(frame):
    with jax_config_scope():
        return jnp.asarray(frame.to_numpy())


# What has names of samples, and of responses; then the first only; then none.
NAMED = {
    "pandas": lambda frame, _: frame,
    "nullable": lambda frame, _: frame.astype("Float64"),
    "backed by arrow": lambda frame, _: frame.astype("double[pyarrow]"),
    "sparse columns": lambda frame, _: frame.astype(pd.SparseDtype(float)),
    "mixed": lambda frame, _: frame.astype({frame.columns[0]: "Float64", frame.columns[1]: object}),
    "parquet": on_disk(lambda frame, path: frame.to_parquet(path, row_group_size=3), "parquet"),
    "xarray": lambda frame, _: xr.DataArray(frame),
    "xarray of dask": lambda frame, _: xr.DataArray(frame).chunk(5),
}
TABLES = {
    "polars": lambda frame, _: pl.from_pandas(text_beside(frame)),
    "dict": lambda frame, _: dict(text_beside(frame)),
    "arrow": lambda frame, _: pa.Table.from_pandas(text_beside(frame), preserve_index=False),
    "parquet of polars": on_disk(
        lambda frame, path: pl.from_pandas(text_beside(frame)).write_parquet(path), "parquet"
    ),
    "pandas without an index": lambda frame, _: text_beside(frame),
}
ARRAYS = {
    "numpy": lambda frame, _: frame.to_numpy(),
    "columns in memory": lambda frame, _: np.asfortranarray(frame.to_numpy()),
    "masked": lambda frame, _: np.ma.masked_invalid(frame.to_numpy()),
    "lists": lambda frame, _: frame.to_numpy().tolist(),
    "objects": lambda frame, _: frame.to_numpy().astype(object),
    "jax": lambda frame, _: on_device(frame),
    "file": on_disk(lambda frame, path: np.save(path, frame.to_numpy()), "npy"),
    "file by columns": on_disk(
        lambda frame, path: np.save(path, np.asfortranarray(frame.to_numpy())), "npy"
    ),
    "dask": lambda frame, _: dask.array.from_array(frame.to_numpy(), chunks=5),
    "masked dask": lambda frame, _: masked_dask(frame),
    "hdf5": in_hdf5,
    "zarr": on_disk(into_zarr, "zarr"),
    "csr": lambda frame, _: sparse.csr_array(frame.to_numpy()),
    "csc": lambda frame, _: sparse.csc_matrix(frame.to_numpy()),
    "coo": lambda frame, _: halves(frame.to_numpy()),
    "dok": lambda frame, _: sparse.dok_matrix(frame.to_numpy()),
}
FORMS = NAMED | TABLES | ARRAYS


def masked_dask(frame):
    """A code for missing values, under a mask."""
    return dask.array.ma.masked_equal(
        dask.array.from_array(frame.fillna(-9999.0).to_numpy(), chunks=5), -9999.0
    )


def halves(Y):
    """A sparse matrix that says every value in two parts, and one zero."""
    i, j = np.indices(Y.shape).reshape(2, -1)
    return sparse.coo_array((np.r_[Y.ravel() / 2, Y.ravel() / 2], (np.r_[i, i], np.r_[j, j])))


def same_fits(found, expected):
    np.testing.assert_array_equal(found.nobs, expected.nobs)
    np.testing.assert_allclose(found.criterion, expected.criterion, rtol=tol.SAME_ROWS)
    np.testing.assert_allclose(found.fixef, expected.fixef, rtol=tol.SAME_ROWS)


@pytest.mark.parametrize("responses_in", ["columns", "rows"])
@pytest.mark.parametrize("form", FORMS)
def test_every_container_gives_the_fits_of_the_numbers_in_it(
    form, responses_in, Y, expected, tmp_path
):
    def given(frame):
        return FORMS[form](frame if responses_in == "columns" else frame.T, tmp_path)

    layout = {"responses_in": responses_in}
    found = hlm.fit_many(FORMULA, sleep(), given(Y), **layout)
    same_fits(found, expected)
    np.testing.assert_allclose(found[INCOMPLETE].residuals, expected[INCOMPLETE].residuals)
    by_name = form in NAMED or (form in TABLES and responses_in == "rows")
    labelled = form in NAMED or form in TABLES
    assert found.index.tolist() == (GENES if labelled else list(range(7)))
    if by_name:
        shuffled = given(Y.iloc[SHUFFLED])
        same_fits(hlm.fit_many(FORMULA, sleep(), shuffled, **layout), expected)
        with pytest.raises(errors.ResponseShapeError, match=r"'a', 'b' against 's0', 's1'"):
            others = Y.rename(index={"s0": "a", "s1": "b"})
            hlm.fit_many(FORMULA, sleep(), given(others), **layout)
    other = {"responses_in": "rows" if responses_in == "columns" else "columns"}
    # A table of the genes, read by columns, has their names for a column of numbers.
    named = "'gene'" if form in TABLES and responses_in == "rows" else "pass responses_in"
    with pytest.raises(errors.JaxhlmError, match=f"{named}|differs from that of data"):
        hlm.fit_many(FORMULA, sleep(), given(Y), **other)


def annotated(Y, **changed):
    """What AnnData has of the same names."""
    parts = {"obs": sleep(), "var": pd.DataFrame(index=GENES), "X": Y.to_numpy(), "layers": {}}
    names = {"var_names": pd.Index(GENES)}
    return types.SimpleNamespace(**parts | names | changed)


def h5ad(Y, folder):
    write_h5ad(folder / "Y.h5ad", Y.to_numpy(), sleep(), GENES)
    return folder / "Y.h5ad"


def zarr_of(path):
    with h5py.File(path) as file:
        copied(file, zarr.open_group(str(path.with_suffix(".zarr")), mode="w"))
    return path.with_suffix(".zarr")


@pytest.mark.parametrize(
    "given",
    [
        lambda Y, _: annotated(Y),
        lambda Y, _: annotated(Y, X=sparse.csr_matrix(Y.to_numpy())),
        lambda Y, _: annotated(Y, X=None, layers={"counts": Y.to_numpy()}),
        lambda Y, folder: h5ad(Y, folder),
        lambda Y, folder: zarr_of(h5ad(Y, folder)),
    ],
)
def test_anndata_brings_the_table_of_its_samples(given, Y, expected, tmp_path):
    given = given(Y, tmp_path)
    layer = "counts" if getattr(given, "X", 0) is None else None
    found = hlm.fit_many(FORMULA, responses=given, layer=layer)
    same_fits(found, expected)
    assert found.index.tolist() == GENES
    same_fits(hlm.fit_many(FORMULA, sleep().iloc[SHUFFLED], given, layer=layer), expected)
    with pytest.raises(errors.OptionError, match=r"layer='none' is not in responses; its layers"):
        hlm.fit_many(FORMULA, responses=given, layer="none")
    with pytest.raises(errors.OptionError, match="AnnData has a row for every sample"):
        hlm.fit_many(FORMULA, responses=given, responses_in="rows")


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("indices", lambda i: i - 1),
        ("indices", lambda i: i + 7),
        ("indptr", lambda i: i - 1),
        ("indptr", lambda i: i + 7),
        ("indptr", lambda i: i[::-1]),
    ],
)
def test_a_sparse_matrix_whose_entries_lie_outside_is_refused(part, change, Y, tmp_path):
    """SciPy does not look, and writes where they point."""
    matrix = sparse.csr_matrix(Y.to_numpy())
    with h5py.File(h5ad(Y, tmp_path), "r+") as file:
        del file["X"]
        group = file.create_group("X")
        group.attrs["encoding-type"], group.attrs["shape"] = "csr_matrix", Y.shape
        for name in ("data", "indices", "indptr"):
            values = getattr(matrix, name).astype(np.int64 if name != "data" else float)
            group[name] = change(values) if name == part else values
    with pytest.raises(errors.FileError, match=r"cannot read .*Y\.h5ad"):
        hlm.fit_many(FORMULA, responses=tmp_path / "Y.h5ad")


def test_a_file_that_anndata_wrote():
    data = pd.read_csv(DATA / "sleepstudy.csv")
    fits = hlm.fit_many(FORMULA, responses=DATA / "annotated.h5ad")
    assert fits.index.tolist() == ["up", "down", "rare"]
    alone = hlm.fit(f"up {FORMULA}", data.assign(up=data["Reaction"].round(1)))
    np.testing.assert_allclose(fits.criterion.iloc[0], alone.criterion, rtol=tol.SAME_ROWS)
    for layer in ("rows", "columns"):
        same_fits(hlm.fit_many(FORMULA, responses=DATA / "annotated.h5ad", layer=layer), fits)
    obs = open_file(DATA / "annotated.h5ad").samples
    assert obs.dtypes.astype(str).tolist()[:4] == ["int64", "category", "Int64", "boolean"]
    assert obs.index[:2].tolist() == ["s0", "s1"]
    assert obs["dose"].tolist()[:3] == [1, pd.NA, 3]
    assert obs["note"].tolist()[:2] == ["0 é", "1 é"]


def test_names_of_samples_are_matched_or_are_none(Y, expected):
    """A numbering by default names nothing, and other numbers are told from it."""
    numbered, data = Y.reset_index(drop=True), sleep().reset_index(drop=True)
    same_fits(hlm.fit_many(FORMULA, sleep(), numbered), expected)
    same_fits(hlm.fit_many(FORMULA, sleep(), xr.DataArray(numbered)), expected)
    same_fits(hlm.fit_many(FORMULA, data.set_axis(np.arange(180)), Y), expected)
    same_fits(hlm.fit_many(FORMULA, data, Y), expected)
    same_fits(hlm.fit_many(FORMULA, data.assign(sample=SAMPLES, pair=SAMPLES[::-1]), Y), expected)
    for responses, samples, match in (
        (numbered.iloc[SHUFFLED], data, "the same in another order"),
        (numbered.set_axis(range(1, 181)), data, "180 against 0"),
        (numbered, data.set_axis(range(180, 360)), "0, 1, 2 against 180, 181, 182"),
        (Y.iloc[SHUFFLED], data.assign(sample=SAMPLES), r"data.set_index\('sample'\)"),
        (Y, data.assign(sample=["x", *SAMPLES[1:]]), "'s0' against 'x'"),
        (Y.rename(index={"s0": "s1"}), sleep(), "'s1' repeats"),
        (Y.T, sleep(), 'pass responses_in="rows"'),
        (Y, sleep().iloc[:170], "'s170', 's171', 's172' against none of its own"),
    ):
        with pytest.raises(errors.ResponseShapeError, match=match):
            hlm.fit_many(FORMULA, samples, responses)
    twice = [*SAMPLES[1:], "s1"]
    same_fits(hlm.fit_many(FORMULA, sleep().set_axis(twice), Y.set_axis(twice)), expected)
    ids = np.arange(500, 680)
    text = Y.set_axis(ids.astype(str)).iloc[SHUFFLED]
    same_fits(hlm.fit_many(FORMULA, sleep().set_axis(ids), text), expected)


def test_weights_lie_or_are_named_as_the_responses(Y, tmp_path):
    W = pd.DataFrame(np.random.default_rng(2).gamma(4.0, 0.25, Y.shape), SAMPLES, GENES)
    expected = hlm.fit_many(FORMULA, sleep(), Y, weights=W)
    other = W.iloc[SHUFFLED, ::-1]
    np.save(tmp_path / "W.npy", W.to_numpy().T)
    rows = {"responses_in": "rows"}
    for responses, weights, layout in (
        (Y, other, {}),
        (Y.T, other.T, rows),
        (Y.iloc[SHUFFLED], W, {}),
        (Y.iloc[SHUFFLED], W.to_numpy()[SHUFFLED], {}),
        (Y.to_numpy(), W.iloc[SHUFFLED], {}),
        (Y.T.to_numpy(), tmp_path / "W.npy", rows),
        (Y, pl.from_pandas(other.iloc[np.argsort(SHUFFLED)]), {}),
    ):
        same_fits(hlm.fit_many(FORMULA, sleep(), responses, weights=weights, **layout), expected)
    with pytest.raises(errors.WeightsError, match="7 x 180 weights for 180 x 7"):
        hlm.fit_many(FORMULA, sleep(), Y, weights=W.T)
    with pytest.raises(errors.WeightsError, match="180 x 7 weights for 7 x 180"):
        hlm.fit_many(FORMULA, sleep(), Y.T, weights=W, **rows)


BIG = 2**60


@pytest.mark.parametrize(
    "held",
    [
        lambda Y: Y,
        lambda Y: Y.astype(object),
        lambda Y: pd.DataFrame(Y),
        lambda Y: pd.DataFrame(Y).assign(x=1.5 + np.arange(180) % 7),
        lambda Y: pd.DataFrame(Y).astype("Int64").mask(np.eye(180, 3, -9, bool)),
        lambda Y: pl.from_numpy(Y, schema=["a", "b", "c"]),
        lambda Y: pl.from_pandas(
            pd.DataFrame(Y, columns=list("abc")).astype("Int64").mask(np.eye(180, 3, -9, bool))
        ),
        lambda Y: sparse.csr_array(Y),
        lambda Y: Y.astype(np.uint64),
    ],
)
def test_an_integer_that_is_no_float_fails_its_response_only(held):
    Y = np.random.default_rng(3).integers(-9, 9, (180, 3)) + 20
    small = hlm.fit_many(FORMULA, sleep(), held(Y))
    Y[:, 0] += BIG
    Y[7, 1] = BIG
    with pytest.warns(errors.ConvergenceWarning, match="1 of"):
        found = hlm.fit_many(FORMULA, sleep(), held(Y))
    assert found.status[0] == hlm.Status.NOT_FINITE
    assert found.ok[1]
    np.testing.assert_array_equal(found.criterion[2:], small.criterion[2:])


def test_a_pass_over_rows_of_a_parquet_file_reads_every_block_once(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxhlm.core.parquet.BLOCK_BYTES", 8 * 180 * 4)
    values = np.random.default_rng(4).normal(size=(50, 180))
    pd.DataFrame(values, columns=SAMPLES).to_parquet(tmp_path / "Y.parquet", row_group_size=7)
    file, read = ParquetRows.of(tmp_path / "Y.parquet"), []
    batches = file._stream._batches
    file._stream._batches = lambda groups: (read.append(len(b)) or b for b in batches(groups))
    # As threads do, which do not ask in order.
    for first in (0, 20, 10, 30, 40):
        np.testing.assert_array_equal(file[:, first : first + 10], values[first : first + 10].T)
    assert sum(read) == 50
    np.testing.assert_array_equal(file[:, 3:4], values[3:4].T)


class Pieces:
    """An array in pieces, which counts how often each is read."""

    def __init__(self, values, chunks):
        self.values, self.shape, self.dtype, self.chunks = (
            values,
            values.shape,
            values.dtype,
            chunks,
        )
        self.read = np.zeros([-(-s // c) for s, c in zip(values.shape, chunks, strict=True)], int)

    def __getitem__(self, index):
        at = [
            (slice(*i.indices(s)), c)
            for i, s, c in zip(index, self.shape, self.chunks, strict=True)
        ]
        self.read[tuple(slice(i.start // c, -(-i.stop // c)) for i, c in at)] += 1
        return self.values[index]


@pytest.mark.parametrize(
    ("chunks", "responses_in"),
    [((180, 90), "columns"), ((33, 1100), "columns"), ((7, 1500), "rows")],
)
def test_a_pass_over_pieces_reads_each_about_once(chunks, responses_in):
    """Those of responses that miss values, and those that no run of responses fits into, too."""
    Y = np.random.default_rng(5).normal(size=(180, 1500))
    Y[3, ::70] = np.nan
    if responses_in == "rows":
        Y, chunks = Y.T, chunks[::-1]
    given = Pieces(Y, chunks)
    fits = hlm.fit_many(FORMULA, sleep(), given, responses_in=responses_in)
    assert fits.nobs[0] == 179
    assert given.read.min() == 1
    assert given.read.mean() < 1.3


def packed(Y, **attributes):
    """An array of zarr's whose attributes say what its numbers stand for."""
    array = zarr.create_array(zarr.storage.MemoryStore(), data=Y.to_numpy())
    array.attrs.update(
        {key: getattr(x, "tolist", lambda x=x: x)() for key, x in attributes.items()}
    )
    return array


def named_twice(Y):
    names = dict.fromkeys("ab", ("s", Y.index))
    return xr.DataArray(Y.to_numpy(), dims=("s", "gene"), coords=names)


def test_names_of_samples_lie_beside_a_dimension_without_an_index(Y, expected):
    """A coordinate of text, once for each; what repeats, or is a number, is none."""
    beside = {"subject": ("s", Y.index), "age": ("s", np.arange(180.0)), "arm": ("s", ["x"] * 180)}
    given = xr.DataArray(Y.to_numpy(), dims=("s", "gene"), coords=beside)
    same_fits(hlm.fit_many(FORMULA, sleep().iloc[SHUFFLED], given), expected)
    with pytest.raises(errors.ResponseShapeError, match="differs"):
        hlm.fit_many(FORMULA, sleep().set_axis([f"t{i}" for i in range(180)]), given)


def failing_dask(Y):
    def fail(block):
        if block.size:
            raise ZeroDivisionError("no luck")
        return block

    return dask.array.from_array(Y.to_numpy(), chunks=5).map_blocks(fail, dtype=float)


def test_what_xarray_unpacks_is_read_and_what_it_writes_by_default_too(Y, expected, tmp_path):
    """Missing values are NaN in numbers of floating point, and say so."""
    pytest.importorskip("xarray", "2025.1", "older versions do not write with zarr 3.1")
    named = xr.DataArray(Y, dims=("sample", "gene"), name="Y").to_dataset()
    named.to_zarr(tmp_path / "plain.zarr", consolidated=False)
    plain = zarr.open(tmp_path / "plain.zarr")["Y"]
    assert "_FillValue" in plain.attrs
    same_fits(hlm.fit_many(FORMULA, sleep(), plain), expected)
    how = {"dtype": "i4", "scale_factor": 1e-6, "_FillValue": -1}
    named.to_zarr(tmp_path / "packed.zarr", encoding={"Y": how}, consolidated=False)
    unpacked = xr.open_zarr(tmp_path / "packed.zarr", consolidated=False)["Y"]
    found = hlm.fit_many(FORMULA, sleep(), unpacked)
    np.testing.assert_array_equal(found.nobs, expected.nobs)
    with pytest.raises(errors.OptionError, match=r"packed.*open them with xarray"):
        hlm.fit_many(FORMULA, sleep(), zarr.open(tmp_path / "packed.zarr")["Y"])


@pytest.mark.parametrize("responses_in", ["columns", "rows"])
def test_a_numbering_that_is_no_default_names_rows_of_a_parquet_file(Y, responses_in, tmp_path):
    """Pandas keeps it in no column: consecutive numbers of samples, or of responses."""
    path, data = tmp_path / "Y.parquet", sleep().set_axis(pd.RangeIndex(101, 281))
    frame = Y.set_axis(data.index)
    shuffled = data.iloc[SHUFFLED]
    if responses_in == "rows":
        data = shuffled = sleep()
        frame = Y.T.set_axis(pd.RangeIndex(501, 508))
    frame.to_parquet(path)
    assert isinstance(pd.read_parquet(path).index, pd.RangeIndex)
    options = {"responses_in": responses_in}
    found, expected = (hlm.fit_many(FORMULA, shuffled, x, **options) for x in (path, frame))
    assert found.index.equals(expected.index)
    same_fits(found, expected)
    same_fits(found, hlm.fit_many(FORMULA, data, frame, **options))


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        (lambda Y: xr.DataArray(Y).expand_dims("t"), errors.ResponseShapeError, "'t'"),
        (lambda Y: xr.Dataset({"Y": xr.DataArray(Y)}), errors.ResponseShapeError, "Dataset"),
        (lambda Y: pl.from_pandas(Y).lazy(), errors.OptionError, "collect"),
        (lambda Y: pl.from_pandas(Y)["g0"], errors.ResponseShapeError, "1 dimension"),
        (lambda Y: pl.from_pandas(Y > 0), errors.NotNumericError, "'g0' .* is Boolean"),
        (lambda Y: pl.from_pandas(Y.astype(str)), errors.NotNumericError, "'g0' .* is String"),
        (lambda Y: sparse.csr_array(Y > 0), errors.NotNumericError, "bool"),
        (lambda Y: Y > 0, errors.NotNumericError, "'g0' .* is bool"),
        (lambda Y: annotated(Y, X=None), errors.OptionError, "no X; pass layer=, its layers: none"),
        (lambda Y: DATA / "none.h5ad", errors.FileError, "no file"),
        (lambda Y: DATA / "sleepstudy.csv", errors.OptionError, "ends in .npy, .parquet"),
        (lambda Y: DATA / "none.zarr", errors.FileError, "no folder"),
        (lambda Y: annotated(Y, X=Y.to_numpy()[:, 1:]), errors.ResponseShapeError, r"\(180, 6\)"),
        (lambda Y: annotated(Y, X=np.ones((180, 9))), errors.ResponseShapeError, r"\(180, 7\)"),
        (lambda Y: pa.table([Y["g0"], Y["g0"]], ["a", "a"]), errors.OptionError, "pyarrow.Table: "),
        (lambda Y: failing_dask(Y), errors.FileError, "cannot read the responses: no luck"),
        (lambda Y: packed(Y, scale_factor=0.5), errors.OptionError, "'scale_factor' is 0.5"),
        (lambda Y: packed(Y, add_offset=np.ones(1)), errors.OptionError, "'add_offset' is "),
        (lambda Y: packed(Y, _FillValue=-9), errors.OptionError, "'_FillValue' is -9"),
        (lambda Y: packed(Y, missing_value="x"), errors.OptionError, "'missing_value' is x"),
        (lambda Y: named_twice(Y), errors.OptionError, r"'a', 'b' may .*swap_dims\({'s': 'a'}\)"),
        (lambda Y: xr.DataArray(Y).assign_attrs(scale_factor=2), errors.OptionError, "packed"),
    ],
)
def test_containers_that_hold_no_responses_are_refused(given, error, match, Y):
    with pytest.raises(error, match=match):
        hlm.fit_many(FORMULA, sleep(), given(Y))


def test_damaged_and_foreign_files_are_refused(tmp_path):
    (tmp_path / "cut.h5ad").write_bytes((DATA / "annotated.h5ad").read_bytes()[:-2000])
    with h5py.File(tmp_path / "old.h5ad", "w") as file:
        file["X"] = np.ones((3, 2))
    zarr.open_group(str(tmp_path / "group.zarr"), mode="w").create_array("Y", data=np.ones((3, 2)))
    (tmp_path / "empty.zarr").mkdir()
    for name, match in (
        ("empty.zarr", "is no Zarr folder"),
        ("cut.h5ad", "cannot read"),
        ("old.h5ad", "since 0.8"),
        ("group.zarr", "'Y'"),
    ):
        with pytest.raises(errors.FileError, match=match):
            hlm.fit_many(FORMULA, sleep(), tmp_path / name)


@pytest.mark.parametrize(("name", "module"), [("Y.h5ad", "h5py"), ("Y.zarr", "zarr")])
def test_a_library_that_is_missing_is_named_with_its_extra(name, module, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(errors.JaxhlmError, match=r"pip install .jaxhlm\["):
        opened("responses", name)
