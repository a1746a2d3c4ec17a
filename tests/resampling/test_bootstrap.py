"""The four bootstraps of a fit: their draws, their fits, their tables and their files."""

from functools import cache

import jax
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import jaxhlm as hlm
import tolerances as tol
from cases import FORMULA, SIZES, article, frame, sleepstudy
from jaxhlm import errors
from jaxhlm.core import chunks
from jaxhlm.inference.parameters import parameter_values
from jaxhlm.resampling.intervals import acceleration

METHODS = ("parametric", "residual", "cases", "wild")
ROWS = METHODS[1:]  # those whose replicates can be looked at as rows
FEW = 30  # few enough to be fitted without compiling
MANY = 500


@cache
def boot(method="parametric", n=MANY):
    return hlm.bootstrap(sleepstudy(), n, method, seed=1)


def weighted():
    data = frame(np.random.default_rng(4), SIZES * 3)
    weights = np.linspace(0.2, 3.0, len(data))
    return hlm.fit(FORMULA, data, weights=weights)


# Draws.


def test_parametric_is_a_simulation_from_the_fit():
    fits = hlm.simulate(sleepstudy(), n=FEW, seed=3).fit()
    found = hlm.bootstrap(sleepstudy(), FEW, seed=3).fits
    np.testing.assert_array_equal(found.fixef, fits.fixef)
    np.testing.assert_array_equal(found.criterion, fits.criterion)


def test_parametric_standard_errors_are_the_models():
    """On a balanced design Var β̂ is what the model says, so the bootstrap's SD estimates it."""
    found, fit = boot().summary(), sleepstudy()
    error = found["std_error"].iloc[:2] / fit.se - 1
    assert error.abs().max() < 4 / np.sqrt(2 * MANY)
    assert (found["bias"].iloc[:2] / fit.se).abs().max() < 4 / np.sqrt(MANY)


@pytest.mark.slow
def test_parametric_with_weights():
    """Drawn as statistics or as weighted rows, all parameters have one distribution."""
    data = weighted().design
    data = pd.DataFrame({"y": data.y, "x": data.X[:, 1], "unit": data.group, "w": data.weights})
    fit = hlm.fit("y ~ x + (1 | unit)", data, weights="w")
    drawn = hlm.bootstrap(fit, MANY, seed=1).replicates
    fits = hlm.simulate(fit, n=MANY, seed=2, statistics=False).fit()
    rows = pd.DataFrame(parameter_values(fits.model, fits.estimates), columns=drawn.columns)
    for name in drawn:
        assert stats.ks_2samp(drawn[name].dropna(), rows[name].dropna()).pvalue > 1e-4, name


@pytest.mark.parametrize("method", ROWS)
@pytest.mark.parametrize("problem", [sleepstudy, weighted], ids=lambda f: f.__name__)
def test_a_replicate_is_the_fit_of_its_rows(method, problem):
    fit = problem()
    fits = hlm.bootstrap(fit, FEW, method, seed=2).fits
    for i in (0, 7, 29):
        one = fits[i]
        again = one.refit(one.design.y)
        assert again.criterion == pytest.approx(fits.criterion.iloc[i], abs=tol.CRITERION)
        np.testing.assert_allclose(again.fixef, fits.fixef.iloc[i], rtol=tol.RESAMPLED)
        assert (one.nobs, one.ngroups) == (fits.nobs[i], fits.ngroups[i])


@pytest.mark.parametrize("problem", [sleepstudy, weighted], ids=lambda f: f.__name__)
def test_residual_rows_are_resampled_parts(problem):
    """Every row is Xβ̂ + Zb*_j + e*_k/√w with b* of its unit and some residual."""
    fit = problem()
    source = hlm.bootstrap(fit, FEW, "residual", seed=2).fits.source
    d, Y = fit.design, source.rows(slice(0, 3))
    root_w = 1.0 if d.weights is None else np.sqrt(d.weights)
    for y in Y.T:
        marginal = y - d.X @ fit.fixef.to_numpy()
        for g in (0, 5):
            mine = d.group == g
            candidates = marginal[mine] - source.effects @ d.Z[mine].T
            e = candidates * (root_w if d.weights is None else root_w[mine])
            gap = np.abs(e[:, :, None] - source.residuals).min(axis=2).max(axis=1)
            assert gap.min() < tol.MOMENTS * np.abs(y).max()


