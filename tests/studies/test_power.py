"""Power against closed forms, exact intervals against SciPy, and searches that find the size."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import jaxhlm as hlm
import tolerances as tol
from cases import FORMULA, TRUTH
from jaxhlm import violations as v
from jaxhlm.core.versions import versions
from jaxhlm.errors import (
    GroupingError,
    IdentifiabilityError,
    JaxhlmError,
    OneDrawWarning,
    OptionError,
    TargetError,
    UnknownTermError,
)
from jaxhlm.estimation.executors import workers_of
from jaxhlm.studies import power as power_module
from jaxhlm.studies import power_curve as curve_module
from jaxhlm.studies.analytic import analytic_power, precision
from jaxhlm.studies.binomial import exact_interval, rate_mcse


@pytest.fixture(scope="module")
def article():
    return hlm.mechanism(FORMULA, hlm.load_dataset("article"), TRUTH)


def dense_vcov(design, truth):
    A = 0.0
    for g in range(design.G):
        at = design.group == g
        Z, X = design.Z[at], design.X[at]
        V = Z @ truth.cov @ Z.T + truth.sigma**2 * np.eye(at.sum())
        A = A + X.T @ np.linalg.solve(V, X)
    return np.linalg.inv(A)


@pytest.mark.parametrize("hits", [0, 1, 17, 99, 100])
@pytest.mark.parametrize("level", [0.9, 0.99])
def test_the_interval_is_that_of_clopper_and_pearson(hits, level):
    expected = stats.binomtest(hits, 100).proportion_ci(level, "exact")
    np.testing.assert_allclose(exact_interval(hits, 100, level), expected, atol=tol.SUMMED)


def test_rates_of_nothing_are_nan():
    assert np.isnan(exact_interval(0, 0)).all()
    assert np.isnan(rate_mcse(0, 0))


@pytest.mark.parametrize("n_units", [7, 30])
def test_precision_is_the_dense_one(n_units):
    """Unbalanced, so that nothing is joined."""
    rng = np.random.default_rng(3)
    unit = np.repeat(np.arange(n_units), rng.integers(3, 9, size=n_units))
    data = pd.DataFrame({"unit": unit, "x": rng.normal(size=len(unit)), "a": unit % 3 + 0.5})
    design, L = hlm.design(FORMULA, data), np.array([[0, 1, -2, 0], [0, 0, 0, 1.0]])
    found = precision(design, TRUTH, L)
    np.testing.assert_allclose(found.cov, L @ dense_vcov(design, TRUTH) @ L.T, rtol=tol.DENSE)
    np.testing.assert_allclose(found.value, [3.3, 0.3])


def test_power_and_type_one_error_in_a_balanced_design(article):
    """β̂ does not depend on the variances there: t is exactly noncentral, and t under H₀."""
    found = hlm.power(article, ["x:a", "x = 3", "a = -0.15, x:a = 0.3"], n=4000, seed=1)
    table = found.table
    se = np.sqrt(dense_vcov(article.template, TRUTH)[3, 3])
    critical = stats.t.ppf(0.975, 28)
    exact = stats.nct.sf(critical, 28, 0.3 / se) + stats.nct.cdf(-critical, 28, 0.3 / se)
    np.testing.assert_allclose(table["analytic"], [exact, 0.05, 0.05], rtol=tol.ANALYTIC)
    assert (np.abs(table["power"] - table["analytic"]) < 3 * table["mcse"]).all()
    assert found.interval[0] < found.power < found.interval[1]
    assert table["failed"].tolist() == [0, 0, 0]
    assert "4,000 tests" in str(found)


def test_a_plan_is_told_in_words(article):
    """What a protocol states: design, truth, analysis, test, power with its errors, failures."""
    design = hlm.units(
        24, 5, {"visit": range(5)}, factors={"arm": ["control", "treated"]},
        dropout={"overall": 0.2}, redraw=["dropout"],
    )  # fmt: skip
    truth = hlm.Truth.of([0, 0.1, 0, 0.2], sd=[1, 0.2], sigma=1)
    m = hlm.mechanism("y ~ visit * arm + (1 + visit | unit)", design, truth)
    found = hlm.power(m, ["visit:armtreated", "visit = 0, armtreated = 0"], n=40, seed=1)
    text = " ".join(str(found).split())
    for told in (
        "Design 24 units (unit), with 5 measurements each. Within units visit = 0, 1, 2, 3, 4.",
        "In rotation units belong to arm: 12 control, 12 treated. Drop-out: 20 % of the units "
        "leave before their last measurement, at a constant rate. Expected to have all "
        "measurements: 19.2 of 24 units (9.6 of 12 control, 9.6 of 12 treated). Drawn anew for "
        "every data set: dropout.",
        "Truth y ~ visit * arm + (1 + visit | unit) with fixed effects (Intercept) = 0, visit = ",
        "Each data set is fitted with the model that generates it by restricted maximum",
        "Test visit:armtreated = 0, by a two-sided t test at the level 0.05 (Satterthwaite's",
        "In truth it is 0.2; Cohen's d 0.2 by the residual sd, 0.2 by that of units, 0.141 by the "
        "total sd.",
        f"By formula, on one draw of the design, approximately: {found.analytic:.4f}.",
        "Test visit = 0, armtreated = 0, by a joint F test of 2 contrasts at the level 0.05",
        f"Power {found.power:.4f} (exact 95 % interval {found.interval[0]:.4f} to ",
        f"Monte-Carlo standard error {found.mcse:.4f})",
        "Failures 0 of 40 data sets have no test.",
    ):
        assert told in text, told
    assert max(map(len, str(found).splitlines())) <= 80


def test_a_plan_counts_the_units_of_a_frame_and_its_formula_takes_the_one_design():
    truth = hlm.Truth.of([0, 0.1, 0, 0.2], sd=[1, 0.2], sigma=1)
    frame = hlm.units(7, 3, factors={"arm": ["a", "b"]}, within={"visit": range(3)}).frame()
    found = hlm.power(
        hlm.mechanism("y ~ visit * arm + (1 + visit | unit)", frame, truth), "armb", n=20, seed=1
    )
    text = " ".join(str(found).split())
    assert "the same in every data set. Units belong to arm: 4 a, 3 b." in text
    assert "By formula, approximately" in text
    # Of a model that is not the one that generates nobody knows what its effects are in truth.
    other = hlm.power(
        hlm.mechanism("y ~ visit * arm + (1 + visit | unit)", frame, truth), "armb", n=20, seed=1,
        formula="y ~ arm + (1 | unit)",
    )  # fmt: skip
    assert "In truth" not in str(other)


def test_a_z_test_rejects_too_often_and_the_formula_knows():
    """Eight units: the z test of x:a has 6 df that it ignores."""
    data = hlm.extend(hlm.load_dataset("article"), along="unit", n=8)
    null = hlm.Truth.of([1, 3, -0.15, 0.0], sd=[0.2, 0.5], corr=0.9, sigma=0.75)
    m = hlm.mechanism(FORMULA, data, null)
    z = hlm.power(m, "x:a", n=4000, df="normal", seed=1)
    np.testing.assert_allclose(
        z.analytic, 2 * stats.t.sf(stats.norm.ppf(0.975), 6), rtol=tol.ANALYTIC
    )
    assert abs(z.power - z.analytic) < 3 * z.mcse
    assert z.power > 0.09


def test_analytic_power_where_it_is_an_approximation():
    """Random intercepts and an x that varies between and within units: within two points."""
    rng = np.random.default_rng(2)
    unit = np.repeat(np.arange(60), 5)
    data = pd.DataFrame({"unit": unit, "x": rng.normal(size=len(unit))})
    truth = hlm.Truth.of([0, 0.15], sd=[0.6], sigma=1.0)
    found = hlm.power(hlm.mechanism("y ~ x + (1 | unit)", data, truth), "x", n=4000, seed=3)
    assert abs(found.power - found.analytic) < 0.02 + 3 * found.mcse
    assert 0.3 < found.power < 0.95


def test_analytic_power_of_large_effects_is_one(article):
    found = precision(article.template, TRUTH, np.array([[0.0, 1, 0, 0]]))
    assert analytic_power(found._replace(value=np.array([30.0])), np.zeros(1)) == 1.0
    many = found._replace(df=np.array([np.inf]))
    assert analytic_power(many, found.value) == pytest.approx(0.05)


def test_a_pair_of_design_and_truth_is_a_mechanism(article):
    pair = hlm.power((article.template, TRUTH), "x:a", n=500, seed=1)
    same = hlm.power(article, "x:a", n=500, seed=1)
    pd.testing.assert_frame_equal(pair.table, same.table)


def test_failures_count_as_no_rejection():
    """Two data sets in three are constant: these fail, and the rest decides ``power``."""

    class Half:
        def __init__(self, drawn):
            self.drawn = drawn

        def fit(self, *_, **__):
            Y = self.drawn.responses.copy()
            Y[:, ::3] = np.nan
            return hlm.fit_many(FORMULA, self.drawn.mechanism.design, Y)

    class Failing:
        def __init__(self, mechanism):
            self.mechanism = mechanism

        def __getattr__(self, name):
            return getattr(self.mechanism, name)

        def draw(self, *args, **_):
            return Half(self.mechanism.draw(*args, rows=True))

    m = hlm.mechanism(FORMULA, hlm.load_dataset("article"), TRUTH)
    row = hlm.power(Failing(m), "x:a", n=30, seed=1).table.iloc[0]
    assert (row["failed"], row["n"]) == (10, 30)
    assert row["power"] == row["rejected"] / 20
    assert row["power_all"] == row["rejected"] / 30


def test_violations_and_other_formulas_have_no_formula(article):
    heavy = hlm.mechanism(FORMULA, article.design, TRUTH,
                          hlm.violations.ResidualsFrom(hlm.violations.StudentT(4)))  # fmt: skip
    assert np.isnan(hlm.power(heavy, "x:a", n=20, seed=1).analytic)
    other = hlm.power(article, "x", n=20, seed=1, formula="y ~ x + (1 + x | unit)")
    assert np.isnan(other.analytic)


def test_rows_are_drawn_in_parts(article, monkeypatch):
    """Data sets that must be drawn as rows are the same whatever fits the memory."""
    formula = "y ~ x + (1 + x | unit)"
    whole = hlm.power(article, "x = 2.9", n=60, seed=1, formula=formula)
    monkeypatch.setattr(power_module, "MOST_NUMBERS", 900 * 23)
    parts = hlm.power(article, "x = 2.9", n=60, seed=1, formula=formula)
    pd.testing.assert_frame_equal(whole.table, parts.table)
    assert 0 < whole.power < 1


def test_curves_share_their_random_numbers(article):
    """The same data sets but for the effect: power grows with it without exception."""
    values = [0.0, 0.1, 0.2, 0.3, 0.4]
    curve = hlm.power_curve(article, "x:a", along="beta[x:a]", values=values, n=512, seed=2)
    assert (np.diff(curve["power"]) > 0).all()
    assert curve["beta[x:a]"].tolist() == values
    noise = hlm.power_curve(article, ["x:a", "x"], along="sd[x]", values=[0.4, 0.6], n=60, seed=2)
    assert len(noise) == 4
    analytic = noise[noise["test"] == "x:a"]["analytic"].tolist()
    assert analytic[0] > analytic[1]


def test_more_units_take_no_new_program(article, monkeypatch):
    """Balanced designs are joined to one shape whatever their number of units."""
    from jaxhlm.statistics import drawing

    hlm.power(article, "x:a", n=600, seed=1)
    compiled = len(drawing._draw._programs)
    hlm.power_curve(article, "x:a", along="units", values=[11, 17, 23], n=600, seed=1)
    assert len(drawing._draw._programs) == compiled


@pytest.mark.slow
def test_more_units_of_unequal_sizes_take_no_new_program():
    """One program for every number of groups up to the length of the arrays: 16, 64, 128 …"""
    from jaxhlm.optimise import compiled
    from jaxhlm.statistics import drawing

    data = hlm.load_dataset("article")
    data = data[np.random.default_rng(1).random(len(data)) < 0.6]
    truth = hlm.Truth.of([1, 3, -0.15, 0.3], sd=[0.2, 0.5], corr=0.9, sigma=0.75)
    m = hlm.mechanism("y ~ x * a + (1 + x | unit)", data, truth)

    def programs():
        return [len(f._programs) for f in (drawing._draw, compiled._in_tiles)]

    before = programs()
    hlm.power_curve(m, "x:a", along="units", values=[18, 22, 25, 28, 35, 40], n=400, seed=1)
    draws, minima = np.subtract(programs(), before)
    assert draws <= 1
    assert minima <= 1


def planned(table):
    """A power that tells no more than its table."""
    return SimpleNamespace(table=table, _blocks=lambda: [["the plan"]])


def fake_power(monkeypatch, true_power):
    """Replace the simulation by a binomial draw of a known power."""
    calls = []

    class Trials:
        def __init__(self, mechanism, *_):
            self.value = mechanism

        def power(self, n, _):
            hits = np.random.default_rng(len(calls)).binomial(n, true_power(self.value))
            calls.append((self.value, n))
            low, high = exact_interval(hits, n, 0.99)
            row = {"power": hits / n, "conf_low": low, "conf_high": high, "n": n}
            return planned(pd.DataFrame([row]))

    monkeypatch.setattr(curve_module, "Trials", Trials)
    monkeypatch.setattr(curve_module, "_changed", lambda mechanism, along, value: value)
    monkeypatch.setattr(curve_module, "analysed", lambda *_: (None, None))
    monkeypatch.setattr(curve_module, "read_tests", lambda *_: [None])
    return calls


@pytest.mark.parametrize("guess", [4, 20, 41, 42, 43, 300, 1000, np.nan])
@pytest.mark.parametrize("answer", [4, 42, 1000])
def test_the_smallest_size_is_found_from_any_start(monkeypatch, guess, answer):
    """Whatever the formula says, and at either end of the bounds."""

    def true_power(units):
        return 0.9 if units >= answer else 0.7

    def formula(value, *_):
        return np.nan if np.isnan(guess) else float(value >= guess)

    calls = fake_power(monkeypatch, true_power)
    monkeypatch.setattr(curve_module, "formula_power", formula)
    found = hlm.solve_power(None, "x", 0.8, along="units", bounds=(4, 1000), n=400, seed=1)
    assert (found.value, found.resolved) == (answer, True)
    assert len({value for value, _ in calls}) < 25
    assert found.curve["units"].is_monotonic_increasing


def test_more_data_sets_are_drawn_near_the_target(monkeypatch):
    calls = fake_power(monkeypatch, lambda units: min(0.8 + 0.001 * (units - 50), 1.0))
    monkeypatch.setattr(curve_module, "formula_power", lambda value, *_: float(value >= 50))
    found = hlm.solve_power(None, "x", 0.8, along="units", bounds=(4, 1000), n=400, seed=1)
    assert max(n for _, n in calls) == 16 * 400
    assert abs(found.value - 50) <= 20
    assert not found.resolved
    assert "simulation error" in str(found)


@pytest.mark.parametrize(
    ("below", "at", "told"),
    [
        ((0.77, 0.81), (0.81, 0.84), "units = 41 may do as well: simulation"),
        ((0.75, 0.79), (0.79, 0.84), "units = 42 may fall short: simulation"),
        ((0.77, 0.81), (0.79, 0.84), "units = 41 may do as well, and 42 may fall short: simul"),
        ((0.75, 0.79), (0.81, 0.84), None),
    ],
)
def test_what_simulation_error_leaves_open_is_named(below, at, told):
    low, high = zip((0.1, 0.2), below, at, (0.7, 0.9), strict=True)
    curve = pd.DataFrame({"units": [30, 41, 42, 60], "power": 0.8, "conf_low": low})
    curve["conf_high"] = high
    found = curve_module.PowerSolution(42, 0.8, "units", curve, told is None, planned(curve))
    assert ("simulation error" in str(found)) == bool(told)
    assert (told or "units = 42") in str(found)


def test_power_tells_the_seed_that_gives_it_again(article):
    """Also of a generator, or of none that was given; and the version that it belongs to."""
    test, options = "x:a", {"n": 40, "along": "units", "values": [20]}
    found = hlm.power(article, test, n=40, seed=np.random.default_rng(3))
    again = hlm.power(article, test, n=40, seed=found.seed)
    pd.testing.assert_frame_equal(found.table, again.table)
    words = f"drawn with seed={found.seed} by jaxhlm {versions()['jaxhlm']}"
    assert f"40 data sets are {words}." in " ".join(str(found).split())
    curve = hlm.power_curve(article, test, **options)
    same = hlm.power_curve(article, test, **options, seed=curve.attrs["seed"])
    pd.testing.assert_frame_equal(curve, same)
    assert f"drawn with seed={curve.attrs['seed']} by jaxhlm" in repr(curve)
    search = hlm.solve_power(article, test, 0.5, bounds=(10, 30), n=40)
    once_more = hlm.solve_power(article, test, 0.5, bounds=(10, 30), n=40, seed=search.seed)
    pd.testing.assert_frame_equal(search.curve, once_more.curve)
    assert f"seed={search.seed} by" in " ".join(str(search).split())


def test_a_design_that_is_drawn_once_has_power_of_this_draw():
    """Said in the plan and by a warning of every function; not where nothing is drawn once."""
    truth = hlm.Truth.of([0, 0.5], sd=[0.5], sigma=1)

    def of(redraw):
        design = hlm.units(12, 3, {"t": range(3)}, dropout={"overall": 0.3}, redraw=redraw)
        return hlm.mechanism("y ~ t + (1 | unit)", design, truth)

    asked = {
        hlm.power: {},
        hlm.power_curve: {"along": "units", "values": [10, 12]},
        hlm.solve_power: {"bounds": (6, 60)},
    }
    once, anew = of(False), of(True)
    for ask, options in asked.items():
        with pytest.warns(OneDrawWarning, match="one draw of dropout.*redraw=True") as said:
            found = ask(once, "t", n=20, seed=1, **options)
        assert len(said) == 1
        if ask is not hlm.power_curve:
            assert "Another draw gives another power" in " ".join(str(found).split())
    for m in (anew, hlm.mechanism("y ~ t + (1 | unit)", once.design, truth)):
        assert "Another draw" not in str(hlm.power(m, "t", n=20, seed=1))


@pytest.mark.parametrize("rows", [True, False], ids=["rows", "statistics"])
def test_data_sets_that_were_tested_are_not_drawn_again(article, monkeypatch, rows):
    """And more of them, in two steps, have the power of all at once."""
    drawn, fits = [], power_module._Job.fits
    monkeypatch.setattr(
        power_module._Job, "fits", lambda job, part, p: drawn.append(part) or fits(job, part, p)
    )
    options = (None, True, 0.99, None, "float64", workers_of(None))
    given = article if rows else (article.template, article.truth)
    if rows:
        given = hlm.mechanism(FORMULA, article.design, TRUTH, v.ResidualsFrom(v.Uniform()))
    trials = power_module.Trials(given, "x:a", 0.05, "satterthwaite", 1, *options)
    trials.power(40, False)
    found = trials.power(100, False)
    assert [part[1:3] for part in drawn] == [(0, 40), (40, 100)]
    at_once = hlm.power(given, "x:a", n=100, seed=1, level=0.99)
    pd.testing.assert_frame_equal(found.table, at_once.table)


def test_maximum_likelihood_has_no_power_by_formula(article):
    """Its tests reject more often than REML's, whose formula only says where a search starts."""
    options = {"test": ["x:a", "x = 3, x:a = 0"], "n": 40, "seed": 1}
    reml, ml = (hlm.power(article, **options, reml=reml) for reml in (True, False))
    assert np.isfinite(reml.table["analytic"]).all()
    assert ml.table["analytic"].isna().all()
    assert "By formula" in str(reml) and "By formula" not in str(ml)
    found = hlm.solve_power(article, "x:a", 0.8, bounds=(10, 60), n=100, seed=1, reml=False)
    assert 15 < found.value < 45
    assert len(found.curve) < 8


