"""Figures of tests of many responses: what is drawn, and that names do not cover each other."""

from itertools import combinations, pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox
from scipy import stats

import jaxhlm as hlm
import tolerances as tol
from jaxhlm import errors, plot
from jaxhlm.inference.multiplicity import null_share
from jaxhlm.plot.canvas import GREY
from jaxhlm.results.moderated import Moderation


def table(contrasts=("dose", "time"), size=400):
    rng, parts = np.random.default_rng(1), []
    for name in contrasts:
        z = rng.normal(size=size) + 3.0 * (np.arange(size) < 30)
        p = 2 * stats.norm.sf(np.abs(z))
        parts.append(
            pd.DataFrame(
                {
                    "response": [f"gene {i}" for i in range(size)],
                    "contrast": name,
                    "estimate": 0.3 * z,
                    "p_value": p,
                    "z": z,
                    "p_adjusted": stats.false_discovery_control(p),
                }
            )
        )
    found = pd.concat(parts, ignore_index=True)
    found.loc[7, ["estimate", "p_value", "z", "p_adjusted"]] = np.nan
    return found


def names_of(axes):
    return [t for t in axes.texts if isinstance(t, Annotation) and t.get_text()]


@pytest.mark.parametrize("crowded", [False, True])
def test_volcano_names_the_top_apart_from_each_other(crowded):
    part = table(["dose"])
    if crowded:
        part["estimate"] = part["estimate"] / 50 + 1.0
    axes = plot.volcano(part, labels=12)
    axes.figure.canvas.draw()
    names = names_of(axes)
    best = part.dropna().sort_values("p_value")["response"].tolist()[:12]
    assert sorted(t.get_text() for t in names) == sorted(best)
    boxes = [t.get_window_extent() for t in names]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    assert all(axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 for box in boxes)
    # Lines lead to names and strike none, where there is room for that.
    lines = [t.arrow_patch.get_path() for t in axes.texts if not t.get_text()]
    shrunk = [Bbox.from_extents(b.x0 + 1, b.y0 + 1, b.x1 - 1, b.y1 - 1) for b in boxes]
    assert lines
    struck = sum(line.intersects_bbox(box, filled=False) for line in lines for box in shrunk)
    assert struck <= crowded


def test_volcano_colours_what_is_found_and_counts_it():
    axes = plot.volcano(table(), "dose", level=0.1, labels=0)
    part = table(["dose"]).dropna()
    found = part["p_adjusted"] < 0.1
    drawn = [x for x in axes.lines if x.get_marker() == "o" and x.get_color() != GREY]
    assert sum(len(line.get_xdata()) for line in drawn) == found.sum()
    assert axes.get_title(loc="left") == f"{found.sum()} of 399 with adjusted p < 0.1"
    assert not names_of(axes)


def test_a_p_value_of_zero_is_drawn():
    part = table(["dose"])
    part.loc[0, "p_value"] = 0.0
    assert np.isfinite(plot.volcano(part).dataLim.get_points()).all()
    assert np.isfinite(plot.p_qq(part).dataLim.get_points()).all()


def test_the_histogram_has_the_share_of_true_hypotheses():
    axes = plot.p_histogram(table(), "time")
    p = table().query("contrast == 'time'")["p_value"].to_numpy()
    assert axes.lines[0].get_ydata()[0] == pytest.approx(null_share(p), rel=tol.DRAWN)
    assert sum(bar.get_height() for bar in axes.patches) / len(axes.patches) == pytest.approx(1.0)


def test_the_band_holds_uniform_p_values():
    p = np.random.default_rng(2).random(999)
    axes = plot.p_qq(pd.DataFrame({"contrast": "none", "p_value": p}))
    band = axes.collections[0].get_paths()[0].vertices
    rank = np.arange(1, 1000)
    low = -np.log10(stats.beta.ppf(0.975, rank, 1000 - rank))
    assert band[:, 1].min() == pytest.approx(low.min(), rel=tol.DRAWN)
    inside = (-np.log10(np.sort(p)) > low).mean()
    assert inside > 0.9


