"""Standard output of a command: its encoding, its reader and its end."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TextIO

__all__ = ["Output", "standard_output"]


class Output(io.TextIOBase):
    """Standard output; what nobody reads is dropped, and the command goes on to write its files.

    Attributes:
        unread: whether its reader is gone, as ``head`` is after some lines.
    """

    def __init__(self, stream: TextIO | None) -> None:
        """Print to a stream, or nowhere."""
        self._stream, self.unread = stream, False

    def write(self, text: str) -> int:
        """Print text."""
        if self._stream is not None:
            with self._dropping():
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write out what was printed: a full disk is told here, and not by Python at its exit."""
        if self._stream is not None:
            with self._dropping():
                self._stream.flush()

    def forget(self) -> None:
        """Let go of what cannot be printed: at its exit, Python would try again and tell."""
        if self._stream is None:
            return
        try:
            self._stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    @contextmanager
    def _dropping(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            self.unread = True
            self.forget()


@contextmanager
def standard_output() -> Iterator[Output]:
    """Print what the output's encoding lacks, such as σ or a file's odd name, as its number."""
    output, stream = Output(sys.stdout), sys.stdout
    named = stream if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict" else None
    if named is not None:
        named.reconfigure(errors="backslashreplace")
    try:
        with redirect_stdout(output):
            yield output
    finally:
        if named is not None:
            with suppress(OSError):
                named.reconfigure(errors="strict")
