"""From standardised lanes to lanes that each fix one parameter: bases, starts and units.

Lanes are parameter after parameter, N = P × B.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np

from jaxhlm.core.notation import Floats
from jaxhlm.inference.profile_deviance import Coefficients, Correlations, ProfileDeviance, Scales
from jaxhlm.inference.reduced_models import householder_reflection, isolating_basis
from jaxhlm.likelihood.covariance import (
    ROUNDED_TO_ZERO,
    Blocks,
    covariance_of,
    theta_index,
    theta_of,
)
from jaxhlm.likelihood.suffstats import Stats, expanded
from jaxhlm.optimise.solve import Solution
from jaxhlm.statistics.response import Standardised

__all__ = [
    "coefficient_profiles",
    "concatenated",
    "correlation_profiles",
    "sd_profiles",
    "sigma_profile",
]

H = TypeVar("H", bound=ProfileDeviance)


def sd_profiles(
    standardised: Standardised, best: Solution, blocks: Blocks, random: Sequence[int]
) -> list[Scales]:
    """Lanes that fix the standard deviations of ``random`` columns of the user's Z, one by one.

    Args:
        standardised: B standardised lanes.
        best: their ML solution.
        blocks: columns of Z in each random term.
        random: which.
    """
    stats, index = standardised.stats, theta_index(blocks)
    B = stats.yy.shape[-1]
    n, G = np.broadcast_to(stats.n, B), np.broadcast_to(stats.m.sum(axis=0), B)
    residual = np.sqrt(best.pwrss / n)
    D = covariance_of(best.theta, blocks)
    profiles = []
    for j in random:
        Q, length = isolating_basis(_lanes_first(standardised.scaling.C, B), blocks, j)
        last = next(block for block in blocks if j in block)
        Q = _ordered(Q, D, last)
        theta = theta_of(Q.swapaxes(1, 2) @ D @ Q, blocks, ROUNDED_TO_ZERO)
        row = np.array([float(r == last[-1]) for r, _ in index])[:, None] + np.zeros(B)
        sd = residual * np.sqrt((row * theta**2).sum(axis=0))
        phi = np.where(row * sd > 0.0, theta / np.where(sd > 0.0, sd, 1.0), theta)
        phi[index.index((last[-1], last[-1])), sd == 0.0] = 1.0 / residual[sd == 0.0]
        step = np.sqrt((sd**2 + residual**2 * G / n) / (2.0 * G))
        unit = standardised.scaling.s * length
        profiles.append(Scales(blocks, _change_basis(stats, Q), phi, sd, step, row, unit))
    return profiles


def sigma_profile(standardised: Standardised, best: Solution, blocks: Blocks) -> Scales:
    """Lanes that fix σ; arguments as in ``sd_profiles``."""
    stats, s = standardised.stats.expand(), standardised.scaling.s
    u = 0.5 * np.log(best.pwrss / stats.n)
    step = 1.0 / np.sqrt(2.0 * stats.n)
    return Scales(blocks, stats, best.theta, u, step, np.zeros_like(best.theta), s)


def correlation_profiles(
    standardised: Standardised, best: Solution, blocks: Blocks, pairs: Sequence[tuple[int, int]]
) -> list[Correlations]:
    """Lanes that fix the correlations of ``pairs`` of columns; else as ``sd_profiles``."""
    stats, index = standardised.stats, theta_index(blocks)
    B = stats.yy.shape[-1]
    C = _lanes_first(standardised.scaling.C, B)
    D = covariance_of(best.theta, blocks)
    profiles = []
    for a, b in pairs:
        block = next(list(x) for x in blocks if a in x)
        rows = C[np.ix_(range(B), [b, a], block)]
        rows = rows / np.linalg.norm(rows, axis=2, keepdims=True)
        others = np.linalg.qr(rows.swapaxes(1, 2), mode="complete").Q[:, :, 2:].swapaxes(1, 2)
        basis = np.broadcast_to(np.eye(D.shape[1]), D.shape).copy()
        basis[np.ix_(range(B), block, block)] = np.concatenate([rows, others], axis=1)
        theta = theta_of(basis @ D @ basis.swapaxes(1, 2), blocks, ROUNDED_TO_ZERO)
        first, second = block[:2]
        place = [index.index(at) for at in ((first, first), (second, first), (second, second))]
        s, below, corner = theta[place]
        sds = np.stack([s, np.hypot(below, corner)])
        theta[place[:2]], theta[place[2]] = np.log(np.maximum(sds, np.finfo(float).tiny)), 0.0
        u, places = np.arctan2(below, corner), np.repeat(np.array(place)[:, None], B, axis=1)
        changed = _change_basis(stats, np.asarray(np.linalg.inv(basis), dtype=float))
        profiles.append(Correlations(blocks, changed, theta, u, np.full(B, 0.1), places))
    return profiles


def coefficient_profiles(
    standardised: Standardised, best: Solution, blocks: Blocks, fixed: Sequence[int]
) -> list[Coefficients]:
    """Lanes that fix the ``fixed`` effects, columns of the user's X; else as ``sd_profiles``."""
    stats, scaling = standardised.stats, standardised.scaling
    B = stats.yy.shape[-1]
    T, L = _lanes_first(scaling.T, B), np.moveaxis(best.L_A, -1, 0)
    residual = np.sqrt(best.pwrss / np.broadcast_to(stats.n, B))
    profiles = []
    for j in fixed:
        H, length = householder_reflection(T[:, j])
        TX = np.einsum("gqil,lij->gqjl", stats.TX, H)
        XX = np.einsum("lia,ijl,ljb->abl", H, stats.XX, H)
        Xy = np.einsum("lia,il->al", H, stats.Xy)
        moved = TX[:, :, -1].copy(), XX[:, -1].copy(), Xy[-1].copy()
        # A column that is orthogonal to everything keeps the shapes.
        TX[:, :, -1] = XX[-1] = XX[:, -1] = 0.0
        XX[-1, -1] = stats.n
        u = np.einsum("li,il->l", H[:, -1], best.beta)
        se = residual * np.linalg.norm(np.linalg.solve(L, H[:, -1][..., None])[..., 0], axis=1)
        offset = np.einsum("li,il->l", T[:, j], scaling.beta_ols)
        changed = stats._replace(TX=TX, XX=XX, Xy=Xy).expand()
        unit = scaling.s * length
        profiles.append(Coefficients(blocks, changed, best.theta, u, se, *moved, unit, offset))
    return profiles


