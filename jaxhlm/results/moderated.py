"""Residual variances of many fits shrunk towards each other, and the fits that follow from it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import check_flag
from jaxhlm.core.document import Block, Printed, as_html, framed
from jaxhlm.core.notation import Floats, Ints
from jaxhlm.estimation.estimates import Estimates
from jaxhlm.estimation.pipeline import fit_standardised
from jaxhlm.inference.moderation import moderated_variances, variance_prior
from jaxhlm.inference.residual_df import residual_df
from jaxhlm.inference.robust_prior import robust_variance_prior
from jaxhlm.results.record import FitRecord
from jaxhlm.sources.pseudo_rows import WithPrior

__all__ = ["Moderation", "df_residual", "moderated", "moderation"]

# A prior of more degrees of freedom than so many times the rows counts as one of so many: 1/df is
# then 0 to four digits, and the criterion still has digits left for the rows.
MOST_DF = 1e4
# Fits of a table in a notebook.
MOST_SHOWN = 10


@dataclass(frozen=True, eq=False, repr=False)
class Moderation(Printed):
    """Residual variances shrunk towards each other; print it for one line.

    Attributes:
        df_prior: d₀, the degrees of freedom that the other fits are worth; it may be infinite.
        variances: a DataFrame with a row for each fit: variance (σ̂²), df_residual, prior (s₀²),
            df_prior (its own d₀, less for outliers of a robust prior) and moderated (s̃²); with a
            trend first the mean response.
    """

    df_prior: float
    variances: pd.DataFrame

    @property
    def df_pooled(self) -> float:
        """Degrees of freedom of all fits together, than which no knowledge of σ is worth more."""
        return float(self.variances["df_residual"].sum())

    def _blocks(self) -> list[Block]:
        """How much is shrunk."""
        v = self.variances
        outlying = int((v["df_prior"] < 0.5 * self.df_prior).sum())
        line = (
            f"Residual variances of {v['variance'].notna().sum():,} fits: prior with "
            f"{self.df_prior:.4g} degrees of freedom beside {v['df_residual'].median():.4g} of a "
            f"fit (median), prior variance {v['prior'].median():.4g}"
            + f"; {outlying:,} outlying, with less than half of it"
            * (outlying > 0)
        )
        return [[line]]

    def _repr_html_(self) -> str:
        """In a notebook, the variances as well."""
        return as_html([*self._blocks(), [framed(self.variances, ".4g", most=MOST_SHOWN)]])


def df_residual(fits: FitRecord) -> Floats:
    """(B,) residual degrees of freedom n − 2 tr H + tr HH."""
    if "df_residual" not in fits.kept:
        (found,) = fits.over_lanes(lambda e, s: residual_df(e, s, fits.options))
        fits.kept["df_residual"] = np.where(fits.ok, found, np.nan)
    return fits.kept["df_residual"].copy()


@np.errstate(all="ignore")
def moderation(fits: FitRecord, trend: bool, robust: bool) -> Moderation:
    """Empirical-Bayes variances of all fits."""
    check_flag("trend", trend)
    check_flag("robust", robust)
    variance, df = np.where(fits.ok, fits.estimates.sigma, np.nan) ** 2, df_residual(fits)
    means = {"mean": _means(fits)} if trend else {}
    prior = (robust_variance_prior if robust else variance_prior)(variance, df, means.get("mean"))
    columns = means | {
        "variance": variance,
        "df_residual": df,
        "prior": np.broadcast_to(prior.variance, variance.shape),
        "df_prior": np.broadcast_to(prior.df_by_fit, variance.shape),
        "moderated": moderated_variances(variance, df, prior),
    }
    return Moderation(prior.df, pd.DataFrame(columns, index=fits.index))


@np.errstate(all="ignore")
def moderated(fits: FitRecord, found: Moderation) -> FitRecord:
    """The fits of the same data sets under the prior of their residual variances.

    θ, β and σ are those that maximise the (restricted) likelihood times the prior density of σ⁻²,
    and df count what the prior is worth. Without random effects this is limma's moderated t. The
    last ones are kept.
    """
    prior = found.variances[["prior", "df_prior"]].to_numpy()
    known, kept = fits.kept.get("moderated", (np.empty(0), fits))
    if not np.array_equal(known, prior, equal_nan=True):
        kept = _fitted_again(fits, found)
        fits.kept["moderated"] = prior, kept
    return kept


def _fitted_again(fits: FitRecord, found: Moderation) -> FitRecord:
    prior = np.full((fits.rows.B, 2), np.nan)
    prior[fits.lane_index] = found.variances[["df_prior", "prior"]]
    others = np.zeros(fits.rows.B)
    others[fits.lane_index] = found.df_pooled - found.variances["df_residual"].fillna(0.0)
    count = np.minimum(prior[:, 0], np.minimum(others, MOST_DF * float(fits.nobs.max())))
    source = WithPrior(fits.rows, count, prior[:, 1])

    def fitted(at: Ints) -> tuple[Any, ...]:
        lanes = source.lanes(fits.lane_index[at])
        estimates = fit_standardised(lanes.standardised, fits.options)
        return tuple(getattr(estimates, f.name) for f in fields(estimates))

    # Codes and counts are whole numbers among arrays of floats.
    arrays: Any = fits.over_chunks(fitted)
    return replace(fits, estimates=Estimates(*arrays), source=source, tests={})


def _means(fits: FitRecord) -> Floats:
    """(B,) the mean response of every fit."""

    def means(at: Ints) -> tuple[Floats]:
        f = fits.rows_of(at)
        if f.rows.matrices.shared:
            return (f.response.mean(axis=1),)
        lane, lanes = f.rows.rows.lane, len(at)
        return (np.bincount(lane, f.response[0], lanes) / np.bincount(lane, None, lanes),)

    return np.asarray(fits.over_chunks(means)[0])
