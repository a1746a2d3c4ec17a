"""What users hold responses in, opened: their numbers where they are, and names of both sides.

Tables (pandas, and whatever narwhals reads), labelled arrays (xarray), annotated matrices
(AnnData, ``.h5ad``), sparse matrices, files, and arrays without names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
import pandas as pd
from pandas.api.types import is_any_real_numeric_dtype, is_string_dtype

from jaxhlm.core.arguments import as_floats, exact_array, other_things
from jaxhlm.core.files import map_array
from jaxhlm.core.notation import Floats
from jaxhlm.core.parquet import ParquetColumns, ParquetRows
from jaxhlm.core.tables import as_frame, converting
from jaxhlm.design.columns import numbers
from jaxhlm.errors import NotNumericError, OptionError, ResponseShapeError
from jaxhlm.sources.annotated import Annotated, annotated, open_file, open_zarr
from jaxhlm.sources.pieces import check_unpacked
from jaxhlm.sources.responses import Held, held

__all__ = ["GivenResponses", "Opened", "SparseColumns", "TableColumns", "opened"]

# Tables, arrays and matrices of other libraries as well, which have no types of their own here.
GivenResponses: TypeAlias = pd.DataFrame | Floats | jax.Array | str | PathLike[str]
ENDINGS = ".npy, .parquet, .h5ad or .zarr"


class Opened(NamedTuple):
    """Responses as they were held.

    Attributes:
        values: (n, B) array, or (B, n) where ``by_rows``.
        by_rows: whether its rows are the responses.
        samples: (n,) names of the samples, if there are any.
        labels: (B,) names of the responses, if there are any.
        table: the samples' own table, of AnnData.
    """

    values: Held
    by_rows: bool
    samples: pd.Index | None = None
    labels: pd.Index | None = None
    table: pd.DataFrame | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, B), or what it is where there are not two dimensions."""
        shape = tuple(int(size) for size in self.values.shape)
        return shape[::-1] if self.by_rows else shape


def opened(name: str, given: Any, by_rows: bool = False, layer: str | None = None) -> Opened:
    """Whatever a user gives, opened.

    Args:
        name: what to call it.
        given: what ``fit_many`` takes as responses.
        by_rows: whether its rows are the responses.
        layer: which layer of AnnData, its X if None.

    Raises:
        NotNumericError: it holds no real numbers.
        ResponseShapeError: it is one Series.
        OptionError: a path with another ending, a layer of something that has none, AnnData by
            rows, or a JAX array that is not there.
        FileError: the file cannot be read.
        JaxhlmError: the library that reads it is not installed.
    """
    if isinstance(given, str | PathLike):
        given = _of_path(name, given, by_rows, layer)
    if (matrix := annotated(given)) is not None:
        return _of_annotated(name, matrix, by_rows, layer)
    if layer is not None:
        raise OptionError(f"layer={layer!r}: only AnnData and .h5ad have layers, {name} has none")
    if isinstance(given, pd.Series):
        raise ResponseShapeError(f"{name} is one Series; pass {name}.to_frame()")
    with converting(name, given):
        known = _reader(given)
        return Opened(held(name, given), by_rows) if known is None else known(name, given, by_rows)


def _reader(given: Any) -> Callable[[str, Any, bool], Opened] | None:
    """How a thing that has names, or that is no array, is opened."""
    if isinstance(given, ParquetColumns | ParquetRows):
        return _of_parquet
    if all(hasattr(given, part) for part in ("dims", "indexes", "coords")):
        return _of_xarray
    # One kind of SciPy's is a dict.
    if hasattr(given, "nnz") and hasattr(given, "tocsc"):
        return _of_sparse
    if isinstance(given, pd.DataFrame | dict):
        return _of_pandas
    if isinstance(given, np.ndarray | jax.Array | list | tuple):
        return None
    # Every column of a table has a name; formulaic, which reads tables too, has imported it.
    import narwhals.stable.v1 as nw

    table = nw.from_native(given, pass_through=True)
    return _of_table if isinstance(table, nw.DataFrame | nw.LazyFrame) else None


