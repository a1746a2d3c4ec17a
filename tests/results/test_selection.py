"""``fits[…]`` and ``fits.loc[…]``: positions are numbers, all else is a label, and nothing else."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
import tolerances as tol
from jaxhlm import errors

GENES = pd.Index(["BRCA1", "TP53", "EGFR", "TP53"], name="gene")
PAIRS = pd.MultiIndex.from_tuples([("roi1", 1), ("roi1", 2), ("roi2", 1), ("x", 0)])
NUMBERS = pd.Index([3, 2, 7, 0])


@cache
def batch():
    data = hlm.load_dataset("sleepstudy")
    Y = hlm.fit("Reaction ~ Days + (1 | Subject)", data).simulate(4, seed=1)
    return hlm.fit_many("~ Days + (1 | Subject)", data, responses=Y, progress=False)


def taken(labels, which, loc=False):
    """Numbers of the fits that come."""
    fits = replace(batch(), index=labels)
    found = fits.loc[which] if loc else fits[which]
    if isinstance(found, hlm.Fit):
        (number,) = np.flatnonzero(batch().estimates.criterion == found.criterion)
        return int(number)
    assert isinstance(found, hlm.FitBatch)
    return found.lanes.tolist()


@pytest.mark.parametrize(
    ("labels", "which", "expected"),
    [
        (GENES, "BRCA1", 0),
        (GENES, np.str_("EGFR"), 2),
        (GENES, "TP53", [1, 3]),
        (GENES, ["EGFR", "TP53"], [2, 1, 3]),
        (GENES, GENES[:1], [0]),
        (GENES, 2, 2),
        (GENES, -1, 3),
        (GENES, slice(1, 3), [1, 2]),
        (GENES, [0, -1], [0, 3]),
        (GENES, np.array([2, 1]), [2, 1]),
        (GENES, [], []),
        (GENES, [True, False, False, True], [0, 3]),
        (GENES, np.array([True, False, False, True]), [0, 3]),
        (GENES, pd.Series([True, False, True, False], GENES), [0, 2]),
        (NUMBERS, 3, 3),
        (NUMBERS, [3, 2], [3, 2]),
        (PAIRS, ("roi1", 2), 1),
        (PAIRS, "roi1", [0, 1]),
        (PAIRS, [("x", 0), ("roi1", 1)], [3, 0]),
        (pd.date_range("2020", periods=4), pd.Timestamp("2020-01-03"), 2),
        (pd.Index([0.5, 1.0, 2.0, 3.0]), 2.0, 2),
        (pd.Index([True, False, True, False]), False, [1, 3]),
    ],
)
def test_positions_and_labels(labels, which, expected):
    assert taken(labels, which) == expected


def test_loc_takes_whole_numbers_as_labels():
    assert taken(NUMBERS, 3, loc=True) == 0
    assert taken(NUMBERS, [7, 3], loc=True) == [2, 0]
    assert taken(GENES, "TP53", loc=True) == [1, 3]
    with pytest.raises(errors.UnknownFitError, match="labelled 1; the labels are: 3, 2, 7, 0"):
        taken(NUMBERS, 1, loc=True)


@pytest.mark.parametrize(
    ("labels", "which", "error", "match"),
    [
        (GENES, "BRCA2", errors.UnknownFitError, "no fit is labelled 'BRCA2'; closest: BRCA1"),
        (GENES, "?", errors.UnknownFitError, "the labels are: 'BRCA1', 'TP53', 'EGFR'"),
        (GENES, ["BRCA1", "X"], errors.UnknownFitError, "'X'"),
        (GENES, 4, errors.UnknownFitError, "position 4; this batch holds 4"),
        (GENES, [0, -5], errors.UnknownFitError, "position -5"),
        (NUMBERS, 7, errors.UnknownFitError, r"position 7.*fits\.loc"),
        (GENES, None, errors.UnknownFitError, "None"),
        (GENES, 1.0, errors.UnknownFitError, "1.0"),
        (GENES, [0.5], errors.UnknownFitError, "0.5"),
        (GENES, True, errors.UnknownFitError, "True"),
        (NUMBERS, True, errors.UnknownFitError, "True"),
        (GENES, [True, False], errors.OptionError, "2 booleans choose among 4"),
        (GENES, [True, 1, 2, 3], errors.OptionError, "True or False among others"),
        (GENES, pd.Series([True] * 4), errors.OptionError, "another index"),
        (GENES, slice("BRCA1", "EGFR"), errors.OptionError, "a slice is of positions"),
        (PAIRS, ("roi1", 3), errors.UnknownFitError, "roi1"),
        (GENES, {"a": 1}, errors.UnknownFitError, "'a'"),
        (GENES, np.zeros((2, 2), int), errors.UnknownFitError, "labelled"),
    ],
)
def test_refused(labels, which, error, match):
    with pytest.raises(error, match=match):
        taken(labels, which)


def test_one_of_many_is_refitted_to_the_rows_of_its_data_set():
    """Rows that are dropped may be among them, or not; those of other data sets are not."""
    one = hlm.load_dataset("sleepstudy")
    data = pd.concat([one.assign(r=r) for r in range(2)], ignore_index=True)
    data.loc[[5, 200, 201], "Days"] = np.nan
    with pytest.warns(errors.RowsDroppedWarning):
        fits = hlm.fit_many("Reaction ~ Days + (1 | Subject)", data, by="r", progress=False)
    for r, dropped in ((0, 1), (1, 2)):
        own, fit = data[data["r"] == r], fits[r]
        for y in (own["Reaction"], own.dropna()["Reaction"], own["Reaction"].to_numpy()):
            np.testing.assert_allclose(fit.refit(y).fixef, fit.fixef, tol.ESTIMATE)
        assert fit.design.n_dropped == dropped and len(fit.design.kept) == len(own)
        with pytest.raises(errors.JaxhlmError, match=f"{180 - dropped} rows of 180"):
            fit.refit(data["Reaction"])
