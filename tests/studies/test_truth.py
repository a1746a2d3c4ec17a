"""Truths from fits, and distributions over truths."""

import numpy as np
import pytest

import jaxhlm as hlm
import tolerances as tol
from jaxhlm.errors import OptionError, UnknownTermError
from jaxhlm.studies.plan import effect_in_words

FORMULA = "Reaction ~ Days + (1 + Days | Subject)"


@pytest.fixture(scope="module")
def fit():
    return hlm.fit(FORMULA, hlm.load_dataset("sleepstudy"))


def test_a_truth_is_the_fit(fit):
    truth = hlm.Truth.from_fit(fit)
    assert truth.beta == dict(fit.fixef)
    np.testing.assert_array_equal(truth.cov, fit.varcorr.cov)
    assert truth.sigma == fit.sigma


def test_chosen_values_replace_those_of_the_fit(fit):
    truth = hlm.Truth.from_fit(fit, beta={"Days": 5}, sigma=3)
    assert truth.beta == {"(Intercept)": fit.fixef["(Intercept)"], "Days": 5.0}
    assert truth.sigma == 3.0
    correlation = fit.varcorr.corr.iloc[0, 1]
    sd = fit.varcorr.sd["(Intercept)"]
    for given in ({"Days": 10.0}, [sd, 10.0]):
        cov = hlm.Truth.from_fit(fit, sd=given).cov
        np.testing.assert_allclose(cov, [[sd**2, correlation * sd * 10], [cov[1, 0], 100]])
    new = hlm.Truth.from_fit(fit, corr=-0.5).cov
    np.testing.assert_allclose(new[0, 1], -0.5 * np.sqrt(new[0, 0] * new[1, 1]))
    np.testing.assert_allclose(np.diag(new), np.diag(fit.varcorr.cov))


def test_beside_a_variance_of_zero_the_correlation_is_zero():
    data = hlm.load_dataset("sleepstudy")
    data["noise"] = np.random.default_rng(0).normal(size=180)
    with pytest.warns(hlm.JaxhlmWarning):
        singular = hlm.fit("noise ~ Days + (1 + Days || Subject)", data)
    assert singular.singular
    truth = hlm.Truth.from_fit(singular, sd=[0.5, 0.2])
    np.testing.assert_allclose(truth.cov, np.diag([0.25, 0.04]), atol=tol.LAST_BITS)


def test_what_the_fit_has_not(fit):
    with pytest.raises(UnknownTermError, match=r"beta names 'days', .* \(Intercept\), Days"):
        hlm.Truth.from_fit(fit, beta={"days": 1})
    with pytest.raises(UnknownTermError, match="sd names 'x'"):
        hlm.Truth.from_fit(fit, sd={"x": 1})
    with pytest.raises(OptionError, match=r"sd has 3 value\(s\), the fit 2"):
        hlm.Truth.from_fit(fit, sd=[1, 2, 3])
    with pytest.raises(OptionError, match="correlations lie between"):
        hlm.Truth.from_fit(fit, corr=1.5)
    with pytest.raises(UnknownTermError):
        hlm.TruthDistribution.from_fit(fit, beta={"days": 1})
    with pytest.raises(OptionError, match="variances='free'"):
        hlm.TruthDistribution.from_fit(fit, variances="free")
    with pytest.raises(OptionError, match=r"must return a jaxhlm\.Truth"):
        hlm.TruthDistribution(lambda rng: 3).draw(np.random.default_rng(0))


@pytest.mark.slow
def test_fixed_effects_are_drawn_from_their_sampling_distribution(fit):
    """Mean β̂ and covariance Var(β̂), within five Monte-Carlo standard errors."""
    n, rng = 4000, np.random.default_rng(1)
    uncertain = hlm.TruthDistribution.from_fit(fit)
    truths = [uncertain.draw(rng) for _ in range(n)]
    beta = np.array([list(t.beta.values()) for t in truths])
    assert (np.abs(beta.mean(axis=0) - fit.fixef) < 5 * fit.se / np.sqrt(n)).all()
    V = fit.vcov.to_numpy()
    error = np.sqrt((V**2 + np.outer(np.diag(V), np.diag(V))) / n)
    assert (np.abs(np.cov(beta.T) - V) < 5 * error).all()
    assert {t.sigma for t in truths} == {fit.sigma}


