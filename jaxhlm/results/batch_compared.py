"""Comparing and bounding many fits at once: ``refit_ml``, ``anova``, ``rand_test``, ``confint``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
import pandas as pd

from jaxhlm.arguments import check_flag
from jaxhlm.design import Design
from jaxhlm.errors import DifferentRowsError, OptionError
from jaxhlm.estimates import Estimates
from jaxhlm.inference.criteria import check_level, limit_names, standard_errors, wald_interval
from jaxhlm.inference.mixtures import Mixture, likelihood_ratio
from jaxhlm.inference.nesting import null_law
from jaxhlm.inference.parameters import choose, parameters
from jaxhlm.inference.profiles import profile_limits
from jaxhlm.inference.random_terms import dropped_criteria
from jaxhlm.notation import Floats, check_option
from jaxhlm.pipeline import fit_standard
from jaxhlm.results.anova import REFITTED, Anova, Criterion, check_different
from jaxhlm.results.batch_quality import BatchQuality
from jaxhlm.results.compared import check_methods, check_same_rows, dropped_table
from jaxhlm.rows.response import Standard

__all__ = ["BatchCompared"]

BatchInterval = Literal["wald", "profile"]
# y'y of the same responses through two designs agrees to this.
SAME = 1e-9


class BatchCompared(BatchQuality):
    """The comparisons and intervals of ``Fit``, for every fit of a batch."""

    def refit_ml(self) -> Self:
        """The same models fitted by maximum likelihood; themselves if they are."""
        if not self.reml:
            return self
        options = replace(self.options, reml=False)

        def refit(_: Estimates, standard: Standard) -> tuple[Floats, ...]:
            found = fit_standard(standard, options)
            return tuple(getattr(found, name) for name in Estimates.__dataclass_fields__)

        arrays: Any = self.over_lanes(refit)
        estimates = Estimates(*arrays)
        model = replace(self.model, reml=False)
        return replace(self, model=model, options=options, estimates=estimates)

    def anova(self, other: BatchCompared, refit: bool = True) -> Anova:
        """Likelihood ratio tests of every fit against the same data set's fit in another batch.

        The smaller model is told by its number of parameters; ``Fit.anova`` says what is tested
        and how the boundary is treated.

        Args:
            other: fits of the same data sets, in the same order.
            refit: refit by ML what was fitted by REML first, and say so.

        Returns:
            ``Anova``; ``.table`` has one row per fit with columns statistic, df, p_value, p_mixture
            (p_value again if nothing is at the boundary, NaN if there is no simple mixture); NaN
            where one of the two fits failed.

        Raises:
            DifferentRowsError, MixedMethodsError, NotNestedError, OptionError: as for
                ``Fit.anova``.

        Example:
            >>> import jaxhlm as hlm
            >>> data = hlm.load_dataset("sleepstudy")
            >>> Y = hlm.fit("Reaction ~ Days + (1 | Subject)", data).simulate(30, seed=1)
            >>> line = hlm.fit_many("~ Days + (1 + Days | Subject)", data, Y)
            >>> level = hlm.fit_many("~ Days + (1 | Subject)", data, Y)
            >>> tests = line.anova(level, refit=False).table
            >>> tests.shape, bool((tests["p_mixture"] <= tests["p_value"]).all())
            ((30, 4), True)
        """
        check_flag("refit", refit)
        if not isinstance(other, BatchCompared):
            raise OptionError(
                f"{type(other).__name__} is no FitBatch; compare batches with batches"
            )
        batches = sorted([self, other], key=lambda fits: fits.model.n_parameters)
        designs = self._same_data(other, batches)
        models = [Criterion("", f.model.formula, f.model.n_parameters, 0.0, 0) for f in batches]
        check_different(models)
        refitted = refit and any(f.reml for f in batches)
        if refitted:
            batches = [f.refit_ml() for f in batches]
        check_methods([f.reml for f in batches], designs)
        smaller, larger = (f.estimates.criterion for f in batches)
        statistic = likelihood_ratio(smaller, larger)
        df = models[1].parameters - models[0].parameters
        law = null_law(*designs)
        table = pd.DataFrame(
            {
                "statistic": statistic,
                "df": df,
                "p_value": Mixture.regular(df).p_value(statistic),
                "p_mixture": np.nan if law is None else law.p_value(statistic),
            },
            index=self.index,
        )
        # Fits of data sets that do not have all columns of the larger model.
        own_df = batches[1]._n_parameters - batches[0]._n_parameters
        for i in np.flatnonzero((own_df != df) & self.ok & other.ok).tolist():
            own = null_law(*(f._design(i) for f in batches)) if own_df[i] > 0 else None
            naive = Mixture.regular(own_df[i]).p_value(statistic[i]) if own_df[i] > 0 else np.nan
            mixed = np.nan if own is None else own.p_value(statistic[i])
            table.iloc[i] = [statistic[i], own_df[i], naive, mixed]
        heading = f"{models[1].formula}\nagainst {models[0].formula}, {len(self)} fits"
        name = "no simple mixture of χ² (p_value is conservative)" if law is None else str(law)
        notes = (f"Law under the smaller model: {name}",)
        return Anova(heading, table, ((REFITTED,) if refitted else ()) + notes)

    def rand_test(self) -> pd.DataFrame:
        """Every random effect of every fit dropped in turn; see ``Fit.rand_test``.

        Returns:
            One row per fit and row of ``Fit.rand_test().table``: fit, term, and its columns; NaN
            where the fit failed.
        """

        def dropped(estimates: Estimates, standard: Standard) -> tuple[Floats]:
            return (dropped_criteria(estimates, standard, self.options),)

        (criteria,) = self.over_lanes(dropped)
        table = dropped_table(self.model, self._n_parameters, self.estimates.criterion, criteria)
        table.insert(0, "fit", self.index.repeat(len(table) // max(len(self), 1)))
        return table

    def confint(
        self,
        method: BatchInterval = "wald",
        level: float = 0.95,
        parm: str | Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Confidence intervals of every fit; method, level and parm as for ``Fit.confint``.

        Returns:
            One row per fit and parameter: fit, term and the two limits, such as "2.5 %" and
            "97.5 %"; NaN where the fit failed.

        Raises:
            OptionError: as for ``Fit.confint``; "boot" too, which takes one fit: ``fits[0]``.
        """
        check_option("method", method, BatchInterval)
        check_level(level)
        known = parameters(self.model)
        if method == "wald":
            wanted = choose([p for p in known if p.kind == "fixed"], parm)
            at = [p.at[0] for p in wanted]
            se = standard_errors(self.estimates.vcov)[:, at]
            limits = np.stack(wald_interval(self.estimates.beta[:, at], se, level), axis=2)
        else:
            wanted = choose(known, parm)

            def profile(_: Estimates, standard: Standard) -> tuple[Floats]:
                return (profile_limits(standard, self.model.blocks, wanted, level),)

            (limits,) = self.over_lanes(profile)
            for k, p in enumerate(wanted):
                if p.kind == "fixed":
                    limits[self.estimates.absent[:, p.at[0]], k] = np.nan
        names = np.array([p.name for p in wanted], dtype=object)
        frame = pd.DataFrame(
            {"fit": self.index.repeat(len(wanted)), "term": np.tile(names, len(self))}
        )
        return frame.assign(**dict(zip(limit_names(level), limits.reshape(-1, 2).T, strict=True)))

    def _same_data(self, other: BatchCompared, batches: Sequence[BatchCompared]) -> list[Design]:
        """Designs of one data set under both models, once it is sure that the data are the same."""
        if not self.index.equals(other.index):
            raise DifferentRowsError(
                f"the batches hold {len(self)} and {len(other)} fits with other labels; compare "
                "fits of the same data sets in the same order"
            )
        both = np.flatnonzero(self.ok & other.ok)
        if not len(both):
            raise DifferentRowsError("no data set was fitted by both models; see fits.status")
        same = np.isclose(self._sizes(), other._sizes(), rtol=SAME, atol=0.0, equal_nan=True)
        wrong = both[~(same & (self.nobs == other.nobs))[both]]
        if len(wrong):
            raise DifferentRowsError(
                f"fit {self.index[wrong[0]]!r} has other rows or responses in the two batches; fit "
                "both models to the same rows"
            )
        # The law is told by a data set that has all columns of both models, where there is one.
        lacking = sum(f.estimates.absent.sum(axis=1) for f in batches)
        i = int(both[np.argmin(lacking[both])])
        designs = [f._design(i) for f in batches]
        check_same_rows(*designs)
        return designs

    def _sizes(self) -> Floats:
        """y'Wy of every data set."""

        def size(_: Estimates, standard: Standard) -> tuple[Floats]:
            scaling = standard.scaling
            return (scaling.n * (scaling.s**2 + (scaling.beta_ols**2).sum(axis=0)),)

        return self.over_lanes(size)[0]
