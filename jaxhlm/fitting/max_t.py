"""``max_t``: named contrasts of many responses, adjusted by their largest statistic under the null.

Unlike Bonferroni's, the adjustment knows how the responses depend on each other: what holds the
chance of any false discovery among a thousand that are all but the same is that of one test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import affordable, check_flag, fraction, whole_number
from jaxhlm.core.devices import Devices
from jaxhlm.core.document import Block, Printed, framed
from jaxhlm.core.notation import Floats, check_option
from jaxhlm.core.streams import Seed, random_key, seed_of
from jaxhlm.core.tables import Shown
from jaxhlm.errors import JaxhlmError, OptionError
from jaxhlm.estimation.hypotheses import Contrasts
from jaxhlm.fitting.null_refits import NullRefits
from jaxhlm.inference.contrast_tests import DfMethod
from jaxhlm.inference.max_t import critical_value
from jaxhlm.resampling.null_responses import NullMethod, null_responses
from jaxhlm.results.batch import FitBatch
from jaxhlm.results.named_contrasts import contrast_table, named_hypothesis
from jaxhlm.results.record import FitRecord
from jaxhlm.sources.sources import ResponseMatrix

__all__ = ["MaxT", "max_t"]

# What ``print`` counts.
LEVEL = 0.05


@dataclass(frozen=True, eq=False, repr=False)
class MaxT(Printed):
    """Tests of named contrasts with family-wise error rates; made by ``jaxhlm.max_t``.

    Attributes:
        table: what ``fits.test`` gives, with p_fwer, adjusted for the number of responses by the
            largest statistic, and mc_se, its Monte-Carlo standard error √(p(1 − p)/n).
        maxima: (n, contrasts) the largest |z| of all responses, by resample.
        method: "sign-flip" or "parametric".
        exact: whether these are all sign patterns that there are.
        step_down: whether p_fwer are those of the step-down procedure.
        seed: int that gives the same resamples again.
        refits, failed: number of refits, and of those that failed and do not count.
        fits: the fits.
    """

    table: pd.DataFrame = field(repr=False)
    maxima: pd.DataFrame = field(repr=False)
    method: NullMethod
    exact: bool
    step_down: bool
    seed: int
    refits: int
    failed: int
    fits: FitBatch = field(repr=False)

    def __len__(self) -> int:
        """Number of resamples, n."""
        return len(self.maxima)

    def critical(self, level: float = LEVEL) -> pd.DataFrame:
        """What |z| has to reach in any response for a single-step p_fwer ≤ level.

        Args:
            level: family-wise error rate.

        Returns:
            A row for each contrast: z, infinite where so few resamples reach no such p, and its
            Monte-Carlo standard error mc_se.

        Raises:
            OptionError: level outside (0, 1).
        """
        level = fraction("level", level, LEVEL)
        found = [critical_value(x, level, self.exact) for x in self.maxima.to_numpy().T]
        return pd.DataFrame(found, self.maxima.columns, ["z", "mc_se"])

    @property
    def heading(self) -> str:
        """What was done, and how the refits ended."""
        seed = "all that there are" if self.exact else f"seed {self.seed}"
        lines = [
            f"Max-T over {len(self.fits):,} responses, "
            f"{'step-down' if self.step_down else 'single-step'}",
            f"Formula: {self.fits.model.formula}",
            f"{len(self):,} resamples ({seed}): {self._how}",
            f"{self.refits:,} refits, failed: {self.failed:,}",
        ]
        if self.exact:
            lines.append(
                f"The smallest p_fwer that so few units allow is 1/{len(self) + 1}; "
                'method="parametric" has no such bound'
            )
        return "\n".join(lines)

    def _blocks(self) -> list[Block]:
        """The heading, and by contrast what is found and what it takes."""
        shown = self.critical().set_axis([f"|z| for {LEVEL}", "Monte-Carlo SE"], axis=1)
        found = self.table["contrast"][self.table["p_fwer"] <= LEVEL].value_counts()
        shown.insert(0, f"p_fwer ≤ {LEVEL}", found.reindex(shown.index, fill_value=0).to_numpy())
        return [[self.heading], [framed(shown, ".3f", index_names=False)]]

    @property
    def _how(self) -> str:
        if self.method == "parametric":
            return "draws from the null model, responses independent of each other"
        units, name = self.fits.record.rows.design.G, self.fits.model.group_name
        return f"signs of whole units ({units:,} of {name}), alike in all responses"


# A data set of extreme size gets a status, and no warning stops its neighbours.
@np.errstate(all="ignore")
def max_t(
    fits: FitBatch,
    contrasts: Mapping[str, Any] | Contrasts | None = None,
    n: int = 999,
    seed: Seed = None,
    *,
    method: NullMethod = "sign-flip",
    df: DfMethod = "satterthwaite",
    step_down: bool = True,
    progress: bool | None = None,
    devices: Devices = None,
) -> MaxT:
    """Tests of named contrasts with p values that bound the chance of any false discovery.

    For each contrast all responses are refitted to n resamples in which its hypothesis holds, and
    p_fwer says how often the largest |z| of them reaches that observed (Westfall & Young 1993).
    z is the standard normal number of a test's p value, so that responses whose df differ are
    judged alike. The family is all responses, for each contrast by itself.

    * "sign-flip": residuals of whole units from β̂ under the hypothesis, all of a unit's multiplied
      by 1 or −1, alike in all responses, so that responses may depend on each other in any way, and
      rows of a unit too. It takes errors of units that are symmetric, jointly for the responses;
      it is exact where the contrast is the only fixed effect, and else for many units.
      With G units there are 2^(G − 1) patterns: if n is no less, all of them are used.
    * "parametric": random effects and residuals drawn from each response's own fit under the
      hypothesis, for any number of units. Responses are drawn independently of each other, which
      makes p_fwer larger than need be where they are not.

    Args:
        fits: of ``fit_many(formula, data, responses=…)``, with missing values and weights or not.
        contrasts, df: as for ``FitBatch.test``.
        n: number of resamples. The smallest p_fwer is 1/(n + 1).
        seed: int, NumPy Generator or JAX key. The same seed gives the same resamples whatever the
            chunks, and the first of them whatever n.
        method: how hypotheses are made to hold.
        step_down: a response competes only with those of smaller |z|, which finds no less and
            bounds the same; False lets it compete with all, and reads responses in their order.
        progress: show a progress bar; by default in a terminal and in a notebook.
        devices: as for ``fit_many``.

    Returns:
        A ``MaxT``: ``.table``, ``.critical()``; ``print`` it for counts, critical values and their
        Monte-Carlo errors. At a Ctrl-C that of the resamples that are finished.

    Raises:
        OptionError: an option that cannot be, or fits of something else than ``responses=``.
        ResamplingError: one unit has no signs to flip.
        UnknownTermError, ContrastError, NotEstimableError, NeedsRemlError: as for ``contrast``.
        JaxhlmError: the fits were read from a file, or none of them can be tested.

    Example:
        >>> import jaxhlm as hlm
        >>> data = hlm.load_dataset("sleepstudy")
        >>> Y = hlm.fit("Reaction ~ 1 + (1 | Subject)", data).simulate(20, seed=1)
        >>> Y["sim_3"] += 10.0 * data["Days"]
        >>> fits = hlm.fit_many("~ Days + (1 | Subject)", data, Y)
        >>> found = hlm.max_t(fits, {"slope": "Days"}, n=199, seed=1)
        >>> table = found.table
        >>> table.loc[table["p_fwer"] < 0.05, ["response", "contrast", "p_fwer"]].iloc[0].to_dict()
        {'response': 'sim_3', 'contrast': 'slope', 'p_fwer': 0.005}

    References:
        Westfall & Young (1993). Resampling-Based Multiple Testing. Wiley.
        Winkler, Ridgway, Webster, Smith & Nichols (2014). Permutation inference for the general
        linear model. NeuroImage 92, 381-397.
    """
    check_option("method", method, NullMethod)
    check_flag("step_down", step_down)
    n, key = whole_number("n", n), random_key(seed)
    record, source = _responses(fits)
    table = contrast_table(record, contrasts, df, *(False,) * 3, "BH", False, "long")
    hypothesis = named_hypothesis(record.model, contrasts)
    affordable("n", n, 8.0 * len(hypothesis.L))
    observed = table["z"].abs().to_numpy().reshape(len(record), -1)
    if np.isnan(observed).all():
        raise JaxhlmError("no contrast can be tested in any of these fits: see fits.status")
    null = null_responses(method, source.design, n, key)
    refits = NullRefits(record, source, null, hypothesis, df, observed, step_down, devices)
    found = refits.run(progress)
    return MaxT(
        table=_with_p(table, refits.p_values(found), np.inf if null.exact else len(found.maxima)),
        maxima=_labelled(found.maxima, hypothesis.labels),
        method=method,
        exact=null.exact,
        step_down=step_down,
        seed=seed_of(key),
        refits=len(found.maxima) * refits.tests,
        failed=found.failed,
        fits=fits,
    )


def _responses(fits: FitBatch) -> tuple[FitRecord, ResponseMatrix]:
    """The record of fits of a matrix of responses, and these."""
    if not isinstance(fits, FitBatch):
        raise OptionError(
            f"fits: {type(fits).__name__} is no FitBatch; give what fit_many(…, responses=…) "
            "returns, and of fits in a folder fits[:]"
        )
    source = fits.record.rows
    if not isinstance(source, ResponseMatrix):
        raise OptionError(
            "fits: data sets with rows of their own (by=), or that are drawn, are no responses "
            "of the same units: give fits of fit_many(…, responses=…)"
        )
    return fits.record, source


def _with_p(table: pd.DataFrame, p: Floats, resamples: float) -> pd.DataFrame:
    """The table with two columns more, before the status."""
    status, p = table["status"], p.ravel()
    error = np.sqrt(p * (1.0 - p) / resamples)
    return Shown(table.drop(columns="status").assign(p_fwer=p, mc_se=error, status=status))


def _labelled(maxima: Floats, labels: Sequence[str]) -> pd.DataFrame:
    index = pd.RangeIndex(len(maxima), name="resample")
    return pd.DataFrame(maxima, index, pd.Index(labels, name="contrast"))
