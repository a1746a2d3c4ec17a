"""Resampled groups as re-weighted statistics equal the rows that they stand for."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
import tolerances as tol
from cases import FORMULA, SIZES, frame
from jaxhlm import reference
from jaxhlm.core.status import Status
from jaxhlm.core.streams import random_key
from jaxhlm.design.design import build_design
from jaxhlm.estimation.pipeline import Prepared, fit_lanes
from jaxhlm.likelihood.covariance import lambda_of
from jaxhlm.likelihood.lane_derivatives import mappable
from jaxhlm.resampling.cases import Cases
from jaxhlm.statistics.groupstats import group_stats, least_squares_residual, multiplied, reweighted
from oracles import oracle

LANES = 30  # few enough to be fitted without compiling


def cases_of(fit, n=LANES, seed=5):
    return Cases(fit.prepared, n, random_key(seed), fit.design.y)


def resampled(data, group, chosen):
    """The rows of drawn groups below each other, every copy a group of its own."""
    levels = np.unique(data[group])
    parts = [
        data[data[group] == levels[g]].assign(**{group: copy, "lane": lane})
        for lane, row in enumerate(chosen)
        for copy, g in enumerate(row)
    ]
    return pd.concat(parts, ignore_index=True)


def assert_equal(found, fits):
    """Estimates of a batch, against those of the same data sets as rows."""
    np.testing.assert_array_equal(found.estimates.status, fits.status)
    ok, e = fits.ok, fits.estimates
    assert ok.sum() > 0.4 * len(ok)
    criterion = np.abs(found.estimates.criterion[ok] - e.criterion[ok])
    assert criterion.max() < tol.CRITERION
    for name in ("beta", "sigma", "cov", "vcov"):
        a, b = getattr(found.estimates, name)[ok], getattr(e, name)[ok]
        assert np.abs(a - b).max() < tol.RESAMPLED * np.abs(b).max(), name
    np.testing.assert_array_equal(found.nobs, fits.nobs)
    np.testing.assert_array_equal(found.ngroups, fits.ngroups)


def sleepstudy():
    data = hlm.load_dataset("sleepstudy")
    return "Reaction ~ Days + (1 + Days | Subject)", data, "Subject", None


def cut_short():
    """29 groups that are joined and one that is not."""
    return FORMULA, hlm.load_dataset("article").iloc[7:], "unit", None


def unbalanced():
    return FORMULA, frame(np.random.default_rng(3), SIZES * 3), "unit", None


def weighted():
    data = frame(np.random.default_rng(4), SIZES * 3)
    return "y ~ x + (1 + x || unit)", data.assign(w=np.linspace(0.2, 3, len(data))), "unit", "w"


def far_from_zero():
    """Columns in wild units."""
    data = frame(np.random.default_rng(6), (6,) * 12)
    data = data.assign(x=1e5 + 3 * data["x"], y=1e-4 * data["y"])
    return "y ~ x + (1 | unit)", data, "unit", None


def two_classes():
    """Groups of four rows and groups of five, which have next to no effects or noise."""
    rng, sizes = np.random.default_rng(8), np.repeat([4, 5], 12)
    unit = np.repeat(np.arange(24), sizes)
    loud = np.where(np.arange(24) < 12, 1.0, 1e-2)[:, None] * rng.normal(size=(24, 2))
    x, a = np.concatenate([np.arange(k) for k in sizes]), rng.normal(size=24)[unit]
    noise = np.where(unit < 12, 1.0, 1e-2) * rng.normal(size=len(unit))
    y = 1.0 + 0.5 * x + 0.2 * a + loud[unit, 0] + loud[unit, 1] * x + noise
    return FORMULA, pd.DataFrame({"y": y, "x": x, "a": a, "unit": unit}), "unit", None


@pytest.mark.slow
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(
    "problem",
    [sleepstudy, cut_short, unbalanced, weighted, far_from_zero, two_classes],
    ids=lambda f: f.__name__,
)
def test_cases_equal_the_resampled_rows(problem, reml):
    formula, data, group, weights = problem()
    fit = hlm.fit(formula, data, reml, weights)
    cases = cases_of(fit)
    rows = resampled(data, group, cases.choices(slice(0, LANES)))
    fits = hlm.fit_many(formula, rows, by="lane", reml=reml, weights=weights)
    assert_equal(fit_lanes(cases, fit.options), fits)


def test_criterion_of_many_columns(rng):
    """p = 9 takes the dense dialect: the criterion at one Λ, against its definition on the rows."""
    data = frame(rng, (7,) * 15)
    names = [f"c{j}" for j in range(6)]
    data = data.assign(**{name: rng.normal(size=len(data)) for name in names})
    prepared = Prepared(build_design(f"y ~ x + a + {' + '.join(names)} + (1 + x | unit)", data))
    cases = Cases(prepared, 3, random_key(1), prepared.design.y)
    stats, scaling, _ = cases.draw(slice(0, 3)).standardised
    squares = (stats.Ty**2).sum(axis=(0, 1)) + stats.yy
    np.testing.assert_allclose(squares, stats.n, rtol=tol.PRODUCTS)
    mapped, axes = mappable(stats)
    assert set(axes) == {-1}
    theta, deviance = np.array([0.8, -0.3, 0.5]), oracle(hlm.deviance)
    Lambda = lambda_of(theta[:, None], ((0, 1),))[0]
    for i in range(3):
        d = cases.lane(i)
        one = jax.tree.map(lambda x, i=i: x[..., i], mapped)
        with jax.enable_x64(True):
            value = float(deviance(theta, jax.tree.map(jnp.asarray, one)))
        value += 2 * (d.n - d.p) * np.log(scaling.s[i])
        value -= 2 * np.log(np.abs(np.linalg.det(scaling.T[..., i])))
        # Λ on the scale of the user's Z; the reference factors any root of D.
        root = scaling.C[..., i] @ Lambda
        expected = reference.criterion_by_group(root, d.y, d.X, d.Z, d.group, reml=True)
        np.testing.assert_allclose(value, expected, rtol=tol.DEVIANCE)


@pytest.mark.filterwarnings(
    "ignore::jaxhlm.errors.ConvergenceWarning", "ignore::jaxhlm.errors.RankDeficientWarning"
)
def test_resamples_without_a_level_of_a_factor():
    """A resample that says nothing about a coefficient is none; data with these rows lack it."""
    data = frame(np.random.default_rng(9), (4, 5, 3, 6, 5))
    data["a"] = (data["unit"] == 2).astype(float)
    formula = "y ~ x + a + (1 | unit)"
    fit = hlm.fit(formula, data)
    cases = cases_of(fit)
    rows = resampled(data, "unit", cases.choices(slice(0, LANES)))
    fits = hlm.fit_many(formula, rows, by="lane")
    lacking = fits.fixef["a"].isna().to_numpy()
    found = fit_lanes(cases, fit.options).estimates
    assert lacking.sum() >= 5
    np.testing.assert_array_equal(found.status == Status.RANK_DEFICIENT, lacking)
    there = np.flatnonzero(~lacking)
    np.testing.assert_allclose(
        found.criterion[there], fits.criterion.iloc[there], atol=tol.CRITERION
    )


def test_groups_drawn_once_give_the_fit_back(monkeypatch):
    """Weights of one."""
    formula, data, _, _ = unbalanced()
    fit = hlm.fit(formula, data)
    monkeypatch.setattr(Cases, "counts", lambda self, lane_slice: np.ones((fit.ngroups, 1)))
    found = fit_lanes(cases_of(fit, 1), fit.options).estimates
    np.testing.assert_allclose(found.criterion, fit.criterion, atol=tol.CRITERION)
    np.testing.assert_allclose(found.theta[0], fit.theta, rtol=tol.RESAMPLED)


@pytest.mark.parametrize("problem", [cut_short, two_classes], ids=lambda f: f.__name__)
def test_classes_of_groups_drawn_once_are_rotated_as_the_groups_are(problem):
    """What the closed form starts from."""
    fit = hlm.fit(*problem()[:2])
    p, groups = fit.prepared, cases_of(fit, 1).groups
    standardised, grams = reweighted(
        p.matrices, groups, p.equal, np.ones((fit.ngroups, 1)), p.design.blocks
    )
    rows, expected = p.equal.split(p.reduce_responses(fit.design.y[:, None]).stats.Ty)
    for one, other in zip(grams, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=tol.PRODUCTS, atol=tol.PRODUCTS)
    joined = p.equal.interleaved(rows, [np.zeros((p.design.q, p.design.q, 1)) for _ in grams])
    rotated = (joined != 0.0).any(axis=1)[:, 0]
    found = standardised.stats.Ty[rotated]
    np.testing.assert_allclose(found, joined[rotated], rtol=tol.PRODUCTS, atol=tol.PRODUCTS)


def test_what_is_rotated_away_is_on_the_scale_of_the_lane():
    """N = Σ t t' of a class is that of the q groups that stand for it."""
    fit = hlm.fit(*two_classes()[:2])
    p, cases = fit.prepared, cases_of(fit, 6)
    W = cases.counts(slice(0, 6))
    standardised, grams = reweighted(p.matrices, cases.groups, p.equal, W, p.design.blocks)
    at = len(p.equal.rest)
    for c, N in zip(p.equal.classes, grams, strict=True):
        t = standardised.stats.Ty[at + len(c.rotation) :][: p.design.q]
        np.testing.assert_allclose(N, np.einsum("jal,jbl->abl", t, t), rtol=tol.PRODUCTS)
        at += len(c.rotation) + p.design.q