def test_the_trend_is_the_prior():
    fits = hlm.fit_many(
        "~ Days + (1 | Subject)",
        hlm.load_dataset("sleepstudy"),
        hlm.fit("Reaction ~ Days + (1 | Subject)", hlm.load_dataset("sleepstudy")).simulate(
            40, seed=1
        ),
    )
    found = fits.moderation(trend=True)
    line = plot.variance_trend(found).lines[1]
    v = found.variances.sort_values("mean")
    np.testing.assert_allclose(line.get_ydata(), v["prior"] ** 0.25, rtol=tol.DRAWN)
    with pytest.raises(errors.OptionError, match="have no trend"):
        plot.variance_trend(fits.moderation())
    assert isinstance(found, Moderation)


def test_heat_has_the_largest_of_any_contrast_first():
    axes = plot.contrast_heat(table(), 5)
    z = table().dropna().pivot(index="response", columns="contrast", values="z")
    best = z.abs().max(axis=1).sort_values(ascending=False).index[:5]
    assert [t.get_text() for t in axes.get_yticklabels()] == best.tolist()
    np.testing.assert_allclose(
        axes.images[0].get_array(), z.loc[best, ["dose", "time"]], rtol=tol.DRAWN
    )


def test_heat_needs_labels_that_tell_responses_apart():
    with pytest.raises(errors.OptionError, match="several responses are called 'gene 1'"):
        plot.contrast_heat(table().replace({"response": {"gene 2": "gene 1"}}))


def test_violins_are_ordered_and_in_percent():
    rng = np.random.default_rng(3)
    shares = pd.DataFrame(rng.dirichlet([1, 5, 14], 60), columns=["a:b", "unit", "Residual"])
    shares.iloc[3] = np.nan
    axes = plot.variance_fractions(shares)
    assert [t.get_text() for t in axes.get_xticklabels()] == ["unit", "a:b", "Residual"]
    assert len([c for c in axes.collections if c.get_paths()]) == 3
    with pytest.raises(errors.NoRowsError):
        plot.variance_fractions(shares.iloc[3:4])


@pytest.mark.parametrize("draw", [plot.volcano, plot.p_histogram, plot.p_qq])
def test_one_contrast_must_be_chosen_and_have_p_values(draw):
    with pytest.raises(errors.OptionError, match=r"contrast=None.*'dose', 'time'"):
        draw(table())
    with pytest.raises(errors.OptionError, match="contrast='Dose'"):
        draw(table(), "Dose")
    with pytest.raises(errors.MissingColumnError, match="p_value"):
        draw(table().drop(columns="p_value"))
    with pytest.raises(errors.NoRowsError):
        draw(table(["dose"]).assign(p_value=np.nan))
    _, axes = plt.subplots()
    assert draw(table(), "dose", ax=axes) is axes


@pytest.mark.parametrize(("letters", "contrasts"), [(3, 2), (12, 12), (45, 3), (45, 6)])
def test_names_of_a_heat_are_whole_or_shortened_and_apart(letters, contrasts):
    rng = np.random.default_rng(1)
    responses = [f"{i}".rjust(letters, "x") for i in range(9)]
    named = [(r, f"contrast number {k}") for r in responses for k in range(contrasts)]
    table = pd.DataFrame(named, columns=["response", "contrast"])
    table["p_value"], table["z"] = 0.5, rng.normal(size=len(table))
    axes = hlm.plot.contrast_heat(table)
    axes.figure.canvas.draw()
    whole = axes.figure.bbox
    for ticks, low, high in (
        (axes.get_xticklabels(), "x0", "x1"), (axes.get_yticklabels()[::-1], "y0", "y1")
    ):  # fmt: skip
        boxes = [tick.get_window_extent() for tick in ticks]
        assert all(whole.x0 <= box.x0 and whole.y0 <= box.y0 for box in boxes)
        edges = [(getattr(box, low), getattr(box, high)) for box in boxes]
        assert all(one[1] <= other[0] for one, other in pairwise(edges))


def test_a_trend_of_nothing_is_refused():
    data = hlm.load_dataset("sleepstudy")
    Y = np.column_stack([np.full(len(data), np.nan), np.ones(len(data))])
    with pytest.warns(hlm.JaxhlmWarning, match="2 of 2 fits failed"):
        fits = hlm.fit_many("~ Days + (1 | Subject)", data, Y)
    with pytest.raises(errors.NoRowsError, match="no response has a variance"):
        hlm.plot.variance_trend(fits.moderation(trend=True))
