"""The lowest of several minima: with one variance all of its range, with more from many starts."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
import tolerances as tol
from jaxhlm import reference
from jaxhlm.core.status import Status
from jaxhlm.estimation.estimates import user_criterion
from jaxhlm.estimation.pipeline import Prepared
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.optimise import scan
from jaxhlm.optimise import solve as solve_module
from jaxhlm.optimise.boundary import kkt_violations
from jaxhlm.optimise.criterion import minimise_criterion
from jaxhlm.optimise.loop import NEWTON, OptimizeResult
from jaxhlm.optimise.options import Options
from jaxhlm.optimise.scan import bracketed
from jaxhlm.optimise.search import unsettled
from jaxhlm.optimise.solve import solve
from jaxhlm.optimise.start import START_FLOOR
from places import DATA

# Half of what is drawn here ends on the boundary.
pytestmark = pytest.mark.filterwarnings("ignore::jaxhlm.errors.SingularFitWarning")


# Formula, REML, the lowest known criterion (all of lme4's optimisers; of ``8_groups``, where the
# first descent crawls beyond its 100 steps, 30 starts of L-BFGS-B), and whether it is singular.
KNOWN = {
    "intercept": ("y ~ x + b + (1 | g)", True, 1704.35489, False),
    "60_groups": ("y ~ x + z + (1 + x | g) + (0 + z | g)", True, 2573.78165, True),
    "4_groups": ("y ~ x + z + w + (1 + x + z || g)", True, 624.03623, True),
    "9_groups": ("y ~ x + z + (x + z | g)", True, 171.28820, False),
    "8_groups": ("y ~ x + (1 + x + z | g)", False, 247.10144, True),
}
LONG = ("60_groups", "8_groups")


# Where the optimiser stops on ``minima_3_groups``: the second pivot is zero, and the entries of Λ
# that could follow the third variance into its row are not free.
FALSE_STOP = (41.07328869, 59.76829832, -96.18578868, 0.0, 0.0, 105.34711391)


@cache
def known(name):
    return pd.read_csv(DATA / f"minima_{name}.csv")


@pytest.mark.parametrize(
    "name", [pytest.param(k, marks=[pytest.mark.slow] * (k in LONG)) for k in KNOWN]
)
def test_known_data_sets_reach_the_lowest(name):
    """One fit, and the same data in a batch among harmless ones."""
    formula, reml, lowest, singular = KNOWN[name]
    frame = known(name)
    fit = hlm.fit(formula, frame, reml)
    assert fit.status == (Status.SINGULAR if singular else Status.CONVERGED)
    np.testing.assert_allclose(fit.criterion, lowest, atol=tol.LOWEST)
    harmless = np.random.default_rng(1).normal(size=(len(frame), 40))
    Y = np.column_stack([frame["y"], harmless])
    fits = hlm.fit_many(formula, frame, Y, reml=reml, progress=False)
    np.testing.assert_allclose(fits.criterion.iloc[0], fit.criterion, atol=tol.CRITERION)
    np.testing.assert_allclose(
        fits.varcorr.cov[0], fit.varcorr.cov, rtol=tol.ESTIMATE, atol=tol.ZERO_VARIANCE
    )


def test_a_zero_pivot_before_others_is_left_if_it_is_no_minimum():
    """The criterion of 136.977 there falls to 136.880 once the zero pivot comes last."""
    design = hlm.design("y ~ x + z + b + (1 + x + z | g)", known("3_groups"))
    standardised = Prepared(design).reduce_responses(known("3_groups")[["y"]].to_numpy())
    start, options = np.array(FALSE_STOP)[:, None], Options(reml=False, blocks=design.blocks)
    stop = minimise_criterion(standardised.stats, start, NEWTON, options, max_iter=1)
    assert stop.gradient_norm < tol.GRADIENT
    lane_index, _ = kkt_violations(
        stop._replace(converged=np.array([True])), standardised.stats, design.blocks
    )
    assert lane_index.tolist() == [0]
    fit = hlm.fit(design.formula, known("3_groups"), reml=False)
    value = user_criterion(stop.value, standardised.scaling, design.n, reml=False)
    np.testing.assert_allclose(
        [value.item(), fit.criterion], [136.976556, 136.880445], atol=tol.printed(6)
    )


@pytest.mark.parametrize(("n", "G"), [(12, 4), (3000, 150)])
def test_what_is_left_and_where_to(n, G):
    """By the derivative in a new variance, the Newton decrement ½ tr(F₊D), and rounding of it."""
    across, along = np.array([[-np.sin(0.4), np.cos(0.4)], [np.cos(0.4), np.sin(0.4)]])
    slopes = [(-0.7e-6 * n, 0.0), (-1.5e-6 * n, 0.0), (1.0, 1.4e-8), (1.0, 3e-8), (1e4, 1.6e-7),
              (1e4, 3e-7)]  # fmt: skip
    F = [a * np.outer(across, across) + b * np.outer(along, along) for a, b in slopes]
    B = len(slopes)
    theta = np.repeat([[along[0]], [along[1]], [0.0]], B, axis=1)
    found = OptimizeResult(
        theta, np.zeros(B), None, {"F": np.stack(F, axis=-1)}, np.ones(B, bool), None
    )
    stats = Stats(*[None] * 10)._replace(n=np.array([1.0 * n]), m=np.ones((G, 1)))
    lane_index, D = kkt_violations(found, stats, ((0, 1),))
    assert lane_index.tolist() == [1, 3, 5]
    expected = np.repeat(np.outer(along, along)[None], B, axis=0)
    expected[1] += START_FLOOR * G / n * np.outer(across, across)
    np.testing.assert_allclose(D, expected, atol=tol.SMALL)


# Hard designs: few groups, many, one that dominates; and hard responses on them.

SIZES = {
    # Of up to 16 groups as the next, so that one program fits both.
    "5 groups": (5, 7, 4, 6, 5),
    "dominated": (60, *(3,) * 14),
    "45 groups": tuple(np.random.default_rng(2).integers(1, 9, size=45)),
}
TERMS = ("(1 | g)", "(1 + x | g)", "(1 + x || g)", "(1 + x | g) + (0 + z | g)")


def draw(rng, size):
    """Normal, or with tails of a t of 1.5 degrees of freedom, of any scale."""
    values = rng.standard_t(1.5, size) if rng.random() < 0.7 else rng.normal(size=size)
    return values * 10.0 ** rng.uniform(-1.5, 1.5)


@cache
def hard_design(sizes):
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(len(SIZES[sizes])), SIZES[sizes])
    x, z = rng.normal(size=(2, len(g))) * 10.0 ** rng.uniform(-0.7, 0.7, size=len(g))
    return pd.DataFrame({"g": g, "x": x, "z": z})


@cache
def hard_responses(sizes, B=60):
    frame, rng = hard_design(sizes), np.random.default_rng(4)
    Z = np.column_stack([np.ones(len(frame)), frame["x"], frame["z"]])
    Y = np.empty((len(frame), B))
    for y in Y.T:
        b = np.column_stack([draw(rng, len(SIZES[sizes])) for _ in range(3)])
        y[:] = (Z * b[frame["g"]]).sum(axis=1) + draw(rng, len(frame))
    return Y


@cache
def hard_fits(sizes, term):
    return hlm.fit_many(f"~ x + z + {term}", hard_design(sizes), hard_responses(sizes))


@pytest.mark.slow
@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("sizes", SIZES)
def test_hard_data_sets_reach_the_lowest_known(sizes, term):
    """No start of the reference's leads lower."""
    fits = hard_fits(sizes, term)
    design, Y = hlm.design(f"~ x + z + {term}", hard_design(sizes)), hard_responses(sizes)
    for i in np.flatnonzero(fits.ok)[:8]:
        lowest = reference.fit(Y[:, i], design.X, design.Z, design.group, True, None, design.blocks)
        assert fits.criterion.iloc[i] < lowest.criterion + tol.CRITERION


