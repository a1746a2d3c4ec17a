"""The command `fit`: many responses tested and ranked, and one data set for other programs."""

import json
import sys
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest

import jaxhlm as hlm
import tolerances as tol
from cases import DATA, SLEEP, sleepstudy
from jaxhlm.cli.main import main
from jaxhlm.core.files import read_table
from jaxhlm.core.written_tables import write_excel
from jaxhlm.errors import FileError

DESIGN = "~ Days + (1 | Subject)"
FIT = ["fit", DESIGN, "--samples", "samples.csv"]
pytestmark = pytest.mark.filterwarnings("ignore::jaxhlm.errors.ConvergenceWarning")


def samples():
    d = hlm.load_dataset("sleepstudy").drop(columns="Reaction")
    return d.assign(sample=[f"s{i}" for i in range(len(d))])


def expression():
    """Twelve responses, samples in another order; one is constant."""
    Y = sleepstudy().simulate(12, seed=1).to_numpy(copy=True)
    Y[:, 4], Y[3, 5] = 1.0, np.nan
    labels = pd.Index(samples()["sample"], name=None)
    frame = pd.DataFrame(Y, labels, [f"g{j}" for j in range(12)])
    return frame.sample(frac=1.0, random_state=1)


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    d, Y = samples(), expression()
    d.to_csv("samples.csv", index=False)
    d.to_csv("samples.tsv", index=False, sep="\t")
    d.to_feather("samples.feather")
    Y.to_parquet("y.parquet")
    Y.to_csv("y.csv")
    Y.T.to_csv("rows.tsv", sep="\t")
    Y.T.rename_axis("gene").reset_index().to_feather("rows.feather")
    np.save("y.npy", Y.loc[d["sample"]].to_numpy())
    d.assign(z=Y.loc[d["sample"], "g0"].to_numpy(), g=np.arange(len(d)) % 2).to_csv("by.csv")
    Y.set_axis("z" + Y.index, axis=0).to_parquet("other.parquet")
    Y.abs().to_csv("w.csv")


def expected(**options):
    d = samples().set_index("sample")
    fits = hlm.fit_many(DESIGN, d, expression(), progress=False)
    return fits.test({"a week": "7*Days"}, **options)


@pytest.mark.parametrize(
    "given",
    [
        ["--responses", "y.parquet", "--samples", "samples.tsv"],
        ["--responses", "y.csv", "--samples", "samples.feather", "--id", "sample"],
        ["--responses", "rows.tsv", "samples.csv", "--responses-in", "rows"],
        ["--responses", "rows.feather", "--responses-in", "rows", "--samples", "samples.csv"],
    ],
)
def test_responses_are_matched_by_name_tested_and_ranked(files, capsys, given):
    asked = ["--contrast", "a week=7*Days", "--top", "3", "--out", "table.parquet"]
    assert main(["fit", DESIGN, *given, *asked]) == 0
    printed = capsys.readouterr().out
    assert "Converged: 11, of these singular: 0; failed: 1\n  1 × the response" in printed
    assert "The 3 smallest p values" in printed and "Table of 12 rows" in printed
    table = expected()
    count = int((table["p_adjusted"] < 0.05).sum())
    assert f"a week      11 {count:>18}\n" in printed
    pd.testing.assert_frame_equal(pd.read_parquet("table.parquet"), table, rtol=tol.BATCH)


def test_options_of_tests_are_those_of_the_library(files, capsys):
    how = ["--moderate", "--trend", "--adjust", "holm", "--df", "kenward-roger", "--fdr", "0.01"]
    given = ["--responses", "y.csv", "--contrast", "a week=7*Days", *how, "--out", "t.csv"]
    assert main([*FIT, *given]) == 0
    printed = capsys.readouterr().out
    assert "Kenward-Roger's method, residual variances moderated along their trend" in printed
    assert "p_adjusted < 0.01" in printed
    table = expected(df="kenward-roger", moderate=True, trend=True, adjust="holm")
    assert_numbers(pd.read_csv("t.csv"), table)


