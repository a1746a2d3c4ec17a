"""A study described in a TOML file, checked key by key; what is wrong is named with its line.

formula = "y ~ x * a + (1 + x | unit)"
n = 2000
seed = 1

[design]
data = "article.csv"          # beside this file; or dataset = "article"
units = 30                    # optional, as is measurements

[truth]
beta = { "(Intercept)" = 1, x = 3, a = -0.15, "x:a" = 0.3 }
sd = [0.2, 0.5]
corr = 0.9
sigma = 0.75

[conditions]                  # all combinations
units = [10, 20, 30]
"beta[x:a]" = [0, 0.3]

[[methods]]
name = "Kenward-Roger"
df = "kenward-roger"
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from jaxhlm.conditions import read_conditions
from jaxhlm.datasets import load_dataset
from jaxhlm.errors import JaxhlmError, StudyFileError
from jaxhlm.files import read_table
from jaxhlm.mechanism import mechanism
from jaxhlm.methods import Method
from jaxhlm.truth import Truth
from jaxhlm.vary import ALONG, check_along, varied

__all__ = ["StudyFile", "read_study_file"]

Where = tuple[str | int, ...]
Types = tuple[type, ...]
NUMBER, WHOLE, TEXT, YES_NO = (int, float), (int,), (str,), (bool,)
NAMES: dict[Types, str] = {
    NUMBER: "a number",
    WHOLE: "a whole number",
    TEXT: "a text",
    YES_NO: "true or false",
    (dict,): "a table",
    (list,): "a list",
    (list, dict): "a list or a table",
    (*NUMBER, list): "a number or a matrix",
}
TOP: dict[str, Types] = {
    "formula": TEXT, "n": WHOLE, "seed": WHOLE, "chunk": WHOLE, "level": NUMBER, "stop": (dict,),
    "design": (dict,), "truth": (dict,), "conditions": (dict,), "methods": (list,),
}  # fmt: skip
OPTIONS: tuple[str, ...] = ("n", "seed", "chunk", "level", "stop")
DESIGN: dict[str, Types] = {
    "data": TEXT, "dataset": TEXT, "units": WHOLE, "measurements": WHOLE,
}  # fmt: skip
TRUTH: dict[str, Types] = {
    "beta": (list, dict), "sd": (list,), "corr": (*NUMBER, list), "sigma": NUMBER,
}  # fmt: skip
METHOD: dict[str, Types] = {f.name: TEXT for f in fields(Method)} | {"reml": YES_NO}

_WORD = r"""(?:"[^"]*"|'[^']*'|[\w-]+)"""
_DOTTED = rf"{_WORD}(?:\s*\.\s*{_WORD})*"
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_DOTTED})\s*\]\]?\s*(?:#.*)?")
_KEY = re.compile(rf"\s*({_DOTTED})\s*=")


class StudyFile(NamedTuple):
    """What ``jaxhlm.study`` needs."""

    conditions: Mapping[str, Sequence[Any]] | None
    mechanism: Any
    methods: list[Method] | None
    options: dict[str, Any]  # n, seed, chunk, level, stop, where given


@dataclass(frozen=True)
class Varied:
    """The mechanism of a condition: the one of the file with some things set."""

    base: Any

    def __call__(self, **condition: Any) -> Any:
        """The mechanism of one condition, sizes first."""
        made = self.base
        for along in sorted(condition, key=lambda name: "[" in name):
            made = varied(made, along, condition[along])
        return made


@dataclass(frozen=True)
class _Source:
    """The text that errors point into."""

    path: Path
    text: str

    def fail(self, where: Where, message: str) -> NoReturn:
        name = ".".join(map(str, where))
        line = line_of(self.text, where)
        raise StudyFileError(f"{self.path}:{line}: {name}: {message}" if name else
                             f"{self.path}: {message}")  # fmt: skip

    def check(self, table: Mapping[str, Any], allowed: Mapping[str, Any], where: Where) -> None:
        """Names and types of a table's keys."""
        for key, value in table.items():
            if key not in allowed:
                self.fail((*where, key), "unknown key; allowed here: " + ", ".join(allowed))
            self.typed(value, allowed[key], (*where, key))

    def typed(self, value: Any, types: Types, where: Where) -> None:
        """Refuse another type; True is no number."""
        wrong = not isinstance(value, types) or (isinstance(value, bool) and bool not in types)
        if wrong:
            self.fail(where, f"{value!r} must be {NAMES[types]}")

    def required(self, table: Mapping[str, Any], names: Sequence[str], where: Where) -> None:
        for name in names:
            if name not in table:
                self.fail(where, f"{name!r} is missing; needed here: " + ", ".join(names))


def read_study_file(path: Path) -> StudyFile:
    """Read and check a study's TOML file.

    Raises:
        StudyFileError: it is not TOML, or a key is unknown, missing, or has a value that cannot be.
        OSError: the file cannot be opened.
    """
    try:
        source = _Source(path, path.read_text(encoding="utf-8"))
        data = tomllib.loads(source.text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyFileError(f"{path}: not TOML: {error}") from error
    source.check(data, TOP, ())
    source.required(data, ("formula", "design", "truth"), ())
    for name, target in data.get("stop", {}).items():
        source.typed(target, NUMBER, ("stop", name))
    base = _mechanism(source, data)
    conditions = _conditions(source, data.get("conditions"), base)
    methods = [_method(source, one, i) for i, one in enumerate(data.get("methods", []))] or None
    options = {name: data[name] for name in OPTIONS if name in data}
    return StudyFile(conditions, base if conditions is None else Varied(base), methods, options)


def _mechanism(source: _Source, data: Mapping[str, Any]) -> Any:
    design, truth = data["design"], data["truth"]
    source.check(design, DESIGN, ("design",))
    source.check(truth, TRUTH, ("truth",))
    source.required(truth, ("beta", "sd", "sigma"), ("truth",))
    if ("data" in design) == ("dataset" in design):
        source.fail(("design",), "give either data (a file) or dataset (a name)")
    for at in ("beta", "sd"):
        values = truth[at]
        for key in values if isinstance(values, dict) else range(len(values)):
            source.typed(values[key], NUMBER, ("truth", at, key))
    at = "data" if "data" in design else "dataset"
    try:
        frame = (
            load_dataset(design["dataset"])
            if at == "dataset"
            else read_table(source.path.parent / design["data"])
        )
    except (JaxhlmError, OSError, ValueError) as error:
        source.fail(("design", at), str(error))
    try:
        made = Truth.of(truth["beta"], truth["sd"], truth.get("corr", 0.0), truth["sigma"])
        base = mechanism(data["formula"], frame, made)
    except (JaxhlmError, ValueError) as error:
        source.fail(("truth",), str(error))
    for along in ("units", "measurements"):
        if along in design:
            try:
                base = varied(base, along, design[along])
            except JaxhlmError as error:
                source.fail(("design", along), str(error))
    return base


def _conditions(
    source: _Source, table: Mapping[str, Any] | None, base: Any
) -> Mapping[str, Any] | None:
    """Factors, each of whose values the mechanism has been tried with."""
    if table is None:
        return None
    if not table:
        source.fail(("conditions",), f"the grid is empty; what can be varied: {ALONG}")
    for along, values in table.items():
        where = ("conditions", along)
        source.typed(values, (list,), where)
        if not values:
            source.fail(where, "no values: give one or more")
        try:
            check_along(along)
            for value in values:
                source.typed(value, NUMBER, where)
                varied(base, along, value)
        except StudyFileError:
            raise
        except JaxhlmError as error:
            source.fail(where, str(error))
    try:
        read_conditions(table, Varied(base))
    except JaxhlmError as error:
        source.fail(("conditions",), str(error))
    return table


def _method(source: _Source, table: Any, number: int) -> Method:
    where = ("methods", number)
    source.typed(table, (dict,), where)
    source.check(table, METHOD, where)
    source.required(table, ("name",), where)
    try:
        return Method(**table)
    except JaxhlmError as error:
        named = [key for key in table if str(error).startswith(f"{key}=")]
        source.fail((*where, *named[:1]), str(error))


def line_of(text: str, where: Where) -> int:
    """The line of a key in a TOML text, or of the innermost table or key around it that is found.

    >>> line_of('n = 1\\n[[methods]]\\nname = "a"\\n[[methods]]\\ndf = "b"', ("methods", 1, "df"))
    5
    """
    best, depth, table = 1, 0, Where()
    seen: dict[Where, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.fullmatch(line):
            table = _parts(header[2])
            if header[1] == "[[":
                seen[table] = seen.get(table, -1) + 1
                table = (*table, seen[table])
            found = table
        elif key := _KEY.match(line):
            found = (*table, *_parts(key[1]))
        else:
            continue
        if len(found) > depth and where[: len(found)] == found:
            best, depth = number, len(found)
    return best


def _parts(dotted: str) -> Where:
    return tuple(part.strip("\"'") for part in re.findall(_WORD, dotted))
