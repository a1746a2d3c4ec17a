"""``Fit``: one fitted model, with the accessors of lme4 and the tables of broom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import pandas as pd

from jaxhlm.core.arguments import check_flag
from jaxhlm.core.document import Block
from jaxhlm.core.exported import Exported
from jaxhlm.core.notation import (
    BootstrapInterval,
    Floats,
    IntervalMethod,
    check_option,
)
from jaxhlm.core.status import Status
from jaxhlm.core.streams import Seed
from jaxhlm.core.tables import Table
from jaxhlm.design.design import Design
from jaxhlm.errors import OptionError
from jaxhlm.estimation.pipeline import Prepared
from jaxhlm.inference.contrast_tests import DfMethod
from jaxhlm.inference.term_contrasts import TestType
from jaxhlm.results import intervals, likelihood_ratios, summaries, term_tests
from jaxhlm.results.anova import Anova
from jaxhlm.results.fit_results import FitResults, check_no_terms
from jaxhlm.results.likelihood_ratios import Dropped
from jaxhlm.results.presenters import OneFit
from jaxhlm.results.record import FitRecord
from jaxhlm.results.refitting import refitted
from jaxhlm.results.simulated import simulated
from jaxhlm.results.summary_table import Summary
from jaxhlm.results.varcorr import VarCorr
from jaxhlm.statistics.response import Standardised

if TYPE_CHECKING:
    from jaxhlm.results.verify import Verification

__all__ = ["Fit", "records"]


@dataclass(frozen=True, eq=False, repr=False)
class Fit(FitResults[float, pd.Series, pd.DataFrame, Floats], Exported):
    """One fitted hierarchical linear model; made by ``jaxhlm.fit`` or by indexing a ``FitBatch``.

    All is derived from ``record``, the arrays of one fit: random effects, fitted values and
    residuals when first asked for.

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

    @cached_property
    def design(self) -> Design:
        """The rows."""
        return self.record.design(0)

    @property
    def prepared(self) -> Prepared:
        """The design, standardised when needed."""
        return self.record.responses.prepared

    @property
    def _show(self) -> OneFit:
        return OneFit(self.record)

    @property
    def nobs(self) -> int:
        """Number of rows used, n."""
        return int(self.record.nobs[0])

    @property
    def ngroups(self) -> int:
        """Number of groups, G."""
        return int(self.record.ngroups[0])

    @property
    def status(self) -> Status:
        """How the fit ended; ``status.message`` says it in words."""
        return Status(int(self.record.estimates.status[0]))

    @property
    def singular(self) -> bool:
        """Whether a variance is zero or a correlation ±1 (``lme4::isSingular``)."""
        return self.status == Status.SINGULAR

    @property
    def iterations(self) -> int:
        """Evaluations of criterion, gradient and Hessian."""
        return int(self.record.estimates.iterations[0])

    @property
    def gradient_norm(self) -> float:
        """Largest |∂ criterion/∂θ| at the estimate, on the standardised scale."""
        return float(self.record.estimates.gradient_norm[0])

    @property
    def theta(self) -> Floats:
        """(k,) free entries of Λ column by column, as ``lme4::getME(fit, "theta")``."""
        return self.record.estimates.theta[0]

    @property
    def varcorr(self) -> VarCorr:
        """Variances and correlations of the random effects."""
        return summaries.varcorr(self.record)

    @cached_property
    def standardised(self) -> Standardised:
        """Standardised statistics of the one lane, equal groups joined: what inference needs."""
        return self.record.only_lanes.standardised

    def anova(
        self,
        *others: Fit,
        refit: bool = True,
        type: TestType | None = None,
        df: DfMethod | None = None,
    ) -> Anova:
        """F tests of the terms, or likelihood ratio tests between nested models.

        With no other model an F test of every term of the fixed part, as ``lmerTest::anova``; type
        III, the default, tests marginal means over all cells with equal weights, II a term after
        all that do not contain it, I after those before it. ``inference/term_contrasts.py`` has
        the definitions. Types I and II depend on the numbers of rows; III does where cells are
        empty. Of ``a/b`` lmerTest's type III tests ``a`` at the first level of ``b``; here, as in
        SAS, it is over all levels.

        With others, models of the same rows are compared, as ``anova`` of lme4:

            χ² = −2 (ℓ_smaller − ℓ_larger)

        Models are sorted by their number of parameters and each is tested against the one before.
        Where variances are zero under the smaller model, on the boundary, the distribution of the
        statistic is a mixture of χ² (Self & Liang 1987; Stram & Lee 1994), recognised from the two
        random parts: ``Pr(mixture)`` beside ``Pr(>Chisq)``. ``inference/nesting.py`` lists what it
        covers: one more random effect in a term, with its covariances; one more in each of several
        terms; covariances alone; together with fixed effects. Two or more random effects more in
        one term have no simple mixture, and the table says so.

        Args:
            others: one or more fits.
            refit: refit by ML what was fitted by REML first, and say so. False keeps REML, for
                models with the same fixed effects.
            type: of the tests of terms, "III" by default; not with other models.
            df: of the tests of terms, as for the method ``df``, "satterthwaite" by default.

        Returns:
            ``Anova``: print it, or take ``.table``. Of terms it has the columns Sum Sq, Mean Sq
            (F σ̂², and times NumDF), NumDF, DenDF, F value, Pr(>F); NaN for a term all of whose
            columns X lost to rank deficiency. Of models it has npar, AIC, AICc, BIC, logLik,
            -2*log(L), Chisq, Df, Pr(>Chisq) and, at the boundary, Pr(mixture), mixture. Rows are
            numbered in the order of the arguments, this fit being 1.

        Raises:
            NeedsRemlError: Kenward-Roger of a fit by maximum likelihood.
            DifferentRowsError: other rows, responses or weights.
            MixedMethodsError: under ``refit=False``, REML and ML, or REML with other fixed effects.
            NotNestedError: a model is not part of the next larger one.
            OptionError: an unknown type or df, or one with other models; equal numbers of
                parameters.

        Example:
            >>> import jaxhlm as hlm
            >>> school = hlm.load_dataset("math_achieve").head(600)
            >>> print(hlm.fit("MathAch ~ SES * Sex + (1 | School)", school).anova())
            Type III Analysis of Variance Table with Satterthwaite's method
                    Sum Sq Mean Sq NumDF  DenDF F value    Pr(>F)
            SES       1978    1978     1 536.48 52.3569 1.609e-12
            Sex     285.95  285.95     1 573.89  7.5689  0.006126
            SES:Sex 4.2324  4.2324     1 595.98  0.1120     0.738
            >>> data = hlm.load_dataset("sleepstudy")
            >>> line = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", data)
            >>> flat = hlm.fit("Reaction ~ 1 + (1 + Days | Subject)", data)
            >>> print(line.anova(flat))
            Models:
            2: Reaction ~ 1 + (1 + Days | Subject)
            1: Reaction ~ Days + (1 + Days | Subject)
              npar    AIC   AICc    BIC  logLik -2*log(L)   Chisq Df Pr(>Chisq)
            2    5 1785.5 1785.8 1801.4 -887.74    1775.5
            1    6 1763.9 1764.4 1783.1 -875.97    1751.9 23.5365  1  1.226e-06
            refitted with ML (instead of REML)
            >>> level = hlm.fit("Reaction ~ Days + (1 | Subject)", data)
            >>> print(line.anova(level, refit=False).table["mixture"]["1"])
            0.5 χ²(1) + 0.5 χ²(2)
        """
        check_flag("refit", refit)
        if not others:
            return self._of_terms(term_tests.analysis_of_variance(self.record, type, df))
        check_no_terms(type, df)
        return likelihood_ratios.between_models(records([self, *others]), refit)

    def rand_test(self, drop: Dropped = "each") -> Anova:
        """Every random effect dropped in turn, in the manner of ``lmerTest::ranova``, or all.

        By the criterion of the fit, REML or ML, from the statistics of this fit. Dropping the only
        random effect leaves the linear model, whose likelihood is known in closed form. So of
        ``(0 + x | g)`` too, as ``ranova(fit, reduce.terms = FALSE)``; ranova by default puts
        ``(1 | g)`` in its place, which is not nested in it, has as many parameters (0 df), and is
        no test that x varies. The intercept of ``(1 + x | g)`` has a row of its own here, and none
        in ranova.

        Args:
            drop: "each", or "all" of them at once: the test against the linear model without random
                effects, ``anova(fit, lm(…), refit = FALSE)``.

        Returns:
            ``Anova`` with columns npar, logLik, AIC, LRT, Df, Pr(>Chisq), which is ranova's and
            conservative, and Pr(mixture) with its distribution ½ χ²(c) + ½ χ²(c + 1), c the
            covariances of the random effect with others (Stram & Lee 1994); of all at once that of
            independent terms of one effect each, NaN where a term has two or more.

        Raises:
            OptionError: another ``drop``.

        Example:
            >>> import jaxhlm as hlm
            >>> data = hlm.load_dataset("sleepstudy")
            >>> fit = hlm.fit("Reaction ~ Days + (1 | Subject)", data)
            >>> fit.rand_test().table[["npar", "logLik", "LRT"]].round(2)
                           npar  logLik     LRT
            <none>            4 -893.23    NaN
            (1 | Subject)     3 -946.83  107.2
        """
        return likelihood_ratios.random_effect_tests(self.record, drop)

    def confint(
        self,
        method: IntervalMethod = "wald",
        level: float = 0.95,
        parm: str | Sequence[str] | None = None,
        *,
        n: int = 1000,
        seed: Seed = None,
        interval: BootstrapInterval = "percentile",
    ) -> pd.DataFrame:
        """Confidence intervals, (P, 2); ``lme4::confint(fit, method = …, oldNames = FALSE)``.

        "wald" gives β̂ ± z se for the fixed effects. "profile" gives all v with

            min { d(β, θ, σ) : parameter = v } − min d ≤ z²,     z² = χ²_1(level)

        for standard deviations and correlations of the random effects, σ, and fixed effects (Bates
        et al. 2015, section 5.1), d being the ML deviance: a REML fit is refitted by ML first, as
        in lme4. Limits are where the profile crosses z², found to 1e-7 in ζ and not read off a
        spline. At the boundary: a standard deviation whose profile stays below z² has the lower
        limit 0; a correlation likewise −1 or 1, and both where one of its variances may be zero.
        NaN means that no limit was found, or that the profile fell below the fit, which then is
        not the global optimum.

        "boot" gives the same parameters limits from a parametric bootstrap, which keeps REML or ML;
        more bootstraps are in ``jaxhlm.bootstrap``.

        Names are lme4's here and broom.mixed's in ``tidy``: of ``(1 + x | unit)`` "sd_x|unit" is
        there "sd__x" of the group unit, "cor_x.(Intercept)|unit" is "cor__(Intercept).x", and
        "sigma" is "sd__Observation".

        Args:
            method: "wald", "profile" or "boot".
            level: confidence level.
            parm: names of parameters, such as "sd_x|unit", "cor_x.(Intercept)|unit", "sigma" or a
                fixed effect's; all if None, in lme4's order.
            n: bootstrap replicates.
            seed: of the bootstrap: int, NumPy Generator or JAX key.
            interval: of the bootstrap: "percentile", "basic", "normal" or "bca".

        Returns:
            Rows by parameter, columns such as "2.5 %" and "97.5 %".

        Raises:
            OptionError: unknown method, interval or parameter, or a level outside (0, 1).

        Example:
            >>> import jaxhlm as hlm
            >>> data = hlm.load_dataset("sleepstudy")
            >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", data)
            >>> fit.confint("profile").round(2)
                                            2.5 %  97.5 %
            term
            sd_(Intercept)|Subject          14.38   37.72
            cor_Days.(Intercept)|Subject    -0.48    0.69
            sd_Days|Subject                  3.80    8.75
            sigma                           22.90   28.86
            (Intercept)                    237.68  265.13
            Days                             7.36   13.58
        """
        check_option("method", method, IntervalMethod)
        if method == "boot":
            options = level, parm, n, seed, interval
            return intervals.bootstrap_confint(self.record, *options).set_index("term")
        return intervals.confint(self.record, method, level, parm).set_index("term")

    def profile(
        self, parm: str | Sequence[str] | None = None, level: float = 0.99, points: int = 15
    ) -> pd.DataFrame:
        """Profiles to plot: the signed root of the rise of the ML deviance, by parameter.

            ζ(v) = sign(v − v̂) √(min { d : parameter = v } − min d)

        A straight line is where the Wald interval is right (Bates et al. 2015, section 5.1). Equals
        ``lme4::profile(fit)`` at the same values.

        Args:
            parm: names of parameters, as for ``confint``; all if None.
            level: how far the profiles reach, on either side.
            points: values per parameter, an odd number of which the middle one is the estimate.

        Returns:
            Long frame with columns term, value, zeta; NaN where a limit could not be found.

        Raises:
            OptionError: unknown parameter, a level outside (0, 1), or an even number of points.

        Example:
            >>> import jaxhlm as hlm
            >>> fit = hlm.fit("Reaction ~ Days + (1 | Subject)", hlm.load_dataset("sleepstudy"))
            >>> fit.profile("Days", points=5).round(2)
               term  value  zeta
            0  Days   8.38 -2.58
            1  Days   9.42 -1.30
            2  Days  10.47  0.00
            3  Days  11.51  1.30
            4  Days  12.55  2.58
        """
        return intervals.profile_frame(self.record, parm, level, points)

    def simulate(
        self,
        n: int = 1,
        seed: Seed = None,
        *,
        newdata: Table | None = None,
        use_ranef: bool | str = False,
    ) -> pd.DataFrame:
        """Responses drawn from the fitted model, of the same rows or of new ones.

            y = Xβ̂ + Zb + ε,     b ~ N(0, Σ̂) by unit,     ε ~ N(0, σ̂²/w)

        Args:
            n: number of responses.
            seed: int, NumPy Generator or JAX key; replicate i is the same for every n.
            newdata: table with the columns of the formula (the response is not needed), as for
                ``predict``; rows with the same label are of one unit, new or not. The rows that
                were fitted if None. New rows have weight 1.
            use_ranef: False draws random effects anew in every replicate, of old units too. True
                keeps the predicted ones of the units in the data (``use.u = TRUE`` in lme4), so
                that the mean is ``predict``'s; those of new units are drawn, where lme4 has zero.
                Text, such as "(1 | unit)", keeps those of such terms (``re.form``), and draws the
                others; terms whose effects correlate are kept whole.

        Returns:
            (rows, n) DataFrame on the row labels; NaN where a row of ``newdata`` lacks a value or
            is not estimable.

        Raises:
            OptionError: ``n``, ``seed`` or ``use_ranef`` is not of its kind, or part of a term with
                correlated effects is kept.
            FormulaError, UnknownTermError: as for the ``ranef`` of ``predict``.
            MissingColumnError: a column of the formula is not in ``newdata``.
            NewLevelError: an unseen level of a fixed factor.

        Example:
            >>> import jaxhlm as hlm
            >>> data = hlm.load_dataset("sleepstudy")
            >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", data)
            >>> fit.simulate(2, seed=1).shape
            (180, 2)
            >>> later = data.tail(2).assign(Days=[10, 11])
            >>> fit.simulate(1000, seed=1, newdata=later, use_ranef=True).mean(axis=1).round()
            178    381.0
            179    393.0
            dtype: float64
            >>> fit.predict(later).round().to_list()
            [381.0, 393.0]
        """
        return simulated(self.record, n, seed, newdata, use_ranef)

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
        return Fit(refitted(self.record, y))

    def verify(self) -> Verification:
        """Refit with the NumPy reference and report the differences; print it for one line."""
        from jaxhlm.results.verify import verify_lanes

        fits = [(self.design, self.estimates)] if self.record.ok.all() else []
        return verify_lanes(fits, self.reml)

    def summary(self, df: DfMethod | None = None) -> Summary:
        """lmer's summary; ``print(fit)`` shows the same.

        Args:
            df: add degrees of freedom and p values by this method, as lmerTest's summary does.

        Raises:
            OptionError, NeedsRemlError: as for the method ``df``.
        """
        return summaries.summary(self.record, df)

    def _blocks(self) -> list[Block]:
        """lmer's summary."""
        return self.summary()._blocks()


def records(fits: Sequence[Fit]) -> list[FitRecord]:
    """The records of single fits.

    Raises:
        OptionError: something else is among them.
    """
    for one in fits:
        if not isinstance(one, Fit):
            raise OptionError(
                f"{type(one).__name__} is no Fit; give fits one after another, and refit= by name"
            )
    return [one.record for one in fits]
