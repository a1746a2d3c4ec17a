"""Fits that were read from a file, and the data that they were fitted to, together again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from jaxhlm.core.notation import Array, Floats, Ints, ResponsesIn
from jaxhlm.design.columns import Weights, label, listed
from jaxhlm.errors import DifferentRowsError, OptionError
from jaxhlm.estimation.estimates import Estimates, estimate
from jaxhlm.estimation.model import Model
from jaxhlm.inference.criteria import standard_errors
from jaxhlm.likelihood.lane_derivatives import lane_derivatives
from jaxhlm.optimise.options import Options
from jaxhlm.optimise.solve import Solution
from jaxhlm.results.record import FitRecord
from jaxhlm.sources.containers import GivenResponses
from jaxhlm.sources.given import GivenData, fit_input
from jaxhlm.sources.inputs import Input
from jaxhlm.statistics.response import Standardised

__all__ = ["attached", "given_again"]

# β at the θ of the file may differ from the file's by this many standard errors, and σ by this part
# of itself: a million times what rounding does, and less than any other data would.
SAME = 1e-6


def given_again(
    model: Model,
    data: GivenData | None,
    responses: GivenResponses | None,
    by: str | None,
    weights: Weights,
    responses_in: ResponsesIn,
    layer: str | None,
) -> Input | None:
    """The data sets that fits are said to be of, as ``fit_many`` is given them; None if none are.

    Raises:
        OptionError: weights without data sets.
        JaxhlmError: as for ``fit_many``.
    """
    if data is None and responses is None and by is None:
        if weights is not None:
            raise OptionError("weights= without the data that they are of: give data= as well")
        return None
    given = data, responses, by, weights, model.reml, responses_in, layer
    return fit_input(model.formula, *given)


def attached(fits: FitRecord, given: Input, numbers: Ints | None = None) -> FitRecord:
    """The same fits with their rows; all else of the record stays as it is.

    Every fit is held against its data: β and σ at its θ must be what they were.

    Args:
        fits: without rows.
        given: the data sets.
        numbers: (B,) of the fits among all that were made with them, where they are a part.

    Raises:
        DifferentRowsError: they are fits of other data.
    """
    _check_columns(fits.model, given.model)
    found = replace(fits, source=given.source, lane_index=_places(fits.index, given.index, numbers))
    options = fits.options
    differs, nobs, ngroups = (
        found.over_lanes(lambda e, s: _differs(e, s, options)) if len(found) else ([],) * 3
    )
    # At variances of zero β and σ are the same whatever the groups are.
    counted = np.not_equal([fits.nobs, fits.ngroups], [nobs, ngroups]).any(axis=0)
    which = np.flatnonzero(differs | (fits.estimates.known & counted))
    if len(which):
        raise DifferentRowsError(
            f"{len(which)} of {len(fits)} fits are of other data, or weights, than those given: "
            f"first {label(fits.index, int(which[0]))}; pass what was passed when they were fitted"
        )
    return found


def _check_columns(kept: Model, given: Model) -> None:
    for what in ("xnames", "theta_names", "dropped"):
        one, other = getattr(kept, what), getattr(given, what)
        if one != other:
            raise DifferentRowsError(
                f"{kept.formula} has other columns on these data than it had when they were "
                f"fitted: {listed(other)}, and then {listed(one)}"
            )


def _places(labels: pd.Index, given: pd.Index, numbers: Ints | None) -> Ints:
    """Where the fits are among the data sets: by label, or by number where that fails."""
    if given.is_unique and labels.nlevels == given.nlevels:
        places = np.asarray(given.get_indexer(labels))
        if (places >= 0).all():
            return places
    known = len(labels) == len(given) if numbers is None else numbers.max() < len(given)
    if not known:
        raise DifferentRowsError(
            f"{len(labels)} fits, such as {listed(list(labels[:3]))}, and {len(given)} data sets, "
            f"such as {listed(list(given[:3]))}, which are not told apart by these labels"
        )
    return np.arange(len(labels)) if numbers is None else numbers


@np.errstate(all="ignore")
def _differs(found: Estimates, standardised: Standardised, options: Options) -> tuple[Array, ...]:
    """(B,) each: whether β or σ at the θ of fits are others on these data; rows and groups."""
    again = _estimates_at(found.theta_standard, standardised, options)
    far = np.abs(again.beta - found.beta) / standard_errors(found.vcov) > SAME
    same = (np.abs(again.sigma / found.sigma - 1.0) <= SAME) & ~far.any(axis=1)
    nobs, ngroups = standardised.stats.n, standardised.stats.m.sum(axis=0)
    return found.known & ~same, *(np.broadcast_to(x, same.shape) for x in (nobs, ngroups))


def _estimates_at(theta: Floats, standardised: Standardised, options: Options) -> Estimates:
    """The estimates of all else at θ (B, k), as if its minimum were there."""
    theta = np.ascontiguousarray(theta.T)
    at = lane_derivatives(theta, standardised.stats, options.reml, options.blocks).profile
    zero = np.zeros(theta.shape[-1])
    end = zero, zero == 0.0, zero.astype(int)
    minimum = Solution(theta, at.value, at.beta, at.pwrss, at.L_A, *end)
    return estimate(minimum, standardised, options)
