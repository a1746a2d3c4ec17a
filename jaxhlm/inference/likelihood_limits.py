"""Likelihood limits: where the profiled deviance has risen by z² on either side of the estimate.

ζ(u) = √(d_p(u) − d̂) is nearly linear in u, so the secant rule finds ζ = z in a few steps: free
while the limit lies beyond the last point, then kept within a bracket (the Illinois rule of Dowell
& Jarratt 1971). Every step minimises over all other parameters from the minimisers nearby.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxhlm.core.notation import Bools, Floats, Ints
from jaxhlm.inference.profile_deviance import ProfileDeviance, rectified
from jaxhlm.optimise.loop import NEWTON, minimise_lanes
from jaxhlm.optimise.start import START_FLOOR

__all__ = ["Bounds", "likelihood_limits", "profile_rise"]

# The limits are found when ζ is this close to z, which is far closer than digits are reported.
ZETA_TOL = 1e-7
NARROW = 1e-12
MAX_STEPS = 60
# Newton decrement at which an inner minimisation is done: 1e-8 of d_p is 2.5e-9 of ζ.
INNER_TOL = 1e-8
# The most evaluations of an inner minimisation, in passes; the lanes not done go on to the next.
MAX_ITERS = (8, 25, 25, 25)
# An inner minimisation is also done when a pass has not lowered d_p by more than this: where a
# leading variance is nearly zero, Λ rotated gives nearly the same D, and Newton stops short in that
# valley with a value that is right.
SETTLED = 1e-6
# A step beyond the last point is at most this many times the one before.
GROWTH = 3.0
# The profile may not lie lower than the fit by more than this.
LOWER_TOL = 1e-4


@dataclass(frozen=True)
class Bounds:
    """Bounds of the parameters of N lanes, lower and upper.

    Attributes:
        at: (2, N) u at the bounds, NaN where there is none.
        rise: (2, N) d_p − d̂ there; NaN to have it found.
        cap: (N,) d_p − d̂ that no value of the parameter exceeds, or None.
    """

    at: Floats
    rise: Floats
    cap: Floats | None = None


def profile_rise(
    profile: ProfileDeviance, lane_index: Ints, u: Floats, start: Floats, lowest: Floats
) -> tuple[Floats, Floats, Bools]:
    """d_p(u) − d̂ of some lanes (L,), the minimisers (k, L), and whether they are (L,).

    Args:
        profile: the deviance of N lanes with one parameter of each fixed.
        lane_index: (L,) which of them.
        u: (L,) the values that their parameters are fixed at.
        start: (k, L) where to start.
        lowest: (N,) d̂ of every lane.
    """
    theta = _nudged(profile, lane_index, start)
    value, settled = np.full(len(lane_index), np.inf), np.zeros(len(lane_index), bool)
    rest = np.arange(len(lane_index))
    for max_iter in MAX_ITERS:
        objective = profile.objective(lane_index[rest], u[rest])
        found = minimise_lanes(objective, theta[:, rest], NEWTON, lambda t: t, INNER_TOL, max_iter)
        settled[rest] = found.converged | (np.abs(value[rest] - found.value) < SETTLED)
        theta[:, rest], value[rest] = found.theta, found.value
        rest = rest[~settled[rest] & np.isfinite(found.value)]
        if not len(rest):
            break
    theta = rectified(theta, profile.diagonal[:, lane_index], profile.blocks)
    return value - lowest[lane_index], theta, settled


def _nudged(profile: ProfileDeviance, lane_index: Ints, theta: Floats) -> Floats:
    """A start off the saddles: diagonal entries of Λ that are zero may have to grow again."""
    stats = profile.stats
    sizes, shape = (stats.n, stats.m.sum(axis=0)), profile.estimate.shape
    n, G = (np.broadcast_to(x, shape)[lane_index] for x in sizes)
    floor = np.sqrt(START_FLOOR * G / n)
    return np.where(profile.diagonal[:, lane_index] & (np.abs(theta) < 0.01 * floor), floor, theta)


@dataclass
class _Search:
    """Where each search stands; inside the limit (f < 0) and, once known, outside it (f ≥ 0).

    Attributes:
        u_in, f_in: the outermost point inside; u_was, f_was: the one before, or NaN.
        u_out, f_out: a point outside, or NaN.
        theta_in, theta_was, theta_out: their minimisers, NaN where not known.
        weight: (2, …) what the Illinois rule multiplies f_in and f_out by.
        last: side of the last point, −1 inside, 1 outside, 0 none yet.
        step: the first step.
    """

    u_in: Floats
    f_in: Floats
    u_was: Floats
    f_was: Floats
    u_out: Floats
    f_out: Floats
    theta_in: Floats
    theta_was: Floats
    theta_out: Floats
    weight: Floats
    last: Floats
    step: Floats

    @staticmethod
    def begin(
        estimate: Floats, theta: Floats, end: Floats, rise: Floats, step: Floats, z: float
    ) -> _Search:
        nowhere, unknown = np.full_like(estimate, np.nan), np.full_like(theta, np.nan)
        f_out = np.sqrt(np.maximum(rise, 0.0)) - z
        return _Search(
            estimate.copy(), np.full_like(estimate, -z), nowhere, nowhere.copy(), end.copy(), f_out,
            theta.copy(), unknown, unknown.copy(),
            np.ones((2, len(estimate))), np.zeros_like(estimate), step,
        )  # fmt: skip

    def propose(self, at: Ints) -> Floats:
        """Where to look next."""
        inside, outside, was = self.u_in[at], self.u_out[at], self.u_was[at]
        low, high = self.f_in[at] * self.weight[0, at], self.f_out[at] * self.weight[1, at]
        between = (inside * high - outside * low) / (high - low)
        moved = inside - was
        onward = -self.f_in[at] * moved / (self.f_in[at] - self.f_was[at])
        most = GROWTH * np.abs(moved)
        onward = np.where(onward * moved > 0.0, np.clip(onward, -most, most), GROWTH * moved)
        onward = np.where(np.isnan(was), self.step[at], onward)
        return np.where(np.isnan(outside), inside + onward, between)

    def start(self, at: Ints, u: Floats) -> Floats:
        """Minimisers expected at u: on the line through two known ones that are not far apart.

        Far out a profile can end in another valley, and no start nearby leaves it.
        """
        inside, theta = self.u_in[at], self.theta_in[:, at]
        size = np.abs(self.theta_out[:, at] - theta).max(axis=0)
        known = size <= 0.1 + np.abs(theta).max(axis=0)
        other = np.where(known, self.theta_out[:, at], self.theta_was[:, at])
        ratio = (u - inside) / (np.where(known, self.u_out[at], self.u_was[at]) - inside)
        line = theta + ratio * (other - theta)
        near = np.isfinite(line).all(axis=0) & (np.abs(ratio) <= GROWTH)
        return np.where(near, line, theta)

    def narrow(self, at: Ints) -> Bools:
        """Whether inside and outside are as close as rounding allows."""
        width = np.abs(self.u_out[at] - self.u_in[at])
        return width <= NARROW * (np.abs(self.u_in[at]) + np.abs(self.step[at]))

    def record(self, at: Ints, u: Floats, f: Floats, theta: Floats) -> None:
        """Take in new points."""
        is_in, is_out = f < 0.0, f >= 0.0
        for which, other, row in ((is_in, 1, -1.0), (is_out, 0, 1.0)):
            again = at[which & (self.last[at] == row)]
            self.weight[other, again] *= 0.5
            self.weight[1 - other, at[which]] = 1.0
        self.last[at] = np.where(is_in, -1.0, 1.0)
        moved, passed = at[is_in], at[is_out]
        self.u_was[moved], self.f_was[moved] = self.u_in[moved], self.f_in[moved]
        self.theta_was[:, moved] = self.theta_in[:, moved]
        self.u_in[moved], self.f_in[moved] = u[is_in], f[is_in]
        self.theta_in[:, moved] = theta[:, is_in]
        self.u_out[passed], self.f_out[passed] = u[is_out], f[is_out]
        self.theta_out[:, passed] = theta[:, is_out]


def likelihood_limits(profile: ProfileDeviance, bounds: Bounds, lowest: Floats, z: float) -> Floats:
    """Limits (2, N) in u: low and high; NaN where none could be found.

    Args:
        profile: the deviance of N lanes with one parameter of each fixed.
        bounds: of their parameters, which are the limits where d_p has not risen by z².
        lowest: (N,) d̂.
        z: the quantile; 1.96 for 95 %.
    """
    N = len(lowest)
    lane_index, side = np.tile(np.arange(N), 2), np.repeat([-1.0, 1.0], N)
    estimate, step = profile.estimate[lane_index], side * profile.step[lane_index] * z
    theta = profile.theta[:, lane_index]
    end, rise = bounds.at.ravel(), bounds.rise.ravel().copy()
    if bounds.cap is not None:
        # Every value is admitted: both bounds are limits, and nothing needs to be found.
        rise = np.where(np.tile(bounds.cap < z**2, 2), 0.0, rise)
    ask = np.flatnonzero(~np.isnan(end) & np.isnan(rise))
    if len(ask):
        rise[ask], _, _ = profile_rise(profile, lane_index[ask], end[ask], theta[:, ask], lowest)
    search = _Search.begin(estimate, theta, end, rise, step, z)
    limit = np.where(search.f_out <= 0.0, end, np.nan)
    active = np.flatnonzero(~(search.f_out <= 0.0))
    lower = np.zeros(2 * N, bool)
    for _ in range(MAX_STEPS):
        if not len(active):
            break
        u = search.propose(active)
        start = search.start(active, u)
        rises, theta, converged = profile_rise(profile, lane_index[active], u, start, lowest)
        lower[active] |= ~(rises > -LOWER_TOL)
        f = np.sqrt(np.maximum(rises, 0.0)) - z
        done = (np.abs(f) < ZETA_TOL) | search.narrow(active)
        limit[active[done]] = np.where(converged, u, np.nan)[done]
        search.record(active, u, f, theta)
        active = active[~done & ~lower[active]]
    return np.where(lower, np.nan, limit).reshape(2, N)
