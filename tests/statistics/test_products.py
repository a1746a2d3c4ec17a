"""Lanes with rows of their own, or weights of shared ones, by products and by Gram–Schmidt."""

import numpy as np
import pytest

import tolerances as tol
from cases import SIZES, rows
from jaxhlm.core.status import Status
from jaxhlm.statistics.incomplete import WeightedRows
from jaxhlm.statistics.products import standardised_from_products
from jaxhlm.statistics.replicates import standardised_lanes
from jaxhlm.statistics.response import reduce_responses
from jaxhlm.statistics.standardise import Rows, standardise_matrices

CASES = [
    pytest.param(1, 1, ((0,),), id="intercept"),
    pytest.param(2, 4, ((0, 1),), id="slope"),
    pytest.param(2, 3, ((0,), (1,)), id="diagonal"),
    pytest.param(3, 5, ((0, 2), (1,)), id="two terms"),
]
# Lanes of different sizes; the last has fewer groups than the others.
LANES = (SIZES, SIZES[::-1], (4, 9, 6, 8))


def rows_of_lanes(rng, q, p, blocks, weighted=False):
    """Rows of three lanes, and y."""
    parts = [rows(rng, sizes, q, p) for sizes in LANES]
    y, X, Z = (np.concatenate([part[i] for part in parts]) for i in range(3))
    segment = np.concatenate([10 * i + part[3] for i, part in enumerate(parts)])
    lane = np.concatenate([np.full(len(part[0]), i) for i, part in enumerate(parts)])
    weights = rng.uniform(0.5, 2.0, len(y)) if weighted else None
    return Rows(X, Z, segment, lane, weights, blocks), y


def assert_same(found, expected, lane_index=slice(None)):
    """Equal statistics; the sign of a column of Q_Z is free."""
    for name, a, b in zip(found.stats._fields, found.stats, expected.stats, strict=True):
        np.testing.assert_allclose(
            np.abs(a)[..., lane_index],
            np.abs(b)[..., lane_index],
            atol=tol.UNITS,
            err_msg=name,
        )
    for a, b in zip(found.scaling, expected.scaling, strict=True):
        np.testing.assert_allclose(
            a[..., lane_index], b[..., lane_index], rtol=tol.PRODUCTS, atol=tol.UNITS
        )
    np.testing.assert_array_equal(found.status[lane_index], expected.status[lane_index])


@pytest.mark.parametrize(("q", "p", "blocks"), CASES)
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_gram_schmidt(rng, q, p, blocks, weighted):
    data, y = rows_of_lanes(rng, q, p, blocks, weighted)
    found, lost = standardised_from_products(data, y)
    # A group whose x are close together leaves its rank in doubt, and goes the other way.
    assert not lost.all()
    assert_same(found, reduce_responses(standardise_matrices(data), y[:, None]), ~lost)


def test_lanes_that_lose_digits_go_the_other_way(rng):
    """A large mean of x, a group with equal x, a constant response, a missing value."""
    data, y = rows_of_lanes(rng, 2, 3, ((0, 1),))
    expected_lost = []
    for lane, spoil in enumerate(["offset", "equal x", "constant y"]):
        part, X, Z, values = data.lane == lane, data.X.copy(), data.Z.copy(), y.copy()
        if spoil == "offset":
            X[part, 1] += 1e5
            Z[part, 1] += 1e5
        elif spoil == "equal x":
            Z[part & (data.segment == data.segment[part][0]), 1] = 0.7
        else:
            values[part] = 3.0
        spoilt = Rows(X, Z, data.segment, data.lane, None, data.blocks)
        with np.errstate(all="raise"):
            lost = standardised_from_products(spoilt, values)[1]
        expected_lost.append(bool(lost[lane]))
        whole = reduce_responses(standardise_matrices(spoilt), values[:, None])
        assert_same(standardised_lanes(spoilt, values), whole, whole.status == Status.CONVERGED)
        assert (standardised_lanes(spoilt, values).status == whole.status).all()
    assert all(expected_lost)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_a_bad_lane_leaves_its_neighbours_alone(rng, bad):
    data, y = rows_of_lanes(rng, 2, 3, ((0, 1),))
    clean, spoilt = standardised_lanes(data, y), y.copy()
    spoilt[np.flatnonzero(data.lane == 1)[3]] = bad
    found = standardised_lanes(data, spoilt)
    for a, b in zip([*found.stats, *found.scaling], [*clean.stats, *clean.scaling], strict=True):
        np.testing.assert_array_equal(a[..., [0, 2]], b[..., [0, 2]])
    assert found.status[0] == found.status[2] == Status.CONVERGED


