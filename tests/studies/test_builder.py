"""Designs from a few words: sizes, covariates, balance, drop-out, and what is drawn when."""

from dataclasses import replace
from itertools import pairwise

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import jaxhlm as hlm
from jaxhlm.errors import AmbiguousDropoutWarning, OptionError, StudyFileError
from jaxhlm.studies.studyfile import read_study_file


def normal(rng, size):
    return rng.normal(size=size)


def test_a_grid_and_a_covariate_of_the_units():
    frame = hlm.units(4, within={"x": [0.0, 1.0, 5.0]}, between={"a": [1, 2, 3, 4]}).frame()
    assert frame["unit"].tolist() == np.repeat(range(4), 3).tolist()
    assert frame["x"].tolist() == [0.0, 1.0, 5.0] * 4
    assert frame["a"].tolist() == np.repeat([1, 2, 3, 4], 3).tolist()


def test_distributions_of_covariates():
    """Callables and frozen distributions, one value per row or per unit."""
    design = hlm.units(
        2000, 3, within={"x": stats.norm(5, 2)}, between={"a": normal}, unit="school", redraw=True
    )
    frame = design.frame(1)
    assert list(frame) == ["school", "x", "a"]
    assert abs(frame["x"].mean() - 5) < 5 * 2 / np.sqrt(6000)
    assert abs(frame["x"].std() - 2) < 5 * 2 / np.sqrt(2 * 6000)
    by_unit = frame.groupby("school")
    assert (by_unit["a"].nunique() == 1).all()
    assert (by_unit["x"].nunique() == 3).all()
    assert abs(by_unit["a"].first().mean()) < 5 / np.sqrt(2000)


def test_factors_between_units_are_balanced_and_crossed():
    design = hlm.units(18, 2, factors={"arm": ["control", "treated"], "site": list("xwvu")})
    unit = design.frame().groupby("unit").first()
    assert list(unit["arm"].cat.categories) == ["control", "treated"]
    assert list(unit["site"].cat.categories) == ["x", "w", "v", "u"]
    assert unit["arm"].value_counts().tolist() == [9, 9]
    counts = pd.crosstab(unit["arm"], unit["site"]).to_numpy()
    assert counts.max() - counts.min() <= 1


def test_crossed_factors_take_every_measurement_at_every_level():
    design = hlm.units(3, within={"x": [0, 1]}, crossed={"eye": ["l", "r"], "day": [1, 2, 3, 4]})
    frame = design.frame()
    assert len(frame) == 3 * 2 * 8
    assert (frame.groupby(["unit", "x", "eye", "day"], observed=True).size() == 1).all()


def test_unequal_sizes():
    sizes = hlm.units(3, [2, 5, 3], within={"x": range(9)}).frame().groupby("unit")
    assert sizes.size().tolist() == [2, 5, 3]
    assert sizes["x"].max().tolist() == [1, 4, 2]
    drawn = hlm.units(6000, (2, 4)).frame(1).groupby("unit").size().value_counts()
    assert sorted(drawn.index) == [2, 3, 4]
    assert (np.abs(drawn - 2000) < 5 * np.sqrt(6000 * 2 / 9)).all()


def test_sizes_from_a_distribution():
    """1 + Poisson(2): mean 3; x belongs to unit and occasion, however many there are."""
    n = 4000
    size = hlm.units(n, stats.poisson(2, loc=1)).frame().groupby("unit").size()
    assert size.index.tolist() == list(range(n))
    assert abs(size.mean() - 3) < 5 * np.sqrt(2 / n)
    assert abs((size == 1).mean() - np.exp(-2)) < 5 * np.sqrt(0.12 / n)
    counts = {"measurements": lambda rng, size: rng.integers(1, 9, size)}
    design = hlm.units(6, **counts, within={"x": normal}, redraw=["measurements"])
    assert design.redrawn
    one, two = (design.frame(seed) for seed in (1, 2))
    assert len(one) != len(two)
    for frame in (one, two):
        frame["row"] = frame.groupby("unit").cumcount()
    both = one.merge(two, on=["unit", "row"])
    assert len(both) > 12
    assert (both["x_x"] == both["x_y"]).all()


