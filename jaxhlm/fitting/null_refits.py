"""Many responses refitted to resamples under hypotheses, of which the largest statistic is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxhlm.core.chunks import chunk_bytes, slices
from jaxhlm.core.devices import Devices
from jaxhlm.core.notation import Floats, Ints
from jaxhlm.estimation.hypotheses import Hypothesis
from jaxhlm.estimation.pipeline import Report, all_or_nothing, gather, keep_part
from jaxhlm.estimation.progress import progress_report
from jaxhlm.fitting.places import fitter
from jaxhlm.inference.contrast_tests import DfMethod
from jaxhlm.inference.max_t import exceedances, single_step, step_down
from jaxhlm.inference.tails import normal_size
from jaxhlm.resampling.null_responses import NullResponses, SomeFits, constrained
from jaxhlm.results import coefficients
from jaxhlm.results.record import FitRecord
from jaxhlm.sources.sources import ResponseMatrix

__all__ = ["NullRefits", "Resampled"]

# Refits that are made together at most, and resamples that a response has among them where memory
# allows; arrays of the size of its rows that are there at once for each.
TOGETHER, EACH, COPIES = 2**15, 64, 4


class Resampled(NamedTuple):
    """What is kept of the resamples that are finished, R of them."""

    counts: Ints  # (B, r) those that reach |z|, by the largest of all responses of smaller |z|
    maxima: Floats  # (R, r) the largest |z*|
    failed: int  # refits that failed


@dataclass(frozen=True)
class NullRefits:
    """Fits, hypotheses, and resamples in which these hold.

    Attributes:
        record: the fits.
        source: their responses.
        null: the resamples.
        hypothesis: r rows of Lβ = rhs.
        df: method of the degrees of freedom.
        observed: (B, r) |z| of the fits, NaN where there is no test.
        in_order: whether responses are taken in ascending order of it, as the step-down procedure
            needs them.
        devices: where they are refitted.
    """

    record: FitRecord
    source: ResponseMatrix
    null: NullResponses
    hypothesis: Hypothesis
    df: DfMethod
    observed: Floats
    in_order: bool
    devices: Devices

    @property
    def tests(self) -> int:
        """Number of tests, each refitted in every resample."""
        return int((~np.isnan(self.observed)).sum())

    def run(self, progress: bool | None) -> Resampled:
        """Refit; at a Ctrl-C what is finished, with a warning.

        Raises:
            KeyboardInterrupt: no resample is finished, or they are all patterns in their order.
        """
        counts, maxima, failed = np.zeros(self.observed.shape, np.int64), [], 0
        together, runs = self._sizes()
        orders = [self._order(j) for j in range(len(self.hypothesis.L))]
        try:
            with progress_report(self.null.n * self.tests, progress) as report, all_or_nothing():
                for run in runs:
                    parts = [
                        self._part(j, order, together, run, report)
                        for j, order in enumerate(orders)
                    ]
                    for j, part in enumerate(parts):
                        counts[orders[j], j] += part.counts
                    maxima.append(np.stack([part.maxima for part in parts], axis=1))
                    failed += sum(part.failed for part in parts)
        except KeyboardInterrupt as error:
            if self.null.exact:
                raise
            keep_part(error, sum(map(len, maxima)), self.null.n, "resamples")
        return Resampled(counts, np.concatenate(maxima), failed)

    def p_values(self, found: Resampled) -> Floats:
        """(B, r) adjusted for all responses, each hypothesis by itself."""
        p, R = np.full(self.observed.shape, np.nan), len(found.maxima)
        for j, maxima in enumerate(found.maxima.T):
            at = self._order(j)
            if self.in_order:
                p[at, j] = step_down(found.counts[at, j], R)
            else:
                p[at, j] = single_step(self.observed[at, j], maxima)
        return p

    def _order(self, j: int) -> Ints:
        """Positions of the fits that are tested, in the order in which they are refitted."""
        known: Ints = np.flatnonzero(~np.isnan(self.observed[:, j]))
        if not self.in_order:
            return known
        return known[np.argsort(self.observed[known, j], kind="stable")]

    def _sizes(self) -> tuple[int, Iterator[slice]]:
        """Responses that are refitted together, and runs of resamples."""
        n, B = self.source.design.n, len(self.record)
        lanes = max(1, min(TOGETHER, chunk_bytes() // (8 * COPIES * n)))
        each = min(self.null.n, max(lanes // B, min(lanes, EACH)))
        return max(1, lanes // each), slices(self.null.n, each)

    def _part(
        self, j: int, order: Ints, together: int, run: slice, report: Report | None
    ) -> Resampled:
        """Counts (tests,) in the order and the largest (resamples,) of one hypothesis and run."""
        largest, failed, counts = np.zeros(run.stop - run.start), 0, [np.zeros(0, np.int64)]
        for part in slices(len(order), together):
            at = order[part]
            z = self._refitted(j, at, run, report)
            reached, largest = exceedances(self.observed[at, j], z, largest)
            counts.append(reached)
            failed += int(np.isnan(z).sum())
        return Resampled(np.concatenate(counts), largest, failed)

    def _refitted(self, j: int, at: Ints, run: slice, report: Report | None) -> Floats:
        """|z*| (tests, resamples) of some fits under hypothesis j; NaN where a refit failed."""
        L, some = self.hypothesis.L[[j]], self._some(j, at)
        rows = self.null.rows(some, run)
        W = None if some.weights is None else np.repeat(some.weights, rows.shape[2], axis=1)
        source = ResponseMatrix(self.source.prepared, rows.reshape(len(rows), -1), W=W)
        fits = self._fitted(source, report)
        p = np.where(fits.ok, coefficients.tests(fits, L, self.df)[2][:, 0], np.nan)
        return normal_size(p).reshape(len(at), -1)

    def _some(self, j: int, at: Ints) -> SomeFits:
        """Some fits and their responses, with what hypothesis j fits to them."""
        source, lanes = self.source, self.record.lane_index[at]
        estimates = self.record.estimates[at]
        beta = constrained(estimates, self.hypothesis.L[j], float(self.hypothesis.rhs[j]))
        W = None if source.W is None else _columns(source.W, lanes)
        return SomeFits(lanes, _columns(source.Y, lanes), W, source.design.X @ beta.T, estimates)

    def _fitted(self, source: ResponseMatrix, report: Report | None) -> FitRecord:
        options, lanes = replace(self.record.options, precision="float64"), np.arange(source.B)
        parts = fitter(source, options, self.devices)(source.runs())
        estimates, nobs, ngroups = gather(parts, source.B, report)
        index, model = pd.RangeIndex(source.B), self.record.model
        return FitRecord(model, estimates, index, nobs, ngroups, options, lanes, source)


def _columns(Y: Any, lanes: Ints) -> Floats:
    """Responses (n, lanes), in any order and more than once, from where they are."""
    once, place = np.unique(lanes, return_inverse=True)
    found: Floats = Y[:, once][:, place]
    return found
