"""``measures``: how well methods did in a simulation study, with Monte-Carlo standard errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, cast, get_args

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import fraction, listed_values
from jaxhlm.core.notation import Bools, Floats, Ints, check_option
from jaxhlm.core.status import Status
from jaxhlm.core.tables import Shown, Table, as_frame
from jaxhlm.errors import MissingColumnError, NoRowsError, NotNumericError, OptionError
from jaxhlm.inference.criteria import check_level
from jaxhlm.inference.tails import normal_quantile, t_quantile
from jaxhlm.studies.measure_estimators import (
    EstimateWithMcse,
    ReplicateGroups,
    coverage,
    empirical_se,
    mean_of,
    model_se,
    rate,
    relative_error,
    relative_precision,
    root_mean_square,
)

__all__ = ["COUNTS", "MEASURES", "OK", "TO_READ", "Measure", "check_columns", "measures"]

Measure = Literal[
    "bias",
    "relative_bias",
    "empirical_se",
    "model_se",
    "relative_error",
    "mse",
    "rmse",
    "coverage",
    "be_coverage",
    "width",
    "power",
    "power_all",
    "type_i",
    "type_s",
    "type_m",
    "relative_precision",
]
MEASURES: tuple[Measure, ...] = get_args(Measure)
# Columns that stand before them.
COUNTS = (
    "n", "n_ok", "n_failed", "n_singular", "n_not_converged", "n_interval", "n_test", "mean"
)  # fmt: skip

TO_READ = "To be read: print(hlm.MeasuresTable(table)), a choice of them with their errors"
# Names of the statuses of fits that count.
OK = tuple(s.name.lower() for s in Status if s.ok)
SINGULAR = Status.SINGULAR.name.lower()
NOT_CONVERGED = Status.ITERATION_LIMIT.name.lower()
# What differs in kind within a data set: an average over it is hardly ever meant.
NEVER_MIXED = ("method", "term")


def measures(
    estimates: Table,
    by: str | Sequence[str] = ("condition", "method", "term"),
    alpha: float = 0.05,
    level: float = 0.95,
    *,
    which: Sequence[Measure] | None = None,
    reference: str | None = None,
) -> pd.DataFrame:
    """Performance measures of every group of replicates, each with its Monte-Carlo standard error.

    With n replicates of a group, estimates θ̂, truth θ, errors d = θ̂ − θ and standard errors se
    (Morris, White & Crowther 2019, Statistics in Medicine 38, 2074-2102, tables 5 and 6):

    ====================  ==============================  ==========================================
    measure               estimate                        Monte-Carlo standard error (MCSE)
    ====================  ==============================  ==========================================
    bias                  mean(d)                         sd(d)/√n
    relative_bias         mean(d/θ), θ ≠ 0                sd(d/θ)/√n
    empirical_se          sd(d)                           EmpSE/√(2(n − 1))
    model_se              √mean(se²)                      √(Var(se²)/(4n ModSE²))
    relative_error (%)    100 (ModSE/EmpSE − 1)           100 (ModSE/EmpSE) √(Var(se²)/(4n ModSE⁴)
                                                          + 1/(2(n − 1)))
    mse                   mean(d²)                        √(Σ(d² − MSE)²/(n(n − 1)))
    rmse                  √MSE                            jackknife
    coverage              mean(low ≤ θ ≤ high)            √(c(1 − c)/n)
    be_coverage           mean(low ≤ θ + bias ≤ high)     √(c(1 − c)/n)
    width                 mean(high − low)                sd(high − low)/√n
    power                 mean(p < α)                     √(r(1 − r)/n)
    power_all             the same, failures in n         √(r(1 − r)/n)
    type_i                power where θ = 0               √(r(1 − r)/n)
    type_s                mean(sign θ̂ ≠ sign θ | p < α)   √(s(1 − s)/#(p < α))
    type_m                mean(abs(θ̂/θ) | p < α)          sd/√#(p < α)
    relative_precision    100 ((EmpSE_ref/EmpSE)² − 1)    200 (EmpSE_ref/EmpSE)² √((1 − ρ²)/(n − 1))
    ====================  ==============================  ==========================================

    ``type_s`` and ``type_m`` (θ ≠ 0) are from Gelman & Carlin (2014), Perspectives on Psychological
    Science 9, 641-651. A truth may differ between the replicates of a group.

    Failed fits never leave a denominator silently: ``n`` counts all replicates, and ``power_all``
    counts a fit that failed, or has no p value, as one that does not reject. All else is of the
    ``n_ok`` fits that ended at an optimum; coverage of the ``n_interval`` of these with limits,
    power of the ``n_test`` with a p value.

    Args:
        estimates: one row per condition, replicate, method and term with columns estimate, truth
            (NaN if unknown), status ("converged" and "singular" are at an optimum), and as the
            measures need them std_error, conf_low, conf_high and p_value. Where there are no
            conf_low and conf_high, limits are estimate ± t se with the column df (normal without
            it).
        by: columns whose values define the groups, in order of appearance.
        alpha: a test rejects when p < alpha.
        level: of limits that are made here; limits in the frame are taken as they are.
        which: the measures; by default all, ``relative_precision`` only with a reference.
        reference: the method that the others' precision is compared with, pairing by replicate.

    Returns:
        One row per group: the columns of ``by``; n, n_ok, n_failed (= n − n_ok), n_singular (in
        n_ok), n_not_converged (in n_failed), n_interval, n_test; truth and mean, the averages over
        the n_ok; and per measure its estimate and ``<measure>_mcse``. NaN where a measure is not
        defined.

    Raises:
        MissingColumnError: a column of ``by``, or one that a measure needs, is not in the frame.
        NotNumericError: a column of numbers holds something else.
        NoRowsError: the frame is empty.
        OptionError: an unknown measure or reference, alpha or level outside (0, 1), groups that mix
            methods or terms, or a column of ``by`` that bears the name of a result.

    Example:
        >>> import numpy as np, pandas as pd, jaxhlm as hlm
        >>> estimate = 3 + 0.1 * np.random.default_rng(1).normal(size=1000)
        >>> frame = pd.DataFrame({"replicate": range(1000), "method": "REML", "term": "x",
        ...     "truth": 3.0, "estimate": estimate, "std_error": 0.1, "status": "converged"})
        >>> measured = hlm.measures(frame, by=("method", "term"), which=["bias", "coverage"])
        >>> measured[["term", "n_ok", "bias", "bias_mcse", "coverage", "coverage_mcse"]].round(4)
          term  n_ok    bias  bias_mcse  coverage  coverage_mcse
        0    x  1000 -0.0054     0.0031      0.95         0.0069
    """
    by = (by,) if isinstance(by, str) else tuple(listed_values("by", by))
    estimates = as_frame("estimates", estimates)
    check_level(level)
    fraction("alpha", alpha, 0.05)
    chosen = _choose(which, reference)
    check_columns("estimates", estimates, [*by, "estimate", "truth", "status"])
    if not len(estimates):
        raise NoRowsError("estimates has no rows")
    code, keys = _group_codes(estimates, by)
    _check_not_mixed(estimates, by, code)
    sample = _Sample(estimates, ReplicateGroups(code, len(keys)), level, alpha, by, reference)
    columns = sample.counts()
    for name in chosen:
        columns[name], columns[f"{name}_mcse"] = _FORMULAS[name](sample)
    if clash := [name for name in by if name in columns]:
        raise OptionError(
            f"by={clash[0]!r} is also a column of the result; rename it in estimates first"
        )
    return Shown(pd.concat([keys, pd.DataFrame(columns)], axis=1), [TO_READ])


def _choose(which: Sequence[Measure] | None, reference: str | None) -> Sequence[Measure]:
    if which is None:
        return MEASURES if reference is not None else MEASURES[:-1]
    chosen = [which] if isinstance(which, str) else listed_values("which", which)
    for name in chosen:
        check_option("measure", name, Measure)
    if "relative_precision" in chosen and reference is None:
        raise OptionError("relative_precision needs reference=, the method to compare with")
    return cast(list[Measure], chosen)


def check_columns(name: str, frame: pd.DataFrame, needed: Sequence[str], hint: str = "") -> None:
    """Raise ``OptionError`` unless it is a frame, ``MissingColumnError`` unless it has these."""
    if not isinstance(frame, pd.DataFrame):
        raise OptionError(
            f"{name} is no DataFrame but a {type(frame).__name__}: give a table of it, such as "
            "study.estimates, study.measures() or fits.test()"
        )
    missing = [column for column in needed if column not in frame.columns]
    if missing:
        raise MissingColumnError(
            f"{name} has no column {', '.join(map(repr, missing))}; it has "
            + ", ".join(map(str, frame.columns))
            + hint
        )


def _group_codes(frame: pd.DataFrame, by: Sequence[str]) -> tuple[Ints, pd.DataFrame]:
    """Group of every row, in order of appearance, and the (K, …) keys."""
    if not by:
        return np.zeros(len(frame), np.int64), pd.DataFrame(index=pd.RangeIndex(1))
    grouped = frame.groupby(list(by), sort=False, observed=True, dropna=False)
    code = grouped.ngroup().to_numpy()
    _, first = np.unique(code, return_index=True)
    return code, frame[list(by)].iloc[first].reset_index(drop=True)


def _check_not_mixed(frame: pd.DataFrame, by: Sequence[str], code: Ints) -> None:
    for name in NEVER_MIXED:
        if name in frame.columns and name not in by:
            kinds = frame[name].groupby(code).nunique(dropna=False)
            if (kinds > 1).any():
                raise OptionError(
                    f"groups by {', '.join(by) or 'nothing'} mix several values of {name!r}; "
                    f"add it to by=, or select one {name} first"
                )


def _at_optimum(name: str) -> cached_property[Floats]:
    """(rows at an optimum,) numbers of a column, read once."""
    return cached_property(lambda sample: sample.column(name))


@dataclass(frozen=True, eq=False)
class _Sample:
    """An estimates frame as arrays over the rows at an optimum, read as the measures need them."""

    frame: pd.DataFrame
    all: ReplicateGroups
    level: float
    alpha: float
    by: tuple[str, ...]
    reference: str | None

    estimate, truth = _at_optimum("estimate"), _at_optimum("truth")
    se, p_value = _at_optimum("std_error"), _at_optimum("p_value")

    @cached_property
    def ok(self) -> Bools:
        """(all rows,) at an optimum."""
        status = self.frame["status"]
        if pd.api.types.is_numeric_dtype(status):
            raise OptionError('status holds numbers; give names such as "converged"')
        return status.isin(OK).to_numpy() & ~np.isnan(self._numbers("estimate"))

    @cached_property
    def groups(self) -> ReplicateGroups:
        return self.all.keep(self.ok)

    @cached_property
    def center(self) -> Floats:
        """The truth, or 0 throughout a group where one is unknown: variances do not need it."""
        known = ~np.isnan(self.groups.sum(self.truth))
        return np.where(known[self.groups.code], self.truth, 0.0)

    @cached_property
    def deviation(self) -> Floats:
        """Estimate less ``center``."""
        return self.estimate - self.center

    @cached_property
    def error(self) -> Floats:
        """Estimate less truth."""
        return self.estimate - self.truth

    @cached_property
    def limits(self) -> tuple[Floats, Floats]:
        if {"conf_low", "conf_high"} <= {*self.frame.columns}:
            return self.column("conf_low"), self.column("conf_high")
        upper = 0.5 + self.level / 2.0
        quantile: Floats | float = normal_quantile(upper)
        if "df" in self.frame.columns:
            df = self.column("df")
            quantile = np.where(np.isnan(df), quantile, t_quantile(upper, df))
        return self.estimate - quantile * self.se, self.estimate + quantile * self.se

    @cached_property
    def has_limits(self) -> Bools:
        return ~np.isnan(self.limits[0] + self.limits[1])

    @cached_property
    def rejects(self) -> Bools:
        return self.p_value < self.alpha

    @cached_property
    def effect(self) -> Floats:
        """The truth, NaN where there is no effect."""
        return np.where(self.truth == 0.0, np.nan, self.truth)

    @cached_property
    def significant(self) -> Bools:
        """Rejected where there is an effect."""
        return self.rejects & ~np.isnan(self.effect)

    def counts(self) -> dict[str, Ints | Floats]:
        """What became of the replicates."""
        n, ok = self.all.n.astype(np.int64), self.groups.n.astype(np.int64)
        status, have = self.frame["status"], {*self.frame.columns}
        columns: dict[str, Ints | Floats] = {"n": n, "n_ok": ok, "n_failed": n - ok}
        for name, value in (("n_singular", SINGULAR), ("n_not_converged", NOT_CONVERGED)):
            columns[name] = self.all.sum((status == value).to_numpy(dtype=bool)).astype(np.int64)
        if {"conf_low", "conf_high"} <= have or "std_error" in have:
            columns["n_interval"] = self.groups.sum(self.has_limits).astype(np.int64)
        if "p_value" in have:
            columns["n_test"] = self.groups.sum(~np.isnan(self.p_value)).astype(np.int64)
        columns["truth"] = self.groups.mean(self.truth)
        columns["mean"] = self.groups.mean(self.estimate)
        return columns

    def column(self, name: str) -> Floats:
        """(rows at an optimum,) numbers of a column."""
        return self._numbers(name)[self.ok]

    def _numbers(self, name: str) -> Floats:
        hint = "; or name the measures that you want with which="
        check_columns("estimates", self.frame, [name], hint)
        try:
            return self.frame[name].to_numpy(dtype=float, na_value=np.nan)
        except (TypeError, ValueError) as error:
            raise NotNumericError(f"column {name!r} of estimates must hold numbers") from error

    def among(
        self, rows: Bools, measure: Callable[..., EstimateWithMcse], *values: Floats | Bools
    ) -> EstimateWithMcse:
        """A measure of some rows only."""
        if rows.all():
            return measure(self.groups, *values)
        return measure(self.groups.keep(rows), *(v[rows] for v in values))


def _be_coverage(s: _Sample) -> EstimateWithMcse:
    center = s.center + s.groups.mean(s.deviation)[s.groups.code]
    return s.among(s.has_limits, coverage, center, *s.limits)


def _relative_precision(s: _Sample) -> EstimateWithMcse:
    """Estimates of the reference method are looked up by the other columns and the replicate."""
    check_columns("estimates", s.frame, ["method", "replicate"])
    if "method" not in s.by:
        raise OptionError('relative_precision compares methods: add "method" to by=')
    pair_by = [name for name in s.by if name != "method"]
    extra = ["replicate"] + (["condition"] if "condition" in s.frame.columns else [])
    pair_by += [name for name in extra if name not in pair_by]
    pair, pairs = _group_codes(s.frame, pair_by)
    pair = pair[s.ok]
    is_reference = (s.frame["method"] == s.reference).to_numpy(dtype=bool)
    if not is_reference.any():
        raise OptionError(
            f"reference={s.reference!r} is not a method of estimates; they are "
            + ", ".join(map(repr, s.frame["method"].unique()))
        )
    mine = is_reference[s.ok]
    if len(np.unique(pair[mine])) < mine.sum():
        raise OptionError(f"estimates of {s.reference!r} do not tell the replicates apart")
    partner = np.full(len(pairs), np.nan)
    partner[pair[mine]] = s.deviation[mine]
    other = partner[pair]
    return s.among(~np.isnan(other), relative_precision, s.deviation, other)


_FORMULAS: dict[Measure, Callable[[_Sample], EstimateWithMcse]] = {
    "bias": lambda s: mean_of(s.groups, s.error),
    "relative_bias": lambda s: mean_of(s.groups, s.error / s.effect),
    "empirical_se": lambda s: empirical_se(s.groups, s.deviation),
    "model_se": lambda s: s.among(~np.isnan(s.se), model_se, s.se),
    "relative_error": lambda s: s.among(~np.isnan(s.se), relative_error, s.deviation, s.se),
    "mse": lambda s: mean_of(s.groups, s.error * s.error),
    "rmse": lambda s: root_mean_square(s.groups, s.error),
    "coverage": lambda s: s.among(s.has_limits, coverage, s.truth, *s.limits),
    "be_coverage": _be_coverage,
    "width": lambda s: s.among(s.has_limits, mean_of, s.limits[1] - s.limits[0]),
    "power": lambda s: s.among(~np.isnan(s.p_value), rate, s.rejects),
    "power_all": lambda s: rate(s.groups, s.rejects, s.all.n),
    "type_i": lambda s: s.among(~np.isnan(s.p_value) & (s.truth == 0.0), rate, s.rejects),
    "type_s": lambda s: s.among(s.significant, rate, np.sign(s.estimate) != np.sign(s.effect)),
    "type_m": lambda s: s.among(s.significant, mean_of, np.abs(s.estimate) / np.abs(s.effect)),
    "relative_precision": _relative_precision,
}