def test_an_effect_is_solved_for_on_either_side_of_zero(article):
    up = hlm.solve_power(article, "x:a", 0.8, along="beta[x:a]", bounds=(0, 1), n=100, seed=1)
    down = hlm.solve_power(article, "x:a", 0.8, along="beta[x:a]", bounds=(-1, 0), n=100, seed=1)
    for found in (up.value, -down.value):
        assert 0.25 < found < 0.37
    assert up.curve["beta[x:a]"].is_monotonic_increasing


@pytest.mark.slow
@pytest.mark.parametrize(
    ("formula", "sd", "along", "low", "high"),
    [
        ("y ~ t * a + (1 + t | unit)", [0.7, 0.4], "measurements", 1, 8),
        ("y ~ t * a + (1 | unit)", [0.7], "measurements", 1, 3),
        ("y ~ t * a + (1 | unit)", [0.7], "units", 1, 9),
    ],
)
def test_a_size_at_which_the_model_is_not_identified_does_not_reach(formula, sd, along, low, high):
    """The answer is that of bounds that leave it out; a curve says which size it is."""
    frame = hlm.units(12, 4, {"t": range(4)}, factors={"a": ["c", "d"]}).frame()
    m = hlm.mechanism(formula, frame, hlm.Truth.of([1, 0.5, 0.2, 4.0], sd=sd, sigma=0.8))
    options = {"along": along, "n": 60, "seed": 1}
    found = hlm.solve_power(m, "t:ad", bounds=(low, high), **options)
    least = {"measurements": 1 + len(sd), "units": 3}[along]
    assert found.value == least == hlm.solve_power(m, "t:ad", bounds=(least, high), **options).value
    assert np.isfinite(found.curve.set_index(along).loc[least, "power"]).all()
    with pytest.raises(IdentifiabilityError, match=f"^{along}=1: "):
        hlm.power_curve(m, "t:ad", values=[high, 1], **options)


