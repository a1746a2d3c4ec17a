"""What tells the data sets of one source from those of another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import jax
import numpy as np
import pandas as pd

from jaxhlm.core.files import checksum, row_checksums
from jaxhlm.core.precision import jax_config_scope
from jaxhlm.sources.responses import Responses

__all__ = ["fingerprint"]

# Larger arrays are told by some of their rows, so that it never takes longer than a second or so.
WHOLE_BYTES = 2**30
# Columns that are read together of an array on a disk.
PIECE = 256


def fingerprint(*things: Any) -> str:
    """A checksum of all numbers and labels that the public fields of some things hold.

    Of an array of more than a gigabyte (responses) only every k-th row counts: a response that was
    exchanged for another is still found, one number that was changed may not be.

    >>> fingerprint(np.arange(3.0)) == fingerprint(np.arange(4.0))
    False
    """
    return checksum(*(part for thing in things for part in _parts(thing)))


def _parts(value: Any) -> Iterator[bytes]:
    if isinstance(value, Responses) and not isinstance(value.values, np.ndarray | jax.Array):
        yield from _in_pieces(value)
        return
    if isinstance(value, Responses) and value.rows is None:
        by_rows, value = value.axis == 0, value.values
        value = value.T if by_rows else value
    kind = np.ndarray if isinstance(value, jax.Array) else type(value)
    yield kind.__name__.encode()
    if is_dataclass(value) and not isinstance(value, type):
        told = {f.name: getattr(value, f.name) for f in fields(value) if f.name[0] != "_"}
        yield from _parts(told)
    elif isinstance(value, dict):
        for name, one in value.items():
            yield str(name).encode()
            yield from _parts(one)
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _parts(one)
    elif isinstance(value, np.ndarray | jax.Array):
        yield from _of_array(value)
    elif isinstance(value, pd.Index) and not isinstance(value, pd.RangeIndex):
        yield from _of_array(value.to_numpy())
    elif isinstance(value, str | int | float | np.generic | pd.RangeIndex | None):
        yield repr(value).encode()


def _of_array(values: np.ndarray | jax.Array) -> Iterator[bytes]:
    """Row by row, so that no copy of all of it is made, nor more of it brought from a device."""
    yield f"{values.dtype.str} {values.shape}".encode()
    step = max(1, -(-values.nbytes // WHOLE_BYTES))
    with jax_config_scope():
        rows = np.asarray(values[::step]) if values.ndim > 1 else [np.asarray(values)]
    if isinstance(rows, np.ndarray) and abs(rows.strides[0]) < abs(rows.strides[-1]):
        yield from (one.encode() for one in row_checksums(rows))
        return
    for row in rows:
        shown = "\0".join(map(repr, row.ravel())).encode() if row.dtype.hasobject else row.tobytes()
        yield checksum(shown).encode()


def _in_pieces(values: Responses) -> Iterator[bytes]:
    """Some runs of columns, spread over all of them, or all."""
    n, B = values.shape
    yield f"{n} {B}".encode()
    step = max(1, -(-8 * n * B // WHOLE_BYTES))
    for first in range(0, B, PIECE * step):
        yield checksum(values[:, first : first + PIECE].tobytes()).encode()
