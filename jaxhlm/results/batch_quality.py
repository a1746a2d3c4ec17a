"""How well many models fit: the names of ``Quality`` with a leading axis of fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Literal

import numpy as np
import pandas as pd

from jaxhlm.engine.chunks import CHUNK_BYTES
from jaxhlm.estimates import Estimates
from jaxhlm.inference.criteria import check_level
from jaxhlm.inference.explained import Components, components, icc, icc_at, patterns, r2
from jaxhlm.inference.influence import Influence
from jaxhlm.inference.leaveout import MOST_LANES, leave_one_out, left_out_numbers
from jaxhlm.inference.leverage import cooks_distance, leverage, standardized
from jaxhlm.inference.robust import Robust, RobustKind, robust_covariance
from jaxhlm.notation import Floats, Ints, check_option
from jaxhlm.results.batch_coefficients import BatchCoefficients
from jaxhlm.results.robust_tables import robust_table, warn_undetermined
from jaxhlm.rows.lanerows import LaneRows
from jaxhlm.rows.response import at_absent

__all__ = ["BatchQuality"]

AUGMENTED = (".fitted", ".resid", ".fixed", ".resid_marginal", ".hat", ".cooksd", ".std_resid")


class BatchQuality(BatchCoefficients):
    """Robust inference and measures of fit, for every fit; NaN where one failed."""

    def vcov_robust(self, kind: RobustKind = "CR2") -> Floats:
        """(B, p, p) cluster-robust covariances of the fixed effects; see ``Fit.vcov_robust``.

        Args:
            kind: "CR0", "CR1" or "CR2".

        Raises:
            OptionError: unknown kind.
            JaxhlmError: the fits were read from a file, or simulated without rows.

        Example:
            >>> import jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 | Subject)"
            >>> Y = hlm.fit("Reaction" + formula, data).simulate(3, seed=1)
            >>> hlm.fit_many(formula, data, responses=Y).vcov_robust().shape
            (3, 2, 2)
        """
        return self._robust(kind).vcov

    def tidy_robust(self, kind: RobustKind = "CR2", conf_level: float = 0.95) -> pd.DataFrame:
        """One row per fit and fixed effect; columns as ``Fit.tidy_robust`` after ``fit``.

        Args:
            kind: as for ``vcov_robust``.
            conf_level: of the intervals.

        Raises:
            OptionError: unknown kind, or a level outside (0, 1).
            JaxhlmError: the fits were read from a file, or simulated without rows.

        Example:
            >>> import jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 | Subject)"
            >>> Y = hlm.fit("Reaction" + formula, data).simulate(2, seed=1)
            >>> hlm.fit_many(formula, data, responses=Y).tidy_robust()[["fit", "term"]]
                 fit         term
            0  sim_1  (Intercept)
            1  sim_1         Days
            2  sim_2  (Intercept)
            3  sim_2         Days
        """
        check_level(conf_level, "conf_level")
        terms = pd.Index(self.model.xnames)
        table = robust_table(self.estimates.beta, self._robust(kind), terms, conf_level)
        table.insert(0, "fit", self.index.repeat(len(terms)))
        return table

    def r2(self) -> pd.DataFrame:
        """(B, 2) marginal and conditional R²; see ``Fit.r2``.

        Raises:
            JaxhlmError: the fits were read from a file.

        Example:
            >>> import jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 | Subject)"
            >>> Y = hlm.fit("Reaction" + formula, data).simulate(2, seed=1)
            >>> fits = hlm.fit_many(formula, data, responses=Y)
            >>> list(fits.r2().columns), fits.icc().between(0.3, 0.8).tolist()
            (['marginal', 'conditional'], [True, True])
        """
        marginal, conditional = r2(self._components)
        return pd.DataFrame({"marginal": marginal, "conditional": conditional}, self.index)

    def icc(self, at: Mapping[str, Any] | pd.DataFrame | None = None) -> pd.Series | pd.DataFrame:
        """(B,) intraclass correlations; arguments and errors as for ``Fit.icc``.

        Returns:
            A Series by fit; where ``at`` is a frame a DataFrame, one column for each of its rows.

        Example:
            >>> import jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 + Days | Subject)"
            >>> Y = hlm.fit("Reaction" + formula, data).simulate(2, seed=1)
            >>> fits = hlm.fit_many(formula, data, responses=Y)
            >>> bool((fits.icc({"Days": 9}) > fits.icc({"Days": 0})).all())
            True
        """
        if at is None:
            return pd.Series(icc(self._components), self.index, name="icc")
        design = self._rows().design
        if design.learned_apart and len(self) > 1:
            return pd.concat([fit.icc(at) for fit in self._singly()])
        values = icc_at(self.estimates, patterns(design.of_lane(self.lanes[0]), at))
        if isinstance(at, pd.DataFrame):
            return pd.DataFrame(values, self.index, at.index)
        return pd.Series(values[:, 0], self.index, name="icc")

    def influence(self, by: Literal["group"] = "group") -> Influence:
        """Leave every group of every fit out in turn; see ``Fit.influence``.

        All refits, Σ G of them, go through the engine in large batches.

        Args:
            by: what to leave out; "group": the levels of the grouping factor.

        Returns:
            An ``Influence`` whose tables are indexed by fit and level; NaN where a fit failed.

        Raises:
            OptionError: unknown ``by``.
            JaxhlmError: the fits were read from a file, or simulated without rows.

        Example:
            >>> import jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 | Subject)"
            >>> Y = hlm.fit("Reaction" + formula, data).simulate(3, seed=1)
            >>> influence = hlm.fit_many(formula, data, responses=Y).influence()
            >>> influence.cooks_distance.shape, influence.dfbetas.loc["sim_2"].shape
            ((54,), (18, 2))
        """
        check_option("by", by, Literal["group"])
        source, refits = self._rows(), int(self.ngroups.sum())
        G, q, p = int(self.ngroups.max(initial=1)), len(self.model.znames), len(self.model.xnames)

        def one(at: Ints) -> tuple[Any, ...]:
            groups = source.by_group(self.lanes[at])
            whole = self._estimates_on(at, groups.standard.scaling.C)
            without = leave_one_out(groups, whole, self.options, refits)
            lengths = np.broadcast_to((groups.standard.stats.m > 0.0).sum(axis=0), len(at))
            return lengths, *(getattr(without, f.name) for f in fields(Estimates))

        # As many fits together as fill the lanes of a few compiled runs, on all cores.
        lane_bytes = max(8 * left_out_numbers(G, q, p), CHUNK_BYTES // max(1, 4 * MOST_LANES // G))
        lengths, *without = self._over_runs(one, lane_bytes)
        levels = self._units_below(*self._over_units(lambda at, rows: ()))
        fit = np.repeat(np.arange(len(self)), lengths)
        return Influence(self.model, levels, self.estimates, Estimates(*without), fit)

    @property
    def residuals_marginal(self) -> pd.Series:
        """Response less Xβ̂ by fit and row label; NaN where a fit failed."""

        def one(at: Ints, rows: LaneRows) -> tuple[Floats]:
            return (rows.response - self._fitted(at, rows)[0],)

        return self._row_series(one, "residuals_marginal")

    @property
    def residuals_std(self) -> pd.Series:
        """Conditional residuals over their standard deviations; as ``Fit.residuals_std``."""
        return self._row_series(lambda at, rows: (self._diagnosed(at, rows)[5],), "residuals_std")

    @property
    def residuals_marginal_std(self) -> pd.Series:
        """Marginal residuals over their standard deviations; as ``Fit.residuals_marginal_std``."""

        def one(at: Ints, rows: LaneRows) -> tuple[Floats]:
            e = (rows.response - self._fitted(at, rows)[0]) * rows.root_w
            variance = leverage(self._henderson(at, rows), rows).marginal
            return (standardized(e, rows.of_lane(self.estimates.sigma[at]), variance),)

        return self._row_series(one, "residuals_marginal_std")

    @property
    def hatvalues(self) -> pd.Series:
        """Leverages by fit and row label; as ``Fit.hatvalues``."""
        return self._row_series(lambda at, rows: (self._diagnosed(at, rows)[3],), "hat")

    @property
    def cooks_distance(self) -> pd.Series:
        """Cook's distances of rows by fit and row label; by group: ``influence``."""
        return self._row_series(lambda at, rows: (self._diagnosed(at, rows)[4],), "cooksd")

    def augment(self) -> pd.DataFrame:
        """One row per fit and observation; columns as ``Fit.augment``.

        Returns:
            A frame by fit and row label; NaN where a fit failed.

        Raises:
            JaxhlmError: the fits were read from a file, or simulated without rows.

        Example:
            >>> import jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 | Subject)"
            >>> Y = hlm.fit("Reaction" + formula, data).simulate(2, seed=1)
            >>> table = hlm.fit_many(formula, data, responses=Y).augment()
            >>> table.shape, list(table.index.names)
            ((360, 9), ['response', None])
        """

        def one(at: Ints, rows: LaneRows) -> tuple[Any, ...]:
            fixed, fitted, residual, hat, cook, std = self._diagnosed(at, rows)
            y = np.broadcast_to(rows.response, fixed.shape)
            level = np.broadcast_to(rows.row_levels, fixed.shape)
            return y, level, fitted, residual, fixed, y - fixed, hat, cook, std

        lengths, number, y, level, *values = self._over_rows(one)
        levels = self._rows().design.levels
        columns = {
            self.model.response_name or "y": y,
            self.model.group_name: levels[level],
        } | dict(zip(AUGMENTED, values, strict=True))
        return pd.DataFrame(columns, self._rows_below(lengths, number))

    def _diagnosed(self, at: Ints, rows: LaneRows) -> tuple[Floats, ...]:
        """Xβ̂, fitted, residual, leverage, Cook's distance and standardised residual, (L, n)."""
        fixed, fitted = self._fitted(at, rows)
        residual, sigma = rows.response - fitted, rows.of_lane(self.estimates.sigma[at])
        hat = leverage(self._henderson(at, rows), rows).hat
        e = residual * rows.root_w
        p = rows.of_lane((~self.estimates.absent[at]).sum(axis=1, dtype=float))
        cook = cooks_distance(e, sigma, hat, p)
        return fixed, fitted, residual, hat, cook, standardized(e, sigma, 1.0 - hat)

    def _row_series(self, one: Callable[..., tuple[Floats]], name: str) -> pd.Series:
        lengths, number, values = self._over_rows(one)
        return pd.Series(values, self._rows_below(lengths, number), name=name)

    @property
    def _components(self) -> Components:
        source = self._rows()

        def one(at: Ints) -> tuple[Floats, ...]:
            return components(self._filled[at], source.moments(self.lanes[at]))

        return Components(*self._over_chunks(one))

    def _robust(self, kind: RobustKind) -> Robust:
        check_option("kind", kind, RobustKind)
        with np.errstate(invalid="ignore"):
            vcov, df, one_group = self.over_groups(
                lambda e, g: robust_covariance(e, g, self.model.blocks, kind)
            )
        absent = self.estimates.absent
        found = Robust(at_absent(vcov, absent), at_absent(df, absent), one_group & ~absent)
        warn_undetermined(self.estimates.beta, found, self.model.xnames, self.model.group_name)
        return found
