"""Estimates of a batch to and from one Parquet file, with all that labels them.

Formats: 1, before they were numbered, had no options and nothing but the fixed effects' df; 2 has
what any contrast's test takes of the data (``contrast_information``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd

from jaxhlm.core.files import check_target, read_parquet, write_parquet
from jaxhlm.core.notation import Floats
from jaxhlm.errors import FileError
from jaxhlm.estimation.estimates import Estimates
from jaxhlm.estimation.model import Model
from jaxhlm.inference.contrast_information import KeptInformation
from jaxhlm.inference.tails import t_tail
from jaxhlm.optimise.options import Options
from jaxhlm.results.known_tests import KnownTests
from jaxhlm.results.labels import from_columns, to_columns
from jaxhlm.results.record import PER_FIT, FitRecord

__all__ = ["check_saving", "from_table", "load", "save", "to_table"]

MODEL_KEY, LABELS_KEY, EXTRA_KEY = b"jaxhlm.estimation.model", b"jaxhlm.labels", b"jaxhlm.extra"
OWN_KEYS = (MODEL_KEY, LABELS_KEY, EXTRA_KEY)
FORMAT_KEY, OPTIONS_KEY = b"jaxhlm.format", b"jaxhlm.options"
FORMAT = 2
SCALARS = ("sigma", "criterion", "status", "iterations", "gradient_norm")


def check_saving(path: str | PathLike[str], index: pd.Index) -> None:
    """Refuse, before anything is computed, what ``save`` would refuse afterwards.

    Raises:
        FileError, OptionError: as for ``save``.
    """
    check_target(path)
    to_columns(index)


def save(path: str | PathLike[str], fits: FitRecord, extra: str = "") -> None:
    """Write one row per fit.

    Args:
        path: the file.
        fits: the fits; what is known of their tests is written as well.
        extra: any text beside them.

    Raises:
        OptionError: a label is of a type that a file cannot hold.
        FileError: the file cannot be written; an older one of this name is still there.
    """
    write_parquet(path, *to_table(fits, extra))


def to_table(fits: FitRecord, extra: str = "") -> tuple[pd.DataFrame, dict[bytes, bytes]]:
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
    columns |= {name: fits.kept[name] for name in PER_FIT if name in fits.kept}
    if (rows := fits.rows_given) is not None:
        columns["rows_given"] = rows
    for method, known in fits.tests.items():
        columns |= _tests_columns(method, known, m)
    texts = (m.to_json(), labels, extra)
    own = {key: text.encode() for key, text in zip(OWN_KEYS, texts, strict=True)}
    o = fits.options
    options = {"tol": o.tol, "max_iter": int(o.max_iter), "precision": o.precision}
    own |= {FORMAT_KEY: str(FORMAT).encode(), OPTIONS_KEY: json.dumps(options).encode()}
    return pd.DataFrame(columns), own


def load(path: str | PathLike[str]) -> tuple[FitRecord, str]:
    """Read what ``save`` wrote: the fits, without their rows, and the text.

    Raises:
        FileError: the file is not there, is damaged, was not written by ``save``, or by that of a
            newer version.
    """
    frame, own = read_parquet(path)
    if not {*OWN_KEYS} <= {*own}:
        raise FileError(f"{path} was not written by to_parquet of jaxhlm")
    try:
        return from_table(frame, own), own[EXTRA_KEY].decode()
    except FileError as error:
        raise FileError(f"{path}: {error}") from None


def from_table(frame: pd.DataFrame, own: Mapping[bytes, bytes]) -> FitRecord:
    """The fits, without their rows, that ``to_table`` made a table of.

    Raises:
        FileError: a newer version made it.
    """
    told = int(own.get(FORMAT_KEY, b"1"))
    if told > FORMAT:
        raise FileError(
            f"these fits were written in format {told} by a newer version of jaxhlm, and this one "
            f"reads formats 1 to {FORMAT}: update jaxhlm"
        )
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
    tests = {
        method: KnownTests(_tests(frame, method, m), _information(frame, method, m))
        for method in written
    }
    index = from_columns(frame, own[LABELS_KEY].decode())
    given: dict[str, Any] = json.loads(own.get(OPTIONS_KEY, b"{}"))
    options, lane_index = Options(m.reml, m.blocks, **given), np.arange(len(index))
    fits = FitRecord(m, estimates, index, nobs, ngroups, options, lane_index, None, tests=tests)
    fits.kept.update({name: frame[name].to_numpy() for name in PER_FIT if name in frame})
    return fits


def _tests_columns(method: str, known: KnownTests, m: Model) -> dict[str, Floats]:
    """Columns of what is known of tests by a method; none where it is not of the fixed effects."""
    if known.tests is None:
        return {}
    named = zip(("std_error", "df"), known.tests[:2], strict=True)
    columns = {
        f"{kind}:{method}:{x}": values[:, j]
        for kind, values in named
        for j, x in enumerate(m.xnames)
    }
    kept, name = known.information, f"information:{method}"
    if kept is None:
        return columns
    p = len(m.xnames)
    columns[f"{name}:nu"] = kept.nu
    columns |= {f"{name}:root:{i}:{j}": kept.root[:, i, j] for i, j in np.ndindex(p, p)}
    for s in range(kept.forms.shape[1]):
        columns |= {f"{name}:form:{s}:{i}:{j}": kept.forms[:, s, i, j] for i, j in _lower(p)}
    if kept.correction is not None:
        columns |= {f"{name}:correction:{i}:{j}": kept.correction[:, i, j] for i, j in _lower(p)}
    return columns


def _information(frame: pd.DataFrame, method: str, m: Model) -> KeptInformation | None:
    """What any contrast's test by a method takes of the data, if it was written."""
    name, p = f"information:{method}", len(m.xnames)
    if f"{name}:nu" not in frame:
        return None
    root = frame[[f"{name}:root:{i}:{j}" for i, j in np.ndindex(p, p)]].to_numpy()
    forms = [_symmetric(frame, f"{name}:form:{s}", p) for s in range(len(m.theta_names))]
    corrected = f"{name}:correction:0:0" in frame
    return KeptInformation(
        frame[f"{name}:nu"].to_numpy(),
        root.reshape(-1, p, p),
        np.stack(forms, axis=1),
        _symmetric(frame, f"{name}:correction", p) if corrected else None,
    )


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
