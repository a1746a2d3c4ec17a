"""Normal and chi-squared numbers: their distributions, their independence, and their lanes."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxhlm.core.streams import random_key
from jaxhlm.statistics.deviates import lane_keys, normals_and_chi_squares

DF = (1.0, 2.0, 3.0, 28.0, 840.0)
COUNT, B = 3, 20_000
# One false alarm in a thousand runs of these tests, were the seed not fixed.
LEAST_P = 1e-4


def draw(lane_index):
    with jax.enable_x64(True):
        keys = lane_keys(random_key(5), jnp.asarray(lane_index, jnp.uint32))
        found = jax.jit(normals_and_chi_squares, static_argnums=1)(keys, COUNT, jnp.array(DF))
    return tuple(np.asarray(x) for x in found)


@cache
def drawn():
    return draw(np.arange(B))


@pytest.mark.parametrize("at", range(len(DF)))
def test_chi_squared_numbers_have_their_distribution(at):
    assert stats.kstest(drawn()[1][at], stats.chi2(DF[at]).cdf).pvalue > LEAST_P


def test_normal_numbers_have_theirs():
    for z in drawn()[0]:
        assert stats.kstest(z, "norm").pvalue > LEAST_P


def test_numbers_of_a_lane_are_independent_and_so_are_lanes():
    u = np.concatenate(
        [stats.norm.cdf(drawn()[0]), stats.chi2(np.array(DF)[:, None]).cdf(drawn()[1])]
    )
    follows = np.concatenate([u, u[:, np.r_[1:B, 0]]])
    for power in (1, 2):
        correlations = np.corrcoef((follows - 0.5) ** power)[np.triu_indices(len(follows), 1)]
        assert np.abs(correlations * np.sqrt(B)).max() < stats.norm.isf(LEAST_P / len(correlations))


@pytest.mark.slow
def test_a_lane_gets_the_same_numbers_beside_any_others():
    for lanes in (np.arange(7), np.arange(1000, 1900), np.array([19_999, 3, 3])):
        for one, all_of_them in zip(draw(lanes), drawn(), strict=True):
            np.testing.assert_array_equal(one, all_of_them[:, lanes])


@pytest.mark.parametrize("traced", [True, False])
def test_numbers_that_are_not_needed_are_left_out_and_the_others_stay(traced):
    def left_out(keys, first, after):
        return normals_and_chi_squares(keys, COUNT, jnp.array(DF), (first, after))

    with jax.enable_x64(True):
        keys = lane_keys(random_key(5), jnp.arange(20, dtype=jnp.uint32))
        static = () if traced else (1, 2)
        z, chi2 = jax.jit(left_out, static_argnums=static)(keys, 1, 2)
    every_z, every_chi2 = (x[:, :20] for x in drawn())
    np.testing.assert_array_equal(z, every_z * np.array([[1.0], [0.0], [1.0]]))
    np.testing.assert_array_equal(chi2, every_chi2)
