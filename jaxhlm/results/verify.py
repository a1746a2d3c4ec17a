"""A second opinion: refit some lanes with the plain NumPy reference and report the differences."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from jaxhlm import reference
from jaxhlm.core.document import Block, Grid, Printed, as_html
from jaxhlm.core.notation import Floats
from jaxhlm.design.design import Design
from jaxhlm.estimation.estimates import Estimates
from jaxhlm.inference.criteria import standard_errors

__all__ = ["Verification", "verify_lanes"]


@dataclass(frozen=True, repr=False)
class Verification(Printed):
    """Largest differences between fits and the NumPy reference; printing it gives one line.

    Attributes:
        lanes: how many fits were compared; where none was, the differences are NaN.
        criterion: largest |difference| of the criterion; where ``lower`` counts fits that the
            reference did not reach, they are left out of all differences.
        beta: largest |difference| of a fixed effect, in its standard errors.
        se: largest relative difference of a standard error.
        sigma: largest relative difference of σ.
        cov: largest |difference| of Σ, relative to the fit's largest variance (σ² included).
        lower: fits whose criterion is lower than the reference's by more than 1e-6.
    """

    lanes: int
    criterion: float
    beta: float
    se: float
    sigma: float
    cov: float
    lower: int

    def _blocks(self) -> list[Block]:
        """One line for people."""
        if not self.lanes:
            return [["no fit to check against the NumPy reference: none of them converged"]]
        better = f"; {self.lower} fits better than the reference" if self.lower else ""
        fits = "1 fit" if self.lanes == 1 else f"{self.lanes} fits"
        line = (
            f"{fits} checked against the NumPy reference, largest differences: "
            f"criterion {self.criterion:.1e}, β {self.beta:.1e} SE, SE {self.se:.1e}, "
            f"σ {self.sigma:.1e}, Σ {self.cov:.1e} (relative){better}"
        )
        return [[line]]

    def _repr_html_(self) -> str:
        """In a notebook, the differences as a table."""
        if not self.lanes:
            return as_html(self._blocks())
        line, _, _ = str(self).partition(", largest")
        shown = (self.criterion, self.beta, self.se, self.sigma, self.cov)
        columns = ("criterion", "β, in SE", "SE, relative", "σ, relative", "Σ, relative")
        table = Grid(columns, [[f"{value:.1e}" for value in shown]], ["largest difference"])
        more = [f"{self.lower} fitted better than the reference"] if self.lower else []
        return as_html([[line, table, *more]])


def verify_lanes(fits: Iterable[tuple[Design, Estimates]], reml: bool) -> Verification:
    """Refit ``fits`` with ``jaxhlm.reference``.

    Args:
        fits: designs, their responses included, each with the estimates of its one fit.
        reml: whether they were fitted by REML.
    """
    rows = [_differences(design, estimates, reml) for design, estimates in fits]
    differences = np.reshape(rows, (len(rows), 5))
    lower = differences[:, 0] < -1e-6
    largest = np.abs(differences[~lower]).max(axis=0) if not lower.all() else np.full(5, np.nan)
    criterion, beta, se, sigma, cov = map(float, largest)
    return Verification(len(rows), criterion, beta, se, sigma, cov, int(lower.sum()))


def _differences(design: Design, fit: Estimates, reml: bool) -> Floats:
    """Criterion, β in SE, SE, σ and Σ: this fit less the reference's."""
    assert design.y is not None
    expected = reference.fit(
        design.y, design.X, design.Z, design.group, reml, design.weights, design.blocks
    )
    scale = max(np.abs(expected.cov).max(), expected.sigma**2)
    return np.array(
        [
            fit.criterion[0] - expected.criterion,
            np.abs((fit.beta[0] - expected.beta) / expected.se).max(initial=0.0),
            np.abs(standard_errors(fit.vcov)[0] / expected.se - 1.0).max(initial=0.0),
            fit.sigma[0] / expected.sigma - 1.0,
            np.abs(fit.cov[0] - expected.cov).max() / scale,
        ]
    )
