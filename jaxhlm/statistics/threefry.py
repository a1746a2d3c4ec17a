"""Random numbers of JAX's generator threefry2x32, one of every lane's key at a time.

``jax.random`` gives a lane's numbers in a row, for which XLA hashes every one twice and cannot
use wide registers well; where they come one after another, for all lanes together, drawing takes
two thirds of the time and compiles faster (Salmon, Moraes, Dror & Shaw 2011, "Parallel random
numbers: as easy as 1, 2, 3", table 2). The numbers are those of ``jax.random`` with
``threefry_partitionable``, bit by bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import lax

if TYPE_CHECKING:
    from jaxtyping import Float

    from jaxhlm.core.notation import Array

__all__ = ["Words", "fold_in", "normal", "split", "uniform"]

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA
# The bits of 1.0, whose mantissa random bits fill.
ONE = 0x3FF0000000000000
ABOVE_MINUS_ONE = np.nextafter(-1.0, 0.0)

# The two words of keys, of uint32; (B,) each, or of one key.
Words: TypeAlias = tuple[Any, Any]


def fold_in(words: Words, number: Any) -> Words:
    """Keys of keys and numbers (B,)."""
    number = jnp.asarray(number).astype(jnp.uint32)
    return _hashed(words, jnp.zeros_like(number), number)


def split(words: Words, count: int) -> list[Words]:
    """So many keys of every key."""
    return [fold_in(words, number) for number in range(count)]


def uniform(words: Words, number: Any) -> Float[Array, " B"]:
    """A number in [0, 1) of every key: which of those that the key gives."""
    high, low = (x.astype(jnp.uint64) for x in fold_in(words, number))
    bits = (high << np.uint64(32) | low) >> np.uint64(12) | np.uint64(ONE)
    return lax.bitcast_convert_type(bits, float) - 1.0


def normal(words: Words, number: Any) -> Float[Array, " B"]:
    """A standard normal number of every key: which of those that the key gives."""
    u = uniform(words, number) * (1.0 - ABOVE_MINUS_ONE) + ABOVE_MINUS_ONE
    return np.sqrt(2.0) * lax.erf_inv(jnp.maximum(u, ABOVE_MINUS_ONE))


def _hashed(words: Words, x0: Any, x1: Any) -> Words:
    """Twenty rounds over pairs of words."""
    key = *words, words[0] ^ words[1] ^ np.uint32(PARITY)
    x0, x1 = x0 + key[0], x1 + key[1]
    for four in range(5):
        for by in ROTATIONS[four % 2]:
            x0 = x0 + x1
            x1 = x0 ^ (x1 << np.uint32(by) | x1 >> np.uint32(32 - by))
        x0 = x0 + key[(four + 1) % 3]
        x1 = x1 + key[(four + 2) % 3] + np.uint32(four + 1)
    return x0, x1
