"""What one fit costs, and ten and a thousand, from 2 to 500 fixed and 1 to 16 random effects.

``python -m bench.speed.single`` times fits in CPU seconds, BLAS on one thread, and lme4's ``lmer``
on the same data if R is there. ``step`` is the cost per fit over that of the size before, divided
by the ratio of p³ or q⁴ where that is larger than 1: nothing may jump. No fit of this table
compiles anything but a thousand of q ≤ 3 and p ≤ 8, which do so once.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

import jaxhlm as hlm
from bench import machine

SCRIPT = Path(__file__).with_suffix(".R")
FIXED = (2, 4, 8, 9, 12, 16, 24, 32, 48, 64, 96, 126, 160, 200, 300, 500)
RANDOM = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16)
MANY, MANY_FIXED = (10, 1000), (2, 8, 9, 16, 32, 64, 126)
TRIES = 3
# lme4 takes longer with more random effects; its search has no derivatives.
PATIENCE = 60.0


def levels(p: int, groups: int = 500, rows: int = 10) -> tuple[str, pd.DataFrame]:
    """A random intercept, a covariate and a factor: p fixed effects."""
    rng = np.random.default_rng(p)
    unit = np.repeat(np.arange(groups), rows)
    x, sites = rng.normal(size=len(unit)), rng.permutation(np.arange(len(unit)) % (p - 1))
    y = 1.0 + 0.5 * x + rng.normal(size=groups)[unit] + rng.normal(size=len(unit))
    data = pd.DataFrame({"y": y, "x": x, "unit": unit, "site": [f"s{s:03}" for s in sites]})
    return f"y ~ x{' + site' * (p > 2)} + (1 | unit)", data


def slopes(q: int, groups: int = 100, rows: int = 40) -> tuple[str, pd.DataFrame]:
    """A random intercept and q − 1 random slopes, all correlated; p = q."""
    rng = np.random.default_rng(q)
    unit = np.repeat(np.arange(groups), rows)
    Z = np.column_stack([np.ones(len(unit)), *rng.normal(size=(q - 1, len(unit)))])
    effects = rng.normal(size=(groups, q)) @ np.linalg.cholesky(0.5 * np.eye(q) + 0.2).T
    y = Z.sum(axis=1) + (Z * effects[unit]).sum(axis=1) + rng.normal(size=len(unit))
    names = [f"x{j}" for j in range(1, q)]
    data = pd.DataFrame(Z[:, 1:], columns=names).assign(y=y, unit=unit)
    columns = " + ".join(["1", *names])
    return f"y ~ {columns} + ({columns} | unit)", data


def cost(work: Any, tries: int = TRIES) -> tuple[float, float, Any]:
    """CPU seconds of the first call, the least of later ones, and what the last returned."""
    found = []
    for _ in range(tries + 1):
        started = time.process_time()
        result = work()
        found.append(time.process_time() - started)
    return found[0], min(found[1:]), result


def by_lme4(formula: str, data: pd.DataFrame) -> dict[str, float]:
    """Seconds and criterion of ``lmer``; nothing where R is not there, or takes too long."""
    if not shutil.which("Rscript"):
        return {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.csv"
        data.to_csv(path, index=False)
        environment = {**os.environ, "BENCH_FORMULA": formula, "OPENBLAS_NUM_THREADS": "1"}
        try:
            done = subprocess.run(
                ["Rscript", str(SCRIPT), str(path), "1"],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
                timeout=PATIENCE,
            )
        except subprocess.SubprocessError:
            return {}
    found = json.loads(done.stdout)
    return {"lme4": found["seconds"], "lme4_criterion": found["criterion"]}


def one(curve: str, p: int, q: int, formula: str, data: pd.DataFrame, peer: bool) -> dict[str, Any]:
    """One fit."""
    first, seconds, fit = cost(lambda: hlm.fit(formula, data))
    row = {"curve": curve, "p": p, "q": q, "B": 1, "first": first, "seconds": seconds}
    theirs = by_lme4(formula, data) if peer else {}
    return {**row, "criterion": fit.criterion, "iterations": fit.iterations, **theirs}


def many(B: int, p: int) -> dict[str, Any]:
    """B responses on one design, seconds per fit."""
    formula, data = levels(p, groups=100)
    rng = np.random.default_rng(B)
    effects = rng.normal(size=(100, B))[data.unit]
    Y = effects + rng.normal(size=(len(data), B))
    first, seconds, fits = cost(lambda: hlm.fit_many(formula, data, responses=Y), 1 + (B < 100))
    row = {"curve": f"B={B}", "p": p, "q": 1, "B": B, "first": first / B, "seconds": seconds / B}
    return {**row, "iterations": float(fits.iterations.mean())}


def main() -> None:
    """Print the table as it grows, and write it."""
    parser = argparse.ArgumentParser(prog="python -m bench.speed.single", description=__doc__)
    parser.add_argument("--most", type=int, default=500, help="largest p")
    parser.add_argument("--no-peers", action="store_true", help="leave lme4 out")
    parser.add_argument("--out", type=Path, default=machine.RESULTS, help="folder of the CSV file")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    console, rows, peer = Console(), [], not options.no_peers
    hlm.fit(*levels(2))
    work = [(one, ("p", p, 1, *levels(p), peer)) for p in FIXED if p <= options.most]
    work += [(one, ("q", q, q, *slopes(q), peer)) for q in RANDOM if q <= options.most]
    work += [(many, (B, p)) for B in MANY for p in MANY_FIXED if p <= options.most]
    for measure, arguments in work:
        rows.append(measure(*arguments))
        console.print(", ".join(f"{k} {v:.5g}" for k, v in rows[-1].items() if k != "curve"))
    table = stepped(pd.DataFrame(rows))
    path = machine.results_path(options.out, machine.describe(), "single")
    table.to_csv(path, index=False, float_format="%.6g")
    console.print(f"largest step {table.step.max():.2f}; written to {path}")


def stepped(table: pd.DataFrame) -> pd.DataFrame:
    """The table with ``step``: how much more a fit costs than one size before, algebra apart."""
    before = table.groupby("curve", sort=False)[["p", "seconds"]].shift()
    power = np.where(table.curve == "q", 4, 3)
    algebra = (table.p / before.p) ** power
    return table.assign(step=table.seconds / before.seconds / algebra.clip(lower=1.0))


if __name__ == "__main__":
    main()
