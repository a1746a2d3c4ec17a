"""p values adjusted for the number of tests, over the first axis; NaN are no tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from jaxhlm.core.notation import Floats, check_option

__all__ = ["Adjustment", "adjusted", "bonferroni", "holm", "null_share", "q_values"]

Adjustment = Literal["BH", "BY", "storey", "holm", "bonferroni", "none"]

# Where p values above λ are counted for π₀, as the R package qvalue does.
LAMBDAS = np.arange(0.05, 0.951, 0.05)
LOWEST_SHARE = 0.1


def adjusted(p: Floats, method: Adjustment) -> Floats:
    """Adjusted p values (m, r), column by column; what is NaN stays, and is not counted.

    Args:
        p: (m, r) p values of m tests, r families of them.
        method: "BH" (Benjamini & Hochberg 1995) and "BY" (Benjamini & Yekutieli 2001, under any
            dependence) bound the false discovery rate, and so does "storey", whose q values use the
            share π₀ of true null hypotheses; "holm" and "bonferroni" bound the chance of any false
            discovery; "none".

    >>> adjusted(np.array([[0.01], [0.04], [np.nan], [0.03]]), "BH").ravel().round(3).tolist()
    [0.03, 0.04, nan, 0.04]
    """
    check_option("adjust", method, Adjustment)
    out = np.full(p.shape, np.nan)
    for family, column in zip(out.T, p.T, strict=True):
        tests = ~np.isnan(column)
        if tests.any():
            family[tests] = _METHODS[method](column[tests])
    return out


def holm(p: Floats) -> Floats:
    """p values (…, tests) adjusted by Holm (1979), Scand. J. Statist. 6, 65-70.

    >>> holm(np.array([0.01, 0.04, 0.03])).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, axis=-1)
    steps = np.arange(p.shape[-1], 0, -1) * np.take_along_axis(p, order, axis=-1)
    out = np.empty_like(p)
    rising = np.minimum(np.maximum.accumulate(steps, axis=-1), 1.0)
    np.put_along_axis(out, order, rising, axis=-1)
    return out


def bonferroni(p: Floats) -> Floats:
    """p values (…, tests) times the number of tests."""
    return np.minimum(p.shape[-1] * p, 1.0)


def q_values(p: Floats) -> Floats:
    """q values of (m,) p values: those of Benjamini and Hochberg times π₀ (Storey 2002)."""
    return null_share(p) * _benjamini("bh")(p)


def null_share(p: Floats) -> float:
    """π₀, the share of true null hypotheses among (m,) p values.

    Of the estimates #{p ≥ λ}/(m (1 − λ)) the one with the least estimated mean squared error
    (Storey, Taylor & Siegmund 2004, J. R. Statist. Soc. B 66, 187-205), as ``qvalue::pi0est`` with
    ``pi0.method = "bootstrap"``; at most 1, and 1 where it would be 0, as with few tests, since no
    p value would be too large then.
    """
    m = len(p)
    above = (p >= LAMBDAS[:, None]).sum(axis=1)
    share = above / (m * (1.0 - LAMBDAS))
    bias = share - np.quantile(share, LOWEST_SHARE)
    error = above / (m**2 * (1.0 - LAMBDAS) ** 2) * (1.0 - above / m) + bias**2
    found = float(min(share[error == error.min()].min(), 1.0))
    return found if found > 0.0 else 1.0


def _benjamini(method: str) -> Callable[[Floats], Floats]:
    def adjust(p: Floats) -> Floats:
        from scipy.stats import false_discovery_control

        found: Floats = false_discovery_control(p, method=method)
        return found

    return adjust


_METHODS: dict[str, Callable[[Floats], Floats]] = {
    "BH": _benjamini("bh"),
    "BY": _benjamini("by"),
    "storey": q_values,
    "holm": holm,
    "bonferroni": bonferroni,
    "none": np.copy,
}