@pytest.mark.slow
@pytest.mark.parametrize("term", TERMS)
def test_the_answer_does_not_depend_on_the_batch(term):
    """A lane searched among others, among few, and alone."""
    fits, Y = hard_fits("dominated", term), hard_responses("dominated")
    formula, frame = f"~ x + z + {term}", hard_design("dominated")
    few = hlm.fit_many(formula, frame, Y[:, :2], progress=False)
    many = hlm.fit_many(formula, frame, np.tile(Y, 10), progress=False)
    np.testing.assert_allclose(many.criterion[:60], many.criterion[-60:], atol=tol.CRITERION)
    for other in (few, many):
        count = min(len(other), len(fits))
        assert (other.status[:count] == fits.status[:count]).all()
        np.testing.assert_allclose(
            other.criterion[:count], fits.criterion[:count], atol=tol.CRITERION
        )


# One variance.


def dense_values(stats, reml, theta):
    """The criterion at every θ (S,) of every lane, (S, B)."""
    options = Options(reml, ((0,),))
    B = stats.yy.shape[-1]
    with solve_module.jax_config_scope():
        return np.array(
            [solve_module._minimise(stats, np.full((1, B), t), options, 1).value for t in theta]
        )


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("sizes", SIZES)
def test_no_point_of_the_range_is_lower_than_the_minimum(sizes, reml):
    design = hlm.design("~ x + z + (1 | g)", hard_design(sizes))
    stats = Prepared(design).reduce_responses(hard_responses(sizes)).stats
    found = solve(stats, Options(reml, design.blocks))
    values = dense_values(stats, reml, 10.0 ** np.linspace(-4, 4, 60))
    assert found.converged.all()
    assert (found.value <= values.min(axis=0) + tol.CRITERION).all()


