"""Parameters to simulate from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jaxhlm.errors import OptionError
from jaxhlm.notation import Floats

__all__ = ["Truth"]

SEMIDEFINITE_TOL = 1e-10


@dataclass(frozen=True, eq=False)
class Truth:
    """True values of the parameters of a model.

    Attributes:
        beta: (p,) fixed effects, a sequence in the order of the columns, or a mapping by term.
        cov: (q, q) covariance Σ of the random effects.
        sigma: residual standard deviation.

    Raises:
        OptionError: Σ is not symmetric positive semi-definite, or σ is negative.

    Example:
        >>> truth = Truth.of(beta=[1.0, 3.0], sd=[0.2, 0.5], corr=0.9, sigma=0.75)
        >>> truth.cov.round(3).tolist()
        [[0.04, 0.09], [0.09, 0.25]]
    """

    beta: Sequence[float] | Mapping[str, float] | Floats
    cov: Floats
    sigma: float

    def __post_init__(self) -> None:
        """Check that such a distribution exists."""
        cov = np.atleast_2d(np.asarray(self.cov, dtype=float))
        object.__setattr__(self, "cov", cov)
        if cov.shape[0] != cov.shape[1] or not np.allclose(cov, cov.T):
            raise OptionError(f"cov must be a symmetric matrix, not of shape {cov.shape}")
        smallest = np.linalg.eigvalsh(cov)[0]
        if smallest < -SEMIDEFINITE_TOL * max(np.abs(cov).max(), 1e-300):
            raise OptionError(
                f"cov is not positive semi-definite (smallest eigenvalue {smallest:.3g}): "
                "no random effects have these variances and correlations; bring the correlations "
                "closer to zero"
            )
        if not self.sigma >= 0.0:
            raise OptionError(f"sigma={self.sigma!r} must not be negative")

    @staticmethod
    def of(
        beta: Sequence[float] | Mapping[str, float],
        sd: Sequence[float],
        corr: float | Floats = 0.0,
        sigma: float = 1.0,
    ) -> Truth:
        """From standard deviations and a correlation (q = 2), or a (q, q) correlation matrix."""
        scale = np.asarray(sd, dtype=float)
        matrix = np.asarray(corr, dtype=float)
        if matrix.ndim == 0:
            matrix = np.full((len(scale), len(scale)), float(corr))
            np.fill_diagonal(matrix, 1.0)
        return Truth(beta, np.outer(scale, scale) * matrix, sigma)

    def fixed(self, terms: Sequence[str]) -> Floats:
        """(p,) fixed effects in the order of ``terms``.

        Raises:
            OptionError: a term is missing or unknown, or their number is wrong.
        """
        if isinstance(self.beta, Mapping):
            if set(self.beta) != set(terms):
                odd = sorted(set(self.beta) ^ set(terms))
                raise OptionError(
                    f"beta and the model differ in {', '.join(odd)}; the model has "
                    + ", ".join(terms)
                )
            return np.array([self.beta[t] for t in terms], dtype=float)
        beta = np.asarray(self.beta, dtype=float)
        if beta.shape != (len(terms),):
            raise OptionError(
                f"beta has {beta.size} value(s), the model {len(terms)}: {', '.join(terms)}"
            )
        return beta
