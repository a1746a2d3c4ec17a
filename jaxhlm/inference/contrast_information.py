"""What the variance parameters tell about every contrast of β̂: from the data, or kept from them.

The covariance of β̂, its derivatives in the variance parameters and the information about these are
all that tests of contrasts need of the data. They are bounded in size, whatever the number of rows,
and so can be kept in a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from jaxhlm.core.chunks import slices
from jaxhlm.core.notation import Array, Floats, Ints
from jaxhlm.core.status import Status
from jaxhlm.estimation.estimates import Estimates
from jaxhlm.inference import kenward_roger, satterthwaite
from jaxhlm.inference.information import Information, groups_at
from jaxhlm.likelihood.covariance import lambda_of
from jaxhlm.linalg.small import array_namespace
from jaxhlm.linalg.stacked import solve_lower
from jaxhlm.optimise.options import Options
from jaxhlm.statistics.response import Standardised

__all__ = ["KeptInformation", "Tile", "information_arrays", "information_tiles", "kept_bytes"]

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
        part = estimates[run]
        found = _information(
            part.theta_standard, part.status, standardised.take(run), options, method
        )
        yield Tile(run, *found)


def information_arrays(
    theta_standard: Any, status: Any, standardised: Standardised, options: Options, method: str
) -> tuple[Any, ...]:
    """The attributes of ``KeptInformation`` that there are, traceable.

    Args:
        theta_standard: (B, k) as in ``Estimates``.
        status: (B,) likewise.
        standardised, options, method: as for ``information_tiles``.
    """
    return _lanes_first(*_information(theta_standard, status, standardised, options, method))


def _lanes_first(at: Information, root: Floats) -> tuple[Any, ...]:
    xp = array_namespace(root)
    return tuple(xp.moveaxis(x, -1, 0) for x in (at.nu, root, at.B, at.correction) if x is not None)


def _lanes_last(x: Floats) -> Floats:
    # In memory too: sums of products over p take three times as long fit after fit.
    return np.ascontiguousarray(np.moveaxis(x, 0, -1))


def _information(
    theta_standard: Any, status: Any, standardised: Standardised, options: Options, method: str
) -> tuple[Information, Floats]:
    Lambda = array_namespace(theta_standard).moveaxis(
        lambda_of(theta_standard.T, options.blocks), 0, -1
    )
    at = groups_at(Lambda, standardised.stats, options.reml)
    if method == "satterthwaite":
        singular = status == Status.SINGULAR
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
        parts = [_lanes_first(at, root) for _, at, root in tiles]
        return tuple(np.concatenate(part) for part in zip(*parts, strict=True))

    def take(self, which: Ints | slice) -> KeptInformation:
        """That of some fits."""
        correction = None if self.correction is None else self.correction[which]
        return KeptInformation(self.nu[which], self.root[which], self.forms[which], correction)

    def replaced(self, which: Ints, others: KeptInformation) -> KeptInformation:
        """These with those of some fits exchanged for ``others``."""
        out = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, values in out.items():
            if values is not None:
                values[which] = getattr(others, name)
        return KeptInformation(**out)

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
            nu, root, forms = (_lanes_last(x) for x in (part.nu, part.root, part.forms))
            correction = None if part.correction is None else _lanes_last(part.correction)
            yield Tile(run, Information(nu, forms, correction), root)
