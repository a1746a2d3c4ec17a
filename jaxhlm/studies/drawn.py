"""``Drawn``: the data sets of a mechanism, drawn when they are used."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import affordable
from jaxhlm.core.devices import Devices, check_devices
from jaxhlm.core.document import Block, Printed
from jaxhlm.core.notation import Floats, Precision
from jaxhlm.core.streams import Key
from jaxhlm.errors import JaxhlmError, OptionError
from jaxhlm.estimation.model import Model
from jaxhlm.fitting.many import fit_source
from jaxhlm.inference.parameters import random_names, random_values
from jaxhlm.language.formula import ParsedFormula, column_name, parse
from jaxhlm.language.words import quoted
from jaxhlm.optimise.options import Options
from jaxhlm.results.batch import FitBatch
from jaxhlm.sources.inputs import Input, replicate_input, shared_input
from jaxhlm.studies.builder import UnitDesign
from jaxhlm.studies.fitting import layout_input, rows_to_fit
from jaxhlm.studies.generate import Parameters, generate, parameters_of
from jaxhlm.studies.layout import Layout, one_design, own_designs
from jaxhlm.studies.pattern_source import PatternSource
from jaxhlm.violations.panel import Panel

if TYPE_CHECKING:
    from jaxhlm.studies.mechanism import Mechanism

__all__ = ["Drawn"]


@dataclass(frozen=True, eq=False, repr=False)
class Drawn(Printed):
    """Data sets of a mechanism; nothing is drawn before it is used.

    Attributes:
        mechanism: what generates them.
        first, last: their numbers are first … last − 1.
        key: what ``random_key`` gives for the seed that they come from.
        rows: drawn as rows (else as sufficient statistics).
    """

    mechanism: Mechanism
    first: int
    last: int
    key: Key = field(repr=False)
    rows: bool

    def _blocks(self) -> list[Block]:
        kind = "rows" if self.rows else "sufficient statistics"
        heading = f"Data sets {self.first:,} to {self.last - 1:,}, drawn as {kind}, of"
        return [[heading, *self.mechanism._blocks()[0]]]

    def __len__(self) -> int:
        """Number of data sets, B."""
        return self.last - self.first

    @property
    def index(self) -> pd.RangeIndex:
        """Their numbers."""
        return pd.RangeIndex(self.first, self.last, name="replicate")

    @property
    def truths(self) -> Floats:
        """(B, p) true fixed effects of every data set, in the order of ``mechanism.terms``."""
        return self._parameters[0]

    @property
    def true_variances(self) -> pd.DataFrame:
        """(B, m) true standard deviations and correlations of the random effects, and σ."""
        model, (_, cov, sigma) = Model.of(self.mechanism.template, True), self._parameters
        values = np.column_stack([random_values(model, cov), sigma])
        return pd.DataFrame(values, self.index, [*random_names(model), "sigma"])

    def fit(
        self,
        formula: str | None = None,
        reml: bool = True,
        progress: bool | None = False,
        devices: Devices = None,
        precision: Precision = "float64",
    ) -> FitBatch:
        """Fit all of them, by any formula; the data sets stay the same, so methods are paired.

        Args:
            formula: the generating one if None.
            reml: restricted maximum likelihood; False for maximum likelihood.
            progress: show a progress bar; None for one in a terminal or a notebook.
            devices: as for ``jaxhlm.fit_many``; data sets with designs of their own are fitted on
                the cores all the same, and in double precision.
            precision: as for ``jaxhlm.fit_many``.

        Returns:
            A batch whose index is the number of the data set.

        Raises:
            OptionError: the formula is of another response, or the data sets were drawn as
                statistics and the formula is not the generating one; or ``devices`` that are not
                there.
            JaxhlmError: as for ``jaxhlm.fit_many``.
        """
        check_devices(devices)
        m = self.mechanism
        parsed = m.parsed if formula is None else parse(formula, response_optional=True)
        if parsed.response and column_name(parsed.response) != m.response:
            raise OptionError(
                f"the data sets have the response {m.response!r}, not {parsed.response!r}; write "
                f"{m.response} ~ … or leave the left side out"
            )
        if self.rows:
            given = self._input(parsed, reml)
            options = Options(reml, given.model.blocks, precision=precision)
            if given.source.traceable is None:
                devices, options = None, replace(options, precision="float64")
            fits = fit_source(*given, options, progress, devices)
        else:
            if parsed.terms != m.parsed.terms:
                self._need_rows(f"be fitted by {formula!r}")
            if isinstance(m.design, UnitDesign):
                fits = self._fit_patterns(reml, progress)
            else:
                some = m._statistics.part(self.first, self.last, self.key)
                fits = some.fit(reml, progress=progress, devices=devices, precision=precision)
        return FitBatch(fits.record, index=self.index[fits.lanes])

    def _fit_patterns(self, reml: bool, progress: bool | None) -> FitBatch:
        """Fits of statistics of redrawn designs."""
        patterns = self.mechanism.patterns
        assert patterns is not None
        source = PatternSource(patterns, len(self), self.key, self.first)
        model = Model.of(source.design, reml)
        return fit_source(source, self.index, model, Options(reml, model.blocks), progress)

    def frame(self) -> pd.DataFrame:
        """All rows, data set after data set; the first column, "replicate", is their number.

        Missing responses are NaN.

        Raises:
            JaxhlmError: the data sets were drawn as statistics.
        """
        self._need_rows("be shown")
        m, (panel, _, y) = self.mechanism, self._drawn
        if isinstance(m.design, pd.DataFrame):
            many = np.tile(np.arange(len(m.design)), len(self))
            long = m.design.take(many).reset_index(drop=True)
        else:
            long = m.design.table(self._layout.columns)
        long[m.response] = y
        long.insert(0, "replicate", np.asarray(self.index)[panel.lane])
        return long

    @property
    def responses(self) -> Floats:
        """(n, B) responses on the one design, NaN where missing.

        Raises:
            JaxhlmError: the data sets were drawn as statistics, or have designs of their own.
        """
        self._need_rows("have responses")
        if not isinstance(self.mechanism.design, pd.DataFrame):
            raise JaxhlmError("these data sets have designs of their own; see frame()")
        return self._drawn[2].reshape(len(self), -1).T

    @property
    def effects(self) -> Floats:
        """(U, q) random effects of all units, data set after data set.

        Raises:
            JaxhlmError: the data sets were drawn as statistics.
        """
        self._need_rows("show their random effects")
        return self._drawn[1]

    def _input(self, formula: ParsedFormula, reml: bool) -> Input:
        """The rows and a model, whose terms mean what they mean in the generating one."""
        m, index = self.mechanism, pd.RangeIndex(len(self), name="response")
        if isinstance(m.design, pd.DataFrame):
            return shared_input(m.prepared(formula), self.responses, index, reml)
        (panel, _, y), written = self._drawn, formula.of(quoted(m.response))
        if formula.terms == m.parsed.terms:
            return layout_input(m.template, written, self._layout, y, reml)
        long, learned = self.frame()[rows_to_fit(panel, y)], m.template.learned
        return replicate_input(written, long, "replicate", None, reml, learned)

    def _need_rows(self, what: str) -> None:
        if not self.rows:
            raise JaxhlmError(
                "these data sets were drawn as sufficient statistics, which have no rows to "
                f"{what}; draw(first, last, seed, rows=True) draws rows"
            )

    @cached_property
    def _parameters(self) -> Parameters:
        m = self.mechanism
        return parameters_of(m.truth, m.template, self.index, self.key)

    @cached_property
    def _layout(self) -> Layout:
        m, lanes = self.mechanism, range(self.first, self.last)
        affordable("last - first", self.last - self.first, 8.0 * 4.0 * m.template.n)
        if isinstance(m.design, UnitDesign):
            return own_designs(m.design, m.template, lanes, self.key)
        return one_design(m.design, m.template, lanes)

    @cached_property
    def _drawn(self) -> tuple[Panel, Floats, Floats]:
        """The panel, random effects (U, q) and responses (N,)."""
        layout, violations = self._layout, self.mechanism.violations
        return layout.panel, *generate(*layout[:3], self._parameters, violations, self.key)
