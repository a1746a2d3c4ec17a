"""What a user gives ``fit_many``: checked, and made the source of a batch.

A data set that cannot be used is marked, so that it gets a status; what is wrong with the call as a
whole raises.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pandas.api.types import is_any_real_numeric_dtype

from jaxhlm.core.arguments import check_frame, real_array
from jaxhlm.core.chunks import lane_chunks
from jaxhlm.core.files import ParquetColumns
from jaxhlm.core.notation import Bools, Floats, Ints
from jaxhlm.design.columns import (
    Weights,
    label,
    listed,
    native,
    numbers,
    require_column,
    select,
)
from jaxhlm.design.design import build_design
from jaxhlm.design.grouping import factorized
from jaxhlm.design.missing_values import any_missing, missing
from jaxhlm.errors import (
    FormulaError,
    MissingColumnError,
    NotNumericError,
    OptionError,
    ResponseShapeError,
    WeightsError,
)
from jaxhlm.estimation.model import Model
from jaxhlm.estimation.pipeline import Prepared
from jaxhlm.language.formula import ParsedFormula, parse
from jaxhlm.sources.apart import learned_apart
from jaxhlm.sources.frames import replicate_frame
from jaxhlm.sources.responses import GivenResponses, Held, Responses, has_missing, held, of_rows
from jaxhlm.sources.sources import ReplicateRows, ResponseMatrix, Source

__all__ = ["Input", "replicate_input", "response_input", "shared_input"]


class Input(NamedTuple):
    """Data sets to fit."""

    source: Source
    index: pd.Index  # (B,) their labels
    model: Model


def response_input(
    formula: str,
    data: pd.DataFrame,
    responses: GivenResponses,
    weights: Weights,
    reml: bool,
) -> Input:
    """Many responses on one design.

    Raises:
        JaxhlmError: the design, or the response matrix as a whole, is at fault.
    """
    values, index = _response_matrix(responses)
    W = _own_weights(weights, responses, values, index)
    own = weights if W is None else None
    design = build_design(formula, data, own, response_rows=values.shape[0])
    if isinstance(responses, pd.DataFrame) and not responses.index.equals(data.index):
        raise ResponseShapeError(
            "the index of responses differs from that of data "
            f"({_differing(responses.index, data.index)}); bring the rows into the same order and "
            "pass responses.to_numpy(), or give both the same index"
        )
    Y = of_rows(values, np.flatnonzero(design.kept) if design.n_dropped else None)
    if W is not None:
        W = W[design.kept] if design.n_dropped else W
        _check_weights(W, design.index, index)
    return shared_input(Prepared(design), Y, index, reml, W)


def shared_input(
    prepared: Prepared,
    Y: Floats | Responses,
    index: pd.Index,
    reml: bool,
    W: Floats | None = None,
) -> Input:
    """Responses (n, B) on the rows of one design, their labels, and weights of their own (n, B).

    Raises:
        JaxhlmError: the design is at fault.
    """
    design = prepared.design
    if design.stateful and (has_missing(Y) or not (W is None or (W > 0.0).all())):
        raise FormulaError(
            f"{design.stateful[0]} learns from the rows it sees, and some responses miss some of "
            "them; compute it as a column of data first, or fit those responses by themselves"
        )
    prepared.check_identified(reml)
    return Input(ResponseMatrix(prepared, Y, W=W), index, Model.of(design, reml))


def _own_weights(
    weights: Weights, responses: GivenResponses, values: Held, index: pd.Index
) -> Floats | None:
    """(n_total, B) weights, if every response was given some of its own.

    Raises:
        WeightsError: they have another shape than the responses, or other labels.
    """
    if weights is None or isinstance(weights, str | pd.Series) or np.ndim(weights) < 2:
        return None
    if isinstance(weights, pd.DataFrame) and isinstance(responses, pd.DataFrame):
        pairs = ("rows", weights.index, responses.index), ("columns", weights.columns, index)
        for what, mine, others in pairs:
            if not mine.equals(others):
                raise WeightsError(
                    f"weights has other {what} than responses ({_differing(mine, others)}): bring "
                    "them into the same order, or pass weights.to_numpy() to match by position"
                )
    W = real_array("weights", weights, WeightsError)
    if W.shape != tuple(values.shape):
        given, wanted = (" x ".join(map(str, shape)) for shape in (W.shape, values.shape))
        raise WeightsError(f"{given} weights for {wanted} responses; give one for each value")
    return W


def _differing(mine: pd.Index, others: pd.Index) -> str:
    """Up to three labels that only one side has, of each side."""
    sides = [a.difference(b, sort=False)[:3] for a, b in ((mine, others), (others, mine))]
    if not any(map(len, sides)):
        return "the same labels in another order"
    return " against ".join(listed(side) or "none of its own" for side in sides)


def _check_weights(W: Floats, rows: pd.Index, index: pd.Index) -> None:
    """Refuse weights that are negative or infinite; missing ones leave their rows out."""
    for run in lane_chunks(W.shape[1], 8 * len(W)):
        bad = (W[:, run] < 0.0) | np.isinf(W[:, run])
        if bad.any():
            i, j = np.argwhere(bad)[0]
            raise WeightsError(
                f"weights must be positive, or 0 to leave a row out; row {label(rows, int(i))} of "
                f"response {label(index, run.start + int(j))} has {W[i, run.start + j]:g}"
            )


def _response_matrix(responses: GivenResponses) -> tuple[Held, pd.Index]:
    """(n, B) responses, masked entries NaN, and their labels."""
    if isinstance(responses, pd.DataFrame):
        for j, (name, dtype) in enumerate(responses.dtypes.items()):
            if not is_any_real_numeric_dtype(dtype) and numbers(responses.iloc[:, j]) is None:
                raise NotNumericError(f"response column {name!r} is {dtype}; convert or drop it")
        Y, index = held(responses), responses.columns
        index = index if index.nlevels > 1 else index.rename("response")
    else:
        if isinstance(responses, pd.Series):
            raise ResponseShapeError("responses is one Series; pass responses.to_frame()")
        Y = held(responses)
        if len(Y.shape) != 2:
            raise ResponseShapeError(
                f"responses has {len(Y.shape)} dimension(s); give (n, B), one column per response"
            )
        names = Y.names if isinstance(Y, ParquetColumns) else range(Y.shape[1])
        index = pd.Index(names, name="response")
    if Y.shape[1] == 0:
        raise ResponseShapeError("responses has no columns; give one for each response")
    return Y, index


def replicate_input(
    formula: str | ParsedFormula,
    data: pd.DataFrame,
    by: str,
    weights: Weights,
    reml: bool,
    learned: Mapping[str, Any] | None = None,
) -> Input:
    """Data sets with rows of their own, one below the other; ``learned`` as for ``build_design``.

    Raises:
        JaxhlmError: the formula, or the frame as a whole, is at fault.
    """
    replicate = _replicates(data, by)
    parsed = formula if isinstance(formula, ParsedFormula) else parse(formula)
    if found := replicate_frame(parsed, data, replicate, weights, learned):
        source, index = found
        return Input(source, index, Model.of(source.template, reml))
    lane, labels = factorized(replicate, "column")
    usable, stand_in = _usable_rows(parsed, data, lane)
    design = build_design(parsed, usable, weights, learned=learned)
    if design.stateful:
        design = learned_apart(design, usable, lane[design.kept], len(labels))
    rows = ReplicateRows.of(design, lane[design.kept].astype(np.int64), stand_in[design.kept])
    return Input(rows, labels.rename(by), Model.of(design, reml))


def _replicates(data: pd.DataFrame, by: str) -> pd.Series:
    """(n,) labels of the data sets, none missing."""
    check_frame("data", data)
    if not isinstance(by, Hashable):
        raise MissingColumnError(f"by={type(by).__name__!r} is no name of a column of data")
    try:
        column = native(data.iloc[:, require_column(data, by)]).rename(by)
    except MissingColumnError as error:
        raise MissingColumnError(f"by={by!r} is not a column of data: {error}") from None
    if missing(column).any():
        raise OptionError(f"column {by!r} has missing values; every row needs a replicate")
    return column


def _usable_rows(
    parsed: ParsedFormula, data: pd.DataFrame, lane: Ints
) -> tuple[pd.DataFrame, Bools]:
    """The frame with stand-ins for what would raise, and (n,) rows where they stand.

    Infinite numbers, and missing values of a data set that has no complete row: their data sets
    get a status, and the others do not notice.
    """
    used = select(data, [*parsed.variables, *parsed.group])
    infinite = np.zeros(len(data), bool)
    for values in (numbers(used[name]) for name in parsed.variables):
        infinite |= False if values is None else np.isinf(values)
    complete = ~any_missing(used)
    without_complete = (np.bincount(lane, complete) == 0.0)[lane]
    usable = np.flatnonzero(complete & ~infinite)
    stand_in = infinite | without_complete
    if not stand_in.any() or not len(usable):
        return data, stand_in
    filled = data.copy(deep=False)
    for name in used:
        bad = without_complete & missing(used[name]) | infinite
        rows = np.where(bad, usable[0], np.arange(len(data)))
        filled.isetitem(require_column(data, name), used[name].iloc[rows].set_axis(data.index))
    return filled, stand_in
