"""Memory of this process: where arrays begin in it, and what nobody uses, back to the system."""

from __future__ import annotations

import ctypes
import math
import sys

import numpy as np

from jaxhlm.core.notation import Floats

__all__ = ["aligned_zeros", "trim_heap"]

# Bytes that the address of an array is a multiple of if JAX's CPU backend is to read it in place.
ALIGNMENT = 64


def aligned_zeros(shape: tuple[int, ...]) -> Floats:
    """Zeros that JAX takes as they are, where it would copy most arrays of NumPy.

    >>> aligned_zeros((3, 5)).ctypes.data % ALIGNMENT
    0
    """
    size = 8 * math.prod(shape)
    raw = np.zeros(size + ALIGNMENT, np.uint8)
    first = -raw.ctypes.data % ALIGNMENT
    return raw[first : first + size].view(float).reshape(shape)


def trim_heap() -> None:
    """Let the C library give back what is free within its heap, where it can (glibc).

    Compiling takes and frees many small pieces, between which what is kept comes to lie: without
    this the process would go on growing though no more of it is used.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)
