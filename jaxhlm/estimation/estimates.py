"""Solutions on the standardised scale to estimates in the user's units, all lanes at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import reduce
from operator import and_
from typing import Any

import numpy as np

from jaxhlm.core.notation import Bools, Floats, Ints
from jaxhlm.core.status import Status
from jaxhlm.likelihood.covariance import (
    ROUNDED_TO_ZERO,
    Blocks,
    lambda_matrix,
    on_boundary,
    theta_of,
)
from jaxhlm.likelihood.lane_derivatives import MAX_UNROLLED_P
from jaxhlm.likelihood.suffstats import expanded
from jaxhlm.linalg.small import array_namespace, matmul, solve_lower, stack_entries, unroll
from jaxhlm.optimise.options import Options
from jaxhlm.optimise.solve import Solution
from jaxhlm.statistics.response import Scaling, Standardised, at_absent

__all__ = [
    "Estimates",
    "estimate",
    "estimate_arrays",
    "estimate_bytes",
    "restandardised",
    "user_criterion",
]

# σ̂² this small against the residuals of X alone, and still falling, is on its way to zero.
NO_ERROR = 1e-10
# A minimum whose σ̂² is this small is of rows without any error: its last digits are rounding.
NO_ERROR_AT_MINIMUM = 1e-24


@dataclass(frozen=True)
class Estimates:
    """Estimates of B fits in the user's units; NaN where there are none.

    A fit that reached the iteration limit has the estimates of its last step.

    The arrays are read-only, since tables and fits hand them on.

    A fixed effect whose column the data set does not have is NaN too, as are its covariances.

    Attributes:
        beta: (B, p) fixed effects.
        vcov: (B, p, p) their covariance σ̂²A⁻¹.
        sigma: (B,) residual standard deviation.
        theta: (B, k) free entries of Λ, diagonal non-negative.
        theta_standard: (B, k) free entries of Λ̃, with D = C Λ̃Λ̃' C' on the scale of the standardised
            columns of Z; it keeps the digits that Λ loses when those columns are far from zero.
        cov: (B, q, q) covariance of the random effects Σ = σ̂²ΛΛ'.
        criterion: (B,) −2 × the maximised (restricted) log-likelihood.
        status: (B,) codes of ``Status``.
        iterations: (B,) evaluations of value, gradient and Hessian.
        gradient_norm: (B,) largest |∂d/∂θ̃| at the estimate, θ̃ on the standardised scale.
    """

    beta: Floats
    vcov: Floats
    sigma: Floats
    theta: Floats
    theta_standard: Floats
    cov: Floats
    criterion: Floats
    status: Ints
    iterations: Ints
    gradient_norm: Floats

    def __post_init__(self) -> None:
        """Let nobody who is given one of the arrays change the fits."""
        for values in self._columns():
            values.flags.writeable = False

    def __getitem__(self, index: Any) -> Estimates:
        """The estimates of some lanes."""
        return Estimates(*(values[index] for values in self._columns()))

    @property
    def known(self) -> Bools:
        """(B,) whether there are estimates."""
        return np.isfinite(self.sigma)

    @property
    def absent(self) -> Bools:
        """(B, p) fixed effects whose columns the data sets of these fits do not have."""
        return np.isnan(self.beta) & self.known[:, None]

    @property
    def filled(self) -> Estimates:
        """The same with zeros for absent fixed effects: as their statistics have them."""
        absent = self.absent
        if not absent.any():
            return self
        beta, vcov = (at_absent(x, absent, 0.0) for x in (self.beta, self.vcov))
        return replace(self, beta=beta, vcov=vcov)

    def replaced(self, index: slice | Ints, others: Estimates) -> Estimates:
        """These estimates with those of ``index`` exchanged for ``others``."""
        out = {f.name: getattr(self, f.name).copy() for f in fields(self)}
        for name, values in out.items():
            values[index] = getattr(others, name)
        return Estimates(**out)

    def empty(self, B: int) -> Estimates:
        """Arrays for B fits like these, to be filled by ``write``; slices are read-only."""
        out = Estimates(*(np.empty((B, *v.shape[1:]), v.dtype) for v in self._columns()))
        for values in out._columns():
            values.flags.writeable = True
        return out

    @staticmethod
    def concatenated(parts: Sequence[Estimates]) -> Estimates:
        """The estimates of several parts, one after another."""
        columns = zip(*(part._columns() for part in parts), strict=True)
        return Estimates(*map(np.concatenate, columns))

    def write(self, first: int, part: Estimates) -> int:
        """Write a part from fit number ``first`` on; returns the number of the fit after it."""
        last = first + len(part.status)
        for out, values in zip(self._columns(), part._columns(), strict=True):
            out[first:last] = values
        return last

    def _columns(self) -> Iterator[Floats]:
        return (getattr(self, f.name) for f in fields(self))


def estimate_bytes(p: int, q: int) -> int:
    """What the estimates of one fit take."""
    return 8 * (2 * p + p * p + 2 * q * q + q * (q + 1) + 8)


def estimate(solution: Solution, standardised: Standardised, options: Options) -> Estimates:
    """Map the minima back: β = T(β̃_ols + s β̃), D = C D̃ C', σ̂ = s √(pwrss/ν).

    Args:
        solution: minima of B lanes.
        standardised: the lanes, with the status of those that could not be fitted.
        options: what was optimised.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return Estimates(**estimate_arrays(solution, standardised, options))


