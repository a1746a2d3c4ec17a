"""Estimates of a batch to and from one Parquet file, its labels in the file's metadata."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxhlm.errors import JaxhlmError
from jaxhlm.estimates import Estimates
from jaxhlm.model import Model
from jaxhlm.notation import Floats, Ints

__all__ = ["Stored", "load", "save"]

MODEL_KEY, INDEX_KEY, EXTRA_KEY = b"jaxhlm.model", b"jaxhlm.index", b"jaxhlm.extra"
SCALARS = ("sigma", "criterion", "status", "iterations", "gradient_norm")


class Stored(NamedTuple):
    """What a file holds: everything about a batch but its data."""

    model: Model
    estimates: Estimates
    index: pd.Index
    nobs: Ints
    ngroups: Ints
    extra: str = ""
    tests: Mapping[str, tuple[Floats, Floats]] = MappingProxyType({})
    """Standard errors and df (B, p) of the fixed effects, by method."""


def save(path: str | PathLike[str], stored: Stored, extra: str = "") -> None:
    """Write one row per fit, and any text beside them."""
    arrow, parquet = _pyarrow()
    m, e = stored.model, stored.estimates
    p, q = len(m.xnames), len(m.znames)
    columns: dict[str, Any] = {"fit": stored.index, "nobs": stored.nobs, "ngroups": stored.ngroups}
    columns |= {name: getattr(e, name) for name in SCALARS}
    columns |= {f"beta:{name}": e.beta[:, j] for j, name in enumerate(m.xnames)}
    columns |= {f"theta:{name}": e.theta[:, j] for j, name in enumerate(m.theta_names)}
    columns |= {f"theta_standard:{j}": e.theta_standard[:, j] for j in range(e.theta.shape[1])}
    columns |= {f"vcov:{i}:{j}": e.vcov[:, i, j] for i, j in _lower(p)}
    columns |= {f"cov:{i}:{j}": e.cov[:, i, j] for i, j in _lower(q)}
    for method, found in stored.tests.items():
        for kind, values in zip(("std_error", "df"), found, strict=True):
            columns |= {f"{kind}:{method}:{x}": values[:, j] for j, x in enumerate(m.xnames)}
    table = arrow.Table.from_pandas(pd.DataFrame(columns), preserve_index=False)
    own = {MODEL_KEY: m.to_json().encode(), INDEX_KEY: str(stored.index.name or "fit").encode()}
    metadata = {**(table.schema.metadata or {}), **own, EXTRA_KEY: extra.encode()}
    parquet.write_table(table.replace_schema_metadata(metadata), path)


def load(path: str | PathLike[str]) -> Stored:
    """Read what ``save`` wrote.

    Raises:
        JaxhlmError: the file was not written by ``save``.
    """
    _, parquet = _pyarrow()
    table = parquet.read_table(path)
    metadata = table.schema.metadata or {}
    if MODEL_KEY not in metadata:
        raise JaxhlmError(f"{path} was not written by to_parquet")
    m, frame = Model.from_json(metadata[MODEL_KEY].decode()), table.to_pandas()
    estimates = Estimates(
        beta=_by_term(frame, "beta", m),
        vcov=_symmetric(frame, "vcov", len(m.xnames)),
        theta=frame[[f"theta:{name}" for name in m.theta_names]].to_numpy(),
        theta_standard=frame[[f"theta_standard:{j}" for j in range(len(m.theta_names))]].to_numpy(),
        cov=_symmetric(frame, "cov", len(m.znames)),
        **{name: frame[name].to_numpy() for name in SCALARS},
    )
    index = pd.Index(frame["fit"], name=metadata[INDEX_KEY].decode())
    nobs, ngroups = frame["nobs"].to_numpy(), frame["ngroups"].to_numpy()
    written = dict.fromkeys(name.split(":")[1] for name in frame if name.startswith("df:"))
    tests = {
        method: (_by_term(frame, f"std_error:{method}", m), _by_term(frame, f"df:{method}", m))
        for method in written
    }
    extra = metadata.get(EXTRA_KEY, b"").decode()
    return Stored(m, estimates, index, nobs, ngroups, extra, tests)


def _by_term(frame: pd.DataFrame, kind: str, m: Model) -> Floats:
    """(B, p) columns of the fixed effects."""
    return frame[[f"{kind}:{name}" for name in m.xnames]].to_numpy()


def _lower(d: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(d) for j in range(i + 1)]


def _symmetric(frame: pd.DataFrame, name: str, d: int) -> Any:
    out = np.empty((len(frame), d, d))
    for i, j in _lower(d):
        out[:, i, j] = out[:, j, i] = frame[f"{name}:{i}:{j}"]
    return out


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise JaxhlmError('Parquet files need pyarrow: pip install "jaxhlm[parquet]"') from error
    return pyarrow, pyarrow.parquet
