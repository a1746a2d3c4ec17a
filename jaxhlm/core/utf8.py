"""Text of files, which is UTF-8 or refused with the line."""

from __future__ import annotations

from pathlib import Path

from jaxhlm.errors import JaxhlmError

__all__ = ["decoded"]


def decoded(path: Path, raw: bytes, error: type[JaxhlmError], advice: str) -> str:
    """The text of a file's bytes, a byte-order mark left out.

    Args:
        path: the file, for the message.
        raw: its bytes.
        error: what to raise.
        advice: what to do, at the end of the message.

    >>> decoded(Path("a.csv"), b"\\xef\\xbb\\xbfx", JaxhlmError, "save it as UTF-8")
    'x'
    """
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as found:
        line, byte = raw.count(b"\n", 0, found.start) + 1, raw[found.start]
        raise error(f"{path}:{line}: byte {byte:#04x} is not UTF-8; {advice}") from None
