"""Scaling over devices and over workers of Dask, and what 10⁹ fits take: ``-m bench.scaling``.

**Strong**: the same data sets on more devices or workers, with the efficiency t₁ / (n tₙ).
**Weak**: as many for each, with the efficiency t₁ / tₙ. On a CPU JAX is made to show as many
devices as are asked for: they share its cores, so that efficiencies say something up to the number
of cores only. **Roofline**: bytes that a fit reads and writes once, against the bandwidth that the
memory was measured to have. **Projection**: 10⁹ fits on 8 and 64 devices such as the one measured,
8 of them on a host such as this one; what the devices compute, what goes through the bus, what the
cores finish and what is written go on at the same time, and the slowest holds the others. Times are
the fastest of five rounds, in which all numbers of devices take turns.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import machine
from bench.accelerator.__main__ import positive
from bench.report import Result, judged, table, write
from bench.scaling.projection import Single, projected, roofline

# Data sets at full size.
WORKLOADS = {"article": 100_000, "drawn 1e6": 1_000_000, "schools": 10_000}
STUDY = 100_000
PROJECTED = 1e9
DEVICES = 8, 64
NONE = float("nan")


def main() -> int:
    """Measure what was asked for; the exit status is 1 if a fit was wrong or a process failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__)
    parser.add_argument("--only", help=f"some of: {','.join([*WORKLOADS, 'dask'])}")
    parser.add_argument("--scale", type=positive, default=1.0, help="part of the data sets")
    parser.add_argument("--counts", default="1,2,4", help="numbers of devices and of workers")
    parser.add_argument("--note", default="", help="a line for the file, about the machine")
    parser.add_argument("--out", type=Path, default=machine.RESULTS, help="folder for the CSV file")
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else [*WORKLOADS, "dask"]
    if unknown := {*chosen} - {*WORKLOADS, "dask"}:
        parser.error(f"no workload {sorted(unknown)}")
    return run(chosen, sorted(map(int, options.counts.split(","))), options)


def run(chosen: list[str], counts: list[int], options: argparse.Namespace) -> int:
    """Measure workloads by their names; the exit status."""
    console, started = Console(), time.perf_counter()
    here = measured(counts[-1], "facts", min(10.0 * options.scale, 1.0))
    path = machine.results_path(options.out, here["facts"], "scaling")
    told = here["facts"] | {"scale": f"{options.scale:g}", "note": options.note}
    results = [Result("machine", f"{k} {v}", NONE) for k, v in told.items() if v]
    results += [Result("bandwidth", f"{k} GB/s", v / 1e9) for k, v in here["bandwidths"].items()]
    there = [n for n in counts if n <= here["devices"]]
    for name in chosen:
        console.print(f"{time.perf_counter() - started:4.0f} s: {name} …", style="dim")
        try:
            if name == "dask":
                results += over_workers(counts, options.scale)
            else:
                results += over_devices(name, there, options.scale, here)
        except subprocess.CalledProcessError as error:  # the others go on
            what = (error.stderr.strip().splitlines() or ["no word"])[-1]
            results.append(Result(name, what, NONE, met="WRONG"))
        write(results, path)
    console.print(table(results))
    console.print(f"{time.perf_counter() - started:.0f} s; written to {path}")
    return int(any(r.met == "WRONG" for r in results))


def over_devices(name: str, counts: list[int], scale: float, here: dict[str, Any]) -> list[Result]:
    """Scaling, roofline and projection of one workload."""
    fits = max(counts[-1], int(WORKLOADS[name] * scale))
    found = measured(counts[-1], "over_devices", name, fits, counts)
    one = single(found, fits, here)
    checks = {k: found[k] for k in ("failed", "excess")}
    values = checks | scaling(found, fits) | roofline(one)
    values |= {"share left to the cores": one.share, "seconds of one of those": one.finishing}
    results = [judged(name, measure, value, {}) for measure, value in values.items()]
    for devices in DEVICES:
        figures, first = projected(one, PROJECTED, devices)
        what = f"{PROJECTED:g} on {devices} devices"
        results += [Result(name, f"{what}: {k}", v) for k, v in figures.items()]
        results.append(Result(name, f"{what}: breaks first: {first}", NONE))
    return results


def over_workers(counts: list[int], scale: float) -> list[Result]:
    """Scaling of a study, and of draws that are fitted, over workers of Dask."""
    if find_spec("distributed") is None:
        return [Result("dask", "not measured: it is not installed", NONE)]
    n = max(counts[-1], int(STUDY * scale))
    results = []
    for name, found in measured(1, "over_workers", n, counts).items():
        values = scaling(found, found["fits"])
        results += [Result(f"dask, {name}", k, v) for k, v in values.items()]
    return results


def scaling(found: dict[str, Any], fits: int) -> dict[str, float]:
    """Fits a second and efficiencies, strong and weak, of one more than one of them."""
    strong, weak = ({int(n): t for n, t in found[k].items()} for k in ("strong", "weak"))
    first, most = min(strong), max(strong)
    values = {}
    for n in strong:
        values[f"strong, {n}: fits/s"] = fits / strong[n]
        values[f"strong, {n}: efficiency"] = first * strong[first] / (n * strong[n])
    for n in weak:
        values[f"weak, {n}: fits/s"] = fits * n / most / weak[n]
        values[f"weak, {n}: efficiency"] = weak[first] / weak[n]
    return values


def single(found: dict[str, Any], fits: int, here: dict[str, Any]) -> Single:
    """What the projection starts from."""
    known = here["bandwidths"]
    taken = "read", "written", "share", "finishing", "file_bytes", "file_seconds", "fits_per_file"
    return Single(
        seconds=min(found["strong"].items(), key=lambda item: int(item[0]))[1] / fits,
        bandwidth=known["device memory"],
        bus=known.get("bus", known["device memory"]),
        memory=here["memory"],
        **{name: found[name] for name in taken},
    )


def measured(devices: int, what: str, *arguments: Any) -> dict[str, Any]:
    """What a process of its own finds that has so many devices of a CPU, or those that there are.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    done = subprocess.run(
        [sys.executable, "-m", "bench.scaling.measured", json.dumps([what, *arguments])],
        env=os.environ | {"XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    sys.exit(main())
