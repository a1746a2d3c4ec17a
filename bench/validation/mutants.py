"""Mutants of the formulas: ``python -m bench.validation.mutants --sample 100``.

One formula is changed at a time, and some test must fail. The changes: a sign or a factor (+ ↔ −,
× ↔ ÷, a constant doubled, a unary minus left out), and what goes wrong when a formula is written
down (a square, a root, a transpose or the second term of a sum left out, ML in place of REML). A
mutant that all tests let pass is a survivor: a gap in the tests, or a change that changes nothing.
Those are explained in ``mutants_explained.csv``; the exit status is 1 if another one survived.

Tests are recorded first: how long each takes and which lines it reaches. A mutant then meets those
that reach its line, the quickest first, after those that have killed its neighbours. What passes
them meets all tests of its module's files, since a test that uses what an earlier one has compiled
or fitted reaches a line unrecorded. ``bench/validation/warm.py`` says how that is made cheap.
"""

import argparse
import ast
import csv
import importlib
import os
import pickle
import random
import signal
import sys
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import pytest

from bench import machine
from bench.validation import warm

ROOT = Path(__file__).parents[2]
EXPLAINED = Path(__file__).with_name("mutants_explained.csv")
OPERATORS = {ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*")}
COLUMNS = ("module", "line", "was", "now", "fate", "why")
# Compiled code of the unchanged formulas is compiled once; a change has another key.
KEPT = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}

# The tests that hold the formulas of a module.
TESTS: dict[str, tuple[str, ...]] = {
    "likelihood/suffstats": ("suffstats", "deviance"),
    "likelihood/deviance": ("deviance", "minimise", "derivatives"),
    "likelihood/covariance": ("covariance", "derivatives", "lme4", "results"),
    "estimation/estimates": ("results", "lme4", "standardise", "wide", "influence"),
    "linalg/factors": ("factors", "hypotheses", "groupstats", "estimable"),
    "likelihood/derivatives": ("derivatives", "profiles"),
    "likelihood/dense": ("wide", "derivatives"),
    "optimise/boundary": ("minima", "optimise"),
    "optimise/scan": ("minima",),
    "likelihood/whitened": ("wide", "degrees", "robust"),
    "inference/criteria": ("results", "compared"),
    "inference/contrast_tests": ("degrees",),
    "inference/reduced_models": ("influence", "compared"),
    "inference/variance_explained": ("compared", "batch_units"),
    "inference/profile_deviance": ("likelihood_limits", "profiles"),
    "inference/henderson": ("prediction", "influence", "batch_units", "lme4"),
    "inference/profile_coordinates": ("profiles",),
    "estimation/hypotheses": ("hypotheses", "degrees"),
    "inference/influence": ("influence",),
    "inference/information": ("degrees",),
    "inference/kenward_roger": ("degrees",),
    "inference/satterthwaite": ("degrees",),
    "inference/leaveout": ("influence",),
    "inference/leverage": ("influence", "compared", "batch_units"),
    "inference/lmlist": ("results", "prediction"),
    "inference/mixtures": ("compared",),
    "inference/nesting": ("compared",),
    "inference/parameters": ("profiles",),
    "inference/profiles": ("profiles",),
    "inference/refgrid": ("emmeans",),
    "inference/robust": ("robust",),
    "inference/likelihood_limits": ("likelihood_limits", "profiles"),
    "inference/tails": ("degrees", "emmeans"),
    "statistics/groupstats": ("groupstats",),
    "design/identified": ("identified",),
}


@dataclass(frozen=True)
class Mutant:
    """One change of one line."""

    module: str
    line: int
    start: int
    end: int
    now: str

    @property
    def text(self) -> str:
        """The changed module; no line moves."""
        raw = source(self.module).encode()
        lost = raw[self.start : self.end].count(b"\n")
        return (raw[: self.start] + self.now.encode() + b"\n" * lost + raw[self.end :]).decode()

    @property
    def names(self) -> tuple[str, str, str]:
        """Its module, its line as it was and as it is."""
        line = self.line - 1
        was, now = (t.splitlines()[line].strip() for t in (source(self.module), self.text))
        return self.module, was, now

    def row(self, killer: str | None, why: str) -> dict[str, str]:
        """A row of the results; ``why`` it is no mutant, if that is known."""
        fate = "killed" if killer else "explained" if why else "survived"
        module, was, now = self.names
        values = (module, str(self.line), was, now, fate, "" if killer else why)
        return dict(zip(COLUMNS, values, strict=True))


