"""``power_curve`` and ``solve_power``: power along a size or a parameter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import fraction, listed_values, number
from jaxhlm.core.devices import Devices
from jaxhlm.core.document import Block, Printed, as_html, framed
from jaxhlm.core.notation import Precision
from jaxhlm.core.streams import Seed, random_key, seed_of
from jaxhlm.core.tables import Shown
from jaxhlm.errors import GroupingError, IdentifiabilityError, OptionError, TargetError
from jaxhlm.estimation.executors import Workload, workers_of
from jaxhlm.estimation.pipeline import all_or_nothing, keep_part
from jaxhlm.estimation.progress import step_progress
from jaxhlm.inference.contrast_tests import DfMethod
from jaxhlm.studies.analysed import Generating, analysed, formula_power
from jaxhlm.studies.plan import seed_in_words, warn_of_one_draw
from jaxhlm.studies.power import Power, Trials, check_options
from jaxhlm.studies.read_tests import Test, read_tests
from jaxhlm.studies.vary import SIZES, changed_truth, check_along, varied

__all__ = ["PowerSolution", "power_curve", "solve_power"]

# A value of a parameter is found to this share of the bounds' distance.
RESOLUTION = 1.0 / 256.0
# What a design says that is too small for the model.
UNIDENTIFIED = (GroupingError, IdentifiabilityError)
# Near the target there are so many times as many data sets.
TIMES = (1, 4, 16)


@dataclass(frozen=True, eq=False, repr=False)
class PowerSolution(Printed):
    """The smallest value at which the power reaches a target; made by ``solve_power``.

    Attributes:
        value: that value.
        target: the power wanted.
        along: what was varied.
        curve: what was simulated, columns as ``power_curve``, sorted by value.
        resolved: whether the intervals at the value and at the one below it both leave out the
            target. Otherwise the value is the best guess, and one nearby may be as right.
        power: the power at the value, ``print`` of which is the plan in words, and the seed of all.
    """

    value: float
    target: float
    along: str
    curve: pd.DataFrame
    resolved: bool
    power: Power

    def _blocks(self) -> list[Block]:
        """The value, its power, how sure that is, and the plan at that value in words."""
        row = self.curve[self.curve[self.along] == self.value].iloc[0]
        text = (
            f"{self.along} = {self.value:g}: power {row['power']:.4f} "
            f"[{row['conf_low']:.4f}, {row['conf_high']:.4f}] for a target of {self.target:g}"
        )
        if not self.resolved:
            text += f"\n{self._doubt}: simulation error hides the difference"
        return [[text], *self.power._blocks()]

    @property
    def _doubt(self) -> str:
        """Which of the two values that the answer lies between may be on the other side."""
        at = self.curve.index[self.curve[self.along] == self.value][0]
        near = self.curve.iloc[max(at - 1, 0) : at + 1]
        undecided = near[_undecided(near, self.target)][self.along]
        told = [
            f"{value:g} may {'fall short' if value == self.value else 'do as well'}"
            for value in undecided
        ]
        return f"{self.along} = {', and '.join(told)}"

    @property
    def seed(self) -> int:
        """Int that gives the same search again, with the same version of jaxhlm."""
        return self.power.seed

    def _repr_html_(self) -> str:
        """What was simulated too."""
        return as_html([*self._blocks(), [framed(self.curve, ".4g", index=False)]])


def power_curve(
    mechanism: Generating,
    test: Test,
    along: str,
    values: Sequence[float],
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
) -> pd.DataFrame:
    """Power at several values of a size or a parameter.

    All values use the same seed, so that the curve is smooth in a parameter; every interval is
    right by itself, but their errors go together. Sizes share compiled programs: all of them where
    units are alike within (as when they share a grid of x), else those up to 16 units, up to 64,
    and up to every later power of two.

    Args:
        mechanism: a ``Mechanism``; a pair (design, truth) where no size is varied.
        test, n, alpha, df, seed, formula, reml, level: as for ``power``.
        along: "units" (their number), "measurements" (of every unit), "sigma", "corr", "beta[TERM]"
            or "sd[TERM]". A data frame gets more units by repeating its units in turn, and more
            measurements by repeating the rows of each; fewer by leaving out the last. A design
            from ``jaxhlm.units`` is made anew in the other size.
        values: one or more.
        progress: show a progress bar; by default in a terminal and in a notebook.
        devices, precision: as for ``power``; every size is compiled anew for devices.
        executor: as for ``power``; it works on one value after the other.

    Returns:
        One row per value and test: the value in a column named as ``along``, then the columns of
        ``Power.table``. At a Ctrl-C those of the values that are finished, with a warning.
        ``attrs["seed"]`` is an int that gives the same data sets again.

    Raises:
        JaxhlmError: as for ``power``; before anything is simulated where a value is at fault.

    Warns:
        OneDrawWarning: as for ``power``.

    Example:
        >>> import jaxhlm as hlm
        >>> truth = hlm.Truth.of([1, 3, -0.15, 0.3], sd=[0.2, 0.5], corr=0.9, sigma=0.75)
        >>> m = hlm.mechanism("y ~ x * a + (1 + x | unit)", hlm.load_dataset("article"), truth)
        >>> curve = hlm.power_curve(m, "x:a", along="units", values=[10, 20], n=500, seed=1)
        >>> curve[["units", "analytic"]].round(2).to_dict("list")
        {'units': [10, 20], 'analytic': [0.2, 0.72]}
    """
    workers = workers_of(executor)
    check_options(n, alpha, df, reml, level, devices, workers)
    check_along(along)
    values = listed_values("values", values)
    if not values:
        raise OptionError("values is empty: give one value or more")
    steps = []
    for value in values:
        with _blaming(along, value):
            steps.append(_changed(mechanism, along, value))
            read_tests(test, analysed(steps[-1], formula)[0])
    warn_of_one_draw(mechanism)
    key, tables = random_key(seed), list[pd.DataFrame]()
    try:
        with step_progress(len(values), along, progress) as advance, all_or_nothing():
            for value, step in zip(values, steps, strict=True):
                trials = Trials(
                    step, test, alpha, df, key, formula, reml, level, devices, precision, workers
                )
                table = trials.power(n, False).table
                table.insert(0, along, value)
                tables.append(table)
                advance(f"{value:g}")
    except KeyboardInterrupt as error:
        keep_part(error, len(tables), len(values), f"values of {along}")
    curve = Shown(pd.concat(tables, ignore_index=True), [seed_in_words(n, seed_of(key))])
    curve.attrs["seed"] = seed_of(key)
    return curve


def solve_power(
    mechanism: Generating,
    test: Test,
    target: float = 0.8,
    along: str = "units",
    bounds: tuple[float, float] = (4, 1000),
    n: int = 10_000,
    alpha: float = 0.05,
    df: DfMethod = "satterthwaite",
    seed: Seed = None,
    *,
    formula: str | None = None,
    reml: bool = True,
    level: float = 0.99,
    progress: bool | None = None,
    devices: Devices = None,
    precision: Precision = "float64",
    executor: Workload | None = None,
) -> PowerSolution:
    """The smallest size, or effect, at which a test reaches the target.

    The power by formula, that of REML, says where to start. From there the bracket is widened until
    simulation finds the target inside, and halved. Where the interval of a simulated power holds
    the target, four times as many data sets are drawn, up to 16 times ``n``; only then its estimate
    decides.
    A size at which the model is not identified does not reach the target.

    Args:
        mechanism: as for ``power_curve``.
        test: one test, as for ``power``.
        target: the power wanted.
        along: "units", "measurements" or "beta[TERM]": something that power grows with.
        bounds: smallest and largest value to consider; an effect is found to 1/256 of their
            distance, both of its bounds being on one side of zero.
        n, alpha, df, seed, formula, reml: as for ``power``.
        level: of the intervals that decide.
        progress: show a progress bar; by default in a terminal and in a notebook.
        devices, precision, executor: as for ``power_curve``.

    Raises:
        TargetError: the target is not reached within the bounds.
        JaxhlmError: as for ``power``.

    Warns:
        OneDrawWarning: as for ``power_curve``.

    Example:
        >>> import jaxhlm as hlm
        >>> truth = hlm.Truth.of([1, 3, -0.15, 0.3], sd=[0.2, 0.5], corr=0.9, sigma=0.75)
        >>> m = hlm.mechanism("y ~ x * a + (1 + x | unit)", hlm.load_dataset("article"), truth)
        >>> found = hlm.solve_power(m, "x:a", target=0.9, bounds=(10, 60), n=500, seed=1)
        >>> bool(35 < found.value < 55)
        True
    """
    workers = workers_of(executor)
    check_options(n, alpha, df, reml, level, devices, workers)
    low, high, step = _bounds(along, bounds)
    fraction("target", target, 0.8)
    if not isinstance(test, str | Mapping) and len(listed_values("test", test)) != 1:
        raise OptionError("solve_power needs one test")
    with _blaming(along, high):
        read_tests(test, analysed(_changed(mechanism, along, high), formula)[0])
    warn_of_one_draw(mechanism)
    key, tables, found = random_key(seed), dict[float, pd.DataFrame](), dict[float, Power]()

    with step_progress(None, along, progress) as advance, all_or_nothing():

        def reaches(value: float) -> bool:
            try:
                trials = Trials(
                    _changed(mechanism, along, value), test, alpha, df, key,
                    formula, reml, level, devices, precision, workers,
                )  # fmt: skip
            except UNIDENTIFIED:
                return False
            for times in TIMES:
                found[value] = trials.power(times * n, False)
                tables[value] = found[value].table.copy()
                if not _undecided(tables[value], target).any():
                    break
            tables[value].insert(0, along, value)
            advance(f"{value:g}")
            return bool(tables[value]["power"].iloc[0] >= target)

        def by_formula(value: float) -> float:
            try:
                changed = _changed(mechanism, along, value)
                design, truth = analysed(changed, formula)
            except UNIDENTIFIED:
                return np.nan
            one = read_tests(test, design)[0]
            return formula_power(changed, design, truth, one, alpha, df, formula)

        start = _start(by_formula, low, high, step, target)
        value = _smallest(reaches, start, low, high, step)
    order = sorted(tables, key=abs)
    curve = Shown(pd.concat([tables[v] for v in order], ignore_index=True))
    if value is None:
        last = tables[high].iloc[0]
        raise TargetError(
            f"the power at {along}={high:g} is {last['power']:.4f} "
            f"[{last['conf_low']:.4f}, {last['conf_high']:.4f}], below {target:g}; "
            "raise the upper bound, or the effect"
        )
    at = order.index(value)
    near = curve.iloc[max(at - 1, 0) : at + 1]
    return PowerSolution(
        value, target, along, curve, not _undecided(near, target).any(), found[value]
    )


@contextmanager
def _blaming(along: str, value: float) -> Iterator[None]:
    """Say at which value a model is not identified."""
    try:
        yield
    except UNIDENTIFIED as error:
        raise type(error)(f"{along}={value:g}: {error}") from error


def _changed(mechanism: Generating, along: str, value: float) -> Generating:
    """``varied``, also for a pair of design and truth."""
    analysed(mechanism, None)
    if not isinstance(mechanism, tuple):
        return varied(mechanism, along, value)
    if along in SIZES:
        raise OptionError(
            f"{along} needs a Mechanism, which knows the data frame: "
            "jaxhlm.mechanism(formula, data, truth)"
        )
    design, truth = mechanism
    return design, changed_truth(truth, design, along, float(value))


def _bounds(along: str, bounds: tuple[float, float]) -> tuple[float, float, float]:
    """Low and high, in the order of increasing power, and the resolution with its sign."""
    check_along(along)
    if along not in SIZES and not along.startswith("beta"):
        raise OptionError(
            f"power does not grow with {along!r}; solve along units, measurements or beta[TERM]"
        )
    given = [number("bounds", value) for value in listed_values("bounds", bounds)]
    if len(given) != 2 or not given[0] < given[1]:
        raise OptionError(f"bounds={bounds!r}: give (low, high) with low < high")
    low, high = given
    if along in SIZES:
        if low != int(low) or high != int(high) or low < 1:
            raise OptionError(f"bounds={bounds!r} of {along} must be whole numbers, 1 or more")
        return int(low), int(high), 1
    if low < 0.0 < high:
        raise OptionError(f"bounds={bounds!r} of an effect must lie on one side of zero")
    low, high = (low, high) if low >= 0.0 else (high, low)
    return float(low), float(high), (high - low) * RESOLUTION


def _start(
    by_formula: Callable[[float], float], low: float, high: float, step: float, target: float
) -> float:
    """Where the power by formula reaches the target, or the middle where there is no formula."""
    end = round((high - low) / step)
    if not np.isfinite(by_formula(high)):
        return low + (end // 2) * step
    return low + step * _halved(lambda i: by_formula(low + i * step) >= target, 0, end)


def _smallest(
    reaches: Callable[[float], bool], start: float, low: float, high: float, step: float
) -> float | None:
    """Smallest low + i·step that reaches the target; None if ``high`` does not.

    A bracket is widened around ``start``, then halved.
    """
    end = round((high - low) / step)

    def at(i: int) -> float:
        return high if i == end else low + i * step

    above, stride = round((start - low) / step), 1
    if reaches(at(above)):
        while above > 0 and reaches(at(below := max(above - stride, 0))):
            above, stride = below, 2 * stride
        if above == 0:
            return at(0)
    else:
        below = above
        while below < end and not reaches(at(above := min(below + stride, end))):
            below, stride = above, 2 * stride
        if below == end:
            return None
    return at(_halved(lambda i: reaches(at(i)), below, above))


def _halved(reaches: Callable[[int], bool], below: int, above: int) -> int:
    """The smallest number that reaches the target, ``above`` doing so and ``below`` not."""
    while above - below > 1:
        middle = (above + below) // 2
        below, above = (below, middle) if reaches(middle) else (middle, above)
    return above


def _undecided(curve: pd.DataFrame, target: float) -> pd.Series:
    """Which rows have an interval that holds the target."""
    return (curve["conf_low"] < target) & (target < curve["conf_high"])
