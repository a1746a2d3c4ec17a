"""What a power is of: the design of the model that is fitted, and the truth; and its formula."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from jaxhlm.design.design import Design
from jaxhlm.errors import OptionError
from jaxhlm.inference.contrast_tests import DfMethod
from jaxhlm.language.formula import parse
from jaxhlm.studies.analytic import analytic_power, precision
from jaxhlm.studies.effects import check_effects
from jaxhlm.studies.mechanism import Mechanism, without_offset
from jaxhlm.studies.read_tests import ReadTest
from jaxhlm.studies.truth import Truth
from jaxhlm.studies.uncertainty import TruthSource

__all__ = ["Generating", "analysed", "formula_power"]

Generating: TypeAlias = Mechanism | tuple[Design, Truth]


def analysed(mechanism: Generating, formula: str | None) -> tuple[Design, Truth | TruthSource]:
    """The design of the model to fit (on one draw of it, if it is redrawn), and the truth."""
    if isinstance(mechanism, tuple):
        design, truth = mechanism if len(mechanism) == 2 else (None, None)
        if not isinstance(design, Design) or not isinstance(truth, Truth):
            raise OptionError(
                "give a Mechanism, or a pair (jaxhlm.design(formula, data), jaxhlm.Truth.of(…))"
            )
        if formula is not None:
            raise OptionError("another formula= needs a Mechanism, which knows the data frame")
        truth.check_learned(design.learned)
        check_effects(truth.cov, design)
        return design, truth
    if not hasattr(mechanism, "draw"):
        raise OptionError(f"{type(mechanism).__name__} draws no data sets; give a Mechanism")
    if formula is None:
        return mechanism.template, mechanism.truth
    fitted = mechanism.prepared(without_offset(parse(formula, response_optional=True)))
    return fitted.design, mechanism.truth


def formula_power(
    mechanism: Generating, design: Design, truth: Truth | TruthSource, test: ReadTest, alpha: float,
    df: DfMethod, formula: str | None,
) -> float:  # fmt: skip
    """REML's power by formula; NaN where the model that is fitted does not generate the data."""
    violated = not isinstance(mechanism, tuple) and bool(mechanism.violations)
    if violated or formula is not None or not isinstance(truth, Truth) or truth.sigma == 0.0:
        return np.nan
    found = precision(design, truth, test.L)
    return analytic_power(found, test.rhs, alpha, df, design.n - design.p)
