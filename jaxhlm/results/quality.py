"""How well one model fits: robust covariances, variance explained."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from jaxhlm.inference.criteria import check_level
from jaxhlm.inference.explained import Components, components, icc, icc_at, patterns, r2
from jaxhlm.inference.influence import Influence
from jaxhlm.inference.leaveout import leave_one_out
from jaxhlm.inference.leverage import Leverage, cooks_distance, leverage, standardized
from jaxhlm.inference.robust import Robust, RobustKind, robust_covariance
from jaxhlm.notation import Floats, check_option
from jaxhlm.results.coefficients import Coefficients
from jaxhlm.results.robust_tables import robust_table, warn_undetermined
from jaxhlm.rows.moments import design_moments

__all__ = ["Quality"]


class Quality(Coefficients):
    """Robust inference and measures of fit."""

    def vcov_robust(self, kind: RobustKind = "CR2") -> pd.DataFrame:
        """Cluster-robust covariance of the fixed effects, groups as clusters.

        M [Σ X_i'V_i⁻¹A_i e_i e_i'A_i'V_i⁻¹X_i] M with M = (Σ X_i'V_i⁻¹X_i)⁻¹: right for large G
        even where the fitted covariance of y is not (Liang & Zeger 1986; for CR2 Bell & McCaffrey
        2002). Equals ``clubSandwich::vcovCR(fit, type = kind)`` where there are no prior weights;
        with weights, A_i of CR2 is made for the rows scaled by √w. Of a coefficient that is not
        estimable without a certain group (one treated group) the variance is far too small: that
        group's residuals are zero where they would count.

        Args:
            kind: "CR0" (A_i = I), "CR1" (CR0 × G/(G − 1)), "CR2" (unbiased if the model is right).

        Returns:
            (p, p) DataFrame. Of a coefficient that is not estimable without a certain group a
            ``DegenerateWarning`` says so; it is NaN where nothing but rounding is left.

        Raises:
            OptionError: unknown kind.

        Example:
            >>> import jaxhlm as hlm
            >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)",
            ...               hlm.load_dataset("sleepstudy"))
            >>> fit.vcov_robust("CR2").round(4).loc["Days"].to_dict()
            {'(Intercept)': -1.4511, 'Days': 2.3895}
        """
        return pd.DataFrame(self._robust(kind).vcov[0], self._terms, self._terms)

    def tidy_robust(self, kind: RobustKind = "CR2", conf_level: float = 0.95) -> pd.DataFrame:
        """t tests of the fixed effects with cluster-robust standard errors.

        df = (tr P)²/tr(P²), Satterthwaite's for the robust variance under the fitted model (Bell &
        McCaffrey 2002). Equals ``clubSandwich::coef_test(fit, vcov = kind)`` without weights.

        Args:
            kind: as for ``vcov_robust``.
            conf_level: of the intervals.

        Returns:
            Columns term, estimate, std_error, statistic, df, p_value, conf_low, conf_high; NaN as
            for ``vcov_robust``.

        Raises:
            OptionError: unknown kind, or a level outside (0, 1).

        Example:
            >>> import jaxhlm as hlm
            >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)",
            ...               hlm.load_dataset("sleepstudy"))
            >>> fit.tidy_robust().set_index("term")["df"].round(3).to_dict()
            {'(Intercept)': 17.0, 'Days': 17.0}
        """
        check_level(conf_level, "conf_level")
        return robust_table(self.estimates.beta, self._robust(kind), self._terms, conf_level)

    def r2(self) -> pd.Series:
        """Share of the variance of y that the fixed effects, and all effects, account for.

        σ_f²/(σ_f² + σ_l² + σ²) and (σ_f² + σ_l²)/(σ_f² + σ_l² + σ²) with σ_f² = var(Xβ̂) (Nakagawa &
        Schielzeth 2013) and σ_l² the mean of z_j'Σz_j over the rows (Johnson 2014). Equals
        ``MuMIn::r.squaredGLMM(fit)``. σ² is that of a row of weight 1.

        Returns:
            Series with "marginal" and "conditional".

        Example:
            >>> import jaxhlm as hlm
            >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)",
            ...               hlm.load_dataset("sleepstudy"))
            >>> fit.r2().round(4).to_dict()
            {'marginal': 0.2787, 'conditional': 0.7992}
        """
        marginal, conditional = r2(self._components)
        return pd.Series({"marginal": marginal[0], "conditional": conditional[0]}, name="r2")

    def icc(self, at: Mapping[str, Any] | pd.DataFrame | None = None) -> float | pd.Series:
        """Intraclass correlation σ_l²/(σ_l² + σ²), σ_l² the mean of z_j'Σz_j over the rows.

        With random slopes the correlation of two rows depends on their z; this is its value at the
        mean random-effect variance (Johnson 2014), ``performance::icc``'s "adjusted" one. With
        ``at`` it is z'Σz/(z'Σz + σ²), that of two rows of a unit which both have this z (Goldstein,
        Browne & Rasbash 2002, Understanding Statistics 1, 223-231).

        Args:
            at: values of the variables of the random part, or a frame with several such patterns.

        Returns:
            A number; for a frame a Series on its index.

        Raises:
            UnknownTermError: ``at`` names another variable, or not all.
            OptionError, NewLevelError: a value is missing, or a level unknown.

        Example:
            >>> import jaxhlm as hlm
            >>> data = hlm.load_dataset("sleepstudy")
            >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", data)
            >>> print(f"{fit.icc():.4f} {fit.icc({'Days': 0}):.4f} {fit.icc({'Days': 9}):.4f}")
            0.7217 0.4831 0.8470
        """
        if at is None:
            return float(icc(self._components)[0])
        values = icc_at(self.estimates, patterns(self.design, at))[0]
        return (
            pd.Series(values, at.index, name="icc")
            if isinstance(at, pd.DataFrame)
            else float(values[0])
        )

    def influence(self, by: Literal["group"] = "group") -> Influence:
        """Leave every group out in turn: exact refits of all of them at once.

        Each refit maximises the criterion of the data without the group, θ and σ included, from
        the statistics of single groups. Cook's D = (β̂ − β̂₍ᵢ₎)'Var(β̂)⁻¹(β̂ − β̂₍ᵢ₎)/p (Cook 1977);
        ``lme4``'s ``cooks.distance(influence(fit, …))`` is (G − p)/G times that.
        Columns of X stay as all rows made them (``poly``, ``center``). One that a single group
        carries leaves the fit without that group rank deficient, and so NaN, where ``fit`` would
        drop the column.

        Args:
            by: what to leave out; "group": the levels of the grouping factor.

        Returns:
            An ``Influence``: ``fixef``, ``dfbetas``, ``cooks_distance``, ``sigma``, ``cov``,
            ``theta`` without each group, ``status`` and ``counts``, and all of it as ``frame()``.

        Raises:
            OptionError: unknown ``by``.

        Example:
            >>> import jaxhlm as hlm
            >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)",
            ...               hlm.load_dataset("sleepstudy"))
            >>> fit.influence().cooks_distance.nlargest(2).round(4).to_dict()
            {'309': 0.1485, '335': 0.1295}
        """
        check_option("by", by, Literal["group"])
        left_out = leave_one_out(self._by_group, self.estimates, self.options)
        levels = self.design.levels.rename(self.model.group_name)
        return Influence(self.model, levels, self.estimates, left_out, np.zeros(len(levels), int))

    @property
    def residuals_marginal(self) -> pd.Series:
        """(n,) response less Xβ̂, the population's prediction."""
        return self._row_series(self._marginal_values(), "residuals_marginal")

    @property
    def residuals_std(self) -> pd.Series:
        """(n,) conditional residuals over their standard deviations σ√((1 − h)/w), θ known.

        NaN where h = 1: the fit passes through the response whatever it is.
        """
        e, hat = self._weighted(self._conditional_values()), self._leverage.hat
        return self._row_series(standardized(e, self.sigma, 1.0 - hat), "residuals_std")

    @property
    def residuals_marginal_std(self) -> pd.Series:
        """(n,) marginal residuals over the roots of diag σ²(V − X A⁻¹ X'), θ known."""
        e = self._weighted(self._marginal_values())
        values = standardized(e, self.sigma, self._leverage.marginal)
        return self._row_series(values, "residuals_marginal_std")

    @property
    def hatvalues(self) -> pd.Series:
        """(n,) leverages: the diagonal of H in Xβ̂ + Zb̂ = Hy; ``lme4``'s ``hatvalues``."""
        return self._row_series(self._leverage.hat, "hat")

    @property
    def cooks_distance(self) -> pd.Series:
        """(n,) (e/(1 − h))² h/(pσ²), ``lme4``'s ``cooks.distance``; by group: ``influence``."""
        e = self._weighted(self._conditional_values())
        values = cooks_distance(e, self.sigma, self._leverage.hat, len(self._terms))
        return self._row_series(values, "cooksd")

    def augment(self) -> pd.DataFrame:
        """One row per observation, as ``broom.mixed::augment``.

        Returns:
            The response, the unit, .fitted, .resid, .fixed (Xβ̂), .resid_marginal (y − Xβ̂), .hat,
            .cooksd and .std_resid, the conditional residual over its standard deviation.
        """
        d = self.design
        return pd.DataFrame(
            {
                self.model.response_name or "y": self._response,
                self.model.group_name: d.levels[d.group],
                ".fitted": self._fitted_values(),
                ".resid": self._conditional_values(),
                ".fixed": d.X @ self.estimates.beta[0],
                ".resid_marginal": self._marginal_values(),
                ".hat": self.hatvalues.to_numpy(),
                ".cooksd": self.cooks_distance.to_numpy(),
                ".std_resid": self.residuals_std.to_numpy(),
            },
            index=d.index,
        )

    @cached_property
    def _leverage(self) -> Leverage:
        """In the order of the rows of the design."""
        rows = self._lane_rows
        return Leverage(*map(rows.flat_rows, leverage(self._henderson, rows)))

    def _conditional_values(self) -> Floats:
        return self._response - self._fitted_values()

    def _marginal_values(self) -> Floats:
        return self._response - self.design.X @ self.estimates.beta[0]

    def _weighted(self, values: Floats) -> Floats:
        weights = self.design.weights
        return values if weights is None else values * np.sqrt(weights)

    def _row_series(self, values: Floats, name: str) -> pd.Series:
        return pd.Series(values, self.design.index, name=name)

    @property
    def _components(self) -> Components:
        return components(self.estimates, design_moments(self.design))

    @property
    def _one_group_terms(self) -> tuple[str, ...]:
        """Fixed effects whose sandwich is zero: no other group than a certain one takes part."""
        found = robust_covariance(self.estimates, self._by_group, self.model.blocks, "CR0")
        return tuple(self.model.xnames[int(j)] for j in np.flatnonzero(np.isnan(found.df[0])))

    def _robust(self, kind: RobustKind) -> Robust:
        check_option("kind", kind, RobustKind)
        found = robust_covariance(self.estimates, self._by_group, self.model.blocks, kind)
        warn_undetermined(self.estimates.beta, found, self.model.xnames, self.model.group_name)
        return found
