"""Comparing one fit with others: refitting by ML, ``anova``, tests of the random effects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Self

import numpy as np
import pandas as pd

from jaxhlm.arguments import check_flag
from jaxhlm.design import Design
from jaxhlm.errors import DifferentRowsError, MixedMethodsError, OptionError
from jaxhlm.inference.mixtures import Mixture, likelihood_ratio
from jaxhlm.inference.nesting import contained, dropping_mixture, null_law
from jaxhlm.inference.random_terms import dropped_criteria, term_label
from jaxhlm.model import Model
from jaxhlm.notation import Floats, Ints
from jaxhlm.pipeline import fit_standard
from jaxhlm.results.anova import (
    AT_BOUNDARY,
    REFITTED,
    Anova,
    Criterion,
    check_different,
    criteria_table,
    likelihood_ratio_table,
)
from jaxhlm.results.quality import Quality

__all__ = ["Compared", "check_methods", "check_same_rows", "compare", "dropped_table"]


class Compared(Quality):
    """What sets a fit against other models of the same data."""

    def refit_ml(self) -> Self:
        """The same model fitted by maximum likelihood (``lme4::refitML``); itself if it is."""
        if not self.reml:
            return self
        options = replace(self.options, reml=False)
        estimates = fit_standard(self.standard, options)
        return replace(
            self, model=replace(self.model, reml=False), options=options, estimates=estimates
        )

    def anova(self, *others: Compared, refit: bool = True) -> Anova:
        """Likelihood ratio tests between nested models of the same rows, as ``anova`` of lme4.

            χ² = −2 (ℓ_smaller − ℓ_larger)

        Models are sorted by their number of parameters and each is tested against the one before.
        Where variances are zero under the smaller model, on the boundary, the law of the statistic
        is a mixture of χ² (Self & Liang 1987; Stram & Lee 1994), recognised from the two random
        parts: ``Pr(mixture)`` beside ``Pr(>Chisq)``. ``inference/nesting.py`` lists what it covers:
        one more random effect in a term, with its covariances; one more in each of several terms;
        covariances alone; together with fixed effects. Two or more random effects more in one term
        have no simple mixture, and the table says so.

        Args:
            others: one or more fits.
            refit: refit by ML what was fitted by REML first, and say so. False keeps REML, for
                models with the same fixed effects.

        Returns:
            ``Anova``: print it, or take ``.table`` with columns npar, AIC, AICc, BIC, logLik,
            -2*log(L), Chisq, Df, Pr(>Chisq) and, at the boundary, Pr(mixture), mixture. Rows are
            numbered in the order of the arguments, this fit being 1.

        Raises:
            DifferentRowsError: other rows, responses or weights.
            MixedMethodsError: under ``refit=False``, REML and ML, or REML with other fixed effects.
            NotNestedError: a model is not part of the next larger one.
            OptionError: nothing to compare with, or equal numbers of parameters.

        Example:
            >>> import jaxhlm as hlm
            >>> data = hlm.load_dataset("sleepstudy")
            >>> line = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", data)
            >>> flat = hlm.fit("Reaction ~ 1 + (1 + Days | Subject)", data)
            >>> print(line.anova(flat))
            Models:
            2: Reaction ~ 1 + (1 + Days | Subject)
            1: Reaction ~ Days + (1 + Days | Subject)
              npar    AIC   AICc    BIC  logLik -2*log(L)   Chisq Df Pr(>Chisq)
            2    5 1785.5 1785.8 1801.4 -887.74    1775.5
            1    6 1763.9 1764.4 1783.1 -875.97    1751.9 23.5365  1  1.226e-06
            refitted with ML (instead of REML)
            >>> level = hlm.fit("Reaction ~ Days + (1 | Subject)", data)
            >>> print(line.anova(level, refit=False).table["mixture"]["1"])
            0.5 χ²(1) + 0.5 χ²(2)
        """
        if not others:
            raise OptionError("anova needs at least one other fit of the same rows")
        fits, refitted = comparable([self, *others], refit)
        order = np.argsort([f.model.n_parameters for f in fits], kind="stable")
        models = [_criterion(str(i + 1), fits[i]) for i in order]
        check_different(models)
        laws = [null_law(fits[a].design, fits[b].design) for a, b in pairwise(order)]
        return likelihood_ratio_table(models, laws, refitted)

    def rand_test(self) -> Anova:
        """Every random effect dropped in turn, in the manner of ``lmerTest::ranova``.

        By the criterion of the fit, REML or ML, from the statistics of this fit. Dropping the only
        random effect leaves the linear model, whose likelihood is known in closed form. So of
        ``(0 + x | g)`` too, as ``ranova(fit, reduce.terms = FALSE)``; ranova by default puts
        ``(1 | g)`` in its place, which is not nested in it, has as many parameters (0 df), and is
        no test that x varies. The intercept of ``(1 + x | g)`` has a row of its own here, and none
        in ranova.

        Returns:
            ``Anova`` with columns npar, logLik, AIC, LRT, Df, Pr(>Chisq), which is ranova's and
            conservative, and Pr(mixture) with its law ½ χ²(c) + ½ χ²(c + 1), c the covariances of
            the random effect with others (Stram & Lee 1994).

        Example:
            >>> import jaxhlm as hlm
            >>> data = hlm.load_dataset("sleepstudy")
            >>> fit = hlm.fit("Reaction ~ Days + (1 | Subject)", data)
            >>> fit.rand_test().table[["npar", "logLik", "LRT"]].round(2)
                           npar  logLik     LRT
            <none>            4 -893.23    NaN
            (1 | Subject)     3 -946.83  107.2
        """
        dropped = dropped_criteria(self.estimates, self.standard, self.options)
        parameters = np.array([self.model.n_parameters])
        table = dropped_table(self.model, parameters, self.estimates.criterion, dropped)
        heading = f"Random effects dropped one at a time\nModel: {self.model.formula}"
        return Anova(heading, table.set_index("term").rename_axis(None), (AT_BOUNDARY,))


def dropped_table(
    model: Model, parameters: Ints, criterion: Floats, dropped: Floats
) -> pd.DataFrame:
    """The model and every random effect dropped in turn, fit after fit.

    Args:
        model: the labels.
        parameters: (B,) how many each fit has.
        criterion: (B,) of the fits.
        dropped: (B, q) without each random effect.

    Returns:
        B (q + 1) rows: term and the columns that ``Fit.rand_test`` lists.
    """
    B, q = dropped.shape
    sizes = [len(next(b for b in model.blocks if a in b)) for a in range(q)]
    laws = [dropping_mixture(m) for m in sizes]
    statistic = likelihood_ratio(dropped, criterion[:, None])
    naive = [Mixture.regular(m).p_value(s) for m, s in zip(sizes, statistic.T, strict=True)]
    mixed = [law.p_value(s) for law, s in zip(laws, statistic.T, strict=True)]
    value, npar = np.c_[criterion, dropped], parameters[:, None] - np.r_[0, sizes]
    none = np.full(B, np.nan)
    columns = {
        "npar": npar,
        "logLik": -0.5 * value,
        "AIC": value + 2.0 * npar,
        "LRT": np.c_[none, statistic],
        "Df": np.broadcast_to(np.r_[np.nan, sizes], value.shape),
        "Pr(>Chisq)": np.column_stack([none, *naive]),
        "Pr(mixture)": np.column_stack([none, *mixed]),
    }
    terms = ["<none>", *(term_label(model, a) for a in range(q))]
    table = pd.DataFrame({name: values.ravel() for name, values in columns.items()})
    table.insert(0, "term", np.tile(np.array(terms, dtype=object), B))
    return table.assign(mixture=np.tile(np.array(["", *map(str, laws)], dtype=object), B))


def compare(*fits: Compared, refit: bool = True) -> Anova:
    """Information criteria of models of the same rows, nested or not, the best AICc first.

        AIC = −2ℓ + 2k,   AICc = AIC + 2k(k + 1)/(n − k − 1),   BIC = −2ℓ + k log n

    with k the number of parameters and n the number of rows (Hurvich & Tsai 1989).

    Args:
        fits: two or more fits.
        refit: refit by ML what was fitted by REML first, and say so. False keeps REML, for models
            with the same fixed effects.

    Returns:
        ``Anova`` with columns npar, AIC, AICc, BIC, logLik, -2*log(L), ΔAICc and the Akaike weight
        exp(−½ΔAICc)/Σ (Burnham & Anderson 2002, chapter 2). Rows are numbered in the order of the
        arguments.

    Raises:
        DifferentRowsError, MixedMethodsError, OptionError: as for ``Fit.anova``.

    Example:
        >>> import jaxhlm as hlm
        >>> data = hlm.load_dataset("sleepstudy")
        >>> line = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", data)
        >>> level = hlm.fit("Reaction ~ Days + (1 | Subject)", data)
        >>> hlm.compare(level, line).table["AICc"].round(1).to_dict()
        {'2': 1764.4, '1': 1802.3}
    """
    if len(fits) < 2:
        raise OptionError("compare needs two or more fits of the same rows")
    found, refitted = comparable(fits, refit)
    table = criteria_table([_criterion(str(i + 1), f) for i, f in enumerate(found)])
    table = table.sort_values("AICc", kind="stable")
    table["ΔAICc"] = table["AICc"] - table["AICc"].iloc[0]
    weight = np.exp(-0.5 * table["ΔAICc"])
    table["weight"] = weight / weight.sum()
    heading = "Models:\n" + "\n".join(f"{i + 1}: {f.model.formula}" for i, f in enumerate(found))
    return Anova(heading, table, (REFITTED,) if refitted else ())


def comparable(fits: Sequence[Compared], refit: bool) -> tuple[list[Compared], bool]:
    """Fits whose likelihoods may be compared, refitted by ML where that is asked for and needed."""
    check_flag("refit", refit)
    for other in fits:
        if not isinstance(other, Compared):
            raise OptionError(
                f"{type(other).__name__} is no Fit; give fits one after another, and refit= by name"
            )
    for other in fits[1:]:
        check_same_rows(fits[0].design, other.design)
    by_reml = [f.reml for f in fits]
    if refit and any(by_reml):
        return [f.refit_ml() for f in fits], True
    check_methods(by_reml, [f.design for f in fits])
    return list(fits), False


def check_methods(by_reml: Sequence[bool], designs: Sequence[Design]) -> None:
    """Raise ``MixedMethodsError`` where likelihoods are not on one scale."""
    if len(set(by_reml)) > 1:
        odd = designs[list(by_reml).index(True)].formula
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


def check_same_rows(a: Design, b: Design) -> None:
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
    if not np.array_equal(np.asarray(a.y), np.asarray(b.y)):
        raise DifferentRowsError(
            f"{names} have other responses ({a.response_name!r}, {b.response_name!r}); likelihoods "
            "of different responses cannot be compared"
        )
    ones = np.ones(a.n)
    of_a, of_b = (ones if d.weights is None else d.weights for d in (a, b))
    if not np.array_equal(of_a, of_b):
        raise DifferentRowsError(f"{names} have other prior weights; fit both with the same")


def _criterion(name: str, fit: Compared) -> Criterion:
    m = fit.model
    return Criterion(name, m.formula, m.n_parameters, fit.criterion, fit.nobs)
