"""``CoefficientResults``: tests of the fixed effects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from jaxhlm.estimation.hypotheses import Contrasts
from jaxhlm.inference.contrast_tests import DfMethod
from jaxhlm.inference.robust import RobustKind
from jaxhlm.results import coefficients, quality, term_tests
from jaxhlm.results.anova import Anova
from jaxhlm.results.estimated import Estimated
from jaxhlm.results.presenters import Each, Matrix, Number, Vector
from jaxhlm.results.term_tests import TermTable

__all__ = ["CoefficientResults"]

Clusters: TypeAlias = pd.Series | Sequence[Any] | np.ndarray[Any, Any]


class CoefficientResults(Estimated[Number, Vector, Matrix, Each]):
    """Degrees of freedom, p values, contrasts and robust standard errors of the fixed effects."""

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

    def vcov_robust(self, kind: RobustKind = "CR2", *, cluster: Clusters | None = None) -> Matrix:
        """Cluster-robust covariance of the fixed effects, groups or what they lie in as clusters.

        M [Σ X_i'V_i⁻¹A_i e_i e_i'A_i'V_i⁻¹X_i] M with M = (Σ X_i'V_i⁻¹X_i)⁻¹: right for large G
        even where the fitted covariance of y is not (Liang & Zeger 1986; for CR2 Bell & McCaffrey
        2002). Equals ``clubSandwich::vcovCR(fit, type = kind)`` where there are no prior weights;
        with weights, A_i of CR2 is made for the rows scaled by √w. Of a coefficient that is not
        estimable without a certain group (one treated group) the variance is far too small: that
        group's residuals are zero where they would count.

        Args:
            kind: "CR0" (A_i = I), "CR1" (CR0 × G/(G − 1)), "CR2" (unbiased if the model is right).
            cluster: labels of larger clusters, by row of the data (``data["district"]``); every
                group lies in one. Groups are the clusters if None.

        Returns:
            (p, p) DataFrame. Of a coefficient that is not estimable without a certain group a
            ``DegenerateWarning`` says so; it is NaN where nothing but rounding is left.

        Raises:
            OptionError: unknown kind; ``cluster`` is not aligned with the data, has missing values,
                or differs within a group.

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
        return self._show.matrix(quality.robust(self.record, kind, cluster).vcov)

    def tidy_robust(
        self,
        kind: RobustKind = "CR2",
        conf_level: float = 0.95,
        *,
        cluster: Clusters | None = None,
    ) -> pd.DataFrame:
        """t tests of the fixed effects with cluster-robust standard errors.

        df = (tr P)²/tr(P²), Satterthwaite's for the robust variance under the fitted model (Bell &
        McCaffrey 2002). Equals ``clubSandwich::coef_test(fit, vcov = kind)`` without weights.

        Args:
            kind, cluster: as for ``vcov_robust``.
            conf_level: of the intervals.

        Returns:
            Columns term, estimate, std_error, statistic, df, p_value, conf_low, conf_high; NaN as
            for ``vcov_robust``.

        Raises:
            OptionError: as for ``vcov_robust``, or a level outside (0, 1).

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
        return self._show.long(quality.tidy_robust(self.record, kind, conf_level, cluster))

    def joint_test_robust(
        self,
        L: Contrasts,
        kind: RobustKind = "CR2",
        rhs: ArrayLike = 0.0,
        *,
        cluster: Clusters | None = None,
    ) -> pd.DataFrame:
        """F test that all rows of Lβ = rhs hold, with cluster-robust covariances.

        Hotelling's T² with ν degrees of freedom for r rows (Tipton & Pustejovsky 2015, HTZ):

            (ν − r + 1)/(ν r) (Lβ̂ − rhs)'(L V L')⁻¹(Lβ̂ − rhs) ~ F(r, ν − r + 1)

        for few clusters, where χ² rejects far too often; ``inference/robust_wald.py`` has ν. Equals
        ``clubSandwich::Wald_test(fit, L, vcov = kind, test = "HTZ")`` without weights.

        Args:
            L, rhs: as for ``joint_test``; the name of a term stands for all of its columns.
            kind, cluster: as for ``vcov_robust``.

        Returns:
            One row: num_df, den_df, statistic, p_value; NaN as for ``vcov_robust``, and where ν is
            r − 1 or less: there are too few clusters for so many rows.

        Raises:
            UnknownTermError, ContrastError, NotEstimableError: as for ``contrast``.
            OptionError: as for ``vcov_robust``.

        Example:
            >>> import jaxhlm as hlm
            >>> fit = hlm.fit("y ~ x * a + (1 + x | unit)", hlm.load_dataset("article"))
            >>> fit.joint_test_robust("a = 0, x:a = 0").round(3).iloc[0].to_dict()
            {'num_df': 2.0, 'den_df': 8.244, 'statistic': 18.308, 'p_value': 0.001}
        """
        return self._show.line(quality.robust_joint_test(self.record, L, kind, rhs, cluster))
