"""Linear hypotheses Lβ = rhs, however they are written: arrays, terms with numbers, or text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from jaxhlm.errors import ContrastError, NotEstimableError, UnknownTermError
from jaxhlm.factors import orthonormal_basis
from jaxhlm.language.linear import read_linear
from jaxhlm.notation import Bools, Floats

__all__ = [
    "Contrasts",
    "Hypothesis",
    "check_estimable",
    "estimable",
    "independent_rows",
    "read_hypothesis",
]

Row: TypeAlias = str | Mapping[str, float]
Contrasts: TypeAlias = Row | Sequence[Row] | pd.DataFrame | ArrayLike

ESTIMABLE_TOL = 1e-8


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
            from terms to coefficients; text such as ``"x:a = 0"`` or ``"x - a = 0, 2*x = 1"``; or a
            list of mappings or texts.
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
    if isinstance(L, pd.DataFrame):
        labels, L = [str(label) for label in L.index], L.to_dict("records")
    rows: Any = [L] if isinstance(L, str | Mapping) else L
    if isinstance(rows, Sequence) and rows and isinstance(rows[0], str | Mapping):
        parts = [_written(row, names) for row in rows]
        full = np.concatenate([coefficients for coefficients, _ in parts])
        own = np.concatenate([values for _, values in parts])
    else:
        full, own = _array(L, len(terms), len(dropped)), np.zeros(1)
    right = _right_sides(rhs, own, len(full))
    if labels is None:
        labels = [_label(row, names, value) for row, value in zip(full, right, strict=True)]
    if full[:, len(terms) :].any():
        check_estimable(full, alias, labels)
    return Hypothesis(tuple(labels), full[:, : len(terms)], right)


def estimable(full: Floats, alias: Floats) -> Bools:
    """(r,) whether rows over kept and dropped columns of X (r, p + dropped) have a unique value.

    c'β is estimable if c is in the row space of X (Searle 1971, Linear Models, chapter 5): with
    X_dropped = X_kept · alias, if c_dropped = alias'c_kept.
    """
    p = len(alias)
    gap = np.abs(full[:, p:] - full[:, :p] @ alias)
    return (gap <= ESTIMABLE_TOL * np.abs(full).max(axis=1, keepdims=True)).all(axis=1)


def check_estimable(full: Floats, alias: Floats, labels: Sequence[str]) -> None:
    """Raise ``NotEstimableError`` unless all rows are estimable."""
    bad = ~estimable(full, alias)
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
    L, rhs = hypothesis.L, hypothesis.rhs
    basis = orthonormal_basis(L, ESTIMABLE_TOL)
    if not len(basis):
        raise ContrastError("the contrast is zero in every term: give it a coefficient")
    if len(basis) == len(L):
        return L, rhs
    if np.abs(basis.T @ (basis @ rhs) - rhs).max() > ESTIMABLE_TOL * (1.0 + np.abs(rhs).max()):
        raise ContrastError(
            "the hypothesis contradicts itself: equal combinations of terms are given different "
            "values"
        )
    return basis @ L, basis @ rhs


def _written(row: Row, names: Sequence[str]) -> tuple[Floats, Floats]:
    """Coefficients (r, names) and right sides (r,) of one mapping or text."""
    if isinstance(row, Mapping):
        _require_known([str(name) for name in row], names)
        return _finite([[float(row.get(name, 0.0)) for name in names]]), np.zeros(1)
    found = read_linear(row, names)
    matrix = [[one.get(name, 0.0) for name in names] for one in found]
    return _finite(matrix), _finite([[-one.get(None, 0.0) for one in found]])[0]


def _require_known(found: Sequence[str], names: Sequence[str]) -> None:
    unknown = [name for name in found if name not in names]
    if unknown:
        raise UnknownTermError(
            f"no fixed effect {unknown[0]!r}; the terms are: " + ", ".join(map(repr, names))
        )


def _array(L: Any, p: int, dropped: int) -> Floats:
    """(r, p + dropped) coefficients from an array (p,) or (r, p)."""
    try:
        matrix = np.atleast_2d(np.asarray(L, dtype=float))
    except (TypeError, ValueError):
        matrix = np.empty((0, 0))
    if matrix.ndim != 2 or matrix.shape[1] != p or not len(matrix):
        raise ContrastError(
            f"a contrast has one coefficient for each of the {p} fixed effects, in rows of an "
            f"(r, {p}) array; this one has shape {np.shape(L)}"
        )
    return np.hstack([_finite(matrix), np.zeros((len(matrix), dropped))])


def _finite(values: ArrayLike) -> Floats:
    matrix = np.asarray(values, dtype=float)
    if not np.isfinite(matrix).all():
        raise ContrastError("a contrast holds a NaN or an infinite coefficient")
    return matrix


def _right_sides(rhs: ArrayLike, own: Floats, r: int) -> Floats:
    """(r,) right sides from the argument and from the text, which must not both be given."""
    given = np.asarray(rhs, dtype=float)
    if given.ndim > 1 or given.size not in (1, r) or not np.isfinite(given).all():
        raise ContrastError(f"rhs must be one finite number, or {r} of them, one for each row")
    if given.any() and own.any():
        raise ContrastError("give the value after '=' or as rhs, not both")
    return np.broadcast_to(given if given.any() else own, r).astype(float)


def _label(row: Floats, names: Sequence[str], value: float) -> str:
    """A row as one would write it."""
    text = ""
    for coefficient, name in zip(row, names, strict=True):
        if coefficient:
            sign = " - " if coefficient < 0 else " + "
            size = "" if abs(coefficient) == 1.0 else f"{abs(coefficient):.4g}*"
            text += f"{sign}{size}{name}"
    text = text.removeprefix(" + ").replace(" - ", "-", 1) if text.startswith(" - ") else text[3:]
    return (text or "0") + (f" = {value:.4g}" if value else "")