def test_variances_are_drawn_by_the_parametric_bootstrap(fit):
    uncertain = hlm.TruthDistribution.from_fit(fit, beta={"Days": 3}, variances="drawn")
    truths = [uncertain.draw(np.random.default_rng(i)) for i in range(20)]
    assert {t.beta["Days"] for t in truths} == {3}
    sigma = np.array([t.sigma for t in truths])
    assert len(set(sigma)) == 20
    # The standard error of σ̂ is about σ/√(2ν) with ν = 144.
    assert abs(sigma.mean() / fit.sigma - 1) < 5 / np.sqrt(2 * 144 * 20)
    again = uncertain.draw(np.random.default_rng(0))
    assert again.sigma == truths[0].sigma and again.beta == truths[0].beta


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": [1, np.nan]}, "beta has a value that is missing or infinite"),
        ({"beta": {"x": np.inf, "a": 1}}, "beta has a value"),
        ({"sd": [1, -1]}, r"sd=\[1, -1\]: .* not negative"),
        ({"sd": [1, np.inf]}, "sd has a value"),
        ({"corr": 1.5}, "corr=1.5: correlations lie between -1 and 1"),
        ({"corr": np.eye(3)}, "a 2 × 2 matrix"),
        ({"corr": np.full((2, 2), 0.5)}, "diagonal of ones"),
        ({"sigma": np.nan}, "sigma=nan must be a finite number"),
        ({"sigma": -1.0}, "sigma=-1.0 must not be negative"),
    ],
)
def test_numbers_that_no_model_has(change, message):
    """A negative sd would else become a positive variance."""
    whole = {"beta": [1, 2], "sd": [1, 2], "corr": 0.1, "sigma": 1.0}
    with pytest.raises(OptionError, match=message):
        hlm.Truth.of(**{**whole, **change})


APART = ["~ Days + (1 + Days || Subject)", "~ Days + (1 | Subject) + (0 + Days | Subject)"]


@pytest.mark.parametrize("formula", APART)
def test_effects_that_a_model_keeps_apart_are_not_correlated_in_its_truth(formula):
    """Wherever a truth meets a model; another formula than the one that generates may be fitted."""
    data = hlm.load_dataset("sleepstudy")
    design = hlm.design(formula, data)

    def truth(corr):
        return hlm.Truth.of([1.0, 2.0], sd=[1.0, 0.5], corr=corr, sigma=1.0)

    uncertain = hlm.TruthDistribution(lambda rng: truth(rng.choice([0.3])))
    asked = {
        "mechanism": lambda t: hlm.mechanism(formula, data, t),
        "simulate": lambda t: hlm.simulate(design, t, 2),
        "power": lambda t: hlm.power((design, t), "Days", n=2, seed=1),
        "effect_sizes": lambda t: hlm.effect_sizes((design, t), "within"),
        "Truth.of": lambda t: hlm.Truth.of(
            {"(Intercept)": 1.0}, t.cov.diagonal() ** 0.5, t.cov[0, 1] / 0.5, 1.0, design=design,
            d={"Days": 2.0}, d_sd="within",
        ),
        "drawn": lambda t: hlm.mechanism(formula, data, uncertain if t.cov[0, 1] else t),
    }  # fmt: skip
    for ask in asked.values():
        ask(truth(0.0))
        with pytest.raises(OptionError, match=r"\(Intercept\) with Days \(0\.3\).*corr=0.*\| Subj"):
            ask(truth(0.3))
    drawn = hlm.mechanism("~ Days + (1 + Days | Subject)", data, truth(0.3)).draw(0, 2)
    assert len(drawn.fit(formula)) == 2


@pytest.mark.parametrize("formula", APART)
def test_the_estimates_of_a_model_are_a_truth_of_it(formula):
    data = hlm.load_dataset("sleepstudy")
    fit = hlm.fit("Reaction " + formula, data)
    for truth in (hlm.Truth.from_fit(fit), hlm.Truth.from_fit(fit, sd={"Days": 3.0})):
        assert hlm.mechanism(formula, data, truth).truth is truth


def test_no_correlation_is_told_of_effects_that_do_not_vary():
    assert "corr" not in str(hlm.Truth.of([0, 1], sd=[0.0, 0.0]))
    assert "corr" not in str(hlm.Truth.of([0, 1], sd=[0.5, 0.0], corr=0.9))
    corr = np.array([[1, 0.5, 0.2], [0.5, 1, 0], [0.2, 0, 1]])
    assert "sd 1, 2, 0, corr 0.5, -, -;" in str(hlm.Truth.of([0], sd=[1, 2, 0], corr=corr))


