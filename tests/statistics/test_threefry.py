"""The random numbers are JAX's own, of every way to draw from a key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random

from jaxhlm.core.precision import jax_config_scope
from jaxhlm.statistics.threefry import fold_in, normal, split, uniform

WORDS = np.random.default_rng(1).integers(0, 2**32, (400, 2), dtype=np.uint32)
COUNT = 5


def in_a_row(draw):
    """``COUNT`` numbers of every key, as JAX returns them."""
    return lambda words: jax.lax.map(lambda i: draw(words, i), jnp.arange(COUNT)).T


def key_words(words):
    return jnp.stack(jax.tree.leaves(words), axis=-1).reshape(len(WORDS), -1, 2)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (in_a_row(uniform), lambda key: random.uniform(key, (COUNT,))),
        (in_a_row(normal), lambda key: random.normal(key, (COUNT,))),
        (
            lambda words: key_words(split(words, 3)),
            lambda key: random.key_data(random.split(key, 3)),
        ),
        (
            lambda words: key_words(fold_in(words, 2**32 - 1)),
            lambda key: random.key_data(random.fold_in(key, 2**32 - 1))[None],
        ),
    ],
)
def test_numbers_are_those_of_jax(ours, theirs):
    with jax_config_scope():
        keys = random.wrap_key_data(WORDS, impl="threefry2x32")
        expected = jax.jit(jax.vmap(theirs))(keys)
        found = jax.jit(ours)((WORDS[:, 0], WORDS[:, 1]))
    np.testing.assert_array_equal(found, expected)
