"""What the power is of: hypotheses about the fixed effects, read against a design."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from jaxhlm.core.arguments import listed_values
from jaxhlm.core.notation import Floats
from jaxhlm.design.design import Design
from jaxhlm.errors import OptionError
from jaxhlm.estimation.hypotheses import independent_rows, read_hypothesis

__all__ = ["ReadTest", "Test", "read_tests"]

Test: TypeAlias = str | Mapping[str, float] | Sequence[str | Mapping[str, float]]


class ReadTest(NamedTuple):
    """A hypothesis: one row of L is a t test, several are one F test."""

    label: str
    L: Floats
    rhs: Floats


def read_tests(test: Test, design: Design) -> list[ReadTest]:
    """The hypotheses that ``test`` stands for."""
    if not np.iterable(test):
        raise OptionError(
            f"test={test!r}: name a fixed effect, or give text such as 'x - 2*a = 1', or a list of "
            "those"
        )
    listed = [test] if isinstance(test, str | Mapping) else listed_values("test", test)
    if not listed:
        raise OptionError("test names nothing to test; the terms are " + ", ".join(design.xnames))
    read = []
    for one in listed:
        found = read_hypothesis(one, 0.0, design.xnames, design.dropped_columns, design._alias)
        label = one if isinstance(one, str) else ", ".join(found.labels)
        read.append(ReadTest(label, *independent_rows(found)))
    return read
