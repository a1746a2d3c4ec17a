"""The data sets of the tests with their designs: bundled, of lme4's results, drawn at random.

`load_case` gives what lme4 reports of a case in `tests/data`, `arrays_of` the arrays of the same
model. The matrices do not come from the library's formula code, so a test that compares with lme4
checks one thing at a time.
"""

import json
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import jaxhlm as hlm
from jaxhlm.likelihood.covariance import theta_index
from places import DATA

# The article's model and truth, and the model of sleepstudy.
FORMULA = "y ~ x * a + (1 + x | unit)"
TRUTH = hlm.Truth.of([1, 3, -0.15, 0.3], sd=[0.2, 0.5], corr=0.9, sigma=0.75)
SLEEP = "Reaction ~ Days + (1 + Days | Subject)"

# Groups with one row, with as many rows as random effects, and more.
SIZES = (9, 1, 7, 3, 12, 2, 8, 5)

# Fits of the bundled data.


@cache
def sleepstudy(reml=True):
    return hlm.fit(SLEEP, hlm.load_dataset("sleepstudy"), reml=reml)


@cache
def article():
    return hlm.fit("y ~ x + a + x * a + (1 + x | unit)", hlm.load_dataset("article"))


@cache
def three_responses():
    data = hlm.load_dataset("sleepstudy")
    Y = hlm.fit("Reaction ~ Days + (1 | Subject)", data).simulate(3, seed=1)
    return hlm.fit_many("~ Days + (1 | Subject)", data, responses=Y, progress=False)


# Data drawn at random.


def rows(rng, sizes, q=2, p=4, sd=0.5, sigma=1.0):
    """y, X, Z, group of a random-slope model with the given group sizes; X begins with Z."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    n = len(group)
    Z = np.column_stack([np.ones(n), *rng.normal(size=(q - 1, n))])
    X = np.column_stack([Z, *rng.normal(size=(max(p - q, 0), n))])[:, :p]
    b = sd * rng.normal(size=(len(sizes), q))
    y = X @ rng.normal(size=p) + (Z * b[group]).sum(axis=1) + sigma * rng.normal(size=n)
    return y, X, Z, group


def frame(rng, sizes, **options):
    """The same as a frame with columns y, x, a, unit; a varies between units."""
    y, X, _, group = rows(rng, sizes, q=2, p=2, **options)
    a = rng.normal(size=len(sizes))[group]
    return pd.DataFrame({"y": y + 0.3 * a, "x": X[:, 1], "a": a, "unit": group})


def random_lambda(rng, blocks):
    """θ drawn at random, and its Λ."""
    theta = rng.normal(size=len(theta_index(blocks)))
    Lambda = np.zeros((sum(map(len, blocks)),) * 2)
    for value, index in zip(theta, theta_index(blocks), strict=True):
        Lambda[index] = value
    return theta, Lambda


def article_like(seed, between=1.0, G=30, m=8):
    """Y (G, m), Z (m, 2), A (G, 2) of the article's design, its random effects scaled."""
    rng = np.random.default_rng(seed)
    Z = np.column_stack([np.ones(m), np.linspace(-4, 4, m)])
    A = np.column_stack([np.ones(G), rng.normal(size=G)])
    Gamma = np.array([[1.0, -0.15], [3.0, 0.3]])
    b = between * rng.normal(size=(G, 2)) @ np.array([[0.25, 0.6], [0.0, 0.2]])
    return (A @ Gamma.T + b) @ Z.T + 0.75 * rng.normal(size=(G, m)), Z, A


# Data and results of lme4.

Floats = NDArray[np.float64]
Columns = Callable[[pd.DataFrame], list[Any]]

# Fields that hold one entry for each fixed effect, random effect or group; R's JSON writer made
# scalars of those of length one.
VECTORS = ("terms", "random_terms", "fixef", "se", "theta", "satterthwaite_df", "p_satterthwaite")


class Design(NamedTuple):
    """Where a case's data lie, and its columns of X and Z in the order of lme4's `terms`."""

    csv: str
    response: str
    group: str
    X: Columns
    Z: Columns
    blocks: tuple[tuple[int, ...], ...] | None = None


class Arrays(NamedTuple):
    """y (n,), X (n, p), Z (n, q), group codes (n,) in the order of lme4's `ranef_levels`."""

    y: Floats
    X: Floats
    Z: Floats
    group: NDArray[np.intp]
    blocks: tuple[tuple[int, ...], ...] | None


def _sleepstudy(Z: Columns, blocks: tuple[tuple[int, ...], ...] | None = None) -> Design:
    return Design("sleepstudy", "Reaction", "Subject", lambda d: [1, d.Days], Z, blocks)


def _math_achieve(X: Columns, slope: str = "SES") -> Design:
    return Design("math_achieve", "MathAch", "School", X, lambda d: [1, d[slope]])


