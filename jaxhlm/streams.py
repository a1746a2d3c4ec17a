"""Seeds, and streams of random numbers that depend on the seed and the data set's number only."""

from __future__ import annotations

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxhlm.errors import OptionError

__all__ = [
    "DESIGN",
    "EFFECTS",
    "RESIDUALS",
    "TRUTH",
    "VIOLATIONS",
    "Seed",
    "Streams",
    "random_key",
]

# What the streams of one seed are for; violation k has VIOLATIONS + k.
DESIGN, TRUTH, EFFECTS, RESIDUALS, VIOLATIONS = range(5)

Seed: TypeAlias = int | np.random.Generator | Any | None


def random_key(seed: Seed) -> Any:
    """A JAX key from an int, a NumPy ``Generator`` (which advances), a JAX key, or None (fresh).

    Ints count modulo 2³²; True, text and floats are no seeds.

    Raises:
        OptionError: anything else.

    >>> import jax
    >>> bool(jax.random.key_data(random_key(3))[1] == 3)
    True
    """
    if seed is None:
        seed = np.random.default_rng()
    if isinstance(seed, np.random.Generator):
        seed = int(seed.integers(2**32))
    if isinstance(seed, int | np.integer) and not isinstance(seed, bool):
        return jax.random.key(int(seed) % 2**32)
    if isinstance(seed, jax.Array):
        typed = jnp.issubdtype(seed.dtype, jax.dtypes.prng_key)
        if not typed and (seed.dtype != jnp.uint32 or seed.ndim != 1):
            raise OptionError(f"seed={seed!r} is no JAX key; jax.random.key(1) is one")
        return seed if typed else jax.random.wrap_key_data(seed)
    raise OptionError(f"seed={seed!r}: give an int, a NumPy Generator or a JAX key")


class Streams:
    """One NumPy generator per data set, all from counters of one Philox key.

    NumPy's ziggurat makes normal numbers ten times faster than JAX's inverse error function in
    float64, and a stream of its own keeps a data set the same whatever is drawn beside it.

    >>> streams = Streams(random_key(1))
    >>> bool(streams.generator(5).random() == streams.generator(5).random())
    True
    """

    def __init__(self, key: Any, *purpose: int) -> None:
        """Take a JAX key and the number of what is drawn, such as effects or residuals."""
        words = np.asarray(jax.random.key_data(key)).ravel().tolist()
        sequence = np.random.SeedSequence(words, spawn_key=purpose)
        self._key = sequence.generate_state(2, np.uint64)

    def generator(self, lane: int) -> np.random.Generator:
        """The generator of a data set, at its beginning."""
        return np.random.Generator(np.random.Philox(key=self._key, counter=lane << 192))
