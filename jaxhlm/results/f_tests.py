"""F tests of any number of hypotheses about β, of all fits at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from jaxhlm.core.notation import Floats, Ints
from jaxhlm.estimation.estimates import Estimates
from jaxhlm.inference.contrast_information import Tile
from jaxhlm.inference.contrast_tests import (
    SMALL_SAMPLE,
    DfMethod,
    joint_tests,
    reference_tests,
    wald_f,
)
from jaxhlm.results.information import over_information
from jaxhlm.results.record import FitRecord

__all__ = ["f_tests"]


def f_tests(
    fits: FitRecord, hypotheses: Sequence[tuple[Floats, Floats]], df: DfMethod
) -> tuple[Floats, Floats, Floats]:
    """F, its denominator df and Kenward and Roger's factor λ in it, (B, T) each.

    Args:
        fits: B fits.
        hypotheses: T of them: independent rows (r, p), or (B, r, p) where every fit has its own,
            and (r,) right sides.
        df: method of the df.
    """
    if df in SMALL_SAMPLE:

        def one(at: Ints, found: Estimates, tiles: Iterable[Tile]) -> tuple[Floats, ...]:
            own = [(L if L.ndim == 2 else L[at], rhs) for L, rhs in hypotheses]
            return joint_tests(found, tiles, own, df)

        F, den, scale = over_information(fits, df, one)
        return F, den, scale
    F = np.stack([wald_f(fits.filled, L, rhs) for L, rhs in hypotheses], axis=1)
    first = np.eye(F.shape[1], len(fits.model.xnames))[:1]
    den = reference_tests(fits.estimates, fits.nobs, first, df)[1]
    return F, np.broadcast_to(den, F.shape), np.ones_like(F)
