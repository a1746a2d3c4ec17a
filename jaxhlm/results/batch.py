"""``FitBatch``: many fits at once, the names of ``Fit`` with a leading axis of fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from jaxhlm.core.arguments import check_flag, whole_number
from jaxhlm.core.notation import Floats, Ints, NewLevels, NotEstimable, check_option
from jaxhlm.errors import OptionError
from jaxhlm.estimation.estimates import Estimates
from jaxhlm.estimation.hypotheses import Contrasts
from jaxhlm.estimation.model import Model
from jaxhlm.inference.criteria import check_level
from jaxhlm.inference.degrees import DfMethod
from jaxhlm.inference.influence import Influence
from jaxhlm.inference.robust import RobustKind
from jaxhlm.optimise.options import Options
from jaxhlm.results import coefficients, intervals, likelihood_ratios, quality, summaries, units
from jaxhlm.results.anova import Anova
from jaxhlm.results.fit import Fit
from jaxhlm.results.fit_rows import FitRows
from jaxhlm.results.prediction import Interval, check_prediction, prediction_frame
from jaxhlm.results.presenters import ManyFits
from jaxhlm.results.record import FitRecord
from jaxhlm.results.selection import by_labels, by_position_or_label
from jaxhlm.results.storage import check_saving, load, save
from jaxhlm.results.varcorr import VarCorrBatch
from jaxhlm.results.verify import Verification, verify_lanes
from jaxhlm.sources.sources import Source
from jaxhlm.statistics.group_contributions import GroupContributions
from jaxhlm.statistics.response import Standard

__all__ = ["BatchInterval", "ByLabel", "FitBatch"]

BatchInterval = Literal["wald", "profile"]


@dataclass(frozen=True)
class ByLabel:
    """What ``fits.loc`` is."""

    fits: FitBatch

    def __getitem__(self, label: Any) -> Any:
        """The fit of a label, or the batch of those that share it, or of a list of labels."""
        return self.fits._taken(by_labels(self.fits.index, label))


@dataclass(frozen=True, eq=False, init=False)
class FitBatch:
    """Many fits of one formula; made by ``jaxhlm.fit_many``.

    ``fits[i]`` is a ``Fit``, ``fits[lanes]`` (slice, list or boolean array) a smaller ``FitBatch``.
    Whole numbers are positions, text and other labels are labels (``fits["BRCA1"]``); where labels
    are whole numbers, ``fits.loc[17]`` takes them.
    A data set that could not be fitted has a status code and NaN estimates; it is counted in
    ``print(fits)`` and never dropped. One in whose rows a column of X is zero, as where it has no
    row of some level of a factor, has NaN for that coefficient and whatever depends on it.

    Example:
        >>> import jaxhlm as hlm
        >>> one = hlm.fit("Reaction ~ Days + (1 | Subject)", hlm.load_dataset("sleepstudy"))
        >>> Y = one.simulate(3, seed=1)
        >>> fits = hlm.fit_many("~ Days + (1 | Subject)", hlm.load_dataset("sleepstudy"), Y)
        >>> fits.fixef.shape, [int(s) for s in fits.status]
        ((3, 2), [0, 0, 0])
    """

    record: FitRecord

    def __init__(self, record: FitRecord, **changes: Any) -> None:
        """Hold a record, with changed fields if given: ``dataclasses.replace(fits, index=…)``."""
        known: dict[str, Any] = {"tests": {}} if set(changes) - {"index"} else {}
        object.__setattr__(self, "record", replace(record, **known, **changes))

    @property
    def model(self) -> Model:
        """Formula, method and labels."""
        return self.record.model

    @property
    def estimates(self) -> Estimates:
        """Arrays of all estimates."""
        return self.record.estimates

    @property
    def index(self) -> pd.Index:
        """(B,) labels of the fits: response names, or values of ``by``."""
        return self.record.index

    @property
    def nobs(self) -> Ints:
        """(B,) rows of each fit."""
        return self.record.nobs

    @property
    def ngroups(self) -> Ints:
        """(B,) groups of each fit."""
        return self.record.ngroups

    @property
    def options(self) -> Options:
        """What was optimised."""
        return self.record.options

    @property
    def lanes(self) -> Ints:
        """(B,) number of each fit in its source."""
        return self.record.lane_index

    @property
    def source(self) -> Source | None:
        """Where the rows are; None if the fits were read from a file."""
        return self.record.source

    def _of_rows(self, name: str, values: Callable[[FitRows], Floats]) -> pd.Series:
        return self._show.rows(units.over_rows(self.record, lambda f: (values(f),)), name)

    @property
    def _show(self) -> ManyFits:
        return ManyFits(self.record)

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

    def to_parquet(self, path: str | PathLike[str], df: DfMethod | None = None) -> None:
        """Write the estimates, one row per fit, without the data (needs pyarrow).

        Labels of the fits come back equal, whatever they are: integers, dates, categories, several
        levels, mixed types. A file of this name is replaced when the new one is complete.

        Args:
            path: the file.
            df: compute degrees of freedom of the fixed effects by this method first and write them
                as well; they need the data, which the file does not have.

        Raises:
            OptionError, NeedsRemlError: as for the method ``df``; a label that no file can hold.
            FileError: the file cannot be written; an older one of this name is still there.

        Example:
            >>> import tempfile, jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 | Subject)"
            >>> Y = hlm.fit("Reaction" + formula, data).simulate(2, seed=1)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     path = f"{folder}/fits.parquet"
            ...     hlm.fit_many(formula, data, responses=Y).to_parquet(path, df="kenward-roger")
            ...     back = hlm.FitBatch.read_parquet(path)
            >>> back.df("kenward-roger").round(6)["Days"].tolist()
            [161.0, 161.0]
        """
        check_saving(path, self.index)
        if df is not None:
            coefficients.fixed_tests(self.record, df)
        save(path, self.record, () if df is None else (df,))

    @staticmethod
    def read_parquet(path: str | PathLike[str]) -> FitBatch:
        """Read estimates that ``to_parquet`` wrote; what needs the data then raises.

        Small-sample df of the fixed effects are there if they were written.

        Raises:
            FileError: the file is not there, is damaged, or was not written by ``to_parquet``.
        """
        return FitBatch(load(path)[0])

    def tidy(self, df: DfMethod = "satterthwaite", conf_level: float = 0.95) -> pd.DataFrame:
        """One row per fit and parameter; arguments, and columns after ``fit``, as ``Fit.tidy``."""
        return self._show.long(coefficients.tidy(self.record, df, conf_level))

    def glance(self) -> pd.DataFrame:
        """One row of fit statistics per fit."""
        return self._show.line(summaries.glance(self.record))

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
    def reml(self) -> bool:
        """Whether the fits are by REML."""
        return self.record.model.reml

    @property
    def fixef(self) -> pd.DataFrame:
        """(B, p) fixed effects."""
        return self._show.vector(self.record.estimates.beta, "fixef")

    @property
    def se(self) -> pd.DataFrame:
        """(B, p) standard errors of the fixed effects."""
        return self._show.vector(self.record.se, "se")

    @property
    def vcov(self) -> Floats:
        """(B, p, p) covariances of the fixed effects."""
        return self._show.matrix(self.record.estimates.vcov)

    @property
    def varcorr(self) -> VarCorrBatch:
        """Variances and correlations of the random effects."""
        e = self.record.estimates
        return VarCorrBatch(e.cov, e.sigma, self.model.znames, self.index)

    @property
    def sigma(self) -> pd.Series:
        """(B,) residual standard deviations."""
        return self._show.number(self.record.estimates.sigma, "sigma")

    @property
    def theta(self) -> pd.DataFrame:
        """(B, k) free entries of Λ, column by column."""
        names = pd.Index(self.model.theta_names)
        return self._show.vector(self.record.estimates.theta, "theta", names)

    @property
    def criterion(self) -> pd.Series:
        """(B,) −2 × maximised log-likelihood: REML criterion, or ML deviance."""
        return self._show.number(self.record.estimates.criterion, "criterion")

    @property
    def loglik(self) -> pd.Series:
        """(B,) maximised (restricted) log-likelihoods."""
        return self._show.number(self.record.loglik, "loglik")

    @property
    def aic(self) -> pd.Series:
        """(B,) Akaike's criteria."""
        return self._show.number(self.record.aic, "aic")

    @property
    def aicc(self) -> pd.Series:
        """(B,) AIC corrected for small samples, with n the number of rows."""
        return self._show.number(self.record.aicc, "aicc")

    @property
    def bic(self) -> pd.Series:
        """(B,) Schwarz's criteria."""
        return self._show.number(self.record.bic, "bic")

    @property
    def status(self) -> Ints:
        """(B,) codes of ``jaxhlm.Status``."""
        return self.record.estimates.status

    @property
    def ok(self) -> Any:
        """(B,) bool: converged, on the boundary or not."""
        return self.record.ok

    @property
    def singular(self) -> Any:
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
        return summaries.counts(self.record)

    def over_lanes(
        self, function: Callable[[Estimates, Standard], tuple[Floats, ...]]
    ) -> tuple[Floats, ...]:
        """``function`` of all fits and their statistics, chunk by chunk on all cores.

        Args:
            function: maps the estimates of some fits, and their standardised statistics, to arrays
                with the fits on the first axis.

        Returns:
            Those arrays for all fits, in order.
        """
        return self.record.over_lanes(function)

    def over_groups(
        self, function: Callable[[Estimates, GroupContributions], tuple[Any, ...]]
    ) -> tuple[Any, ...]:
        """As ``over_lanes``, with the statistics of every group by itself.

        Raises:
            JaxhlmError: the fits were read from a file, or simulated without rows.
        """
        return self.record.over_groups(function)

    @property
    def ranef(self) -> pd.DataFrame:
        """(Σ G, q) BLUPs of every fit, by fit and level; NaN where it failed.

        Example:
            >>> import jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 + Days | Subject)"
            >>> Y = hlm.fit("Reaction" + formula, data).simulate(3, seed=1)
            >>> fits = hlm.fit_many(formula, data, responses=Y)
            >>> fits.ranef.loc[("sim_2", "308")].index.tolist(), fits.fitted.shape
            (['(Intercept)', 'Days'], (540,))
        """
        runs = units.over_units(self.record, lambda f: (f.effects.b,))
        return self._show.units(runs, self.record.model.znames)

    @property
    def ranef_cov(self) -> dict[Any, Floats]:
        """Conditional covariances of the random effects, (G, q, q) by fit."""
        return self._show.by_fit(units.over_units(self.record, lambda f: (f.effects.cov,)))

    @property
    def coef(self) -> pd.DataFrame:
        """Coefficients of every unit of every fit, by fit and level; as ``Fit.coef``."""
        return self._show.units(*units.coef(self.record))

    @property
    def coef_se(self) -> pd.DataFrame:
        """Standard errors of ``coef``, by fit and level; as ``Fit.coef_se``."""
        return self._show.units(*units.coef_se(self.record))

    def ranef_frame(self, conf_level: float = 0.95) -> pd.DataFrame:
        """BLUPs with conditional standard deviations and limits; as ``Fit.ranef_frame``.

        Args:
            conf_level: of the limits.

        Returns:
            Columns fit, group, level, term, estimate, std_error, conf_low, conf_high; Σ G q rows.

        Raises:
            OptionError: a level outside (0, 1).
            JaxhlmError: the fits were read from a file, or simulated without rows.

        Example:
            >>> import jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 | Subject)"
            >>> Y = hlm.fit("Reaction" + formula, data).simulate(2, seed=1)
            >>> fits = hlm.fit_many(formula, data, responses=Y)
            >>> fits.ranef_frame()[["fit", "level", "term"]].iloc[[0, 18]]
                  fit level         term
            0   sim_1   308  (Intercept)
            18  sim_2   308  (Intercept)
        """
        check_level(conf_level, "conf_level")
        return self._show.long(*units.ranef_frame(self.record, conf_level))

    @property
    def reliability(self) -> dict[Any, Floats]:
        """W_i of every unit, (G, q, q) by fit; as ``Fit.reliability``."""
        return self._show.by_fit(units.over_units(self.record, lambda f: (f.lines[2],)))

    def shrinkage(self) -> pd.DataFrame:
        """How each unit's prediction relates to its own least-squares line; as ``Fit.shrinkage``.

        Returns:
            Columns fit, group, level, term, ols, blup, population, reliability; Σ G q rows.

        Raises:
            JaxhlmError: the fits were read from a file, or simulated without rows.

        Example:
            >>> import jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 | Subject)"
            >>> Y = hlm.fit("Reaction" + formula, data).simulate(2, seed=1)
            >>> table = hlm.fit_many(formula, data, responses=Y).shrinkage()
            >>> len(table), bool(table["reliability"].between(0, 1).all())
            (36, True)
        """
        return self._show.long(*units.shrinkage(self.record))

    def ranef_qq(self) -> pd.DataFrame:
        """Standardised random effects beside normal quantiles; as ``Fit.ranef_qq``.

        Returns:
            Columns fit, group, level, term, estimate, std_error, standardized, theoretical.

        Raises:
            JaxhlmError: the fits were read from a file, or simulated without rows.

        Example:
            >>> import jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 | Subject)"
            >>> Y = hlm.fit("Reaction" + formula, data).simulate(2, seed=1)
            >>> hlm.fit_many(formula, data, responses=Y).ranef_qq().shape
            (36, 8)
        """
        return self._show.long(*units.ranef_qq(self.record))

    @property
    def fitted(self) -> pd.Series:
        """Fitted values Xβ̂ + Zb̂ by fit and row label; NaN where a fit failed."""
        return self._of_rows("fitted", lambda f: f.fitted)

    @property
    def residuals(self) -> pd.Series:
        """Response less fitted values by fit and row label."""
        return self._of_rows("residuals", lambda f: f.residual)

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
        """Expected responses of every fit, with prediction errors if asked; as ``Fit.predict``.

        Args:
            newdata: the same new rows for all fits; the rows that each was fitted to if None.
            ranef: add the unit's random effects.
            new_levels: a unit that a fit has not seen gets its population value, or, with "error",
                raises.
            se: give standard errors and, unless ``interval`` says otherwise, confidence limits.
            interval: "confidence" or "prediction".
            level: of the limits.
            not_estimable: "nan" or "error", as for ``Fit.predict``.

        Returns:
            A Series by fit and row label, or, with ``se`` or ``interval``, a DataFrame: predicted,
            se, low, high. NaN where a fit failed or a variable is missing.

        Raises:
            MissingColumnError, NewLevelError, OptionError: as for ``Fit.predict``.
            JaxhlmError: the fits were read from a file, or simulated without rows.

        Example:
            >>> import jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 + Days | Subject)"
            >>> Y = hlm.fit("Reaction" + formula, data).simulate(2, seed=1)
            >>> fits = hlm.fit_many(formula, data, responses=Y)
            >>> fits.predict(data.head(2), interval="prediction").shape
            (4, 4)
        """
        check_prediction(new_levels, interval, level, not_estimable, ranef=ranef, se=se)
        runs, labels = units.predictions(
            self.record, newdata, ranef, new_levels, interval, not_estimable
        )
        index = self._show.index(runs.lengths, labels, runs.number)
        return prediction_frame(runs.values, index, se or interval is not None, level)

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
        return self._show.vector(coefficients.fixed_tests(self.record, method)[1], "df")

    def p_values(self, method: DfMethod = "satterthwaite") -> pd.DataFrame:
        """(B, p) two-sided p values of β = 0; arguments as ``Fit.p_values``."""
        return self._show.vector(coefficients.fixed_tests(self.record, method)[2], "p_value")

    @property
    def vcov_adj(self) -> Floats:
        """(B, p, p) Kenward and Roger's adjusted covariances of β̂; REML only."""
        return self._show.matrix(coefficients.adjusted_vcov(self.record))

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
        return self._show.block(*coefficients.contrasts(self.record, L, df, rhs, conf_level))

    def joint_test(
        self, L: Contrasts, df: DfMethod = "satterthwaite", rhs: ArrayLike = 0.0
    ) -> pd.DataFrame:
        """F tests that all rows of Lβ = rhs hold, one row per fit; arguments as ``Fit``'s."""
        return self._show.line(coefficients.joint_test(self.record, L, df, rhs))

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
        options = df, pairwise, conf_level, not_estimable
        return self._show.long(coefficients.emmeans(self.record, specs, at, *options))

    def vcov_robust(self, kind: RobustKind = "CR2") -> Floats:
        """(B, p, p) cluster-robust covariances of the fixed effects; see ``Fit.vcov_robust``.

        Args:
            kind: "CR0", "CR1" or "CR2".

        Raises:
            OptionError: unknown kind.
            JaxhlmError: the fits were read from a file, or simulated without rows.

        Example:
            >>> import jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 | Subject)"
            >>> Y = hlm.fit("Reaction" + formula, data).simulate(3, seed=1)
            >>> hlm.fit_many(formula, data, responses=Y).vcov_robust().shape
            (3, 2, 2)
        """
        return self._show.matrix(quality.robust(self.record, kind).vcov)

    def tidy_robust(self, kind: RobustKind = "CR2", conf_level: float = 0.95) -> pd.DataFrame:
        """One row per fit and fixed effect; columns as ``Fit.tidy_robust`` after ``fit``.

        Args:
            kind: as for ``vcov_robust``.
            conf_level: of the intervals.

        Raises:
            OptionError: unknown kind, or a level outside (0, 1).
            JaxhlmError: the fits were read from a file, or simulated without rows.

        Example:
            >>> import jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 | Subject)"
            >>> Y = hlm.fit("Reaction" + formula, data).simulate(2, seed=1)
            >>> hlm.fit_many(formula, data, responses=Y).tidy_robust()[["fit", "term"]]
                 fit         term
            0  sim_1  (Intercept)
            1  sim_1         Days
            2  sim_2  (Intercept)
            3  sim_2         Days
        """
        return self._show.long(quality.tidy_robust(self.record, kind, conf_level))

    def r2(self) -> pd.DataFrame:
        """(B, 2) marginal and conditional R²; see ``Fit.r2``.

        Raises:
            JaxhlmError: the fits were read from a file.

        Example:
            >>> import jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 | Subject)"
            >>> Y = hlm.fit("Reaction" + formula, data).simulate(2, seed=1)
            >>> fits = hlm.fit_many(formula, data, responses=Y)
            >>> list(fits.r2().columns), fits.icc().between(0.3, 0.8).tolist()
            (['marginal', 'conditional'], [True, True])
        """
        labels = pd.Index(["marginal", "conditional"])
        return self._show.vector(quality.r2(self.record), "r2", labels)

    def icc(self, at: Mapping[str, Any] | pd.DataFrame | None = None) -> pd.Series | pd.DataFrame:
        """(B,) intraclass correlations; arguments and errors as for ``Fit.icc``.

        Returns:
            A Series by fit; where ``at`` is a frame a DataFrame, one column for each of its rows.

        Example:
            >>> import jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 + Days | Subject)"
            >>> Y = hlm.fit("Reaction" + formula, data).simulate(2, seed=1)
            >>> fits = hlm.fit_many(formula, data, responses=Y)
            >>> bool((fits.icc({"Days": 9}) > fits.icc({"Days": 0})).all())
            True
        """
        values = quality.icc(self.record, at)
        if isinstance(at, pd.DataFrame):
            return self._show.vector(values, "icc", at.index)
        return self._show.number(values[:, 0], "icc")

    def influence(self, by: Literal["group"] = "group") -> Influence:
        """Leave every group of every fit out in turn; see ``Fit.influence``.

        All refits, Σ G of them, go through the engine in large batches.

        Args:
            by: what to leave out; "group": the levels of the grouping factor.

        Returns:
            An ``Influence`` whose tables are indexed by fit and level; NaN where a fit failed.

        Raises:
            OptionError: unknown ``by``.
            JaxhlmError: the fits were read from a file, or simulated without rows.

        Example:
            >>> import jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 | Subject)"
            >>> Y = hlm.fit("Reaction" + formula, data).simulate(3, seed=1)
            >>> influence = hlm.fit_many(formula, data, responses=Y).influence()
            >>> influence.cooks_distance.shape, influence.dfbetas.loc["sim_2"].shape
            ((54,), (18, 2))
        """
        runs = units.over_units(self.record, lambda f: ())
        levels = self.record.rows.design.levels.rename(self.model.group_name)
        index = self._show.index(runs.lengths, levels, runs.number)
        return quality.influence(self.record, by, index)

    @property
    def residuals_marginal(self) -> pd.Series:
        """Response less Xβ̂ by fit and row label; NaN where a fit failed."""
        return self._of_rows("residuals_marginal", lambda f: f.residual_marginal)

    @property
    def residuals_std(self) -> pd.Series:
        """Conditional residuals over their standard deviations; as ``Fit.residuals_std``."""
        return self._of_rows("residuals_std", lambda f: f.residual_std)

    @property
    def residuals_marginal_std(self) -> pd.Series:
        """Marginal residuals over their standard deviations; as ``Fit.residuals_marginal_std``."""
        return self._of_rows("residuals_marginal_std", lambda f: f.residual_marginal_std)

    @property
    def hatvalues(self) -> pd.Series:
        """Leverages by fit and row label; as ``Fit.hatvalues``."""
        return self._of_rows("hat", lambda f: f.leverage.hat)

    @property
    def cooks_distance(self) -> pd.Series:
        """Cook's distances of rows by fit and row label; by group: ``influence``."""
        return self._of_rows("cooksd", lambda f: f.cooks_distance)

    def augment(self) -> pd.DataFrame:
        """One row per fit and observation; columns as ``Fit.augment``.

        Returns:
            A frame by fit and row label; NaN where a fit failed.

        Raises:
            JaxhlmError: the fits were read from a file, or simulated without rows.

        Example:
            >>> import jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 | Subject)"
            >>> Y = hlm.fit("Reaction" + formula, data).simulate(2, seed=1)
            >>> table = hlm.fit_many(formula, data, responses=Y).augment()
            >>> table.shape, list(table.index.names)
            ((360, 9), ['response', None])
        """
        runs, columns = quality.augmented(self.record)
        return pd.DataFrame(columns, self._show.row_index(runs))

    def refit_ml(self) -> FitBatch:
        """The same models fitted by maximum likelihood; themselves if they are."""
        return FitBatch(likelihood_ratios.refit_ml(self.record)) if self.reml else self

    def anova(self, other: FitBatch, refit: bool = True) -> Anova:
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
        if not isinstance(other, FitBatch):
            raise OptionError(
                f"{type(other).__name__} is no FitBatch; compare batches with batches"
            )
        return likelihood_ratios.between_batches(self.record, other.record, refit)

    def rand_test(self) -> pd.DataFrame:
        """Every random effect of every fit dropped in turn; see ``Fit.rand_test``.

        Returns:
            One row per fit and row of ``Fit.rand_test().table``: fit, term, and its columns; NaN
            where the fit failed.
        """
        return self._show.long(likelihood_ratios.without_each_effect(self.record))

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
        return self._show.long(intervals.confint(self.record, method, level, parm))

    def __str__(self) -> str:
        """Counts, then the summary table."""
        return summaries.batch_text(self.record)

    __repr__ = __str__
