"""What must not change a fit, and by exactly how much units change it."""

import warnings
from functools import cache

import jax
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxhlm as hlm
import tolerances as tol
from cases import FORMULA, frame, rows
from jaxhlm import reference

SIZES = (6, 1, 5, 3, 8, 2, 7, 4, 5, 6, 9, 3)
# So few groups are tried from many starts, which takes long.
FEW = SIZES[:10]
seeds = st.integers(0, 50)
factors = st.floats(-4.0, 4.0).map(lambda e: 10.0**e)
signs = st.sampled_from([-1.0, 1.0])
every_method = pytest.mark.parametrize("reml", [True, False])


def data_of(seed):
    return frame(np.random.default_rng(seed), SIZES if seed % 5 else FEW, sd=0.8)


def fit(data, reml=True, formula=FORMULA, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hlm.JaxhlmWarning)
        return hlm.fit(formula, data, reml, **options)


@cache
def plain_fit(seed, reml=True):
    return fit(data_of(seed), reml)


def assert_same(found, expected, beta=1.0, cov=1.0, scale=1.0, plus=0.0):
    """``found`` is ``expected`` with β, Σ and σ multiplied, and ``plus`` added to the criterion."""
    cov, size = np.asarray(cov), np.abs(expected.varcorr.cov.to_numpy()) + expected.sigma**2
    np.testing.assert_allclose(found.criterion, expected.criterion + plus, atol=tol.CRITERION)
    np.testing.assert_allclose(found.sigma, scale * expected.sigma, rtol=tol.ESTIMATE)
    moved = (found.fixef / beta - expected.fixef) / expected.se
    np.testing.assert_allclose(moved, 0.0, atol=tol.ESTIMATE)
    np.testing.assert_allclose(found.se / np.abs(beta), expected.se, rtol=tol.ESTIMATE)
    difference = (found.varcorr.cov / cov - expected.varcorr.cov) / size.max()
    np.testing.assert_allclose(difference, 0.0, atol=tol.ESTIMATE)
    assert found.status == expected.status


@given(seeds, st.randoms(use_true_random=False))
def test_row_order_and_labels(seed, random):
    data = data_of(seed)
    order, labels = list(range(len(data))), [f"unit {i}" for i in range(data["unit"].nunique())]
    random.shuffle(order)
    random.shuffle(labels)
    mixed = data.iloc[order].assign(unit=[labels[u] for u in data["unit"].iloc[order]])
    plain, found = plain_fit(seed), fit(mixed)
    assert_same(found, plain)
    np.testing.assert_allclose(found.ranef.loc[labels], plain.ranef, atol=tol.ESTIMATE)
    np.testing.assert_allclose(found.fitted.loc[data.index], plain.fitted, atol=tol.ESTIMATE)


@every_method
@given(seeds, factors, signs)
def test_scaling_y(reml, seed, factor, sign):
    """y → cy adds 2ν log |c| to the criterion, ν = n or n − p."""
    data, c = data_of(seed), sign * factor
    nu = len(data) - 4 * reml
    found = fit(data.assign(y=c * data["y"]), reml)
    plus = 2 * nu * np.log(factor)
    assert_same(found, plain_fit(seed, reml), beta=c, cov=c**2, scale=factor, plus=plus)


@every_method
@given(seeds, factors, signs)
def test_scaling_x(reml, seed, factor, sign):
    """x → cx scales two of the four columns of X, so that log|X'V⁻¹X| grows by 4 log |c|."""
    data, c = data_of(seed), sign * factor
    found = fit(data.assign(x=c * data["x"]), reml)
    beta, z = np.array([1.0, 1 / c, 1.0, 1 / c]), np.array([1.0, 1 / c])
    plus = 4 * np.log(factor) if reml else 0.0
    assert_same(found, plain_fit(seed, reml), beta=beta, cov=np.outer(z, z), plus=plus)


