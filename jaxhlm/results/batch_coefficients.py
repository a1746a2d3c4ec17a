"""The fixed effects of many fits: degrees of freedom, tests and contrasts, all lanes at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from jaxhlm.arguments import check_flag
from jaxhlm.design import determined_rows
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
from jaxhlm.inference.hypotheses import Contrasts, independent_rows
from jaxhlm.inference.refgrid import averaged, cell_labels, cell_variables, marginal_means
from jaxhlm.inference.refgrid import pairwise as differences
from jaxhlm.inference.tails import f_tail, t_tail
from jaxhlm.notation import Bools, Floats, Ints, NotEstimable
from jaxhlm.results.batch_effects import BatchUnits
from jaxhlm.results.means_tables import MEANS, differences_frame, means_frame
from jaxhlm.rows.response import Standard, at_absent

__all__ = ["BatchCoefficients"]


class BatchCoefficients(BatchUnits):
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
        found = self.over_lanes(lambda e, s: adjusted_vcov(e, s, self.options))[0]
        return at_absent(found, self.estimates.absent)

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
        hypothesis = self.model.hypothesis(L, rhs)
        about = self._about_absent(hypothesis.L)
        self._tell_not_estimable(about, hypothesis.labels, "contrasts")
        L_known = _without(hypothesis.L, about)
        columns = self._table(L_known, df, conf_level, hypothesis.rhs)
        r, labels = len(hypothesis.labels), pd.Index(hypothesis.labels, name="contrast")
        rows = self._below(np.full(len(self), r), labels, np.tile(np.arange(r), len(self)))
        return pd.DataFrame({name: values.ravel() for name, values in columns.items()}, rows)

    def joint_test(
        self, L: Contrasts, df: DfMethod = "satterthwaite", rhs: ArrayLike = 0.0
    ) -> pd.DataFrame:
        """F tests that all rows of Lβ = rhs hold, one row per fit; arguments as ``Fit``'s."""
        check_df(df, self.reml)
        hypothesis = self.model.hypothesis(L, rhs)
        rows, values = independent_rows(hypothesis)
        about = self._about_absent(hypothesis.L)
        self._tell_not_estimable(about, hypothesis.labels, "contrasts")
        if df in SMALL_SAMPLE:
            F, den = self.over_lanes(lambda e, s: joint_test(e, s, self.options, rows, values, df))
        else:
            F = wald_f(self._filled, rows, values)
            den = reference_tests(self.estimates, self.nobs, rows[:1], df)[1][:, 0]
        F, den = (np.where(about.any(axis=1), np.nan, x) for x in (F, den))
        return pd.DataFrame(
            {
                "num_df": len(rows),
                "den_df": den,
                "statistic": F,
                "p_value": f_tail(F, len(rows), den),
            },
            index=self.index,
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
        """Estimated marginal means of every fit; arguments and errors as for ``Fit.emmeans``.

        The cells are the same in all fits. A number that is not in ``at`` stands at its mean over
        the rows of each fit, so that every row equals what the fit alone would give; but for data
        sets without a row of some level, which is a cell here, and counts in means over the levels
        of its factor (NaN) and in families of tests.

        Returns:
            The columns of ``Fit.emmeans`` after ``fit``; one row per fit and cell, or pair of
            cells, and NaN where the fit failed.

        Raises:
            JaxhlmError: the fits were read from a file.

        Example:
            >>> import jaxhlm as hlm
            >>> data = hlm.load_dataset("math_achieve")
            >>> formula = "~ SES + Sex + (1 | School)"
            >>> Y = hlm.fit("MathAch" + formula, data).simulate(2, seed=1)
            >>> fits = hlm.fit_many(formula, data, responses=Y)
            >>> fits.emmeans("Sex")[["fit", "Sex"]]
                 fit     Sex
            0  sim_1  Female
            1  sim_1    Male
            2  sim_2  Female
            3  sim_2    Male
        """
        check_flag("pairwise", pairwise)
        source, given = self._rows(), {} if at is None else at
        if source.design.learned_apart and len(self) > 1:
            tables = [
                fit.emmeans(
                    specs, at, df, pairwise=pairwise, conf_level=conf_level,
                    not_estimable=not_estimable,
                )
                for fit in self._singly()
            ]  # fmt: skip
            return pd.concat(tables, ignore_index=True)
        names = cell_variables(specs)
        numbers = averaged(source.design, given)

        def means(at: Ints) -> tuple[Floats]:
            found = source.means(self.lanes[at], numbers)
            return (np.broadcast_to(found, (len(at), len(numbers))),)

        # Most often all fits share their rows, and one grid serves them.
        grids, which = np.zeros((1, 0)), np.zeros(len(self), int)
        if numbers:
            grids, which = np.unique(self._over_chunks(means)[0], axis=0, return_inverse=True)
        cells, L = marginal_means(
            source.design.of_lane(self.lanes[0]),
            names,
            given,
            dict(zip(numbers, grids.T, strict=True)),
        )
        count = L.shape[1]
        labels, L = differences(cells, L) if pairwise else (cell_labels(cells), L)
        L = determined_rows(source.design, L, labels, MEANS[pairwise], not_estimable)
        own = L[0] if len(L) == 1 else L[which.ravel()]
        about, rows = self._about_absent(own), L.shape[1]
        self._tell_not_estimable(about, labels[:rows], MEANS[pairwise], not_estimable)
        columns = self._table(_without(own, about), df, conf_level)
        at_cell = (which.reshape(-1, 1) * rows + np.arange(rows)).ravel()
        if pairwise:
            frame = differences_frame([labels[i] for i in at_cell], columns, count, names)
        else:
            frame = means_frame(cells.iloc[at_cell].reset_index(drop=True), columns)
        frame.insert(0, "fit", self.index.repeat(rows))
        if not (source.design.dropped_columns or self.estimates.absent.any()):
            return frame
        known = np.isfinite(L).all(axis=2).ravel()[at_cell]
        known &= np.repeat(self.estimates.known, rows)
        return frame.assign(estimable=known & ~about.ravel())

    def _table(
        self, L: Floats, method: DfMethod, level: float, rhs: Floats | float = 0.0
    ) -> dict[str, Floats]:
        """Columns (B, r) of estimates, tests and intervals of contrasts (r, p) or (B, r, p)."""
        check_level(level, "conf_level")
        se, df = self._tests(L, method)[:2]
        return inference_table(_values(L, self._filled), se, df, rhs, level)

    def _coefficients(self, method: DfMethod) -> tuple[Floats, ...]:
        """Standard errors, df and p values of the fixed effects, kept for the next call.

        Small-sample ones may also come from the file that the fits were read from.
        """
        check_df(method, self.reml)
        if method not in self._known:
            L = np.eye(len(self.model.xnames))
            self._known[method] = self._tests(_without(L, self._about_absent(L)), method)
        return self._known[method]

    @cached_property
    def _known(self) -> dict[str, tuple[Floats, ...]]:
        return {}

    def _tests(self, L: Floats, method: DfMethod) -> tuple[Floats, ...]:
        """Standard errors, df and p values of Lβ = 0, (B, r), for L (r, p) or (B, r, p)."""
        check_df(method, self.reml)
        if method in SMALL_SAMPLE:
            source = self._rows()

            def one(at: Ints) -> tuple[Floats, ...]:
                standard, own = source.standard(self.lanes[at]), L if L.ndim == 2 else L[at]
                return _small_sample(self._filled[at], standard, self.options, own, method)

            return self._over_chunks(one)
        se, df = reference_tests(self.estimates, self.nobs, L, method)
        return se, df, _tails(L, self._filled, se, df)


def _without(L: Floats, about: Bools) -> Floats:
    """Contrasts (r, p) or (B, r, p), NaN where they are ``about`` absent columns, (B, r)."""
    return np.where(about[:, :, None], np.nan, L) if about.any() else L


def _small_sample(
    estimates: Estimates, standard: Standard, options: Options, L: Floats, method: DfMethod
) -> tuple[Floats, Floats, Floats]:
    """The tails take as long as the df: both belong on all cores."""
    se, df = single_tests(estimates, standard, options, L, method)
    return se, df, _tails(L, estimates, se, df)


def _tails(L: Floats, estimates: Estimates, se: Floats, df: Floats) -> Floats:
    """Two-sided p values (B, r) of Lβ = 0; NaN for a row of zeros."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return t_tail(_values(L, estimates) / se, df)


def _values(L: Floats, estimates: Estimates) -> Floats:
    """Lβ̂ (B, r) for L (r, p) or (B, r, p)."""
    return (L @ estimates.beta[..., None])[..., 0]
