"""What is printed, in every form: nothing of a cell is lost or taken for a mark of the form."""

import ast
import html
import re
import sys
from html.parser import HTMLParser

import numpy as np
import openpyxl
import pandas as pd
import pytest

from jaxhlm.core.document import Grid, as_html, as_latex, as_markdown, as_text, described, framed
from jaxhlm.core.exported import Exported
from jaxhlm.errors import FileError, JaxhlmError, OptionError
from places import PACKAGE

NASTY = r"a_b|c & <i>%$#{}~^\ *x* `y`"
GRID = Grid(["n", NASTY], [["7,185", "-0.50"], ["", "(0.156)"], ["<2e-16", "=1+1"]], ["x", "", "z"])


class Shown(Exported):
    """A heading and a table."""

    def _blocks(self):
        return [[f"About {NASTY}", "second line", GRID]]


class Cells(HTMLParser):
    """Text of all cells, by row."""

    def __init__(self, text):
        super().__init__()
        self.rows = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data):
        if self.rows and self.rows[-1] and data != "\n":
            self.rows[-1][-1] += data


def test_html_has_every_cell_and_no_mark_of_theirs():
    text = Shown().to_html()
    assert Cells(text).rows[:4] == GRID.lines
    assert html.escape(f"About {NASTY}\nsecond line", quote=False) in text
    assert "<i>" not in text
    assert Shown()._repr_html_() == text


def strings():
    """What the library may say: all texts in its code that are no docstrings."""
    for path in PACKAGE.rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        said = {node.value for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in said:
                yield node.value


def test_pdflatex_knows_every_letter_that_the_library_may_say():
    """What fontenc's T1 and inputenc have is known to all; ─ is of terminals."""
    letters = {c for text in strings() for c in text if ord(c) > 255} - {*"ŠŽ–…─"}
    assert "Δ" in letters
    assert not [c for c in sorted(letters) if as_latex([[c]]) == as_latex([["x"]]).replace("x", c)]
    assert r"$\lambda$ $\Lambda$ $\beta$ $\Sigma$ x\textsubscript{1}" in as_latex([["λ Λ β Σ x₁"]])


def test_latex_escapes_what_is_special():
    text = Shown().to_latex()
    body = re.sub(r"\\(textbackslash|textasciitilde|textasciicircum|textless|textbar|textgreater)"
                  r"\{\}|\\[&%$#_{}]", "", text)  # fmt: skip
    cell = body.split("About ")[1].split("\\\\")[0]
    assert not set("&%$#_{}~^<>|\\") & set(cell)
    assert "$-$0.50" in text
    assert r"\begin{tabular}{lrr}" in text
    # As many cells in every row.
    rows = [line for line in body.splitlines() if line.endswith(r" \\") and " & " in line]
    assert {row.count(" & ") for row in rows} == {2}


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ("[-3.213, -2.412]", "[−3.213, −2.412]"),
        ("(-0.5)", "(−0.5)"),
        ("-2.813***", "−2.813***"),
        ("0.1 -.5", "0.1 −.5"),
        ("x = -1, a=-2", "x = −1, a=−2"),
        ("cut(x)(-1,-0.5]", "cut(x)(−1,−0.5]"),
        ("2e-16", "2e-16"),
        ("pre-1", "pre-1"),
        ("2020-01-31", "2020-01-31"),
        ("f(x)-1 [a]-1 {b}-1 é-1 --1", "f(x)-1 [a]-1 {b}-1 é-1 --1"),
        ("a - b", "a - b"),
    ],
)
def test_latex_has_minus_signs_before_numbers_and_hyphens_in_names(cell, shown):
    assert as_latex([[Grid(["n"], [[cell]])]]) == as_latex([[Grid(["n"], [[shown]])]])


def test_latex_breaks_text_that_is_wider_than_a_page():
    text = as_latex([[described({"Truth": "x = 1, " * 30, "n": "5"})]])
    assert text.startswith("\\begin{tabular}{lp{0.7\\linewidth}}\n\\toprule\nTruth & x = 1")
    assert r"{rp{0.35\linewidth}p{0.35\linewidth}}" in as_latex(
        [[Grid([*"abc"], [["1", *["x " * 50] * 2]])]]
    )


