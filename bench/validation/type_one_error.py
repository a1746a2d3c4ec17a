"""Type-I error of tests of β at 5 %: ``python -m bench.validation.type_one_error``.

Few small groups: 10 of 5 rows, x the same five points in every group, a between groups, all fixed
effects zero. Every method's share of p < 0.05 with its Monte-Carlo standard error. With a random
intercept Satterthwaite's and Kenward and Roger's t distributions are exact but for singular fits;
with a random slope they approximate.
"""

import argparse
import time

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

import jaxhlm as hlm

GROUPS, ROWS, LEVEL = 10, 5, 0.05
INTERCEPT, SLOPE = "~ x + a + (1 | g)", "~ x + a + (1 + x | g)"
CASES = ((INTERCEPT, (2.0,)), (SLOPE, (1.0, 0.5)), (SLOPE, (2.0, 2.0)))
METHODS = ("normal", "residual", "satterthwaite", "kenward-roger")


def small_design(formula: str) -> object:
    """The design, from a fixed seed."""
    g = np.repeat(np.arange(GROUPS), ROWS)
    x, a = np.linspace(-1, 1, ROWS), np.random.default_rng(11).normal(size=GROUPS)
    return hlm.design(formula, pd.DataFrame({"g": g, "x": np.tile(x, GROUPS), "a": a[g]}))


def rejections(n: int, formula: str, sd: tuple[float, ...], seed: int) -> pd.DataFrame:
    """Shares of p < 5 % among n data sets, one row per method and term.

    Args:
        n: number of data sets.
        formula: the model.
        sd: standard deviations of the random effects; the residual's is 1.
        seed: of the draws.
    """
    truth = hlm.Truth.of([0.0, 0.0, 0.0], sd=sd, corr=0.3, sigma=1.0)
    fits = hlm.simulate(small_design(formula), truth, n, seed=seed).fit(progress=False)
    rows = []
    for method in METHODS:
        started = time.perf_counter()
        p = fits.p_values(method)
        seconds = time.perf_counter() - started
        for term in ("x", "a"):
            known = p[term].notna()
            for subset, which in (("all", known), ("interior", known & ~fits.singular)):
                share = float((p.loc[which, term] < LEVEL).mean())
                error = float(np.sqrt(share * (1 - share) / which.sum()))
                row = {
                    "model": formula,
                    "sd": sd,
                    "method": method,
                    "term": term,
                    "lanes": subset,
                    "share": share,
                }
                unknown = len(p) - int(known.sum())
                rows.append({**row, "error": error, "unknown": unknown, "seconds": seconds})
    return pd.DataFrame(rows).assign(singular=float(fits.singular.mean()))


def main() -> None:
    """Print the table."""
    name = "python -m bench.validation.type_one_error"
    parser = argparse.ArgumentParser(prog=name, description=__doc__)
    parser.add_argument("-n", type=int, default=100_000, help="data sets per truth")
    n = parser.parse_args().n
    frame = pd.concat(rejections(n, formula, sd, seed=1) for formula, sd in CASES)
    table = Table(*map(str, frame.columns))
    for row in frame.itertuples(index=False):
        table.add_row(*(f"{v:.5f}" if isinstance(v, float) else str(v) for v in row))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