def test_residual_draws_are_uniform():
    """Every unit and every row is drawn about equally often, independently of its place."""
    source = hlm.bootstrap(sleepstudy(), FEW, "residual", seed=2).fits.source
    source = type(source)(
        source.prepared, 4000, source.key, source.beta, source.effects, source.residuals
    )
    Y = source.rows(slice(0, 4000)) - (sleepstudy().design.X @ source.beta)[:, None]
    d = sleepstudy().design
    mine = d.group == 3
    V = d.Z[mine] @ sleepstudy().varcorr.cov.to_numpy() @ d.Z[mine].T
    V += sleepstudy().sigma ** 2 * np.eye(mine.sum())
    variances = np.diag(V)
    assert (np.abs(Y[mine].mean(axis=1)) < 5 * np.sqrt(variances / 4000)).all()
    # The resampled values are not Gaussian: 10 standard errors of the Gaussian case.
    error = np.sqrt((np.outer(variances, variances) + V**2) / 4000)
    assert (np.abs(np.cov(Y[mine]) - V) < 10 * error).all()


@pytest.mark.parametrize("leverage", ["none", "hc2", "hc3"])
def test_wild_rows_are_multiplied_residuals(leverage):
    """v_i v_i' ṽ_i ṽ_i', with h from the definition of the hat matrix."""
    fit = weighted()
    wild = hlm.bootstrap(fit, FEW, "wild", seed=2, weights="mammen", leverage=leverage).fits.source
    d, v = fit.design, wild.factors(slice(0, FEW))
    W = np.diag(d.weights)
    hat = np.sqrt(W) @ d.X @ np.linalg.solve(d.X.T @ W @ d.X, d.X.T @ np.sqrt(W))
    power = {"none": 0.0, "hc2": 0.5, "hc3": 1.0}[leverage]
    adjusted = (d.y - d.X @ fit.fixef.to_numpy()) / (1 - np.diag(hat)) ** power
    marginal = wild.rows(slice(0, FEW)) - (d.X @ fit.fixef.to_numpy())[:, None]
    for i in (0, 11):
        for g in (0, 9):
            mine = d.group == g
            product = np.outer(marginal[mine, i], marginal[mine, i])
            expected = v[g, i] ** 2 * np.outer(adjusted[mine], adjusted[mine])
            np.testing.assert_allclose(product, expected, rtol=tol.RESAMPLED)


def test_a_row_of_full_leverage_has_no_residual():
    data = frame(np.random.default_rng(4), (6,) * 8)
    data["one"] = (np.arange(len(data)) == 17).astype(float)
    fit = hlm.fit("y ~ x + one + (1 | unit)", data)
    source = hlm.bootstrap(fit, FEW, "wild", seed=1).fits.source
    assert source.residuals[17] == 0.0
    assert np.isfinite(source.residuals).all()


@pytest.mark.parametrize(
    ("weights", "values", "third"),
    [
        ("rademacher", [-1, 1], 0.0),
        ("mammen", [(1 - np.sqrt(5)) / 2, (1 + np.sqrt(5)) / 2], 1.0),
        ("webb", np.sqrt([1.5, 1.0, 0.5, 0.5, 1.0, 1.5]) * [-1, -1, -1, 1, 1, 1], 0.0),
    ],
)
def test_wild_factors(weights, values, third):
    """Their values, and mean 0, variance 1 and third moment within five Monte-Carlo errors."""
    source = hlm.bootstrap(sleepstudy(), FEW, "wild", seed=1, weights=weights).fits.source
    v = source.factors(slice(0, 5000))
    np.testing.assert_allclose(np.unique(v), values, rtol=tol.MOMENTS)
    for power, expected in ((1, 0.0), (2, 1.0), (3, third)):
        error = (v**power).std() / np.sqrt(v.size) + tol.MOMENTS
        assert abs((v**power).mean() - expected) < 5 * error


