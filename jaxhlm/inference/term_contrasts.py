"""Contrasts that test the terms of a model: types I, II and III of the analysis of variance.

Let R hold every term by the indicators of all of its cells, times its covariates, and let X be the
model by treatment contrasts, so that R = X L'. A function c'γ of the parameters of R is estimable
if c = Lv, and it is then v'β (Goodnight 1980, Comm. Statist. A9, 167-180). A term is contained in
another that has all its factors, more of them, and the same covariates. The hypothesis of a term is

* type I: that its columns add nothing to those of the terms before it, the rows of the triangular
  factor of X with ones on the diagonal;
* type II: the same after all terms that do not contain it;
* type III: the estimable functions of its parameters and of those that contain it which are
  orthogonal to those of the latter; where every cell has rows, that its marginal means over all
  cells, with equal weights, are the same;
* removal: that the model without the term's columns holds; its own coefficients are zero, where no
  other term has columns that depend on them.

The matrices are those of ``lmerTest``, on which Satterthwaite's df of several rows depend (so that
those of types I and II are other ones in other contrasts), but for a factor that another is nested
in: of ``a/b`` lmerTest's types II and III test ``a`` at the first level of ``b``, and these, as
SAS, over all levels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from jaxhlm.core.notation import Bools, Floats, Ints
from jaxhlm.design.checks import independent_columns
from jaxhlm.design.design import Design
from jaxhlm.design.evaluation import Factor
from jaxhlm.design.terms import recoded

__all__ = ["TermColumns", "TermTest", "TestType", "removal", "term_columns", "type_three"]

TestType = Literal["III", "II", "I"]
TermTest = Literal["III", "II", "I", "removal"]

INTERCEPT = "(Intercept)"
RANK_TOL = 1e-8


@dataclass(frozen=True)
class TermColumns:
    """The terms of the fixed part of a design, but for the intercept.

    Attributes:
        labels: T names.
        columns: of every term its columns among the p of X.
        containing: for every term the numbers of those that contain it.
        marginal: for every term whether no other has all of its variables.
        p: columns of X.
        depends: whether X lost columns to rank deficiency.
    """

    labels: tuple[str, ...]
    columns: tuple[Ints, ...]
    containing: tuple[tuple[int, ...], ...]
    marginal: tuple[bool, ...]
    p: int
    depends: bool

    def sequential(self, X: Floats) -> list[Floats]:
        """(rows, p) for every term: type I, from X (n, p)."""
        R = _triangular(X)
        return [R[at] for at in self.columns]

    def hierarchical(self, X: Floats) -> list[Floats]:
        """(rows, p) for every term: type II, from X (n, p)."""
        return [self._after_others(X, t) for t in range(len(self.labels))]

    def _after_others(self, X: Floats, t: int) -> Floats:
        own = self.columns[t]
        if not self.containing[t]:
            return np.eye(self.p)[own]
        above = np.concatenate([self.columns[u] for u in self.containing[t]])
        before = np.setdiff1d(np.arange(self.p), np.r_[own, above])
        order = np.r_[before, own, above]
        out = np.zeros((len(own), self.p))
        out[:, order] = _triangular(X[:, order])[len(before) : len(before) + len(own)]
        return out

    def from_rows(self, test: TermTest) -> Callable[[Floats], list[Floats]] | None:
        """How the contrasts follow from X (n, p), or None where they are those of any rows."""
        # All tests of one term are the same, and lmerTest takes the rows of type I.
        if test == "I" or (len(self.labels) == 1 and not self.depends):
            return self.sequential
        return self.hierarchical if test == "II" else None


def term_columns(design: Design) -> TermColumns:
    """The terms of the fixed part of a design."""
    part = design._fixed
    kept = np.array([part.terms[j] for j in design._x_columns], dtype=object)
    labels = tuple(label for label in part.written if label != INTERCEPT)
    factors = [frozenset(part.written[label]) for label in labels]
    numeric = {f for f, levels in enumerate(part.levels) if levels is None}
    containing = tuple(
        tuple(u for u, b in enumerate(factors) if a < b and a & numeric == b & numeric)
        for a in factors
    )
    return TermColumns(
        labels,
        tuple(np.flatnonzero(kept == label) for label in labels),
        containing,
        tuple(not any(a < b for b in factors) for a in factors),
        len(kept),
        bool(design.dropped_columns),
    )


def removal(design: Design, terms: TermColumns) -> list[Floats]:
    """(rows, p) for every term: what the model without it leaves out.

    That model has Xβ with β in the span of the coefficients of all columns that it keeps, those
    that X lost to rank deficiency included.
    """
    identity = np.eye(terms.p)
    if not terms.depends:
        return [identity[at] for at in terms.columns]
    part = design._fixed
    lost = np.setdiff1d(np.arange(len(part.names)), design._x_columns)
    full = np.concatenate([identity, design._alias], axis=1)
    own = np.array([part.terms[j] for j in (*design._x_columns, *lost)], dtype=object)
    return [_complement(full[:, own != label]) for label in terms.labels]


def type_three(design: Design, terms: TermColumns) -> list[Floats]:
    """(rows, p) for every term: type III.

    Args:
        design: whose rows have every cell that is to count.
        terms: its terms.
    """
    part = design._fixed
    if all(levels is None for levels in part.levels):
        return [np.eye(terms.p)[at] for at in terms.columns]
    X, cells = recoded(part, _variables(design), design.n)
    kept = list(design._x_columns)
    by_treatment = np.array_equal(X[:, kept], design.X)
    if not by_treatment:
        kept = list(independent_columns(X)[0])
    X, own = X[:, kept], np.array([part.terms[j] for j in kept], dtype=object)
    L = np.concatenate([_coefficients(X, R) for R in cells], axis=1).T
    columns = [np.flatnonzero(own == label) for label in terms.labels]
    found = []
    for at, above in zip(columns, terms.containing, strict=True):
        v = np.eye(len(kept))[at]
        if above:
            others = np.concatenate([columns[u] for u in above])
            v[:, others] = -np.linalg.lstsq(L[:, others], L[:, at], rcond=None)[0].T
        found.append(v)
    if by_treatment:
        return found
    to_treatment = _coefficients(X, design.X)
    return [v @ to_treatment for v in found]


def _variables(design: Design) -> dict[str, Floats | Bools | Factor]:
    """The values of the variables of the fixed part in the rows of a design."""
    found: dict[str, Floats | Bools | Factor] = {}
    for name, values in design._covariates.items():
        levels = design._factors[name]
        if levels is None or levels.dtype == bool:
            found[name] = values
        else:
            found[name] = Factor(values.astype(np.int64), levels.tolist())
    return found


def _triangular(X: Floats) -> Floats:
    """The triangular factor of X with ones on its diagonal; NaN where X has too few rows."""
    n, p = X.shape
    R = np.linalg.qr(np.pad(X, ((0, max(p - n, 0)), (0, 0))), mode="r")
    with np.errstate(all="ignore"):
        return np.asarray(R / np.diagonal(R)[:, None], dtype=float)


def _coefficients(X: Floats, Y: Floats) -> Floats:
    """What columns of Y are in terms of those of X, whose sizes may differ much."""
    size = np.abs(X).max(axis=0)
    size[size == 0.0] = 1.0
    found = np.linalg.lstsq(X / size, Y, rcond=None)[0]
    return np.asarray(found / size[:, None], dtype=float)


def _complement(B: Floats) -> Floats:
    """An orthonormal basis, in rows, of all that is orthogonal to the columns of B (p, m)."""
    size = np.abs(B).max(axis=0, initial=0.0)
    U, s, _ = np.linalg.svd(B / np.where(size > 0.0, size, 1.0))
    return np.asarray(U[:, int((s > RANK_TOL).sum()) :].T, dtype=float)
