"""Redrawn drop-out as statistics: every data set is that of rows, and their law is that of rows."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import jaxhlm as hlm
import tolerances as tol
from jaxhlm import violations as v
from jaxhlm.studies import pattern_source
from jaxhlm.studies.pattern_source import PatternSource

ARMS = {"arm": ["control", "treated"]}
SLOPES = "y ~ visit * arm + (1 + visit | unit)"


def made(formula, beta, sd, **design):
    builder = hlm.units(**{"redraw": True} | design)
    corr = 0.0 if len(sd) == 1 or "||" in formula else 0.3
    return hlm.mechanism(formula, builder, hlm.Truth.of(beta, sd, corr, 0.8))


MECHANISMS = {
    "slopes": lambda: made(
        SLOPES, [5, 1, 2, 0.3], [1, 0.4], n=14, within={"visit": range(5)}, factors=ARMS,
        dropout={"overall": 0.5},
    ),
    "years, few units": lambda: made(
        SLOPES, [5, 1, 2, 0.3], [1, 0.4], n=6, within={"visit": range(2020, 2024)}, factors=ARMS,
        dropout={"per_visit": 0.4},
    ),
    "intercepts, sizes, crossed": lambda: made(
        "y ~ visit + I(visit ** 2) + eye + a + (1 | unit)", [0, 1, -0.2, 0.5, 0.3], [1], n=9,
        measurements=(1, 3), within={"visit": [0.0, 1.0, 4.0]}, crossed={"eye": ["l", "r"]},
        between={"a": [0, 1, 2] * 3},
    ),
    "independent effects": lambda: made(
        "y ~ visit + (1 + visit || unit)", [0, 1], [1, 0.5], n=8, within={"visit": range(4)},
        dropout=stats.randint(1, 6), between={"a": stats.norm()}, redraw=["dropout"],
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.SingularFitWarning")
@pytest.mark.parametrize("name", MECHANISMS)
def test_every_data_set_is_fitted_as_its_rows_are(name):
    """By ``hlm.fit``, with small-sample degrees of freedom; also where products lose digits."""
    m, n = MECHANISMS[name](), 5
    assert m.gaussian
    with np.errstate(all="ignore"):
        fits = m.draw(0, n, 1, rows=False).fit()
    planned = replace(m.design, dropout=None, measurements=m.design.most, redraw=False).frame()
    tables = {df: fits.tidy(df=df) for df in ("satterthwaite", "kenward-roger")}
    compared = 0
    for i in np.flatnonzero(fits.ok):
        lane = fits.record.source.lane(i)
        rows = planned.loc[lane.index].assign(y=lane.y)
        alone = hlm.fit(m.formula, rows)
        assert (alone.nobs, alone.ngroups) == (fits.nobs[i], fits.ngroups[i])
        np.testing.assert_allclose(fits.criterion[i], alone.criterion, rtol=tol.DENSE)
        np.testing.assert_allclose(
            fits.fixef.iloc[i], alone.fixef, rtol=tol.ESTIMATE, atol=tol.ESTIMATE
        )
        for df, table in tables.items():
            own = table[table["replicate"] == i]
            own, other = own[own["df"].notna()], alone.tidy(df=df)
            other = other[other["df"].notna()]
            for column in ("std_error", "df"):
                np.testing.assert_allclose(own[column], other[column], rtol=tol.LOSSY)
        compared += 1
    assert compared >= 2


@pytest.mark.slow
def test_their_law_is_that_of_rows():
    """Means and variances of estimates, and of what they come from, within Monte-Carlo error."""
    m, n = MECHANISMS["slopes"](), 3000
    a, b = (m.draw(0, n, 2, rows=rows).fit() for rows in (False, True))
    assert (a.nobs == b.nobs).all()
    for x, y in (
        *zip(a.fixef.to_numpy().T, b.fixef.to_numpy().T, strict=True),
        *zip(a.se.to_numpy().T, b.se.to_numpy().T, strict=True),
        (a.sigma, b.sigma),
        (a.criterion, b.criterion),
    ):
        ok = np.isfinite(x) & np.isfinite(y)
        assert stats.ks_2samp(x[ok], y[ok]).pvalue > 1e-4


@pytest.mark.slow
def test_units_of_equal_designs_count_as_one_class():
    """Else one of their groups looks far from all others, and nearly every fit is searched."""
    m = made(
        SLOPES, [5, 1, 2, 0.3], [1, 0.4], n=60, within={"visit": range(5)}, factors=ARMS,
        dropout={"overall": 0.2},
    )  # fmt: skip
    fits = m.draw(0, 200, 1, rows=False).fit()
    assert (fits.iterations > 20).sum() <= 2
    stats = next(fits.record.source.reduced(slice(0, 200))).standardised.stats
    first = (stats.m > 0.0).any(axis=1)
    assert first.sum() == 5
    assert (stats.m.sum(axis=0) == 60.0).all()
    for same in np.split(stats.RZ, np.flatnonzero(first)[1:]):
        there = (same != 0.0).any(axis=(1, 2))
        np.testing.assert_array_equal(same, same[:1] * there[:, None, None])


def test_a_data_set_is_the_same_whatever_is_drawn_beside_it():
    m = MECHANISMS["slopes"]()
    some, all_of_them = (m.draw(first, 9, 3, rows=False).fit() for first in (4, 0))
    np.testing.assert_allclose(some.fixef, all_of_them.fixef[4:], rtol=tol.ESTIMATE)
    one, more = (PatternSource(m.patterns, 3, np.array([0, 3], np.uint32), i) for i in (4, 3))
    np.testing.assert_array_equal(one.lane(0).y, more.lane(1).y)


def test_data_sets_are_drawn_once_and_in_parts_that_fit_the_memory(monkeypatch):
    drawn, draw = [], pattern_source.draw_patterns
    monkeypatch.setattr(
        pattern_source,
        "draw_patterns",
        lambda *given: drawn.append(given[1].shape[1]) or draw(*given),
    )
    m = MECHANISMS["slopes"]()
    whole = hlm.power(m, "visit:armtreated", n=70, seed=1).table
    assert drawn == [80]
    monkeypatch.setattr(
        pattern_source, "KEPT_BYTES", pattern_source.KEPT_BYTES // m.patterns.most_kept * 24
    )
    assert 16 < m.patterns.most_kept < 35
    parts = hlm.power(m, "visit:armtreated", n=70, seed=1).table
    assert sum(drawn[1:]) > 80
    np.testing.assert_array_equal(parts["rejected"], whole["rejected"])
    assert 0 < whole["rejected"].item() < 70


def test_the_designs_are_those_of_rows():
    m = MECHANISMS["slopes"]()
    sizes = m.draw(0, 4, 3).frame().groupby("replicate").size()
    assert m.draw(0, 4, 3, rows=False).fit().nobs.tolist() == sizes.tolist()


def test_what_has_no_patterns_is_drawn_as_rows():
    truth = hlm.Truth.of([5, 1], [1], sigma=1)
    anew = hlm.units(8, 3, {"x": stats.norm()}, dropout={"overall": 0.2}, redraw=True)
    once = hlm.units(40, 3, {"x": stats.norm()}, dropout={"overall": 0.2}, redraw=["dropout"])
    few = hlm.units(8, 3, {"x": range(3)}, dropout={"overall": 0.2}, redraw=True)
    for design, violations, patterns in ((anew, [], 0), (once, [], 0), (few, [], 1),
                                         (few, [v.ResidualsFrom(v.Uniform())], 0)):  # fmt: skip
        m = hlm.mechanism("y ~ x + (1 | unit)", design, truth, violations)
        assert m.gaussian == bool(patterns)
        assert len(m.draw(0, 2, 1, rows=False).fit()) == 2
