"""Fits of drawn data sets, whose terms mean what they mean in the generating model.

What a term of the generating model learned (the mean that ``center(x)`` subtracts) a term of the
same text does not learn again, so that its estimates are those of the truth's coefficient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pandas as pd

from jaxhlm.core.notation import Bools, Floats, Ints
from jaxhlm.design.design import Design, build_design
from jaxhlm.estimation.model import Model
from jaxhlm.estimation.pipeline import Prepared
from jaxhlm.fitting.many import fit_source
from jaxhlm.language.formula import ParsedFormula
from jaxhlm.language.words import quoted
from jaxhlm.optimise.options import Options
from jaxhlm.results.batch import FitBatch
from jaxhlm.sources.inputs import Input, replicate_input, shared_input
from jaxhlm.sources.sources import ReplicateRows
from jaxhlm.studies.layout import Layout

__all__ = ["fits_apart", "fits_of_layout", "fits_of_one", "prepared_by"]

# Formulas whose matrices a mechanism keeps.
MOST_FORMULAS = 8


def prepared_by(
    frame: pd.DataFrame, template: Design, generating: ParsedFormula
) -> Callable[[ParsedFormula], Prepared]:
    """Makes, and keeps, the matrices of a formula on the rows of the generating model.

    Args:
        frame: the rows.
        template: the generating model.
        generating: its formula.
    """
    rows, learned = len(frame), template.learned

    @lru_cache(MOST_FORMULAS)
    def prepared(formula: ParsedFormula) -> Prepared:
        if formula.terms == generating.terms:
            return Prepared(replace(template, formula=formula.formula))
        return Prepared(build_design(formula, frame, response_rows=rows, learned=learned))

    return prepared


def fits_of_one(
    prepared: Prepared, responses: Floats, reml: bool, progress: bool | None
) -> FitBatch:
    """Fits of responses (n, B) on one design; reml and progress as for ``fit_many``."""
    index = pd.RangeIndex(responses.shape[1], name="response")
    return _fitted(shared_input(prepared, responses, index, reml), reml, progress)


def fits_of_layout(
    template: Design,
    formula: ParsedFormula,
    layout: Layout,
    y: Floats,
    kept: Bools,
    response: str,
    reml: bool,
    progress: bool | None,
) -> FitBatch:
    """Fits by the generating model of data sets with designs of their own, as they were drawn.

    Args:
        template: the generating model.
        formula: its formula.
        layout: rows and model matrices.
        y: (N,) responses.
        kept: (N,) the rows to fit.
        response: name of the response column.
        reml, progress: as for ``fit_many``.
    """
    rows: slice | Ints = slice(None) if kept.all() else np.flatnonzero(kept)
    panel, y = layout.panel, y[rows]
    design = replace(
        template,
        y=y,
        X=layout.X[rows],
        Z=layout.Z[rows],
        group=layout.columns[template.group_name][rows],
        index=pd.RangeIndex(len(kept))[rows],
        kept=np.ones(len(y), bool),
        response_name=response,
        formula=formula.of(quoted(response)).formula,
        _covariates={name: layout.columns[name][rows] for name in template._covariates},
    )
    source = ReplicateRows.of(design, panel.lane[rows], np.isnan(y))
    index = pd.RangeIndex(len(panel.lanes), name="replicate")
    return _fitted(Input(source, index, Model.of(design, reml)), reml, progress)


def fits_apart(
    template: Design,
    formula: ParsedFormula,
    long: pd.DataFrame,
    response: str,
    reml: bool,
    progress: bool | None,
) -> FitBatch:
    """Fits by another model of data sets with designs of their own.

    Args:
        template: the generating model.
        formula: what to fit; its left side is replaced by ``response``.
        long: all rows, with a column "replicate".
        response: name of the response column.
        reml, progress: as for ``fit_many``.
    """
    written = formula.of(quoted(response))
    given = replicate_input(written, long, "replicate", None, reml, template.learned)
    return _fitted(given, reml, progress)


def _fitted(given: Input, reml: bool, progress: bool | None) -> FitBatch:
    return fit_source(*given, Options(reml, given.model.blocks), progress)
