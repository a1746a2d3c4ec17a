"""What to optimise and how: checked once, and handed through all stages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jaxhlm.core.arguments import number, whole_number
from jaxhlm.core.notation import Precision, check_option
from jaxhlm.errors import OptionError
from jaxhlm.likelihood.covariance import Blocks
from jaxhlm.optimise.loop import MAX_ITER, TOL

if TYPE_CHECKING:
    import optax

__all__ = ["Options"]


@dataclass(frozen=True)
class Options:
    """What to optimise and how.

    Attributes:
        reml: REML criterion instead of ML deviance.
        blocks: columns of Z in each random term.
        optimizer: an optax optimiser, or None for the library's Newton.
        tol: largest Newton decrement, in deviance units, at which a fit is done.
        max_iter: largest number of evaluations per fit.
        precision: of the search on devices; it is decided in float64, whatever this says.
    """

    reml: bool
    blocks: Blocks
    optimizer: optax.GradientTransformation | None = None
    tol: float = TOL
    max_iter: int = MAX_ITER
    precision: Precision = "float64"

    def __post_init__(self) -> None:
        """Check what the user gave.

        Raises:
            OptionError: an option that is not of its kind.
        """
        if not isinstance(self.reml, bool | np.bool_):
            raise OptionError(
                f"reml={self.reml!r} must be True (REML) or False (maximum likelihood)"
            )
        if not number("tol", self.tol) > 0.0:
            raise OptionError(f"tol={self.tol!r} must be positive, in units of the deviance")
        whole_number("max_iter", self.max_iter)
        check_option("precision", self.precision, Precision)
        if self.optimizer is not None and not hasattr(self.optimizer, "update"):
            raise OptionError(
                f"optimizer={self.optimizer!r} must be an optax optimiser, such as optax.lbfgs()"
            )
