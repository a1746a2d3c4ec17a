"""The look of all figures: readable at the width of a printed column, and by the colour-blind."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import product
from os.path import commonprefix
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxhlm.core.files import write_atomically
from jaxhlm.core.notation import Floats
from jaxhlm.errors import JaxhlmError, OptionError

try:
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox
except ModuleNotFoundError as error:
    raise JaxhlmError('figures need matplotlib: pip install "jaxhlm[plot]"') from error

__all__ = [
    "COLUMN",
    "GREY",
    "INK",
    "LETTERS",
    "STYLE",
    "canvas",
    "has_series",
    "legend_above",
    "literal",
    "name_points",
    "panels",
    "series",
    "shortened",
    "split",
    "split_if_several",
    "told_apart",
    "wrap",
    "write",
]

# Okabe & Ito (2008), Color Universal Design; yellow is left out, too light for lines on white.
INK = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (3, 1)), (0, (1, 1)))
GREY = "#6E6E6E"
COLUMN = 3.5  # inches: 89 mm, one column of most journals
LETTERS = 58  # of 8 points, in one column
HANDLE = 7  # letters that the line beside a label takes, with the space around it
# Names are put at the first of these distances, in points, where they cover nothing.
AWAY = tuple(
    product((3.0, 10.0, 18.0, 28.0, 40.0), (0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0), (1.0, -1.0))
)
NAME = 20  # letters of a point's name
POINTS_OF_LINE, OWN_POINT = 41, 4.0  # places on a line; pixels about the point that it is of
BESIDE = 1.25  # width of the axes with their tick labels, over that of the axes alone

# Type 42 keeps text as text in PDF and PS.
STYLE: dict[str, Any] = {
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.labelsize": 8.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "legend.title_fontsize": 8.0,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.0,
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "savefig.dpi": 300,
}


@contextmanager
def canvas(ax: Axes | None, height: float = 2.6, width: float = COLUMN) -> Iterator[Axes]:
    """Axes to draw on: those given, in the user's style, or new ones in ours.

    Args:
        ax: axes, or None.
        height, width: of a new figure, in inches.

    Example:
        >>> with canvas(None) as axes:
        ...     _ = axes.plot([0, 1])
        >>> axes.figure.get_size_inches().tolist()
        [3.5, 2.6]
    """
    with panels(None if ax is None else [ax], 1, height, width) as (axes,):
        yield axes


@contextmanager
def panels(
    ax: Axes | Sequence[Axes] | None,
    count: int,
    height: float = 2.4,
    width: float | None = None,
    columns: int | None = None,
    **shared: Any,
) -> Iterator[list[Axes]]:
    """``count`` axes side by side, or in rows.

    Args:
        ax: that many axes, or None.
        count: number of panels.
        height, width: of a row of a new figure, and of all of it; by default one printed column
            wide, or two.
        columns: axes in a row; by default all.
        shared: ``sharex`` and ``sharey`` of new axes.

    Raises:
        OptionError: another number of axes was given.
    """
    if ax is not None:
        given = [ax] if isinstance(ax, Axes) else list(np.ravel(np.asarray(ax, dtype=object)))
        if len(given) != count:
            raise OptionError(f"this figure has {count} panel(s); ax holds {len(given)}")
        yield given
        return
    columns = min(columns or count, count)
    rows = -(-count // columns)
    size = (width or COLUMN * min(columns, 2), height * rows)
    # Before the style is set: the first figure loads the backend, and what that sets, such as
    # that a notebook shows figures by itself, would be put back with the style.
    figure = plt.figure(figsize=size, layout="constrained")
    with plt.rc_context(STYLE):
        grid = figure.subplots(rows, columns, squeeze=False, **shared).ravel()
        for axes in grid[count:]:
            axes.remove()
        new = list(grid[:count])
        for axes in new:
            # Ticks are made when the figure is drawn, with the style of that moment.
            axes.tick_params(labelsize=STYLE["font.size"])
        try:
            yield new
        except BaseException:
            plt.close(figure)
            raise


def series(i: int) -> dict[str, Any]:
    """Colour, marker and line of series i, told apart without colour too.

    >>> series(1)["marker"]
    's'
    """
    k = i % len(INK)
    return {"color": INK[k], "marker": MARKERS[k], "linestyle": LINES[k]}


def write(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as PDF and PNG, and close it.

    Args:
        figure: a matplotlib figure.
        stem: path without suffix.

    Returns:
        The files.
    """
    files = {kind: stem.with_name(f"{stem.name}.{kind}") for kind in ("pdf", "png")}
    for kind, file in files.items():
        drawn = io.BytesIO()
        figure.savefig(drawn, format=kind, dpi=STYLE["savefig.dpi"])
        # On a full disk matplotlib raises what is no OSError.
        write_atomically(file, partial(Path.write_bytes, data=drawn.getvalue()))
    plt.close(figure)
    return list(files.values())


