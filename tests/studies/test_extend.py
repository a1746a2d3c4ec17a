"""Extending and trimming, on unbalanced frames with unit-level covariates above all."""

import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
import tolerances as tol
from jaxhlm.errors import GroupingError, MissingColumnError, NotNumericError, OptionError

# Three treated units after two controls; sizes 3, 1, 2, 4, 2; rows by visit, not by unit.
DATA = pd.DataFrame(
    [
        (unit, visit, age, arm, 10 * unit + visit)
        for visit in range(4)
        for unit, age, arm, size in [
            (7, 30.0, "c", 3),
            (3, 31.0, "c", 1),
            (5, 32.0, "t", 2),
            (9, 33.0, "t", 4),
            (8, 34.0, "t", 2),
        ]
        if visit < size
    ],
    columns=["unit", "visit", "age", "arm", "y"],
    index=range(100, 112),
)


def contents(frame, unit):
    return frame[frame["unit"] == unit].drop(columns="unit").to_numpy().tolist()


def test_copies_are_whole_units():
    """Rows, covariates and imbalance, under new labels; the rows there are stay as they were."""
    more = hlm.extend(DATA, along="unit", n=12)
    assert more["unit"].nunique() == 12
    assert more.index.equals(pd.RangeIndex(len(more)))
    pd.testing.assert_frame_equal(more[: len(DATA)], DATA.reset_index(drop=True))
    originals = [contents(DATA, unit) for unit in DATA["unit"].unique()]
    copies = [contents(more, unit) for unit in range(10, 17)]
    for copy in copies:
        assert copy in originals
    # A whole round of five before any unit is copied again.
    assert sorted(map(str, copies[:5])) == sorted(map(str, originals))
    assert copies[5:] == copies[:2]


def test_arms_stay_in_proportion():
    for n in range(1, 31):
        units = hlm.extend(DATA, along="unit", n=n).groupby("unit").first()
        extra = units["arm"].eq("t").sum() - 0.6 * n
        assert abs(extra) <= 0.5, n
    binary = DATA.assign(arm=DATA["arm"].eq("t").astype(int))
    pd.testing.assert_series_equal(
        hlm.extend(binary, along="unit", n=9)["unit"], hlm.extend(DATA, along="unit", n=9)["unit"]
    )


@pytest.mark.parametrize("n", range(1, 12))
def test_frames_are_nested(n):
    """The frame of n units is that of n + 1 without one of them."""
    smaller, larger = (hlm.extend(DATA, along="unit", n=m) for m in (n, n + 1))
    gone = set(larger["unit"]) - set(smaller["unit"])
    assert len(gone) == 1
    rest = larger[~larger["unit"].isin(gone)].reset_index(drop=True)
    pd.testing.assert_frame_equal(rest, smaller)


def test_trimming_keeps_the_first_units_where_there_is_one_kind():
    trimmed = hlm.extend(DATA.drop(columns="arm"), along="unit", n=2)
    assert trimmed["unit"].unique().tolist() == [7, 3]
    assert trimmed["visit"].tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize("kind", ["category", object, "string"])
def test_labels_that_are_strings(kind):
    data = DATA.assign(
        unit=DATA["unit"].map({7: "a", 3: "b", 5: "a_2", 9: "d", 8: "e"}).astype(kind)
    )
    more = hlm.extend(data.drop(columns="arm"), along="unit", n=12)
    assert more["unit"].nunique() == 12
    # "a_2" is taken by a unit of its own.
    assert {"a_3", "a_4", "b_2", "b_3", "a_2_2"} <= set(more["unit"])
    if kind == "category":
        assert isinstance(more["unit"].dtype, pd.CategoricalDtype)


@pytest.mark.parametrize("kind", ["int8", "uint16", float, "Int64"])
def test_labels_that_are_numbers(kind):
    more = hlm.extend(DATA.assign(unit=DATA["unit"].astype(kind)), along="unit", n=8)
    assert pd.api.types.is_numeric_dtype(more["unit"])
    assert more["unit"].unique().tolist() == [7, 3, 5, 9, 8, 10, 11, 12]


