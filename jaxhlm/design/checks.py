"""Whether a model can be fitted at all: ranks, degrees of freedom, groups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxhlm.core.notation import Floats, Ints
from jaxhlm.design.identified import (
    GROUP_RANK_TOL,
    design_only,
    flat_parameters,
    group_ranks,
    identified,
)
from jaxhlm.design.segments import WIDE, Segments, householder_qr, orthonormalise
from jaxhlm.errors import (
    ConstantResponseError,
    GroupingError,
    IdentifiabilityError,
    RankDeficientWarning,
    warn_user,
)
from jaxhlm.likelihood.covariance import Blocks
from jaxhlm.likelihood.suffstats import Stats

__all__ = [
    "EXACT_TOLERANCE",
    "check_fixed",
    "check_groups",
    "check_identified",
    "check_random",
    "check_response",
    "independent_columns",
]

# lmer's tolerance: a column is dependent when less than this share of its norm is new.
RANK_TOLERANCE = 1e-7
# A response computed from the columns misses them by a few units of 2e-16 of its norm.
EXACT_TOLERANCE = 1e-13


def check_groups(name: str, G: int) -> None:
    """Refuse a single group."""
    if G == 1:
        raise GroupingError(f"grouping factor {name} has one level only; give two or more")


def check_random(Z: Floats, group: Ints, name: str, znames: Sequence[str], blocks: Blocks) -> None:
    """Refuse a random part that these rows cannot identify, whatever the fixed effects.

    That is a column that earlier ones of its term determine, random effects that reach every row,
    and dependent columns of several terms that give the same covariance.
    """
    for block in blocks:
        _check_term(Z[:, block], [znames[j] for j in block])
    G, q = int(group.max()) + 1, Z.shape[1]
    apart = len(blocks) == 1 or len(independent_columns(Z)[0]) == q
    if G * q < len(Z) and apart:
        return
    order = np.argsort(group, kind="stable")
    # What follows takes fourth powers. No column is zero here.
    Z = Z / np.abs(Z).max(axis=0)
    RZ = orthonormalise(Z[order], Segments(group[order]), GROUP_RANK_TOL)[1]
    random_rank = int(group_ranks(RZ).sum())
    if random_rank >= len(Z):
        term = " + ".join(znames)
        raise IdentifiabilityError(
            f"number of observations (={len(Z)}) <= number of random effects (={random_rank}) for "
            f"({term} | {name}); the random-effect and residual variances cannot be told apart: "
            "use fewer random effects per group, or groups with more rows"
        )
    check_identified(design_only(RZ[..., None]), None, name, znames, blocks)


def _check_term(Z: Floats, names: Sequence[str]) -> None:
    """Refuse columns of one random term that earlier ones determine."""
    kept, basis = independent_columns(Z)
    for j, name in enumerate(names):
        if j not in kept:
            raise IdentifiabilityError(
                f"random-effect column '{name}' {_dependent(Z[:, j], basis)} in the random terms"
            )


def _dependent(column: Floats, basis: Floats) -> str:
    """What is wrong with a column that was found to depend on others, and what to do."""
    share = _share(column, basis)
    if share <= EXACT_TOLERANCE:
        return "is a linear combination of those before it, or zero: leave it out"
    return (
        f"differs from a combination of those before it by {share:.0e} of its size only, too "
        "little to compute with: subtract its mean (or a time of reference) first where it is far "
        "from zero, or use the difference"
    )


def check_identified(
    stats: Stats,
    C: Floats | None,
    name: str,
    znames: Sequence[str],
    blocks: Blocks,
    reml: bool = False,
) -> None:
    """Refuse variances and covariances that the design says nothing about.

    Args:
        stats: statistics of one lane.
        C: (q, q) with D = C D̃ C', or None for columns in the units of the user.
        name: the grouping factor.
        znames: names of the columns of Z.
        blocks: columns of Z in each random term.
        reml: REML criterion instead of ML deviance.
    """
    if identified(stats, blocks, reml)[0]:
        return
    lost = flat_parameters(stats, C, blocks, reml)
    named = [_parameter(znames, *at) for at in lost] or ["a combination of the variances"]
    what = named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
    if identified(stats, blocks, False)[0]:
        why = (
            f"the fixed effects take up every contrast between the levels of {name} that could "
            "tell, so that REML is flat; leave out these random effects, or the fixed effects that "
            f"are constant within {name}, or get more levels of {name} for each of those"
        )
    else:
        why = (
            f"other values give every level of {name} the same covariance of its rows, as where a "
            "column is constant within each level, or where two terms hold the same effects; leave "
            "out one of these random effects"
        )
    raise IdentifiabilityError(f"{what} cannot be estimated from this design: {why}")


def _parameter(znames: Sequence[str], row: int, column: int) -> str:
    """Name of an entry of D."""
    if row == column:
        return f"the variance of '{znames[row]}'"
    return f"the covariance of '{znames[column]}' and '{znames[row]}'"


def check_fixed(X: Floats, kept: Sequence[int], basis: Floats, names: Sequence[str]) -> None:
    """Refuse too many fixed effects for the rows; warn of the columns that are dropped."""
    n, rank = basis.shape
    if n <= rank:
        raise IdentifiabilityError(
            f"{n} rows for {rank} fixed effects leave no residual degrees of freedom: use fewer "
            "terms or more rows"
        )
    dropped = [j for j in range(X.shape[1]) if j not in kept]
    if dropped:
        plural = "s" if len(dropped) > 1 else ""
        said = [
            f"fixed-effect model matrix is rank deficient so dropping {len(dropped)} column{plural}"
            f" / coefficient{plural}: {', '.join(names[j] for j in dropped)}"
        ]
        near = [j for j in dropped if _share(X[:, j], basis) > EXACT_TOLERANCE]
        said += [f"'{names[j]}' {_dependent(X[:, j], basis)}" for j in near]
        warn_user("; ".join(said), RankDeficientWarning)


def _share(column: Floats, basis: Floats) -> float:
    """The residual of a column on a basis, as a share of its size."""
    scaled = column / (np.abs(column).max() or 1.0)
    rest = scaled
    for _ in range(2):
        rest = rest - basis @ (basis.T @ rest)
    return float(np.linalg.norm(rest) / (np.linalg.norm(scaled) or 1.0))


def check_response(y: Floats, basis: Floats, response: str) -> None:
    """Refuse a response that the fixed effects fit exactly, as they do a constant one."""
    if _share(y, basis) > EXACT_TOLERANCE:
        return
    if np.ptp(y) == 0:
        raise ConstantResponseError(
            f"the response '{response}' is {y[0]:g} in every row; give one that varies"
        )
    raise IdentifiabilityError(
        f"the fixed effects fit the response '{response}' exactly, so the residual variance is "
        "zero: look for a copy of the response among the terms"
    )


def independent_columns(M: Floats) -> tuple[tuple[int, ...], Floats]:
    """Columns that are no combination of earlier ones, and an orthonormal basis (n, rank) of them.

    By LAPACK where many columns all are; else Gram-Schmidt with a second pass, which makes the
    basis orthogonal to working precision.
    """
    if M.shape[1] > WIDE and (found := householder_qr(M / _sizes(M), RANK_TOLERANCE)):
        return tuple(range(M.shape[1])), found[0]
    basis = np.empty(M.shape, order="F")
    kept: list[int] = []
    for j, column in enumerate(M.T):
        scaled = column / _sizes(column)
        rest, known = scaled, basis[:, : len(kept)]
        for _ in range(2):
            rest = rest - known @ (known.T @ rest)
        if np.linalg.norm(rest) > RANK_TOLERANCE * np.linalg.norm(scaled):
            basis[:, len(kept)] = rest / np.linalg.norm(rest)
            kept.append(j)
    return tuple(kept), basis[:, : len(kept)]


def _sizes(columns: Floats) -> Floats:
    """The largest absolute values of columns, 1 for a column of zeros."""
    size = np.abs(columns).max(axis=0)
    return np.where(size > 0.0, size, 1.0)