# Responses that miss rows of one design, or weigh them.

B = 5


def gaps(rng, q, p, blocks, weights):
    """A design, responses with gaps, whole groups among them, and weights (n, B)."""
    y, X, Z, group = rows(rng, SIZES, q, p)
    Y = y[:, None] + rng.normal(size=(len(y), B))
    Y[rng.random(Y.shape) < 0.15] = np.nan
    Y[group == 1, 0] = np.nan
    Y[np.ix_((group == 0) | (group == 3), [1])] = np.nan
    Y[:, 4] = y
    w = rng.uniform(0.5, 2.0, Y.shape)
    w[:, :] = w[:, :1] if weights == "shared" else w
    shared = Rows(
        X, Z, group, np.zeros_like(group), w[:, 0] if weights == "shared" else None, blocks
    )
    return shared, Y, w if weights == "own" else None


def alone(shared, y, w):
    """One response on the rows that it has, by Gram–Schmidt."""
    at = ~np.isnan(y)
    w = shared.weights if w is None else w
    own = Rows(
        shared.X[at], shared.Z[at], shared.segment[at], shared.lane[at],
        None if w is None else w[at], shared.blocks,
    )  # fmt: skip
    return reduce_responses(standardise_matrices(own), y[at, None])


def groups_there(standardised, lane):
    """One lane, without the groups that it lacks."""
    found = standardised.take(np.array([lane]))
    at = found.stats.m[:, 0] > 0.0
    fields = {name: getattr(found.stats, name)[at] for name in ("RZ", "TX", "Ty", "m")}
    return found._replace(stats=found.stats._replace(**fields))


@pytest.mark.parametrize(("q", "p", "blocks"), CASES)
@pytest.mark.parametrize("weights", ["none", "shared", "own"])
def test_weighted_rows_equal_gram_schmidt(rng, q, p, blocks, weights):
    shared, Y, W = gaps(rng, q, p, blocks, weights)
    found, lost = WeightedRows(shared).standardised(Y, W, np.arange(B))
    assert not lost.all()
    for lane in np.flatnonzero(~lost):
        own = alone(shared, Y[:, lane], None if W is None else W[:, lane])
        assert_same(groups_there(found, lane), own)


def test_no_lane_depends_on_which_others_are_asked_for_or_on_their_values(rng):
    shared, Y, _ = gaps(rng, 2, 4, ((0, 1),), "none")
    Y = np.tile(Y, 60)
    whole, _ = WeightedRows(shared).standardised(Y, None, np.arange(Y.shape[1]))
    which = np.array([1, 7, 131, 132, 290])
    Y[:, 0], Y[3, 130] = np.nan, np.inf
    found, lost = WeightedRows(shared).standardised(Y, None, which)
    assert not lost.any()
    expected = whole.take(which)
    for a, b in zip(
        [*found.stats, *found.scaling], [*expected.stats, *expected.scaling], strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_lanes_that_lose_digits_or_cannot_be_fitted_are_told(rng):
    """A constant response, one too large, one whose rows leave a column of X zero."""
    shared, Y, _ = gaps(rng, 2, 4, ((0, 1),), "none")
    shared.X[:, 3] = np.arange(len(Y)) < 5
    Y[:, 1], Y[:, 2], Y[:5, 3] = 3.0, 1e200, np.nan
    found, lost = WeightedRows(shared).standardised(Y, None, np.arange(B))
    assert lost[1:4].all()
    assert found.status[4] == Status.CONVERGED
