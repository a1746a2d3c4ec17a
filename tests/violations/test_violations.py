"""Violations: moments, exact recursions on the same innovations, rates, and composition."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import jaxhlm as hlm
import tolerances as tol
from jaxhlm import violations as v
from jaxhlm.errors import (
    MissingColumnError,
    NonFiniteError,
    NotNumericError,
    OptionError,
    UnknownTermError,
)
from jaxhlm.violations.distributions import sampler, standardised

FORMULA = "y ~ x + (1 + x | unit)"
TRUTH = hlm.Truth.of([1.0, 2.0], sd=[0.8, 0.5], corr=0.4, sigma=0.7)
# Without random effects and with a mean of zero the response is σ times the residual.
NOISE = hlm.Truth.of([0.0, 0.0], sd=[0.0, 0.0], sigma=1.0)
N = 100_000


def frame(G=6, m=5):
    """Unequal sizes, rows of a unit scattered, a covariate of the units and one of the rows."""
    rng = np.random.default_rng(3)
    unit = rng.permutation(np.repeat(np.arange(G), np.arange(m - 2, m - 2 + G)))
    return pd.DataFrame(
        {
            "unit": unit,
            "x": rng.normal(size=len(unit)),
            "a": rng.normal(size=G)[unit],
            "kind": np.array(["u", "v"])[unit % 2],
        }
    )


DATA = frame()


def drawn(violations, B=1, truth=TRUTH, seed=1, data=DATA):
    return hlm.mechanism(FORMULA, data, truth, violations).draw(0, B, seed)


def named(value):
    """The name of a case, without the addresses of functions, which no two runs have in common."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))


# Kurtosis of the standardised distribution, which gives the Monte-Carlo error of its variance.
DISTRIBUTIONS = [
    (v.Gaussian(), 0.0, 3.0),
    (v.StudentT(9), 0.0, 3 + 6 / 5),
    (v.Skewed(1.5), 1.5, 3 + 6 * 1.5**2 / 4),
    (v.Skewed(-0.5), -0.5, 3 + 6 * 0.25 / 4),
    (v.Contaminated(0.1, 4.0), 0.0, 3 * (0.9 + 0.1 * 4**4) / (0.9 + 0.1 * 16) ** 2),
    (v.TwoClasses(0.5, 4.0), 0.0, (3 + 6 * 4 + 16) / 25),
    (v.Uniform(), 0.0, 1.8),
    (v.Laplace(), 0.0, 6.0),
    (stats.expon(), 2.0, 9.0),
]


@pytest.mark.parametrize(("distribution", "skewness", "kurtosis"), DISTRIBUTIONS, ids=named)
def test_distributions_are_standardised(distribution, skewness, kurtosis):
    """Mean 0 and variance 1 within five Monte-Carlo standard errors, and the shape."""
    z = standardised(distribution).draw(np.random.default_rng(7), N)
    assert abs(z.mean()) < 5 / np.sqrt(N)
    assert abs(z.var() - 1) < 5 * np.sqrt((kurtosis - 1) / N)
    assert abs((z**3).mean() - skewness) < 5 * np.sqrt((z**6).mean() / N)
    assert abs((z**4).mean() - kurtosis) < 5 * np.sqrt((z**8).mean() / N)


def test_classes_of_unequal_share():
    z = v.TwoClasses(0.2, 3.0).draw(np.random.default_rng(1), N)
    assert abs(z.mean()) < 5 / np.sqrt(N)
    assert abs(z.var() - 1) < 5 * np.sqrt(4 / N)
    assert (z**3).mean() > 0.3


@pytest.mark.parametrize("distribution", [v.StudentT(9), v.Skewed(2.0), v.Uniform()], ids=str)
def test_effects_keep_their_covariance(distribution):
    """Mean 0 and covariance Σ, within five standard errors of these means."""
    b = drawn([v.EffectsFrom(distribution)], B=4000).effects
    products = np.einsum("ua,ub->uab", b, b)
    assert (np.abs(b.mean(axis=0)) < 5 * b.std(axis=0) / np.sqrt(len(b))).all()
    error = products.std(axis=0) / np.sqrt(len(b))
    assert (np.abs(products.mean(axis=0) - TRUTH.cov) < 5 * error).all()


def test_uncorrelated_effects_are_of_the_distribution():
    diagonal = hlm.Truth.of([0, 0], sd=[2.0, 3.0])
    b = drawn([v.EffectsFrom(v.Uniform())], B=500, truth=diagonal).effects
    for column, sd in zip(b.T, (2.0, 3.0), strict=True):
        assert stats.kstest(column / sd, stats.uniform(-(3**0.5), 2 * 3**0.5).cdf).pvalue > 1e-4


