"""A progress bar for long work: fits per second, time left, singular and failed counts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxhlm.core.arguments import check_flag
from jaxhlm.core.notation import Ints
from jaxhlm.core.status import Status
from jaxhlm.estimation.pipeline import Report

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn
    from rich.table import Column

__all__ = ["progress_report", "step_progress", "study_progress"]

# Characters of a line in a notebook.
WIDTH = 100
# Letters of a bar: the label beside it, which is cut first, has room in 80 columns.
BAR = 20


@contextmanager
def progress_report(total: int, show: bool | None) -> Iterator[Report | None]:
    """Yield a function to call with the statuses of every finished chunk; None to show nothing.

    Args:
        total: number of fits.
        show: True or False; None shows a bar in a notebook, and where standard error is a terminal.
    """
    if not _wanted(show):
        yield None
        return
    from rich.progress import TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.fields[rate]} fits/s"),
        TimeRemainingColumn(table_column=_whole()),
        TextColumn("{task.fields[singular]:,} singular, {task.fields[failed]:,} failed"),
    )
    with _bars("fitting", *columns) as bar:
        task = bar.add_task("fit", total=total, rate="–", singular=0, failed=0)

        def report(status: Ints) -> None:
            shown = bar.tasks[task]
            failed = len(status) - np.isin(status, _GOOD).sum()
            bar.update(
                task,
                advance=len(status),
                singular=shown.fields["singular"] + int((status == Status.SINGULAR).sum()),
                failed=shown.fields["failed"] + int(failed),
            )
            if shown.elapsed:
                bar.update(task, rate=f"{shown.completed / shown.elapsed:,.0f}")

        yield report


_GOOD = (Status.CONVERGED, Status.SINGULAR)


@contextmanager
def step_progress(
    total: int | None, what: str, show: bool | None
) -> Iterator[Callable[[str], None]]:
    """Yield a function to call with the name of every finished step.

    Args:
        total: number of steps; None where it is not known.
        what: what the steps go along.
        show: as for ``progress_report``.
    """
    if not _wanted(show):
        yield lambda _: None
        return
    from rich.progress import TimeElapsedColumn

    with _bars("{task.description}", TimeElapsedColumn(_whole())) as bar:
        task = bar.add_task(what, total=total)
        yield lambda name: bar.update(task, advance=1, description=f"{what} = {name}")


@contextmanager
def study_progress(
    total: int, each: int, show: bool | None
) -> Iterator[Callable[[int, int, str], None]]:
    """Two bars: the whole study, and the condition whose chunk was finished last.

    Args:
        total: number of data sets.
        each: number of data sets of a condition.
        show: as for ``progress_report``.

    Yields:
        A function of a finished chunk: its condition, its number of data sets, and a label.
    """
    if not _wanted(show):
        yield lambda condition, count, label: None
        return
    from rich.progress import TimeRemainingColumn

    done: dict[int, int] = {}
    with _bars("{task.description}", TimeRemainingColumn(table_column=_whole())) as bar:
        overall = bar.add_task("all data sets", total=total)
        part = bar.add_task("", total=each)

        def report(condition: int, count: int, label: str) -> None:
            done[condition] = done.get(condition, 0) + count
            bar.update(overall, advance=count)
            bar.update(part, completed=done[condition], description=label)

        yield report


def _wanted(show: bool | None) -> bool:
    if show is None:
        return sys.stderr.isatty() or _in_notebook()
    check_flag("progress", show)
    return show


def _in_notebook() -> bool:
    """Whether a notebook's kernel runs this code; IPython in a terminal is a terminal."""
    module = sys.modules.get("IPython")
    shell = None if module is None else module.get_ipython()
    return shell is not None and hasattr(shell, "kernel")


@contextmanager
def _bars(text: str, *columns: ProgressColumn) -> Iterator[Progress]:
    """Bars that leave a terminal or a notebook clean, while a log keeps their last line."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress

    every = (_label(text), BarColumn(BAR), MofNCompleteColumn(table_column=_whole()), *columns)
    if _in_notebook():
        with _notebook_bars(*every) as bar:
            yield bar
        return
    console = Console(stderr=True, force_jupyter=False)
    with Progress(*every, console=console, transient=console.is_terminal) as bar:
        yield bar


def _whole() -> Column:
    """What keeps its width where a line is too narrow: numbers that are cut are other numbers."""
    from rich.table import Column

    return Column(no_wrap=True)


def _label(text: str) -> ProgressColumn:
    """A column of text that is cut, with the bar beside it, where a line is too narrow."""
    from rich.progress import Task, TextColumn
    from rich.table import Column
    from rich.text import Text

    class Label(TextColumn):
        def render(self, task: Task) -> Text:
            found = super().render(task)
            found.no_wrap, found.overflow = True, "ellipsis"
            return found

    # Brackets are those of names, as in beta[x].
    return Label(text, markup=False, table_column=Column())


@contextmanager
def _notebook_bars(*columns: ProgressColumn) -> Iterator[Progress]:
    """Bars in the output of a cell, drawn anew where they are; rich's own need ipywidgets."""
    from io import StringIO
    from threading import Event, Thread

    from IPython.display import HTML, display
    from rich.console import Console
    from rich.progress import Progress

    bar = Progress(*columns, disable=True)

    def drawn() -> Any:
        console = Console(file=StringIO(), record=True, width=WIDTH, force_jupyter=False)
        console.print(bar.get_renderable())
        return HTML(console.export_html(inline_styles=True, code_format="<pre>{code}</pre>"))

    shown, done = display(drawn(), display_id=True), Event()

    def draw() -> None:
        while not done.wait(0.2):
            shown.update(drawn())

    thread = Thread(target=draw, daemon=True)
    thread.start()
    try:
        yield bar
    finally:
        done.set()
        thread.join()
        shown.update(HTML(""))
