"""The workloads. Each runs in a process of its own and returns figures as a dictionary.

Results of 25 November 2026 call the first eight but ``millions`` and ``incomplete`` A to H, in the
order in which they stand here.
"""

import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np
import optax

import jaxhlm as hlm
from bench import data
from bench.speed.timing import REPEATS, Clock

CHECKED = 200


def checked(fits: hlm.FitBatch, rows: bool = True) -> dict[str, float]:
    """Share not converged, and the largest criterion above the NumPy reference's of 200 fits."""
    figures = {"failed": float(1.0 - fits.ok.mean()), "singular": float(fits.singular.mean())}
    if rows:
        figures["excess"] = float(fits.verify(n=CHECKED).criterion)
    return figures


def many(formula: str, frame: Any, Y: Any, clock: Clock) -> dict[str, float]:
    """One design, many responses in memory."""
    figures, fits = clock.timed(lambda: hlm.fit_many(formula, frame, Y, progress=False), checked)
    return {**figures, "fits": len(fits)}


def drawn(design: Any, truth: Any, n: int, clock: Clock) -> dict[str, float]:
    """Statistics drawn and fitted; rows of a thousand data sets are checked."""

    def check(fits: hlm.FitBatch) -> dict[str, float]:
        rows = hlm.simulate(design, truth, 1000, seed=1, statistics=False).fit(progress=False)
        return {**checked(rows), **checked(fits, rows=False)}

    figures, _ = clock.timed(
        lambda: hlm.simulate(design, truth, n, seed=1).fit(progress=False), check
    )
    return {**figures, "fits": n}


def article(scale: float, clock: Clock) -> dict[str, float]:
    return many(data.ARTICLE, *data.article(int(100_000 * scale)), clock)


def simulated(scale: float, clock: Clock) -> dict[str, float]:
    design = hlm.design(data.ARTICLE, hlm.load_dataset("article"))
    return drawn(design, data.TRUTH, int(100_000 * scale), clock)


def millions(scale: float, clock: Clock) -> dict[str, float]:
    """As many as are worth a compiled program of all stages."""
    design = hlm.design(data.ARTICLE, hlm.load_dataset("article"))
    return drawn(design, data.TRUTH, int(2_000_000 * scale), clock)


def bootstrap(scale: float, clock: Clock) -> dict[str, float]:
    fit = hlm.fit(data.SLEEP, hlm.load_dataset("sleepstudy"))
    return drawn(fit, None, int(10_000 * scale), clock)


def schools(scale: float, clock: Clock) -> dict[str, float]:
    return many(data.SCHOOLS, *data.schools(int(1000 * scale)), clock)


def genes(scale: float, clock: Clock) -> dict[str, float]:
    return many(data.GENES, *data.genes(int(20_000 * scale)), clock)


CONTRASTS = {"slope": "x", "difference": "a - b", "sum": "c + d"}


def incomplete(scale: float, clock: Clock) -> dict[str, float]:
    """Responses with missing values; and tests, by Satterthwaite, of fits that were made anew."""
    frame, Y = data.incomplete(int(20_000 * scale))

    def fit() -> hlm.FitBatch:
        return hlm.fit_many(data.GENES, frame, Y, progress=False)

    figures, fits = clock.timed(fit, checked)
    figures["fits"], seconds = len(fits), []
    for _ in range(REPEATS):
        fits = None  # the memory of one batch at a time
        fits = fit()
        started = time.perf_counter()
        fits.test(CONTRASTS)
        seconds.append(time.perf_counter() - started)
    return {**figures, "test seconds": statistics.median(seconds)}


def replicates(scale: float, clock: Clock) -> dict[str, float]:
    frame = data.replicates(int(10_000 * scale))
    formula = "y " + data.ARTICLE
    figures, fits = clock.timed(
        lambda: hlm.fit_many(formula, frame, by="replicate", progress=False), checked
    )
    return {**figures, "fits": len(fits)}


def streamed(scale: float, clock: Clock) -> dict[str, float]:
    """Rows drawn, reduced and fitted chunk by chunk, at four sizes for the slope."""
    design = hlm.design(data.ARTICLE, hlm.load_dataset("article"))
    sizes = [int(1_000_000 * scale) // k for k in (8, 4, 2, 1)]
    simulated = [hlm.simulate(design, data.TRUTH, n, seed=1, statistics=False) for n in sizes]
    figures, _ = clock.timed(lambda: simulated[0].fit(progress=False), checked, repeats=1)
    seconds, failed = [], figures["failed"]
    for s in simulated:
        fits = None  # the memory of one size at a time
        started = time.perf_counter()
        fits = s.fit(progress=False)
        seconds.append(time.perf_counter() - started)
        failed = max(failed, checked(fits, rows=False)["failed"])
    del figures["first"]  # of the smallest size
    sized = {"seconds": seconds[-1], "fits": sizes[-1], "slope": slope(sizes, seconds)}
    return {**figures, **sized, "failed": failed}


COLD_FIT = (
    "import jaxhlm as hlm; "
    "print(hlm.fit('Reaction ~ Days + (1 + Days | Subject)', hlm.load_dataset('sleepstudy')))"
)


def cold(scale: float, clock: Clock) -> dict[str, float]:
    """A cold process that imports, fits and prints, against one that only imports.

    The first of them has no compiled code from before.
    """
    del clock  # other processes are timed
    seconds: dict[str, list[float]] = {"import jax, pandas, formulaic": [], COLD_FIT: []}
    for _ in range(max(3, int(7 * scale))):
        for code, times in seconds.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - started)
    imports, fit = (statistics.median(times) for times in seconds.values())
    ratios = {"ratio": fit / imports, "ratio, no code kept": seconds[COLD_FIT][0] / imports}
    return {"seconds": fit, "fits": 1, **ratios, "failed": 0.0, "excess": 0.0}