def test_wild_variance_is_the_sandwich():
    """Var* β̂ of a balanced design is the cluster-robust CR0 matrix of the adjusted residuals."""
    fit, found = sleepstudy(), hlm.bootstrap(sleepstudy(), MANY, "wild", seed=5)
    d = fit.design
    r = found.fits.source.residuals
    scores = np.stack([d.X[d.group == g].T @ r[d.group == g] for g in range(d.G)])
    bread = np.linalg.inv(d.X.T @ d.X)
    se = np.sqrt(np.diag(bread @ scores.T @ scores @ bread))
    np.testing.assert_allclose(
        found.summary()["std_error"].iloc[:2], se, rtol=tol.MONTE_CARLO / np.sqrt(2 * MANY)
    )


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_whatever_the_chunks(method, monkeypatch):
    whole = hlm.bootstrap(sleepstudy(), FEW, method, seed=9).replicates
    key = hlm.bootstrap(sleepstudy(), FEW, method, seed=jax.random.key(9)).replicates
    monkeypatch.setattr(chunks, "MAX_LANES", 7)
    parts = hlm.bootstrap(sleepstudy(), FEW, method, seed=9).replicates
    more = hlm.bootstrap(sleepstudy(), FEW + 5, method, seed=9).replicates
    for other in (key, parts, more.iloc[:FEW]):
        np.testing.assert_allclose(other, whole, rtol=tol.RESAMPLED)
    again = hlm.bootstrap(sleepstudy(), FEW, method, seed=10).replicates
    assert (again["Days"] != whole["Days"]).all()


def test_a_seed_of_none_can_be_repeated():
    first = hlm.bootstrap(sleepstudy(), 5)
    assert isinstance(first.seed, int)
    again = hlm.bootstrap(sleepstudy(), 5, seed=first.seed)
    np.testing.assert_array_equal(first.replicates, again.replicates)
    split = jax.random.split(jax.random.key(1))[0]
    first = hlm.bootstrap(sleepstudy(), 5, seed=split)
    again = hlm.bootstrap(sleepstudy(), 5, seed=first.seed)
    np.testing.assert_array_equal(first.replicates, again.replicates)


@pytest.mark.parametrize("method", METHODS)
def test_inference_runs_over_the_replicates(method):
    """Statistics are drawn again for whatever lanes are asked for."""
    fits = hlm.bootstrap(sleepstudy(), FEW, method, seed=3).fits

    def yy(estimates, standardised):
        return (np.column_stack([estimates.sigma, standardised.scaling.s]),)

    (all_of_them,) = fits.over_lanes(yy)
    (some,) = fits[[20, 3, 4, 11]].over_lanes(yy)
    np.testing.assert_allclose(some, all_of_them[[20, 3, 4, 11]], rtol=tol.PRODUCTS)


def test_new_rows_belong_to_the_resampled_units_whatever_their_labels():
    d = hlm.load_dataset("sleepstudy")
    found = []
    for kind in (str, int):
        data = d.assign(Subject=d["Subject"].astype(str).astype(kind))
        fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", data)
        fits, new = hlm.bootstrap(fit, 20, "cases", seed=1).fits, data.iloc[[0, 9, 170]]
        all_at_once = fits.predict(new).to_numpy().reshape(20, 3)
        own = fits[7].ranef
        for row, subject, day in zip(all_at_once[7], new["Subject"], new["Days"], strict=True):
            drawn = str(subject) in own.index
            line = fits[7].fixef + (own.loc[str(subject)].to_numpy() if drawn else 0.0)
            np.testing.assert_allclose(row, line["(Intercept)"] + line["Days"] * day)
        np.testing.assert_allclose(fits[7].predict(new), all_at_once[7])
        found.append(all_at_once)
    np.testing.assert_array_equal(*found)


# Tables.


def test_summary_by_hand():
    found = boot().summary()
    values = np.column_stack(
        [
            boot().fits.fixef,
            boot().fits.varcorr.sd,
            boot().fits.varcorr.corr[:, 1, 0],
            boot().fits.sigma,
        ]
    )
    assert found.index.tolist() == [
        "(Intercept)", "Days", "sd__(Intercept)", "sd__Days", "cor__(Intercept).Days", "sigma",
    ]  # fmt: skip
    defined = ~np.isnan(values)
    assert found["used"].tolist() == defined.sum(axis=0).tolist()
    np.testing.assert_allclose(found["original"].iloc[-1], sleepstudy().sigma)
    bias = np.nanmean(values, axis=0) - found["original"]
    np.testing.assert_allclose(found["bias"], bias, atol=tol.RESAMPLED)
    np.testing.assert_allclose(found["std_error"], np.nanstd(values, axis=0, ddof=1))


def test_tidy_is_long():
    found = boot("cases", FEW).tidy()
    assert found.columns.tolist() == ["replicate", "term", "estimate"]
    wide = found.pivot(index="replicate", columns="term", values="estimate")
    np.testing.assert_array_equal(wide["sigma"], boot("cases", FEW).fits.sigma)


