"""Linear hypotheses Lβ = rhs, however they are written: arrays, terms with numbers, or text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from jaxhlm.core.arguments import LARGEST, real_array
from jaxhlm.core.notation import Floats
from jaxhlm.design.estimable import estimable
from jaxhlm.errors import ContrastError, NotEstimableError
from jaxhlm.language.linear import read_rows, require_known, written
from jaxhlm.linalg.factors import orthonormal_basis

__all__ = [
    "Contrasts",
    "Hypothesis",
    "independent_rows",
    "read_hypothesis",
]

Row: TypeAlias = str | Mapping[str, float]
Contrasts: TypeAlias = Row | Sequence[Row] | pd.DataFrame | ArrayLike

RANK_TOL = 1e-8


@dataclass(frozen=True)
class Hypothesis:
    """Rows of Lβ = rhs.

    Attributes:
        labels: r names of the rows.
        L: (r, p) coefficients.
        rhs: (r,) right sides.
    """

    labels: tuple[str, ...]
    L: Floats
    rhs: Floats


def read_hypothesis(
    L: Contrasts, rhs: ArrayLike, terms: Sequence[str], dropped: Sequence[str], alias: Floats
) -> Hypothesis:
    """The rows that ``L`` stands for.

    Args:
        L: an array (p,) or (r, p); a DataFrame with terms as columns and labels as index; a mapping
            (or Series) from terms to coefficients; text such as ``"x:a = 0"`` or ``"x - a = 0, 2*x
            = 1"``, whose grammar ``language/linear.py`` has; or a list of mappings or texts.
        rhs: right sides, one or r of them; with text its own "= value" may be used instead.
        terms: p names of the fixed effects.
        dropped: names of the columns that X lost to rank deficiency.
        alias: (p, dropped) what those columns are in terms of the others.

    Raises:
        UnknownTermError: a name is not among the terms.
        ContrastError: text that cannot be read, another shape, or a value that is not finite.
        NotEstimableError: a dropped column takes part and the rest does not make up for it.

    Example:
        >>> none = np.zeros((3, 0))
        >>> h = read_hypothesis("x - x:a = 2", 0, ["(Intercept)", "x", "x:a"], [], none)
        >>> h.labels, h.L.tolist(), h.rhs.tolist()
        (('x - x:a = 2',), [[0.0, 1.0, -1.0]], [2.0])
    """
    names = [*terms, *dropped]
    labels: Sequence[str] | None = None
    index = None
    if isinstance(L, pd.DataFrame):
        index = L.index
        labels, L = [str(label) for label in index], L.to_dict("records")
    rows: Any = _as_rows(L)
    if isinstance(rows, list) and rows and all(isinstance(row, str | Mapping) for row in rows):
        parts = [_written(row, names) for row in rows]
        full = np.concatenate([coefficients for coefficients, _ in parts])
        own = np.concatenate([values for _, values in parts])
    else:
        full, own = _array(L, len(terms), len(dropped)), np.zeros(1)
    right = _right_sides(rhs, own, len(full), index)
    if labels is None:
        labels = [_label(row, names, value) for row, value in zip(full, right, strict=True)]
    if full[:, len(terms) :].any():
        _check_estimable(full, alias, labels)
    return Hypothesis(tuple(labels), full[:, : len(terms)], right)


def _check_estimable(full: Floats, alias: Floats, labels: Sequence[str]) -> None:
    """Raise ``NotEstimableError`` unless all rows, over kept and dropped columns, are estimable."""
    p = len(alias)
    bad = ~estimable(full[:, :p], full[:, p:], alias)
    if bad.any():
        listed = ", ".join(repr(label) for label, is_bad in zip(labels, bad, strict=True) if is_bad)
        raise NotEstimableError(
            f"not estimable: {listed}; X is rank deficient and the data do not determine the "
            "columns that it lost (fit.design.dropped_columns)"
        )


def independent_rows(hypothesis: Hypothesis) -> tuple[Floats, Floats]:
    """The rows and right sides where they are independent, else combinations that span them.

    Raises:
        ContrastError: L is zero, or its rows contradict each other.
    """
    # A row says the same in any unit, so none is small beside another.
    size = np.abs(hypothesis.L).max(axis=1, initial=0.0)
    size = np.where(size > 0.0, size, 1.0)
    L, rhs = hypothesis.L / size[:, None], hypothesis.rhs / size
    basis = orthonormal_basis(L, RANK_TOL)
    if not len(basis):
        raise ContrastError("the contrast is zero in every term: give it a coefficient")
    if len(basis) == len(L):
        return hypothesis.L, hypothesis.rhs
    if np.abs(basis.T @ (basis @ rhs) - rhs).max() > RANK_TOL * (1.0 + np.abs(rhs).max()):
        raise ContrastError(
            "the hypothesis contradicts itself: equal combinations of terms are given different "
            "values"
        )
    return basis @ L, basis @ rhs


def _as_rows(L: Any) -> Any:
    """A list of texts and mappings, if it is one or several; anything else as it is."""
    if isinstance(L, str | Mapping):
        return [L]
    if isinstance(L, pd.Series):
        return L.tolist() if any(isinstance(x, str) for x in L) else [L.to_dict()]
    if isinstance(L, np.ndarray) and L.dtype.kind in "OU":
        return L.tolist()
    return list(L) if isinstance(L, tuple) else L


def _written(row: Row, names: Sequence[str]) -> tuple[Floats, Floats]:
    """Coefficients (r, names) and right sides (r,) of one mapping or text."""
    if isinstance(row, str):
        full, own = read_rows(row, names)
        return _finite(full), _finite(own)
    given = {str(name): value for name, value in row.items()}
    require_known(list(given), names)
    return _numbers([[given.get(name, 0.0) for name in names]]), np.zeros(1)


def _array(L: Any, p: int, dropped: int) -> Floats:
    """(r, p + dropped) coefficients from an array (p,) or (r, p)."""
    matrix = np.atleast_2d(_numbers(L))
    if matrix.ndim != 2 or matrix.shape[1] != p or not len(matrix):
        raise ContrastError(
            f"a contrast has one coefficient for each of the {p} fixed effects, in rows of an "
            f"(r, {p}) array; this one has shape {np.shape(L)}"
        )
    return np.hstack([matrix, np.zeros((len(matrix), dropped))])


def _numbers(values: Any) -> Floats:
    """An array of finite numbers."""
    found = real_array("a contrast", values, ContrastError, "biuf")
    return _finite(found)


def _finite(values: Floats) -> Floats:
    if not np.isfinite(values).all():
        raise ContrastError("a contrast holds a NaN, a masked or an infinite coefficient")
    size = np.abs(values)
    extreme = (size > LARGEST) | ((size > 0.0) & (size < 1.0 / LARGEST))
    if extreme.any():
        raise ContrastError(
            f"a contrast holds the coefficient {values[extreme][0]:g}, too far from 1 to compute "
            "with: multiply the contrast, or change the unit of the term's variable"
        )
    return values


def _right_sides(rhs: ArrayLike, own: Floats, r: int, index: pd.Index | None) -> Floats:
    """(r,) right sides from the argument and from the text, which must not both be given."""
    if isinstance(rhs, pd.Series) and not (index is not None and rhs.index.equals(index)):
        raise ContrastError(
            "rhs is a Series, which goes with a DataFrame of contrasts that has its index; pass "
            "rhs.to_numpy() to match them by position"
        )
    given = real_array("rhs", rhs, ContrastError)
    if given.ndim > 1 or given.size not in (1, r) or not np.isfinite(given).all():
        raise ContrastError(f"rhs must be one finite number, or {r} of them, one for each row")
    if given.any() and own.any():
        raise ContrastError("give the value after '=' or as rhs, not both")
    # A zero that was moved to the right of "=" has no sign.
    return np.broadcast_to(given if given.any() else own, r).astype(float) + 0.0


def _label(row: Floats, names: Sequence[str], value: float) -> str:
    """A row as one would write it."""
    text = ""
    for coefficient, name in zip(row, names, strict=True):
        if coefficient:
            sign = " - " if coefficient < 0 else " + "
            size = "" if abs(coefficient) == 1.0 else f"{_short(abs(coefficient))}*"
            text += f"{sign}{size}{written(name, names)}"
    text = text.removeprefix(" + ").replace(" - ", "-", 1) if text.startswith(" - ") else text[3:]
    return (text or "0") + (f" = {_short(value)}" if value else "")


def _short(value: float) -> str:
    """A number in few digits that are all of it, or in ten."""
    return next((s for s in (f"{value:.4g}",) if float(s) == value), f"{value:.10g}")
