"""Results are the caller's own: changing them, or what was fitted, changes no other result."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
from test_shared_names import CASES, SHARED, assert_alike, data, given, told

import jaxhlm as hlm

# What is made of other parts, or names no arrays.
WHOLE = {"model", "options", "estimates", "varcorr", "influence", "refit_ml"}
NAMES = [name for name in SHARED if name not in WHOLE]


def made(kind):
    if kind == "fit":
        formula, options = CASES["plain"]
        return hlm.fit(formula, data("plain"), **options)
    formula, rows, how = given("plain", kind)
    return hlm.fit_many(formula, rows, progress=False, **how)


def answers(fits):
    return {name: copy.deepcopy(told(fits, name)) for name in NAMES}


def arrays(found):
    """Numbers that a caller may write to."""
    if isinstance(found, dict):
        for one in found.values():
            yield from arrays(one)
    elif isinstance(found, pd.DataFrame):
        for _, column in found.items():
            yield from arrays(column)
    elif isinstance(found, pd.Series):
        yield from arrays(found.to_numpy())
    elif isinstance(found, np.ndarray) and found.dtype.kind in "if" and found.flags.writeable:
        yield found


def assert_same(fits, expected):
    for name in NAMES:
        found = told(fits, name)
        if isinstance(found, dict):
            assert_alike(np.stack([*found.values()]), np.stack([*expected[name].values()]))
        elif isinstance(found, hlm.Status | bool):
            assert found == expected[name]
        else:
            assert_alike(
                getattr(found, "table", found), getattr(expected[name], "table", expected[name])
            )


@pytest.mark.parametrize("kind", ["fit", "responses", "replicates"])
def test_what_is_handed_out_may_be_written_to(kind):
    fits = made(kind)
    before = answers(fits)
    for name in NAMES:
        for values in arrays(told(fits, name)):
            values[...] = 7
    assert_same(fits, before)


@pytest.mark.parametrize("kind", ["fit", "responses", "replicates", "one of many"])
@pytest.mark.parametrize("how", [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy])
def test_fits_that_were_used_are_copied(kind, how):
    fits = made("responses")[1] if kind == "one of many" else made(kind)
    before = answers(fits)
    assert_same(how(fits), before)


def test_a_response_may_change_after_it_was_fitted():
    """As in a permutation test that shuffles in place."""
    fit, rng = made("fit"), np.random.default_rng(1)
    y = data("plain")["y"].to_numpy(copy=True)
    found, expected = [], []
    for _ in range(2):
        rng.shuffle(y)
        found.append(fit.refit(y))
        expected.append(fit.refit(y.copy()))
    for one, other in zip(found, expected, strict=True):
        assert_alike(one.residuals, other.residuals)
        assert_alike(one.ranef, other.ranef)
