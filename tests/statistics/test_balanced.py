"""Balanced designs against their closed form, and the joining of equal groups it rests on."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
import tolerances as tol
from cases import FORMULA, article_like
from jaxhlm import reference
from jaxhlm.errors import SingularFitWarning
from jaxhlm.estimation.pipeline import Prepared
from jaxhlm.likelihood.covariance import theta_index
from jaxhlm.likelihood.lane_derivatives import lane_derivatives
from jaxhlm.optimise.options import Options
from jaxhlm.statistics.balanced import _eigen, balanced_minimum, completed
from jaxhlm.statistics.equal_groups import EqualGroups
from oracles import balanced_fit

every_method = pytest.mark.parametrize("reml", [True, False])


def article_frame(seed, between=1.0):
    """Y (G, m), Z (m, 2), A (G, 2) and the same as a frame, of the article's design."""
    Y, Z, A = article_like(seed, between)
    G, m = Y.shape
    unit = np.repeat(np.arange(G), m)
    data = pd.DataFrame({"y": Y.ravel(), "x": np.tile(Z[:, 1], G), "a": A[unit, 1], "unit": unit})
    return Y, Z, A, data


@every_method
@pytest.mark.parametrize(
    ("seed", "between", "rank"), [(0, 1.0, 2), (3, 0.2, 2), (1, 1.0, 1), (0, 0.0, 1), (1, 0.0, 0)]
)
@pytest.mark.filterwarnings("ignore::jaxhlm.errors.SingularFitWarning")
def test_equals_the_closed_form(seed, between, rank, reml):
    Y, Z, A, data = article_frame(seed, between)
    closed, fit = balanced_fit(Y, Z, A, reml), hlm.fit(FORMULA, data, reml)
    assert np.linalg.matrix_rank(closed.cov, tol=1e-10) == rank
    assert fit.singular == (rank < 2)
    np.testing.assert_allclose(fit.criterion, closed.criterion, atol=tol.CRITERION)
    np.testing.assert_allclose(fit.fixef, closed.beta, rtol=tol.ESTIMATE)
    np.testing.assert_allclose(fit.sigma, closed.sigma, rtol=tol.ESTIMATE)
    scale = max(np.abs(closed.cov).max(), closed.sigma**2)
    np.testing.assert_allclose(fit.varcorr.cov, closed.cov, atol=tol.ESTIMATE * scale)
    # The closed form is the minimum: it has only to be evaluated.
    assert fit.iterations == 1


@every_method
def test_many_responses_on_a_balanced_design(reml):
    _, Z, A, data = article_frame(0)
    parts = [article_frame(seed, between)[0] for seed in range(20) for between in (0.0, 0.2, 1.0)]
    # Units differ between the parts in a only, which the response takes from A of its own seed.
    responses = np.stack([part.ravel() for part in parts], axis=1)
    fits = hlm.fit_many(FORMULA, data, responses, reml=reml)
    closed = [balanced_fit(part, Z, A, reml) for part in parts]
    np.testing.assert_allclose(fits.criterion, [c.criterion for c in closed], atol=tol.CRITERION)
    np.testing.assert_allclose(fits.sigma, [c.sigma for c in closed], rtol=tol.ESTIMATE)
    scale = np.array([np.abs(c.cov).max() + c.sigma**2 for c in closed])[:, None, None]
    difference = (fits.varcorr.cov - [c.cov for c in closed]) / scale
    np.testing.assert_allclose(difference, 0.0, atol=tol.ESTIMATE)
    singular = [np.linalg.matrix_rank(c.cov, tol=1e-10) < 2 for c in closed]
    assert fits.singular.tolist() == singular
    assert 10 < sum(singular) < 50


@every_method
@pytest.mark.parametrize("extra", [0, 3])
def test_collapsing_leaves_the_criterion_alone(rng, extra, reml):
    """At any θ, with all groups alike or with some that are not."""
    data = article_frame(3)[-1].iloc[extra:]
    prepared = Prepared(hlm.design(FORMULA, data))
    stats = prepared.reduce_responses(rng.normal(size=(len(data), 4))).stats
    equal = EqualGroups.of(stats, z_spans_x=True)
    assert equal.balanced == (extra == 0)
    fewer = equal.join(stats, *equal.split(stats.Ty))
    assert len(fewer.m) == len(equal.rest) + 4 < len(stats.m)
    assert fewer.m.sum() == stats.m.sum()
    for blocks in [((0, 1),), ((0,), (1,))]:
        theta = rng.normal(size=(len(theta_index(blocks)), 4))
        found, plain = (lane_derivatives(theta, s, reml, blocks) for s in (fewer, stats))
        np.testing.assert_allclose(found.profile.value, plain.profile.value, rtol=tol.DEVIANCE)
        scale = np.abs(plain.hess).max()
        np.testing.assert_allclose(found.hess, plain.hess, atol=tol.DERIVATIVE * scale)


