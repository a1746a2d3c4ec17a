"""Every file of lme4 results, through the whole path: formula, data frame, fit, accessors."""

import json
import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
import tolerances as tol
from cases import CASES, DATA, load_case
from jaxhlm import errors, reference
from jaxhlm.errors import SingularFitWarning
from jaxhlm.likelihood.covariance import lambda_of

every_case = pytest.mark.parametrize("name", CASES)
every_method = pytest.mark.parametrize("method", ["REML", "ML"])


@cache
def fitted(name, method):
    data, results = load_case(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        return hlm.fit(results[method]["formula"], data, reml=method == "REML")


def canonical_term(name):
    """lme4 orders the parts of an interaction by variable, formulaic as they are written."""
    return ":".join(sorted(name.split(":")))


def matched(fit, expected):
    ours = {canonical_term(t): i for i, t in enumerate(fit.fixef.index)}
    return [ours[canonical_term(t)] for t in expected["terms"]]


@every_case
@every_method
def test_fixed_part_and_criterion(name, method):
    fit, expected = fitted(name, method), load_case(name)[1][method]
    order = matched(fit, expected)
    se = np.array(expected["se"])
    assert fit.criterion <= expected["criterion"] + tol.LME4_CRITERION
    assert fit.criterion == pytest.approx(expected["criterion"], abs=tol.LME4_ABOVE)
    assert np.abs((fit.fixef.to_numpy()[order] - expected["fixef"]) / se).max() < (
        tol.LME4_BETA_IN_SE
    )
    np.testing.assert_allclose(fit.se.to_numpy()[order], se, rtol=tol.LME4_SE)
    np.testing.assert_allclose(fit.loglik, expected["logLik"], atol=tol.LME4_IC)
    np.testing.assert_allclose(fit.aic, expected["AIC"], atol=tol.LME4_IC)
    np.testing.assert_allclose(fit.bic, expected["BIC"], atol=tol.LME4_IC)


@every_case
@every_method
def test_random_part(name, method):
    fit, expected = fitted(name, method), load_case(name)[1][method]
    G = np.array(expected["G"])
    scale = max(np.abs(G).max(), expected["sigma"] ** 2)
    np.testing.assert_allclose(fit.varcorr.cov, G, atol=tol.LME4_COV * scale)
    np.testing.assert_allclose(fit.sigma, expected["sigma"], rtol=tol.LME4_SE)
    assert fit.singular == expected["singular"]
    if not fit.singular:
        np.testing.assert_allclose(
            fit.theta, expected["theta"], rtol=tol.LME4_THETA, atol=tol.ESTIMATE
        )


@every_case
@every_method
def test_units(name, method):
    fit, expected = fitted(name, method), load_case(name)[1][method]
    ranef = np.array(expected["ranef"])
    assert fit.ranef.index.astype(str).tolist() == list(map(str, expected["ranef_levels"]))
    scale = max(np.abs(ranef).max(), tol.NOTHING)
    np.testing.assert_allclose(fit.ranef, ranef, atol=tol.LME4_RANEF * scale)
    if expected.get("ranef_condvar"):
        condvar = np.array(expected["ranef_condvar"]).reshape(fit.ranef_cov.shape)
        scale = max(np.abs(condvar).max(), tol.NOTHING)
        np.testing.assert_allclose(fit.ranef_cov, condvar, atol=tol.LME4_RANEF * scale)
    head = expected["fitted_head"]
    np.testing.assert_allclose(fit.fitted.iloc[: len(head)], head, rtol=tol.LME4_FITTED)


@every_case
@every_method
def test_the_criterion_is_that_of_the_definition_at_the_estimate(name, method):
    """Group by group, since the dense matrix of the largest case would take 400 MB."""
    fit = fitted(name, method)
    d, reml = fit.design, method == "REML"
    Lambda = lambda_of(fit.theta[:, None], d.blocks)[0]
    at_estimate = reference.criterion_by_group(Lambda, d.y, d.X, d.Z, d.group, reml)
    np.testing.assert_allclose(fit.criterion, at_estimate, rtol=tol.DEVIANCE)
    best = reference.fit(d.y, d.X, d.Z, d.group, reml, blocks=d.blocks)
    assert fit.criterion <= best.criterion + tol.CRITERION
    np.testing.assert_allclose((fit.fixef - best.beta) / best.se, 0.0, atol=tol.ESTIMATE)
    scale = max(np.abs(best.cov).max(), best.sigma**2)
    np.testing.assert_allclose(fit.varcorr.cov, best.cov, atol=tol.ESTIMATE * scale)
    np.testing.assert_allclose(fit.ranef, best.b, atol=tol.ESTIMATE * np.sqrt(scale))
    np.testing.assert_allclose(fit.ranef_cov, best.b_cov, atol=tol.ESTIMATE * scale)


# Formulas that few write.

FORMULAS = json.loads((DATA / "formulas.json").read_text())
STAGE = "Reaction ~ C(stage, contr.{}) + (1 + Days | Subject)"
WRITTEN = {
    "none": "Reaction ~ 0 + (1 + Days | Subject)",
    "offset": "I(Reaction - known) ~ Days + (1 + Days | Subject)",
    **{name: STAGE.format(name) for name in ("sum", "helmert", "poly")},
}


def staged():
    d = hlm.load_dataset("sleepstudy")
    stages = ["early", "middle", "late"]
    stage = pd.Categorical(np.array(stages)[d["Days"] // 4], stages, ordered=True)
    return d.assign(known=10.0 * d["Days"], stage=stage)


@pytest.mark.parametrize("case", WRITTEN)
def test_formulas_that_few_write(case):
    """No fixed effects; an offset, taken from the response; contrasts of an ordered factor."""
    d, record = staged(), FORMULAS[case]
    fit = hlm.fit(WRITTEN[case], d)
    assert fit.criterion == pytest.approx(record["criterion"], abs=tol.LME4_CRITERION)
    np.testing.assert_allclose(fit.theta, record["theta"], rtol=tol.LME4_THETA)
    np.testing.assert_allclose(fit.se, record["se"], rtol=tol.LME4_SE)
    off = (fit.fixef - np.array(record["fixef"], dtype=float)) / fit.se
    np.testing.assert_allclose(off, 0.0, atol=tol.LME4_BETA_IN_SE)
    fitted = fit.fitted + (d["known"] if case == "offset" else 0.0)
    np.testing.assert_allclose(fitted[:12], record["fitted"], rtol=tol.LME4_FITTED)
    np.testing.assert_allclose(fit.predict(d), fit.fitted, rtol=tol.LME4_FITTED)


def test_a_model_without_fixed_effects():
    """Tables of them are empty, and what needs one says that there is none."""
    d = hlm.load_dataset("sleepstudy")
    fit = hlm.fit(WRITTEN["none"], d)
    assert "No fixed effects" in str(fit)
    assert fit.p_values().empty
    assert len(fit.anova().table) == 0
    assert fit.tidy()["effect"].unique().tolist() == ["ran_pars"]
    np.testing.assert_array_equal(fit.predict(ranef=False), 0.0)
    line = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", d)
    assert line.anova(fit).table["Df"].iloc[-1] == 2
    fits = hlm.fit_many("~ 0 + (1 + Days | Subject)", d, d[["Reaction"]])
    assert fits.criterion.iloc[0] == pytest.approx(fit.criterion)
    with pytest.raises(errors.ContrastError, match="no fixed effect besides"):
        fits.test()
