"""``FitResults``: every result that one fit and a batch of fits both give, once.

Results are computed from a ``FitRecord``; the presenter decides whether they have an axis of fits.
"""

from __future__ import annotations

from jaxhlm.errors import OptionError
from jaxhlm.results.coefficient_results import CoefficientResults
from jaxhlm.results.mean_results import MeanResults
from jaxhlm.results.presenters import Each, Matrix, Number, Vector
from jaxhlm.results.row_results import RowResults
from jaxhlm.results.unit_results import UnitResults
from jaxhlm.results.variance_results import VarianceResults

__all__ = ["FitResults", "check_no_terms"]


class FitResults(
    CoefficientResults[Number, Vector, Matrix, Each],
    MeanResults[Number, Vector, Matrix, Each],
    UnitResults[Number, Vector, Matrix, Each],
    RowResults[Number, Vector, Matrix, Each],
    VarianceResults[Number, Vector, Matrix, Each],
):
    """What a ``Fit`` and a ``FitBatch`` have in common.

    Docstrings give the shapes of one fit; ``FitBatch`` tells those of many.
    """


def check_no_terms(test: object, df: object) -> None:
    """Raise ``OptionError`` where models are compared and a test of terms is described."""
    for name, value in (("type", test), ("df", df)):
        if value is not None:
            raise OptionError(
                f"{name}={value!r} is about tests of the terms of one model: call anova() of a fit "
                "without another"
            )