def legend_above(axes: Axes, **options: Any) -> Legend:
    """A legend above the data, in as many columns as fit.

    It ends where the axes end on the right, and so has the space over the tick labels too.
    """
    widths = [len(label) + HANDLE for label in axes.get_legend_handles_labels()[1]]
    letters = int(LETTERS * BESIDE * axes.bbox.width / axes.figure.dpi / COLUMN)
    columns = len(widths) if sum(widths) <= letters else max(letters // max(widths), 1)
    return axes.legend(
        loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=columns, borderpad=0.1,
        columnspacing=1.2, handletextpad=0.5, **options,
    )  # fmt: skip


def literal(name: object) -> str:
    r"""A name as matplotlib draws it, which else reads mathematics between two dollars.

    >>> print(literal("$5 to $9"), literal(literal("$")))
    \$5 to \$9 \$
    """
    return re.sub(r"(?<!\\)\$", r"\\$", str(name))


def wrap(label: object, width: int = 28) -> str:
    """A label broken into lines.

    >>> wrap("restricted maximum likelihood, Kenward-Roger", 20).split("\\n")
    ['restricted maximum', 'likelihood, Kenward-', 'Roger']
    """
    return literal("\n".join(textwrap.wrap(str(label), width)) or label)


def shortened(label: object, width: int = 28) -> str:
    """A label on one line, without its middle where it is too long.

    >>> shortened("ENSG00000139618 of the second batch", 20)
    'ENSG00000…cond batch'
    """
    text, half = str(label), (width - 1) // 2
    return text if len(text) <= width else f"{text[:half]}…{text[half + 1 - width :]}"


def told_apart(labels: Iterable[object], width: int = 28) -> list[str]:
    """Labels on one line each, shortened as far as they stay different.

    Where their middle is what tells them apart, it is what all begin with that goes.

    >>> told_apart(["Oxford, ward 10, mornings", "Oxford, ward 12, mornings"], 16)
    ['…10, mornings', '…12, mornings']
    """
    texts = [str(label) for label in labels]
    # The rule is for paths; whole words of it.
    alike = len(re.sub(r"[^\W_]+$", "", commonprefix(texts)))  # noqa: RUF071
    for tried in (texts, [f"…{text[alike:]}" for text in texts]):
        short = [shortened(text, width) for text in tried]
        if len(set(short)) == len(set(texts)):
            return list(map(literal, short))
    return list(map(literal, texts))


def has_series(frame: pd.DataFrame, by: str) -> bool:
    """Whether there is a column ``by`` with several values."""
    return by in frame.columns and frame[by].nunique() > 1


def split(frame: pd.DataFrame, by: str | None) -> list[tuple[Hashable, pd.DataFrame]]:
    """Names and rows of the series in order of appearance; a nameless one if ``by`` is None."""
    return [("", frame)] if by is None else [*frame.groupby(by, sort=False, observed=True)]


def split_if_several(frame: pd.DataFrame, by: str) -> list[tuple[Hashable, pd.DataFrame]]:
    """The same; a nameless one unless there is a column ``by`` with several values."""
    return split(frame, by if has_series(frame, by) else None)


def name_points(
    axes: Axes,
    x: Floats,
    y: Floats,
    names: Sequence[Hashable],
    drawn: Sequence[Floats] = (),
) -> None:
    """Name points where the names cover neither each other nor these points, nor lines to names.

    Args:
        axes: where the points are.
        x, y, names: of the points.
        drawn: (m, 2) places of each other thing that names should not cover either.
    """
    axes.figure.draw_without_rendering()
    points = axes.transData.transform(np.column_stack([x, y]))
    taken = _Taken(
        [Bbox.from_bounds(a - 2, b - 2, 4, 4) for a, b in points],
        [],
        [axes.transData.transform(places) for places in drawn],
    )
    for at, name in zip(zip(x, y, strict=True), told_apart(names, NAME), strict=True):
        text = axes.annotate(
            name, at, (0, 0), textcoords="offset points", va="center", fontsize=6.5
        )
        # Or a long name would make the axes narrower.
        text.set_in_layout(False)
        _place(axes, text, taken)


class _Taken(NamedTuple):
    """What is there already: points, names, and (m, 2) places along lines and other points."""

    points: list[Bbox]
    names: list[Bbox]
    lines: list[Floats]

    def cost(self, box: Bbox, line: Floats) -> float:
        """How much a name and its line would cover, and be struck by."""
        covered = sum(box.overlaps(other) for other in (*self.points, *self.names))
        struck = sum(_inside(other, line) for other in self.names)
        struck += sum(_inside(box, other) for other in self.lines)
        return 4.0 * covered + 2.0 * struck + sum(_inside(other, line) for other in self.points)


def _place(axes: Axes, text: Annotation, taken: _Taken) -> None:
    """Move a name to the first place that is free, or the best; a line goes to it from far away."""
    point = axes.transData.transform(text.xy)

    def at(place: tuple[float, float, float]) -> tuple[Bbox, Floats]:
        away, up, side = place
        text.set(position=(side * away, up * away), ha="left" if side > 0 else "right")
        box = text.get_window_extent()
        start = box.x0 if side > 0 else box.x1, 0.5 * (box.y0 + box.y1)
        along = np.linspace(point, start, POINTS_OF_LINE)
        # Not where the point itself is.
        far = np.abs(along - point).max(axis=1) > OWN_POINT
        return box, along[far] if away > AWAY[0][0] else along[:0]

    best, least = AWAY[0], np.inf
    for place in AWAY:
        box, line = at(place)
        frame = axes.bbox
        within = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0
        cost = taken.cost(box, line) if within and box.y1 <= frame.y1 else np.inf
        if cost < least:
            best, least = place, cost
        if cost == 0.0:
            break
    box, line = at(best)
    taken.names.append(box)
    if len(line):
        taken.lines.append(line)
        axes.annotate(
            "", text.xy, text.get_position(), textcoords="offset points",
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.4, "shrinkA": 0.0},
        )  # fmt: skip


def _inside(box: Bbox, points: Floats) -> bool:
    """Whether a box has one of some points (m, 2)."""
    return bool(((points > (box.x0, box.y0)) & (points < (box.x1, box.y1))).all(axis=1).any())
