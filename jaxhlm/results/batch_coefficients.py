"""The fixed effects of many fits: degrees of freedom, tests and contrasts, all lanes at once."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from jaxhlm.engine.minimum import Options
from jaxhlm.estimates import Estimates
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
from jaxhlm.inference.hypotheses import Contrasts, Hypothesis, independent_rows, read_hypothesis
from jaxhlm.inference.tails import f_tail, t_tail
from jaxhlm.notation import Floats
from jaxhlm.results.batch_accessors import BatchAccessors
from jaxhlm.rows.response import Standard

__all__ = ["BatchCoefficients"]


class BatchCoefficients(BatchAccessors):
    """What is concluded about β in every fit; NaN where a fit failed."""

    def df(self, method: DfMethod = "satterthwaite") -> pd.DataFrame:
        """(B, p) degrees of freedom of every fixed effect; arguments as ``Fit.df``.

        Example:
            >>> import jaxhlm as hlm
            >>> design = hlm.design("~ x * a + (1 + x | unit)", hlm.load_dataset("article"))
            >>> truth = hlm.Truth.of([1, 3, -0.15, 0.3], sd=[0.2, 0.5], sigma=0.75)
            >>> fits = hlm.simulate(design, truth, n=100, seed=1).fit()
            >>> fits.df().shape, bool((fits.df("kenward-roger")["x"] - 28 < 1e-9).all())
            ((100, 4), True)
        """
        return self._frame(self._coefficients(method)[1])

    def p_values(self, method: DfMethod = "satterthwaite") -> pd.DataFrame:
        """(B, p) two-sided p values of β = 0; arguments as ``Fit.p_values``."""
        return self._frame(self._coefficients(method)[2])

    @property
    def vcov_adj(self) -> Floats:
        """(B, p, p) Kenward and Roger's adjusted covariances of β̂; REML only."""
        check_df("kenward-roger", self.reml)
        return self.over_lanes(lambda e, s: adjusted_vcov(e, s, self.options))[0]

    def contrast(
        self,
        L: Contrasts,
        df: DfMethod = "satterthwaite",
        rhs: ArrayLike = 0.0,
        conf_level: float = 0.95,
    ) -> pd.DataFrame:
        """Estimates and t tests of linear combinations Lβ = rhs; arguments as ``Fit.contrast``.

        Returns:
            One row per fit and contrast, indexed by both.
        """
        hypothesis = self._hypothesis(L, rhs)
        columns = self._table(hypothesis.L, df, conf_level, hypothesis.rhs)
        fit = self.index.rename(self.index.name or "fit")
        rows = pd.MultiIndex.from_product([fit, hypothesis.labels], names=[fit.name, "contrast"])
        return pd.DataFrame({name: values.ravel() for name, values in columns.items()}, rows)

    def joint_test(
        self, L: Contrasts, df: DfMethod = "satterthwaite", rhs: ArrayLike = 0.0
    ) -> pd.DataFrame:
        """F tests that all rows of Lβ = rhs hold, one row per fit; arguments as ``Fit``'s."""
        check_df(df, self.reml)
        rows, values = independent_rows(self._hypothesis(L, rhs))
        if df in SMALL_SAMPLE:
            F, den = self.over_lanes(lambda e, s: joint_test(e, s, self.options, rows, values, df))
        else:
            F = wald_f(self.estimates, rows, values)
            den = reference_tests(self.estimates, self.nobs, rows[:1], df)[1][:, 0]
        return pd.DataFrame(
            {
                "num_df": len(rows),
                "den_df": den,
                "statistic": F,
                "p_value": f_tail(F, len(rows), den),
            },
            index=self.index,
        )

    def _table(
        self, L: Floats, method: DfMethod, level: float, rhs: Floats | float = 0.0
    ) -> dict[str, Floats]:
        """Columns (B, r) of estimates, tests and intervals of contrasts (r, p)."""
        check_level(level)
        se, df = self._tests(L, method)[:2]
        return inference_table(self.estimates.beta @ L.T, se, df, rhs, level)

    def _coefficients(self, method: DfMethod) -> tuple[Floats, ...]:
        """Standard errors, df and p values of the fixed effects, kept for the next call."""
        if method not in self._known:
            self._known[method] = self._tests(np.eye(len(self.model.xnames)), method)
        return self._known[method]

    @cached_property
    def _known(self) -> dict[str, tuple[Floats, ...]]:
        return {}

    def _tests(self, L: Floats, method: DfMethod) -> tuple[Floats, ...]:
        """Standard errors and df of contrasts (r, p), and p values of Lβ = 0; (B, r) each."""
        check_df(method, self.reml)
        if method in SMALL_SAMPLE:
            return self.over_lanes(lambda e, s: _small_sample(e, s, self.options, L, method))
        se, df = reference_tests(self.estimates, self.nobs, L, method)
        return se, df, t_tail(self.estimates.beta @ L.T / se, df)

    def _hypothesis(self, L: Contrasts, rhs: ArrayLike) -> Hypothesis:
        p = len(self.model.xnames)
        return read_hypothesis(L, rhs, self.model.xnames, (), np.zeros((p, 0)))


def _small_sample(
    estimates: Estimates, standard: Standard, options: Options, L: Floats, method: DfMethod
) -> tuple[Floats, Floats, Floats]:
    """The tails take as long as the df: both belong on all cores."""
    se, df = single_tests(estimates, standard, options, L, method)
    return se, df, t_tail(estimates.beta @ L.T / se, df)
