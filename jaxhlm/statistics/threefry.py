"""The random bits of JAX's generator threefry2x32, compiled in a fraction of the time.

JAX rolls the rounds into a loop for CPUs, every step of which XLA compiles by itself. Written out,
all rounds are one function (Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as
1, 2, 3", table 2). The bits are those that ``jax.random`` gives with ``threefry_partitionable``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax.extend.random import define_prng_impl

if TYPE_CHECKING:
    from jaxtyping import UInt32

    from jaxhlm.core.notation import Array

__all__ = ["THREEFRY"]

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA


def _hashed(key: UInt32[Array, "2"], x0: Any, x1: Any) -> tuple[Any, Any]:
    """Twenty rounds over pairs of words."""
    words = key[0], key[1], key[0] ^ key[1] ^ np.uint32(PARITY)
    x0, x1 = x0 + words[0], x1 + words[1]
    for four in range(5):
        for by in ROTATIONS[four % 2]:
            x0 = x0 + x1
            x1 = x0 ^ (x1 << np.uint32(by) | x1 >> np.uint32(32 - by))
        x0 = x0 + words[(four + 1) % 3]
        x1 = x1 + words[(four + 2) % 3] + np.uint32(four + 1)
    return x0, x1


def _counted(key: UInt32[Array, "2"], shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Hashes of 0, 1, 2, …; fewer than 2**32 of them."""
    numbers = jnp.arange(np.prod(shape, dtype=int), dtype=jnp.uint32).reshape(shape)
    return _hashed(key, jnp.zeros_like(numbers), numbers)


def _split(key: UInt32[Array, "2"], shape: tuple[int, ...]) -> UInt32[Array, "... 2"]:
    return jnp.stack(_counted(key, shape), axis=-1)


def _fold_in(key: UInt32[Array, "2"], number: UInt32[Array, ""]) -> UInt32[Array, "2"]:
    return jnp.stack(_hashed(key, jnp.uint32(0), number))


def _bits(key: UInt32[Array, "2"], width: int, shape: tuple[int, ...]) -> Array:
    if width != 64:
        raise NotImplementedError(f"{width} bits")
    high, low = (x.astype(jnp.uint64) for x in _counted(key, shape))
    return high << np.uint64(32) | low


def _seed(seed: Any) -> UInt32[Array, "2"]:
    raise NotImplementedError("keys come from seeds by random_key")


THREEFRY = define_prng_impl(
    key_shape=(2,),
    seed=_seed,
    split=_split,
    fold_in=_fold_in,
    random_bits=_bits,
    name="threefry2x32, written out",
    tag="two",
)
