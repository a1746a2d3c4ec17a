"""Data sets in one long frame: made run by run, they equal the same data sets made all at once."""

import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
import tolerances as tol
from cases import FORMULA, SIZES, frame
from jaxhlm.core import chunks
from jaxhlm.language.formula import parse
from jaxhlm.sources import frames, inputs
from jaxhlm.sources.frames import ReplicateFrame
from jaxhlm.sources.replicate_rows import ReplicateRows


def long_frame(rng, B=12):
    """B data sets with rows, units and covariates of their own."""
    parts = [frame(rng, SIZES[: 5 + i % 4]).assign(replicate=3 * i) for i in range(B)]
    return pd.concat(parts, ignore_index=True)


def whole(monkeypatch, *arguments, **options):
    """The fits by way of model matrices of all rows."""
    with monkeypatch.context() as patch:
        patch.setattr(inputs, "replicate_frame", lambda *_: None)
        fits = hlm.fit_many(*arguments, **options)
    assert isinstance(fits.source, ReplicateRows)
    return fits


@pytest.mark.parametrize(
    "formula", [FORMULA, "log(y + 20) ~ 0 + I(x**2) + a + (0 + x | unit)", "y ~ 1 + (1 | unit)"]
)
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_all_rows_at_once(rng, monkeypatch, formula, weighted):
    data = long_frame(rng)
    data["w"] = rng.uniform(0.5, 2.0, len(data))
    options = {"by": "replicate", "weights": "w" if weighted else None}
    fits = hlm.fit_many(formula, data, **options)
    assert isinstance(fits.source, ReplicateFrame)
    expected = whole(monkeypatch, formula, data, **options)
    assert fits.index.equals(expected.index)
    np.testing.assert_array_equal(fits.nobs, expected.nobs)
    np.testing.assert_array_equal(fits.ngroups, expected.ngroups)
    np.testing.assert_array_equal(fits.status, expected.status)
    np.testing.assert_allclose(fits.criterion, expected.criterion, atol=tol.CRITERION)
    np.testing.assert_allclose(fits.fixef, expected.fixef, rtol=tol.ESTIMATE, atol=tol.UNITS)


def test_shuffled_rows_and_runs_of_lanes(rng, monkeypatch):
    """Rows in any order within a data set; any lanes can be asked for, in runs of any length."""
    data = long_frame(rng)
    shuffled = data.sample(frac=1.0, random_state=1).sort_values("replicate", kind="stable")
    expected = hlm.fit_many(FORMULA, data, by="replicate")
    monkeypatch.setattr(frames, "LANES", 5)
    monkeypatch.setattr(chunks, "WORTH_SHARING", 1)
    fits = hlm.fit_many(FORMULA, shuffled, by="replicate")
    np.testing.assert_allclose(fits.criterion, expected.criterion, atol=tol.CRITERION)
    some = fits[[7, 2, 3, 9]]
    (rows,) = some.over_lanes(lambda e, s: (np.broadcast_to(s.stats.n, e.status.shape),))
    np.testing.assert_array_equal(rows, some.nobs)
    one = hlm.fit(FORMULA, data[data["replicate"] == 21])
    assert fits.index[7] == 21
    np.testing.assert_allclose(fits[7].ranef, one.ranef, atol=tol.ESTIMATE)
    assert fits[7].ranef.index.equals(one.ranef.index)


@pytest.mark.parametrize("column", ["y", "x"])
def test_an_infinite_value_is_a_status(rng, column):
    data = long_frame(rng)
    clean = hlm.fit_many(FORMULA, data, by="replicate")
    data.loc[data.index[data["replicate"] == 6][4], column] = np.inf
    with pytest.warns(hlm.JaxhlmWarning, match="1 of 12 fits failed"):
        fits = hlm.fit_many(FORMULA, data, by="replicate")
    assert not fits.ok[2]
    others = np.arange(12) != 2
    np.testing.assert_array_equal(fits.fixef[others], clean.fixef[others])


SPOILT = {
    "transform": ("y ~ log(x + 9) + a + (1 | unit)", {"x": -20.0}),
    "response": ("log(y + 20) ~ x + a + (1 | unit)", {"y": -50.0}),
    "random": ("y ~ a + (0 + exp(x) | unit)", {"x": 1e4}),
    "both": ("log(y + 20) ~ sqrt(x + 9) + (1 | unit)", {"x": -20.0, "y": -50.0}),
}


@pytest.mark.parametrize("place", [1, 10])
@pytest.mark.parametrize("path", ["integers", "strings", "parquet"])
@pytest.mark.parametrize("what", SPOILT)
def test_a_transform_that_makes_no_number_is_a_status(rng, tmp_path, path, what, place):
    """Wherever the data set lies, and however the rows are read, it alone fails, and says why."""
    data, (formula, values) = long_frame(rng), SPOILT[what]
    if path == "strings":
        data["unit"] = "u" + data["unit"].astype(str)
    clean = hlm.fit_many(formula, data, by="replicate")
    data.loc[data.index[data["replicate"] == 3 * place][4], [*values]] = [*values.values()]
    given = data
    if path == "parquet":
        data.to_parquet(given := tmp_path / "data.parquet", row_group_size=100)
    with pytest.warns(hlm.JaxhlmWarning, match=r"1 of 12 fits failed \(1 not_finite\)"):
        fits = hlm.fit_many(formula, given, by="replicate")
    others = np.arange(12) != place
    assert fits.ok.tolist() == others.tolist()
    np.testing.assert_allclose(
        fits.criterion[others], clean.criterion[others], atol=tol.CRITERION, rtol=0
    )


def test_a_transform_that_makes_no_number_anywhere_is_an_error(rng):
    data = long_frame(rng)
    with pytest.raises(hlm.errors.NonFiniteError, match=r"'log\(x - 99\)' is nan in row 0"):
        hlm.fit_many("y ~ log(x - 99) + (1 | unit)", data, by="replicate")


@pytest.mark.parametrize("unit", [int, str], ids=["integers", "strings"])
def test_a_data_set_in_other_units_drops_no_column_of_the_others(rng, unit):
    """Beside its collinear columns of size 1e12 those of the others would look dependent too."""
    data = long_frame(rng).astype({"unit": unit})
    data["b"] = rng.normal(size=len(data))
    clean = hlm.fit_many("y ~ x + b + (1 | unit)", data, by="replicate")
    wild = np.flatnonzero(data["replicate"] == 9)
    data.loc[wild, ["x", "b"]] = 1e12 * rng.normal(size=(len(wild), 1)) * np.ones(2)
    with pytest.warns(hlm.JaxhlmWarning, match=r"1 of 12 fits failed \(1 rank_deficient\)"):
        fits = hlm.fit_many("y ~ x + b + (1 | unit)", data, by="replicate")
    others = np.arange(12) != 3
    np.testing.assert_array_equal(fits.fixef[others], clean.fixef[others])


@pytest.mark.parametrize("change", ["strings", "missing", "factor", "interleaved"])
def test_what_goes_the_other_way(rng, change):
    data = long_frame(rng)
    if change == "strings":
        data["unit"] = "u" + data["unit"].astype(str)
    elif change == "missing":
        data["x"] = data["x"].where(data.index != 4)
    elif change == "factor":
        data["a"] = np.where(data["a"] > 0, "high", "low")
    else:
        data = data.sample(frac=1.0, random_state=1)
    assert frames.replicate_frame(parse(FORMULA), data, data["replicate"], None) is None
