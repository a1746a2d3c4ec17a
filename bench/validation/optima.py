"""The lowest optima? ``python -m bench.validation.optima`` holds them against other optimisers.

Data sets are drawn to be hard: 3 to 60 groups, tiny, unbalanced or dominated by one of them;
covariates and errors whose scale differs by group; random effects and errors with tails from normal
to Cauchy; ratios of their standard deviations from 1e-2 to 1e2; one to three random effects, in
one block or several; ML and REML. All are fitted in batches. A random part of them, and those in
which our own search spent most, are compared with the best of ten starts of SciPy's L-BFGS-B on the
reference's NumPy criterion, and some of both with lme4's default optimiser, if R is there. Where a
variance dwarfs the error the criterion itself is known to 1e-5 or so only: optima that seem to be
beaten are compared again in 80-bit numbers, row by row from the definition.
"""

import argparse
import json
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from scipy.optimize import minimize

import jaxhlm as hlm
from bench import machine
from jaxhlm import reference
from jaxhlm.likelihood.covariance import lambda_of, theta_index

SCRIPT = Path(__file__).with_suffix(".R")
TERMS = {
    "(1 | g)": "1",
    "(0 + x | g)": "x",
    "(1 + x | g)": "1x",
    "(1 + x || g)": "1x",
    "(1 + x + z | g)": "1xz",
    "(1 + x + z || g)": "1xz",
    "(1 + x | g) + (0 + z | g)": "1xz",
}
FIXED = ("1 + x", "1 + x + z + b")
GROUPS = (3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60)
SIZES = ("tiny", "small", "unbalanced", "dominated", "equal")
TAILS = {"normal": np.inf, "t3": 3.0, "t1.5": 1.5, "cauchy": 1.0}
STARTS, BATCH = 10, 1000
BEATEN = (1e-6, 1e-2, 1.0)


@dataclass(frozen=True)
class Case:
    """Responses (n, B) on one design, or with designs of their own (``frame`` has a replicate)."""

    frame: pd.DataFrame
    formula: str
    reml: bool
    Y: np.ndarray | None

    def fit(self) -> hlm.FitBatch:
        """All data sets in one call."""
        options = {"reml": self.reml, "progress": False}
        if self.Y is None:
            return hlm.fit_many("y " + self.formula, self.frame, by="replicate", **options)
        return hlm.fit_many(self.formula, self.frame, self.Y, **options)

    def rows(self, i: int) -> pd.DataFrame:
        """Data set i."""
        if self.Y is None:
            return self.frame[self.frame["replicate"] == i]
        return self.frame.assign(y=self.Y[:, i])


def sizes(rng: np.random.Generator, G: int, kind: str) -> np.ndarray:
    """Rows of every group."""
    if kind == "tiny":
        return rng.integers(1, 5, G)
    if kind == "small":
        return rng.integers(2, 8, G)
    if kind == "unbalanced":
        return np.maximum(1, 10 ** rng.uniform(0, 1.6, G)).astype(int)
    if kind == "dominated":
        return np.r_[60 + 3 * G, rng.integers(2, 6, G - 1)]
    return np.full(G, rng.integers(3, 9))


def design(rng: np.random.Generator) -> tuple[pd.DataFrame, str, str]:
    """Covariates of one data set, and the fixed and random terms."""
    G, kind = int(rng.choice(GROUPS)), str(rng.choice(SIZES))
    terms, fixed = str(rng.choice(list(TERMS))), str(rng.choice(FIXED))
    g = np.repeat(np.arange(G), sizes(rng, G, kind))
    scales = [10 ** rng.uniform(-1.5, 1.5, G) if rng.random() < 0.4 else np.ones(G) for _ in "xz"]
    x, z = rng.normal(size=(2, len(g))) * np.array(scales)[:, g]
    x += rng.choice([0.0, 2.0]) * rng.normal(size=G)[g]
    frame = pd.DataFrame({"g": g, "x": x, "z": z, "b": rng.normal(size=G)[g]})
    return frame, fixed, terms


