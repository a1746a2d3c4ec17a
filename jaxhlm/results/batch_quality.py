"""How well many models fit: the names of ``Quality`` with a leading axis of fits."""

from __future__ import annotations

import numpy as np
import pandas as pd

from jaxhlm.inference.criteria import check_level
from jaxhlm.inference.explained import Components, components, icc, r2
from jaxhlm.inference.robust import Robust, RobustKind, robust_covariance
from jaxhlm.notation import Floats, Ints, check_option
from jaxhlm.results.batch_coefficients import BatchCoefficients
from jaxhlm.results.robust_tables import robust_table

__all__ = ["BatchQuality"]


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
        check_level(conf_level)
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

    def icc(self) -> pd.Series:
        """(B,) intraclass correlations at the mean random-effect variance; see ``Fit.icc``."""
        return pd.Series(icc(self._components), self.index, name="icc")

    @property
    def _components(self) -> Components:
        source = self._rows()

        def one(at: Ints) -> tuple[Floats, ...]:
            return components(self.estimates[at], source.moments(self.lanes[at]))

        return Components(*self._over_chunks(one))

    def _robust(self, kind: RobustKind) -> Robust:
        check_option("kind", kind, RobustKind)
        source = self._rows()

        def one(at: Ints) -> tuple[Floats, ...]:
            groups = source.by_group(self.lanes[at])
            return robust_covariance(self.estimates[at], groups, self.model.blocks, kind)

        with np.errstate(invalid="ignore"):
            return Robust(*self._over_chunks(one))