def test_designs_that_do_not_collapse():
    ragged = hlm.load_dataset("math_achieve").head(500)
    assert Prepared(hlm.design("~ SES + (1 + SES | School)", ragged)).equal.classes == ()
    *_, data = article_frame(3)
    data["v"] = np.random.default_rng(0).normal(size=len(data))
    assert not Prepared(hlm.design("~ x + v + (1 + x | unit)", data)).equal.balanced


def test_the_closed_form_is_for_one_full_block_only():
    *_, data = article_frame(3)
    prepared = Prepared(hlm.design("~ x * a + (1 + x || unit)", data))
    stats = prepared.reduce_responses(data[["y"]].to_numpy()).stats
    _, grams = prepared.equal.split(stats.Ty)
    options = Options(True, ((0,), (1,)))
    assert balanced_minimum(stats, prepared.equal, grams, options) is None
    fit = hlm.fit("y ~ x * a + (1 + x || unit)", data)
    d = fit.design
    best = reference.fit(d.y, d.X, d.Z, d.group, blocks=d.blocks)
    np.testing.assert_allclose(fit.criterion, best.criterion, atol=tol.CRITERION)


def balanced_lanes(rng, columns, reml, B=30):
    """Statistics of lanes that lie on the boundary, or far from it, and what was found of them."""
    m, G = 9, 14
    Z = rng.normal(size=(m, columns))
    frame = pd.DataFrame(np.tile(Z, (G, 1)), columns=[f"x{j}" for j in range(columns)])
    frame["unit"], frame["a"] = np.repeat(np.arange(G), m), np.repeat(rng.normal(size=G), m)
    names = " + ".join(frame.columns[:columns])
    design = hlm.design(f"~ 0 + ({names}) + a:({names}) + (0 + {names} | unit)", frame)
    effects = rng.normal(size=(G, columns, B)) * np.geomspace(1e-3, 30.0, B)
    Y = np.einsum("mc,gcb->gmb", Z, effects).reshape(G * m, B) + rng.normal(size=(G * m, B))
    options, reduced = Options(reml, design.blocks), Prepared(design).reduced(Y)
    return reduced.standardised.stats, reduced.minimum(options), options


@every_method
@pytest.mark.parametrize("columns", [1, 2, 3])
def test_the_closed_form_is_where_the_criterion_is_least(rng, columns, reml):
    """All that it says holds there, and the conditions of a minimum, on the boundary too."""
    stats, found, options = balanced_lanes(rng, columns, reml)
    zero = (found.theta == 0.0).any(axis=0)
    assert 3 < zero.sum() < len(zero) - 3
    at = lane_derivatives(found.theta, stats, reml, options.blocks)
    for name in ("value", "beta", "pwrss", "L_A"):
        expected = getattr(at.profile, name)
        scale = max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(getattr(found, name), expected, atol=tol.DERIVATIVE * scale)
    at_minimum = found.converged
    assert at_minimum.mean() > 0.9
    np.testing.assert_allclose(at.grad[:, at_minimum], 0.0, atol=tol.ESTIMATE)
    slopes = np.linalg.eigvalsh(np.moveaxis(at.F, -1, 0))[at_minimum]
    assert slopes.min() > -tol.ESTIMATE
    assert (slopes[:, -1] > tol.ESTIMATE)[zero[at_minimum]].all()


def test_where_it_is_not_known_to_be_the_minimum_it_is_searched_for(rng):
    stats, found, options = balanced_lanes(rng, 2, True)
    unsure = np.arange(30) % 3 == 0
    moved = replace(found, theta=found.theta * (1 + 0.2 * unsure), converged=~unsure)
    again = completed(moved, stats, options)
    assert again.converged.all()
    np.testing.assert_allclose(again.value, found.value, atol=tol.CRITERION)


def test_dyestuff2_is_singular():
    """No variance between batches at all: the classic."""
    batch = np.repeat(np.arange(6), 5)
    rng = np.random.default_rng(1)
    y = rng.normal(size=30)
    y -= 0.9 * (np.bincount(batch, y) / 5)[batch]
    with pytest.warns(SingularFitWarning):
        fit = hlm.fit("y ~ 1 + (1 | batch)", pd.DataFrame({"y": y, "batch": batch}))
    np.testing.assert_allclose(fit.sigma, np.std(y, ddof=1), rtol=tol.SUMMED)
    assert fit.varcorr.cov.iloc[0, 0] == 0.0


def test_eigenvectors_of_two_by_two_matrices_in_every_direction():
    angle = np.linspace(-np.pi, np.pi, 61)
    half, off = np.r_[np.cos(angle), 0.0, 0.0, -0.0], np.r_[np.sin(angle), 0.0, -0.0, 0.0]
    matrices = 2.0 * np.eye(2) + np.array([[half, off], [off, -half]]).T
    values, vectors = _eigen(matrices)
    near = {"rtol": 0.0, "atol": tol.ROUNDED}
    again = (vectors * values[:, None, :]) @ vectors.mT
    np.testing.assert_allclose(again, matrices, **near)
    np.testing.assert_allclose(vectors.mT @ vectors, np.tile(np.eye(2), (64, 1, 1)), **near)
    assert (values[:, 0] <= values[:, 1]).all()
