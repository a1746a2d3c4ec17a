"""Figures of one fit's residuals, units and profiles: what is drawn is what the fit says."""

from itertools import combinations, pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from scipy import stats

import jaxhlm as hlm
import tolerances as tol
from cases import SLEEP
from jaxhlm import plot
from jaxhlm.errors import (
    MissingColumnError,
    NoRowsError,
    OptionError,
    SingularFitWarning,
    UnknownTermError,
)


@pytest.fixture(scope="module")
def fit():
    return hlm.fit(SLEEP, hlm.load_dataset("sleepstudy"))


@pytest.fixture(scope="module")
def math():
    return hlm.fit("MathAch ~ SES * MEANSES + (1 + SES | School)", hlm.load_dataset("math_achieve"))


@pytest.fixture(scope="module")
def intercepts():
    return hlm.fit("Reaction ~ Days + (1 | Subject)", hlm.load_dataset("sleepstudy"))


def drawn(axes, marker):
    """(n, 2) points of the only line that has this marker."""
    (line,) = [line for line in axes.get_lines() if line.get_marker() == marker]
    return np.column_stack(line.get_data())


def smooth(axes):
    return max((line for line in axes.get_lines() if line.get_marker() == "None"),
               key=lambda line: len(line.get_xdata()))  # fmt: skip


def test_panels_of_diagnostics_say_what_they_ask(math, intercepts):
    titles = [axes.get_title(loc="left") for axes in plot.diagnostics(math)]
    assert titles == [
        "Is the mean right?", "Are residuals normal? 95 % band, pointwise",
        "Is their spread equal?", "Are units normal? Ellipse of 95 % of units",
    ]  # fmt: skip
    last = plot.diagnostics(intercepts)[3]
    assert (last.get_title(loc="left"), last.get_title()) == ("Are units normal? Intercept", "")


def test_small_multiples_say_how_many_of_the_units_they_show(math, intercepts):
    figure = plot.unit_lines(math, n=3)[0].figure
    assert figure.get_suptitle() == f"3 of {math.ngroups} units (School)"
    assert plot.unit_lines(intercepts, n=99)[0].figure.get_suptitle() == ""


def test_residuals_and_their_smooth(fit):
    axes = plot.residuals(fit)
    expected = np.column_stack([fit.fitted, fit.residuals])
    np.testing.assert_allclose(drawn(axes, "o"), expected, rtol=tol.DRAWN)
    x, y = smooth(axes).get_data()
    assert (x == np.sort(fit.fitted)).all()
    order = np.argsort(fit.fitted.to_numpy())
    assert abs(y - fit.residuals.to_numpy()[order]).min() < abs(y).max() < 30.0
    assert axes.get_xlabel() == "Fitted value of Reaction"


def test_the_smooth_follows_a_curve():
    d = hlm.load_dataset("sleepstudy")
    d["Reaction"] += 10.0 * (d["Days"] - 4.5) ** 2
    x, y = smooth(plot.residuals(hlm.fit("Reaction ~ Days + (1 | Subject)", d))).get_data()
    assert y[0] > 30.0 > 0.0 > y[np.searchsorted(x, x.mean())] and y[-1] > 30.0


def test_scale_location_is_of_standardised_residuals():
    d = hlm.load_dataset("sleepstudy")
    weighted = hlm.fit(SLEEP, d, weights=1.0 + d["Days"])
    axes = plot.scale_location(weighted)
    expected = np.sqrt(np.abs(weighted.residuals_std))
    np.testing.assert_allclose(drawn(axes, "o")[:, 1], expected, rtol=tol.DRAWN)
    assert axes.get_ylim()[0] == 0.0


