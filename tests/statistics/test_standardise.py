"""Rows to standardised statistics: nothing is lost, and units do not matter."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
import tolerances as tol
from cases import SIZES, rows
from jaxhlm import reference
from jaxhlm.core.status import Status
from jaxhlm.estimation.estimates import Estimates, restandardised
from jaxhlm.likelihood.covariance import lambda_of, theta_index
from jaxhlm.likelihood.lane_derivatives import lane_derivatives
from jaxhlm.linalg import small
from jaxhlm.statistics.response import reduce_responses
from jaxhlm.statistics.standardise import Rows, standardise_matrices
from oracles import stats_of

BLOCKS = [((0, 1),), ((0,), (1,))]


def reduced_rows(y, X, Z, group, weights=None, blocks=((0, 1),), lane=None):
    """Standardised lanes of rows sorted by lane and group; y is (n, B), or (n, 1) with lanes."""
    lane = np.zeros(len(group), int) if lane is None else lane
    segment = lane * (group.max() + 1) + group
    matrices = standardise_matrices(Rows(X, Z, segment, lane, weights, blocks))
    return matrices, reduce_responses(matrices, y)


@pytest.mark.parametrize("blocks", BLOCKS)
@pytest.mark.parametrize("weighted", [False, True])
def test_columns_are_on_a_common_scale(rng, blocks, weighted):
    y, X, Z, group = rows(rng, SIZES)
    w = rng.uniform(0.5, 2.0, len(y)) if weighted else None
    matrices, standardised = reduced_rows(y[:, None], X, Z, group, w, blocks)
    root = np.ones((len(y), 1)) if w is None else np.sqrt(w)[:, None]
    n, T, C = len(y), matrices.T[..., 0], matrices.C[..., 0]
    np.testing.assert_allclose(matrices.QX.T @ matrices.QX, np.eye(4), atol=tol.ROUNDED)
    np.testing.assert_allclose(root * X @ T, np.sqrt(n) * matrices.QX, atol=tol.SUMMED)
    gram = (root * Z @ C).T @ (root * Z @ C) / n
    for block in blocks:
        np.testing.assert_allclose(
            gram[np.ix_(block, block)], np.eye(len(block)), atol=tol.REORDERED
        )
    if len(blocks) > 1:
        assert C[0, 1] == C[1, 0] == 0.0
    stats = standardised.stats
    size = stats.yy[0] + (stats.Ty**2).sum()
    np.testing.assert_allclose(size, n, rtol=tol.REORDERED)
    orthogonal = stats.Xy[:, 0] + np.einsum("gqpl,gql->p", stats.TX, stats.Ty)
    np.testing.assert_allclose(orthogonal, 0.0, atol=tol.SUMMED)


@pytest.mark.parametrize("blocks", BLOCKS)
@pytest.mark.parametrize("reml", [True, False])
def test_the_criterion_changes_by_a_constant_only(rng, blocks, reml):
    """d(θ) of the rows = d̃(θ̃) + 2ν log s − 2 log|det T| [REML], with D = C D̃ C'."""
    y, X, Z, group = rows(rng, SIZES)
    w = rng.uniform(0.5, 2.0, len(y))
    _, standardised = reduced_rows(y[:, None], X, Z, group, w, blocks)
    theta = rng.normal(size=(len(theta_index(blocks)), 1))
    at = lane_derivatives(theta, standardised.stats, reml, blocks).profile
    scaling = standardised.scaling
    C, T, s = scaling.C[..., 0], scaling.T[..., 0], scaling.s[0]
    expected = reference.criterion(C @ lambda_of(theta, blocks)[0], y, X, Z, group, reml, w)
    found = at.value[0] + 2 * (len(y) - 4 * reml) * np.log(s)
    found -= 2 * reml * np.linalg.slogdet(T)[1]
    np.testing.assert_allclose(found, expected, rtol=tol.DEVIANCE)


