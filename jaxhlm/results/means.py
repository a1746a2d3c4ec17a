"""Marginal means and trends of all fits at once, and their contrasts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import affordable
from jaxhlm.core.notation import Floats, Ints
from jaxhlm.design.design import Design
from jaxhlm.design.new_rows import determined_rows
from jaxhlm.inference.contrast_families import (
    contrast_family,
    contrast_products,
    contrasts_of,
)
from jaxhlm.inference.contrast_tests import DfMethod
from jaxhlm.inference.family_adjustment import FamilyAdjustment, adjusted_p, critical_values
from jaxhlm.inference.multiplicity import holm
from jaxhlm.inference.refgrid import (
    averaged,
    cell_labels,
    check_distinct,
    check_variables,
    factors_of,
    marginal_means,
    tukey,
)
from jaxhlm.results import coefficients
from jaxhlm.results.means_wanted import Means
from jaxhlm.results.record import FitRecord

__all__ = ["grids_of", "means_table"]

Named: TypeAlias = list[dict[str, Any]]

MEAN_COLUMNS = ("emmean", "std_error", "df", "conf_low", "conf_high")
TEST_COLUMNS = ("estimate", "std_error", "df", "statistic", "p_value")
LIMITS = ("conf_low", "conf_high")


class _Cells(NamedTuple):
    """Cells of means on b grids, the combinations of ``by`` one after the other."""

    frame: pd.DataFrame  # (b · cells)
    L: Floats  # (b, cells, columns), over all columns of X
    which: Ints  # (B,) grid of each fit
    groups: int  # combinations of by


class _Rows(NamedTuple):
    """Rows of a table on b grids: means, or contrasts of them."""

    named: pd.DataFrame  # (b · rows) what they are called
    labels: list[str]
    L: Floats  # (b, rows, columns)
    means: int  # cells in every group
    means_in: Floats  # (rows,) sums of the coefficients of means: 1, or 0 of a difference


def means_table(fits: FitRecord, wanted: Means) -> pd.DataFrame:
    """One row per fit and cell, or contrast of cells."""
    design = fits.rows.design
    told = bool(design.dropped_columns or fits.estimates.absent.any())
    check_distinct([*wanted.specs, *wanted.by, *["estimable"] * told])
    parts = fits.singly() if design.learned_apart and len(fits) > 1 else [fits]
    return pd.concat([_of_one_grid(part, wanted, told) for part in parts], ignore_index=True)


def _of_one_grid(fits: FitRecord, wanted: Means, told: bool) -> pd.DataFrame:
    """``means_table`` of fits whose terms learned the same, and of each row if it is estimable."""
    adjustment, design = wanted.adjustment, fits.rows.design.of_lane(fits.first_lane)
    asked = {"specs": wanted.specs, "by": wanted.by, "at": [*wanted.at]}
    asked |= {} if wanted.trend is None else {"var": [wanted.trend]}
    for argument, variables in asked.items():
        check_variables(design, argument, variables)
    cells = _cells(fits, design, wanted)
    rows = _contrasted(wanted, cells) if wanted.differs else _as_they_are(wanted, cells)
    L = determined_rows(design, rows.L, rows.labels, wanted.what, wanted.not_estimable)
    own = L[0] if len(L) == 1 else L[cells.which]
    about, count = fits.about_absent(own), L.shape[1]
    fits.tell_not_estimable(about, rows.labels[:count], wanted.what, wanted.not_estimable)
    own = coefficients.without(own, about)
    added = 0.0 if design.offset is None or wanted.trend else fits.offset_means * rows.means_in
    columns = coefficients.columns_of(fits, own, wanted.df, wanted.conf_level, -added)
    columns |= {name: columns[name] + added for name in ("estimate", *LIMITS)}
    if wanted.pairwise:
        columns |= _side_by_side(columns, cells.groups, rows.means)
        names = [*TEST_COLUMNS, "p_holm", "p_tukey", *LIMITS]
    else:
        columns |= _adjusted(fits, wanted, adjustment, own, columns, cells.groups, rows.means)
        names = [*TEST_COLUMNS, "p_adjusted", *LIMITS] if wanted.differs else [*MEAN_COLUMNS]
    at_row = (cells.which[:, None] * count + np.arange(count)).ravel()
    named = rows.named.iloc[at_row].reset_index(drop=True)
    columns["emmean"] = columns["estimate"]
    found = pd.DataFrame({name: columns[name].ravel() for name in names}, named.index)
    frame = pd.concat([named, found], axis=1)
    frame = frame.rename(columns={"emmean": "trend"} if wanted.trend else {})
    check_distinct([*frame])
    if not told:
        return frame
    estimable = np.isfinite(L).all(axis=2).ravel()[at_row]
    estimable &= np.repeat(fits.estimates.known, count)
    return frame.assign(estimable=estimable & ~about.ravel())


def _cells(fits: FitRecord, design: Design, wanted: Means) -> _Cells:
    """The cells on every grid that fits differ in: their means of numbers, and their weights."""
    numbers = averaged(design, wanted.at)
    factors = factors_of(design) if wanted.weights != "equal" else {}
    grids, which = grids_of(fits, numbers, factors)
    means, weights = np.split(grids, [len(numbers)], axis=1)
    sizes = [size for _, size in factors.values()]
    frame, L = marginal_means(
        design,
        [*wanted.specs, *wanted.by],
        wanted.at,
        dict(zip(numbers, means.T, strict=True)),
        wanted.weights,
        weights.reshape(-1, *sizes) if factors else None,
        wanted.trend,
    )
    each = len(frame.iloc[: L.shape[1]][list(wanted.by)].drop_duplicates()) if wanted.by else 1
    return _Cells(frame, L, which, each)


def grids_of(
    fits: FitRecord, numbers: Sequence[str], factors: Mapping[str, tuple[Ints, int]]
) -> tuple[Floats, Ints]:
    """What of the rows makes grids differ, and which of these each fit has, (B,).

    Means of numbers, then the number of rows in every combination of the factors. Most often
    all fits share their rows, and one grid serves them.
    """
    if not numbers and not factors:
        return np.zeros((1, 0)), np.zeros(len(fits), int)
    codes, sizes = zip(*factors.values(), strict=True) if factors else ((), ())
    if factors:
        affordable("weights", math.prod(sizes), 8.0 * len(fits))

    def one(at: Ints) -> tuple[Floats]:
        lanes = fits.lanes(at)
        parts = [lanes.means(numbers)] if numbers else []
        parts += [lanes.frequencies(codes, sizes)] if factors else []
        found = np.concatenate(parts, axis=1)
        return (np.broadcast_to(found, (len(at), found.shape[1])),)

    grids, which = np.unique(fits.over_chunks(one)[0], axis=0, return_inverse=True)
    return grids, which.ravel()


def _as_they_are(wanted: Means, cells: _Cells) -> _Rows:
    n = cells.L.shape[1]
    return _Rows(cells.frame, cell_labels(cells.frame), cells.L, n // cells.groups, np.ones(n))


def _contrasted(wanted: Means, cells: _Cells) -> _Rows:
    """Contrasts of the cells within every combination of ``by``."""
    b, n = cells.L.shape[:2]
    k = n // cells.groups
    specs = cells.frame[list(wanted.specs)]
    named, C = (_products if wanted.interaction is not None else _families)(wanted, specs, n, k)
    L = contrasts_of(C, cells.L.reshape(b, cells.groups, k, -1))
    frame = pd.DataFrame(
        {name: np.concatenate([np.tile(one[name], cells.groups) for one in named])
         for name in named[0]}
    )  # fmt: skip
    labels = cell_labels(frame)
    if wanted.by:
        first = cells.frame[list(wanted.by)].iloc[::k].reset_index(drop=True)
        within = first.iloc[np.repeat(np.arange(len(first)), len(C))].reset_index(drop=True)
        frame = pd.concat([within, frame], axis=1)
    means_in = np.tile(C.sum(axis=1), cells.groups)
    return _Rows(frame, labels, L.reshape(b, cells.groups * len(C), -1), k, means_in)


def _families(wanted: Means, specs: pd.DataFrame, n: int, k: int) -> tuple[Named, Floats]:
    """Names in every grid, and coefficients (r, k), of one family of all cells."""
    given = "pairwise" if wanted.pairwise else wanted.contrasts
    assert given is not None
    known: dict[tuple[str, ...], tuple[list[str], Floats]] = {}
    out = []
    for first in range(0, len(specs), n):
        labels = tuple(cell_labels(specs.iloc[first : first + k]))
        if labels not in known:
            known[labels] = contrast_family(given, labels)
        out.append({"contrast": np.array(known[labels][0], dtype=object)})
    return out, next(iter(known.values()))[1]


def _products(wanted: Means, specs: pd.DataFrame, n: int, k: int) -> tuple[Named, Floats]:
    """Names in every grid, and coefficients, of the products of families of single variables."""
    assert wanted.interaction is not None
    out: Named = []
    C: Any = None
    for first in range(0, len(specs), n):
        found = []
        for name in wanted.specs:
            family = wanted.interaction[name]
            levels = list(dict.fromkeys(map(str, specs[name].iloc[first : first + k])))
            column = f"{name}_{family}" if isinstance(family, str) else f"{name}_custom"
            found.append((column, *contrast_family(family, levels, "interaction")))
        C = contrast_products([own for _, _, own in found])
        places = np.unravel_index(np.arange(len(C)), [len(own) for _, _, own in found], order="F")
        out.append(
            {
                column: np.array(names, dtype=object)[at]
                for (column, names, _), at in zip(found, places, strict=True)
            }
        )
    return out, C


def _side_by_side(columns: Mapping[str, Floats], groups: int, means: int) -> dict[str, Floats]:
    """p values by Holm and by Tukey within every group."""
    p, t, df = (_split(columns[name], groups) for name in ("p_value", "statistic", "df"))
    found = {"p_holm": holm(p), "p_tukey": tukey(t, means, df)}
    return {name: values.reshape(columns["df"].shape) for name, values in found.items()}


def _adjusted(
    fits: FitRecord,
    wanted: Means,
    adjustment: FamilyAdjustment,
    L: Floats,
    columns: Mapping[str, Floats],
    groups: int,
    means: int,
) -> dict[str, Floats]:
    """Adjusted p values and limits."""
    shape, se = columns["df"].shape, columns["std_error"]
    t, df = (_split(columns[name], groups) for name in ("statistic", "df"))
    corr = _correlations(fits, wanted.df, L, groups) if adjustment == "mvt" else None
    with np.errstate(invalid="ignore", divide="ignore"):
        p = adjusted_p(adjustment, t, df, corr, means)
        c = critical_values(adjustment, wanted.conf_level, df, corr, means).reshape(shape)
        low, high = columns["estimate"] - c * se, columns["estimate"] + c * se
    return {"p_adjusted": p.reshape(shape), "conf_low": low, "conf_high": high}


def _split(values: Floats, groups: int) -> Floats:
    """(B, rows) as (B, groups, rows of one)."""
    return values.reshape(len(values), groups, -1)


@np.errstate(all="ignore")
def _correlations(fits: FitRecord, df: DfMethod, L: Floats, groups: int) -> Floats:
    """(B, groups, r, r) correlations of contrasts (rows, p) or (B, rows, p)."""
    if df == "kenward-roger":
        V = np.where(fits.estimates.absent[:, None], 0.0, coefficients.adjusted_vcov(fits))
        V = np.where(fits.estimates.absent[:, :, None], 0.0, V)
    else:
        V = fits.filled.vcov
    own = np.broadcast_to(L, (len(fits), *L.shape[-2:]))
    own = own.reshape(len(fits), groups, -1, L.shape[-1])
    cov = own @ V[:, None] @ own.swapaxes(-1, -2)
    sd = np.sqrt(np.diagonal(cov, axis1=-2, axis2=-1))
    return np.asarray(cov / (sd[..., :, None] * sd[..., None, :]), dtype=float)
