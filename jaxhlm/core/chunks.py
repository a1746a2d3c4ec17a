"""Work over lanes in chunks, on all cores, in order, in bounded memory."""

from __future__ import annotations

import os
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial, wraps
from itertools import chain, islice
from threading import Lock
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np
from threadpoolctl import ThreadpoolController

from jaxhlm.core.cache import forget_cache, kept_compilation
from jaxhlm.core.memory import trim_heap
from jaxhlm.core.notation import Ints
from jaxhlm.core.processes import use_jax

__all__ = [
    "CHUNK_BYTES",
    "MAX_LANES",
    "CompiledByOne",
    "as_slice",
    "chunk_bytes",
    "compiled_groups",
    "compiled_lanes",
    "compiled_sizes",
    "in_order",
    "lane_chunks",
    "on_one_blas_thread",
    "shared_bytes",
    "slices",
]

# What the lanes of one chunk may take, and the part of the free memory that all under way may.
CHUNK_BYTES = 2**26
MEMORY_SHARE = 0.25
# No powers of two from 256 on: arrays of those lengths fall on the same lines of the cache.
COMPILED_LANES = (128, 640, 3840)
# As many as fill compiled programs.
MAX_LANES = 4 * COMPILED_LANES[-1]
# Lengths of arrays of groups below the powers of two.
SHORTEST = (4, 16, 64)
MANY_GROUPS = 16
SOME_GROUPS = 256
# Lanes in multiples of the largest size from which on it is worth its compilation.
WORTH_COMPILING = 3
# Programs of one function that are kept.
MOST_PROGRAMS = 16
# Fewer lanes than this for every core are not worth a second thread.
WORTH_SHARING = 256

C = TypeVar("C")
P = ParamSpec("P")
T = TypeVar("T")


