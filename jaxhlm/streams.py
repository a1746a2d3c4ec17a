"""Seeds, and streams of random numbers that depend on the seed and the data set's number only."""

from __future__ import annotations

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxhlm.errors import OptionError
from jaxhlm.precision import own_rules
from jaxhlm.processes import use_jax

__all__ = [
    "DESIGN",
    "EFFECTS",
    "RESIDUALS",
    "TRUTH",
    "VIOLATIONS",
    "Seed",
    "Streams",
    "key_words",
    "random_key",
]

# What the streams of one seed are for; violation k has VIOLATIONS + k.
DESIGN, TRUTH, EFFECTS, RESIDUALS, VIOLATIONS = range(5)

Seed: TypeAlias = int | np.random.Generator | np.random.SeedSequence | Any | None


def random_key(seed: Seed) -> Any:
    """A JAX key (threefry) from any seed; seeds that differ give different keys.

    Args:
        seed: an int of any size, a NumPy ``Generator`` (which advances) or ``SeedSequence``, a JAX
            key, new or old style, or None (fresh).

    Raises:
        OptionError: anything else.
        ForkedProcessError: as ``use_jax``.

    >>> key_words(random_key(3)), key_words(random_key(2**32))
    ([0, 3], [1, 0])
    """
    if seed is None:
        seed = np.random.default_rng()
    if isinstance(seed, np.random.Generator):
        seed = int(seed.integers(2**32))
    use_jax()
    words = np.array(_words(seed), np.uint32)
    with own_rules():
        return jax.random.wrap_key_data(jnp.asarray(words), impl="threefry2x32")


def key_words(key: Any) -> list[int]:
    """The words of one JAX key, new or old style.

    Raises:
        OptionError: it is no key, or several.
    """
    with own_rules():
        typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        if key.shape or isinstance(key, jax.core.Tracer):
            one = not typed and key.shape in ((2,), (4,)) and key.dtype == np.uint32
            if not one or isinstance(key, jax.core.Tracer):
                raise OptionError(f"seed={key!r}: give one JAX key, outside of jit and vmap")
        elif not typed:
            raise OptionError(f"seed={key!r} is an array and no JAX key: give int(seed)")
        words: list[int] = np.asarray(jax.random.key_data(key) if typed else key).tolist()
    return words


def _words(seed: Any) -> list[int]:
    """Two words of 32 bits."""
    if isinstance(seed, int | np.integer) and not isinstance(seed, bool):
        return _words_of_number(int(seed))
    if isinstance(seed, np.random.SeedSequence):
        return _hashed(seed)
    if not isinstance(seed, jax.Array):
        raise OptionError(
            f"seed={seed!r}: give an int, a NumPy Generator or SeedSequence, or a JAX key"
        )
    words = key_words(seed)
    # Draws from keys of other generators than threefry would depend on what is drawn beside them.
    return words if len(words) == 2 else _hashed(np.random.SeedSequence(words))


def _words_of_number(number: int) -> list[int]:
    if 0 <= number < 2**64:
        return [number >> 32, number % 2**32]
    return _hashed(np.random.SeedSequence(abs(number), spawn_key=(int(number < 0),)))


def _hashed(sequence: np.random.SeedSequence) -> list[int]:
    words: list[int] = sequence.generate_state(2).tolist()
    return words


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
        sequence = np.random.SeedSequence(key_words(key), spawn_key=purpose)
        self._key = sequence.generate_state(2, np.uint64)

    def generator(self, lane: int) -> np.random.Generator:
        """The generator of a data set, at its beginning."""
        return np.random.Generator(np.random.Philox(key=self._key, counter=lane << 192))
