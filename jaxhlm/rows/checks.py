"""Whether a model can be fitted at all: ranks, degrees of freedom, groups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxhlm.errors import (
    ConstantResponseError,
    GroupingError,
    IdentifiabilityError,
    RankDeficientWarning,
    warn_user,
)
from jaxhlm.formula import ParsedFormula
from jaxhlm.notation import Floats

__all__ = [
    "check_fixed",
    "check_groups",
    "check_random",
    "check_response",
    "independent_columns",
]

# lmer's tolerance: a column is dependent when less than this share of its norm is new.
RANK_TOLERANCE = 1e-7
# A response computed from the columns misses them by a few units of 2e-16 of its norm.
EXACT_TOLERANCE = 1e-13


def check_groups(
    parsed: ParsedFormula, blocks: Sequence[Sequence[int]], znames: Sequence[str], n: int, G: int
) -> None:
    """Refuse one group, and as many random effects as rows, in one term (as lme4) or in all."""
    name = ":".join(parsed.group)
    if G == 1:
        raise GroupingError(f"grouping factor {name} has one level only; give two or more")
    for block in (*blocks, range(len(znames))):
        if G * len(block) >= n:
            term = " + ".join(znames[j] for j in block)
            raise IdentifiabilityError(
                f"number of observations (={n}) <= number of random effects (={G * len(block)}) "
                f"for ({term} | {name}); the random-effect and residual variances cannot be "
                "told apart: use fewer random effects per group, or groups with more rows"
            )


def check_random(Z: Floats, znames: Sequence[str]) -> None:
    """Refuse columns of Z that earlier ones determine."""
    kept, _ = independent_columns(Z)
    for j, name in enumerate(znames):
        if j not in kept:
            raise IdentifiabilityError(
                f"random-effect column '{name}' is a linear combination of those before it, or "
                "zero: leave it out of the random terms"
            )


def check_fixed(basis: Floats, dropped: Sequence[str]) -> None:
    """Refuse too many fixed effects for the rows; warn of the columns that were dropped."""
    n, rank = basis.shape
    if rank == 0:
        raise IdentifiabilityError("no fixed effect: keep at least the intercept")
    if n <= rank:
        raise IdentifiabilityError(
            f"{n} rows for {rank} fixed effects leave no residual degrees of freedom: use fewer "
            "terms or more rows"
        )
    if dropped:
        plural = "s" if len(dropped) > 1 else ""
        warn_user(
            f"fixed-effect model matrix is rank deficient so dropping {len(dropped)} column{plural}"
            f" / coefficient{plural}: {', '.join(dropped)}",
            RankDeficientWarning,
        )


def check_response(y: Floats, basis: Floats, response: str) -> None:
    """Refuse a response that is constant, or that the fixed effects fit exactly."""
    if np.ptp(y) == 0:
        raise ConstantResponseError(
            f"the response '{response}' is {y[0]:g} in every row; give one that varies"
        )
    scaled = y / np.abs(y).max()
    rest = scaled
    for _ in range(2):
        rest = rest - basis @ (basis.T @ rest)
    if np.linalg.norm(rest) <= EXACT_TOLERANCE * np.linalg.norm(scaled):
        raise IdentifiabilityError(
            f"the fixed effects fit the response '{response}' exactly, so the residual variance is "
            "zero: look for a copy of the response among the terms"
        )


def independent_columns(M: Floats) -> tuple[tuple[int, ...], Floats]:
    """Columns that are no combination of earlier ones, and an orthonormal basis (n, rank) of them.

    Gram-Schmidt with a second pass, which makes the basis orthogonal to working precision.
    """
    basis = np.empty(M.shape, order="F")
    kept: list[int] = []
    for j, column in enumerate(M.T):
        scaled = column / (np.abs(column).max() or 1.0)
        rest, known = scaled, basis[:, : len(kept)]
        for _ in range(2):
            rest = rest - known @ (known.T @ rest)
        if np.linalg.norm(rest) > RANK_TOLERANCE * np.linalg.norm(scaled):
            basis[:, len(kept)] = rest / np.linalg.norm(rest)
            kept.append(j)
    return tuple(kept), basis[:, : len(kept)]