def test_residuals_are_of_the_distribution():
    y = drawn([v.ResidualsFrom(v.Laplace())], B=300, truth=NOISE).responses.ravel()
    assert stats.kstest(y, stats.laplace(scale=0.5**0.5).cdf).pvalue > 1e-4


def innovations(B=1, truth=NOISE):
    return drawn([], B, truth).responses


def test_autocorrelation_in_the_order_of_rows():
    """The recursion, unit by unit, on the innovations of the same seed."""
    e = drawn([v.Autocorrelated(0.6)], B=3, truth=NOISE).responses
    u = innovations(3)
    for unit in DATA["unit"].unique():
        rows = np.flatnonzero(DATA["unit"] == unit)
        expected = u[rows[0]]
        np.testing.assert_array_equal(e[rows[0]], expected)
        for row in rows[1:]:
            expected = 0.6 * expected + 0.8 * u[row]
            np.testing.assert_allclose(e[row], expected, rtol=tol.SUMMED)


def test_autocorrelations():
    data = pd.DataFrame({"unit": np.repeat([0, 1], 20), "x": np.tile(np.arange(20.0), 2)})
    e = drawn([v.Autocorrelated(-0.5)], B=4000, truth=NOISE, data=data).responses
    for lag in range(4):
        products = e[lag:20] * e[: 20 - lag]
        mean = products.mean(axis=1)
        assert (np.abs(mean - (-0.5) ** lag) < 5 * products.std(axis=1) / np.sqrt(4000)).all()


def test_heteroscedastic_by_a_column():
    e = drawn([v.Heteroscedastic("x", np.exp)], B=2, truth=NOISE).responses
    s = np.exp(DATA["x"].to_numpy())
    expected = innovations(2) * (s / np.sqrt((s**2).mean()))[:, None]
    np.testing.assert_allclose(e, expected, rtol=tol.SUMMED)


def test_unequal_variances_by_unit():
    """One factor per unit, whose square has mean 1."""
    B = 5000
    factor = drawn([v.UnequalVariances(0.4)], B, NOISE).responses / innovations(B)
    first = DATA["unit"].drop_duplicates().index
    own = factor[first]
    np.testing.assert_allclose(
        factor, own[DATA["unit"].map(dict(zip(DATA["unit"][first], range(6), strict=True)))]
    )
    square = own**2
    assert abs(square.mean() - 1) < 5 * square.std() / np.sqrt(square.size)
    assert abs(np.log(own).std() - 0.4) < 5 * 0.4 / np.sqrt(2 * own.size)


def test_nonlinear_mean():
    more = drawn([v.Nonlinear("x", lambda x: x**2)], 2).responses - innovations(2, TRUTH)
    np.testing.assert_allclose(more, np.repeat(DATA[["x"]].to_numpy() ** 2, 2, 1), atol=tol.SUMMED)


def test_an_omitted_covariate_adds_to_the_covariance():
    gamma = np.array([0.5, -1.0])
    omitted = v.OmittedCovariate({"(Intercept)": 0.5, "x": -1.0}, v.TwoClasses())
    many = drawn([omitted], 3000)
    w = (many.effects - drawn([], 3000).effects) / gamma
    np.testing.assert_allclose(w[:, 0], w[:, 1], atol=tol.SUMMED)
    b = many.effects
    products = np.einsum("ua,ub->uab", b, b)
    error = 5 * products.std(axis=0) / np.sqrt(len(b))
    assert (np.abs(products.mean(axis=0) - TRUTH.cov - np.outer(gamma, gamma)) < error).all()


def test_effects_correlate_with_a_covariate():
    """The covariance with ã is ρ times the standard deviation, and Σ stays."""
    B, rho = 4000, np.array([0.6, 0.0])
    b = drawn([v.CorrelatedEffects("a", {"(Intercept)": 0.6})], B).effects.reshape(B, 6, 2)
    a = DATA.groupby("unit")["a"].first().to_numpy()
    score = (a - a.mean()) / a.std()
    cross = (b * score[:, None]).mean(axis=1)
    expected = rho * np.sqrt(np.diag(TRUTH.cov))
    assert (np.abs(cross.mean(axis=0) - expected) < 5 * cross.std(axis=0) / np.sqrt(B)).all()
    products = np.einsum("gua,gub->gab", b, b) / 6
    error = 5 * products.std(axis=0) / np.sqrt(B)
    assert (np.abs(products.mean(axis=0) - TRUTH.cov) < error).all()


