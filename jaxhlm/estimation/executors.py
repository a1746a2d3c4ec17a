"""Chunks of work shared out among the workers of an executor.

A task is a chunk's number and range, with what all chunks of its condition share: pickled once, and
unpickled once by every worker, which keeps what it has prepared and compiled for the next chunk. A
task that fails hands its error back as a result. So whatever an executor raises by itself means
that workers were lost, and never that a task was wrong.

Dask runs again elsewhere what a lost worker had; the numbers of a chunk depend on its seed and
range only, so they are the same wherever and however often it is worked on.
"""

from __future__ import annotations

import pickle
import traceback
from collections import OrderedDict
from collections.abc import (
    Callable,
    Collection,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
    Sized,
)
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Executor,
    Future,
    ThreadPoolExecutor,
    wait,
)
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple, TypeAlias, TypeVar

from jaxhlm.core.arguments import check_flag
from jaxhlm.core.versions import versions
from jaxhlm.errors import DeviceError, ExecutorError, JaxhlmError, OptionError, TaskError
from jaxhlm.storage.folder import Chunk, Folder

__all__ = ["Workers", "Workload", "check_writers", "finished_kept", "workers_of"]

# Tasks that an executor is given ahead of those that it has finished, and those for each worker.
AHEAD, AHEAD_OF_EACH = 64, 2
# Seconds after which it is seen that tasks were cancelled.
CANCELLED_WITHIN = 1.0
# Conditions of which a process keeps what their chunks share.
MOST_SHARED = 8

R = TypeVar("R")
# An executor; or a client of Dask, which is no such thing, but has one.
Workload: TypeAlias = Executor | Any


@dataclass(frozen=True)
class Workers:
    """Who works on chunks.

    Attributes:
        executor: None for this process, one chunk after the other.
        client: Dask's, if the executor is one of Dask.
    """

    executor: Executor | None = None
    client: Any = None

    @property
    def count(self) -> int:
        """How many there are now, as far as the executor tells; 1 or more."""
        if self.client is not None:
            return max(1, sum(self.client.nthreads().values()))
        of_mpi, of_pools = (getattr(self.executor, x, 0) for x in ("num_workers", "_max_workers"))
        return max(1, of_mpi or 0, of_pools or 0)

    def finished(
        self,
        work: Callable[[Any, Any], R],
        shared: Sequence[Any],
        chunks: Iterable[Chunk],
        labels: Sequence[str],
        own: Callable[[Chunk], Any] = lambda chunk: chunk,
        held: Sized = (),
    ) -> Generator[tuple[Chunk, R], None, None]:
        """Chunks, and what ``work`` makes of them, as they are finished.

        Args:
            work: a function of a module, of what a condition's chunks share and of a chunk's own.
            shared: what the chunks of every condition share.
            chunks: those to be worked on.
            labels: what messages call the conditions.
            own: what a chunk's task has beside what is shared.
            held: results that the caller holds back; they count among those under way.

        Raises:
            JaxhlmError: of the class that a task raised, with its label.
            TaskError: a task raised something else.
            ExecutorError: the executor lost workers, or takes no tasks.
        """
        if self.executor is None:
            for chunk in chunks:
                yield chunk, _here(work, shared[chunk.condition], own(chunk), _place(labels, chunk))
            return
        todo, running = iter(chunks), dict[Future[Any], Chunk]()
        packed = _Packed(self, shared, labels)
        try:
            while True:
                room = max(not running, self._ahead() - len(running) - len(held))
                for chunk in islice(todo, room):
                    task = work, packed.of(chunk.condition), own(chunk)
                    running[self.submit(_worked, *task, versions())] = chunk
                if not running:
                    return
                # What is finished is kept before what went wrong is told.
                for future in sorted(_ended(running), key=_went_wrong):
                    chunk = running.pop(future)
                    yield chunk, _result(future, _place(labels, chunk))
        finally:
            for future in running:
                future.cancel()

    @property
    def elsewhere(self) -> bool:
        """Whether they may be other processes."""
        return not isinstance(self.executor, ThreadPoolExecutor | None)

    def in_order(
        self,
        work: Callable[[Any, Any], R],
        shared: Any,
        chunks: Sequence[Chunk],
        own: Callable[[Chunk], Any],
    ) -> Iterator[R]:
        """What ``work`` makes of the chunks of one condition, in their order.

        Raises:
            JaxhlmError: as for ``finished``.
        """
        held: dict[Chunk, R] = {}
        with closing(self.finished(work, [shared], chunks, [""], own, held)) as found:
            for chunk in chunks:
                while chunk not in held:
                    held.update([next(found)])
                yield held.pop(chunk)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """A task under way.

        Raises:
            ExecutorError: the executor is shut down, or broken.
        """
        assert self.executor is not None
        # Dask takes equal calls for one, whose result it may still have: they write no file again.
        options = {} if self.client is None else {"pure": False}
        try:
            return self.executor.submit(function, *arguments, **options)
        except Exception as error:
            raise ExecutorError(f"the executor takes no tasks ({_said(error)})") from error

    def pack(self, thing: Any, where: str) -> Any:
        """What tasks share, as they are given it: bytes, unless workers are threads of this one."""
        if not self.elsewhere:
            return thing
        try:
            packed = _dumps(thing)
        except Exception as error:
            what = where or "what is to be fitted"
            raise OptionError(
                f"{what} cannot be handed to another process ({_said(error)}): define functions "
                "and classes at the top level of a module that workers can import"
            ) from error
        # A task of Dask's, so that it is made again should the worker that has it be lost.
        return packed if self.client is None else self.client.submit(bytes, packed, pure=False)

    def _ahead(self) -> int:
        """Tasks that may be under way, for as many workers as there are now."""
        return max(AHEAD, AHEAD_OF_EACH * self.count)


