"""The article that this package starts from, again: its two models, its table, its truth.

Ben Ogorek's article on hierarchical linear models and lmer draws 30 units of 30 measurements whose
intercepts and slopes depend on a unit-level covariate a, derives the formula of the model and
recovers the parameters. Here the same data are fitted, set beside what the article printed, and its
truth is simulated many times over.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from jaxhlm.core.document import framed
from jaxhlm.core.notation import Floats
from jaxhlm.core.streams import Seed
from jaxhlm.datasets import load_dataset
from jaxhlm.design.design import Design, build_design
from jaxhlm.errors import SingularFitWarning, muted
from jaxhlm.estimation.model import Model
from jaxhlm.fitting.fit import fit
from jaxhlm.fitting.many import fit_many
from jaxhlm.inference.criteria import standard_errors, wald_interval
from jaxhlm.inference.parameters import parameter_values, random_values
from jaxhlm.likelihood.covariance import lambda_of
from jaxhlm.reference import criterion_by_group
from jaxhlm.results.batch import FitBatch
from jaxhlm.results.fit import Fit
from jaxhlm.statistics.simulate_rows import simulate_rows
from jaxhlm.studies.truth import Truth

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "FORMULAS",
    "PRINTED",
    "TRUTH",
    "Refitted",
    "article_figures",
    "comparison",
    "ml_deviance",
    "recovery",
    "run",
    "simulate_article",
    "true_values",
]

FORMULAS = ("y ~ x + (1 + x | unit)", "y ~ x + a + x * a + (1 + x | unit)")


# The article's parameters: intercept 1 − 0.15a, slope 3 + 0.3a.
TRUTH = Truth.of(beta=(1.0, 3.0, -0.15, 0.30), sd=(0.2, 0.5), corr=0.9, sigma=0.75)


def ml_deviance(result: Fit) -> float:
    """The ML deviance at the REML estimate, which lmer then printed beside the REML criterion."""
    d, Lambda = result.design, lambda_of(result.theta[:, None], result.model.blocks)[0]
    assert d.y is not None
    return criterion_by_group(Lambda, d.y, d.X, d.Z, d.group, reml=False)


# What the article printed, to the digits it printed, and how to read it off a fit.
PRINTED: tuple[dict[str, tuple[str, Callable[[Fit], float]]], ...] = (
    {"AIC": ("2226", lambda f: f.aic)},
    {
        "AIC": ("2206", lambda f: f.aic),
        "BIC": ("2244", lambda f: f.bic),
        "logLik": ("-1095", lambda f: f.loglik),
        "deviance": ("2174", ml_deviance),
        "REMLdev": ("2190", lambda f: f.criterion),
        "variance (Intercept)": ("0.0315", lambda f: f.varcorr.cov.iloc[0, 0]),
        "variance x": ("0.2842", lambda f: f.varcorr.cov.iloc[1, 1]),
        "correlation": ("0.915", lambda f: f.varcorr.corr.iloc[0, 1]),
        "variance Residual": ("0.5641", lambda f: f.sigma**2),
        "(Intercept)": ("0.9776", lambda f: f.fixef["(Intercept)"]),
        "x": ("3.0670", lambda f: f.fixef["x"]),
        "a": ("-0.1108", lambda f: f.fixef["a"]),
        "x:a": ("0.3577", lambda f: f.fixef["x:a"]),
    },
)


def comparison(result: Fit, printed: dict[str, tuple[str, Callable[[Fit], float]]]) -> pd.DataFrame:
    """The article's numbers beside ours, to the digits that it printed."""
    rows = []
    for text, read in printed.values():
        decimals = len(text.partition(".")[2])
        ours = f"{read(result):.{decimals}f}"
        rows.append([text, ours, "yes" if ours == text else "NO"])
    return pd.DataFrame(rows, list(printed), ["article", "jaxhlm", "equal"])


def simulate_article(n: int, seed: Seed) -> tuple[Design, Floats]:
    """The article's design and n responses (900, n) drawn from its truth on it."""
    d, t = build_design(FORMULAS[1], load_dataset("article")), TRUTH
    return d, simulate_rows(d.X, d.Z, d.group, d.G, t.fixed(d.xnames), t.cov, t.sigma, n, seed)


def true_values(model: Model) -> pd.Series:
    """The truth of every parameter of the article's second model, by name."""
    random = random_values(model, TRUTH.cov[None])[0]
    names = [*model.xnames, "sd (Intercept)", "sd x", "corr", "sigma"]
    return pd.Series([*TRUTH.fixed(model.xnames), *random, TRUTH.sigma], names)


