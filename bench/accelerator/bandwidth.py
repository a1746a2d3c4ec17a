"""What the memory and the bus of this machine can do, in bytes a second."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxhlm.core.precision import jax_config_scope

__all__ = ["bandwidths"]

# Numbers in each array of the triad: 256 MiB, far more than any cache holds.
NUMBERS = 2**25
TRIES = 5


def bandwidths(scale: float) -> dict[str, float]:
    """Bytes a second of the device's memory, of the host's, and of the bus between them.

    Args:
        scale: part of the full length of the arrays; small ones show caches and calls instead.
    """
    n, device, host = max(int(NUMBERS * scale), 1024), jax.devices()[0], jax.devices("cpu")[0]
    with jax_config_scope():
        found = {"device memory": triad(device, n)}
        if device == host:
            return found
        return {**found, "host memory": triad(host, n), "bus": upload(device, n)}


def triad(device: Any, n: int) -> float:
    """a = b + 3c: two arrays of n are read and one is written."""
    b, c = (jax.device_put(np.full(n, x), device) for x in (1.0, 2.0))
    add = jax.jit(lambda b, c: b + 3.0 * c)
    return 3 * b.nbytes / fastest(lambda: add(b, c))


def upload(device: Any, n: int) -> float:
    """An array of n from host memory to the device."""
    values = np.ones(n)
    # The sum is on its way only when the array is there.
    return values.nbytes / fastest(lambda: jnp.sum(jax.device_put(values, device)[:1]))


def fastest(work: Callable[[], Any]) -> float:
    """Seconds of the fastest call, the first left out."""
    seconds = []
    for _ in range(TRIES + 1):
        started = time.perf_counter()
        jax.block_until_ready(work())
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])
