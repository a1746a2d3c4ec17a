"""Bootstrap intervals from replicates, against SciPy's and by hand."""

import numpy as np
import pytest
from scipy import stats

import tolerances as tol
from jaxhlm import errors
from jaxhlm.resampling.intervals import acceleration, bootstrap_interval

SAMPLE = np.random.default_rng(2).gamma(2.0, size=25)


def jackknife(statistic):
    left_out = [np.delete(SAMPLE, i) for i in range(len(SAMPLE))]
    return np.array([[statistic(x)] for x in left_out])


@pytest.mark.parametrize("level", [0.95, 0.5])
@pytest.mark.parametrize("kind", ["percentile", "basic", "BCa"])
@pytest.mark.parametrize("statistic", [np.mean, np.var], ids=["mean", "variance"])
def test_against_scipy(statistic, kind, level):
    """The same replicates, and the jackknife of the same sample."""
    found = stats.bootstrap(
        (SAMPLE,),
        statistic,
        n_resamples=999,
        confidence_level=level,
        method=kind,
        rng=np.random.default_rng(1),
    )
    replicates = found.bootstrap_distribution[:, None]
    a = acceleration(jackknife(statistic))
    limits = bootstrap_interval(
        kind.lower(), np.array([statistic(SAMPLE)]), replicates, level, ["m"], a
    )
    expected = found.confidence_interval
    np.testing.assert_allclose(np.ravel(limits), [expected.low, expected.high], rtol=tol.INTERVAL)


def test_normal_by_hand():
    replicates = np.array([1.0, 2.0, 3.0, 6.0])[:, None]
    low, high = bootstrap_interval("normal", np.array([2.5]), replicates, 0.95, ["m"])
    half = 1.959963984540054 * np.sqrt(14 / 3)
    np.testing.assert_allclose([low[0], high[0]], [2.0 - half, 2.0 + half], rtol=tol.INTERVAL)


def test_undefined_replicates_are_left_out():
    replicates = np.array([[1.0, np.nan], [np.nan, np.nan], [3.0, np.nan], [2.0, np.nan]])
    low, high = bootstrap_interval("percentile", np.array([2.0, 1.0]), replicates, 0.5, ["a", "b"])
    assert (low[0], high[0]) == (1.5, 2.5)
    assert np.isnan([low[1], high[1]]).all()


def test_an_undefined_estimate_has_no_interval():
    for kind in ("percentile", "basic", "normal", "bca"):
        limits = bootstrap_interval(
            kind, np.array([np.nan]), np.ones((5, 1)), 0.9, ["m"], np.zeros(1)
        )
        assert np.isnan(limits).all()


def test_bca_is_undefined_beyond_all_replicates():
    replicates = np.arange(1.0, 50.0)[:, None]
    limits = bootstrap_interval("bca", np.array([99.0]), replicates, 0.9, ["m"], np.zeros(1))
    assert np.isnan(limits).all()


def test_bca_counts_ties_half():
    replicates = np.concatenate([np.zeros(50), [50.0, 50.0], np.arange(51.0, 99.0)])[:, None]
    found = bootstrap_interval("bca", np.array([50.0]), replicates, 0.9, ["m"], np.zeros(1))
    w = stats.norm.ppf(0.51)
    share = stats.norm.cdf(2 * w + stats.norm.ppf([0.05, 0.95]))
    np.testing.assert_allclose(np.ravel(found), np.quantile(replicates, share), rtol=tol.INTERVAL)


@pytest.mark.parametrize(("end", "away"), [(0.0, 1.0), (-1.0, 1.0), (1.0, -1.0)])
@pytest.mark.parametrize("kind", ["basic", "normal", "bca"])
def test_only_percentiles_hold_at_the_end_of_a_range(end, away, kind):
    """Of a variance of zero, or of a correlation of one: half of the replicates are there too."""
    there = np.full(50, end) * (1.0 - 1e-15)
    replicates = np.concatenate([there, end + away * np.linspace(0.1, 0.5, 50)])[:, None]
    with pytest.warns(errors.DegenerateWarning, match=f"m: no {kind} limits"):
        found = bootstrap_interval(kind, np.array([end]), replicates, 0.9, ["m"], np.zeros(1))
    assert np.isnan(found).all()
    low, high = bootstrap_interval("percentile", np.array([end]), replicates, 0.9, ["m"])
    np.testing.assert_allclose((low if away > 0.0 else high)[0], end, atol=tol.INTERVAL)


def test_infinite_replicates_are_in_their_order():
    """The logarithm of a standard deviation that is zero."""
    replicates = np.concatenate([np.full(30, -np.inf), np.arange(71.0)])[:, None]
    low, high = bootstrap_interval("percentile", np.array([20.0]), replicates, 0.9, ["m"])
    assert (low[0], high[0]) == (-np.inf, 65.0)


def test_acceleration_of_what_never_moves():
    values = np.array([[0.0, 1.0, np.nan], [0.0, 2.0, np.nan], [0.0, 6.0, np.nan]])
    a = acceleration(values)
    assert a[0] == 0.0
    assert np.isnan(a[2])
