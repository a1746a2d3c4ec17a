"""Columns of a model matrix from terms: contrasts of factors, without columns that repeat others.

A factor enters by contrasts where terms before it span its mean, and by one indicator for each
level where they do not, as in S (Chambers & Hastie 1992, chapter 2) and formulaic.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import NamedTuple, TypeAlias

import numpy as np

from jaxhlm.core.notation import Floats
from jaxhlm.design.evaluation import Factor, level_text
from jaxhlm.errors import FormulaError
from jaxhlm.language.nodes import Constant

__all__ = ["CodedColumns", "Coding", "Scoped", "coded", "scoped_terms"]


class Coding(NamedTuple):
    """A factor of a term in a term: by contrasts if ``reduced``."""

    factor: int
    reduced: bool


Scoped: TypeAlias = tuple[Coding, ...]


class CodedColumns(NamedTuple):
    """The columns of one factor of a term: their labels and (n,) values."""

    labels: tuple[str, ...]
    columns: Sequence[Floats]


def scoped_terms(terms: Iterable[Sequence[int]], spans_mean: Sequence[bool]) -> list[list[Scoped]]:
    """How the factors of every term enter, so that the columns of factors are independent.

    A term without its margins enters in several ways: ``a:b`` beside an intercept has the columns
    of ``b`` and of ``a`` within every level of ``b``.

    Args:
        terms: the numbers of the factors of every term.
        spans_mean: for every factor whether its full set of columns sums to a constant.

    Example:
        >>> scoped_terms([(), (0,)], [True])
        [[()], [(Coding(factor=0, reduced=True),)]]
        >>> scoped_terms([(0,)], [True])
        [[(Coding(factor=0, reduced=False),)]]
    """
    spanned: set[frozenset[Coding]] = set()
    found: list[list[Scoped]] = []
    for term in terms:
        choices = [(Coding(f, True), None) if spans_mean[f] else (Coding(f, False),) for f in term]
        span = [tuple(c for c in chosen if c is not None) for chosen in product(*choices)]
        new = [s for s in span if frozenset(s) not in spanned]
        spanned |= {frozenset(s) for s in new}
        found.append(_simplified(new))
    return found


def _simplified(terms: list[Scoped]) -> list[Scoped]:
    """``a:b⁻ + a`` is ``a:b``, again and again; b⁻ are the contrasts of b."""
    kept: list[Scoped] = []
    for term in sorted(terms, key=len):
        for other in kept:
            extra = set(term) - set(other)
            if len(other) == len(term) - 1 and len(extra) == 1 and next(iter(extra)).reduced:
                (widened,) = extra
                merged = tuple(Coding(c.factor, c.reduced and c != widened) for c in term)
                kept = _simplified([*(t for t in kept if t is not other), merged])
                break
        else:
            if not any(set(term) == set(t) for t in kept):
                kept.append(term)
    return kept


def coded(value: Floats | Factor, reduced: bool, full_basis: bool) -> CodedColumns:
    """The columns of a factor of a term.

    Args:
        value: (n,) numbers, (n, k) columns, or a factor.
        reduced: by contrasts, or without the first column of a full basis.
        full_basis: whether the columns of a number span its mean.
    """
    if isinstance(value, Factor):
        return _coded_levels(value, reduced)
    if value.ndim == 1:
        return CodedColumns(("",), (value,))
    first = int(full_basis and reduced)
    names = [str(k if full_basis else k + 1) for k in range(value.shape[1])]
    return CodedColumns(tuple(names[first:]), list(value.T[first:]))


def _coded_levels(factor: Factor, reduced: bool) -> CodedColumns:
    kind, *given = factor.contrast or ("treatment",)
    texts, options = [level_text(level) for level in factor.levels], dict(given)
    if reduced and kind != "treatment":
        labels, matrix = _contrasts(kind, options, texts)
        return CodedColumns(
            labels, [np.ascontiguousarray(column)[factor.codes] for column in matrix.T]
        )
    base = -1
    if reduced:
        base = 0 if options.get("base") is None else _base(texts, options["base"])
    kept = [i for i in range(len(texts)) if i != base]
    columns = [(factor.codes == i).astype(float) for i in kept]
    return CodedColumns(tuple(texts[i] for i in kept), columns)


def _base(texts: list[str], base: object) -> int:
    if level_text(base) not in texts:
        raise FormulaError(
            f"the base {base!r} of the contrasts is not a level: {', '.join(map(repr, texts[:10]))}"
        )
    return texts.index(level_text(base))


def _contrasts(
    kind: str, options: Mapping[str, Constant], texts: list[str]
) -> tuple[tuple[str, ...], Floats]:
    """Labels and (levels, columns) coding of other contrasts than treatment contrasts."""
    # Few formulas have other contrasts, and formulaic takes a second to import.
    from formulaic.transforms.contrasts import ContrastsRegistry

    if options.get("base") is not None:
        options = {**options, "base": level_text(options["base"])}
    options = {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}
    try:
        contrasts = getattr(ContrastsRegistry, kind)(**options)
        matrix = contrasts.get_coding_matrix(texts, reduced_rank=True)
    except Exception as error:
        raise FormulaError(f"contr.{kind} cannot code {len(texts)} levels: {error}") from None
    return tuple(map(str, matrix.columns)), np.asarray(matrix, dtype=float)
