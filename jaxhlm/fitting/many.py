"""Fitting many data sets at once: where they come from, their estimates, and what failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import check_flag
from jaxhlm.core.devices import Devices, chosen_devices
from jaxhlm.core.notation import Floats
from jaxhlm.core.status import Status
from jaxhlm.design.columns import listed
from jaxhlm.errors import (
    ConvergenceWarning,
    InterruptedFitsWarning,
    OptionError,
    RankDeficientWarning,
    warn_user,
)
from jaxhlm.estimation.device_chunks import fit_on_devices
from jaxhlm.estimation.model import Model
from jaxhlm.estimation.pipeline import Fitted, Report, fit_lanes
from jaxhlm.estimation.progress import progress_report
from jaxhlm.language.opaque import allowing
from jaxhlm.optimise.loop import MAX_ITER, TOL
from jaxhlm.optimise.options import Options
from jaxhlm.results.batch import FitBatch
from jaxhlm.results.record import FitRecord
from jaxhlm.sources.inputs import replicate_input, response_input
from jaxhlm.sources.sources import Source

if TYPE_CHECKING:
    import optax

__all__ = ["fit_many", "fit_source"]


# A data set of extreme size gets a status, and no warning stops its neighbours.
@np.errstate(all="ignore")
def fit_many(
    formula: str,
    data: pd.DataFrame,
    responses: pd.DataFrame | Floats | None = None,
    *,
    by: str | None = None,
    reml: bool = True,
    weights: str | pd.Series | Floats | None = None,
    unsafe_formula: bool = False,
    optimizer: optax.GradientTransformation | None = None,
    tol: float = TOL,
    max_iter: int = MAX_ITER,
    progress: bool | None = None,
    devices: Devices = None,
) -> FitBatch:
    """Fit many data sets at once: many responses on one design, or replicates in a long frame.

    Every data set gets exactly the fit that ``fit`` would give it. One that cannot be fitted gets
    a status code and NaN estimates, and its neighbours are untouched. Several processes must be
    started by "spawn" or "forkserver": a forked child of a process that has used JAX is refused.

    Args:
        formula: as for ``fit``. With ``responses`` its left side may be left out.
        data: the frame with the design; with ``by``, all replicates one below the other.
        responses: (n, B) array or DataFrame, one column per response, rows as in ``data``. A
            response with missing values (NaN) is fitted on its own complete rows. They are not
            copied: what is computed from rows later, such as ``fits[i]``, is about what they hold
            then.
        by: column of ``data`` that tells the replicates apart; they may differ in their rows,
            units and covariates. Factor levels are taken from all of ``data``. A data set
            without a row of one of them lacks that coefficient, which is NaN; without a row of the
            first level, which the others are measured against, it is ``RANK_DEFICIENT``; without
            one of a factor left of a bar, ``NOT_IDENTIFIED``. Means, scales and knots of terms such
            as ``center(x)`` every data set learns by itself.
        reml, weights, unsafe_formula, optimizer, tol, max_iter: as for ``fit``.
        progress: show a progress bar; by default when the output is a terminal.
        devices: where the responses are fitted: a number of JAX's devices, or devices such as
            ``jax.devices("gpu")``. By default those of JAX's default backend, unless it is the
            CPU, whose cores take a faster way of their own. What ``by`` tells apart is always
            fitted on the cores.

    Returns:
        A ``FitBatch``; ``print`` it for counts and a summary.

    Raises:
        OptionError: neither or both of ``responses`` and ``by`` were given.
        ResponseShapeError: ``responses`` has another number of rows than ``data``.
        OptionError: ``devices`` that are not there, with ``by`` or with an optimiser of your own.
        ForkedProcessError: in a forked child, as above.
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
    if (responses is None) == (by is None):
        raise OptionError(
            "give either responses= (a matrix of responses on one design) or by= "
            "(a column that tells replicates apart), and not both"
        )
    check_flag("unsafe_formula", unsafe_formula)
    with allowing(unsafe_formula):
        if by is None:
            given = response_input(formula, data, responses, weights, reml)
        else:
            given = replicate_input(formula, data, by, weights, reml)
    options = Options(reml, given.model.blocks, optimizer, tol, max_iter)
    return fit_source(*given, options, progress, devices)


@np.errstate(all="ignore")
def fit_source(
    source: Source,
    index: pd.Index,
    model: Model,
    options: Options,
    progress: bool | None,
    devices: Devices = None,
) -> FitBatch:
    """Fit every lane of a source; an interrupt keeps what was finished.

    Args:
        source: where the rows are.
        index: (B,) labels of the lanes.
        model: the labels of the fits.
        options: what to optimise.
        progress: show a progress bar; None when the output is a terminal.
        devices: as for ``fit_many``.
    """
    with progress_report(len(index), progress) as report:
        found = _fitted(source, options, report, devices)
    done = len(found.nobs)
    if done < len(index):
        warn_user(
            f"interrupted: {done} of {len(index)} fits are finished and returned",
            InterruptedFitsWarning,
        )
    lane_index = np.arange(done)
    estimates, nobs, ngroups = found
    record = FitRecord(model, estimates, index[:done], nobs, ngroups, options, lane_index, source)
    fits = FitBatch(record)
    _report_failures(fits)
    _report_absent(fits)
    return fits


def _fitted(source: Source, options: Options, report: Report | None, devices: Devices) -> Fitted:
    """All data sets of a source, on devices or by the host path."""
    chosen = chosen_devices(devices)
    lanes = source.traceable if chosen and options.optimizer is None else None
    if chosen is None or (lanes is None and devices is None):
        return fit_lanes(source, options, report)
    if lanes is None:
        what = "data sets with rows of their own" if options.optimizer is None else "your optimizer"
        raise OptionError(f"devices={devices!r}: {what} runs on the cores only; leave devices out")
    return fit_on_devices(lanes, source.B, options, chosen, report)


def _report_failures(fits: FitBatch) -> None:
    failed = fits.counts[[s.name.lower() for s in Status if not s.ok]]
    if failed.sum():
        causes = ", ".join(f"{count} {name}" for name, count in failed.items() if count)
        warn_user(
            f"{failed.sum()} of {len(fits)} fits failed ({causes}); see fits.status and "
            "print(fits) for what each means",
            ConvergenceWarning,
        )


def _report_absent(fits: FitBatch) -> None:
    absent = fits.estimates.absent
    if absent.any():
        named = [fits.model.xnames[j] for j in np.flatnonzero(absent.any(axis=0)).tolist()]
        warn_user(
            f"{int(absent.any(axis=1).sum())} of {len(fits)} data sets have no row in which "
            f"{listed(named)} is not zero; their coefficients of these columns are NaN, and all "
            "else is as if the columns were left out",
            RankDeficientWarning,
        )