def _of_path(name: str, path: str | PathLike[str], by_rows: bool, layer: str | None) -> Any:
    """What a file holds."""
    ending = str(path).lower().rstrip("/").rpartition(".")[2]
    if ending == "npy":
        return map_array(path)
    if ending == "parquet":
        return ParquetRows.of(path) if by_rows else ParquetColumns.of(path)
    if ending == "h5ad":
        return open_file(path)
    if ending == "zarr":
        return open_zarr(path)
    raise OptionError(
        f"{name}={str(path)!r}: give an array, a table, or the path of a file that ends in "
        f"{ENDINGS}"
    )


def _of_annotated(name: str, given: Annotated, by_rows: bool, layer: str | None) -> Opened:
    """AnnData, samples × responses; X, or a layer."""
    if by_rows:
        raise OptionError(
            'responses_in="rows": AnnData has a row for every sample; leave responses_in out, or '
            "pass it transposed if its observations are the responses"
        )
    there = f"its layers: {', '.join(map(repr, given.layers)) or 'none'}"
    if layer is not None and layer not in given.layers:
        raise OptionError(f"layer={layer!r} is not in {name}; {there}")
    if (values := given.matrix(layer)) is None:
        raise OptionError(f"{name} has no X; pass layer=, {there}")
    names = given.samples.index, given.labels
    inside = opened(name, values)
    if inside.shape != (named := tuple(map(len, names))):
        raise ResponseShapeError(
            f"{name}: the matrix is {inside.shape}, samples and variables are {named}; the file is "
            "damaged, or was put together wrongly"
        )
    return Opened(inside.values, inside.by_rows, *names, table=given.samples)


def _of_pandas(name: str, given: pd.DataFrame | dict[str, Any], by_rows: bool) -> Opened:
    """A frame; by rows and without an index, its one column of text names the responses."""
    frame = as_frame(name, given)
    labels = frame.index
    if by_rows:
        text = [j for j, dtype in enumerate(frame.dtypes) if not is_any_real_numeric_dtype(dtype)]
        text = [j for j in text if numbers(frame.iloc[:, j]) is None]
        if len(text) == 1 and isinstance(labels, pd.RangeIndex):
            labels = pd.Index(frame.iloc[:, text[0]])
            frame = frame.drop(columns=frame.columns[text[0]])
    values = _frame_values(name, frame)
    if by_rows:
        return Opened(values, True, frame.columns, labels)
    return Opened(values, False, frame.index, frame.columns)


def _frame_values(name: str, frame: pd.DataFrame) -> np.ndarray:
    """The numbers of a frame, the array itself where they are of one type."""
    places: dict[Any, list[int]] = {}
    for j, dtype in enumerate(frame.dtypes):
        places.setdefault(dtype, []).append(j)
    if len(places) == 1 and isinstance(kind := next(iter(places)), np.dtype) and kind.kind in "iuf":
        return frame.to_numpy()
    out = np.empty(frame.shape)
    for dtype, at in places.items():
        if isinstance(dtype, np.dtype) and dtype.kind in "iuf":
            out[:, at] = as_floats(frame.iloc[:, at].to_numpy())
            continue
        for j in at:
            out[:, j] = _column_values(name, frame.iloc[:, j])
    return out


def _column_values(name: str, column: pd.Series) -> Floats:
    """The numbers of a column of another type, missing ones NaN."""
    if (found := numbers(column)) is None:
        raise NotNumericError(
            f"column {column.name!r} of {name} is {column.dtype}; convert or drop it"
        )
    if column.dtype == object:
        return exact_array(name, column.to_numpy())
    if getattr(column.dtype, "kind", "") in ("i", "u"):
        whole = column.to_numpy(dtype=f"{column.dtype.kind}8", na_value=0)
        return np.where(np.isnan(found), np.nan, as_floats(whole))
    return found


def _of_parquet(name: str, file: Any, by_rows: bool) -> Opened:
    columns = pd.Index(file.names)
    if not by_rows:
        return Opened(file, False, file.index, columns)
    return Opened(file, False, columns, file.index)


def _of_xarray(name: str, given: Any, by_rows: bool) -> Opened:
    """A labelled array of two dimensions, in their order; coordinates are names.

    Raises:
        OptionError: several coordinates of a dimension could be its names, or numbers are packed.
    """
    if not hasattr(given, "dtype"):
        raise ResponseShapeError(f"{name} is a Dataset of several variables; pass one of them")
    if len(given.dims) != 2:
        raise ResponseShapeError(
            f"{name} has the dimensions {', '.join(map(repr, given.dims))}; select or stack, so "
            "that one is of samples and one of responses"
        )
    check_unpacked(name, given.attrs)
    rows, columns = (_names_along(name, given, dim) for dim in given.dims)
    samples, labels = (columns, rows) if by_rows else (rows, columns)
    return Opened(held(name, given.data), by_rows, samples, labels)


