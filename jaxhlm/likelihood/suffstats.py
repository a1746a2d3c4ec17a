"""Sufficient statistics of one data set: after them the rows are never touched again.

With the QR factorisation Z_i = Q_i R_i of every group's random-effects columns, the covariance of
the rows of group i, V_i = I + Z_i Λ Λ' Z_i', is the identity on everything orthogonal to Q_i. So

    [X_i y_i]' V_i⁻¹ [X_i y_i] = within_i + T_i' (I + R_i Λ Λ' R_i')⁻¹ T_i,    T_i = Q_i'[X_i y_i]

with within_i = [X_i y_i]'(I − Q_i Q_i')[X_i y_i] free of θ. It is the identity that Bates et al.
(2015, section 3) write with L_i L_i' = Λ'Z_i'Z_i Λ + I, but as a sum of positive terms: no digits
cancel when the random effects dwarf the residuals. A group with no rows has R_i = 0, T_i = 0 and
contributes exactly nothing, so padding is exact.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxhlm.core.arguments import affordable, whole_number
from jaxhlm.core.notation import LaneIndex
from jaxhlm.errors import GroupingError, NonFiniteError, ResponseShapeError
from jaxhlm.linalg.small import array_namespace, unroll

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from jaxhlm.core.notation import Array

__all__ = [
    "GROUP_FIELDS",
    "RESPONSE_FIELDS",
    "Stats",
    "expanded",
    "lane_axes",
    "suffstats",
    "take_lanes",
    "taken",
]


class Stats(NamedTuple):
    """Sufficient statistics of one data set (many: a last axis of lanes on every field).

    Of many lanes the fields of ``RESPONSE_FIELDS`` have one entry for each; any other may have a
    last axis of 1, for what all lanes share.

    ``m`` counts the groups that share this R_i: it weighs log|I + R_i Λ Λ' R_i'| and is 0 for
    padding. The fields from ``XX`` to ``logw`` are sums over groups. A column of X that is left out
    of one data set among many is zero there, with a number of its own on the diagonal of XX: its
    coefficient is 0 and concerns no other.
    """

    RZ: Float[Array, "G q q ..."]  # upper triangular R_i, rows of zeros where n_i < q
    TX: Float[Array, "G q p ..."]  # Q_i'X_i
    Ty: Float[Array, "G q ..."]  # Q_i'y_i
    m: Float[Array, "G ..."]
    XX: Float[Array, "p p ..."]  # Σ X_i'(I − Q_i Q_i')X_i
    Xy: Float[Array, "p ..."]  # Σ X_i'(I − Q_i Q_i')y_i
    yy: Float[Array, " ..."]  # Σ y_i'(I − Q_i Q_i')y_i
    n: Float[Array, " ..."]  # number of rows
    logw: Float[Array, " ..."]  # Σ log of the prior weights
    rank: Float[Array, " ..."]  # rank of X

    @property
    def num_lanes(self) -> int:
        """How many lanes there are, B."""
        return int(self.yy.shape[-1])

    @property
    def shared(self) -> bool:
        """Whether all lanes share one design."""
        return bool(self.RZ.shape[-1] == 1)

    @property
    def by_group(self) -> tuple[Array, Array, Array, Array]:
        """The fields of ``GROUP_FIELDS``."""
        return self.RZ, self.TX, self.Ty, self.m

    def take(self, index: LaneIndex) -> Stats:
        """Some lanes, which may repeat; what all share stays."""
        return Stats(*take_lanes(self, index, RESPONSE_FIELDS))

    def expand(self) -> Stats:
        """Every field with an entry for each lane."""
        return Stats(*(expanded(x, self.num_lanes) for x in self))


# Groups, and numbers of the matrix, up to which sums over groups are a matrix product.
DENSE_GROUPS = 64
DENSE_NUMBERS = 2**20

GROUP_FIELDS = ("RZ", "TX", "Ty", "m")
RESPONSE_FIELDS = frozenset({"Ty", "Xy", "yy"})


def lane_axes(shared_design: bool) -> Stats:
    """``in_axes`` for ``jax.vmap`` over lanes on the last axis.

    When the lanes share one design, only the response fields have an axis of lanes.
    """
    return Stats(
        *(None if shared_design and f not in RESPONSE_FIELDS else -1 for f in Stats._fields)
    )


def taken(x: Float[Array, "... b"], index: LaneIndex) -> Float[Array, "... b"]:
    """Some lanes of (…, b); what all share, (…, 1), stays."""
    return x[..., index] if x.shape[-1] > 1 else x


def expanded(x: Float[Array, "... b"], B: int) -> Float[Array, "... B"]:
    """(…, b) with an entry for each of B lanes."""
    return array_namespace(x).broadcast_to(x, (*x.shape[:-1], B))


def take_lanes(record: NamedTuple, index: LaneIndex, own: Container[str]) -> Iterator[Array]:
    """Fields of a record for some of its lanes.

    Args:
        record: a named tuple of arrays (…, b).
        index: which, as an index of the last axis; they may repeat.
        own: names of the fields that have an entry for every lane, were there only one.
    """
    for name, x in zip(record._fields, record, strict=True):
        yield x[..., index] if name in own else taken(x, index)


def suffstats(
    y: Float[Array, " n"],
    X: Float[Array, "n p"],
    Z: Float[Array, "n q"],
    group: Int[Array, " n"],
    num_groups: int,
    weights: Float[Array, " n"] | None = None,
) -> Stats:
    """Sufficient statistics from rows, in JAX: jit-able, vmap-able, differentiable in y, X and Z.

    ``fit`` standardises the rows first (``statistics/standardise.py``), which keeps more digits
    when columns are badly scaled; here the rows are taken as they are, in their own dtype.

    ``hlm.design(formula, data)`` makes X, Z and group (also G, weights and blocks) of a formula and
    a frame; y is then a column of the frame, of the rows that the design has ``kept``.

    Args:
        y: (n,) response, less the offset where there is one.
        X: (n, p) fixed-effects matrix.
        Z: (n, q) random-effects matrix.
        group: (n,) integer group of every row, 0 … num_groups − 1, in any order. Labels 1 … G are
            refused; under ``jit`` or ``vmap`` their values are not known, and rows with a label
            outside the range do not count.
        num_groups: number of groups G (static).
        weights: (n,) prior weights w with Var(ε) = σ²/w, or None. Rows of weight 0 do not count.

    Returns:
        The statistics, fields as listed in ``Stats``.

    Raises:
        ResponseShapeError: the shapes do not fit each other.
        GroupingError: ``group`` holds other values than 0 … num_groups − 1.
        NonFiniteError: an array has masked entries; leave such rows out.

    Example:
        >>> import jax.numpy as jnp, jaxhlm as hlm
        >>> y, x = jnp.array([1.0, 2.0, 4.0, 3.0]), jnp.array([0.0, 1.0, 2.0, 4.0])
        >>> X = jnp.stack([jnp.ones(4), x], axis=1)
        >>> stats = hlm.suffstats(y, X, X[:, :1], jnp.array([0, 0, 1, 1]), num_groups=2)
        >>> stats.TX.shape, stats.Ty.shape, int(stats.n)
        ((2, 1, 2), (2, 1), 4)

        Of a formula, in double precision:

        >>> import jax
        >>> data = hlm.load_dataset("sleepstudy")
        >>> d = hlm.design("~ Days + (1 + Days | Subject)", data)
        >>> with jax.enable_x64(True):
        ...     y = jnp.array(data["Reaction"])
        ...     stats = hlm.suffstats(y, d.X, d.Z, d.group, d.G)
        ...     round(float(hlm.deviance(jnp.array([0.967, 0.015, 0.231]), stats)), 3)
        1743.628
    """
    _check_rows(y, X, Z, group, num_groups, weights)
    q = Z.shape[1]
    affordable("num_groups", num_groups, 8.0 * q * (q + X.shape[1] + 1))
    # Of many responses on a design that is known when traced, sums of few groups are a matrix
    # product: XLA adds numbers at given places one after the other.
    known = not any(isinstance(x, jax.core.Tracer) for x in (Z, group, weights))
    dense = known and num_groups <= DENSE_GROUPS and num_groups * Z.size <= DENSE_NUMBERS
    y, X, Z = (jnp.asarray(x, jnp.result_type(y, X, Z)) for x in (y, X, Z))
    logw, counts = jnp.zeros((), y.dtype), (group >= 0) & (group < num_groups)
    if weights is not None:
        counts = counts & (weights != 0.0)
        weights = jnp.where(counts, weights, 1.0)
        logw = jnp.sum(jnp.log(weights))
        y, X, Z = (jnp.sqrt(weights) * y, *(jnp.sqrt(weights)[:, None] * x for x in (X, Z)))
    y, X, Z = jnp.where(counts, y, 0.0), *(jnp.where(counts[:, None], x, 0.0) for x in (X, Z))
    # X and Z apart from y: data sets that share them share all that is made of them alone.
    sums = partial(jax.ops.segment_sum, segment_ids=group, num_segments=num_groups)
    RZ, TX = jax.vmap(_reduce)(sums(Z[:, :, None] * jnp.concatenate([Z, X], axis=1)[:, None]))
    if dense:
        placed = jnp.where((group[:, None] == np.arange(num_groups))[:, :, None], Z[:, None], 0.0)
        Zy = jnp.einsum("n,ngq->gq", y, placed)
    else:
        Zy = sums(Z * y[:, None])
    Ty = jax.vmap(_solve_lower)(RZ, Zy)
    # Rows of residuals, not a difference of cross products, in which digits would cancel.
    X = X - _fitted(Z, jax.vmap(_solve_upper)(RZ, TX), group)
    y = y - _fitted(Z, jax.vmap(_solve_upper)(RZ, Ty), group)
    return Stats(
        RZ=RZ,
        TX=TX,
        Ty=Ty,
        m=jnp.ones(num_groups, y.dtype),
        XX=X.T @ X,
        Xy=X.T @ y,
        yy=y @ y,
        n=jnp.sum(counts).astype(y.dtype),
        logw=logw,
        rank=jnp.asarray(X.shape[1], y.dtype),
    )


def _fitted(
    Z: Float[Array, "n q"], B: Float[Array, "G q ..."], group: Int[Array, " n"]
) -> Float[Array, "n ..."]:
    """Z_i B_i of every row, column by column of Z: gathers of numbers are faster than of rows."""
    columns = (Z[:, a].reshape(-1, *[1] * (B.ndim - 2)) * B[:, a][group] for a in range(Z.shape[1]))
    return sum(columns, start=jnp.zeros((), Z.dtype))


def _check_rows(y: Any, X: Any, Z: Any, group: Any, num_groups: Any, weights: Any) -> None:
    """Refuse what would be read as something else; what is traced has a shape only."""
    G, given = whole_number("num_groups", num_groups), {"y": y, "X": X, "Z": Z, "group": group}
    given |= {} if weights is None else {"weights": weights}
    for name, values in given.items():
        shape = (*np.shape(y)[:1], *np.shape(values)[1:])
        if np.shape(values) != shape or len(shape) != 1 + (name in ("X", "Z")):
            raise ResponseShapeError(
                f"{name} has shape {np.shape(values)} beside y of shape {np.shape(y)}; give one "
                "row for each response: y (n,), X (n, p), Z (n, q), group (n,)"
            )
        if np.ma.is_masked(values):
            raise NonFiniteError(f"{name} has masked entries; leave their rows out")
    if isinstance(group, jax.core.Tracer):
        return
    labels = np.asarray(group)
    if labels.dtype.kind not in "iu":
        raise GroupingError(f"group has dtype {labels.dtype}; give whole numbers 0 … {G - 1}")
    if labels.size and not 0 <= labels.min() <= labels.max() < G:
        raise GroupingError(
            f"group has labels from {labels.min()} to {labels.max()}; with num_groups={G} they are "
            f"0 … {G - 1}: numpy.unique(group, return_inverse=True)[1] numbers any labels so"
        )


def _reduce(S: Float[Array, "q q+p"]) -> tuple[Array, Array]:
    """R and T = R⁻ᵀ Z'X of one group from S = Z'[Z X], by a Cholesky that skips zero pivots.

    The guarded division (a where inside a where) keeps derivatives finite at a skipped pivot.
    """
    rows, q = list(S), len(S)
    diagonal = unroll(S, 2)[np.arange(q), np.arange(q)]
    tolerance = 1e3 * float(jnp.finfo(S.dtype).eps)
    for j in range(q):
        positive = rows[j][j] > tolerance * diagonal[j]
        root = jnp.sqrt(jnp.where(positive, rows[j][j], 1.0))
        rows[j] = jnp.where(positive, rows[j] / root, 0.0)
        for i in range(j + 1, q):
            rows[i] = rows[i] - rows[j][i] * rows[j]
    reduced = jnp.stack(rows)
    return jnp.triu(reduced[:, :q]), reduced[:, q:]


def _solve_upper(R: Float[Array, "q q"], T: Float[Array, "q ..."]) -> Float[Array, "q ..."]:
    """B with R B = T for upper triangular R, with rows of zeros where a pivot of R is zero."""
    return _solved(R, T, reversed(range(len(R))))


def _solve_lower(R: Float[Array, "q q"], T: Float[Array, "q ..."]) -> Float[Array, "q ..."]:
    """As ``_solve_upper``, with R' B = T."""
    return _solved(R.T, T, range(len(R)))


def _solved(M: Float[Array, "q q"], T: Float[Array, "q ..."], rows: Iterable[int]) -> Array:
    """Rows of M⁻¹T in the order in which each needs those before it."""
    B = jnp.zeros_like(T)
    for j in rows:
        positive = M[j, j] > 0.0
        row = (T[j] - M[j] @ B) / jnp.where(positive, M[j, j], 1.0)
        B = B.at[j].set(jnp.where(positive, row, 0.0))
    return B
