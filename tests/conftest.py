"""Shared fixtures. Warnings are errors (pyproject); float64 is scoped where a test needs it.

Rank promotion is not made an error: lanes are last in the library, so that (B,) meets (q, q, B) on
purpose. Matrices themselves are never promoted, which the unrolled dialect would not allow.
"""

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# The same examples every time: a failure that cannot be repeated helps nobody.
settings.register_profile(
    "jaxhlm",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=20,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("jaxhlm")


@pytest.fixture
def rng():
    return np.random.default_rng(20261124)


@pytest.fixture(autouse=True)
def _precision_is_left_alone():
    """No call may leave JAX's global switch for float64 in another position."""
    yield
    assert jax.config.jax_enable_x64 is False
