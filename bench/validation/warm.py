"""Tests collected once in a warm process, from which a fork of its own answers every question.

Importing JAX, pandas and pytest and collecting the tests takes longer than most tests do. So one
process does that, never uses JAX (whose threads a fork would leave behind), and forks: the child
changes its copy of the library, runs some of the tests, and ends at the first that fails.
"""

import gc
import os
import pickle
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import _lru_cache_wrapper
from itertools import zip_longest

import pytest

# Seconds of CPU that a test may take before its mutant counts as killed by hanging.
LIMIT = 60.0


@dataclass
class Reached:
    """What one test took and touched."""

    seconds: float = 0.0
    lines: set[tuple[str, int]] = field(default_factory=set)
    passed: bool = True


class Warm:
    """A pytest plugin that hands the collected tests to ``work`` instead of running them."""

    def __init__(self, work: Callable[["Warm"], None]):
        self.work = work
        self.items: dict[str, pytest.Item] = {}
        self.silence: Callable[[], object] = lambda: None
        self.failed: Callable[[str], None] = lambda name: None

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """In place of pytest's own loop."""
        self.items = {item.nodeid: item for item in session.items}
        plugins = session.config.pluginmanager
        self.silence = lambda: plugins.unregister(name="terminalreporter")
        self.work(self)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Tell whoever waits for a failure."""
        if report.failed:
            self.failed(report.nodeid)

    def run(self, names: Sequence[str], before: Callable[[str], None] = lambda name: None) -> None:
        """Run tests in this process, each after a call of ``before``."""
        for name, after in zip_longest(names, names[1:]):
            before(name)
            item, following = self.items[name], self.items[after] if after else None
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)

    def killer(self, names: Sequence[str], change: Callable[[], None]) -> str | None:
        """The first of these tests that fails after ``change``; None if all pass."""

        def child(send: Callable[[bytes], None]) -> None:
            def failed(name: str) -> None:
                send(name.encode())
                os._exit(1)

            self.failed = failed
            self.silence()
            change()
            self.run(names, before=lambda name: _restart_clock())

        status, answer = _forked(child)
        if status and not answer:
            return "a hang or a crash"
        return answer.decode() or None

    def reach(self, names: Sequence[str], files: Iterable[str]) -> dict[str, Reached]:
        """What each of these tests takes and touches in some source files, run one after another.

        A test that uses what an earlier one has compiled or computed does not touch the lines anew.
        """
        files = frozenset(files)

        def child(send: Callable[[bytes], None]) -> None:
            found: dict[str, Reached] = {}
            now, started = Reached(), 0.0

            def inside(frame: types.FrameType, event: str, _: object) -> object:
                now.lines.add((frame.f_code.co_filename, frame.f_lineno))
                return inside

            def outside(frame: types.FrameType, event: str, _: object) -> object:
                return inside(frame, event, _) if frame.f_code.co_filename in files else None

            def begin(name: str) -> None:
                nonlocal now, started
                now.seconds, started = time.process_time() - started, time.process_time()
                now = found[name] = Reached()
                sys.settrace(outside)

            def failed(name: str) -> None:
                found[name].passed = False

            self.failed = failed
            self.silence()
            threading.settrace(outside)
            started = time.process_time()
            self.run(names, before=begin)
            now.seconds = time.process_time() - started
            sys.settrace(None)
            send(pickle.dumps(found))

        return pickle.loads(_forked(child)[1])


def _forked(child: Callable[[Callable[[bytes], None]], None]) -> tuple[int, bytes]:
    """What a child process answers, and its status; its output is lost."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(ours)
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        try:
            with os.fdopen(theirs, "wb", buffering=0) as pipe:
                child(lambda answer: _write(pipe.fileno(), answer))
        except BaseException:
            os._exit(3)
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        answer = pipe.read()
    return os.waitpid(pid, 0)[1], answer


def _write(fd: int, answer: bytes) -> None:
    while answer:
        answer = answer[os.write(fd, answer) :]


def _restart_clock() -> None:
    """End this process when it takes too long, by its CPU time or, where it sleeps, by ours."""
    signal.setitimer(signal.ITIMER_PROF, LIMIT)
    signal.alarm(int(10 * LIMIT))


def functions_of(file: str) -> list[types.FunctionType]:
    """All functions and methods that a source file has defined."""
    found = (f for f in gc.get_objects() if isinstance(f, types.FunctionType))
    return [f for f in found if f.__code__.co_filename == file]


def become(text: str, module: types.ModuleType, functions: Sequence[types.FunctionType]) -> None:
    """Give a module's functions and constants what another text of its file has for them."""
    code = compile(text, module.__file__ or "", "exec", dont_inherit=True)
    new = {(c.co_qualname, c.co_firstlineno): c for c in _codes(code)}
    for function in functions:
        function.__code__ = new[function.__code__.co_qualname, function.__code__.co_firstlineno]
    for cached in gc.get_objects():
        if isinstance(cached, _lru_cache_wrapper) and "jaxhlm" in str(cached.__module__):
            cached.cache_clear()
    fresh: dict[str, object] = {"__name__": module.__name__, "__file__": module.__file__}
    exec(code, fresh)
    constants = {k: v for k, v in vars(module).items() if isinstance(v, int | float)}
    for name, old in constants.items():
        for other in list(sys.modules.values()):
            if fresh[name] != old and getattr(other, "__dict__", {}).get(name) is old:
                setattr(other, name, fresh[name])


def _codes(code: types.CodeType) -> Iterable[types.CodeType]:
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield inner
            yield from _codes(inner)
