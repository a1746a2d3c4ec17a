"""Sufficient statistics in JAX: what they must add up to, and their derivatives by the data."""

from importlib import import_module

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxhlm as hlm
import tolerances as tol
from cases import random_lambda, rows
from jaxhlm import reference
from jaxhlm.errors import WeightsError
from jaxhlm.likelihood.suffstats import RESPONSE_FIELDS, Stats, lane_axes
from oracles import oracle, stats_of

SIZES = (4, 1, 3, 2, 6)
# Group 3 has the same row twice: its Z has rank 1.
DEFICIENT = slice(8, 10)


def problem(rng, weighted=False):
    y, X, Z, group = rows(rng, SIZES, 2, 3)
    X[DEFICIENT, :2] = Z[DEFICIENT] = Z[8]
    return y, X, Z, group, rng.uniform(0.5, 2.0, len(y)) if weighted else None


@pytest.mark.parametrize("weighted", [False, True])
def test_they_hold_every_cross_product(rng, weighted):
    y, X, Z, group, weights = problem(rng, weighted)
    with jax.enable_x64(True):
        stats = jax.tree.map(np.asarray, stats_of(y, X, Z, group, weights))
    w = np.ones(len(y)) if weights is None else weights
    M = np.column_stack([X, y]) * np.sqrt(w)[:, None]
    T = np.concatenate([stats.TX, stats.Ty[..., None]], axis=2)
    for i in range(len(SIZES)):
        at, R = group == i, stats.RZ[i]
        Zi = Z[at] * np.sqrt(w[at])[:, None]
        assert np.array_equal(R, np.triu(R))
        np.testing.assert_allclose(R.T @ R, Zi.T @ Zi, atol=tol.SMALL)
        np.testing.assert_allclose(R.T @ T[i], Zi.T @ M[at], atol=tol.SMALL)
    within = np.block([[stats.XX, stats.Xy[:, None]], [stats.Xy[None], stats.yy]])
    np.testing.assert_allclose(within + np.einsum("gqa,gqb->ab", T, T), M.T @ M, atol=tol.SMALL)
    assert np.linalg.eigvalsh(within)[0] > -tol.SMALL
    np.testing.assert_allclose(stats.logw, np.log(w).sum(), atol=tol.ROUNDED)
    assert stats.n == len(y)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_group_of_lower_rank_has_rows_of_zeros(rng, scale):
    y, X, Z, *rest = problem(rng)
    with jax.enable_x64(True):
        stats = jax.tree.map(np.asarray, stats_of(y, X, scale * Z, *rest))
    assert (stats.RZ[0, 1, 1] > 0.0).all()
    for group in (1, 3):
        assert (stats.RZ[group, 1] == 0.0).all()
        assert (stats.TX[group, 1] == 0.0).all()
        assert stats.Ty[group, 1] == 0.0


def test_what_is_asked_of_memory_is_what_the_groups_take(rng, monkeypatch):
    y, X, Z, group, _ = problem(rng)
    asked, module = {}, import_module(hlm.suffstats.__module__)
    monkeypatch.setattr(module, "affordable", lambda name, *size: asked.update({name: size}))
    with jax.enable_x64(True):
        stats = hlm.suffstats(y, X, Z, group, num_groups=len(SIZES))
    taken = sum(np.asarray(x).nbytes for x in (stats.RZ, stats.TX, stats.Ty))
    assert asked == {"num_groups": (len(SIZES), taken / len(SIZES))}


def test_row_order_does_not_matter(rng):
    data = problem(rng, weighted=True)
    order = rng.permutation(len(data[0]))
    with jax.enable_x64(True):
        plain, mixed = stats_of(*data), stats_of(*(part[order] for part in data))
    for a, b in zip(plain, mixed, strict=True):
        np.testing.assert_allclose(a, b, atol=tol.REORDERED)


@pytest.mark.parametrize("reml", [True, False])
def test_derivatives_by_the_data_are_those_of_the_definition(rng, reml):
    """By y, X, Z and the weights, against differences of the dense criterion.

    Along Z a group of lower rank is a kink of the factorisation though not of the criterion, so
    that rows of such groups are looked at for finiteness only.
    """
    y, X, Z, group, weights = problem(rng, weighted=True)
    theta, Lambda = random_lambda(rng, ((0, 1),))

    def criterion(y, X, Z, weights):
        stats = hlm.suffstats(y, X, Z, jnp.asarray(group), len(SIZES), weights)
        return hlm.deviance(jnp.asarray(theta), stats, reml)

    data = [y, X, Z, weights]
    with jax.enable_x64(True):
        found = oracle(jax.grad(criterion, argnums=(0, 1, 2, 3)))(*data)
    for which, gradient in enumerate(found):
        assert np.isfinite(gradient).all()
        expected = differences(Lambda, data, which, group, reml)
        full = np.isin(group, (0, 2, 4)) if which == 2 else slice(None)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(gradient[full], expected[full], atol=tol.DIFFERENCES * scale)


