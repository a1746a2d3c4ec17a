"""Wide models: nothing is compiled, the cost grows as the algebra's, the answers are the same."""

import logging
import sys
from functools import cache

import jax
import numpy as np
import pandas as pd
import pytest
from test_lanes import assert_same, lanes_of
from threadpoolctl import threadpool_info

import jaxhlm as hlm
import tolerances as tol
from cases import random_lambda, rows
from jaxhlm import reference
from jaxhlm.core.chunks import in_order
from jaxhlm.design.checks import independent_columns
from jaxhlm.design.design import build_design
from jaxhlm.design.segments import Segments, orthonormalise
from jaxhlm.likelihood import dense
from jaxhlm.likelihood.covariance import theta_index
from jaxhlm.likelihood.lane_derivatives import _unrolled, lane_derivatives, unrollable
from jaxhlm.likelihood.suffstats import Stats
from oracles import dense as dense_matrices

pytestmark = pytest.mark.filterwarnings("ignore::jaxhlm.errors.SingularFitWarning")

SHAPES = [
    pytest.param(1, 12, ((0,),), id="one effect"),
    pytest.param(2, 10, ((0,), (1,)), id="diagonal"),
    pytest.param(4, 6, ((0, 2), (1, 3)), id="two terms"),
    pytest.param(5, 3, (tuple(range(5)),), id="more random than fixed"),
]


@cache
def levels(p, q=1, G=30, m=12):
    """A frame and a formula with a factor that makes p columns of X, and q random effects."""
    rng = np.random.default_rng(p)
    y, X, _, group = rows(rng, [m] * G, q=q, p=q, sd=1.0)
    names = [f"x{j}" for j in range(1, q)]
    d = pd.DataFrame(X[:, 1:], columns=names).assign(y=y, unit=group)
    d["site"] = [f"s{i:03}" for i in rng.permutation(np.arange(len(d)) % (p - q + 1))]
    random = " + ".join(["1", *names])
    return d, f"y ~ {' + '.join([*names, 'site'])} + ({random} | unit)"


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("fixed_sigma", [True, False])
@pytest.mark.parametrize(("q", "p", "blocks"), SHAPES)
def test_equals_the_entrywise_dialect(rng, monkeypatch, q, p, blocks, reml, shared, fixed_sigma):
    """In one piece, and with lanes and columns in blocks that are far too small."""
    stats = lanes_of(3, q, p, shared)
    stats = stats._replace(logw=stats.logw + 0.7)
    theta = np.stack([random_lambda(rng, blocks)[0] for _ in range(3)], axis=1)
    sigma2 = np.array([0.5, 1.0, 2.0]) if fixed_sigma else None
    expected = _unrolled(theta, stats, reml, blocks, None, sigma2)
    assert not unrollable(stats)
    for numbers in (dense.TILE_NUMBERS, 50):
        monkeypatch.setattr(dense, "TILE_NUMBERS", numbers)
        found = lane_derivatives(theta, stats, reml, blocks, sigma2=sigma2)
        assert_same(found, expected)
        for name in ("beta", "pwrss", "L_A", "nu"):
            a, b = getattr(found.profile, name), getattr(expected.profile, name)
            np.testing.assert_allclose(a, b, rtol=tol.DEVIANCE, atol=tol.SUMMED, err_msg=name)
        np.testing.assert_allclose(found.pwrss_grad, expected.pwrss_grad, rtol=tol.DERIVATIVE)


def test_lanes_without_fixed_effects_and_broken_ones(rng):
    """p = 0 has no A to factorise; a lane that is not finite, or whose A is not, is NaN alone."""
    blocks = (tuple(range(4)),)
    stats, theta = lanes_of(3, 4, 6), rng.normal(size=(10, 3))
    plain = lane_derivatives(theta, stats, True, blocks)
    XX = stats.XX.copy()
    XX[..., 1] = -1e6 * np.eye(6)
    with np.errstate(all="ignore"):
        for broken in (stats._replace(XX=XX), stats._replace(yy=stats.yy * [1.0, np.nan, 1.0])):
            found = lane_derivatives(theta, broken, True, blocks)
            assert np.isnan(found.profile.value[1])
            np.testing.assert_array_equal(found.hess[..., [0, 2]], plain.hess[..., [0, 2]])
    none = stats._replace(
        TX=stats.TX[:, :, :0], XX=stats.XX[:0, :0], Xy=stats.Xy[:0], rank=0.0 * stats.rank
    )
    found = [lane_derivatives(theta, none, reml, blocks) for reml in (True, False)]
    assert_same(*found)
    assert np.isfinite(found[0].profile.value).all()


@pytest.fixture
def compiled(caplog):
    """The messages of JAX's about what it has compiled, so far."""
    with caplog.at_level(logging.DEBUG, "jax"), jax.log_compiles():
        yield lambda: [m for m in caplog.messages if "Finished XLA compilation" in m]


def test_a_compilation_would_be_seen(compiled):
    jax.jit(lambda x: 2.5 * x)(1.0)
    assert compiled()


def inference(fit, data):
    """What is asked of a fit, all but drawing random numbers."""
    return (
        str(fit.summary(df="satterthwaite")),
        fit.tidy(df="kenward-roger"),
        fit.predict(data.head()),
        fit.ranef_cov,
        fit.refit(data.y + 1.0),
        fit.confint(method="profile", parm=["sigma", fit.fixef.index[-1]]),
    )


