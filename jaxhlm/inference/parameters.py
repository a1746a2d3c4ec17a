"""All parameters of fits side by side: fixed effects, standard deviations, correlations, σ."""

from __future__ import annotations

import numpy as np

from jaxhlm.estimates import Estimates
from jaxhlm.inference.criteria import correlation, standard_errors
from jaxhlm.model import Model
from jaxhlm.notation import Floats

__all__ = ["parameter_names", "parameter_values", "random_names", "random_values"]


def parameter_names(model: Model) -> tuple[str, ...]:
    """Names such as ``Days``, ``sd__Days``, ``cor__(Intercept).Days``, ``sigma``."""
    return (*model.xnames, *random_names(model), "sigma")


def parameter_values(model: Model, estimates: Estimates) -> Floats:
    """(B, m) values in the order of ``parameter_names``."""
    random = random_values(model, estimates)
    return np.column_stack([estimates.beta, random, estimates.sigma])


def random_names(model: Model) -> tuple[str, ...]:
    """Names of the standard deviations, then of the correlations within each random term."""
    z = model.znames
    pairs = [f"cor__{z[a]}.{z[b]}" for a, b in _pairs(model)]
    return (*(f"sd__{name}" for name in z), *pairs)


def random_values(model: Model, estimates: Estimates) -> Floats:
    """(B, …) standard deviations and correlations; a correlation beside a zero variance is NaN."""
    corr = correlation(estimates.cov)
    pairs = [corr[:, a, b] for a, b in _pairs(model)]
    return np.column_stack([standard_errors(estimates.cov), *pairs])


def _pairs(model: Model) -> list[tuple[int, int]]:
    """Columns of Z that have a correlation."""
    return [(a, b) for block in model.blocks for i, a in enumerate(block) for b in block[i + 1 :]]
