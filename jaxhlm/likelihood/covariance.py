"""The relative covariance factor Λ: its free entries θ, and the canonical form that is reported.

Λ is lower triangular and block diagonal. A block is a set of columns of Z that covary freely, and
has a full lower triangle in Λ: ``(1 + x | g)`` is one block of 2, ``(1 + x || g)`` two blocks of 1.
Which blocks a random term has, its covariance structure says (``random_term``). θ lists the free
entries column by column, block after block, as lme4 does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from jaxhlm.core.notation import Bools, Floats
from jaxhlm.errors import ResponseShapeError
from jaxhlm.linalg.small import array_namespace, matmul, set_at, unroll

if TYPE_CHECKING:
    from jaxtyping import Float

    from jaxhlm.core.notation import Array

__all__ = [
    "ROUNDED_TO_ZERO",
    "SINGULAR_SD",
    "Blocks",
    "ThetaIndex",
    "block_cholesky",
    "block_of",
    "canonical",
    "covariance_of",
    "factor",
    "lambda_matrix",
    "lambda_of",
    "on_boundary",
    "pivots",
    "theta_index",
    "theta_of",
    "zero_pivot_precedes",
]

Blocks = tuple[tuple[int, ...], ...]
ThetaIndex = tuple[tuple[int, int], ...]

SINGULAR_SD = 1e-4
"""A relative standard deviation below this counts as zero: lme4's ``isSingular`` tolerance, here
applied after the columns of Z have been scaled to mean square 1, so that it has no units."""

ROUNDED_TO_ZERO = 1e-9
"""A pivot of a singular D, relative to its variance, that is zero but for rounding."""


@lru_cache
def theta_index(blocks: Blocks) -> ThetaIndex:
    """Row and column in Λ of every entry of θ, in order.

    >>> theta_index(((0, 1),))
    ((0, 0), (1, 0), (1, 1))
    >>> theta_index(((0,), (1,)))
    ((0, 0), (1, 1))
    """
    return tuple(
        (row, column) for block in blocks for j, column in enumerate(block) for row in block[j:]
    )


def block_of(q: int) -> Blocks:
    """The blocks of one unstructured q×q covariance."""
    return (tuple(range(q)),)


def lambda_matrix(theta: Float[Array, " k"], blocks: Blocks) -> Float[Array, "q q"]:
    """Λ (q, q) from θ (k,): the covariance of the random effects is σ²ΛΛ', relative to σ².

    Args:
        theta: (k,) free entries, column by column of the lower triangle.
        blocks: columns of Z in each random term.

    Raises:
        ResponseShapeError: θ does not have one number for each free entry.

    Example:
        >>> import numpy as np, jaxhlm as hlm
        >>> hlm.lambda_matrix(np.array([1.0, 0.5, 2.0]), ((0, 1),)).tolist()
        [[1.0, 0.0], [0.5, 2.0]]
    """
    q = sum(map(len, blocks))
    rows, columns = zip(*theta_index(blocks), strict=True)
    if np.shape(theta) != (len(rows),):
        raise ResponseShapeError(
            f"theta has shape {np.shape(theta)}; give {(len(rows),)}, one number for each of the "
            f"entries {theta_index(blocks)} of Λ"
        )
    if isinstance(theta, np.ndarray) and theta.dtype == object:
        Lambda = np.full((q, q), 0.0, dtype=object)
        Lambda[rows, columns] = theta
        return Lambda
    theta = jnp.asarray(theta)
    # Stacked, not set: JAX sets no entries of arrays that are sharded explicitly.
    entries = [[jnp.zeros((), theta.dtype)] * q for _ in range(q)]
    for row, column, entry in zip(rows, columns, theta, strict=True):
        entries[row][column] = entry
    return jnp.stack([jnp.stack(row) for row in entries])


def factor(
    D: Float[Array, "q q"], blocks: Blocks, floor: Sequence[Array | float], xp: ModuleType
) -> Float[Array, "q q"]:
    """Block lower triangular Λ with non-negative diagonal and ΛΛ' = D, zero pivots allowed.

    A pivot (a conditional variance) at or below its floor becomes exactly zero, with its column:
    what converged towards a zero variance or a correlation of ±1 is then exactly that.

    Args:
        D: (q, q) unrolled positive semi-definite matrix, entries of any common shape.
        blocks: columns of Z in each random term.
        floor: q floors, one per column.
        xp: ``numpy`` or ``jax.numpy``, whichever the entries belong to.
    """

    def column(j: int, rest: list[Array]) -> list[Array]:
        keep = rest[0] > floor[j]
        root = xp.sqrt(xp.where(keep, rest[0], 1.0))
        return [xp.where(keep, value / root, 0.0) for value in rest]

    return block_cholesky(D, blocks, column)


def block_cholesky(
    D: Float[Array, "q q"], blocks: Blocks, column: Callable[[int, list[Array]], list[Array]]
) -> Float[Array, "q q"]:
    """Block lower triangular Λ of unrolled D, column after column.

    Args:
        D: (q, q) unrolled symmetric matrix.
        blocks: columns of Z in each random term.
        column: entries of column j of Λ, from the pivot on, of what the columns before leave of
            that of D.
    """
    Lambda = np.full(D.shape, 0.0, dtype=object)
    for block in blocks:
        for i, j in enumerate(block):
            done = list(block[:i])
            rest = [D[row, j] - Lambda[row, done] @ Lambda[j, done] for row in block[i:]]
            for row, value in zip(block[i:], column(j, rest), strict=True):
                Lambda[row, j] = value
    return Lambda


def canonical(theta: Float[Array, "k ..."], blocks: Blocks) -> Float[Array, "k ..."]:
    """θ of the same covariance with diag Λ ≥ 0 and negligible variances exactly zero.

    Args:
        theta: (k, …) free entries of Λ for Z of mean square 1.
        blocks: columns of Z in each random term.
    """
    Lambda = lambda_matrix(unroll(theta, 1), blocks)
    xp = array_namespace(theta)
    floors = [SINGULAR_SD**2] * len(Lambda)
    tidy = factor(matmul(Lambda, Lambda.T), blocks, floors, xp)
    return xp.stack([tidy[index] for index in theta_index(blocks)])


def theta_of(D: Floats, blocks: Blocks, tolerance: Float[Array, " B"] = 0.0) -> Floats:
    """θ (k, B) of relative covariances D (B, q, q).

    Args:
        D: positive semi-definite matrices; what is outside of the blocks does not count.
        blocks: columns of Z in each random term.
        tolerance: (B,) or a number: pivots up to this times their variance are zero.
    """
    xp = array_namespace(D)
    floors = [tolerance * D[:, j, j] for j in range(D.shape[1])]
    Lambda = factor(unroll(xp.moveaxis(D, 0, -1), 2), blocks, floors, xp)
    theta: Floats = xp.stack([Lambda[index] for index in theta_index(blocks)])
    return theta


def lambda_of(theta: Floats, blocks: Blocks) -> Floats:
    """Λ (B, q, q) from θ (k, B)."""
    q = sum(map(len, blocks))
    Lambda = array_namespace(theta).zeros((theta.shape[-1], q, q), theta.dtype)
    for entry, (row, column) in zip(theta, theta_index(blocks), strict=True):
        Lambda = set_at(Lambda, np.s_[:, row, column], entry)
    return Lambda


def covariance_of(theta: Floats, blocks: Blocks) -> Floats:
    """D = ΛΛ' (B, q, q) from θ (k, B), in NumPy."""
    Lambda = lambda_of(theta, blocks)
    return Lambda @ Lambda.mT


def on_boundary(theta: Floats, blocks: Blocks) -> Bools:
    """(B,) whether a variance is zero or a correlation ±1, of canonical θ (k, B)."""
    zero: Bools = (theta[np.array(pivots(blocks))] == 0.0).any(axis=0)
    return zero


def zero_pivot_precedes(theta: Floats, blocks: Blocks) -> Bools:
    """(…) whether a zero pivot of canonical θ (k, …) precedes one of its block that is not zero.

    Next to such a D there are others for whose covariances Λ has no entries, to first order.
    """
    zero, first = theta[np.array(pivots(blocks))] == 0.0, 0
    found: Bools = zero[0] & ~zero[0]
    for block in blocks:
        own = zero[first : first + len(block)]
        found = found | (own[:-1] & ~own[1:]).any(axis=0)
        first += len(block)
    return found


def pivots(blocks: Blocks) -> list[int]:
    """Positions in θ of the diagonal of Λ."""
    return [i for i, (row, column) in enumerate(theta_index(blocks)) if row == column]
