"""Family-wise error rates of many responses: against single refits, and by how often they err."""

import itertools
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import jaxhlm as hlm
import tolerances as tol
from jaxhlm import errors
from jaxhlm.core import chunks
from jaxhlm.fitting import null_refits
from jaxhlm.inference.max_t import critical_value, single_step
from jaxhlm.resampling.null_responses import constrained

pytestmark = pytest.mark.filterwarnings(
    "ignore::jaxhlm.errors.SingularFitWarning", "ignore::jaxhlm.errors.RowsDroppedWarning"
)
FORMULA = "~ x + a + (1 | unit)"
NAMED = {"slope": "x", "a is a half": "2*a - x = 1"}


def data(G, m=4):
    unit = np.repeat(np.arange(G), m)
    return pd.DataFrame({"unit": unit, "x": np.tile(np.arange(m), G), "a": unit % 2})


def correlated(d, B, seed, share=0.5):
    """Null responses, of which each two have a part in common."""
    rng, G, n = np.random.default_rng(seed), d["unit"].nunique(), len(d)

    def part(rows):
        own = rng.normal(size=(rows, B))
        return np.sqrt(share) * rng.normal(size=(rows, 1)) + np.sqrt(1 - share) * own

    return part(G)[d["unit"]] + part(n)


def given(d, kind):
    """Responses of every kind: weights, missing values, one that cannot be fitted, one effect."""
    Y, W = correlated(d, 5, seed=3), None
    Y[:, 2] += d["x"]
    if kind != "complete":
        Y[[1, 6], 1] = np.nan
        Y[:4, 3] = np.nan
        Y[:, 4] = 1.0
    if kind == "weights":
        W = np.random.default_rng(1).gamma(4.0, 0.25, Y.shape)
        W[7, 0] = 0.0
    return Y, W


def z_of(d, y, w, row, value):
    """|z| of one response, fitted by itself."""
    rows = np.isfinite(y) & ((w if w is not None else 1.0) > 0.0)
    weights = None if w is None else w[rows]
    fit = hlm.fit("y" + FORMULA, d.assign(y=y)[rows].reset_index(drop=True), weights=weights)
    e = fit.fixef.to_numpy(), fit.vcov.to_numpy(), fit.contrast(row, rhs=value)
    return -stats.norm.ppf(0.5 * e[2]["p_value"].iloc[0]), e


def by_single_fits(d, Y, W, row, value):
    """(patterns, tests) |z*| of all sign patterns but none, and |z| of the data."""
    G, X = d["unit"].nunique(), np.column_stack([np.ones(len(d)), d["x"], d["a"]])
    patterns = [s for s in itertools.product([1, -1], repeat=G) if s[-1] == 1 and min(s) < 0]
    observed, resampled = [], []
    for j in range(Y.shape[1]):
        w = None if W is None else W[:, j]
        try:
            z, (beta, vcov, _) = z_of(d, Y[:, j], w, row, value)
        except errors.ConstantResponseError:
            continue
        beta = beta - vcov @ row * (row @ beta - value) / (row @ vcov @ row)
        e = Y[:, j] - X @ beta
        new = (X @ beta + np.array(s)[d["unit"]] * e for s in patterns)
        observed.append(z)
        resampled.append([z_of(d, y, w, row, value)[0] for y in new])
    return np.array(resampled).T, np.array(observed)


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.ConvergenceWarning")
@pytest.mark.parametrize("kind", ["complete", "missing", "weights"])
def test_every_sign_pattern_by_single_fits(kind):
    """The definition: all patterns of four units, each response fitted by ``fit`` alone."""
    d = data(4)
    Y, W = given(d, kind)
    fits = hlm.fit_many(FORMULA, d, Y, weights=W)
    found = hlm.max_t(fits, {"c": "2*a - x = 1"}, n=7)
    z, observed = by_single_fits(d, Y, W, np.array([0.0, -1.0, 2.0]), 1.0)
    assert found.exact and len(found) == 7 and found.failed == 0
    np.testing.assert_allclose(np.sort(found.maxima["c"]), np.sort(z.max(axis=1)), rtol=tol.ALIKE)
    single = [(1 + (z.max(axis=1) >= one).sum()) / 8 for one in observed]
    down = [(1 + (z[:, observed <= one].max(axis=1) >= one).sum()) / 8 for one in observed]
    down = [max(p for p, z in zip(down, observed, strict=True) if z >= one) for one in observed]
    table = found.table.dropna(subset="p_value")
    np.testing.assert_allclose(table["p_fwer"], down, rtol=tol.SUMMED)
    other = hlm.max_t(fits, {"c": "2*a - x = 1"}, n=99, step_down=False).table
    np.testing.assert_allclose(other["p_fwer"].dropna(), single, rtol=tol.SUMMED)
    assert (table["mc_se"] == 0.0).all() and "1/8" in str(found)
    assert found.table["p_fwer"].isna().sum() == (kind != "complete")


