"""The devices that a user asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import jax
import numpy as np

from jaxhlm.core.arguments import whole_number
from jaxhlm.core.processes import use_jax
from jaxhlm.errors import OptionError

__all__ = ["Devices", "check_devices", "chosen_devices"]

Devices: TypeAlias = int | jax.Device | Sequence[jax.Device] | None


def chosen_devices(devices: Devices) -> tuple[jax.Device, ...] | None:
    """JAX devices, or None for the cores by the host path.

    Args:
        devices: None for those of JAX's default backend if that is no CPU, else the cores; so many
            of that backend's devices; or devices.

    Raises:
        OptionError: there are not so many, or something else is given.

    >>> chosen_devices(1) == (jax.local_devices()[0],)
    True
    """
    use_jax()
    if devices is None:
        return None if jax.default_backend() == "cpu" else tuple(jax.local_devices())
    if isinstance(devices, int | np.integer) and not isinstance(devices, bool):
        known = jax.local_devices()
        if not 1 <= devices <= len(known):
            raise OptionError(
                f"devices={devices}: JAX has {len(known)} of the kind {known[0].platform!r} "
                "(jax.local_devices()); give a number from 1 to that, or some of them"
            )
        return tuple(known[:devices])
    given = (devices,) if isinstance(devices, jax.Device) else devices
    if not isinstance(given, Sequence) or not all(isinstance(d, jax.Device) for d in given):
        raise OptionError(f"devices={devices!r}: give a number, or devices such as jax.devices()")
    if not given or len({*given}) < len(given) or len({d.platform for d in given}) > 1:
        raise OptionError(
            f"devices={devices!r}: give at least one, each once, and all of one platform"
        )
    if other := [d for d in given if d.process_index != jax.process_index()]:
        raise OptionError(
            f"devices={devices!r}: {other[0]} is of another process; give some of "
            "jax.local_devices()"
        )
    return tuple(given)


def check_devices(devices: Devices, elsewhere: bool = False) -> None:
    """Refuse devices that are not there, before all work.

    Args:
        devices: as for ``chosen_devices``.
        elsewhere: other processes choose theirs, which need not be like those of this one.

    Raises:
        OptionError: as ``chosen_devices``; or JAX's devices, which are of this process, for others.
    """
    if not elsewhere:
        chosen_devices(devices)
    elif isinstance(devices, int | np.integer):
        whole_number("devices", devices)
    elif devices is not None:
        raise OptionError(
            f"devices={devices!r}: the workers of this executor have devices of their own; give "
            "the number of them that each worker takes"
        )
