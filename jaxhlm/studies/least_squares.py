"""Least squares on the same statistics: all rows pooled, and unit by unit in two stages.

**Pooled OLS.** Standardised X has X̃'X̃ = nI, and the response is stored as the residual of its
least-squares fit, so that β̂ = Tβ̃, σ̂² = n s²/(n − p) and Var(β̂) = σ̂²TT'/n are already there.

**Two stages** (summary statistics; Laird & Ware 1982, Biometrics 38, 963-974). Stage 1
fits the line left of the bar in each unit, γ̂_i = (Z_i'Z_i)⁻¹Z_i'y_i. Where X_i = Z_iA_i, stage 2
regresses each coefficient of γ̂_i by least squares on its rows of A_i: with no covariate of the
units that is the average of γ̂_ik with t on G − 1 degrees of freedom.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from jaxhlm.core.notation import Bools, Floats, Ints
from jaxhlm.core.status import Status
from jaxhlm.errors import UnsupportedTermError
from jaxhlm.estimation.model import Model
from jaxhlm.language.words import quoted
from jaxhlm.linalg.stacked import solve_upper
from jaxhlm.statistics.group_contributions import GroupContributions
from jaxhlm.statistics.response import Standardised, at_absent
from jaxhlm.statistics.standardise import absent_squares

__all__ = ["pooled_ols", "two_stage"]

# A column of X this far (relative) from the span of Z is not reached by the units' lines.
REACH_TOL = 1e-10
# What is this small of a column of X, in all units, comes from rounding errors.
ENTRY_TOL = 1e-8
# Columns of A, of about the same size, that are this close to others are combinations of them.
STAGE_RANK_TOL = 1e-10
_CALL = re.compile(r"[\w.]+\(")


def pooled_ols(standardised: Standardised) -> tuple[Floats, Floats, Floats, Ints]:
    """Ordinary least squares on all rows of B lanes.

    Returns:
        β̂ (B, p), Var(β̂) (B, p, p), σ̂ (B,) and status (B,); NaN where a lane cannot be fitted.
    """
    scaling = standardised.scaling
    T, B = np.moveaxis(scaling.T, -1, 0), scaling.beta_ols.shape[1]
    n, p = (np.broadcast_to(x, B) for x in (scaling.n, standardised.stats.rank))
    status = _without_random_part(standardised)
    status = np.where((status == Status.CONVERGED) & (n <= p), Status.NO_RESIDUAL_DF, status)
    ok = status == Status.CONVERGED
    sigma = np.where(ok, scaling.s * np.sqrt(n / np.where(ok, n - p, 1.0)), np.nan)
    beta = np.where(ok[:, None], (T @ scaling.beta_ols.T[..., None])[..., 0], np.nan)
    vcov = (sigma**2 / n)[:, None, None] * (T @ T.swapaxes(1, 2))
    absent = np.broadcast_to(scaling.absent.T, beta.shape)
    return at_absent(beta, absent), at_absent(vcov, absent), sigma, status


def _without_random_part(standardised: Standardised) -> Ints:
    """(B,) statuses by X and the response, which come before Z in what a status says."""
    status = standardised.status
    return np.where(status == Status.NOT_IDENTIFIED, Status.CONVERGED, status)


def two_stage(
    groups: GroupContributions, model: Model, of_terms: Mapping[str, Sequence[str]]
) -> tuple[Floats, Floats, Floats, Ints]:
    """Second-stage regressions of the coefficients of every unit's own line.

    Units whose line is not determined by their rows are left out.

    Args:
        groups: standardised statistics, group by group.
        model: their names, for what is said of terms that have no place.
        of_terms: columns of X by the term of the formula, for the same.

    Returns:
        β̂, standard errors, and df (units − coefficients of the same regression), (B, p) each,
        NaN in lanes that cannot be fitted; and status (B,).

    Raises:
        UnsupportedTermError: X is not Z_iA_i, or a term belongs to several coefficients of the
            line.
    """
    stats, scaling, _ = groups.standardised
    XX = stats.XX - absent_squares(scaling.absent, stats.n)
    XX = np.where(_full_rank(groups.standardised), XX, 0.0)
    if np.abs(XX).max() > REACH_TOL * scaling.n.max():
        raise _out_of_reach(groups.standardised, XX, model, of_terms)
    gamma, A, size = _lines(groups)
    component = _components(A)
    B, p = gamma.shape[0], A.shape[-1]
    out: tuple[Floats, ...] = tuple(np.full((B, p), np.nan) for _ in range(3))
    for k in range(gamma.shape[-1]):
        terms = np.flatnonzero(component == k)
        if len(terms):
            beta, se, df = _regression(gamma[..., k], A[:, :, k, :][..., terms])
            parts = beta / size[:, k, terms], se / size[:, k, terms], df
            for values, part in zip(out, parts, strict=True):
                values[:, terms] = part
    status = _without_random_part(groups.standardised)
    absent = np.broadcast_to(scaling.absent.T, (B, p))
    ok = (status == Status.CONVERGED)[:, None] & ~absent
    beta, se, df = (np.where(ok, values, np.nan) for values in out)
    why = np.where(absent.any(axis=1), Status.RANK_DEFICIENT, Status.NOT_IDENTIFIED)
    lost = (status == Status.CONVERGED) & ~np.isfinite(se).all(axis=1)
    return beta, se, df, np.where(lost, why, status)


def _full_rank(standardised: Standardised) -> Bools:
    """(b,) lanes whose columns of X do not depend on each other."""
    return np.asarray(~np.isnan(standardised.scaling.T).any(axis=(0, 1)))


def _out_of_reach(
    standardised: Standardised, XX: Floats, model: Model, of_terms: Mapping[str, Sequence[str]]
) -> UnsupportedTermError:
    """The error that names the fixed effects beyond the units' lines, which leave ``XX`` of X."""
    T = standardised.scaling.T
    lane = int(np.abs(XX).max(axis=(0, 1)).argmax())
    back = np.linalg.inv(T[..., lane])
    within = np.diag(back.T @ XX[..., lane] @ back)
    total = standardised.scaling.n[lane] * (back**2).sum(axis=0)
    term_of = {column: term for term, columns in of_terms.items() for column in columns}
    beyond = [model.xnames[i] for i in np.flatnonzero(within > REACH_TOL * total)]
    names = list(dict.fromkeys(term_of.get(name, name) for name in beyond))
    line = ["1" if "(Intercept)" in model.znames else "0"]
    line += [_written(name) for name in model.znames if name != "(Intercept)"]
    return UnsupportedTermError(
        f"two_stage fits the line left of the bar in every unit, and {', '.join(names)} "
        f"{'varies' if len(names) == 1 else 'vary'} within units without being part of it; give "
        f"the method a formula with such a term left of the bar too, as in "
        f"({' + '.join([*line, _written(names[0])])} | {_written(model.group_name)})"
    )


