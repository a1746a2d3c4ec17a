"""Responses (n, B) where they are: in memory, mapped from a file, or on a device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from typing import Any, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxhlm.core.arguments import real_array
from jaxhlm.core.chunks import lane_chunks
from jaxhlm.core.files import ParquetColumns, checksum, map_again, map_array, mapped_from
from jaxhlm.core.notation import Floats, Ints
from jaxhlm.core.precision import jax_config_scope
from jaxhlm.errors import FileError, NotNumericError, OptionError
from jaxhlm.linalg.small import array_namespace

__all__ = [
    "Carried",
    "GivenResponses",
    "Held",
    "InPieces",
    "Responses",
    "chunk",
    "has_missing",
    "held",
    "of_rows",
]


class InPieces(Protocol):
    """An array on a disk, read piece by piece: of zarr, h5py or dask, or ``ParquetColumns``."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, B)."""

    @property
    def dtype(self) -> Any:
        """Of its numbers."""

    def __getitem__(self, index: Any) -> Any:
        """``[:, first:last]``, something that NumPy makes an array of."""


Held: TypeAlias = np.ndarray | jax.Array | InPieces
# Anything with ``__dlpack__``, or in pieces, as well, which have no types of their own.
GivenResponses: TypeAlias = pd.DataFrame | Floats | jax.Array | str | PathLike[str]


