"""Processes: a fork after JAX was used is refused, not hung; all other ways work."""

import json
import os
import subprocess
import sys

import jax
import pytest

import tolerances as tol
from jaxhlm.core import processes
from jaxhlm.core.streams import random_key
from jaxhlm.errors import ForkedProcessError, JaxhlmError
from places import TESTS

SCRIPT = TESTS / "core" / "many_processes.py"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="no fork on this system")
def test_processes_of_every_kind():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(SCRIPT)], capture_output=True, text=True, timeout=300,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    found, expected = answer["found"], answer["found"]["here"]
    refused = found.pop("fork")
    assert refused.startswith("ForkedProcessError: ") and "spawn" in refused
    assert found.pop("one, forked") == pytest.approx(answer["one"], rel=tol.SUMMED)
    for name in ("threads", "coroutines"):
        assert found.pop(name) == pytest.approx([expected] * (4 if name == "threads" else 3))
    assert set(found) == {"here", "forked before", "forkserver", "spawn"}
    assert list(found.values()) == pytest.approx([expected] * 4)


def test_a_lost_process_says_what_to_do(monkeypatch):
    monkeypatch.setattr(processes, "_STATE", processes._State(used=True))
    processes._after_fork()
    with pytest.raises(ForkedProcessError, match="get_context\\('spawn'\\)"):
        random_key(jax.random.key(1))
    assert issubclass(ForkedProcessError, JaxhlmError)
