"""What a violation may act on; the violations are in a module for each thing that they act on.

A new one is a subclass of ``Violation`` in its module, exported by ``violations/__init__.py``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from jaxhlm.core.notation import Bools, Floats
from jaxhlm.errors import OptionError
from jaxhlm.violations.panel import Panel, RandomNumbers

__all__ = ["Violation", "function_values"]


class Violation:
    """What ``studies/generate.py`` calls in turn; a violation overrides what it violates.

    ``EffectsFrom`` and ``ResidualsFrom`` override nothing: they are the distributions drawn from
    in place of the normal one.
    """

    def remaining(self, panel: Panel, cov: Floats) -> Floats:
        """(B, q, q) remaining covariance of the random effects to draw, given Σ."""
        return cov

    def effects(self, panel: Panel, b: Floats, cov: Floats, numbers: RandomNumbers) -> Floats:
        """(U, q) random effects; ``cov`` (B, q, q) is the truth's Σ."""
        return b

    def residuals(self, panel: Panel, e: Floats, numbers: RandomNumbers) -> Floats:
        """(N,) residuals in units of σ."""
        return e

    def mean(self, panel: Panel) -> Floats | float:
        """(N,) what is added to the mean."""
        return 0.0

    def missing(
        self, panel: Panel, b: Floats, cov: Floats, y: Floats, numbers: RandomNumbers
    ) -> Bools | None:
        """(N,) responses that are missing, or None."""
        return None


def function_values(panel: Panel, column: str, function: Callable[[Floats], Floats]) -> Floats:
    """(N,) values of a function of a column of the design.

    Raises:
        OptionError: they are not as many finite numbers.
    """
    x = panel.column(column)
    values = np.asarray(function(x))
    if values.dtype.kind in "biuf":
        values = values.astype(float)
    if values.dtype != float or values.shape != x.shape or not np.isfinite(values).all():
        raise OptionError(
            f"function returned values of shape {values.shape}, or not all finite, for "
            f"{x.shape} numbers; it must map an array to an array of finite numbers of the "
            "same shape"
        )
    return values
