"""``Fit``: one fitted model, with the accessors of lme4 and the tables of broom."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd

from jaxhlm.design import Design, design_for
from jaxhlm.errors import JaxhlmError, NewLevelError, OptionError, ResponseShapeError
from jaxhlm.estimates import Estimates, RandomEffects
from jaxhlm.inference import aic, bic, standard_errors, wald_interval
from jaxhlm.minimum import Options
from jaxhlm.model import Model
from jaxhlm.notation import Floats, NewLevels, check_option
from jaxhlm.pipeline import Prepared, fit_responses
from jaxhlm.simulate import Seed, simulate_rows
from jaxhlm.status import Status
from jaxhlm.tables import Summary
from jaxhlm.varcorr import VarCorr
from jaxhlm.verify import Verification, verify_lanes

__all__ = ["Fit", "check_level"]


@dataclass(frozen=True, eq=False)
class Fit:
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

    model: Model
    design: Design = field(repr=False)
    estimates: Estimates = field(repr=False)
    options: Options = field(repr=False)
    prepared: Prepared = field(repr=False)

    @property
    def reml(self) -> bool:
        """Whether the fit is by REML (else maximum likelihood)."""
        return self.model.reml

    @property
    def nobs(self) -> int:
        """Number of rows used, n."""
        return self.design.n

    @property
    def ngroups(self) -> int:
        """Number of groups, G."""
        return self.design.G

    @property
    def status(self) -> Status:
        """How the fit ended; ``status.message`` says it in words."""
        return Status(int(self.estimates.status[0]))

    @property
    def singular(self) -> bool:
        """Whether a variance is zero or a correlation ±1 (``lme4::isSingular``)."""
        return self.status == Status.SINGULAR

    @property
    def iterations(self) -> int:
        """Evaluations of criterion, gradient and Hessian."""
        return int(self.estimates.iterations[0])

    @property
    def gradient_norm(self) -> float:
        """Largest |∂ criterion/∂θ| at the estimate, on the standardised scale."""
        return float(self.estimates.gradient_norm[0])

    @property
    def fixef(self) -> pd.Series:
        """(p,) fixed effects β̂ by term."""
        return pd.Series(self.estimates.beta[0], self._terms, name="fixef")

    @property
    def vcov(self) -> pd.DataFrame:
        """(p, p) covariance of the fixed effects, σ̂²(X'V⁻¹X)⁻¹."""
        return pd.DataFrame(self.estimates.vcov[0], self._terms, self._terms)

    @property
    def se(self) -> pd.Series:
        """(p,) standard errors of the fixed effects."""
        return pd.Series(standard_errors(self.estimates.vcov[0]), self._terms, name="se")

    @property
    def sigma(self) -> float:
        """Residual standard deviation σ̂."""
        return float(self.estimates.sigma[0])

    @property
    def theta(self) -> Floats:
        """(k,) free entries of Λ column by column, as ``lme4::getME(fit, "theta")``."""
        return self.estimates.theta[0]

    @property
    def varcorr(self) -> VarCorr:
        """Variances and correlations of the random effects."""
        names = pd.Index(self.model.znames)
        cov = pd.DataFrame(self.estimates.cov[0], names, names)
        return VarCorr(cov, self.sigma, self.model.group_name, self.model.blocks)

    @property
    def criterion(self) -> float:
        """−2 × the maximised log-likelihood: REML criterion, or ML deviance."""
        return float(self.estimates.criterion[0])

    @property
    def loglik(self) -> float:
        """Maximised (restricted) log-likelihood."""
        return -0.5 * self.criterion

    @property
    def aic(self) -> float:
        """Akaike's criterion."""
        return float(aic(self.estimates.criterion, self.model.n_parameters)[0])

    @property
    def bic(self) -> float:
        """Schwarz's criterion, with log n of the number of rows."""
        return float(bic(self.estimates.criterion, self.model.n_parameters, self.nobs)[0])

    @cached_property
    def _random_effects(self) -> RandomEffects:
        return self.prepared.random_effects(self._response[:, None], self.estimates)

    @property
    def ranef(self) -> pd.DataFrame:
        """(G, q) BLUPs b̂, one row per level of the grouping factor."""
        levels = self.design.levels.rename(self.model.group_name)
        return pd.DataFrame(self._random_effects.b[0], levels, list(self.model.znames))

    @property
    def ranef_cov(self) -> Floats:
        """(G, q, q) conditional covariance of b given y at the estimates (lme4's ``condVar``)."""
        return self._random_effects.cov[0]

    @property
    def coef(self) -> pd.DataFrame:
        """(G, …) coefficients of every unit: fixed effects plus its random effects.

        A random effect without a fixed effect of that name gets a column of its own.
        """
        ranef = self.ranef
        names = list(dict.fromkeys([*self._terms, *ranef.columns]))
        fixed = self.fixef.reindex(names, fill_value=0.0)
        return ranef.reindex(columns=names, fill_value=0.0) + fixed

    @property
    def fitted(self) -> pd.Series:
        """(n,) fitted values Xβ̂ + Zb̂ on the row labels of the data."""
        return pd.Series(self._fitted_values(), self.design.index, name="fitted")

    @property
    def residuals(self) -> pd.Series:
        """(n,) response less fitted values."""
        return pd.Series(
            self._response - self._fitted_values(), self.design.index, name="residuals"
        )

    def predict(
        self,
        newdata: pd.DataFrame | None = None,
        ranef: bool = True,
        new_levels: NewLevels = "population",
    ) -> pd.Series:
        """Expected response on new rows.

        Args:
            newdata: frame with the columns of the formula (the response is not needed); the rows
                that were fitted if None. Transforms and factors are coded as they were fitted.
            ranef: add the unit's random effects (``re.form = NULL`` in lme4); False gives Xβ̂.
            new_levels: a unit that was not in the data gets the population value Xβ̂, or, with
                "error", raises.

        Returns:
            (rows,) Series on the index of ``newdata``; NaN where a variable is missing.

        Raises:
            MissingColumnError: a column of the formula is not in ``newdata``.
            NewLevelError: an unseen unit under ``new_levels="error"``, or an unseen level of a
                fixed factor.
        """
        check_option("new_levels", new_levels, NewLevels)
        if newdata is None:
            X, Z, group, index = self.design.X, self.design.Z, self.design.group, self.design.index
        else:
            X, Z, group = design_for(self.design, newdata)
            index = newdata.index
        if ranef and new_levels == "error" and (group < 0).any():
            raise NewLevelError(
                f"{int((group < 0).sum())} row(s) of newdata have a level of "
                f"{self.model.group_name!r} that was not in the data; pass "
                'new_levels="population" for the population value, or ranef=False'
            )
        values = X @ self.estimates.beta[0]
        if ranef:
            b = np.vstack([self._random_effects.b[0], np.zeros(Z.shape[1])])
            values = values + np.where(group < 0, 0.0, (Z * b[group]).sum(axis=1))
        return pd.Series(values, index, name="predicted")

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

    def augment(self) -> pd.DataFrame:
        """One row per observation: response, unit, .fitted, .resid and .fixed (Xβ̂)."""
        d = self.design
        return pd.DataFrame(
            {
                self.model.response_name or "y": self._response,
                self.model.group_name: d.levels[d.group],
                ".fitted": self._fitted_values(),
                ".resid": self._response - self._fitted_values(),
                ".fixed": d.X @ self.estimates.beta[0],
            },
            index=d.index,
        )

    def confint(self, method: Literal["wald"] = "wald", level: float = 0.95) -> pd.DataFrame:
        """Confidence intervals of the fixed effects, (p, 2).

        Args:
            method: "wald": β̂ ± z se.
            level: confidence level.

        Raises:
            OptionError: unknown method, or a level outside (0, 1).
        """
        check_option("method", method, Literal["wald"])
        check_level(level)
        low, high = wald_interval(self.estimates.beta[0], self.se.to_numpy(), level)
        names = [f"{100 * a:.4g} %" for a in ((1 - level) / 2, (1 + level) / 2)]
        return pd.DataFrame(np.column_stack([low, high]), self._terms, names)

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

    @property
    def _terms(self) -> pd.Index:
        return pd.Index(self.model.xnames, name="term")

    @property
    def _response(self) -> Floats:
        if self.design.y is None:
            raise JaxhlmError("this fit has no response")
        return self.design.y

    def _fitted_values(self) -> Floats:
        d = self.design
        return d.X @ self.estimates.beta[0] + (d.Z * self._random_effects.b[0][d.group]).sum(axis=1)

    def _notes(self) -> tuple[str, ...]:
        d, notes = self.design, []
        if d.n_dropped:
            notes.append(f"{d.n_dropped} row(s) dropped because of missing values")
        if d.dropped_columns:
            notes.append("dropped as rank deficient: " + ", ".join(d.dropped_columns))
        if self.status != Status.CONVERGED:
            notes.append(self.status.message)
        return tuple(notes)


def check_level(level: float) -> None:
    """Raise ``OptionError`` unless 0 < level < 1."""
    if not 0.0 < level < 1.0:
        raise OptionError(f"level={level!r} is not a confidence level; use a number such as 0.95")
