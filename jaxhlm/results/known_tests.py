"""What is known of tests of fits, so that it is computed once."""

from __future__ import annotations

from dataclasses import dataclass

from jaxhlm.core.notation import Array, Ints
from jaxhlm.inference.contrast_information import KeptInformation

__all__ = ["KnownTests"]


@dataclass(frozen=True)
class KnownTests:
    """What is known of tests by one method.

    Attributes:
        tests: standard errors, df and p values of the fixed effects, (B, p), or None.
        information: what any contrast's test takes of the data, or None.
    """

    tests: tuple[Array, ...] | None = None
    information: KeptInformation | None = None

    def take(self, which: Ints) -> KnownTests:
        """That of some fits."""
        tests, kept = self.tests, self.information
        return KnownTests(
            None if tests is None else tuple(x[which] for x in tests),
            None if kept is None else kept.take(which),
        )