def test_qq_of_residuals_with_the_band_of_order_statistics(fit):
    axes = plot.residual_qq(fit, level=0.9)
    points = drawn(axes, "o")
    np.testing.assert_allclose(points[:, 1], np.sort(fit.residuals_std), rtol=tol.DRAWN)
    np.testing.assert_allclose(stats.norm.cdf(points[:, 0]), (np.arange(180) + 0.5) / 180)
    band = axes.collections[0].get_paths()[0].vertices
    at_first = band[np.isclose(band[:, 0], points[0, 0]), 1]
    expected = stats.norm.ppf(stats.beta.ppf([0.05, 0.95], 1, 180))
    assert [at_first.min(), at_first.max()] == pytest.approx(expected, abs=tol.DRAWN)
    assert axes.get_title(loc="left") == "90 % band, pointwise"


def test_the_ellipse_holds_its_share_of_the_estimated_distribution(fit):
    axes = plot.ranef_ellipse(fit, ("Days", "(Intercept)"), level=0.8, labels=2)
    b = fit.ranef[["Days", "(Intercept)"]]
    np.testing.assert_allclose(drawn(axes, "o"), b, rtol=tol.DRAWN)
    inverse = np.linalg.inv(fit.varcorr.cov.loc[b.columns, b.columns])
    around = np.column_stack(smooth(axes).get_data())
    size = np.einsum("ka,ab,kb->k", around, inverse, around)
    np.testing.assert_allclose(size, stats.chi2.ppf(0.8, 2), rtol=tol.DRAWN)
    distance = pd.Series(np.einsum("ka,ab,kb->k", b, inverse, b), b.index)
    names = [text.get_text() for text in axes.texts if text.get_text()]
    assert names == distance.nlargest(2).index.tolist()
    assert axes.get_xlabel() == "Random effect: Slope of Days"


def test_a_singular_ellipse_is_a_line(rng):
    d = pd.DataFrame({"g": np.repeat(np.arange(12), 6), "x": np.tile(np.arange(6.0), 12)})
    # Orthogonal to 1 and x in every unit, so that slopes do not vary at all.
    bend = np.tile([5.0, -1.0, -4.0, -4.0, -1.0, 5.0], 12)
    d["y"] = 5.0 * rng.normal(size=12)[d["g"]] + 0.3 * bend
    with pytest.warns(SingularFitWarning):
        singular = hlm.fit("y ~ x + (1 + x | g)", d)
    axes = plot.ranef_ellipse(singular)
    x, y = smooth(axes).get_data()
    sd = singular.varcorr.sd.to_numpy()
    assert x.max() == pytest.approx(sd[0] * np.sqrt(stats.chi2.ppf(0.95, 2)))
    assert abs(y).max() <= tol.LOSSY * x.max()
    assert len(axes.texts) >= 3


def test_units_are_named_as_they_are_or_in_text():
    d = hlm.load_dataset("sleepstudy").astype({"Subject": int})
    fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", d)
    for units in ([335, 308], ["335", "308"], np.array([335, 308])):
        assert [panel.get_title() for panel in plot.unit_lines(fit, units=units)] == ["335", "308"]
    with pytest.raises(OptionError, match="has no '1'"):
        plot.unit_lines(fit, units=[1])


def test_every_unit_has_its_rows_and_both_lines(fit):
    d = hlm.load_dataset("sleepstudy")
    panels = plot.unit_lines(fit, units=[335, "308"])
    for axes, unit in zip(panels, ("335", "308"), strict=True):
        own = d[d["Subject"] == unit]
        np.testing.assert_allclose(drawn(axes, "o"), own[["Days", "Reaction"]], rtol=tol.DRAWN)
        lines = {line.get_label(): line.get_ydata() for line in axes.get_lines()}
        np.testing.assert_allclose(lines["unit"], fit.predict(own), rtol=tol.DRAWN)
        np.testing.assert_allclose(
            lines["population"], fit.predict(own, ranef=False), rtol=tol.DRAWN
        )
    assert [axes.get_title() for axes in panels] == ["335", "308"]


LONG = ["Universitätsklinikum Hamburg, station {} (of 18)", "ENSG00001396_{}_of_the_second_batch",
        "CAMBRIDGE UNIVERSITY HOSPITALS {}", "{}"]  # fmt: skip


