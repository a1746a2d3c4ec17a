"""Responses with weights of their own: each is fitted as if alone with its weights."""

import json

import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
import tolerances as tol
from cases import DATA, SLEEP, sleepstudy
from jaxhlm import errors

FORMULA = "~ Days + (1 + Days | Subject)"


def data():
    return hlm.load_dataset("sleepstudy")


def responses(count=12):
    return sleepstudy().simulate(count, seed=4)


def weights(Y, seed=0):
    W = pd.DataFrame(np.random.default_rng(seed).gamma(4.0, 0.25, Y.shape), Y.index, Y.columns)
    return W


def test_each_response_is_fitted_as_alone_with_its_weights():
    Y = responses()
    W = weights(Y)
    W.iloc[3:9, 2], W.iloc[5, 3], W.iloc[:, 4] = 0.0, np.nan, 0.0
    Y.iloc[20:23, 5] = np.nan
    with pytest.warns(errors.ConvergenceWarning, match="1 of 12"):
        fits = hlm.fit_many(FORMULA, data(), Y, weights=W)
    assert fits.status.tolist()[4] == hlm.Status.NOT_FINITE
    assert fits.nobs.tolist()[:6] == [180, 180, 174, 179, 0, 177]
    tests = fits.test({"Days": "Days", "sum": "(Intercept) + 4*Days"}, df="kenward-roger")
    for i in (0, 2, 3, 5, 11):
        kept = (W.iloc[:, i] > 0) & Y.iloc[:, i].notna()
        rows = data().assign(Reaction=Y.iloc[:, i], w=W.iloc[:, i])[kept]
        alone = hlm.fit(SLEEP, rows, weights="w")
        assert fits.criterion.iloc[i] == pytest.approx(alone.criterion, abs=tol.CRITERION)
        np.testing.assert_allclose(fits.fixef.iloc[i], alone.fixef, rtol=tol.ESTIMATE)
        expected = alone.contrast(["Days", "(Intercept) + 4*Days"], df="kenward-roger")
        mine = tests[tests["response"] == fits.index[i]]
        for name in ("estimate", "std_error", "df", "p_value"):
            np.testing.assert_allclose(mine[name], expected[name], rtol=tol.BATCH_DF)
        np.testing.assert_allclose(fits[i].hatvalues, alone.hatvalues, rtol=tol.ALIKE)


def test_equal_weights_are_no_weights_and_a_row_of_weights_is_a_column():
    Y = responses()
    plain = hlm.fit_many(FORMULA, data(), Y)
    ones = hlm.fit_many(FORMULA, data(), Y.to_numpy(), weights=np.ones(Y.shape))
    np.testing.assert_allclose(ones.criterion, plain.criterion, atol=tol.CRITERION)
    w = weights(Y).iloc[:, 0]
    shared = hlm.fit_many(FORMULA, data(), Y, weights=w)
    own = hlm.fit_many(FORMULA, data(), Y, weights=np.tile(w.to_numpy()[:, None], 12))
    np.testing.assert_allclose(own.criterion, shared.criterion, atol=tol.CRITERION)


def test_rows_that_the_design_drops_are_dropped_from_the_weights():
    Y, d = responses(), data()
    W = weights(Y)
    d.loc[7, "Days"] = np.nan
    with pytest.warns(errors.RowsDroppedWarning):
        fits = hlm.fit_many(FORMULA, d, Y, weights=W)
    part = hlm.fit_many(FORMULA, d.drop(7), Y.drop(7), weights=W.drop(7))
    np.testing.assert_allclose(fits.criterion, part.criterion, atol=tol.CRITERION)


def test_what_is_resampled_and_refitted_has_the_weights():
    Y = responses()
    fits = hlm.fit_many(FORMULA, data(), Y, weights=weights(Y))
    rows = data().assign(Reaction=Y.iloc[:, 1], w=weights(Y).iloc[:, 1])
    alone = hlm.fit(SLEEP, rows, weights="w")
    for name in ("parametric", "residual"):
        mine, other = (hlm.bootstrap(f, 20, name, seed=1).fits.fixef for f in (fits[1], alone))
        np.testing.assert_allclose(mine, other, rtol=tol.ALIKE)
    np.testing.assert_allclose(fits.refit_ml().criterion.iloc[1], alone.refit_ml().criterion)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            lambda W: W.rename(columns={"sim_2": "a", "sim_4": "b"}),
            r"names of weights differs .* responses \('a', 'b' against 'sim_2', 'sim_4'\)",
        ),
        (lambda W: W.iloc[::-1], "index of weights differs from that of data .the same in another"),
        (lambda W: W.to_numpy()[:, :5], "180 x 5 weights for 180 x 12 responses"),
        (lambda W: W - 1.0, r"0 to leave a row out; row 0 of response 'sim_1' has -"),
        (lambda W: W.replace(W.iloc[4, 2], np.inf), "row 4 of response 'sim_3' has inf"),
        (lambda W: W.astype(str), "weights"),
    ],
)
def test_weights_that_cannot_be_are_refused(change, match):
    Y = responses()
    with pytest.raises(errors.WeightsError, match=match):
        hlm.fit_many(FORMULA, data(), Y, weights=change(weights(Y)))


def test_a_term_that_learns_from_rows_is_refused_where_rows_are_left_out():
    Y = responses()
    W = weights(Y)
    hlm.fit_many("~ center(Days) + (1 | Subject)", data(), Y, weights=W)
    W.iloc[3, 3] = 0.0
    with pytest.raises(errors.FormulaError, match="learns from the rows"):
        hlm.fit_many("~ center(Days) + (1 | Subject)", data(), Y, weights=W)


def test_lme4_and_lmertest_say_the_same_of_fifty_responses():
    told = json.loads((DATA / "responses.json").read_text())["fits"]
    Y = np.array([pd.to_numeric(pd.Series(one["y"]), errors="coerce") for one in told]).T
    W = np.array([one["w"] for one in told]).T
    fits = hlm.fit_many(FORMULA, data(), Y, weights=W)
    theirs = {
        name: np.array([one[name] for one in told]) for name in told[0] if name not in ("y", "w")
    }
    assert (fits.criterion <= theirs["criterion"] + tol.LME4_CRITERION).all()
    np.testing.assert_allclose(fits.criterion, theirs["criterion"], atol=tol.LME4_ABOVE)
    off = np.abs(fits.fixef.to_numpy() - theirs["beta"]) / theirs["se"]
    assert off.max() < tol.LME4_BETA_IN_SE
    np.testing.assert_allclose(fits.se, theirs["se"], rtol=tol.LME4_SE)
    np.testing.assert_allclose(fits.sigma, theirs["sigma"], rtol=tol.LME4_SE)
    # At a singular optimum lmerTest's derivatives are no numbers to go by.
    inside = ~theirs["singular"].astype(bool)
    assert inside.sum() > 40
    df, p = fits.df().to_numpy()[inside], fits.p_values().to_numpy()[inside]
    np.testing.assert_allclose(df, theirs["df"][inside], rtol=tol.LME4_DF)
    np.testing.assert_allclose(np.log(p), np.log(theirs["p_value"][inside]), rtol=tol.LME4_P)
