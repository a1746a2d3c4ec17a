"""Fits against other models of the same data: by ML, by likelihood ratios, without an effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import reduce
from itertools import pairwise
from operator import mul
from typing import Literal

import numpy as np
import pandas as pd

from jaxhlm.core.notation import Floats, check_option
from jaxhlm.design.design import Design
from jaxhlm.errors import DifferentRowsError, MixedMethodsError, OptionError
from jaxhlm.estimation.estimates import Estimates
from jaxhlm.estimation.model import Model
from jaxhlm.estimation.pipeline import fit_standardised
from jaxhlm.inference.mixtures import Mixture, likelihood_ratio
from jaxhlm.inference.nesting import (
    boundary_mixture,
    contained,
    null_distribution,
    offset_gap,
    same_response,
)
from jaxhlm.inference.reduced_models import linear_criteria, reduced_criteria, term_label
from jaxhlm.results.anova import AT_BOUNDARY, NO_MIXTURE, REFITTED, Anova
from jaxhlm.results.presenters import long_table
from jaxhlm.results.record import FitRecord
from jaxhlm.statistics.response import Standardised

__all__ = [
    "Dropped",
    "between_batches",
    "between_models",
    "random_effect_tests",
    "ranked",
    "refit_ml",
    "without_effects",
]

Dropped = Literal["each", "all"]

# y'y of the same responses through two designs agrees to this.
SAME = 1e-9


def refit_ml(fits: FitRecord) -> FitRecord:
    """The same models fitted by maximum likelihood; themselves if they are."""
    if not fits.model.reml:
        return fits
    options = replace(fits.options, reml=False)

    def refit(_: Estimates, standardised: Standardised) -> tuple[Floats, ...]:
        found = fit_standardised(standardised, options)
        return tuple(getattr(found, f.name) for f in fields(Estimates))

    arrays = fits.over_lanes(refit)
    model = replace(fits.model, reml=False)
    return replace(fits, model=model, options=options, estimates=Estimates(*arrays), tests={})


def without_effects(fits: FitRecord, drop: Dropped) -> pd.DataFrame:
    """The model and the reduced models without random effects, fit after fit.

    B (1 + rows) rows: term, and npar, logLik, AIC, LRT, Df, Pr(>Chisq), Pr(mixture), mixture.
    """
    check_option("drop", drop, Dropped)
    model, criterion = fits.model, fits.estimates.criterion
    sizes, mixtures = _dropped(model, drop)
    terms = ["<all>"] if drop == "all" else [term_label(model, a) for a in range(len(sizes))]
    criteria = linear_criteria if drop == "all" else reduced_criteria
    (reduced,) = fits.over_lanes(lambda e, s: (criteria(e, s, fits.options),))
    B = len(fits)
    statistic = likelihood_ratio(reduced, criterion[:, None])
    naive = [Mixture.regular(m).p_value(s) for m, s in zip(sizes, statistic.T, strict=True)]
    none = np.full(B, np.nan)
    mixed = [
        none if mixture is None else mixture.p_value(s)
        for mixture, s in zip(mixtures, statistic.T, strict=True)
    ]
    value, npar = np.c_[criterion, reduced], fits.n_parameters[:, None] - np.r_[0, sizes]
    columns = {
        "npar": npar,
        "logLik": -0.5 * value,
        "AIC": value + 2.0 * npar,
        "LRT": np.c_[none, statistic],
        "Df": np.broadcast_to(np.r_[np.nan, sizes], value.shape),
        "Pr(>Chisq)": np.column_stack([none, *naive]),
        "Pr(mixture)": np.column_stack([none, *mixed]),
    }
    names = np.array(["", *map(_mixture_name, mixtures)] * B, dtype=object)
    return long_table(["<none>", *terms], columns).assign(mixture=names)


def random_effect_tests(fit: FitRecord, drop: Dropped) -> Anova:
    """``without_effects`` of one fit, as ``Fit.rand_test`` shows it."""
    table = without_effects(fit, drop).set_index("term").rename_axis(None)
    how = "one at a time" if drop == "each" else "all together: the linear model"
    heading = f"Random effects dropped {how}\nModel: {fit.model.formula}"
    return Anova(heading, table, _boundary_notes(_dropped(fit.model, drop)[1]))


def _dropped(model: Model, drop: Dropped) -> tuple[list[int], list[Mixture | None]]:
    """Parameters that each test sets to zero, and the law of its likelihood ratio."""
    if drop == "all":
        parts = [boundary_mixture(len(block), []) for block in model.blocks]
        return [len(model.theta_names)], [None if None in parts else reduce(mul, parts)]
    sizes = [len(next(b for b in model.blocks if a in b)) for a in range(len(model.znames))]
    return sizes, [Mixture.one_variance(m - 1) for m in sizes]


def _mixture_name(mixture: Mixture | None) -> str:
    return "not simple" if mixture is None else str(mixture)


def between_models(fits: Sequence[FitRecord], refit: bool) -> Anova:
    """Likelihood ratio tests between nested models of one data set; ``Fit.anova``."""
    fits, refitted = _comparable(fits, refit)
    table = _criteria_table(fits).sort_values("npar", kind="stable")
    models = [fits[int(name) - 1] for name in table.index]
    _check_different(models)
    value = table["-2*log(L)"].to_numpy()
    statistic, df = likelihood_ratio(value[:-1], value[1:]), np.diff(table["npar"].to_numpy())
    table["Chisq"], table["Df"] = [np.nan, *statistic], [np.nan, *df]
    table["Pr(>Chisq)"] = _p_values(statistic, [Mixture.regular(int(d)) for d in df])
    mixtures = [null_distribution(a.design(0), b.design(0)) for a, b in pairwise(models)]
    notes = _boundary_notes(mixtures)
    if notes:
        table["Pr(mixture)"] = _p_values(statistic, mixtures)
        table["mixture"] = ["", *map(_mixture_name, mixtures)]
    refit_note = (REFITTED,) if refitted else ()
    return Anova(_heading(fits, table.index), table, refit_note + notes)


def ranked(fits: Sequence[FitRecord], refit: bool) -> Anova:
    """Information criteria of models of one data set, the best AICc first; ``compare``."""
    fits, refitted = _comparable(fits, refit)
    numbered = _criteria_table(fits)
    table = numbered.sort_values("AICc", kind="stable")
    table["ΔAICc"] = table["AICc"] - table["AICc"].iloc[0]
    weight = np.exp(-0.5 * table["ΔAICc"])
    table["weight"] = weight / weight.sum()
    heading = _heading(fits, numbered.index)
    return Anova(heading, table, (REFITTED,) if refitted else ())


def _criteria_table(fits: Sequence[FitRecord]) -> pd.DataFrame:
    """npar, AIC, AICc, BIC, logLik and -2*log(L), one row per fit, numbered from 1."""
    columns = {
        "npar": [f.model.n_parameters for f in fits],
        "AIC": [f.aic[0] for f in fits],
        "AICc": [f.aicc[0] for f in fits],
        "BIC": [f.bic[0] for f in fits],
        "logLik": [f.loglik[0] for f in fits],
        "-2*log(L)": [f.estimates.criterion[0] for f in fits],
    }
    return pd.DataFrame(columns, [str(i + 1) for i in range(len(fits))])


def _boundary_notes(mixtures: Sequence[Mixture | None]) -> tuple[str, ...]:
    """What is to be said of tests at the boundary, if there are any."""
    notes = {
        AT_BOUNDARY: any(m is not None and m.at_boundary for m in mixtures),
        NO_MIXTURE: None in mixtures,
    }
    return tuple(note for note, holds in notes.items() if holds)


def _heading(fits: Sequence[FitRecord], names: pd.Index) -> str:
    """The formulas of fits by their numbers."""
    return "\n".join(
        ["Models:", *(f"{name}: {fits[int(name) - 1].model.formula}" for name in names)]
    )


def _p_values(statistic: Floats, distributions: Sequence[Mixture | None]) -> list[float]:
    """p values of likelihood ratios, behind the row of the smallest model, which has none."""
    pairs = zip(statistic, distributions, strict=True)
    return [np.nan, *(np.nan if one is None else float(one.p_value(s)) for s, one in pairs)]


def _check_different(fits: Sequence[FitRecord]) -> None:
    """Raise ``OptionError`` when two models, in order, have the same number of parameters."""
    for before, after in pairwise(f.model for f in fits):
        if before.n_parameters == after.n_parameters:
            raise OptionError(
                f"{before.formula} and {after.formula} have the same number of parameters "
                f"({after.n_parameters}), so there is no likelihood ratio test between them; "
                "compare their AIC with jaxhlm.compare"
            )


def _comparable(fits: Sequence[FitRecord], refit: bool) -> tuple[list[FitRecord], bool]:
    """Fits whose likelihoods may be compared, refitted by ML where that is asked for and needed."""
    designs = [f.design(0) for f in fits]
    for other in designs[1:]:
        _check_same_rows(designs[0], other)
    if refit and any(f.model.reml for f in fits):
        return [refit_ml(f) for f in fits], True
    _check_methods(fits, designs)
    return list(fits), False


def between_batches(first: FitRecord, second: FitRecord, refit: bool) -> Anova:
    """Likelihood ratio tests of every fit against the same data set's fit; ``FitBatch.anova``."""
    batches = sorted([first, second], key=lambda fits: fits.model.n_parameters)
    designs = _same_data(first, second, batches)
    _check_different(batches)
    refitted = refit and any(f.model.reml for f in batches)
    if refitted:
        batches = [refit_ml(f) for f in batches]
    _check_methods(batches, designs)
    smaller, larger = (f.estimates.criterion for f in batches)
    statistic = likelihood_ratio(smaller, larger)
    df = batches[1].model.n_parameters - batches[0].model.n_parameters
    mixture = null_distribution(*designs)
    columns = {
        "statistic": statistic,
        "df": df,
        "p_value": Mixture.regular(df).p_value(statistic),
        "p_mixture": np.nan if mixture is None else mixture.p_value(statistic),
    }
    table = pd.DataFrame(columns, index=first.index)
    # Fits of data sets that do not have all columns of the larger model.
    own_df = batches[1].n_parameters - batches[0].n_parameters
    for i in np.flatnonzero((own_df != df) & first.ok & second.ok).tolist():
        own = null_distribution(*(f.design(i) for f in batches)) if own_df[i] > 0 else None
        naive = Mixture.regular(own_df[i]).p_value(statistic[i]) if own_df[i] > 0 else np.nan
        mixed = np.nan if own is None else own.p_value(statistic[i])
        table.iloc[i] = [statistic[i], own_df[i], naive, mixed]
    formulas = [f.model.formula for f in batches]
    heading = f"{formulas[1]}\nagainst {formulas[0]}, {len(first)} fits"
    name = "no simple mixture of χ² (p_value is conservative)" if mixture is None else str(mixture)
    notes = (f"Law under the smaller model: {name}",)
    return Anova(heading, table, ((REFITTED,) if refitted else ()) + notes)


