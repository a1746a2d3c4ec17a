"""``bootstrap_lrt``: a model against a smaller one, with the null distribution by simulation.

The likelihood-ratio statistic follows χ² only in large samples, and not even there when the models
differ in their random effects, because a variance of zero lies on the boundary. Drawing from the
smaller model and fitting both to every draw gives its distribution in the design at hand (Halekoh &
Højsgaard 2014; ``pbkrtest::PBmodcomp``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import affordable, whole_number
from jaxhlm.core.document import Block, Grid, Printed
from jaxhlm.core.notation import Floats
from jaxhlm.core.status import Status, converged
from jaxhlm.core.streams import Key, Seed, random_key
from jaxhlm.errors import ComparisonError, OptionError
from jaxhlm.estimation.estimates import Estimates, estimate_bytes
from jaxhlm.estimation.pipeline import all_or_nothing, fit_lanes
from jaxhlm.inference.nesting import contained, offset_gap, offset_within, same_response
from jaxhlm.inference.tails import chi2_tail
from jaxhlm.results.fit import Fit
from jaxhlm.sources.drawn import DrawnSource, Parametric

__all__ = ["BootstrapLRT", "bootstrap_lrt"]

# Criteria are good to 1e-10: statistics closer than this are equal, such as two that are both zero
# because the variance in question is.
SAME = 1e-8


@dataclass(frozen=True, eq=False, repr=False)
class BootstrapLRT(Printed):
    """A parametric-bootstrap likelihood-ratio test; made by ``jaxhlm.bootstrap_lrt``.

    Attributes:
        statistic: T = 2(ℓ₁ − ℓ₀), both by maximum likelihood.
        df: parameters of the larger model less those of the smaller.
        p_value: (1 + #{T* ≥ T}) / (n_ok + 1).
        mc_se: its Monte-Carlo standard error √(p(1 − p)/n_ok).
        p_chi2: P(χ²_df ≥ T), for comparison; too large when a variance is tested.
        n, n_ok: draws, and draws to which both models could be fitted.
        singular: singular fits among the draws, (smaller, larger).
        statistics: (n,) T*, NaN where a fit failed.
        formulas: (smaller, larger).
        refitted: whether a REML fit was refitted by maximum likelihood.
    """

    statistic: float
    df: int
    p_value: float
    mc_se: float
    p_chi2: float
    n: int
    n_ok: int
    singular: tuple[int, int]
    statistics: Floats = field(repr=False)
    formulas: tuple[str, str] = field(repr=False)
    refitted: bool

    def tidy(self) -> pd.DataFrame:
        """One row per test: bootstrap and naive χ², as ``PBmodcomp`` prints them."""
        return pd.DataFrame(
            {
                "test": ["PBtest", "LRT"],
                "statistic": self.statistic,
                "df": [np.nan, self.df],
                "p_value": [self.p_value, self.p_chi2],
                "mc_se": [self.mc_se, np.nan],
            }
        )

    def _blocks(self) -> list[Block]:
        """The test, and how its fits ended."""
        lines = [
            "Parametric-bootstrap likelihood-ratio test",
            f"Smaller: {self.formulas[0]}",
            f"Larger:  {self.formulas[1]}",
            f"{self.n:,} draws from the smaller model; both fitted to {self.n_ok:,}, "
            f"failed: {self.n - self.n_ok:,}; "
            f"singular: {self.singular[0]:,} (smaller), {self.singular[1]:,} (larger)",
        ]
        if self.refitted:
            lines.append("Fits by REML were refitted by maximum likelihood")
        p, mc_se, p_chi2 = f"{self.p_value:.4g}", f"{self.mc_se:.2g}", f"{self.p_chi2:.4g}"
        tests = Grid(
            ("df", "p value", "Monte-Carlo SE"),
            [["", p, mc_se], [str(self.df), p_chi2, ""]],
            ("Bootstrap", "χ²"),
            plain=f"Bootstrap        p = {p}  (Monte-Carlo standard error {mc_se})\n"
            f"χ², df = {self.df:<7} p = {p_chi2}",
        )
        return [lines, [f"T = {self.statistic:.4f}", tests]]


def bootstrap_lrt(small_fit: Fit, large_fit: Fit, n: int = 1000, seed: Seed = None) -> BootstrapLRT:
    """Test a model against a smaller one by parametric bootstrap; ``pbkrtest::PBmodcomp``.

        p = (1 + #{T*_b ≥ T}) / (n_ok + 1),    T = 2(ℓ₁ − ℓ₀)

    (Davison & Hinkley 1997, chapter 4.) Responses are drawn from the smaller model, fitted by
    maximum likelihood, and both models are fitted to each of them in one batch.

    Args:
        small_fit: the model under the null hypothesis.
        large_fit: a model that contains it, fitted to the same rows.
        n: number of draws.
        seed: int, NumPy Generator or JAX key.

    Returns:
        A ``BootstrapLRT``; ``print`` it for p with its Monte-Carlo error, and the counts of fits.
        At a Ctrl-C that of the draws that both models were fitted to, with a warning.

    Raises:
        ComparisonError: the fits differ in their rows, response or weights, or are not nested, or
            cannot be fitted by maximum likelihood.
        OptionError: n < 1.

    Example:
        >>> import jaxhlm as hlm
        >>> data = hlm.load_dataset("sleepstudy")
        >>> small = hlm.fit("Reaction ~ Days + (1 | Subject)", data)
        >>> large = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", data)
        >>> test = hlm.bootstrap_lrt(small, large, n=500, seed=1)
        >>> print(f"{test.statistic:.2f}  {test.p_value:.4f}")
        42.14  0.0020

    References:
        Halekoh & Højsgaard (2014). A Kenward-Roger approximation and parametric bootstrap methods
        for tests in linear mixed models: the R package pbkrtest. J. Stat. Softw. 59(9).
    """
    n = whole_number("n", n)
    for one in (small_fit, large_fit):
        if not isinstance(one, Fit):
            raise OptionError(f"{type(one).__name__} is no single Fit; give one, such as fits[0]")
    affordable("n", n, 2 * estimate_bytes(large_fit.design.p, large_fit.design.q))
    _check_rows(small_fit, large_fit)
    _check_nested(small_fit, large_fit)
    null, alternative, key = _by_ml(small_fit), _by_ml(large_fit), random_key(seed)
    statistic = max(null.criterion - alternative.criterion, 0.0)
    with all_or_nothing():
        small = _on_draws(null, null, n, key)
    large = _on_draws(alternative, null, n, key)
    n = len(large.status)
    small = small[:n]
    ok = converged(small.status) & converged(large.status)
    gap = np.maximum(small.criterion - large.criterion, 0.0)
    statistics, n_ok = np.where(ok, gap, np.nan), int(ok.sum())
    reached = int((statistics >= statistic - SAME).sum())
    p = (1 + reached) / (n_ok + 1) if n_ok else np.nan
    df = large_fit.model.n_parameters - small_fit.model.n_parameters
    return BootstrapLRT(
        statistic=statistic,
        df=df,
        p_value=p,
        mc_se=float(np.sqrt(p * (1.0 - p) / n_ok)) if n_ok else np.nan,
        p_chi2=float(chi2_tail(statistic, df)),
        n=n,
        n_ok=n_ok,
        singular=(_singular(small), _singular(large)),
        statistics=statistics,
        formulas=(small_fit.model.formula, large_fit.model.formula),
        refitted=small_fit.reml or large_fit.reml,
    )


def _by_ml(fit: Fit) -> Fit:
    """A fit by maximum likelihood."""
    found = fit.refit_ml()
    if not found.status.ok:
        raise ComparisonError(
            f"{fit.model.formula} could not be fitted by maximum likelihood: {found.status.message}"
        )
    return found


def _on_draws(fit: Fit, null: Fit, n: int, key: Key) -> Estimates:
    """Fit the design of ``fit`` to draws from the null model; the same for every ``fit``."""
    e = null.estimates
    drawn = Parametric(null.prepared, n, key, e.beta[0], e.cov[0], null.sigma, statistics=False)
    gap = offset_gap(null.design, fit.design)
    return fit_lanes(_OnDesign(fit.prepared, n, key, drawn, gap), fit.options).estimates


@dataclass(frozen=True)
class _OnDesign(DrawnSource):
    """Responses that were drawn on another design of the same rows.

    Attributes:
        drawn: the responses.
        gap: (n,) the offset of that design less that of this one; None if they are the same.
    """

    drawn: Parametric
    gap: Floats | None

    @property
    def lane_bytes(self) -> int:
        """Draws, and their copy in the order of the groups."""
        return 16 * self.design.n

    def rows(self, lane_slice: slice) -> Floats:
        """The responses, less the offset of the design that they are fitted on."""
        Y = self.drawn.rows(lane_slice)
        return Y if self.gap is None else Y + self.gap[:, None]


def _check_rows(small: Fit, large: Fit) -> None:
    a, b = small.design, large.design
    if a.n != b.n or not a.index.equals(b.index):
        raise ComparisonError(
            f"the fits use different rows ({a.n} and {b.n}); rows with missing values are dropped "
            "model by model: drop them from the data first and fit both again"
        )
    if not same_response(a, b):
        raise ComparisonError("the fits have different responses; only models of one can be tested")
    one = np.ones(a.n)
    first, second = (one if d.weights is None else d.weights for d in (a, b))
    if not np.array_equal(first, second):
        raise ComparisonError("the fits have different prior weights; give both the same")


def _check_nested(small: Fit, large: Fit) -> None:
    a, b = small.design, large.design
    if small.model.n_parameters >= large.model.n_parameters:
        raise ComparisonError(
            f"the first model has {small.model.n_parameters} parameters, the second "
            f"{large.model.n_parameters}: give the smaller one first"
        )
    if not np.array_equal(a.group, b.group):
        raise ComparisonError(
            f"the fits are grouped differently, by {a.group_name!r} and {b.group_name!r}"
        )
    for name, inner, outer in (("fixed", a.X, b.X), ("random", a.Z, b.Z)):
        if not contained(inner, outer).all():
            raise ComparisonError(
                f"the models are not nested: the {name} effects of the first are no combination "
                "of those of the second"
            )
    if not offset_within(a, b):
        raise ComparisonError(
            "the models are not nested: the first has an offset that the second cannot make up for"
        )


def _singular(estimates: Estimates) -> int:
    return int((estimates.status == Status.SINGULAR).sum())
