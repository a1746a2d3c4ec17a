"""Figures: what is drawn, where, and under which names; pixels are for the eye."""

import subprocess
import sys
from functools import partial

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from scipy import stats

import jaxhlm as hlm
import tolerances as tol
from cases import SLEEP
from jaxhlm import plot
from jaxhlm.cli.article import Refitted
from jaxhlm.cli.main import main
from jaxhlm.errors import FileError, MissingColumnError, NoRowsError, OptionError, UnknownTermError
from jaxhlm.plot.canvas import COLUMN, INK, canvas, wrap, write

ARTICLE = "y ~ x * a + (1 + x | unit)"


@pytest.fixture(scope="module")
def article():
    return hlm.fit(ARTICLE, hlm.load_dataset("article"))


@pytest.fixture(scope="module")
def sleep():
    return hlm.fit(SLEEP, hlm.load_dataset("sleepstudy"))


@pytest.fixture(scope="module")
def estimates():
    """200 estimates of x:a on two designs by two methods, as a study gives them."""
    rng, parts = np.random.default_rng(5), []
    for units, sd in ((10, 0.25), (30, 0.12)):
        estimate = 0.3 + sd * rng.normal(size=200)
        for method, factor in (("REML", 1.0), ("ML", 0.9)):
            se = factor * sd * np.sqrt(rng.chisquare(units, 200) / units)
            parts.append(
                pd.DataFrame(
                    {
                        "units": units,
                        "replicate": range(200),
                        "method": method,
                        "term": "x:a",
                        "truth": 0.3,
                        "estimate": estimate,
                        "std_error": se,
                        "p_value": 2 * stats.norm.sf(np.abs(estimate / se)),
                        "conf_low": estimate - 1.96 * se,
                        "conf_high": estimate + 1.96 * se,
                        "status": "converged",
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def measured(estimates):
    return hlm.measures(estimates, by=["units", "method", "term"])


@pytest.fixture(scope="module")
def one(estimates):
    return estimates[estimates.units == 10]


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def overlaps(boxes):
    return any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


def label_boxes(axis):
    renderer = axis.get_figure().canvas.get_renderer()
    labels = [label for label in axis.get_ticklabels() if label.get_text()]
    low, high = sorted(axis.get_view_interval())
    shown = [t for t, at in zip(labels, axis.get_ticklocs(), strict=True) if low <= at <= high]
    return [label.get_window_extent(renderer) for label in shown]


def test_power_curve_has_a_line_and_an_exact_band_per_method(measured):
    axes = plot.power_curve(measured, "units", by="method")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("units", "Power")
    assert legend(axes) == ["REML", "ML"]
    lines = [line for line in axes.get_lines() if line.get_label() in ("REML", "ML")]
    for line, (_, part) in zip(lines, measured.groupby("method", sort=False), strict=True):
        assert line.get_ydata().tolist() == part["power"].tolist()
    assert lines[0].get_linestyle() != lines[1].get_linestyle()
    first = measured.iloc[0]
    exact = stats.binomtest(round(first["power"] * 200), 200).proportion_ci(method="exact")
    band = axes.collections[0].get_paths()[0].vertices
    heights = np.unique(band[band[:, 0] == 10, 1])
    assert heights == pytest.approx([exact.low, exact.high], abs=tol.DRAWN)
    assert axes.get_ylim() == (0, 1.02)


def test_power_curve_draws_what_hlm_power_curve_gives():
    """Several tests are series without being asked for."""
    truth = hlm.Truth.of([1, 3, -0.15, 0.3], sd=[0.2, 0.5], corr=0.9, sigma=0.75)
    m = hlm.mechanism("y ~ x * a + (1 + x | unit)", hlm.load_dataset("article"), truth)
    curve = hlm.power_curve(m, ["x:a", "a"], along="units", values=[10, 20], n=30, seed=1)
    axes = plot.power_curve(curve)
    assert axes.get_xlabel() == "units"
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["x:a", "a", "by formula"]
    assert axes.get_legend().get_title().get_text() == "test"


def test_power_curve_takes_limits_from_the_frame_and_any_axis():
    frame = pd.DataFrame(
        {
            "design": ["a rather long name of a design", "another one just as long"],
            "power": [0.0, 1.0],
            "power_low": [0.0, 0.9],
            "power_high": [0.1, 1.0],
        }
    )
    axes = plot.power_curve(frame, "design", target=None)
    axes.figure.canvas.draw()
    assert not overlaps(label_boxes(axes.xaxis))
    vertices = axes.collections[0].get_paths()[0].vertices
    assert vertices[:, 1].max() == 1.0
    assert vertices[vertices[:, 0] == 1, 1].min() == 0.9


def test_power_curve_sets_the_formula_beside_simulation(measured):
    frame = measured[measured.method == "ML"].assign(analytic=[0.2, 0.7])
    axes = plot.power_curve(frame, "units")
    assert legend(axes) == ["simulated", "by formula"]
    assert [0.2, 0.7] in [list(line.get_ydata()) for line in axes.get_lines()]


def test_power_of_zero_and_one_has_a_band():
    axes = plot.power_curve(pd.DataFrame({"n": [10, 10], "G": [5, 50], "power": [0.0, 1.0]}), "G")
    vertices = axes.collections[0].get_paths()[0].vertices
    low = stats.binomtest(10, 10).proportion_ci(method="exact").low
    assert vertices[vertices[:, 0] == 50, 1].min() == pytest.approx(low)
    assert vertices[vertices[:, 0] == 5, 1].max() == pytest.approx(1 - low)


def test_lollipop_begins_at_the_nominal_value(measured):
    axes = plot.lollipop(measured, "coverage")
    assert axes.get_xlabel() == "Coverage"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["units 10", "units 30"]
    assert axes.get_lines()[0].get_xdata()[0] == 0.95
    assert len(axes.containers) == 2
    z = stats.norm.ppf(0.975)
    reml = measured[measured.method == "REML"]
    bars = axes.containers[0].lines[2][0].get_segments()
    ends = np.array([bar[:, 0] for bar in bars])
    expected = np.stack([reml.coverage - z * reml.coverage_mcse,
                         reml.coverage + z * reml.coverage_mcse], axis=1)  # fmt: skip
    assert ends == pytest.approx(expected, abs=tol.DRAWN)
    assert plot.lollipop(measured, "bias").get_lines()[0].get_xdata()[0] == 0.0


def test_lollipop_names_conditions_by_what_they_are(measured):
    numbered = measured.assign(condition=[0, 0, 1, 1])
    numbered.insert(0, "condition", numbered.pop("condition"))
    axes = plot.lollipop(numbered, "bias")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["units 10", "units 30"]
    axes = plot.lollipop(numbered.drop(columns="units"), "bias")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["condition 0", "condition 1"]


def test_lollipop_labels_do_not_overlap(measured):
    names = [f"scenario number {i}, of some length" for i in range(9)]
    rows = pd.concat([measured.assign(scenario=name) for name in names])
    rows = rows[["scenario", *measured.columns]]
    for frame in (rows, rows[rows.method == "ML"]):
        axes = plot.lollipop(frame, "relative_error")
        axes.figure.canvas.draw()
        assert len(axes.get_yticklabels()) == 18
        assert not overlaps(label_boxes(axes.yaxis))
        assert not overlaps(label_boxes(axes.xaxis))


def test_zip_plot_orders_by_distance_and_colours_by_coverage(one):
    panels = plot.zip_plot(one)
    assert len(panels) == 2
    for axes, (name, part) in zip(panels, one.groupby("method", sort=False), strict=True):
        covered = ((part.conf_low <= 0.3) & (part.conf_high >= 0.3)).to_numpy()
        assert axes.get_title() == f"{name}\nCoverage {100 * covered.mean():.1f} %"
        intervals = axes.collections[0]
        assert len(intervals.get_segments()) == 200
        centiles = [segment[0, 1] for segment in intervals.get_segments()]
        assert centiles == pytest.approx(np.arange(1, 201) / 2)
        z = np.sort(np.abs(part.estimate - 0.3) / part.std_error)
        middle = [segment[:, 0].mean() - 0.3 for segment in intervals.get_segments()]
        half = [np.ptp(segment[:, 0]) / 2 / 1.96 for segment in intervals.get_segments()]
        assert np.abs(middle) / half == pytest.approx(z)
        missed = mpl.colors.to_rgba(INK[1])
        # With these limits |z| alone decides, so the last ones are the ones that miss.
        n_missed = int((~covered).sum())
        assert [tuple(c) == missed for c in intervals.get_colors()] == (
            [False] * (200 - n_missed) + [True] * n_missed
        )


def test_zip_plot_of_many_thins_them_and_of_several_truths_centres_them(one):
    many = pd.concat([one[one.method == "ML"]] * 50)
    (axes,) = plot.zip_plot(many)
    assert len(axes.collections[0].get_segments()) == 500
    assert axes.collections[0].get_segments()[-1][0, 1] == 100.0
    shift = np.arange(len(one))
    moved = one.assign(
        **{c: one[c] + shift for c in ("truth", "estimate", "conf_low", "conf_high")}
    )
    panels = plot.zip_plot(moved)
    assert panels[0].get_xlabel() == "Interval − truth"
    assert np.abs(panels[0].get_xlim()).max() < 3


def test_nested_loop_has_a_step_line_per_method_and_factor(measured):
    frame = pd.concat([measured.assign(sd=sd) for sd in (0.2, 0.4, 0.8)]).sample(
        frac=1, random_state=3
    )
    axes = plot.nested_loop(frame, "coverage", ["sd", "units"])
    assert axes.get_xlabel() == "6 conditions"
    assert len(axes.patches) == 2 + 2
    texts = [text.get_text().strip() for text in axes.texts]
    assert texts == ["sd: 0.2, 0.4, 0.8", "units: 10, 30"]
    name = frame.method.iloc[0]
    expected = measured[measured.method == name].sort_values("units").coverage.tolist() * 3
    assert axes.patches[0].get_data().values.tolist() == expected
    with pytest.raises(OptionError, match="same units"):
        plot.nested_loop(frame, "coverage", ["units"])
    with pytest.raises(OptionError, match="factors"):
        plot.nested_loop(frame, "coverage", [])


def test_estimates_against_standard_errors(one):
    axes = plot.estimate_vs_se(one)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Estimate of x:a", "Standard error")
    assert legend(axes) == ["REML", "ML"]
    points = axes.get_lines()[0]
    assert len(points.get_xdata()) == 200
    assert "truth" in [text.get_text() for text in axes.texts]


def test_histogram_counts_every_estimate(one):
    axes = plot.histogram(one, bins=12)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Estimate of x:a", "Replicates")
    means = [line.get_xdata()[0] for line in axes.get_lines()]
    expected = [*one.groupby("method", sort=False).estimate.mean(), 0.3]
    assert means == pytest.approx(expected)
    alone = plot.histogram(one[one.method == "ML"])
    assert alone.get_legend() is None


def test_fits_that_did_not_converge_are_not_drawn(one):
    stopped = one.copy()
    stopped.loc[stopped.index[:7], "status"] = "iteration_limit"
    points = plot.estimate_vs_se(stopped).get_lines()[0]
    assert len(points.get_xdata()) == 193


def test_article_units_shows_predictions_and_both_lines(article):
    truth = hlm.Truth.of([1, 3, -0.15, 0.3], sd=[0.2, 0.5], corr=0.9, sigma=0.75)
    panels = plot.article_units(article, truth=truth)
    assert [axes.get_ylabel() for axes in panels] == ["Intercept", "Slope of x"]
    assert legend(panels[0]) == ["units (BLUP)", "fitted", "true"]
    a = hlm.load_dataset("article").groupby("unit").a.first().to_numpy()
    expected = {
        "(Intercept)": (article.fixef[["(Intercept)", "a"]], (1, -0.15)),
        "x": (article.fixef[["x", "x:a"]], (3, 0.3)),
    }
    for axes, (name, (fitted, true)) in zip(panels, expected.items(), strict=True):
        points, line, true_line = axes.get_lines()
        assert points.get_xdata() == pytest.approx(a)
        own = fitted.iloc[0] + fitted.iloc[1] * a + article.ranef[name].to_numpy()
        assert points.get_ydata() == pytest.approx(own)
        for drawn, (level, slope) in ((line, fitted), (true_line, true)):
            assert drawn.get_ydata() == pytest.approx(level + slope * drawn.get_xdata())


def test_article_units_reads_interactions_in_either_order():
    fit = hlm.fit("y ~ a * x + (1 + x | unit)", hlm.load_dataset("article"))
    assert "a:x" in fit.fixef.index
    line = plot.article_units(fit)[1].get_lines()[1]
    assert np.ptp(line.get_ydata()) == pytest.approx(
        fit.fixef["a:x"] * np.ptp(line.get_xdata()), rel=tol.DRAWN
    )


def test_article_lines_are_the_units(article):
    axes = plot.article_lines(article, "a")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x", "y")
    segments = axes.collections[0].get_segments()
    assert len(segments) == 30
    table = article.shrinkage()
    slopes = [np.diff(s[:, 1])[0] / np.diff(s[:, 0])[0] for s in segments]
    assert slopes == pytest.approx(table[table.term == "x"].blup.to_list())
    x = hlm.load_dataset("article").x
    assert (segments[0][0, 0], segments[0][1, 0]) == (x.min(), x.max())
    assert axes.figure.axes[1].get_ylabel() == "a"


def test_shrinkage_arrows_go_from_ols_to_blup(sleep):
    axes = plot.shrinkage(sleep)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Intercept", "Slope of Days")
    assert legend(axes) == ["own line (OLS)", "prediction (BLUP)", "population"]
    table = sleep.shrinkage().pivot(index="level", columns="term")
    arrows = axes.texts
    assert len(arrows) == 18
    assert arrows[0].xyann == pytest.approx(table.loc["308", "ols"].tolist())
    assert arrows[0].xy == pytest.approx(table.loc["308", "blup"].tolist())
    assert len(axes.get_lines()[2].get_xdata()) == 1


def test_shrinkage_leaves_out_units_without_a_line_of_their_own():
    data = hlm.load_dataset("sleepstudy")
    data = data[(data.Subject != "308") | (data.Days == 0)]
    axes = plot.shrinkage(hlm.fit(SLEEP, data))
    assert len(axes.texts) == 17


def test_qq_and_caterpillar_have_a_panel_per_effect(sleep):
    panels = plot.qq(sleep)
    assert [axes.get_title() for axes in panels] == ["(Intercept)", "Days"]
    assert len(panels[0].get_lines()[-1].get_xdata()) == 18
    panels = plot.caterpillar(sleep)
    assert panels[0].get_ylabel() == "Subject"
    names = [label.get_text() for label in panels[0].get_yticklabels()]
    assert names == sleep.ranef["(Intercept)"].sort_values().index.tolist()
    dots = np.asarray(panels[1].collections[-1].get_offsets())
    assert dots[:, 0] == pytest.approx(sleep.ranef["Days"].to_numpy())
    assert [names[int(at)] for at in dots[:, 1]] == sleep.ranef.index.tolist()
    panels[0].figure.canvas.draw()
    assert not overlaps(label_boxes(panels[0].yaxis))


def test_one_random_effect_is_one_panel():
    fit = hlm.fit("Reaction ~ Days + (1 | Subject)", hlm.load_dataset("sleepstudy"))
    assert len(plot.qq(fit)) == len(plot.caterpillar(fit)) == 1
    with pytest.raises(OptionError, match="two random effects"):
        plot.shrinkage(fit)
    with pytest.raises(OptionError, match="one random slope"):
        plot.article_lines(fit)


def test_units_that_are_true_and_false_have_their_names(rng):
    d = pd.DataFrame({"unit": np.resize([True, False], 60), "y": rng.normal(size=60)})
    d["y"] += 2.0 * d["unit"]
    (panel,) = plot.caterpillar(hlm.fit("y ~ 1 + (1 | unit)", d))
    assert [label.get_text() for label in panel.get_yticklabels()] == ["False", "True"]


def test_many_units_have_no_names():
    fit = hlm.fit("MathAch ~ SES + (1 + SES | School)", hlm.load_dataset("math_achieve"))
    axes = plot.caterpillar(fit)[0]
    assert not axes.get_yticklabels()
    assert len(axes.collections[0].get_segments()) == 160
    assert axes.get_ylabel() == "School (160 units)"
    # Whole points stand within the frame.
    axes.figure.draw_without_rendering()
    (low, _), (high, _) = axes.transData.transform([(0.0, 0.0), (0.0, 159.0)])[:, ::-1]
    assert axes.bbox.y0 + 4.0 < low and high < axes.bbox.y1 - 4.0


def test_new_figures_are_a_printed_column_in_readable_type(sleep, one):
    axes = plot.histogram(one)
    assert axes.figure.get_size_inches()[0] == COLUMN
    axes.figure.canvas.draw()
    texts = [axes.xaxis.label, axes.yaxis.label, *axes.get_xticklabels(), *axes.texts,
             *axes.get_legend().get_texts()]  # fmt: skip
    assert min(text.get_fontsize() for text in texts) >= 8
    assert plt.rcParams["font.size"] == mpl.rcParamsDefault["font.size"]


def test_what_a_backend_sets_when_it_is_loaded_stays(monkeypatch):
    """As that of notebooks, which has figures shown by themselves."""
    load = plt.switch_backend

    def notebook(name):
        load(name)
        mpl.interactive(True)

    with mpl.rc_context():
        mpl.interactive(False)
        monkeypatch.setattr(plt, "_backend_mod", None)
        monkeypatch.setattr(plt, "switch_backend", notebook)
        with canvas(None):
            pass
        assert plt.isinteractive()
        assert plt.rcParams["font.size"] == mpl.rcParamsDefault["font.size"]


def test_given_axes_are_drawn_on_and_no_figure_is_made(sleep, one, measured):
    figure, grid = plt.subplots(2, 2)
    before = plt.get_fignums()
    assert plot.histogram(one, ax=grid[0, 0]) is grid[0, 0]
    assert plot.lollipop(measured, "bias", ax=grid[0, 1]) is grid[0, 1]
    assert plot.qq(sleep, ax=grid[1]) == list(grid[1])
    assert plt.get_fignums() == before
    with pytest.raises(OptionError, match="2 panel"):
        plot.qq(sleep, ax=grid[0, 0])
    figure.clear()


def test_a_figure_that_cannot_be_drawn_is_closed():
    with pytest.raises(ZeroDivisionError), canvas(None) as axes:
        axes.plot(1 / 0)
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda e, m, f: plot.power_curve(m, "sizes"), MissingColumnError, "'sizes'"),
        (lambda e, m, f: plot.power_curve(pd.concat([m, m]), "units"), OptionError, "same 'units'"),
        (lambda e, m, f: plot.power_curve(m[["units", "power"]].iloc[:1], "units"),
         MissingColumnError, "conf_low"),
        (lambda e, m, f: plot.power_curve(m, "units", by="term", level=2), OptionError, "level=2"),
        (lambda e, m, f: plot.nested_loop(m.assign(bias=np.nan), "bias", ["units"]),
         NoRowsError, "NaN in every row"),
        (lambda e, m, f: plot.lollipop(m, "biass"), MissingColumnError, "'biass'"),
        (lambda e, m, f: plot.zip_plot(e.assign(condition=e.units)), OptionError, "'condition'"),
        (lambda e, m, f: plot.histogram(e.assign(estimate=np.nan)), NoRowsError, "no row"),
        (lambda e, m, f: plot.estimate_vs_se(e.drop(columns="std_error")),
         MissingColumnError, "'std_error'"),
        (lambda e, m, f: plot.article_units(f, "b"), UnknownTermError, "no fixed effect 'b'"),
        (lambda e, m, f: plot.article_units(f, "x"), OptionError, "varies within units"),
        (lambda e, m, f: plot.shrinkage(f, ("x", "z")), UnknownTermError, "no random effect 'z'"),
        (lambda e, m, f: plot.caterpillar(f, 95), OptionError, "level=95"),
    ],
)  # fmt: skip
def test_bad_input(estimates, measured, article, call, error, message):
    with pytest.raises(error, match=message):
        call(estimates, measured, article)
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    "draw",
    [
        plot.zip_plot, plot.histogram, plot.estimate_vs_se, plot.power_curve, plot.volcano,
        plot.p_qq, plot.p_histogram, plot.contrast_heat, plot.variance_fractions,
        plot.variance_trend, partial(plot.lollipop, measure="bias"),
        partial(plot.nested_loop, measure="bias", factors=["units"]),
    ],
)  # fmt: skip
def test_what_is_no_table_is_told_apart(article, draw):
    with pytest.raises(OptionError, match=r"is no (DataFrame|Moderation).* give"):
        draw(article)


