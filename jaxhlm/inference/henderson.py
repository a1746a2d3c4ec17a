"""Joint prediction errors of fixed and random effects of B fits, θ taken as known.

Henderson's mixed model equations give Var(β̂ − β, b̂ − b) = σ²[C11 C12; C21 C22] (Henderson 1975,
Biometrics 31, 423-447; McLean, Sanders & Stroup 1991). With D = ΛΛ', A = Σ X_i'V_i⁻¹X_i and

    K_i = D − D Z_i'V_i⁻¹Z_i D = Λ W_i⁻¹ Λ'          J_i = D Z_i'V_i⁻¹X_i

the parts that concern group i are C11 = A⁻¹, C12 = −A⁻¹J_i' and C22 = K_i + J_iA⁻¹J_i', so that

    Var(x'β̂ + z'b̂_i − x'β − z'b_i) = σ² [z'K_iz + d'A⁻¹d],      d = x − J_i'z

and, for a unit that was not seen, σ² [z'Dz + x'A⁻¹x]. The matrix W_i of the reliabilities,

    b̂_i = W_i (ols_i(y) − ols_i(X β̂)),      W_i = D Z_i'V_i⁻¹Z_i = D (D + (Z_i'Z_i)⁻¹)⁻¹

says how far a unit's own least-squares line is trusted. All on the standardised scale, where no
digits are lost to the units of x.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxhlm.core.notation import Array, Bools, Floats, Ints
from jaxhlm.estimation.estimates import Estimates
from jaxhlm.likelihood.covariance import Blocks, lambda_of
from jaxhlm.likelihood.whitened import lanes_first, whitened
from jaxhlm.statistics.observations import Observations
from jaxhlm.statistics.response import Standardised

__all__ = [
    "Henderson",
    "RandomEffects",
    "between_variance",
    "coef_variance",
    "fixed_variance",
    "henderson",
    "random_effects",
    "ranef_variance",
    "row_variance",
    "standardized_effects",
    "unit_lines",
    "value_variance",
]

# A unit's column of Z this close to its other columns leaves its line undetermined.
RANK_TOL = 1e-7


@dataclass(frozen=True)
class RandomEffects:
    """Predictions of the random effects of B fits.

    Attributes:
        b: (B, G, q) conditional modes (BLUPs) b_i = Λ W_i⁻¹ Λ' Z_i'(y_i − X_i β̂).
        cov: (B, G, q, q) Var(b_i | y, β̂, θ̂) = σ̂² Λ W_i⁻¹ Λ'.
    """

    b: Floats
    cov: Floats


@dataclass(frozen=True)
class Henderson:
    """Parts of the inverse of B fits in standardised coordinates, over σ²; NaN where a fit failed.

    Attributes:
        K: (B, G, q, q) conditional variances of b.
        J: (B, G, q, p) how b̂_i falls as β̂ rises.
        reliability: (B, G, q, q) W_i.
        root: (B, p, p) a square root U with A⁻¹ = UU'.
        T: (b, p, p), C: (b, q, q): β = Tβ̃ and b = Cb̃, so x̃ = T'x and z̃ = C'z; b is 1 or B.
        D: (B, q, q) relative covariance of b̃.
        sigma: (B,) residual standard deviations, in the units of y.
    """

    K: Floats
    J: Floats
    reliability: Floats
    root: Floats
    T: Floats
    C: Floats
    D: Floats
    sigma: Floats


def henderson(estimates: Estimates, standardised: Standardised, blocks: Blocks) -> Henderson:
    """Parts of the inverse of B fits.

    Args:
        estimates: of the fits.
        standardised: their statistics, groups not joined.
        blocks: columns of Z in each random term.
    """
    stats, scaling = standardised.stats, standardised.scaling
    failed = ~estimates.known
    Lambda = _factors(estimates, blocks)
    RZ, TX, XX = (np.moveaxis(x, -1, 0) for x in (stats.RZ, stats.TX, stats.XX))
    gain, project = _gains(Lambda, RZ)
    white = lanes_first(whitened(np.moveaxis(Lambda, 0, -1), stats).X)
    A = np.einsum("lgqa,lgqb->lab", white, white) + XX
    A = np.where(failed[:, None, None], np.eye(A.shape[-1]), A)

    def known(values: Array) -> Floats:
        return np.where(failed.reshape(-1, *[1] * (values.ndim - 1)), np.nan, values)

    return Henderson(
        K=known(gain @ Lambda.mT[:, None]),
        J=known(project @ TX),
        reliability=known(project @ RZ),
        root=known(np.linalg.inv(np.linalg.cholesky(A)).mT),
        T=np.moveaxis(scaling.T, -1, 0),
        C=np.moveaxis(scaling.C, -1, 0),
        D=known(Lambda @ Lambda.mT),
        sigma=estimates.sigma,
    )


def random_effects(
    estimates: Estimates, standardised: Standardised, blocks: Blocks
) -> RandomEffects:
    """BLUPs and their conditional variances, with W_i = I + Λ'Z_i'Z_iΛ (Bates et al. 2015, eq. 58).

    Args:
        estimates: of B fits.
        standardised: their statistics, groups not joined.
        blocks: columns of Z in each random term.
    """
    stats, scaling = standardised.stats, standardised.scaling
    T, C = (np.moveaxis(x, -1, 0) for x in (scaling.T, scaling.C))
    Lambda = _factors(estimates, blocks)
    gain, project = _gains(Lambda, np.moveaxis(stats.RZ, -1, 0))
    beta = np.linalg.solve(T, estimates.beta[..., None])[..., 0] - scaling.beta_ols.T
    y, X = np.moveaxis(scaling.s * stats.Ty, -1, 0), np.moveaxis(stats.TX, -1, 0)
    r = y[..., None] - X @ beta[:, None, :, None]
    K = C[:, None] @ (gain @ Lambda.mT[:, None]) @ C.mT[:, None]
    return RandomEffects(
        b=(C[:, None] @ project @ r)[..., 0],
        cov=estimates.sigma[:, None, None, None] ** 2 * K,
    )


def _factors(estimates: Estimates, blocks: Blocks) -> Floats:
    """Λ̃ (B, q, q), zero in fits that failed: that can be factored, and all else is NaN there."""
    return lambda_of(np.where(estimates.known[:, None], estimates.theta_standard, 0.0).T, blocks)


def _gains(Lambda: Floats, RZ: Floats) -> tuple[Floats, Floats]:
    """ΛW⁻¹, and ΛW⁻¹Λ'R' = D R'Ω⁻¹, which makes b̂ of the residual of T, (B, G, q, q) each."""
    RL = RZ @ Lambda[:, None]
    gain: Floats = Lambda[:, None] @ np.linalg.inv(np.eye(RL.shape[-1]) + RL.mT @ RL)
    return gain, gain @ RL.mT


