"""The command ``jaxhlm info``: versions, devices, where fits run, and where code is kept."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

import jax

from jaxhlm.core.cache import cache_directory
from jaxhlm.core.devices import chosen_devices
from jaxhlm.core.versions import versions

__all__ = ["lines"]

PACKAGES = ("jaxhlm", "jax", "jaxlib", "optax", "numpy", "pandas", "scipy", "formulaic")
UNITS = ("bytes", "kB", "MB", "GB")


def lines() -> Iterator[str]:
    """What ``jaxhlm info`` prints; nothing is changed by looking.

    >>> print(next(lines()).split()[0])
    jaxhlm
    """
    for name, found in versions(PACKAGES).items():
        yield _line(name, found)
    yield _line("python", f"{platform.python_version()} on {platform.machine()}")
    for device in _devices():
        yield _line("device", device)
    cores = os.cpu_count() or 1
    yield _line("cores", f"{cores}, with {_memory()}")
    yield _line("path", _path(cores))
    yield _line("precision", "float64 decides every fit, whatever JAX is set to outside")
    yield _line("cache", _cache())


def _line(name: str, text: str) -> str:
    return f"{name:10} {text}"


def _devices() -> list[str]:
    """JAX's devices, or why it finds none."""
    try:
        return [_device(device) for device in jax.devices()]
    except (RuntimeError, AssertionError) as error:
        # JAX asserts, without a word, that a platform asked for is there.
        asked = f"JAX_PLATFORMS={jax.config.values['jax_platforms']} finds no device"
        (first, *_) = str(error).splitlines() or [asked]
        return [f"none: {first}"]


def _device(device: jax.Device) -> str:
    name = f"{device.device_kind} ({device.platform}:{device.id})"
    limit = (_statistics(device) or {}).get("bytes_limit")
    return f"{name}, {_size(limit)} for JAX" if limit else name


def _statistics(device: jax.Device) -> dict[str, int] | None:
    """The allocator's figures; CPUs and some other devices have none."""
    try:
        return device.memory_stats()
    except (RuntimeError, NotImplementedError):
        return None


def _path(cores: int) -> str:
    """Where many data sets are fitted unless ``devices=`` says otherwise."""
    host = f"the cores: NumPy on {cores} threads, inner loops compiled by JAX"
    try:
        chosen = chosen_devices(None)
    except (RuntimeError, AssertionError):
        return host
    if chosen is None:
        return host
    kinds = ", ".join(str(device) for device in chosen)
    return f"one compiled program on {kinds}; the cores for what it cannot fit"


def _memory() -> str:
    try:
        return _size(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return "memory unknown"


def _cache() -> str:
    """Where compiled code is kept, by the rules of ``jaxhlm.core.cache``."""
    settings = jax.config.values
    if not settings["jax_enable_compilation_cache"]:
        return "off (jax_enable_compilation_cache)"
    theirs, ours = settings["jax_compilation_cache_dir"], cache_directory()
    if theirs:
        return f"{theirs}, JAX's own as you have set it"
    if ours is None:
        return "off (JAXHLM_CACHE)"
    return f"{ours}, {_held(ours)}"


def _held(directory: Path) -> str:
    """How many files a directory holds, and how large they are."""
    if not directory.is_dir():
        return "no folder, so nothing is kept" if directory.exists() else "empty"
    sizes = list(_file_sizes(directory))
    return f"{len(sizes):,} files of {_size(sum(sizes))} in all" if sizes else "empty"


def _file_sizes(directory: Path) -> Iterator[int]:
    """Bytes of every file, those left out that another process removes meanwhile."""
    for folder, _, files in os.walk(directory):
        for name in files:
            try:
                yield (Path(folder) / name).lstat().st_size
            except OSError:
                continue


def _size(count: float) -> str:
    """Bytes for people.

    >>> _size(0), _size(25_300_000), _size(5e12)
    ('0 bytes', '25.3 MB', '5000.0 GB')
    """
    power = 0
    while count >= 1000 and power < len(UNITS) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.1f} {UNITS[power]}" if power else f"{count:.0f} {UNITS[0]}"
