"""Compiled programs: one thread compiles, others wait, the one used longest ago is released."""

import gc
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from jaxhlm.core import chunks
from jaxhlm.core.chunks import CompiledByOne


@pytest.fixture
def doubled():
    """A compiled function, and the shapes that it was traced for."""
    traced = []

    def double(x):
        traced.append(x.shape)
        return 2.0 * x

    return CompiledByOne(double), traced


def alive():
    gc.collect()
    return len(jax.devices()[0].client.live_executables())


@pytest.mark.slow
def test_no_more_programs_are_kept_than_that(doubled, monkeypatch):
    monkeypatch.setattr(chunks, "MOST_PROGRAMS", 3)
    double, traced = doubled
    before = alive()
    for n in range(1, 21):
        np.testing.assert_array_equal(double(n, np.ones(n)), 2.0)
    assert alive() - before <= 3
    assert traced == [(n,) for n in range(1, 21)]


def test_the_program_used_longest_ago_goes(doubled, monkeypatch):
    monkeypatch.setattr(chunks, "MOST_PROGRAMS", 2)
    double, traced = doubled
    for n in (1, 2, 1, 3, 1, 2):
        double(n, np.ones(n))
    assert traced == [(1,), (2,), (3,), (2,)]


def test_one_thread_compiles(doubled):
    double, traced = doubled
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: double("key", np.ones(5)), range(16)))
    assert traced == [(5,)]
    np.testing.assert_array_equal(found, 2.0)


def test_what_fails_to_compile_is_not_kept(doubled):
    double, _ = doubled
    with pytest.raises(AttributeError):
        double("key", None)
    np.testing.assert_array_equal(double("key", np.ones(2)), 2.0)
