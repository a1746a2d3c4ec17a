"""The minima of many lanes, compiled; the one module below ``fit`` that needs optax."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import jax

from jaxhlm.core.chunks import CompiledByOne
from jaxhlm.likelihood.deviance import deviance
from jaxhlm.likelihood.lanes import mappable, unrollable
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.optimise.blocks import in_blocks
from jaxhlm.optimise.loop import MAX_ITER, Minimum
from jaxhlm.optimise.minimum import NEWTON, Options, lane_minimum
from jaxhlm.optimise.newton import stepper
from jaxhlm.optimise.scores import traced_score_sums
from jaxhlm.optimise.start import started

__all__ = ["Sizes", "compiled_minimum", "traced_minimum"]


class Sizes(NamedTuple):
    """What is traced, so that rounds of a fit, and fits of other sizes, share one compilation."""

    groups: Any  # () how many of the groups are there
    lanes: Any  # () how many of the lanes are
    max_iter: Any  # () largest number of evaluations


def compiled_minimum(stats: Stats, start: Any, sizes: Sizes, options: Options) -> Minimum:
    """``traced_minimum``, compiled once for each shape and choice of options."""
    options = replace(options, max_iter=MAX_ITER)
    key = (*(x.shape for x in stats), start.shape, options)
    blocked = options.optimizer is None and unrollable(stats) and jax.default_backend() == "cpu"
    if blocked and key not in _refused:
        try:
            return _in_blocks(key, stats, start, sizes, options)
        except jax.errors.JaxRuntimeError as error:
            if "UNIMPLEMENTED" not in str(error):
                raise
            _refused.add(key)
    return _at_once(key, stats, start, sizes, options)


def traced_minimum(stats: Stats, start: Any, sizes: Sizes, options: Options) -> Minimum:
    """Minima of all lanes from ``start`` (k, B), NaN for moment estimates; traceable."""
    lanes, axes = mappable(stats)

    def value(theta: Any, one: Stats) -> Any:
        return deviance(theta, one, options.reml, options.blocks)

    steps = stepper(options.optimizer, value, lanes, axes)
    start = started(stats, start, options.blocks)
    return lane_minimum(stats, start, steps, options, sizes.max_iter, sizes.groups)


def _blocked_minimum(stats: Stats, start: Any, sizes: Sizes, options: Options) -> Minimum:
    """``traced_minimum`` in blocks of lanes."""

    def minimum(stats: Stats, start: Any) -> Minimum:
        found = lane_minimum(stats, start, NEWTON, options, sizes.max_iter, sizes.groups)
        return _with_scores(found, stats, sizes, options)

    return in_blocks(minimum, stats, started(stats, start, options.blocks), sizes.lanes)


def _with_scores(found: Minimum, stats: Stats, sizes: Sizes, options: Options) -> Minimum:
    """A minimum with the scores of its groups, which a known one is not asked for."""
    beta, pwrss = found.aux["beta"], found.aux["pwrss"]

    def scores() -> Any:
        at = found.theta, beta, pwrss, options.reml, options.blocks
        return traced_score_sums(stats, *at, sizes.groups)

    sums = jax.lax.cond(sizes.max_iter > 1, scores, lambda: found.aux["scores"])
    return found._replace(aux={**found.aux, "scores": sums})


_in_blocks = CompiledByOne(_blocked_minimum, static_argnames="options")
_at_once = CompiledByOne(traced_minimum, static_argnames="options")
# Programs that XLA does not compile to one function.
_refused: set[Any] = set()