def test_a_truth_is_printed_in_a_line():
    text = "fixed effects 1, 3; random effects sd 0.2, 0.5, corr 0.9; residual sd 0.75"
    assert str(hlm.Truth.of([1, 3], sd=[0.2, 0.5], corr=0.9, sigma=0.75)) == text
    assert "sd 2; residual" in str(hlm.Truth.of({"x": 1}, sd=[2.0], sigma=1.0))


CROSSED, ARTICLE = "~ x * a + (1 + x | unit)", hlm.load_dataset("article")
DESIGN = hlm.design(CROSSED, ARTICLE)
UNEQUAL = np.unique(np.arange(200) ** 2 % 900)


@pytest.mark.parametrize(
    ("d_sd", "sd"), [("within", 0.75), ("between", 0.2), ("total", np.hypot(0.2, 0.75))]
)
def test_d_sets_an_effect_and_is_read_off_again(d_sd, sd):
    beta = {"(Intercept)": 1, "x": 3, "a": -0.15}
    options = {"sd": [0.2, 0.5], "corr": 0.9, "sigma": 0.75}
    truth = hlm.Truth.of(beta, **options, d={"x:a": 0.4}, d_sd=d_sd)
    np.testing.assert_allclose(truth.beta["x:a"], 0.4 * sd, rtol=tol.LAST_BITS)
    sizes = hlm.effect_sizes((DESIGN, truth), d_sd)
    np.testing.assert_allclose(sizes["d"], [*(np.array([1, 3, -0.15]) / sd), 0.4], rtol=tol.SUMMED)
    assert sizes.index.tolist() == list(DESIGN.xnames)


def test_partial_r2_is_that_of_the_f_test_of_expected_data():
    """Balanced: F is β²/Var(β̂) with 28 df, whatever the variances; Var by a dense GLS."""
    truth = hlm.Truth.of([1, 3, -0.15, 0.3], sd=[0.2, 0.5], corr=0.9, sigma=0.75)
    sizes = hlm.effect_sizes((DESIGN, truth), "total")
    A = np.zeros((4, 4))
    for g in range(DESIGN.G):
        X, Z = DESIGN.X[DESIGN.group == g], DESIGN.Z[DESIGN.group == g]
        A += X.T @ np.linalg.solve(Z @ truth.cov @ Z.T + 0.75**2 * np.eye(len(X)), X)
    F = np.array([1, 3, -0.15, 0.3]) ** 2 / np.diag(np.linalg.inv(A))
    np.testing.assert_allclose(sizes["df"], 28.0, rtol=tol.ESTIMATE)
    np.testing.assert_allclose(sizes["partial_r2"], F / (F + 28.0), rtol=tol.ESTIMATE)


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_d_looks_the_random_intercept_up_by_name(order):
    """Whatever its place in the formula; and a model without one has that of residuals only."""
    terms, sd = ["(1 | unit)", "(0 + x | unit)"], np.array([0.2, 0.5])[order]
    design = hlm.design(f"~ x * a + {' + '.join(terms[i] for i in order)}", ARTICLE)
    options = {"sd": sd, "sigma": 0.75, "d": {"x:a": 0.4}, "design": design}
    truth = hlm.Truth.of({"(Intercept)": 1, "x": 3, "a": -0.15}, **options, d_sd="between")
    np.testing.assert_allclose(truth.beta["x:a"], 0.4 * 0.2, rtol=tol.LAST_BITS)
    assert hlm.effect_sizes((design, truth), "total").loc["x:a", "d"] == pytest.approx(
        0.4 * 0.2 / np.hypot(0.2, 0.75), rel=tol.SMALL
    )
    effect, none = np.eye(4)[[3]], np.zeros(1)
    assert "d 0.107 by the residual sd, 0.4 by that of units, 0.103 by the total sd" in (
        effect_in_words(effect, none, (design, truth))
    )
    slopes = hlm.design("~ x * a + (0 + x | unit)", ARTICLE)
    given = {**options, "sd": [0.5], "design": slopes}
    for d_sd in ("between", "total"):
        with pytest.raises(OptionError, match=f"d_sd='{d_sd}' is of random intercepts.* has x"):
            hlm.Truth.of({"(Intercept)": 1, "x": 3, "a": -0.15}, **given, d_sd=d_sd)
    truth = hlm.Truth.of({"(Intercept)": 1, "x": 3, "a": -0.15}, **given, d_sd="within")
    with pytest.raises(OptionError, match="random intercepts"):
        hlm.effect_sizes((slopes, truth), "total")
    assert effect_in_words(effect, none, (slopes, truth)).endswith("d 0.4 by the residual sd.")


