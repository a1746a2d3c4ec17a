"""A progress bar for long work: fits per second, time left, singular and failed counts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from jaxhlm.estimates import Estimates
from jaxhlm.pipeline import Report
from jaxhlm.status import Status

__all__ = ["progress_report"]


@contextmanager
def progress_report(total: int, show: bool | None) -> Iterator[Report | None]:
    """Yield a function to call with every finished chunk, or None when there is nothing to show.

    Args:
        total: number of fits.
        show: True or False; None shows a bar when standard error is a terminal.
    """
    if not (sys.stderr.isatty() if show is None else show):
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = [
        TextColumn("fitting"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]} fits/s"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[singular]:,} singular, {task.fields[failed]:,} failed"),
    ]
    # A terminal is left clean; a log keeps the last line.
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=console.is_terminal) as bar:
        task = bar.add_task("fit", total=total, rate="–", singular=0, failed=0)

        def report(done: Estimates) -> None:
            shown = bar.tasks[task]
            failed = len(done.status) - np.isin(done.status, _GOOD).sum()
            bar.update(
                task,
                advance=len(done.status),
                singular=shown.fields["singular"] + int((done.status == Status.SINGULAR).sum()),
                failed=shown.fields["failed"] + int(failed),
            )
            if shown.elapsed:
                bar.update(task, rate=f"{shown.completed / shown.elapsed:,.0f}")

        yield report


_GOOD = (Status.CONVERGED, Status.SINGULAR)