@pytest.mark.parametrize("ratio", [1e-6, 1e2, 1e4, 1e6])
def test_random_effects_of_any_size(rng, ratio):
    """No digits cancel when the random effects dwarf the residuals: checked in long double."""
    y, X, Z, group = rows(rng, (4, 1, 3, 2, 6), 2, 3)
    _, standardised = reduced_rows(y[:, None], X, Z, group)
    theta = ratio * np.array([[1.0], [0.3], [0.8]])
    stats, C = standardised.stats, standardised.scaling.C[..., 0]
    at = lane_derivatives(theta, stats, True, ((0, 1),)).profile
    found = at.value[0] + 2 * (len(y) - 3) * np.log(standardised.scaling.s[0])
    found -= 2 * np.linalg.slogdet(standardised.scaling.T[..., 0])[1]
    root = C @ lambda_of(theta, ((0, 1),))[0]
    np.testing.assert_allclose(found, long_criterion(root, y, X, Z, group), atol=tol.LONG)


def long_criterion(Lambda, y, X, Z, group):
    """``reference.criterion`` by REML in long double, with the matrices spelled out."""
    exact = [np.asarray(a, np.longdouble) for a in (Z @ Lambda, X, y)]
    RL, X, y = (a.astype(object) for a in exact)
    n, p = X.shape
    V = np.where(group[:, None] == group, small.matmul(RL, RL.T), np.longdouble(0.0))
    L = small.cholesky(small.eye_plus(V.astype(object)))
    white_X, white_y = small.solve_lower(L, X), small.solve_lower(L, y)
    L_A = small.cholesky(white_X.T @ white_X)
    z = small.solve_lower(L_A, white_X.T @ white_y)
    nu, pwrss = n - p, white_y @ white_y - z @ z
    log_det = 2 * sum(np.log(M[j, j]) for M in (L, L_A) for j in range(len(M)))
    return float(log_det + nu * (1 + np.log(2 * np.pi * pwrss / nu)))


@pytest.mark.parametrize("reml", [True, False])
def test_wild_units_give_the_same_digits(rng, reml):
    """x around 1e5, y around 1e-4 with a large mean: nothing in θ̃ moves."""
    y, X, Z, group = rows(rng, SIZES, 2, 3)
    shift = np.array([[1.0, 1e5], [0.0, 3.0]])
    shift_X = np.eye(3)
    shift_X[:2, :2] = shift
    _, plain = reduced_rows(y[:, None], X, Z, group)
    _, wild = reduced_rows(1e-4 * (y + 50.0)[:, None], X @ shift_X, Z @ shift, group)
    for name in ("RZ", "TX", "Ty", "XX", "Xy", "yy"):
        a, b = getattr(wild.stats, name), getattr(plain.stats, name)
        np.testing.assert_allclose(np.abs(a), np.abs(b), atol=tol.UNITS * np.abs(b).max())
    np.testing.assert_allclose(wild.scaling.s, 1e-4 * plain.scaling.s, rtol=tol.UNITS)


@pytest.mark.parametrize("many", [False, True])
def test_responses_of_one_design(rng, many):
    """Few or many at once, in one pass over the rows or by residuals: each as if alone."""
    y, X, Z, group = rows(rng, SIZES)
    Y = np.column_stack([y, rng.normal(size=(len(y), 20 if many else 2))])
    Y[:, 1] += 1e4 * X[:, 0]  # nearly all of y'y is fitted: by residuals
    matrices, standardised = reduced_rows(Y, X, Z, group)
    for i in range(Y.shape[1]):
        one = reduce_responses(matrices, Y[:, [i]])
        for name in ("Ty", "Xy", "yy"):
            a, b = getattr(standardised.stats, name)[..., i], getattr(one.stats, name)[..., 0]
            np.testing.assert_allclose(a, b, atol=tol.PRODUCTS)
        np.testing.assert_allclose(standardised.scaling.s[i], one.scaling.s[0], rtol=tol.PRODUCTS)


def test_data_sets_of_their_own_are_padded_exactly(rng):
    parts = [rows(rng, sizes) for sizes in [(5, 4, 3), (9, 1, 7, 3, 12), (4, 4)]]
    together = [np.concatenate(columns) for columns in zip(*parts, strict=True)]
    y, X, Z, group = together
    lane = np.repeat(np.arange(3), [len(part[0]) for part in parts])
    _, standardised = reduced_rows(y[:, None], X, Z, group, lane=lane)
    assert standardised.stats.RZ.shape == (5, 2, 2, 3)
    np.testing.assert_array_equal(standardised.stats.m.sum(axis=0), [3, 5, 2])
    for i, part in enumerate(parts):
        _, one = reduced_rows(part[0][:, None], *part[1:])
        G = len(one.stats.m)
        for name in ("RZ", "TX", "Ty", "XX", "Xy", "yy", "n"):
            a, b = getattr(standardised.stats, name)[..., i], getattr(one.stats, name)[..., 0]
            if name in ("RZ", "TX", "Ty"):
                assert (a[G:] == 0.0).all()
                a = a[:G]
            np.testing.assert_allclose(a, b, atol=tol.PRODUCTS)


