"""``Method``: what is done with every data set of a study; several see the same data sets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import check_flag
from jaxhlm.core.devices import Devices
from jaxhlm.core.notation import Floats, Ints, check_option
from jaxhlm.core.status import Status, converged, status_names
from jaxhlm.errors import OptionError
from jaxhlm.inference.contrast_tests import DfMethod
from jaxhlm.inference.criteria import standard_errors
from jaxhlm.inference.parameters import parameter_names, parameter_values
from jaxhlm.inference.robust import RobustKind
from jaxhlm.inference.tails import t_tail
from jaxhlm.language.words import quoted
from jaxhlm.results.batch import FitBatch
from jaxhlm.results.coefficients import fixed_tests
from jaxhlm.results.quality import robust
from jaxhlm.results.term_tests import term_names
from jaxhlm.results.tidy import inference_table
from jaxhlm.studies.drawn import Drawn
from jaxhlm.studies.least_squares import pooled_ols, two_stage

__all__ = [
    "COLUMNS",
    "Estimator",
    "Method",
    "check_methods",
    "method_estimates",
    "pooled_fits",
]

Estimator = Literal["lmm", "ols", "two_stage"]
# The degrees of freedom that each estimator has, its own first.
DF_OF: dict[str, tuple[DfMethod, ...]] = {
    "lmm": ("satterthwaite", "kenward-roger", "residual", "normal"),
    "ols": ("residual", "normal"),
    "two_stage": ("residual", "normal"),
    "robust": ("satterthwaite", "residual", "normal"),
}
COLUMNS = (
    "replicate", "method", "term", "truth", "estimate", "std_error", "df", "p_value",
    "conf_low", "conf_high", "status",
)  # fmt: skip


@dataclass(frozen=True)
class Method:
    """One way to estimate and test the fixed effects.

    Attributes:
        name: what it is called in tables.
        formula: lme4 formula to fit; None for the one that generates the data. For "ols" the
            random part may be left out: the units that robust errors go by are the generating ones.
        reml: restricted maximum likelihood; False for maximum likelihood.
        estimator: "lmm", the mixed model; "ols", least squares on all rows pooled; "two_stage",
            least squares in every unit, then over the units (``jaxhlm.studies.least_squares``).
        df: degrees of freedom of tests and intervals. For "lmm" those of ``Fit.df``, by default
            Satterthwaite's; for "ols" "residual" (n − p), for "two_stage" "residual" (units −
            coefficients of the second stage), or "normal" for either.
        robust: cluster-robust standard errors, "CR0", "CR1" or "CR2", of "lmm" or "ols"; with
            Satterthwaite's df for them (Bell & McCaffrey) unless ``df`` says otherwise.
        variances: also the standard deviations and correlations of the random effects and σ of
            "lmm", as terms such as "sd__x", "cor__(Intercept).x" and "sigma" that have an estimate
            and no test. A correlation beside a zero variance is NaN.

    Raises:
        OptionError: an unknown value, or a combination that has no meaning.
        NeedsRemlError: Kenward-Roger with maximum likelihood.

    Example:
        >>> Method("z test", df="normal").needs_rows(), Method("two lines", robust="CR2").df_method
        (False, 'satterthwaite')
    """

    name: str
    formula: str | None = None
    reml: bool = True
    estimator: Estimator = "lmm"
    df: DfMethod | None = None
    robust: RobustKind | None = None
    variances: bool = False

    def __post_init__(self) -> None:
        """Check that such a method exists."""
        if not isinstance(self.name, str) or not self.name:
            raise OptionError(f"name={self.name!r}: a method needs a name")
        if self.formula is not None and not isinstance(self.formula, str):
            raise OptionError(f"formula={self.formula!r} must be a text, or None")
        check_option("estimator", self.estimator, Estimator)
        for option in ("reml", "variances"):
            check_flag(option, getattr(self, option))
        if self.variances and self.estimator != "lmm":
            raise OptionError(f"variances=True is for estimator='lmm', not {self.estimator!r}")
        if self.robust is not None:
            check_option("robust", self.robust, RobustKind)
            if self.estimator == "two_stage":
                raise OptionError("robust standard errors are for estimator='lmm' or 'ols'")
        if self.df is not None:
            check_option("df", self.df, DfMethod)
        if self.df not in (None, *self._df_choices):
            kind = "robust standard errors" if self.robust else f"estimator={self.estimator!r}"
            raise OptionError(
                f"df={self.df!r} is not defined for {kind}; use one of "
                + ", ".join(map(repr, self._df_choices))
            )
        if self.df == "kenward-roger" and not self.reml:
            raise OptionError(f"method {self.name!r}: Kenward-Roger needs reml=True")

    @property
    def df_method(self) -> DfMethod:
        """The df in use: ``df``, or the estimator's own."""
        return self.df or self._df_choices[0]

    def needs_rows(self) -> bool:
        """Whether sufficient statistics of the generating model are not enough."""
        return bool(self.formula or self.robust or self.estimator == "two_stage")

    @property
    def _df_choices(self) -> tuple[DfMethod, ...]:
        return DF_OF["robust" if self.robust else self.estimator]


class _Found(NamedTuple):
    """What a method finds in B data sets, (B, p) and, of ``status``, (B,)."""

    terms: tuple[str, ...]
    estimate: Floats
    se: Floats
    df: Floats
    status: Ints


