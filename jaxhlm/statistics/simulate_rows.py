"""Drawing responses from the model, row by row."""

from __future__ import annotations

from itertools import islice

import numpy as np

from jaxhlm.core.arguments import affordable, whole_number
from jaxhlm.core.notation import Floats, Ints
from jaxhlm.core.streams import Seed, Streams, random_key
from jaxhlm.linalg.factors import semidefinite_root

__all__ = ["simulate_rows"]

# Replicates that are drawn together, so that what is drawn stays in the cache.
IN_CACHE = 64


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
    given: Floats | None = None,
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
        given: (G, q) random effects that are the same in every replicate; those that are NaN are
            drawn.

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
    mean, Y = X @ np.asarray(beta, dtype=float), np.empty((n, len(X)))
    generators = Streams(random_key(seed)).generators(range(first, first + n))
    normals = np.empty((min(n, IN_CACHE), G * q + len(X)))
    for i in range(0, n, IN_CACHE):
        part = Y[i : i + IN_CACHE]
        for row, generator in zip(normals, islice(generators, len(part)), strict=False):
            generator.standard_normal(out=row)
        drawn = normals[: len(part)]
        effects = drawn[:, : G * q].reshape(len(drawn), G, q) @ root.T
        if given is not None:
            effects = np.where(np.isnan(given), effects, given)
        np.multiply(drawn[:, G * q :], scale, out=part)
        part += mean
        for j in range(q):
            part += Z[:, j] * effects[:, group, j]
    return Y.T
