"""Responses (n, B) where they are: in memory, in pieces in a file, or on a device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxhlm.core.arguments import as_floats, exact_array, other_things
from jaxhlm.core.chunks import as_slice, lane_chunks
from jaxhlm.core.files import checksum, map_again, mapped_from, reading, reason_of
from jaxhlm.core.notation import Bools, Floats, Ints
from jaxhlm.core.precision import jax_config_scope
from jaxhlm.core.tables import kind_of
from jaxhlm.errors import FileError, NotNumericError, OptionError, ResponseShapeError
from jaxhlm.linalg.small import array_namespace
from jaxhlm.sources.pieces import InPieces, ReadAhead, Transposed, check_unpacked, piece, read_ahead

__all__ = [
    "Carried",
    "Held",
    "Reordered",
    "Responses",
    "chunk",
    "every",
    "has_missing",
    "held",
    "less",
    "of_rows",
]

Held: TypeAlias = np.ndarray | jax.Array | InPieces

# Columns by whose numbers a file is told from another of its name.
TOLD = 64


@dataclass(frozen=True, eq=False)
class Responses:
    """Responses of any real type, where they are; what is taken of them is in float64.

    ``Y[:, lanes]`` is a NumPy array of those columns: no others come from a device or a file.

    Attributes:
        values: (rows, B) array.
        rows: (n,) numbers of the rows that are meant, all if None.
        axis: of ``values``, that of the responses: 0 for an array (B, rows) of JAX's, which would
            be copied to be transposed.
        offset: (n,) what is taken off every response, if anything.
    """

    values: Held
    rows: Ints | None = None
    axis: int = 1
    offset: Floats | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(n, B)."""
        n, B = self.values.shape[1 - self.axis], self.values.shape[self.axis]
        return (int(n) if self.rows is None else len(self.rows)), int(B)

    def __getitem__(self, index: tuple[slice, Any]) -> Floats:
        """Columns, in memory; an integer that double precision cannot hold is infinite."""
        _, lanes = index
        found = as_floats(self._of_rows(self._fetched(lanes)))
        return found if self.offset is None else found - self._aligned(found)

    def chunk(self, run: slice) -> Any:
        """Consecutive columns for a program, on their device if they are on one.

        They are not converted, so that float32 goes up in half the bytes.
        """
        if not isinstance(self.values, jax.Array):
            single = self.values.dtype == np.float32 and self.offset is None
            return self._of_rows(self._fetched(run)) if single else self[:, run]
        _check_there(self.values)
        size = run.stop - run.start
        with jax_config_scope():
            found = _columns(self.values, run.start, self.rows, size=size, axis=self.axis)
            return found if self.offset is None else found - self._aligned(found)

    def _aligned(self, found: Any) -> Floats:
        """The offset beside one response (n,) or several (n, B)."""
        assert self.offset is not None
        return self.offset if found.ndim == 1 else self.offset[:, None]

    def _of_rows(self, values: np.ndarray) -> np.ndarray:
        return values if self.rows is None else values[self.rows]

    def _fetched(self, lanes: Any) -> np.ndarray:
        """Columns, in memory; few sizes are compiled for those on devices."""
        here = self._here
        if isinstance(here, np.ndarray):
            return here[:, lanes]
        lane_index = np.arange(self.shape[1])[lanes]
        wanted = np.atleast_1d(lane_index)
        if isinstance(here, jax.Array):
            found = _from_devices(here, wanted, self.axis)
        else:
            found = _from_pieces(here, wanted)
        return found.reshape(len(found), *lane_index.shape)

    @cached_property
    def _here(self) -> Held:
        """The values in memory, (rows, B), where that needs no copy, else where they are."""
        if not isinstance(self.values, jax.Array):
            return self.values
        _check_there(self.values)
        (first, *others) = self.values.devices()
        if others or first.platform != "cpu":
            return self.values
        return np.asarray(self.values) if self.axis else np.asarray(self.values).T


