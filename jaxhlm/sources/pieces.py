"""Arrays that are made or read piece by piece, and how their columns are read in few passes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from jaxhlm.core.blocks import RecentBlocks, taken

__all__ = ["InPieces", "ReadAhead", "Transposed", "read_ahead"]

# What is read together of an array in wide pieces may take, and how many of those are kept.
BLOCK_BYTES = 2**28
BLOCKS_KEPT = 2
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
        return np.asarray(self.values[index[1], :]).T


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
            return np.asarray(self.values[:, first:last])
        return taken(self._blocks, self.width, first, last).T

    @cached_property
    def _blocks(self) -> RecentBlocks:
        return RecentBlocks(self._block, BLOCKS_KEPT)

    def _block(self, number: int) -> list[tuple[int, np.ndarray]]:
        first, last = number * self.width, min((number + 1) * self.width, self.shape[1])
        return [(number, np.asarray(self.values[:, first:last]).T)]


def read_ahead(values: InPieces) -> InPieces:
    """The array, read ahead where its pieces are wider than what is fitted together.

    Else a piece would be read again for every run of responses in it.
    """
    chunks = getattr(values, "chunks", None)
    width = int(np.max(chunks[1])) if chunks else 0
    affordable = BLOCK_BYTES // (values.dtype.itemsize * max(1, int(values.shape[0])))
    width = min(width, affordable)
    return ReadAhead(values, width) if width >= WIDE else values
