"""All stages from data sets to estimates as one compiled function of a chunk of data sets.

    draw, or reduce → standardise → equal groups → start → minimum → estimates

are the functions that the host path calls, given JAX arrays. Left to the host path are sums of
squares that cancel, a minimum on the boundary of an unbalanced design, lanes where a lower minimum
may be, and the scan of models with one random effect: the program says which lanes it is final for.
The host path is the faster on CPUs for all but data sets that are drawn and fitted in closed form;
the program is for devices, and for millions of those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxhlm.core.chunks import lane_chunks
from jaxhlm.core.notation import Ints
from jaxhlm.core.status import Status
from jaxhlm.design.identified import identified
from jaxhlm.estimation.estimates import estimate_arrays
from jaxhlm.estimation.pipeline import Chunks, Prepared, Reduced
from jaxhlm.likelihood.covariance import on_boundary, theta_index
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.optimise.criterion import minimise_criterion
from jaxhlm.optimise.distances import traced_distance_sums
from jaxhlm.optimise.loop import NEWTON, OptimizeResult
from jaxhlm.optimise.options import Options
from jaxhlm.optimise.search import search_needed
from jaxhlm.optimise.solve import Solution
from jaxhlm.optimise.start import started

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from jaxhlm.core.notation import Array

__all__ = [
    "DRAWN",
    "Program",
    "Reduction",
    "Some",
    "Traceable",
    "chunk_program",
    "traceable_responses",
]

# Newton decrement at which a search in single precision ends, and the evaluations in double that
# then decide; two or three do.
SINGLE_TOL = 1e-7
DECIDING = 5

# The kind of data sets that come from their numbers, drawn as statistics.
DRAWN = "drawn"

Program = Callable[[Any, Any], tuple[dict[str, Any], Any]]


@dataclass(frozen=True, eq=False)
class Reduction:
    """What a program is compiled for; equal to another that does the same with an equal design.

    Attributes:
        prepared: the design.
        reduce: shared arrays and what data sets come from, reduced, and which are precise.
        kind: tells reductions on one design apart.
    """

    prepared: Prepared
    reduce: Callable[[Any, Any], tuple[Reduced, Any]]
    kind: str

    def __eq__(self, other: object) -> bool:
        """Whether another does the same."""
        return isinstance(other, Reduction) and self._does == other._does

    def __hash__(self) -> int:
        """As ``==``."""
        return hash(self._does)

    @property
    def _does(self) -> tuple[str, bytes]:
        return self.kind, self.prepared.digest


class Traceable(NamedTuple):
    """Data sets on one design, as a compiled program is given them."""

    reduction: Reduction
    shared: Any  # arrays that all data sets share
    argument: Callable[[slice], Any]  # what consecutive data sets come from, (…, B)
    again: Callable[[Ints], Chunks]  # some of the data sets for the host path


def traceable_responses(
    prepared: Prepared, responses: Callable[[slice], Any], again: Callable[[Ints], Chunks]
) -> Traceable:
    """Responses (n, B) on the rows of a design; arguments as in ``Traceable``."""
    reduction = Reduction(prepared, lambda _, Y: prepared.traced(Y.astype(float)), "responses")
    return Traceable(reduction, (), responses, again)


class Some(NamedTuple):
    """Some data sets of a source, in increasing order, as ``fit_lanes`` takes them."""

    lane_index: Ints
    reduce: Callable[[Ints], Reduced]
    lane_bytes: int

    def runs(self) -> Iterator[slice]:
        """Runs of them that are reduced together."""
        return lane_chunks(len(self.lane_index), self.lane_bytes)

    def reduced(self, lane_slice: slice) -> Iterator[Reduced]:
        """Some of them."""
        yield self.reduce(self.lane_index[lane_slice])


def chunk_program(reduction: Reduction, options: Options) -> Program:
    """A function of what ``Traceable`` shares and gives: estimates, and which are final.

    Args:
        reduction: how the data sets are reduced.
        options: what to optimise; not an optimiser of the user's.
    """
    # What the host path finds once, of the design.
    known = bool(identified(reduction.prepared.matrices.stats, options.blocks, options.reml).all())

    def program(shared: Any, argument: Any) -> tuple[dict[str, Any], Any]:
        reduced, precise = reduction.reduce(shared, argument)
        solution = reduced.minimum(options)
        if solution is None:
            found, lowest = _descended(reduced.standardised.stats, options)
            solution = Solution.of(found)
        else:
            lowest = solution.converged
        unfit = reduced.standardised.status != Status.CONVERGED
        arrays = estimate_arrays(solution, reduced.standardised, options)
        return arrays, precise & (lowest & known | unfit)

    return program


def _descended(stats: Stats, options: Options) -> tuple[OptimizeResult, Bool[Array, " B"]]:
    """Minima from moment estimates, and which are known to be the lowest."""
    unknown: Float[Array, "k B"] = jnp.full(
        (len(theta_index(options.blocks)), stats.num_lanes), jnp.nan
    )
    start = started(stats, unknown, options.blocks)
    found = _searched(stats, start, options)
    at = found.theta, found.aux["beta"], found.aux["pwrss"], options.reml, options.blocks
    distances = traced_distance_sums(stats, *at, len(stats.m))
    lowest = found.converged & ~search_needed(stats, found, distances, options.reml)
    lowest &= ~on_boundary(found.theta, options.blocks)
    # With one random effect the host scans the whole range, whatever the data.
    return found, lowest & (stats.RZ.shape[2] > 1)


def _searched(stats: Stats, start: Float[Array, "k B"], options: Options) -> OptimizeResult:
    """Minima from ``start``, found in the precision asked for and decided in double precision.

    A lane that single precision cannot evaluate is decided from its start.
    """
    if options.precision == "float64":
        return minimise_criterion(stats, start, NEWTON, options, options.max_iter)
    single, first = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), (stats, start))
    loose = replace(options, tol=max(options.tol, SINGLE_TOL))
    rough = minimise_criterion(single, first, NEWTON, loose, options.max_iter)
    theta = jnp.where(jnp.isfinite(rough.value), rough.theta, start)
    most = min(options.max_iter, DECIDING)
    found = minimise_criterion(stats, theta, NEWTON, options, most)
    return found._replace(iterations=rough.iterations + found.iterations)
