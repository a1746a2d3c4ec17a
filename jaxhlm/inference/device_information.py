"""What variances tell about contrasts, found by devices, where data sets are reduced again.

The functions are those of the cores, given JAX arrays; of a singular fit too, which a mask tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxhlm.core.notation import Bools
from jaxhlm.estimation.device_chunks import on_devices
from jaxhlm.estimation.estimates import Estimates
from jaxhlm.estimation.program import Reduction, Traceable
from jaxhlm.inference.contrast_information import KeptInformation, information_arrays
from jaxhlm.optimise.options import Options

__all__ = ["Informing", "information_on_devices"]


class Informing(NamedTuple):
    """Information about the variances of fits that are known."""

    reduction: Reduction
    options: Options
    method: str

    def program(self) -> Callable[..., tuple[Any, Any]]:
        """A function of data sets, their θ̃ and statuses; final where sums are precise."""

        def program(shared: Any, argument: Any, theta: Any, status: Any) -> tuple[Any, Any]:
            reduced, precise = self.reduction.reduce(shared, argument)
            given = theta, status, reduced.standardised, self.options, self.method
            return information_arrays(*given), jnp.broadcast_to(precise, status.shape)

        return program


def information_on_devices(
    lanes: Traceable,
    estimates: Estimates,
    options: Options,
    method: str,
    devices: tuple[jax.Device, ...],
    runs: Iterable[slice],
) -> Iterator[tuple[slice, KeptInformation, Bools]]:
    """Chunks of data sets, in order, what they say, and of which it is precise.

    Args:
        lanes: the data sets.
        estimates: of all of them.
        options: what was optimised.
        method: "satterthwaite" or "kenward-roger".
        devices: among which chunks are shared out.
        runs: which data sets.

    Raises:
        DeviceError: as for ``fitted_on_devices``.
    """
    work = Informing(lanes.reduction, options, method)

    def own(run: slice) -> tuple[Any, ...]:
        return estimates.theta_standard[run], estimates.status[run]

    for run, arrays, precise in on_devices(lanes, work, devices, runs, own):
        yield run, KeptInformation(*arrays), precise
