"""``study``: conditions × methods, in chunks that can be shared out, killed and gone on with."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import groupby
from typing import Any, TypeAlias, cast

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import affordable
from jaxhlm.core.devices import Devices, check_devices
from jaxhlm.core.document import Block, Printed, framed
from jaxhlm.core.status import Status
from jaxhlm.core.tables import Shown
from jaxhlm.core.versions import versions
from jaxhlm.errors import (
    ConstantResponseError,
    ConvergenceWarning,
    GroupingError,
    IdentifiabilityError,
    JaxhlmError,
    NoRowsError,
    StudyFolderError,
    failures_counted,
    muted,
)
from jaxhlm.estimation.executors import (
    Workers,
    Workload,
    check_writers,
    finished_kept,
    workers_of,
)
from jaxhlm.estimation.pipeline import keep_part
from jaxhlm.estimation.progress import study_progress
from jaxhlm.storage.folder import (
    Chunk,
    Folder,
    check_out,
    open_folder,
    read_folder,
    told_before,
)
from jaxhlm.storage.manifest import Kind
from jaxhlm.studies.conditions import Grid, MechanismOf, read_conditions
from jaxhlm.studies.identity import identity
from jaxhlm.studies.job import Job, run_chunk, write_chunk
from jaxhlm.studies.measures import TO_READ, Measure, measures
from jaxhlm.studies.method import Method, check_methods, method_estimates
from jaxhlm.studies.planning import check_plan, stopping

__all__ = ["STUDY", "Study", "read_study", "study"]

Store: TypeAlias = Folder | dict[Chunk, pd.DataFrame]
# Of a row of estimates in memory.
ROW_BYTES = 100.0
# Conditions, by method, that are printed.
MOST_SHOWN = 60
KEY = ("condition", "method", "term")
STUDY = Kind(
    "study",
    2,
    {
        "conditions": list, "mechanisms": list, "methods": list, "n": int, "seed": int,
        "options": dict,
    },
    StudyFolderError,
    {
        "conditions": lambda one: isinstance(one, dict),
        "methods": lambda one: isinstance(one, dict) and isinstance(one.get("name"), str),
    },
)  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class Study(Printed):
    """What a study found; made by ``study`` and ``read_study``.

    Attributes:
        conditions: one row per condition, indexed by its number.
        methods: names of the methods.
        chunks: those that are finished, in order.
    """

    conditions: pd.DataFrame
    methods: tuple[str, ...]
    chunks: tuple[Chunk, ...]
    _store: Store = field(repr=False)

    @property
    def estimates(self) -> pd.DataFrame:
        """One row per condition, data set, method and fixed effect.

        Columns: those of the conditions, condition, replicate, method, term, truth, estimate,
        std_error, df, p_value, conf_low, conf_high, status.
        """
        return Shown(self._read(self.chunks))

    @property
    def counts(self) -> pd.DataFrame:
        """Number of data sets by condition, method and status, every status listed.

        Fits that are "singular" have converged too, on the boundary.
        """
        frames = []
        for part in self._by_condition():
            one = part.drop_duplicates(["replicate", "method"])
            table = one.groupby(["condition", "method"], sort=False)["status"].value_counts()
            frames.append(table.unstack(fill_value=0))
        names = [s.name.lower() for s in Status]
        if not frames:
            return pd.DataFrame(columns=["replicates", *names])
        table = pd.concat(frames).reindex(columns=names, fill_value=0).fillna(0).astype(int)
        table.columns.name = None
        table.insert(0, "replicates", table.sum(axis=1))
        return Shown(table)

    def measures(
        self, by: Sequence[str] = KEY, alpha: float = 0.05, **options: Any
    ) -> pd.DataFrame:
        """Performance measures with their Monte-Carlo standard errors; see ``jaxhlm.measures``.

        Args:
            by: what makes a group; the columns of the conditions are put beside "condition".
            alpha: level of the tests.
            options: which and reference, as for ``jaxhlm.measures``.
        """
        if "condition" not in by:
            return measures(self.estimates, by=by, alpha=alpha, **options)
        parts = self._by_condition()
        tables = [measures(part, by=by, alpha=alpha, **options) for part in parts]
        table = pd.concat(tables, ignore_index=True)
        new = [name for name in self.conditions if name not in table]
        merged = self.conditions[new].merge(table, left_index=True, right_on="condition")
        return Shown(merged, [TO_READ])

    def _blocks(self) -> list[Block]:
        """How much of it there is."""
        counts = self.counts.assign(converged=lambda told: told["converged"] + told["singular"])
        counts = counts.rename(columns={"singular": "of these singular"})
        counts = self.conditions.join(counts.loc[:, counts.any()], how="right")
        done = sum(chunk.last - chunk.first for chunk in self.chunks)
        methods = "1 method" if len(self.methods) == 1 else f"{len(self.methods)} methods"
        head = (
            f"Study of {len(self.conditions)} conditions and {methods} "
            f"({', '.join(self.methods)}): {done:,} data sets"
        )
        return [[head, framed(counts, "g", most=MOST_SHOWN)]]

    def _by_condition(self) -> Iterator[pd.DataFrame]:
        """Estimates, condition after condition."""
        for _, chunks in groupby(self.chunks, key=lambda chunk: chunk.condition):
            yield self._read(chunks)

    def _read(self, chunks: Iterable[Chunk]) -> pd.DataFrame:
        frames = [self._store[chunk] for chunk in chunks]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def study(
    conditions: Grid,
    mechanism: MechanismOf,
    methods: Sequence[Method] | None = None,
    n: int = 10_000,
    seed: int | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    executor: Workload | None = None,
    workers_write: bool = False,
    stop: Mapping[str, float] | None = None,
    chunk: int = 1000,
    level: float = 0.95,
    progress: bool | None = None,
    devices: Devices = None,
) -> Study:
    """Simulate every condition, and do with every data set what each method does.

    All methods see the same data sets, so their differences are paired. Data set i of condition c
    depends on (seed, c, i) only: not on the executor, nor on when a run was killed. Every method is
    tried on one data set of every condition before the work begins.

    Args:
        conditions: lists by name, of which all combinations are made; or a list of mappings, or a
            DataFrame, with one condition each; None where ``mechanism`` is a mapping.
        mechanism: a function that gets a condition as keyword arguments and returns its
            ``Mechanism``; or mechanisms by name, which become the factor "mechanism".
        methods: what is done; REML with Satterthwaite's df by default.
        n: data sets of each condition.
        seed: a whole number; a fresh one by default, kept in the manifest.
        out: folder for the results, one Parquet file per chunk and a manifest; in memory if None.
        resume: go on with what ``out`` holds of this very study; a chunk whose file is damaged, or
            is another one's, is made anew, which a warning says.
        executor: any ``concurrent.futures.Executor``, or a client of Dask, to work on chunks;
            processes need mechanisms that can be pickled, and a start method other than "fork". By
            default one chunk after the other, each on all cores.
        workers_write: whether workers write the files of their chunks, into an ``out`` that all
            machines share, or return the estimates and this process writes them.
        stop: wanted Monte-Carlo standard errors by measure, such as {"bias": 0.01}. A condition
            ends when those of all its methods and terms are met after 1, 2, 4, 8 … chunks.
        chunk: data sets per chunk.
        level: of the intervals.
        progress: show progress bars; by default in a terminal and in a notebook.
        devices: where data sets of one design are fitted, as for ``jaxhlm.fit_many``; with an
            executor of processes the number of devices that each worker takes. Data sets with
            designs of their own, and tests, stay on the cores. Every design is compiled for devices
            anew, and so is every size of chunk: long chunks are worth it.

    Returns:
        A ``Study``; at a Ctrl-C, with a warning, that of the chunks that are finished.

    Raises:
        StudyFolderError: ``out`` holds something else, or another study, or another process is
            writing to it; nothing is overwritten.
        OptionError: an empty grid, or an option that cannot be.
        DeviceError: a device was lost; what was finished is kept in ``out``.
        ExecutorError: ``executor`` is shut down, or has lost workers (Dask replaces those); what
            was finished is kept in ``out``.
        TaskError: code of a mechanism failed; the message names the condition and data sets. Chunks
            that are finished are kept.

    Example:
        >>> import jaxhlm as hlm
        >>> data = hlm.load_dataset("article")
        >>> def mechanism(effect):
        ...     truth = hlm.Truth.of([1, 3, -0.15, effect], sd=[0.2, 0.5], corr=0.9, sigma=0.75)
        ...     return hlm.mechanism("y ~ x * a + (1 + x | unit)", data, truth)
        >>> methods = [hlm.Method("t"), hlm.Method("z", df="normal")]
        >>> result = hlm.study({"effect": [0.0, 0.3]}, mechanism, methods, n=200, seed=1, chunk=100)
        >>> len(result.estimates), result.counts["replicates"].tolist()
        (3200, [200, 200, 200, 200])
    """
    methods = check_methods(methods)
    check_plan(n, seed, chunk, stop, level)
    check_out(out, resume)
    check_writers(workers_write, executor, out)
    workers = workers_of(executor)
    check_devices(devices, workers.elsewhere)
    table, mechanisms = read_conditions(conditions, mechanism)
    if out is None:
        affordable("n", n, ROW_BYTES * len(table) * len(methods))
    if seed is None and resume:
        seed = told_before(out, STUDY).get("seed")
    seed = _hashed(None) if seed is None else seed
    plan = [
        Chunk(c, first, min(first + chunk, n)) for c in table.index for first in range(0, n, chunk)
    ]
    # Of 2³² keys those of the conditions of one study are distinct.
    jobs = [
        Job(m, methods, (_hashed(seed) + c) % 2**32, level, table.loc[[c]], devices)
        for c, m in zip(table.index, mechanisms, strict=True)
    ]
    labels = [_label(table, c) for c in table.index]
    _try(jobs, labels)
    folder: AbstractContextManager[Store] = nullcontext({})
    if out is not None:
        manifest = {
            "schema": STUDY.schema,
            "conditions": table.to_dict("records"),
            "mechanisms": [identity(m) for m in mechanisms],
            "methods": [asdict(m) for m in methods],
            "n": n,
            "seed": int(seed),
            "options": {"chunk": chunk, "level": level, "stop": dict(stop) if stop else None},
            "versions": versions(),
            "chunks": [[*one, one.file] for one in plan],
        }
        folder = open_folder(out, manifest, resume, STUDY)
    shown = study_progress(len(table) * n, n, progress)
    with folder as store, shown as report, failures_counted(), finished_kept(store):
        result = Study(table, tuple(m.name for m in methods), (), store)
        for one in plan:
            if one in store:
                report(one.condition, one.last - one.first, labels[one.condition])
        finished = []
        try:
            for todo in _rounds(plan, stop, result):
                missing = [one for one in todo if one not in store]
                for one in _run(missing, jobs, labels, workers, store, workers_write):
                    report(one.condition, one.last - one.first, labels[one.condition])
                finished += todo
        except KeyboardInterrupt as error:
            finished = [one for one in plan if one in store]
            how = "; out= would have kept them to be gone on with"
            if out is not None:
                how = f"; they are in {out}, and resume=True goes on with them"
            done, of = (sum(one.last - one.first for one in part) for part in (finished, plan))
            keep_part(error, done, of, "data sets", how)
    return Study(table, result.methods, tuple(sorted(finished)), store)


def read_study(out: str | os.PathLike[str]) -> Study:
    """The study that a folder holds, as far as it is finished.

    Args:
        out: the folder.

    Raises:
        StudyFolderError: it holds no study, or its manifest is damaged or was edited. A damaged
            chunk is refused once its estimates are asked for, and made anew by ``resume``.

    Example:
        >>> import tempfile, jaxhlm as hlm
        >>> truth = hlm.Truth.of([1, 3], sd=[0.2, 0.5], sigma=0.75)
        >>> m = hlm.mechanism("y ~ x + (1 + x | unit)", hlm.load_dataset("article"), truth)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     made = hlm.study(None, {"normal": m}, n=50, seed=1, out=folder + "/study")
        ...     hlm.read_study(folder + "/study").estimates.equals(made.estimates)
        True
    """
    folder = read_folder(out, STUDY)
    m = folder.manifest
    records = m["conditions"]
    table = pd.DataFrame(records, pd.RangeIndex(len(records), name="condition"))
    names = tuple(method["name"] for method in m["methods"])
    return Study(table, names, tuple(folder.chunks()), folder)


def _try(jobs: Sequence[Job], labels: Sequence[str]) -> None:
    """Every method on a data set of every condition: what cannot be is found before all work."""
    for job, label in zip(jobs, labels, strict=True):
        drawn = job.mechanism.draw(0, 1, job.seed, rows=job.needs_rows)
        for method in job.methods:
            try:
                with muted(ConvergenceWarning):
                    method_estimates([method], drawn, job.level)
            except (ConstantResponseError, GroupingError, IdentifiabilityError, NoRowsError):
                continue  # a failed fit, were it one of several
            except JaxhlmError as error:
                raise type(error)(f"{label}, method {method.name!r}: {error}") from error


def _run(
    chunks: Sequence[Chunk],
    jobs: Sequence[Job],
    labels: Sequence[str],
    workers: Workers,
    store: Store,
    workers_write: bool,
) -> Iterator[Chunk]:
    """Chunks as they are finished and in the store."""
    if workers_write and isinstance(store, Folder):
        for one, _ in workers.finished(partial(write_chunk, store.files), jobs, chunks, labels):
            store.files.wait_for(one)
            yield one
        return
    for one, frame in workers.finished(run_chunk, jobs, chunks, labels):
        store[one] = frame
        yield one


def _rounds(
    plan: Sequence[Chunk], stop: Mapping[str, float] | None, result: Study
) -> Iterator[list[Chunk]]:
    """Chunks to be finished before the next are decided on: all, or up to each checkpoint."""
    if stop is None:
        yield list(plan)
        return
    waiting = {c: [one for one in plan if one.condition == c] for c in result.conditions.index}
    start, end = 0, 1
    while waiting:
        yield [one for chunks in waiting.values() for one in chunks[start:end]]
        for c, chunks in list(waiting.items()):
            if end >= len(chunks) or _precise(result._read(chunks[:end]), stop):
                del waiting[c]
        start, end = end, 2 * end


def _precise(estimates: pd.DataFrame, stop: Mapping[str, float]) -> bool:
    """Whether every Monte-Carlo standard error is at its target, where the truth is known."""
    table = measures(estimates, by=KEY, which=cast(list[Measure], list(stop)))
    return stopping(table[table["truth"].notna()], stop)


def _hashed(seed: int | None) -> int:
    """A number below 2³² from any seed; a fresh one from None."""
    return int(np.random.SeedSequence(seed).generate_state(1)[0])


def _label(table: pd.DataFrame, condition: int) -> str:
    values = ", ".join(f"{name}={table[name].iloc[condition]}" for name in table)
    return f"condition {condition + 1}/{len(table)} {values}"