def test_the_command_writes_the_articles_figures(article, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("jaxhlm.cli.article.run", lambda *_: Refitted(None, article, None))
    assert main(["article", "--replicates", "50", "--figures", str(tmp_path / "new")]) == 0
    assert "3 figures written to" in capsys.readouterr().out
    files = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert files == [f"{n}.{k}" for n in ("lines", "shrinkage", "units") for k in ("pdf", "png")]
    assert (tmp_path / "new" / "units.pdf").read_bytes().startswith(b"%PDF")
    assert not plt.get_fignums()


@pytest.mark.skipif(sys.platform != "linux", reason="no such limit")
def test_a_full_disk_is_our_error(tmp_path):
    """matplotlib cannot close a file that it could not write, and raises what is no OSError."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with canvas(None) as axes, pytest.raises(FileError, match="File too large"):
            axes.plot(range(1000))
            write(axes.figure, tmp_path / "figure")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_the_error_says_what_to_install():
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "import jaxhlm as hlm\n"
        "try: hlm.plot\n"
        "except hlm.JaxhlmError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == 'figures need matplotlib: pip install "jaxhlm[plot]"'


def test_a_label_without_spaces_stays_whole():
    assert wrap("") == ""
    assert wrap("x", 3) == "x"


def test_legends_fit_into_the_figure(rng):
    """Four methods do not fit into one row of a printed column, and do into one of two columns."""
    names = ["Satterthwaite", "z", "two-stage", "OLS, CR2"]
    frame = pd.DataFrame({"method": np.repeat(names, 50), "truth": 0.0, "term": "x"})
    frame["estimate"] = rng.normal(size=200)
    for axes, rows in ((plot.histogram(frame), 2), (wide(frame), 1)):
        figure, legend = axes.figure, axes.get_legend()
        figure.draw_without_rendering()
        assert legend.get_window_extent().x0 >= 0.0
        tops = {round(text.get_window_extent().y0) for text in legend.get_texts()}
        assert len(tops) == rows


def wide(frame):
    with canvas(None, width=7.0) as axes:
        return plot.histogram(frame, ax=axes)