def test_the_constrained_estimate_is_the_fit_of_the_smaller_design():
    """Balanced, so that β̂ does not depend on the variances."""
    d = data(8)
    Y = correlated(d, 3, seed=1)
    fits = hlm.fit_many(FORMULA, d, Y)
    smaller = hlm.fit_many("~ a + (1 | unit)", d, Y - 0.5 * d["x"].to_numpy()[:, None])
    beta = constrained(fits.record.estimates, np.array([0.0, 1.0, 0.0]), 0.5)
    np.testing.assert_allclose(beta[:, [0, 2]], smaller.fixef, rtol=tol.BATCH)
    np.testing.assert_allclose(beta[:, 1], 0.5, rtol=tol.SUMMED)


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.ConvergenceWarning")
@pytest.mark.parametrize("method", ["sign-flip", "parametric"])
def test_the_table_is_that_of_test_whatever_the_chunks(method, monkeypatch):
    d = data(12)
    Y, W = given(d, "weights")
    fits = hlm.fit_many(FORMULA, d, pd.DataFrame(Y, columns=list("abcde")), weights=W)
    found = hlm.max_t(fits, NAMED, n=20, seed=7, method=method)
    own = found.table.drop(columns=["p_fwer", "mc_se"])
    pd.testing.assert_frame_equal(own, fits.test(NAMED))
    assert found.table.columns[-3:].tolist() == ["p_fwer", "mc_se", "status"]
    p = found.table["p_fwer"]
    np.testing.assert_allclose(found.table["mc_se"], np.sqrt(p * (1 - p) / 20))
    monkeypatch.setattr(null_refits, "TOGETHER", 21)
    monkeypatch.setattr(null_refits, "EACH", 7)
    monkeypatch.setattr(chunks, "MAX_LANES", 8)
    again = hlm.max_t(fits, NAMED, n=20, seed=found.seed, method=method)
    np.testing.assert_allclose(again.maxima, found.maxima, rtol=tol.ALIKE)
    pd.testing.assert_frame_equal(again.table, found.table)
    # The first of them whatever n, and those of a response whatever stands beside it.
    fewer = hlm.max_t(fits[["c"]], NAMED, n=10, seed=7, method=method)
    with_all = hlm.max_t(fits[["c"]], NAMED, n=20, seed=7, method=method)
    np.testing.assert_allclose(fewer.maxima, with_all.maxima.head(10), rtol=tol.ALIKE)
    assert (with_all.maxima <= found.maxima * (1 + tol.ALIKE)).all().all()


def test_a_draw_is_what_the_fit_says():
    """Parametric resamples have the distribution of t with the fit's df."""
    d = data(30)
    fits = hlm.fit_many(FORMULA, d, correlated(d, 1, seed=2))
    z = hlm.max_t(fits, {"slope": "x"}, n=2000, seed=1, method="parametric").maxima["slope"]
    assert stats.kstest(z, stats.halfnorm.cdf).pvalue > 1e-3


@pytest.mark.slow
def test_false_discoveries_are_as_rare_as_promised_and_dependence_is_made_use_of():
    """Ten responses that have most in common: in 5 % of null families any is found.

    Bonferroni's bound of ten tests, for what is hardly more than one, finds less.
    """
    d, families = data(12), 150
    Y = np.hstack([correlated(d, 10, seed, share=0.95) for seed in range(families)])
    fits, found = hlm.fit_many("~ x + (1 | unit)", d, Y), np.zeros(2)
    for k in range(families):
        table = hlm.max_t(fits[10 * k : 10 * k + 10], {"slope": "x"}, n=19, seed=k).table
        p = np.column_stack([table["p_fwer"], 10 * table["p_value"]])
        found += (p <= 0.05).any(axis=0)
    low, high = stats.binom.ppf([0.001, 0.999], families, 0.05)
    assert low <= found[0] <= high and found[1] < found[0]


def test_critical_values_are_those_of_adjusted_p_values():
    rng = np.random.default_rng(1)
    maxima = rng.normal(size=199)
    z, error = critical_value(maxima, 0.05, exact=False)
    p = single_step(np.array([z * (1 - tol.ALIKE), z, z * (1 + 2 * tol.ALIKE)]), maxima)
    assert p[0] > 0.05 >= p[2] and 0.0 < error < 0.3
    assert critical_value(maxima, 0.05, exact=True)[1] == 0.0
    assert critical_value(maxima[:10], 0.05, exact=False)[0] == np.inf


def test_an_interrupt_leaves_the_resamples_that_are_finished(monkeypatch):
    d = data(12)
    fits = hlm.fit_many(FORMULA, d, correlated(d, 6, seed=1))
    monkeypatch.setattr(null_refits, "TOGETHER", 60)
    monkeypatch.setattr(null_refits, "EACH", 10)
    whole = hlm.max_t(fits, NAMED, n=40, seed=1)
    real, calls = null_refits.fitter, itertools.count()

    def interrupted(*arguments):
        if next(calls) == at:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(null_refits, "fitter", interrupted)
    at = 1
    with pytest.raises(KeyboardInterrupt):
        hlm.max_t(fits, NAMED, n=40, seed=1)
    at, calls = 5, itertools.count()
    with pytest.warns(errors.InterruptedFitsWarning, match="20 of 40 resamples"):
        part = hlm.max_t(fits, NAMED, n=40, seed=1)
    assert len(part) == 20
    np.testing.assert_allclose(part.maxima, whole.maxima.head(20), rtol=tol.ALIKE)
    assert part.table["p_fwer"].min() >= 1 / 21


def test_what_cannot_be_is_refused():
    d = data(6)
    Y = correlated(d, 3, seed=1)
    fits = hlm.fit_many(FORMULA, d, Y)
    frame = pd.concat([d.assign(y=Y[:, j], lot=j) for j in range(3)])
    by = hlm.fit_many("y" + FORMULA, frame, by="lot")
    for other in (fits[0], by, Y, None):
        with pytest.raises(errors.OptionError, match="fits"):
            hlm.max_t(other, n=5)
    stored = hlm.FitBatch(replace(fits.record, source=None))
    with pytest.raises(errors.JaxhlmError, match="read from a file"):
        hlm.max_t(stored, n=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.ConvergenceWarning)
        constant = hlm.fit_many(FORMULA, d, np.ones((len(d), 2)))
    with pytest.raises(errors.JaxhlmError, match=r"fits\.status"):
        hlm.max_t(constant, n=5)