def test_groups_multiplied_by_any_size(rng):
    """All factors times c are a residual of c times the size, and the same lane otherwise."""
    fit = hlm.fit(*cut_short()[:2])
    matrices, y = fit.prepared.matrices, fit.design.y[fit.prepared.order]
    groups, V = (
        group_stats(matrices, *least_squares_residual(matrices, y)),
        rng.normal(size=(30, 3)),
    )
    one = multiplied(matrices, groups, V)
    for size in (1e-12, 1e12):
        other = multiplied(matrices, groups, size * V)
        np.testing.assert_array_equal(other.status, one.status)
        np.testing.assert_allclose(other.scaling.s, size * one.scaling.s, rtol=tol.SMALL)
        np.testing.assert_allclose(other.stats.Ty, one.stats.Ty, rtol=tol.SMALL, atol=tol.SMALL)


@pytest.mark.parametrize("problem", [cut_short, weighted], ids=lambda f: f.__name__)
def test_multiplied_groups_equal_the_rows(problem, rng):
    """√w y = X̃ beta + v r by group, against the statistics of those rows."""
    formula, data, _, weights = problem()
    fit = hlm.fit(formula, data, weights=weights)
    matrices, order = fit.prepared.matrices, fit.prepared.order
    r, beta = least_squares_residual(matrices, fit.design.y[order])
    r = r + 0.3 * rng.normal(size=len(r))
    V = rng.normal(size=(fit.ngroups, 4))
    groups = group_stats(matrices, r, beta)
    found = multiplied(matrices, groups, V)
    whole = matrices.QX @ (beta * np.sqrt(matrices.n)) + r
    size = np.bincount(matrices.group_segments.of_row, whole**2)
    np.testing.assert_allclose(groups.size, size, rtol=tol.PRODUCTS)
    y = (matrices.QX @ (beta * np.sqrt(matrices.n)))[:, None] + r[:, None] * V[
        matrices.group_segments.of_row
    ]
    Y = np.empty_like(y)
    Y[order] = y if matrices.root_w is None else y / matrices.root_w
    expected = fit.prepared.reduce_responses(Y)
    for a, b in zip(found.scaling, expected.scaling, strict=True):
        np.testing.assert_allclose(a, b, rtol=tol.PRODUCTS, atol=tol.PRODUCTS)
    for name in ("Ty", "Xy", "yy"):
        a, b = getattr(found.stats, name), getattr(expected.stats, name)
        np.testing.assert_allclose(a, b, rtol=tol.PRODUCTS, atol=tol.PRODUCTS, err_msg=name)