def missing(violations, B=2000, truth=TRUTH):
    return np.isnan(drawn(violations, B, truth).responses)


def test_missing_completely_at_random():
    mask = missing([v.MissingCompletely(0.3)])
    assert (np.abs(mask.mean(axis=1) - 0.3) < 5 * np.sqrt(0.21 / 2000)).all()


def test_missing_at_random_given_a_column():
    """The logistic curve at every row, and the rate on average over rows."""
    mask = missing([v.MissingAtRandom("x", 0.25, slope=2.0)])
    x = DATA["x"].to_numpy()
    score = 2.0 * (x - x.mean()) / x.std()
    alpha = special.logit(0.25)
    for _ in range(200):
        alpha -= special.expit(alpha + score).mean() - 0.25
    expected = special.expit(alpha + score)
    error = np.sqrt(expected * (1 - expected) / 2000)
    assert (np.abs(mask.mean(axis=1) - expected) < 5 * error).all()
    assert abs(expected.mean() - 0.25) < tol.RATE


@pytest.mark.parametrize("slope", [-30.0, 0.0, 1.5, 1000.0])
def test_missing_not_at_random(slope):
    """The rate holds however steep the dependence; what is missing is larger, or smaller."""
    B = 500
    mask, y = missing([v.MissingNotAtRandom(0.2, slope)], B), innovations(B, TRUTH)
    rate = mask.mean()
    assert abs(rate - 0.2) < 5 * np.sqrt(0.16 / mask.size)
    difference = (y[mask].mean() - y[~mask].mean()) / y.std()
    assert np.sign(difference) == np.sign(slope) if slope else abs(difference) < 0.1


def test_informative_size():
    """Rows that are there, against the curve of the intercept's effects."""
    B = 4000
    many = drawn([v.InformativeSize("(Intercept)", slope=1.5, kept=0.6)], B)
    there = ~np.isnan(many.responses)
    b = many.effects.reshape(B, 6, 2)[:, DATA["unit"], 0].T / 0.8
    expected = special.expit(special.logit(0.6) + 1.5 * b)
    error = np.sqrt((expected * (1 - expected)).sum())
    assert abs((there - expected).sum()) < 5 * error
    slope = (there - expected) * b
    assert abs(slope.sum()) < 5 * np.sqrt((expected * (1 - expected) * b**2).sum())


@pytest.mark.parametrize(
    "none",
    [
        v.MissingCompletely(0),
        v.MissingAtRandom("x", 0.0, slope=2.0),
        v.MissingNotAtRandom(0.0, slope=-1e6),
        v.InformativeSize(slope=3.0, kept=1),
        v.ResidualsFrom(v.Contaminated(0.0)),
        v.ResidualsFrom(v.TwoClasses(0)),
    ],
)
def test_a_grid_of_violations_may_begin_with_none(none):
    """Data sets are those that nothing violates, on the same numbers where they are used alike."""
    y = drawn([none], 50).responses
    assert not np.isnan(y).any()
    if not isinstance(none, v.ResidualsFrom):
        np.testing.assert_array_equal(y, drawn([v.Nonlinear("x", np.zeros_like)], 50).responses)
    else:
        residual = drawn([none], 500, NOISE).responses
        assert abs(residual.var() / NOISE.sigma**2 - 1) < 5 * np.sqrt(2 / residual.size)


def test_violations_combine():
    """Each acts in its place, on the numbers that it would have alone."""
    heavy, wave = v.ResidualsFrom(v.StudentT(4)), v.Nonlinear("x", np.sin)
    order = [heavy, v.Autocorrelated(0.5), v.Heteroscedastic("x", np.exp), wave]
    y = drawn(order, truth=NOISE).responses[:, 0]
    u = drawn([heavy], truth=NOISE).responses[:, 0]
    e = np.empty_like(u)
    last = {}
    for row, unit in enumerate(DATA["unit"]):
        e[row] = 0.5 * last[unit] + np.sqrt(0.75) * u[row] if unit in last else u[row]
        last[unit] = e[row]
    s = np.exp(DATA["x"].to_numpy())
    expected = e * s / np.sqrt((s**2).mean()) + np.sin(DATA["x"])
    np.testing.assert_allclose(y, expected, rtol=tol.SUMMED, atol=tol.REORDERED)
    # Missing responses come last, and two kinds of them are independent.
    mask = missing([wave, v.MissingCompletely(0.3), v.MissingCompletely(0.5)])
    assert abs(mask.mean() - (1 - 0.7 * 0.5)) < 5 * np.sqrt(0.23 / mask.size)


