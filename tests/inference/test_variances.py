"""Errors of variances against the curvature of the dense likelihood; rePCA and logLik of lme4."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import jaxhlm as hlm
import tolerances as tol
from cases import SLEEP, frame, sleepstudy
from jaxhlm import errors

pytestmark = pytest.mark.filterwarnings(
    "ignore::jaxhlm.errors.SingularFitWarning", "ignore::jaxhlm.errors.ConvergenceWarning"
)
FORMULAS = ("y ~ x + a + (1 + x | unit)", "y ~ x + a + (1 + x || unit)", "y ~ x + (1 | unit)")


def data():
    return frame(np.random.default_rng(4), (9, 6, 7, 8, 12, 5, 8, 5, 7, 9, 6, 8), sd=1.0)


def criterion(p, d, blocks, reml):
    """−2 × log-likelihood at log sd, atanh of correlations (q = 2, one block) and log σ."""
    q = d.q
    sd = np.exp(p[:q])
    cov = np.diag(sd**2)
    if q == 2 and len(blocks) == 1:
        cov[0, 1] = cov[1, 0] = np.tanh(p[2]) * sd.prod()
    weights = np.ones(d.n) if d.weights is None else d.weights
    V = (d.group[:, None] == d.group) * (d.Z @ cov @ d.Z.T) + np.diag(np.exp(2 * p[-1]) / weights)
    A = d.X.T @ np.linalg.solve(V, d.X)
    r = d.y - d.X @ np.linalg.solve(A, d.X.T @ np.linalg.solve(V, d.y))
    value = np.linalg.slogdet(V)[1] + r @ np.linalg.solve(V, r)
    return value + reml * np.linalg.slogdet(A)[1]


def hessian(f, x, h=1e-3):
    steps = h * np.eye(len(x))
    return np.array(
        [
            [
                (f(x + a + b) - f(x + a - b) - f(x - a + b) + f(x - a - b)) / (4 * h * h)
                for b in steps
            ]
            for a in steps
        ]
    )


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("formula", FORMULAS)
def test_errors_are_the_curvature_of_the_dense_likelihood(formula, reml):
    d = data()
    weights = None if "||" in formula else np.random.default_rng(1).uniform(0.5, 2.0, len(d))
    fit = hlm.fit(formula, d, reml=reml, weights=weights)
    table = fit.varcorr_frame(conf_level=0.9)
    value = table["estimate"].to_numpy()
    is_cor = table["term"].str.startswith("cor__").to_numpy()
    p = np.where(is_cor, np.arctanh(np.where(is_cor, value, 0.0)), np.log(np.abs(value)))
    H = hessian(lambda x: criterion(x, fit.design, fit.model.blocks, reml), p)
    se = np.sqrt(np.diag(np.linalg.inv(H / 2.0)))
    np.testing.assert_allclose(table["std_error_log"], se, rtol=tol.DIFFERENCED_DF)
    natural = se * np.where(is_cor, 1.0 - value**2, value)
    np.testing.assert_allclose(table["std_error"], natural, rtol=tol.DIFFERENCED_DF)
    z, inverse = stats.norm.ppf(0.95), lambda x: np.where(is_cor, np.tanh(x), np.exp(x))
    np.testing.assert_allclose(table["conf_high"], inverse(p + z * se), rtol=tol.DIFFERENCED_DF)
    plain = fit.varcorr_frame("sd", 0.9)
    np.testing.assert_allclose(plain["conf_low"], value - z * natural, rtol=tol.DIFFERENCED_DF)


def test_balanced_one_way_in_closed_form():
    """Var(log σ) = 1/(2 df) where all groups are alike; 2 df σ̂²/σ² is χ²."""
    rng = np.random.default_rng(1)
    d = pd.DataFrame({"g": np.repeat(np.arange(8), 5), "y": rng.normal(size=40)})
    d["y"] += 2.0 * rng.normal(size=8)[d["g"]]
    table = hlm.fit("y ~ 1 + (1 | g)", d).varcorr_frame().set_index("term")
    np.testing.assert_allclose(table["std_error_log"]["sd__Observation"], np.sqrt(0.5 / 32))
    between = d.groupby("g")["y"].mean().var() * 5.0
    s2, ms = table["estimate"]["sd__(Intercept)"] ** 2, table["estimate"]["sd__Observation"] ** 2
    var = (2.0 * between**2 / 7 + 2.0 * ms**2 / 32) / 25.0
    expected = np.sqrt(var) / (2.0 * s2)
    np.testing.assert_allclose(
        table["std_error_log"]["sd__(Intercept)"], expected, rtol=tol.ESTIMATE
    )


def test_a_batch_answers_as_its_fits_do():
    d, formula = data(), FORMULAS[0]
    Y = hlm.fit(formula, d).simulate(5, seed=1).to_numpy().copy()
    Y[[3, 20, 21], 1], Y[:, 2] = np.nan, 1.0
    Y[:, 3] = d["y"] - d.groupby("unit")["y"].transform("mean")
    fits = hlm.fit_many(formula, d, Y, progress=False)
    assert fits.singular[3] and not fits.ok[2]
    for call in (
        lambda f: f.varcorr_frame(),
        lambda f: f.varcorr_frame("sd"),
        lambda f: f.re_pca(),
    ):
        table = call(fits)
        for i in np.flatnonzero(fits.ok):
            one = call(fits[int(i)])
            mine = table[len(one) * i : len(one) * (i + 1)].iloc[:, 1:].reset_index(drop=True)
            pd.testing.assert_frame_equal(mine, one, rtol=tol.BATCH_DF, atol=tol.ZERO_VARIANCE)
        assert table.iloc[2 * len(one) : 3 * len(one)].iloc[:, 4:].isna().all(axis=None)
    assert fits[3].varcorr_frame()["std_error"].isna().all()
    for reml in (True, False):
        found = fits.loglik_by(reml)
        alone = [fit.loglik_by(reml) for fit in fits]
        np.testing.assert_allclose(found, alone, rtol=tol.BATCH_DF)


def test_of_lme4():
    """rePCA and logLik(REML = …) of lme4 1.1-31 for sleepstudy."""
    fit = sleepstudy()
    np.testing.assert_allclose(fit.loglik_by(False), -875.9929332, atol=tol.LME4_CRITERION)
    np.testing.assert_allclose(
        fit.refit_ml().loglik_by(True), -871.8368665, atol=tol.LME4_CRITERION
    )
    assert fit.loglik_by(True) == fit.loglik
    table = fit.re_pca()
    np.testing.assert_allclose(table["sd"], [0.9668680, 0.2308798], rtol=tol.LME4_THETA)
    np.testing.assert_allclose(table["(Intercept)"], [0.99986158, -0.01663769], rtol=tol.RE_PCA)
    apart = hlm.fit(SLEEP.replace("|", "||"), hlm.load_dataset("sleepstudy")).re_pca()
    assert apart["component"].tolist() == ["PC1", "PC1"]
    np.testing.assert_allclose(apart["proportion"], 1.0)


def test_refused():
    with pytest.raises(errors.OptionError, match="scale="):
        sleepstudy().varcorr_frame("variance")
    with pytest.raises(errors.OptionError, match="reml="):
        sleepstudy().loglik_by("ML")
