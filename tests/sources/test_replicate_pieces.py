"""Replicates read from tables in pieces: the fits, tables and warnings of the same frame in memory.

To the bit: the rows of a run are those of a run in memory.
"""

import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import dask.dataframe
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pytest

import jaxhlm as hlm
import tolerances as tol
from jaxhlm import errors
from jaxhlm.core import chunks
from jaxhlm.fitting import storing
from jaxhlm.sources import frames, replicate_pieces
from jaxhlm.sources.replicate_pieces import ReplicatePieces

PLAIN = "y ~ x * a + (1 + x | unit)"
FORMULAS = {
    "plain": (PLAIN, None),
    "weighted": (PLAIN, "w"),
    "late": ("y ~ x + arm + flag + (1 | site)", None),
    "learned": ("y ~ center(x) + C(code) + (1 | site)", None),
    "constant": ("y ~ x + one + a + (1 | unit)", None),
    "aliased": ("y ~ x + twice + a + (1 | unit)", None),
    "missing": ("holes ~ x * arm + (1 + x | unit)", "v"),
    "crossed": ("y ~ x + (1 | site:unit)", None),
}
B = 18


def made():
    """Data sets of unequal sizes; what a factor, or a column, is shows in the last of them."""
    rng, parts = np.random.default_rng(5), []
    for k in range(B):
        n = int(rng.integers(60, 90))
        unit = np.sort(rng.integers(0, 12, n))
        x = rng.normal(size=n)
        arm = rng.choice(["c", "b"] if k < B - 2 else ["a", "b", "c"], n)
        parts.append(
            pd.DataFrame(
                {
                    "rep": 3 * k + 1, "unit": unit + 10, "site": "s" + pd.Series(unit).astype(str),
                    "x": x, "a": rng.normal(size=12)[unit], "flag": x > 0.3,
                    "code": rng.integers(0, 3 if k < B - 1 else 4, n), "w": rng.uniform(0.5, 2, n),
                    "one": 1.0, "twice": 2.0 * x + (k == B - 2) * rng.normal(size=n),
                    "arm": pd.Categorical(arm, ["b", "a", "z", "c"]),
                    "y": 1 + x + rng.normal(size=12)[unit] + rng.normal(size=n),
                }
            )
        )  # fmt: skip
    data = pd.concat(parts, ignore_index=True)
    data["v"], data["holes"] = data["w"], data["y"]
    data.loc[::17, "holes"] = np.nan
    data.loc[5::23, "v"] = np.nan
    data.loc[data["rep"] == 7, "holes"] = np.nan
    data.loc[data["rep"] == 10, "holes"] = 3.5
    data.loc[np.flatnonzero(data["rep"] == 13)[4], "x"] = np.inf
    return data


DATA = made()
FINITE = DATA.assign(x=DATA["x"].replace(np.inf, 0.5))


def hive(data, path):
    """A folder of folders, whose names say the replicate, as whole numbers of 32 bits."""
    data.to_parquet(path, partition_cols=["rep"])
    return path


def one(data, path):
    data.to_parquet(path.with_suffix(".parquet"), row_group_size=150)
    return str(path.with_suffix(".parquet"))


def several(data, path):
    path.mkdir()
    for i, part in enumerate(np.array_split(np.arange(len(data)), 4)):
        data.iloc[part].to_parquet(path / f"{i}.parquet", row_group_size=100)
    return path


def dataset(data, path):
    return pa.dataset.dataset(several(data, path))


def held(data, path):
    """A pyarrow data set of two tables in memory."""
    parts = np.array_split(np.arange(len(data)), 2)
    tables = [pa.Table.from_pandas(data.iloc[part], preserve_index=False) for part in parts]
    return pa.dataset.dataset(
        pa.concat_tables(tables).combine_chunks().to_batches(max_chunksize=300)
    )


def dask_frame(data, path):
    return dask.dataframe.from_pandas(data, npartitions=3)


LAYOUTS = [hive, one, dataset, held, dask_frame]


