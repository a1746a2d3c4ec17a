"""Annotated matrices in files: the HDF5 and Zarr formats of AnnData, read without AnnData.

A matrix, samples × responses, lies beside the table of its samples (``obs``) and the names of its
responses (``var``). What is read follows the format that AnnData has written since 0.8, see
https://anndata.readthedocs.io/en/stable/fileformat-prose.html.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxhlm.core.files import file_path, reading
from jaxhlm.errors import FileError, JaxhlmError

__all__ = ["Annotated", "FileColumns", "annotated", "open_file", "open_zarr"]


@dataclass(frozen=True)
class FileColumns:
    """An array (n, B) in an HDF5 file, which is open only while a part of it is read.

    Attributes:
        path: the file.
        name: of the array in it.
        shape: (n, B).
        dtype: of its numbers.
        chunks: of the file, None if the array lies in one piece.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: Any
    chunks: tuple[int, ...] | None

    def __getitem__(self, index: Any) -> np.ndarray:
        """A part of it."""
        with reading(self.path), _hdf5(self.path) as file:
            return np.asarray(file[self.name][index])


class Annotated(NamedTuple):
    """An annotated matrix, and layers of its shape.

    Attributes:
        samples: (n, …) their table, with their names as its index.
        labels: (B,) names of the responses.
        layers: names.
        matrix: (n, B), X or a layer by its name; None if there is no X.
    """

    samples: pd.DataFrame
    labels: pd.Index
    layers: tuple[str, ...]
    matrix: Callable[[str | None], Any]


def annotated(given: Any) -> Annotated | None:
    """An ``AnnData`` object; None if it is none.

    A sparse matrix in a file, which can be read by rows or by columns only, is read whole.
    """
    if isinstance(given, Annotated):
        return given
    if not all(hasattr(given, part) for part in ("obs", "var", "X", "layers")):
        return None

    def matrix(layer: str | None) -> Any:
        found = given.X if layer is None else given.layers[layer]
        return found.to_memory() if hasattr(found, "to_memory") else found

    layers = tuple(name for name in given.layers if name is not None)
    return Annotated(pd.DataFrame(given.obs), pd.Index(given.var_names), layers, matrix)


def open_file(path: str | PathLike[str]) -> Annotated:
    """An ``.h5ad`` file.

    Raises:
        FileError: it cannot be read, or is written in another format.
        JaxhlmError: h5py is not installed.
    """
    path = file_path(path)

    def matrix(name: str, found: Any) -> Any:
        return FileColumns(path, name, found.shape, found.dtype, found.chunks)

    return _annotated(path, lambda: _hdf5(path), matrix)


def open_zarr(path: str | PathLike[str]) -> Any:
    """An array of a ``.zarr`` folder, or AnnData in one.

    Raises:
        FileError: it cannot be read, or holds several arrays.
        JaxhlmError: zarr is not installed.
    """
    try:
        import zarr
    except ModuleNotFoundError as error:
        raise JaxhlmError('Zarr folders need zarr: pip install "jaxhlm[zarr]"') from error
    path = file_path(path)
    if not path.exists():
        raise FileError(f"there is no folder {path}")
    with reading(path):
        try:
            root = zarr.open(str(path), mode="r")
        except FileNotFoundError:
            raise FileError(f"{path} is no Zarr folder: it holds no array and no group") from None
    if hasattr(root, "shape"):
        return root
    if root.attrs.get("encoding-type") != "anndata":
        there = ", ".join(repr(name) for name, _ in root.arrays()) or "none"
        raise FileError(f"{path} is a group; pass one of its arrays: {there}")

    return _annotated(path, lambda: nullcontext(root), lambda _, found: found)


@contextmanager
def _hdf5(path: Path) -> Iterator[Any]:
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise JaxhlmError('.h5ad files need h5py: pip install "jaxhlm[anndata]"') from error
    with h5py.File(path, "r") as file:
        yield file


def _annotated(
    path: Path,
    root: Callable[[], AbstractContextManager[Any]],
    dense: Callable[[str, Any], Any],
) -> Annotated:
    """What a file holds, whose root is opened for every part that is read.

    Raises:
        FileError: it is written in another format.
    """

    def matrix(layer: str | None) -> Any:
        name = "X" if layer is None else f"layers/{layer}"
        with reading(path), root() as file:
            if (found := file.get(name)) is None:
                return None
            return dense(name, found) if hasattr(found, "shape") else _sparse(path, name, found)

    with reading(path), root() as file:
        if not all(_kind(file.get(name)) == "dataframe" for name in ("obs", "var")):
            raise FileError(
                f"{path} has no tables obs and var as AnnData writes them since 0.8; read it with "
                "anndata.read_h5ad and pass what that returns"
            )
        obs = file["obs"]
        columns = {name: _column(path, obs[name]) for name in obs.attrs["column-order"]}
        table, layers = pd.DataFrame(columns, _names(path, obs)), tuple(file.get("layers", ()))
        return Annotated(table, _names(path, file["var"]), layers, matrix)


def _kind(element: Any) -> str:
    """What an element says it is."""
    return "" if element is None else str(element.attrs.get("encoding-type", ""))


def _names(path: Path, table: Any) -> pd.Index:
    return pd.Index(_column(path, table[table.attrs["_index"]]))


def _column(path: Path, element: Any) -> Any:
    """Values of a column, of the types that pandas has for it."""
    kind = _kind(element)
    if kind == "categorical":
        codes, levels = np.asarray(element["codes"][:]), _column(path, element["categories"])
        return pd.Categorical.from_codes(codes, levels, ordered=bool(element.attrs["ordered"]))
    if kind.startswith("nullable-"):
        values = pd.Series(_column(path, element["values"]))
        return values.convert_dtypes().mask(np.asarray(element["mask"][:], bool)).array
    if kind in ("array", "string-array"):
        return _texts(element[:]) if kind == "string-array" else np.asarray(element[:])
    raise FileError(
        f"{path} has a column {element.name!r} of kind {kind!r}; read it with anndata.read_h5ad "
        "and pass what that returns"
    )


def _texts(values: Any) -> list[str]:
    return [x.decode() if isinstance(x, bytes) else str(x) for x in values]


def _sparse(path: Path, name: str, group: Any) -> Any:
    """A sparse matrix, read whole."""
    from scipy import sparse

    kinds = {"csr_matrix": sparse.csr_matrix, "csc_matrix": sparse.csc_matrix}
    if (kind := _kind(group)) not in kinds:
        raise FileError(f"{path} has {name!r} of kind {kind!r}, which is no matrix")
    parts = tuple(np.asarray(group[part][:]) for part in ("data", "indices", "indptr"))
    matrix = kinds[kind](parts, shape=tuple(group.attrs["shape"]))
    # SciPy would read and write outside of its memory where an index points there.
    matrix.check_format(full_check=True)
    return matrix
