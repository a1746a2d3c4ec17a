"""Run the workloads beside their peers, print the table, write ``bench/results``."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import machine
from bench.report import Result, judged, table, write
from bench.speed import peers

# What must be reached: by workload and measure, a lower or an upper bound.
TARGETS = {
    "article": {"times lme4 refit": (">=", 5000.0)},
    "simulated": {"times lme4 simulate + refit": (">=", 2000.0)},
    "millions": {"fits/s": (">=", 2_000_000.0)},
    "bootstrap": {"seconds": ("<=", 0.25)},
    "schools": {"times lme4 refit": (">=", 300.0)},
    "genes": {"seconds": ("<=", 3.0), "peak MB": ("<=", 1000.0)},
    "incomplete": {
        "times lme4 lmer": (">=", 1000.0),
        "seconds": ("<=", 1.5),
        "test seconds": ("<=", 1.0),
        "peak MB": ("<=", 1000.0),
    },
    "replicates": {"times lme4 lmer": (">=", 300.0)},
    "streamed": {"peak MB": ("<=", 1500.0)},
    "cold": {"ratio": ("<=", 1.3), "ratio, no code kept": ("<=", 2.5)},
    "inference": {
        "satterthwaite share": (">=", 0.5),
        "kenward-roger share": (">=", 0.1),
        "profile seconds": ("<=", 1.0),
        "leave-one-out 1,000 seconds": ("<=", 1.0),
    },
}


def main() -> int:
    """Run what was asked for; the exit status is 1 if a fit was wrong or did not converge."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", help="workloads, such as article,bootstrap,curves")
    parser.add_argument("--quick", action="store_true", help="a hundredth of the data sets")
    parser.add_argument("--no-peers", action="store_true", help="leave lme4 and statsmodels out")
    parser.add_argument("--out", type=Path, default=machine.RESULTS, help="folder for the CSV file")
    options = parser.parse_args()
    known = [*TARGETS, "curves", "optimisers"]
    chosen = options.only.split(",") if options.only else known
    if unknown := [name for name in chosen if name not in known]:
        parser.error(f"--only: {unknown[0]!r} is none of {', '.join(known)}")
    facts = machine.describe()
    versions = {} if options.no_peers else machine.r_versions()
    results = [Result("machine", f"{k} {v}", float("nan")) for k, v in (facts | versions).items()]
    console = Console()
    for workload in chosen:
        console.print(f"running {workload} …", style="dim")
        results += run(workload, 0.01 if options.quick else 1.0, bool(versions))
    if not options.no_peers and "article" in chosen:
        found = {"statsmodels": peers.statsmodels(), "mixedlm": peers.mixedlm()}
        results += [Result("article", f"{name} fits/s", 1.0 / s) for name, s in found.items() if s]
    console.print(table(results))
    path = machine.results_path(options.out, facts, (options.only or "").replace(",", "-"))
    write(results, path)
    console.print(f"written to {path}")
    return int(any(r.met == "WRONG" for r in results))


def run(workload: str, scale: float, with_lme4: bool) -> list[Result]:
    """Figures of one workload and of its peer, whose rounds alternate."""
    with tempfile.TemporaryDirectory() as cache:
        answer = worker(workload, scale, cache, with_lme4)
        again = worker(workload, scale, cache) if workload == "article" else None
    figures = answer["figures"]
    if workload == "optimisers":
        return [Result(name, m, v) for name, row in figures.items() for m, v in row.items()]
    if workload == "curves":
        return [Result(workload, m, v) for m, v in figures.items()]
    values = {"peak MB": answer["peak_mb"], **figures}
    times = values.pop("times", None)
    values["fits/s"] = figures["fits"] / figures["seconds"]
    if "first" in figures:
        values["compile seconds"] = figures["first"] - figures["seconds"]
    if again:
        kept = again["figures"]
        values["compile seconds, code kept"] = kept["first"] - kept["seconds"]
    if times is not None:
        (name,) = (measure for measure in TARGETS[workload] if measure.startswith("times"))
        values[name] = figures["fits"] * times
    return [judged(workload, m, v, TARGETS[workload]) for m, v in values.items()]


def worker(workload: str, scale: float, cache: str, with_lme4: bool = False) -> dict[str, Any]:
    """Figures of one workload from a process of its own, compiled code kept in a folder."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.speed.worker", workload, str(scale), "peers" * with_lme4],
        env={**os.environ, "JAXHLM_CACHE": cache},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    sys.exit(main())
