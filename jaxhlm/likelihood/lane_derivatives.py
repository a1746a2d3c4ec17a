"""The derivatives of one data set, mapped over many.

``lane_derivatives`` evaluates ``derivatives`` for B lanes on the last axis of every array:

* q ≤ 3 and p ≤ 8: matrices are unrolled into entries of shape (B,), and groups are summed by a loop
  whose working set fits the cache when there are many lanes, or side by side as (G, B) when few;
* larger, or few, in NumPy: some lanes at a time by BLAS and LAPACK (``likelihood/dense.py``);
* larger, in JAX: ``jax.vmap`` of the dense dialect over lanes and groups.

The bound keeps compile time flat: unrolled code grows like q⁴ + q²p². Unrolled code takes NumPy
arrays as well; on these nothing is ever compiled.

The number of groups may be a value and not a shape (``count``): the loop ends with the last one
that is there, and one program serves all numbers of groups up to the length of the arrays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxhlm.core.chunks import slices
from jaxhlm.core.varying import varying
from jaxhlm.likelihood.covariance import Blocks
from jaxhlm.likelihood.dense import dense_derivatives, lanes_at_once
from jaxhlm.likelihood.derivatives import Derivatives, derivatives
from jaxhlm.likelihood.deviance import GroupTerm, sum_groups
from jaxhlm.likelihood.suffstats import GROUP_FIELDS, Stats, lane_axes
from jaxhlm.linalg.small import array_namespace, entrywise, is_unrolled, stack_entries, unroll

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from jaxhlm.core.notation import Array, Floats

    Theta: TypeAlias = Float[Array, "k B"]
    Count: TypeAlias = Int[Array, ""] | None
    Variance: TypeAlias = Float[Array, " B"] | None

__all__ = [
    "MAX_UNROLLED_P",
    "MAX_UNROLLED_Q",
    "lane_derivatives",
    "mappable",
    "unrollable",
]

MAX_UNROLLED_Q = 3
MAX_UNROLLED_P = 8
# With as many lanes, or more, groups are summed one after the other. Side by side takes up to a
# third less time with 66 groups or more, and four times as long with 30.
LOOP_FROM_LANES = 96
# In NumPy so many groups of lanes for every column of X are spelled out; with fewer, matrix
# products take a third to an eighth of the time.
UNROLL_FROM = 1024
# Groups that the dense dialect takes side by side where their number is known only later.
TILE_GROUPS = 16


def lane_derivatives(
    theta: Theta,
    stats: Stats,
    reml: bool,
    blocks: Blocks,
    count: Count = None,
    sigma2: Variance = None,
) -> Derivatives:
    """``derivatives`` of every lane.

    Args:
        theta: (k, B).
        stats: lanes on the last axis; design fields with a last axis of 1 when shared.
        reml: REML criterion instead of ML deviance.
        blocks: columns of Z in each random term.
        count: () number of the groups that are there, which come first and may be traced; the
            arrays then have ``chunks.compiled_groups`` of them. All by default.
        sigma2: (B,) fixed σ², in NumPy, or None to profile it out.

    Returns:
        ``Derivatives`` with B as the last axis of every field.
    """
    small = unrollable(stats)
    if isinstance(theta, np.ndarray) and not (small and _worth_unrolling(theta, stats)):
        return _in_runs(theta, stats, reml, blocks, sigma2)
    if stats.TX.shape[2] == 0:
        return _without_fixed(theta, stats, blocks, count, sigma2)
    if small:
        return _unrolled(theta, stats, reml, blocks, count, sigma2)
    return _mapped(theta, stats, reml, blocks, count)


def _without_fixed(
    theta: Theta, stats: Stats, blocks: Blocks, count: Count, sigma2: Variance
) -> Derivatives:
    """``lane_derivatives`` for p = 0, where REML and ML are one: with a column of X that is zero.

    Matrices that are spelled out need an entry. A row of its own, with 0 for y, makes a β of 0, and
    REML takes the row off again.
    """
    xp, (G, q), b = array_namespace(stats.Ty), stats.TX.shape[:2], stats.TX.shape[-1]
    one = stats._replace(
        TX=xp.zeros((G, q, 1, b)),
        XX=xp.ones((1, 1, b)),
        Xy=xp.zeros((1, stats.yy.shape[-1])),
        n=stats.n + 1.0,
        rank=stats.rank + 1.0,
    )
    found = lane_derivatives(theta, one, True, blocks, count, sigma2)
    at = found.profile
    return found._replace(profile=at._replace(beta=at.beta[:0], L_A=at.L_A[:0, :0]))


def _unrolled(
    theta: Theta, stats: Stats, reml: bool, blocks: Blocks, count: Count, sigma2: Variance
) -> Derivatives:
    """Spelled out entry by entry."""
    B = theta.shape[-1]
    stats_entries = stats._replace(XX=unroll(stats.XX, 2), Xy=unroll(stats.Xy, 1))
    looped = B >= LOOP_FROM_LANES and isinstance(theta, jax.Array)

    def over_groups(term: GroupTerm, s: Stats) -> tuple[Array, ...]:
        return _loop_groups(term, s, B, count) if looped else _side_by_side(term, s, B)

    out = derivatives(unroll(theta, 1), stats_entries, reml, blocks, over_groups, sigma2)
    return jax.tree.map(lambda x: stack_entries(x, B), out)


def _in_runs(
    theta: Theta, stats: Stats, reml: bool, blocks: Blocks, sigma2: Variance
) -> Derivatives:
    """By LAPACK, some lanes at a time."""
    B, size = theta.shape[-1], lanes_at_once(stats)
    if size >= B:
        return dense_derivatives(theta, stats, reml, blocks, sigma2)
    parts = [
        dense_derivatives(
            theta[:, run],
            stats.take(run),
            reml,
            blocks,
            None if sigma2 is None else sigma2[run],
        )
        for run in slices(B, size)
    ]
    return jax.tree.map(lambda *x: np.concatenate(x, axis=-1), *parts)


def _worth_unrolling(theta: Floats, stats: Stats) -> bool:
    """Whether there are so many groups of lanes that calls of NumPy for every entry are cheap."""
    return len(stats.m) * theta.shape[-1] > UNROLL_FROM * stats.TX.shape[2]


def unrollable(stats: Stats) -> bool:
    """Whether matrices are small enough to be spelled out entry by entry."""
    q, p = stats.TX.shape[1:3]
    return bool(q <= MAX_UNROLLED_Q and p <= MAX_UNROLLED_P)


def mappable(stats: Stats) -> tuple[Stats, Stats]:
    """Statistics and their ``in_axes`` for ``jax.vmap`` over the last axis of lanes.

    Lanes that share a design have a last axis of 1 on its fields, which is taken off.
    """
    axes = lane_axes(stats.shared)
    fields = zip(stats, axes, strict=True)
    return Stats(*(x[..., 0] if axis is None else x for x, axis in fields)), axes


def _mapped(theta: Theta, stats: Stats, reml: bool, blocks: Blocks, count: Count) -> Derivatives:
    """The dense dialect of JAX, mapped over lanes and groups."""
    mapped, axes = mappable(stats)
    G = len(stats.m)
    tile = G if count is None else min(G, TILE_GROUPS)

    def over_groups(term: GroupTerm, s: Stats) -> tuple[Array, ...]:
        if count is None or tile == G:
            return sum_groups(term, s)

        def add(i: Int[Array, ""], sums: tuple[Array, ...]) -> tuple[Array, ...]:
            more = sum_groups(term, _groups(s, i, tile))
            return jax.tree.map(jnp.add, sums, more)

        shapes = jax.eval_shape(lambda: sum_groups(term, _groups(s, 0, tile)))
        start = varying(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes), shapes)
        return jax.lax.fori_loop(0, -(-count // tile), add, start)

    return jax.vmap(
        lambda t, s: derivatives(t, s, reml, blocks, over_groups), in_axes=(-1, axes), out_axes=-1
    )(theta, mapped)


def _groups(stats: Stats, i: Int[Array, ""] | int, tile: int) -> Stats:
    """Tile i of the groups."""
    part = (jax.lax.dynamic_slice_in_dim(x, i * tile, tile) for x in stats.by_group)
    return stats._replace(**dict(zip(GROUP_FIELDS, part, strict=True)))


def _split(RZ: Array, TX: Array, Ty: Array, m: Array, lead: int) -> tuple[Array, ...]:
    """Entries of one group's statistics."""
    return unroll(RZ, 2, lead), unroll(TX, 2, lead), unroll(Ty, 1, lead), m