@pytest.fixture(autouse=True)
def short_runs(monkeypatch):
    """Several runs, which share pieces; a sample that does not happen to hold everything."""
    monkeypatch.setattr(chunks, "MAX_LANES", 8)
    monkeypatch.setattr(frames, "LANES", 8)
    monkeypatch.setattr(replicate_pieces, "LANES", 8)
    monkeypatch.setattr(replicate_pieces, "FEW_ROWS", 150)
    monkeypatch.setattr(replicate_pieces, "TEMPLATE_ROWS", 150)
    monkeypatch.setattr(replicate_pieces, "SCATTERED", np.inf)


def told(call, *arguments, **options):
    """What a call returns, and its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = call(*arguments, **options)
    return found, [str(one.message) for one in caught]


def of(kind):
    """Formula, column of weights and data."""
    return *FORMULAS[kind], DATA if kind == "missing" else FINITE


@cache
def in_memory(kind):
    """The fits of the frame, and what was said."""
    formula, weights, data = of(kind)
    return told(hlm.fit_many, formula, data, by="rep", weights=weights)


def assert_same(found, expected):
    """The same numbers of all fits."""
    assert (found.index == expected.index).all() and found.index.name == expected.index.name
    for name, values in vars(expected.record.estimates).items():
        np.testing.assert_allclose(
            getattr(found.record.estimates, name), values, rtol=tol.BATCH, atol=tol.BATCH,
            err_msg=name,
        )  # fmt: skip
    for name in ("nobs", "ngroups", "status"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fits_are_those_of_the_frame_in_memory(layout, tmp_path):
    (formula, weights, data), (expected, said) = of("missing"), in_memory("missing")
    given = layout(data, tmp_path / "set")
    found, also = told(hlm.fit_many, formula, given, by="rep", weights=weights)
    assert isinstance(found.source, ReplicatePieces)
    assert_same(found, expected)
    # Rows of a data set that has no complete one count as dropped too.
    assert also[1:] == said[1:] and "dropped" in also[0]


EXACT = {"check_dtype": False, "check_index_type": False, "rtol": tol.BATCH, "atol": tol.BATCH}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in FORMULAS if kind != "plain"])
def test_what_needs_rows_is_that_of_the_frame_in_memory(kind, tmp_path):
    (formula, weights, data), (expected, said) = of(kind), in_memory(kind)
    given = several(data, tmp_path / "set")
    found, also = told(hlm.fit_many, formula, given, by="rep", weights=weights)
    assert_same(found, expected)
    assert also[kind == "missing" :] == said[kind == "missing" :]
    assert (found.source.maker.plain is not None) == (kind == "weighted")
    found = pickle.loads(pickle.dumps(found))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for table in (
            lambda f: f.tidy(),
            lambda f: f.ranef,
            lambda f: f.augment(),
            lambda f: (
                f.emmeans("arm") if kind in ("late", "missing") else f.emmeans("x", at={"x": [1]})
            ),
            lambda f: f[5].ranef,
            lambda f: f[5].augment(),
            lambda f: f[[15, 3]].predict(data.iloc[:5], new_levels="population").to_frame(),
        ):
            pd.testing.assert_frame_equal(table(found), table(expected), **EXACT)
    assert str(found) == str(expected)
    if kind != "missing":
        assert str(found[5]) == str(expected[5])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "layout"), [("plain", several), ("plain", held), ("missing", dask_frame)]
)
def test_workers_and_folders(kind, layout, tmp_path, monkeypatch):
    monkeypatch.setattr(storing, "FILE_BYTES", 2**12)
    (formula, weights, data), (expected, _) = of(kind), in_memory(kind)
    given, options = layout(data, tmp_path / "set"), {"by": "rep", "weights": weights}
    out = {"out": tmp_path / "out"}
    with ThreadPoolExecutor(2) as pool:
        for more in ({}, {**out, "workers_write": True}):
            found, _ = told(hlm.fit_many, formula, given, **options, executor=pool, **more)
            assert_same(found[:], expected)
    files = sorted(out["out"].glob("*/*.parquet"))
    assert len(files) > 1
    before = files[0].read_bytes()
    files[0].unlink()
    assert_same(told(hlm.fit_many, formula, given, **options, **out, resume=True)[0][:], expected)
    assert files[0].read_bytes() == before
    other = layout(data.assign(y=data["y"] + 1, holes=data["holes"] + 1), tmp_path / "other")
    with pytest.raises(errors.FolderError, match="differs in data"):
        told(hlm.fit_many, formula, other, **options, **out, resume=True)


def test_a_task_carries_where_rows_are(tmp_path):
    found = hlm.fit_many(PLAIN, several(FINITE, tmp_path / "set"), by="rep")
    own = pickle.dumps(found.source.own(slice(0, 8)))
    assert len(own) < 8_000 < 8 * 5 * len(FINITE) * 8 / B


def test_rows_that_lie_all_over_are_read_at_once(tmp_path, monkeypatch):
    shuffled = FINITE.sample(frac=1.0, random_state=1).reset_index(drop=True)
    expected, given = hlm.fit_many(PLAIN, shuffled, by="rep"), several(shuffled, tmp_path / "set")
    monkeypatch.setattr(replicate_pieces, "SCATTERED", 3.0)
    found = hlm.fit_many(PLAIN, given, by="rep")
    assert not isinstance(found.source, ReplicatePieces)
    assert_same(found, expected)
    monkeypatch.setattr(replicate_pieces, "shared_bytes", lambda: 1000)
    with pytest.warns(errors.ScatteredRowsWarning, match="is read about 4 times: sort it by 'rep'"):
        found = hlm.fit_many(PLAIN, given, by="rep")
    assert isinstance(found.source, ReplicatePieces)
    assert_same(found, expected)


def test_runs_end_with_files(tmp_path, monkeypatch):
    monkeypatch.setattr(replicate_pieces, "LANES", 12)
    path = tmp_path / "set"
    path.mkdir()
    for i in range(3):
        FINITE[FINITE["rep"] // 18 == i].to_parquet(path / f"{i}.parquet")
    source = hlm.fit_many(PLAIN, path, by="rep").source
    assert [run.stop for run in source.runs()] == [6, 12, 18]
    assert source.times_read == 1.0


def test_labels_of_categories_come_in_their_order(tmp_path):
    data = FINITE.assign(rep=pd.Categorical("r" + FINITE["rep"].astype(str)))
    data["rep"] = data["rep"].cat.set_categories(data["rep"].cat.categories[::-1])
    expected = hlm.fit_many(PLAIN, data, by="rep")
    found = hlm.fit_many(PLAIN, several(data, tmp_path / "set"), by="rep")
    assert_same(found, expected)
    assert found.index.equals(expected.index) and found.index[0] == "r7"
    pd.testing.assert_frame_equal(found.ranef, expected.ranef, **EXACT)


def test_labels_are_sorted_text(tmp_path):
    data = FINITE.assign(rep="r" + FINITE["rep"].astype(str))
    expected = hlm.fit_many(PLAIN, data, by="rep")
    for layout in (hive, several):
        found = hlm.fit_many(PLAIN, layout(data, tmp_path / layout.__name__), by="rep")
        assert_same(found, expected)
        assert found.loc["r7"].nobs == expected.loc["r7"].nobs


def test_a_formula_that_is_code(tmp_path):
    formula, options = "y ~ x.clip(-1, 1) + arm + (1 | unit)", {"by": "rep", "unsafe_formula": True}
    expected, _ = told(hlm.fit_many, formula, FINITE, **options)
    found, _ = told(hlm.fit_many, formula, several(FINITE, tmp_path / "set"), **options)
    assert_same(found, expected)
    pd.testing.assert_frame_equal(found.ranef, expected.ranef, **EXACT)


def test_a_set_that_changes_is_told(tmp_path):
    path = several(FINITE, tmp_path / "set")
    found = hlm.fit_many(PLAIN, path, by="rep")
    FINITE.iloc[::2].to_parquet(path / "0.parquet", row_group_size=100)
    with pytest.raises(errors.FileError, match="it changed meanwhile"):
        _ = found[0]
    (path / "0.parquet").unlink()
    with pytest.raises(errors.FileError, match=r"0\.parquet"):
        _ = found[0]


def test_bad_input(tmp_path):
    path = several(FINITE, tmp_path / "set")
    kept = pa.dataset.dataset(path).filter(pa.dataset.field("rep") == 1)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.parquet").write_bytes(b"no")
    gaps = several(FINITE.assign(rep=FINITE["rep"].where(FINITE.index > 3)), tmp_path / "gaps")
    cases = [
        ({"data": tmp_path / "none"}, errors.FileError, "no file or folder"),
        ({"data": tmp_path / "notes.txt"}, errors.FileError, "give a .parquet file"),
        ({"data": tmp_path / "bad.parquet"}, errors.FileError, "cannot read .*bad"),
        ({"data": tmp_path / "empty"}, errors.FileError, "holds no Parquet files"),
        ({"data": kept}, errors.OptionError, "filtered"),
        ({"data": gaps}, errors.OptionError, "'rep' has missing values"),
        ({"by": "repp"}, errors.MissingColumnError, "by='repp' .*'rep'"),
        ({"by": 3}, errors.MissingColumnError, "by='int'"),
        ({"weights": np.ones(len(FINITE))}, errors.WeightsError, "name of a column"),
        ({"weights": "x"}, errors.WeightsError, "positive"),
        ({"formula": "y ~ z + (1 | unit)"}, errors.MissingColumnError, "'z'"),
        ({"formula": "site ~ x + (1 | unit)"}, errors.NotNumericError, "numeric"),
        ({"formula": "y ~ x + (1 | x)"}, errors.GroupingError, "not whole"),
        ({"devices": 1}, errors.OptionError, "devices=1: data sets with rows of their own"),
        ({"responses": np.ones((3, 2))}, errors.OptionError, "either responses= .* or by="),
        ({"by": None, "responses": np.ones((3, 2))}, errors.OptionError, "data must be a table"),
    ]
    for changed, kind, message in cases:
        options = {"formula": PLAIN, "data": path, "by": "rep"} | changed
        with pytest.raises(kind, match=message):
            hlm.fit_many(**options)


def test_a_sample_that_makes_no_model_grows(tmp_path):
    """Every file has one level only; the first data set has a response that never varies."""
    data = FINITE.assign(arm=np.where(FINITE["rep"] > 25, "b", "a"))
    data.loc[data["rep"] == 1, "y"] = 2.0
    formula = "y ~ x + arm + (1 | unit)"
    expected, _ = told(hlm.fit_many, formula, data, by="rep")
    found, _ = told(hlm.fit_many, formula, several(data, tmp_path / "set"), by="rep")
    assert_same(found, expected)
    assert len(found.source.maker.sample) < 550


@pytest.mark.parametrize("first", ["float32", "int8"])
def test_numbers_are_as_wide_as_in_any_file(first, tmp_path):
    """pyarrow reads all files by the types of the first."""
    data = FINITE.assign(y=np.where(FINITE["rep"] > 1, FINITE["y"] + 1e7, 1.0 + (FINITE["x"] > 0)))
    path = tmp_path / "set"
    path.mkdir()
    data[data["rep"] == 1].astype({"y": first}).to_parquet(path / "0.parquet")
    data[data["rep"] > 1].to_parquet(path / "1.parquet")
    expected, _ = told(hlm.fit_many, PLAIN, data, by="rep")
    assert_same(told(hlm.fit_many, PLAIN, path, by="rep")[0], expected)


def test_a_column_of_numbers_in_some_files_only_is_refused(tmp_path):
    path = tmp_path / "set"
    path.mkdir()
    FINITE[FINITE["rep"] == 1].assign(a=True).to_parquet(path / "0.parquet")
    FINITE[FINITE["rep"] > 1].to_parquet(path / "1.parquet")
    with pytest.raises(errors.FileError, match=r"'a' is double in .*1.parquet and bool in files"):
        hlm.fit_many(PLAIN, path, by="rep")


def test_other_numbers_in_as_many_rows_are_noticed(tmp_path):
    path = several(FINITE, tmp_path / "set")
    found = hlm.fit_many(PLAIN, path, by="rep")
    rows = pd.read_parquet(path / "0.parquet")
    rows.assign(y=2.0 * rows["y"]).to_parquet(path / "0.parquet", row_group_size=100)
    with pytest.raises(errors.FileError, match="it changed meanwhile"):
        found.df()


def test_names_of_a_dask_frame_need_not_be_text():
    data = FINITE.rename(columns={"x": 1})
    expected = hlm.fit_many("y ~ `1` + (1 | unit)", data, by="rep")
    given = dask.dataframe.from_pandas(data, npartitions=3)
    assert_same(hlm.fit_many("y ~ `1` + (1 | unit)", given, by="rep"), expected)
