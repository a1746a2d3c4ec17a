"""Criteria of smaller random parts, from the statistics of the larger: one random effect removed.

The statistics hold Z̃ = Z C, so the user's b_j is a combination c'b̃ with c the j-th row of C. A
rotation Q of the columns of its block that ends in c/|c| makes b_j the last of Q'b̃, which is
removed with its column of R.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from jaxhlm.core.notation import Floats
from jaxhlm.core.status import converged
from jaxhlm.estimation.estimates import Estimates, user_criterion
from jaxhlm.estimation.model import Model
from jaxhlm.likelihood.covariance import Blocks, theta_index
from jaxhlm.likelihood.lane_derivatives import lane_derivatives
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.optimise.options import Options
from jaxhlm.optimise.solve import solve
from jaxhlm.statistics.response import Standardised

__all__ = [
    "householder_reflection",
    "isolating_basis",
    "linear_criteria",
    "null_criterion",
    "reduced_criteria",
    "reduced_minimum",
    "term_label",
    "without_column",
]


def householder_reflection(c: Floats) -> tuple[Floats, Floats]:
    """A reflection H (B, d, d) with H e_d = u, and the multiple |c|± (B,) with c = ± |c| u.

    Args:
        c: (B, d) rows, none of them zero.
    """
    length = np.linalg.norm(c, axis=1)
    sign = np.where(c[:, -1] >= 0.0, 1.0, -1.0)
    v = c * (sign / length)[:, None]
    v[:, -1] += 1.0
    H = np.eye(c.shape[1]) - 2.0 * v[:, :, None] * v[:, None, :] / (v**2).sum(axis=1)[:, None, None]
    return H, -sign * length


def isolating_basis(C: Floats, blocks: Blocks, j: int) -> tuple[Floats, Floats]:
    """Q (B, q, q), orthogonal, and |c| (B,): the user's b_j is ±|c| times the last of j's block.

    Args:
        C: (B, q, q) the inverse scaling, D = C D̃ C'.
        blocks: columns of Z in each random term.
        j: the random effect.
    """
    block = next(list(b) for b in blocks if j in b)
    H, length = householder_reflection(C[:, j, block])
    Q = np.broadcast_to(np.eye(C.shape[1]), C.shape).copy()
    Q[np.ix_(range(len(C)), block, block)] = H
    return Q, np.abs(length)


def without_column(blocks: Blocks, j: int) -> tuple[int, Blocks]:
    """The column of Q'b̃ that is b_j (``isolating_basis``), and the blocks without it."""
    last = next(b[-1] for b in blocks if j in b)
    remaining = (tuple(i - (i > last) for i in block if i != last) for block in blocks)
    return last, tuple(block for block in remaining if block)


def reduced_criteria(estimates: Estimates, standardised: Standardised, options: Options) -> Floats:
    """−2 × maximised log-likelihood (B, q) without each of the q random effects.

    Args:
        estimates: of B fits of the full model; where they failed the result is NaN.
        standardised: the standardised lanes that they were estimated from.
        options: what was optimised.
    """
    q = standardised.stats.RZ.shape[2]
    minima = [reduced_minimum(standardised, options, a) for a in range(q)]
    return _of_users(minima, estimates, standardised, options)


def linear_criteria(estimates: Estimates, standardised: Standardised, options: Options) -> Floats:
    """−2 × maximised log-likelihood (B, 1) without random effects; as ``reduced_criteria``."""
    minimum = null_criterion(standardised.stats, options.reml)
    return _of_users([minimum], estimates, standardised, options)


def _of_users(
    minima: Sequence[Floats], estimates: Estimates, standardised: Standardised, options: Options
) -> Floats:
    """Standardised minima in the user's units, (B, minima)."""
    stats = standardised.stats
    nu = np.broadcast_to(stats.n - options.reml * stats.rank, standardised.status.shape)
    with np.errstate(invalid="ignore"):
        found = [user_criterion(value, standardised.scaling, nu, options.reml) for value in minima]
    return np.where(converged(estimates.status)[:, None], np.stack(found, axis=1), np.nan)


def term_label(model: Model, a: int) -> str:
    """How ``lmerTest::ranova`` names the removal of random effect a.

    The last column of a term takes the term with it.
    """
    term, block = next((t, b) for t in model.terms for b in t.blocks if a in b)
    names = ["1" if model.znames[i] == "(Intercept)" else model.znames[i] for i in block]
    if names[0] != "1":
        names.insert(0, "0")
    text = f"({' + '.join(names)} | {term.group})"
    return text if len(block) == 1 else f"{model.znames[a]} in {text}"


def reduced_minimum(standardised: Standardised, options: Options, j: int) -> Floats:
    """Minimum (B,) of the standardised criterion without the random effect j; NaN where none.

    Args:
        standardised: standardised lanes.
        options: what to optimise, with the blocks of the larger model.
        j: the random effect, a column of the user's Z.
    """
    stats = standardised.stats
    if stats.RZ.shape[2] == 1:
        return null_criterion(stats, options.reml)
    Q, _ = isolating_basis(np.moveaxis(standardised.scaling.C, -1, 0), options.blocks, j)
    last, blocks = without_column(options.blocks, j)
    RZ = np.einsum("gabl,lbc->gacl", np.broadcast_to(stats.RZ, (*stats.RZ.shape[:3], len(Q))), Q)
    smaller = _squared(stats._replace(RZ=np.delete(RZ, last, axis=2)))
    found = solve(smaller, replace(options, blocks=blocks, optimizer=None))
    return np.where(found.converged, found.value, np.nan)


def _squared(stats: Stats) -> Stats:
    """The same statistics with R_i square again, which has lost a column.

    Rotations of its rows make R_i upper triangular, with a last row of zeros: that row of T_i lies
    outside of the span of Z_i.
    """
    last = stats.RZ.shape[2]
    b = max(stats.RZ.shape[-1], stats.TX.shape[-1])
    R, TX = (np.broadcast_to(x, (*x.shape[:-1], b)).copy() for x in (stats.RZ, stats.TX))
    Ty = stats.Ty.copy()
    for j in range(last):
        for i in range(j + 1, last + 1):
            length = np.hypot(R[:, j, j], R[:, i, j])
            some = length > 0.0
            length = np.where(some, length, 1.0)
            c, s = np.where(some, R[:, j, j] / length, 1.0), R[:, i, j] / length
            for x in (R, TX, Ty[:, :, None]):
                upper, lower = x[:, j].copy(), x[:, i].copy()
                x[:, j] = c[:, None] * upper + s[:, None] * lower
                x[:, i] = c[:, None] * lower - s[:, None] * upper
            R[:, i, j] = 0.0
    tx, ty = TX[:, last], Ty[:, last]
    return stats._replace(
        RZ=R[:, :last],
        TX=TX[:, :last],
        Ty=Ty[:, :last],
        XX=stats.XX + np.einsum("gal,gbl->abl", tx, tx),
        Xy=stats.Xy + (tx * ty[:, None]).sum(axis=0),
        yy=stats.yy + (ty**2).sum(axis=0),
    )


def null_criterion(stats: Stats, reml: bool) -> Floats:
    """The standardised criterion (B,) of the linear model y = Xβ + ε, in closed form: θ = 0."""
    q = stats.RZ.shape[2]
    blocks = tuple((a,) for a in range(q))
    with np.errstate(all="ignore"):
        zero = np.zeros((len(theta_index(blocks)), stats.yy.shape[-1]))
        return np.asarray(lane_derivatives(zero, stats, reml, blocks).profile.value)
