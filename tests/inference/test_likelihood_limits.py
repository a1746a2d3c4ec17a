"""Likelihood limits of profiles that are known in closed form."""

from dataclasses import dataclass, field, fields, replace

import numpy as np
import pytest

import tolerances as tol
from jaxhlm.inference import likelihood_limits as search
from jaxhlm.inference.likelihood_limits import Bounds, likelihood_limits, profile_rise
from jaxhlm.inference.profile_deviance import ProfileDeviance
from jaxhlm.likelihood.suffstats import Stats

Z = 1.96
LOWEST = 40.0


@dataclass(frozen=True)
class Known(ProfileDeviance):
    """d(u, θ) = LOWEST + ζ(v)² + w² + quartic w⁴ + (θ₂² − 1)², w = θ₁ − v and v = (u − û) / se.

    ζ = (e^{bv} − 1)/b is a line where b is 0, and ends at −1/b on one side.

    Attributes:
        bend: (N,) b.
        se: (N,) one standard error.
        asked: how many lanes were asked for, call by call.
        evaluated: the same, evaluation by evaluation.
    """

    bend: np.ndarray
    se: np.ndarray
    quartic: float = 1.0
    asked: list[int] = field(default_factory=list)
    evaluated: list[int] = field(default_factory=list)

    def objective(self, lane_index, u):
        self.asked.append(len(lane_index))
        v = (u - self.estimate[lane_index]) / self.se[lane_index]

        def objective(theta):
            self.evaluated.append(len(lane_index))
            first, second = theta[0] - v, theta[1] ** 2 - 1.0
            value = (
                LOWEST
                + self.zeta(v, lane_index) ** 2
                + first**2
                + self.quartic * first**4
                + second**2
            )
            grad = np.stack([2.0 * first + 4.0 * self.quartic * first**3, 4.0 * theta[1] * second])
            hess = np.zeros((2, 2, len(v)))
            hess[0, 0], hess[1, 1] = (
                2.0 + 12.0 * self.quartic * first**2,
                12.0 * theta[1] ** 2 - 4.0,
            )
            return value, grad, hess, ()

        return objective

    def zeta(self, v, lane_index=slice(None)):
        b = np.where(self.bend[lane_index] == 0.0, 1e-9, self.bend[lane_index])
        return np.expm1(b * v) / b

    def limits(self, z=Z):
        """v where ζ = ∓ z, NaN where it ends before."""
        b = np.where(self.bend == 0.0, 1e-9, self.bend)
        with np.errstate(invalid="ignore"):
            return np.log1p(np.outer([-z, z], b)) / b

    def user(self, u):
        return u

    @property
    def diagonal(self):
        return np.array([[False], [True]]) & np.ones(self.theta.shape, bool)


def known(bend, wrong=1.0):
    """Lanes of any size, whose steps are ``wrong`` standard errors."""
    rng, N = np.random.default_rng(1), len(bend)
    stats = Stats(*[None] * 10)._replace(n=np.full(N, 50.0), m=np.ones((5, 1)))
    se = 10.0 ** rng.uniform(-3.0, 3.0, N)
    theta = np.stack([np.zeros(N), np.ones(N)])
    estimate = 5.0 * rng.normal(size=N)
    return Known(((0,), (1,)), stats, theta, estimate, wrong * se, np.asarray(bend, float), se)


def limits(profile, at=np.nan, rise=np.nan, cap=None, lowest=LOWEST, z=Z):
    """As multiples of a standard error."""
    both = np.ones((2, len(profile.se)))
    bounds = Bounds(profile.estimate + profile.se * at * both, rise * both, cap)
    with np.errstate(all="ignore"):
        found = likelihood_limits(profile, bounds, np.full(len(profile.se), lowest), z)
    return (found - profile.estimate) / profile.se


BENDS = np.linspace(-0.5, 0.5, 41)


# Steps and evaluations for each limit.
COST = {0.05: (8.1, 22.0), 1.0: (6.1, 20.0), 4.0: (10.0, 60.0)}


@pytest.mark.parametrize("wrong", COST)
def test_limits_of_profiles_in_closed_form(wrong):
    """In few steps, however long the first is: the secant rule on ζ."""
    profile = known(BENDS, wrong)
    np.testing.assert_allclose(limits(profile), profile.limits(), rtol=tol.PROFILE_UNITS)
    spent = np.array([sum(profile.asked), sum(profile.evaluated)])
    assert (spent <= np.array(COST[wrong]) * 2 * len(BENDS)).all()


def test_a_straight_profile_takes_one_step():
    profile = known(np.zeros(5))
    np.testing.assert_allclose(limits(profile), profile.limits(), rtol=tol.PROFILE_UNITS)
    assert profile.asked == [10]


def test_no_limit_where_the_profile_never_rises_so_far():
    """NaN on that side, beside lanes that are not harmed."""
    profile = replace(known([0.0, 0.7, -0.7, 2.0]), quartic=0.0)
    np.testing.assert_allclose(limits(profile), profile.limits(), rtol=tol.PROFILE_UNITS)


class Dipping(Known):
    """A profile that falls again before it rises to a limit, about 3.3 standard errors off."""

    def zeta(self, v, lane_index=slice(None)):
        return 0.5 * v + np.sin(2.0 * v)


