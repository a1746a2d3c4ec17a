"""Random terms as data: the records of formulas, and a structure that only this test knows."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

import jaxhlm as hlm
import tolerances as tol
from jaxhlm import errors
from jaxhlm.datasets import load_dataset
from jaxhlm.design.design import build_design
from jaxhlm.estimation.model import Model
from jaxhlm.estimation.pipeline import Prepared, fit_lanes
from jaxhlm.likelihood.covariance import canonical, covariance_of, lambda_of, theta_of
from jaxhlm.likelihood.random_term import STRUCTURES, RandomTerm, blocks_of
from jaxhlm.optimise.options import Options
from jaxhlm.results.fit import Fit
from jaxhlm.results.record import FitRecord
from jaxhlm.sources.sources import ResponseMatrix


@pytest.fixture(scope="module")
def data():
    return load_dataset("sleepstudy").assign(
        g=lambda d: d.Subject, x=lambda d: d.Days, arm=lambda d: np.array(list("abc"))[d.Days % 3]
    )


ARMS = ("arma", "armb", "armc")
TERMS = [
    ("(1|g)", [((0,), ("(Intercept)",))]),
    ("(0 + x|g)", [((0,), ("x",))]),
    ("(1 + x | g)", [((0, 1), ("(Intercept)", "x"))]),
    ("(1 + x || g)", [((0,), ("(Intercept)",)), ((1,), ("x",))]),
    ("(1|g) + (0 + x|g)", [((0,), ("(Intercept)",)), ((1,), ("x",))]),
    ("(0 + arm | g)", [((0, 1, 2), ARMS)]),
    ("(0 + arm || g)", [((j,), (name,)) for j, name in enumerate(ARMS)]),
    ("(arm | g)", [((0, 1, 2), ("(Intercept)", "armb", "armc"))]),
    ("(0 + x | g) + (0 + arm | g)", [((0,), ("x",)), ((1, 2, 3), ARMS)]),
    ("(1 + x || g) + (0 + I(x**2) | g)", [((0,), ("(Intercept)",)), ((1,), ("x",)),
                                         ((2,), ("I(x ** 2)",))]),
]  # fmt: skip


@pytest.mark.parametrize(("random", "expected"), TERMS)
def test_terms_of_formulas(data, random, expected):
    design = build_design(f"Reaction ~ x + {random}", data)
    terms = tuple(RandomTerm("g", *told, "unstructured") for told in expected)
    model = Model.of(design, True)
    for record in (
        design,
        model,
        Model.from_json(model.to_json()),
        pickle.loads(pickle.dumps(model)),
    ):
        assert record.terms == terms
        assert record.blocks == tuple(columns for columns, _ in expected)
        assert record.znames == tuple(name for _, names in expected for name in names)
        assert record.group_name == "g"
    assert hash(design.terms) == hash(terms)


def test_two_columns_are_one_grouping_factor(data):
    design = build_design("Reaction ~ x + (1 + x || g:arm)", data)
    assert [term.group for term in design.terms] == ["g:arm", "g:arm"]


def test_a_model_of_an_earlier_file_is_read(data):
    model = Model.of(build_design("Reaction ~ x + (1 + x || g)", data), True)
    record = json.loads(model.to_json())
    del record["terms"]
    earlier = record | {"group_name": "g", "znames": model.znames, "blocks": model.blocks}
    assert Model.from_json(json.dumps(earlier)) == model


def test_an_unknown_structure_is_refused():
    with pytest.raises(errors.OptionError, match=r"structure='toeplitz'.*'unstructured'"):
        RandomTerm("g", (0,), ("x",), "toeplitz")


@pytest.fixture
def diagonal(data, monkeypatch):
    """The design of ``(1 + x | g)`` with a structure of variances only."""
    monkeypatch.setitem(STRUCTURES, "diagonal", lambda columns: tuple((j,) for j in columns))
    design = build_design("Reaction ~ x + (1 + x | g)", data)
    (term,) = design.terms
    return replace(design, terms=(replace(term, structure="diagonal"),))


def test_theta_and_lambda_follow_from_the_structure(diagonal, rng):
    (term,), blocks = diagonal.terms, blocks_of(diagonal.terms)
    assert term.entries == ((0, 0), (1, 1))
    theta = rng.normal(size=(2, 5))
    np.testing.assert_array_equal(lambda_of(theta, blocks), theta.T[:, :, None] * np.eye(2))
    D = covariance_of(theta, blocks)
    # A covariance is nothing that the structure knows.
    D[:, 0, 1] = D[:, 1, 0] = 0.1
    np.testing.assert_allclose(theta_of(D, blocks), np.abs(theta), rtol=tol.SMALL)
    np.testing.assert_allclose(canonical(theta, blocks), np.abs(theta), rtol=tol.SMALL)


@pytest.mark.parametrize("reml", [True, False])
def test_a_fit_follows_from_the_structure(diagonal, data, reml):
    prepared, options = Prepared(diagonal), Options(reml, diagonal.blocks)
    prepared.check_identified(reml)
    source = ResponseMatrix(prepared, diagonal.y[:, None])
    estimates = fit_lanes(source, options).estimates
    found = Fit(FitRecord.alone(source, Model.of(diagonal, reml), estimates, options))
    expected = hlm.fit("Reaction ~ x + (1 + x || g)", data, reml)
    assert found.criterion == expected.criterion
    np.testing.assert_array_equal(found.theta, expected.theta)
    assert found.tidy().equals(expected.tidy())
    assert found.varcorr.frame().equals(expected.varcorr.frame())
    assert found.ranef.equals(expected.ranef)
    assert list(found.confint().index) == list(expected.confint().index)
    assert found.confint("profile").equals(expected.confint("profile"))
    assert "Corr" not in str(found.varcorr)
    assert Model.from_json(found.model.to_json()) == found.model
