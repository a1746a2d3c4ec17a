"""Weights of counts by their mean-variance trend: what limma's ``voom`` gives."""

import json
from functools import cache

import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
import tolerances as tol
from cases import DATA
from jaxhlm import errors
from jaxhlm.statistics.lowess import lowess

R = json.loads((DATA / "voom.json").read_text())
FORMULA = "~ dose * arm + (1 | unit)"


@cache
def samples():
    unit = np.repeat([f"u{i}" for i in range(6)], 2)
    names = pd.Index([f"s{i}" for i in range(12)], name="sample")
    return pd.DataFrame({"dose": [0, 1, 2] * 4, "arm": list("aaaaaabbbbbb"), "unit": unit}, names)


@cache
def counts():
    """Genes × samples."""
    genes = pd.Index([f"g{i}" for i in range(len(R["counts"]))], name="gene")
    return pd.DataFrame(R["counts"], genes, samples().index)


@pytest.mark.parametrize(
    ("case", "options"), [("plain", {}), ("given", {"lib_size": R["lib_size"], "span": 0.3})]
)
def test_limma(case, options):
    found = hlm.voom_weights(counts(), FORMULA, samples(), responses_in="rows", **options)
    for mine, limma in zip(found, (R[case]["E"], R[case]["weights"]), strict=True):
        np.testing.assert_allclose(mine.T, limma, rtol=tol.SMALL)
        assert mine.index.equals(samples().index) and mine.columns.tolist() == [*counts().index]


def test_lowess_of_ties_and_outliers_is_that_of_R():
    x, y = (np.array(R["lowess"][name]) for name in "xy")
    for name, how in (("half", (0.5, 3)), ("most", (0.9, 1))):
        np.testing.assert_allclose(lowess(x, y, *how), R["lowess"][name], rtol=tol.SMALL)
    np.testing.assert_allclose(lowess(x, np.ones(len(x))), 1.0, rtol=tol.SMALL)


def test_samples_are_matched_and_those_that_are_not_fitted_have_no_weight():
    """In another order; of the others the numbers are those that they have alone."""
    shuffled = counts().sample(frac=1.0, axis=1, random_state=1)
    sizes = pd.Series(R["lib_size"], counts().columns)[::-1]
    found = hlm.voom_weights(
        shuffled, FORMULA, samples(), responses_in="rows", lib_size=sizes, span=0.3
    )
    np.testing.assert_allclose(found.weights.T, R["given"]["weights"], rtol=tol.SMALL)
    part = samples().assign(dose=samples()["dose"].where(samples().index != "s4"))
    with pytest.warns(errors.RowsDroppedWarning):
        gap = hlm.voom_weights(counts().T, FORMULA, part)
    rest = samples().index != "s4"
    alone = hlm.voom_weights(counts().loc[:, rest].T, FORMULA, samples()[rest])
    np.testing.assert_allclose(gap.weights[rest], alone.weights, rtol=tol.SMALL)
    assert gap.weights.loc["s4"].isna().all() and gap.log_cpm.notna().all(axis=None)


def test_fits_take_them():
    """A weight that stands for none leaves its row out."""
    log_cpm, weights = hlm.voom_weights(counts().iloc[4:9].T, "~ dose + (1 | unit)", samples())
    fits = hlm.fit_many("~ dose + (1 | unit)", samples(), log_cpm, weights=weights)
    one = samples().assign(y=log_cpm["g5"], w=weights["g5"])
    alone = hlm.fit("y ~ dose + (1 | unit)", one, weights="w")
    np.testing.assert_allclose(fits.fixef.loc["g5"], alone.fixef, rtol=tol.BATCH)


@pytest.mark.parametrize(
    ("changed", "formula", "options", "message"),
    [
        (lambda c: c - 1, FORMULA, {}, "that of 'g.*' in sample 's.*' is -1"),
        (lambda c: c.where(c != c.max(axis=None)), FORMULA, {}, "nan"),
        (lambda c: c / 0.0, FORMULA, {}, "inf|nan"),
        (lambda c: c.iloc[:1], FORMULA, {}, "two genes"),
        (lambda c: c * 0, FORMULA, {}, "two genes"),
        (lambda c: c.rename(columns={"s3": "s33"}), FORMULA, {}, "s33"),
        (lambda c: c, "~ 0 + (1 | unit)", {}, "0 fixed effects"),
        (lambda c: c, FORMULA, {"lib_size": [1.0] * 11}, "lib_size has shape"),
        (lambda c: c, FORMULA, {"lib_size": [0.0] * 12}, "positive number"),
        (lambda c: c, FORMULA, {"span": 2.0}, "span"),
        (lambda c: c * 0 + 7, FORMULA, {"lib_size": [1e3] * 12}, "is zero in places"),
    ],
)
def test_what_cannot_be_is_told(changed, formula, options, message):
    with pytest.raises(errors.JaxhlmError, match=message):
        hlm.voom_weights(changed(counts()).T, formula, samples(), **options)
