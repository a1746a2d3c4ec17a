"""What is fitted to drawn data sets: its terms mean what they mean in the generating model.

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
from jaxhlm.language.formula import ParsedFormula, column_name
from jaxhlm.sources.inputs import Input
from jaxhlm.sources.replicate_rows import ReplicateRows
from jaxhlm.studies.layout import Layout
from jaxhlm.violations.panel import Panel

__all__ = ["layout_input", "prepared_by", "rows_to_fit"]

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


def rows_to_fit(panel: Panel, y: Floats) -> Bools:
    """(N,) the rows that have a response, and those of data sets that have no other."""
    missing = np.isnan(y)
    all_missing = np.logical_and.reduceat(missing, panel.starts[:-1])[panel.lane]
    return np.asarray(~missing | all_missing)


def layout_input(
    template: Design, formula: ParsedFormula, layout: Layout, y: Floats, reml: bool
) -> Input:
    """Data sets with designs of their own as they were drawn, for fits by the generating model.

    Args:
        template: the generating model.
        formula: its formula, with the response.
        layout: rows and model matrices.
        y: (N,) responses.
        reml: as for ``fit_many``.
    """
    panel, kept = layout.panel, rows_to_fit(layout.panel, y)
    rows: slice | Ints = slice(None) if kept.all() else np.flatnonzero(kept)
    y = y[rows]
    design = replace(
        template,
        y=y,
        X=layout.X[rows],
        Z=layout.Z[rows],
        group=layout.columns[template.group_name][rows],
        index=pd.RangeIndex(len(kept))[rows],
        kept=np.ones(len(y), bool),
        response_name=column_name(formula.response) or "",
        formula=formula.formula,
        _covariates={name: layout.columns[name][rows] for name in template._covariates},
    )
    source = ReplicateRows.of(design, panel.lane[rows], np.isnan(y))
    index = pd.RangeIndex(len(panel.lanes), name="replicate")
    return Input(source, index, Model.of(design, reml))
