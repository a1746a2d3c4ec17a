"""What is read off many fits' estimates and labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd

from jaxhlm.design import Design, lacking
from jaxhlm.engine.chunks import in_order, lane_chunks
from jaxhlm.engine.minimum import Options
from jaxhlm.errors import JaxhlmError, NotEstimableError, NotEstimableWarning, warn_user
from jaxhlm.estimates import Estimates, restandardised
from jaxhlm.inference.criteria import aic, aicc, bic, correlation, standard_errors
from jaxhlm.model import Model
from jaxhlm.notation import Bools, Floats, Ints, NotEstimable, check_option
from jaxhlm.rows.columns import label, listed
from jaxhlm.rows.groupwise import Groupwise
from jaxhlm.rows.response import Standard
from jaxhlm.rows.sources import Source
from jaxhlm.status import Status

__all__ = ["BatchAccessors", "VarCorrBatch"]


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
class BatchAccessors:
    """Many fits: what is stored, and what estimates and labels say by themselves."""

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

    def _singly(self) -> list[Self]:
        """The batches of one fit each."""
        return [
            replace(
                self,
                estimates=self.estimates[[k]],
                index=self.index[[k]],
                nobs=self.nobs[[k]],
                ngroups=self.ngroups[[k]],
                lanes=self.lanes[[k]],
            )
            for k in range(len(self))
        ]

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
        return self._series(aic(self.estimates.criterion, self._n_parameters), "aic")

    @property
    def aicc(self) -> pd.Series:
        """(B,) AIC corrected for small samples, with n the number of rows."""
        values = aicc(self.estimates.criterion, self._n_parameters, self.nobs)
        return self._series(values, "aicc")

    @property
    def bic(self) -> pd.Series:
        """(B,) Schwarz's criteria."""
        values = bic(self.estimates.criterion, self._n_parameters, self.nobs)
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

    @cached_property
    def _filled(self) -> Estimates:
        return self.estimates.filled

    @property
    def _n_parameters(self) -> Ints:
        """(B,) parameters of every fit."""
        return self.model.n_parameters - self.estimates.absent.sum(axis=1)

    def _about_absent(self, L: Floats) -> Bools:
        """Whether rows of L (r, p) or (B, r, p) are about columns of X that fits lack, (B, r)."""
        absent = self.estimates.absent
        if not absent.any():
            return np.zeros((len(absent), L.shape[-2]), bool)
        return ((np.nan_to_num(L) != 0.0) & absent[:, None]).any(axis=2)

    def _tell_not_estimable(
        self, about: Bools, labels: Sequence[object], what: str, option: NotEstimable = "nan"
    ) -> None:
        """Say which rows are not estimable in which fits.

        Args:
            about: (B, r) what ``_about_absent`` tells.
            labels: r names of the rows.
            what: what they are.
            option: "nan" or "error".

        Raises:
            NotEstimableError: under "error", where there is such a row.
        """
        check_option("not_estimable", option, NotEstimable)
        if not about.any():
            return
        which, fits = np.flatnonzero(about.any(axis=0)), np.flatnonzero(about.any(axis=1))
        named = listed([labels[j] for j in which.tolist()])
        text = (
            f"{what} are not estimable in {len(fits)} of {len(self)} fits, first "
            f"{label(self.index, int(fits[0]))}: {named}; these data sets lack columns of X that "
            "they are about (fits.fixef is NaN there)"
        )
        if option == "error":
            raise NotEstimableError(f'{text}; pass not_estimable="nan" for the others')
        warn_user(f"{text}; these are NaN", NotEstimableWarning)

    def _design(self, i: int) -> Design:
        """The design of a fit, as ``fit`` would build it."""
        return lacking(self._rows().lane(int(self.lanes[i])), self.estimates.absent[i])

    def over_lanes(
        self, function: Callable[[Estimates, Standard], tuple[Floats, ...]]
    ) -> tuple[Floats, ...]:
        """``function`` of all fits and their statistics, chunk by chunk on all cores.

        Args:
            function: maps the estimates of some fits, and their standardised statistics, to arrays
                with the fits on the first axis.

        Returns:
            Those arrays for all fits, in order.
        """
        source = self._rows()
        return self._over_chunks(
            lambda at: function(self._filled[at], source.standard(self.lanes[at]))
        )

    def over_groups(
        self, function: Callable[[Estimates, Groupwise], tuple[Any, ...]]
    ) -> tuple[Any, ...]:
        """As ``over_lanes``, with the statistics of every group by itself.

        Raises:
            JaxhlmError: the fits were read from a file, or simulated without rows.
        """
        source = self._rows()

        def one(at: Ints) -> tuple[Any, ...]:
            groups = source.by_group(self.lanes[at])
            return function(self._estimates_on(at, groups.standard.scaling.C), groups)

        return self._over_chunks(one)

    def _estimates_on(self, at: Ints, C: Floats) -> Estimates:
        """Estimates of some fits for rows that are standardised by C."""
        found = self._filled[at]
        if self._rows().own_scale:
            return found
        return restandardised(found, C, self.model.blocks)

    @np.errstate(all="ignore")
    def _over_chunks(self, one: Callable[[Ints], tuple[Any, ...]]) -> tuple[Any, ...]:
        """Arrays, fits first, from positions of fits that the source takes together."""
        chunks = self._chunks()
        parts = [np.concatenate(part) for part in zip(*in_order(one, chunks), strict=True)]
        back = np.argsort(np.concatenate(chunks))
        return tuple(part[back] for part in parts)

    @np.errstate(all="ignore")
    def _over_runs(
        self, one: Callable[[Ints], tuple[Any, ...]], lane_bytes: int
    ) -> tuple[Any, ...]:
        """As ``_over_chunks``, of arrays in which every fit has a run of its own length.

        Args:
            one: the lengths of the runs of some fits, and arrays with these runs one after another.
            lane_bytes: what ``one`` takes for one fit.
        """
        chunks = [
            chunk[part] for chunk in self._chunks() for part in lane_chunks(len(chunk), lane_bytes)
        ]
        lengths, *parts = (
            np.concatenate(part) for part in zip(*in_order(one, chunks), strict=True)
        )
        positions = np.concatenate(chunks)
        if (np.diff(positions) > 0).all():
            return (lengths, *parts)
        back = np.argsort(positions)
        starts, lengths = (np.cumsum(lengths) - lengths)[back], lengths[back]
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        at = np.repeat(starts, lengths) + within
        return (lengths, *(part[at] for part in parts))

    def _chunks(self) -> list[Ints]:
        """Positions of fits that the source takes together, none of them twice in one chunk.

        Raises:
            JaxhlmError: there is no fit.
        """
        source = self._rows()
        if not len(self):
            raise JaxhlmError("this batch holds no fit, so there is nothing to compute")
        # A fit that was chosen several times comes once in each of several rounds.
        time = pd.Series(self.lanes).groupby(self.lanes).cumcount().to_numpy()
        rounds = [np.flatnonzero(time == i) for i in range(time.max() + 1)]
        return [at[c] for at in rounds for c in source.chunks(self.lanes[at], self.nobs[at])]

    def _below(self, lengths: Ints, labels: pd.Index, number: Ints) -> pd.MultiIndex:
        """The labels of the fits, each as often as its run is long, and labels within the runs."""
        fits = self.index if self.index.nlevels > 1 else self.index.rename(self.index.name or "fit")
        columns = [*_coded(fits, np.repeat(np.arange(len(fits)), lengths)), *_coded(labels, number)]
        levels, codes = zip(*columns, strict=True)
        names = [*fits.names, *labels.names]
        return pd.MultiIndex(levels, codes, names=names, verify_integrity=False)

    def _rows(self) -> Source:
        if self.source is None:
            raise JaxhlmError(
                "these fits were read from a file, which holds estimates but no data, and this "
                'needs the data: fit again. For β df="residual" and df="normal" need no '
                'data, and to_parquet(path, df="satterthwaite") writes small-sample degrees of '
                "freedom as well, which tidy(), df() and p_values() then have"
            )
        return self.source

    def _frame(self, values: Floats) -> pd.DataFrame:
        return pd.DataFrame(values, self.index, list(self.model.xnames))

    def _series(self, values: Floats, name: str) -> pd.Series:
        return pd.Series(values, self.index, name=name)


def _coded(index: pd.Index, number: Ints) -> list[tuple[pd.Index, Ints]]:
    """Levels, and codes of the labels at ``number``, of every level of an index."""
    if isinstance(index, pd.MultiIndex):
        codes = (np.asarray(code)[number] for code in index.codes)
        return list(zip(index.levels, codes, strict=True))
    if index.is_unique and not index.hasnans:
        return [(index, number)]
    codes, levels = pd.factorize(index)
    return [(levels, codes[number])]