def test_lanes_that_cannot_be_fitted_have_a_status(monkeypatch):
    """One group only, and no column of X left to tell apart: codes, beside an ordinary lane."""
    fit = hlm.fit(*sleepstudy()[:2])
    W = np.ones((18, 3))
    W[1:, 0] = 0.0
    monkeypatch.setattr(Cases, "counts", lambda self, lane_slice: W[:, lane_slice])
    found = fit_lanes(cases_of(fit, 3), fit.options).estimates
    assert found.status.tolist() == [Status.NOT_IDENTIFIED, Status.CONVERGED, Status.CONVERGED]
    assert np.isnan(found.beta[0]).all()
    np.testing.assert_allclose(found.criterion[1:], fit.criterion, atol=tol.CRITERION)


def counted(monkeypatch, fit, chosen):
    """Estimates of one lane of these groups."""
    monkeypatch.setattr(Cases, "counts", lambda self, _: np.asarray(chosen, float)[:, None])
    return fit_lanes(cases_of(fit, 1), fit.options).estimates


@pytest.mark.parametrize("unit", [1e-90, 1.0, 1e20])
def test_a_lane_of_quiet_groups_is_fitted_in_every_unit(monkeypatch, unit):
    """Groups with 1e-7 of the noise of the rest, drawn alone, are data as others are."""
    d = frame(np.random.default_rng(2), (5,) * 20, sd=1.0)
    quiet = (d["unit"] < 10).to_numpy()
    X = np.column_stack([np.ones(len(d)), d["x"]]) * ~quiet[:, None]
    noise = np.where(quiet, 1e-7, 1.0) * d["y"]
    d["y"] = unit * (1.0 + d["x"] + noise - X @ np.linalg.lstsq(X, noise, rcond=None)[0])
    fit = hlm.fit("y ~ x + (1 | unit)", d)
    found = counted(monkeypatch, fit, np.arange(20) < 10)
    alone = hlm.fit("y ~ x + (1 | unit)", d[quiet])
    assert found.status[0] == alone.status
    np.testing.assert_allclose(found.beta[0], alone.fixef, rtol=tol.RESAMPLED)
    np.testing.assert_allclose(found.sigma[0], alone.sigma, rtol=tol.RESAMPLED)
    np.testing.assert_allclose(found.criterion[0], alone.criterion, rtol=tol.RESAMPLED)


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.RankDeficientWarning")
@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_a_column_that_hardly_varies_in_a_lane(monkeypatch, unit):
    """1e4 but for two groups: dependent in the others alone where ``fit`` drops it there."""
    d = frame(np.random.default_rng(2), (5,) * 20, sd=1.0)
    for sd, deficient in ((1e-2, False), (1e-4, True)):
        d["z"] = unit * (1e4 + np.where(d["unit"] < 2, 1.0, sd) * d["x"])
        formula, rest = "y ~ z + (1 | unit)", np.arange(20) >= 2
        found = counted(monkeypatch, hlm.fit(formula, d), rest)
        alone = hlm.fit(formula, d[d["unit"] >= 2])
        assert (found.status[0] == Status.RANK_DEFICIENT) == deficient
        assert alone.fixef.index.tolist() == ["(Intercept)", "z"][: 2 - deficient]


def test_drawn_groups_keep_their_names(monkeypatch):
    fit = hlm.fit(*sleepstudy()[:2])
    monkeypatch.setattr(Cases, "choices", lambda self, lane_slice: np.array([[2, 0, 2] + [1] * 15]))
    d = cases_of(fit, 1).lane(0)
    a, b, c = map(str, fit.design.levels[:3])
    # The first of every group in their order, as new rows are looked up.
    assert d.levels[:6].tolist() == [a, b, c, f"{b}#2", f"{c}#2", f"{b}#3"]
    np.testing.assert_array_equal(d.y[20:30], fit.design.y[fit.design.group == 2])
