"""``BatchTests``: tests of contrasts in many fits, ranked, and variances that fits share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from jaxhlm.core.notation import Floats
from jaxhlm.errors import OptionError
from jaxhlm.estimation.hypotheses import Contrasts
from jaxhlm.inference.contrast_tests import DfMethod
from jaxhlm.inference.multiplicity import Adjustment
from jaxhlm.results import moderated, named_contrasts
from jaxhlm.results.estimated import Estimated
from jaxhlm.results.moderated import Moderation
from jaxhlm.results.named_contrasts import Moderate, Shape

__all__ = ["BatchTests"]


class BatchTests(Estimated[pd.Series, pd.DataFrame, Floats, dict[Any, Floats]]):
    """Tests of the same contrasts in all fits, and moderation of their variances."""

    def test(
        self,
        contrasts: Mapping[str, Any] | Contrasts | None = None,
        *,
        df: DfMethod = "satterthwaite",
        moderate: Moderate = False,
        trend: bool = False,
        robust: bool = False,
        adjust: Adjustment = "BH",
        joint: bool = False,
        shape: Shape = "long",
    ) -> pd.DataFrame:
        """Tests of named contrasts in every fit, with p values adjusted for the number of fits.

        Args:
            contrasts: names and what they stand for, each as one row of ``contrast``, such as
                ``{"high − low": "dosehigh - doselow"}``; or rows without names; by default every
                fixed effect but the intercept.
            df: as for the method ``df``.
            moderate: let the fits learn their residual variances from each other, as ``moderation``
                has them: every data set is fitted with the prior (d₀, s₀²), worth d₀ more rows,
                and df count it; without random effects that is limma's moderated t. "dream"
                multiplies standard errors by s̃/σ̂ and adds d₀ to the df, as ``variancePartition``
                does, which is too sure of contrasts between few units.
            trend: let the prior variance depend on the mean response.
            robust: a prior that outlying variances move little and count less for, as
                ``moderation`` has it.
            adjust: "BH" (Benjamini-Hochberg) or "BY" (Benjamini-Yekutieli) for false discovery
                rates, "storey" for q values, "holm", "bonferroni" or "none"; for each contrast over
                all fits. A fit that failed does not count. ``jaxhlm.max_t`` adjusts for responses
                that depend on each other.
            joint: one F test that all contrasts hold.
            shape: "long", a row for every fit and contrast, or "wide", a row for every fit and
                columns (contrast, what).

        Returns:
            A DataFrame with the label of the fit, contrast, estimate, std_error, df, statistic,
            p_value, conf_low, conf_high, p_adjusted, z (the standard normal number of the same p
            value, comparable whatever the df) and status; NaN where a fit failed. Beside estimate
            stands null, what it is tested against, if that is not always zero. With ``joint``
            num_df, den_df, statistic, p_value, p_adjusted and status.

        Raises:
            UnknownTermError, ContrastError, NotEstimableError, NeedsRemlError: as for ``contrast``.
            OptionError: an option that cannot be.

        Example:
            >>> import jaxhlm as hlm
            >>> data = hlm.load_dataset("sleepstudy")
            >>> Y = hlm.fit("Reaction ~ Days + (1 | Subject)", data).simulate(50, seed=1)
            >>> fits = hlm.fit_many("~ Days + (1 | Subject)", data, Y)
            >>> table = fits.test({"a week": "7*Days"})
            >>> table[["response", "contrast", "df"]].round(1).iloc[0].to_dict()
            {'response': 'sim_1', 'contrast': 'a week', 'df': 161.0}
        """
        options = (contrasts, df, moderate, trend, robust, adjust, joint, shape)
        return named_contrasts.contrast_table(self.record, *options)

    def top(self, n: int = 20, by: str | None = None, **options: Any) -> pd.DataFrame:
        """The n rows of ``test`` with the smallest p values.

        Args:
            n: how many.
            by: name of the contrast that ranks the fits, where several are tested.
            options: contrasts, df, moderate, trend, robust, adjust and joint, as for ``test``.

        Raises:
            OptionError: as for ``test``; ``by`` that is none of the contrasts; ``shape``.

        Example:
            >>> import jaxhlm as hlm
            >>> data = hlm.load_dataset("sleepstudy")
            >>> Y = hlm.fit("Reaction ~ Days + (1 | Subject)", data).simulate(50, seed=1)
            >>> fits = hlm.fit_many("~ Days + (1 | Subject)", data, Y)
            >>> bool(fits.top(3)["p_value"].is_monotonic_increasing)
            True
        """
        if "shape" in options:
            raise OptionError("top ranks a long table, so it has no shape=; give test shape='wide'")
        return named_contrasts.top(self.test(**options), n, by)

    def moderation(self, trend: bool = False, robust: bool = False) -> Moderation:
        """Residual variances of all fits, shrunk towards each other by empirical Bayes.

            s̃² = (d₀s₀² + df σ̂²)/(d₀ + df)

        with the prior (d₀, s₀²) from all fits (Smyth 2004), as ``limma::squeezeVar`` until version
        3.60, and df the method ``df_residual``, as in ``variancePartition::dream``.

        Args:
            trend: let s₀² depend on the mean response by a natural cubic spline.
            robust: find the prior from Winsorised variances, about a lowess curve if there is a
                trend, and give those that lie beyond it fewer prior degrees of freedom (Phipson et
                al. 2016), as ``squeezeVar`` with ``robust = TRUE``.

        Raises:
            OptionError: an option that is neither True nor False.
            JaxhlmError: the fits were read from a file; with ``trend`` also if simulated without
                rows.
        """
        return moderated.moderation(self.record, trend, robust)
