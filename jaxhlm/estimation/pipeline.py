"""From reduced data sets to estimates, in chunks of lanes that bound the memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

import numpy as np

from jaxhlm.core.chunks import in_order
from jaxhlm.core.notation import Floats, Ints
from jaxhlm.core.scopes import within
from jaxhlm.core.status import Status
from jaxhlm.design.checks import check_identified
from jaxhlm.design.design import Design
from jaxhlm.design.identified import identified
from jaxhlm.errors import DeviceError, ExecutorError, InterruptedFitsWarning, warn_user
from jaxhlm.estimation.estimates import Estimates, estimate
from jaxhlm.optimise.options import Options
from jaxhlm.optimise.solve import Solution, solve
from jaxhlm.statistics.balanced import balanced_minimum, completed
from jaxhlm.statistics.equal_groups import EqualGroups
from jaxhlm.statistics.group_contributions import (
    GroupContributions,
    WithinBasis,
    reduce_by_group,
    within_basis,
)
from jaxhlm.statistics.observations import Observations
from jaxhlm.statistics.response import (
    Standardised,
    reduce_and_split,
    reduce_in_one_pass,
    reduce_responses,
)
from jaxhlm.statistics.standardise import Rows, StandardisedMatrices, standardise_matrices

__all__ = [
    "Chunks",
    "Fitted",
    "Prepared",
    "Reduced",
    "all_or_nothing",
    "cut",
    "fit_lanes",
    "fit_standardised",
    "fitted_runs",
    "gather",
    "keep_part",
    "with_identified",
]

Report = Callable[[Ints], None]
_ALL_OR_NOTHING: ContextVar[bool] = ContextVar("all_or_nothing", default=False)


@dataclass(frozen=True)
class Prepared:
    """A design whose rows are sorted by group and standardised when first needed."""

    design: Design

    @cached_property
    def order(self) -> Ints:
        """(n,) row numbers, group after group."""
        return np.argsort(self.design.group, kind="stable")

    @cached_property
    def sorted(self) -> bool:
        """Whether the rows already come group after group."""
        return bool((np.diff(self.design.group) >= 0).all())

    @cached_property
    def rows(self) -> Rows:
        """The rows, group after group."""
        d = self.design
        X, Z, group = (self.by_group_order(x) for x in (d.X, d.Z, d.group))
        weights = None if d.weights is None else self.by_group_order(d.weights)
        return Rows(X, Z, group, np.zeros(d.n, np.int64), weights, d.blocks)

    @cached_property
    def matrices(self) -> StandardisedMatrices:
        """Its standardised model matrices."""
        return standardise_matrices(self.rows)

    def check_identified(self, reml: bool) -> None:
        """Refuse a random part that this design does not identify, whatever the response.

        Raises:
            IdentifiabilityError: the message names the variances and covariances.
        """
        d, matrices = self.design, self.matrices
        if matrices.status[0] == Status.CONVERGED:
            C = matrices.C[..., 0]
            check_identified(matrices.stats, C, d.group_name, d.znames, d.blocks, reml)

    @property
    def lane_bytes(self) -> int:
        """What the products of one response with the design take while they are reduced."""
        d = self.design
        return 8 * 8 * d.G * (d.q if self.matrices.z_spans_x else d.q + d.p)

    @cached_property
    def equal(self) -> EqualGroups:
        """Groups that count once because they share their random-effects columns."""
        return EqualGroups.of(self.matrices.stats, self.matrices.z_spans_x)

    def by_group_order(self, values: Any) -> Any:
        """Values (n, …) in the order of the data, group after group."""
        return values if self.sorted else values[self.order]

    def reduce_responses(self, Y: Floats) -> Standardised:
        """Standardised lanes of responses (n, B) in the row order of the design."""
        return reduce_responses(self.matrices, self.by_group_order(Y))

    def observations(self, Y: Floats) -> Observations:
        """The rows with responses (n, B)."""
        level, y = np.arange(self.design.G), self.by_group_order(Y)
        return Observations(self.matrices, self.rows, y, self.order, level)

    @cached_property
    def within_basis(self) -> WithinBasis:
        """Bases, by group, of what X has beyond the span of Z."""
        return within_basis(self.matrices)

    def by_group(self, Y: Floats) -> GroupContributions:
        """Standardised lanes of responses (n, B), every group by itself."""
        found = reduce_by_group(self.within_basis, self.by_group_order(Y))
        return found._replace(equal=self.equal)

    def reduced(self, Y: Floats) -> Reduced:
        """Responses (n, B), equal groups joined."""
        return self.joined(*reduce_and_split(self.matrices, self.by_group_order(Y), self.equal))

    def traced(self, Y: Any) -> tuple[Reduced, Any]:
        """``reduced``, traceable; also which lanes (B,) are precise."""
        y = self.by_group_order(Y)
        standardised, grams, precise = reduce_in_one_pass(self.matrices, y, self.equal)
        return self.joined(standardised, grams), precise

    @cached_property
    def digest(self) -> bytes:
        """Equal for designs with the same numbers, whose compiled programs are the same."""
        d, content = self.design, blake2b()
        content.update(repr((d.X.shape, d.blocks, d.G)).encode())
        for values in (d.X, d.Z, d.group, d.weights):
            content.update(b"" if values is None else np.ascontiguousarray(values).tobytes())
        return content.digest()

    def joined(self, standardised: Standardised, grams: list[Floats] | None = None) -> Reduced:
        """Standardised lanes of this design, equal groups joined; without ``grams`` split first."""
        if grams is None:
            rows, grams = self.equal.split(standardised.stats.Ty)
            standardised = standardised._replace(stats=standardised.stats._replace(Ty=rows))
        stats = self.equal.join(standardised.stats, standardised.stats.Ty, grams)
        return Reduced.of(standardised._replace(stats=stats), self.equal, grams)


class Reduced(NamedTuple):
    """Data sets of one chunk, reduced to what is fitted."""

    standardised: Standardised  # with equal groups joined
    nobs: Ints  # (B,) rows of each
    ngroups: Ints  # (B,) groups of each
    equal: EqualGroups | None = None  # of the design, if all of them share one
    grams: Sequence[Floats] = ()  # N of every class of equal groups
    lanes: slice | Ints = slice(None)  # which of the chunk they are

    @staticmethod
    def of(
        standardised: Standardised, equal: EqualGroups | None = None, grams: Sequence[Floats] = ()
    ) -> Reduced:
        """All data sets of a chunk, each with the rows and groups of its statistics."""
        sizes = standardised.stats.n, standardised.stats.m.sum(axis=0)
        nobs, ngroups = (
            np.broadcast_to(x, standardised.status.shape).astype(np.int64) for x in sizes
        )
        return Reduced(standardised, nobs, ngroups, equal, grams)

    def minimum(self, options: Options) -> Solution | None:
        """In closed form where the design is balanced."""
        if self.equal is None:
            return None
        return balanced_minimum(self.standardised.stats, self.equal, self.grams, options)


class Fitted(NamedTuple):
    """Data sets that were fitted."""

    estimates: Estimates
    nobs: Ints  # (B,) rows of each
    ngroups: Ints  # (B,) groups of each

    def part(self, which: slice) -> Fitted:
        """Some of them."""
        return Fitted(self.estimates[which], self.nobs[which], self.ngroups[which])


class Chunks(Protocol):
    """Data sets that are reduced chunk by chunk."""

    def runs(self) -> Iterable[slice]:
        """Consecutive lanes that are reduced together."""
        ...

    def reduced(self, lane_slice: slice) -> Iterator[Reduced]:
        """A chunk, in parts that cover it; a later one may have lanes of an earlier one again."""
        ...


def fit_lanes(source: Chunks, options: Options, report: Report | None = None) -> Fitted:
    """Fit data sets that are reduced chunk by chunk; the first of them at a Ctrl-C.

    Args:
        source: the data sets.
        options: what to optimise.
        report: called with the statuses of every finished chunk.
    """
    runs = list(source.runs())
    return gather(fitted_runs(source, options, runs), runs[-1].stop, report, partial=True)


def fitted_runs(source: Chunks, options: Options, runs: Iterable[slice]) -> Iterator[Fitted]:
    """Some of the runs of ``source.runs()``, in order, as they are fitted."""

    def one(lane_slice: slice) -> Fitted:
        found, size = None, lane_slice.stop - lane_slice.start
        nobs, ngroups = (np.zeros(size, np.int64) for _ in range(2))
        for part in source.reduced(lane_slice):
            fitted = fit_standardised(part.standardised, options, part.minimum(options))
            if found is None:
                found = fitted if len(fitted.status) == size else fitted.empty(size)
            if found is not fitted:
                found = found.replaced(part.lanes, fitted)
            nobs[part.lanes] = part.nobs
            ngroups[part.lanes] = part.ngroups
        assert found is not None
        return Fitted(found, nobs, ngroups)

    return in_order(one, runs)


def fit_standardised(
    standardised: Standardised, options: Options, known: Solution | None = None
) -> Estimates:
    """Fit standardised lanes, of some of which the minimum is known; no rows are needed."""
    standardised = with_identified(standardised, options)
    if known is None:
        solution = solve(standardised.stats, options)
    else:
        solution = completed(known, standardised.stats, options)
    return estimate(solution, standardised, options)


def with_identified(standardised: Standardised, options: Options) -> Standardised:
    """The lanes, of which those whose θ is not identified have that status and no response."""
    asked = standardised.status == Status.CONVERGED
    known = identified(standardised.stats, options.blocks, options.reml, asked)
    if known.all():
        return standardised
    lost = asked & ~known
    yy = np.where(lost, np.nan, standardised.stats.yy)
    status = np.where(lost, Status.NOT_IDENTIFIED, standardised.status)
    return standardised._replace(stats=standardised.stats._replace(yy=yy), status=status)


def gather(
    parts: Iterable[Fitted], B: int, report: Report | None = None, partial: bool = False
) -> Fitted:
    """The next B data sets of consecutive parts.

    If ``partial``, those that were finished when it was interrupted, or a device or a worker was
    lost, which a warning says. They are written into arrays that are made once: parts kept among
    all that comes and goes while others are fitted would leave the heap full of holes.

    Raises:
        KeyboardInterrupt, DeviceError, ExecutorError: nothing is finished, or ``all_or_nothing``
            was asked for.
    """
    gathered, done = None, 0
    nobs, ngroups = (np.zeros(B, np.int64) for _ in range(2))
    try:
        for part in parts:
            gathered = part.estimates.empty(B) if gathered is None else gathered
            run = slice(done, done + len(part.nobs))
            nobs[run], ngroups[run] = part.nobs, part.ngroups
            done = gathered.write(done, part.estimates)
            if report is not None:
                report(part.estimates.status)
            if done == B:
                break
    except (KeyboardInterrupt, DeviceError, ExecutorError) as error:
        if not partial:
            raise
        keep_part(error, done, B, "fits")
    assert gathered is not None
    return Fitted(gathered[:done], nobs[:done], ngroups[:done])


def cut(parts: Iterable[Fitted], sizes: Iterable[int]) -> Iterator[Fitted]:
    """Consecutive parts, cut in two where one goes beyond the end of so many data sets together."""
    left, room = iter(sizes), 0
    for part in parts:
        while len(part.nobs):
            room = room or next(left)
            here, part = part.part(slice(room)), part.part(slice(room, None))
            room -= len(here.nobs)
            yield here


def keep_part(error: BaseException, done: int, of: int, what: str, more: str = "") -> None:
    """Say that so much was finished when work was interrupted, and is returned.

    Raises:
        BaseException: the error, where nothing is finished, or within ``all_or_nothing``.
    """
    if not done or _ALL_OR_NOTHING.get():
        raise error
    why = str(error) or "interrupted"
    warn_user(
        f"{why}: {done} of {of} {what} are finished and returned{more}", InterruptedFitsWarning
    )


def all_or_nothing() -> AbstractContextManager[None]:
    """Let a Ctrl-C within raise, where a part of the fits would be taken for all of them."""
    return within(_ALL_OR_NOTHING, True)
