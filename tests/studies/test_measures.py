"""Performance measures: hand formulas, a meta-simulation of their MCSE, failures, bad input."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import jaxhlm as hlm
import tolerances as tol
from jaxhlm.errors import MissingColumnError, NoRowsError, NotNumericError, OptionError
from jaxhlm.studies.measure_estimators import ReplicateGroups, root_mean_square
from jaxhlm.studies.measures import MEASURES
from places import DATA

KEYS = ["condition", "method", "term"]


def frame_of(rng, R=60, conditions=2, truth=0.5, sd=0.4):
    """Estimates of two correlated methods of two terms, with intervals and tests."""
    frame = pd.MultiIndex.from_product(
        [range(conditions), range(R), ["REML", "OLS"], ["x", "a"]],
        names=["condition", "replicate", "method", "term"],
    ).to_frame(index=False)
    n = len(frame)
    shared = rng.normal(size=(conditions, R, 1, 2)).repeat(2, axis=2).ravel()
    own = rng.normal(size=n)
    scale = sd * (1.0 + 0.5 * (frame["method"] == "OLS"))
    frame["truth"] = truth
    frame["estimate"] = truth + 0.05 + scale * (0.8 * shared + 0.6 * own)
    frame["std_error"] = scale * np.sqrt(rng.chisquare(20, n) / 20)
    frame["df"] = 20.0
    t = frame["estimate"] / frame["std_error"]
    frame["p_value"] = 2 * stats.t.sf(np.abs(t), 20)
    half = stats.t.ppf(0.975, 20) * frame["std_error"]
    frame["conf_low"], frame["conf_high"] = frame["estimate"] - half, frame["estimate"] + half
    frame["status"] = np.where(rng.random(n) < 0.2, "singular", "converged")
    return frame


def by_hand(g, reference):
    """The formulas of the docstring, one group, one line each."""
    n, d, truth, se = len(g), g.estimate - g.truth, g.truth, g.std_error
    emp, mod = d.std(ddof=1), np.sqrt((se**2).mean())
    mse, c = (d**2).mean(), ((g.conf_low <= truth) & (truth <= g.conf_high)).mean()
    middle = g.estimate.mean()
    be = ((g.conf_low <= middle) & (middle <= g.conf_high)).mean()
    width = g.conf_high - g.conf_low
    hit = g.p_value < 0.05
    r, k = hit.mean(), hit.sum()
    leave_out = np.array([np.sqrt(np.delete(d.to_numpy(), i) @ np.delete(d.to_numpy(), i) / (n - 1))
                          for i in range(n)])  # fmt: skip
    wrong = (np.sign(g.estimate) != np.sign(truth))[hit].mean()
    ratio = (g.estimate.abs() / truth.abs())[hit]
    v = (se**2).var(ddof=1)
    precision = reference.estimate.var(ddof=1) / emp**2
    rho = np.corrcoef(reference.estimate, g.estimate)[0, 1]

    def share(x, m):
        return x, np.sqrt(x * (1 - x) / m)

    return {
        "bias": (d.mean(), emp / np.sqrt(n)),
        "relative_bias": ((d / truth).mean(), (d / truth).std(ddof=1) / np.sqrt(n)),
        "empirical_se": (emp, emp / np.sqrt(2 * (n - 1))),
        "model_se": (mod, np.sqrt(v / (4 * n * mod**2))),
        "relative_error": (
            100 * (mod / emp - 1),
            100 * mod / emp * np.sqrt(v / (4 * n * mod**4) + 1 / (2 * (n - 1))),
        ),
        "mse": (mse, np.sqrt(((d**2 - mse) ** 2).sum() / (n * (n - 1)))),
        "rmse": (
            np.sqrt(mse),
            np.sqrt((n - 1) / n * ((leave_out - leave_out.mean()) ** 2).sum()),
        ),
        "coverage": share(c, n),
        "be_coverage": share(be, n),
        "width": (width.mean(), width.std(ddof=1) / np.sqrt(n)),
        "power": share(r, n),
        "power_all": share(r, n),
        "type_i": (np.nan, np.nan),
        "type_s": share(wrong, k),
        "type_m": (ratio.mean(), ratio.std(ddof=1) / np.sqrt(k)),
        "relative_precision": (
            100 * (precision - 1),
            200 * precision * np.sqrt((1 - rho**2) / (n - 1)),
        ),
    }


def test_every_measure_is_its_formula(rng):
    frame = frame_of(rng)
    measured = hlm.measures(frame.sample(frac=1, random_state=1), reference="REML")
    assert len(measured) == 8
    for _, row in measured.iterrows():
        g = frame[(frame[KEYS] == row[KEYS]).all(axis=1)]
        other = frame[(frame.condition == row.condition) & (frame.term == row.term)]
        expected = by_hand(g, other[other.method == "REML"])
        assert set(expected) == set(MEASURES)
        for name, pair in expected.items():
            near = tol.ROOT_OF_ROUNDING if name == "relative_precision" else tol.HAND
            assert [row[name], row[f"{name}_mcse"]] == pytest.approx(
                pair, rel=tol.HAND, abs=near, nan_ok=True
            ), name
    reference = measured[measured.method == "REML"]
    assert reference["relative_precision"].to_numpy() == pytest.approx(0.0, abs=tol.HAND)


RSIMSUM = {
    "bias": "bias",
    "relative_bias": "rbias",
    "empirical_se": "empse",
    "model_se": "modelse",
    "relative_error": "relerror",
    "mse": "mse",
    "coverage": "cover",
    "be_coverage": "becover",
    "power": "power",
    "relative_precision": "relprec",
}


@pytest.mark.parametrize("method", ["REML", "OLS"])
def test_r_packages_agree(method):
    """rsimsum and simhelpers on the same 80 replicates of two methods.

    simhelpers has a jackknife error for the empirical SE, which differs by a term of order 1/√n.
    Its error of the RMSE is left out: its RMSE₋ᵢ² is the squared bias plus the variance with
    divisor n − 2, so that RMSE₋ᵢ − RMSE has a mean of RMSE/2n, which adds RMSE/√(4n) in quadrature.
    The standard deviation over studies, below, speaks for the plain jackknife.
    """
    expected = json.loads((DATA / "measures.json").read_text())[method]
    frame = pd.read_csv(DATA / "measures.csv").assign(status="converged")
    frame["p_value"] = 2 * stats.norm.sf(np.abs(frame.estimate / frame.std_error))
    measured = hlm.measures(frame, by=["method", "term"], reference="REML")
    row = measured[measured.method == method].iloc[0]
    for name, theirs in RSIMSUM.items():
        pair = expected["rsimsum"][theirs]
        absolute = 1e-6 if name == "relative_precision" else 0.0
        assert [row[name], row[f"{name}_mcse"]] == pytest.approx(
            pair, rel=tol.PACKAGES, abs=absolute
        )
    for name, (value, mcse) in expected["simhelpers"].items():
        assert row[name] == pytest.approx(value, rel=tol.PACKAGES), name
        if name != "rmse":
            loose = 0.15 if name == "empirical_se" else tol.PACKAGES
            assert row[f"{name}_mcse"] == pytest.approx(mcse, rel=loose), name


@pytest.mark.slow
def test_the_sd_of_every_measure_is_its_mcse():
    """2,000 studies of 300 replicates: sd over studies against the root mean square of the MCSE."""
    rng = np.random.default_rng(11)
    frame = frame_of(rng, R=300, conditions=2000, truth=0.3)
    null = frame.assign(truth=0.0, estimate=frame.estimate - 0.3)
    for data, names in ((frame, [m for m in MEASURES if m != "type_i"]), (null, ["type_i"])):
        if names == ["type_i"]:
            data["p_value"] = 2 * stats.t.sf(np.abs(data.estimate / data.std_error), 20)
        measured = hlm.measures(data[data.term == "x"], which=names, reference="REML")
        measured = measured[measured.method == "OLS"]
        for name in names:
            sd = measured[name].std()
            stated = np.sqrt((measured[f"{name}_mcse"] ** 2).mean())
            ratio = stated / sd
            assert ratio == pytest.approx(1.0, abs=tol.META_MCSE), name


def test_the_empirical_se_agrees_with_a_jackknife(rng):
    """The normal formula is the jackknife's limit for normal estimates."""
    x = rng.normal(size=2000)
    n = len(x)
    total, square = x.sum(), x @ x
    left = np.sqrt((square - x**2 - (total - x) ** 2 / (n - 1)) / (n - 2))
    jackknife = np.sqrt((n - 1) / n * ((left - left.mean()) ** 2).sum())
    frame = pd.DataFrame({"truth": 0.0, "estimate": x, "status": "converged"})
    measured = hlm.measures(frame, by=(), which=["empirical_se"])
    assert measured["empirical_se_mcse"].item() == pytest.approx(jackknife, rel=tol.JACKKNIFE)


