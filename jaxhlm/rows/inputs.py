"""What a user gives ``fit_many``: checked, and made the source of a batch.

A data set that cannot be used is marked, so that it gets a status; what is wrong with the call as a
whole raises.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxhlm.arguments import real_array
from jaxhlm.design import build_design
from jaxhlm.errors import (
    FormulaError,
    MissingColumnError,
    NotNumericError,
    OptionError,
    ResponseShapeError,
)
from jaxhlm.formula import parse, rhs_variables, variables
from jaxhlm.model import Model
from jaxhlm.notation import Bools, Floats
from jaxhlm.pipeline import Prepared
from jaxhlm.rows.apart import learned_apart
from jaxhlm.rows.columns import Weights
from jaxhlm.rows.frames import replicate_frame
from jaxhlm.rows.sources import ReplicateRows, ResponseMatrix, Source

__all__ = ["Input", "replicate_input", "response_input"]


class Input(NamedTuple):
    """Data sets to fit."""

    source: Source
    index: pd.Index  # (B,) their labels
    model: Model


def response_input(
    formula: str,
    data: pd.DataFrame,
    responses: pd.DataFrame | Floats,
    weights: Weights,
    reml: bool,
    learned: Mapping[str, Any] | None = None,
) -> Input:
    """Many responses on one design; ``learned`` as for ``build_design``.

    Raises:
        JaxhlmError: the design, or the response matrix as a whole, is at fault.
    """
    Y, index = _response_matrix(responses)
    design = build_design(formula, data, weights, response_rows=len(Y), learned=learned)
    if isinstance(responses, pd.DataFrame) and not responses.index.equals(data.index):
        raise ResponseShapeError(
            "the index of responses differs from that of data; bring the rows into the same order "
            "and pass responses.to_numpy(), or give both the same index"
        )
    if design.n_dropped:
        Y = Y[design.kept]
    if design.stateful and np.isnan(Y).any():
        raise FormulaError(
            f"{design.stateful[0]} learns from the rows it sees, and some responses miss some of "
            "them; compute it as a column of data first, or fit those responses by themselves"
        )
    prepared = Prepared(design)
    prepared.check_identified(reml)
    return Input(ResponseMatrix(prepared, Y), index, Model.of(design, reml))


def _response_matrix(responses: pd.DataFrame | Floats) -> tuple[Floats, pd.Index]:
    """(n, B) responses, missing and masked entries NaN, and their labels."""
    if isinstance(responses, pd.DataFrame):
        for name, dtype in zip(responses.columns, responses.dtypes, strict=True):
            if not _real(dtype):
                raise NotNumericError(f"response column {name!r} is {dtype}; convert or drop it")
        Y, index = real_array("responses", responses), responses.columns
        index = index if index.nlevels > 1 else index.rename("response")
    else:
        if isinstance(responses, pd.Series):
            raise ResponseShapeError("responses is one Series; pass responses.to_frame()")
        Y = real_array("responses", responses)
        if Y.ndim != 2:
            raise ResponseShapeError(
                f"responses has {Y.ndim} dimension(s); give (n, B), one column per response"
            )
        index = pd.RangeIndex(Y.shape[1], name="response")
    if Y.shape[1] == 0:
        raise ResponseShapeError("responses has no columns; give one for each response")
    return Y, index


def _real(dtype: object) -> bool:
    other = pd.api.types.is_complex_dtype(dtype) or pd.api.types.is_bool_dtype(dtype)
    return bool(pd.api.types.is_numeric_dtype(dtype) and not other)


def replicate_input(
    formula: str,
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
    if not isinstance(by, Hashable) or by not in data.columns:
        told = by if isinstance(by, Hashable) else type(by).__name__
        raise MissingColumnError(f"by={told!r} is not a column of data; give the name of one")
    if data[by].isna().any():
        raise OptionError(f"column {by!r} has missing values; every row needs a replicate")
    if found := replicate_frame(formula, data, by, weights, learned):
        source, index = found
        return Input(source, index, Model.of(source.template, reml))
    lane, labels = pd.factorize(data[by], sort=True)
    usable, hopeless = _usable_rows(formula, data, lane)
    design = build_design(formula, usable, weights, learned=learned)
    if design.stateful:
        design = learned_apart(design, usable, lane[design.kept], len(labels))
    rows = ReplicateRows.of(design, lane[design.kept].astype(np.int64), hopeless[design.kept])
    return Input(rows, pd.Index(labels, name=by), Model.of(design, reml))


def _usable_rows(formula: str, data: pd.DataFrame, lane: Floats) -> tuple[pd.DataFrame, Bools]:
    """The frame with stand-ins for what would raise, and (n,) rows where they stand.

    Infinite numbers, and missing values of a data set that has no complete row: their data sets
    get a status, and the others do not notice.
    """
    parsed = parse(formula)
    sides = (parsed.fixed, *(term.expr for term in parsed.random))
    names = {*variables(parsed.response), *(v for side in sides for v in rhs_variables(side))}
    texts = Counter(map(str, data.columns))
    wanted = {name for name in (*names, *parsed.group) if texts[name] == 1}
    used = [label for label in data.columns if str(label) in wanted]
    numbers = [v for v in used if _real(data[v].dtype)]
    infinite = np.zeros(len(data), bool)
    for name in numbers:
        infinite |= np.isinf(data[name].to_numpy(dtype=float, na_value=np.nan))
    complete = data[used].notna().all(axis=1).to_numpy()
    hopeless = (np.bincount(lane, complete) == 0.0)[lane]
    if not (infinite | hopeless).any():
        return data, infinite
    filled = data.copy(deep=False)
    for name in used:
        known = data[name][complete & ~infinite]
        if len(known):
            bad = hopeless & data[name].isna().to_numpy()
            filled[name] = data[name].mask(bad | infinite, known.iloc[0])
    return filled, infinite | hopeless
