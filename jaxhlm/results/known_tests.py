"""What is known of tests of fits, so that it is computed once, and what to do where nothing is."""

from __future__ import annotations

from dataclasses import dataclass

from jaxhlm.core.notation import Array, Ints
from jaxhlm.errors import JaxhlmError
from jaxhlm.inference.contrast_information import KeptInformation

__all__ = ["KnownTests", "without_data"]


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


def without_data(method: str | None = None) -> JaxhlmError:
    """What is raised of fits that were read from a file, where only their data could tell.

    Args:
        method: that of a test, which a file may have been written with.
    """
    read = (
        "read them with what fit_many was given, FitBatch.read_parquet(path, data, responses=…), "
        "or by=…, or read_fits(folder, data, …); or fit again, into a folder with resume=True, "
        "which fits nothing twice"
    )
    if method is None:
        return JaxhlmError(
            "these fits were read from a file, which holds no data, and this needs the data: "
            f"{read}"
        )
    return JaxhlmError(
        f'these fits were read from a file, which holds no data and nothing of df="{method}": '
        f'write it by to_parquet(path, df="{method}") of fits that have their data; or {read}. '
        'df="normal" and df="residual" need neither'
    )
