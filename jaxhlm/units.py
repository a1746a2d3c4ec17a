"""The units of one fit: predicted random effects, coefficients, fitted values, predictions."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pandas as pd

from jaxhlm.accessors import Accessors
from jaxhlm.design import design_for
from jaxhlm.errors import NewLevelError
from jaxhlm.estimates import RandomEffects
from jaxhlm.notation import Floats, NewLevels, check_option

__all__ = ["Units"]


class Units(Accessors):
    """Random effects and what follows from them."""

    @cached_property
    def _random_effects(self) -> RandomEffects:
        return self.prepared.random_effects(self._response[:, None], self.estimates)

    @property
    def ranef(self) -> pd.DataFrame:
        """(G, q) BLUPs b̂, one row per level of the grouping factor."""
        levels = self.design.levels.rename(self.model.group_name)
        return pd.DataFrame(self._random_effects.b[0], levels, list(self.model.znames))

    @property
    def ranef_cov(self) -> Floats:
        """(G, q, q) conditional covariance of b given y at the estimates (lme4's ``condVar``)."""
        return self._random_effects.cov[0]

    @property
    def coef(self) -> pd.DataFrame:
        """(G, …) coefficients of every unit: fixed effects plus its random effects.

        A random effect without a fixed effect of that name gets a column of its own.
        """
        ranef = self.ranef
        names = list(dict.fromkeys([*self._terms, *ranef.columns]))
        fixed = self.fixef.reindex(names, fill_value=0.0)
        return ranef.reindex(columns=names, fill_value=0.0) + fixed

    @property
    def fitted(self) -> pd.Series:
        """(n,) fitted values Xβ̂ + Zb̂ on the row labels of the data."""
        return pd.Series(self._fitted_values(), self.design.index, name="fitted")

    @property
    def residuals(self) -> pd.Series:
        """(n,) response less fitted values."""
        return pd.Series(
            self._response - self._fitted_values(), self.design.index, name="residuals"
        )

    def predict(
        self,
        newdata: pd.DataFrame | None = None,
        ranef: bool = True,
        new_levels: NewLevels = "population",
    ) -> pd.Series:
        """Expected response on new rows.

        Args:
            newdata: frame with the columns of the formula (the response is not needed); the rows
                that were fitted if None. Transforms and factors are coded as they were fitted.
            ranef: add the unit's random effects (``re.form = NULL`` in lme4); False gives Xβ̂.
            new_levels: a unit that was not in the data gets the population value Xβ̂, or, with
                "error", raises.

        Returns:
            (rows,) Series on the index of ``newdata``; NaN where a variable is missing.

        Raises:
            MissingColumnError: a column of the formula is not in ``newdata``.
            NewLevelError: an unseen unit under ``new_levels="error"``, or an unseen level of a
                fixed factor.
        """
        check_option("new_levels", new_levels, NewLevels)
        if newdata is None:
            X, Z, group, index = self.design.X, self.design.Z, self.design.group, self.design.index
        else:
            X, Z, group = design_for(self.design, newdata)
            index = newdata.index
        if ranef and new_levels == "error" and (group < 0).any():
            raise NewLevelError(
                f"{int((group < 0).sum())} row(s) of newdata have a level of "
                f"{self.model.group_name!r} that was not in the data; pass "
                'new_levels="population" for the population value, or ranef=False'
            )
        values = X @ self.estimates.beta[0]
        if ranef:
            b = np.vstack([self._random_effects.b[0], np.zeros(Z.shape[1])])
            values = values + np.where(group < 0, 0.0, (Z * b[group]).sum(axis=1))
        return pd.Series(values, index, name="predicted")

    def augment(self) -> pd.DataFrame:
        """One row per observation: response, unit, .fitted, .resid and .fixed (Xβ̂)."""
        d = self.design
        return pd.DataFrame(
            {
                self.model.response_name or "y": self._response,
                self.model.group_name: d.levels[d.group],
                ".fitted": self._fitted_values(),
                ".resid": self._response - self._fitted_values(),
                ".fixed": d.X @ self.estimates.beta[0],
            },
            index=d.index,
        )

    def _fitted_values(self) -> Floats:
        d = self.design
        return d.X @ self.estimates.beta[0] + (d.Z * self._random_effects.b[0][d.group]).sum(axis=1)