@every_method
@given(seeds, st.floats(-1e3, 1e3))
def test_shifting_x(reml, seed, shift):
    """x → x + c changes the basis by a matrix of determinant 1: both criteria stay."""
    data = data_of(seed)
    plain, found = plain_fit(seed, reml), fit(data.assign(x=data["x"] + shift), reml)
    np.testing.assert_allclose(found.criterion, plain.criterion, atol=tol.CRITERION)
    np.testing.assert_allclose(found.sigma, plain.sigma, rtol=tol.ESTIMATE)
    slopes = ["x", "x:a"]
    moved = (found.fixef - plain.fixef)[slopes] / plain.se[slopes]
    np.testing.assert_allclose(moved, 0.0, atol=tol.ESTIMATE)
    # y at the old origin: β_0 + cβ_1, and likewise for the random effects.
    origin = found.fixef["(Intercept)"] + shift * found.fixef["x"]
    np.testing.assert_allclose(origin, plain.fixef["(Intercept)"], atol=tol.ESTIMATE)
    back = np.array([[1.0, shift], [0.0, 1.0]])
    cov = back @ found.varcorr.cov.to_numpy() @ back.T
    np.testing.assert_allclose(cov, plain.varcorr.cov, atol=tol.ESTIMATE * (1.0 + cov.max()))
    np.testing.assert_allclose(found.fitted, plain.fitted, atol=tol.ESTIMATE)


@every_method
@given(seeds, st.floats(-1e3, 1e3))
def test_shifting_y(reml, seed, shift):
    data = data_of(seed)
    plain, found = plain_fit(seed, reml), fit(data.assign(y=data["y"] + shift), reml)
    np.testing.assert_allclose(found.criterion, plain.criterion, atol=tol.CRITERION)
    moved = found.fixef - plain.fixef - [shift, 0.0, 0.0, 0.0]
    np.testing.assert_allclose(moved, 0.0, atol=tol.ESTIMATE)


@given(seeds, factors)
def test_scaling_weights(seed, factor):
    """w → cw makes σ² c times larger and leaves Σ: the criterion adds up to the same density."""
    data = data_of(seed)
    w = np.random.default_rng(seed).uniform(0.5, 2.0, len(data))
    plain, found = fit(data, weights=w), fit(data, weights=factor * w)
    assert_same(found, plain, scale=np.sqrt(factor))


def test_wild_units_give_the_same_digits():
    """x around 1e5 and y around 1e-4: nine digits of everything that has no units."""
    data = data_of(7)
    wild = data.assign(x=1e5 + 10.0 * data["x"], y=1e-4 * data["y"])
    plain, found = fit(data), fit(wild)
    nu = len(data) - 4
    plus = 2 * nu * np.log(1e-4) + 4 * np.log(10.0)
    np.testing.assert_allclose(found.criterion, plain.criterion + plus, rtol=tol.UNITS)
    np.testing.assert_allclose(1e4 * found.sigma, plain.sigma, rtol=tol.UNITS)
    t = ["x", "x:a"]
    np.testing.assert_allclose(
        (found.fixef / found.se)[t], (plain.fixef / plain.se)[t], rtol=tol.UNITS
    )
    np.testing.assert_allclose(
        found.ranef["x"] * 1e5, plain.ranef["x"], rtol=tol.UNITS, atol=tol.UNITS
    )
    np.testing.assert_allclose(1e4 * found.fitted, plain.fitted, atol=tol.UNITS)


@pytest.mark.parametrize("ratio", [1e-4, 1e4])
@every_method
def test_extreme_intraclass_correlation(ratio, reml):
    y, X, Z, group = rows(np.random.default_rng(3), SIZES, 2, 2, sd=ratio)
    data = pd.DataFrame({"y": y, "x": X[:, 1], "unit": group})
    found = fit(data, reml, "y ~ x + (1 + x | unit)")
    best = reference.fit(y, X, Z, group, reml)
    np.testing.assert_allclose(found.criterion, best.criterion, atol=tol.EXTREME)
    np.testing.assert_allclose(found.sigma, best.sigma, rtol=tol.EXTREME)
    scale = np.abs(best.cov).max() + best.sigma**2
    np.testing.assert_allclose(found.varcorr.cov, best.cov, atol=tol.EXTREME * scale)


# Many at once.


def responses(data, B):
    rng = np.random.default_rng(B)
    effect = rng.normal(size=(len(SIZES), 2, B)) * [[1.0], [0.5]]
    slope = data["x"].to_numpy()[:, None]
    b = effect[data["unit"].to_numpy()]
    return b[:, 0] + slope * b[:, 1] + rng.normal(size=(len(data), B))


