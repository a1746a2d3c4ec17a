"""Responses of a panel of data sets under a truth and violations of the model's assumptions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxhlm.core.notation import Floats
from jaxhlm.core.streams import EFFECTS, RESIDUALS, TRUTH, VIOLATIONS, Key, Streams
from jaxhlm.design.design import Design
from jaxhlm.errors import OptionError
from jaxhlm.linalg.factors import semidefinite_root
from jaxhlm.studies.effects import SEMIDEFINITE_TOL, check_effects
from jaxhlm.studies.truth import Truth
from jaxhlm.studies.uncertainty import TruthSource
from jaxhlm.violations import EffectsFrom, ResidualsFrom, Violation
from jaxhlm.violations.distributions import Distribution, Gaussian
from jaxhlm.violations.panel import Panel, RandomNumbers

__all__ = ["Parameters", "generate", "parameters_of", "symmetric_root"]


class Parameters(NamedTuple):
    """The truth of every data set."""

    beta: Floats  # (B, p)
    cov: Floats  # (B, q, q)
    sigma: Floats  # (B,)


def parameters_of(
    truth: Truth | TruthSource, template: Design, lanes: Sequence[int], key: Key
) -> Parameters:
    """The truth of every data set.

    Args:
        truth: the parameters, or what draws them.
        template: the generating model.
        lanes: numbers of the data sets.
        key: what ``random_key`` returns.

    Raises:
        OptionError: a truth of other random effects than the model.
    """
    truths = [truth] if isinstance(truth, Truth) else []
    if not isinstance(truth, Truth):
        streams = Streams(key, TRUTH)
        truths = [truth.draw(streams.generator(i)) for i in lanes]
    for one in truths:
        check_effects(one.cov, template)
    parts = zip(*((one.fixed(template.xnames), one.cov, one.sigma) for one in truths), strict=True)
    arrays = [np.array(part) for part in parts]
    return Parameters(*(np.broadcast_to(x, (len(lanes), *x.shape[1:])) for x in arrays))


def generate(
    panel: Panel,
    X: Floats,
    Z: Floats,
    truth: Parameters,
    violations: Sequence[Violation],
    key: Key,
) -> tuple[Floats, Floats]:
    """Random effects and responses y = Xβ + Zb + σe of all rows of a panel.

    Args:
        panel: rows and units of B data sets.
        X: (n, p), Z: (n, q) of one design that all share, or (N, p) and (N, q) of all rows.
        truth: the parameters.
        violations: what acts on b, e, the mean and the missing responses, in this order.
        key: what ``random_key`` returns.

    Returns:
        b (U, q) and y (N,), NaN where missing.

    Raises:
        OptionError: what a violation leaves of Σ is not positive semi-definite.
    """
    beta, cov, sigma = truth
    q, B = Z.shape[1], len(panel.lanes)
    own = [
        (v, RandomNumbers(Streams(key, VIOLATIONS + k), panel)) for k, v in enumerate(violations)
    ]
    remaining = cov
    for v, _ in own:
        remaining = v.remaining(panel, remaining)
    draw = _distribution(violations, EffectsFrom).draw
    u = RandomNumbers(Streams(key, EFFECTS), panel).units(draw, q).reshape(-1, q)
    b = np.einsum("uab,ub->ua", symmetric_root(remaining)[panel.unit_lane], u)
    e = RandomNumbers(Streams(key, RESIDUALS), panel).rows(
        _distribution(violations, ResidualsFrom).draw
    )
    for v, numbers in own:
        b, e = v.effects(panel, b, cov, numbers), v.residuals(panel, e, numbers)
    one_design = len(X) * B == len(e)
    # Column by column: the sums of a matrix product would depend on the number of data sets.
    y = np.zeros(len(e))
    for x, coefficient in zip(X.T, beta.T, strict=True):
        y += (coefficient[:, None] * x).ravel() if one_design else coefficient[panel.lane] * x
    for j, z in enumerate(Z.T):
        y += np.resize(z, len(y)) * b[panel.unit, j]
    y += e * sigma[panel.lane]
    for v, _ in own:
        y += v.mean(panel)
    for mask in [v.missing(panel, b, cov, y, numbers) for v, numbers in own]:
        if mask is not None:
            y[mask] = np.nan
    return b, y


def symmetric_root(cov: Floats) -> Floats:
    """(B, q, q) symmetric square roots of covariance matrices.

    Raises:
        OptionError: one is not positive semi-definite.
    """
    value = np.linalg.eigvalsh(cov)
    largest = np.maximum(np.abs(np.einsum("bjj->bj", cov)).max(axis=1), 1e-300)
    if (value[:, 0] < -SEMIDEFINITE_TOL * largest).any():
        raise OptionError(
            "no random effects of this covariance have such correlations with the covariates: "
            f"what is left of Σ has an eigenvalue of {value[:, 0].min():.3g}; bring the "
            "correlations closer to zero"
        )
    # Singular values of a root keep the digits that the eigenvalues of its square lose.
    U, size, _ = np.linalg.svd(np.moveaxis(semidefinite_root(np.moveaxis(cov, 0, -1)), -1, 0))
    return np.asarray((U * size[:, None]) @ U.mT)


def _distribution(
    violations: Sequence[Violation], kind: type[EffectsFrom] | type[ResidualsFrom]
) -> Distribution:
    given = [v.distribution for v in violations if isinstance(v, kind)]
    return given[0] if given else Gaussian()
