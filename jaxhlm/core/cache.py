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
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

__all__ = ["cache_directory", "forget_cache", "kept_compilation"]

# JAX keeps what took a second to compile; half of our compilations take less.
WORTH_KEEPING_SECONDS = 0.1
# Directories in which something could not be read or written; JAX would warn every time.
_broken: set[Path] = set()


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
    if directory in (None, *_broken) or jax.config.values["jax_compilation_cache_dir"]:
        yield
        return
    before = {name: jax.config.values[name] for name in _OURS}
    _set({**_OURS, "jax_compilation_cache_dir": str(directory)})
    try:
        yield
    finally:
        _set({**before, "jax_compilation_cache_dir": None})


def forget_cache() -> None:
    """Keep no more compiled code in this process: the directory is damaged, or full."""
    if directory := cache_directory():
        _broken.add(directory)


# An error can be caught, JAX's warning could only be muted for all of the process.
_OURS = {
    "jax_persistent_cache_min_compile_time_secs": WORTH_KEEPING_SECONDS,
    "jax_raise_persistent_cache_errors": True,
}


def _set(values: dict[str, Any]) -> None:
    """Direct JAX's cache; it looks at its settings once, so it is reset."""
    for name, value in values.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
