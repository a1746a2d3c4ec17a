"""``fit_many`` and ``FitBatch``: labels, single fits, failures, files, and simulated data sets."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
import tolerances as tol
from cases import FORMULA, TRUTH, frame, sleepstudy
from jaxhlm import errors
from jaxhlm.core.document import WIDTH
from jaxhlm.core.status import Status
from jaxhlm.estimation.pipeline import Prepared
from jaxhlm.results.batch import FitBatch
from jaxhlm.statistics.equal_groups import EqualGroups

SLEEP = "~ Days + (1 + Days | Subject)"


@cache
def responses():
    return sleepstudy().simulate(40, seed=1)


@cache
def batch():
    return hlm.fit_many(SLEEP, hlm.load_dataset("sleepstudy"), responses())


def test_print_names_the_first_fits_that_failed_and_counts_missing_values(tmp_path):
    data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 | Subject)"
    Y = hlm.fit("Reaction" + formula, data).simulate(8, seed=1)
    Y.columns = [f"g{j}" for j in range(8)]
    Y.iloc[3, 5] = np.nan
    with pytest.warns(hlm.JaxhlmWarning):
        some = hlm.fit_many(formula, data, Y.assign(g1=1.0, g2=2.0), progress=False)
        many = hlm.fit_many(formula, data, Y.assign(g1=1.0, g2=2.0, g3=3.0, g7=0.0), progress=False)
    assert "\n  failed: g1, g2\nWith missing values, fitted on the rest: 1\n" in str(some)
    assert "\n  failed: g1, g2, g3, …\n" in str(many)
    for again in (tmp_path / "once", tmp_path / "twice"):
        some.to_parquet(again)
        some = hlm.FitBatch.read_parquet(again)
        assert "With missing values, fitted on the rest: 1\n" in str(some)
        assert "With missing" in str(some[["g5", "g6"]]) and "With missing" not in str(some[:5])
    whole = hlm.fit_many(formula, data, Y.drop(columns="g5"), progress=False)
    assert "missing" not in str(whole) and "  failed" not in str(whole)
    assert str(whole[[0]]).startswith("1 linear mixed model fit by REML\n")


def test_labels_and_shapes():
    fits = batch()
    assert len(fits) == 40
    assert list(fits.fixef.columns) == ["(Intercept)", "Days"]
    for table in (fits.fixef, fits.se, fits.theta, fits.sigma, fits.criterion):
        assert list(table.index) == list(responses().columns)
    assert fits.varcorr.cov.shape == (40, 2, 2)
    np.testing.assert_array_equal(fits.nobs, 180)
    np.testing.assert_array_equal(fits.ngroups, 18)
    assert fits.counts.sum() == 40
    np.testing.assert_allclose(fits.aic, fits.criterion + 12, rtol=tol.SMALL)


def test_one_fit_of_many():
    fits, name = batch(), responses().columns[17]
    one = fits[17]
    alone = hlm.fit(
        f"y {SLEEP}", hlm.load_dataset("sleepstudy").assign(y=responses()[name].to_numpy())
    )
    np.testing.assert_allclose(one.criterion, alone.criterion, atol=tol.CRITERION)
    np.testing.assert_allclose(one.ranef, alone.ranef, atol=tol.ESTIMATE)
    assert fits[-1].criterion == fits.criterion.iloc[-1]
    assert [fit.sigma for fit in fits[3:6]] == fits.sigma.iloc[3:6].tolist()
    assert len(fits[fits.ok]) == fits.ok.sum()
    with pytest.raises(IndexError):
        fits[40]


def test_tables_of_many():
    fits = batch()
    tidy, glance = fits.tidy(), fits.glance()
    assert len(tidy) == 40 * 6
    third = tidy[tidy["response"] == fits.index[3]].drop(columns="response").reset_index(drop=True)
    expected = fits[3].tidy()
    assert list(third["term"]) == list(expected["term"])
    np.testing.assert_allclose(third["estimate"], expected["estimate"], rtol=tol.SMALL)
    np.testing.assert_array_equal(glance["criterion"], fits.criterion)
    printed = str(fits)
    assert "Converged: 40" in printed
    assert "failed: 0" in printed
    assert fits.ranef.shape == (40 * 18, 2)


def test_verify_of_no_fit_says_so():
    data = hlm.load_dataset("sleepstudy")
    with pytest.warns(errors.ConvergenceWarning):
        fits = hlm.fit_many(SLEEP, data, np.ones((len(data), 1)))
    assert "no fit to check" in str(fits.verify())
    assert np.isnan(fits.verify().criterion)


def test_verify_finds_nothing_and_would_find_something():
    fits = batch()
    assert fits.verify(n=5).criterion < tol.CRITERION
    wrong = fits.estimates.replaced(
        np.arange(40), fits.estimates[np.roll(np.arange(40), 1).tolist()]
    )
    broken = FitBatch(replace(fits.record, estimates=wrong))
    assert broken.verify(n=5).criterion > 1e-3


# Failures are codes.


def long_frame():
    """Five replicates; four of them cannot be fitted, each for a reason of its own."""
    good = frame(np.random.default_rng(0), (5, 6, 4, 7, 5), sd=1.0)
    two = good[good["unit"] < 2]
    parts = {
        Status.CONVERGED: good,
        Status.NOT_FINITE: good.assign(y=1.0),
        Status.RANK_DEFICIENT: good.assign(a=1.0),
        Status.NO_RESIDUAL_DF: two.groupby("unit").head(2),
        Status.NOT_IDENTIFIED: good.groupby("unit").head(1),
    }
    return pd.concat(parts, names=["replicate"]).reset_index(level=0)


def test_every_failure_has_its_status():
    with pytest.warns(errors.ConvergenceWarning, match="4 of 5 fits failed"):
        fits = hlm.fit_many("y ~ x * a + (1 | unit)", long_frame(), by="replicate")
    assert fits.status.tolist() == sorted(fits.index)
    alone = hlm.fit("y ~ x * a + (1 | unit)", long_frame().query("replicate == 0"))
    np.testing.assert_allclose(fits.criterion.iloc[0], alone.criterion, atol=tol.CRITERION)
    failed = ~fits.ok
    assert np.isnan(fits.fixef[failed].to_numpy()).all()
    printed = " ".join(str(fits).split())
    for status in fits.status[failed]:
        assert Status(status).message in printed
    assert max(map(len, str(fits).splitlines())) <= WIDTH


def missing_everywhere(kind):
    """Fits of data sets, the last of which has no value of the response; the same in weights."""
    d = hlm.load_dataset("sleepstudy")
    if kind == "by":
        two = pd.concat([d.assign(r=0), d.assign(r=1, Reaction=np.nan)], ignore_index=True)
        return hlm.fit_many("Reaction" + SLEEP, two, by="r")
    Y = pd.DataFrame({"some": d["Reaction"], "none": np.nan})
    return hlm.fit_many(SLEEP, d, Y, weights=None if kind == "responses" else Y.to_numpy())


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.ConvergenceWarning")
@pytest.mark.parametrize("kind", ["responses", "weighted", "by"])
def test_a_response_that_is_missing_everywhere_is_a_fit_too(kind):
    fits = missing_everywhere(kind)
    good, lost = fits
    assert (good.status, lost.status) == (Status.CONVERGED, Status.NOT_FINITE)
    assert (lost.nobs, lost.ngroups) == (fits.nobs[1], fits.ngroups[1])
    assert lost.nobs == 0
    assert f"Number of obs: 0, groups:  Subject, {lost.ngroups}" in str(lost)
    assert lost.tidy(df="satterthwaite")["p_value"].isna().all()
    assert lost.vcov_robust("CR2").isna().all(axis=None)
    assert lost.anova().table["Pr(>F)"].isna().all()
    assert "none of them converged" in str(lost.verify())
    assert "1 fit checked" in str(good.verify())


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.ConvergenceWarning")
@pytest.mark.parametrize(
    ("right", "devices"),
    [
        ("1 + (1 | Subject)", None),
        ("Days + (1 | Subject)", None),
        ("Days + (1 + Days | Subject)", None),
        ("Days + (1 + Days | Subject)", 1),
    ],
)
def test_a_response_without_error_within_units_fails_whatever_the_design(right, devices):
    """σ̂ would be what rounding leaves, and degrees of freedom and p values noise."""
    data = hlm.load_dataset("sleepstudy")
    units = np.array([np.arange(18.0) % 5, np.arange(18) == 7, np.linspace(1.0, 1.2, 18)])
    Y = np.repeat(units, 10, axis=1).T
    for scale in (1.0, 1e-150, 1e8):
        fits = hlm.fit_many(f"~ {right}", data, scale * Y, devices=devices)
        assert (fits.status == Status.NOT_FINITE).all()
    with pytest.raises(errors.IdentifiabilityError, match="without error"):
        hlm.fit(f"y ~ {right}", data.assign(y=Y[:, 0]))
    # An error in the eighth digit is one.
    little = Y + 1e-8 * np.random.default_rng(1).normal(size=Y.shape)
    near = hlm.fit_many(f"~ {right}", data, little, devices=devices)
    assert near.ok.all() or right == "Days + (1 | Subject)"


def test_arguments_of_fit_many():
    data, Y = hlm.load_dataset("sleepstudy"), responses()
    with pytest.raises(errors.OptionError, match="either responses="):
        hlm.fit_many(SLEEP, data)
    with pytest.raises(errors.OptionError, match="either responses="):
        hlm.fit_many(SLEEP, data, Y, by="Subject")
    with pytest.raises(errors.ResponseShapeError, match="179 rows, the data have 180"):
        hlm.fit_many(SLEEP, data, Y.to_numpy()[1:])
    with pytest.raises(errors.ResponseShapeError, match="1 dimension"):
        hlm.fit_many(SLEEP, data, Y.to_numpy()[:, 0])
    with pytest.raises(errors.ResponseShapeError, match="index of responses differs"):
        hlm.fit_many(SLEEP, data, Y[::-1])
    with pytest.raises(errors.NotNumericError, match="'note'"):
        hlm.fit_many(SLEEP, data, Y.assign(note="text"))
    with pytest.raises(errors.MissingColumnError, match="'replicates'"):
        hlm.fit_many(f"Reaction {SLEEP}", data, by="replicates")


def test_dropped_rows_take_their_responses_along():
    data = hlm.load_dataset("sleepstudy").astype({"Days": float})
    data.loc[[0, 50], "Days"] = np.nan
    with pytest.warns(errors.RowsDroppedWarning, match="dropped 2 of 180"):
        fits = hlm.fit_many(SLEEP, data, responses().iloc[:, :2])
    kept = data["Days"].notna()
    alone = hlm.fit_many(SLEEP, data[kept], responses().iloc[:, :2][kept])
    np.testing.assert_allclose(fits.criterion, alone.criterion, atol=tol.CRITERION)


# Files.


def test_parquet_round_trip(tmp_path):
    fits = batch()
    fits.to_parquet(tmp_path / "fits.parquet", df="normal")
    back = FitBatch.read_parquet(tmp_path / "fits.parquet")
    pd.testing.assert_frame_equal(back.tidy("normal"), fits.tidy("normal"))
    with pytest.raises(errors.JaxhlmError, match='df="normal" and df="residual" need neither'):
        back.tidy()
    pd.testing.assert_frame_equal(back.glance(), fits.glance())
    np.testing.assert_array_equal(back.vcov, fits.vcov)
    assert str(back) == str(fits)
    with pytest.raises(errors.JaxhlmError, match="read from a file"):
        back[0].ranef  # noqa: B018
    responses().to_parquet(tmp_path / "other.parquet")
    with pytest.raises(errors.JaxhlmError, match="to_parquet"):
        FitBatch.read_parquet(tmp_path / "other.parquet")


@pytest.mark.parametrize("method", ["satterthwaite", "kenward-roger"])
def test_degrees_of_freedom_go_into_the_file(tmp_path, method):
    fits = batch()
    fits.to_parquet(tmp_path / "fits.parquet", df=method)
    back = FitBatch.read_parquet(tmp_path / "fits.parquet")
    pd.testing.assert_frame_equal(back.tidy(method), fits.tidy(method))
    some = back[[3, 5]]
    pd.testing.assert_frame_equal(some.p_values(method), fits.p_values(method).iloc[[3, 5]])
    other = {"satterthwaite", "kenward-roger"} - {method}
    with pytest.raises(errors.JaxhlmError, match=r"to_parquet\(path, df="):
        back.contrast("Days = 0", *other)


def test_a_fit_that_misses_a_group_predicts_for_the_others():
    """Codes of new rows count the groups of that fit, and the missing one is unknown to it."""
    data = hlm.load_dataset("sleepstudy")
    Y = np.random.default_rng(1).normal(size=(180, 2)) + data[["Days"]].to_numpy()
    Y += np.repeat(np.arange(18.0), 10)[:, None]
    Y[:10, 1] = np.nan
    one = hlm.fit_many("~ Days + (1 | Subject)", data, Y)[1]
    alone = hlm.fit("y ~ Days + (1 | Subject)", data.assign(y=Y[:, 1]).iloc[10:])
    new = data.iloc[[0, 10, 25, 179]]
    np.testing.assert_allclose(one.predict(new), alone.predict(new), rtol=tol.ESTIMATE)


# Simulated data sets.


def article_design():
    return hlm.design("~ x * a + (1 + x | unit)", hlm.load_dataset("article"))


@pytest.mark.parametrize("statistics", [True, False])
def test_draws_do_not_depend_on_how_many(statistics):
    few = hlm.simulate(article_design(), TRUTH, 40, seed=7, statistics=statistics).fit()
    many = hlm.simulate(article_design(), TRUTH, 70, seed=7, statistics=statistics).fit()
    np.testing.assert_allclose(many.criterion[:40], few.criterion, rtol=tol.SUMMED)
    other = hlm.simulate(article_design(), TRUTH, 40, seed=8, statistics=statistics).fit()
    assert (other.criterion != few.criterion).all()


def test_statistics_and_rows_have_one_distribution():
    """Means and standard deviations of all estimates within five Monte-Carlo standard errors."""
    n = 4000
    drawn = [
        hlm.simulate(article_design(), TRUTH, n, seed=3, statistics=s).fit() for s in (True, False)
    ]
    values = [np.column_stack([f.fixef, f.sigma, f.varcorr.cov.reshape(n, -1)]) for f in drawn]
    sd = np.maximum(values[0].std(axis=0), values[1].std(axis=0))
    gap = np.abs(values[0].mean(axis=0) - values[1].mean(axis=0)) / (sd * np.sqrt(2 / n))
    assert gap.max() < 5.0
    ratio = values[0].std(axis=0) / values[1].std(axis=0)
    np.testing.assert_allclose(ratio, 1.0, atol=tol.MONTE_CARLO * np.sqrt(2.25 / n))
    bias = np.abs(values[0][:, :4].mean(axis=0) - [1, 3, -0.15, 0.3])
    assert (bias < 5.0 * sd[:4] / np.sqrt(n)).all()


def test_truths_that_cannot_be():
    with pytest.raises(errors.OptionError, match="corr"):
        hlm.Truth.of([1.0], sd=[1.0, 1.0], corr=1.5, sigma=1.0)
    with pytest.raises(errors.OptionError, match="sigma"):
        hlm.Truth.of([1.0], sd=[1.0], sigma=-1.0)
    with pytest.raises(errors.OptionError, match=r"beta has 2 value\(s\), the model 4"):
        hlm.simulate(article_design(), hlm.Truth.of([1, 3], sd=[1, 1], sigma=1.0), 5)
    with pytest.raises(errors.OptionError, match="random effect"):
        hlm.simulate(article_design(), hlm.Truth.of([1, 3, 0, 0], sd=[1.0], sigma=1.0), 5)


def test_collapsed_groups_give_the_same_fit(monkeypatch):
    """An article data set with one unit cut short: 29 groups are joined, one is not."""
    data = hlm.load_dataset("article").iloc[7:]
    whole = hlm.fit(FORMULA, data)
    assert whole.prepared.equal.classes
    monkeypatch.setattr(Prepared, "equal", EqualGroups.none(30))
    plain = hlm.fit(FORMULA, data)
    np.testing.assert_allclose(whole.criterion, plain.criterion, atol=tol.CRITERION)
    np.testing.assert_allclose(whole.theta, plain.theta, rtol=tol.ESTIMATE)


def test_one_fit_reduces_its_rows_once_for_all_inference():
    """However many groups it has: 160 unequal schools."""
    record = hlm.fit("MathAch ~ SES + (1 | School)", hlm.load_dataset("math_achieve")).record
    first, again = (record.rows.lanes(record.lane_index).standardised for _ in range(2))
    assert again is first


def test_an_interrupt_keeps_what_was_finished(monkeypatch):
    """Ctrl-C after the first of several chunks returns that chunk and says so."""
    from jaxhlm.core import chunks
    from jaxhlm.estimation import pipeline

    expected = batch().criterion[:20]
    monkeypatch.setattr(chunks, "MAX_LANES", 20)

    def interrupted(one, runs):
        yield next(chunks.in_order(one, runs))
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "in_order", interrupted)
    with pytest.warns(errors.InterruptedFitsWarning, match="20 of 40 fits"):
        fits = hlm.fit_many(SLEEP, hlm.load_dataset("sleepstudy"), responses())
    np.testing.assert_allclose(fits.criterion, expected, atol=tol.CRITERION)


def test_progress_counts_what_is_done(capsys):
    hlm.fit_many(SLEEP, hlm.load_dataset("sleepstudy"), responses(), progress=True)
    shown = capsys.readouterr()
    assert "40" in shown.out + shown.err
    hlm.fit_many(SLEEP, hlm.load_dataset("sleepstudy"), responses())
    shown = capsys.readouterr()
    assert shown.out + shown.err == ""


def test_chunks_shrink_with_the_free_memory(monkeypatch):
    """A quarter of what is free, shared by the cores; at least one lane at a time."""
    from jaxhlm.core import chunks

    monkeypatch.setattr(chunks.os, "sysconf", lambda name: {"SC_PAGE_SIZE": 4096}.get(name, 1000))
    monkeypatch.setattr(chunks.os, "cpu_count", lambda: 2)
    assert chunks.chunk_bytes() == 4096 * 1000 // 8
    runs = list(chunks.lane_chunks(10, 200_000))
    assert [r.stop - r.start for r in runs] == [2, 2, 2, 2, 2]
    assert all(r.stop - r.start == 1 for r in chunks.lane_chunks(3, 10**9))


def test_arrays_that_are_given_out_cannot_change_the_fits():
    fits, fit = batch(), sleepstudy()
    for array in (fits.vcov, fits.varcorr.cov, fits.varcorr.residual, fits[3].theta, fit.theta):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0.0
    for table in (fits.fixef, fits.sigma, fits.theta, fit.fixef, fit.vcov):
        before = str(fits) + str(fit)
        table.iloc[:] = 0.0
        assert str(fits) + str(fit) == before
