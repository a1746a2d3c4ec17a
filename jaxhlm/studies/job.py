"""The task of a study: one chunk of data sets, drawn and met by every method."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from jaxhlm.core.devices import Devices
from jaxhlm.errors import failures_counted
from jaxhlm.estimation.pipeline import all_or_nothing
from jaxhlm.storage.folder import Chunk, ChunkFiles
from jaxhlm.studies.mechanism import Mechanism
from jaxhlm.studies.method import Method, method_estimates

__all__ = ["Job", "run_chunk", "write_chunk"]


@dataclass(frozen=True)
class Job:
    """What a chunk needs, wherever it is worked on."""

    mechanism: Mechanism
    methods: tuple[Method, ...]
    seed: int
    level: float
    labels: pd.DataFrame  # one row: the condition's columns
    devices: Devices

    @property
    def needs_rows(self) -> bool:
        """Whether data sets must be drawn as rows: all methods see the same ones."""
        return any(method.needs_rows() for method in self.methods)


def run_chunk(job: Job, chunk: Chunk) -> pd.DataFrame:
    """The estimates of one chunk."""
    with failures_counted(), all_or_nothing():
        drawn = job.mechanism.draw(chunk.first, chunk.last, job.seed, rows=job.needs_rows)
        frame = method_estimates(job.methods, drawn, job.level, job.devices)
    labels = job.labels.iloc[np.zeros(len(frame), int)].reset_index()
    columns = [*job.labels.columns, "condition"]
    return pd.concat([labels[columns], frame], axis=1)


def write_chunk(files: ChunkFiles, job: Job, chunk: Chunk) -> None:
    """Write the estimates of one chunk."""
    files.write(chunk, run_chunk(job, chunk))
