"""The bootstraps of one fit as sources of data sets: what is drawn, and from what.

=============  ============================================================================
parametric     b* ~ N(0, Σ̂), ε* ~ N(0, σ̂²/w), as sufficient statistics (``drawing``)
residual       reflated BLUPs by unit and reflated residuals by row, with replacement
cases          whole groups with replacement, each drawn copy a group of its own
wild           y*_i = X_i β̂ + v_i ṽ_i, one random factor v_i for each group
=============  ============================================================================

On the cores cases and wild never form rows: they are sums over groups (``groupstats``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from jaxhlm.core.arguments import whole_number
from jaxhlm.core.notation import (
    BootstrapMethod,
    Floats,
    Ints,
    Leverage,
    WildWeights,
    check_option,
)
from jaxhlm.core.status import Status
from jaxhlm.core.streams import Seed, random_key
from jaxhlm.errors import ResamplingError
from jaxhlm.estimation.estimates import Estimates
from jaxhlm.estimation.pipeline import Prepared, Reduced
from jaxhlm.estimation.program import Traceable
from jaxhlm.inference.henderson import random_effects
from jaxhlm.likelihood.covariance import lambda_of
from jaxhlm.resampling.cases import Cases
from jaxhlm.resampling.reflate import reflated_effects, reflated_residuals
from jaxhlm.sources.drawn import DrawnSource, Parametric, draw_by_stream
from jaxhlm.statistics.groupstats import GroupStats, group_stats, multiplied

__all__ = ["Residual", "Wild", "resampler"]

# A row with so much leverage determines a coefficient alone, and has no residual to speak of.
FULL_LEVERAGE = 1.0 - 1e-10


def resampler(
    method: BootstrapMethod,
    prepared: Prepared,
    y: Floats,
    estimates: Estimates,
    n: int,
    seed: Seed,
    weights: WildWeights = "rademacher",
    leverage: Leverage = "hc2",
) -> DrawnSource:
    """The source of ``n`` bootstrap data sets.

    Args:
        method: which bootstrap.
        prepared: the design.
        y: (n,) response.
        estimates: the fit, one lane.
        n: number of data sets.
        seed: int, NumPy Generator or JAX key.
        weights: distribution of the factors of the wild bootstrap.
        leverage: adjustment of its residuals.

    Raises:
        OptionError: an unknown method, or one of its options, or a seed of another kind.
        ResamplingError: the fit failed, or has too few groups for this bootstrap.
    """
    check_option("method", method, BootstrapMethod)
    check_option("weights", weights, WildWeights)
    check_option("leverage", leverage, Leverage)
    n = whole_number("n", n)
    status = Status(int(estimates.status[0]))
    if not status.ok:
        raise ResamplingError(f"this fit has no estimates to start from: {status.message}")
    key, e = random_key(seed), estimates
    if method == "parametric":
        return Parametric(prepared, n, key, e.beta[0], e.cov[0], float(e.sigma[0]))
    if method == "cases":
        return Cases(prepared, n, key, y)
    if method == "wild":
        return Wild(prepared, n, key, y, e.beta[0], weights, leverage)
    d = prepared.design
    b = random_effects(e, prepared.reduce_responses(y[:, None]), d.blocks).b[0]
    root_w = 1.0 if d.weights is None else np.sqrt(d.weights)
    residuals = (y - d.X @ e.beta[0] - (d.Z * b[d.group]).sum(axis=1)) * root_w
    Lambda, sigma = lambda_of(e.theta.T, d.blocks)[0], float(e.sigma[0])
    return Residual(
        prepared,
        n,
        key,
        e.beta[0],
        reflated_effects(b, Lambda, sigma),
        reflated_residuals(residuals, sigma),
    )


@dataclass(frozen=True)
class Residual(DrawnSource):
    """Semi-parametric bootstrap (Carpenter, Goldstein & Rasbash 2003).

    Attributes:
        beta: (p,) fixed effects.
        effects: (G, q) reflated random effects, resampled by unit.
        residuals: (n,) reflated residuals times √w, resampled by row.
    """

    beta: Floats
    effects: Floats
    residuals: Floats

    @property
    def lane_bytes(self) -> int:
        """Indices, draws and responses."""
        return 8 * 4 * self.prepared.design.n

    @property
    def traceable(self) -> Traceable:
        """Rows that are resampled here and reduced where they are fitted."""
        return self.traceable_rows

    def rows(self, lane_slice: slice) -> Floats:
        """Xβ̂ + Zb* + ε*/√w, (rows, lanes)."""
        d, G = self.prepared.design, len(self.effects)

        def indices(stream: np.random.Generator, num_lanes: int) -> Ints:
            units = stream.integers(0, G, (num_lanes, G))
            return np.concatenate([units, stream.integers(0, d.n, (num_lanes, d.n))], axis=1)

        drawn = draw_by_stream(self.key, lane_slice, indices)
        Y = self.residuals[drawn[:, G:]]
        if d.weights is not None:
            Y /= np.sqrt(d.weights)
        Y += d.X @ self.beta
        effects = self.effects[drawn[:, :G]]
        for j in range(d.q):
            Y += d.Z[:, j] * effects[:, d.group, j]
        return Y.T


@dataclass(frozen=True)
class Wild(DrawnSource):
    """Cluster wild bootstrap (Modugno & Giannerini 2015).

    The marginal residuals y_i − X_i β̂ of a group keep their dependence and are multiplied by one
    random factor v_i of mean 0 and variance 1.

    Attributes:
        y: (n,) response.
        beta: (p,) fixed effects.
        weights: distribution of v.
        leverage: adjustment of the residuals.
    """

    y: Floats
    beta: Floats
    weights: WildWeights
    leverage: Leverage

    @property
    def lane_bytes(self) -> int:
        """Factors and statistics of every group."""
        return 8 * 4 * self.prepared.design.G * self.prepared.design.q

    @property
    def traceable(self) -> Traceable:
        """Rows that are multiplied here and reduced where they are fitted."""
        return self.traceable_rows

    @cached_property
    def residuals(self) -> Floats:
        """ṽ = √w(y − Xβ̂)/(1 − h)^a, (n,); a = ½ (hc2) or 1 (hc3).

        h is the diagonal of the projection on the columns of √w X (Modugno & Giannerini 2015, as
        ``lmeresampler::wild_bootstrap``).
        """
        d, matrices = self.prepared.design, self.prepared.matrices
        r = self.y - d.X @ self.beta
        if d.weights is not None:
            r = r * np.sqrt(d.weights)
        h = np.empty(d.n)
        h[self.prepared.order] = (matrices.QX**2).sum(axis=1)
        full = h > FULL_LEVERAGE
        power = {"none": 0.0, "hc2": 0.5, "hc3": 1.0}[self.leverage]
        return np.where(full, 0.0, r / np.where(full, 1.0, 1.0 - h) ** power)

    @cached_property
    def groups(self) -> GroupStats:
        """Statistics of the residuals."""
        matrices = self.prepared.matrices
        beta: Floats = np.linalg.solve(matrices.T[..., 0], self.beta).astype(float)
        return group_stats(matrices, self.residuals[self.prepared.order], beta)

    def factors(self, lane_slice: slice) -> Floats:
        """v (G, lanes)."""
        values, probabilities = _WILD[self.weights]
        bounds = np.cumsum(probabilities)[:-1]
        G = self.prepared.design.G
        drawn = draw_by_stream(
            self.key, lane_slice, lambda stream, count: stream.random((count, G))
        )
        v: Floats = values[np.searchsorted(bounds, drawn, side="right")].T
        return v

    def draw(self, lane_slice: slice) -> Reduced:
        """Multiply the statistics of every group."""
        v = self.factors(lane_slice)
        return self.prepared.joined(multiplied(self.prepared.matrices, self.groups, v))

    def rows(self, lane_slice: slice) -> Floats:
        """Xβ̂ + v ṽ/√w, (rows, lanes)."""
        d = self.prepared.design
        Y = self.residuals[:, None] * self.factors(lane_slice)[d.group]
        if d.weights is not None:
            Y /= np.sqrt(d.weights)[:, None]
        return Y + (d.X @ self.beta)[:, None]


# Mean 0 and variance 1. Mammen (1993) has third moment 1 as well; Webb (2023, Can. J. Econ. 56,
# 839-858) has six points, for designs of a dozen groups or fewer.
_ROOT_5 = np.sqrt(5.0)
_WEBB = np.sqrt([1.5, 1.0, 0.5])
_WILD: dict[str, tuple[Floats, Floats]] = {
    "rademacher": (np.array([-1.0, 1.0]), np.array([0.5, 0.5])),
    "mammen": (
        np.array([(1.0 - _ROOT_5) / 2.0, (1.0 + _ROOT_5) / 2.0]),
        np.array([_ROOT_5 + 1.0, _ROOT_5 - 1.0]) / (2.0 * _ROOT_5),
    ),
    "webb": (np.concatenate([-_WEBB, _WEBB[::-1]]), np.full(6, 1.0 / 6.0)),
}
