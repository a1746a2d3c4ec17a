"""``RowResults``: what a fit says of its rows, and of new ones."""

from __future__ import annotations

import pandas as pd

from jaxhlm.core.notation import NewLevels, NotEstimable, check_option
from jaxhlm.core.tables import Shown, Table
from jaxhlm.inference.influence import Influence, LeftOut
from jaxhlm.results import quality, units
from jaxhlm.results.estimated import Estimated
from jaxhlm.results.prediction import Interval, check_prediction, prediction_frame
from jaxhlm.results.presenters import Each, Matrix, Number, Vector

__all__ = ["RowResults"]


class RowResults(Estimated[Number, Vector, Matrix, Each]):
    """Fitted values, residuals, leverage, prediction and influence."""

    @property
    def fitted(self) -> pd.Series:
        """(n,) fitted values Xβ̂ + Zb̂, plus the offset, on the row labels of the data."""
        return self._of_rows("fitted", lambda f: f.fitted)

    @property
    def residuals(self) -> pd.Series:
        """(n,) response less fitted values."""
        return self._of_rows("residuals", lambda f: f.residual)

    @property
    def residuals_marginal(self) -> pd.Series:
        """(n,) response less Xβ̂, the population's prediction."""
        return self._of_rows("residuals_marginal", lambda f: f.residual_marginal)

    @property
    def residuals_std(self) -> pd.Series:
        """(n,) conditional residuals over their standard deviations σ√((1 − h)/w), θ known.

        NaN where h = 1: the fit passes through the response whatever it is.
        """
        return self._of_rows("residuals_std", lambda f: f.residual_std)

    @property
    def residuals_marginal_std(self) -> pd.Series:
        """(n,) marginal residuals over the roots of diag σ²(V − X A⁻¹ X'), θ known."""
        return self._of_rows("residuals_marginal_std", lambda f: f.residual_marginal_std)

    @property
    def hatvalues(self) -> pd.Series:
        """(n,) leverages: the diagonal of H in Xβ̂ + Zb̂ = Hy; ``lme4``'s ``hatvalues``."""
        return self._of_rows("hat", lambda f: f.leverage.hat)

    @property
    def cooks_distance(self) -> pd.Series:
        """(n,) (e/(1 − h))² h/(pσ²), ``lme4``'s ``cooks.distance``; by group: ``influence``."""
        return self._of_rows("cooksd", lambda f: f.cooks_distance)

    def augment(self) -> pd.DataFrame:
        """One row per observation, as ``broom.mixed::augment``.

        Returns:
            The response, the unit, .fitted, .resid, .fixed (Xβ̂), .resid_marginal (y − Xβ̂), .hat,
            .cooksd and .std_resid, the conditional residual over its standard deviation. Of
            broom.mixed's columns the predictors are left out, and ``.mu``, which is .fitted, and
            weights: the rows of one fit are labelled as those of the data, so that
            ``data.join(fit.augment().filter(regex=r"^\\."))`` has all.

        Example:
            >>> import jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 | Subject)"
            >>> Y = hlm.fit("Reaction" + formula, data).simulate(2, seed=1)
            >>> table = hlm.fit_many(formula, data, responses=Y).augment()
            >>> table.shape, list(table.index.names)
            ((360, 9), ['response', None])
        """
        ragged, columns = quality.augmented(self.record)
        return Shown(pd.DataFrame(columns, self._show.row_index(ragged)))

    def predict(
        self,
        newdata: Table | None = None,
        ranef: bool | str = True,
        new_levels: NewLevels = "population",
        *,
        se: bool = False,
        interval: Interval | None = None,
        level: float = 0.95,
        not_estimable: NotEstimable = "nan",
    ) -> pd.Series | pd.DataFrame:
        """Expected response on new rows, x'β̂ + z'b̂ + offset, with prediction errors if asked.

        The error of a unit's expected value, uncertainty of β̂ and of b̂ together, is

            Var(x'β̂ + z'b̂ − x'β − z'b) = z'Var(b | y)z + d'Var(β̂)d,   d = x − X'V⁻¹Z D z

        from Henderson's (1975) mixed model equations; of a unit that was not seen, x'Var(β̂)x +
        z'Σz. θ and σ are taken as known, so that limits are somewhat narrow with few units.

        Args:
            newdata: table with the columns of the formula (the response is not needed, the grouping
                column is unless ``ranef=False``), the same for all fits of a batch; the rows that
                were fitted if None. Transforms and factors are coded as they were fitted.
            ranef: add the unit's random effects (``re.form = NULL`` in lme4); False gives Xβ̂;
                random terms, such as "(1 | unit)", add these only (``re.form = ~ (1 | unit)``),
                which may be some of the columns of a term of the model.
            new_levels: a unit that was not in the data gets the population value Xβ̂, or, with
                "error", raises.
            se: give standard errors and, unless ``interval`` says otherwise, confidence limits.
            interval: "confidence" for the unit's expected value (with ``ranef=False`` for Xβ), or
                "prediction" for a new response, which adds σ²/w (and with ``ranef=False`` z'Σz: the
                response of any unit; with part of the random effects there is none). New rows have
                weight 1.
            level: of the limits, which are normal: value ± z sd.
            not_estimable: where X is rank deficient, a row whose expected value the data do not
                determine (a cell that was never seen, other values of columns that depended on
                each other) is NaN, with a warning, or, with "error", raises.

        Returns:
            (rows,) Series on the index of ``newdata``; NaN where a variable, or the unit, is
            missing or the value is not estimable. With ``se`` or ``interval`` a DataFrame:
            predicted, se, low, high.

        Raises:
            MissingColumnError: a column of the formula is not in ``newdata``.
            NewLevelError: an unseen unit under ``new_levels="error"``, or an unseen level of a
                fixed factor.
            NotEstimableError: under ``not_estimable="error"``.
            FormulaError, UnknownTermError: ``ranef`` is text other than random terms, or a term is
                not in the model.
            OptionError: an unknown option, or a level outside (0, 1).

        Example:
            >>> import jaxhlm as hlm
            >>> data = hlm.load_dataset("sleepstudy")
            >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", data)
            >>> fit.predict(data.head(2), interval="prediction").round(2)
               predicted     se     low    high
            0     253.66  12.25  198.05  309.28
            1     273.33  10.54  219.08  327.58
            >>> Y = fit.simulate(2, seed=1)
            >>> fits = hlm.fit_many("~ Days + (1 + Days | Subject)", data, responses=Y)
            >>> fits.predict(data.head(2), interval="prediction").shape
            (4, 4)
        """
        check_prediction(new_levels, interval, level, not_estimable, se=se)
        ragged, labels = units.predictions(
            self.record, newdata, ranef, new_levels, interval, not_estimable
        )
        index = self._show.index(ragged.lengths, labels, ragged.number)
        return prediction_frame(ragged.values, index, se or interval is not None, level)

    def influence(self, by: LeftOut = "group") -> Influence:
        """Leave every group, or row, of every fit out in turn: exact refits of all of them at once.

        Each refit maximises the criterion of the data without it, θ and σ included, from the
        statistics of single groups: ``lme4``'s ``influence(fit, groups)``, or ``influence(fit)`` by
        observation. Cook's D = (β̂ − β̂₍ᵢ₎)'Var(β̂)⁻¹(β̂ − β̂₍ᵢ₎)/p (Cook 1977); ``lme4``'s
        ``cooks.distance(influence(fit, …))`` is (G − p)/G times that, or (n − p)/n. Of rows,
        ``cooks_distance`` of the fit is the one with θ kept and b̂ not predicted anew.
        Columns of X stay as all rows made them (``poly``, ``center``). One that a single group
        determines leaves the fit without that group rank deficient, and so NaN, where ``fit`` would
        drop the column.

        Args:
            by: what to leave out: "group", the levels of the grouping factor, or "observation",
                single rows, which takes time with the square of the rows of a group.

        Returns:
            An ``Influence``: ``fixef``, ``dfbetas``, ``cooks_distance``, ``sigma``, ``cov``,
            ``theta`` without each, ``status`` and ``counts``, and all of it as ``frame()``.

        Raises:
            OptionError: unknown ``by``.

        Example:
            >>> import jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 + Days | Subject)"
            >>> fit = hlm.fit("Reaction" + formula, data)
            >>> fit.influence().cooks_distance.nlargest(2).round(4).to_dict()
            {'309': 0.1485, '335': 0.1295}
            >>> fit.influence(by="observation").cooks_distance.nlargest(2).round(4).to_dict()
            {59: 0.0464, 130: 0.0243}
            >>> fits = hlm.fit_many(formula, data, responses=fit.simulate(2, seed=1))
            >>> influence = fits.influence()
            >>> influence.cooks_distance.shape, influence.dfbetas.loc["sim_2"].shape
            ((36,), (18, 2))
        """
        check_option("by", by, LeftOut)

        def levels() -> pd.Index:
            if by == "group":
                return self._show.unit_index(units.over_units(self.record, lambda f: ()))
            return self._show.row_index(units.over_rows(self.record, lambda f: ()))

        return quality.influence(self.record, by, levels)
