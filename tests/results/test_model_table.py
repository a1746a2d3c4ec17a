"""Fits side by side: every number is the fit's own, and the notes say what they are."""

from functools import cache

import numpy as np
import pytest

import jaxhlm as hlm
from jaxhlm.errors import NeedsRemlError, OptionError

pytestmark = pytest.mark.filterwarnings("ignore::jaxhlm.errors.SingularFitWarning")


@cache
def fits():
    sleep, achieve = hlm.load_dataset("sleepstudy"), hlm.load_dataset("math_achieve").head(600)
    return (
        hlm.fit("Reaction ~ 1 + (1 | Subject)", sleep),
        hlm.fit("Reaction ~ Days + (1 + Days | Subject)", sleep),
        hlm.fit("MathAch ~ SES + (1 + SES | School)", achieve),
    )


def value(table, column, part, name, what="estimate"):
    return table.frame.loc[(part, name, what), column]


def test_the_frame_holds_the_numbers_of_every_fit():
    flat, line, school = fits()
    table = hlm.table({"flat": flat, "line": line, "school": school})
    assert value(table, "line", "Fixed effects", "Days") == line.fixef["Days"]
    assert value(table, "line", "Fixed effects", "Days", "std_error") == line.se["Days"]
    assert np.isnan(value(table, "flat", "Fixed effects", "Days"))
    for fit, name in ((flat, "flat"), (line, "line"), (school, "school")):
        group = fit.model.group_name
        own = table.frame[name]["Random effects", :, "estimate"].dropna()
        sd = [own[f"sd_{z}|{group}"] for z in fit.model.znames]
        np.testing.assert_array_equal(sd, fit.varcorr.sd)
        assert own["sigma"] == fit.sigma
        told = table.frame[name]["Fit", :, "estimate"].dropna()
        assert told.to_dict() == {
            "Log-likelihood": fit.loglik, "AIC": fit.aic, "BIC": fit.bic, "REML": 1.0,
            "Observations": fit.nobs, f"Groups: {group}": fit.ngroups,
        }  # fmt: skip
    corr = value(table, "school", "Random effects", "cor_SES.(Intercept)|School")
    assert corr == school.varcorr.corr.loc["SES", "(Intercept)"]
    parts = table.frame.index.get_level_values("part")
    assert list(parts.unique()) == ["Fixed effects", "Random effects", "Fit"]
    assert table.frame.loc["Random effects"].index[-1] == ("sigma", "estimate")


def test_estimates_stand_over_standard_errors_of_so_many_digits():
    _, line, _ = fits()
    lines = str(hlm.table({"a": line}, digits=2)).splitlines()
    at = next(i for i, text in enumerate(lines) if text.startswith("Days"))
    assert lines[at].split() == ["Days", f"{line.fixef['Days']:.1f}"]
    assert lines[at + 1].split() == [f"({line.se['Days']:.1f})"]
    # Digits stand below digits.
    assert lines[at].index(".") == lines[at + 1].index(".")


def test_the_numbers_of_a_part_have_the_decimals_of_its_smallest():
    _, line, school = fits()
    # Standard errors of the one are 6.8 and 1.5, of the other 0.2 and 0.3.
    for fit, decimals in ((line, 1), (school, 2)):
        table = hlm.table([fit], digits=2)
        fixed = str(table).split("Random effects")[0].splitlines()[2:]
        cells = [row.split()[-1].strip("()") for row in fixed]
        assert [len(cell.partition(".")[2]) for cell in cells] == [decimals] * 4


def test_intervals_and_p_values_are_those_of_tidy():
    _, line, _ = fits()
    for df, level in (("satterthwaite", 0.9), ("kenward-roger", 0.95)):
        table = hlm.table([line], below=["ci", "p_value"], df=df, conf_level=level)
        tidy = line.tidy(df, level).set_index("term").loc["Days"]
        for name in ("estimate", "std_error", "conf_low", "conf_high", "p_value"):
            assert value(table, "Reaction", "Fixed effects", "Days", name) == tidy[name]
        lines = str(table).splitlines()
        at = next(i for i, text in enumerate(lines) if text.startswith("Days"))
        assert lines[at + 1].strip() == f"[{tidy['conf_low']:.2f}, {tidy['conf_high']:.2f}]"
        assert lines[at + 2].strip() == "p < 0.001"
        assert f"{100 * level:g} % confidence intervals in brackets" in table.notes
        assert f"p values and intervals: {METHODS[df]}" in table.notes
    assert str(hlm.table([line], below=[])).count("(") == 3


def test_variance_explained_is_shown_when_asked_for():
    flat, line, _ = fits()
    told = hlm.table({"flat": flat, "line": line}, r2=True)
    assert value(told, "line", "Fit", "R² marginal") == line.r2()["marginal"]
    assert value(told, "line", "Fit", "R² conditional") == line.r2()["conditional"]
    assert value(told, "flat", "Fit", "ICC") == flat.icc()
    assert f"{flat.icc():.3f}" in str(told)


def test_terms_and_parameters_have_the_labels_that_were_given():
    _, line, _ = fits()
    labels = {"Days": "Days without sleep", "sigma": "residual sd"}
    table = hlm.table([line], labels=labels)
    assert "Days without sleep" in str(table) and "residual sd" in table.to_latex()
    assert ("Fixed effects", "Days", "estimate") in table.frame.index
    crossed = hlm.fit("y ~ x * a + (1 + x | unit)", hlm.load_dataset("article"))
    for labels, called in (({"x": "Dose"}, "Dose:a"), ({"x": "Dose", "x:a": "Both"}, "Both")):
        lines = str(hlm.table([crossed], labels=labels)).splitlines()
        assert {"Dose", called} <= {line.split(" ")[0] for line in lines}
    with pytest.raises(OptionError, match="labels names 'days', which is not in the table"):
        hlm.table([line], labels={"days": "x"})


