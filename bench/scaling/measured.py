"""What is measured, each in a process of its own that has as many devices as are asked for."""

import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxhlm as hlm
from bench import data, machine
from bench.accelerator.bandwidth import bandwidths
from bench.accelerator.workloads import WORKLOADS, nbytes
from jaxhlm.core.precision import jax_config_scope
from jaxhlm.estimation.pipeline import fit_lanes
from jaxhlm.estimation.program import chunk_program
from jaxhlm.fitting.storing import FILE_BYTES

__all__ = ["MEASURED"]

ROUNDS = 5
# Fits of which the cores' part is measured, and of which a file is written.
SOME = 4096
# Chunks of the study that every worker gets.
CHUNKS_EACH = 4
# Data sets that workers draw and fit for each that they study.
FITS_EACH = 10


def facts(scale: float) -> dict[str, Any]:
    """The machine, its devices and what its memory does, in bytes a second."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = machine.describe() | {"load of the machine before": f"{os.getloadavg()[0]:.1f}"}
    return {
        "facts": found,
        "devices": len(jax.local_devices()),
        "bandwidths": bandwidths(scale),
        "memory": memory,
    }


def over_devices(name: str, fits: int, counts: list[int]) -> dict[str, Any]:
    """Seconds of the same data sets on more devices, and of as many for each device."""
    workload = WORKLOADS[name]
    made = workload.prepare(fits)
    parts = {n: workload.prepare(max(1, fits * n // counts[-1])) for n in counts[:-1]}
    works = {("strong", n): partial(workload.run, made, n) for n in counts}
    works |= {("weak", n): partial(workload.run, part, n) for n, part in parts.items()}
    took = fastest(works)
    took["weak", counts[-1]] = took["strong", counts[-1]]
    results = workload.run(made, counts[0])
    return {
        **{kind: {n: took[kind, n] for n in counts} for kind in ("strong", "weak")},
        "read": workload.reads(made) / fits,
        "written": nbytes(results) / fits,
        **workload.check(made, results, counts[-1]),
        **_finished_by_cores(results),
        **_filed(results),
    }


def _finished_by_cores(fits: hlm.FitBatch) -> dict[str, float]:
    """The part of the fits that the program is not final for, and the seconds of one of them."""
    lanes, options = fits.source.traceable, fits.record.options
    run = slice(0, min(len(fits), SOME))
    with jax_config_scope():
        program = jax.jit(chunk_program(lanes.reduction, options))
        _, final = program(lanes.shared, lanes.argument(run))
    rest = np.flatnonzero(~np.array(final))
    if not len(rest):
        return {"share": 0.0, "finishing": 0.0}
    took = seconds(lambda: fit_lanes(lanes.again(rest), options))
    return {"share": len(rest) / run.stop, "finishing": took / len(rest)}


def _filed(fits: hlm.FitBatch) -> dict[str, float]:
    """Bytes and seconds of a fit in a Parquet file, and how many ``out=`` puts into one."""
    some = fits[: min(len(fits), SOME)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fits.parquet"
        took = seconds(lambda: some.to_parquet(path, df="normal"))
        size = path.stat().st_size
    return {
        "file_bytes": size / len(some),
        "file_seconds": took / len(some),
        "fits_per_file": FILE_BYTES * len(some) / nbytes(some),
    }


def over_workers(n: int, counts: list[int]) -> dict[str, Any]:
    """Seconds on workers of Dask: n data sets studied, ten times as many fitted; strong and weak.

    Every worker has compiled what it needs before.
    """
    from distributed import Client, LocalCluster

    fits = {"study": n, "simulate and fit": FITS_EACH * n}
    found: dict[str, Any] = {k: {"fits": fits[k], "strong": {}, "weak": {}} for k in ON_WORKERS}
    for workers in counts:
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            protocol="tcp://",
            host="127.0.0.1",
            dashboard_address=None,
        )
        part = max(1, n * workers // counts[-1])
        with cluster, Client(cluster) as client:
            for name, run in ON_WORKERS.items():
                found[name]["strong"][workers] = seconds(partial(run, n, workers, client))
                found[name]["weak"][workers] = seconds(partial(run, part, workers, client))
    return found


def _study(n: int, workers: int, client: Any) -> None:
    frame = hlm.load_dataset("article").drop(columns="y")
    mechanism = {"article": hlm.mechanism("y " + data.ARTICLE, frame, data.TRUTH)}
    chunk = max(1, n // (CHUNKS_EACH * workers))
    study = {"methods": [hlm.Method("t")], "n": n, "seed": 1, "chunk": chunk, "progress": False}
    hlm.study(None, mechanism, executor=client, **study)


def _fits(n: int, workers: int, client: Any) -> None:
    del workers
    design = hlm.design(data.ARTICLE, hlm.load_dataset("article"))
    drawn = hlm.simulate(design, data.TRUTH, FITS_EACH * n, seed=1)
    drawn.fit(executor=client, progress=False)


ON_WORKERS = {"study": _study, "simulate and fit": _fits}


def seconds(work: Callable[[], Any]) -> float:
    """The fastest of some calls, after one that compiles."""
    return fastest({"": work})[""]


def fastest(works: dict[Any, Callable[[], Any]]) -> dict[Any, float]:
    """The fastest call of each, after one that compiles; in rounds, so that all meet all noise."""
    for work in works.values():
        work()
    taken = dict.fromkeys(works, float("inf"))
    for _ in range(ROUNDS):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            taken[name] = min(taken[name], time.perf_counter() - started)
    return taken


MEASURED = {f.__name__: f for f in (facts, over_devices, over_workers)}


if __name__ == "__main__":
    # Fits that fail are counted in the figures.
    warnings.simplefilter("ignore")
    what, *arguments = json.loads(sys.argv[1])
    print(json.dumps(MEASURED[what](*arguments)))
