"""What is measured: each workload a line of a table.

To change the way that one is fitted, change its ``run``.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

import jaxhlm as hlm
from bench import data
from bench.speed.workloads import checked
from jaxhlm.core.precision import jax_config_scope
from jaxhlm.estimation.estimates import Estimates
from jaxhlm.estimation.model import Model
from jaxhlm.estimation.pipeline import fit_lanes
from jaxhlm.estimation.program import chunk_program
from jaxhlm.optimise.options import Options
from jaxhlm.results.record import FitRecord
from jaxhlm.sources.inputs import response_input
from jaxhlm.sources.sources import ResponseMatrix

__all__ = ["WORKLOADS", "Workload", "nbytes"]

# Rows of so many drawn data sets are checked, and the statistics of so many fitted twice.
DRAWN_CHECKED = 1000


@dataclass(frozen=True)
class Workload:
    """How one workload is made, fitted and checked.

    Attributes:
        name: what it is called.
        fits: how many data sets it has at full size.
        prepare: inputs of so many data sets; not timed.
        run: inputs and ``devices=`` to results that are ready.
        check: inputs, results and ``devices=`` to the share that failed and ``excess``, the
            largest difference of a criterion to the NumPy reference.
        reads: bytes of the data that go in, which is what has to be read once.
        through: what bounds it: "device memory", "host memory" or the "bus".
        repeats: how often it is timed.
    """

    name: str
    fits: int
    prepare: Callable[[int], Any]
    run: Callable[[Any, Any], Any]
    check: Callable[[Any, Any, Any], dict[str, float]]
    reads: Callable[[Any], int]
    through: str
    repeats: int = 3


def nbytes(results: Any) -> int:
    """Bytes of all estimates."""
    arrays = vars(results.estimates) if isinstance(results, hlm.FitBatch) else results
    return sum(x.nbytes for x in jax.tree.leaves(arrays))


class Responses(NamedTuple):
    """Many responses on one design."""

    formula: str
    frame: pd.DataFrame
    Y: Any  # (n, B)


def article(B: int) -> Responses:
    return Responses(data.ARTICLE, *data.article(B))


def article_on_device(B: int) -> Responses:
    made = article(B)
    return made._replace(Y=on_device(made.Y))


def article_single(B: int) -> Responses:
    """Half the bytes; they are fitted in double precision."""
    made = article(B)
    return made._replace(Y=made.Y.astype(np.float32))


def schools(B: int) -> Responses:
    return Responses(data.SCHOOLS, *data.schools(B))


def missing(B: int) -> Responses:
    """A twentieth of all values is missing."""
    frame, Y = data.genes(B)
    Y[np.random.default_rng(7).random(Y.shape) < 0.05] = np.nan
    return Responses(data.GENES, frame, Y)


def on_device(Y: np.ndarray) -> jax.Array:
    with jax_config_scope():
        return jax.block_until_ready(jax.device_put(Y))


def fit_responses(made: Responses, devices: Any) -> hlm.FitBatch:
    return hlm.fit_many(*made, devices=devices, progress=False)


def fit_single(made: Responses, devices: Any) -> hlm.FitBatch:
    """Searched in single precision, which is for devices: on a CPU too."""
    devices = devices or len(jax.local_devices())
    return hlm.fit_many(*made, devices=devices, precision="float32", progress=False)


def check_fits(_: Any, fits: hlm.FitBatch, devices: Any) -> dict[str, float]:
    del devices
    return checked(fits)


class Program(NamedTuple):
    """Responses on the device, and the compiled function that fits all of them at once."""

    source: ResponseMatrix
    model: Model
    options: Options
    fit: Callable[[Any], Any]
    Y: jax.Array  # (n, B)


def article_program(B: int) -> Program:
    formula, frame, Y = article(B)
    source, _, model = response_input(formula, frame, Y, None, reml=True)
    options = Options(True, model.blocks)
    program = partial(chunk_program(source.traceable.reduction, options), ())
    return Program(source, model, options, jax.jit(program), on_device(Y))


def run_program(made: Program, devices: Any) -> Any:
    """Estimates, and for which data sets they are final; they stay on the device."""
    del devices
    with jax_config_scope():
        return jax.block_until_ready(made.fit(made.Y))


def check_program(made: Program, results: Any, devices: Any) -> dict[str, float]:
    """Of those that the program is final for; the library fits the others by the host path."""
    del devices
    arrays, final = jax.tree.map(np.array, results)
    lanes, d = np.flatnonzero(final), made.source.design
    sizes = np.full(len(lanes), d.n), np.full(len(lanes), d.G)
    estimates, index = Estimates(**arrays)[lanes], pd.RangeIndex(len(lanes))
    fits = FitRecord(made.model, estimates, index, *sizes, made.options, lanes, made.source)
    return {"final": float(final.mean()), **checked(hlm.FitBatch(fits))}


class Drawn(NamedTuple):
    """Data sets that are drawn as they are fitted."""

    model: Any
    truth: hlm.Truth | None
    n: int

    def simulated(self, n: int, statistics: bool = True) -> Any:
        return hlm.simulate(self.model, self.truth, n, seed=1, statistics=statistics)


def drawn_article(n: int) -> Drawn:
    return Drawn(hlm.design(data.ARTICLE, hlm.load_dataset("article")), data.TRUTH, n)


def drawn_schools(n: int) -> Drawn:
    return Drawn(hlm.fit(data.SCHOOLS, hlm.load_dataset("math_achieve")), None, n)


def fit_drawn(made: Drawn, devices: Any) -> hlm.FitBatch:
    return made.simulated(made.n).fit(devices=devices, progress=False)


def check_drawn(made: Drawn, fits: hlm.FitBatch, devices: Any) -> dict[str, float]:
    """Statistics have no rows, so rows of the same truth are checked against the reference.

    The statistics are checked against the host path, which draws the same ones again.
    """
    n = min(made.n, DRAWN_CHECKED)
    rows = made.simulated(n, statistics=False).fit(devices=devices, progress=False)
    found = {**checked(rows), **checked(fits, rows=False)}
    again = fit_lanes(replace(fits.source, n=n), fits.record.options).estimates
    apart = np.abs(again.criterion - fits.criterion.to_numpy()[:n])
    return {**found, "excess": float(np.fmax(found["excess"], np.nanmax(apart)))}


def fit_drawn_single(made: Drawn, devices: Any) -> hlm.FitBatch:
    devices = devices or len(jax.local_devices())
    return made.simulated(made.n).fit(devices=devices, precision="float32", progress=False)


def fit_replicates(frame: pd.DataFrame, devices: Any) -> hlm.FitBatch:
    """On the cores, the only way for data sets with rows of their own."""
    del devices
    return hlm.fit_many("y " + data.ARTICLE, frame, by="replicate", progress=False)


def size_of(made: Responses | Program) -> int:
    return int(made.Y.nbytes)


def frame_size(frame: pd.DataFrame) -> int:
    return int(frame.memory_usage(index=False).sum())


def no_data(_: Drawn) -> int:
    return 0


PUBLIC = fit_responses, check_fits, size_of
PROGRAM = run_program, check_program, size_of
SINGLE = fit_single, check_fits, size_of
DRAWN = fit_drawn, check_drawn, no_data
DRAWN_SINGLE = fit_drawn_single, check_drawn, no_data
APART = fit_replicates, check_fits, frame_size

WORKLOADS = {
    w.name: w
    for w in (
        Workload("article", 200_000, article, *PUBLIC, "bus"),
        Workload("article float32", 200_000, article_single, *PUBLIC, "bus"),
        Workload("article on device", 200_000, article_on_device, *PUBLIC, "device memory"),
        Workload("article program", 200_000, article_program, *PROGRAM, "device memory"),
        Workload("drawn 1e6", 1_000_000, drawn_article, *DRAWN, "bus"),
        Workload("drawn 1e7", 10_000_000, drawn_article, *DRAWN, "bus", repeats=1),
        Workload("schools", 20_000, schools, *PUBLIC, "bus"),
        Workload("schools float32", 20_000, schools, *SINGLE, "bus"),
        Workload("drawn schools", 100_000, drawn_schools, *DRAWN, "bus", repeats=1),
        Workload("drawn schools float32", 100_000, drawn_schools, *DRAWN_SINGLE, "bus", repeats=1),
        Workload("missing", 20_000, missing, *PUBLIC, "bus"),
        Workload("replicates", 10_000, data.replicates, *APART, "host memory"),
    )
}
