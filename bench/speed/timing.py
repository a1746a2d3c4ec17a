"""How a workload is timed: answers first, then rounds that alternate with those of lme4."""

import re
import resource
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.speed.peers import Lme4

__all__ = ["REPEATS", "Clock"]

REPEATS = 7


@dataclass
class Clock:
    """Times work in this process, and lme4's beside it if there is a peer."""

    peer: Lme4 | None = None
    _peak: float = 0.0

    def timed(
        self,
        work: Callable[[], Any],
        check: Callable[[Any], dict[str, float]] | None = None,
        repeats: int = REPEATS,
    ) -> tuple[dict[str, float], Any]:
        """Seconds of the first call and the median of warm ones, and what the last returned.

        Results are NumPy arrays, so they are ready. With a peer, ``times`` is the median over the
        rounds of its seconds per fit over ours per call. It is there for the first call only.
        """
        started = time.perf_counter()
        result = work()
        figures = {"first": time.perf_counter() - started}
        if check is not None:
            self._peak = self.peak_mb()
            figures |= check(result)
            _forget_peak()
        warm = []
        for _ in range(repeats):
            result = None  # the memory of one result at a time
            started = time.perf_counter()
            result = work()
            warm.append(time.perf_counter() - started)
            if self.peer:
                self.peer.round()
        figures["seconds"] = statistics.median(warm)
        if self.peer:
            theirs = self.peer.seconds()
            figures["times"] = statistics.median(
                [their / our for their, our in zip(theirs, warm, strict=True)]
            )
            figures["lme4 fits/s"] = 1.0 / statistics.median(theirs)
            figures["lme4 peak MB"] = self.peer.peak_mb()
            self.peer.close()
            self.peer = None
        return figures, result

    def peak_mb(self) -> float:
        """The largest resident size of this process, checks left out, in MB."""
        try:
            status = Path("/proc/self/status").read_text(encoding="utf-8")
        except OSError:
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        (now,) = re.findall(r"VmHWM:\s*(\d+) kB", status)
        return max(self._peak, int(now) / 1024)


def _forget_peak() -> None:
    """Let the kernel begin anew with the largest resident size, where it can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