def test_fits_that_a_line_does_not_hold_are_printed_below():
    _, line, _ = fits()
    table = hlm.table([line] * 9, below="ci")
    assert max(map(len, str(table).splitlines())) <= 80
    assert str(table).count("Fixed effects") == 3
    assert [text.split() for text in str(table).splitlines() if "(9)" in text] == [
        [word for number in (7, 8, 9) for word in (f"({number})", "Reaction")]
    ]
    assert table.to_html().count("<table>") == 1


def test_columns_are_named_by_responses():
    flat, line, school = fits()
    assert list(hlm.table([line, school]).frame) == ["Reaction", "MathAch"]
    assert list(hlm.table([line, flat]).frame) == ["(1) Reaction", "(2) Reaction"]
    assert list(hlm.table(line).frame) == ["Reaction"]
    batch = hlm.fit_many(
        "~ Days + (1 | Subject)",
        hlm.load_dataset("sleepstudy"),
        flat.simulate(2, seed=1).set_axis(["gene", "other"], axis=1),
        progress=False,
    )
    assert list(hlm.table(batch).frame) == ["gene", "other"]
    with pytest.raises(OptionError, match="number 1 of fits is a FitBatch"):
        hlm.table([flat, batch])
    with pytest.raises(OptionError, match="at most 50"):
        hlm.table([flat] * 51)


def test_stars_are_of_the_method_that_the_note_names():
    _, line, _ = fits()
    plain = hlm.table({"line": line})
    assert "*" not in str(plain)
    for df in ("satterthwaite", "kenward-roger", "normal"):
        table = hlm.table({"line": line}, stars=True, df=df)
        tidy = line.tidy(df).set_index("term")
        fixed = table.frame.loc["Fixed effects", "line"].unstack("value").loc[["Days"]]
        assert fixed["p_value"].item() == tidy.loc["Days", "p_value"]
        assert fixed["std_error"].item() == tidy.loc["Days", "std_error"]
        assert any("***" in note and "0.001" in note for note in table.notes)
        assert f"p values: {METHODS[df]}" in table.notes
    unadjusted = plain.frame.loc[("Fixed effects", "Days", "std_error"), "line"]
    adjusted = hlm.table({"line": line}, df="kenward-roger")
    assert adjusted.notes == ("Standard errors (Kenward-Roger's method) in parentheses",)
    assert value(adjusted, "line", "Fixed effects", "Days", "std_error") != unadjusted * 1.1


METHODS = {
    "satterthwaite": "Satterthwaite's method",
    "kenward-roger": "Kenward-Roger's method",
    "normal": "the normal distribution",
}


def test_notes_say_what_cannot_be_compared_and_how_fits_ended():
    flat, line, _ = fits()
    note = "By REML, likelihoods"
    assert any(text.startswith(note) for text in hlm.table([flat, line]).notes)
    assert not any(text.startswith(note) for text in hlm.table([flat, flat]).notes)
    by_ml = [flat.refit_ml(), line.refit_ml()]
    assert not any(text.startswith(note) for text in hlm.table(by_ml).notes)
    with pytest.raises(NeedsRemlError):
        hlm.table(by_ml, df="kenward-roger")
    x = np.tile([0.0, 1.0], 6)
    data = {"y": x + np.tile([1.0, 2.0, 4.0], 4), "x": x, "g": np.repeat([1, 2, 3], 4)}
    singular = hlm.fit("y ~ x + (1 | g)", data)
    assert hlm.table({"s": singular}).notes[-1].startswith("s: singular fit: a variance is 0")


def test_a_model_without_fixed_effects_has_no_such_part():
    fit = hlm.fit("Reaction ~ 0 + (1 | Subject)", hlm.load_dataset("sleepstudy"))
    text = str(hlm.table([fit]))
    assert "Fixed effects" not in text
    assert "sigma" in text


def test_a_fit_and_its_summary_go_into_papers():
    _, line, _ = fits()
    assert line.to_markdown() == line.summary().to_markdown()
    assert r"Days & 10.467 & 1.546 & 17.000 & 6.771 & 3.26e-06 & *** \\" in (
        line.summary("satterthwaite").to_latex()
    )
    shown = line._repr_html_()
    assert shown.count("<table>") == 4
    assert "<pre" not in shown


def test_what_makes_the_same_terms_another_model_is_told():
    """Weights and an offset, where a fit has them."""
    d = hlm.load_dataset("sleepstudy").assign(w=np.resize([1.0, 2.0], 180), o=1.0)
    formula = "Reaction ~ Days + (1 | Subject)"
    plain, weighted = hlm.fit(formula, d), hlm.fit(formula, d, weights="w")
    shifted = hlm.fit("Reaction ~ Days + offset(o) + (1 | Subject)", d)
    text = str(hlm.table({"plain": plain, "weighted": weighted, "shifted": shifted}))
    told = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.strip()}
    assert told["Weights"] == ["no", "yes", "no"]
    assert told["Offset"] == ["no", "no", "yes"]
    assert "Weights" not in str(hlm.table([plain, plain]))
