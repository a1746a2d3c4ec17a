"""All stages as one compiled function: equal to the host path, and free of the host."""

from functools import cache

import jax
import numpy as np
import pytest
from jax import export

import jaxhlm as hlm
import tolerances as tol
from jaxhlm.core.precision import jax_config_scope
from jaxhlm.core.status import Status
from jaxhlm.datasets import load_dataset
from jaxhlm.estimation.device_chunks import Fitting, fitted_on_devices, on_devices
from jaxhlm.estimation.pipeline import Prepared, fit_lanes, gather
from jaxhlm.estimation.program import chunk_program
from jaxhlm.optimise.options import Options
from jaxhlm.sources.sources import ResponseMatrix

B = 40
NAN, CONSTANT, FAR = 3, 4, 5
BALANCED = "~ x + (1 + x | unit)"
# formula, balanced, weighted, REML
CASES = {
    "closed form": (BALANCED, True, False, True),
    "unbalanced": (BALANCED, False, False, True),
    "two terms, weighted, ML": ("~ x + a + (1 + x || unit)", False, True, False),
    "one random effect": ("~ x + (1 | unit)", False, False, True),
}


@cache
def problem(name):
    """Responses on a design, of which three are out of the ordinary, and what is optimised."""
    formula, balanced, weighted, reml = CASES[name]
    rng, data = np.random.default_rng(7), load_dataset("article")
    if not balanced:
        data = data.sample(frac=0.6, random_state=2)
    weights = rng.uniform(0.5, 2.0, len(data)) if weighted else None
    design = hlm.design(formula, data, weights=weights)
    b = rng.normal(size=(design.G, design.q, B))
    Y = np.einsum("nq,nqb->nb", design.Z, b[design.group]) + rng.normal(size=(design.n, B))
    Y[0, NAN], Y[:, CONSTANT] = np.nan, 5.0
    Y[:, FAR] += 1e9
    return ResponseMatrix(Prepared(design), Y), Options(reml, design.blocks)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_program_is_the_host_path(name):
    source, options = problem(name)
    wanted = fit_lanes(source, options)
    devices = tuple(jax.local_devices())
    fitted = gather(fitted_on_devices(source.traceable, options, devices, [slice(0, B)]), B)
    np.testing.assert_array_equal(fitted.nobs, wanted.nobs)
    np.testing.assert_array_equal(fitted.ngroups, wanted.ngroups)
    found, expected = fitted.estimates, wanted.estimates
    np.testing.assert_array_equal(found.status, expected.status)
    assert expected.status[CONSTANT] == Status.NOT_FINITE
    near = np.arange(B) != FAR
    for lanes, rtol in ((near, tol.DEVIANCE), (~near, tol.FAR_CRITERION)):
        np.testing.assert_allclose(found.criterion[lanes], expected.criterion[lanes], rtol)
    for field in ("beta", "vcov", "sigma", "theta", "theta_standard", "cov"):
        a, b = getattr(found, field), getattr(expected, field)
        np.testing.assert_allclose(a, b, rtol=tol.ESTIMATE, atol=tol.ESTIMATE)


def program(name):
    source, options = problem(name)
    return jax.jit(chunk_program(source.traceable.reduction, options))


def final_lanes(name):
    source, options = problem(name)
    lanes, devices = source.traceable, tuple(jax.local_devices())
    work = Fitting(lanes.reduction, options)
    ((_, _, final),) = on_devices(lanes, work, devices, [slice(0, B)])
    return final


@pytest.mark.slow
@pytest.mark.parametrize("name", ["closed form", "unbalanced"])
def test_it_is_final_where_one_descent_tells(name):
    """Not where sums of squares cancel."""
    assert np.flatnonzero(~final_lanes(name)).tolist() == [NAN, CONSTANT, FAR]


@pytest.mark.slow
def test_one_random_effect_is_left_to_the_scan():
    assert not final_lanes("one random effect").any()


@pytest.mark.parametrize("name", ["closed form", "unbalanced"])
def test_it_lowers_for_a_gpu_without_code_of_the_cpu(name):
    Y = problem(name)[0].Y
    with jax_config_scope():
        shape = jax.ShapeDtypeStruct(Y.shape, Y.dtype)
        lowered = export.export(program(name), platforms=["cuda"])((), shape)
    assert "callback" not in lowered.mlir_module()
    assert "lapack" not in lowered.mlir_module()


def test_drawn_statistics_lower_for_a_gpu_without_code_of_the_cpu():
    design = hlm.design(BALANCED, load_dataset("article"))
    source = hlm.simulate(design, hlm.Truth.of([1, 3], sd=[0.2, 0.5], sigma=0.75), B, 1)._source
    lanes, options = source.traceable, Options(True, design.blocks)
    with jax_config_scope():
        traced = jax.jit(chunk_program(lanes.reduction, options))
        lowered = export.export(traced, platforms=["cuda"])(
            lanes.shared, lanes.argument(slice(0, 128))
        )
    assert "callback" not in lowered.mlir_module()
    assert "lapack" not in lowered.mlir_module()
