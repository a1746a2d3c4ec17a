"""A grammar fuzzer of formulas: ``python -m bench.validation.formulas --minutes 10 --seed 1``.

Every formula must be fitted or refused by an error of ours, within two seconds of CPU time, and the
columns of some rows, made anew by themselves, must be those that the fit has for these rows.
"""

import argparse
import random
import sys
import time
import warnings
from collections import Counter

import numpy as np
import pandas as pd

import jaxhlm as hlm
from jaxhlm.design.new_rows import design_for

LIMIT = 2.0
ATOMS = [*"xzfkbw12", "0.5", "'a'", "np.pi", "None", "True", "[1, 2]", "`x`", "unit"]
OPERATORS = ["+", "-", "*", "/", "**", "//", "%", "<", ">", "==", "!=", "&", "|", ":"]
FUNCTIONS = [
    *("I", "C", "Q", "log", "exp", "poly", "bs", "cr", "cc", "scale", "center", "standardize"),
    *(f"np.{name}" for name in ("log", "mean", "std", "where", "clip", "quantile", "digitize")),
    *("np.round", "np.minimum", "np.power", "np.logical_not", "contr.sum", "contr.treatment"),
]
OPTIONS = [
    *("df=4", "degree=2", "levels=['a', 'b', 'c']", "levels=[0, 1, 2, 3]", "contr.sum", "Poly"),
    *("contr.helmert", "contr.treatment('b')", "ddof=1", "raw=True", "center=False", "0.5"),
    *("include_intercept=True", "constraints='center'", "extrapolation='clip'", "knots=[-1, 1]"),
]


def expression(rng: random.Random, depth: int = 0) -> str:
    """A random expression, most often one that is no formula."""
    kind = rng.random()
    if depth > 3 or kind < 0.3:
        return rng.choice(ATOMS)
    if kind < 0.55:
        sides = expression(rng, depth + 1), expression(rng, depth + 1)
        return f" {rng.choice(OPERATORS)} ".join(sides)
    if kind < 0.67:
        return rng.choice(["({})", "-{}", "~{}"]).format(expression(rng, depth + 1))
    given = [expression(rng, depth + 1) for _ in range(rng.choice([1, 1, 1, 2, 3]))]
    if rng.random() < 0.5:
        given.append(rng.choice(OPTIONS))
    return f"{rng.choice(FUNCTIONS)}({', '.join(given)})"


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    made = pd.DataFrame(rng.normal(size=(60, 4)), columns=list("xzwy"))
    made = made.assign(unit=np.repeat(np.arange(12), 5), f=list("abc") * 20)
    return made.assign(b=rng.random(60) < 0.5, k=rng.integers(0, 4, 60))


def tried(formula: str, data: pd.DataFrame) -> str:
    """What became of a formula: "fitted", the name of our error, or what is wrong."""
    started = time.process_time()
    try:
        design = hlm.design(formula, data)
        some = design_for(design, data.iloc[[3, 50]])[0]
        outcome = "fitted" if np.allclose(some, design.X[[3, 50]], 1e-8, 1e-8) else "other columns"
    except hlm.JaxhlmError as error:
        outcome = type(error).__name__
    except Exception as error:
        outcome = f"foreign {type(error).__name__}"
    return "too slow" if time.process_time() - started > LIMIT else outcome


def main() -> int:
    name = "python -m bench.validation.formulas"
    parser = argparse.ArgumentParser(prog=name, description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng, data, found = random.Random(options.seed), frame(), Counter[str]()
    end, wrong = time.monotonic() + 60.0 * options.minutes, 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", hlm.errors.JaxhlmWarning)
        while time.monotonic() < end:
            term = expression(rng)
            form = rng.choice(
                ["y ~ {} + (1 | unit)", "y ~ x + ({} | unit)", "y ~ f*{} + (1 | unit)"]
            )
            outcome = tried(form.format(term), data)
            found[outcome] += 1
            if outcome == "other columns" or outcome.startswith(("foreign", "too")):
                wrong += 1
                print(f"{outcome}: {form.format(term)}")
    print(f"{sum(found.values()):,} formulas: {dict(found)}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
