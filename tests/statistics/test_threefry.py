"""The random bits are JAX's own, of every way to draw from a key."""

import jax
import numpy as np
import pytest
from jax import random

from jaxhlm.core.precision import jax_config_scope
from jaxhlm.statistics.threefry import THREEFRY

WORDS = np.random.default_rng(1).integers(0, 2**32, (3, 2), dtype=np.uint32)


@pytest.mark.parametrize(
    "draw",
    [
        lambda key: random.bits(key, (7,), "uint64"),
        lambda key: random.bits(key, (2, 3), "uint64"),
        lambda key: random.normal(key, (5,)),
        lambda key: random.key_data(random.split(key, 3)),
        lambda key: random.key_data(random.fold_in(key, 2**32 - 1)),
    ],
)
def test_bits_are_those_of_jax(draw):
    with jax_config_scope():
        ours, theirs = (
            jax.jit(jax.vmap(draw))(random.wrap_key_data(WORDS, impl=impl))
            for impl in (THREEFRY, "threefry2x32")
        )
    np.testing.assert_array_equal(ours, theirs)
