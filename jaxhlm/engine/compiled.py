"""The minima of many lanes, compiled; the one module below ``fit`` that needs optax."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax

from jaxhlm.deviance import deviance
from jaxhlm.engine.chunks import CompiledByOne
from jaxhlm.engine.lanes import mappable
from jaxhlm.engine.loop import MAX_ITER, Minimum
from jaxhlm.engine.minimum import Options, lane_minimum
from jaxhlm.optimise import stepper
from jaxhlm.suffstats import Stats

__all__ = ["compiled_minimum", "traced_minimum"]


def compiled_minimum(
    stats: Stats, start: Any, max_iter: int, options: Options, count: int
) -> Minimum:
    """``traced_minimum``, compiled once for each shape and choice of options."""
    options = replace(options, max_iter=MAX_ITER)
    key = (*(x.shape for x in stats), start.shape, options)
    return _by_one(key, stats, start, max_iter, options, count)


def traced_minimum(
    stats: Stats, start: Any, max_iter: Any, options: Options, count: Any = None
) -> Minimum:
    """Minima of all lanes from ``start`` (k, B), NaN for moment estimates; traceable."""
    lanes, axes = mappable(stats)

    def value(theta: Any, one: Stats) -> Any:
        return deviance(theta, one, options.reml, options.blocks)

    steps = stepper(options.optimizer, value, lanes, axes)
    return lane_minimum(stats, start, steps, options, max_iter, count)


# max_iter and count are traced, so that the rounds of a fit, and fits of other numbers of groups,
# share one compilation.
_by_one = CompiledByOne(jax.jit(traced_minimum, static_argnames="options"))
