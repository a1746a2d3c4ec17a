"""Fits of more data sets than memory holds: each chunk is written to a folder and forgotten."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from jaxhlm.core.devices import Devices
from jaxhlm.core.notation import Ints
from jaxhlm.core.versions import versions
from jaxhlm.errors import DeviceError, ExecutorError, InterruptedFitsWarning, OptionError, warn_user
from jaxhlm.estimation.estimates import estimate_bytes
from jaxhlm.estimation.executors import Workers
from jaxhlm.estimation.model import Model
from jaxhlm.estimation.pipeline import Fitted, cut, gather
from jaxhlm.estimation.progress import progress_report
from jaxhlm.fitting.failures import Failures
from jaxhlm.fitting.places import Fitter, Job, Part, fit_part, fitter, job_of, part_of
from jaxhlm.optimise.options import Options
from jaxhlm.results.labels import to_columns
from jaxhlm.results.record import FitRecord
from jaxhlm.results.storage import from_table, to_table
from jaxhlm.results.stored import FITS, StoredFits
from jaxhlm.sources.fingerprint import fingerprint
from jaxhlm.sources.sources import ResponseMatrix, Source
from jaxhlm.storage.folder import Chunk, ChunkFiles, Folder, check_out, open_folder, told_before

__all__ = ["check_storing", "store_source", "stored_seed"]

# What the estimates of one file may take in memory.
FILE_BYTES = 2**25


def check_storing(out: Any, resume: Any) -> None:
    """Check ``out`` and ``resume`` before anything else is done.

    Raises:
        OptionError: one of them cannot be, or ``resume`` without ``out``.
    """
    check_out(out, resume)
    if resume and out is None:
        raise OptionError("resume=True goes on with what a folder holds: give out= as well")


def stored_seed(out: str | os.PathLike[str] | None, resume: bool) -> Any:
    """The key that a run in a folder, to be gone on with, draws from; None if there is none."""
    seed = told_before(out, FITS).get("seed") if resume else None
    return np.array(seed, np.uint32) if seed else None


@np.errstate(all="ignore")
def store_source(
    source: Source,
    index: pd.Index,
    model: Model,
    options: Options,
    progress: bool | None,
    out: str | os.PathLike[str],
    resume: bool,
    devices: Devices = None,
    workers: Workers | None = None,
    workers_write: bool = False,
) -> StoredFits:
    """Fit every lane of a source into a folder; an interrupt keeps the chunks that are finished.

    On the cores the runs of lanes are those of the fits in memory, so that the estimates are the
    same to the last bit; the manifest has them, for where there is less memory when it is gone on.
    It does not say what fitted them: draws are the same everywhere, and fits to rounding.

    Args:
        source, index, model, options, progress, devices, workers: as for ``fit_source``.
        out: the folder.
        resume: go on with what it holds.
        workers_write: whether workers write chunks, or return them.

    Raises:
        FolderError: it holds something else, or another run, or this one and ``resume`` is False.
        OptionError: a label that no file can hold, or ``devices`` as for ``fit_many``.
        DeviceError, ExecutorError: a device or a worker was lost; the chunks that are finished are
            kept.
    """
    fitted = fitter(source.forgetful, options, devices, workers)
    to_columns(index[:0] if isinstance(index, pd.RangeIndex) else index)
    told = told_before(out, FITS) if resume else {}
    ends = told["runs"] if told.get("n") == source.B else [run.stop for run in source.runs()]
    run = _Run(source, index, model, options, fitted, ends)
    failures, interrupted = Failures(model.xnames), False
    with open_folder(out, run.manifest, resume, FITS) as folder:
        try:
            if workers is None or not workers_write:
                run.write_to(folder, failures, progress)
            else:
                job = job_of(source, options, devices, workers)
                run.let_write(workers, job, folder, failures, progress)
        except (DeviceError, ExecutorError) as error:
            raise type(error)(f"{error}; {_finished(folder)}") from error
        except KeyboardInterrupt:
            interrupted = True
            if not folder.chunks():
                raise
        fits = StoredFits(tuple(folder.chunks()), folder, (source, options))
    if interrupted:
        warn_user(f"interrupted: {_finished(folder)}", InterruptedFitsWarning)
    failures.warn()
    return fits


def _finished(folder: Folder) -> str:
    done, of = sum(chunk.last - chunk.first for chunk in folder.chunks()), folder.manifest["n"]
    return f"{done} of {of} fits are finished and in {folder.path}; go on with resume=True"


@dataclass(frozen=True)
class _Run:
    """Data sets that are fitted into a folder; ``ends`` of the runs that are reduced together."""

    source: Source
    index: pd.Index
    model: Model
    options: Options
    fitted: Fitter
    ends: list[int]

    @cached_property
    def plan(self) -> list[Chunk]:
        """Several runs each, as many as a file takes."""
        each = estimate_bytes(len(self.model.xnames), len(self.model.znames))
        cuts = [0]
        for end, following in zip(self.ends, [*self.ends[1:], None], strict=True):
            if following is None or (following - cuts[-1]) * each > FILE_BYTES:
                cuts.append(end)
        return [Chunk(0, first, last) for first, last in pairwise(cuts)]

    @property
    def _rows(self) -> int | None:
        """Rows of the design of all responses, if there is one: where some lack values."""
        return self.source.design.n if isinstance(self.source, ResponseMatrix) else None

    @property
    def manifest(self) -> dict[str, Any]:
        """What the run is."""
        o, key = self.options, getattr(self.source, "key", None)
        told = {"tol": o.tol, "max_iter": int(o.max_iter), "precision": o.precision}
        optimizer = None if o.optimizer is None else "of the user's"
        return {
            "schema": FITS.schema,
            "kind": FITS.name,
            "model": asdict(self.model),
            "options": {**told, "optimizer": optimizer},
            "n": self.source.B,
            "seed": [] if key is None else key.tolist(),
            "data": fingerprint(self.source, self.index),
            "versions": versions(),
            "runs": self.ends,
            "chunks": [[*chunk, chunk.file] for chunk in self.plan],
        }

    def let_write(
        self,
        workers: Workers,
        job: Job,
        folder: Folder,
        failures: Failures,
        progress: bool | None,
    ) -> None:
        """Let workers fit and write what is not there yet, a chunk each."""

        def own(chunk: Chunk) -> tuple[Chunk, Part, pd.Index]:
            part = part_of(self.source, self._runs(chunk))
            return chunk, part, self.index[chunk.first : chunk.last]

        todo = self._todo(folder, failures)
        work = partial(_fit_and_write, folder.files, self.model, self._rows)
        total = sum(chunk.last - chunk.first for chunk in todo)
        with progress_report(total, progress) as report:
            for chunk, (failed, status) in workers.finished(work, [job], todo, [""], own):
                folder.files.wait_for(chunk)
                failures.merge(failed)
                if report is not None:
                    report(status)

    def write_to(self, folder: Folder, failures: Failures, progress: bool | None) -> None:
        """Fit and write what is not there yet, each chunk while the next one is fitted."""
        todo = self._todo(folder, failures)
        wanted = [run for chunk in todo for run in self._runs(chunk)]
        sizes = [chunk.last - chunk.first for chunk in todo]
        parts = cut(self.fitted(wanted), sizes)
        with progress_report(sum(sizes), progress) as report, ThreadPoolExecutor(1) as writer:
            written: Future[None] | None = None
            for chunk, size in zip(todo, sizes, strict=True):
                found = gather(parts, size, report)
                failures.add(found.estimates)
                if written is not None:
                    written.result()
                index = self.index[chunk.first : chunk.last]
                task = folder.files, self.model, self._rows, self.options, chunk, index, found
                written = writer.submit(_write, *task)
            if written is not None:
                written.result()

    def _todo(self, folder: Folder, failures: Failures) -> list[Chunk]:
        """What is not there yet; the failures of the rest are counted."""
        for chunk in folder.chunks():
            failures.add(from_table(*folder.read(chunk)).estimates)
        return [chunk for chunk in self.plan if chunk not in folder]

    def _runs(self, chunk: Chunk) -> list[slice]:
        first, last = np.searchsorted(self.ends, [chunk.first, chunk.last], side="left")
        first += self.ends[first] == chunk.first
        ends = self.ends[first : last + 1]
        return [slice(a, b) for a, b in pairwise([chunk.first, *ends])]


def _write(
    files: ChunkFiles,
    model: Model,
    rows: int | None,
    options: Options,
    chunk: Chunk,
    index: pd.Index,
    found: Fitted,
) -> None:
    here, (estimates, nobs, ngroups) = np.arange(chunk.first, chunk.last), found
    record = FitRecord(model, estimates, index, nobs, ngroups, options, here, None)
    if rows is not None:
        record.kept["rows_given"] = np.full(len(index), rows)
    files.write(chunk, *to_table(record))


def _fit_and_write(
    files: ChunkFiles,
    model: Model,
    rows: int | None,
    job: Job,
    own: tuple[Chunk, Part, pd.Index],
) -> tuple[Failures, Ints]:
    """A task: fit and write a chunk; only what is told of its fits comes back."""
    chunk, part, index = own
    found, failures = fit_part(job, part), Failures(model.xnames)
    failures.add(found.estimates)
    _write(files, model, rows, job.options, chunk, index, found)
    return failures, found.estimates.status
