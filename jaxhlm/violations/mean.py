"""A mean that is not linear in the columns of X."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxhlm.core.arguments import check_function
from jaxhlm.core.notation import Floats
from jaxhlm.violations.panel import Panel
from jaxhlm.violations.violation import Violation, function_values

__all__ = ["Nonlinear"]


@dataclass(frozen=True)
class Nonlinear(Violation):
    """Adds f(x) to the mean.

    Attributes:
        column: x, a column of the design.
        function: f, which maps (N,) values to (N,) numbers.

    Raises:
        OptionError: f is not finite everywhere, or of another shape.
    """

    column: str
    function: Callable[[Floats], Floats]

    def __post_init__(self) -> None:
        """Check the function."""
        check_function("function", self.function)

    def mean(self, panel: Panel) -> Floats:
        """(N,) f(x)."""
        return function_values(panel, self.column, self.function)