def assert_numbers(one, other):
    assert list(one) == list(other)
    for name in one.select_dtypes("number"):
        np.testing.assert_allclose(one[name], other[name], rtol=tol.BATCH)


def test_what_has_no_names_is_matched_by_position(files, capsys):
    for extra in (["--weights", "w.csv"], ["--weights", "Days"], []):
        assert main([*FIT, "--responses", "y.npy", *extra, "--out", "t.csv"]) == (2 if extra else 0)
    assert "weights must be positive" in capsys.readouterr().err
    table = hlm.fit_many(DESIGN, samples(), np.load("y.npy"), progress=False).test()
    assert_numbers(pd.read_csv("t.csv"), table)
    assert main([*FIT, "--responses", "y.csv", "--weights", "w.csv", "--out", "t.csv"]) == 0
    d = samples().set_index("sample")
    weighted = hlm.fit_many(DESIGN, d, expression(), weights=expression().abs(), progress=False)
    assert_numbers(pd.read_csv("t.csv"), weighted.test())


def test_annotated_data_bring_their_samples(tmp_path, capsys):
    """Without tests, where none are asked for, the summary of all fits is printed."""
    path, formula = str(DATA / "annotated.h5ad"), "~ Days + (1 | Subject)"
    assert main(["fit", formula, "--responses", path, "--df", "none"]) == 0
    assert "mean SE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*FIT, "--responses", "other.parquet"], "samples 'zs"),
        ([*FIT, "--responses", "rows.tsv"], "--responses-in rows"),
        ([*FIT, "--responses", "y.npy", "--id", "sample"], "no names of samples"),
        ([*FIT, "--responses", "y.csv", "--id", "Sample"], "no column 'Sample'"),
        ([*FIT, "--responses", "y.xls"], "y.xls"),
        ([*FIT, "--responses", "y.csv", "--layer", "raw"], "--layer raw"),
        ([*FIT, "--responses", "y.csv", "--contrast", "week"], "week"),
        ([*FIT, "--responses", "y.csv", "--contrast", "a=", "--contrast", "b"], "NAME=EXPR"),
        ([*FIT, "--responses", "y.csv", "--contrast", "Days = 3"], "NAME=EXPR"),
        ([*FIT, "--responses", "y.csv", "--contrast", "a=Days", "--contrast", "a=7*Days"], "twice"),
        ([*FIT, "--responses", "y.csv", "--out", "t.txt"], ".csv, .parquet, .xlsx"),
        ([*FIT, "--responses", "y.csv", "--out", "none/t.csv"], "there is no folder"),
        ([*FIT, "--responses", "y.csv", "--top", "0"], "--top"),
        ([*FIT, "--responses", "y.csv", "--fdr", "5"], "--fdr"),
        ([*FIT, "--responses", "y.csv", "--trend"], "--trend goes with --moderate"),
        ([*FIT, "--responses", "y.csv", "--moderate", "--df", "residual"], "--df residual"),
        ([*FIT, "--responses", "y.csv", "--ml", "--df", "kenward-roger"], "leave --ml out"),
        ([*FIT, "--responses", "y.csv", "--df", "none", "--moderate"], "--df none"),
        ([*FIT, "--responses", "y.csv", "--by", "Subject"], "--responses or --by"),
        ([*FIT, "--responses", "y.csv", "--json"], "--json"),
        ([*FIT, "--responses", "y.csv", "--ci", "wald"], "--ci is of one fit"),
        (["fit", f"z {DESIGN}", "by.csv", "--by", "g", "--level", "0.9"], "--level is of one fit"),
        (["fit", f"z {DESIGN}", "by.csv", "--level", "90"], "--level"),
        ([*FIT, "samples.csv", "--responses", "y.csv"], "give the samples once"),
        (["fit", DESIGN, "--responses", "y.csv"], "table of samples"),
        (["fit", DESIGN], "give the file"),
        (["fit", f"z {DESIGN}", "by.csv", "--by", "g", "--plot", "drawn"], "--plot draws one fit"),
        ([*FIT, "--responses", "y.csv", "--plot", "y.csv"], "y.csv: File exists"),
        (["fit", DESIGN, "samples.csv", "--adjust", "BH"], "--adjust goes with --responses"),
        (["fit", DESIGN, "samples.csv", "--id", "sample"], "--id goes with --responses"),
    ],
)
def test_what_cannot_be_is_one_line(files, capsys, arguments, message):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("jaxhlm: ") and message in said.splitlines()[-1]


