"""Profile likelihood intervals of every parameter of many fits at once, in the user's units."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields

import numpy as np

from jaxhlm.core.notation import Floats, Ints
from jaxhlm.core.status import Status
from jaxhlm.inference.criteria import normal_limit
from jaxhlm.inference.likelihood_limits import Bounds, likelihood_limits, profile_rise
from jaxhlm.inference.parameters import Parameter
from jaxhlm.inference.profile_coordinates import (
    coefficient_profiles,
    concatenated,
    correlation_profiles,
    sd_profiles,
    sigma_profile,
)
from jaxhlm.inference.profile_deviance import ProfileDeviance
from jaxhlm.inference.reduced_models import reduced_minimum
from jaxhlm.likelihood.covariance import Blocks
from jaxhlm.optimise.options import Options
from jaxhlm.optimise.solve import Solution, solve
from jaxhlm.statistics.response import Standardised

__all__ = ["profile_curves", "profile_limits"]

# Lanes × groups that are worked on together, so that arrays stay in the cache.
TILE_NUMBERS = 2**17

# Lanes at their ML solution; what dropping an effect costs there; profiles of one kind.
Optimum = tuple[Standardised, Solution, Blocks]
DropCosts = dict[int, Floats]
KindOfProfiles = tuple[ProfileDeviance, Bounds]


def profile_limits(
    standardised: Standardised, blocks: Blocks, wanted: Sequence[Parameter], level: float
) -> Floats:
    """Profile likelihood limits (B, P, 2) of B lanes.

    Args:
        standardised: standardised lanes.
        blocks: columns of Z in each random term.
        wanted: the P parameters.
        level: confidence level.
    """
    B = standardised.stats.yy.shape[-1]
    G = len(standardised.stats.m)
    size = max(1, TILE_NUMBERS // (G * 2 * len(wanted)))
    pieces = [np.arange(first, min(first + size, B)) for first in range(0, B, size)]
    z = normal_limit(level)
    with np.errstate(all="ignore"):
        return np.concatenate([_limits(standardised.take(p), blocks, wanted, z) for p in pieces])


def profile_curves(
    standardised: Standardised,
    blocks: Blocks,
    wanted: Sequence[Parameter],
    level: float,
    points: int,
) -> Floats:
    """(P, points, 2) values and ζ of one fit's profiles, from limit to limit of ``level``.

    Args:
        standardised: one standardised lane.
        blocks: columns of Z in each random term.
        wanted: the P parameters.
        level: confidence level that the profiles reach to.
        points: odd number of points, the one in the middle at the estimate.
    """
    out = np.full((len(wanted), points, 2), np.nan)
    z, half = normal_limit(level), points // 2
    with np.errstate(all="ignore"):
        for which, _, best, profile, bounds in _profile_lanes(standardised, blocks, wanted):
            lowest = np.tile(best.value, len(which))
            limits = likelihood_limits(profile, bounds, lowest, z)
            lane_index = np.arange(len(which))
            for limit, side in zip(limits, (-1, 1), strict=True):
                theta, estimate = profile.theta, profile.user(profile.estimate)
                out[which, half] = np.stack([estimate, 0.0 * lowest], axis=1)
                for step in range(1, half + 1):
                    u = profile.estimate + (limit - profile.estimate) * step / half
                    rise, theta, _ = profile_rise(profile, lane_index, u, theta, lowest)
                    value = profile.user(u)
                    zeta = np.sign(value - estimate) * np.sqrt(np.maximum(rise, 0))
                    out[which, half + side * step] = np.stack([value, zeta], axis=1)
    order = np.argsort(out[:, :, 0], axis=1)
    return np.take_along_axis(out, order[:, :, None], axis=1)


def _limits(
    standardised: Standardised, blocks: Blocks, wanted: Sequence[Parameter], z: float
) -> Floats:
    out = np.full((len(standardised.status), len(wanted), 2), np.nan)
    for which, good, best, profile, bounds in _profile_lanes(standardised, blocks, wanted):
        lowest = np.tile(best.value, len(which))
        limits = np.sort(profile.user(likelihood_limits(profile, bounds, lowest, z)), axis=0)
        limits = limits.reshape(2, len(which), len(good))
        out[good[:, None], which] = np.moveaxis(limits, 0, -1).swapaxes(0, 1)
    return out


def _profile_lanes(
    standardised: Standardised, blocks: Blocks, wanted: Sequence[Parameter]
) -> Iterator[tuple[Ints, Ints, Solution, ProfileDeviance, Bounds]]:
    """Positions in ``wanted`` of one kind, the lanes that could be fitted, and their profiles."""
    options = Options(False, blocks)
    best = solve(standardised.stats, options)
    good = np.flatnonzero(best.converged & (standardised.status == Status.CONVERGED))
    if not len(good):
        return
    best = Solution(*(getattr(best, f.name)[..., good] for f in fields(best)))
    standardised = standardised.take(good)
    optimum = standardised, best, blocks
    variances = sorted({a for w in wanted if w.kind in ("sd", "cor") for a in w.at})
    drop_costs = {a: reduced_minimum(standardised, options, a) - best.value for a in variances}
    for kinds, set_up in (
        (("sd", "sigma"), _scales),
        (("cor",), _correlations),
        (("fixed",), _fixed),
    ):
        which = np.array([i for kind in kinds for i, w in enumerate(wanted) if w.kind == kind], int)
        if len(which):
            profile, bounds = set_up(optimum, [wanted[i] for i in which], drop_costs)
            yield which, good, best, profile, bounds


def _scales(optimum: Optimum, wanted: Sequence[Parameter], drop_costs: DropCosts) -> KindOfProfiles:
    """Standard deviations end at 0, the reduced model without their effect; σ does not end."""
    random = [w.at[0] for w in wanted if w.kind == "sd"]
    profiles = sd_profiles(*optimum, random)
    if len(random) < len(wanted):
        profiles.append(sigma_profile(*optimum))
    at, rise = np.full((2, 2, len(profiles), len(profiles[0].estimate)), np.nan)
    at[0, : len(random)] = 0.0
    for i, a in enumerate(random):
        rise[0, i] = drop_costs[a]
    return concatenated(profiles), Bounds(at.reshape(2, -1), rise.reshape(2, -1))


def _correlations(
    optimum: Optimum, wanted: Sequence[Parameter], drop_costs: DropCosts
) -> KindOfProfiles:
    """Correlations end at ±1; no rise beyond that of dropping one of the two is needed."""
    pairs = [(w.at[0], w.at[1]) for w in wanted]
    without = np.concatenate([np.minimum(drop_costs[a], drop_costs[b]) for a, b in pairs])
    at = np.array([-np.pi / 2, np.pi / 2])[:, None] + np.zeros_like(without)
    profile = concatenated(correlation_profiles(*optimum, pairs))
    return profile, Bounds(at, np.full_like(at, np.nan), without)


def _fixed(optimum: Optimum, wanted: Sequence[Parameter], drop_costs: DropCosts) -> KindOfProfiles:
    """Fixed effects do not end."""
    profile = concatenated(coefficient_profiles(*optimum, [w.at[0] for w in wanted]))
    nowhere = np.full((2, len(profile.estimate)), np.nan)
    return profile, Bounds(nowhere, nowhere)
