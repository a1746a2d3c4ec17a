"""Confidence intervals of all fits, and the profiles behind them.

What profiles and bootstraps need is imported when they are asked for: a fit alone starts sooner.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from jaxhlm.arguments import affordable, whole_number
from jaxhlm.errors import OptionError
from jaxhlm.estimates import Estimates
from jaxhlm.inference.criteria import check_level, standard_errors, wald_interval
from jaxhlm.inference.parameters import Parameter, choose, parameter_names, parameters
from jaxhlm.model import Model
from jaxhlm.notation import BootstrapInterval, Floats
from jaxhlm.results.record import Fitted
from jaxhlm.rows.response import Standard
from jaxhlm.streams import Seed

__all__ = ["bootstrap_limits", "profile_frame", "profile_limits", "wald_limits"]

Parameters = tuple[Parameter, ...]
Names = str | Sequence[str] | None


def wald_limits(fits: Fitted, parm: Names, level: float) -> tuple[Parameters, Floats]:
    """Fixed effects and their limits β̂ ± z se, (B, P, 2)."""
    wanted = choose([p for p in parameters(fits.model) if p.kind == "fixed"], parm)
    at = [p.at[0] for p in wanted]
    se = standard_errors(fits.estimates.vcov)[:, at]
    return wanted, np.stack(wald_interval(fits.estimates.beta[:, at], se, level), axis=2)


def profile_limits(fits: Fitted, parm: Names, level: float) -> tuple[Parameters, Floats]:
    """Parameters, and their limits (B, P, 2) from the profiles of the ML deviance."""
    from jaxhlm.inference import profiles

    wanted = choose(parameters(fits.model), parm)

    def profile(_: Estimates, standard: Standard) -> tuple[Floats]:
        return (profiles.profile_limits(standard, fits.model.blocks, wanted, level),)

    (limits,) = fits.over_lanes(profile)
    for k, p in enumerate(wanted):
        if p.kind == "fixed":
            limits[fits.estimates.absent[:, p.at[0]], k] = np.nan
    return wanted, limits


def bootstrap_limits(
    fit: Fitted,
    parm: Names,
    level: float,
    n: int,
    seed: Seed,
    interval: BootstrapInterval,
) -> tuple[Parameters, Floats]:
    """Parameters of one fit, and their limits (1, P, 2) from a parametric bootstrap."""
    from jaxhlm.resampling.schemes import parametric_interval

    wanted, source = choose(parameters(fit.model), parm), fit.responses
    both = parametric_interval(
        fit.model, source.prepared, source.Y[:, 0], fit.estimates, fit.options,
        n, seed, interval, level,
    )  # fmt: skip
    return wanted, np.column_stack(both)[None, [_position(fit.model, p) for p in wanted]]


def profile_frame(fit: Fitted, parm: Names, level: float, points: int) -> pd.DataFrame:
    """The profiles of one fit: term, value, zeta."""
    from jaxhlm.inference.profiles import profile_curves

    check_level(level)
    if whole_number("points", points, least=3) % 2 == 0:
        raise OptionError(f"points={points!r} must be an odd number from 3 on")
    wanted = choose(parameters(fit.model), parm)
    affordable("points", points, 16.0 * len(wanted))
    standard = fit.rows.standard(fit.lanes)
    curves: Any = profile_curves(standard, fit.model.blocks, wanted, level, points)
    value, zeta = curves.reshape(-1, 2).T
    term = np.repeat(np.array([p.name for p in wanted], dtype=object), points)
    return pd.DataFrame({"term": term, "value": value, "zeta": zeta})


def _position(model: Model, parameter: Parameter) -> int:
    """Where a parameter stands among ``parameter_names``."""
    x, z, at = model.xnames, model.znames, parameter.at
    names = {
        "fixed": lambda: x[at[0]],
        "sd": lambda: f"sd__{z[at[0]]}",
        "cor": lambda: f"cor__{z[at[1]]}.{z[at[0]]}",
        "sigma": lambda: "sigma",
    }
    return parameter_names(model).index(names[parameter.kind]())
