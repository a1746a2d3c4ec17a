"""Joint tests of the contrasts of marginal means, term by term, as emmeans' ``joint_tests``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import check_mapping
from jaxhlm.core.notation import Floats
from jaxhlm.design.design import Design
from jaxhlm.design.new_rows import determined_rows
from jaxhlm.errors import OptionError
from jaxhlm.inference.contrast_families import contrast_products, contrasts_of
from jaxhlm.inference.contrast_tests import DfMethod, check_df
from jaxhlm.inference.refgrid import (
    averaged,
    cell_variables,
    check_distinct,
    check_variables,
    marginal_means,
)
from jaxhlm.inference.tails import f_tail
from jaxhlm.linalg.factors import orthonormal_basis
from jaxhlm.results import coefficients
from jaxhlm.results.f_tests import f_tests
from jaxhlm.results.means import grids_of
from jaxhlm.results.record import FitRecord

__all__ = ["joint_tests_table"]

RANK_TOL = 1e-8


def joint_tests_table(
    fits: FitRecord, by: str | Sequence[str] | None, at: Mapping[str, Any] | None, df: DfMethod
) -> pd.DataFrame:
    """One row per fit, combination of variables that a term has, and combination of ``by``."""
    check_df(df, fits.model.reml)
    within = [] if by is None else cell_variables(by, "by")
    given, design = {} if at is None else check_mapping("at", at), fits.rows.design
    if design.learned_apart and len(fits) > 1:
        parts = [joint_tests_table(fit, by, at, df) for fit in fits.singly()]
        return pd.concat(parts, ignore_index=True)
    design = design.of_lane(fits.first_lane)
    for argument, variables in (("by", within), ("at", [*given])):
        check_variables(design, argument, variables)
    check_distinct([*within, "term", "num_df", "den_df", "statistic", "p_value"])
    numbers = averaged(design, given)
    grids, which = grids_of(fits, numbers, {})
    means = dict(zip(numbers, grids.T, strict=True))
    frames, hypotheses = [], []
    for term in _combinations(design, within):
        cells, full = marginal_means(design, [*term, *within], given, means, around=True)
        sizes = [cells[name].iloc[: full.shape[1]].nunique() for name in term]
        C = contrast_products([np.diff(np.eye(k), axis=0) for k in sizes])
        if not len(C):
            continue
        b, k = len(full), C.shape[1]
        rows = contrasts_of(C, full.reshape(b, -1, k, full.shape[2]))
        groups = rows.shape[1]
        name = ":".join(term)
        L = determined_rows(design, rows, [name] * rows[..., 0].size, "joint tests", "nan")
        first = cells[within].iloc[::k].reset_index(drop=True).assign(term=name)
        for g in range(groups):
            own = _independent(L[:, g])
            if own.shape[1]:
                own = own[0] if b == 1 else own[which]
                hypotheses.append(
                    (coefficients.without(own, fits.about_absent(own)), own.shape[-2])
                )
                frames.append(first.iloc[which * groups + g])
    if not hypotheses:
        raise OptionError("there is nothing to test: the fixed part has no variable but by=")
    return _tested(fits, frames, hypotheses, df)


def _tested(
    fits: FitRecord,
    frames: Sequence[pd.DataFrame],
    hypotheses: Sequence[tuple[Floats, int]],
    df: DfMethod,
) -> pd.DataFrame:
    """The table, fit after fit, from frames (B rows each) of what is tested."""
    with np.errstate(all="ignore"):
        F, den, _ = f_tests(fits, [(L, np.zeros(r)) for L, r in hypotheses], df)
    rows = [r for _, r in hypotheses]
    p = np.stack([f_tail(F[:, t], r, den[:, t]) for t, r in enumerate(rows)], axis=1)
    B, T = F.shape
    order = np.arange(B * T).reshape(T, B).T.ravel()
    labels = pd.concat(frames, ignore_index=True).iloc[order].reset_index(drop=True)
    unknown = ~np.isfinite(F)
    columns = {
        "num_df": np.tile(np.array(rows, dtype=float), B),
        "den_df": np.where(unknown, np.nan, den).ravel(),
        "statistic": F.ravel(),
        "p_value": p.ravel(),
    }
    return pd.concat([labels, pd.DataFrame(columns)], axis=1)


def _combinations(design: Design, by: Sequence[str]) -> list[tuple[str, ...]]:
    """Variables that some term has together, but for those of ``by``; the fewest first."""
    part = design._fixed
    terms = [
        {v for f in factors for v in part.factors[f].variables} for factors in part.written.values()
    ]
    names = [v for v in part.variables if v not in by]
    return [
        chosen
        for size in range(1, max(map(len, terms), default=0) + 1)
        for chosen in combinations(names, size)
        if any({*chosen} <= term for term in terms)
    ]


def _independent(L: Floats) -> Floats:
    """Contrasts (b, r, p) as they are where rows are independent, else combinations that are."""
    known = L[np.isfinite(L).all(axis=(1, 2))]
    if not len(known):
        return L
    size = np.abs(known[0]).max() or 1.0
    basis = orthonormal_basis(np.where(np.abs(known[0]) < RANK_TOL * size, 0.0, known[0]), RANK_TOL)
    return L if len(basis) == L.shape[1] else basis @ L
