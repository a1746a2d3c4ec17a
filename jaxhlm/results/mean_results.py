"""``MeanResults``: marginal means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from jaxhlm.core.notation import NotEstimable
from jaxhlm.errors import OptionError
from jaxhlm.inference.contrast_families import Contrasted
from jaxhlm.inference.contrast_tests import DfMethod
from jaxhlm.inference.family_adjustment import FamilyAdjustment
from jaxhlm.inference.refgrid import CellWeights
from jaxhlm.results import joint_tests, means
from jaxhlm.results.estimated import Estimated
from jaxhlm.results.means_formula import asked_for
from jaxhlm.results.means_notes import means_notes
from jaxhlm.results.means_wanted import Families, Means, means_wanted
from jaxhlm.results.presenters import Each, Matrix, Number, Vector

__all__ = ["MeanResults"]


class MeanResults(Estimated[Number, Vector, Matrix, Each]):
    """Estimated marginal means, trends, and tests of them."""

    def emmeans(
        self,
        specs: str | Sequence[str],
        at: Mapping[str, Any] | None = None,
        df: DfMethod = "satterthwaite",
        *,
        by: str | Sequence[str] | None = None,
        contrasts: Contrasted | None = None,
        interaction: Families | None = None,
        adjust: FamilyAdjustment | None = None,
        weights: CellWeights = "equal",
        pairwise: bool = False,
        conf_level: float = 0.95,
        not_estimable: NotEstimable = "nan",
    ) -> pd.DataFrame:
        """Estimated marginal means, as R's ``emmeans``, and contrasts of them.

        The average of Xβ̂ over a grid in which every combination of the levels of the factors
        occurs once and numbers are at their mean over the rows used (Searle, Speed & Milliken 1980,
        Am. Stat. 34, 216-221). R's emmeans treats a number with two values as a factor; here it is
        at its mean unless ``at`` says otherwise. An offset is at its mean whatever ``at`` says, as
        in R's emmeans of an ``lmer``.

        The cells of a batch are the same in all fits. A number that is not in ``at`` stands at its
        mean over the rows of each fit, so that every row equals what the fit alone would give; but
        for data sets without a row of some level, which is a cell here, and counts in means over
        the levels of its factor (NaN) and in families of tests.

        Args:
            specs: one variable, or several whose combinations are the cells; or a formula as
                emmeans takes, "~ g + f", "~ g | h" (by h), "pairwise ~ g | h" (contrasts only),
                "~ 1" (one mean over all).
            at: values, one or a list, for some of the variables of the fixed part.
            df: as for the method ``df``.
            by: variables in each of whose combinations the cells are a family of their own.
            contrasts: contrasts of the cells instead: "pairwise", "revpairwise", "trt.vs.ctrl",
                "trt.vs.ctrlk", "consec", "poly", "eff", "del.eff", "mean_chg", also "tukey" for
                "pairwise" and "dunnett" for "trt.vs.ctrl"; a mapping from names to coefficients of
                the cells; a DataFrame with cells as columns; an array.
            interaction: products of contrasts of the single variables of ``specs``: one family for
                all of them, a list, or a mapping from variables to families.
            adjust: for the number of tests within each combination of ``by``: "tukey" (all pairs),
                "mvt" (multivariate t, exact where df are equal), "holm", "bonferroni", "sidak",
                "fdr", "none". By default as R: "tukey" for pairs, "fdr" for effects, "mvt" for
                changes, and, where R approximates it, for comparisons with a control; else none.
                Limits are adjusted alike; for "holm" and "fdr", which have none, by Bonferroni.
            weights: of the cells that are averaged over: "equal"; "proportional" to the number of
                rows in them whatever the cell of ``specs``; "outer", the product of such shares of
                single factors; "cells", their own numbers of rows, for raw means.
            pairwise: all pairs, with p values as they are, by Holm and by Tukey (studentised range)
                side by side, and limits of single differences.
            conf_level: of the intervals.
            not_estimable: where X is rank deficient, as with an empty cell of an interaction, a
                mean or difference that the data do not determine is NaN, with a warning, or, with
                "error", raises. The p values of the others count it, as in R's emmeans.

        Returns:
            One row per cell: the levels, emmean, std_error, df, conf_low, conf_high. Or one row per
            contrast: variables of ``by``, contrast (of interactions one column per variable, such
            as Sex_pairwise), estimate, std_error, df, statistic, p_value, p_adjusted, conf_low,
            conf_high; with ``pairwise`` p_holm and p_tukey for p_adjusted. Where X is rank
            deficient also ``estimable``, False where R says nonEst. In print a few lines below
            say what was averaged over, the methods and the level.

        Raises:
            UnknownTermError: ``specs``, ``by`` or ``at`` names what is not in the fixed part.
            NewLevelError: ``at`` names a level that the fit has not seen.
            ContrastError: contrasts that cannot be, or of one cell.
            NotEstimableError: a mean is not estimable, under ``not_estimable="error"``.
            OptionError, NeedsRemlError: as for ``df``; options that do not go together.

        Example:
            >>> import jaxhlm as hlm
            >>> data = hlm.load_dataset("math_achieve")
            >>> fit = hlm.fit("MathAch ~ SES + Sex + Minority + (1 | School)", data)
            >>> fit.emmeans("Sex")
                  Sex     emmean  std_error          df   conf_low  conf_high
            0  Female  11.404280   0.191423  236.197716  11.027165  11.781396
            1    Male  12.634074   0.193781  249.854859  12.252422  13.015727
            Averaged over the levels of: Minority
            Degrees of freedom: Satterthwaite's method. Confidence level: 0.95
            >>> table = fit.emmeans("pairwise ~ Minority | Sex", adjust="sidak")
            >>> table[["Sex", "contrast", "estimate"]].round(3)
                  Sex  contrast  estimate
            0  Female  No - Yes     2.961
            1    Male  No - Yes     2.961
            >>> formula, Y = "~ SES + Sex + (1 | School)", fit.simulate(2, seed=1)
            >>> hlm.fit_many(formula, data, responses=Y).emmeans("Sex")[["response", "Sex"]]
              response     Sex
            0    sim_1  Female
            1    sim_1    Male
            2    sim_2  Female
            3    sim_2    Male
        """
        asked = asked_for(specs, by, contrasts)
        wanted = means_wanted(
            at=at, df=df, **asked._asdict(), interaction=interaction, adjust=adjust,
            weights=weights, conf_level=conf_level, not_estimable=not_estimable, pairwise=pairwise,
        )  # fmt: skip
        return self._of_means(wanted)

    def _of_means(self, wanted: Means) -> pd.DataFrame:
        frame = means.means_table(self.record, wanted)
        shown = self._show.long(frame)
        shown.notes = tuple(means_notes(self.record, wanted, frame))
        return shown

    def emtrends(
        self,
        specs: str | Sequence[str] | None,
        var: str,
        at: Mapping[str, Any] | None = None,
        df: DfMethod = "satterthwaite",
        *,
        by: str | Sequence[str] | None = None,
        contrasts: Contrasted | None = None,
        interaction: Families | None = None,
        adjust: FamilyAdjustment | None = None,
        weights: CellWeights = "equal",
        conf_level: float = 0.95,
        not_estimable: NotEstimable = "nan",
    ) -> pd.DataFrame:
        """Slopes of the expected response in a number, averaged as marginal means are.

        The derivative of Xβ̂ by ``var``, where it stands in the grid (its mean, unless ``at`` says
        otherwise), by central differences over a thousandth of its range; R's ``emtrends``, which
        takes forward differences: the same for straight lines.

        Args:
            specs: as for ``emmeans``; None for one trend over all cells.
            var: a number of the fixed part.
            at, df, by, contrasts, interaction, adjust, weights, conf_level, not_estimable: as for
                ``emmeans``.

        Returns:
            As ``emmeans``, with ``trend`` for emmean.

        Raises:
            OptionError: ``var`` is a factor; and all that ``emmeans`` raises.

        Example:
            >>> import jaxhlm as hlm
            >>> data = hlm.load_dataset("math_achieve")
            >>> fit = hlm.fit("MathAch ~ SES * Sex + (1 | School)", data)
            >>> fit.emtrends("Sex", "SES").round(3)[["Sex", "trend", "std_error"]]
                  Sex  trend  std_error
            0  Female  2.503      0.140
            1    Male  2.195      0.146
        """
        if not isinstance(var, str):
            raise OptionError(f"var={var!r} must be the name of a number of the fixed part")
        asked = asked_for(specs, by, contrasts)
        wanted = means_wanted(
            at=at, df=df, **asked._asdict(), interaction=interaction, adjust=adjust,
            weights=weights, conf_level=conf_level, not_estimable=not_estimable, trend=var,
        )  # fmt: skip
        return self._of_means(wanted)

    def joint_tests(
        self,
        by: str | Sequence[str] | None = None,
        at: Mapping[str, Any] | None = None,
        df: DfMethod = "satterthwaite",
    ) -> pd.DataFrame:
        """F tests of the contrasts of marginal means, term by term, as emmeans' ``joint_tests``.

        A row for every combination of variables that some term has: that the differences of its
        means, or differences of these, are zero, within every combination of ``by``. Numbers stand
        one unit below and above their mean. Where all cells have rows and numbers enter linearly
        these are the tests of type III for centred numbers (``anova``, where they are zero). df
        are those of ``joint_test``; emmeans takes the least of the df of single contrasts.

        Args:
            by: variables in each of whose combinations the tests are made.
            at: values of variables, as for ``emmeans``.
            df: as for the method ``df``.

        Returns:
            Columns of ``by``, term, num_df, den_df, statistic, p_value; NaN where the data do not
            determine a contrast, with a warning.

        Raises:
            UnknownTermError, NewLevelError: as for ``emmeans``.
            OptionError, NeedsRemlError: as for ``df``; nothing is left to test.

        Example:
            >>> import jaxhlm as hlm
            >>> data = hlm.load_dataset("math_achieve")
            >>> fit = hlm.fit("MathAch ~ SES * Sex + (1 | School)", data)
            >>> fit.joint_tests().round(3)[["term", "num_df", "statistic"]]
                  term  num_df  statistic
            0      SES     1.0    495.803
            1      Sex     1.0     51.300
            2  SES:Sex     1.0      2.526
        """
        return self._show.long(joint_tests.joint_tests_table(self.record, by, at, df))
