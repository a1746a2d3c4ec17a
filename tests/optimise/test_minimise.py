"""The fit as a JAX function: compiled, mapped, differentiated, and in single precision.

Compiled without XLA's optimisation; the example of ``minimise`` is compiled with it.
"""

import os
import subprocess
import sys
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
import tolerances as tol
from cases import SIZES, rows, sleepstudy
from jaxhlm import reference
from oracles import oracle, stats_of
from places import ROOT, TESTS


@pytest.fixture(scope="module")
def data():
    y, X, Z, group = rows(np.random.default_rng(5), SIZES, 2, 3, sd=1.0)
    best = reference.fit(y, X, Z, group)
    assert np.diag(best.Lambda).min() > 0.3  # off the boundary, where derivatives exist
    return y, X, Z, group, best


@cache
def compiled(reml=True, blocks=None):
    return oracle(partial(hlm.minimise, reml=reml, blocks=blocks))


def minimised(data, **options):
    """In float64, as NumPy arrays."""
    y, X, Z, group, _ = data
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, compiled(**options)(stats_of(y, X, Z, group)))


@pytest.mark.parametrize(
    ("reml", "term", "blocks"), [(True, "|", None), (False, "||", ((0,), (1,)))]
)
def test_equals_the_reference_and_fit(data, reml, term, blocks):
    y, X, Z, group, _ = data
    best = reference.fit(y, X, Z, group, reml, blocks=blocks)
    frame = pd.DataFrame({"y": y, "x": X[:, 1], "v": X[:, 2], "unit": group})
    fit = hlm.fit(f"y ~ x + v + (1 + x {term} unit)", frame, reml)
    found = minimised(data, reml=reml, blocks=blocks)
    assert found.converged
    assert found.gradient_norm < tol.SCORE
    for value in (best.criterion, fit.criterion):
        np.testing.assert_allclose(found.value, value, atol=tol.CRITERION)
    for theta in (best.theta, fit.theta):
        np.testing.assert_allclose(found.theta, theta, rtol=tol.ESTIMATE)
    np.testing.assert_allclose(found.beta, best.beta, rtol=tol.ESTIMATE)
    np.testing.assert_allclose(found.sigma, best.sigma, rtol=tol.ESTIMATE)


MIX = np.random.default_rng(0).normal(size=8)


def mixed(y, X, Z, fit):
    """One number of all estimates."""
    f = fit(y, X, Z)
    return MIX @ np.concatenate([f.theta, f.beta, [f.sigma, f.criterion]])


def slope_of(mixed, which, index, at):
    """Differences of ``mixed`` by an entry of y, X or Z."""
    ends, step = {}, 1e-3
    for s in (2, 1, -1, -2):
        moved = [part.copy() for part in at]
        moved[which][index] += s * step
        ends[s] = mixed(*moved)
    return (8 * (ends[1] - ends[-1]) - (ends[2] - ends[-2])) / (12 * step)


@pytest.mark.slow
def test_compiled_mapped_and_differentiated(data):
    """A mix of all estimates by y, X and Z, against differences of the reference's fits.

    The second of them is singular: a correlation of ±1 that stays as it is.
    """
    y, X, Z, group, _ = data
    other = rows(np.random.default_rng(5), SIZES, 2, 3, sd=0.0)[0]
    Y = np.stack([y, other])

    def found(y, X, Z):
        f = hlm.minimise(hlm.suffstats(y, X, Z, group, len(SIZES)))
        mix = MIX @ jnp.concatenate([f.theta, f.beta, f.sigma[None], f.value[None]])
        return mix, f.theta

    def expected(y, X, Z):
        return mixed(y, X, Z, lambda y, X, Z: reference.fit(y, X, Z, group))

    with jax.enable_x64(True):
        differentiated = jax.value_and_grad(found, (0, 1, 2), has_aux=True)
        run = oracle(jax.vmap(differentiated, in_axes=(0, None, None)))
        (values, theta), gradients = jax.tree.map(np.asarray, run(Y, X, Z))
    np.testing.assert_array_equal(theta[:, 2] == 0.0, [False, True])
    for lane in range(2):
        np.testing.assert_allclose(values[lane], expected(Y[lane], X, Z), rtol=tol.ESTIMATE)
        for which, index in enumerate([(5,), (7, 2), (11, 1)]):
            gradient = gradients[which][lane]
            assert np.isfinite(gradient).all()
            slope = slope_of(expected, which, index, (Y[lane], X, Z))
            scale = np.abs(gradient).max()
            np.testing.assert_allclose(gradient[index], slope, atol=tol.IMPLICIT * scale)


def test_singular_fits():
    """On the boundary: an exact zero, a converged flag, and the reference's criterion."""
    singular = rows(np.random.default_rng(5), SIZES, 2, 3, sd=0.0)
    best = reference.fit(*singular)
    assert np.linalg.eigvalsh(best.cov)[0] < tol.SMALL
    found = minimised((*singular, best), reml=True, blocks=None)
    assert found.converged
    assert found.theta[2] == 0.0
    np.testing.assert_allclose(found.value, best.criterion, atol=tol.CRITERION)


