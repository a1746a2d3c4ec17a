"""Arguments that cannot be: our error by their name, before memory is taken; requests are met."""

import numpy as np
import pytest

import jaxhlm as hlm
from cases import FORMULA, TRUTH
from jaxhlm import violations as v
from jaxhlm.core import arguments

ROWS = hlm.load_dataset("article").drop(columns="y")
BAD = (
    np.inf, -np.inf, np.nan, 0, -1, 1e308, 1e15, 1e-300, 2**70, 10**400, 0.5, np.float32(0.5), True,
    1j, None, "abc", "0.5", b"1", [], [1.0, 2.0], [np.nan], np.array([0.1, 0.2]), {}, object(),
)  # fmt: skip


@pytest.fixture(scope="module")
def made():
    return hlm.mechanism(FORMULA, ROWS, TRUTH)


@pytest.fixture(scope="module")
def fit():
    return hlm.fit(FORMULA, hlm.load_dataset("article"))


def truth(**change):
    return hlm.Truth.of(**{"beta": [1, 3], "sd": [0.2, 0.5], "corr": 0.5, "sigma": 1.0} | change)


def units(**change):
    return hlm.units(**{"n": 6, "measurements": 3, "within": {"x": [0, 1, 2]}} | change).frame()


CONSTRUCTED = {
    "rho": v.Autocorrelated,
    "spread": v.UnequalVariances,
    "effects_of": v.OmittedCovariate,
    "effects_of['x']": lambda z: v.OmittedCovariate({"x": z}),
    "correlations": lambda z: v.CorrelatedEffects("a", z),
    "correlations['x']": lambda z: v.CorrelatedEffects("a", {"x": z}),
    "function": lambda z: v.Nonlinear("x", z),
    "function ": lambda z: v.Heteroscedastic("x", z),
    "df": v.StudentT,
    "skewness": v.Skewed,
    "share": v.Contaminated,
    "ratio": lambda z: v.Contaminated(0.1, z),
    "share ": v.TwoClasses,
    "distance": lambda z: v.TwoClasses(0.5, z),
    "kept": lambda z: v.InformativeSize("x", 1.0, z),
    "slope": lambda z: v.InformativeSize("x", z),
    "rate": v.MissingCompletely,
    "rate ": lambda z: v.MissingAtRandom("x", z),
    "slope ": lambda z: v.MissingAtRandom("x", 0.1, z),
    "rate  ": v.MissingNotAtRandom,
    "slope  ": lambda z: v.MissingNotAtRandom(0.1, z),
    "beta": lambda z: truth(beta=z),
    "beta ": lambda z: truth(beta={"x": z}),
    "sd": lambda z: truth(sd=z),
    "sd ": lambda z: truth(sd=[1.0, z]),
    "corr": lambda z: truth(corr=z),
    "sigma": lambda z: truth(sigma=z),
    "cov": lambda z: hlm.Truth([1, 2], z, 1.0),
    "n": lambda z: units(n=z),
    "measurements": lambda z: units(measurements=z, within=None),
    "within": lambda z: units(within=z),
    "x": lambda z: units(within={"x": z}),
    "between": lambda z: units(between=z),
    "b": lambda z: units(between={"b": z}),
    "factors": lambda z: units(factors=z),
    "f": lambda z: units(factors={"f": z}),
    "crossed": lambda z: units(crossed=z),
    "dropout": lambda z: units(dropout={"per_visit": z}),
    "dropout ": lambda z: units(dropout={"overall": z}),
    "redraw": lambda z: units(redraw=z),
    "unit": lambda z: units(unit=z),
    "seed": lambda z: units(seed=z),
    "rng": lambda z: hlm.units(n=3).frame(z),
    "n ": lambda z: hlm.extend(ROWS, along="unit", n=z),
    "n  ": lambda z: hlm.extend(ROWS, within="unit", n=z),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", CONSTRUCTED)
def test_what_cannot_be_is_refused_by_name(name):
    refused = 0
    for value in BAD:
        try:
            CONSTRUCTED[name](value)
        except hlm.JaxhlmError as error:
            refused += 1
            last = name.strip().partition("[")[0]
            known = (last, "corr", "level", "positive semi-definite", "sequence", "measurements")
            assert any(word in str(error) for word in known), error
    assert refused > 5


@pytest.mark.parametrize("name", ["n", "alpha", "level", "df", "seed", "test"])
def test_power_refuses_by_name(name, made):
    for value in (np.inf, np.nan, -1, 1j, "abc", [1.0, 2.0], {}, object(), 10**400, True):
        if name == "seed" and value in (-1, 10**400):
            continue
        with pytest.raises(hlm.JaxhlmError):
            hlm.power(made, **{"test": "x", "n": 2} | {name: value})


@pytest.mark.parametrize("along", ["units", "measurements", "sigma", "corr", "beta[x]", "sd[x]"])
def test_curves_refuse_values(along, made):
    for value in (np.inf, np.nan, 1j, "abc", None, [1.0], {}, object(), 10**400, True, 1e308):
        with pytest.raises(hlm.JaxhlmError):
            hlm.power_curve(made, "x", along, [value], n=2, progress=False)
    for bounds in (1, "ab", (1, 2, 3), (np.nan, 2), (1j, 2), (5, 2), None, (1, 1e308)):
        with pytest.raises(hlm.JaxhlmError):
            hlm.solve_power(made, "x", along=along, bounds=bounds, n=2, progress=False)


MANY = 10**12
SIZES = {
    "simulate": lambda made, fit: hlm.simulate(fit, n=2**32).fit(),
    "bootstrap": lambda made, fit: hlm.bootstrap(fit, MANY, "cases"),
    "bootstrap_lrt": lambda made, fit: hlm.bootstrap_lrt(
        hlm.fit("y ~ x + a + (1 + x | unit)", hlm.load_dataset("article")), fit, MANY
    ),
    "confint": lambda made, fit: fit.confint("boot", n=MANY),
    "rows": lambda made, fit: fit.simulate(MANY),
    "power": lambda made, fit: hlm.power(made, "x", n=MANY),
    "draw": lambda made, fit: made.draw(0, MANY, 1).responses,
    "study": lambda made, fit: hlm.study(None, {"a": made}, n=MANY),
    "units": lambda made, fit: hlm.units(n=MANY).frame(),
    "crossed": lambda made, fit: units(n=10**6, crossed={"a": range(1000), "b": range(1000)}),
    "extend": lambda made, fit: hlm.extend(ROWS, along="unit", n=MANY),
}


@pytest.mark.parametrize("name", SIZES)
def test_a_size_that_cannot_be_is_refused_before_memory_is_taken(name, made, fit, monkeypatch):
    monkeypatch.setattr(arguments, "_memory", lambda: 8e9)
    with pytest.raises(hlm.JaxhlmError, match="8 GB of memory; it has room for"):
        SIZES[name](made, fit)


def test_no_data_sets_are_drawn_twice(fit):
    with pytest.raises(hlm.errors.OptionError, match="another seed"):
        hlm.simulate(fit, n=2**32 + 1)
    assert len(hlm.simulate(fit, n=2**32 + 1, statistics=False)) == 2**32 + 1


@pytest.mark.parametrize("rate", [0.001, 0.05, 0.5, 0.97])
@pytest.mark.parametrize("slope", [-1e6, -30.0, 1e-9, 3.0, 1e3, 1e6])
def test_the_rate_is_met_whatever_the_slope(rate, slope):
    for wrong in (v.MissingAtRandom("x", rate, slope), v.MissingNotAtRandom(rate, slope)):
        drawn = hlm.mechanism(FORMULA, ROWS, TRUTH, [wrong]).draw(0, 40, 1).responses
        # At most the sd of independent draws; with a steep slope hardly anything is random.
        sd = np.sqrt(rate * (1.0 - rate) / drawn.size)
        assert abs(np.isnan(drawn).mean() - rate) < 5.0 * sd


@pytest.mark.parametrize(
    "wrong",
    [
        v.ResidualsFrom(v.Contaminated(0.1, 1e15)),
        v.ResidualsFrom(v.TwoClasses(0.5, 1e15)),
        v.ResidualsFrom(v.StudentT(1e15)),
        v.UnequalVariances(3.0),
        v.InformativeSize("x", 1e15),
    ],
)
def test_extremes_that_can_be_are_finite(wrong):
    drawn = hlm.mechanism(FORMULA, ROWS, TRUTH, [wrong]).draw(0, 5, 1).responses
    assert not np.isinf(drawn).any() and np.nanstd(drawn) < 100.0


@pytest.mark.parametrize(
    "value",
    [np.timedelta64(1, "s"), np.datetime64("2020", "ns"), np.bool_(True), np.array([0.5]), 1j],
)
def test_what_numpy_stores_as_a_number_is_not_always_one(value):
    with pytest.raises(hlm.JaxhlmError, match="alpha"):
        arguments.number("alpha", value)


def test_numbers_of_any_precision_are_compared_with_the_same_bound():
    for kind in (np.float16, np.float32, np.longdouble, np.int8, np.uint64):
        assert arguments.number("n", kind(2)) == arguments.number("n", np.array(2, kind)) == 2.0


@pytest.mark.parametrize("levels", [[{}, {1: 2}], [[1], [1, 2]], [[1, 2], [3, 4]], np.eye(2), "ab"])
def test_levels_are_single_values(levels):
    with pytest.raises(hlm.JaxhlmError, match="factor 'f' needs"):
        units(factors={"f": levels})
