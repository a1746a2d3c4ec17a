"""Designs whose nominal behaviour is checked, and what theory says about every number.

What is exact: with Gaussian data β̂ is unbiased in every design, whatever even estimator of the
variances it is computed with (Kackar & Harville 1981, Communications in Statistics A 10,
1249-1261). In a balanced design where X = Z ⊗ A the REML estimate of Var(β̂_j) is, in the
interior, Var(β̂_j) χ²(ν)/ν, so that Satterthwaite's and Kenward and Roger's tests are t tests with
ν degrees of freedom and the coverage of any other interval follows from the t distribution; ML has
ν/μ times that variance, and Satterthwaite's degrees of freedom μ. At a singular fit REML is no
longer the analysis of variance: it pools what it cannot tell apart, and its intervals are the wider
for it.

What is known to deviate: z tests and ML are anti-conservative with few groups (Luke 2017, Behavior
Research Methods 49, 1494-1502), ML because its variances are too small by the degrees of freedom of
β, z because it ignores that they are estimated. In unbalanced designs the unadjusted standard error
also leaves out what θ̂ adds to the variance of β̂ (Kackar & Harville 1984, JASA 79, 853-862), which
Kenward & Roger (1997, Biometrics 53, 983-997) put back, to first order. Their formula takes no
account of the boundary, where it adds too much: with many singular fits it is conservative. The
unadjusted errors are then too small for one reason and too large for the other, and the sign of the
sum is not known.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

import jaxhlm as hlm
from bench.data import TRUTH

Claim = Literal["exact", "at least", "at most", "approximate"]

LEVEL = 0.95
METHODS = (
    hlm.Method("KR", df="kenward-roger"),
    hlm.Method("Satterthwaite"),
    hlm.Method("z", df="normal"),
    hlm.Method("ML Satterthwaite", reml=False),
    hlm.Method("ML z", reml=False, df="normal"),
)
TWO_STAGE = hlm.Method("two-stage", estimator="two_stage")
FLIPPED: dict[Claim, Claim] = {"at least": "at most", "at most": "at least"}


class Df(NamedTuple):
    """Degrees of freedom ν of a REML variance of a term and μ of its ML variance."""

    reml: int
    ml: int


class Theory(NamedTuple):
    """What a measure should be, and how surely."""

    expected: float
    claim: Claim


@dataclass(frozen=True)
class Case:
    """A mechanism and what makes it easy or hard.

    Attributes:
        name: of the design.
        mechanism: what draws it.
        df: of the terms of a balanced design, by name; empty if unbalanced.
        often_singular: the singular fits are too many to be left out of account.
    """

    name: str
    mechanism: hlm.Mechanism
    df: Mapping[str, Df] = field(default_factory=dict)
    often_singular: bool = False


def cases() -> list[Case]:
    """The designs, each from a fixed seed."""
    article = hlm.load_dataset("article").drop(columns="y")
    null = hlm.Truth.of([1.0, 3.0, 0.0, 0.0], sd=[0.2, 0.5], corr=0.9, sigma=0.75)
    full, lines = "y ~ x * a + (1 + x | unit)", "y ~ x + a + (1 + x | unit)"
    terms = ("(Intercept)", "x", "a", "x:a")
    all_28, all_198 = dict.fromkeys(terms, Df(28, 30)), dict.fromkeys(terms, Df(198, 200))
    few = hlm.units(10, within={"x": grid(5)}, between={"a": normal}, seed=1)
    many = hlm.units(200, within={"x": grid(5)}, between={"a": normal}, seed=1)
    tiny = hlm.units(6, within={"x": grid(4)})
    unequal = hlm.units(
        20, [2 + 5 * i % 14 for i in range(20)], {"x": normal}, {"a": normal}, seed=3
    )
    arms = hlm.units(
        12, [3 + i % 4 for i in range(12)], {"x": normal}, factors={"arm": ["p", "q", "r"]}, seed=4
    )
    one = hlm.Truth.of([1.0, 0.0, 0.0], sd=[1.0], sigma=1.0)
    strong = hlm.Truth.of([1.0, 0.0, 0.0], sd=[1.0, 0.5], corr=0.3, sigma=1.0)
    weak = hlm.Truth.of([1.0, 0.0, 0.0], sd=[0.3, 0.15], corr=0.3, sigma=1.0)
    near = hlm.Truth.of([1.0, 0.0, 0.0], sd=[1.0, 0.5], corr=0.98, sigma=1.0)
    of_arms = hlm.Truth.of([1.0, 0.5, 0.0, 0.0], sd=[1.0], sigma=1.0)
    small, smaller = hlm.Truth.of([1.0, 0.0], [1.0, 0.7], 0.3), hlm.Truth.of([1.0, 0.0], [2.0])
    large = hlm.Truth.of([1.0, 0.5, 0.0, 0.0], sd=[1.0, 0.5], corr=0.3, sigma=1.0)
    m = hlm.mechanism
    return [
        Case("article", m(full, article, TRUTH), all_28, True),
        Case("article, a without effect", m(full, article, null), all_28, True),
        Case(
            "10 x 5, intercepts",
            m("y ~ x + a + (1 | unit)", few, one),
            {"(Intercept)": Df(8, 10), "a": Df(8, 10), "x": Df(39, 40)},
        ),
        Case("20 unequal, strong slopes", m(lines, unequal, strong)),
        Case("20 unequal, weak slopes", m(lines, unequal, weak), {}, True),
        Case("20 unequal, near-singular", m(lines, unequal, near), {}, True),
        Case("3 arms of 4 unequal", m("y ~ x + arm + (1 | unit)", arms, of_arms)),
        Case(
            "6 x 4, intercepts",
            m("y ~ x + (1 | unit)", tiny, smaller),
            {"(Intercept)": Df(5, 6), "x": Df(17, 18)},
        ),
        Case(
            "6 x 4, slopes",
            m("y ~ x + (1 + x | unit)", tiny, small),
            dict.fromkeys(("(Intercept)", "x"), Df(5, 6)),
            True,
        ),
        Case("200 x 5, slopes", m(full, many, large), all_198),
    ]


def grid(n: int) -> list[float]:
    """n points from −1 to 1."""
    return np.linspace(-1.0, 1.0, n).tolist()


def normal(rng: np.random.Generator, size: int) -> np.ndarray:
    """Standard normal covariates."""
    return rng.normal(size=size)


def theory(case: Case, method: hlm.Method, measure: str, term: str) -> Theory:
    """What a measure of a term is expected to be.

    Args:
        case: the design.
        method: of ``METHODS``, or ``TWO_STAGE``.
        measure: "bias", "relative_error" (per cent), "coverage" or "type_i".
        term: a fixed effect.
    """
    if measure == "bias":
        return Theory(0.0, "exact")
    if measure == "type_i":
        share, claim = theory(case, method, "coverage", term)
        return Theory(1.0 - share, FLIPPED.get(claim, claim))
    error, share = 0.0, LEVEL
    if term in case.df:
        df = case.df[term]
        narrow = 1.0 if method.reml else np.sqrt(df.reml / df.ml)
        used = {"normal": np.inf}.get(method.df or "", df.reml if method.reml else df.ml)
        error, share = 100.0 * (narrow - 1.0), covers(used, df.reml, narrow)
    return Theory(error if measure == "relative_error" else share, claimed(case, method, measure))


def claimed(case: Case, method: hlm.Method, measure: str) -> Claim:
    """How surely the standard error and the coverage are what they are expected to be."""
    if method.estimator == "two_stage":
        return "exact"
    if case.df:
        return "at least" if case.often_singular else "exact"
    if method.df == "kenward-roger":
        return "at least"
    if case.often_singular and (method.df != "normal" or measure == "relative_error"):
        return "approximate"
    return "at most"


def covers(df: float, true_df: float, narrow: float) -> float:
    """Coverage of β̂ ± t(df) · narrow · se, where the t value has ``true_df``."""
    return 1.0 - 2.0 * stats.t.sf(stats.t.ppf(0.5 + LEVEL / 2.0, df) * narrow, true_df)
