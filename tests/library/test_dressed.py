"""A frame is read as the plain frame of its values, whatever its dtypes, or is refused by us.

``python -m bench.validation.frames`` tries thousands of them.
"""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dressed
import jaxhlm as hlm
from cases import FORMULA, SIZES, frame

forms = st.sampled_from(dressed.FORMULAS)


@settings(max_examples=50)
@given(dressed.frames(), st.sampled_from(list(dressed.DOORS)), forms)
def test_any_frame(drawn, door, form):
    dressed.check(drawn, door, form)


@settings(max_examples=40)
@given(dressed.frames(("x", "f", "unit"), 2), dressed.frames(("x", "f", "unit"), 2), forms)
def test_any_new_frame(drawn, other, form):
    dressed.check_prediction(drawn, other.forms, form)


ROLES = {"x": "design", "f": "design", "w": "design", "unit": "design"}
ROLES |= {"y": "responses", "rep": "by"}
# Fits take longer than designs: some of the forms there, all of them in bench.
EVERY = {"y": 2, "rep": 3}


@pytest.mark.slow
@pytest.mark.parametrize("role", ROLES)
def test_every_dtype_in_every_role(role):
    """Each form once; which of them are read does not depend on the example."""
    rng, unit = np.random.default_rng(0), np.repeat(np.arange(8.0), 6)
    whole = {name: rng.integers(1, 4, 48).astype(float) for name in ("x", "f", "w")}
    whole |= {"y": rng.integers(20, 90, 48).astype(float), "unit": unit, "rep": unit // 4}
    outcomes = {}
    for kind, names in dressed.KINDS.items():
        for name in list(names)[:: EVERY.get(role, 1)]:
            values = whole | {role: dressed.representable(whole[role], (kind, name))}
            drawn = dressed.Frame(values, {role: (kind, name)})
            outcomes[name] = dressed.check(drawn, ROLES[role], dressed.FORMULAS[0])
    of = {
        kind: {outcomes[name] for name in names if name in outcomes and name != "arrow halffloat"}
        for kind, names in dressed.KINDS.items()
    }
    assert of["number"] == {"equal"}
    if role in dressed.LABELS:
        assert of["text"] == {"equal"}
    else:
        assert "equal" not in of["other"]


def data_of(rng, **changed):
    return frame(rng, SIZES).assign(**changed)


@pytest.mark.parametrize("label", [2020, 1.5, ("a", 1), "dose [mg]", True])
def test_replicates_whose_columns_have_other_names(rng, label):
    """Group and replicate columns go by what their labels print, as covariates do."""
    data = data_of(rng, rep=np.repeat([0, 1], [22, 25]))
    expected = hlm.fit_many("y ~ x + (1 | unit)", data, by="rep")
    for column in ("unit", "rep"):
        labels = [label if name == column else name for name in data]
        renamed = data.set_axis(pd.Index(labels, tupleize_cols=False), axis=1)
        unit = f"`{label}`" if column == "unit" else "unit"
        by = label if column == "rep" else "rep"
        fits = hlm.fit_many(f"y ~ x + (1 | {unit})", renamed, by=by)
        np.testing.assert_array_equal(fits.fixef, expected.fixef)
        assert fits.index.name == by


def test_columns_of_several_levels(rng):
    data = data_of(rng)
    levels = data.set_axis(pd.MultiIndex.from_tuples([("a", name) for name in data]), axis=1)
    quoted = {name: f"`('a', '{name}')`" for name in data}
    formula = f"{quoted['y']} ~ {quoted['x']} + (1 | {quoted['unit']})"
    expected = hlm.fit("y ~ x + (1 | unit)", data)
    np.testing.assert_array_equal(hlm.fit(formula, levels).fixef, expected.fixef)
    levels[("b", "rep")] = np.repeat([0, 1], [22, 25])
    fits = hlm.fit_many(formula, levels, by=("b", "rep"))
    assert len(fits) == 2
    with pytest.raises(hlm.errors.MissingColumnError, match="by="):
        hlm.fit_many(formula, levels, by="a")


def test_two_columns_of_the_name_of_the_replicates(rng):
    data = data_of(rng, rep=0)
    data = pd.concat([data, data[["rep"]]], axis=1)
    with pytest.raises(hlm.errors.FormulaError, match="'rep' is ambiguous"):
        hlm.fit_many(FORMULA, data, by="rep")


@pytest.mark.parametrize(
    "labels",
    [[1, "1"], [True, 1], [[1], [2]], [{"a": 1}, {"a": 2}], [np.array([1]), np.array([2])]],
    ids=["text beside numbers", "truth beside numbers", "lists", "dicts", "arrays"],
)
def test_labels_that_cannot_be_told_apart(rng, labels):
    column = pd.Series([labels[i % 2] for i in range(47)], dtype=object)
    data = data_of(rng, rep=column, unit=column)
    with pytest.raises(hlm.errors.GroupingError, match="'unit' holds"):
        hlm.fit("y ~ x + (1 | unit)", data)
    with pytest.raises(hlm.errors.GroupingError, match="'rep' holds"):
        hlm.fit_many("y ~ x + (1 | a)", data, by="rep")


def days(u, zone=None):
    return pd.Timestamp("2020", tz=zone) + pd.to_timedelta(u, "D")


@pytest.mark.parametrize(
    ("fitted", "new"),
    [
        (lambda u: u, lambda u: u > 3),
        (days, lambda u: [f"2020-01-{i + 1:02d}" for i in u]),
        (days, lambda u: days(u, "UTC")),
        (lambda u: u > 3, lambda u: u % 2),
        (lambda u: [f"{i}" for i in u], lambda u: [i if i else "0" for i in u]),
    ],
    ids=["truth for numbers", "text for dates", "time zone", "numbers for truth", "some numbers"],
)
def test_labels_of_another_kind_in_new_data(rng, fitted, new):
    """They could match none of the fit, which would read as groups not seen."""
    data = data_of(rng)
    unit = data["unit"].to_numpy()
    fit = hlm.fit("y ~ x + (1 | unit)", data.assign(unit=fitted(unit)))
    with pytest.raises(hlm.errors.GroupingError, match="could not match"):
        fit.predict(data.assign(unit=pd.Series(list(new(unit)), dtype=object)))


def test_frames_of_unknown_libraries_are_refused():
    made = {"__module__": "other", "to_pandas": lambda self: pytest.fail("converted unasked")}
    table = type("DataFrame", (), made)()
    refused = pytest.raises(hlm.errors.OptionError, match=r"got other\..*to_pandas")
    for call in (hlm.fit, hlm.design, hlm.lm_list, partial(hlm.fit_many, by="y")):
        with refused:
            call(FORMULA, table)


def test_an_infinite_object_is_a_status_too(rng):
    """Columns of objects and of nullable numbers are gone through as those of floats are."""
    data = data_of(rng, rep=np.repeat(["a", "b"], [22, 25]))
    for values in (data["x"].astype(object), data["x"].astype("Float64"), data["x"]):
        spoilt = values.copy()
        spoilt.iloc[3] = np.inf
        with pytest.warns(hlm.errors.ConvergenceWarning, match="1 of 2 fits failed"):
            fits = hlm.fit_many("y ~ x + (1 | unit)", data.assign(x=spoilt), by="rep")
        assert list(fits.ok) == [False, True]
