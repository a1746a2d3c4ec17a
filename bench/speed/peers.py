"""The other implementations, if they are installed: seconds per fit on the same workload."""

import json
import os
import statistics
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

import jaxhlm as hlm
from bench import data

SCRIPT = Path(__file__).with_name("peers.R")
# Workload: what lme4 does for each data set, and how many are timed in every round.
LME4 = {
    "article": ("refit", 60),
    "simulated": ("simulate", 60),
    "schools": ("refit", 8),
    "incomplete": ("missing", 20),
    "replicates": ("lmer", 40),
}


class Lme4:
    """A process of R that fits a few data sets whenever it is asked to.

    It lives as long as the workload that it is compared with, so that rounds of the two alternate,
    and a machine that changes its speed changes it for both.
    """

    def __init__(self, workload: str) -> None:
        """Start R on the data of a workload."""
        how, fits = LME4[workload]
        frame, formula = {
            "article": (hlm.load_dataset("article"), "y " + data.ARTICLE),
            "simulated": (hlm.load_dataset("article"), "y " + data.ARTICLE),
            "schools": (hlm.load_dataset("math_achieve"), data.SCHOOLS),
            "incomplete": (_first(*data.genes(1)), "y " + data.GENES),
            "replicates": (data.replicates(fits), "y " + data.ARTICLE),
        }[workload]
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / "data.csv"
        frame.to_csv(path, index=False)
        self._process = subprocess.Popen(
            ["Rscript", str(SCRIPT), how, str(path), str(fits)],
            env={**os.environ, "BENCH_FORMULA": formula, "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.rounds: list[dict[str, float]] = []
        self.round()
        self.rounds.clear()

    def round(self) -> None:
        """Fit some data sets with and without the derivatives that lme4 checks its optimum by."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self.rounds.append(json.loads(self._process.stdout.readline()))

    def seconds(self) -> list[float]:
        """Seconds per fit of every round, of the faster way."""
        ways = ([r[way] for r in self.rounds] for way in ("with", "without"))
        return min(ways, key=statistics.median)

    def peak_mb(self) -> float:
        """The largest resident size of R so far."""
        return self.rounds[-1]["peak_mb"]

    def close(self) -> None:
        """End the process."""
        self._process.communicate()
        self._folder.cleanup()


def _first(frame: pd.DataFrame, Y: np.ndarray) -> pd.DataFrame:
    """The frame with the first response."""
    return frame.assign(y=Y[:, 0])


def statsmodels(fits: int = 5) -> float | None:
    """Seconds per fit of statsmodels' MixedLM on the article's data, None if it is not there."""
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
    """Seconds per fit of mixedlm's lmer on the article's data, None if it is not installed."""
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
