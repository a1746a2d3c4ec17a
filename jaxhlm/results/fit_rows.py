"""Rows and units of some fits, and what is computed of them: each quantity once, where it is asked.

Arrays over units are (L, G, …), over rows (L, n), as ``Observations`` has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from jaxhlm.core.notation import Floats, Ints
from jaxhlm.estimation.estimates import Estimates
from jaxhlm.inference.henderson import (
    Henderson,
    RandomEffects,
    henderson,
    random_effects,
    unit_lines,
)
from jaxhlm.inference.leverage import Leverage, cooks_distance, leverage
from jaxhlm.inference.leverage import standardized as over_sd
from jaxhlm.likelihood.covariance import Blocks
from jaxhlm.statistics.observations import Observations

__all__ = ["FitRows"]


@dataclass(frozen=True, eq=False)
class FitRows:
    """Some fits with their rows.

    Attributes:
        at: positions of the fits.
        estimates: of these fits, zeros for absent fixed effects.
        own: the same for rows standardised as ``rows`` are.
        rows: the rows.
        blocks: columns of Z in each random term.
        p: (L,) fixed effects of each.
        offset: (n,) of the rows, or None.
    """

    at: Ints
    estimates: Estimates
    own: Estimates
    rows: Observations
    blocks: Blocks
    p: Ints
    offset: Floats | None

    @cached_property
    def effects(self) -> RandomEffects:
        """Predicted random effects."""
        return random_effects(self.own, self.rows.standardised, self.blocks)

    @cached_property
    def henderson(self) -> Henderson:
        """Parts of the inverse of Henderson's mixed model equations."""
        return henderson(self.own, self.rows.standardised, self.blocks)

    @cached_property
    def lines(self) -> tuple[Floats, Floats, Floats]:
        """Own lines of the units, their population's, and W."""
        return unit_lines(self.henderson, self.rows.standardised, self.estimates.beta)

    @cached_property
    def fixed(self) -> Floats:
        """Xβ̂, with the offset."""
        return self.with_offset(self.rows.fixed(self.estimates.beta))

    @cached_property
    def fitted(self) -> Floats:
        """Xβ̂ + Zb̂, with the offset."""
        return self.fixed + self.rows.random(self.effects.b)

    @property
    def residual(self) -> Floats:
        """Response less fitted values."""
        return self.response - self.fitted

    @property
    def residual_marginal(self) -> Floats:
        """Response less Xβ̂ and offset."""
        return self.response - self.fixed

    @cached_property
    def leverage(self) -> Leverage:
        """Leverages, and variances of the marginal residuals."""
        return leverage(self.henderson, self.rows)

    @property
    def sigma(self) -> Floats:
        """σ̂ of every row's fit."""
        return self.rows.of_lane(self.estimates.sigma)

    @property
    def residual_std(self) -> Floats:
        """Residuals over their standard deviations."""
        e = self.residual * self.rows.root_w
        return over_sd(e, self.sigma, 1.0 - self.leverage.hat)

    @property
    def residual_marginal_std(self) -> Floats:
        """Marginal residuals over their standard deviations."""
        e = self.residual_marginal * self.rows.root_w
        return over_sd(e, self.sigma, self.leverage.marginal)

    @property
    def cooks_distance(self) -> Floats:
        """Cook's distances of the rows."""
        e, p = self.residual * self.rows.root_w, self.rows.of_lane(self.p.astype(float))
        return cooks_distance(e, self.sigma, self.leverage.hat, p)

    @property
    def response(self) -> Floats:
        """The response as it was given, (L, n)."""
        return np.broadcast_to(self.with_offset(self.rows.response), self.fixed.shape)

    def with_offset(self, values: Floats) -> Floats:
        """Values (L, n) on the scale of the response: what is fitted is that less the offset."""
        return values if self.offset is None else values + self.offset

    @property
    def level(self) -> Floats:
        """Number of the level of every row's unit."""
        return np.broadcast_to(self.rows.row_levels, self.fixed.shape)