def mutants(module: str) -> Iterator[Mutant]:
    """Every change of a module's formulas."""
    text = source(module)
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line.encode()))
    raw = text.encode()

    def offset(line: int | None, column: int | None) -> int:
        return starts[(line or 0) - 1] + (column or 0)

    for node in formulas(ast.parse(text)):
        first = offset(node.lineno, node.col_offset)
        last = offset(node.end_lineno, node.end_col_offset)

        def change(start: int, end: int, now: str) -> Mutant:
            return Mutant(module, raw[:start].count(b"\n") + 1, start, end, now)

        match node:
            case ast.BinOp():
                after = offset(node.left.end_lineno, node.left.end_col_offset)
                if isinstance(node.op, ast.Pow):
                    yield change(raw.index(b"**", after), last, "")
                    continue
                sign, other = OPERATORS[type(node.op)]
                at = raw.index(sign.encode(), after)
                yield change(at, at + 1, other)
                if sign in "+-":
                    yield change(at, last, "")
            case ast.UnaryOp():
                yield change(first, first + 1, "")
            case ast.Constant():
                yield change(first, last, repr(2.0 * float(str(node.value)) or 1.0))
            case ast.Attribute():
                value = offset(node.value.end_lineno, node.value.end_col_offset)
                yield change(raw.index(b".", value), last, "")
            case ast.Call(func=ast.Attribute() as f, args=[argument, *_]):
                if f.attr == "sqrt":
                    yield change(first, offset(argument.lineno, argument.col_offset), "(")
                else:
                    value = offset(f.value.end_lineno, f.value.end_col_offset)
                    yield change(raw.index(b".", value), last, "")
            case ast.Name():
                yield change(first, last, f"(not {node.id})")


def formulas(tree: ast.Module) -> Iterator[ast.AST]:
    """What may be changed: arithmetic on values, no annotations, no indices, no texts."""
    skipped: set[int] = set()
    for node in ast.walk(tree):
        inner: list[ast.AST] = [node.slice] if isinstance(node, ast.Subscript) else []
        if isinstance(node, ast.FunctionDef):
            arguments = [*node.args.args, *node.args.kwonlyargs]
            inner += [a.annotation for a in arguments if a.annotation]
            inner += [*node.args.defaults, *filter(None, node.args.kw_defaults)]
            inner += [node.returns] if node.returns else []
        skipped |= {id(child) for part in inner for child in ast.walk(part)}
        if id(node) not in skipped and _formula(node):
            yield node.test if isinstance(node, ast.If | ast.IfExp) else node


def _formula(node: ast.AST) -> bool:
    match node:
        case ast.BinOp(left=ast.JoinedStr()):
            return False
        case ast.BinOp(op=ast.Pow()):
            return isinstance(node.right, ast.Constant)
        case ast.BinOp():
            return type(node.op) in OPERATORS
        case ast.UnaryOp(op=ast.USub()):
            # −1 is an axis or a position.
            return not (isinstance(node.operand, ast.Constant) and type(node.operand.value) is int)
        case ast.Constant():
            return type(node.value) is float
        case ast.Attribute():
            return node.attr in ("T", "mT")
        case ast.Call(func=ast.Attribute()):
            return node.func.attr in ("sqrt", "swapaxes") and bool(node.args)
        case ast.If() | ast.IfExp():
            return isinstance(node.test, ast.Name) and node.test.id == "reml"
    return False


def source(module: str) -> str:
    """The text of a module of the package."""
    return file_of(module).read_text(encoding="utf-8")


def file_of(module: str) -> Path:
    """The file of a module of the package."""
    return ROOT / "jaxhlm" / f"{module}.py"


def tests_of(module: str) -> list[str]:
    """The files of tests that hold the formulas of a module, as pytest names them."""
    named = {path.stem: path for path in (ROOT / "tests").glob("*/test_*.py")}
    return [named[f"test_{name}"].relative_to(ROOT).as_posix() for name in TESTS[module]]


@dataclass
class Campaign:
    """Mutants and the tests that they meet."""

    mutants: list[Mutant]
    record: Path | None
    seconds: float
    reached: dict[str, warm.Reached] = field(default_factory=dict)
    killers: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    rows: list[dict[str, str]] = field(default_factory=list)

    def work(self, tests: warm.Warm) -> None:
        """Record the tests and try the mutants."""
        for module in {m.module for m in self.mutants}:
            importlib.import_module("jaxhlm." + module.replace("/", "."))
        self._reach(tests)
        explained = explanations()
        for i, mutant in enumerate(self.mutants):
            killer = self._killer(tests, mutant)
            row = mutant.row(killer, explained.get(mutant.names, ""))
            self.rows.append(row)
            place = f"{i + 1}/{len(self.mutants)} {row['fate']} {mutant.module}:{mutant.line}"
            print(f"{place} {row['now']} ({killer})", flush=True)

    def _reach(self, tests: warm.Warm) -> None:
        """What every test reaches, each file of them in a process of its own."""
        if self.record and self.record.exists():
            self.reached = pickle.loads(self.record.read_bytes())
        files = [str(file_of(m)) for m in TESTS]
        by_file = defaultdict(list)
        for name in tests.items:
            if name not in self.reached:
                by_file[name.split("::")[0]].append(name)
        for names in by_file.values():
            self.reached |= tests.reach(names, files)
            if self.record:
                self.record.write_bytes(pickle.dumps(self.reached))
        wrong = [n for n in tests.items if not self.reached[n].passed]
        for name in wrong:
            print(f"left out, since it fails by itself: {name}")
            del tests.items[name]

    def _killer(self, tests: warm.Warm, mutant: Mutant) -> str | None:
        module = importlib.import_module("jaxhlm." + mutant.module.replace("/", "."))
        functions = warm.functions_of(str(module.__file__))

        def change() -> None:
            warm.become(mutant.text, module, functions)

        known = self.killers[mutant.module]
        for names in self._tests(tests, mutant, known):
            killer = tests.killer(names, change)
            if killer:
                known[:] = [killer, *(k for k in known if k != killer)][:20]
                return killer
        return None

    def _tests(self, tests: warm.Warm, mutant: Mutant, known: list[str]) -> Iterator[list[str]]:
        """Its module's tests that reach the mutant's line, then the others."""
        files = tests_of(mutant.module)
        own = [n for file in files for n in tests.items if n.split("::")[0] == file]
        own += [n for n in tests.items if n.split("::")[0] == f"jaxhlm/{mutant.module}.py"]
        place = (str(file_of(mutant.module)), mutant.line)
        touching = [n for n in own if place in self.reached[n].lines]
        for some in (touching, [n for n in own if n not in touching]):
            first = [n for n in known if n in some][:3]
            yield self._within(first + sorted((n for n in some if n not in first), key=self._cost))

    def _within(self, names: list[str]) -> list[str]:
        """The first of these tests that take no longer than was allowed, and one at least."""
        spent = list(accumulate(self._cost(n) for n in names))
        return names[: 1 + bisect_right(spent, self.seconds)]

    def _cost(self, name: str) -> float:
        return self.reached[name].seconds