@pytest.mark.parametrize("long", LONG)
def test_names_of_units_are_told_apart_and_on_nothing_else(long):
    d = hlm.load_dataset("sleepstudy")
    d["Subject"] = [long.format(level) for level in d["Subject"]]
    named = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", d)
    panels = plot.unit_lines(named)
    panels[0].figure.draw_without_rendering()
    titles = [axes.title.get_window_extent() for axes in panels]
    frames = [axes.get_window_extent() for axes in panels]
    assert not any(a.overlaps(b) for a, b in combinations(titles, 2))
    assert not any(
        title.overlaps(frames[j]) for i, title in enumerate(titles) for j in range(12) if j != i
    )
    assert len({axes.get_title() for axes in panels}) == 12
    assert min(axes.get_window_extent().height for axes in panels) > 80.0

    labels = [text.get_text() for text in plot.caterpillar(named)[0].get_yticklabels()]
    assert len(set(labels)) == 18 and max(map(len, labels)) <= 28

    axes = plot.ranef_ellipse(named)
    axes.figure.draw_without_rendering()
    texts = [text for text in axes.texts if text.get_text()]
    ellipse = axes.transData.transform(smooth(axes).get_xydata())
    assert len({text.get_text() for text in texts}) == 3
    for text in texts:
        box = text.get_window_extent()
        assert axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1
        assert axes.bbox.y0 <= box.y0 and box.y1 <= axes.bbox.y1
        assert len(long) > 3 or not box.count_contains(ellipse)


def test_names_keep_off_the_ellipse_and_its_axes(math):
    axes = plot.diagnostics(math)[3]
    axes.figure.draw_without_rendering()
    lines = [axes.transData.transform(smooth(axes).get_xydata())]
    zero = axes.transData.transform((0.0, 0.0))
    for text in axes.texts:
        box = text.get_window_extent()
        assert not box.count_contains(lines[0])
        assert not box.x0 < zero[0] < box.x1 and not box.y0 < zero[1] < box.y1


def test_units_at_random_are_readable_and_reproducible(math):
    panels = plot.unit_lines(math, n=10, seed=3)
    names = [axes.get_title() for axes in panels]
    assert names == [axes.get_title() for axes in plot.unit_lines(math, n=10, seed=3)]
    assert names != [axes.get_title() for axes in plot.unit_lines(math, n=10, seed=4)]
    assert len(set(names)) == 10 and names == [x for x in math.ranef.index if x in names]
    panels[0].figure.draw_without_rendering()
    bottom = [axes.get_xlabel() for axes in panels]
    assert bottom == [""] * 6 + ["SES"] * 4
    assert all(any(t.get_visible() for t in axes.get_xticklabels()) for axes in panels[6:])


def test_the_x_axis_is_what_varies_within_units(intercepts):
    assert plot.unit_lines(intercepts, n=2)[0].get_xlabel() == "Days"
    panels = plot.unit_lines(intercepts, n=99)
    assert len(panels) == 18
    within = hlm.fit("Reaction ~ 1 + (1 | Subject)", hlm.load_dataset("sleepstudy"))
    with pytest.raises(OptionError, match="varies within units"):
        plot.unit_lines(within)
    assert plot.unit_lines(within, "(Intercept)", n=1)


def test_profiles(fit):
    frame = fit.profile(["Days", "sigma"], points=7)
    panels = plot.profile(frame, level=0.9)
    for axes, (name, part) in zip(panels, frame.groupby("term", sort=False), strict=True):
        np.testing.assert_allclose(drawn(axes, "o"), part[["value", "zeta"]], rtol=tol.DRAWN)
        assert axes.get_xlabel() == name
        heights = {round(float(line.get_ydata()[0]), 3) for line in axes.get_lines()}
        assert {-1.645, 0.0, 1.645} <= heights


def test_profiles_leave_out_limits_that_were_not_found():
    frame = pd.DataFrame({"term": "sd", "value": [np.nan, 0.0, 1.0], "zeta": [np.nan, 0.0, 2.0]})
    (axes,) = plot.profile(frame)
    assert drawn(axes, "o").tolist() == [[0.0, 0.0], [1.0, 2.0]]


