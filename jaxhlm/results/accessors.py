"""What is read off one fit's estimates and labels: the accessors that lme4's users know."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from jaxhlm.design import Design
from jaxhlm.engine.minimum import Options
from jaxhlm.errors import JaxhlmError
from jaxhlm.estimates import Estimates
from jaxhlm.inference.criteria import aic, aicc, bic, standard_errors
from jaxhlm.model import Model
from jaxhlm.notation import Floats
from jaxhlm.pipeline import Prepared
from jaxhlm.results.varcorr import VarCorr
from jaxhlm.rows.response import Standard
from jaxhlm.status import Status

__all__ = ["Accessors"]


@dataclass(frozen=True, eq=False)
class Accessors:
    """One fit: what is stored, and what estimates and labels say by themselves.

    Attributes:
        model: formula, method and labels.
        design: the rows.
        estimates: arrays of one lane.
        options: what was optimised.
        prepared: the design, standardised when needed.
    """

    model: Model
    design: Design = field(repr=False)
    estimates: Estimates = field(repr=False)
    options: Options = field(repr=False)
    prepared: Prepared = field(repr=False)

    @property
    def reml(self) -> bool:
        """Whether the fit is by REML (else maximum likelihood)."""
        return self.model.reml

    @property
    def nobs(self) -> int:
        """Number of rows used, n."""
        return self.design.n

    @property
    def ngroups(self) -> int:
        """Number of groups, G."""
        return self.design.G

    @property
    def status(self) -> Status:
        """How the fit ended; ``status.message`` says it in words."""
        return Status(int(self.estimates.status[0]))

    @property
    def singular(self) -> bool:
        """Whether a variance is zero or a correlation ±1 (``lme4::isSingular``)."""
        return self.status == Status.SINGULAR

    @property
    def iterations(self) -> int:
        """Evaluations of criterion, gradient and Hessian."""
        return int(self.estimates.iterations[0])

    @property
    def gradient_norm(self) -> float:
        """Largest |∂ criterion/∂θ| at the estimate, on the standardised scale."""
        return float(self.estimates.gradient_norm[0])

    @property
    def fixef(self) -> pd.Series:
        """(p,) fixed effects β̂ by term."""
        return pd.Series(self.estimates.beta[0], self._terms, name="fixef")

    @property
    def vcov(self) -> pd.DataFrame:
        """(p, p) covariance of the fixed effects, σ̂²(X'V⁻¹X)⁻¹."""
        return pd.DataFrame(self.estimates.vcov[0], self._terms, self._terms)

    @property
    def se(self) -> pd.Series:
        """(p,) standard errors of the fixed effects."""
        return pd.Series(standard_errors(self.estimates.vcov[0]), self._terms, name="se")

    @property
    def sigma(self) -> float:
        """Residual standard deviation σ̂."""
        return float(self.estimates.sigma[0])

    @property
    def theta(self) -> Floats:
        """(k,) free entries of Λ column by column, as ``lme4::getME(fit, "theta")``."""
        return self.estimates.theta[0]

    @property
    def varcorr(self) -> VarCorr:
        """Variances and correlations of the random effects."""
        names = pd.Index(self.model.znames)
        cov = pd.DataFrame(self.estimates.cov[0], names, names)
        return VarCorr(cov, self.sigma, self.model.group_name, self.model.blocks)

    @property
    def criterion(self) -> float:
        """−2 × the maximised log-likelihood: REML criterion, or ML deviance."""
        return float(self.estimates.criterion[0])

    @property
    def loglik(self) -> float:
        """Maximised (restricted) log-likelihood."""
        return -0.5 * self.criterion

    @property
    def aic(self) -> float:
        """Akaike's criterion."""
        return float(aic(self.estimates.criterion, self.model.n_parameters)[0])

    @property
    def aicc(self) -> float:
        """AIC corrected for small samples (Hurvich & Tsai 1989), with n the number of rows."""
        return float(aicc(self.estimates.criterion, self.model.n_parameters, self.nobs)[0])

    @property
    def bic(self) -> float:
        """Schwarz's criterion, with log n of the number of rows."""
        return float(bic(self.estimates.criterion, self.model.n_parameters, self.nobs)[0])

    @property
    def _terms(self) -> pd.Index:
        return pd.Index(self.model.xnames, name="term")

    @cached_property
    def standard(self) -> Standard:
        """Standardised statistics of the one lane, equal groups collapsed: what inference needs."""
        return self.prepared.collapse(self._response[:, None])[0]

    @property
    def _response(self) -> Floats:
        if self.design.y is None:
            raise JaxhlmError("this fit has no response")
        return self.design.y