def _same_data(first: FitRecord, second: FitRecord, batches: Sequence[FitRecord]) -> list[Design]:
    """Designs of one data set under both models, once it is sure that the data are the same."""
    if not first.index.equals(second.index):
        raise DifferentRowsError(
            f"the batches hold {len(first)} and {len(second)} fits with other labels; compare "
            "fits of the same data sets in the same order"
        )
    both = np.flatnonzero(first.ok & second.ok)
    if not len(both):
        raise DifferentRowsError("no data set was fitted by both models; see fits.status")
    # The distribution is decided by a data set with all columns of both models, where there is one.
    lacking = sum(f.estimates.absent.sum(axis=1) for f in batches)
    i = int(both[np.argmin(lacking[both])])
    designs = [f.design(i) for f in batches]
    if offset_gap(*designs) is not None:
        raise DifferentRowsError(
            "the models of the two batches have other offsets; compare them fit by fit, as in "
            "fits[0].anova(others[0])"
        )
    same = np.isclose(_sizes(first), _sizes(second), rtol=SAME, atol=0.0, equal_nan=True)
    wrong = both[~(same & (first.nobs == second.nobs))[both]]
    if len(wrong):
        raise DifferentRowsError(
            f"fit {first.index[wrong[0]]!r} has other rows or responses in the two batches; fit "
            "both models to the same rows"
        )
    _check_same_rows(*designs)
    return designs