def test_a_balanced_frame_gets_balanced_copies_that_fit():
    data = hlm.load_dataset("sleepstudy")
    more = hlm.extend(data, along="Subject", n=36)
    fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", more, reml=False)
    once = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", data, reml=False)
    assert abs(fit.criterion / 2 - once.criterion) < tol.CRITERION


def test_rows_are_taken_again_within_units():
    more = hlm.extend(DATA, within="unit", n=4)
    assert (more.groupby("unit").size() == 4).all()
    assert more.query("unit == 7")["visit"].tolist() == [0, 1, 2, 0]
    assert more.query("unit == 3")["visit"].tolist() == [0, 0, 0, 0]
    assert more.groupby("unit")["age"].nunique().eq(1).all()
    assert (
        more.groupby("unit")["age"].first().to_dict()
        == DATA.groupby("unit")["age"].first().to_dict()
    )


def test_a_grid_is_continued_within_units():
    more = hlm.extend(DATA, within="unit", n=5, continuing="visit")
    assert more.groupby("unit")["visit"].apply(list).tolist() == [[0, 1, 2, 3, 4]] * 5
    assert more["visit"].dtype == DATA["visit"].dtype


@pytest.mark.parametrize(
    ("kind", "wide"), [("int8", "int64"), ("Int8", "int64"), ("uint16", "uint16")]
)
def test_a_grid_that_outgrows_its_type_gets_a_wider_one(kind, wide):
    days = DATA.assign(visit=(30 * DATA["visit"]).astype(kind))
    more = hlm.extend(days, within="unit", n=7, continuing="visit")
    assert more.groupby("unit")["visit"].apply(list).tolist() == [[*range(0, 210, 30)]] * 5
    assert more["visit"].dtype == wide


def test_levels_within_units_come_back_with_a_continued_grid():
    """Two eyes at every visit: every later visit has both, and half a round is cut."""
    design = hlm.units(2, within={"x": [0.0, 0.5]}, crossed={"eye": ["l", "r"]})
    more = hlm.extend(design.frame(), within="unit", n=7, continuing="x").query("unit == 1")
    assert more["eye"].tolist() == ["l", "r"] * 3 + ["l"]
    np.testing.assert_allclose(more["x"], [0, 0, 0.5, 0.5, 1.0, 1.0, 1.5])


def test_trimming_within_units_takes_their_first_rows():
    trimmed = hlm.extend(DATA, within="unit", n=1)
    assert trimmed["unit"].tolist() == [7, 3, 5, 9, 8]
    assert (trimmed["visit"] == 0).all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n": 3}, OptionError, "either along="),
        ({"n": 3, "along": "unit", "within": "unit"}, OptionError, "either along="),
        ({"n": 0, "along": "unit"}, OptionError, "n=0 must"),
        ({"n": 2.0, "along": "unit"}, OptionError, "n=2.0 must"),
        ({"n": 9, "along": "units"}, MissingColumnError, "closest: 'unit'"),
        ({"n": 9, "along": "unit", "continuing": "visit"}, OptionError, "goes with within="),
        ({"n": 9, "within": "unit", "continuing": "arm"}, NotNumericError, "'arm' must hold"),
        ({"n": 9, "within": "unit", "continuing": "z"}, MissingColumnError, "no column 'z'"),
    ],
)
def test_impossible_requests(options, error, message):
    with pytest.raises(error, match=message):
        hlm.extend(DATA, **options)


def test_impossible_frames():
    with pytest.raises(OptionError, match="resized"):
        hlm.extend(hlm.units(3), along="unit", n=4)
    with pytest.raises(OptionError, match="missing labels"):
        hlm.extend(DATA.assign(unit=np.nan), along="unit", n=4)
    for large in (DATA["unit"] * 1e16, DATA["unit"] + (2**63 - 11)):
        with pytest.raises(GroupingError, match="not told apart"):
            hlm.extend(DATA.assign(unit=large), along="unit", n=20)
    with pytest.raises(OptionError, match="no rows"):
        hlm.extend(DATA[:0], along="unit", n=4)
    with pytest.raises(OptionError, match="not equally spaced"):
        hlm.extend(DATA.assign(visit=DATA["visit"] ** 2), within="unit", n=9, continuing="visit")
    with pytest.raises(OptionError, match="one value only"):
        hlm.extend(DATA.assign(visit=1), within="unit", n=9, continuing="visit")