def _written(name: str) -> str:
    """The name of a column of X, Z, or of the units, as a formula writes it.

    >>> _written("x:scale(day no)"), _written("dose [mg]:a")
    ('x:scale(day no)', '`dose [mg]`:a')
    """
    return ":".join(x if _CALL.match(x) else quoted(x) for x in name.split(":"))


def _lines(groups: GroupContributions) -> tuple[Floats, Floats, Floats]:
    """γ̂ (B, G, q), A (b, G, q, p) without units of measurement, and what they were, (b, q, p).

    A has zeros for units without a line of their own, and for all units of lanes where columns of
    X, or of a random term, depend on each other.
    """
    stats, scaling, _ = groups.standardised
    dependent = np.isnan(scaling.C).any(axis=(0, 1)) | ~_full_rank(groups.standardised)
    C, T = (
        np.moveaxis(np.where(dependent, np.eye(len(x))[..., None], x), -1, 0)
        for x in (scaling.C, scaling.T)
    )
    RZ, TX = (np.moveaxis(x, 0, -2) for x in (stats.RZ, stats.TX))
    t = scaling.s * stats.Ty + np.einsum("gqpl,pl->gql", stats.TX, scaling.beta_ols)
    known = (np.einsum("aagb->agb", RZ) != 0.0).all(axis=0) & ~dependent
    eye = np.eye(len(RZ))[..., None, None]
    R = np.where(known, RZ, eye)
    own = solve_upper(R, np.moveaxis(t, 0, -2)) * known
    A = solve_upper(R, TX) * known
    to_x = np.linalg.inv(T)
    # In the user's units.
    gamma = np.einsum("lab,bgl->lga", C, own)
    A = np.einsum("lab,bmgl->lgam", C, A) @ to_x[:, None]
    # Root mean squares of the columns of X over those of Z: so large is A.
    of_x, of_z = (np.linalg.norm(x, axis=1) for x in (to_x, np.linalg.inv(C)))
    size = of_x[:, None, :] / of_z[:, :, None]
    A /= size[:, None]
    nothing = np.abs(A).max(axis=1, keepdims=True) <= ENTRY_TOL
    return gamma, np.where(nothing, 0.0, A), size


def _components(A: Floats) -> Ints:
    """(p,) the coefficient of the unit's line that each term is about, −1 where no unit tells."""
    used = A.any(axis=(0, 1))
    if (used.sum(axis=0) > 1).any():
        raise UnsupportedTermError(
            "two_stage needs every fixed effect to be about one coefficient of the unit's line, "
            "as in y ~ x * a + (1 + x | unit); code the line left of the bar the same way as the "
            "fixed part"
        )
    return np.where(used.any(axis=0), used.argmax(axis=0), -1)


def _regression(y: Floats, X: Floats) -> tuple[Floats, Floats, Floats]:
    """Least squares of y (B, G) on X (b, G, r); units with rows of zeros in X do not count."""
    inverse = np.linalg.pinv(X, STAGE_RANK_TOL)
    beta = (inverse @ y[..., None])[..., 0]
    residual = y - (X @ beta[..., None])[..., 0]
    axes = np.linalg.svd(X, compute_uv=False)
    rank = (axes > STAGE_RANK_TOL * axes[:, :1]).sum(axis=1)
    units = (X != 0.0).any(axis=2).sum(axis=1)
    r = X.shape[2]
    df = np.where((units > r) & (rank == r), units - float(r), np.nan)
    with np.errstate(invalid="ignore"):
        sigma2 = (residual**2).sum(axis=1) / df
    se = np.sqrt(sigma2[:, None] * (inverse**2).sum(axis=2))
    known = np.broadcast_to(df[:, None], se.shape)
    return np.where(np.isnan(known), np.nan, beta), se, known
