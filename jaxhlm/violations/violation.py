"""What a violation may act on; the violations themselves are in ``violations/__init__.py``."""

from __future__ import annotations

from jaxhlm.core.notation import Bools, Floats
from jaxhlm.violations.panel import Panel, RandomNumbers

__all__ = ["Violation"]


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
