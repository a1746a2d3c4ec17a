"""``Estimated``: what was estimated, and the fit's own statistics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Self

import pandas as pd

from jaxhlm.core.notation import Floats
from jaxhlm.estimation.estimates import Estimates
from jaxhlm.estimation.model import Model
from jaxhlm.inference.contrast_tests import DfMethod
from jaxhlm.inference.criteria import check_level
from jaxhlm.optimise.options import Options
from jaxhlm.results import (
    coefficients,
    likelihood_ratios,
    moderated,
    summaries,
    units,
    variances,
)
from jaxhlm.results.fit_rows import FitRows
from jaxhlm.results.presenters import Each, Matrix, Number, Presenter, Vector
from jaxhlm.results.record import FitRecord
from jaxhlm.results.tidy import tidy

__all__ = ["Estimated"]


@dataclass(frozen=True, eq=False, repr=False)
class Estimated(Generic[Number, Vector, Matrix, Each]):
    """What was estimated: coefficients, their covariance, likelihoods."""

    record: FitRecord

    @property
    def _show(self) -> Presenter[Number, Vector, Matrix, Each]:
        raise NotImplementedError

    def _of_rows(self, name: str, values: Callable[[FitRows], Floats]) -> pd.Series:
        return self._show.rows(units.over_rows(self.record, lambda f: (values(f),)), name)

    @property
    def model(self) -> Model:
        """Formula, method and labels."""
        return self.record.model

    @property
    def estimates(self) -> Estimates:
        """Arrays of all estimates, with the fits on the first axis."""
        return self.record.estimates

    @property
    def options(self) -> Options:
        """What was optimised."""
        return self.record.options

    @property
    def reml(self) -> bool:
        """Whether the model is fitted by REML (else maximum likelihood)."""
        return self.record.model.reml

    @property
    def fixef(self) -> Vector:
        """(p,) fixed effects β̂ by term."""
        return self._show.vector(self.record.estimates.beta, "fixef")

    @property
    def se(self) -> Vector:
        """(p,) standard errors of the fixed effects."""
        return self._show.vector(self.record.se, "se")

    @property
    def vcov(self) -> Matrix:
        """(p, p) covariance of the fixed effects, σ̂²(X'V⁻¹X)⁻¹."""
        return self._show.matrix(self.record.estimates.vcov)

    @property
    def sigma(self) -> Number:
        """Residual standard deviation σ̂."""
        return self._show.number(self.record.estimates.sigma, "sigma")

    @property
    def criterion(self) -> Number:
        """−2 × the maximised log-likelihood: REML criterion, or ML deviance."""
        return self._show.number(self.record.estimates.criterion, "criterion")

    @property
    def df_residual(self) -> Number:
        """Residual degrees of freedom n − 2 tr H + tr HH, with Hy the fitted values.

        n − p if there were no random effects. ``variancePartition::rdf.merMod``; what ``glance``
        calls df_residual is ``broom.mixed``'s, rows less parameters.

        Raises:
            JaxhlmError: the fits were read from a file.
        """
        return self._show.number(moderated.df_residual(self.record), "df_residual")

    @property
    def loglik(self) -> Number:
        """Maximised (restricted) log-likelihood."""
        return self._show.number(self.record.loglik, "loglik")

    def loglik_by(self, reml: bool) -> Number:
        """The log-likelihood by REML or by ML at the θ̂ of this fit, β and σ profiled.

        ``logLik(fit, REML = FALSE)`` of a fit by REML; no maximum of that likelihood unless the fit
        is by the same method (``refit_ml``).

        Args:
            reml: restricted, or full.

        Raises:
            OptionError: ``reml`` is neither True nor False.

        Example:
            >>> import jaxhlm as hlm
            >>> data = hlm.load_dataset("sleepstudy")
            >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", data)
            >>> print(f"{fit.loglik_by(reml=False):.4f} {fit.refit_ml().loglik:.4f}")
            -875.9929 -875.9697
        """
        return self._show.number(variances.loglik_by(self.record, reml), "loglik")

    @property
    def aic(self) -> Number:
        """Akaike's criterion."""
        return self._show.number(self.record.aic, "aic")

    @property
    def aicc(self) -> Number:
        """AIC corrected for small samples (Hurvich & Tsai 1989), with n the number of rows."""
        return self._show.number(self.record.aicc, "aicc")

    @property
    def bic(self) -> Number:
        """Schwarz's criterion, with log n of the number of rows."""
        return self._show.number(self.record.bic, "bic")

    def refit_ml(self) -> Self:
        """The same model fitted by maximum likelihood (``lme4::refitML``); itself if it is."""
        return type(self)(likelihood_ratios.refit_ml(self.record)) if self.reml else self

    def tidy(self, df: DfMethod = "satterthwaite", conf_level: float = 0.95) -> pd.DataFrame:
        """One row per parameter, as ``broom.mixed::tidy``.

        Args:
            df: degrees of freedom of t, as for the method ``df``; "normal" for z.
            conf_level: of the intervals estimate ± t std_error.

        Returns:
            Columns effect, group, term, estimate, std_error, df, statistic, p_value, conf_low,
            conf_high, boundary. Random-effects rows are standard deviations and correlations and
            have an estimate only. They are broom.mixed's columns, with an underscore for a dot
            (``std.error``, ``p.value``, ``conf.low``), and its names of terms. ``boundary`` flags
            a singular fit, where df need care (``df``).

        Raises:
            OptionError, NeedsRemlError: as for ``df``.
        """
        check_level(conf_level, "conf_level")
        se, dof, _ = coefficients.fixed_tests(self.record, df)
        return self._show.long(tidy(self.record, se, dof, conf_level))

    def glance(self) -> pd.DataFrame:
        """One row of fit statistics, as ``broom.mixed::glance``.

        Returns:
            nobs, ngroups, sigma, loglik, aic, aicc, bic, criterion, df_residual, reml, singular,
            status, iterations: broom.mixed's logLik, AIC, BIC and df.residual in lower case with an
            underscore, as the attributes of a fit; criterion is its REMLcrit, or by ML its
            deviance.
        """
        return self._show.line(summaries.glance(self.record))
