"""Shares of the variance, against sums over rows and against R²."""

import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
import tolerances as tol
from cases import SLEEP, sleepstudy


def school():
    data = hlm.load_dataset("math_achieve").iloc[:900]
    return hlm.fit("MathAch ~ Minority * SES + Sex + (1 + SES | School)", data)


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.SingularFitWarning")
@pytest.mark.parametrize("make", [school, sleepstudy])
def test_they_sum_to_one_and_to_r_squared(make):
    fit = make()
    shares, r2 = fit.variance_fractions(), fit.r2()
    fixed = ~shares.index.isin([fit.model.group_name, "Residual"])
    fixed &= ~shares.index.str.contains("|", regex=False)
    assert shares.sum() == pytest.approx(1.0, rel=tol.SUMMED)
    assert shares[fixed].sum() == pytest.approx(r2["marginal"], rel=tol.SUMMED)
    assert 1.0 - shares["Residual"] == pytest.approx(r2["conditional"], rel=tol.SUMMED)


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.SingularFitWarning")
def test_each_is_the_variance_of_its_part_of_the_rows():
    fit = school()
    X, Z = fit.design.X, fit.design.Z
    beta, cov = fit.estimates.beta[0], fit.estimates.cov[0]
    names = [
        name.replace("MinorityYes", "Minority").replace("SexMale", "Sex")
        for name in fit.design.xnames
    ]
    terms = list(dict.fromkeys(names[1:]))
    own = [(X[:, at] @ beta[at]).var(ddof=1) for at in ([n == t for n in names] for t in terms)]
    fixed = (X @ beta).var(ddof=1)
    mean = Z.mean(axis=0)
    slopes = np.einsum("ij,jk,ik->i", Z - mean, cov, Z - mean).mean()
    parts = [*(fixed * np.array(own) / sum(own)), mean @ cov @ mean, slopes, fit.sigma**2]
    shares = fit.variance_fractions()
    assert shares.index.tolist() == [*terms, "School", "SES | School", "Residual"]
    np.testing.assert_allclose(shares, np.array(parts) / sum(parts), rtol=tol.SUMMED)


def test_a_factor_is_one_term_and_no_slope_no_component():
    data = pd.DataFrame({"y": range(24), "k": list("abc") * 8, "g": np.repeat(range(6), 4)})
    data["y"] = np.sin(data["y"] ** 2.0)
    fit = hlm.fit("y ~ k + (1 | g)", data.assign(y=data["y"] + data["g"]))
    assert fit.variance_fractions().index.tolist() == ["k", "g", "Residual"]


def test_without_a_correlation_units_and_slopes_are_of_all_terms():
    fit = hlm.fit(SLEEP.replace("|", "||"), hlm.load_dataset("sleepstudy"))
    shares = fit.variance_fractions()
    assert shares.index.tolist() == ["Days", "Subject", "Days | Subject", "Residual"]
    sd = np.sqrt(np.diag(fit.estimates.cov[0]))
    expected = (sd[0] ** 2 + 4.5**2 * sd[1] ** 2) / (8.25 * sd[1] ** 2)
    assert shares["Subject"] / shares["Days | Subject"] == pytest.approx(expected, rel=tol.SUMMED)