def _names_along(name: str, given: Any, dim: Any) -> pd.Index | None:
    """The index of a dimension, else the one coordinate of text beside it that names its places."""
    if dim in given.indexes:
        index: pd.Index = given.indexes[dim]
        return index
    beside = {key: pd.Index(x.values) for key, x in given.coords.items() if x.dims == (dim,)}
    texts = {key: x for key, x in beside.items() if is_string_dtype(x) and x.is_unique}
    if len(texts) > 1:
        raise OptionError(
            f"{name}: the coordinates {', '.join(map(repr, texts))} may each be the names of the "
            f"dimension {dim!r}; choose one: {name}.swap_dims({{{dim!r}: {next(iter(texts))!r}}})"
        )
    return next(iter(texts.values()), None)


def _of_sparse(name: str, given: Any, by_rows: bool) -> Opened:
    """A sparse matrix of SciPy's, of which chunks are made dense."""
    if given.dtype.kind not in "iuf":
        raise NotNumericError(f"{name} must be numbers, got {other_things(given.dtype)}")
    return Opened(SparseColumns((given.T if by_rows else given).tocsc()), False)


def _of_table(name: str, given: Any, by_rows: bool) -> Opened:
    """A table of any library that narwhals reads."""
    import narwhals.stable.v1 as nw

    table = nw.from_native(given)
    if isinstance(table, nw.LazyFrame):
        raise OptionError(f"{name} is a table that is not computed yet; collect or compute it")
    text = [column for column, dtype in table.schema.items() if not dtype.is_numeric()]
    if text[by_rows:]:
        dtype = table.schema[text[0]]
        raise NotNumericError(f"column {text[0]!r} of {name} is {dtype}; convert or drop it")
    labels = pd.Index(table[text[0]].to_list()) if text else None
    values = TableColumns(name, table.drop(text), by_rows)
    columns = pd.Index(values.table.columns)
    return Opened(values, False, columns if by_rows else None, labels if by_rows else columns)


@dataclass(frozen=True, eq=False)
class SparseColumns:
    """A sparse matrix, whose columns are made dense as they are asked for.

    Attributes:
        matrix: (n, B), of SciPy's, sorted by columns.
    """

    matrix: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, B)."""
        return tuple(self.matrix.shape)

    @property
    def dtype(self) -> Any:
        """Of its numbers."""
        return self.matrix.dtype

    def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
        """``[:, first:last]``."""
        return np.asarray(self.matrix[:, index[1]].toarray())


@dataclass(frozen=True, eq=False)
class TableColumns:
    """The numbers of a table, made an array as they are asked for.

    Attributes:
        name: what to call it.
        table: of narwhals, columns of numbers.
        by_rows: whether its rows are the responses.
    """

    name: str
    table: Any
    by_rows: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, B)."""
        shape = tuple(self.table.shape)
        return shape[::-1] if self.by_rows else shape

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Of single precision where all columns are."""
        import narwhals.stable.v1 as nw

        single = all(dtype == nw.Float32 for dtype in self.table.schema.values())
        return np.dtype(np.float32 if single else np.float64)

    def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
        """``[:, first:last]``, missing values NaN."""
        first, last, _ = index[1].indices(self.shape[1])
        part = self.table[first:last] if self.by_rows else self._columns(first, last)
        if self._floats:
            found = np.asarray(part.to_numpy(), self.dtype)
        else:
            found = np.column_stack([self._numbers(part[name]) for name in part.columns])
        return found.T if self.by_rows else found

    def _columns(self, first: int, last: int) -> Any:
        return self.table.select(self.table.columns[first:last])

    @cached_property
    def _floats(self) -> bool:
        return all(dtype.is_float() for dtype in self.table.schema.values())

    def _numbers(self, column: Any) -> np.ndarray:
        if not column.dtype.is_integer():
            return exact_array(self.name, column.to_numpy())
        whole = as_floats(column.fill_null(0).to_numpy())
        return np.where(column.is_null().to_numpy(), np.nan, whole)