@pytest.mark.parametrize("effect", [3.0, 30.0])
def test_a_search_passes_sizes_that_leave_no_unit_to_an_arm(effect):
    """Of one unit, or of two for three arms, the model is not identified."""
    made = hlm.units(24, 4, {"t": range(4)}, factors={"arm": ["c", "d", "e"]})
    truth = hlm.Truth.of([1, 3, 0, 0, 0, effect], sd=[0.2], sigma=0.75)
    m = hlm.mechanism("y ~ t * arm + (1 | unit)", made, truth)
    found = hlm.solve_power(m, "t:arme", 0.8, bounds=(1, 24), n=60, seed=1)
    assert 3 <= found.value <= 24
    with pytest.raises(GroupingError, match="units=1: of one unit"):
        hlm.power_curve(m, "t:arme", along="units", values=[12, 1], n=60, seed=1)
    with pytest.raises(IdentifiabilityError, match="units=2: no row is left of 'e' of 'arm'"):
        hlm.power_curve(m, "t:arme", along="units", values=[12, 2], n=60, seed=1)


def test_a_target_out_of_reach_says_so(article):
    with pytest.raises(TargetError, match=r"at units=12 is 0\.\d+"):
        hlm.solve_power(article, "x:a", 0.9, bounds=(8, 12), n=200, seed=1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"test": "x:b"}, UnknownTermError, r"'\(Intercept\)', 'x', 'a', 'x:a'"),
        ({"test": []}, OptionError, "nothing to test; the terms are"),
        ({"test": "0*x"}, JaxhlmError, "zero in every term"),
        ({"n": 0}, OptionError, "n=0"),
        ({"alpha": 5}, OptionError, "alpha=5"),
        ({"df": "bartlett"}, OptionError, "'satterthwaite'"),
        ({"reml": False, "df": "kenward-roger"}, JaxhlmError, "REML"),
    ],
)
def test_bad_questions(article, arguments, error, message):
    with pytest.raises(error, match=message):
        hlm.power(article, **{"test": "x:a", "n": 10, "seed": 1, **arguments})


