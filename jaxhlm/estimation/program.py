"""All stages from responses to estimates as one compiled function of a chunk of data sets.

    reduce → standardise → equal groups → start → minimum → estimates

are the functions that the host path calls, given JAX arrays. Left to the host path are sums of
squares that cancel, a minimum on the boundary of an unbalanced design, lanes where a lower minimum
may be, and the scan of models with one random effect: the program says which lanes it is final for.
The library fits by the host path, which is the faster on CPUs; this is the one for devices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxhlm.core.precision import own_rules
from jaxhlm.core.status import Status
from jaxhlm.estimation.estimates import Estimates, estimate_arrays
from jaxhlm.estimation.pipeline import Prepared, fit_standard
from jaxhlm.likelihood.covariance import on_boundary, theta_index
from jaxhlm.optimise.criterion import minimise_criterion
from jaxhlm.optimise.distances import traced_distance_sums
from jaxhlm.optimise.loop import NEWTON
from jaxhlm.optimise.options import Options
from jaxhlm.optimise.search import search_needed
from jaxhlm.optimise.solve import Solution
from jaxhlm.optimise.start import started
from jaxhlm.statistics.response import respond_once

if TYPE_CHECKING:
    from jaxtyping import Float

    from jaxhlm.core.notation import Array

__all__ = ["fit_by_program", "responses_program"]

Program = Callable[[Any], tuple[dict[str, Any], Any]]


def responses_program(prepared: Prepared, options: Options) -> Program:
    """A jitted function of responses (n, B): estimates, and for which lanes they are final.

    Args:
        prepared: the design.
        options: what to optimise; not an optimiser of the user's.
    """
    matrices, equal, blocks = prepared.matrices, prepared.equal, options.blocks

    def program(Y: Any) -> tuple[dict[str, Any], Any]:
        standard, grams, precise = respond_once(matrices, prepared.by_group_order(Y), equal)
        reduced = prepared.joined(standard, grams)
        stats, start = reduced.standard.stats, reduced.start(options)
        known = start is not None
        if not known:
            start = started(
                stats, jnp.full((len(theta_index(blocks)), Y.shape[1]), jnp.nan), blocks
            )
        found = minimise_criterion(stats, start, NEWTON, options, options.max_iter)
        lowest = found.converged
        if not known:
            at = found.theta, found.aux["beta"], found.aux["pwrss"], options.reml, blocks
            distances = traced_distance_sums(stats, *at, len(stats.m))
            lowest &= ~search_needed(stats, found, distances, options.reml)
            lowest &= ~on_boundary(found.theta, blocks)
            # With one random effect the host scans the whole range, whatever the data.
            lowest &= stats.RZ.shape[2] > 1
        unfit = standard.status != Status.CONVERGED
        arrays = estimate_arrays(Solution.of(found), reduced.standard, options)
        return arrays, precise & (lowest | unfit)

    return jax.jit(program)


def fit_by_program(
    program: Program, prepared: Prepared, Y: Float[Array, "n B"], options: Options
) -> Estimates:
    """Estimates of responses (n, B): the program's, and the host path's where it is not final.

    Args:
        program: the ``responses_program`` of the design.
        prepared: the design.
        Y: (n, B) responses, rows as in the design.
        options: what to optimise.
    """
    with own_rules():
        arrays, final = program(Y)
        found = Estimates(**{name: np.array(x) for name, x in arrays.items()})
    rest = np.flatnonzero(~np.asarray(final))
    if not len(rest):
        return found
    again = prepared.reduced(np.asarray(Y)[:, rest])
    return found.replaced(rest, fit_standard(again.standard, options, again.start(options)))