def test_intervals_of_each_kind():
    values = boot().replicates["Days"].to_numpy()
    estimate, (low, high) = sleepstudy().fixef["Days"], np.quantile(values, [0.05, 0.95])
    found = boot().confint("percentile", 0.9)
    assert found.columns.tolist() == ["5 %", "95 %"]
    np.testing.assert_allclose(found.loc["Days"], [low, high])
    np.testing.assert_allclose(
        boot().confint("basic", 0.9).loc["Days"], [2 * estimate - high, 2 * estimate - low]
    )
    half = stats.norm.ppf(0.95) * values.std(ddof=1)
    middle = 2 * estimate - values.mean()
    np.testing.assert_allclose(
        boot().confint("normal", 0.9).loc["Days"], [middle - half, middle + half]
    )


def test_bca_takes_its_acceleration_from_the_groups():
    """Against refits of the data without each subject, one by one."""
    fit, data = sleepstudy(), hlm.load_dataset("sleepstudy")
    left_out = [hlm.fit(fit.model.formula, data[data["Subject"] != s]) for s in fit.design.levels]
    values = np.vstack([parameter_values(f.model, f.estimates) for f in left_out])
    a = acceleration(values)
    np.testing.assert_allclose(boot().accelerations, a, rtol=tol.LEFT_OUT, atol=tol.CRITERION)
    j = boot().terms.index("sd__Days")
    replicates = boot().replicates["sd__Days"].to_numpy()
    w = stats.norm.ppf(np.mean(replicates < fit.varcorr.sd["Days"]))
    z = w + stats.norm.ppf([0.025, 0.975])
    share = stats.norm.cdf(w + z / (1 - a[j] * z))
    np.testing.assert_allclose(
        boot().confint("bca").loc["sd__Days"], np.quantile(replicates, share), rtol=tol.LEFT_OUT
    )


def test_confint_of_the_fit_is_the_parametric_bootstrap():
    fit = sleepstudy()
    for interval in ("percentile", "bca"):
        found = fit.confint("boot", 0.9, n=FEW, seed=4, interval=interval)
        expected = hlm.bootstrap(fit, FEW, seed=4).confint(interval, 0.9)
        # The names of lme4's confint, in its order.
        np.testing.assert_array_equal(found, expected.iloc[[2, 4, 3, 5, 0, 1]])
        assert found.index[1] == "cor_Days.(Intercept)|Subject"
    with pytest.raises(errors.OptionError, match="interval='exact'"):
        fit.confint("boot", interval="exact")


def test_wild_intervals_are_those_of_the_fixed_effects():
    found = hlm.bootstrap(sleepstudy(), FEW, "wild", seed=1)
    interval = found.confint()
    assert interval.iloc[:2].notna().all(axis=None)
    assert interval.iloc[2:].isna().all(axis=None)
    assert found.summary()["std_error"].iloc[2:].isna().all()
    assert "the wild" not in str(boot())
    assert "wild bootstrap is sound for the fixed effects" in str(found)


def test_a_wild_bootstrap_tells_nothing_of_a_variance_that_is_zero_either(rng):
    d = frame(rng, SIZES, sd=0.0)
    d["y"] -= d.groupby("unit")["y"].transform("mean")
    with pytest.warns(errors.SingularFitWarning):
        fit = hlm.fit("y ~ x + (1 | unit)", d)
    found = hlm.bootstrap(fit, FEW, "wild", seed=1)
    for method in ("percentile", "basic"):
        with pytest.warns(errors.DegenerateWarning, match="icc: no interval, for a wild"):
            told = found.confint_of("icc", method)
        assert told[["std_error", "2.5 %", "97.5 %"]].isna().all(axis=None)


@pytest.mark.slow
def test_coverage():
    """95 % percentile intervals of a slope cover it in 95 % of 100 data sets, within four errors.

    24 unbalanced units; the intercept's would be short of 95 % as z intervals are.
    """
    design = hlm.design("~ x + (1 | unit)", frame(np.random.default_rng(4), SIZES * 3))
    truth = hlm.Truth.of([1.0, 0.5], sd=[0.7], sigma=1.0)
    sets = hlm.simulate(design, truth, 100, seed=6, statistics=False).fit()
    covered = 0
    for i in range(100):
        interval = sets[i].confint("boot", n=199, seed=i).loc["x"]
        covered += bool(interval.iloc[0] < 0.5 < interval.iloc[1])
    error = np.sqrt(0.95 * 0.05 / 100)
    assert abs(covered / 100 - 0.95) < 4 * error