def test_standardised_and_raw_statistics_agree(rng):
    """The two routes from rows to ``Stats`` differ by the change of basis only."""
    y, X, Z, group = rows(rng, SIZES)
    matrices, standardised = reduced_rows(y[:, None], X, Z, group)
    T, C, s = matrices.T[..., 0], matrices.C[..., 0], standardised.scaling.s[0]
    residual = y - X @ T @ standardised.scaling.beta_ols[:, 0]
    with jax.enable_x64(True):
        raw = jax.tree.map(np.asarray, stats_of(jnp.array(residual / s), X @ T, Z @ C, group))
    for name in ("RZ", "TX", "Ty", "XX", "Xy", "yy"):
        a, b = getattr(standardised.stats, name)[..., 0], getattr(raw, name)
        np.testing.assert_allclose(a, b, atol=tol.PRODUCTS)


@pytest.mark.parametrize("num_lanes", [1, 3])
def test_estimates_for_columns_that_are_standardised_otherwise(rng, num_lanes):
    """Σ = σ²CD̃C' whatever C; a pivot that was zero is zero, and a fit that failed is NaN."""
    theta = np.array([[1.0, 0.5, 0.7], [3.0, -2.0, 0.0], [np.nan] * 3])
    sigma = np.array([0.5, 2.0, np.nan])
    C = np.array([[1.0, -4.0], [0.0, 0.3]]) @ lambda_of(theta.T, ((0, 1),))
    cov, none = sigma[:, None, None] ** 2 * C @ C.mT, np.zeros((3, 1))
    status = np.array([Status.CONVERGED, Status.SINGULAR, Status.NOT_FINITE])
    e = Estimates(none, none, sigma, theta, theta, cov, none, status, none, none)
    C = np.triu(rng.normal(size=(2, 2)))[..., None] * np.arange(1.0, 1.0 + num_lanes)
    found = restandardised(e, C, ((0, 1),)).theta_standard
    root = np.moveaxis(C, -1, 0) @ lambda_of(found.T, ((0, 1),))
    np.testing.assert_allclose(sigma[:, None, None] ** 2 * root @ root.mT, cov, rtol=tol.SMALL)
    assert found[1, 2] == 0.0
    assert np.isnan(found[2]).all()


def test_what_cannot_be_fitted_gets_a_code(rng):
    """One lane each: fine, rank-deficient X, too few rows, a constant response, one group."""
    frames = []
    for number, sizes in enumerate([(4, 5, 6), (4, 5, 6), (2, 2), (4, 5, 6), (15,)]):
        y, X, _, group = rows(rng, sizes)
        x = np.full_like(y, 2.0) if number == 1 else X[:, 1]
        y = np.full_like(y, 3.0) if number == 3 else y
        frames.append(pd.DataFrame({"y": y, "x": x, "v": X[:, 2], "w": X[:, 3], "unit": group}))
    data = pd.concat(frames, keys=range(5), names=["replicate"]).reset_index(level=0)
    with pytest.warns(hlm.JaxhlmWarning, match="4 of 5 fits failed"):
        fits = hlm.fit_many("y ~ x + v + w + (1 | unit)", data, by="replicate")
    assert fits.ok.tolist() == [True, False, False, False, False]
    assert fits.status[1:].tolist() == [
        Status.RANK_DEFICIENT,
        Status.NO_RESIDUAL_DF,
        Status.NOT_FINITE,
        Status.NOT_IDENTIFIED,
    ]
    assert fits.fixef.iloc[1:].isna().all(axis=None)
    assert fits.fixef.iloc[0].notna().all()
    alone = hlm.fit("y ~ x + v + w + (1 | unit)", frames[0])
    np.testing.assert_allclose(fits.criterion.iloc[0], alone.criterion, rtol=tol.DEVIANCE)


def test_segments_cover_the_rows(rng):
    y, X, Z, group = rows(rng, SIZES)
    design, _ = reduced_rows(y[:, None], X, Z, group)
    ends = [*design.group_segments.starts, len(y)]
    assert [b - a for a, b in pairwise(ends)] == list(SIZES)
