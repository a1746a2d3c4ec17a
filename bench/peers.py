"""The other implementations, if they are installed: seconds per fit on the same workload."""

import json
import os
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import jaxhlm as hlm
from bench import data

SCRIPT = Path(__file__).with_name("peers.R")
# Workload: what lme4 does for each data set, and how many are timed.
LME4 = {"A": ("refit", 200), "B": ("simulate", 200), "D": ("refit", 20), "F": ("lmer", 100)}


def lme4(workload: str) -> dict[str, float]:
    """Seconds per fit of lme4, and the peak memory of its process."""
    how, fits = LME4[workload]
    frame, formula = {
        "A": (hlm.load_dataset("article"), "y " + data.ARTICLE),
        "B": (hlm.load_dataset("article"), "y " + data.ARTICLE),
        "D": (hlm.load_dataset("math_achieve"), data.SCHOOLS),
        "F": (data.replicates(fits), "y " + data.ARTICLE),
    }[workload]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.csv"
        frame.to_csv(path, index=False)
        done = subprocess.run(
            ["Rscript", str(SCRIPT), how, str(path), str(fits)],
            env={**os.environ, "BENCH_FORMULA": formula, "OPENBLAS_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
    return dict(json.loads(done.stdout))


def statsmodels(fits: int = 5) -> float | None:
    """Seconds per fit of statsmodels' MixedLM on workload A, None if it is not installed."""
    try:
        from statsmodels.regression.mixed_linear_model import MixedLM
    except ModuleNotFoundError:
        return None
    frame, Y = data.article(fits)
    started = time.perf_counter()
    for y in Y.T:
        model = MixedLM.from_formula(
            "y ~ x * a", frame.assign(y=y), groups="unit", re_formula="~ x"
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit()
    return (time.perf_counter() - started) / fits


def mixedlm(fits: int = 20) -> float | None:
    """Seconds per fit of mixedlm's lmer on workload A, None if it is not installed."""
    try:
        from mixedlm import lmer
    except ModuleNotFoundError:
        return None
    frame, Y = data.article(fits)
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for y in Y.T:
            lmer("y " + data.ARTICLE, frame.assign(y=y))
    return (time.perf_counter() - started) / fits