def scanned(sizes, own=False, columns=0):
    """A design, statistics of four hard lanes, and the same lanes first, as the scan has them."""
    frame, names = hard_design(sizes), [f"v{j}" for j in range(columns)]
    frame = frame.assign(
        **dict(zip(names, np.random.default_rng(5).normal(size=(columns, len(frame))), strict=True))
    )
    design = hlm.design(f"~ {' + '.join(['x', 'z', *names])} + (1 | g)", frame)
    stats = Prepared(design).reduce_responses(hard_responses(sizes)[:, :4]).stats
    all_lanes = (
        stats if not own else Stats(*(np.broadcast_to(x, (*x.shape[:-1], 4)) for x in stats))
    )
    return design, stats, scan._lanes_first(all_lanes, slice(None))


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("columns", [0, 16])
def test_the_scan_is_the_criterion(reml, own, columns):
    """But for a constant, whether lanes share a design, with few columns and with many."""
    _, stats, lanes_first = scanned("45 groups", own, columns)
    tau = np.geomspace(1e-3, 1e3, 7)
    r2 = lanes_first.RZ[:, :, 0, 0] ** 2
    found = scan._criterion(lanes_first, r2, np.tile(tau, (len(r2), 1)), reml)
    expected = dense_values(stats, reml, np.sqrt(tau)).T
    np.testing.assert_allclose(
        found - found[:, :1], expected - expected[:, :1], rtol=tol.CRITERION, atol=tol.CRITERION
    )


@pytest.mark.parametrize("sizes", SIZES)
def test_the_scan_has_a_point_beside_every_pole(sizes):
    """From before 1/max μ to after 1/min μ, μ the eigenvalues of K'ZZ'K that are not zero."""
    design, _, lanes_first = scanned(sizes)
    (grid,) = scan._grid(lanes_first, lanes_first.RZ[:, :, 0, 0] ** 2)
    np.testing.assert_allclose(np.diff(grid), scan.SPACING, rtol=tol.SMALL)
    # Standardised, a column of Z has mean square 1: here it is the intercept.
    Z = (design.group[:, None] == np.unique(design.group)) * 1.0
    basis = np.linalg.qr(design.X)[0]
    mu = np.linalg.svd(Z - basis @ (basis.T @ Z))[1] ** 2
    mu = mu[mu > 1e-8]
    first, last = np.log(scan.MARGIN / mu.max()), -np.log(scan.MARGIN * mu.min())
    # The largest μ may be that of the largest group, and the grid begins there.
    assert grid[0] - tol.ROUNDED * abs(first) <= first <= grid[0] + 2.0
    assert grid[-1] >= last > grid[-1] - 7.0


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_the_grid_of_the_scan_has_the_unit_of_the_groups(unit):
    """τr² is what counts; a group whose r² is rounding beside the largest has no pole."""
    _, _, lanes_first = scanned("dominated")
    r2 = lanes_first.RZ[:, :, 0, 0] ** 2
    zero = np.concatenate([r2[:, :-1], 1e-12 * r2.max(axis=1, keepdims=True)], axis=1)
    expected = scan._grid(lanes_first, r2) - np.log(unit)
    for given in (r2, zero):
        np.testing.assert_allclose(scan._grid(lanes_first, unit * given), expected, rtol=tol.SMALL)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("sizes", SIZES)
def test_the_scan_brackets_the_lowest(sizes, reml):
    """Beside the lowest point of a line four times as fine; zero where that is lowest."""
    _, stats, lanes_first = scanned(sizes)
    line = scan.bracketed(stats, reml)
    (grid,) = scan._grid(lanes_first, lanes_first.RZ[:, :, 0, 0] ** 2)
    tau = np.exp(np.linspace(grid[0], grid[-1], 4 * len(grid)))
    values = dense_values(stats, reml, np.sqrt([0.0, *tau]))
    lowest = values.argmin(axis=0)
    np.testing.assert_array_equal(line.at_zero[0], lowest == 0)
    inner = lowest > 0
    away = 2.0 * np.log(line.theta[0, inner]) - np.log(tau[lowest[inner] - 1])
    assert np.abs(away).max() < 0.25
    np.testing.assert_allclose(line.theta[0, ~inner], np.exp(grid[0] / 2.0), rtol=tol.SMALL)


def test_the_scan_starts_beside_the_lowest_of_two_minima():
    """The other one, at zero, is 19 higher: no ripple of the grid could make it the lowest."""
    frame = known("intercept")
    design = hlm.design("y ~ x + b + (1 | g)", frame)
    stats = Prepared(design).reduce_responses(frame[["y"]].to_numpy()).stats
    line, found = bracketed(stats, True), solve(stats, Options(True, design.blocks))
    assert not line.at_zero[0, 0]
    assert np.isnan(line.theta[1:]).all()
    np.testing.assert_allclose(line.theta[0], found.theta[0], rtol=tol.SCAN)
    assert found.iterations <= 5


# When to stop.


def test_more_starts_follow_until_no_more_minima_are_expected():
    one, two = np.ones((12, 1)), np.r_[np.ones((11, 1)), [[2.0]]]
    assert not unsettled(one).any()
    assert unsettled(two).all()
    assert not unsettled(np.r_[two, np.ones((16, 1))]).any()
    assert not unsettled(np.full((3, 1), np.nan)).any()
