"""From a formula and a data frame to y, X, Z and the group codes; pandas stops here.

Letters are those of `jaxhlm.notation`: n rows, p fixed effects, q random effects per group, G
groups. Factors are coded as R does by default: strings, categoricals and booleans get treatment
contrasts whose base is the first level (categorical order, else sorted by code point), levels that
no kept row has are dropped, and ordered factors are treated as unordered.
"""

import difflib
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from formulaic import Formula, ModelSpec
from formulaic.errors import DataMismatchWarning
from formulaic.materializers import PandasMaterializer
from formulaic.parser.types import Factor
from formulaic.transforms import TRANSFORMS
from pandas.api import types

from .errors import (
    ConstantResponseError,
    FormulaError,
    GroupingError,
    IdentifiabilityError,
    MissingColumnError,
    NewLevelError,
    NonFiniteError,
    NoRowsError,
    NotNumericError,
    OptionError,
    RankDeficientWarning,
    ResponseShapeError,
    RowsDroppedWarning,
    WeightsError,
)
from .formula import ParsedFormula, lme4_name, parse, rhs_variables, variables

__all__ = ["Design", "build_design", "design_for"]

Floats: TypeAlias = npt.NDArray[np.float64]
Codes: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]
Weights: TypeAlias = str | pd.Series | npt.ArrayLike | None

# lmer's tolerance: a column is dependent when less than this share of its norm is new.
_RANK_TOLERANCE = 1e-7
# A response computed from the columns misses them by a few units of 2e-16 of its norm.
_EXACT_TOLERANCE = 1e-13


@dataclass(frozen=True)
class _Part:
    """One right side: its fitted formulaic spec, the columns it reads, the names it makes."""

    spec: ModelSpec
    variables: tuple[str, ...]
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Design:
    """What a model needs of the data; made by `build_design`.

    Attributes:
        y: (n,) response, or None where the responses come as a separate matrix.
        X: (n, p) fixed-effects columns, of full column rank.
        Z: (n, q) random-effects columns, those of all random terms side by side.
        group: (n,) level of the grouping factor of each row, 0 to G-1; rows keep their order.
        levels: (G,) labels of the levels; `"a:b"` strings for combinations of two columns.
        xnames: p names of X as lme4 prints them.
        znames: q names of Z, likewise.
        blocks: columns of Z that covary, one tuple per random term; `||` makes every column a
            block of its own, also the columns of a factor (lme4 leaves those correlated).
        weights: (n,) prior weights, or None.
        index: (n,) row labels of the data frame.
        kept: (n_total,) True where a row of the data frame was kept.
        n_dropped: number of rows dropped for missing values.
        dropped_columns: names of the columns that X lost to rank deficiency.
        group_name: the grouping factor's name, `"a:b"` for two columns.
        response_name: the left side as written; "" where there is none.
        formula: the formula, spacing normalised.
    """

    y: Floats | None
    X: Floats
    Z: Floats
    group: Codes
    levels: pd.Index
    xnames: tuple[str, ...]
    znames: tuple[str, ...]
    blocks: tuple[tuple[int, ...], ...]
    weights: Floats | None
    index: pd.Index
    kept: Mask
    n_dropped: int
    dropped_columns: tuple[str, ...]
    group_name: str
    response_name: str
    formula: str
    _fixed: _Part = field(repr=False)
    _random: tuple[_Part, ...] = field(repr=False)
    _x_columns: tuple[int, ...] = field(repr=False)
    _factors: dict[str, pd.Index | None] = field(repr=False)
    _groups: "_Grouping" = field(repr=False)

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