def _side_by_side(term: GroupTerm, stats: Stats, B: int) -> tuple[Array, ...]:
    """Sum over groups with the groups as a leading axis of every entry."""
    terms = term(*_split(stats.RZ, stats.TX, stats.Ty, stats.m, 1))
    G = len(stats.m)
    xp = array_namespace(stats.Ty)
    return tuple(entrywise(lambda t: xp.sum(xp.broadcast_to(t, (G, B)), axis=0), t) for t in terms)


def _loop_groups(term: GroupTerm, stats: Stats, B: int, count: Count) -> tuple[Array, ...]:
    """Sum over groups one after the other: the working set is a few hundred arrays of (B,)."""
    shapes: list[tuple[int, ...] | None] = []

    @jax.jit  # traced once, for the shapes and for the loop
    def of_group(RZ: Array, TX: Array, Ty: Array, m: Array) -> tuple[Array, ...]:
        terms = term(*_split(RZ, TX, Ty, m, 0))
        shapes[:] = [t.shape if is_unrolled(t) else None for t in terms]
        return tuple(jnp.broadcast_to(leaf, (B,)) for leaf in _leaves(terms))

    def flat(i: Int[Array, ""] | int) -> tuple[Array, ...]:
        return of_group(
            *(jax.lax.dynamic_index_in_dim(x, i, keepdims=False) for x in stats.by_group)
        )

    shape = jax.eval_shape(flat, 0)
    start = varying(jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shape), shape)
    groups = len(stats.m) if count is None else count
    sums = jax.lax.fori_loop(0, groups, lambda i, c: tuple(map(jnp.add, c, flat(i))), start)
    return _rebuild(sums, shapes)


def _leaves(terms: tuple[Array, ...]) -> list[Array]:
    return [leaf for t in terms for leaf in (t.flat if is_unrolled(t) else (t,))]


def _rebuild(leaves: tuple[Array, ...], shapes: list[tuple[int, ...] | None]) -> tuple[Array, ...]:
    out, rest = [], iter(leaves)
    for shape in shapes:
        if shape is None:
            out.append(next(rest))
            continue
        array = np.empty(shape, dtype=object)
        for index in np.ndindex(*shape):
            array[index] = next(rest)
        out.append(array)
    return tuple(out)
