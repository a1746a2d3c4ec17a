"""Counts of sequencing as log counts with precision weights, by their mean-variance trend.

``voom`` (Law, Chen, Shi & Smyth 2014, Genome Biology 15, R29), as ``limma::voom`` computes it. With
counts r_gi of gene g in sample i, whose library has R_i reads in all,

    y_gi = log2 (r_gi + 0.5)/(R_i + 1) · 10⁶

A linear model is fitted to every gene; √s_g of the residual standard deviations, smoothed over the
mean log counts by ``lowess``, is a function of these, and its fourth power taken at the fitted log
count of every value is the variance that its weight is the inverse of.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import finite_array, fraction
from jaxhlm.core.notation import Floats, ResponsesIn
from jaxhlm.core.tables import Table
from jaxhlm.design.columns import label
from jaxhlm.design.design import build_design
from jaxhlm.errors import OptionError, ResponseShapeError
from jaxhlm.language.formula import check_formula
from jaxhlm.sources.alignment import matched
from jaxhlm.sources.containers import GivenResponses
from jaxhlm.sources.inputs import matched_samples
from jaxhlm.sources.responses import of_rows
from jaxhlm.statistics.lowess import lowess

__all__ = ["VoomWeights", "voom_weights"]

MILLION = np.log2(1e6)
# A square root of residual standard deviations that is nothing but rounding.
NO_SPREAD = 1e-4


class VoomWeights(NamedTuple):
    """What ``fit_many`` takes as responses and weights; samples × genes.

    Attributes:
        log_cpm: log2 counts per million.
        weights: of every value; NaN in samples that the formula cannot use.
    """

    log_cpm: pd.DataFrame
    weights: pd.DataFrame


def voom_weights(
    counts: GivenResponses,
    formula: str,
    data: Table | None = None,
    *,
    responses_in: ResponsesIn = "columns",
    layer: str | None = None,
    lib_size: pd.Series | Floats | None = None,
    span: float = 0.5,
) -> VoomWeights:
    """Log counts per million of every gene and sample, and their precision weights.

    Equals ``limma::voom(counts, design)``. The trend is that of residuals about the fixed effects:
    the random part of the formula, which the weights are to be used with, is left aside.

    Args:
        counts: of reads, as ``responses`` of ``fit_many``; genes without any are best left out.
        formula: the model that is to be fitted, of which the fixed effects count.
        data, responses_in, layer: as for ``fit_many``.
        lib_size: (n,) size of every sample's library, by default the sum of its counts; times
            factors of normalisation, such as those of TMM, if there are any. A Series is matched
            with ``data`` by its index.
        span: share of the genes that the trend is smoothed over.

    Returns:
        Two DataFrames (n, B) with the index of ``data`` and the names of the genes.

    Raises:
        OptionError: counts that are negative, infinite or missing; fewer than two genes with
            counts; no fixed effects, or no more samples than these; residuals of zero; ``span`` or
            ``lib_size`` that cannot be.
        JaxhlmError: as for ``fit_many``.

    Example:
        >>> import numpy as np, jaxhlm as hlm
        >>> data, rng = hlm.load_dataset("sleepstudy"), np.random.default_rng(1)
        >>> counts = rng.negative_binomial(5, 5 / (5 + rng.lognormal(4, 1, 50)), (180, 50))
        >>> formula = "~ Days + (1 | Subject)"
        >>> log_cpm, weights = hlm.voom_weights(counts, formula, data)
        >>> fits = hlm.fit_many(formula, data, log_cpm, weights=weights)
        >>> len(fits), bool((weights > 0).all().all())
        (50, True)
    """
    check_formula(formula)
    span = fraction("span", span, 0.5)
    given, samples, index, order = matched_samples(data, counts, responses_in, layer, "counts")
    values = np.asarray(of_rows(given.values, order, given.by_rows)[:, :], float)
    _check_counts(values, samples.index, index)
    design = build_design(formula, samples, response_rows=len(samples))
    if design.offset is not None:
        raise OptionError(
            f"{design.formula}: the trend of variances is not computed with an offset; give sizes "
            "of libraries as lib_size="
        )
    if not 0 < design.p < design.n:
        raise OptionError(
            f"{design.formula} has {design.p} fixed effects for {design.n} samples, which leaves "
            "nothing to judge variances by"
        )
    library = np.log2(_library(lib_size, values, samples.index) + 1.0)[:, None]
    log_cpm = np.log2(values + 0.5) - library + MILLION
    kept, weights = design.kept, np.full(values.shape, np.nan)
    weights[kept] = _weights(values[kept], log_cpm[kept], library[kept], design.X, span)
    return VoomWeights(
        pd.DataFrame(log_cpm, samples.index, index), pd.DataFrame(weights, samples.index, index)
    )


def _check_counts(counts: Floats, samples: pd.Index, genes: pd.Index) -> None:
    bad = ~(np.isfinite(counts) & (counts >= 0.0))
    if bad.any():
        i, j = np.argwhere(bad)[0]
        raise OptionError(
            f"counts: that of {label(genes, int(j))} in sample {label(samples, int(i))} is "
            f"{counts[i, j]:g}; give numbers of 0 or more, none of them missing"
        )
    if (counts.sum(axis=0) > 0.0).sum() < 2:
        raise OptionError("counts: the trend of variances needs two genes or more with any counts")


def _library(given: pd.Series | Floats | None, counts: Floats, samples: pd.Index) -> Floats:
    """(n,) sizes of the libraries."""
    if given is None:
        return np.asarray(counts.sum(axis=1))
    sizes = finite_array("lib_size", given)
    if sizes.shape != (len(counts),) or not (sizes > 0.0).all():
        raise OptionError(
            f"lib_size has shape {sizes.shape}; give a positive number for each of {len(counts)} "
            "samples"
        )
    names = given.index if isinstance(given, pd.Series) else None
    told = "the index of lib_size", "that of data"
    order = matched(names, samples, told, ResponseShapeError)
    return sizes if order is None else sizes[order]


def _weights(counts: Floats, log_cpm: Floats, library: Floats, X: Floats, span: float) -> Floats:
    """(n, B) weights from X (n, p), with the sizes of libraries as log2(R + 1), (n, 1)."""
    Q = np.linalg.qr(X)[0]
    fitted = Q @ (Q.T @ log_cpm)
    variance = ((log_cpm - fitted) ** 2).sum(axis=0) / (len(X) - X.shape[1])
    seen = counts.sum(axis=0) > 0.0
    mean = (log_cpm.mean(axis=0) + library.mean() - MILLION)[seen]
    order = np.argsort(mean, kind="stable")
    mean, spread = mean[order], variance[seen][order] ** 0.25
    place, first = np.unique(mean, return_index=True)
    trend = lowess(mean, spread, span)[first]
    if trend.min() < NO_SPREAD:
        raise OptionError(
            "the trend of residual standard deviations is zero in places, where weights would be "
            "infinite: leave out genes that X fits without error, or take a larger span"
        )
    return np.asarray(np.interp(fitted + library - MILLION, place, trend)) ** -4.0