DESIGNS = {
    "article_random_lines": Design("article", "y", "unit", lambda d: [1, d.x], lambda d: [1, d.x]),
    "article_full": Design(
        "article", "y", "unit", lambda d: [1, d.x, d.a, d.x * d.a], lambda d: [1, d.x]
    ),
    "dyestuff2_singular": Design("dyestuff2", "Yield", "Batch", lambda d: [1], lambda d: [1]),
    "math_achieve": _math_achieve(lambda d: [1, d.SES, d.MEANSES, d.SES * d.MEANSES]),
    "math_achieve_student": _math_achieve(
        lambda d: [1, d.SES, d.MEANSES, d.Sex == "Male", d.Minority == "Yes", d.SES * d.MEANSES]
    ),
    "math_achieve_fox": _math_achieve(
        lambda d: [
            1,
            d.MEANSES,
            d.cSES,
            d.Sector == "Public",
            d.MEANSES * d.cSES,
            d.cSES * (d.Sector == "Public"),
        ],
        slope="cSES",
    ),
    "orthodont": Design(
        "orthodont",
        "distance",
        "Subject",
        lambda d: [1, d.age, d.Sex == "Male", d.age * (d.Sex == "Male")],
        lambda d: [1, d.age],
    ),
    "oxboys": Design("oxboys", "height", "Subject", lambda d: [1, d.age], lambda d: [1, d.age]),
    "sleepstudy": _sleepstudy(lambda d: [1, d.Days]),
    "sleepstudy_diagonal": _sleepstudy(lambda d: [1, d.Days], blocks=((0,), (1,))),
    "sleepstudy_intercept": _sleepstudy(lambda d: [1]),
    "unbalanced_dropout": Design(
        "unbalanced_dropout", "y", "unit", lambda d: [1, d.x, d.a, d.x * d.a], lambda d: [1, d.x]
    ),
}

CASES = tuple(DESIGNS)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _promoted(result: dict[str, Any]) -> dict[str, Any]:
    """The result with its vectors of length one as lists and (1, 1) matrices as [[value]]."""
    result = result | {key: _as_list(result[key]) for key in VECTORS}
    if "kenward_roger" in result:
        pairs = result["kenward_roger"].items()
        result["kenward_roger"] = {key: _as_list(value) for key, value in pairs}
    if result["ranef_condvar"] is not None:
        matrices = result["ranef_condvar"]
        result["ranef_condvar"] = [m if isinstance(m, list) else [[m]] for m in matrices]
    return result


def load_case(name: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The data of a case, and lme4's results as a dict with the keys "REML" and "ML".

    Groups are strings, except `unit`, which is an integer, as in lme4's `ranef_levels`. The data
    are the caller's own, to be changed at will; the results are shared.
    """
    data, results = _read_case(name)
    return data.copy(), results


@cache
def _read_case(name: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    design = DESIGNS[name]
    strings = {} if design.group == "unit" else {design.group: str}
    data = pd.read_csv(DATA / f"{design.csv}.csv", dtype=strings)
    results = json.loads((DATA / f"{name}.json").read_text())
    return data, results | {method: _promoted(results[method]) for method in ("REML", "ML")}


@cache
def arrays_of(name: str) -> Arrays:
    """The arrays of a case, ready for `jaxhlm.reference.fit`."""
    data, results = load_case(name)
    design = DESIGNS[name]
    code = {level: i for i, level in enumerate(results["REML"]["ranef_levels"])}

    def matrix(columns: Columns) -> Floats:
        values = [np.broadcast_to(np.asarray(c, float), len(data)) for c in columns(data)]
        return np.column_stack(values)

    return Arrays(
        data[design.response].to_numpy(float),
        matrix(design.X),
        matrix(design.Z),
        data[design.group].astype(str).map(code).to_numpy(np.intp),
        design.blocks,
    )


@cache
def growth():
    """Orthodont with a factor that is not there, for marginal means and F tests by R."""
    data = load_case("orthodont")[0]
    data = data.assign(kind=np.resize(["p", "q", "r"], len(data)))
    return hlm.fit("distance ~ age * Sex + kind + (1 + age | Subject)", data)


# What lme4 and clubSandwich say of six fits (`tests/data/quality.R`), and the same fits here.
R_CASES = {
    "sleepstudy": "sleepstudy",
    "sleepstudy_ml": "sleepstudy",
    "sleepstudy_intercept": "sleepstudy",
    "unbalanced_dropout": "unbalanced_dropout",
    "orthodont_intercept": "orthodont",
    "math_achieve_student": "math_achieve",
}
QUALITY = json.loads((DATA / "quality.json").read_text())

LEFT_OUT = json.loads((DATA / "influence.json").read_text())
ROBUST = json.loads((DATA / "robust.json").read_text())
PREDICTIONS = json.loads((DATA / "predictions.json").read_text())


@cache
def r_fit(case):
    record = QUALITY[case]
    return hlm.fit(record["formula"], load_case(R_CASES[case])[0], reml=record["reml"])