def estimate_arrays(
    solution: Solution, standardised: Standardised, options: Options
) -> dict[str, Any]:
    """The fields of ``Estimates`` by name, traceable; arguments as in ``estimate``."""
    stats, scaling, status = standardised
    xp = array_namespace(solution.theta)
    nu = xp.broadcast_to(stats.n - options.reml * stats.rank, status.shape)
    sigma = scaling.s * xp.sqrt(solution.pwrss / nu)
    beta = _apply(scaling.T, scaling.beta_ols + scaling.s * solution.beta)
    vcov = xp.moveaxis(sigma**2 * _inverse_gram(solution.L_A, scaling.T), -1, 0)
    D = _relative_covariance(solution.theta, scaling.C, options.blocks)
    criterion = user_criterion(solution.value, scaling, nu, options.reml)
    cov = sigma[:, None, None] ** 2 * D
    codes = _codes(solution, status, nu, options.blocks)
    valid = _finite(beta, criterion, xp.moveaxis(vcov, 0, -1), xp.moveaxis(cov, 0, -1))
    valid &= ((xp.einsum("bii->ib", vcov) > 0.0) | scaling.absent).all(axis=0)
    reached = (codes == Status.CONVERGED) | (codes == Status.SINGULAR)
    codes = xp.where(reached & ~valid, Status.NOT_FINITE, codes)
    ok = (reached & valid) | (codes == Status.ITERATION_LIMIT)
    rounded = xp.where(codes == Status.SINGULAR, ROUNDED_TO_ZERO, 0.0)
    if scaling.absent.any():
        absent = np.broadcast_to(scaling.absent, beta.shape).T
        beta, vcov = at_absent(beta.T, absent).T, at_absent(vcov, absent)
    return {
        "beta": _masked(beta.T, ok),
        "vcov": _masked(vcov, ok),
        "sigma": _masked(sigma, ok),
        "theta": _masked(theta_of(D, options.blocks, rounded).T, ok),
        "theta_standard": _masked(solution.theta.T, ok),
        "cov": _masked(cov, ok),
        "criterion": _masked(criterion, ok),
        "status": codes,
        "iterations": xp.where(ok, solution.iterations, 0),
        "gradient_norm": _masked(solution.gradient_norm, ok),
    }


def restandardised(estimates: Estimates, C: Floats, blocks: Blocks) -> Estimates:
    """The same estimates with θ̃ for columns of Z that were standardised otherwise.

    Args:
        estimates: of B fits.
        C: (q, q, b) how the columns are standardised now.
        blocks: columns of Z in each random term.
    """
    ok = estimates.known
    C = np.broadcast_to(np.moveaxis(C, -1, 0), (len(ok), *C.shape[:2]))
    inverse = np.linalg.inv(np.where(ok[:, None, None], C, np.eye(C.shape[-1])))
    D = inverse @ (estimates.cov / estimates.sigma[:, None, None] ** 2) @ inverse.mT
    rounded = np.where(estimates.status == Status.SINGULAR, ROUNDED_TO_ZERO, 0.0)
    return replace(estimates, theta_standard=_masked(theta_of(D, blocks, rounded).T, ok))