def check_methods(methods: Sequence[Method] | None) -> tuple[Method, ...]:
    """The methods, REML with Satterthwaite's df if there are none.

    Raises:
        OptionError: something else is among them, or two have one name.
    """
    methods = (Method("REML"),) if methods is None else methods
    methods = tuple(methods) if isinstance(methods, Iterable) else ()
    if not methods or not all(isinstance(m, Method) for m in methods):
        raise OptionError("methods must be a list of jaxhlm.Method, at least one")
    names = [m.name for m in methods]
    if len(set(names)) < len(names):
        raise OptionError(f"two methods are named alike among {', '.join(map(repr, names))}")
    return methods


def method_estimates(
    methods: Sequence[Method], drawn: Drawn, level: float = 0.95, devices: Devices = None
) -> pd.DataFrame:
    """What every method makes of the same data sets.

    Args:
        methods: what to do.
        drawn: data sets of a ``Mechanism``, with rows if a method needs them.
        level: of the intervals.
        devices: as for ``Drawn.fit``.

    Returns:
        One row per data set, method and fixed effect: replicate, method, term, truth, estimate,
        std_error, df, p_value (of the term being zero), conf_low, conf_high, status. Where a fit
        failed the numbers are NaN.
    """
    fits_of, frames = cache(partial(drawn.fit, devices=devices)), []
    truths = pd.DataFrame(drawn.truths, drawn.index, list(drawn.mechanism.terms), dtype=float)
    for method in methods:
        if method.estimator == "ols" and method.formula and "|" not in method.formula:
            columns = drawn.mechanism.parsed.group
            group = ":".join(map(quoted, columns))
            method = replace(method, formula=f"{method.formula} + (1 | {group})")
        fits = fits_of(method.formula, method.reml)
        frames.append(_frame(method.name, _apply(method, fits), truths, level))
        if method.variances:
            found = _variances(fits)
            frames.append(_frame(method.name, found, drawn.true_variances, level, tested=False))
    return pd.concat(frames, ignore_index=True)


def _apply(method: Method, fits: FitBatch) -> _Found:
    if method.estimator == "two_stage":
        return _two_stage(method, fits)
    if method.estimator == "ols":
        fits = pooled_fits(fits)
    record = fits.record
    if method.robust is None:
        se, df, _ = fixed_tests(record, method.df_method)
    else:
        found = robust(record, method.robust)
        se, df = standard_errors(found.vcov), found.df
        if method.df_method != "satterthwaite":
            df = fixed_tests(record, method.df_method)[1]
    return _Found(record.model.xnames, record.estimates.beta, se, df, _status(fits))


def _status(fits: FitBatch) -> Ints:
    """A data set that lacks a column of X says nothing about the method."""
    lacking = fits.ok & fits.estimates.absent.any(axis=1)
    return np.where(lacking, Status.RANK_DEFICIENT, fits.status)


def _variances(fits: FitBatch) -> _Found:
    p = len(fits.model.xnames)
    values = parameter_values(fits.model, fits.estimates)[:, p:]
    none = np.full_like(values, np.nan)
    return _Found(parameter_names(fits.model)[p:], values, none, none, _status(fits))


def _two_stage(method: Method, fits: FitBatch) -> _Found:
    terms = term_names(fits.record)
    beta, se, df, status = fits.over_groups(lambda _, groups: two_stage(groups, fits.model, terms))
    if method.df_method == "normal":
        df = np.where(np.isnan(df), np.nan, np.inf)
    return _Found(fits.model.xnames, beta, se, df, status)


def pooled_fits(fits: FitBatch) -> FitBatch:
    """The same data sets by least squares on all rows: fits with no random effects."""
    beta, vcov, sigma, status = fits.over_lanes(lambda _, standardised: pooled_ols(standardised))
    e = fits.estimates
    failed = np.isnan(sigma)
    zero = np.where(failed[:, None], np.nan, np.zeros_like(e.theta))
    cov = np.where(failed[:, None, None], np.nan, np.zeros_like(e.cov))
    nothing = np.full(len(sigma), np.nan)
    estimates = replace(
        e, beta=beta, vcov=vcov, sigma=sigma, theta=zero, theta_standard=zero, cov=cov,
        status=status.astype(np.int64), criterion=nothing, gradient_norm=nothing,
        iterations=np.zeros_like(e.iterations),
    )  # fmt: skip
    return FitBatch(replace(fits.record, estimates=estimates, tests={}))


def _frame(
    name: str, found: _Found, truths: pd.DataFrame, level: float, tested: bool = True
) -> pd.DataFrame:
    """Rows of one method; the truth is NaN of a term that the generating model has not."""
    B, p = found.estimate.shape
    ended = converged(found.status)[:, None]
    known = ended & np.isfinite(found.estimate)
    if tested:
        known &= np.isfinite(found.se) & ~np.isnan(found.df)
    estimate, se, df = (np.where(known, x, np.nan) for x in (found.estimate, found.se, found.df))
    table = inference_table(estimate, se, df, 0.0, level)
    columns = {
        "replicate": np.repeat(truths.index, p),
        "method": name,
        "term": np.tile(np.array(found.terms, dtype=object), B),
        "truth": truths.reindex(columns=list(found.terms)).to_numpy().ravel(),
        **{c: table[c].ravel() for c in COLUMNS[4:7]},
        "p_value": t_tail(table["statistic"], df).ravel(),
        **{c: table[c].ravel() for c in COLUMNS[8:10]},
        "status": np.repeat(status_names(found.status), p),
    }
    return pd.DataFrame(columns)