def test_in_the_order_that_is_advised_the_variance_is_that_of_the_truth_on_average():
    wrong, B = [v.Autocorrelated(0.6), v.Heteroscedastic("x", np.exp)], 4000
    for order, kept in ((wrong, True), (wrong[::-1], False)):
        square = (drawn(order, B, NOISE).responses ** 2).mean(axis=0) / NOISE.sigma**2
        assert (abs(square.mean() - 1.0) < 5 * square.std() / np.sqrt(B)) == kept


BAD = {
    "df=2: t has a variance": lambda: v.StudentT(2),
    "skewness=0": lambda: v.Skewed(0),
    "share=1.5 must lie": lambda: v.Contaminated(1.5),
    "share=1 must lie": lambda: v.TwoClasses(1),
    "distance=inf must be": lambda: v.TwoClasses(0.5, np.inf),
    "ratio=-1 must be": lambda: v.Contaminated(0.5, -1),
    "rho=1 must lie": lambda: v.Autocorrelated(1),
    "spread=-1 must lie": lambda: v.UnequalVariances(-1),
    "rate=-0.1 must lie": lambda: v.MissingCompletely(-0.1),
    "rate=2 must lie": lambda: v.MissingAtRandom("x", 2),
    "rate=1 must lie": lambda: v.MissingNotAtRandom(1),
    "kept=0 must lie": lambda: v.InformativeSize(kept=0),
    "mean nan and standard": lambda: v.EffectsFrom(stats.cauchy()),
    "'t' is no distribution": lambda: v.ResidualsFrom("t"),
    "write Laplace()": lambda: v.EffectsFrom(v.Laplace),
    "'x' cannot be drawn": lambda: sampler("x", 3),
}


@pytest.mark.parametrize("message", BAD)
def test_impossible_violations(message):
    with pytest.raises(OptionError) as raised:
        BAD[message]()
    assert message in str(raised.value)


UNFIT = [
    (v.Heteroscedastic("z", np.exp), MissingColumnError, "no column 'z'"),
    (v.Nonlinear("kind", np.exp), NotNumericError, "'kind' holds no numbers"),
    (v.Nonlinear("x", np.log), OptionError, "not all finite"),
    (v.Nonlinear("x", lambda x: x[:2]), OptionError, r"shape \(2,\)"),
    (v.Heteroscedastic("x", lambda x: x), OptionError, "is negative"),
    (v.Heteroscedastic("x", lambda x: 0 * x), OptionError, "or 0 in all rows"),
    (v.CorrelatedEffects("x", {"x": 0.1}), OptionError, "varies within units"),
    (v.CorrelatedEffects("a", {"z": 0.1}), UnknownTermError, "no random effect 'z'"),
    (v.CorrelatedEffects("a", {"x": 0.9, "(Intercept)": -0.9}), OptionError, "eigenvalue of -"),
    (v.OmittedCovariate({"z": 0.1}), UnknownTermError, "it has (Intercept), x"),
    (v.InformativeSize("z"), UnknownTermError, "no random effect 'z'"),
    ("t", OptionError, "'t' is no violation"),
    ((v.EffectsFrom(v.Laplace()),) * 2, OptionError, "EffectsFrom is given twice"),
]


@pytest.mark.parametrize(("violation", "error", "message"), UNFIT, ids=named)
@pytest.mark.filterwarnings("ignore:(invalid value|divide by zero):RuntimeWarning")
def test_violations_that_do_not_fit_the_design(violation, error, message):
    violations = violation if isinstance(violation, tuple) else [violation]
    with pytest.raises(error, match=message.replace("(Intercept)", r"\(Intercept\)")):
        drawn(violations)


def test_columns_must_be_complete_and_vary():
    constant = DATA.assign(a=1.0)
    with pytest.raises(OptionError, match="same in all units"):
        drawn([v.CorrelatedEffects("a", {"x": 0.1})], data=constant)
    with pytest.raises(NonFiniteError, match="'a' has missing"):
        drawn([v.Nonlinear("a", np.exp)], data=DATA.assign(a=np.nan))
    with pytest.raises(OptionError, match="no variance to be informed by"):
        drawn([v.InformativeSize()], truth=NOISE)
