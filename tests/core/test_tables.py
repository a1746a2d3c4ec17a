"""Tables of other libraries are the same data everywhere that a table is taken."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import jaxhlm as hlm
from jaxhlm import errors
from jaxhlm.core.tables import Shown, as_frame

FORMULA = "y ~ dose * late + (1 | site)"
TRUTH = hlm.Truth.of([5.0, 1.0, 0.5, 0.5, 0.0, 0.0], sd=[1.0], sigma=1.0)
TABLES = {
    "polars": pl.from_pandas,
    "arrow": lambda frame: pa.Table.from_pandas(frame, preserve_index=False),
    "dict": lambda frame: {name: frame[name].to_numpy() for name in frame},
}


@pytest.fixture(scope="module")
def frame():
    """A factor whose levels are in an order of their own, flags, text and a missing number."""
    rng, i = np.random.default_rng(1), np.arange(120)
    levels = ["none", "low", "high"]
    data = pd.DataFrame({"dose": pd.Categorical.from_codes(i % 3, levels), "late": i % 2 == 0})
    data["site"], data["n"] = [f"s{k % 8}" for k in i], pd.array([None, *i[1:]], "Int64")
    data["copy"], data["y"] = i // 60, rng.normal(size=120) + rng.normal(size=8)[i % 8]
    return data


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.JaxhlmWarning")
@pytest.mark.parametrize("kind", TABLES)
def test_every_function_takes_tables(kind, frame):
    # Without an order of levels, as text and polars' Categorical: that of the alphabet.
    frame = frame if kind == "arrow" else frame.astype({"dose": object})
    table, new = TABLES[kind](frame), TABLES[kind](frame.iloc[5:9])
    fit, same = hlm.fit(FORMULA, table), hlm.fit(FORMULA, frame)
    assert fit.fixef.equals(same.fixef)
    np.testing.assert_array_equal(fit.predict(new), same.predict(frame.iloc[5:9]))
    assert hlm.fit("y ~ n + (1 | site)", table).nobs == 119
    one, other = (hlm.fit_many(FORMULA, t, by="copy").fixef for t in (table, frame))
    assert one.equals(other)
    Y = frame[["y"]].to_numpy()
    one, other = (hlm.fit_many(FORMULA, t, Y).fixef for t in (table, frame))
    assert one.equals(other)
    one, other = (hlm.lm_list("y ~ late + (1 + late | site)", t).coef for t in (table, frame))
    assert one.equals(other)
    assert hlm.design(FORMULA, table).xnames == hlm.design(FORMULA, frame).xnames
    one, other = (hlm.mechanism(FORMULA, t, TRUTH).draw(0, 2, seed=1).fit() for t in (table, frame))
    assert one.fixef.equals(other.fixef)
    one, other = (hlm.extend(t, along="site", n=9) for t in (table, frame))
    assert one["y"].equals(other["y"])


@pytest.mark.parametrize(
    ("dtype", "levels"), [(pl.Categorical, ["a", "b", "c"]), (pl.Enum(["c", "a", "b"]), [*"cab"])]
)
def test_levels_of_polars_do_not_depend_on_the_order_of_rows(dtype, levels):
    for rows in (["b", None, "c", "a"], ["c", "a", None, "b"]):
        found = as_frame("data", pl.DataFrame({"f": pl.Series(rows, dtype=dtype)}))["f"]
        assert found.cat.categories.tolist() == levels
        assert found.dropna().tolist() == [level for level in rows if level]


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (np.zeros((3, 2)), "got numpy.ndarray"),
        ({"x": [1, 2], "y": [1]}, "one length"),
        ({"x": 1}, "one length"),
        (pl.LazyFrame({"x": [1]}), "collect"),
        (pl.Series([1]), r"got polars.Series; its to_pandas\(\) makes a table"),
        ([1, 2], "got list"),
        (pa.record_batch({"x": [1]}), r"this pyarrow.RecordBatch: .*to_pandas\(\) makes a table"),
        (pa.table([[1], [2]], ["x", "x"]), "this pyarrow.Table: .*unique column names"),
        (None, "got NoneType"),
    ],
)
def test_what_is_no_table_is_told_by_its_type(value, match):
    with pytest.raises(errors.OptionError, match=f"^data .*{match}"):
        as_frame("data", value)


def test_a_result_prints_all_of_its_columns_and_what_is_made_of_it_is_a_frame():
    plain = pd.DataFrame({f"a_column_{j}": [1.5, 2.5] for j in range(12)})
    shown = Shown(plain, ["one line", "another"])
    assert all(name in repr(shown) for name in plain) and "..." not in repr(shown)
    assert max(map(len, repr(shown).splitlines())) <= 80
    assert repr(shown).endswith("\none line\nanother")
    assert "another</p>" in shown._repr_html_()
    assert pd.get_option("display.max_columns") == 0
    with pd.option_context("display.max_columns", 4):
        assert "..." in repr(shown)
    made = (shown.head(1), shown[["a_column_1"]], shown.assign(x=1), shown.T, shown.copy())
    assert {type(frame) for frame in made} == {pd.DataFrame}
    pd.testing.assert_frame_equal(plain, shown)
    pd.testing.assert_frame_equal(shown, plain)
    again = pickle.loads(pickle.dumps(shown))
    assert again.notes == shown.notes and again.equals(plain)