def tailed(rng: np.random.Generator, size: object) -> np.ndarray:
    """Draws with tails of one of ``TAILS``, or normal with a single outlier."""
    kind = str(rng.choice([*TAILS, "outlier"]))
    if kind == "outlier":
        values = rng.normal(size=size)
        values.reshape(-1)[0] *= 10 ** rng.uniform(0, 3)
        return values
    return rng.normal(size=size) if kind == "normal" else rng.standard_t(TAILS[kind], size=size)


def response(rng: np.random.Generator, frame: pd.DataFrame, terms: str) -> np.ndarray:
    """(n,) a response on a design."""
    g, n = frame["g"].to_numpy(), len(frame)
    columns = {"1": np.ones(n), "x": frame["x"], "z": frame["z"]}
    Z = np.column_stack([columns[name] for name in TERMS[terms]])
    G = g.max() + 1
    b = tailed(rng, (G, Z.shape[1])) * 10 ** rng.uniform(-2, 2, Z.shape[1])
    return (Z * b[g]).sum(axis=1) + tailed(rng, n) * (10 ** rng.uniform(-0.5, 0.5, G))[g]


def cases(n: int, seed: int) -> Iterator[Case]:
    """At least n data sets; every fourth batch has designs of its own."""
    done, number = 0, 0
    while done < n:
        rng = np.random.default_rng([seed, number])
        frame, fixed, terms = design(rng)
        formula, number, reml = f"~ {fixed} + {terms}", number + 1, bool(rng.random() < 0.5)
        if len(frame) <= 1.2 * len(TERMS[terms]) * (frame["g"].max() + 1) + 6:
            continue
        if number % 4:
            Y = np.column_stack([response(rng, frame, terms) for _ in range(BATCH)])
            yield Case(frame, formula, reml, Y)
        else:
            yield Case(own_designs(rng, frame, terms), formula, reml, None)
        done += BATCH


def own_designs(rng: np.random.Generator, frame: pd.DataFrame, terms: str) -> pd.DataFrame:
    """``BATCH`` data sets whose covariates are scaled and shuffled anew."""
    parts = []
    for i in range(BATCH):
        own = frame.assign(
            x=rng.permutation(frame["x"]) * 10 ** rng.uniform(-0.3, 0.3, len(frame)),
            z=rng.permutation(frame["z"]),
        )
        parts.append(own.assign(y=response(rng, own, terms), replicate=i))
    return pd.concat(parts, ignore_index=True)


