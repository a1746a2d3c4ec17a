"""Studies written in TOML: what is built from them, and what is wrong with them line by line."""

import re

import numpy as np
import pytest

import jaxhlm as hlm
import tolerances as tol
from jaxhlm.errors import StudyFileError
from jaxhlm.studies.studyfile import read_study_file
from jaxhlm.studies.tomltext import line_of
from studies_made import TOML


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("n = 16", "n = 'many'", ":2: n: 'many' must be a whole number"),
        ("n = 16", "n = true", ":2: n: True must be a whole number"),
        ("seed = 1", "sed = 1", ":3: sed: unknown key; allowed here: formula, n, seed"),
        ("chunk = 8", "chunk = ", r"not TOML: .*line 4"),
        ('"design.csv"', '"absent.csv"', ":7: design.data: .*absent.csv"),
        ('data = "design.csv"', 'data = "a.csv"\ndataset = "article"', ":6: design: .*not both"),
        ('data = "design.csv"\nunits = 6', "", ":6: design: give data .*, or the number of units"),
        ("units = 6\n", "units = 0\n", ":8: design.units: units=0 must be"),
        ("sd = [0.2, 0.5]", "sd = [0.2, 'x']", ":12: truth.sd.1: 'x' must be a number"),
        ("sd = [0.2, 0.5]", "", ":10: truth: 'sd' is missing; needed here: beta, sd, sigma"),
        ("sd = [0.2, 0.5]", "sd = []", ":12: truth.sd: sd, or cov, needs a number for every"),
        ("corr = 0.9", "corr = 1.9", ":13: truth.corr: corr=1.9: correlations lie"),
        ("a = -0.15,", "z = 1,", ":11: truth.beta: beta and the model differ in a, z"),
        ("units = [6, 8]", "people = [6, 8]", ":17: conditions.people: .*what can: \"units\""),
        ("units = [6, 8]", "units = []", ":17: conditions.units: no values"),
        ("[0, 0.3]", "[0, 'b']", r":18: conditions.beta\[x:a\]: 'b' must be a number"),
        ("beta[x:a]", "beta[x:b]", r":18: conditions.beta\[x:b\]: .*no such fixed effect"),
        ('"two_stage"', '"magic"', ":25: methods.1.estimator: .*'lmm', 'ols', 'two_stage'"),
        ('name = "t"', 'title = "t"', ":21: methods.0.title: unknown key; allowed here: name"),
        ('name = "two"', 'name = "t"', ":23: methods.1: two methods are named alike"),
        ("[[methods]]", '[[violations]]\nkind = "ResidualsFrom"\n[[methods]]',
         ":20: violations.0: 'distribution' is missing; needed here: distribution"),
        ('formula = "y', 'formla = "y', ":1: formla: unknown key"),
        ("(1 + x | unit)", "(1 + z | unit)", ":1: formula: no column 'z' in the data"),
    ],
)  # fmt: skip
def test_study_files_are_checked_line_by_line(toml, old, new, message):
    assert old in TOML
    toml.write_text(TOML.replace(old, new, 1))
    with pytest.raises(
        StudyFileError, match=f"study.toml{message}" if message[0] == ":" else message
    ):
        read_study_file(toml)


BUILT = """\
[design]
units = 7
measurements = 4
within = { x = "normal" }
between = { a = [-1, 0, 1, 2, -2, 0.5, 1.5] }

[[violations]]
kind = "ResidualsFrom"
distribution = { kind = "StudentT", df = 4 }
[[violations]]
kind = "MissingCompletely"
rate = 0.2
"""


