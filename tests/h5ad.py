"""Small ``.h5ad`` and Zarr files, made on the spot in the format of AnnData."""

import h5py
import numpy as np
import pandas as pd


def write_h5ad(path, X, obs, names):
    """Samples × responses, with the samples' table; columns are numbers or text."""
    with h5py.File(path, "w") as file:
        file.attrs["encoding-type"] = "anndata"
        file["X"] = X
        _table(file.create_group("obs"), obs)
        _table(file.create_group("var"), pd.DataFrame(index=names))


def _table(group, frame):
    group.attrs["encoding-type"], group.attrs["_index"] = "dataframe", "_index"
    group.attrs["column-order"] = np.array(list(frame), dtype=h5py.string_dtype())
    for name, values in {"_index": frame.index, **frame}.items():
        text = not pd.api.types.is_numeric_dtype(values)
        group[name] = np.array(values, h5py.string_dtype() if text else None)
        group[name].attrs["encoding-type"] = "string-array" if text else "array"


def copied(source, to):
    """An HDF5 group into one of Zarr's."""
    to.attrs.update({k: v.tolist() if hasattr(v, "tolist") else v for k, v in source.attrs.items()})
    for name, one in source.items():
        if isinstance(one, h5py.Group):
            copied(one, to.create_group(name))
            continue
        text = one.dtype.kind == "O"
        values = np.asarray(one.asstr()[:], dtype="T") if text else np.asarray(one[()])
        made = to.create_array(name, data=values)
        made.attrs.update(dict(one.attrs))
