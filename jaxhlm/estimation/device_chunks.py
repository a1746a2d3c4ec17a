"""Chunks of data sets shared out among devices, the next under way while one is fetched."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxhlm.core.chunks import CHUNK_BYTES, CompiledByOne
from jaxhlm.core.precision import jax_config_scope
from jaxhlm.errors import DeviceMemoryWarning, warn_user
from jaxhlm.estimation.estimates import Estimates, estimate_bytes
from jaxhlm.estimation.pipeline import Fitted, Report, fit_lanes, gather
from jaxhlm.estimation.program import Reduction, Traceable, chunk_program
from jaxhlm.linalg.small import namespace
from jaxhlm.optimise.options import Options

__all__ = ["fit_on_devices"]

# The part of a device's memory that a chunk may take: two are under way, and what XLA keeps.
MEMORY_SHARE = 0.25
# Data sets that a device is given at a time; more gain nothing and hold back the first results.
FEWEST, MOST = 128, 2**20
# What the estimates of a data set take, in copies, while it is fitted.
COPIES = 16
UNDER_WAY = 2
LANES = "lanes"


def fit_on_devices(
    lanes: Traceable,
    B: int,
    options: Options,
    devices: tuple[jax.Device, ...],
    report: Report | None = None,
) -> Fitted:
    """Fit B data sets on devices, and by the host path those that the program is not final for.

    Args:
        lanes: the data sets.
        B: how many.
        options: what to optimise.
        devices: among which every chunk is shared out in equal parts.
        report: called with the estimates of every finished chunk.
    """
    stats = lanes.reduction.prepared.matrices.stats

    def parts() -> Iterator[Fitted]:
        for run, found, final in _chunks(lanes, B, options, devices):
            nobs, ngroups = (np.full(len(final), int(x)) for x in (stats.n[0], stats.m.sum()))
            rest = np.flatnonzero(~final)
            if len(rest):
                again = fit_lanes(lanes.again(run.start + rest), options)
                found = found.replaced(rest, again.estimates)
                nobs[rest], ngroups[rest] = again.nobs, again.ngroups
            yield Fitted(found, nobs, ngroups)

    return gather(parts(), B, report, partial=True)


def _chunks(
    lanes: Traceable, B: int, options: Options, devices: tuple[jax.Device, ...]
) -> Iterator[tuple[slice, Estimates, Any]]:
    """Consecutive runs, their estimates, and which of these are final."""
    each = _lanes_per_device(lanes, B, devices)
    pending: deque[tuple[slice, Any]] = deque()
    first, done, halved = 0, 0, False
    while done < B:
        try:
            while first < B and len(pending) < UNDER_WAY:
                run = slice(first, min(first + each * len(devices), B))
                pending.append((run, _started(lanes, options, run, each, devices)))
                first = run.stop
            run, found = pending.popleft()
            arrays, final = jax.tree.map(np.array, found)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) or each == FEWEST:
                raise
            if not halved:
                warn_user(
                    f"a device has no memory for {each} data sets at a time; they are halved until "
                    "they fit",
                    DeviceMemoryWarning,
                )
            each, first, halved = max(FEWEST, each // 2), done, True
            pending.clear()
            continue
        size, done = run.stop - run.start, run.stop
        yield run, Estimates(**arrays)[:size], final[:size]


def _started(
    lanes: Traceable, options: Options, run: slice, each: int, devices: tuple[jax.Device, ...]
) -> Any:
    """A chunk under way, filled up to its full size with copies of its last data set."""
    argument, fixed = lanes.argument(run), (lanes.reduction, options, devices)
    more = [(0, 0)] * (argument.ndim - 1) + [(0, each * len(devices) - argument.shape[-1])]
    with jax_config_scope():
        argument = namespace(argument).pad(argument, more, mode="edge")
        placed = jax.device_put(argument, _sharding(devices, argument.ndim))
        shared = jax.device_put(lanes.shared, _sharding(devices, 0))
        return _program((argument.shape, *fixed), shared, placed, *fixed)


def _shared_out(
    shared: Any,
    argument: Any,
    reduction: Reduction,
    options: Options,
    devices: tuple[jax.Device, ...],
) -> Any:
    """The program, each device with data sets of its own: none waits for another."""
    own = PartitionSpec(LANES)
    program = jax.shard_map(
        chunk_program(reduction, options),
        mesh=_mesh(devices),
        in_specs=(PartitionSpec(), _spec(argument.ndim)),
        out_specs=(own, own),
        check_vma=False,
    )
    return program(shared, argument)


_program = CompiledByOne(_shared_out, static_argnames=("reduction", "options", "devices"))


def _lanes_per_device(lanes: Traceable, B: int, devices: tuple[jax.Device, ...]) -> int:
    """A power of two, so that few sizes are compiled, within the memory and what there is to do."""
    memory = devices[0].memory_stats() or {}
    most = int(MEMORY_SHARE * memory["bytes_limit"]) if "bytes_limit" in memory else CHUNK_BYTES
    design = lanes.reduction.prepared.design
    taken = COPIES * estimate_bytes(design.p, design.q) + lanes.reduction.prepared.lane_bytes
    taken += 2 * lanes.argument(slice(0, 1)).nbytes
    share = -(-B // len(devices))
    fitting = 2 ** int(np.log2(max(FEWEST, min(most // taken, MOST))))
    return int(min(fitting, max(FEWEST, 2 ** (share - 1).bit_length())))


def _mesh(devices: tuple[jax.Device, ...]) -> Mesh:
    return Mesh(np.array(devices), (LANES,))


def _spec(ndim: int) -> PartitionSpec:
    return PartitionSpec(*[None] * (ndim - 1), LANES) if ndim else PartitionSpec()


def _sharding(devices: tuple[jax.Device, ...], ndim: int) -> NamedSharding:
    return NamedSharding(_mesh(devices), _spec(ndim))