def user_criterion(value: Floats, scaling: Scaling, nu: Floats, reml: bool) -> Floats:
    """The criterion in the user's units, of standardised criteria (B,)."""
    criterion = value + 2.0 * nu * array_namespace(value).log(scaling.s)
    if reml:  # T is triangular
        xp = array_namespace(scaling.T)
        criterion = criterion - 2.0 * xp.log(abs(xp.einsum("jjb->jb", scaling.T))).sum(axis=0)
    return criterion


def _apply(T: Floats, v: Floats) -> Floats:
    """T v lane by lane: (p, p, b) and (p, B) to (p, B)."""
    applied: Floats = array_namespace(v).einsum("ijb,jb->ib", expanded(T, v.shape[-1]), v)
    return applied


def _inverse_gram(L: Floats, T: Floats) -> Floats:
    """T (L L')⁻¹ T' lane by lane, lanes last, (p, p, B); NaN where L is not finite."""
    p, xp = len(L), array_namespace(L)
    if p <= MAX_UNROLLED_P:
        root = solve_lower(unroll(L, 2), unroll(T, 2).T)
        products = np.empty((p, p), object)
        for i, j in zip(*np.tril_indices(p), strict=True):
            products[i, j] = products[j, i] = root[:, i] @ root[:, j]
        inverse: Floats = stack_entries(products, L.shape[-1])
        return inverse
    finite = xp.isfinite(L).all(axis=(0, 1))
    L = xp.moveaxis(xp.where(finite, L, np.eye(p)[:, :, None]), -1, 0)
    root = xp.linalg.solve(L, xp.broadcast_to(T, L.shape[1:] + L.shape[:1]).transpose(2, 1, 0))
    inverse = xp.where(finite, xp.moveaxis(root.swapaxes(1, 2) @ root, 0, -1), np.nan)
    return inverse


def _relative_covariance(theta: Floats, C: Floats, blocks: Blocks) -> Floats:
    """D = C D̃ C' (B, q, q)."""
    root = matmul(unroll(C, 2), lambda_matrix(unroll(theta, 1), blocks))
    D: Floats = stack_entries(matmul(root, root.T), theta.shape[-1])
    return array_namespace(theta).moveaxis(D, -1, 0)


def _codes(solution: Solution, status: Ints, nu: Floats, blocks: Blocks) -> Ints:
    """The status of every lane, the first cause that applies.

    A response that X and a line for every unit fit exactly drives σ to zero, and no number of
    iterations ends that; where X and Z are as one, there is a minimum at what rounding leaves.
    """
    xp = array_namespace(solution.theta)
    finite = xp.isfinite(solution.value) & xp.isfinite(solution.beta).all(axis=0)
    least = xp.where(solution.converged, NO_ERROR_AT_MINIMUM, NO_ERROR)
    finite &= solution.pwrss > least * nu
    codes: Ints = xp.select(
        [
            status != Status.CONVERGED,
            ~finite,
            ~solution.converged,
            on_boundary(solution.theta, blocks),
        ],
        [status, Status.NOT_FINITE, Status.ITERATION_LIMIT, Status.SINGULAR],
        default=Status.CONVERGED,
    ).astype(int)
    return codes


def _finite(*values: Floats) -> Bools:
    """(B,) whether arrays, lanes last, are finite: in the user's units numbers may overflow."""
    xp = array_namespace(values[0])
    finite = [xp.isfinite(v).reshape(-1, v.shape[-1]).all(axis=0) for v in values]
    return reduce(and_, finite)


def _masked(values: Floats, ok: Any) -> Floats:
    masked: Floats = array_namespace(values).where(
        ok.reshape(-1, *[1] * (values.ndim - 1)), values, np.nan
    )
    return masked
