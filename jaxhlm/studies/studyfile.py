"""A study described in a TOML file, checked key by key; what is wrong is named with its line.

    formula = "y ~ x * a + (1 + x | unit)"
    n = 2000
    seed = 1

    [design]
    data = "article.csv"          # beside this file; or dataset = "article"; or neither, and
    units = 30                    # measurements, within = { x = [0, 1, 2] } or { x = "normal" },
                                  # between, factors, crossed, dropout, redraw as jaxhlm.units,
                                  # measurements = { low = 2, high = 5 } for unequal sizes, and
                                  # dropout = { overall = 0.2 } or { per_visit = 0.05 }

    [truth]
    beta = { "(Intercept)" = 1, x = 3, a = -0.15, "x:a" = 0.3 }
    sd = [0.2, 0.5]
    corr = 0.9
    sigma = 0.75                  # d = { "x:a" = 0.4 } with d_sd = "within", "between" or "total"
                                  # gives effects as Cohen's d, in place of those in beta;
                                  # partial_r2 = { "x:a" = 0.02 } as partial R² on this design;
                                  # conditions may not vary what these are relative to

    [[violations]]                # a member of jaxhlm.violations and its arguments
    kind = "ResidualsFrom"
    distribution = { kind = "StudentT", df = 4 }

    [conditions]                  # all combinations
    units = [10, 20, 30]
    "beta[x:a]" = [0, 0.3]
    violations = [false, true]    # without and with them

    [[methods]]
    name = "Kenward-Roger"
    df = "kenward-roger"

Formula, design and truth are needed; the rest has the defaults of ``jaxhlm.study``, where chunk,
level and stop are described too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from jaxhlm import violations as known_violations
from jaxhlm.core.files import read_table
from jaxhlm.datasets import load_dataset
from jaxhlm.design.design import design as design_of
from jaxhlm.errors import OptionError, UnknownTermError
from jaxhlm.studies.builder import UnitDesign, units
from jaxhlm.studies.conditions import read_conditions
from jaxhlm.studies.mechanism import Mechanism, assembled, mechanism
from jaxhlm.studies.method import Method, check_methods
from jaxhlm.studies.planning import check_plan
from jaxhlm.studies.tomltext import (
    NUMBER,
    TEXT,
    WHOLE,
    YES_NO,
    TomlText,
    Types,
    Where,
    read_toml,
)
from jaxhlm.studies.truth import Truth
from jaxhlm.studies.vary import ALONG, SIZES, check_along, check_relative, varied
from jaxhlm.violations.distributions import Gaussian, Uniform
from jaxhlm.violations.violation import Violation

__all__ = ["DESCRIPTION", "StudyFile", "Varied", "read_study_file"]

# What the command's help shows, so that nobody has to look into this file.
DESCRIPTION = __doc__ or ""

TOP: dict[str, Types] = {
    "formula": TEXT, "n": WHOLE, "seed": WHOLE, "chunk": WHOLE, "level": NUMBER, "stop": (dict,),
    "design": (dict,), "truth": (dict,), "violations": (list,), "conditions": (dict,),
    "methods": (list,),
}  # fmt: skip
OPTIONS: tuple[str, ...] = ("n", "seed", "chunk", "level", "stop")
BUILT: dict[str, Types] = {
    "units": WHOLE, "measurements": (int, list, dict), "within": (dict,), "between": (dict,),
    "factors": (dict,), "crossed": (dict,), "dropout": (*NUMBER, list, dict),
    "redraw": (bool, list),
    "seed": WHOLE,
}  # fmt: skip
READ: dict[str, Types] = {"data": TEXT, "dataset": TEXT, "units": WHOLE, "measurements": WHOLE}
# Covariates that are drawn, by name; uniform has the same mean and variance.
DRAWN = {"normal": Gaussian().draw, "uniform": Uniform().draw}
TRUTH: dict[str, Types] = {
    "beta": (list, dict), "sd": (list,), "corr": (*NUMBER, list), "sigma": NUMBER, "d": (dict,),
    "d_sd": TEXT, "partial_r2": (dict,),
}  # fmt: skip
# Where the arguments stand that messages begin with.
PLACES: dict[str, Where] = {
    **{name: ("design", name) for name in BUILT},
    **{name: ("truth", name) for name in TRUTH},
    "n": ("design", "units"),
    "cov": ("truth", "corr"),
}
METHOD: dict[str, Types] = {f.name: TEXT for f in fields(Method)} | dict.fromkeys(
    ["reml", "variances"], YES_NO
)

_KINDS: dict[str, Any] = {
    name: kind
    for name in known_violations.__all__
    if is_dataclass(kind := getattr(known_violations, name))
}
DISTRIBUTIONS = {name: kind for name, kind in _KINDS.items() if not issubclass(kind, Violation)}
# Those that take a function cannot be written in TOML.
VIOLATIONS = {
    name: kind
    for name, kind in _KINDS.items()
    if issubclass(kind, Violation) and "function" not in {f.name for f in fields(kind)}
}


class StudyFile(NamedTuple):
    """What ``jaxhlm.study`` needs."""

    conditions: Mapping[str, Sequence[Any]] | None
    mechanism: Mechanism | Varied
    methods: list[Method] | None
    options: dict[str, Any]  # n, seed, chunk, level, stop, where given


@dataclass(frozen=True)
class Varied:
    """The mechanism of a condition: the one of the file with some things set."""

    base: Mechanism

    def __call__(self, **condition: Any) -> Mechanism:
        """The mechanism of one condition, sizes first."""
        made = self.base
        if not condition.pop("violations", True):
            made = assembled(made.formula, made.source, made.truth, (), made.template.learned)
        for along in sorted(condition, key=lambda name: "[" in name):
            made = varied(made, along, condition[along])
        return made


def read_study_file(path: Path) -> StudyFile:
    """Read and check a study's TOML file.

    Raises:
        StudyFileError: it is not TOML, or a key is unknown, missing, or has a value that cannot be.
        OSError: the file cannot be opened.
    """
    source, data = read_toml(path)
    source.check(data, TOP, (), ("formula", "design", "truth"))
    for name, target in data.get("stop", {}).items():
        source.typed(target, NUMBER, ("stop", name))
    base = _mechanism(source, data)
    conditions = _conditions(source, data.get("conditions"), base, data["truth"])
    methods = [_method(source, one, i) for i, one in enumerate(data.get("methods", []))] or None
    with source.blaming(("methods", len(methods or ()) - 1)):
        check_methods(methods)
    options = {name: data[name] for name in OPTIONS if name in data}
    with source.blaming((), {name: (name,) for name in OPTIONS}):
        check_plan(**options)
    return StudyFile(conditions, base if conditions is None else Varied(base), methods, options)


def _mechanism(source: TomlText, data: Mapping[str, Any]) -> Mechanism:
    formula, truth, design = data["formula"], data["truth"], _design(source, data["design"])
    violations = [_violation(source, one, i) for i, one in enumerate(data.get("violations", []))]
    source.check(truth, TRUTH, ("truth",), ("beta", "sd", "sigma"))
    for at in ("beta", "sd"):
        values = truth[at]
        for key in values if isinstance(values, dict) else range(len(values)):
            source.typed(values[key], NUMBER, ("truth", at, key))
    misfit = partial(source.blaming, ("truth",), PLACES, (OptionError, UnknownTermError))

    def with_sizes(made: Truth) -> Mechanism:
        with source.blaming(("formula",)), misfit():
            base = mechanism(formula, design, made)
        for along in SIZES if isinstance(design, pd.DataFrame) else ():
            if along in data["design"]:
                with source.blaming(("design", along)):
                    base = varied(base, along, data["design"][along])
        return base

    on = None
    if "partial_r2" in truth or "d" in truth:
        with source.blaming(("formula",)), misfit():
            on = with_sizes(_without_effects(formula, design, truth)).template
    with misfit():
        made = Truth.of(**truth, design=on)
    base = with_sizes(made)
    if not violations:
        return base
    with source.blaming(("violations",)):
        return assembled(formula, base.source, made, violations, base.template.learned)


def _without_effects(
    formula: str, made_on: pd.DataFrame | UnitDesign, truth: Mapping[str, Any]
) -> Truth:
    """A truth whose fixed effects are all zero, to make the design by."""
    frame = made_on.frame() if isinstance(made_on, UnitDesign) else made_on
    terms = design_of(f"~{formula.partition('~')[2]}", frame).xnames
    variances = {name: truth[name] for name in ("sd", "corr", "sigma") if name in truth}
    return Truth.of([0.0] * len(terms), **variances)


def _design(source: TomlText, table: Mapping[str, Any]) -> pd.DataFrame | UnitDesign:
    """The frame that is named, or a builder."""
    where: Where = ("design",)
    files = [name for name in ("data", "dataset") if name in table]
    if len(files) > 1:
        source.fail(where, "give data (a file) or dataset (a name), not both")
    if files:
        source.check(table, READ, where)
        with source.blaming((*where, *files)):
            if files == ["data"]:
                return read_table(source.path.parent / table["data"])
            return load_dataset(table["dataset"])
    source.check(table, BUILT, where)
    if "units" not in table:
        source.fail(where, "give data (a file), dataset (a name), or the number of units to make")
    options = {name: value for name, value in table.items() if name != "units"}
    for part in ("within", "between"):
        options[part] = dict(table.get(part, {}))
        for name, values in options[part].items():
            if isinstance(values, list):
                continue
            if values not in DRAWN:
                allowed = ", ".join(map(repr, DRAWN))
                source.fail((*where, part, name), f"{values!r}: give a list or one of {allowed}")
            options[part][name] = DRAWN[values]
    redraw = table.get("redraw", False)
    for i, name in enumerate(redraw if isinstance(redraw, list) else ()):
        source.typed(name, TEXT, (*where, "redraw", i))
    sizes = options.get("measurements")
    if isinstance(sizes, dict):
        ends = {"low": WHOLE, "high": WHOLE}
        source.check(sizes, ends, (*where, "measurements"), tuple(ends))
        options["measurements"] = (sizes["low"], sizes["high"])
    with source.blaming(where, PLACES):
        return units(table["units"], **options)


def _violation(source: TomlText, table: Any, number: int) -> Violation:
    """A violation, with the distribution in it."""
    where: Where = ("violations", number)
    source.typed(table, (dict,), where)
    arguments = dict(table)
    if "distribution" in table:
        inner = table["distribution"]
        source.typed(inner, (str, dict), (*where, "distribution"))
        inner = {"kind": inner} if isinstance(inner, str) else inner
        arguments["distribution"] = _record(source, inner, DISTRIBUTIONS, (*where, "distribution"))
    made: Violation = _record(source, arguments, VIOLATIONS, where)
    return made


def _record(
    source: TomlText, table: Mapping[str, Any], kinds: Mapping[str, Any], where: Where
) -> Any:
    """A record of the class that ``kind`` names, from the other keys."""
    source.required(table, ("kind",), where)
    source.typed(table["kind"], TEXT, (*where, "kind"))
    kind, arguments = table["kind"], {k: v for k, v in table.items() if k != "kind"}
    if kind not in kinds:
        source.fail((*where, "kind"), f"{kind!r} is not known; use one of {', '.join(kinds)}")
    allowed = [f.name for f in fields(kinds[kind])]
    needed = [f.name for f in fields(kinds[kind]) if f.default is f.default_factory is MISSING]
    for name in arguments:
        if name not in allowed:
            known = ", ".join(["kind", *allowed])
            source.fail((*where, name), f"unknown key; allowed for {kind}: {known}")
    source.required(arguments, needed, where)
    with source.blaming(where):
        return kinds[kind](**arguments)


def _conditions(
    source: TomlText,
    table: Mapping[str, list[Any]] | None,
    base: Mechanism,
    truth: Mapping[str, Any],
) -> Mapping[str, list[Any]] | None:
    """Factors, each of whose values the mechanism has been tried with."""
    if table is None:
        return None
    if not table:
        source.fail(
            ("conditions",), f'the grid is empty; what can be varied: {ALONG}, "violations"'
        )
    for along, values in table.items():
        where = ("conditions", along)
        source.typed(values, (list,), where)
        if not values:
            source.fail(where, "no values: give one or more")
        if along == "violations" and not base.violations:
            source.fail(where, "the file lists no [[violations]]")
        with source.blaming(where):
            check_relative(along, truth.get("d_sd"), "partial_r2" in truth)
            for value in values:
                if along == "violations":
                    source.typed(value, YES_NO, where)
                    continue
                check_along(along)
                source.typed(value, NUMBER, where)
                varied(base, along, value)
    with source.blaming(("conditions",)):
        read_conditions(table, Varied(base))
    return table


def _method(source: TomlText, table: Any, number: int) -> Method:
    where = ("methods", number)
    source.typed(table, (dict,), where)
    source.check(table, METHOD, where, ("name",))
    with source.blaming(where, {key: (*where, key) for key in table}):
        return Method(**table)
