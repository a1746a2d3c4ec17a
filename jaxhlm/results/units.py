"""Units and rows of all fits: random effects, coefficients, predictions, residuals.

Tables are ragged arrays (``presenters``): lengths by fit, the number of the level or row of each
entry, and values. A fit that failed has its units and rows, and NaN in them. All is computed chunk
by chunk on all cores; what takes memory is what comes out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from jaxhlm.core.notation import Array, Bools, Floats, Ints, NewLevels, NotEstimable
from jaxhlm.core.tables import Table, as_frame
from jaxhlm.design.columns import listed
from jaxhlm.errors import NewLevelError, OptionError
from jaxhlm.inference.criteria import standard_errors, wald_interval
from jaxhlm.inference.henderson import (
    between_variance,
    coef_variance,
    fixed_variance,
    ranef_variance,
    row_variance,
    standardized_effects,
    value_variance,
)
from jaxhlm.inference.tails import normal_quantile
from jaxhlm.results.fit_rows import FitRows
from jaxhlm.results.prediction import Interval, counted_effects, new_rows
from jaxhlm.results.presenters import Ragged, long_table, split
from jaxhlm.results.record import FitRecord

__all__ = [
    "coef",
    "coef_se",
    "over_rows",
    "over_units",
    "predictions",
    "ranef_frame",
    "ranef_qq",
    "shrinkage",
]


def over_units(fits: FitRecord, one: Callable[[FitRows], tuple[Array, ...]]) -> Ragged:
    """``one`` of the rows of some fits, (L, G, …) arrays, of all units."""
    return _ragged(fits, lambda f: (*f.rows.unit_numbers, *map(f.rows.flat_units, one(f))))


def over_rows(fits: FitRecord, one: Callable[[FitRows], tuple[Array, ...]]) -> Ragged:
    """``one`` of the rows of some fits, (L, n) arrays, of all rows."""
    return _ragged(fits, lambda f: (*f.rows.row_numbers, *map(f.rows.flat_rows, one(f))))


def _ragged(fits: FitRecord, flat: Callable[[FitRows], tuple[Array, ...]]) -> Ragged:
    """Ragged arrays of all fits, from their lengths, numbers and values of some."""
    lane_bytes = 8 * _lane_numbers(fits)
    lengths, number, *values = fits.over_runs(lambda at: flat(fits.rows_of(at)), lane_bytes)
    return Ragged(lengths, number, tuple(values))


def _lane_numbers(fits: FitRecord) -> int:
    """About how many numbers one fit takes while its units and rows are computed."""
    p, q = len(fits.model.xnames), len(fits.model.znames)
    units, rows = int(fits.ngroups.max(initial=1)), int(fits.nobs.max(initial=1))
    return units * (8 * q * q + 4 * q * p) + rows * (2 * p * p + 3 * q * q + 2 * q * p + 8)


def coef(fits: FitRecord) -> tuple[Ragged, list[str]]:
    """Coefficients of every unit, (Σ, m), and their names."""
    return _coefficients(fits, lambda f, x, z: f.estimates.beta[:, None] @ x.T + f.effects.b @ z.T)


def coef_se(fits: FitRecord) -> tuple[Ragged, list[str]]:
    """Standard errors of ``coef``."""
    return _coefficients(fits, lambda f, x, z: np.sqrt(coef_variance(f.henderson, x, z)))


def _coefficients(
    fits: FitRecord, values: Callable[[FitRows, Floats, Floats], Floats]
) -> tuple[Ragged, list[str]]:
    """Values of the m coefficients xβ̂ + zb̂ of a unit, x (m, p) and z (m, q), and their names.

    NaN for one that is a fixed effect only, and absent.
    """
    model = fits.model
    names = list(dict.fromkeys([*model.xnames, *model.znames]))
    x, z = (
        np.array([[float(name == term) for term in terms] for name in names])
        for terms in (model.xnames, model.znames)
    )
    lacking = (fits.about_absent(x) & (z == 0.0).all(axis=1))[:, None]
    return over_units(fits, lambda f: (np.where(lacking[f.at], np.nan, values(f, x, z)),)), names


def ranef_frame(fits: FitRecord, conf_level: float) -> tuple[pd.DataFrame, Ints]:
    """BLUPs, conditional standard deviations and limits, and the rows of every fit."""
    ragged = over_units(fits, lambda f: (f.effects.b, standard_errors(f.effects.cov)))
    b, se = ragged.values
    low, high = wald_interval(b, se, conf_level)
    columns = {"estimate": b, "std_error": se, "conf_low": low, "conf_high": high}
    return _unit_frame(fits, ragged, columns)


def shrinkage(fits: FitRecord) -> tuple[pd.DataFrame, Ints]:
    """Own lines, predictions, population values and reliabilities, and the rows of every fit."""

    def one(f: FitRows) -> tuple[Array, ...]:
        own, population, W = f.lines
        return own, population + f.effects.b, population, np.diagonal(W, axis1=-2, axis2=-1)

    ragged, names = over_units(fits, one), ("ols", "blup", "population", "reliability")
    return _unit_frame(fits, ragged, dict(zip(names, ragged.values, strict=True)))


def ranef_qq(fits: FitRecord) -> tuple[pd.DataFrame, Ints]:
    """Standardised random effects beside normal quantiles, and the rows of every fit."""

    def one(f: FitRows) -> tuple[Array, ...]:
        b = f.effects.b
        return b, *standardized_effects(b, ranef_variance(f.henderson), f.estimates.cov)

    ragged, names = over_units(fits, one), ("estimate", "std_error", "standardized")
    columns = dict(zip(names, ragged.values, strict=True))
    scores = [_normal_scores(part) for part in split(ragged.lengths, columns["standardized"])]
    return _unit_frame(fits, ragged, columns | {"theoretical": np.concatenate(scores)})


def _unit_frame(
    fits: FitRecord, ragged: Ragged, columns: dict[str, Floats]
) -> tuple[pd.DataFrame, Ints]:
    frame, q = long_table(fits.model.znames, columns), len(fits.model.znames)
    frame.insert(0, "group", fits.model.group_name)
    frame.insert(1, "level", fits.rows.design.levels[ragged.number].repeat(q))
    return frame, ragged.lengths * q


def _normal_scores(values: Floats) -> Floats:
    """Normal quantiles at the ranks of the columns of (G, q) values; NaN where a value is.

    Plotting positions as R's ``qqnorm``: (r − a)/(m + 1 − 2a), a = 3/8 for m ≤ 10, else 1/2.
    """
    scores = np.full(values.shape, np.nan)
    for column, out in zip(values.T, scores.T, strict=True):
        there = np.flatnonzero(np.isfinite(column))
        m = len(there)
        a = 0.375 if m <= 10 else 0.5
        order = there[np.argsort(column[there], kind="stable")]
        out[order] = normal_quantile((np.arange(1, m + 1) - a) / (m + 1 - 2 * a))
    return scores


def predictions(
    fits: FitRecord,
    newdata: Table | None,
    ranef: bool | str,
    new_levels: NewLevels,
    interval: Interval | None,
    not_estimable: NotEstimable,
) -> tuple[Ragged, pd.Index]:
    """Predictions, their error variances, those behind limits; and labels of the rows."""
    counted = counted_effects("ranef", ranef, fits.rows.design)
    added = float(interval == "prediction")
    if added and counted.any() and not counted.all():
        raise OptionError(
            f"interval='prediction' takes ranef=True or False, not {ranef!r}: a new response has "
            "all random effects of its unit"
        )
    if newdata is None:
        return _row_predictions(fits, counted, added), fits.rows.design.index
    new, strict = as_frame("newdata", newdata), new_levels == "error"
    return _new_predictions(fits, new, counted, strict, added, not_estimable), new.index


def _row_predictions(fits: FitRecord, counted: Bools, added: float) -> Ragged:
    """Predictions of the rows that were fitted, their error variances, and those behind limits.

    Args:
        fits: the fits.
        counted: (q,) the random effects that are in them.
        added: the share of a new response's own variance that limits count.
    """

    def one(f: FitRows) -> tuple[Floats, Floats, Floats]:
        h, scale = f.henderson, f.sigma**2 / f.rows.root_w**2
        if counted.any():
            variance = scale * row_variance(h, f.rows, counted)
            values = f.fitted if counted.all() else f.fixed + f.rows.random(f.effects.b * counted)
            return values, variance, variance + added * scale
        variance = scale * fixed_variance(h, f.rows)
        return f.fixed, variance, variance + added * scale * (1.0 + between_variance(h, f.rows))

    return over_rows(fits, one)


def _new_predictions(
    fits: FitRecord,
    newdata: pd.DataFrame,
    counted: Bools,
    strict: bool,
    added: float,
    not_estimable: NotEstimable,
) -> Ragged:
    """As ``_row_predictions``, of new rows.

    Args:
        fits: the fits.
        newdata: the same new rows for all of them.
        counted: (q,) the random effects that are in them.
        strict: refuse units that a fit has not seen.
        added: as for ``_row_predictions``.
        not_estimable: "nan" or "error".

    Raises:
        NewLevelError: a unit was not seen, if ``strict``.
    """
    source, ranef = fits.rows, bool(counted.any())
    if source.design.learned_apart and len(fits) > 1:
        options = (counted, strict, added, not_estimable)
        parts = [_new_predictions(fit, newdata, *options) for fit in fits.singly()]
        lengths, number, values = zip(*parts, strict=True)
        columns = map(np.concatenate, zip(*values, strict=True))
        return Ragged(np.concatenate(lengths), np.concatenate(number), tuple(columns))
    design = source.design.of_lane(fits.first_lane)
    X, Z, code, offset = new_rows(design, newdata, ranef, not_estimable)
    about = fits.about_absent(X)
    fits.tell_not_estimable(about, newdata.index, "row(s) of the new data", not_estimable)
    m, (p, q), z = len(X), (X.shape[1], Z.shape[1]), Z[:, counted]

    def one(at: Ints) -> tuple[Array, ...]:
        f = fits.rows_of(at)
        group = f.rows.group_numbers(len(source.design.levels))[:, code]
        if strict and ranef and (group < 0).any():
            raise _unseen(fits, newdata.index[(group < 0).any(axis=0)])
        values = f.estimates.beta @ X.T + offset
        if ranef:
            b = f.effects.b[np.arange(len(at))[:, None], group]
            values = values + np.where(group < 0, 0.0, (z * b[..., counted]).sum(axis=-1))
        variance = value_variance(f.henderson, X, np.where(counted, Z, 0.0), group)
        more = np.broadcast_to(f.estimates.sigma[:, None] ** 2, values.shape)
        if not ranef:
            more = more + ((Z @ f.estimates.cov) * Z).sum(axis=-1)
        values, variance = (np.where(about[at], np.nan, x) for x in (values, variance))
        found = values, variance, variance + added * more
        return np.full(len(at), m), *(part.ravel() for part in found)

    lane_bytes = 8 * (m * (2 * q * q + 2 * q * p + 4 * (p + q)) + _lane_numbers(fits))
    lengths, *arrays = fits.over_runs(one, lane_bytes)
    return Ragged(lengths, np.tile(np.arange(m), len(fits)), tuple(arrays))


def _unseen(fits: FitRecord, rows: pd.Index) -> NewLevelError:
    seen = "that was not in the data" if len(fits) == 1 else "that not all fits have seen"
    return NewLevelError(
        f"row(s) {listed(rows.unique())} of newdata have a level of {fits.model.group_name!r} "
        f'{seen}; pass new_levels="population" for the population value, or ranef=False'
    )