def lane_chunks(B: int, lane_bytes: int, most: int | None = None) -> Iterator[slice]:
    """Runs of lanes of about equal length, within the memory bound and ``most`` or ``MAX_LANES``.

    Where there is work for all cores, every core gets as many runs as the others.
    """
    most = max(1, min(most or MAX_LANES, chunk_bytes() // lane_bytes))
    count, cores = -(-B // most), os.cpu_count() or 1
    if count > 1 or WORTH_SHARING * cores <= B:
        count = -(-count // cores) * cores
    size = -(-B // max(count, 1))
    return slices(B, size)


def slices(B: int, size: int) -> Iterator[slice]:
    """Consecutive runs of B lanes, of ``size`` each but the last, and at least of one.

    >>> [(run.start, run.stop) for run in slices(3, 2)], len(list(slices(3, 0)))
    ([(0, 2), (2, 3)], 3)
    """
    size = max(size, 1)
    return (slice(first, min(first + size, B)) for first in range(0, B, size))


def chunk_bytes() -> int:
    """What one chunk may take: CHUNK_BYTES, less where little memory is free."""
    return min(CHUNK_BYTES, shared_bytes() // (os.cpu_count() or 1))


def shared_bytes() -> int:
    """What all chunks that are under way may take: a part of the free memory."""
    try:
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return CHUNK_BYTES * (os.cpu_count() or 1)
    return int(MEMORY_SHARE * free)


def compiled_sizes(B: int) -> list[int]:
    """Lane counts that are compiled, few different ones, whose sum covers B lanes.

    >>> compiled_sizes(60), compiled_sizes(1250), compiled_sizes(12500)
    ([640], [640, 640], [3840, 3840, 3840, 640, 640])
    """
    _, medium, many = COMPILED_LANES
    full = B // many if WORTH_COMPILING * many <= B else 0
    return [many] * full + [medium] * -(-(B - full * many) // medium)


def compiled_lanes(B: int, groups: int) -> int:
    """Lane count of the program that fits B lanes, of which it may use a part.

    With few lanes, or many groups, a larger one would only have more to copy.

    >>> compiled_lanes(50, 4), compiled_lanes(100_000, 4), compiled_lanes(50, 64)
    (640, 3840, 640)
    >>> compiled_lanes(50, 1024)
    128
    """
    few, medium, many = COMPILED_LANES
    if groups > SOME_GROUPS:
        return few
    return many if groups <= MANY_GROUPS and WORTH_COMPILING * many <= B else medium


def compiled_groups(G: int) -> int:
    """Length of the arrays of groups that is compiled for G: few numbers, and G may vary in each.

    What is added takes memory and hardly any time, as loops end with the last group that is there.

    >>> [compiled_groups(G) for G in (3, 16, 18, 30, 65, 160, 1000)]
    [4, 16, 64, 64, 128, 256, 1024]
    """
    few = next((length for length in SHORTEST if length >= G), 0)
    return few or 2 ** (G - 1).bit_length()


class CompiledByOne:
    """A function that is compiled for every key, by one thread, and released when others crowd in.

    Threads that meet the same key meanwhile wait for what is compiled. A program takes 15 MB or so;
    with more than ``MOST_PROGRAMS`` of them the one that was not used for longest goes.
    """

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        """Take what is to be compiled, and how: options of ``jax.jit``."""
        self._function = function
        self._options = options
        self._programs: OrderedDict[Any, Callable[..., Any]] = OrderedDict()
        self._compiling = Lock()
        self._ordering = Lock()

    def __call__(self, key: Any, *arguments: Any) -> Any:
        """``function(*arguments)``; equal keys promise equal shapes and options.

        Raises:
            ForkedProcessError: as ``use_jax``.
        """
        use_jax()
        if program := self._known(key):
            return program(*arguments)
        with self._compiling:
            program = self._known(key) or self._program()
            try:
                with kept_compilation():
                    result = program(*arguments)
            except Exception:
                # What is kept on disk may be damaged, or the disk full; what else is wrong is so
                # without it too.
                program = self._program()
                result = program(*arguments)
                forget_cache()
            self._keep(key, program)
        return result

    def _program(self) -> Callable[..., Any]:
        # JAX keeps what it has compiled as long as the function, here one of a key alone.
        return jax.jit(partial(self._function), **self._options)

    def _known(self, key: Any) -> Callable[..., Any] | None:
        with self._ordering:
            if key in self._programs:
                self._programs.move_to_end(key)
            return self._programs.get(key)

    def _keep(self, key: Any, program: Callable[..., Any]) -> None:
        with self._ordering:
            self._programs[key] = program
            while len(self._programs) > MOST_PROGRAMS:
                self._programs.popitem(last=False)
        trim_heap()


def as_slice(lane_index: Ints) -> slice | Ints:
    """Consecutive lane numbers as a slice, which indexes without a copy; others as they are.

    >>> as_slice(np.array([3, 4, 5]))
    slice(3, 6, None)
    """
    if len(lane_index) and (np.diff(lane_index) == 1).all():
        return slice(int(lane_index[0]), int(lane_index[-1]) + 1)
    return lane_index


def in_order(one: Callable[[C], T], chunks: Iterable[C]) -> Iterator[T]:
    """``one`` of every chunk, in order, on as many threads as there are cores.

    NumPy and XLA let go of the GIL. Only a few chunks are under way, so that memory stays bounded.
    The threads take over NumPy's error state from the caller. A single chunk needs no other thread.
    """
    rest = iter(chunks)
    first = list(islice(rest, 2))
    if len(first) < 2:
        with _one_blas_thread:
            yield from map(one, first)
        return
    waiting: deque[Future[T]] = deque()
    cores = os.cpu_count() or 1
    with _one_blas_thread, ThreadPoolExecutor(max_workers=cores) as pool:
        try:
            for chunk in chain(first, rest):
                waiting.append(pool.submit(copy_context().run, one, chunk))
                if len(waiting) > 2 * cores:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


class _OneBlasThread:
    """BLAS on one thread while any call is within: its own threads would fight with ours.

    BLAS knows one number for the whole process, so other threads of the user's see it meanwhile.
    The last call to leave puts back what the first has found, in whatever order they end.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._within = 0
        # Looking for libraries takes milliseconds; SciPy brings one of its own when it is imported.
        self._libraries: dict[bool, ThreadpoolController] = {}
        self._limits: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if self._within == 0:
                scipy = "scipy.special" in sys.modules or "scipy.linalg" in sys.modules
                if scipy not in self._libraries:
                    self._libraries[scipy] = ThreadpoolController()
                self._limits = self._libraries[scipy].limit(limits=1, user_api="blas")
            self._within += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._within -= 1
            if self._within == 0:
                self._limits.restore_original_limits()


_one_blas_thread = _OneBlasThread()


def on_one_blas_thread(function: Callable[P, T]) -> Callable[P, T]:
    """``function``, which has BLAS on one thread: its products are too small for more."""

    @wraps(function)
    def alone(*arguments: P.args, **options: P.kwargs) -> T:
        with _one_blas_thread:
            return function(*arguments, **options)

    return alone
