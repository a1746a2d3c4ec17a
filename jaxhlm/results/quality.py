"""How well all fits fit: robust covariances, variance explained, influence, diagnostics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from jaxhlm.core.chunks import CHUNK_BYTES
from jaxhlm.core.notation import Array, Bools, Floats, Ints, check_option
from jaxhlm.errors import DegenerateWarning, warn_user
from jaxhlm.estimation.estimates import Estimates
from jaxhlm.estimation.hypotheses import Contrasts
from jaxhlm.inference import variance_explained
from jaxhlm.inference.criteria import check_level, standard_errors
from jaxhlm.inference.influence import Influence, LeftOut
from jaxhlm.inference.leaveout import MOST_LANES, leave_one_out, numbers_per_fit
from jaxhlm.inference.robust import Robust, RobustKind, robust_covariance
from jaxhlm.inference.robust_wald import robust_wald
from jaxhlm.inference.tails import f_tail
from jaxhlm.inference.variance_explained import Components
from jaxhlm.results.clusters import clusters_of, row_clusters
from jaxhlm.results.coefficients import joint_rows
from jaxhlm.results.fit_rows import FitRows
from jaxhlm.results.presenters import Ragged, long_table
from jaxhlm.results.record import FitRecord
from jaxhlm.results.tidy import inference_table
from jaxhlm.results.units import over_rows
from jaxhlm.statistics.response import at_absent
from jaxhlm.statistics.without_rows import RowsApart

__all__ = [
    "augmented",
    "icc",
    "influence",
    "left_out",
    "one_group_terms",
    "r2",
    "robust",
    "robust_joint_test",
    "tidy_robust",
    "variance_fractions",
]

AUGMENTED = (".fitted", ".resid", ".fixed", ".resid_marginal", ".hat", ".cooksd", ".std_resid")


def robust(fits: FitRecord, kind: RobustKind, cluster: Any = None) -> Robust:
    """Cluster-robust covariances of the fixed effects; says where they are not determined."""
    check_option("kind", kind, RobustKind)
    found = _sandwich(fits, kind, _clusters(fits, cluster))
    alone, zero = found.one_group & np.isfinite(fits.estimates.beta), np.isnan(found.df)
    level = "cluster" if cluster is not None else f"level of {fits.model.group_name}"
    _warn_undetermined(fits, alone & zero, level, "no robust standard error (NaN)")
    _warn_undetermined(fits, alone & ~zero, level, "a robust standard error that is far too small")
    return found


def _warn_undetermined(fits: FitRecord, lost: Bools, level: str, what: str) -> None:
    """Say which coefficients, (B, p), have ``what`` beside an estimate."""
    if lost.any():
        named = ", ".join(repr(fits.model.xnames[int(j)]) for j in np.flatnonzero(lost.any(axis=0)))
        where = f" in {int(lost.any(axis=1).sum())} of {len(lost)} fits" * (len(lost) > 1)
        warn_user(
            f"{what} of {named}{where}: it is not estimable without a certain {level}, whose "
            "residuals say nothing about it; use the standard errors of the model (tidy), or more "
            f"{level.replace('level', 'levels').replace('cluster', 'clusters')}",
            DegenerateWarning,
        )


Clusters = Callable[[Ints], Ints | None]


def _clusters(fits: FitRecord, cluster: Any) -> Clusters:
    """Of positions of fits, the numbers of the clusters that their groups lie in, if any."""
    if cluster is None:
        return lambda at: None
    of_row = row_clusters(cluster, fits.rows.design)
    return lambda at: clusters_of(fits, fits.lanes(at).observations, of_row)


def _sandwich(fits: FitRecord, kind: RobustKind, clusters: Clusters) -> Robust:
    with np.errstate(invalid="ignore"):
        vcov, df, one_group = fits.over_chunks(
            lambda at: robust_covariance(*fits.by_group(at), fits.model.blocks, kind, clusters(at))
        )
    absent = fits.estimates.absent
    return Robust(at_absent(vcov, absent), at_absent(df, absent), one_group.astype(bool) & ~absent)


def robust_joint_test(
    fits: FitRecord, L: Contrasts, kind: RobustKind, rhs: ArrayLike, cluster: Any
) -> dict[str, Array]:
    """F tests that all rows of Lβ = rhs hold, (B,) each, with cluster-robust covariances."""
    single = robust(fits, kind, cluster)
    rows, values, about = joint_rows(fits, L, rhs)
    clusters = _clusters(fits, cluster)
    F, den = fits.over_chunks(
        lambda at: robust_wald(
            *fits.by_group(at), fits.model.blocks, kind, clusters(at), rows, values
        )
    )
    zero = np.isnan(single.df) & np.isfinite(fits.estimates.beta)
    lost = about | zero[:, (rows != 0.0).any(axis=0)].any(axis=1)
    F, den = (np.where(lost, np.nan, x) for x in (F, den))
    return {
        "num_df": len(rows),
        "den_df": den,
        "statistic": F,
        "p_value": f_tail(F, len(rows), den),
    }


def one_group_terms(fits: FitRecord) -> tuple[str, ...]:
    """Fixed effects of one fit whose sandwich is zero: only a certain group takes part."""
    zero = np.isnan(_sandwich(fits, "CR0", _clusters(fits, None)).df[0])
    return tuple(fits.model.xnames[j] for j in np.flatnonzero(zero).tolist())


def tidy_robust(fits: FitRecord, kind: RobustKind, conf_level: float, cluster: Any) -> pd.DataFrame:
    """t tests and intervals with robust standard errors and Satterthwaite's df.

    One row per fit and fixed effect: term, estimate, std_error, df, statistic, p_value, conf_low,
    conf_high.
    """
    check_level(conf_level, "conf_level")
    beta, found = fits.estimates.beta, robust(fits, kind, cluster)
    columns = inference_table(beta, standard_errors(found.vcov), found.df, 0.0, conf_level)
    return long_table(fits.model.xnames, columns)


def _components(fits: FitRecord) -> Components:
    return Components(
        *fits.over_chunks(
            lambda at: variance_explained.components(fits.filled[at], fits.lanes(at).moments)
        )
    )


def r2(fits: FitRecord) -> Floats:
    """(B, 2) marginal and conditional R²."""
    return np.column_stack(variance_explained.r2(_components(fits)))


def variance_fractions(fits: FitRecord) -> tuple[Floats, pd.Index]:
    """(B, m) shares of the variance, and what each is of."""
    design, model = fits.rows.design, fits.model
    terms = [design._fixed.terms[j] for j in design._x_columns]
    labels = [name for name in dict.fromkeys(terms) if name != "(Intercept)"]
    fixed = [np.flatnonzero([term == name for term in terms]) for name in labels]
    slopes = [name for name in model.znames if name != "(Intercept)"]
    labels += [model.group_name, f"{' + '.join(slopes)} | {model.group_name}", "Residual"]

    def shares(at: Ints) -> tuple[Floats]:
        return (variance_explained.fractions(fits.filled[at], fits.lanes(at).moments, fixed),)

    found, components = fits.over_chunks(shares)[0], pd.Index(labels, name="component")
    if slopes:
        return found, components
    return np.delete(found, -2, axis=1), components.delete(-2)


def icc(fits: FitRecord, at: Mapping[str, Any] | pd.DataFrame | None) -> Floats:
    """(B, m) intraclass correlations, one column for each pattern of ``at``."""
    if at is None:
        return variance_explained.icc(_components(fits))[:, None]
    design = fits.rows.design
    if design.learned_apart and len(fits) > 1:
        return np.concatenate([icc(fit, at) for fit in fits.singly()])
    Z = variance_explained.patterns(design.of_lane(fits.first_lane), at)
    return variance_explained.icc_at(fits.estimates, Z)


def influence(fits: FitRecord, by: LeftOut, levels: Callable[[], pd.Index]) -> Influence:
    """Every group, or row, of every fit left out in turn; ``levels`` label them, fit after fit."""
    lengths, without = left_out(fits, by)
    fit = np.repeat(np.arange(len(fits)), lengths)
    return Influence(fits.model, levels(), fits.estimates, without, fit, by)


def left_out(fits: FitRecord, by: LeftOut = "group") -> tuple[Ints, Estimates]:
    """Groups, or rows, of every fit, and the estimates without each of them, fit after fit."""
    single = by == "observation"
    each = fits.nobs if single else fits.ngroups
    refits, many = int(each.sum()), int(each.max(initial=1))
    G, q, p = int(fits.ngroups.max(initial=1)), len(fits.model.znames), len(fits.model.xnames)

    def one(at: Ints) -> tuple[Array, ...]:
        full, groups = fits.by_group(at)
        rows = RowsApart.of(fits.lanes(at).observations) if single else None
        without = leave_one_out(groups, full, fits.options, refits, rows)
        lengths = rows.lengths if rows else (groups.standardised.stats.m > 0.0).sum(axis=0)
        parts = (getattr(without, f.name) for f in fields(Estimates))
        return np.broadcast_to(lengths, len(at)), *parts

    # As many fits together as fill the lanes of a few compiled runs, on all cores.
    lane_bytes = max(8 * numbers_per_fit(G, q, p), CHUNK_BYTES // max(1, 4 * MOST_LANES // many))
    lengths, *without = fits.over_runs(one, lane_bytes)
    return lengths, Estimates(*without)


def augmented(fits: FitRecord) -> tuple[Ragged, dict[str, Floats]]:
    """Every row with its diagnostics, and the columns of ``broom.mixed::augment``."""

    def one(f: FitRows) -> tuple[Array, ...]:
        found = f.fitted, f.residual, f.fixed, f.residual_marginal, f.leverage.hat
        return f.response, f.level, *found, f.cooks_distance, f.residual_std

    ragged = over_rows(fits, one)
    y, level, *values = ragged.values
    columns = {
        fits.model.response_name or "y": y,
        fits.model.group_name: fits.rows.design.levels[level],
    }
    return ragged, columns | dict(zip(AUGMENTED, values, strict=True))
