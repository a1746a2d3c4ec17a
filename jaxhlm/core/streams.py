"""Seeds, and streams of random numbers that depend on the seed and the data set's number only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxhlm.core.precision import jax_config_scope
from jaxhlm.core.processes import use_jax
from jaxhlm.errors import OptionError

__all__ = [
    "DESIGN",
    "EFFECTS",
    "RESIDUALS",
    "TRUTH",
    "VIOLATIONS",
    "Key",
    "Seed",
    "Streams",
    "random_key",
    "seed_of",
]

# What the streams of one seed are for; violation k has VIOLATIONS + k.
DESIGN, TRUTH, EFFECTS, RESIDUALS, VIOLATIONS = range(5)

Seed: TypeAlias = int | np.random.Generator | np.random.SeedSequence | Any | None

# The two words of a threefry key.
Key: TypeAlias = NDArray[np.uint32]


def random_key(seed: Seed) -> Key:
    """The two words of a threefry key from any seed; seeds that differ give different ones.

    Nothing of JAX is started for it: most draws are NumPy's.

    Args:
        seed: an int of any size, a NumPy ``Generator`` (which advances) or ``SeedSequence``, a JAX
            key, new or old style, what this function returns, or None (fresh).

    Returns:
        (2,) of uint32.

    True, text and floats are no seeds.

    Raises:
        OptionError: anything else.

    >>> random_key(3).tolist(), random_key(2**32).tolist()
    ([0, 3], [1, 0])
    """
    if seed is None:
        seed = np.random.default_rng()
    if isinstance(seed, np.random.Generator):
        seed = int(seed.integers(2**32))
    return np.array(_words(seed), np.uint32)


def seed_of(key: Key | Sequence[int]) -> int:
    """The int that gives the key of two words.

    >>> seed_of(random_key(2**40 + 3)) == 2**40 + 3
    True
    """
    high, low = map(int, key)
    return (high << 32) + low


def _words(seed: Any) -> list[int]:
    if isinstance(seed, int | np.integer) and not isinstance(seed, bool):
        return _words_of_number(int(seed))
    if isinstance(seed, np.random.SeedSequence):
        return _hashed(seed)
    if isinstance(seed, jax.Array):
        seed = _raw(seed)
    if not isinstance(seed, np.ndarray) or seed.dtype != np.uint32:
        raise OptionError(
            f"seed={seed!r}: give an int, a NumPy Generator or SeedSequence, or a JAX key"
        )
    if seed.shape not in ((2,), (4,)):
        raise OptionError(f"seed={seed!r}: give one JAX key")
    words: list[int] = seed.tolist()
    # Draws from keys of other generators than threefry would depend on what is drawn beside them.
    return words if len(words) == 2 else _hashed(np.random.SeedSequence(words))


def _raw(key: Any) -> Any:
    """The words of a JAX key, new or old style."""
    if isinstance(key, jax.core.Tracer):
        raise OptionError(f"seed={key!r}: give a JAX key outside of jit and vmap")
    use_jax()
    with jax_config_scope():
        typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(key) if typed else key)


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
        """Take what ``random_key`` returns and the number of what is drawn, such as effects."""
        sequence = np.random.SeedSequence(key.tolist(), spawn_key=purpose)
        self._key = sequence.generate_state(2, np.uint64)

    def generator(self, lane: int) -> np.random.Generator:
        """The generator of a data set, at its beginning."""
        return next(self.generators([lane]))

    def generators(self, lanes: Iterable[int]) -> Iterator[np.random.Generator]:
        """Those of data sets, in turn: one generator that is moved on, which takes half the time.

        >>> streams = Streams(random_key(1))
        >>> [g.random() for g in streams.generators([5, 6])] == [
        ...     streams.generator(lane).random() for lane in [5, 6]
        ... ]
        True
        """
        source = np.random.Philox(key=self._key, counter=0)
        generator, start = np.random.Generator(source), source.state
        for lane in lanes:
            # The counter has four words; draws move the first ones.
            start["state"]["counter"][3] = lane
            source.state = start
            yield generator
