"""Drawing responses from the model, row by row."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxhlm.errors import OptionError
from jaxhlm.notation import Floats, Ints

__all__ = ["Seed", "random_key", "simulate_rows"]

Seed: TypeAlias = int | np.random.Generator | Any | None


def random_key(seed: Seed) -> Any:
    """A JAX key from an int, a NumPy ``Generator`` (which advances), a JAX key, or None (fresh).

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
    if isinstance(seed, int | np.integer):
        return jax.random.key(int(seed) % 2**32)
    if isinstance(seed, jax.Array):
        typed = jnp.issubdtype(seed.dtype, jax.dtypes.prng_key)
        return seed if typed else jax.random.wrap_key_data(seed)
    raise OptionError(f"seed={seed!r}: give an int, a NumPy Generator or a JAX key")


def simulate_rows(
    X: Floats,
    Z: Floats,
    group: Ints,
    G: int,
    beta: Floats,
    cov: Floats,
    sigma: float,
    n: int,
    seed: Seed = None,
    weights: Floats | None = None,
    first: int = 0,
) -> Floats:
    """Responses y = Xβ + Zb + ε with b ~ N(0, Σ) by group and ε ~ N(0, σ²/w).

    Every replicate has a key of its own, so replicate i does not depend on how many are drawn.

    Args:
        X: (rows, p), Z: (rows, q), group: (rows,) codes 0 … G − 1.
        G: number of groups.
        beta: (p,) fixed effects.
        cov: (q, q) covariance Σ of the random effects, positive semi-definite.
        sigma: residual standard deviation.
        n: number of replicates.
        seed: int, NumPy Generator or JAX key.
        weights: (rows,) prior weights, or None.
        first: number of the first replicate.

    Returns:
        (rows, n) array.

    Example:
        >>> one = np.ones((4, 1))
        >>> y = simulate_rows(one, one, np.array([0, 0, 1, 1]), 2, [10.0], [[1.0]], 1.0, 3, seed=1)
        >>> y.shape
        (4, 3)
    """
    value, vectors = np.linalg.eigh(np.asarray(cov, dtype=float))
    root = vectors * np.sqrt(np.maximum(value, 0.0))
    scale = np.full(len(X), sigma) if weights is None else sigma / np.sqrt(weights)
    mean = X @ np.asarray(beta, dtype=float)
    key = random_key(seed)
    with jax.enable_x64(True):
        draws = _draw(key, np.arange(first, first + n, dtype=np.uint32), Z @ root, group, scale, G)
        return np.asarray(draws) + mean[:, None]


@partial(jax.jit, static_argnames="G")
def _draw(key: Any, lane: Any, Z_root: Any, group: Any, scale: Any, G: int) -> Any:
    def one(i: Any) -> Any:
        u, e = jax.random.split(jax.random.fold_in(key, i))
        b = jax.random.normal(u, (G, Z_root.shape[1]))
        return jnp.sum(Z_root * b[group], axis=1) + scale * jax.random.normal(e, scale.shape)

    return jax.vmap(one, out_axes=1)(lane)
