"""Draws: their seeds, their first two moments, and that weights count."""

import jax
import numpy as np
import pytest

import jaxhlm as hlm
import tolerances as tol
from cases import rows
from jaxhlm.core.streams import random_key
from jaxhlm.errors import OptionError
from jaxhlm.statistics.simulate_rows import simulate_rows

SIZES = (3, 1, 4)
BETA, SIGMA = np.array([1.0, -2.0]), 0.7
COV = np.array([[1.0, 0.6], [0.6, 0.8]])
N = 20_000


def design():
    _, X, Z, group = rows(np.random.default_rng(0), SIZES, 2, 2)
    return X, Z, group


def draw(n, seed=1, cov=COV, sigma=SIGMA, **options):
    X, Z, group = design()
    return simulate_rows(X, Z, group, len(SIZES), BETA, cov, sigma, n, seed, **options)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("cov", [COV, np.diag([1.0, 0.0]), np.ones((2, 2))], ids=str)
def test_mean_and_covariance(weighted, cov):
    """Within five Monte-Carlo standard errors of Xβ and ZΣZ' + σ²/w, singular Σ included."""
    X, Z, group = design()
    w = np.linspace(0.2, 4.0, len(group)) if weighted else None
    Y = draw(N, cov=cov, weights=w)
    assert Y.shape == (len(group), N)
    V = np.where(group[:, None] == group, Z @ cov @ Z.T, 0.0)
    V += SIGMA**2 * np.diag(np.ones(len(group)) if w is None else 1 / w)
    variances = np.diag(V)
    assert (np.abs(Y.mean(axis=1) - X @ BETA) < 5 * np.sqrt(variances / N)).all()
    error = np.sqrt((np.outer(variances, variances) + V**2) / N)
    assert (np.abs(np.cov(Y) - V) < 5 * error).all()


def test_draws_are_gaussian_and_independent():
    """Skewness and kurtosis of what is left after whitening, and no tie between replicates."""
    X, Z, group = design()
    Y = draw(N) - (X @ BETA)[:, None]
    V = np.where(group[:, None] == group, Z @ COV @ Z.T, 0.0) + SIGMA**2 * np.eye(len(group))
    white = np.linalg.solve(np.linalg.cholesky(V), Y)
    assert np.abs((white**3).mean(axis=1)).max() < 5 * np.sqrt(15 / N)
    assert np.abs((white**4).mean(axis=1) - 3).max() < 5 * np.sqrt(96 / N)
    assert np.abs((white[:, 1:] * white[:, :-1]).mean(axis=1)).max() < 5 / np.sqrt(N)


def test_a_replicate_does_not_depend_on_how_many_are_drawn():
    many = draw(50)
    np.testing.assert_array_equal(draw(7), many[:, :7])
    np.testing.assert_array_equal(draw(7, first=20), many[:, 20:27])
    assert (draw(7, seed=2) != many[:, :7]).all()


def test_no_noise_leaves_the_mean():
    X, *_ = design()
    Y = draw(3, cov=np.zeros((2, 2)), sigma=0.0)
    np.testing.assert_allclose(Y, np.repeat((X @ BETA)[:, None], 3, axis=1), rtol=tol.LAST_BITS)


def data_of(key):
    return key.tolist()


def test_seeds_of_every_kind():
    expected = [0, 7]
    for seed in (7, np.int64(7), jax.random.key(7), jax.random.PRNGKey(7)):
        assert data_of(random_key(seed)) == expected
        np.testing.assert_array_equal(draw(2, seed), draw(2, 7))
    assert data_of(random_key(None)) != data_of(random_key(None))


def test_seeds_that_differ_give_different_streams():
    numbers = [0, 1, -1, 2**32 - 1, 2**32, 2**32 + 1, 2**64, 2**64 + 1, -(2**64), 10**40, -(2**32)]
    keys = [jax.random.key(1, impl="rbg"), jax.random.PRNGKey(2, impl="rbg"), jax.random.key(3)]
    sequences = [np.random.SeedSequence(0), np.random.SeedSequence(0).spawn(1)[0]]
    words = [tuple(data_of(random_key(seed))) for seed in [*numbers, *keys, *sequences]]
    assert len(set(words)) == len(words)
    assert data_of(random_key(np.uint64(2**63 + 5))) == data_of(random_key(2**63 + 5))


@pytest.mark.parametrize(
    "key", [jax.random.split(jax.random.key(1)), jax.numpy.zeros(3), jax.numpy.int32(4)]
)
def test_what_is_no_key_is_refused(key):
    with pytest.raises(OptionError, match="seed="):
        random_key(key)


def test_a_generator_advances():
    generator = np.random.default_rng(5)
    first, second = draw(2, generator), draw(2, generator)
    assert (first != second).all()
    np.testing.assert_array_equal(draw(2, np.random.default_rng(5)), first)


@pytest.mark.parametrize("seed", ["seven", 1.5, [1], True, 1j, np.bool_(True)])
def test_other_seeds_are_refused(seed):
    with pytest.raises(OptionError, match="give an int, a NumPy Generator or SeedSequence"):
        random_key(seed)


@pytest.mark.parametrize("n", [-1, 2.5])
def test_other_numbers_of_replicates_are_refused(n):
    one = np.ones((4, 1))
    with pytest.raises(OptionError, match=f"n={n} must be a whole number"):
        simulate_rows(one, one, np.array([0, 0, 1, 1]), 2, [0.0], [[1.0]], 1.0, n)


def test_fits_simulate_from_their_estimates():
    """Refitting draws from a fit brings its parameters back, on average."""
    fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", hlm.load_dataset("sleepstudy"))
    Y = fit.simulate(400, seed=3)
    fits = hlm.fit_many("~ Days + (1 + Days | Subject)", hlm.load_dataset("sleepstudy"), Y)
    error = (fits.fixef - fit.fixef).mean() / (fit.se / np.sqrt(400))
    assert error.abs().max() < 5
    assert abs(fits.sigma.mean() / fit.sigma - 1) < 0.02
    ratio = fits.fixef.std() / fit.se
    assert ((ratio - 1).abs() < 5 / np.sqrt(2 * 400)).all()
