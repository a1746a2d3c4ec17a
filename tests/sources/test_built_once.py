"""Nothing is read or built twice: formulas, designs, and rows that are reduced."""

import traceback
from collections import Counter
from importlib import import_module

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import jaxhlm as hlm
from cases import SLEEP
from jaxhlm.estimation.pipeline import Prepared
from jaxhlm.language import formula
from jaxhlm.statistics import group_contributions

terms = import_module("jaxhlm.design.terms")
BUILDERS = (
    "jaxhlm.design.design",
    "jaxhlm.design.new_rows",
    "jaxhlm.sources.apart",
    "jaxhlm.studies.layout",
)
STANDARD = "standardise_matrices"
COUNTED = ("fit_part", "evaluate_new", "relearned", "evaluate_numbers", "applied")
CENTRED = "Reaction ~ center(Days) + (1 + Days | Subject)"
OTHER = "Reaction ~ Days + (1 | Subject)"


def sleep():
    return hlm.load_dataset("sleepstudy")


def fit():
    return hlm.fit(SLEEP, sleep())


def long(names):
    """Six data sets below each other; units are numbers, or names."""
    own = sleep()
    own["Subject"] = own["Subject"].astype("category").cat.codes.astype(int)
    if names:
        own["Subject"] = "u" + own["Subject"].astype(str)
    Y = fit().simulate(6, seed=1)
    parts = [own.assign(Reaction=np.asarray(Y)[:, i], rep=i) for i in range(6)]
    return pd.concat(parts, ignore_index=True)


def fixed():
    return hlm.mechanism(SLEEP, sleep(), hlm.Truth.from_fit(fit()))


def redrawn(factors):
    """A model of x, and of an arm if there is one, on designs that are redrawn."""
    units = hlm.units(8, 6, {"x": stats.norm(0, 1)}, factors=factors, redraw=["x"])
    text = "y ~ x + arm + (1 | unit)" if factors else "y ~ x + (1 | unit)"
    return hlm.mechanism(text, units, hlm.Truth.of([0.0, 1.0] + [1.0] * len(factors), [1.0]))


# What is made first; what is counted; formulas that are read; sides of a formula that are made
# into columns, by how (for the first time, for other rows, anew for a data set), and designs that
# are standardised; power standardises one for the power by formula as well.
CASES = {
    "fit": (sleep, lambda d: hlm.fit(SLEEP, d), 1, {"fit_part": 2, STANDARD: 1}),
    "responses": (fit, lambda f: hlm.fit_many(SLEEP, sleep(), f.simulate(9, seed=1)), 1,
                  {"fit_part": 2, STANDARD: 1}),
    "by": (lambda: long(False), lambda d: hlm.fit_many(SLEEP, d, by="rep"), 1,
           {"fit_part": 2, "evaluate_numbers": 2}),
    "by names": (lambda: long(True), lambda d: hlm.fit_many(SLEEP, d, by="rep"), 1,
                 {"fit_part": 2}),
    "by learning": (lambda: long(False), lambda d: hlm.fit_many(CENTRED, d, by="rep"), 1,
                    {"fit_part": 2, "relearned": 24}),
    "predict": (fit, lambda f: f.predict(sleep().head()), 0, {"evaluate_new": 2}),
    "simulate": (fit, lambda f: hlm.simulate(f, n=9, seed=1).fit(), 0, {}),
    "cases": (fit, lambda f: hlm.bootstrap(f, 9, "cases", seed=1), 0, {}),
    "drawn as rows and as statistics": (
        fixed, lambda m: [m.draw(0, 9, 1, rows).fit() for rows in (True, False)], 0, {STANDARD: 1}
    ),
    "drawn twice by another": (
        fixed, lambda m: [m.draw(i, i + 4, 1).fit(OTHER) for i in range(2)], 1,
        {"fit_part": 2, STANDARD: 1},
    ),
    "power": (fixed, lambda m: hlm.power(m, "Days", n=9, seed=1), 0, {STANDARD: 2}),
    "power by another": (fixed, lambda m: hlm.power(m, "Days", n=9, seed=1, formula=OTHER), 1,
                         {"fit_part": 2, STANDARD: 1}),
    "power, redrawn": (lambda: redrawn({}), lambda m: hlm.power(m, "x", n=9, seed=1), 0,
                       {"applied": 2, STANDARD: 1}),
    "power, redrawn with factors": (
        lambda: redrawn({"arm": ["a", "b"]}), lambda m: hlm.power(m, "x", n=9, seed=1), 0,
        {"applied": 2, STANDARD: 1},
    ),
}  # fmt: skip


