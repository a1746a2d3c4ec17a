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
from jax import lax, random

from jaxhlm.statistics.threefry import THREEFRY

if TYPE_CHECKING:
    from jaxtyping import Float

    from jaxhlm.core.notation import Array

__all__ = ["lane_keys", "normals_and_chi_squares"]

# Of so many lanes one is room for those that are tried again.
RETRIED = 16


def lane_keys(key: Any, lane_index: Any) -> Any:
    """Keys (B,) of lanes.

    Args:
        key: (2,) what ``random_key`` returns.
        lane_index: (B,) their numbers.
    """
    key = random.wrap_key_data(key, impl=THREEFRY)
    return jax.vmap(random.fold_in, (None, 0))(key, lane_index)


def normals_and_chi_squares(
    keys: Any, count: int, df: Float[Array, " m"]
) -> tuple[Float[Array, "count B"], Float[Array, "m B"]]:
    """Standard normal numbers, and chi-squared ones; all of a lane are independent.

    Args:
        keys: (B,) of the lanes.
        count: how many normal numbers.
        df: (m,) whole degrees of freedom; what has less than one gets numbers without a meaning.
    """
    m, B = len(df), len(keys)
    df = jnp.maximum(df, 1.0)[:, None]
    normal, uniform, retry = jax.vmap(lambda k: random.split(k, 3), out_axes=1)(keys)
    z = _normals(normal, count + m)
    values = _proposed(z[count:], _uniforms(uniform, m), df)
    room = min(B, max(1, B // RETRIED))

    def again(state: Float[Array, "m+1 B"]) -> Float[Array, "m+1 B"]:
        failed = jnp.isnan(state).any(axis=0)
        at = lax.top_k(failed.astype(jnp.float32), room)[1]
        known, tries = jnp.split(state[:, at], [m])
        own = jax.vmap(random.fold_in)(retry[at], tries[0].astype(jnp.uint32))
        normal, uniform = jax.vmap(random.split, out_axes=1)(own)
        found = _proposed(_normals(normal, m), _uniforms(uniform, m), df)
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


def _normals(keys: Any, count: int) -> Any:
    """(count, B)."""
    return jax.vmap(lambda key: random.normal(key, (count,)), out_axes=-1)(keys)


def _uniforms(keys: Any, count: int) -> Any:
    """(count, B) in (0, 1]."""
    return 1.0 - jax.vmap(lambda key: random.uniform(key, (count,)), out_axes=-1)(keys)
