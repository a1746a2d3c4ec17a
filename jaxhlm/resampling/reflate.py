"""Predicted random effects and residuals with the variances that the model estimates.

BLUPs are shrunken, so that resampling them as they are would draw from too narrow a distribution.
Carpenter, Goldstein & Rasbash (2003, Appl. Statist. 52, 431-443) centre and rescale
them first.
"""

from __future__ import annotations

import numpy as np

from jaxhlm.core.notation import Floats
from jaxhlm.errors import ResamplingError

__all__ = ["reflated_effects", "reflated_residuals"]

# Spherical effects whose covariance has a smaller ratio of eigenvalues do not span their space.
SPANNED = 1e-10


def reflated_effects(b: Floats, Lambda: Floats, sigma: float) -> Floats:
    """Random effects with mean zero and empirical covariance b*'b*/G = σ²ΛΛ', (G, q).

    With b_i = Λ u_i, u centred, and S = u'u/G = L_S L_S', b*_i = σ Λ L_S⁻¹ u_i. Where Λ is regular
    this is Carpenter et al.'s A = (L_R L_S⁻¹)' with Cholesky factors of both covariances of b;
    where a variance is zero, u has as many coordinates as Λ has columns that are not.

    Args:
        b: (G, q) BLUPs.
        Lambda: (q, q) relative covariance factor.
        sigma: residual standard deviation.

    Raises:
        ResamplingError: too few groups to span the random effects.

    Example:
        >>> b = np.array([[1.0], [2.0], [6.0]])
        >>> reflated_effects(b, np.array([[2.0]]), 3.0).ravel().round(3).tolist()
        [-5.555, -2.777, 8.332]
    """
    Lambda = Lambda[:, np.abs(Lambda).max(axis=0) > 0.0]
    u = np.linalg.lstsq(Lambda, b.T, rcond=None)[0].T
    u = u - u.mean(axis=0)
    S = u.T @ u / len(u)
    value = np.linalg.eigvalsh(S)
    if len(value) and value[0] <= SPANNED * value[-1]:
        raise ResamplingError(
            f"{len(b)} groups are too few to resample their random effects: the {len(value)} "
            "predicted effects depend on one another; use the parametric bootstrap"
        )
    return sigma * np.linalg.solve(np.linalg.cholesky(S), u.T).T @ Lambda.T


def reflated_residuals(e: Floats, sigma: float) -> Floats:
    """Residuals with mean zero and mean square σ².

    Args:
        e: (n,) residuals, multiplied by √w if there are weights.
        sigma: residual standard deviation.

    Example:
        >>> reflated_residuals(np.array([1.0, 2.0, 3.0, 6.0]), 2.0).round(3).tolist()
        [-2.138, -1.069, 0.0, 3.207]
    """
    e = e - e.mean()
    return e * (sigma / np.sqrt(np.mean(e**2)))