def test_closed_cases():
    """Four estimates whose measures can be told by looking."""
    frame = pd.DataFrame(
        {
            "truth": 2.0,
            "estimate": [1.0, 3.0, 1.0, 3.0],
            "std_error": 2.0,
            "conf_low": [0.0, 2.0, 0.0, 2.5],
            "conf_high": [2.0, 4.0, 1.5, 4.5],
            "p_value": [0.01, 0.05, 0.049, 0.9],
            "status": "converged",
        }
    )
    m = hlm.measures(frame, by=()).iloc[0]
    assert (m.bias, m.mse, m.rmse, m.coverage, m.power) == (0.0, 1.0, 1.0, 0.5, 0.5)
    assert m.mse_mcse == 0.0
    assert m.rmse_mcse == 0.0
    assert m.empirical_se == pytest.approx(np.sqrt(4 / 3))
    assert m.relative_error == pytest.approx(100 * (2 / np.sqrt(4 / 3) - 1))
    assert m.type_m == 0.5  # both significant estimates are 1
    assert m.type_s == 0.0
    assert m.width == pytest.approx(1.875)


def failures(rng):
    frame = frame_of(rng, R=50, conditions=1)
    frame = frame[(frame.method == "REML") & (frame.term == "x")].reset_index(drop=True)
    numbers = ["estimate", "std_error", "df", "p_value", "conf_low", "conf_high"]
    frame["status"] = ["singular"] * 5 + ["converged"] * 45
    frame.loc[10:13, "status"] = "iteration_limit"
    frame.loc[14:16, "status"] = "not_finite"
    frame.loc[10:16, numbers] = np.nan
    frame.loc[20:21, ["p_value", "conf_low"]] = np.nan
    return frame