def build_design(
    formula: str,
    data: pd.DataFrame,
    weights: Weights = None,
    *,
    response_rows: int | None = None,
) -> Design:
    """Evaluate a formula on a data frame and check that the model can be fitted.

    Rows with a missing value in any column used are dropped, as are the columns of X that earlier
    ones determine (relative residual norm below 1e-7); both with a warning.

    Args:
        formula: an lmer formula with one grouping factor.
        data: (n_total, ...) data frame; its index may hold duplicates.
        weights: name of a column, or (n_total,) positive numbers in the order of the rows; a
            Series must have the index of `data`.
        response_rows: rows of a response matrix that takes the place of the left side, which is
            then ignored and may be left out (`"~ x + (1 | unit)"`).

    Returns:
        The design of the kept rows, in the order given.

    Raises:
        FormulaError: the formula cannot be read or evaluated, or names a column twice present.
        MissingColumnError: a column of the formula, or of the weights, is not in the data.
        NotNumericError: the response is not numeric, or a column is neither number nor factor.
        NonFiniteError: a column or a transformed column holds an infinite value or a NaN.
        NoRowsError: every row has a missing value.
        GroupingError: there is one group only, or the labels cannot serve as levels.
        IdentifiabilityError: no residual degrees of freedom, a random term with as many effects as
            there are rows, dependent columns of Z, or a response that X fits exactly.
        ConstantResponseError: the response has one value only.
        WeightsError: the weights are not n_total positive numbers.
        ResponseShapeError: `response_rows` is not the number of rows of the data.

    Example:
        >>> from jaxhlm.datasets import load_dataset
        >>> design = build_design("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> design.X.shape, design.Z.shape, design.G, design.xnames
        ((180, 2), (180, 2), 18, ('(Intercept)', 'Days'))
    """
    parsed = parse(formula, response_optional=response_rows is not None)
    _check_shapes(data, response_rows)
    response = parsed.response if response_rows is None else ""
    sides = (parsed.fixed, *(term.expr for term in parsed.random))
    names = [v for side in sides for v in rhs_variables(side)]
    names = [*(variables(response) if response else ()), *names]
    raw = _select(data, [*names, *parsed.group])
    given = _weights(weights, data)
    kept = _complete(raw, given)
    labels, raw = data.index[kept], raw[kept].reset_index(drop=True)
    used = {v: _prepare(raw[v], labels) for v in raw.columns if v in names}
    frame = pd.DataFrame(used, index=raw.index)

    y = _response(response, frame, labels) if response else None
    groups, codes, levels = _group(raw[list(parsed.group)])
    fixed, X = _fit_part(parsed.fixed, frame, labels)
    parts, columns = zip(*(_fit_part(side, frame, labels) for side in sides[1:]), strict=True)
    Z = np.concatenate(columns, axis=1)
    znames = tuple(name for part in parts for name in part.names)
    blocks = _blocks(parsed, columns)
    _check_groups(parsed, blocks, znames, len(codes), len(levels))
    _check_random(Z, znames)
    x_columns, basis = _independent(X)
    dropped = tuple(name for j, name in enumerate(fixed.names) if j not in x_columns)
    _check_fixed(basis, dropped)
    if y is not None:
        _check_response(y, basis, response)
    return Design(
        y=y,
        X=np.ascontiguousarray(X[:, x_columns]),
        Z=Z,
        group=codes,
        levels=levels,
        xnames=_distinct([fixed.names[j] for j in x_columns]),
        znames=_distinct(znames),
        blocks=blocks,
        weights=None if given is None else _positive(given[kept], labels),
        index=labels,
        kept=kept,
        n_dropped=int(len(kept) - kept.sum()),
        dropped_columns=dropped,
        group_name=":".join(parsed.group),
        response_name=response,
        formula=parsed.formula,
        _fixed=fixed,
        _random=parts,
        _x_columns=x_columns,
        _factors={name: _levels(frame[name]) for name in frame},
        _groups=groups,
    )


def design_for(design: Design, newdata: pd.DataFrame) -> tuple[Floats, Floats, Codes]:
    """Evaluate the columns of a fitted design on new data.

    What the transforms learned from the fitted rows (means, knots, factor levels) is used again.
    A row with a missing value keeps its place: it is NaN in X, in Z, or in both, according to
    which of them reads the missing column. The response is not needed.

    Args:
        design: a design from `build_design`.
        newdata: (m, ...) data frame; without the grouping column every group is unknown.

    Returns:
        X (m, p), Z (m, q) and the group codes (m,), -1 where the level is missing or unseen.

    Raises:
        MissingColumnError: a column of the right side is not in the new data.
        NotNumericError: a column that was numeric is not.
        NonFiniteError: a column or a transformed column holds an infinite value or a NaN.
        NewLevelError: a factor of the formula (not the grouping one) has an unseen level.
        GroupingError: the grouping column holds numbers where it held strings, or vice versa.

    Example:
        >>> from jaxhlm.datasets import load_dataset
        >>> design = build_design("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> newdata = pd.DataFrame({"Days": [0, 10], "Subject": ["308", "unknown"]})
        >>> X, Z, codes = design_for(design, newdata)
        >>> X[1], codes
        (array([ 1., 10.]), array([ 0, -1]))
    """
    _check_shapes(newdata, None)
    parts = (design._fixed, *design._random)
    raw = _select(newdata, [v for part in parts for v in part.variables])
    X, *columns = (_evaluate_new(part, raw, design._factors) for part in parts)
    codes = _known_codes(design._groups, newdata)
    return X[:, design._x_columns], np.concatenate(columns, axis=1), codes


