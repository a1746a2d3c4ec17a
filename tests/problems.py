"""Small data sets drawn for tests, as plain arrays and as frames."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

import jaxhlm as hlm
from jaxhlm.likelihood.covariance import theta_index

# Groups with one row, with as many rows as random effects, and more.
SIZES = (9, 1, 7, 3, 12, 2, 8, 5)

_suffstats = jax.jit(hlm.suffstats, static_argnames="num_groups")

# XLA's optimisation of an oracle that runs once takes longer than the oracle.
oracle = partial(
    jax.jit,
    compiler_options={
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
        "xla_cpu_use_fusion_emitters": False,
    },
)


def rows(rng, sizes, q=2, p=4, sd=0.5, sigma=1.0):
    """y, X, Z, group of a random-slope model with the given group sizes; X begins with Z."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    n = len(group)
    Z = np.column_stack([np.ones(n), *rng.normal(size=(q - 1, n))])
    X = np.column_stack([Z, *rng.normal(size=(max(p - q, 0), n))])[:, :p]
    b = sd * rng.normal(size=(len(sizes), q))
    y = X @ rng.normal(size=p) + (Z * b[group]).sum(axis=1) + sigma * rng.normal(size=n)
    return y, X, Z, group


def stats_of(y, X, Z, group, weights=None, G=None):
    """Statistics of rows, from one compilation per shape."""
    G = int(np.max(group)) + 1 if G is None else G
    return _suffstats(y, X, Z, jnp.asarray(group), num_groups=G, weights=weights)


def random_lambda(rng, blocks):
    """θ drawn at random, and its Λ."""
    theta = rng.normal(size=len(theta_index(blocks)))
    Lambda = np.zeros((sum(map(len, blocks)),) * 2)
    for value, index in zip(theta, theta_index(blocks), strict=True):
        Lambda[index] = value
    return theta, Lambda


def frame(rng, sizes, **options):
    """The same as a frame with columns y, x, a, unit; a varies between units."""
    y, X, _, group = rows(rng, sizes, q=2, p=2, **options)
    a = rng.normal(size=len(sizes))[group]
    return pd.DataFrame({"y": y + 0.3 * a, "x": X[:, 1], "a": a, "unit": group})


FORMULA = "y ~ x * a + (1 + x | unit)"


@cache
def sleepstudy(reml=True):
    return hlm.fit(
        "Reaction ~ Days + (1 + Days | Subject)", hlm.load_dataset("sleepstudy"), reml=reml
    )


@cache
def article():
    return hlm.fit("y ~ x + a + x * a + (1 + x | unit)", hlm.load_dataset("article"))