def test_failed_fits_stay_in_sight(rng):
    frame = failures(rng)
    m = hlm.measures(frame).iloc[0]
    counts = ["n", "n_ok", "n_failed", "n_singular", "n_not_converged", "n_interval", "n_test"]
    assert m[counts].tolist() == [50, 43, 7, 5, 4, 41, 41]
    hits = (frame.p_value < 0.05).sum()
    assert m.power == pytest.approx(hits / 41)
    assert m.power_all == pytest.approx(hits / 50)
    good = frame.dropna(subset=["conf_low"])
    covered = (good.conf_low <= 0.5) & (good.conf_high >= 0.5)
    assert m.coverage == pytest.approx(covered.mean())
    assert m.bias == pytest.approx((frame.estimate - 0.5).mean())


def test_numbers_of_a_fit_that_did_not_converge_do_not_count(rng):
    frame = failures(rng)
    filled = frame.copy()
    filled.loc[10:16, ["estimate", "std_error", "conf_low", "conf_high"]] = 1e6
    filled.loc[10:16, "p_value"] = 0.0
    pd.testing.assert_frame_equal(hlm.measures(frame), hlm.measures(filled))


def test_a_group_without_estimates_is_nan(rng):
    frame = failures(rng)
    lost = frame.assign(condition=1, status="rank_deficient")
    single = frame.iloc[:1].assign(condition=2)
    m = hlm.measures(pd.concat([frame, lost, single]))
    assert m.condition.tolist() == [0, 1, 2]
    assert m.n_ok.tolist() == [43, 0, 1]
    assert np.isnan(
        m.loc[1, ["bias", "coverage", "power", "rmse", "power_mcse"]].astype(float)
    ).all()
    assert m.loc[1, "power_all"] == 0.0
    assert m.loc[2, ["bias_mcse", "empirical_se", "mse_mcse"]].isna().all()
    assert m.loc[2, "bias"] == pytest.approx(frame.estimate[0] - 0.5)
    pd.testing.assert_series_equal(m.iloc[0], hlm.measures(frame).iloc[0])


def test_a_truth_may_differ_between_replicates(rng):
    """Standard deviation and bias are about each replicate's own truth."""
    frame = frame_of(rng, R=400, conditions=1)
    shift = rng.normal(size=len(frame))
    moved = frame.copy()
    for name in ("truth", "estimate", "conf_low", "conf_high"):
        moved[name] += shift
    names = ["bias", "empirical_se", "relative_error", "mse", "coverage", "be_coverage", "width"]
    a, b = (hlm.measures(f, which=names).drop(columns=["truth", "mean"]) for f in (frame, moved))
    pd.testing.assert_frame_equal(a, b)


