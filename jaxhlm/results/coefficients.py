"""The fixed effects of one fit: degrees of freedom, tests, contrasts and marginal means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from jaxhlm.arguments import check_flag
from jaxhlm.design import determined_rows
from jaxhlm.inference.criteria import check_level
from jaxhlm.inference.degrees import (
    SMALL_SAMPLE,
    DfMethod,
    adjusted_vcov,
    check_df,
    inference_table,
    joint_test,
    reference_tests,
    single_tests,
    wald_f,
)
from jaxhlm.inference.hypotheses import Contrasts, independent_rows
from jaxhlm.inference.refgrid import averaged, cell_labels, cell_variables, marginal_means
from jaxhlm.inference.refgrid import pairwise as differences
from jaxhlm.inference.tails import f_tail, t_tail
from jaxhlm.notation import Floats, NotEstimable
from jaxhlm.results.effects import Units
from jaxhlm.results.means_tables import (
    MEANS,
    differences_frame,
    means_frame,
)

__all__ = ["Coefficients"]


class Coefficients(Units):
    """What is concluded about β."""

    def df(self, method: DfMethod = "satterthwaite") -> pd.Series:
        """(p,) denominator degrees of freedom of every fixed effect.

        1/df = 1/ν + δ'H⁻¹δ, derived in ``inference/information.py`` (Fai & Cornelius 1996; Kenward
        & Roger 1997). Equals lmerTest's and pbkrtest's. At a singular fit Satterthwaite's df are
        those of the model with the covariance of the rank that was found; a zero variance so drops
        out. Kenward and Roger's formula holds there as it is.

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
        """
        return pd.Series(self._tests(self._identity, method)[1], self._terms, name="df")

    def p_values(self, method: DfMethod = "satterthwaite") -> pd.Series:
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
        se, df = self._tests(self._identity, method)
        return pd.Series(t_tail(self.estimates.beta[0] / se, df), self._terms, name="p_value")

    @property
    def vcov_adj(self) -> pd.DataFrame:
        """(p, p) Kenward and Roger's adjusted covariance of β̂ (``pbkrtest::vcovAdj``); REML only.

        Raises:
            NeedsRemlError: the fit is by maximum likelihood.
        """
        check_df("kenward-roger", self.reml)
        (values,) = adjusted_vcov(self.estimates, self.standard, self.options)
        return pd.DataFrame(values[0], self._terms, self._terms)

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
        hypothesis = self.model.hypothesis(L, rhs)
        table = self._table(hypothesis.L, df, conf_level, hypothesis.rhs)
        return table.set_index(pd.Index(hypothesis.labels, name="contrast"))

    def joint_test(
        self, L: Contrasts, df: DfMethod = "satterthwaite", rhs: ArrayLike = 0.0
    ) -> pd.DataFrame:
        """F test that all rows of Lβ = rhs hold (``lmerTest::contestMD``, ``pbkrtest``).

        The statistic does not depend on how the hypothesis is written. Satterthwaite's denominator
        df do, as lmerTest's: they come from uncorrelated combinations of the rows, which are other
        ones where a row is multiplied by a number or replaced by its difference from another
        (``b, c`` or ``b, 100*c`` or ``b - c, c``). Kenward and Roger's do not.

        Args:
            L: as for ``contrast``; rows that repeat others do not count.
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
        check_df(df, self.reml)
        rows, values = independent_rows(self.model.hypothesis(L, rhs))
        if df in SMALL_SAMPLE:
            F, den = joint_test(self.estimates, self.standard, self.options, rows, values, df)
        else:
            F = wald_f(self.estimates, rows, values)
            den = reference_tests(self.estimates, np.array([self.nobs]), rows[:1], df)[1][:, 0]
        return pd.DataFrame(
            {
                "num_df": len(rows),
                "den_df": den,
                "statistic": F,
                "p_value": f_tail(F, len(rows), den),
            }
        )

    def emmeans(
        self,
        specs: str | Sequence[str],
        at: Mapping[str, Any] | None = None,
        df: DfMethod = "satterthwaite",
        *,
        pairwise: bool = False,
        conf_level: float = 0.95,
        not_estimable: NotEstimable = "nan",
    ) -> pd.DataFrame:
        """Estimated marginal means, as R's ``emmeans``.

        The average of Xβ̂ over a grid in which every combination of the levels of the factors
        occurs once and numbers are at their mean over the rows used (Searle, Speed & Milliken 1980,
        Am. Stat. 34, 216-221). R's emmeans treats a number with two values as a factor; here it is
        at its mean unless ``at`` says otherwise.

        Args:
            specs: one variable, or several whose combinations are the cells.
            at: values, one or a list, for some of the variables of the fixed part.
            df: as for the method ``df``.
            pairwise: the differences between all pairs of cells instead, with p values as they are,
                by Holm and by Tukey (studentised range).
            conf_level: of the intervals (of single means or differences).
            not_estimable: where X is rank deficient, as with an empty cell of an interaction, a
                mean or difference that the data do not determine is NaN, with a warning, or, with
                "error", raises. The p values of the others count it, as in R's emmeans.

        Returns:
            One row per cell: the levels, emmean, std_error, df, conf_low, conf_high. Or one row per
            pair: contrast, estimate, std_error, df, statistic, p_value, p_holm, p_tukey, conf_low,
            conf_high. Where X is rank deficient also ``estimable``, False where R says nonEst.

        Raises:
            UnknownTermError: ``specs`` or ``at`` names what is not in the fixed part.
            NewLevelError: ``at`` names a level that the fit has not seen.
            NotEstimableError: a mean is not estimable, under ``not_estimable="error"``.
            OptionError, NeedsRemlError: as for ``df``.

        Example:
            >>> import jaxhlm as hlm
            >>> data = hlm.load_dataset("math_achieve")
            >>> fit = hlm.fit("MathAch ~ SES + Sex + Minority + (1 | School)", data)
            >>> print(fit.emmeans("Sex")[["Sex", "emmean", "std_error"]].round(3))
                  Sex  emmean  std_error
            0  Female  11.404      0.191
            1    Male  12.634      0.194
        """
        names = cell_variables(specs)
        d, given = self.design, {} if at is None else at
        check_flag("pairwise", pairwise)
        means = {v: d._covariates[v].mean(keepdims=True) for v in averaged(d, given)}
        cells, L = marginal_means(d, names, given, means)
        labels, rows = differences(cells, L) if pairwise else (cell_labels(cells), L)
        rows = determined_rows(d, rows, labels, MEANS[pairwise], not_estimable)[0]
        columns = self._columns(rows, df, conf_level)
        if pairwise:
            frame = differences_frame(labels, columns, len(cells), names)
        else:
            frame = means_frame(cells, columns)
        if not d.dropped_columns:
            return frame
        return frame.assign(estimable=~np.isnan(rows).any(axis=1))

    @property
    def _identity(self) -> Floats:
        return np.eye(len(self.model.xnames))

    def _tests(self, L: Floats, method: DfMethod) -> tuple[Floats, Floats]:
        """Standard errors and df of contrasts (r, p), (r,) each."""
        check_df(method, self.reml)
        if method in SMALL_SAMPLE:
            se, df = single_tests(self.estimates, self.standard, self.options, L, method)
        else:
            se, df = reference_tests(self.estimates, np.array([self.nobs]), L, method)
        return se[0], df[0]

    def _table(
        self, L: Floats, method: DfMethod, level: float, rhs: Floats | float = 0.0
    ) -> pd.DataFrame:
        return pd.DataFrame(self._columns(L, method, level, rhs))

    def _columns(
        self, L: Floats, method: DfMethod, level: float, rhs: Floats | float = 0.0
    ) -> dict[str, Floats]:
        """Estimates, tests and intervals of contrasts (r, p)."""
        check_level(level, "conf_level")
        estimate, (se, df) = L @ self.estimates.beta[0], self._tests(L, method)
        return inference_table(estimate, se, df, rhs, level)