def test_markdown_has_as_many_cells_in_every_row():
    lines = [line for line in Shown().to_markdown().splitlines() if line.startswith("|")]
    assert len(lines) == 5
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {4}


@pytest.mark.parametrize("mark", ["\n", "\r\n", "\u2028"])
def test_a_line_break_in_a_cell_is_a_blank(mark):
    torn, whole = (Grid([n], [[n]], [n]) for n in (f"dose{mark}[mg]", "dose [mg]"))
    for form in (as_text, as_html, as_latex, as_markdown):
        assert form([[torn]]) == form([[whole]])


def test_headings_span_the_table():
    grid = Grid(["a", "b"], [["", ""], ["1", "2"]], ["Part", "x"], headings=[0])
    assert '<th colspan="3" style="text-align: left"><em>Part</em></th>' in as_html([[grid]])
    assert r"\multicolumn{3}{l}{\emph{Part}} \\" in as_latex([[grid]])
    assert "| *Part* |" in as_markdown([[grid]])
    assert as_text([[grid]]).splitlines() == ["     a b", "Part", "x    1 2"]


def test_excel_holds_numbers_shown_as_printed(tmp_path):
    Shown().to_excel(tmp_path / "t.xlsx")
    sheet = openpyxl.load_workbook(tmp_path / "t.xlsx").active
    assert [[c.value for c in row] for row in sheet.iter_rows()] == [
        [f"About {NASTY}", None, None],
        ["second line", None, None],
        [None, "n", NASTY],
        ["x", 7185, -0.5],
        [None, None, 0.156],
        ["z", "<2e-16", "=1+1"],
    ]
    assert sheet["B4"].number_format == "#,##0"
    assert sheet["C4"].number_format == "0.00"
    assert sheet["C5"].number_format == '"("0.000")"'
    # Text, and no formula.
    assert sheet["C6"].data_type == "s"


def test_names_that_look_like_numbers_are_text_in_excel(tmp_path):
    class Numbered(Exported):
        def _blocks(self):
            grid = Grid(["1.10", "1e5"], [["007", "7,185"]], ["08"], align=["left", "right"])
            return [[grid]]

    Numbered().to_excel(tmp_path / "t.xlsx")
    rows = openpyxl.load_workbook(tmp_path / "t.xlsx").active.iter_rows(values_only=True)
    assert [*rows] == [(None, "1.10", "1e5"), ("08", "007", 7185)]


def test_excel_says_what_it_cannot_hold(tmp_path):
    class Rung(Exported):
        def _blocks(self):
            return [["a\x07b"]]

    with pytest.raises(OptionError, match="Excel has no form"):
        Rung().to_excel(tmp_path / "t.xlsx")
    with pytest.raises(OptionError, match=r"t.csv: an Excel file is named \.xlsx"):
        Shown().to_excel(tmp_path / "t.csv")
    assert not list(tmp_path.iterdir())


def test_without_openpyxl_it_is_said_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(JaxhlmError, match=r"jaxhlm\[excel\]"):
        Shown().to_excel(tmp_path / "t.xlsx")
    with pytest.raises(FileError, match="no folder"):
        Shown().to_excel(tmp_path / "no" / "t.xlsx")


def test_columns_are_aligned_each_in_its_own_way():
    grid = Grid(["Name", "Variance"], [["x", " 2.7"]], align=["left", "right"], plain="as R")
    assert '<td style="text-align: right">2.7</td>' in as_html([[grid]])
    assert '<td style="text-align: left">x</td>' in as_html([[grid]])
    assert r"\begin{tabular}{lr}" in as_latex([[grid]])
    assert "|:-----|---------:|" in as_markdown([[grid]])
    assert as_text([[grid]]) == "as R"


def test_a_number_that_is_rounded_to_zero_has_no_sign():
    frame = pd.DataFrame({"mean": [-1e-9, -0.5, 1e-9, np.nan]})
    told = framed(frame)
    assert [row[0] for row in told.rows] == ["0.0000", "-0.5000", "0.0000", ""]
    assert "-0.0000" not in str(told)