def differences(Lambda, data, which, group, reml, step=1e-5):
    """Central differences of the dense criterion by every entry of data[which]."""
    slopes = np.empty_like(data[which])
    for index in np.ndindex(*slopes.shape):
        ends = []
        for sign in (1.0, -1.0):
            moved = [part.copy() for part in data]
            moved[which][index] += sign * step
            y, X, Z, weights = moved
            ends.append(reference.criterion(Lambda, y, X, Z, group, reml, weights))
        slopes[index] = (ends[0] - ends[1]) / (2.0 * step)
    return slopes


def test_lane_axes_name_the_response_fields():
    assert set(Stats._fields) > RESPONSE_FIELDS
    shared, own = lane_axes(True), lane_axes(False)
    assert set(own) == {-1}
    assert {f for f in Stats._fields if getattr(shared, f) == -1} == RESPONSE_FIELDS


def test_mapped_over_data_sets(rng):
    y, X, Z, group, _ = problem(rng)
    Y = np.stack([y, y[::-1], rng.normal(size=len(y))])
    with jax.enable_x64(True):
        together = jax.jit(jax.vmap(lambda y: hlm.suffstats(y, X, Z, group, len(SIZES))))(Y)
        for i, response in enumerate(Y):
            alone = stats_of(response, X, Z, group)
            for a, b in zip(together, alone, strict=True):
                np.testing.assert_allclose(a[i], b, atol=tol.REORDERED)


@pytest.mark.parametrize("weighted", [False, True])
def test_effects_that_dwarf_the_residuals_cost_no_digits(rng, weighted):
    """Of numbers 1e8 times as large, what is left within groups keeps eight digits."""
    y, X, Z, group, weights = problem(rng, weighted)
    far = y + 1e8 * (Z * rng.normal(size=(len(SIZES), Z.shape[1]))[group]).sum(axis=1)
    with jax.enable_x64(True):
        found, expected = stats_of(far, X, Z, group, weights), stats_of(y, X, Z, group, weights)
    np.testing.assert_allclose(found.yy, expected.yy, rtol=tol.ESTIMATE)
    np.testing.assert_allclose(found.Xy, expected.Xy, rtol=tol.ESTIMATE, atol=tol.ESTIMATE)


def test_rows_of_weight_zero_do_not_count(rng):
    y, X, Z, group, weights = problem(rng, True)
    there = np.arange(len(y)) % 4 != 1
    weights = np.where(there, weights, 0.0)
    with jax.enable_x64(True):
        found = stats_of(np.where(there, y, 1e6), X, Z, group, weights)
        expected = stats_of(y[there], X[there], Z[there], group[there], weights[there])
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=tol.SMALL)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["deviance", "loglik", "minimise"])
def test_rows_of_weight_zero_are_padding(which):
    """Whatever they hold, a group of such rows alone included; by all data derivatives are zero."""
    y, X, Z, group = rows(np.random.default_rng(5), SIZES, 2, 3, sd=1.0)
    n, last, theta = len(y), len(SIZES), jnp.array([0.8, 0.2, 0.5])
    longer = [np.pad(x, [(0, 3)] + [(0, 0)] * (x.ndim - 1), constant_values=np.nan) for x in (X, Z)]
    padded = np.append(y, [np.inf, np.nan, 1e300]), *longer, np.append(np.ones(n), np.zeros(3))
    there = y, X, Z, np.ones(n)

    def value(y, X, Z, w):
        stats = hlm.suffstats(y, X, Z, np.append(group, [2, last, last])[: len(y)], last + 1, w)
        if which == "deviance":
            return hlm.deviance(theta, stats)
        if which == "loglik":
            return hlm.loglik(jnp.ones(3), theta, 0.9, stats)
        return hlm.minimise(stats).sigma

    with jax.enable_x64(True):
        run = oracle(jax.value_and_grad(value, (0, 1, 2, 3)))
        found, gradient = jax.tree.map(np.asarray, run(*padded))
        expected, alone = jax.tree.map(np.asarray, run(*there))
    np.testing.assert_allclose(found, expected, rtol=tol.SMALL)
    for slope, of_there in zip(gradient, alone, strict=True):
        np.testing.assert_allclose(slope[:n], of_there, rtol=tol.SMALL, atol=tol.SMALL)
        np.testing.assert_array_equal(slope[n:], 0.0)