@pytest.mark.parametrize(
    ("along", "values", "message"),
    [
        ("persons", [3], '"units", "measurements"'),
        ("beta[z]", [0.1], "no such fixed effect; there are '\\(Intercept\\)', 'x'"),
        ("sd[a]", [0.1], "no such random effect"),
        ("sd[x]", [-0.1], "must not be negative"),
        ("corr", [1.5], "not positive semi-definite"),
        ("units", [10.5], "whole number"),
        ("units", [], "empty"),
    ],
)
def test_bad_curves(article, along, values, message):
    with pytest.raises(JaxhlmError, match=message):
        hlm.power_curve(article, "x:a", along, values, n=10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"along": "sigma"}, "does not grow"),
        ({"along": "beta[x]", "bounds": (-1, 1)}, "one side of zero"),
        ({"bounds": (9, 3)}, "low < high"),
        ({"bounds": (2.5, 3)}, "whole numbers"),
        ({"target": 80}, "between 0 and 1"),
        ({"test": ["x", "a"]}, "one test"),
    ],
)
def test_bad_searches(article, options, message):
    with pytest.raises(OptionError, match=message):
        hlm.solve_power(article, **{"test": "x:a", "n": 10, **options})


def test_sizes_need_a_frame(article):
    with pytest.raises(OptionError, match="needs a Mechanism"):
        hlm.power_curve((article.template, TRUTH), "x:a", "units", [10], n=10)
    with pytest.raises(OptionError, match="give a Mechanism"):
        hlm.power((TRUTH, article.template), "x:a", n=10)


def test_parts_that_a_ctrl_c_may_lose_do_not_change_the_power(article, monkeypatch):
    whole = hlm.power(article, ["x:a", "x"], n=250, seed=1, progress=False)
    monkeypatch.setattr(power_module, "TOGETHER", 100)
    parts = hlm.power(article, ["x:a", "x"], n=250, seed=1, progress=False)
    pd.testing.assert_frame_equal(parts.table, whole.table)
