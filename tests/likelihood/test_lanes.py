"""Many lanes at once equal one at a time: in NumPy, side by side, in a loop, and densely."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
import tolerances as tol
from cases import rows
from jaxhlm.likelihood.covariance import theta_index
from jaxhlm.likelihood.derivatives import derivatives
from jaxhlm.likelihood.lane_derivatives import (
    LOOP_FROM_LANES,
    lane_derivatives,
    mappable,
)
from jaxhlm.likelihood.suffstats import RESPONSE_FIELDS, Stats
from oracles import oracle, stats_of

SIZES = (9, 1, 7, 3, 12, 2)
CASES = [
    pytest.param(2, 4, ((0, 1),), id="slope"),
    pytest.param(3, 4, ((0, 1), (2,)), id="two terms"),
    pytest.param(2, 10, ((0,), (1,)), id="dense"),
]
COMPARED = ("grad", "hess", "F")


@cache
def lanes_of(B, q, p, shared=False):
    """Stats of B data sets, lanes last; one design for all, its fields with one lane, if shared."""
    rng = np.random.default_rng(B)
    _, X, Z, group = rows(rng, SIZES, q, p)
    parts = []
    for _ in range(B):
        own = rows(rng, SIZES, q, p)
        with jax.enable_x64(True):
            parts.append(stats_of(own[0], *((X, Z, group) if shared else own[1:])))
    stats = Stats(*(np.stack(fields, axis=-1) for fields in zip(*parts, strict=True)))
    if shared:
        design = {f: getattr(stats, f)[..., :1] for f in set(Stats._fields) - RESPONSE_FIELDS}
        stats = stats._replace(**design)
    return stats


def compiled(theta, stats, reml, blocks, jit=jax.jit, count=None):
    with jax.enable_x64(True):
        run = jit(lambda t, s, c: lane_derivatives(t, s, reml, blocks, c))
        return run(jnp.asarray(theta), jax.tree.map(jnp.asarray, stats), count)


def longer(stats, length):
    """The same statistics with arrays of so many groups, whose rest is not to be looked at."""
    fields = (
        np.concatenate([x, np.full((length - len(x), *x.shape[1:]), np.nan)]) for x in stats[:4]
    )
    return Stats(*fields, *stats[4:])


def assert_same(found, expected):
    np.testing.assert_allclose(found.profile.value, expected.profile.value, rtol=tol.DEVIANCE)
    for name in COMPARED:
        a, b = getattr(found, name), getattr(expected, name)
        np.testing.assert_allclose(a, b, atol=tol.DERIVATIVE * np.abs(b).max(), err_msg=name)


@pytest.mark.parametrize(("q", "p", "blocks"), CASES)
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_lane_by_lane(rng, q, p, blocks, reml, shared):
    """Every lane equals the dense dialect on that lane alone."""
    stats = lanes_of(3, q, p, shared)
    theta = rng.normal(size=(len(theta_index(blocks)), 3))
    found = lane_derivatives(theta, stats, reml, blocks)
    alone = dense(reml, blocks)
    for i in range(3):
        part = Stats(*(x[..., i if x.shape[-1] == 3 else 0] for x in stats))
        with jax.enable_x64(True):
            expected = alone(jnp.array(theta[:, i]), jax.tree.map(jnp.asarray, part))
        assert_same(jax.tree.map(lambda x, i=i: x[..., i], found), expected)


@pytest.mark.slow
@pytest.mark.parametrize("groups", [6, 18])
def test_dense_blocks_of_groups(rng, groups):
    """The dense dialect goes through the groups in blocks, and stops after the last."""
    blocks = ((0,), (1,))
    stats = lanes_of(3, 2, 10)
    many = Stats(*(np.concatenate([x] * (groups // 6)) for x in stats[:4]), *stats[4:])
    theta = rng.normal(size=(2, 3))
    plain = compiled(theta, many, True, blocks, oracle)
    padded = Stats(*map(np.nan_to_num, longer(many, 48)[:4]), *many[4:])
    padded = padded._replace(TX=padded.TX.copy())
    padded.TX[32:] = np.nan
    assert_same(compiled(theta, padded, True, blocks, oracle, count=groups), plain)


@cache
def dense(reml, blocks):
    return oracle(lambda t, s: derivatives(t, s, reml, blocks))


@pytest.mark.slow
@pytest.mark.parametrize("B", [2, LOOP_FROM_LANES], ids=["side by side", "loop"])
@pytest.mark.parametrize(("reml", "shared"), [(True, True), (False, False)])
def test_compiled_equals_numpy(rng, B, reml, shared):
    """The same lines run in NumPy, side by side for few lanes, and in a loop for many."""
    blocks, stats = ((0, 1),), lanes_of(2, 2, 3, shared)
    many = Stats(*(np.repeat(x, B // 2, axis=-1) if x.shape[-1] == 2 else x for x in stats))
    theta = rng.normal(size=(3, 2))
    in_numpy = lane_derivatives(theta, stats, reml, blocks)
    assert isinstance(in_numpy.hess, np.ndarray)
    count = None
    if B == LOOP_FROM_LANES:
        many, count = longer(many, 16), len(SIZES)
    found = compiled(np.repeat(theta, B // 2, axis=-1), many, reml, blocks, count=count)
    assert found.hess.shape == (3, 3, B)
    assert_same(jax.tree.map(lambda x: x[..., :: B // 2], found), in_numpy)


def test_groups_that_count_twice(rng):
    """m weighs the log determinant: a group listed twice is one with m = 2 and its T times √2."""
    stats, theta = lanes_of(2, 2, 3), rng.normal(size=(3, 2))
    twice = Stats(*(np.concatenate([x, x[-1:]]) for x in stats[:4]), *stats[4:])
    once = stats._replace(TX=stats.TX.copy(), Ty=stats.Ty.copy(), m=stats.m.copy())
    once.TX[-1] *= np.sqrt(2.0)
    once.Ty[-1] *= np.sqrt(2.0)
    once.m[-1] = 2.0
    found = [lane_derivatives(theta, s, True, ((0, 1),)).profile.value for s in (twice, once)]
    np.testing.assert_allclose(found[0], found[1], rtol=tol.DEVIANCE)


def test_padding_adds_nothing(rng):
    stats, theta = lanes_of(2, 2, 3), rng.normal(size=(3, 2))
    padded = Stats(*(np.concatenate([x, np.zeros_like(x)]) for x in stats[:4]), *stats[4:])
    plain = lane_derivatives(theta, stats, True, ((0, 1),))
    assert_same(lane_derivatives(theta, padded, True, ((0, 1),)), plain)


def test_a_broken_lane_harms_no_other(rng):
    stats, theta = lanes_of(3, 2, 4), rng.normal(size=(3, 3))
    broken = stats._replace(yy=stats.yy * np.array([1.0, np.nan, 1.0]))
    plain = lane_derivatives(theta, stats, True, ((0, 1),))
    found = lane_derivatives(theta, broken, True, ((0, 1),))
    assert np.isnan(found.profile.value[1])
    np.testing.assert_array_equal(found.hess[..., [0, 2]], plain.hess[..., [0, 2]])


def test_mappable_takes_the_lane_off_a_shared_design():
    shared, axes = mappable(lanes_of(3, 2, 4, shared=True))
    assert shared.RZ.shape == (len(SIZES), 2, 2)
    assert axes.RZ is None
    assert axes.Ty == -1
    own, axes = mappable(lanes_of(3, 2, 4))
    assert own.RZ.shape == (len(SIZES), 2, 2, 3)
    assert set(axes) == {-1}


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.SingularFitWarning")
@pytest.mark.parametrize(("p", "q"), [(14, 2), (5, 4)])
def test_one_wide_model_is_fitted_without_compiling(monkeypatch, p, q):
    monkeypatch.setattr("jaxhlm.optimise.solve._padded", None)  # the way to what is compiled
    y, X, _, group = rows(np.random.default_rng(3), [12] * 15, q=q, p=p, sd=1.0)
    d = pd.DataFrame(X[:, 1:], columns=[f"x{j}" for j in range(1, p)]).assign(y=y, unit=group)
    slopes = " + ".join(f"x{j}" for j in range(1, q))
    fixed = " + ".join(f"x{j}" for j in range(1, p))
    fit = hlm.fit(f"y ~ {fixed} + (1 + {slopes} | unit)", d)
    assert fit.verify().criterion < tol.CRITERION
