"""``Fit``: one fitted model, with the accessors of lme4 and the tables of broom."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from jaxhlm.arguments import real_array
from jaxhlm.errors import ConstantResponseError, ResponseShapeError
from jaxhlm.inference.degrees import METHOD_NAMES, DfMethod
from jaxhlm.notation import Floats
from jaxhlm.pipeline import fit_responses
from jaxhlm.results.intervals import Intervals
from jaxhlm.results.tables import Summary
from jaxhlm.rows.rowwise import simulate_rows
from jaxhlm.status import Status
from jaxhlm.streams import Seed

if TYPE_CHECKING:
    from jaxhlm.results.verify import Verification

__all__ = ["Fit"]


@dataclass(frozen=True, eq=False)
class Fit(Intervals):
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
            y: response of the rows of the data, as for ``fit_many``, or of the rows that were used
                where some were dropped. A Series must have their index; an array goes by position.

        Raises:
            ResponseShapeError: ``y`` has another length or index, or missing values in rows used.
            NotNumericError: ``y`` does not hold numbers.
            ConstantResponseError: ``y`` has the same value in every row.
        """
        values = self._aligned(y)
        if not np.isfinite(values).all():
            raise ResponseShapeError("y has missing or infinite values; fit the frame without them")
        if (values == values[0]).all():
            raise ConstantResponseError(f"y is {values[0]:g} in every row; give one that varies")
        estimates = fit_responses(self.prepared, values[:, None], self.options)
        return replace(self, design=replace(self.design, y=values), estimates=estimates)

    def _aligned(self, y: pd.Series | Floats) -> Floats:
        """(n,) responses of the rows that were used."""
        values, kept = real_array("y", y), self.design.kept
        index = y.index if isinstance(y, pd.Series) else None
        if len(kept) != self.nobs == kept.sum() and values.shape == kept.shape:
            values, index = values[kept], None if index is None else index[kept]
        if values.shape != (self.nobs,):
            raise ResponseShapeError(
                f"y has shape {values.shape}, but {self.nobs} rows of {len(kept)} were fitted; "
                "give one value for each of them, or for each row of the data"
            )
        if index is not None and not index.equals(self.design.index):
            raise ResponseShapeError(
                "y has another index than the rows that were fitted; align them, or pass "
                "y.to_numpy() to match them by position"
            )
        return values

    def tidy(self, df: DfMethod = "satterthwaite", conf_level: float = 0.95) -> pd.DataFrame:
        """One row per parameter, as ``broom.mixed::tidy``.

        Args:
            df: degrees of freedom of t, as for the method ``df``; "normal" for z.
            conf_level: of the intervals estimate ± t std_error.

        Returns:
            Columns effect, group, term, estimate, std_error, df, statistic, p_value, conf_low,
            conf_high, boundary. Random-effects rows are standard deviations and correlations and
            have an estimate only. ``boundary`` flags a singular fit, where df need care (``df``).

        Raises:
            OptionError, NeedsRemlError: as for ``df``.
        """
        rows = self._table(self._identity, df, conf_level)
        rows.insert(0, "effect", "fixed")
        rows.insert(1, "group", None)
        rows.insert(2, "term", self._terms)
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
        return pd.concat([rows, random], ignore_index=True).assign(boundary=self.singular)

    def glance(self) -> pd.DataFrame:
        """One row of fit statistics, as ``broom.mixed::glance``."""
        return pd.DataFrame(
            {
                "nobs": [self.nobs],
                "ngroups": self.ngroups,
                "sigma": self.sigma,
                "loglik": self.loglik,
                "aic": self.aic,
                "aicc": self.aicc,
                "bic": self.bic,
                "criterion": self.criterion,
                "df_residual": self.nobs - self.model.n_parameters,
                "reml": self.reml,
                "singular": self.singular,
                "status": self.status.name,
                "iterations": self.iterations,
            }
        )

    def verify(self) -> Verification:
        """Refit with the NumPy reference and report the differences; print it for one line."""
        from jaxhlm.results.verify import verify_lanes

        return verify_lanes([(self.design, self.estimates)], self.reml)

    def summary(self, df: DfMethod | None = None) -> Summary:
        """lmer's summary; ``print(fit)`` shows the same.

        Args:
            df: add degrees of freedom and p values by this method, as lmerTest's summary does.

        Raises:
            OptionError, NeedsRemlError: as for the method ``df``.
        """
        d = self.design
        root_w = 1.0 if d.weights is None else np.sqrt(d.weights)
        table = pd.DataFrame({"Estimate": self.fixef, "Std. Error": self.se})
        table["t value"] = self.fixef / self.se
        if df is not None:
            columns = self._table(self._identity, df, 0.95).set_index(self._terms)
            table["Std. Error"], table["t value"] = columns["std_error"], columns["statistic"]
            table.insert(2, "df", columns["df"])
            table["Pr(>|t|)"] = columns["p_value"]
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
            coefficients=table,
            vcov=self.estimates.vcov[0],
            notes=self._notes(),
            tests="" if df is None else METHOD_NAMES[df],
        )

    def __str__(self) -> str:
        """lmer's summary."""
        return str(self.summary())

    __repr__ = __str__  # as R, and pandas, show what is asked for

    def _notes(self) -> tuple[str, ...]:
        d, notes = self.design, []
        if d.n_dropped:
            notes.append(f"{d.n_dropped} row(s) dropped because of missing values")
        if d.dropped_columns:
            notes.append("dropped as rank deficient: " + ", ".join(d.dropped_columns))
        if self.status != Status.CONVERGED:
            notes.append(self.status.message)
        return tuple(notes)
