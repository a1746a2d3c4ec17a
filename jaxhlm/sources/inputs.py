"""What a user gives ``fit_many``: checked, and made the source of a batch.

A data set that cannot be used is marked, so that it gets a status; what is wrong with the call as a
whole raises.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxhlm.core.chunks import lane_chunks
from jaxhlm.core.notation import Bools, Floats, Ints, ResponsesIn, check_option
from jaxhlm.core.tables import Table, as_frame
from jaxhlm.design.columns import (
    Weights,
    label,
    native,
    numbers,
    read_weights,
    require_column,
    select,
)
from jaxhlm.design.design import Design, build_design
from jaxhlm.design.grouping import factorized
from jaxhlm.design.missing_values import any_missing, check_rows, complete_rows, missing
from jaxhlm.errors import (
    FormulaError,
    MissingColumnError,
    NonFiniteError,
    NotNumericError,
    OptionError,
    ResponseShapeError,
    WeightsError,
)
from jaxhlm.estimation.model import Model
from jaxhlm.estimation.pipeline import Prepared
from jaxhlm.language.formula import ParsedFormula, parse
from jaxhlm.sources.alignment import matched, row_order, unnamed
from jaxhlm.sources.apart import learned_apart
from jaxhlm.sources.containers import GivenResponses, Opened, opened
from jaxhlm.sources.frames import replicate_frame
from jaxhlm.sources.replicate_rows import ReplicateRows
from jaxhlm.sources.responses import Reordered, Responses, every, has_missing, less, of_rows
from jaxhlm.sources.sources import ResponseMatrix, Source

__all__ = [
    "Input",
    "Matched",
    "matched_samples",
    "replicate_input",
    "response_input",
    "shared_input",
]


class Input(NamedTuple):
    """Data sets to fit."""

    source: Source
    index: pd.Index  # (B,) their labels
    model: Model


class Matched(NamedTuple):
    """Responses and their samples."""

    given: Opened
    data: pd.DataFrame  # of the samples
    index: pd.Index  # (B,) labels of the responses
    order: Ints | None  # (n,) where every sample of data stands among the responses'; None: there


def response_input(
    formula: str,
    data: Table | None,
    responses: GivenResponses,
    weights: Weights,
    reml: bool,
    responses_in: ResponsesIn = "columns",
    layer: str | None = None,
) -> Input:
    """Many responses on one design.

    Raises:
        JaxhlmError: the design, or the response matrix as a whole, is at fault.
    """
    given, data, index, order = matched_samples(data, responses, responses_in, layer)
    own = _own_weights(weights, given, responses_in)
    design = build_design(formula, data, weights if own is None else None, response_rows=len(data))
    Y = of_rows(given.values, _kept(order, design), given.by_rows)
    W = None if own is None else _weights(own, given, data, order, design)
    if W is not None:
        _check_weights(W, design.index, index)
    return shared_input(Prepared(design), Y, index, reml, W)


def matched_samples(
    data: Table | None,
    responses: GivenResponses,
    responses_in: ResponsesIn,
    layer: str | None,
    what: str = "responses",
) -> Matched:
    """Responses and the table of their samples, brought together.

    Args:
        data, responses, responses_in, layer: as for ``fit_many``.
        what: what the responses are called.

    Raises:
        JaxhlmError: the response matrix as a whole is at fault.
    """
    check_option("responses_in", responses_in, ResponsesIn)
    given = opened(what, responses, responses_in == "rows", layer)
    data = _samples(data, given)
    _check_shape(what, given, data, responses_in)
    order = row_order(given.samples, data, what, ResponseShapeError)
    return Matched(given, data, _labels(given), order)


def _samples(data: Table | None, given: Opened) -> pd.DataFrame:
    """The table of samples, which AnnData has beside."""
    if data is None and given.table is None:
        raise OptionError("data=None: give the table of samples; only AnnData has one of its own")
    return as_frame("data", given.table if data is None else data)


def _check_shape(what: str, given: Opened, data: pd.DataFrame, responses_in: ResponsesIn) -> None:
    """Raise ``ResponseShapeError`` unless there is a sample of responses for every row of data."""
    shape, n = given.shape, len(data)
    if len(shape) != 2:
        raise ResponseShapeError(
            f"{what} has {len(shape)} dimension(s); give (n, B), one column per response"
        )
    if shape[1] == 0:
        raise ResponseShapeError(f"{what} has no {responses_in}; give one for each response")
    if shape[0] != n:
        if shape[1] != n and not (unnamed(given.samples) or unnamed(data.index)):
            row_order(given.samples, data, what, ResponseShapeError)
        samples = "rows" if responses_in == "columns" else "columns"
        meant = f'pass responses_in="{samples}"' if shape[1] == n else "give a value for every row"
        raise ResponseShapeError(
            f"the {what} have {shape[0]} {samples}, the data have {n} rows; {meant}"
        )


def _kept(order: Ints | None, design: Design) -> Ints | None:
    """Numbers of the rows of responses that are fitted, in the order of the design."""
    if design.n_dropped == 0:
        return order
    kept = np.flatnonzero(design.kept)
    return kept if order is None else order[kept]


def _labels(given: Opened) -> pd.Index:
    """(B,) labels of the fits."""
    if given.labels is None or unnamed(given.labels):
        return pd.RangeIndex(given.shape[1], name="response")
    return given.labels if given.labels.nlevels > 1 else given.labels.rename("response")


def shared_input(
    prepared: Prepared,
    Y: Floats | Responses,
    index: pd.Index,
    reml: bool,
    W: Floats | Responses | None = None,
) -> Input:
    """Responses (n, B) on the rows of one design, their labels, and weights of their own (n, B).

    The offset of the design is taken off them.

    Raises:
        JaxhlmError: the design is at fault.
    """
    design = prepared.design
    if design.stateful and (has_missing(Y) or not (W is None or every(W, lambda w: w > 0.0))):
        raise FormulaError(
            f"{design.stateful[0]} learns from the rows it sees, and some responses miss some of "
            "them; compute it as a column of data first, or fit those responses by themselves"
        )
    prepared.check_identified(reml)
    source = ResponseMatrix(prepared, less(Y, design.offset), W=W)
    return Input(source, index, Model.of(design, reml))


def _own_weights(weights: Weights, given: Opened, responses_in: ResponsesIn) -> Opened | None:
    """Weights of the responses' own, if there are any.

    Raises:
        WeightsError: they have another shape than the responses, or are no numbers.
    """
    if not _two_dimensional(weights):
        return None
    try:
        own = opened("weights", weights, responses_in == "rows")
    except (NotNumericError, ResponseShapeError) as error:
        raise WeightsError(str(error)) from None
    if own.shape != given.shape:
        turn = -1 if responses_in == "rows" else 1
        mine, wanted = (" x ".join(map(str, x.shape[::turn])) for x in (own, given))
        raise WeightsError(
            f"{mine} weights for {wanted} responses; give one for each value, lying as these do"
        )
    return own


def _weights(
    own: Opened, given: Opened, data: pd.DataFrame, order: Ints | None, design: Design
) -> Floats | Responses:
    """(n, B) weights on the rows of the design, in the order of the responses.

    Those without names lie as the responses do that were given.

    Raises:
        WeightsError: they have other names.
    """
    if unnamed(given.samples):
        rows = row_order(own.samples, data, "weights", WeightsError)
    else:
        told = "the index of weights", "that of responses"
        mine = matched(own.samples, given.samples, told, WeightsError)
        rows = order if mine is None else mine if order is None else mine[order]
    W = of_rows(own.values, _kept(rows, design), own.by_rows)
    told = "the list of names of weights", "that of responses"
    columns = matched(own.labels, given.labels, told, WeightsError)
    return W if columns is None else Responses(Reordered(W, columns))


def _two_dimensional(weights: Any) -> bool:
    if weights is None or isinstance(weights, str | pd.Series):
        return False
    if isinstance(weights, list | tuple):
        return np.ndim(weights) > 1
    return isinstance(weights, PathLike) or len(getattr(weights, "shape", ())) > 1


def _check_weights(W: Floats | Responses, rows: pd.Index, index: pd.Index) -> None:
    """Refuse weights that are negative or infinite; missing ones leave their rows out."""
    n, B = W.shape
    for run in lane_chunks(B, 8 * n):
        part = W[:, run]
        bad = (part < 0.0) | np.isinf(part)
        if bad.any():
            i, j = np.argwhere(bad)[0]
            raise WeightsError(
                f"weights must be positive, or 0 to leave a row out; row {label(rows, int(i))} of "
                f"response {label(index, run.start + int(j))} has {part[i, j]:g}"
            )


def replicate_input(
    formula: str | ParsedFormula,
    data: Table,
    by: str,
    weights: Weights,
    reml: bool,
    learned: Mapping[str, Any] | None = None,
) -> Input:
    """Data sets with rows of their own, one below the other; ``learned`` as for ``build_design``.

    Raises:
        JaxhlmError: the formula, or the frame as a whole, is at fault.
    """
    data = as_frame("data", data)
    replicate = _replicates(data, by)
    parsed = formula if isinstance(formula, ParsedFormula) else parse(formula)
    if found := replicate_frame(parsed, data, replicate, weights, learned):
        source, index = found
        return Input(source, index, Model.of(source.template, reml))
    lane, labels = factorized(replicate, "column")
    usable, stand_in = _usable_rows(parsed, data, lane)
    design, usable, stand_in = _built(parsed, usable, stand_in, lane, weights, learned)
    if design.stateful:
        design = learned_apart(design, usable, lane[design.kept], len(labels))
    lane = lane.astype(np.int64)
    rows = ReplicateRows.of(design, lane[design.kept], stand_in[design.kept], lane)
    return Input(rows, labels.rename(by), Model.of(design, reml))


def _replicates(data: pd.DataFrame, by: str) -> pd.Series:
    """(n,) labels of the data sets, none missing."""
    if not isinstance(by, Hashable):
        raise MissingColumnError(f"by={type(by).__name__!r} is no name of a column of data")
    try:
        column = native(data.iloc[:, require_column(data, by)]).rename(by)
    except MissingColumnError as error:
        raise MissingColumnError(f"by={by!r} is not a column of data: {error}") from None
    if missing(column).any():
        raise OptionError(f"column {by!r} has missing values; every row needs a replicate")
    check_rows(data)
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
    bad = {name: without_complete & missing(used[name]) for name in used}
    bad |= {name: bad[name] | infinite for name in parsed.variables}
    return _filled(data, bad, int(usable[0])), stand_in


def _filled(data: pd.DataFrame, bad: Mapping[str, Bools], stand_in: int) -> pd.DataFrame:
    """The frame with the values of one row in place of those that are bad, column by column."""
    filled, used = data.copy(deep=False), select(data, [*bad])
    for name, rows in bad.items():
        taken = used[name].iloc[np.where(rows, stand_in, np.arange(len(data)))]
        filled.isetitem(require_column(data, name), taken.set_axis(data.index))
    return filled


def _built(
    parsed: ParsedFormula,
    data: pd.DataFrame,
    stand_in: Bools,
    lane: Ints,
    weights: Weights,
    learned: Mapping[str, Any] | None,
) -> tuple[Design, pd.DataFrame, Bools]:
    """The design of a frame, with more stand-ins where a transform makes no finite number.

    Raises:
        NonFiniteError: in every data set.
    """
    while True:
        try:
            return build_design(parsed, data, weights, learned=learned, lane=lane), data, stand_in
        except NonFiniteError as error:
            used = select(data, [*parsed.variables, *parsed.group])
            kept = np.flatnonzero(complete_rows(used, read_weights(weights, data)))
            bad = np.zeros(len(data), bool)
            bad[kept[np.asarray(error.rows, int)]] = True
            unusable = stand_in | bad
            good = kept[~np.isin(lane[kept], lane[unusable])]
            if not len(good) or not (bad & ~stand_in).any():
                raise
            data = _filled(data, dict.fromkeys(parsed.variables, bad), int(good[0]))
            stand_in = unusable
