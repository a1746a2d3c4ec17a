"""Chunks of data sets shared out among devices, the next under way while one is fetched."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxhlm.core.chunks import CHUNK_BYTES, CompiledByOne
from jaxhlm.core.notation import Bools
from jaxhlm.core.precision import jax_config_scope
from jaxhlm.errors import DeviceError, DeviceMemoryWarning, warn_user
from jaxhlm.estimation.estimates import Estimates, estimate_bytes
from jaxhlm.estimation.pipeline import Fitted, all_or_nothing, fit_lanes
from jaxhlm.estimation.program import Reduction, Traceable, chunk_program
from jaxhlm.linalg.small import array_namespace
from jaxhlm.optimise.options import Options

__all__ = ["Fitting", "Work", "finished", "fitted_on_devices", "on_devices"]

# The part of a device's memory that a chunk may take: two are under way, and what XLA keeps.
MEMORY_SHARE = 0.25
# Data sets that a device is given at a time; more gain nothing and hold back the first results.
FEWEST, MOST = 128, 2**20
# What the estimates of a data set take, in copies, while it is fitted.
COPIES = 16
# What is made on the host for all devices together, and goes up at a time.
HOST_BYTES = 2**30
UNDER_WAY = 2
LANES = "lanes"


class Work(Protocol):
    """What devices do with data sets; equal to another that does the same."""

    @property
    def reduction(self) -> Reduction:
        """How data sets are reduced."""
        ...

    def program(self) -> Callable[..., tuple[Any, Any]]:
        """A traceable function of what ``Traceable`` shares and gives, and of arrays (B, …).

        It returns arrays (B, …), and which data sets (B,) they are final for.
        """
        ...


class Fitting(NamedTuple):
    """Estimates of data sets."""

    reduction: Reduction
    options: Options

    def program(self) -> Callable[..., tuple[Any, Any]]:
        """Those of ``chunk_program``."""
        return chunk_program(self.reduction, self.options)


def fitted_on_devices(
    lanes: Traceable,
    options: Options,
    devices: tuple[jax.Device, ...],
    runs: Iterable[slice],
) -> Iterator[Fitted]:
    """Runs of data sets, in order, as devices fit them; parts end where chunks of devices do.

    The host path fits those that the program is not final for.

    Args:
        lanes: the data sets.
        options: what to optimise.
        devices: among which every chunk is shared out in equal parts.
        runs: which data sets; consecutive ones of several runs are fitted together.

    Raises:
        DeviceError: a device was lost, or has no memory for the least that it is given.
    """
    work = Fitting(lanes.reduction, options)
    for run, arrays, final in on_devices(lanes, work, devices, runs):
        yield finished(lanes, options, run, arrays, final)


def finished(
    lanes: Traceable, options: Options, run: slice, arrays: dict[str, Any], final: Bools
) -> Fitted:
    """What the program made of a run, and of what it is not final for the fits of the host path.

    Args:
        lanes: the data sets.
        options: what to optimise.
        run: which of them.
        arrays, final: what ``chunk_program`` gives.
    """
    stats, found = lanes.reduction.prepared.matrices.stats, Estimates(**arrays)
    nobs, ngroups = (np.full(len(final), int(x)) for x in (stats.n[0], stats.m.sum()))
    rest = np.flatnonzero(~final)
    if len(rest):
        with all_or_nothing():
            again = fit_lanes(lanes.again(run.start + rest), options)
        found = found.replaced(rest, again.estimates)
        nobs[rest], ngroups[rest] = again.nobs, again.ngroups
    return Fitted(found, nobs, ngroups)


def _joined(runs: Iterable[slice]) -> deque[slice]:
    """Runs that follow on one another as one."""
    joined: deque[slice] = deque()
    for run in runs:
        follows = joined and joined[-1].stop == run.start
        joined.append(slice(joined.pop().start if follows else run.start, run.stop))
    return joined


def on_devices(
    lanes: Traceable,
    work: Work,
    devices: tuple[jax.Device, ...],
    runs: Iterable[slice],
    own: Callable[[slice], tuple[Any, ...]] = lambda run: (),
) -> Iterator[tuple[slice, Any, Any]]:
    """Chunks of data sets, in order, what devices made of them, and what of it is final.

    Args:
        lanes: the data sets.
        work: what is done with them.
        devices, runs: as for ``fitted_on_devices``.
        own: arrays (b, …) that the program takes of consecutive data sets beside them.

    Raises:
        DeviceError: as for ``fitted_on_devices``.
    """
    left = _joined(runs)
    each = _lanes_per_device(lanes, max(run.stop - run.start for run in left), devices)
    pending: deque[tuple[slice, Any]] = deque()
    halved = False
    while left or pending:
        try:
            while left and len(pending) < UNDER_WAY:
                run, rest = _split(left[0], each * len(devices))
                pending.append((run, _started(lanes, work, run, each, devices, own(run))))
                left.popleft()
                left.extendleft(rest)
            arrays, final = jax.tree.map(np.array, pending[0][1])
        except jax.errors.JaxRuntimeError as error:
            if not _out_of_memory(error) or each == FEWEST:
                raise DeviceError(_failed(error, devices)) from error
            if not halved:
                warn_user(
                    f"a device has no memory for {each} data sets at a time; they are halved until "
                    "they fit",
                    DeviceMemoryWarning,
                )
            each, halved = max(FEWEST, each // 2), True
            left.extendleft(run for run, _ in reversed(pending))
            pending.clear()
            continue
        run, _ = pending.popleft()
        size = run.stop - run.start
        yield run, jax.tree.map(lambda x, size=size: x[:size], arrays), final[:size]


def _split(run: slice, most: int) -> tuple[slice, list[slice]]:
    """The first ``most`` data sets of a run, and what is left of it."""
    stop = min(run.start + most, run.stop)
    return slice(run.start, stop), [slice(stop, run.stop)] if stop < run.stop else []


def _out_of_memory(error: Exception) -> bool:
    return "RESOURCE_EXHAUSTED" in str(error)


def _failed(error: Exception, devices: tuple[jax.Device, ...]) -> str:
    """What is said of devices that do not go on."""
    names = ", ".join(map(str, devices))
    if _out_of_memory(error):
        return f"{names}: no memory for {FEWEST} data sets at a time"
    return f"fitting on {names} failed: {str(error).partition(chr(10))[0]}"


def _started(
    lanes: Traceable,
    work: Work,
    run: slice,
    each: int,
    devices: tuple[jax.Device, ...],
    own: tuple[Any, ...],
) -> Any:
    """A chunk under way, filled up to its full size with copies of its last data set."""
    argument = lanes.argument(run)
    more = (0, each * len(devices) - argument.shape[-1])
    with jax_config_scope():
        argument = _padded(argument, more, argument.ndim - 1)
        placed = jax.device_put(argument, _sharding(devices, _spec(argument.ndim)))
        first = _sharding(devices, PartitionSpec(LANES))
        beside = tuple(jax.device_put(_padded(x, more, 0), first) for x in own)
        shared = jax.device_put(lanes.shared, _sharding(devices, PartitionSpec()))
        key = argument.shape, work, devices
        return _program(key, shared, placed, beside, work, devices)


def _padded(x: Any, more: tuple[int, int], axis: int) -> Any:
    """An array with copies of the last along an axis."""
    widths = [more if i == axis else (0, 0) for i in range(x.ndim)]
    return array_namespace(x).pad(x, widths, mode="edge")


def _shared_out(
    shared: Any, argument: Any, beside: Any, work: Work, devices: tuple[jax.Device, ...]
) -> Any:
    """The program, each device with data sets of its own: none waits for another."""
    own = PartitionSpec(LANES)
    program = jax.shard_map(
        work.program(),
        mesh=_mesh(devices),
        in_specs=(PartitionSpec(), _spec(argument.ndim), *[own] * len(beside)),
        out_specs=(own, own),
        check_vma=False,
    )
    return program(shared, argument, *beside)


_program = CompiledByOne(_shared_out, static_argnames=("work", "devices"))


def _lanes_per_device(lanes: Traceable, B: int, devices: tuple[jax.Device, ...]) -> int:
    """A power of two, so that few sizes are compiled, within the memory and what there is to do."""
    argument, share = lanes.argument(slice(0, 1)), -(-B // len(devices))
    memory = devices[0].memory_stats() or {}
    most = int(MEMORY_SHARE * memory["bytes_limit"]) if "bytes_limit" in memory else CHUNK_BYTES
    design = lanes.reduction.prepared.design
    taken = COPIES * estimate_bytes(design.p, design.q) + lanes.reduction.prepared.lane_bytes
    fitting = min(most // (taken + 2 * argument.nbytes), MOST)
    if isinstance(argument, np.ndarray):
        fitting = min(fitting, HOST_BYTES // (argument.nbytes * len(devices)))
    fitting = 2 ** int(np.log2(max(FEWEST, fitting)))
    return int(min(fitting, max(FEWEST, 2 ** (share - 1).bit_length())))


def _mesh(devices: tuple[jax.Device, ...]) -> Mesh:
    return Mesh(np.array(devices), (LANES,))


def _spec(ndim: int) -> PartitionSpec:
    return PartitionSpec(*[None] * (ndim - 1), LANES)


def _sharding(devices: tuple[jax.Device, ...], spec: PartitionSpec) -> NamedSharding:
    return NamedSharding(_mesh(devices), spec)
