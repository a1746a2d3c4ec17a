"""``mechanism``: how data sets come about, numbered, each from its own seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from jaxhlm.batch import FitBatch
from jaxhlm.design import Design, build_design
from jaxhlm.errors import JaxhlmError, OptionError, UnknownTermError
from jaxhlm.fit import fit_many, fit_source
from jaxhlm.minimum import Options
from jaxhlm.model import Model
from jaxhlm.notation import Floats, Ints
from jaxhlm.pipeline import Report, fit_lanes
from jaxhlm.response import Standard
from jaxhlm.simulate import random_key
from jaxhlm.simulated import Simulated, _Drawn
from jaxhlm.sources import Batch
from jaxhlm.truth import Truth

__all__ = ["Drawn", "Mechanism", "mechanism"]


@dataclass(frozen=True, eq=False)
class Mechanism:
    """A generating model: formula, design and truth."""

    formula: str
    design: pd.DataFrame = field(repr=False)
    truth: Truth
    violations: tuple[Any, ...] = ()

    @cached_property
    def model(self) -> Design:
        """The design's matrices."""
        return build_design(self.formula, self.design, response_rows=len(self.design))

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the fixed effects."""
        return self.model.xnames

    def truth_of(self, term: str) -> float:
        """True value of a fixed effect."""
        if term not in self.terms:
            raise UnknownTermError(f"no fixed effect {term!r}; the terms are: {self.terms}")
        return float(self.truth.fixed(self.terms)[self.terms.index(term)])

    def draw(self, first: int, last: int, seed: int, rows: bool = False) -> Drawn:
        """Data sets number first … last − 1."""
        return Drawn(self, first, last, seed, rows)


@dataclass(frozen=True, eq=False)
class Drawn:
    """Data sets of a mechanism."""

    mechanism: Mechanism
    first: int
    last: int
    seed: int
    rows: bool

    @property
    def truths(self) -> Floats:
        """(n, p) true fixed effects."""
        m = self.mechanism
        return np.tile(m.truth.fixed(m.terms), (self.last - self.first, 1))

    @cached_property
    def simulated(self) -> Simulated:
        """As simulated."""
        m = self.mechanism
        return Simulated(m.model, m.truth, self.last, not self.rows, random_key(self.seed))

    @cached_property
    def Y(self) -> Floats:
        """(n, B) rows."""
        return self.simulated.rows(self.first, self.last)

    def fit(
        self, formula: str | None = None, reml: bool = True, progress: bool | None = False
    ) -> FitBatch:
        """Fit a formula to all of them."""
        m = self.mechanism
        index = pd.RangeIndex(self.first, self.last, name="replicate")
        if self.rows:
            data = fit_many(formula or m.formula, m.design, self.Y, reml=reml, progress=progress)
            return data
        if formula not in (None, m.formula):
            raise JaxhlmError("draw with rows=True to fit another formula")
        options = Options(reml, m.model.blocks)
        source = _Part(_Drawn(self.simulated), self.first)
        return fit_source(source, index, Model.of(m.model, reml), options, progress)

    def frame(self) -> pd.DataFrame:
        """Rows of all data sets."""
        m = self.mechanism
        count = self.last - self.first
        frame = pd.concat([m.design] * count, ignore_index=True)
        frame["y"] = self.Y.T.ravel()
        frame["replicate"] = np.repeat(np.arange(self.first, self.last), len(m.design))
        return frame


@dataclass(frozen=True)
class _Part:
    inner: _Drawn
    first: int

    def lane(self, i: int) -> Design:
        return self.inner.lane(i + self.first)

    def fit(self, options: Options, report: Report | None) -> Batch:
        from jaxhlm.chunks import lane_chunks

        s = self.inner.simulated
        n = s.n - self.first
        chunks = (slice(c.start + self.first, c.stop + self.first) for c in lane_chunks(n, 8))
        estimates = fit_lanes(self.inner._draw, chunks, s.prepared.classes, options, report)
        return Batch(estimates, np.full(n, s.design.n), np.full(n, s.design.G))

    def chunks(self, lanes: Ints, nobs: Ints) -> list[Ints]:
        return self.inner.chunks(lanes, nobs)

    def standard(self, lanes: Ints) -> Standard:
        return self.inner.standard(lanes + self.first)

    def by_group(self, lanes: Ints) -> Any:
        return self.inner.by_group(lanes + self.first)

    def moments(self, lanes: Ints) -> Any:
        return self.inner.moments(lanes)


def mechanism(
    formula: str, design: pd.DataFrame, truth: Truth, violations: Sequence[Any] = ()
) -> Mechanism:
    """How data sets come about.

    >>> import jaxhlm as hlm
    >>> truth = hlm.Truth.of([1, 3, -0.15, 0.3], sd=[0.2, 0.5], corr=0.9, sigma=0.75)
    >>> m = hlm.mechanism("y ~ x * a + (1 + x | unit)", hlm.load_dataset("article"), truth)
    >>> m.draw(0, 10, seed=1).fit().fixef.shape
    (10, 4)
    """
    if violations:
        raise OptionError("no violations yet")
    made = Mechanism(formula, design, truth, tuple(violations))
    truth.fixed(made.terms)
    return made
