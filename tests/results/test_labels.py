"""Labels of fits: every kind comes back from a file as it was, or is refused before the work."""

import datetime as dt
import uuid
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
from cases import three_responses
from jaxhlm import errors
from jaxhlm.likelihood.random_term import RandomTerm
from jaxhlm.results import coefficients
from jaxhlm.results.labels import from_columns, to_columns

NAMES = pd.MultiIndex.from_tuples
LABELS = {
    "text": pd.Index(["a", "b", "c"], name="voxel"),
    "no name": pd.Index(["a", "b", "c"]),
    "range": pd.RangeIndex(3, name="response"),
    "integers": pd.Index([7, 3, 2**40], name=0),
    "small integers": pd.Index([1, 2, 3], dtype="int8"),
    "unsigned": pd.Index([2**63, 1, 2], dtype="uint64"),
    "nullable": pd.Index([1, None, 3], dtype="Int64"),
    "floats": pd.Index([0.1, np.nan, -np.inf]),
    "booleans": pd.Index([True, False, True]),
    "mixed": pd.Index(["a", 1, None], dtype=object),
    "mixed numbers": pd.Index([True, 1, 2.5], dtype=object),
    "text as objects": pd.Index(["a", "b", "c"], dtype=object),
    "twice the same": pd.Index(["a", "a", "b"]),
    "missing": pd.Index(["a", None, "b"]),
    "days": pd.DatetimeIndex(["2020-01-01", "2020-01-02", None], name="day"),
    "seconds": pd.DatetimeIndex(["2020-01-01", "2020-01-02", "2021-01-01"], dtype="M8[s]"),
    "zones": pd.DatetimeIndex(["2020-03-28", "2020-03-29", "2020-03-30"], tz="Europe/Berlin"),
    "mixed zones": pd.Index([pd.Timestamp("2020", tz="Europe/Berlin"), "a", None], dtype=object),
    "durations": pd.to_timedelta([1, 2, 3], unit="h"),
    "periods": pd.period_range("2020-01", periods=3, freq="M"),
    "intervals": pd.interval_range(0, 3),
    "dates": pd.Index([dt.date(2020, 1, i) for i in (1, 2, 3)], dtype=object),
    "times": pd.Index([dt.time(1), dt.timedelta(1), dt.datetime(2020, 1, 1)], dtype=object),
    "others": pd.Index([Decimal("0.1"), b"x", 1 + 2j], dtype=object),
    "tuples": pd.Index([("a", 1), ("b", None), ("c", ("d",))], tupleize_cols=False),
    "category": pd.CategoricalIndex(["b", "a", "b"], ["b", "z", "a"], name="arm"),
    "ordered": pd.CategoricalIndex([2, 1, None], [2, 1], ordered=True),
    "mixed category": pd.CategoricalIndex(["b", 1, "b"], ["b", 1]),
    "two levels": NAMES([("roi1", "theta"), ("roi1", "alpha"), ("roi2", "")], names=["r", None]),
    "integer level": NAMES([("roi", 1), ("roi", 2), ("x", 3)], names=[7, ("a", 2)]),
    "mixed level": NAMES([("roi", 1), ("roi", "b"), (None, 3.5)]),
    "one level": pd.MultiIndex.from_arrays([["a", "b", "c"]], names=["r"]),
    "category level": pd.MultiIndex.from_arrays(
        [pd.Categorical(["b", "a", "b"], ["b", "a"]), pd.DatetimeIndex(["2020", "2022", "2021"])]
    ),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_come_back_equal(kind, tmp_path):
    labels = LABELS[kind]
    fits = replace(three_responses(), index=labels)
    fits.to_parquet(tmp_path / "fits.parquet")
    back = hlm.FitBatch.read_parquet(tmp_path / "fits.parquet")
    pd.testing.assert_index_equal(back.index, labels, exact="equiv")
    assert back.index.names == labels.names
    assert [type(x) for x in back.index] == [type(x) for x in labels]
    pd.testing.assert_frame_equal(back.fixef, fits.fixef)


def test_levels_named_by_numbers_are_not_mistaken_for_positions():
    labels = NAMES([("roi", 1), ("roi", 2)], names=[1, 0])
    columns, spec = to_columns(labels)
    back = from_columns(pd.DataFrame(columns), spec)
    assert back.equals(labels) and back.names == [1, 0]


def test_response_columns_of_any_kind_come_back(tmp_path):
    """From the frame of responses to the file and back, without a step of the user's."""
    data, Y = hlm.load_dataset("sleepstudy"), three_responses().source.Y
    columns = NAMES([("roi", 1), ("roi", 2), ("x", 1)], names=["roi", "t"])
    frame = pd.DataFrame(Y, columns=columns)
    fits = hlm.fit_many("~ Days + (1 | Subject)", data, responses=frame, progress=False)
    fits.to_parquet(tmp_path / "fits.parquet")
    back = hlm.FitBatch.read_parquet(tmp_path / "fits.parquet")
    pd.testing.assert_frame_equal(back.fixef, fits.fixef)
    pd.testing.assert_frame_equal(back.fixef.loc["roi"], fits.fixef.loc["roi"])


def test_parameters_that_print_alike_are_kept_apart(tmp_path):
    terms = (RandomTerm("unit", (0, 1), ("a", "b")), RandomTerm("unit", (2,), ("a.b",)))
    model = replace(three_responses().model, terms=terms)
    theta = np.arange(12.0).reshape(3, 4)
    estimates = replace(three_responses().estimates, theta=theta, theta_standard=theta + 1)
    cov = np.broadcast_to(np.eye(3), (3, 3, 3)).copy()
    fits = replace(three_responses(), model=model, estimates=replace(estimates, cov=cov))
    fits.to_parquet(tmp_path / "fits.parquet", df="normal")
    back = hlm.FitBatch.read_parquet(tmp_path / "fits.parquet")
    np.testing.assert_array_equal(back.theta, theta)


def test_a_label_that_no_file_holds_is_refused_before_the_work(tmp_path, monkeypatch):
    fits = replace(
        three_responses(), index=pd.Index([uuid.UUID(int=i) for i in range(3)], dtype=object)
    )
    monkeypatch.setattr(coefficients, "fixed_tests", lambda *_: pytest.fail("work was done"))
    with pytest.raises(errors.OptionError, match=r"is a UUID.*index=fits\.index\.map\(str\)"):
        fits.to_parquet(tmp_path / "fits.parquet", df="satterthwaite")
    for path, match in (
        (tmp_path / "none" / "x.parquet", "there is no folder"),
        (tmp_path, "is a folder"),
        (3, "path=3"),
    ):
        with pytest.raises(errors.FileError, match=match):
            three_responses().to_parquet(path, df="satterthwaite")
    assert not list(tmp_path.iterdir())


def test_columns_are_readable_by_other_programs():
    columns, _ = to_columns(LABELS["days"])
    assert pd.Series(columns["fit"]).dtype == LABELS["days"].dtype
    columns, spec = to_columns(LABELS["two levels"])
    assert list(columns) == ["fit:0", "fit:1"]
    assert from_columns(pd.DataFrame(columns), spec).equals(LABELS["two levels"])


@pytest.mark.parametrize("mixed", [False, True])
def test_a_zone_that_has_no_name_is_refused_before_the_work(mixed, tmp_path):
    labels = pd.date_range("2020", periods=3, tz="dateutil/Europe/Berlin")
    labels = pd.Index([*labels[:2], "a"], dtype=object) if mixed else labels
    fits = replace(three_responses(), index=labels)
    with pytest.raises(errors.OptionError, match=r"time zone tzfile.*UTC"):
        fits.to_parquet(tmp_path / "fits.parquet")
    assert not list(tmp_path.iterdir())


def test_nanoseconds_of_numpy_are_times():
    labels = pd.Index([np.datetime64("2020-01-01", "ns"), np.timedelta64(5, "ns")], dtype=object)
    back = from_columns(*to_columns(labels))
    assert [*back] == [pd.Timestamp("2020-01-01"), pd.Timedelta(5, "ns")]
