"""Responses of extreme size get a status; no warning of NumPy's stops the batch they are in."""

import warnings

import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
import tolerances as tol

N = 60
GROUP = np.repeat(np.arange(12), 5)
BASE = np.random.default_rng(0).normal(size=(N, 6))
DATA = pd.DataFrame({"x": np.random.default_rng(1).normal(size=N), "g": GROUP})
FORMULA = "~ x + (1 + x | g)"
EXTREME = {
    "one of 1e300": lambda y: np.where(np.arange(N) == 0, 1e300, y),
    "1e308": lambda y: y * (1e308 / abs(y).max()),
    "1e160": lambda y: 1e160 * y,
    "1e120": lambda y: 1e120 * y,
    "1e-120": lambda y: 1e-120 * y,
    "1e-160": lambda y: 1e-160 * y,
    "1e-310": lambda y: 1e-310 * y,
    "denormal": lambda y: 5e-324 * (np.arange(N) % 2),
    "infinite": lambda y: np.where(np.arange(N) == 3, np.inf, y),
    "constant": lambda y: 0.0 * y + 3.0,
}
FITTED = {
    "1e90": lambda y: 1e90 * y,
    "1e-90": lambda y: 1e-90 * y,
    "far away": lambda y: y + 1e9,
    "groups only": lambda y: GROUP * 1e2 + 1e-2 * y,
}
ASKED = {
    "print": str,
    "tidy": lambda fits: fits.tidy(),
    "kenward-roger": lambda fits: fits.tidy("kenward-roger"),
    "robust": lambda fits: fits.tidy_robust(),
    "joint": lambda fits: fits.joint_test("x = 0"),
    "r2": lambda fits: fits.r2(),
    "icc": lambda fits: fits.icc(),
    "ranef": lambda fits: fits.ranef,
    "emmeans": lambda fits: fits.emmeans("x"),
    "predict": lambda fits: fits.predict(DATA.head(2)),
}


def batch(change, missing):
    Y = BASE.copy()
    Y[:, 2] = change(Y[:, 2])
    if missing:
        Y[7, [2, 4]] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", hlm.JaxhlmWarning)
        with np.errstate(all="raise", under="ignore"):
            fits = hlm.fit_many(FORMULA, DATA, responses=Y, progress=False)
            return fits, {name: ask(fits) for name, ask in ASKED.items()}


@pytest.fixture(scope="module")
def ordinary():
    return {missing: batch(lambda y: y, missing) for missing in (False, True)}


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("name", EXTREME)
def test_an_extreme_response_gets_a_status_and_harms_nobody(name, missing, ordinary):
    fits, _ = batch(EXTREME[name], missing)
    others = [0, 1, 3, 4, 5]
    assert not fits.ok[2] and np.isnan(fits.fixef.iloc[2]).all()
    expected = ordinary[missing][0]
    np.testing.assert_allclose(fits.fixef.iloc[others], expected.fixef.iloc[others], rtol=tol.BATCH)
    np.testing.assert_array_equal(fits.status[others], expected.status[others])


@pytest.mark.parametrize("name", FITTED)
def test_what_can_be_fitted_is(name, ordinary):
    fits, _ = batch(FITTED[name], False)
    assert fits.ok[2] and np.isfinite(fits.se.iloc[2]).all() and np.isfinite(fits.sigma[2])
    if name.startswith("1e"):
        expected = ordinary[False][0]
        factor = float(name)
        np.testing.assert_allclose(
            fits.fixef.iloc[2] / factor, expected.fixef.iloc[2], rtol=tol.UNITS
        )
        np.testing.assert_allclose(fits.se.iloc[2] / factor, expected.se.iloc[2], rtol=tol.ESTIMATE)