@dataclass(frozen=True, eq=False)
class Responses:
    """Responses of any real type, where they are; what is taken of them is in float64.

    ``Y[:, lanes]`` is a NumPy array of those columns: no others come from a device or a file.

    Attributes:
        values: (rows, B) array.
        rows: (n,) numbers of the rows that are meant, all if None.
    """

    values: Held
    rows: Ints | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(n, B)."""
        n, B = self.values.shape
        return (int(n) if self.rows is None else len(self.rows)), int(B)

    def __getitem__(self, index: tuple[slice, Any]) -> Floats:
        """Columns, in memory."""
        _, lanes = index
        return self._of_rows(_fetched(self._here, lanes)).astype(float, copy=False)

    def chunk(self, run: slice) -> Any:
        """Consecutive columns for a program, on their device if they are on one.

        They are not converted, so that float32 goes up in half the bytes.
        """
        if not isinstance(self.values, jax.Array):
            single = self.values.dtype == np.float32
            return self._of_rows(_fetched(self.values, run)) if single else self[:, run]
        _check_there(self.values)
        with jax_config_scope():
            return _columns(self.values, run.start, self.rows, size=run.stop - run.start)

    def _of_rows(self, values: np.ndarray) -> np.ndarray:
        return values if self.rows is None else values[self.rows]

    @cached_property
    def _here(self) -> Held:
        """The values in memory where that needs no copy, else where they are."""
        if not isinstance(self.values, jax.Array):
            return self.values
        _check_there(self.values)
        (first, *others) = self.values.devices()
        return self.values if others or first.platform != "cpu" else np.asarray(self.values)


@dataclass(frozen=True)
class Carried:
    """Some columns of responses on their way to another process.

    Attributes:
        values: (rows, lanes) array, or how ``np.memmap`` opens the file that has them.
        rows: as for ``Responses``.
        run: which columns of the file.
        told: checksum of the first of them, by which another file of that name is found.
    """

    values: np.ndarray | Mapping[str, Any]
    rows: Ints | None
    run: slice = field(default_factory=lambda: slice(None))
    told: str = ""

    @staticmethod
    def of(Y: Floats | Responses, run: slice) -> Carried:
        """Columns of responses."""
        values, rows = (Y.values, Y.rows) if isinstance(Y, Responses) else (Y, None)
        if not isinstance(values, np.ndarray):
            return Carried(Y[:, run], None)
        if (file := mapped_from(values)) is None:
            return Carried(np.ascontiguousarray(values[:, run]), rows)
        return Carried(file, rows, run, checksum(values[:, run.start].tobytes()))

    @property
    def responses(self) -> Floats | Responses:
        """The columns, in the other process.

        Raises:
            FileError: the file is not there, or is another one.
        """
        if isinstance(self.values, np.ndarray):
            return of_rows(self.values, self.rows)
        values = map_again(self.values)[:, self.run]
        if checksum(values[:, 0].tobytes()) != self.told:
            raise FileError(f"{self.values['filename']} holds other responses for this worker")
        return of_rows(values, self.rows)


def _taken(values: Any, first: Any, rows: Any, size: int) -> Any:
    found = jax.lax.dynamic_slice_in_dim(values, first, size, axis=1)
    return found if rows is None else found[rows]


_columns = jax.jit(_taken, static_argnames="size")
_some_columns = jax.jit(lambda values, lane_index: values[:, lane_index].astype(float))


def _fetched(values: Held, lanes: Any) -> np.ndarray:
    """Columns, in memory; few sizes are compiled for those on devices."""
    if isinstance(values, np.ndarray):
        return values[:, lanes]
    lane_index = np.arange(values.shape[1])[lanes]
    wanted = np.atleast_1d(lane_index)
    if isinstance(values, jax.Array):
        found = _from_devices(values, wanted)
    else:
        found = _from_pieces(values, wanted)
    return found.reshape(len(found), *lane_index.shape)


def _from_devices(values: jax.Array, lane_index: Ints) -> np.ndarray:
    _check_there(values)
    more = (1 << max(0, len(lane_index) - 1).bit_length()) - len(lane_index)
    with jax_config_scope():
        found = np.asarray(_some_columns(values, np.pad(lane_index, (0, more), "edge")))
    return found[:, : len(lane_index)]


def _from_pieces(values: InPieces, lane_index: Ints) -> np.ndarray:
    """Run by run, which is all that every kind of them can."""
    runs = np.split(lane_index, np.flatnonzero(np.diff(lane_index) != 1) + 1)
    parts = [np.asarray(values[:, int(run[0]) : int(run[-1]) + 1]) for run in runs if len(run)]
    return np.concatenate(parts, axis=1) if parts else np.empty((values.shape[0], 0))


def _check_there(values: jax.Array) -> None:
    if values.is_deleted():
        raise OptionError("responses: JAX has deleted that array, or a call was given its memory")


def chunk(Y: Floats | Responses, run: slice) -> Any:
    """Consecutive columns for a program, on their device if they are on one."""
    return Y.chunk(run) if isinstance(Y, Responses) else Y[:, run]


def has_missing(Y: Floats | Responses) -> bool:
    """Whether a value is missing, looked up where they are."""
    n, B = Y.shape
    with jax_config_scope():
        chunks = (chunk(Y, run) for run in lane_chunks(B, 8 * n))
        return any(bool(array_namespace(y).isnan(y).any()) for y in chunks)


def of_rows(values: Held, rows: Ints | None) -> Floats | Responses:
    """Some rows, or all; the array itself where that says the same."""
    if isinstance(values, np.ndarray) and values.dtype == np.float64 and rows is None:
        return values
    return Responses(values, rows)


def held(given: GivenResponses) -> Held:
    """What a user gives as responses, not copied where it need not be.

    Args:
        given: an array of NumPy's or of JAX's, anything with ``__dlpack__``, the path of a .npy or
            .parquet file, an array in pieces, or what ``real_array`` takes.

    Raises:
        NotNumericError: it holds no real numbers.
        OptionError: a JAX array that was deleted, or lies on other processes' devices; or a path
            with another ending.
        FileError: the file cannot be read.
    """
    if isinstance(given, str | PathLike):
        if str(given).lower().endswith(".parquet"):
            return ParquetColumns.of(given)
        if not str(given).lower().endswith(".npy"):
            raise OptionError(
                f"responses={str(given)!r}: give an array, or the path of a .npy or .parquet file"
            )
        return _real(map_array(given))
    if isinstance(given, jax.Array):
        return _of_jax(given)
    if isinstance(given, np.ndarray):
        taken = not isinstance(given, np.ma.MaskedArray) and given.dtype.kind in "iuf"
        return np.asarray(given) if taken else real_array("responses", given)
    if all(hasattr(given, name) for name in ("shape", "dtype", "chunks")):
        return _real(given)
    if hasattr(type(given), "__dlpack__") and not isinstance(given, np.generic):
        return _exported(given)
    return real_array("responses", given)


def _of_jax(values: jax.Array) -> jax.Array:
    if isinstance(values, jax.core.Tracer):
        raise NotNumericError(
            "responses is an array that JAX traces and has no values; call this outside of "
            "jax.jit, jax.vmap and jax.grad"
        )
    _check_there(values)
    if not values.is_fully_addressable:
        raise OptionError("responses: parts of that array lie on devices of other processes")
    return _real(values)


def _exported(given: Any) -> Held:
    """Another library's array, by the first way that there is: as it is, or copied by itself."""
    reasons = []
    for take in (np.from_dlpack, jax.dlpack.from_dlpack, np.asarray):
        try:
            with jax_config_scope():
                return _real(take(given))
        # What other libraries raise has no common base.
        except Exception as error:
            reasons.append(str(error).split("\n")[0] or type(error).__name__)
    kind = f"{type(given).__module__.partition('.')[0]}.{type(given).__name__}"
    raise NotNumericError(f"responses: nothing can be read from this {kind}: {reasons[0]}")


def _real(values: Any) -> Any:
    """The array; bfloat16 and its like count as numbers, keys and booleans do not."""
    kind = getattr(values.dtype, "kind", "")
    if kind in ("i", "u", "f") or jnp.issubdtype(values.dtype, jnp.floating):
        return values
    raise NotNumericError(f"responses must be numbers, and is not numeric: dtype {values.dtype}")