def test_without_a_truth_sd_and_power_remain(rng):
    frame = frame_of(rng)
    known = hlm.measures(frame).iloc[0]
    blind = hlm.measures(frame.assign(truth=np.nan)).iloc[0]
    for name in ("bias", "mse", "rmse", "relative_bias", "coverage", "type_s", "type_m", "type_i"):
        assert np.isnan(blind[name]), name
    for name in ("empirical_se", "model_se", "relative_error", "be_coverage", "power", "width"):
        assert blind[name] == pytest.approx(known[name], rel=tol.SUMMED), name


def test_type_i_is_the_rejection_rate_under_the_null(rng):
    m = hlm.measures(frame_of(rng, truth=0.0))
    assert m.type_i.tolist() == m.power.tolist()
    assert m[["relative_bias", "type_s", "type_m"]].isna().all(axis=None)


def test_limits_are_made_where_there_are_none(rng):
    frame = frame_of(rng)
    bare = frame.drop(columns=["conf_low", "conf_high"])
    pd.testing.assert_frame_equal(hlm.measures(frame), hlm.measures(bare))
    wide = hlm.measures(bare, level=0.99, which=["width"])
    assert wide.width.mean() / hlm.measures(bare).width.mean() == pytest.approx(
        stats.t.ppf(0.995, 20) / stats.t.ppf(0.975, 20)
    )
    normal = hlm.measures(bare.drop(columns="df"), which=["width"]).width
    expected = 2 * stats.norm.ppf(0.975) * frame.groupby(KEYS, sort=False).std_error.mean()
    assert normal.to_numpy() == pytest.approx(expected.to_numpy())


def test_precision_pairs_the_replicates_that_both_methods_have(rng):
    frame = frame_of(rng, R=100, conditions=1)
    frame = frame[frame.term == "x"]
    lost = (frame.method == "REML") & (frame.replicate < 30)
    holes = frame.assign(status=np.where(lost, "not_finite", frame.status))
    got = hlm.measures(holes, which=["relative_precision"], reference="REML")
    kept = frame[frame.replicate >= 30]
    expected = hlm.measures(kept, which=["relative_precision"], reference="REML")
    columns = ["relative_precision", "relative_precision_mcse"]
    pd.testing.assert_frame_equal(got[columns], expected[columns])


def test_categories_and_any_column_define_groups(rng):
    frame = frame_of(rng).assign(units=lambda f: 10 * (1 + f.condition))
    plain = hlm.measures(frame, by=["units", "method", "term"])
    coded = frame.astype({"method": "category", "term": "category", "status": "category"})
    again = hlm.measures(coded, by=["units", "method", "term"])
    assert plain.units.tolist() == [10] * 4 + [20] * 4
    assert plain.iloc[:, 3:].equals(again.iloc[:, 3:])


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        (lambda f: f, {"by": "design"}, MissingColumnError, "no column 'design'; it has condition"),
        (lambda f: f.drop(columns="truth"), {}, MissingColumnError, "no column 'truth'"),
        (lambda f: f.drop(columns="p_value"), {}, MissingColumnError, "which="),
        (lambda f: f, {"which": ["biass"]}, OptionError, "measure='biass'"),
        (lambda f: f, {"which": ["relative_precision"]}, OptionError, "reference="),
        (lambda f: f, {"reference": "GEE"}, OptionError, "'REML', 'OLS'"),
        (lambda f: f, {"alpha": 5}, OptionError, "alpha=5"),
        (lambda f: f, {"level": 95}, OptionError, "level=95"),
        (lambda f: f, {"by": ["condition", "method"]}, OptionError, "several values of 'term'"),
        (lambda f: f.iloc[:0], {}, NoRowsError, "no rows"),
        (lambda f: f.assign(estimate="a"), {}, NotNumericError, "'estimate'"),
        (lambda f: f.assign(status=0), {}, OptionError, "status holds numbers"),
        (
            lambda f: f.rename(columns={"condition": "n"}),
            {"by": ["n", "method", "term"]},
            OptionError,
            "rename it",
        ),
        (
            lambda f: f.assign(replicate=0),
            {"which": ["relative_precision"], "reference": "REML"},
            OptionError,
            "do not tell the replicates apart",
        ),
    ],
)
def test_bad_input(rng, change, options, error, message):
    with pytest.raises(error, match=message):
        hlm.measures(change(frame_of(rng)), **options)


