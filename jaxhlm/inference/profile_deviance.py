"""The ML deviance with one parameter fixed at a value, all else minimised over: profiles.

    d_p(v) = min { d(β, θ, σ) : parameter = v }

Whichever is fixed, the rest can be written as an unconstrained minimisation over θ (k,):

* **σ = v, or sd_j = σ √D_jj = v**: before σ is profiled out the deviance is
  L(θ) + n log 2πσ² + P(θ)/σ², with L = Σ log|Ω_i| − Σ log w and P = pwrss. Put σ² = v²; or, in a
  basis of Z whose last column belongs to b_j (``isolating_basis``), let v φ be the last row of Λ,
  so that D_jj = v²φ'φ, and σ² = 1/φ'φ. Nothing is singular as v → 0.
* **a correlation = sin ω**: in a basis that begins with the two columns, Λ begins with
  [s, 0; t sin ω, t cos ω]. The free entries are log s, log t and the rest of Λ.
* **β_j = v**: in a basis of X whose last column belongs to β_j, y is replaced by y − x v, and that
  column by one that is orthogonal to everything.

Bates et al. (2015, section 5.1) profile the same deviance. Value, gradient and Hessian are exact.
Every class below has N = (parameters × data sets) lanes of one of these three kinds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from jaxhlm.core.notation import Bools, Floats, Ints
from jaxhlm.likelihood.covariance import Blocks, theta_index
from jaxhlm.likelihood.lane_derivatives import lane_derivatives
from jaxhlm.likelihood.suffstats import Stats

__all__ = ["Coefficients", "Correlations", "ProfileDeviance", "Scales", "rectified"]

Objective = Callable[[Floats], tuple[Floats, Floats, Floats, tuple[()]]]


@dataclass(frozen=True)
class ProfileDeviance(ABC):
    """N lanes that fix one kind of parameter; u is the coordinate in which it is moved.

    Attributes:
        blocks: columns of Z in each random term.
        stats: statistics in the basis of each lane.
        theta: (k, N) minimiser at the estimate, in the coordinates of ``objective``.
        estimate: (N,) u at the estimate.
        step: (N,) about one standard error of u.
    """

    blocks: Blocks
    stats: Stats
    theta: Floats
    estimate: Floats
    step: Floats

    @property
    def diagonal(self) -> Bools:
        """(k, N) where ``theta`` holds a diagonal entry of Λ."""
        on = np.array([row == column for row, column in theta_index(self.blocks)])
        return np.broadcast_to(on[:, None], self.theta.shape)

    @abstractmethod
    def objective(self, lane_index: Ints, u: Floats) -> Objective:
        """Value, gradient and Hessian of some lanes with their parameters at u, as a function."""

    @abstractmethod
    def user(self, u: Floats) -> Floats:
        """Parameters in the user's units, of u (…, N)."""


@dataclass(frozen=True)
class Scales(ProfileDeviance):
    """Standard deviations of random effects (u itself) and σ (u is its logarithm).

    Attributes:
        row: (k, N) 1 at the entries of θ that make up the last row of Λ; all 0 where σ is fixed.
        unit: (N,) what u, or exp u, is multiplied by.
    """

    row: Floats
    unit: Floats

    def objective(self, lane_index: Ints, u: Floats) -> Objective:
        """Value, gradient and Hessian in θ, with φ in the place of the last row of Λ."""
        stats, row = self.stats.take(lane_index), self.row[:, lane_index]
        is_sigma = ~row.any(axis=0)
        jacobian = np.where(row > 0.0, u, 1.0)
        eye = np.eye(len(row))[:, :, None]

        def objective(phi: Floats) -> tuple[Floats, Floats, Floats, tuple[()]]:
            size = np.where(is_sigma, np.exp(-2.0 * u), (row * phi**2).sum(axis=0))
            slope = 2.0 * row * phi / size
            outer = slope[:, None] * slope[None]
            at = lane_derivatives(jacobian * phi, stats, False, self.blocks, sigma2=1.0 / size)
            n, ratio = at.profile.nu, at.profile.pwrss * size
            value = at.profile.value + n * (np.log(n / ratio) - 1.0) + ratio
            cross = (jacobian * at.pwrss_grad * size)[:, None] * slope[None]
            hess = jacobian[:, None] * at.hess * jacobian[None] + cross + cross.swapaxes(0, 1)
            hess = hess + ratio * outer - (n - ratio) * (2.0 * eye * row / size - outer)
            return value, jacobian * at.grad - (n - ratio) * slope, hess, ()

        return objective

    def user(self, u: Floats) -> Floats:
        """Standard deviations."""
        is_sigma = ~self.row.any(axis=0)
        return self.unit * np.where(is_sigma, np.exp(np.where(is_sigma, u, 0.0)), u)


