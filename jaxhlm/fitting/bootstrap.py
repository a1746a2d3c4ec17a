"""``bootstrap``: new data sets from one fit, fitted at once, and what they say about it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from os import PathLike
from typing import overload

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import affordable
from jaxhlm.core.devices import Devices
from jaxhlm.core.document import Block, Printed, framed
from jaxhlm.core.notation import (
    Bools,
    BootstrapInterval,
    BootstrapMethod,
    Floats,
    Leverage,
    Precision,
    WildWeights,
    check_option,
)
from jaxhlm.core.status import outcome
from jaxhlm.core.streams import Seed, random_key, seed_of
from jaxhlm.errors import FileError, JaxhlmError, OptionError
from jaxhlm.estimation.estimates import Estimates, estimate_bytes
from jaxhlm.estimation.executors import Workload, check_writers, workers_of
from jaxhlm.estimation.model import Model
from jaxhlm.fitting.bootstrap_functions import BatchFunction, function_summary
from jaxhlm.fitting.many import fit_source
from jaxhlm.fitting.storing import check_storing, store_source, stored_seed
from jaxhlm.inference.criteria import check_level, limit_names
from jaxhlm.inference.parameters import parameter_names, parameter_values
from jaxhlm.resampling.intervals import acceleration, bootstrap_interval
from jaxhlm.resampling.schemes import resampler
from jaxhlm.results.batch import FitBatch
from jaxhlm.results.fit import Fit
from jaxhlm.results.presenters import long_table
from jaxhlm.results.quality import left_out, one_group_terms
from jaxhlm.results.storage import check_saving, load, save
from jaxhlm.results.stored import StoredFits

__all__ = ["Bootstrap", "bootstrap"]


@dataclass(frozen=True, eq=False, repr=False)
class Bootstrap(Printed):
    """Bootstrap replicates of one fit; made by ``jaxhlm.bootstrap``.

    Attributes:
        fits: the replicates; a failed one has NaN estimates, is counted, and is never dropped.
        original: estimates of the fit itself, one lane.
        method: "parametric", "residual", "cases" or "wild".
        wild: (weights, leverage) of a wild bootstrap, else None.
        seed: int that gives the same replicates again.
        fit: the fit, or None if this was read from a file.
        alone: fixed effects that are not estimable without a certain group; of a wild bootstrap.

    Example:
        >>> import jaxhlm as hlm
        >>> fit = hlm.fit("Reaction ~ Days + (1 | Subject)", hlm.load_dataset("sleepstudy"))
        >>> boot = hlm.bootstrap(fit, n=500, seed=1)
        >>> boot.tidy().shape
        (2000, 3)
    """

    fits: FitBatch = field(repr=False)
    original: Estimates = field(repr=False)
    method: BootstrapMethod
    wild: tuple[WildWeights, Leverage] | None
    seed: int
    fit: Fit | None = field(repr=False)
    _accelerations: Floats | None = field(default=None, repr=False)
    alone: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of replicates."""
        return len(self.fits)

    @property
    def model(self) -> Model:
        """Formula, method and labels."""
        return self.fits.model

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the m parameters: fixed effects, ``sd__…``, ``cor__…``, ``sigma``."""
        return parameter_names(self.model)

    @property
    def informative(self) -> Bools:
        """(m,) whether the variance of the replicates tells anything of that of the estimate.

        A wild bootstrap multiplies all squares of a group by one v²: with "rademacher" and "webb"
        (Var v² = 0, 1/6) variances hardly move, with "mammen" (Var v² = 1) σ moves as if every
        group were one row. Its fixed effects are sound with all three, but for those that a single
        group determines: its residuals are zero where they would count, whatever multiplies them.
        """
        fixed = np.arange(len(self.terms)) < len(self.model.xnames)
        sound = fixed & ~np.isin(self.terms, self.alone)
        return np.ones(len(fixed), bool) if self.wild is None else sound

    @cached_property
    def replicates(self) -> pd.DataFrame:
        """(n, m) parameters of every replicate.

        NaN where its fit failed, and for a correlation beside a zero variance.
        """
        e = self.fits.estimates
        values = np.where(self.fits.ok[:, None], parameter_values(self.model, e), np.nan)
        return pd.DataFrame(values, self.fits.index, list(self.terms))

    @cached_property
    def accelerations(self) -> pd.Series:
        """(m,) accelerations for BCa intervals, from the jackknife over groups.

        All fits that leave one group out are made in one batch; see ``bootstrap_intervals``.
        """
        values = self._accelerations
        if values is None:
            if self.fit is None:
                raise JaxhlmError("this bootstrap was read from a file without accelerations")
            _, without = left_out(self.fit.record)
            values = acceleration(parameter_values(self.model, without))
        return pd.Series(values, list(self.terms), name="acceleration")

    def tidy(self) -> pd.DataFrame:
        """Long frame (n · m rows): replicate, term, estimate."""
        frame = long_table(self.terms, {"estimate": self.replicates.to_numpy()})
        frame.insert(0, "replicate", self.replicates.index.repeat(len(self.terms)))
        return frame

    def summary(self) -> pd.DataFrame:
        """One row per parameter.

        Returns:
            Columns original (the fit), bias (mean of the replicates less original), std_error
            (their standard deviation, NaN where not ``informative``) and used (replicates in which
            the parameter is defined).
        """
        original, values = self._original_values(), self.replicates
        return pd.DataFrame(
            {
                "original": original,
                "bias": values.mean().to_numpy() - original,
                "std_error": np.where(self.informative, values.std(), np.nan),
                "used": values.notna().sum().to_numpy(),
            },
            index=pd.Index(self.terms, name="term"),
        )

    def confint(
        self, method: BootstrapInterval = "percentile", level: float = 0.95
    ) -> pd.DataFrame:
        """Confidence intervals of all parameters, (m, 2); see ``jaxhlm.resampling.intervals``.

        NaN where not ``informative``, or, with a warning, where a variance of zero rules them out.

        Args:
            method: "percentile", "basic", "normal" (bias-corrected), or "bca", whose acceleration
                comes from the jackknife over groups: G more fits, in one batch.
            level: confidence level.

        Raises:
            OptionError: unknown method, or a level outside (0, 1).

        Example:
            >>> import jaxhlm as hlm
            >>> fit = hlm.fit("Reaction ~ Days + (1 | Subject)", hlm.load_dataset("sleepstudy"))
            >>> interval = hlm.bootstrap(fit, n=2000, seed=1).confint("bca").loc["Days"]
            >>> bool(8.5 < interval.iloc[0] < 9.2 and 11.7 < interval.iloc[1] < 12.4)
            True
        """
        check_option("method", method, BootstrapInterval)
        check_level(level)
        a = self.accelerations.to_numpy() if method == "bca" else None
        values = np.where(self.informative, self.replicates, np.nan)
        limits = bootstrap_interval(method, self._original_values(), values, level, self.terms, a)
        return pd.DataFrame(np.column_stack(limits), list(self.terms), limit_names(level))

    def confint_of(
        self, function: BatchFunction, method: BootstrapInterval = "percentile", level: float = 0.95
    ) -> pd.DataFrame:
        """Bias, standard error and limits of what a function gives of fits, such as their R².

        Error and limits are NaN, with a warning, where they are not ``informative``.

        Args:
            function: maps a ``FitBatch`` to a number, or row of numbers, for each of its fits; or
                the name of such a property or method: "r2", "icc".
            method, level: as for ``confint``, but for "bca".

        Raises:
            OptionError, JaxhlmError: it gives anything else; there is no data, but a file.

        Example:
            >>> import jaxhlm as hlm
            >>> fit = hlm.fit("Reaction ~ Days + (1 | Subject)", hlm.load_dataset("sleepstudy"))
            >>> list(hlm.bootstrap(fit, n=500, seed=1).confint_of("r2").index)
            ['marginal', 'conditional']
        """
        return function_summary(self.fit, self.fits, function, method, level, bool(self.wild))

    def to_parquet(self, path: str | PathLike[str]) -> None:
        """Write replicates, original estimates and accelerations; no data (needs pyarrow).

        ``FitBatch.read_parquet`` reads the replicates of the same file.

        Raises:
            FileError: the file cannot be written; an older one of this name is still there.
        """
        f = self.fits
        check_saving(path, f.index)
        extra = {
            "method": self.method,
            "wild": self.wild,
            "alone": self.alone,
            "seed": random_key(self.seed).tolist(),
            "original": {
                x.name: getattr(self.original, x.name).tolist() for x in fields(Estimates)
            },
            "accelerations": self.accelerations.tolist(),
        }
        save(path, f.record, extra=json.dumps(extra))

    @staticmethod
    def read_parquet(path: str | PathLike[str]) -> Bootstrap:
        """Read what ``to_parquet`` wrote; what needs the data then raises.

        Raises:
            FileError: the file is not there, is damaged, or holds no bootstrap.
        """
        record, text = load(path)
        if not text:
            raise FileError(f"{path} holds fits but no bootstrap; read it as a FitBatch")
        extra = json.loads(text)
        original = Estimates(**{name: np.array(x) for name, x in extra["original"].items()})
        a, seed = np.array(extra["accelerations"]), seed_of(extra["seed"])
        wild = extra["wild"] and tuple(extra["wild"])
        alone = tuple(extra.get("alone", ()))
        return Bootstrap(FitBatch(record), original, extra["method"], wild, seed, None, a, alone)

    @property
    def heading(self) -> str:
        """What was done, and how the fits ended."""
        kind = f" ({', '.join(self.wild)})" if self.wild else ""
        lines = [
            f"{self.method.capitalize()} bootstrap{kind}, {len(self):,} replicates, "
            f"seed {self.seed}",
            f"Formula: {self.model.formula}",
            *outcome(self.fits.status),
        ]
        if not self.informative.all():
            lines.append(
                "Standard errors and intervals of variances and correlations are left out: the\n"
                "wild bootstrap is sound for the fixed effects; use another method for those"
            )
        if self.alone:
            lines.append(
                f"Nor of {', '.join(self.alone)}: not estimable without a certain level of "
                f"{self.model.group_name},\nwhose residuals say nothing about it"
            )
        return "\n".join(lines)

    def _blocks(self) -> list[Block]:
        """The heading and the summary."""
        return [[self.heading], [framed(self.summary(), index_names=False)]]

    def _original_values(self) -> Floats:
        return parameter_values(self.model, self.original)[0]


@overload
def bootstrap(
    fit: Fit,
    n: int = ...,
    method: BootstrapMethod = ...,
    seed: Seed = ...,
    *,
    weights: WildWeights = ...,
    leverage: Leverage = ...,
    progress: bool | None = ...,
    devices: Devices = ...,
    precision: Precision = ...,
    executor: Workload | None = ...,
    out: None = None,
    resume: bool = ...,
    workers_write: bool = ...,
) -> Bootstrap: ...


@overload
def bootstrap(
    fit: Fit,
    n: int = ...,
    method: BootstrapMethod = ...,
    seed: Seed = ...,
    *,
    weights: WildWeights = ...,
    leverage: Leverage = ...,
    progress: bool | None = ...,
    devices: Devices = ...,
    precision: Precision = ...,
    executor: Workload | None = ...,
    out: str | PathLike[str],
    resume: bool = ...,
    workers_write: bool = ...,
) -> StoredFits: ...


def bootstrap(
    fit: Fit,
    n: int = 1000,
    method: BootstrapMethod = "parametric",
    seed: Seed = None,
    *,
    weights: WildWeights = "rademacher",
    leverage: Leverage = "hc2",
    progress: bool | None = None,
    devices: Devices = None,
    precision: Precision = "float64",
    executor: Workload | None = None,
    out: str | PathLike[str] | None = None,
    resume: bool = False,
    workers_write: bool = False,
) -> Bootstrap | StoredFits:
    """Fit ``n`` bootstrap data sets of one fit, all at once, as the fit itself was fitted.

    * "parametric": new random effects and residuals from the fitted model
      (``lme4::bootMer(use.u = FALSE)``), drawn as sufficient statistics.
    * "residual": BLUPs and residuals, centred and rescaled so that their empirical covariance is
      the estimated one, resampled with replacement by unit and by row (Carpenter, Goldstein &
      Rasbash 2003). With prior weights, residuals times √w are resampled.
    * "cases": whole groups with replacement, each drawn copy a group of its own; nothing of the
      model is assumed but that groups are independent.
    * "wild": y*_i = X_i β̂ + v_i ṽ_i with ṽ_i the marginal residuals of a group, adjusted for
      leverage, and v_i one random factor for the group (Modugno & Giannerini 2015). It is meant
      for the fixed effects under heteroscedasticity; standard errors and intervals of variances
      are NaN, because v_i² multiplies all squares of a group at once.

    A replicate that cannot be fitted has a status and NaN estimates, and is counted.

    Args:
        fit: the fit.
        n: number of replicates.
        method: which bootstrap.
        seed: int, NumPy Generator or JAX key. The same seed gives the same replicates whatever
            the chunks, and the first of them whatever ``n``.
        weights: factors of the wild bootstrap: "rademacher" (±1), "mammen" (two points with third
            moment 1) or "webb" (six points, for a dozen groups or fewer).
        leverage: its residuals are divided by √(1 − h) ("hc2"), 1 − h ("hc3") or 1 ("none").
        progress: show a progress bar; by default in a terminal and in a notebook.
        devices, precision: as for ``jaxhlm.fit_many``, for all methods but "cases".
        executor, workers_write: as for ``jaxhlm.fit_many``.
        out, resume: as for ``fit_many``; a seed that was not given is that of the folder.

    Returns:
        A ``Bootstrap``; ``print`` it for bias, standard errors and counts. With ``out`` the
        replicates as a ``StoredFits``, whose ``summary()`` has their means and deviations.

    Raises:
        OptionError: an unknown method or option, n < 1, or devices that are not there.
        ResamplingError: the fit failed, or it has too few groups for the residual bootstrap.
        FolderError, ExecutorError: as for ``fit_many``.

    Example:
        >>> import jaxhlm as hlm
        >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", hlm.load_dataset("sleepstudy"))
        >>> boot = hlm.bootstrap(fit, n=2000, seed=1)
        >>> bool(abs(boot.summary().loc["Days", "std_error"] / fit.se["Days"] - 1) < 0.08)
        True

    References:
        Carpenter, Goldstein & Rasbash (2003). A novel bootstrap procedure for assessing the
        relationship between class size and achievement. Appl. Statist. 52, 431-443.
        Modugno & Giannerini (2015). The wild bootstrap for multilevel models. Comm. Statist.
        Theory Methods 44, 4812-4825.
    """
    if not isinstance(fit, Fit):
        raise OptionError(f"{type(fit).__name__} is no single Fit; give one, such as fits[0]")
    check_storing(out, resume)
    check_writers(workers_write, executor, out)
    workers = workers_of(executor)
    key = random_key(stored_seed(out, resume) if seed is None else seed)
    y = fit.record.responses.Y[:, 0]
    source = resampler(method, fit.prepared, y, fit.estimates, n, key, weights, leverage)
    index, options = pd.RangeIndex(n, name="replicate"), replace(fit.options, precision=precision)
    if out is not None:
        to = out, resume, devices, workers, workers_write
        return store_source(source, index, fit.model, options, progress, *to)
    affordable("n", n, estimate_bytes(fit.prepared.design.p, fit.prepared.design.q))
    fits = fit_source(source, index, fit.model, options, progress, devices, workers)
    wild = (weights, leverage) if method == "wild" else None
    alone = one_group_terms(fit.record) if wild else ()
    return Bootstrap(fits, fit.estimates, method, wild, seed_of(key), fit, alone=alone)
