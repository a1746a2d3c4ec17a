"""How many replicates a simulation study needs, and whether it has them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import (
    affordable,
    check_mapping,
    fraction,
    number,
    whole_number,
)
from jaxhlm.core.notation import Bools, Floats, check_option
from jaxhlm.core.tables import as_frame
from jaxhlm.errors import MissingColumnError, OptionError
from jaxhlm.inference.criteria import check_level
from jaxhlm.studies.measures import MEASURES, Measure

__all__ = ["check_plan", "nsim", "stopping"]

Planned = Literal["coverage", "power", "bias"]

# The rows that a rate is a share of; of the others' rates the MCSE is enough.
DENOMINATOR = {
    "coverage": "n_interval",
    "be_coverage": "n_interval",
    "power": "n_test",
    "power_all": "n",
    "type_i": "n_test",
}
SEED_BITS = 4096
# What the plan of a study keeps of one chunk, and a chunk of one data set.
CHUNK_BYTES = DATA_SET_BYTES = 1000.0
NEEDS_EFFECT = ("relative_bias", "type_s", "type_m")


def nsim(
    mcse: float,
    measure: Planned = "coverage",
    expected: float | None = None,
    sd: float | None = None,
) -> int:
    """Replicates for a wanted Monte-Carlo standard error.

        coverage, power:  n = r(1 − r)/MCSE²          bias:  n = sd²/MCSE²

    Morris, White & Crowther (2019), Statistics in Medicine 38, section 5.3.

    Args:
        mcse: the wanted Monte-Carlo standard error, a share (0.005, not 0.5 %) for rates.
        measure: what is to be that precise.
        expected: the expected rate r; 0.95 for coverage and for power 0.5, the worst case.
        sd: standard deviation of the estimates, for bias.

    Raises:
        OptionError: an unknown measure, a wanted MCSE or sd that is not positive, a rate outside
            (0, 1), or bias without sd.

    Example:
        >>> import jaxhlm as hlm
        >>> hlm.nsim(0.005), hlm.nsim(0.005, "power"), hlm.nsim(0.01, "bias", sd=0.2)
        (1900, 10000, 400)
    """
    check_option("measure", measure, Planned)
    if not number("mcse", mcse) > 0.0:
        raise OptionError(f"mcse={mcse!r} must be positive")
    if measure == "bias":
        if sd is None or not number("sd", sd) > 0.0:
            raise OptionError(
                f"sd={sd!r}: the bias needs the standard deviation of the estimates, "
                "for example from a small study"
            )
        variance = sd**2
    else:
        rate = (0.95 if measure == "coverage" else 0.5) if expected is None else expected
        fraction("expected", rate)
        variance = rate * (1.0 - rate)
    # Rounded first: 0.05 × 0.95 / 0.005² is 1900 and a bit in floating point.
    return math.ceil(round(variance / mcse**2, 6))


def stopping(frame: pd.DataFrame, targets: Mapping[str, float]) -> bool:
    """Whether every Monte-Carlo standard error of a measures frame is at its target or below.

    A rate r = k/n is judged by r̃ = (k + 2)/(n + 4) too (Agresti & Coull 1998, The American
    Statistician 52), because the MCSE of a rate of 0 or 1 is 0 however few replicates there are.
    Where a measure is not defined (relative bias, type-S and type-M errors if the truth is 0, the
    type-I error if it is not; tests and intervals of variances), nothing is waited for; elsewhere a
    NaN is not good enough.

    Args:
        frame: from ``jaxhlm.measures``.
        targets: the largest MCSE by measure.

    Raises:
        OptionError: no target, an unknown measure, or a target that is not positive.
        MissingColumnError: a measure is not in the frame.

    Example:
        >>> frame = pd.DataFrame({"truth": 3.0, "bias": 0.01, "bias_mcse": [0.004, 0.006]})
        >>> stopping(frame, {"bias": 0.005}), stopping(frame, {"bias": 0.01})
        (False, True)
    """
    check_mapping("targets", targets)
    frame = as_frame("frame", frame)
    if not targets:
        raise OptionError('give at least one target, such as {"coverage": 0.005}')
    for name, target in targets.items():
        if name not in MEASURES:
            raise OptionError(f"measure={name!r} is not known; use one of {', '.join(MEASURES)}")
        if not number(f"targets[{name!r}]", target) > 0.0:
            raise OptionError(f"the target of {name}, {target!r}, must be positive")
        if f"{name}_mcse" not in frame.columns:
            raise MissingColumnError(f"the frame has no column '{name}_mcse'; measure {name} first")
    return all(
        bool((_reached(frame, name, target) | ~_defined(frame, name)).all())
        for name, target in targets.items()
    )


def check_plan(
    n: int = 1,
    seed: int | None = None,
    chunk: int = 1000,
    stop: Mapping[str, float] | None = None,
    level: float = 0.95,
) -> None:
    """Refuse sizes and options of a study that cannot be; arguments as for ``jaxhlm.study``.

    Raises:
        OptionError: one of them cannot be; the message begins with its name.
    """
    together = min(whole_number("n", n), whole_number("chunk", chunk))
    affordable("chunk", together, DATA_SET_BYTES)
    affordable("n", n, CHUNK_BYTES / together)
    # Python writes no number of many thousand digits, as the manifest would have to.
    if seed is not None and whole_number("seed", seed, least=0).bit_length() > SEED_BITS:
        raise OptionError(f"seed must be below 2^{SEED_BITS}")
    for name, target in ({} if stop is None else check_mapping("stop", stop)).items():
        check_option("stop", name, Measure)
        if name == "relative_precision" or not number(f"stop[{name!r}]", target) > 0.0:
            raise OptionError(
                f"stop={dict(stop or {})!r}: {name!r} cannot stop a study at {target!r}"
            )
    check_level(level)


def _reached(frame: pd.DataFrame, name: str, target: float) -> Bools:
    mcse: Floats = frame[f"{name}_mcse"].to_numpy(dtype=float)
    if (count := DENOMINATOR.get(name)) in frame.columns:
        n = frame[count].to_numpy(dtype=float)
        near = (frame[name].to_numpy(dtype=float) * n + 2.0) / (n + 4.0)
        mcse = np.maximum(mcse, np.sqrt(near * (1.0 - near) / (n + 4.0)))
    return mcse <= target


def _defined(frame: pd.DataFrame, name: str) -> Bools:
    zero = frame["truth"].to_numpy(dtype=float) == 0.0
    defined = zero if name == "type_i" else ~zero | (name not in NEEDS_EFFECT)
    counts = frame.reindex(columns=["n_ok", "n_interval", "n_test"], fill_value=1).to_numpy()
    # Estimates that come without standard errors, such as those of variances.
    untested = (counts[:, 0] > 0) & (counts[:, 1:] == 0).all(axis=1)
    return defined & ~(untested & frame[name].isna().to_numpy())