def value_variance(h: Henderson, X: Floats, Z: Floats, group: Ints) -> Floats:
    """Prediction error variances of x'β̂ + z'b̂ on new rows, in the units of y².

    Args:
        h: of the fits.
        X: (rows, p), Z: (rows, q) columns of the new rows.
        group: (B, rows) group of every row, −1 for a unit that was not seen.

    Returns:
        (B, rows).
    """
    seen, lane = (group >= 0)[..., None, None], np.arange(len(group))[:, None]
    K = np.where(seen, h.K[lane, group], h.D[:, None])
    J = np.where(seen, h.J[lane, group], 0.0)
    return h.sigma[:, None] ** 2 * _variance(X @ h.T, Z @ h.C, K, J, h.root[:, None])


def row_variance(h: Henderson, rows: Observations, counted: Bools | None = None) -> Floats:
    """(L, n) w × the prediction error variances, over σ², of x'β̂ + z'b̂ on the rows fitted.

    Args:
        h: of the fits.
        rows: theirs.
        counted: (q,) columns of Z that are in z; all if None.
    """
    K, J = rows.of_group(h.K), rows.of_group(h.J)
    z = rows.z
    if counted is not None and not counted.all():
        part = rows.rows.Z * counted * rows.root_w[:, None]
        z = (part[:, None] @ rows.of_lane(h.C))[..., 0, :]
    return _variance(rows.x, z, K, J, rows.of_lane(h.root))


