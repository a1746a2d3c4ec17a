"""What users hand to the pure functions: types and shapes, which are known when traced as well."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxhlm.errors import OptionError, ResponseShapeError
from jaxhlm.likelihood.covariance import Blocks, block_of
from jaxhlm.likelihood.suffstats import Stats

__all__ = ["check_shape", "check_stats", "checked_blocks"]


def check_shape(name: str, values: Any, shape: tuple[int, ...], what: str) -> None:
    """Refuse an array of another shape than ``shape``, which is that of ``what``.

    Raises:
        ResponseShapeError: it has another.
    """
    if np.shape(values) != shape:
        raise ResponseShapeError(f"{name} has shape {np.shape(values)}; give {shape}: {what}")


def checked_blocks(stats: Stats, blocks: Blocks | None) -> Blocks:
    """Blocks of columns of Z, one of all of them if None, of statistics that fit each other.

    Raises:
        OptionError: ``stats`` are no ``Stats``, or the blocks do not hold every column once.
        ResponseShapeError: the fields of the statistics do not have the shapes of one data set.
    """
    if not isinstance(stats, Stats):
        raise OptionError(f"stats is {type(stats).__name__!r}; give what hlm.suffstats returns")
    check_stats(stats)
    q = stats.RZ.shape[-1]
    if blocks is None:
        return block_of(q)
    try:
        found = tuple(tuple(int(column) for column in block) for block in blocks)
    except (TypeError, ValueError):
        found = ()
    if sorted(column for block in found for column in block) != list(range(q)):
        raise OptionError(
            f"blocks={blocks!r} must hold every column of Z, 0 … {q - 1}, once: "
            f"{block_of(q)} for one covariance of all, {tuple((j,) for j in range(q))} for none"
        )
    return found


def check_stats(stats: Stats) -> None:
    """Refuse statistics whose fields are not those of one data set."""
    shape = np.shape(stats.TX)
    if len(shape) == 3:
        G, q, p = shape
        wanted = Stats(
            RZ=(G, q, q), TX=shape, Ty=(G, q), m=(G,), XX=(p, p), Xy=(p,), yy=(), n=(), logw=(),
            rank=(),
        )  # fmt: skip
        wrong = [
            f"{name} {np.shape(x)} instead of {want}"
            for name, x, want in zip(Stats._fields, stats, wanted, strict=True)
            if np.shape(x) != want
        ]
    else:
        wrong = [f"TX {shape} instead of (G, q, p)"]
    if wrong:
        raise ResponseShapeError(
            f"the statistics of one data set do not have these shapes: {', '.join(wrong)}; many "
            "data sets are mapped over: jax.vmap(function)(stats)"
        )