def inference(scale: float, clock: Clock) -> dict[str, float]:
    """Inference on the article's fits and on single ones; df pass over the statistics again."""
    frame, Y = data.article(int(100_000 * scale))
    alone, fits = clock.timed(lambda: hlm.fit_many(data.ARTICLE, frame, Y, progress=False), checked)
    figures = {**alone, "fits": len(fits)}
    for method in ("satterthwaite", "kenward-roger"):
        # A slice is a batch of its own, that has kept nothing of what was asked before.
        seconds = clock.timed(lambda method=method: fits[:].p_values(method))[0]["seconds"]
        figures[f"{method} seconds"] = seconds
        figures[f"{method} share"] = alone["seconds"] / (alone["seconds"] + seconds)
    figures["CR2 seconds"] = clock.timed(lambda: fits.vcov_robust("CR2"), repeats=1)[0]["seconds"]
    sleep = hlm.fit(data.SLEEP, hlm.load_dataset("sleepstudy"))
    for name, work in (
        ("profile", lambda: sleep.confint("profile")),
        ("bootstrap 10,000", lambda: hlm.bootstrap(sleep, 10_000, seed=1).confint()),
        ("leave-one-out 1,000", data.many_groups(1000).influence),
    ):
        once = clock.timed(work)[0]
        figures[f"{name} first"], figures[f"{name} seconds"] = once["first"], once["seconds"]
    return figures


def curves(scale: float, clock: Clock) -> dict[str, float]:
    """Log-log slopes of warm time against B, G, rows per group, p and q, and times to compile."""
    n, figures = int(4096 * max(scale, 0.25)), {}
    balanced = hlm.design(data.ARTICLE, hlm.load_dataset("article"))

    def cost(design: Any, truth: Any, n_lanes: int = n) -> dict[str, float]:
        return clock.timed(
            lambda: hlm.simulate(design, truth, n_lanes, seed=1).fit(progress=False), repeats=3
        )[0]

    def curve(name: str, sizes: list[int], costs: list[dict[str, float]]) -> None:
        figures[f"slope {name}"] = slope(sizes, [c["seconds"] for c in costs])
        for size, c in zip(sizes, costs, strict=True):
            figures[f"{name}={size}"] = c["seconds"]
            figures[f"compile {name}={size}"] = c["first"] - c["seconds"]

    batches = [8 * n, 16 * n, 32 * n]
    curve("B", batches, [cost(balanced, data.TRUTH, b) for b in batches])
    groups = [30, 60, 120, 240]
    curve("G", groups, [cost(*data.unequal_design(G=g)) for g in groups])
    sizes = [16, 64, 256]
    curve("n_i", sizes, [cost(*data.unequal_design(mean=m)) for m in sizes])
    columns = [2, 4, 8, 16, 40]
    curve("p", columns, [cost(*data.unequal_design(p=p), n_lanes=512) for p in columns])
    effects = [1, 2, 3, 4]
    curve("q", effects, [cost(*data.unequal_design(q=q), n_lanes=512) for q in effects])
    return figures


OPTIMISERS = {
    "newton (default)": (None, 100),
    "optax.lbfgs": (optax.lbfgs(), 2000),
    "optax.adam(0.05)": (optax.adam(0.05), 5000),
}


def optimisers(scale: float, clock: Clock) -> dict[str, dict[str, float]]:
    """The default against optax's own on the same unbalanced data sets."""
    frame = hlm.load_dataset("sleepstudy").iloc[3:]
    Y = hlm.fit(data.SLEEP, frame).simulate(int(10_000 * scale), seed=1)
    found, best = {}, np.inf
    for name, (optimizer, max_iter) in OPTIMISERS.items():

        def work(optimizer: Any = optimizer, max_iter: int = max_iter) -> hlm.FitBatch:
            return hlm.fit_many(
                data.SLEEP, frame, Y, optimizer=optimizer, max_iter=max_iter, progress=False
            )

        figures, fits = clock.timed(work, repeats=1)
        found[name] = (figures, fits)
        best = np.minimum(best, fits.criterion.to_numpy())
    return {
        name: {
            **figures,
            "iterations": float(fits.iterations.mean()),
            "reached": float((fits.criterion.to_numpy() <= best + 1e-6).mean()),
        }
        for name, (figures, fits) in found.items()
    }


def slope(x: Any, y: Any) -> float:
    """Least-squares slope of log y on log x."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


WORKLOADS = {
    f.__name__: f
    for f in (
        article, simulated, millions, bootstrap, schools, genes, incomplete, replicates, streamed,
        cold, inference, curves, optimisers,
    )
}  # fmt: skip
