"""Half an hour of mixed work, memory watched: ``python -m bench.validation.soak --minutes 30``.

Fits, batches of many shapes, replicates, bootstraps, power, studies on disk and tables follow one
another at random. After five minutes, by when the caches are full, resident memory must stay within
5 %: its median over the last fifth of the time is compared with that over the fifth after them.
"""

import argparse
import csv
import ctypes
import gc
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

import jaxhlm as hlm
from bench import data, machine

WARM_UP, ALLOWED = 5.0, 0.05


class MallocInfo(ctypes.Structure):
    """The record ``mallinfo2`` of the GNU C library, in bytes."""

    NAMES = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = tuple((name, ctypes.c_size_t) for name in NAMES.split())


def allocated_mb() -> float:
    """What is allocated, in MB; the rest of the resident size is code, and free lists of malloc.

    NaN where the C library is another.
    """
    try:
        ask = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return float("nan")
    ask.restype = MallocInfo
    info = ask()
    return (info.uordblks + info.hblkhd) / 2**20


def resident_mb() -> float:
    """Resident size of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def frame(rng: np.random.Generator, G: int, size: int, columns: int) -> pd.DataFrame:
    """G unequal groups with numeric covariates, a factor and a response."""
    g = np.repeat(np.arange(G), rng.integers(max(2, size // 2), size + size // 2 + 1, size=G))
    table = pd.DataFrame(rng.normal(size=(len(g), columns)), columns=list("abcdef")[:columns])
    table["arm"] = np.array(["control", "treated"])[g % 2]
    return table.assign(g=g, y=rng.normal(size=len(g)) + rng.normal(size=G)[g])


def one_fit(rng: np.random.Generator) -> None:
    """A fit with what people ask of it."""
    table = frame(rng, int(rng.integers(8, 40)), 8, 2)
    fit = hlm.fit("y ~ a + b * arm + (1 + a | g)", table)
    str(fit.summary(df="kenward-roger")), fit.tidy(), fit.predict(table.head())
    fit.emmeans("arm", pairwise=True), fit.confint("profile"), fit.tidy_robust()


def responses(rng: np.random.Generator) -> None:
    """Many responses, some incomplete, on a design of a new shape."""
    p = int(rng.integers(1, 7))
    table = frame(rng, int(rng.integers(5, 120)), 8, p)
    slope = rng.choice(["(1 | g)", "(1 + a | g)", "(1 + a || g)"])
    Y = rng.normal(size=(len(table), 200)) + rng.normal(size=(200, 200))[table.g.to_numpy()]
    Y[rng.random(Y.shape) < 0.001] = np.nan
    fits = hlm.fit_many(f"~ {' + '.join('abcdef'[:p])} + {slope}", table, Y, progress=False)
    str(fits), fits.tidy()


def replicates(rng: np.random.Generator) -> None:
    """Data sets one below the other."""
    del rng
    hlm.fit_many("y " + data.ARTICLE, data.replicates(50), by="replicate", progress=False)


def simulated(rng: np.random.Generator) -> None:
    """Statistics drawn and fitted, and a bootstrap."""
    design = hlm.design(data.ARTICLE, hlm.load_dataset("article"))
    hlm.simulate(design, data.TRUTH, 2000, seed=int(rng.integers(1000))).fit(progress=False)
    fit = hlm.fit(data.SLEEP, hlm.load_dataset("sleepstudy"))
    hlm.bootstrap(fit, 500, seed=int(rng.integers(1000))).confint()


def planned(rng: np.random.Generator) -> None:
    """Power, and a study on disk."""
    table = hlm.units(n=int(rng.integers(10, 60)), measurements=5, within={"x": [0, 1, 2, 3, 4]})
    truth = hlm.Truth.of([1, 0.3], sd=[0.5, 0.2], sigma=1.0)
    mechanism = hlm.mechanism("y ~ x + (1 + x | unit)", table, truth)
    hlm.power(mechanism, "x", n=500, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        hlm.study(None, {"m": mechanism}, n=200, seed=1, out=f"{folder}/s", progress=False)


WORK: tuple[Callable[[np.random.Generator], None], ...] = (
    one_fit,
    responses,
    replicates,
    simulated,
    planned,
)


def main() -> int:
    """Work until the time is over; the exit status is 1 if memory grew."""
    parser = argparse.ArgumentParser(prog="python -m bench.validation.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=machine.RESULTS, help="folder for the CSV file")
    options = parser.parse_args()
    warnings.simplefilter("ignore", hlm.JaxhlmWarning)
    rng, rows, started = np.random.default_rng(options.seed), [], time.monotonic()
    while (minute := (time.monotonic() - started) / 60.0) < options.minutes:
        work = WORK[rng.integers(len(WORK))]
        work(rng)
        gc.collect()
        sizes = {"MB": resident_mb(), "allocated_MB": allocated_mb()}
        rows.append({"minute": round(minute, 3), "work": work.__name__, **sizes})
        if len(rows) % 50 == 0:
            shown = ", ".join(f"{size:.0f} {name}" for name, size in sizes.items())
            print(f"{minute:6.1f} min, {len(rows)} rounds, {shown}", flush=True)
    path = machine.results_path(options.out, machine.describe(), "soak")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    grown = growth(rows, options.minutes)
    print(f"{len(rows)} rounds; memory changed by {100 * grown:+.1f} % after the first minutes")
    return int(grown > ALLOWED)


def growth(rows: list[dict], minutes: float) -> float:
    """Relative change of memory from the fifth after the warm-up to the last fifth."""
    warm = min(WARM_UP, minutes / 6.0)
    fifth = (minutes - warm) / 5.0
    early = [r["MB"] for r in rows if warm <= r["minute"] < warm + fifth]
    late = [r["MB"] for r in rows if r["minute"] >= minutes - fifth]
    return statistics.median(late) / statistics.median(early) - 1.0


if __name__ == "__main__":
    sys.exit(main())
