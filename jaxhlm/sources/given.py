"""What a user gives ``fit_many``, made the source of a batch."""

from __future__ import annotations

from os import PathLike
from typing import Any, TypeAlias

from jaxhlm.core.notation import ResponsesIn
from jaxhlm.core.pieces import in_pieces
from jaxhlm.core.tables import Table
from jaxhlm.design.columns import Weights
from jaxhlm.errors import OptionError
from jaxhlm.language.formula import check_formula
from jaxhlm.sources.containers import GivenResponses
from jaxhlm.sources.inputs import Input, replicate_input, response_input
from jaxhlm.sources.replicate_pieces import pieces_input

__all__ = ["GivenData", "fit_input"]

# With ``by`` also a pyarrow ``Dataset`` or a Dask DataFrame, which have no types of their own.
GivenData: TypeAlias = "Table | str | PathLike[str] | Any"


def fit_input(
    formula: str,
    data: GivenData | None,
    responses: GivenResponses | None,
    by: str | None,
    weights: Weights,
    reml: bool,
    responses_in: ResponsesIn = "columns",
    layer: str | None = None,
) -> Input:
    """The data sets that ``fit_many`` is given.

    Raises:
        FormulaError: the formula is no text.
        OptionError: neither or both of ``responses`` and ``by`` were given.
        JaxhlmError: the call as a whole is at fault.
    """
    check_formula(formula)
    if (responses is None) == (by is None):
        raise OptionError(
            "give either responses= (a matrix of responses on one design) or by= "
            "(a column that tells replicates apart), and not both"
        )
    if responses is not None:
        return response_input(formula, data, responses, weights, reml, responses_in, layer)
    if responses_in != "columns" or layer is not None:
        raise OptionError("responses_in= and layer= say what responses= are, and go with them only")
    assert by is not None
    if in_pieces(data):
        return pieces_input(formula, data, by, weights, reml)
    return replicate_input(formula, data, by, weights, reml)