# What cannot be fitted, and what cannot be asked.


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.ConvergenceWarning")
def test_failed_replicates_are_counted():
    data = frame(np.random.default_rng(9), (4, 5, 3, 6, 5))
    data["a"] = (data["unit"] == 2).astype(float)
    found = hlm.bootstrap(hlm.fit("y ~ x + a + (1 | unit)", data), FEW, "cases", seed=1)
    failed = int((~found.fits.ok).sum())
    assert failed > 3
    assert f"failed: {failed}" in str(found)
    assert "rank deficient" in str(found)
    assert (found.summary()["used"] == FEW - failed).all()
    assert found.confint().notna().all(axis=None)


def test_singular_replicates_are_counted():
    found = hlm.bootstrap(article(), FEW, "residual", seed=1)
    singular = int(found.fits.singular.sum())
    assert singular > 2
    assert f"of these singular: {singular}" in str(found)


def test_a_singular_fit_is_resampled_on_its_boundary():
    data = hlm.load_dataset("sleepstudy")
    data["Reaction"] = 250 + 10 * data["Days"] + np.random.default_rng(1).normal(size=180)
    with pytest.warns(errors.SingularFitWarning):
        fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", data)
    found = hlm.bootstrap(fit, FEW, "residual", seed=1)
    b = found.fits.source.effects
    np.testing.assert_allclose(b.T @ b / 18, fit.varcorr.cov, atol=tol.MOMENTS)
    assert found.fits.ok.all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "jackknife"}, "method='jackknife'"),
        ({"method": "wild", "weights": "normal"}, "weights='normal'"),
        ({"method": "wild", "leverage": "hc1"}, "leverage='hc1'"),
        ({"n": 0}, "n=0"),
        ({"seed": "one"}, "seed='one'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(errors.OptionError, match=message):
        hlm.bootstrap(sleepstudy(), **options)
    with pytest.raises(errors.OptionError, match="level"):
        boot().confint(level=95)
    with pytest.raises(errors.OptionError, match="method='student'"):
        boot().confint("student")


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.ConvergenceWarning")
def test_a_failed_fit_cannot_be_bootstrapped():
    Y = np.column_stack([sleepstudy().design.y, np.full(180, 3.0)])
    fits = hlm.fit_many("~ Days + (1 | Subject)", hlm.load_dataset("sleepstudy"), Y)
    with pytest.raises(errors.ResamplingError, match="no estimates to start from"):
        hlm.bootstrap(fits[1], 5)


def test_statistics_have_no_rows():
    with pytest.raises(errors.JaxhlmError, match="statistics=False"):
        boot().fits[0]
    cases = boot("cases", FEW).fits.source
    with pytest.raises(errors.ResamplingError, match="differ in their rows"):
        cases.rows(slice(0, 2))


def test_a_refit_is_bootstrapped_with_its_own_response():
    y = sleepstudy().simulate(1, seed=8).iloc[:, 0]
    refit = sleepstudy().refit(y)
    data = hlm.load_dataset("sleepstudy").assign(Reaction=y)
    fresh = hlm.fit(refit.model.formula, data)
    for method in METHODS:
        a, b = (hlm.bootstrap(f, FEW, method, seed=1).replicates for f in (refit, fresh))
        np.testing.assert_allclose(a, b, rtol=tol.RESAMPLED)


# Files.


def test_parquet_round_trip(tmp_path):
    found = hlm.bootstrap(sleepstudy(), FEW, "wild", seed=7, weights="webb")
    found.to_parquet(tmp_path / "boot.parquet")
    again = hlm.Bootstrap.read_parquet(tmp_path / "boot.parquet")
    assert (again.method, again.wild, again.seed) == ("wild", ("webb", "hc2"), 7)
    assert str(again) == str(found)
    pd.testing.assert_frame_equal(again.tidy(), found.tidy())
    for kind in ("bca", "basic"):
        pd.testing.assert_frame_equal(again.confint(kind), found.confint(kind))
    fits = hlm.FitBatch.read_parquet(tmp_path / "boot.parquet")
    np.testing.assert_array_equal(fits.criterion, found.fits.criterion)


def test_a_file_of_fits_is_no_bootstrap(tmp_path):
    boot("cases", FEW).fits.to_parquet(tmp_path / "fits.parquet")
    with pytest.raises(errors.JaxhlmError, match="no bootstrap"):
        hlm.Bootstrap.read_parquet(tmp_path / "fits.parquet")
