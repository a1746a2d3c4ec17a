"""How much each group or row moves the estimates: the result of ``fit.influence()``."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd

from jaxhlm.core.document import Block, Printed, framed
from jaxhlm.core.notation import Floats, Ints
from jaxhlm.core.status import Status, outcome, tally
from jaxhlm.estimation.estimates import Estimates
from jaxhlm.estimation.model import Model
from jaxhlm.inference.criteria import standard_errors

__all__ = ["Influence", "LeftOut"]

LeftOut = Literal["group", "observation"]


@dataclass(frozen=True, eq=False, repr=False)
class Influence(Printed):
    """Estimates without each group, or each row, in turn, and how they differ from those with all.

    Every one is an exact refit, θ and σ included. Where the model cannot be fitted without one,
    there is NaN, counted in ``counts``. "Group" below is what was left out.

    Attributes:
        model: the labels.
        levels: (N,) what was left out: levels of the grouping factor or labels of rows, those of
            all fits after one another where there are many, indexed by fit and level.
        whole: estimates with all groups, one lane for every fit.
        without: estimates without each group, N lanes.
        fit: (N,) number of the fit that each of them belongs to.
        by: "group" or "observation".
    """

    model: Model = field(repr=False)
    levels: pd.Index = field(repr=False)
    whole: Estimates = field(repr=False)
    without: Estimates = field(repr=False)
    fit: Ints = field(repr=False)
    by: LeftOut = "group"

    @property
    def fixef(self) -> pd.DataFrame:
        """(N, p) fixed effects without each group."""
        return self._frame(self.without.beta, self.model.xnames)

    @property
    def dfbeta(self) -> pd.DataFrame:
        """(N, p) β̂ − β̂₍ᵢ₎, as Belsley, Kuh & Welsch define it; lme4's ``dfbeta`` is minus that."""
        return self._frame(self._all.beta - self.without.beta, self.model.xnames)

    @property
    def dfbetas(self) -> pd.DataFrame:
        """(N, p) (β̂ − β̂₍ᵢ₎)/se₍ᵢ₎, with the standard errors without the group.

        Positive where the group raises the estimate. ``lme4``'s and car's ``dfbetas`` have the
        other sign, β̂₍ᵢ₎ − β̂, and the same size.
        Beyond 2/√G, of rows 2/√n, is worth a look (Belsley, Kuh & Welsch 1980, Regression
        Diagnostics, ch. 2).
        """
        with np.errstate(invalid="ignore"):
            return self.dfbeta / standard_errors(self.without.vcov)

    @cached_property
    def cooks_distance(self) -> pd.Series:
        """(N,) (β̂ − β̂₍ᵢ₎)'Var(β̂)⁻¹(β̂ − β̂₍ᵢ₎)/p, Var(β̂) that of all groups (Cook 1977).

        NaN where there is no fixed effect.
        """
        change = self._all.beta - self.without.beta
        se = standard_errors(self._all.vcov)
        # A fixed effect that a data set does not have does not change.
        absent = self._all.absent
        change, se = np.where(absent, 0.0, change), np.where(absent, 1.0, se)
        V = self._all.filled.vcov + np.eye(se.shape[1]) * absent[:, None]
        scaled = np.linalg.solve(V / (se[:, :, None] * se[:, None]), (change / se)[..., None])
        p = (~absent).sum(axis=1)
        with np.errstate(invalid="ignore"):
            values = (change / se * scaled[..., 0]).sum(axis=1) / np.where(p > 0, p, np.nan)
        return pd.Series(values, self.levels, name="cooksd")

    @property
    def sigma(self) -> pd.Series:
        """(N,) residual standard deviations without each group."""
        return pd.Series(self.without.sigma, self.levels, name="sigma")

    @property
    def cov(self) -> Floats:
        """(N, q, q) covariances of the random effects without each group."""
        return self.without.cov

    @property
    def theta(self) -> pd.DataFrame:
        """(N, k) θ without each group."""
        return self._frame(self.without.theta, self.model.theta_names)

    @property
    def criterion(self) -> pd.Series:
        """(N,) REML criterion or ML deviance without each group."""
        return pd.Series(self.without.criterion, self.levels, name="criterion")

    @property
    def status(self) -> Ints:
        """(N,) codes of ``jaxhlm.Status``."""
        return self.without.status

    @property
    def counts(self) -> pd.Series:
        """Number of refits by status, every status listed."""
        return tally(self.status)

    def frame(self) -> pd.DataFrame:
        """One row per group: cooksd, dfbetas, and the changes of the variance parameters.

        Returns:
            (N, …) DataFrame: ``cooksd``; ``dfbetas__TERM``; ``sigma`` and ``change__sigma``;
            ``change__var__…`` and ``change__cov__…`` for the entries of Σ; ``change__theta__…``;
            ``status``. A change is the value without the group less that with it.
        """
        z = self.model.znames
        columns = {"cooksd": self.cooks_distance}
        columns |= {f"dfbetas__{name}": values for name, values in self.dfbetas.items()}
        columns |= {"sigma": self.sigma, "change__sigma": self.sigma - self._all.sigma}
        change = self.without.cov - self._all.cov
        for block in self.model.blocks:
            for i, a in enumerate(block):
                columns[f"change__var__{z[a]}"] = change[:, a, a]
                columns |= {f"change__cov__{z[a]}.{z[b]}": change[:, a, b] for b in block[i + 1 :]}
        theta = self.theta - self._all.theta
        columns |= {f"change__theta__{name}": values for name, values in theta.items()}
        return pd.DataFrame(columns, self.levels).assign(
            status=[Status(s).name for s in self.status]
        )

    def _blocks(self) -> list[Block]:
        """Counts, and the groups with the largest Cook's distance."""
        fits = len(self.whole.status)
        of_fits = f" in {fits:,} fits" if fits > 1 else ""
        what = f"levels of {self.model.group_name}" if self.by == "group" else "observations"
        largest = self.frame().nlargest(5, "cooksd").filter(regex="cooksd|dfbetas")
        return [
            [
                f"Influence of {len(self.levels):,} {what}{of_fits}, "
                "each left out and the model fitted again",
                outcome(self.status)[0],
                "Largest Cook's distances:",
                framed(largest),
            ]
        ]

    @cached_property
    def _all(self) -> Estimates:
        """Of the fit with all groups, for every group left out."""
        return self.whole[self.fit]

    def _frame(self, values: Floats, names: tuple[str, ...]) -> pd.DataFrame:
        return pd.DataFrame(values, self.levels, list(names))
