"""``FitBatch``: many fits at once, the names of ``Fit`` with a leading axis of fits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd

from jaxhlm.errors import JaxhlmError
from jaxhlm.estimates import Estimates
from jaxhlm.inference import aic, bic, correlation, standard_errors, wald_interval
from jaxhlm.minimum import Options
from jaxhlm.model import Model
from jaxhlm.notation import Floats, Ints
from jaxhlm.pipeline import Prepared
from jaxhlm.results import Fit, check_level
from jaxhlm.sources import Source
from jaxhlm.status import Status
from jaxhlm.storage import Stored, load, save
from jaxhlm.verify import Verification, verify_lanes

__all__ = ["FitBatch", "VarCorrBatch"]


@dataclass(frozen=True)
class VarCorrBatch:
    """Variances of the random effects of B fits; ``fits.varcorr``.

    Attributes:
        cov: (B, q, q) covariance matrices Σ = σ²ΛΛ'.
        residual: (B,) residual standard deviations.
        names: names of the q random effects.
        index: labels of the fits.
    """

    cov: Floats
    residual: Floats
    names: tuple[str, ...]
    index: pd.Index = field(repr=False)

    @property
    def sd(self) -> pd.DataFrame:
        """(B, q) standard deviations."""
        return pd.DataFrame(standard_errors(self.cov), self.index, list(self.names))

    @property
    def corr(self) -> Floats:
        """(B, q, q) correlations; NaN beside a zero variance."""
        return correlation(self.cov)


@dataclass(frozen=True, eq=False)
class FitBatch:
    """Many fits of one formula; made by ``jaxhlm.fit_many``.

    ``fits[i]`` is a ``Fit``, ``fits[lanes]`` (slice, list or boolean array) a smaller ``FitBatch``.
    A data set that could not be fitted has a status code and NaN estimates; it is counted in
    ``print(fits)`` and never dropped.

    Attributes:
        model: formula, method and labels.
        estimates: arrays of all estimates.
        index: (B,) labels of the fits: response names, or values of ``by``.
        nobs: (B,) rows of each fit.
        ngroups: (B,) groups of each fit.

    Example:
        >>> import jaxhlm as hlm
        >>> one = hlm.fit("Reaction ~ Days + (1 | Subject)", hlm.load_dataset("sleepstudy"))
        >>> Y = one.simulate(3, seed=1)
        >>> fits = hlm.fit_many("~ Days + (1 | Subject)", hlm.load_dataset("sleepstudy"), Y)
        >>> fits.fixef.shape, [int(s) for s in fits.status]
        ((3, 2), [0, 0, 0])
    """

    model: Model
    estimates: Estimates = field(repr=False)
    index: pd.Index = field(repr=False)
    nobs: Ints = field(repr=False)
    ngroups: Ints = field(repr=False)
    options: Options = field(repr=False)
    lanes: Ints = field(repr=False)
    source: Source | None = field(repr=False)

    def __len__(self) -> int:
        """Number of fits, B."""
        return len(self.index)

    def __getitem__(self, which: Any) -> Any:
        """Fit i, or the batch of some fits."""
        if isinstance(which, int | np.integer):
            return self._one(range(len(self))[int(which)])
        which = np.arange(len(self))[which]
        return FitBatch(
            self.model,
            self.estimates[which],
            self.index[which],
            self.nobs[which],
            self.ngroups[which],
            self.options,
            self.lanes[which],
            self.source,
        )

    def __iter__(self) -> Iterator[Fit]:
        """The fits, one by one."""
        return (self._one(i) for i in range(len(self)))

    @property
    def reml(self) -> bool:
        """Whether the fits are by REML."""
        return self.model.reml

    @property
    def fixef(self) -> pd.DataFrame:
        """(B, p) fixed effects."""
        return self._frame(self.estimates.beta)

    @property
    def se(self) -> pd.DataFrame:
        """(B, p) standard errors of the fixed effects."""
        return self._frame(standard_errors(self.estimates.vcov))

    @property
    def vcov(self) -> Floats:
        """(B, p, p) covariances of the fixed effects."""
        return self.estimates.vcov

    @property
    def varcorr(self) -> VarCorrBatch:
        """Variances and correlations of the random effects."""
        e = self.estimates
        return VarCorrBatch(e.cov, e.sigma, self.model.znames, self.index)

    @property
    def sigma(self) -> pd.Series:
        """(B,) residual standard deviations."""
        return self._series(self.estimates.sigma, "sigma")

    @property
    def theta(self) -> pd.DataFrame:
        """(B, k) free entries of Λ, column by column."""
        return pd.DataFrame(self.estimates.theta, self.index, list(self.model.theta_names))

    @property
    def criterion(self) -> pd.Series:
        """(B,) −2 × maximised log-likelihood: REML criterion, or ML deviance."""
        return self._series(self.estimates.criterion, "criterion")

    @property
    def loglik(self) -> pd.Series:
        """(B,) maximised (restricted) log-likelihoods."""
        return self._series(-0.5 * self.estimates.criterion, "loglik")

    @property
    def aic(self) -> pd.Series:
        """(B,) Akaike's criteria."""
        return self._series(aic(self.estimates.criterion, self.model.n_parameters), "aic")

    @property
    def bic(self) -> pd.Series:
        """(B,) Schwarz's criteria."""
        values = bic(self.estimates.criterion, self.model.n_parameters, self.nobs)
        return self._series(values, "bic")

    @property
    def status(self) -> Ints:
        """(B,) codes of ``jaxhlm.Status``."""
        return self.estimates.status

    @property
    def ok(self) -> Any:
        """(B,) bool: converged, on the boundary or not."""
        return np.isin(self.status, (Status.CONVERGED, Status.SINGULAR))

    @property
    def singular(self) -> Any:
        """(B,) bool: on the boundary."""
        return self.status == Status.SINGULAR

    @property
    def iterations(self) -> Ints:
        """(B,) evaluations of criterion, gradient and Hessian."""
        return self.estimates.iterations

    @property
    def gradient_norm(self) -> Floats:
        """(B,) largest |∂ criterion/∂θ| at the estimate, on the standardised scale."""
        return self.estimates.gradient_norm

    @property
    def counts(self) -> pd.Series:
        """Number of fits by status, every status listed."""
        tally = np.bincount(self.status, minlength=len(Status))
        return pd.Series(tally, [s.name.lower() for s in Status], name="fits")

    @property
    def ranef(self) -> pd.DataFrame:
        """BLUPs of every fit, indexed by fit and level; (Σ G, q)."""
        good = np.flatnonzero(self.ok)
        frames = {self.index[i]: self._one(int(i)).ranef for i in good}
        return pd.concat(frames, names=[self.index.name or "fit"])

    def to_parquet(self, path: str | PathLike[str]) -> None:
        """Write the estimates, one row per fit, without the data (needs pyarrow)."""
        save(path, Stored(self.model, self.estimates, self.index, self.nobs, self.ngroups))

    @staticmethod
    def read_parquet(path: str | PathLike[str]) -> FitBatch:
        """Read estimates that ``to_parquet`` wrote; what needs the data then raises.

        Raises:
            JaxhlmError: the file was not written by ``to_parquet``.
        """
        s = load(path)
        options = Options(s.model.reml, s.model.blocks)
        lanes = np.arange(len(s.index))
        return FitBatch(s.model, s.estimates, s.index, s.nobs, s.ngroups, options, lanes, None)

    def tidy(self, conf_level: float = 0.95) -> pd.DataFrame:
        """One row per fit and parameter; columns as ``Fit.tidy`` after ``fit``."""
        check_level(conf_level)
        beta, se = self.estimates.beta, standard_errors(self.estimates.vcov)
        low, high = wald_interval(beta, se, conf_level)
        fixed = self._long("fixed", None, self.model.xnames, beta)
        fixed["std_error"], fixed["statistic"] = se.ravel(), (beta / se).ravel()
        fixed["conf_low"], fixed["conf_high"] = low.ravel(), high.ravel()
        names, values = self._random_parameters()
        random = self._long("ran_pars", self.model.group_name, names, values)
        residual = self._long(
            "ran_pars", "Residual", ("sd__Observation",), self.estimates.sigma[:, None]
        )
        long = pd.concat([fixed, random, residual])
        return long.sort_values("fit", kind="stable", key=self.index.get_indexer).reset_index(
            drop=True
        )

    def glance(self) -> pd.DataFrame:
        """One row of fit statistics per fit."""
        return pd.DataFrame(
            {
                "nobs": self.nobs,
                "ngroups": self.ngroups,
                "sigma": self.sigma,
                "loglik": self.loglik,
                "aic": self.aic,
                "bic": self.bic,
                "criterion": self.criterion,
                "df_residual": self.nobs - self.model.n_parameters,
                "reml": self.reml,
                "singular": self.singular,
                "status": [Status(s).name for s in self.status],
                "iterations": self.iterations,
            },
            index=self.index,
        )

    def verify(self, n: int = 20, seed: int = 0) -> Verification:
        """Refit ``n`` random fits with the NumPy reference; print the result for one line.

        Args:
            n: how many of the fits that converged.
            seed: which.
        """
        good = np.flatnonzero(self.ok)
        chosen = np.random.default_rng(seed).permutation(good)[:n]
        source = self._rows()
        return verify_lanes(
            lambda i: source.lane(int(self.lanes[i])), self.estimates, chosen.tolist(), self.reml
        )

    def summary(self) -> pd.DataFrame:
        """Mean and spread of every parameter over the fits that converged, and the mean SE."""
        names, random = self._random_parameters()
        values = np.column_stack([self.estimates.beta, random, self.estimates.sigma])[self.ok]
        se = standard_errors(self.estimates.vcov)[self.ok]
        terms = [*self.model.xnames, *names, "sigma"]
        table = pd.DataFrame(index=pd.Index(terms, name="term"))
        with np.errstate(all="ignore"):
            frame = pd.DataFrame(values, columns=terms)
            table["mean"], table["sd"] = frame.mean(), frame.std()
            table["min"], table["median"], table["max"] = frame.min(), frame.median(), frame.max()
            table["mean SE"] = pd.Series(se.mean(axis=0), list(self.model.xnames))
        return table

    def __str__(self) -> str:
        """Counts, then the summary table."""
        counts = self.counts
        good = int(self.ok.sum())
        method = "REML" if self.reml else "maximum likelihood"
        head = [
            f"{len(self):,} linear mixed model fits by {method}",
            f"Formula: {self.model.formula}",
            f"Converged: {good:,}, of these singular: {counts['singular']:,}; "
            f"failed: {len(self) - good:,}",
        ]
        head += [
            f"  {counts.iloc[s]:,} × {Status(s).message}"
            for s in Status
            if not s.ok and counts.iloc[s]
        ]
        if not good:
            return "\n".join(head)
        return "\n".join([*head, "", self.summary().to_string(float_format="%.4f", na_rep="")])

    def _one(self, i: int) -> Fit:
        source = self._rows()
        design = source.lane(int(self.lanes[i]))
        return Fit(self.model, design, self.estimates[[i]], self.options, Prepared(design))

    def _rows(self) -> Source:
        if self.source is None:
            raise JaxhlmError(
                "these fits were read from a file, which holds estimates but no data; "
                "fit again to see single fits, random effects or verify()"
            )
        return self.source

    def _frame(self, values: Floats) -> pd.DataFrame:
        return pd.DataFrame(values, self.index, list(self.model.xnames))

    def _series(self, values: Floats, name: str) -> pd.Series:
        return pd.Series(values, self.index, name=name)

    def _long(
        self, effect: str, group: str | None, terms: tuple[str, ...], values: Floats
    ) -> pd.DataFrame:
        B, m = values.shape
        return pd.DataFrame(
            {
                "fit": self.index.repeat(m),
                "effect": effect,
                "group": group,
                "term": np.tile(np.array(terms, dtype=object), B),
                "estimate": values.ravel(),
            }
        )

    def _random_parameters(self) -> tuple[tuple[str, ...], Floats]:
        """Names and (B, …) values of standard deviations and correlations."""
        z, sd = self.model.znames, standard_errors(self.estimates.cov)
        corr = correlation(self.estimates.cov)
        names = [f"sd__{name}" for name in z]
        columns = [sd[:, a] for a in range(len(z))]
        for block in self.model.blocks:
            for i, a in enumerate(block):
                for b in block[i + 1 :]:
                    names.append(f"cor__{z[a]}.{z[b]}")
                    columns.append(corr[:, a, b])
        return tuple(names), np.column_stack(columns)
