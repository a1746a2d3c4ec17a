"""float64 and JAX's own rules inside the library's calls, whatever the user has set outside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import jax

__all__ = ["own_rules"]


@contextmanager
def own_rules() -> Iterator[None]:
    """Switch float64 on for the calls within, and the user's checks of shapes, types and NaN off.

    Lanes that fail are NaN on purpose, and lanes last broadcast against matrices on purpose.
    """
    with ExitStack() as rules:
        rules.enter_context(jax.enable_x64(True))
        rules.enter_context(jax.debug_nans(False))
        rules.enter_context(jax.numpy_rank_promotion("allow"))
        rules.enter_context(jax.numpy_dtype_promotion("standard"))
        yield