class Criterion:
    """The reference's criterion of one data set, in units of the data that suit an optimiser."""

    def __init__(self, rows: pd.DataFrame, formula: str, reml: bool) -> None:
        """Reduce the rows; nothing of the engine is used."""
        d = hlm.design("y " + formula, rows)
        Q, _ = np.linalg.qr(d.X)
        y = rows["y"].to_numpy() - Q @ (Q.T @ rows["y"].to_numpy())
        self.scale = np.sqrt((d.Z**2).mean(axis=0))
        self.D = reference._rotate(d.Z / self.scale, Q, y / np.sqrt(y @ y / d.n), d.group)
        self.n, self.reml, self.blocks = d.n, reml, d.blocks
        self.rows = [x.astype(np.longdouble) for x in (d.X, d.Z / self.scale, rows["y"].to_numpy())]
        self.group = d.group
        self.index = tuple(map(np.array, zip(*theta_index(d.blocks), strict=True)))

    def __call__(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Value and gradient at θ of the scaled columns of Z."""
        Lambda = lambda_of(theta[:, None], self.blocks)[0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            at = reference._profile(Lambda, self.D, self.n, self.reml)
        slope = 2.0 * (at.slope @ Lambda)[self.index]
        return (at.value, slope) if np.isfinite(at.value) else (1e10, np.zeros_like(slope))

    def exactly(self, theta: np.ndarray) -> float:
        """The criterion from the definition, V_i = I + Z_i ΛΛ'Z_i', in 80-bit numbers."""
        Lambda = lambda_of(theta[:, None].astype(np.longdouble), self.blocks)[0]
        p = self.rows[0].shape[1]
        S, logdet = np.zeros((p + 1, p + 1), np.longdouble), np.longdouble(0.0)
        for g in range(self.group.max() + 1):
            X, Z, y = (x[self.group == g] for x in self.rows)
            ZL = Z @ Lambda
            L = cholesky(np.eye(len(y)) + ZL @ ZL.T)
            white = solve_lower(L, np.column_stack([X, y]))
            S += white.T @ white
            logdet += 2.0 * np.log(np.diagonal(L)).sum()
        L = cholesky(S)
        nu = self.n - p * self.reml
        if self.reml:
            logdet += 2.0 * np.log(np.diagonal(L)[:p]).sum()
        return logdet + nu * (1.0 + np.log(2.0 * np.pi * L[p, p] ** 2 / nu))

    def lowest(self, rng: np.random.Generator) -> np.ndarray:
        """Where the best of ten starts of L-BFGS-B ended."""
        rows, columns = self.index
        found = []
        for _ in range(STARTS):
            sd = 10 ** rng.uniform(-1.2, 2.0, len(self.scale))
            theta = sd[rows] * np.where(rows == columns, 1.0, rng.normal(size=len(rows)))
            options = {"maxiter": 500, "ftol": 1e-14, "gtol": 1e-8}
            found.append(minimize(self, theta, jac=True, method="L-BFGS-B", options=options))
        return np.asarray(min(found, key=lambda end: end.fun).x)

    def scaled(self, theta: np.ndarray) -> np.ndarray:
        """θ of the scaled columns of Z, from θ in the user's units."""
        return theta * self.scale[self.index[0]]

    def excess(self, ours: np.ndarray, theirs: np.ndarray) -> float:
        """How far the criterion at one θ is above that at another, in exact numbers if at all."""
        excess = self(ours)[0] - self(theirs)[0]
        if excess <= BEATEN[0]:
            return float(excess)
        return float(self.exactly(ours) - self.exactly(theirs))


def cholesky(A: np.ndarray) -> np.ndarray:
    """L with LL' = A, in the precision of A."""
    L = np.zeros_like(A)
    for j in range(len(A)):
        column = A[j:, j] - L[j:, :j] @ L[j, :j]
        L[j:, j] = column / np.sqrt(column[0])
    return L


def solve_lower(L: np.ndarray, B: np.ndarray) -> np.ndarray:
    """L⁻¹B, in their precision."""
    out = np.zeros_like(B)
    for j in range(len(L)):
        out[j] = (B[j] - L[j, :j] @ out[:j]) / L[j, j]
    return out


def chosen(fits: hlm.FitBatch, share: float, rng: np.random.Generator) -> Iterator[tuple[str, int]]:
    """Data sets to compare: a random part, and as many of those in which the search spent most."""
    ok = np.flatnonzero(fits.ok)
    count = min(rng.poisson(share * BATCH / 2), len(ok))
    for i in rng.choice(ok, count, replace=False):
        yield "random", int(i)
    for i in ok[np.argsort(-fits.iterations[ok], kind="stable")][:count]:
        yield "worst", int(i)


def audit(n: int, share: float, seed: int, console: Console) -> tuple[pd.DataFrame, dict, list]:
    """One row per comparison, counts over all fits, and data sets for lme4."""
    rng, compared, peers = np.random.default_rng(seed), [], []
    totals = {"data sets": 0, "optimum": 0, "singular": 0, "seconds of fitting": 0.0}
    for number, case in enumerate(cases(n, seed)):
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fits = case.fit()
        totals["seconds of fitting"] += time.perf_counter() - started
        for name, value in (
            ("data sets", len(fits)),
            ("optimum", fits.ok),
            ("singular", fits.singular),
        ):
            totals[name] += int(np.sum(value))
        for part, i in chosen(fits, share, rng):
            problem = Criterion(case.rows(i), case.formula, case.reml)
            theta = np.asarray(fits[i].theta)
            excess = problem.excess(problem.scaled(theta), problem.lowest(rng))
            row = {"part": part, "formula": case.formula, "batch": number, "lane": i}
            compared.append({**row, "excess": excess, "criterion": fits.criterion.iloc[i]})
            peers.append((case, i, theta))
        console.print(f"{totals['data sets']:,} {case.formula}", style="dim")
    return pd.DataFrame(compared), totals, peers


def by_lme4(peers: list[tuple[Case, int, np.ndarray]]) -> np.ndarray:
    """(N, 2) lme4's criteria of data sets, and how far ours are above; NaN where it stopped."""
    with tempfile.TemporaryDirectory() as folder:
        tasks = []
        for k, (case, i, _) in enumerate(peers):
            path = Path(folder) / f"{k}.csv"
            case.rows(i).to_csv(path, index=False)
            tasks.append({"path": str(path), "formula": "y " + case.formula, "reml": case.reml})
        listed = Path(folder) / "tasks.csv"
        pd.DataFrame(tasks).to_csv(listed, index=False)
        command = ["Rscript", str(SCRIPT), str(listed)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    ends = zip(peers, json.loads(done.stdout), strict=True)
    return np.array([_beside(*peer, end) if end else (np.nan, np.nan) for peer, end in ends])


def _beside(case: Case, i: int, ours: np.ndarray, theirs: list[float]) -> tuple[float, float]:
    problem = Criterion(case.rows(i), case.formula, case.reml)
    return theirs[0], problem.excess(problem.scaled(ours), problem.scaled(np.array(theirs[1:])))


def beaten(by: str, part: str, excess: np.ndarray) -> list[dict[str, object]]:
    """Rows of the table: how many optima another one is below, and by how much at most."""
    known = excess[np.isfinite(excess)]
    rows = [("compared", len(known)), ("largest excess", known.max(initial=0.0))]
    rows += [(f"beaten by more than {b:g}", int((known > b).sum())) for b in BEATEN]
    return [{"by": by, "part": part, "measure": name, "value": value} for name, value in rows]


def main() -> None:
    """Draw, fit, compare, print and write."""
    parser = argparse.ArgumentParser(prog="python -m bench.validation.optima", description=__doc__)
    parser.add_argument("-n", type=int, default=100_000, help="data sets")
    parser.add_argument("--compared", type=int, default=4000, help="of these with L-BFGS-B")
    parser.add_argument("--peer", type=int, default=600, help="of these with lme4")
    parser.add_argument("--seed", type=int, default=20261128)
    parser.add_argument("--out", type=Path, default=machine.RESULTS, help="folder of the CSV file")
    options = parser.parse_args()
    console = Console()
    share = options.compared / options.n
    compared, totals, peers = audit(options.n, share, options.seed, console)
    table = [{"by": "jaxhlm", "part": "all", "measure": k, "value": v} for k, v in totals.items()]
    for part, some in compared.groupby("part"):
        table += beaten("10 × L-BFGS-B", str(part), some["excess"].to_numpy())
    if shutil.which("Rscript"):
        step = max(1, len(peers) // options.peer)
        some = compared.iloc[::step]
        theirs, above = by_lme4(peers[::step]).T
        best = some["criterion"] - np.maximum(some["excess"], 0.0)
        for part in ("random", "worst"):
            lane_mask = (some["part"] == part).to_numpy()
            over = (theirs - best.to_numpy())[lane_mask]
            table += beaten("lme4 beaten by the best known", part, over)
            table += beaten("lme4 below jaxhlm", part, above[lane_mask])
    result = pd.DataFrame(table)
    console.print(result.to_string(index=False, float_format="%.6g"))
    path = machine.results_path(options.out, machine.describe(), "optima")
    result.to_csv(path, index=False, float_format="%.6g")
    worst = compared.nlargest(20, "excess")
    console.print(worst.to_string(index=False))
    console.print(f"written to {path}")


if __name__ == "__main__":
    main()
