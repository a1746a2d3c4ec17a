"""Data sets whose drop-out, or numbers of measurements, are drawn anew, as sufficient statistics.

What a unit may have been measured at is one of a few patterns: the first s of its planned
measurements, with the covariates of its kind. ``statistics.pattern_draws`` draws what the units of
every pattern add up to; a data set is as if its rows had been drawn, which ``lane`` can show.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from jaxhlm.core.chunks import as_slice
from jaxhlm.core.notation import Bools, Floats, Ints
from jaxhlm.core.streams import DESIGN, EFFECTS, Key, Streams
from jaxhlm.design.design import Design, build_design
from jaxhlm.design.subsets import settled, take_rows
from jaxhlm.estimation.pipeline import Prepared, Reduced
from jaxhlm.language.formula import ParsedFormula
from jaxhlm.likelihood.suffstats import GROUP_FIELDS
from jaxhlm.sources.drawn import STREAM_LANES
from jaxhlm.sources.lanes import Lanes
from jaxhlm.sources.sources import Source, full_rank
from jaxhlm.statistics.pattern_draws import (
    PatternDraws,
    PatternLaw,
    draw_patterns,
    pattern_law,
    tables_of,
    unit_responses,
)
from jaxhlm.statistics.products import multipliable, standardised_from_tables
from jaxhlm.statistics.replicates import Replicates, merged
from jaxhlm.statistics.response import Standardised, reduce_responses
from jaxhlm.statistics.standardise import Rows, standardise_matrices
from jaxhlm.studies.builder import UnitDesign
from jaxhlm.studies.truth import Truth
from jaxhlm.studies.unit_rows import DROPOUT, SIZES, drawn_sizes

__all__ = ["PatternSource", "Patterns", "patterns_of"]

# Patterns from which on units are drawn one by one.
MOST_PATTERNS = 64
# Statistics of so many data sets are kept for inference after the fit.
KEPT_BYTES = 2**24


@dataclass(frozen=True, eq=False)
class Patterns:
    """What the units of data sets may be measured at.

    Attributes:
        builder: draws how many measurements each has.
        prepared: the design of all planned rows.
        kind: (n,) which of ``kinds`` sets of covariates every unit has.
        law: of a unit of each pattern (kind, number of measurements), on standardised columns.
        beta: (p,) true fixed effects.
    """

    builder: UnitDesign
    prepared: Prepared
    kind: Ints
    law: PatternLaw
    beta: Floats

    @property
    def most(self) -> int:
        """Largest number of measurements."""
        return int(self.builder.most or 0)

    @property
    def most_kept(self) -> int:
        """Largest number of data sets whose statistics are kept once they are drawn."""
        q, p = self.law.ZX.shape[:2]
        return max(1, KEPT_BYTES // (8 * self.law.groups * (q * (q + p + 1) + 1)))


def patterns_of(
    builder: UnitDesign, template: Design, parsed: ParsedFormula, truth: Truth
) -> Patterns | None:
    """The patterns of a design that is redrawn; None where there are none, or too many of them.

    Args:
        builder: draws the designs.
        template: the generating model on one of them.
        parsed: its formula.
        truth: the parameters.
    """
    named = set(builder.redrawn_names)
    if not named <= {SIZES, DROPOUT} or builder.most is None or truth.sigma == 0.0:
        return None
    n, most, cells = builder.n, builder.most, builder.cells
    planned = replace(builder, measurements=most, dropout=None, redraw=False).frame()
    design = settled(
        build_design(parsed, planned, response_rows=len(planned), learned=template.learned)
    )
    if design.xnames != template.xnames or design.dropped_columns or template.dropped_columns:
        return None
    if full_rank(design) is not None or not multipliable(design.p, design.q):
        return None
    units = np.concatenate([design.X, design.Z], axis=1).reshape(n, most * cells, -1)
    _, first, kind = np.unique(units.reshape(n, -1), axis=0, return_index=True, return_inverse=True)
    if len(first) * most > MOST_PATTERNS:
        return None
    prepared = Prepared(design)
    T, C = prepared.matrices.T[..., 0], prepared.matrices.C[..., 0]
    inverse = np.linalg.inv(C)
    sizes = cells * np.arange(1, most + 1)
    X = [units[u, :size, : design.p] @ T for u in first for size in sizes]
    Z = [units[u, :size, design.p :] @ C for u in first for size in sizes]
    law = pattern_law(X, Z, inverse @ truth.cov @ inverse.T, truth.sigma)
    return Patterns(builder, prepared, kind.ravel(), law, truth.fixed(design.xnames))


@dataclass(frozen=True)
class PatternSource(Source):
    """Data sets that are drawn as statistics of units of the same pattern.

    Attributes:
        patterns: of the units.
        n: number of data sets.
        key: what ``random_key`` gives for the seed that they come from.
        first: number of the first.
        keeps: whether statistics of few data sets are kept for inference.
    """

    patterns: Patterns = field(repr=False)
    n: int
    key: Key
    first: int
    keeps: bool = True
    _kept: dict[tuple[int, int], Standardised] = field(default_factory=dict, repr=False)

    @property
    def design(self) -> Design:
        """The design of all planned rows."""
        return self.patterns.prepared.design

    @property
    def B(self) -> int:
        """Number of data sets."""
        return self.n

    @property
    def lane_bytes(self) -> int:
        """What one data set takes while it is drawn and reduced."""
        p, q = self.design.p, self.design.q
        return 8 * (4 * self.patterns.builder.n + 4 * self.patterns.law.groups * q * (p + q + 2))

    @property
    def forgetful(self) -> PatternSource:
        """The same data sets, whose statistics are not kept."""
        return replace(self, keeps=False)

    def reduced(self, lane_slice: slice) -> Iterator[Reduced]:
        """Draw."""
        yield Reduced.of(self._drawn_once(lane_slice))

    def lane(self, i: int) -> Design:
        """Data set i, as rows that have its statistics."""
        draws, pattern = self._drawn(np.array([i]))
        there, y = self._rows(draws, 0, pattern[0])
        own = take_rows(replace(self.design, y=y), np.flatnonzero(there))
        return replace(own, kept=np.ones(own.n, bool), n_dropped=0)

    def lanes(self, lane_index: Ints) -> Lanes:
        """Data sets, drawn again."""
        run = as_slice(lane_index)
        return replace(
            self.own_lanes(lambda: self._replicates(*self._drawn(lane_index))),
            reduce=lambda: (
                self._drawn_once(run) if isinstance(run, slice) else self._standardised(lane_index)
            ),
        )

    def _drawn_once(self, lane_slice: slice) -> Standardised:
        """A run, which inference on all fits asks for again."""
        run = (lane_slice.start, lane_slice.stop)
        found = self._kept.get(run) or self._standardised(np.arange(*run))
        if self.keeps and self.n <= self.patterns.most_kept:
            self._kept[run] = found
        return found

    def _standardised(self, lane_index: Ints) -> Standardised:
        """Statistics in the units of the design."""
        law, prepared = self.patterns.law, self.patterns.prepared
        draws, pattern = self._drawn(lane_index)
        T, C = prepared.matrices.T[..., 0], prepared.matrices.C[..., 0]
        found, lost = standardised_from_tables(tables_of(law, draws), self.design.blocks)
        s = found.scaling
        with np.errstate(all="ignore"):
            standardised = np.linalg.solve(T, self.patterns.beta).astype(float)
            taken_out = _solved(s.T, standardised, ~lost)
        scaling = s._replace(
            T=np.einsum("ij,jkl->ikl", T, s.T),
            C=np.einsum("ij,jkl->ikl", C, s.C),
            beta_ols=s.beta_ols + taken_out,
        )
        found = found._replace(scaling=scaling)
        if not lost.any():
            return found
        # As ``replicates.standardised_lanes`` does: from rows where products lose digits.
        at = np.flatnonzero(lost)
        own = self._replicates(draws.take(at), pattern[at])
        again = reduce_responses(standardise_matrices(own.rows), own.y[:, None])
        return merged(_padded(found, len(again.stats.m)), again, lost)

    def _drawn(self, lane_index: Ints) -> tuple[PatternDraws, Ints]:
        """Random numbers, and patterns (b, n) of the units."""
        p, number = self.patterns, self.first + lane_index
        # Whole sets of data sets are drawn, each from a stream of its own.
        stream, place = np.unique(number // STREAM_LANES, return_inverse=True)
        lanes = (stream[:, None] * STREAM_LANES + np.arange(STREAM_LANES)).ravel().tolist()
        sizes = drawn_sizes(p.builder, Streams(self.key, DESIGN).generators(lanes))
        pattern, K, b = p.kind * p.most + sizes - 1, len(p.law.rows), len(lanes)
        at = (np.arange(b)[:, None] * K + pattern).ravel()
        count = np.bincount(at, minlength=b * K).reshape(b, K).T
        generators = Streams(self.key, EFFECTS).generators(stream.tolist())
        draws = draw_patterns(p.law, count, generators, STREAM_LANES)
        asked = as_slice(place.ravel() * STREAM_LANES + number % STREAM_LANES)
        return draws.take(asked), pattern[asked]

    def _rows(self, draws: PatternDraws, lane: int, pattern: Ints) -> tuple[Bools, Floats]:
        """Which of the planned rows a data set has, and responses of these."""
        p, d = self.patterns, self.design
        cells, planned = p.builder.cells, p.most * p.builder.cells
        y = np.zeros((p.builder.n, planned))
        sizes = cells * (pattern % p.most + 1)
        for unit, own in enumerate(unit_responses(p.law, draws, lane, pattern)):
            y[unit, : len(own)] = own
        there = np.arange(planned) < sizes[:, None]
        return there.ravel(), np.where(there.ravel(), y.ravel() + d.X @ p.beta, np.nan)

    def _replicates(self, draws: PatternDraws, pattern: Ints) -> Replicates:
        """Rows of data sets, one below the other."""
        d, parts = self.design, [self._rows(draws, i, own) for i, own in enumerate(pattern)]
        there, y = (np.stack(x) for x in zip(*parts, strict=True))
        lane, row = np.nonzero(there)
        segment = lane * d.G + d.group[row]
        rows = Rows(d.X[row], d.Z[row], segment, lane, None, d.blocks)
        return Replicates(y[lane, row], rows, row)


def _solved(T: Floats, right: Floats, known: Bools) -> Floats:
    """(p, b) T⁻¹ right for matrices (p, p, b), 0 where they are not known."""
    T = np.where(known[:, None, None], np.moveaxis(T, -1, 0), np.eye(len(right)))
    found = np.linalg.solve(T, right[:, None])[..., 0].T
    return np.where(known, found, 0.0).astype(float)


def _padded(standardised: Standardised, G: int) -> Standardised:
    """The lanes with room for G groups."""
    stats = standardised.stats
    room = {
        name: np.pad(x, [(0, max(0, G - len(x)))] + [(0, 0)] * (x.ndim - 1))
        for name, x in stats._asdict().items()
        if name in GROUP_FIELDS
    }
    return standardised._replace(stats=stats._replace(**room))
