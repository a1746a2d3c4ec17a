"""The stages of fitting, in order: design, standardised statistics, minima, estimates, results."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from jaxhlm.design import build_design
from jaxhlm.engine.loop import MAX_ITER, TOL
from jaxhlm.engine.minimum import Options
from jaxhlm.errors import (
    ConvergenceWarning,
    IdentifiabilityError,
    InterruptedFitsWarning,
    OptionError,
    SingularFitWarning,
    warn_user,
)
from jaxhlm.model import Model
from jaxhlm.notation import Floats
from jaxhlm.pipeline import Prepared, fit_responses
from jaxhlm.progress import progress_report
from jaxhlm.results.batch import FitBatch
from jaxhlm.results.fit import Fit
from jaxhlm.rows.inputs import replicate_input, response_input
from jaxhlm.rows.sources import Source
from jaxhlm.status import Status

if TYPE_CHECKING:
    import optax

__all__ = ["fit", "fit_many", "fit_source"]


def fit(
    formula: str,
    data: pd.DataFrame,
    reml: bool = True,
    weights: str | pd.Series | Floats | None = None,
    *,
    optimizer: optax.GradientTransformation | None = None,
    tol: float = TOL,
    max_iter: int = MAX_ITER,
) -> Fit:
    """Fit one hierarchical linear model exactly; equals ``lme4::lmer(formula, data)``.

        y_i = X_i β + Z_i b_i + ε_i,   b_i ~ N(0, σ²ΛΛ'),   ε_i ~ N(0, σ²/w)

    Args:
        formula: lme4's notation with one grouping factor, such as ``y ~ x * a + (1 + x | unit)``,
            ``(1 | g)``, ``(0 + x | g)``, ``(1 + x || g)``. The fixed part and the left of the bar
            are read by formulaic: interactions, factors, ``C()``, ``poly()``, ``center()``, …
        data: one row per measurement. Rows with a missing value in a variable that is used are
            dropped, with a ``RowsDroppedWarning`` that counts them.
        reml: restricted maximum likelihood; False for maximum likelihood.
        weights: prior weights, a column name or (n,) values; Var(ε) = σ²/w.
        optimizer: any optax optimiser in place of the library's Newton method.
        tol: a fit is done when its Newton decrement, in deviance units, is below this.
        max_iter: largest number of evaluations of criterion, gradient and Hessian.

    Returns:
        A ``Fit``; ``print`` it for lmer's table.

    Raises:
        JaxhlmError: a subclass for each cause (see ``jaxhlm.errors``), naming the column or
            argument and what to do: a missing or non-numeric column, infinite values, no rows,
            one group only, an unidentified model, a constant response, unsupported terms, bad
            weights.

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
    _check_controls(reml, tol, max_iter)
    design = build_design(formula, data, weights)
    assert design.y is not None
    options = Options(reml, design.blocks, optimizer, tol, max_iter)
    prepared = Prepared(design)
    estimates = fit_responses(prepared, design.y[:, None], options)
    result = Fit(Model.of(design, reml), design, estimates, options, prepared)
    _report(result)
    return result


def fit_many(
    formula: str,
    data: pd.DataFrame,
    responses: pd.DataFrame | Floats | None = None,
    *,
    by: str | None = None,
    reml: bool = True,
    weights: str | pd.Series | Floats | None = None,
    optimizer: optax.GradientTransformation | None = None,
    tol: float = TOL,
    max_iter: int = MAX_ITER,
    progress: bool | None = None,
) -> FitBatch:
    """Fit many data sets at once: many responses on one design, or replicates in a long frame.

    Every data set gets exactly the fit that ``fit`` would give it. One that cannot be fitted gets
    a status code and NaN estimates, and its neighbours are untouched.

    Args:
        formula: as for ``fit``. With ``responses`` its left side may be left out.
        data: the frame with the design; with ``by``, all replicates one below the other.
        responses: (n, B) array or DataFrame, one column per response, rows as in ``data``. A
            response with missing values (NaN) is fitted on its own complete rows.
        by: column of ``data`` that tells the replicates apart; they may differ in their rows,
            units and covariates. Factor levels are taken from all of ``data``.
        reml, weights, optimizer, tol, max_iter: as for ``fit``.
        progress: show a progress bar; by default when the output is a terminal.

    Returns:
        A ``FitBatch``; ``print`` it for counts and a summary.

    Raises:
        OptionError: neither or both of ``responses`` and ``by`` were given.
        ResponseShapeError: ``responses`` has another number of rows than ``data``.
        JaxhlmError: as for ``fit``, where the design as a whole is at fault.

    Example:
        >>> import jaxhlm as hlm
        >>> data = hlm.load_dataset("sleepstudy")
        >>> truth = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", data)
        >>> Y = truth.simulate(100, seed=1)
        >>> fits = hlm.fit_many("~ Days + (1 + Days | Subject)", data, responses=Y)
        >>> len(fits), int(fits.ok.sum())
        (100, 100)
    """
    _check_controls(reml, tol, max_iter)
    if (responses is None) == (by is None):
        raise OptionError(
            "give either responses= (a matrix of responses on one design) or by= "
            "(a column that tells replicates apart), and not both"
        )
    if by is None:
        given = response_input(formula, data, responses, weights, reml)
    else:
        given = replicate_input(formula, data, by, weights, reml)
    options = Options(reml, given.model.blocks, optimizer, tol, max_iter)
    return fit_source(*given, options, progress)


def fit_source(
    source: Source, index: pd.Index, model: Model, options: Options, progress: bool | None
) -> FitBatch:
    """Fit every lane of a source; an interrupt keeps what was finished.

    Args:
        source: where the rows are.
        index: (B,) labels of the lanes.
        model: the labels of the fits.
        options: what to optimise.
        progress: show a progress bar; None when the output is a terminal.
    """
    with progress_report(len(index), progress) as report:
        estimates, nobs, ngroups = source.fit(options, report)
    done = len(estimates.status)
    if done < len(index):
        warn_user(
            f"interrupted: {done} of {len(index)} fits are finished and returned",
            InterruptedFitsWarning,
        )
    lanes = np.arange(done)
    fits = FitBatch(
        model, estimates, index[:done], nobs[:done], ngroups[:done], options, lanes, source
    )
    _report_failures(fits)
    return fits


def _check_controls(reml: bool, tol: float, max_iter: int) -> None:
    if not isinstance(reml, bool | np.bool_):
        raise OptionError(f"reml={reml!r} must be True (REML) or False (maximum likelihood)")
    if not tol > 0.0:
        raise OptionError(f"tol={tol!r} must be positive, in units of the deviance")
    if not isinstance(max_iter, int | np.integer) or max_iter < 1:
        raise OptionError(f"max_iter={max_iter!r} must be a whole number, at least 1")


def _report(result: Fit) -> None:
    """Raise where there is no estimate; warn where it is not an ordinary optimum."""
    status = result.status
    if status == Status.SINGULAR:
        warn_user(status.message, SingularFitWarning)
    elif status == Status.ITERATION_LIMIT:
        warn_user(status.message, ConvergenceWarning)
    elif not status.ok:
        raise IdentifiabilityError(f"the model could not be fitted: {status.message}")


def _report_failures(fits: FitBatch) -> None:
    failed = fits.counts[[s.name.lower() for s in Status if not s.ok]]
    if failed.sum():
        causes = ", ".join(f"{count} {name}" for name, count in failed.items() if count)
        warn_user(
            f"{failed.sum()} of {len(fits)} fits failed ({causes}); see fits.status and "
            "print(fits) for what each means",
            ConvergenceWarning,
        )
