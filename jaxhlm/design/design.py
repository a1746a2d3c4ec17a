"""From a formula and a data frame to y, X, Z and the group codes; pandas stops here.

Letters are those of `jaxhlm.core.notation`: n rows, p fixed effects, q random effects per group, G
groups. Factors are coded as R does by default: strings, categoricals and booleans get treatment
contrasts whose base is the first level (categorical order, else sorted by code point), levels that
no kept row has are dropped, and ordered factors are treated as unordered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import check_flag
from jaxhlm.core.chunks import on_one_blas_thread
from jaxhlm.core.document import Block, Printed, described
from jaxhlm.core.notation import Bools, Floats, Ints
from jaxhlm.core.tables import Table, as_frame
from jaxhlm.design.checks import (
    check_fixed,
    check_groups,
    check_random,
    check_response,
    independent_columns,
)
from jaxhlm.design.columns import (
    Weights,
    check_rows,
    levels_of,
    positive,
    prepare,
    read_weights,
    select,
)
from jaxhlm.design.grouping import Grouping, first_twice, group_codes
from jaxhlm.design.missing_values import complete_rows
from jaxhlm.design.terms import (
    Part,
    check_levels,
    fit_part,
    offset_part,
    random_terms,
    response_part,
)
from jaxhlm.errors import FormulaError, MissingColumnError
from jaxhlm.language.expression import read
from jaxhlm.language.formula import ParsedFormula, check_formula, column_name, parse
from jaxhlm.language.opaque import allowing
from jaxhlm.language.words import in_backticks
from jaxhlm.likelihood.random_term import RandomTerm, WithTerms, blocks_of, group_of, names_of

__all__ = [
    "Apart",
    "Design",
    "alias",
    "build_design",
    "design",
    "distinct",
]

# Data sets that differ so much in size may be in other units.
OTHER_UNITS = 1e4


class Apart(NamedTuple):
    """What one data set of many makes of its rows by itself.

    Attributes:
        parts: of the right side of the formula.
        alias: (p, dropped) what columns that X lost to rank deficiency are in terms of the others.
    """

    parts: tuple[Part, ...]
    alias: Floats


@dataclass(frozen=True, eq=False, repr=False)
class Design(WithTerms, Printed):
    """What a model needs of the data; made by `build_design`, and printed in a few words.

    Attributes:
        y: (n,) response less the offset, which is what is fitted, or None where the responses come
            as a separate matrix.
        X: (n, p) fixed-effects columns, of full column rank.
        Z: (n, q) random-effects columns, those of all random terms side by side.
        group: (n,) level of the grouping factor of each row, 0 to G-1; rows keep their order.
        levels: (G,) labels of the levels; `"a:b"` strings for combinations of two columns.
        xnames: p names of X as lme4 prints them.
        terms: random terms: grouping factor, columns of Z and their names, covariance structure;
            `||` makes every column a term of its own, also the columns of a factor (lme4 leaves
            those correlated).
        weights: (n,) prior weights, or None.
        index: (n,) row labels of the data frame.
        kept: (n_total,) True where a row of the data frame was kept.
        n_dropped: number of rows dropped for missing values.
        dropped_columns: names of the columns that X lost to rank deficiency.
        response_name: the column left of the ``~``, or the left side as written; "" where there is
            none.
        formula: the formula, spacing normalised.
        offset: (n,) sum of the offsets, to be added to Xβ + Zb, or None.
    """

    y: Floats | None
    X: Floats
    Z: Floats
    group: Ints
    levels: pd.Index
    xnames: tuple[str, ...]
    terms: tuple[RandomTerm, ...]
    weights: Floats | None
    index: pd.Index
    kept: Bools
    n_dropped: int
    dropped_columns: tuple[str, ...]
    response_name: str
    formula: str
    offset: Floats | None
    _fixed: Part = field(repr=False)
    _offset: Part = field(repr=False)
    _random: tuple[Part, ...] = field(repr=False)
    _x_columns: tuple[int, ...] = field(repr=False)
    _factors: dict[str, pd.Index | None] = field(repr=False)
    _groups: Grouping = field(repr=False)
    _alias: Floats = field(repr=False)
    _covariates: dict[str, Floats | Bools] = field(repr=False)
    _response: Part | None = field(default=None, repr=False)
    _apart: Sequence[Apart] = field(default=(), repr=False)

    def _blocks(self) -> list[Block]:
        """Its sizes and the names of its effects."""
        told = {
            "Design": self.formula,
            "Rows": f"{self.n:,}" + f", {self.n_dropped:,} dropped" * (self.n_dropped > 0),
            "Groups": f"{self.G:,} ({self.group_name})",
            "Fixed effects": ", ".join(self.xnames) or "none",
            "Random effects": "; ".join(", ".join(term.names) for term in self.terms),
            "Dropped as rank deficient": ", ".join(self.dropped_columns),
        }
        return [[described({name: text for name, text in told.items() if text})]]

    @property
    def stateful(self) -> tuple[str, ...]:
        """Calls that learned from the rows, such as ``center(x)``, on the right and on the left."""
        parts = (*self._right, *([self._response] if self._response else []))
        return tuple(name for part in parts for name in part.stateful)

    @property
    def learned(self) -> dict[str, Any]:
        """What every call of the right side learned, by its text, and the levels of factors."""
        parts = self._right
        levels = {f"the levels of {name}": v for part in parts for name, v in part.coding.items()}
        return levels | {text: v for part in parts for text, v in part.learned.values.items()}

    @property
    def _right(self) -> tuple[Part, ...]:
        """The parts of the formula right of its ``~``."""
        return self._fixed, self._offset, *self._random

    @property
    def learned_apart(self) -> bool:
        """Whether every data set makes the columns of new rows by what it learned itself."""
        return bool(self._apart)

    def of_lane(self, lane: int) -> Design:
        """How the columns of new rows are made for one data set; the rows stay those of all."""
        if not self._apart:
            return self
        (fixed, offset, *random), known = self._apart[lane]
        design = replace(self, _fixed=fixed, _offset=offset, _random=tuple(random))
        return replace(design, _alias=known, _apart=())

    @property
    def as_learned(self) -> Apart:
        """How the columns of new rows are made, and what of them depends on others."""
        return Apart(self._right, self._alias)

    @property
    def n(self) -> int:
        """Number of rows."""
        return int(self.X.shape[0])

    @property
    def p(self) -> int:
        """Number of fixed effects."""
        return int(self.X.shape[1])

    @property
    def q(self) -> int:
        """Number of random effects per group."""
        return int(self.Z.shape[1])

    @property
    def G(self) -> int:
        """Number of groups."""
        return len(self.levels)

    @property
    def ngroups(self) -> int:
        """Number of groups, `G`."""
        return self.G


def design(
    formula: str,
    data: Table,
    weights: str | pd.Series | Floats | None = None,
    *,
    unsafe_formula: bool = False,
) -> Design:
    """The design of a model without a response, to simulate on.

    Args:
        formula: as for ``fit``; its left side may be left out and need not be a column.
        data: one row per measurement, as for ``fit``.
        weights: prior weights.
        unsafe_formula: as for ``fit``: the formula is code.

    Raises:
        JaxhlmError: as for ``fit``.

    Example:
        >>> import jaxhlm as hlm
        >>> d = hlm.design("~ x * a + (1 + x | unit)", hlm.load_dataset("article"))
        >>> d.n, d.G, d.xnames
        (900, 30, ('(Intercept)', 'x', 'a', 'x:a'))
    """
    check_formula(formula)
    data = as_frame("data", data)
    check_flag("unsafe_formula", unsafe_formula)
    with allowing(unsafe_formula):
        return build_design(formula, data, weights, response_rows=len(data))


# A column that overflows is refused by name; no warning of NumPy's comes before.
@np.errstate(all="ignore")
@on_one_blas_thread
def build_design(
    formula: str | ParsedFormula,
    data: Table,
    weights: Weights = None,
    *,
    response_rows: int | None = None,
    learned: Mapping[str, Any] | None = None,
    lane: Ints | None = None,
) -> Design:
    """Evaluate a formula on a data frame and check that the model can be fitted.

    Rows with a missing value in any column used are dropped, as are the columns of X that earlier
    ones determine (relative residual norm below 1e-7); both with a warning.

    Args:
        formula: an lmer formula with one grouping factor, as text or read already.
        data: (n_total, ...) data frame; its index may hold duplicates.
        weights: name of a column, or (n_total,) positive numbers in the order of the rows; a
            Series must have the index of `data`.
        response_rows: rows of a response matrix that takes the place of the left side, which is
            then ignored and may be left out (`"~ x + (1 | unit)"`).
        learned: what calls have learned from other rows (``Design.learned``) and do not learn anew.
        lane: (n_total,) data set of every row, where there are several: one in other units does
            not decide for all which columns depend on others.

    Returns:
        The design of the kept rows, in the order given.

    Raises:
        FormulaError: the formula cannot be read or evaluated, or names a column twice present.
        MissingColumnError: a column of the formula, or of the weights, is not in the data.
        NotNumericError: the response is not numeric, or a column is neither number nor factor.
        NonFiniteError: a column or a transformed column holds an infinite value or a NaN.
        NoRowsError: every row has a missing value.
        GroupingError: there is one group only, or the labels cannot serve as levels.
        IdentifiabilityError: no residual degrees of freedom, random effects that reach every row,
            dependent columns in a random term, terms with the same covariance, a factor with one
            level, or a response that X fits exactly.
        ConstantResponseError: the response has one value only, and X fits it.
        WeightsError: the weights are not n_total positive numbers.
        ResponseShapeError: `response_rows` is not the number of rows of the data.

    Example:
        >>> from jaxhlm.datasets import load_dataset
        >>> design = build_design("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> design.X.shape, design.Z.shape, design.G, design.xnames
        ((180, 2), (180, 2), 18, ('(Intercept)', 'Days'))
    """
    if not isinstance(formula, ParsedFormula):
        formula = parse(formula, response_optional=response_rows is not None)
    data = as_frame("data", data)
    check_rows(data, response_rows)
    parsed = formula if response_rows is None else formula.of("")
    response, names = parsed.response, parsed.variables
    _check_left_side(parsed, data)
    raw = select(data, [*names, *parsed.group])
    given = read_weights(weights, data)
    kept = complete_rows(raw, given)
    labels, raw = data.index[kept], raw[kept].reset_index(drop=True)
    used = {v: prepare(raw[v], labels) for v in raw.columns if v in names}
    frame = pd.DataFrame(used, index=raw.index)

    left, y = response_part(response, frame, labels) if response else (None, None)
    groups, codes, levels = group_codes(raw[list(parsed.group)])
    (fixed, *parts), (X, *columns) = zip(
        *(fit_part(side, frame, labels, learned) for side in parsed.sides), strict=True
    )
    added, offset = offset_part(parsed, frame, labels, learned)
    check_levels((fixed, *parts))
    Z = np.concatenate(columns, axis=1)
    terms = random_terms(parsed, parts)
    znames = names_of(terms)
    check_groups(group_of(terms), len(levels))
    size = None if lane is None else _sizes(np.concatenate([X, Z], axis=1), lane[kept])
    check_random(_over(Z, size), codes, group_of(terms), znames, blocks_of(terms))
    x_columns, basis = independent_columns(_over(X, size))
    dropped = tuple(name for j, name in enumerate(fixed.names) if j not in x_columns)
    check_fixed(_over(X, size), x_columns, basis, fixed.names)
    if y is not None:
        y = y if offset is None else y - offset
        named = response if offset is None else f"{response} less its offset"
        check_response(_over(y, size), basis, named)
    xnames = distinct([fixed.names[j] for j in x_columns])
    distinct(znames)
    return Design(
        y=y,
        X=np.ascontiguousarray(X[:, x_columns]),
        Z=Z,
        group=codes,
        levels=levels,
        xnames=xnames,
        terms=terms,
        weights=None if given is None else positive(given[kept], labels),
        index=labels,
        kept=kept,
        n_dropped=int(len(kept) - kept.sum()),
        dropped_columns=dropped,
        response_name=(column_name(response) or response) if response else "",
        formula=formula.formula,
        offset=offset,
        _fixed=fixed,
        _offset=added,
        _random=tuple(parts),
        _x_columns=x_columns,
        _factors={name: levels_of(frame[name]) for name in frame},
        _groups=groups,
        _alias=alias(X, x_columns),
        _covariates={v: _numbers(frame[v]) for v in fixed.variables},
        _response=left,
    )


def _sizes(columns: Floats, lane: Ints) -> Floats | None:
    """(n,) the size of the data set of every row, or None where all are of about one size."""
    size = np.zeros(int(lane.max()) + 1)
    np.maximum.at(size, lane, np.abs(columns).max(axis=1))
    size[size == 0.0] = 1.0
    return size[lane] if size.max() > OTHER_UNITS * size.min() else None


def _over(rows: Floats, size: Floats | None) -> Floats:
    """Rows (n,) or (n, …) over their sizes."""
    return rows if size is None else (rows.T / size).T


def _check_left_side(parsed: ParsedFormula, data: pd.DataFrame) -> None:
    """Refuse a left side like ``y-1`` that names a column, and reads as arithmetic on others."""
    names = set(map(str, data.columns))
    if parsed.response in names and not names.issuperset(read(parsed.response).variables):
        raise MissingColumnError(
            f"'{parsed.response}' is a column of the data, but reads as an expression: write "
            f"{in_backticks(parsed.response)}"
        )


def alias(X: Floats, kept: Sequence[int]) -> Floats:
    """(p, dropped) coefficients of the dropped columns of X in terms of those kept."""
    dropped = np.setdiff1d(np.arange(X.shape[1]), kept)
    if not len(dropped):
        return np.zeros((len(kept), 0))
    # Columns of one size each, or a large one would make the others look like rounding.
    size = np.abs(X).max(axis=0)
    size[size == 0.0] = 1.0
    scaled = X / size
    found = np.linalg.lstsq(scaled[:, list(kept)], scaled[:, dropped], rcond=None)[0]
    return np.asarray(found / size[list(kept), None] * size[dropped], dtype=float)


def _numbers(column: pd.Series) -> Floats | Bools:
    """The values of a prepared column, of a factor the numbers of its levels."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy()
    return column.to_numpy()


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Names of columns, none of which may be there twice."""
    if len(set(names)) < len(names):
        raise FormulaError(f"two columns are both named '{first_twice(names)}': rename one")
    return tuple(names)
