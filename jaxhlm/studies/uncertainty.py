"""Uncertainty about the truth: a distribution that every simulated data set draws its own from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from jaxhlm.core.notation import check_option
from jaxhlm.errors import JaxhlmError, OptionError
from jaxhlm.linalg.factors import semidefinite_root
from jaxhlm.studies.truth import Truth, replaced

if TYPE_CHECKING:
    from jaxhlm.results.fit import Fit

__all__ = ["TruthDistribution", "TruthSource", "Variances"]

Variances = Literal["held", "drawn"]
ATTEMPTS = 20


class TruthSource(Protocol):
    """Anything that draws truths."""

    def draw(self, rng: np.random.Generator) -> Truth:
        """One truth, from the numbers of ``rng`` only."""
        ...


@dataclass(frozen=True, eq=False, repr=False)
class TruthDistribution:
    """A distribution over truths; power averaged over it is called assurance.

    Attributes:
        function: maps a NumPy Generator to a ``Truth``; it may use no other randomness, so that
            data set i has the same truth whatever is drawn beside it.

    Example:
        >>> import jaxhlm as hlm
        >>> uncertain = hlm.TruthDistribution(
        ...     lambda rng: hlm.Truth.of([1, rng.normal(3, 0.5)], sd=[0.2, 0.5], sigma=0.75)
        ... )
        >>> uncertain.draw(np.random.default_rng(1)).sigma
        0.75
    """

    function: Callable[[np.random.Generator], Truth]
    learned: Mapping[str, Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Refuse what cannot be called."""
        if not callable(self.function):
            raise OptionError(f"function={self.function!r} must take a generator and give a Truth")

    def __repr__(self) -> str:
        """What draws it; a fit in a ``partial`` would be printed whole."""
        function = getattr(self.function, "func", self.function)
        return f"TruthDistribution({getattr(function, '__name__', type(function).__name__)})"

    def draw(self, rng: np.random.Generator) -> Truth:
        """One truth.

        Raises:
            OptionError: the function gave something else.
        """
        truth = self.function(rng)
        if not isinstance(truth, Truth):
            raise OptionError(
                f"the distribution drew {truth!r}; its function must return a jaxhlm.Truth"
            )
        return truth

    @staticmethod
    def from_fit(
        fit: Fit, beta: Mapping[str, float] | None = None, variances: Variances = "held"
    ) -> TruthDistribution:
        """What a fit leaves uncertain.

            β ~ N(β̂, Var(β̂)),    (Σ, σ) = (Σ̂, σ̂), or the estimates of a data set drawn from the fit

        Args:
            fit: a fit.
            beta: fixed effects held at values of your choice, by term; the others are drawn given
                nothing about them, from their marginal distribution.
            variances: "held" at the estimates, or "drawn": one step of the parametric bootstrap,
                which costs a fit (about 10 ms) for every truth.

        Raises:
            OptionError, UnknownTermError: an option is not known, the fit has no such term.

        Example:
            >>> import jaxhlm as hlm
            >>> data = hlm.load_dataset("sleepstudy")
            >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", data)
            >>> uncertain = hlm.TruthDistribution.from_fit(fit, beta={"Days": 5.0})
            >>> uncertain.draw(np.random.default_rng(1)).beta["Days"]
            5.0
        """
        check_option("variances", variances, Variances)
        replaced("beta", dict(fit.fixef), beta)
        function = partial(_from_fit, fit, dict(beta or {}), variances)
        return TruthDistribution(function, fit.design.learned)


def _from_fit(
    fit: Fit, beta: Mapping[str, float], variances: Variances, rng: np.random.Generator
) -> Truth:
    """One truth; a function of the module, so that a mechanism can be sent to other processes."""
    z = rng.standard_normal(len(fit.fixef))
    drawn = (fit.fixef.to_numpy() + semidefinite_root(fit.vcov.to_numpy()) @ z).tolist()
    source = fit if variances == "held" else _bootstrapped(fit, rng)
    terms = dict(zip(fit.fixef.index, drawn, strict=True))
    cov = source.varcorr.cov.to_numpy()
    return Truth({**terms, **beta}, cov, source.sigma, fit.design.learned)


def _bootstrapped(fit: Fit, rng: np.random.Generator) -> Fit:
    """The fit of one data set drawn from a fit."""
    for _ in range(ATTEMPTS):
        again = fit.refit(fit.simulate(1, rng).iloc[:, 0])
        if again.status.ok:
            return again
    raise JaxhlmError(
        f"{ATTEMPTS} data sets drawn from the fit could not be fitted; hold the variances with "
        'variances="held"'
    )