@pytest.mark.parametrize(
    "source", [normal, stats.skewnorm(3), lambda rng, n: rng.permutation(n), stats.betaprime(3, 4)]
)
def test_what_is_drawn_once_is_the_same_in_data_sets_of_other_sizes(source):
    """Also of distributions whose longer draws do not begin with the shorter ones."""
    sizes = stats.poisson(3, loc=2)
    design = hlm.units(6, sizes, {"x": source, "w": source}, redraw=["measurements"], seed=1)
    frames = [design.frame(seed) for seed in range(12)]
    drawn = pd.concat(
        [*frames, design.table(design.stacked(map(np.random.default_rng, [3, 7]))[1])]
    )
    assert len({frame.groupby("unit").size().max() for frame in frames}) > 2
    start = (drawn["unit"].diff() != 0).cumsum()
    drawn["row"] = drawn.groupby(start).cumcount()
    assert (drawn.groupby(["unit", "row"])[["x", "w"]].nunique() == 1).all(axis=None)
    assert drawn.loc[drawn["row"] == 0, "x"].nunique() == 6
    assert (drawn.groupby("unit")["x"].nunique() > 1).all()
    assert not drawn["x"].equals(drawn["w"])


def test_sizes_may_be_arrays_and_are_taken_in_turn():
    """A tuple of three is no range."""
    for sizes in ((2, 5, 3), np.array([2, 5, 3]), pd.Series([2, 5, 3], index=[7, 8, 9])):
        design = hlm.units(3, sizes, within={"x": range(5)})
        assert design.frame().groupby("unit").size().tolist() == [2, 5, 3]
        assert design.resized(n=7).frame().groupby("unit").size().tolist() == [2, 5, 3, 2, 5, 3, 2]
        assert design.resized(n=2).frame().groupby("unit").size().tolist() == [2, 5]
        assert design.resized(measurements=4).frame().groupby("unit").size().tolist() == [4, 4, 4]


