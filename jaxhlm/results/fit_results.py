"""``FitResults``: every result that one fit and a batch of fits both give, once.

Results are computed from a ``FitRecord``; the presenter decides whether they have an axis of fits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Self

import pandas as pd
from numpy.typing import ArrayLike

from jaxhlm.core.notation import Floats, NewLevels, NotEstimable
from jaxhlm.core.tables import Table
from jaxhlm.errors import OptionError
from jaxhlm.estimation.estimates import Estimates
from jaxhlm.estimation.hypotheses import Contrasts
from jaxhlm.estimation.model import Model
from jaxhlm.inference.contrast_families import Contrasted
from jaxhlm.inference.contrast_tests import DfMethod
from jaxhlm.inference.criteria import check_level
from jaxhlm.inference.family_adjustment import FamilyAdjustment
from jaxhlm.inference.influence import Influence
from jaxhlm.inference.refgrid import CellWeights
from jaxhlm.inference.robust import RobustKind
from jaxhlm.inference.variance_errors import VarianceScale
from jaxhlm.optimise.options import Options
from jaxhlm.results import (
    coefficients,
    joint_tests,
    likelihood_ratios,
    means,
    moderated,
    quality,
    summaries,
    term_tests,
    units,
    variances,
)
from jaxhlm.results.anova import Anova
from jaxhlm.results.fit_rows import FitRows
from jaxhlm.results.means import Families
from jaxhlm.results.prediction import Interval, check_prediction, prediction_frame
from jaxhlm.results.presenters import Each, Matrix, Number, Presenter, Vector
from jaxhlm.results.record import FitRecord
from jaxhlm.results.term_tests import TermTable
from jaxhlm.results.tidy import tidy

__all__ = ["FitResults", "check_no_terms"]


@dataclass(frozen=True, eq=False, repr=False)
class FitResults(Generic[Number, Vector, Matrix, Each]):
    """What a ``Fit`` and a ``FitBatch`` have in common.

    Docstrings give the shapes of one fit; ``FitBatch`` tells those of many.
    """

    record: FitRecord

    @property
    def _show(self) -> Presenter[Number, Vector, Matrix, Each]:
        raise NotImplementedError

    def _of_rows(self, name: str, values: Callable[[FitRows], Floats]) -> pd.Series:
        return self._show.rows(units.over_rows(self.record, lambda f: (values(f),)), name)

    @property
    def model(self) -> Model:
        """Formula, method and labels."""
        return self.record.model

    @property
    def estimates(self) -> Estimates:
        """Arrays of all estimates, with the fits on the first axis."""
        return self.record.estimates

    @property
    def options(self) -> Options:
        """What was optimised."""
        return self.record.options

    @property
    def reml(self) -> bool:
        """Whether the model is fitted by REML (else maximum likelihood)."""
        return self.record.model.reml

    @property
    def fixef(self) -> Vector:
        """(p,) fixed effects β̂ by term."""
        return self._show.vector(self.record.estimates.beta, "fixef")

    @property
    def se(self) -> Vector:
        """(p,) standard errors of the fixed effects."""
        return self._show.vector(self.record.se, "se")

    @property
    def vcov(self) -> Matrix:
        """(p, p) covariance of the fixed effects, σ̂²(X'V⁻¹X)⁻¹."""
        return self._show.matrix(self.record.estimates.vcov)

    @property
    def sigma(self) -> Number:
        """Residual standard deviation σ̂."""
        return self._show.number(self.record.estimates.sigma, "sigma")

    @property
    def criterion(self) -> Number:
        """−2 × the maximised log-likelihood: REML criterion, or ML deviance."""
        return self._show.number(self.record.estimates.criterion, "criterion")

    @property
    def df_residual(self) -> Number:
        """Residual degrees of freedom n − 2 tr H + tr HH, with Hy the fitted values.

        n − p if there were no random effects. ``variancePartition::rdf.merMod``; what ``glance``
        calls df_residual is ``broom.mixed``'s, rows less parameters.

        Raises:
            JaxhlmError: the fits were read from a file.
        """
        return self._show.number(moderated.df_residual(self.record), "df_residual")

    @property
    def loglik(self) -> Number:
        """Maximised (restricted) log-likelihood."""
        return self._show.number(self.record.loglik, "loglik")

    @property
    def aic(self) -> Number:
        """Akaike's criterion."""
        return self._show.number(self.record.aic, "aic")

    @property
    def aicc(self) -> Number:
        """AIC corrected for small samples (Hurvich & Tsai 1989), with n the number of rows."""
        return self._show.number(self.record.aicc, "aicc")

    @property
    def bic(self) -> Number:
        """Schwarz's criterion, with log n of the number of rows."""
        return self._show.number(self.record.bic, "bic")

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

    @property
    def fitted(self) -> pd.Series:
        """(n,) fitted values Xβ̂ + Zb̂ on the row labels of the data."""
        return self._of_rows("fitted", lambda f: f.fitted)

    @property
    def residuals(self) -> pd.Series:
        """(n,) response less fitted values."""
        return self._of_rows("residuals", lambda f: f.residual)

    @property
    def residuals_marginal(self) -> pd.Series:
        """(n,) response less Xβ̂, the population's prediction."""
        return self._of_rows("residuals_marginal", lambda f: f.residual_marginal)

    @property
    def residuals_std(self) -> pd.Series:
        """(n,) conditional residuals over their standard deviations σ√((1 − h)/w), θ known.

        NaN where h = 1: the fit passes through the response whatever it is.
        """
        return self._of_rows("residuals_std", lambda f: f.residual_std)

    @property
    def residuals_marginal_std(self) -> pd.Series:
        """(n,) marginal residuals over the roots of diag σ²(V − X A⁻¹ X'), θ known."""
        return self._of_rows("residuals_marginal_std", lambda f: f.residual_marginal_std)

    @property
    def hatvalues(self) -> pd.Series:
        """(n,) leverages: the diagonal of H in Xβ̂ + Zb̂ = Hy; ``lme4``'s ``hatvalues``."""
        return self._of_rows("hat", lambda f: f.leverage.hat)

    @property
    def cooks_distance(self) -> pd.Series:
        """(n,) (e/(1 − h))² h/(pσ²), ``lme4``'s ``cooks.distance``; by group: ``influence``."""
        return self._of_rows("cooksd", lambda f: f.cooks_distance)

    def augment(self) -> pd.DataFrame:
        """One row per observation, as ``broom.mixed::augment``.

        Returns:
            The response, the unit, .fitted, .resid, .fixed (Xβ̂), .resid_marginal (y − Xβ̂), .hat,
            .cooksd and .std_resid, the conditional residual over its standard deviation.

        Example:
            >>> import jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 | Subject)"
            >>> Y = hlm.fit("Reaction" + formula, data).simulate(2, seed=1)
            >>> table = hlm.fit_many(formula, data, responses=Y).augment()
            >>> table.shape, list(table.index.names)
            ((360, 9), ['response', None])
        """
        ragged, columns = quality.augmented(self.record)
        return pd.DataFrame(columns, self._show.row_index(ragged))

    def predict(
        self,
        newdata: Table | None = None,
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
            newdata: table with the columns of the formula (the response is not needed, the grouping
                column is unless ``ranef=False``), the same for all fits of a batch; the rows that
                were fitted if None. Transforms and factors are coded as they were fitted.
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
            >>> Y = fit.simulate(2, seed=1)
            >>> fits = hlm.fit_many("~ Days + (1 + Days | Subject)", data, responses=Y)
            >>> fits.predict(data.head(2), interval="prediction").shape
            (4, 4)
        """
        check_prediction(new_levels, interval, level, not_estimable, ranef=ranef, se=se)
        ragged, labels = units.predictions(
            self.record, newdata, ranef, new_levels, interval, not_estimable
        )
        index = self._show.index(ragged.lengths, labels, ragged.number)
        return prediction_frame(ragged.values, index, se or interval is not None, level)

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

    def df(self, method: DfMethod = "satterthwaite") -> Vector:
        """(p,) denominator degrees of freedom of every fixed effect.

        1/df = 1/ν + δ'H⁻¹δ, derived in ``inference/satterthwaite.py`` (Fai & Cornelius 1996;
        Kenward & Roger 1997 in ``kenward_roger.py``). Equals lmerTest's and pbkrtest's. At a
        singular fit Satterthwaite's df are those of the model with the covariance of the rank that
        was found; a zero variance so drops out. Kenward and Roger's formula holds there as it is.

        Args:
            method: "satterthwaite", "kenward-roger" (REML only), "residual" (n − p) or "normal".

        Raises:
            OptionError: unknown method.
            NeedsRemlError: Kenward-Roger of a fit by maximum likelihood.

        Example:
            >>> import jaxhlm as hlm
            >>> sleep = hlm.load_dataset("sleepstudy")
            >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", sleep)
            >>> fit.df().round(6).to_dict()
            {'(Intercept)': 17.0, 'Days': 17.0}
            >>> design = hlm.design("~ x * a + (1 + x | unit)", hlm.load_dataset("article"))
            >>> truth = hlm.Truth.of([1, 3, -0.15, 0.3], sd=[0.2, 0.5], sigma=0.75)
            >>> fits = hlm.simulate(design, truth, n=100, seed=1).fit()
            >>> fits.df().shape, bool((fits.df("kenward-roger")["x"] - 28 < 1e-9).all())
            ((100, 4), True)
        """
        return self._show.vector(coefficients.fixed_tests(self.record, method)[1], "df")

    def p_values(self, method: DfMethod = "satterthwaite") -> Vector:
        """(p,) two-sided p values of β = 0; Kenward-Roger with its adjusted standard errors.

        Args:
            method: as for ``df``.

        Raises:
            OptionError, NeedsRemlError: as for ``df``.

        Example:
            >>> import jaxhlm as hlm
            >>> sleep = hlm.load_dataset("sleepstudy")
            >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", sleep)
            >>> print(f"{fit.p_values()['Days']:.3g}")
            3.26e-06
        """
        return self._show.vector(coefficients.fixed_tests(self.record, method)[2], "p_value")

    @property
    def vcov_adj(self) -> Matrix:
        """(p, p) Kenward and Roger's adjusted covariance of β̂ (``pbkrtest::vcovAdj``); REML only.

        Raises:
            NeedsRemlError: the fit is by maximum likelihood.
        """
        return self._show.matrix(coefficients.adjusted_vcov(self.record))

    def contrast(
        self,
        L: Contrasts,
        df: DfMethod = "satterthwaite",
        rhs: ArrayLike = 0.0,
        conf_level: float = 0.95,
    ) -> pd.DataFrame:
        """Estimates and t tests of linear combinations Lβ = rhs, one by one.

        Args:
            L: (p,) or (r, p) array; DataFrame with terms as columns; mapping from terms to
                coefficients; text such as "x:a = 0" or "x - a = 0"; or a list of such.
            df: as for the method ``df``.
            rhs: values under the hypothesis.
            conf_level: of the intervals.

        Returns:
            One row per contrast: estimate (of Lβ), std_error, df, statistic, p_value, conf_low,
            conf_high.

        Raises:
            UnknownTermError, ContrastError: ``L`` cannot be read.
            NotEstimableError: a column that was dropped from a rank-deficient X takes part.
            OptionError, NeedsRemlError: as for ``df``.

        Example:
            >>> import jaxhlm as hlm
            >>> fit = hlm.fit("y ~ x * a + (1 + x | unit)", hlm.load_dataset("article"))
            >>> table = fit.contrast("x - 2*a = 3")
            >>> table[["estimate", "df"]].round(2).to_dict("index")
            {'x - 2*a = 3': {'estimate': 3.29, 'df': 36.37}}
        """
        return self._show.block(*coefficients.contrasts(self.record, L, df, rhs, conf_level))

    def joint_test(
        self, L: Contrasts, df: DfMethod = "satterthwaite", rhs: ArrayLike = 0.0
    ) -> pd.DataFrame:
        """F test that all rows of Lβ = rhs hold (``lmerTest::contestMD``, ``pbkrtest``).

        The statistic does not depend on how the hypothesis is written. Satterthwaite's denominator
        df do, as lmerTest's: they come from uncorrelated combinations of the rows, which are other
        ones where a row is multiplied by a number or replaced by its difference from another
        (``b, c`` or ``b, 100*c`` or ``b - c, c``). Kenward and Roger's do not.

        Args:
            L: as for ``contrast``, or the name of a term (``"treatment"``, ``"x:a"``) for all of
                its columns; rows that repeat others do not count.
            df: method of the denominator df; with "kenward-roger" F includes the factor λ, with
                "normal" num_df · F is Wald's χ².
            rhs: values under the hypothesis.

        Returns:
            One row: num_df, den_df, statistic, p_value.

        Raises:
            UnknownTermError, ContrastError, NotEstimableError, OptionError, NeedsRemlError: as for
                ``contrast``.

        Example:
            >>> import jaxhlm as hlm
            >>> fit = hlm.fit("y ~ x * a + (1 + x | unit)", hlm.load_dataset("article"))
            >>> fit.joint_test("a = 0, x:a = 0").round(3).iloc[0].to_dict()
            {'num_df': 2.0, 'den_df': 28.0, 'statistic': 27.262, 'p_value': 0.0}
        """
        return self._show.line(coefficients.joint_test(self.record, L, df, rhs))

    def _of_terms(self, found: TermTable) -> Anova:
        table = self._show.block(found.columns, found.labels)
        return Anova(found.heading, table)

    def drop1(
        self, scope: str | Sequence[str] | None = None, df: DfMethod = "satterthwaite"
    ) -> Anova:
        """F tests of the terms that can be left out by themselves, as ``drop1`` of lmerTest.

        Those are the terms that no other contains. The model without the term is not fitted: the
        test is of its coefficients in this one.

        Args:
            scope: one term, or several; all that can be left out if None.
            df: as for the method ``df``.

        Returns:
            ``Anova`` with the columns of ``anova()``, one row per fit and term.

        Raises:
            UnknownTermError: ``scope`` names what is no term of the fixed part.
            OptionError: a term of ``scope`` is contained in another.
            NeedsRemlError: as for ``df``.

        Example:
            >>> import jaxhlm as hlm
            >>> fit = hlm.fit("y ~ x * a + (1 + x | unit)", hlm.load_dataset("article"))
            >>> print(fit.drop1())
            Single term deletions using Satterthwaite's method
            Model: y ~ x * a + (1 + x | unit)
                Sum Sq Mean Sq NumDF DenDF F value   Pr(>F)
            x:a 5.6079  5.6079     1 28.00  9.9406 0.003835
        """
        return self._of_terms(term_tests.single_deletions(self.record, scope, df))

    def emmeans(
        self,
        specs: str | Sequence[str],
        at: Mapping[str, Any] | None = None,
        df: DfMethod = "satterthwaite",
        *,
        by: str | Sequence[str] | None = None,
        contrasts: Contrasted | None = None,
        interaction: Families | None = None,
        adjust: FamilyAdjustment | None = None,
        weights: CellWeights = "equal",
        pairwise: bool = False,
        conf_level: float = 0.95,
        not_estimable: NotEstimable = "nan",
    ) -> pd.DataFrame:
        """Estimated marginal means, as R's ``emmeans``, and contrasts of them.

        The average of Xβ̂ over a grid in which every combination of the levels of the factors
        occurs once and numbers are at their mean over the rows used (Searle, Speed & Milliken 1980,
        Am. Stat. 34, 216-221). R's emmeans treats a number with two values as a factor; here it is
        at its mean unless ``at`` says otherwise.

        The cells of a batch are the same in all fits. A number that is not in ``at`` stands at its
        mean over the rows of each fit, so that every row equals what the fit alone would give; but
        for data sets without a row of some level, which is a cell here, and counts in means over
        the levels of its factor (NaN) and in families of tests.

        Args:
            specs: one variable, or several whose combinations are the cells.
            at: values, one or a list, for some of the variables of the fixed part.
            df: as for the method ``df``.
            by: variables in each of whose combinations the cells are a family of their own.
            contrasts: contrasts of the cells instead: "pairwise", "revpairwise", "trt.vs.ctrl",
                "trt.vs.ctrlk", "consec", "poly", "eff", "del.eff", "mean_chg"; a mapping from names
                to coefficients of the cells; a DataFrame with cells as columns; an array.
            interaction: products of contrasts of the single variables of ``specs``: one family for
                all of them, a list, or a mapping from variables to families.
            adjust: for the number of tests within each combination of ``by``: "tukey" (all pairs),
                "mvt" (multivariate t, exact where df are equal), "holm", "bonferroni", "sidak",
                "fdr", "none". By default as R: "tukey" for pairs, "fdr" for effects, "mvt" for
                changes, and, where R approximates it, for comparisons with a control; else none.
                Limits are adjusted alike; for "holm" and "fdr", which have none, by Bonferroni.
            weights: of the cells that are averaged over: "equal"; "proportional" to the number of
                rows in them whatever the cell of ``specs``; "outer", the product of such shares of
                single factors; "cells", their own numbers of rows, for raw means.
            pairwise: all pairs, with p values as they are, by Holm and by Tukey (studentised range)
                side by side, and limits of single differences.
            conf_level: of the intervals.
            not_estimable: where X is rank deficient, as with an empty cell of an interaction, a
                mean or difference that the data do not determine is NaN, with a warning, or, with
                "error", raises. The p values of the others count it, as in R's emmeans.

        Returns:
            One row per cell: the levels, emmean, std_error, df, conf_low, conf_high. Or one row per
            contrast: variables of ``by``, contrast (of interactions one column per variable, such
            as Sex_pairwise), estimate, std_error, df, statistic, p_value, p_adjusted, conf_low,
            conf_high; with ``pairwise`` p_holm and p_tukey for p_adjusted. Where X is rank
            deficient also ``estimable``, False where R says nonEst.

        Raises:
            UnknownTermError: ``specs``, ``by`` or ``at`` names what is not in the fixed part.
            NewLevelError: ``at`` names a level that the fit has not seen.
            ContrastError: contrasts that cannot be, or of one cell.
            NotEstimableError: a mean is not estimable, under ``not_estimable="error"``.
            OptionError, NeedsRemlError: as for ``df``; options that do not go together.

        Example:
            >>> import jaxhlm as hlm
            >>> data = hlm.load_dataset("math_achieve")
            >>> fit = hlm.fit("MathAch ~ SES + Sex + Minority + (1 | School)", data)
            >>> print(fit.emmeans("Sex")[["Sex", "emmean", "std_error"]].round(3))
                  Sex  emmean  std_error
            0  Female  11.404      0.191
            1    Male  12.634      0.194
            >>> table = fit.emmeans("Minority", by="Sex", contrasts="pairwise", adjust="sidak")
            >>> table[["Sex", "contrast", "estimate"]].round(3)
                  Sex  contrast  estimate
            0  Female  No - Yes     2.961
            1    Male  No - Yes     2.961
            >>> formula, Y = "~ SES + Sex + (1 | School)", fit.simulate(2, seed=1)
            >>> hlm.fit_many(formula, data, responses=Y).emmeans("Sex")[["response", "Sex"]]
              response     Sex
            0    sim_1  Female
            1    sim_1    Male
            2    sim_2  Female
            3    sim_2    Male
        """
        wanted = means.means_wanted(
            specs, at, df, by=by, contrasts=contrasts, interaction=interaction, adjust=adjust,
            weights=weights, conf_level=conf_level, not_estimable=not_estimable, pairwise=pairwise,
        )  # fmt: skip
        return self._show.long(means.means_table(self.record, wanted))

    def emtrends(
        self,
        specs: str | Sequence[str] | None,
        var: str,
        at: Mapping[str, Any] | None = None,
        df: DfMethod = "satterthwaite",
        *,
        by: str | Sequence[str] | None = None,
        contrasts: Contrasted | None = None,
        interaction: Families | None = None,
        adjust: FamilyAdjustment | None = None,
        weights: CellWeights = "equal",
        conf_level: float = 0.95,
        not_estimable: NotEstimable = "nan",
    ) -> pd.DataFrame:
        """Slopes of the expected response in a number, averaged as marginal means are.

        The derivative of Xβ̂ by ``var``, where it stands in the grid (its mean, unless ``at`` says
        otherwise), by central differences over a thousandth of its range; R's ``emtrends``, which
        takes forward differences: the same for straight lines.

        Args:
            specs: as for ``emmeans``; None for one trend over all cells.
            var: a number of the fixed part.
            at, df, by, contrasts, interaction, adjust, weights, conf_level, not_estimable: as for
                ``emmeans``.

        Returns:
            As ``emmeans``, with ``trend`` for emmean.

        Raises:
            OptionError: ``var`` is a factor; and all that ``emmeans`` raises.

        Example:
            >>> import jaxhlm as hlm
            >>> data = hlm.load_dataset("math_achieve")
            >>> fit = hlm.fit("MathAch ~ SES * Sex + (1 | School)", data)
            >>> fit.emtrends("Sex", "SES").round(3)[["Sex", "trend", "std_error"]]
                  Sex  trend  std_error
            0  Female  2.503      0.140
            1    Male  2.195      0.146
        """
        if not isinstance(var, str):
            raise OptionError(f"var={var!r} must be the name of a number of the fixed part")
        wanted = means.means_wanted(
            specs, at, df, by=by, contrasts=contrasts, interaction=interaction, adjust=adjust,
            weights=weights, conf_level=conf_level, not_estimable=not_estimable, trend=var,
        )  # fmt: skip
        return self._show.long(means.means_table(self.record, wanted))

    def joint_tests(
        self,
        by: str | Sequence[str] | None = None,
        at: Mapping[str, Any] | None = None,
        df: DfMethod = "satterthwaite",
    ) -> pd.DataFrame:
        """F tests of the contrasts of marginal means, term by term, as emmeans' ``joint_tests``.

        A row for every combination of variables that some term has: that the differences of its
        means, or differences of these, are zero, within every combination of ``by``. Numbers stand
        one unit below and above their mean. Where all cells have rows and numbers enter linearly
        these are the tests of type III for centred numbers (``anova``, where they are zero). df
        are those of ``joint_test``; emmeans takes the least of the df of single contrasts.

        Args:
            by: variables in each of whose combinations the tests are made.
            at: values of variables, as for ``emmeans``.
            df: as for the method ``df``.

        Returns:
            Columns of ``by``, term, num_df, den_df, statistic, p_value; NaN where the data do not
            determine a contrast, with a warning.

        Raises:
            UnknownTermError, NewLevelError: as for ``emmeans``.
            OptionError, NeedsRemlError: as for ``df``; nothing is left to test.

        Example:
            >>> import jaxhlm as hlm
            >>> data = hlm.load_dataset("math_achieve")
            >>> fit = hlm.fit("MathAch ~ SES * Sex + (1 | School)", data)
            >>> fit.joint_tests().round(3)[["term", "num_df", "statistic"]]
                  term  num_df  statistic
            0      SES     1.0    495.803
            1      Sex     1.0     51.300
            2  SES:Sex     1.0      2.526
        """
        return self._show.long(joint_tests.joint_tests_table(self.record, by, at, df))

    def vcov_robust(self, kind: RobustKind = "CR2") -> Matrix:
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
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 + Days | Subject)"
            >>> fit = hlm.fit("Reaction" + formula, data)
            >>> fit.vcov_robust("CR2").round(4).loc["Days"].to_dict()
            {'(Intercept)': -1.4511, 'Days': 2.3895}
            >>> fits = hlm.fit_many(formula, data, responses=fit.simulate(2, seed=1))
            >>> fits.vcov_robust().shape
            (2, 2, 2)
        """
        return self._show.matrix(quality.robust(self.record, kind).vcov)

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
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 + Days | Subject)"
            >>> fit = hlm.fit("Reaction" + formula, data)
            >>> fit.tidy_robust().set_index("term")["df"].round(3).to_dict()
            {'(Intercept)': 17.0, 'Days': 17.0}
            >>> fits = hlm.fit_many(formula, data, responses=fit.simulate(2, seed=1))
            >>> fits.tidy_robust()[["response", "term"]]
              response         term
            0    sim_1  (Intercept)
            1    sim_1         Days
            2    sim_2  (Intercept)
            3    sim_2         Days
        """
        return self._show.long(quality.tidy_robust(self.record, kind, conf_level))

    def r2(self) -> Vector:
        """Share of the variance of y that the fixed effects, and all effects, account for.

        σ_f²/(σ_f² + σ_l² + σ²) and (σ_f² + σ_l²)/(σ_f² + σ_l² + σ²) with σ_f² = var(Xβ̂) (Nakagawa &
        Schielzeth 2013) and σ_l² the mean of z_j'Σz_j over the rows (Johnson 2014). Equals
        ``MuMIn::r.squaredGLMM(fit)``. σ² is that of a row of weight 1.

        Returns:
            Series with "marginal" and "conditional".

        Example:
            >>> import jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 + Days | Subject)"
            >>> fit = hlm.fit("Reaction" + formula, data)
            >>> fit.r2().round(4).to_dict()
            {'marginal': 0.2787, 'conditional': 0.7992}
            >>> fits = hlm.fit_many(formula, data, responses=fit.simulate(2, seed=1))
            >>> list(fits.r2().columns), fits.icc().between(0.3, 0.8).tolist()
            (['marginal', 'conditional'], [True, True])
            >>> bool((fits.icc({"Days": 9}) > fits.icc({"Days": 0})).all())
            True
        """
        labels = pd.Index(["marginal", "conditional"])
        return self._show.vector(quality.r2(self.record), "r2", labels)

    def variance_fractions(self) -> Vector:
        """Shares of the variance of y by fixed term, unit, slopes and residuals; they sum to 1.

        A fixed term has the variance of its part of Xβ̂, all of them scaled to the sum var(Xβ̂), as
        ``variancePartition`` does. Units have their variance where all covariates are at their
        means, z̄'Σz̄, and their slopes Σ_jk Cov(z_j, z_k)Σ_jk. Fixed terms sum to the marginal R² of
        ``r2``, with the random ones to the conditional one. σ² is that of a row of weight 1.

        Returns:
            Series by component: the fixed terms, the grouping factor, "slopes | factor", Residual.

        Raises:
            JaxhlmError: the fits were read from a file.

        Example:
            >>> import jaxhlm as hlm
            >>> data = hlm.load_dataset("sleepstudy")
            >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", data)
            >>> fit.variance_fractions().round(3).to_dict()
            {'Days': 0.279, 'Subject': 0.432, 'Days | Subject': 0.089, 'Residual': 0.201}
        """
        values, labels = quality.variance_fractions(self.record)
        return self._show.vector(values, "variance_fractions", labels)

    def icc(self, at: Mapping[str, Any] | pd.DataFrame | None = None) -> Number | Vector:
        """Intraclass correlation σ_l²/(σ_l² + σ²), σ_l² the mean of z_j'Σz_j over the rows.

        With random slopes the correlation of two rows depends on their z; this is its value at the
        mean random-effect variance (Johnson 2014), ``performance::icc``'s "adjusted" one. With
        ``at`` it is z'Σz/(z'Σz + σ²), that of two rows of a unit which both have this z (Goldstein,
        Browne & Rasbash 2002, Understanding Statistics 1, 223-231).

        Args:
            at: values of the variables of the random part, or a frame with several such patterns.

        Returns:
            A number; for a frame a Series on its index, of a batch one column for each of its rows.

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
        values = quality.icc(self.record, at)
        if isinstance(at, pd.DataFrame):
            return self._show.vector(values, "icc", at.index)
        return self._show.number(values[:, 0], "icc")

    def varcorr_frame(self, scale: VarianceScale = "log", conf_level: float = 0.95) -> pd.DataFrame:
        """Standard deviations, correlations and σ, with standard errors and Wald limits.

        Errors come from the exact second derivatives of the criterion, REML or ML, in the variances
        (``inference/variance_errors.py``). Limits on the scale of log sd and atanh of correlations
        are those of ``nlme::intervals``; with few units those of the profile are better
        (``confint("profile")``).

        Args:
            scale: of the limits: "log", or "sd" for estimate ± z std_error, which may leave the
                range.
            conf_level: of the limits.

        Returns:
            Columns group, term, estimate, std_error, std_error_log (of log sd, or atanh of a
            correlation), conf_low, conf_high. Errors and limits are NaN where the fit is on the
            boundary, where there is no normal approximation.

        Raises:
            OptionError: another scale, or a level outside (0, 1).

        Example:
            >>> import jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 + Days | Subject)"
            >>> fit = hlm.fit("Reaction" + formula, data)
            >>> fit.varcorr_frame().drop(columns=["group", "std_error_log"]).round(2)
                                term  estimate  std_error  conf_low  conf_high
            0        sd__(Intercept)     24.74       5.84     15.58      39.28
            1               sd__Days      5.92       1.25      3.92       8.95
            2  cor__(Intercept).Days      0.07       0.33     -0.52       0.61
            3        sd__Observation     25.59       1.51     22.80      28.72
            >>> fits = hlm.fit_many(formula, data, responses=fit.simulate(2, seed=1))
            >>> fits.varcorr_frame().shape
            (8, 8)
        """
        return self._show.long(variances.variance_frame(self.record, scale, conf_level))

    def re_pca(self) -> pd.DataFrame:
        """Principal components of the random effects, as ``lme4::rePCA``.

        Of Σ/σ² of every random term: a component of standard deviation zero is a dimension that the
        estimate does not have.

        Returns:
            Columns group, component, sd (in units of σ), proportion (of the term's variance),
            cumulative, and a column of loadings for every random effect, NaN in other terms.

        Example:
            >>> import jaxhlm as hlm
            >>> data = hlm.load_dataset("sleepstudy")
            >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", data)
            >>> fit.re_pca().iloc[:, 1:4].round(3)
              component     sd  proportion
            0       PC1  0.967       0.946
            1       PC2  0.231       0.054
        """
        return self._show.long(variances.principal_components(self.record))

    def loglik_by(self, reml: bool) -> Number:
        """The log-likelihood by REML or by ML at the θ̂ of this fit, β and σ profiled.

        ``logLik(fit, REML = FALSE)`` of a fit by REML; no maximum of that likelihood unless the fit
        is by the same method (``refit_ml``).

        Args:
            reml: restricted, or full.

        Raises:
            OptionError: ``reml`` is neither True nor False.

        Example:
            >>> import jaxhlm as hlm
            >>> data = hlm.load_dataset("sleepstudy")
            >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", data)
            >>> print(f"{fit.loglik_by(reml=False):.4f} {fit.refit_ml().loglik:.4f}")
            -875.9929 -875.9697
        """
        return self._show.number(variances.loglik_by(self.record, reml), "loglik")

    def influence(self, by: Literal["group"] = "group") -> Influence:
        """Leave every group, of every fit, out in turn: exact refits of all of them at once.

        Each refit maximises the criterion of the data without the group, θ and σ included, from
        the statistics of single groups. Cook's D = (β̂ − β̂₍ᵢ₎)'Var(β̂)⁻¹(β̂ − β̂₍ᵢ₎)/p (Cook 1977);
        ``lme4``'s ``cooks.distance(influence(fit, …))`` is (G − p)/G times that.
        Columns of X stay as all rows made them (``poly``, ``center``). One that a single group
        determines leaves the fit without that group rank deficient, and so NaN, where ``fit`` would
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
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 + Days | Subject)"
            >>> fit = hlm.fit("Reaction" + formula, data)
            >>> fit.influence().cooks_distance.nlargest(2).round(4).to_dict()
            {'309': 0.1485, '335': 0.1295}
            >>> fits = hlm.fit_many(formula, data, responses=fit.simulate(2, seed=1))
            >>> influence = fits.influence()
            >>> influence.cooks_distance.shape, influence.dfbetas.loc["sim_2"].shape
            ((36,), (18, 2))
        """
        levels = self._show.unit_index(units.over_units(self.record, lambda f: ()))
        return quality.influence(self.record, by, levels)

    def refit_ml(self) -> Self:
        """The same model fitted by maximum likelihood (``lme4::refitML``); itself if it is."""
        return type(self)(likelihood_ratios.refit_ml(self.record)) if self.reml else self

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
        check_level(conf_level, "conf_level")
        se, dof, _ = coefficients.fixed_tests(self.record, df)
        return self._show.long(tidy(self.record, se, dof, conf_level))

    def glance(self) -> pd.DataFrame:
        """One row of fit statistics, as ``broom.mixed::glance``."""
        return self._show.line(summaries.glance(self.record))


def check_no_terms(test: object, df: object) -> None:
    """Raise ``OptionError`` where models are compared and a test of terms is described."""
    for name, value in (("type", test), ("df", df)):
        if value is not None:
            raise OptionError(
                f"{name}={value!r} is about tests of the terms of one model: call anova() of a fit "
                "without another"
            )
