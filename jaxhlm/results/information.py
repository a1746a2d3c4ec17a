"""What tests by small-sample methods take of the data of fits: made once, kept if it is small."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from jaxhlm.core.chunks import as_slice, in_order, lane_chunks
from jaxhlm.core.notation import Array, Floats, Ints
from jaxhlm.estimation.estimates import Estimates
from jaxhlm.estimation.program import Traceable
from jaxhlm.inference.contrast_information import (
    KeptInformation,
    Tile,
    information_tiles,
    kept_bytes,
)
from jaxhlm.inference.device_information import information_on_devices
from jaxhlm.results.known_tests import without_data
from jaxhlm.results.record import FitRecord

__all__ = ["keep_information", "over_information"]

# What tests by a method need of all fits is kept up to this size, whatever is tested.
KEPT_BYTES = 2**27

OverTiles: TypeAlias = Callable[[Ints, Estimates, Iterable[Tile]], tuple[Array, ...]]


def over_information(fits: FitRecord, method: str, function: OverTiles) -> tuple[Floats, ...]:
    """``function`` of all fits and what their variances tell about contrasts.

    Args:
        fits: B fits.
        method: "satterthwaite" or "kenward-roger".
        function: maps positions of fits, their estimates and consecutive runs of them to arrays
            with the fits on the first axis.

    Raises:
        JaxhlmError: the fits were read from a file, which has neither.
    """
    p, k = (x.shape[1] for x in (fits.estimates.beta, fits.estimates.theta))
    if fits.source is not None and kept_bytes(p, k, method) * len(fits) <= KEPT_BYTES:
        keep_information(fits, method)
    kept = fits.known(method).information
    if kept is not None:
        runs = lane_chunks(len(fits), kept.lane_bytes)
        return fits.gathered(
            lambda at: function(at, fits.filled[at], kept.take(as_slice(at)).tiles),
            [np.arange(run.start, run.stop) for run in runs],
        )
    if fits.source is None:
        raise without_data(method)
    return _over_tiles(fits, method, function)


def keep_information(fits: FitRecord, method: str) -> None:
    """Keep what any contrast's test by a method takes of the data.

    Raises:
        JaxhlmError: the fits were read from a file, which does not have it.
    """
    known = fits.known(method)
    if known.information is None:
        arrays = _over_tiles(fits, method, lambda *given: KeptInformation.arrays(given[2]))
        fits.tests[method] = replace(known, information=KeptInformation(*arrays))


def _over_tiles(fits: FitRecord, method: str, function: OverTiles) -> tuple[Floats, ...]:
    def one(at: Ints) -> tuple[Array, ...]:
        return function(at, fits.filled[at], _tiles(fits, at, method))

    lanes = _traceable(fits)
    if lanes is None:
        return fits.over_chunks(one)

    def found(part: tuple[Ints, KeptInformation]) -> tuple[Array, ...]:
        return function(part[0], fits.filled[part[0]], part[1].tiles)

    with np.errstate(all="ignore"):
        parts = [*in_order(found, _by_devices(fits, lanes, method))]
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def _tiles(fits: FitRecord, at: Ints, method: str) -> Iterator[Tile]:
    """What the data of some fits say."""
    rows = fits.lanes(at).standardised
    return information_tiles(fits.filled[at], rows, fits.options, method)


def _traceable(fits: FitRecord) -> Traceable | None:
    """All data sets of the source, if these are their fits, for the devices that fitted them."""
    source = fits.source
    if source is None or not fits.devices or len(fits) != source.B:
        return None
    return source.traceable if (np.diff(fits.lane_index) == 1).all() else None


def _by_devices(
    fits: FitRecord, lanes: Traceable, method: str
) -> Iterator[tuple[Ints, KeptInformation]]:
    """Chunks of fits and what their data say; by the cores where sums are not precise."""
    run, given = slice(0, len(fits)), (fits.filled, fits.options, method, fits.devices)
    for part, kept, precise in information_on_devices(lanes, *given, [run]):
        at = np.arange(part.start, part.stop)
        if len(rest := np.flatnonzero(~precise)):
            again = KeptInformation.arrays(_tiles(fits, at[rest], method))
            kept = kept.replaced(rest, KeptInformation(*again))
        yield at, kept
