"""What ``fit_many`` refuses as a whole, and what only one data set has to answer for."""

import jax
import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
import tolerances as tol
from cases import FORMULA, SIZES, SLEEP, frame
from jaxhlm import errors
from places import DATA


def sleep():
    return hlm.load_dataset("sleepstudy")


def replicates(rng, B=5):
    """B data sets whose units are strings, so that all model matrices are made at once."""
    parts = [frame(rng, SIZES).assign(replicate=f"r{i}") for i in range(B)]
    data = pd.concat(parts, ignore_index=True)
    return data.assign(unit="u" + data["unit"].astype(str))


@pytest.mark.parametrize("column", ["y", "x", "a"])
@pytest.mark.parametrize("spoil", [np.inf, np.nan])
def test_a_replicate_without_usable_rows_is_a_status(rng, column, spoil):
    data = replicates(rng)
    clean = hlm.fit_many(FORMULA, data, by="replicate")
    inside = data["replicate"] == "r2"
    where = inside if np.isnan(spoil) else inside & (np.cumsum(inside) == 3)
    with pytest.warns(errors.ConvergenceWarning, match="1 of 5 fits failed"):
        fits = hlm.fit_many(FORMULA, data.assign(**{column: data[column].mask(where, spoil)}),
                            by="replicate")  # fmt: skip
    assert fits.index.equals(clean.index)
    assert fits.status[2] == hlm.Status.NOT_FINITE
    assert fits.nobs[2] == clean.nobs[2] - where.sum()
    others = [0, 1, 3, 4]
    np.testing.assert_array_equal(fits.fixef.iloc[others], clean.fixef.iloc[others])


def test_transforms_that_learn_need_complete_responses(rng):
    Y = rng.normal(size=(180, 3))
    Y[4, 1] = np.nan
    with pytest.raises(errors.FormulaError, match="some responses miss"):
        hlm.fit_many("~ poly(Days, 2) + (1 | Subject)", sleep(), Y)


@pytest.mark.parametrize(
    ("responses", "error", "match"),
    [
        (np.empty((180, 0)), errors.ResponseShapeError, "no columns"),
        (np.ones((180, 2), complex), errors.NotNumericError, "complex"),
        (pd.DataFrame({"a": ["x"] * 180}), errors.NotNumericError, "'a'"),
    ],
)
def test_response_matrices_that_are_none(responses, error, match):
    with pytest.raises(error, match=match):
        hlm.fit_many(SLEEP, sleep(), responses)


def test_labels_of_responses(rng):
    """Duplicate and hierarchical column labels are kept as they are."""
    Y = pd.DataFrame(rng.normal(size=(180, 2)), columns=["a", "a"])
    assert list(hlm.fit_many(SLEEP, sleep(), Y).index) == ["a", "a"]
    Y.columns = pd.MultiIndex.from_tuples([("g", 1), ("g", 2)])
    assert hlm.fit_many(SLEEP, sleep(), Y).index.equals(Y.columns)


@pytest.mark.parametrize("options", [{"reml": "ML"}, {"max_iter": 3.5}, {"tol": 0.0}])
def test_options_of_the_wrong_kind(options):
    with pytest.raises(errors.OptionError, match=next(iter(options))):
        hlm.fit(SLEEP, sleep(), **options)


def test_replicate_columns_that_are_none():
    with pytest.raises(errors.MissingColumnError, match="by="):
        hlm.fit_many(SLEEP, sleep(), by=["Subject"])


def test_a_response_fitted_exactly_is_no_fit(rng):
    g = np.repeat(np.arange(8.0), 6)
    data = pd.DataFrame({"g": g, "x": rng.normal(size=48), "y": g})
    with pytest.raises(errors.IdentifiabilityError, match="without error"):
        hlm.fit("y ~ x + (1 | g)", data)
    with pytest.warns(errors.ConvergenceWarning, match="1 not_finite"):
        fits = hlm.fit_many("~ x + (1 | g)", data, np.column_stack([g, rng.normal(size=48)]))
    assert list(fits.ok) == [False, True]


def test_the_lower_of_two_minima():
    """Six groups: from the moment start the criterion ends at 35.797, lower lies 33.901."""
    data = pd.read_csv(DATA / "two_minima.csv")
    assert hlm.fit("y ~ x + (1 + x | g)", data).criterion < 33.901


def test_settings_of_jax_are_the_users(rng):
    """Checks that a user has switched on for his own code do not reach into ours."""
    Y = rng.normal(size=(180, 40))
    expected = hlm.fit_many(SLEEP, sleep(), Y)
    Y[3, 5] = np.inf
    with (
        jax.debug_nans(True),
        jax.numpy_rank_promotion("raise"),
        jax.numpy_dtype_promotion("strict"),
        pytest.warns(errors.ConvergenceWarning),
    ):
        fits = hlm.fit_many(SLEEP, sleep(), Y)
    np.testing.assert_allclose(
        np.delete(fits.criterion, 5), np.delete(expected.criterion, 5), atol=tol.CRITERION
    )


def test_refit_refuses_what_is_no_response():
    fit = hlm.fit(SLEEP, sleep())
    y = sleep()["Reaction"]
    with pytest.raises(errors.ResponseShapeError, match="index"):
        fit.refit(y[::-1])
    with pytest.raises(errors.NotNumericError, match="y must be numbers, got"):
        fit.refit(["a"] * 180)
    with pytest.raises(errors.ConstantResponseError, match="every row"):
        fit.refit(np.ones(180))
