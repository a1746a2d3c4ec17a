"""What the user has set in JAX changes no draw and no estimate, raises nothing, and stays."""

import threading
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxhlm as hlm
import tolerances as tol
from cases import FORMULA
from jaxhlm.core.precision import jax_config_scope
from jaxhlm.core.streams import Streams, random_key
from jaxhlm.errors import failures_counted
from jaxhlm.optimise.solve import FEW_LANES

SETTINGS = {
    "jax_enable_x64": True,
    "jax_threefry_partitionable": False,
    "jax_default_prng_impl": "rbg",
    "jax_legacy_prng_key": "error",
    "jax_debug_key_reuse": True,
    "jax_transfer_guard": "disallow",
    "jax_transfer_guard_host_to_device": "disallow_explicit",
    "jax_thread_guard": True,
    "jax_numpy_rank_promotion": "raise",
    "jax_numpy_dtype_promotion": "strict",
    "jax_debug_nans": True,
    "jax_debug_infs": True,
    "jax_disable_jit": True,
    "jax_check_tracer_leaks": True,
    "jax_default_matmul_precision": "bfloat16",
    "jax_enable_checks": True,
}
KNOWN = {name: value for name, value in SETTINGS.items() if name in jax.config.values}


def numbers():
    """Draws of every kind, and fits of complete, incomplete and unusable responses."""
    data = hlm.load_dataset("article")
    truth = hlm.Truth.of([1, 3, -0.15, 0.3], sd=[0.2, 0.5], corr=0.9, sigma=0.75)
    design = hlm.design("~ x * a + (1 + x | unit)", data)
    yield hlm.simulate(design, truth, 4, seed=1).fit(progress=False).fixef
    rows = hlm.simulate(design, truth, 4, seed=1, statistics=False).rows()
    rows[5, 1], rows[:, 2] = np.nan, 1.0
    with failures_counted():
        fits = hlm.fit_many(FORMULA, data, responses=rows, progress=False)
    boot = hlm.bootstrap(hlm.fit(FORMULA, data), 3, "residual", seed=2**40, progress=False)
    yield from (fits.fixef, fits.tidy("kenward-roger")["df"], boot.fits.fixef, rows)


@pytest.fixture(scope="module")
def expected():
    return list(numbers())


@contextmanager
def setting(name, value):
    before = jax.config.values[name]
    jax.config.update(name, value)
    try:
        yield
        assert jax.config.values[name] == value
    finally:
        jax.config.update(name, before)


@pytest.mark.parametrize("name", KNOWN)
def test_no_setting_of_the_user_counts(name, expected):
    with setting(name, KNOWN[name]):
        for a, b in zip(numbers(), expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_device_may_be_chosen(expected):
    with setting("jax_default_device", jax.devices("cpu")[0]):
        np.testing.assert_array_equal(next(numbers()), expected[0])


def test_keys_do_not_depend_on_settings():
    expected = Streams(random_key(3)).generator(0).random(3).tolist()
    for name, value in (("jax_default_prng_impl", "rbg"), ("jax_random_seed_offset", 7)):
        with setting(name, value):
            assert Streams(random_key(3)).generator(0).random(3).tolist() == expected


def test_our_rules_hold_in_one_thread_and_end():
    seen = []
    with jax_config_scope():
        thread = threading.Thread(target=lambda: seen.append(jax.numpy.zeros(1).dtype))
        thread.start()
        thread.join()
        assert jax.numpy.zeros(1).dtype == np.float64
    assert seen == [np.float32]
    assert jax.numpy.zeros(1).dtype == np.float32


def test_a_version_of_jax_without_one_of_the_rules(monkeypatch):
    monkeypatch.delattr(jax, "thread_guard", raising=False)
    monkeypatch.delattr(jax, "no_tracing", raising=False)
    with jax_config_scope():
        assert jax.numpy.zeros(1).dtype == np.float64


@pytest.mark.parametrize("transform", [jax.jit, jax.grad])
def test_numbers_are_known_within_a_function_that_jax_traces(transform):
    """Compiled and not: a fit is no part of what is traced."""
    data = hlm.load_dataset("article").query("unit < 9")
    formula = "y ~ x + (1 | unit)"
    Y = hlm.fit(formula, data).simulate(FEW_LANES + 1, seed=1).iloc[:-1]

    def fitted():
        return float(hlm.fit_many(formula, data.iloc[:-1], responses=Y).sigma.sum())

    found = transform(lambda x: x * fitted())(jax.numpy.ones(()))
    np.testing.assert_allclose(np.ravel(found), fitted(), rtol=tol.SINGLE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"),
    [("jax_numpy_dtype_promotion", "strict"), ("jax_numpy_rank_promotion", "raise")],
)
def test_the_likelihood_itself_bears_checks_of_promotion(name, value):
    rng, unit = np.random.default_rng(0), np.repeat(np.arange(6), 4)
    X = np.column_stack([np.ones(24), rng.normal(size=24)]).astype(np.float32)
    stats = hlm.suffstats(rng.normal(size=24).astype(np.float32), X, X, unit, 6)
    theta, before = jnp.array([1.0, 0.1, 1.0]), getattr(jax.config, name)

    def values():
        return (
            hlm.loglik(jnp.ones(2), theta, 1.0, stats),
            *jax.value_and_grad(hlm.deviance)(theta, stats),
            hlm.minimise(stats).value,
            hlm.fit_statistics(stats).beta,
        )

    expected = values()
    try:
        jax.config.update(name, value)
        for found, known in zip(values(), expected, strict=True):
            np.testing.assert_array_equal(found, known)
    finally:
        jax.config.update(name, before)


def test_constants_of_our_programs_are_left_to_xla_and_known_numbers_of_traced_callers_are_not():
    staged = []

    def look(x):
        staged.append(isinstance(jnp.arange(3), jax.core.Tracer))
        return x

    def call(x):
        with jax_config_scope():
            return look(x)

    with jax_config_scope():
        jax.jit(look)(1.0)
    jax.jit(call)(1.0)
    assert staged == [True, False]
