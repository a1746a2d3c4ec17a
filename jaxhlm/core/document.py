"""What is printed, lines of text and tables of cells, as plain text, HTML, Markdown and LaTeX.

A result says once what it consists of (``Printed._blocks``); how that looks in a terminal, a
notebook, a report or a paper is decided here.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any, Literal, TypeAlias

import pandas as pd

__all__ = [
    "RULE",
    "WIDTH",
    "Align",
    "Block",
    "Grid",
    "Printed",
    "as_html",
    "as_latex",
    "as_markdown",
    "as_page",
    "as_text",
    "described",
    "filled",
    "framed",
    "grid_of",
]

Align: TypeAlias = Literal["left", "right", "center"]


@dataclass(frozen=True)
class Grid:
    """A table of cells, which are text.

    Attributes:
        columns: (m,) headers.
        rows: cells, m in each row.
        names: of the rows, on their left; None for none.
        align: of the cells of all columns, or of each; in plain text, which knows "left" of all
            and "right", they are centred by the blanks that they bring along.
        headings: numbers of rows whose name is a heading of the rows below.
        plain: the table in plain text, where that is not laid out here.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    names: Sequence[str] | None = None
    align: Align | Sequence[Align] = "right"
    headings: Sequence[int] = ()
    plain: str | None = None

    def __str__(self) -> str:
        """Cells under aligned headers, row names on the left."""
        if self.plain is not None:
            return self.plain
        table = [list(map(_one_line, row)) for row in (self.columns, *self.rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        names = ["", *map(_one_line, self.names or [""] * len(self.rows))]
        margin = max(map(len, names))
        justify = str.ljust if self.align == "left" else str.rjust
        lines = (
            f"{name.ljust(margin)} {' '.join(map(justify, row, widths))}".rstrip()
            for name, row in zip(names, table, strict=True)
        )
        return "\n".join(lines)

    @property
    def aligned(self) -> list[Align]:
        """(m,) of the cells of each column."""
        if isinstance(self.align, str):
            return [self.align] * len(self.columns)
        return list(self.align)

    @property
    def aligned_lines(self) -> list[Align]:
        """Of the cells of each column of ``lines``, that of the names too."""
        names: list[Align] = [] if self.names is None else ["left"]
        return [*names, *self.aligned]

    @property
    def lines(self) -> list[list[str]]:
        """Headers and rows with their names in front, without blanks around."""
        table = [self.columns, *self.rows]
        if self.names is not None:
            table = [[name, *row] for name, row in zip(["", *self.names], table, strict=True)]
        return [[_one_line(cell).strip() for cell in row] for row in table]


def _one_line(cell: str) -> str:
    """A cell without line breaks, which a name may hold: they would tear its row in two."""
    return " ".join(cell.splitlines())


# A line under a table, in plain text.
RULE = "---"
# Columns of a page of plain text.
WIDTH = 80
# What stands together: lines of text and tables.
Block: TypeAlias = Sequence[str | Grid]


class Printed(ABC):
    """A result that is printed, and shown in notebooks as tables."""

    @abstractmethod
    def _blocks(self) -> list[Block]:
        """What is shown, from top to bottom."""

    def __str__(self) -> str:
        """As plain text."""
        return as_text(self._blocks())

    def __repr__(self) -> str:
        """As R, and pandas, show what is asked for."""
        return str(self)

    def _repr_html_(self) -> str:
        """What notebooks show."""
        return as_html(self._blocks())


def framed(
    frame: pd.DataFrame,
    style: str = ".4f",
    index: bool = True,
    most: int | None = None,
    **options: Any,
) -> Grid:
    """A data frame as a table; in plain text as pandas prints it.

    Args:
        frame: whose index is the names of the rows.
        style: of numbers with decimals, as ``format`` has it; missing ones stay blank, and those
            that are rounded to zero have no sign.
        index: whether to show the index.
        most: rows to show, half of them from the end; None for all.
        options: of ``DataFrame.to_string``.
    """
    # As a function: pandas calls it for numbers among objects.
    options |= {
        "float_format": f"{{:z{style}}}".format,
        "na_rep": "",
        "index": index,
        "max_rows": most,
    }
    plain = frame.to_string(**options)
    if most is None or len(frame) <= most:
        return replace(grid_of(frame, style, index), plain=plain)
    first, last = (grid_of(part(most // 2), style, index) for part in (frame.head, frame.tail))
    rows = [*first.rows, ["…"] * len(first.columns), *last.rows]
    names = None if first.names is None else [*first.names, "…", *(last.names or ())]
    return Grid(first.columns, rows, names, plain=plain)


def described(told: Mapping[str, str]) -> Grid:
    """What a thing consists of, by name: in plain text a line for each, or as many as it takes.

    >>> print(described({"Rows": "900", "Terms": "x, a"}))
    Rows: 900
    Terms: x, a
    """
    plain = "\n".join(filled(f"{name}: {text}", "  ") for name, text in told.items())
    return Grid([""], [[text] for text in told.values()], [*told], "left", plain=plain)


def filled(text: str, indent: str = "", first: str = "") -> str:
    """Text in lines of ``WIDTH``, the first of which begins otherwise than the others.

    >>> print(filled("fixed effects " + "x = 1, " * 10, "    ", "  "))
      fixed effects x = 1, x = 1, x = 1, x = 1, x = 1, x = 1, x = 1, x = 1, x = 1,
        x = 1,
    """
    return textwrap.fill(
        text, WIDTH, initial_indent=first, subsequent_indent=indent,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def grid_of(frame: pd.DataFrame, style: str, index: bool = True) -> Grid:
    """The cells of a data frame.

    >>> grid_of(pd.DataFrame({"mean": [1.0], "n": [3]}, ["x"]), ".2f").lines
    [['', 'mean', 'n'], ['x', '1.00', '3']]
    """
    if index and frame.index.nlevels > 1:
        return grid_of(frame.reset_index(), style, index=False)
    columns = [" ".join(map(str, c)) if isinstance(c, tuple) else str(c) for c in frame.columns]
    rows = [[_cell(value, style) for value in row] for row in frame.itertuples(index=False)]
    return Grid(columns, rows, [*map(str, frame.index)] if index else None)


def _cell(value: Any, style: str) -> str:
    if pd.isna(value):
        return ""
    return f"{value:z{style}}" if isinstance(value, float) else str(value)


def as_text(blocks: Iterable[Block]) -> str:
    """Blocks with an empty line between."""
    return "\n\n".join("\n".join(map(str, block)) for block in blocks if block)


def as_html(blocks: Iterable[Block]) -> str:
    """A piece of HTML that needs no style sheet, and takes that of the page it is in.

    >>> as_html([["a < b"]])
    '<div>\\n<p style="white-space: pre-wrap; text-align: left">a &lt; b</p>\\n</div>'
    """
    parts = [_html(part) for block in blocks for part in _paragraphs(block)]
    return "\n".join(["<div>", *parts, "</div>"])


PAGE = """\
<!DOCTYPE html>
<html>
<head>
<meta charset="utf-8">
<title>jaxhlm</title>
<style>
body { font-family: sans-serif; margin: 2em }
table { border-collapse: collapse; border-top: 2px solid; border-bottom: 2px solid }
thead { border-bottom: 1px solid }
th, td { padding: 0.15em 0.6em; font-variant-numeric: tabular-nums }
tbody th { font-weight: normal }
</style>
</head>
<body>
%s
</body>
</html>"""


def as_page(blocks: Iterable[Block]) -> str:
    """A whole HTML page, which opens by itself."""
    return PAGE.replace("%s", as_html(blocks))


def _html(part: str | Grid) -> str:
    if isinstance(part, str):
        return f'<p style="white-space: pre-wrap; text-align: left">{escape(part, quote=False)}</p>'
    first, *rest = ([escape(cell, quote=False) for cell in row] for row in part.lines)
    named = part.names is not None
    styles = [f' style="text-align: {align}"' for align in part.aligned]

    def row(cells: Sequence[str], tag: str) -> str:
        head = f'<th style="text-align: left">{cells[0]}</th>' if named else ""
        rest = zip(styles, cells[named:], strict=True)
        return f"<tr>{head}{''.join(f'<{tag}{style}>{c}</{tag}>' for style, c in rest)}</tr>"

    body = [
        f'<tr><th colspan="{len(first)}" style="text-align: left"><em>{cells[0]}</em></th></tr>'
        if number in part.headings
        else row(cells, "td")
        for number, cells in enumerate(rest)
    ]
    head = f"<thead>\n{row(first, 'th')}\n</thead>"
    return "\n".join(["<table>", head, "<tbody>", *body, "</tbody>", "</table>"])


def as_markdown(blocks: Iterable[Block]) -> str:
    """Paragraphs, and tables of GitHub's Markdown.

    >>> print(as_markdown([["x_1:", Grid(["a"], [["1"]])]]))
    x\\_1:
    <BLANKLINE>
    | a   |
    |----:|
    | 1   |
    """
    return "\n\n".join(_markdown(part) for block in blocks for part in _paragraphs(block))


def _markdown(part: str | Grid) -> str:
    if isinstance(part, str):
        # Two blanks end a line but not the paragraph.
        return "  \n".join(map(_escape_markdown, part.split("\n")))
    lines = [[_escape_markdown(cell) for cell in row] for row in part.lines]
    for number in part.headings:
        lines[number + 1][0] = f"*{lines[number + 1][0]}*"
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    rows = [f"| {' | '.join(map(str.ljust, row, widths))} |" for row in lines]
    marks = {"left": (":", "-"), "right": ("-", ":"), "center": (":", ":")}
    ends = [marks[align] for align in part.aligned_lines]
    rule = [f"{left}{'-' * w}{right}" for (left, right), w in zip(ends, widths, strict=True)]
    return "\n".join([rows[0], f"|{'|'.join(rule)}|", *rows[1:]])


def _escape_markdown(text: str) -> str:
    return re.sub(r"([\\`*_|<\[\]~#$])", r"\\\1", text)


LATEX = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "²": r"\textsuperscript{2}",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "√": r"$\surd$",
    "∂": r"$\partial$",
    "−": r"$-$",
    "×": r"$\times$",
    "‘": "`",
    "’": "'",
} | {mark: f"\\{mark}" for mark in "&%$#_{}"}
# The name of the command is Unicode's; letters that look like Latin ones have none.
GREEK = {mark: unicodedata.name(mark).split()[-1] for mark in "αβγδεζηθικμνξπρστυφχψωΓΔΘΞΠΣΥΦΨΩ"}
LATEX |= {c: f"$\\{name.lower() if c.islower() else name.title()}$" for c, name in GREEK.items()}
LATEX |= {"λ": r"$\lambda$", "Λ": r"$\Lambda$"}
LATEX |= {below: rf"\textsubscript{{{digit}}}" for digit, below in enumerate("₀₁₂₃₄₅₆₇₈₉")}


def as_latex(blocks: Iterable[Block]) -> str:
    r"""Paragraphs, and tables that need the package booktabs.

    >>> print(as_latex([[Grid(["t_1"], [["-0.5"]])]]))
    \begin{tabular}{r}
    \toprule
    t\_1 \\
    \midrule
    $-$0.5 \\
    \bottomrule
    \end{tabular}
    """
    return "\n\n".join(_latex(part) for block in blocks for part in _paragraphs(block))


def _latex(part: str | Grid) -> str:
    if isinstance(part, str):
        return "\\noindent " + " \\\\\n".join(map(_first, part.split("\n")))
    first, *rest = (
        [_first(row[0]), *(_escape_latex(cell) for cell in row[1:])] for row in part.lines
    )
    body = []
    for number, row in enumerate(rest):
        if number in part.headings:
            body += ["\\midrule"] * (number > 0)
            row = [f"\\multicolumn{{{len(first)}}}{{l}}{{\\emph{{{row[0]}}}}}"]
        body.append(" & ".join(row) + r" \\")
    head = [" & ".join(first) + r" \\", r"\midrule"] if any(first) else []
    rows = [r"\toprule", *head, *body, r"\bottomrule"]
    return "\n".join([rf"\begin{{tabular}}{{{_latex_columns(part)}}}", *rows, r"\end{tabular}"])


def _latex_columns(grid: Grid) -> str:
    """How columns are aligned; those of text that is wider than a page go on in further lines."""
    wide = [max(map(len, column)) > WIDTH for column in zip(*grid.lines, strict=True)]
    paragraph = f"p{{{0.7 / max(sum(wide), 1):.2g}\\linewidth}}"
    columns = zip(wide, grid.aligned_lines, strict=True)
    return "".join(paragraph if is_wide else align[0] for is_wide, align in columns)


def _escape_latex(text: str) -> str:
    """Text as LaTeX prints it, with minus signs before numbers, where it has hyphens in names.

    >>> print(_escape_latex("a_b & c"), _escape_latex("-1.5 [-3, -.5]"), _escape_latex("p<2e-16"))
    a\\_b \\& c $-$1.5 [$-$3, $-$.5] p\\textless{}2e-16
    >>> print(_escape_latex("pre-1 2020-01 (a)-1"))
    pre-1 2020-01 (a)-1
    """
    signed = re.sub(r"(?<![\w)\]}.-])-(?=\.?\d)", "−", text)
    return "".join(LATEX.get(mark, mark) for mark in signed)


def _first(text: str) -> str:
    """Text that begins a line: a bracket or star would belong to the end of the line before.

    >>> print(_first("[mg] dose"), _first("* p < 0.05"), _first("dose [mg]"))
    {[}mg] dose {*} p \\textless{} 0.05 dose [mg]
    """
    return re.sub(r"^\s*([\[*])", r"{\1}", _escape_latex(text))


def _paragraphs(block: Block) -> list[str | Grid]:
    """Lines that follow each other as one text, tables as they are; no rules of plain text."""
    parts: list[str | Grid] = []
    for part in block:
        if part == RULE:
            continue
        if isinstance(part, str) and parts and isinstance(parts[-1], str):
            parts[-1] += f"\n{part}"
        else:
            parts.append(part)
    return parts