def test_designs_and_violations_are_built(toml):
    """Without its violations the mechanism is Gaussian; with them rows go missing."""
    made = TOML.replace('[design]\ndata = "design.csv"\nunits = 6\n', BUILT)
    toml.write_text(made.replace("units = [6, 8]", "violations = [false, true]"))
    file = read_study_file(toml)
    condition = {"beta[x:a]": 0.3}
    clean, violated = (file.mechanism(violations=v, **condition) for v in (False, True))
    assert clean.violations == ()
    assert [type(v).__name__ for v in violated.violations] == ["ResidualsFrom", "MissingCompletely"]
    assert violated.violations[0].distribution.df == 4
    rows = violated.draw(0, 20, seed=1).frame()
    assert (len(rows), bool(rows["y"].isna().mean() > 0.1)) == (20 * 28, True)
    result = hlm.study(file.conditions, file.mechanism, file.methods, **file.options)
    assert result.conditions["violations"].tolist() == [False, False, True, True]
    assert len(result.counts) == 8


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("StudentT", "Cauchy", ":14: violations.0.distribution.kind: .*Contaminated, "),
        ("df = 4", "nu = 4", ":14: violations.0.distribution.nu: .*StudentT: kind, df"),
        ("df = 4", "df = 1", ":14: violations.0.distribution: "),
        ("MissingCompletely", "Lost", ":16: violations.1.kind: 'Lost' is not known; use one of"),
        ("rate = 0.2", "", ":15: violations.1: .*rate"),
        ('"normal"', '"lognormal"', ":9: design.within.x: .*'normal', 'uniform'"),
        ("0.5, 1.5]", "0.5]", ":6: design: 'a' has 6 values for 7 units"),
    ],
)
def test_designs_and_violations_are_checked(toml, old, new, message):
    made = TOML.replace('[design]\ndata = "design.csv"\nunits = 6\n', BUILT)
    assert old in made
    toml.write_text(made.replace(old, new, 1))
    with pytest.raises(StudyFileError, match=f"study.toml{message}"):
        read_study_file(toml)


@pytest.mark.parametrize("built", [False, True])
def test_effects_may_be_partial_r2_on_the_design_of_the_file(toml, built):
    made = TOML.replace('[design]\ndata = "design.csv"\nunits = 6\n', BUILT) if built else TOML
    partial = 'partial_r2 = {"x:a" = 0.2}\ncorr ='
    given = made.replace(', "x:a" = 0.3', "").replace("corr =", partial)
    given = given.replace("units = [6, 8]", "units = [7]")
    assert given != made
    toml.write_text(given)
    base = read_study_file(toml).mechanism.base
    assert (7 if built else 6) == base.template.G
    sizes = hlm.effect_sizes((base.template, base.truth), d_sd="total")
    assert sizes.loc["x:a", "partial_r2"] == pytest.approx(0.2, rel=tol.SMALL)
    for old, new, message in (
        ('{"x:a" = 0.2}', '{"x:b" = 0.2}', "truth.partial_r2: partial_r2 names 'x:b'"),
        ('{"x:a" = 0.2}', '{"x:a" = 20}', "truth.partial_r2: .*less than 1"),
        ('{"x:a" = 0.2}', "{a = 0.2}", "both give 'a'"),
    ):
        toml.write_text(given.replace(old, new))
        with pytest.raises(StudyFileError, match=message):
            read_study_file(toml)


def test_d_is_of_the_random_intercepts_of_the_formula(toml):
    d = 'd = {"x:a" = 0.4}\nd_sd = "between"\ncorr = 0.0'
    made = TOML.replace(', "x:a" = 0.3', "").replace("corr = 0.9", d)
    toml.write_text(made.replace("(1 + x | unit)", "(0 + x | unit) + (1 | unit)"))
    assert read_study_file(toml).mechanism.base.truth.beta["x:a"] == pytest.approx(0.4 * 0.5)
    toml.write_text(made.replace("(1 + x | unit)", "(0 + x | unit)").replace("[0.2, ", "["))
    with pytest.raises(StudyFileError, match=r":14: truth.d_sd: .*random intercepts"):
        read_study_file(toml)


D, R2 = 'd = {"x:a" = 0.4}\nd_sd = "%s"\n', 'partial_r2 = {"x:a" = 0.2}\n'


