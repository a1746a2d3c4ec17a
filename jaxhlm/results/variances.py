"""What is said of the variances of all fits: errors, limits, principal components, likelihoods."""

from __future__ import annotations

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import check_flag
from jaxhlm.core.notation import Bools, Floats, check_option
from jaxhlm.estimation.estimates import Estimates, user_criterion
from jaxhlm.inference.criteria import check_level
from jaxhlm.inference.parameters import (
    random_entries,
    random_groups,
    random_names,
    random_values,
)
from jaxhlm.inference.variance_errors import VarianceScale, limits, log_scale_errors
from jaxhlm.likelihood.lane_derivatives import lane_derivatives
from jaxhlm.results.presenters import long_table
from jaxhlm.results.record import FitRecord
from jaxhlm.statistics.response import Standardised

__all__ = ["loglik_by", "principal_components", "variance_frame"]


def variance_frame(fits: FitRecord, scale: VarianceScale, conf_level: float) -> pd.DataFrame:
    """Standard deviations, correlations and σ with errors and limits, one row per fit and one."""
    check_option("scale", scale, VarianceScale)
    check_level(conf_level, "conf_level")
    model, entries = fits.model, random_entries(fits.model)
    (errors,) = fits.over_lanes(lambda e, s: log_scale_errors(e, s, fits.options, entries))
    values = np.column_stack([random_values(model, fits.estimates.cov), fits.estimates.sigma])
    se, low, high = limits(values, errors, entries, scale, conf_level)
    columns = {
        "estimate": values,
        "std_error": se,
        "std_error_log": errors,
        "conf_low": low,
        "conf_high": high,
    }
    frame = long_table([*random_names(model), "sd__Observation"], columns)
    groups = np.array([*random_groups(model), "Residual"], dtype=object)
    frame.insert(0, "group", np.resize(groups, len(frame)))
    return frame


def principal_components(fits: FitRecord) -> pd.DataFrame:
    """Components of Σ/σ² of every random term, one row per fit and component."""
    with np.errstate(invalid="ignore"):
        D = fits.estimates.cov / fits.estimates.sigma[:, None, None] ** 2
    names, parts = fits.model.znames, []
    known: Bools = np.asarray(np.isfinite(D).all(axis=(1, 2)))
    for block in fits.model.blocks:
        own = np.where(known[:, None, None], D[np.ix_(range(len(D)), block, block)], 0.0)
        values, vectors = np.linalg.eigh(own)
        values = np.maximum(values[:, ::-1], 0.0)
        vectors = np.moveaxis(vectors[:, :, ::-1], 1, 2)
        largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=2)[..., None], axis=2)
        loadings = np.full((*values.shape, len(names)), np.nan)
        loadings[:, :, list(block)] = vectors * np.where(largest < 0.0, -1.0, 1.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = values / values.sum(axis=1, keepdims=True)
        parts.append((np.sqrt(values), share, np.cumsum(share, axis=1), loadings))
    sd, share, total, loadings = (np.concatenate(x, axis=1) for x in zip(*parts, strict=True))
    columns = {"sd": sd, "proportion": share, "cumulative": total}
    columns |= {name: loadings[:, :, j] for j, name in enumerate(names)}
    columns = {name: np.where(known[:, None], x, np.nan) for name, x in columns.items()}
    numbers = [f"PC{i + 1}" for block in fits.model.blocks for i in range(len(block))]
    frame = long_table(numbers, columns).rename(columns={"term": "component"})
    groups = [term.group for term in fits.model.terms for block in term.blocks for _ in block]
    frame.insert(0, "group", np.resize(np.array(groups, dtype=object), len(frame)))
    return frame


def loglik_by(fits: FitRecord, reml: bool) -> Floats:
    """(B,) restricted or full log-likelihoods at θ̂, σ and β profiled."""
    check_flag("reml", reml)
    if reml == fits.model.reml:
        return fits.loglik
    blocks = fits.options.blocks

    def one(e: Estimates, s: Standardised) -> tuple[Floats]:
        with np.errstate(all="ignore"):
            value = lane_derivatives(e.theta_standard.T, s.stats, reml, blocks).profile.value
            nu = np.broadcast_to(s.stats.n - reml * s.stats.rank, s.status.shape)
            found = user_criterion(np.asarray(value), s.scaling, nu, reml)
        return (np.where(e.known, found, np.nan),)

    return -0.5 * fits.over_lanes(one)[0]