@pytest.mark.parametrize("given", [["samples.csv", "--by", "half"], ["--responses", "y.csv"]])
def test_contrasts_are_read_before_anything_is_fitted(files, monkeypatch, capsys, given):
    """Nothing is fitted, so the only line is the error."""
    y = hlm.load_dataset("sleepstudy")["Reaction"]
    samples().assign(y=y, half=np.arange(180) % 2).to_csv("samples.csv", index=False)
    monkeypatch.setattr("jaxhlm.cli.fit.fit_source", None)
    formula, at = f"y {DESIGN}" if "--by" in given else DESIGN, [] if "--by" in given else FIT[2:]
    assert main(["fit", formula, *at, *given, "--contrast", "late=7*Day"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("jaxhlm: ") and "'Days'" in said and said.count("\n") == 1


def test_failures_are_told_by_what_the_shell_can_show(files, capsys):
    y = hlm.load_dataset("sleepstudy")["Reaction"]
    half = np.arange(180) // 90
    samples().assign(y=y.where(half == 0, 1.0), half=half).to_csv("by.csv", index=False)
    assert main(["fit", f"y {DESIGN}", "by.csv", "--by", "half", "--out", "t.csv"]) == 0
    said = (
        "jaxhlm: 1 of 2 fits failed: column 'status' of the table that --out writes tells which\n"
    )
    assert capsys.readouterr().err == said
    found = pd.read_csv("t.csv").groupby("half")["status"].unique()
    assert [*found] == [["converged"], ["not_finite"]]


@pytest.mark.slow
def test_figures_are_those_of_the_fit_or_of_its_tests(files, capsys):
    assert main(["fit", f"z {DESIGN}", "by.csv", "--plot", "one/fit"]) == 0
    assert capsys.readouterr().out.endswith("3 figures written to one/fit\n")
    assert {path.name for path in Path("one/fit").iterdir()} == {
        f"{name}.{kind}"
        for name in ("caterpillar", "diagnostics", "random-effects-qq")
        for kind in ("pdf", "png")
    }
    assert main(["fit", "z ~ Days + (Days | Subject)", "by.csv", "--plot", "two", "--json"]) == 0
    json.loads(capsys.readouterr().out)
    assert len([*Path("two").iterdir()]) == 10
    contrasts = ["--contrast", "a week/2=3.5*Days", "--contrast", "…=Days"]
    assert main([*FIT, "--responses", "y.csv", *contrasts, "--plot", "many"]) == 0
    assert capsys.readouterr().out.endswith("4 figures written to many\n")
    assert {path.stem for path in Path("many").iterdir()} == {
        "volcano-1-a-week-2", "p-values-1-a-week-2", "volcano-2", "p-values-2"
    }  # fmt: skip


def test_one_fit_has_p_values_contrasts_and_json(tmp_path, capsys):
    path = tmp_path / "d.tsv"
    hlm.load_dataset("sleepstudy").to_csv(path, index=False, sep="\t")
    fit = hlm.fit(SLEEP, hlm.load_dataset("sleepstudy"))
    assert main(["fit", SLEEP, str(path)]) == 0
    assert capsys.readouterr().out == f"{fit.summary('satterthwaite')}\n"
    assert main(["fit", SLEEP, "--df", "none", str(path)]) == 0
    assert capsys.readouterr().out == f"{fit}\n"
    contrast = ["--contrast", "a week=7*Days"]
    out = ["--out", str(tmp_path / "t.csv")]
    assert main(["fit", SLEEP, str(path), "--json", *contrast, *out]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["criterion"] == pytest.approx(fit.criterion, rel=tol.SMALL)
    row = fit.contrast("7*Days").iloc[0]
    assert told["table"][0]["contrast"] == "a week"
    for name, value in row.items():
        assert told["table"][0][name] == pytest.approx(value, rel=tol.SMALL)
    assert pd.read_csv(tmp_path / "t.csv")["contrast"].tolist() == ["a week"]
    assert main(["fit", SLEEP, str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["formula"] == SLEEP and told["table"][1]["term"] == "Days"
    # Every digit of a small p value, and no word that JSON does not know.
    p_values = [row["p_value"] for row in told["table"]]
    assert p_values[:2] == fit.tidy(df="satterthwaite")["p_value"].tolist()[:2]
    assert p_values[2] is None and "NaN" not in json.dumps(told)


def test_a_singular_fit_is_told_once(tmp_path, capsys, recwarn):
    x = np.tile([0.0, 1.0], 6)
    data = {"y": x + np.tile([1.0, 2.0, 4.0], 4), "x": x, "g": np.repeat([1, 2, 3], 4)}
    pd.DataFrame(data).to_csv(tmp_path / "d.csv", index=False)
    assert main(["fit", "y ~ x + (1 | g)", str(tmp_path / "d.csv")]) == 0
    told = capsys.readouterr()
    assert (told.out + told.err).count("singular") == 1
    assert not recwarn.list


@pytest.mark.parametrize("method", ["wald", "profile"])
def test_one_fit_has_confidence_intervals_of_a_level(tmp_path, capsys, method):
    path = tmp_path / "d.csv"
    hlm.load_dataset("sleepstudy").to_csv(path, index=False)
    limits = hlm.fit(SLEEP, hlm.load_dataset("sleepstudy")).confint(method, 0.9)
    asked = ["fit", SLEEP, str(path), "--ci", method, "--level", "0.9"]
    assert main(asked) == 0
    told = capsys.readouterr().out.split("Confidence intervals (")[1].splitlines()
    assert told[0].lower() == f"{method}, 90 %):"
    assert told[1].split() == ["term", "5", "%", "95", "%"]
    assert [line.split()[0] for line in told[2:]] == list(limits.index)
    assert told[-1].split()[-2:] == [f"{limit:.4g}" for limit in limits.iloc[-1]]
    assert main([*asked, "--json"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert [row["conf_low"] for row in read["confint"]] == limits["5 %"].tolist()
    table = hlm.fit(SLEEP, hlm.load_dataset("sleepstudy")).tidy(conf_level=0.9)
    assert read["table"][0]["conf_high"] == table["conf_high"][0]


@pytest.mark.parametrize("method", ["wald", "profile"])
def test_files_hold_the_limits_that_are_asked_for(tmp_path, monkeypatch, capsys, method):
    """Of every parameter that has some, whatever df the p values have."""
    monkeypatch.chdir(tmp_path)
    hlm.load_dataset("sleepstudy").to_csv("d.csv", index=False)
    fit = hlm.fit(SLEEP, hlm.load_dataset("sleepstudy"))
    limits = fit.confint(method, 0.9)
    asked = ["fit", SLEEP, "d.csv", "--ci", method, "--level", "0.9", "--out"]
    assert main([*asked, "t.csv"]) == 0
    found = pd.read_csv("t.csv").set_index("term")
    own = {
        "sd__(Intercept)": "sd_(Intercept)|Subject",
        "sd__Days": "sd_Days|Subject",
        "cor__(Intercept).Days": "cor_Days.(Intercept)|Subject",
        "sd__Observation": "sigma",
    }
    wanted = limits.reindex([own.get(term, term) for term in found.index])
    np.testing.assert_array_equal(found[["conf_low", "conf_high"]], wanted)
    assert found["conf_low"].notna().sum() == {"wald": 2, "profile": 6}[method]
    np.testing.assert_allclose(
        found["p_value"], fit.tidy("satterthwaite")["p_value"], rtol=tol.SMALL
    )
    capsys.readouterr()
    assert main([*asked, "t.md", "--contrast", "week=7*Days"]) == 0
    printed, shown = capsys.readouterr().out, Path("t.md").read_text(encoding="utf-8")
    for text in (f"{limits.loc['Days'].iloc[0]:.4g}", f"({method}, 90 %)", "week", "Contrasts:"):
        assert text in printed.replace("(Wald", "(wald")
        assert text in shown.replace("(Wald", "(wald")
    assert main([*asked, "t.csv", "--contrast", "week=7*Days"]) == 2
    assert "without the limits of --ci: leave one of them out" in capsys.readouterr().err


@pytest.mark.parametrize("more", [["a.csv", "b.csv"], ["a.csv", "--no-such"]])
def test_arguments_that_are_not_known(capsys, more):
    with pytest.raises(SystemExit) as stopped:
        main(["fit", SLEEP, "--ml", *more])
    assert stopped.value.code == 2
    assert f"unrecognized arguments: {more[1]}" in capsys.readouterr().err.replace("a.csv ", "")


def test_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"jaxhlm {hlm.__version__}\n"


def test_the_table_is_written_by_the_ending_of_its_name(tmp_path, monkeypatch, capsys):
    """Data files hold all digits; documents what is printed of one fit, or of contrasts."""
    monkeypatch.chdir(tmp_path)
    data = hlm.load_dataset("sleepstudy")
    data.to_csv("d.csv", index=False)
    one = ["fit", f"Reaction {DESIGN}", "d.csv"]
    fit = hlm.fit(f"Reaction {DESIGN}", data)
    for name, form in (("t.tex", fit.summary("satterthwaite").to_latex()),
                       ("t.md", fit.summary("satterthwaite").to_markdown())):  # fmt: skip
        assert main([*one, "--out", name]) == 0
        assert Path(name).read_text() == form + "\n"
    assert main([*one, "--df", "none", "--out", "t.html"]) == 0
    page = Path("t.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert '<meta charset="utf-8">' in page
    assert fit.to_html() in page
    assert main([*one, "--contrast", "week=7*Days", "--out", "t.html"]) == 0
    assert f"{7 * fit.fixef['Days']:.4g}</td>" in Path("t.html").read_text(encoding="utf-8")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    capsys.readouterr()
    assert main([*one, "--out", "t.xlsx"]) == 2
    assert "jaxhlm[excel]" in capsys.readouterr().err


def test_excel_files_are_read_and_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = hlm.load_dataset("sleepstudy").astype({"Subject": str})
    data.loc[3, "Reaction"] = np.nan
    write_excel("d.xlsx", data)
    pd.testing.assert_frame_equal(read_table("d.xlsx"), data, check_dtype=False)
    data.to_csv("d.csv", index=False)
    for file, out in (("d.xlsx", "x.xlsx"), ("d.csv", "c.csv")):
        assert main(["fit", f"Reaction {DESIGN}", file, "--out", out]) == 0
    pd.testing.assert_frame_equal(read_table("x.xlsx"), read_table("c.csv"), rtol=tol.LAST_BITS)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "it is empty"),
        ([["x", None], [1, 2]], "column 2 of the first row has no name"),
        ([["x", "x"], [1, 2]], "column 'x' stands twice"),
    ],
)
def test_sheets_that_are_no_tables_are_refused(tmp_path, rows, said):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(tmp_path / "d.xlsx")
    with pytest.raises(FileError, match=said):
        read_table(tmp_path / "d.xlsx")


def test_sheets_keep_types_and_say_what_is_left_out(tmp_path):
    book = openpyxl.Workbook()
    for row in (["n", "x", "g"], [1, None, "a"], [2, 0.5, "=1"], [None] * 3):
        book.active.append(row)
    book.active["C3"].data_type = "s"
    book.create_sheet("more")
    book.save(tmp_path / "d.xlsx")
    with pytest.warns(hlm.JaxhlmWarning, match="first of 2 sheets"):
        frame = read_table(tmp_path / "d.xlsx")
    assert frame["n"].tolist() == [1, 2]
    assert frame["n"].dtype.kind == "i"
    assert np.isnan(frame["x"][0])
    assert frame["g"].tolist() == ["a", "=1"]
    (tmp_path / "cut.xlsx").write_bytes((tmp_path / "d.xlsx").read_bytes()[:500])
    with pytest.raises(FileError, match=r"cannot read .*cut\.xlsx"):
        read_table(tmp_path / "cut.xlsx")


def test_numbers_that_name_samples_are_no_response(files, capsys):
    """In a column of both files, which is in another order; --id may say so."""
    d, Y = samples().assign(sample=np.arange(101, 281)), expression()
    numbered = Y.set_axis(Y.index.str[1:].astype(int) + 101).rename_axis("sample")
    d.to_csv("numbered.csv", index=False)
    numbered.reset_index().to_csv("numbers.csv", index=False)
    numbered.reset_index().to_parquet("numbers.parquet", index=False)
    command = ["fit", DESIGN, "--samples", "numbered.csv", "--contrast", "a week=7*Days"]
    for more in ([], ["--id", "sample"]):
        found = [*command, "--responses", "numbers.csv", "--out", "found.parquet", *more]
        assert main(found) == 0
        table = pd.read_parquet("found.parquet").set_index("response")
        assert "sample" not in table.index
        np.testing.assert_allclose(
            table["estimate"], expected().set_index("response")["estimate"], rtol=tol.ESTIMATE
        )
    assert main([*command, "--responses", "numbers.parquet"]) == 2
    assert (
        "column 'sample' of numbers.parquet is in numbered.csv as well" in capsys.readouterr().err
    )


@pytest.mark.parametrize("more", [[], ["--id", "sample"]], ids=["found", "named"])
def test_names_that_lost_their_zeros_on_the_way(files, capsys, more):
    """001 in the head of one file is text; in a column of the other it is read as a number."""
    d = samples().assign(sample=[f"{i:03d}" for i in range(180)])
    Y = expression().rename(lambda name: name[1:].zfill(3))
    d.sample(frac=1.0, random_state=1).to_csv("padded.csv", index=False)
    Y.T.rename_axis("gene").to_csv("rows.csv")
    command = ["fit", DESIGN, "--samples", "padded.csv", "--responses", "rows.csv"]
    command += ["--responses-in", "rows", "--contrast", "a week=7*Days", "--out", "found.parquet"]
    assert main([*command, *more]) == 0
    table = pd.read_parquet("found.parquet")
    np.testing.assert_allclose(table["estimate"], expected()["estimate"], rtol=tol.ESTIMATE)


def test_contrasts_of_one_fit_say_what_they_are_tested_against(tmp_path, capsys):
    hlm.load_dataset("article").to_csv(tmp_path / "d.csv", index=False)
    command = ["fit", "y ~ x * a + (1 + x | unit)", str(tmp_path / "d.csv"), "--contrast", "a"]
    assert main([*command, "--contrast", "slope=x = 3", "--out", str(tmp_path / "t.csv")]) == 0
    assert "contrast  estimate  null" in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "t.csv")["null"].tolist() == [0.0, 3.0]
    assert main(command) == 0
    assert "null" not in capsys.readouterr().out
