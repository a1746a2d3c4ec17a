"""A mean that is not linear in the columns of X."""

from __future__ import annotations

from jaxhlm.core.notation import Floats
from jaxhlm.violations.panel import Panel
from jaxhlm.violations.violation import FunctionOfColumn

__all__ = ["Nonlinear"]


class Nonlinear(FunctionOfColumn):
    """Adds f(x) to the mean.

    Attributes:
        column: x, a column of the design.
        function: f, which maps (N,) values to (N,) numbers.

    Raises:
        OptionError: f is not finite everywhere, or of another shape.
    """

    def mean(self, panel: Panel) -> Floats:
        """(N,) f(x)."""
        return self._values(panel)