def fixed_variance(h: Henderson, rows: Observations) -> Floats:
    """(L, n) w × the variances, over σ², of x'β̂ on the rows fitted."""
    x, root = rows.x, rows.of_lane(h.root)
    return ((x[:, None] @ root)[..., 0, :] ** 2).sum(axis=-1)


def between_variance(h: Henderson, rows: Observations) -> Floats:
    """(L, n) w × the variances, over σ², of z'b on the rows fitted."""
    z, D = rows.z, rows.of_lane(h.D)
    return ((z[:, None] @ D)[..., 0, :] * z).sum(axis=-1)


def coef_variance(h: Henderson, x: Floats, z: Floats) -> Floats:
    """Prediction error variances of x'β̂ + z'b̂_i for every unit, (B, G, m), in the units of y².

    Args:
        h: of the fits.
        x: (m, p), z: (m, q) combinations.
    """
    x, z = (x @ h.T)[:, None], (z @ h.C)[:, None]
    variance = _variance(x, z, h.K[:, :, None], h.J[:, :, None], h.root[:, None, None])
    return h.sigma[:, None, None] ** 2 * variance


def _variance(x: Floats, z: Floats, K: Floats, J: Floats, root: Floats) -> Floats:
    """z'Kz + |U'(x − J'z)|², vectors and matrices on the last axes."""
    d = x - (z[..., None, :] @ J)[..., 0, :]
    between = ((z[..., None, :] @ K)[..., 0, :] * z).sum(axis=-1)
    return between + ((d[..., None, :] @ root)[..., 0, :] ** 2).sum(axis=-1)


def ranef_variance(h: Henderson) -> Floats:
    """Var(b̂_i) = σ²[D Z_i'V_i⁻¹Z_i D − J_iA⁻¹J_i'] in the units of b², (B, G, q, q).

    Marginal over y, β̂ estimated (Lange & Ryan 1989, Ann. Statist. 17, 624-642).
    """
    JU, C = h.J @ h.root[:, None], h.C[:, None]
    inner = h.reliability @ h.D[:, None] - JU @ JU.mT
    return h.sigma[:, None, None, None] ** 2 * (C @ inner @ C.mT)


def standardized_effects(b: Floats, variance: Floats, cov: Floats) -> tuple[Floats, Floats]:
    """sd(b̂) and b̂/sd(b̂), (B, G, q) each; NaN where Var(b̂) is zero.

    Args:
        b: (B, G, q) BLUPs.
        variance: (B, G, q, q) Var(b̂).
        cov: (B, q, q) Σ.
    """
    variance = np.diagonal(variance, axis1=-2, axis2=-1)
    there = variance > 1e-10 * np.diagonal(cov, axis1=-2, axis2=-1)[:, None]
    sd = np.where(there, np.sqrt(np.where(there, variance, 1.0)), np.nan)
    return sd, b / sd


def unit_lines(
    h: Henderson, standardised: Standardised, beta: Floats
) -> tuple[Floats, Floats, Floats]:
    """Each unit's own least-squares line, that of its population values X_iβ̂, and W_i.

    Args:
        h: of the fits.
        standardised: the statistics of the lanes, groups not joined.
        beta: (B, p) fixed effects.

    Returns:
        (B, G, q), (B, G, q) and (B, G, q, q), in the units of b; the lines are NaN where the rows
        of a unit do not determine them.
    """
    stats, scaling = standardised.stats, standardised.scaling
    RZ, TX, Ty = (np.moveaxis(x, -1, 0) for x in (stats.RZ, stats.TX, stats.Ty))
    size = np.sqrt((RZ**2).sum(axis=2))
    determined = (np.diagonal(RZ, axis1=2, axis2=3) > RANK_TOL * size).all(axis=2)
    inverse = np.full_like(RZ, np.nan)
    inverse[determined] = np.linalg.inv(RZ[determined])
    own = scaling.s[:, None, None] * Ty + (TX @ scaling.beta_ols.T[:, None, :, None])[..., 0]
    population = (TX @ np.linalg.solve(h.T, beta[..., None])[:, None])[..., 0]
    C = h.C[:, None]
    lines = [(C @ inverse @ t[..., None])[..., 0] for t in (own, population)]
    return lines[0], lines[1], C @ h.reliability @ np.linalg.inv(C)
