"""Very many data sets that are drawn and fitted in closed form, as the cores do it.

The host path takes such data sets through NumPy, array by array. By the program of all stages, tile
by tile, they take less than half the time, which makes up for the seconds of compilation
once there are millions of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np

from jaxhlm.core.chunks import MAX_LANES, CompiledByOne, in_order
from jaxhlm.core.precision import jax_config_scope
from jaxhlm.estimation.device_chunks import Fitting, finished
from jaxhlm.estimation.pipeline import Fitted
from jaxhlm.estimation.program import Traceable
from jaxhlm.optimise.options import Options

__all__ = ["fitted_on_cores"]

# Data sets whose arrays stay in the cache; a chunk of the cores is a whole number of tiles.
TILE_LANES = MAX_LANES // 12


def fitted_on_cores(lanes: Traceable, options: Options, runs: Iterable[slice]) -> Iterator[Fitted]:
    """Runs of data sets, in order, as the compiled program fits them on all cores.

    The host path fits those that the program is not final for.

    Args:
        lanes: the data sets, which come from their numbers (B,).
        options: what to optimise.
        runs: which data sets.
    """
    work = Fitting(lanes.reduction, options)

    def one(run: slice) -> Fitted:
        numbers = lanes.argument(run)
        numbers = np.pad(numbers, (0, -len(numbers) % MAX_LANES), mode="edge")
        with jax_config_scope():
            found = _program((numbers.shape, work), lanes.shared, numbers, work)
            arrays, final = jax.tree.map(np.asarray, found)
        size = run.stop - run.start
        return finished(lanes, options, run, {k: x[:size] for k, x in arrays.items()}, final[:size])

    return in_order(one, runs)


def _in_tiles(shared: Any, numbers: Any, work: Fitting) -> Any:
    program = work.program()
    found = jax.lax.map(lambda tile: program(shared, tile), numbers.reshape(-1, TILE_LANES))
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), found)


_program = CompiledByOne(_in_tiles, static_argnames="work")
