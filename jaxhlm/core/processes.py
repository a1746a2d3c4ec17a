"""JAX in forked processes: its threads are left behind by a fork, and work in the child would hang.

The hook that notices a fork is ours alone; nothing of the user's process is changed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from jax._src import xla_bridge

from jaxhlm.errors import ForkedProcessError

__all__ = ["use_jax"]


@dataclass
class _State:
    used: bool = False
    lost: bool = False


_STATE = _State()


def use_jax() -> None:
    """Note that JAX is used from here on.

    Raises:
        ForkedProcessError: this process was forked from one that had used it.
    """
    if _STATE.lost:
        raise ForkedProcessError(
            "this process was forked from one that had used JAX, whose threads a fork leaves "
            "behind: what is computed here would never end. Start processes with "
            "multiprocessing.get_context('spawn'), as in "
            "ProcessPoolExecutor(mp_context=get_context('spawn'))"
        )
    _STATE.used = True


def _after_fork() -> None:
    started = getattr(xla_bridge, "backends_are_initialized", lambda: False)
    _STATE.lost = _STATE.lost or _STATE.used or bool(started())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
