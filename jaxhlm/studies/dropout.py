"""Drop-out: who leaves before the planned end, as a share of units or a probability per visit.

A unit leaves for good after its measurement number ⌊E/λ⌋ + 1, where E is exponential with mean 1:
the chance to be there still after k measurements is exp(−λk). λ is −log(1 − p) for a probability p
of leaving after each measurement; and for a share s that leaves before the last of m measurements,
between which it can leave m − 1 times, −log(1 − s)/(m − 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from jaxhlm.core.arguments import finite_array
from jaxhlm.core.notation import Floats, Ints
from jaxhlm.errors import AmbiguousDropoutWarning, OptionError, warn_user

__all__ = ["Dropout", "DropoutRate", "named_dropout", "read_dropout"]

Leaving: TypeAlias = Literal["overall", "per_visit"]
DropoutRate: TypeAlias = Mapping[Leaving, float | Sequence[float] | npt.NDArray[Any]]

SPELLINGS = (
    '{"overall": 0.2} where 20 % of the units are to leave before their last measurement, or '
    '{"per_visit": 0.05} where a unit leaves after each measurement with a probability of 5 %'
)


@dataclass(frozen=True)
class Dropout:
    """Drop-out at a constant rate.

    Attributes:
        kind: what ``p`` is.
        p: () of all units, or (n,) of each.
    """

    kind: Leaving
    p: Floats

    def kept(self, planned: Ints, E: Floats) -> Ints:
        """(n,) measurements that units have of those planned, given their exponential numbers."""
        # A unit with one measurement cannot leave before it, and one with a rate of 0 never does:
        # what is infinite, or 0/0, is no limit.
        with np.errstate(divide="ignore", invalid="ignore"):
            rate = -np.log1p(-self.p) / (planned - 1 if self.kind == "overall" else 1)
            return np.fmin(planned, np.floor(E / rate) + 1.0).astype(np.int64)

    def staying(self, planned: Ints) -> Floats:
        """The probability that a unit has all the measurements that are planned, exp(−λ(m − 1)).

        >>> read_dropout({"per_visit": 0.05}, 2).staying(np.array([1, 5])).round(4).tolist()
        [1.0, 0.8145]
        >>> read_dropout({"overall": 0.2}, 2).staying(np.array([1, 5])).tolist()
        [1.0, 0.8]
        """
        times = np.minimum(planned - 1, 1) if self.kind == "overall" else planned - 1
        found: Floats = (1.0 - self.p) ** times
        return found

    def __str__(self) -> str:
        """Who leaves, in words."""
        low, high = 100.0 * np.min(self.p), 100.0 * np.max(self.p)
        share = f"{low:.4g} %" if low == high else f"{low:.4g} to {high:.4g} %"
        if self.kind == "overall":
            return f"{share} of the units leave before their last measurement, at a constant rate"
        return f"a unit leaves after each measurement with a probability of {share}"


def named_dropout(given: Any, n: int) -> Any:
    """Drop-out in one of its spellings; a bare number gets its own, with a warning unless it is 0.

    Args:
        given: as for ``units``.
        n: number of units.

    Raises:
        OptionError: a bare number is no probability.
    """
    if given is None or isinstance(given, Mapping) or callable(given) or hasattr(given, "rvs"):
        return given
    if not read_dropout({"per_visit": given}, n).p.any():
        return None
    warn_user(
        f"dropout={given!r} is taken as the probability to leave after each measurement; "
        f"so that it cannot be mistaken, write {SPELLINGS}",
        AmbiguousDropoutWarning,
    )
    return {"per_visit": given}


def read_dropout(given: DropoutRate, n: int) -> Dropout:
    """Drop-out of n units.

    Raises:
        OptionError: it is not spelt as one share or one probability, or is none.

    Example:
        >>> E = np.array([0.05, 0.3, 5.0])
        >>> read_dropout({"overall": 0.2}, 3).kept(np.array([5, 5, 5]), E).tolist()
        [1, 5, 5]
        >>> read_dropout({"per_visit": [0.2, 0.2, 0.0]}, 3).kept(np.array([5, 5, 5]), E).tolist()
        [1, 2, 5]
    """
    if len(given) != 1 or not set(given) <= {*get_args(Leaving)}:
        raise OptionError(f"dropout={dict(given)!r}: give {SPELLINGS}")
    ((kind, value),) = given.items()
    p = finite_array("dropout", value)
    if p.ndim and p.shape != (n,):
        raise OptionError(
            f"dropout has {p.size} numbers for {n} units; give one for each or one for all"
        )
    if not ((p >= 0.0) & (p < 1.0)).all():
        raise OptionError(f"dropout={dict(given)!r}: it must be a share from 0 to below 1")
    return Dropout(kind, p)
