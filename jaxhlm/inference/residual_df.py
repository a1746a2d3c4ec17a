"""Residual degrees of freedom of a mixed model: those of the χ² that its residuals resemble.

With fitted values Hy, where H = [ZΛ X] K⁻¹ [ZΛ X]' and K has the blocks I + Λ'Z'ZΛ, Λ'Z'X and X'X
of Henderson's equations, E|y − Hy|² = σ² tr (I − H)'(I − H) if the random effects are counted as
parameters, so that

    df = n − 2 tr H + tr HH

(Hoffman & Roussos 2021, Bioinformatics 37, 192-201; ``variancePartition::rdf.merMod``), which is
n − p in least squares. As K − [ZΛ X]'[ZΛ X] is the identity in the rows of u and zero elsewhere, tr
H and tr HH are traces of the block C_uu of K⁻¹ and of its square,

    df = n − p − Gq + |C_uu|²        C_uu,ij = M_i⁻¹ [i = j] + W_iW_j'

with M_i = I + Λ'R_i'R_iΛ and W_i = Λ'Z_i'V⁻¹X L_A⁻ᵀ, which need sums over groups alone.
"""

from __future__ import annotations

import numpy as np

from jaxhlm.core.chunks import slices
from jaxhlm.core.notation import Floats
from jaxhlm.estimation.estimates import Estimates
from jaxhlm.inference.information import groups_at
from jaxhlm.likelihood.covariance import lambda_of
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.optimise.options import Options
from jaxhlm.statistics.response import Standardised

__all__ = ["residual_df"]

# Numbers of the groups of lanes that are worked on at a time: what fits the cache.
TILE_NUMBERS = 2**19


@np.errstate(all="ignore")
def residual_df(
    estimates: Estimates, standardised: Standardised, options: Options
) -> tuple[Floats]:
    """(B,) residual degrees of freedom; NaN where a fit failed.

    Args:
        estimates: of B fits.
        standardised: their standardised statistics.
        options: what was optimised.
    """
    stats, B = standardised.stats, len(estimates.status)
    G, q, p = stats.TX.shape[:3]
    parts = []
    for run in slices(B, TILE_NUMBERS // (G * q * max(q, p))):
        Lambda = lambda_of(estimates.theta_standard[run].T, options.blocks)
        parts.append(_residual_df(np.moveaxis(Lambda, 0, -1), stats.take(run)))
    return (np.concatenate(parts),)


def _residual_df(Lambda: Floats, stats: Stats) -> Floats:
    """(b,) of lanes at Λ (q, q, b)."""
    at, q = groups_at(Lambda, stats, reml=True), len(Lambda)
    shrinkage = np.einsum("bal,bcgl,cdl->adgl", Lambda, at.P, Lambda, optimize=True)
    inverse = np.eye(q)[:, :, None, None] - shrinkage
    W = np.einsum("bal,pbgl->apgl", Lambda, at.G, optimize=True)
    WW = np.einsum("apgl,argl->prl", W, W)
    alone = np.einsum("gl,abgl,abgl->l", np.broadcast_to(stats.m, W.shape[2:]), inverse, inverse)
    crossed = np.einsum("abgl,apgl,bpgl->l", inverse, W, W, optimize=True)
    squares = alone + 2.0 * crossed + np.einsum("prl,prl->l", WW, WW)
    return stats.n - stats.rank - q * stats.m.sum(axis=0) + squares