def concatenated(parts: Sequence[H]) -> H:
    """Lanes of several parameters side by side."""
    first, rest = parts[0], [f.name for f in fields(parts[0]) if f.name not in ("blocks", "stats")]
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(p, name) for p in parts], axis=-1) for name in rest
    }
    columns = zip(*(p.stats for p in parts), strict=True)
    return replace(first, stats=Stats(*(np.concatenate(x, axis=-1) for x in columns)), **arrays)


def _ordered(Q: Floats, D: Floats, block: tuple[int, ...]) -> Floats:
    """The columns of Q before the last of ``block`` rotated to the axes of D, largest first.

    With a small leading diagonal Λ is hard to tell from Λ rotated, and Newton would crawl.
    """
    rest = list(block[:-1])
    if len(rest) < 2:
        return Q
    part = Q[:, :, rest]
    _, axes = np.linalg.eigh(part.swapaxes(1, 2) @ D @ part)
    Q = Q.copy()
    Q[:, :, rest] = part @ axes[:, :, ::-1]
    return Q


def _change_basis(stats: Stats, Q: Floats) -> Stats:
    """Statistics of every lane with Z̃ Q in the place of Z̃."""
    return stats._replace(RZ=np.einsum("gabl,lbc->gacl", expanded(stats.RZ, len(Q)), Q)).expand()


def _lanes_first(x: Floats, B: int) -> Floats:
    return np.moveaxis(expanded(x, B), -1, 0)