def assert_lanes(fits, alone):
    for name, atol in [("criterion", tol.CRITERION), ("sigma", tol.ESTIMATE)]:
        values = [getattr(one, name) for one in alone]
        np.testing.assert_allclose(getattr(fits, name), values, atol=atol)
    np.testing.assert_allclose(fits.fixef, [one.fixef for one in alone], atol=tol.ESTIMATE)
    np.testing.assert_allclose(fits.se, [one.se for one in alone], atol=tol.ESTIMATE)
    cov = [one.varcorr.cov for one in alone]
    np.testing.assert_allclose(fits.varcorr.cov, cov, atol=tol.ESTIMATE)
    assert fits.status.tolist() == [one.status for one in alone]


@pytest.mark.slow
@pytest.mark.parametrize("B", [3, 160], ids=["NumPy", "compiled"])
def test_responses_lane_by_lane(B):
    data = data_of(1)
    Y = responses(data, B)
    fits = hlm.fit_many(FORMULA, data, Y)
    picked = [*range(3), *range(3, B, 9)]
    assert_lanes(fits[picked], [fit(data.assign(y=Y[:, i])) for i in picked])


def test_duplicated_lanes_are_identical():
    data = data_of(1)
    Y = responses(data, 8)
    fits = hlm.fit_many(FORMULA, data, np.tile(Y, 5))
    for values in (fits.criterion, fits.fixef, fits.varcorr.cov, fits.iterations):
        blocks = np.asarray(values).reshape(5, 8, -1)
        np.testing.assert_array_equal(blocks, np.broadcast_to(blocks[:1], blocks.shape))


def test_lane_order_and_neighbours_do_not_matter():
    data = data_of(1)
    Y = responses(data, 40)
    fits, reverse = hlm.fit_many(FORMULA, data, Y), hlm.fit_many(FORMULA, data, Y[:, ::-1])
    np.testing.assert_allclose(reverse.criterion[::-1], fits.criterion, rtol=tol.REORDERED)


@pytest.mark.parametrize("B", [12, 400], ids=["NumPy", "compiled"])
@pytest.mark.parametrize("bad", [1.0, np.inf, 1e200, np.nan])
def test_bad_lanes_do_not_touch_their_neighbours(B, bad):
    data = data_of(1)
    Y = responses(data, B)
    fits = hlm.fit_many(FORMULA, data, Y)
    Y[:, 5] = bad
    with pytest.warns(hlm.JaxhlmWarning, match=f"1 of {B} fits failed"):
        broken = hlm.fit_many(FORMULA, data, Y)
    good = broken.ok
    assert np.flatnonzero(~good).tolist() == [5]
    for name in ("criterion", "fixef", "sigma", "theta", "se"):
        found, expected = (np.asarray(getattr(f, name))[good] for f in (broken, fits))
        np.testing.assert_array_equal(found, expected, err_msg=name)
        assert np.isnan(np.asarray(getattr(broken, name))[5]).all()


def test_replicates_with_rows_of_their_own():
    """Different rows, units and covariates in every data set; groups are padded."""
    rng = np.random.default_rng(0)
    parts = [frame(rng, rng.integers(1, 9, size=rng.integers(5, 15))) for _ in range(12)]
    long = pd.concat(parts, keys=range(12), names=["replicate"]).reset_index(level=0)
    fits = hlm.fit_many(FORMULA, long.sample(frac=1.0, random_state=1), by="replicate")
    assert_lanes(fits, [fit(part) for part in parts])
    assert fits.nobs.tolist() == [len(part) for part in parts]


def test_a_response_with_gaps_is_fitted_on_its_own_rows():
    data = data_of(1)
    Y = responses(data, 4)
    Y[3:9, 1] = np.nan
    fits = hlm.fit_many(FORMULA, data, Y)
    alone = [fit(data.assign(y=y)[~np.isnan(y)]) for y in Y.T]
    assert_lanes(fits, alone)
    assert fits.nobs.tolist() == [len(data), len(data) - 6, len(data), len(data)]


def test_fitting_leaves_single_precision_as_it_was():
    """Inside float64 is scoped: outside nothing is seen of it."""
    data = data_of(1)
    before = jax.numpy.ones(3).dtype
    fitted = hlm.fit_many(FORMULA, data, responses(data, 160))
    assert fitted.sigma.dtype == np.float64
    assert jax.config.jax_enable_x64 is False
    assert jax.numpy.ones(3).dtype == before == np.float32
