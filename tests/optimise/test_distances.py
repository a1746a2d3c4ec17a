"""Distances of the groups: by NumPy, in compiled code, and by their definition."""

import jax
import numpy as np
import pytest

import tolerances as tol
from jaxhlm.core.precision import jax_config_scope
from jaxhlm.likelihood.covariance import lambda_of
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.optimise.distances import distance_sums, traced_distance_sums

BLOCKS, B = ((0, 1),), 7
CLASSES = [0, 0, 0, 1, 2, 2]


def lanes_of(rng, shared):
    """Statistics of three classes, of which the representatives of two follow the first."""
    G, num_lanes, m = len(CLASSES), 1 if shared else B, np.array([4.0, 0.0, 0.0, 1.0, 9.0, 0.0])
    fields = {
        "RZ": np.triu(rng.normal(size=(num_lanes, G, 2, 2)), 0).transpose(1, 2, 3, 0),
        "TX": rng.normal(size=(G, 2, 3, num_lanes)),
        "Ty": rng.normal(size=(G, 2, B)),
        "m": np.repeat(m[:, None], num_lanes, axis=1),
        "XX": np.eye(3)[:, :, None],
        "Xy": np.zeros((3, B)),
        "yy": np.full(B, 50.0),
        "n": np.full(num_lanes, 60.0),
        "logw": np.zeros(num_lanes),
        "rank": np.full(num_lanes, 3.0),
    }
    return Stats(**fields)


def by_definition(stats, theta, beta, pwrss, reml):
    sums = np.zeros((2, B))
    for lane in range(B):
        one = stats.take([lane])
        L, distances = lambda_of(theta[:, [lane]], BLOCKS)[0], np.zeros(3)
        sigma2 = pwrss[lane] / (one.n[0] - reml * one.rank[0])
        for i, of in enumerate(CLASSES):
            R, e = one.RZ[i, :, :, 0], one.Ty[i, :, 0] - one.TX[i, :, :, 0] @ beta[:, lane]
            distances[of] += e @ np.linalg.solve(np.eye(2) + R @ L @ L.T @ R.T, e) / sigma2
        sums[:, lane] = (
            distances.sum(),
            (distances**2 / (2.0 * np.array([4.0, 1.0, 9.0]) + 2.0)).sum(),
        )
    return sums


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("reml", [True, False])
def test_three_ways_agree(rng, shared, reml):
    stats = lanes_of(rng, shared)
    theta, beta = rng.normal(size=(3, B)), rng.normal(size=(3, B))
    pwrss = rng.uniform(20.0, 90.0, B)
    expected = by_definition(stats, theta, beta, pwrss, reml)
    found = distance_sums(stats, theta, beta, pwrss, reml, BLOCKS)
    np.testing.assert_allclose(found, expected, rtol=tol.BATCH)
    with jax_config_scope():
        traced = jax.jit(traced_distance_sums, static_argnames=("reml", "blocks"))(
            stats, theta, beta, pwrss, reml=reml, blocks=BLOCKS, count=len(CLASSES)
        )
    np.testing.assert_allclose(traced, expected, rtol=tol.BATCH)


@pytest.mark.parametrize("shared", [True, False])
def test_models_without_fixed_effects(rng, shared):
    stats = lanes_of(rng, shared)
    stats = stats._replace(TX=stats.TX[:, :, :0], rank=0.0 * stats.rank)
    theta, beta, pwrss = rng.normal(size=(3, B)), np.empty((0, B)), np.full(B, 40.0)
    found = distance_sums(stats, theta, beta, pwrss, True, BLOCKS)
    expected = by_definition(stats, theta, beta, pwrss, True)
    np.testing.assert_allclose(found, expected, rtol=tol.BATCH)
