"""Responses of a design under hypotheses about β: flipped units, or draws from the null model.

A hypothesis l'β = c holds in both by construction. β̂₀ is the estimate that meets it,

    β̂₀ = β̂ − V l (l'V l)⁻¹ (l'β̂ − c),    V = σ̂²(X'Ω̂⁻¹X)⁻¹,

the minimum of the generalised sum of squares at the estimated covariances subject to it. What is
added to Xβ̂₀ is all that counts, since l'β̂* − c, its standard error and its df are the same for
y* = Xβ̂₀ + e* as l'β̂*, … for e*.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from jaxhlm.core.notation import Floats, Ints
from jaxhlm.core.streams import Key
from jaxhlm.design.design import Design
from jaxhlm.errors import ResamplingError
from jaxhlm.estimation.estimates import Estimates
from jaxhlm.sources.drawn import draw_by_stream
from jaxhlm.statistics.simulate_rows import simulate_rows

__all__ = [
    "NullDraws",
    "NullMethod",
    "NullResponses",
    "SignFlips",
    "SomeFits",
    "constrained",
    "null_responses",
]

NullMethod = Literal["sign-flip", "parametric"]
# Draws of a response have this many numbers to themselves.
DRAWS_BITS = 32


def constrained(estimates: Estimates, row: Floats, value: float) -> Floats:
    """β̂₀ (B, p), which meets row (p,) times β = value; absent coefficients are zero.

    Args:
        estimates: of B fits.
        row: the hypothesis.
        value: its right side.
    """
    e = estimates.filled
    direction = e.vcov @ row
    return e.beta - direction * ((e.beta @ row - value) / (direction @ row))[:, None]


class SomeFits(NamedTuple):
    """Some responses and their fits."""

    lanes: Ints  # (lanes,) their numbers
    y: Floats  # (rows, lanes)
    weights: Floats | None  # (rows, lanes) prior weights of their own, if they have them
    fitted: Floats  # (rows, lanes) Xβ̂₀
    estimates: Estimates


@dataclass(frozen=True)
class NullResponses(ABC):
    """What is added to Xβ̂₀ in resamples.

    Attributes:
        design: of all responses.
        n: how many resamples.
        key: what they are drawn from.
        exact: whether they are all that there are beside the data.
    """

    design: Design
    n: int
    key: Key
    exact: bool

    @abstractmethod
    def rows(self, some: SomeFits, run: slice) -> Floats:
        """e* (rows, lanes, resamples) of some responses; NaN where they are.

        Args:
            some: the responses.
            run: which resamples.
        """


def null_responses(method: NullMethod, design: Design, n: int, key: Key) -> NullResponses:
    """Resamples of a design.

    Args:
        method: "sign-flip" or "parametric".
        design: of all responses.
        n: how many resamples.
        key: what ``random_key`` gives.

    Raises:
        ResamplingError: there is one unit only to flip.
    """
    if method == "parametric":
        return NullDraws(design, n, key, False)
    if design.G < 2:
        raise ResamplingError(
            "one unit has no signs to flip beside the others': method='parametric' needs no others"
        )
    # Whole numbers of Python, which do not overflow.
    others = 2 ** (design.G - 1) - 1
    return SignFlips(design, min(n, others), key, n >= others)


@dataclass(frozen=True)
class SignFlips(NullResponses):
    """e*_i = ±(y_i − X_i β̂₀), one sign for unit i in all responses.

    So responses stay as dependent as they are, and rows of a unit too. Resamples are exchangeable
    with the data where the units' errors are jointly symmetric, and β̂₀ is known: whole-block sign
    flipping (Winkler, Ridgway, Webster, Smith & Nichols 2014, NeuroImage 92, 381-397) of residuals
    under the null (Freedman & Lane 1983), which is the wild cluster bootstrap-t with Rademacher
    weights and the null imposed (Cameron, Gelbach & Miller 2008, Rev. Econ. Statist. 90, 414-427).

    A resample and its negative give the same |t|: beside the data there are 2^(G−1) − 1.
    """

    def signs(self, run: slice) -> Floats:
        """(G, resamples) of 1 and −1."""
        G = self.design.G
        if self.exact:
            flipped = (np.arange(run.start + 1, run.stop + 1)[:, None] >> np.arange(G)) & 1
        else:
            flipped = draw_by_stream(
                self.key, run, lambda stream, count: stream.integers(0, 2, (count, G))
            )
        return np.where(flipped.T, -1.0, 1.0)

    def rows(self, some: SomeFits, run: slice) -> Floats:
        """Flipped residuals."""
        signs = self.signs(run)[self.design.group]
        return (some.y - some.fitted)[:, :, None] * signs[:, None, :]


@dataclass(frozen=True)
class NullDraws(NullResponses):
    """e* = Zb* + ε* from a response's own estimates Σ̂ and σ̂, each response by itself.

    What responses have in common is not in them: the largest of independent statistics is larger
    than that of normal ones of the same variances however they depend on each other (Šidák 1967,
    J. Am. Statist. Assoc. 62, 626-633), so that adjusted p values are larger than they need be.
    """

    def rows(self, some: SomeFits, run: slice) -> Floats:
        """Draws, every one from a stream of its own."""
        d, e, count = self.design, some.estimates, run.stop - run.start
        draws = np.empty((*some.y.shape, count))
        for k, lane in enumerate(some.lanes.tolist()):
            weights = d.weights if some.weights is None else some.weights[:, k]
            draws[:, k] = simulate_rows(
                d.X, d.Z, d.group, d.G, np.zeros(d.p), e.cov[k], float(e.sigma[k]),
                count, self.key, weights, (lane << DRAWS_BITS) + run.start,
            )  # fmt: skip
        return np.where(np.isnan(some.y)[:, :, None], np.nan, draws)