def test_drop_out_by_unit_and_from_a_distribution():
    """Treated units leave, the others stay; or all leave after what a distribution says."""
    n, arms = 4000, {"arm": ["control", "treated"]}
    design = hlm.units(n, 3, factors=arms, dropout={"per_visit": [0.0, 0.4] * (n // 2)})
    size = design.frame().groupby(["arm", "unit"], observed=True).size()
    assert (size["control"] == 3).all()
    assert abs((size["treated"] == 3).mean() - 0.36) < 5 * np.sqrt(0.36 * 0.64 / (n / 2))
    assert len(design.resized(n=5).frame()) < 15
    left = hlm.units(n, 3, dropout=stats.randint(1, 6)).frame().groupby("unit").size()
    expected = np.array([1, 1, 3]) / 5
    share = left.value_counts(normalize=True).sort_index()
    assert (np.abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / n)).all()


def test_a_study_file_may_say_that_sizes_differ(tmp_path):
    text = (
        'formula = "y ~ x + (1 | unit)"\n[design]\nunits = 40\nmeasurements = {}\n'
        "within = {{ x = [0, 1, 2, 3] }}\ndropout = {{ per_visit = [{}] }}\n"
        "[truth]\nbeta = [1, 2]\nsd = [1]\nsigma = 1\n"
    )
    path = tmp_path / "study.toml"
    path.write_text(text.format("{ low = 2, high = 4 }", ", ".join(["0.0"] * 40)))
    sizes = read_study_file(path).mechanism.design.groupby("unit").size()
    assert sorted(sizes.unique()) == [2, 3, 4]
    path.write_text(text.format("{ low = 2 }", "0.1"))
    with pytest.raises(StudyFileError, match=r":4: design.measurements: 'high' is missing"):
        read_study_file(path)
    path.write_text(text.format("3", "0.1"))
    with pytest.raises(StudyFileError, match="dropout has 1 numbers for 40 units"):
        read_study_file(path)


def test_drop_out_is_for_good():
    """A share (1 − p)^j of the units has measurement j, and none after a gap."""
    p, n = 0.3, 20_000
    design = hlm.units(n, within={"x": range(5)}, dropout={"per_visit": p})
    share = design.frame().groupby("x").size() / n
    expected = (1 - p) ** np.arange(5)
    assert (np.abs(share - expected) <= 5 * np.sqrt(expected * (1 - expected) / n)).all()


@pytest.mark.parametrize("sizes", [[2, 5] * 10_000, (1, 5)], ids=["given", "drawn"])
def test_an_overall_share_leaves_before_the_last_measurement(sizes):
    """Whatever the number of measurements that is planned, and at a constant rate."""
    n, share = 20_000, 0.3
    sizes_only = hlm.units(n, sizes, {"x": range(5)}).frame().groupby("unit").size()
    kept = hlm.units(n, sizes, {"x": range(5)}, dropout={"overall": share}).frame()
    kept = kept.groupby("unit").size()
    for planned in sizes_only.unique():
        of = kept[sizes_only == planned]
        expected = (1 - share) ** (np.arange(planned) / max(planned - 1, 1))
        found = np.array([(of > j).mean() for j in range(planned)])
        error = np.sqrt(expected * (1 - expected) / len(of))
        assert (np.abs(found - expected) <= 5 * error).all()


def test_more_drop_out_takes_more_of_the_same_units():
    """Exponential numbers are drawn once: designs that differ in the share stay comparable."""
    few, many = (
        hlm.units(200, 5, dropout={"overall": s}).frame().groupby("unit").size() for s in (0.2, 0.5)
    )
    assert (many <= few).all() and (many < few).any()


def test_a_bare_number_is_read_as_before_and_a_warning_says_so():
    with pytest.warns(AmbiguousDropoutWarning, match="after each measurement.*overall.*per_visit"):
        bare = hlm.units(50, 5, dropout=0.2)
    said = hlm.units(50, 5, dropout={"per_visit": 0.2})
    pd.testing.assert_frame_equal(bare.frame(), said.frame())
    assert len(hlm.units(50, 5, dropout=0.0).frame()) == 250


def test_fixed_parts_come_from_the_seed_and_redrawn_ones_from_the_generator():
    base = {"within": {"x": normal}, "between": {"a": normal}, "dropout": {"per_visit": 0.2}}
    once = hlm.units(5, 6, **base)
    assert not once.redrawn
    pd.testing.assert_frame_equal(once.frame(1), once.frame(2))
    assert not once.frame()["x"].equals(hlm.units(5, 6, **base, seed=1).frame()["x"])
    anew = hlm.units(5, 6, **base, redraw=True)
    assert anew.redrawn
    assert not anew.frame(1)["a"].equals(anew.frame(2)["a"])
    pd.testing.assert_frame_equal(anew.frame(1), anew.frame(np.random.default_rng(1)))


def test_only_some_parts_are_redrawn():
    """x belongs to the unit and the occasion, whatever drop-out takes away."""
    design = hlm.units(
        5, 6, {"x": normal}, {"a": normal}, dropout={"overall": 0.6}, redraw=["a", "dropout"]
    )
    one, two = (
        design.frame(seed).assign(row=lambda d: d.groupby("unit").cumcount()) for seed in (1, 2)
    )
    assert len(one) != len(two)
    for frame in (one, two):
        frame["row"] = frame.groupby("unit").cumcount()
    both = one.merge(two, on=["unit", "row"])
    assert (both["x_x"] == both["x_y"]).all()
    assert (both["a_x"] != both["a_y"]).all()


def test_a_covariate_more_leaves_the_others_alone():
    one = hlm.units(5, 4, {"x": normal}).frame()
    two = hlm.units(5, 4, {"w": normal, "x": normal}, {"a": normal}).frame()
    assert one["x"].equals(two["x"])


def test_resized():
    design = hlm.units(4, 3, between={"a": normal})
    larger = design.resized(n=6, measurements=5)
    assert larger.frame().groupby("unit").size().tolist() == [5] * 6
    assert larger.frame()["a"].unique()[:4].tolist() == design.frame()["a"].unique().tolist()
    assert len(design.resized().frame()) == 12


BAD = {
    "n=1 must be a whole": lambda: hlm.units(1),
    "n=2.5 must be a whole": lambda: hlm.units(2.5),
    "measurements=0 must": lambda: hlm.units(3, 0),
    "give (low, high)": lambda: hlm.units(3, (4, 2)),
    "2 numbers for 3 units": lambda: hlm.units(3, [1, 2]),
    "dropout={'overall': 1.0}: it must": lambda: hlm.units(3, dropout={"overall": 1.0}),
    "[0, -1, 0]}: it must": lambda: hlm.units(3, dropout={"per_visit": [0, -1, 0]}),
    "{'share': 0.2}: give {\"overall\"": lambda: hlm.units(3, dropout={"share": 0.2}),
    "dropout={}: give": lambda: hlm.units(3, dropout={}),
    "dropout has 2 numbers for 3": lambda: hlm.units(3, dropout={"per_visit": [0.1, 0.2]}),
    "measurements was drawn as 0 … 2": lambda: hlm.units(
        3, lambda rng, size: np.arange(size)
    ).frame(),
    "dropout was drawn as 0.5": lambda: hlm.units(
        3, dropout=lambda rng, size: np.full(size, 0.5)
    ).frame(),
    "'x' has 3 values for up to 9": lambda: hlm.units(
        3, lambda rng, size: np.full(size, 9), {"x": [1, 2, 3]}
    ).frame(),
    "measurements=2.5 must be a whole": lambda: hlm.units(3, 2.5),
    "two columns named 'x'": lambda: hlm.units(3, 1, {"x": [1]}, {"x": [1, 2, 3]}),
    "two or more distinct levels: ['u']": lambda: hlm.units(3, factors={"g": ["u"]}),
    "'g' has a missing level: [None, 'u']": lambda: hlm.units(3, factors={"g": [None, "u"]}),
    "'g' has a missing level: ['u', nan]": lambda: hlm.units(3, crossed={"g": ["u", np.nan]}),
    "two or more distinct levels: 'uv'": lambda: hlm.units(3, crossed={"g": "uv"}),
    "'x' has 2 values for up to 3": lambda: hlm.units(3, 3, {"x": [1, 2]}),
    "'x' has 3 values for up to 8": lambda: hlm.units(3, (2, 8), {"x": [1, 2, 3]}),
    "'a' has 2 values for 3 units": lambda: hlm.units(3, between={"a": [1, 2]}),
    "'a' cannot be drawn from 4": lambda: hlm.units(3, between={"a": 4}),
    "must be one sequence": lambda: hlm.units(3, 1, {"x": [[1], [2]]}),
    "redraw names 'x', which is not drawn": lambda: hlm.units(3, 1, {"x": [1]}, redraw=["x"]),
    "redraw names ['x'], which is not": lambda: hlm.units(3, 1, {"x": normal}, redraw=[["x"]]),
    "redraw names 1, which is not drawn": lambda: hlm.units(3, 1, {"x": normal}, redraw=[1, "y"]),
    "return 3 values when asked for 3": lambda: hlm.units(
        3, 1, between={"a": lambda rng, size: rng.normal(size=2)}
    ).frame(),
    "'a' has 4 values for 5": lambda: hlm.units(4, 1, between={"a": [1, 2, 3, 4]}).resized(n=5),
}


@pytest.mark.parametrize("message", BAD)
def test_impossible_designs(message):
    with pytest.raises(OptionError) as raised:
        BAD[message]()
    assert message in str(raised.value)


def test_a_number_in_an_array_is_no_seed():
    for seed in (np.array(3), jnp.array(3)):
        with pytest.raises(OptionError, match="must be a whole number"):
            hlm.units(5, seed=seed)


DRAWN_DESIGNS = {
    "nothing": {"within": {"x": range(4)}, "between": {"a": [1.0, 2, 3, 4, 5]}},
    "drop-out": {
        "within": {"x": range(4)}, "dropout": {"overall": [0.0, 0.3, 0.9, 0.0, 0.5]},
        "redraw": True,
    },
    "drop-out by law": {"measurements": 6, "dropout": stats.poisson(3, loc=1), "redraw": True},
    "sizes": {"measurements": (2, 5), "within": {"x": stats.norm(), "w": range(5)}, "redraw": True},
    "sizes by law": {
        "measurements": stats.poisson(3, loc=1), "within": {"x": normal}, "between": {"a": normal},
        "redraw": ["measurements", "a"],
    },
    "once": {
        "measurements": (2, 5), "within": {"x": normal}, "dropout": {"per_visit": 0.3},
        "redraw": ["x"],
    },
    "texts and truths": {
        "within": {"phase": ["a", "b", "c"]}, "between": {"old": [True, False, True, True, False]},
        "factors": {"arm": ["c", "t"], "site": [1, 2, 3]}, "crossed": {"eye": ["l", "r"]},
        "dropout": {"overall": 0.4}, "redraw": True,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWN_DESIGNS)
def test_many_data_sets_are_those_drawn_alone_one_below_the_other(name):
    design = hlm.units(5, **DRAWN_DESIGNS[name], seed=3)
    starts, columns = design.stacked(map(np.random.default_rng, range(4)))
    long = design.table(columns)
    assert starts[-1] == len(long)
    for seed, rows in enumerate(pairwise(starts)):
        alone = long.iloc[slice(*rows)].reset_index(drop=True)
        pd.testing.assert_frame_equal(alone, design.frame(seed))


def test_a_design_counts_its_units_and_says_what_cannot_be_split_evenly():
    def told(n, **options):
        return hlm.units(n, 5, **options).in_words

    arms = {"arm": ["a", "b"]}
    assert "belong to arm: 10 a, 10 b." in told(20, factors=arms)
    assert "belong to arm: 11 a, 10 b; 21 cannot be split evenly." in told(21, factors=arms)
    both = {"arm": ["a", "b"], "site": ["x", "y"]}
    assert "belong to arm × site: 2 a x, 2 b x, 1 a y, 1 b y; 6 cannot" in told(6, factors=both)
    many = {"site": range(10), "arm": ["a", "b"]}
    assert "1 to 2 at each of 20 combinations of levels; 30 cannot" in told(30, factors=many)
    per_visit = told(20, factors=arms, dropout={"per_visit": [0.1, 0.3] * 10}, redraw=True)
    a, b = 10 * 0.9**4, 10 * 0.7**4
    assert f"{a + b:.4g} of 20 units ({a:.4g} of 10 a, {b:.4g} of 10 b)." in per_visit


@pytest.mark.parametrize("sizes", [4, (1, 4), [1, 2, 4, 4] * 500])
def test_expected_completers_are_those_of_drawn_designs(sizes):
    design = hlm.units(2000, sizes, dropout={"per_visit": 0.2}, redraw=["dropout"], seed=3)
    planned = hlm.units(2000, sizes, seed=3).frame().groupby("unit").size()
    complete = (design.frame().groupby("unit").size() == planned).sum()
    told = float(design.in_words.split("all measurements: ")[1].split(" of")[0].replace(",", ""))
    assert abs(complete - told) < 4 * (2000 * 0.25) ** 0.5


def poisson(rng, size):
    return rng.poisson(3, size) + 1


@pytest.mark.parametrize("redraw", [True, ["measurements"]])
def test_completers_are_not_told_where_the_planned_numbers_are_drawn(redraw):
    drawn = hlm.units(20, poisson, dropout={"overall": 0.2}, redraw=redraw)
    assert "Drop-out: 20 %" in drawn.in_words
    assert "Expected" not in str(drawn) and "this draw" not in str(drawn)


@pytest.mark.parametrize("dropout", [{"overall": 0.2}, {"per_visit": 0.1}, poisson])
@pytest.mark.parametrize("sizes", [5, (2, 6), poisson, [3, 4] * 20])
def test_a_design_that_is_drawn_once_tells_what_was_drawn(sizes, dropout):
    """Whole units, in all and of every level, are those of the frame that is simulated."""
    factors = {"arm": ["a", "b"]}
    design = hlm.units(40, sizes, {"t": range(90)}, factors=factors, dropout=dropout, seed=4)
    planned, kept = (
        d.frame().groupby("unit").size().to_numpy()
        for d in (hlm.units(40, sizes, {"t": range(90)}, seed=4), design)
    )
    whole = planned == kept
    a, b = whole[::2].sum(), whole[1::2].sum()
    assert 0 < whole.sum() < 40
    told = f"simulated, {a + b} of 40 units ({a} of 20 a, {b} of 20 b) have all measurements."
    assert told in design.in_words and "Expected" not in design.in_words
    drawn = f"({planned.min()} to {planned.max()} in this draw)"
    assert (drawn in design.in_words) == (sizes in ((2, 6), poisson))
    assert "simulated" not in replace(design, redraw=["dropout"]).in_words


def test_what_no_row_has_is_not_told():
    """A covariate with more values than there are measurements, such as to vary their number."""

    def told(**options):
        return hlm.units(12, within={"t": np.arange(9.0)}, **options).in_words

    assert "Within units t = 0, 1, 2." in told(measurements=3)
    assert "Within units t = 0, 1, 2." in told(measurements=[2, 3] * 6)
    assert "Within units t = 0, 1, 2, 3, 4, 5, 6, 7, …." in told(measurements=9)
    design = hlm.units(12, (1, 9), {"t": np.arange(9.0)}, dropout={"per_visit": 0.4}, seed=1)
    last = int(design.frame()["t"].max())
    assert 0 < last < 7
    assert f"t = {', '.join(map(str, range(last + 1)))}." in design.in_words
    assert "5, 6, 7, …." in replace(design, redraw=True).in_words
