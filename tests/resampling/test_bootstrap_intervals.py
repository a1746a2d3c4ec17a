"""Bootstrap intervals from replicates, against SciPy's and by hand."""

import numpy as np
import pytest
from scipy import stats

import tolerances as tol
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
    limits = bootstrap_interval(kind.lower(), np.array([statistic(SAMPLE)]), replicates, level, a)
    expected = found.confidence_interval
    np.testing.assert_allclose(np.ravel(limits), [expected.low, expected.high], rtol=tol.INTERVAL)


def test_normal_by_hand():
    replicates = np.array([1.0, 2.0, 3.0, 6.0])[:, None]
    low, high = bootstrap_interval("normal", np.array([2.5]), replicates, 0.95)
    half = 1.959963984540054 * np.sqrt(14 / 3)
    np.testing.assert_allclose([low[0], high[0]], [2.0 - half, 2.0 + half], rtol=tol.INTERVAL)


def test_undefined_replicates_are_left_out():
    replicates = np.array([[1.0, np.nan], [np.nan, np.nan], [3.0, np.nan], [2.0, np.nan]])
    low, high = bootstrap_interval("percentile", np.array([2.0, 1.0]), replicates, 0.5)
    assert (low[0], high[0]) == (1.5, 2.5)
    assert np.isnan([low[1], high[1]]).all()


def test_an_undefined_estimate_has_no_interval():
    for kind in ("percentile", "basic", "normal", "bca"):
        limits = bootstrap_interval(kind, np.array([np.nan]), np.ones((5, 1)), 0.9, np.zeros(1))
        assert np.isnan(limits).all()


def test_bca_is_undefined_beyond_all_replicates():
    replicates = np.arange(1.0, 50.0)[:, None]
    limits = bootstrap_interval("bca", np.array([99.0]), replicates, 0.9, np.zeros(1))
    assert np.isnan(limits).all()


def test_bca_counts_ties_half():
    """A variance estimated as zero, with half of its replicates zero, stays in the middle."""
    replicates = np.concatenate([np.zeros(50), np.arange(1.0, 51.0)])[:, None]
    found = bootstrap_interval("bca", np.zeros(1), replicates, 0.9, np.zeros(1))
    below = stats.norm.ppf(0.25)
    share = stats.norm.cdf(2 * below + stats.norm.ppf([0.05, 0.95]))
    np.testing.assert_allclose(np.ravel(found), np.quantile(replicates, share), rtol=tol.INTERVAL)


def test_acceleration_of_what_never_moves():
    values = np.array([[0.0, 1.0, np.nan], [0.0, 2.0, np.nan], [0.0, 6.0, np.nan]])
    a = acceleration(values)
    assert a[0] == 0.0
    assert np.isnan(a[2])