def _sizes(fits: FitRecord) -> Floats:
    """y'Wy of every data set."""

    def size(_: Estimates, standardised: Standardised) -> tuple[Floats]:
        scaling = standardised.scaling
        return (scaling.n * (scaling.s**2 + (scaling.beta_ols**2).sum(axis=0)),)

    return fits.over_lanes(size)[0]


def _check_methods(fits: Sequence[FitRecord], designs: Sequence[Design]) -> None:
    """Raise ``MixedMethodsError`` where likelihoods are not on one scale."""
    by_reml = [f.model.reml for f in fits]
    if len(set(by_reml)) > 1:
        odd = designs[by_reml.index(True)].formula
        raise MixedMethodsError(
            f"REML and ML likelihoods cannot be compared, and {odd} was fitted by REML; leave "
            "refit=True, or fit all models with the same reml="
        )
    if not by_reml[0]:
        return
    first = designs[0]
    for d in designs[1:]:
        if d.X.shape != first.X.shape or not contained(d.X, first.X).all():
            raise MixedMethodsError(
                f"REML likelihoods of {first.formula} and {d.formula} cannot be compared, as their "
                "fixed effects differ; leave refit=True to compare them by ML"
            )


def _check_same_rows(a: Design, b: Design) -> None:
    """Raise ``DifferentRowsError`` unless two designs have the same rows, responses and weights."""
    advice = "fit both models to the same rows, for instance data.dropna() on all their variables"
    names = f"{a.formula} and {b.formula}"
    if a.n != b.n:
        raise DifferentRowsError(f"{names} were fitted to {a.n} and {b.n} rows; {advice}")
    if not a.index.equals(b.index):
        at = int(np.flatnonzero(np.asarray(a.index != b.index))[0])
        raise DifferentRowsError(
            f"{names} were fitted to rows with other labels, first {a.index[at]!r} and "
            f"{b.index[at]!r}; {advice}"
        )
    if not same_response(a, b):
        raise DifferentRowsError(
            f"{names} have other responses ({a.response_name!r}, {b.response_name!r}); likelihoods "
            "of different responses cannot be compared"
        )
    ones = np.ones(a.n)
    of_a, of_b = (ones if d.weights is None else d.weights for d in (a, b))
    if not np.array_equal(of_a, of_b):
        raise DifferentRowsError(f"{names} have other prior weights; fit both with the same")
