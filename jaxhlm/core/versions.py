"""Versions of what is installed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version

__all__ = ["versions"]

# Those whose version may change a number.
LIBRARIES = ("jaxhlm", "jax", "jaxlib", "numpy", "scipy")


@cache
def versions(packages: tuple[str, ...] = LIBRARIES) -> Mapping[str, str]:
    """Versions of packages, "absent" for one that is not installed.

    By default of the libraries that may change a number.

    >>> versions(("no-such-package",))
    {'no-such-package': 'absent'}
    """
    return {name: _version(name) for name in packages}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