def explanations() -> dict[tuple[str, str, str], str]:
    """Why a mutant is none, by module, line as it was and line as it is."""
    rows = read(EXPLAINED) if EXPLAINED.exists() else []
    return {(r["module"], r["was"], r["now"]): r["why"] for r in rows}


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def main() -> int:
    """Try the mutants that were asked for; the exit status is 1 if one survived unexplained."""
    parser = argparse.ArgumentParser(prog="python -m bench.validation.mutants", description=__doc__)
    parser.add_argument("--only", help="modules, such as deviance,inference/satterthwaite")
    parser.add_argument("--again", type=Path, help="results to add to: what is open there")
    parser.add_argument("--lines", help="of the one module, such as 20,31")
    parser.add_argument("--sample", type=int, help="so many of all, at random")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="of tests for each")
    parser.add_argument("--record", type=Path, help="file that keeps what tests reach")
    parser.add_argument("--out", type=Path, default=machine.RESULTS, help="folder for the CSV file")
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else list(TESTS)
    found = [m for module in chosen for m in mutants(module)]
    before = read(options.again) if options.again else []
    explained = explanations()
    done = settled(before, explained)
    # First what nobody knows anything about.
    found = sorted((m for m in found if m.names not in done), key=lambda m: m.names in explained)
    if options.lines:
        found = [m for m in found if str(m.line) in options.lines.split(",")]
    if options.sample and options.sample < len(found):
        found = random.Random(options.seed).sample(found, options.sample)
    campaign = Campaign(found, options.record, options.seconds)
    os.environ.update({k: os.environ.get(k, v) for k, v in KEPT.items()})
    os.chdir(ROOT)
    # Whoever ends a campaign early keeps what it has found.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    files = dict.fromkeys(file for module in chosen for file in tests_of(module))
    doctests = [str(file_of(module).relative_to(ROOT)) for module in chosen]
    command = ["-q", "-p", "no:cacheprovider", *doctests, *files]
    pytest.main(command, plugins=[warm.Warm(campaign.work)])
    return report(added(before, campaign.rows), options.out)


def settled(rows: list[dict[str, str]], explained: Container[object]) -> set[tuple[str, str, str]]:
    """Module, line as it was and as it is of mutants that were killed or are explained."""
    through = {_names(r) for r in rows if r["fate"] != "killed"}
    return {n for n in map(_names, rows) if n not in through or n in explained}


def added(before: list[dict[str, str]], rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Rows of results and, of those before them, all that were not tried anew and still are.

    What has been explained since it survived is no survivor.
    """
    there = {m.names for module in TESTS for m in mutants(module)}
    explained, tried = explanations(), {_names(r) for r in rows}
    for names in explained.keys() - there:
        print("explains no mutant:", *names)
    kept = [r for r in before if _names(r) in there - tried]
    for row in kept:
        if row["fate"] == "survived" and _names(row) in explained:
            row.update(fate="explained", why=explained[_names(row)])
    return kept + rows


def _names(row: dict[str, str]) -> tuple[str, str, str]:
    return row["module"], row["was"], row["now"]


def report(rows: list[dict[str, str]], out: Path) -> int:
    """Save the rows, and count."""
    count = Counter(row["fate"] for row in rows)
    print(f"{len(rows)} mutants: " + ", ".join(f"{n} {fate}" for fate, n in count.items()))
    path = machine.results_path(out, machine.describe(), "mutants")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return int(count["survived"] > 0)


if __name__ == "__main__":
    sys.exit(main())
