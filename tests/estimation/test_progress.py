"""Progress is shown where a person looks on: in terminals and notebooks, and else not."""

import re
import sys
import time
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from jaxhlm.core.status import Status
from jaxhlm.estimation.progress import progress_report, step_progress, study_progress


@pytest.fixture
def notebook(monkeypatch):
    """A kernel that keeps what cells show."""
    shown = []

    def display(html, display_id):
        assert display_id is True
        shown.append(html)
        return SimpleNamespace(update=shown.append)

    ipython, module = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=object())
    module.display, module.HTML = display, str
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return shown


def until(shown, text):
    """Wait for a bar that says it, a while at most."""
    for _ in range(100):
        if text in re.sub("<[^>]*>", "", shown[-1]):
            return True
        time.sleep(0.05)
    return False


def test_notebooks_show_a_bar_and_take_it_away(notebook, capsys):
    with progress_report(10, None) as report:
        assert until(notebook, "0/10")
        report(np.array([Status.CONVERGED, Status.SINGULAR, Status.NOT_FINITE]))
        assert until(notebook, "1 singular, 1 failed")
        assert until(notebook, "3/10")
    assert notebook[-1] == ""
    assert capsys.readouterr() == ("", "")


def test_a_bar_is_taken_away_after_an_error(notebook):
    with pytest.raises(KeyError), step_progress(3, "n", None) as report:
        report("5")
        assert until(notebook, "n = 5")
        raise KeyError
    assert notebook[-1] == ""


def test_nothing_is_shown_in_a_notebook_that_asks_for_nothing(notebook):
    with progress_report(10, False) as report:
        assert report is None
    assert not notebook


@pytest.mark.parametrize("width", ["80", "200"])
def test_numbers_are_whole_however_narrow_a_terminal_is(width, monkeypatch, capsys):
    """Names are cut, and never read as marks of rich's."""
    monkeypatch.setenv("COLUMNS", width)
    with study_progress(72_000, 6000, True) as report:
        report(1, 3500, "condition 2/12 effect=0.3, units=20, truth=something that is long")
    shown = capsys.readouterr().err
    assert " 3500/72000 " in shown and " 3500/6000 " in shown
    assert ("something that is long" if width == "200" else "…") in shown
    with progress_report(200_000, True) as report:
        report(np.full(123_456, Status.SINGULAR))
    shown = capsys.readouterr().err
    assert "123456/200000" in shown and "123,456 singular, 0 failed" in shown
    with step_progress(3, "beta[x:a]", True) as advance:
        advance("0.3")
    assert "beta[x:a] = 0.3" in capsys.readouterr().err


def test_ipython_in_a_terminal_is_no_notebook(notebook, monkeypatch, capsys):
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", SimpleNamespace)
    with progress_report(10, None) as report:
        assert report is None
    assert not notebook
