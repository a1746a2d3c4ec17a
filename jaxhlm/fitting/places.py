"""Where data sets are fitted: on devices, or on the cores by the host path."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TypeAlias

from jaxhlm.core.devices import Devices, chosen_devices
from jaxhlm.errors import OptionError
from jaxhlm.estimation.device_chunks import fitted_on_devices
from jaxhlm.estimation.pipeline import Fitted, fitted_runs
from jaxhlm.optimise.options import Options
from jaxhlm.sources.sources import Source

__all__ = ["Fitter", "fitter"]

# Of fewer data sets than this, where no devices are asked for, compiling would take the longest.
WORTH_COMPILING = 100_000

Fitter: TypeAlias = Callable[[Iterable[slice]], Iterator[Fitted]]


def fitter(source: Source, options: Options, devices: Devices) -> Fitter:
    """What fits runs of the data sets of a source, in order, as parts that may end elsewhere.

    Args:
        source: the data sets.
        options: what to optimise.
        devices: as for ``fit_many``.

    Raises:
        OptionError: ``devices`` that are not there, or not for such data sets, or single precision
            on the cores.
    """
    chosen = chosen_devices(devices)
    if devices is None and options.precision == "float64" and source.B < WORTH_COMPILING:
        chosen = None
    lanes = source.traceable if chosen and options.optimizer is None else None
    if chosen is None or (lanes is None and devices is None):
        if options.precision != "float64":
            raise OptionError(
                f"precision={options.precision!r} is for devices: the cores fit these data sets in "
                "float64; give devices= too, or leave precision out"
            )
        return partial(fitted_runs, source, options)
    if lanes is None:
        what = "data sets with rows of their own" if options.optimizer is None else "your optimizer"
        raise OptionError(f"devices={devices!r}: {what} runs on the cores only; leave devices out")
    return partial(fitted_on_devices, lanes, options, chosen)
