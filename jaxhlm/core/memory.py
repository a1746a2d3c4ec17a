"""Memory of this process that nobody uses, back to the system."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["trim_heap"]


def trim_heap() -> None:
    """Let the C library give back what is free within its heap, where it can (glibc).

    Compiling takes and frees many small pieces, between which what is kept comes to lie: without
    this the process would go on growing though no more of it is used.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)
