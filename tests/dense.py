"""A fit's model as dense n × n matrices, for tests that compute from the definition."""

from typing import NamedTuple

import numpy as np


class Dense(NamedTuple):
    """y (n,), X (n, p), Z̃ (n, Gq), V = σ²W⁻¹ + Z̃ΣZ̃' (n, n), the covariance of b and of β̂."""

    y: np.ndarray
    X: np.ndarray
    Z: np.ndarray
    V: np.ndarray
    Sigma: np.ndarray  # (Gq, Gq)
    vcov: np.ndarray  # (p, p)


def dense(fit):
    """The matrices of a fit at its estimates; columns of Z̃ are group after group."""
    d, q = fit.design, len(fit.model.znames)
    Z = np.zeros((d.n, d.G * q))
    for j, g in enumerate(d.group):
        Z[j, g * q : (g + 1) * q] = d.Z[j]
    Sigma = np.kron(np.eye(d.G), fit.varcorr.cov.to_numpy())
    w = np.ones(d.n) if d.weights is None else d.weights
    V = Z @ Sigma @ Z.T + fit.sigma**2 * np.diag(1.0 / w)
    vcov = np.linalg.inv(d.X.T @ np.linalg.solve(V, d.X))
    return Dense(d.y, d.X, Z, V, Sigma, vcov)
