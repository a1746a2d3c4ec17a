"""The data of the workloads, each drawn from a fixed seed."""

import numpy as np
import pandas as pd

import jaxhlm as hlm

ARTICLE = "~ x * a + (1 + x | unit)"
SLEEP = "Reaction ~ Days + (1 + Days | Subject)"
SCHOOLS = "MathAch ~ SES * MEANSES + (1 + SES | School)"
GENES = "~ x + a + b + c + d + (1 + x | unit)"
TRUTH = hlm.Truth.of([1, 3, -0.15, 0.3], sd=[0.2, 0.5], corr=0.9, sigma=0.75)


def article(B: int) -> tuple[pd.DataFrame, np.ndarray]:
    """The article's design and B responses (900, B) from its truth."""
    data = hlm.load_dataset("article")
    rows = hlm.simulate(hlm.design(ARTICLE, data), TRUTH, B, seed=1, statistics=False).rows()
    return data, np.ascontiguousarray(rows)


def schools(B: int) -> tuple[pd.DataFrame, np.ndarray]:
    """The MathAchieve data and B responses from the fit to them."""
    data = hlm.load_dataset("math_achieve")
    Y = hlm.fit(SCHOOLS, data).simulate(B, seed=1).to_numpy()
    return data, np.ascontiguousarray(Y)


def genes(B: int) -> tuple[pd.DataFrame, np.ndarray]:
    """262 rows in 40 unequal groups, six fixed effects, and B responses."""
    rng = np.random.default_rng(2)
    sizes = rng.integers(2, 12, size=40)
    while sizes.sum() != 262:
        sizes[rng.integers(40)] += np.sign(262 - sizes.sum())
    unit = np.repeat(np.arange(40), sizes)
    data = pd.DataFrame({"unit": unit, "x": rng.normal(size=262)})
    data[["a", "b", "c", "d"]] = rng.normal(size=(262, 4))
    truth = hlm.Truth.of([1, 0.5, 0, 0, 0, 0], sd=[0.6, 0.3], corr=0.2, sigma=1.0)
    rows = hlm.simulate(hlm.design(GENES, data), truth, B, seed=3, statistics=False).rows()
    return data, np.ascontiguousarray(rows)


def incomplete(B: int) -> tuple[pd.DataFrame, np.ndarray]:
    """The same with 5 % of the values missing."""
    data, Y = genes(B)
    Y[np.random.default_rng(7).random(Y.shape) < 0.05] = np.nan
    return data, Y


def replicates(B: int) -> pd.DataFrame:
    """B data sets of 30 units with 20 to 40 rows each, every one with covariates of its own."""
    rng = np.random.default_rng(4)
    sizes = rng.integers(20, 41, size=(B, 30))
    unit = np.repeat(np.tile(np.arange(30), B), sizes.ravel())
    lane = np.repeat(np.arange(B), sizes.sum(axis=1))
    a = rng.normal(size=(B, 30))[lane, unit]
    b = rng.normal(size=(B, 30, 2)) @ np.linalg.cholesky(TRUTH.cov).T
    x, error = rng.normal(size=(2, len(unit)))
    effects = b[lane, unit]
    y = (1 - 0.15 * a + effects[:, 0]) + (3 + 0.3 * a + effects[:, 1]) * x + 0.75 * error
    return pd.DataFrame({"replicate": lane, "unit": unit, "x": x, "a": a, "y": y})


def unequal_design(G: int = 30, mean: int = 30, p: int = 4, q: int = 2) -> tuple[object, object]:
    """A design that does not collapse, and a truth, for the cost curves."""
    rng = np.random.default_rng(5)
    sizes = rng.integers(mean // 2, mean + mean // 2, size=G)
    unit = np.repeat(np.arange(G), sizes)
    names = [f"x{j}" for j in range(max(p, q) - 1)]
    data = pd.DataFrame(rng.normal(size=(len(unit), len(names))), columns=names).assign(unit=unit)
    random = " + ".join(["1", *names[: q - 1]])
    design = hlm.design(f"~ {' + '.join(['1', *names[: p - 1]])} + ({random} | unit)", data)
    return design, hlm.Truth.of(np.ones(p), sd=[0.5] * q, sigma=1.0)


def many_groups(G: int) -> hlm.Fit:
    """A fit with G groups that all differ."""
    rng = np.random.default_rng(6)
    unit = np.repeat(np.arange(G), rng.integers(5, 12, size=G))
    x, b = rng.normal(size=len(unit)), rng.normal(size=(G, 2))[unit]
    y = 1 + b[:, 0] + (2 + 0.5 * b[:, 1]) * x + rng.normal(size=len(unit))
    return hlm.fit("y ~ x + (1 + x | unit)", pd.DataFrame({"y": y, "x": x, "unit": unit}))
