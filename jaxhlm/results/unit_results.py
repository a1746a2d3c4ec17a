"""``UnitResults``: what a fit says of its units."""

from __future__ import annotations

import pandas as pd

from jaxhlm.inference.criteria import check_level
from jaxhlm.results import units
from jaxhlm.results.estimated import Estimated
from jaxhlm.results.presenters import Each, Matrix, Number, Vector

__all__ = ["UnitResults"]


class UnitResults(Estimated[Number, Vector, Matrix, Each]):
    """Random effects, coefficients and shrinkage of the units."""

    @property
    def ranef(self) -> pd.DataFrame:
        """(G, q) BLUPs b̂, one row per level of the grouping factor.

        Example:
            >>> import jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 + Days | Subject)"
            >>> fit = hlm.fit("Reaction" + formula, data)
            >>> fits = hlm.fit_many(formula, data, responses=fit.simulate(3, seed=1))
            >>> fits.ranef.loc[("sim_2", "308")].index.tolist(), fits.fitted.shape
            (['(Intercept)', 'Days'], (540,))
        """
        ragged = units.over_units(self.record, lambda f: (f.effects.b,))
        return self._show.units(ragged, self.record.model.znames)

    @property
    def ranef_cov(self) -> Each:
        """(G, q, q) conditional covariance of b given y at the estimates (lme4's ``condVar``)."""
        return self._show.by_fit(units.over_units(self.record, lambda f: (f.effects.cov,)))

    @property
    def coef(self) -> pd.DataFrame:
        """(G, …) coefficients of every unit: fixed effects plus its random effects.

        A random effect without a fixed effect of that name gets a column of its own.
        """
        return self._show.units(*units.coef(self.record))

    @property
    def coef_se(self) -> pd.DataFrame:
        """(G, …) standard errors of ``coef``: of β̂ + b̂ about β + b, jointly, θ known.

        Var(β̂_j + b̂_ij − β_j − b_ij) from Henderson's (1975) mixed model equations: C11, C12, C22.
        """
        return self._show.units(*units.coef_se(self.record))

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
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 + Days | Subject)"
            >>> fit = hlm.fit("Reaction" + formula, data)
            >>> fit.ranef_frame().head(2).round(2)
                 group level         term  estimate  std_error  conf_low  conf_high
            0  Subject   308  (Intercept)      2.26      12.07    -21.40      25.92
            1  Subject   308         Days      9.20       2.30      4.68      13.72
            >>> fits = hlm.fit_many(formula, data, responses=fit.simulate(2, seed=1))
            >>> fits.ranef_frame()[["response", "level", "term"]].iloc[[0, 36]]
               response level         term
            0     sim_1   308  (Intercept)
            36    sim_2   308  (Intercept)
        """
        check_level(conf_level, "conf_level")
        return self._show.long(*units.ranef_frame(self.record, conf_level))

    @property
    def reliability(self) -> Each:
        """(G, q, q) W_i = D(D + (Z_i'Z_i)⁻¹)⁻¹: how far a unit's own line is trusted.

        coef_i = W_i ols_i + (I − W_i) population_i; see ``shrinkage``.
        """
        return self._show.by_fit(units.over_units(self.record, lambda f: (f.lines[2],)))

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
            has its prediction. ``reliability`` is the diagonal of W_i (all of
            it: ``fit.reliability``): with one random effect the share of the own line, between 0
            and 1; with several, the terms borrow from each other and an entry may leave that range.

        Example:
            >>> import jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 + Days | Subject)"
            >>> fit = hlm.fit("Reaction" + formula, data)
            >>> fit.shrinkage().head(2).round(3)
                 group level         term      ols     blup  population  reliability
            0  Subject   308  (Intercept)  244.193  253.664     251.405        0.751
            1  Subject   308         Days   21.765   19.666      10.467        0.838
            >>> fits = hlm.fit_many(formula, data, responses=fit.simulate(2, seed=1))
            >>> table = fits.shrinkage()
            >>> len(table), bool(table["reliability"].between(0, 1).all())
            (72, True)
        """
        return self._show.long(*units.shrinkage(self.record))

    def ranef_qq(self) -> pd.DataFrame:
        """Standardised random effects beside normal quantiles: a normality view.

        b̂/sd(b̂), with sd the marginal one of b̂ (Lange & Ryan 1989), so that units with many and
        with few rows compare; a straight line of slope 1 speaks for normality.

        Returns:
            Columns group, level, term, estimate, std_error, standardized, theoretical (positions as
            in R's ``qqnorm``); G q rows. NaN where Var(b̂) is zero.

        Example:
            >>> import jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 + Days | Subject)"
            >>> fit = hlm.fit("Reaction" + formula, data)
            >>> fit.ranef_qq()[["standardized", "theoretical"]].head(2).round(3)
               standardized  theoretical
            0         0.108       -0.070
            1         1.735        1.915
            >>> fits = hlm.fit_many(formula, data, responses=fit.simulate(2, seed=1))
            >>> fits.ranef_qq().shape
            (72, 8)
        """
        return self._show.long(*units.ranef_qq(self.record))
