"""From a design and its responses to estimates, in chunks of lanes that bound the memory.

Two ways to have many lanes: responses that share one design (``fit_responses``), and data sets with
rows of their own (``fit_replicates``), padded to a common number of groups.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from jaxhlm.collapse import Classes, balanced_start, collapse, find_classes, rotate
from jaxhlm.design import Design
from jaxhlm.drawing import Law, draw_statistics
from jaxhlm.engine import LANE_BUCKETS, Solution, lane_bucket, solve
from jaxhlm.estimates import Estimates, RandomEffects, estimate, random_effects
from jaxhlm.minimum import Options
from jaxhlm.notation import Floats, Ints
from jaxhlm.response import Standard, respond
from jaxhlm.standardise import Rows, StandardDesign, standardise_design

__all__ = ["Prepared", "Replicates", "fit_chunks", "fit_drawn", "fit_replicates", "fit_responses"]

CHUNK_BYTES = 2**28
MAX_LANES = LANE_BUCKETS[-1]
# Compiling the draws takes seconds, drawing a few hundred too many nothing.
FEWEST_DRAWN = 512

Report = Callable[[Estimates], None]


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
    def standard(self) -> StandardDesign:
        """The standardised design."""
        d, order = self.design, self.order
        weights = None if d.weights is None else d.weights[order]
        rows = Rows(
            d.X[order], d.Z[order], d.group[order], np.zeros(d.n, np.int64), weights, d.blocks
        )
        return standardise_design(rows)

    @cached_property
    def classes(self) -> Classes | None:
        """Groups that collapse because they share their random-effects columns."""
        return find_classes(self.standard.stats)

    def respond(self, Y: Floats) -> Standard:
        """Standardised lanes of responses (n, B) in the row order of the design."""
        return respond(self.standard, Y if self.sorted else Y[self.order])

    def random_effects(self, Y: Floats, estimates: Estimates) -> RandomEffects:
        """BLUPs of responses (n, B)."""
        return random_effects(estimates, self.respond(Y), self.design.blocks)


@dataclass(frozen=True)
class Replicates:
    """Rows of many data sets, sorted by data set and then by group.

    Attributes:
        y: (n,) response.
        rows: the design rows; ``rows.lane`` numbers the data sets.
    """

    y: Floats
    rows: Rows

    def chunk(self, first: int, last: int) -> Standard:
        """Standardised lanes first … last − 1."""
        r = self.rows
        start, stop = np.searchsorted(r.lane, [first, last])
        part = slice(start, stop)
        weights = None if r.weights is None else r.weights[part]
        rows = Rows(r.X[part], r.Z[part], r.segment[part], r.lane[part], weights, r.blocks)
        return respond(standardise_design(rows), self.y[part, None])


def fit_responses(
    prepared: Prepared, Y: Floats, options: Options, report: Report | None = None
) -> Estimates:
    """Fit every column of Y (n, B) on one design.

    Args:
        prepared: the design.
        Y: (n, B) responses, rows as in the design.
        options: what to optimise.
        report: called with the estimates of every finished chunk.
    """
    return fit_chunks(prepared, lambda first, last: Y[:, first:last], Y.shape[1], options, report)


def fit_chunks(
    prepared: Prepared,
    responses: Callable[[int, int], Floats],
    B: int,
    options: Options,
    report: Report | None = None,
) -> Estimates:
    """As ``fit_responses`` with responses that are made chunk by chunk.

    Args:
        prepared: the design.
        responses: maps (first, last) to the (n, last − first) responses of those lanes.
        B: number of lanes.
        options: what to optimise.
        report: called with the estimates of every finished chunk.
    """

    def one(lanes: tuple[int, int]) -> Estimates:
        standard = prepared.respond(responses(*lanes))
        stats, classes, start = standard.stats, prepared.classes, None
        if classes is not None:
            rotated = rotate(stats, classes)
            start = balanced_start(stats, classes, rotated, options.reml, options.blocks)
            stats = collapse(stats, classes, rotated)
        return _estimates(standard, solve(stats, options, start), options)

    return _collect(one, _chunks(B, 8 * prepared.design.n), report)


def fit_drawn(
    law: Law, key: Any, n: int, options: Options, report: Report | None = None
) -> Estimates:
    """Draw ``n`` data sets as statistics and fit them; arguments as in ``fit_responses``."""

    def one(lanes: tuple[int, int]) -> Estimates:
        compiled = max(FEWEST_DRAWN, lane_bucket(lanes[1] - lanes[0]))
        standard, rotated = draw_statistics(law, key, *lanes, compiled)
        start = None
        if law.classes is not None:
            start = balanced_start(
                standard.stats, law.classes, rotated, options.reml, options.blocks
            )
        return _estimates(standard, solve(standard.stats, options, start), options)

    return _collect(one, _chunks(n, 8), report)


def fit_replicates(
    replicates: Replicates, options: Options, report: Report | None = None
) -> Estimates:
    """Fit data sets that have rows of their own; arguments as in ``fit_responses``."""
    r = replicates.rows
    B = int(r.lane[-1]) + 1
    columns = r.X.shape[1] + r.Z.shape[1]
    row_bytes = 8 * 4 * columns * -(-len(replicates.y) // B)

    def one(lanes: tuple[int, int]) -> Estimates:
        standard = replicates.chunk(*lanes)
        return _estimates(standard, solve(standard.stats, options), options)

    return _collect(one, _chunks(B, row_bytes), report)


def _chunks(B: int, lane_bytes: int) -> Iterator[tuple[int, int]]:
    """Runs of lanes, as long as the memory bound and the largest compiled size allow."""
    most = max(1, min(MAX_LANES, CHUNK_BYTES // lane_bytes))
    return ((first, min(first + most, B)) for first in range(0, B, most))


def _estimates(standard: Standard, solution: Solution, options: Options) -> Estimates:
    n = np.broadcast_to(standard.stats.n, standard.status.shape)
    return estimate(solution, standard.scaling, standard.status, n, options)


def _collect(
    one: Callable[[tuple[int, int]], Estimates],
    chunks: Iterator[tuple[int, int]],
    report: Report | None,
) -> Estimates:
    """Fit the chunks on as many threads as there are cores (NumPy and XLA let go of the GIL).

    BLAS stays on one thread meanwhile: its own threads would fight with these over the cores. An
    interrupt (Ctrl-C) ends the work; what was finished, in order, is returned.
    """
    parts: list[Estimates] = []
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        try:
            for done in _ahead(pool, one, chunks):
                parts.append(done)
                if report is not None:
                    report(done)
        except KeyboardInterrupt:
            if not parts:
                raise
    return Estimates.concatenate(parts)


def _ahead(
    pool: ThreadPoolExecutor,
    one: Callable[[tuple[int, int]], Estimates],
    chunks: Iterator[tuple[int, int]],
) -> Iterator[Estimates]:
    """Results in order, with only a few chunks under way, so that memory stays bounded.

    The first chunk runs alone, or every thread would compile the same code.
    """
    waiting: deque[Future[Estimates]] = deque()
    try:
        yield one(next(chunks))
        for chunk in chunks:
            waiting.append(pool.submit(one, chunk))
            if len(waiting) > 2 * (os.cpu_count() or 1):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
