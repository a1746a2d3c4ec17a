"""Workloads on whatever accelerator JAX finds, checked first: ``python -m bench.accelerator``.

Of each, 200 random fits are checked against the plain NumPy reference. Then it is timed, results
ready. ``compile seconds`` are those of the first call beyond a warm one, without what an earlier
workload has compiled already; ``warm compile seconds`` are what XLA takes within a warm call, where
there should be nothing left to compile or to read from the cache. ``GB moved`` counts data that go
in once and estimates that come out once, whatever is read again on the way, so that ``share`` of
the measured bandwidth is 1 where only the memory, or the bus, is waited for.
"""

import argparse
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from bench import machine
from bench.accelerator.bandwidth import bandwidths
from bench.accelerator.compiling import Compiling
from bench.accelerator.workloads import WORKLOADS, Workload, nbytes
from bench.report import Result, judged, table, write
from bench.speed.timing import Clock

# Of an H100 or H200, in float64.
TARGETS = {
    "drawn 1e7": {"fits/s": (">=", 20e6)},
    "article program": {"fits/s": (">=", 50e6)},
    "drawn schools": {"fits/s": (">=", 1e6)},
}
FEWEST = 8


def main() -> int:
    """Run what was asked for; the exit status is 1 if a fit was wrong or a workload failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.accelerator", description=__doc__)
    parser.add_argument("--only", help=f"some of: {','.join(WORKLOADS)}")
    parser.add_argument("--scale", type=positive, default=1.0, help="part of the data sets")
    parser.add_argument("--devices", type=int, help="fit on so many devices, CPUs too")
    parser.add_argument("--out", type=Path, default=machine.RESULTS, help="folder for the CSV file")
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else [*WORKLOADS]
    if unknown := {*chosen} - {*WORKLOADS}:
        parser.error(f"no workload {sorted(unknown)}")
    # What failed is counted in the figures.
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as empty:
        # Code kept from before would hide what compiling takes.
        os.environ["JAXHLM_CACHE"] = empty
        return run(chosen, options)


def positive(text: str) -> float:
    """A number above zero.

    Raises:
        ValueError: it is none.
    """
    if not 0.0 < float(text) < float("inf"):
        raise ValueError(text)
    return float(text)


def run(chosen: list[str], options: argparse.Namespace) -> int:
    """Measure workloads by their names; the exit status."""
    facts, console, started = machine.describe(), Console(), time.perf_counter()
    # On a CPU the name without more is that of ``python -m bench``.
    path = machine.results_path(options.out, facts, "accelerator" * (facts["device"] == "cpu"))
    facts |= {"devices": str(options.devices or "default"), "scale": f"{options.scale:g}"}
    results = [Result("machine", f"{k} {v}", float("nan")) for k, v in facts.items()]
    known = bandwidths(min(options.scale, 1.0))
    results += [Result("bandwidth", f"{k} GB/s", v / 1e9) for k, v in known.items()]
    for name in chosen:
        console.print(f"{time.perf_counter() - started:4.0f} s: {name} …", style="dim")
        results += measured(WORKLOADS[name], options.scale, options.devices, known)
        write(results, path)
    console.print(table(results))
    console.print(f"{time.perf_counter() - started:.0f} s; written to {path}")
    return int(any(r.met == "WRONG" for r in results))


def measured(
    workload: Workload, scale: float, devices: int | None, known: dict[str, float]
) -> list[Result]:
    """Figures of one workload beside their targets; why there are none if it fails."""
    try:
        values = figures(workload, max(FEWEST, int(workload.fits * scale)), devices, known)
    except Exception as error:  # the other workloads of a short session go on
        said = str(error).partition("\n")[0]
        what = f"{type(error).__name__}: {said}"
        return [Result(workload.name, what, float("nan"), met="WRONG")]
    on_cpu = jax.default_backend() == "cpu"
    targets: Any = {} if on_cpu else TARGETS.get(workload.name, {})
    return [judged(workload.name, m, v, targets) for m, v in values.items()]


def figures(
    workload: Workload, fits: int, devices: int | None, known: dict[str, float]
) -> dict[str, float]:
    """What one workload took, checked before it is timed again."""
    made, compiling = workload.prepare(fits), Compiling()

    def check(results: Any) -> dict[str, float]:
        checked = workload.check(made, results, devices)
        compiling.seconds = 0.0
        return checked

    with compiling:
        found, results = Clock().timed(lambda: workload.run(made, devices), check, workload.repeats)
    moved = workload.reads(made) + nbytes(results)
    # A CPU has one memory, and no bus.
    bound = workload.through if workload.through in known else "device memory"
    seconds = found["seconds"]
    return {
        **found,
        "fits": fits,
        "fits/s": fits / seconds,
        "compile seconds": found["first"] - seconds,
        "warm compile seconds": compiling.seconds / workload.repeats,
        "GB moved": moved / 1e9,
        "GB/s": moved / seconds / 1e9,
        f"share of {bound}": moved / seconds / known[bound],
    }


if __name__ == "__main__":
    sys.exit(main())
