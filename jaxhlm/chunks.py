"""Work over lanes in chunks, on all cores, in order, in bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from jaxhlm.notation import Ints

__all__ = ["LANE_BUCKETS", "MAX_LANES", "as_slice", "in_order", "lane_chunks"]

CHUNK_BYTES = 2**28
MAX_LANES = 4096
# The lane counts that are compiled; others are padded to the next of them.
LANE_BUCKETS = (1, 64, 512, 4096)

C = TypeVar("C")
T = TypeVar("T")


def lane_chunks(B: int, lane_bytes: int) -> Iterator[slice]:
    """Runs of lanes, as long as the memory bound and ``MAX_LANES`` allow.

    >>> list(lane_chunks(5000, 8))
    [slice(0, 4096, None), slice(4096, 5000, None)]
    >>> list(lane_chunks(1000, 8))
    [slice(0, 512, None), slice(512, 1000, None)]
    >>> [chunk.stop for chunk in lane_chunks(1000, CHUNK_BYTES // 700)]
    [512, 1000]
    """
    most = max(1, min(MAX_LANES, CHUNK_BYTES // lane_bytes))
    # Padding to the bucket above would multiply the work.
    if min(most, B) < MAX_LANES:
        whole = [size for size in (64, 512) if size <= most]
        most = whole[-1] if whole else most
    return (slice(first, min(first + most, B)) for first in range(0, B, most))


def as_slice(lanes: Ints) -> slice | Ints:
    """Consecutive lane numbers as a slice, which indexes without a copy; others as they are.

    >>> as_slice(np.array([3, 4, 5]))
    slice(3, 6, None)
    """
    if len(lanes) and (np.diff(lanes) == 1).all():
        return slice(int(lanes[0]), int(lanes[-1]) + 1)
    return lanes


def in_order(one: Callable[[C], T], chunks: Iterable[C]) -> Iterator[T]:
    """``one`` of every chunk, in order, on as many threads as there are cores.

    NumPy and XLA let go of the GIL. BLAS stays on one thread meanwhile: its own threads would fight
    with these over the cores. Only a few chunks are under way, so that memory stays bounded, and
    the first runs alone, or every thread would compile the same code.
    """
    waiting: deque[Future[T]] = deque()
    rest = iter(chunks)
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        try:
            for first in rest:
                yield one(first)
                break
            for chunk in rest:
                waiting.append(pool.submit(one, chunk))
                if len(waiting) > 2 * (os.cpu_count() or 1):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