class _Materializer(PandasMaterializer):  # type: ignore[misc]
    """Formulaic's evaluation, but whatever is boolean or text is a factor, as in R."""

    REGISTER_NAME = "jaxhlm"
    REGISTER_INPUTS: Sequence[str] = ()

    @PandasMaterializer.override  # type: ignore[untyped-decorator]
    def _is_categorical(self, values: Any) -> bool:
        kind = getattr(getattr(values, "dtype", None), "kind", None)
        return kind in ("b", "O", "S", "U") or bool(super()._is_categorical(values))


def _check_shapes(data: pd.DataFrame, response_rows: int | None) -> None:
    if not isinstance(data, pd.DataFrame):
        raise OptionError(f"data must be a pandas DataFrame, got {type(data).__name__}")
    if response_rows not in (None, len(data)):
        raise ResponseShapeError(
            f"the response matrix has {response_rows} rows, the data have {len(data)}"
        )


def _select(data: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """The named columns, without the names that are formulaic's own."""
    present = set(data.columns)
    wanted = [v for v in dict.fromkeys(names) if v in present or v not in TRANSFORMS]
    for name in wanted:
        _require_column(data, name)
    return data[wanted]


def _require_column(data: pd.DataFrame, name: str) -> None:
    count = int((data.columns == name).sum())
    if count > 1:
        raise FormulaError(f"column '{name}' is ambiguous: the data have {count} of that name")
    if count == 0:
        columns = [str(column) for column in data.columns]
        close = difflib.get_close_matches(name, columns, cutoff=0.5)
        hint = "closest: " if close else "the columns are: "
        listed = ", ".join(repr(column) for column in close or columns[:10])
        raise MissingColumnError(f"no column '{name}' in the data; {hint}{listed}")


def _weights(weights: Weights, data: pd.DataFrame) -> pd.Series | None:
    if weights is None:
        return None
    if isinstance(weights, str):
        _require_column(data, weights)
        weights = data[weights]
    elif isinstance(weights, pd.Series) and not weights.index.equals(data.index):
        raise WeightsError(
            "the weights have another index than the data: align them, or pass "
            "weights.to_numpy() to match them by position"
        )
    if np.shape(weights) != (len(data),):
        shape = " x ".join(map(str, np.shape(weights)))
        raise WeightsError(f"{shape or 'scalar'} weights for {len(data)} rows of data")
    values = pd.Series(weights if isinstance(weights, pd.Series) else np.asarray(weights))
    if not types.is_numeric_dtype(values) or types.is_bool_dtype(values):
        raise WeightsError(f"the weights must be numbers, they are of dtype {values.dtype}")
    name = str(values.name) if values.name is not None else "weights"
    return pd.Series(values.to_numpy(dtype=float, na_value=np.nan), name=name)


def _positive(weights: pd.Series, labels: pd.Index) -> Floats:
    values: Floats = weights.to_numpy()
    _require_finite(values[:, None], [str(weights.name)], labels)
    if (values <= 0).any():
        row = int(np.argmax(values <= 0))
        raise WeightsError(
            f"weights must be positive, row {_label(labels, row)} has {values[row]:g}: drop rows "
            "with weight 0"
        )
    return values


def _complete(frame: pd.DataFrame, weights: pd.Series | None) -> Mask:
    """(n_total,) mask of the rows without missing values; warns when there are others."""
    missing = {str(name): frame[name].isna().to_numpy() for name in frame}
    if weights is not None:
        missing[str(weights.name)] = weights.isna().to_numpy()
    kept: Mask = ~np.logical_or.reduce([np.zeros(len(frame), bool), *missing.values()])
    dropped = len(kept) - int(kept.sum())
    where = ", ".join(f"{name}: {mask.sum()}" for name, mask in missing.items() if mask.any())
    if not kept.any():
        raise NoRowsError(
            f"no rows left of {len(kept)}; missing values by column: {where or 'none'}"
        )
    if dropped:
        text = f"dropped {dropped} of {len(kept)} rows with missing values ({where})"
        warnings.warn(text, RowsDroppedWarning, stacklevel=3)
    return kept


def _prepare(column: pd.Series, labels: pd.Index) -> pd.Series:
    """The column as formulaic should see it: float64, bool or categorical.

    Integers become floats because products of int64 columns wrap around silently.
    """
    column = column.infer_objects()
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.remove_unused_categories()
    if types.is_string_dtype(column):
        return column.astype("category")
    if types.is_bool_dtype(column):
        return column.astype(bool)
    if not types.is_numeric_dtype(column) or types.is_complex_dtype(column):
        raise NotNumericError(
            f"column '{column.name}' is of dtype {column.dtype}: convert it to numbers, or to "
            "strings for a factor"
        )
    values = column.to_numpy(dtype=float)
    _require_finite(values[:, None], [str(column.name)], labels)
    return pd.Series(values, name=column.name)


def _levels(column: pd.Series) -> pd.Index | None:
    return column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else None


def _prepare_new(column: pd.Series, labels: pd.Index, levels: pd.Index | None) -> pd.Series:
    """A column of new data, none missing, in the form that it had in the fit."""
    if levels is None:
        prepared = _prepare(column, labels)
        if _levels(prepared) is not None:
            raise NotNumericError(f"column '{column.name}' was numeric in the fit, now a factor")
        return prepared
    codes = levels.get_indexer(np.asarray(column, dtype=object))
    unseen = column[codes < 0].unique()
    if len(unseen):
        raise NewLevelError(
            f"column '{column.name}' has levels that the fit has not seen: "
            f"{', '.join(repr(level) for level in unseen[:5])}"
        )
    return pd.Series(pd.Categorical.from_codes(codes, categories=levels), name=column.name)


def _label(labels: pd.Index, row: int) -> str:
    """The label as Python prints it, not as `np.int64(3)`."""
    return repr(labels[[row]].tolist()[0])


def _require_finite(matrix: Floats, names: Sequence[str], labels: pd.Index) -> None:
    if np.isfinite(matrix).all():
        return
    bad = ~np.isfinite(matrix)
    j = int(np.argmax(bad.any(axis=0)))
    row = int(np.argmax(bad[:, j]))
    raise NonFiniteError(f"'{names[j]}' is {matrix[row, j]} in row {_label(labels, row)}")


def _fit_part(side: str, frame: pd.DataFrame, labels: pd.Index) -> tuple[_Part, Floats]:
    """Evaluate a right side for the first time: the spec returned holds what it learned."""
    blank = ModelSpec.from_spec(
        Formula(side), materializer=_Materializer, output="numpy", na_action="ignore"
    )
    matrix, spec = _evaluate(blank, frame)
    # Levels of integer columns became floats in `_prepare`: C(week)[T.2.0] is C(week)[T.2].
    coded = [re.sub(r"\[(T\.)?(-?\d+)\.0\]", r"[\1\2]", name) for name in spec.column_names]
    used = tuple(name for name in rhs_variables(side) if name in frame)
    part = _Part(spec, used, tuple(map(lme4_name, coded)))
    _require_finite(matrix, part.names, labels)
    return part, matrix


def _evaluate(spec: ModelSpec, frame: pd.DataFrame) -> tuple[Floats, ModelSpec]:
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("error", DataMismatchWarning)
            made = spec.get_model_matrix(frame)
    except DataMismatchWarning as warning:
        raise _new_level(spec, str(warning)) from None
    except Exception as error:
        raise FormulaError(f"cannot evaluate '{spec.formula}': {error}") from error
    return np.asarray(made, dtype=np.float64), made.model_spec


def _new_level(spec: ModelSpec, warning: str) -> NewLevelError:
    state = spec.encoder_state.items()
    factors = [f"'{expr}'" for expr, (kind, _) in state if kind is Factor.Kind.CATEGORICAL]
    unseen = re.findall(r"\{.*\}", warning)
    return NewLevelError(
        f"levels outside those of the fit (or of levels=) in {' or '.join(factors) or spec.formula}"
        f": {', '.join(unseen)}"
    )


def _evaluate_new(part: _Part, raw: pd.DataFrame, factors: dict[str, pd.Index | None]) -> Floats:
    """(m, columns) of a part for new data, NaN in the rows that lack one of its variables."""
    raw = raw[list(part.variables)]
    known = raw.notna().all(axis=1).to_numpy()
    out = np.full((len(raw), len(part.names)), np.nan)
    if known.any():
        labels, whole = raw.index[known], raw[known].reset_index(drop=True)
        ready = {v: _prepare_new(whole[v], labels, factors[v]) for v in whole.columns}
        out[known], _ = _evaluate(part.spec, pd.DataFrame(ready, index=whole.index))
        _require_finite(out[known], part.names, labels)
    return out


def _response(response: str, frame: pd.DataFrame, labels: pd.Index) -> Floats:
    part, values = _fit_part(f"0 + {{{response}}}", frame, labels)
    if any(kind is not Factor.Kind.NUMERICAL for kind, _ in part.spec.encoder_state.values()):
        raise NotNumericError(f"the response '{response}' must be numeric, it is a factor")
    if values.shape[1] != 1:
        raise FormulaError(f"the response '{response}' gives {values.shape[1]} columns, not one")
    return values[:, 0]


def _blocks(parsed: ParsedFormula, columns: Sequence[Floats]) -> tuple[tuple[int, ...], ...]:
    blocks: list[tuple[int, ...]] = []
    start = 0
    for term, made in zip(parsed.random, columns, strict=True):
        if made.shape[1] == 0:
            raise FormulaError(f"the random term ({term.expr} | ...) has no column")
        block = tuple(range(start, start + made.shape[1]))
        blocks.extend([(j,) for j in block] if term.diagonal else [block])
        start += made.shape[1]
    return tuple(blocks)


@dataclass(frozen=True)
class _Grouping:
    """Levels of each grouping column, and the combinations of them that are groups, sorted."""

    columns: dict[str, pd.Index]
    combinations: Codes


def _group(frame: pd.DataFrame) -> tuple[_Grouping, Codes, pd.Index]:
    """The grouping state, (n,) codes and (G,) labels."""
    columns, total = {}, np.zeros(len(frame), np.int64)
    for name in frame:
        codes, columns[name] = _factorize(frame[name])
        total = total * len(columns[name]) + codes
    combinations, codes = np.unique(total, return_inverse=True)
    if len(columns) == 1:
        (levels,) = columns.values()
    else:
        places = np.unravel_index(combinations, [len(levels) for levels in columns.values()])
        texts = [i.astype(str)[at] for i, at in zip(columns.values(), places, strict=True)]
        levels = pd.Index([":".join(pair) for pair in zip(*texts, strict=True)])
    levels = levels.rename(":".join(columns))
    if not levels.is_unique:
        raise GroupingError(
            f"two levels of {levels.name} print alike: rename {_first_twice(levels)}"
        )
    return _Grouping(columns, combinations), codes.astype(np.int64), levels


def _factorize(column: pd.Series) -> tuple[Codes, pd.Index]:
    column = column.infer_objects()
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.cat.remove_unused_categories()
        return column.cat.codes.to_numpy().astype(np.int64), column.cat.categories
    if types.is_float_dtype(column):
        values = column.to_numpy(dtype=float)
        if not (np.isfinite(values) & (values == np.floor(values))).all():
            raise GroupingError(f"grouping column '{column.name}' holds numbers that are not whole")
        column = pd.Series(values.astype(np.int64), name=column.name)
    codes, levels = pd.factorize(column, sort=True)
    return codes.astype(np.int64), pd.Index(levels)


def _known_codes(groups: _Grouping, newdata: pd.DataFrame) -> Codes:
    known = np.full(len(newdata), all(name in newdata for name in groups.columns))
    total = np.zeros(len(newdata), np.int64)
    if not known.any():
        return np.full(len(newdata), -1)
    for name, levels in groups.columns.items():
        _require_column(newdata, name)
        codes = _match(newdata[name], levels)
        known &= codes >= 0
        total = total * len(levels) + codes
    places = np.searchsorted(groups.combinations, total)
    places = np.minimum(places, len(groups.combinations) - 1)
    return np.where(known & (groups.combinations[places] == total), places, -1)


def _match(column: pd.Series, levels: pd.Index) -> Codes:
    """(m,) position of each label among the levels, -1 if missing or unseen."""
    labels = pd.Index(np.asarray(column, dtype=object)).infer_objects()
    present = labels[labels.notna()].infer_objects()
    if len(present) and types.is_numeric_dtype(present) != types.is_numeric_dtype(levels):
        raise GroupingError(
            f"grouping column '{column.name}' is of dtype {present.dtype} in the new data, "
            f"{levels.dtype} in the fit: no level could match"
        )
    codes: Codes = levels.get_indexer(labels).astype(np.int64)
    return codes


def _check_groups(
    parsed: ParsedFormula, blocks: Sequence[Sequence[int]], znames: Sequence[str], n: int, G: int
) -> None:
    """Refuse what lme4 refuses, term by term: as many random effects as rows."""
    name = ":".join(parsed.group)
    if G == 1:
        raise GroupingError(f"grouping factor {name} has one level only; at least two are needed")
    for block in blocks:
        if G * len(block) >= n:
            term = " + ".join(znames[j] for j in block)
            raise IdentifiabilityError(
                f"number of observations (={n}) <= number of random effects (={G * len(block)}) "
                f"for term ({term} | {name}); the random-effect and residual variances cannot be "
                "told apart: use fewer random effects per group, or groups with more rows"
            )


def _check_random(Z: Floats, znames: Sequence[str]) -> None:
    kept, _ = _independent(Z)
    for j, name in enumerate(znames):
        if j not in kept:
            raise IdentifiabilityError(
                f"random-effect column '{name}' is a linear combination of those before it, or "
                "zero: leave it out of the random terms"
            )


def _check_fixed(basis: Floats, dropped: Sequence[str]) -> None:
    n, rank = basis.shape
    if rank == 0:
        raise IdentifiabilityError("no fixed effect: keep at least the intercept")
    if n <= rank:
        raise IdentifiabilityError(
            f"{n} rows for {rank} fixed effects leave no residual degrees of freedom: use fewer "
            "terms or more rows"
        )
    if dropped:
        plural = "s" if len(dropped) > 1 else ""
        warnings.warn(
            f"fixed-effect model matrix is rank deficient so dropping {len(dropped)} column{plural}"
            f" / coefficient{plural}: {', '.join(dropped)}",
            RankDeficientWarning,
            stacklevel=3,
        )


def _check_response(y: Floats, basis: Floats, response: str) -> None:
    if np.ptp(y) == 0:
        raise ConstantResponseError(f"the response '{response}' is {y[0]:g} in every row")
    scaled = y / np.abs(y).max()
    rest = scaled
    for _ in range(2):
        rest = rest - basis @ (basis.T @ rest)
    if np.linalg.norm(rest) <= _EXACT_TOLERANCE * np.linalg.norm(scaled):
        raise IdentifiabilityError(
            f"the fixed effects fit the response '{response}' exactly: residual variance is zero"
        )


def _independent(M: Floats) -> tuple[tuple[int, ...], Floats]:
    """Columns that are no combination of earlier ones, and an orthonormal basis (n, rank) of them.

    Gram-Schmidt with a second pass, which makes the basis orthogonal to working precision.
    """
    basis = np.empty(M.shape, order="F")
    kept: list[int] = []
    for j, column in enumerate(M.T):
        scaled = column / (np.abs(column).max() or 1.0)
        rest, known = scaled, basis[:, : len(kept)]
        for _ in range(2):
            rest = rest - known @ (known.T @ rest)
        if np.linalg.norm(rest) > _RANK_TOLERANCE * np.linalg.norm(scaled):
            basis[:, len(kept)] = rest / np.linalg.norm(rest)
            kept.append(j)
    return tuple(kept), basis[:, : len(kept)]


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise FormulaError(f"two columns are both named '{_first_twice(names)}': rename one")
    return tuple(names)


def _first_twice(names: Iterable[str]) -> str:
    return next(name for name, count in Counter(names).items() if count > 1)
