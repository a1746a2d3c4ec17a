"""p values and critical values of families of t tests, adjusted for their number.

Of a family of m tests with statistics t_j and df_j:

* "bonferroni" m p, "sidak" 1 − (1 − p)^m; limits from t at (1 − level)/m, 1 − level^(1/m);
* "holm" (Holm 1979), "fdr" (Benjamini & Hochberg 1995); limits as for "bonferroni", as in emmeans;
* "tukey": the studentised range of the means that all pairs of are compared (Tukey-Kramer);
* "mvt": P(max_j |T_j| ≥ |t_j|) of the multivariate t with the correlations of the contrasts, which
  is exact where df are the same (Dunnett 1955 against a control).

With T = A u r, u uniform on the unit sphere of d = rank dimensions, A A' the correlations and r²/d
of law F(d, df), the latter is

    P(max |T_j| ≥ c) = E_u P(F(d, df) ≥ c²/(d max_j (A u)_j²)),

a mean over fixed points of the sphere, smooth in c, whatever the rank (Genz & Bretz 2009,
Computation of Multivariate Normal and t Probabilities, section 4.1).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal

import numpy as np

from jaxhlm.core.notation import Floats
from jaxhlm.inference.multiplicity import bonferroni, holm
from jaxhlm.inference.tails import f_tail, normal_quantile, range_tail, t_quantile, t_tail

__all__ = ["FamilyAdjustment", "adjusted_p", "critical_values"]

FamilyAdjustment = Literal["tukey", "mvt", "holm", "bonferroni", "sidak", "fdr", "none"]

POINTS = 2**12
RANK_TOL = 1e-10
STEPS, STEP_TOL = 30, 1e-9


def adjusted_p(
    method: FamilyAdjustment, t: Floats, df: Floats, corr: Floats | None, means: int
) -> Floats:
    """Adjusted p values (…, m) of families of m tests; what is NaN counts as a test.

    Args:
        method: how.
        t, df: (…, m).
        corr: (…, m, m) correlations of the contrasts, for "mvt".
        means: number of means all pairs of which are compared, for "tukey".
    """
    p, m = t_tail(t, df), t.shape[-1]
    if method == "none" or m == 1:
        return p
    if method == "tukey":
        return range_tail(np.sqrt(2.0) * np.abs(t), means, df)
    if method == "mvt":
        assert corr is not None
        flat = t.reshape(-1, m), df.reshape(-1, m), corr.reshape(-1, m, m)
        return np.stack([_max_tail(*one) for one in zip(*flat, strict=True)]).reshape(t.shape)
    if method == "sidak":
        return -np.expm1(m * np.log1p(-p))
    return {"bonferroni": bonferroni, "holm": holm, "fdr": _benjamini_hochberg}[method](p)


def critical_values(
    method: FamilyAdjustment, level: float, df: Floats, corr: Floats | None, means: int
) -> Floats:
    """Multiples (…, m) of standard errors of simultaneous intervals; as ``adjusted_p``."""
    m = df.shape[-1]
    if method == "none" or m == 1:
        return t_quantile(0.5 + level / 2.0, df)
    if method == "sidak":
        return t_quantile(0.5 + level ** (1.0 / m) / 2.0, df)
    if method == "tukey":
        return _range_quantile(level, df, means)
    if method == "mvt":
        assert corr is not None
        families = zip(df.reshape(-1, m), corr.reshape(-1, m, m), strict=True)
        found = [_max_quantile(level, *one) for one in families]
        return np.asarray(found, dtype=float).reshape(df.shape)
    return _bonferroni_quantile(level, df, m)


def _bonferroni_quantile(level: float, df: Floats, m: int) -> Floats:
    return t_quantile(1.0 - (1.0 - level) / (2.0 * m), df)


def _range_quantile(level: float, df: Floats, means: int) -> Floats:
    """Quantiles of the studentised range over √2."""
    distinct, back = np.unique(df, return_inverse=True)
    start = _bonferroni_quantile(level, distinct, df.shape[-1])
    found = _solve(lambda c: range_tail(np.sqrt(2.0) * c, means, distinct), 1.0 - level, start)
    return found[back].reshape(df.shape)


def _benjamini_hochberg(p: Floats) -> Floats:
    """p values (…, m) for the false discovery rate; NaN count as 1."""
    m, filled = p.shape[-1], np.where(np.isnan(p), 1.0, p)
    order = np.argsort(-filled, axis=-1)
    steps = np.take_along_axis(filled, order, axis=-1) * (m / np.arange(m, 0, -1))
    out = np.empty_like(p)
    np.put_along_axis(out, order, np.minimum.accumulate(steps, axis=-1), axis=-1)
    return np.where(np.isnan(p), np.nan, np.minimum(out, 1.0))


def _max_tail(t: Floats, df: Floats, corr: Floats) -> Floats:
    """P(max |T| ≥ |t_j|) (m,) of one family; what is not estimable takes no part."""
    out, known = np.full(t.shape, np.nan), np.isfinite(t) & ~np.isnan(df)
    if known.any():
        d, widest = _widest(corr[np.ix_(known, known)])
        out[known] = _tail_at(np.abs(t[known]), df[known], d, widest)
    return out


def _max_quantile(level: float, df: Floats, corr: Floats) -> Floats:
    """c_j with P(max |T| ≥ c_j) = 1 − level at df_j, (m,)."""
    out, known = np.full(df.shape, np.nan), ~np.isnan(df) & np.isfinite(corr).any(axis=1)
    if known.any():
        d, widest = _widest(corr[np.ix_(known, known)])
        distinct, back = np.unique(df[known], return_inverse=True)
        start = _bonferroni_quantile(level, distinct, len(df))
        found = _solve(lambda c: _tail_at(c, distinct, d, widest), 1.0 - level, start)
        out[known] = found[back]
    return out


def _tail_at(c: Floats, df: Floats, d: int, widest: Floats) -> Floats:
    ratio = c[:, None] ** 2 / (d * widest**2)
    return np.asarray(f_tail(ratio, d, np.broadcast_to(df[:, None], ratio.shape)).mean(axis=1))


def _widest(corr: Floats) -> tuple[int, Floats]:
    """The rank d of correlations, and max_j |(A u)_j| at points u of the sphere."""
    values, vectors = np.linalg.eigh(corr)
    kept = values > RANK_TOL * values[-1]
    A = vectors[:, kept] * np.sqrt(values[kept])
    d = A.shape[1]
    return d, np.abs(_sphere(d) @ A.T).max(axis=1)


@cache
def _sphere(d: int) -> Floats:
    """Points (n, d), evenly spread over half the unit sphere: angles, or an additive recurrence.

    The recurrence is Roberts' (2018), with powers of the root of x^(d+1) = x + 1.
    """
    if d == 1:
        return np.ones((1, 1))
    if d == 2:
        angle = (np.arange(POINTS // 4) + 0.5) * (4 * np.pi / POINTS)
        return np.stack([np.cos(angle), np.sin(angle)], axis=1)
    root = 2.0
    for _ in range(60):
        root = (1.0 + root) ** (1.0 / (d + 1.0))
    step = root ** -np.arange(1.0, d + 1.0)
    normal = normal_quantile((0.5 + np.arange(1, 8 * POINTS + 1)[:, None] * step) % 1.0)
    return np.asarray(normal / np.linalg.norm(normal, axis=1, keepdims=True), dtype=float)


def _solve(tail: Callable[[Floats], Floats], share: float, start: Floats) -> Floats:
    """c with tail(c) = share by the secant rule on log tails, which are nearly quadratic in c."""
    with np.errstate(all="ignore"):
        c, value = start, np.log(tail(start) / share)
        other = 0.95 * start
        before = np.log(tail(other) / share)
        for _ in range(STEPS):
            step = np.where(value == before, 0.0, value * (c - other) / (value - before))
            other, before = c, value
            c = np.maximum(c - step, 0.5 * c)
            if not (np.abs(step) > STEP_TOL * c).any():
                return c
            value = np.log(tail(c) / share)
    return c
