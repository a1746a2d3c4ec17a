"""``power``: how often a test finds an effect that is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import affordable, check_flag, fraction, whole_number
from jaxhlm.core.chunks import slices
from jaxhlm.core.devices import Devices, check_devices
from jaxhlm.core.document import Block, Printed, as_html, framed
from jaxhlm.core.memory import trim_heap
from jaxhlm.core.notation import Floats, Ints, Precision
from jaxhlm.core.status import Status
from jaxhlm.core.streams import Key, Seed, random_key, seed_of
from jaxhlm.core.tables import Shown
from jaxhlm.errors import failures_counted
from jaxhlm.estimation.estimates import estimate_bytes
from jaxhlm.estimation.executors import Workers, Workload, workers_of
from jaxhlm.estimation.pipeline import all_or_nothing, keep_part
from jaxhlm.estimation.progress import progress_report
from jaxhlm.inference.contrast_tests import DfMethod, check_df
from jaxhlm.inference.criteria import check_level
from jaxhlm.results.batch import FitBatch
from jaxhlm.results.coefficients import contrasts, joint_test
from jaxhlm.storage.folder import Chunk
from jaxhlm.studies.analysed import Generating, analysed, formula_power
from jaxhlm.studies.binomial import exact_interval, rate_mcse
from jaxhlm.studies.builder import UnitDesign
from jaxhlm.studies.mechanism import Mechanism
from jaxhlm.studies.plan import (
    Plan,
    effect_in_words,
    failures_in_words,
    hypothesis_in_words,
    page,
    plan_of,
    power_in_words,
    warn_of_one_draw,
)
from jaxhlm.studies.read_tests import ReadTest, Test, read_tests
from jaxhlm.studies.simulate import Simulated, simulate

__all__ = ["Power", "Trials", "check_options", "power"]

# Rows of data sets that are in memory at a time.
MOST_NUMBERS = 2**20
# Data sets that are fitted, and then tested, together on the cores: what a Ctrl-C may lose.
TOGETHER = 100_000
# Tasks that every worker is to have, and data sets that a task has at least.
TASKS_OF_EACH, WORTH_SENDING = 4, 500


@dataclass(frozen=True, eq=False, repr=False)
class Power(Printed):
    """Power of one test or several; ``print`` it for the plan in words, as a protocol states it.

    Attributes:
        table: one row per test:
            test, as written;
            power, the share of rejections among the tests that could be made;
            conf_low, conf_high, its exact interval;
            mcse, its Monte-Carlo standard error;
            power_all, the same share of all data sets, a failed fit counting as no rejection;
            analytic, the power by formula (``jaxhlm.studies.analytic``), NaN where none is known,
            as of maximum likelihood;
            rejected, n, failed, singular, numbers of data sets.
        alpha: level of the test.
        df: method of its degrees of freedom.
        level: of the exact interval.
        plan: design, truth and analysis in words.
        hypotheses: what is tested and how, in words.
        seed: int that gives the same data sets again, with the same version of jaxhlm.
        redrawn: whether data sets have designs of their own; the formula takes one draw of them.
    """

    table: pd.DataFrame
    alpha: float
    df: DfMethod
    level: float
    plan: Plan
    hypotheses: tuple[str, ...]
    seed: int
    redrawn: bool = False

    @property
    def power(self) -> float:
        """Power of the (first) test."""
        return float(self.table["power"].iloc[0])

    @property
    def interval(self) -> tuple[float, float]:
        """Exact interval of the power of the (first) test."""
        row = self.table.iloc[0]
        return float(row["conf_low"]), float(row["conf_high"])

    @property
    def mcse(self) -> float:
        """Monte-Carlo standard error of the power of the (first) test."""
        return float(self.table["mcse"].iloc[0])

    @property
    def analytic(self) -> float:
        """Power of the (first) test by formula."""
        return float(self.table["analytic"].iloc[0])

    def _blocks(self) -> list[Block]:
        """Design, truth and analysis; then every test, its power, and what failed."""
        told = [(heading.title(), text) for heading, text in self.plan._asdict().items()]
        rows = [row for _, row in self.table.iterrows()]
        for hypothesis, row in zip(self.hypotheses, rows, strict=True):
            told += [("Test", hypothesis), ("Power", power_in_words(row, self.level, self.redrawn))]
            told += [("Failures", failures_in_words(row))]
        return [[page(told)]]

    def _repr_html_(self) -> str:
        """The table too."""
        return as_html([*self._blocks(), [framed(self.table, ".4g", index=False)]])


def power(
    mechanism: Generating,
    test: Test,
    n: int = 10_000,
    alpha: float = 0.05,
    df: DfMethod = "satterthwaite",
    seed: Seed = None,
    *,
    formula: str | None = None,
    reml: bool = True,
    level: float = 0.95,
    progress: bool | None = None,
    devices: Devices = None,
    precision: Precision = "float64",
    executor: Workload | None = None,
) -> Power:
    """Power of a test, by simulation, with its error, and by formula beside it.

    Args:
        mechanism: a ``Mechanism``, or a pair (``jaxhlm.design(…)``, ``Truth``).
        test: a fixed effect ("x:a", tested against zero); text such as "x - 2*a = 1", or
            "a = 0, x:a = 0" for a joint F test; or a list of those, each a test of its own on the
            same data sets.
        n: number of data sets.
        alpha: level of the test.
        df: degrees of freedom, as for ``Fit.df``.
        seed: int, NumPy Generator or JAX key.
        formula: the model to fit; None for the one that generates the data.
        reml: restricted maximum likelihood, or maximum likelihood, for which there is no formula.
        level: of the exact (Clopper-Pearson) interval.
        progress: show a progress bar; by default in a terminal and in a notebook.
        devices: where data sets of one design are fitted, as for ``jaxhlm.fit_many``; those with
            designs of their own are fitted on the cores, in double precision.
        precision: as for ``jaxhlm.fit_many``.
        executor: as for ``jaxhlm.study``: its workers draw, fit and test a part of the data sets
            each, which are the same whoever draws them.

    Returns:
        A ``Power``; at a Ctrl-C, with a warning, that of the data sets that are finished.

    Raises:
        UnknownTermError: the test names what is no fixed effect; the message lists those there are.
        ContrastError, OptionError, NeedsRemlError: a test or an option that cannot be, or
            ``devices`` that are not there.
        DeviceError, ExecutorError: a device, or a worker that is not replaced, was lost.

    Warns:
        OneDrawWarning: a design from ``jaxhlm.units`` is drawn once; the power is of this draw.

    Example:
        >>> import jaxhlm as hlm
        >>> design = hlm.design("~ x * a + (1 + x | unit)", hlm.load_dataset("article"))
        >>> truth = hlm.Truth.of([1, 3, -0.15, 0.3], sd=[0.2, 0.5], corr=0.9, sigma=0.75)
        >>> found = hlm.power((design, truth), "x:a", n=2000, seed=1)
        >>> print(f"{found.analytic:.3f}", bool(abs(found.power - found.analytic) < 4 * found.mcse))
        0.776 True
    """
    workers = workers_of(executor)
    check_options(n, alpha, df, reml, level, devices, workers)
    trials = Trials(
        mechanism, test, alpha, df, seed, formula, reml, level, devices, precision, workers
    )
    warn_of_one_draw(mechanism)
    return trials.power(n, progress)


class Trials:
    """Data sets of a mechanism that are drawn, fitted and tested, more as they are asked for."""

    def __init__(
        self, mechanism: Generating, test: Test, alpha: float, df: DfMethod, seed: Seed,
        formula: str | None, reml: bool, level: float, devices: Devices, precision: Precision,
        workers: Workers,
    ) -> None:  # fmt: skip
        """Take arguments as of ``power``, checked; nothing is drawn yet."""
        self._mechanism, self._alpha, self._level, self._workers = mechanism, alpha, level, workers
        self._design, self._truth = analysed(mechanism, formula)
        tests, key = read_tests(test, self._design), random_key(seed)
        drawn = simulate(*mechanism, 1, key) if isinstance(mechanism, tuple) else mechanism
        self._job = _Job(drawn, key, formula, reml, devices, precision, tests, df)
        self._parts: list[tuple[Floats, Ints]] = []

    def power(self, n: int, progress: bool | None) -> Power:
        """The power of n data sets, of which those that were tested before are not drawn again."""
        job, design, made = self._job, self._design, sum(len(p) for p, _ in self._parts)
        affordable("n", n, estimate_bytes(design.p, design.q))
        plan = _plan(made, n, job.most(design.n), self._workers)
        try:
            with failures_counted():
                for part in _tested(job, plan, self._workers, progress):
                    self._parts.append(part)
        except KeyboardInterrupt as error:
            keep_part(error, sum(len(p) for p, _ in self._parts), n, "data sets")
        p, status = (np.concatenate(x) for x in zip(*self._parts, strict=True))
        return self._counted(p, status)

    def _counted(self, p: Floats, status: Ints) -> Power:
        """What the p values (n, tests) and statuses of all fits come to."""
        job, n = self._job, len(p)
        hits, made = (p < self._alpha).sum(axis=0), (~np.isnan(p)).sum(axis=0)
        low, high = exact_interval(hits, made, self._level)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = hits / made
        columns = {
            "test": [one.label for one in job.tests],
            "power": share,
            "conf_low": low,
            "conf_high": high,
            "mcse": rate_mcse(hits, made),
            "power_all": hits / n,
            "analytic": [self._by_formula(one) for one in job.tests],
            "rejected": hits,
            "n": n,
            "failed": n - made,
            "singular": int((status == Status.SINGULAR).sum()),
        }
        seed = seed_of(job.key)
        plan = plan_of(self._mechanism, job.formula, job.reml, n, seed)
        known = (self._design, self._truth) if job.formula is None else None
        tests = tuple(
            hypothesis_in_words(one.label, one.L, self._alpha, job.df)
            + effect_in_words(one.L, one.rhs, known)
            for one in job.tests
        )
        redrawn = isinstance(getattr(self._mechanism, "design", None), UnitDesign)
        table, level = Shown(columns), self._level
        return Power(table, self._alpha, job.df, level, plan, tests, seed, redrawn)

    def _by_formula(self, test: ReadTest) -> float:
        if not self._job.reml:
            return np.nan
        about = self._mechanism, self._design, self._truth, test, self._alpha
        return formula_power(*about, self._job.df, self._job.formula)


def check_options(
    n: int, alpha: float, df: str, reml: bool, level: float, devices: Devices, workers: Workers
) -> None:
    """Raise unless these options make sense."""
    check_flag("reml", reml)
    check_df(df, reml)
    check_level(level)
    fraction("alpha", alpha, 0.05)
    whole_number("n", n)
    check_devices(devices, workers.elsewhere)


class _Job(NamedTuple):
    """What all parts of the data sets share, wherever they are drawn, fitted and tested."""

    drawn: Mechanism | Simulated
    key: Key
    formula: str | None
    reml: bool
    devices: Devices
    precision: Precision
    tests: Sequence[ReadTest]
    df: DfMethod

    @property
    def as_rows(self) -> bool:
        """Whether rows must be drawn, which take memory."""
        if isinstance(self.drawn, Simulated):
            return False
        return self.formula is not None or not self.drawn.gaussian

    def most(self, rows: int) -> int | None:
        """Data sets, of so many rows, that are worked on together; None for all of them."""
        if self.as_rows:
            return max(1, MOST_NUMBERS // rows)
        patterns = None if isinstance(self.drawn, Simulated) else self.drawn.patterns
        if patterns is not None:
            return patterns.most_kept
        return TOGETHER if self.devices is None else None

    def fits(self, part: Chunk, progress: bool | None) -> FitBatch:
        """Fits of a part."""
        devices, precision = self.devices, self.precision
        if isinstance(self.drawn, Simulated):
            some = self.drawn.part(part.first, part.last)
            return some.fit(self.reml, progress=progress, devices=devices, precision=precision)
        drawn = self.drawn.draw(part.first, part.last, self.key, rows=self.as_rows)
        return drawn.fit(self.formula, self.reml, progress, devices, precision)


def _tested(
    job: _Job, plan: Sequence[Chunk], workers: Workers, progress: bool | None
) -> Iterator[tuple[Floats, Ints]]:
    """p values and statuses of every part, in order."""
    if len(plan) == 1 and workers.executor is None:
        yield _fitted_and_tested(job, plan[0], progress)
        return
    with progress_report(plan[-1].last - plan[0].first, progress) as report:
        for p, status in workers.in_order(_tested_part, job, plan, lambda part: part):
            if report is not None:
                report(status)
            yield p, status


def _tested_part(job: _Job, part: Chunk) -> tuple[Floats, Ints]:
    """A task: p values (B, tests) and statuses of a part of the data sets."""
    with failures_counted(), all_or_nothing():
        return _fitted_and_tested(job, part, False)


def _fitted_and_tested(job: _Job, part: Chunk, progress: bool | None) -> tuple[Floats, Ints]:
    """The same; at a Ctrl-C of the first of them."""
    fits = job.fits(part, progress)
    found = _p_values(fits, job.tests, job.df), fits.status
    del fits
    trim_heap()
    return found


def _plan(first: int, last: int, most: int | None, workers: Workers) -> list[Chunk]:
    """Parts of no more than ``most``, about equal: all in one but for memory, and for workers."""
    n = last - first
    most = most or n
    if workers.executor is not None:
        most = min(most, max(WORTH_SENDING, -(-n // (TASKS_OF_EACH * workers.count))))
    parts = -(-n // most)
    size = -(-n // parts)
    return [Chunk(0, first + part.start, first + part.stop) for part in slices(n, size)]


def _p_values(fits: FitBatch, tests: Sequence[ReadTest], df: DfMethod) -> Floats:
    """(B, tests) p values, NaN of tests that could not be made."""
    p = np.empty((len(fits), len(tests)))
    single = [i for i, one in enumerate(tests) if len(one.L) == 1]
    if single:
        L, rhs = (np.concatenate([tests[i][part] for i in single]) for part in (1, 2))
        p[:, single] = contrasts(fits.record, L, df, rhs, 0.95)[0]["p_value"]
    for i, one in enumerate(tests):
        if len(one.L) > 1:
            p[:, i] = joint_test(fits.record, one.L, df, one.rhs)["p_value"]
    # An iteration limit leaves numbers behind, but not those of the model.
    p[~fits.ok] = np.nan
    return p