def test_one_measure_needs_its_columns_only(rng):
    frame = frame_of(rng)[[*KEYS, "truth", "estimate", "status"]]
    assert "n_test" not in hlm.measures(frame, which=["bias"]).columns


def test_nsim_is_the_mcse_turned_round():
    """√(r(1 − r)/n) at the planned n is the wanted MCSE, and at n − 1 it is not."""
    n = hlm.nsim(0.003, "coverage", expected=0.9)
    assert np.sqrt(0.9 * 0.1 / n) <= 0.003 < np.sqrt(0.9 * 0.1 / (n - 1))
    assert hlm.nsim(0.005) == 1900
    assert hlm.nsim(0.01, "bias", sd=0.5) == 2500


@pytest.mark.parametrize(
    "options",
    [
        {"mcse": 0.0},
        {"mcse": 0.01, "measure": "bias"},
        {"mcse": 0.01, "measure": "mse"},
        {"mcse": 0.01, "expected": 95},
    ],
)
def test_nsim_says_what_is_wrong(options):
    with pytest.raises(OptionError):
        hlm.nsim(**options)


def test_stopping_waits_for_every_group(rng):
    m = hlm.measures(frame_of(rng, R=200))
    worst = m.bias_mcse.max()
    assert hlm.stopping(m, {"bias": worst})
    assert not hlm.stopping(m, {"bias": 0.99 * worst})
    assert not hlm.stopping(m, {"bias": worst, "coverage": 0.001})
    assert not hlm.stopping(m.assign(bias_mcse=np.nan), {"bias": 1.0})


def test_stopping_is_not_deceived_by_a_rate_of_one(rng):
    m = hlm.measures(frame_of(rng, R=10)).assign(coverage=1.0, coverage_mcse=0.0)
    assert not hlm.stopping(m, {"coverage": 0.01})
    assert hlm.stopping(m.assign(n_interval=10_000), {"coverage": 0.01})


def test_stopping_does_not_wait_for_what_is_not_defined(rng):
    m = hlm.measures(frame_of(rng, truth=0.0, R=200))
    assert hlm.stopping(m, {"relative_bias": 1e-9, "type_m": 1e-9})
    assert not hlm.stopping(m, {"type_i": 1e-9})


@pytest.mark.parametrize(
    ("targets", "error"),
    [({}, OptionError), ({"biass": 1}, OptionError), ({"bias": 0}, OptionError),
     ({"relative_precision": 1}, MissingColumnError)],
)  # fmt: skip
def test_stopping_says_what_is_wrong(rng, targets, error):
    with pytest.raises(error):
        hlm.stopping(hlm.measures(frame_of(rng)), targets)


def test_the_table_prints_counts_and_mcse(rng):
    text = str(hlm.MeasuresTable(hlm.measures(failures(rng))))
    header, row, _ = text.split("\n")
    assert header.split()[-2:] == ["n_failed", "n_singular"]
    assert row.split()[-2:] == ["7", "5"]
    lines = str(hlm.MeasuresTable(hlm.measures(frame_of(rng)), ["bias"])).split("\n")[1:-1]
    assert {len(line.split()[-4].partition(".")[2]) for line in lines} == {3}
    with pytest.raises(MissingColumnError, match="relative_precision"):
        hlm.MeasuresTable(hlm.measures(frame_of(rng)), ["relative_precision"])


def test_rmse_of_one_replicate_has_no_mcse():
    value, mcse = root_mean_square(ReplicateGroups(np.array([0]), 1), np.array([2.0]))
    assert value[0] == 2.0
    assert np.isnan(mcse[0])


def test_a_frame_of_measures_prints_all_of_them_and_says_how_to_read_it():
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"term": "x", "truth": 3.0, "estimate": rng.normal(3, 0.1, 50),
                          "std_error": 0.1, "status": "converged"})  # fmt: skip
    measured = hlm.measures(frame, by="term", which=["bias", "coverage", "width", "mse"])
    printed = repr(measured)
    assert all(name in printed for name in measured) and "MeasuresTable(table)" in printed