@pytest.mark.parametrize(
    ("p", "q"), [(2, 1), (8, 3), (9, 1), (9, 2), (12, 4), (40, 2), (70, 1), (127, 1), (10, 9)]
)
def test_one_fit_and_few_compile_nothing(compiled, p, q):
    data, formula = levels(p, q)
    fit = hlm.fit(formula, data)
    inference(fit, data)
    Y = np.column_stack([data.y, data.y[::-1], data.y**2])
    fits = hlm.fit_many(formula, data, responses=Y)
    assert not compiled()
    assert len(fit.fixef) == p
    np.testing.assert_allclose(fits.criterion.iloc[0], fit.criterion, atol=tol.CRITERION)


@pytest.mark.parametrize(("p", "q"), [(12, 1), (6, 4)])
def test_influence_and_many_wide_data_sets_compile_nothing(compiled, rng, p, q):
    data, formula = levels(p, q)
    long = pd.concat([data.assign(replicate=i) for i in range(140)])
    long["y"] += rng.normal(size=len(long))
    hlm.fit(formula, data).influence()
    wide = hlm.fit_many(formula, data, responses=rng.normal(size=(len(data), 150)))
    hlm.fit_many(formula, long, by="replicate")
    assert not compiled()
    assert len(wide.status) == 150


def calls(work):
    """How many functions of Python and C are called while ``work`` runs in this thread."""
    count = 0

    def counted(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counted)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def test_eight_times_the_columns_are_hardly_more_calls():
    """Entry by entry it would be five hundred times as many; the design has steps per column."""
    found = []
    for p in (20, 160):
        data, formula = levels(p)
        hlm.fit(formula, data)
        found.append(calls(lambda d=data, f=formula: hlm.fit(f, d)))
    assert found[1] < 2 * found[0]


def test_an_evaluation_is_a_number_of_calls_that_sizes_do_not_change():
    def of(q, p):
        blocks, stats = (tuple(range(q)),), lanes_of(1, q, p)
        theta = np.array([[float(i == j)] for i, j in theta_index(blocks)])
        lane_derivatives(theta, stats, True, blocks)
        return calls(lambda: lane_derivatives(theta, stats, True, blocks))

    assert of(4, 20) == of(4, 9)
    assert of(8, 9) <= 2 * of(4, 9)


@pytest.mark.parametrize(("p", "q"), [(9, 1), (60, 1), (9, 5)])
def test_equals_the_reference(p, q):
    data, formula = levels(p, q)
    fit = hlm.fit(formula, data)
    d = build_design(formula, data)
    dense_value = reference.criterion_by_group(
        np.linalg.cholesky(fit.varcorr.cov.to_numpy()) / fit.sigma, d.y, d.X, d.Z, d.group
    )
    np.testing.assert_allclose(fit.criterion, dense_value, atol=tol.CRITERION)
    assert fit.gradient_norm < 1e-3
    m = dense_matrices(fit)
    beta = m.vcov @ m.X.T @ np.linalg.solve(m.V, m.y)
    np.testing.assert_allclose(fit.fixef, beta, rtol=tol.DENSE, atol=tol.DENSE)
    np.testing.assert_allclose(fit.vcov, m.vcov, rtol=tol.DENSE, atol=tol.DENSE)


def test_the_criterion_of_a_design_whose_determinant_underflows():
    """The determinant of p = 300 scaled columns is no double, its logarithm is."""
    data, formula = levels(300, G=60)
    small = data.assign(y=1e-3 * data.y)
    nu = len(data) - 300
    found = [hlm.fit(formula, d).criterion for d in (data, small)]
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[0] - found[1], -2.0 * nu * np.log(1e-3), rtol=tol.UNITS)


@pytest.mark.parametrize("dependent", [False, True])
def test_factors_by_lapack_and_by_gram_schmidt(rng, monkeypatch, dependent):
    """The same factors; a dependent column is a column of zeros in its lane alone."""
    A = rng.normal(size=(400, 20)) * 10.0 ** rng.uniform(-3, 3, size=20)
    if dependent:
        A[:200, 7] = A[:200, :3].sum(axis=1)
    segments = Segments(np.repeat([0, 1], 200))
    assert segments.worth_a_call(20)
    Q, R = orthonormalise(A, segments, 1e-7)
    gram = segments.gram(A)
    monkeypatch.setattr(Segments, "worth_a_call", lambda *_: False)
    np.testing.assert_allclose(segments.gram(A), gram, rtol=tol.SMALL)
    Q_slow, R_slow = orthonormalise(A, segments, 1e-7)
    np.testing.assert_allclose(Q, Q_slow, atol=tol.SMALL)
    np.testing.assert_allclose(R, R_slow, atol=tol.SMALL * np.abs(R).max())
    assert (R[0, 7, 7] == 0.0) == dependent
    kept, basis = independent_columns(A[:200])
    assert kept == tuple(j for j in range(20) if not (dependent and j == 7))
    np.testing.assert_allclose(basis.T @ basis, np.eye(len(kept)), atol=tol.SMALL)


def test_threads_of_blas_are_put_back():
    """Whichever of two overlapping calls ends first."""

    def threads():
        return [x["num_threads"] for x in threadpool_info() if x["user_api"] == "blas"]

    before = threads()
    first, second = in_order(abs, range(3)), in_order(abs, range(3))
    next(first), next(second)
    assert set(threads()) <= {1}
    assert [*first] == [1, 2]
    assert set(threads()) <= {1}
    assert [*second] == [1, 2]
    assert threads() == before


def test_stats_are_the_lanes_own(rng):
    """Runs of lanes are cut from data sets with designs of their own."""
    stats = lanes_of(3, 2, 10)
    theta = rng.normal(size=(2, 3))
    whole = lane_derivatives(theta, stats, True, ((0,), (1,)))
    for i in range(3):
        alone = Stats(*(x[..., [i]] for x in stats))
        one = lane_derivatives(theta[:, [i]], alone, True, ((0,), (1,)))
        assert_same(one, jax.tree.map(lambda x, i=i: x[..., [i]], whole))
