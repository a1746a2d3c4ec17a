"""Millions of drawn data sets on the cores, by the compiled program: the fits of the host path."""

import numpy as np
import optax
import pytest

import jaxhlm as hlm
import tolerances as tol
from jaxhlm.core.chunks import CompiledByOne
from jaxhlm.datasets import load_dataset
from jaxhlm.estimation import core_chunks
from jaxhlm.estimation.core_chunks import fitted_on_cores
from jaxhlm.fitting import places
from jaxhlm.optimise.options import Options
from oracles import UNOPTIMISED

B, CHUNK = 300, 128
TRUTH = hlm.Truth.of([250.0, 10.0], sd=[8.0, 1.0], sigma=25.0)


@pytest.fixture(autouse=True)
def _few_are_millions(monkeypatch):
    program = CompiledByOne(
        core_chunks._in_tiles, static_argnames="work", compiler_options=UNOPTIMISED
    )
    monkeypatch.setattr(places, "WORTH_COMPILING_FOR_CORES", B)
    monkeypatch.setattr(core_chunks, "MAX_LANES", CHUNK)
    monkeypatch.setattr(core_chunks, "TILE_LANES", CHUNK // 2)
    monkeypatch.setattr(core_chunks, "_program", program)


def simulated(n=B, rows=180, **options):
    design = hlm.design("Reaction ~ Days + (1 + Days | Subject)", load_dataset("sleepstudy")[:rows])
    return hlm.simulate(design, TRUTH, n, seed=1, **options)


@pytest.mark.slow
def test_fits_are_those_of_the_host_path(tmp_path):
    expected, fits = simulated(B - 1).fit(), simulated().fit()
    assert core_chunks._program._programs
    assert 0.1 < expected.singular.mean() < 0.9
    found = fits.estimates[: B - 1]
    np.testing.assert_array_equal(found.status, expected.status)
    for name in ("criterion", "beta", "vcov", "theta", "cov", "sigma"):
        known = getattr(expected.estimates, name)
        np.testing.assert_allclose(getattr(found, name), known, tol.ESTIMATE, tol.ESTIMATE)
    assert set(fits.nobs) == {180} and set(fits.ngroups) == {18}
    stored = simulated().fit(out=tmp_path / "fits")
    np.testing.assert_array_equal(stored[:].estimates.criterion, fits.estimates.criterion)


@pytest.mark.parametrize(
    ("changes", "optimizer"),
    [
        ({"n": B - 1}, None),
        ({"statistics": False}, None),
        ({"rows": 177}, None),
        ({}, optax.sgd(1.0)),
    ],
    ids=["few", "rows", "unbalanced", "an optimiser of the user's"],
)
def test_others_are_left_to_the_host_path(changes, optimizer):
    source = simulated(**changes)._source
    options = Options(True, source.design.blocks, optimizer)
    assert places.fitter(source, options, None).func is not fitted_on_cores
