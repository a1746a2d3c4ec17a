"""A separate least-squares line for every unit, to set against the BLUPs; lme4's ``lmList``."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from jaxhlm.core.document import Block, Grid, Printed, framed
from jaxhlm.core.notation import Floats
from jaxhlm.core.tables import Table
from jaxhlm.design.columns import listed
from jaxhlm.design.design import build_design
from jaxhlm.design.segments import Segments, orthonormalise

__all__ = ["LmList", "lm_list"]

RANK_TOL = 1e-7
# Units of a printed table.
MOST_SHOWN = 60


@dataclass(frozen=True, eq=False, repr=False)
class LmList(Printed):
    """Least-squares fits of every unit by itself.

    Attributes:
        coef: (G, q) DataFrame of coefficients. NaN where a unit's rows make a column depend on
            earlier ones; the others are then those of the model without it, as in R's ``lm``.
        se: (G, q) DataFrame of their standard errors with the pooled σ.
        nobs: (G,) rows of each unit.
        sigma: pooled residual standard deviation, over all units.
        df_residual: its degrees of freedom, the sum of rows less determined coefficients.
        formula: the model whose random part gave the columns.
    """

    coef: pd.DataFrame
    se: pd.DataFrame = field(repr=False)
    nobs: pd.Series = field(repr=False)
    sigma: float
    df_residual: int
    formula: str

    def _blocks(self) -> list[Block]:
        """Coefficients by unit and the pooled residual standard deviation."""
        missing = self.coef.index[self.coef.isna().any(axis=1)]
        table = framed(self.coef, most=MOST_SHOWN)
        lines: list[str | Grid] = [f"Separate least-squares fits by {self.coef.index.name}", table]
        if len(missing):
            lines.append(
                f"{len(missing)} unit(s) do not determine all coefficients ({listed(missing)}): "
                "those are blank (NaN), and the others are estimated without them"
            )
        lines.append(
            f"Pooled residual standard deviation: {self.sigma:.4f} on {self.df_residual} df"
        )
        return [lines]


def lm_list(formula: str, data: Table) -> LmList:
    """Fit the unit-level line of a model to each unit alone by least squares.

    Args:
        formula: the mixed model; the left of its bar is what is fitted in each unit. For
            ``y ~ x * a + (1 + x | unit)`` that is y on 1 + x, as ``lmList(y ~ x | unit)``.
        data: one row per measurement, as for ``fit``.

    Returns:
        An ``LmList``.

    Raises:
        JaxhlmError: as for ``fit``.

    Example:
        >>> import jaxhlm as hlm
        >>> lines = hlm.lm_list("Reaction ~ Days + (1 + Days | Subject)",
        ...                     hlm.load_dataset("sleepstudy"))
        >>> lines.coef.loc["308"].round(2).to_dict()
        {'(Intercept)': 244.19, 'Days': 21.76}
    """
    design = build_design(formula, data)
    assert design.y is not None
    order = np.argsort(design.group, kind="stable")
    groups = Segments(design.group[order])
    Z, y = design.Z[order], design.y[order]
    Q, R = orthonormalise(Z, groups, RANK_TOL)
    projection = groups.sum(Q * y[:, None])
    residual = y - (Q * groups.broadcast(projection)).sum(axis=1)
    determined = np.diagonal(R, axis1=1, axis2=2) != 0.0
    df_of_group = groups.lengths - determined.sum(axis=1)
    rss, df = groups.sum(residual**2)[df_of_group > 0].sum(), int(df_of_group.sum())
    sigma = float(np.sqrt(rss / df)) if df > 0 else np.nan
    # A column that depends on others leaves them as they are without it.
    inverse = np.linalg.inv(np.where(determined[:, None], R, np.eye(Z.shape[1])))
    levels = design.levels.rename(design.group_name)

    def frame(values: Floats) -> pd.DataFrame:
        return pd.DataFrame(np.where(determined, values, np.nan), levels, list(design.znames))

    return LmList(
        coef=frame(np.einsum("gab,gb->ga", inverse, projection)),
        se=frame(sigma * np.sqrt((inverse**2).sum(axis=2))),
        nobs=pd.Series(groups.lengths, levels, name="nobs"),
        sigma=sigma,
        df_residual=df,
        formula=design.formula,
    )
