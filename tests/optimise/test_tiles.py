"""Tiles of lanes in one compiled function: same minima, and without it where XLA refuses."""

import jax
import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
import tolerances as tol
from jaxhlm.core.precision import jax_config_scope
from jaxhlm.estimation.pipeline import Prepared
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.optimise import compiled, tiles
from jaxhlm.optimise.compiled import Sizes
from jaxhlm.optimise.options import Options
from jaxhlm.optimise.solve import _padded

LANES = 3 * tiles.TILE_LANES
OPTIONS = Options(True, ((0,),))


@pytest.fixture(scope="module")
def problem():
    """Statistics of unbalanced lanes, groups padded, and a start that is left to the moments."""
    frame = hlm.load_dataset("sleepstudy").iloc[3:]
    fit = hlm.fit("Reaction ~ Days + (1 | Subject)", frame)
    Y = fit.simulate(LANES, seed=1).to_numpy()
    stats = Prepared(hlm.design("~ Days + (1 | Subject)", frame)).reduce_responses(Y).stats
    return _padded(stats, 64, LANES), np.full((1, LANES), np.nan)


@pytest.fixture(scope="module")
def at_once(problem):
    with jax_config_scope():
        traced = jax.jit(compiled.minimise_traced, static_argnames="options")
        return traced(*problem, Sizes(18, LANES, 100), OPTIONS)


@pytest.mark.slow
def test_tiles_find_the_same_minima(problem, at_once):
    with jax_config_scope():
        found = compiled.minimise_compiled(*problem, Sizes(18, LANES, 100), OPTIONS)
    assert not compiled._refused
    assert found.converged.all()
    np.testing.assert_array_equal(found.iterations, at_once.iterations)
    np.testing.assert_allclose(found.value, at_once.value, atol=tol.CRITERION)
    np.testing.assert_allclose(found.theta, at_once.theta, atol=tol.ESTIMATE)


def test_lanes_with_as_many_rows_as_others_take_no_other_program(problem):
    """Designs of their own may share the number of rows, the rank and the weights, or not."""
    stats = problem[0]
    own = Stats(*(np.array(x) for x in stats.expand()))
    alike = own._replace(n=stats.n, logw=stats.logw, rank=stats.rank)
    assert stats.n.shape == (1,)
    for padded, expected in zip(_padded(alike, 64, LANES), own, strict=True):
        np.testing.assert_array_equal(padded, expected, strict=True)


def test_lanes_past_the_last_are_left_alone(problem, at_once):
    """Of three tiles, two are there; the third is neither computed nor read."""
    stats, start = problem
    num_lanes = tiles.TILE_LANES + 5
    spoilt = stats._replace(yy=np.where(np.arange(LANES) < num_lanes, stats.yy, np.nan))
    with jax_config_scope():
        found = compiled.minimise_compiled(spoilt, start, Sizes(18, num_lanes, 100), OPTIONS)
    np.testing.assert_array_equal(found.iterations[2 * tiles.TILE_LANES :], 0)
    np.testing.assert_allclose(
        found.value[:num_lanes], at_once.value[:num_lanes], atol=tol.CRITERION
    )


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="a matter of XLA's CPU backend")
def test_xla_compiles_one_function(problem):
    with jax_config_scope():
        lowered = jax.jit(compiled._minimise_in_tiles, static_argnames="options").lower(
            *problem, Sizes(18, LANES, 100), OPTIONS
        )
        text = lowered.compile().as_text()
    entry = text[text.index("ENTRY") :]
    calls = [line for line in entry.splitlines() if " call(" in line]
    assert sum('xla_cpu_small_call="true"' in line for line in calls) == 1
    assert " while(" not in entry


@pytest.mark.slow
def test_a_refusal_by_xla_is_gone_around(problem, at_once, monkeypatch):
    def refuse(key, *arguments):
        raise jax.errors.JaxRuntimeError("UNIMPLEMENTED: Fusion kind not implemented on CPU")

    monkeypatch.setattr(compiled, "_in_tiles", refuse)
    monkeypatch.setattr(compiled, "_refused", set())
    with jax_config_scope():
        found = compiled.minimise_compiled(*problem, Sizes(18, LANES, 100), OPTIONS)
    assert compiled._refused
    np.testing.assert_allclose(found.value, at_once.value, atol=tol.CRITERION)


def test_other_errors_are_not_swallowed(problem, monkeypatch):
    def fail(key, *arguments):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr(compiled, "_in_tiles", fail)
    with jax_config_scope(), pytest.raises(jax.errors.JaxRuntimeError, match="memory"):
        compiled.minimise_compiled(*problem, Sizes(18, LANES, 100), OPTIONS)


def test_statistics_follow_the_lanes():
    """A shared design is not cut; what has lanes is."""
    B = 2 * tiles.TILE_LANES
    shared, own = np.ones((1, 1, 1, 1)), np.arange(float(B))
    stats = Stats(shared, shared, own[None, None], shared, shared, own[None], own, own, own, own)
    with jax_config_scope():
        found = jax.jit(
            lambda s: tiles.in_tiles(lambda x, _: x.yy * x.RZ[0, 0, 0, 0], s, own[None], B)
        )(stats)
    np.testing.assert_array_equal(found, own)


@pytest.mark.slow
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="a matter of XLA's CPU backend")
def test_three_random_effects_are_one_function(rng):
    """Reductions of (6, 6) matrices would be functions of their own, which XLA refuses within."""
    unit = np.repeat(np.arange(8), 9)
    x, z = rng.normal(size=(2, len(unit)))
    design = hlm.design("~ 1 + (1 + x + z | unit)", pd.DataFrame({"x": x, "z": z, "unit": unit}))
    stats = Prepared(design).reduce_responses(rng.normal(size=(len(unit), tiles.TILE_LANES))).stats
    start = np.full((6, tiles.TILE_LANES), np.nan)
    options = Options(True, ((0, 1, 2),))
    with jax_config_scope():
        found = compiled.minimise_compiled(stats, start, Sizes(8, 40, 100), options)
    assert not compiled._refused
    assert np.isfinite(found.value[:40]).all()