@dataclass(frozen=True)
class Reordered:
    """Columns in another order, an array in pieces.

    Attributes:
        given: (n, B).
        order: (B,) number of every column in ``given``.
    """

    given: Floats | Responses
    order: Ints

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, B)."""
        return self.given.shape

    @property
    def dtype(self) -> np.dtype[np.float64]:
        """Of its numbers."""
        return np.dtype(np.float64)

    def __getitem__(self, index: tuple[slice, slice]) -> Floats:
        """``[:, first:last]``."""
        return self.given[:, self.order[index[1]]]


@dataclass(frozen=True)
class Carried:
    """Some columns of responses on their way to another process.

    Attributes:
        values: (rows, lanes) array, or how ``np.memmap`` opens the file that has them.
        rows: as for ``Responses``.
        run: which columns of the file.
        told: checksum of some of them, by which another file of that name is found.
        offset: as for ``Responses``.
    """

    values: np.ndarray | Mapping[str, Any]
    rows: Ints | None
    run: slice = field(default_factory=lambda: slice(None))
    told: str = ""
    offset: Floats | None = None

    @staticmethod
    def of(Y: Floats | Responses, run: slice) -> Carried:
        """Columns of responses."""
        Y = Y if isinstance(Y, Responses) else Responses(Y)
        values, rows, offset = Y.values, Y.rows, Y.offset
        if not isinstance(values, np.ndarray):
            return Carried(Y[:, run], None)
        if (file := mapped_from(values)) is None:
            return Carried(np.ascontiguousarray(values[:, run]), rows, offset=offset)
        return Carried(file, rows, run, _told(values[:, run]), offset)

    @property
    def responses(self) -> Floats | Responses:
        """The columns, in the other process.

        Raises:
            FileError: the file is not there, or is another one.
        """
        if isinstance(self.values, np.ndarray):
            return less(of_rows(self.values, self.rows), self.offset)
        values = map_again(self.values)[:, self.run]
        if _told(values) != self.told:
            raise FileError(f"{self.values['filename']} holds other responses for this worker")
        return less(of_rows(values, self.rows), self.offset)


def _told(values: np.ndarray) -> str:
    """A checksum of some columns, spread over all of them."""
    return checksum(values[:, :: max(1, values.shape[1] // TOLD)].tobytes())


def _taken(values: Any, first: Any, rows: Any, size: int, axis: int) -> Any:
    found = jax.lax.dynamic_slice_in_dim(values, first, size, axis=axis)
    found = found if axis else found.T
    return _exact(found if rows is None else found[rows])


def _some(values: Any, lane_index: Any, axis: int) -> Any:
    found = _exact(values[:, lane_index] if axis else values[lane_index].T)
    return found.astype(float)


def _exact(values: Any) -> Any:
    """As ``as_floats`` where the numbers are integers that double precision may not hold."""
    large = values.dtype.kind in "iu" and values.dtype.itemsize > 4
    return as_floats(values, jnp) if large else values


_columns = jax.jit(_taken, static_argnames=("size", "axis"))
_some_columns = jax.jit(_some, static_argnames="axis")


def _from_devices(values: jax.Array, lane_index: Ints, axis: int) -> np.ndarray:
    _check_there(values)
    more = (1 << max(0, len(lane_index) - 1).bit_length()) - len(lane_index)
    with jax_config_scope():
        padded = np.pad(lane_index, (0, more), "edge")
        found = np.asarray(_some_columns(values, padded, axis=axis))
    return found[:, : len(lane_index)]


def _from_pieces(values: InPieces, lane_index: Ints) -> np.ndarray:
    """Run by run, which is all that every kind of them can; columns of one block are one run."""
    if not len(lane_index):
        return np.empty((values.shape[0], 0))
    run = as_slice(lane_index)
    with reading("the responses"):
        if isinstance(run, slice):
            return np.array(piece(values[:, run]))
        width = values.width if isinstance(values, ReadAhead) else 1
        order = np.argsort(lane_index, kind="stable")
        wanted = lane_index[order]
        apart = (np.diff(wanted) > 1) & (np.diff(wanted // width) > 0)
        runs = np.split(wanted, np.flatnonzero(apart) + 1)
        parts = [piece(values[:, int(r[0]) : int(r[-1]) + 1])[:, r - r[0]] for r in runs]
        return np.concatenate(parts, axis=1)[:, np.argsort(order)]


def _check_there(values: jax.Array) -> None:
    if values.is_deleted():
        raise OptionError("responses: JAX has deleted that array, or a call was given its memory")


def chunk(Y: Floats | Responses, run: slice) -> Any:
    """Consecutive columns for a program, on their device if they are on one."""
    return Y.chunk(run) if isinstance(Y, Responses) else Y[:, run]


def has_missing(Y: Floats | Responses) -> bool:
    """Whether a value is missing, looked up where they are."""
    return not every(Y, lambda y: ~array_namespace(y).isnan(y))


def every(Y: Floats | Responses, holds: Callable[[Any], Bools]) -> bool:
    """Whether something holds of every value, looked up where they are, chunk by chunk."""
    n, B = Y.shape
    with jax_config_scope():
        return all(bool(holds(chunk(Y, run)).all()) for run in lane_chunks(B, 8 * n))


def of_rows(values: Held, rows: Ints | None, by_rows: bool = False) -> Floats | Responses:
    """Some rows, or all; the array itself where that says the same.

    Args:
        values: (n_total, B) array, or (B, n_total).
        rows: (n,) numbers of those that are meant, all if None.
        by_rows: whether the responses are its rows.
    """
    if isinstance(values, jax.Array):
        return Responses(values, rows, axis=0 if by_rows else 1)
    if by_rows:
        values = values.T if isinstance(values, np.ndarray) else Transposed(values)
    if not isinstance(values, np.ndarray):
        return Responses(read_ahead(values), rows)
    return values if values.dtype == np.float64 and rows is None else Responses(values, rows)


def less(Y: Floats | Responses, offset: Floats | None) -> Floats | Responses:
    """Responses (n, B) less an offset (n,), taken off as they are read."""
    if offset is None:
        return Y
    return replace(Y if isinstance(Y, Responses) else Responses(Y), offset=offset)


def held(name: str, given: Any) -> Held:
    """An array of a user's, not copied where it need not be.

    Args:
        name: what to call it.
        given: an array of NumPy's or of JAX's, anything with ``__dlpack__``, an array in pieces, or
            what ``real_array`` takes.

    Raises:
        NotNumericError: it holds no real numbers.
        OptionError: a JAX array that was deleted, or lies on other processes' devices.
    """
    if isinstance(given, jax.Array):
        return _of_jax(name, given)
    if isinstance(given, np.ndarray):
        taken = not isinstance(given, np.ma.MaskedArray) and given.dtype.kind in "iuf"
        return np.asarray(given) if taken else exact_array(name, given)
    if all(hasattr(given, part) for part in ("shape", "dtype", "chunks")):
        check_unpacked(name, getattr(given, "attrs", {}))
        return _known(name, _real(name, given))
    if hasattr(type(given), "__dlpack__") and not isinstance(given, np.generic):
        return _exported(name, given)
    return exact_array(name, given)


def _of_jax(name: str, values: jax.Array) -> jax.Array:
    if isinstance(values, jax.core.Tracer):
        raise NotNumericError(
            f"{name} is an array that JAX traces and has no values; call this outside of "
            "jax.jit, jax.vmap and jax.grad"
        )
    _check_there(values)
    if not values.is_fully_addressable:
        raise OptionError(f"{name}: parts of that array lie on devices of other processes")
    return _real(name, values)


def _known(name: str, values: InPieces) -> InPieces:
    """The array; dask has some of which it does not know how long they are."""
    if any(size != size for size in values.shape):
        raise ResponseShapeError(
            f"{name} is an array of unknown length; call its compute_chunk_sizes() first"
        )
    return values


def _exported(name: str, given: Any) -> Held:
    """Another library's array, by the first way that there is: as it is, or copied by itself."""
    reasons = []
    for take in (np.from_dlpack, jax.dlpack.from_dlpack, np.asarray):
        try:
            with jax_config_scope():
                return _real(name, take(given))
        # What other libraries raise has no common base.
        except Exception as error:
            reasons.append(reason_of(error))
    raise NotNumericError(f"{name}: nothing can be read from this {kind_of(given)}: {reasons[0]}")


def _real(name: str, values: Any) -> Any:
    """The array; bfloat16 and its like count as numbers, keys and booleans do not."""
    kind = getattr(values.dtype, "kind", "")
    if kind in ("i", "u", "f") or jnp.issubdtype(values.dtype, jnp.floating):
        return values
    raise NotNumericError(f"{name} must be numbers, got {other_things(values.dtype)}")