@dataclass(frozen=True)
class Correlations(ProfileDeviance):
    """Correlations of two random effects, the first two of their block; u = ω, r = sin ω.

    ``theta`` holds log s and log t in the places of s and t sin ω, and 0 in that of t cos ω.

    Attributes:
        places: (3, N) positions in θ of s, t sin ω and t cos ω.
    """

    places: Ints

    @property
    def diagonal(self) -> Bools:
        """(k, N) where ``theta`` holds a diagonal entry of Λ."""
        reparametrised = (np.arange(len(self.theta))[:, None, None] == self.places).any(axis=1)
        return super().diagonal & ~reparametrised

    def objective(self, lane_index: Ints, u: Floats) -> Objective:
        """Value, gradient and Hessian in (log s, log t, rest of Λ), σ profiled out."""
        stats = self.stats.take(lane_index)
        first, below, corner = self.places[:, lane_index]
        at_lane = np.arange(len(lane_index))
        sine, cosine = np.sin(u), np.cos(u)

        def objective(phi: Floats) -> tuple[Floats, Floats, Floats, tuple[()]]:
            k = len(phi)
            s, t = np.exp(phi[first, at_lane]), np.exp(phi[below, at_lane])
            theta = phi.copy()
            theta[first, at_lane] = s
            theta[below, at_lane], theta[corner, at_lane] = t * sine, t * cosine
            at = lane_derivatives(theta, stats, False, self.blocks)
            J = np.broadcast_to(np.eye(k)[:, :, None], (k, k, len(u))).copy()
            J[first, first, at_lane] = s
            J[below, below, at_lane], J[corner, below, at_lane] = t * sine, t * cosine
            J[corner, corner, at_lane] = 0.0
            grad = np.einsum("ail,al->il", J, at.grad)
            hess = np.einsum("ail,abl,bjl->ijl", J, at.hess, J)
            hess[first, first, at_lane] += grad[first, at_lane]
            hess[below, below, at_lane] += grad[below, at_lane]
            # The place of t cos ω is not free: a slope of 0 and a curvature of 1 leave it alone.
            hess[corner, corner, at_lane] = 1.0
            return at.profile.value, grad, hess, ()

        return objective

    def user(self, u: Floats) -> Floats:
        """Correlations."""
        return np.sin(u)


@dataclass(frozen=True)
class Coefficients(ProfileDeviance):
    """Fixed effects; u is the last coefficient of a rotated X̃, whose last column x moves to y.

    Attributes:
        tx, xx, xy: (G, q, N), (p, N), (N,) the parts of TX, XX and Xy that are x's.
        unit, offset: (N,) β_j = offset + unit × u.
    """

    tx: Floats
    xx: Floats
    xy: Floats
    unit: Floats
    offset: Floats

    def objective(self, lane_index: Ints, u: Floats) -> Objective:
        """Value, gradient and Hessian in θ with y − x u in the place of y."""
        base = self.stats.take(lane_index)
        tx, xx, xy = self.tx[..., lane_index], self.xx[:, lane_index], self.xy[lane_index]
        Xy = base.Xy - xx * u
        Xy[-1] = 0.0
        yy = base.yy - 2.0 * u * xy + u**2 * xx[-1]
        stats = base._replace(Ty=base.Ty - tx * u, Xy=Xy, yy=yy)

        def objective(theta: Floats) -> tuple[Floats, Floats, Floats, tuple[()]]:
            at = lane_derivatives(theta, stats, False, self.blocks)
            return at.profile.value, at.grad, at.hess, ()

        return objective

    def user(self, u: Floats) -> Floats:
        """Fixed effects."""
        return self.offset + self.unit * u


def rectified(theta: Floats, diagonal: Bools, blocks: Blocks) -> Floats:
    """θ (k, N) with columns of Λ sign-flipped so that its ``diagonal`` (k, N) is not negative.

    Two minimisers can then be averaged.
    """
    index = theta_index(blocks)
    place = {column: i for i, (row, column) in enumerate(index) if row == column}
    negative = [(theta[place[c]] < 0.0) & diagonal[place[c]] for _, c in index]
    return np.where(negative, -theta, theta)
