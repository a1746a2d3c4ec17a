"""Nominal behaviour of a study's numbers on two small designs, by ``bench.validation.nominal``."""

import numpy as np
import pytest

from places import ROOT

N = 4000
BALANCED, UNBALANCED = "10 x 5, intercepts", "3 arms of 4 unequal"


@pytest.fixture(scope="module")
def judged():
    """One row per design, method, term and measure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        from bench.validation.nominal import nominal
        from bench.validation.nominal_cases import METHODS, cases
    chosen = [case for case in cases() if case.name in (BALANCED, UNBALANCED)]
    return nominal(chosen, METHODS, N, seed=1).set_index(["design", "method", "term", "measure"])


@pytest.mark.slow
def test_nothing_is_further_from_theory_than_chance(judged):
    """Bias, standard errors, coverage and type-I error; exact in the balanced design."""
    assert len(judged) == 5 * (3 * 3 + 2) + 5 * (4 * 3 + 2)
    assert (judged["verdict"] != "OFF").all()
    exact = judged.loc[BALANCED]
    assert (exact["theory"] == "exact").all()
    # Means of squares: 1 if the Monte-Carlo standard errors are right, and rows go together.
    assert 0.2 < (exact["z"] ** 2).mean() < 2.5


@pytest.mark.slow
def test_small_samples_are_judged_as_the_literature_says(judged):
    """z tests reject too often with few groups, those of ML more often; Kenward-Roger does not."""
    for design, term in ((BALANCED, "a"), (UNBALANCED, "armq")):
        rate = judged.loc[design].xs((term, "type_i"), level=("term", "measure"))["value"]
        mcse = np.sqrt(0.05 * 0.95 / N)
        assert abs(rate["KR"] - 0.05) < 3 * mcse
        assert rate["z"] > 0.05 + 6 * mcse
        assert rate["ML z"] > rate["z"] + 6 * mcse
        assert rate["ML Satterthwaite"] > 0.05 + 6 * mcse


def test_what_is_wrong_is_called_off(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from bench.validation.nominal import judged

    for value, claim, verdict in (
        (0.958, "exact", "OFF"),
        (0.942, "exact", "OFF"),
        (0.942, "at least", "OFF"),
        (0.958, "at most", "OFF"),
        (float("nan"), "approximate", "OFF"),
        (0.958, "at least", "as known"),
        (0.942, "approximate", "shown"),
        (0.951, "exact", "ok"),
    ):
        assert judged(value, 0.002, 0.95, claim)["verdict"] == verdict
