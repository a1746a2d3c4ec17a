"""``FitBatch``: many fits at once, the names of ``Fit`` with a leading axis of fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any, Literal, overload

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jaxhlm.core.arguments import check_flag, whole_number
from jaxhlm.core.document import Block, Printed
from jaxhlm.core.notation import Array, Bools, Floats, Ints, ResponsesIn, check_option
from jaxhlm.core.status import tally
from jaxhlm.core.tables import Table
from jaxhlm.design.columns import Weights
from jaxhlm.errors import OptionError
from jaxhlm.estimation.estimates import Estimates
from jaxhlm.inference.contrast_tests import DfMethod
from jaxhlm.inference.term_contrasts import TestType
from jaxhlm.results import (
    coefficients,
    intervals,
    likelihood_ratios,
    summaries,
    term_tests,
)
from jaxhlm.results.anova import Anova
from jaxhlm.results.attached import attached, given_again
from jaxhlm.results.batch_tests import BatchTests
from jaxhlm.results.fit import Fit
from jaxhlm.results.fit_results import FitResults, check_no_terms
from jaxhlm.results.likelihood_ratios import Dropped
from jaxhlm.results.presenters import ManyFits
from jaxhlm.results.record import FitRecord
from jaxhlm.results.selection import by_labels, by_position_or_label
from jaxhlm.results.storage import check_saving, load, save
from jaxhlm.results.varcorr import VarCorrBatch
from jaxhlm.results.verify import Verification, verify_lanes
from jaxhlm.sources.containers import GivenResponses
from jaxhlm.sources.sources import Source
from jaxhlm.statistics.group_contributions import GroupContributions
from jaxhlm.statistics.response import Standardised

__all__ = ["BatchInterval", "ByLabel", "FitBatch"]

BatchInterval = Literal["wald", "profile"]


@dataclass(frozen=True)
class ByLabel:
    """What ``fits.loc`` is."""

    fits: FitBatch

    def __getitem__(self, label: Any) -> Any:
        """The fit of a label, or the batch of those that share it, or of a list of labels."""
        return self.fits._taken(by_labels(self.fits.index, label))


@dataclass(frozen=True, eq=False, init=False, repr=False)
class FitBatch(FitResults[pd.Series, pd.DataFrame, Floats, dict[Any, Floats]], BatchTests, Printed):
    """Many fits of one formula; made by ``jaxhlm.fit_many``.

    ``fits[i]`` is a ``Fit``, ``fits[lanes]`` (slice, list or boolean array) a smaller ``FitBatch``.
    Whole numbers are positions, text and other labels are labels (``fits["BRCA1"]``); where labels
    are whole numbers, ``fits.loc[17]`` takes them.
    A data set that could not be fitted has a status code and NaN estimates; it is counted in
    ``print(fits)`` and never dropped. One in whose rows a column of X is zero, as where it has no
    row of some level of a factor, has NaN for that coefficient and whatever depends on it.

    Names that ``Fit`` has too are told of one fit. For B fits a number becomes a Series by fit; a
    Series, or a table of one row, a DataFrame with a row for each fit; a matrix of the fixed
    effects an array with the fits on its first axis; an array of units a mapping from fits to
    arrays. Other tables have the fit before the label in their index, or where rows have no label
    as their first column, under the name of ``fits.index``: ``response``, ``replicate``,
    ``simulation`` or the column that ``by`` named. What needs the rows of the data raises
    ``JaxhlmError`` for fits that were read from a file, and what needs single units or rows also
    for those that were simulated without them.

    Example:
        >>> import jaxhlm as hlm
        >>> one = hlm.fit("Reaction ~ Days + (1 | Subject)", hlm.load_dataset("sleepstudy"))
        >>> Y = one.simulate(3, seed=1)
        >>> fits = hlm.fit_many("~ Days + (1 | Subject)", hlm.load_dataset("sleepstudy"), Y)
        >>> fits.fixef.shape, [int(s) for s in fits.status]
        ((3, 2), [0, 0, 0])
    """

    def __init__(self, record: FitRecord, **changes: Any) -> None:
        """Hold a record, with changed fields if given: ``dataclasses.replace(fits, index=…)``."""
        known: dict[str, Any] = {"tests": {}} if set(changes) - {"index"} else {}
        held = replace(record, **known, **changes) if changes else record
        object.__setattr__(self, "record", held)

    @property
    def index(self) -> pd.Index:
        """(B,) labels of the fits: response names, or values of ``by``."""
        return self.record.index

    @property
    def nobs(self) -> Ints:
        """(B,) rows of each fit."""
        return self.record.nobs.copy()

    @property
    def ngroups(self) -> Ints:
        """(B,) groups of each fit."""
        return self.record.ngroups.copy()

    @property
    def lanes(self) -> Ints:
        """(B,) number of each fit in its source."""
        return self.record.lane_index.copy()

    @property
    def source(self) -> Source | None:
        """Where the rows are; None if the fits were read from a file."""
        return self.record.source

    @property
    def _show(self) -> ManyFits:
        return ManyFits(self.record)

    @overload
    def __getitem__(self, which: int) -> Fit: ...
    @overload
    def __getitem__(self, which: slice | list[Any] | NDArray[Any]) -> FitBatch: ...
    @overload
    def __getitem__(self, which: Any) -> Any: ...
    def __getitem__(self, which: Any) -> Any:
        """The fit at a position or of a label, or the batch of some fits."""
        return self._taken(by_position_or_label(self.index, which))

    @property
    def loc(self) -> ByLabel:
        """``fits.loc[label]``: the fit of a label, also where labels are whole numbers.

        Example:
            >>> import pandas as pd, jaxhlm as hlm
            >>> data = hlm.load_dataset("sleepstudy")
            >>> frame = data.assign(study=7), data.assign(study=3, Reaction=-data["Reaction"])
            >>> formula = "Reaction ~ Days + (1 | Subject)"
            >>> fits = hlm.fit_many(formula, pd.concat(frame), by="study")
            >>> print(f"{fits.loc[7].fixef['Days']:.3f}  {fits[0].fixef['Days']:.3f}")
            10.467  -10.467
        """
        return ByLabel(self)

    def _taken(self, which: int | Ints) -> Any:
        """The fit at a position, or the batch of those at some."""
        if isinstance(which, int):
            return Fit(self.record.one(which))
        return FitBatch(self.record.take(which))

    def __iter__(self) -> Iterator[Fit]:
        """The fits, one by one."""
        return (Fit(self.record.one(i)) for i in range(len(self)))

    def to_parquet(
        self, path: str | PathLike[str], df: DfMethod | Sequence[DfMethod] | None = None
    ) -> None:
        """Write the estimates and what tests need, one row per fit, without the data.

        Labels of the fits come back equal, whatever they are: integers, dates, categories, several
        levels, mixed types. A file of this name is replaced when the new one is complete. It needs
        pyarrow.

        Args:
            path: the file.
            df: methods whose degrees of freedom the fits have when they are read again, of any
                contrast, without their data: 1 + p² + k p (p + 1)/2 numbers for each fit, with p
                fixed effects and k variances and covariances; and ``df_residual``. By default
                "satterthwaite", or of fits without data what they have; "normal" and "residual"
                take no room.

        Raises:
            OptionError, NeedsRemlError: as for the method ``df``; a label that no file can hold.
            FileError: the file cannot be written; an older one of this name is still there.
            JaxhlmError: ``df`` that fits without data do not have.

        Example:
            >>> import tempfile, jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 | Subject)"
            >>> Y = hlm.fit("Reaction" + formula, data).simulate(2, seed=1)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     path = f"{folder}/fits.parquet"
            ...     hlm.fit_many(formula, data, responses=Y).to_parquet(path)
            ...     back = hlm.FitBatch.read_parquet(path)
            ...     whole = hlm.FitBatch.read_parquet(path, data, responses=Y)
            >>> back.test({"a week": "7*Days"})["df"].round(6).tolist()
            [161.0, 161.0]
            >>> whole.emmeans("Days").shape, whole[1].ranef.shape
            ((2, 7), (18, 1))
        """
        check_saving(path, self.index)
        save(path, coefficients.with_tests(self.record, df))

    @staticmethod
    def read_parquet(
        path: str | PathLike[str],
        data: Table | None = None,
        responses: GivenResponses | None = None,
        *,
        by: str | None = None,
        weights: Weights = None,
        responses_in: ResponsesIn = "columns",
        layer: str | None = None,
    ) -> FitBatch:
        """Read what ``to_parquet`` wrote, of this version or an earlier one.

        Without data there are estimates and tests of contrasts with the df that were written; with
        them everything that there was before.

        Args:
            path: the file.
            data, responses, by, weights, responses_in, layer: as they were given to ``fit_many``;
                data sets are found by their labels. Every fit is held against its data, in one pass
                over them.

        Raises:
            FileError: the file is not there, is damaged, or was not written by ``to_parquet``, or
                by a newer version.
            DifferentRowsError: these are other data than those that were fitted.
            OptionError, JaxhlmError: as for ``fit_many``.
        """
        record = load(path)[0]
        given = given_again(record.model, data, responses, by, weights, responses_in, layer)
        return FitBatch(record if given is None else attached(record, given))

    def verify(self, n: int = 20, seed: int = 0) -> Verification:
        """Refit ``n`` random fits with the NumPy reference; print the result for one line.

        Args:
            n: how many of the fits that converged.
            seed: which.
        """
        n, seed = whole_number("n", n), whole_number("seed", seed, least=0)
        chosen = np.random.default_rng(seed).permutation(np.flatnonzero(self.ok))[:n]
        fits = (self[i] for i in chosen.tolist())
        return verify_lanes(((fit.design, fit.estimates) for fit in fits), self.reml)

    def summary(self) -> pd.DataFrame:
        """Mean, sd, range and median of each parameter over converged fits, and the mean SE."""
        return summaries.parameter_summary(self.record)

    def __len__(self) -> int:
        """Number of fits, B."""
        return len(self.record)

    @property
    def varcorr(self) -> VarCorrBatch:
        """Variances and correlations of the random effects."""
        e = self.record.estimates
        return VarCorrBatch(e.cov, e.sigma, self.model.znames, self.index)

    @property
    def theta(self) -> pd.DataFrame:
        """(B, k) free entries of Λ, column by column."""
        names = pd.Index(self.model.theta_names)
        return self._show.vector(self.record.estimates.theta, "theta", names)

    @property
    def status(self) -> Ints:
        """(B,) codes of ``jaxhlm.Status``."""
        return self.record.estimates.status

    @property
    def ok(self) -> Bools:
        """(B,) bool: converged, on the boundary or not."""
        return self.record.ok

    @property
    def singular(self) -> Bools:
        """(B,) bool: on the boundary."""
        return self.record.singular

    @property
    def iterations(self) -> Ints:
        """(B,) evaluations of criterion, gradient and Hessian."""
        return self.record.estimates.iterations

    @property
    def gradient_norm(self) -> Floats:
        """(B,) largest |∂ criterion/∂θ| at the estimate, on the standardised scale."""
        return self.record.estimates.gradient_norm

    @property
    def counts(self) -> pd.Series:
        """Number of fits by status, every status listed."""
        return tally(self.record.estimates.status)

    def over_lanes(
        self, function: Callable[[Estimates, Standardised], tuple[Array, ...]]
    ) -> tuple[Array, ...]:
        """``function`` of all fits and their statistics, chunk by chunk on all cores.

        Args:
            function: maps the estimates of some fits, and their standardised statistics, to arrays
                with the fits on the first axis.

        Returns:
            Those arrays for all fits, in order.
        """
        return self.record.over_lanes(function)

    def over_groups(
        self, function: Callable[[Estimates, GroupContributions], tuple[Array, ...]]
    ) -> tuple[Array, ...]:
        """As ``over_lanes``, with the statistics of every group by itself.

        Raises:
            JaxhlmError: the fits were read from a file, or simulated without rows.
        """
        return self.record.over_groups(function)

    def anova(
        self,
        other: FitBatch | None = None,
        refit: bool = True,
        *,
        type: TestType | None = None,
        df: DfMethod | None = None,
    ) -> Anova:
        """F tests of the terms of every fit, or likelihood ratios of two batches.

        Every fit is tested against the same data set's fit in the other batch, if there is one. The
        smaller model is told by its number of parameters; ``Fit.anova`` says what is tested and
        how the boundary is treated.

        Args:
            other: fits of the same data sets, in the same order.
            refit: refit by ML what was fitted by REML first, and say so.
            type, df: of the tests of terms, as for ``Fit.anova``.

        Returns:
            ``Anova``. Of terms ``.table`` has a row for every fit and term, with the columns of
            ``Fit.anova``; a data set that lacks columns of X is tested as by itself. Of two batches
            it has one row per fit with columns statistic, df, p_value, p_mixture
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
            >>> line.anova(type="II", df="kenward-roger").table.shape
            (30, 6)
        """
        check_flag("refit", refit)
        if other is None:
            return self._of_terms(term_tests.analysis_of_variance(self.record, type, df))
        check_no_terms(type, df)
        if not isinstance(other, FitBatch):
            raise OptionError(
                f"other is a {other.__class__.__name__}, no FitBatch; compare batches with batches"
            )
        return likelihood_ratios.between_batches(self.record, other.record, refit)

    def rand_test(self, drop: Dropped = "each") -> pd.DataFrame:
        """Every random effect of every fit dropped in turn, or all; see ``Fit.rand_test``.

        Returns:
            One row per fit and row of ``Fit.rand_test().table``: its label, term, and its columns;
            NaN where the fit failed.
        """
        return self._show.long(likelihood_ratios.without_effects(self.record, drop))

    def confint(
        self,
        method: BatchInterval = "wald",
        level: float = 0.95,
        parm: str | Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Confidence intervals of every fit; method, level and parm as for ``Fit.confint``.

        Returns:
            One row per fit and parameter: its label, term and the two limits, such as "2.5 %" and
            "97.5 %"; NaN where the fit failed.

        Raises:
            OptionError: as for ``Fit.confint``; "boot" too, which takes one fit: ``fits[0]``.
        """
        check_option("method", method, BatchInterval)
        return self._show.long(intervals.confint(self.record, method, level, parm))

    def _blocks(self) -> list[Block]:
        """Counts, then the summary table."""
        return summaries.batch_blocks(self.record)
