"""What the variance parameters tell about every contrast of β̂: from the data, or kept from them.

The covariance of β̂, its derivatives in the variance parameters and the information about these are
all that tests of contrasts need of the data. They are bounded in size, whatever the number of rows,
and so can be kept in a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jaxhlm.core.chunks import slices
from jaxhlm.core.notation import Array, Floats, Ints
from jaxhlm.core.status import Status
from jaxhlm.estimation.estimates import Estimates
from jaxhlm.inference import kenward_roger, satterthwaite
from jaxhlm.inference.information import Information, groups_at
from jaxhlm.likelihood.covariance import lambda_of
from jaxhlm.linalg.stacked import solve_lower
from jaxhlm.optimise.options import Options
from jaxhlm.statistics.response import Standardised

__all__ = ["KeptInformation", "Tile", "information_tiles", "kept_bytes"]

# Numbers that are worked on at a time: few enough for the caches, and many for every call of NumPy.
TILE_NUMBERS = 2**19


class Tile(NamedTuple):
    """Some consecutive fits, lanes last."""

    run: slice
    at: Information
    root: Floats  # (p, p, B) takes a contrast c of β to u = L_A⁻¹T'c, with Var(c'β̂) = σ²u'u


def information_tiles(
    estimates: Estimates, standardised: Standardised, options: Options, method: str
) -> Iterator[Tile]:
    """Runs of lanes whose arrays fit the cache, with what their data say.

    Args:
        estimates: of B fits.
        standardised: their standardised statistics.
        options: what was optimised.
        method: "satterthwaite" or "kenward-roger".
    """
    stats, B = standardised.stats, len(estimates.status)
    G, q, p = stats.TX.shape[:3]
    per_lane = G * q * max(q, p) + q * (q + 1) // 2 * p * p
    for run in slices(B, TILE_NUMBERS // per_lane):
        yield Tile(run, *_information(estimates[run], standardised.take(run), options, method))


def _information(
    estimates: Estimates, standardised: Standardised, options: Options, method: str
) -> tuple[Information, Floats]:
    Lambda = np.moveaxis(lambda_of(estimates.theta_standard.T, options.blocks), 0, -1)
    at = groups_at(Lambda, standardised.stats, options.reml)
    if method == "satterthwaite":
        singular = estimates.status == Status.SINGULAR
        found = satterthwaite.observed(at, Lambda, singular, options.reml, options.blocks)
    else:
        found = kenward_roger.expected(at, options.blocks)
    return found, solve_lower(at.L_A, standardised.scaling.T.swapaxes(0, 1))


def kept_bytes(p: int, k: int, method: str) -> int:
    """What ``KeptInformation`` takes for a fit of p fixed effects and k entries of D."""
    return 8 * (1 + p * p * (k + 1 + (method == "kenward-roger")))


@dataclass(frozen=True)
class KeptInformation:
    """What the data of B fits say by one method, fits first.

    Attributes:
        nu: (B,) as in ``Information``.
        root: (B, p, p) as in ``Tile``.
        forms: (B, k, p, p) the matrices B_s of ``Information``.
        correction: (B, p, p) that of Kenward and Roger, or None.
    """

    nu: Floats
    root: Floats
    forms: Floats
    correction: Floats | None = None

    @staticmethod
    def arrays(tiles: Iterable[Tile]) -> tuple[Array, ...]:
        """The attributes of consecutive fits, those that there are."""
        parts = [
            [np.moveaxis(x, -1, 0) for x in (at.nu, root, at.B, at.correction) if x is not None]
            for _, at, root in tiles
        ]
        return tuple(np.concatenate(part) for part in zip(*parts, strict=True))

    def take(self, which: Ints | slice) -> KeptInformation:
        """That of some fits."""
        correction = None if self.correction is None else self.correction[which]
        return KeptInformation(self.nu[which], self.root[which], self.forms[which], correction)

    @property
    def lane_bytes(self) -> int:
        """What one fit takes."""
        corrected = "satterthwaite" if self.correction is None else "kenward-roger"
        return kept_bytes(self.root.shape[-1], self.forms.shape[1], corrected)

    @property
    def tiles(self) -> Iterator[Tile]:
        """As ``information_tiles``."""
        for run in slices(len(self.nu), 8 * TILE_NUMBERS // self.lane_bytes):
            part = self.take(run)
            nu, root, forms = (np.moveaxis(x, 0, -1) for x in (part.nu, part.root, part.forms))
            correction = part.correction
            correction = None if correction is None else np.moveaxis(correction, 0, -1)
            yield Tile(run, Information(nu, forms, correction), root)
