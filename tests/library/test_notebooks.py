"""What notebooks show of results: tables, in the words of what is printed."""

import re

import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
from cases import sleepstudy
from jaxhlm.core.document import Grid, framed
from jaxhlm.studies.plan import Plan
from jaxhlm.studies.power import Power
from jaxhlm.studies.power_curve import PowerSolution

POWER = pd.DataFrame(
    {"test": ["x"], "power": [0.8], "conf_low": [0.75], "conf_high": [0.85], "mcse": [0.02],
     "power_all": [0.8], "analytic": [np.nan], "rejected": [80], "n": [100], "failed": [0],
     "singular": [3]}
)  # fmt: skip
PLANNED = Power(POWER, 0.05, "satterthwaite", 0.95, Plan("a", "b", "c", "d"), ("x = 0",), 1)
MEASURES = pd.DataFrame(
    {"term": ["x"], "n": [9], "n_failed": [0], "n_singular": [1], "truth": [3.0], "bias": [0.01],
     "bias_mcse": [0.02]}
)  # fmt: skip


@pytest.fixture(scope="module")
def shown():
    fit, data = sleepstudy(), hlm.load_dataset("sleepstudy")
    Y = fit.simulate(3, seed=1)
    Y[1] = 1.0
    with pytest.warns(hlm.JaxhlmWarning):
        fits = hlm.fit_many("~ Days + (1 | Subject)", data, Y, progress=False)
    return {
        "fit": fit,
        "batch": fits,
        "summary": fit.summary("satterthwaite"),
        "varcorr": fit.varcorr,
        "anova": fit.anova(),
        "table": hlm.table([fit]),
        "power": PLANNED,
        "solution": PowerSolution(30, 0.8, "units", POWER.assign(units=30), True, PLANNED),
        "measures": hlm.MeasuresTable(MEASURES, ["bias"]),
    }


NAMES = ("fit", "batch", "summary", "varcorr", "anova", "table", "power", "solution", "measures")


@pytest.mark.parametrize("name", NAMES)
def test_results_are_tables_in_notebooks(shown, name):
    html = shown[name]._repr_html_()
    assert "<table>" in html
    assert "<pre" not in html
    assert repr(shown[name]) == str(shown[name])
    # What is printed is shown, whatever stands around it.
    cells = re.sub(r"<[^>]*>", " ", html).replace("&lt;", "<").replace("&gt;", ">")
    # But for the name of an index.
    words = {*str(shown[name]).split()} - {"---", "term"}
    assert words <= set(cells.replace("&amp;", "&").split())


def test_what_is_one_line_in_a_terminal_has_its_table_in_a_notebook(shown):
    fits, level = shown["batch"][[0, 2]], shown["fit"]
    short = hlm.load_dataset("sleepstudy").drop(index=range(1, 10))
    smaller = hlm.fit("Reaction ~ Days + (1 | Subject)", hlm.load_dataset("sleepstudy"))
    lines = hlm.lm_list("Reaction ~ Days + (1 + Days | Subject)", short)
    test = hlm.bootstrap_lrt(smaller, level, n=5, seed=1)
    cells = {
        fits.moderation(): ["moderated", f"{fits.sigma.iloc[0] ** 2:.4g}"],
        level.verify(): ["criterion", "Σ, relative"],
        lines: ["308", "249.5600", "are blank"],
        test: ["Bootstrap", "χ²", f"{test.p_value:.4g}"],
    }
    for result, there in cells.items():
        html = result._repr_html_()
        assert "<table>" in html and all(cell in html for cell in there)
        assert repr(result) == str(result)
    assert len(str(level.verify()).splitlines()) == 1 and str(level.verify()).startswith("1 fit ")


def test_how_fits_ended_is_said_in_words(shown):
    assert (
        "1 × the response, a column or the criterion is not finite" in shown["batch"]._repr_html_()
    )


def test_a_study_is_a_table_in_notebooks(finished):
    study = hlm.read_study(finished)
    html = study._repr_html_()
    assert html.count("<tr>") == 1 + len(study.counts)
    assert "<td" in html and "converged" in html


def test_long_tables_are_shortened_in_the_middle():
    grid = framed(pd.DataFrame({"x": np.arange(100)}), most=4)
    assert [row[0] for row in grid.lines] == ["", "0", "1", "…", "98", "99"]
    assert len(str(grid).splitlines()) < 10
    assert isinstance(grid, Grid)


def test_what_is_simulated_from_is_told_in_words_and_not_by_its_arrays():
    design = hlm.design("~ x * a + (1 + x | unit)", hlm.load_dataset("article"))
    truth = hlm.Truth.of([1, 3, -0.15, 0.3], sd=[0.2, 0.5], corr=0.9, sigma=0.75)
    units = hlm.units(7, 3, {"x": range(3)}, factors={"arm": ["a", "b"]})
    made = hlm.mechanism("y ~ x + (1 | unit)", units, hlm.Truth.of([1, 2], sd=[1]))
    drawn = hlm.simulate(design, truth, n=2, seed=1)
    told = {
        design: ["x * a + (1 + x | unit)", "900", "30 (unit)", "(Intercept), x, a, x:a"],
        truth: ["1, 3, -0.15, 0.3", "sd 0.2, 0.5, corr 0.9", "0.75"],
        units: ["7 units (unit), with 3 measurements each", "4 a, 3 b; 7"],
        made: ["y ~ x + (1 | unit)", "21 rows in 7 units", "1, 2"],
        made.draw(0, 2): ["Data sets 0 to 1, drawn as rows", "21 rows in 7 units"],
        drawn: ["2 data sets, drawn as sufficient statistics", "900", "0.75"],
        drawn.fit().varcorr: ["sd (Intercept)", "sigma"],
    }
    for result, there in told.items():
        assert repr(result) == str(result)
        assert len(repr(result)) < 600
        for shown in (repr(result), result._repr_html_()):
            assert all(text in shown for text in there), shown
            assert "array(" not in shown
    assert repr(hlm.TruthDistribution.from_fit(sleepstudy())) == "TruthDistribution(_from_fit)"


def test_a_status_is_its_name():
    assert (str(hlm.Status.SINGULAR), f"{hlm.Status.SINGULAR}") == ("SINGULAR", "SINGULAR")
    assert repr(hlm.Status.SINGULAR) == f"SINGULAR: {hlm.Status.SINGULAR.message}"
    assert hlm.Status.SINGULAR == 1


def test_numbers_of_varcorr_and_paragraphs_of_a_plan_are_aligned_in_notebooks(shown):
    cells = re.findall(
        r'<td style="text-align: (\w+)">([^<]*)</td>', shown["varcorr"]._repr_html_()
    )
    sides = {text: side for side, text in cells}
    assert (sides["Subject"], sides["Days"]) == ("left", "left")
    assert {side for text, side in sides.items() if re.fullmatch(r"[\d.]+", text)} == {"right"}
    plan = shown["power"]._repr_html_()
    assert '<th style="text-align: left">Design</th><td style="text-align: left">' in plan
    assert "          " not in plan
