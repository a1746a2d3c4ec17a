"""JAX's settings inside the library's calls: float64 and defaults, whatever the user has set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import jax
from jax._src import core

__all__ = ["any_promotion", "jax_config_scope"]

P = ParamSpec("P")
T = TypeVar("T")

# JAX's context managers, each for this thread only, and what they are set to. Those that a version
# of JAX has not are left out.
_SETTINGS: tuple[tuple[str, Any], ...] = (
    ("enable_x64", True),
    # What random numbers a key gives.
    ("threefry_partitionable", True),
    ("default_prng_impl", "threefry2x32"),
    ("legacy_prng_key", "allow"),
    ("debug_key_reuse", False),
    # Lanes that fail are NaN on purpose, and lanes last broadcast against matrices on purpose.
    ("debug_nans", False),
    ("debug_infs", False),
    ("numpy_rank_promotion", "allow"),
    ("numpy_dtype_promotion", "standard"),
    # NumPy arrays go in and come out at every call.
    ("transfer_guard", "allow"),
    ("thread_guard", False),
    ("disable_jit", False),
    ("no_tracing", False),
    ("check_tracer_leaks", False),
    ("default_matmul_precision", None),
)

# Asked without JAX being started. A version that has no such function may compile for longer.
_traces_nothing = getattr(core, "trace_state_clean", lambda: False)


@contextmanager
def jax_config_scope() -> Iterator[None]:
    """Switch float64 on for the calls within, and the user's checks and choices of draws off."""
    with ExitStack() as scopes:
        for name, value in _SETTINGS:
            manager = getattr(jax, name, None)
            if manager is not None:
                scopes.enter_context(manager(value))
        # Where JAX traces the caller, numbers that are known are computed with at once. Elsewhere
        # only our own programs would be traced so, every constant of theirs compiled by itself.
        if not _traces_nothing():
            scopes.enter_context(jax.ensure_compile_time_eval())
        yield


def any_promotion(function: Callable[P, T]) -> Callable[P, T]:
    """``function``, beyond the user's checks of promotion; its precision is the caller's."""

    @wraps(function)
    def unchecked(*arguments: P.args, **options: P.kwargs) -> T:
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            return function(*arguments, **options)

    return unchecked
