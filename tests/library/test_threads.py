"""Threads share the process's warning filters; nothing of ours touches them."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
import tolerances as tol
from jaxhlm.errors import (
    ConvergenceWarning,
    NewLevelError,
    RankDeficientWarning,
    SingularFitWarning,
    muted,
    said_by,
    warn_user,
)

N = 120


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"i": rng.integers(0, 4, N), "x": rng.normal(size=N)})
    frame = frame.assign(g=np.repeat(np.arange(12), 10), rep=np.tile([0, 1], N // 2))
    return frame.assign(y=frame.i + rng.normal(size=N))


def test_eight_threads_get_the_answers_of_one(data):
    fit = hlm.fit("y ~ C(i) + scale(x) + (1 | g)", data)
    old, new = data.head(3), data.head(3).assign(i=[9, 1, 2])
    expected = fit.predict(old)
    before, filters = list(warnings.filters), warnings.filters
    formula = "y ~ C(i) + center(x) + (1 | g)"
    alone = hlm.fit_many(formula, data, by="rep", progress=False).fixef

    def work(k):
        if k % 3 == 0:
            pd.testing.assert_series_equal(fit.predict(old), expected)
        elif k % 3 == 1:
            with pytest.raises(NewLevelError, match=r"'C\(i\)'"):
                fit.predict(new)
        elif k % 8 == 2:
            again = hlm.fit_many(formula, data, by="rep", progress=False).fixef
            pd.testing.assert_frame_equal(again, alone)
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(400)))
    assert warnings.filters is filters
    assert warnings.filters == before


def test_muting_is_of_one_thread():
    def said():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warn_user("one", ConvergenceWarning)
        return len(caught)

    with muted(ConvergenceWarning), ThreadPoolExecutor(1) as pool:
        assert said() == 0
        assert pool.submit(said).result() == 1
    assert said() == 1


def test_a_sayer_hears_every_text_once():
    heard = []
    with said_by(lambda *told: heard.append(told)):
        for text in ("one", "two", "one"):
            warn_user(text, ConvergenceWarning)
    assert heard == [("one", ConvergenceWarning), ("two", ConvergenceWarning)]


LATE = "y ~ np.exp(x) + C(k) + (1 | g)"


def test_a_level_that_occurs_late_is_a_level():
    rng = np.random.default_rng(0)
    sizes = np.r_[np.full(600, 10), np.full(600, 40)]
    frame = pd.DataFrame({"rep": np.repeat(np.arange(1200), sizes)})
    frame["x"], frame["k"] = rng.normal(size=len(frame)), rng.integers(0, 3, len(frame))
    frame["g"] = frame.groupby("rep").cumcount() % 5
    frame["y"] = rng.normal(size=len(frame)) + rng.normal(size=(1200, 5))[frame.rep, frame.g]
    odd = frame.rep == 1100
    frame.loc[odd, "k"] = np.resize([0, 3, 1, 3, 2], odd.sum())
    lacking = pytest.warns(RankDeficientWarning, match="1190 of 1200 data sets have no row")
    with lacking, pytest.warns(ConvergenceWarning, match="rank_deficient"):  # some lack level 0
        fits = hlm.fit_many(LATE, frame, by="rep", progress=False)
    own = hlm.fit(LATE, frame[odd])
    np.testing.assert_allclose(fits.fixef.loc[1100], own.fixef, rtol=tol.ESTIMATE)
    assert list(fits.fixef) == list(own.fixef.index)
    # Those that have the base level and lack another one are as alone, without it.
    for i in (0, 600, 1199):
        with muted(SingularFitWarning):
            alone = hlm.fit(LATE, frame[frame.rep == i]).fixef
        np.testing.assert_allclose(fits.fixef.loc[i][alone.index], alone, rtol=tol.ESTIMATE)
        assert fits.fixef.loc[i].drop(alone.index).isna().all()
