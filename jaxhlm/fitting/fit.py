"""The stages of fitting, in order: design, standardised statistics, minima, estimates, results."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import check_flag
from jaxhlm.core.notation import Floats
from jaxhlm.core.status import Status
from jaxhlm.core.tables import Table
from jaxhlm.design.design import build_design
from jaxhlm.errors import (
    ConvergenceWarning,
    IdentifiabilityError,
    SingularFitWarning,
    warn_user,
)
from jaxhlm.estimation.model import Model
from jaxhlm.estimation.pipeline import Prepared, fit_lanes
from jaxhlm.language.opaque import allowing
from jaxhlm.optimise.loop import MAX_ITER, TOL
from jaxhlm.optimise.options import Options
from jaxhlm.results.fit import Fit
from jaxhlm.results.record import FitRecord
from jaxhlm.sources.sources import ResponseMatrix

if TYPE_CHECKING:
    import optax

__all__ = ["fit"]


# What overflows becomes an error or a status of ours, under ``-W error`` too.
@np.errstate(all="ignore")
def fit(
    formula: str,
    data: Table,
    reml: bool = True,
    weights: str | pd.Series | Floats | None = None,
    *,
    unsafe_formula: bool = False,
    optimizer: optax.GradientTransformation | None = None,
    tol: float = TOL,
    max_iter: int = MAX_ITER,
) -> Fit:
    """Fit one hierarchical linear model exactly; equals ``lme4::lmer(formula, data)``.

        y_i = X_i β + Z_i b_i + ε_i,   b_i ~ N(0, σ²ΛΛ'),   ε_i ~ N(0, σ²/w)

    Args:
        formula: lme4's notation with one grouping factor, such as ``y ~ x * a + (1 + x | unit)``,
            ``(1 | g)``, ``(0 + x | g)``, ``(1 + x || g)``. What else it may hold (interactions,
            ``C()``, ``poly()``, ``np.log()``, …) is a table in ``jaxhlm.language.formula``; nothing
            in it is run as code, unless you say so (``unsafe_formula``). A name that is no word
            stands in backticks: `` `dose [mg]` ``. ``offset(log(t))`` is added to Xβ + Zb as it is;
            several add up. It is in fitted values, predictions and draws, and no part of the
            variance that ``r2`` is a share of.
        data: one row per measurement: a table of pandas, of polars, pyarrow or whatever narwhals
            reads, or a dict of columns. Rows with a missing value in a variable that is used are
            dropped, with a ``RowsDroppedWarning`` that counts them.
        reml: restricted maximum likelihood; False for maximum likelihood.
        weights: prior weights, a column name or (n,) values; Var(ε) = σ²/w.
        unsafe_formula: let Python evaluate the expressions that the formula language refuses, with
            the columns as Series, ``np`` and ``pd``; what is more than one call goes in ``I( … )``.
            THE FORMULA IS THEN CODE: it can read files and do whatever your program can, so never
            take it from somebody else. Each row's value must still follow from that row.
        optimizer: any optax optimiser in place of the library's Newton method.
        tol: a fit is done when its Newton decrement, in deviance units, is below this.
        max_iter: largest number of evaluations of criterion, gradient and Hessian.

    Returns:
        A ``Fit``; ``print`` it for lmer's table.

    Raises:
        JaxhlmError: a subclass for each cause (see ``jaxhlm.errors``), naming the column or
            argument and what to do: a missing or non-numeric column, infinite values, no rows,
            one group only, a constant response, unsupported terms, bad weights; and a model that
            the design does not identify (``IdentifiabilityError``): the message names the
            variances and covariances that no data of this design tell anything about.

    Example:
        >>> import jaxhlm as hlm
        >>> data = hlm.load_dataset("math_achieve")
        >>> fit = hlm.fit("MathAch ~ SES * MEANSES + (1 + SES | School)", data)
        >>> print(f"{fit.criterion:.3f}  {fit.fixef['SES']:.4f}  {fit.se['SES']:.4f}")
        46561.746  2.1936  0.1221

    References:
        Bates, Mächler, Bolker & Walker (2015). Fitting linear mixed-effects models using lme4.
        J. Stat. Softw. 67(1).
    """
    check_flag("unsafe_formula", unsafe_formula)
    with allowing(unsafe_formula):
        design = build_design(formula, data, weights)
    assert design.y is not None
    options = Options(reml, design.blocks, optimizer, tol, max_iter)
    prepared = Prepared(design)
    prepared.check_identified(reml)
    source = ResponseMatrix(prepared, design.y[:, None])
    estimates = fit_lanes(source, options).estimates
    result = Fit(FitRecord.alone(source, Model.of(design, reml), estimates, options))
    _report(result)
    return result


def _report(result: Fit) -> None:
    """Raise where there is no estimate; warn where it is not an ordinary optimum."""
    status = result.status
    if status == Status.SINGULAR:
        warn_user(status.message, SingularFitWarning)
    elif status == Status.ITERATION_LIMIT:
        warn_user(status.message, ConvergenceWarning)
    elif not status.ok:
        raise IdentifiabilityError(f"the model could not be fitted: {status.message}")