@pytest.fixture
def counts(monkeypatch):
    """How often what is counted is called."""
    found = Counter()

    def counted(module, name):
        real = getattr(module, name)

        def call(*arguments, **options):
            found[name] += 1
            return real(*arguments, **options)

        return call

    pipeline = import_module("jaxhlm.estimation.pipeline")
    monkeypatch.setattr(pipeline, STANDARD, counted(pipeline, STANDARD))
    formula._parse.cache_clear()
    monkeypatch.setattr(formula, "_sides", counted(formula, "_sides"))
    for name in COUNTED:
        call = counted(terms, name)
        for module in map(import_module, (*BUILDERS, "jaxhlm.sources.frames")):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, call)
    return found


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.ConvergenceWarning")
@pytest.mark.parametrize("name", CASES)
def test_formulas_are_read_and_designs_built_once(counts, name):
    first, then, read, built = CASES[name]
    made = first()
    formula._parse.cache_clear()
    counts.clear()
    then(made)
    assert counts == Counter(built) + Counter({"_sides": read})


def test_a_fit_passes_over_its_rows_once_for_what_needs_them(monkeypatch):
    """Group by group: robust covariances of every kind, their tests, and influence."""
    found, real = Counter(), group_contributions.reduce_by_group
    monkeypatch.setattr(
        "jaxhlm.sources.lanes.reduce_by_group",
        lambda *arguments: found.update(["rows"]) or real(*arguments),
    )
    one = fit()
    for kind in ("CR0", "CR1", "CR2"):
        one.vcov_robust(kind)
        one.tidy_robust(kind)
    one.influence()
    assert found["rows"] == 1


def test_one_fit_and_its_inference_reduce_the_response_once(monkeypatch):
    found, real = Counter(), Prepared.reduced
    monkeypatch.setattr(Prepared, "reduced", lambda *a: found.update(["rows"]) or real(*a))
    one = fit()
    one.tidy()
    one.confint("profile")
    assert found["rows"] == 1


def test_a_response_crosses_few_modules(monkeypatch):
    """From ``fit_many`` to its statistics, and from these to the engine, where one is needed."""
    pipeline, found = import_module("jaxhlm.estimation.pipeline"), {}

    def seen(name):
        real = getattr(pipeline, name)

        def call(*arguments, **options):
            frames = [frame.f_globals["__name__"] for frame, _ in traceback.walk_stack(None)]
            found[name] = [m for m in frames if m.startswith("jaxhlm.")]
            return real(*arguments, **options)

        monkeypatch.setattr(pipeline, name, call)

    seen("reduce_and_split")
    seen("solve")
    unbalanced = sleep().iloc[1:]
    hlm.fit_many(SLEEP, unbalanced, hlm.fit(SLEEP, unbalanced).simulate(9, seed=1))
    through = {"jaxhlm.fitting.many", "jaxhlm.estimation.pipeline", "jaxhlm.core.chunks"}
    assert {*found["solve"]} == through and len(found["solve"]) <= 7
    assert {*found["reduce_and_split"]} == through | {"jaxhlm.sources.sources"}
    assert len(found["reduce_and_split"]) <= 9