OTHERS = {"(Intercept)": 1, "x": 3, "a": -0.15}
SPREAD = {"sd": [0.2, 0.5], "corr": 0.9, "sigma": 0.75}


@pytest.mark.parametrize("design", [DESIGN, hlm.design(CROSSED, ARTICLE.iloc[UNEQUAL])])
def test_partial_r2_sets_an_effect_and_is_read_off_again(design):
    truth = hlm.Truth.of(
        {"(Intercept)": 1, "x": 3}, **SPREAD, d={"a": 0.2}, d_sd="total",
        partial_r2={"x:a": 0.1}, design=design,
    )  # fmt: skip
    sizes = hlm.effect_sizes((design, truth), "total")
    np.testing.assert_allclose(sizes["partial_r2"]["x:a"], 0.1, rtol=tol.SUMMED)
    np.testing.assert_allclose(sizes["d"]["a"], 0.2, rtol=tol.SUMMED)
    none = hlm.Truth.of(OTHERS, **SPREAD, partial_r2={"x:a": 0}, design=design)
    assert none.beta["x:a"] == 0.0


def test_data_sets_have_the_partial_r2_that_was_set():
    """Balanced: t² is noncentral F with 1 and ν = 28, of mean ν (1 + λ)/(ν − 2), λ/(λ + ν) = R²."""
    truth = hlm.Truth.of(OTHERS, **SPREAD, partial_r2={"x:a": 0.2}, design=DESIGN)
    fits = hlm.simulate(DESIGN, truth, n=4000, seed=1).fit()
    F, nu = (fits.fixef["x:a"] / fits.se["x:a"]).to_numpy() ** 2, 28.0
    error = F.std() / np.sqrt(len(F))
    expected = nu * (1.0 + 0.2 / 0.8 * nu) / (nu - 2.0)
    assert abs(F.mean() - expected) < 4.0 * error < 0.1 * expected


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"design": None}, OptionError, "partial_r2 needs design="),
        ({"partial_r2": None}, OptionError, "design is that of partial_r2, which is missing"),
        ({"partial_r2": {"x:a": 1.0}}, OptionError, "at least 0 and less than 1"),
        ({"partial_r2": {"x:a": -0.1}}, OptionError, "at least 0 and less than 1"),
        ({"partial_r2": {"x:b": 0.1}}, UnknownTermError, r"its terms are \(Intercept\), x, a, x:a"),
        ({"partial_r2": {"x": 0.1}}, OptionError, "partial_r2 and beta both give 'x'"),
        ({"d": {"x:a": 1}, "d_sd": "total"}, OptionError, "partial_r2 and beta or d both give"),
        ({"beta": [1, 2, 3]}, OptionError, "beta must be a mapping by term where partial_r2"),
        ({"sigma": 0.0}, OptionError, "needs residual variance"),
        ({"sd": [1.0], "corr": 0.0}, OptionError, "the truth has 1 random effect"),
        ({"design": hlm.design(CROSSED, ARTICLE.head(60))}, OptionError, "with so few units"),
    ],
)
def test_a_partial_r2_that_cannot_be_is_refused(change, error, message):
    whole = {"beta": OTHERS, **SPREAD, "partial_r2": {"x:a": 0.1}, "design": DESIGN}
    with pytest.raises(error, match=message):
        hlm.Truth.of(**{**whole, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d_sd": None}, '"within", "between" or "total"'),
        ({"d_sd": "residual"}, "d_sd='residual'"),
        ({"d": None}, "d_sd is of d, which is missing"),
        ({"d": {"x": 0.5}}, "d and beta both give 'x'"),
        ({"beta": [1, 2]}, "beta must be a mapping"),
        ({"sd": [0.0], "d_sd": "between"}, "is 0 in this truth"),
    ],
)
def test_a_standardised_effect_says_what_it_is_divided_by(change, message):
    whole = {"beta": {"x": 1}, "sd": [1.0], "d": {"a": 0.5}, "d_sd": "total"}
    with pytest.raises(OptionError, match=message):
        hlm.Truth.of(**{**whole, **change})


def test_a_truth_that_is_drawn_has_no_effect_sizes():
    data = hlm.load_dataset("article")
    drawn = hlm.TruthDistribution(lambda rng: hlm.Truth.of([1, 3, 0, 0.3], [0.2, 0.5]))
    m = hlm.mechanism("y ~ x * a + (1 + x | unit)", data, drawn)
    with pytest.raises(OptionError, match="draws a truth of its own"):
        hlm.effect_sizes(m, "total")
