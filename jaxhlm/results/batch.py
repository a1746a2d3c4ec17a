"""``FitBatch``: many fits at once, the names of ``Fit`` with a leading axis of fits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd

from jaxhlm.arguments import whole_number
from jaxhlm.engine.minimum import Options
from jaxhlm.inference.criteria import check_level, standard_errors
from jaxhlm.inference.degrees import DfMethod, inference_table
from jaxhlm.inference.parameters import (
    parameter_names,
    parameter_values,
    random_names,
    random_values,
)
from jaxhlm.inference.tails import t_tail
from jaxhlm.model import Model
from jaxhlm.notation import Ints
from jaxhlm.pipeline import Prepared
from jaxhlm.results.batch_compared import BatchCompared
from jaxhlm.results.choosing import by_label, by_position_or_label
from jaxhlm.results.fit import Fit
from jaxhlm.results.storage import Stored, check_saving, load, save
from jaxhlm.results.verify import Verification, verify_lanes
from jaxhlm.status import Status

__all__ = ["FitBatch"]


@dataclass(frozen=True)
class ByLabel:
    """What ``fits.loc`` is."""

    fits: FitBatch

    def __getitem__(self, label: Any) -> Any:
        """The fit of a label, or the batch of those that share it, or of a list of labels."""
        if isinstance(label, list | np.ndarray | pd.Index | pd.Series):
            found = [np.atleast_1d(by_label(self.fits.index, x)) for x in label]
            return self.fits._taken(np.concatenate([np.zeros(0, int), *found]))
        return self.fits._taken(by_label(self.fits.index, label))


@dataclass(frozen=True, eq=False)
class FitBatch(BatchCompared):
    """Many fits of one formula; made by ``jaxhlm.fit_many``.

    ``fits[i]`` is a ``Fit``, ``fits[lanes]`` (slice, list or boolean array) a smaller ``FitBatch``.
    Whole numbers are positions, text and other labels are labels (``fits["BRCA1"]``); where labels
    are whole numbers, ``fits.loc[17]`` takes them.
    A data set that could not be fitted has a status code and NaN estimates; it is counted in
    ``print(fits)`` and never dropped. One in whose rows a column of X is zero, as where it has no
    row of some level of a factor, has NaN for that coefficient and whatever depends on it.

    Attributes:
        model: formula, method and labels.
        estimates: arrays of all estimates.
        index: (B,) labels of the fits: response names, or values of ``by``.
        nobs: (B,) rows of each fit.
        ngroups: (B,) groups of each fit.

    Example:
        >>> import jaxhlm as hlm
        >>> one = hlm.fit("Reaction ~ Days + (1 | Subject)", hlm.load_dataset("sleepstudy"))
        >>> Y = one.simulate(3, seed=1)
        >>> fits = hlm.fit_many("~ Days + (1 | Subject)", hlm.load_dataset("sleepstudy"), Y)
        >>> fits.fixef.shape, [int(s) for s in fits.status]
        ((3, 2), [0, 0, 0])
    """

    def __getitem__(self, which: Any) -> Any:
        """The fit at a position or of a label, or the batch of some fits."""
        return self._taken(by_position_or_label(self.index, which))

    @property
    def loc(self) -> ByLabel:
        """``fits.loc[label]``: the fit of a label, also where labels are whole numbers.

        Example:
            >>> import pandas as pd, jaxhlm as hlm
            >>> data = hlm.load_dataset("sleepstudy")
            >>> frame = data.assign(study=7), data.assign(study=3, Reaction=-data["Reaction"])
            >>> formula = "Reaction ~ Days + (1 | Subject)"
            >>> fits = hlm.fit_many(formula, pd.concat(frame), by="study")
            >>> print(f"{fits.loc[7].fixef['Days']:.3f}  {fits[0].fixef['Days']:.3f}")
            10.467  -10.467
        """
        return ByLabel(self)

    def _taken(self, which: int | Ints) -> Any:
        """The fit at a position, or the batch of those at some."""
        if isinstance(which, int):
            return self._one(which)
        some = FitBatch(
            self.model,
            self.estimates[which],
            self.index[which],
            self.nobs[which],
            self.ngroups[which],
            self.options,
            self.lanes[which],
            self.source,
        )
        some._known.update({m: tuple(x[which] for x in found) for m, found in self._known.items()})
        return some

    def __iter__(self) -> Iterator[Fit]:
        """The fits, one by one."""
        return (self._one(i) for i in range(len(self)))

    def to_parquet(self, path: str | PathLike[str], df: DfMethod | None = None) -> None:
        """Write the estimates, one row per fit, without the data (needs pyarrow).

        Labels of the fits come back equal, whatever they are: integers, dates, categories, several
        levels, mixed types. A file of this name is replaced when the new one is complete.

        Args:
            path: the file.
            df: compute degrees of freedom of the fixed effects by this method first and write them
                as well; they need the data, which the file does not have.

        Raises:
            OptionError, NeedsRemlError: as for the method ``df``; a label that no file can hold.
            FileError: the file cannot be written; an older one of this name is still there.

        Example:
            >>> import tempfile, jaxhlm as hlm
            >>> data, formula = hlm.load_dataset("sleepstudy"), "~ Days + (1 | Subject)"
            >>> Y = hlm.fit("Reaction" + formula, data).simulate(2, seed=1)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     path = f"{folder}/fits.parquet"
            ...     hlm.fit_many(formula, data, responses=Y).to_parquet(path, df="kenward-roger")
            ...     back = hlm.FitBatch.read_parquet(path)
            >>> back.df("kenward-roger").round(6)["Days"].tolist()
            [161.0, 161.0]
        """
        check_saving(path, self.index)
        stored = self.stored
        if df is not None:
            se, dof, _ = self._coefficients(df)
            stored = stored._replace(tests={df: (se, dof)})
        save(path, stored)

    @property
    def stored(self) -> Stored:
        """What a file holds of these fits."""
        return Stored(self.model, self.estimates, self.index, self.nobs, self.ngroups)

    @staticmethod
    def read_parquet(path: str | PathLike[str]) -> FitBatch:
        """Read estimates that ``to_parquet`` wrote; what needs the data then raises.

        Small-sample df of the fixed effects are there if they were written.

        Raises:
            FileError: the file is not there, is damaged, or was not written by ``to_parquet``.
        """
        return FitBatch.of(load(path))

    @staticmethod
    def of(s: Stored) -> FitBatch:
        """The fits that a file holds."""
        options = Options(s.model.reml, s.model.blocks)
        lanes = np.arange(len(s.index))
        fits = FitBatch(s.model, s.estimates, s.index, s.nobs, s.ngroups, options, lanes, None)
        for method, (se, df) in s.tests.items():
            fits._known[method] = se, df, t_tail(s.estimates.beta / se, df)
        return fits

    def tidy(self, df: DfMethod = "satterthwaite", conf_level: float = 0.95) -> pd.DataFrame:
        """One row per fit and parameter; arguments, and columns after ``fit``, as ``Fit.tidy``."""
        check_level(conf_level, "conf_level")
        se, dof, _ = self._coefficients(df)
        columns = inference_table(self.estimates.beta, se, dof, 0.0, conf_level)
        random = random_values(self.model, self.estimates.cov)
        values = np.column_stack([columns.pop("estimate"), random, self.estimates.sigma])
        p, (B, m) = len(self.model.xnames), values.shape
        effects = ["fixed"] * p + ["ran_pars"] * (m - p)
        groups = [None] * p + [self.model.group_name] * (m - p - 1) + ["Residual"]
        terms = [*self.model.xnames, *random_names(self.model), "sd__Observation"]
        long: dict[str, Any] = {"fit": self.index.repeat(m)}
        for name, labels in {"effect": effects, "group": groups, "term": terms}.items():
            long[name] = np.tile(np.array(labels, dtype=object), B)
        long["estimate"] = values.ravel()
        for name, of_fixed in columns.items():
            long[name] = np.full((B, m), np.nan)
            long[name][:, :p] = of_fixed
            long[name] = long[name].ravel()
        return pd.DataFrame(long | {"boundary": np.repeat(self.singular, m)})

    def glance(self) -> pd.DataFrame:
        """One row of fit statistics per fit."""
        return pd.DataFrame(
            {
                "nobs": self.nobs,
                "ngroups": self.ngroups,
                "sigma": self.sigma,
                "loglik": self.loglik,
                "aic": self.aic,
                "aicc": self.aicc,
                "bic": self.bic,
                "criterion": self.criterion,
                "df_residual": self.nobs - self._n_parameters,
                "reml": self.reml,
                "singular": self.singular,
                "status": [Status(s).name for s in self.status],
                "iterations": self.iterations,
            },
            index=self.index,
        )

    def verify(self, n: int = 20, seed: int = 0) -> Verification:
        """Refit ``n`` random fits with the NumPy reference; print the result for one line.

        Args:
            n: how many of the fits that converged.
            seed: which.
        """
        n, seed = whole_number("n", n), whole_number("seed", seed, least=0)
        good = np.flatnonzero(self.ok)
        chosen = np.random.default_rng(seed).permutation(good)[:n]
        fits = (self._one(i) for i in chosen.tolist())
        return verify_lanes(((fit.design, fit.estimates) for fit in fits), self.reml)

    def summary(self) -> pd.DataFrame:
        """Mean and spread of every parameter over the fits that converged, and the mean SE."""
        values = parameter_values(self.model, self.estimates)[self.ok]
        se = standard_errors(self.estimates.vcov)[self.ok]
        terms = list(parameter_names(self.model))
        table = pd.DataFrame(index=pd.Index(terms, name="term"))
        with np.errstate(all="ignore"):
            frame = pd.DataFrame(values, columns=terms)
            table["mean"], table["sd"] = frame.mean(), frame.std()
            table["min"], table["median"], table["max"] = frame.min(), frame.median(), frame.max()
            table["mean SE"] = pd.DataFrame(se, columns=list(self.model.xnames)).mean()
        return table

    def __str__(self) -> str:
        """Counts, then the summary table."""
        counts = self.counts
        good = int(self.ok.sum())
        method = "REML" if self.reml else "maximum likelihood"
        head = [
            f"{len(self):,} linear mixed model fits by {method}",
            f"Formula: {self.model.formula}",
            f"Converged: {good:,}, of these singular: {counts['singular']:,}; "
            f"failed: {len(self) - good:,}",
        ]
        head += [
            f"  {counts.iloc[s]:,} × {Status(s).message}"
            for s in Status
            if not s.ok and counts.iloc[s]
        ]
        if absent := int(self.estimates.absent.any(axis=1).sum()):
            head.append(f"Without some coefficient (NaN: no row has that level): {absent:,}")
        if not good:
            return "\n".join(head)
        return "\n".join([*head, "", self.summary().to_string(float_format="%.4f", na_rep="")])

    __repr__ = __str__

    def _one(self, i: int) -> Fit:
        design, absent = self._design(i), self.estimates.absent[i]
        prepared = Prepared(design)
        own = self._estimates_on(np.array([i]), prepared.standard.C)
        if not absent.any():
            return Fit(self.model, design, own, self.options, prepared)
        beta, vcov = own.beta[:, ~absent], own.vcov[:, ~absent][:, :, ~absent]
        own = replace(own, beta=beta, vcov=vcov)
        return Fit(Model.of(design, self.reml), design, own, self.options, prepared)