def test_the_panel_of_diagnostics(fit, intercepts):
    panels = plot.diagnostics(fit)
    np.testing.assert_allclose(drawn(panels[3], "o"), fit.ranef, rtol=tol.DRAWN)
    grid = plt.figure().subplots(2, 2)
    before = plt.get_fignums()
    assert plot.diagnostics(intercepts, ax=grid) == list(grid.ravel())
    assert plt.get_fignums() == before
    expected = intercepts.ranef_qq()[["theoretical", "standardized"]]
    np.testing.assert_allclose(drawn(grid[1, 1], "o"), expected, rtol=tol.DRAWN)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda f, one: plot.ranef_ellipse(one), OptionError, "two random effects"),
        (lambda f, one: plot.ranef_ellipse(f, ("Days", "x")), UnknownTermError, "effect 'x'"),
        (lambda f, one: plot.ranef_ellipse(f, ("Days", "Days")), OptionError, "terms="),
        (lambda f, one: plot.ranef_ellipse(f, level=95), OptionError, "level=95"),
        (lambda f, one: plot.ranef_ellipse(f, labels=-1), OptionError, "labels"),
        (lambda f, one: plot.residual_qq(f, 0.0), OptionError, "level"),
        (lambda f, one: plot.unit_lines(f, units=[]), OptionError, "units is empty"),
        (lambda f, one: plot.unit_lines(f, units=["308", "1"]), OptionError, "has no '1'"),
        (lambda f, one: plot.unit_lines(f, units="308"), OptionError, "units='308'"),
        (lambda f, one: plot.unit_lines(f, n=0), OptionError, "n=0"),
        (lambda f, one: plot.unit_lines(f, "hours"), UnknownTermError, "'hours'"),
        (lambda f, one: plot.diagnostics(f, plt.figure().subplots(1, 3)), OptionError, "4 panel"),
        (lambda f, one: plot.profile(f.ranef), MissingColumnError, "term"),
        (lambda f, one: plot.profile(f.profile("Days", points=3).head(0)), NoRowsError, "no rows"),
    ],
)  # fmt: skip
def test_bad_input(fit, intercepts, call, error, message):
    with pytest.raises(error, match=message):
        call(fit, intercepts)


def test_a_batch_is_refused_by_every_figure_of_one_fit(fit):
    data = hlm.load_dataset("sleepstudy")
    batch = hlm.fit_many("~ Days + (1 + Days | Subject)", data, fit.simulate(2, seed=1))
    for draw in (plot.residuals, plot.residual_qq, plot.scale_location, plot.ranef_ellipse,
                 plot.unit_lines, plot.diagnostics, plot.qq, plot.caterpillar, plot.shrinkage,
                 plot.article_units, plot.article_lines):  # fmt: skip
        with pytest.raises(OptionError, match=r"FitBatch: draw one fit, such as fits\[0\]"):
            draw(batch)


@pytest.mark.parametrize("sizes", [[10, 20, 40, 80, 160, 1280], range(10000, 20001, 500)])
def test_names_of_many_sizes_do_not_collide(sizes):
    frame = pd.DataFrame({"units": sizes, "power": np.linspace(0.1, 1, len(sizes)), "n": 1000})
    axes = plot.power_curve(frame)
    axes.figure.draw_without_rendering()
    assert axes.get_xticks().tolist() == [float(x) for x in sizes]
    shown = [t.get_window_extent() for t in axes.get_xticklabels() if t.get_visible()]
    assert len(shown) > 2
    assert all(a.x1 < b.x0 for a, b in pairwise(shown))


def test_long_names_of_designs_are_slanted():
    frame = pd.DataFrame(
        {"design": [f"design number {i}" for i in range(9)], "power": 0.5, "n": 10}
    )
    labels = plot.power_curve(frame).get_xticklabels()
    assert {label.get_rotation() for label in labels} == {40.0}
    assert all(label.get_visible() for label in labels)
