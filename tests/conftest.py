"""Shared fixtures. Warnings are errors (pyproject); float64 is scoped where a test needs it.

Rank promotion is not made an error: lanes are last in the library, so that (B,) meets (q, q, B) on
purpose. Matrices themselves are never promoted, which the unrolled dialect would not allow.
"""

import os
import sys
from multiprocessing import get_context

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import studies_made
from jaxhlm.core.chunks import CompiledByOne
from jaxhlm.estimation import device_chunks
from oracles import UNOPTIMISED

# Scripts that made the data, some with libraries that tests do not need.
collect_ignore = ["data"]

# The same examples every time: a failure that cannot be repeated helps nobody.
settings.register_profile(
    "jaxhlm",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=12,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("jaxhlm")


# Files of a quarter of a minute or more begin, so that the workers of xdist end together.
LONGEST = (
    "test_readme.py",
    "test_executors.py",
    "test_device_chunks.py",
    "test_minima.py",
    "test_replicate_pieces.py",
    "test_derivatives.py",
    "test_shared_names.py",
    "test_invariance.py",
    "test_program.py",
    "test_posterior.py",
    "test_minimise.py",
)


def pytest_configure(config):
    """Of its own accord xdist begins with the files of most tests."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    def place(item):
        return LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST)

    items.sort(key=place)


@pytest.fixture
def rng():
    return np.random.default_rng(20261124)


@pytest.fixture(autouse=True)
def _precision_is_left_alone():
    """No call may leave JAX's global switch for float64 in another position."""
    yield
    assert jax.config.jax_enable_x64 is False


@pytest.fixture(scope="session")
def _quick_program():
    """Kept for all tests, so that each program is compiled once."""
    options = {"static_argnames": ("work", "devices"), "compiler_options": UNOPTIMISED}
    return CompiledByOne(device_chunks._shared_out, **options)


@pytest.fixture(scope="module")
def quick_devices(_quick_program):
    """Programs of devices without XLA's optimisation; test_program has those with it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device_chunks, "_program", _quick_program)
        yield


@pytest.fixture(scope="session")
def undisturbed():
    """The estimates of the small study, run in one go."""
    return studies_made.run().estimates


@pytest.fixture
def forkserver(monkeypatch):
    """Processes that need not import JAX again, so that many can be killed."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    context = get_context("forkserver")
    context.set_forkserver_preload([studies_made.__name__])
    return context


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The folder of the small study: not to be changed."""
    out = tmp_path_factory.mktemp("study") / "out"
    studies_made.run(out=out)
    return out


@pytest.fixture
def toml(tmp_path):
    """The small study as a file beside its design."""
    studies_made.DATA.to_csv(tmp_path / "design.csv", index=False)
    path = tmp_path / "study.toml"
    path.write_text(studies_made.TOML)
    return path