@pytest.mark.parametrize(
    ("given", "along", "named"),
    [
        (D % "within", "sigma", "d"),
        (D % "total", "sigma", "d"),
        (D % "total", "sd[(Intercept)]", "d"),
        (D % "between", "sd[(Intercept)]", "d"),
        (R2, "sigma", "partial R²"),
        (R2, "sd[x]", "partial R²"),
        (R2, "corr", "partial R²"),
        (R2, "measurements", "partial R²"),
        (D.replace("x:a", "a") % "within" + R2, "sigma", "d and partial R²"),
        (D % "between", "sigma", None),
        (D % "within", "sd[x]", None),
        (D % "total", "corr", None),
        (R2, "beta[x]", None),
        ("", "sigma", None),
    ],
)
def test_conditions_do_not_change_what_effects_are_relative_to(toml, given, along, named):
    """An effect is made once of its d, which would be another where the deviation is varied."""
    made = TOML.replace(', "x:a" = 0.3', "") if given else TOML
    if '"a"' in given:
        made = made.replace(", a = -0.15", "")
    made = made.replace("corr =", f"{given}corr =")
    made = made.replace("units = [6, 8]", f'"{along}" = [{0.5 if along == "corr" else 3}]')
    toml.write_text(made)
    if named is None:
        assert len(read_study_file(toml).conditions) == 2
        return
    line = made[: made.index(f'"{along}" = [')].count("\n") + 1
    message = f":{line}: conditions.{along}: effects were given as {named}, which {along} changes"
    with pytest.raises(StudyFileError, match=re.escape(message)):
        read_study_file(toml)


@pytest.mark.parametrize(
    ("given", "redrawn"), [("true", ["x", "dropout"]), ("false", []), ('["dropout"]', ["dropout"])]
)
def test_what_is_redrawn_may_be_named(toml, given, redrawn):
    built = BUILT.replace(
        "units = 7", f"units = 7\ndropout = {{ overall = 0.2 }}\nredraw = {given}"
    )
    made = TOML.replace('[design]\ndata = "design.csv"\nunits = 6\n', built)
    made = made.replace("units = [6, 8]", "units = [7]")
    toml.write_text(made)
    assert read_study_file(toml).mechanism.base.source.redrawn_names == redrawn
    for wrong, message in (
        ("[1]", "redraw.0: 1 must be a text"),
        ("'x'", "redraw: 'x' must be true, false or a list of names"),
        ('["z"]', "redraw: redraw names 'z', which is not drawn here; what is: x, dropout"),
    ):
        toml.write_text(made.replace(f"redraw = {given}", f"redraw = {wrong}"))
        with pytest.raises(StudyFileError, match=re.escape(f":9: design.{message}")):
            read_study_file(toml)


def test_lines_of_keys():
    text = '# a\n[a."b.c"]\n"d e" = { f = 1 }\n\n[[g]]\nh = 1\n[[g]]\ni.j = 2\n'
    assert line_of(text, ("a", "b.c", "d e", "f")) == 3
    assert line_of(text, ("g", 0, "h")) == 6
    assert line_of(text, ("g", 1, "i", "j")) == 8
    assert line_of(text, ("g", 1, "missing")) == 7


@pytest.mark.parametrize("given", ["measurements = 5", "units = 7"])
def test_violations_leave_what_terms_learned_on_the_frame(toml, given):
    """So that the condition without violations is the file without violations."""
    text = f"""
formula = "y ~ scale(x) * a + (1 + x | unit)"
[design]
dataset = "article"
{given}
[truth]
beta = {{"(Intercept)" = 1, "scale(x)" = 3, "scale(x):a" = 0.1}}
partial_r2 = {{a = 0.2}}
sd = [0.2, 0.5]
sigma = 0.75
"""
    toml.write_text(text)
    plain = read_study_file(toml).mechanism
    assert plain.template.learned["scale(x)"]["scale"] == pytest.approx(
        hlm.load_dataset("article")["x"].std(), rel=tol.SMALL
    )
    violated = '[[violations]]\nkind = "MissingCompletely"\nrate = 0.1\n'
    toml.write_text(f"{text}{violated}[conditions]\nviolations = [false, true]\n")
    varied = read_study_file(toml).mechanism
    for made in (varied.base, varied(violations=False), varied(violations=True)):
        assert made.template.learned == plain.template.learned
        assert made.truth.beta == plain.truth.beta
        np.testing.assert_array_equal(made.template.X, plain.template.X)