@pytest.mark.parametrize("wrong", [-1.0, np.nan, np.inf])
def test_a_weight_that_is_none_is_refused_and_is_no_zero_when_traced(rng, wrong):
    y, X, Z, group, weights = problem(rng, True)
    weights[2] = wrong
    with pytest.raises(WeightsError, match="not negative"):
        hlm.suffstats(y, X, Z, group, len(SIZES), weights)
    assert not np.isfinite(stats_of(y, X, Z, group, weights).yy)


def test_a_label_out_of_range_does_not_count_when_traced(rng):
    y, X, Z, group, _ = problem(rng)
    there = group != len(SIZES) - 1
    with jax.enable_x64(True):
        found = jax.jit(lambda g: hlm.suffstats(y, X, Z, g, len(SIZES) - 1))(group)
        expected = hlm.suffstats(y[there], X[there], Z[there], group[there], len(SIZES) - 1)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=tol.SMALL)


@pytest.mark.parametrize("narrow", ["float16", "float32", "uint8"])
def test_weights_of_fewer_digits_cost_the_rows_none(rng, narrow):
    y, X, Z, group, weights = problem(rng, True)
    weights = (2.0 * weights).astype(narrow)
    with jax.enable_x64(True):
        found = stats_of(y, X, Z, group, weights)
        expected = stats_of(y, X, Z, group, weights.astype(float))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["at once", "traced"])
def test_labels_may_be_of_a_dtype_that_does_not_hold_the_number_of_groups(rng, wrap):
    y, X, Z, group, _ = problem(rng)
    with jax.enable_x64(True):
        of = wrap(lambda labels: hlm.suffstats(y, X, Z, labels, 200))
        jax.tree.map(np.testing.assert_array_equal, of(group.astype(np.int8)), of(group))


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["at once", "traced"])
@pytest.mark.parametrize(("whole", "dtype"), [("int", "float64"), ("int8", "float32")])
def test_whole_numbers_are_read_as_floating_ones(rng, whole, dtype, wrap):
    y, X, Z, group, weights = problem(rng, True)
    y, X, Z = ((3.0 * x).astype(whole) for x in (y, X, Z))
    with jax.enable_x64(dtype == "float64"):
        of = wrap(lambda *data: hlm.suffstats(*data[:3], group, len(SIZES), data[3]))
        found = of(y, X, Z, weights)
        expected = of(*(x.astype(dtype) for x in (y, X, Z)), weights)
    assert {str(x.dtype) for x in found} == {dtype}
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["at once", "traced"])
@pytest.mark.parametrize(("dtype", "far"), [("float32", 2000.0), ("float64", 1e10)])
def test_a_slope_far_from_zero_is_kept(rng, dtype, far, wrap):
    """Such as calendar years: squares would have lost all that tells it from the intercept."""
    group = np.repeat(np.arange(4), [5, 4, 6, 1])
    x = (rng.integers(-20, 20, len(group)) / 4.0 + far).astype(dtype)
    Z, y = np.column_stack([np.ones_like(x), x]), rng.normal(size=len(x)).astype(dtype)
    with jax.enable_x64(dtype == "float64"):
        stats = wrap(lambda y, Z: hlm.suffstats(y, Z, Z, jnp.asarray(group), 4))(y, Z)
        found = np.asarray(stats.RZ)[:, 1, 1]
    deviations = (x[group == i] - x[group == i].mean(dtype=float) for i in range(4))
    expected = [np.sqrt(d @ d) for d in deviations]
    np.testing.assert_allclose(found, expected, rtol=tol.SINGLE_ESTIMATE)
    assert found[3] == 0.0


@pytest.mark.parametrize("q", [1, 2])
def test_there_may_be_no_fixed_effects(q, rng):
    """Of rows that are known, and of rows that are traced."""
    y, Z, group = rng.normal(size=12), rng.normal(size=(12, q)), np.arange(12) % 3
    known = hlm.suffstats(y, np.empty((12, 0)), Z, group, 3)
    traced = jax.jit(lambda Z: hlm.suffstats(y, Z[:, :0], Z, group, 3))(Z)
    assert known.TX.shape == (3, q, 0) and known.XX.shape == (0, 0)
    for found, expected in zip(known, traced, strict=True):
        np.testing.assert_allclose(found, expected, tol.SINGLE, tol.SINGLE)