class _Packed:
    """What chunks share, packed for workers; that of the last few conditions."""

    def __init__(self, workers: Workers, shared: Sequence[Any], labels: Sequence[str]) -> None:
        self._workers, self._shared, self._labels = workers, shared, labels
        self._known: OrderedDict[int, Any] = OrderedDict()

    def of(self, condition: int) -> Any:
        if condition not in self._known:
            thing, label = self._shared[condition], self._labels[condition]
            self._known[condition] = self._workers.pack(thing, label)
            if len(self._known) > MOST_SHARED:
                self._known.popitem(last=False)
        return self._known[condition]


class _Failure(NamedTuple):
    """An error of a task, as a worker hands it back."""

    kind: type[JaxhlmError]
    text: str
    trace: str

    @staticmethod
    def of(error: Exception) -> _Failure:
        trace = "".join(traceback.format_exception(error))
        # A class of the user's may be one that this process cannot make again from a text.
        if isinstance(error, JaxhlmError) and type(error).__module__ == JaxhlmError.__module__:
            return _Failure(type(error), str(error), trace)
        return _Failure(TaskError, _said(error), trace)

    def error(self, where: str) -> JaxhlmError:
        return self.kind(f"{where}: {self.text}")


def workers_of(executor: Workload | None) -> Workers:
    """The workers of an executor, which takes tasks now; this process where there is none.

    Args:
        executor: a ``concurrent.futures.Executor``, or a client of Dask; or None.

    Raises:
        OptionError: it is neither.
        ExecutorError: it is shut down, or broken.
    """
    if executor is None:
        return Workers()
    client: Any = getattr(executor, "_client", executor)
    client = client if hasattr(client, "get_executor") else None
    if client is not None and client.asynchronous:
        raise OptionError("executor= is an asynchronous client of Dask; give a synchronous one")
    if client is not None and not isinstance(executor, Executor):
        executor = client.get_executor()
    if not isinstance(executor, Executor):
        raise OptionError(
            f"executor={executor!r}: give a concurrent.futures.Executor, such as "
            "ProcessPoolExecutor(mp_context=get_context('spawn')), or a Client of Dask"
        )
    workers = Workers(executor, client)
    workers.submit(_nothing)
    return workers


