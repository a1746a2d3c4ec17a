"""The units of many fits: the names of ``Units`` with a leading axis of fits.

Everything is computed for all fits at once, chunk by chunk on all cores; what takes memory is the
frame that comes out. A fit that failed has its units and rows, and NaN in them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from jaxhlm.errors import NewLevelError
from jaxhlm.estimates import random_effects
from jaxhlm.inference.criteria import check_level, standard_errors, wald_interval
from jaxhlm.inference.henderson import (
    Henderson,
    between_variance,
    coef_variance,
    fixed_variance,
    henderson,
    ranef_variance,
    row_variance,
    standardized_effects,
    unit_lines,
    value_variance,
)
from jaxhlm.inference.leverage import fitted_values
from jaxhlm.notation import Bools, Floats, Ints, NewLevels, NotEstimable
from jaxhlm.results.batch_accessors import BatchAccessors
from jaxhlm.results.prediction import (
    Interval,
    check_prediction,
    coef_columns,
    new_rows,
    normal_scores,
    prediction_frame,
    unit_frame,
)
from jaxhlm.rows.columns import listed
from jaxhlm.rows.lanerows import LaneRows

__all__ = ["BatchUnits"]


class BatchUnits(BatchAccessors):
    """Random effects of every fit, and what follows from them."""

    @property
    def ranef(self) -> pd.DataFrame:
        """(Σ G, q) BLUPs of every fit, by fit and level; NaN where it failed.

        Example:
            >>> import jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 + Days | Subject)"
            >>> Y = hlm.fit("Reaction" + formula, data).simulate(3, seed=1)
            >>> fits = hlm.fit_many(formula, data, responses=Y)
            >>> fits.ranef.loc[("sim_2", "308")].index.tolist(), fits.fitted.shape
            (['(Intercept)', 'Days'], (540,))
        """
        lengths, number, b = self._over_units(lambda at, rows: (self._effects(at, rows)[0],))
        return pd.DataFrame(b, self._units_below(lengths, number), list(self.model.znames))

    @property
    def ranef_cov(self) -> dict[Any, Floats]:
        """Conditional covariances of the random effects, (G, q, q) by fit."""
        lengths, _, cov = self._over_units(lambda at, rows: (self._effects(at, rows)[1],))
        return self._by_fit(lengths, cov)

    @property
    def coef(self) -> pd.DataFrame:
        """Coefficients of every unit of every fit, by fit and level; as ``Fit.coef``."""
        names, x, z = coef_columns(self.model)
        lacking = self._lacking(x, z)

        def one(at: Ints, rows: LaneRows) -> tuple[Floats]:
            values = (self._filled.beta[at] @ x.T)[:, None] + self._effects(at, rows)[0] @ z.T
            return (np.where(lacking[at], np.nan, values),)

        lengths, number, values = self._over_units(one)
        return pd.DataFrame(values, self._units_below(lengths, number), names)

    @property
    def coef_se(self) -> pd.DataFrame:
        """Standard errors of ``coef``, by fit and level; as ``Fit.coef_se``."""
        names, x, z = coef_columns(self.model)
        lacking = self._lacking(x, z)

        def one(at: Ints, rows: LaneRows) -> tuple[Floats]:
            variance = coef_variance(self._henderson(at, rows), x, z)
            return (np.where(lacking[at], np.nan, np.sqrt(variance)),)

        lengths, number, values = self._over_units(one)
        return pd.DataFrame(values, self._units_below(lengths, number), names)

    def _lacking(self, x: Floats, z: Floats) -> Bools:
        """Coefficients that are a fixed effect only, and absent, (B, 1, m)."""
        return (self._about_absent(x) & (z == 0.0).all(axis=1))[:, None]

    def ranef_frame(self, conf_level: float = 0.95) -> pd.DataFrame:
        """BLUPs with conditional standard deviations and limits; as ``Fit.ranef_frame``.

        Args:
            conf_level: of the limits.

        Returns:
            Columns fit, group, level, term, estimate, std_error, conf_low, conf_high; Σ G q rows.

        Raises:
            OptionError: a level outside (0, 1).
            JaxhlmError: the fits were read from a file, or simulated without rows.

        Example:
            >>> import jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 | Subject)"
            >>> Y = hlm.fit("Reaction" + formula, data).simulate(2, seed=1)
            >>> fits = hlm.fit_many(formula, data, responses=Y)
            >>> fits.ranef_frame()[["fit", "level", "term"]].iloc[[0, 18]]
                  fit level         term
            0   sim_1   308  (Intercept)
            18  sim_2   308  (Intercept)
        """
        check_level(conf_level, "conf_level")
        lengths, number, b, cov = self._over_units(self._effects)
        se = standard_errors(cov)
        low, high = wald_interval(b, se, conf_level)
        columns = {"estimate": b, "std_error": se, "conf_low": low, "conf_high": high}
        return self._unit_frame(lengths, number, columns)

    @property
    def reliability(self) -> dict[Any, Floats]:
        """W_i of every unit, (G, q, q) by fit; as ``Fit.reliability``."""
        lengths, _, W = self._over_units(lambda at, rows: (self._lines(at, rows)[2],))
        return self._by_fit(lengths, W)

    def shrinkage(self) -> pd.DataFrame:
        """How each unit's prediction relates to its own least-squares line; as ``Fit.shrinkage``.

        Returns:
            Columns fit, group, level, term, ols, blup, population, reliability; Σ G q rows.

        Raises:
            JaxhlmError: the fits were read from a file, or simulated without rows.

        Example:
            >>> import jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 | Subject)"
            >>> Y = hlm.fit("Reaction" + formula, data).simulate(2, seed=1)
            >>> table = hlm.fit_many(formula, data, responses=Y).shrinkage()
            >>> len(table), bool(table["reliability"].between(0, 1).all())
            (36, True)
        """

        def one(at: Ints, rows: LaneRows) -> tuple[Floats, ...]:
            own, population, W = self._lines(at, rows)
            blup = population + self._effects(at, rows)[0]
            return own, blup, population, np.diagonal(W, axis1=-2, axis2=-1)

        lengths, number, *values = self._over_units(one)
        names = ("ols", "blup", "population", "reliability")
        return self._unit_frame(lengths, number, dict(zip(names, values, strict=True)))

    def ranef_qq(self) -> pd.DataFrame:
        """Standardised random effects beside normal quantiles; as ``Fit.ranef_qq``.

        Returns:
            Columns fit, group, level, term, estimate, std_error, standardized, theoretical.

        Raises:
            JaxhlmError: the fits were read from a file, or simulated without rows.

        Example:
            >>> import jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 | Subject)"
            >>> Y = hlm.fit("Reaction" + formula, data).simulate(2, seed=1)
            >>> hlm.fit_many(formula, data, responses=Y).ranef_qq().shape
            (36, 8)
        """

        def one(at: Ints, rows: LaneRows) -> tuple[Floats, ...]:
            variance = ranef_variance(self._henderson(at, rows))
            b = self._effects(at, rows)[0]
            return b, *standardized_effects(b, variance, self.estimates.cov[at])

        lengths, number, b, sd, standardized = self._over_units(one)
        scores = [normal_scores(part) for part in self._split(lengths, standardized)]
        columns = {"estimate": b, "std_error": sd, "standardized": standardized}
        columns["theoretical"] = np.concatenate(scores)
        return self._unit_frame(lengths, number, columns)

    @property
    def fitted(self) -> pd.Series:
        """Fitted values Xβ̂ + Zb̂ by fit and row label; NaN where a fit failed."""
        lengths, number, values = self._over_rows(lambda at, rows: (self._fitted(at, rows)[1],))
        return pd.Series(values, self._rows_below(lengths, number), name="fitted")

    @property
    def residuals(self) -> pd.Series:
        """Response less fitted values by fit and row label."""

        def one(at: Ints, rows: LaneRows) -> tuple[Floats]:
            return (rows.response - self._fitted(at, rows)[1],)

        lengths, number, values = self._over_rows(one)
        return pd.Series(values, self._rows_below(lengths, number), name="residuals")

    def predict(
        self,
        newdata: pd.DataFrame | None = None,
        ranef: bool = True,
        new_levels: NewLevels = "population",
        *,
        se: bool = False,
        interval: Interval | None = None,
        level: float = 0.95,
        not_estimable: NotEstimable = "nan",
    ) -> pd.Series | pd.DataFrame:
        """Expected responses of every fit, with prediction errors if asked; as ``Fit.predict``.

        Args:
            newdata: the same new rows for all fits; the rows that each was fitted to if None.
            ranef: add the unit's random effects.
            new_levels: a unit that a fit has not seen gets its population value, or, with "error",
                raises.
            se: give standard errors and, unless ``interval`` says otherwise, confidence limits.
            interval: "confidence" or "prediction".
            level: of the limits.
            not_estimable: "nan" or "error", as for ``Fit.predict``.

        Returns:
            A Series by fit and row label, or, with ``se`` or ``interval``, a DataFrame: predicted,
            se, low, high. NaN where a fit failed or a variable is missing.

        Raises:
            MissingColumnError, NewLevelError, OptionError: as for ``Fit.predict``.
            JaxhlmError: the fits were read from a file, or simulated without rows.

        Example:
            >>> import jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 + Days | Subject)"
            >>> Y = hlm.fit("Reaction" + formula, data).simulate(2, seed=1)
            >>> fits = hlm.fit_many(formula, data, responses=Y)
            >>> fits.predict(data.head(2), interval="prediction").shape
            (4, 4)
        """
        check_prediction(new_levels, interval, level, not_estimable, ranef=ranef, se=se)
        added = (interval == "prediction") * 1.0
        if newdata is None:
            lengths, number, *found = self._over_rows(
                lambda at, rows: self._known_rows(at, rows, ranef, added)
            )
            below = self._rows_below(lengths, number)
        else:
            strict = new_levels == "error"
            found = list(self._new_rows(newdata, ranef, strict, added, not_estimable))
            m = len(newdata)
            lengths = np.full(len(self), m)
            below = self._below(lengths, newdata.index, np.tile(np.arange(m), len(self)))
        predicted = pd.Series(found[0], below, name="predicted")
        if not se and interval is None:
            return predicted
        return prediction_frame(predicted, np.sqrt(found[1]), np.sqrt(found[2]), level)

    def _known_rows(
        self, at: Ints, rows: LaneRows, ranef: bool, added: float
    ) -> tuple[Floats, Floats, Floats]:
        """Values, error variances, and variances behind limits, (L, n), of the rows fitted."""
        h, sigma2 = self._henderson(at, rows), rows.of_lane(self.estimates.sigma[at] ** 2)
        fixed, fitted = self._fitted(at, rows)
        scale = sigma2 / rows.root_w**2
        if ranef:
            variance = scale * row_variance(h, rows)
            return fitted, variance, variance + added * scale
        variance = scale * fixed_variance(h, rows)
        return fixed, variance, variance + added * scale * (1.0 + between_variance(h, rows))

    def _new_rows(
        self,
        newdata: pd.DataFrame,
        ranef: bool,
        strict: bool,
        added: float,
        not_estimable: NotEstimable,
    ) -> tuple[Floats, ...]:
        """The same of new rows, fit after fit."""
        source = self._rows()
        if source.design.learned_apart and len(self) > 1:
            found = [
                fit._new_rows(newdata, ranef, strict, added, not_estimable)
                for fit in self._singly()
            ]
            return tuple(map(np.concatenate, zip(*found, strict=True)))
        X, Z, code = new_rows(source.design.of_lane(self.lanes[0]), newdata, ranef, not_estimable)
        about = self._about_absent(X)
        self._tell_not_estimable(about, newdata.index, "row(s) of the new data", not_estimable)
        m, (p, q) = len(X), (X.shape[1], Z.shape[1])
        lane_bytes = 8 * (m * (2 * q * q + 2 * q * p + 4 * (p + q)) + self._lane_numbers)

        def one(at: Ints) -> tuple[Any, ...]:
            rows, e = source.lane_rows(self.lanes[at]), self._filled[at]
            group = rows.group_numbers(len(source.design.levels))[:, code]
            if strict and ranef and (group < 0).any():
                unseen = newdata.index[(group < 0).any(axis=0)].unique()
                raise NewLevelError(
                    f"row(s) {listed(unseen)} of newdata have a level of "
                    f"{self.model.group_name!r} that not all fits have seen; pass "
                    'new_levels="population" for the population value, or ranef=False'
                )
            h, values = self._henderson(at, rows), e.beta @ X.T
            if ranef:
                b = self._effects(at, rows)[0][np.arange(len(at))[:, None], group]
                values = values + np.where(group < 0, 0.0, (Z * b).sum(axis=-1))
            variance = value_variance(h, X, Z if ranef else 0.0 * Z, group)
            more = np.broadcast_to(e.sigma[:, None] ** 2, values.shape)
            if not ranef:
                more = more + ((Z @ e.cov) * Z).sum(axis=-1)
            values, variance = (np.where(about[at], np.nan, x) for x in (values, variance))
            found = values, variance, variance + added * more
            return np.full(len(at), m), *(part.ravel() for part in found)

        return self._over_runs(one, lane_bytes)[1:]

    def _over_units(self, one: Any) -> tuple[Any, ...]:
        """Numbers of units by fit, their levels, and ``one`` of fits and rows, unit after unit."""

        def units(at: Ints) -> tuple[Any, ...]:
            rows = self._rows().lane_rows(self.lanes[at])
            return *rows.unit_numbers, *map(rows.flat_units, one(at, rows))

        return self._over_runs(units, 8 * self._lane_numbers)

    def _over_rows(self, one: Any) -> tuple[Any, ...]:
        """Numbers of rows by fit, their labels, and ``one`` of fits and rows, row after row."""

        def flat(at: Ints) -> tuple[Any, ...]:
            rows = self._rows().lane_rows(self.lanes[at])
            return *rows.row_numbers, *map(rows.flat_rows, one(at, rows))

        return self._over_runs(flat, 8 * self._lane_numbers)

    @property
    def _lane_numbers(self) -> int:
        """About how many numbers one fit takes while its units and rows are computed."""
        p, q = len(self.model.xnames), len(self.model.znames)
        units, rows = int(self.ngroups.max(initial=1)), int(self.nobs.max(initial=1))
        return units * (8 * q * q + 4 * q * p) + rows * (2 * p * p + 3 * q * q + 2 * q * p + 8)

    def _effects(self, at: Ints, rows: LaneRows) -> tuple[Floats, Floats]:
        own = self._estimates_on(at, rows.standard.scaling.C)
        found = random_effects(own, rows.standard, self.model.blocks)
        return found.b, found.cov

    def _henderson(self, at: Ints, rows: LaneRows) -> Henderson:
        own = self._estimates_on(at, rows.standard.scaling.C)
        return henderson(own, rows.standard, self.model.blocks)

    def _lines(self, at: Ints, rows: LaneRows) -> tuple[Floats, ...]:
        return unit_lines(self._henderson(at, rows), rows.standard, self._filled.beta[at])

    def _fitted(self, at: Ints, rows: LaneRows) -> tuple[Floats, Floats]:
        return fitted_values(self._filled[at], self._effects(at, rows)[0], rows)

    def _units_below(self, lengths: Ints, number: Ints) -> pd.MultiIndex:
        levels = self._rows().design.levels.rename(self.model.group_name)
        return self._below(lengths, levels, number)

    def _rows_below(self, lengths: Ints, number: Ints) -> pd.MultiIndex:
        return self._below(lengths, self._rows().design.index, number)

    def _unit_frame(self, lengths: Ints, number: Ints, columns: dict[str, Floats]) -> pd.DataFrame:
        levels = self._rows().design.levels[number]
        frame = unit_frame(self.model.group_name, levels, list(self.model.znames), **columns)
        frame.insert(0, "fit", self.index.repeat(lengths * len(self.model.znames)))
        return frame

    def _by_fit(self, lengths: Ints, values: Floats) -> dict[Any, Floats]:
        return dict(zip(self.index, self._split(lengths, values), strict=True))

    @staticmethod
    def _split(lengths: Ints, values: Floats) -> list[Floats]:
        return np.split(values, np.cumsum(lengths)[:-1])
