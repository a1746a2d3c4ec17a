"""Joint prediction errors of fixed and random effects of one fit, θ taken as known.

Henderson's mixed model equations give Var(β̂ − β, b̂ − b) = σ²[C11 C12; C21 C22] (Henderson 1975,
Biometrics 31, 423-447; McLean, Sanders & Stroup 1991). With D = ΛΛ', A = Σ X_i'V_i⁻¹X_i and

    K_i = D − D Z_i'V_i⁻¹Z_i D = Λ W_i⁻¹ Λ'          J_i = D Z_i'V_i⁻¹X_i

the blocks that concern group i are C11 = A⁻¹, C12 = −A⁻¹J_i' and C22 = K_i + J_iA⁻¹J_i', so that

    Var(x'β̂ + z'b̂_i − x'β − z'b_i) = σ² [z'K_iz + d'A⁻¹d],      d = x − J_i'z

and, for a unit that was not seen, σ² [z'Dz + x'A⁻¹x]. The matrix W_i of the reliabilities,

    b̂_i = W_i (ols_i(y) − ols_i(X β̂)),      W_i = D Z_i'V_i⁻¹Z_i = D (D + (Z_i'Z_i)⁻¹)⁻¹

says how far a unit's own least-squares line is trusted. All on the standardised scale, where no
digits are lost to the units of x.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxhlm.covariance import Blocks, lambda_of
from jaxhlm.estimates import Estimates
from jaxhlm.notation import Floats, Ints
from jaxhlm.rows.response import Standard
from jaxhlm.suffstats import Stats

__all__ = ["Henderson", "henderson", "ranef_variance", "unit_lines", "value_variance"]

# A unit's column of Z this close to its other columns leaves its line undetermined.
RANK_TOL = 1e-7


@dataclass(frozen=True)
class Henderson:
    """The blocks of one fit in standardised coordinates, over σ².

    Attributes:
        K: (G, q, q) conditional variances of b.
        J: (G, q, p) how b̂_i falls as β̂ rises.
        reliability: (G, q, q) W_i.
        root: (p, p) upper triangular or square root U with A⁻¹ = UU'.
        T: (p, p), C: (q, q): β = Tβ̃ and b = Cb̃, so x̃ = T'x and z̃ = C'z.
        D: (q, q) relative covariance of b̃.
        sigma: residual standard deviation, in the units of y.
    """

    K: Floats
    J: Floats
    reliability: Floats
    root: Floats
    T: Floats
    C: Floats
    D: Floats
    sigma: float


def henderson(estimates: Estimates, standard: Standard, blocks: Blocks) -> Henderson:
    """The blocks of one fit.

    Args:
        estimates: of one lane.
        standard: its statistics, groups not collapsed.
        blocks: columns of Z in each random term.
    """
    stats, scaling = standard.stats, standard.scaling
    T, C = scaling.T[..., 0], scaling.C[..., 0]
    if not np.isfinite(estimates.sigma[0]):
        return _failed(stats)
    Lambda = lambda_of(estimates.theta_standard.T, blocks)[0]
    RZ, TX = stats.RZ[..., 0], stats.TX[..., 0]
    RL = RZ @ Lambda
    q = RL.shape[-1]
    W = np.eye(q) + RL.swapaxes(1, 2) @ RL
    gain = Lambda @ np.linalg.inv(W)
    # gain_i = ΛW⁻¹ gives D Z'V⁻¹ = ΛW⁻¹Λ'Z'.
    project = gain @ RL.swapaxes(1, 2)
    white = np.linalg.solve(np.linalg.cholesky(np.eye(q) + RL @ RL.swapaxes(1, 2)), TX)
    A = np.einsum("gqa,gqb->ab", white, white) + stats.XX[..., 0]
    return Henderson(
        K=gain @ Lambda.T,
        J=project @ TX,
        reliability=project @ RZ,
        root=np.linalg.inv(np.linalg.cholesky(A)).T,
        T=T,
        C=C,
        D=Lambda @ Lambda.T,
        sigma=float(estimates.sigma[0]),
    )


def _failed(stats: Stats) -> Henderson:
    """NaN throughout, for a fit without estimates."""
    G, q, p = stats.TX.shape[:3]

    def blank(*shape: int) -> Floats:
        return np.full(shape, np.nan)

    return Henderson(
        blank(G, q, q), blank(G, q, p), blank(G, q, q),
        blank(p, p), blank(p, p), blank(q, q), blank(q, q), np.nan,
    )  # fmt: skip


def value_variance(h: Henderson, X: Floats, Z: Floats, group: Ints) -> Floats:
    """Prediction error variance of x'β̂ + z'b̂ in the units of y².

    Args:
        h: the blocks.
        X: (rows, p), Z: (rows, q) columns of the new rows.
        group: (rows,) group of every row, −1 for a unit that was not seen.
    """
    x, z = X @ h.T, Z @ h.C
    seen = (group >= 0)[:, None]
    d = x - np.where(seen, np.einsum("jqp,jq->jp", h.J[group], z), 0.0)
    K = np.where(seen[..., None], h.K[group], h.D)
    between = np.einsum("ja,jab,jb->j", z, K, z)
    return h.sigma**2 * (between + ((d @ h.root) ** 2).sum(axis=1))


def ranef_variance(h: Henderson) -> Floats:
    """Var(b̂_i) = σ²[D Z_i'V_i⁻¹Z_i D − J_iA⁻¹J_i'] in the units of b², (G, q, q).

    Marginal over y, β̂ estimated (Lange & Ryan 1989, Ann. Statist. 17, 624-642).
    """
    JU = h.J @ h.root
    inner = h.reliability @ h.D - JU @ JU.swapaxes(1, 2)
    return h.sigma**2 * (h.C @ inner @ h.C.T)


def unit_lines(h: Henderson, standard: Standard, beta: Floats) -> tuple[Floats, Floats, Floats]:
    """Each unit's own least-squares line, that of its population values X_iβ̂, and W_i.

    Args:
        h: the blocks.
        standard: the statistics of the lane, groups not collapsed.
        beta: (p,) fixed effects.

    Returns:
        (G, q), (G, q) and (G, q, q), in the units of b; the lines are NaN where the rows of a unit
        do not determine them.
    """
    stats, scaling = standard.stats, standard.scaling
    RZ, TX = stats.RZ[..., 0], stats.TX[..., 0]
    size = np.sqrt((RZ**2).sum(axis=1))
    determined = (np.diagonal(RZ, axis1=1, axis2=2) > RANK_TOL * size).all(axis=1)
    inverse = np.full_like(RZ, np.nan)
    inverse[determined] = np.linalg.inv(RZ[determined])
    own = scaling.s[0] * stats.Ty[..., 0] + TX @ scaling.beta_ols[:, 0]
    population = TX @ np.linalg.solve(h.T, beta)
    lines = [(h.C @ (inverse @ t[..., None]))[..., 0] for t in (own, population)]
    return lines[0], lines[1], h.C @ h.reliability @ np.linalg.inv(h.C)