def test_single_precision(data):
    y, X, Z, group, best = data
    narrow = [a.astype(np.float32) for a in (y, X, Z)]
    found = compiled()(stats_of(*narrow, group))
    assert found.converged
    assert {x.dtype for x in (found.theta, found.beta, found.sigma)} == {np.dtype(np.float32)}
    np.testing.assert_allclose(found.value, best.criterion, rtol=tol.SINGLE)
    np.testing.assert_allclose(found.theta, best.theta, rtol=tol.SINGLE_ESTIMATE)
    np.testing.assert_allclose(found.sigma, best.sigma, rtol=tol.SINGLE_ESTIMATE)
    np.testing.assert_allclose((found.beta - best.beta) / best.se, 0.0, atol=tol.SINGLE_ESTIMATE)


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_mapped_twice_over_more_than_a_tile_it_is_each_by_itself(data, shared):
    """Lanes that share a design, or have their own, against one fit after another."""
    y, X, Z, group, _ = data
    rng = np.random.default_rng(1)
    Y = y + rng.normal(size=(2, 70, len(y)))
    scale = np.ones((2, 70)) if shared else rng.uniform(0.5, 2.0, (2, 70))

    def of(y, scale):
        return hlm.suffstats(y, X, Z * scale, group, len(SIZES))

    inner = jax.vmap(of, in_axes=(0, None if shared else 0))
    with jax.enable_x64(True):
        stats = jax.jit(jax.vmap(inner, in_axes=(0, None if shared else 0)))(
            Y, 1.0 if shared else scale
        )
        found = oracle(jax.vmap(jax.vmap(hlm.minimise)))(stats)
        for at in [(0, 0), (0, 69), (1, 3)]:
            alone = compiled()(jax.tree.map(lambda x, at=at: x[at], stats))
            assert found.converged[at] and alone.converged
            np.testing.assert_allclose(found.value[at], alone.value, atol=tol.CRITERION)
            np.testing.assert_allclose(found.theta[at], alone.theta, atol=tol.ESTIMATE)
            np.testing.assert_allclose(found.beta[at], alone.beta, atol=tol.ESTIMATE)


def test_explicit_axes_of_a_mesh_are_for_shard_map(data):
    """One device is enough, and one variance: types are told at trace time."""
    y, X, Z, group, _ = data
    Z = Z[:, :1]
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Explicit,))
    spec = jax.sharding.PartitionSpec("d")

    def fit(y):
        return hlm.minimise(hlm.suffstats(y, X, Z, group, len(SIZES))).theta

    with jax.set_mesh(mesh), jax.enable_x64(True):
        Y = jax.device_put(np.stack([y, y + X[:, 1]]), jax.sharding.NamedSharding(mesh, spec))
        with pytest.raises(hlm.JaxhlmError, match="shard_map"):
            jax.jit(jax.vmap(fit))(Y)
        split = jax.shard_map(jax.vmap(fit), in_specs=spec, out_specs=spec)
        assert jax.eval_shape(split, Y).sharding.spec[0] == "d"


@pytest.mark.slow
def test_inside_shard_map(data):
    """One device is enough, and one variance: what varies over a mesh is told at trace time."""
    y, X, Z, group, _ = data
    Z = Z[:, :1]
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("d")

    def fit(y):
        stats = hlm.suffstats(y, X, Z, group, len(SIZES))
        slope = jax.grad(lambda s: hlm.minimise(s).sigma)(stats).Ty
        return hlm.minimise(stats).theta, hlm.deviance(jnp.ones(1), stats), slope

    with jax.enable_x64(True):
        Y = y + np.random.default_rng(2).normal(size=(130, len(y)))
        split = jax.shard_map(jax.vmap(fit), mesh=mesh, in_specs=spec, out_specs=spec)
        found, expected = oracle(split)(Y), oracle(jax.vmap(fit))(Y)
        one = jax.shard_map(lambda y: fit(y[0])[0][None], mesh=mesh, in_specs=spec, out_specs=spec)
        np.testing.assert_allclose(oracle(one)(Y[:1]), found[0][:1], atol=tol.ESTIMATE)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=tol.ESTIMATE)


ON_TWO_DEVICES = """
import sys
sys.path.insert(0, sys.argv[2])
import jax, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
import jaxhlm as hlm
from oracles import oracle
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_compilation_cache_dir", sys.argv[1])
happened = []
jax.monitoring.register_event_listener(lambda event, **_: happened.append(event.split("/")[-1]))
data = hlm.load_dataset("sleepstudy")
d, y = hlm.design("~ Days + (1 + Days | Subject)", data), data["Reaction"].to_numpy()
mesh, spec = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Explicit,)), PartitionSpec("d")

def fit(y):
    found = hlm.minimise(hlm.suffstats(y, d.X, d.Z, d.group, d.G))
    return found.value, found.theta[0]

with jax.set_mesh(mesh):
    Y = jax.device_put(np.stack([y, 2.0 * y]), NamedSharding(mesh, spec))
    run = oracle(jax.shard_map(jax.vmap(fit), in_specs=spec, out_specs=spec))
    values, theta = map(np.asarray, run(Y))
print(happened.count("cache_hits"), happened.count("cache_misses"), values[0], *theta)
"""


@pytest.mark.slow
def test_explicit_axes_of_two_devices_and_a_kept_compilation(tmp_path):
    """The second process finds in JAX's compilation cache what the first has compiled."""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    flags["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    command, fit = [sys.executable, "-c", ON_TWO_DEVICES, str(tmp_path), str(TESTS)], sleepstudy()
    counts = []
    for _ in range(2):
        done = subprocess.run(
            command, env=os.environ | flags, cwd=ROOT, capture_output=True, text=True, check=True
        )
        hits, misses, value, *theta = (float(number) for number in done.stdout.split())
        counts.append((hits, misses))
        np.testing.assert_allclose(value, fit.criterion, atol=tol.CRITERION)
        np.testing.assert_allclose(theta, fit.theta[0], rtol=tol.ESTIMATE)
    (_, compiled_once), (found_again, compiled_again) = counts
    assert found_again >= compiled_once > 0
    assert compiled_again == 0
