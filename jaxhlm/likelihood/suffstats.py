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

from collections.abc import Container, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxhlm.core.arguments import affordable, whole_number
from jaxhlm.core.notation import LaneIndex
from jaxhlm.errors import GroupingError, NonFiniteError, ResponseShapeError, WeightsError
from jaxhlm.linalg.small import array_namespace

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

# A column that is less than this many roundings of what it was is one of those before it.
PIVOT_ROUNDINGS = 100.0

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


@np.errstate(all="ignore")
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
    when columns are badly scaled; here the rows are taken as they are, in their own dtype, whole
    numbers as floating ones.

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
        WeightsError: a weight that is known is negative, infinite or NaN.

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
    # A design that is known is reduced by NumPy, without compiling, whatever is traced beside it.
    known = not any(isinstance(x, jax.core.Tracer) for x in (X, Z, group, weights))
    # A weak float: whole numbers become floating, and floating rows keep their dtype.
    xp, dtype = np if known else jnp, jnp.result_type(y, X, Z, float)
    y, X, Z = jnp.asarray(y, dtype), xp.asarray(X, dtype), xp.asarray(Z, dtype)
    group = np.asarray(group) if known else group
    # JAX computes places in the labels' own dtype, and int8 does not hold 200 groups.
    group = group.astype(np.int32) if group.dtype.itemsize < 4 else group
    if known and not isinstance(y, jax.core.Tracer):
        y = np.asarray(y)
    logw, counts = xp.zeros((), dtype), (group >= 0) & (group < num_groups)
    if weights is not None:
        weights = xp.asarray(weights, dtype)
        counts = counts & (weights != 0.0)
        weights = xp.where(counts, weights, 1.0)
        logw = xp.sum(xp.log(weights))
        y, X, Z = (xp.sqrt(weights) * y, *(xp.sqrt(weights)[:, None] * x for x in (X, Z)))
    X, Z = (xp.where(counts[:, None], x, 0.0) for x in (X, Z))
    y = array_namespace(y).where(counts, y, 0.0)
    # X and Z apart from y: data sets that share them share all that is made of them alone.
    # Rows of residuals, not a difference of cross products, in which digits would cancel.
    Q, RZ, TX, X = _orthogonalised(Z, X, group, num_groups)
    Ty = _projected(y, Q, group, num_groups)
    y = y - _fitted(Q, Ty, group)
    found = Stats(
        RZ=RZ,
        TX=TX,
        Ty=Ty,
        m=xp.ones(num_groups, dtype),
        XX=X.T @ X,
        Xy=X.T @ y,
        yy=y @ y,
        n=xp.sum(counts).astype(dtype),
        logw=logw,
        rank=xp.asarray(X.shape[1], dtype),
    )
    return Stats(*map(jnp.asarray, found))


def _group_sums(
    values: Float[Array, "n ..."], group: Int[Array, " n"], num_groups: int
) -> Float[Array, "G ..."]:
    """Sums of rows by group."""
    if array_namespace(values, group) is jnp:
        return jax.ops.segment_sum(values, group, num_groups)
    columns = values.reshape(len(values), int(np.prod(values.shape[1:]))).T
    found = np.empty((num_groups, len(columns)), values.dtype)
    for a, column in enumerate(columns):
        found[:, a] = np.bincount(group, column, num_groups)
    return found.reshape(num_groups, *values.shape[1:])


def _projected(
    y: Float[Array, " n"], Q: Float[Array, "n q"], group: Int[Array, " n"], num_groups: int
) -> Float[Array, "G q"]:
    """Q_i'y_i of every group.

    Of many responses on a design that is known when traced, sums of few groups are a matrix
    product: XLA adds numbers at given places one after the other.
    """
    known = isinstance(Q, np.ndarray) and isinstance(y, jax.core.Tracer)
    if not known or num_groups > DENSE_GROUPS or num_groups * Q.size > DENSE_NUMBERS:
        return _group_sums(Q * y[:, None], group, num_groups)
    placed = np.where((group[:, None] == np.arange(num_groups))[:, :, None], Q[:, None], 0.0)
    return jnp.einsum("n,ngq->gq", y, placed)


def _fitted(
    Q: Float[Array, "n q"], T: Float[Array, "G q ..."], group: Int[Array, " n"]
) -> Float[Array, "n ..."]:
    """Q_i T_i of every row, column by column: gathers of numbers are faster than of rows."""
    columns = (Q[:, a].reshape(-1, *[1] * (T.ndim - 2)) * T[:, a][group] for a in range(Q.shape[1]))
    return sum(columns, start=np.zeros((), Q.dtype))


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
    if weights is not None and not isinstance(weights, jax.core.Tracer):
        w = np.asarray(weights)
        if not (np.isfinite(w) & (w >= 0.0)).all():
            raise WeightsError(
                "weights must be finite and not negative; a weight of 0 leaves a row out"
            )
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


def _orthogonalised(
    Z: Float[Array, "n q"], X: Float[Array, "n p"], group: Int[Array, " n"], num_groups: int
) -> tuple[Array, Array, Array, Array]:
    """Q_i, R_i and T_i = Q_i'X_i of every group, and the rows X_i − Q_i T_i, by Gram–Schmidt.

    Of rows, as their squares would lose half of the digits. What is left of a column is made
    orthogonal to those before it a second time, after which it is so to rounding (Giraud et al.
    2005). The guarded division (a where inside a where) keeps derivatives finite at a pivot that is
    rounding, whose row and column are zero.
    """
    xp, q = array_namespace(Z, X, group), Z.shape[1]
    sums = partial(_group_sums, group=group, num_groups=num_groups)
    least = (PIVOT_ROUNDINGS * float(jnp.finfo(Z.dtype).eps)) ** 2
    rest = xp.concatenate([Z, X], axis=1)
    columns: list[Array] = []
    rows: list[Array] = []
    for j in range(q):
        column, at = rest[:, 0], np.arange(q + X.shape[1]) == j
        if columns:
            again = sums(xp.stack(columns, axis=1) * column[:, None])
            rows = [row + again[:, [a]] * at for a, row in enumerate(rows)]
            column = column - sum(Q * again[:, a][group] for a, Q in enumerate(columns))
        square = sums(column * column)
        positive = square > least * (square + sum(row[:, j] ** 2 for row in rows))
        root = xp.sqrt(xp.where(positive, square, 1.0))
        columns.append(column * xp.where(positive, 1.0 / root, 0.0)[group])
        T = sums(columns[j][:, None] * rest[:, 1:])
        rest = rest[:, 1:] - columns[j][:, None] * T[group]
        pivot = xp.where(positive, root, 0.0)[:, None]
        rows.append(xp.concatenate([xp.zeros((num_groups, j), T.dtype), pivot, T], axis=1))
    reduced = xp.stack(rows, axis=1)
    return xp.stack(columns, axis=1), reduced[:, :, :q], reduced[:, :, q:], rest
