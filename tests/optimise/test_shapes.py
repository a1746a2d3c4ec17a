"""The shapes that annotations of records state are those of the arrays."""

import jax
import jaxtyping
import numpy as np
import pytest

from jaxhlm.core import notation
from jaxhlm.likelihood.covariance import block_of
from jaxhlm.likelihood.derivatives import derivatives
from jaxhlm.likelihood.lane_derivatives import lane_derivatives
from jaxhlm.likelihood.suffstats import suffstats
from jaxhlm.optimise.criterion import minimise_criterion
from jaxhlm.optimise.loop import NEWTON
from jaxhlm.optimise.minimise import minimise
from jaxhlm.optimise.options import Options
from jaxhlm.optimise.solve import Solution
from jaxhlm.statistics.response import reduce_responses
from jaxhlm.statistics.standardise import Rows, standardise_matrices

NAMES = {name: getattr(jaxtyping, name) for name in ("Bool", "Float", "Int")} | vars(notation)
# With NumPy 2.5 jaxtyping takes an array's class, not ``NDArray`` of a dtype.
NAMES |= dict.fromkeys(("Bools", "Floats", "Ints"), np.ndarray)


@jaxtyping.jaxtyped(typechecker=None)
def check(*records):
    """Every array of the records has its shape, a letter being one size in all of them."""
    checked = 0
    for record in records:
        for name, annotation in type(record).__annotations__.items():
            if not isinstance(annotation, str):
                annotation = annotation.__forward_arg__
            if annotation.startswith(("Float[", "Int[", "Bool[")):
                x = getattr(record, name)
                stated = eval(annotation, dict(NAMES))
                assert isinstance(x, stated), (type(record), name, np.shape(x), annotation)
                checked += 1
    return checked


@pytest.fixture
def stats(rng):
    X, Z = rng.normal(size=(40, 3)), rng.normal(size=(40, 2))
    return suffstats(rng.normal(size=40), X, Z, np.arange(40) % 5, num_groups=5)


def many(stats, B=4):
    return type(stats)(*(np.repeat(np.asarray(x)[..., None], B, axis=-1) for x in stats))


def test_one_data_set(stats):
    theta, blocks = np.array([1.0, 0.1, 0.8]), block_of(2)
    found = jax.eval_shape(lambda t, s: derivatives(t, s, True, blocks), theta, stats)
    assert check(stats, found, found.profile, jax.eval_shape(minimise, stats)) > 20


def test_lanes(stats):
    lanes, blocks = many(stats), block_of(2)
    theta = np.tile([[1.0], [0.1], [0.8]], 4)
    at = lane_derivatives(theta, lanes, True, blocks)
    found = minimise_criterion(lanes, theta, NEWTON, Options(True, blocks), 50)
    assert check(lanes, at, at.profile, found, Solution.of(found)) > 30


def test_a_wrong_shape_is_found(stats):
    with pytest.raises(AssertionError, match="Ty"):
        check(stats._replace(Ty=stats.Ty[:2]))


def test_responses(rng):
    X, Z, group = rng.normal(size=(40, 3)), rng.normal(size=(40, 2)), np.repeat(np.arange(5), 8)
    rows = Rows(X, Z, group, np.zeros(40, int), None, block_of(2))
    found = reduce_responses(standardise_matrices(rows), rng.normal(size=(40, 4)))
    assert check(found, found.stats, found.scaling) > 16
