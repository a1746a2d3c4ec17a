"""Marginal means and trends of all fits at once, their contrasts, and joint tests of these."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import affordable, check_flag, check_mapping
from jaxhlm.core.notation import Floats, Ints, NotEstimable, check_option
from jaxhlm.design.design import Design
from jaxhlm.design.new_rows import determined_rows
from jaxhlm.errors import OptionError
from jaxhlm.inference.contrast_families import (
    DEFAULT_ADJUSTMENT,
    Contrasted,
    contrast_family,
    contrast_products,
    contrasts_of,
)
from jaxhlm.inference.contrast_tests import DfMethod
from jaxhlm.inference.criteria import check_level
from jaxhlm.inference.family_adjustment import FamilyAdjustment, adjusted_p, critical_values
from jaxhlm.inference.multiplicity import holm
from jaxhlm.inference.refgrid import (
    CellWeights,
    averaged,
    cell_labels,
    cell_variables,
    check_distinct,
    check_variables,
    factors_of,
    marginal_means,
    tukey,
)
from jaxhlm.results import coefficients
from jaxhlm.results.means_formula import OVERALL
from jaxhlm.results.record import FitRecord

__all__ = ["Families", "Means", "grids_of", "means_table", "means_wanted"]

Families: TypeAlias = str | Sequence[str] | Mapping[str, Contrasted]
Named: TypeAlias = list[dict[str, Any]]

# What adjusts limits by a rule of its own.
WITH_LIMITS = ("none", "bonferroni", "sidak", "mvt")
PAIRS = ("pairwise", "revpairwise")
MEAN_COLUMNS = ("emmean", "std_error", "df", "conf_low", "conf_high")
TEST_COLUMNS = ("estimate", "std_error", "df", "statistic", "p_value")
LIMITS = ("conf_low", "conf_high")


@dataclass(frozen=True)
class Means:
    """Which means, or contrasts of means, are asked for; arguments as of ``Fit.emmeans``.

    Attributes:
        specs: variables whose combinations are the cells.
        by: variables in whose combinations the cells are set apart.
        at: values of some variables.
        df: method.
        contrasts: family of contrasts of the cells within each combination of ``by``.
        interaction: families for each of ``specs``, whose products are the contrasts.
        adjust: for the number of tests within each combination of ``by``.
        weights: of the cells that are averaged over.
        conf_level: of the intervals.
        not_estimable: "nan" or "error".
        trend: a number whose slope is meant, in place of the mean.
        pairwise: all pairs, with p values by Holm and by Tukey side by side.
    """

    specs: Sequence[str]
    by: Sequence[str]
    at: Mapping[str, Any]
    df: DfMethod
    contrasts: Contrasted | None
    interaction: Mapping[str, Contrasted] | None
    adjust: FamilyAdjustment | None
    weights: CellWeights
    conf_level: float
    not_estimable: NotEstimable
    trend: str | None = None
    pairwise: bool = False

    @property
    def what(self) -> str:
        """What the rows are, for messages."""
        kind = "trends" if self.trend else "marginal means"
        return f"differences of {kind}" if self.differs else kind

    @property
    def differs(self) -> bool:
        """Whether rows are contrasts of means."""
        return self.pairwise or self.contrasts is not None or self.interaction is not None

    @property
    def adjustment(self) -> FamilyAdjustment:
        """How tests and limits are adjusted.

        Raises:
            OptionError: it does not go with these rows.
        """
        named = self.contrasts if isinstance(self.contrasts, str) else ""
        if self.adjust is None:
            return DEFAULT_ADJUSTMENT.get(named, "none")  # type: ignore[return-value]
        check_option("adjust", self.adjust, FamilyAdjustment)
        if self.pairwise:
            raise OptionError(
                f"adjust={self.adjust!r}: pairwise=True has p_holm and p_tukey side by side; give "
                'contrasts="pairwise" to have one adjustment, of limits too'
            )
        if self.adjust == "tukey" and named not in PAIRS:
            raise OptionError(
                'adjust="tukey" is for all pairs of means, contrasts="pairwise"; use "mvt" for '
                "other families"
            )
        if not self.differs and self.adjust not in WITH_LIMITS:
            raise OptionError(
                f"adjust={self.adjust!r} is for tests, and means have limits only: use one of "
                + ", ".join(map(repr, WITH_LIMITS))
            )
        return self.adjust


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


def means_wanted(
    specs: str | Sequence[str] | None,
    at: Mapping[str, Any] | None,
    df: DfMethod,
    *,
    by: str | Sequence[str] | None,
    contrasts: Contrasted | None,
    interaction: Families | None,
    adjust: FamilyAdjustment | None,
    weights: CellWeights,
    conf_level: float,
    not_estimable: NotEstimable,
    trend: str | None = None,
    pairwise: bool = False,
) -> Means:
    """What the arguments of ``Fit.emmeans`` and ``Fit.emtrends`` ask for.

    Raises:
        OptionError: they do not go together.
    """
    check_flag("pairwise", pairwise)
    check_option("weights", weights, CellWeights)
    check_level(conf_level, "conf_level")
    whole = specs is OVERALL or (specs is None and trend is not None)
    chosen = [] if whole else cell_variables(specs)
    within = [] if by is None else cell_variables(by, "by")
    both = [name for name in within if name in chosen]
    if both:
        raise OptionError(f"by={by!r}: {both[0]!r} is one of the cells already")
    given = {"pairwise": pairwise, "contrasts": contrasts is not None}
    given["interaction"] = interaction is not None
    if sum(given.values()) > 1:
        names = " and ".join(name for name, is_given in given.items() if is_given)
        raise OptionError(f"{names} say different things: give one of them")
    families = None if interaction is None else _by_variable(interaction, chosen)
    return Means(
        chosen, within, {} if at is None else check_mapping("at", at), df, contrasts, families,
        adjust, weights, conf_level, not_estimable, trend, pairwise,
    )  # fmt: skip


def _by_variable(given: Families, specs: Sequence[str]) -> dict[str, Contrasted]:
    """The family of each variable of the cells."""
    if not specs:
        raise OptionError("interaction= is of the variables of specs, and there are none")
    if isinstance(given, str):
        return dict.fromkeys(specs, given)
    if isinstance(given, Mapping):
        if sorted(map(str, given)) != sorted(specs):
            raise OptionError(
                f"interaction must have a family for each of {', '.join(map(repr, specs))}"
            )
        return {name: given[name] for name in specs}
    if not np.iterable(given) or len(given) != len(specs):
        raise OptionError(
            f"interaction={given!r} must be one family, or one for each of "
            + ", ".join(map(repr, specs))
        )
    return dict(zip(specs, given, strict=True))


def means_table(fits: FitRecord, wanted: Means) -> pd.DataFrame:
    """One row per fit and cell, or contrast of cells."""
    adjustment, design = wanted.adjustment, fits.rows.design
    if design.learned_apart and len(fits) > 1:
        return pd.concat([means_table(fit, wanted) for fit in fits.singly()], ignore_index=True)
    design = design.of_lane(fits.first_lane)
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
    if not (design.dropped_columns or fits.estimates.absent.any()):
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
