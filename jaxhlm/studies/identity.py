"""What tells a mechanism from another: what defines it, not what it happens to draw."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import jax
import numpy as np
import pandas as pd

from jaxhlm.core.files import checksum
from jaxhlm.studies.mechanism import Mechanism

__all__ = ["identity"]

# Last bits of another machine's arithmetic, a fit's among them, do not count: seven digits do.
BITS = 24
# Data sets by which a mechanism is told that has parts which cannot be read.
DRAWN = 64
# Entries of a class that say where it lies, or nothing that is drawn from.
ASIDE = {
    "__module__", "__dict__", "__weakref__", "__doc__", "__firstlineno__", "__annotations__",
    "__static_attributes__", "__annotate__", "__annotations_cache__", "__annotate_func__",
    "__qualname__", "__slotnames__", "__dataclass_fields__", "__dataclass_params__", "_abc_impl",
}  # fmt: skip


def identity(mechanism: Mechanism) -> dict[str, str]:
    """What tells a mechanism from another: its definition, and a data set that it draws.

    Functions count by their code, which another minor version of Python compiles otherwise, by
    their defaults and by the values that they use from around them; where they lie does not count.
    """
    m, told = mechanism, _Told()
    own = isinstance(m, Mechanism)
    defined = told.of((m.source, m.truth, m.violations, m.template.learned) if own else m)
    frame = m.draw(0, DRAWN if told.unread else 1, 0, rows=True).frame()
    return {
        "formula": m.formula,
        "violations": "; ".join(type(one).__name__ for one in m.violations),
        "definition": defined,
        "first_data_sets": _Told().of(frame),
    }


class _Told:
    """Checksums of values; the same objects are read once, and may refer to themselves."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[Any, str]] = {}
        self.unread = False

    def of(self, value: Any) -> str:
        """A checksum of what a value is."""
        if id(value) not in self.known:
            # The value is kept, so that no other gets its address.
            self.known[id(value)] = value, "itself"
            self.known[id(value)] = value, checksum(*self._parts(value))
        return self.known[id(value)][1]

    def _parts(self, value: Any) -> Iterator[bytes]:
        if isinstance(value, type):
            yield from self._of_type(value)
            return
        yield type(value).__name__.encode()
        for one in self._content(value):
            yield one if isinstance(one, bytes) else self.of(one).encode()

    def _content(self, value: Any) -> Iterator[Any]:
        if isinstance(value, Enum):
            yield value.name.encode()
        elif isinstance(value, float | complex | np.inexact):
            yield _rounded(np.asarray(value))
        elif value is None or value is Ellipsis or isinstance(value, int | str | bytes):
            yield repr(value).encode()
        elif isinstance(value, np.ndarray | np.generic | jax.Array):
            yield from self._of_array(np.asarray(value))
        elif isinstance(value, pd.DataFrame):
            yield value.index
            for place, name in enumerate(value.columns):
                yield name
                yield value.iloc[:, place].array
        elif isinstance(value, pd.Series):
            yield from (value.name, value.index, value.array)
        elif isinstance(value, pd.Categorical):
            yield from (value.categories, value.codes, value.ordered)
        elif isinstance(value, pd.Index | pd.api.extensions.ExtensionArray):
            yield str(value.dtype).encode()
            yield np.asarray(value)
        elif isinstance(value, Mapping):
            for key, one in value.items():
                yield from (key, one)
        elif isinstance(value, tuple | list):
            yield from value
        elif isinstance(value, set | frozenset):
            yield from sorted(self.of(one).encode() for one in value)
        elif isinstance(value, CodeType):
            yield value.co_code
            yield value.co_exceptiontable
            yield value.co_consts
            yield (value.co_names, value.co_varnames, value.co_freevars, value.co_flags)
        elif isinstance(value, FunctionType):
            yield from self._of_function(value)
        elif isinstance(value, MethodType):
            yield from (value.__func__, value.__self__)
        elif isinstance(value, ModuleType | BuiltinFunctionType | np.ufunc):
            yield value.__name__.encode()
            owner = getattr(value, "__self__", None)
            if not isinstance(owner, ModuleType):
                yield owner
        elif isinstance(value, property):
            yield value.fget
        elif isinstance(value, staticmethod | classmethod):
            yield value.__func__
        elif isinstance(value, cached_property):
            yield value.func
        elif not isinstance(value, np.random.RandomState):
            # A RandomState is the one that NumPy shares, which is elsewhere in every process.
            yield type(value)
            yield self._state(value)

    def _of_array(self, values: np.ndarray) -> Iterator[Any]:
        yield f"{values.dtype.str} {values.shape}".encode()
        if values.dtype.hasobject:
            yield values.ravel().tolist()
        elif values.dtype.kind in "fc":
            yield _rounded(values)
        else:
            yield values.tobytes()

    def _of_function(self, function: FunctionType) -> Iterator[Any]:
        if _of_library(function.__module__):
            yield f"{function.__module__}.{function.__qualname__}".encode()
        # A lambda of a library may be one of several of its name.
        yield function.__code__
        yield (function.__defaults__, function.__kwdefaults__)
        for cell in function.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:
                yield b"empty"
        if not _of_library(function.__module__):
            for name in sorted(_names(function.__code__)):
                if name in function.__globals__:
                    yield from (name, function.__globals__[name])

    def _of_type(self, kind: type) -> Iterator[bytes]:
        yield kind.__qualname__.encode()
        if _of_library(kind.__module__):
            yield kind.__module__.encode()
            return
        for name, one in sorted(vars(kind).items()):
            if name not in ASIDE and type(one).__name__ not in (
                "member_descriptor", "getset_descriptor",
            ):  # fmt: skip
                yield name.encode()
                yield self.of(one).encode()
        for base in kind.__bases__:
            yield self.of(base).encode()

    def _state(self, value: Any) -> Any:
        kept = {
            name: one
            for name, one in getattr(value, "__dict__", {}).items()
            if not isinstance(getattr(type(value), name, None), cached_property)
        }
        if is_dataclass(value):
            # What does not count where records are compared does not count here.
            told = {f.name: getattr(value, f.name, None) for f in fields(value) if f.compare}
            aside = {f.name for f in fields(value)} - {*told}
            return told | {name: one for name, one in kept.items() if name not in aside}
        try:
            made = value.__reduce_ex__(4)
        except Exception:
            self.unread = True
            return kept
        if isinstance(made, str):
            return made
        state = kept if kept else made[2] if len(made) > 2 else None
        return [made[:2], state, *(list(one) for one in made[3:5] if one is not None)]


def _names(code: CodeType) -> set[str]:
    inner = (_names(one) for one in code.co_consts if isinstance(one, CodeType))
    return set(code.co_names).union(*inner)


def _rounded(values: np.ndarray) -> bytes:
    if values.dtype.kind == "c":
        return _rounded(np.stack([values.real, values.imag]))
    mantissa, exponent = np.frexp(values.astype(float))
    return (np.ldexp(np.round(mantissa * 2.0**BITS), exponent - BITS) + 0.0).tobytes()


def _of_library(module: str | None) -> bool:
    """Whether a module is told by its name, for its version is in the manifest or is installed."""
    top = (module or "").split(".")[0]
    if top == "__main__":
        return False
    if top == "jaxhlm" or top in sys.stdlib_module_names:
        return True
    file = getattr(sys.modules.get(top), "__file__", None)
    places = {sysconfig.get_paths()[name] for name in ("purelib", "platlib")}
    return file is not None and any(Path(file).is_relative_to(place) for place in places)
