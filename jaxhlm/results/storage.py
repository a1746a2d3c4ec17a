"""Estimates of a batch to and from one Parquet file, with all that labels them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike

import numpy as np
import pandas as pd

from jaxhlm.core.files import check_target, read_parquet, write_parquet
from jaxhlm.core.notation import Floats
from jaxhlm.errors import FileError
from jaxhlm.estimation.estimates import Estimates
from jaxhlm.estimation.model import Model
from jaxhlm.inference.tails import t_tail
from jaxhlm.optimise.options import Options
from jaxhlm.results.labels import from_columns, to_columns
from jaxhlm.results.record import FitRecord

__all__ = ["check_saving", "from_table", "load", "save", "to_table"]

MODEL_KEY, LABELS_KEY, EXTRA_KEY = b"jaxhlm.estimation.model", b"jaxhlm.labels", b"jaxhlm.extra"
OWN_KEYS = (MODEL_KEY, LABELS_KEY, EXTRA_KEY)
SCALARS = ("sigma", "criterion", "status", "iterations", "gradient_norm")


def check_saving(path: str | PathLike[str], index: pd.Index) -> None:
    """Refuse, before anything is computed, what ``save`` would refuse afterwards.

    Raises:
        FileError, OptionError: as for ``save``.
    """
    check_target(path)
    to_columns(index)


def save(
    path: str | PathLike[str], fits: FitRecord, tests: Sequence[str] = (), extra: str = ""
) -> None:
    """Write one row per fit.

    Args:
        path: the file.
        fits: the fits.
        tests: methods of the df of which standard errors and df are written, which ``fits`` has.
        extra: any text beside them.

    Raises:
        OptionError: a label is of a type that a file cannot hold.
        FileError: the file cannot be written; an older one of this name is still there.
    """
    write_parquet(path, *to_table(fits, tests, extra))


def to_table(
    fits: FitRecord, tests: Sequence[str] = (), extra: str = ""
) -> tuple[pd.DataFrame, dict[bytes, bytes]]:
    """One row per fit, and what a file says beside them; arguments as for ``save``.

    Raises:
        OptionError: as for ``save``.
    """
    m, e = fits.model, fits.estimates
    p, q = len(m.xnames), len(m.znames)
    columns, labels = to_columns(fits.index)
    columns |= {"nobs": fits.nobs, "ngroups": fits.ngroups}
    columns |= {name: getattr(e, name) for name in SCALARS}
    columns |= {f"beta:{name}": e.beta[:, j] for j, name in enumerate(m.xnames)}
    columns |= {f"theta:{j}:{name}": e.theta[:, j] for j, name in enumerate(m.theta_names)}
    columns |= {f"theta_standard:{j}": e.theta_standard[:, j] for j in range(e.theta.shape[1])}
    columns |= {f"vcov:{i}:{j}": e.vcov[:, i, j] for i, j in _lower(p)}
    columns |= {f"cov:{i}:{j}": e.cov[:, i, j] for i, j in _lower(q)}
    for method in tests:
        for kind, values in zip(("std_error", "df"), fits.tests[method][:2], strict=True):
            columns |= {f"{kind}:{method}:{x}": values[:, j] for j, x in enumerate(m.xnames)}
    texts = (m.to_json(), labels, extra)
    own = {key: text.encode() for key, text in zip(OWN_KEYS, texts, strict=True)}
    return pd.DataFrame(columns), own


def load(path: str | PathLike[str]) -> tuple[FitRecord, str]:
    """Read what ``save`` wrote: the fits, without their rows, and the text.

    Raises:
        FileError: the file is not there, is damaged, or was not written by ``save``.
    """
    frame, own = read_parquet(path)
    if not {*OWN_KEYS} <= {*own}:
        raise FileError(f"{path} was not written by to_parquet of this version of jaxhlm")
    return from_table(frame, own), own[EXTRA_KEY].decode()


def from_table(frame: pd.DataFrame, own: Mapping[bytes, bytes]) -> FitRecord:
    """The fits, without their rows, that ``to_table`` made a table of."""
    m = Model.from_json(own[MODEL_KEY].decode())
    theta = [f"theta:{j}:{name}" for j, name in enumerate(m.theta_names)]
    estimates = Estimates(
        beta=_by_term(frame, "beta", m),
        vcov=_symmetric(frame, "vcov", len(m.xnames)),
        theta=frame[theta].to_numpy(),
        theta_standard=frame[[f"theta_standard:{j}" for j in range(len(theta))]].to_numpy(),
        cov=_symmetric(frame, "cov", len(m.znames)),
        **{name: frame[name].to_numpy() for name in SCALARS},
    )
    nobs, ngroups = frame["nobs"].to_numpy(), frame["ngroups"].to_numpy()
    written = dict.fromkeys(name.split(":")[1] for name in frame if name.startswith("df:"))
    tests = {method: _tests(frame, method, m) for method in written}
    index = from_columns(frame, own[LABELS_KEY].decode())
    options, lane_index = Options(m.reml, m.blocks), np.arange(len(index))
    return FitRecord(m, estimates, index, nobs, ngroups, options, lane_index, None, tests)


def _tests(frame: pd.DataFrame, method: str, m: Model) -> tuple[Floats, ...]:
    """Standard errors, df and p values (B, p) of the fixed effects."""
    beta, se, df = (
        _by_term(frame, kind, m) for kind in ("beta", f"std_error:{method}", f"df:{method}")
    )
    return se, df, np.asarray(t_tail(beta / se, df))


def _by_term(frame: pd.DataFrame, kind: str, m: Model) -> Floats:
    """(B, p) columns of the fixed effects."""
    return frame[[f"{kind}:{name}" for name in m.xnames]].to_numpy()


def _lower(d: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(d) for j in range(i + 1)]


def _symmetric(frame: pd.DataFrame, name: str, d: int) -> Floats:
    out = np.empty((len(frame), d, d))
    for i, j in _lower(d):
        out[:, i, j] = out[:, j, i] = frame[f"{name}:{i}:{j}"]
    return out
