"""``simulate``: very many data sets from a known truth, drawn as they are fitted."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from os import PathLike
from typing import overload

import pandas as pd

from jaxhlm.core.arguments import affordable, check_flag, whole_number
from jaxhlm.core.devices import Devices
from jaxhlm.core.document import Block, Printed
from jaxhlm.core.notation import Floats, Precision
from jaxhlm.core.streams import Key, Seed, random_key
from jaxhlm.design.design import Design
from jaxhlm.errors import OptionError
from jaxhlm.estimation.estimates import estimate_bytes
from jaxhlm.estimation.executors import Workload, check_writers, workers_of
from jaxhlm.estimation.model import Model
from jaxhlm.estimation.pipeline import Prepared
from jaxhlm.fitting.many import fit_source
from jaxhlm.fitting.storing import check_storing, store_source
from jaxhlm.optimise.loop import MAX_ITER, TOL
from jaxhlm.optimise.options import Options
from jaxhlm.results.batch import FitBatch
from jaxhlm.results.fit import Fit
from jaxhlm.results.stored import StoredFits
from jaxhlm.sources.drawn import Parametric
from jaxhlm.statistics.drawing import MOST_DRAWN
from jaxhlm.studies.effects import check_effects
from jaxhlm.studies.truth import Truth

__all__ = ["Simulated", "simulate"]


@dataclass(frozen=True, eq=False, repr=False)
class Simulated(Printed):
    """Data sets from one truth on one design; nothing is drawn before it is used.

    Attributes:
        prepared: the design.
        truth: the parameters.
        n: number of data sets.
        statistics: drawn as sufficient statistics (else as rows).
        key: what ``random_key`` gives for the seed that all of them come from.
        first: number of the first data set.
    """

    prepared: Prepared = field(repr=False)
    truth: Truth
    n: int
    statistics: bool
    key: Key = field(repr=False)
    first: int = 0

    def _blocks(self) -> list[Block]:
        kind = "sufficient statistics" if self.statistics else "rows"
        heading = f"{self.n:,} data sets, drawn as {kind}, of"
        return [[heading, *self.design._blocks()[0], *self.truth._blocks()[0]]]

    @property
    def design(self) -> Design:
        """The design."""
        return self.prepared.design

    def __len__(self) -> int:
        """Number of data sets."""
        return self.n

    def rows(self, first: int = 0, last: int | None = None) -> Floats:
        """Responses (rows, last − first) of data sets drawn as rows.

        Raises:
            JaxhlmError: these data sets are drawn as statistics and have no rows.
        """
        lanes, offset = range(self.n)[first:last], self.design.offset
        Y = self._source.rows(slice(lanes.start, lanes.stop))
        return Y if offset is None else Y + offset[:, None]

    @overload
    def fit(
        self,
        reml: bool = ...,
        *,
        tol: float = ...,
        max_iter: int = ...,
        progress: bool | None = ...,
        devices: Devices = ...,
        precision: Precision = ...,
        executor: Workload | None = ...,
        out: None = None,
        resume: bool = ...,
        workers_write: bool = ...,
    ) -> FitBatch: ...

    @overload
    def fit(
        self,
        reml: bool = ...,
        *,
        tol: float = ...,
        max_iter: int = ...,
        progress: bool | None = ...,
        devices: Devices = ...,
        precision: Precision = ...,
        executor: Workload | None = ...,
        out: str | PathLike[str],
        resume: bool = ...,
        workers_write: bool = ...,
    ) -> StoredFits: ...

    def fit(
        self,
        reml: bool = True,
        *,
        tol: float = TOL,
        max_iter: int = MAX_ITER,
        progress: bool | None = None,
        devices: Devices = None,
        precision: Precision = "float64",
        executor: Workload | None = None,
        out: str | PathLike[str] | None = None,
        resume: bool = False,
        workers_write: bool = False,
    ) -> FitBatch | StoredFits:
        """Fit them all; memory is that of one chunk and the estimates, with ``out`` of one chunk.

        Args:
            reml: restricted maximum likelihood; False for maximum likelihood.
            tol: largest Newton decrement at which a fit is done.
            max_iter: largest number of evaluations per fit.
            progress: show a progress bar; by default in a terminal and in a notebook.
            devices, precision: as for ``jaxhlm.fit_many``; draws are the same on all devices. From
                2,000,000 data sets of a balanced design on, drawn as statistics, the cores run the
                program of devices, too: numbers are those of fewer data sets to rounding.
            executor, workers_write: as for ``fit_many``; what is drawn is the same whoever draws.
            out, resume: as for ``fit_many``; to go on, simulate from the same seed.

        Raises:
            OptionError: ``n`` fits do not fit into memory, without ``out``, or ``devices`` that are
                not there.
            FolderError, ExecutorError: as for ``fit_many``.
        """
        check_storing(out, resume)
        check_writers(workers_write, executor, out)
        workers = workers_of(executor)
        index = pd.RangeIndex(self.first, self.first + self.n, name="simulation")
        options = Options(reml, self.design.blocks, None, tol, max_iter, precision)
        model = Model.of(self.design, reml)
        if out is not None:
            to = out, resume, devices, workers, workers_write
            return store_source(self._source, index, model, options, progress, *to)
        affordable("n", self.n, estimate_bytes(self.design.p, self.design.q))
        return fit_source(self._source, index, model, options, progress, devices, workers)

    def part(self, first: int, last: int, key: Key | None = None) -> Simulated:
        """Data sets ``first`` … ``last − 1`` of a key, its own if None; such as a process's share.

        What has been prepared already is not prepared again.

        Raises:
            OptionError: not 0 ≤ first < last.
        """
        first, last = whole_number("first", first, 0), whole_number("last", last, 0)
        if not first < last:
            raise OptionError(f"part({first}, {last}): give first and last with 0 ≤ first < last")
        key = self.key if key is None else key
        part = replace(self, n=last - first, key=key, first=first)
        source = replace(self._source, n=part.n, key=key, first=first)
        source.__dict__["distribution"] = self._source.distribution
        part.__dict__["_source"] = source
        return part

    @cached_property
    def _source(self) -> Parametric:
        beta, t = self.truth.fixed(self.design.xnames), self.truth
        parameters = beta, t.cov, t.sigma
        return Parametric(self.prepared, self.n, self.key, *parameters, self.statistics, self.first)


def simulate(
    model: Fit | Design,
    truth: Truth | None = None,
    n: int = 1000,
    seed: Seed = None,
    *,
    statistics: bool = True,
) -> Simulated:
    """Data sets drawn from a truth on the design of a model, to be fitted with ``.fit()``.

    Args:
        model: a ``Fit``, or a design from ``jaxhlm.design(formula, data)``.
        truth: the parameters; the estimates of the ``Fit`` if None.
        n: number of data sets.
        seed: int, NumPy Generator or JAX key. The same seed gives the same draws whatever the
            chunking; draws as rows and as statistics differ, and have the same distribution.
        statistics: draw sufficient statistics, exact in distribution and O(G) random numbers per
            data set; False draws rows.

    Raises:
        OptionError: no truth to draw from, one that does not fit the design, or n < 1, or more than
            2³² with ``statistics``.

    Example:
        >>> import jaxhlm as hlm
        >>> design = hlm.design("~ x * a + (1 + x | unit)", hlm.load_dataset("article"))
        >>> truth = hlm.Truth.of([1, 3, -0.15, 0.3], sd=[0.2, 0.5], corr=0.9, sigma=0.75)
        >>> fits = hlm.simulate(design, truth, n=2000, seed=1).fit()
        >>> len(fits), bool(abs(fits.fixef["x"].mean() - 3) < 0.02)
        (2000, True)
    """
    if not isinstance(model, Fit | Design):
        raise OptionError(f"{type(model).__name__} is no single fit; give one, or a jaxhlm.design")
    if isinstance(model, Fit):
        e = model.estimates
        truth = Truth(e.beta[0], e.cov[0], float(e.sigma[0])) if truth is None else truth
    if not isinstance(truth, Truth):
        raise OptionError("give the truth to simulate from, such as jaxhlm.Truth.of(beta, sd, …)")
    n = whole_number("n", n)
    check_flag("statistics", statistics)
    if statistics and n > MOST_DRAWN:
        raise OptionError(
            f"n={n:,}: a seed gives {MOST_DRAWN:,} data sets that are drawn as statistics; draw "
            "the others from another seed"
        )
    prepared = model.prepared if isinstance(model, Fit) else Prepared(model)
    design = prepared.design
    truth.fixed(design.xnames)
    truth.check_learned(design.learned)
    check_effects(truth.cov, design)
    return Simulated(prepared, truth, n, statistics, random_key(seed))
