"""Normal and chi-squared numbers of very many lanes, each lane from a key of its own.

A lane gets the same numbers whatever is drawn beside it. χ²_ν = 2 γ with γ ~ Gamma(α), α = ν/2 ≥ 1,
by the rejection method of Marsaglia & Tsang (2000, "A simple method for generating gamma
variables"): with d = α − 1/3, x ~ N(0, 1) and u ~ U(0, 1), the proposal

    γ = d v,    v = (1 + x/√(9d))³

is accepted if log u < x²/2 + d (1 − v + log v). Fewer than one in twenty are not; all lanes are
tried together, and those that failed again among themselves, which takes a third of the time that
a loop for each number takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxhlm.statistics.threefry import Words, fold_in, normal, split, uniform

if TYPE_CHECKING:
    from jaxtyping import Float

    from jaxhlm.core.notation import Array

__all__ = ["lane_keys", "normals_and_chi_squares"]

# Of so many lanes one is room for those that are tried again.
RETRIED = 32
# XLA makes no loop of one step, and LLVM then follows every path through the hash: for hours.
LEAST_STEPS = 2


def lane_keys(key: Any, lane_index: Any) -> Words:
    """Keys of lanes.

    Args:
        key: (2,) what ``random_key`` returns.
        lane_index: (B,) their numbers.
    """
    return fold_in((key[0], key[1]), lane_index)


def normals_and_chi_squares(
    keys: Words, count: int, df: Float[Array, " m"], unneeded: tuple[Any, Any] = (0, 0)
) -> tuple[Float[Array, "count B"], Float[Array, "m B"]]:
    """Standard normal numbers, and chi-squared ones; all of a lane are independent.

    Args:
        keys: of the lanes.
        count: how many normal numbers.
        df: (m,) whole degrees of freedom; what has less than one gets numbers without a meaning.
        unneeded: first of the normal numbers that are zero instead, and the next that is not.
    """
    m, B = len(df), len(keys[0])
    df = jnp.maximum(df, 1.0)[:, None]
    of_normals, of_uniforms, of_retries = split(keys, 3)
    z = _normals(of_normals, count + m, unneeded)
    values = _proposed(z[count:], _uniforms(of_uniforms, m), df)
    room = min(B, max(1, B // RETRIED))

    def again(state: Float[Array, "m+1 B"]) -> Float[Array, "m+1 B"]:
        failed = jnp.isnan(state).any(axis=0)
        at = lax.top_k(failed.astype(jnp.float32), room)[1]
        known, tries = jnp.split(state[:, at], [m])
        own = fold_in(jax.tree.map(lambda words: words[at], of_retries), tries[0])
        of_normals, of_uniforms = split(own, 2)
        found = _proposed(_normals(of_normals, m), _uniforms(of_uniforms, m), df)
        found = jnp.where(jnp.isnan(known), found, known)
        return state.at[:, at].set(jnp.concatenate([found, tries + 1.0]), unique_indices=True)

    # With how often each lane was tried again, so that one array is gathered and scattered: XLA
    # compiles each of these for a while.
    state = jnp.concatenate([values, jnp.zeros((1, B))])
    state = lax.while_loop(lambda state: jnp.isnan(state).any(), again, state)
    return z[:count], state[:m]


def _proposed(
    x: Float[Array, "m B"], u: Float[Array, "m B"], df: Float[Array, "m 1"]
) -> Float[Array, "m B"]:
    """Chi-squared numbers, NaN where not accepted; the square of x has one degree of freedom."""
    single = df < 2.0
    d = 0.5 * jnp.maximum(df, 2.0) - 1.0 / 3.0
    root = 1.0 + x / jnp.sqrt(9.0 * d)
    v = root**3
    bound = 0.5 * x**2 + d * (1.0 - v + jnp.log(jnp.where(root > 0.0, v, 1.0)))
    accepted = single | ((root > 0.0) & (jnp.log(u) < bound))
    return jnp.where(accepted, jnp.where(single, x**2, 2.0 * d * v), jnp.nan)


def _normals(
    keys: Words, count: int, unneeded: tuple[Any, Any] = (0, 0)
) -> Float[Array, "count B"]:
    first, after = unneeded
    steps = max(count, LEAST_STEPS)

    def one(i: Any, z: Float[Array, "count B"]) -> Float[Array, "count B"]:
        at = jnp.where(i < first, i, i + after - first)
        return z.at[at].set(normal(keys, at))

    return lax.fori_loop(0, steps - (after - first), one, jnp.zeros((steps, len(keys[0]))))[:count]


def _uniforms(keys: Words, count: int) -> Float[Array, "count B"]:
    """In (0, 1]."""
    steps = jnp.arange(max(count, LEAST_STEPS))
    return lax.map(lambda i: 1.0 - uniform(keys, i), steps)[:count]
