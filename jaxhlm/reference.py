"""The model in plain NumPy, for one data set: slow, short, and the oracle of the fast code.

The letters and the equation numbers are those of Bates, Mächler, Bolker & Walker (2015), *Fitting
Linear Mixed-Effects Models Using lme4*, J. Stat. Softw. 67(1), cited as (34); where no number is
given the section is named. Up to and including (18) the numbers agree with `vignette("lmer")`;
from (33) on the vignette's are one higher, because it numbers an empty line in its section 3.3.

    Y | b ~ N(Xβ + Zb, σ² W⁻¹)      b_i ~ N(0, Σ)      Σ = σ² Λ Λ'            (2), (3), (4)

Sizes: n rows, G groups, p columns of X, q columns of Z. `Z` holds one row's random-effect
covariates, so it is (n, q) here where the paper's is (n, Gq): a row of the paper's Z has the row
of ours in its own group's place and zero elsewhere. `group` holds the codes 0 … G−1.

Three routes to one number: `criterion` is the definition (an n×n matrix), `criterion_by_group` uses
that V is block diagonal, and `fit` rotates each group's rows so that at most q+p+1 are not zero.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["ReferenceFit", "criterion", "criterion_by_group", "fit", "marginal_loglik"]

Floats = NDArray[np.float64]
Codes = NDArray[np.integer]
Blocks = tuple[tuple[int, ...], ...]
Objective = Callable[[Floats], tuple[float, Floats]]  # θ to a criterion and its gradient


def _log_det(matrix: Floats) -> float:
    return float(np.linalg.slogdet(matrix)[1])


def _within_group(Z: Floats, group: Codes, cov: Floats) -> Floats:
    """Z̃ (I_G ⊗ cov) Z̃', (n, n), with Z̃ the paper's (n, Gq) matrix: zero between groups."""
    return np.where(group[:, None] == group[None, :], Z @ cov @ Z.T, 0.0)


def marginal_loglik(
    y: Floats,
    X: Floats,
    Z: Floats,
    group: Codes,
    beta: Floats,
    G_cov: Floats,
    sigma: float,
    weights: Floats | None = None,
) -> float:
    """Log density of y with b integrated out, log f_Y(y; β, Σ, σ), by its definition.

        y ~ N(Xβ, V)      V = Z̃ (I_G ⊗ Σ) Z̃' + σ² W⁻¹                        (2), (3)

    Args:
        y: (n,). X: (n, p). Z: (n, q). group: (n,) codes 0 … G−1.
        beta: (p,). G_cov: (q, q), Σ on the variance scale. sigma: residual standard deviation.
        weights: (n,) positive, the diagonal of W; None means 1.

    Example:
        >>> y, X, Z = np.array([1.0, 3.0]), np.ones((2, 1)), np.ones((2, 1))
        >>> round(marginal_loglik(y, X, Z, np.array([0, 0]), np.array([2.0]), np.eye(1), 1.0), 6)
        -3.387183
    """
    w = np.ones_like(y) if weights is None else weights
    V = _within_group(Z, group, G_cov) + sigma**2 * np.diag(1 / w)
    r = y - X @ beta
    return float(-0.5 * (len(y) * np.log(2 * np.pi) + _log_det(V) + r @ np.linalg.solve(V, r)))


def _profiled(log_det: float, r2: float, n: int, p: int, reml: bool, log_det_A: float) -> float:
    """(34) for ML and (41) for REML, whose log(|L|²/|W|) is log|V0| and whose |R_X|² is |A|."""
    df = n - p if reml else n
    return float(log_det + df * (1 + np.log(2 * np.pi * r2 / df)) + reml * log_det_A)


def criterion(
    Lambda: Floats,
    y: Floats,
    X: Floats,
    Z: Floats,
    group: Codes,
    reml: bool = True,
    weights: Floats | None = None,
) -> float:
    """−2 log-likelihood profiled over β and σ, from the dense V0 = V/σ²; its minimum is the fit.

        V0 = Z̃ (I_G ⊗ ΛΛ') Z̃' + W⁻¹      A = X'V0⁻¹X      r² = (y−Xβ̂)'V0⁻¹(y−Xβ̂)
        ML:    log|V0| + n [1 + log(2π r²/n)]                                       (34)
        REML:  log|V0| + log|A| + (n−p) [1 + log(2π r²/(n−p))]                      (41)

    Equals `lme4::REMLcrit(fit)`, or `deviance(fit)` of an ML fit, all constants included.

    Args:
        Lambda: (q, q) relative covariance factor. reml: REML criterion, else ML deviance.
        y, X, Z, group, weights: as `marginal_loglik`.

    Example:
        >>> y, X, Z = np.array([1.0, 3.0, 4.0, 8.0]), np.ones((4, 1)), np.ones((4, 1))
        >>> round(criterion(np.eye(1), y, X, Z, np.array([0, 0, 1, 1])), 6)
        15.892788
    """
    n, p = X.shape
    V0 = _within_group(Z, group, Lambda @ Lambda.T)
    V0 += np.diag(np.ones(n) if weights is None else 1 / weights)
    A = X.T @ np.linalg.solve(V0, X)
    beta = np.linalg.solve(A, X.T @ np.linalg.solve(V0, y))
    r = y - X @ beta
    r2 = float(r @ np.linalg.solve(V0, r))
    return _profiled(_log_det(V0), r2, n, p, reml, _log_det(A))


def criterion_by_group(
    Lambda: Floats,
    y: Floats,
    X: Floats,
    Z: Floats,
    group: Codes,
    reml: bool = True,
    weights: Floats | None = None,
) -> float:
    """The same number as `criterion`, from one n_i×n_i matrix for each group.

        V_i = Z_i ΛΛ' Z_i' + W_i⁻¹ = L_i L_i'

    L_i⁻¹ whitens the group, which leaves least squares of L⁻¹y on L⁻¹X. Args as `criterion`.

    Example:
        >>> y, X, Z = np.array([1.0, 3.0, 4.0, 8.0]), np.ones((4, 1)), np.ones((4, 1))
        >>> round(criterion_by_group(np.eye(1), y, X, Z, np.array([0, 0, 1, 1])), 6)
        15.892788
    """
    n, p = X.shape
    w = np.ones(n) if weights is None else weights
    white_X, white_y, log_det = np.empty_like(X), np.empty_like(y), 0.0
    for i in np.unique(group):
        rows = group == i
        L = np.linalg.cholesky(Z[rows] @ Lambda @ Lambda.T @ Z[rows].T + np.diag(1 / w[rows]))
        white_X[rows], white_y[rows] = np.linalg.solve(L, X[rows]), np.linalg.solve(L, y[rows])
        log_det += 2 * float(np.log(np.diag(L)).sum())
    Q, R_X = np.linalg.qr(white_X)
    r = white_y - Q @ (Q.T @ white_y)
    return _profiled(log_det, float(r @ r), n, p, reml, 2 * _log_det(R_X))


@dataclass(frozen=True)
class ReferenceFit:
    """One fitted model; row i of `b` and `b_cov` belongs to the group coded i."""

    beta: Floats  # (p,)
    se: Floats  # (p,)
    vcov: Floats  # (p, p), σ̂² A⁻¹
    sigma: float
    Lambda: Floats  # (q, q), lower triangular, diagonal ≥ 0
    theta: Floats  # (k,) the free entries of Λ, block by block, each column by column
    cov: Floats  # (q, q), Σ = σ² ΛΛ'
    criterion: float  # REML criterion, or ML deviance
    loglik: float  # −criterion/2
    b: Floats  # (G, q) conditional modes
    b_cov: Floats  # (G, q, q) their conditional variances, given β̂ and θ̂
    iterations: int  # of the best start
    converged: bool  # the first order conditions of Σ ⪰ 0 hold, and a Newton step gains nothing


class _Profile(NamedTuple):
    """Everything known at one Λ, in the units of the rotated data; K_uv is Σ_i u_i'V_i⁻¹v_i."""

    value: float
    slope: Floats  # (q, q) derivative of the value by ΛΛ'
    beta: Floats  # (p,)
    sigma2: float
    A: Floats  # (p, p)
    K_zz: Floats  # (G, q, q)
    K_ze: Floats  # (G, q)


def _rotate(Z: Floats, X: Floats, y: Floats, group: Codes) -> Floats:
    """The R factor of each group's [Z_i X_i y_i], zero rows below, (G, q+p+1, q+p+1).

    Rotating a group's rows changes neither |Z_i M Z_i' + I| nor any u'V_i⁻¹v, and zero rows, be
    they dropped by QR or padded on, have a V of 1 and add nothing to either.
    """
    D = np.column_stack([Z, X, y])
    rotated = np.zeros((int(group.max()) + 1, D.shape[1], D.shape[1]))
    for i in np.unique(group):
        R = np.linalg.qr(D[group == i]).R
        rotated[i, : len(R)] = R
    return rotated


def _profile(Lambda: Floats, D: Floats, n: int, reml: bool) -> _Profile:
    """(34) or (41) and its derivative by M = ΛΛ', from rotated rows D (G, q+p+1, q+p+1).

        ∂/∂M = Σ_i [Z_i'V_i⁻¹Z_i − Z_i'V_i⁻¹e_i e_i'V_i⁻¹Z_i / σ̂² − Z_i'V_i⁻¹X_i A⁻¹ X_i'V_i⁻¹Z_i]

    with e = y − Xβ̂, whose own derivative drops out as β̂ minimises r²; last term for REML only.
    """
    q = len(Lambda)
    p = D.shape[2] - q - 1
    Z, X, y = D[:, :, :q], D[:, :, q:-1], D[:, :, -1]
    V = Z @ (Lambda @ Lambda.T) @ Z.transpose(0, 2, 1) + np.eye(D.shape[1])
    V_inv_X, V_inv_Z = np.linalg.solve(V, X), np.linalg.solve(V, Z)
    A = np.einsum("imp,imr->pr", X, V_inv_X)
    beta = np.linalg.solve(A, np.einsum("imp,im->p", V_inv_X, y))
    e = y - X @ beta
    r2 = float((e * np.linalg.solve(V, e[:, :, None])[:, :, 0]).sum())
    sigma2 = r2 / (n - p if reml else n)  # (33), (40)
    K_zz = Z.transpose(0, 2, 1) @ V_inv_Z
    K_ze = np.einsum("imq,im->iq", V_inv_Z, e)
    slope = K_zz.sum(0) - K_ze.T @ K_ze / sigma2
    if reml:
        K_zx = V_inv_Z.transpose(0, 2, 1) @ X
        slope -= np.einsum("iqp,pr,isr->qs", K_zx, np.linalg.inv(A), K_zx)
    log_det = float(np.linalg.slogdet(V)[1].sum())
    value = _profiled(log_det, r2, n, p, reml, _log_det(A))
    return _Profile(value, slope, beta, sigma2, A, K_zz, K_ze)


def _bfgs(fun: Objective, x: Floats) -> tuple[Floats, int]:
    """Minimise by BFGS with step halving until H predicts a gain below 1e-11 or none is found."""
    value, g = fun(x)
    H = np.eye(len(x)) / max(1.0, float(np.linalg.norm(g)))
    for iteration in range(500):
        step = -H @ g
        if -g @ step < 1e-11:
            return x, iteration
        trial, g_trial = fun(x + step)
        while trial > value - 1e-4 * abs(g @ step):
            step = step / 2
            if np.abs(step).max() < 1e-12:
                return x, iteration
            trial, g_trial = fun(x + step)
        change = g_trial - g
        # Without positive curvature along the step the update would lose positive definiteness.
        if step @ change > 0:
            rho = 1 / (step @ change)
            U = np.eye(len(x)) - rho * np.outer(step, change)
            H = U @ H @ U.T + rho * np.outer(step, step)
        x, value, g = x + step, trial, g_trial
    return x, 500


def _polish(fun: Objective, x: Floats) -> tuple[Floats, float]:
    """Three Newton steps with a differenced Hessian; also the gain the last of them predicted."""
    gain, h = np.inf, 1e-5
    for _ in range(3):
        value, g = fun(x)
        H = np.array([(fun(x + h * e)[1] - fun(x - h * e)[1]) / (2 * h) for e in np.eye(len(x))])
        # Where Λ has a zero on its diagonal, rotating its columns can leave ΛΛ' as it is: such a
        # direction is flat, and the pseudo-inverse leaves it alone.
        step = -np.linalg.pinv((H + H.T) / 2, rcond=1e-8, hermitian=True) @ g
        gain = abs(float(g @ step)) / 2
        if fun(x + step)[0] > value + 1e-13 * abs(value):
            break
        x = x + step
    return x, gain


def fit(
    y: Floats,
    X: Floats,
    Z: Floats,
    group: Codes,
    reml: bool = True,
    weights: Floats | None = None,
    blocks: Blocks | None = None,
) -> ReferenceFit:
    """Minimise the criterion over Λ by BFGS from several starts, and report the best.

    θ is free, as the criterion depends on Λ through ΛΛ' only; signs are rectified afterwards.
    No start has a zero on the diagonal: that is a saddle, which no gradient leaves.

    Args:
        y: (n,). X: (n, p) and Z: (n, q), of full column rank. group: (n,) codes 0 … G−1.
        reml: REML, else ML. weights: (n,) positive; None means 1.
        blocks: columns of Z whose effects are correlated; one block of all q when None, and
            ((0,), (1,)) for `(1 | g) + (0 + x | g)`, that is `(1 + x || g)`.

    Example:
        >>> y, X, Z = np.array([1.0, 3.0, 4.0, 8.0]), np.ones((4, 1)), np.ones((4, 1))
        >>> result = fit(y, X, Z, np.array([0, 0, 1, 1]))
        >>> result.beta.round(6), round(result.sigma**2, 6), result.cov.round(6)
        (array([4.]), 5.0, array([[5.5]]))
    """
    n, q = Z.shape
    blocks = blocks or (tuple(range(q)),)
    free = [(i, j) for block in blocks for c, j in enumerate(block) for i in block[c:]]
    rows, cols = (np.array(index) for index in zip(*free, strict=True))
    root_w = np.ones(n) if weights is None else np.sqrt(weights)

    # Orthonormal X and blocks of Z and residuals of unit size, so that neither the starts nor the
    # tolerances know the units of the data: Z_std = ZT, b = T b_std, and X_std = X R_X⁻¹.
    X_std, R_X = np.linalg.qr(root_w[:, None] * X)
    beta_ols = np.linalg.solve(R_X, X_std.T @ (root_w * y))
    y_std = root_w * (y - X @ beta_ols)
    scale = float(np.sqrt(y_std @ y_std / n))
    T = np.zeros((q, q))
    for block in blocks:
        R_Z = np.linalg.qr(root_w[:, None] * Z[:, block]).R
        T[np.ix_(block, block)] = np.sqrt(n) * np.linalg.inv(R_Z)
    D = _rotate(root_w[:, None] * Z @ T, X_std, y_std / scale, group)

    def factor(theta: Floats) -> Floats:
        Lambda = np.zeros((q, q))
        Lambda[rows, cols] = theta
        return Lambda

    def objective(theta: Floats) -> tuple[float, Floats]:
        at = _profile(factor(theta), D, n, reml)
        return at.value, 2 * (at.slope @ factor(theta))[rows, cols]

    starts = [np.where(rows == cols, s, t) for s, t in [(0.3, 0), (1, 0), (3, 0), (1, 1), (1, -1)]]
    runs = [_bfgs(objective, start.astype(float)) for start in starts]
    best, iterations = min(runs, key=lambda run: objective(run[0])[0])
    best, gain = _polish(objective, best)

    at, Lambda_std = _profile(factor(best), D, n, reml), factor(best)
    M_std, sigma = Lambda_std @ Lambda_std.T, scale * float(np.sqrt(at.sigma2))
    R_X_inv = np.linalg.inv(R_X)
    vcov = sigma**2 * R_X_inv @ np.linalg.inv(at.A) @ R_X_inv.T  # section 5.1, Var(β̂)
    df = n - X.shape[1] if reml else n
    value = at.value + 2 * (df * np.log(scale) - np.log(root_w).sum() + reml * _log_det(R_X))
    Lambda = np.zeros((q, q))
    for block in blocks:
        # QR turns TΛ into a triangular factor of the same ΛΛ', singular or not.
        L = np.linalg.qr((T @ Lambda_std)[np.ix_(block, block)].T).R.T
        Lambda[np.ix_(block, block)] = L * np.where(np.diag(L) < 0, -1.0, 1.0)
    least_slope = min(np.linalg.eigvalsh(at.slope[np.ix_(c, c)])[0] for c in blocks)
    return ReferenceFit(
        beta=beta_ols + scale * R_X_inv @ at.beta,
        se=np.sqrt(np.diag(vcov)),
        vcov=vcov,
        sigma=sigma,
        Lambda=Lambda,
        theta=Lambda[rows, cols],
        cov=sigma**2 * Lambda @ Lambda.T,
        criterion=float(value),
        loglik=float(-value / 2),
        # Section 5.1 with (11): b = ΛΛ'Z'V0⁻¹e, and Λ(Λ'Z'ZΛ + I)⁻¹Λ' by Woodbury.
        b=scale * at.K_ze @ M_std @ T.T,
        b_cov=sigma**2 * T @ (M_std - M_std @ at.K_zz @ M_std) @ T.T,
        iterations=iterations,
        converged=bool(gain < 1e-9 and least_slope > -1e-6 * len(D)),
    )
