"""Degrees of freedom that devices compute: those of the cores, singular fits and all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import jaxhlm as hlm
import tolerances as tol
from jaxhlm.core.precision import jax_config_scope
from jaxhlm.inference import satterthwaite
from jaxhlm.inference.device_information import Informing
from jaxhlm.linalg.factors import symmetric_axes
from jaxhlm.results import information

pytestmark = pytest.mark.usefixtures("quick_devices")

B = 60


@pytest.fixture(scope="module")
def simulated():
    """Of small variances, so that about half of the fits are singular."""
    design = hlm.design("~ x * a + (1 + x | unit)", hlm.load_dataset("article"))
    truth = hlm.Truth.of([1, 3, -0.15, 0.3], sd=[0.05, 0.05], sigma=0.75)
    return hlm.simulate(design, truth, n=B, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["satterthwaite", "kenward-roger"])
def test_devices_find_what_the_cores_find(simulated, method, monkeypatch):
    called = []

    def spy(*given):
        called.append(given)
        return on_devices(*given)

    on_devices = information.information_on_devices
    monkeypatch.setattr(information, "information_on_devices", spy)
    found, expected = simulated.fit(devices=1), simulated.fit()
    assert 0.2 < expected.singular.mean() < 0.8
    np.testing.assert_allclose(found.df(method), expected.df(method), rtol=tol.ESTIMATE)
    tests = (fits.joint_test("a = 0, x:a = 0", method) for fits in (found, expected))
    np.testing.assert_allclose(*tests, rtol=tol.ESTIMATE)
    assert len(called) == 1


def test_some_of_the_fits_are_left_to_the_cores(simulated):
    found, expected = simulated.fit(devices=1)[10:30], simulated.fit()[10:30]
    np.testing.assert_allclose(found.df(), expected.df(), rtol=tol.ESTIMATE)


@pytest.mark.slow
def test_curvature_along_three_axes_is_traceable():
    """Three random effects, whose eigenvectors have no closed form."""
    rng = np.random.default_rng(3)
    H, F = (x + x.swapaxes(0, 1) for x in (rng.normal(size=(6, 6, 4)), rng.normal(size=(3, 3, 4))))
    Lambda = np.tril(rng.normal(size=(4, 3, 3))).transpose(1, 2, 0)
    Lambda[:, 2] = 0.0
    given = H, F, Lambda
    expected, directions = satterthwaite._fixed_rank_hessian(*given, ((0, 1, 2),))
    with jax_config_scope():
        found, _ = satterthwaite._fixed_rank_hessian(*map(jnp.asarray, given), ((0, 1, 2),))
    np.testing.assert_allclose(*map(np.linalg.det, (found.T, expected.T)), rtol=tol.SMALL)
    assert directions.shape == H.shape


def test_it_lowers_for_a_gpu_without_code_of_the_cpu(simulated):
    fits = simulated.fit()
    lanes = fits.source.traceable
    e = fits.record.estimates
    with jax_config_scope():
        work = Informing(lanes.reduction, fits.record.options, "satterthwaite")
        lowered = export.export(jax.jit(work.program()), platforms=["cuda"])(
            lanes.shared, lanes.argument(slice(0, B)), e.theta_standard, e.status
        )
    assert "callback" not in lowered.mlir_module()
    assert "lapack" not in lowered.mlir_module()


@pytest.mark.parametrize(
    "A", [np.eye(2), np.zeros((2, 2)), [[1.0, 0.0], [0.0, 3.0]], [[3.0, 2.0], [2.0, 1.0]],
          [[1.0, 1.0], [1.0, 1.0]], [[1.0, -2.0], [-2.0, 5.0]]],
)  # fmt: skip
def test_axes_in_closed_form(A):
    values, vectors = symmetric_axes(np.asarray(A))
    np.testing.assert_allclose((vectors * values) @ vectors.T, A, atol=tol.ROUNDED)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(2), atol=tol.ROUNDED)
    assert values[0] <= values[1]
