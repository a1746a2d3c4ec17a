"""Fits of drawn data sets, whose terms mean what they mean in the generating model.

What a term of the generating model learned (the mean that ``center(x)`` subtracts) a term of the
same text does not learn again, so that its estimates are those of the truth's coefficient.
"""

from __future__ import annotations

import pandas as pd

from jaxhlm.core.notation import Floats
from jaxhlm.design.design import Design
from jaxhlm.fitting.many import fit_source
from jaxhlm.language.formula import right_side
from jaxhlm.language.words import quoted
from jaxhlm.optimise.options import Options
from jaxhlm.results.batch import FitBatch
from jaxhlm.sources.inputs import replicate_input, response_input

__all__ = ["fits_apart", "fits_of_one"]


def fits_of_one(
    template: Design,
    formula: str,
    design: pd.DataFrame,
    responses: Floats,
    reml: bool,
    progress: bool | None,
) -> FitBatch:
    """Fits on one design.

    Args:
        template: the generating model.
        formula: what to fit.
        design: (n, …) frame.
        responses: (n, B).
        reml, progress: as for ``fit_many``.
    """
    given = response_input(formula, design, responses, None, reml, template.learned)
    return fit_source(*given, Options(reml, given.model.blocks), progress)


def fits_apart(
    template: Design,
    formula: str,
    long: pd.DataFrame,
    response: str,
    reml: bool,
    progress: bool | None,
) -> FitBatch:
    """Fits of data sets with designs of their own.

    Args:
        template: the generating model.
        formula: what to fit; its left side is replaced by ``response``.
        long: all rows, with a column "replicate".
        response: name of the response column.
        reml, progress: as for ``fit_many``.
    """
    written = f"{quoted(response)} ~ {right_side(formula)}"
    given = replicate_input(written, long, "replicate", None, reml, template.learned)
    return fit_source(*given, Options(reml, given.model.blocks), progress)
