"""What fits and statistics must be, by routes of their own: closed forms, dense matrices, AD."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxhlm as hlm
from jaxhlm.core.notation import Floats

# XLA's optimisation of what runs once takes longer than to run it.
UNOPTIMISED = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
# Later versions have no other emitters.
if jax.__version_info__ < (0, 11):
    UNOPTIMISED["xla_cpu_use_fusion_emitters"] = False
oracle = partial(jax.jit, compiler_options=UNOPTIMISED)
_suffstats = oracle(hlm.suffstats, static_argnames="num_groups")


def stats_of(y, X, Z, group, weights=None, G=None):
    """Statistics of rows, from one compilation per shape."""
    G = int(np.max(group)) + 1 if G is None else G
    return _suffstats(y, X, Z, jnp.asarray(group), num_groups=G, weights=weights)


class BalancedFit(NamedTuple):
    """beta (rq,), sigma, cov = Σ̂ (q, q), and the criterion there, on the scale of `criterion`."""

    beta: Floats
    sigma: float
    cov: Floats
    criterion: float


def balanced_fit(Y: Floats, Z: Floats, A: Floats, reml: bool = True) -> BalancedFit:
    """Closed form fit of a balanced design, singular or not: G groups that share one Z.

        y_i = ZΓa_i + Zb_i + ε_i       that is  X_i = a_i' ⊗ Z  and  β = vec Γ

    so every random coefficient has the same r predictors a_i. With Z = QR, and Q⊥ its complement,
    the rotated response splits into two independent parts,

        c_i = Q'y_i ~ N(RΓa_i, Ω),   Ω = RΣR' + σ²I,      Q⊥'y_i ~ N(0, σ²I)

    the second with pooled sum of squares RSS. Multivariate least squares of c_i on a_i gives Γ̂
    whatever Ω is; let its residuals have the (q, q) sum of products νS, where ν = G for ML. REML
    adds log|X'V⁻¹X| = −r log|Ω| + 2r log|R| + q log|A'A|, which makes ν = G−r. Either way

        d = ν [log|Ω| + tr(Ω⁻¹S)] + G(m−q) log σ² + RSS/σ² + constants,      Ω ⪰ σ²I

    is least at the Ω with the eigenvectors of S and the eigenvalues max(λ_j, σ²): directions in
    which groups vary less than rows do are pooled with the residuals,

        σ̂² = (RSS + ν Σ_pooled λ_j) / (G(m−q) + ν #pooled).

    With none pooled this is the ANOVA estimate Σ̂ = R⁻¹SR⁻ᵀ − σ̂²(Z'Z)⁻¹.

    Args:
        Y: (G, m) one row for each group. Z: (m, q), m > q. A: (G, r), r < G. reml: REML, else ML.

    Example:
        >>> ones = np.ones((2, 1))
        >>> result = balanced_fit(np.array([[1.0, 3.0], [4.0, 8.0]]), ones, ones)
        >>> result.beta.round(6), round(result.sigma**2, 6), result.cov.round(6)
        (array([4.]), 5.0, array([[5.5]]))
    """
    (G, m), q, r = Y.shape, Z.shape[1], A.shape[1]
    Q, R = np.linalg.qr(Z)
    C = Y @ Q  # (G, q)
    Gamma_R = np.linalg.lstsq(A, C, rcond=None)[0]  # (r, q), (RΓ)'
    E, within = C - A @ Gamma_R, Y - C @ Q.T
    nu, sum_of_squares, df = G - r if reml else G, float((within**2).sum()), G * (m - q)
    eigenvalues, U = np.linalg.eigh(E.T @ E / nu)
    for eigenvalue in eigenvalues:
        # Pooling one of these, which ascend, lowers σ²; so the first that is not below ends it.
        if eigenvalue >= sum_of_squares / df:
            break
        sum_of_squares, df = sum_of_squares + nu * float(eigenvalue), df + nu
    sigma2 = sum_of_squares / df
    omega = np.maximum(eigenvalues, sigma2)
    half = np.linalg.solve(R, U * np.sqrt(omega - sigma2))
    value = nu * np.log(omega).sum() + G * (m - q) * np.log(sigma2)
    value += (nu * q + G * (m - q)) * np.log(2 * np.pi * np.e)
    value += reml * (2 * r * np.linalg.slogdet(R)[1] + q * np.linalg.slogdet(A.T @ A)[1])
    beta = np.linalg.solve(R, Gamma_R.T).T.ravel()
    return BalancedFit(beta, float(np.sqrt(sigma2)), half @ half.T, float(value))


class Dense(NamedTuple):
    """y (n,), X (n, p), Z̃ (n, Gq), V = σ²W⁻¹ + Z̃ΣZ̃' (n, n), the covariance of b and of β̂."""

    y: np.ndarray
    X: np.ndarray
    Z: np.ndarray
    V: np.ndarray
    Sigma: np.ndarray  # (Gq, Gq)
    vcov: np.ndarray  # (p, p)


def dense(fit):
    """The matrices of a fit at its estimates; columns of Z̃ are group after group."""
    d, q = fit.design, len(fit.model.znames)
    Z = np.zeros((d.n, d.G * q))
    for j, g in enumerate(d.group):
        Z[j, g * q : (g + 1) * q] = d.Z[j]
    Sigma = np.kron(np.eye(d.G), fit.varcorr.cov.to_numpy())
    w = np.ones(d.n) if d.weights is None else d.weights
    V = Z @ Sigma @ Z.T + fit.sigma**2 * np.diag(1.0 / w)
    vcov = np.linalg.inv(d.X.T @ np.linalg.solve(V, d.X))
    return Dense(d.y, d.X, Z, V, Sigma, vcov)
