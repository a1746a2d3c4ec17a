"""Type-I error of tests of β at 5 % with few small groups: ``python -m bench.typeone``.

10 groups of 5 rows, y ~ x + a + (1 + x | g) with x varying between rows and a between groups, and
all fixed effects zero. Every method's share of p < 0.05 with its Monte-Carlo standard error.
"""

import argparse
import time

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

import jaxhlm as hlm

GROUPS, ROWS, LEVEL = 10, 5, 0.05
FORMULA = "~ x + a + (1 + x | g)"
METHODS = ("normal", "residual", "satterthwaite", "kenward-roger")


def small_design() -> object:
    """The design, from a fixed seed."""
    rng = np.random.default_rng(11)
    g = np.repeat(np.arange(GROUPS), ROWS)
    x, a = rng.normal(size=len(g)), rng.normal(size=GROUPS)[g]
    return hlm.design(FORMULA, pd.DataFrame({"g": g, "x": x, "a": a}))


def rejections(n: int, sd: tuple[float, float], seed: int) -> pd.DataFrame:
    """Shares of p < 5 % among n data sets, one row per method and term.

    Args:
        n: number of data sets.
        sd: standard deviations of intercept and slope; the residual's is 1.
        seed: of the draws.
    """
    truth = hlm.Truth.of([0.0, 0.0, 0.0], sd=sd, corr=0.3, sigma=1.0)
    fits = hlm.simulate(small_design(), truth, n, seed=seed).fit(progress=False)
    rows = []
    for method in METHODS:
        started = time.perf_counter()
        p = fits.p_values(method)
        seconds = time.perf_counter() - started
        for term in ("x", "a"):
            known = p[term].notna()
            for lanes, which in (("all", known), ("interior", known & ~fits.singular)):
                share = float((p.loc[which, term] < LEVEL).mean())
                error = float(np.sqrt(share * (1 - share) / which.sum()))
                row = {"sd": sd, "method": method, "term": term, "lanes": lanes, "share": share}
                unknown = len(p) - int(known.sum())
                rows.append({**row, "error": error, "unknown": unknown, "seconds": seconds})
    return pd.DataFrame(rows).assign(singular=float(fits.singular.mean()))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.typeone", description=__doc__)
    parser.add_argument("-n", type=int, default=100_000, help="data sets per truth")
    n = parser.parse_args().n
    frame = pd.concat(rejections(n, sd, seed=1) for sd in ((1.0, 0.5), (1.0, 1.0)))
    table = Table(*map(str, frame.columns))
    for row in frame.itertuples(index=False):
        table.add_row(*(f"{v:.5f}" if isinstance(v, float) else str(v) for v in row))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
