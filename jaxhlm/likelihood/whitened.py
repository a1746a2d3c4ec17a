"""The groups of many lanes at Λ, factored once: Ω_i = I + R_iΛΛ'R_i' = L_iL_i', and L_i⁻¹T_i.

``deviance.whiten`` for many lanes, lanes last: matrices (rows, columns, G, B).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxhlm.core.notation import Floats
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.linalg.small import array_namespace
from jaxhlm.linalg.stacked import cholesky, solve_lower

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["Whitened", "lanes_first", "whitened"]


class Whitened(NamedTuple):
    """Factors of Ω, and L⁻¹[R T_X t_y] of every group."""

    L: Float[Floats, "q q G B"]
    R: Float[Floats, "q q G B"]
    X: Float[Floats, "q p G B"]
    y: Float[Floats, "q G B"]


def whitened(Lambda: Floats, stats: Stats) -> Whitened:
    """The groups at Λ (q, q, B)."""
    xp = array_namespace(Lambda)
    R, X, y = (xp.moveaxis(x, 0, -2) for x in (stats.RZ, stats.TX, stats.Ty))
    # A sum of products: einsum is slow where R is shared and its last axis of 1 is stretched.
    RL = sum(R[:, b, None] * row[:, None] for b, row in enumerate(Lambda))
    L = cholesky(xp.einsum("abgl,cbgl->acgl", RL, RL) + np.eye(len(RL))[..., None, None])
    return Whitened(L, *(solve_lower(L, T) for T in (R, X, y)))


def lanes_first(x: Floats) -> Floats:
    """(…, G, B) as (B, G, …)."""
    return np.moveaxis(x, (-1, -2), (0, 1))
