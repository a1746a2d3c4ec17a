"""Blocks of an array that is too large to be held: the last few that were read are kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any

import numpy as np

__all__ = ["RecentBlocks", "taken"]


class RecentBlocks:
    """Blocks by number; threads that go through all of them together read each once.

    >>> blocks = RecentBlocks(lambda number: [(number, "abc"[number])], 2)
    >>> blocks(0), blocks(1), blocks(0)
    ('a', 'b', 'a')
    """

    def __init__(self, make: Callable[[int], Iterable[tuple[int, Any]]], most: int) -> None:
        """Take how a block is made, after those before it that are made with it; how many stay."""
        self._make = make
        self._most = most
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._lock = Lock()

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return RecentBlocks, (self._make, self._most)

    def __call__(self, number: int) -> Any:
        """One of them."""
        with self._lock:
            if number not in self._kept:
                self._kept.update(self._make(number))
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
            return self._kept[number]


def taken(blocks: Callable[[int], np.ndarray], size: int, first: int, last: int) -> np.ndarray:
    """Consecutive rows of an array whose blocks have ``size`` of them each.

    >>> taken(lambda number: np.arange(3) + 3 * number, 3, 2, 7)
    array([2, 3, 4, 5, 6])
    """
    parts = []
    for number in range(first // size, -(-last // size)):
        start = number * size
        parts.append(blocks(number)[max(first - start, 0) : last - start])
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
