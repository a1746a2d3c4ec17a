"""The units of one fit: predicted random effects, coefficients, fitted values, predictions."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pandas as pd

from jaxhlm.errors import NewLevelError
from jaxhlm.estimates import RandomEffects, random_effects
from jaxhlm.inference.criteria import check_level, standard_errors, wald_interval
from jaxhlm.inference.henderson import (
    Henderson,
    coef_variance,
    henderson,
    ranef_variance,
    standardized_effects,
    unit_lines,
    value_variance,
)
from jaxhlm.notation import Floats, NewLevels, NotEstimable
from jaxhlm.results.accessors import Accessors
from jaxhlm.results.prediction import (
    Interval,
    check_prediction,
    coef_columns,
    new_rows,
    normal_scores,
    prediction_frame,
    unit_frame,
)
from jaxhlm.rows.columns import listed
from jaxhlm.rows.groupwise import Groupwise
from jaxhlm.rows.lanerows import LaneRows

__all__ = ["Units"]


class Units(Accessors):
    """Random effects and what follows from them."""

    @cached_property
    def _by_group(self) -> Groupwise:
        return self.prepared.by_group(self._response[:, None])

    @cached_property
    def _lane_rows(self) -> LaneRows:
        return self.prepared.lane_rows(self._response[:, None])

    @cached_property
    def _random_effects(self) -> RandomEffects:
        return random_effects(self.estimates, self._lane_rows.standard, self.model.blocks)

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
        names, x, z = coef_columns(self.model)
        values = self.estimates.beta[0] @ x.T + self._random_effects.b[0] @ z.T
        return pd.DataFrame(values, self.ranef.index, names)

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
        *,
        se: bool = False,
        interval: Interval | None = None,
        level: float = 0.95,
        not_estimable: NotEstimable = "nan",
    ) -> pd.Series | pd.DataFrame:
        """Expected response on new rows, x'β̂ + z'b̂, with prediction errors if asked.

        The error of a unit's expected value, uncertainty of β̂ and of b̂ together, is

            Var(x'β̂ + z'b̂ − x'β − z'b) = z'Var(b | y)z + d'Var(β̂)d,   d = x − X'V⁻¹Z D z

        from Henderson's (1975) mixed model equations; of a unit that was not seen, x'Var(β̂)x +
        z'Σz. θ and σ are taken as known, so that limits are somewhat narrow with few units.

        Args:
            newdata: frame with the columns of the formula (the response is not needed, the grouping
                column is unless ``ranef=False``); the rows that were fitted if None. Transforms and
                factors are coded as they were fitted.
            ranef: add the unit's random effects (``re.form = NULL`` in lme4); False gives Xβ̂.
            new_levels: a unit that was not in the data gets the population value Xβ̂, or, with
                "error", raises.
            se: give standard errors and, unless ``interval`` says otherwise, confidence limits.
            interval: "confidence" for the unit's expected value (with ``ranef=False`` for Xβ), or
                "prediction" for a new response, which adds σ²/w (and with ``ranef=False`` z'Σz: the
                response of any unit). New rows have weight 1.
            level: of the limits, which are normal: value ± z sd.
            not_estimable: where X is rank deficient, a row whose expected value the data do not
                determine (a cell that was never seen, other values of columns that depended on
                each other) is NaN, with a warning, or, with "error", raises.

        Returns:
            (rows,) Series on the index of ``newdata``; NaN where a variable, or the unit, is
            missing or the value is not estimable. With ``se`` or ``interval`` a DataFrame:
            predicted, se, low, high.

        Raises:
            MissingColumnError: a column of the formula is not in ``newdata``.
            NewLevelError: an unseen unit under ``new_levels="error"``, or an unseen level of a
                fixed factor.
            NotEstimableError: under ``not_estimable="error"``.
            OptionError: an unknown option, or a level outside (0, 1).

        Example:
            >>> import jaxhlm as hlm
            >>> data = hlm.load_dataset("sleepstudy")
            >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", data)
            >>> fit.predict(data.head(2), interval="prediction").round(2)
               predicted     se     low    high
            0     253.66  12.25  198.05  309.28
            1     273.33  10.54  219.08  327.58
        """
        check_prediction(new_levels, interval, level, not_estimable, ranef=ranef, se=se)
        weights = None
        if newdata is None:
            X, Z, group, index = self.design.X, self.design.Z, self.design.group, self.design.index
            weights = self.design.weights
        else:
            X, Z, group = new_rows(self.design, newdata, ranef, not_estimable)
            index = newdata.index
        if ranef and new_levels == "error" and (group < 0).any():
            raise NewLevelError(
                f"row(s) {listed(index[group < 0].unique())} of newdata have a level of "
                f"{self.model.group_name!r} that was not in the data; pass "
                'new_levels="population" for the population value, or ranef=False'
            )
        values = X @ self.estimates.beta[0]
        if ranef:
            b = np.vstack([self._random_effects.b[0], np.zeros(Z.shape[1])])
            values = values + np.where(group < 0, 0.0, (Z * b[group]).sum(axis=1))
        predicted = pd.Series(values, index, name="predicted")
        if not se and interval is None:
            return predicted
        Z_used = Z if ranef else 0.0 * Z
        variance = value_variance(self._henderson, X, Z_used, group[None])[0]
        added = np.zeros(len(X))
        if interval == "prediction":
            added += self.sigma**2 / (1.0 if weights is None else weights)
            if not ranef:
                added += np.einsum("ja,ab,jb->j", Z, self.estimates.cov[0], Z)
        return prediction_frame(predicted, np.sqrt(variance), np.sqrt(variance + added), level)

    @property
    def coef_se(self) -> pd.DataFrame:
        """(G, …) standard errors of ``coef``: of β̂ + b̂ about β + b, jointly, θ known.

        Var(β̂_j + b̂_ij − β_j − b_ij) from Henderson's (1975) mixed model equations: C11, C12, C22.
        """
        names, x, z = coef_columns(self.model)
        se = np.sqrt(coef_variance(self._henderson, x, z)[0])
        return pd.DataFrame(se, self.ranef.index, names)

    def ranef_frame(self, conf_level: float = 0.95) -> pd.DataFrame:
        """BLUPs with conditional standard deviations and limits, as ``tidy(effects="ran_vals")``.

        b̂ ± z sd(b | y, θ̂, β̂): the ``condVar`` of lme4, which leaves the uncertainty of β̂ out.

        Args:
            conf_level: of the limits.

        Returns:
            Columns group, level, term, estimate, std_error, conf_low, conf_high; G q rows.

        Raises:
            OptionError: a level outside (0, 1).

        Example:
            >>> import jaxhlm as hlm
            >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)",
            ...               hlm.load_dataset("sleepstudy"))
            >>> fit.ranef_frame().head(2).round(2)
                 group level         term  estimate  std_error  conf_low  conf_high
            0  Subject   308  (Intercept)      2.26      12.07    -21.40      25.92
            1  Subject   308         Days      9.20       2.30      4.68      13.72
        """
        check_level(conf_level, "conf_level")
        b, se = self._random_effects.b[0], standard_errors(self.ranef_cov)
        low, high = wald_interval(b, se, conf_level)
        return self._unit_frame(estimate=b, std_error=se, conf_low=low, conf_high=high)

    @property
    def reliability(self) -> Floats:
        """(G, q, q) W_i = D(D + (Z_i'Z_i)⁻¹)⁻¹: how far a unit's own line is trusted.

        coef_i = W_i ols_i + (I − W_i) population_i; see ``shrinkage``.
        """
        return self._unit_lines[2]

    def shrinkage(self) -> pd.DataFrame:
        """How each unit's prediction relates to its own least-squares line.

            blup_i = W_i ols_i + (I − W_i) population_i,     W_i = D (D + (Z_i'Z_i)⁻¹)⁻¹

        with D = Σ/σ² (Raudenbush & Bryk 2002, Hierarchical Linear Models, ch. 3). ``ols`` is the
        unit's own line as in ``jaxhlm.lm_list`` (weighted if the fit is), ``population`` that of
        its population values X_iβ̂, so covariates of the unit count in it, and ``blup`` is
        population + b̂.

        Returns:
            Columns group, level, term, ols, blup, population, reliability; G q rows. Where a unit's
            rows do not determine a line of its own, ols, blup and population are NaN, and ``coef``
            has its prediction. ``reliability`` is the diagonal of W_i, whose whole is
            ``fit.reliability``: with one random effect the share of the own line, between 0 and 1;
            with several, the terms borrow from each other and an entry may leave that range.

        Example:
            >>> import jaxhlm as hlm
            >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)",
            ...               hlm.load_dataset("sleepstudy"))
            >>> fit.shrinkage().head(2).round(3)
                 group level         term      ols     blup  population  reliability
            0  Subject   308  (Intercept)  244.193  253.664     251.405        0.751
            1  Subject   308         Days   21.765   19.666      10.467        0.838
        """
        own, population, W = self._unit_lines
        return self._unit_frame(
            ols=own,
            blup=population + self._random_effects.b[0],
            population=population,
            reliability=np.diagonal(W, axis1=1, axis2=2),
        )

    def ranef_qq(self) -> pd.DataFrame:
        """Standardised random effects beside normal quantiles: a normality view.

        b̂/sd(b̂), with sd the marginal one of b̂ (Lange & Ryan 1989), so that units with many and
        with few rows compare; a straight line of slope 1 speaks for normality.

        Returns:
            Columns group, level, term, estimate, std_error, standardized, theoretical (positions as
            in R's ``qqnorm``); G q rows. NaN where Var(b̂) is zero.

        Example:
            >>> import jaxhlm as hlm
            >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)",
            ...               hlm.load_dataset("sleepstudy"))
            >>> fit.ranef_qq()[["standardized", "theoretical"]].head(2).round(3)
               standardized  theoretical
            0         0.108       -0.070
            1         1.735        1.915
        """
        b, variance = self._random_effects.b, ranef_variance(self._henderson)
        sd, z = standardized_effects(b, variance, self.estimates.cov)
        return self._unit_frame(
            estimate=b[0], std_error=sd[0], standardized=z[0], theoretical=normal_scores(z[0])
        )

    @cached_property
    def _henderson(self) -> Henderson:
        return henderson(self.estimates, self._lane_rows.standard, self.model.blocks)

    @cached_property
    def _unit_lines(self) -> tuple[Floats, ...]:
        found = unit_lines(self._henderson, self._lane_rows.standard, self.estimates.beta)
        return tuple(values[0] for values in found)

    def _unit_frame(self, **columns: Floats) -> pd.DataFrame:
        terms = list(self.model.znames)
        return unit_frame(self.model.group_name, self.design.levels, terms, **columns)

    def _fitted_values(self) -> Floats:
        d = self.design
        return d.X @ self.estimates.beta[0] + (d.Z * self._random_effects.b[0][d.group]).sum(axis=1)
