"""Compiled code kept between processes, in the user's cache directory.

JAX's persistent compilation cache is global, so it is switched on around the library's own
compilations only, and not at all where the user has given JAX a directory of his own. The
environment variable JAXHLM_CACHE names another directory, or says "off".
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

__all__ = ["cache_directory", "kept_compilation"]

# JAX keeps what took a second to compile; half of our compilations take less.
WORTH_KEEPING_SECONDS = 0.1


def cache_directory() -> Path | None:
    """Where compiled code is kept; None if it is not.

    >>> import os
    >>> before = os.environ.get("JAXHLM_CACHE")
    >>> os.environ["JAXHLM_CACHE"] = "off"
    >>> cache_directory() is None
    True
    >>> _ = os.environ.pop("JAXHLM_CACHE") if before is None else None
    >>> os.environ.update({} if before is None else {"JAXHLM_CACHE": before})
    """
    chosen = os.environ.get("JAXHLM_CACHE", "")
    if chosen.lower() in ("off", "0", "no", "false"):
        return None
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "jaxhlm"
    except RuntimeError:
        return None


@contextmanager
def kept_compilation() -> Iterator[None]:
    """Compile within from and to the user's cache directory."""
    directory = cache_directory()
    if directory is None or jax.config.values["jax_compilation_cache_dir"]:
        yield
        return
    least = jax.config.values["jax_persistent_cache_min_compile_time_secs"]
    _point(directory, WORTH_KEEPING_SECONDS)
    try:
        yield
    finally:
        _point(None, least)


def _point(directory: Path | None, least_seconds: float) -> None:
    """Direct JAX's cache to a directory; it looks at its settings once, so it is reset."""
    jax.config.update("jax_compilation_cache_dir", directory and str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", least_seconds)
    compilation_cache.reset_cache()
