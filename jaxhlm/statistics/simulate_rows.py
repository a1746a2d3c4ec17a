"""Drawing responses from the model, row by row."""

from __future__ import annotations

import numpy as np

from jaxhlm.core.arguments import affordable, whole_number
from jaxhlm.core.notation import Floats, Ints
from jaxhlm.core.streams import Seed, Streams, random_key
from jaxhlm.linalg.factors import semidefinite_root

__all__ = ["simulate_rows"]


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

    Every replicate has a stream of its own, so replicate i does not depend on how many are drawn.

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

    Raises:
        OptionError: n is not a whole number or negative, or the seed is not one.

    Example:
        >>> one = np.ones((4, 1))
        >>> y = simulate_rows(one, one, np.array([0, 0, 1, 1]), 2, [10.0], [[1.0]], 1.0, 3, seed=1)
        >>> y.shape
        (4, 3)
    """
    root = semidefinite_root(np.asarray(cov, dtype=float))
    scale = np.full(len(X), sigma) if weights is None else sigma / np.sqrt(weights)
    q = Z.shape[1]
    n = whole_number("n", n, least=0)
    affordable("n", n, 2.0 * 8.0 * (G * q + len(X)))
    streams, normals = Streams(random_key(seed)), np.empty((n, G * q + len(X)))
    for lane, row in enumerate(normals, first):
        streams.generator(lane).standard_normal(out=row)
    effects, Y = normals[:, : G * q].reshape(n, G, q) @ root.T, normals[:, G * q :]
    Y *= scale
    Y += X @ np.asarray(beta, dtype=float)
    for j in range(q):
        Y += Z[:, j] * effects[:, group, j]
    return Y.T