def test_a_profile_that_falls_on_the_way_to_its_limit():
    profile = known(np.zeros(20), wrong=0.4)
    profile = Dipping(**{f.name: getattr(profile, f.name) for f in fields(profile)})
    found = limits(profile)
    np.testing.assert_allclose(profile.zeta(found), [[-Z] * 20, [Z] * 20], rtol=tol.PROFILE_UNITS)
    np.testing.assert_allclose(np.abs(found), 3.3, atol=tol.printed(1))


class Jumping(Known):
    """A profile that leaps over every limit 1.5 standard errors off, to another valley."""

    def zeta(self, v, lane_index=slice(None)):
        return 0.3 * v + 3.0 * np.sign(v) * (np.abs(v) > 1.5)


def test_a_profile_that_leaps_ends_there():
    profile = known(np.zeros(40))
    profile = Jumping(**{f.name: getattr(profile, f.name) for f in fields(profile)})
    digits = np.abs(profile.estimate / profile.se) + 1.0
    assert (np.abs(np.abs(limits(profile)) - 1.5) < tol.SMALL * digits).all()


def test_a_search_that_runs_out_of_steps_finds_nothing(monkeypatch):
    monkeypatch.setattr(search, "MAX_STEPS", 2)
    profile = known(BENDS[BENDS != 0.0])
    assert np.isnan(limits(profile, [[-2.3], [2.3]], (Z + 0.5) ** 2)).all()


def test_ends():
    """They are limits where the profile has not risen by z² there, and else beyond a limit."""
    profile, at = known(BENDS), np.array([[-4.0], [9.0]])
    np.testing.assert_allclose(limits(profile, at / 9.0), at / 9.0 + np.zeros(41))
    expected = np.clip(profile.limits(), *at)
    assert (expected == at).sum() == 4
    rise = profile.zeta(at) ** 2
    for given in (np.nan, rise):
        profile.asked.clear()
        np.testing.assert_allclose(limits(profile, at, given), expected, rtol=tol.PROFILE_UNITS)
        assert sum(profile.asked) <= 10 * 2 * len(BENDS)


@pytest.mark.parametrize("z", [0.3, Z])
def test_a_cap_that_is_not_reached_makes_both_ends_limits(z):
    profile, at, low = known(BENDS), np.array([[-4.0], [9.0]]), BENDS < 0.0
    found = limits(profile, at, cap=np.where(low, 0.99, 1.01) * z**2, z=z)
    np.testing.assert_allclose(found[:, low], at + np.zeros(20))
    expected = np.clip(profile.limits(z), *at)
    np.testing.assert_allclose(found[:, ~low], expected[:, ~low], rtol=tol.PROFILE_UNITS)
    assert max(profile.asked) == 42


@pytest.mark.parametrize(("above", "found"), [(0.5e-4, True), (1.5e-4, False)])
def test_a_profile_lower_than_the_fit_has_no_limits(above, found):
    """Beyond what an optimum may be off: the limits would not be those of a likelihood."""
    profile = known([0.0], wrong=1e-3)
    assert np.isfinite(limits(profile, lowest=LOWEST + above)).all() == found


def test_the_rise_from_starts_far_off_and_on_a_saddle():
    """θ₂ = 0 is a saddle, and a minimiser below zero is reflected."""
    profile, v = known(BENDS), np.linspace(-2.0, 2.0, 41)
    for start in ([0.0, 0.0], [50.0, -3.0], [-1e3, 1e-4]):
        with np.errstate(all="ignore"):
            rise, theta, settled = profile_rise(
                profile,
                np.arange(41),
                profile.estimate + v * profile.se,
                np.repeat(np.array(start)[:, None], 41, axis=1),
                np.full(41, LOWEST),
            )
        assert settled.all()
        np.testing.assert_allclose(rise, profile.zeta(v) ** 2, atol=tol.CRITERION)
        np.testing.assert_allclose(theta, [v, np.ones(41)], atol=tol.ESTIMATE)


class Kinked(Known):
    """d = LOWEST + ζ² + |θ₁ − v|, whose decrement is never small."""

    def objective(self, lane_index, u):
        v = (u - self.estimate[lane_index]) / self.se[lane_index]

        def objective(theta):
            w = theta[0] - v
            value = LOWEST + self.zeta(v, lane_index) ** 2 + np.abs(w)
            hess = np.repeat(np.eye(2)[:, :, None], len(v), axis=2)
            return value, np.stack([np.sign(w), np.zeros_like(w)]), hess, ()

        return objective


def test_a_minimum_where_newton_stops_short_is_one_if_it_falls_no_further():
    profile, v = known(BENDS), np.linspace(-2.0, 2.0, 41)
    profile = Kinked(**{f.name: getattr(profile, f.name) for f in fields(profile)})
    u, start = profile.estimate + v * profile.se, np.full((2, 41), 0.77)
    with np.errstate(all="ignore"):
        rise, _, settled = profile_rise(profile, np.arange(41), u, start, np.full(41, LOWEST))
    assert settled.all()
    np.testing.assert_allclose(rise, profile.zeta(v) ** 2, atol=tol.CRITERION)
