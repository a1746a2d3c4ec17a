"""Mutants of the formulas: ``python -m bench.mutants --sample 100``.

In a copy of the package one sign or one factor of one formula is changed at a time (+ ↔ −, × ↔ ÷, a
constant doubled, a unary minus left out), and the tests of that module must fail. A mutant that
they let pass is a survivor: a gap in the tests, or a change that changes nothing.
"""

import argparse
import ast
import csv
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import machine

ROOT = Path(__file__).parent.parent
LIMIT = 600  # seconds; a test run that takes longer counts as failed, as CI would
OPERATORS = {ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*")}

# The tests that hold the formulas of a module, those that fail soonest first.
TESTS = {
    "suffstats": ("suffstats", "deviance"),
    "deviance": ("deviance", "minimise"),
    "covariance": ("covariance", "derivatives", "lme4"),
    "estimates": ("results", "lme4", "standardise"),
    "engine/derivatives": ("derivatives", "profiles"),
    "inference/criteria": ("results", "compared"),
    "inference/degrees": ("degrees",),
    "inference/dropped": ("influence", "compared"),
    "inference/explained": ("compared", "batch_units"),
    "inference/held": ("profiles",),
    "inference/henderson": ("prediction", "influence", "batch_units"),
    "inference/holding": ("profiles",),
    "inference/hypotheses": ("hypotheses", "degrees"),
    "inference/influence": ("influence",),
    "inference/information": ("degrees",),
    "inference/leaveout": ("influence",),
    "inference/leverage": ("influence", "compared"),
    "inference/lmlist": ("results", "prediction"),
    "inference/mixtures": ("compared",),
    "inference/nesting": ("compared",),
    "inference/parameters": ("profiles",),
    "inference/profiles": ("profiles",),
    "inference/random_terms": ("compared",),
    "inference/refgrid": ("emmeans",),
    "inference/robust": ("robust",),
    "inference/roots": ("profiles",),
    "inference/tails": ("degrees", "emmeans"),
}


@dataclass(frozen=True)
class Mutant:
    """One change of one line."""

    module: str
    line: int
    was: str
    now: str
    start: int
    end: int


def mutants(module: str) -> Iterator[Mutant]:
    """Every change of a sign or a factor in a module's functions."""
    text = source(module)
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line.encode()))
    raw = text.encode()

    def offset(line: int, column: int) -> int:
        return starts[line - 1] + column

    def change(node: ast.expr, start: int, end: int, now: str) -> Mutant:
        return Mutant(module, node.lineno, raw[start:end].decode(), now, start, end)

    for node in formulas(ast.parse(text)):
        first = offset(node.lineno, node.col_offset)
        if isinstance(node, ast.BinOp):
            sign, other = OPERATORS[type(node.op)]
            after = offset(node.left.end_lineno or 0, node.left.end_col_offset or 0)
            before = offset(node.right.lineno, node.right.col_offset)
            at = after + raw[after:before].index(sign.encode())
            yield change(node, at, at + 1, other)
        elif isinstance(node, ast.UnaryOp):
            yield change(node, first, first + 1, "")
        elif isinstance(node, ast.Constant):
            end = offset(node.end_lineno or 0, node.end_col_offset or 0)
            yield change(node, first, end, repr(2.0 * float(node.value) or 1.0))


def formulas(tree: ast.Module) -> Iterator[ast.expr]:
    """Arithmetic on values: no annotations, no indices, no texts."""
    skipped: set[int] = set()
    for node in ast.walk(tree):
        inner = [node.slice] if isinstance(node, ast.Subscript) else []
        if isinstance(node, ast.FunctionDef):
            arguments = [*node.args.args, *node.args.kwonlyargs]
            inner = [a.annotation for a in arguments if a.annotation]
            inner += [node.returns] if node.returns else []
        skipped |= {id(child) for part in inner for child in ast.walk(part)}
        if id(node) in skipped:
            continue
        arithmetic = isinstance(node, ast.BinOp) and type(node.op) in OPERATORS
        number = isinstance(node, ast.Constant) and type(node.value) is float
        minus = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and not _whole(node)
        texts = isinstance(node, ast.BinOp) and isinstance(node.left, ast.JoinedStr)
        if isinstance(node, ast.expr) and (arithmetic or number or minus) and not texts:
            yield node


def _whole(node: ast.UnaryOp) -> bool:
    """Whether it is an axis or a position, such as −1."""
    return isinstance(node.operand, ast.Constant) and isinstance(node.operand.value, int)


def source(module: str) -> str:
    """The text of a module of the package."""
    return (ROOT / "jaxhlm" / f"{module}.py").read_text(encoding="utf-8")


def survives(mutant: Mutant, copy: Path) -> bool:
    """Whether the tests of its module pass with the mutant in a copy of the package."""
    target = copy / "jaxhlm" / f"{mutant.module}.py"
    raw = source(mutant.module).encode()
    target.write_bytes(raw[: mutant.start] + mutant.now.encode() + raw[mutant.end :])
    tests = [f"tests/test_{name}.py" for name in TESTS[mutant.module]]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            [*command, str(target.relative_to(copy)), *tests],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": f"{copy}{os.pathsep}{copy / 'tests'}"},
            capture_output=True,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    finally:
        target.write_bytes(raw)
    return done.returncode == 0


def main() -> int:
    """Try the mutants that were asked for; the exit status is 1 if one survived."""
    parser = argparse.ArgumentParser(prog="python -m bench.mutants", description=__doc__)
    parser.add_argument("--only", help="modules, such as deviance,inference/degrees")
    parser.add_argument("--sample", type=int, help="so many of all, at random")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=machine.RESULTS, help="folder for the CSV file")
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else list(TESTS)
    found = [m for module in chosen for m in mutants(module)]
    if options.sample and options.sample < len(found):
        found = random.Random(options.seed).sample(found, options.sample)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "copy")
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", "__pycache__"))
        for i, mutant in enumerate(found):
            row = asdict(mutant) | {"survived": survives(mutant, copy)}
            rows.append({k: row[k] for k in ("module", "line", "was", "now", "survived")})
            word = "SURVIVED" if row["survived"] else "killed"
            print(
                f"{i + 1}/{len(found)} {word} {mutant.module}:{mutant.line} "
                f"{mutant.was!r} -> {mutant.now!r}",
                flush=True,
            )
    survivors = sum(row["survived"] for row in rows)
    print(f"{len(rows)} mutants, {survivors} survived")
    path = machine.results_path(options.out, machine.describe(), "mutants")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["module", "line", "was", "now", "survived"])
        writer.writeheader()
        writer.writerows(rows)
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main())