def recovery(fits: FitBatch) -> pd.DataFrame:
    """Truth against the fits that converged, with the Monte-Carlo standard error of the bias.

    Columns: truth, mean, bias, MCSE (of the bias), SD (of the estimates), mean SE (model), and
    coverage of the 95 % Wald interval, for fixed effects.
    """
    e = fits.estimates[fits.ok]
    truth = true_values(fits.model)
    values = parameter_values(fits.model, e)
    mean, sd = np.nanmean(values, axis=0), np.nanstd(values, axis=0, ddof=1)
    table = pd.DataFrame({"truth": truth, "mean": mean, "bias": mean - truth})
    table["MCSE"] = sd / np.sqrt((~np.isnan(values)).sum(axis=0))
    table["SD"] = sd
    p, se = e.beta.shape[1], standard_errors(e.vcov)
    low, high = wald_interval(e.beta, se, 0.95)
    beta, fixed = truth.to_numpy()[:p], truth.index[:p]
    covered = (low <= beta) & (beta <= high)
    table["mean SE"] = pd.Series(np.sqrt((se**2).mean(axis=0)), fixed)
    table["coverage"] = pd.Series(covered.mean(axis=0), fixed)
    return table


class Refitted(NamedTuple):
    """The article's two models, and the second fitted to data sets from its truth."""

    lines: Fit
    full: Fit
    drawn: FitBatch


def run(replicates: int = 10_000, seed: int = 2345) -> Refitted:
    """Print the two tables beside the article's, then simulate, fit and check its truth."""
    data = load_dataset("article")
    lines, full = (fit(formula, data) for formula in FORMULAS)
    for number, (result, printed) in enumerate(zip((lines, full), PRINTED, strict=True), start=1):
        print(f"── The article's model {number} {'─' * 50}\n\n{result}\n")
        print(
            f"Printed in the article, and by this fit:\n{comparison(result, printed).to_string()}\n"
        )
    design, Y = simulate_article(replicates, seed)
    print(
        f"── {replicates:,} data sets from the article's truth {'─' * 30}\n\n"
        "intercept 1 − 0.15a, slope 3 + 0.3a, sd 0.2 and 0.5, corr 0.9, residual 0.75;\n"
        f"{design.G} units × {design.n // design.G} measurements, the article's a and x\n"
    )
    with muted(SingularFitWarning):
        fits, first = _timed_fits(data, Y)
        _, again = _timed_fits(data, Y)
    print(framed(recovery(fits)))
    failed = len(fits) - int(fits.ok.sum())
    missing = int(np.isnan(fits.varcorr.corr[fits.ok, 0, 1]).sum())
    left_out = f" corr leaves out {missing:,} fits with a zero variance." if missing else ""
    print(
        f"\nMCSE: Monte-Carlo standard error of the bias. SD: spread of the estimates. mean SE: "
        "root mean\nsquare of the model's standard errors. coverage: of the 95 % Wald interval "
        "(z; few units, so\nbelow 0.95)."
        f"{left_out}\n\n"
        f"Singular fits: {fits.singular.mean():.1%}.  Failed: {failed}.  "
        f"Evaluations per fit: {fits.iterations.mean():.1f}.\n"
        f"Fitted in {first:.2f} s, compilation included; again in {again:.2f} s: "
        f"{replicates / again:,.0f} fits per second.\n"
    )
    print(fits.verify())
    return Refitted(lines, full, fits)


def article_figures(full: Fit, *others: Fit) -> dict[str, Figure]:
    """The article's two figures, and how its units are shrunk in every fit, by name."""
    # matplotlib is an extra, and takes longer to import than the article's fits.
    from jaxhlm import plot
    from jaxhlm.plot.canvas import panels

    fits = (full, *others)
    with panels(None, len(fits), 3.0, sharex=True, sharey=True) as shrunk:
        for axes, one in zip(shrunk, fits, strict=True):
            plot.shrinkage(one, ax=axes)
            axes.set_xlabel(f"Intercept; {one.nobs // one.ngroups} rows for each unit")
    return {
        "units": plot.article_units(full, truth=TRUTH)[0].figure,
        "lines": plot.article_lines(full, "a").figure,
        "shrinkage": shrunk[0].figure,
    }


def _timed_fits(data: pd.DataFrame, Y: Floats) -> tuple[FitBatch, float]:
    start = time.perf_counter()
    fits = fit_many(FORMULAS[1], data, responses=Y)
    return fits, time.perf_counter() - start
