"""Figures of marginal means: what is drawn is what the tables say, arrows as emmeans has them."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

import jaxhlm as hlm
import tolerances as tol
from jaxhlm import errors
from places import DATA


@pytest.fixture(scope="module")
def fit():
    d = pd.read_csv(DATA / "orthodont.csv")
    d["kind"] = np.resize(list("pqrqpqs"), len(d))
    d["late"] = np.where(d["age"] > 11, "yes", "no")
    return hlm.fit("distance ~ kind * Sex * age + late + (1 | Subject)", d)


def tips(axes):
    """Where arrows end."""
    return sorted(text.xy[0] for text in axes.texts)


def test_arrows_are_those_of_emmeans(fit):
    axes = hlm.plot.emmeans(fit, "kind", comparisons=True)
    expected = json.loads((DATA / "emmeans.json").read_text())["arrows"]
    expected = [x for side in expected for x in side if x is not None]
    np.testing.assert_allclose(tips(axes), sorted(expected), rtol=tol.R_MEANS)


def test_means_and_intervals(fit):
    axes = hlm.plot.emmeans(fit, "kind", by="Sex", comparisons=True, adjust="mvt", df="normal")
    table = fit.emmeans("kind", by="Sex", df="normal")
    drawn = np.concatenate([line.get_xdata() for line in axes.lines])
    np.testing.assert_allclose(drawn, table["emmean"], rtol=tol.DRAWN)
    ends = np.concatenate([c.get_segments() for c in axes.collections])[:, :, 0]
    np.testing.assert_allclose(ends, table[["conf_low", "conf_high"]], rtol=tol.DRAWN)
    assert len(tips(axes)) == 12
    # What arrows compare stands together, under the name of its group, apart from the others.
    labels = ["Sex: Female", *"pqrs", "Sex: Male", *"pqrs"]
    assert [t.get_text() for t in axes.get_yticklabels()] == labels
    assert axes.get_legend() is None
    low, high = axes.get_ylim()
    assert low < min(axes.get_yticks()) and max(axes.get_yticks()) < high
    heights = [np.unique(line.get_ydata()) for line in axes.lines]
    assert heights[0].min() > heights[1].max() + 1.5
    axes = hlm.plot.emmeans(fit, "~ kind | Sex", df="normal")
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["Female", "Male"]
    assert [t.get_text() for t in axes.get_yticklabels()] == list("pqrs")
    plain = hlm.plot.emmeans(fit, ["kind", "Sex"], ax=plt.figure().add_subplot())
    assert len(plain.texts) == 0 and len(plain.get_yticklabels()) == 8


@pytest.mark.parametrize("name", ["left", "right", "cell", "group"])
def test_a_variable_may_be_called_as_what_is_drawn(fit, name):
    d = pd.read_csv(DATA / "orthodont.csv").rename(columns={"Sex": name})
    named = hlm.fit(f"distance ~ age * {name} + (1 | Subject)", d)
    for options in ({}, {"comparisons": True}):
        axes = hlm.plot.emmeans(named, "age", by=name, at={"age": [8, 14]}, **options)
        assert len(tips(axes)) == 2 * 2 * bool(options)


def test_numbers_are_plain_in_names(fit):
    at = {"age": [8, 10.5, 100 / 7]}
    axes = hlm.plot.emmeans(fit, "age", at=at)
    labels = [t.get_text() for t in axes.get_yticklabels()]
    assert labels == ["8", "10.5", "14.28571"]
    named = fit.emmeans("age", at=at, contrasts="consec", adjust="none")["contrast"]
    assert named.tolist() == ["10.5 - 8", "14.28571 - 10.5"]
    groups = hlm.plot.emmeans(fit, "Sex", by="age", at={"age": [8.0]}, comparisons=True)
    assert groups.get_legend().get_texts()[0].get_text() == "8"


def test_refused(fit):
    Y = fit.simulate(2, seed=1)
    fits = hlm.fit_many(
        "~ age + (1 | Subject)", pd.read_csv(DATA / "orthodont.csv"), Y, progress=False
    )
    with pytest.raises(errors.OptionError, match="one fit"):
        hlm.plot.emmeans(fits, "age")
    with pytest.raises(errors.OptionError, match="adjust="):
        hlm.plot.emmeans(fit, "kind", comparisons=True, adjust="holm")
    with pytest.raises(errors.OptionError, match="give means, and comparisons=True"):
        hlm.plot.emmeans(fit, "pairwise ~ kind")
    with pytest.raises(errors.OptionError, match="comparisons"):
        hlm.plot.emmeans(fit, "kind", comparisons="yes")
    with pytest.raises(errors.ContrastError, match="one cell"):
        hlm.plot.emmeans(fit, "age", comparisons=True)
