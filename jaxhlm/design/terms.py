"""The sides of a formula as columns of numbers, and again for new data with what they learned."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, product
from typing import Any

import numpy as np
import pandas as pd

from jaxhlm.core.notation import Bools, Floats
from jaxhlm.design.coding import CodedColumns, Coding, Scoped, coded, scoped_terms
from jaxhlm.design.columns import listed, prepare_new, require_finite
from jaxhlm.design.evaluation import Columns, Factor, Learned, columns_of, evaluate
from jaxhlm.design.missing_values import any_missing
from jaxhlm.errors import (
    FormulaError,
    IdentifiabilityError,
    NotNumericError,
    NumbersAsTextWarning,
    warn_user,
)
from jaxhlm.language.algebra import read_terms
from jaxhlm.language.expression import read
from jaxhlm.language.formula import ParsedFormula
from jaxhlm.language.functions import values_as_levels
from jaxhlm.language.nodes import Column, Expression, full_basis
from jaxhlm.language.words import quoted
from jaxhlm.likelihood.random_term import RandomTerm

__all__ = [
    "Part",
    "applied",
    "check_levels",
    "evaluate_new",
    "evaluate_numbers",
    "fit_part",
    "offset_part",
    "random_terms",
    "recoded",
    "relearned",
    "response_part",
]

# Columns of one model matrix, and its numbers: what is larger is a mistake, or never done.
MAX_COLUMNS = 20_000
MAX_CELLS = 2**30
# A code of a few digits may be meant as a factor; more values are more likely measurements.
FEW_LEVELS = 5
_NUMBER = re.compile(r"[-+]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][-+]?\d+)?")


@dataclass(frozen=True)
class Part:
    """One side of a formula, evaluated on the rows that are fitted.

    Attributes:
        factors: its expressions.
        levels: for every factor its levels, or None for one of numbers.
        scoped: how the factors enter, in the order of the columns.
        learned: what the expressions learned.
        variables: the columns that it reads.
        names: of the columns that it makes, as lme4 prints them.
        terms: of each of these columns, the term that it is of, such as "a:x".
        written: the factors of every term as it is written, by its name.
    """

    factors: tuple[Expression, ...]
    levels: tuple[tuple[object, ...] | None, ...]
    scoped: tuple[Scoped, ...]
    learned: Learned
    variables: tuple[str, ...]
    names: tuple[str, ...]
    terms: tuple[str, ...]
    written: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def stateful(self) -> tuple[str, ...]:
        """The calls that learned something from the rows, such as ``center(x)``."""
        found = self.learned.values.items()
        return tuple(
            text for text, value in found if value != {} and text not in self.learned.known
        )

    @property
    def settled(self) -> Part:
        """The part with nothing left to learn: what it learned is known from here on."""
        return replace(self, learned=replace(self.learned, known=self.learned.values))

    @property
    def learns(self) -> bool:
        """Whether its columns depend on the rows as a whole, levels of ``C()`` included."""
        return bool(self.stateful or self.learned.levels)

    @property
    def coding(self) -> dict[str, tuple[object, ...]]:
        """The levels of every factor, in the order of their coding."""
        pairs = zip(self.factors, self.levels, strict=True)
        return {factor.text: levels for factor, levels in pairs if levels is not None}

    @property
    def coded(self) -> tuple[str, ...]:
        """The variables that enter as factors, also numbers inside ``C()``.

        Not those of a comparison: its levels are True and False, whatever numbers it is made of.
        """
        pairs = zip(self.factors, self.levels, strict=True)
        coded = {v for f, levels in pairs if levels is not None for v in values_as_levels(f.node)}
        return tuple(v for v in self.variables if v in coded)


def fit_part(
    side: str, frame: pd.DataFrame, labels: pd.Index, known: Mapping[str, Any] | None = None
) -> tuple[Part, Floats]:
    """Evaluate a right side for the first time: the part returned holds what it learned.

    Args:
        side: the terms.
        frame: (n, …) prepared columns.
        labels: of the rows.
        known: what calls learned elsewhere and shall not learn again, by their text.
    """
    terms = read_terms(side)
    factors = tuple(dict.fromkeys(factor for term in terms for factor in term))
    places = {factor: i for i, factor in enumerate(factors)}
    learned, columns = Learned(known=known or {}), columns_of(frame)
    values = _values(factors, columns, len(frame), learned, True)
    levels = tuple(tuple(v.levels) if isinstance(v, Factor) else None for v in values)
    spans = [
        isinstance(v, Factor) or full_basis(f.node) for f, v in zip(factors, values, strict=True)
    ]
    written = {_label(term): tuple(places[f] for f in term) for term in terms}
    if len(written) < len(terms):
        labels_of_all = [_label(term) for term in terms]
        twice = next(x for x in labels_of_all if labels_of_all.count(x) > 1)
        raise FormulaError(f"two terms are both named '{twice}': rename a column")
    scoped = scoped_terms(written.values(), spans)
    variables = tuple(dict.fromkeys(v for factor in factors for v in factor.variables))
    flat = tuple(chain.from_iterable(scoped))
    coded_columns = _coded_columns(factors, values, flat, len(frame))
    names, labels_of_terms = list[str](), list[str]()
    for label, entered in zip(written, scoped, strict=True):
        own = [name for term in entered for name in _names(factors, term, coded_columns)]
        names, labels_of_terms = names + own, labels_of_terms + [label] * len(own)
    part = Part(
        factors, levels, flat, learned, variables, tuple(names), tuple(labels_of_terms), written
    )
    matrix = np.ascontiguousarray(_columns(flat, coded_columns, len(frame)).T)
    require_finite(matrix, part.names, labels)
    return part, matrix


ColumnsOfCodings = Mapping[tuple[int, bool], CodedColumns]


def _values(
    factors: Sequence[Expression], columns: Columns, rows: int, learned: Learned, learning: bool
) -> list[Floats | Factor]:
    return [evaluate(f.node, f.text, columns, rows, learned, learning) for f in factors]


def _coded_columns(
    factors: Sequence[Expression],
    values: Sequence[Floats | Factor],
    scoped: Sequence[Scoped],
    rows: int,
) -> ColumnsOfCodings:
    """The columns of every factor in each coding with which it enters."""
    used = dict.fromkeys(coding for term in scoped for coding in term)
    width = [len(v.levels) if isinstance(v, Factor) else v[:1].size for v in values]
    columns = sum(math.prod(width[coding.factor] for coding in term) for term in scoped)
    if columns > MAX_COLUMNS or columns * rows > MAX_CELLS:
        raise IdentifiabilityError(
            f"the terms make {columns:,} columns of {rows:,} rows: too many; "
            "a number that became a factor, or a crossing of factors with many levels?"
        )
    return {
        coding: coded(values[coding[0]], coding[1], full_basis(factors[coding[0]].node))
        for coding in used
    }


def _label(term: Sequence[Expression]) -> str:
    return ":".join(factor.text for factor in term) or "(Intercept)"


def _names(
    factors: Sequence[Expression], term: Scoped, coded_columns: ColumnsOfCodings
) -> list[str]:
    """Names of the columns of a term; the first factor varies fastest, as in R."""
    if not term:
        return ["(Intercept)"]
    own = [
        [factors[coding.factor].text + label for label in coded_columns[coding].labels]
        for coding in term
    ]
    return [":".join(reversed(names)) for names in product(*reversed(own))]


def _columns(scoped: Sequence[Scoped], coded_columns: ColumnsOfCodings, rows: int) -> Floats:
    """(columns, rows) products of the columns of factors."""
    widths = (math.prod(len(coded_columns[c].columns) for c in term) for term in scoped)
    out = np.ones((sum(widths), rows))
    # Lanes that overflow get a status instead of a warning.
    with np.errstate(all="ignore"):
        rest = iter(out)
        for term in scoped:
            for columns in product(*(coded_columns[coding].columns for coding in reversed(term))):
                column = next(rest)
                for factor in reversed(columns):
                    column *= factor
    return out


def check_levels(parts: Sequence[Part]) -> None:
    """Refuse a factor of one level, which would have no column; warn of numbers that are text."""
    factors = {
        f: levels for part in parts for f, levels in zip(part.factors, part.levels, strict=True)
    }
    for factor, levels in factors.items():
        if levels is None:
            continue
        if isinstance(factor.node, Column) and _are_numbers(levels):
            warn_user(
                f"column '{factor.text}' holds text, and its {len(levels)} values are all numbers: "
                "it enters as a factor; convert it with pandas.to_numeric for a slope, or write "
                f"C({quoted(factor.text)}) if a factor is meant",
                NumbersAsTextWarning,
            )
        if len(levels) == 1:
            raise IdentifiabilityError(
                f"factor '{factor.text}' has one level only, {listed(levels)}: contrasts need two "
                "or more, so leave it out of the formula"
            )


def _are_numbers(levels: Sequence[object]) -> bool:
    """Whether these are more than a few texts, each of which is a number."""
    if len(levels) <= FEW_LEVELS:
        return False
    return all(isinstance(v, str) and _NUMBER.fullmatch(v.strip()) for v in levels)


def evaluate_new(part: Part, raw: pd.DataFrame, factors: dict[str, pd.Index | None]) -> Floats:
    """(m, columns) of a part for new data, NaN in the rows that lack one of its variables."""
    raw = raw[list(part.variables)]
    known = ~any_missing(raw)
    out = np.full((len(raw), len(part.names)), np.nan)
    if known.any():
        labels, complete = raw.index[known], raw[known].reset_index(drop=True)
        ready = {v: prepare_new(complete[v], labels, factors[v]) for v in complete.columns}
        columns = columns_of(pd.DataFrame(ready, index=complete.index))
        out[known] = applied(part, columns, len(complete)).T
        require_finite(out[known], part.names, labels)
    return out


def applied(part: Part, columns: Columns, rows: int, learning: bool = False) -> Floats:
    """(columns, rows) of a part on prepared columns, by what it has learned or is ``learning``."""
    values = _values(part.factors, columns, rows, part.learned, learning)
    return _columns(part.scoped, _coded_columns(part.factors, values, part.scoped, rows), rows)


def recoded(part: Part, columns: Columns, rows: int) -> tuple[Floats, list[Floats]]:
    """A part by treatment contrasts, and every term by the indicators of all of its cells.

    Args:
        part: the part.
        columns: (n,) prepared values of its variables.
        rows: n.

    Returns:
        (n, columns) in the order of the part's, and for every term of ``written`` (n, cells).
    """
    given = _values(part.factors, columns, rows, part.learned, False)
    values = [replace(v, contrast=None) if isinstance(v, Factor) else v for v in given]

    def of(scoped: Sequence[Scoped]) -> Floats:
        return _columns(scoped, _coded_columns(part.factors, values, scoped, rows), rows).T

    cells = [of([tuple(Coding(f, False) for f in term)]) for term in part.written.values()]
    return of(part.scoped), cells


def relearned(part: Part, columns: Columns, rows: int) -> tuple[Part, Floats]:
    """The part with what it would have learned from other rows, and its columns; levels stay."""
    own = replace(part, learned=part.learned.forgotten())
    return own, applied(own, columns, rows, learning=True)


def evaluate_numbers(part: Part, columns: Mapping[str, Floats | Bools]) -> Floats:
    """(n, columns) of a part that reads numbers only, whatever is not finite let through.

    Columns lie one after the other in memory.

    Args:
        part: a part whose variables are numbers.
        columns: (n,) values, none missing, of at least its variables.
    """
    return applied(part, columns, len(next(iter(columns.values())))).T


def response_part(response: str, frame: pd.DataFrame, labels: pd.Index) -> tuple[Part, Floats]:
    """The left side, which must be one numeric column, and its (n,) values."""
    expression, learned = read(response), Learned()
    value = evaluate(expression.node, expression.text, columns_of(frame), len(frame), learned, True)
    if isinstance(value, Factor):
        raise NotNumericError(
            f"the response '{response}' must be numeric, it is a factor; convert it to numbers"
        )
    if value.ndim != 1 and value.shape[1] != 1:
        raise FormulaError(f"the response '{response}' gives {value.shape[1]} columns, not one")
    values = value.reshape(len(frame))
    part = Part(
        (expression,),
        (None,),
        ((Coding(0, False),),),
        learned,
        expression.variables,
        (expression.text,),
        (expression.text,),
    )
    require_finite(values[:, None], part.names, labels)
    return part, values


NOTHING = Part((), (), (), Learned(), (), (), ())


def offset_part(
    parsed: ParsedFormula, frame: pd.DataFrame, labels: pd.Index, known: Mapping[str, Any] | None
) -> tuple[Part, Floats | None]:
    """The offsets, each a column of numbers, and their (n,) sum; None where there are none.

    Args:
        parsed: the formula.
        frame, labels, known: as for ``fit_part``.
    """
    if not parsed.offsets:
        return NOTHING, None
    part, columns = fit_part(parsed.offset, frame, labels, known)
    for factor, levels in zip(part.factors, part.levels, strict=True):
        if levels is not None:
            raise NotNumericError(f"offset({factor.text}) must be numeric, it is a factor")
    if len(part.names) > len(part.factors):
        raise FormulaError(
            f"the offsets {', '.join(part.written)} give {len(part.names)} columns, not one each"
        )
    return part, columns.sum(axis=1)


def random_terms(parsed: ParsedFormula, parts: Sequence[Part]) -> tuple[RandomTerm, ...]:
    """The random terms over the columns of Z: one as written, one per column under ``||``."""
    group, terms, start = ":".join(parsed.group), list[RandomTerm](), 0
    for written, part in zip(parsed.random, parts, strict=True):
        if not part.names:
            raise FormulaError(f"the random term ({written.expr} | ...) has no column")
        size = 1 if written.diagonal else len(part.names)
        for i in range(0, len(part.names), size):
            names = part.names[i : i + size]
            terms.append(RandomTerm(group, tuple(range(start, start + size)), names))
            start += size
    return tuple(terms)
