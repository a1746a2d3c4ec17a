"""Arrays that are made or read piece by piece, and how their columns are read in few passes."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from jaxhlm.core.arguments import as_floats
from jaxhlm.core.blocks import RecentBlocks, taken
from jaxhlm.errors import OptionError

__all__ = ["InPieces", "ReadAhead", "Transposed", "check_unpacked", "piece", "read_ahead"]

# What is read together of an array in wide pieces may take, and how many of those are kept.
BLOCK_BYTES = 2**28
BLOCKS_KEPT = 2
# What the CF conventions for climate data say of packed numbers, and what says nothing.
PACKED = {"scale_factor": 1.0, "add_offset": 0.0, "_FillValue": np.nan, "missing_value": np.nan}
# Columns of a piece from which on it is read ahead; narrower ones lie within a run but for two.
WIDE = 1024


class InPieces(Protocol):
    """An array that is made or read piece by piece: of zarr, h5py or dask, a file, a frame."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, B)."""

    @property
    def dtype(self) -> Any:
        """Of its numbers."""

    def __getitem__(self, index: Any) -> Any:
        """``[:, first:last]``, something that NumPy makes an array of."""


def check_unpacked(name: str, attributes: Mapping[str, Any]) -> None:
    """Refuse numbers that stand for others, which xarray unpacks and the array itself does not.

    Raises:
        OptionError: attributes of the array say so.

    >>> check_unpacked("responses", {"scale_factor": 1.0, "units": "K"})
    """
    for key in PACKED.keys() & attributes.keys():
        told = attributes[key]
        if not np.array_equal(_number(told), [PACKED[key]], equal_nan=True):
            raise OptionError(
                f"{name} are packed: their attribute {key!r} is {told}; open them with xarray, "
                "which unpacks them and knows what is missing, and pass its array"
            )


def _number(told: Any) -> np.ndarray:
    """The value of an attribute; xarray writes NaN to zarr as the letters of its bytes."""
    try:
        if isinstance(told, str):
            return np.frombuffer(base64.b64decode(told, validate=True), dtype=float)
        return np.asarray(told, dtype=float).ravel()
    except (TypeError, ValueError):
        return np.empty(0)


def piece(values: Any) -> np.ndarray:
    """A piece as an array of NumPy's, in which what was masked is missing.

    >>> piece(np.ma.masked_equal([1, -9], -9))
    array([ 1., nan])
    """
    # NumPy asks dask for an array without its mask.
    values = values.compute() if hasattr(values, "compute") else values
    if not isinstance(values, np.ma.MaskedArray):
        return np.asarray(values)
    return np.where(np.ma.getmaskarray(values), np.nan, as_floats(values.data))


@dataclass(frozen=True)
class Transposed:
    """An array in pieces whose rows are responses, seen as (n, B).

    Attributes:
        values: (B, n).
    """

    values: InPieces

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, B)."""
        return tuple(self.values.shape)[::-1]

    @property
    def dtype(self) -> Any:
        """Of its numbers."""
        return self.values.dtype

    @property
    def chunks(self) -> Any:
        """Of the pieces, None if it is in one."""
        chunks = getattr(self.values, "chunks", None)
        return None if chunks is None else chunks[::-1]

    def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
        """``[:, first:last]``."""
        return piece(self.values[index[1], :]).T


@dataclass(frozen=True)
class ReadAhead:
    """An array in pieces of many columns, which are read whole: the last few stay.

    One column alone is read alone.

    Attributes:
        values: (n, B).
        width: columns that are read together.
    """

    values: InPieces
    width: int

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, B)."""
        return tuple(self.values.shape)

    @property
    def dtype(self) -> Any:
        """Of its numbers."""
        return self.values.dtype

    def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
        """``[:, first:last]``."""
        first, last, _ = index[1].indices(self.shape[1])
        if last - first <= 1:
            return piece(self.values[:, first:last])
        return taken(self._blocks, self.width, first, last).T

    @cached_property
    def _blocks(self) -> RecentBlocks:
        return RecentBlocks(self._block, BLOCKS_KEPT)

    def _block(self, number: int) -> list[tuple[int, np.ndarray]]:
        first, last = number * self.width, min((number + 1) * self.width, self.shape[1])
        return [(number, piece(self.values[:, first:last]).T)]


def read_ahead(values: InPieces) -> InPieces:
    """The array, read ahead where its pieces are wider than what is fitted together.

    Else a piece would be read again for every run of responses in it.
    """
    chunks = getattr(values, "chunks", None)
    width = int(np.max(chunks[1])) if chunks else 0
    affordable = BLOCK_BYTES // (values.dtype.itemsize * max(1, int(values.shape[0])))
    width = min(width, affordable)
    return ReadAhead(values, width) if width >= WIDE else values
