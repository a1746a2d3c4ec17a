"""Frames of any dtypes, any designs: ``python -m bench.validation.frames --examples 2000``.

A frame must be read as the plain frame of its values or be refused; what converged must be finite;
a lane must be the fit alone. The strategies and checks are those of ``tests/dressed.py`` and
``tests/drawn_designs.py``; here every failure is counted and printed, not only the first.
"""

import argparse
import csv
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from bench import machine

sys.path.append(str(Path(__file__).parents[2] / "tests"))
import drawn_designs
import dressed

FORMULAS = st.sampled_from(dressed.FORMULAS)
DATA = drawn_designs.data_sets()
NEW = ("x", "f", "unit")
# What is checked, and the strategies of its arguments.
PROPERTIES: dict[str, tuple[Callable[..., str], tuple[Any, ...]]] = {
    "one dressed column": (
        dressed.check,
        (dressed.frames(most=1), st.sampled_from(list(dressed.DOORS)), FORMULAS),
    ),
    "several dressed columns": (
        dressed.check,
        (dressed.frames(most=4), st.sampled_from(list(dressed.DOORS)), FORMULAS),
    ),
    "predictions": (
        lambda frame, other, form: dressed.check_prediction(frame, other.forms, form),
        (dressed.frames(NEW, 2), dressed.frames(NEW, 3), FORMULAS),
    ),
    "finite": (
        drawn_designs.check_finite,
        (drawn_designs.data_sets(drawn_designs.BEYOND, list(drawn_designs.COLUMNS)),),
    ),
    "lanes": (
        drawn_designs.check_batch,
        (DATA, st.lists(DATA, min_size=1, max_size=3), st.integers(0, 4)),
    ),
    "replicates": (
        drawn_designs.check_replicates,
        (
            st.lists(DATA, min_size=2, max_size=4),
            st.sampled_from(drawn_designs.FORMULAS),
            st.booleans(),
        ),
    ),
}


def outcomes(name: str, examples: int, start: int) -> Counter[str]:
    """How often a property gave what; a failure is printed."""
    check, strategies = PROPERTIES[name]
    found = Counter[str]()

    @seed(start)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.tuples(*strategies))
    def draw(drawn: tuple[Any, ...]) -> None:
        try:
            found[check(*drawn)] += 1
        except Exception as error:
            found["FAILED"] += 1
            print(f"{name}: {type(error).__name__}: {str(error).strip()[:300]}\n  {drawn}"[:1500])

    draw()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.validation.frames", description=__doc__)
    parser.add_argument("--examples", type=int, default=2000, help="of each property")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="properties, separated by commas")
    parser.add_argument("--out", type=Path, default=machine.RESULTS, help="folder for the CSV file")
    options = parser.parse_args()
    rows, wrong = [], 0
    for name in options.only.split(",") if options.only else PROPERTIES:
        started = time.process_time()
        found = outcomes(name, options.examples, options.seed)
        wrong += found["FAILED"]
        print(f"{name}: {time.process_time() - started:.0f} s of CPU time, {dict(found)}")
        rows += [(name, outcome, count) for outcome, count in sorted(found.items()) if count]
    path = machine.results_path(options.out, machine.describe(), "frames")
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("property", "outcome", "examples"), *rows])
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
