"""Units and rows of many fits: what is computed for all at once is what single fits say."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
import tolerances as tol
from cases import frame, sleepstudy
from jaxhlm import errors
from jaxhlm.core import chunks

pytestmark = [
    pytest.mark.filterwarnings("ignore::jaxhlm.errors.SingularFitWarning"),
    pytest.mark.filterwarnings("ignore::jaxhlm.errors.ConvergenceWarning"),
]
SIZES = (9, 1, 7, 3, 12, 2, 8, 5)


def rows(seed=4, sizes=SIZES):
    rng = np.random.default_rng(seed)
    d = frame(rng, sizes, sd=1.0)
    d["unit"] = "u" + d["unit"].astype(str)
    d = d.assign(w=rng.normal(size=len(d)), kind=np.resize(["p", "q"], len(d)))
    return d.sample(frac=1.0, random_state=seed)


@cache
def responses(weighted):
    """Complete, incomplete (a unit is gone), constant, and nothing at all, in no order."""
    d, rng = rows(), np.random.default_rng(1)
    Y = rng.normal(size=(len(d), 6)) + d[["x"]].to_numpy()
    Y += rng.normal(size=(8, 6))[pd.factorize(d["unit"])[0]]
    Y[(d["unit"] == "u3").to_numpy() | (np.arange(len(d)) % 9 == 0), 1] = np.nan
    Y[:, 2], Y[:, 4], Y[5, 5] = 1.0, np.nan, np.nan
    weights = np.random.default_rng(5).uniform(0.5, 2.0, len(d)) if weighted else None
    formula = "~ x * kind + w + (1 + x | unit)"
    return hlm.fit_many(formula, d, Y, weights=weights, progress=False)


@cache
def replicates(factor):
    """Data sets with rows and units of their own; one cannot be fitted."""
    parts = [rows(seed, SIZES[seed % 3 :]).assign(r=seed) for seed in range(5)]
    parts[3]["y"] = 2.0
    d = pd.concat(parts, ignore_index=True)
    d["unit"] = 3 * d["r"] + d["unit"].str[1:].astype(int)
    d.index = pd.Index(np.arange(len(d)) % 50, name="line")
    formula = "y ~ x + kind + (1 + x || unit)" if factor else "y ~ x + w + (1 + x || unit)"
    return hlm.fit_many(formula, d, by="r", progress=False)


@cache
def resampled():
    """Groups drawn with replacement: a row may be there several times, in groups of own names."""
    fit = hlm.fit("y ~ x + kind + (1 + x | unit)", rows())
    return hlm.bootstrap(fit, n=12, method="cases", seed=3).fits


CASES = {
    "cases": lambda: resampled()[[0, 1, 7, 4]],
    "responses": lambda: responses(False)[[0, 1, 2, 3, 5]],
    "weighted": lambda: responses(True)[[5, 1, 0, 2]],
    "replicates": lambda: replicates(True),
    "frame": lambda: replicates(False)[[4, 0, 3, 1]],
}
PROPERTIES = (
    "ranef", "coef", "coef_se", "fitted", "residuals", "residuals_marginal", "residuals_std",
    "residuals_marginal_std", "hatvalues", "cooks_distance",
)  # fmt: skip
TABLES = ("ranef_frame", "shrinkage", "ranef_qq")


@pytest.fixture(params=CASES)
def fits(request):
    return CASES[request.param]()


def assert_below(found, singles, index):
    """Frames or series of single fits, one below the other."""
    one = next(iter(singles))
    expected = pd.concat(singles, keys=index, names=[index.name])
    assert list(found.index.names) == [index.name, *one.index.names]
    assert found.index.equals(expected.index)
    assert_close(found, expected)


def assert_close(found, expected):
    if found.ndim == 1:
        assert found.name == expected.name
        found, expected = found.to_frame(), expected.to_frame()
    assert list(found.columns) == list(expected.columns)
    np.testing.assert_allclose(found, expected, rtol=tol.BATCH, atol=tol.BATCH)


@pytest.mark.parametrize("name", PROPERTIES)
def test_every_fit_says_the_same(fits, name):
    assert_below(getattr(fits, name), [getattr(fit, name) for fit in fits], fits.index)


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_units(fits, name):
    table, at = getattr(fits, name)(), 0
    for label, fit in zip(fits.index, fits, strict=True):
        one = getattr(fit, name)()
        mine = table.iloc[at : at + len(one)]
        assert (mine[mine.columns[0]] == label).all()
        mine = mine.drop(columns=mine.columns[0]).reset_index(drop=True)
        pd.testing.assert_frame_equal(mine, one, rtol=tol.BATCH, atol=tol.BATCH)
        at += len(one)
    assert at == len(table)


def test_covariances_of_units(fits):
    for name in ("ranef_cov", "reliability"):
        found = getattr(fits, name)
        assert list(found) == list(fits.index)
        for label, fit in zip(fits.index, fits, strict=True):
            np.testing.assert_allclose(
                found[label], getattr(fit, name), rtol=tol.BATCH, atol=tol.BATCH
            )


def test_augment(fits):
    found = fits.augment()
    expected = pd.concat([fit.augment() for fit in fits], keys=fits.index)
    pd.testing.assert_frame_equal(
        found, expected, rtol=tol.BATCH, atol=tol.BATCH, check_names=False
    )


@pytest.mark.parametrize("interval", [None, "confidence", "prediction"])
@pytest.mark.parametrize("ranef", [True, False])
def test_predictions(fits, ranef, interval):
    """Of the rows fitted, and of new ones with a unit that some or all have not seen."""
    known = fits.record.rows.design
    new = rows().head(7).drop(columns="unit").reset_index(drop=True)
    new["unit"] = [*known.levels[[0, 3, 1, -1, 4, 2]], known.levels.dtype.type(99)]
    new.loc[2, "x"] = np.nan
    for newdata in (None, new):
        options = {"ranef": ranef, "interval": interval, "level": 0.9}
        found = fits.predict(newdata, **options)
        assert_below(found, [fit.predict(newdata, **options) for fit in fits], fits.index)


def assert_influence(fits):
    found = fits.influence()
    table = found.frame()
    assert table.index.names == [fits.index.name, fits.model.group_name]
    assert found.counts.sum() == fits.ngroups.sum()
    scale = fits.varcorr.cov.max(initial=1.0, where=np.isfinite(fits.varcorr.cov))
    for label, fit in zip(fits.index, fits, strict=True):
        one, mine = fit.influence().frame(), table.loc[label]
        assert mine.index.tolist() == one.index.tolist()
        assert mine.pop("status").tolist() == one.pop("status").tolist()
        np.testing.assert_allclose(mine, one, rtol=tol.LEFT_OUT, atol=tol.LEFT_OUT * scale)
    return found


def test_groups_left_out_of_every_fit(fits):
    found = assert_influence(fits)
    assert f"in {len(fits)} fits" in str(found)
    with pytest.raises(errors.OptionError, match="group"):
        fits.influence(by="row")


def test_groups_left_out_where_groups_are_alike(monkeypatch):
    """One class of equal groups, in compiled runs; a response misses a row."""
    from jaxhlm.inference import leaveout

    Y = sleepstudy().simulate(5, seed=1)
    Y.iloc[4, 3] = np.nan
    fits = hlm.fit_many("~ Days + (1 + Days | Subject)", hlm.load_dataset("sleepstudy"), Y)
    apart = assert_influence(fits[:4])
    monkeypatch.setattr(leaveout, "UNCOMPILED", 0)
    compiled = fits[:4].influence()
    np.testing.assert_allclose(compiled.criterion, apart.criterion, atol=tol.CRITERION)


def test_resampled_groups_are_fitted_on_another_scale():
    """A fit of resampled groups equals the fit of its rows in all that is derived from it."""
    one = resampled()[7]
    d = one.design
    data = pd.DataFrame(d.X[:, 1:], columns=["x", "kind"]).assign(y=d.y, unit=d.levels[d.group])
    alone = hlm.fit("y ~ x + kind + (1 + x | unit)", data)
    levels = one.ranef.index
    np.testing.assert_allclose(one.ranef, alone.ranef.loc[levels], atol=tol.RESAMPLED)
    np.testing.assert_allclose(one.hatvalues, alone.hatvalues, atol=tol.RESAMPLED)
    np.testing.assert_allclose(one.vcov_robust(), alone.vcov_robust(), rtol=tol.BATCH_DF)
    np.testing.assert_allclose(one.df(), alone.df(), rtol=tol.BATCH_DF)


def test_units_that_a_fit_has_not_seen():
    fits, d = responses(False), rows()
    fits.predict(d.query("unit == 'u4'"), new_levels="error")
    with pytest.raises(errors.NewLevelError, match="not all fits"):
        fits.predict(d.query("unit == 'u3'"), new_levels="error")
    fits.predict(d.query("unit == 'u3'"), ranef=False, new_levels="error")
    with pytest.raises(errors.OptionError, match="prediction"):
        fits.predict(d, interval="tolerance")


def test_a_response_without_values_has_neither_units_nor_rows():
    """It is counted, and stands in no table of rows; one that failed otherwise has NaN there."""
    fits = responses(False)
    assert fits.fitted.loc[2].isna().all()
    assert len(fits.fitted.loc[2]) == len(rows())
    assert fits.fitted.loc[4].isna().all()
    assert fits[[2]].coef.isna().all(axis=None)


def test_small_chunks_change_nothing(monkeypatch):
    whole = {name: getattr(responses(False), name) for name in ("ranef", "hatvalues")}
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 1)
    for name, expected in whole.items():
        assert_close(getattr(responses(False), name), expected)


def test_fits_that_are_chosen_twice(fits):
    twice = fits[[1, 1, 0, 1]]
    for name in ("fitted", "coef"):
        found, lengths = getattr(twice, name).to_numpy(), 0
        for i in (1, 1, 0, 1):
            one = getattr(fits[i], name).to_numpy()
            mine = found[lengths : lengths + len(one)]
            np.testing.assert_allclose(mine, one, rtol=tol.BATCH, atol=tol.BATCH)
            lengths += len(one)
    df = fits[[1, 0]].df().iloc[[0, 0, 1, 0]]
    np.testing.assert_allclose(twice.df(), df, rtol=tol.BATCH)
    with pytest.raises(errors.JaxhlmError, match="no fit"):
        fits[[]].ranef  # noqa: B018


@pytest.mark.parametrize(
    "ask",
    [
        lambda none: none.predict(hlm.load_dataset("sleepstudy").head(2)),
        lambda none: none.icc({"Days": 1.0}),
        lambda none: none.emmeans("Days", at={"Days": [1, 2]}, weights="cells"),
        lambda none: none.joint_tests(),
    ],
    ids=["predict", "icc", "emmeans", "joint_tests"],
)
def test_a_batch_without_fits_says_so(ask):
    Y = sleepstudy().simulate(2, seed=1)
    none = hlm.fit_many("~ Days + (1 | Subject)", hlm.load_dataset("sleepstudy"), Y)[[]]
    with pytest.raises(errors.JaxhlmError, match="no fit"):
        ask(none)


def test_labels_of_two_levels():
    Y = sleepstudy().simulate(3, seed=1)
    Y.columns = pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["s", "k"])
    fits = hlm.fit_many("~ Days + (1 | Subject)", hlm.load_dataset("sleepstudy"), Y)
    assert fits.ranef.index.names == ["s", "k", "Subject"]
    np.testing.assert_allclose(fits.ranef.loc[("b", 1)], fits[2].ranef, rtol=tol.BATCH)
    assert fits.fitted.loc[("a", 2)].shape == (180,)
    tests = fits.contrast(["Days = 0", "Days = 10"])
    assert tests.index.names == ["s", "k", "contrast"]
    np.testing.assert_allclose(tests.loc[("b", 1)], fits[2].contrast(["Days = 0", "Days = 10"]))


def test_fits_without_data_say_so(tmp_path):
    responses(False).to_parquet(tmp_path / "fits.parquet")
    back = hlm.FitBatch.read_parquet(tmp_path / "fits.parquet")
    for name in PROPERTIES:
        with pytest.raises(errors.JaxhlmError, match="read from a file"):
            getattr(back, name)
    with pytest.raises(errors.JaxhlmError, match=r"The batch of this fit alone, fits\[\[…\]\]"):
        back[0]
    assert len(back[[0]].tidy()) == len(back.tidy()) / len(back)
    with pytest.raises(errors.UnknownTermError, match="which of them make up a term: name all, as"):
        back.joint_test("factor")


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.ConvergenceWarning")
def test_a_replicate_with_an_infinite_value_has_its_rows():
    """As in the batch, whose fit of it failed."""
    data = hlm.load_dataset("sleepstudy")
    both = pd.concat([data.assign(rep="a"), data.assign(rep="b")], ignore_index=True)
    both.loc[200, "Reaction"] = np.inf
    fits = hlm.fit_many("Reaction ~ Days + (1 | Subject)", both, by="rep")
    for table in ("fitted", "residuals", "hatvalues"):
        assert getattr(fits[1], table).shape == getattr(fits, table).loc["b"].shape == (180,)
    assert fits[1].augment()[".fitted"].isna().all()
