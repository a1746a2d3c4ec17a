"""``Fit``: one fitted model, with the accessors of lme4 and the tables of broom."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from jaxhlm.errors import ResponseShapeError
from jaxhlm.inference import check_level, limit_names, wald_interval
from jaxhlm.notation import BootstrapInterval, Floats, check_option
from jaxhlm.parameters import parameter_names
from jaxhlm.pipeline import fit_responses
from jaxhlm.resampling import parametric_interval
from jaxhlm.simulate import Seed, simulate_rows
from jaxhlm.status import Status
from jaxhlm.tables import Summary
from jaxhlm.units import Units
from jaxhlm.verify import Verification, verify_lanes

__all__ = ["Fit"]


@dataclass(frozen=True, eq=False)
class Fit(Units):
    """One fitted hierarchical linear model; made by ``jaxhlm.fit`` or by indexing a ``FitBatch``.

    Stored: ``model`` (labels), ``design`` (rows), ``estimates`` (one lane), ``options``. All else
    is derived; random effects, fitted values and residuals when first asked for.

    Example:
        >>> import jaxhlm as hlm
        >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", hlm.load_dataset("sleepstudy"))
        >>> fit.fixef.round(3).to_dict()
        {'(Intercept)': 251.405, 'Days': 10.467}
        >>> print(fit.varcorr)
         Groups   Name        Variance Std.Dev. Corr
         Subject  (Intercept) 612.09   24.740
                  Days         35.07    5.922    0.07
         Residual             654.94   25.592
    """

    def simulate(self, n: int = 1, seed: Seed = None) -> pd.DataFrame:
        """New responses of the same units drawn from the fitted model, new random effects each.

        Args:
            n: number of responses.
            seed: int, NumPy Generator or JAX key; replicate i is the same for every n.

        Returns:
            (nobs, n) DataFrame on the row labels of the data.
        """
        d, e = self.design, self.estimates
        Y = simulate_rows(
            d.X, d.Z, d.group, d.G, e.beta[0], e.cov[0], self.sigma, n, seed, d.weights
        )
        return pd.DataFrame(Y, d.index, [f"sim_{i + 1}" for i in range(n)])

    def refit(self, y: pd.Series | Floats) -> Fit:
        """The same model fitted to another response.

        Args:
            y: (n,) response for the rows that were used.

        Raises:
            ResponseShapeError: ``y`` has another length.
        """
        values = np.asarray(y, dtype=float)
        if values.shape != (self.nobs,):
            raise ResponseShapeError(
                f"y has shape {values.shape}, but {self.nobs} rows were fitted; "
                "give one value for each"
            )
        if not np.isfinite(values).all():
            raise ResponseShapeError("y has missing or infinite values; fit the frame without them")
        estimates = fit_responses(self.prepared, values[:, None], self.options)
        return replace(self, design=replace(self.design, y=values), estimates=estimates)

    def tidy(self, conf_level: float = 0.95) -> pd.DataFrame:
        """One row per parameter, as ``broom.mixed::tidy``.

        Returns:
            Columns effect, group, term, estimate, std_error, statistic, conf_low, conf_high (Wald).
            Random-effects rows are standard deviations and correlations and have no standard error.
        """
        fixed = self.confint(level=conf_level)
        rows = pd.DataFrame(
            {
                "effect": "fixed",
                "group": None,
                "term": self._terms,
                "estimate": self.fixef.to_numpy(),
                "std_error": self.se.to_numpy(),
                "statistic": (self.fixef / self.se).to_numpy(),
                "conf_low": fixed.iloc[:, 0].to_numpy(),
                "conf_high": fixed.iloc[:, 1].to_numpy(),
            }
        )
        v = self.varcorr.frame()
        kind = np.where(v["var2"].isna(), "sd__", "cor__")
        other = v["var2"].map(lambda name: f".{name}", na_action="ignore").fillna("")
        pair = v["var1"].fillna("Observation") + other
        random = pd.DataFrame(
            {
                "effect": "ran_pars",
                "group": v["grp"],
                "term": kind + pair.to_numpy(),
                "estimate": v["sdcor"],
            }
        )
        return pd.concat([rows, random], ignore_index=True)

    def glance(self) -> pd.DataFrame:
        """One row of fit statistics, as ``broom.mixed::glance``."""
        return pd.DataFrame(
            {
                "nobs": [self.nobs],
                "ngroups": self.ngroups,
                "sigma": self.sigma,
                "loglik": self.loglik,
                "aic": self.aic,
                "bic": self.bic,
                "criterion": self.criterion,
                "df_residual": self.nobs - self.model.n_parameters,
                "reml": self.reml,
                "singular": self.singular,
                "status": self.status.name,
                "iterations": self.iterations,
            }
        )

    def confint(
        self,
        method: Literal["wald", "boot"] = "wald",
        level: float = 0.95,
        *,
        n: int = 1000,
        seed: Seed = None,
        interval: BootstrapInterval = "percentile",
    ) -> pd.DataFrame:
        """Confidence intervals of the fixed effects (p, 2), or of all parameters (m, 2).

        Args:
            method: "wald": β̂ ± z se. "boot": parametric bootstrap of all parameters; more
                bootstraps are in ``jaxhlm.bootstrap``.
            level: confidence level.
            n: bootstrap replicates.
            seed: of the bootstrap: int, NumPy Generator or JAX key.
            interval: "percentile", "basic", "normal" or "bca"; see ``jaxhlm.intervals``.

        Raises:
            OptionError: an unknown method or interval, or a level outside (0, 1).
        """
        check_option("method", method, Literal["wald", "boot"])
        check_level(level)
        if method == "boot":
            low, high = parametric_interval(
                self.model, self.prepared, self._response, self.estimates, self.options,
                n, seed, interval, level,
            )  # fmt: skip
            names = list(parameter_names(self.model))
            return pd.DataFrame(np.column_stack([low, high]), names, limit_names(level))
        low, high = wald_interval(self.estimates.beta[0], self.se.to_numpy(), level)
        return pd.DataFrame(np.column_stack([low, high]), self._terms, limit_names(level))

    def verify(self) -> Verification:
        """Refit with the NumPy reference and report the differences; print it for one line."""
        return verify_lanes(lambda _: self.design, self.estimates, [0], self.reml)

    def summary(self) -> Summary:
        """lmer's summary; ``print(fit)`` shows the same."""
        d = self.design
        root_w = 1.0 if d.weights is None else np.sqrt(d.weights)
        t = self.fixef / self.se
        return Summary(
            formula=self.model.formula,
            reml=self.reml,
            criterion=self.criterion,
            aic=self.aic,
            bic=self.bic,
            loglik=self.loglik,
            df_residual=self.nobs - self.model.n_parameters,
            scaled_residuals=(self._response - self._fitted_values()) * root_w / self.sigma,
            varcorr=self.varcorr,
            nobs=self.nobs,
            ngroups=self.ngroups,
            coefficients=pd.DataFrame(
                {"Estimate": self.fixef, "Std. Error": self.se, "t value": t}
            ),
            vcov=self.estimates.vcov[0],
            notes=self._notes(),
        )

    def __str__(self) -> str:
        """lmer's summary."""
        return str(self.summary())

    def _notes(self) -> tuple[str, ...]:
        d, notes = self.design, []
        if d.n_dropped:
            notes.append(f"{d.n_dropped} row(s) dropped because of missing values")
        if d.dropped_columns:
            notes.append("dropped as rank deficient: " + ", ".join(d.dropped_columns))
        if self.status != Status.CONVERGED:
            notes.append(self.status.message)
        return tuple(notes)