def check_writers(workers_write: bool, executor: Workload | None, out: Any) -> None:
    """Check the wish that workers write.

    Raises:
        OptionError: it is none, or there is nobody, or no folder, to write.
    """
    check_flag("workers_write", workers_write)
    if workers_write and (executor is None or out is None):
        raise OptionError("workers_write=True needs executor= (who writes) and out= (where to)")


@contextmanager
def finished_kept(store: Any) -> Iterator[None]:
    """Where workers or devices are lost, say what is kept in a ``Folder``, if work is in one."""
    try:
        yield
    except (ExecutorError, DeviceError) as error:
        kept = "Give out= to keep what is finished"
        if isinstance(store, Folder):
            done, of = len(store.chunks()), len(store.manifest["chunks"])
            kept = f"{done} of {of} chunks are finished and kept in {store.path}"
            kept += "; go on with resume=True"
        raise type(error)(f"{error}. {kept}") from error


def _here(work: Callable[[Any, Any], R], shared: Any, own: Any, where: str) -> R:
    """A task in this process."""
    try:
        return work(shared, own)
    except Exception as error:
        raise _Failure.of(error).error(where) from error


def _worked(
    work: Callable[[Any, Any], R], packed: Any, own: Any, expected: Mapping[str, str]
) -> R | _Failure:
    """A task, in a worker."""
    try:
        _check_versions(tuple(expected.items()))
        return work(_unpacked(packed) if isinstance(packed, bytes) else packed, own)
    except Exception as error:
        return _Failure.of(error)


@lru_cache(MOST_SHARED)
def _unpacked(packed: bytes) -> Any:
    return pickle.loads(packed)


@lru_cache
def _check_versions(expected: tuple[tuple[str, str], ...]) -> None:
    """Refuse to give other numbers than the process that asks would.

    Raises:
        ExecutorError: this process has other versions.
    """
    here = versions()
    if other := {name: x for name, x in expected if here.get(name) != x}:
        there = {name: here.get(name) for name in other}
        raise ExecutorError(
            f"a worker has the versions {there} where this process has {other}: install the same"
        )


def _ended(running: Collection[Future[Any]]) -> set[Future[Any]]:
    """Tasks that have ended, one or more.

    A pool that another thread shuts down cancels those that wait, of which nobody is told.
    """
    done = set[Future[Any]]()
    while not done:
        done = wait(running, CANCELLED_WITHIN, return_when=FIRST_COMPLETED).done
        done |= {future for future in running if future.cancelled()}
    return done


def _result(future: Future[Any], where: str) -> Any:
    """What a task gave.

    Raises:
        ExecutorError, JaxhlmError: as ``Workers.finished``.
    """
    try:
        found = future.result()
    except CancelledError as error:
        raise ExecutorError(f"the executor was shut down before {where} was worked on") from error
    except Exception as error:
        raise ExecutorError(
            f"the executor lost a worker, or could not hand on a task, while {where} was under way "
            f"({_said(error)}); workers are often killed for want of memory"
        ) from error
    if isinstance(found, _Failure):
        failure = found.error(where)
        failure.add_note(f"In the worker:\n{found.trace}")
        raise failure
    return found


def _place(labels: Sequence[str], chunk: Chunk) -> str:
    """What messages call a chunk."""
    sets = f"data sets {chunk.first} to {chunk.last - 1}"
    return ", ".join(filter(None, (labels[chunk.condition], sets)))


def _went_wrong(future: Future[Any]) -> bool:
    return future.cancelled() or bool(future.exception()) or isinstance(future.result(), _Failure)


def _nothing() -> None:
    """A task for an executor that may be shut down."""


def _said(error: BaseException) -> str:
    """Class and first line of an error."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}".rstrip(": ")


def _dumps(thing: Any) -> bytes:
    """Pickled; functions of a script or a notebook too where cloudpickle is there, as with Dask."""
    try:
        import cloudpickle
    except ModuleNotFoundError:
        return pickle.dumps(thing)
    return bytes(cloudpickle.dumps(thing))
