"""The criterion of the model handed to the loop: its derivatives and the canonical form of θ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jaxhlm.likelihood.covariance import canonical
from jaxhlm.likelihood.lane_derivatives import lane_derivatives
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.linalg.small import array_namespace
from jaxhlm.optimise.loop import Evaluated, OptimizeResult, Stepper, minimise_lanes
from jaxhlm.optimise.options import Options

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from jaxhlm.core.notation import Array

__all__ = ["minimise_criterion"]


def minimise_criterion(
    stats: Stats,
    start: Float[Array, "k B"],
    stepper: Stepper,
    options: Options,
    max_iter: Int[Array, ""] | int,
    count: Int[Array, ""] | None = None,
) -> OptimizeResult:
    """Minimise the criterion of all lanes from ``start`` (k, B).

    ``count`` is the number of the groups that are there, as in ``lane_derivatives``.
    """
    blocks = options.blocks

    def derivatives(theta: Float[Array, "k B"]) -> Evaluated:
        d = lane_derivatives(theta, stats, options.reml, blocks, count)
        at = d.profile
        unknown = array_namespace(theta).full((2, theta.shape[-1]), np.nan, theta.dtype)
        aux = {"beta": at.beta, "pwrss": at.pwrss, "L_A": at.L_A, "F": d.F, "distances": unknown}
        return at.value, d.grad, d.hess, aux

    return minimise_lanes(
        derivatives,
        start,
        stepper,
        lambda theta: canonical(theta, blocks),
        options.tol,
        max_iter,
    )
