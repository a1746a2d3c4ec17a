"""Where data sets are fitted: on devices, on the cores by the host path, or by workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from jaxhlm.core.devices import Devices, check_devices, chosen_devices
from jaxhlm.errors import OptionError
from jaxhlm.estimation.core_chunks import fitted_on_cores
from jaxhlm.estimation.device_chunks import fitted_on_devices
from jaxhlm.estimation.executors import Workers
from jaxhlm.estimation.pipeline import Fitted, all_or_nothing, fitted_runs, gather
from jaxhlm.estimation.program import DRAWN, Traceable
from jaxhlm.optimise.options import Options
from jaxhlm.sources.sources import Source
from jaxhlm.statistics.balanced import in_closed_form
from jaxhlm.storage.folder import Chunk

__all__ = ["Fitter", "Job", "Part", "fit_part", "fitter", "fitting_devices", "job_of", "part_of"]

# Runs that a task has at most, and tasks that each worker is to have at least.
MOST_RUNS, TASKS_OF_EACH = 8, 4

# Of fewer data sets than this, where no devices are asked for, compiling would take the longest.
WORTH_COMPILING = 100_000
# The same for the cores, which without compiling take a microsecond for a data set.
WORTH_COMPILING_FOR_CORES = 2_000_000

Fitter: TypeAlias = Callable[[Iterable[slice]], Iterator[Fitted]]


class Job(NamedTuple):
    """What all tasks share: see ``Source.shared``."""

    source: Source
    options: Options
    devices: Devices


class Part(NamedTuple):
    """What a task fits: consecutive runs, and of each what ``Source.own`` gives.

    Each by itself, so that the memory that they lie in, and the last bits of sums over it, are the
    same in whatever tasks.
    """

    runs: list[slice]
    own: list[Any]


def fitter(
    source: Source, options: Options, devices: Devices, workers: Workers | None = None
) -> Fitter:
    """What fits runs of the data sets of a source, in order, as parts that may end elsewhere.

    Args:
        source: the data sets.
        options: what to optimise.
        devices: as for ``fit_many``.
        workers: who fits them, if not this process; on devices of theirs.

    Raises:
        OptionError: ``devices`` that are not there, or not for such data sets, or single precision
            on the cores.
    """
    if workers is not None and workers.executor is not None:
        return partial(
            _fitted_by_workers, workers, source, job_of(source, options, devices, workers)
        )
    if chosen := fitting_devices(source, options, devices, workers):
        lanes = source.traceable
        assert lanes is not None
        return partial(fitted_on_devices, lanes, options, chosen)
    if devices is not None:
        what = "data sets with rows of their own, or with weights of their own,"
        if options.optimizer is not None:
            what = "fits by your optimizer"
        raise OptionError(f"devices={devices!r}: {what} run on the cores only; leave devices out")
    if options.precision != "float64":
        raise OptionError(
            f"precision={options.precision!r} is for devices: the cores fit these data sets in "
            "float64; give devices= too, or leave precision out"
        )
    if lanes := _worth_compiling_for_cores(source, options):
        return partial(fitted_on_cores, lanes, options)
    return partial(fitted_runs, source, options)


def _worth_compiling_for_cores(source: Source, options: Options) -> Traceable | None:
    """The data sets, if they are drawn as statistics, fitted in closed form, and millions."""
    lanes = source.traceable if source.B >= WORTH_COMPILING_FOR_CORES else None
    if lanes is None or lanes.reduction.kind != DRAWN or options.optimizer is not None:
        return None
    known = in_closed_form(lanes.reduction.prepared.equal, options.blocks)
    return lanes if known else None


def fitting_devices(
    source: Source, options: Options, devices: Devices, workers: Workers | None
) -> tuple[jax.Device, ...]:
    """The devices on which ``fitter`` fits in this process, none for the cores."""
    if workers is not None and workers.executor is not None:
        return ()
    chosen = chosen_devices(devices)
    few = devices is None and options.precision == "float64" and source.B < WORTH_COMPILING
    if chosen is None or few or options.optimizer is not None or source.traceable is None:
        return ()
    return chosen


def job_of(source: Source, options: Options, devices: Devices, workers: Workers) -> Job:
    """What tasks share that fit parts of a source.

    Raises:
        OptionError: ``devices`` that these workers cannot have.
    """
    check_devices(devices, workers.elsewhere)
    return Job(source.shared, options, devices)


def part_of(source: Source, runs: list[slice]) -> Part:
    """What a task needs that fits consecutive runs."""
    return Part(runs, [source.own(run) for run in runs])


@np.errstate(all="ignore")
def fit_part(job: Job, part: Part) -> Fitted:
    """A task: fit consecutive runs, wherever this is called."""
    with all_or_nothing():
        return gather(_fitted(job, part), part.runs[-1].stop - part.runs[0].start)


def _fitted(job: Job, part: Part) -> Iterator[Fitted]:
    source, options, devices = job
    if part.own[0] is None:
        return fitter(source.forgetful, options, devices)(part.runs)
    sources = (source.with_own(own).forgetful for own in part.own)
    return chain.from_iterable(fitter(one, options, devices)([slice(0, one.B)]) for one in sources)


def _fitted_by_workers(
    workers: Workers, source: Source, job: Job, runs: Iterable[slice]
) -> Iterator[Fitted]:
    tasks = {Chunk(0, some[0].start, some[-1].stop): some for some in _tasks(runs, workers.count)}
    return workers.in_order(fit_part, job, [*tasks], lambda chunk: part_of(source, tasks[chunk]))


def _tasks(runs: Iterable[slice], workers: int) -> Iterator[list[slice]]:
    """Consecutive runs that are fitted by one task."""
    runs = list(runs)
    most = min(MOST_RUNS, max(1, len(runs) // (TASKS_OF_EACH * workers)))
    some: list[slice] = []
    for run in runs:
        if some and (len(some) == most or some[-1].stop != run.start):
            yield some
            some = []
        some.append(run)
    if some:
        yield some
