"""``VarianceResults``: what the variances say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from jaxhlm.inference.variance_errors import VarianceScale
from jaxhlm.results import quality, variances
from jaxhlm.results.estimated import Estimated
from jaxhlm.results.presenters import Each, Matrix, Number, Vector

__all__ = ["VarianceResults"]


class VarianceResults(Estimated[Number, Vector, Matrix, Each]):
    """Shares of variance, errors of the variances, principal components."""

    def r2(self) -> Vector:
        """Share of the variance of y that the fixed effects, and all effects, account for.

        σ_f²/(σ_f² + σ_l² + σ²) and (σ_f² + σ_l²)/(σ_f² + σ_l² + σ²) with σ_f² = var(Xβ̂) (Nakagawa &
        Schielzeth 2013) and σ_l² the mean of z_j'Σz_j over the rows (Johnson 2014). Equals
        ``MuMIn::r.squaredGLMM(fit)``. σ² is that of a row of weight 1, and y is less an offset.

        Returns:
            Series with "marginal" and "conditional".

        Example:
            >>> import jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 + Days | Subject)"
            >>> fit = hlm.fit("Reaction" + formula, data)
            >>> fit.r2().round(4).to_dict()
            {'marginal': 0.2787, 'conditional': 0.7992}
            >>> fits = hlm.fit_many(formula, data, responses=fit.simulate(2, seed=1))
            >>> list(fits.r2().columns), fits.icc().between(0.3, 0.8).tolist()
            (['marginal', 'conditional'], [True, True])
            >>> bool((fits.icc({"Days": 9}) > fits.icc({"Days": 0})).all())
            True
        """
        labels = pd.Index(["marginal", "conditional"])
        return self._show.vector(quality.r2(self.record), "r2", labels)

    def variance_fractions(self) -> Vector:
        """Shares of the variance of y by fixed term, unit, slopes and residuals; they sum to 1.

        A fixed term has the variance of its part of Xβ̂, all of them scaled to the sum var(Xβ̂), as
        ``variancePartition`` does. Units have their variance where all covariates are at their
        means, z̄'Σz̄, and their slopes Σ_jk Cov(z_j, z_k)Σ_jk. Fixed terms sum to the marginal R² of
        ``r2``, with the random ones to the conditional one. σ² is that of a row of weight 1.

        Returns:
            Series by component: the fixed terms, the grouping factor, "slopes | factor", Residual.

        Raises:
            JaxhlmError: the fits were read from a file.

        Example:
            >>> import jaxhlm as hlm
            >>> data = hlm.load_dataset("sleepstudy")
            >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", data)
            >>> fit.variance_fractions().round(3).to_dict()
            {'Days': 0.279, 'Subject': 0.432, 'Days | Subject': 0.089, 'Residual': 0.201}
        """
        values, labels = quality.variance_fractions(self.record)
        return self._show.vector(values, "variance_fractions", labels)

    def icc(self, at: Mapping[str, Any] | pd.DataFrame | None = None) -> Number | Vector:
        """Intraclass correlation σ_l²/(σ_l² + σ²), σ_l² the mean of z_j'Σz_j over the rows.

        With random slopes the correlation of two rows depends on their z; this is its value at the
        mean random-effect variance (Johnson 2014), ``performance::icc``'s "adjusted" one. With
        ``at`` it is z'Σz/(z'Σz + σ²), that of two rows of a unit which both have this z (Goldstein,
        Browne & Rasbash 2002, Understanding Statistics 1, 223-231).

        Args:
            at: values of the variables of the random part, or a frame with several such patterns.

        Returns:
            A number; for a frame a Series on its index, of a batch one column for each of its rows.

        Raises:
            UnknownTermError: ``at`` names another variable, or not all.
            OptionError, NewLevelError: a value is missing, or a level unknown.

        Example:
            >>> import jaxhlm as hlm
            >>> data = hlm.load_dataset("sleepstudy")
            >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", data)
            >>> print(f"{fit.icc():.4f} {fit.icc({'Days': 0}):.4f} {fit.icc({'Days': 9}):.4f}")
            0.7217 0.4831 0.8470
        """
        values = quality.icc(self.record, at)
        if isinstance(at, pd.DataFrame):
            return self._show.vector(values, "icc", at.index)
        return self._show.number(values[:, 0], "icc")

    def varcorr_frame(self, scale: VarianceScale = "log", conf_level: float = 0.95) -> pd.DataFrame:
        """Standard deviations, correlations and σ, with standard errors and Wald limits.

        Errors come from the exact second derivatives of the criterion, REML or ML, in the variances
        (``inference/variance_errors.py``). Limits on the scale of log sd and atanh of correlations
        are those of ``nlme::intervals``; with few units those of the profile are better
        (``confint("profile")``).

        Args:
            scale: of the limits: "log", or "sd" for estimate ± z std_error, which may leave the
                range.
            conf_level: of the limits.

        Returns:
            Columns group, term, estimate, std_error, std_error_log (of log sd, or atanh of a
            correlation), conf_low, conf_high. Errors and limits are NaN where the fit is on the
            boundary, where there is no normal approximation.

        Raises:
            OptionError: another scale, or a level outside (0, 1).

        Example:
            >>> import jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 + Days | Subject)"
            >>> fit = hlm.fit("Reaction" + formula, data)
            >>> fit.varcorr_frame().drop(columns=["group", "std_error_log"]).round(2)
                                term  estimate  std_error  conf_low  conf_high
            0        sd__(Intercept)     24.74       5.84     15.58      39.28
            1               sd__Days      5.92       1.25      3.92       8.95
            2  cor__(Intercept).Days      0.07       0.33     -0.52       0.61
            3        sd__Observation     25.59       1.51     22.80      28.72
            >>> fits = hlm.fit_many(formula, data, responses=fit.simulate(2, seed=1))
            >>> fits.varcorr_frame().shape
            (8, 8)
        """
        return self._show.long(variances.variance_frame(self.record, scale, conf_level))

    def re_pca(self) -> pd.DataFrame:
        """Principal components of the random effects, as ``lme4::rePCA``.

        Of Σ/σ² of every random term: a component of standard deviation zero is a dimension that the
        estimate does not have.

        Returns:
            Columns group, component, sd (in units of σ), proportion (of the term's variance),
            cumulative, and a column of loadings for every random effect, NaN in other terms.

        Example:
            >>> import jaxhlm as hlm
            >>> data = hlm.load_dataset("sleepstudy")
            >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", data)
            >>> fit.re_pca().iloc[:, 1:4].round(3)
              component     sd  proportion
            0       PC1  0.967       0.946
            1       PC2  0.231       0.054
        """
        return self._show.long(variances.principal_components(self.record))
