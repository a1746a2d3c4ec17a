"""Designs: columns and names as lme4 makes them, and every refusal with its culprit."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
import tolerances as tol
from jaxhlm import errors
from jaxhlm.datasets import load_dataset
from jaxhlm.design.design import build_design
from jaxhlm.design.new_rows import design_for

SIZE, GROUPS = 60, 10


@pytest.fixture
def data():
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "y": rng.normal(10.0, 1.0, SIZE),
            "x": rng.normal(size=SIZE),
            "week": np.tile([0, 1, 2], SIZE // 3),
            "flag": np.tile([True, False, False, True], SIZE // 4),
            "arm": np.tile(["b", "a", "c"], SIZE // 3)[rng.permutation(SIZE)],
            "unit": np.repeat(np.arange(GROUPS), SIZE // GROUPS),
            "my x": rng.normal(size=SIZE),
        },
        index=pd.RangeIndex(100, 100 + SIZE),
    )


# lme4 1.1-31's own names, from the reference fits.
LME4_NAMES = [
    ("article", "y ~ x * a + (1 + x | unit)", ("(Intercept)", "x", "a", "x:a")),
    (
        "math_achieve",
        "MathAch ~ SES * MEANSES + (1 + SES | School)",
        ("(Intercept)", "SES", "MEANSES", "SES:MEANSES"),
    ),
    ("sleepstudy", "Reaction ~ Days + (Days | Subject)", ("(Intercept)", "Days")),
]


@pytest.mark.parametrize(("name", "formula", "terms"), LME4_NAMES)
def test_names_are_those_of_lme4(name, formula, terms):
    design = build_design(formula, load_dataset(name))
    assert design.xnames == terms
    assert design.znames == terms[:2]
    assert (design.X[:, 0] == 1).all()
    assert design.n == len(load_dataset(name))


def test_values_shapes_and_dtypes(data):
    design = build_design("y ~ x*week + (x | unit)", data)
    x, week = data["x"].to_numpy(), data["week"].to_numpy()
    expected = np.column_stack([np.ones(SIZE), x, week, x * week])
    np.testing.assert_array_equal(design.X, expected)
    np.testing.assert_array_equal(design.Z, expected[:, :2])
    np.testing.assert_array_equal(design.y, data["y"])
    np.testing.assert_array_equal(design.group, data["unit"])
    assert (design.n, design.p, design.q, design.G, design.ngroups) == (SIZE, 4, 2, GROUPS, GROUPS)
    assert design.X.dtype == design.Z.dtype == design.y.dtype == np.float64
    assert design.index.equals(data.index)
    assert (design.group_name, design.response_name) == ("unit", "y")
    assert design.weights is None and design.n_dropped == 0 and design.kept.all()


FACTORS = [
    ("y ~ arm + (1 | unit)", ("(Intercept)", "armb", "armc")),
    ("y ~ 0 + arm + flag + (1 | unit)", ("arma", "armb", "armc", "flagTrue")),
    ("y ~ arm:x + (1 | unit)", ("(Intercept)", "arma:x", "armb:x", "armc:x")),
    ("y ~ flag*x + (1 | unit)", ("(Intercept)", "flagTrue", "x", "flagTrue:x")),
    ("y ~ C(week) + (1 | unit)", ("(Intercept)", "C(week)1", "C(week)2")),
    ("y ~ I(x > 0) + I(flag * x) + (1 | unit)", ("(Intercept)", "I(x > 0)True", "I(flag * x)")),
    ("y ~ poly(x, 2) + (1 | unit)", ("(Intercept)", "poly(x, 2)1", "poly(x, 2)2")),
    ("log(y) ~ `my x` + np.exp(x) + (1 | unit)", ("(Intercept)", "my x", "np.exp(x)")),
    ("y ~ x + (1 | unit) - 1", ("x",)),
]


@pytest.mark.parametrize(("formula", "names"), FACTORS)
def test_coding_and_names(data, formula, names):
    assert build_design(formula, data).xnames == names


@pytest.mark.parametrize("dtype", ["str", "object", "category", "string", "string[pyarrow]"])
def test_every_kind_of_text_is_a_factor(data, dtype):
    data["arm"] = data["arm"].astype(dtype)
    design = build_design("y ~ arm + (1 | unit)", data)
    np.testing.assert_array_equal(design.X[:, 1], data["arm"] == "b")


@pytest.mark.parametrize("dtype", ["Float64", "float32", "object", "double[pyarrow]"])
def test_every_kind_of_number_is_numeric(data, dtype):
    data["x"] = data["x"].round(1).astype(dtype)
    np.testing.assert_allclose(
        build_design("y ~ x + (1 | unit)", data).X[:, 1], data["x"].astype(float)
    )


def test_integers_do_not_wrap_around(data):
    data["week"] = data["week"].astype("int8") * 40
    design = build_design("y ~ I(week**2) + (1 | unit)", data)
    assert design.X[:, 1].max() == 6400.0


def test_categorical_order_decides_the_base_and_unused_levels_go(data):
    data["arm"] = pd.Categorical(data["arm"], categories=["z", "c", "b", "a"])
    assert build_design("y ~ arm + (1|unit)", data).xnames == ("(Intercept)", "armb", "arma")


BLOCKS = [
    ("(1 | unit)", ("(Intercept)",), ((0,),)),
    ("(x | unit)", ("(Intercept)", "x"), ((0, 1),)),
    ("(0 + x | unit)", ("x",), ((0,),)),
    ("(1 + x || unit)", ("(Intercept)", "x"), ((0,), (1,))),
    ("(1 | unit) + (0 + x | unit)", ("(Intercept)", "x"), ((0,), (1,))),
    ("(1 + x | unit) + (0 + `my x` || unit)", ("(Intercept)", "x", "my x"), ((0, 1), (2,))),
    ("(0 + arm || unit)", ("arma", "armb", "armc"), ((0,), (1,), (2,))),
]


@pytest.mark.parametrize(("random", "names", "blocks"), BLOCKS)
def test_random_terms(data, random, names, blocks):
    design = build_design(f"y ~ x + {random}", data)
    assert (design.znames, design.blocks) == (names, blocks)


GROUP_LABELS = [
    (lambda unit: unit * 7 - 3, 7 * np.arange(GROUPS) - 3),
    (lambda unit: unit.astype(float), np.arange(GROUPS)),
    (lambda unit: "u" + unit.astype(str), [f"u{i}" for i in range(GROUPS)]),
    (
        lambda unit: pd.Categorical(unit, categories=[99, *range(9, -1, -1)]),
        np.arange(9, -1, -1),
    ),
    (
        lambda unit: pd.Timestamp("2020-01-01") + pd.to_timedelta(unit, "D"),
        pd.date_range("2020-01-01", periods=GROUPS),
    ),
    (lambda unit: unit > 4, [False, True]),
]


@pytest.mark.parametrize(("relabel", "levels"), GROUP_LABELS)
def test_group_labels(data, relabel, levels):
    data["unit"] = relabel(data["unit"])
    data = data.sample(frac=1.0, random_state=3)
    design = build_design("y ~ x + (1 | unit)", data)
    assert list(design.levels) == list(levels)
    assert (design.levels[design.group] == data["unit"].to_numpy()).all()
    np.testing.assert_array_equal(design_for(design, data)[2], design.group)


def test_combined_grouping_columns(data):
    design = build_design("y ~ x + (1 | arm:unit)", data)
    pairs = data["arm"] + ":" + data["unit"].astype(str)
    assert sorted(design.levels) == sorted(pairs.unique())
    assert list(design.levels[design.group]) == list(pairs)
    new = pd.DataFrame({"x": [0.0] * 3, "arm": ["a", "z", None], "unit": [0, 0, 0]})
    codes = design_for(design, new)[2]
    assert list(codes[1:]) == [-1, -1]
    with pytest.raises(errors.GroupingError, match="arm:two"):
        data["arm"], data["two"] = np.where(data["flag"], "p", "p:q"), "r"
        data.loc[data["flag"], "two"] = "q:r"
        build_design("y ~ x + (1 | arm:two)", data)


def test_missing_rows_are_dropped_and_counted(data):
    data.loc[101, "x"] = np.nan
    data.loc[[101, 105], "arm"] = None
    data["unused"] = np.nan
    weights = np.ones(SIZE)
    weights[9] = np.nan
    with pytest.warns(errors.RowsDroppedWarning) as caught:
        design = build_design("y ~ x + arm + (1 | unit)", data, weights)
    text = str(caught[0].message)
    assert text == "dropped 3 of 60 rows with missing values (x: 1, arm: 2, weights: 1)"
    assert (design.n, design.n_dropped) == (57, 3)
    assert list(data.index[~design.kept]) == [101, 105, 109]
    assert design.index.equals(data.index[design.kept])


def test_warnings_point_at_the_line_of_the_caller(data):
    data.loc[103, "x"] = np.nan
    formula, Y = "y ~ x + I(2 * x) + (1 | unit)", np.random.default_rng(2).normal(size=(SIZE, 2))
    for call in (lambda: hlm.fit(formula, data), lambda: hlm.fit_many(formula, data, Y)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
        files = {w.category: w.filename for w in caught}
        assert files[errors.RowsDroppedWarning] == __file__
        assert files[errors.RankDeficientWarning] == __file__


def test_booleans_with_gaps_stay_a_factor(data):
    data["flag"] = data["flag"].astype(object).where(data["week"] > 0, None)
    with pytest.warns(errors.RowsDroppedWarning, match="flag: 20"):
        design = build_design("y ~ flag + (1 | unit)", data)
    assert design.xnames == ("(Intercept)", "flagTrue")
    assert np.isnan(design_for(design, data)[0][:, 1]).sum() == 20


def test_a_level_lost_with_its_rows_is_no_level(data):
    data.loc[data["unit"] == 3, "y"] = np.nan
    with pytest.warns(errors.RowsDroppedWarning):
        design = build_design("y ~ x + (1 | unit)", data)
    assert 3 not in design.levels and design.group.max() == GROUPS - 2


def test_duplicate_index_labels_are_fine(data):
    data.index = ["r"] * SIZE
    design = build_design("y ~ x + arm + (x | unit)", data, weights=data["x"] ** 2 + 1)
    np.testing.assert_array_equal(design.X[:, 1], data["x"])
    np.testing.assert_array_equal(design.weights, data["x"] ** 2 + 1)


def test_rank_deficiency_is_resolved_from_the_left_as_in_lmer(data):
    data["twice"], data["sum"] = 2 * data["x"], data["x"] + data["my x"]
    message = (
        "fixed-effect model matrix is rank deficient so dropping 2 columns / coefficients: "
        "twice, sum"
    )
    with pytest.warns(errors.RankDeficientWarning) as caught:
        design = build_design("y ~ x + twice + `my x` + sum + (1 | unit)", data)
    assert str(caught[0].message) == message
    assert design.xnames == ("(Intercept)", "x", "my x")
    assert design.dropped_columns == ("twice", "sum")
    assert design_for(design, data)[0].shape == (SIZE, 3)


@pytest.mark.parametrize(("shift", "kept"), [(1e-4, True), (1e-9, False)])
def test_rank_tolerance(data, shift, kept):
    data["near"] = data["x"] + shift * data["my x"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.RankDeficientWarning)
        design = build_design("y ~ x + near + (1 | unit)", data)
    assert ("near" in design.xnames) is kept


def test_huge_columns_do_not_overflow(data):
    data["x"] *= 1e200
    assert build_design("y ~ x + (1 | unit)", data).xnames == ("(Intercept)", "x")


@pytest.mark.parametrize("formula", ["~ x + (1 | unit)", "absent ~ x + (1 | unit)"])
def test_response_matrix(data, formula):
    design = build_design(formula, data, response_rows=SIZE)
    assert design.y is None and design.response_name == ""
    with pytest.raises(errors.ResponseShapeError, match="59 rows, the data have 60"):
        build_design(formula, data, response_rows=59)


def test_weights_by_name_array_and_series(data):
    data["w"] = np.linspace(1, 2, SIZE)
    for weights in ("w", data["w"], data["w"].to_numpy(), list(data["w"])):
        design = build_design("y ~ x + (1 | unit)", data, weights)
        np.testing.assert_array_equal(design.weights, data["w"])


WEIGHTS = [
    (np.ones(3), errors.WeightsError, "3 weights for 60 rows"),
    (np.ones((SIZE, 1)), errors.WeightsError, "60 x 1 weights"),
    (2.0, errors.WeightsError, "scalar weights"),
    (
        np.r_[1.0, 0.0, np.ones(58)],
        errors.WeightsError,
        "row 101 has 0: correct it, or drop",
    ),
    (np.r_[1.0, -2.0, np.ones(58)], errors.WeightsError, "row 101 has -2"),
    (["a"] * SIZE, errors.WeightsError, "weights must be numbers, got text"),
    (np.ones(SIZE, bool), errors.WeightsError, r"got True and False .*: give \.astype\(float\)"),
    (pd.array([True] * SIZE, "boolean"), errors.WeightsError, "got True and False"),
    ([1.0, "a"] * 30, errors.WeightsError, "got 'a', a str|got text"),
    (np.full(SIZE, "2020", "M8[D]"), errors.WeightsError, "got dates"),
    (pd.Series(np.ones(SIZE)), errors.WeightsError, "another index"),
    (np.r_[np.inf, np.ones(59)], errors.NonFiniteError, "'weights' is inf in row 100"),
    ("arm", errors.WeightsError, "must be numbers"),
    ("nowhere", errors.MissingColumnError, "no column 'nowhere'"),
]


@pytest.mark.parametrize(("weights", "error", "message"), WEIGHTS)
def test_bad_weights(data, weights, error, message):
    with pytest.raises(error, match=message):
        build_design("y ~ x + (1 | unit)", data, weights)


def set_value(name, value):
    return lambda data: data.assign(**{name: value})


REFUSED = [
    ("y ~ xs + (1 | unit)", None, errors.MissingColumnError, "no column 'xs' .* closest: 'x'"),
    ("y ~ x + (1 | unti)", None, errors.MissingColumnError, "'unti' .* 'unit'"),
    ("yy ~ x + (1 | unit)", None, errors.MissingColumnError, "no column 'yy'"),
    ("y ~ log(zz) + (1 | unit)", None, errors.MissingColumnError, "no column 'zz'"),
    ("y ~ log(x, 2) + (1 | unit)", None, errors.FormulaError, "too many arguments"),
    ("arm ~ x + (1 | unit)", None, errors.NotNumericError, "response 'arm'"),
    ("flag ~ x + (1 | unit)", None, errors.NotNumericError, "response 'flag'"),
    (
        "y ~ x + (1 | unit)",
        set_value("x", pd.Timestamp("2020-01-01")),
        errors.NotNumericError,
        "column 'x' is of dtype datetime",
    ),
    ("y ~ x + (1 | unit)", set_value("x", 1j), errors.NotNumericError, "column 'x'"),
    ("poly(y, 2) ~ x + (1 | unit)", None, errors.FormulaError, "2 columns, not one"),
    (
        "y ~ log(x - 9) + (1 | unit)",
        None,
        errors.NonFiniteError,
        r"log\(x - 9\)' is nan in row 100",
    ),
    ("log(y * 0) ~ x + (1 | unit)", None, errors.NonFiniteError, "is -inf in row 100"),
    ("y ~ x + (log(x - 9) | unit)", None, errors.NonFiniteError, "is nan in row 100"),
    ("y ~ log(arm) + (1 | unit)", None, errors.FormulaError, "cannot evaluate"),
    ("y ~ np.nothing(x) + (1 | unit)", None, errors.FormulaError, "nothing"),
    ("y ~ x + (0 | unit)", None, errors.FormulaError, "has no column"),
    ("y ~ x + (1 | unit)", set_value("y", np.nan), errors.NoRowsError, "of 60; .* y: 60"),
    ("y ~ x + (1 | unit)", lambda data: data.head(0), errors.NoRowsError, "has no rows"),
    ("y ~ x + (1 | unit)", set_value("unit", 1), errors.GroupingError, "unit has one level"),
    ("y ~ x + (1 | x)", None, errors.GroupingError, "'x' holds numbers that are not whole"),
    ("y ~ x + (1 | id)", set_value("id", range(SIZE)), errors.IdentifiabilityError, r"=60\) <= "),
    (
        "y ~ x + (x | id)",
        set_value("id", np.arange(SIZE) // 2),
        errors.IdentifiabilityError,
        r"\(=60\) <= number of random effects \(=60\) for \(\(Intercept\) \+ x \| id\)",
    ),
    ("y ~ x + (x + I(2*x) | unit)", None, errors.IdentifiabilityError, r"column 'I\(2 \* x\)'"),
    ("y ~ x + (1 | unit) + (1 | unit)", None, errors.IdentifiabilityError, "'.Intercept.'"),
    (
        "y ~ C(my) + (1 | unit)",
        set_value("my", range(SIZE)),
        errors.IdentifiabilityError,
        "no resid",
    ),
    (
        "y ~ x + (1 | unit)",
        set_value("y", 3.1),
        errors.ConstantResponseError,
        "is 3.1 in every row",
    ),
    ("I(2 + x/3) ~ x + (1 | unit)", None, errors.IdentifiabilityError, "variance is zero"),
    (
        "y ~ x + arm + (1 | unit)",
        set_value("arm", "a"),
        errors.IdentifiabilityError,
        "factor 'arm' has one level only, 'a'",
    ),
    (
        "y ~ x + (1 + flag | unit)",
        set_value("flag", True),
        errors.IdentifiabilityError,
        "factor 'flag' has one level only, True",
    ),
    (
        "y ~ x + (1 | unit)",
        lambda data: data.assign(unit=[[k % 3] for k in range(SIZE)]),
        errors.GroupingError,
        "'unit' holds values that cannot be levels .* convert",
    ),
    ("y ~ arm + armb + (1 | unit)", set_value("armb", range(SIZE)), errors.FormulaError, "'armb'"),
]


@pytest.mark.parametrize(("formula", "change", "error", "message"), REFUSED)
def test_refused(data, formula, change, error, message):
    data = change(data) if change else data
    with pytest.raises(error, match=message) as caught:
        build_design(formula, data)
    assert type(caught.value) is error


def test_infinite_values_name_column_and_row(data):
    data.loc[104, "x"] = -np.inf
    with pytest.raises(errors.NonFiniteError, match="'x' is -inf in row 104"):
        build_design("y ~ x + (1 | unit)", data)


@pytest.mark.parametrize("dtype", ["int64", "uint64", "Int64", object])
@pytest.mark.parametrize("name", ["x", "y"])
def test_integers_that_double_precision_cannot_hold_are_refused(data, name, dtype):
    """Odd ones beyond 2**53; others are what they are."""
    given = [i * 2**54 for i in range(len(data))]
    build_design("y ~ x + (1 | unit)", data.assign(**{name: pd.Series(given, data.index, dtype)}))
    given[3] += 1
    column = pd.Series(given, data.index, dtype)
    with pytest.raises(errors.NonFiniteError, match=f"'{name}' is {given[3]} in row .* astype"):
        build_design("y ~ x + (1 | unit)", data.assign(**{name: column}))


def test_ambiguous_column_and_wrong_container(data):
    with pytest.raises(errors.FormulaError, match="'x' is ambiguous"):
        build_design("y ~ x + (1 | unit)", pd.concat([data, data[["x"]]], axis=1))
    with pytest.raises(errors.OptionError, match="or a dict of columns, got list"):
        build_design("y ~ x + (1 | unit)", [{"y": 1.0}])


def test_tiny_residuals_on_a_large_offset_are_not_a_perfect_fit(data):
    data["y"] = 1e6 + 1e-4 * data["y"]
    assert build_design("y ~ x + (1 | unit)", data).n == SIZE


def test_diagonal_terms_are_counted_together(data):
    data["pair"] = np.arange(SIZE) // 2
    with pytest.raises(errors.IdentifiabilityError, match="number of random effects"):
        build_design("y ~ x + (x || pair)", data)


STATEFUL = "y ~ center(x) + poly(`my x`, 2) + arm*flag + C(week) + (scale(x) + arm | unit)"


def test_new_data_get_the_columns_of_the_fit(data):
    design = build_design(STATEFUL, data)
    rows = [5, 17, 2]
    X, Z, codes = design_for(design, data.iloc[rows].drop(columns="y"))
    np.testing.assert_allclose(X, design.X[rows], rtol=tol.REORDERED, atol=tol.LAST_BITS)
    np.testing.assert_allclose(Z, design.Z[rows], rtol=tol.REORDERED, atol=tol.LAST_BITS)
    np.testing.assert_array_equal(codes, design.group[rows])


def test_a_design_survives_pickling(data):
    design = pickle.loads(pickle.dumps(build_design(STATEFUL, data)))
    np.testing.assert_allclose(
        design_for(design, data)[0], design.X, rtol=tol.REORDERED, atol=tol.LAST_BITS
    )


def test_new_data_with_gaps_keep_their_rows(data):
    design = build_design("y ~ x + arm + (week | unit)", data)
    new = data.head(4).copy()
    new["arm"] = new["arm"].where([True, False, True, True], None)
    new["week"] = [0.0, 1.0, np.nan, 2.0]
    new["unit"] = [0.0, 77.0, 0.0, np.nan]
    X, Z, codes = design_for(design, new)
    assert np.isnan(X).any(axis=1).tolist() == [False, True, False, False]
    assert np.isnan(Z).any(axis=1).tolist() == [False, False, True, False]
    assert codes.tolist() == [0, -1, 0, -1]
    assert design_for(design, new.drop(columns="unit"))[2].tolist() == [-1] * 4
    assert design_for(design, new.head(0))[0].shape == (0, design.p)
    assert np.isnan(design_for(design, new.assign(x=np.nan))[0]).all()


@pytest.mark.parametrize("categories", [[False, True], [True, False], None])
def test_booleans_may_come_back_as_numbers_and_numbers_as_booleans(data, categories):
    """A frame of new rows read from a file need not tell the one from the other."""
    if categories:
        data["flag"] = pd.Categorical(data["flag"], categories=categories)
    else:
        data["week"] = data["week"] % 2
    design = build_design("y ~ flag + week + (1 + flag | unit)", data)
    new = data.assign(flag=data["flag"].astype(int))
    if not categories:
        new["week"] = new["week"] == 1
    X, Z, _ = design_for(design, new)
    np.testing.assert_array_equal(X, design.X)
    np.testing.assert_array_equal(Z, design.Z)


NEW_REFUSED = [
    (lambda new: new.drop(columns="x"), errors.MissingColumnError, "no column 'x'"),
    (set_value("arm", "placebo"), errors.NewLevelError, "'arm' has levels .* 'placebo'; .* are '"),
    (set_value("arm", np.int64(3)), errors.NewLevelError, "not seen: 3;"),
    (set_value("flag", 2), errors.NewLevelError, "'flag' .* not seen: 2; .* are False, True"),
    (set_value("week", 9), errors.NewLevelError, r"\) in 'C\(week\)': 9; leave such rows"),
    (set_value("x", "high"), errors.NotNumericError, "'x' was numeric"),
    (set_value("x", np.inf), errors.NonFiniteError, "'x' is inf in row 100"),
    (set_value("unit", "3"), errors.GroupingError, "'unit' is of dtype"),
]


@pytest.mark.parametrize(("change", "error", "message"), NEW_REFUSED)
def test_new_data_refused(data, change, error, message):
    design = build_design("y ~ x + arm + flag + C(week) + (1 | unit)", data)
    with pytest.raises(error, match=message):
        design_for(design, change(data))


def test_caller_s_frame_is_left_alone(data):
    before = data.copy()
    build_design("log(y) ~ x + arm + (1 | unit)", data)
    pd.testing.assert_frame_equal(data, before)
